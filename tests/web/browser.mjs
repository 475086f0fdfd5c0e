// Debian's Chromium by playwright-core: what the browser tests share. Exits 77 where either is missing.
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {existsSync, mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import path from 'node:path';
import {setTimeout as sleep} from 'node:timers/promises';
import {fileURLToPath} from 'node:url';
import {isDeepStrictEqual} from 'node:util';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];

const PATIENCE_MS = 90000; // for what must come: other tests may have the processors

export function skip(reason) {
        console.log(`SKIP: ${reason}`);
        process.exit(77);
}

export async function open(playwrightFolder) {
        if (!existsSync(CHROMIUM))
                skip(`${CHROMIUM} is not installed`);
        const entry = path.resolve(playwrightFolder, 'node_modules/playwright-core');
        if (!existsSync(entry))
                skip('playwright-core could not be installed from npm');
        const {chromium} = createRequire(import.meta.url)(entry);
        const profile = mkdtempSync(path.join(tmpdir(), 'mulund-chromium-'));
        const context = await chromium.launchPersistentContext(profile, {executablePath: CHROMIUM, args: FLAGS, viewport: {width: 1360, height: 900}});
        const close = async () => {
                await context.close();
                rmSync(profile, {recursive: true, force: true});
        };
        return {context, close};
}

const asked = new WeakMap(); // page -> its requests that have no answer yet

// A page whose console errors, CSP violations and exceptions are kept in `complaints`. options.init: what runs in it before its
// own scripts do.
export async function newPage(context, options = {}) {
        const page = await context.newPage();
        page.setDefaultTimeout(PATIENCE_MS);
        if (options.viewport)
                await page.setViewportSize(options.viewport);
        if (options.colorScheme)
                await page.emulateMedia({colorScheme: options.colorScheme});
        const complaints = [];
        page.on('console', (m) => {
                if (m.type() === 'error' || m.type() === 'warning')
                        complaints.push(m.text());
        });
        page.on('pageerror', (e) => complaints.push(String(e)));
        const open = new Set();
        asked.set(page, open);
        page.on('request', (r) => r.url().endsWith('/v1/events') || open.add(r)); // that one never ends
        page.on('requestfinished', (r) => open.delete(r));
        page.on('requestfailed', (r) => open.delete(r));
        await page.addInitScript(() => {
                const set = window.setTimeout, clear = window.clearTimeout, soon = window.soon = new Set();
                window.setTimeout = (call, wait = 0, ...rest) => {
                        const id = set(() => {
                                soon.delete(id);
                                call(...rest);
                        }, wait);
                        if (wait <= 500)
                                soon.add(id);
                        return id;
                };
                window.clearTimeout = (id) => {
                        soon.delete(id);
                        clear(id);
                };
                document.addEventListener('securitypolicyviolation', (e) => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`));
        });
        if (options.init)
                await page.addInitScript(options.init);
        return {page, complaints};
}

// Waits until read() gives what is wanted; says what it gave last where it never does.
export async function becomes(read, wanted, what) {
        const end = performance.now() + PATIENCE_MS;
        let got = await read();
        while (!isDeepStrictEqual(got, wanted) && performance.now() < end) {
                await sleep(50);
                got = await read();
        }
        assert.deepEqual(got, wanted, what);
}

// A page is drawn once a frame: what was just changed is there after the next.
export const drawn = (page) => page.evaluate(() => new Promise((after) => { requestAnimationFrame(() => requestAnimationFrame(after)); }));

// Waits until what was asked for is answered and drawn, and what was put off for less than half a second is done; then for what
// that led to. A live run's page never rests: a few rounds are enough there.
export async function settled(page) {
        for (let round = 0; round < 6; round++) {
                const requests = [...asked.get(page)], timers = await page.evaluate(() => [...window.soon]);
                if (round > 0 && !requests.length && !timers.length)
                        return;
                await becomes(async () => requests.some((r) => asked.get(page).has(r)) || await page.evaluate((ids) => ids.some((id) => window.soon.has(id)), timers), false, 'no answer');
                await drawn(page);
        }
}

// When a request of the page whose address matches has ended, whichever way.
export const ended = (page, address) => new Promise((resolve) => {
        for (const end of ['requestfinished', 'requestfailed'])
                page.on(end, (r) => address.test(r.url()) && resolve(null));
});

// For newPage's init: the page never asks by the clock, only when it is told that something happened.
export const toldOnly = () => {
        const set = window.setTimeout;
        window.setTimeout = (call, wait = 0, ...rest) => (wait <= 1000 ? set(call, wait, ...rest) : 0);
};

// axe-core has no complaint about the page as it stands.
export async function axeFindsNothing(page, playwrightFolder, where) {
        if (!await page.evaluate(() => 'axe' in window))
                await page.evaluate(readFileSync(path.join(playwrightFolder, 'node_modules/axe-core/axe.min.js'), 'utf8'));
        const found = await page.evaluate(() => window.axe.run({resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})
                .then(({violations}) => violations.map((v) => `${v.id}: ${v.nodes[0].html.slice(0, 150)} ${v.nodes[0].failureSummary.slice(0, 300)}`)));
        assert.deepEqual(found, [], where);
}

// A picture of a page, or of a part of it, for people: none needs it where nobody asks for pictures.
export const shot = (of, file, fullPage = false) => (process.env.PICTURES ? of.screenshot({path: file, fullPage}) : null);

// The page as it stands shuts nobody out, in any of these looks: [width, colour scheme]. A picture of each is called file.
export async function shutsNobodyOut(page, playwrightFolder, looks, file, fullPage = false) {
        for (const [width, colorScheme] of looks) {
                await page.setViewportSize({width, height: 900});
                await page.emulateMedia({colorScheme});
                await settled(page);
                await axeFindsNothing(page, playwrightFolder, `${file}, ${width}, ${colorScheme}`);
                const wide = await page.evaluate(() => document.documentElement.scrollWidth);
                assert.ok(wide <= width, `${file}: ${wide} pixels wide at ${width}`);
                await shot(page, `${file}-${width}-${colorScheme}.png`, fullPage);
        }
}

// The list of runs with its first rows: {page, done(...allowed): it is closed, and complained of nothing else}.
export async function runsPage(context, address, options) {
        const {page, complaints} = await newPage(context, options);
        await page.goto(address);
        await page.locator('.run-name').first().waitFor();
        return {page, done: async (...allowed) => {
                clean(complaints, ...allowed);
                await page.close();
        }};
}

// fake_server.py with one of its scenes, whose live run lasts six minutes: {at(hash): an address; tell('slow?...'): its switches; stop()}.
export const serve = (site, scene) => start('fake_server.py', [site, '--speed', '5', '--scene', scene]);

// A real mulund with runs to compare, perhaps --live ones, --many, or --locked, with tokens: [of a reader, a submitter, an admin]; --below a path of nginx: lab.py.
export const lab = (site, ...options) => start('lab.py', [site, ...options]);

function start(program, options) {
        return new Promise((resolve, reject) => {
                const command = ['/usr/bin/python3', path.join(path.dirname(fileURLToPath(import.meta.url)), program), ...options];
                const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'TERM', ...command], {stdio: ['ignore', 'pipe', 'inherit']}); // it ends with us, however we do
                child.once('error', reject);
                child.once('exit', (code) => reject(new Error(`${program} ended with ${code}`)));
                child.stdout.once('data', (d) => {
                        const [first, ...tokens] = String(d).trim().split(' '), port = Number(first);
                        resolve({
                                port, tokens, at: (hash = '') => `http://127.0.0.1:${port}/${hash}`,
                                tell: (what) => fetch(`http://127.0.0.1:${port}/fake/${what}`, {method: 'POST'}),
                                stop: () => child.kill(),
                        });
                });
        });
}

