// What more than one page shows of a job.
import * as api from './api.js';
import {draw, h} from './dom.js';
import * as format from './format.js';

export const STATES = ['running', 'queued', 'paused', 'succeeded', 'failed', 'cancelled'];

export const isFinal = (state) => state === 'succeeded' || state === 'failed' || state === 'cancelled';

export function title(job) {
        return job.name || `${job.kind} ${job.id}`;
}

// The way to a page below the list of runs, for the top of the page and the window's title.
export function arrive(crumbs, name) {
        document.title = `${name} · mulund`;
        draw([h('a', {href: '#/'}, 'Runs'), h('span.sep', {'aria-hidden': 'true'}, '/'), h('span', {'aria-current': 'page'}, name)], crumbs);
}

export function Pill({state}) {
        return h(`span.pill.${STATES.includes(state) ? state : 'queued'}`, null, h('span.dot', {'aria-hidden': 'true'}), String(state));
}

// pick(tag), or none: what pressing one does.
/** @param {{job: any, pick?: ((tag: string) => void) | null}} properties */
export function Tags({job, pick = null}) {
        return (job.tags ?? []).map((t) => (pick ? h('button.tag', {key: t, type: 'button', title: `Only runs with the tag ${t}`, onclick: () => pick(t)}, t) : h('span.tag', {key: t, title: t}, t)));
}

// Why a job that is queued waits, as the server says it; '' where it says nothing.
export function waiting(job) {
        const w = job.state === 'queued' ? job.waiting : null;
        return !w ? '' : [w.detail || String(w.reason).replaceAll('_', ' '), w.position ? `number ${w.position} in line` : '', w.earliest_start ? `not before ${format.when(w.earliest_start)}` : ''].filter(Boolean).join('; ');
}

// Whether a job logs points: a training, an evaluation (over diffusion time), or the import of another program's logs.
export const hasCurves = (job) => job.kind === 'train' || job.kind === 'evaluate' || job.import?.what === 'events';

const UNITS = {train: 'Step', checkpoint: 'Files', events: 'Bytes'};

// How far a job is, in its own unit: {unit, done, of, note, rate, left}. A sampling job counts the steps of all of its
// images one by one, and its rate too; people count images.
export function progress(job) {
        const p = job.progress ?? {}, rate = api.number(p.images_per_second ?? null), left = api.number(p.seconds_left ?? null);
        const steps = Number(job.config?.sampling?.n_steps ?? job.result?.n_steps); // lists come without configurations
        if (job.kind === 'sample' && steps >= 1)
                return {unit: 'Images', done: Math.floor((p.step ?? 0) / steps), of: Math.floor((p.steps ?? 0) / steps), note: `of ${format.count(steps, 'step')} each`,
                        rate: rate === null ? null : rate / steps, left, share: p.step / p.steps};
        return {unit: UNITS[job.import?.what ?? job.kind] ?? 'Images', done: p.step, of: p.steps, note: '', rate, left, share: p.step / p.steps};
}

export function ProgressBar({job}) {
        const {share, unit, done, of} = progress(job);
        const percent = Number.isFinite(share) ? Math.min(100, Math.max(0, 100 * share)) : 0;
        return h('div.bar', {role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': Math.round(percent), 'aria-label': 'Progress',
                'aria-valuetext': `${unit} ${format.integer(done)} of ${format.integer(of)}`},
        h(`div.bar-fill.${job.state === 'running' ? 'live' : job.state === 'failed' ? 'bad' : 'calm'}`, {style: {width: `${percent.toFixed(2)}%`}}));
}

// The result that a job ended with: {bpd, error, images: test or training}, or null. A training evaluates test images.
export function result(job) {
        const bpd = api.number(job.result?.bpd ?? null);
        return bpd === null ? null : {bpd, error: api.number(job.result.standard_error ?? null), images: job.result.split === 'train' ? 'training' : 'test'};
}
