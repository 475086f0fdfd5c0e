// A job's images, step by step; of an evaluation the bits of each image, those with the fewest and the most, their noise schedules.
import {api, Component, format, h, Section} from '../../lib/page.js';
import {ranked} from '../../lib/text.js';

const BINS = 40, RANKED = 8; // bars; images named on each side
const STRIP = 24; // pictures at once
const PICTURES = {
        __proto__: null,
        'images-least-bpd.png': 'The images with the fewest bits, the first of them first',
        'images-most-bpd.png': 'The images with the most bits, the last of them first',
        'gamma-maps.png': 'Gamma over each image: the image, then from t = 0 to 1. Red: more noise than on its average, blue: less',
};

const isEvaluations = (a) => a.name in PICTURES;

function Histogram({rows}) {
        const lo = rows[0].bpd, hi = Math.max(rows[rows.length - 1].bpd, lo + 1e-9), counts = Array(BINS).fill(0);
        for (const {bpd} of rows)
                counts[Math.min(BINS - 1, Math.floor(BINS * (bpd - lo) / (hi - lo)))]++;
        const most = Math.max(...counts), at = (q) => format.fixed(rows[Math.round(q * (rows.length - 1))].bpd, 2);
        return h('figure.histogram', null,
                h('svg', {viewBox: `0 0 ${BINS} 20`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `Bits per dimension of ${format.count(rows.length, 'image')}: from ${at(0)} to ${at(1)}, median ${at(0.5)}`},
                        counts.map((n, i) => h('rect', {key: i, x: i + 0.1, width: 0.8, y: 20 - 19 * n / most, height: 19 * n / most}))),
                h('figcaption.row', null, [['least', 0], ['5 %', 0.05], ['median', 0.5], ['95 %', 0.95], ['most', 1]].map(([name, q]) => h('span', {key: name}, `${name} `, h('b.num', null, at(q))))));
}

// properties: artifacts, of an evaluation.
export class EvaluationPanel extends Component {
        #read = -1; // the table's id

        async componentDidUpdate() {
                const table = this.props.artifacts.find((a) => a.name === 'bpd-ranked.csv');
                if (!table || table.id === this.#read)
                        return;
                this.#read = table.id;
                this.setState({rows: await api.text(api.artifactUrl(table)).then(ranked, () => [])}); // the file is still in the list
        }

        componentDidMount = this.componentDidUpdate;

        render({artifacts}, {rows = []}) {
                const pictures = artifacts.filter(isEvaluations).sort((a, b) => Object.keys(PICTURES).indexOf(a.name) - Object.keys(PICTURES).indexOf(b.name));
                const named = (list) => h('ol.ranks', null, list.map((r) => h('li', {key: r.image}, `image ${format.integer(r.image)} `, h('b.num', null, format.fixed(r.bpd, 3)))));
                return !pictures.length && !rows.length ? null : h(Section, {title: 'Image by image'},
                        rows.length ? h('div.card.spread', null, h(Histogram, {rows}), h('div', null, h('h3', null, 'Fewest bits'), named(rows.slice(0, RANKED))), h('div', null, h('h3', null, 'Most bits'), named(rows.slice(-RANKED).reverse()))) : null,
                        h('div.pictures', null, pictures.map((a) => h('figure.card', {key: a.id}, h('a', {href: api.artifactUrl(a), target: '_blank', rel: 'noopener'}, h('img.sample', {src: api.artifactUrl(a), alt: PICTURES[a.name], loading: 'lazy'})), h('figcaption.soft', null, PICTURES[a.name])))));
        }
}

// properties: artifacts; chosen: the id of the one that is shown, NaN: the newest; choose(id).
export function ImagesPanel({artifacts, chosen, choose}) {
        const list = artifacts.filter((a) => a.kind === 'image' && !isEvaluations(a)).sort((a, b) => a.step - b.step || a.id - b.id);
        if (!list.length)
                return null;
        const found = list.findIndex((a) => a.id === chosen), at = found < 0 ? list.length - 1 : found, a = list[at];
        const show = (i) => choose(i === list.length - 1 ? NaN : list[i].id);
        const thumb = (b, i) => h('button.thumb', {key: b.id, type: 'button', 'aria-pressed': String(i === at), title: `Step ${b.step}`, onclick: () => show(i)},
                h('img', {src: api.artifactUrl(b), alt: `Step ${b.step}`, loading: 'lazy'}), h('span', null, format.integer(b.step)));
        return h(Section, {title: 'Images'},
                h('div.card.images', null,
                        h('figure', null, h('a', {href: api.artifactUrl(a), target: '_blank', rel: 'noopener'}, h('img.sample', {src: api.artifactUrl(a), alt: `Samples at step ${a.step}`}))),
                        h('div.image-side', null,
                                h('p.soft', null, `Step ${format.integer(a.step)}${at === list.length - 1 ? ', the newest' : ''} · ${a.name}`),
                                list.length < 2 ? null : [
                                        h('input', {type: 'range', min: 0, max: list.length - 1, step: 1, value: at, 'aria-label': 'Step of the images', 'aria-valuetext': `step ${a.step}`,
                                                oninput: (e) => show(Number(e.target.value))}),
                                        h('div.strip', null, list.map(thumb).reverse().slice(0, STRIP))])));
}
