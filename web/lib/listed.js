import {Component, h} from './dom.js';

const SOME = 12; // rows at once

// A table some rows at a time: a long run has hundreds. properties: title; note; rows; columns: [[name, cell(row)]]; shape; more: what
// the others are.
export class Listed extends Component {
        state = {shown: SOME};

        render({title: label, note, rows, columns, shape = 'rows', more = 'older'}, {shown}) {
                const left = rows.length - shown;
                return !rows.length ? null : h('section', {'aria-label': label},
                        h('div.section-head', null, h('h2', null, label), h('span.soft', null, note)),
                        h('div.card.table-card', null, h(`table.${shape}`, null,
                                h('thead', null, h('tr', null, columns.map(([name]) => h('th', {key: name, scope: 'col'}, name)))),
                                h('tbody', null, rows.slice(0, shown).map((r) => h('tr', {key: r.id}, columns.map(([name, cell]) => h('td', {key: name, 'data-label': name}, cell(r)))))))),
                        left > 0 ? h('div.more', null, h('button.button', {type: 'button', onclick: () => this.setState({shown: shown + 4 * SOME})}, `Show ${Math.min(left, 4 * SOME)} ${more}`)) : null);
        }
}
