// One run: progress, curves, images, log, configuration, files. Everything is read again only where it may have changed,
// and nothing once the run is over.
import * as api from '../lib/api.js';
import {Chart, group} from '../lib/chart.js';
import {Curves} from '../lib/curves.js';
import {ask, copyButton, h, setText} from '../lib/dom.js';
import {poll} from '../lib/events.js';
import * as format from '../lib/format.js';
import {pill, progressBar, title} from './runs.js';

const RUNNING_MS = 1000, QUEUED_MS = 2000;
const LOG_LINES = 2000, LOG_CHARACTERS = 256 * 1024; // of the tail, in the page
const SETTINGS = 'mulund.chart';
const isFinal = (s) => s === 'succeeded' || s === 'failed' || s === 'cancelled';

export function mount({main, crumbs}, id) {
        crumbs.append(h('a', {href: '#/'}, 'Runs'), h('span.sep', {'aria-hidden': 'true'}, '/'), h('span', {'aria-current': 'page'}, `#${id}`));
        document.title = `#${id} · mulund`;

        const head = h('div.page-head'), alerts = h('div'), stats = h('div.stats'), result = h('div');
        const panels = [chartsPanel(id), imagesPanel(), logPanel(id), configPanel(), filesPanel()];
        const [charts, images, log, config, files] = panels;
        const skeleton = h('div.card.skeleton', {'aria-hidden': 'true'}, h('div'), h('div'), h('div'));
        const content = h('div.content', {hidden: true}, stats, result, panels.map((p) => p.element));
        main.append(head, alerts, skeleton, content);

        let last = null;

        function problem(e) {
                skeleton.hidden = true;
                if (last === null && e.status === 404) {
                        main.replaceChildren(h('div.card.empty', null, h('h2', null, `There is no run #${id}`), h('p', null, h('a', {href: '#/'}, 'All runs'))));
                        return;
                }
                alerts.replaceChildren(h('div.card.problem', {role: 'alert'}, h('h2', null, 'That did not work'), h('p', null, e.message)));
        }

        const loop = poll(async () => {
                const job = await api.job(id);
                const ended = last !== null && isFinal(job.state);
                const key = JSON.stringify(job);
                if (key !== last) {
                        last = key;
                        drawHead(job);
                        drawStats(job);
                        drawResult(job);
                        config.draw(job);
                        alerts.replaceChildren(...failure(job));
                }
                skeleton.hidden = true;
                content.hidden = false;
                await charts.update(job);
                const list = await api.artifacts(id);
                images.draw(list);
                files.draw(list);
                if (job.attempts > 0)
                        await log.update();
                if (isFinal(job.state) && !ended && job.ended && Date.now() - Date.parse(job.ended) < 5000)
                        return RUNNING_MS; // once more: its last points may have come after the state
                return isFinal(job.state) ? null : job.state === 'running' ? RUNNING_MS : QUEUED_MS;
        }, problem);

        function drawHead(job) {
                document.title = `${title(job)} · mulund`;
                const actions = [];
                const source = Number.isInteger(job.checkpoint?.job) ? job.checkpoint : null;
                const act = async (question, call) => {
                        const answer = await ask(question);
                        if (!answer)
                                return;
                        try {
                                await call(answer);
                                loop.poke();
                        } catch (e) {
                                problem(e);
                        }
                };
                if (!isFinal(job.state))
                        actions.push(h('button.button.danger', {type: 'button', disabled: job.cancel_requested === true, onclick: () => act({
                                title: 'Cancel this run?', action: 'Cancel the run', danger: true,
                                text: job.state === 'running' ? 'It stops at the next step, after a checkpoint. It can be resumed from there.' : 'It leaves the queue.',
                        }, () => api.cancel(id))}, 'Cancel'));
                else {
                        if (job.kind === 'train') {
                                const steps = h('input', {name: 'steps', type: 'number', min: (job.progress?.step ?? 0) + 1, step: 1,
                                        value: String(job.state === 'succeeded' ? 2 * (job.progress?.steps ?? 0) : job.progress?.steps ?? 0), required: true});
                                actions.push(h('button.button.primary', {type: 'button', onclick: () => act({
                                        title: 'Resume this run?', action: 'Resume', text: 'It goes on from its last checkpoint.',
                                        fields: [h('label.field', null, 'Train to step', steps)],
                                }, (answer) => {
                                        const n = Number(answer.steps);
                                        return api.resume(id, n === job.progress?.steps ? null : n);
                                })}, 'Resume'));
                        }
                        actions.push(h('button.button', {type: 'button', onclick: () => act({
                                title: 'Delete this run?', action: 'Delete', danger: true, text: 'Its checkpoints, images, curves and log are removed for good.',
                        }, async () => {
                                await api.remove(id);
                                location.hash = '#/';
                        })}, 'Delete'));
                }
                head.replaceChildren(
                        h('div.head-title', null, h('h1', null, title(job)), pill(job.state),
                                job.cancel_requested && !isFinal(job.state) ? h('span.soft', {role: 'status'}, 'stopping at the next step') : null,
                                h('p.sub', null, `#${job.id} · ${job.kind}`, source ? [' of ', h('a', {href: `#/jobs/${source.job}`}, `#${source.job}`), ` at step ${format.integer(source.step)}`] : '',
                                        job.config_name ? ` · ${job.config_name}` : '',
                                        (job.tags ?? []).map((t) => h('span.tag', null, t)))),
                        h('div.actions', null, actions));
        }

        function drawStats(job) {
                const p = job.progress ?? {};
                const running = job.state === 'running';
                const item = (label, value, sub) => h('div.stat', null, h('dt', null, label), h('dd', null, value, sub ? h('small', null, ` ${sub}`) : null));
                const rate = api.number(p.images_per_second), left = api.number(p.seconds_left);
                stats.replaceChildren(h('div.card', null,
                        h('div.progress-line', null, progressBar(job),
                                h('span.num', null, p.steps > 0 ? `${Math.floor(100 * p.step / p.steps)} %` : '')),
                        h('dl.stat-list', null,
                                item('Step', format.integer(p.step), `of ${format.integer(p.steps)}`),
                                item('Images/s', rate === null ? '–' : format.real(rate, 3)),
                                item(running ? 'Time left' : 'Took', running ? format.duration(left) : format.duration(job.started ? format.between(job.started, job.ended) : null)),
                                item('Started', job.started ? format.when(job.started) : '–'),
                                item('Attempts', format.integer(job.attempts)))));
        }

        function drawResult(job) {
                const r = job.result;
                result.replaceChildren();
                if (!r || typeof r !== 'object')
                        return;
                const bpd = api.number(r.bpd ?? null), error = api.number(r.standard_error ?? null);
                const parts = Object.entries(r.parts && typeof r.parts === 'object' ? r.parts : {}).map(([k, v]) => [k, api.number(v)]);
                const known = new Set(['bpd', 'standard_error', 'parts']);
                const rest = Object.entries(r).filter(([k, v]) => !known.has(k) && (v === null || typeof v !== 'object'));
                const most = Math.max(...parts.map(([, v]) => v ?? 0), 1e-9);
                result.append(h('section.card.result', {'aria-label': 'Result'},
                        bpd === null ? h('h2', null, 'Result') : h('div.result-main', null,
                                h('h2', null, 'Bits per dimension'),
                                h('p.result-number', null, format.fixed(bpd, 3), error === null ? null : h('small', null, ` ± ${format.fixed(error, 3)} standard error`)),
                                h('p.soft', null, 'Fewer is better. An image of random bytes has 8.')),
                        parts.length ? h('div.parts', null, parts.map(([k, v]) => {
                                const fill = h('div.bar-fill.calm');
                                fill.style.width = `${Math.max(0, Math.min(100, 100 * (v ?? 0) / most)).toFixed(1)}%`;
                                return h('div.part', null, h('span', null, k), h('div.bar', null, fill), h('span.num', null, format.fixed(v, 3)));
                        })) : null,
                        rest.length ? h('dl.facts', null, rest.map(([k, v]) => h('div', null, h('dt', null, k.replaceAll('_', ' ')),
                                h('dd', null, k === 'seconds' ? format.duration(api.number(v)) : typeof v === 'number' ? format.real(v, 5) : String(v))))) : null));
        }

        function failure(job) {
                const e = job.error;
                if (!e || typeof e !== 'object')
                        return [];
                return [h('div.card.problem', {role: 'alert'}, h('h2', null, `Failed${e.class ? `: ${e.class}` : ''}${Number.isInteger(e.step) ? ` at step ${format.integer(e.step)}` : ''}`),
                        h('p', null, String(e.detail ?? 'No reason was given; the log may tell.')))];
        }

        return () => {
                loop.stop();
                charts.free();
        };
}

