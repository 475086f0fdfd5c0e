// What the jobs use of their devices, as it was while they ran: a worker says it with every point that it logs.
import {Sparkline} from '../../lib/chart.js';
import {format, h, Listed} from '../../lib/page.js';

/** @type {Record<string, [string, (v: number | null) => string]>} */
const SERIES = {
        'device/busy': ['Utilisation', (v) => (v === null ? '–' : `${Math.round(100 * v)} %`)],
        'device/memory_mib': ['Memory', (v) => format.bytes(v === null ? null : v * 2 ** 20)],
        'device/celsius': ['Temperature', (v) => `${format.real(v, 3)} °C`],
        'device/watts': ['Power', (v) => `${format.real(v, 3)} W`],
};
export const NAMES = Object.keys(SERIES);

// properties: devices: as the server lists them; use: job -> series -> {mean, last}, as of glance(). What no device tells has
// no column.
export function Use({devices, use}) {
        const rows = devices.filter((d) => use.get(d.job)?.size).map((d) => ({id: d.name, job: d.job, of: use.get(d.job)}));
        const cell = (name) => (row) => {
                const s = row.of.get(name), [, write] = SERIES[name], known = s?.mean.filter(Number.isFinite) ?? [];
                return !s ? '–' : [h('span.num', null, write(s.last)), h(Sparkline, {values: s.mean}), h('span.run-sub', null, `${write(Math.min(...known))} to ${write(Math.max(...known))}`)];
        };
        return h(Listed, {title: 'Use over time', note: 'Since the job there began', rows, more: 'more', columns: [['Device', (r) => h('b', null, r.id)], ['Runs', (r) => h('a', {href: `#/jobs/${r.job}`}, `#${r.job}`)],
                ...NAMES.filter((name) => rows.some((r) => r.of.has(name))).map((name) => /** @type {[string, (row: any) => any]} */ ([SERIES[name][0], cell(name)]))]});
}
