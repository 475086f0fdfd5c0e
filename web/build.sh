#!/bin/sh
# Called by meson: build.sh NPM SOURCE BUILD STAMP FILE...
# Installs uPlot from npm into BUILD/npm, as the lock file says, and lays the dashboard out in BUILD/site.
set -eu
npm=$1 source=$2 build=$3 stamp=$4
shift 4

mkdir -p "$build/npm"
if ! cmp -s "$source/package-lock.json" "$build/npm/installed"; then
        cp "$source/package.json" "$source/package-lock.json" "$build/npm/"
        log=$build/npm/npm.log
        if ! (cd "$build/npm" && "$npm" ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error) >"$log" 2>&1 </dev/null; then
                cat "$log" >&2
                echo "web/build.sh: npm could not install uPlot; without a network build with: meson configure BUILD -Dweb=false" >&2
                exit 1
        fi
        cp "$source/package-lock.json" "$build/npm/installed"
fi

rm -rf "$build/site.new"
for file; do
        mkdir -p "$build/site.new/$(dirname "$file")"
        cp "$source/$file" "$build/site.new/$file"
done
mkdir -p "$build/site.new/vendor"
uplot=$build/npm/node_modules/uplot
cp "$uplot/dist/uPlot.esm.js" "$uplot/dist/uPlot.min.css" "$build/site.new/vendor/"
cp "$uplot/LICENSE" "$build/site.new/vendor/uPlot.LICENSE"
rm -rf "$build/site"
mv "$build/site.new" "$build/site"
touch "$stamp"
