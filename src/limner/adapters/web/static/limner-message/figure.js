/** One image, from its prompt to the finished picture. */

import { icon, make, prefersStillness, setText } from "./dom.js";
import { words } from "./words.js";

/** What a figure shows where nothing is to be said; see `Figure`. */
export const NOTHING = {
  picture: null,
  preview: null,
  status: "",
  running: false,
  fraction: null,
  problem: "",
  act: null,
  busy: "",
  retry: null,
  retryLater: "",
};

let lastFigure = 0;

/**
 * One image of a message. What it shows is decided elsewhere and given to `show`:
 *
 *     state     "hidden", "working" (with or without a picture below), "image" or "failed"
 *     picture   the address of the finished image, or null
 *     preview   the address of the newest preview, or null
 *     prompt    what was asked for; the caption and the description
 *     status    a few words on the work that goes on, or ""
 *     running   whether it is being made at this moment
 *     fraction  0 to 1, or null where nobody knows
 *     problem   why there is no (new) image, or ""
 *     act       what a press on the image does, or null; `busy` says why it does nothing now
 *     retry     what the button in an error does, or null; `retryLater`: not yet
 */
export class Figure {
  element = make("figure", { part: "figure" });
  #frame = null;
  #picture = null;
  #preview = make("img", { part: "preview", className: "preview", alt: "", hidden: true });
  #empty = make("span", { className: "empty" }, icon("picture"));
  #chip = make("span", { part: "status", className: "chip", hidden: true });
  #bar = make("span", { part: "bar", className: "bar", hidden: true }, make("span"));
  #veil = make("span", { part: "prompt", className: "veil", ariaHidden: "true", hidden: true });
  #veilText = make("span", { className: "veil-text" });
  #veilHint = make("span", { className: "veil-hint" }, icon("redo"), make("span"));
  #caption = make("figcaption", { part: "caption" });
  #problem = make("p", { part: "error", className: "problem", hidden: true });
  #problemText = make("span");
  #retry = make("button", { part: "button retry", className: "button", type: "button", hidden: true });
  #hint = make("span", { hidden: true }); // a description may be hidden; it is then read with the button only
  #view = {};

