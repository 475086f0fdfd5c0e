// The list of runs, newest first.
import * as api from '../lib/api.js';
import {sparkline} from '../lib/chart.js';
import {glance} from '../lib/curves.js';
import {copyButton, h, setText, svg} from '../lib/dom.js';
import {poll} from '../lib/events.js';
import * as format from '../lib/format.js';

const STATES = ['', 'running', 'queued', 'succeeded', 'failed', 'cancelled'];
const LIMIT = 50, SPARK_POINTS = 48;
const BUSY_MS = 2000, REST_MS = 10000;
const COLUMNS = ['Run', 'State', 'Progress', 'BPD', 'Curve', 'Images/s', 'Time left', 'Created'];

export function pill(state) {
        const known = STATES.includes(state) && state ? state : 'queued';
        return h(`span.pill.${known}`, null, h('span.dot', {'aria-hidden': 'true'}), String(state));
}

export function progressBar(job) {
        const {step, steps} = job.progress ?? {};
        const share = steps > 0 ? Math.min(1, Math.max(0, step / steps)) : 0;
        const fill = h(`div.bar-fill.${job.state === 'running' ? 'live' : job.state === 'failed' ? 'bad' : 'calm'}`);
        fill.style.width = `${(100 * share).toFixed(2)}%`;
        return h('div.bar', {role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': Math.round(100 * share),
                'aria-label': 'Progress'}, fill);
}

export function title(job) {
        return job.name || `${job.kind} ${job.id}`;
}

