// What can be done with many runs at once: asked first, done, told, and undone where that is possible. With all that a filter
// takes the server does it by itself, but for tags and undoing: a few are asked for at a time.
import {ACTIONS, question} from '../../lib/actions.js';
import {link} from '../../lib/address.js';
import {api, ask, Component, format, h, may} from '../../lib/page.js';
import {STATES} from '../../lib/parts.js';

export const ALL = 'all'; // in place of ids: what the filter takes
const AT_ONCE = 4, NAMED = 3; // jobs; refusals that are told in full

const listed = (text) => (text ? text.split(',') : undefined);
// The part of what a filter takes that is in one of these states.
const among = ({state, kind, tag, text, id, config}, states = STATES) => ({state: states.filter((s) => listed(state)?.includes(s) ?? true), kind: listed(kind), id: listed(id)?.map(Number), tag: tag || undefined, text: text || undefined, config: config || undefined});

// properties: select: ids of the selected; of ALL, all: {filter: the server's; jobs: that it takes, as far as they
// are known; count: how many, null: not known}; counted: the same in words; clear(); changed(gone: ids).
export class Selection extends Component {
        #queue = /** @type {number[]} */ ([]); // whose turn comes yet

        state = {told: '', undo: null, busy: false, at: ''};

        // Those of the selected that it fits.
        async find(action) {
                const {select, all} = this.props, lots = Array.from({length: Math.ceil(select.length / api.PAGE)}, (_, i) => ({id: select.slice(i * api.PAGE, (i + 1) * api.PAGE)})), found = /** @type {any} */ ([]);
                for (const asked of /** @type {any[]} */ (all ? [among(all.filter, action.states)] : lots))
                        for (let cursor; asked.state?.length !== 0 && cursor !== null;) {
                                const page = await api.jobs({...asked, fields: 'id,state,stopping,tags', limit: api.PAGE, cursor});
                                found.push(...page.jobs);
                                cursor = page.next;
                        }
                return found.filter((j) => action.fits(j));
        }

        async start(name) {
                const action = ACTIONS[name], {select, all} = this.props, say = (told) => this.setState({told, undo: null, busy: told === '', at: ''});
                say('');
                const jobs = await this.find(action).catch((e) => say(e.message)), ids = jobs?.map((j) => j.id) ?? [], others = (all ? all.count : select.length) - ids.length;
                if (!ids.length)
                        return jobs && say(`None of them can be ${action.done}.`);
                const asked = question(action, jobs), answer = await ask({...asked, text: `${asked.text}${others > 0 ? ` For ${format.integer(others)} of the selected it does not fit; they stay as they are.` : ''}`});
                if (!answer || !all || !action.states)
                        return answer ? this.carry(action, ids, answer) : this.setState({busy: false});
                const {changed = 0, refused = 0, message = ''} = await api.actOnAll(name, among(all.filter, action.states)).catch((e) => e);
                return message ? say(message) : this.end(action, ids, changed, refused ? [`${format.count(refused, 'other')} moved on meanwhile, or cannot be ${action.done} as long as another needs it.`] : [], answer);
        }

        // Of each of them in its turn, as it is by then.
        async carry(action, ids, answer) {
                this.setState({busy: true, told: '', undo: null});
                this.#queue = [...ids];
                const done = [], refused = [];
                await api.each(this.#queue, AT_ONCE, async (id) => {
                        this.setState({at: `${format.integer(done.length + refused.length)} of ${format.integer(ids.length)}`});
                        await api.job(id).then((j) => action.fits(j, answer) && action.call(j, answer).then(() => done.push(id))).catch((e) => refused.push(`#${id}: ${e.message}`));
                });
                this.end(action, done, done.length, refused.length > NAMED ? [...refused.slice(0, NAMED), `And ${format.integer(refused.length - NAMED)} others.`] : refused, answer);
        }

        end(action, ids, n, refused, answer) {
                this.props.changed(action === ACTIONS.remove && n ? ids.map(String) : []);
                const back = ACTIONS[action.undo ?? ''];
                this.setState({busy: false, at: '', told: [`${format.count(n, 'run')} ${action.done}.`, ...refused].join(' '), undo: back && n ? () => this.carry({...back, undo: undefined}, ids, answer) : null});
        }

        render({select, all, counted, clear}, {told, undo, busy, at}) {
                return !select.length && !told && !busy ? null : h('div.card.selection', {role: 'region', 'aria-label': 'Selected runs'}, h('b', {role: 'status'}, `${counted} selected`),
                        select.length ? [h('a.button.primary', {key: 'compare', href: link('#/compare', {jobs: all ? all.jobs.slice(0, api.PAGE).map((j) => String(j.id)) : select})}, 'Compare'),
                                may('submit') && Object.entries(ACTIONS).filter(([, a]) => !a.one).map(([name, a]) => h(`button.button${a.danger ? '.danger' : ''}`, {key: name, type: 'button', disabled: busy, onclick: () => this.start(name)}, a.label)),
                                h('button.button', {key: 'clear', type: 'button', onclick: clear}, 'Clear')] : null,
                        h('span', {role: 'status'}, busy ? 'Working…' : told), busy && at ? [h('span.num', {'aria-hidden': 'true'}, at), h('button.button.small', {type: 'button', onclick: () => this.#queue.splice(0)}, 'Stop')] : null,
                        undo ? h('button.button.small', {type: 'button', onclick: undo}, 'Undo') : null);
        }
}
