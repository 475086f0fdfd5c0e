// The list of runs, newest first. Rows come first; the curves of those in sight follow in small lots.
import {Address} from '../../lib/address.js';
import {column, COLUMNS, TEST, TRAIN, USUAL} from '../../lib/columns.js';
import {brief, compare, flat, keys, text as written, toggled} from '../../lib/config.js';
import {glance} from '../../lib/curves.js';
import {api, CopyButton, format, h, may, Menu, pace, Page} from '../../lib/page.js';
import {command, isFinal, SortHead, STATES, Tags, title, waiting} from '../../lib/parts.js';
import {Rows} from '../../lib/virtual.js';
import {FIELDS, JobList, LIMIT} from './list.js';
import {ALL, Selection} from './selection.js';

const NEAR = 20;                         // rows before the end at which the next page is asked for
const BUSY_MS = 2000, REST_MS = 10000, LATE_MS = 200;
const LOT = 4, SPARK_POINTS = 48;        // jobs and buckets a request: a long series takes the server a while
const SORT_LOT = 100;                    // jobs a request, where only the last and the least of all are asked for
const SPARK_MS = 10000;                  // a curve the size of a word need not move more often
const MOST = 5000;                       // jobs that are sorted, or looked through for what the server does not know
const KINDS = ['train', 'evaluate', 'sample', 'import'];

// A row. of: {keys: of its columns, curves, selected, select(), tag(name)}.
function row(j, index, {keys, curves, selected, select, tag}) {
        const why = waiting(j), cells = keys.map((key) => ({key, ...column(key)}));
        return h('tr', {key: j.id, 'aria-rowindex': index + 2, class: selected ? 'selected' : ''},
                h('td', {'data-label': 'Run'}, h('label.pick', null, h('input', {type: 'checkbox', checked: selected, 'aria-label': `Select ${title(j)}, run ${j.id}`, onchange: select})),
                        h('a.run-name', {href: `#/jobs/${j.id}`, title: title(j)}, title(j)),
                        h('span.run-sub', null, `#${j.id} · ${j.kind}`, j.config_name ? ` · ${j.config_name}` : '', h(Tags, {job: j, pick: tag})),
                        why ? h('span.run-sub.why', {title: why}, `Waiting: ${why}`) : null),
                cells.map((c) => h(`td.c-${c.key in COLUMNS ? c.key : 'key'}${USUAL.includes(c.key) ? '' : '.extra'}`, {key: c.key, 'data-label': c.title}, c.show(j, curves), c.under?.(j, curves))));
}

