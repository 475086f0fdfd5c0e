// A key of the configuration as a field of a form.
import {h} from '../../lib/page.js';

const isOf = (row, type) => [row.type].flat().includes(type);

// What was typed, as the value that is sent; what is no value of the row stays what it is, to be found wrong.
export function parse(row, typed) {
        if (isOf(row, 'null') && (typed === '' || typed === 'null'))
                return null;
        if (isOf(row, 'boolean'))
                return typed === 'true' ? true : typed === 'false' ? false : typed;
        if (isOf(row, 'string'))
                return typed;
        return typed.trim() === '' || Number.isNaN(Number(typed)) ? typed : Number(typed);
}

function range(row) {
        const between = row.minimum === undefined ? '' : `${row.minimum} to ${row.maximum}`;
        return [between, row['x-unit'] ?? '', isOf(row, 'null') ? 'empty: none' : ''].filter(Boolean).join(' ');
}

// properties: row: of the schema; value: as typed; usual; changed; error; choices: for a text, or null; change(typed).
export function Field({row, value, usual, changed, error, choices, change}) {
        const id = `key-${row.path}`, about = `${id}-about`, options = row.enum ?? (isOf(row, 'boolean') ? [true, false] : choices);
        const shared = {id, 'aria-describedby': about, 'aria-invalid': error ? 'true' : undefined};
        return h(`div.key${changed ? '.changed' : ''}`, null,
                h('label', {for: id}, row.path.split('.').slice(1).join('.') || row.path),
                options ? h('select', {...shared, value, onchange: (e) => change(e.target.value)}, [...new Set([...options.map(String), value])].map((v) => h('option', {key: v, value: v, selected: v === value}, v)))
                        : h('input', {...shared, type: 'text', inputmode: isOf(row, 'string') ? 'text' : 'decimal', value: value === 'null' ? '' : value, autocomplete: 'off', spellcheck: false, oninput: (e) => change(e.target.value)}),
                h('div', {id: about}, error ? h('span.field-error', {role: 'alert'}, `${error}. `) : null, h('span.soft', null, [row.description, range(row)].filter(Boolean).join('; '))),
                changed ? h('button.button.small', {type: 'button', title: `Back to ${usual}`, 'aria-label': `Undo: ${row.path} back to ${usual}`, onclick: () => change(usual)}, 'Undo') : null);
}
