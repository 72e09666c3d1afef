/**
 * <limner-message>: shows one message of a chat while it is streamed and illustrated.
 *
 *     <script type="module" src="/limner/limner-message.js"></script>
 *     <limner-message message="m1" token="…"></limner-message>
 *
 * Modules without dependencies and without a build step. This one is the element: what a page can do with it,
 * and what it does with what comes from the server. The others lie in `limner-message/`:
 *
 *     words       what the element says, for pages in other languages
 *     addresses   which ones may be followed or shown, and when two are the same
 *     characters  what stands at a place of a text, and how the server counts
 *     images      images as a message spells them
 *     tags        finds the prompt tags in a text that still grows, and takes them out
 *     blocks, markdown, inline   a small, safe rendering: text nodes and elements, never HTML from the message
 *     rendered    what is shown of a text, changed block by block
 *     shown       the message's text in the page, with the figures in it
 *     work        what is known of a message's images: pure state, without DOM
 *     views       what figures and the panel are to show of that
 *     figure      one image, from its prompt to the finished picture
 *     panel       the progress of all images of the message
 *     announcer   what a screen reader is told
 *     hub, channel, requests     one stream of events per app for all elements of a page
 *     dom, style  small helpers; the looks
 *
 * A message is written by a model, so nothing in it is trusted. Attributes, methods, events, parts and
 * custom properties are listed in docs/element.md.
 */

import { Announcer } from "./limner-message/announcer.js";
import { make, setText } from "./limner-message/dom.js";
import { Hub } from "./limner-message/hub.js";
import { Panel } from "./limner-message/panel.js";
import { Refused, ask, explain } from "./limner-message/requests.js";
import { ShownText } from "./limner-message/shown.js";
import { sheet } from "./limner-message/style.js";
import { lastWords, panelView, summary } from "./limner-message/views.js";
import { words } from "./limner-message/words.js";
import { Work, imagePlace, isOver } from "./limner-message/work.js";

// The rest, which those need. A browser that is told of all here asks for all at once, not for each when the
// one that needs it has come.
import "./limner-message/addresses.js";
import "./limner-message/blocks.js";
import "./limner-message/channel.js";
import "./limner-message/characters.js";
import "./limner-message/figure.js";
import "./limner-message/images.js";
import "./limner-message/inline.js";
import "./limner-message/markdown.js";
import "./limner-message/rendered.js";
import "./limner-message/tags.js";

export { words };

const HERE = new URL(".", import.meta.url).href;
/** How long the panel stays when all is done. */
const LINGER_MS = 4_000;

export class LimnerMessage extends HTMLElement {
  static observedAttributes = ["message", "token", "base", "mode", "readonly"];

  #root;
  #shown = new ShownText(() => this.#base);
  #panel = new Panel();
  #offline = make("p", { part: "offline", className: "offline", hidden: true });
  #announcer = new Announcer();

  #hub = null;
  #message = null;
  #work = new Work();

  #growing = false;
  #hostBrings = false;
  #connection = "open";

  #notes = new Map(); // by place: what became of a click that was refused
  #panelNote = "";
  #cancelling = false;
  #lingering = null;
  #wasLive = false;
  #frame = 0;

  constructor() {
    super();
    this.#root = this.attachShadow({ mode: "open" });
    this.#root.adoptedStyleSheets = [sheet()];
    this.#offline.append(make("span", { className: "dot" }), make("span"));
    this.#root.append(this.#shown.element, this.#panel.element, this.#offline, this.#announcer.element);
  }

  // --- what a page can do

  /** The message's text as it is shown, with its tags. Setting it means that the page brings the text. */
  get text() {
    return this.#shown.text;
  }

  set text(text) {
    this.#hostBrings = true;
    this.#growing = this.#work.isStreaming && this.#work.state === "streaming";
    this.#shown.text = String(text);
    this.#schedule();
  }

