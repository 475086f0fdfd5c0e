// A list of 12,000 runs, sorted and filtered, in Chromium against a real mulund: sorted.mjs PLAYWRIGHT SITE OUT. MULUND: its program.
import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import {becomes, drawn, lab, open, run, runsPage, settled, skip, toldOnly} from './browser.mjs';

const [, , playwright, site] = process.argv;
if (!existsSync(process.env.MULUND ?? 'build/daemon/mulund'))
        skip('mulund is not built');
const {context, close} = await open(playwright);
const server = await lab(site, '--many');
const JOBS = 12008, OWN = 'learning_rate=0.0005', BEST = 4321, STATES = ['running', 'queued', 'paused', 'succeeded', 'failed', 'cancelled'];

const api = (what) => fetch(server.at(`v1/jobs${what}`)).then((r) => r.json());
const change = (id, body) => fetch(server.at(`v1/jobs/${id}`), {method: 'PATCH', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});

// All that the API says of all jobs, and of those that have them the ends of their curves.
const jobs = [];
for (let cursor = ''; cursor !== null;) {
        const page = await api(`?limit=500${cursor && `&cursor=${cursor}`}`);
        jobs.push(...page.jobs);
        cursor = page.next;
}
for (const j of jobs.filter((k) => k.id < 10))
        j.curves = Object.fromEntries((await api(`/${j.id}/series`)).series.map((s) => [s.name, s]));

const VALUES = {
        name: (j) => j.name.toLowerCase(), state: (j) => STATES.indexOf(j.state), progress: (j) => j.progress.step / j.progress.steps, speed: () => null,
        test: (j) => j.result?.bpd ?? j.curves?.['eval/bpd']?.last, train: (j) => j.curves?.['train/bpd']?.last, bestTest: (j) => j.curves?.['eval/bpd']?.min, bestTrain: (j) => j.curves?.['train/bpd']?.min,
        created: (j) => j.id, device: (j) => j.devices?.join() || null, kind: (j) => j.kind, took: (j) => Date.parse(j.ended) - Date.parse(j.started), step: (j) => j.progress.step, attempts: (j) => j.attempts,
        priority: (j) => j.priority, owner: (j) => j.owner, notes: (j) => j.notes || null, 'optimizer.learning_rate': (j) => j.config.optimizer.learning_rate, 'training.seed': (j) => j.config.training.seed,
};

// The ids in that order.
function inOrder(sort, taken = jobs) {
        const key = sort.replace('-', ''), down = sort === key ? 1 : -1, rows = taken.map((j) => ({id: j.id, v: VALUES[key](j) ?? null}));
        rows.sort((a, b) => Number(a.v === null) - Number(b.v === null) || (a.v === b.v ? 0 : a.v < b.v ? -down : down) || b.id - a.id);
        return rows.map((r) => r.id);
}

const list = (query, options = {}) => runsPage(context, server.at(`#/${query}`), options);

const ids = (page) => page.locator('.run-name').evaluateAll((all) => all.map((a) => Number(a.hash.split('/')[2])));
const shows = (page, wanted, what) => becomes(async () => (await ids(page)).slice(0, wanted.length), wanted, what);
const count = (page) => page.locator('.count').textContent();
const box = (page) => page.getByLabel('Filter by name');
const region = (page) => page.getByRole('region', {name: 'Selected runs'});

// id -> the row it is in, of those in the page.
const places = (page) => page.locator('tbody tr:not(.space)').evaluateAll((all) => all.map((r) => [Number(r.querySelector('.run-name').hash.split('/')[2]), Number(r.ariaRowIndex) - 2]));

