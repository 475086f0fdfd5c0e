// The list of runs, newest first. Rows come first; the curves of those in sight follow in small lots.
import {Address, link} from '../../lib/address.js';
import * as api from '../../lib/api.js';
import {Sparkline} from '../../lib/chart.js';
import {glance} from '../../lib/curves.js';
import {CopyButton, draw, h} from '../../lib/dom.js';
import {poll} from '../../lib/events.js';
import * as format from '../../lib/format.js';
import {isFinal, Pill, progress, ProgressBar, result, STATES, Tags, title, waiting} from '../../lib/parts.js';
import {Rows} from '../../lib/virtual.js';
import {JobList} from './list.js';

const LIMIT = 50, LIMIT_MAX = 500;       // jobs a request
const NEAR = 20;                         // rows before the end at which the next page is asked for
const BUSY_MS = 2000, REST_MS = 10000, TYPING_MS = 250;
const LOT = 4, SPARK_POINTS = 48;        // jobs and buckets a request: a long series takes the server a while
const SPARK_MS = 10000;                  // a curve the size of a word need not move more often
const COLUMNS = ['Run', 'State', 'Progress', 'Speed', 'Test BPD', 'Training BPD', 'Created'];
const TRAIN = 'train/bpd', TEST = 'eval/bpd';

class Page {
        constructor(main) {
                this.main = main;
                this.address = new Address({state: '', text: '', select: [''].slice(1)}, [], () => this.draw());
                this.list = this.asked = new JobList(this.question); // what is shown; what is being asked for
                this.error = null;
                this.seen = [0, 0];
                this.glances = new Map(); // job -> {key, at, series}
                this.more = null;         // the AbortController of the next page's request
                this.stuck = false;       // it failed: not again before the newest page was read
                this.typing = 0;
                this.draw();
                this.rows = poll((signal) => this.readRows(signal), (e) => this.fail(e));
                this.sparks = poll((signal) => this.readSparks(signal), () => {});
        }

        // What the server is asked for.
        get question() {
                const {state, text} = this.address.state;
                return {state, text};
        }

        leave() {
                this.address.leave();
                clearTimeout(this.typing);
                this.rows.stop();
                this.sparks.stop();
                this.more?.abort();
        }

        ask(change) {
                this.address.set(change);
                this.asked = new JobList(this.question);
                this.more?.abort();
                this.more = null;
                this.draw();
                this.rows.restart();
        }

        fail(e) {
                this.error = e;
                this.draw();
        }

        async readRows(signal) {
                const list = this.asked;
                const read = async (cursor, before, limit) => list.merge(await api.jobs({...list.question, limit, cursor}, signal), before);
                let gap = await read(undefined, Infinity, LIMIT);
                while (gap !== null)
                        gap = await read(gap, list.starts.find((s) => s.cursor === gap).before, LIMIT_MAX);
                this.list = list;
                this.error = null;
                this.stuck = false;
                this.draw();
                const [first, end] = this.seen;
                for (const start of new Set([list.start(first), list.start(end - 1)]))
                        if (start)
                                await read(start.cursor, start.before, LIMIT);
                this.draw();
                this.sparks?.poke();
                return [...list.jobs.slice(0, LIMIT), ...list.jobs.slice(first, end)].some((j) => !isFinal(j.state)) ? BUSY_MS : REST_MS;
        }

        async readMore() {
                const list = this.list;
                if (this.more || this.stuck || list !== this.asked || list.next === null)
                        return;
                const control = this.more = new AbortController();
                try {
                        list.merge(await api.jobs({...list.question, limit: LIMIT, cursor: list.next}, control.signal), list.end());
                        this.draw();
                } catch (e) {
                        this.stuck = !(e instanceof api.Dropped);
                        if (e instanceof api.Problem)
                                this.fail(e);
                }
                if (this.more === control)
                        this.more = null;
        }

        look(first, end) {
                const moved = first !== this.seen[0] || end !== this.seen[1];
                this.seen = [first, end];
                if (end > this.list.jobs.length - NEAR)
                        this.readMore();
                if (moved)
                        this.sparks?.poke();
        }

        // The curves of a few of the jobs in sight that moved since they were last looked at.
        async readSparks(signal) {
                const key = (j) => `${j.progress?.step} ${j.state}`;
                const due = (j) => {
                        const g = this.glances.get(j.id);
                        return j.kind === 'train' && j.progress?.step > 0 && g?.key !== key(j) && (isFinal(j.state) || !g || Date.now() - g.at > SPARK_MS);
                };
                const lot = this.list.jobs.slice(...this.seen).filter(due).slice(0, LOT);
                if (!lot.length)
                        return null;
                const found = await glance(lot.map((j) => j.id), [TRAIN, TEST], SPARK_POINTS, signal);
                for (const j of lot)
                        this.glances.set(j.id, {key: key(j), at: Date.now(), series: found.get(j.id) ?? new Map()});
                this.draw();
                return 0;
        }

