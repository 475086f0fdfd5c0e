// A job's series, kept in the browser: read once, then only from the last bucket on.
//
// A series is {name, points, version, width, step[], time[], count[], bad[], min[], max[], mean[], last[]}, a bucket an index; bucket b
// holds the steps of [k width, (k + 1) width), step[b] is the last of them, time[b] when that was, in milliseconds, and bad[b] counts the
// values that are not finite. What is read later may come in finer buckets and is folded into these.
import * as api from './api.js';

/** @typedef {{name: string, points: number, lastStep: number, version: number | string, noisy?: boolean, width: number, step: number[], time: number[], count: number[], bad: number[],
 *             min: (number | null)[], max: (number | null)[], mean: (number | null)[], last: (number | null)[]}} Series */

const POINTS = 1000;         // buckets asked for
const TOO_MANY = 2 * POINTS; // above: read again, coarser
const NAMES_A_REQUEST = 24;
let versions = 0; // of all series' contents; tells a drawing whether it is still true

/** @param {unknown} v @returns {v is number} */
export const finite = (v) => typeof v === 'number' && Number.isFinite(v);

export class Curves {
        // from, to: the steps that are kept; attempt: whose points, superseded or not, or none: those that hold.
        constructor(job, from = 0, to = Infinity, attempt = undefined) {
                this.job = job;
                this.from = from;
                this.to = to;
                this.attempt = attempt;
                this.series = /** @type {Map<string, Series>} */ (new Map());
        }

