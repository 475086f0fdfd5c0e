// A new job: a form made of the configuration's schema, checked as it is typed; the command that does the same. A training
// begins with a template, another job's configuration (clone) or its checkpoint (job, step); what is changed is in the
// address.
import {Address} from '../../lib/address.js';
import * as api from '../../lib/api.js';
import {flat, keys, text, wrong} from '../../lib/config.js';
import {CopyButton, draw, h} from '../../lib/dom.js';
import {poll} from '../../lib/events.js';
import {arrive} from '../../lib/parts.js';
import {command, Field, parse} from './form.js';

const KINDS = {train: 'Train', evaluate: 'Evaluate', sample: 'Sample'};
const OF = {train: /./, evaluate: /^(evaluation|machine)\./, sample: /^(sampling|machine)\./}; // the keys that a kind can change
const STEPS = 'training.num_steps_train', FIRST = 'photos32-tiny';

class Page {
        constructor(main) {
                this.main = main;
                this.left = false;
                this.loaded = '';
                /** @type {any} */
                this.error = null;
                this.busy = false;
                this.rows = [];
                /** @type {string | null} */
                this.template = null; // which one holds, null: none
                this.configs = [];
                this.datasets = [];
                /** @type {Map<string, unknown>} */
                this.base = new Map(); // what holds where nothing is changed
                this.address = new Address({kind: 'train', config: FIRST, clone: '', job: '', step: '', name: '', tags: '', notes: '', priority: '0', find: '', set: [''].slice(1)}, ['kind'], () => this.draw());
                this.draw();
                this.loop = poll((signal) => this.read(signal), (e) => this.fail(e));
        }

        leave() {
                this.left = true;
                this.address.leave();
                this.loop.stop();
        }

        fail(e) {
                this.error = e;
                this.draw();
        }

        async read(signal) {
                const {clone, job, config} = this.address.state, wanted = `${clone} ${job} ${config}`;
                if (!this.rows.length)
                        [this.rows, this.configs, this.datasets] = await Promise.all([api.schema(signal).then((s) => keys(s)), api.configs(signal), api.datasets(signal)]);
                const usual = new Map(this.rows.map((r) => [r.path, r.default]));
                const source = clone || job ? await api.job(Number(clone || job), signal) : null;
                if (clone && source?.config_name && this.configs.some((c) => c.name === source.config_name))
                        this.template = source.config_name;
                else
                        this.template = clone ? null : this.configs.some((c) => c.name === config) ? config : this.configs[0]?.name ?? null;
                const begun = flat(source && !clone ? source.config : this.configs.find((c) => c.name === this.template)?.config);
                this.base = new Map([...usual].map(([k, v]) => [k, begun.has(k) ? begun.get(k) : v]));
                const {kind, step, set} = this.address.state, at = Number(step) || (source?.progress?.step ?? 0);
                if (kind === 'train' && job && !set.length && Number(this.base.get(STEPS)) <= at)
                        this.change(STEPS, String(2 * at)); // a run that starts where it ends is refused
                if (clone && this.loaded === '' && !set.length) {
                        const own = flat(source?.config);
                        this.address.set({name: source?.name ? `${source.name}, again` : '', set: [...this.base].filter(([k, v]) => own.has(k) && text(own.get(k)) !== text(v)).map(([k]) => `${k}=${text(own.get(k))}`)});
                }
                this.loaded = wanted;
                this.error = null;
                this.draw();
                return null;
        }

        // The keys that were changed, as they were typed.
        typed() {
                return new Map(this.address.state.set.map((s) => [s.slice(0, s.indexOf('=')), s.slice(s.indexOf('=') + 1)]));
        }

        change(path, value) {
                const typed = this.typed();
                typed.delete(path);
                if (value !== text(this.base.get(path)))
                        typed.set(path, value);
                this.address.set({set: [...typed].map(([k, v]) => `${k}=${v}`)});
        }

        // What is sent; errors: path -> words, of what is typed.
        request() {
                const {kind, job, step, name, tags, notes, priority} = this.address.state, overrides = {}, errors = new Map();
                for (const row of this.rows) {
                        const value = this.typed().get(row.path);
                        if (value === undefined || !OF[kind].test(row.path))
                                continue;
                        overrides[row.path] = parse(row, value);
                        const said = wrong(row, overrides[row.path]);
                        if (said)
                                errors.set(row.path, said);
                }
                const which = /^\d+$/.test(step) ? Number(step) : step || 'latest', of = {job: Number(job)};
                const source = kind === 'train' ? (job ? {start_from: {...of, checkpoint: which}} : {config: this.template ?? {}}) : {checkpoint: {...of, ...(typeof which === 'number' ? {step: which} : {which})}};
                const list = tags.split(',').map((t) => t.trim()).filter(Boolean);
                return {errors, body: {kind, ...source, ...(Object.keys(overrides).length ? {overrides} : {}), ...(name ? {name} : {}), ...(list.length ? {tags: list} : {}), ...(notes ? {notes} : {}), ...(Number(priority) ? {priority: Number(priority)} : {})}};
        }

