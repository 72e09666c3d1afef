/** What is shown of a text, changed block by block. */

import { splitBlocks } from "./blocks.js";
import { make } from "./dom.js";
import { Markdown } from "./markdown.js";

/**
 * The rendered text. Adding to it renders the last block anew, not the whole; a text that was changed keeps
 * the blocks that stayed the same.
 */
export class RenderedText {
  #blocks = [];
  #markdown;

  constructor(container, hooks) {
    this.container = container;
    this.#markdown = new Markdown(hooks);
  }

  clear() {
    this.#blocks = [];
    this.container.replaceChildren();
  }

  /** Show a marked text that is as before up to `changedFrom`; gives whether anything was changed. */
  update(marked, changedFrom) {
    const old = this.#blocks;
    // More text can turn the last block into another kind, and join that to the one before it.
    let first = old.findLastIndex((block) => block.start <= changedFrom) - 1;
    first = Math.max(0, first);
    const offset = old[first]?.start ?? 0;
    const fresh = splitBlocks(marked.slice(offset));
    for (const block of fresh) block.start += offset;
    const same = (a, b) => a.kind === b.kind && a.source === b.source;
    let head = 0;
    while (first + head < old.length && head < fresh.length && same(old[first + head], fresh[head])) head++;
    let tail = 0;
    while (tail < old.length - first - head && tail < fresh.length - head && same(old.at(-1 - tail), fresh.at(-1 - tail))) tail++;
    const dropped = old.slice(first + head, old.length - tail);
    const added = fresh.slice(head, fresh.length - tail);
    for (let index = 0; index < head; index++) fresh[index].node = old[first + index].node;
    for (let index = 1; index <= tail; index++) fresh.at(-index).node = old.at(-index).node;
    this.#blocks = [...old.slice(0, first), ...fresh];
    if (dropped.length === 0 && added.length === 0) return false;
    if (dropped.length === 1 && added.length === 1 && this.#grow(dropped[0], added[0])) return true;
    const before = tail > 0 ? fresh.at(-tail).node : null;
    for (const block of added) {
      block.node = make("div", { className: "block" }, ...this.#markdown.render(block));
      this.container.insertBefore(block.node, before);
    }
    for (const block of dropped) block.node.remove();
    return true;
  }

  /** A code block that is still open only gets longer. */
  #grow(old, block) {
    const unfinished = old.kind === "code" && block.kind === "code" && old.source.includes("\n");
    if (!unfinished || !block.source.startsWith(old.source)) return false;
    const added = block.source.slice(old.source.length);
    if (/[`~\uFDD0]/.test(added) || /[`~]\s*$/.test(old.source)) return false;
    const code = old.node.querySelector("code");
    if (code.firstChild === null) return false;
    code.firstChild.appendData(added);
    block.node = old.node;
    return true;
  }
}
