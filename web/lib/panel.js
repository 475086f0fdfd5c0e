// The curves of one run or of many: which charts there are and in which order, how they are drawn, which part is seen. All
// charts show the same part. What is chosen is in the page's address.
import {Address} from './address.js';
import {AXES} from './axis.js';
import {Chart, charts, ofDevice, overTime} from './chart.js';
import {flat, text, toggled} from './config.js';
import {widened} from './curves.js';
import {Component, h} from './dom.js';
import {stored} from './habits.js';
import {average, isNoisy} from './lines.js';
import {Page, Section} from './page.js';
import {curveDash} from './plot.js';
import PUBLISHED from './published.json';
import {Detail} from './run.js';
import {bounded, domain, part} from './view.js';

/** @typedef {{id: string, name: string, colour: number, config: Map<string, unknown>, axis: import('./axis.js').Run, curves: import('./run.js').RunCurves,
 *             ghosts?: (import('./curves.js').Series & {attempt: number})[]}} Shown  ghosts: what earlier attempts wrote and later ones wrote anew */

const HABITS = 'mulund.chart', HABITUAL = ['smooth', 'logx', 'logy', 'band'];
const ERROR_OF = {'eval/bpd': 'eval/standard_error'};
const MOST = 60; // charts at once
const MINUTE = 16; // characters of a time: its date, hour and minute, as in a worker's log
export const SEED = 'training.seed', BY_SEED = 'seed';

// What a panel keeps in its page's address, as it usually is.
const VIEW = {x: 'step', smooth: 0.6, logx: false, logy: false, band: true, clip: false, from: NaN, to: NaN, hide: [''].slice(1), group: '', refs: '', find: '',
        pin: [''].slice(1), order: [''].slice(1), fold: [''].slice(1), big: ''};

// A page that has a panel: what was chosen is shown, and what that needs more is read. usual: what else its address holds.
export class CurvesPage extends Page {
        constructor(main, name, usual) {
                super(main, name);
                this.address = this.own(new Address({...usual, ...VIEW}, ['smooth'], (change) => {
                        this.draw();
                        if (['fold', 'find', 'x', 'images'].some((k) => k in change))
                                this.loop?.poke();
                }));
                const kept = stored((s) => JSON.parse(s.getItem(HABITS) ?? '{}')) ?? {};
                if (this.address.silent) // one's own habits hold where it says nothing
                        this.address.set(Object.fromEntries(HABITUAL.filter((k) => typeof kept[k] === typeof VIEW[k]).map((k) => [k, kept[k]])));
        }
}

// Whether a chart is folded: in a comparison all but bits per dimension are, until they are unfolded.
export const folded = (key, state, apart) => (apart && !/(^|\/)bpd$/.test(key)) !== state.fold.includes(key);

// The charts of so many series: {list: those that match, pinned ones first, then as they were moved, then as they come; more:
// how many are left out; wrong: what is, with the expression}.
function arrange(names, {find, pin, order}, apart) {
        let test = /** @type {RegExp | null} */ (null), wrong = '';
        try {
                test = find ? new RegExp(find, 'i') : null;
        } catch (e) {
                wrong = String(e);
        }
        const found = charts(names, apart).filter((c) => !test || test.test(c.title) || c.names.some((n) => test?.test(n)));
        const place = new Map(found.map((c, i) => [c.key, (pin.includes(c.key) ? 0 : 1e6) + (order.includes(c.key) ? order.indexOf(c.key) : order.length + i)]));
        found.sort((a, b) => Number(place.get(a.key)) - Number(place.get(b.key)));
        return {list: found.slice(0, MOST), more: Math.max(0, found.length - MOST), wrong};
}

// The series that are drawn now, and those that another needs.
export function wanted(names, state, apart) {
        const drawn = arrange(names, state, apart).list.filter((c) => !folded(c.key, state, apart)).flatMap((c) => c.names);
        return new Set([...drawn, ...drawn.map((n) => ERROR_OF[n])]);
}

function Switch({label, value, choices: [off, on], title, change}) {
        const button = (v, text) => h('button', {type: 'button', 'aria-pressed': String(value === v), onclick: () => change(v)}, text);
        return h('div.switch', {role: 'group', 'aria-label': label, title}, h('span', null, label), button(false, off), button(true, on));
}

export function Choice({label, value, options, change}) {
        return h('label.choice', null, label, h('select', {value, onchange: (e) => change(e.target.value)}, options.map(([v, t, disabled = false]) => h('option', {key: v, value: v, selected: v === value, disabled}, t))));
}