// ---------------------------------------------------------------- curves

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

function chartsPanel(id) {
        const options = loadSettings();
        const curves = new Curves(id);
        const charts = new Map();
        const grid = h('div.charts');
        const none = h('p.card.empty-line', null, 'No points yet.');

        const changed = () => {
                try {
                        localStorage.setItem(SETTINGS, JSON.stringify(options));
                } catch {
                        /* only a convenience */
                }
                draw();
        };
        const shown = h('output', {for: 'smoothing'}, options.smoothing.toFixed(2));
        const slider = h('input', {type: 'range', id: 'smoothing', min: 0, max: 0.99, step: 0.01, value: options.smoothing, oninput: () => {
                options.smoothing = Number(slider.value);
                setText(shown, options.smoothing.toFixed(2));
                changed();
        }});
        const toggle = (key, on, off, label) => {
                const make = (value, text) => h('button', {type: 'button', 'aria-pressed': String(options[key] === value), onclick: () => {
                        options[key] = value;
                        buttons[0].setAttribute('aria-pressed', String(!value));
                        buttons[1].setAttribute('aria-pressed', String(value));
                        changed();
                }}, text);
                const buttons = [make(false, off), make(true, on)];
                return h('div.switch', {role: 'group', 'aria-label': label}, h('span', null, label), buttons);
        };
        const controls = h('div.chart-controls', null,
                h('label.smoothing', {for: 'smoothing'}, 'Smoothing', slider, shown),
                toggle('logX', 'log', 'linear', 'Steps'), toggle('logY', 'log', 'linear', 'Values'), toggle('band', 'on', 'off', 'Min–max band'),
                h('span.hint', null, 'Drag to zoom, double-click to go back'));

        function draw() {
                const groups = new Map();
                for (const s of [...curves.series.values()].sort((a, b) => order(a.name, b.name))) {
                        const g = group(s.name);
                        if (!groups.has(g.key))
                                groups.set(g.key, {...g, series: []});
                        groups.get(g.key).series.push(s);
                }
                const list = [...groups.values()].sort((a, b) => a.order - b.order || a.title.localeCompare(b.title));
                none.hidden = list.length > 0;
                controls.hidden = !list.length;
                for (const [key, chart] of charts)
                        if (!groups.has(key)) {
                                chart.free();
                                chart.element.remove();
                                charts.delete(key);
                        }
                list.forEach((g, i) => {
                        let chart = charts.get(g.key);
                        if (!chart) {
                                chart = new Chart(g.title, g.unit);
                                charts.set(g.key, chart);
                        }
                        if (grid.children[i] !== chart.element)
                                grid.insertBefore(chart.element, grid.children[i] ?? null);
                        chart.element.classList.toggle('wide', i === 0);
                        chart.draw(g.series, options);
                });
        }

        const element = h('section', {'aria-label': 'Curves'}, h('div.section-head', null, h('h2', null, 'Curves'), controls), none, grid);

        return {
                element,
                async update(job) {
                        element.hidden = job.kind !== 'train';
                        if (element.hidden)
                                return;
                        if (await curves.update() || !charts.size)
                                draw();
                        setText(none, isFinal(job.state) ? 'This run left no points.' : 'No points yet: the first come after a few steps.');
                },
                free() {
                        for (const c of charts.values())
                                c.free();
                },
        };
}

