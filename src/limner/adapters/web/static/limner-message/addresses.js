/** Addresses in a message: which ones may be followed or shown, and when two are the same. */

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
export function imageAddress(address) {
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
export function linkAddress(address) {
  const url = parseAddress(address);
  if (url === null) return null;
  return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
}

const encodeOctets = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

/** One form for all spellings of an address, as the server has it, so that two can be compared. */
export function sameForm(address) {
  const href = parseAddress(address)?.href ?? address;
  if (href.startsWith("data:")) return href;
  return href
    .replace(/[^A-Za-z0-9\-._~:/?#@!$&*+,;=%]+/g, encodeOctets)
    .replace(/%([0-9A-Fa-f]{2})/g, (octet, digits) => {
      const char = String.fromCharCode(parseInt(digits, 16));
      return /[A-Za-z0-9\-._~]/.test(char) ? char : octet.toUpperCase();
    });
}
