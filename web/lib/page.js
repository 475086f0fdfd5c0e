// What all pages are: a way back, a title, a view that is drawn once a frame however many answers come, and things that end
// when another page is gone to.
import {ask, draw, h} from './dom.js';

export class Page {
        error = null; // what went wrong last
        left = false;
        /** @type {{poke(): void, stop(): void} | undefined} */
        loop; // that reads what is shown
        #frame = 0;
        #ends = new Set();

        // name: of a page below the list of runs; '': that list.
        constructor(main, name) {
                this.main = main;
                document.title = `${name || 'Runs'} · mulund`;
                draw([name ? [h('a', {href: '#/'}, 'Runs'), h('span.sep', {'aria-hidden': 'true'}, '/')] : null, h('span', {'aria-current': 'page'}, name || 'Runs')], document.getElementById('crumbs'));
        }

        // What is stopped when the page is left.
        /** @template {{stop(): void}} T @param {T} thing @returns {T} */
        own(thing) {
                this.#ends.add(thing);
                return thing;
        }

        leave() {
                this.left = true;
                cancelAnimationFrame(this.#frame);
                for (const thing of this.#ends)
                        thing.stop();
        }

        fail(e) {
                this.error = e;
                this.draw();
        }

        // Asks, does what was agreed to, and reads what became of it.
        async act(question, call) {
                const answer = await ask(question);
                try {
                        if (answer)
                                await call(answer);
                        this.loop?.poke();
                } catch (e) {
                        this.fail(e);
                }
        }

        draw() {
                this.#frame ||= requestAnimationFrame(() => this.drawNow());
        }

        drawNow() {
                cancelAnimationFrame(this.#frame);
                this.#frame = 0;
                if (!this.left)
                        draw(this.view(), this.main);
        }

        // As the page is now.
        view() {
                return /** @type {any} */ (null);
        }
}

// What could not be done, and why.
export function Trouble({title, error}) {
        return error && h('div.card.problem', {role: 'alert'}, h('h2', null, title), h('p', null, typeof error === 'string' ? error : error.message));
}