        // Those of rows whose points are new, with the step from which on they are; what is no longer listed is dropped.
        news(rows) {
                for (const name of this.series.keys())
                        if (!rows.some((r) => r.name === name))
                                this.series.delete(name);
                return rows.map((row) => ({curves: /** @type {Curves} */ (this), row, from: this.#missing(row)})).filter((n) => n.from !== null);
        }

        // Where to read on: a step, or null: nothing is new.
        /** @param {{name: string, points: number, last_step: number}} row */
        #missing(row) {
                const s = this.series.get(row.name);
                if (s && (s.lastStep > this.to ? row.last_step >= s.lastStep : row.points === s.points && row.last_step === s.lastStep))
                        return null;
                if (!s || row.points < s.points || row.last_step < s.lastStep || s.step.length >= TOO_MANY)
                        return this.from;
                return s.step.length && s.width > 0 ? Math.max(this.from, Math.floor(s.step[s.step.length - 1] / s.width) * s.width) : this.from;
        }

        // Takes what was answered for a row when all from that step on was asked for.
        take(a, row, from) {
                /** @type {Series} */
                const s = (from > this.from && this.series.get(a.name)) ||
                        {name: a.name, points: 0, lastStep: 0, version: 0, width: a.bucket_width, step: [], time: [], count: [], bad: [], min: [], max: [], mean: [], last: []};
                s.points = row.points;
                s.lastStep = row.last_step;
                s.version = ++versions;
                fold(s, a, from);
                this.series.set(a.name, s);
        }
}

// Reads what is new of many jobs' series, which rows list (GET .../series): one question for all that miss the same steps.
/** @param {{curves: Curves, rows: any[]}[]} all @param {AbortSignal} [signal] */
export async function readTogether(all, signal) {
        const questions = new Map(), news = all.flatMap(({curves, rows}) => curves.news(rows)), unique = (list) => [...new Set(list)];
        for (const n of news) {
                const key = [n.from, n.curves.to, n.curves.attempt].join();
                questions.set(key, [...questions.get(key) ?? [], n]);
        }
        for (const asked of questions.values()) {
                const [{from, curves: {to, attempt}}] = asked, names = unique(asked.map((n) => n.row.name));
                for (let i = 0; i < names.length; i += NAMES_A_REQUEST) {
                        const answers = await api.series({jobs: unique(asked.map((n) => n.curves.job)), names: names.slice(i, i + NAMES_A_REQUEST), points: POINTS, attempt,
                                from: from > 0 ? from : undefined, to: Number.isFinite(to) ? to : undefined}, signal);
                        for (const a of answers) {
                                const of = asked.find(({curves, row}) => curves.job === a.job && row.name === a.name);
                                of?.curves.take(a, of.row, from);
                        }
                }
        }
}

// The least value of an answer, or null.
const least = (a) => a.min.map(api.number).filter(finite).reduce((lo, v) => (lo === null ? v : Math.min(lo, v)), null);

// Puts answer a, which begins at step `from`, in place of what s has from there on.
/** @param {Series} s */
export function fold(s, a, from) {
        const n = s.step.findLastIndex((step) => step < from) + 1;
        for (const key of COLUMNS)
                s[key].length = n;
        const values = Object.fromEntries(['min', 'max', 'mean', 'last'].map((key) => [key, a[key].map(api.number)]));
        const given = {...a, ...values, time: a.time_ms, bad: a.step.map((_, b) => ['nan', 'infinity', 'minus_infinity'].reduce((n, kind) => n + (a[kind]?.[b] ?? 0), 0))};
        if (!(a.bucket_width >= s.width))
                return append(s, given, n);
        for (const key of COLUMNS)
                s[key] = n ? [...s[key], ...given[key]] : given[key];
}

// Adds buckets behind the first n of s, each joined to the one before it where both lie in the same of s.
function append(s, given, n) {
        for (let i = 0; i < given.step.length; i++) {
                const j = s.step.length - 1, same = j >= n && s.width > 1 && Math.floor(s.step[j] / s.width) === Math.floor(given.step[i] / s.width);
                for (const key of COLUMNS)
                        if (same)
                                s[key][j] = JOINED[key](s[key][j], given[key][i], s.count[j] - s.bad[j], given.count[i] - given.bad[i]);
                        else
                                s[key].push(given[key][i]);
        }
}

// The series in buckets of so many steps, which its own lie in: all edges are multiples of powers of two.
/** @param {Series} s @param {number} width @returns {Series} */
export function widened(s, width) {
        const wide = {...s, width, ...Object.fromEntries(COLUMNS.map((key) => [key, []]))};
        append(wide, s, 0);
        return wide;
}

// What two neighbouring buckets hold together, n and m finite values; what these are counted by is joined last.
const both = (join) => (a, b, n, m) => (finite(a) && finite(b) ? join(a, b, n, m) : finite(a) ? a : b);
const newer = (a, b) => b, sum = (a, b) => a + b;
const JOINED = {step: newer, time: newer, last: newer, min: both((a, b) => Math.min(a, b)), max: both((a, b) => Math.max(a, b)),
        mean: both((a, b, n, m) => (n * a + m * b) / (n + m)), bad: sum, count: sum};
const COLUMNS = Object.keys(JOINED);

// The series with `detail` in place of its own buckets between the steps from and to.
/** @param {Series} s @param {Series} detail @param {number} from @param {number} to */
export function combine(s, detail, from, to) {
        const first = s.step.findLastIndex((step) => step < from) + 1, end = Math.max(first, s.step.findLastIndex((step) => step <= to) + 1);
        const c = {...s, width: detail.width, version: `${s.version} ${detail.version}`};
        for (const key of COLUMNS)
                c[key] = s[key].slice(0, first).concat(detail[key], s[key].slice(end));
        return c;
}

// The shape in few buckets and the last value of many jobs' series: job -> name -> {step, mean, last, least}.
export async function glance(jobs, names, points, signal) {
        const result = new Map();
        for (const a of await api.series({jobs, names, points}, signal))
                result.set(a.job, (result.get(a.job) ?? new Map()).set(a.name, {step: a.step, mean: a.mean.map(api.number), last: api.number(a.last.at(-1) ?? null), least: least(a)}));
        return result;
}
