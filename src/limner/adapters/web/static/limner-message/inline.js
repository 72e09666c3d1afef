/** What stands within a line of Markdown: emphasis, code, links, images. */

import { imageAddress, linkAddress } from "./addresses.js";
import { decodeEntities, matchAt } from "./characters.js";
import { make } from "./dom.js";
import { destinationAt, imageAt } from "./images.js";
import { MARK, MARK_CHARACTERS, MARK_OPEN } from "./tags.js";

const DEEPEST_EMPHASIS = 16;

const SPECIAL = /[\\`*_[\]!<\n\uFDD0&]|https?:\/\/(?=[^\s<>])/g;
const BARE_ADDRESS = /https?:\/\/[^\s<>"\uFDD0\uFDD1`]+/y;
const POINTED_ADDRESS = /<((?:https?:\/\/|mailto:)[^\s<>\uFDD0\uFDD1]{1,2000})>/iy;
const PUNCTUATION = /[\p{P}\p{S}]/u;

/** Reads inline Markdown once from left to right, in the order of precedence of CommonMark. */
export class Inline {
  #fragment = document.createDocumentFragment();
  #brackets = [];
  #delimiters = [];
  #runs = null;

  constructor(text, hooks) {
    this.text = text.replace(/[ \t]+$/, "");
    this.hooks = hooks;
    this.pos = 0;
  }

  read() {
    const text = this.text;
    while (this.pos < text.length) {
      SPECIAL.lastIndex = this.pos;
      const found = SPECIAL.exec(text);
      const end = found === null ? text.length : found.index;
      if (end > this.pos) this.#fragment.append(text.slice(this.pos, end));
      this.pos = end;
      if (found !== null) this.#special(found[0]);
    }
    this.#emphasise(0);
    this.#fragment.normalize();
    return this.#fragment;
  }

  #special(first) {
    const text = this.text;
    switch (first) {
      case "\\":
        if (text[this.pos + 1] === "\n") return this.#take(make("br"), 2);
        if (/[!-/:-@[-`{-~]/.test(text[this.pos + 1] ?? "")) return this.#take(text[this.pos + 1], 2);
        return this.#take("\\", 1);
      case "\n": {
        const last = this.#fragment.lastChild;
        if (last?.nodeType === Node.TEXT_NODE) last.data = last.data.trimEnd();
        return this.#take(make("br"), matchAt(/\n[ \t]*/y, text, this.pos).length);
      }
      case "`":
        return this.#code();
      case "&": {
        const entity = matchAt(/&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp);/y, text, this.pos);
        return entity ? this.#take(decodeEntities(entity), entity.length) : this.#take("&", 1);
      }
      case "*":
      case "_":
        return this.#delimiter(first);
      case "[":
        this.#brackets.push({ node: this.#mark("["), delimiters: this.#delimiters.length, active: true });
        this.pos++;
        return undefined;
      case "]":
        return this.#link();
      case "!":
        return this.#image() || this.#take("!", 1);
      case "<":
        return this.#image() || this.#pointed() || this.#take("<", 1);
      case MARK_OPEN:
        return this.#slot();
      default:
        return this.#bare();
    }
  }

  #take(content, length) {
    this.#fragment.append(content);
    this.pos += length;
    return true;
  }

