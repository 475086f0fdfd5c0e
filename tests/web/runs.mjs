// The list of runs and what is done with them, in Chromium against a real mulund with scripted workers: runs.mjs PLAYWRIGHT
// SITE OUT. MULUND: its program.
import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import path from 'node:path';
import {becomes, clean, drawn, lab, newPage, open, run, runsPage, shot, shutsNobodyOut, skip, toldOnly} from './browser.mjs';

const [, , playwright, site, out] = process.argv;
if (!existsSync(process.env.MULUND ?? 'build/daemon/mulund'))
        skip('mulund is not built');
const {context, close} = await open(playwright);
const server = await lab(site, '--live');
const LIVE = 9, WAITS = 10;

const list = (query = '', options = {}) => runsPage(context, server.at(`#/${query}`), options);

const api = (what) => fetch(server.at(`v1/jobs/${what}`)).then((r) => r.json());
const names = (page) => page.locator('.run-name').allTextContents();
const named = (page, wanted) => page.waitForFunction((w) => [...document.querySelectorAll('.run-name')].map((e) => e.textContent).join() === w, wanted.join());
const cells = (page, label) => page.locator(`td[data-label="${label}"]`).allTextContents();
const region = (page) => page.getByRole('region', {name: 'Selected runs'});
const settled = (id, state) => becomes(async () => (await api(id)).state, state);

