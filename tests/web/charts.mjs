// Curves in Chromium against fake_server.py: charts.mjs PLAYWRIGHT SITE OUT.
import assert from 'node:assert/strict';
import path from 'node:path';
import {clean, inked, newPage, open, run, serve, settled, shot, shownSteps} from './browser.mjs';

const [, , playwright, site, out] = process.argv;
const {context, close} = await open(playwright);
const world = await serve(site, 'world'), odd = await serve(site, 'odd');
const CURVE = '#5b5bd6';
const MILLION = 1, ONE_POINT = 2, HOLES = 3, RESUMED = 4, WAVE = 5, EVALUATIONS = 12, MANY = 16, LIVE = 7, OVER = 1;
const SPIKE = 654321;

async function chartsOf(server, job, options) {
        const {page, complaints} = await newPage(context, options);
        await page.addInitScript(() => {
                const draw = CanvasRenderingContext2D.prototype.fillText;
                CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) { // what a canvas says, by canvas
                        (this.canvas.said ??= []).push(text);
                        return draw.call(this, text, ...rest);
                };
        });
        await page.goto(server.at(`#/jobs/${job}`));
        await page.locator('.chart canvas').first().waitFor();
        await settled(page);
        return {page, done: async () => {
                await page.evaluate(() => localStorage.clear());
                clean(complaints);
                await page.close();
        }};
}

// Drags over the first chart from one share of its width to another, and waits for what becomes of it.
async function drag(page, from, to, after = settled) {
        const over = page.locator('.u-over').first();
        await over.scrollIntoViewIfNeeded();
        const box = await over.boundingBox(), y = box.y + box.height / 2;
        await page.mouse.move(box.x + from * box.width, y);
        await page.mouse.down();
        await page.mouse.move(box.x + to * box.width, y, {steps: 4});
        await page.mouse.up();
        await after(page);
}

const picture = (page, nth = 0) => page.locator('.chart canvas').nth(nth).evaluate((c) => c.toDataURL());
const shown = async (page) => (await shownSteps(page))[0];
const press = (page, group, button) => page.getByRole('group', {name: group}).getByText(button, {exact: true}).click();

