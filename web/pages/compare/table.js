// The runs of a comparison: what came of each, and the values of the configuration in which they differ.
import * as api from '../../lib/api.js';
import {compare, text, toggled} from '../../lib/config.js';
import {h} from '../../lib/dom.js';
import * as format from '../../lib/format.js';
import {Bpd, Pill, result, SortHead} from '../../lib/parts.js';
import {curveColour} from '../../lib/plot.js';

const last = (run, name, key) => api.number(run.curves.rows.find((r) => r.name === name)?.[key] ?? null);

// The bits per dimension that a run ended with, or else its last evaluation.
export const testResult = (run) => {
        const ended = result(run.job);
        return ended?.images === 'test' ? ended : {bpd: last(run, 'eval/bpd', 'last'), error: last(run, 'eval/standard_error', 'last')};
};

/** @type {{key: string, title: string, axis?: string, value: (run: any) => any, show: (run: any) => any}[]} */
const RESULTS = [
        {key: 'test', title: 'Test BPD', value: (r) => testResult(r).bpd, show: (r) => h(Bpd, {of: testResult(r)})},
        {key: 'best', title: 'Best', value: (r) => last(r, 'eval/bpd', 'min'), show: (r) => format.fixed(last(r, 'eval/bpd', 'min'), 3)},
        {key: 'train', title: 'Training', value: (r) => last(r, 'train/bpd', 'last'), show: (r) => format.fixed(last(r, 'train/bpd', 'last'), 3)},
        {key: 'step', title: 'Step', value: (r) => r.job.progress?.step ?? null, show: (r) => format.integer(r.job.progress?.step)},
        {key: 'took', title: 'Took', axis: 'Seconds it took', value: (r) => (r.job.started ? format.between(r.job.started, r.job.ended) : null), show: (r) => (r.job.started ? format.duration(format.between(r.job.started, r.job.ended)) : '–')},
];

// What there is to say of a run: what came of it, and of the configuration the keys that differ.
export const columnsOf = (keys) => [...RESULTS, ...keys.map((key) => ({key, title: key, value: (r) => r.config.get(key), show: (r) => h('span.num', null, text(r.config.get(key)))}))];

// properties: runs: as of the panel, with job; columns: of columnsOf; keys: paths that differ; state, set; remove(id).
export function Table({runs, columns, keys, state, set, remove}) {
        const [, down, by] = /** @type {RegExpExecArray} */ (/^(-?)(.*)$/.exec(state.sort)), column = columns.find((c) => c.key === by);
        const sorted = column ? [...runs].sort((a, b) => compare(column.value(a), column.value(b), down !== '')) : runs;
        const head = (c) => h(SortHead, {key: c.key, id: c.key, name: c.title, sort: state.sort, set: (sort) => set({sort})});
        const least = Math.min(...runs.map((r) => testResult(r).bpd ?? Infinity));
        const row = (r) => {
                const off = state.hide.includes(r.id);
                return h(`tr${off ? '.off' : ''}`, {key: r.id},
                        h('th', {scope: 'row'}, h('span.run-cell', null,
                                h('button.eye', {type: 'button', 'aria-pressed': String(!off), 'aria-label': `Show ${r.name} in the charts`, onclick: () => set({hide: toggled(state.hide, r.id)})},
                                        h('span.swatch', {'data-dash': r.dash, style: {background: `var(${curveColour(r.colour)})`}})),
                                h('a.run-name', {href: `#/jobs/${r.id}`, title: r.name}, r.name), h(Pill, {state: r.job.state}))),
                        columns.map((c) => h(`td${c.key === 'test' && testResult(r).bpd === least ? '.best' : ''}`, {key: c.key}, c.show(r))),
                        h('td', null, h('button.button.small', {type: 'button', 'aria-label': `Remove ${r.name} from the comparison`, onclick: () => remove(r.id)}, 'Remove')));
        };
        return h('section', {'aria-label': 'Results'},
                h('div.section-head', null, h('h2', null, 'Results and what differs'), h('span.soft', null, keys.length ? `${format.count(keys.length, 'key')} of the configuration ${keys.length === 1 ? 'differs' : 'differ'}` : 'The configurations are the same')),
                h('div.card.table-card', {tabindex: 0, role: 'region', 'aria-label': 'Results and what differs, a table to scroll'}, h('table.plain', null,
                        h('thead', null, h('tr', null, h('th', {scope: 'col'}, 'Run'), columns.map(head), h('th', {scope: 'col'}, h('span.unseen', null, 'Remove')))),
                        h('tbody', null, sorted.map(row)))));
}
