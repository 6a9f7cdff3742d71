// @ts-check
/**
 * The view of one run: draws its strips, keeps them up to date by the cursor of the series, and moves one cursor through
 * all of them. Without it the page shows what the server drew.
 */

import { clock, stepTicks, timeTicks, whole } from "./scales.js";
import { Series } from "./series.js";
import { Strip, svg } from "./strip.js";

/** @typedef {import("./series.js").Curve} Curve */

const EVERY = 1000;
/** Milliseconds between two requests for what is new. */

const section = /** @type {HTMLElement} */ (document.getElementById("curves"));
const state = {
  isTime: false,
  hasTimes: false,
  isSoFar: false,
  /** @type {[number, number] | null} */
  zoomed: null,
  /** @type {number | null} */
  pointed: null,
};
/** @type {Strip[]} */
let strips = [];
const own = new Series(section.dataset.run ?? "");
const earlier = section.dataset.before ? new Series(section.dataset.before) : null;

/** @type {import("./strip.js").View} */
const view = {
  axis: { low: 0, high: 1, of: (curve, index) => curve.step[index] ?? null },
  smoothing: 0.6,
  isLog: false,
  before: section.dataset.beforeName ?? "",
  point,
  zoom: (low, high) => zoom([low, high]),
  reset: () => zoom(null),
};

/** Return the curve that has the most points: its steps and times are those of the run. */
function longest() {
  let found = /** @type {Curve | undefined} */ (undefined);
  for (const curve of own.curves.values()) if (!found || curve.step.length > found.step.length) found = curve;
  return found;
}

/** Set the axis by what is chosen. */
function frame() {
  const last = Number(section.dataset.last) || 1;
  const curve = longest();
  const times = (curve?.time ?? []).filter((time) => time !== null);
  state.hasTimes = times.length > 1;
  const isTime = state.isTime && state.hasTimes;
  let [low, high] = [0, state.isSoFar ? Math.max(1, own.newest) : Math.max(last, own.newest, 1)];
  if (isTime && curve) {
    low = times[0] ?? 0;
    high = times[times.length - 1] ?? 1;
    const known = curve.step.filter((_, index) => curve.time[index] !== null);
    const steps = (known[known.length - 1] ?? 1) - (known[0] ?? 0);
    // The planned end, at the pace so far.
    if (!state.isSoFar && steps > 0) high += ((high - low) / steps) * Math.max(0, last - own.newest);
  }
  if (state.zoomed) [low, high] = state.zoomed;
  view.axis = {
    low,
    high: high > low ? high : low + 1,
    of: (each, index) => (isTime ? each.time[index] ?? null : each.step[index] ?? null),
  };
}

/**
 * Return where a step lies on the axis, as a share of the plot; null where that is not known.
 * @param {number} step
 */
function shareOf(step) {
  const { low, high } = view.axis;
  const curve = longest();
  if (!state.isTime || !state.hasTimes || !curve) return (step - low) / (high - low);
  let index = curve.step.findIndex((each, at) => each >= step && curve.time[at] !== null);
  if (index < 0) index = curve.step.length - 1;
  const [here, there] = [curve.time[index], curve.step[index]];
  if (here === null || here === undefined || there === undefined) return null;
  const [before, then] = [curve.time[index - 1], curve.step[index - 1]];
  const isBetween = before !== null && before !== undefined && then !== undefined && there > then;
  const at = isBetween && step <= there ? before + ((step - then) / (there - then)) * (here - before) : here;
  return (at - low) / (high - low);
}

/** Draw everything: strips, the axis, and what the server placed by steps. */
function draw() {
  frame();
  document.querySelector("[data-x=time]")?.toggleAttribute("disabled", !state.hasTimes);
  for (const strip of strips) strip.show(own.curves.get(strip.key), earlier?.curves.get(strip.key));
  place();
  drawAxis();
  read();
}

