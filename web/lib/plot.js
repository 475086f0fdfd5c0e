// uPlot as the charts use it: a band between the buckets' least and greatest value, their mean, a smoothed line above it
// where the series is noisy, points where there are few, a cross where a value was not finite, a grey stretch where
// points are missing, a triangle at the edge that a clipped value lies beyond, dashed lines for published numbers. Which
// part of the x axis is seen is not its own: it asks for another by onView.
import uPlot from 'uplot';
import * as format from './format.js';
import {theme} from './habits.js';
import {isolated} from './lines.js';
import {logTicks, part} from './view.js';

const HEIGHT = 260, TALL = 560, COLUMNS = 4; // max, min, mean, smoothed
const LABEL = 150; // pixels that a published number's label takes
const COLOURS = 6;
export const DASHES = [[], [8, 4], [2, 3]];
const POINT_SPACE = 14;          // pixels a point has for itself where there are few
const NARROWEST_DRAG = 4;        // pixels; less is a click
const NEAR = '200px', REST_MS = 400; // a chart further outside of the window is drawn when no other part is asked for any more
const PAN = 0.2, ZOOM = 0.5;     // of the view, by one press of a key

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const curveColour = (i) => `--curve-${i % COLOURS + 1}`;
// Of the i-th of many lines: where the colours are used up, another dash.
export const curveDash = (i) => Math.floor(i / COLOURS) % DASHES.length;

// '#5b5bd6' -> '#5b5bd659'
const fade = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, '0');

// The points in view that lie beyond the usual values, of which each line shows the mean: [{l, place, up}].
export function clipped(lines, usual, view) {
        return !usual ? [] : lines.filter((l) => !l.off).flatMap((l) => l.table[0].flatMap((place, i) => {
                const v = l.table[3][i];
                return v !== null && (v > usual.hi || v < usual.lo) && place >= view.from && place <= view.to ? [{l, place, up: v > usual.hi}] : [];
        }));
}

export class Plot {
        #plot = /** @type {uPlot | null} */ (null);
        #shape = '';   // what a drawing is built for
        #content = ''; // the data it shows
        #lines = [];
        #inSight = true;
        #wanted = /** @type {any} */ (null); // [lines, content, options, view]: to be drawn when it comes into sight, or when all is at rest
        #timer = 0;
        #options = {};
        #view = {from: 0, to: 1};
        ticks = {x: /** @type {[number, string][]} */ ([]), y: /** @type {[number, string][]} */ ([])}; // as they are drawn

