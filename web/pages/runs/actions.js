// What can be done with many runs at once: asked first, done one after another, told, and undone where that is possible.
import {link} from '../../lib/address.js';
import * as api from '../../lib/api.js';
import {ask, Component, h} from '../../lib/dom.js';
import * as format from '../../lib/format.js';
import {isFinal} from '../../lib/parts.js';
import {may} from '../../lib/session.js';

const tags = (change) => (j, answer) => api.change(j.id, {tags: change(j.tags ?? [], answer.tag.trim())});

// fits(job): whether it can be done with it; undo: the action that takes it back.
const ACTIONS = {
        pause: {label: 'Pause', done: 'paused', fits: (j) => j.state === 'queued' || j.state === 'running', call: (j) => api.act(j.id, 'pause'), undo: 'resume', text: 'They stop after a checkpoint, and go on from there when they are resumed.'},
        resume: {label: 'Resume', done: 'queued again', fits: (j) => j.state === 'paused' || j.stopping === 'pause', call: (j) => api.act(j.id, 'resume'), undo: 'pause', text: 'They go on from their last checkpoint.'},
        retry: {label: 'Retry', done: 'queued again', fits: (j) => j.state === 'failed' || j.state === 'cancelled', call: (j) => api.act(j.id, 'retry'), undo: 'cancel', text: 'They go on from their last checkpoint where they have one.'},
        cancel: {label: 'Cancel', done: 'cancelled', fits: (j) => !isFinal(j.state), call: (j) => api.act(j.id, 'cancel'), undo: 'retry', danger: true, text: 'They stop after a checkpoint. They can be retried.'},
        tag: {label: 'Tag', done: 'tagged', fits: () => true, call: tags((own, t) => [...new Set([...own, t])]), undo: 'untag', text: 'They get a tag more.', field: true},
        untag: {label: 'Untag', done: 'without the tag', fits: () => true, call: tags((own, t) => own.filter((k) => k !== t)), undo: 'tag', text: 'They lose a tag.', field: true},
        remove: {label: 'Delete', done: 'deleted', fits: (j) => isFinal(j.state), call: (j) => api.remove(j.id), danger: true, text: 'Their checkpoints, images, curves and logs are removed for good.'},
};

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
                const answer = await ask({title: `${action.label} ${format.count(jobs.length, 'run')}?`, action: action.label, danger: action.danger, text: `${action.text}${others ? ` For ${others} of the selected it does not fit; they stay as they are.` : ''}`,
                        fields: action.field ? h('label.field', null, 'Tag', h('input', {name: 'tag', type: 'text', required: true, maxlength: 100})) : null});
                if (answer)
                        await this.carry(action, jobs, answer);
        }

        async carry(action, jobs, answer) {
                this.setState({busy: true, told: '', undo: null});
                const done = [], refused = [];
                for (const j of jobs)
                        await action.call(j, answer).then(() => done.push(j), (e) => refused.push(`#${j.id}: ${e.message}`));
                this.props.changed(action === ACTIONS.remove ? done.map((j) => String(j.id)) : []);
                const back = ACTIONS[action.undo];
                this.setState({busy: false, told: [`${format.count(done.length, 'run')} ${action.done}.`, ...refused].join(' '), undo: back && done.length ? async () => {
                        const now = await Promise.all(done.map((j) => api.job(j.id)));
                        await this.carry({...back, undo: undefined}, now.filter(back.fits), answer);
                } : null});
        }

        render({select, clear}, {told, undo, busy}) {
                return !select.length && !told ? null : h('div.card.selection', {role: 'region', 'aria-label': 'Selected runs'}, h('b', {role: 'status'}, `${format.count(select.length, 'run')} selected`),
                        select.length ? [h('a.button.primary', {key: 'compare', href: link('#/compare', {jobs: select})}, 'Compare'),
                                may('submit') && Object.entries(ACTIONS).map(([name, a]) => h(`button.button${a.danger ? '.danger' : ''}`, {key: name, type: 'button', disabled: busy, onclick: () => this.start(name)}, a.label)),
                                h('button.button', {key: 'clear', type: 'button', onclick: clear}, 'Clear')] : null,
                        h('span', {role: 'status'}, busy ? 'Working…' : told), undo ? h('button.button.small', {type: 'button', onclick: undo}, 'Undo') : null);
        }
}
