// Who may what, in Chromium against a real mulund that asks for tokens: session.mjs PLAYWRIGHT SITE OUT. MULUND: its program.
import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import path from 'node:path';
import {clean, lab, newPage, open, run, shutsNobodyOut, skip, toldOnly} from './browser.mjs';

const [, , playwright, site, out] = process.argv;
if (!existsSync(process.env.MULUND ?? 'build/daemon/mulund'))
        skip('mulund is not built');
const {context, close} = await open(playwright);
const server = await lab(site, '--locked'), [reader, submitter] = server.tokens;

async function visit(hash = '', options = {}) {
        const {page, complaints} = await newPage(context, options);
        await page.goto(server.at(hash));
        return {page, done: async () => {
                clean(complaints, /401|422/); // the browser says so of each answer
                await page.close();
                await context.clearCookies();
        }};
}

async function logIn(page, token) {
        await page.getByLabel('Token').fill(token);
        await page.getByRole('button', {name: 'Open'}).click();
}

const failed = await run({
        async who_is_not_known_is_asked_for_a_token_and_then_has_the_page_that_was_gone_to() {
                const {page, done} = await visit('#/jobs/8');
                await page.getByRole('heading', {name: 'This server asks for a token'}).waitFor();
                assert.equal(await page.evaluate(() => document.activeElement.name), 'token');
                await logIn(page, 'reader.0000');
                await page.getByRole('alert').getByText('does not know that token').waitFor();
                await logIn(page, reader);
                await page.getByRole('heading', {name: 'troubled'}).waitFor();
                assert.match(await page.locator('#user').textContent(), /reader · read/);
                await page.locator('#link-state').getByText('connected', {exact: true}).waitFor();
                await page.reload();
                await page.getByRole('heading', {name: 'troubled'}).waitFor(); // the session is the browser's
                assert.deepEqual(await page.evaluate(() => [document.cookie, ...Object.values(localStorage), ...Object.values(sessionStorage)].filter((v) => /reader|mulund_session/.test(v))), []);
                const other = await newPage(context);
                await other.page.goto(server.at());
                await other.page.locator('.run-name').first().waitFor();
                await other.page.close();
                await done();
        },
        async a_role_sees_what_it_may_do_and_no_more() {
                const {page, done} = await visit('#/?select=1,2');
                await logIn(page, reader);
                await page.getByText('reader · read').waitFor();
                const region = page.getByRole('region', {name: 'Selected runs'}), buttons = (where) => where.getByRole('button').allTextContents();
                await page.waitForFunction(() => !document.querySelector('.page-head .primary'));
                assert.deepEqual(await buttons(region), ['Clear']);
                await page.goto(server.at('#/jobs/8'));
                await page.getByRole('region', {name: 'Events', exact: true}).waitFor();
                assert.equal(await page.locator('.actions').count(), 0);
                await page.goto(server.at('#/new'));
                await page.getByText('Your role may read, and not submit.').waitFor();
                assert.equal(await page.getByRole('button', {name: 'Submit'}).count(), 0);
                await page.getByRole('button', {name: 'Log out'}).click();
                await logIn(page, submitter);
                await page.getByRole('button', {name: 'Submit'}).waitFor();
                await page.goto(server.at('#/jobs/8'));
                await page.getByRole('button', {name: 'Edit'}).waitFor();
                await done();
        },
        async logging_out_ends_the_session_for_every_tab() {
                const {page, done} = await visit();
                await logIn(page, submitter);
                await page.locator('.run-name').first().waitFor();
                const [cookie] = await context.cookies();
                assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict']);
                const other = await newPage(context);
                await other.page.goto(server.at('#/jobs/1'));
                await other.page.locator('.chart canvas').first().waitFor();
                await page.getByRole('button', {name: 'Log out'}).click();
                await page.getByRole('heading', {name: 'This server asks for a token'}).waitFor();
                assert.deepEqual(await context.cookies(), []);
                assert.equal((await fetch(server.at('v1/jobs'), {headers: {Cookie: `${cookie.name}=${cookie.value}`}})).status, 401);
                await other.page.goto(server.at('#/'));
                await other.page.getByRole('heading', {name: 'This server asks for a token'}).waitFor();
                await other.page.close();
                await done();
        },
        async what_happens_is_told_to_whoever_opened_a_session() {
                const {page, done} = await visit('', {init: toldOnly}), stream = page.waitForResponse((r) => r.url().endsWith('/v1/events') && r.ok());
                await logIn(page, submitter);
                await page.locator('.run-name').first().waitFor();
                await stream;
                const made = await fetch(server.at('v1/jobs/8'), {method: 'DELETE', headers: {Authorization: `Bearer ${submitter}`}});
                assert.equal(made.status, 204);
                await page.locator('.count').getByText('7 runs').waitFor();
                await done();
        },
        async the_prompt_shuts_nobody_out() {
                const {page, done} = await visit(), looks = [[1360, 'light'], [1360, 'dark'], [375, 'light']];
                await page.getByLabel('Token').waitFor();
                await shutsNobodyOut(page, playwright, looks, path.join(out, 'prompt'));
                await logIn(page, submitter);
                await page.locator('.run-name').first().waitFor();
                await shutsNobodyOut(page, playwright, looks, path.join(out, 'known'));
                await done();
        },
});
server.stop();
await close();
process.exit(failed ? 1 : 0);
