// Lays the dashboard out for the daemon: build.mjs SOURCE NPM SITE.
//
// SITE/index.html names the scripts and the sheet in SITE/assets, each with the digest of its content in its name, so that
// a browser may keep them for good, and what these scripts import: at once what they begin with, after all else what they may
// need later. Beside every file that text compresses well lie NAME.br and NAME.gz, made of exactly its bytes; the daemon
// serves these to whoever takes them.
import {copyFileSync, readdirSync, readFileSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import path from 'node:path';
import {brotliCompressSync, constants, gzipSync} from 'node:zlib';

const [, , source, npm, site] = process.argv;
const modules = path.resolve(npm, 'node_modules');
const {build} = createRequire(import.meta.url)(path.join(modules, 'esbuild'));
// In place of Intl, which uPlot asks for when it is loaded: the first use of the real one takes a page 50 ms of work, and how numbers and
// times are written is told to uPlot (axis.js, format.js).
const FORMATTER = 'class Formatter { format = String; resolvedOptions = () => ({timeZone: "UTC"}); }';
const LICENCES = ['preact', 'uplot'], IMPORTED = {'import-statement': 'modulepreload', 'dynamic-import': 'prefetch'};

let page = readFileSync(path.join(source, 'index.html'), 'utf8');
for (const [entries, splitting] of [[['first.js', 'style.css'], false], [['app.js'], true]]) { // the first script is whole in itself
        const {metafile} = await build({
                entryPoints: entries.map((f) => path.join(source, f)), outdir: path.join(site, 'assets'), entryNames: '[name]-[hash]', chunkNames: '[name]-[hash]', splitting,
                define: {'Intl.NumberFormat': 'Formatter', 'Intl.DateTimeFormat': 'Formatter'}, banner: {js: FORMATTER},
                bundle: true, minify: true, format: 'esm', target: 'es2022', nodePaths: [modules], metafile: true, legalComments: 'none', logLevel: 'warning',
        });
        for (const entry of entries) {
                const reference = `"${entry}"`, asset = (of) => `"assets/${path.basename(of)}"`;
                const [file, {imports}] = Object.entries(metafile.outputs).find(([, {entryPoint}]) => path.basename(entryPoint ?? '') === entry);
                if (!page.includes(reference))
                        throw new Error(`index.html does not name ${entry}`);
                page = page.replace(reference, asset(file)).replace('</head>', `${imports.map(({kind, path: of}) => `  <link rel="${IMPORTED[kind]}" href=${asset(of)}>\n`).join('')}</head>`);
        }
}
writeFileSync(path.join(site, 'index.html'), page);
copyFileSync(path.join(source, 'icon.svg'), path.join(site, 'icon.svg'));
writeFileSync(path.join(site, 'licences.txt'), LICENCES.map((m) => `${m}\n\n${readFileSync(path.join(modules, m, 'LICENSE'), 'utf8')}`).join('\n\n'));

for (const file of readdirSync(site, {recursive: true}).map(String).filter((f) => /\.(html|js|css|svg)$/.test(f))) {
        const whole = readFileSync(path.join(site, file));
        writeFileSync(path.join(site, `${file}.gz`), gzipSync(whole, {level: 9}));
        writeFileSync(path.join(site, `${file}.br`), brotliCompressSync(whole, {params: {[constants.BROTLI_PARAM_SIZE_HINT]: whole.length}}));
}
