// Runs compared in Chromium, against a real mulund with scripted workers: compare.mjs PLAYWRIGHT SITE OUT. MULUND: its program.
import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import path from 'node:path';
import {axeFindsNothing, becomes, chart, clean, download, drawn, inked, lab, menu, newPage, open, run, settled, shutsNobodyOut, shot, skip} from './browser.mjs';

const [, , playwright, site, out] = process.argv;
if (!existsSync(process.env.MULUND ?? 'build/daemon/mulund'))
        skip('mulund is not built');
const {context, close} = await open(playwright);
const server = await lab(site);
const ALL = '1,2,3,4,5,6,7', TEST = 'Bits per dimension, test', TRAINING = 'Bits per dimension, training';

// The comparison with the address' rest, when its curves are there.
async function compared(more = '', options = {}) {
        const {page, complaints} = await newPage(context, options);
        await page.goto(server.at(`#/compare?jobs=${ALL}&smooth=0.6${more}`));
        await page.waitForFunction(() => document.querySelectorAll('.chart canvas').length >= 2 && document.querySelectorAll('.plain tbody tr').length === 7 && !document.body.textContent.includes('Reading'));
        await settled(page);
        return {page, done: async (...allowed) => {
                clean(complaints, ...allowed);
                await page.close();
        }};
}

const legend = async (page, title = TEST) => {
        await drawn(page);
        return chart(page, title).locator('.legend-item').allTextContents();
};
const titles = (page) => page.locator('.chart h3').allTextContents();
const ordered = (page, ...wanted) => page.waitForFunction((w) => [...document.querySelectorAll('.chart h3')].slice(0, w.length).map((e) => e.textContent).join() === w.join(), wanted);
const sorted = (page, ...wanted) => page.waitForFunction((w) => [...document.querySelectorAll('.plain .run-name')].slice(0, w.length).map((e) => e.textContent).join() === w.join(), wanted);
const label = (page, title = TRAINING) => chart(page, title).locator('.chart-body').getAttribute('aria-label');
const picture = (page, title = TEST) => chart(page, title).locator('canvas').evaluate((c) => c.toDataURL());
const address = (page, wanted) => page.waitForFunction((w) => location.hash.includes(w), wanted);

