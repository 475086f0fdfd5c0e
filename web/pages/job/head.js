// The top of a job's page: what it is, how far it is, what came out, what can be done with it.
import {ACTIONS} from '../../lib/actions.js';
import {link} from '../../lib/address.js';
import {api, format, h, may, Trouble} from '../../lib/page.js';
import {Blockers, isFinal, Pill, progress, ProgressBar, result, Tags, title, waiting} from '../../lib/parts.js';

// What a run that stops is stopping for, in words.
function stopping(job) {
        const why = job.stopping ?? (job.cancel_requested ? 'cancel' : null);
        return isFinal(job.state) || !why ? '' : job.kind === 'import' ? 'stopping' : why === 'cancel' ? 'stopping at the next step' : why === 'pause' ? 'pausing at the next step' : 'at its limit, stopping';
}

// properties: job; act(action): of what can be done with it, one was chosen.
export function Head({job, act}) {
        const stops = !isFinal(job.state) && Boolean(job.stopping ?? job.cancel_requested), fitting = Object.entries(ACTIONS).filter(([, a]) => !a.many && a.fits(job));
        const source = Number.isInteger(job.checkpoint?.job) ? job.checkpoint : null, why = waiting(job);
        return h('div.page-head', null,
                h('div.head-title', null, h('h1', null, title(job)), h(Pill, {state: job.state}),
                        stopping(job) ? h('span.soft', {role: 'status'}, stopping(job)) : null,
                        h('p.sub', null, `#${job.id} · ${job.kind}`, source ? [' of ', h('a', {href: `#/jobs/${source.job}`}, `#${source.job}`), ` at step ${format.integer(source.step)}`] : '',
                                job.config_name ? ` · ${job.config_name}` : '', h(Tags, {job})),
                        why ? h('p.waiting', {role: 'status'}, `Waiting: ${why}`, h(Blockers, {job})) : null,
                        job.paused ? h('p.waiting', {role: 'status'}, `Paused: ${job.paused.detail || (job.paused.reason === 'limit' ? 'at its limit' : 'on request')}`) : null,
                        job.notes ? h('p.notes', null, job.notes) : null),
                may('submit') && h('div.actions', null, job.kind === 'import' ? null : h('a.button', {href: link('#/new', {kind: job.kind, clone: String(job.id), ...source && {job: String(source.job), step: String(source.step)}})}, 'Clone with changes'),
                        fitting.map(([key, a]) => h(`button.button${a.danger ? '.danger' : ''}`, {key, type: 'button', disabled: stops, onclick: () => act(a)}, a.label))));
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
        const most = Math.max(...parts.map(([, v]) => v ?? 0).filter(Number.isFinite), 1e-9);
        const width = (v) => `${Math.max(0, Math.min(100, 100 * (v || 0) / most)).toFixed(1)}%`;
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
        return e && h(Trouble, {title: `Failed${e.class ? `: ${e.class}` : ''}${Number.isInteger(e.step) ? ` at step ${format.integer(e.step)}` : ''}`, error: String(e.detail ?? 'No reason was given; the log may tell.')});
}
