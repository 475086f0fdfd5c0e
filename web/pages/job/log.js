// A job's log: its last lines, then what is added.
import * as api from '../../lib/api.js';
import {Component, h} from '../../lib/dom.js';

const LINES = 2000, CHARACTERS = 256 * 1024; // of the tail, in the page
const NEAR_END = 24;                         // pixels that still count as the end

export class Log {
        #id;
        /** @type {number | null} */
        #next = null;
        #decoder = new TextDecoder();

        constructor(id) {
                this.#id = id;
                this.text = '';
                this.cut = false; // earlier lines are left out
        }

        async update(signal) {
                const part = await api.log(this.#id, this.#next, LINES, signal);
                if (!part.bytes.length)
                        return;
                this.cut ||= part.cut;
                this.#next = part.next;
                this.text += this.#decoder.decode(part.bytes, {stream: true}).replace(/\r\n/g, '\n').replace(/[^\n]*\r(?!\n)/g, '');
                if (this.text.length > 2 * CHARACTERS) {
                        this.text = this.text.slice(this.text.indexOf('\n', this.text.length - CHARACTERS) + 1);
                        this.cut = true;
                }
        }
}

// properties: id; text, cut: as of its Log.
export class LogPanel extends Component {
        constructor(properties) {
                super(properties);
                this.state = {follow: true};
        }

        componentDidUpdate() {
                if (this.state.follow)
                        this.pre.scrollTop = this.pre.scrollHeight;
        }

        render({id, text, cut}, {follow}) {
                return h('section', {'aria-label': 'Log'},
                        h('div.section-head', null, h('h2', null, 'Log'),
                                h('div.section-tools', null,
                                        h('label.check', null, h('input', {type: 'checkbox', checked: follow, onchange: (e) => this.setState({follow: e.target.checked})}), 'Follow'),
                                        h('a', {href: api.logUrl(id), target: '_blank', rel: 'noopener'}, 'The whole log'))),
                        h('div.card', null,
                                cut ? h('p.soft', null, 'Earlier lines are left out here; the whole log has them.') : null,
                                text ? null : h('p.empty-line', null, 'Nothing was written yet.'),
                                h('pre.log', {tabindex: 0, 'aria-label': 'Log of the worker', ref: (e) => { this.pre = e; },
                                        onscroll: ({target: t}) => this.setState({follow: t.scrollHeight - t.scrollTop - t.clientHeight < NEAR_END})}, text)));
        }
}
