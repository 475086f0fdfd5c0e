// What needs no browser: modules.mjs SITE SOURCE.
import assert from 'node:assert/strict';
import {readdirSync, readFileSync} from 'node:fs';
import path from 'node:path';
import {run} from './browser.mjs';

const [, , site, source] = process.argv;
const lib = (name) => import(path.join(source, 'lib', name));
const {combine, Curves, fold, readTogether, widened} = await lib('curves.js');
const {average, columns, gaps, isNoisy, isolated, smooth, usual} = await lib('lines.js');
const {AXES, runOf} = await lib('axis.js');
const {brief, differing, flat, keys} = await lib('config.js');
const {bounded, domain, logTicks, part} = await lib('view.js');
const {JobList} = await import(path.join(source, 'pages/runs/list.js'));
const {coloured, ranked} = await lib('text.js');
const {Address, link} = await lib('address.js');
const format = await lib('format.js');

// Buckets as the server makes them: min, max and mean are of the finite ones of its points.
function reduce(values, width, from = 0) {
        const a = {bucket_width: width, step: [], time_ms: [], count: [], nan: [], min: [], max: [], mean: [], last: []}, of = new Map();
        for (let s = from; s < values.length; s++)
                of.set(Math.floor(s / width), [...of.get(Math.floor(s / width)) ?? [], s]);
        for (const steps of of.values()) {
                const step = steps.at(-1), all = steps.map((s) => values[s]).filter(Number.isFinite), known = (v) => (all.length ? v : 'NaN');
                for (const [k, v] of Object.entries({step, time_ms: 1000 * step, count: steps.length, nan: steps.length - all.length, min: known(Math.min(...all)), max: known(Math.max(...all)),
                        mean: known(all.reduce((x, y) => x + y, 0) / all.length), last: Number.isFinite(values[step]) ? values[step] : 'NaN'}))
                        a[k].push(v);
        }
        return a;
}

function files(dir) {
        return readdirSync(dir, {withFileTypes: true}).flatMap((f) => (f.isDirectory() ? files(path.join(dir, f.name)) : [path.join(dir, f.name)]));
}