const failed = await run({
        async runs_are_selected_in_the_list_and_compared_in_one_chart() {
                const {page, complaints} = await newPage(context);
                await page.goto(server.at());
                for (const n of [2, 4, 6])
                        await page.getByRole('checkbox', {name: new RegExp(`, run ${n}$`)}).check();
                await page.getByText('3 runs selected').waitFor();
                await page.getByRole('link', {name: 'Compare', exact: true}).click();
                await chart(page, TEST).locator('canvas').waitFor();
                await page.waitForFunction(() => document.querySelectorAll('.chart')[0].querySelectorAll('.legend-item').length === 3);
                assert.deepEqual((await legend(page)).map((t) => t.replace(/\d\.\d+ at/, 'at')), ['run 2at 400', 'run 4at 400', '<b>run 6</b>at 400']);
                assert.ok(page.url().includes('jobs=2,4,6'));
                for (const colour of ['#5b5bd6', '#d55e00', '#008f68'])
                        assert.ok(await inked(page, 0, colour) > 30, colour);
                await page.goBack();
                await page.getByText('3 runs selected').waitFor(); // the list's address has them too
                clean(complaints);
                await page.close();
        },
        async results_and_what_differs_stand_in_one_table() {
                const {page, done} = await compared();
                assert.deepEqual(await page.locator('.plain thead th').allTextContents(), ['Run', 'Test BPD', 'Best test BPD', 'Training BPD', 'Step', 'Took', 'seed', 'learning_rate', 'Remove']);
                await page.getByRole('button', {name: 'Test BPD', exact: true}).click();
                await sorted(page, 'run 3', 'run 1', 'run 2');
                await page.getByRole('button', {name: 'Test BPD', exact: true}).click();
                await sorted(page, 'run 5');
                assert.equal(await page.locator('.plain td.best').count(), 1);
                await address(page, 'sort=-test');
                await page.getByRole('button', {name: 'Remove run 5 from the comparison'}).click();
                await page.waitForFunction(() => document.querySelectorAll('.plain tbody tr').length === 6);
                await address(page, 'jobs=1,2,3,4,6,7');
                await done();
        },
        async the_whole_view_is_in_the_address_whatever_ones_own_habits_are() {
                const {page, done} = await compared();
                await page.locator('#smoothing').fill('0.9');
                await page.getByRole('group', {name: 'Values'}).getByText('log').click();
                await page.getByLabel('Over').selectOption('images');
                await page.getByLabel('Published').selectOption('cifar10');
                await page.getByRole('button', {name: 'Show run 4 in the charts'}).click();
                await page.getByRole('button', {name: 'Zoom in'}).click();
                await menu(page, TRAINING, 'Pin to the top');
                await chart(page, 'Learning rate, training').getByRole('button', {name: 'Learning rate, training', exact: true}).click();
                await address(page, 'pin=train%2Fbpd');
                await settled(page);
                const see = async (p) => ({titles: await titles(p), legend: await legend(p), label: await label(p), picture: await picture(p, TRAINING), address: new URL(p.url()).hash});
                const before = await see(page);
                assert.match(before.label, /Images \d/);
                await page.reload();
                await chart(page, 'Learning rate, training').locator('canvas').waitFor();
                await settled(page);
                assert.deepEqual(await see(page), before);
                const colleague = await newPage(context);
                await colleague.page.addInitScript(() => localStorage.setItem('mulund.chart', JSON.stringify({smooth: 0.1, logx: true, band: false})));
                await colleague.page.goto(server.at(before.address));
                await chart(colleague.page, 'Learning rate, training').locator('canvas').waitFor();
                await settled(colleague.page);
                assert.deepEqual(await see(colleague.page), before);
                await colleague.page.evaluate(() => localStorage.clear());
                await colleague.page.close();
                await page.getByRole('link', {name: 'run 1', exact: true}).click();
                await page.locator('.actions').waitFor();
                await page.goBack();
                await chart(page, 'Learning rate, training').locator('canvas').waitFor();
                await settled(page);
                assert.deepEqual(await see(page), before);
                await done();
        },
        async a_run_is_hidden_by_its_legend_in_all_charts() {
                const {page, done} = await compared('&jobs=1');
                const own = await inked(page, 0, '#d55e00');
                await chart(page, TEST).getByRole('button', {name: /^run 2/}).click();
                await settled(page);
                assert.ok(await inked(page, 0, '#d55e00') < own / 4 && await inked(page, 1, '#d55e00') === 0);
                assert.match((await legend(page, TRAINING))[1], /run 2hidden/);
                await address(page, 'hide=2');
                await done();
        },
        async x_is_step_images_epochs_wall_relative_or_active_time() {
                const {page, done} = await compared();
                const seen = [await label(page)];
                for (const [axis, said] of [['images', /Images 0 to 3,200/], ['epochs', /Epochs 0 to 3\.2/], ['wall', /Times .*\d\d:\d\d to .*\d\d:\d\d/], ['relative', /Times 0 s to 1 h 06 min/], ['active', /Times /]]) {
                        await page.getByLabel('Over').selectOption(axis);
                        await settled(page);
                        assert.match(await label(page), said, axis);
                        seen.push(await picture(page, TRAINING));
                }
                assert.match(seen[0], /Steps 0 to 400/);
                assert.equal(new Set(seen).size, 6);
                await page.getByLabel('Over').selectOption('relative');
                assert.match(await chart(page, TRAINING).locator('.chart-note').textContent(), /No points between times 3 min 19 s and 1 h 03 min/);
                await done();
        },
        async what_is_compared_at_one_place_is_of_the_same_steps() {
                const long = await fetch(server.at('v1/jobs'), {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({kind: 'train', name: 'long',
                        config: {data: {dataset: 'scripted'}, training: {num_steps_train: 4000, batch_size_train: 8, num_steps_eval: 0, seed: 13}}})}).then((r) => r.json());
                const {page, complaints} = await newPage(context), points = await fetch(server.at('v1/series?jobs=1&names=train/bpd&points=10000')).then((r) => r.json());
                await becomes(() => fetch(server.at(`v1/jobs/${long.id}`)).then((r) => r.json()).then((j) => j.state), 'succeeded');
                const mean = (from, to) => points.series[0].mean.slice(from, to).reduce((a, b) => a + b) / (to - from);
                const at = (key) => page.keyboard.press(key).then(() => legend(page, TRAINING)), said = (values, place) => [`run 1${values[0]} at ${place}`, `long${values[1]} at ${place}`];
                await page.goto(server.at(`#/compare?jobs=1,${long.id}&smooth=0`));
                await chart(page, TRAINING).locator('canvas').waitFor();
                await settled(page);
                assert.match(await chart(page, TRAINING).locator('.chart-note').textContent(), /A point stands for 4 steps\./);
                await chart(page, TRAINING).locator('.chart-body').focus();
                assert.deepEqual(await at('Home'), said([Number(mean(0, 4).toPrecision(4)), 4.5], 3));
                assert.deepEqual(await at('ArrowRight'), said([Number(mean(4, 8).toPrecision(4)), 4.5], 7));
                await page.getByLabel('Over').selectOption('relative'); // there nobody's buckets are another's
                await settled(page);
                await chart(page, TRAINING).locator('.chart-body').focus();
                assert.match((await at('Home'))[0], /^run 1[\d.]+ at 0 s$/);
                clean(complaints);
                await page.close();
        },
        async the_cursor_shows_the_values_of_all_runs() {
                const {page, done} = await compared();
                await chart(page, TEST).locator('.chart-body').focus();
                await page.keyboard.press('Home');
                await drawn(page);
                const said = await chart(page, TEST).locator('[role=status]').textContent();
                assert.equal(said.match(/run \d(<\/b>)? \d\.\d+ at 50/g)?.length, 7, said);
                assert.match((await legend(page))[0], /at 50$/);
                await done();
        },
        async runs_are_grouped_by_a_key_or_all_but_the_seed_with_mean_and_spread() {
                const {page, done} = await compared();
                const group = page.getByLabel('Group by');
                assert.deepEqual(await group.locator('option').allTextContents(), ['nothing', 'all but the seed', 'training.seed', 'optimizer.learning_rate']);
                await group.selectOption('optimizer.learning_rate');
                assert.deepEqual((await legend(page)).map((t) => t.replace(/\d\.\d+ at/, 'at')), ['learning_rate = 0.002 (3 runs)at 400', 'learning_rate = 0.001 (4 runs)at 400']);
                const mean = Number((await legend(page))[0].match(/(\d\.\d+) at/)[1]);
                assert.ok(Math.abs(mean - 3.128) < 0.001, String(mean)); // of 3.128, 3.148, 3.108
                const rows = (await download(page, TEST, 'csv')).bytes.toString().trim().split('\r\n').slice(1).map((l) => l.split(',')); // of a mean the points
                assert.deepEqual([...new Set(rows.map((r) => `${r[0]} of ${r[1]}`))], [[1, 2, 3], [4, 5, 6, 7]].flatMap((runs, i) => runs.map((n) => `learning_rate = ${i ? '0.001 (4' : '0.002 (3'} runs) of ${n}`)));
                assert.equal(rows.length, 7 * 8);
                await group.selectOption('seed');
                assert.deepEqual((await legend(page)).map((t) => t.replace(/\d\.\d+ at.*/, '')), ['run 1 (3 runs)', 'run 4 (4 runs)']);
                await done();
        },
        async published_numbers_are_lines_and_outliers_are_clipped_with_a_mark() {
                const {page, done} = await compared('&refs=cifar10&clip=1');
                const {bytes} = await download(page, TEST, 'svg');
                for (const name of ['MuLAN 2.55', 'VDM 2.65', 'DDPM 3.69'])
                        assert.ok(bytes.toString().includes(name), name);
                assert.match(await chart(page, TRAINING).locator('.chart-note').textContent(), /A triangle at the edge marks 1 place with a value beyond it/);
                const svg = (await download(page, TRAINING, 'svg')).bytes.toString();
                assert.ok(!/>(100|200|300|400)<\/text>/.test(svg.replace(/text-anchor="middle"[^<]*/g, '')), 'the values\' axis still reaches to 400');
                await page.getByRole('group', {name: 'Outliers'}).getByText('shown').click();
                await settled(page);
                assert.doesNotMatch(await chart(page, TRAINING).locator('.chart-note').textContent(), /triangle/);
                await done();
        },
        async charts_are_pinned_moved_found_folded_and_enlarged() {
                const {page, done} = await compared();
                const [first, second, ...rest] = await titles(page);
                assert.deepEqual([first, second], [TEST, TRAINING]);
                await menu(page, TRAINING, 'Move before');
                await ordered(page, TRAINING, TEST);
                await chart(page, rest[0]).getByRole('button', {name: rest[0], exact: true}).click();
                await menu(page, rest[0], 'Pin to the top');
                await ordered(page, rest[0], TRAINING);
                await menu(page, TEST, 'Enlarge');
                await settled(page);
                assert.ok((await chart(page, TEST).locator('canvas').boundingBox()).height > 500);
                await page.getByLabel('Charts whose name matches').fill('^bits.*(test|none)$');
                await page.waitForFunction(() => document.querySelectorAll('.chart').length === 1);
                await page.getByLabel('Charts whose name matches').fill('(');
                await page.getByText('That is no regular expression').waitFor();
                await page.getByLabel('Charts whose name matches').fill('');
                await chart(page, TEST).getByRole('button', {name: TEST, exact: true}).click();
                await chart(page, TEST).locator('canvas').waitFor({state: 'detached'});
                await address(page, 'fold=');
                await done();
        },
        async what_is_seen_is_saved_as_csv_svg_and_png() {
                const {page, done} = await compared('&from=100&to=200&hide=1');
                const csv = await download(page, TRAINING, 'csv'), lines = csv.bytes.toString().trim().split('\r\n');
                assert.equal(csv.name, 'Bits-per-dimension-training.csv');
                assert.equal(lines[0], 'curve,run,step,time_ms,value');
                assert.equal(lines.length, 1 + 6 * 101); // six runs: a hidden one and what is out of view are not seen
                assert.ok(lines.includes('run 3,3,200,1790000200000,400') && lines.some((l) => l.startsWith('<b>run 6</b>,6,150,1790000150000,')));
                const svg = (await download(page, TRAINING, 'svg')).bytes.toString();
                assert.ok(svg.includes('&#60;b&#62;run 6') && !svg.includes('<b>') && svg.includes('fill-opacity="0.16"'));
                const problem = await page.evaluate((text) => new DOMParser().parseFromString(text, 'image/svg+xml').querySelector('parsererror')?.textContent, svg);
                assert.equal(problem, undefined);
                const {bytes} = await download(page, TRAINING, 'png');
                assert.deepEqual([...bytes.subarray(1, 4)].map((c) => String.fromCharCode(c)).join(''), 'PNG');
                assert.ok(bytes.readUInt32BE(16) > 400 && bytes.length > 5000);
                await done();
        },
        async values_that_are_not_finite_are_marked_and_the_standard_error_is_a_band() {
                const {page, done} = await compared();
                assert.match(await chart(page, TRAINING).locator('.chart-note').textContent(), /× marks 1 place/);
                const before = await picture(page);
                await page.getByRole('group', {name: 'Min–max band'}).getByText('off').click();
                await settled(page);
                assert.notEqual(await picture(page), before);
                const cross = async () => await inked(page, 1, '#c62a36', 0.5);
                const own = await cross();
                await page.getByRole('button', {name: /^Show run 7/}).click(); // whose line has dashes
                await settled(page);
                assert.ok(own > 20 && own === await cross(), 'a cross is drawn in full, whatever was drawn before it');
                await page.evaluate(() => localStorage.clear());
                await done();
        },
        async only_what_is_unfolded_is_read() {
                const {page, complaints} = await newPage(context);
                const asked = [];
                page.on('request', (r) => asked.push(r.url()));
                await page.goto(server.at(`#/compare?jobs=${ALL}&smooth=0.6`));
                await chart(page, TRAINING).locator('canvas').waitFor();
                await settled(page);
                assert.ok(asked.some((u) => u.includes('train%2Fbpd')) && !asked.some((u) => u.includes('learning_rate')), asked.join('\n'));
                await chart(page, 'Learning rate, training').getByRole('button').click();
                await chart(page, 'Learning rate, training').locator('canvas').waitFor();
                assert.ok(asked.some((u) => u.includes('learning_rate')));
                clean(complaints);
                await page.close();
        },
        async a_run_that_is_gone_and_an_empty_comparison_say_so() {
                const {page, complaints} = await newPage(context);
                await page.goto(server.at('#/compare?jobs=1,99'));
                await page.getByText('There is no run #99 any more.').waitFor();
                await chart(page, TEST).locator('canvas').waitFor();
                await page.goto(server.at('#/compare'));
                await page.getByText('Nothing to compare').waitFor();
                clean(complaints, /404/);
                await page.close();
        },
        async what_the_result_depends_on_is_drawn_and_images_are_side_by_side() {
                const {page, done} = await compared('&hide=2');
                const drawing = page.getByRole('group', {name: /^Parallel coordinates of 7 runs/});
                assert.match(await drawing.getAttribute('aria-label'), /: optimizer.learning_rate from 0.001 to 0.002; training.seed from 1 to 7; Seconds it took .*; Best test BPD from [\d.]+ to [\d.]+; Test BPD from 3.108 to 3.344$/);
                assert.deepEqual([await drawing.locator('polyline').count(), await drawing.locator('.out polyline').count()], [7, 1]);
                await page.getByText('Images side by side').click();
                await page.getByText('These runs left no images.').waitFor();
                await address(page, 'images=newest');
                await page.reload(); // a link shows them, too
                await page.getByText('These runs left no images.').waitFor();
                await done();
        },
        async images_of_all_runs_are_there_also_by_a_link_and_as_they_come() {
                const {page, complaints} = await newPage(context), png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');
                await page.route(/v1\/jobs\/\d+\/artifacts$/, (route) => {
                        const [, job] = /jobs\/(\d+)/.exec(route.request().url());
                        return route.fulfill({json: {artifacts: [{id: 1000 + Number(job), kind: 'image', step: 10, name: 'samples-step-10.png'}]}});
                });
                await page.route(/v1\/artifacts\/1\d+$/, (route) => route.fulfill({body: png, contentType: 'image/png'}));
                await page.goto(server.at(`#/compare?jobs=${ALL}&images=newest`));
                await becomes(() => page.locator('.pictures img').evaluateAll((all) => all.map((e) => Number(e.src.split('/').pop()))), [1001, 1002, 1003, 1004, 1005, 1006, 1007]);
                clean(complaints);
                await page.close();
        },
        async a_run_whose_result_is_not_finite_is_out_of_the_drawings_and_not_the_best() {
                const {page, complaints} = await newPage(context);
                for (const [job, bpd] of [[2, 'NaN'], [4, 'Infinity']])
                        await page.route(new RegExp(`v1/jobs/${job}$`), async (route) => {
                                const answer = await route.fetch(), json = await answer.json();
                                await route.fulfill({response: answer, json: {...json, result: {...json.result, bpd}}});
                        });
                await page.goto(server.at(`#/compare?jobs=${ALL}`));
                await page.waitForFunction(() => document.querySelectorAll('.plain tbody tr').length === 7);
                await becomes(() => page.getByRole('img', {name: /^Test BPD from 3\.\d+ to 3\.\d+ against .* of 5 runs$/}).locator('circle').count(), 5);
                assert.match(await page.getByRole('group', {name: /^Parallel/}).getAttribute('aria-label'), /; Test BPD from 3\.\d+ to 3\.\d+$/);
                assert.equal(await page.locator('td.best').count(), 1);
                await page.getByRole('button', {name: 'Remove run 1 from'}).click();
                for (const n of [3, 5, 6, 7])
                        await page.getByRole('button', {name: new RegExp(`Remove .*run ${n}`)}).click();
                await page.getByRole('img', {name: /^Test BPD from – to – against/}).waitFor(); // of no run it is known
                clean(complaints);
                await page.close();
        },
        async keys_that_end_alike_are_told_apart() {
                const {page, complaints} = await newPage(context);
                await page.route(/v1\/jobs\/2$/, async (route) => {
                        const answer = await route.fetch(), json = await answer.json();
                        await route.fulfill({response: answer, json: {...json, config: {...json.config, evaluation: {...json.config.evaluation, seed: 77}}}});
                });
                await page.goto(server.at('#/compare?jobs=1,2'));
                await becomes(async () => (await page.locator('.plain th .sort').allTextContents()).slice(-2), ['training.seed', 'evaluation.seed'], 'in the table');
                await becomes(async () => (await page.locator('.rule text:not(.soft)').allTextContents()).filter((t) => /seed/.test(t)).sort(), ['evaluation.seed', 'training.seed'], 'in the drawing');
                clean(complaints);
                await page.close();
        },
        async a_stretch_of_an_axis_selects_runs_by_the_pointer_and_by_keys() {
                const {page, done} = await compared();
                const section = page.getByRole('region', {name: 'What the result depends on'});
                const selected = (n) => page.waitForFunction((w) => document.querySelector('section[aria-label="What the result depends on"] [role=status]')?.textContent === w, `${n} of 7 runs selected`);
                const least = (name) => section.getByRole('slider', {name: `${name}: least`}), most = (name) => section.getByRole('slider', {name: `${name}: most`});
                await least('optimizer.learning_rate').focus();
                await page.keyboard.press('End'); // of 0.001 and 0.002 only the greater is left
                await selected(3);
                assert.equal(await least('optimizer.learning_rate').getAttribute('aria-valuetext'), '0.002');
                await address(page, 'brush=optimizer.learning_rate%3A1%3A1');
                assert.deepEqual((await legend(page)).map((t) => /hidden$/.test(t)), [false, false, false, true, true, true, true]);
                await most('training.seed').focus();
                for (let i = 0; i < 14; i++) // 14 of 20: at seed 2.8
                        await page.keyboard.press('ArrowDown');
                await selected(2);
                assert.equal(await most('training.seed').getAttribute('aria-valuetext'), '2.8');
                await address(page, 'training.seed%3A0%3A0.3&'); // written a moment after the last of many keys
                await page.reload();
                await selected(2);
                assert.equal(await most('training.seed').getAttribute('aria-valuetext'), '2.8');
                await least('optimizer.learning_rate').focus();
                await page.keyboard.press('Escape'); // this axis no longer selects
                await selected(2);
                await page.getByRole('button', {name: 'All runs'}).click();
                await section.getByText('Drag along an axis').waitFor();
                assert.ok((await legend(page)).every((t) => !/hidden$/.test(t)));
                await section.scrollIntoViewIfNeeded();
                const {x, y, width, height} = await page.locator('.brush', {has: page.getByRole('slider', {name: 'training.seed: least'})}).locator('rect').nth(1).boundingBox();
                await page.mouse.move(x + width / 2, y + height * 0.6);
                await page.mouse.down();
                await page.mouse.move(x + width / 2, y + height + 30, {steps: 4});
                await page.mouse.up();
                await selected(3); // seeds 1 to 3 stand in the lower 40 percent
                await axeFindsNothing(page, playwright, 'a stretch');
                await shot(section, path.join(out, 'compare-stretch.png'));
                await page.mouse.click(x + width / 2, y + height / 4);
                await section.getByText('Drag along an axis').waitFor();
                await done();
        },
        async any_two_of_result_configuration_and_duration_are_set_against_each_other() {
                const {page, done} = await compared('&hide=2');
                const drawing = page.getByRole('img', {name: /against/}), said = (wanted) => page.waitForFunction((w) => [...document.querySelectorAll('svg[role=img]')].some((e) => new RegExp(w).test(e.getAttribute('aria-label'))), wanted);
                await said('^Test BPD from 3.108 to 3.344 against optimizer.learning_rate from 0.001 to 0.002, of 6 runs$');
                assert.equal(await drawing.locator('circle').count(), 6);
                await page.getByLabel('Across').selectOption('took');
                await page.getByRole('combobox', {name: /^Up/}).selectOption('training.seed');
                await said('^training.seed from 1 to 7 against Seconds it took from [\\d.]+ to [\\d.]+, of 6 runs$');
                await address(page, 'across=took&up=training.seed');
                await page.reload();
                await said('^training.seed from 1 to 7 against Seconds it took');
                await done();
        },
        async nobody_is_shut_out_at_any_width_in_light_and_dark() {
                const {page, done} = await compared('&refs=cifar10');
                await shutsNobodyOut(page, playwright, [[1360, 'light'], [1360, 'dark'], [900, 'light'], [375, 'dark']], path.join(out, 'compare'), true);
                await done();
        },
});
server.stop();
await close();
process.exit(failed ? 1 : 0);
