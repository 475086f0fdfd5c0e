// A chart of one or more curves: title, legend with values, uPlot's drawing, and in words what the drawing leaves out. Its
// legend is ours, so that names stay text.
import {finite} from './curves.js';
import {Component, h, Menu, shut} from './dom.js';
import {csv, png, save, svg} from './export.js';
import * as format from './format.js';
import {columns, usual} from './lines.js';
import {clipped, curveColour, Plot} from './plot.js';

const KEYS = 'Arrow keys: from point to point. Plus and minus: zoom. Shift and an arrow key: move. 0: all of it.';

// The values under the cursor, or the last ones. properties: curves; axis; hide(curve) or null; hold(legend): once, its owner
// moves the cursor with setState({at: a place or null, typed: by a key}).
class Legend extends Component {
        componentDidMount = () => this.props.hold(this);

        text({x, s}, at) {
                const b = at === null ? x.length - 1 : x.findLastIndex((v) => v <= at);
                return b < 0 ? '–' : `${format.real(at !== null && finite(s.mean[b]) ? s.mean[b] : s.last[b])} at ${this.props.axis.text(x[b])}`;
        }

        render({curves, hide}, {at = null, typed = false}) {
                const item = (c) => [h('span.swatch', {'data-dash': c.dash, style: {background: `var(${curveColour(c.colour)})`}}), h('span.legend-name', {title: c.name}, c.name), h('b', null, c.off ? 'hidden' : this.text(c, at))];
                return h('div', null,
                        h('div.chart-legend', null, curves.map((c) => (hide
                                ? h('button.legend-item', {key: c.id, type: 'button', 'aria-pressed': String(!c.off), title: c.off ? 'Show' : 'Hide', onclick: () => hide(c)}, item(c))
                                : h('span.legend-item', {key: c.id}, item(c))))),
                        h('p.unseen', {role: 'status'}, typed && at !== null ? curves.filter((c) => !c.off).map((c) => `${c.name} ${this.text(c, at)}`).join('; ') : ''));
        }
}

// What a drawing does not show, in words. bad: marks in sight.
function notes(curves, lines, {axis, logX, logY, usual: range}, view, bad) {
        const hidden = lines.reduce((n, l) => n + l.hidden, 0), missing = new Map(lines.flatMap((l) => l.gaps).map((g) => [g.join(), g]));
        const total = curves.reduce((n, c) => n + c.x.length, 0), beyond = clipped(lines, range, view).length;
        const axes = [logX ? axis.title.toLowerCase() : '', logY ? 'values' : ''].filter(Boolean).join(' or '), width = Math.max(...curves.map((c) => c.s.width));
        return [
                hidden && hidden === total ? `Nothing to show: all ${axes} are 0 or less, which a log axis has no place for.` : '',
                hidden && hidden !== total ? `${format.count(hidden, 'point')} not shown: ${axes} at or below 0 have no place on a log axis.` : '',
                !hidden && !curves.some((c) => c.x.some((x) => x >= view.from && x <= view.to)) ? 'No points in this part.' : '',
                ...[...missing.values()].slice(0, 3).map(([from, to]) => `No points between ${axis.title.toLowerCase()} ${axis.text(from)} and ${axis.text(to)}.`),
                missing.size > 3 ? `${format.count(missing.size - 3, 'more gap')}.` : '',
                bad ? `× marks ${format.count(bad, 'place')} with a value that is not finite.` : '',
                width > 1 ? `A point stands for ${axis.stretch(width)}.` : '',
                beyond ? `A triangle at the edge marks ${format.count(beyond, 'place')} with a value beyond it.` : '',
        ].filter(Boolean).join(' ');
}

// properties: title, unit; curves: as of lines.js; options: {axis, smoothing, logX, logY, band, clip, tall, references}; view;
// part: it, null where it is all; onView; wide; hide(curve) or null; folded; fold(); todo: more for its menu;
// why(curve, time): the log of that time, in milliseconds.
export class Chart extends Component {
        #content = []; // what each line was made of
        #lines = [];
        #options = /** @type {any} */ ({});