const failed = await run({
        async the_best_come_first_by_any_column() {
                const {page, done} = await list();
                assert.match(await page.locator('.count').textContent(), /^10 runs$/);
                await page.getByRole('button', {name: 'Test BPD'}).click();
                await page.waitForFunction(() => document.querySelector('.run-name').textContent === 'run 3');
                assert.deepEqual((await names(page)).slice(0, 4), ['run 3', 'run 1', 'run 2', '<b>run 6</b>']);
                assert.equal(await page.locator('th.c-test').getAttribute('aria-sort'), 'ascending');
                await page.getByRole('button', {name: 'Test BPD'}).click();
                await page.waitForFunction(() => document.querySelector('.run-name').textContent === 'troubled');
                assert.equal((await names(page))[1], 'run 5'); // and those without a number come last still
                await page.waitForFunction(() => location.hash.includes('sort=-test'));
                await page.reload();
                await page.waitForFunction(() => document.querySelector('.run-name')?.textContent === 'troubled');
                await done();
        },
        async latest_and_best_stand_apart_and_all_are_sorted_by_them_not_only_those_in_sight() {
                const {page, done} = await list(`?text=run&sort=bestTrain&columns=${['state', 'test', 'train', 'bestTrain'].join()}`, {viewport: {width: 1360, height: 320}});
                const of = async (id) => {
                        const {series} = await api(`${id}/series`), s = (name) => series.find((x) => x.name === name);
                        return [s('eval/bpd').min, s('train/bpd').min, s('train/bpd').last].map((v) => v.toFixed(3));
                };
                const all = await Promise.all([1, 2, 3, 4, 5, 6, 7].map(async (id) => [id, ...await of(id)])), [[first, bestTest, bestTrain, last]] = all.sort((a, b) => a[2] - b[2]);
                await becomes(() => page.locator('.run-name').first().textContent(), `run ${first}`, 'the least value of all that it logged');
                const row = page.locator('tbody tr').nth(0);
                await row.locator('.spark').waitFor();
                assert.match(await row.locator('td[data-label="Test BPD"]').textContent(), new RegExp(`^3\\.\\d{3} ± 0\\.020best ${bestTest}$`));
                assert.equal(await row.locator('td[data-label="Training BPD"]').textContent(), `${last}best ${bestTrain}`);
                assert.equal(await row.locator('td[data-label="Best training BPD"]').textContent(), bestTrain);
                await done();
        },
        async columns_are_chosen_hyper_parameters_among_them() {
                const {page, done} = await list();
                await page.locator('.columns summary').click();
                await page.getByLabel('optimizer.learning_rate', {exact: true}).check();
                await page.getByLabel('Took', {exact: true}).check();
                await page.getByLabel('Device', {exact: true}).check();
                await page.getByLabel('Speed', {exact: true}).uncheck();
                await page.keyboard.press('Escape');
                await becomes(async () => (await cells(page, 'optimizer.learning_rate')).slice(-3), ['0.002', '0.002', '0.002']);
                await becomes(async () => (await cells(page, 'Device')).slice(0, 3), ['–', 'cpu', 'cpu'], 'what runs says where, what is over says where it ran');
                await becomes(() => page.locator('th.c-speed').count(), 0);
                await page.getByRole('button', {name: 'learning_rate'}).click();
                await page.waitForFunction(() => [...document.querySelectorAll('td[data-label="optimizer.learning_rate"]')][0].textContent === '0.0002');
                const hash = await page.evaluate(() => location.hash);
                assert.ok(hash.includes('optimizer.learning_rate') && hash.includes('took'), hash);
                await shot(page, path.join(out, 'runs-columns.png'));
                await done();
        },
        async rows_are_filtered_by_kind_tag_id_and_a_value_of_the_configuration() {
                const {page, done} = await list();
                const box = page.getByLabel('Filter by name');
                await box.fill('learning_rate=0.001');
                await named(page, ['run 7', '<b>run 6</b>', 'run 5', 'run 4']);
                await box.fill('run training.seed=2');
                await named(page, ['run 2']);
                await box.fill('#5');
                await named(page, ['run 5']);
                await box.fill('nothing is called so');
                await page.getByRole('button', {name: 'Clear the filter'}).click();
                await page.waitForFunction(() => document.querySelectorAll('.run-name').length === 10);
                assert.equal(await box.inputValue(), '');
                await page.getByRole('button', {name: 'lab', exact: true}).first().click();
                await page.waitForFunction(() => document.querySelectorAll('.run-name').length === 7);
                await page.getByRole('button', {name: /^tag lab/}).click();
                await page.waitForFunction(() => document.querySelectorAll('.run-name').length === 10);
                await page.getByLabel('Filter by kind').selectOption('sample');
                await page.getByText('No run matches').waitFor();
                await done();
        },
        async many_are_tagged_at_once_and_the_tag_is_taken_back() {
                const {page, done} = await list('?select=1,2,8');
                await region(page).getByRole('button', {name: 'Tag', exact: true}).click();
                await page.getByRole('heading', {name: 'Tag 3 runs?'}).waitFor();
                await page.locator('dialog input').fill('<i>best</i>');
                await page.locator('dialog').getByRole('button', {name: 'Tag'}).click();
                await region(page).getByText('3 runs tagged.').waitFor();
                assert.deepEqual([(await api(1)).tags, (await api(8)).tags], [['lab', '<i>best</i>'], ['<i>best</i>']]);
                await region(page).getByRole('button', {name: 'Undo'}).click();
                await region(page).getByText('3 runs without the tag.').waitFor();
                assert.deepEqual([(await api(1)).tags, (await api(8)).tags], [['lab'], []]);
                await region(page).getByRole('button', {name: 'Tag', exact: true}).click();
                await page.locator('dialog input').fill('lab');
                await page.locator('dialog').getByRole('button', {name: 'Tag'}).click();
                await region(page).getByText('1 run tagged.').waitFor();
                await region(page).getByRole('button', {name: 'Undo'}).click();
                await region(page).getByText('1 run without the tag.').waitFor();
                assert.deepEqual([(await api(1)).tags, (await api(8)).tags], [['lab'], []], 'what it had before stays');
                await done();
        },
        async all_that_the_filter_takes_are_selected_in_sight_or_not() {
                const {page, done} = await list('?text=run', {viewport: {width: 1360, height: 320}}), all = page.getByRole('checkbox', {name: 'Select all'});
                await all.check();
                await page.getByText('7 runs selected').waitFor();
                await page.getByRole('checkbox', {name: /, run 2$/}).uncheck();
                await page.getByText('6 runs selected').waitFor();
                assert.equal(await all.evaluate((e) => e.indeterminate && !e.checked), true);
                await page.evaluate(() => document.activeElement.blur());
                await page.keyboard.press('a');
                await page.getByText('7 runs selected').waitFor();
                await page.keyboard.press('a');
                await becomes(() => region(page).count(), 0);
                await done();
        },
        async what_was_refused_is_said_until_it_is_closed_though_the_run_moves_on() {
                const {page, complaints} = await newPage(context), told = page.getByRole('alert').getByText('Not now');
                await page.route(new RegExp(`/jobs/${LIVE}/pause$`), (route) => route.fulfill({status: 409, contentType: 'application/problem+json', body: '{"title": "Not now"}'}));
                await page.goto(server.at(`#/jobs/${LIVE}`));
                await page.getByRole('button', {name: 'Pause', exact: true}).click();
                await page.locator('dialog').getByRole('button', {name: 'Pause the run'}).click();
                await told.waitFor();
                for (let i = 0; i < 3; i++)
                        await page.waitForResponse((r) => r.url().endsWith(`/v1/jobs/${LIVE}`));
                await drawn(page);
                assert.equal(await told.count(), 1);
                await page.getByRole('button', {name: 'Close'}).click();
                await becomes(() => told.count(), 0);
                clean(complaints, /409/);
                await page.close();
        },
        async a_live_run_is_paused_and_resumed_with_others_that_it_does_not_fit() {
                const {page, done} = await list(`?select=1,${LIVE}`);
                await region(page).getByRole('button', {name: 'Pause', exact: true}).click();
                await page.getByText('For 1 of the selected it does not fit').waitFor();
                await page.locator('dialog').getByRole('button', {name: 'Pause'}).click();
                await region(page).getByText('1 run paused.').waitFor();
                await settled(LIVE, 'paused');
                await region(page).getByRole('button', {name: 'Undo'}).click();
                await region(page).getByText('1 run queued again.').waitFor();
                assert.notEqual((await api(LIVE)).state, 'paused');
                await done();
        },
        async many_are_cancelled_and_retried_and_what_is_refused_is_said() {
                const {page, done} = await list(`?select=1,${LIVE},${WAITS}`), press = async (name) => {
                        await region(page).getByRole('button', {name, exact: true}).click();
                        await page.locator('dialog').getByRole('button', {name: `${name} the runs`}).click();
                };
                await press('Cancel');
                await region(page).getByText('2 runs cancelled.').waitFor();
                await settled(LIVE, 'cancelled');
                await settled(WAITS, 'cancelled');
                await page.route(new RegExp(`/jobs/${WAITS}/retry$`), (route) => route.fulfill({status: 409, contentType: 'application/problem+json', body: '{"title": "Not now"}'}));
                await press('Retry');
                await region(page).getByText(`1 run queued again. #${WAITS}: Not now`).waitFor();
                await fetch(server.at(`v1/jobs/${WAITS}/retry`), {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'});
                await settled(LIVE, 'running');
                await settled(WAITS, 'queued');
                await done(/409/);
        },
        async a_comparison_grows_while_a_run_of_it_is_live() {
                const {page, complaints} = await newPage(context, {init: toldOnly}), last = page.locator('.chart', {hasText: 'Bits per dimension, training'}).locator('.legend-item').nth(1);
                await page.goto(server.at(`#/compare?jobs=1,${LIVE}`));
                await last.waitFor();
                for (let i = 0; i < 3; i++) { // each is told by the stream, since this page's clock stands still
                        const before = await last.textContent();
                        assert.match(before, /^live/);
                        await becomes(async () => await last.textContent() !== before, true);
                }
                clean(complaints);
                await page.close();
        },
        async deleting_asks_first_and_what_is_gone_is_selected_no_more() {
                const {page, done} = await list('?select=4,7');
                await region(page).getByRole('button', {name: 'Delete', exact: true}).click();
                await page.getByText('removed for good').waitFor();
                await page.getByRole('button', {name: 'Back'}).click();
                assert.equal((await api(7)).id, 7);
                await region(page).getByRole('button', {name: 'Delete', exact: true}).click();
                await page.locator('dialog').getByRole('button', {name: 'Delete'}).click();
                await region(page).getByText('2 runs deleted.').waitFor();
                assert.equal((await fetch(server.at('v1/jobs/7'))).status, 404);
                assert.ok(!(await page.evaluate(() => location.hash)).includes('select'));
                await page.waitForFunction(() => document.querySelectorAll('.run-name').length === 8);
                await done();
        },
        async a_job_is_renamed_noted_tagged_and_moved_in_the_queue() {
                const {page, complaints} = await newPage(context);
                await page.goto(server.at(`#/jobs/${WAITS}`));
                await page.locator('.waiting, .pill.running').first().waitFor();
                await page.getByRole('button', {name: 'Edit'}).click();
                for (const [label, text] of [['Name', 'renamed <b>'], ['Tags', 'x, y'], ['Notes', 'two\nlines'], ['Priority', '7']])
                        await page.locator('dialog').getByLabel(label).fill(text);
                await page.getByRole('button', {name: 'Save'}).click();
                await page.getByRole('heading', {name: 'renamed <b>'}).waitFor();
                const {name, tags, notes, priority} = await api(WAITS);
                assert.deepEqual([name, tags, notes, priority], ['renamed <b>', ['x', 'y'], 'two\nlines', 7]);
                assert.equal(await page.locator('.notes').textContent(), 'two\nlines');
                for (const [button, state] of [['Pause', 'paused'], ['Resume', 'queued'], ['Cancel', 'cancelled'], ['Retry', 'queued']]) {
                        await page.getByRole('button', {name: button, exact: true}).click();
                        await page.locator('dialog button[type=submit]').click();
                        await page.locator('dialog').waitFor({state: 'detached'});
                        await page.waitForFunction((s) => document.querySelector('.pill')?.textContent === s || (s === 'queued' && document.querySelector('.pill')?.textContent === 'running'), state);
                }
                clean(complaints);
                await page.close();
        },
        async the_keyboard_alone_searches_walks_selects_and_compares() {
                const {page, done} = await list();
                await page.keyboard.press('?');
                await page.getByRole('heading', {name: 'Keys'}).waitFor();
                await page.keyboard.press('Enter');
                await page.locator('dialog').waitFor({state: 'detached'});
                const active = () => page.evaluate(() => document.activeElement.textContent || document.activeElement.getAttribute('aria-label'));
                await page.keyboard.press('/');
                assert.equal(await active(), 'Filter by name');
                await page.keyboard.type('jx run'); // goes into the field
                assert.equal(await page.getByLabel('Filter by name').inputValue(), 'jx run');
                await page.getByLabel('Filter by name').fill('run');
                await page.waitForFunction(() => document.querySelectorAll('.run-name').length === 5);
                await page.evaluate(() => document.activeElement.blur());
                const all = await names(page);
                for (const [key, at] of [['j', 0], ['j', 1], ['j', 2], ['k', 1]]) {
                        await page.keyboard.press(key);
                        assert.equal(await active(), all[at]);
                }
                await page.keyboard.press('x');
                await page.keyboard.press('j');
                await page.keyboard.press('x');
                await page.getByText('2 runs selected').waitFor();
                await page.keyboard.press('c');
                await page.waitForFunction(() => location.hash.startsWith('#/compare?jobs='));
                await page.keyboard.press('n');
                await page.locator('form.new').waitFor();
                await done(/422/);
        },
        async seven_tabs_share_one_stream_and_another_takes_it_over() {
                const streams = [], rename = (name) => fetch(server.at('v1/jobs/1'), {method: 'PATCH', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({name})});
                const tab = async (i) => {
                        const {page, complaints} = await newPage(context, {init: toldOnly});
                        page.on('response', (r) => r.url().endsWith('/v1/events') && streams.push(i));
                        await page.goto(server.at(i % 2 ? '#/jobs/1' : '#/?text=%231'));
                        await page.getByText('run 1', {exact: true}).first().waitFor();
                        return {page, complaints};
                };
                const first = await tab(0);
                await becomes(() => streams, [0]);
                const others = await Promise.all([1, 2, 3, 4, 5, 6].map(tab));
                assert.deepEqual(streams, [0]);
                await rename('told to all');
                for (const {page} of [first, ...others])
                        await page.getByText('told to all').first().waitFor();
                await first.page.close();
                await becomes(() => streams.length, 2);
                await rename('run 1');
                for (const {page, complaints} of others) {
                        await page.getByText('run 1', {exact: true}).first().waitFor();
                        clean(complaints);
                        await page.close();
                }
        },
        async all_that_a_filter_takes_are_acted_on_however_many() {
                const n = 523, body = (i) => JSON.stringify({kind: 'train', name: `crowd ${i}`, tags: ['crowd'], priority: -5, config: {data: {dataset: 'scripted'}, training: {num_steps_train: 40, batch_size_train: 8, num_steps_eval: 0, seed: 9}}});
                for (let i = 0; i < n; i++)
                        assert.equal((await fetch(server.at('v1/jobs'), {method: 'POST', headers: {'Content-Type': 'application/json'}, body: body(i)})).status, 201);
                const inState = async (state) => (await (await fetch(server.at(`v1/jobs?limit=1&tag=crowd&state=${state}`))).json()).total, {page, done} = await list('?tag=crowd', {viewport: {width: 375, height: 800}});
                const all = page.getByRole('checkbox', {name: 'Select all'}), box = await all.boundingBox(), asked = [], said = (text) => region(page).getByText(text).waitFor();
                assert.ok(box.width > 10 && box.y > 0 && box.y < 800, 'it is in sight on a phone');
                page.on('request', (r) => r.method() !== 'GET' && asked.push(`${r.method()} ${new URL(r.url()).pathname}`));
                const press = async (name) => {
                        await region(page).getByRole('button', {name, exact: true}).click();
                        await page.getByRole('heading', {name: `${name} ${n} runs?`}).waitFor();
                        await page.locator('dialog button[type=submit]').click();
                };
                await all.click();
                await said(`${n} runs selected`);
                await page.waitForFunction(() => location.hash.includes('select=all'));
                await page.reload();
                await said(`${n} runs selected`);
                await press('Cancel');
                await said(`${n} runs cancelled.`);
                assert.deepEqual([asked, await inState('cancelled')], [['POST /v1/jobs/cancel'], n], 'the server does it, asked once');
                await region(page).getByRole('button', {name: 'Pause', exact: true}).click();
                await said('None of them can be paused.');
                await press('Retry');
                await said(`${n} runs queued again.`);
                await region(page).getByRole('button', {name: 'Undo'}).click();
                await said(`${n} runs cancelled.`);
                assert.equal(await inState('cancelled'), n);
                await page.route(/v1\/jobs\/retry$/, (route) => route.fulfill({json: {matched: n, changed: n - 3, refused: 3}}));
                await press('Retry');
                await said(`${n - 3} runs queued again. 3 others moved on meanwhile`);
                await page.route(/v1\/jobs\/retry$/, (route) => route.abort());
                await press('Retry');
                await region(page).getByText(/^mulund does not answer$/).waitFor(); // how many it did is not known
                await page.route(/v1\/jobs\/\d+$/, (route) => (route.request().method() === 'PATCH' ? route.fulfill({status: 409, contentType: 'application/problem+json', body: '{"title": "Not now"}'}) : route.fallback()), {times: 20});
                await region(page).getByRole('button', {name: 'Tag', exact: true}).click();
                await page.locator('dialog input').fill('more');
                await page.locator('dialog button[type=submit]').click();
                await region(page).getByText(/^[5-9]\d of 523$/).waitFor();
                await region(page).getByRole('button', {name: 'Stop'}).click();
                await region(page).getByText(/^\d+ runs tagged\. (#\d+: Not now ){3}And \d+ others\.$/).waitFor();
                assert.ok((await (await fetch(server.at('v1/jobs?limit=1&tag=more'))).json()).total < 400, 'the others were spared');
                await page.getByLabel('Filter by name').fill('crowd 52'); // others: of them none is selected
                await named(page, ['crowd 522', 'crowd 521', 'crowd 520', 'crowd 52']);
                assert.equal(await page.getByRole('checkbox', {checked: true}).count(), 0);
                await all.click();
                await said('4 runs selected');
                await page.getByLabel('Filter by name').fill('training.seed=9 crowd');
                await page.getByText(`${n} runs`, {exact: true}).waitFor();
                await page.getByRole('button', {name: 'Clear', exact: true}).click();
                await all.click(); // the server does not know this filter
                await region(page).getByRole('button', {name: 'Delete', exact: true}).click();
                await page.getByRole('heading', {name: `Delete ${n} runs?`}).waitFor();
                await page.getByRole('button', {name: 'Back'}).click();
                await page.getByLabel('Filter by name').fill('');
                await all.click();
                await said(`${n} runs selected`);
                await press('Delete');
                await said(`${n} runs deleted.`);
                assert.equal(await inState('cancelled'), 0);
                await done(/409|ERR_FAILED/);
        },
        async nobody_is_shut_out_at_any_width_in_light_and_dark() {
                for (const query of ['?select=1,2', '?columns=state,test,notes,optimizer.learning_rate&sort=test']) {
                        const {page, done} = await list(query);
                        await shutsNobodyOut(page, playwright, [[1360, 'light'], [1360, 'dark'], [900, 'light'], [375, 'light']], path.join(out, `runs-${query.length}`));
                        await done();
                }
        },
});
server.stop();
await close();
process.exit(failed ? 1 : 0);
