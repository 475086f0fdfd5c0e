// When to ask again. A poll runs its function, waits as long as that says, and runs it again; not while the page is
// hidden; slower and slower while nobody answers. It tells `state` whether the server is there.

import {Unreachable} from './api.js';

const listeners = new Set();
let state = {reachable: null, retryAt: 0, text: ''};

export function onLink(listener) {
        listeners.add(listener);
        listener(state);
        return () => listeners.delete(listener);
}

function link(next) {
        state = next;
        for (const l of listeners)
                l(state);
}

const FIRST_RETRY_MS = 1000, LAST_RETRY_MS = 15000;

// run(): async; answers milliseconds until the next time, or null: not again until poke(). failed(error): what the
// server refused, or a bug; the poll goes on as after null. Returns {poke, stop}.
export function poll(run, failed) {
        let timer = 0, stopped = false, running = false, again = false, retry = FIRST_RETRY_MS, resting = false;

        async function turn() {
                clearTimeout(timer);
                if (stopped || document.hidden)
                        return;
                if (running) {
                        again = true;
                        return;
                }
                running = true;
                again = false;
                let wait = null;
                try {
                        wait = await run();
                        retry = FIRST_RETRY_MS;
                        if (!stopped)
                                link({reachable: true, retryAt: 0, text: ''});
                } catch (e) {
                        if (e instanceof Unreachable) {
                                wait = retry;
                                retry = Math.min(2 * retry, LAST_RETRY_MS);
                                if (!stopped)
                                        link({reachable: false, retryAt: Date.now() + wait, text: e.message});
                        } else if (!stopped) {
                                failed(e);
                        }
                }
                running = false;
                if (stopped)
                        return;
                resting = wait === null && !again;
                if (!resting)
                        timer = setTimeout(turn, again ? 0 : wait);
        }

        const visible = () => {
                if (!document.hidden && !resting)
                        turn();
        };
        document.addEventListener('visibilitychange', visible);
        const poke = () => {
                retry = FIRST_RETRY_MS;
                turn();
        };
        pokes.add(poke);
        turn();
        return {
                poke,
                stop() {
                        stopped = true;
                        clearTimeout(timer);
                        pokes.delete(poke);
                        document.removeEventListener('visibilitychange', visible);
                },
        };
}

const pokes = new Set();

// Everything asks now: the user pressed "Try now".
export function pokeAll() {
        for (const p of pokes)
                p();
}
