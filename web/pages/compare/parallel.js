// What the result may depend on: parallel coordinates, an axis for each key that differs and one for the result. Numbers
// stand where they are, all else in order.
import {compare, text} from '../../lib/config.js';
import {h} from '../../lib/dom.js';
import * as format from '../../lib/format.js';
import {curveColour} from '../../lib/plot.js';
import {testResult} from './table.js';

const WIDTH = 1000, HEIGHT = 290, TOP = 46, SIDE = 90, DENSE = 14; // of the drawing; axes at most

// Where the runs stand on an axis, as shares of its height from below, and what its ends are called.
export function axis(title, values) {
        const known = values.filter((v) => v !== null && v !== undefined), numbers = known.every((v) => typeof v === 'number');
        const all = [...new Set(known)].sort((a, b) => compare(a, b, false)), lo = all[0], hi = all[all.length - 1];
        const place = (v) => (all.length < 2 ? 0.5 : numbers ? (v - lo) / (hi - lo) : all.indexOf(v) / (all.length - 1));
        const write = (v) => (typeof v === 'number' ? format.real(v) : text(v));
        return {title, at: values.map((v) => (v === null || v === undefined ? null : place(v))), low: write(lo), high: write(hi)};
}

// properties: runs: as of the panel, with job; keys: paths that differ; hide: ids.
export function Parallel({runs, keys, hide}) {
        const axes = [...keys.slice(0, DENSE).map((k) => axis(k, runs.map((r) => r.config.get(k)))), axis('Test BPD', runs.map((r) => testResult(r).bpd))];
        const x = (i) => SIDE + i * (WIDTH - 2 * SIDE) / (axes.length - 1), y = (share) => TOP + (1 - share) * (HEIGHT - 2 * TOP);
        const line = (r, i) => {
                const points = axes.flatMap((a, k) => (a.at[i] === null ? [] : [`${x(k).toFixed(1)},${y(a.at[i]).toFixed(1)}`]));
                return hide.includes(r.id) ? null : h('g', {key: r.id, style: {color: `var(${curveColour(r.colour)})`}}, h('title', null, r.name), h('polyline', {points: points.join(' ')}), points.map((p) => h('circle', {key: p, cx: p.split(',')[0], cy: p.split(',')[1], r: 4})));
        };
        const rule = (a, k) => h('g.rule', {key: a.title}, h('path', {d: `M${x(k)} ${y(0)}V${y(1)}`}), h('text', {x: x(k), y: 16}, a.title.split('.').pop()), h('text.soft', {x: x(k), y: y(1) - 9}, a.high), h('text.soft', {x: x(k), y: y(0) + 20}, a.low));
        return !keys.length || runs.length < 2 ? null : h('section', {'aria-label': 'What the result depends on'}, h('div.section-head', null, h('h2', null, 'What the result depends on'), keys.length > DENSE ? h('span.soft', null, `The first ${DENSE} keys`) : null),
                h('div.card.diagram', {tabindex: 0, role: 'region', 'aria-label': 'Parallel coordinates, to scroll'}, h('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `Parallel coordinates of ${runs.length} runs: ${axes.map((a) => `${a.title} from ${a.low} to ${a.high}`).join('; ')}`}, axes.map(rule), runs.map(line))));
}
