// Images of several runs side by side, each at the newest step up to the chosen one: the same seed draws the same noise.
import {api, format, h} from '../../lib/page.js';

// properties: runs: as of the panel, with their images, the oldest first, or null: not read yet; step: up to which, 'newest', or '': they
// are not looked at; set(change).
export function SideBySide({runs, step, set}) {
        const steps = [...new Set(runs.flatMap((r) => r.images ?? []).map((a) => a.step))].sort((a, b) => a - b), at = step === 'newest' ? steps.length - 1 : Math.max(0, steps.findLastIndex((s) => s <= Number(step)));
        const picture = (run) => {
                const a = run.images?.findLast((k) => k.step <= steps[at]);
                return h('figure.card', {key: run.id}, a ? h('img.sample', {src: api.artifactUrl(a), alt: `${run.name} at step ${a.step}`, loading: 'lazy'}) : h('p.soft', null, run.images ? 'No images up to there' : 'Reading…'), h('figcaption', null, h('b', null, run.name), h('span.soft', null, a ? ` step ${format.integer(a.step)}` : '')));
        };
        return h('details', {open: step !== '', ontoggle: ({currentTarget: {open}}) => set({images: open ? step || 'newest' : ''})}, h('summary', null, h('h2.inline', null, 'Images side by side')),
                step && !steps.length && runs.every((r) => r.images) ? h('p.card.empty-line', null, 'These runs left no images.') : null,
                steps.length ? [h('label.field', {key: 'step'}, `Up to step ${format.integer(steps[at])}`, h('input', {type: 'range', min: 0, max: steps.length - 1, step: 1, value: at, 'aria-valuetext': `step ${steps[at]}`, oninput: (e) => set({images: String(steps[Number(e.target.value)])})})),
                        h('div.pictures', {key: 'pictures'}, runs.map(picture))] : null);
}
