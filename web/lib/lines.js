// What becomes of a series before it is drawn: where it is noisy, where it has gaps, what an axis cannot show.
import {finite} from './curves.js';

const NOISY_SHARE = 0.25, NOISY_POINTS = 8; // turning points of white noise are two thirds of all
const GAP = 2.5; // times as far as usual; a bucket that holds two points where its neighbours hold one makes 2

// Whether smoothing says anything: a training batch's values jump from one to the next; a schedule does not, and an
// evaluation is of many images already.
/** @param {import('./curves.js').Series} s */
export function isNoisy(s) {
        if (s.name.startsWith('eval/'))
                return false;
        const v = s.mean.filter(finite);
        let turns = 0;
        for (let i = 2; i < v.length; i++)
                if ((v[i] - v[i - 1]) * (v[i - 1] - v[i - 2]) < 0)
                        turns++;
        return v.length >= NOISY_POINTS && turns > NOISY_SHARE * (v.length - 2);
}

// TensorBoard's smoothing: an average that forgets by `weight`, corrected for its start. Holes stay holes.
export function smooth(values, weight) {
        if (weight <= 0)
                return values;
        let average = 0, known = 0;
        return values.map((v) => {
                if (!finite(v))
                        return v;
                average = average * weight + (1 - weight) * v;
                known = known * weight + (1 - weight);
                return average / known;
        });
}

// Pairs of neighbouring steps between which points are missing: much further apart than those on both sides. A series
// that is merely written less often from some step on has none.
export function gaps(step) {
        const found = [];
        for (let i = 2; i + 1 < step.length; i++) {
                const usual = Math.max(step[i - 1] - step[i - 2], step[i + 1] - step[i]);
                if (usual > 0 && step[i] - step[i - 1] > GAP * usual)
                        found.push([step[i - 1], step[i]]);
        }
        return found;
}

// The columns to draw of a series: {table: [x, max, min, mean, smoothed], gaps, bad, hidden}. A gap is a row of nulls at
// its middle; bad: steps with a value that is not finite; hidden: buckets that a logarithmic axis has no place for.
/** @param {import('./curves.js').Series} s @param {{logX: boolean, logY: boolean, smoothing: number}} how */
export function columns(s, {logX, logY, smoothing}) {
        const shown = (v) => (finite(v) && (!logY || v > 0) ? v : null);
        /** @type {(number | null)[][]} */
        const table = [[], [], [], []];
        /** @type {number[]} */
        const bad = [];
        const keep = s.step.map((x, b) => b).filter((b) => !logX || s.step[b] > 0);
        const missing = gaps(keep.map((b) => s.step[b]));
        let hidden = s.step.length - keep.length, next = 0;
        for (const b of keep) {
                if (next < missing.length && s.step[b] === missing[next][1]) {
                        const [from, to] = missing[next++];
                        [(from + to) / 2, null, null, null].forEach((v, k) => table[k].push(v));
                }
                if (!finite(s.last[b]) || !finite(s.mean[b]))
                        bad.push(s.step[b]);
                else if (shown(s.mean[b]) === null)
                        hidden++;
                [s.step[b], shown(s.max[b]), shown(s.min[b]), shown(s.mean[b])].forEach((v, k) => table[k].push(v));
        }
        return {table: [...table, smooth(table[3], smoothing)], gaps: missing, bad, hidden};
}

// Indices of values whose neighbours on both sides are holes (null) or ends: no line leads to them. undefined is no hole:
// another series has a point there.
export function isolated(values) {
        const found = [];
        let candidate = -1, before = null;
        values.forEach((v, i) => {
                if (v === undefined)
                        return;
                if (candidate >= 0 && v === null)
                        found.push(candidate);
                candidate = v !== null && before === null ? i : -1;
                before = v;
        });
        if (candidate >= 0)
                found.push(candidate);
        return found;
}