  constructor() {
    lastFigure++;
    this.#hint.id = `hint-${lastFigure}`;
    this.#problem.id = `problem-${lastFigure}`;
    this.#retry.setAttribute("aria-describedby", this.#problem.id);
    this.#veil.append(this.#veilText, this.#veilHint);
    this.#problem.append(icon("alert"), this.#problemText);
    this.#retry.append(icon("redo"), make("span", {}, words.retry));
    this.#retry.addEventListener("click", () => this.#press(this.#view.retry, this.#view.retryLater));
    this.#preview.addEventListener("load", () => this.#picture || this.#shape(this.#preview));
    this.element.append(this.#caption, this.#problem, this.#retry, this.#hint);
    this.#setFrame(false);
  }

  show(view) {
    this.#view = view;
    this.element.dataset.state = view.state;
    this.element.hidden = view.state === "hidden";
    if (view.state === "hidden") return;
    this.#setFrame(view.act !== null);
    this.#showPicture(view.picture, view.prompt);
    this.#showPreview(view.state === "working" ? view.preview : null, view.fraction);
    this.#showWork(view);
    setText(this.#caption, view.prompt);
    this.#caption.title = view.prompt;
    this.#showProblem(view);
    const acting = view.act !== null;
    this.#veil.hidden = view.picture === null;
    setText(this.#veilText, view.prompt);
    this.#veilHint.hidden = !acting || view.busy !== "";
    setText(this.#veilHint.lastChild, words.redo);
    setText(this.#hint, acting ? view.busy || words.redoHint : "");
    if (acting) this.#frame.ariaDisabled = String(view.busy !== "");
  }

  /** A button where the image can be made anew, else a mere frame. */
  #setFrame(isButton) {
    if (this.#frame !== null && (this.#frame.localName === "button") === isButton) return;
    const old = this.#frame;
    const frame = isButton ? make("button", { type: "button", part: "frame image-button" }) : make("div", { part: "frame" });
    frame.classList.add("frame");
    if (isButton) {
      frame.setAttribute("aria-describedby", this.#hint.id);
      frame.addEventListener("click", () => this.#press(this.#view.act, this.#view.busy));
    } else frame.tabIndex = -1;
    if (old === null) {
      frame.append(this.#empty, this.#preview, this.#veil, this.#chip, this.#bar);
      this.element.prepend(frame);
    } else {
      const focused = old.getRootNode().activeElement === old;
      frame.append(...old.childNodes);
      frame.style.cssText = old.style.cssText;
      old.replaceWith(frame);
      if (focused) frame.focus({ preventScroll: true });
    }
    this.#frame = frame;
  }

  #press(action, notNow) {
    if (action && !notNow) action();
  }

  #showPicture(address, description) {
    this.#empty.hidden = address !== null;
    if (this.#picture !== null) this.#picture.alt = description;
    if (address === (this.#picture?.dataset.address ?? null)) return;
    const old = [...this.#frame.querySelectorAll(".picture")];
    if (address === null) {
      this.#picture = null;
      for (const picture of old) picture.remove();
      return;
    }
    const picture = make("img", { part: "image", className: "picture", alt: description, decoding: "async" });
    picture.loading = old.length > 0 || !this.#preview.hidden ? "eager" : "lazy";
    picture.referrerPolicy = "no-referrer";
    picture.dataset.address = address;
    this.#picture = picture;
    for (const other of old) {
      other.ariaHidden = "true"; // it is on its way out
      other.alt = "";
    }
    picture.classList.add("entering");
    picture.addEventListener("load", () => {
      if (this.#picture !== picture) return;
      this.#frame.classList.remove("broken");
      this.#shape(picture);
      const entered = () => {
        for (const other of old) other.remove();
        picture.classList.remove("entering");
        if (this.#picture === picture && this.#view.state !== "working") this.#preview.hidden = true;
      };
      const duration = prefersStillness() ? 0 : 500;
      picture.animate([{ opacity: 0 }, { opacity: 1 }], { duration, easing: "ease-out" }).finished.then(entered, entered);
    });
    picture.addEventListener("error", () => {
      if (this.#picture !== picture) return;
      picture.classList.remove("entering");
      for (const other of old) other.remove();
      this.#preview.hidden = true;
      this.#frame.classList.add("broken");
      if (!this.#view.problem) this.#showProblem({ ...this.#view, problem: words.notLoaded });
    });
    picture.src = address;
    this.#veil.before(picture);
  }

  /** The frame takes the proportions of what is in it, so nothing moves when the finished image comes. */
  #shape({ naturalWidth: width, naturalHeight: height }) {
    if (width > 0 && height > 0) this.#frame.style.setProperty("--ratio", (width / height).toFixed(4));
  }

  #showPreview(address, fraction) {
    const preview = this.#preview;
    // It stays until the finished picture has covered it.
    if (address === null && this.#picture?.classList.contains("entering")) return;
    preview.hidden = address === null;
    if (address !== null && preview.dataset.address !== address) {
      preview.dataset.address = address;
      preview.src = address;
    }
    // Early previews are coarse; what is not there yet should not look like a fault.
    preview.style.setProperty("--blur", `${((1 - (fraction ?? 0.6)) * 6).toFixed(1)}px`);
  }

  #showWork({ state, status, fraction, running, prompt, picture }) {
    const working = state === "working";
    this.#frame.classList.toggle("working", working);
    this.#chip.hidden = !status;
    setText(this.#chip, status);
    this.#chip.ariaHidden = String(this.#frame.localName === "button");
    this.#bar.hidden = !working || !running;
    this.#bar.classList.toggle("unknown", fraction === null);
    this.#bar.firstChild.style.setProperty("--done", String(fraction ?? 0));
    if (this.#bar.hidden) return;
    const labels = { role: "progressbar", "aria-label": words.preparing(prompt), "aria-valuetext": status };
    for (const [name, value] of Object.entries(labels)) this.#bar.setAttribute(name, value);
    if (fraction === null) this.#bar.removeAttribute("aria-valuenow");
    else this.#bar.setAttribute("aria-valuenow", String(Math.round(fraction * 100)));
    this.#bar.ariaHidden = String(picture !== null && this.#frame.localName === "button");
  }

  #showProblem({ problem, retry, retryLater }) {
    this.#problem.hidden = !problem;
    setText(this.#problemText, problem);
    const offered = Boolean(problem) && retry !== null;
    // The button goes with what it was for; who came by keyboard stays at the image.
    const focused = !offered && this.#retry.getRootNode().activeElement === this.#retry;
    this.#retry.hidden = !offered;
    if (focused) this.#frame.focus({ preventScroll: true });
    this.#retry.ariaDisabled = String(Boolean(retryLater));
    this.#retry.title = retryLater || "";
  }
}
