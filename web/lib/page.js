// What all pages are: a way back, a title, a view that is drawn once a frame however many answers come, and things that end
// when another page is gone to; its sections and tables. And the pages' one door to what all of them are made of.
import {ask, Component, draw, h} from './dom.js';
import {poll} from './events.js';

export * as api from './api.js';
export * as format from './format.js';
export {ask, Component, CopyButton, h, Menu} from './dom.js';
export {pace} from './events.js';
export {may} from './session.js';

const SOME = 12;       // rows of a table at once
const SOON_MS = 250;   // without a key, until what was typed is used

export class Page {
        error = /** @type {any} */ (null); // what cannot be read, until it is
        declined = /** @type {any} */ (null); // what could not be done, until that is closed
        left = false;
        loop = /** @type {ReturnType<typeof poll> | undefined} */ (undefined); // that reads what is shown
        #frame = 0;
        #later = 0;
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

        // Polls until the page is left.
        /** @param {(signal: AbortSignal) => Promise<number | null>} read @param {(m: import('./events.js').Message) => boolean} [wakes] */
        poll(read, wakes, failed = (/** @type {any} */ e) => this.fail(e)) {
                return this.own(poll(read, failed, wakes));
        }

        leave() {
                this.left = true;
                cancelAnimationFrame(this.#frame);
                clearTimeout(this.#later);
                for (const thing of this.#ends)
                        thing.stop();
        }

        fail(e) {
                this.error = e;
                this.draw();
        }

        // Of what could not be done; null: it was, or has been read.
        decline(e) {
                this.declined = e;
                this.draw();
        }

        // Asks, does what was agreed to, and reads what became of it.
        async act(question, call) {
                const answer = await ask(question);
                this.decline(answer && await call(answer).then(() => null, (e) => e));
                this.loop?.poke();
        }

        // What went wrong, with a way on.
        troubles(title = 'That could not be read') {
                return [h(Trouble, {key: 'declined', title: 'That did not work', error: this.declined, way: ['Close', () => this.decline(null)]}),
                        h(Trouble, {key: 'error', title, error: this.error, way: ['Try again', () => this.loop?.poke()]})];
        }

        // Calls when this was not called again for a moment.
        soon(call) {
                clearTimeout(this.#later);
                this.#later = setTimeout(call, SOON_MS);
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

        /** As the page is now. @returns {any} */
        view() {}
}

// What could not be done, and why. way: what a button says and does.
/** @param {{title: string, error: any, way?: [string, () => void]}} properties */
export function Trouble({title, error, way}) {
        return error && h('div.card.problem', {role: 'alert'}, h('h2', null, title), h('p', null, typeof error === 'string' ? error : error.message), way && h('button.button.small', {type: 'button', onclick: way[1]}, way[0]));
}

// A part of a page under its title. beside: what stands beside that.
export const Section = ({title, label = title, beside, children}) => h('section', {'aria-label': label}, h('div.section-head', null, h('h2', null, title), beside), children);

// Names and what they mean: [[name, meaning, title]].
export const pairs = (all) => h('dl.config-list', null, all.map(([name, meaning, title]) => h('div', {key: name, title}, h('dt', null, name), h('dd', null, meaning))));

// A table some rows at a time: a long run has hundreds. properties: title; note; rows; columns: [[name, cell(row)]]; shape; more: what
// the others are.
export class Listed extends Component {
        state = {shown: SOME};

        render({title, note, rows, columns, shape = 'rows', more = 'older'}, {shown}) {
                const left = rows.length - shown;
                return !rows.length ? null : h(Section, {title, beside: h('span.soft', null, note)},
                        h('div.card.table-card', null, h(`table.${shape}`, null,
                                h('thead', null, h('tr', null, columns.map(([name]) => h('th', {key: name, scope: 'col'}, name)))),
                                h('tbody', null, rows.slice(0, shown).map((r) => h('tr', {key: r.id}, columns.map(([name, cell]) => h('td', {key: name, 'data-label': name}, cell(r)))))))),
                        left > 0 ? h('div.more', null, h('button.button', {type: 'button', onclick: () => this.setState({shown: shown + 4 * SOME})}, `Show ${Math.min(left, 4 * SOME)} ${more}`)) : null);
        }
}
