// Elements without markup: what users and workers wrote only ever becomes text or a checked attribute.

// h('a.button', {href: '#/'}, 'Runs'): tag with classes; properties (on... are listeners, data-/aria- and others are
// attributes, undefined and false are left out); children: strings, numbers, elements, arrays, null.
export function h(tag, properties, ...children) {
        const [name, ...classes] = tag.split('.');
        const e = document.createElement(name);
        if (classes.length)
                e.className = classes.join(' ');
        for (const [key, value] of Object.entries(properties ?? {})) {
                if (value === undefined || value === null || value === false)
                        continue;
                if (key.startsWith('on'))
                        e.addEventListener(key.slice(2), value);
                else if (key === 'value' || key === 'checked' || key === 'disabled' || key === 'hidden')
                        e[key] = value;
                else
                        e.setAttribute(key, value === true ? '' : String(value));
        }
        append(e, children);
        return e;
}

function append(e, children) {
        for (const c of children) {
                if (Array.isArray(c))
                        append(e, c);
                else if (c !== null && c !== undefined && c !== false)
                        e.append(c instanceof Node ? c : document.createTextNode(String(c)));
        }
}

// Sets the text only where it changed, so that selections and screen readers are left alone.
export function setText(e, text) {
        const s = String(text);
        if (e.textContent !== s)
                e.textContent = s;
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(name, attributes, ...children) {
        const e = document.createElementNS(SVG, name);
        for (const [key, value] of Object.entries(attributes ?? {}))
                e.setAttribute(key, String(value));
        append(e, children);
        return e;
}

// A question in a modal dialog; answers null or what `read` gives of the form's fields.
export function ask({title, text, fields = [], action, danger = false}) {
        return new Promise((resolve) => {
                const form = h('form', {method: 'dialog'},
                        h('h2', null, title), h('p', null, text), fields,
                        h('div.dialog-actions', null,
                                h('button.button', {type: 'button', onclick: () => dialog.close()}, 'Back'),
                                h(danger ? 'button.button.danger' : 'button.button.primary', {type: 'submit', value: 'yes'}, action)));
                const dialog = h('dialog', {'aria-label': title}, form);
                let answer = null;
                form.addEventListener('submit', () => {
                        answer = Object.fromEntries(new FormData(form));
                });
                dialog.addEventListener('close', () => {
                        dialog.remove();
                        resolve(answer);
                });
                document.body.append(dialog);
                dialog.showModal();
        });
}

// A button that copies text and says so.
export function copyButton(text, label = 'Copy') {
        const b = h('button.button.small', {type: 'button', onclick: async () => {
                try {
                        await navigator.clipboard.writeText(text());
                        b.textContent = 'Copied';
                } catch {
                        b.textContent = 'Press Ctrl+C';
                }
                setTimeout(() => { b.textContent = label; }, 1500);
        }}, label);
        return b;
}
