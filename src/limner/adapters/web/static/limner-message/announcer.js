/** What a screen reader is told: the beginning, now and then something, and the end. */

import { make, setText } from "./dom.js";
import { words } from "./words.js";

/** How far apart a screen reader is told of progress. */
const ANNOUNCE_MS = 6_000;

export class Announcer {
  element = make("p", { className: "unseen", role: "status" });
  #told = { session: null, ready: 0 };
  #next = "";
  #timer = null;

  /** Begin, now and then, end: nobody is to be told every step. */
  progress({ session, kind, counts, isLive }) {
    if (!isLive || !counts?.total) return;
    if (this.#told.session !== session) {
      this.#told = { session, ready: 0 };
      this.say(kind === "regeneration" ? words.announceAgain(counts.total) : words.announceStart(counts.total));
      return;
    }
    if (counts.completed === this.#told.ready || counts.completed === counts.total) return;
    this.#told.ready = counts.completed;
    this.say(words.announceReady(counts.completed, counts.total));
  }

  /** Say it when the last one is long enough ago, unless something newer comes; or `now`. */
  say(text, now = false) {
    this.#next = text;
    if (this.#timer !== null && !now) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (this.#next) this.say(this.#next);
    }, ANNOUNCE_MS);
    this.#next = "";
    setText(this.element, text);
  }

  /** The element leaves the page. */
  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }
}
