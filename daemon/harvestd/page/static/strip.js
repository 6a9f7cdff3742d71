// @ts-check
/**
 * One strip: the plot of one key, drawn by uPlot in place of the server's SVG, with the same scale and margins.
 */

import { figure, scaleOf, smoothed, tickLabel } from "./scales.js";
import uPlot from "./vendor/uPlot.js";

const Plot = /** @type {any} */ (uPlot);

/** @typedef {import("./series.js").Curve} Curve */
/** @typedef {{low: number, high: number, of: (curve: Curve, index: number) => number | null}} Axis */
/**
 * What all strips have in common.
 * @typedef {object} View
 * @property {Axis} axis
 * @property {number} smoothing
 * @property {boolean} isLog
 * @property {string} before  the day of the run before
 * @property {(x: number | null) => void} point  called with the value on the axis under the pointer
 * @property {(low: number, high: number) => void} zoom
 * @property {() => void} reset
 */

const SVG = "http://www.w3.org/2000/svg";
const [HIGH, LOW, RAW, BEHIND, LINE] = [1, 2, 3, 4, 5];

/** @param {string} name */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 */
export function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

export class Strip {
  /**
   * @param {HTMLElement} element  with the class `strip`
   * @param {View} view
   */
  constructor(element, view) {
    this.element = element;
    this.key = element.dataset.key ?? "";
    this.view = view;
    this.plot = /** @type {HTMLElement} */ (element.querySelector(".plot"));
    this.value = /** @type {HTMLElement} */ (element.querySelector(".value"));
    this.before = /** @type {HTMLElement} */ (element.querySelector(".before"));
    /** @type {Curve | undefined} */
    this.curve = undefined;
    /** @type {Curve | undefined} */
    this.behind = undefined;
    /** @type {{x: number, index: number}[]} */
    this.places = [];
    /** @type {import("./scales.js").Scale} */
    this.scale = { low: 0, high: 1, ticks: [] };
    /** @type {any} */
    this.chart = null;
    this.hadLog = false;
    this.plot.addEventListener("mousemove", (event) => {
      const left = event.clientX - this.plot.getBoundingClientRect().left;
      if (this.chart) this.view.point(this.chart.posToVal(left, "x"));
    });
    this.plot.addEventListener("mouseleave", () => this.view.point(null));
  }

  /** Whether it is in sight, so that drawing it is of use. */
  get isShown() {
    return this.plot.clientWidth > 0;
  }

  /**
   * Show the present values.
   * @param {Curve | undefined} curve
   * @param {Curve | undefined} behind
   */
  show(curve, behind) {
    this.curve = curve;
    this.behind = behind;
    if (!curve || !this.isShown) return;
    const data = this._data(curve, behind);
    if (!this.chart || this.hadLog !== this.view.isLog) this._make(data);
    else this.chart.setData(data, false);
    this._frame();
    this._end(data);
    this.chart.batch(() => {
      this.chart.setScale("x", { min: this.view.axis.low, max: this.view.axis.high });
      this.chart.setScale("y", { min: this.scale.low, max: this.scale.high });
    });
    this.read(null);
  }

  /**
   * Return uPlot's columns, and compute the scale.
   * @param {Curve} curve
   * @param {Curve | undefined} behind
   */
  _data(curve, behind) {
    const { axis, smoothing, isLog } = this.view;
    const broken = smoothed(curve.mean, smoothing).map((y, index) => (curve.gaps.has(curve.step[index] ?? -1) ? null : y));
    this.places = [];
    curve.step.forEach((_, index) => {
      const x = axis.of(curve, index);
      if (x !== null) this.places.push({ x, index });
    });
    const chosen = (/** @type {(number | null)[]} */ values) => this.places.map(({ index }) => values[index] ?? null);
    const old = behind ? smoothed(behind.mean, smoothing) : [];
    const isPositive = (/** @type {(number | null)[]} */ values) => values.every((value) => value === null || value > 0);
    const canLog = isLog && isPositive(curve.min) && isPositive(old);
    this.isLog = canLog;
    this.scale = scaleOf([curve.min, curve.max, old], canLog);
    const band = curve.isBucketed ? [chosen(curve.max), chosen(curve.min)] : [chosen([]), chosen([])];
    const raw = curve.isBucketed ? chosen([]) : chosen(curve.last);
    const own = [this.places.map(({ x }) => x), ...band, raw, chosen(broken)];
    /** @type {(number | null)[][]} */
    const other = [[], []];
    (behind?.step ?? []).forEach((step, index) => {
      const x = behind ? axis.of(behind, index) : null;
      if (x === null) return;
      other[0]?.push(x);
      other[1]?.push(old[index] ?? null);
    });
    const joined = uPlot.join([own, other]);
    const [x, high, low, values, line, last] = joined;
    return [x, high, low, values, last, line];
  }