// properties: runs: Shown[]; apart: many share a chart; state, set: of the page's Address, with VIEW in it; nothing: what to
// say where there are no points; why(run, minute): shows what its log says of that minute.
export class CurvesPanel extends Component {
        #known = new Map(); // curves that were made, with their version
        #seen = {view: /** @type {import('./view.js').View | null} */ (null), curves: /** @type {any[]} */ ([])};
        #detail = new Detail();
        #looked = ''; // for which view, runs and charts the detail was asked for

        state = {error: null};

        // Whether epochs of all runs are known.
        get counted() {
                return this.props.runs.every((r) => r.axis.images);
        }

        set(change) {
                const {state, set} = this.props;
                if (HABITUAL.some((k) => k in change))
                        stored((s) => s.setItem(HABITS, JSON.stringify(Object.fromEntries(HABITUAL.map((k) => [k, {...state, ...change}[k]])))));
                set('x' in change ? {...change, from: NaN, to: NaN} : change);
        }

        // Another part of the x axis; null: all of it. It holds until the next one is asked for.
        show(asked, whole, axis) {
                const {state, set} = this.props, view = asked && bounded(asked, whole, state.logx, axis.narrowest);
                set({from: view?.from ?? NaN, to: view?.to ?? NaN});
                this.setState({error: null});
        }

