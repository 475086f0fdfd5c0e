// What needs no browser: modules.mjs SITE SOURCE.
import assert from 'node:assert/strict';
import {readdirSync, readFileSync} from 'node:fs';
import path from 'node:path';
import {run} from './browser.mjs';

const [, , site, source] = process.argv;
const lib = (name) => import(path.join(source, 'lib', name));
const {Curves, fold} = await lib('curves.js');
const {smooth} = await lib('lines.js');
const format = await lib('format.js');

// Buckets as the server makes them.
function reduce(values, width, from = 0) {
        const a = {bucket_width: width, step: [], count: [], min: [], max: [], mean: [], last: []};
        for (let s = from; s < values.length; s++) {
                const j = a.step.length - 1;
                if (j >= 0 && Math.floor(a.step[j] / width) === Math.floor(s / width)) {
                        a.mean[j] = (a.mean[j] * a.count[j] + values[s]) / (a.count[j] + 1);
                        a.count[j]++;
                        a.step[j] = s;
                        a.min[j] = Math.min(a.min[j], values[s]);
                        a.max[j] = Math.max(a.max[j], values[s]);
                        a.last[j] = values[s];
                } else {
                        for (const [k, v] of Object.entries({step: s, count: 1, min: values[s], max: values[s], mean: values[s], last: values[s]}))
                                a[k].push(v);
                }
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
                                const s = {width, step: [], count: [], min: [], max: [], mean: [], last: []};
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
                const s = {width: 4, step: [], count: [], min: [], max: [], mean: [], last: []};
                fold(s, {step: [0, 1, 2], count: [1, 1, 1], min: [1, 'NaN', 3], max: [1, 'NaN', 3], mean: [1, 'NaN', 3], last: [1, 'NaN', 3]}, -1);
                assert.deepEqual([s.min, s.max, s.count], [[1], [3], [3]]);
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
                        const update = () => c.update([{name: 'a', points, last_step: points - 1}]);
                        assert.equal(await update(), true);
                        assert.equal(await update(), false);
                        points = 15;
                        assert.equal(await update(), true);
                        assert.equal(asked.filter((u) => u.includes('from=9')).length, 1);
                        assert.equal(c.series.get('a').step.length, 15);
                        points = 5; // superseded by a new attempt
                        await update();
                        assert.equal(c.series.get('a').step.length, 5);
                })();
        },
        smoothing_begins_at_the_first_value_and_keeps_holes() {
                assert.deepEqual(smooth([2, 2, null, 2], 0.9).map((v) => v && Math.round(v * 1e9) / 1e9), [2, 2, null, 2]);
        },
        numbers_read_well() {
                assert.equal(format.duration(59.6), '1 min 00 s');
                assert.equal(format.duration(3725), '1 h 02 min');
                assert.equal(format.bytes(999), '999 B');
                assert.equal(format.bytes(612345678), '612 MB');
                assert.equal(format.real(0.002), '0.002');
                assert.equal(format.real(NaN), 'NaN');
                assert.equal(format.real(null), '–');
                assert.equal(format.real(-1.5), '−1.5');
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
