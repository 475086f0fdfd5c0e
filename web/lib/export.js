// What a chart shows, as a file: CSV of its points, the drawing as SVG or PNG.
import {number, points, quoted} from './api.js';
import {AXES} from './axis.js';
import {curveColour, colour, DASHES} from './plot.js';

const TOP = 56, LINE = 16, MARGIN = 12; // pixels of the picture: title and legend above the drawing

/** @param {string} name @param {Blob} blob */
export function save(name, blob) {
        const a = document.createElement('a');
        a.href = URL.createObjectURL(blob);
        a.download = name.replace(/[^\w.-]+/g, '-');
        a.click();
        setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}

// A cell of RFC 4180; a text that a spreadsheet would compute begins with a quote instead.
function cell(v) {
        const text = v === null || v === undefined ? '' : String(v);
        return quoted(typeof v === 'string' && /^[=+@\t-]/.test(text) ? `'${text}` : text);
}

const line = (cells) => `${cells.map(cell).join(',')}\r\n`;

// Every point of the curves that are not hidden, from the server, since what is drawn is reduced; of a group those of its runs. An
// earlier attempt's points, which hold no more, are none of them. part: of the x axis, null: all.
/** @param {import('./lines.js').Curve[]} curves @param {import('./axis.js').Axis} axis @param {import('./view.js').View | null} part */
export async function csv(curves, axis, part) {
        const shown = curves.filter((c) => !c.off && !c.ghost).flatMap((c) => (c.of ?? [c]).map((member) => ({...member, name: c.name}))), own = axis !== AXES.step;
        const text = [line(['curve', 'run', 'step', 'time_ms', 'value', ...own ? [axis.label.toLowerCase()] : []])];
        for (const run of new Set(shown.map((c) => c.run))) {
                const of = new Map(shown.filter((c) => c.run === run).map((c) => [c.s.name, c]));
                await points(Number(run), (some) => {
                        for (const {series, step, time_ms: time, value} of some) {
                                const c = of.get(series), [x] = c ? axis.at({step: [step], time: [time]}, c.where) : [];
                                if (c && (!part || (x >= part.from && x <= part.to)))
                                        text.push(line([c.name, Number(run), step, time, number(value), ...own ? [x] : []]));
                        }
                });
        }
        return new Blob(text, {type: 'text/csv'});
}

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

// The drawing in view as SVG. u, ticks: of Plot.drawn().
export function svg(title, {u, ticks}, lines, {band, smoothing, references}) {
        const {left, top, width, height} = u.over.getBoundingClientRect(), box = u.root.getBoundingClientRect();
        const x0 = left - box.left, y0 = top - box.top + TOP, clip = `<clipPath id="c"><rect x="${x0}" y="${y0}" width="${width}" height="${height}"/></clipPath>`;
        const px = (v) => (x0 + u.valToPos(v, 'x')).toFixed(1), py = (v) => (y0 + u.valToPos(v, 'y')).toFixed(1);
        const soft = colour('--text-soft'), shown = lines.filter((l) => !l.off), out = [];
        for (const [v, text] of ticks.x)
                out.push(`<path d="M${px(v)} ${y0}v${height}" stroke="${colour('--grid')}"/><text x="${px(v)}" y="${y0 + height + LINE}" text-anchor="middle" fill="${soft}">${escaped(text)}</text>`);
        for (const [v, text] of ticks.y)
                out.push(`<path d="M${x0} ${py(v)}h${width}" stroke="${colour('--grid')}"/><text x="${x0 - 6}" y="${py(v)}" dy="4" text-anchor="end" fill="${soft}">${escaped(text)}</text>`);
        const runs = (x, y) => { // where a line has no holes: lists of points
                const parts = /** @type {[number, number][][]} */ ([[]]);
                x.forEach((v, i) => (y[i] === null || y[i] === undefined ? parts.push([]) : parts[parts.length - 1].push([v, y[i]])));
                return parts.filter((p) => p.length);
        };
        const path = (points) => `M${points.map(([x, y]) => `${px(x)} ${py(y)}`).join('L')}`;
        for (const l of shown) {
                const [x, most, least, mean, smoothed] = l.table, c = colour(curveColour(l.colour)), dash = DASHES[l.dash].join(' ');
                const draw = (y, more) => runs(x, y).forEach((p) => out.push(`<path d="${path(p)}" fill="none" stroke="${c}" ${more} clip-path="url(#c)"/>`));
                if (band)
                        runs(x, most).forEach((p, i) => out.push(`<path d="${path([...p, ...(runs(x, least)[i] ?? []).reverse()])}Z" fill="${c}" fill-opacity="0.16" clip-path="url(#c)"/>`));
                draw(mean, l.noisy && smoothing > 0 ? 'stroke-opacity="0.35"' : `stroke-width="1.75" stroke-dasharray="${dash}"`);
                if (l.noisy && smoothing > 0)
                        draw(smoothed, `stroke-width="2" stroke-dasharray="${dash}"`);
        }
        for (const {name, value} of references)
                out.push(`<path d="M${x0} ${py(value)}h${width}" stroke="${soft}" stroke-dasharray="4"/><text x="${x0 + width - 4}" y="${py(value)}" dy="-3" text-anchor="end" fill="${soft}">${escaped(name)} ${value.toFixed(2)}</text>`);
        let at = MARGIN;
        const legend = shown.map((l) => {
                const x = at;
                at += 34 + 7 * l.name.length;
                return `<path d="M${x} 40h14" stroke="${colour(curveColour(l.colour))}" stroke-width="3"/><text x="${x + 20}" y="44">${escaped(l.name)}</text>`;
        });
        return new Blob([`<svg xmlns="http://www.w3.org/2000/svg" width="${Math.max(box.width, at)}" height="${box.height + TOP}" font-family="system-ui, sans-serif" font-size="11" fill="${colour('--text')}">` +
                `<defs>${clip}</defs><rect width="100%" height="100%" fill="${colour('--card')}"/><text x="${MARGIN}" y="22" font-size="14" font-weight="600">${escaped(title)}</text>${legend.join('')}${out.join('')}</svg>`], {type: 'image/svg+xml'});
}

// The same, as the browser drew it.
export function png(title, {u}, lines) {
        const drawn = u.ctx.canvas, scale = devicePixelRatio, canvas = document.createElement('canvas'), c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
        canvas.width = drawn.width;
        canvas.height = drawn.height + TOP * scale;
        c.fillStyle = colour('--card');
        c.fillRect(0, 0, canvas.width, canvas.height);
        c.drawImage(drawn, 0, TOP * scale);
        c.scale(scale, scale);
        c.fillStyle = colour('--text');
        c.font = '600 14px system-ui, sans-serif';
        c.fillText(title, MARGIN, 22);
        c.font = '11px system-ui, sans-serif';
        let x = MARGIN;
        for (const l of lines.filter((k) => !k.off)) {
                c.fillStyle = colour(curveColour(l.colour));
                c.fillRect(x, 39, 14, 3);
                c.fillStyle = colour('--text');
                c.fillText(l.name, x + 20, 44);
                x += 34 + c.measureText(l.name).width;
        }
        return new Promise((resolve) => canvas.toBlob(resolve));
}
