// A run's curves: the whole of every series in about a thousand buckets, and the part that is seen in as many.
import * as api from './api.js';
import {combine, Curves} from './curves.js';
import {isNoisy} from './lines.js';

const MARGIN = 0.25;   // of a part, read on both sides of it
const SETTLE_MS = 120; // a view that moves on and on is read when it rests

export class RunCurves {
        #id;
        /** @type {AbortController | null} */
        #control = null; // of the detail's request
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        #timer;
        #looked = -Infinity; // when, in milliseconds
        #combined = new Map(); // name -> {version, series}

        // wants(names): the set of those that are shown now; others are not read.
        constructor(id, wants) {
                this.#id = id;
                this.wants = wants;
                this.rows = [];
                this.whole = new Curves(id);
                /** @type {Curves | null} */
                this.detail = null;
                this.loaded = false;
        }

        async update(signal) {
                this.rows = await api.seriesNames(this.#id, signal);
                const shown = this.wants(this.rows.map((r) => r.name));
                await this.whole.update(this.rows.filter((r) => shown.has(r.name)), signal);
                this.loaded = true;
                for (const s of this.whole.series.values())
                        s.noisy ||= isNoisy(s); // for good: a drawing does not change its kind halfway
                await this.detail?.update(this.#coarse(), signal);
        }

        // Of these a part can be read more finely.
        #coarse() {
                return this.rows.filter((r) => (this.whole.series.get(r.name)?.width ?? 1) > 1);
        }

        // Reads the steps that are seen more finely, where they are not known to the last point yet. changed(error or null).
        look(steps, changed) {
                clearTimeout(this.#timer);
                this.#control?.abort();
                if (!steps) {
                        this.detail = null;
                        return;
                }
                const now = performance.now(), wait = now - this.#looked < SETTLE_MS ? SETTLE_MS : 0;
                this.#looked = now;
                this.#timer = setTimeout(async () => {
                        const size = steps.to - steps.from;
                        const detail = new Curves(this.#id, Math.max(0, Math.floor(steps.from - MARGIN * size)), Math.ceil(steps.to + MARGIN * size));
                        const control = this.#control = new AbortController();
                        try {
                                await detail.update(this.#coarse(), control.signal);
                        } catch (e) {
                                if (!(e instanceof api.Dropped))
                                        changed(e);
                                return;
                        }
                        this.detail = detail;
                        changed(null);
                }, wait);
        }

        stop() {
                clearTimeout(this.#timer);
                this.#control?.abort();
        }

        // As they are drawn now.
        /** @returns {import('./curves.js').Series[]} */
        series() {
                const part = this.detail;
                return [...this.whole.series.values()].map((s) => {
                        const detail = part?.series.get(s.name);
                        if (!part || !detail || detail.width >= s.width)
                                return s;
                        const version = `${s.version} ${detail.version}`, known = this.#combined.get(s.name);
                        if (known?.version === version)
                                return known;
                        const made = combine(s, detail, part.from, part.to);
                        this.#combined.set(s.name, made);
                        return made;
                });
        }
}
