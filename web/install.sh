#!/bin/sh
# Called by `meson install`: install.sh SITE FOLDER_BELOW_THE_PREFIX
set -eu
target=$MESON_INSTALL_DESTDIR_PREFIX/$2
mkdir -p "$target"
cp -R "$1/." "$target/"
