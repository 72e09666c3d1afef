/**
 * <limner-message>: shows one message of a chat while it is streamed and illustrated.
 *
 *     <script type="module" src="/limner/limner-message.js"></script>
 *     <limner-message message="m1" token="…"></limner-message>
 *
 * One module, without dependencies and without a build step. From top to bottom:
 *
 *     words        what the element says, for pages in other languages
 *     addresses    which ones may be followed or shown, and when two are the same
 *     Source       finds the prompt tags in a text that still grows, and takes them out
 *     Markdown     a small, safe rendering: text nodes and elements, never HTML from the message
 *     RenderedText what is shown, changed block by block
 *     Hub          one stream of events per app for all elements of a page
 *     Work         what is known of a message's images: pure state, without DOM
 *     Figure       one image, from its prompt to the finished picture
 *     Panel        the progress of all images of the message
 *     LimnerMessage  the element
 *     STYLE        its looks
 *
 * A message is written by a model, so nothing in it is trusted. Attributes, methods, events, parts and
 * custom properties are listed in docs/element.md.
 */

// --- words ---------------------------------------------------------------------------------------------------

const images = (count) => (count === 1 ? "image" : "images");

/** Everything the element says. A page in another language replaces what it wants: `words.cancel = "…"`. */
export const words = {
  generating: (ready, total) => `Generating ${ready}/${total} ${images(total)}…`,
  regenerating: (ready, total) => `Regenerating ${ready}/${total}…`,
  inserting: "Putting the images in…",
  failedCount: (count) => `${count} failed`,
  allReady: (count) => (count === 1 ? "The image is ready." : `All ${count} images are ready.`),
  someReady: (ready, failed) => `${ready} ${images(ready)} ready, ${failed} failed.`,
  noneReady: (failed) => (failed === 1 ? "The image failed." : `All ${failed} images failed.`),
  announceStart: (total) => `Generating ${total} ${images(total)}.`,
  announceAgain: (total) => `Regenerating ${total} ${images(total)}.`,
  announceReady: (ready, total) => `${ready} of ${total} ${images(total)} ready.`,
  cancelled: "Cancelled.",
  notPlaced: (count) => (count === 1 ? "1 finished image was not placed." : `${count} finished images were not placed.`),
  sessionFailed: "The images could not be put in.",
  cancel: "Cancel",
  cancelling: "Cancelling…",
  panel: "Progress of the images",
  queued: "Waiting",
  asked: "Queued",
  generatingOne: "Painting",
  waiting: "Trying again",
  completed: "Ready",
  percent: (value) => `${value}%`,
  preparing: (prompt) => `Image in preparation: ${prompt}`,
  noImage: (prompt) => `No image: ${prompt}`,
  redo: "New image",
  redoHint: "Press to make a new image.",
  redoBusy: "A new image is being made.",
  redoLater: "A new image can be made once the message is finished.",
  retry: "Try again",
  retryLater: "Possible once the other images are done.",
  imageFailed: "The image could not be made.",
  redoFailed: "No new image could be made.",
  notLoaded: "The image could not be loaded.",
  thoughts: "Thoughts",
  thinking: "Thinking…",
  offline: "The connection is lost. Trying again…",
  refusedStream: "This message cannot be followed from here.",
  refused: "That is not allowed from here.",
  unreachable: "The server could not be reached.",
  unavailable: "The server cannot do that right now.",
};

// --- addresses -----------------------------------------------------------------------------------------------

const HAS_SCHEME = /^[a-z][a-z0-9+.-]*:/i;

/** The address as the browser will use it, or null where it is none. */
function parseAddress(address) {
  try {
    return new URL(address, document.baseURI);
  } catch {
    return null;
  }
}

