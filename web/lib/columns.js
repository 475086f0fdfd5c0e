// What there is to say of runs, in the list and in a comparison: what a column shows, and by what it is sorted, here or by the
// server. Any key of the configuration is one, too.
import {flat, text} from './config.js';
import {h} from './dom.js';
import * as format from './format.js';
import {Bpd, Pill, progress, ProgressBar, result, Sparkline, Time} from './parts.js';

export const TRAIN = 'train/bpd', TEST = 'eval/bpd';
export const USUAL = ['state', 'progress', 'speed', 'test', 'train', 'created'];

/** @typedef {(j: any, curves?: Map<string, {last: number | null, least: number | null, mean?: any[]}>) => any} Of */
/** @typedef {{title: string, show: Of, under?: Of, sort?: string, value?: Of, axis?: string}} Column  under: what the list has below it; sort: its name for the
 *             server, where that is another; value: what a comparison makes of it, where it has it; axis: its title there, where that is another */

const plain = (shown) => h('span.num', null, shown);

// What the job ended with, or else its last point.
function bpd(j, label, curves, name, error) {
        const ended = result(j), last = (key) => curves?.get(key)?.last ?? null;
        return ended && ended.images === label ? ended : {bpd: last(name), error: last(error)};
}

const test = (j, curves) => bpd(j, 'test', curves, TEST, 'eval/standard_error'), train = (j, curves) => bpd(j, 'training', curves, TRAIN, '');
const least = (name) => (j, curves) => curves?.get(name)?.least ?? null;
const best = (name) => (j, curves) => (least(name)(j, curves) === null ? null : h('span.under', null, plain(`best ${format.fixed(least(name)(j, curves), 3)}`)));
const took = (j) => (j.started ? format.between(j.started, j.ended) : null);
const rate = (j) => (j.state === 'running' ? progress(j).rate : null);

function far(j) {
        const p = progress(j);
        return [h(ProgressBar, {job: j}), h('span.under', null, plain(`${format.integer(p.done)} / ${format.integer(p.of)}`), j.state === 'running' && p.left !== null ? plain(`${format.duration(p.left)} left`) : null)];
}

/** @type {Record<string, Column>} */
export const COLUMNS = {
        __proto__: /** @type {any} */ (null),
        state: {title: 'State', show: (j) => h(Pill, {state: j.state})},
        progress: {title: 'Progress', show: far},
        speed: {title: 'Speed', sort: 'images_per_second', show: (j) => plain(rate(j) === null ? '–' : `${format.real(rate(j), 3)}/s`)},
        test: {title: 'Test BPD', sort: 'test_bpd', value: (j, c) => test(j, c).bpd, show: (j, c) => h(Bpd, {of: test(j, c)}), under: best(TEST)},
        train: {title: 'Training BPD', sort: 'train_bpd', value: (j, c) => train(j, c).bpd, show: (j, c) => [h(Bpd, {of: train(j, c)}), h(Sparkline, {values: c?.get(TRAIN)?.mean ?? []})], under: best(TRAIN)},
        created: {title: 'Created', show: (j) => h(Time, {at: j.created})},
        bestTest: {title: 'Best test BPD', sort: 'best_test_bpd', value: least(TEST), show: (j, c) => plain(format.fixed(least(TEST)(j, c), 3))},
        bestTrain: {title: 'Best training BPD', sort: 'best_train_bpd', show: (j, c) => plain(format.fixed(least(TRAIN)(j, c), 3))},
        device: {title: 'Device', sort: 'devices', show: (j) => plain(j.devices?.join(', ') || '–')},
        kind: {title: 'Kind', show: (j) => plain(j.kind)},
        took: {title: 'Took', sort: 'duration', axis: 'Seconds it took', value: took, show: (j) => plain(format.duration(took(j)))},
        step: {title: 'Step', value: (j) => j.progress?.step, show: (j) => plain(format.integer(j.progress?.step))},
        attempts: {title: 'Attempts', show: (j) => plain(format.integer(j.attempts))},
        priority: {title: 'Priority', show: (j) => plain(format.integer(j.priority))},
        owner: {title: 'Owner', show: (j) => plain(j.owner || '–')},
        notes: {title: 'Notes', show: (j) => h('span.run-sub', {title: j.notes}, j.notes || '–')},
};

/** @returns {Column} */
export const column = (key) => COLUMNS[key] ?? {title: key, value: (j) => flat(j.config).get(key), show: (j) => plain(text(flat(j.config).get(key)))};

// What the server is asked for a list sorted by a column ('test', '-test') or by name; the newest first it is anyway.
const named = (key) => COLUMNS[key]?.sort ?? (key in COLUMNS || key === 'name' ? key : `config.${key}`);
export const order = (sort) => (sort === 'created' ? {order: 'id'} : sort && sort !== '-created' ? {sort: sort.replace(/[^-].*/, named)} : {});
