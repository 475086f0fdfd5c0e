// A real run in a real browser: browser.mjs PLAYWRIGHT ADDRESS JOB OUT. Prints one JSON object with what was seen.
import path from 'node:path';
import {drawn, inked, newPage, open, shownSteps} from '../web/browser.mjs';

const [, , playwright, address, job, out] = process.argv;
const {context, close} = await open(playwright);
let failed = false;
try {
        const {page, complaints} = await newPage(context);
        const seen = {legends: [], views: [], complaints, loads: []};
        const cdp = await context.newCDPSession(page), files = new Map();
        await cdp.send('Network.enable');
        cdp.on('Network.responseReceived', ({requestId, response: r}) => files.set(requestId, {path: new URL(r.url).pathname, bytes: 0}));
        cdp.on('Network.loadingFinished', ({requestId, encodedDataLength}) => Object.assign(files.get(requestId) ?? {}, {bytes: encodedDataLength}));
        for (const go of [() => page.goto(`${address}/`), () => page.goto('about:blank').then(() => page.goto(`${address}/`))]) { // cold, warm
                files.clear();
                seen.policy = (await go()).headers()['content-security-policy'];
                await page.locator('.run-name').first().waitFor();
                await page.waitForTimeout(300);
                seen.loads.push([...files.values()].filter((f) => !f.path.startsWith('/v1/')));
        }
        seen.runs = await page.locator('.run-name').allTextContents();
        await page.screenshot({path: path.join(out, 'runs.png'), fullPage: true});
        await page.goto(`${address}/#/jobs/${job}`);

        // The curve grows before our eyes.
        await page.locator('.chart canvas').first().waitFor({timeout: 120000});
        for (let i = 0; i < 3; i++) {
                const now = await page.waitForFunction((old) => {
                        const text = document.querySelector('.legend-item')?.textContent ?? '';
                        return /at [\d,]+$/.test(text) && text !== old ? text : null;
                }, seen.legends.at(-1) ?? '', {timeout: 120000});
                seen.legends.push(await now.jsonValue());
                seen.views.push((await shownSteps(page))[0]);
                if (i === 0) { // a zoom, and a focus, hold while it goes on
                        await page.locator('.chart-body').first().focus();
                        await page.keyboard.press('+');
                        await page.getByRole('button', {name: 'Cancel', exact: true}).focus();
                }
        }
        seen.focus = await page.evaluate(() => document.activeElement.textContent);
        seen.ink = await inked(page);

        // The samples appear.
        await page.waitForFunction(() => document.querySelector('img.sample')?.naturalWidth > 0, null, {timeout: 180000});
        seen.sample = await page.locator('img.sample').evaluate((e) => [e.naturalWidth, e.naturalHeight]);
        await page.screenshot({path: path.join(out, 'job-running.png'), fullPage: true});
        await page.locator('.pill.succeeded').waitFor({timeout: 300000});
        await page.waitForTimeout(1500);
        seen.log = (await page.locator('.log').textContent()).length;
        seen.files = await page.locator('table.files tbody tr').count();
        await page.screenshot({path: path.join(out, 'job-done.png'), fullPage: true});

        // Its values on a log axis, unsmoothed, by its epochs, and its first samples; the address brings all of it back, also on a phone.
        const picture = async () => {
                await drawn(page);
                return page.locator('.chart canvas').first().evaluate((c) => c.toDataURL());
        };
        const pictures = [await picture()];
        for (const choose of [() => page.getByRole('group', {name: 'Values'}).getByRole('button', {name: 'log'}).click(), () => page.getByLabel('Smoothing').fill('0'), () => page.getByLabel('Over').selectOption('epochs')]) {
                await choose();
                pictures.push(await picture());
        }
        seen.pictures = new Set(pictures).size;
        seen.epochs = await page.locator('.chart-body').first().getAttribute('aria-label');
        await page.getByRole('slider', {name: 'Step of the images'}).fill('0');
        await page.waitForURL(/image=\d/); // it rests a moment between two changes
        await page.setViewportSize({width: 390, height: 844});
        await page.reload();
        await page.getByRole('img', {name: 'Samples at step 50', exact: true}).waitFor();
        seen.again = [await page.getByRole('group', {name: 'Values'}).getByRole('button', {name: 'log'}).getAttribute('aria-pressed'), await page.getByLabel('Smoothing').inputValue(), await page.getByLabel('Over').inputValue()];
        seen.beside = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth); // pixels that one would have to scroll for
        await page.screenshot({path: path.join(out, 'job-phone.png'), fullPage: true});
        await page.setViewportSize({width: 1360, height: 900});

        // What is made of its checkpoint says how far it is in images, and no error that is not known.
        seen.stats = [];
        for (const more of [{kind: 'sample', n_images: 3, n_steps: 5}, {kind: 'evaluate', n_images: 1}]) {
                const made = await fetch(`${address}/v1/jobs`, {method: 'POST', headers: {'Content-Type': 'application/json'},
                        body: JSON.stringify({...more, checkpoint: {job: Number(job), which: 'latest'}})}).then((r) => r.json());
                await page.goto(`${address}/#/jobs/${made.id}`);
                await page.getByRole('heading', {name: `${more.kind} ${made.id}`}).waitFor();
                await page.locator('.pill.succeeded').waitFor({timeout: 120000});
                seen.stats.push(await page.locator('.stat').first().textContent());
        }
        seen.result = await page.locator('.result-number').textContent();

        // What an evaluation leaves beside its number: images by their bits, the loss over diffusion time.
        const one = page.getByRole('region', {name: 'Image by image'});
        await page.getByRole('region', {name: 'Diffusion term over time'}).locator('canvas').waitFor();
        seen.overTime = await page.getByRole('region', {name: 'Diffusion term over time'}).locator('.chart-body').getAttribute('aria-label');
        seen.bits = await one.getByRole('img', {name: /^Bits per dimension of/}).getAttribute('aria-label');
        await page.waitForFunction(() => [...document.querySelectorAll('.pictures img')].every((i) => i.naturalWidth > 0));
        seen.captions = await one.locator('.pictures figcaption').allTextContents();
        await page.screenshot({path: path.join(out, 'evaluation.png'), fullPage: true});
        await page.goto(`${address}/#/jobs/${job}`);
        await page.getByRole('region', {name: 'Made from it', exact: true}).waitFor();
        seen.made = await page.getByRole('region', {name: 'Made from it', exact: true}).locator('td[data-label=Kind]').allTextContents();
        await page.goto(`${address}/#/compare?jobs=${job}`);
        await page.getByText('Images side by side').click();
        await page.getByRole('img', {name: '<b>seen</b> at step 400'}).waitFor();
        await page.getByRole('slider', {name: /^Up to step/}).fill('0');
        await page.waitForFunction(() => document.querySelector('.pictures img')?.alt.endsWith('at step 50') && location.hash.includes('images=50'));
        await page.goto(`${address}/#/`);
        await page.locator('td[data-label="Training BPD"] .spark').waitFor();
        seen.bpd = await page.locator('td[data-label$=BPD]').allTextContents();
        console.log(JSON.stringify(seen));
} catch (e) {
        console.error(e.stack ?? e);
        failed = true;
}
await close();
process.exit(failed ? 1 : 0);
