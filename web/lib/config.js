// Configurations as lists of paths and values: 'optimizer.learning_rate' -> 0.002.
const isTree = (v) => v !== null && typeof v === 'object' && !Array.isArray(v);

/** @returns {Map<string, unknown>} */
export const flat = (config, before = '') => new Map(Object.entries(config ?? {}).flatMap(([k, v]) => (isTree(v) ? [...flat(v, `${before}${k}.`)] : [[before + k, v]])));

// A value as it is written; what is absent is not what is null.
export const text = (v) => (v === undefined ? '–' : typeof v === 'string' ? v : JSON.stringify(v));

// The paths whose values are not the same in all of them.
/** @param {Map<string, unknown>[]} configs */
export const differing = (configs) => [...new Set(configs.flatMap((c) => [...c.keys()]))].filter((k) => new Set(configs.map((c) => text(c.get(k)))).size > 1);

// Least first; what is not known last, in either order.
export function compare(a, b, down) {
        const missing = (v) => v === null || v === undefined || Number.isNaN(v);
        return Number(missing(a)) - Number(missing(b)) || (missing(a) ? 0 : (typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b))) * (down ? -1 : 1));
}

// A list with one more, or without it where it has it.
export const toggled = (list, one) => (list.includes(one) ? list.filter((k) => k !== one) : [...list, one]);

// A key's last word; all of it where another of them ends like it.
export const brief = (key, all) => (all.some((k) => k !== key && k.endsWith(`.${key.split('.').pop()}`)) ? key : String(key.split('.').pop()));

// The rows of a schema: {path, type, description, default, minimum, maximum, enum, unit, ...}.
export function keys(schema, before = '') {
        return Object.entries(schema?.properties ?? {}).flatMap(([k, s]) => (s.properties ? keys(s, `${before}${k}.`) : [{...s, path: before + k}]));
}
