// The door to /v1: JSON in and out, problem documents as errors. Addresses are relative, so a prefix in front is fine.
// Every question takes a signal: whoever no longer wants the answer aborts it, and the question ends as Dropped.

// The server answered and said no.
export class Problem extends Error {
        constructor(status, document) {
                const errors = Array.isArray(document?.errors) ? document.errors : [];
                const details = errors.map((e) => `${e.pointer ?? ''} ${e.detail ?? ''}`.trim());
                super([document?.title ?? `The server answered ${status}`, document?.detail, ...details].filter(Boolean).join(': '));
                this.status = status;
                this.document = document;
        }
}

// Nobody answered.
export class Unreachable extends Error {
        message = 'mulund does not answer';
}

// The answer is no longer asked for.
export class Dropped extends Error {
        message = 'no longer asked for';
}

// Called when the server answered, and when it no longer knows who asks.
let [answered, unknown] = /** @type {(() => void)[]} */ ([() => {}, () => {}]);
export const onAnswer = (call) => { answered = call; };
export const onUnknown = (call) => { unknown = call; };

const PATIENCE_MS = 8000; // for an answer, until it is asked whether anybody is there
const HEALTH_MS = 5000;
export const PAGE = 500; // jobs of an answer, at most

// A slow answer is not an absent server: one that still says something at /healthz is waited for.
const alive = () => fetch('healthz', {signal: AbortSignal.timeout(HEALTH_MS), cache: 'no-store'}).then((r) => r.status < 502 || r.status === 503, () => false);

// What read() makes of the answer to one request.
/** @template T
 * @param {string} path
 * @param {RequestInit} options
 * @param {(r: Response) => T | Promise<T>} read
 * @returns {Promise<T>} */
async function request(path, {signal, ...options}, read) {
        const silent = new AbortController(), watch = setInterval(async () => (await alive()) || silent.abort(), PATIENCE_MS);
        try {
                const response = await fetch(path, {...options, signal: AbortSignal.any([silent.signal, ...signal ? [signal] : []]), credentials: 'same-origin'});
                const document = response.ok ? null : await response.json().catch(() => null);
                if (response.status >= 502 && !document)
                        throw new Unreachable(); // so says a proxy
                (response.status === 401 ? unknown : answered)();
                if (!response.ok)
                        throw new Problem(response.status, document);
                return await read(response);
        } catch (e) {
                throw signal?.aborted ? new Dropped() : e instanceof Problem ? e : new Unreachable();
        } finally {
                clearInterval(watch);
        }
}

/** @param {string} path @param {AbortSignal | undefined} signal @param {RequestInit} options */
const json = (path, signal, options = {}) => request(path, {...options, signal}, (r) => r.json());

function query(parameters) {
        const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== '');
        return given.length ? `?${new URLSearchParams(given)}` : '';
}

const send = (method, path, body = {}, signal = undefined, more = {}) => json(path, signal, {method, headers: {'Content-Type': 'application/json', ...more}, body: JSON.stringify(body)});
const post = (path, body, signal) => send('POST', path, body, signal);

const id = (n) => {
        if (!Number.isSafeInteger(n) || n < 0)
                throw new Problem(404, {title: 'There is no such job'});
        return n;
};

export const session = () => json('v1/session', undefined);
// A token opens a session, which a cookie names from then on; the token is kept nowhere.
export async function logIn(token) {
        const {path} = await send('POST', 'v1/links', undefined, undefined, {Authorization: `Bearer ${token}`});
        await request(`open${path.slice(path.indexOf('?'))}`, {}, () => null);
}
export const logOut = () => request('v1/session', {method: 'DELETE'}, () => null);

