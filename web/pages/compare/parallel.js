// What the result may depend on: parallel coordinates, an axis for each key that differs and each result, and any two of them
// against each other. Numbers stand where they are, all else in order. A stretch of an axis selects the runs that stand there: the
// others are hidden, here and in the charts.
import {compare, text} from '../../lib/config.js';
import {Component, format, h, Section} from '../../lib/page.js';
import {Choice} from '../../lib/panel.js';
import {curveColour, DASHES} from '../../lib/plot.js';

const WIDTH = 1000, HEIGHT = 310, TOP = 56, SIDE = 90, DENSE = 14; // of the drawing; axes at most
const WIDE = 800, HIGH = 340, LEFT = 90, BELOW = 50, ROOM = 30; // of the drawing of two
const REACH = 22;   // of what the pointer can take hold of, on each side
const STEP = 0.05;  // of an axis, by one press of a key
const CLICK = 0.02; // of an axis: a stretch that is shorter was a click

// Where the runs stand on an axis, as shares of its height from below; how a share is written, and what its ends are called.
function axis(title, values) {
        const missing = (v) => v === null || v === undefined || (typeof v === 'number' && !Number.isFinite(v));
        const known = values.filter((v) => !missing(v)), numbers = known.every((v) => typeof v === 'number');
        const all = [...new Set(known)].sort((a, b) => compare(a, b, false)), lo = all[0], hi = all[all.length - 1];
        const place = (v) => (all.length < 2 ? 0.5 : numbers ? (v - lo) / (hi - lo) : all.indexOf(v) / (all.length - 1));
        const write = (share) => (!known.length ? '–' : numbers ? format.real(lo + share * (hi - lo)) : text(all[Math.round(share * (all.length - 1))]));
        return {title, at: values.map((v) => (missing(v) ? null : place(v))), write, low: write(0), high: write(1)};
}

// properties: runs: as of the panel, with job; columns: of columnsOf; state: {brush: ['key:0.25:0.5', ..], hide}; set(change).
export class Parallel extends Component {
        #held = 0; // where the pointer went down, as a share
        #stretches = new Map(); // of the axes that select, key -> [least, most]: keys may come faster than frames

        ends = (a) => this.#stretches.get(a.key) ?? [0, 1];

        // Selects by another stretch of an axis, or, without one, no longer by it.
        select(axes, {key}, ends) {
                const {runs, set} = this.props, stretches = this.#stretches;
                stretches.delete(key);
                if (ends)
                        stretches.set(key, ends.map((v) => Math.min(1, Math.max(0, v))).sort((p, q) => p - q));
                const out = runs.filter((_, i) => axes.some((a) => {
                        const [least, most] = this.ends(a), share = a.at[i];
                        return stretches.has(a.key) && (share === null || share < least - 1e-9 || share > most + 1e-9);
                }));
                set({brush: [...stretches].map(([k, both]) => [k, ...both.map((v) => Number(v.toFixed(3)))].join(':')), hide: out.map((r) => r.id)});
        }