const failed = await run({
        what_comes_later_makes_the_same_buckets_as_reading_it_whole() {
                const values = Array.from({length: 777}, (_, i) => Math.sin(i) + i / 100);
                for (const width of [1, 2, 8, 64])
                        for (const cut of [1, 5, 63, 64, 65, 500, 776]) {
                                const s = {width, step: [], time: [], count: [], bad: [], min: [], max: [], mean: [], last: []};
                                fold(s, reduce(values.slice(0, cut), width), -1);
                                const from = Math.floor(s.step.at(-1) / width) * width;
                                fold(s, reduce(values, 1, from), from); // finer, as a short range is
                                const whole = reduce(values, width);
                                for (const k of ['step', 'count', 'min', 'max', 'last'])
                                        assert.deepEqual(s[k], whole[k], `${k} ${width} ${cut}`);
                                s.mean.forEach((m, i) => assert.ok(Math.abs(m - whole.mean[i]) < 1e-9));
                        }
        },
        values_that_are_not_finite_are_kept_apart() {
                const s = {width: 4, step: [], time: [], count: [], bad: [], min: [], max: [], mean: [], last: []};
                fold(s, {step: [0, 1, 2], time_ms: [5, 6, 7], count: [1, 1, 1], min: [1, 'NaN', 3], max: [1, 'NaN', 3], mean: [1, 'NaN', 3], last: [1, 'NaN', 3], nan: [0, 1, 0]}, -1);
                assert.deepEqual([s.min, s.max, s.count, s.time, s.bad], [[1], [3], [3], [7], [1]]);
        },
        only_what_is_new_is_asked_for() {
                const asked = [];
                let points = 10;
                globalThis.fetch = async (url) => {
                        asked.push(url);
                        const from = Number(new URLSearchParams(url.split('?')[1]).get('from') ?? 0);
                        const values = Array.from({length: points}, (_, i) => i);
                        return {ok: true, json: async () => ({series: [{job: 1, name: 'a', ...reduce(values, 1, from)}]})};
                };
                return (async () => {
                        const c = new Curves(1);
                        const update = () => readTogether([{curves: c, rows: [{name: 'a', points, last_step: points - 1}]}]);
                        await update();
                        await update();
                        assert.equal(asked.length, 1);
                        points = 15;
                        await update();
                        assert.equal(asked.filter((u) => u.includes('from=9')).length, 1);
                        assert.equal(c.series.get('a').step.length, 15);
                        points = 5; // superseded by a new attempt
                        await update();
                        assert.equal(c.series.get('a').step.length, 5);
                })();
        },
        what_many_runs_miss_is_one_question() {
                const asked = [];
                globalThis.fetch = async (url) => {
                        const q = new URLSearchParams(url.split('?')[1]);
                        asked.push([q.get('jobs'), q.get('names'), q.get('from')]);
                        return {ok: true, json: async () => ({series: q.get('jobs').split(',').flatMap((job) => q.get('names').split(',').map((name) => ({job: Number(job), name, ...reduce([1, 2, 3].map((v) => v * job), 1)})))})};
                };
                return (async () => {
                        const row = (name) => ({name, points: 3, last_step: 2}), runs = [1, 2, 3].map((n) => new Curves(n, n === 3 ? 1 : 0));
                        const all = runs.map((curves, i) => ({curves, rows: i ? [row('a')] : [row('a'), row('b')]}));
                        await readTogether(all);
                        assert.deepEqual(asked, [['1,2', 'a,b', null], ['3', 'a', '1']]);
                        assert.deepEqual(runs.map((c) => [...c.series].map(([name, s]) => [name, s.last])), [[['a', [1, 2, 3]], ['b', [1, 2, 3]]], [['a', [2, 4, 6]]], [['a', [3, 6, 9]]]]);
                        await readTogether(all);
                        assert.equal(asked.length, 2);
                })();
        },
        smoothing_begins_at_the_first_value_and_keeps_holes() {
                assert.deepEqual(smooth([2, 2, null, 2], 0.9).map((v) => v && Math.round(v * 1e9) / 1e9), [2, 2, null, 2]);
        },
        a_series_is_noisy_by_its_values() {
                const wave = Array.from({length: 200}, (_, i) => Math.sin(i / 9)), noise = Array.from({length: 200}, (_, i) => Math.sin(i * i * 1.7));
                const s = (name, mean) => ({name, mean});
                assert.deepEqual([s('train/x', wave), s('train/x', noise), s('eval/bpd', noise), s('train/x', noise.slice(0, 7)), s('train/x', []), s('train/x', [1, null, NaN])].map(isNoisy),
                        [false, true, false, false, false, false]);
        },
        gaps_are_where_both_sides_are_denser() {
                assert.deepEqual(gaps([0, 1, 2, 3, 50, 51, 52]), [[3, 50]]);
                assert.deepEqual(gaps([0, 1, 2, 3, 53, 103, 153]), []); // written less often from there on
                assert.deepEqual(gaps([0, 10, 12, 22, 32]), []);
                assert.deepEqual(gaps([1, 1, 2, 2, 3, 3]), []);
                for (const few of [[], [5], [5, 500], [0, 1, 500]])
                        assert.deepEqual(gaps(few), []);
        },
        columns_break_at_gaps_and_count_what_an_axis_cannot_show() {
                const s = {name: 'a', step: [0, 1, 2, 10, 11, 12], mean: [1, -1, NaN, 2, 3, 4], min: [1, -2, null, 2, 3, 4], max: [1, 1, null, 2, 3, 4], last: [1, 1, NaN, 2, 3, 4], bad: [0, 0, 1, 0, 0, 0]};
                const c = columns({s, x: s.step, error: null}, {logX: true, logY: true, smoothing: 0});
                c.table[0] = c.table[0].map((x) => Math.round(1000 * x) / 1000);
                assert.deepEqual(c, {table: [[1, 2, 2, 10, 10, 11, 12], [1, null, null, null, 2, 3, 4], ...Array(3).fill([null, null, null, null, 2, 3, 4])], gaps: [[2, 10]], bad: [2], hidden: 2});
        },
        a_standard_error_widens_the_band_and_never_narrows_it() {
                const s = {name: 'eval/bpd', step: [1, 2, 3], mean: [5, 5, 5], min: [5, 4, 5], max: [5, 6, 5], last: [5, 5, 5], bad: [0, 0, 0]};
                const {table} = columns({s, x: s.step, error: [0.5, 0.5, null]}, {logX: false, logY: false, smoothing: 0});
                assert.deepEqual([table[1], table[2]], [[5.5, 6, 5], [4.5, 4, 5]]);
        },
        what_is_far_from_the_usual_is_found_and_nothing_else() {
                const wave = Array.from({length: 200}, (_, i) => Math.sin(i)), fall = Array.from({length: 200}, (_, i) => 10 * Math.exp(-i / 60));
                assert.deepEqual([wave, fall, [1, 2, 3], Array(50).fill(7), []].map(usual), [null, null, null, null, null]);
                const range = usual([...wave, 400, -90]);
                assert.ok(range.hi > 1 && range.hi < 3 && range.lo < -1 && range.lo > -3, JSON.stringify(range));
                assert.deepEqual(usual([...wave, 400]).lo, Math.min(...wave));
        },
        an_average_is_of_the_runs_that_reach_there() {
                const curve = (x, mean) => ({x, s: {mean, last: mean}});
                const a = average([curve([0, 2, 4, 6], [1, 1, 1, 1]), curve([0, 4], [3, 5]), curve([2, 3], [NaN, 100])]);
                assert.deepEqual(a.x, [0, 2, 4, 6]);
                assert.deepEqual(a.mean, [2, 2.5, 3, 1]);
                assert.deepEqual(a.count, [2, 2, 2, 1]);
                [Math.SQRT2, 1.5 * Math.SQRT2, 2 * Math.SQRT2, 0].forEach((d, i) => assert.ok(Math.abs(a.max[i] - a.mean[i] - d) < 1e-12 && Math.abs(a.mean[i] - a.min[i] - d) < 1e-12));
        },
        time_at_work_leaves_out_the_time_between_attempts() {
                const at = (s) => new Date(1e12 + 1000 * s).toISOString(), job = {started: at(50), ended: at(70), config: {training: {batch_size_train: 4}}};
                const run = runOf(job, [{started: at(0), ended: at(10)}, {started: at(50), ended: at(70)}]), s = {width: 1, step: [0, 9, 20], time: [1e12, 1e12 + 9000, 1e12 + 60000]};
                assert.deepEqual(Object.fromEntries(Object.entries(AXES).map(([k, a]) => [k, a.at(s, run)])),
                        {step: [0, 9, 20], begun: [0, 9, 20], images: [0, 36, 80], epochs: [0, 0, 0], wall: [1e9, 1e9 + 9, 1e9 + 60], relative: [0, 9, 60], active: [0, 9, 20], diffusion: [0, 0.009, 0.02]});
                assert.equal(new Set(AXES.wall.ticks([1e9, 1e9 + 5, 1e9 + 10])).size, 3);
                assert.deepEqual(AXES.active.at(s, runOf(job)), [0, 0, 10]); // only the last attempt is known
        },
        epochs_are_of_the_data_that_the_job_ran_on_and_steps_since_its_start_of_its_checkpoint() {
                const dataset = {name: 'dogs', train: 80, test: 8, digest: ''}, config = {data: {dataset: 'dogs'}, training: {batch_size_train: 4}}, s = {width: 16, step: [15, 31, 40], time: []};
                const at = (axis, job) => [...axis.at(s, runOf(job)), axis.start(s, runOf(job))];
                assert.deepEqual(at(AXES.epochs, {kind: 'train', config, dataset}), [0.75, 1.55, 2, 0]);
                assert.equal(runOf({kind: 'train', config, dataset: null}).images, null);
                assert.deepEqual(at(AXES.begun, {kind: 'train', config, checkpoint: {job: 1, step: 10}}), [5, 21, 30, 0]);
                assert.deepEqual(at(AXES.begun, {kind: 'evaluate', config, checkpoint: {job: 1, step: 10}}), [15, 31, 40, 0]); // counts images from the first on
        },
        configurations_differ_where_their_values_do() {
                const a = flat({x: 1, t: {y: null, z: 'a'}}), b = flat({x: 1, t: {z: 'a'}}), c = flat({x: 2, t: {y: null, z: 'a'}});
                assert.deepEqual([...a.keys()], ['x', 't.y', 't.z']);
                assert.deepEqual([differing([a, b]), differing([a, c]), differing([a]), differing([])], [['t.y'], ['x'], [], []]);
                assert.deepEqual(['a.seed', 'b.seed', 'rate', 'x.rater'].map((k, i, all) => brief(k, all)), ['a.seed', 'b.seed', 'rate', 'rater']);
                const rows = keys({properties: {n: {type: 'integer', minimum: 1, maximum: 9}, t: {properties: {r: {type: ['number', 'null'], minimum: 0}, e: {type: 'string', enum: ['p', 'q']}, b: {type: 'boolean'}, s: {type: 'string', minLength: 1}}}}});
                assert.deepEqual(rows.map((r) => r.path), ['n', 't.r', 't.e', 't.b', 't.s']);
        },
        isolated_points_are_found() {
                assert.deepEqual(isolated([null, 1, null, 2, 3, null, undefined, 4, undefined, null, 5]), [1, 7, 10]);
                assert.deepEqual(isolated([1]), [0]);
                assert.deepEqual(isolated([1, undefined, 2]), []);
                assert.deepEqual(isolated([]), []);
        },
        a_view_stays_within_the_whole_on_both_axes() {
                const whole = {from: 1, to: 1000};
                for (const log of [false, true])
                        for (const [a, b] of [[-0.5, 1.5], [0.2, 0.3], [-1, 0.5], [0.5, 2], [0.5, 0.5], [0, 1], [0.9999, 0.99991]]) {
                                const v = bounded(part(whole, a, b, log), whole, log) ?? whole;
                                assert.ok(v.from >= 1 - 1e-9 && v.to <= 1002 && v.to - v.from >= 2 - 1e-9, `${a} ${b} ${log}: ${JSON.stringify(v)}`);
                        }
                assert.equal(bounded({from: -5, to: 2000}, whole, true), null);
                assert.deepEqual(bounded({from: 0, to: 100}, whole, true), {from: 1, to: 100.00000000000004});
                assert.deepEqual(domain([{x: [0, 5], start: 0}, {x: [2, 9], start: 2}, {x: [], start: 0}], false), {from: 0, to: 9});
                assert.deepEqual(domain([{x: [0, 5], start: 0}, {x: [2, 9], start: 2}], true), {from: 2, to: 9});
                assert.deepEqual(domain([{x: [7], start: 7}], false), {from: 6, to: 8});
                assert.deepEqual(domain([{x: [7, 15], start: 0}], false), {from: 0, to: 15});
        },
        ticks_of_a_log_axis_are_round() {
                for (const [lo, hi] of [[1, 1023], [1023, 10020], [3, 4], [0.0123, 0.0124], [1e-9, 1e9], [5.1, 12], [1, 10], [99, 101]]) {
                        const ticks = logTicks(lo, hi);
                        assert.ok(ticks.length >= 2 && ticks.length <= 24 && ticks.every((t) => t >= lo && t <= hi), `${lo} ${hi}: ${ticks}`);
                        if (hi / lo > 10)
                                assert.ok(ticks.every((t) => /^[125]e/.test(t.toExponential())), `${ticks}`);
                }
        },
        buckets_made_wider_are_those_that_were_asked_for_so_wide() {
                const values = Array.from({length: 40}, (_, i) => ([17, 20, 21].includes(i) ? NaN : Math.sin(i))), asked = (width) => {
                        const s = {name: 'a', version: 1, width, step: [], time: [], count: [], bad: [], min: [], max: [], mean: [], last: []};
                        fold(s, reduce(values, width), -1);
                        return s;
                };
                for (const width of [2, 8, 64]) {
                        const fine = asked(2), wide = widened(fine, width), wanted = asked(width);
                        for (const key of ['step', 'time', 'count', 'bad', 'min', 'max', 'last'])
                                assert.deepEqual(wide[key], wanted[key], `${key} of ${width}`);
                        wide.mean.forEach((v, i) => assert.ok(Object.is(v, wanted.mean[i]) || Math.abs(v - wanted.mean[i]) < 1e-12, `mean of ${width}`));
                        assert.deepEqual(fine, asked(2), 'what it was made of stays');
                }
        },
        detail_takes_the_place_of_what_it_covers() {
                const all = (step, v) => ({step, time: step, count: step.map(() => 1), bad: step.map(() => 0), min: step.map(() => v), max: step.map(() => v), mean: step.map(() => v), last: step.map(() => v)});
                const c = combine({name: 'a', version: 1, width: 4, ...all([3, 7, 11, 15], 1)}, {version: 2, width: 1, ...all([6, 7, 8], 2)}, 5, 12);
                assert.deepEqual([c.step, c.mean, c.width], [[3, 6, 7, 8, 15], [1, 2, 2, 2, 1], 1]);
                assert.notEqual(c.version, 1);
        },
        a_list_has_no_holes_whatever_comes_and_goes() {
                const l = new JobList({}), jobs = (a, b) => Array.from({length: a - b + 1}, (_, i) => ({id: a - i})), ids = () => l.jobs.map((j) => j.id);
                assert.equal(l.merge({jobs: jobs(20, 11), next: '11'}), null);
                assert.equal(l.merge({jobs: jobs(10, 6), next: '6'}, l.jobs.at(-1).id), null);
                assert.deepEqual([ids(), l.next], [jobs(20, 6).map((j) => j.id), '6']);
                assert.equal(l.merge({jobs: jobs(23, 14), next: '14'}), null); // three are new
                assert.deepEqual([ids(), l.next], [jobs(23, 6).map((j) => j.id), '6']);
                assert.equal(l.merge({jobs: jobs(50, 41), next: '41'}), '41'); // more than a page is new: read on
                assert.equal(l.merge({jobs: jobs(40, 20), next: '20'}, 41), null);
                assert.deepEqual([ids(), l.next], [jobs(50, 6).map((j) => j.id), '6']);
                l.merge({jobs: [{id: 50}, {id: 44}], next: '44'}); // those between are gone, or match no longer
                assert.deepEqual(ids().slice(0, 4), [50, 44, 43, 42]);
                assert.equal(l.start(0), null);
                assert.equal(l.jobs[0].id, 50);
                assert.deepEqual(l.start(ids().indexOf(10)), {before: 11, cursor: '11'});
                l.merge({jobs: [], next: null});
                assert.deepEqual([ids(), l.next], [[], null]);
        },
        a_list_in_another_order_has_each_job_once_where_it_came_first() {
                const jobs = (...ids) => ids.map((id) => ({id})), l = new JobList({sort: 'name'}), ids = () => l.jobs.map((j) => j.id);
                l.put({jobs: jobs(7, 3, 9), next: 'a', total: 6});
                l.put(l, {jobs: jobs(9, 1, 3, 4), next: 'b', total: 6}); // 9 and 3 moved meanwhile
                assert.deepEqual([ids(), l.next, l.total, l.loaded, l.whole], [[7, 3, 9, 1, 4], 'b', 6, true, true]);
                l.put({jobs: jobs(9, 7), next: null, total: 2});
                assert.deepEqual([ids(), l.next, l.total], [[9, 7], null, 2]);
                assert.deepEqual([{}, {state: 'queued', id: '1'}, {order: 'id'}, {config: 'seed=1'}].map((q) => new JobList(q).whole), [false, false, true, true]);
        },
        an_address_brings_back_what_it_was_made_of() {
                const usual = {text: '', list: [], n: 5, far: NaN, on: false}, look = (hash) => {
                        globalThis.location = {hash};
                        return new Address(usual, [], () => {}).state;
                };
                for (const state of [usual, {text: 'a=b&c%2C,d#<', list: ['x,y', '50%', 'a/b+c=1', '%2C'], n: -0.5, far: 1e9, on: true}])
                        assert.deepEqual(look(link('#/x', state)), state);
                assert.deepEqual(look('#/x?list=%E0%A4%A,%&n=many&far=&on=yes'), {...usual, list: ['\ufffd%A', '%']}); // nonsense is as usual
        },
        a_terminals_sequences_become_colours_or_nothing() {
                const e = '\x1b', parts = (t) => coloured(t).map((p) => [p.text, p.style]);
                assert.deepEqual(parts(`a${e}[31mred${e}[1;92mgreen${e}[0mplain${e}[39m`), [['a', ''], ['red', 'ansi-1'], ['green', 'ansi-2 bold'], ['plain', '']]);
                assert.deepEqual(parts(`${e}[38;5;196mx${e}[48;2;1;31;3my${e}[2K${e}]0;title\x07${e}(Bz`).map(([t]) => t).join(''), 'xy(Bz'.replace('(B', `${e}(B`));
                assert.deepEqual(parts(''), []);
                assert.deepEqual(parts(`${e}[`), [[`${e}[`, '']]); // the rest of it comes later
        },
        a_ranking_is_read_and_nonsense_in_it_left_out() {
                assert.deepEqual(ranked('rank,image,bpd\n1,7,0.5\n2,3,nan\n3,1,2\n'), [{image: 7, bpd: 0.5}, {image: 1, bpd: 2}]);
        },
        numbers_read_well() {
                assert.equal(format.duration(59.6), '1 min 00 s');
                assert.equal(format.duration(3725), '1 h 02 min');
                assert.equal(format.bytes(999), '999 B');
                assert.deepEqual([612345678, 999499, 999500, 999999999].map(format.bytes), ['612 MB', '999 kB', '1.00 MB', '1.00 GB']);
                assert.deepEqual([36, 3.6e6, 7.2e9].map(format.energy), ['0.0100 Wh', '1 kWh', '2,000 kWh']);
                assert.equal(format.real(0.002), '0.002');
                assert.equal(format.real(NaN), 'NaN');
                assert.equal(format.real(null), '–');
                assert.equal(format.real(-1.5), '−1.5');
                assert.deepEqual([format.count(1, 'key'), format.count(0, 'key'), format.count(1200, 'key')], ['1 key', '0 keys', '1,200 keys']);
                assert.deepEqual([NaN, null, undefined, Infinity, 0.0236].map((v) => format.error(v, 3)), ['', '', '', '', '± 0.024']);
                assert.deepEqual(format.steps([5000, 10000, 2500000]), ['5,000', '10k', '2.5M']);
                assert.deepEqual(format.steps([654320, 654321]), ['654,320', '654,321']);
        },
        it_stays_small() {
                const lines = files(source).filter((f) => /\.(js|css)$/.test(f)).reduce((n, f) => n + readFileSync(f, 'utf8').split('\n').length - 1, 0);
                assert.ok(lines <= 4000, `${lines} lines of our own`);
        },
        nothing_becomes_markup_and_nothing_comes_from_elsewhere() {
                const sheets = files(path.join(site, 'assets')).filter((f) => f.endsWith('.css'));
                assert.ok(sheets.length === 1 && !/@import|url\(/.test(readFileSync(sheets[0], 'utf8')));
                for (const f of files(source).filter((f) => /\.(js|html|css)$/.test(f))) {
                        const text = readFileSync(f, 'utf8');
                        for (const bad of [/inner_?HTML|outerHTML|insertAdjacentHTML|document\.write/i, /\beval\(|new Function/, /\sstyle="/, /<script>(?!<)/])
                                assert.ok(!bad.test(text), `${f}: ${bad}`);
                        for (const [address] of text.matchAll(/https?:\/\/[^\s'"`)]+/g))
                                assert.ok(/^http:\/\/www\.w3\.org\//.test(address), `${f}: ${address}`);
                        for (const [, path] of text.matchAll(/(?:href|src|fetch\()=?["'`](\/[^"'`]*)/g))
                                assert.fail(`${f}: not a relative address: ${path}`);
                }
        },
});
process.exit(failed ? 1 : 0);