// What the search box says: '#12' an id, 'learning_rate=0.002' a value of the configuration, all else part of the name.
// Answers the text for the server and a test for what it does not know, or null.
function search(typed) {
        const words = typed.trim().split(/\s+/).filter(Boolean), ids = words.filter((w) => /^#\d+$/.test(w)), pairs = words.filter((w) => /^[\w.]+=/.test(w)).map((w) => w.split('='));
        const matches = (config, [key, value]) => [...config].some(([k, v]) => (k === key || k.endsWith(`.${key}`)) && written(v) === value);
        return {text: words.filter((w) => !ids.includes(w) && !/^[\w.]+=/.test(w)).join(' '),
                test: ids.length || pairs.length ? (j) => (!ids.length || ids.includes(`#${j.id}`)) && pairs.every((p) => matches(flat(j.config), p)) : null};
}

export class RunsPage extends Page {
        constructor(main) {
                super(main, '');
                this.address = this.own(new Address({state: '', kind: '', tag: '', text: '', sort: '', columns: USUAL, select: [''].slice(1)}, [], () => this.draw()));
                [this.total, this.schema] = [/** @type {number | null} */ (null), /** @type {any[]} */ ([])];
                this.list = this.asked = new JobList(this.question); // what is shown; what is being asked for
                this.seen = [0, 0];
                this.glances = new Map(); // job -> {key, at, series}
                this.stuck = false;       // the next page could not be read: not again before the newest was
                this.late = performance.now() + LATE_MS; // from then on it is shown without rows, too
                this.soon(() => this.draw());
                this.loop = this.poll((signal) => this.readRows(signal), () => true);
                this.sparks = this.poll((signal) => this.readSparks(signal), undefined, () => {});
                this.more = this.poll((signal) => this.readMore(signal));
        }

        // Not before there are rows, unless they take long: they would have to wait until a picture without them is there.
        draw() {
                if (this.list.loaded || this.error || performance.now() > this.late)
                        super.draw();
        }

        // What the server is asked for: configurations only where one is looked at, since they are most of an answer.
        get question() {
                const {state, kind, tag, text, columns, sort} = this.address.state, own = [...columns, sort.replace(/^-/, '') || 'state'].some((k) => !(k in COLUMNS));
                return {state, kind, tag, text: search(text).text, fields: own || search(text).test ? undefined : FIELDS};
        }

        // Whether rows are looked through here: all of them are read then, up to a limit.
        get thorough() {
                return this.address.state.sort !== '' || search(this.address.state.text).test !== null;
        }

        // The rows as they are shown.
        shown() {
                const {sort, text} = this.address.state, {test} = search(text), jobs = test ? this.list.jobs.filter(test) : this.list.jobs;
                const key = sort.replace(/^-/, ''), curves = (j) => this.glances.get(j.id)?.series, by = column(key);
                return sort ? jobs.map((j) => ({j, v: by.value(j, curves(j))})).sort((a, b) => compare(a.v, b.v, sort !== key) || b.j.id - a.j.id).map(({j}) => j) : jobs;
        }

        // Of all that the filter takes none stays selected when that is another.
        set(change) {
                this.address.set(this.all && ['state', 'kind', 'tag', 'text'].some((k) => k in change) ? {...change, select: []} : change);
        }

        ask(change) {
                this.set(change);
                this.asked = new JobList(this.question);
                this.draw();
                this.more?.restart();
                this.loop?.restart();
        }

        async readRows(signal) {
                const list = this.asked;
                const read = async (cursor, before, limit) => {
                        const page = await api.jobs({...list.question, limit, cursor}, signal);
                        this.total = page.total ?? null;
                        return list.merge(page, before);
                };
                let gap = await read(undefined, Infinity, LIMIT);
                while (gap !== null)
                        gap = await read(gap, list.starts.find((s) => s.cursor === gap).before, api.PAGE);
                this.list = list;
                [this.error, this.stuck] = [null, false];
                this.draw();
                await new Promise((after) => { requestAnimationFrame(() => setTimeout(after)); }); // all else comes after the rows
                while (this.thorough && list.next !== null && list.jobs.length < MOST)
                        await read(list.next, list.jobs.at(-1).id, api.PAGE);
                if (!this.schema.length)
                        this.schema = keys(await api.schema(signal));
                const [first, end] = this.seen;
                for (const start of new Set([list.start(first), list.start(end - 1)]))
                        if (start)
                                await read(start.cursor, start.before, LIMIT);
                this.draw();
                this.sparks?.poke();
                return [...list.jobs.slice(0, LIMIT), ...this.shown().slice(first, end)].some((j) => !isFinal(j.state)) ? pace(BUSY_MS) : pace(REST_MS);
        }

        // The next page, where its rows come into sight.
        async readMore(signal) {
                const list = this.list;
                if (list !== this.asked || list.next === null || this.stuck || this.seen[1] <= list.jobs.length - NEAR)
                        return null;
                const page = await api.jobs({...list.question, limit: LIMIT, cursor: list.next}, signal).catch((e) => {
                        this.stuck = true;
                        throw e;
                });
                list.merge(page, list.jobs.at(-1).id);
                this.draw();
                return null;
        }

        look(first, end) {
                const moved = first !== this.seen[0] || end !== this.seen[1];
                this.seen = [first, end];
                this.more?.poke();
                if (moved)
                        this.sparks?.poke();
        }

        // The curves of a few of the jobs in sight that moved since they were last looked at.
        async readSparks(signal) {
                const key = (j) => `${j.progress?.step} ${j.state}`;
                const due = (j) => {
                        const g = this.glances.get(j.id);
                        return j.kind === 'train' && j.progress?.step > 0 && g?.key !== key(j) && (isFinal(j.state) || !g?.key || Date.now() - g.at > SPARK_MS);
                };
                const seen = this.shown().slice(...this.seen).filter(due).slice(0, LOT), sorted = column(this.address.state.sort.replace(/^-/, '')).curves;
                const lot = seen.length || !sorted ? seen : this.list.jobs.filter((j) => j.progress?.step > 0 && !this.glances.has(j.id)).slice(0, SORT_LOT);
                if (!lot.length)
                        return null;
                const found = await glance(lot.map((j) => j.id), [TRAIN, TEST], seen.length ? SPARK_POINTS : 1, signal);
                for (const j of lot)
                        this.glances.set(j.id, {key: seen.length ? key(j) : '', at: Date.now(), series: found.get(j.id) ?? new Map()});
                this.draw();
                return 0;
        }

        // Whether all are selected that the filter takes, however many.
        get all() {
                return this.address.state.select[0] === ALL;
        }

        // All that the filter takes are selected, or none any more: few by their ids.
        async selectAll(on) {
                const found = on && (search(this.address.state.text).test ? this.shown() : await api.jobs({...this.list.question, fields: 'id', limit: api.PAGE}).then((page) => (page.next ? [] : page.jobs), (e) => this.fail(e)));
                if (found !== undefined)
                        this.address.set({select: !found ? [] : found.length && found.length <= api.PAGE ? found.map((j) => String(j.id)) : [ALL]});
        }

        head(keys, rows) {
                const chosen = new Set(this.address.state.select), some = this.all || rows.some((j) => chosen.has(String(j.id))), all = this.all || (some && rows.every((j) => chosen.has(String(j.id))));
                const th = (key) => h(SortHead, {key, id: key, name: column(key).title, short: brief(column(key).title, keys), sort: this.address.state.sort, set: (sort) => this.ask({sort}), kind: `.c-${key in COLUMNS ? key : 'key'}${USUAL.includes(key) ? '' : '.extra'}`});
                return h('thead', null, h('tr', {'aria-rowindex': 1}, h('th', {scope: 'col'}, h('label.pick', null, h('input', {type: 'checkbox', checked: all, indeterminate: some && !all, 'aria-label': 'Select all', title: 'All that the filter takes', onchange: (e) => this.selectAll(e.target.checked)})), 'Run'), keys.map(th)));
        }

        filters(keys) {
                const {state, kind, tag, text, columns} = this.address.state, chip = (s, name) => h('button.chip', {type: 'button', 'aria-pressed': String(s === state), onclick: () => this.ask({state: s})}, name);
                const pick = (key) => h('label.check', {key}, h('input', {type: 'checkbox', checked: keys.includes(key), onchange: () => this.ask({columns: toggled(columns, key)})}), column(key).title);
                const type = (typed) => {
                        this.set({text: typed});
                        this.soon(() => this.ask({}));
                };
                return h('div.filters', null,
                        h('div.chips', {role: 'group', 'aria-label': 'Filter by state'}, chip('', 'all'), STATES.map((s) => chip(s, s)), tag ? h('button.chip', {type: 'button', 'aria-pressed': 'true', onclick: () => this.ask({tag: ''})}, `tag ${tag} ×`) : null),
                        h('div.row', null,
                                h('select', {'aria-label': 'Filter by kind', value: kind, onchange: (e) => this.ask({kind: e.target.value})}, [['', 'all kinds'], ...KINDS.map((k) => [k, k])].map(([k, name]) => h('option', {key: k, value: k, selected: k === kind}, name))),
                                h('input', {type: 'search', placeholder: 'Filter by name', 'aria-label': 'Filter by name', title: 'Part of the name; #12: by id; learning_rate=0.002: by a value of the configuration', value: text, autocomplete: 'off', spellcheck: false, oninput: (e) => type(e.target.value)}),
                                h(Menu, {text: 'Columns', kind: '.columns', holds: () => [Object.keys(COLUMNS).map(pick), h('hr'), this.schema.map((r) => pick(r.path))]})));
        }

        view() {
                const {state, kind, tag, text, select, columns} = this.address.state, {jobs, next, loaded} = this.list, rows = this.shown();
                const some = this.thorough && next !== null, {test} = search(text), count = test ? rows.length : this.total ?? jobs.length, more = next !== null && (this.total === null || test !== null);
                const counted = `${format.integer(count)}${more ? '+' : ''} ${count === 1 ? 'run' : 'runs'}`;
                return [
                        h('div.page-head', null, h('h1', null, 'Runs'),
                                h('p.count', {role: 'status'}, loaded && jobs.length ? `${counted}${some ? `; looked through: the newest ${format.integer(jobs.length)}` : ''}` : ''), h('a.button', {href: '#/devices'}, 'Devices'), may('submit') && h('a.button.primary', {href: '#/new'}, 'New job')),
                        this.filters(columns),
                        this.troubles('The list could not be read'),
                        loaded || this.error ? null : h('div.card.skeleton', {'aria-hidden': 'true'}, h('div'), h('div'), h('div')),
                        h(Selection, {key: 'selection', select, all: this.all ? {filter: test ? null : this.list.question, jobs: rows, count: more ? null : count} : null, counted: this.all ? counted : format.count(select.length, 'run'), clear: () => this.address.set({select: []}), changed: (gone) => {
                                this.address.set({select: this.all && gone.length ? [] : this.address.state.select.filter((k) => !gone.includes(k))});
                                this.loop?.poke();
                        }}),
                        loaded && !rows.length ? (text || state || kind || tag ? h('div.card.empty', null, h('h2', null, 'No run matches'), h('p', null, h('button.button', {type: 'button', onclick: () => this.ask({text: '', state: '', kind: '', tag: ''})}, 'Clear the filter'))) : h(NothingYet)) : null,
                        rows.length ? h('div.card.table-card', null, h('table.runs', {style: {'--least': columns.some((k) => !USUAL.includes(k)) ? `${320 + 130 * columns.length}px` : null}, 'aria-rowcount': next === null ? rows.length + 1 : -1, 'aria-busy': String(this.list !== this.asked)},
                                this.head(columns, rows),
                                h(Rows, {items: rows, id: (j) => j.id, columns: columns.length + 1, seen: (a, b) => this.look(a, b), row: (j, i) => row(j, i, {keys: columns, curves: this.glances.get(j.id)?.series, selected: this.all || select.includes(String(j.id)),
                                        select: () => this.address.set({select: toggled(this.all ? rows.slice(0, api.PAGE).map((k) => String(k.id)) : this.address.state.select, String(j.id))}), tag: (t) => this.ask({tag: t})})}))) : null,
                        next === null ? null : h('p.more.soft', null, 'Older runs follow'),
                ];
        }
}

function NothingYet() {
        const first = command({kind: 'train', config: 'photos32-tiny', name: 'first light'});
        return h('div.card.empty', null, h('h2', null, 'No runs yet'),
                h('p', null, 'Paste this into a terminal on this machine. The run appears here, and its curve grows while it trains.'),
                h('pre.command', {tabindex: 0}, first), h(CopyButton, {text: () => first}));
}
