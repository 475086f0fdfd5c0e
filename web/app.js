// The frame: which page the address names, the state of the link to mulund, the banner when there is none.
import {draw, h} from './lib/dom.js';
import {onLink, pokeAll} from './lib/events.js';
import * as runs from './pages/runs/index.js';
import * as job from './pages/job/index.js';

const ROUTES = [
        [/^#?\/?$/, () => runs.mount(main, crumbs)],
        [/^#\/jobs\/(\d{1,15})$/, (m) => job.mount(main, crumbs, Number(m[1]))],
];

const main = document.getElementById('main');
const crumbs = document.getElementById('crumbs');
let leave = null;

function show() {
        leave?.();
        leave = null;
        draw(null, main);
        draw(null, crumbs);
        document.title = 'mulund';
        for (const [pattern, mount] of ROUTES) {
                const m = pattern.exec(location.hash);
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
document.querySelector('.skip').addEventListener('click', (e) => {
        e.preventDefault();
        main.focus();
        main.scrollIntoView();
});

const linkState = document.getElementById('link-state');
const banner = document.getElementById('banner');
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
        if (reachable !== false) {
                draw(null, banner);
                return;
        }
        tell(retryAt);
        countdown = setInterval(() => tell(retryAt), 500);
});

show();
