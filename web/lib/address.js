// What a page shows, kept in the address: back, reload and a link sent to a colleague show the same. What is as usual is
// left out. An address changes without a step of the browser's history, and while something is dragged only now and then:
// browsers refuse hundreds of changes in a row.
const REST_MS = 150;

function read(text, usual) {
        if (typeof usual === 'boolean')
                return text === '1';
        if (typeof usual === 'number')
                return text !== '' && Number.isFinite(Number(text)) ? Number(text) : usual;
        return Array.isArray(usual) ? text.split(',').filter(Boolean).map((item) => item.replace(/%2[5C]/g, decodeURIComponent)) : text;
}

function write(value) {
        return Array.isArray(value) ? value.map((item) => item.replace(/[%,]/g, encodeURIComponent)).join(',') : typeof value === 'boolean' ? (value ? '1' : '0') : String(value);
}

// '#/compare?jobs=1,2' -> ['#/compare', its parameters].
/** @returns {[string, URLSearchParams]} */
export function split(hash) {
        const at = hash.indexOf('?');
        return at < 0 ? [hash, new URLSearchParams()] : [hash.slice(0, at), new URLSearchParams(hash.slice(at + 1))];
}

export function link(path, state) {
        const q = new URLSearchParams(Object.entries(state).map(([k, v]) => [k, write(v)])).toString().replaceAll('%2C', ',');
        return q ? `${path}?${q}` : path;
}

export class Address {
        #timer = 0;
        #written = -Infinity; // when, in milliseconds

        // usual: name -> the value that is not written, which also gives its type; kept: names that are written always, so
        // that one's own habits never change what a link shows. changed(what was set): after that.
        constructor(usual, kept, changed) {
                this.usual = usual;
                this.kept = kept;
                this.changed = changed;
                const [path, q] = split(location.hash);
                this.path = path || '#/';
                this.flush = () => this.#timer && this.#settle();
                globalThis.addEventListener?.('click', this.flush, true); // before a link is followed
                this.silent = !kept.some((k) => q.has(k)); // it says nothing of what is always written
                this.state = Object.fromEntries(Object.entries(usual).map(([k, u]) => [k, q.has(k) ? read(q.get(k), u) : u]));
        }

        hash() {
                return link(this.path, Object.fromEntries(Object.entries(this.state).filter(([k, v]) => this.kept.includes(k) || write(v) !== write(this.usual[k]))));
        }

        set(change) {
                this.state = {...this.state, ...change};
                clearTimeout(this.#timer);
                const wait = this.#written + REST_MS - performance.now();
                if (wait > 0)
                        this.#timer = setTimeout(() => this.#settle(), wait);
                else
                        this.#settle();
                this.changed(change);
        }

        #settle() {
                this.#timer = 0;
                this.#written = performance.now();
                if (split(location.hash)[0] === this.path || (this.path === '#/' && location.hash === ''))
                        history.replaceState(null, '', this.hash());
        }

        stop() {
                removeEventListener('click', this.flush, true);
                clearTimeout(this.#timer);
        }
}
