// Numbers, times and sizes as people read them.

export function integer(n) {
        return n === null || n === undefined ? '–' : Math.round(n).toLocaleString('en');
}

// Four significant digits, never in a form that jumps about.
export function real(v, digits = 4) {
        if (v === null || v === undefined)
                return '–';
        if (Number.isNaN(v))
                return 'NaN';
        if (!Number.isFinite(v))
                return v > 0 ? '∞' : '−∞';
        const a = Math.abs(v);
        if (a !== 0 && (a < 1e-4 || a >= 1e7))
                return v.toExponential(2).replace('-', '−').replace('e+', 'e');
        const s = a >= 10 ** (digits - 1) || Number.isInteger(v) ? Math.round(v).toLocaleString('en') : Number(v.toPrecision(digits)).toString();
        return s.replace('-', '−');
}

// A number and what it counts: "1 key", "2 keys".
export function count(n, noun) {
        return `${integer(n)} ${noun}${n === 1 ? '' : 's'}`;
}

// Steps on an axis: short, where that still tells them apart.
export function steps(all) {
        const short = all.map((v) => (v >= 1e6 ? `${Number((v / 1e6).toPrecision(4))}M` : v >= 1e4 ? `${Number((v / 1e3).toPrecision(4))}k` : integer(v)));
        return new Set(short).size === all.length ? short : all.map(integer);
}

// "± 0.024"; nothing where the error is not known: one image has none.
export function error(v, digits) {
        return v !== null && v !== undefined && Number.isFinite(v) ? `± ${fixed(v, digits)}` : '';
}

export function fixed(v, digits) {
        return v === null || v === undefined || !Number.isFinite(v) ? real(v ?? null) : v.toFixed(digits).replace('-', '−');
}

export function duration(seconds) {
        if (seconds === null || seconds === undefined || !Number.isFinite(seconds) || seconds < 0)
                return '–';
        const s = Math.round(seconds);
        if (s < 60)
                return `${s} s`;
        if (s < 3600)
                return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`;
        if (s < 86400)
                return `${Math.floor(s / 3600)} h ${String(Math.floor(s / 60) % 60).padStart(2, '0')} min`;
        return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

export function bytes(n) {
        if (n === null || n === undefined)
                return '–';
        const units = ['B', 'kB', 'MB', 'GB', 'TB'];
        let u = 0, v = n;
        while (v >= 1000 && u < units.length - 1) {
                v /= 1000;
                u++;
        }
        return `${u === 0 ? v : v.toPrecision(3)} ${units[u]}`;
}

export function when(text) {
        const t = Date.parse(text ?? '');
        if (Number.isNaN(t))
                return '–';
        const d = new Date(t), now = new Date();
        const time = d.toLocaleTimeString('en-GB', {hour: '2-digit', minute: '2-digit'});
        if (d.toDateString() === now.toDateString())
                return time;
        const day = d.toLocaleDateString('en-GB', {day: 'numeric', month: 'short', ...(d.getFullYear() === now.getFullYear() ? {} : {year: 'numeric'})});
        return `${day}, ${time}`;
}

export function exactly(text) {
        const t = Date.parse(text ?? '');
        return Number.isNaN(t) ? '' : new Date(t).toISOString().replace('T', ' ').replace(/\.\d+Z/, ' UTC');
}

// Seconds between two times of an answer; the second may be missing: until now.
export function between(from, to) {
        const a = Date.parse(from ?? ''), b = to ? Date.parse(to) : Date.now();
        return Number.isNaN(a) || Number.isNaN(b) ? null : Math.max(0, (b - a) / 1000);
}
