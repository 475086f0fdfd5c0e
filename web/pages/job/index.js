// One run: progress, curves, images, log, configuration, files. Everything is read again only where it may have changed,
// and nothing once the run is over.
import {Address} from '../../lib/address.js';
import * as api from '../../lib/api.js';
import {runOf} from '../../lib/axis.js';
import {flat} from '../../lib/config.js';
import {ask, draw, h} from '../../lib/dom.js';
import {pace, poll} from '../../lib/events.js';
import {CurvesPanel, habits, KEPT, redraw, VIEW, wanted} from '../../lib/panel.js';
import {arrive, hasCurves, isFinal, title} from '../../lib/parts.js';
import {RunCurves} from '../../lib/run.js';
import {ConfigPanel} from './config.js';
import {EvaluationPanel} from './evaluation.js';
import {Checkpoints, Files, Made} from './files.js';
import {Failure, Head, Result, Stats} from './head.js';
import {History, HistoryPanel} from './history.js';
import {ImagesPanel} from './images.js';
import {Log, LogPanel} from './log.js';

const RUNNING_MS = 1000, QUEUED_MS = 2000;
const MADE_MS = 5000, MADE = 500; // how often, and of how many newest jobs, those made from this one are looked for
const LATE_MS = 5000; // a run's last points may come after its state

class Page {
        constructor(main, id) {
                this.main = main;
                this.id = id;
                this.job = null;
                this.error = null;
                this.artifacts = [];
                this.left = false; // for another page
                this.curves = new RunCurves(id, (names) => wanted(names, this.address.state, false));
                this.history = new History(id);
                this.made = [];
                this.madeAt = -Infinity;
                this.address = new Address(VIEW, KEPT, (change) => redraw(this, change));
                if (this.address.silent)
                        this.address.set(habits());
                this.log = new Log(id);
                this.draw();
                this.loop = poll((signal) => this.read(signal), (e) => this.fail(e), (m) => m.job === id);
        }

        leave() {
                this.left = true;
                this.address.leave();
                this.loop.stop();
                this.curves.stop();
        }

        fail(e) {
                this.error = e;
                this.draw();
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
                        await this.log.update(signal);
                await this.history.update(job, signal);
                if (job.kind === 'train' || job.import?.what === 'checkpoint')
                        await this.readMade(signal);
                this.draw();
                if (isFinal(job.state))
                        return !wasFinal && job.ended && Date.now() - Date.parse(job.ended) < LATE_MS ? RUNNING_MS : null;
                return pace(job.state === 'running' ? RUNNING_MS : QUEUED_MS);
        }

        async readMade(signal) {
                if (performance.now() - this.madeAt < MADE_MS)
                        return;
                const fields = 'id,kind,name,state,checkpoint,result,created';
                this.made = (await api.jobs({kind: 'evaluate,sample,train', fields, limit: MADE}, signal)).jobs.filter((j) => j.checkpoint?.job === this.id && j.id !== this.id);
                this.madeAt = performance.now();
        }

        async act(question, call) {
                const answer = await ask(question);
                if (!answer)
                        return;
                try {
                        await call(answer);
                        this.loop.poke();
                } catch (e) {
                        this.fail(e);
                }
        }

        panel(job) {
                const run = {id: String(job.id), name: title(job), colour: 0, config: flat(job.config), axis: runOf(job, this.history.attempts), curves: this.curves};
                return h(CurvesPanel, {runs: [run], apart: false, state: this.address.state, set: (change) => this.address.set(change),
                        nothing: !this.curves.loaded ? 'Reading the curves…' : isFinal(job.state) ? 'This run left no points.' : 'No points yet: the first come after a few steps.'});
        }

        draw() {
                const {job, error} = this;
                if (this.left)
                        return;
                if (!job && error?.status === 404) {
                        draw(h('div.card.empty', null, h('h1', null, `There is no run #${this.id}`), h('p', null, h('a', {href: '#/'}, 'All runs'))), this.main);
                        return;
                }
                draw([
                        job ? h(Head, {job, act: (question, call) => this.act(question, call), gone: () => { location.hash = '#/'; }}) : null,
                        error ? h('div.card.problem', {role: 'alert'}, h('h2', null, 'That did not work'), h('p', null, error.message)) : null,
                        job ? h(Failure, {job}) : error ? null : h('div.card.skeleton', {'aria-hidden': 'true'}, h('div'), h('div'), h('div')),
                        job ? h('div.content', null,
                                h(Stats, {job}), h(Result, {job}),
                                hasCurves(job) ? this.panel(job) : null,
                                job.kind === 'evaluate' ? h(EvaluationPanel, {artifacts: this.artifacts}) : null,
                                h(ImagesPanel, {artifacts: this.artifacts}),
                                h(Checkpoints, {job, artifacts: this.artifacts}),
                                h(Made, {jobs: this.made}),
                                h(LogPanel, {id: this.id, text: this.log.text, cut: this.log.cut}),
                                h(ConfigPanel, {config: job.config, imported: job.import, name: job.config_name}),
                                h(HistoryPanel, {history: this.history}),
                                h(Files, {artifacts: this.artifacts})) : null,
                ], this.main);
        }
}

// Fills main; answers what ends it.
export function mount(main, crumbs, id) {
        arrive(crumbs, `#${id}`);
        const page = new Page(main, id);
        return () => page.leave();
}
