/** What is known of a message's images: pure state, without DOM. */

import { sameForm } from "./addresses.js";

export const imagePlace = (url) => `image ${sameForm(url)}`;
export const tagPlace = (prompt, occurrence) => `tag ${occurrence} ${prompt.trim()}`;

/** Whether a session in this state has ended. */
export const isOver = (state) => ["done", "failed", "cancelled"].includes(state);

/**
 * The message's present session, its prompts, and what is left of earlier ones.
 *
 * A *place* is where an image stands or will stand: behind a tag, or at the address of the image that is to be
 * replaced. Each place has at most one piece of work.
 */
export class Work {
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
