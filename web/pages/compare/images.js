// Images of several runs side by side, each at the newest step up to the chosen one: the same seed draws the same noise.
import {api, Component, format, h} from '../../lib/page.js';

// properties: runs: as of the panel; step: up to which, 'newest', or '': they are not looked at; set(change).
export class SideBySide extends Component {
        state = {images: /** @type {Map<string, any[]> | null} */ (null)}; // run -> its images, the oldest first; null: not read yet

        async read() {
                const of = async (run) => /** @type {const} */ ([run.id, (await api.artifacts(Number(run.id))).filter((a) => a.kind === 'image' && !a.name.startsWith('gamma')).sort((a, b) => a.step - b.step || a.id - b.id)]);
                this.setState({images: new Map((await Promise.allSettled(this.props.runs.map(of))).flatMap((r) => (r.status === 'fulfilled' ? [r.value] : [])))});
        }

        render({runs, step, set}, {images}) {
                const steps = [...new Set([...images?.values() ?? []].flat().map((a) => a.step))].sort((a, b) => a - b), at = step === 'newest' ? steps.length - 1 : Math.max(0, steps.findLastIndex((s) => s <= Number(step)));
                const picture = (run) => {
                        const a = images?.get(run.id)?.findLast((k) => k.step <= steps[at]);
                        return h('figure.card', {key: run.id}, a ? h('img.sample', {src: api.artifactUrl(a), alt: `${run.name} at step ${a.step}`, loading: 'lazy'}) : h('p.soft', null, 'No images up to there'), h('figcaption', null, h('b', null, run.name), h('span.soft', null, a ? ` step ${format.integer(a.step)}` : '')));
                };
                const toggle = ({currentTarget: {open}}) => {
                        set({images: open ? step || 'newest' : ''});
                        if (open)
                                this.read();
                };
                return h('details', {open: step !== '', ontoggle: toggle}, h('summary', null, h('h2.inline', null, 'Images side by side')),
                        images && !steps.length ? h('p.card.empty-line', null, 'These runs left no images.') : null,
                        steps.length ? [h('label.field', {key: 'step'}, `Up to step ${format.integer(steps[at])}`, h('input', {type: 'range', min: 0, max: steps.length - 1, step: 1, value: at, 'aria-valuetext': `step ${steps[at]}`, oninput: (e) => set({images: String(steps[Number(e.target.value)])})})),
                                h('div.pictures', {key: 'pictures'}, runs.map(picture))] : null);
        }
}
