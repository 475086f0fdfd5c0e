// A job's log: its last lines, then what is added; in the colours that its writer gave it; searched line by line.
import {api, Component, format, h, Section} from '../../lib/page.js';
import {coloured} from '../../lib/text.js';

const LINES = 2000, CHARACTERS = 256 * 1024; // of the tail, in the page
const NEAR_END = 24;                         // pixels that still count as the end

export class Log {
        #next = /** @type {number | null} */ (null);
        #decoder = new TextDecoder();
        text = '';
        cut = false; // earlier lines are left out

        async update(id, signal) {
                const part = await api.log(id, this.#next, LINES, signal);
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

// properties: id; text, cut: as of its Log; find: what is looked for; search(text).
export class LogPanel extends Component {
        #made = {key: '', view: /** @type {any} */ (null)};

        state = {follow: true};

        // What was asked for from elsewhere comes into sight.
        componentDidUpdate(before) {
                if (this.props.find && (before.find !== this.props.find || !before.text))
                        this.pre.closest('section').scrollIntoView({block: 'nearest'});
                if (this.state.follow)
                        this.pre.scrollTop = this.pre.scrollHeight;
        }

        // What is shown of the text: all of it, or the lines that hold what is looked for.
        view(text, find) {
                const key = `${find}\0${text.length}\0${text.slice(-80)}`;
                if (key === this.#made.key)
                        return this.#made.view;
                const wanted = find.toLowerCase(), all = text.split('\n'), plain = (line) => coloured(line).map((p) => p.text).join('');
                const found = wanted ? all.filter((line) => plain(line).toLowerCase().includes(wanted)) : all;
                const span = (p, i) => (p.style ? h('span', {key: i, class: p.style}, p.text) : p.text);
                const marked = (line) => plain(line).split(new RegExp(`(${find.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')})`, 'i')).map((t, i) => (i % 2 ? h('mark', {key: i}, t) : t));
                const view = {lines: found.length, shown: wanted ? found.map((line, i) => h('span', {key: i}, marked(line), '\n')) : text.includes('\x1b') ? coloured(text).map(span) : text};
                this.#made = {key, view};
                return view;
        }

        render({id, text, cut, find, search}, {follow}) {
                const {lines, shown} = this.view(text, find);
                const tools = h('div.section-tools', null, h('span.soft', {role: 'status'}, find ? format.count(lines, 'line') : ''),
                        h('input', {type: 'search', placeholder: 'Search', 'aria-label': 'Search the log', value: find, oninput: (e) => search(e.target.value)}),
                        h('label.check', null, h('input', {type: 'checkbox', checked: follow, onchange: (e) => this.setState({follow: e.target.checked})}), 'Follow'),
                        h('a', {href: api.logUrl(id), target: '_blank', rel: 'noopener'}, 'The whole log'));
                return h(Section, {title: 'Log', beside: tools},
                        h('div.card', null,
                                cut ? h('p.soft', null, 'Earlier lines are left out here; the whole log has them.') : null,
                                text ? find && !lines ? h('p.empty-line', null, 'No line has that.') : null : h('p.empty-line', null, 'Nothing was written yet.'),
                                h('pre.log', {tabindex: 0, 'aria-label': 'Log of the worker', ref: (e) => { this.pre = e; },
                                        onscroll: ({target: t}) => this.setState({follow: t.scrollHeight - t.scrollTop - t.clientHeight < NEAR_END})}, shown)));
        }
}
