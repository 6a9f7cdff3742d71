// @ts-check
/**
 * The series of one run, as `GET /v1/runs/ID/series` answers: whole at first, then only what is new since the cursor.
 */

/**
 * @typedef {object} Curve
 * @property {number} width
 * @property {number[]} step
 * @property {(number | null)[]} time
 * @property {(number | null)[]} last
 * @property {(number | null)[]} min
 * @property {(number | null)[]} max
 * @property {(number | null)[]} mean
 * @property {Set<number>} gaps  steps with a value that is not finite
 * @property {boolean} isBucketed  whether points have several values
 */

const POINTS = 1000;
const COLUMNS = /** @type {const} */ (["step", "time", "last", "min", "max", "mean"]);

export class Series {
  /** @param {string} run  its id */
  constructor(run) {
    this.run = run;
    this.newest = 0;
    /** @type {Map<string, Curve>} */
    this.curves = new Map();
    this.isComplete = false;
    this._cursor = "";
  }

  /**
   * Read what is new; return whether anything is.
   * @returns {Promise<boolean>}
   */
  async update() {
    const query = new URLSearchParams({ points: String(POINTS), x: "time" });
    if (this._cursor) query.set("from", this._cursor);
    const answer = await fetch(`/v1/runs/${encodeURIComponent(this.run)}/series?${query}`, { cache: "no-store" });
    if (!answer.ok) return false;
    const found = await answer.json();
    const isNew = found.cursor !== this._cursor;
    this._cursor = found.cursor;
    this.newest = found.step ?? 0;
    this.isComplete = found.complete;
    for (const [key, curve] of Object.entries(found.curves)) this._take(key, curve);
    for (const key of this.curves.keys()) if (!(key in found.curves)) this.curves.delete(key);
    return isNew;
  }

  /**
   * @param {string} key
   * @param {any} added  a curve of the answer
   */
  _take(key, added) {
    const isBucketed = "min" in added;
    /** @type {Curve} */
    const fresh = {
      width: added.width,
      step: added.step,
      time: added.time ?? [],
      last: added.last,
      min: added.min ?? added.last,
      max: added.max ?? added.last,
      mean: added.mean ?? added.last,
      gaps: new Set((added.nonfinite ?? []).map((/** @type {number[]} */ pair) => pair[0])),
      isBucketed,
    };
    const curve = this.curves.get(key);
    if (!curve || added.replaces_from === 0) {
      this.curves.set(key, fresh);
      return;
    }
    let keep = curve.step.length;
    while (keep && /** @type {number} */ (curve.step[keep - 1]) >= added.replaces_from) keep -= 1;
    for (const name of COLUMNS) {
      const column = /** @type {(number | null)[]} */ (curve[name]);
      column.length = keep;
      column.push(...fresh[name]);
    }
    for (const step of curve.gaps) if (step >= added.replaces_from) curve.gaps.delete(step);
    for (const step of fresh.gaps) curve.gaps.add(step);
    curve.isBucketed ||= isBucketed;
  }
}
