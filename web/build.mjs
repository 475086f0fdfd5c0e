// Lays the dashboard out for the daemon: build.mjs SOURCE NPM SITE.
//
// SITE/index.html names one script and one sheet in SITE/assets, each with the digest of its content in its name, so that
// a browser may keep them for good. Beside every file that text compresses well lie NAME.br and NAME.gz, made of exactly
// its bytes; the daemon serves these to whoever takes them.
import {copyFileSync, readdirSync, readFileSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import path from 'node:path';
import {brotliCompressSync, constants, gzipSync} from 'node:zlib';

const [, , source, npm, site] = process.argv;
const modules = path.resolve(npm, 'node_modules');
const {build} = createRequire(import.meta.url)(path.join(modules, 'esbuild'));
const LICENCES = ['preact', 'uplot'];

const {metafile} = await build({
        entryPoints: ['app.js', 'style.css'].map((f) => path.join(source, f)), outdir: path.join(site, 'assets'), entryNames: '[name]-[hash]',
        define: {'Intl.NumberFormat': 'Formatter', 'Intl.DateTimeFormat': 'Formatter'}, inject: [path.join(source, 'lib/intl.js')],
        bundle: true, minify: true, format: 'esm', target: 'es2022', nodePaths: [modules], metafile: true, legalComments: 'none', logLevel: 'warning',
});
let page = readFileSync(path.join(source, 'index.html'), 'utf8');
for (const [file, {entryPoint}] of Object.entries(metafile.outputs)) {
        const name = path.basename(entryPoint), reference = `"${name}"`;
        if (!page.includes(reference))
                throw new Error(`index.html does not name ${name}`);
        page = page.replace(reference, `"assets/${path.basename(file)}"`);
}
writeFileSync(path.join(site, 'index.html'), page);
copyFileSync(path.join(source, 'icon.svg'), path.join(site, 'icon.svg'));
writeFileSync(path.join(site, 'licences.txt'), LICENCES.map((m) => `${m}\n\n${readFileSync(path.join(modules, m, 'LICENSE'), 'utf8')}`).join('\n\n'));

for (const file of readdirSync(site, {recursive: true}).map(String).filter((f) => /\.(html|js|css|svg)$/.test(f))) {
        const whole = readFileSync(path.join(site, file));
        writeFileSync(path.join(site, `${file}.gz`), gzipSync(whole, {level: 9}));
        writeFileSync(path.join(site, `${file}.br`), brotliCompressSync(whole, {params: {[constants.BROTLI_PARAM_SIZE_HINT]: whole.length}}));
}
