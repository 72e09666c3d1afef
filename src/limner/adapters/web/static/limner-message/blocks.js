/** The blocks of a Markdown text: where each begins and ends, and of what kind it is. */

export const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})[ \t]*([^ \t]*)/;
export const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
export const QUOTE = /^ {0,3}> ?/;
export const ITEM = /^( {0,3})([-*+]|(\d{1,9})[.)])( {1,4}(?=\S)| *$| +)/;

/** The level of a heading's line, and its words without the marks around them. */
export function headingOf(line) {
  const [before, marks] = HEADING.exec(line);
  const words = line.slice(before.length).trimEnd();
  // By hand: a regex for blanks, then marks, then blanks tries them all anew from each blank on.
  let end = words.length;
  while (words[end - 1] === "#") end--;
  const isClosed = end === 0 || words[end - 1] === " " || words[end - 1] === "\t";
  return { level: marks.length, text: (isClosed ? words.slice(0, end) : words).trim() };
}

export const isBlank = (line) => !/\S/.test(line);
export const expandTabs = (line) => line.replace(/^[ \t]+/, (indent) => indent.replaceAll("\t", "    "));
const indentOf = (line) => line.length - line.trimStart().length;

/** Whether a line begins a block of its own even right behind a paragraph. */
function interrupts(line) {
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
  const item = ITEM.exec(line);
  return item !== null && !isBlank(line.slice(item[0].length)) && (item[3] === undefined || Number(item[3]) === 1);
}

/** The top-level blocks of a text: what kind, the source, and where it begins. */
export function splitBlocks(text) {
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

export const fenceCloser = (opening) => new RegExp(`^ {0,3}\\${opening[0]}{${opening.length},}[ \\t]*$`);

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
export function splitItems(source) {
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