  /** Add a piece of text that the page has streamed itself. */
  append(delta) {
    if (!this.#hostBrings) this.#shown.text = "";
    this.#hostBrings = true;
    this.#growing = true;
    this.#shown.append(String(delta));
    this.#schedule();
  }

  /** `(text) => Node`: renders the text instead of the built-in Markdown; null for the latter. */
  get render() {
    return this.#shown.renderer;
  }

  set render(renderer) {
    this.#shown.renderer = renderer;
    this.#schedule();
  }

  /** Ask for a new image in the place of the one at this address, as a click on it does. */
  regenerate(image) {
    return this.#ask("regenerate", { image, mode: this.#mode }, imagePlace(image));
  }

  /** Ask once more for the image of a prompt that failed. */
  retry(promptId) {
    const failed = [...this.#work.failures.values()].find((prompt) => prompt.prompt_id === promptId);
    return this.#ask("retry", { prompt: promptId }, failed?.place ?? `prompt ${promptId}`);
  }

  /** Give the images of the message up. */
  async cancel() {
    this.#cancelling = true;
    this.#panelNote = "";
    this.#schedule();
    try {
      await this.#post("cancel", {});
    } catch (error) {
      this.#panelNote = explain(error);
      this.#tellError(error, "cancel");
    } finally {
      this.#cancelling = false;
      this.#schedule();
    }
  }

  // --- its life in a page

  connectedCallback() {
    this.#join();
    this.#schedule();
  }

  disconnectedCallback() {
    this.#hub?.leave(this.#message, this);
    this.#hub = null;
    this.#announcer.stop();
  }

  attributeChangedCallback(name, before, after) {
    if (before === after || !this.isConnected) return;
    if (name === "message" || name === "base") {
      this.#hub?.leave(this.#message, this);
      this.#hub = null;
      this.#connection = "open";
      this.#join();
    }
    this.#schedule();
  }

  get #base() {
    const given = this.getAttribute("base");
    return given === null ? HERE : new URL(given.endsWith("/") ? given : `${given}/`, document.baseURI).href;
  }

  get #mode() {
    return this.getAttribute("mode") || "replace-image";
  }