  /** A text node of its own, that may turn out to be syntax. */
  #mark(text) {
    const node = document.createTextNode(text);
    this.#fragment.append(node);
    return node;
  }

  #slot() {
    const mark = matchAt(/\uFDD0(\d+)\uFDD1/y, this.text, this.pos);
    const element = this.hooks.slot(Number(mark.slice(1, -1)));
    return this.#take(element ?? "", mark.length);
  }

  #image() {
    const image = imageAt(this.text, this.pos);
    const element = image && imageAddress(image.src) !== null ? this.hooks.image(image) : null;
    return element === null ? false : this.#take(element, image.end - this.pos);
  }

  #code() {
    if (this.#runs === null) {
      this.#runs = new Map();
      for (const run of this.text.matchAll(/`+/g)) {
        if (!this.#runs.has(run[0].length)) this.#runs.set(run[0].length, []);
        this.#runs.get(run[0].length).push(run.index);
      }
    }
    const ticks = matchAt(/`+/y, this.text, this.pos);
    const start = this.pos + ticks.length;
    const positions = this.#runs.get(ticks.length) ?? [];
    while (positions.length && positions[0] < start) positions.shift();
    if (positions.length === 0) return this.#take(ticks, ticks.length);
    const source = this.text.slice(start, positions[0]);
    let content = source.replace(MARK, "").replaceAll("\n", " ");
    if (/^ .*[^ ].* $|^ [^ ] $/.test(content)) content = content.slice(1, -1);
    this.#take(make("code", { part: "inline-code" }, content), positions[0] + ticks.length - this.pos);
    for (const mark of source.matchAll(MARK)) this.#fragment.append(this.hooks.slot(Number(mark[1])) ?? "");
    return true;
  }

  #anchor(address, ...content) {
    const href = linkAddress(address);
    if (href === null) return null;
    const outside = new URL(href).origin !== location.origin;
    const anchor = make("a", { href, part: "link" }, ...content);
    if (outside) Object.assign(anchor, { target: "_blank", rel: "noopener noreferrer nofollow" });
    return anchor;
  }

  #pointed() {
    const whole = matchAt(POINTED_ADDRESS, this.text, this.pos);
    if (whole === null) return false;
    const address = whole.slice(1, -1);
    const anchor = this.#anchor(address, address.replace(/^mailto:/i, ""));
    return anchor === null ? false : this.#take(anchor, whole.length);
  }

  #bare() {
    let address = matchAt(BARE_ADDRESS, this.text, this.pos);
    // Punctuation at the end belongs to the sentence, and a bracket to what opened before the address.
    address = address.replace(/[.,:;!?'*_~\]]+$/, "");
    if (address.endsWith(")") && !address.includes("(")) address = address.replace(/\)[.,:;!?'*_]*$/, "");
    const anchor = /\w/.test(this.text[this.pos - 1] ?? "") ? null : this.#anchor(address, address);
    return this.#take(anchor ?? address, address.length);
  }

  #delimiter(char) {
    const run = matchAt(char === "*" ? /\*+/y : /_+/y, this.text, this.pos);
    const before = [...this.text.slice(Math.max(0, this.pos - 2), this.pos)].at(-1) ?? " ";
    const after = String.fromCodePoint(this.text.codePointAt(this.pos + run.length) ?? 32);
    const blank = (c) => /[\s\uFDD0\uFDD1]/.test(c);
    const left = !blank(after) && (!PUNCTUATION.test(after) || blank(before) || PUNCTUATION.test(before));
    const right = !blank(before) && (!PUNCTUATION.test(before) || blank(after) || PUNCTUATION.test(after));
    const intraword = char === "_" && left && right;
    this.#delimiters.push({
      char,
      node: this.#mark(run),
      length: run.length,
      opens: left && (!intraword || PUNCTUATION.test(before)),
      closes: right && (!intraword || PUNCTUATION.test(after)),
      original: run.length,
    });
    this.pos += run.length;
  }

  #link() {
    const opener = this.#brackets.pop();
    if (opener === undefined) return this.#take("]", 1);
    const destination = opener.active ? destinationAt(this.text, this.pos + 1) : null;
    const anchor = !destination ? null : this.#anchor(destination.address.replace(MARK_CHARACTERS, ""));
    if (anchor === null) return this.#take("]", 1);
    this.#emphasise(opener.delimiters);
    while (opener.node.nextSibling) anchor.append(opener.node.nextSibling);
    for (const inner of anchor.querySelectorAll("a")) inner.replaceWith(...inner.childNodes);
    if (!anchor.hasChildNodes()) anchor.append(destination.address);
    opener.node.replaceWith(anchor);
    for (const bracket of this.#brackets) bracket.active = false; // a link holds no other
    this.pos = destination.end;
    return true;
  }

  /** Pair the delimiters from `bottom` on, as in the appendix of CommonMark, and drop them. */
  #emphasise(bottom) {
    const delimiters = this.#delimiters.splice(bottom);
    const lowest = new Map(); // below these no opener for a closer of this kind is left
    for (let index = 0; index < delimiters.length; index++) {
      const closer = delimiters[index];
      while (closer.closes && closer.length > 0) {
        const kind = `${closer.char}${closer.opens}${closer.original % 3}`;
        const floor = lowest.get(kind) ?? 0;
        let at = index - 1;
        while (at >= floor && !pairs(delimiters[at], closer)) at--;
        if (at < floor) {
          lowest.set(kind, index);
          break;
        }
        const opener = delimiters[at];
        const strong = opener.length >= 2 && closer.length >= 2;
        if (!wrap(opener.node, closer.node, strong ? "strong" : "em")) {
          lowest.set(kind, index); // further out it would be deeper still
          break;
        }
        for (let between = at + 1; between < index; between++) delimiters[between].length = 0;
        for (const delimiter of [opener, closer]) {
          delimiter.length -= strong ? 2 : 1;
          delimiter.node.data = delimiter.char.repeat(delimiter.length);
        }
      }
    }
  }
}

function pairs(opener, closer) {
  if (!opener.opens || opener.length === 0 || opener.char !== closer.char) return false;
  // "foo**bar*baz": a run that both opens and closes must not be torn apart.
  const both = opener.closes || closer.opens;
  return !both || (opener.original + closer.original) % 3 !== 0 || (opener.original % 3 === 0 && closer.original % 3 === 0);
}

const depths = new WeakMap();

/** Put what stands between two text nodes into an element, unless it would be nested too deep to lay out. */
function wrap(from, to, name) {
  let depth = 1;
  for (let node = from.nextSibling; node !== to; node = node.nextSibling) depth = Math.max(depth, 1 + (depths.get(node) ?? 0));
  if (depth > DEEPEST_EMPHASIS) return false;
  const element = document.createElement(name);
  while (from.nextSibling !== to) element.append(from.nextSibling);
  from.after(element);
  depths.set(element, depth);
  return true;
}
