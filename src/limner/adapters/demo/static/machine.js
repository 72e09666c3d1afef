// The machine of one message: the diagram of diagrams/session.svg with the present state lit and the way here
// drawn in a second tone, and the events so far.

const BASE = "/limner/";
const FINAL = new Set(["done", "failed", "cancelled"]);
const REFRESH_MS = 1000;
const MOST_EVENTS = 200;

export class MachinePanel {
  #panel;
  #opener;
  #parts = {};
  #diagram = null;
  #message = null;
  #chosen = null;
  #titleOf = () => "";
  #known = [];
  #timer = null;
  #asked = 0;
  #begun = new Set();
  #listed = { first: "", entries: 0 };

  constructor(panel, opener) {
    this.#panel = panel;
    this.#opener = opener;
    for (const name of ["of", "state", "picture", "events", "wide", "close"]) {
      this.#parts[name] = panel.querySelector(`#machine-${name}`);
    }
    opener.addEventListener("click", () => (panel.hidden ? this.show(null) : this.close()));
    this.#parts.close.addEventListener("click", () => this.close());
    this.#parts.wide.addEventListener("click", () => {
      const wide = panel.classList.toggle("wide");
      this.#parts.wide.setAttribute("aria-pressed", String(wide));
      this.#parts.wide.textContent = wide ? "Reduce" : "Enlarge";
      this.#diagram?.centre();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "." && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        if (panel.hidden) this.show(null);
        else this.close();
      } else if (event.key === "Escape" && !panel.hidden && !document.querySelector("dialog[open]")) {
        this.close();
      }
    });
  }

  /** Open the panel, for a message or for the one at hand. */
  show(message, chosen = false) {
    if (chosen) this.#chosen = message;
    this.#turnTo(message ?? this.#message ?? this.#known.at(-1) ?? null);
    if (this.#panel.hidden) {
      this.#panel.hidden = false;
      document.body.classList.add("with-machine");
      this.#opener.setAttribute("aria-expanded", "true");
    }
    this.#parts.close.focus({ preventScroll: true });
    this.#refresh();
  }

  close() {
    if (this.#panel.hidden) return;
    const inside = this.#panel.contains(document.activeElement);
    this.#panel.hidden = true;
    document.body.classList.remove("with-machine");
    this.#opener.setAttribute("aria-expanded", "false");
    clearTimeout(this.#timer);
    this.#timer = null;
    if (inside) this.#opener.focus({ preventScroll: true });
  }

  /** A new message begins: it is the one at hand. */
  follow(message) {
    this.#chosen = null;
    this.#turnTo(message);
  }

  /** Something happened to a message; while it works it is the one at hand, unless another was chosen. */
  happened(message, working) {
    this.#begun.add(message);
    if (message !== this.#message && working && this.#chosen === null) this.#turnTo(message);
    if (message === this.#message) this.#refresh();
  }

  /** The messages that there are, oldest first, and what to call them. */
  consider(messages, titleOf) {
    this.#known = messages;
    this.#titleOf = titleOf;
    this.#turnTo(messages.includes(this.#message) ? this.#message : (messages.at(-1) ?? null));
  }

  forget(message) {
    if (this.#chosen === message) this.#chosen = null;
    if (this.#message === message) this.#turnTo(null);
  }

  #turnTo(message) {
    if (message !== this.#message) {
      this.#message = message;
      this.#listed = { first: "", entries: 0 };
      this.#parts.events.replaceChildren();
      this.#refresh();
    }
    const title = message === null ? "" : this.#titleOf(message);
    this.#parts.of.textContent = title ? `“${title}”` : "";
  }

  #refresh() {
    if (this.#panel.hidden || this.#timer !== null) return;
    // Several things happen at once; one look is enough for them.
    this.#timer = setTimeout(async () => {
      const asked = ++this.#asked;
      const told = await this.#ask();
      this.#timer = null;
      if (asked !== this.#asked || this.#panel.hidden) return;
      await this.#tell(told);
      if (told !== null && !FINAL.has(told.state)) this.#later();
    }, 60);
  }

  #later() {
    setTimeout(() => this.#refresh(), REFRESH_MS);
  }

  async #ask() {
    if (!this.#begun.has(this.#message)) return null;
    const message = this.#message;
    try {
      const answer = await fetch(`${BASE}machine?message=${encodeURIComponent(message)}`, { cache: "no-store" });
      const told = answer.ok ? await answer.json() : null;
      return message === this.#message ? told : null;
    } catch {
      return null;
    }
  }

  async #tell(told) {
    this.#diagram ??= await Diagram.load(this.#parts.picture);
    const history = told?.history ?? [];
    const state = told?.state ?? "";
    this.#diagram?.light(state, lastSession(history));
    const words = this.#diagram?.meaning(state) ?? "";
    const name = document.createElement("strong");
    name.textContent = state;
    this.#parts.state.dataset.state = state;
    const shownState = state ? [name, words ? ` ${words}` : ""] : ["Nothing has happened yet."];
    if (this.#parts.state.textContent !== shownState.map((part) => part.textContent ?? part).join("")) {
      this.#parts.state.replaceChildren(...shownState);
    }
    this.#list(history);
  }

  #list(history) {
    const entries = history.slice(-MOST_EVENTS);
    const first = entries.length ? `${entries[0].at} ${entries[0].event}` : "";
    let had = this.#listed.entries;
    if (first !== this.#listed.first || entries.length < had) {
      this.#parts.events.replaceChildren();
      had = 0;
    }
    this.#listed = { first, entries: entries.length };
    // Times are told from the beginning of the session that an event belongs to.
    let began = 0;
    let session = null;
    const rows = entries.map((entry) => {
      if (session === null || beginsSession(entry)) {
        session = entry;
        began = entry.at;
      }
      return [entry, entry.at - began];
    });
    // The newest stands first.
    this.#parts.events.prepend(...rows.slice(had).map(([entry, ms]) => row(entry, ms)).reverse());
  }
}

const ofSession = (entry) => entry.machine === undefined || entry.machine === "session";
const beginsSession = (entry) => ofSession(entry) && entry.before === "idle";

/** The entries of the last session: a message is first written, and its pictures may be made anew later. */
function lastSession(history) {
  const begin = history.findLastIndex(beginsSession);
  return history.slice(Math.max(begin, 0)).filter(ofSession);
}

function row(entry, ms) {
  const item = document.createElement("li");
  item.className = ofSession(entry) ? "of-session" : "of-prompt";
  const part = (name, className, words) => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = words;
    return made;
  };
  item.append(
    part("span", "when", `${(ms / 1000).toFixed(1)} s`),
    part("span", "event", entry.event),
    part("span", "then", entry.before === entry.after ? entry.after : `${entry.before} → ${entry.after}`),
  );
  if (entry.detail) {
    const detail = part("span", "detail", entry.detail);
    detail.dir = "auto";
    item.append(detail);
  }
  return item;
}

