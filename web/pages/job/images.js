// A job's images, step by step.
import {api, format, h, Section} from '../../lib/page.js';
import {isEvaluations} from './evaluation.js';

const STRIP = 24; // pictures at once

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
