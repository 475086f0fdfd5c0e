// The list of runs, filtered and sorted by the server. Rows come first; the curves of those in sight follow in small lots.
import {Address} from '../../lib/address.js';
import {column, COLUMNS, order, TEST, TRAIN, USUAL} from '../../lib/columns.js';
import {brief, keys, toggled} from '../../lib/config.js';
import {glance} from '../../lib/curves.js';
import {api, CopyButton, format, h, may, Menu, pace, Page} from '../../lib/page.js';
import {command, isFinal, SortHead, STATES, Tags, title, waiting} from '../../lib/parts.js';
import {Rows} from '../../lib/virtual.js';
import {FIELDS, JobList, LIMIT} from './list.js';
import {ALL, Selection} from './selection.js';

const NEAR = 20;                         // rows before the end at which the next page is asked for
const BUSY_MS = 2000, REST_MS = 10000, LATE_MS = 200;
const LOT = 4, SPARK_POINTS = 48;        // jobs and buckets a request: a long series takes the server a while
const SPARK_MS = 10000;                  // a curve the size of a word need not move more often
const EASE = 10, EASE_MS = 60000;        // times what a costly answer took, until it is asked for again; at most
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
function search(typed) {
        const words = typed.trim().split(/\s+/), ids = words.filter((w) => /^#\d+$/.test(w)), pairs = words.filter((w) => /^[\w.]+=/.test(w));
        return {id: ids.map((w) => w.slice(1)).join(), config: pairs.map(api.quoted).join(), text: words.filter((w) => !ids.includes(w) && !pairs.includes(w)).join(' ')};
}

export class RunsPage extends Page {
        constructor(main) {
                super(main, '');
                this.address = this.own(new Address({state: '', kind: '', tag: '', text: '', sort: '', columns: USUAL, select: [''].slice(1)}, [], () => this.draw()));
                this.schema = /** @type {any[]} */ ([]);
                this.list = this.asked = new JobList(this.question); // what is shown; what is being asked for
                this.seen = [0, 0];
                this.glances = new Map(); // job -> {key, at, series}
                this.stuck = false;       // the next page is not there: if it could not be read not again before the newest was
                this.late = performance.now() + LATE_MS; // from then on it is shown without rows, too
                this.soon(() => this.draw());
                this.loop = this.poll((signal) => this.readRows(signal), () => this.error?.status !== 400); // what was refused would be again
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
                const {state, kind, tag, text, columns, sort} = this.address.state;
                return {state, kind, tag, ...search(text), ...order(sort), fields: columns.every((k) => k in COLUMNS) ? FIELDS : undefined};
        }

        // An address may name a sort that the server does not know.
        fail(e) {
                return e.document?.errors?.some((x) => x.parameter === 'sort') ? this.ask({sort: ''}) : super.fail(e);
        }

        // Of all that the filter takes none stays selected when that is another.
        set(change) {
                this.address.set(this.address.state.select[0] === ALL && ['state', 'kind', 'tag', 'text'].some((k) => k in change) ? {...change, select: []} : change);
        }

        ask(change) {
                this.set(change);
                this.asked = new JobList(this.question);
                this.draw();
                this.more?.restart();
                this.loop?.restart();
        }

        async readRows(signal) {
                const list = this.asked, read = (limit, cursor) => api.jobs({...list.question, limit, cursor}, signal), began = performance.now();
                if (list.whole) { // as far as the last row in sight
                        const fresh = new JobList(list.question), missing = () => (list.loaded ? this.seen[1] - fresh.jobs.length : 0);
                        do
                                fresh.put(fresh, await read(Math.min(api.PAGE, Math.max(LIMIT, missing())), fresh.next));
                        while (fresh.next !== null && missing() > 0);
                        list.put(fresh);
                } else
                        for (let gap = list.merge(await read(LIMIT)); gap !== null;)
                                gap = list.merge(await read(api.PAGE, gap), list.starts.find((s) => s.cursor === gap).before);
                const apart = list.whole ? Math.min(EASE * (performance.now() - began), EASE_MS) : 0;
                this.list = list;
                [this.error, this.stuck] = [null, false];
                this.draw();
                await new Promise((after) => { requestAnimationFrame(() => setTimeout(after)); }); // all else comes after the rows
                if (!this.schema.length)
                        this.schema = keys(await api.schema(signal));
                const [first, end] = this.seen;
                for (const start of new Set([list.start(first), list.start(end - 1)]))
                        if (start)
                                list.merge(await read(LIMIT, start.cursor), start.before);
                this.draw();
                this.sparks?.poke();
                Object.assign(this.loop ?? {}, {apart});
                return Math.max(apart, pace([...list.jobs.slice(0, LIMIT), ...list.jobs.slice(first, end)].some((j) => !isFinal(j.state)) ? BUSY_MS : REST_MS));
        }

        // The next page, where its rows come into sight.
        async readMore(signal) {
                const list = this.list, cursor = list.next;
                if (list !== this.asked || cursor === null || this.stuck || this.seen[1] <= list.jobs.length - NEAR)
                        return null;
                this.stuck = true;
                const page = await api.jobs({...list.question, limit: list.whole ? api.PAGE : LIMIT, cursor}, signal);
                this.stuck = false;
                if (!list.whole)
                        list.merge(page, list.jobs.at(-1).id);
                else if (cursor === list.next) // else it was read anew meanwhile
                        list.put(list, page);
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
                const due = (j, known) => j.kind === 'train' && j.progress?.step > 0 && known?.key !== key(j) && (isFinal(j.state) || !known || Date.now() - known.at > SPARK_MS);
                const lot = this.list.jobs.slice(...this.seen).filter((j) => due(j, this.glances.get(j.id))).slice(0, LOT);
                if (!lot.length)
                        return null;
                const found = await glance(lot.map((j) => j.id), [TRAIN, TEST], SPARK_POINTS, signal);
                for (const j of lot)
                        this.glances.set(j.id, {key: key(j), at: Date.now(), series: found.get(j.id) ?? new Map()});
                this.draw();
                return 0;
        }

        // All that the filter takes are selected, or none any more: few by their ids.
        async selectAll(on) {
                const page = on ? await api.jobs({...this.list.question, fields: 'id', limit: api.PAGE}).catch((e) => this.fail(e)) : {jobs: [], next: null};
                if (page)
                        this.address.set({select: page.next === null ? page.jobs.map((j) => String(j.id)) : [ALL]});
        }

        head(keys, rows, selected) {
                const some = rows.some(selected), all = some && rows.every(selected);
                const sorts = {sort: this.address.state.sort, set: (sort) => this.ask({sort})};
                const th = (key) => h(SortHead, {key, id: key, name: column(key).title, short: brief(column(key).title, keys), kind: `.c-${key in COLUMNS ? key : 'key'}${USUAL.includes(key) ? '' : '.extra'}`, ...sorts});
                return h('thead', null, h('tr', {'aria-rowindex': 1}, h(SortHead, {id: 'name', name: 'Name', short: 'Run', ...sorts}, h('label.pick', null, h('input', {type: 'checkbox', checked: all, indeterminate: some && !all, 'aria-label': 'Select all', title: 'All that the filter takes', onchange: (e) => this.selectAll(e.target.checked)}))), keys.map(th)));
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
                                h('input', {type: 'search', placeholder: 'Filter by name', 'aria-label': 'Filter by name', title: 'Part of the name; #12 #15: by id; learning_rate=0.002: by a value of the configuration', value: text, autocomplete: 'off', spellcheck: false, oninput: (e) => type(e.target.value)}),
                                h(Menu, {text: 'Columns', kind: '.columns', holds: () => [Object.keys(COLUMNS).map(pick), h('hr'), this.schema.map((r) => pick(r.path))]})));
        }

        view() {
                const {state, kind, tag, text, select, columns} = this.address.state, {jobs: rows, next, loaded, total, question, whole} = this.list, count = total ?? rows.length;
                const counted = `${format.integer(count)}${next !== null && total === null ? '+' : ''} ${count === 1 ? 'run' : 'runs'}`;
                const all = select[0] === ALL, chosen = new Set(select), selected = (j) => all || chosen.has(String(j.id));
                return [
                        h('div.page-head', null, h('h1', null, 'Runs'),
                                h('p.count', {role: 'status'}, loaded && rows.length ? counted : ''), h('a.button', {href: '#/devices'}, 'Devices'), may('submit') && h('a.button.primary', {href: '#/new'}, 'New job')),
                        this.filters(columns),
                        this.troubles('The list could not be read'),
                        loaded || this.error ? null : h('div.card.skeleton', {'aria-hidden': 'true'}, h('div'), h('div'), h('div')),
                        h(Selection, {key: 'selection', select, all: all ? {filter: question, jobs: rows, count: total} : null, counted: all ? counted : format.count(select.length, 'run'), clear: () => this.address.set({select: []}), changed: (gone) => {
                                this.address.set({select: all && gone.length ? [] : this.address.state.select.filter((k) => !gone.includes(k))});
                                this.loop?.poke();
                        }}),
                        loaded && !rows.length ? (text || state || kind || tag ? h('div.card.empty', null, h('h2', null, 'No run matches'), h('p', null, h('button.button', {type: 'button', onclick: () => this.ask({text: '', state: '', kind: '', tag: ''})}, 'Clear the filter'))) : h(NothingYet)) : null,
                        rows.length ? h('div.card.table-card', null, h('table.runs', {style: {'--least': columns.some((k) => !USUAL.includes(k)) ? `${320 + 130 * columns.length}px` : null}, 'aria-rowcount': next === null ? rows.length + 1 : -1, 'aria-busy': String(this.list !== this.asked)},
                                this.head(columns, rows, selected),
                                h(Rows, {items: rows, id: (j) => j.id, columns: columns.length + 1, seen: (a, b) => this.look(a, b), row: (j, i) => row(j, i, {keys: columns, curves: this.glances.get(j.id)?.series, selected: selected(j),
                                        select: () => this.address.set({select: toggled(all ? rows.slice(0, api.PAGE).map((k) => String(k.id)) : this.address.state.select, String(j.id))}), tag: (t) => this.ask({tag: t})})}))) : null,
                        next === null ? null : h('p.more.soft', null, whole ? 'More runs follow' : 'Older runs follow'),
                ];
        }
}

function NothingYet() {
        const first = command({kind: 'train', config: 'photos32-tiny', name: 'first light'});
        return h('div.card.empty', null, h('h2', null, 'No runs yet'),
                h('p', null, 'Paste this into a terminal on this machine. The run appears here, and its curve grows while it trains.'),
                h('pre.command', {tabindex: 0}, first), h(CopyButton, {text: () => first}));
}
