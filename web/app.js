// The frame: which page the address names, the state of the link to mulund, the banner when there is none.
import {ask, draw, h} from './lib/dom.js';
import {listen, onLink, pokeAll} from './lib/events.js';
import {split} from './lib/address.js';
import * as compare from './pages/compare/index.js';
import * as job from './pages/job/index.js';
import * as fresh from './pages/new/index.js';
import * as runs from './pages/runs/index.js';

/** @param {string} id */
const part = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const main = part('main'), crumbs = part('crumbs'), skip = part('skip'), linkState = part('link-state'), banner = part('banner');

/** @type {{address: RegExp, mount: (m: RegExpExecArray) => () => void}[]} */
const ROUTES = [
        {address: /^#?\/?$/, mount: () => runs.mount(main, crumbs)},
        {address: /^#\/jobs\/(\d{1,15})$/, mount: (m) => job.mount(main, crumbs, Number(m[1]))},
        {address: /^#\/new$/, mount: () => fresh.mount(main, crumbs)},
        {address: /^#\/compare$/, mount: () => compare.mount(main, crumbs)},
];

/** @type {(() => void) | null} */
let leave = null;

function show() {
        leave?.();
        leave = null;
        draw(null, main);
        draw(null, crumbs);
        document.title = 'mulund';
        for (const {address, mount} of ROUTES) {
                const m = address.exec(split(location.hash)[0]);
                if (m) {
                        leave = mount(m);
                        return;
                }
        }
        draw(h('div.card.empty', null, h('h1', null, 'There is no such page'), h('p', null, h('a', {href: '#/'}, 'All runs'))), main);
}

window.addEventListener('hashchange', () => {
        show();
        window.scrollTo(0, 0);
        main.focus({preventScroll: true}); // else the focus falls to the body, and a screen reader says nothing
});

// Not by its address: that belongs to the pages.
skip.addEventListener('click', (e) => {
        e.preventDefault();
        main.focus();
        main.scrollIntoView();
});

/** @returns {HTMLElement | null} */
const find = (selector) => main.querySelector(selector);

// Keys for everybody who does not type into a field just now.
const KEYS = {
        '/': ['search', () => find('input[type=search]')?.focus()],
        j: ['the next run', () => walk(1)],
        k: ['the run before', () => walk(-1)],
        x: ['select it', () => find('tr:focus-within input[type=checkbox]')?.click()],
        c: ['compare what is selected', () => find('.selection a')?.click()],
        n: ['a new job', () => { location.hash = '#/new'; }],
        '?': ['these keys', () => help()],
};

function walk(by) {
        const all = [...main.querySelectorAll('.run-name')], at = all.indexOf(/** @type {Element} */ (document.activeElement));
        const next = /** @type {HTMLElement | undefined} */ (all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))]);
        next?.focus();
        next?.scrollIntoView({block: 'nearest'});
}

function help() {
        return ask({title: 'Keys', action: 'Good', text: 'Enter opens the run that has the focus. In a chart: arrow keys, plus, minus, 0.', fields: h('dl.config-list', null, Object.entries(KEYS).map(([key, [what]]) => h('div', {key}, h('dt', null, h('kbd', null, key)), h('dd', null, what))))});
}

document.addEventListener('keydown', (e) => {
        const on = /** @type {HTMLElement} */ (e.target);
        if (e.ctrlKey || e.metaKey || e.altKey || !Object.hasOwn(KEYS, e.key) || on.matches('input:not([type=checkbox]), select, textarea') || document.querySelector('dialog[open]'))
                return;
        e.preventDefault();
        KEYS[e.key][1]();
});

/** @type {ReturnType<typeof setInterval> | undefined} */
let countdown;

// What is announced stays the same while the seconds are counted, which is for the eye.
function tell(retryAt) {
        const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
        draw([
                h('span', {role: 'alert'}, `mulund does not answer at ${location.host}. What you see may be old.`),
                h('span', {'aria-hidden': 'true'}, `Trying again in ${left} s.`),
                h('button.button.small', {type: 'button', onclick: pokeAll}, 'Try now'),
        ], banner);
}

onLink(({reachable, retryAt}) => {
        linkState.dataset.state = reachable === null ? 'wait' : reachable ? 'good' : 'bad';
        draw(reachable === null ? 'connecting' : reachable ? 'connected' : 'not connected', linkState);
        clearInterval(countdown);
        banner.hidden = reachable !== false;
        if (reachable !== false) {
                draw(null, banner);
                return;
        }
        tell(retryAt);
        countdown = setInterval(() => tell(retryAt), 500);
});

listen();
show();