        draw() {
                const {state, text, select} = this.address.state, {jobs, next, loaded} = this.list;
                const chip = (s, name) => h('button.chip', {type: 'button', 'aria-pressed': String(s === state), onclick: () => this.ask({state: s})}, name);
                draw([
                        h('div.page-head', null, h('h1', null, 'Runs'), h('a.button.primary', {href: '#/new'}, 'New job'),
                                h('p.count', {role: 'status'}, loaded && jobs.length ? `${format.integer(jobs.length)}${next === null ? '' : '+'} ${jobs.length === 1 ? 'run' : 'runs'}` : '')),
                        h('div.filters', null,
                                h('div.chips', {role: 'group', 'aria-label': 'Filter by state'}, chip('', 'all'), STATES.map((s) => chip(s, s))),
                                h('input', {type: 'search', placeholder: 'Filter by name', 'aria-label': 'Filter by name', value: text, autocomplete: 'off', spellcheck: false,
                                        oninput: (e) => this.type(e.target.value)})),
                        this.error ? h('div.card.problem', {role: 'alert'}, h('h2', null, 'The list could not be read'), h('p', null, this.error.message)) : null,
                        loaded || this.error ? null : h('div.card.skeleton', {'aria-hidden': 'true'}, h('div'), h('div'), h('div')),
                        select.length ? h(Selection, {select, clear: () => this.address.set({select: []})}) : null,
                        loaded && !jobs.length ? (text || state ? h(NothingFound) : h(NothingYet)) : null,
                        jobs.length ? h('div.card.table-card', null, h('table.runs', {'aria-rowcount': next === null ? jobs.length + 1 : -1, 'aria-busy': String(this.list !== this.asked)},
                                h('thead', null, h('tr', {'aria-rowindex': 1}, COLUMNS.map((c) => h('th', {scope: 'col'}, c)))),
                                h(Rows, {items: jobs, id: (j) => j.id, columns: COLUMNS.length, row: (j, i) => row(j, i, this.glances.get(j.id)?.series, select.includes(String(j.id)), () => this.select(j.id)), seen: (a, b) => this.look(a, b)}))) : null,
                        next === null ? null : h('p.more.soft', null, 'Older runs follow'),
                ], this.main);
        }

        select(id) {
                const {select} = this.address.state, own = String(id);
                this.address.set({select: select.includes(own) ? select.filter((k) => k !== own) : [...select, own]});
        }

        type(text) {
                clearTimeout(this.typing);
                this.typing = setTimeout(() => this.ask({text: text.trim()}), TYPING_MS);
        }
}

function row(j, index, curves, selected, select) {
        const p = progress(j), running = j.state === 'running', why = waiting(j), ended = result(j);
        const train = curves?.get(TRAIN);
        // what the job ended with, or else its last point
        const bpd = (label, images, last, ...more) => {
                const own = ended && ended.images === images ? ended : {bpd: last, error: null}, error = format.error(own.error, 3);
                return number(label, format.fixed(own.bpd, 3), error ? h('span.num.soft', null, ` ${error}`) : null, ...more);
        };
        const cell = (label, ...children) => h('td', {'data-label': label}, ...children);
        const number = (label, text, ...more) => h(text === '–' ? 'td.none' : 'td', {'data-label': label}, h('span.num', null, text), ...more);
        return h('tr', {key: j.id, 'aria-rowindex': index + 2},
                cell('Run', h('label.pick', null, h('input', {type: 'checkbox', checked: selected, 'aria-label': `Select ${title(j)}, run ${j.id}`, onchange: select})), h('a.run-name', {href: `#/jobs/${j.id}`, title: title(j)}, title(j)),
                        h('span.run-sub', null, `#${j.id} · ${j.kind}`, j.config_name ? ` · ${j.config_name}` : '', h(Tags, {job: j})),
                        why ? h('span.run-sub.why', {title: why}, `Waiting: ${why}`) : null),
                cell('State', h(Pill, {state: j.state})),
                cell('Progress', h(ProgressBar, {job: j}),
                        h('span.under', null, h('span.num', null, `${format.integer(p.done)} / ${format.integer(p.of)}`),
                                running && p.left !== null ? h('span.num', null, `${format.duration(p.left)} left`) : null)),
                number('Speed', running && p.rate !== null ? `${format.real(p.rate, 3)}/s` : '–'),
                bpd('Test BPD', 'test', curves?.get(TEST)?.last ?? null),
                bpd('Training BPD', 'training', train?.last ?? null, train ? h(Sparkline, {values: train.mean}) : null),
                cell('Created', h('time.num', {datetime: j.created, title: format.exactly(j.created)}, format.when(j.created))));
}

// What can be done with the runs that were selected, on whatever page of the list they are.
function Selection({select, clear}) {
        return h('div.card.selection', {role: 'region', 'aria-label': 'Selected runs'}, h('b', {role: 'status'}, format.count(select.length, 'run') + ' selected'),
                h('a.button.primary', {href: link('#/compare', {jobs: select})}, 'Compare'),
                h('button.button', {type: 'button', onclick: clear}, 'Clear'));
}

function NothingFound() {
        return h('div.card.empty', null, h('h2', null, 'No run matches'), h('p', null, 'Clear the filter to see the others.'));
}

function NothingYet() {
        const address = new URL('v1/jobs', document.baseURI).href;
        const command = `curl -X POST ${address} \\\n  -H 'Content-Type: application/json' \\\n  -d '{"kind": "train", "config": "photos32-tiny", "name": "first light"}'`;
        return h('div.card.empty', null, h('h2', null, 'No runs yet'),
                h('p', null, 'Paste this into a terminal on this machine. The run appears here, and its curve grows while it trains.'),
                h('pre.command', {tabindex: 0}, command), h(CopyButton, {text: () => command}));
}

// Fills main; answers what ends it.
export function mount(main, crumbs) {
        document.title = 'Runs · mulund';
        draw(h('span', {'aria-current': 'page'}, 'Runs'), crumbs);
        const page = new Page(main);
        return () => page.leave();
}
