// What can be done with many runs at once: asked first, done one after another, told, and undone where that is possible.
import {ACTIONS, question} from '../../lib/actions.js';
import {link} from '../../lib/address.js';
import {api, ask, Component, format, h, may} from '../../lib/page.js';

// properties: select: ids of the selected; clear(); changed(gone: ids).
export class Selection extends Component {
        state = {told: '', undo: null, busy: false};

        async start(name) {
                const action = ACTIONS[name];
                this.setState({told: '', undo: null});
                const found = await Promise.allSettled(this.props.select.map((id) => api.job(Number(id))));
                const jobs = found.flatMap((f) => (f.status === 'fulfilled' && action.fits(f.value) ? [f.value] : [])), others = this.props.select.length - jobs.length;
                if (!jobs.length)
                        return this.setState({told: `None of them can be ${action.done}.`});
                const asked = question(action, jobs), answer = await ask({...asked, text: `${asked.text}${others ? ` For ${others} of the selected it does not fit; they stay as they are.` : ''}`});
                if (answer)
                        await this.carry(action, jobs, answer);
        }

        async carry(action, jobs, answer) {
                this.setState({busy: true, told: '', undo: null});
                const done = [], refused = [];
                for (const j of jobs.filter((k) => action.fits(k, answer)))
                        await action.call(j, answer).then(() => done.push(j), (e) => refused.push(`#${j.id}: ${e.message}`));
                this.props.changed(action === ACTIONS.remove ? done.map((j) => String(j.id)) : []);
                const back = ACTIONS[action.undo ?? ''];
                this.setState({busy: false, told: [`${format.count(done.length, 'run')} ${action.done}.`, ...refused].join(' '), undo: back && done.length ? async () => {
                        const now = await Promise.all(done.map((j) => api.job(j.id)));
                        await this.carry({...back, undo: undefined}, now, answer);
                } : null});
        }

        render({select, clear}, {told, undo, busy}) {
                return !select.length && !told ? null : h('div.card.selection', {role: 'region', 'aria-label': 'Selected runs'}, h('b', {role: 'status'}, `${format.count(select.length, 'run')} selected`),
                        select.length ? [h('a.button.primary', {key: 'compare', href: link('#/compare', {jobs: select})}, 'Compare'),
                                may('submit') && Object.entries(ACTIONS).filter(([, a]) => !a.one).map(([name, a]) => h(`button.button${a.danger ? '.danger' : ''}`, {key: name, type: 'button', disabled: busy, onclick: () => this.start(name)}, a.label)),
                                h('button.button', {key: 'clear', type: 'button', onclick: clear}, 'Clear')] : null,
                        h('span', {role: 'status'}, busy ? 'Working…' : told), undo ? h('button.button.small', {type: 'button', onclick: undo}, 'Undo') : null);
        }
}
