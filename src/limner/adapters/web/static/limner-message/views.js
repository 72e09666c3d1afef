/**
 * What the figures and the panel are to show, decided from what is known. Nothing here touches the page.
 *
 * All functions get `now`, how everything stands at this moment:
 *
 *     work        the message's `Work`
 *     notes       by place: what became of a click that was refused
 *     canAct      whether the reader may change the message
 *     replaces    whether a new image stands in the place of the old one
 *     growing     whether the text still comes; `hasText`: whether any has come, be it empty
 *     places      the places that the text shows
 *     base        the address of the app
 *     note        a line for the panel, or ""
 *     cancelling  whether that was asked for and is not answered yet
 *     lingering   whether the panel stays for a moment although all is done
 *     regenerate, retry, cancel   what buttons do
 */

import { imageAddress } from "./addresses.js";
import { NOTHING } from "./figure.js";
import { asSentence, words } from "./words.js";

/** A tag without an image. */
export function tagView(now, prompt, place) {
  const work = now.work.at(place);
  const view = { ...NOTHING, state: "working", prompt };
  if (work === null || work.state === "cancelled") {
    const expected = work === null && (now.work.isStreaming || (now.growing && !now.work.result));
    return { ...view, state: expected ? "working" : "hidden", status: words.queued };
  }
  if (work.state === "completed") {
    return { ...view, state: "image", picture: imageAddress(work.image_url), status: now.work.isLive ? words.completed : "" };
  }
  if (work.state === "failed") {
    const retry = now.canAct ? () => now.retry(work.prompt_id) : null;
    const problem = now.notes.get(place) || asSentence(work.problem?.message) || words.imageFailed;
    return { ...view, state: "failed", problem, retry, retryLater: now.work.isStreaming ? words.retryLater : "" };
  }
  return { ...view, ...workView(now, work) };
}

/** An image that stands in the text. */
export function imageView(now, src, prompt, place, canBeRemade) {
  const work = now.work.at(place);
  const act = canBeRemade && now.canAct ? () => now.regenerate(src) : null;
  const busy = now.work.isStreaming ? words.redoLater : "";
  const note = now.notes.get(place) ?? "";
  const view = { ...NOTHING, state: "image", picture: imageAddress(src), prompt, problem: note, act, busy };
  if (work === null || work.state === "cancelled") return view;
  if (work.state === "completed") {
    const picture = now.replaces ? imageAddress(work.image_url) ?? view.picture : view.picture;
    return { ...view, picture, busy: words.redoBusy, status: now.work.isLive ? words.completed : "" };
  }
  if (work.state === "failed") {
    const problem = note || `${words.redoFailed} ${asSentence(work.problem?.message)}`.trim();
    return { ...view, problem, retry: act, retryLater: busy };
  }
  return { ...view, ...workView(now, work), state: "working", busy: words.redoBusy };
}

function workView(now, work) {
  const percent = work.fraction === null || work.fraction === undefined ? "" : ` ${words.percent(Math.round(work.fraction * 100))}`;
  const status = {
    asked: words.asked,
    queued: words.queued,
    generating: words.generatingOne + percent,
    waiting: words.waiting,
  }[work.state];
  const running = work.state === "generating";
  return { status, running, fraction: running ? work.fraction : null, preview: previewOf(now, work) };
}

function previewOf(now, work) {
  return work.preview ? new URL(work.preview, now.base).href : null;
}

/** What the panel shows; null where there is nothing to say. */
export function panelView(now) {
  const work = now.work;
  // One that was given up has nothing to show, and never will.
  const shown = [...work.prompts.values()].filter((prompt) => prompt.state !== "cancelled");
  const prompts = shown.map((prompt) => ({
    ...prompt,
    picture: previewOf(now, prompt) ?? (prompt.image_url ? imageAddress(prompt.image_url) : null),
  }));
  const lost = [...work.failures.values()]
    .filter((prompt) => now.hasText && !now.growing && !now.places.has(prompt.place))
    .map((prompt) => ({
      prompt: prompt.prompt,
      problem: asSentence(prompt.problem?.message) || words.imageFailed,
      retry: now.canAct && !work.isStreaming ? () => now.retry(prompt.prompt_id) : null,
    }));
  const base = { failed: "", fraction: null, prompts: [], cancel: null, cancelling: false, note: now.note, lost };
  if (work.isLive && (work.counts?.total ?? 0) > 0) {
    const { total, completed, failed } = work.counts;
    const label = work.kind === "regeneration" ? words.regenerating(completed, total) : words.generating(completed, total);
    const inserting = work.state === "inserting";
    return {
      ...base,
      label: inserting ? words.inserting : label,
      failed: failed > 0 ? words.failedCount(failed) : "",
      fraction: fractionOf(work),
      prompts,
      cancel: now.canAct && !inserting ? now.cancel : null,
      cancelling: now.cancelling,
    };
  }
  const troubled = work.result !== null && (work.state === "failed" || lost.length > 0);
  if (!now.lingering && !troubled) return lost.length ? { ...base, label: "" } : null;
  const label = now.note && work.state !== "done" ? now.note : summary(work);
  return { ...base, note: label === now.note ? "" : now.note, label, prompts: now.lingering ? prompts : [] };
}

function fractionOf({ prompts, counts }) {
  let done = counts.completed + counts.failed + counts.cancelled;
  for (const prompt of prompts.values()) if (prompt.state === "generating") done += prompt.fraction ?? 0;
  return Math.min(1, done / counts.total);
}

/** How the session came out, for eyes and ears. */
export function summary(work) {
  if (work.result === null) return "";
  if (work.state === "cancelled") return words.cancelled;
  if (work.state === "failed") return asSentence(work.result.problem?.message) || words.sessionFailed;
  const ready = work.result.placed.length;
  const failed = work.stillFailed;
  if (failed === 0) return ready ? words.allReady(ready) : "";
  return ready ? words.someReady(ready, failed) : words.noneReady(failed);
}

/** What has to be said of an ended session beyond that, or "". */
export function lastWords(work) {
  const unplaced = work.unplaced.length;
  return unplaced ? `${summary(work)} ${words.notPlaced(unplaced)}`.trim() : "";
}
