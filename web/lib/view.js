// The part of the x axis that is seen: {from, to} in the axis' unit; how it is zoomed and moved, linear or logarithmic;
// its ticks.

/** @typedef {{from: number, to: number}} View */

const place = (v, log) => (log ? Math.log(v) : v);
const value = (p, log) => (log ? Math.exp(p) : p);

// The view in which the pixels' shares a..b of `view` fill the axis: a < 0 or b > 1 shows more.
export function part(view, a, b, log) {
        const lo = place(view.from, log), size = place(view.to, log) - lo;
        return {from: value(lo + a * size, log), to: value(lo + b * size, log)};
}

// `view` within `whole`, no narrower than so much; null where that is all of it.
export function bounded(view, whole, log, narrowest = 2) {
        const start = place(log && view.from <= 0 ? whole.from : view.from, log), begin = place(whole.from, log), end = place(whole.to, log);
        const size = Math.min(place(view.to, log) - start, end - begin);
        const lo = Math.min(Math.max(start, begin), end - size);
        let from = value(lo, log), to = value(lo + size, log);
        if (to - from < narrowest) {
                const middle = (from + to) / 2;
                from = Math.max(whole.from, middle - narrowest / 2);
                to = from + narrowest;
        }
        return from <= whole.from * (1 + 1e-9) && to >= whole.to * (1 - 1e-9) ? null : {from, to};
}

// The x range that all curves share, {x, start} each: start is where the first bucket begins. A single place has room on
// both sides.
export function domain(curves, log) {
        const first = ({x, start}) => (log ? x.find((v) => v > 0) : x.length ? Math.min(start, x[0]) : undefined), there = curves.filter((c) => first(c) !== undefined);
        const from = Math.min(...there.map(first)), to = Math.max(...there.map(({x}) => x[x.length - 1]));
        if (from > to)
                return log ? {from: 1, to: 10} : {from: 0, to: 1};
        return from < to ? {from, to} : log ? {from: from / 2, to: 2 * to} : {from: from - 1, to: to + 1};
}

// Ticks of a logarithmic axis, at most about n: powers of ten, with 2 and 5 between where there is room; where that is
// too few, equally spaced round numbers.
export function logTicks(lo, hi, n = 8) {
        const decades = Math.log10(hi / lo), stride = Math.max(1, Math.ceil(decades / n));
        const ticks = [];
        for (let e = Math.floor(Math.log10(lo)); e <= Math.log10(hi); e++)
                for (const m of 3 * decades > n ? [1] : [1, 2, 5]) {
                        const tick = Number(`${m}e${e}`);
                        if (e % stride === 0 && tick >= lo && tick <= hi)
                                ticks.push(tick);
                }
        if (ticks.length >= 3 || decades > 1)
                return ticks;
        const rough = (hi - lo) / 5, power = 10 ** Math.floor(Math.log10(rough));
        const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? power;
        const first = Math.ceil(lo / step);
        return Array.from({length: Math.floor(hi / step) - first + 1}, (_, k) => Number(((first + k) * step).toPrecision(12)));
}
