// What runs where, and what waits for what: the devices of this server, in and out of service, and the queue as it goes.
import {glance} from '../../lib/curves.js';
import {api, format, h, Listed, may, pace, Page} from '../../lib/page.js';
import {Blockers, FINAL, Pill, progress, ProgressBar, Sparkline, title, waiting} from '../../lib/parts.js';

const BUSY_MS = 2000, QUEUE = 200, POINTS = 120; // jobs; buckets of a curve
const FIELDS = 'id,kind,name,state,waiting,priority,progress,result,import';
const AS = {busy: 'running', idle: 'succeeded', drained: 'cancelled'}; // the others wait for something

/** @type {Record<string, [string, (v: number | null) => string]>} */
const SERIES = {
        'device/busy': ['Utilisation', (v) => (v === null ? '–' : `${Math.round(100 * v)} %`)],
        'device/memory_mib': ['Memory', (v) => format.bytes(v === null ? null : v * 2 ** 20)],
        'device/celsius': ['Temperature', (v) => `${format.real(v, 3)} °C`],
        'device/watts': ['Power', (v) => `${format.real(v, 3)} W`],
};
const NAMES = Object.keys(SERIES);

// What the jobs use of their devices, as it was while they ran: a worker says it with every point that it logs. properties: ran:
// device -> the job there, or the last that was; use: job -> series -> {mean, last}, as of glance(). What no device tells has no column.
function Use({ran, use}) {
        const rows = [...ran].filter(([, job]) => use.get(job.id)?.size).map(([id, job]) => ({id, job, of: use.get(job.id)}));
        const cell = (name) => (row) => {
                const s = row.of.get(name), [, write] = SERIES[name], known = s?.mean.filter(Number.isFinite) ?? [];
                return !s ? '–' : [h('span.num', null, write(s.last)), h(Sparkline, {values: s.mean}), h('span.run-sub', null, `${write(Math.min(...known))} to ${write(Math.max(...known))}`)];
        };
        return h(Listed, {title: 'Use over time', note: 'Of the job there, or the last one', rows, more: 'more', columns: [['Device', (r) => h('b', null, r.id)], ['Runs', ({job}) => [h('a', {href: `#/jobs/${job.id}`}, `#${job.id}`), job.ended ? h('span.run-sub', null, `ended ${format.when(job.ended)}`) : null]],
                ...NAMES.filter((name) => rows.some((r) => r.of.has(name))).map((name) => /** @type {[string, (row: any) => any]} */ ([SERIES[name][0], cell(name)]))]});
}

export class DevicesPage extends Page {
        constructor(main) {
                super(main, 'Devices');
                this.devices = null;
                this.running = new Map();
                this.ran = new Map(); // device -> the job there, or the last that was
                this.use = new Map(); // job -> series -> its shape
                this.queue = {jobs: /** @type {any[]} */ ([]), total: 0};
                this.draw();
                this.loop = this.poll((signal) => this.read(signal), () => true);
        }

        async read(signal) {
                const [devices, running, queue, over] = await Promise.all([api.devices(signal), api.jobs({state: 'running', fields: FIELDS, limit: QUEUE}, signal), api.jobs({state: 'queued', order: 'priority', fields: FIELDS, limit: QUEUE}, signal),
                        api.jobs({state: FINAL, kind: 'train,evaluate,sample', fields: 'id,devices,ended', limit: QUEUE}, signal)]);
                [this.devices, this.queue, this.running] = [devices, queue, new Map(running.jobs.map((j) => [j.id, j]))];
                over.jobs.sort((a, b) => Date.parse(b.ended) - Date.parse(a.ended));
                this.ran = new Map(devices.map((d) => [d.name, d.job ? {id: d.job} : over.jobs.find((j) => j.devices?.includes(d.name))]).filter(([, job]) => job));
                this.use = this.ran.size ? await glance([...new Set([...this.ran.values()].map((j) => j.id))], NAMES, POINTS, signal) : new Map();
                this.error = null;
                this.draw();
                return pace(BUSY_MS);
        }

        drain(d) {
                this.act({title: `Take ${d.name} out of service?`, action: 'Drain', danger: true, text: 'Nothing new starts there, also after a restart, until it is put into service again.',
                        fields: d.job ? h('label.check', null, h('input', {type: 'checkbox', name: 'preempt'}), `End #${d.job} there after a checkpoint; it goes on elsewhere`) : null}, ({preempt}) => api.drain(d.name, Boolean(preempt)));
        }

        runs(d) {
                const job = this.running.get(d.job), left = job && progress(job).left;
                return !d.job ? '–' : [h('a', {href: `#/jobs/${d.job}`}, job ? title(job) : `#${d.job}`), job ? h(ProgressBar, {job}) : null, left ? h('span.under', null, `${format.duration(left)} left`) : null];
        }

        view() {
                const {devices, queue} = this, out = (d) => d.state === 'drained' || d.state === 'draining';
                const what = (d) => [h('b', null, d.name), h('span.run-sub', {title: d.uuid}, [d.model ?? d.kind, d.cores ? `cores ${d.cores}` : ''].filter(Boolean).join(', '))];
                const state = (d) => [h(Pill, {state: d.state, as: AS[d.state] ?? 'queued'}), d.rests_until ? h('span.run-sub', null, `until ${format.when(d.rests_until)}`) : null,
                        d.why ? h('span.run-sub', null, d.why) : null, ...(d.occupied_by ?? []).map((p) => h('span.run-sub', null, `process ${p.pid}${p.user ? ` of ${p.user}` : ''}, ${format.bytes(p.bytes)}`))];
                const memory = (d) => h('span.num', null, d.job_bytes ? `${format.bytes(d.job_bytes)} of ${format.bytes(d.memory_bytes)}` : format.bytes(d.memory_bytes));
                return [h('div.page-head', null, h('h1', null, 'Devices'), h('p.count', {role: 'status'}, devices ? `${devices.filter((d) => d.job).length} of ${devices.length} busy` : '')),
                        this.troubles(),
                        devices && h('div.content', null,
                                h(Listed, {title: 'What runs where', note: format.count(devices.length, 'device'), rows: devices.map((d) => ({...d, id: d.name})), more: 'more', columns: [
                                        ['Device', what], ['State', state], ['Runs', (d) => this.runs(d)], ['Memory', memory],
                                        ...may('admin') ? [['Service', (d) => h('button.button.small', {type: 'button', 'aria-label': `${out(d) ? 'Enable' : 'Drain'} ${d.name}`, onclick: () => (out(d) ? this.act({title: `Put ${d.name} into service?`, action: 'Enable', text: 'Jobs that wait may start there at once.'}, () => api.enable(d.name)) : this.drain(d))}, out(d) ? 'Enable' : 'Drain')]] : []]}),
                                h(Use, {ran: this.ran, use: this.use}),
                                queue.jobs.length ? h(Listed, {title: 'The queue', note: format.count(queue.total, 'job'), rows: queue.jobs, more: 'more', columns: [
                                        ['Place', (j) => format.integer(j.waiting?.position)], ['Job', (j) => h('a', {href: `#/jobs/${j.id}`}, title(j))], ['Kind', (j) => j.kind], ['Priority', (j) => format.integer(j.priority)],
                                        ['Why it waits', (j) => h('span.told', null, waiting(j), h(Blockers, {job: j}))]]}) : h('p.card.empty-line', null, 'Nothing waits.'))];
        }
}
