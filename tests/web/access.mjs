// Keyboard, focus, screen readers and contrast in Chromium against fake_server.py: access.mjs PLAYWRIGHT SITE OUT.
import assert from 'node:assert/strict';
import path from 'node:path';
import {clean, newPage, open, run, serve, shutsNobodyOut} from './browser.mjs';

const [, , playwright, site, out] = process.argv;
const {context, close} = await open(playwright);
const world = await serve(site, 'world'), odd = await serve(site, 'odd'), empty = await serve(site, 'empty');
const LIVE = 7;
const active = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);

const failed = await run({
        async the_skip_link_goes_to_the_content_and_not_to_another_page() {
                const {page, complaints} = await newPage(context);
                await page.goto(world.at(`#/jobs/${LIVE}`));
                await page.locator('h1').waitFor();
                await page.keyboard.press('Tab');
                assert.equal(await active(page), 'skip');
                await page.keyboard.press('Enter');
                assert.equal(await active(page), 'main');
                assert.equal(await page.locator('h1').textContent(), 'live & <b>kicking</b>');
                clean(complaints);
                await page.close();
        },
        async the_focus_follows_into_the_page_that_was_gone_to() {
                const {page, complaints} = await newPage(context);
                await page.goto(world.at());
                await page.locator('.run-name').first().focus();
                await page.keyboard.press('Enter');
                await page.locator('.actions').waitFor();
                assert.equal(await active(page), 'main');
                await page.goBack();
                await page.locator('.run-name').first().waitFor();
                assert.equal(await active(page), 'main');
                clean(complaints);
                await page.close();
        },
        async a_button_keeps_its_focus_and_its_clicks_while_the_run_is_live() {
                const {page, complaints} = await newPage(context);
                await page.goto(world.at(`#/jobs/${LIVE}`));
                const cancel = page.getByRole('button', {name: 'Cancel', exact: true}), step = page.locator('.stat dd').first();
                await cancel.focus();
                for (let i = 0; i < 3; i++) {
                        const before = await step.textContent();
                        await page.waitForFunction((b) => document.querySelector('.stat dd').textContent !== b, before);
                        assert.equal(await active(page), 'Cancel');
                }
                const box = await cancel.boundingBox(), before = await step.textContent();
                await page.mouse.move(box.x + 5, box.y + 5);
                await page.mouse.down();
                await page.waitForFunction((b) => document.querySelector('.stat dd').textContent !== b, before);
                await page.mouse.up(); // a slow click
                await page.locator('dialog').waitFor();
                await page.keyboard.press('Escape');
                await page.locator('dialog').waitFor({state: 'detached'});
                assert.equal(await active(page), 'Cancel');
                clean(complaints);
                await page.close();
        },
        async a_button_that_is_gone_leaves_the_focus_in_the_page() {
                const {page, complaints} = await newPage(context);
                await page.goto(world.at('#/jobs/6'));
                await page.getByRole('button', {name: 'Cancel', exact: true}).focus();
                await page.keyboard.press('Enter');
                await page.getByRole('button', {name: 'Cancel the run'}).click();
                await page.getByRole('button', {name: 'Resume'}).waitFor();
                assert.equal(await active(page), 'main');
                clean(complaints);
                await page.close();
        },
        async the_countdown_is_not_announced() {
                const {page} = await newPage(context);
                await page.goto(world.at());
                await page.locator('tbody tr').first().waitFor();
                await world.tell('down?seconds=600');
                try {
                        await page.waitForFunction(() => {
                                const alert = document.querySelector('#banner [role=alert]');
                                if (alert !== window.watched) { // an answer from before may still come, and take one away
                                        [window.watched, window.announced, window.seconds] = [alert, 0, new Set()];
                                        if (alert)
                                                new MutationObserver(() => window.announced++).observe(alert, {childList: true, subtree: true, characterData: true});
                                }
                                window.seconds.add(document.querySelector('#banner [aria-hidden]')?.textContent);
                                return alert && window.seconds.size > 2;
                        });
                        assert.deepEqual(await page.evaluate(() => [window.announced, !window.watched.closest('[aria-live]')]), [0, true]);
                } finally {
                        await world.tell('down?seconds=0');
                }
                await page.locator('#banner').waitFor({state: 'hidden'});
                await page.close();
        },
        async axe_finds_nothing_on_any_page_at_any_width_in_light_and_dark() {
                for (const [server, hash, ready] of [[world, '', 'svg.spark'], [world, `#/jobs/${LIVE}`, '.chart canvas'], [world, '#/jobs/2', '.result'], [world, '#/jobs/3', '.problem'],
                        [odd, '', '.run-name'], [odd, '#/jobs/8', '.waiting'], [odd, '#/jobs/5', '.chart canvas'], [empty, '', 'pre.command'], [world, '#/nowhere', '.empty'], [world, '#/jobs/99', '.empty']]) {
                        const {page} = await newPage(context);
                        await page.goto(server.at(hash));
                        await page.locator(ready).first().waitFor({state: 'attached'});
                        await shutsNobodyOut(page, playwright, [[1360, 'dark'], [375, 'light'], ...(server === odd ? [] : [[1360, 'light']])], path.join(out, `access-${hash.replace(/\W+/g, '-') || 'runs'}`));
                        await page.close();
                }
        },
});
for (const server of [world, odd, empty])
        server.stop();
await close();
process.exit(failed ? 1 : 0);
