// A job's series, kept in the browser: read whole once, then only from the last bucket on.
//
// A series is {name, points, width, step[], count[], min[], max[], mean[], last[]}, a bucket an index; bucket b holds the
// steps of [k width, (k + 1) width). What is read later may come in finer buckets and is folded into these.
import * as api from './api.js';

const POINTS = 1000;       // buckets asked for
const TOO_MANY = 2 * POINTS; // above: read whole again, coarser
const NAMES_A_REQUEST = 24;

export class Curves {
        constructor(job) {
                this.job = job;
                this.series = new Map();
        }

        // Reads what is new. Answers whether anything changed.
        async update() {
                const rows = await api.seriesNames(this.job);
                const wanted = new Map(); // first step -> names
                for (const row of rows) {
                        const s = this.series.get(row.name);
                        let from = -1; // the whole
                        if (s && row.points === s.points && row.last_step === s.lastStep)
                                continue;
                        if (s && row.points > s.points && row.last_step >= s.lastStep && s.step.length < TOO_MANY && s.width > 0 && s.step.length)
                                from = Math.floor(s.step.at(-1) / s.width) * s.width;
                        if (!wanted.has(from))
                                wanted.set(from, []);
                        wanted.get(from).push(row);
                }
                for (const [from, list] of wanted)
                        for (let i = 0; i < list.length; i += NAMES_A_REQUEST)
                                await this.#read(from, list.slice(i, i + NAMES_A_REQUEST));
                const there = new Set(rows.map((r) => r.name));
                let gone = false;
                for (const name of this.series.keys())
                        if (!there.has(name))
                                gone = this.series.delete(name);
                return gone || wanted.size > 0;
        }

        async #read(from, rows) {
                const answers = await api.series({jobs: [this.job], names: rows.map((r) => r.name), points: POINTS,
                        from: from < 0 ? undefined : from});
                for (const a of answers) {
                        const row = rows.find((r) => r.name === a.name);
                        if (!row)
                                continue;
                        const old = from < 0 ? null : this.series.get(a.name);
                        const s = old ?? {name: a.name, width: a.bucket_width, step: [], count: [], min: [], max: [], mean: [], last: []};
                        s.points = row.points;
                        s.lastStep = row.last_step;
                        fold(s, a, from);
                        this.series.set(a.name, s);
                }
        }
}

// Puts answer a, which begins at step `from`, in place of what s has from there on.
export function fold(s, a, from) {
        let n = s.step.length;
        while (n > 0 && s.step[n - 1] >= from)
                n--;
        for (const key of ['step', 'count', 'min', 'max', 'mean', 'last'])
                s[key].length = n;
        for (let i = 0; i < a.step.length; i++) {
                const step = a.step[i], count = a.count[i];
                const [min, max, mean, last] = [a.min[i], a.max[i], a.mean[i], a.last[i]].map(api.number);
                const j = s.step.length - 1;
                const same = j >= n && s.width > 1 && Math.floor(s.step[j] / s.width) === Math.floor(step / s.width);
                if (!same) {
                        s.step.push(step);
                        s.count.push(count);
                        s.min.push(min);
                        s.max.push(max);
                        s.mean.push(mean);
                        s.last.push(last);
                        continue;
                }
                s.min[j] = least(s.min[j], min, Math.min);
                s.max[j] = least(s.max[j], max, Math.max);
                if (finite(mean) && finite(s.mean[j]))
                        s.mean[j] = (s.mean[j] * s.count[j] + mean * count) / (s.count[j] + count);
                else if (finite(mean))
                        s.mean[j] = mean;
                s.step[j] = step;
                s.count[j] += count;
                s.last[j] = last;
        }
}

const finite = (v) => typeof v === 'number' && Number.isFinite(v);

function least(a, b, choose) {
        return finite(a) && finite(b) ? choose(a, b) : finite(a) ? a : b;
}

// The last point of many jobs' series, and its shape in few buckets: {job: {step, mean, last}}.
export async function glance(jobs, name, points) {
        const result = new Map();
        if (!jobs.length)
                return result;
        for (const a of await api.series({jobs, names: [name], points}))
                result.set(a.job, {step: a.step, mean: a.mean.map(api.number), last: api.number(a.last.at(-1) ?? null)});
        return result;
}

// TensorBoard's smoothing: an average that forgets by `weight`, corrected for its start. Holes stay holes.
export function smooth(values, weight) {
        if (weight <= 0)
                return values;
        let average = 0, known = 0;
        return values.map((v) => {
                if (!finite(v))
                        return v;
                average = average * weight + (1 - weight) * v;
                known = known * weight + (1 - weight);
                return average / known;
        });
}
