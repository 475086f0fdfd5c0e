// A picture of a page with curves: screenshot.mjs PLAYWRIGHT ADDRESS PAGE FILE [HEIGHT]. Those of docs/ were made so:
//     node tests/e2e/screenshot.mjs build/tests/web/npm http://127.0.0.1:8700 jobs/1 docs/dashboard.png
//     node tests/e2e/screenshot.mjs build/tests/web/npm http://127.0.0.1:8700 compare?jobs=1,2,3 docs/compare.png 820
import {newPage, open} from '../web/browser.mjs';

const [, , playwright, address, hash, file, height] = process.argv;
const {context, close} = await open(playwright);
const {page} = await newPage(context, {viewport: {width: 1280, height: Number(height ?? 1180)}});
await page.goto(`${address}/#/${hash}`);
await page.locator('.chart canvas').first().waitFor({timeout: 60000});
await page.waitForTimeout(2500);
await page.screenshot({path: file});
await close();
