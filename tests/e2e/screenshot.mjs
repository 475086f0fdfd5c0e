// A picture of a run's page: screenshot.mjs PLAYWRIGHT ADDRESS JOB FILE [HEIGHT]. docs/dashboard.png was made so:
//     node tests/e2e/screenshot.mjs build/tests/web/npm http://127.0.0.1:8700 1 docs/dashboard.png
import {newPage, open} from '../web/browser.mjs';

const [, , playwright, address, job, file, height] = process.argv;
const {context, close} = await open(playwright);
const {page} = await newPage(context, {viewport: {width: 1280, height: Number(height ?? 1180)}});
await page.goto(`${address}/#/jobs/${job}`);
await page.locator('.chart canvas').first().waitFor({timeout: 60000});
await page.waitForTimeout(2500);
await page.screenshot({path: file});
await close();
