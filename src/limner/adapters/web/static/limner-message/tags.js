/** Finds the prompt tags in a text that still grows, and takes them out. */

import { imageAddress } from "./addresses.js";
import { imageAt } from "./images.js";

export const DEFAULT_TAGS = [
  { opener: '<!--img-prompt="', closer: '"-->', quoted: true },
  { opener: '<img_prompt="', closer: '">', quoted: true },
];
const REASONING = ["think", "thinking"];
/** What Limner puts behind an image to keep a line a paragraph; never shown. */
const GUARD = "<!--limner-->";
/** An unfinished tag is held back up to this length; what is longer is shown, as it is hardly a tag. */
const LONGEST_HELD_BACK = 4_000;

// What stands for a tag in the text that is rendered: an id between two code points that are no characters
// (Unicode 23.7). They are taken out of messages, so nothing in a message can pass for one.
export const MARK_OPEN = "\uFDD0";
const MARK_CLOSE = "\uFDD1";
export const MARK = /\uFDD0(\d+)\uFDD1/g;
export const MARK_CHARACTERS = /[\uFDD0\uFDD1]/g;

const QUOTE_OR_ESCAPE = /["\\]/g;
const escapeRegex = (text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

/**
 * A message's text, with a mark in the place of each prompt tag and the images behind it.
 *
 * What is found follows the server's rules: tags are exact, what begins first wins, nothing in a reasoning
 * block is a prompt, equal prompts are told apart by their occurrence. Adding to the text costs what was
 * added, whatever its length.
 */
export class Source {
  #tags = [];
  #opener = /(?!)/g;
  #openers = [];
  #text = "";
  #ids = new Map();
  // What no further text can change: how far it was read, what it became, and the equal prompts in it.
  #pos = 0;
  #stable = "";
  #slots = [];
  #seen = new Map();
  #blocks = 0;
  #changedFrom = 0;

  constructor(tags = DEFAULT_TAGS) {
    this.tags = tags;
  }

  get text() {
    return this.#text;
  }

  set text(text) {
    this.#text = text;
    this.#restart();
  }

  get tags() {
    return this.#tags;
  }

  set tags(tags) {
    this.#tags = tags;
    this.#openers = [...tags.map((tag) => tag.opener), GUARD, ...REASONING.map((name) => `<${name}>`)];
    this.#opener = new RegExp(this.#openers.map(escapeRegex).join("|"), "g");
    this.#restart();
  }

  append(text) {
    this.#text += text;
  }

  #restart() {
    this.#pos = 0;
    this.#stable = "";
    this.#slots = [];
    this.#seen = new Map();
    this.#blocks = 0;
    this.#changedFrom = 0;
  }

  /**
   * The marked text and its slots. `changedFrom`: up to there it is as it was at the last call. With
   * `growing` an unfinished tag at the end is held back.
   */
  read(growing) {
    const changedFrom = this.#changedFrom;
    let pos = this.#pos;
    let out = "";
    let slots = [];
    let certain = true;
    let blocks = this.#blocks;
    const tailSeen = new Map();
    const settle = () => {
      if (!certain) return;
      this.#stable += out;
      this.#slots.push(...slots);
      this.#pos = pos;
      this.#blocks = blocks;
      for (const [prompt, count] of tailSeen) this.#seen.set(prompt, (this.#seen.get(prompt) ?? 0) + count);
      tailSeen.clear();
      out = "";
      slots = [];
    };
    const plain = (end) => {
      out += this.#text.slice(pos, end).replace(MARK_CHARACTERS, "\ufffd");
      pos = end;
    };
    while (pos < this.#text.length) {
      this.#opener.lastIndex = pos;
      const found = this.#opener.exec(this.#text);
      if (found === null) {
        const held = this.#partialOpener(pos);
        plain(this.#text.length - held);
        settle();
        certain = false;
        if (growing) pos = this.#text.length;
        else plain(this.#text.length);
        break;
      }
      plain(found.index);
      settle();
      const construct = this.#constructAt(found, (prompt) => {
        const occurrence = (this.#seen.get(prompt) ?? 0) + (tailSeen.get(prompt) ?? 0);
        tailSeen.set(prompt, (tailSeen.get(prompt) ?? 0) + 1);
        return occurrence;
      }, blocks);
      if (construct === null) {
        plain(found.index + found[0].length);
        settle();
        continue;
      }
      if (construct.open || construct.unsettled) certain = false;
      if (construct.open && !construct.slot) {
        if (growing && this.#text.length - found.index <= LONGEST_HELD_BACK) {
          pos = this.#text.length;
          break;
        }
        plain(found.index + found[0].length);
        continue;
      }
      if (construct.slot) {
        if (construct.slot.kind === "thought") blocks++;
        out += `${MARK_OPEN}${construct.slot.id}${MARK_CLOSE}`;
        slots.push(construct.slot);
      }
      pos = construct.begun && growing ? this.#text.length : construct.end;
      settle();
    }
    this.#changedFrom = this.#stable.length;
    return { marked: this.#stable + out, slots: [...this.#slots, ...slots], changedFrom };
  }

  /** How many characters at the end could be the beginning of an opener. */
  #partialOpener(from) {
    const longest = Math.max(...this.#openers.map((opener) => opener.length)) - 1;
    for (let length = Math.min(longest, this.#text.length - from); length > 0; length--) {
      const end = this.#text.slice(-length);
      if (this.#openers.some((opener) => opener.length > length && opener.startsWith(end))) return length;
    }
    return 0;
  }

  #constructAt(found, occurrenceOf, blocks) {
    const opener = found[0];
    const start = found.index + opener.length;
    if (opener === GUARD) return { end: start };
    const tag = this.#tags.find((known) => known.opener === opener);
    if (tag === undefined) {
      const close = this.#text.indexOf(`</${opener.slice(1)}`, start);
      const end = close < 0 ? this.#text.length : close + opener.length + 1;
      const text = this.#text.slice(start, close < 0 ? undefined : close);
      return { end, open: close < 0, slot: { kind: "thought", id: this.#id(`thought ${blocks}`), text, open: close < 0 } };
    }
    const closing = tag.quoted ? this.#quotedEnd(tag, start) : this.#text.indexOf(tag.closer, start);
    if (closing === null) return null;
    if (closing < 0) return { end: this.#text.length, open: true };
    const body = this.#text.slice(start, closing);
    const prompt = (tag.quoted ? body.replaceAll('\\"', '"') : body).trim();
    if (!prompt) return { end: closing + tag.closer.length };
    const behind = this.#imagesBehind(closing + tag.closer.length);
    const occurrence = occurrenceOf(prompt);
    const id = this.#id(`tag ${occurrence} ${prompt}`);
    const slot = { kind: "tag", id, prompt, occurrence, images: behind.images };
    return { ...behind, slot };
  }

  /** Where the closer of a quoted tag begins; -1 where more text is needed, null where it is no tag. */
  #quotedEnd(tag, start) {
    const text = this.#text;
    QUOTE_OR_ESCAPE.lastIndex = start;
    let found = QUOTE_OR_ESCAPE.exec(text);
    while (found !== null && found[0] === "\\") {
      QUOTE_OR_ESCAPE.lastIndex = found.index + 2; // it takes the character behind it along
      found = QUOTE_OR_ESCAPE.exec(text);
    }
    if (found === null) return -1;
    if (text.startsWith(tag.closer, found.index)) return found.index;
    const rest = text.slice(found.index, found.index + tag.closer.length);
    return rest.length < tag.closer.length && tag.closer.startsWith(rest) ? -1 : null;
  }

  /** The images behind a tag, where they end, and whether more text could bring another one. */
  #imagesBehind(pos) {
    const images = [];
    let end = pos;
    for (;;) {
      let at = end;
      while (/\s/.test(this.#text[at] ?? "")) at++;
      const image = imageAt(this.#text, at);
      if (!image || imageAddress(image.src) === null) {
        if (images.length > 0 && this.#text.startsWith(GUARD, end)) end += GUARD.length;
        const begun = image === undefined && this.#text.length - at <= LONGEST_HELD_BACK;
        return { images, end, unsettled: begun || at >= this.#text.length, begun };
      }
      images.push(image);
      end = image.end;
    }
  }

  #id(key) {
    let id = this.#ids.get(key);
    if (id === undefined) this.#ids.set(key, (id = this.#ids.size + 1));
    return id;
  }
}
