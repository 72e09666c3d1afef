/** One stream of events per app for all elements of a page. */

import { Channel } from "./channel.js";
import { ask, isNone } from "./requests.js";
import { DEFAULT_TAGS } from "./tags.js";

const MOST_MESSAGES = 100;
/** For so long a hidden page keeps its stream: who switches to and fro does not notice. */
const GRACE_MS = 10_000;

/** All elements of a page that follow messages of one app. */
export class Hub {
  static #hubs = new Map();

  static at(base) {
    if (!Hub.#hubs.has(base)) Hub.#hubs.set(base, new Hub(base));
    return Hub.#hubs.get(base);
  }

  /** Whether the app has ever answered; if it then does not, it is away. */
  isFound = false;
  #listeners = new Map();
  #channels = [];
  #fresh = new Set();
  #left = new Map();
  #pending = false;
  #tags = null;
  #asleep = false;
  #grace = null;

  constructor(base) {
    this.base = base;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => this.#look());
    // A page in the back-forward cache must not hold a connection.
    addEventListener("pagehide", () => this.#sleep());
    addEventListener("pageshow", (event) => event.persisted && this.#look());
    this.#look();
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

  /** Whether another server answers at the address, for all that can be known. */
  async isMissing() {
    if (this.isFound) return false;
    try {
      const tags = await (await ask(new URL("tags", this.base))).json();
      return !Array.isArray(tags);
    } catch (error) {
      return isNone(error) || error instanceof SyntaxError;
    }
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

  /**
   * A browser opens six connections to a server over HTTP/1.1, for all tabs together. So one that nobody looks at
   * gives its own up, and reads on from where it was when it is seen again.
   */
  #look() {
    clearTimeout(this.#grace);
    if (document.hidden) {
      this.#grace = setTimeout(() => this.#sleep(), GRACE_MS);
    } else if (this.#asleep) {
      this.#asleep = false;
      for (const channel of this.#channels) channel.restart();
    } else this.#hurry();
  }

  #sleep() {
    clearTimeout(this.#grace);
    this.#asleep = true;
    for (const channel of this.#channels) channel.close();
  }

  #hurry() {
    for (const channel of this.#channels) channel.hurry();
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
      for (const [channel, whole] of changed) {
        if (whole) channel.forget();
        if (!this.#asleep) channel.restart();
      }
    });
  }
}