  get #canAct() {
    return Boolean(this.getAttribute("token")) && !this.hasAttribute("readonly") && this.#message !== null;
  }

  #join() {
    const message = this.getAttribute("message") || null;
    if (message !== this.#message) this.#forget();
    this.#message = message;
    if (message === null) return;
    const hub = (this.#hub = Hub.at(this.#base));
    hub.join(message, this);
    hub.tags().then((tags) => {
      if (this.#hub !== hub) return;
      this.#shown.tags = tags;
      this.#schedule();
    });
  }

  /** Another message is shown from now on. */
  #forget() {
    if (this.#message === null) return; // a page may bring the text before it names the message
    this.#work = new Work();
    this.#hostBrings = false;
    this.#growing = false;
    this.#notes.clear();
    this.#panelNote = "";
    this.#wasLive = false;
    this.#connection = "open";
    this.#endLingering();
    this.#shown.forget();
    this.#schedule();
  }

  // --- what comes from the hub

  /** An event of the stream. For the hub. */
  receive(name, data) {
    if (name === "text") this.#takeText(data);
    else if (this.#work.take(name, data)) this.#takeProgress(name, data);
    this.#schedule();
  }

  /** What the stream's connection is like. For the hub. */
  connection(state, error) {
    const isNews = state !== this.#connection;
    this.#connection = state;
    if (state === "refused" || (state === "absent" && isNews)) this.#tellError(error, "follow");
    this.#schedule();
  }

  #takeProgress(name, data) {
    const work = this.#work;
    if (work.isLive) this.#endLingering();
    if (name === "session") {
      if (this.#hostBrings && data.kind === "streaming" && data.state !== "streaming") this.#growing = false;
      const { counts, kind, state } = data;
      this.#tell("limner-progress", { counts, kind, state });
      // What had ended before the element came is no news; its state is told all the same, and then its end.
      if (!isOver(state)) {
        this.#wasLive = true;
        this.#announcer.progress(work);
      }
    } else if (name === "prompt") {
      if (this.#notes.delete(work.prompts.get(data.prompt_id).place)) this.#panelNote = "";
    } else if (name === "ended") {
      if (this.#hostBrings) this.#growing = false;
      else if (this.#growing && data.state === "cancelled") this.#askWhetherMoreComes();
      this.#panelNote = this.#wasLive ? lastWords(work) : "";
      this.#tell("limner-ended", { ...data.result, session: data.session, kind: data.kind, state: data.state });
      if (this.#wasLive) {
        this.#announcer.say(this.#panelNote || summary(work), true);
        this.#linger();
      }
    }
  }

  #takeText({ start, text, final }) {
    // A page that brings the text is told of it only when the images were written into it.
    if (this.#hostBrings && !(final && start === 0)) return;
    this.#growing = !final;
    if (!this.#shown.continueAt(start, text)) this.#fetchText();
  }

  /** After a cancel the text goes on; but it does not where the server died that streamed it. */
  async #askWhetherMoreComes() {
    const message = this.#message;
    try {
      await ask(new URL(`text?${new URLSearchParams({ message })}`, this.#base));
    } catch (error) {
      if (!(error instanceof Refused && error.status === 404) || message !== this.#message) return;
      // What has come stays to be read, though nobody has it any more.
      this.#growing = false;
      this.#panelNote = words.brokenOff;
      this.#announcer.say(words.brokenOff, true);
      this.#linger();
      this.#schedule();
    }
  }

  /** A piece is missing. */
  async #fetchText() {
    const message = this.#message;
    try {
      const answer = await ask(new URL(`text?${new URLSearchParams({ message })}`, this.#base));
      const { text, streaming } = await answer.json();
      if (message === this.#message) this.#takeText({ start: 0, text, final: !streaming });
      this.#schedule();
    } catch (error) {
      this.#tellError(error, "follow");
    }
  }

  // --- what goes to the server

  async #post(route, content) {
    return ask(new URL(route, this.#base), {
      method: "POST",
      headers: { "content-type": "application/json", "limner-token": this.getAttribute("token") ?? "" },
      body: JSON.stringify({ message: this.#message, ...content }),
    });
  }

  async #ask(route, content, place) {
    this.#work.asked.add(place);
    this.#notes.delete(place);
    this.#schedule();
    try {
      await this.#post(route, content);
    } catch (error) {
      this.#work.asked.delete(place);
      this.#notes.set(place, explain(error));
      this.#announcer.say(explain(error), true);
      this.#tellError(error, route);
      this.#schedule();
    }
  }

  // --- what a page is told

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  #tellError(error, action) {
    const { kind = "unreachable", hint = "", status = 0 } = error ?? {};
    this.#tell("limner-error", { action, kind, status, hint, message: error?.message ?? "" });
  }

  // --- rendering: once per frame, however much has come

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
    });
  }

  #render() {
    const focused = this.#root.activeElement;
    this.#shown.render(this.#growing);
    this.#shown.showFigures(this.#now());
    this.#panel.show(panelView(this.#now()));
    const streaming = this.#growing || (this.#work.isStreaming && this.#work.state === "streaming");
    this.#shown.element.setAttribute("aria-busy", String(streaming));
    this.#shown.element.classList.toggle("streaming", streaming);
    this.#showConnection();
    this.#keepFocus(focused);
  }

  /** How everything stands, for `views.js`. */
  #now() {
    return {
      work: this.#work,
      notes: this.#notes,
      canAct: this.#canAct,
      replaces: this.#mode === "replace-image",
      growing: this.#growing,
      hasText: this.#shown.isKnown,
      places: this.#shown.places,
      base: this.#base,
      note: this.#panelNote,
      cancelling: this.#cancelling,
      lingering: this.#lingering !== null,
      regenerate: (image) => this.regenerate(image),
      retry: (promptId) => this.retry(promptId),
      cancel: () => this.cancel(),
    };
  }

  /** What was moved, replaced or hidden must not throw a reader who came by keyboard back to the top. */
  #keepFocus(focused) {
    if (focused === null || this.#root.activeElement === focused) return;
    const usable = focused.isConnected && focused.checkVisibility();
    const target = usable ? focused : (this.#root.activeElement ?? this.#shown.element);
    target.focus({ preventScroll: true });
  }

  #linger() {
    this.#endLingering();
    if (!summary(this.#work) && !this.#panelNote) return;
    this.#lingering = setTimeout(() => {
      this.#endLingering();
      this.#panelNote = "";
      this.#schedule();
    }, LINGER_MS);
  }

  #endLingering() {
    clearTimeout(this.#lingering);
    this.#lingering = null;
  }

  #showConnection() {
    const waits = this.#work.isLive || this.#growing || this.#work.asked.size > 0 || !this.#shown.isKnown;
    const told = {
      open: "",
      lost: waits ? words.offline : "",
      absent: words.absent(this.#base),
      refused: words.refusedStream,
    }[this.#connection];
    this.#offline.hidden = !told;
    setText(this.#offline.lastChild, told);
    this.#offline.classList.toggle("trying", this.#connection === "lost");
  }
}

// The page may have loaded the module from two apps; the first one stays.
if (!customElements.get("limner-message")) customElements.define("limner-message", LimnerMessage);
