// The door to /v1: JSON in and out, problem documents as errors. Addresses are relative, so a prefix in front is fine.

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
        constructor() {
                super('mulund does not answer');
        }
}

const TIMEOUT_MS = 15000;

async function request(path, options = {}) {
        let response;
        try {
                response = await fetch(path, {...options, signal: AbortSignal.timeout(TIMEOUT_MS), credentials: 'same-origin'});
        } catch {
                throw new Unreachable();
        }
        if (response.ok)
                return response;
        let document = null;
        try {
                document = await response.json();
        } catch {
                /* not a problem document: the status is all there is */
        }
        throw new Problem(response.status, document);
}

async function json(path, options) {
        const response = await request(path, {...options, headers: {Accept: 'application/json', ...options?.headers}});
        try {
                return await response.json();
        } catch {
                throw new Unreachable();
        }
}

function query(parameters) {
        const q = new URLSearchParams();
        for (const [key, value] of Object.entries(parameters))
                if (value !== undefined && value !== null && value !== '')
                        q.set(key, String(value));
        const s = q.toString();
        return s ? `?${s}` : '';
}

function post(path, body) {
        return json(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body ?? {})});
}

const id = (n) => {
        if (!Number.isSafeInteger(n) || n < 0)
                throw new Problem(404, {title: 'There is no such job'});
        return n;
};

export const jobs = (filter) => json(`v1/jobs${query(filter)}`);
export const job = (n) => json(`v1/jobs/${id(n)}`);
export const cancel = (n) => post(`v1/jobs/${id(n)}/cancel`);
export const resume = (n, steps) => post(`v1/jobs/${id(n)}/resume`, steps ? {steps} : {});
export const remove = (n) => request(`v1/jobs/${id(n)}`, {method: 'DELETE'});
export const seriesNames = async (n) => (await json(`v1/jobs/${id(n)}/series`)).series;
// Buckets of many series; from: first step wanted.
export const series = async ({jobs, names, points, from}) =>
        (await json(`v1/series${query({jobs: jobs.join(','), names: names.join(','), points, from})}`)).series;
export const artifacts = async (n) => (await json(`v1/jobs/${id(n)}/artifacts`)).artifacts;
export const artifactUrl = (a) => `v1/artifacts/${id(a.id)}`;
export const datasets = () => json('v1/datasets');
export const logUrl = (n) => `v1/jobs/${id(n)}/log`;

// The log's last lines (from null), or what came after a byte: {bytes, next, cut}; next: where to go on; cut: there is
// more before.
export async function log(n, from, lines) {
        const response = await request(logUrl(n) + query(from === null ? {tail: lines} : {offset: from}));
        const bytes = new Uint8Array(await response.arrayBuffer());
        const size = Number(response.headers.get('X-Log-Size') ?? bytes.length);
        return {bytes, next: Number(response.headers.get('X-Log-Next-Offset') ?? (from ?? 0) + bytes.length), cut: from === null && bytes.length < size};
}

// Numbers that JSON cannot say come as texts; null means unknown.
export function number(v) {
        if (typeof v === 'number')
                return v;
        if (v === 'NaN')
                return NaN;
        if (v === 'Infinity')
                return Infinity;
        if (v === '-Infinity')
                return -Infinity;
        return null;
}
