// What workers write, as parts and rows: a terminal's text, a table.

const ESCAPE = /\x1b(?:\[([\d;]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])/; // CSI, OSC and the short ones
const NAMED = /^[39][0-7]$/, MANY = /[34]8;(5;\d*|2;\d*;\d*;\d*);?/g; // colours of 256 or of millions are left as they are

// A text with a terminal's sequences as parts: [{text, style}], style: 'ansi-1 bold', '' for none. Colours are the sixteen
// that have names; all other sequences are left out.
export function coloured(text) {
        const parts = [];
        let colour = '', bold = '';
        for (let rest = text, m; rest; rest = m ? rest.slice(m.index + m[0].length) : '') {
                m = ESCAPE.exec(rest);
                const plain = rest.slice(0, m?.index);
                if (plain)
                        parts.push({text: plain, style: `${colour} ${bold}`.trim()});
                for (const code of m?.[2] === 'm' ? (m[1] || '0').replace(MANY, '').split(';').filter(Boolean).map(Number) : []) {
                        bold = code === 1 ? 'bold' : code === 0 || code === 22 ? '' : bold;
                        colour = code === 0 || code === 39 ? '' : NAMED.test(String(code)) ? `ansi-${code % 10}` : colour;
                }
        }
        return parts;
}

// 'rank,image,bpd' lines -> [{image, bpd}], fewest bits first.
export function ranked(text) {
        return text.trim().split('\n').slice(1).map((line) => line.split(',')).map(([, image, bpd]) => ({image: Number(image), bpd: Number(bpd)})).filter((r) => Number.isFinite(r.bpd));
}
