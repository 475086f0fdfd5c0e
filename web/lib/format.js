// Numbers, times and sizes as people read them. Without Intl, whose first use in a page takes longer than a table's rows do.

const grouped = (n) => String(Math.round(n)).replace(/\d(?=(\d{3})+$)/g, '$&,');
export const integer = (n) => n === null || n === undefined ? '–' : grouped(n);

// Four significant digits, never in a form that jumps about.
export function real(v, digits = 4) {
        if (!Number.isFinite(v))
                return v === null || v === undefined ? '–' : Number.isNaN(v) ? 'NaN' : v > 0 ? '∞' : '−∞';
        const a = Math.abs(v);
        if (a !== 0 && (a < 1e-4 || a >= 1e7))
                return v.toExponential(2).replace('-', '−').replace('e+', 'e');
        const s = a >= 10 ** (digits - 1) || Number.isInteger(v) ? grouped(v) : Number(v.toPrecision(digits)).toString();
        return s.replace('-', '−');
}

// A number and what it counts: "1 key", "2 keys".
export const count = (n, noun) => `${integer(n)} ${noun}${n === 1 ? '' : 's'}`;

// Steps on an axis: short, where that still tells them apart.
export function steps(all) {
        const short = all.map((v) => (v >= 1e6 ? `${Number((v / 1e6).toPrecision(4))}M` : v >= 1e4 ? `${Number((v / 1e3).toPrecision(4))}k` : integer(v)));
        return new Set(short).size === all.length ? short : all.map(integer);
}

// "± 0.024"; nothing where the error is not known: one image has none.
export const error = (v, digits) => v !== null && v !== undefined && Number.isFinite(v) ? `± ${fixed(v, digits)}` : '';

export const fixed = (v, digits) => v === null || v === undefined || !Number.isFinite(v) ? real(v ?? null) : v.toFixed(digits).replace('-', '−');

export function duration(seconds) {
        if (seconds === null || seconds === undefined || !Number.isFinite(seconds) || seconds < 0)
                return '–';
        const s = Math.round(seconds), [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(s / unit)), two = (n) => String(n % 60).padStart(2, '0');
        return days ? `${days} d ${hours % 24} h` : hours ? `${hours} h ${two(minutes)} min` : minutes ? `${minutes} min ${two(s)} s` : `${s} s`;
}

const BYTES = ['B', 'kB', 'MB', 'GB', 'TB'];

export function bytes(n) {
        const u = BYTES.findLastIndex((_, i) => i === 0 || n >= 0.9995 * 1000 ** i);
        return n === null || n === undefined ? '–' : `${u === 0 ? n : (n / 1000 ** u).toPrecision(3)} ${BYTES[u]}`;
}

export const energy = (joules) => (joules === null || joules === undefined ? '–' : joules < 3.6e5 ? `${(joules / 3600).toPrecision(3)} Wh` : `${real(joules / 3.6e6, 3)} kWh`);

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

// A time of the day here, with its seconds.
export const clock = (d) => [d.getHours(), d.getMinutes(), d.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');

export function when(text) {
        const d = new Date(text ?? NaN), now = new Date(), time = clock(d).slice(0, 5), year = d.getFullYear();
        const day = `${d.getDate()} ${MONTHS[d.getMonth()]}${year === now.getFullYear() ? '' : ` ${year}`}`;
        return Number.isNaN(d.getTime()) ? '–' : year === now.getFullYear() && d.getMonth() === now.getMonth() && d.getDate() === now.getDate() ? time : `${day}, ${time}`;
}

export const exactly = (text) => String(text ?? '').replace('T', ' ').replace(/\.\d+Z/, ' UTC');

// Seconds between two times of an answer; the second may be missing: until now.
export function between(from, to) {
        const a = Date.parse(from ?? ''), b = to ? Date.parse(to) : Date.now();
        return Number.isNaN(a) || Number.isNaN(b) ? null : Math.max(0, (b - a) / 1000);
}