const failed = await run({
        async all_are_sorted_by_any_column_in_both_directions() {
                for (const key of Object.keys(VALUES)) {
                        const {page, done} = await list(`?columns=state${key === 'state' || key === 'name' ? '' : `,${key}`}`, {viewport: {width: 1360, height: 900}});
                        const head = page.locator('th').nth(key === 'name' ? 0 : key === 'state' ? 1 : 2);
                        for (const [sort, said] of [[key, 'ascending'], [`-${key}`, 'descending'], ['-created', 'none']]) {
                                await head.getByRole('button').click();
                                await shows(page, inOrder(sort).slice(0, 12), sort);
                                await becomes(() => head.getAttribute('aria-sort'), said);
                        }
                        assert.equal(await count(page), '12,008 runs');
                        await done();
                }
        },
        async what_is_found_need_not_be_among_the_newest() {
                const {page, done} = await list('?sort=test&columns=state,test,training.seed');
                await shows(page, [BEST]);
                await box(page).fill(`training.seed=${BEST}`);
                await becomes(() => ids(page), [BEST]);
                assert.equal(await page.locator('td[data-label="training.seed"]').textContent(), String(BEST));
                await box(page).fill(OWN);
                await shows(page, inOrder('test', jobs.filter((j) => j.config.optimizer.learning_rate === 0.0005)).slice(0, 12));
                assert.equal(await count(page), '700 runs');
                await page.getByRole('button', {name: 'Test BPD'}).click();
                await page.getByRole('button', {name: 'Test BPD'}).click();
                await shows(page, [709, 708, 707], 'unsorted, it is the newest first');
                await box(page).fill(`run 70 ${OWN.replace('0.0005', '5e-4')}`);
                await becomes(() => ids(page), [709, 708, 707, 706, 705, 704, 703, 702, 701, 700, 70]);
                await box(page).fill('#15 #11999 #77');
                await becomes(() => ids(page), [11999, 77, 15]);
                await page.getByRole('checkbox', {name: 'Select all'}).check();
                await page.waitForFunction(() => location.hash.includes('select=11999,77,15'));
                await done();
        },
        async a_sorted_list_goes_on_beyond_its_first_pages_without_a_hole() {
                const {page, done} = await list('?sort=-took', {init: toldOnly}), wanted = inOrder('-took'), seen = new Map(), further = [];
                page.on('request', (r) => new URL(r.url()).searchParams.has('cursor') && further.push(r.url()));
                await becomes(async () => {
                        await page.mouse.wheel(0, 1500);
                        await drawn(page);
                        for (const [id, at] of await places(page))
                                seen.set(at, id);
                        return seen.has(1199);
                }, true);
                const known = [...seen.keys()].sort((a, b) => a - b);
                assert.deepEqual(known.map((at) => seen.get(at)), known.map((at) => wanted[at]));
                assert.equal(new Set(seen.values()).size, seen.size);
                assert.ok(further.length <= 10, `${further.length} questions, each of which looks at all jobs`); // 24 by 50 rows
                await done();
        },
        async what_is_in_sight_and_the_focus_stay_when_a_sorted_list_is_read_anew() {
                const {page, done} = await list('?sort=name', {init: () => { delete Element.prototype.moveBefore; }}), wanted = inOrder('name'); // where there is none an element that is moved loses the focus
                await becomes(async () => {
                        await page.mouse.wheel(0, 3000);
                        await drawn(page);
                        return (await places(page)).some(([, at]) => at > 700);
                }, true);
                await settled(page);
                const active = () => page.evaluate(() => [document.activeElement.hash, document.activeElement.closest('tr')?.ariaRowIndex]);
                const inSight = () => page.evaluate(() => [...document.querySelectorAll('.run-name')].filter((e) => e.getBoundingClientRect().top > 100 && e.getBoundingClientRect().bottom < innerHeight).map((e) => e.hash));
                const [first] = await inSight(), row = page.locator(`.run-name[href="${first}"]`), at = wanted.indexOf(Number(first.split('/')[2]));
                await row.focus();
                assert.deepEqual(await active(), [first, String(at + 2)]);
                const before = await page.evaluate(() => scrollY);
                await change(8, {name: '!first of all'}); // it was the last
                await becomes(active, [first, String(at + 3)], 'one more is before it');
                await settled(page);
                assert.ok(Math.abs(await page.evaluate(() => scrollY) - before) <= 70 && (await inSight()).includes(first), 'it is where it was, by a row at most');
                await change(wanted[at], {name: `run ${wanted[at + 4]}b`}); // four down
                await becomes(active, [first, String(at + 7)]);
                await settled(page);
                const rows = await places(page);
                assert.deepEqual(rows.map(([, i]) => i), rows.map((_, i) => rows[0][1] + i), 'no hole');
                await change(8, {name: 'troubled'});
                await change(wanted[at], {name: `run ${wanted[at]}`});
                await becomes(active, [first, String(at + 2)]);
                await done();
        },
        async a_sorted_list_is_asked_for_again_after_ten_times_as_long_as_it_took_and_by_who_looks_at_once() {
                const {page, done} = await list('?sort=-test'), asked = [], SLOW_MS = 300;
                await page.route(/v1\/jobs\?.*sort=/, async (route) => {
                        asked.push(performance.now());
                        await new Promise((after) => { setTimeout(after, SLOW_MS); });
                        await route.continue();
                });
                let told = true;
                const telling = (async () => {
                        for (let i = 0; told; i++) {
                                await change(2, {notes: `note ${i}`});
                                await new Promise((after) => { setTimeout(after, 100); });
                        }
                })();
                await becomes(() => asked.length >= 5, true);
                const apart = asked.slice(1).map((t, i) => t - asked[i]).slice(1); // how long it takes is known from the first on
                assert.ok(Math.min(...apart) >= 9 * SLOW_MS && Math.max(...apart) < 30 * SLOW_MS, `${apart} ms`);
                const now = performance.now();
                await page.getByRole('button', {name: 'Training BPD'}).click();
                await shows(page, inOrder('train').slice(0, 7));
                assert.ok(performance.now() - now < 9 * SLOW_MS);
                told = false;
                await telling;
                await change(2, {notes: ''});
                await done();
        },
        async a_key_that_is_none_is_said_and_the_rows_stay_until_it_is_another() {
                const {page, done} = await list('?text=run'), alert = page.getByRole('alert');
                await box(page).fill('learning_ratex=0.0005');
                await alert.getByText('there is no such key; is it optimizer.learning_rate that is meant?').waitFor();
                await shows(page, [12009, 12008, 12007]);
                const asked = [];
                page.on('request', (r) => r.url().includes('learning_ratex') && asked.push(r.url()));
                await change(2, {notes: 'told'});
                await drawn(page);
                await change(2, {notes: ''});
                await page.waitForFunction(() => performance.now() - (window.seen ??= performance.now()) > 2500); // events are followed within a second
                assert.deepEqual(asked, [], 'what was refused would be again');
                await box(page).fill(OWN);
                await shows(page, [709, 708]);
                await becomes(() => alert.count(), 0);
                await box(page).fill('seed=77');
                await alert.getByText('which of them: training.seed or evaluation.seed?').waitFor();
                await page.reload();
                await alert.getByText('which of them: training.seed or evaluation.seed?').waitFor();
                await box(page).fill('training.seed=77');
                await becomes(() => ids(page), [77]);
                assert.equal(await alert.count(), 0);
                await done(/400/);
        },
        async more_may_be_selected_one_by_one_than_an_answer_has() {
                const {page, done} = await list(`?select=${Array.from({length: 601}, (_, i) => i + 10)}`);
                await region(page).getByText('601 runs selected').waitFor();
                await region(page).getByRole('button', {name: 'Cancel', exact: true}).click();
                await page.getByRole('heading', {name: 'Cancel 601 runs?'}).waitFor();
                await page.keyboard.press('Escape');
                await done();
        },
        async all_that_a_value_of_the_configuration_takes_are_cancelled_and_no_other() {
                const {page, done} = await list('?sort=-took'), said = (text) => region(page).getByText(text).waitFor(), total = async (query) => (await api(`?limit=1&${query}`)).total, asked = [];
                const compared = async () => (await region(page).getByRole('link', {name: 'Compare'}).getAttribute('href')).replaceAll('%2C', ',').split('jobs=')[1].split(',').map(Number);
                const [paused, cancelled] = await Promise.all([total('state=paused'), total('state=cancelled')]);
                page.on('request', (r) => r.method() === 'POST' && asked.push([new URL(r.url()).pathname, r.postDataJSON()]));
                await page.getByRole('checkbox', {name: 'Select all'}).check();
                await said('12,008 runs selected');
                assert.deepEqual((await compared()).slice(0, 50), inOrder('-took').slice(0, 50), 'the first of them are compared');
                await box(page).fill(OWN);
                await becomes(() => count(page), '700 runs');
                assert.equal(await region(page).count(), 0);
                await page.getByRole('checkbox', {name: 'Select all'}).check();
                await said('700 runs selected');
                await region(page).getByRole('button', {name: 'Cancel', exact: true}).click();
                await page.getByRole('heading', {name: 'Cancel 700 runs?'}).waitFor();
                await page.locator('dialog button[type=submit]').click();
                await said('700 runs cancelled.');
                assert.deepEqual(asked, [['/v1/jobs/cancel', {filter: {state: ['queued', 'running', 'paused'], config: OWN}}]]);
                assert.deepEqual([await total('state=paused'), await total('state=cancelled'), await total(`state=cancelled&config=${OWN}`)], [paused - 700, cancelled + 700, 700]);
                await becomes(async () => [...new Set(await page.locator('.pill').allTextContents())], ['cancelled']);
                await done();
        },
});
server.stop();
await close();
process.exit(failed ? 1 : 0);