        plot = /** @type {Plot | undefined} */ (undefined);

        componentDidUpdate() {
                if (this.body && !this.plot)
                        this.plot = new Plot(this.body, (view) => this.props.onView(view), (at, typed) => this.legend?.setState({at, typed}));
                if (!this.body)
                        this.componentWillUnmount();
                this.plot?.draw(this.#lines, this.#content.join(), this.#options, this.props.view);
        }

        componentDidMount = this.componentDidUpdate;

        componentWillUnmount() {
                this.plot?.free();
                this.plot = undefined;
        }

        #prepare({curves, options, view}) {
                const {axis, smoothing, logX, logY} = options;
                const keys = curves.map((c) => JSON.stringify([c.id, c.version, axis.label, c.s.noisy ? smoothing : 0, logX, logY])), made = new Map(this.#content.map((key, i) => [key, this.#lines[i]]));
                this.#lines = curves.map((c, i) => made.get(keys[i]) ?? columns(c, {logX, logY, smoothing: c.s.noisy ? smoothing : 0})); // of the others nothing is new
                this.#content = keys;
                this.#lines = this.#lines.map((l, i) => ({...l, name: curves[i].name, x: curves[i].x, colour: curves[i].colour, dash: curves[i].dash, off: curves[i].off, ghost: curves[i].ghost, noisy: curves[i].s.noisy}));
                const inView = (l) => l.table[3].filter((v, i) => l.table[0][i] >= view.from && l.table[0][i] <= view.to);
                this.#options = {...options, usual: options.clip ? usual(this.#lines.filter((l) => !l.off).flatMap(inView)) : null};
        }

        async #save(kind) {
                const {title, curves, options, part} = this.props, drawn = this.plot?.drawn();
                this.setState({told: kind === 'csv' ? 'Reading every point…' : ''});
                const make = async () => (kind === 'csv' ? csv(curves, options.axis, part) : !drawn ? null : kind === 'svg' ? svg(title, drawn, this.#lines, options) : png(title, drawn, this.#lines));
                const told = await make().then((blob) => blob && save(`${title}.${kind}`, blob), (e) => `The points could not be read: ${e.message}`);
                this.setState({told: told ?? ''});
        }

        render(properties, {told = ''}) {
                const {title, unit, curves, options: {axis, tall}, view, wide, hide, folded, fold, todo = [], why} = properties;
                const head = h('div.chart-head', null,
                        h('h3', null, fold ? h('button.fold', {type: 'button', 'aria-expanded': String(!folded), onclick: fold}, title) : title), unit ? h('span.unit', null, unit) : null,
                        folded ? null : h(Menu, {label: `${title}: menu`, text: '⋯', holds: () => [...todo, ...['csv', 'svg', 'png'].map((kind) => /** @type {[string, () => any]} */ ([`Save ${kind === 'csv' ? 'its points' : 'the picture'} as ${kind.toUpperCase()}`, () => this.#save(kind)]))].map(([label, call]) =>
                                h('button', {key: label, type: 'button', onclick: (e) => {
                                        shut(e);
                                        call();
                                }}, label))}));
                if (folded)
                        return h('section.card.chart.folded', {'aria-label': title}, head);
                this.#prepare(properties);
                const about = curves.map((c) => `${c.name}: ${format.count(c.s.points, 'point')}, last ${format.real(c.s.last.at(-1) ?? null)} at ${axis.label.toLowerCase()} ${axis.text(c.x.at(-1) ?? null)}`);
                const seen = (x) => x >= view.from && x <= view.to, marks = this.#lines.flatMap((l, i) => (l.off ? [] : l.bad.filter((b) => seen(l.x[b])).map((b) => ({curve: curves[i], time: curves[i].s.time[b]}))));
                const left = notes(curves, this.#lines, this.#options, view, marks.length);
                return h(`section.card.chart${wide ? '.wide' : ''}${tall ? '.tall' : ''}`, {'aria-label': title}, head,
                        h(Legend, {curves, axis, hide, hold: (legend) => { this.legend = legend; }}),
                        h('div.chart-body', {role: 'application', tabindex: 0, 'aria-roledescription': 'chart', ref: (e) => { this.body = e; },
                                'aria-label': `${title}. ${axis.title} ${view.from < view.to ? `${axis.title === 'Steps' ? Math.round(view.from) : axis.text(view.from)} to ${axis.title === 'Steps' ? Math.round(view.to) : axis.text(view.to)}` : ''}. ${about.join('; ')}. ${KEYS}`}),
                        left ? h('p.chart-note', null, left, marks.length ? [' ', h('button.button.small', {type: 'button', onclick: () => why(marks[0].curve, marks[0].time)}, 'The log of that time')] : null) : null,
                        told ? h('p.unit', {role: 'status'}, told) : null);
        }
}

/** @type {Record<string, [string, string]>} */
const TITLES = {
        __proto__: /** @type {any} */ (null), // no name is one of an object's own
        bpd: ['Bits per dimension', 'BPD'], images_per_second: ['Speed', 'images/s'], learning_rate: ['Learning rate', ''],
        gradient_norm: ['Gradient norm', ''], loss: ['Loss', ''], standard_error: ['Standard error', 'BPD'],
        busy: ['Device: utilisation', 'share'], celsius: ['Device: temperature', '°C'], memory_mib: ['Device: memory', 'MiB'], watts: ['Device: power', 'W'],
        step_ms: ['Time of a step', 'ms'], tflops: ['Arithmetic', 'TFLOP/s'], var0: ['Variance of the noise at t = 0', ''], var1: ['Variance of the noise at t = 1', ''],
        'part/recon': ['Part: reconstruction', 'BPD'], 'part/latent': ['Part: latent and prior', 'BPD'], 'part/diff': ['Part: diffusion', 'BPD'], 'part/prior': ['Part: prior', 'BPD'], 'part/kl': ['Part: kl', 'BPD'],
        'time/diff': ['Diffusion term over time', 'BPD'], 'time/gamma_mean': ['Gamma over time', 'mean of the images'], 'time/gamma_spread': ['Spread of gamma over an image', ''],
};
const PART = /(?:^|[/_])(recon|latent|diff|prior|kl)$/, WHOSE = {__proto__: null, train: 'training', eval: 'test'};

// Which chart a series belongs to: {key, title, unit, order}.
function chartOf(name) {
        const short = overTime(name) ? name : name.slice(name.indexOf('/') + 1), part = overTime(name) ? null : PART.exec(short), key = part ? `part/${part[1]}` : short;
        const [title, unit] = TITLES[key] ?? [key, ''];
        return {key, title, unit, order: key === 'bpd' ? 0 : part || overTime(name) ? 1 : ofDevice(name) ? 3 : 2};
}

// Whether a series' x is the diffusion's time, not the training's.
export const overTime = (name) => name.startsWith('time/');
export const ofDevice = (name) => name.startsWith('device/');

const byText = (a, b) => (a < b ? -1 : Number(a > b)); // a collator would cost a page more than all of its charts' titles

// train before eval before others, so that colours keep their meaning
const rank = (name) => ['train/', 'eval/', ''].findIndex((begin) => name.startsWith(begin));

// The charts that show series of these names: [{key, title, unit, names}]. apart: each on its own, where many runs share a
// chart.
export function charts(names, apart) {
        const found = new Map();
        for (const name of [...names].sort((a, b) => rank(a) - rank(b) || byText(a, b))) {
                const c = chartOf(name), key = apart ? name : c.key;
                found.set(key, {...c, key, title: apart && key !== c.key ? `${c.title}, ${WHOSE[name.split('/')[0]] ?? name}` : c.title, names: [...found.get(key)?.names ?? [], name]});
        }
        return [...found.values()].sort((a, b) => a.order - b.order || byText(a.title, b.title));
}
