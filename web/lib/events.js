// When to ask again: at once when the server tells that something happened, else from time to time. One tab of a browser
// holds the stream of what happens and tells the others, since a browser opens but few connections to a server. A poll
// runs its function, waits as long as that says, and runs it again; not while the page is hidden; slower and slower while
// nobody answers. It tells `onLink` whether the server is there.
import {Dropped, onAnswer, Problem, Unreachable} from './api.js';

let link = /** @type {(state: {reachable: boolean | null, retryAt: number}) => void} */ (() => {});

export function onLink(listener) {
        link = listener;
        link({reachable: null, retryAt: 0});
}

onAnswer(() => { // a poll that had nothing to ask says nothing of that
        link({reachable: true, retryAt: 0});
        if (before)
                listen();
});

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

let asked = false, before = false; // for the stream, by this tab; at some time

// Asks for the stream, where this tab has not asked yet. Without locks (an address that is neither https nor this machine)
// every tab asks from time to time.
export async function listen() {
        if (asked || document.hidden || !navigator.locks)
                return;
        asked = before = true;
        await navigator.locks.request(STREAM, () => (document.hidden ? null : hold()));
        asked = false;
}

document.addEventListener('visibilitychange', listen);

const FIRST_RETRY_MS = 1000, LAST_RETRY_MS = 15000;
const polls = new Set();

// run(signal): async; answers milliseconds until the next time, or null: not again until poke(). failed(error): what the
// server refused, or a bug; the poll then rests, unless the server said that the fault is its own.
// wakes(message): whether it asks again when that happened.
/** @param {(signal: AbortSignal) => Promise<number | null>} run @param {(e: any) => void} failed @param {(m: Message) => boolean} [wakes] */
export function poll(run, failed, wakes = () => false) {
        let timer = 0;
        let control = /** @type {AbortController | null} */ (null); // of the question under way
        let again = false, told = false, stopped = false, retry = FIRST_RETRY_MS, turned = -Infinity, due = 0; // when it asked last, when it asks by itself

        // Milliseconds until the next time, null: at rest.
        async function ask(signal) {
                try {
                        const wait = await run(signal);
                        retry = FIRST_RETRY_MS;
                        return wait;
                } catch (e) {
                        if (stopped || e instanceof Dropped)
                                return null;
                        if (!(e instanceof Unreachable)) {
                                failed(e);
                                return e instanceof Problem && e.status >= 500 ? LAST_RETRY_MS : null;
                        }
                        const wait = retry;
                        retry = Math.min(2 * wait, LAST_RETRY_MS);
                        link({reachable: false, retryAt: Date.now() + wait});
                        return wait;
                }
        }

        // Asks when it is due, or a while after it asked last where something happened.
        function plan() {
                const at = Math.min(due, told ? turned + Math.max(WAKE_MS, self.apart) : Infinity);
                clearTimeout(timer);
                if (!stopped && at < Infinity)
                        timer = setTimeout(turn, at - performance.now());
        }

        async function turn() {
                clearTimeout(timer);
                if (stopped || document.hidden)
                        return;
                again = control !== null;
                if (control)
                        return;
                [told, due, turned] = [false, 0, performance.now()];
                control = new AbortController();
                const wait = await ask(control.signal);
                control = null;
                due = again ? 0 : performance.now() + (wait ?? Infinity);
                plan();
        }

        const visible = () => (due === Infinity && !told) || turn();
        const self = {
                apart: 0, // milliseconds between two questions, where what is asked for is much work
                // Asks now, or once more when what is under way has ended.
                poke() {
                        retry = FIRST_RETRY_MS;
                        turn();
                },
                // Something happened.
                /** @param {Message} m */
                wake(m) {
                        if (stopped || document.hidden || !(m.lost || wakes(m)))
                                return;
                        told = true;
                        if (!control)
                                plan();
                },
                // The question changed: what is under way is dropped.
                restart() {
                        control?.abort();
                        self.poke();
                },
                stop() {
                        stopped = true;
                        clearTimeout(timer);
                        control?.abort();
                        polls.delete(self);
                        document.removeEventListener('visibilitychange', visible);
                },
        };
        document.addEventListener('visibilitychange', visible);
        polls.add(self);
        turn();
        return self;
}

// Everything asks now: the user pressed "Try now".
export const pokeAll = () => polls.forEach((p) => p.poke());
