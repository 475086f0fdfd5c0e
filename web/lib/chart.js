// A chart of one or more series over steps: title, legend with values, uPlot's drawing, and in words what the drawing
// leaves out. Its legend is ours, so that names stay text.
import {finite} from './curves.js';
import {Component, h} from './dom.js';
import * as format from './format.js';
import {columns} from './lines.js';
import {curveColour, Plot} from './plot.js';

const KEYS = 'Arrow keys: from point to point. Plus and minus: zoom. Shift and an arrow key: move. 0: all of it.';

// Index of the last bucket at or before a step, -1: none.
function bucketAt(s, step) {
        let b = s.step.length - 1;
        while (b >= 0 && s.step[b] > step)
                b--;
        return b;
}

// The values under the cursor, or the last ones. properties: series; hold(legend): once, its owner moves the cursor with
// setState({at: a step or null, typed: by a key}).
class Legend extends Component {
        componentDidMount() {
                this.props.hold(this);
        }

        text(s, at) {
                const b = at === null ? s.step.length - 1 : bucketAt(s, at);
                if (b < 0)
                        return '–';
                return `${format.real(at !== null && finite(s.mean[b]) ? s.mean[b] : s.last[b])} at ${format.integer(s.step[b])}`;
        }

        render({series}, {at = null, typed = false}) {
                return h('div', null,
                        h('div.chart-legend', null, series.map((s, i) => h('span.legend-item', {key: s.name},
                                h('span.swatch', {style: {background: `var(${curveColour(i)})`}}), h('span.legend-name', {title: s.name}, s.name),
                                h('b', null, this.text(s, at))))),
                        h('p.unseen', {role: 'status'}, typed && at !== null ? series.map((s) => `${s.name} ${this.text(s, at)}`).join('; ') : ''));
        }
}

// What a drawing does not show, in words.
function notes(series, lines, {logX, logY}, view) {
        const hidden = lines.reduce((n, l) => n + l.hidden, 0), missing = new Map(lines.flatMap((l) => l.gaps).map((g) => [g.join(), g]));
        const bad = lines.reduce((n, l) => n + l.bad.length, 0), total = series.reduce((n, s) => n + s.step.length, 0);
        const axes = [logX ? 'steps' : '', logY ? 'values' : ''].filter(Boolean).join(' or ');
        const said = [];
        if (hidden)
                said.push(hidden === total ? `Nothing to show: all ${axes} are 0 or less, which a log axis has no place for.`
                        : `${format.count(hidden, 'point')} not shown: ${axes} at or below 0 have no place on a log axis.`);
        else if (!series.some((s) => s.step.some((x) => x >= view.from && x <= view.to)))
                said.push('No points in this part.');
        for (const [from, to] of [...missing.values()].slice(0, 3))
                said.push(`No points between steps ${format.integer(from)} and ${format.integer(to)}.`);
        if (missing.size > 3)
                said.push(`${format.count(missing.size - 3, 'more gap')}.`);
        if (bad)
                said.push(`× marks ${format.count(bad, 'place')} with a value that is not finite.`);
        return said.join(' ');
}

// properties: title, unit, series: as of Curves, with `noisy`; options: {smoothing, logX, logY, band}; view; onView; wide.
export class Chart extends Component {
        #content = '';
        #lines = [];

        /** @type {Plot | undefined} */
        plot;

        componentDidMount() {
                this.plot = new Plot(this.body, (view) => this.props.onView(view), (at, typed) => this.legend.setState({at, typed}));
                this.componentDidUpdate();
        }

        componentDidUpdate() {
                this.plot?.draw(this.#lines, this.#content, this.props.options, this.props.view);
        }

        componentWillUnmount() {
                this.plot?.free();
        }

        #prepare({series, options}) {
                const content = JSON.stringify([series.map((s) => [s.name, s.version]), options]);
                if (content === this.#content)
                        return;
                this.#content = content;
                this.#lines = series.map((s) => ({name: s.name, noisy: s.noisy, ...columns(s, {...options, smoothing: s.noisy ? options.smoothing : 0})}));
        }

        render(properties) {
                const {title, unit, series, options, view, wide} = properties;
                this.#prepare(properties);
                const about = series.map((s) => `${s.name}: ${format.count(s.points, 'point')}, last ${format.real(s.last.at(-1) ?? null)} at step ${s.lastStep}`);
                const left = notes(series, this.#lines, options, view);
                return h(`section.card.chart${wide ? '.wide' : ''}`, {'aria-label': title},
                        h('div.chart-head', null, h('h3', null, title), unit ? h('span.unit', null, unit) : null),
                        h(Legend, {series, hold: (legend) => { this.legend = legend; }}),
                        h('div.chart-body', {role: 'application', tabindex: 0, 'aria-roledescription': 'chart', ref: (e) => { this.body = e; },
                                'aria-label': `${title}. Steps ${Math.round(view.from)} to ${Math.round(view.to)}. ${about.join('; ')}. ${KEYS}`}),
                        left ? h('p.chart-note', null, left) : null);
        }
}

const TITLES = {
        bpd: ['Bits per dimension', 'BPD'], images_per_second: ['Speed', 'images/s'], learning_rate: ['Learning rate', ''],
        gradient_norm: ['Gradient norm', ''], loss: ['Loss', ''], standard_error: ['Standard error', 'BPD'],
        var0: ['Variance of the noise at t = 0', ''], var1: ['Variance of the noise at t = 1', ''],
};
const PARTS = /(^|[/_])(recon|latent|diff|prior|kl)$/;
const PART_TITLES = {recon: 'Part: reconstruction', latent: 'Part: latent and prior', diff: 'Part: diffusion'};

// Which chart a series belongs to: {key, title, unit, order}.
function chartOf(name) {
        const short = name.slice(name.indexOf('/') + 1);
        const [, , part] = PARTS.exec(short) ?? [];
        if (part)
                return {key: `part/${part}`, title: PART_TITLES[part] ?? `Part: ${part}`, unit: 'BPD', order: 1};
        const [title, unit] = Object.hasOwn(TITLES, short) ? TITLES[short] : [short, ''];
        return {key: short, title, unit, order: short === 'bpd' ? 0 : 2};
}

// train before eval before others, so that colours keep their meaning
function order(a, b) {
        const rank = (n) => (n.startsWith('train/') ? 0 : n.startsWith('eval/') ? 1 : 2);
        return rank(a.name) - rank(b.name) || a.name.localeCompare(b.name);
}

// The charts that show these series: [{key, title, unit, series}].
export function charts(series) {
        const found = new Map();
        for (const s of [...series].sort(order)) {
                const c = chartOf(s.name);
                found.set(c.key, {...c, series: [...found.get(c.key)?.series ?? [], s]});
        }
        return [...found.values()].sort((a, b) => a.order - b.order || a.title.localeCompare(b.title));
}

// A curve the size of a word. Its values are also in the row's text.
export function Sparkline({values}) {
        const v = values.filter(finite);
        if (v.length < 2)
                return null;
        const sorted = [...v].sort((a, b) => a - b);
        const lo = sorted[0], hi = Math.max(sorted[Math.floor(0.97 * (sorted.length - 1))], lo + 1e-9);
        const points = v.map((y, i) => `${(100 * i / (v.length - 1)).toFixed(1)},${(22 - 20 * Math.min(1, (y - lo) / (hi - lo))).toFixed(1)}`);
        return h('svg.spark', {viewBox: '0 0 100 24', 'aria-hidden': 'true', preserveAspectRatio: 'none'}, h('polyline', {points: points.join(' ')}));
}
