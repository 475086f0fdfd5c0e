// When to ask again: at once when the server tells that something happened, else from time to time. One tab of a browser
// holds the stream of what happens and tells the others, since a browser opens but few connections to a server. A poll
// runs its function, waits as long as that says, and runs it again; not while the page is hidden; slower and slower while
// nobody answers. It tells `onLink` whether the server is there.
import {Dropped, Problem, Unreachable} from './api.js';

const listeners = new Set();
/** @type {{reachable: boolean | null, retryAt: number}} */
let state = {reachable: null, retryAt: 0};

export function onLink(listener) {
        listeners.add(listener);
        listener(state);
}

function link(next) {
        state = next;
        for (const l of listeners)
                l(state);
}

const STREAM = 'mulund-events', PULSE_MS = 4000, SILENCE_MS = 10000; // the tab that holds the stream says so; the others believe it so long
const WAKE_MS = 1000, SLOW_MS = 15000; // between two questions while things happen; while nothing does
const channel = new BroadcastChannel(STREAM);
let heard = -Infinity;

/** @typedef {{type?: string, job?: number | null, lost?: boolean}} Message  without a type: only that there is a stream */

/** @param {Message} m */
function hear(m) {
        heard = m.lost ? -Infinity : performance.now();
        if (m.type || m.lost)
                for (const p of polls)
                        p.wake(m);
}

channel.onmessage = (e) => hear(e.data);

// How long to wait where nothing is told that would be asked for: a stream that lives tells.
export const pace = (ms) => (performance.now() - heard < SILENCE_MS ? Math.max(ms, SLOW_MS) : ms);

// Holds the stream for all tabs, until this one is hidden or the stream cannot be had.
function hold() {
        return new Promise((release) => {
                const source = new EventSource('v1/events');
                const tell = (/** @type {Message} */ m) => {
                        channel.postMessage(m);
                        hear(m);
                };
                const pulse = setInterval(() => source.readyState === EventSource.OPEN && tell({}), PULSE_MS);
                const end = () => {
                        if (!document.hidden && source.readyState !== EventSource.CLOSED)
                                return;
                        clearInterval(pulse);
                        source.close();
                        document.removeEventListener('visibilitychange', end);
                        release(null);
                };
                source.onopen = () => tell({});
                source.onerror = () => {
                        tell({lost: true});
                        end();
                };
                for (const type of ['job', 'progress', 'counts'])
                        source.addEventListener(type, (e) => tell({type, job: JSON.parse(e.data).job ?? null}));
                document.addEventListener('visibilitychange', end);
        });
}

// Without locks (an address that is neither https nor this machine) every tab asks from time to time.
export function listen() {
        let asked = false;
        const ask = async () => {
                if (asked || document.hidden || !navigator.locks)
                        return;
                asked = true;
                await navigator.locks.request(STREAM, () => (document.hidden ? null : hold()));
                asked = false;
        };
        document.addEventListener('visibilitychange', ask);
        ask();
}

const FIRST_RETRY_MS = 1000, LAST_RETRY_MS = 15000;
const polls = new Set();

class Poll {
        #run;
        #failed;
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        #timer;
        /** @type {AbortController | null} */
        #control = null; // of the question under way
        #again = false;
        #resting = false;
        #stopped = false;
        #retry = FIRST_RETRY_MS;
        #turned = -Infinity; // when it asked last

        constructor(run, failed, wakes) {
                this.#run = run;
                this.wakes = wakes;
                this.#failed = failed;
                this.visible = () => {
                        if (!this.#resting)
                                this.#turn();
                };
                document.addEventListener('visibilitychange', this.visible);
                polls.add(this);
                this.#turn();
        }

        // Asks now, or once more when what is under way has ended.
        poke() {
                this.#retry = FIRST_RETRY_MS;
                this.#turn();
        }

        // Something happened.
        /** @param {Message} m */
        wake(m) {
                if (this.#stopped || document.hidden || !(m.lost || this.wakes(m)))
                        return;
                clearTimeout(this.#timer);
                this.#timer = setTimeout(() => this.#turn(), Math.max(0, this.#turned + WAKE_MS - performance.now()));
        }

        // The question changed: what is under way is dropped.
        restart() {
                this.#control?.abort();
                this.poke();
        }

        stop() {
                this.#stopped = true;
                clearTimeout(this.#timer);
                this.#control?.abort();
                polls.delete(this);
                document.removeEventListener('visibilitychange', this.visible);
        }

        async #turn() {
                clearTimeout(this.#timer);
                if (this.#stopped || document.hidden)
                        return;
                if (this.#control) {
                        this.#again = true;
                        return;
                }
                this.#again = this.#resting = false;
                this.#turned = performance.now();
                const control = this.#control = new AbortController();
                const wait = await this.#ask(control.signal);
                this.#control = null;
                if (this.#stopped)
                        return;
                this.#resting = wait === null && !this.#again;
                if (!this.#resting)
                        this.#timer = setTimeout(() => this.#turn(), this.#again ? 0 : wait);
        }

        // Milliseconds until the next time, null: at rest.
        async #ask(signal) {
                try {
                        const wait = await this.#run(signal);
                        this.#retry = FIRST_RETRY_MS;
                        if (!signal.aborted)
                                link({reachable: true, retryAt: 0});
                        return wait;
                } catch (e) {
                        if (this.#stopped || e instanceof Dropped)
                                return null;
                        if (!(e instanceof Unreachable)) {
                                this.#failed(e);
                                return e instanceof Problem && e.status >= 500 ? LAST_RETRY_MS : null;
                        }
                        const wait = this.#retry;
                        this.#retry = Math.min(2 * wait, LAST_RETRY_MS);
                        link({reachable: false, retryAt: Date.now() + wait});
                        return wait;
                }
        }
}

// run(signal): async; answers milliseconds until the next time, or null: not again until poke(). failed(error): what the
// server refused, or a bug; the poll then rests, unless the server said that the fault is its own.
// wakes(message): whether it asks again when that happened.
/** @param {(signal: AbortSignal) => Promise<number | null>} run @param {(e: any) => void} failed @param {(m: Message) => boolean} [wakes] */
export function poll(run, failed, wakes = () => false) {
        return new Poll(run, failed, wakes);
}

// Everything asks now: the user pressed "Try now".
export function pokeAll() {
        for (const p of polls)
                p.poke();
}
