// Views are Preact's virtual nodes, made by `h` and laid over the page by `draw`: what did not change stays the same
// element, so focus, a half-made click and a selection survive. What users and workers wrote only ever becomes text or
// an attribute's value; nothing here or elsewhere makes markup of it.
import {Component, h as create, render} from 'preact';

export {Component};

// h('a.button', {href: '#/'}, 'Runs'): a tag with its classes, or a component; properties, `key` and `ref` among them;
// children: strings, numbers, nodes, lists of these, null.
export function h(tag, properties, ...children) {
        if (typeof tag !== 'string')
                return create(tag, properties, ...children);
        const [name, ...classes] = tag.split('.');
        return create(name, classes.length ? {...properties, class: classes.join(' ')} : properties, ...children);
}

// Lays the view over what root holds. The element that had the focus keeps it, though it was moved; where it is gone (a button that
// did its work), root takes it: the keyboard's user stays where they were.
export function draw(view, root) {
        const on = document.activeElement, inside = root.contains(on);
        render(view, root);
        if (inside && document.activeElement === document.body)
                (on?.isConnected ? on : root).focus({preventScroll: true});
}

// A question in a modal dialog; answers null or what the form's fields hold.
/** @param {{title: string, text: string, fields?: unknown, action: string, danger?: boolean}} question @returns {Promise<any>} */
export function ask({title, text, fields = null, action, danger = false}) {
        return new Promise((resolve) => {
                const dialog = document.createElement('dialog');
                let answer = /** @type {Record<string, FormDataEntryValue> | null} */ (null);
                dialog.setAttribute('aria-label', title);
                render(h('form', {method: 'dialog', onsubmit: (e) => { answer = Object.fromEntries(new FormData(e.target)); }},
                        h('h2', null, title), h('p', null, text), fields,
                        h('div.dialog-actions', null,
                                h('button.button', {type: 'button', onclick: () => dialog.close()}, 'Back'),
                                h(`button.button.${danger ? 'danger' : 'primary'}`, {type: 'submit'}, action))), dialog);
                dialog.addEventListener('close', () => {
                        dialog.remove();
                        resolve(answer);
                });
                document.body.append(dialog);
                dialog.showModal();
        });
}

// Shuts the menu that an event is in; its button has the focus.
export function shut(e) {
        const menu = e.currentTarget.closest('details');
        menu.open = false;
        menu.querySelector('summary').focus();
}

// A button and what is below it while it is open, which holds() makes: Escape, or the focus elsewhere, shuts it.
export class Menu extends Component {
        render({label = undefined, text, kind = '', holds}, {open = false}) {
                return h(`details.menu${kind}`, {ontoggle: (e) => this.setState({open: e.currentTarget.open}), onkeydown: (e) => (e.key === 'Escape' ? shut(e) : undefined),
                        onfocusout: (e) => (e.currentTarget.contains(e.relatedTarget) ? undefined : e.currentTarget.removeAttribute('open'))},
                        h('summary', {'aria-label': label}, text), h('div', {tabindex: -1}, open ? holds() : null));
        }
}

const COPIED_MS = 1500;

// A button that copies what text() gives, and says so.
export class CopyButton extends Component {
        async copy() {
                const said = await navigator.clipboard?.writeText(this.props.text()).then(() => 'Copied', () => null); // there is none without https
                this.setState({said: said ?? 'Press Ctrl+C'});
                setTimeout(() => this.setState({said: null}), COPIED_MS);
        }

        render({label = 'Copy'}, {said}) {
                return h('button.button.small', {type: 'button', onclick: () => this.copy()}, said ?? label);
        }
}
