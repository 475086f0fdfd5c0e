// TypeScript reads the dashboard's sources, with the types that their comments name: types.mjs TYPESCRIPT SOURCE NPM OUT.
import {execFileSync} from 'node:child_process';
import {existsSync, writeFileSync} from 'node:fs';
import path from 'node:path';
import {skip} from './browser.mjs';

const [, , typescript, source, npm, out] = process.argv;
const tsc = path.resolve(typescript, 'node_modules/.bin/tsc'), modules = path.resolve(npm, 'node_modules');
if (!existsSync(tsc))
        skip('typescript could not be installed from npm');
const config = path.join(out, 'tsconfig.json');
writeFileSync(config, JSON.stringify({
        compilerOptions: {
                allowJs: true, checkJs: true, noEmit: true, strict: true, noImplicitAny: false, skipLibCheck: true, types: [],
                target: 'es2022', module: 'esnext', moduleResolution: 'bundler', resolveJsonModule: true, lib: ['es2023', 'dom', 'dom.iterable'],
                paths: {preact: [path.join(modules, 'preact/src/index.d.ts')], uplot: [path.join(modules, 'uplot/dist/uPlot.d.ts')]},
        },
        files: ['app.js', 'first.js'].map((f) => path.resolve(source, f)),
}));
try {
        execFileSync(tsc, ['-p', config], {stdio: 'inherit'});
} catch {
        process.exit(1);
}
