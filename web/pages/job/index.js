// One run: progress, curves, images, log, configuration, files. Everything is read again only where it may have changed,
// and nothing once the run is over.
import {ACTIONS, question} from '../../lib/actions.js';
import {runOf} from '../../lib/axis.js';
import {flat} from '../../lib/config.js';
import {Curves, readTogether} from '../../lib/curves.js';
import {api, h, pace} from '../../lib/page.js';
import {CurvesPage, CurvesPanel, wanted} from '../../lib/panel.js';
import {hasCurves, isFinal, title} from '../../lib/parts.js';
import {RunCurves} from '../../lib/run.js';
import {ConfigPanel} from './config.js';
import {Checkpoints, Files, Made} from './files.js';
import {Failure, Head, Result, Stats} from './head.js';
import {History, HistoryPanel} from './history.js';
import {EvaluationPanel, ImagesPanel} from './images.js';
import {Log, LogPanel} from './log.js';

const RUNNING_MS = 1000, QUEUED_MS = 2000;
const MADE_MS = 5000; // how often those made from this one are looked for
const LATE_MS = 5000; // a run's last points may come after its state

export class JobPage extends CurvesPage {
        constructor(main, id) {
                super(main, `#${id}`, {image: NaN, log: ''});
                this.id = id;
                this.job = null;
                this.artifacts = [];
                this.curves = new RunCurves(id, (names) => wanted(names, this.address.state, false));
                this.history = new History();
                this.ghosts = new Map(); // attempt -> its points that a later one wrote anew
                this.made = /** @type {{jobs: any[], total?: number}} */ ({jobs: []});
                this.madeAt = -Infinity;
                this.log = new Log();
                this.draw();
                this.loop = this.poll((signal) => this.read(signal), (m) => m.job === id);
        }

        async read(signal) {
                const wasFinal = this.job !== null && isFinal(this.job.state);
                const job = this.job = await api.job(this.id, signal);
                this.error = null;
                document.title = `${title(job)} · mulund`;
                this.draw();
                if (hasCurves(job)) {
                        await this.curves.update(signal);
                        this.draw();
                }
                this.artifacts = await api.artifacts(this.id, signal);
                if (job.attempts > 0)
                        await this.log.update(this.id, signal);
                await this.history.update(job, signal);
                await this.readGhosts(signal);
                if (job.kind === 'train' || job.import?.what === 'checkpoint')
                        await this.readMade(signal);
                this.draw();
                if (isFinal(job.state))
                        return !wasFinal && job.ended && Date.now() - Date.parse(job.ended) < LATE_MS ? RUNNING_MS : null;
                return pace(job.state === 'running' ? RUNNING_MS : QUEUED_MS);
        }

        async readGhosts(signal) {
                const {attempts} = this.history, rows = this.curves.rows.filter((r) => this.curves.whole.series.has(r.name));
                for (const [i, {number, last_step: last}] of attempts.entries()) {
                        const anew = attempts[i + 1]?.first_step ?? null;
                        if (anew === null || last < anew || this.ghosts.has(number))
                                continue;
                        const ghost = new Curves(this.id, anew, Infinity, number);
                        await readTogether([{curves: ghost, rows}], signal);
                        this.ghosts.set(number, ghost);
                }
        }

        async readMade(signal) {
                if (performance.now() - this.madeAt < MADE_MS)
                        return;
                this.made = await api.jobs({checkpoint_job: this.id, fields: 'id,kind,name,state,checkpoint,result,created', limit: api.PAGE}, signal);
                this.madeAt = performance.now();
        }

        change(job, action) {
                this.act(question(action, [job]), async (answer) => {
                        await action.call(job, answer);
                        if (action === ACTIONS.remove)
                                location.hash = '#/';
                });
        }

        keep(a) {
                this.act({title: a.pinned ? 'Keep it no longer?' : 'Keep this checkpoint?', action: a.pinned ? 'Unpin' : 'Pin',
                        text: a.pinned ? 'It goes when others are thinned out.' : 'It stays when others are thinned out, and its run cannot be deleted while it does.'}, () => api.keep(a, !a.pinned));
        }

        panel(job) {
                const run = {id: String(job.id), name: title(job), colour: 0, config: flat(job.config), axis: runOf(job, this.history.attempts), curves: this.curves, ghosts: [...this.ghosts].flatMap(([attempt, c]) => [...c.series.values()].filter((s) => s.step.length).map((s) => ({...s, attempt})))};
                return h(CurvesPanel, {runs: [run], apart: false, state: this.address.state, set: (change) => this.address.set(change), why: (_, minute) => this.address.set({log: minute}),
                        nothing: !this.curves.loaded ? 'Reading the curves…' : isFinal(job.state) ? 'This run left no points.' : 'No points yet: the first come after a few steps.'});
        }

        view() {
                const {job, error} = this;
                if (!job && error?.status === 404)
                        return h('div.card.empty', null, h('h1', null, `There is no run #${this.id}`), h('p', null, h('a', {href: '#/'}, 'All runs')));
                return [
                        job ? h(Head, {job, act: (action) => this.change(job, action)}) : null,
                        this.troubles(),
                        job ? h(Failure, {job}) : error ? null : h('div.card.skeleton', {'aria-hidden': 'true'}, h('div'), h('div'), h('div')),
                        job ? h('div.content', null,
                                h(Stats, {job}), h(Result, {job}),
                                hasCurves(job) && (job.kind !== 'sample' || this.curves.rows.length) ? this.panel(job) : null,
                                job.kind === 'evaluate' ? h(EvaluationPanel, {artifacts: this.artifacts}) : null,
                                h(ImagesPanel, {artifacts: this.artifacts, chosen: this.address.state.image, choose: (image) => this.address.set({image})}),
                                h(Checkpoints, {job, artifacts: this.artifacts, keep: (a) => this.keep(a)}),
                                h(Made, this.made),
                                h(LogPanel, {id: this.id, text: this.log.text, cut: this.log.cut, find: this.address.state.log, search: (log) => this.address.set({log})}),
                                h(ConfigPanel, {config: job.config, imported: job.import, name: job.config_name}),
                                h(HistoryPanel, {history: this.history, kind: job.kind}),
                                h(Files, {artifacts: this.artifacts})) : null,
                ];
        }
}