/** Put what has a step to its place on the axis. */
function place() {
  for (const each of section.querySelectorAll("[data-newest]")) each.setAttribute("data-step", String(own.newest));
  for (const each of section.querySelectorAll("[data-end]")) each.setAttribute("x2", percent(Math.min(1, Math.max(0, shareOf(own.newest) ?? 0))));
  for (const each of section.querySelectorAll("[data-step]")) {
    const share = shareOf(Number(each.getAttribute("data-step")));
    const isInside = share !== null && share >= -0.001 && share <= 1.001;
    if (each.matches("[data-points] text")) turn(each, share ?? 0);
    each.setAttribute("visibility", isInside ? "visible" : "hidden");
    for (const name of each.tagName === "line" ? ["x1", "x2"] : each.tagName === "circle" ? ["cx"] : ["x"]) {
      each.setAttribute(name, percent(share));
    }
  }
  for (const group of section.querySelectorAll("[data-points]")) {
    const points = [...group.querySelectorAll("circle")].map((circle) => [
      10 * parseFloat(circle.getAttribute("cx") ?? "0"),
      (parseFloat(circle.getAttribute("cy") ?? "0") / 100) * 204,
    ]);
    const path = section.querySelector(`[data-curve="${group.getAttribute("data-points")}"]`);
    path?.setAttribute("d", points.length > 1 ? `M${points.map((point) => point.join(" ")).join("L")}` : "");
  }
}

/**
 * Keep the name of a line inside the plot: at its right end it is before the point, and above it.
 * @param {Element} text
 * @param {number} share
 */
function turn(text, share) {
  const isAtEnd = share > 0.86;
  text.setAttribute("class", isAtEnd ? "end" : "");
  text.setAttribute("dx", isAtEnd ? "-8" : "8");
  text.setAttribute("dy", isAtEnd ? "-0.5em" : "0.35em");
}

/** @param {number | null} share */
function percent(share) {
  return `${100 * Math.min(2, Math.max(-1, share ?? -1))}%`;
}

function drawAxis() {
  const { low, high } = view.axis;
  const isTime = state.isTime && state.hasTimes;
  const ticks = isTime ? timeTicks(low, high) : stepTicks(low, high);
  const width = document.getElementById("axis")?.clientWidth ?? 0;
  const most = Math.max(2, Math.floor(width / 64));
  const every = Math.ceil(ticks.length / most);
  const texts = ticks
    .filter((_, index) => index % every === 0 || (!isTime && index === ticks.length - 1))
    .map((tick, index, shown) => {
      const isLast = !isTime && index === shown.length - 1;
      const anchor = isLast ? "end" : tick === low ? "start" : "middle";
      const made = svg("text", { x: percent((tick - low) / (high - low)), y: "1.25em", class: anchor });
      made.textContent = isTime ? clock(tick) : whole(tick);
      return made;
    });
  document.getElementById("axis")?.replaceChildren(...texts);
}

/**
 * Move the cursor of all strips.
 * @param {number | null} x
 */
function point(x) {
  state.pointed = x;
  requestAnimationFrame(read);
}

/** Show the values at the cursor, or the newest ones. */
function read() {
  const { low, high } = view.axis;
  const curve = longest();
  const x = state.pointed;
  for (const strip of strips) strip.read(x);
  const over = section.querySelector(".over");
  over?.querySelector(".cursor")?.remove();
  const reading = document.getElementById("reading");
  const index = x === null || !curve || !strips[0] ? -1 : strips[0].nearest(curve, x);
  if (reading) reading.replaceChildren();
  if (!curve || x === null || index < 0) return;
  const there = view.axis.of(curve, index) ?? low;
  over?.append(svg("line", { class: "cursor", x1: percent((there - low) / (high - low)), x2: percent((there - low) / (high - low)), y1: 0, y2: "100%" }));
  const step = document.createElement("b");
  step.textContent = `step ${whole(curve.step[index] ?? 0)}`;
  const time = curve.time[index];
  reading?.append(step, time === null || time === undefined ? "" : `, ${clock(time, true)}`);
}

