// A job's configuration: what differs from its template, then all of it.
import {flat, keys, text} from '../../lib/config.js';
import {api, Component, CopyButton, format, h, pairs, Section} from '../../lib/page.js';

const isTree = (v) => v !== null && typeof v === 'object';
const list = (entries) => pairs(entries.map(([k, v]) => [k, isTree(v) ? JSON.stringify(v) : String(v)]));

// properties: config, of a job that has one; imported, of one that brings something in, of an imported checkpoint both; name:
// of the template, or null.
export class ConfigPanel extends Component {
        async componentDidMount() {
                const {config, name} = this.props, [rows, template] = !config ? [] : await Promise.all([api.schema().then((s) => keys(s)), name ? api.config(name).then((c) => flat(c.config)) : new Map()]).catch(() => []);
                if (rows && template) // a template may be no more: the configuration is shown all the same
                        this.setState({usual: new Map(rows.map((r) => [r.path, template.has(r.path) ? template.get(r.path) : r.default])), about: new Map(rows.map((r) => [r.path, r.description]))});
        }

        // The keys whose values are not those of the template, or of none where there is no template.
        differences(values) {
                const {usual, about} = this.state, from = this.props.name ?? 'the defaults';
                if (!usual || !this.props.config)
                        return null;
                const rows = [...values].filter(([k, v]) => text(v) !== text(usual.get(k)));
                return h('section.differences', {'aria-label': 'What differs'}, h('p', null, rows.length ? `${format.count(rows.length, 'key')} not as in ${from}:` : `As in ${from}.`),
                        rows.length ? pairs(rows.map(([k, v]) => [k, [h('b', null, text(v)), h('span.soft', null, ` was ${text(usual.get(k))}`)], about.get(k)])) : null);
        }

        render({config, imported}) {
                const title = imported ? 'Import' : 'Configuration', shown = {...imported, ...config};
                const entries = Object.entries(shown), plain = entries.filter(([, v]) => !isTree(v));
                return h(Section, {title, beside: h('div.section-tools', null, h(CopyButton, {text: () => JSON.stringify(shown, null, 2), label: 'Copy as JSON'}))},
                        h('div.card.config', null, this.differences(flat(config)), plain.length ? list(plain) : null,
                                entries.filter(([, v]) => isTree(v)).map(([k, v]) => h('details', {key: k},
                                        h('summary', null, k, h('span.soft', null, ` ${format.count(flat(v).size, 'key')}`)), list([...flat(v)])))));
        }
}
