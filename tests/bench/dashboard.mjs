// The browser's part of dashboard.py: dashboard.mjs PLAYWRIGHT URL rows | curves JOBS | live MINUTES. SITES: pages that are visited in turns.
import {readdirSync, readFileSync} from 'node:fs';
import os from 'node:os';
import {newPage, open} from '../web/browser.mjs';

const [, , playwright, url, what, more] = process.argv;
const REPEATS = 9, REST_MS = 700, SITES = (process.env.SITES ?? 'index.html').split(' ');
const {context, close} = await open(playwright);
const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];
const told = (name, bySite) => SITES.forEach((site) => toldOf(`${name}${site === SITES[0] ? '' : `, ${site}`}`, bySite[site]));
const toldOf = (name, all) => console.log(`${name}: median ${median(all).toFixed(0)} ms, best ${Math.min(...all).toFixed(0)}, worst ${Math.max(...all).toFixed(0)}`);

// Gives the browser's threads the niceness that this program was given: Chromium sets its own (0, and 5 for what it takes
// for background), whatever it was begun with.
function lift() {
        const parent = new Map();
        for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
                try {
                        parent.set(Number(pid), Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]));
                } catch {
                        /* it has ended */
                }
        const ours = (pid) => pid === process.pid || (pid > 1 && ours(parent.get(pid) ?? 0));
        for (const pid of [...parent.keys()].filter((p) => p !== process.pid && ours(p)))
                try {
                        for (const thread of readdirSync(`/proc/${pid}/task`))
                                os.setPriority(Number(thread), os.getPriority());
                } catch {
                        /* it has ended */
                }
}

// Milliseconds from the visit's beginning until an element is there that fits, in a page of its own. The page says so by itself:
// to be asked would be work of its own, of the same thread.
async function visited(address, selector) {
        const {page} = await newPage(context), said = page.waitForEvent('console', (m) => m.text().startsWith('there '));
        await page.addInitScript((wanted) => {
                new MutationObserver((_, watch) => {
                        if (!document.querySelector(wanted))
                                return;
                        watch.disconnect();
                        requestAnimationFrame(() => console.debug(`there ${performance.now()}`));
                }).observe(document, {childList: true, subtree: true});
        }, selector);
        lift();
        await page.goto(`${url}/${address}`);
        return {page, ms: Number((await said).text().slice('there '.length))};
}

const ofSites = () => Object.fromEntries(SITES.map((site) => [site, []]));

async function repeated(hash, selector, use = async () => {}) {
        const times = ofSites();
        for (let i = 0; i < REPEATS; i++)
                for (const site of SITES) {
                        const {page, ms} = await visited(site + hash, selector);
                        times[site].push(ms);
                        await use(page, site);
                        await page.close();
                }
        return times;
}

// Presses Zoom in: {read, drawn}, milliseconds until the last answer was here and until the last drawing after it; the last
// is one that nothing follows for `rest` milliseconds.
async function zoomed(rest) {
        const LONGEST_MS = 60000, {clearRect} = CanvasRenderingContext2D.prototype;
        let drawn = 0;
        CanvasRenderingContext2D.prototype.clearRect = function (...rectangle) {
                drawn = performance.now();
                clearRect.apply(this, rectangle);
        };
        performance.clearResourceTimings();
        const began = performance.now();
        const read = () => Math.max(0, ...performance.getEntriesByType('resource').filter((e) => /v1\/series\?.*from=/.test(e.name)).map((e) => e.responseEnd));
        document.querySelector('button[aria-label="Zoom in"]').click();
        while (!read() || drawn < read() || performance.now() - Math.max(drawn, read()) < rest) {
                await new Promise((over) => { setTimeout(over, 10); });
                if (performance.now() - began > LONGEST_MS)
                        throw new Error(`read after ${read() - began} ms, drawn after ${drawn - began}, then nothing for long`);
        }
        return {read: read() - began, drawn: drawn - began};
}

