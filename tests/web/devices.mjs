// The devices and the queue in Chromium, against a real mulund with scripted workers on two parts of the processor:
// devices.mjs PLAYWRIGHT SITE OUT. MULUND: its program.
import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import path from 'node:path';
import {clean, lab, newPage, open, run, shutsNobodyOut, skip} from './browser.mjs';

const [, , playwright, site, out] = process.argv;
if (!existsSync(process.env.MULUND ?? 'build/daemon/mulund'))
        skip('mulund is not built');
const {context, close} = await open(playwright);
const server = await lab(site, '--live', '--parts');
const [ON_A, ON_B, LAST] = [9, 10, 11];

async function devices(options = {}) {
        const {page, complaints} = await newPage(context, options);
        await page.goto(server.at('#/devices'));
        await page.getByRole('region', {name: 'What runs where'}).waitFor();
        return {page, done: async () => {
                clean(complaints);
                await page.close();
        }};
}

const api = (what) => fetch(server.at(`v1/${what}`)).then((r) => r.json());
const rows = (page, region) => page.getByRole('region', {name: region}).locator('tbody tr').allTextContents();

const failed = await run({
        async what_runs_where_and_what_waits_for_it() {
                const {page, done} = await devices();
                const [a, b] = await rows(page, 'What runs where');
                assert.match(a, /^aA processor, cores 0busylive.* of .*Drain$/);
                assert.match(b, /^bA processor, cores 1busybehind it/);
                assert.match(await page.locator('.count').textContent(), /^2 of 2 busy$/);
                const [waits] = await rows(page, 'The queue');
                assert.match(waits, /^1lasttrain-1.*#9 #10$/);
                await page.getByRole('region', {name: 'The queue'}).getByRole('link', {name: '#10'}).click();
                await page.getByRole('heading', {name: 'behind it'}).waitFor();
                await done();
        },
        async what_a_job_uses_of_its_device_is_a_curve_a_number_and_a_range() {
                const {page, done} = await devices();
                const table = page.getByRole('region', {name: 'Use over time'});
                await table.waitFor();
                assert.deepEqual(await table.locator('th').allTextContents(), ['Device', 'Runs', 'Utilisation', 'Memory', 'Temperature'], 'nobody told its power');
                const cells = await table.locator('tbody tr').first().locator('td').allTextContents();
                assert.deepEqual(cells, ['a', `#${ON_A}`, '75 %25 % to 75 %', '210 MB105 MB to 315 MB', '52 °C41 °C to 55.5 °C']);
                assert.equal(await table.locator('tbody tr').first().locator('.spark').count(), 3);
                await table.getByRole('link', {name: `#${ON_A}`}).click();
                await page.getByRole('region', {name: 'Device: utilisation'}).locator('canvas').waitFor();
                const titles = await page.locator('.chart h3').allTextContents();
                assert.deepEqual(titles.slice(-3), ['Device: memory', 'Device: temperature', 'Device: utilisation'], 'after what the model does');
                await done();
        },
        async why_a_device_is_out_and_who_else_computes_on_one() {
                const {page, complaints} = await newPage(context);
                await page.route(/v1\/devices$/, async (route) => {
                        const answer = await route.fetch(), [a, b] = (await answer.json()).devices;
                        const others = [{pid: 4711, user: 'ada', bytes: 2e9}, {pid: 4712, user: null, bytes: null}];
                        await route.fulfill({response: answer, json: {devices: [{...a, job: null, state: 'occupied', occupied_by: others}, {...b, state: 'draining', why: 'XID 79: it has fallen off the bus'}]}});
                });
                await page.goto(server.at('#/devices'));
                await page.getByRole('region', {name: 'What runs where'}).waitFor();
                const [a, b] = await rows(page, 'What runs where');
                assert.match(a, /occupiedprocess 4711 of ada, 2\.00 GBprocess 4712, –/);
                assert.match(b, /drainingXID 79: it has fallen off the bus/);
                clean(complaints);
                await page.close();
        },
        async an_idle_device_shows_what_the_last_job_there_used() {
                const {page, complaints} = await newPage(context);
                await page.route(/v1\/devices$/, async (route) => {
                        const answer = await route.fetch(), json = await answer.json();
                        await route.fulfill({response: answer, json: {devices: json.devices.map((d) => ({...d, job: null, state: 'idle'}))}});
                });
                await page.route(/v1\/jobs\?.*state=succeeded/, (route) => route.fulfill({json: {jobs: [
                        {id: 3, devices: ['a'], ended: '2026-01-01T00:00:00.000Z'}, {id: ON_A, devices: ['a', 'c'], ended: '2026-01-02T00:00:00.000Z'}, {id: 2, devices: null, ended: '2026-01-03T00:00:00.000Z'}], next: null}}));
                await page.goto(server.at('#/devices'));
                await page.getByRole('region', {name: 'Use over time'}).waitFor();
                const [a, ...others] = await rows(page, 'Use over time');
                assert.match(a, new RegExp(`^a#${ON_A}ended 2 Jan, \\d\\d:\\d\\d75 %25 % to 75 %`));
                assert.deepEqual(others, []);
                clean(complaints);
                await page.close();
        },
        async a_page_that_is_left_while_its_answers_are_under_way_drops_all_of_them() {
                const {page, done} = await devices();
                await page.route(/v1\/(devices|jobs\?)/, () => {}); // no answer
                await Promise.all([page.waitForRequest(/v1\/devices/), page.waitForRequest(/state=queued/)]);
                await page.evaluate(() => { location.hash = '#/new'; });
                await page.getByRole('heading', {name: 'New job'}).waitFor();
                await done(); // nothing was complained about
        },
        async a_device_is_drained_its_job_goes_on_elsewhere_and_it_comes_back() {
                const {page, done} = await devices();
                await page.getByRole('button', {name: 'Drain b'}).click();
                await page.getByText(`End #${ON_B} there after a checkpoint`).waitFor();
                await page.keyboard.press('Escape');
                assert.equal((await api('devices')).devices[1].state, 'busy');
                await page.getByRole('button', {name: 'Drain b'}).click();
                await page.getByLabel(`End #${ON_B} there`).check();
                await page.locator('dialog').getByRole('button', {name: 'Drain'}).click();
                await page.getByRole('region', {name: 'What runs where'}).getByText('drained').waitFor();
                await page.waitForFunction(() => document.querySelectorAll('section[aria-label="The queue"] tbody tr').length === 2);
                assert.equal((await api(`jobs/${ON_A}`)).state, 'running');
                await page.getByRole('button', {name: 'Enable b'}).click();
                await page.locator('dialog').getByRole('button', {name: 'Enable'}).click();
                await page.getByRole('region', {name: 'What runs where'}).getByText('busy').nth(1).waitFor();
                assert.equal((await api(`jobs/${LAST}`)).state, 'queued');
                await done();
        },
        async devices_are_reached_by_a_key_and_shut_nobody_out() {
                const {page, complaints} = await newPage(context);
                await page.goto(server.at());
                await page.locator('.run-name').first().waitFor();
                await page.keyboard.press('d');
                await page.getByRole('region', {name: 'The queue'}).waitFor();
                await shutsNobodyOut(page, playwright, [[1360, 'light'], [1360, 'dark'], [375, 'light']], path.join(out, 'devices'));
                clean(complaints);
                await page.close();
        },
});
server.stop();
await close();
process.exit(failed ? 1 : 0);