// Newest first: {jobs, next}; next is the cursor of the page after it.
export const jobsPath = (filter) => `v1/jobs${query(filter)}`;
export const jobs = (filter, signal) => json(jobsPath(filter), signal);
export const job = (n, signal) => json(`v1/jobs/${id(n)}`, signal);
// action: cancel, pause, resume, retry.
export const act = (n, action) => post(`v1/jobs/${id(n)}/${action}`);
// Calls for each of a list, n at a time; whoever takes some from the list spares them.
export const each = (list, n, call) => Promise.all(Array.from({length: n}, async () => {
        while (list.length)
                await call(list.shift());
}));
// The same, or remove, with all that a filter takes and it fits: {changed, refused}.
export const actOnAll = (action, filter) => post(`v1/jobs/${action}`, {filter});
// Its name, tags, notes, priority; version: the one that is changed, or none.
export const change = (n, body, version) => send('PATCH', `v1/jobs/${id(n)}`, body, undefined, version === undefined ? {} : {'If-Match': `"${version}"`});
export const resume = (n, steps) => post(`v1/jobs/${id(n)}/resume`, steps ? {steps} : {});
export const remove = (n) => request(`v1/jobs/${id(n)}`, {method: 'DELETE'}, () => null);
export const seriesNames = async (n, signal) => (await json(`v1/jobs/${id(n)}/series`, signal)).series;
// A text in a list, as in CSV.
export const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
// Buckets of many series; from, to: steps.
/** @param {{jobs: number[], names: string[], points: number, from?: number, to?: number, attempt?: number}} what @param {AbortSignal} [signal] */
export const series = async ({jobs, names, ...rest}, signal) =>
        (await json(`v1/series${query({jobs: jobs.join(','), names: names.map(quoted).join(','), ...rest, widths: 'own'})}`, signal)).series;
// Every point of a job's series, as they were logged: take([{series, step, time_ms, value}]), some thousand at a time. Not dropped with
// the page that asked, as no download is.
export const points = (n, take) => request(`v1/jobs/${id(n)}/export?format=ndjson`, {}, async (response) => {
        let rest = '';
        const lines = new WritableStream({write(text) {
                const all = (rest + text).split('\n');
                rest = String(all.pop());
                take(all.map((line) => JSON.parse(line)));
        }});
        await response.body?.pipeThrough(new TextDecoderStream()).pipeTo(lines);
});
// Everything that happened to it after the event with that id: {events, next}.
export const history = (n, after, signal) => json(`v1/jobs/${id(n)}/events${query({after, limit: 1000})}`, signal);
export const devices = async (signal) => (await json('v1/devices', signal)).devices;
export const drain = (name, preempt) => post(`v1/devices/${encodeURIComponent(name)}/drain`, {preempt});
export const enable = (name) => post(`v1/devices/${encodeURIComponent(name)}/enable`);
export const schema = (signal) => json('v1/configs/schema', signal);
export const configs = async (signal) => (await json('v1/configs', signal)).configs;
export const datasets = async (signal) => (await json('v1/datasets', signal)).datasets;
export const submit = (body) => post('v1/jobs', body);
// What a submission would need: {steps, memory_bytes, devices, seconds}; refused as the submission would be.
export const check = (body, signal) => post('v1/jobs?dry_run=true', body, signal);
export const config = (name, signal) => json(`v1/configs/${encodeURIComponent(name)}`, signal);
export const text = (path, signal) => request(path, {signal}, (r) => r.text());
export const attempts = async (n, signal) => (await json(`v1/jobs/${id(n)}/attempts`, signal)).attempts;
export const artifacts = async (n, signal) => (await json(`v1/jobs/${id(n)}/artifacts`, signal)).artifacts;
export const keep = (a, pinned) => send('PATCH', artifactUrl(a), {pinned});
export const artifactUrl = (a) => `v1/artifacts/${id(a.id)}`;
export const logUrl = (n) => `v1/jobs/${id(n)}/log`;

// The log's last lines (from null), or what came after a byte: {bytes, next, cut}; next: where to go on; cut: there is
// more before.
export const log = (n, from, lines, signal) =>
        request(logUrl(n) + query(from === null ? {tail: lines} : {offset: from}), {signal}, async (response) => {
                const bytes = new Uint8Array(await response.arrayBuffer());
                const size = Number(response.headers.get('X-Log-Size') ?? bytes.length);
                return {bytes, next: Number(response.headers.get('X-Log-Next-Offset') ?? (from ?? 0) + bytes.length), cut: from === null && bytes.length < size};
        });

// Numbers that JSON cannot say come as texts; null means unknown.
/** @param {unknown} v @returns {number | null} */
export const number = (v) => (typeof v === 'number' || v === 'NaN' || v === 'Infinity' || v === '-Infinity' ? Number(v) : null);