        // The finer part is asked for before the charts draw what is there: the server works meanwhile.
        getSnapshotBeforeUpdate() {
                const {state: {from, to, x, fold}, runs} = this.props, key = JSON.stringify([from, to, x, fold, runs.filter((r) => r.curves.loaded).map((r) => r.id)]);
                if (key !== this.#looked)
                        this.look(this.#seen.view, this.#seen.curves);
                this.#looked = key;
        }

        // The part in finer detail: of each run the steps that it holds.
        look(view, curves) {
                this.#detail.look(this.props.runs.map((run) => {
                        const own = view ? curves.filter((c) => c.run === run.id) : [];
                        const longest = own.reduce((a, b) => (b.x.length > (a?.x.length ?? 0) ? b : a), null);
                        const before = longest?.x.findLastIndex((x) => x <= view.from), after = longest?.x.findIndex((x) => x >= view.to);
                        return {curves: run.curves, steps: longest && {from: before < 0 ? 0 : longest.s.step[before], to: longest.s.step[after < 0 ? longest.x.length - 1 : after]}};
                }), (error) => this.setState({error}));
        }

        componentWillUnmount() {
                this.#detail.stop();
        }

        // What make() gives, kept until its version is another.
        #kept(key, version, make) {
                if (this.#known.get(key)?.version !== version)
                        this.#known.set(key, {...make(), version});
                return this.#known.get(key);
        }

        curve(run, s, axis, {id, name, colour, dash, ghost = false}) {
                const all = run.curves.whole.series, error = all.get(ERROR_OF[s.name]);
                const began = Math.min(run.axis.started, ...[...all.values()].map((k) => k.time[0] ?? Infinity)); // what was imported is older than its job
                const made = this.#kept(`${run.id} ${s.name} ${s.attempt}`, `${s.version} ${error?.version} ${axis.label} ${run.axis.images} ${run.axis.attempts.length} ${began}`, () => {
                        const where = {...run.axis, started: began}, errors = error && new Map(error.step.map((step, b) => [step, error.last[b]]));
                        return {run: run.id, ghost, s, where, x: axis.at(s, where), start: s.step.length ? axis.start(s, where) : 0, error: errors ? s.step.map((step) => errors.get(step) ?? null) : null};
                });
                return {...made, id, name, colour, dash, off: this.props.state.hide.includes(id)};
        }

        // Curves that are compared at one place: in buckets as wide as the widest in sight, where places are the same of all runs.
        alike(curves, axis) {
                const {from, to} = this.props.state, inSight = (c) => !c.off && (!Number.isFinite(from) || c.x.some((x) => x >= from && x <= to));
                const width = axis.shared ? Math.max(...curves.filter(inSight).map((c) => c.s.width)) : 0;
                return curves.map((c) => (c.s.width >= width ? c : {...c, ...this.#kept(`${c.run} ${c.s.name} wide`, `${c.version} ${width}`, () => {
                        const s = widened(c.s, width);
                        return {s, x: axis.at(s, c.where), start: axis.start(s, c.where), error: c.error && s.step.map((step) => c.error[c.s.step.indexOf(step)])};
                })}));
        }

        // The groups of runs: [{id, name, runs}], or null.
        groups() {
                const {runs, state: {group}} = this.props, found = new Map();
                if (!group)
                        return null;
                for (const run of runs) {
                        const rest = new Map(run.config);
                        rest.delete(SEED);
                        const id = group === BY_SEED ? text([...rest].map(([k, v]) => `${k}=${text(v)}`).join()) : text(run.config.get(group));
                        found.set(id, [...found.get(id) ?? [], run]);
                }
                return [...found.entries()].map(([id, members]) => ({id: `${group}=${members.map((m) => m.id).join('+')}`, runs: members,
                        name: `${group === BY_SEED ? members[0].name : `${group.split('.').pop()} = ${id}`} (${members.length === 1 ? '1 run' : `${members.length} runs`})`}));
        }

        // The curves of a chart.
        curvesOf({names}, axis, groups) {
                const {runs, apart} = this.props;
                const own = (run) => run.curves.series().filter((s) => names.includes(s.name)).sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
                const single = apart ? this.alike(runs.flatMap((run) => own(run).map((s) => this.curve(run, s, axis, {id: run.id, name: run.name, colour: run.colour, dash: curveDash(run.colour)}))), axis)
                        : runs.flatMap((run) => own(run).map((s) => this.curve(run, s, axis, {id: s.name, name: s.name, colour: names.indexOf(s.name), dash: curveDash(names.indexOf(s.name))})));
                const ghosts = (apart ? [] : runs.flatMap((run) => (run.ghosts ?? []).filter((s) => names.includes(s.name)).map((s) =>
                        this.curve(run, s, axis, {id: `${s.name} ${s.attempt}`, name: `${s.name}, attempt ${s.attempt}`, colour: names.indexOf(s.name), dash: 0, ghost: true}))));
                if (!groups)
                        return [...ghosts, ...single];
                return groups.flatMap(({id, name, runs: members}, i) => {
                        const of = single.filter((c) => members.some((m) => m.id === c.run) && !this.props.state.hide.includes(c.run)), version = of.map((c) => `${c.run} ${c.version}`).join(), key = `${names} ${id}`;
                        if (!of.length)
                                return [];
                        const made = this.#kept(key, version, () => {
                                const {x, ...s} = average(of), series = {name: of[0].s.name, step: x, time: [], points: x.length, lastStep: 0, width: 1, bad: [], version, ...s};
                                return {s: {...series, noisy: isNoisy(series)}, x, start: x[0] ?? 0, error: null};
                        });
                        return [{...made, run: '', of, id, name, colour: i, dash: curveDash(i), off: this.props.state.hide.includes(id)}];
                });
        }

        controls(view, whole, axis, keys) {
                const {apart, state} = this.props, set = (change) => this.set(change), zoomed = Number.isFinite(state.from);
                const zoom = (label, sign, wanted, disabled) => h('button', {type: 'button', 'aria-label': label, title: label, disabled, onclick: () => this.show(wanted, whole, axis)}, sign);
                const toggle = (key, label, choices, title) => h(Switch, {label, title, choices, value: state[key], change: (v) => set({[key]: v})});
                const axes = Object.entries(AXES).filter(([, a]) => a !== AXES.diffusion).map(([k, a]) => (a === AXES.epochs && !this.counted ? [k, 'epochs: the size of a data set is not known', true] : [k, a.label.toLowerCase()]));
                return h('div.chart-controls', null,
                        h('label.smoothing', {for: 'smoothing', title: 'Of what is noisy; evaluations and schedules stay as they are'}, 'Smoothing',
                                h('input', {type: 'range', id: 'smoothing', min: 0, max: 0.99, step: 0.01, value: state.smooth, oninput: (e) => set({smooth: Number(e.target.value)})}),
                                h('output', {for: 'smoothing'}, state.smooth.toFixed(2))),
                        axis === AXES.diffusion ? null : h(Choice, {label: 'Over', value: Object.keys(AXES).find((k) => AXES[k] === axis), options: axes, change: (x) => set({x})}),
                        toggle('logx', axis === AXES.step ? 'Steps' : 'Axis', ['linear', 'log']), toggle('logy', 'Values', ['linear', 'log']),
                        toggle('band', 'Min–max band', ['off', 'on'], 'From the least to the greatest value; of evaluations also a standard error; of groups a standard deviation'), toggle('clip', 'Outliers', ['shown', 'clipped']),
                        h(Choice, {label: 'Published', value: state.refs, options: [['', 'none'], ...Object.entries(PUBLISHED).map(([k, p]) => [k, p.title])], change: (refs) => set({refs})}),
                        apart ? h(Choice, {label: 'Group by', value: state.group, options: [['', 'nothing'], [BY_SEED, 'all but the seed'], ...keys.map((k) => [k, k])], change: (group) => set({group})}) : null,
                        h('div.switch', {role: 'group', 'aria-label': 'Zoom'}, h('span', {title: 'Drag over a chart, or pinch it; double-click for all of it; Shift and drag moves'}, 'Zoom'),
                                zoom('Zoom in', '+', part(view, 0.25, 0.75, state.logx)),
                                zoom('Zoom out', '−', part(view, -0.5, 1.5, state.logx), !zoomed),
                                zoom(`All ${axis.title.toLowerCase()}`, 'all', null, !zoomed)),
                        h('label.choice', null, 'Charts', h('input', {type: 'search', class: 'find', value: state.find, placeholder: 'regular expression', 'aria-label': 'Charts whose name matches', spellcheck: false, oninput: (e) => set({find: e.target.value})})));
        }

        todo(c, list, state) {
                const keys = list.map((k) => k.key), at = keys.indexOf(c.key), move = (by) => () => this.set({order: keys.toSpliced(at, 1).toSpliced(Math.max(0, at + by), 0, c.key)});
                const pinned = state.pin.includes(c.key), big = state.big === c.key;
                return [[pinned ? 'Unpin' : 'Pin to the top', () => this.set({pin: toggled(state.pin, c.key)})], [big ? 'As small as the others' : 'Enlarge', () => this.set({big: big ? '' : c.key})],
                        ['Move before', move(-1)], ['Move behind', move(1)]];
        }

        render({runs, apart, state, keys = [], nothing}, {error}) {
                const names = [...new Set(runs.flatMap((r) => r.curves.rows.map((row) => row.name)))];
                const axis = names.some(overTime) && names.every((n) => overTime(n) || ofDevice(n)) ? AXES.diffusion : state.x === 'epochs' && !this.counted ? AXES.step : AXES[state.x] ?? AXES.step, groups = this.groups();
                const {list, more, wrong} = arrange(names, state, apart);
                const axes = list.map((c) => (overTime(c.names[0]) ? AXES.diffusion : axis === AXES.diffusion ? AXES.step : axis)); // one is zoomed, the others show all of theirs
                const drawn = list.map((c, i) => (folded(c.key, state, apart) ? [] : this.curvesOf(c, axes[i], groups))), all = drawn.filter((_, i) => axes[i] === axis).flat();
                const whole = domain(all, state.logx), asked = Number.isFinite(state.from) && Number.isFinite(state.to) ? {from: state.from, to: state.to} : null;
                const within = asked && bounded(asked, whole, state.logx, axis.narrowest), view = within ?? whole;
                this.#seen = {view: within, curves: all};
                const published = (PUBLISHED[state.refs]?.rows ?? []).map(([name, value]) => ({name, value}));
                const options = {smoothing: state.smooth, logX: state.logx, logY: state.logy, band: state.band, clip: state.clip};
                const show = (v) => this.show(v, whole, axis), hide = (c) => this.set({hide: toggled(state.hide, c.id)});
                const chart = (c, i) => {
                        const shut = folded(c.key, state, apart), curves = drawn[i];
                        if (!shut && !curves.length && runs.some((r) => r.curves.loaded && r.curves.rows.some((row) => c.names.includes(row.name) && row.points > 0)))
                                return h('section.card.chart', {key: c.key, 'aria-label': c.title}, h('h3', null, c.title), h('p.soft', null, 'Reading…'));
                        return h(Chart, {key: c.key, title: c.title, unit: c.unit, curves, ...(axes[i] === axis ? {view, part: within, onView: show} : {view: domain(curves, state.logx), part: null, onView: () => {}}), hide, folded: shut, fold: () => this.set({fold: toggled(state.fold, c.key)}), todo: this.todo(c, list, state), why: (curve, time) => this.props.why(curve.run, new Date(time).toISOString().slice(0, MINUTE)),
                                wide: state.big === c.key || (!apart && i === 0), options: {...options, axis: axes[i], tall: state.big === c.key, references: c.order === 0 ? published : []}});
                };
                return h(Section, {title: 'Curves', beside: names.length ? this.controls(view, whole, axis, keys) : null},
                        error ? h('p.card.empty-line', {role: 'alert'}, `The detail could not be read: ${error.message}`) : null,
                        wrong ? h('p.card.empty-line', {role: 'alert'}, `That is no regular expression: ${wrong}`) : null,
                        names.length ? (list.length ? null : h('p.card.empty-line', null, 'No chart has such a name.')) : h('p.card.empty-line', null, nothing),
                        h('div.charts', null, list.map(chart)), more ? h('p.more.soft', {role: 'status'}, `${more} more charts: say in Charts which ones.`) : null);
        }
}