/** An address that an image of a message may be loaded from, or null: http, https, data:image/ and relative. */
function imageAddress(address) {
  const url = parseAddress(address);
  if (url === null) return null;
  const allowed =
    url.protocol === "http:" ||
    url.protocol === "https:" ||
    (url.protocol === "data:" && /^data:image\//i.test(url.href)) ||
    (url.protocol === new URL(document.baseURI).protocol && !HAS_SCHEME.test(address.trim()));
  return allowed ? url.href : null;
}

/** An address that a link of a message may lead to, or null: http, https, mailto and relative. */
function linkAddress(address) {
  const url = parseAddress(address);
  if (url === null) return null;
  return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
}

const encodeOctets = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

/** One form for all spellings of an address, as the server has it, so that two can be compared. */
function sameForm(address) {
  const href = parseAddress(address)?.href ?? address;
  if (href.startsWith("data:")) return href;
  return href
    .replace(/[^A-Za-z0-9\-._~:/?#@!$&*+,;=%]+/g, encodeOctets)
    .replace(/%([0-9A-Fa-f]{2})/g, (octet, digits) => {
      const char = String.fromCharCode(parseInt(digits, 16));
      return /[A-Za-z0-9\-._~]/.test(char) ? char : octet.toUpperCase();
    });
}

// --- Source: prompt tags in a text that still grows ------------------------------------------------------------

const DEFAULT_TAGS = [
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
const MARK_OPEN = "\uFDD0";
const MARK_CLOSE = "\uFDD1";
const MARK = /\uFDD0(\d+)\uFDD1/g;
const MARK_CHARACTERS = /[\uFDD0\uFDD1]/g;

const QUOTE_OR_ESCAPE = /["\\]/g;
const escapeRegex = (text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** The text that an attribute's value or a Markdown text spells with character references. */
function decodeEntities(text) {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos|nbsp));/g, (whole, dec, hex, name) => {
    if (name) return ENTITIES[name];
    const code = dec ? Number(dec) : parseInt(hex, 16);
    return code === 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? "\ufffd" : String.fromCodePoint(code);
  });
}

const unescapeMarkdown = (text) => decodeEntities(text.replace(/\\([!-/:-@[-`{-~])/g, "$1"));

/** The image that is written at `pos`, as `<img …>` or `![…](…)`; null: none, undefined: it may become one. */
function imageAt(text, pos) {
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

const matchAt = (regex, text, pos) => {
  regex.lastIndex = pos;
  return regex.exec(text)?.[0] ?? null;
};

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
function destinationAt(text, pos) {
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

/**
 * A message's text, with a mark in the place of each prompt tag and the images behind it.
 *
 * What is found follows the server's rules: tags are exact, what begins first wins, nothing in a reasoning
 * block is a prompt, equal prompts are told apart by their occurrence. Adding to the text costs what was
 * added, whatever its length.
 */
class Source {
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

// --- Markdown ------------------------------------------------------------------------------------------------

/** An element with its properties (or attributes, for what is no property) and children. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})[ \t]*([^ \t]*)/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)(.*?)(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|(\d{1,9})[.)])( {1,4}(?=\S)| *$| +)/;
const DEEPEST_BLOCK = 8;
const DEEPEST_EMPHASIS = 16;

const isBlank = (line) => !/\S/.test(line);
const expandTabs = (line) => line.replace(/^[ \t]+/, (indent) => indent.replaceAll("\t", "    "));
const indentOf = (line) => line.length - line.trimStart().length;

/** Whether a line begins a block of its own even right behind a paragraph. */
function interrupts(line) {
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
  const item = ITEM.exec(line);
  return item !== null && !isBlank(line.slice(item[0].length)) && (item[3] === undefined || Number(item[3]) === 1);
}

/** The top-level blocks of a text: what kind, the source, and where it begins. */
function splitBlocks(text) {
  const lines = text.split("\n").map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  const starts = [];
  let offset = 0;
  for (const line of text.split("\n")) {
    starts.push(offset);
    offset += line.length + 1;
  }
  const blocks = [];
  for (let index = 0; index < lines.length; ) {
    if (isBlank(lines[index])) {
      index++;
      continue;
    }
    const [kind, end] = blockAt(lines, index);
    blocks.push({ kind, source: lines.slice(index, end).join("\n"), start: starts[index] });
    index = end;
  }
  return blocks;
}

/** The kind of the block that begins at a line, and the line behind its end. */
function blockAt(lines, index) {
  const first = expandTabs(lines[index]);
  const fence = FENCE.exec(first);
  if (fence) return ["code", fenceEnd(lines, index, fence[1])];
  if (HEADING.test(first)) return ["heading", index + 1];
  if (RULE.test(first)) return ["rule", index + 1];
  if (QUOTE.test(first)) return ["quote", quoteEnd(lines, index)];
  if (ITEM.test(first)) return ["list", listEnd(lines, index)];
  let end = index + 1;
  while (end < lines.length && !isBlank(lines[end]) && !interrupts(lines[end])) end++;
  return ["paragraph", end];
}

const fenceCloser = (opening) => new RegExp(`^ {0,3}\\${opening[0]}{${opening.length},}[ \\t]*$`);

function fenceEnd(lines, index, opening) {
  const closing = fenceCloser(opening);
  for (let end = index + 1; end < lines.length; end++) if (closing.test(lines[end])) return end + 1;
  return lines.length;
}

function quoteEnd(lines, index) {
  let end = index + 1;
  while (end < lines.length) {
    const line = lines[end];
    const continues = QUOTE.test(line) || (!isBlank(line) && !isBlank(lines[end - 1].replace(QUOTE, "")) && !interrupts(line));
    if (!continues) break;
    end++;
  }
  return end;
}

const itemKind = (item) => (item[3] === undefined ? item[2] : item[2].at(-1));

/** How far the content of an item is indented; of one that begins empty, or with code, one space. */
function contentIndent(item) {
  const spaces = item[4].length;
  const begins = item.input.length > item[0].length && spaces <= 4;
  return item[1].length + item[2].length + (begins ? spaces : 1);
}

function listEnd(lines, index) {
  let item = ITEM.exec(expandTabs(lines[index]));
  const kind = itemKind(item);
  let end = index + 1;
  while (end < lines.length) {
    const line = expandTabs(lines[end]);
    if (isBlank(line)) {
      let next = end;
      while (next < lines.length && isBlank(lines[next])) next++;
      if (next === lines.length) break;
      const behind = expandTabs(lines[next]);
      const nextItem = RULE.test(behind) ? null : ITEM.exec(behind);
      if (indentOf(behind) < contentIndent(item) && !(nextItem && itemKind(nextItem) === kind)) break;
      end = next;
      continue;
    }
    if (indentOf(line) < contentIndent(item)) {
      const found = RULE.test(line) ? null : ITEM.exec(line);
      if (found !== null && itemKind(found) === kind) item = found;
      else if (found !== null || isBlank(lines[end - 1]) || interrupts(line)) break;
    }
    end++;
  }
  return end;
}

/** The items of a list, as the text that each of them holds. */
function splitItems(source) {
  const items = [];
  let indent = 0;
  for (const raw of source.split("\n")) {
    const line = expandTabs(raw);
    const item = ITEM.exec(line);
    if (item && (items.length === 0 || indentOf(line) < indent)) {
      indent = contentIndent(item);
      items.push([line.slice(indent)]);
    } else {
      items.at(-1).push(indentOf(line) >= indent ? line.slice(indent) : line.trimStart());
    }
  }
  return items;
}

/**
 * Renders the Markdown that models write in chats. What it does not know is shown as it stands.
 *
 * `hooks.slot(id)` gives the element for a mark, `hooks.image(image)` that for an image.
 */
class Markdown {
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
    const [, marks, text] = HEADING.exec(source);
    // A message is a part of a page, which has a first heading already.
    return this.#lift(make(`h${Math.min(6, marks.length + 2)}`, { part: "heading", className: `h${marks.length}` }), this.inline(text));
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

const SPECIAL = /[\\`*_[\]!<\n\uFDD0&]|https?:\/\/(?=[^\s<>])/g;
const BARE_ADDRESS = /https?:\/\/[^\s<>"\uFDD0\uFDD1`]+/y;
const POINTED_ADDRESS = /<((?:https?:\/\/|mailto:)[^\s<>\uFDD0\uFDD1]{1,2000})>/iy;
const PUNCTUATION = /[\p{P}\p{S}]/u;

/** Reads inline Markdown once from left to right, in the order of precedence of CommonMark. */
class Inline {
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

// --- RenderedText: what is shown, changed block by block ------------------------------------------------------

/**
 * The rendered text. Adding to it renders the last block anew, not the whole; a text that was changed keeps
 * the blocks that stayed the same.
 */
class RenderedText {
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

// --- Hub: one stream of events for all elements of a page --------------------------------------------------------

const MOST_MESSAGES = 100;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** The server says something every 15 s; a connection that is silent for longer than this is dead. */
const SILENCE_MS = 45_000;
/** A connection that held for so long was a good one: the next pause is the first again. */
const STEADY_MS = 5_000;

/** An answer that is not what was asked for. */
class Refused extends Error {
  constructor(status, problem = {}) {
    super(problem.message || `The server answered ${status}.`);
    this.status = status;
    this.kind = problem.kind ?? "http_error";
    this.hint = problem.hint ?? "";
  }
}

async function ask(address, options = {}) {
  const response = await fetch(address, { cache: "no-store", ...options });
  if (response.ok) return response;
  const content = await response.json().catch(() => ({}));
  throw new Refused(response.status, content?.error);
}

/** Reads server-sent events from a response; calls `each` with every event, and `alive` for all that comes. */
async function readEvents(response, each, alive) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { name: "message", id: null, data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (let line of lines) {
      if (line.endsWith("\r")) line = line.slice(0, -1);
      if (line === "") {
        if (event.data.length) each(event.name, event.data.join("\n"), event.id);
        event = { name: "message", id: null, data: [] };
        continue;
      }
      const [, field, content] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === "event") event.name = content;
      else if (field === "data") event.data.push(content);
      else if (field === "id") event.id = content;
    }
  }
}

/** One connection, for up to a hundred messages. It comes back by itself, after longer and longer pauses. */
class Channel {
  messages = new Set();
  #hub;
  #lastId = null;
  #connection = null;
  #failures = 0;
  #wake = null;

  constructor(hub) {
    this.#hub = hub;
  }

  /** Connect anew. `whole`: with everything as it stands, for messages that were not asked for before. */
  restart(whole) {
    this.close();
    if (whole) this.#lastId = null;
    if (this.messages.size === 0) return;
    this.#connection = new AbortController();
    this.#run(this.#connection);
  }

  close() {
    this.#connection?.abort();
    this.#connection = null;
    this.#wake?.();
  }

  /** Do not wait any longer for the next attempt. */
  hurry() {
    this.#wake?.();
  }

  async #run(connection) {
    while (!connection.signal.aborted) {
      let opened = 0;
      try {
        await this.#follow(connection, () => (opened = Date.now()));
      } catch (error) {
        if (connection.signal.aborted) return;
        if (error instanceof Refused && error.status < 500 && error.status !== 429) {
          if (await this.#dropRefused(connection, error)) continue;
          if (this.messages.size === 0) return;
        }
      }
      if (connection.signal.aborted) return;
      if (opened && Date.now() - opened >= STEADY_MS) this.#failures = 0;
      this.#failures++;
      if (this.#failures > 1) this.#tell("lost");
      await this.#pause();
    }
  }

  async #follow(connection, whenOpen) {
    const query = new URLSearchParams([...this.messages].map((message) => ["message", message]));
    query.set("text", "1");
    if (this.#lastId !== null) query.set("last_event_id", this.#lastId);
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    connection.signal.addEventListener("abort", abort);
    let silence = setTimeout(abort, SILENCE_MS);
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(abort, SILENCE_MS);
    };
    try {
      const headers = { accept: "text/event-stream" };
      const response = await ask(new URL(`events?${query}`, this.#hub.base), { signal: attempt.signal, headers });
      whenOpen();
      this.#tell("open");
      await readEvents(
        response,
        (name, data, id) => {
          if (connection.signal.aborted) return;
          this.#hub.deliver(name, JSON.parse(data));
          if (id !== null) this.#lastId = id;
        },
        alive,
      );
    } finally {
      clearTimeout(silence);
      connection.signal.removeEventListener("abort", abort);
      attempt.abort();
    }
  }

  /** One message that may not be read would keep all others waiting: find it, and go on without. */
  async #dropRefused(connection, refusal) {
    let dropped = false;
    for (const message of [...this.messages]) {
      const query = new URLSearchParams({ message });
      try {
        await ask(new URL(`status?${query}`, this.#hub.base), { signal: connection.signal });
      } catch (error) {
        if (!(error instanceof Refused) || error.status === 404 || error.status >= 500) continue;
        this.messages.delete(message);
        this.#hub.refuse(message, error);
        dropped = true;
      }
    }
    if (!dropped) this.#tell("lost", refusal);
    return dropped && this.messages.size > 0 && !connection.signal.aborted;
  }

  #pause() {
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failures - 1));
    // All pages that one server left alone should not come back in the same instant.
    const pause = longest * (0.75 + Math.random() / 4);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #tell(state, error = null) {
    for (const message of this.messages) this.#hub.connection(message, state, error);
  }
}

/** All elements of a page that follow messages of one app. */
class Hub {
  static #hubs = new Map();

  static at(base) {
    if (!Hub.#hubs.has(base)) Hub.#hubs.set(base, new Hub(base));
    return Hub.#hubs.get(base);
  }

  #listeners = new Map();
  #channels = [];
  #fresh = new Set();
  #left = new Map();
  #pending = false;
  #tags = null;
  #asleep = false;

  constructor(base) {
    this.base = base;
    const hurry = () => this.#channels.forEach((channel) => channel.hurry());
    addEventListener("online", hurry);
    document.addEventListener("visibilitychange", () => document.hidden || hurry());
    // A page in the back-forward cache must not hold a connection.
    addEventListener("pagehide", () => this.#sleep(true));
    addEventListener("pageshow", (event) => event.persisted && this.#sleep(false));
  }

  /** The tags that mark prompts there; asked for once. */
  tags() {
    this.#tags ??= ask(new URL("tags", this.base))
      .then((response) => response.json())
      .catch(() => {
        this.#tags = null; // the next element asks again
        return DEFAULT_TAGS;
      });
    return this.#tags;
  }

  /** From now on the listener gets what happens to the message; first, everything as it stands. */
  join(message, listener) {
    if (!this.#listeners.has(message)) this.#listeners.set(message, new Set());
    this.#listeners.get(message).add(listener);
    // Who was only moved within the page knows everything already.
    if (this.#left.get(listener) !== message) this.#fresh.add(message);
    this.#arrange();
  }

  leave(message, listener) {
    const listeners = this.#listeners.get(message);
    listeners?.delete(listener);
    this.#left.set(listener, message);
    if (listeners?.size === 0) this.#listeners.delete(message);
    this.#arrange();
  }

  deliver(name, data) {
    for (const listener of this.#listeners.get(data.message) ?? []) listener.receive(name, data);
  }

  connection(message, state, error) {
    for (const listener of this.#listeners.get(message) ?? []) listener.connection(state, error);
  }

  refuse(message, error) {
    this.connection(message, "refused", error);
    this.#listeners.delete(message);
  }

  #sleep(asleep) {
    this.#asleep = asleep;
    for (const channel of this.#channels) asleep ? channel.close() : channel.restart(false);
  }

  /** Bring the connections in line with who listens, once for all changes of this turn. */
  #arrange() {
    if (this.#pending) return;
    this.#pending = true;
    queueMicrotask(() => {
      this.#pending = false;
      const wanted = new Set(this.#listeners.keys());
      const changed = new Map();
      for (const channel of this.#channels) {
        for (const message of channel.messages) {
          if (!wanted.delete(message)) {
            channel.messages.delete(message);
            changed.set(channel, changed.get(channel) ?? false);
          } else if (this.#fresh.has(message)) changed.set(channel, true);
        }
      }
      this.#fresh.clear();
      this.#left.clear();
      for (const message of wanted) {
        let channel = this.#channels.find((known) => known.messages.size < MOST_MESSAGES);
        if (channel === undefined) this.#channels.push((channel = new Channel(this)));
        channel.messages.add(message);
        changed.set(channel, true);
      }
      this.#channels = this.#channels.filter((channel) => {
        if (channel.messages.size === 0) channel.close();
        return channel.messages.size > 0;
      });
      if (this.#asleep) return;
      for (const [channel, whole] of changed) channel.restart(whole);
    });
  }
}

// --- Work: what is known of a message's images --------------------------------------------------------------------

const OUTSTANDING = new Set(["queued", "generating", "waiting"]);
const imagePlace = (url) => `image ${sameForm(url)}`;
const tagPlace = (prompt, occurrence) => `tag ${occurrence} ${prompt.trim()}`;

/**
 * The message's present session, its prompts, and what is left of earlier ones.
 *
 * A *place* is where an image stands or will stand: behind a tag, or at the address of the image that is to be
 * replaced. Each place has at most one piece of work.
 */
class Work {
  session = null;
  kind = null;
  state = null;
  counts = null;
  result = null;
  /** Prompts of the present session by id, in the order in which they were told. */
  prompts = new Map();
  /** What failed, by place. It stays until the place has its image or is tried again. */
  failures = new Map();
  /** Places where somebody asked for an image, until the server says what comes of it. */
  asked = new Set();
  #past = new Set();
  #placed = new Set();
  #places = new Map();
  #successors = new Map();

  get isLive() {
    return this.session !== null && this.result === null;
  }

  get isStreaming() {
    return this.isLive && this.kind === "streaming";
  }

  /** Take an event in; false for one of a session that is over. */
  take(name, data) {
    if (this.#past.has(data.session)) return false;
    if (data.session !== this.session) this.#turnTo(data.session);
    if (name === "session") {
      this.kind = data.kind;
      this.state = data.state;
      this.counts = data.counts;
    } else if (name === "prompt") {
      this.#takePrompt(data);
    } else if (name === "ended") {
      this.kind = data.kind;
      this.state = data.state;
      this.result = data.result;
      this.asked.clear();
      this.#placed = new Set(data.result.placed.map((placed) => placed.prompt_id));
      for (const { image_url: to, replaced_url: from } of data.result.placed) {
        if (from) this.#successors.set(sameForm(from), to);
      }
    }
    return true;
  }

  #turnTo(session) {
    if (this.session !== null) this.#past.add(this.session);
    this.session = session;
    this.kind = this.state = this.counts = this.result = null;
    this.prompts.clear();
  }

  #takePrompt(data) {
    const prompt = { ...data, place: this.#placeOf(data) };
    this.prompts.set(data.prompt_id, prompt);
    this.asked.delete(prompt.place);
    if (prompt.state === "failed") this.failures.set(prompt.place, prompt);
    else this.failures.delete(prompt.place);
    if (data.target_url === null && this.kind === null) this.kind = "streaming";
  }

  #placeOf(data) {
    if (data.target_url) return imagePlace(data.target_url);
    const known = this.#places.get(data.prompt_id);
    if (known !== undefined) return known;
    const place = tagPlace(data.prompt, data.occurrence ?? this.#nextOccurrence(data));
    this.#places.set(data.prompt_id, place);
    return place;
  }

  /** For a server that does not say which of several equal prompts it is: they are told in their order. */
  #nextOccurrence(data) {
    const taken = new Set([...this.prompts.values()].map((prompt) => prompt.place));
    let occurrence = 0;
    while (taken.has(tagPlace(data.prompt, occurrence))) occurrence++;
    return occurrence;
  }

  /** The work at a place: a click, a prompt of this session, one that failed before, or null. */
  at(place) {
    if (this.asked.has(place)) return { state: "asked", place };
    const here = [...this.prompts.values()].filter((prompt) => prompt.place === place);
    const newest = here.findLast((prompt) => this.isLive || this.#placed.has(prompt.prompt_id));
    return newest ?? this.failures.get(place) ?? null;
  }

  /** The image that stands now where the given one stood. */
  successorOf(url) {
    const seen = new Set();
    let key = sameForm(url);
    while (this.#successors.has(key) && !seen.has(key)) {
      seen.add(key);
      url = this.#successors.get(key);
      key = sameForm(url);
    }
    return url;
  }

  /** How many places the session leaves without what was asked for; one that was tried again with success is none. */
  get stillFailed() {
    const places = new Set(this.result.failed.map(({ prompt_id: id }) => this.prompts.get(id)?.place ?? id));
    return [...places].filter((place) => this.failures.has(place)).length;
  }

  /** What an ended session finished and did not put into the text. */
  get unplaced() {
    return this.result?.unplaced ?? [];
  }
}

// --- Figure: one image, from its prompt to the finished picture ---------------------------------------------------

const ICONS = {
  redo: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
  alert: "M12 8v5M12 16.5v.5M10.4 3.9 2.6 17.5A1.8 1.8 0 0 0 4.2 20h15.6a1.8 1.8 0 0 0 1.6-2.5L13.6 3.9a1.8 1.8 0 0 0-3.2 0Z",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 2-2 5 5M15.5 9.5h.01",
  check: "m5 12.5 4.5 4.5L19 7.5",
};

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  for (const [key, value] of [["viewBox", "0 0 24 24"], ["class", "icon"], ["aria-hidden", "true"]]) svg.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

const prefersStillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** What a figure shows where nothing is to be said; see `Figure`. */
const NOTHING = {
  picture: null,
  preview: null,
  status: "",
  running: false,
  fraction: null,
  problem: "",
  act: null,
  busy: "",
  retry: null,
  retryLater: "",
};

let lastFigure = 0;

/**
 * One image of a message. What it shows is decided elsewhere and given to `show`:
 *
 *     state     "hidden", "working" (with or without a picture below), "image" or "failed"
 *     picture   the address of the finished image, or null
 *     preview   the address of the newest preview, or null
 *     prompt    what was asked for; the caption and the description
 *     status    a few words on the work that goes on, or ""
 *     running   whether it is being made at this moment
 *     fraction  0 to 1, or null where nobody knows
 *     problem   why there is no (new) image, or ""
 *     act       what a press on the image does, or null; `busy` says why it does nothing now
 *     retry     what the button in an error does, or null; `retryLater`: not yet
 */
class Figure {
  element = make("figure", { part: "figure" });
  #frame = null;
  #picture = null;
  #preview = make("img", { part: "preview", className: "preview", alt: "", hidden: true });
  #empty = make("span", { className: "empty" }, icon("picture"));
  #chip = make("span", { part: "status", className: "chip", hidden: true });
  #bar = make("span", { part: "bar", className: "bar", hidden: true }, make("span"));
  #veil = make("span", { part: "prompt", className: "veil", ariaHidden: "true", hidden: true });
  #veilText = make("span", { className: "veil-text" });
  #veilHint = make("span", { className: "veil-hint" }, icon("redo"), make("span"));
  #caption = make("figcaption", { part: "caption" });
  #problem = make("p", { part: "error", className: "problem", hidden: true });
  #problemText = make("span");
  #retry = make("button", { part: "button retry", className: "button", type: "button", hidden: true });
  #hint = make("span", { hidden: true }); // a description may be hidden; it is then read with the button only
  #view = {};

  constructor() {
    lastFigure++;
    this.#hint.id = `hint-${lastFigure}`;
    this.#problem.id = `problem-${lastFigure}`;
    this.#retry.setAttribute("aria-describedby", this.#problem.id);
    this.#veil.append(this.#veilText, this.#veilHint);
    this.#problem.append(icon("alert"), this.#problemText);
    this.#retry.append(icon("redo"), make("span", {}, words.retry));
    this.#retry.addEventListener("click", () => this.#press(this.#view.retry, this.#view.retryLater));
    this.#preview.addEventListener("load", () => this.#picture || this.#shape(this.#preview));
    this.element.append(this.#caption, this.#problem, this.#retry, this.#hint);
    this.#setFrame(false);
  }

  show(view) {
    this.#view = view;
    this.element.dataset.state = view.state;
    this.element.hidden = view.state === "hidden";
    if (view.state === "hidden") return;
    this.#setFrame(view.act !== null);
    this.#showPicture(view.picture, view.prompt);
    this.#showPreview(view.state === "working" ? view.preview : null, view.fraction);
    this.#showWork(view);
    setText(this.#caption, view.prompt);
    this.#caption.title = view.prompt;
    this.#showProblem(view);
    const acting = view.act !== null;
    this.#veil.hidden = view.picture === null;
    setText(this.#veilText, view.prompt);
    this.#veilHint.hidden = !acting || view.busy !== "";
    setText(this.#veilHint.lastChild, words.redo);
    setText(this.#hint, acting ? view.busy || words.redoHint : "");
    if (acting) this.#frame.ariaDisabled = String(view.busy !== "");
  }

  /** A button where the image can be made anew, else a mere frame. */
  #setFrame(isButton) {
    if (this.#frame !== null && (this.#frame.localName === "button") === isButton) return;
    const old = this.#frame;
    const frame = isButton ? make("button", { type: "button", part: "frame image-button" }) : make("div", { part: "frame" });
    frame.classList.add("frame");
    if (isButton) {
      frame.setAttribute("aria-describedby", this.#hint.id);
      frame.addEventListener("click", () => this.#press(this.#view.act, this.#view.busy));
    } else frame.tabIndex = -1;
    if (old === null) {
      frame.append(this.#empty, this.#preview, this.#veil, this.#chip, this.#bar);
      this.element.prepend(frame);
    } else {
      const focused = old.getRootNode().activeElement === old;
      frame.append(...old.childNodes);
      frame.style.cssText = old.style.cssText;
      old.replaceWith(frame);
      if (focused) frame.focus({ preventScroll: true });
    }
    this.#frame = frame;
  }

  #press(action, notNow) {
    if (action && !notNow) action();
  }

  #showPicture(address, description) {
    this.#empty.hidden = address !== null;
    if (this.#picture !== null) this.#picture.alt = description;
    if (address === (this.#picture?.dataset.address ?? null)) return;
    const old = [...this.#frame.querySelectorAll(".picture")];
    if (address === null) {
      this.#picture = null;
      for (const picture of old) picture.remove();
      return;
    }
    const picture = make("img", { part: "image", className: "picture", alt: description, decoding: "async" });
    picture.loading = old.length > 0 || !this.#preview.hidden ? "eager" : "lazy";
    picture.referrerPolicy = "no-referrer";
    picture.dataset.address = address;
    this.#picture = picture;
    for (const other of old) {
      other.ariaHidden = "true"; // it is on its way out
      other.alt = "";
    }
    picture.classList.add("entering");
    picture.addEventListener("load", () => {
      if (this.#picture !== picture) return;
      this.#frame.classList.remove("broken");
      this.#shape(picture);
      const entered = () => {
        for (const other of old) other.remove();
        picture.classList.remove("entering");
        if (this.#picture === picture && this.#view.state !== "working") this.#preview.hidden = true;
      };
      const duration = prefersStillness() ? 0 : 500;
      picture.animate([{ opacity: 0 }, { opacity: 1 }], { duration, easing: "ease-out" }).finished.then(entered, entered);
    });
    picture.addEventListener("error", () => {
      if (this.#picture !== picture) return;
      picture.classList.remove("entering");
      for (const other of old) other.remove();
      this.#preview.hidden = true;
      this.#frame.classList.add("broken");
      if (!this.#view.problem) this.#showProblem({ ...this.#view, problem: words.notLoaded });
    });
    picture.src = address;
    this.#veil.before(picture);
  }

  /** The frame takes the proportions of what is in it, so nothing moves when the finished image comes. */
  #shape({ naturalWidth: width, naturalHeight: height }) {
    if (width > 0 && height > 0) this.#frame.style.setProperty("--ratio", (width / height).toFixed(4));
  }

  #showPreview(address, fraction) {
    const preview = this.#preview;
    // It stays until the finished picture has covered it.
    if (address === null && this.#picture?.classList.contains("entering")) return;
    preview.hidden = address === null;
    if (address !== null && preview.dataset.address !== address) {
      preview.dataset.address = address;
      preview.src = address;
    }
    // Early previews are coarse; what is not there yet should not look like a fault.
    preview.style.setProperty("--blur", `${((1 - (fraction ?? 0.6)) * 6).toFixed(1)}px`);
  }

  #showWork({ state, status, fraction, running, prompt, picture }) {
    const working = state === "working";
    this.#frame.classList.toggle("working", working);
    this.#chip.hidden = !status;
    setText(this.#chip, status);
    this.#chip.ariaHidden = String(this.#frame.localName === "button");
    this.#bar.hidden = !working || !running;
    this.#bar.classList.toggle("unknown", fraction === null);
    this.#bar.firstChild.style.setProperty("--done", String(fraction ?? 0));
    if (this.#bar.hidden) return;
    const labels = { role: "progressbar", "aria-label": words.preparing(prompt), "aria-valuetext": status };
    for (const [name, value] of Object.entries(labels)) this.#bar.setAttribute(name, value);
    if (fraction === null) this.#bar.removeAttribute("aria-valuenow");
    else this.#bar.setAttribute("aria-valuenow", String(Math.round(fraction * 100)));
    this.#bar.ariaHidden = String(picture !== null && this.#frame.localName === "button");
  }

  #showProblem({ problem, retry, retryLater }) {
    this.#problem.hidden = !problem;
    setText(this.#problemText, problem);
    const offered = Boolean(problem) && retry !== null;
    // The button goes with what it was for; who came by keyboard stays at the image.
    const focused = !offered && this.#retry.getRootNode().activeElement === this.#retry;
    this.#retry.hidden = !offered;
    if (focused) this.#frame.focus({ preventScroll: true });
    this.#retry.ariaDisabled = String(Boolean(retryLater));
    this.#retry.title = retryLater || "";
  }
}

// --- Panel: the progress of all images of a message ---------------------------------------------------------------

const MOST_THUMBNAILS = 12;

class Panel {
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

// --- LimnerMessage: the element -----------------------------------------------------------------------------------

const HERE = new URL(".", import.meta.url).href;
/** How long the panel stays when all is done, and how far apart a screen reader is told of progress. */
const LINGER_MS = 4_000;
const ANNOUNCE_MS = 6_000;

/** How many characters as the server counts them: code points, not the halves that JavaScript counts. */
function countCharacters(text) {
  let count = text.length;
  for (let index = 1; index < text.length; index++) {
    const low = text.charCodeAt(index);
    if (low < 0xdc00 || low > 0xdfff) continue;
    const high = text.charCodeAt(index - 1);
    if (high >= 0xd800 && high <= 0xdbff) count--;
  }
  return count;
}

/** The first `count` characters, counted as the server does. */
function firstCharacters(text, count) {
  let end = 0;
  while (count-- > 0 && end < text.length) end += text.codePointAt(end) > 0xffff ? 2 : 1;
  return text.slice(0, end);
}

const asSentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".") : "");

/** What to tell a reader of a request that came to nothing. */
function explain(error) {
  if (!(error instanceof Refused)) return words.unreachable;
  if (error.status === 401 || error.status === 403) return words.refused;
  if (error.status >= 500 || error.status === 429) return words.unavailable;
  return asSentence(error.message);
}

export class LimnerMessage extends HTMLElement {
  static observedAttributes = ["message", "token", "base", "mode", "readonly"];

  #root;
  #text = make("div", { part: "text", className: "text" });
  #panel = new Panel();
  #offline = make("p", { part: "offline", className: "offline", hidden: true });
  #status = make("p", { className: "unseen", role: "status" });

  #hub = null;
  #message = null;
  #work = new Work();
  #source = new Source();
  #rendered;
  #renderer = null;

  #hasText = false; // whether any text was brought, be it empty
  #characters = 0; // of the text as the server counts them
  #growing = false;
  #hostBrings = false;
  #textChanged = false;
  #allChanged = false;
  #connection = "open";

  #slots = new Map();
  #views = new Map(); // by the id of a slot
  #loose = new Set(); // figures of images that belong to no tag
  #notes = new Map(); // by place: what became of a click that was refused
  #panelNote = "";
  #cancelling = false;
  #lingering = null;
  #wasLive = false;
  #frame = 0;

  #announced = { session: null, at: 0, ready: 0 };
  #announcing = null;

  constructor() {
    super();
    this.#root = this.attachShadow({ mode: "open" });
    this.#root.adoptedStyleSheets = [sheet()];
    this.#text.tabIndex = -1;
    this.#offline.append(make("span", { className: "dot" }), make("span"));
    this.#root.append(this.#text, this.#panel.element, this.#offline, this.#status);
    this.#rendered = new RenderedText(this.#text, {
      slot: (id) => this.#slotElement(id),
      image: (image) => this.#looseImage(image),
    });
  }

  // --- what a page can do

  /** The message's text as it is shown, with its tags. Setting it means that the page brings the text. */
  get text() {
    return this.#source.text;
  }

  set text(text) {
    this.#hostBrings = true;
    this.#growing = this.#work.isStreaming && this.#work.state === "streaming";
    this.#setText(String(text));
  }

  /** Add a piece of text that the page has streamed itself. */
  append(delta) {
    if (!this.#hostBrings) this.#setText("");
    this.#hostBrings = true;
    this.#growing = true;
    this.#addText(String(delta));
  }

  /** `(text) => Node`: renders the text instead of the built-in Markdown; null for the latter. */
  get render() {
    return this.#renderer;
  }

  set render(renderer) {
    this.#renderer = renderer;
    this.#renderAnew();
  }

  /** Ask for a new image in the place of the one at this address, as a click on it does. */
  regenerate(image) {
    return this.#ask("regenerate", { image, mode: this.getAttribute("mode") || "replace-image" }, imagePlace(image));
  }

  /** Ask once more for the image of a prompt that failed. */
  retry(promptId) {
    const failed = [...this.#work.failures.values()].find((prompt) => prompt.prompt_id === promptId);
    return this.#ask("retry", { prompt: promptId }, failed?.place ?? `prompt ${promptId}`);
  }

  /** Give the images of the message up. */
  async cancel() {
    this.#cancelling = true;
    this.#panelNote = "";
    this.#schedule();
    try {
      await this.#post("cancel", {});
    } catch (error) {
      this.#panelNote = explain(error);
      this.#tellError(error, "cancel");
    } finally {
      this.#cancelling = false;
      this.#schedule();
    }
  }

  // --- its life in a page

  connectedCallback() {
    this.#join();
    this.#schedule();
  }

  disconnectedCallback() {
    this.#hub?.leave(this.#message, this);
    this.#hub = null;
    clearTimeout(this.#announcing);
    this.#announcing = null;
  }

  attributeChangedCallback(name, before, after) {
    if (before === after || !this.isConnected) return;
    if (name === "message" || name === "base") {
      this.#hub?.leave(this.#message, this);
      this.#hub = null;
      this.#join();
    }
    this.#schedule();
  }

  get #base() {
    const given = this.getAttribute("base");
    return given === null ? HERE : new URL(given.endsWith("/") ? given : `${given}/`, document.baseURI).href;
  }

  get #canAct() {
    return Boolean(this.getAttribute("token")) && !this.hasAttribute("readonly") && this.#message !== null;
  }

  #join() {
    const message = this.getAttribute("message") || null;
    if (message !== this.#message) this.#forget();
    this.#message = message;
    if (message === null) return;
    const hub = (this.#hub = Hub.at(this.#base));
    hub.join(message, this);
    hub.tags().then((tags) => {
      if (this.#hub !== hub || JSON.stringify(tags) === JSON.stringify(this.#source.tags)) return;
      this.#source.tags = tags;
      this.#renderAnew();
    });
  }

  /** Another message is shown from now on. */
  #forget() {
    if (this.#message === null) return; // a page may bring the text before it names the message
    this.#work = new Work();
    this.#hostBrings = false;
    this.#hasText = false;
    this.#growing = false;
    this.#notes.clear();
    this.#panelNote = "";
    this.#wasLive = false;
    this.#connection = "open";
    this.#endLingering();
    this.#setText("");
    this.#hasText = false;
  }

  // --- what comes from the hub

  /** An event of the stream. For the hub. */
  receive(name, data) {
    if (name === "text") this.#takeText(data);
    else if (this.#work.take(name, data)) this.#takeProgress(name, data);
    this.#schedule();
  }

  /** What the stream's connection is like. For the hub. */
  connection(state, error) {
    this.#connection = state;
    if (state === "refused") this.#tellError(error, "follow");
    this.#schedule();
  }

  #takeProgress(name, data) {
    const work = this.#work;
    if (work.isLive) {
      this.#wasLive = true;
      this.#endLingering();
    }
    if (name === "session") {
      if (this.#hostBrings && data.kind === "streaming" && data.state !== "streaming") this.#growing = false;
      const { counts, kind, state } = data;
      this.#tell("limner-progress", { counts, kind, state });
      this.#announceProgress();
    } else if (name === "prompt") {
      if (this.#notes.delete(work.prompts.get(data.prompt_id).place)) this.#panelNote = "";
    } else if (name === "ended") {
      if (this.#hostBrings) this.#growing = false;
      this.#panelNote = this.#wasLive ? this.#lastWords() : "";
      this.#tell("limner-ended", { ...data.result, session: data.session, kind: data.kind, state: data.state });
      if (this.#wasLive) {
        this.#announce(this.#panelNote || this.#summary(), true);
        this.#linger();
      }
    }
  }

  #takeText({ start, text, final }) {
    // A page that brings the text is told of it only when the images were written into it.
    if (this.#hostBrings && !(final && start === 0)) return;
    this.#growing = !final;
    if (start === 0) this.#setText(text);
    else if (start === this.#characters) this.#addText(text);
    else if (start < this.#characters) this.#setText(firstCharacters(this.#source.text, start) + text);
    else this.#fetchText();
  }

  /** A piece is missing. */
  async #fetchText() {
    const message = this.#message;
    try {
      const answer = await ask(new URL(`text?${new URLSearchParams({ message })}`, this.#base));
      const { text, streaming } = await answer.json();
      if (message === this.#message) this.#takeText({ start: 0, text, final: !streaming });
      this.#schedule();
    } catch (error) {
      this.#tellError(error, "follow");
    }
  }

  #setText(text) {
    this.#hasText = true;
    if (text === this.#source.text) return this.#schedule(); // the same again, after a reconnection
    this.#source.text = text;
    this.#characters = countCharacters(text);
    this.#textChanged = true;
    return this.#schedule();
  }

  #addText(text) {
    this.#hasText = true;
    this.#source.append(text);
    this.#characters += countCharacters(text);
    this.#textChanged = true;
    this.#schedule();
  }

  // --- what goes to the server

  async #post(route, content) {
    return ask(new URL(route, this.#base), {
      method: "POST",
      headers: { "content-type": "application/json", "limner-token": this.getAttribute("token") ?? "" },
      body: JSON.stringify({ message: this.#message, ...content }),
    });
  }

  async #ask(route, content, place) {
    this.#work.asked.add(place);
    this.#notes.delete(place);
    this.#schedule();
    try {
      await this.#post(route, content);
    } catch (error) {
      this.#work.asked.delete(place);
      this.#notes.set(place, explain(error));
      this.#announce(explain(error), true);
      this.#tellError(error, route);
      this.#schedule();
    }
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  #tellError(error, action) {
    const { kind = "unreachable", hint = "", status = 0 } = error ?? {};
    this.#tell("limner-error", { action, kind, status, hint, message: error?.message ?? "" });
  }

  // --- rendering: once per frame, however much has come

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
    });
  }

  #renderAnew() {
    this.#rendered.clear();
    this.#textChanged = this.#allChanged = true;
    this.#schedule();
  }

  #render() {
    const focused = this.#root.activeElement;
    if (this.#textChanged || this.#wasGrowing !== this.#growing) this.#renderText();
    this.#showFigures();
    this.#showPanel();
    const streaming = this.#growing || (this.#work.isStreaming && this.#work.state === "streaming");
    this.#text.setAttribute("aria-busy", String(streaming));
    this.#text.classList.toggle("streaming", streaming);
    this.#showConnection();
    this.#keepFocus(focused);
  }

  /** What was moved, replaced or hidden must not throw a reader who came by keyboard back to the top. */
  #keepFocus(focused) {
    if (focused === null || this.#root.activeElement === focused) return;
    const usable = focused.isConnected && focused.checkVisibility();
    const target = usable ? focused : (this.#root.activeElement ?? this.#text);
    target.focus({ preventScroll: true });
  }

  #wasGrowing = false;

  #renderText() {
    const { marked, slots, changedFrom } = this.#source.read(this.#growing);
    this.#slots = new Map(slots.map((slot) => [slot.id, slot]));
    for (const id of this.#views.keys()) if (!this.#slots.has(id)) this.#views.delete(id);
    this.#textChanged = false;
    this.#wasGrowing = this.#growing;
    const from = this.#allChanged ? 0 : changedFrom;
    this.#allChanged = false;
    if (this.#renderer === null) this.#rendered.update(marked, from);
    else this.#renderByPage(marked);
    for (const figure of this.#loose) if (!this.#root.contains(figure.figure.element)) this.#loose.delete(figure);
  }

  /** With the page's own renderer: it gets the text with marks in the place of tags, which are then replaced. */
  #renderByPage(marked) {
    let node;
    try {
      node = this.#renderer(marked);
    } catch (error) {
      console.error("limner-message: the page's renderer failed", error);
      this.#renderer = null;
      return this.#renderAnew();
    }
    this.#text.replaceChildren(node);
    const walker = document.createTreeWalker(this.#text, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) if (walker.currentNode.data.includes(MARK_OPEN)) found.push(walker.currentNode);
    for (const text of found) {
      const pieces = text.data.split(MARK).map((piece, index) => (index % 2 ? this.#slotElement(Number(piece)) ?? "" : piece));
      text.replaceWith(...pieces);
    }
    for (const image of this.#text.querySelectorAll("img:not(.slot img)")) {
      const src = image.getAttribute("src");
      if (src && this.#isOurs(src)) image.replaceWith(this.#looseImage({ src, alt: image.alt }));
    }
    return undefined;
  }

  #slotElement(id) {
    const slot = this.#slots.get(id);
    if (slot === undefined) return null;
    let view = this.#views.get(id);
    if (view === undefined) {
      view = { element: make("span", { className: "slot" }), figures: [] };
      if (slot.kind === "thought") {
        view.body = make("div", { className: "thought-text" });
        view.summary = make("summary");
        view.element.append(make("details", { part: "thoughts" }, view.summary, view.body));
      }
      this.#views.set(id, view);
    }
    return view.element;
  }

  #looseImage({ src, alt }) {
    const figure = new Figure();
    this.#loose.add({ figure, src, alt });
    return make("span", { className: "slot" }, figure.element);
  }

  /** Whether an image comes from the app, so that a new one can be asked for. */
  #isOurs(src) {
    return sameForm(src).startsWith(sameForm(new URL("images/", this.#base).href));
  }

  #showFigures() {
    const shownPlaces = (this.#shownPlaces = new Set());
    for (const [id, view] of this.#views) {
      const slot = this.#slots.get(id);
      if (slot === undefined) continue;
      if (slot.kind === "thought") {
        setText(view.summary, slot.open && this.#growing ? words.thinking : words.thoughts);
        setText(view.body, slot.text.trim());
        continue;
      }
      const count = Math.max(1, slot.images.length);
      while (view.figures.length < count) view.figures.push(new Figure());
      view.figures.length = count;
      const elements = view.figures.map((figure) => figure.element);
      if (elements.some((element, index) => view.element.childNodes[index] !== element) || view.element.childNodes.length !== count) {
        view.element.replaceChildren(...elements);
      }
      view.figures.forEach((figure, index) => {
        const image = slot.images[index];
        const place = image ? imagePlace(image.src) : tagPlace(slot.prompt, slot.occurrence);
        shownPlaces.add(place);
        figure.show(image ? this.#imageView(image.src, slot.prompt, place, true) : this.#tagView(slot.prompt, place));
      });
    }
    for (const { figure, src, alt } of this.#loose) {
      const place = imagePlace(src);
      shownPlaces.add(place);
      figure.show(this.#imageView(src, alt, place, this.#isOurs(src)));
    }
  }

  #shownPlaces = new Set();

  /** A tag without an image. */
  #tagView(prompt, place) {
    const work = this.#work.at(place);
    const note = this.#notes.get(place) ?? "";
    const view = { ...NOTHING, state: "working", prompt };
    if (work === null || work.state === "cancelled") {
      const expected = work === null && (this.#work.isStreaming || (this.#growing && !this.#work.result));
      return { ...view, state: expected ? "working" : "hidden", status: words.queued };
    }
    if (work.state === "completed") return { ...view, state: "image", picture: imageAddress(work.image_url), status: this.#work.isLive ? words.completed : "" };
    if (work.state === "failed") {
      const retry = this.#canAct ? () => this.retry(work.prompt_id) : null;
      const problem = note || asSentence(work.problem?.message) || words.imageFailed;
      return { ...view, state: "failed", problem, retry, retryLater: this.#work.isStreaming ? words.retryLater : "" };
    }
    return { ...view, ...this.#workView(work) };
  }

  /** An image that stands in the text. */
  #imageView(src, prompt, place, canBeRemade) {
    const work = this.#work.at(place);
    const act = canBeRemade && this.#canAct ? () => this.regenerate(src) : null;
    const busy = this.#work.isStreaming ? words.redoLater : "";
    const note = this.#notes.get(place) ?? "";
    const view = { ...NOTHING, state: "image", picture: imageAddress(src), prompt, problem: note, act, busy };
    if (work === null || work.state === "cancelled") return view;
    if (work.state === "completed") {
      const replaces = (this.getAttribute("mode") || "replace-image") === "replace-image";
      const picture = replaces ? imageAddress(work.image_url) ?? view.picture : view.picture;
      return { ...view, picture, busy: words.redoBusy, status: this.#work.isLive ? words.completed : "" };
    }
    if (work.state === "failed") {
      const problem = note || `${words.redoFailed} ${asSentence(work.problem?.message)}`.trim();
      return { ...view, problem, retry: act, retryLater: busy };
    }
    return { ...view, ...this.#workView(work), state: "working", busy: words.redoBusy };
  }

  #workView(work) {
    const percent = work.fraction === null || work.fraction === undefined ? "" : ` ${words.percent(Math.round(work.fraction * 100))}`;
    const status = {
      asked: words.asked,
      queued: words.queued,
      generating: words.generatingOne + percent,
      waiting: words.waiting,
    }[work.state];
    const running = work.state === "generating";
    return { status, running, fraction: running ? work.fraction : null, preview: this.#previewOf(work) };
  }

  #previewOf(work) {
    return work.preview ? new URL(work.preview, this.#base).href : null;
  }

  #showPanel() {
    const view = this.#panelView();
    this.#panel.show(view);
  }

  #panelView() {
    const work = this.#work;
    const prompts = [...work.prompts.values()].map((prompt) => ({
      ...prompt,
      picture: this.#previewOf(prompt) ?? (prompt.image_url ? imageAddress(prompt.image_url) : null),
    }));
    const lost = [...work.failures.values()]
      .filter((prompt) => this.#hasText && !this.#growing && !this.#shownPlaces.has(prompt.place))
      .map((prompt) => ({
        prompt: prompt.prompt,
        problem: asSentence(prompt.problem?.message) || words.imageFailed,
        retry: this.#canAct && !work.isStreaming ? () => this.retry(prompt.prompt_id) : null,
      }));
    const base = { failed: "", fraction: null, prompts: [], cancel: null, cancelling: false, note: this.#panelNote, lost };
    if (work.isLive && (work.counts?.total ?? 0) > 0) {
      const { total, completed, failed } = work.counts;
      const label = work.kind === "regeneration" ? words.regenerating(completed, total) : words.generating(completed, total);
      const inserting = work.state === "inserting";
      return {
        ...base,
        label: inserting ? words.inserting : label,
        failed: failed > 0 ? words.failedCount(failed) : "",
        fraction: this.#fraction(work),
        prompts,
        cancel: this.#canAct && !inserting ? () => this.cancel() : null,
        cancelling: this.#cancelling,
      };
    }
    const troubled = work.result !== null && (work.state === "failed" || lost.length > 0);
    if (!this.#lingering && !troubled) return lost.length ? { ...base, label: "" } : null;
    const label = this.#panelNote && work.state !== "done" ? this.#panelNote : this.#summary();
    return { ...base, note: label === this.#panelNote ? "" : this.#panelNote, label, prompts: this.#lingering ? prompts : [] };
  }

  #fraction({ prompts, counts }) {
    let done = counts.completed + counts.failed + counts.cancelled;
    for (const prompt of prompts.values()) if (prompt.state === "generating") done += prompt.fraction ?? 0;
    return Math.min(1, done / counts.total);
  }

  /** How the session came out, for eyes and ears. */
  #summary() {
    const { result, state } = this.#work;
    if (result === null) return "";
    if (state === "cancelled") return words.cancelled;
    if (state === "failed") return asSentence(result.problem?.message) || words.sessionFailed;
    const ready = result.placed.length;
    const failed = this.#work.stillFailed;
    if (failed === 0) return ready ? words.allReady(ready) : "";
    return ready ? words.someReady(ready, failed) : words.noneReady(failed);
  }

  #lastWords() {
    const unplaced = this.#work.unplaced.length;
    return unplaced ? `${this.#summary()} ${words.notPlaced(unplaced)}`.trim() : "";
  }

  #linger() {
    this.#endLingering();
    if (!this.#summary() && !this.#panelNote) return;
    this.#lingering = setTimeout(() => {
      this.#endLingering();
      this.#panelNote = "";
      this.#schedule();
    }, LINGER_MS);
  }

  #endLingering() {
    clearTimeout(this.#lingering);
    this.#lingering = null;
  }

  #showConnection() {
    const waits = this.#work.isLive || this.#growing || this.#work.asked.size > 0 || !this.#hasText;
    const refused = this.#connection === "refused";
    this.#offline.hidden = !(refused || (this.#connection === "lost" && waits));
    setText(this.#offline.lastChild, refused ? words.refusedStream : words.offline);
    this.#offline.classList.toggle("trying", !refused);
  }

  // --- for ears

  /** Begin, now and then, end: a screen reader is not to be told every step. */
  #announceProgress() {
    const { session, kind, counts, isLive } = this.#work;
    if (!isLive || !counts?.total) return;
    if (this.#announced.session !== session) {
      this.#announced = { session, ready: 0 };
      this.#announce(kind === "regeneration" ? words.announceAgain(counts.total) : words.announceStart(counts.total));
      return;
    }
    if (counts.completed === this.#announced.ready || counts.completed === counts.total) return;
    this.#announced.ready = counts.completed;
    this.#announce(words.announceReady(counts.completed, counts.total));
  }

  #nextAnnouncement = "";

  #announce(text, now = false) {
    this.#nextAnnouncement = text;
    if (this.#announcing !== null && !now) return;
    clearTimeout(this.#announcing);
    this.#announcing = setTimeout(() => {
      this.#announcing = null;
      if (this.#nextAnnouncement) this.#announce(this.#nextAnnouncement);
    }, ANNOUNCE_MS);
    this.#nextAnnouncement = "";
    setText(this.#status, text);
  }
}

// --- STYLE: its looks ---------------------------------------------------------------------------------------------

let shared = null;

/** One sheet for all elements of the page. */
function sheet() {
  if (shared === null) {
    shared = new CSSStyleSheet();
    shared.replaceSync(STYLE);
  }
  return shared;
}

// Tints are mixed from the page's own text colour, so that they fit any background; only the accent and the
// colour of errors come in two versions, by the page's `color-scheme`.
const STYLE = `
:host {
  --_accent: var(--limner-accent, light-dark(#8a5a14, #e2b76f));
  --_error: var(--limner-error, light-dark(#a3332a, #f0a299));
  --_radius: var(--limner-radius, 0.75rem);
  --_faint: color-mix(in oklab, currentColor 5%, transparent);
  --_soft: color-mix(in oklab, currentColor 9%, transparent);
  --_line: color-mix(in oklab, currentColor 16%, transparent);
  --_muted: color-mix(in oklab, currentColor 72%, transparent);
  display: block;
  max-width: var(--limner-measure, 42rem);
  font-family: var(--limner-font, inherit);
  line-height: var(--limner-line-height, 1.65);
  overflow-wrap: anywhere;
  text-align: start;
}
:host([hidden]), [hidden] { display: none !important; }
*, *::before, *::after { box-sizing: border-box; }
.unseen {
  position: absolute; width: 1px; height: 1px; margin: -1px; padding: 0;
  overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
:host { position: relative; }

/* --- the text */
.text { outline: none; }
.text p, .text ul, .text ol, .text blockquote, .text pre, .text h3, .text h4, .text h5, .text h6, .text hr, .row { margin: 0; }
.block + .block, .block > * + *, blockquote > * + *, li > * + p, li > * + pre, li > p + * { margin-block-start: 0.9em; }
.text p { text-wrap: pretty; }
.text :is(h3, h4, h5, h6) { line-height: 1.3; font-weight: 650; text-wrap: balance; letter-spacing: -0.005em; }
.block + .block > .h1:first-child, .block + .block > .h2:first-child { margin-block-start: 0.7em; }
.h1 { font-size: 1.45em; } .h2 { font-size: 1.25em; } .h3 { font-size: 1.1em; } .h4, .h5, .h6 { font-size: 1em; }
.text :is(ul, ol) { padding-inline-start: 1.5em; }
.text li + li, .text li > :is(ul, ol) { margin-block-start: 0.3em; }
.text li::marker { color: var(--_muted); }
.text blockquote { padding-inline-start: 1em; border-inline-start: 3px solid var(--_line); color: var(--_muted); }
.text hr { border: 0; height: 1.5em; text-align: center; color: var(--_muted); }
.text hr::before { content: "⁂"; }
.text a { color: var(--_accent); text-underline-offset: 0.18em; text-decoration-thickness: from-font; border-radius: 2px; }
.text code { font-family: var(--limner-code-font, ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, monospace); font-size: 0.88em; }
.text :not(pre) > code { padding: 0.12em 0.36em; border-radius: 0.35em; background: var(--_soft); }
.text pre {
  position: relative; padding: 0.9em 1.1em; overflow-x: auto; overflow-wrap: normal; line-height: 1.5;
  border-radius: var(--_radius); background: var(--_faint); box-shadow: inset 0 0 0 1px var(--_soft);
}
.text pre[data-language]::after {
  content: attr(data-language); position: absolute; inset: 0.55em 0.9em auto auto;
  font-size: 0.72em; color: var(--_muted); pointer-events: none;
}
.text pre[data-language] { padding-block-start: 1.9em; }
details { color: var(--_muted); font-size: 0.92em; }
summary { cursor: pointer; width: fit-content; padding: 0.15em 0; border-radius: 0.35em; }
.thought-text { margin-block-start: 0.4em; padding-inline-start: 1em; border-inline-start: 2px solid var(--_line); white-space: pre-wrap; }

/* The end of a text that still comes. */
.streaming .block:last-child > :is(p, h3, h4, h5, h6):last-child::after,
.streaming:empty::after {
  content: ""; display: inline-block; width: 0.5em; height: 0.5em; margin-inline-start: 0.3em;
  border-radius: 50%; background: var(--_accent); vertical-align: 0.05em; animation: breathe 1.4s ease-in-out infinite;
}

/* --- images */
.slot { display: contents; }
.slot > details { grid-column: 1 / -1; }
.row {
  display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr));
}
.row:not(:has(figure:not([hidden]), details)) { display: none; }
.block + .block > .row:first-child, .block > * + .row { margin-block-start: 1.2em; }
.row + * { margin-block-start: 1.2em !important; }
figure { margin: 0; min-width: 0; width: 100%; max-width: var(--limner-image-width, 30rem); }
.frame {
  --ratio: 1.5;
  position: relative; display: block; isolation: isolate; overflow: hidden; padding: 0; border: 0;
  width: min(100%, var(--limner-image-height, 34rem) * var(--ratio)); aspect-ratio: var(--ratio);
  font: inherit; color: inherit; text-align: start; border-radius: var(--_radius); background: var(--_soft);
  transition: box-shadow 0.25s ease, aspect-ratio 0.25s ease;
}
button.frame { cursor: pointer; }
figure[data-state="image"] .frame { box-shadow: 0 0 0 1px var(--_faint), 0 1px 2px rgb(0 0 0 / 0.08), 0 6px 20px -8px rgb(0 0 0 / 0.18); }
button.frame:not([aria-disabled="true"]):hover { box-shadow: 0 0 0 1px var(--_line), 0 2px 4px rgb(0 0 0 / 0.1), 0 14px 32px -12px rgb(0 0 0 / 0.3); }
:is(a, .frame, .button, summary, pre):focus-visible { outline: 3px solid var(--_accent); outline-offset: 3px; }
.frame img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; border-radius: inherit; }
.broken .picture { object-fit: none; padding: 1rem; font-size: 0.85em; }
.working .picture { filter: saturate(0.45) brightness(0.82); transition: filter 0.4s ease; }
.preview, .entering { z-index: 1; }
.frame > :is(.veil, .chip, .bar) { z-index: 2; }
.preview { filter: blur(var(--blur, 2px)); transition: filter 0.4s ease; scale: 1.02; }
.empty { position: absolute; inset: 0; display: grid; place-items: center; color: var(--_muted); }
.empty .icon { width: 2.2rem; height: 2.2rem; opacity: 0.4; }
.working > .empty {
  background: linear-gradient(105deg, transparent 30%, color-mix(in oklab, var(--_accent) 18%, transparent) 50%, transparent 70%) 0 0 / 300% 100%;
  animation: sweep 2.8s linear infinite;
}
figure[data-state="failed"] { padding: 0.95rem 1.1rem; border: 1.5px dashed var(--_line); border-radius: var(--_radius); }
figure[data-state="failed"] .frame { display: none; }
figure[data-state="failed"] figcaption { margin: 0; }
.chip {
  position: absolute; inset: 0.7rem auto auto 0.7rem; max-width: calc(100% - 1.4rem); padding: 0.2em 0.75em; border-radius: 1em;
  font-size: 0.78rem; line-height: 1.5; font-variant-numeric: tabular-nums;
  color: #fff; background: rgb(20 18 16 / 0.62); backdrop-filter: blur(8px);
}
.bar { display: block; overflow: hidden; height: 4px; border-radius: 2px; background: var(--_soft); }
.bar > span {
  display: block; height: 100%; border-radius: inherit; background: var(--_accent); transform-origin: 0 50%;
  transform: scaleX(var(--done, 0)); transition: transform 0.4s ease-out;
}
:dir(rtl) .bar > span { transform-origin: 100% 50%; }
.frame > .bar { position: absolute; inset: auto 0 0 0; border-radius: 0; background: rgb(20 18 16 / 0.35); }
.frame > .bar > span { border-radius: 0; background: light-dark(#f0c877, #e2b76f); }
.bar.unknown > span { width: 35%; transform: none; animation: glide 1.8s ease-in-out infinite; }
.veil {
  position: absolute; inset: auto 0 0 0; display: flex; gap: 1rem; align-items: end; justify-content: space-between;
  max-height: 100%; padding: 2.6rem 0.9rem 0.75rem; color: #fff; font-size: 0.84rem; line-height: 1.4;
  background: linear-gradient(transparent, rgb(14 12 10 / 0.55) 40%, rgb(14 12 10 / 0.82)); opacity: 0; translate: 0 0.4rem;
  transition: opacity 0.2s ease, translate 0.2s ease; pointer-events: none;
}
.veil-text { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 5; overflow: hidden; }
.veil-hint { display: inline-flex; gap: 0.4em; align-items: center; flex: none; font-weight: 600; }
.frame:hover .veil, .frame:focus-visible .veil { opacity: 1; translate: 0 0; }
.icon { width: 1.15em; height: 1.15em; flex: none; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
figcaption {
  margin-block-start: 0.5rem; font-size: 0.82rem; line-height: 1.45; color: var(--_muted); font-style: italic;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden;
}
figcaption:empty { display: none; }
/* While the image shows it, in full, it need not be said twice. */
figcaption { transition: opacity 0.2s ease; }
figure[data-state="image"]:has(.frame:hover, .frame:focus-visible) figcaption { opacity: 0.3; }
.problem {
  display: flex; gap: 0.5em; align-items: start; margin-block: 0.5rem 0 !important;
  font-size: 0.86rem; line-height: 1.45; color: var(--_error);
}
.problem .icon { margin-block-start: 0.14em; }
.problem + .button { margin-block-start: 0.6rem; }

/* --- buttons */
.button {
  display: inline-flex; gap: 0.45em; align-items: center; min-height: 2rem; padding: 0.2rem 0.85rem; border: 0; border-radius: 1rem;
  font: inherit; font-size: 0.84rem; line-height: 1.3; color: inherit; cursor: pointer;
  background: var(--_soft); transition: background 0.15s ease;
}
.button:hover { background: var(--_line); }
[aria-disabled="true"] { cursor: default; }
.button[aria-disabled="true"] { opacity: 0.55; }

/* --- the progress of all images */
.panel {
  margin-block-start: 1.2em; padding: 0.8rem 0.95rem; border-radius: var(--_radius); font-size: 0.88rem; line-height: 1.45;
  background: var(--_faint); box-shadow: inset 0 0 0 1px var(--_soft); animation: arrive 0.35s ease-out;
}
.panel { display: flex; flex-wrap: wrap; gap: 0.65rem 0.9rem; align-items: center; }
.panel > .bar, .panel > .note, .panel > .lost { flex: 1 0 100%; }
.thumbnails { display: flex; flex-wrap: wrap; gap: 0.45rem; align-items: center; }
.thumbnails:empty { display: none; }
.thumbnail {
  position: relative; width: 2.75rem; height: 2.75rem; overflow: hidden; border-radius: 0.5rem; background: var(--_soft);
  animation: arrive 0.35s ease-out;
}
.thumbnail img { display: block; width: 100%; height: 100%; object-fit: cover; transition: filter 0.4s ease, opacity 0.4s ease; }
.thumbnail[data-state="generating"]::after {
  content: ""; position: absolute; inset: auto 0 0 0; height: 3px; background: var(--_accent); transform-origin: 0 50%;
  transform: scaleX(max(0.06, var(--done, 0))); transition: transform 0.4s ease-out;
}
.thumbnail:is([data-state="queued"], [data-state="waiting"]) { animation: breathe 2.2s ease-in-out infinite; }
.mark { position: absolute; display: grid; place-items: center; }
.mark:empty { display: none; }
[data-state="completed"] > .mark { inset: auto 0.2rem 0.2rem auto; width: 1.05rem; height: 1.05rem; border-radius: 50%; color: #fff; background: rgb(20 18 16 / 0.62); }
[data-state="completed"] > .mark .icon { width: 0.75rem; height: 0.75rem; stroke-width: 3; }
[data-state="failed"] > .mark { inset: 0; color: var(--_error); background: var(--_faint); }
[data-state="failed"] > img { opacity: 0.3; }
.more { color: var(--_muted); font-variant-numeric: tabular-nums; }
.line { flex: 1 1 14rem; display: flex; flex-wrap: wrap; gap: 0.3rem 0.7rem; align-items: center; min-height: 2rem; }
.label { font-variant-numeric: tabular-nums; }
.label:empty { display: none; }
.line .failed { color: var(--_error); }
.line .button { margin-inline-start: auto; }
.note { margin: 0; color: var(--_muted); }
.lost { margin: 0; padding: 0; list-style: none; display: grid; gap: 0.7rem; }
.lost li { display: grid; gap: 0.2rem; justify-items: start; color: var(--_error); }
.lost .what { color: var(--_muted); font-style: italic; }

/* --- the connection */
.offline { display: flex; gap: 0.6em; align-items: center; margin: 0.9em 0 0; font-size: 0.84rem; color: var(--_muted); }
.dot { flex: none; width: 0.5em; height: 0.5em; border-radius: 50%; background: var(--_error); }
.trying .dot { background: var(--_accent); animation: breathe 1.8s ease-in-out infinite; }

@keyframes breathe { 50% { opacity: 0.35; } }
@keyframes sweep { from { background-position: 100% 0; } to { background-position: -50% 0; } }
@keyframes glide { from { translate: -110% 0; } to { translate: 310% 0; } }
@keyframes arrive { from { opacity: 0; translate: 0 0.35rem; } }

@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after { animation: none !important; transition: none !important; }
  .bar.unknown > span { width: 100%; opacity: 0.4; }
}
@media (forced-colors: active) {
  .frame, .panel, .button, .thumbnail { border: 1px solid CanvasText; }
  .bar > span { background: Highlight; forced-color-adjust: none; }
}
`;

// The page may have loaded the module from two apps; the first one stays.
if (!customElements.get("limner-message")) customElements.define("limner-message", LimnerMessage);