/** @param {[number, number] | null} range */
function zoom(range) {
  state.zoomed = range && range[1] - range[0] > (state.isTime ? 1 : 0.5) ? range : null;
  draw();
}

/**
 * Keys in a plot: arrows move the cursor, Home and End jump, + and − zoom, Esc resets.
 * @param {KeyboardEvent} event
 */
function press(event) {
  const curve = longest();
  if (!curve || !(event.target instanceof Element) || !event.target.matches(".strip[data-key] .plot")) return;
  const { low, high, of } = view.axis;
  const strip = strips[0];
  const last = curve.step.length - 1;
  const here = state.pointed === null || !strip ? last : strip.nearest(curve, state.pointed);
  const jump = event.shiftKey ? 10 : 1;
  const centre = of(curve, here) ?? (low + high) / 2;
  const by = (/** @type {number} */ factor) => /** @type {[number, number]} */ ([centre - (centre - low) * factor, centre + (high - centre) * factor]);
  /** @type {Record<string, () => void>} */
  const keys = {
    ArrowLeft: () => point(of(curve, Math.max(0, here - jump))),
    ArrowRight: () => point(of(curve, Math.min(last, here + jump))),
    Home: () => point(of(curve, 0)),
    End: () => point(of(curve, last)),
    "+": () => zoom(by(0.5)),
    "=": () => zoom(by(0.5)),
    "-": () => zoom(by(2)),
    Escape: () => {
      state.pointed = null;
      zoom(null);
    },
  };
  const act = keys[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
}

/** Connect the controls, which do nothing without this. */
function connect() {
  const controls = document.getElementById("controls");
  if (!controls) return;
  controls.hidden = false;
  const choose = (/** @type {string} */ name, /** @type {(value: string) => void} */ change) => {
    const buttons = /** @type {NodeListOf<HTMLElement>} */ (controls.querySelectorAll(`[data-${name}]`));
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
        change(button.dataset[name] ?? "");
        state.zoomed = state.pointed = null;
        draw();
      });
    }
  };
  choose("x", (value) => {
    state.isTime = value === "time";
  });
  choose("extent", (value) => {
    state.isSoFar = value === "far";
  });
  const smoothing = /** @type {HTMLInputElement} */ (document.getElementById("smoothing"));
  smoothing.addEventListener("input", () => {
    view.smoothing = Number(smoothing.value);
    const shown = document.getElementById("smoothing-is");
    if (shown) shown.textContent = view.smoothing.toFixed(2);
    draw();
  });
  const log = /** @type {HTMLInputElement} */ (document.getElementById("log"));
  log.addEventListener("change", () => {
    view.isLog = log.checked;
    draw();
  });
}

/** Take up the strips that are in the document: a key may have appeared. */
function collect() {
  const elements = [.../** @type {NodeListOf<HTMLElement>} */ (section.querySelectorAll(".strip[data-key]"))];
  const known = new Map(strips.map((strip) => [strip.element, strip]));
  strips = elements.map((element) => known.get(element) ?? new Strip(element, view));
}

let isUpdating = false;

/** Read what is new, and draw it. */
async function update() {
  if (isUpdating || document.hidden) return;
  isUpdating = true;
  try {
    if (await own.update()) draw();
  } catch {
    // The daemon is away: the stream's silence says so.
  } finally {
    isUpdating = false;
  }
}

async function start() {
  connect();
  collect();
  await Promise.all([own.update(), earlier?.update()]);
  draw();
  section.addEventListener("keydown", press);
  section.addEventListener("toggle", draw, true);
  section.addEventListener("focusout", () => point(null));
  document.addEventListener("harvestd:shown", () => {
    collect();
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => strips.forEach((strip) => strip.redraw()));
  new ResizeObserver(() => {
    for (const strip of strips) strip.resize();
    drawAxis();
  }).observe(section);
  setInterval(() => {
    if (section.dataset.goesOn === "yes" || !own.isComplete) void update();
  }, EVERY);
}

void start();
