// What can be done with runs: with one on its page, with many in the list.
import * as api from './api.js';
import {h} from './dom.js';
import * as format from './format.js';
import {FINAL, isFinal} from './parts.js';

const field = (label, name, value, more = {}) => h('label.field', null, label, h('input', {name, value: String(value ?? ''), type: 'text', ...more}));
const list = (text) => text.split(',').map((t) => t.trim()).filter(Boolean);
const of = (...states) => ({states, fits: (j) => states.includes(j.state)});
const retag = (change) => ({many: true, fits: (j, {tag = ''} = {}) => !tag || change(j.tags ?? [], tag.trim()).length !== (j.tags ?? []).length, fields: () => field('Tag', 'tag', '', {required: true, maxlength: 100}),
        call: (j, {tag}) => api.change(j.id, {tags: change(j.tags ?? [], tag.trim())})});

/** @typedef {{label: string, done?: string, text: string, states?: string[], fits: (j: any, answer?: any) => boolean, call: (j: any, answer: any) => Promise<any>, fields?: (j: any) => any, undo?: string,
 *             danger?: boolean, one?: boolean, many?: boolean, title?: string, sure?: string}} Action  fits: whether it can be done with a job, or would change it; states: by which
 *             the server does it with all that a filter takes; done: what the job is then; fields: what is asked; undo: what takes it back; one: with many it is not done, many: nor with one */

/** @type {Record<string, Action>} */
export const ACTIONS = {
        edit: {label: 'Edit', one: true, title: 'What it is called', sure: 'Save', text: 'Tags are separated by commas.', fits: () => true,
                fields: (j) => [field('Name', 'name', j.name, {maxlength: 200}), field('Tags', 'tags', (j.tags ?? []).join(', ')), h('label.field', null, 'Notes', h('textarea', {name: 'notes', rows: 4}, j.notes ?? '')),
                        isFinal(j.state) ? null : field('Priority', 'priority', j.priority ?? 0, {type: 'number', min: -1000, max: 1000})],
                call: (j, {name, tags, notes, priority}) => api.change(j.id, {name, tags: list(tags), notes, ...(priority === undefined ? {} : {priority: Number(priority)})}, j.version)},
        pause: {label: 'Pause', done: 'paused', ...of('queued', 'running'), call: (j) => api.act(j.id, 'pause'), undo: 'resume',
                text: 'What computes stops at its next step, after a checkpoint, and goes on from there when it is resumed. Its device is free meanwhile.'},
        resume: {label: 'Resume', done: 'queued again', states: ['paused'], fits: (j) => j.state === 'paused' || j.stopping === 'pause', call: (j) => api.act(j.id, 'resume'), undo: 'pause', text: 'From the last checkpoint.'},
        retry: {label: 'Retry', done: 'queued again', ...of('failed', 'cancelled'), call: (j) => api.act(j.id, 'retry'), undo: 'cancel', text: 'From the last checkpoint, where there is one.'},
        further: {label: 'Resume', one: true, text: 'It goes on from its last checkpoint.', fits: (j) => isFinal(j.state) && j.kind === 'train',
                fields: ({progress: {step = 0, steps = 0} = {}, state}) => field('Train to step', 'steps', state === 'succeeded' ? 2 * steps : steps, {type: 'number', min: step + 1, step: 1, required: true}),
                call: (j, {steps}) => api.resume(j.id, Number(steps) === j.progress?.steps ? null : Number(steps))},
        cancel: {label: 'Cancel', done: 'cancelled', ...of('queued', 'running', 'paused'), call: (j) => api.act(j.id, 'cancel'), undo: 'retry', danger: true,
                text: 'What computes stops at its next step, after a checkpoint, from which it can go on later. What waits leaves the queue. What an import has read so far is dropped.'},
        tag: {label: 'Tag', done: 'tagged', undo: 'untag', text: 'They get a tag more.', ...retag((own, t) => [...new Set([...own, t])])},
        untag: {label: 'Untag', done: 'without the tag', undo: 'tag', text: 'They lose a tag.', ...retag((own, t) => own.filter((k) => k !== t))},
        remove: {label: 'Delete', done: 'deleted', ...of(...FINAL), call: (j) => api.remove(j.id), danger: true, text: 'Checkpoints, images, curves and log are removed for good.'},
};

// What is asked before it is done with these jobs, which it fits.
/** @param {Action} action @param {any[]} jobs */
export function question({label, title, sure, text, danger, fields}, jobs) {
        const one = jobs.length === 1;
        return {title: title ?? `${label} ${one ? 'this run' : format.count(jobs.length, 'run')}?`, action: sure ?? `${label} the ${one ? 'run' : 'runs'}`, danger, text, fields: fields?.(jobs[0])};
}
