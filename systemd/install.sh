#!/bin/sh
# Called by `meson install`: install.sh EXAMPLE SYSCONFDIR. Settings that are there are a person's, and stay.
set -eu
target=${DESTDIR-}$2/mulund
[ -e "$target/mulund.conf" ] && exit 0
mkdir -p "$target"
cp "$1" "$target/mulund.conf"
chmod 0644 "$target/mulund.conf"
