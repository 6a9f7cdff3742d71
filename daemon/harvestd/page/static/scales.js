// @ts-check
/**
 * Scales with round ticks, smoothing, and numbers as text: the rules of `plots.py` and `words.py`, which draw the first
 * paint. What they draw and what the script draws must agree, or the plot would jump.
 */

/** @typedef {(number | null)[]} Values  null: no finite value. */
/** @typedef {{low: number, high: number, ticks: number[]}} Scale */

const MINUS = "\u2212";
const ROUND = [1, 2, 2.5, 5, 10];
const OUTLIERS = 8;
const USUAL = 0.01;

/**
 * Return the round distance of ticks of which about `lines` fit into a span.
 * @param {number} span
 * @param {number} lines
 */
export function roundStep(span, lines) {
  const raw = span / lines;
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * (ROUND.find((each) => each * power >= raw * (1 - 1e-9)) ?? 10);
}

/**
 * Return the scale for some values: their range, but without few values that are far from all others.
 * @param {Values[]} columns
 * @param {boolean} isLog
 * @returns {Scale}
 */
export function scaleOf(columns, isLog = false) {
  const values = /** @type {number[]} */ (columns.flat().filter((value) => value !== null && value !== undefined));
  values.sort((a, b) => a - b);
  const first = values[0];
  const last = values[values.length - 1];
  if (first === undefined || last === undefined) return { low: 0, high: 1, ticks: [0, 1] };
  if (isLog && first > 0) return logScale(first, last);
  const cut = Math.floor(values.length * USUAL);
  let [low, high] = [first, last];
  const usualLow = values[cut] ?? low;
  const usualHigh = values[values.length - 1 - cut] ?? high;
  const usual = usualHigh - usualLow;
  if (usual > 0 && high - low > OUTLIERS * usual) {
    low = Math.max(low, usualLow - usual);
    high = Math.min(high, usualHigh + usual);
  }
  if (high - low <= Math.abs(high) * 1e-9) {
    const spread = Math.abs(high) / 2 || 0.5;
    [low, high] = [low - spread, high + spread];
  }
  const step = roundStep(high - low, 3);
  const room = (high - low) * 0.06;
  [low, high] = [low - room, high + room];
  const inside = (/** @type {number} */ each) => range(Math.ceil(low / each - 1e-9), Math.floor(high / each + 1e-9), each);
  const ticks = inside(step);
  return { low, high, ticks: ticks.length > 1 ? ticks : inside(step / 2) };
}

/**
 * @param {number} first
 * @param {number} last
 * @returns {Scale}
 */
function logScale(first, last) {
  const low = first / 1.15;
  const high = last * 1.15;
  let ticks = range(Math.ceil(Math.log10(low)), Math.floor(Math.log10(high)), 1).map((power) => 10 ** power);
  while (ticks.length > 4) ticks = ticks.filter((_, index) => index % 2 === 0);
  if (ticks.length < 2) {
    const step = roundStep(high - low, 3);
    ticks = range(Math.ceil(low / step), Math.floor(high / step), step).filter((tick) => tick > 0);
  }
  return { low, high, ticks };
}

/**
 * @param {number} first
 * @param {number} last
 * @param {number} step
 */
function range(first, last, step) {
  const found = [];
  for (let number = first; number <= last; number += 1) found.push(number ? number * step : 0);
  return found;
}

/**
 * Return the ticks of an axis of steps, the last of which is its end.
 * @param {number} low
 * @param {number} high
 */
export function stepTicks(low, high) {
  const rounded = Math.max(1, roundStep(Math.max(1, high - low), 8));
  const step = Number.isInteger(rounded) ? rounded : 2 * rounded;
  const ticks = range(Math.ceil(low / step), Math.floor(high / step), step);
  return [...ticks.filter((tick) => (tick - low) / (high - low) < 0.92), high];
}

const SPANS = [1, 5, 10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];

/**
 * Return the ticks of an axis of Unix times, on round times of day here.
 * @param {number} low
 * @param {number} high
 */
export function timeTicks(low, high) {
  const span = SPANS.find((each) => (high - low) / each <= 8) ?? 2592000;
  const offset = new Date(low * 1000).getTimezoneOffset() * 60;
  return range(Math.ceil((low - offset) / span), Math.floor((high - offset) / span), span).map((each) => each + offset);
}

/**
 * Return the moving average with this weight of what was before; a gap stays, and does not reset it.
 * @param {Values} values
 * @param {number} weight
 * @returns {Values}
 */
export function smoothed(values, weight) {
  let mean = 0;
  let share = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return mean / share;
  });
}

/**
 * Return a measured value with the digits that matter.
 * @param {number | null | undefined} value
 */
export function figure(value) {
  if (value === null || value === undefined) return "\u2013";
  const size = Math.abs(value);
  if (size && (size < 1e-4 || size >= 1e6)) {
    const [digits, power] = value.toExponential(2).split("e");
    return `${digits}e${power?.[0]}${power?.slice(1).padStart(2, "0")}`.replaceAll("-", MINUS);
  }
  return fixed(value, size < 1 ? 4 : size < 10 ? 3 : size < 1000 ? 1 : 0);
}

/**
 * @param {number} value
 * @param {number} digits
 */
function fixed(value, digits) {
  return value
    .toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    .replace("-", MINUS);
}

/**
 * Return a tick with as many digits as the distance of ticks needs.
 * @param {number} tick
 * @param {number[]} ticks
 */
export function tickLabel(tick, ticks) {
  if (tick && (Math.abs(tick) >= 1e6 || Math.abs(tick) < 1e-4)) {
    const [digits, power] = tick.toExponential(2).split("e");
    return `${Number(digits)}e${power?.[0]}${power?.slice(1).padStart(2, "0")}`.replaceAll("-", MINUS);
  }
  if (!tick) return "0";
  const [first, second] = ticks;
  const step = first !== undefined && second !== undefined ? second - first : Math.abs(tick) || 1;
  let digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  if (digits && step.toFixed(digits + 1).at(-1) !== "0") digits += 1;
  return fixed(tick, digits);
}

/**
 * Return a whole number with separators.
 * @param {number} value
 */
export function whole(value) {
  return fixed(Math.round(value), 0);
}

/**
 * Return the time of day of a Unix time; of another day than today, its day too.
 * @param {number} at
 * @param {boolean} withSeconds
 */
export function clock(at, withSeconds = false) {
  const then = new Date(at * 1000);
  const time = then.toTimeString().slice(0, withSeconds ? 8 : 5);
  if (then.toDateString() === new Date().toDateString()) return time;
  return `${then.getDate()} ${then.toLocaleString("en", { month: "short" })} ${time.slice(0, 5)}`;
}