const failed = await run({
        async a_zoom_on_a_live_run_holds_until_it_is_let_go() {
                const {page, done} = await chartsOf(world, LIVE);
                await drag(page, 0.2, 0.6);
                const view = await shown(page);
                const still = async (after) => {
                        await settled(page);
                        assert.deepEqual(await shown(page), view, after);
                };
                for (let i = 0; i < 3; i++) { // it grows
                        const before = await page.locator('.stat dd').first().textContent();
                        await page.waitForFunction((b) => document.querySelector('.stat dd').textContent !== b, before);
                }
                await still('new points');
                await page.locator('#smoothing').fill('0.3');
                await still('smoothing');
                await press(page, 'Values', 'log');
                await still('a log axis');
                await press(page, 'Steps', 'log');
                await still('log steps');
                await press(page, 'Steps', 'linear');
                await page.emulateMedia({colorScheme: 'dark'});
                await still('another theme');
                await page.setViewportSize({width: 1000, height: 800});
                await still('another width');
                await page.locator('.u-over').first().dblclick();
                await settled(page);
                const [from, to] = await shown(page);
                assert.ok(from === 0 && to > view[1]);
                await done();
        },
        async a_zoom_asks_for_its_detail_and_finds_the_spike() {
                const {page, done} = await chartsOf(odd, MILLION);
                const asked = [];
                page.on('request', (r) => asked.push(new URL(r.url())));
                for (let i = 0; i < 4; i++) {
                        const [from, to] = await shown(page), at = (SPIKE - from) / (to - from);
                        await drag(page, Math.max(0, at - 0.01), Math.min(1, at + 0.01));
                }
                const details = asked.filter((u) => u.pathname === '/v1/series' && u.searchParams.has('from') && u.searchParams.has('to'));
                assert.ok(details.length >= 2 && details.every((u) => Number(u.searchParams.get('to')) < 999999), `${asked}`);
                const [from, to] = await shown(page), box = await page.locator('.u-over').first().boundingBox();
                assert.ok(to - from < 1000 && from < SPIKE && to > SPIKE, `${from} to ${to}`);
                await page.mouse.move(box.x + (SPIKE - from) / (to - from) * box.width, box.y + 20);
                await page.waitForFunction(() => document.querySelector('.legend-item b').textContent === '50 at 654,321');
                await page.locator('.chart canvas').first().evaluate((c) => { c.said = []; });
                await drag(page, 0.2, 0.9);
                const said = await page.locator('.chart canvas').first().evaluate((c) => c.said.filter((t) => t.startsWith('654,')));
                said.splice(0, said.lastIndexOf(said[0])); // of the last drawing
                assert.ok(said.length >= 2 && new Set(said).size === said.length, `${said}`);
                await page.locator('.chart-note').getByText('No points in this part.').waitFor(); // of the learning rate
                await shot(page, path.join(out, 'chart-spike.png'));
                await done();
        },
        async a_view_moves_with_the_mouse_and_reads_on() {
                const {page, done} = await chartsOf(odd, MILLION);
                await drag(page, 0.4, 0.5);
                const [from, to] = await shown(page), asked = [];
                page.on('request', (r) => asked.push(Number(new URL(r.url()).searchParams.get('to'))));
                await page.keyboard.down('Shift');
                await drag(page, 0.8, 0.2);
                await page.keyboard.up('Shift');
                const [from2, to2] = await shown(page);
                assert.ok(Math.abs((from2 - from) / (to - from) - 0.6) < 0.02 && Math.abs((to2 - from2) - (to - from)) < 2, `${from} to ${to}, ${from2} to ${to2}`);
                assert.ok(asked.some((step) => step >= to2), `${asked}`);
                await done();
        },
        async detail_that_comes_too_late_is_dropped() {
                const {page, done} = await chartsOf(odd, MILLION);
                const before = await picture(page);
                await odd.tell('slow?path=from=&seconds=1.5');
                await drag(page, 0.3, 0.4, () => page.waitForRequest(/from=/));
                await page.getByRole('button', {name: 'All steps'}).click();
                await page.mouse.move(0, 0);
                await settled(page);
                assert.equal(await picture(page), before);
                await odd.tell('slow?path=from=&seconds=0');
                await done();
        },
        async points_are_seen_where_there_are_few() {
                for (const [job, least] of [[ONE_POINT, 12], [HOLES, 120]]) {
                        const {page, done} = await chartsOf(odd, job);
                        const ink = await inked(page, 0, CURVE);
                        assert.ok(ink >= least, `job ${job}: ${ink} pixels`);
                        await done();
                }
                const {page, done} = await chartsOf(odd, EVALUATIONS);
                const column = (x) => inked(page, 0, CURVE, x - 0.0005, x + 0.0015); // a point is thicker than the line
                const [from, to] = await shown(page), box = await page.locator('.u-over').first().boundingBox(), canvas = await page.locator('.chart canvas').first().boundingBox();
                const share = (step) => (box.x - canvas.x + (step - from) / (to - from) * box.width) / canvas.width;
                let thicker = 0;
                for (let step = 300; step <= 3500; step += 100)
                        thicker += await column(share(step)) > await column(share(step + 30));
                assert.ok(thicker > 24, `${thicker} of 33 evaluations have a point`);
                await done();
        },
        async only_what_is_noisy_is_smoothed() {
                for (const [server, job, nth, changes] of [[odd, EVALUATIONS, 0, false], [world, OVER, 4, false], [world, OVER, 0, true]]) {
                        const {page, done} = await chartsOf(server, job);
                        const seen = new Set();
                        for (const weight of ['0', '0.6', '0.95']) {
                                await page.locator('#smoothing').fill(weight);
                                await settled(page);
                                seen.add(await picture(page, nth));
                        }
                        assert.equal(seen.size, changes ? 3 : 1, `job ${job}, ${await page.locator('.chart h3').nth(nth).textContent()}`);
                        await done();
                }
        },
        async missing_points_are_marked_and_no_line_bridges_them() {
                const {page, done} = await chartsOf(odd, RESUMED);
                assert.equal(await page.locator('.chart-note').first().textContent(), 'No points between steps 400 and 700.');
                for (const colour of [CURVE, '#d55e00'])
                        assert.equal(await inked(page, 0, colour, 0.45, 0.67), 0);
                assert.ok(await inked(page, 0, CURVE, 0.1, 0.35) > 100);
                await shot(page, path.join(out, 'chart-gap.png'));
                await done();
        },
        async a_log_axis_has_round_labels_and_says_what_it_cannot_show() {
                const {page, done} = await chartsOf(odd, WAVE);
                await press(page, 'Values', 'log');
                await settled(page);
                const notes = await page.locator('.chart').evaluateAll((all) => Object.fromEntries(all.map((c) => [c.getAttribute('aria-label'), c.querySelector('.chart-note')?.textContent])));
                assert.match(notes.wave, /^\d+ points not shown: values at or below 0/);
                assert.match(notes.never, /^Nothing to show: all values are 0 or less/);
                await press(page, 'Values', 'linear');
                await press(page, 'Steps', 'log');
                await settled(page);
                assert.match(await page.locator('.chart-note').first().textContent(), /^1 point not shown: steps at or below 0/);
                await page.locator('.chart').last().scrollIntoViewIfNeeded();
                await shot(page, path.join(out, 'chart-log.png'));
                await done();
                const big = await chartsOf(odd, MILLION);
                await press(big.page, 'Steps', 'log');
                await settled(big.page);
                const labels = await big.page.locator('.chart canvas').first().evaluate((c) => c.said.filter((t) => /^[\d,.]+[kM]?$/.test(t)));
                assert.ok(labels.includes('10k') && labels.every((l) => /^[125](0|,|\.)*[kM]?$|^5\.\d+$|^\d\d(\.\d)?$|^\d(\.\d)?$/.test(l)), `${labels}`);
                assert.ok(!labels.some((l) => /1,?023|10\.02/.test(l)), `${labels}`);
                await big.done();
        },
        async all_charts_show_the_same_steps() {
                const {page, done} = await chartsOf(odd, MILLION);
                const ranges = new Set((await shownSteps(page)).map(String));
                assert.equal(ranges.size, 1);
                assert.ok((await shown(page))[1] === 999999);
                await drag(page, 0.3, 0.4);
                assert.equal(new Set((await shownSteps(page)).map(String)).size, 1);
                await done();
        },
        async a_chart_is_read_and_zoomed_by_keyboard() {
                const {page, done} = await chartsOf(world, OVER);
                const body = page.locator('.chart-body').first(), status = page.locator('.chart [role=status]').first();
                for (let i = 0; i < 40 && !await body.evaluate((e) => e === document.activeElement); i++)
                        await page.keyboard.press('Tab');
                assert.ok(await body.evaluate((e) => e === document.activeElement && getComputedStyle(e).outlineStyle === 'solid'));
                const all = await shown(page);
                await page.keyboard.press('Home');
                assert.match(await status.textContent(), /^train\/bpd [\d.]+ at \d+; eval\/bpd/);
                const first = await status.textContent();
                await page.keyboard.press('ArrowRight');
                assert.notEqual(await status.textContent(), first);
                await page.keyboard.press('+');
                const near = await shown(page);
                assert.ok(Math.abs((near[1] - near[0]) / (all[1] - all[0]) - 0.5) < 0.01, `${near}`);
                await page.keyboard.press('Shift+ArrowRight');
                assert.ok((await shown(page))[0] > near[0]);
                await page.keyboard.press('-');
                await page.keyboard.press('0');
                assert.deepEqual(await shown(page), all);
                await page.getByRole('button', {name: 'Zoom in'}).click();
                assert.ok((await shown(page))[1] < all[1]);
                await page.getByRole('button', {name: 'All steps'}).click();
                assert.deepEqual(await shown(page), all);
                await done();
        },
        async two_fingers_zoom_and_one_moves() {
                const {page, done} = await chartsOf(world, OVER, {viewport: {width: 390, height: 844}});
                const cdp = await context.newCDPSession(page);
                await cdp.send('Emulation.setTouchEmulationEnabled', {enabled: true, maxTouchPoints: 2});
                const over = page.locator('.u-over').first();
                await over.scrollIntoViewIfNeeded();
                const box = await over.boundingBox(), y = box.y + box.height / 2;
                const touch = (type, ...shares) => cdp.send('Input.dispatchTouchEvent', {type, touchPoints: shares.map((s, id) => ({x: box.x + s * box.width, y, id}))});
                const all = await shown(page);
                await touch('touchStart', 0.4, 0.6);
                for (const d of [0.05, 0.1, 0.15, 0.2])
                        await touch('touchMove', 0.4 - d, 0.6 + d);
                await touch('touchEnd');
                await settled(page);
                const near = await shown(page);
                assert.ok(Math.abs((near[1] - near[0]) / (all[1] - all[0]) - 1 / 3) < 0.03, `${near} of ${all}`);
                await touch('touchStart', 0.7);
                for (const x of [0.6, 0.5, 0.4])
                        await touch('touchMove', x);
                await touch('touchEnd');
                await settled(page);
                assert.ok((await shown(page))[0] > near[0] + 0.2 * (near[1] - near[0]), `${await shown(page)} after ${near}`);
                await done();
        },
        async of_five_thousand_series_some_are_read_and_all_are_found() {
                const asked = [], {page, complaints} = await newPage(context);
                page.on('request', (r) => r.url().includes('v1/series?') && asked.push(new URL(r.url()).searchParams.get('names').split(',')));
                await page.goto(odd.at(`#/jobs/${MANY}`));
                await page.locator('.chart canvas').nth(59).waitFor({state: 'attached'});
                assert.equal(await page.locator('.chart h3').first().textContent(), 'Bits per dimension');
                await page.getByText('4940 more charts').waitFor();
                assert.ok(asked.flat().length < 100, `${asked.flat().length} series were read`);
                await page.getByLabel('Charts whose name matches').fill('layer 4321$');
                await page.waitForFunction(() => document.querySelectorAll('.chart canvas').length === 1);
                assert.equal(await page.locator('.chart h3').textContent(), 'layer 4321');
                clean(complaints);
                await page.close();
        },
        async curves_that_are_read_are_not_called_missing() {
                await odd.tell('slow?path=series&seconds=1.5');
                const {page, complaints} = await newPage(context);
                await page.addInitScript(() => {
                        window.said = new Set();
                        new MutationObserver(() => window.said.add(document.querySelector('.empty-line')?.textContent)).observe(document, {childList: true, subtree: true, characterData: true});
                });
                await page.goto(odd.at(`#/jobs/${ONE_POINT}`));
                await page.getByText('Reading the curves').waitFor();
                await page.locator('.chart canvas').first().waitFor();
                assert.ok(!(await page.evaluate(() => [...window.said].join())).includes('points'));
                await odd.tell('slow?path=series&seconds=0');
                clean(complaints);
                await page.close();
        },
});
world.stop();
odd.stop();
await close();
process.exit(failed ? 1 : 0);
