#!/bin/bash
# pack.sh BUILD FOLDER: what a bare machine with a GPU needs, in FOLDER/package.tar.xz, with run.sh beside it: the CUDA
# module, the checkers, the worker, the libraries that they need (but the C and C++ ones), the golden cases. CUDA, cuBLAS
# and cuDNN are there already.
set -euo pipefail
build=$1 folder=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

mkdir -p "$stage/bin" "$stage/lib" "$folder"
programs=("$build"/tests/kernels/kernels-check "$build"/tests/golden/golden-test "$build"/worker/mulun-worker)
if [ -e "$build/tests/ranks/test-ranks" ]; then programs+=("$build/tests/ranks/test-ranks"); fi # where Open MPI was found
cp "$build"/kernels/cuda/libmulun-cuda.so "${programs[@]}" "$stage/bin"
for library in $(ldd "${programs[@]}" |
        awk '$3 ~ /^\// { print $3 }' | sort -u); do
        case $(basename "$library") in
        libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libstdc++.so.* | libgcc_s.so.*) ;;
        *) cp -L "$library" "$stage/lib" ;;
        esac
done
strip "$stage"/bin/* "$stage"/lib/*
cp -r "$root/tests/golden/cases" "$root/tests/golden/rounded.txt" "$stage"
tar -C "$stage" -c . | xz -T 0 -2 >"$folder/package.tar.xz"
cp "$root/tests/gpu/run.sh" "$root/tests/gpu/kernel_times.py" "$root/tests/gpu/same.py" "$root/tests/spool.py" "$folder"
peer=$root/../shared/peers/torch_mulan.py # not part of the repository: the stage peer needs it
if [ -e "$peer" ]; then cp "$peer" "$folder"; fi
ls -l "$folder"
