// A job's curves: what is known of them, the part that is seen, and the charts. All charts show the same steps.
import * as api from '../../lib/api.js';
import {Chart, charts} from '../../lib/chart.js';
import {combine, Curves} from '../../lib/curves.js';
import {Component, h} from '../../lib/dom.js';
import {isNoisy} from '../../lib/lines.js';
import {isFinal} from '../../lib/parts.js';
import {bounded, domain, part} from '../../lib/view.js';

const SETTINGS = 'mulund.chart';
const MARGIN = 0.25;     // of a view, read on both sides of it
const SETTLE_MS = 120;   // a view that moves on and on is read when it rests

// The whole of every series in about a thousand buckets, and the seen part of them in as many.
export class JobCurves {
        #id;
        /** @type {AbortController | null} */
        #control = null; // of the detail's request
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        #timer;
        #looked = -Infinity; // when, in milliseconds
        #combined = new Map(); // name -> {version, series}

        constructor(id) {
                this.#id = id;
                this.rows = [];
                this.whole = new Curves(id);
                /** @type {Curves | null} */
                this.detail = null;
                this.loaded = false;
        }

        async update(signal) {
                this.rows = await api.seriesNames(this.#id, signal);
                await this.whole.update(this.rows, signal);
                this.loaded = true;
                for (const s of this.whole.series.values())
                        s.noisy ||= isNoisy(s); // for good: a drawing does not change its kind halfway
                await this.detail?.update(this.#coarse(), signal);
        }

        // Of these a part can be read more finely.
        #coarse() {
                return this.rows.filter((r) => (this.whole.series.get(r.name)?.width ?? 1) > 1);
        }

        // Reads the part that is seen more finely, where it is not known to the last point yet. changed(error or null).
        look(view, changed) {
                clearTimeout(this.#timer);
                this.#control?.abort();
                if (!view) {
                        this.detail = null;
                        return;
                }
                const now = performance.now(), wait = now - this.#looked < SETTLE_MS ? SETTLE_MS : 0;
                this.#looked = now;
                this.#timer = setTimeout(async () => {
                        const size = view.to - view.from;
                        const detail = new Curves(this.#id, Math.max(0, Math.floor(view.from - MARGIN * size)), Math.ceil(view.to + MARGIN * size));
                        const control = this.#control = new AbortController();
                        try {
                                await detail.update(this.#coarse(), control.signal);
                        } catch (e) {
                                if (!(e instanceof api.Dropped))
                                        changed(e);
                                return;
                        }
                        this.detail = detail;
                        changed(null);
                }, wait);
        }

        stop() {
                clearTimeout(this.#timer);
                this.#control?.abort();
        }

        // As they are drawn now.
        series() {
                const part = this.detail;
                return [...this.whole.series.values()].map((s) => {
                        const detail = part?.series.get(s.name);
                        if (!part || !detail || detail.width >= s.width)
                                return s;
                        const version = `${s.version} ${detail.version}`, known = this.#combined.get(s.name);
                        if (known?.version === version)
                                return known;
                        const made = combine(s, detail, part.from, part.to);
                        this.#combined.set(s.name, made);
                        return made;
                });
        }
}

function loadSettings() {
        const d = {smoothing: 0.6, logX: false, logY: false, band: true};
        try {
                const s = JSON.parse(localStorage.getItem(SETTINGS) ?? '{}');
                for (const k of Object.keys(d))
                        if (typeof s[k] === typeof d[k])
                                d[k] = s[k];
        } catch {
                /* a browser without storage, or nonsense in it: the defaults */
        }
        return d;
}

// One of two: {label, value, off, on, change(value)}.
function Switch({label, value, off, on, change}) {
        const button = (v, text) => h('button', {type: 'button', 'aria-pressed': String(value === v), onclick: () => change(v)}, text);
        return h('div.switch', {role: 'group', 'aria-label': label}, h('span', null, label), button(false, off), button(true, on));
}

// properties: job, curves: a JobCurves.
export class CurvesPanel extends Component {
        constructor(properties) {
                super(properties);
                this.state = {options: loadSettings(), view: null, error: null};
        }

        set(change) {
                const options = {...this.state.options, ...change};
                try {
                        localStorage.setItem(SETTINGS, JSON.stringify(options));
                } catch {
                        /* only a convenience */
                }
                this.setState({options});
        }

        whole() {
                return domain([...this.props.curves.whole.series.values()], this.state.options.logX);
        }

        // Another part of the x axis; null: all of it. It holds until the next one is asked for.
        show(asked) {
                const view = asked && bounded(asked, this.whole(), this.state.options.logX);
                this.setState({view, error: null});
                this.props.curves.look(view, (error) => this.setState({error}));
        }

        controls(view) {
                const {options} = this.state;
                const zoom = (label, text, wanted, disabled) => h('button', {type: 'button', 'aria-label': label, title: label, disabled, onclick: () => this.show(wanted)}, text);
                return h('div.chart-controls', null,
                        h('label.smoothing', {for: 'smoothing', title: 'Of what is noisy; evaluations and schedules stay as they are'}, 'Smoothing',
                                h('input', {type: 'range', id: 'smoothing', min: 0, max: 0.99, step: 0.01, value: options.smoothing, oninput: (e) => this.set({smoothing: Number(e.target.value)})}),
                                h('output', {for: 'smoothing'}, options.smoothing.toFixed(2))),
                        h(Switch, {label: 'Steps', value: options.logX, off: 'linear', on: 'log', change: (logX) => this.set({logX})}),
                        h(Switch, {label: 'Values', value: options.logY, off: 'linear', on: 'log', change: (logY) => this.set({logY})}),
                        h(Switch, {label: 'Min–max band', value: options.band, off: 'off', on: 'on', change: (band) => this.set({band})}),
                        h('div.switch', {role: 'group', 'aria-label': 'Zoom'}, h('span', {title: 'Drag over a chart, or pinch it; double-click for all of it; Shift and drag moves'}, 'Zoom'),
                                zoom('Zoom in', '+', part(view, 0.25, 0.75, options.logX)),
                                zoom('Zoom out', '−', part(view, -0.5, 1.5, options.logX), !this.state.view),
                                zoom('All steps', 'all', null, !this.state.view)));
        }

        render({job, curves}, {options, view: asked, error}) {
                const whole = this.whole(), view = (asked && bounded(asked, whole, options.logX)) ?? whole;
                const list = charts(curves.series());
                const nothing = !curves.loaded ? 'Reading the curves…' : isFinal(job.state) ? 'This run left no points.' : 'No points yet: the first come after a few steps.';
                return h('section', {'aria-label': 'Curves'},
                        h('div.section-head', null, h('h2', null, 'Curves'), list.length ? this.controls(view) : null),
                        error ? h('p.card.empty-line', {role: 'alert'}, `The detail could not be read: ${error.message}`) : null,
                        list.length ? null : h('p.card.empty-line', null, nothing),
                        h('div.charts', null, list.map((c, i) => h(Chart, {key: c.key, title: c.title, unit: c.unit, series: c.series, options, view, wide: i === 0, onView: (v) => this.show(v)}))));
        }
}
