#!/bin/sh
# Called by meson: build.sh NPM NODE SOURCE BUILD STAMP
# Installs from npm into BUILD/npm what the lock file says, and lays the dashboard out in BUILD/site.
set -eu
npm=$1 node=$2 source=$3 build=$4 stamp=$5

mkdir -p "$build/npm"
if ! cmp -s "$source/package-lock.json" "$build/npm/installed"; then
        cp "$source/package.json" "$source/package-lock.json" "$build/npm/"
        log=$build/npm/npm.log
        if ! (cd "$build/npm" && "$npm" ci --include=dev --ignore-scripts --no-audit --no-fund --loglevel=error) >"$log" 2>&1 </dev/null; then
                cat "$log" >&2
                echo "web/build.sh: npm could not install what the dashboard needs; without a network build with: meson configure BUILD -Dweb=false" >&2
                exit 1
        fi
        cp "$source/package-lock.json" "$build/npm/installed"
fi

rm -rf "$build/site.new"
"$node" "$source/build.mjs" "$source" "$build/npm" "$build/site.new"
rm -rf "$build/site"
mv "$build/site.new" "$build/site"
touch "$stamp"
