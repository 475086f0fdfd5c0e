// A new job: a form made of the configuration's schema, which the server checks as it is typed, with what the job would need;
// the command that does the same. A job begins with a template or a job's checkpoint (job, step), and perhaps with what another
// job (clone) changed there; what is changed is in the address.
import {Address} from '../../lib/address.js';
import {flat, keys, text} from '../../lib/config.js';
import {api, CopyButton, format, h, may, Page, Section, Trouble} from '../../lib/page.js';
import {command} from '../../lib/parts.js';

const KINDS = {train: 'Train', evaluate: 'Evaluate', sample: 'Sample'};
const OF = {__proto__: null, train: /./, evaluate: /^(evaluation|machine)\./, sample: /^(sampling|machine)\./}; // the keys that a kind can change
const keysOf = (kind) => OF[kind] ?? OF.train; // an address may say nonsense, which the server refuses
const STEPS = 'training.num_steps_train', FIRST = 'photos32-tiny';

const isOf = (row, type) => [row.type].flat().includes(type);

// What was typed, as the value that is sent; what is no value of the row stays what it is, to be found wrong.
function parse(row, typed) {
        if (isOf(row, 'null') && (typed === '' || typed === 'null'))
                return null;
        if (isOf(row, 'boolean'))
                return typed === 'true' ? true : typed === 'false' ? false : typed;
        if (isOf(row, 'string'))
                return typed;
        return typed.trim() === '' || Number.isNaN(Number(typed)) ? typed : Number(typed);
}

function range(row) {
        const between = row.minimum === undefined ? '' : `${row.minimum} to ${row.maximum}`;
        return [between, row['x-unit'] ?? '', isOf(row, 'null') ? 'empty: none' : ''].filter(Boolean).join(' ');
}

// A key of the configuration as a field. properties: row: of the schema; value: as typed; usual; changed; error; choices: for a text, or null; change(typed).
function Field({row, value, usual, changed, error, choices, change}) {
        const id = `key-${row.path}`, about = `${id}-about`, options = row.enum ?? (isOf(row, 'boolean') ? [true, false] : choices);
        const shared = {id, 'aria-describedby': about, 'aria-invalid': error ? 'true' : undefined};
        return h(`div.key${changed ? '.changed' : ''}`, null,
                h('label', {for: id}, row.path.split('.').slice(1).join('.') || row.path),
                options ? h('select', {...shared, value, onchange: (e) => change(e.target.value)}, [...new Set([...options.map(String), value])].map((v) => h('option', {key: v, value: v, selected: v === value}, v)))
                        : h('input', {...shared, type: 'text', inputmode: isOf(row, 'string') ? 'text' : 'decimal', value: value === 'null' ? '' : value, autocomplete: 'off', spellcheck: false, oninput: (e) => change(e.target.value)}),
                h('div', {id: about}, error ? h('span.field-error', {role: 'alert'}, `${error}. `) : null, h('span.soft', null, [row.description, range(row)].filter(Boolean).join('; '))),
                changed ? h('button.button.small', {type: 'button', title: `Back to ${usual}`, 'aria-label': `Undo: ${row.path} back to ${usual}`, onclick: () => change(usual)}, 'Undo') : null);
}

export class NewPage extends Page {
        constructor(main) {
                super(main, 'New job');
                this.loaded = false;
                this.busy = false;
                this.needs = null; // of the server, or what it refuses
                this.refusal = /** @type {any} */ (null);
                this.rows = [];
                this.template = /** @type {string | null} */ (null); // which one holds, null: none
                this.configs = [];
                this.datasets = [];
                this.base = /** @type {Map<string, unknown>} */ (new Map()); // what holds where nothing is changed
                this.address = this.own(new Address({kind: 'train', config: FIRST, clone: '', job: '', step: '', name: '', tags: '', notes: '', priority: '0', find: '', set: [''].slice(1)}, ['kind'], () => {
                        this.soon(() => this.check.restart());
                        this.draw();
                }));
                this.draw();
                this.loop = this.poll((signal) => this.read(signal));
                this.check = this.poll((signal) => this.ask(signal));
        }

        async ask(signal) {
                if (!this.ready())
                        return null;
                const [needs, refusal] = await api.check(this.request(), signal).then((n) => [n, null], (e) => [null, e]);
                if (refusal && !(refusal.status < 500))
                        throw refusal;
                [this.needs, this.refusal] = [needs, refusal];
                this.draw();
                return null;
        }

        // Whether there is anything to send, by someone who may.
        ready() {
                const {kind, job} = this.address.state;
                return may('submit') && this.loaded && (kind === 'train' || Number(job) > 0);
        }

        async read(signal) {
                const {clone, job, config} = this.address.state;
                if (!this.rows.length)
                        [this.rows, this.configs, this.datasets] = await Promise.all([api.schema(signal).then((s) => keys(s)), api.configs(signal), api.datasets(signal)]);
                const usual = new Map(this.rows.map((r) => [r.path, r.default]));
                const [source, origin] = await Promise.all([clone, job].map((n) => (n ? api.job(Number(n), signal) : null)));
                const named = (name) => this.configs.find((c) => c.name === name)?.name ?? null;
                this.template = clone ? named(source?.config_name) : named(config) ?? this.configs[0]?.name ?? null;
                const begun = flat(origin ? origin.config : this.configs.find((c) => c.name === this.template)?.config);
                this.base = new Map([...usual].map(([k, v]) => [k, begun.has(k) ? begun.get(k) : v]));
                const {kind, step, set} = this.address.state, at = Number(step) || (origin?.progress?.step ?? 0);
                if (kind === 'train' && job && !clone && !set.length && Number(this.base.get(STEPS)) <= at)
                        this.change(STEPS, String(2 * at)); // a run that starts where it ends is refused
                if (clone && !this.loaded && !set.length) {
                        const own = flat(source?.config);
                        this.address.set({name: source?.name ? `${source.name}, again` : '', set: [...this.base].filter(([k, v]) => keysOf(kind).test(k) && own.has(k) && text(own.get(k)) !== text(v)).map(([k]) => `${k}=${text(own.get(k))}`)});
                }
                this.loaded = true;
                this.error = null;
                this.check.restart();
                this.draw();
                return null;
        }

