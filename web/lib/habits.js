// One's own habits, which this browser keeps: a convenience. There are browsers without storage, and nonsense in it.
import {Component, h} from './dom.js';

export function stored(work) {
        try {
                return work(localStorage);
        } catch {
                return null;
        }
}

const KEY = 'mulund.theme', THEMES = ['as the system', 'light', 'dark'], dark = matchMedia('(prefers-color-scheme: dark)');
let chosen = Math.max(0, THEMES.indexOf(stored((s) => s.getItem(KEY))));
export const theme = new EventTarget(); // tells of a change when the page has its colours

function wear() {
        document.documentElement.dataset.theme = chosen ? THEMES[chosen] : dark.matches ? 'dark' : 'light';
        theme.dispatchEvent(new Event('change'));
}

dark.addEventListener('change', wear);
wear();

// Goes from one theme to the next.
export class Theme extends Component {
        choose() {
                chosen = (chosen + 1) % THEMES.length;
                stored((s) => s.setItem(KEY, THEMES[chosen]));
                wear();
                this.setState({});
        }

        render() {
                const label = `Colours: ${THEMES[chosen]}`;
                return h('button.theme', {type: 'button', title: label, 'aria-label': label, onclick: () => this.choose()}, '◐');
        }
}
