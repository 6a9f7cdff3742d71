// @ts-check
/**
 * Keeps a view up to date: when the daemon says that something changed, its main element is requested again and what
 * differs is put into the document. Elements with `data-keep` are left to the modules that draw in them, which listen
 * for `harvestd:news` (with the number of the change) and `harvestd:shown` on the document.
 */

import { follow } from "./live.js";
import { Idiomorph } from "./vendor/idiomorph.js";

const LATE = 10_000;
const CUT = 20_000;
const REFRESH = 15_000;
/** Milliseconds without news until that is said, without news until the daemon counts as gone, and between requests. */

let etag = "";
let number = -1;
let newsAt = Date.now();
let requestedAt = Date.now();
let isRequesting = false;
let isDue = false;
let lastClock = "";

/** @param {string} id */
const byId = (id) => document.getElementById(id);

/**
 * Replace what differs in the main element.
 * @param {string} text  the answer: a title and a main element
 */
function show(text) {
  const found = new DOMParser().parseFromString(text, "text/html");
  const main = byId("main");
  const fresh = found.getElementById("main");
  if (!main || !fresh) return;
  document.title = found.title;
  const before = spoken();
  Idiomorph.morph(main, fresh, {
    morphStyle: "outerHTML",
    ignoreActiveValue: true,
    callbacks: {
      beforeNodeMorphed: (/** @type {Node} */ old) => !(old instanceof Element && old.hasAttribute("data-keep")),
      beforeNodeRemoved: (/** @type {Node} */ old) => !(old instanceof Element && old.hasAttribute("data-keep")),
      beforeAttributeUpdated: (/** @type {string} */ name, /** @type {Element} */ node) =>
        !(name === "open" && node.tagName === "DETAILS") && name !== "checked" && !(name === "class" && node.classList.contains("copied")),
    },
  });
  say(before);
  showPaused(byId("main")?.dataset.paused === "yes");
  document.dispatchEvent(new CustomEvent("harvestd:shown"));
}

/** Return what a screen reader announces when it changes: verdicts, and the lines of the banner. */
function spoken() {
  const lines = [...document.querySelectorAll("[data-said], .banner li > p")];
  return new Set(lines.map((each) => (each instanceof HTMLElement && each.dataset.said) || each.textContent || ""));
}

/** @param {Set<string>} before */
function say(before) {
  const status = byId("said");
  // Spans of time in a line grow: only lines that begin otherwise are new.
  const begin = (/** @type {string} */ line) => line.replace(/[\d.,]+/g, "").slice(0, 60);
  const known = new Set([...before].map(begin));
  const fresh = [...spoken()].filter((line) => !known.has(begin(line)));
  if (status && fresh.length) status.textContent = fresh.join(". ");
}

/** @param {boolean} paused */
function showPaused(paused) {
  const form = byId("pause");
  if (!(form instanceof HTMLFormElement)) return;
  form.action = paused ? "/resume" : "/pause";
  form.querySelector("use")?.setAttribute("href", paused ? "#i-play" : "#i-pause");
  const text = form.querySelector(".text");
  if (text) text.textContent = paused ? "Go on fetching" : "Pause fetching";
}

/** Request the main element again; a second request while one is under way follows it. */
async function request() {
  if (byId("main")?.dataset.live !== "yes") return;
  if (isRequesting) {
    isDue = true;
    return;
  }
  isRequesting = true;
  requestedAt = Date.now();
  try {
    const answer = await fetch(location.pathname + location.search, {
      headers: { "X-Harvestd-Part": "1", ...(etag ? { "If-None-Match": etag } : {}) },
      cache: "no-store",
    });
    if (answer.status === 401) location.reload();
    if (answer.ok) {
      etag = answer.headers.get("etag") ?? "";
      show(await answer.text());
    }
  } catch {
    // The daemon is away: the stream's silence says so.
  } finally {
    isRequesting = false;
  }
  if (isDue) {
    isDue = false;
    await request();
  }
}

/** @param {import("./live.js").News} news */
function handle(news) {
  newsAt = Date.now();
  lastClock = news.clock;
  tell("live", `as of ${news.clock}`, "#i-disc");
  if (news.number !== number || Date.now() - requestedAt > REFRESH) {
    number = news.number;
    document.dispatchEvent(new CustomEvent("harvestd:news", { detail: news.number }));
    void request();
  }
}

/**
 * @param {string} state  live, late or cut
 * @param {string} text
 * @param {string} icon
 */
function tell(state, text, icon) {
  const news = byId("news");
  const line = byId("news-text");
  if (!news || !line) return;
  if (line.textContent !== text) line.textContent = text;
  if (news.dataset.state === state) return;
  news.dataset.state = state;
  news.querySelector("use")?.setAttribute("href", icon);
  document.body.toggleAttribute("data-cut", state === "cut");
}

function watchSilence() {
  const silent = Date.now() - newsAt;
  if (document.hidden || silent < LATE) return;
  if (silent < CUT) tell("late", `no news for ${Math.round(silent / 1000)} s`, "#i-ring");
  else tell("cut", `the daemon does not answer${lastClock ? ` since ${lastClock.slice(0, 5)}` : ""}`, "#i-struck");
}

/** @param {HTMLElement} button */
async function copy(button) {
  await navigator.clipboard.writeText(button.dataset.copy ?? "");
  button.classList.add("copied");
  button.querySelector("use")?.setAttribute("href", "#i-check");
  const status = byId("said");
  if (status) status.textContent = "Copied";
  setTimeout(() => {
    button.classList.remove("copied");
    button.querySelector("use")?.setAttribute("href", "#i-copy");
  }, 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
  if (button instanceof HTMLElement) void copy(button);
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.hasAttribute("data-action")) return;
  event.preventDefault();
  const button = form.querySelector("button");
  button?.setAttribute("disabled", "");
  try {
    await fetch(form.action, { method: "POST", headers: { "X-Harvestd-Part": "1" } });
    await request();
  } finally {
    button?.removeAttribute("disabled");
  }
});

if (byId("main")?.dataset.live !== undefined) {
  setInterval(watchSilence, 1000);
  const shown = () => {
    newsAt = Date.now();
    if (number >= 0) void request();
  };
  follow(handle, shown, () => void request());
}
