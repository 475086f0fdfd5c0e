// What a job left: its checkpoints and what can be made of them, what was made of them already, other files.
import {link} from '../../lib/address.js';
import {finite} from '../../lib/curves.js';
import {api, format, h, Listed, may} from '../../lib/page.js';
import {Bpd, Pill, result, Time, title} from '../../lib/parts.js';

const FORMS = {flax: 'flax, as published', ema: 'averaged weights', params: 'weights alone'};

const when = (a) => h(Time, {at: a.created});
const size = (a) => h('span.num', {title: `${a.bytes} bytes`}, format.bytes(a.bytes));
const file = (a) => h('a', {href: api.artifactUrl(a), download: a.name, title: a.name}, a.name);

export function Files({artifacts}) {
        const rows = artifacts.filter((a) => a.kind !== 'checkpoint');
        return h(Listed, {title: 'Files', note: format.count(rows.length, 'file'), rows, shape: 'files', columns: [['File', file], ['Kind', (a) => a.kind], ['Step', (a) => h('span.num', null, format.integer(a.step))],
                ['Size', size], ['XXH128', (a) => h('code', {title: a.xxh128}, String(a.xxh128 ?? '').slice(0, 12))], ['Made', when]]});
}

// properties: keep: asks whether one is to be pinned, or not any longer.
export function Checkpoints({job, artifacts, keep}) {
        const rows = artifacts.filter((a) => a.kind === 'checkpoint'), known = rows.map((a) => api.number(a.metric)).filter(finite), best = Math.min(...known);
        const to = (label, kind, a) => h('a.button.small', {href: link('#/new', {kind, job: String(job.id), step: String(a.step)})}, label);
        return h(Listed, {title: 'Checkpoints', note: format.count(rows.length, 'checkpoint'), rows, columns: [
                ['Step', (a) => [h('b.num', null, format.integer(a.step)), a === rows[0] ? h('span.tag', null, 'latest') : null, known.length && api.number(a.metric) === best ? h('span.tag', null, 'best') : null,
                        a.pinned ? h('span.tag', null, 'pinned') : null, a.bad ? h('span.tag', {title: 'Attempts that began with it crashed: others are tried first'}, 'bad') : null]],
                ['Test BPD', (a) => h('span.num', null, format.fixed(api.number(a.metric), 3))], ['Size', size], ['Made', when],
                ['Download', (a) => h('span.row', null, file(a), Object.entries(FORMS).map(([form, about]) => h('a', {key: form, href: `${api.artifactUrl(a)}?format=${form}`, title: about}, form)))],
                ...may('submit') ? [/** @type {[string, (a: any) => any]} */ (['Use it', (a) => h('span.row', null, to('Evaluate', 'evaluate', a), to('Sample', 'sample', a), to('Start from', 'train', a),
                        h('button.button.small', {type: 'button', 'aria-label': `${a.pinned ? 'Unpin' : 'Pin'} step ${a.step}`, onclick: () => keep(a)}, a.pinned ? 'Unpin' : 'Pin'))])] : []]});
}

// properties: jobs: evaluations and samples of this job's checkpoints, and runs that started from one: the newest; total: how many there are.
export function Made({jobs, total}) {
        return h(Listed, {title: 'Made from it', note: `${total === null ? 'More than ' : ''}${format.count(total ?? jobs.length, 'job')}`, rows: jobs, columns: [['Job', (j) => h('a', {href: `#/jobs/${j.id}`}, title(j))], ['Kind', (j) => j.kind], ['State', (j) => h(Pill, {state: j.state})],
                ['Of step', (j) => format.integer(j.checkpoint?.step)], ['BPD', (j) => h(Bpd, {of: result(j)})], ['Method', (j) => j.result?.method ?? '–'], ['Images', (j) => format.integer(j.result?.images)], ['Created', when]]});
}