// Nothing was complained about; that we read pixels is our own doing.
export const clean = (complaints, ...allowed) => assert.deepEqual(complaints.filter((c) => ![/willReadFrequently/, ...allowed].some((a) => a.test(c))), []);

export const chart = (page, title) => page.getByRole('region', {name: title, exact: true});

// Chooses from a chart's menu.
export async function menu(page, title, item) {
        await chart(page, title).locator('.menu summary').click();
        await chart(page, title).getByRole('button', {name: item, exact: true}).click();
}

// What a chart saves: {name, bytes}. kind: csv, svg, png.
export async function download(page, title, kind) {
        const waiting = page.waitForEvent('download');
        await menu(page, title, kind === 'csv' ? 'Save its points as CSV' : `Save the picture as ${kind.toUpperCase()}`);
        const file = await waiting;
        return {name: file.suggestedFilename(), bytes: readFileSync(await file.path())};
}

// Pixels of a chart's canvas that are not transparent; of one colour ("#5b5bd6"), and between two shares of its width.
export function inked(page, nth = 0, colour = null, from = 0, to = 1) {
        return page.locator('.chart canvas').nth(nth).evaluate((c, [hex, a, b]) => {
                const x = Math.floor(a * c.width), d = c.getContext('2d').getImageData(x, 0, Math.max(1, Math.floor(b * c.width) - x), c.height).data;
                const wanted = hex && [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
                let n = 0;
                for (let i = 0; i < d.length; i += 4)
                        n += wanted ? d[i + 3] > 200 && wanted.every((v, k) => Math.abs(d[i + k] - v) < 24) : d[i + 3] > 0;
                return n;
        }, [colour, from, to]);
}

// The steps that the charts say they show: [[from, to], ...].
export async function shownSteps(page) {
        await drawn(page);
        const labels = await page.locator('.chart-body').evaluateAll((all) => all.map((e) => e.getAttribute('aria-label')));
        return labels.map((l) => /Steps (\d+) to (\d+)/.exec(l).slice(1).map(Number));
}

// Tests in order, each named for what must hold: TAP that tells the seconds each took, and an exit status. ONLY: part of the names
// of those that are run.
export async function run(tests) {
        let failed = 0, n = 0;
        const wanted = Object.entries(tests).filter(([name]) => name.includes(process.env.ONLY ?? ''));
        console.log(`1..${wanted.length}`);
        for (const [name, test] of wanted) {
                n++;
                const began = performance.now(), took = () => `# ${((performance.now() - began) / 1000).toFixed(1)} s`;
                try {
                        await test();
                        console.log(`ok ${n} - ${name} ${took()}`);
                } catch (e) {
                        failed++;
                        console.log(`not ok ${n} - ${name} ${took()}\n# ${String(e.stack ?? e).replaceAll('\n', '\n# ')}`);
                }
        }
        return failed;
}
