// The frame: which page the address names, the state of the link to mulund, the banner when there is none.
import {ask, draw, h} from './lib/dom.js';
import {listen, onLink, pokeAll} from './lib/events.js';
import {split} from './lib/address.js';
import {onUnknown} from './lib/api.js';
import {Theme} from './lib/habits.js';
import {pairs} from './lib/page.js';
import {Known, Prompt, recognize} from './lib/session.js';
import {RunsPage} from './pages/runs/index.js';

const [main, crumbs, skip, linkState, banner, user, theme] = ['main', 'crumbs', 'skip', 'link-state', 'banner', 'user', 'theme'].map((id) => /** @type {HTMLElement} */ (document.getElementById(id)));

const LIST = /^#?\/?$/;
/** @type {[RegExp, (others: typeof import('./pages/others.js'), m: RegExpExecArray) => import('./lib/page.js').Page][]} */
const OTHERS = [
        [/^#\/jobs\/(\d{1,15})$/, ({JobPage}, m) => new JobPage(main, Number(m[1]))],
        [/^#\/devices$/, ({DevicesPage}) => new DevicesPage(main)],
        [/^#\/new$/, ({NewPage}) => new NewPage(main)],
        [/^#\/compare$/, ({ComparePage}) => new ComparePage(main)],
];

let page = /** @type {import('./lib/page.js').Page | null} */ (null);
let shown = 0; // pages until now

// Another takes the page's place.
function clear() {
        shown++;
        page?.leave();
        page = null;
        draw(null, main);
        draw(null, crumbs);
        document.title = 'mulund';
}

// The page, for whoever it is now.
async function enter() {
        show();
        const who = await recognize().catch(() => null); // the page itself says what is wrong
        if (!who)
                return;
        draw(who.token || who.user ? h(Known, {who, left: prompt}) : null, user);
        page?.draw();
        listen();
}

function prompt() {
        clear();
        draw(null, user);
        draw(h(Prompt, {known: enter}), main);
        find('input')?.focus();
}

onUnknown(() => page && prompt());

const nothing = (what, way) => draw(h('div.card.empty', null, h('h1', null, what), h('p', null, way)), main);

async function show() {
        clear();
        const at = shown, [hash] = split(location.hash), [address, make] = OTHERS.find(([a]) => a.test(hash)) ?? [];
        if (LIST.test(hash))
                return void (page = new RunsPage(main));
        if (!address || !make)
                return nothing('There is no such page', h('a', {href: '#/'}, 'All runs'));
        const others = await import('./pages/others.js').catch(() => null);
        if (at === shown && others)
                page = make(others, /** @type {any} */ (address.exec(hash)));
        else if (at === shown)
                nothing('This page could not be loaded', h('button.button', {type: 'button', onclick: () => location.reload()}, 'Try again'));
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
        a: ['select all, or none', () => find('thead input')?.click()],
        c: ['compare what is selected', () => find('.selection a')?.click()],
        n: ['a new job', () => { location.hash = '#/new'; }],
        d: ['the devices', () => { location.hash = '#/devices'; }],
        '?': ['these keys', () => ask({title: 'Keys', action: 'Good', text: 'Enter opens the run that has the focus. In a chart: arrow keys, plus, minus, 0.', fields: pairs(Object.entries(KEYS).map(([key, [what]]) => [h('kbd', null, key), what]))})],
};

function walk(by) {
        const all = [...main.querySelectorAll('.run-name')], at = all.indexOf(/** @type {Element} */ (document.activeElement));
        const next = /** @type {HTMLElement | undefined} */ (all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))]);
        next?.focus();
        next?.scrollIntoView({block: 'nearest'});
}

document.addEventListener('keydown', (e) => {
        const on = /** @type {HTMLElement} */ (e.target);
        if (e.ctrlKey || e.metaKey || e.altKey || !Object.hasOwn(KEYS, e.key) || on.matches('input:not([type=checkbox]), select, textarea') || document.querySelector('dialog[open]'))
                return;
        e.preventDefault();
        KEYS[e.key][1]();
});

let countdown = 0;

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
        if (banner.hidden)
                return draw(null, banner);
        tell(retryAt);
        countdown = setInterval(() => tell(retryAt), 500);
});

draw(h(Theme), theme);
enter();
