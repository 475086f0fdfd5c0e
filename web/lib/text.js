// What workers write, as parts and rows: a terminal's text, a table.

const ESCAPE = /\x1b(?:\[([\d;]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])/; // CSI, OSC and the short ones

// A text with a terminal's sequences as parts: [{text, style}], style: 'ansi-1 bold', '' for none. Colours are the sixteen
// that have names; all other sequences are left out.
export function coloured(text) {
        const parts = [];
        let colour = '', bold = '';
        for (let rest = text; rest;) {
                const m = ESCAPE.exec(rest), plain = m ? rest.slice(0, m.index) : rest;
                if (plain)
                        parts.push({text: plain, style: `${colour} ${bold}`.trim()});
                if (!m)
                        break;
                const codes = m[2] === 'm' ? (m[1] || '0').split(';').map(Number) : [];
                for (let i = 0; i < codes.length; i++) {
                        const c = codes[i];
                        if (c === 38 || c === 48)
                                i += codes[i + 1] === 5 ? 2 : 4; // of 256 or of millions: as it is
                        else if (c === 0 || c === 39)
                                [colour, bold] = ['', c === 0 ? '' : bold];
                        else if (c === 1 || c === 22)
                                bold = c === 1 ? 'bold' : '';
                        else if ((c >= 30 && c <= 37) || (c >= 90 && c <= 97))
                                colour = `ansi-${c % 10}`;
                }
                rest = rest.slice(m.index + m[0].length);
        }
        return parts;
}

// 'rank,image,bpd' lines -> [{image, bpd}], fewest bits first.
export function ranked(text) {
        return text.trim().split('\n').slice(1).map((line) => line.split(',')).map(([, image, bpd]) => ({image: Number(image), bpd: Number(bpd)})).filter((r) => Number.isFinite(r.bpd));
}
