// The pages in Chromium against fake_server.py: pages.mjs PLAYWRIGHT SITE OUT. Screenshots go to OUT.
import assert from 'node:assert/strict';
import path from 'node:path';
import {becomes, clean, drawn, inked, newPage, open, run, serve, settled, shot} from './browser.mjs';

const [, , playwright, site, out] = process.argv;
const {context, close} = await open(playwright);
const fake = await serve(site, 'world');
const blank = await serve(site, 'empty');
const at = (hash = '') => `http://127.0.0.1:${fake.port}/${hash}`;
const look = (page, name, fullPage = true) => shot(page, path.join(out, `${name}.png`), fullPage);

const failed = await run({
        async runs_are_listed_newest_first() {
                const {page, complaints} = await newPage(context);
                await page.goto(at());
                await page.locator('table.runs tbody tr').nth(6).waitFor();
                assert.equal(await page.locator('.run-name').first().textContent(), 'live & <b>kicking</b>');
                assert.match(await page.locator('td[data-label="Test BPD"]').nth(5).textContent(), /6\.981 ± 0\.024/);
                assert.equal(await page.locator('#link-state').textContent(), 'connected');
                await page.locator('svg.spark').first().waitFor();
                await look(page, 'runs');
                clean(complaints);
                await page.close();
        },
        async filters_ask_the_server() {
                const {page, complaints} = await newPage(context);
                await page.goto(at());
                await page.getByRole('button', {name: 'failed', exact: true}).click();
                await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1);
                await page.getByRole('button', {name: 'all', exact: true}).click();
                await page.getByLabel('Filter by name').fill('night');
                await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1);
                await page.getByLabel('Filter by name').fill('no such thing');
                await page.getByText('No run matches').waitFor();
                clean(complaints);
                await page.close();
        },
        async curves_are_drawn_and_grow() {
                const {page, complaints} = await newPage(context);
                await page.goto(at('#/jobs/7'));
                await page.locator('.chart canvas').first().waitFor();
                const legend = page.locator('.legend-item').first();
                await page.waitForFunction(() => /at [\d,]+/.test(document.querySelector('.legend-item')?.textContent ?? ''));
                const before = await legend.textContent();
                assert.ok(await inked(page) > 2000, 'the canvas is empty');
                await page.waitForFunction((b) => document.querySelector('.legend-item').textContent !== b, before);
                const requests = [];
                page.on('request', (r) => requests.push(r.url()));
                const series = () => requests.filter((u) => u.includes('v1/series?'));
                await becomes(() => series().length > 1, true);
                assert.ok(series().every((u) => /[?&]from=\d+/.test(u)), `whole curves were read again: ${series()}`);
                await look(page, 'job-live');
                clean(complaints);
                await page.close();
        },
        async nothing_is_asked_at_rest() {
                const {page, complaints} = await newPage(context);
                await page.goto(at('#/jobs/1'));
                await page.locator('.chart canvas').first().waitFor();
                await settled(page);
                const requests = [];
                page.on('request', (r) => requests.push(r.url()));
                await page.waitForTimeout(2500);
                assert.deepEqual(requests, []);
                clean(complaints);
                await page.close();
        },
        async axes_smoothing_and_band_change_the_drawing() {
                const {page, complaints} = await newPage(context);
                await page.goto(at('#/jobs/1'));
                await page.locator('.chart canvas').first().waitFor();
                await settled(page);
                const picture = () => page.locator('.chart canvas').first().evaluate((c) => c.toDataURL());
                const seen = new Set([await picture()]);
                for (const press of [
                        () => page.getByRole('group', {name: 'Steps'}).getByText('log').click(),
                        () => page.getByRole('group', {name: 'Values'}).getByText('log').click(),
                        () => page.getByRole('group', {name: 'Min–max band'}).getByText('off').click(),
                        () => page.locator('#smoothing').fill('0')]) {
                        await press();
                        await drawn(page);
                        seen.add(await picture());
                }
                assert.equal(seen.size, 5);
                await look(page, 'job-log-axes');
                await page.evaluate(() => localStorage.clear());
                clean(complaints);
                await page.close();
        },
        async hostile_names_logs_and_errors_are_text() {
                const {page, complaints} = await newPage(context);
                await page.goto(at());
                await page.getByText('onerror=').first().waitFor();
                await page.goto(at('#/jobs/3'));
                await page.locator('.log').getByText('onerror=').waitFor();
                await page.locator('.problem').getByText('onerror=').waitFor();
                assert.equal(await page.locator('h1').textContent(), '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>');
                assert.equal(await page.evaluate(() => window.pwned), undefined);
                assert.equal(await page.locator('img[src="x"]').count(), 0);
                await look(page, 'job-failed');
                clean(complaints);
                await page.close();
        },
        async an_evaluation_shows_its_standard_error_and_parts() {
                const {page, complaints} = await newPage(context);
                await page.goto(at('#/jobs/2'));
                const result = page.getByRole('region', {name: 'Result'});
                await result.waitFor();
                const text = await result.textContent();
                for (const part of ['6.981', '± 0.024', 'recon', 'latent', 'diff', '1,228', 'ema'])
                        assert.ok(text.includes(part), part);
                await look(page, 'job-evaluation');
                clean(complaints);
                await page.close();
        },
        async images_step_by_step() {
                const {page, complaints} = await newPage(context);
                await page.goto(at('#/jobs/1'));
                const picture = page.locator('img.sample');
                await picture.waitFor();
                assert.equal(await picture.getAttribute('alt'), 'Samples at step 900');
                assert.equal(await picture.evaluate((e) => getComputedStyle(e).imageRendering), 'pixelated');
                await page.waitForFunction(() => document.querySelector('img.sample').naturalWidth > 0);
                await page.getByLabel('Step of the images').fill('2');
                assert.equal(await picture.getAttribute('alt'), 'Samples at step 300');
                clean(complaints);
                await page.close();
        },
        async cancelling_asks_first() {
                const {page, complaints} = await newPage(context);
                await page.goto(at('#/jobs/6'));
                await page.getByRole('button', {name: 'Cancel', exact: true}).click();
                await page.getByRole('button', {name: 'Back'}).click();
                await page.locator('.pill.queued').waitFor();
                await page.getByRole('button', {name: 'Cancel', exact: true}).click();
                await page.getByRole('button', {name: 'Cancel the run'}).click();
                await page.locator('.pill.cancelled').waitFor();
                await page.getByRole('button', {name: 'Resume'}).waitFor();
                clean(complaints);
                await page.close();
        },
        async a_phone_sees_all_of_it() {
                for (const [hash, name] of [['', 'phone-runs'], ['#/jobs/1', 'phone-job']]) {
                        const {page, complaints} = await newPage(context, {viewport: {width: 375, height: 812}});
                        await page.goto(at(hash));
                        await page.locator(hash ? '.chart canvas' : 'tbody tr').first().waitFor();
                        await settled(page);
                        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
                        assert.ok(wide <= 375, `${name} is ${wide} pixels wide`);
                        await look(page, name);
                        clean(complaints);
                        await page.close();
                }
        },
        async dark_mode_follows_the_system() {
                const {page, complaints} = await newPage(context, {colorScheme: 'dark'});
                await page.goto(at('#/jobs/1'));
                await page.locator('.chart canvas').first().waitFor();
                await settled(page);
                assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(18, 18, 24)');
                await look(page, 'job-dark');
                clean(complaints);
                await page.close();
        },
        async colours_are_as_the_system_has_them_or_as_was_chosen_and_stay_so() {
                const {page, complaints} = await newPage(context, {colorScheme: 'dark'}), ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
                const LIGHT = 'rgb(246, 246, 249)', DARK = 'rgb(18, 18, 24)', choose = (now) => page.getByRole('button', {name: `Colours: ${now}`, exact: true}).click();
                await page.goto(at('#/jobs/1'));
                await page.locator('.chart canvas').first().waitFor();
                await choose('as the system');
                assert.equal(await ground(), LIGHT);
                await settled(page);
                assert.ok(await inked(page, 0, '#5b5bd6') > 0, 'the curves change, too');
                await page.reload();
                await page.getByRole('button', {name: 'Colours: light'}).waitFor();
                assert.equal(await ground(), LIGHT);
                await page.emulateMedia({colorScheme: 'light'});
                await choose('light');
                assert.equal(await ground(), DARK);
                await choose('dark');
                assert.equal(await ground(), LIGHT);
                await page.emulateMedia({colorScheme: 'dark'});
                await becomes(ground, DARK);
                await page.evaluate(() => localStorage.clear());
                clean(complaints);
                await page.close();
        },
        async the_keyboard_reaches_a_run() {
                const {page, complaints} = await newPage(context);
                await page.goto(at());
                await page.locator('tbody tr').first().waitFor();
                for (let i = 0; i < 40; i++) {
                        await page.keyboard.press('Tab');
                        if (await page.evaluate(() => document.activeElement.classList.contains('run-name')))
                                break;
                }
                assert.equal(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'solid');
                await page.keyboard.press('Enter');
                await page.waitForFunction(() => location.hash.startsWith('#/jobs/'));
                clean(complaints);
                await page.close();
        },
        async an_empty_list_says_what_to_paste() {
                const {page, complaints} = await newPage(context);
                await page.goto(`http://127.0.0.1:${blank.port}/`);
                const command = await page.locator('pre.command').textContent();
                assert.ok(command.includes(`curl -X POST http://127.0.0.1:${blank.port}/v1/jobs`) && command.includes('photos32-tiny'), command);
                await look(page, 'empty', false);
                clean(complaints);
                await page.close();
        },
        async a_missing_run_says_so() {
                const {page, complaints} = await newPage(context);
                await page.goto(at('#/jobs/99'));
                await page.getByText('There is no run #99').waitFor();
                clean(complaints, /404/);
                await page.close();
        },
        async a_server_that_is_gone_is_told_and_found_again() {
                const {page} = await newPage(context);
                await page.goto(at());
                await page.locator('tbody tr').first().waitFor();
                await fake.tell('down?seconds=600');
                await page.locator('#banner').getByText('does not answer').waitFor();
                await look(page, 'unreachable', false);
                assert.ok(await page.locator('tbody tr').count() > 0, 'the list was thrown away');
                await fake.tell('down?seconds=0');
                await page.locator('#banner').waitFor({state: 'hidden'});
                await page.close();
        },
});
fake.stop();
blank.stop();
await close();
process.exit(failed ? 1 : 0);