export function mount({main, crumbs}) {
        document.title = 'Runs · mulund';
        crumbs.append(h('span', {'aria-current': 'page'}, 'Runs'));

        let state = '', text = '', older = [], next = null;
        const glances = new Map(); // job -> {key, shape}
        let first = [], loaded = false;

        const chips = STATES.map((s) => h('button.chip', {type: 'button', 'aria-pressed': s === state ? 'true' : 'false', onclick: () => {
                state = s;
                chips.forEach((c, i) => c.setAttribute('aria-pressed', String(STATES[i] === s)));
                restart();
        }}, s || 'all'));
        const search = h('input', {type: 'search', placeholder: 'Filter by name', 'aria-label': 'Filter by name', autocomplete: 'off', spellcheck: 'false'});
        let typing = 0;
        search.addEventListener('input', () => {
                clearTimeout(typing);
                typing = setTimeout(() => {
                        text = search.value.trim();
                        restart();
                }, 250);
        });
        const body = h('tbody');
        const table = h('table.runs', null, h('thead', null, h('tr', null, COLUMNS.map((c) => h('th', {scope: 'col'}, c)))), body);
        const count = h('p.count', {role: 'status'});
        const more = h('button.button', {type: 'button', hidden: true, onclick: loadMore}, 'Show older runs');
        const note = h('div');
        const skeleton = h('div.card.skeleton', {'aria-hidden': 'true'}, h('div'), h('div'), h('div'));
        const card = h('div.card.table-card', {hidden: true}, table);
        main.append(h('div.page-head', null, h('h1', null, 'Runs'), count),
                h('div.filters', null, h('div.chips', {role: 'group', 'aria-label': 'Filter by state'}, chips), search),
                skeleton, note, card, h('div.more', null, more));

        function restart() {
                older = [];
                next = null;
                loop.poke();
        }

        function problem(e) {
                skeleton.hidden = true;
                note.replaceChildren(h('div.card.problem', {role: 'alert'}, h('h2', null, 'The list could not be read'), h('p', null, e.message)));
        }

        async function loadMore() {
                if (!next)
                        return;
                more.disabled = true;
                try {
                        const answer = await api.jobs({state, text, limit: LIMIT, cursor: next});
                        older = older.concat(answer.jobs);
                        next = answer.next;
                        await look(answer.jobs);
                        draw();
                } catch (e) {
                        problem(e);
                }
                more.disabled = false;
        }

        // One request for the curves of all training jobs in view that moved since they were last looked at.
        async function look(list) {
                const moved = list.filter((j) => j.kind === 'train' && (j.progress?.step ?? 0) > 0 &&
                        glances.get(j.id)?.key !== `${j.progress.step} ${j.state}`);
                if (!moved.length)
                        return;
                const shapes = await glance(moved.map((j) => j.id), 'train/bpd', SPARK_POINTS);
                for (const j of moved)
                        if (shapes.has(j.id))
                                glances.set(j.id, {key: `${j.progress.step} ${j.state}`, shape: shapes.get(j.id)});
        }

        const asked = () => `${state}\n${text}`;
        const loop = poll(async () => {
                const question = asked();
                const answer = await api.jobs({state, text, limit: LIMIT});
                if (question !== asked())
                        return 0; // the filter changed meanwhile
                await look(answer.jobs);
                first = answer.jobs;
                if (!older.length)
                        next = answer.next;
                loaded = true;
                note.replaceChildren();
                draw();
                return first.some((j) => j.state === 'running' || j.state === 'queued') ? BUSY_MS : REST_MS;
        }, problem);

        function draw() {
                const seen = new Set(), list = [];
                for (const j of [...first, ...older])
                        if (!seen.has(j.id)) {
                                seen.add(j.id);
                                list.push(j);
                        }
                skeleton.hidden = loaded;
                card.hidden = !list.length;
                more.hidden = !next;
                setText(count, list.length ? `${format.integer(list.length)}${next ? '+' : ''} shown` : '');
                if (!list.length)
                        note.replaceChildren(state || text ? nothingFound() : nothingYet());
                const focused = document.activeElement?.dataset?.job;
                body.replaceChildren(...list.map(row));
                if (focused)
                        body.querySelector(`a[data-job="${CSS.escape(focused)}"]`)?.focus();
        }

        function row(j) {
                const p = j.progress ?? {};
                const shape = glances.get(j.id)?.shape;
                const result = j.result && typeof j.result === 'object' ? j.result : null;
                const own = api.number(result?.bpd ?? null);
                const bpd = own ?? shape?.last ?? null;
                const error = api.number(result?.standard_error ?? null);
                const cell = (label, ...children) => h('td', {'data-label': label}, ...children);
                const soft = (label, text) => h(text === '–' ? 'td.none' : 'td', {'data-label': label}, h('span.num', null, text));
                const running = j.state === 'running';
                return h('tr', null,
                        cell('Run', h('a.run-name', {href: `#/jobs/${j.id}`, 'data-job': j.id}, title(j)),
                                h('span.run-sub', null, `#${j.id} · ${j.kind}`, j.config_name ? ` · ${j.config_name}` : '',
                                        (j.tags ?? []).map((t) => h('span.tag', null, t)))),
                        cell('State', pill(j.state)),
                        cell('Progress', h('div.progress-cell', null, progressBar(j),
                                h('span.num', null, `${format.integer(p.step)} / ${format.integer(p.steps)}`))),
                        cell('BPD', h('span.num.strong', null, bpd === null ? '–' : format.fixed(bpd, 3)),
                                error === null ? null : h('span.num.soft', null, ` ± ${format.fixed(error, 3)}`)),
                        shape ? cell('Curve', sparkline(shape.mean, svg)) : h('td.none', {'data-label': 'Curve'}),
                        soft('Images/s', running ? format.real(api.number(p.images_per_second), 3) : '–'),
                        soft('Time left', running ? format.duration(api.number(p.seconds_left)) : '–'),
                        cell('Created', h('time.num', {datetime: j.created, title: format.exactly(j.created)}, format.when(j.created))));
        }

        function nothingFound() {
                return h('div.card.empty', null, h('h2', null, 'No run matches'), h('p', null, 'Clear the filter to see the others.'));
        }

        function nothingYet() {
                const address = new URL('v1/jobs', document.baseURI).href;
                const command = `curl -X POST ${address} \\\n  -H 'Content-Type: application/json' \\\n  -d '{"kind": "train", "config": "photos32-tiny", "name": "first light"}'`;
                return h('div.card.empty', null, h('h2', null, 'No runs yet'),
                        h('p', null, 'Paste this into a terminal on this machine. The run appears here, and its curve grows while it trains.'),
                        h('pre.command', null, command), copyButton(() => command));
        }

        return () => {
                clearTimeout(typing);
                loop.stop();
        };
}
