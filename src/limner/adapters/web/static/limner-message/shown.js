/** The message's text as it stands in the page, and the figures in it. */

import { sameForm } from "./addresses.js";
import { countCharacters, firstCharacters } from "./characters.js";
import { make, setText } from "./dom.js";
import { Figure } from "./figure.js";
import { RenderedText } from "./rendered.js";
import { MARK, MARK_OPEN, Source } from "./tags.js";
import { imageView, tagView } from "./views.js";
import { words } from "./words.js";
import { imagePlace, tagPlace } from "./work.js";

export class ShownText {
  element = make("div", { part: "text", className: "text" });
  /** Whether any text was brought, be it empty. */
  isKnown = false;
  /** The places of images that are shown; see `Work`. */
  places = new Set();

  #source = new Source();
  #rendered;
  #renderer = null;
  #baseOf;
  #characters = 0; // as the server counts them
  #changed = false;
  #allChanged = false;
  #wasGrowing = false;
  #slots = new Map();
  #views = new Map(); // by the id of a slot
  #loose = new Set(); // figures of images that belong to no tag

  /** `baseOf()` is the address of the app, whose images can be made anew. */
  constructor(baseOf) {
    this.#baseOf = baseOf;
    this.element.tabIndex = -1;
    this.#rendered = new RenderedText(this.element, {
      slot: (id) => this.#slotElement(id),
      image: (image) => this.#looseImage(image),
    });
  }

  // --- the text

  get text() {
    return this.#source.text;
  }

  set text(text) {
    this.isKnown = true;
    if (text === this.#source.text) return; // the same again, after a reconnection
    this.#source.text = text;
    this.#characters = countCharacters(text);
    this.#changed = true;
  }

  append(text) {
    this.isKnown = true;
    this.#source.append(text);
    this.#characters += countCharacters(text);
    this.#changed = true;
  }

  /** From this character on it is `text`; false where a piece between is missing. */
  continueAt(start, text) {
    if (start > this.#characters) return false;
    if (start === 0) this.text = text;
    else if (start === this.#characters) this.append(text);
    else this.text = firstCharacters(this.#source.text, start) + text;
    return true;
  }

  forget() {
    this.text = "";
    this.isKnown = false;
  }

  /** What marks a prompt. */
  set tags(tags) {
    if (JSON.stringify(tags) === JSON.stringify(this.#source.tags)) return;
    this.#source.tags = tags;
    this.#renderAnew();
  }

  get renderer() {
    return this.#renderer;
  }

  set renderer(renderer) {
    this.#renderer = renderer;
    this.#renderAnew();
  }

  // --- rendering it

  #renderAnew() {
    this.#rendered.clear();
    this.#changed = this.#allChanged = true;
  }

  /** Bring the page in line with the text. `growing`: more of it will come. */
  render(growing) {
    if (!this.#changed && this.#wasGrowing === growing) return;
    const { marked, slots, changedFrom } = this.#source.read(growing);
    this.#slots = new Map(slots.map((slot) => [slot.id, slot]));
    for (const id of this.#views.keys()) if (!this.#slots.has(id)) this.#views.delete(id);
    if (this.#renderer === null) this.#rendered.update(marked, this.#allChanged ? 0 : changedFrom);
    else this.#renderByPage(marked);
    this.#changed = this.#allChanged = false;
    this.#wasGrowing = growing;
    for (const loose of this.#loose) if (!this.element.contains(loose.figure.element)) this.#loose.delete(loose);
  }

  /** With the page's own renderer: it gets the text with marks in the place of tags, which are then replaced. */
  #renderByPage(marked) {
    let node;
    try {
      node = this.#renderer(marked);
    } catch (error) {
      console.error("limner-message: the page's renderer failed", error);
      this.#renderer = null;
      this.#rendered.clear();
      this.#rendered.update(marked, 0);
      return;
    }
    this.element.replaceChildren(node);
    const walker = document.createTreeWalker(this.element, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) if (walker.currentNode.data.includes(MARK_OPEN)) found.push(walker.currentNode);
    for (const text of found) {
      const pieces = text.data.split(MARK).map((piece, index) => (index % 2 ? this.#slotElement(Number(piece)) ?? "" : piece));
      text.replaceWith(...pieces);
    }
    for (const image of this.element.querySelectorAll("img:not(.slot img)")) {
      const src = image.getAttribute("src");
      if (src && this.#isOurs(src)) image.replaceWith(this.#looseImage({ src, alt: image.alt }));
    }
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
    return sameForm(src).startsWith(sameForm(new URL("images/", this.#baseOf()).href));
  }

  // --- the figures in it

  /** Bring the figures in line with how everything stands; see `views.js`. */
  showFigures(now) {
    this.places = new Set();
    for (const [id, view] of this.#views) {
      const slot = this.#slots.get(id);
      if (slot === undefined) continue;
      if (slot.kind === "thought") {
        setText(view.summary, slot.open && now.growing ? words.thinking : words.thoughts);
        setText(view.body, slot.text.trim());
      } else this.#showTag(now, slot, view);
    }
    for (const { figure, src, alt } of this.#loose) {
      const place = imagePlace(src);
      this.places.add(place);
      figure.show(imageView(now, src, alt, place, this.#isOurs(src)));
    }
  }

  /** A tag's own image, and those that were put behind it. */
  #showTag(now, slot, view) {
    const count = Math.max(1, slot.images.length);
    while (view.figures.length < count) view.figures.push(new Figure());
    view.figures.length = count;
    const elements = view.figures.map((figure) => figure.element);
    const present = view.element.childNodes;
    if (present.length !== count || elements.some((element, index) => present[index] !== element)) {
      view.element.replaceChildren(...elements);
    }
    view.figures.forEach((figure, index) => {
      const image = slot.images[index];
      const place = image ? imagePlace(image.src) : tagPlace(slot.prompt, slot.occurrence);
      this.places.add(place);
      figure.show(image ? imageView(now, image.src, slot.prompt, place, true) : tagView(now, slot.prompt, place));
    });
  }
}
