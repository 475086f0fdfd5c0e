// Debian's Chromium by playwright-core: what the browser tests share. Exits 77 where either is missing.
import {spawn} from 'node:child_process';
import {existsSync, mkdtempSync, rmSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import path from 'node:path';

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

// Starts a program that prints its port as the first line; {port, stop}.
export function start(command, args) {
        return new Promise((resolve, reject) => {
                const child = spawn(command, args, {stdio: ['ignore', 'pipe', 'inherit']});
                child.once('error', reject);
                child.once('exit', (code) => reject(new Error(`${command} ended with ${code}`)));
                child.stdout.once('data', (d) => resolve({port: Number(String(d).trim()), stop: () => child.kill()}));
        });
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