const measures = {
        async rows() {
                const {page} = await visited(SITES[0], '.run-name');
                await page.waitForTimeout(2000);
                const files = await page.evaluate(() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].map((e) => [e.name, e.transferSize]));
                const sizes = files.map(([, size]) => size), own = files.map(([name]) => !name.includes('/v1/'));
                console.log(`a first visit transfers ${(sizes.reduce((a, b) => a + b, 0) / 1024).toFixed(1)} KiB in ${sizes.length} answers, ${(sizes.filter((_, i) => own[i]).reduce((a, b) => a + b, 0) / 1024).toFixed(1)} of it the page and its files`);
                await page.close();
                const empty = [];
                for (let i = 0; i < REPEATS; i++)
                        empty.push(await visited('licences.txt', 'pre').then(({page: p, ms}) => p.close().then(() => ms)));
                toldOf('an empty page', empty); // what is Chromium's own
                for (const [name, hash] of [['all jobs', ''], ['all jobs, the best first', '#/?sort=test'], ['all jobs, by a key of the configuration', '#/?sort=optimizer.learning_rate'], ['those with a value of the configuration', '#/?text=data.dataset%3Dscripted']])
                        told(`first rows of ${name}`, await repeated(hash, '.run-name'));
        },
        async curves() {
                const zooms = ofSites(), answered = ofSites(), worked = ofSites();
                const times = await repeated(`#/compare?jobs=${more}&smooth=0.6`, '.chart canvas', async (page, site) => {
                        const session = await context.newCDPSession(page);
                        const busy = async () => (await session.send('Performance.getMetrics')).metrics.find((m) => m.name === 'ThreadTime').value;
                        await session.send('Performance.enable');
                        await page.waitForFunction((n) => document.querySelectorAll('.chart')[0].querySelectorAll('.legend-item').length === n, more.split(',').length);
                        await page.locator('.chart-body').first().evaluate((e) => e.scrollIntoView({block: 'center'})); // what is out of sight is drawn later
                        await page.waitForTimeout(1500);
                        await page.getByRole('button', {name: 'Zoom in'}).evaluate((e) => e.click()); // so near the whole has points that are as fine
                        await page.waitForTimeout(1500);
                        const before = await busy(), {drawn, read} = await page.evaluate(zoomed, REST_MS);
                        worked[site].push(1000 * (await busy() - before));
                        zooms[site].push(drawn);
                        answered[site].push(read);
                });
                told('first curves', times);
                told('a zoom, until its finer points are drawn', zooms);
                told('of that, until they are here', answered);
                told('a zoom, processor time of the page', worked);
        },
        async live() {
                const {page} = await visited('', '.run-name'), session = await context.newCDPSession(page);
                for (let i = 0; i < 10; i++) { // pages of 50, by scrolling
                        await page.evaluate(() => window.scrollTo(0, document.body.scrollHeight));
                        await page.waitForTimeout(500);
                }
                await page.evaluate(() => {
                        window.scrollTo(0, 0);
                        window.tasks = [];
                        new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((e) => e.duration))).observe({entryTypes: ['longtask']});
                });
                await session.send('Performance.enable');
                for (let minute = 1; minute <= Number(more); minute++) {
                        lift();
                        await page.waitForTimeout(60000);
                        await session.send('HeapProfiler.collectGarbage');
                        const {metrics} = await session.send('Performance.getMetrics'), of = (name) => metrics.find((m) => m.name === name).value;
                        const tasks = await page.evaluate(() => window.tasks.splice(0));
                        console.log(`minute ${minute}, load ${os.loadavg()[0].toFixed(1)}: ${tasks.length} tasks over 50 ms${tasks.length ? `, the longest ${Math.max(...tasks).toFixed(0)}` : ''}; ${(of('JSHeapUsedSize') / 2 ** 20).toFixed(1)} MiB, ${of('Nodes')} nodes`);
                }
        },
};
await measures[what]();
await close();