// train before eval before others, so that colours keep their meaning
function order(a, b) {
        const rank = (n) => (n.startsWith('train/') ? 0 : n.startsWith('eval/') ? 1 : 2);
        return rank(a) - rank(b) || a.localeCompare(b);
}

// ---------------------------------------------------------------- images

function imagesPanel() {
        let list = [], at = 0, newest = true, key = '';
        const picture = h('img.sample', {alt: ''});
        const link = h('a', {target: '_blank', rel: 'noopener'}, picture);
        const caption = h('p.soft');
        const slider = h('input', {type: 'range', min: 0, max: 0, step: 1, value: 0, 'aria-label': 'Step of the images', oninput: () => {
                at = Number(slider.value);
                newest = at === list.length - 1;
                show();
        }});
        const strip = h('div.strip');
        const element = h('section', {'aria-label': 'Images', hidden: true}, h('div.section-head', null, h('h2', null, 'Images')),
                h('div.card.images', null, h('figure', null, link), h('div.image-side', null, caption, slider, strip)));

        function show() {
                const a = list[at];
                picture.src = api.artifactUrl(a);
                picture.alt = `Samples at step ${a.step}`;
                link.href = api.artifactUrl(a);
                setText(caption, `Step ${format.integer(a.step)}${at === list.length - 1 ? ', the newest' : ''} · ${a.name}`);
                slider.setAttribute('aria-valuetext', `step ${a.step}`);
                for (const b of strip.children)
                        b.setAttribute('aria-pressed', String(Number(b.dataset.at) === at));
        }

        return {
                element,
                draw(all) {
                        const images = all.filter((a) => a.kind === 'image').sort((a, b) => a.step - b.step || a.id - b.id);
                        const k = images.map((a) => a.id).join();
                        if (k === key)
                                return;
                        key = k;
                        list = images;
                        element.hidden = !list.length;
                        if (!list.length)
                                return;
                        if (newest || at >= list.length)
                                at = list.length - 1;
                        slider.max = String(list.length - 1);
                        slider.value = String(at);
                        slider.hidden = list.length < 2;
                        const few = list.map((a, i) => [a, i]).reverse().slice(0, 24);
                        strip.replaceChildren(...few.map(([a, i]) => h('button.thumb', {type: 'button', 'data-at': i, title: `Step ${a.step}`, onclick: () => {
                                at = i;
                                newest = at === list.length - 1;
                                slider.value = String(at);
                                show();
                        }}, h('img', {src: api.artifactUrl(a), alt: `Step ${a.step}`, loading: 'lazy'}), h('span', null, format.integer(a.step)))));
                        strip.hidden = list.length < 2;
                        show();
                },
        };
}