        // onView(view or null: all); onCursor(place on the x axis or null, whether by a key).
        constructor(body, onView, onCursor) {
                this.body = body;
                this.onView = onView;
                this.onCursor = onCursor;
                this.sized = new ResizeObserver(() => this.#resize());
                this.sized.observe(body);
                this.sighted = new IntersectionObserver((seen) => {
                        this.#inSight = seen[seen.length - 1].isIntersecting;
                        if (this.#inSight)
                                this.#catchUp();
                }, {rootMargin: NEAR});
                this.sighted.observe(body);
                this.recolour = () => this.#build();
                theme.addEventListener('change', this.recolour);
                body.addEventListener('keydown', (e) => this.#key(e));
        }

        // lines: [{name, colour, dash, off, noisy, table, gaps, bad}]; content: changes when they do; options: {axis, logX, logY,
        // band, smoothing, tall, references: [{name, value}], usual: {lo, hi} or null: the values that are not clipped}; view:
        // {from, to}.
        draw(lines, content, options, view) {
                clearTimeout(this.#timer);
                this.#wanted = [lines, content, options, view];
                if (!this.#plot || this.#inSight)
                        this.#catchUp();
                else
                        this.#timer = setTimeout(() => this.#catchUp(), REST_MS);
        }

        #catchUp() {
                if (!this.#wanted)
                        return;
                const [lines, content, options, view] = this.#wanted;
                this.#wanted = null;
                const shape = JSON.stringify([lines.map((l) => [l.name, l.noisy, l.ghost, l.colour, l.dash, l.off]), options.axis.label, options.logX, options.logY, options.band, options.smoothing > 0, options.tall]);
                const frame = (o, v) => JSON.stringify([v, o.usual, o.references]), moved = frame(options, view) !== frame(this.#options, this.#view);
                const reshape = shape !== this.#shape, renew = content !== this.#content;
                [this.#lines, this.#options, this.#view, this.#shape, this.#content] = [lines, options, view, shape, content];
                if (!this.#plot || reshape)
                        this.#build();
                else if (renew)
                        this.#plot.setData(this.#data());
                else if (moved)
                        this.#plot.setScale('x', {min: view.from, max: view.to});
        }

        // What is drawn, for those who write it down: {u, ticks}, or null.
        drawn() {
                this.#catchUp();
                return this.#plot && {u: this.#plot, ticks: this.ticks};
        }

        free() {
                clearTimeout(this.#timer);
                theme.removeEventListener('change', this.recolour);
                this.sized.disconnect();
                this.sighted.disconnect();
                this.#plot?.destroy();
        }

        #data() {
                return /** @type {any} */ (this.#lines.length ? uPlot.join(this.#lines.map((l) => l.table)) : [[]]);
        }

        #build() {
                const {logX, logY, tall} = this.#options;
                this.#plot?.destroy();
                this.#plot = null;
                if (!this.body.clientWidth)
                        return; // the observer tells when there is room
                this.#plot = new uPlot({
                        width: this.body.clientWidth, height: tall ? TALL : HEIGHT, legend: {show: false},
                        cursor: {
                                sync: {key: 'x'}, y: false, points: {size: 6}, drag: {x: true, y: false, setScale: false},
                                bind: {mousedown: (u, target, handler) => (e) => (e.shiftKey ? null : handler(e)), dblclick: () => () => this.onView(null)},
                        },
                        scales: {
                                x: {time: false, distr: logX ? 3 : 1, range: () => [this.#view.from, this.#view.to]},
                                y: {distr: logY ? 3 : 1, range: (u, lo, hi) => this.#range(lo, hi)},
                        },
                        axes: this.#axes(), ...this.#series(),
                        hooks: {
                                drawAxes: [(u) => this.#drawGaps(u)],
                                draw: [(u) => this.#drawMarks(u)],
                                setCursor: [(u) => this.onCursor(u.cursor.idx === null || u.cursor.idx === undefined ? null : u.data[0][u.cursor.idx], false)],
                                setSelect: [(u) => this.#selected(u)],
                        },
                }, this.#data(), this.body);
                this.#watchFingers(this.#plot.over);
        }

        /** @returns {[number, number]} */
        #range(least, most) {
                const {logY, usual, references} = this.#options, published = references.map((r) => r.value);
                if (least === null)
                        return logY ? [1, 10] : [0, 1];
                const lo = Math.min(usual && !(logY && usual.lo <= 0) ? usual.lo : least, ...published), hi = Math.max(usual?.hi ?? most, ...published);
                return logY ? [lo * 0.95, hi * 1.05] : /** @type {[number, number]} */ (uPlot.rangeNum(lo, hi, 0.1, true));
        }

        #axes() {
                const {axis: {increments, ticks: write, label}, logX, logY} = this.#options;
                const keep = (name, splits, texts) => {
                        this.ticks[name] = splits.map((v, i) => [v, texts[i]]);
                        return texts;
                };
                const axis = {stroke: colour('--text-soft'), grid: {stroke: colour('--grid'), width: 1}, ticks: {show: false}, font: '11px system-ui, sans-serif'};
                const ticks = (space) => ({splits: (u, i, lo, hi) => logTicks(lo, hi, (i ? u.height : u.width) / space), filter: (u, splits) => splits});
                return [
                        {...axis, ...(logX ? ticks(70) : {incrs: increments, space: label === 'Wall time' ? 110 : 70}), size: 28, values: (u, splits) => keep('x', splits, write(splits))},
                        {...axis, ...(logY ? ticks(36) : {}), size: 54, values: (u, splits) => keep('y', splits, splits.map((v) => format.real(v)))},
                ];
        }

        #series() {
                const {band, smoothing} = this.#options;
                const series = [{label: 'step'}], bands = [];
                this.#lines.forEach((l, i) => {
                        const c = colour(curveColour(l.colour)), at = 1 + COLUMNS * i, smoothed = l.noisy && smoothing > 0, faint = smoothed || l.ghost, dash = DASHES[l.dash];
                        const edge = {points: {show: false}, stroke: 'transparent', width: 0, show: band && !l.off && !l.ghost};
                        const points = {size: 5, fill: c, stroke: c, show: (u, k, first, last) => this.#few(u, k, first, last), filter: (u, k, show) => (show ? null : isolated(u.data[k]))};
                        series.push({...edge, label: `${l.name} max`}, {...edge, label: `${l.name} min`},
                                {label: `${l.name} mean`, stroke: faint ? fade(c, 0.35) : c, width: smoothed ? 1 / devicePixelRatio : 1.75, points, dash: smoothed ? [] : dash, show: !l.off},
                                {label: l.name, stroke: c, width: 2, points: {show: false}, show: smoothed && !l.off, dash});
                        bands.push({series: [at, at + 1], fill: fade(c, 0.16)});
                });
                return {series, bands};
        }

        #few(u, k, first, last) {
                let room = u.over.clientWidth / POINT_SPACE;
                for (let i = first; i <= last && room >= 0; i++)
                        room -= typeof u.data[k][i] === 'number' ? 1 : 0;
                return room >= 0;
        }

        #drawGaps(u) {
                const {ctx, bbox} = u;
                ctx.save();
                ctx.fillStyle = fade(colour('--calm'), 0.16);
                for (const [from, to] of this.#lines.flatMap((l) => l.gaps)) {
                        const lo = Math.max(bbox.left, u.valToPos(from, 'x', true)), hi = Math.min(bbox.left + bbox.width, u.valToPos(to, 'x', true));
                        if (hi > lo)
                                ctx.fillRect(lo, bbox.top, hi - lo, bbox.height);
                }
                ctx.restore();
        }

        #drawMarks(u) {
                const {ctx, bbox} = u, r = 4 * devicePixelRatio;
                const path = (points, close) => {
                        ctx.beginPath();
                        points.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
                        ctx[close ? 'fill' : 'stroke']();
                };
                ctx.save();
                ctx.setLineDash([]); // the last line's may still hold
                ctx.strokeStyle = colour('--bad');
                ctx.lineWidth = 2 * devicePixelRatio;
                this.#lines.filter((l) => !l.off).forEach((l, i) => l.bad.forEach((b) => {
                        const x = u.valToPos(l.x[b], 'x', true), y = bbox.top + r * (2 + 2.5 * i);
                        if (x < bbox.left || x > bbox.left + bbox.width)
                                return;
                        path([[x - r, y - r], [x + r, y + r]], false);
                        path([[x - r, y + r], [x + r, y - r]], false);
                }));
                for (const {l, place, up} of clipped(this.#lines, this.#options.usual, this.#view)) {
                        const x = u.valToPos(place, 'x', true), y = up ? bbox.top : bbox.top + bbox.height, back = up ? 2 * r : -2 * r;
                        ctx.fillStyle = colour(curveColour(l.colour));
                        path([[x, y], [x - r, y + back], [x + r, y + back]], true);
                }
                ctx.strokeStyle = ctx.fillStyle = colour('--text-soft');
                ctx.lineWidth = devicePixelRatio;
                ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
                ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
                const room = LABEL * devicePixelRatio, taken = Array(Math.max(1, Math.floor(bbox.width / room))).fill(Infinity); // labels of near lines stand beside each other
                for (const {name, value} of this.#options.references) {
                        const y = u.valToPos(value, 'y', true), column = taken.findIndex((before) => Math.abs(before - y) > 3 * r);
                        path([[bbox.left, y], [bbox.left + bbox.width, y]], false);
                        ctx.textAlign = 'right';
                        if (column < 0)
                                continue;
                        ctx.fillText(`${name} ${value.toFixed(2)}`, bbox.left + bbox.width - r - column * room, y - r / 2);
                        taken[column] = y;
                }
                ctx.restore();
        }

        #selected(u) {
                const {left, width} = u.select;
                if (width < NARROWEST_DRAG)
                        return;
                u.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
                if (u.cursor.event) // not one that another chart's drag moved along
                        this.onView({from: u.posToVal(left, 'x'), to: u.posToVal(left + width, 'x')});
        }

        // One finger, or the mouse with shift, moves the view; two fingers zoom: the steps below them stay below them.
        #watchFingers(over) {
                const held = new Map(), places = () => [...held.values()].sort((a, b) => a - b);
                let view = this.#view, began = places(); // when a finger came or went last
                const hold = (e) => held.set(e.pointerId, (e.clientX - over.getBoundingClientRect().left) / over.clientWidth);
                const grab = () => { [view, began] = [this.#view, places()]; };
                const release = (e) => held.delete(e.pointerId) && grab();
                over.addEventListener('pointerdown', (e) => {
                        if (e.pointerType === 'mouse' && !e.shiftKey)
                                return;
                        over.setPointerCapture(e.pointerId);
                        hold(e);
                        grab();
                });
                over.addEventListener('pointermove', (e) => {
                        if (!held.has(e.pointerId))
                                return;
                        hold(e);
                        const now = places(), size = now.length < 2 ? 1 : (began[1] - began[0]) / Math.max(now[1] - now[0], 1e-3), left = began[0] - now[0] * size;
                        this.onView(part(view, left, left + size, this.#options.logX));
                });
                over.addEventListener('pointerup', release);
                over.addEventListener('pointercancel', release);
        }

        #key(e) {
                const u = this.#plot;
                if (!u || e.ctrlKey || e.metaKey || e.altKey)
                        return;
                const at = u.cursor.idx ?? null, left = u.cursor.left ?? -1, middle = left >= 0 ? left / u.over.clientWidth : 0.5;
                const see = (a, b) => this.onView(part(this.#view, a, b, this.#options.logX));
                const zoom = (times) => see(middle * (1 - times), middle + (1 - middle) * times); // around the cursor, or around the middle
                const point = (i) => { // the nearest in view
                        const [first, last] = u.series[0].idxs ?? [0, -1], x = u.data[0][Math.min(last, Math.max(first, i))];
                        if (x === undefined)
                                return;
                        u.setCursor({left: u.valToPos(x, 'x'), top: 0});
                        this.onCursor(x, true);
                };
                const moves = {
                        ArrowLeft: () => (e.shiftKey ? see(-PAN, 1 - PAN) : point(at === null ? Infinity : at - 1)),
                        ArrowRight: () => (e.shiftKey ? see(PAN, 1 + PAN) : point(at === null ? -Infinity : at + 1)),
                        Home: () => point(-Infinity), End: () => point(Infinity),
                        '+': () => zoom(ZOOM), '=': () => zoom(ZOOM), '-': () => zoom(1 / ZOOM), 0: () => this.onView(null),
                        Escape: () => u.setCursor({left: -10, top: -10}),
                };
                if (!moves[e.key])
                        return;
                e.preventDefault();
                moves[e.key]();
        }

        #resize() {
                const width = this.body.clientWidth;
                if (width && this.#shape && !this.#plot)
                        this.#build();
                else if (width && this.#plot && Math.abs(this.#plot.width - width) > 1)
                        this.#plot.setSize({width, height: this.#plot.height});
        }
}
