/** A small, safe rendering of Markdown: text nodes and elements, never HTML from the message. */

import { FENCE, ITEM, QUOTE, expandTabs, fenceCloser, headingOf, isBlank, splitBlocks, splitItems } from "./blocks.js";
import { make } from "./dom.js";
import { Inline } from "./inline.js";
import { MARK } from "./tags.js";

const DEEPEST_BLOCK = 8;

/**
 * Renders the Markdown that models write in chats. What it does not know is shown as it stands.
 *
 * `hooks.slot(id)` gives the element for a mark, `hooks.image(image)` that for an image.
 */
export class Markdown {
  constructor(hooks) {
    this.hooks = hooks;
  }

  render(block, depth = 0) {
    if (depth > DEEPEST_BLOCK) return this.#paragraph(block.source);
    return this[`_${block.kind}`](block.source, depth);
  }

  #blocks(text, depth) {
    return splitBlocks(text).flatMap((block) => this.render(block, depth + 1));
  }

  _paragraph(source) {
    return this.#paragraph(source);
  }

  _heading(source) {
    const { level, text } = headingOf(source);
    // A message is a part of a page, which has a first heading already.
    return this.#lift(make(`h${Math.min(6, level + 2)}`, { part: "heading", className: `h${level}` }), this.inline(text));
  }

  _rule() {
    return [make("hr")];
  }

  _quote(source, depth) {
    const inner = source
      .split("\n")
      .map((line) => line.replace(QUOTE, ""))
      .join("\n");
    return [make("blockquote", { part: "quote" }, ...this.#blocks(inner, depth))];
  }

  _list(source, depth) {
    const first = ITEM.exec(expandTabs(source.split("\n", 1)[0]));
    const list = make(first[3] === undefined ? "ul" : "ol", { part: "list" });
    if (first[3] !== undefined && Number(first[3]) !== 1) list.start = Number(first[3]);
    const items = splitItems(source);
    const loose = items.some((lines, index) => {
      const end = lines.findLastIndex((line) => !isBlank(line));
      return lines.slice(0, end).some(isBlank) || (index < items.length - 1 && end < lines.length - 1);
    });
    for (const lines of items) {
      const item = make("li");
      for (const block of splitBlocks(lines.join("\n"))) {
        const tight = !loose && block.kind === "paragraph";
        item.append(...(tight ? this.#pieces(this.inline(block.source)).flat() : this.render(block, depth + 1)));
      }
      list.append(item);
    }
    return [list];
  }

  _code(source) {
    const lines = source.split("\n");
    const [, opening, language] = FENCE.exec(expandTabs(lines[0]));
    const closed = lines.length > 1 && fenceCloser(opening).test(lines.at(-1));
    const body = lines.slice(1, closed ? -1 : undefined).join("\n");
    const code = make("code", {}, body.replace(MARK, ""));
    const block = make("pre", { part: "code", tabIndex: 0 }, code);
    if (language) block.dataset.language = language.replace(MARK, "").slice(0, 40);
    return [block, ...this.#row(this.#slotsIn(body))];
  }

  #slotsIn(text) {
    return [...text.matchAll(MARK)].map((mark) => this.hooks.slot(Number(mark[1]))).filter(Boolean);
  }

  #row(elements) {
    return elements.length ? [make("div", { className: "row" }, ...elements)] : [];
  }

  #paragraph(source) {
    return this.#pieces(this.inline(source)).map((piece) => (piece instanceof Element ? piece : make("p", {}, ...piece)));
  }

  /** Take the images out of an element's content and put them behind it. */
  #lift(element, content) {
    const pieces = this.#pieces(content);
    element.append(...pieces.filter((piece) => Array.isArray(piece)).flat());
    return [element, ...pieces.filter((piece) => !Array.isArray(piece))];
  }

  /** Inline content, cut at its images: lists of nodes, and rows of images between them. */
  #pieces(content) {
    for (const slot of [...content.querySelectorAll(".slot")].reverse()) {
      let outermost = slot;
      while (outermost.parentNode !== content) outermost = outermost.parentNode;
      if (outermost !== slot) outermost.after(slot);
    }
    const pieces = [];
    let text = [];
    let row = null;
    const endText = () => {
      const shown = (node) => node.nodeName !== "BR" && (node.nodeType !== Node.TEXT_NODE || node.data.trim() !== "");
      const first = text.findIndex(shown);
      const last = text.findLastIndex(shown);
      if (first >= 0) {
        pieces.push(text.slice(first, last + 1));
        row = null;
      }
      text = [];
    };
    for (const node of [...content.childNodes]) {
      if (!(node instanceof Element) || !node.classList.contains("slot")) {
        text.push(node);
        continue;
      }
      endText();
      if (row === null) pieces.push((row = make("div", { className: "row" })));
      row.append(node);
    }
    endText();
    return pieces;
  }

  /** Text with emphasis, code, links and images, as a fragment. */
  inline(text) {
    return new Inline(text, this.hooks).read();
  }
}
