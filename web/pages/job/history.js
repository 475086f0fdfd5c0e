// What happened to a job: its attempts, why each of them ended, and every change of its state.
import {api, format, h, Listed} from '../../lib/page.js';
import {Time} from '../../lib/parts.js';

export class History {
        #read = '';
        events = /** @type {any[]} */ ([]);
        attempts = /** @type {any[]} */ ([]);

        // Reads what is new, where the job is not as it was.
        async update(job, signal) {
                const now = [job.state, job.attempts, job.version, job.stopping].join();
                if (now === this.#read)
                        return;
                this.attempts = await api.attempts(job.id, signal);
                for (let next = this.events.at(-1)?.id ?? 0; next !== null;) {
                        const page = await api.history(job.id, next, signal);
                        this.events = [...this.events, ...page.events];
                        next = page.next;
                }
                this.#read = now;
        }
}

// Why an attempt ended, in words.
function ended({outcome, stop, class: kind, blame}) {
        return outcome === null ? 'runs' : outcome === 'stopped' ? `stopped: ${stop}` : outcome === 'failed' ? `failed: ${kind}${blame && blame !== 'job' ? `, the ${blame}'s fault` : ''}` : outcome;
}

// properties: history: a History; kind: of the job: only a training's steps are steps.
export function HistoryPanel({history: {attempts, events}, kind}) {
        return [
                h(Listed, {key: 'attempts', title: 'Attempts', note: format.count(attempts.length, 'attempt'), rows: [...attempts].reverse().map((a) => ({...a, id: a.number})), columns: [
                        ['Attempt', (a) => format.integer(a.number)], ['Started', (a) => h(Time, {at: a.started})], ['Took', (a) => format.duration(format.between(a.started, a.ended))],
                        ...kind === 'train' ? [/** @type {[string, (a: any) => any]} */ (['Steps', (a) => h('span.num', null, a.first_step === null ? '–' : `${format.integer(a.first_step)} to ${format.integer(a.last_step)}`)])] : [], ['Devices', (a) => (a.devices ?? []).join(', ') || '–'],
                        ...attempts.some((a) => typeof a.energy_j === 'number') ? [/** @type {[string, (a: any) => any]} */ (['Energy', (a) => format.energy(a.energy_j)])] : [],
                        ['Ended', (a) => h(a.outcome === 'failed' ? 'b.bad' : 'span', null, ended(a))], ['Why', (a) => h('span.told', null, a.detail ?? '–')]]}),
                h(Listed, {key: 'events', title: 'Events', note: format.count(events.length, 'event'), rows: [...events].reverse(), columns: [
                        ['Time', (e) => h(Time, {at: e.time})], ['What', (e) => String(e.trigger).replaceAll('_', ' ')], ['State', (e) => (e.from === e.to ? e.to : `${e.from ?? 'new'} → ${e.to}`)], ['Detail', (e) => h('span.told', null, typeof e.detail === 'string' ? e.detail : e.detail ? JSON.stringify(e.detail) : '–')]]}),
        ];
}
