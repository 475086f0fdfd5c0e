// A row of the list of runs, and what is said to find one.
import {column, COLUMNS, USUAL} from '../../lib/columns.js';
import {flat, text} from '../../lib/config.js';
import {h} from '../../lib/page.js';
import {Tags, title, waiting} from '../../lib/parts.js';

// A row. of: {keys: of its columns, curves, selected, select(), tag(name)}.
export function row(j, index, {keys, curves, selected, select, tag}) {
        const why = waiting(j), cells = keys.map((key) => ({key, ...column(key)}));
        return h('tr', {key: j.id, 'aria-rowindex': index + 2, class: selected ? 'selected' : ''},
                h('td', {'data-label': 'Run'}, h('label.pick', null, h('input', {type: 'checkbox', checked: selected, 'aria-label': `Select ${title(j)}, run ${j.id}`, onchange: select})),
                        h('a.run-name', {href: `#/jobs/${j.id}`, title: title(j)}, title(j)),
                        h('span.run-sub', null, `#${j.id} · ${j.kind}`, j.config_name ? ` · ${j.config_name}` : '', h(Tags, {job: j, pick: tag})),
                        why ? h('span.run-sub.why', {title: why}, `Waiting: ${why}`) : null),
                cells.map((c) => h(`td.c-${c.key in COLUMNS ? c.key : 'key'}${USUAL.includes(c.key) ? '' : '.extra'}`, {key: c.key, 'data-label': c.title}, c.show(j, curves), c.under?.(j, curves))));
}

// What the search box says: '#12' an id, 'learning_rate=0.002' a value of the configuration, all else part of the name.
// Answers the text for the server and a test for what it does not know, or null.
export function search(typed) {
        const words = typed.trim().split(/\s+/).filter(Boolean), ids = words.filter((w) => /^#\d+$/.test(w)), pairs = words.filter((w) => /^[\w.]+=/.test(w)).map((w) => w.split('='));
        const matches = (config, [key, value]) => [...config].some(([k, v]) => (k === key || k.endsWith(`.${key}`)) && text(v) === value);
        return {text: words.filter((w) => !ids.includes(w) && !/^[\w.]+=/.test(w)).join(' '),
                test: ids.length || pairs.length ? (j) => (!ids.length || ids.includes(`#${j.id}`)) && pairs.every((p) => matches(flat(j.config), p)) : null};
}
