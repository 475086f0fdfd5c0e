// The frame: which page the address names, the state of the link to mulund, the banner when there is none.
import {h, setText} from './lib/dom.js';
import {onLink, pokeAll} from './lib/events.js';
import * as runs from './pages/runs.js';
import * as job from './pages/job.js';

const ROUTES = [
        [/^#?\/?$/, () => runs.mount],
        [/^#\/jobs\/(\d{1,15})$/, (m) => (root) => job.mount(root, Number(m[1]))],
];

const main = document.getElementById('main');
const crumbs = document.getElementById('crumbs');
let leave = null;

function show() {
        leave?.();
        leave = null;
        main.replaceChildren();
        crumbs.replaceChildren();
        document.title = 'mulund';
        for (const [pattern, route] of ROUTES) {
                const m = pattern.exec(location.hash);
                if (m) {
                        leave = route(m)({main, crumbs});
                        window.scrollTo(0, 0);
                        return;
                }
        }
        main.append(h('div.empty', null, h('h2', null, 'There is no such page'), h('p', null, h('a', {href: '#/'}, 'All runs'))));
}

const linkState = document.getElementById('link-state');
const banner = document.getElementById('banner');
const bannerText = h('span');
banner.append(bannerText, h('button.button.small', {type: 'button', onclick: pokeAll}, 'Try now'));
let countdown = 0;

onLink((s) => {
        linkState.dataset.state = s.reachable === null ? 'wait' : s.reachable ? 'good' : 'bad';
        setText(linkState, s.reachable === null ? 'connecting' : s.reachable ? 'connected' : 'not connected');
        banner.hidden = s.reachable !== false;
        clearInterval(countdown);
        if (s.reachable === false) {
                const tell = () => {
                        const left = Math.max(0, Math.ceil((s.retryAt - Date.now()) / 1000));
                        setText(bannerText, `mulund does not answer at ${location.host}. What you see may be old. Trying again in ${left} s.`);
                };
                tell();
                countdown = setInterval(tell, 500);
        }
});

window.addEventListener('hashchange', show);
show();
