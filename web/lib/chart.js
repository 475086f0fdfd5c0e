// A chart of one or more series over steps: the band between the buckets' least and greatest value, the mean, a smoothed
// line above it, and a mark where a value was not finite. Drawn by uPlot; its legend is ours, so that names stay text.
import uPlot from '../vendor/uPlot.esm.js';
import {h, setText} from './dom.js';
import * as format from './format.js';
import {smooth} from './curves.js';

const HEIGHT = 260, COLUMNS = 4; // max, min, mean, smoothed
const FEW = 30; // points that smoothing leaves as they are: an evaluation is no noise
const dark = matchMedia('(prefers-color-scheme: dark)');

const finite = (v) => typeof v === 'number' && Number.isFinite(v);

function colour(name) {
        return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function fade(hex, alpha) {
        const n = parseInt(hex.slice(1), 16);
        return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${alpha})`;
}

export class Chart {
        #plot = null;
        #key = '';
        #series = [];
        #options = {};
        #legend = [];
        #marks = [];

        constructor(title, unit = '') {
                this.title = title;
                this.#key = '';
                this.head = h('div.chart-legend');
                this.body = h('div.chart-body', {role: 'img'});
                this.element = h('section.card.chart', {'aria-label': title},
                        h('div.chart-head', null, h('h3', null, title), unit ? h('span.unit', null, unit) : null), this.head, this.body);
                this.observer = new ResizeObserver(() => this.#resize());
                this.observer.observe(this.body);
                this.recolour = () => this.#build();
                dark.addEventListener('change', this.recolour);
        }

        // series: of Curves, those of this chart. options: {smoothing, logX, logY, band}.
        draw(series, options) {
                this.#series = series;
                this.#options = options;
                const key = JSON.stringify([series.map((s) => s.name), options.logX, options.logY, options.band, options.smoothing > 0]);
                if (!this.#plot || key !== this.#key) {
                        this.#key = key;
                        this.#build();
                } else {
                        this.#plot.setData(this.#data());
                        this.#say();
                }
        }

        free() {
                dark.removeEventListener('change', this.recolour);
                this.observer.disconnect();
                this.#plot?.destroy();
                this.#plot = null;
        }

        #data() {
                const {logX, logY, smoothing} = this.#options;
                const shown = (v) => (finite(v) && (!logY || v > 0) ? v : null);
                this.#marks = [];
                const tables = this.#series.map((s, i) => {
                        const keep = [];
                        for (let b = 0; b < s.step.length; b++) {
                                if (logX && s.step[b] <= 0)
                                        continue;
                                keep.push(b);
                                if (!finite(s.last[b]) || !finite(s.mean[b]))
                                        this.#marks.push([s.step[b], i]);
                        }
                        const pick = (values) => keep.map((b) => shown(values[b]));
                        const mean = pick(s.mean);
                        return [keep.map((b) => s.step[b]), pick(s.max), pick(s.min), mean, mean.length < FEW ? mean : smooth(mean, smoothing)];
                });
                return tables.length ? uPlot.join(tables) : [[]];
        }

        #build() {
                this.#plot?.destroy();
                this.#plot = null;
                if (!this.#series.length || !this.element.isConnected)
                        return;
                const {logX, logY, band, smoothing} = this.#options;
                const text = colour('--text-soft'), grid = colour('--grid');
                const lines = [{label: 'step'}], bands = [];
                this.#legend = this.#series.map((s, i) => {
                        const c = colour(`--curve-${i % 6 + 1}`);
                        const at = 1 + COLUMNS * i;
                        const none = {points: {show: false}, stroke: 'transparent', width: 0, show: band};
                        const width = 1 / devicePixelRatio;
                        lines.push({...none, label: `${s.name} max`}, {...none, label: `${s.name} min`},
                                {label: `${s.name} mean`, stroke: smoothing > 0 ? fade(c, 0.35) : c, width: smoothing > 0 ? width : 1.75,
                                        points: {show: smoothing > 0 ? false : undefined, size: 5, fill: c}},
                                {label: s.name, stroke: c, width: 2, points: {show: false}, show: smoothing > 0});
                        bands.push({series: [at, at + 1], fill: fade(c, 0.16)});
                        const value = h('b');
                        const swatch = h('span.swatch');
                        swatch.style.background = c;
                        return {row: h('span.legend-item', null, swatch, h('span.legend-name', null, s.name), value), value, column: at + 2};
                });
                this.head.replaceChildren(...this.#legend.map((l) => l.row));
                const axis = {stroke: text, grid: {stroke: grid, width: 1}, ticks: {show: false}, font: '11px system-ui, sans-serif'};
                const data = this.#data();
                this.#plot = new uPlot({
                        width: Math.max(200, this.body.clientWidth), height: HEIGHT,
                        legend: {show: false},
                        cursor: {sync: {key: 'steps'}, y: false, points: {size: 6}, drag: {x: true, y: false}},
                        scales: {
                                x: logX ? {time: false, distr: 3, range: (u, lo, hi) => (lo === null ? [1, 10] : [lo, Math.max(hi, 1.01 * lo)])} : {time: false},
                                y: logY ? {distr: 3, range: (u, lo, hi) => (lo === null ? [1, 10] : [lo * 0.95, hi * 1.05])} : {},
                        },
                        axes: [
                                {...axis, size: 28, values: (u, splits) => splits.map((v) => (v === null ? '' : shortStep(v)))},
                                {...axis, ...(logY ? {splits: (u, k, lo, hi) => logSplits(lo, hi), filter: (u, splits) => splits} : {}), size: 54, values: (u, splits) => splits.map((v) => (v === null ? '' : format.real(v)))},
                        ],
                        series: lines, bands,
                        hooks: {
                                draw: [(u) => this.#drawMarks(u)],
                                setCursor: [() => this.#say()],
                        },
                }, data, this.body);
                this.#say();
        }

        #drawMarks(u) {
                const {ctx, bbox} = u, r = 4 * devicePixelRatio;
                ctx.save();
                ctx.strokeStyle = colour('--bad');
                ctx.lineWidth = 2 * devicePixelRatio;
                for (const [step, i] of this.#marks) {
                        const x = u.valToPos(step, 'x', true), y = bbox.top + r * (2 + 2.5 * i);
                        if (x < bbox.left || x > bbox.left + bbox.width)
                                continue;
                        ctx.beginPath();
                        ctx.moveTo(x - r, y - r);
                        ctx.lineTo(x + r, y + r);
                        ctx.moveTo(x + r, y - r);
                        ctx.lineTo(x - r, y + r);
                        ctx.stroke();
                }
                ctx.restore();
        }

        // The values under the cursor, or the last ones.
        #say() {
                const u = this.#plot;
                if (!u)
                        return;
                const idx = u.cursor.idx ?? u.data[0].length - 1;
                this.#legend.forEach((l, k) => {
                        const s = this.#series[k], step = u.data[0][idx];
                        let b = s.step.length - 1;
                        while (b > 0 && s.step[b] > step)
                                b--;
                        const v = b < 0 ? null : u.cursor.idx === null || u.cursor.idx === undefined ? s.last[b] : finite(s.mean[b]) ? s.mean[b] : s.last[b];
                        setText(l.value, b < 0 ? '–' : `${format.real(v)} at ${format.integer(s.step[b])}`);
                });
                if (u.cursor.idx === null || u.cursor.idx === undefined) {
                        const parts = this.#series.map((s) => `${s.name}: ${s.points} points, last ${format.real(s.last.at(-1) ?? null)} at step ${s.lastStep}`);
                        const bad = this.#marks.length ? `. ${this.#marks.length} places with values that are not finite` : '';
                        this.body.setAttribute('aria-label', `${this.title}. ${parts.join('; ')}${bad}`);
                }
        }

        #resize() {
                const width = this.body.clientWidth;
                if (!width)
                        return;
                if (!this.#plot)
                        this.#build();
                else if (Math.abs(this.#plot.width - width) > 1)
                        this.#plot.setSize({width, height: HEIGHT});
        }
}

// Ticks of a logarithmic axis: 1, 2, 5 times powers of ten; where that is too few, equally spaced round numbers.
function logSplits(lo, hi) {
        const ticks = [];
        for (let e = Math.floor(Math.log10(lo)); e <= Math.log10(hi); e++)
                for (const m of hi / lo > 1e4 ? [1] : [1, 2, 5])
                        if (m * 10 ** e >= lo && m * 10 ** e <= hi)
                                ticks.push(m * 10 ** e);
        if (ticks.length >= 3)
                return ticks;
        const rough = (hi - lo) / 5, power = 10 ** Math.floor(Math.log10(rough));
        const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
        const round = [];
        for (let k = Math.ceil(lo / step); k * step <= hi; k++)
                round.push(Number((k * step).toPrecision(12)));
        return round;
}

function shortStep(v) {
        if (v >= 1e6)
                return `${Number((v / 1e6).toPrecision(4))}M`;
        if (v >= 1e4)
                return `${Number((v / 1e3).toPrecision(4))}k`;
        return String(Number(v.toPrecision(6)));
}

const TITLES = {
        bpd: ['Bits per dimension', 'BPD'], images_per_second: ['Speed', 'images/s'], learning_rate: ['Learning rate', ''],
        gradient_norm: ['Gradient norm', ''], loss: ['Loss', ''], standard_error: ['Standard error', 'BPD'],
        var0: ['Variance of the noise at t = 0', ''], var1: ['Variance of the noise at t = 1', ''],
};
const PARTS = /(^|[/_])(recon|latent|diff|prior|kl)$/;

// Which chart a series belongs to: {key, title, unit, order}.
export function group(name) {
        const short = name.slice(name.indexOf('/') + 1);
        if (PARTS.test(short)) {
                const [, , part] = PARTS.exec(short);
                const titles = {recon: 'Part: reconstruction', latent: 'Part: latent and prior', diff: 'Part: diffusion'};
                return {key: `part/${part}`, title: titles[part] ?? `Part: ${part}`, unit: 'BPD', order: 1};
        }
        const [title, unit] = TITLES[short] ?? [short, ''];
        return {key: short, title, unit, order: short === 'bpd' ? 0 : 2};
}

// A curve the size of a word. Its values are also in the row's text.
export function sparkline(values, build) {
        const v = values.filter(finite);
        if (v.length < 2)
                return null;
        const sorted = [...v].sort((a, b) => a - b);
        const lo = sorted[0], hi = Math.max(sorted[Math.floor(0.97 * (sorted.length - 1))], lo + 1e-9);
        const points = v.map((y, i) => `${(100 * i / (v.length - 1)).toFixed(1)},${(22 - 20 * Math.min(1, (y - lo) / (hi - lo))).toFixed(1)}`);
        return build('svg', {viewBox: '0 0 100 24', class: 'spark', 'aria-hidden': 'true', preserveAspectRatio: 'none'},
                build('polyline', {points: points.join(' ')}));
}
