// A run's curves: the whole of every series in about a thousand buckets, and the part that is seen in as many.
import * as api from './api.js';
import {combine, Curves, readTogether} from './curves.js';
import {isNoisy} from './lines.js';

const MARGIN = 0.25;   // of a part, read on both sides of it
const SETTLE_MS = 120; // a view that moves on and on is read when it rests
const GRID = 32;       // of a part, into which its ends are rounded: runs whose buckets end elsewhere still share a question

export class RunCurves {
        #id;
        #combined = new Map(); // name -> {version, series}

        // wants(names): the set of those that are shown now; others are not read.
        constructor(id, wants) {
                this.#id = id;
                this.wants = wants;
                this.rows = [];
                this.whole = new Curves(id);
                this.detail = /** @type {Curves | null} */ (null);
                this.loaded = false;
        }

        async update(signal) {
                this.rows = await api.seriesNames(this.#id, signal);
                const shown = this.wants(this.rows.map((r) => r.name));
                await readTogether([{curves: this.whole, rows: this.rows.filter((r) => shown.has(r.name))}], signal);
                this.loaded = true;
                for (const s of this.whole.series.values())
                        s.noisy ||= isNoisy(s); // for good: a drawing does not change its kind halfway
                if (this.detail)
                        await readTogether([{curves: this.detail, rows: this.coarse()}], signal);
        }

        // Of these a part can be read more finely.
        coarse() {
                return this.rows.filter((r) => (this.whole.series.get(r.name)?.width ?? 1) > 1);
        }

        // The steps of a part with what is beside it, to be read more finely.
        /** @param {{from: number, to: number}} part */
        finer({from, to}) {
                const size = to - from, cell = 2 ** Math.floor(Math.log2(Math.max(1, size / GRID)));
                return new Curves(this.#id, Math.max(0, Math.floor((from - MARGIN * size) / cell) * cell), Math.ceil((to + MARGIN * size) / cell) * cell);
        }

        // As they are drawn now.
        /** @returns {import('./curves.js').Series[]} */
        series() {
                const part = this.detail;
                return [...this.whole.series.values()].map((s) => {
                        const detail = part?.series.get(s.name);
                        if (!part || !detail || detail.width >= s.width)
                                return s;
                        const known = this.#combined.get(s.name), made = known?.version === `${s.version} ${detail.version}` ? known : combine(s, detail, part.from, part.to);
                        this.#combined.set(s.name, made);
                        return made;
                });
        }
}

// Reads finer what is seen of many runs, all of it before any is drawn.
export class Detail {
        #control = new AbortController();
        #timer = 0;
        #looked = -Infinity; // when, in milliseconds

        // parts: of each run the steps that are seen, or null: all of them. changed(error or null): once.
        /** @param {{curves: RunCurves, steps: {from: number, to: number} | null}[]} parts @param {(error: any) => void} changed */
        look(parts, changed) {
                this.stop();
                const seen = parts.filter((p) => p.steps), now = performance.now(), wait = now - this.#looked < SETTLE_MS ? SETTLE_MS : 0;
                for (const {curves} of parts.filter((p) => !p.steps))
                        curves.detail = null;
                this.#looked = now;
                if (seen.length && !wait)
                        this.#read(seen, changed);
                else if (seen.length)
                        this.#timer = setTimeout(() => this.#read(seen, changed), wait);
        }

        async #read(seen, changed) {
                const {signal} = this.#control = new AbortController(), details = seen.map(({curves, steps}) => curves.finer(steps));
                await readTogether(details.map((detail, i) => ({curves: detail, rows: seen[i].curves.coarse()})), signal).then(() => {
                        seen.forEach(({curves}, i) => { curves.detail = details[i]; });
                        changed(null);
                }, (e) => e instanceof api.Dropped || changed(e));
        }

        stop() {
                clearTimeout(this.#timer);
                this.#control.abort();
        }
}
