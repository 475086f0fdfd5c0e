// When to ask again. A poll runs its function, waits as long as that says, and runs it again; not while the page is
// hidden; slower and slower while nobody answers. It tells `onLink` whether the server is there.
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

        constructor(run, failed) {
                this.#run = run;
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
export function poll(run, failed) {
        return new Poll(run, failed);
}

// Everything asks now: the user pressed "Try now".
export function pokeAll() {
        for (const p of polls)
                p.poke();
}