/** What an event is called in the chart, where it stands for something that the session notices. */
const OCCASIONS = {
  time_passed: ["debounce_elapsed", "drain_timed_out"],
  generation_succeeded: ["prompt_settled"],
  generation_failed: ["prompt_settled"],
};

const XLINK = "http://www.w3.org/1999/xlink";

class Diagram {
  #frame;
  #svg;
  #nodes = new Map();
  #edges = [];
  #meanings = new Map();
  #lit = null;

  static async load(frame) {
    try {
      const answer = await fetch(`${BASE}machine.svg`);
      if (!answer.ok) return null;
      const parsed = new DOMParser().parseFromString(await answer.text(), "image/svg+xml");
      return new Diagram(frame, document.importNode(parsed.documentElement, true));
    } catch {
      return null;
    }
  }

  constructor(frame, svg) {
    this.#frame = frame;
    this.#svg = svg;
    svg.removeAttribute("width");
    svg.removeAttribute("height");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", "The states of a message and the events that lead from one to the other");
    for (const node of svg.querySelectorAll("g.node")) {
      const name = node.querySelector("title").textContent;
      this.#nodes.set(name, node);
      const told = node.querySelector("a")?.getAttributeNS(XLINK, "title") ?? "";
      this.#meanings.set(name, told.split("\n")[0].replace(/^\w+: /, ""));
    }
    for (const edge of svg.querySelectorAll("g.edge")) {
      // What an edge stands for is in its tooltip; it may stand for several transitions, and be drawn backwards.
      const told = edge.querySelector("a")?.getAttributeNS(XLINK, "title") ?? "";
      for (const line of told.split("\n")) {
        const found = /^(\w+): (\w+)(?: \[[^\]]*\])? → (\w+)/.exec(line);
        if (found) this.#edges.push({ edge, before: found[1], event: found[2], after: found[3] });
      }
    }
    frame.replaceChildren(svg);
  }

  meaning(state) {
    return this.#meanings.get(state) ?? "";
  }

  light(state, history) {
    for (const part of this.#svg.querySelectorAll(".lit, .taken")) part.classList.remove("lit", "taken");
    for (const entry of history) {
      if (entry.before === entry.after) continue;
      this.#nodes.get(entry.before)?.classList.add("taken");
      this.#nodes.get(entry.after)?.classList.add("taken");
      for (const step of this.#way(entry)) {
        step.edge.classList.add("taken");
        this.#nodes.get(step.after)?.classList.add("taken");
      }
    }
    const node = this.#nodes.get(state);
    node?.classList.remove("taken");
    node?.classList.add("lit");
    if (node !== this.#lit) {
      this.#lit = node ?? null;
      this.centre();
    }
  }

  /** The edges of one event: one, or two where a state was left in the same instant. */
  #way({ before, event, after }) {
    const wanted = [event, ...(OCCASIONS[event] ?? [])];
    const from = this.#edges.filter((edge) => edge.before === before);
    // What an event is for the chart depends on the state; where that is not known, the states say enough.
    for (const steps of [from.filter((edge) => wanted.includes(edge.event)), from]) {
      const direct = steps.find((edge) => edge.after === after);
      if (direct) return [direct];
      for (const step of steps) {
        const next = this.#edges.find((edge) => edge.before === step.after && edge.after === after);
        if (next && step.after !== before) return [step, next];
      }
    }
    return [];
  }

  /** Bring the present state into view where the picture is wider than its frame. */
  centre() {
    if (this.#lit === null) return;
    const frame = this.#frame.getBoundingClientRect();
    const node = this.#lit.getBoundingClientRect();
    this.#frame.scrollBy({
      left: node.left + node.width / 2 - frame.left - frame.width / 2,
      behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
    });
  }
}
