/** A text's characters: what stands at a place, what references spell, and how the server counts. */

/** What a sticky expression finds at a place, or null. */
export const matchAt = (regex, text, pos) => {
  regex.lastIndex = pos;
  return regex.exec(text)?.[0] ?? null;
};

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** The text that an attribute's value or a Markdown text spells with character references. */
export function decodeEntities(text) {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos|nbsp));/g, (whole, dec, hex, name) => {
    if (name) return ENTITIES[name];
    const code = dec ? Number(dec) : parseInt(hex, 16);
    return code === 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? "\ufffd" : String.fromCodePoint(code);
  });
}

/** The text without its backslashes and character references. */
export const unescapeMarkdown = (text) => decodeEntities(text.replace(/\\([!-/:-@[-`{-~])/g, "$1"));

/** How many characters as the server counts them: code points, not the halves that JavaScript counts. */
export function countCharacters(text) {
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
export function firstCharacters(text, count) {
  let end = 0;
  while (count-- > 0 && end < text.length) end += text.codePointAt(end) > 0xffff ? 2 : 1;
  return text.slice(0, end);
}