        async submit(e) {
                e.preventDefault();
                this.busy = true;
                this.error = null;
                this.draw();
                try {
                        const made = await api.submit(this.request().body);
                        location.hash = `#/jobs/${made.id}`;
                } catch (error) {
                        this.busy = false;
                        this.fail(error);
                        document.querySelector('.field-error')?.closest('.key')?.scrollIntoView({block: 'center'});
                }
        }

        // What the server said of keys: path -> words.
        refused() {
                return new Map((this.error?.document?.errors ?? []).map((e) => [String(e.pointer ?? '').slice(1).replaceAll('/', '.').replace(/^(overrides|config)\./, ''), e.detail]));
        }

        source() {
                const {kind, job, step, clone} = this.address.state, set = (change) => {
                        this.address.set(change);
                        this.loop.poke();
                };
                const input = (label, value, options, change) => h('label.field', null, label, h('input', {value, ...options, oninput: (e) => change(e.target.value)}));
                const from = kind === 'train' && !job ? (clone ? h('p', null, 'With the configuration of ', h('a', {href: `#/jobs/${clone}`}, `#${clone}`), ', changed as below.')
                        : h('label.field', null, 'Template', h('select', {value: this.address.state.config, onchange: (e) => set({config: e.target.value})}, this.configs.map((c) => h('option', {key: c.name, value: c.name, selected: c.name === this.template}, c.name)))))
                        : [input('Checkpoint of job', job, {type: 'number', min: 1, required: true}, (v) => set({job: v})), input('At step', step, {placeholder: 'latest, best or a step', pattern: 'latest|best|\\d+'}, (v) => set({step: v}))];
                return h('section.card.fields', {'aria-label': 'What to do'},
                        h('div.switch', {role: 'group', 'aria-label': 'Kind'}, Object.entries(KINDS).map(([k, name]) => h('button', {key: k, type: 'button', 'aria-pressed': String(k === kind), onclick: () => set({kind: k})}, name))),
                        from, input('Name', this.address.state.name, {maxlength: 200}, (name) => this.address.set({name})), input('Tags', this.address.state.tags, {placeholder: 'separated by commas'}, (tags) => this.address.set({tags})),
                        input('Notes', this.address.state.notes, {}, (notes) => this.address.set({notes})), input('Priority', this.address.state.priority, {type: 'number', min: -1000, max: 1000}, (priority) => this.address.set({priority})));
        }

        draw() {
                if (this.left)
                        return;
                const {kind, find} = this.address.state, {body, errors} = this.request(), typed = this.typed(), refused = this.refused();
                const shown = this.rows.filter((r) => OF[kind].test(r.path) && (!find || `${r.path} ${r.description}`.toLowerCase().includes(find.toLowerCase())));
                const sections = [...new Set(shown.map((r) => r.path.split('.')[0]))], needs = kind !== 'train' && !Number(this.address.state.job);
                const field = (r) => h(Field, {key: r.path, row: r, value: typed.get(r.path) ?? text(this.base.get(r.path)), usual: text(this.base.get(r.path)), changed: typed.has(r.path), choices: r.path === 'data.dataset' ? this.datasets.map((d) => d.name) : null,
                        error: errors.get(r.path) ?? refused.get(r.path) ?? '', change: (v) => this.change(r.path, v)});
                const unplaced = [...refused].filter(([path]) => !shown.some((r) => r.path === path)).map(([path, detail]) => `${path} ${detail}`.trim());
                draw(h('form.new', {onsubmit: (e) => this.submit(e)},
                        h('div.page-head', null, h('h1', null, 'New job'), h('p.count', {role: 'status'}, errors.size ? `${errors.size === 1 ? 'One key' : `${errors.size} keys`} not right yet` : typed.size ? `${typed.size === 1 ? 'One key' : `${typed.size} keys`} changed` : ''),
                                h('div.actions', null, h('button.button.primary', {type: 'submit', disabled: this.busy || errors.size > 0 || needs || !this.rows.length}, 'Submit'))),
                        this.error ? h('div.card.problem', {role: 'alert'}, h('h2', null, this.error.document?.title ?? 'That did not work'), h('p', null, unplaced.join('; ') || (refused.size ? 'What is wrong stands at the keys below.' : this.error.message))) : null,
                        this.source(),
                        h('section', {'aria-label': 'The same as a command'}, h('div.section-head', null, h('h2', null, 'The same as a command'), h(CopyButton, {text: () => command(body)})), h('pre.card.command', {tabindex: 0}, command(body))),
                        h('section', {'aria-label': 'Configuration'}, h('div.section-head', null, h('h2', null, 'Configuration'),
                                h('input', {type: 'search', placeholder: 'Find a key', 'aria-label': 'Find a key', value: find, oninput: (e) => this.address.set({find: e.target.value})})),
                        sections.map((s) => h('fieldset.card', {key: s}, h('legend', null, s), shown.filter((r) => r.path.split('.')[0] === s).map(field))))), this.main);
        }
}

// Fills main; answers what ends it.
export function mount(main, crumbs) {
        arrive(crumbs, 'New job');
        const page = new Page(main);
        return () => page.leave();
}
