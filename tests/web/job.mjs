// A job's page in Chromium, against a real mulund with scripted workers: job.mjs PLAYWRIGHT SITE OUT. MULUND: its program.
import assert from 'node:assert/strict';
import {execFileSync} from 'node:child_process';
import {existsSync} from 'node:fs';
import path from 'node:path';
import {becomes, chart, clean, download, lab, menu, newPage, open, run, settled, shownSteps, shutsNobodyOut, skip} from './browser.mjs';

const [, , playwright, site, out] = process.argv;
if (!existsSync(process.env.MULUND ?? 'build/daemon/mulund'))
        skip('mulund is not built');
const {context, close} = await open(playwright);
const server = await lab(site);
const TROUBLED = 8, LONG = {kind: 'train', name: 'long', config: {data: {dataset: 'scripted'}, training: {num_steps_train: 4000, batch_size_train: 8, num_steps_eval: 0, seed: 13}}};

async function job(id, options = {}) {
        const {page, complaints} = await newPage(context, options);
        await page.goto(server.at(`#/jobs/${id}`));
        await page.getByRole('region', {name: 'Events', exact: true}).waitFor();
        await page.locator('.chart canvas').first().waitFor();
        return {page, done: async (...allowed) => {
                clean(complaints, ...allowed);
                await page.close();
        }};
}

async function fresh(query, options = {}) {
        const {page, complaints} = await newPage(context, options);
        await page.goto(server.at(`#/new?${query}`));
        await page.getByLabel('learning_rate', {exact: true}).or(page.getByLabel('n_images', {exact: true})).first().waitFor();
        return {page, done: async (...allowed) => {
                clean(complaints, ...allowed);
                await page.close();
        }};
}