        // The keys that were changed, as they were typed.
        changes() {
                return new Map(this.address.state.set.map((s) => [s.slice(0, s.indexOf('=')), s.slice(s.indexOf('=') + 1)]));
        }

        change(path, value) {
                const typed = this.changes();
                typed.delete(path);
                if (value !== text(this.base.get(path)))
                        typed.set(path, value);
                this.address.set({set: [...typed].map(([k, v]) => `${k}=${v}`)});
        }

        // What is sent.
        request() {
                const {kind, job, step, name, tags, notes, priority} = this.address.state, typed = this.changes();
                const overrides = Object.fromEntries(this.rows.filter((r) => typed.has(r.path) && keysOf(kind).test(r.path)).map((r) => [r.path, parse(r, String(typed.get(r.path)))]));
                const which = /^\d+$/.test(step) ? Number(step) : step || 'latest', of = {job: Number(job)};
                const source = kind === 'train' ? (job ? {start_from: {...of, checkpoint: which}} : {config: this.template ?? {}}) : {checkpoint: {...of, ...(typeof which === 'number' ? {step: which} : {which})}};
                const list = tags.split(',').map((t) => t.trim()).filter(Boolean);
                return {kind, ...source, ...(Object.keys(overrides).length ? {overrides} : {}), ...(name ? {name} : {}), ...(list.length ? {tags: list} : {}), ...(notes ? {notes} : {}), ...(Number(priority) ? {priority: Number(priority)} : {})};
        }

        async submit(e) {
                e.preventDefault();
                [this.busy, this.error] = [true, null];
                this.draw();
                await api.submit(this.request()).then(({id}) => { location.hash = `#/jobs/${id}`; }, (error) => {
                        [this.busy, this.error, this.refusal] = [false, error, error];
                        this.drawNow();
                        document.querySelector('.field-error')?.closest('.key')?.scrollIntoView({block: 'center'});
                });
        }

        // What the server said of keys: path -> words.
        refused() {
                return new Map((this.refusal?.document?.errors ?? []).map((e) => [String(e.pointer ?? '').slice(1).replaceAll('/', '.').replace(/^(overrides|config)\./, ''), e.detail]));
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

        // What the server says of it: what it would need, or why it would be refused.
        outlook(unplaced) {
                const {needs, refusal} = this, size = this.refused().size, item = (name, value) => h('div.stat', {key: name}, h('dt', null, name), h('dd', null, value));
                return h('section.card', {'aria-label': 'What it needs', 'aria-live': 'polite'}, refusal ? h('p.field-error', null, unplaced.join('; ') || (size ? `${format.count(size, 'key')} not right yet.` : refusal.message))
                        : h('dl.stat-list', null, item('Memory', format.bytes(needs?.memory_bytes)), item('Time', needs && needs.seconds === null ? 'not measured yet' : format.duration(needs?.seconds)),
                                needs?.energy_j ? item('Energy', format.energy(needs.energy_j)) : null,
                                item('Steps', format.integer(needs?.steps || null)), item('Devices that fit', needs ? needs.devices.join(', ') || 'none' : '–')));
        }

        view() {
                const {kind, find} = this.address.state, body = this.request(), typed = this.changes(), refused = this.refused();
                const shown = this.rows.filter((r) => keysOf(kind).test(r.path) && (!find || `${r.path} ${r.description}`.toLowerCase().includes(find.toLowerCase())));
                const sections = [...new Set(shown.map((r) => r.path.split('.')[0]))];
                const field = (r) => h(Field, {key: r.path, row: r, value: typed.get(r.path) ?? text(this.base.get(r.path)), usual: text(this.base.get(r.path)), changed: typed.has(r.path), choices: r.path === 'data.dataset' ? this.datasets.map((d) => d.name) : null,
                        error: refused.get(r.path) ?? '', change: (v) => this.change(r.path, v)});
                const unplaced = [...refused].filter(([path]) => !shown.some((r) => r.path === path)).map(([path, detail]) => `${path} ${detail}`.trim());
                return h('form.new', {onsubmit: (e) => this.submit(e)},
                        h('div.page-head', null, h('h1', null, 'New job'), h('p.count', {role: 'status'}, typed.size ? `${format.count(typed.size, 'key')} changed` : ''),
                                h('div.actions', null, may('submit') ? h('button.button.primary', {type: 'submit', disabled: this.busy || refused.size > 0 || !this.ready()}, 'Submit') : h('p.soft', null, 'Your role may read, and not submit.'))),
                        h(Trouble, {title: this.error?.document?.title ?? 'That did not work', error: this.error && (unplaced.join('; ') || (refused.size ? 'What is wrong stands at the keys below.' : this.error.message))}),
                        this.source(), this.outlook(unplaced),
                        h(Section, {title: 'The same as a command', beside: h(CopyButton, {text: () => command(body)})}, h('pre.card.command', {tabindex: 0}, command(body))),
                        h(Section, {title: 'Configuration', beside: h('input', {type: 'search', placeholder: 'Find a key', 'aria-label': 'Find a key', value: find, oninput: (e) => this.address.set({find: e.target.value})})},
                                sections.map((s) => h('fieldset.card', {key: s}, h('legend', null, s), shown.filter((r) => r.path.split('.')[0] === s).map(field)))));
        }
}
