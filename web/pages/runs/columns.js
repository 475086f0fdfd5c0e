// The columns of the list of runs: what each shows, and by what it is sorted. Any key of the configuration is one, too.
import {Sparkline} from '../../lib/chart.js';
import {flat, text} from '../../lib/config.js';
import {h} from '../../lib/dom.js';
import * as format from '../../lib/format.js';
import {Bpd, Pill, progress, ProgressBar, result, Tags, title, waiting} from '../../lib/parts.js';

export const TRAIN = 'train/bpd', TEST = 'eval/bpd';
export const USUAL = ['state', 'progress', 'speed', 'test', 'train', 'created'];

/** @typedef {{title: string, value: (j: any, curves?: Map<string, any>) => any, show: (j: any, curves?: Map<string, any>) => any, curves?: boolean}} Column  curves: whether its value may be of them */

const plain = (shown) => h('span.num', null, shown);

// What the job ended with, or else its last point.
function bpd(j, label, last) {
        const ended = result(j);
        return ended && ended.images === label ? ended : {bpd: last ?? null, error: null};
}

const test = (j, curves) => bpd(j, 'test', curves?.get(TEST)?.last), train = (j, curves) => bpd(j, 'training', curves?.get(TRAIN)?.last);
const least = (name) => (j, curves) => curves?.get(name)?.least ?? null;
const best = (name, curves) => (least(name)(null, curves) === null ? null : h('span.under', null, plain(`best ${format.fixed(least(name)(null, curves), 3)}`)));
const took = (j) => (j.started ? format.between(j.started, j.ended) : null);
const rate = (j) => (j.state === 'running' ? progress(j).rate : null);

function far(j) {
        const p = progress(j);
        return [h(ProgressBar, {job: j}), h('span.under', null, plain(`${format.integer(p.done)} / ${format.integer(p.of)}`), j.state === 'running' && p.left !== null ? plain(`${format.duration(p.left)} left`) : null)];
}

/** @type {Record<string, Column>} */
export const COLUMNS = {
        state: {title: 'State', value: (j) => j.state, show: (j) => h(Pill, {state: j.state})},
        progress: {title: 'Progress', value: (j) => progress(j).share, show: far},
        speed: {title: 'Speed', value: rate, show: (j) => plain(rate(j) === null ? '–' : `${format.real(rate(j), 3)}/s`)},
        test: {title: 'Test BPD', value: (j, c) => test(j, c).bpd, curves: true, show: (j, c) => [h(Bpd, {of: test(j, c)}), best(TEST, c)]},
        train: {title: 'Training BPD', value: (j, c) => train(j, c).bpd, curves: true, show: (j, c) => [h(Bpd, {of: train(j, c)}), c?.get(TRAIN) ? h(Sparkline, {values: c.get(TRAIN).mean}) : null, best(TRAIN, c)]},
        created: {title: 'Created', value: (j) => j.id, show: (j) => h('time.num', {datetime: j.created, title: format.exactly(j.created)}, format.when(j.created))},
        bestTest: {title: 'Best test BPD', value: least(TEST), curves: true, show: (j, c) => plain(format.fixed(least(TEST)(j, c), 3))},
        bestTrain: {title: 'Best training BPD', value: least(TRAIN), curves: true, show: (j, c) => plain(format.fixed(least(TRAIN)(j, c), 3))},
        kind: {title: 'Kind', value: (j) => j.kind, show: (j) => plain(j.kind)},
        took: {title: 'Took', value: took, show: (j) => plain(format.duration(took(j)))},
        step: {title: 'Step', value: (j) => j.progress?.step, show: (j) => plain(format.integer(j.progress?.step))},
        attempts: {title: 'Attempts', value: (j) => j.attempts, show: (j) => plain(format.integer(j.attempts))},
        priority: {title: 'Priority', value: (j) => j.priority, show: (j) => plain(format.integer(j.priority))},
        notes: {title: 'Notes', value: (j) => j.notes, show: (j) => h('span.run-sub', {title: j.notes}, j.notes || '–')},
};

/** @returns {Column} */
export const column = (key) => COLUMNS[key] ?? {title: key, value: (j) => flat(j.config).get(key), show: (j) => plain(text(flat(j.config).get(key)))};

// A row. of: {keys: of its columns, curves, selected, select(), tag(name)}.
export function row(j, index, {keys, curves, selected, select, tag}) {
        const why = waiting(j), cells = keys.map((key) => ({key, ...column(key)}));
        const none = (c) => c.value(j, curves) === null && ['speed', 'test', 'train'].includes(c.key);
        return h('tr', {key: j.id, 'aria-rowindex': index + 2, class: selected ? 'selected' : ''},
                h('td', {'data-label': 'Run'}, h('label.pick', null, h('input', {type: 'checkbox', checked: selected, 'aria-label': `Select ${title(j)}, run ${j.id}`, onchange: select})),
                        h('a.run-name', {href: `#/jobs/${j.id}`, title: title(j)}, title(j)),
                        h('span.run-sub', null, `#${j.id} · ${j.kind}`, j.config_name ? ` · ${j.config_name}` : '', h(Tags, {job: j, pick: tag})),
                        why ? h('span.run-sub.why', {title: why}, `Waiting: ${why}`) : null),
                cells.map((c) => h(`td.c-${c.key in COLUMNS ? c.key : 'key'}${none(c) ? '.none' : ''}${USUAL.includes(c.key) ? '' : '.extra'}`, {key: c.key, 'data-label': c.title}, c.show(j, curves))));
}

// What the search box says: '#12' an id, 'learning_rate=0.002' a value of the configuration, all else part of the name.
// Answers the text for the server and a test for what it does not know, or null.
export function search(typed) {
        const words = typed.trim().split(/\s+/).filter(Boolean), ids = words.filter((w) => /^#\d+$/.test(w)), pairs = words.filter((w) => /^[\w.]+=/.test(w)).map((w) => w.split('='));
        const matches = (config, [key, value]) => [...config].some(([k, v]) => (k === key || k.endsWith(`.${key}`)) && text(v) === value);
        return {text: words.filter((w) => !ids.includes(w) && !/^[\w.]+=/.test(w)).join(' '),
                test: ids.length || pairs.length ? (j) => (!ids.length || ids.includes(`#${j.id}`)) && pairs.every((p) => matches(flat(j.config), p)) : null};
}
