// A table's rows of which only those in sight are in the page. All have the height that the table's --row says.
import {Component, h} from './dom.js';

const LEAST = 62; // pixels of a row, where the sheet says no other
const AROUND = 8; // rows above and below what is seen

// properties: items; id(item); row(item, index): a tr with that id as key; columns: how many; seen(first, end): called
// when other rows come into sight.
export class Rows extends Component {
        #frame = 0;
        #focused = null; // its row stays in the page, or the keyboard's user would be thrown out

        state = {first: 0, end: Math.ceil(innerHeight / LEAST)}; // what may be in sight; the rows around it follow with the next frame

        later = () => {
                this.#frame ||= requestAnimationFrame(() => {
                        this.#frame = 0;
                        this.measure();
                });
        };

        componentDidMount() {
                addEventListener('scroll', this.later, {passive: true});
                addEventListener('resize', this.later);
                setTimeout(this.later); // when what is in sight has been painted
        }

        componentDidUpdate = this.later;

        componentWillUnmount() {
                removeEventListener('scroll', this.later);
                removeEventListener('resize', this.later);
                cancelAnimationFrame(this.#frame);
        }

        measure() {
                const height = parseFloat(getComputedStyle(this.body).getPropertyValue('--row')) || LEAST, top = this.body.getBoundingClientRect().top;
                const first = Math.max(0, Math.floor(-top / height) - AROUND), end = Math.max(first, Math.ceil((innerHeight - top) / height) + AROUND);
                if (first !== this.state.first || end !== this.state.end)
                        this.setState({first, end});
                this.props.seen(first, Math.min(end, this.props.items.length));
        }

        render({items, id, row, columns}, state) {
                const end = Math.min(state.end, items.length), first = Math.min(state.first, end);
                const rows = items.slice(first, end).map((item, i) => row(item, first + i));
                const space = (key, n) => (n > 0 ? h('tr.space', {key, 'aria-hidden': 'true'}, h('td', {colspan: columns, style: {height: `calc(${n} * var(--row))`}})) : null);
                const kept = this.#focused === null ? -1 : items.findIndex((item) => id(item) === this.#focused);
                const above = kept >= 0 && kept < first, below = kept >= end;
                return h('tbody', {
                        ref: (e) => { this.body = e; },
                        onfocusin: (e) => { this.#focused = id(items[Number(e.target.closest('tr').ariaRowIndex) - 2]); },
                        onfocusout: () => { this.#focused = null; },
                },
                // one list: a row that moves from one of several to another would be made anew, and lose the focus
                [...above ? [space('above', kept), row(items[kept], kept), space('above2', first - kept - 1)] : [space('above', first)], ...rows,
                        ...below ? [space('below', kept - end), row(items[kept], kept), space('below2', items.length - kept - 1)] : [space('below', items.length - end)]]);
        }
}