        render({runs, columns, state: {brush, hide}, set}) {
                const known = columns.map((c) => ({key: c.key, short: c.short, ...axis(c.axis, runs.map(c.value))})).filter((a) => new Set(a.at.filter((v) => v !== null)).size > 1);
                const axes = known.slice(0, DENSE).reverse(); // results are the first columns, and stand on the right
                const x = (i) => SIDE + i * (WIDTH - 2 * SIDE) / (axes.length - 1), y = (share) => TOP + (1 - share) * (HEIGHT - 2 * TOP);
                this.#stretches = new Map(brush.map((item) => item.split(':')).map((words) => [words.slice(0, -2).join(':'), words.slice(-2).map(Number)]));
                const line = (r, i) => {
                        const points = axes.flatMap((a, k) => (a.at[i] === null ? [] : [`${x(k).toFixed(1)},${y(a.at[i]).toFixed(1)}`]));
                        return h(`g${hide.includes(r.id) ? '.out' : ''}`, {key: r.id, style: {color: `var(${curveColour(r.colour)})`}}, h('title', null, r.name), h('polyline', {points: points.join(' '), 'stroke-dasharray': DASHES[r.dash].join(' ')}), points.map((p) => h('circle', {key: p, cx: p.split(',')[0], cy: p.split(',')[1], r: 4})));
                };
                const handle = (a, k, i) => {
                        const moves = {ArrowUp: STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowLeft: -STEP, Home: -1, End: 1}, at = y(this.ends(a)[i]), share = this.ends(a)[i];
                        const key = (e) => {
                                const [least, most] = this.ends(a), by = moves[e.key];
                                if (by === undefined && e.key !== 'Escape')
                                        return;
                                e.preventDefault();
                                this.select(axes, a, by === undefined ? null : i ? [least, Math.max(least, most + by)] : [Math.min(most, least + by), most]);
                        };
                        return h('g.handle', {key: i, tabindex: 0, role: 'slider', 'aria-orientation': 'vertical', 'aria-label': `${a.title}: ${i ? 'most' : 'least'}`, 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': Math.round(100 * share), 'aria-valuetext': a.write(share), onkeydown: key},
                                h('rect', {x: x(k) - REACH, y: i ? at - 2 * REACH : at, width: 2 * REACH, height: 2 * REACH}), h('path', {d: `M${x(k)} ${at}l-8 ${i ? -12 : 12}h16z`}));
                };
                const brushed = (a, k) => {
                        const [least, most] = this.ends(a), share = (e) => {
                                const {top, height} = e.currentTarget.getBoundingClientRect();
                                return 1 - (e.clientY - top) / height;
                        };
                        const down = (e) => {
                                e.currentTarget.setPointerCapture(e.pointerId);
                                this.#held = share(e);
                        };
                        const move = (e) => e.currentTarget.hasPointerCapture(e.pointerId) && Math.abs(share(e) - this.#held) >= CLICK && this.select(axes, a, [this.#held, share(e)]);
                        const up = (e) => Math.abs(share(e) - this.#held) < CLICK && this.select(axes, a, null);
                        return h(`g.brush${this.#stretches.has(a.key) ? '.on' : ''}`, {key: a.key}, h('rect.stretch', {x: x(k) - 8, y: y(most), width: 16, height: y(least) - y(most)}),
                                h('rect', {x: x(k) - REACH, y: y(1), width: 2 * REACH, height: y(0) - y(1), onpointerdown: down, onpointermove: move, onpointerup: up}), [0, 1].map((i) => handle(a, k, i)));
                };
                const rule = (a, k) => h('g.rule', {key: a.key}, h('path', {d: `M${x(k)} ${y(0)}V${y(1)}`}), h('text', {x: x(k), y: 16}, a.short), h('text.soft', {x: x(k), y: 32}, a.high), h('text.soft', {x: x(k), y: HEIGHT - 22}, a.low));
                return axes.length < 2 || runs.length < 2 ? null : h(Section, {title: 'What the result depends on', beside: [
                        h('span.soft', {role: 'status'}, brush.length ? `${runs.filter((r) => !hide.includes(r.id)).length} of ${runs.length} runs selected` : `Drag along an axis to select runs${known.length > DENSE ? `; ${DENSE} of ${known.length} axes` : ''}`),
                                brush.length ? h('button.button.small', {type: 'button', onclick: () => set({brush: [], hide: []})}, 'All runs') : null]},
                        h('div.card.diagram', {tabindex: 0, role: 'region', 'aria-label': 'Parallel coordinates, to scroll'}, h('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'group', 'aria-label': `Parallel coordinates of ${runs.length} runs: ${axes.map((a) => `${a.title} from ${a.low} to ${a.high}`).join('; ')}`}, axes.map(rule), runs.map(line), axes.map(brushed))));
        }
}

// properties: runs, columns: as of the table; state: {across, up: keys of columns, hide}; set(change).
export function Scatter({runs, columns, state: {across, up, hide}, set}) {
        const chosen = [across, up].map((key, i) => columns.find((c) => c.key === key) ?? (i ? columns[0] : columns.at(-1)));
        const [x, y] = chosen.map((c) => axis(c.axis, runs.map(c.value)));
        const right = (share) => LEFT + ROOM + share * (WIDE - LEFT - 3 * ROOM), top = (share) => HIGH - BELOW - ROOM - share * (HIGH - BELOW - 2 * ROOM);
        const shown = runs.map((r, i) => ({r, i})).filter(({r, i}) => !hide.includes(r.id) && x.at[i] !== null && y.at[i] !== null);
        const choice = (label, at, key) => h(Choice, {label, value: chosen[at].key, options: columns.map((c) => [c.key, c.title]), change: (v) => set({[key]: v})});
        const word = (kind, px, py, said) => h(`text${kind}`, {x: px, y: py}, said);
        return runs.length < 2 ? null : h(Section, {title: 'One against another', beside: h('div.chart-controls', null, choice('Up', 1, 'up'), choice('Across', 0, 'across'))},
                h('div.card.diagram', {tabindex: 0, role: 'region', 'aria-label': 'Scatter, to scroll'}, h('svg', {viewBox: `0 0 ${WIDE} ${HIGH}`, role: 'img', 'aria-label': `${y.title} from ${y.low} to ${y.high} against ${x.title} from ${x.low} to ${x.high}, of ${shown.length} runs`},
                        h('g.rule', null, h('path', {d: `M${LEFT} ${ROOM}V${HIGH - BELOW}H${WIDE - ROOM}`, fill: 'none'})),
                        word('', WIDE / 2, HIGH - 8, x.title), word('.soft', right(0), HIGH - BELOW + 18, x.low), word('.soft', right(1), HIGH - BELOW + 18, x.high),
                        word('', LEFT, 16, y.title), word('.soft', LEFT / 2, top(0) + 4, y.low), word('.soft', LEFT / 2, top(1) + 4, y.high),
                        shown.map(({r, i}) => h('g', {key: r.id, style: {color: `var(${curveColour(r.colour)})`}}, h('title', null, `${r.name}: ${x.title} ${chosen[0].value(r)}, ${y.title} ${chosen[1].value(r)}`), h('circle', {cx: right(x.at[i]).toFixed(1), cy: top(y.at[i]).toFixed(1), r: 6}))))));
}