  /** @param {any[]} data */
  _make(data) {
    this.chart?.destroy();
    this.hadLog = this.view.isLog;
    const hidden = { stroke: "transparent", width: 0, points: { show: false } };
    const one = (/** @type {string} */ name, /** @type {number} */ width, alpha = 1) => ({
      stroke: () => colour(name),
      width,
      alpha,
      points: { show: false },
    });
    const options = {
      width: this.plot.clientWidth,
      height: this.plot.clientHeight,
      padding: [0, 0, 0, 0],
      legend: { show: false },
      axes: [{ show: false }, { show: false }],
      scales: { x: { time: false, auto: false }, y: { auto: false, distr: this.isLog ? 3 : 1 } },
      series: [{}, hidden, hidden, one("--series-1", 1, 0.35), one("--ink3", 1), one("--series-1", 1.75)],
      bands: [{ series: [HIGH, LOW], fill: () => colour("--fill") }],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { size: 7, show: (/** @type {any} */ _, /** @type {number} */ index) => this._dot(index) },
        bind: { dblclick: () => () => this.view.reset() },
      },
      hooks: {
        setSelect: [(/** @type {any} */ chart) => this._selected(chart)],
      },
    };
    this.chart = new Plot(options, data, this.plot);
    this.plot.classList.add("live");
  }

  /** @param {number} index  of a series */
  _dot(index) {
    if (index !== LINE && index !== BEHIND) return null;
    const made = document.createElement("div");
    made.className = index === BEHIND ? "behind" : "";
    return made;
  }

  /** @param {any} chart */
  _selected(chart) {
    if (chart.select.width < 8) return;
    const { left, width } = chart.select;
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.view.zoom(chart.posToVal(left, "x"), chart.posToVal(left + width, "x"));
  }

  /**
   * Move the cursor to a value of the axis, and show the values there; null: the newest ones.
   * @param {number | null} x
   */
  read(x) {
    if (!this.curve) return;
    if (this.chart) {
      this.chart.setCursor(x === null ? { left: -10, top: -10 } : { left: this.chart.valToPos(x, "x"), top: 1 }, false);
    }
    const known = this.curve.last.filter((value) => value !== null);
    const index = x === null ? -1 : this.nearest(this.curve, x);
    this.value.textContent =
      index < 0 ? figure(known.at(-1)) : this.curve.gaps.has(this.curve.step[index] ?? -1) ? "NaN" : figure(this.curve.last[index]);
    if (!this.behind) return;
    const there = x === null ? this.behind.last.length - 1 : this.nearest(this.behind, x);
    const old = there < 0 ? null : this.behind.last[there];
    this.before.textContent = `${this.view.before} ${figure(old)}`;
  }

  /**
   * Return the index of the point nearest to a value of the axis; -1 where there is none.
   * @param {Curve} curve
   * @param {number} x
   */
  nearest(curve, x) {
    let [best, distance] = [-1, Infinity];
    for (let index = 0; index < curve.step.length; index += 1) {
      const there = this.view.axis.of(curve, index);
      if (there !== null && Math.abs(there - x) < distance) [best, distance] = [index, Math.abs(there - x)];
    }
    return best;
  }

  /** Where a value lies in the plot, from the top, in percent. @param {number} value */
  _at(value) {
    const { low, high } = this.scale;
    const share = this.isLog ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return `${100 * (1 - Math.min(1, Math.max(0, share)))}%`;
  }

  /** Draw the grid and its labels. */
  _frame() {
    const { low, high, ticks } = this.scale;
    const labels = ticks.map((tick) => {
      const made = svg("text", { x: "100%", y: this._at(tick) });
      made.textContent = tickLabel(tick, ticks);
      return made;
    });
    const lines = ticks.map((tick) => svg("line", { x1: 0, x2: "100%", y1: this._at(tick), y2: this._at(tick) }));
    if (low < 0 && high > 0) lines.push(svg("line", { class: "zero", x1: 0, x2: "100%", y1: this._at(0), y2: this._at(0) }));
    this.element.querySelector(".gutter")?.replaceChildren(...labels);
    this.element.querySelector(".grid")?.replaceChildren(...lines);
  }

  /** Draw the dot at the end of the line. @param {any[]} data */
  _end(data) {
    let ends = this.plot.querySelector(".ends");
    if (!ends) {
      ends = svg("svg", { class: "ends", "aria-hidden": "true" });
      this.plot.append(ends);
    }
    const line = data[LINE];
    let index = line.length - 1;
    while (index >= 0 && (line[index] === null || line[index] === undefined)) index -= 1;
    const { low, high } = this.view.axis;
    const share = index < 0 ? -1 : (data[0][index] - low) / (high - low);
    const isInside = share >= 0 && share <= 1.0001;
    ends.replaceChildren(...(isInside ? [svg("circle", { cx: `${100 * share}%`, cy: this._at(line[index]), r: 3.5 })] : []));
    // Over the canvas, which uPlot puts last.
    this.plot.append(ends);
  }

  /** Take the size of the element. */
  resize() {
    if (this.chart && this.isShown) this.chart.setSize({ width: this.plot.clientWidth, height: this.plot.clientHeight });
    else if (this.isShown) this.show(this.curve, this.behind);
  }

  /** Draw again, in other colours. */
  redraw() {
    this.chart?.redraw(false);
  }
}
