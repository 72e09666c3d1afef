/** One connection that brings events, and comes back by itself where it is lost. */

import { NOT_OF_THE_APP, Refused, ask, isNone, noApp } from "./requests.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** The server says something every 15 s; a connection that is silent for longer than this is dead. */
const SILENCE_MS = 45_000;
/** A connection that held for so long was a good one: the next pause is the first again. */
const STEADY_MS = 5_000;
/** A proxy says for a moment that there is nothing, while the app behind it is started. */
const MISSES_TO_TELL = 3;

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
export class Channel {
  messages = new Set();
  #hub;
  #lastId = null;
  #connection = null;
  #failures = 0;
  #misses = 0;
  #wake = null;

  constructor(hub) {
    this.#hub = hub;
  }

  /** With the next connection everything comes as it stands, for messages that were not asked for before. */
  forget() {
    this.#lastId = null;
  }

  /** Connect anew, and read on from where it was. */
  restart() {
    this.close();
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
      let missed = false;
      try {
        await this.#follow(connection, () => (opened = Date.now()));
      } catch (error) {
        if (connection.signal.aborted) return;
        missed = isNone(error) && (await this.#hub.isMissing());
        if (connection.signal.aborted) return;
        if (!missed && error instanceof Refused && error.status < 500 && error.status !== 429) {
          if (await this.#dropRefused(connection, error)) continue;
          if (this.messages.size === 0) return;
        }
      }
      if (connection.signal.aborted) return;
      if (opened && Date.now() - opened >= STEADY_MS) this.#failures = 0;
      this.#failures++;
      this.#misses = missed ? this.#misses + 1 : 0;
      if (this.#misses >= MISSES_TO_TELL) this.#tell("absent", noApp(this.#hub.base));
      else if (!missed && this.#failures > 1) this.#tell("lost");
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
      // Some servers answer whatever they do not know with their first page.
      if (!/^text\/event-stream\b/i.test(response.headers.get("content-type") ?? "")) throw new Refused(response.status);
      whenOpen();
      this.#hub.isFound = true;
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
        if (!(error instanceof Refused) || error.status >= 500) continue;
        // That Limner does not know it yet is no refusal, and neither is a 404 of a proxy before the app.
        if (error.status === 404 && ["unknown_message", NOT_OF_THE_APP].includes(error.kind)) continue;
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
