// A job's configuration and files.
import * as api from '../../lib/api.js';
import {Component, CopyButton, h} from '../../lib/dom.js';
import * as format from '../../lib/format.js';

const isTree = (v) => v !== null && typeof v === 'object';
const OPEN = new Set(['model', 'training']);
const FILES = 12; // at once

function list(entries) {
        return h('dl.config-list', null, entries.map(([k, v]) => h('div', {key: k}, h('dt', null, k), h('dd', null, isTree(v) ? JSON.stringify(v) : String(v)))));
}

// properties: config, of a job that has one; imported, of one that brings something in. Of an imported checkpoint both.
export class ConfigPanel extends Component {
        shouldComponentUpdate(next) {
                return JSON.stringify(next) !== JSON.stringify(this.props); // what was folded open stays so
        }

        render({config, imported}) {
                const label = imported ? 'Import' : 'Configuration', shown = {...imported, ...config};
                const entries = Object.entries(shown), plain = entries.filter(([, v]) => !isTree(v));
                return h('section', {'aria-label': label},
                        h('div.section-head', null, h('h2', null, label),
                                h('div.section-tools', null, h(CopyButton, {text: () => JSON.stringify(shown, null, 2), label: 'Copy as JSON'}))),
                        h('div.card.config', null, plain.length ? list(plain) : null,
                                entries.filter(([, v]) => isTree(v)).map(([k, v]) => h('details', {key: k, open: OPEN.has(k)},
                                        h('summary', null, k, h('span.soft', null, ` ${format.count(Object.keys(v).length, 'key')}`)), list(Object.entries(v))))));
        }
}

const COLUMNS = ['File', 'Kind', 'Step', 'Size', 'XXH128', 'Made'];

function file(a) {
        const cell = (label, ...c) => h('td', {'data-label': label}, ...c);
        return h('tr', {key: a.id},
                cell('File', h('a', {href: api.artifactUrl(a), download: a.name, title: a.name}, a.name)),
                cell('Kind', a.kind), cell('Step', h('span.num', null, format.integer(a.step))),
                cell('Size', h('span.num', {title: `${a.bytes} bytes`}, format.bytes(a.bytes))),
                cell('XXH128', h('code', {title: a.xxh128}, String(a.xxh128 ?? '').slice(0, 12))),
                cell('Made', h('time.num', {datetime: a.created, title: format.exactly(a.created)}, format.when(a.created))));
}

// properties: artifacts, newest first. Some at a time: a long run has hundreds.
export class FilesPanel extends Component {
        constructor(properties) {
                super(properties);
                this.state = {shown: FILES};
        }

        render({artifacts}, {shown}) {
                if (!artifacts.length)
                        return null;
                const left = artifacts.length - shown;
                return h('section', {'aria-label': 'Files'},
                        h('div.section-head', null, h('h2', null, 'Files'), h('span.soft', null, format.count(artifacts.length, 'file'))),
                        h('div.card.table-card', null, h('table.files', null,
                                h('thead', null, h('tr', null, COLUMNS.map((c) => h('th', {scope: 'col'}, c)))),
                                h('tbody', null, artifacts.slice(0, shown).map(file)))),
                        left > 0 ? h('div.more', null, h('button.button', {type: 'button', onclick: () => this.setState({shown: shown + 4 * FILES})}, `Show ${Math.min(left, 4 * FILES)} older files`)) : null);
        }
}
