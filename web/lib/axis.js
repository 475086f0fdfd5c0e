// What a chart's x axis can be: how a run's points are placed on it, and how a place is written.
import * as format from './format.js';

/** @typedef {import('./curves.js').Series} Series */
/** @typedef {{batch: number, images: number | null, first: number, started: number, attempts: {from: number, to: number}[]}} Run  images: of its training set, null: not known;
 *             first: the step of the checkpoint that it began from; times in milliseconds */
/** @typedef {{label: string, title: string, narrowest: number, increments: number[], at: (s: Pick<Series, 'step' | 'time'>, run: Run) => number[], start: (s: Series, run: Run) => number,
 *             text: (v: number) => string, ticks: (all: number[]) => string[], stretch: (width: number) => string, shared?: boolean}} Axis  stretch: of a bucket; shared: its places are the same of all runs */

const WHOLE = Array.from({length: 46}, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3)); // there is no half a step
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, ...[1, 2, 5, 10, 20, 50, 100, 200, 500].map((d) => 86400 * d)];
const SHARES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
const firstStep = (s) => (s.width > 1 ? Math.floor(s.step[0] / s.width) * s.width : s.step[0]);
const day = (seconds) => format.when(new Date(1000 * seconds).toISOString());

// Seconds of all attempts until then, the time between them left out.
const active = (run, time) => run.attempts.reduce((sum, a) => sum + Math.max(0, Math.min(time, a.to) - a.from), 0) / 1000;

// How an axis of steps places them: place(step, run).
const by = (place) => ({at: (s, run) => s.step.map((x) => place(x, run)), start: (s, run) => place(firstStep(s), run)});
const stretch = (width) => `${format.integer(width)} steps`;
const number = {narrowest: 2, increments: WHOLE, text: format.integer, ticks: format.steps, stretch};
const fine = {text: (v) => format.real(v, 3), ticks: (all) => all.map((v) => format.real(v, 3))};
const span = {narrowest: 2, increments: SECONDS, stretch, text: format.duration, ticks: (all) => all.map(format.duration), start: (s, run) => 0};

/** @type {Record<string, Axis>} */
export const AXES = {
        __proto__: /** @type {any} */ (null),
        step: {...number, ...by((x) => x), shared: true, label: 'Step', title: 'Steps'},
        begun: {...number, ...by((x, {first}) => Math.max(0, x - first)), label: 'Step since its start', title: 'Steps'},
        images: {...number, ...by((x, {batch}) => x * batch), shared: true, label: 'Images seen', title: 'Images'},
        epochs: {...fine, ...by((x, {batch, images}) => x * batch / (images ?? Infinity)), shared: true, narrowest: 0.001, increments: [...SHARES, ...WHOLE], stretch, label: 'Epochs', title: 'Epochs'},
        wall: {...span, label: 'Wall time', title: 'Times', text: day, ticks: (all) => all.map(all[1] - all[0] < 60 ? (v) => format.clock(new Date(1000 * v)) : day), at: (s) => s.time.map((t) => t / 1000), start: (s) => s.time[0] / 1000},
        relative: {...span, label: 'Time since its start', title: 'Times', at: (s, run) => s.time.map((t) => (t - run.started) / 1000)},
        active: {...span, label: 'Time at work', title: 'Times', at: (s, run) => s.time.map((t) => active(run, t))},
        // of series over diffusion time, whose step is 1000 t
        diffusion: {...fine, ...by((x) => x / 1000), narrowest: 0.01, increments: SHARES, stretch: (width) => `a stretch of ${format.real(width / 1000)} in t`, label: 'Diffusion time t', title: 'Diffusion times'},
};

// What an axis asks of a job; attempts: as the server lists them, or none.
/** @returns {Run} */
export function runOf(job, attempts = []) {
        const time = (text, missing) => (text ? Date.parse(text) : missing);
        const started = time(job.started, time(job.created, 0)), now = Date.now();
        const known = attempts.filter((a) => a.started).map((a) => ({from: time(a.started, 0), to: time(a.ended, now)}));
        return {batch: Number(job.config?.training?.batch_size_train) || 1, images: job.dataset?.train ?? null, first: (job.kind === 'train' && job.checkpoint?.step) || 0, started: known[0]?.from ?? started, attempts: known.length ? known : [{from: started, to: time(job.ended, now)}]};
}
