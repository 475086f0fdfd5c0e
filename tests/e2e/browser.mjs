// A real run in a real browser: browser.mjs PLAYWRIGHT ADDRESS JOB OUT. Prints one JSON object with what was seen.
import path from 'node:path';
import {newPage, open} from '../web/browser.mjs';

const [, , playwright, address, job, out] = process.argv;
const {context, close} = await open(playwright);
let failed = false;
try {
        const {page, complaints} = await newPage(context);
        const seen = {legends: [], complaints, loads: []};
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
        }
        seen.ink = await page.locator('.chart canvas').first().evaluate((c) => {
                const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
                let n = 0;
                for (let i = 3; i < d.length; i += 4)
                        n += d[i] > 0;
                return n;
        });

        // The samples appear.
        await page.waitForFunction(() => document.querySelector('img.sample')?.naturalWidth > 0, null, {timeout: 180000});
        seen.sample = await page.locator('img.sample').evaluate((e) => [e.naturalWidth, e.naturalHeight]);
        await page.screenshot({path: path.join(out, 'job-running.png'), fullPage: true});
        await page.locator('.pill.succeeded').waitFor({timeout: 300000});
        await page.waitForTimeout(1500);
        seen.log = (await page.locator('.log').textContent()).length;
        seen.files = await page.locator('table.files tbody tr').count();
        await page.screenshot({path: path.join(out, 'job-done.png'), fullPage: true});
        console.log(JSON.stringify(seen));
} catch (e) {
        console.error(e.stack ?? e);
        failed = true;
}
await close();
process.exit(failed ? 1 : 0);
