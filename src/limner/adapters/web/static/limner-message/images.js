/** Images as a message spells them: `<img …>` and `![…](…)`, and the addresses of links. */

import { decodeEntities, matchAt, unescapeMarkdown } from "./characters.js";

/** The image that is written at `pos`, as `<img …>` or `![…](…)`; null: none, undefined: it may become one. */
export function imageAt(text, pos) {
  const head = text.slice(pos, pos + 5).toLowerCase();
  if (head[0] !== "<" && head[0] !== "!") return null;
  if (head.length < 5 && ("<img".startsWith(head) || head === "!")) return undefined;
  if (head[0] === "<") return htmlImageAt(text, pos);
  if (head[1] !== "[") return null;
  let depth = 1;
  let at = pos + 2;
  // A description has no blank line in it; whoever writes a longer one than this does not describe.
  for (const stop = Math.min(text.length, at + 2_000); at < stop && depth > 0; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "[") depth++;
    else if (text[at] === "]") depth--;
    else if (text[at] === "\n" && /^[ \t]*\n/.test(text.slice(at + 1, at + 80))) return null;
  }
  if (depth > 0) return at < text.length ? null : undefined;
  const destination = destinationAt(text, at);
  if (!destination) return destination;
  if (!destination.address.trim()) return null;
  return { end: destination.end, src: destination.address, alt: unescapeMarkdown(text.slice(pos + 2, at - 1)) };
}

const IMG_OPENS = /<img(?=[\s/])/iy;
const ATTRIBUTE_NAME = /[^ \t\n\f\r"'<>/=]+/y;
const UNQUOTED_VALUE = /[^ \t\n\f\r"'<>`]+/y;

function htmlImageAt(text, pos) {
  if (matchAt(IMG_OPENS, text, pos) === null) return null;
  const values = new Map();
  const skipSpace = () => {
    while (" \t\n\f\r/".includes(text[at]) && at < text.length) at++;
  };
  let at = pos + 4;
  for (;;) {
    skipSpace();
    if (text[at] === ">") break;
    const name = matchAt(ATTRIBUTE_NAME, text, at);
    if (name === null) return at < text.length ? null : undefined;
    at += name.length;
    let value = "";
    const equals = matchAt(/[ \t\n\f\r]*=[ \t\n\f\r]*/y, text, at);
    if (equals !== null) {
      at += equals.length;
      const quote = text[at];
      if (quote === '"' || quote === "'") {
        const close = text.indexOf(quote, at + 1);
        if (close < 0) return undefined;
        value = text.slice(at + 1, close);
        at = close + 1;
      } else {
        value = matchAt(UNQUOTED_VALUE, text, at) ?? "";
        at += value.length;
      }
    }
    const key = name.toLowerCase();
    if (!values.has(key)) values.set(key, decodeEntities(value));
  }
  const src = values.get("src") ?? "";
  return src.trim() ? { end: at + 1, src, alt: values.get("alt") ?? "" } : null;
}

const DESTINATION_OPENS = /\([ \t]*\n?[ \t]*/y;
const DESTINATION_POINTED = /<([^<>\n\\]|\\.){0,2000}>/y;
const DESTINATION_CLOSES = /(?:[ \t\n]+(?:"(?:[^"\\]|\\[^]){0,1000}"|'(?:[^'\\]|\\[^]){0,1000}'|\((?:[^()\\]|\\[^]){0,1000}\)))?[ \t\n]*\)/y;

/** What stands in the parentheses behind a `]`: the address and where it all ends; null and undefined as above. */
export function destinationAt(text, pos) {
  const opens = matchAt(DESTINATION_OPENS, text, pos);
  if (opens === null) return pos < text.length ? null : undefined;
  const start = pos + opens.length;
  let stop = start;
  let raw = matchAt(DESTINATION_POINTED, text, start);
  if (raw !== null) {
    stop += raw.length;
    raw = raw.slice(1, -1);
  } else {
    if (text[start] === "<") return text.indexOf("\n", start) < 0 ? undefined : null;
    let depth = 0;
    // Not deeper than eight, so that a text of many brackets is not read again for each of them.
    for (; stop < text.length && text.charCodeAt(stop) > 0x20; stop++) {
      if (text[stop] === "\\" && /[!-/:-@[-`{-~]/.test(text[stop + 1] ?? "")) stop++;
      else if (text[stop] === "(" && ++depth > 8) return null;
      else if (text[stop] === ")" && depth-- === 0) break;
    }
    raw = text.slice(start, stop);
  }
  const closes = matchAt(DESTINATION_CLOSES, text, stop);
  if (closes === null) return /^[ \t\n]*(?:["'(][^]{0,1000})?$/.test(text.slice(stop, stop + 1_100)) ? undefined : null;
  return { end: stop + closes.length, address: unescapeMarkdown(raw) };
}
