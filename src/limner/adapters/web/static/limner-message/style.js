/** The looks of the element. Custom properties and parts are listed in docs/element.md. */

let shared = null;

/** One sheet for all elements of the page. */
export function sheet() {
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
  /* A picture may have letters of its own there; they must not be read together with these. */
  background: linear-gradient(transparent, rgb(14 12 10 / 0.97) 2.4rem); opacity: 0; translate: 0 0.4rem;
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
