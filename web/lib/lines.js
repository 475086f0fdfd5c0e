// What becomes of a series before it is drawn: where it is noisy, where it has gaps, what an axis cannot show.
import {finite} from './curves.js';

const NOISY_SHARE = 0.25, NOISY_POINTS = 8; // turning points of white noise are two thirds of all
const GAP = 2.5; // times as far as usual; a bucket that holds two points where its neighbours hold one makes 2

// Whether smoothing says anything: a training batch's values jump from one to the next; a schedule does not, and an
// evaluation is of many images already.
/** @param {import('./curves.js').Series} s */
export function isNoisy(s) {
        if (/^(eval|time)\//.test(s.name))
                return false;
        const v = s.mean.filter(finite), turns = v.filter((_, i) => i > 1 && (v[i] - v[i - 1]) * (v[i - 1] - v[i - 2]) < 0).length;
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
        const usual = (i) => Math.max(step[i - 1] - step[i - 2], step[i + 1] - step[i]); // NaN at the ends
        return step.flatMap((s, i) => (usual(i) > 0 && s - step[i - 1] > GAP * usual(i) ? [[step[i - 1], s]] : []));
}

// What is drawn of a series: places on the axis, and what a line is called. error: of each bucket, where it is known.
/** @typedef {{id: string, name: string, colour: number, dash: number, off: boolean, s: import('./curves.js').Series, x: number[], start: number, ghost?: boolean,
 *             error: (number | null)[] | null, version: string, run: string, where: import('./axis.js').Run, of?: Curve[]}} Curve  where: of its run; of: the curves of a group */

// The columns to draw of a curve: {table: [x, most, least, mean, smoothed], gaps, bad, hidden}. A gap begins and ends
// with a row of nulls; bad: buckets with a value that is not finite; hidden: buckets that a logarithmic axis has no place for. The
// band reaches from the least to the greatest value, and a standard error below and above the value where there is one.
/** @param {Pick<Curve, 's' | 'x' | 'error'>} curve @param {{logX: boolean, logY: boolean, smoothing: number}} how */
export function columns({s, x, error}, {logX, logY, smoothing}) {
        const shown = (v) => (finite(v) && (!logY || v > 0) ? v : null);
        const edge = (b, v, sign) => shown(finite(error?.[b]) && finite(v) && finite(s.last[b]) ? Math[sign > 0 ? 'max' : 'min'](v, s.last[b] + sign * error[b]) : v);
        const [places, most, least, mean] = /** @type {(number | null)[][]} */ ([[], [], [], []]), table = [places, most, least, mean];
        const push = (place, hi, lo, v) => { // a zoom of many runs makes tens of thousands of rows
                places.push(place);
                most.push(hi);
                least.push(lo);
                mean.push(v);
        };
        const bad = [], placed = logX ? x.filter((v) => v > 0) : x, skipped = x.length - placed.length; // places only ever grow
        const missing = gaps(placed);
        let hidden = skipped, next = 0;
        for (let b = skipped; b < x.length; b++) {
                if (next < missing.length && x[b] === missing[next][1]) {
                        const [from, to] = missing[next++], little = (to - from) * 1e-6;
                        push(from + little, null, null, null);
                        push(to - little, null, null, null);
                }
                const v = shown(s.mean[b]);
                if (s.bad[b] > 0)
                        bad.push(b);
                if (v === null && finite(s.mean[b]))
                        hidden++;
                push(x[b], edge(b, s.max[b], 1), edge(b, s.min[b], -1), v);
        }
        return {table: [...table, smooth(table[3], smoothing)], gaps: missing, bad, hidden};
}

const SPARE = 0.5, RARE = 0.02; // of the usual range, on both sides; of the values, on each side

// The range that holds what is usual of many values; null where nothing is far from it.
export function usual(values) {
        const v = values.filter(finite).sort((a, b) => a - b), at = (q) => v[Math.round(q * (v.length - 1))];
        if (v.length < 8)
                return null;
        const lo = at(RARE), hi = at(1 - RARE), room = SPARE * (hi - lo || Math.abs(hi) || 1);
        return v[0] >= lo - room && v[v.length - 1] <= hi + room ? null : {lo: Math.max(v[0], lo - room), hi: Math.min(v[v.length - 1], hi + room)};
}

// Many curves as one: {x, series}, the mean and one standard deviation around it of the lines between their points, each
// as far as its points reach. The places are those of the curve that has most of them.
/** @param {Curve[]} curves */
export function average(curves) {
        const grid = curves.reduce((a, b) => (b.x.length > a.x.length ? b : a)).x;
        const lines = curves.map(({x, s}) => along(grid, x.flatMap((v, b) => (finite(s.mean[b]) ? [[v, s.mean[b]]] : []))));
        const places = grid.map((x, i) => ({x, values: lines.flatMap((l) => l[i] ?? [])})).filter(({values}) => values.length);
        const mean = places.map(({values}) => values.reduce((a, b) => a + b) / values.length);
        const spread = places.map(({values}, j) => (values.length > 1 ? Math.sqrt(values.reduce((sum, v) => sum + (v - mean[j]) ** 2, 0) / (values.length - 1)) : 0));
        const edge = (sign) => mean.map((v, j) => v + sign * spread[j]);
        return {x: places.map(({x}) => x), mean, last: mean, count: places.map(({values}) => values.length), min: edge(-1), max: edge(1)};
}

// The line through points at each place of a grid; null where it does not reach.
function along(grid, points) {
        let k = 0;
        return grid.map((x) => {
                while (k < points.length && points[k][0] < x)
                        k++;
                const a = points[k - 1], b = points[k];
                return b?.[0] === x ? b[1] : a && b ? a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0]) : null;
        });
}

// Indices of values whose neighbours on both sides are holes (null) or ends: no line leads to them. undefined is no hole:
// another series has a point there.
export function isolated(values) {
        const own = values.flatMap((v, i) => (v === undefined ? [] : [i])), hole = (k) => (values[own[k]] ?? null) === null;
        return own.filter((_, k) => !hole(k) && hole(k - 1) && hole(k + 1));
}
