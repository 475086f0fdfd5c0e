// Any two of what came of the runs, what they differ in and how long they took, against each other: a mark a run.
import {h, Section} from '../../lib/page.js';
import {Choice} from '../../lib/panel.js';
import {curveColour} from '../../lib/plot.js';
import {axis} from './parallel.js';

const WIDTH = 800, HEIGHT = 340, LEFT = 90, BELOW = 50, SIDE = 30; // of the drawing

// properties: runs, columns: as of the table; state: {across, up: keys of columns, hide}; set(change).
export function Scatter({runs, columns, state: {across, up, hide}, set}) {
        const chosen = [across, up].map((key, i) => columns.find((c) => c.key === key) ?? (i ? columns[0] : columns.at(-1)));
        const [x, y] = chosen.map((c) => axis(c.axis, runs.map(c.value)));
        const right = (share) => LEFT + SIDE + share * (WIDTH - LEFT - 3 * SIDE), top = (share) => HEIGHT - BELOW - SIDE - share * (HEIGHT - BELOW - 2 * SIDE);
        const shown = runs.map((r, i) => ({r, i})).filter(({r, i}) => !hide.includes(r.id) && x.at[i] !== null && y.at[i] !== null);
        const choice = (label, at, key) => h(Choice, {label, value: chosen[at].key, options: columns.map((c) => [c.key, c.title]), change: (v) => set({[key]: v})});
        const word = (kind, px, py, said) => h(`text${kind}`, {x: px, y: py}, said);
        return runs.length < 2 ? null : h(Section, {title: 'One against another', beside: h('div.chart-controls', null, choice('Up', 1, 'up'), choice('Across', 0, 'across'))},
                h('div.card.diagram', {tabindex: 0, role: 'region', 'aria-label': 'Scatter, to scroll'}, h('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `${y.title} from ${y.low} to ${y.high} against ${x.title} from ${x.low} to ${x.high}, of ${shown.length} runs`},
                        h('g.rule', null, h('path', {d: `M${LEFT} ${SIDE}V${HEIGHT - BELOW}H${WIDTH - SIDE}`, fill: 'none'})),
                        word('', WIDTH / 2, HEIGHT - 8, x.title), word('.soft', right(0), HEIGHT - BELOW + 18, x.low), word('.soft', right(1), HEIGHT - BELOW + 18, x.high),
                        word('', LEFT, 16, y.title), word('.soft', LEFT / 2, top(0) + 4, y.low), word('.soft', LEFT / 2, top(1) + 4, y.high),
                        shown.map(({r, i}) => h('g', {key: r.id, style: {color: `var(${curveColour(r.colour)})`}}, h('title', null, `${r.name}: ${x.title} ${chosen[0].value(r)}, ${y.title} ${chosen[1].value(r)}`), h('circle', {cx: right(x.at[i]).toFixed(1), cy: top(y.at[i]).toFixed(1), r: 6}))))));
}
