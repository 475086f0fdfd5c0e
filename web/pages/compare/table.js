// The runs of a comparison: what came of each, and the values of the configuration in which they differ.
import {column} from '../../lib/columns.js';
import {brief, compare, toggled} from '../../lib/config.js';
import {finite} from '../../lib/curves.js';
import {format, h, Section} from '../../lib/page.js';
import {Pill, SortHead} from '../../lib/parts.js';
import {curveColour} from '../../lib/plot.js';

const RESULTS = ['test', 'bestTest', 'train', 'step', 'took'];

// What there is to say of a run: what came of it, and of the configuration the keys that differ.
export const columnsOf = (keys) => [...RESULTS, ...keys].map((key) => {
        const {title, axis = title, value, show} = column(key);
        return {key, title, axis, short: brief(axis, keys), value: (r) => value?.(r.job, r.told), show: (r) => show(r.job, r.told)};
});

// properties: runs: as of the panel, with job; columns: of columnsOf; keys: paths that differ; state, set; remove(id).
export function Table({runs, columns, keys, state, set, remove}) {
        const [, down, by] = /** @type {RegExpExecArray} */ (/^(-?)(.*)$/.exec(state.sort)), column = columns.find((c) => c.key === by);
        const sorted = column ? [...runs].sort((a, b) => compare(column.value(a), column.value(b), down !== '')) : runs;
        const head = (c) => h(SortHead, {key: c.key, id: c.key, name: c.title, short: brief(c.title, keys), sort: state.sort, set: (sort) => set({sort})});
        const least = Math.min(...runs.map((r) => columns[0].value(r)).filter(finite));
        const row = (r) => {
                const off = state.hide.includes(r.id);
                return h(`tr${off ? '.off' : ''}`, {key: r.id},
                        h('th', {scope: 'row'}, h('span.run-cell', null,
                                h('button.eye', {type: 'button', 'aria-pressed': String(!off), 'aria-label': `Show ${r.name} in the charts`, onclick: () => set({hide: toggled(state.hide, r.id)})},
                                        h('span.swatch', {'data-dash': r.dash, style: {background: `var(${curveColour(r.colour)})`}})),
                                h('a.run-name', {href: `#/jobs/${r.id}`, title: r.name}, r.name), h(Pill, {state: r.job.state}))),
                        columns.map((c) => h(`td${c.key === 'test' && finite(least) && c.value(r) === least ? '.best' : ''}`, {key: c.key}, c.show(r))),
                        h('td', null, h('button.button.small', {type: 'button', 'aria-label': `Remove ${r.name} from the comparison`, onclick: () => remove(r.id)}, 'Remove')));
        };
        const differ = keys.length ? `${format.count(keys.length, 'key')} of the configuration ${keys.length === 1 ? 'differs' : 'differ'}` : 'The configurations are the same';
        return h(Section, {title: 'Results and what differs', label: 'Results', beside: h('span.soft', null, differ)},
                h('div.card.table-card', {tabindex: 0, role: 'region', 'aria-label': 'Results and what differs, a table to scroll'}, h('table.plain', null,
                        h('thead', null, h('tr', null, h('th', {scope: 'col'}, 'Run'), columns.map(head), h('th', {scope: 'col'}, h('span.unseen', null, 'Remove')))),
                        h('tbody', null, sorted.map(row)))));
}
