// The top of a job's page: what it is, how far it is, what came out, what can be done with it.
import {link} from '../../lib/address.js';
import * as api from '../../lib/api.js';
import {h} from '../../lib/dom.js';
import * as format from '../../lib/format.js';
import {Trouble} from '../../lib/page.js';
import {Blockers, isFinal, Pill, progress, ProgressBar, result, Tags, title, waiting} from '../../lib/parts.js';
import {may} from '../../lib/session.js';

// act(question, call): asks, then calls with the answer. gone(): the job is no more.
function actions(job, act, gone) {
        const cancel = () => act({
                title: 'Cancel this run?', action: 'Cancel the run', danger: true,
                text: job.kind === 'import' ? 'What it has read so far is dropped.' : job.state === 'running' ? 'It stops at the next step, after a checkpoint. It can be resumed from there.' : 'It leaves the queue.',
        }, () => api.act(job.id, 'cancel'));
        const pause = () => act({title: 'Pause this run?', action: 'Pause', text: job.state === 'running' ? 'It stops at the next step, after a checkpoint, and its device is free.' : 'It waits until it is resumed.'}, () => api.act(job.id, 'pause'));
        const retry = () => act({title: 'Try again?', action: 'Retry', text: 'It goes on from its last checkpoint where it has one.'}, () => api.act(job.id, 'retry'));
        const p = job.progress ?? {};
        const resume = () => act({
                title: 'Resume this run?', action: 'Resume', text: 'It goes on from its last checkpoint.',
                fields: job.state === 'paused' ? null : h('label.field', null, 'Train to step', h('input', {name: 'steps', type: 'number', min: (p.step ?? 0) + 1, step: 1, required: true,
                        value: String(job.state === 'succeeded' ? 2 * (p.steps ?? 0) : p.steps ?? 0)})),
        }, ({steps}) => api.resume(job.id, steps === undefined || Number(steps) === p.steps ? null : Number(steps)));
        const remove = () => act({
                title: 'Delete this run?', action: 'Delete', danger: true, text: 'Its checkpoints, images, curves and log are removed for good.',
        }, async () => {
                await api.remove(job.id);
                gone();
        });
        const field = (label, name, value, more) => h('label.field', null, label, h('input', {name, value: String(value ?? ''), type: 'text', ...more}));
        const edit = () => act({
                title: 'What it is called', action: 'Save', text: 'Tags are separated by commas.',
                fields: [field('Name', 'name', job.name, {maxlength: 200}), field('Tags', 'tags', (job.tags ?? []).join(', ')), h('label.field', null, 'Notes', h('textarea', {name: 'notes', rows: 4}, job.notes ?? '')),
                        isFinal(job.state) ? null : field('Priority', 'priority', job.priority ?? 0, {type: 'number', min: -1000, max: 1000})],
        }, ({name, tags, notes, priority}) => api.change(job.id, {name, tags: tags.split(',').map((t) => t.trim()).filter(Boolean), notes, ...(priority === undefined ? {} : {priority: Number(priority)})}, job.version));
        const button = (label, call, kind = '') => h(`button.button${kind}`, {key: label, type: 'button', disabled: !isFinal(job.state) && Boolean(job.stopping ?? job.cancel_requested), onclick: call}, label);
        return [button('Edit', edit),
                ...!isFinal(job.state) ? [job.state === 'paused' ? button('Resume', resume, '.primary') : button('Pause', pause), button('Cancel', cancel, '.danger')]
                        : [job.state !== 'succeeded' ? button('Retry', retry) : null, job.kind === 'train' ? button('Resume', resume, '.primary') : null, button('Delete', remove)]];
}

// What a run that stops is stopping for, in words.
function stopping(job) {
        const why = job.stopping ?? (job.cancel_requested ? 'cancel' : null);
        return isFinal(job.state) || !why ? '' : job.kind === 'import' ? 'stopping' : why === 'cancel' ? 'stopping at the next step' : why === 'pause' ? 'pausing at the next step' : 'at its limit, stopping';
}

export function Head({job, act, gone}) {
        const source = Number.isInteger(job.checkpoint?.job) ? job.checkpoint : null, why = waiting(job);
        return h('div.page-head', null,
                h('div.head-title', null, h('h1', null, title(job)), h(Pill, {state: job.state}),
                        stopping(job) ? h('span.soft', {role: 'status'}, stopping(job)) : null,
                        h('p.sub', null, `#${job.id} · ${job.kind}`, source ? [' of ', h('a', {href: `#/jobs/${source.job}`}, `#${source.job}`), ` at step ${format.integer(source.step)}`] : '',
                                job.config_name ? ` · ${job.config_name}` : '', h(Tags, {job})),
                        why ? h('p.waiting', {role: 'status'}, `Waiting: ${why}`, h(Blockers, {job})) : null,
                        job.paused ? h('p.waiting', {role: 'status'}, `Paused: ${job.paused.detail || (job.paused.reason === 'limit' ? 'at its limit' : 'on request')}`) : null,
                        job.notes ? h('p.notes', null, job.notes) : null),
                may('submit') && h('div.actions', null, job.kind === 'train' ? h('a.button', {href: link('#/new', {kind: 'train', clone: String(job.id)})}, 'Clone with changes') : null, actions(job, act, gone)));
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
        return h(Trouble, {title: `Failed${e.class ? `: ${e.class}` : ''}${Number.isInteger(e.step) ? ` at step ${format.integer(e.step)}` : ''}`, error: String(e.detail ?? 'No reason was given; the log may tell.')});
}
