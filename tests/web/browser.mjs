// Debian's Chromium by playwright-core: what the browser tests share. Exits 77 where either is missing.
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {existsSync, mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import path from 'node:path';
import {fileURLToPath} from 'node:url';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];

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

// A page whose console errors, CSP violations and exceptions are kept in `complaints`.
export async function newPage(context, options = {}) {
        const page = await context.newPage();
        page.setDefaultTimeout(20000);
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
        await page.addInitScript(() => {
                document.addEventListener('securitypolicyviolation', (e) => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`));
        });
        return {page, complaints};
}

// axe-core has no complaint about the page as it stands.
export async function axeFindsNothing(page, playwrightFolder, where) {
        await page.evaluate(readFileSync(path.join(playwrightFolder, 'node_modules/axe-core/axe.min.js'), 'utf8'));
        const found = await page.evaluate(() => window.axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}));
        assert.deepEqual(found.violations.map((v) => `${v.id}: ${v.nodes[0].html.slice(0, 150)} ${v.nodes[0].failureSummary.slice(0, 300)}`), [], where);
}

// fake_server.py with one of its scenes: {at(hash): an address; tell('slow?...'): its switches; stop()}.
export const serve = (site, scene) => start('fake_server.py', [site, '--speed', '60', '--scene', scene]);

// A real mulund with runs to compare, perhaps --live ones, or --locked, with tokens: [of a reader, a submitter, an admin]: lab.py.
export const lab = (site, ...options) => start('lab.py', [site, ...options]);

function start(program, options) {
        return new Promise((resolve, reject) => {
                const child = spawn('/usr/bin/python3', [path.join(path.dirname(fileURLToPath(import.meta.url)), program), ...options], {stdio: ['ignore', 'pipe', 'inherit']});
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
        await page.evaluate(() => new Promise((r) => { requestAnimationFrame(() => requestAnimationFrame(r)); })); // a page is drawn once a frame
        const labels = await page.locator('.chart-body').evaluateAll((all) => all.map((e) => e.getAttribute('aria-label')));
        return labels.map((l) => /Steps (\d+) to (\d+)/.exec(l).slice(1).map(Number));
}

// Tests in order, each named for what must hold. TAP, and an exit status.
export async function run(tests) {
        let failed = 0, n = 0;
        console.log(`1..${Object.keys(tests).length}`);
        for (const [name, test] of Object.entries(tests)) {
                n++;
                try {
                        await test();
                        console.log(`ok ${n} - ${name}`);
                } catch (e) {
                        failed++;
                        console.log(`not ok ${n} - ${name}\n# ${String(e.stack ?? e).replaceAll('\n', '\n# ')}`);
                }
        }
        return failed;
}
