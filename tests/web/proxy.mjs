// The dashboard below a path of an nginx with its defaults, in Chromium, against a real mulund with scripted workers: proxy.mjs
// PLAYWRIGHT SITE. MULUND: its program.
import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import {becomes, clean, download, lab, newPage, open, run, skip, toldOnly} from './browser.mjs';

const [, , playwright, site] = process.argv;
if (!existsSync(process.env.MULUND ?? 'build/daemon/mulund'))
        skip('mulund is not built');
if (!existsSync('/usr/sbin/nginx'))
        skip('nginx is not installed');
const {context, close} = await open(playwright);
const server = await lab(site, '--live', '--below');
const LIVE = 9;

// A page there that asks nothing by the clock; asked: the paths of all that it asked for.
async function below(hash = '') {
        const {page, complaints} = await newPage(context, {init: toldOnly}), asked = [];
        page.on('request', (r) => asked.push(new URL(r.url()).pathname));
        await page.goto(server.at(`mulund/${hash}`));
        return {page, asked, done: async () => {
                clean(complaints);
                assert.deepEqual(asked.filter((path) => !path.startsWith('/mulund/')), [], 'nothing is asked for beside the path');
                await page.close();
        }};
}

const failed = await run({
        async rows_curves_and_files_come_through_it() {
                const {page, asked, done} = await below();
                await page.getByRole('link', {name: 'run 1', exact: true}).click();
                await page.locator('.chart canvas').first().waitFor();
                assert.deepEqual((await download(page, 'Bits per dimension', 'csv')).bytes.toString().split('\r\n').length, 2 + 8 + 400, 'a head, all points of test and training, an end');
                assert.ok(asked.some((path) => path === '/mulund/v1/jobs/1/export'));
                await done();
        },
        async what_happens_is_told_at_once() {
                const {page, done} = await below(`#/jobs/${LIVE}`), step = page.locator('.stat dd').first();
                await step.waitFor();
                for (let i = 0; i < 3; i++) { // each is told by the stream, since this page's clock stands still
                        const before = await step.textContent();
                        await page.waitForFunction((old) => document.querySelector('.stat dd').textContent !== old, before);
                }
                await done();
        },
        async a_proxy_that_finds_nobody_behind_it_is_no_answer_and_the_stream_is_had_again() {
                const {page, complaints} = await newPage(context, {init: toldOnly}), bad = (route) => route.fulfill({status: 502, contentType: 'text/html', body: '<h1>502 Bad Gateway</h1>'});
                await page.route(/v1\/events$/, bad);
                await page.goto(server.at('mulund/'));
                await page.locator('.run-name').first().waitFor();
                await page.route(/\/(v1|healthz)/, bad);
                await page.getByRole('button', {name: 'queued', exact: true}).click();
                await page.locator('#banner').getByText('does not answer').waitFor();
                assert.equal(await page.locator('.problem').count(), 0);
                await page.unroute(/\/(v1|healthz)/);
                await page.unroute(/v1\/events$/);
                await page.locator('#banner').waitFor({state: 'hidden'});
                await page.getByRole('button', {name: 'all', exact: true}).click();
                const name = `told ${Date.now()}`;
                await page.getByText('run 1', {exact: true}).waitFor();
                await fetch(server.at('mulund/v1/jobs/1'), {method: 'PATCH', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({name})});
                await page.getByText(name).waitFor(); // by the stream, since this page's clock stands still
                clean(complaints, /502|MIME/);
                await page.close();
        },
        async a_run_is_paused_and_resumed_and_a_job_is_submitted() {
                const {page, done} = await below(`#/jobs/${LIVE}`), api = (path) => fetch(server.at(`mulund/v1/${path}`)).then((r) => r.json());
                for (const [button, state] of [['Pause', /^paused$/], ['Resume', /^(queued|running)$/]]) {
                        await page.getByRole('button', {name: button, exact: true}).click();
                        await page.locator('dialog button[type=submit]').click();
                        await becomes(async () => state.test((await api(`jobs/${LIVE}`)).state), true, button);
                        await page.getByRole('button', {name: button === 'Pause' ? 'Resume' : 'Pause', exact: true}).waitFor();
                }
                await page.goto(server.at('mulund/#/new?kind=train&config=photos32-tiny&set=data.dataset%3Dscripted'));
                await page.locator('button[type=submit]:enabled').click();
                await page.waitForFunction(() => /^#\/jobs\/\d+$/.test(location.hash.split('?')[0]));
                assert.equal((await api(`jobs/${/\d+/.exec(new URL(page.url()).hash)[0]}`)).config_name, 'photos32-tiny');
                await done();
        },
});
server.stop();
await close();
process.exit(failed ? 1 : 0);
