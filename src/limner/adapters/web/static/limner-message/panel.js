/** The progress of all images of a message. */

import { icon, make, setText } from "./dom.js";
import { words } from "./words.js";

const MOST_THUMBNAILS = 12;

export class Panel {
  element = make("section", { part: "progress", className: "panel", hidden: true, ariaLabel: words.panel });
  #thumbnails = make("div", { part: "thumbnails", className: "thumbnails", ariaHidden: "true" });
  #label = make("span", { part: "progress-label", className: "label" });
  #failed = make("span", { part: "progress-failed", className: "failed", hidden: true });
  #meter = make("span", { part: "bar", className: "bar", role: "progressbar" }, make("span"));
  #cancel = make("button", { part: "button cancel", className: "button", type: "button" }, words.cancel);
  #note = make("p", { part: "progress-note", className: "note", hidden: true });
  #lost = make("ul", { className: "lost", hidden: true });
  #byPrompt = new Map();
  #onCancel = null;

  constructor() {
    this.element.role = "group";
    this.#cancel.addEventListener("click", () => this.#cancel.ariaDisabled !== "true" && this.#onCancel?.());
    this.element.append(
      this.#thumbnails,
      make("div", { className: "line" }, this.#label, this.#failed, this.#cancel),
      this.#meter,
      this.#note,
      this.#lost,
    );
  }

  /** `view`: label, failed (a text), fraction or null, prompts, cancel or null, cancelling, note, lost. */
  show(view) {
    this.element.hidden = view === null;
    if (view === null) return;
    this.#onCancel = view.cancel;
    setText(this.#label, view.label);
    setText(this.#failed, view.failed);
    this.#failed.hidden = !view.failed;
    this.#meter.hidden = view.fraction === null;
    if (view.fraction !== null) {
      this.#meter.firstChild.style.setProperty("--done", view.fraction.toFixed(3));
      this.#meter.setAttribute("aria-valuenow", String(Math.round(view.fraction * 100)));
      this.#meter.setAttribute("aria-valuetext", view.label);
      this.#meter.setAttribute("aria-label", words.panel);
    }
    this.#cancel.hidden = view.cancel === null;
    this.#cancel.ariaDisabled = String(view.cancelling);
    setText(this.#cancel, view.cancelling ? words.cancelling : words.cancel);
    this.#note.hidden = !view.note;
    setText(this.#note, view.note);
    this.#showThumbnails(view.prompts);
    this.#showLost(view.lost);
  }

  #showThumbnails(prompts) {
    let shown = prompts;
    if (shown.length > MOST_THUMBNAILS) {
      // What is going on is more telling than what is done.
      const rank = (prompt) => ["generating", "failed", "waiting", "queued"].indexOf(prompt.state) >>> 0;
      const first = new Set([...shown].sort((a, b) => rank(a) - rank(b)).slice(0, MOST_THUMBNAILS));
      shown = shown.filter((prompt) => first.has(prompt));
    }
    const elements = shown.map((prompt) => this.#thumbnail(prompt));
    const kept = new Set(shown.map((prompt) => prompt.prompt_id));
    for (const id of [...this.#byPrompt.keys()]) if (!kept.has(id)) this.#byPrompt.delete(id);
    if (shown.length < prompts.length) elements.push(make("span", { className: "more" }, `+${prompts.length - shown.length}`));
    const present = [...this.#thumbnails.childNodes];
    if (present.length !== elements.length || present.some((node, index) => node !== elements[index])) {
      this.#thumbnails.replaceChildren(...elements);
    }
  }

  #thumbnail({ prompt_id: id, prompt, state, picture, fraction }) {
    let element = this.#byPrompt.get(id);
    if (element === undefined) {
      element = make("span", { part: "thumbnail", className: "thumbnail", title: prompt });
      element.append(make("img", { alt: "", hidden: true }), make("span", { className: "mark" }));
      this.#byPrompt.set(id, element);
    }
    const [image, mark] = element.children;
    if (element.dataset.state !== state) {
      element.dataset.state = state;
      mark.replaceChildren(...({ failed: [icon("alert")], completed: [icon("check")] }[state] ?? []));
    }
    element.style.setProperty("--done", String(fraction ?? 0));
    image.hidden = picture === null;
    if (picture !== null && image.dataset.address !== picture) {
      image.dataset.address = picture;
      image.src = picture;
    }
    return element;
  }

  /** Failures of prompts that the text shows no place of. */
  #showLost(lost) {
    this.#lost.hidden = lost.length === 0;
    const key = JSON.stringify(lost.map((item) => [item.prompt, item.problem, item.retry !== null]));
    if (this.#lost.dataset.key === key) return;
    this.#lost.dataset.key = key;
    this.#lost.replaceChildren(
      ...lost.map(({ prompt, problem, retry }) => {
        const item = make("li", {}, make("span", { className: "what" }, prompt), make("span", {}, problem));
        if (retry !== null) {
          const button = make("button", { part: "button retry", className: "button", type: "button" }, words.retry);
          button.addEventListener("click", retry);
          item.append(button);
        }
        return item;
      }),
    );
  }
}
