// Who uses the page and what the server lets him do. What it would refuse has no button; until it has said, all have one.
import * as api from './api.js';
import {Component, h} from './dom.js';

const RANK = ['read', 'submit', 'admin'];

let who = /** @type {{role: string, token: string | null, user: string | null, session: boolean} | null} */ (null);

/** @param {'submit' | 'admin'} role */
export const may = (role) => who === null || RANK.indexOf(who.role) >= RANK.indexOf(role);

// Asks the server anew.
export const recognize = async () => (who = /** @type {NonNullable<typeof who>} */ (await api.session()));

// What a server asks for that does not know who asks. properties: known(): a session was opened.
export class Prompt extends Component {
        async open(e) {
                e.preventDefault();
                const said = (error) => this.setState({said: error instanceof api.Problem && error.status === 401 ? 'This server does not know that token, or no longer.' : error.message});
                await api.logIn(String(new FormData(e.target).get('token')).trim()).then(this.props.known, said);
        }

        render(_, {said}) {
                return h('form.card.empty.prompt', {onsubmit: (e) => this.open(e)},
                        h('h1', null, 'This server asks for a token'),
                        h('label.field', null, 'Token', h('input', {name: 'token', type: 'password', required: true, autocomplete: 'current-password', spellcheck: false, 'aria-describedby': 'prompt-about', 'aria-invalid': said ? 'true' : undefined})),
                        said ? h('p.field-error', {role: 'alert'}, said) : null,
                        h('p', null, h('button.button.primary', {type: 'submit'}, 'Open')),
                        h('p.soft', {id: 'prompt-about'}, 'On the server, ', h('code', null, 'mulunctl token add NAME --role read'), ' makes one (or submit, or admin), and ', h('code', null, 'mulunctl open'), ' opens this page without one. This browser keeps the session for a week, and not the token.'));
        }
}

// Who is known, and the way out. properties: who; left(): after it.
export function Known({who: {token, user, role, session}, left}) {
        return [h('span.soft', {title: `May ${role}`}, `${token ?? user ?? 'you'} · ${role}`), session ? h('button.button.small', {type: 'button', onclick: () => api.logOut().finally(left)}, 'Log out') : null];
}
