// The chat: what was said comes from the server, so every tab shows the same; the replies show themselves.

import { MachinePanel } from "./machine.js";

const byId = (id) => document.getElementById(id);
const page = {
  welcome: byId("welcome"), suggestions: byId("suggestions"), turns: byId("turns"), composer: byId("composer"),
  line: byId("line"), send: byId("send"), stop: byId("stop"), trouble: byId("trouble"), cast: byId("cast"),
  clear: byId("clear"), sure: byId("sure"), announcement: byId("announcement"),
};

const NOTES = {
  stopped: "You stopped this one.",
  interrupted: "The demo was closed while this was being written.",
};

/** Every entry that is shown, by its id: {entry, item, message, foot}. */
const shown = new Map();
let longestLine = 4000;
let sending = false;

const panel = new MachinePanel(byId("machine"), byId("machine-button"));

// --- to the server

async function post(path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The demo does not answer. Is it still running?");
  }
  if (answer.ok) return answer.json();
  const told = await answer.json().catch(() => null);
  const { message, hint } = told?.error ?? { message: `the server answered ${answer.status}`, hint: "" };
  throw new Error(sentence(message) + (hint ? ` ${hint}` : ""));
}

function sentence(words) {
  const whole = words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

async function attempt(work) {
  complain("");
  try {
    await work();
    return true;
  } catch (error) {
    complain(error.message);
    return false;
  }
}

function complain(words) {
  page.trouble.textContent = words;
  page.trouble.hidden = !words;
}

function announce(words) {
  page.announcement.textContent = words;
}

// --- from the server

let changes = null;

function listen() {
  if (changes !== null) return;
  changes = new EventSource("/api/changes");
  changes.onmessage = (event) => take(JSON.parse(event.data));
}

function take(told) {
  if (told.cast) {
    page.cast.textContent = `Written by ${told.cast.writer}, painted by ${told.cast.painter}.`;
    document.body.classList.toggle("no-captions", !told.cast.captions);
    longestLine = told.longest_line;
    suggest(told.suggestions);
  }
  if (told.whole) {
    const known = new Set(told.entries.map((entry) => entry.id));
    for (const [id, { item }] of shown) {
      if (!known.has(id)) {
        item.remove();
        shown.delete(id);
        panel.forget(id);
      }
    }
  }
  told.entries.forEach(show);
  settle();
}

// A browser allows few connections to one server; a tab that nobody sees needs none.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    changes?.close();
    changes = null;
  } else {
    listen();
  }
});

// --- what is shown

function suggest(suggestions) {
  if (page.suggestions.childElementCount) return;
  suggestions.forEach((words, number) => {
    const button = element("button", "suggestion");
    button.type = "button";
    const picture = element("img");
    picture.src = `/suggestions/${number}.jpg`;
    picture.alt = "";
    picture.width = 432;
    picture.height = 288;
    const label = element("span");
    label.textContent = words;
    button.append(picture, label);
    button.addEventListener("click", () => say(words));
    const item = element("li");
    item.append(button);
    page.suggestions.append(item);
  });
}

function show(entry) {
  const known = shown.get(entry.id) ?? begin(entry);
  const before = known.entry?.state;
  known.entry = entry;
  if (entry.state === "said") return;
  known.item.dataset.state = entry.state;
  showFoot(known);
  if (before === "writing" && entry.state === "written") announce("The story is written.");
  if (before !== "writing" && entry.state === "writing") {
    announce("A story is being written.");
    panel.follow(entry.id);
  }
}

function begin(entry) {
  const known = { entry: null, item: element("li"), message: null, foot: null };
  if (entry.state === "said") {
    known.item.className = "said";
    const words = element("p");
    words.dir = "auto";
    const who = element("span", "unseen");
    who.textContent = "You: ";
    words.append(who, entry.text);
    known.item.append(words);
  } else {
    known.item.className = "told";
    const article = element("article");
    article.setAttribute("aria-label", "Story");
    known.message = document.createElement("limner-message");
    known.message.setAttribute("message", entry.id);
    known.message.setAttribute("token", entry.token);
    known.message.addEventListener("limner-progress", (event) => progressed(known, event.detail));
    known.message.addEventListener("limner-ended", () => panel.happened(known.entry.id, false));
    known.foot = element("footer", "foot");
    article.append(known.message, known.foot);
    known.item.append(article);
  }
  shown.set(entry.id, known);
  page.turns.append(known.item);
  return known;
}

function progressed(known, detail) {
  const counts = detail?.counts ?? {};
  const open = (counts.queued ?? 0) + (counts.generating ?? 0) + (counts.waiting ?? 0);
  panel.happened(known.entry.id, open > 0 || known.entry.state === "writing");
}