const api = (path) => fetch(server.at(`v1/${path}`)).then((r) => r.json());
// A job that was submitted and is over.
async function submitted(body) {
        const made = await fetch(server.at('v1/jobs'), {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)}).then((r) => r.json());
        await becomes(async () => (await api(`jobs/${made.id}`)).state, 'succeeded');
        return made;
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
                await settled(page);
                assert.equal(await page.locator('.legend-item').count(), 1, 'the first attempt wrote nothing that was written anew');
                const events = await rows(page, 'Events');
                assert.match(events.at(-1), /submitnew → queued/);
                assert.match(events[0], /donerunning → succeeded/);
                assert.ok(events.some((e) => /running → queued/.test(e)));
                await done();
        },
        async a_value_that_is_not_finite_is_marked_however_many_its_bucket_holds_and_leads_to_the_log() {
                const made = await submitted(LONG), {page, done} = await job(made.id), note = page.locator('.chart-note').first();
                assert.match(await note.textContent(), /× marks 1 place with a value that is not finite\. A point stands for 4 steps\./);
                await note.getByRole('button', {name: 'The log of that time'}).click();
                await becomes(() => page.locator('.log').textContent(), '2026-09-21T14:33:20+00:00 step 1200\n', 'step 1234 was in that minute');
                assert.ok(await page.locator('.log').evaluate((e) => e.getBoundingClientRect().top < innerHeight), 'it is in sight');
                await page.waitForFunction(() => new URLSearchParams(location.hash.split('?')[1]).get('log') === '2026-09-21T14:33');
                await page.reload(); // a link shows the same
                await becomes(() => page.getByLabel('Search the log').inputValue(), '2026-09-21T14:33');
                await page.getByText('1 line', {exact: true}).waitFor();
                await page.goto(server.at(`#/jobs/${made.id}?smooth=0&from=2000&to=3000`));
                await becomes(async () => (await shownSteps(page))[0], [2000, 3000]);
                assert.doesNotMatch(await note.textContent(), /×/, 'what is seen has no mark');
                await done();
        },
        async what_is_drawn_in_buckets_is_saved_point_by_point() {
                const {id} = (await api('jobs?text=long&limit=1')).jobs[0] ?? await submitted(LONG), {page, done} = await job(id);
                const saved = async () => (await download(page, 'Bits per dimension', 'csv')).bytes.toString().trim().split('\r\n');
                const written = (from, to) => Array.from({length: to - from + 1}, (_, i) => `train/bpd,${id},${from + i},${1790000000000 + 1000 * (from + i)},${from + i === 1234 ? 'NaN' : 4 + (from + i) % 2}`);
                assert.match(await page.locator('.chart-note').first().textContent(), /A point stands for 4 steps\./);
                assert.deepEqual(await saved(), ['curve,run,step,time_ms,value', ...written(0, 3999)]);
                await page.goto(server.at(`#/jobs/${id}?from=1001&to=2998&smooth=0.6`));
                await becomes(async () => (await shownSteps(page))[0], [1001, 2998]);
                assert.deepEqual((await saved()).slice(1), written(1001, 2998), 'the part that is seen, at its very ends');
                await page.getByLabel('Over').selectOption('images');
                await becomes(async () => (await saved()).filter((l, i) => i < 3), ['curve,run,step,time_ms,value,images seen', ...written(0, 1).map((l, i) => `${l},${8 * i}`)]);
                await done();
        },
        async what_cannot_be_saved_is_said() {
                const {page, done} = await job(1);
                await page.route(/\/export\?/, (route) => route.fulfill({status: 503, contentType: 'application/problem+json', body: '{"title": "Too busy"}'}));
                await menu(page, 'Bits per dimension', 'Save its points as CSV');
                await chart(page, 'Bits per dimension').getByText('The points could not be read: Too busy').waitFor();
                await done(/503/);
        },
        async evaluations_and_samples_tell_of_their_device_beside_the_loss_over_diffusion_time() {
                const of = {config: {data: {dataset: 'scripted'}, training: {num_steps_train: 20, batch_size_train: 8, num_steps_eval: 0, seed: 14}}}, {id} = await submitted({kind: 'train', ...of});
                for (const kind of ['evaluate', 'sample']) {
                        const made = await submitted({kind, checkpoint: {job: id, which: 'latest'}}), {page, done} = await job(made.id);
                        await becomes(() => page.locator('.chart h3').allTextContents(), ['Diffusion term over time', 'Device: memory', 'Device: temperature', 'Device: utilisation'], kind);
                        const axis = async (title) => /\. (Steps|Diffusion times) (\S+) to (\S+?)\.? /.exec(await page.getByRole('region', {name: title}).locator('.chart-body').getAttribute('aria-label'))?.slice(1);
                        assert.deepEqual(await axis('Diffusion term over time'), ['Diffusion times', '0', '1']);
                        assert.match(await chart(page, 'Diffusion term over time').locator('.chart-note').textContent(), /A point stands for a stretch of 0\.002 in t\.\s*$/); // and not for steps
                        assert.deepEqual(await axis('Device: temperature'), ['Steps', '0', '2'], 'on an axis of its own');
                        await done();
                }
        },
        async series_of_any_name_are_shown() {
                const {id} = await submitted({kind: 'train', name: 'odd', config: {data: {dataset: 'scripted'}, training: {num_steps_train: 40, batch_size_train: 8, num_steps_eval: 0, seed: 16}}});
                for (const of of ['jobs/', 'compare?jobs=1,']) {
                        const {page, complaints} = await newPage(context);
                        await page.goto(server.at(`#/${of}${id}`));
                        for (const name of [/^__proto__$/, /^a, b$/, /^say "a"$/, /^toString/, /^time\/constructor$/]) {
                                const one = page.getByRole('region', {name});
                                await one.waitFor();
                                if (await one.locator('.fold').getAttribute('aria-expanded') === 'false')
                                        await one.locator('.fold').click();
                                await one.locator('canvas').waitFor();
                        }
                        clean(complaints);
                        await page.close();
                }
        },
        async a_phone_has_room_for_long_words() {
                const {page, done} = await fresh('kind=evaluate&job=8', {viewport: {width: 375, height: 800}}), needs = page.getByRole('region', {name: 'What it needs'});
                await page.route(/dry_run/, (route) => route.fulfill({json: {kind: 'evaluate', config: {}, steps: 0, memory_bytes: 5e9, devices: ['MIG-41b5c3a2-9d8e-5f70-a1b2-c3d4e5f60718', 'gpu1'], seconds: null, energy_j: null}}));
                await page.getByLabel('Name').fill('x');
                await needs.getByText(/MIG-/).waitFor();
                assert.match(await needs.textContent(), /Timenot measured yet.*Steps–/);
                assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 375);
                assert.deepEqual(await page.locator('.theme').evaluate((e) => {
                        const {left, right, top, bottom} = e.getBoundingClientRect();
                        return [left + 1, (left + right) / 2, right - 1].flatMap((x) => document.elementsFromPoint(x, (top + bottom) / 2)).filter((o) => o.closest('.crumbs')).length;
                }), 0, 'nothing is drawn over another');
                await done();
        },
        async a_link_may_say_nonsense() {
                const {page, complaints} = await newPage(context);
                for (const query of ['#/?sort=constructor&columns=toString,state', '#/jobs/1?x=constructor&refs=constructor', '#/compare?jobs=1,2&x=toString&sort=valueOf&across=constructor', '#/new?kind=constructor', '#/new?kind=nonsense']) {
                        await page.goto(server.at(query));
                        await page.locator('.run-name, .chart canvas, .key').first().waitFor();
                        assert.equal(await page.getByRole('alert').count(), 0);
                        await page.waitForFunction(() => !location.hash.includes('sort=constructor')); // no column, nor a key: the server says so
                }
                clean(complaints, /4(00|22)/);
                await page.close();
        },
        async a_run_that_began_from_a_checkpoint_is_seen_by_its_own_steps() {
                const config = {data: {dataset: 'scripted'}, training: {num_steps_train: 20, batch_size_train: 8, num_steps_eval: 0, seed: 14}}, from = await submitted({kind: 'train', config});
                await becomes(async () => (await api(`jobs/${from.id}`)).state, 'succeeded');
                const made = await submitted({kind: 'train', start_from: {job: from.id}, overrides: {'training.num_steps_train': 60, 'training.seed': 15}}), {page, done} = await job(made.id);
                const axis = () => chart(page, 'Bits per dimension').locator('.chart-body').getAttribute('aria-label').then((text) => /Steps \d+ to \d+/.exec(text)?.[0]);
                await becomes(axis, 'Steps 20 to 59');
                await page.getByLabel('Over').selectOption('step since its start');
                await becomes(axis, 'Steps 0 to 39');
                await done();
        },
        async epochs_are_of_the_data_that_a_job_ran_on_and_offered_where_that_is_known() {
                const {page, complaints} = await newPage(context);
                const label = async () => {
                        await page.locator('.chart canvas').first().waitFor();
                        return chart(page, 'Bits per dimension').locator('.chart-body').getAttribute('aria-label');
                };
                await page.route(/v1\/datasets$/, (route) => route.fulfill({json: {datasets: []}})); // it was removed since
                await page.goto(server.at('#/jobs/1?smooth=0.6&x=epochs'));
                assert.match(await label(), /Epochs 0 to 3\.2/);
                await page.route(/v1\/jobs\/1$/, async (route) => {
                        const response = await route.fetch();
                        await route.fulfill({response, json: {...await response.json(), dataset: null}}); // it ran before that was noted
                });
                await page.reload();
                assert.match(await label(), /Steps 0 to 400/);
                assert.equal(await page.getByRole('option', {name: 'epochs: the size of a data set is not known'}).evaluate((e) => e.disabled), true);
                clean(complaints);
                await page.close();
        },
        async what_an_earlier_attempt_wrote_stands_behind_the_line_that_holds() {
                const made = await submitted({kind: 'train', config: {data: {dataset: 'scripted'}, training: {num_steps_train: 40, batch_size_train: 8, num_steps_eval: 0, seed: 12}}});
                const {page, done} = await job(made.id);
                await page.locator('.legend-name').getByText('train/bpd, attempt 1', {exact: true}).waitFor();
                assert.match(await page.locator('.legend-item', {hasText: 'attempt 1'}).textContent(), /at 23$/);
                assert.match(await page.locator('.legend-item', {hasText: /^train\/bpd[\d]/}).textContent(), /at 39$/);
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
        async what_was_made_of_it_says_how_many_there_are() {
                const {page, complaints} = await newPage(context), said = page.getByRole('region', {name: 'Made from it'}).locator('.section-head span');
                let total = 700;
                await page.route(/v1\/jobs\?checkpoint_job=8&/, (route) => route.fulfill({json: {jobs: [{id: 90, kind: 'evaluate', name: 'x', state: 'succeeded', checkpoint: {job: TROUBLED, step: 40}, result: null, created: '2026-01-01T00:00:00.000Z'}], total, next: 'cursor'}}));
                await page.goto(server.at(`#/jobs/${TROUBLED}`));
                await becomes(() => said.textContent(), '700 jobs');
                total = null; // so many that they are not counted
                await page.reload();
                await becomes(() => said.textContent(), 'More than 1 job');
                clean(complaints);
                await page.close();
        },
        async a_checkpoint_is_pinned_and_unpinned() {
                const {page, done} = await job(TROUBLED);
                const table = page.getByRole('region', {name: 'Checkpoints', exact: true});
                const kept = async () => (await api(`jobs/${TROUBLED}/artifacts?kind=checkpoint`)).artifacts.filter((a) => a.pinned).map((a) => a.step);
                for (const [pinned, verb, ask] of [[[40], 'Pin', 'Keep this checkpoint?'], [[], 'Unpin', 'Keep it no longer?']]) {
                        await table.getByRole('button', {name: `${verb} step 40`, exact: true}).click();
                        await page.getByText(ask).waitFor();
                        await page.locator('dialog').getByRole('button', {name: verb, exact: true}).click();
                        await table.getByRole('button', {name: `${verb === 'Pin' ? 'Unpin' : 'Pin'} step 40`, exact: true}).waitFor();
                        assert.deepEqual([await kept(), await table.locator('.tag', {hasText: 'pinned'}).count()], [pinned, pinned.length]);
                }
                await done();
        },
        async a_form_says_what_is_wrong_as_it_is_typed() {
                const {page, done} = await fresh('kind=train&config=photos32-tiny&set=data.dataset%3Dscripted');
                const rate = page.getByLabel('learning_rate', {exact: true}), submit = page.getByRole('button', {name: 'Submit'}), key = page.locator('.key', {has: rate});
                const needs = page.getByRole('region', {name: 'What it needs'}), ready = () => page.waitForFunction(() => !document.querySelector('button[type=submit]').disabled);
                await needs.getByText('1.00 kB').waitFor();
                assert.match(await needs.textContent(), /Memory1\.00 kBTime.*Steps800Devices that fitcpu$/);
                assert.equal(await rate.inputValue(), '0.002'); // the template's
                assert.match(await key.textContent(), /peak; 0 to 1/);
                for (const [typed, said] of [['7', '7 is not a number in 0..1'], ['fast', 'a string is not a number'], ['', 'a string is not a number']]) {
                        await rate.fill(typed);
                        await key.getByText(said).waitFor();
                        assert.ok(await submit.isDisabled() && await rate.getAttribute('aria-invalid') === 'true');
                }
                await key.getByRole('button', {name: /back to 0.002/}).click();
                await becomes(() => rate.inputValue(), '0.002');
                await ready();
                await page.getByLabel('seed', {exact: true}).first().fill('1.5');
                await page.getByText('1.5 is not an integer').waitFor();
                await needs.getByText('1 key not right yet.').waitFor();
                await page.getByLabel('Find a key').fill('moving average');
                await page.waitForFunction(() => document.querySelectorAll('.key').length < 6);
                await page.getByLabel('Find a key').fill('');
                await page.getByLabel('seed', {exact: true}).first().fill('1');
                await ready();
                await page.getByLabel('batch_size_train', {exact: true}).fill('9999');
                await page.locator('.key', {has: page.locator('[id="key-training.batch_size_train"]')}).getByText(/images/).last().waitFor();
                await done(/422/);
        },
        async the_command_does_what_the_form_does_and_a_link_to_it_shows_the_same() {
                const {page, done} = await fresh('kind=train&config=photos32-tiny');
                await page.getByLabel('dataset', {exact: true}).selectOption('scripted');
                await page.getByLabel('seed', {exact: true}).first().fill('1');
                await page.getByLabel('num_steps_train', {exact: true}).fill('400');
                await page.getByLabel('gradient_clip_norm', {exact: true}).fill('2.5');
                await page.getByLabel('Name', {exact: true}).fill("it's, new");
                await page.getByLabel('Tags', {exact: true}).fill('a, b');
                await page.locator('.command').getByText('"tags":["a","b"]').waitFor();
                const command = await page.locator('.command').textContent();
                const made = JSON.parse(execFileSync('sh', ['-c', command.replace('curl', 'curl -s')]).toString());
                assert.deepEqual([made.name, made.tags, made.config_name, made.config.training.num_steps_train, made.config.optimizer.gradient_clip_norm], ["it's, new", ['a', 'b'], 'photos32-tiny', 400, 2.5]);
                await settled(page); // the address has it
                await page.reload();
                await page.waitForFunction((c) => document.querySelector('.command')?.textContent === c, command);
                await page.getByRole('button', {name: 'Submit'}).click();
                await page.waitForFunction(() => /^#\/jobs\/\d+/.test(location.hash));
                const submitted = await api(`jobs/${/\d+/.exec(new URL(page.url()).hash)[0]}`);
                assert.deepEqual(submitted.config, made.config);
                assert.equal(submitted.id, made.id + 1);
                await done(/422/);
        },
        async a_clone_has_the_jobs_values_and_a_checkpoint_is_evaluated_sampled_or_started_from() {
                const {page, done} = await fresh('kind=train&clone=4');
                await page.waitForFunction(() => document.getElementById('key-optimizer.learning_rate')?.value === '0.001');
                assert.equal(await page.getByLabel('Name', {exact: true}).inputValue(), 'run 4, again');
                await page.getByLabel('sm_pdrop', {exact: true}).fill('0.3');
                await page.getByRole('button', {name: 'Submit'}).click();
                await page.waitForFunction(() => /^#\/jobs\/\d+/.test(location.hash));
                const clone = await api(`jobs/${/\d+/.exec(new URL(page.url()).hash)[0]}`), source = await api('jobs/4');
                assert.deepEqual(clone.config, {...source.config, model: {...source.config.model, sm_pdrop: 0.3}});
                for (const [kind, keys] of [['evaluate', 'evaluation, machine'], ['sample', 'sampling, machine'], ['train', 'vdm_type, data, model, training, optimizer, evaluation, sampling, machine']]) {
                        await page.goto(server.at(`#/jobs/${TROUBLED}`));
                        await page.getByRole('region', {name: 'Checkpoints', exact: true}).locator(`a[href*="kind=${kind}"]`).first().click();
                        await page.locator('fieldset').first().waitFor();
                        assert.equal((await page.locator('legend').allTextContents()).join(', '), keys);
                        await page.waitForFunction(() => document.querySelector('.command').textContent.includes('"job":8'));
                        await page.getByRole('button', {name: 'Submit'}).click();
                        await page.waitForFunction(() => /^#\/jobs\/\d+/.test(location.hash) && !location.hash.startsWith('#/jobs/8'));
                        const made = await api(`jobs/${/\d+/.exec(new URL(page.url()).hash)[0]}`);
                        assert.deepEqual([made.kind, made.checkpoint], [kind, {job: TROUBLED, step: 40}]);
                        await page.getByRole('link', {name: 'Clone with changes'}).click();
                        await page.waitForFunction(() => document.querySelector('.command')?.textContent.includes('"job":8'));
                        await page.getByRole('button', {name: 'Submit'}).click();
                        await page.waitForFunction((n) => location.hash.split('?')[0] === `#/jobs/${n}`, made.id + 1);
                        const again = await api(`jobs/${made.id + 1}`);
                        assert.deepEqual([again.kind, again.checkpoint, again.config], [kind, made.checkpoint, made.config]);
                }
                await page.goto(server.at(`#/jobs/${TROUBLED}`));
                await page.getByRole('region', {name: 'Made from it', exact: true}).waitFor();
                assert.equal((await rows(page, 'Made from it')).length, 6);
                await done();
        },
        async nobody_is_shut_out() {
                const looks = [[1360, 'light'], [1360, 'dark'], [375, 'light']], {page, done} = await job(TROUBLED);
                await shutsNobodyOut(page, playwright, looks, path.join(out, 'troubled'), true);
                await done();
                const form = await fresh('kind=train&set=optimizer.learning_rate%3D5');
                await shutsNobodyOut(form.page, playwright, looks, path.join(out, 'new'));
                await form.done(/422/);
        },
});
server.stop();
await close();
process.exit(failed ? 1 : 0);