// ---------------------------------------------------------------- log

function logPanel(id) {
        const text = h('pre.log', {tabindex: 0, 'aria-label': 'Log of the worker'});
        const cut = h('p.soft', {hidden: true}, 'Earlier lines are left out here; the whole log has them.');
        const follow = h('input', {type: 'checkbox', checked: true});
        const empty = h('p.empty-line', null, 'Nothing was written yet.');
        let next = null, decoder = new TextDecoder();

        text.addEventListener('scroll', () => {
                follow.checked = text.scrollHeight - text.scrollTop - text.clientHeight < 24;
        });
        const down = () => {
                if (follow.checked)
                        text.scrollTop = text.scrollHeight;
        };
        follow.addEventListener('change', down);

        return {
                element: h('section', {'aria-label': 'Log'},
                        h('div.section-head', null, h('h2', null, 'Log'),
                                h('div.section-tools', null, h('label.check', null, follow, 'Follow'), h('a', {href: api.logUrl(id), target: '_blank', rel: 'noopener'}, 'The whole log'))),
                        h('div.card', null, cut, empty, text)),
                async update() {
                        const part = await api.log(id, next, LOG_LINES);
                        if (!part.bytes.length)
                                return;
                        if (next === null && part.cut)
                                cut.hidden = false;
                        next = part.next;
                        // One text node, always text.
                        let s = text.textContent + decoder.decode(part.bytes, {stream: true}).replace(/\r\n/g, '\n').replace(/[^\n]*\r(?!\n)/g, '');
                        if (s.length > 2 * LOG_CHARACTERS) {
                                s = s.slice(s.indexOf('\n', s.length - LOG_CHARACTERS) + 1);
                                cut.hidden = false;
                        }
                        text.textContent = s;
                        empty.hidden = s.length > 0;
                        down();
                },
        };
}

// ---------------------------------------------------------------- configuration

function configPanel() {
        let json = '', key = '';
        const body = h('div.card.config');
        const tree = (value) => h('dl.config-list', null, Object.entries(value).map(([k, v]) => h('div', null, h('dt', null, k),
                h('dd', null, v !== null && typeof v === 'object' ? JSON.stringify(v) : String(v)))));
        return {
                element: h('section', {'aria-label': 'Configuration'},
                        h('div.section-head', null, h('h2', null, 'Configuration'), h('div.section-tools', null, copyButton(() => json, 'Copy as JSON'))), body),
                draw(job) {
                        json = JSON.stringify(job.config ?? {}, null, 2);
                        if (json === key)
                                return;
                        key = json;
                        const entries = Object.entries(job.config ?? {});
                        const plain = Object.fromEntries(entries.filter(([, v]) => v === null || typeof v !== 'object'));
                        body.replaceChildren(Object.keys(plain).length ? tree(plain) : '',
                                ...entries.filter(([, v]) => v !== null && typeof v === 'object').map(([k, v]) =>
                                        h('details', {open: k === 'model' || k === 'training'}, h('summary', null, k, h('span.soft', null, ` ${Object.keys(v).length} keys`)), tree(v))));
                },
        };
}

// ---------------------------------------------------------------- files

function filesPanel() {
        let key = '';
        const body = h('tbody');
        const element = h('section', {'aria-label': 'Files', hidden: true}, h('div.section-head', null, h('h2', null, 'Files')),
                h('div.card.table-card', null, h('table.files', null,
                        h('thead', null, h('tr', null, ['File', 'Kind', 'Step', 'Size', 'XXH128', 'Made'].map((c) => h('th', {scope: 'col'}, c)))), body)));
        return {
                element,
                draw(list) {
                        const k = list.map((a) => a.id).join();
                        if (k === key)
                                return;
                        key = k;
                        element.hidden = !list.length;
                        const cell = (label, ...c) => h('td', {'data-label': label}, ...c);
                        body.replaceChildren(...list.map((a) => h('tr', null,
                                cell('File', h('a', {href: api.artifactUrl(a), download: a.name}, a.name)),
                                cell('Kind', a.kind), cell('Step', h('span.num', null, format.integer(a.step))),
                                cell('Size', h('span.num', {title: `${a.bytes} bytes`}, format.bytes(a.bytes))),
                                cell('XXH128', h('code', {title: a.xxh128}, String(a.xxh128 ?? '').slice(0, 12))),
                                cell('Made', h('time.num', {datetime: a.created, title: format.exactly(a.created)}, format.when(a.created))))));
                },
        };
}