function showFoot(known) {
  const { entry, foot } = known;
  const parts = [];
  const note = entry.problem ? sentence(entry.problem.message) : NOTES[entry.state];
  if (note) {
    const words = element("p", entry.problem ? "note problem" : "note");
    words.textContent = note;
    if (entry.problem?.hint) words.append(` ${entry.problem.hint}`);
    parts.push(words);
  }
  const buttons = element("p", "foot-buttons");
  if (["broken", "stopped", "interrupted"].includes(entry.state)) {
    const again = button("Write it again", () => attempt(() => post("/api/again", { message: entry.id })));
    again.classList.add("again");
    buttons.append(again);
  }
  const machine = button("Machine", () => panel.show(entry.id, true));
  machine.setAttribute("aria-label", "Show the machine of this story");
  buttons.append(machine);
  parts.push(buttons);
  const focused = foot.contains(document.activeElement) ? document.activeElement.textContent : null;
  foot.replaceChildren(...parts);
  if (focused !== null) {
    [...foot.querySelectorAll("button")].find((each) => each.textContent === focused)?.focus();
  }
}

function settle() {
  const entries = [...shown.values()];
  const writing = entries.find(({ entry }) => entry.state === "writing");
  page.welcome.hidden = entries.length > 0;
  page.clear.hidden = entries.length === 0;
  const had = document.activeElement;
  page.send.hidden = writing !== undefined;
  page.stop.hidden = writing === undefined;
  if (had === page.stop && page.stop.hidden) page.line.focus();
  page.stop.dataset.message = writing?.entry.id ?? "";
  document.body.classList.toggle("is-empty", entries.length === 0);
  entries.forEach(({ item }, number) => item.classList.toggle("last", number === entries.length - 1));
  panel.consider(entries.filter(({ entry }) => entry.state !== "said").map(({ entry }) => entry.id), titleOf);
}

/** The line that a reply answers. */
function titleOf(id) {
  let line = "";
  for (const { entry } of shown.values()) {
    if (entry.id === id) return line;
    if (entry.state === "said") line = entry.text;
  }
  return line;
}

function element(name, className = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}

function button(words, pressed) {
  const made = element("button", "quiet");
  made.type = "button";
  made.textContent = words;
  made.addEventListener("click", pressed);
  return made;
}

// --- what the person does

async function say(words) {
  if (sending || !words.trim()) return;
  if (!page.stop.hidden) {
    complain("A story is being written. Stop it, or wait for its end.");
    return;
  }
  if (words.length > longestLine) {
    complain(`A line has at most ${longestLine.toLocaleString("en")} characters; this one has ${words.length.toLocaleString("en")}.`);
    return;
  }
  sending = true;
  following = true;
  const typed = page.line.value;
  if (words === typed) page.line.value = "";
  resize();
  if (!(await attempt(() => post("/api/say", { text: words }))) && !page.line.value) {
    page.line.value = typed;
    resize();
  }
  sending = false;
  page.line.focus({ preventScroll: true });
}

function stop(id) {
  return attempt(() => post("/api/stop", { message: id }));
}

page.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  say(page.line.value);
});
page.line.addEventListener("keydown", (event) => {
  // The Enter that ends the input of a Japanese word sends nothing.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    say(page.line.value);
  }
});
page.stop.addEventListener("click", () => stop(page.stop.dataset.message));
page.clear.addEventListener("click", () => page.sure.showModal());
page.sure.addEventListener("close", () => {
  if (page.sure.returnValue === "yes") {
    attempt(() => post("/api/clear", { conversation: "all" })).then(() => page.line.focus());
  }
  page.sure.returnValue = "";
});

function resize() {
  page.line.style.height = "auto";
  page.line.style.height = `${Math.min(page.line.scrollHeight, innerHeight * 0.4)}px`;
}
page.line.addEventListener("input", () => {
  complain("");
  resize();
});

// --- the reader's place: the end stays in view while it grows, unless the reader has gone elsewhere

let following = true;
const scroller = document.scrollingElement;
const atEnd = () => scroller.scrollHeight - scroller.scrollTop - innerHeight < 80;
let lastTop = 0;
addEventListener("scroll", () => {
  if (scroller.scrollTop < lastTop - 2) following = atEnd();
  else if (atEnd()) following = true;
  lastTop = scroller.scrollTop;
}, { passive: true });
new ResizeObserver(() => {
  if (following && shown.size > 0) scroller.scrollTop = scroller.scrollHeight;
}).observe(page.turns);

const desk = document.querySelector(".desk");
new ResizeObserver(() => {
  document.body.style.setProperty("--desk", `${desk.offsetHeight + 8}px`);
  if (following && shown.size > 0) scroller.scrollTop = scroller.scrollHeight;
}).observe(desk);

listen();
if (matchMedia("(pointer: fine)").matches) page.line.focus({ preventScroll: true });
