// A job's page in Chromium, against a real mulund with scripted workers: job.mjs PLAYWRIGHT SITE OUT. MULUND: its program.
import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import path from 'node:path';
import {axeFindsNothing, clean, lab, newPage, open, run, skip} from './browser.mjs';

const [, , playwright, site, out] = process.argv;
if (!existsSync(process.env.MULUND ?? 'build/daemon/mulund'))
        skip('mulund is not built');
const {context, close} = await open(playwright);
const server = await lab(site);
const TROUBLED = 8;

async function job(id, options = {}) {
        const {page, complaints} = await newPage(context, options);
        await page.goto(server.at(`#/jobs/${id}`));
        await page.getByRole('region', {name: 'Events', exact: true}).waitFor();
        await page.locator('.chart canvas').first().waitFor();
        return {page, done: async () => {
                clean(complaints);
                await page.close();
        }};
}

const rows = (page, region) => page.getByRole('region', {name: region, exact: true}).locator('tbody tr').allTextContents();

const failed = await run({
        async the_log_has_its_colours_and_is_searched_line_by_line() {
                const {page, done} = await job(TROUBLED);
                const log = page.locator('.log');
                assert.equal(await log.locator('.ansi-1').textContent(), 'red alert');
                assert.equal(await log.locator('.ansi-2.bold').textContent(), 'all is well');
                assert.ok((await log.textContent()).includes('<b>from the host</b>') && !(await log.textContent()).includes('\x1b'));
                await page.getByLabel('Search the log').fill('ALERT <B>');
                assert.equal((await log.textContent()).trim(), 'red alert <b>from the host</b>');
                assert.equal(await log.locator('mark').textContent(), 'alert <b>');
                await page.getByText('1 line', {exact: true}).waitFor();
                await page.getByLabel('Search the log').fill('.*');
                await page.getByText('No line has that.').waitFor();
                await done();
        },
        async attempts_say_why_they_ended_and_events_what_happened() {
                const {page, done} = await job(TROUBLED);
                const [second, first] = await rows(page, 'Attempts');
                assert.match(first, /^1.*failed: host, the host's faultthe fan stood still$/);
                assert.match(second, /^2.*20 to 40.*done/);
                const events = await rows(page, 'Events');
                assert.match(events.at(-1), /submitnew → queued/);
                assert.match(events[0], /donerunning → succeeded/);
                assert.ok(events.some((e) => /running → queued/.test(e)));
                await done();
        },
        async what_differs_from_the_template_comes_first() {
                const {page, done} = await job(1);
                const differs = page.getByRole('region', {name: 'What differs'});
                assert.match(await differs.locator('p').textContent(), /^\d+ keys not as in the defaults:$/);
                assert.deepEqual(await differs.locator('div', {hasText: 'optimizer.learning_rate'}).last().locator('dd').textContent(), '0.002 was 0.0002');
                await done();
        },
        async checkpoints_say_which_is_best_and_what_can_be_made_of_them() {
                const {page, done} = await job(TROUBLED);
                const table = page.getByRole('region', {name: 'Checkpoints', exact: true});
                assert.match((await rows(page, 'Checkpoints'))[0], /^40latest/);
                assert.deepEqual(await table.locator('tbody tr').first().locator('a').evaluateAll((all) => all.map((a) => a.getAttribute('href')).filter((x) => x.startsWith('#'))),
                        ['evaluate', 'sample', 'train'].map((k) => `#/new?kind=${k}&job=8&step=40`));
                await done();
        },
        async nobody_is_shut_out() {
                for (const [width, colorScheme] of [[1360, 'light'], [1360, 'dark'], [375, 'light']]) {
                        const {page, done} = await job(TROUBLED, {viewport: {width, height: 900}, colorScheme});
                        await axeFindsNothing(page, playwright, `${width}, ${colorScheme}`);
                        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= width);
                        await page.screenshot({path: path.join(out, `troubled-${width}-${colorScheme}.png`), fullPage: true});
                        await done();
                }
        },
});
server.stop();
await close();
process.exit(failed ? 1 : 0);
