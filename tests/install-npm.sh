#!/bin/sh
# Called by meson: install-npm.sh NPM SOURCE BUILD STAMP. Without a network the packages are not there and the tests skip.
set -eu
npm=$1 source=$2 build=$3 stamp=$4
mkdir -p "$build/npm"
if ! cmp -s "$source/package-lock.json" "$build/npm/installed"; then
        cp "$source/package.json" "$source/package-lock.json" "$build/npm/"
        if (cd "$build/npm" && "$npm" ci --ignore-scripts --no-audit --no-fund --loglevel=error) >"$build/npm/npm.log" 2>&1 </dev/null; then
                cp "$source/package-lock.json" "$build/npm/installed"
        else
                cat "$build/npm/npm.log" >&2
        fi
fi
touch "$stamp"
