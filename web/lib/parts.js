// What more than one page shows of a job.
import * as api from './api.js';
import {finite} from './curves.js';
import {h} from './dom.js';
import * as format from './format.js';

export const STATES = ['running', 'queued', 'paused', 'succeeded', 'failed', 'cancelled'];
export const FINAL = STATES.slice(3), isFinal = (state) => FINAL.includes(state);
export const title = (job) => job.name || `${job.kind} ${job.id}`;

// as: the state of a job whose colours it has.
export const Pill = ({state, as = state}) => h(`span.pill.${STATES.includes(as) ? as : 'queued'}`, null, h('span.dot', {'aria-hidden': 'true'}), String(state));

// pick(tag), or none: what pressing one does.
/** @param {{job: any, pick?: ((tag: string) => void) | null}} properties */
export function Tags({job, pick = null}) {
        return (job.tags ?? []).map((t) => (pick ? h('button.tag', {key: t, type: 'button', title: `Only runs with the tag ${t}`, onclick: () => pick(t)}, t) : h('span.tag', {key: t, title: t}, t)));
}

// A time of an answer, as people write it.
export const Time = ({at}) => h('time.num', {datetime: at, title: format.exactly(at)}, format.when(at));

// Why a job that is queued waits, as the server says it; '' where it says nothing.
export function waiting(job) {
        const w = job.state === 'queued' ? job.waiting : null;
        return !w ? '' : [w.detail || String(w.reason).replaceAll('_', ' '), w.position ? `number ${w.position} in line` : '', w.earliest_start ? `not before ${format.when(w.earliest_start)}` : ''].filter(Boolean).join('; ');
}

// The jobs that it waits for.
export const Blockers = ({job}) => (job.waiting?.blocked_by ?? []).map((n) => [' ', h('a', {key: n, href: `#/jobs/${n}`}, `#${n}`)]);

// Bits per dimension with their error: of a result, or what stands in for one.
export function Bpd({of}) {
        const error = format.error(of?.error, 3);
        return [h('span.num', null, format.fixed(of?.bpd ?? null, 3)), error ? h('span.num.soft', null, ` ${error}`) : null];
}

// Whether a job logs points: a training, an evaluation (over diffusion time), samples (what they use of the device), or the
// import of another program's logs.
export const hasCurves = (job) => job.kind !== 'import' || job.import?.what === 'events';

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

// A submission as a command for a terminal; quotes of the body are the shell's.
export function command(body) {
        return `curl -X POST ${new URL('v1/jobs', document.baseURI).href} \\\n  -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`;
}

// The head of a column by which a table is sorted: the least first, then the most, then not. sort: the key, '-key' or another;
// set(sort); short: how it is written; kind: its class; children: what comes before.
export function SortHead({id, name, short, sort, set, kind = '', children = null}) {
        const up = sort === id, down = sort === `-${id}`;
        return h(`th${kind}`, {scope: 'col', 'aria-sort': up ? 'ascending' : down ? 'descending' : 'none'}, children,
                h('button.sort', {type: 'button', title: `Sort by ${name}`, onclick: () => set(up ? `-${id}` : down ? '' : id)}, short, h('span', {'aria-hidden': 'true'}, up ? ' ↑' : down ? ' ↓' : '')));
}

// A curve the size of a word. Its values are also in the row's text.
export function Sparkline({values}) {
        const v = values.filter(finite);
        if (v.length < 2)
                return null;
        const sorted = [...v].sort((a, b) => a - b), lo = sorted[0], hi = Math.max(sorted[Math.floor(0.97 * (sorted.length - 1))], lo + 1e-9);
        const points = v.map((y, i) => `${(100 * i / (v.length - 1)).toFixed(1)},${(22 - 20 * Math.min(1, (y - lo) / (hi - lo))).toFixed(1)}`);
        return h('svg.spark', {viewBox: '0 0 100 24', 'aria-hidden': 'true', preserveAspectRatio: 'none'}, h('polyline', {points: points.join(' ')}));
}
