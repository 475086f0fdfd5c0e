// Many runs beside each other: what came of them and what they differ in, their curves in the same charts, their images.
import {link} from '../../lib/address.js';
import {runOf} from '../../lib/axis.js';
import {differing, flat} from '../../lib/config.js';
import {api, h, pace} from '../../lib/page.js';
import {CurvesPage, CurvesPanel, wanted} from '../../lib/panel.js';
import {isFinal, title} from '../../lib/parts.js';
import {curveDash} from '../../lib/plot.js';
import {RunCurves} from '../../lib/run.js';
import {SideBySide} from './images.js';
import {Parallel, Scatter} from './parallel.js';
import {columnsOf, Table} from './table.js';

const RUNNING_MS = 1000, MOST = 60; // runs
const AT_ONCE = 3; // runs that are read, of two questions each: a browser has six connections, and the first curves wait for no other's

export class ComparePage extends CurvesPage {
        constructor(main) {
                super(main, 'Compare', {jobs: [''].slice(1), sort: '', across: '', up: '', brush: [''].slice(1), images: ''});
                const ids = [...new Set(this.address.state.jobs.map(Number))].filter((n) => Number.isSafeInteger(n) && n > 0).slice(0, MOST);
                /** @type {{id: number, colour: number, job: any, config: Map<string, unknown>, attempts: any[], images: any[] | null, gone: boolean, curves: RunCurves}[]} */
                this.runs = ids.map((id, i) => ({id, colour: i, job: null, config: new Map(), attempts: [], images: null, gone: false, curves: new RunCurves(id, (names) => wanted(names, this.address.state, true))}));
                this.loop = this.poll((signal) => this.read(signal), (m) => this.runs.some((r) => r.id === m.job));
        }

        // Each run is drawn as it comes: its row and its curves, which are asked for at once.
        async readRun(run, signal) {
                const about = async () => {
                        if (!run.job || !isFinal(run.job.state))
                                run.job = await api.job(run.id, signal);
                        run.config = run.config.size ? run.config : flat(run.job.config);
                        this.draw();
                        if (this.address.state.x === 'active' && run.job.attempts > 1)
                                run.attempts = await api.attempts(run.id, signal);
                        if (this.address.state.images && !(run.images && isFinal(run.job.state)))
                                run.images = (await api.artifacts(run.id, signal)).filter((a) => a.kind === 'image' && !a.name.startsWith('gamma')).sort((a, b) => a.step - b.step || a.id - b.id);
                };
                await Promise.all([about(), run.curves.update(signal)]).catch((e) => {
                        run.gone = e.status === 404;
                        if (!run.gone)
                                throw e;
                });
                this.draw();
        }

        async read(signal) {
                const there = this.runs.filter((r) => !r.gone);
                await api.each([...there], AT_ONCE, (run) => this.readRun(run, signal));
                this.error = null;
                this.draw();
                return there.some((r) => r.job && !isFinal(r.job.state)) ? pace(RUNNING_MS) : null;
        }

        view() {
                const {address} = this, {state} = address, known = this.runs.filter((r) => r.job);
                const runs = known.map((r) => ({...r, id: String(r.id), name: title(r.job), dash: curveDash(r.colour), axis: runOf(r.job, r.attempts),
                        told: new Map(r.curves.rows.map((s) => [s.name, {last: api.number(s.last), least: api.number(s.min)}]))}));
                const names = runs.map((r) => r.name);
                for (const r of runs)
                        r.name = names.indexOf(r.name) === names.lastIndexOf(r.name) ? r.name : `${r.name} #${r.id}`;
                const keys = differing(runs.map((r) => r.config)), gone = this.runs.filter((r) => r.gone).map((r) => `#${r.id}`);
                const remove = (id) => {
                        this.runs = this.runs.filter((r) => String(r.id) !== id);
                        address.set({jobs: this.runs.map((r) => String(r.id))});
                };
                const set = (change) => address.set(change), columns = columnsOf(keys);
                return [
                        h('div.page-head', null, h('h1', null, 'Compare'), h('p.count', {role: 'status'}, this.runs.length ? `${known.length} of ${this.runs.length} runs${state.jobs.length > MOST ? `, the first of ${state.jobs.length}` : ''}` : ''),
                                h('a.button', {href: link('#/', {select: this.runs.map((r) => String(r.id))})}, 'Choose other runs')),
                        this.troubles(),
                        gone.length ? h('p.card.empty-line', {role: 'status'}, `There is no run ${gone.join(', ')} any more.`) : null,
                        !this.runs.length ? h('div.card.empty', null, h('h2', null, 'Nothing to compare'), h('p', null, 'Select runs in ', h('a', {href: '#/'}, 'the list'), ', then press Compare.')) : null,
                        runs.length ? h('div.content', null,
                                h(Table, {runs, columns, keys, state, set, remove}),
                                h(CurvesPanel, {runs, apart: true, state, set, keys, why: (run, minute) => { location.hash = link(`#/jobs/${run}`, {log: minute}); }, nothing: known.every((r) => r.curves.loaded) ? 'These runs left no points.' : 'Reading the curves…'}),
                                h(Parallel, {runs, columns, state, set}),
                                h(Scatter, {runs, columns, state, set}),
                                h(SideBySide, {runs, step: state.images, set})) : null,
                ];
        }
}
