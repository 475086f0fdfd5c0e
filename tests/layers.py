#!/usr/bin/python3
"""A folder is a layer: what stands lower knows nothing of what stands higher.

    layers.py includes      every #include of ours is allowed by the table below
    layers.py headers       every header compiles alone

The table is folder -> what it may include besides itself: folders, or single headers.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

ALLOWED = {
    "base": (),
    "contract": ("base",),
    "kernels": ("base",),
    "engine": ("base", "kernels", "contract/config.h", "contract/text.h"),
    "worker": ("base", "contract", "engine", "kernels"),
    "store": ("base", "contract"),
    "api": ("base", "contract", "store", "engine/formats/export.h", "engine/formats/npy.h", "engine/formats/tfevents.h"),
    "daemon": ("base", "contract", "store", "api"),
    "ctl": ("base", "contract/text.h"),
}

# Libraries that one place speaks to.
LIBRARIES = {
    "sqlite3.h": ("store",),
    "microhttpd.h": ("api",),
    "gnutls/abstract.h": ("api",),
    "gnutls/gnutls.h": ("api",),
    "gnutls/crypto.h": ("api",),
    "curl/curl.h": ("ctl", "daemon"),
    "gnutls/crypto.h": ("api", "daemon"),
    "gnutls/gnutls.h": ("api", "daemon"),
    "cuda_runtime.h": ("kernels",),
    "cuda_runtime_api.h": ("kernels",),
    "cudnn.h": ("kernels",),
    "mpi.h": ("kernels",),
    "nccl.h": ("kernels",),
    "oneapi/dnnl/dnnl.h": ("kernels",),
    "dnnl.h": ("kernels",),
    "seccomp.h": ("worker",),
    "png.h": ("engine",),
    "jpeglib.h": ("engine",),
    "archive.h": ("engine",),
    "archive_entry.h": ("engine",),
    "zlib.h": ("api", "engine"),
    "zstd.h": ("api", "store"),
    "xxhash.h": ("base", "engine"),
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(?:"([^"]+)"|<([^>]+)>)', re.M)


def sources(kinds):
    for folder in ALLOWED:
        for path, _, names in os.walk(os.path.join(ROOT, folder)):
            for name in sorted(names):
                if name.endswith(kinds):
                    yield folder, os.path.join(path, name)


def includes():
    bad = []
    n = 0
    for folder, path in sources((".c", ".h", ".def", ".cu", ".cuh")):
        shown = os.path.relpath(path, ROOT)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for ours, system in INCLUDE.findall(text):
            n += 1
            if system:
                if system in LIBRARIES and folder not in LIBRARIES[system]:
                    bad.append(f"{shown}: <{system}> belongs to {', '.join(LIBRARIES[system])}")
                continue
            target = ours if os.path.exists(os.path.join(ROOT, ours)) else os.path.relpath(os.path.join(os.path.dirname(path), ours), ROOT)
            top = target.split("/")[0]
            if top not in ALLOWED:
                if not os.path.exists(os.path.join(ROOT, target)):
                    continue  # made by the build
                bad.append(f"{shown}: \"{ours}\" is of no layer")
            elif top != folder and top not in ALLOWED[folder] and target not in ALLOWED[folder]:
                bad.append(f"{shown}: {folder} may not include {target} (only {', '.join(ALLOWED[folder]) or 'itself'})")
    print(f"{n} includes in {len(ALLOWED)} layers")
    return bad


# Where the headers of CUDA's compiler are; what includes them is compiled alone where they are there.
CUDA = "/usr/local/cuda/include"


def flags():
    packages = ["gnutls", "jansson", "libxxhash", "sqlite3", "libmicrohttpd", "libcurl", "libpng"]
    out = ["-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-fopenmp", "-I", ROOT]
    for p in packages:
        r = subprocess.run(["pkg-config", "--cflags", p], capture_output=True, text=True, check=False)
        if r.returncode == 0:
            out += shlex.split(r.stdout)
    return out


def headers():
    common = flags()
    cxx = ["-std=c++17", "-Wno-unknown-pragmas", "-Wno-missing-field-initializers", "-Wno-unused-function", "-isystem", CUDA, "-I", ROOT]

    def compile_alone(item):
        _, path = item
        shown = os.path.relpath(path, ROOT)
        if shown.startswith("kernels/cuda/") and not os.path.exists(CUDA):
            return None
        with open(path, encoding="utf-8") as f:
            text = f.read()
        device = re.search(r"^(namespace|template)\b", text, re.M)
        compiler = ["c++", "-fsyntax-only", *cxx] if device else ["cc", "-fsyntax-only", *common, "-isystem", CUDA]
        with tempfile.TemporaryDirectory() as d:
            c = os.path.join(d, "alone.cpp" if device else "alone.c")
            with open(c, "w", encoding="utf-8") as f:
                f.write(f'#include "{shown}"\n#include "{shown}"\ntypedef int alone_t;\n')
            r = subprocess.run([*compiler, c], capture_output=True, text=True, check=False)
        return f"{shown}:\n{r.stderr}" if r.returncode else None

    items = list(sources((".h",)))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        bad = [b for b in pool.map(compile_alone, items) if b]
    print(f"{len(items)} headers compiled alone")
    return bad


def main():
    bad = {"includes": includes, "headers": headers}[sys.argv[1]]()
    for b in bad:
        print(b)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
