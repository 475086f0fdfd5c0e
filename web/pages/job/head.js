// The top of a job's page: what it is, how far it is, what came out, what can be done with it.
import {link} from '../../lib/address.js';
import * as api from '../../lib/api.js';
import {h} from '../../lib/dom.js';
import * as format from '../../lib/format.js';
import {isFinal, Pill, progress, ProgressBar, result, Tags, title, waiting} from '../../lib/parts.js';

// act(question, call): asks, then calls with the answer. gone(): the job is no more.
function actions(job, act, gone) {
        const cancel = () => act({
                title: 'Cancel this run?', action: 'Cancel the run', danger: true,
                text: job.kind === 'import' ? 'What it has read so far is dropped.' : job.state === 'running' ? 'It stops at the next step, after a checkpoint. It can be resumed from there.' : 'It leaves the queue.',
        }, () => api.cancel(job.id));
        const p = job.progress ?? {};
        const resume = () => act({
                title: 'Resume this run?', action: 'Resume', text: 'It goes on from its last checkpoint.',
                fields: h('label.field', null, 'Train to step', h('input', {name: 'steps', type: 'number', min: (p.step ?? 0) + 1, step: 1, required: true,
                        value: String(job.state === 'succeeded' ? 2 * (p.steps ?? 0) : p.steps ?? 0)})),
        }, ({steps}) => api.resume(job.id, Number(steps) === p.steps ? null : Number(steps)));
        const remove = () => act({
                title: 'Delete this run?', action: 'Delete', danger: true, text: 'Its checkpoints, images, curves and log are removed for good.',
        }, async () => {
                await api.remove(job.id);
                gone();
        });
        if (!isFinal(job.state))
                return h('button.button.danger', {key: 'cancel', type: 'button', disabled: job.cancel_requested === true, onclick: cancel}, 'Cancel');
        return [job.kind === 'train' ? h('button.button.primary', {key: 'resume', type: 'button', onclick: resume}, 'Resume') : null,
                h('button.button', {key: 'delete', type: 'button', onclick: remove}, 'Delete')];
}

export function Head({job, act, gone}) {
        const source = Number.isInteger(job.checkpoint?.job) ? job.checkpoint : null, why = waiting(job);
        return h('div.page-head', null,
                h('div.head-title', null, h('h1', null, title(job)), h(Pill, {state: job.state}),
                        job.cancel_requested && !isFinal(job.state) ? h('span.soft', {role: 'status'}, job.kind === 'import' ? 'stopping' : 'stopping at the next step') : null,
                        h('p.sub', null, `#${job.id} · ${job.kind}`, source ? [' of ', h('a', {href: `#/jobs/${source.job}`}, `#${source.job}`), ` at step ${format.integer(source.step)}`] : '',
                                job.config_name ? ` · ${job.config_name}` : '', h(Tags, {job})),
                        why ? h('p.waiting', {role: 'status'}, `Waiting: ${why}`) : null),
                h('div.actions', null, job.kind === 'train' ? h('a.button', {href: link('#/new', {kind: 'train', clone: String(job.id)})}, 'Clone with changes') : null, actions(job, act, gone)));
}

export function Stats({job}) {
        const p = progress(job), running = job.state === 'running';
        const item = (label, value, sub) => h('div.stat', null, h('dt', null, label), h('dd', null, value, sub ? h('small', null, ` ${sub}`) : null));
        return h('div.card', null,
                h('div.progress-line', null, h(ProgressBar, {job}), h('span.num', null, Number.isFinite(p.share) ? `${Math.floor(100 * p.share)} %` : '')),
                h('dl.stat-list', null,
                        item(p.unit, format.integer(p.done), `of ${format.integer(p.of)}${p.note ? `, ${p.note}` : ''}`),
                        item('Images/s', format.real(p.rate, 3)),
                        item(running ? 'Time left' : 'Took', format.duration(running ? p.left : job.started ? format.between(job.started, job.ended) : null)),
                        item('Started', job.started ? format.when(job.started) : '–'),
                        item('Attempts', format.integer(job.attempts))));
}

export function Result({job}) {
        const r = job.result;
        if (!r || typeof r !== 'object')
                return null;
        const ended = result(job), error = ended && format.error(ended.error, 3);
        const parts = Object.entries(r.parts && typeof r.parts === 'object' ? r.parts : {}).map(([k, v]) => /** @type {const} */ ([k, api.number(v)]));
        const known = new Set(['bpd', 'standard_error', 'parts']);
        const rest = Object.entries(r).filter(([k, v]) => !known.has(k) && (v === null || typeof v !== 'object'));
        const most = Math.max(...parts.map(([, v]) => v ?? 0), 1e-9);
        const width = (v) => `${Math.max(0, Math.min(100, 100 * (v ?? 0) / most)).toFixed(1)}%`;
        return h('section.card.result', {'aria-label': 'Result'},
                !ended ? h('h2', null, 'Result') : h('div.result-main', null,
                        h('h2', null, `Bits per dimension on ${ended.images} images`),
                        h('p.result-number', null, format.fixed(ended.bpd, 3), error ? h('small', null, ` ${error} standard error`) : null),
                        h('p.soft', null, 'Fewer is better. An image of random bytes has 8.')),
                parts.length ? h('div.parts', null, parts.map(([k, v]) => h('div.part', {key: k}, h('span', null, k),
                        h('div.bar', null, h('div.bar-fill.calm', {style: {width: width(v)}})), h('span.num', null, format.fixed(v, 3))))) : null,
                rest.length ? h('dl.facts', null, rest.map(([k, v]) => h('div', {key: k}, h('dt', null, k.replaceAll('_', ' ')),
                        h('dd', null, k === 'seconds' ? format.duration(api.number(v)) : typeof v === 'number' ? format.real(v, 5) : String(v))))) : null);
}

export function Failure({job}) {
        const e = job.error;
        if (!e || typeof e !== 'object')
                return null;
        return h('div.card.problem', {role: 'alert'},
                h('h2', null, `Failed${e.class ? `: ${e.class}` : ''}${Number.isInteger(e.step) ? ` at step ${format.integer(e.step)}` : ''}`),
                h('p', null, String(e.detail ?? 'No reason was given; the log may tell.')));
}
