#!/usr/bin/python3
"""What nvcc made of the kernels, read from the module itself (its cubins are ELF files), so that no tool of NVIDIA's is needed:

    compiled.py libmulun-cuda.so             every kernel's registers fit its threads, no local memory, wide accesses where
                                             a kernel moves much
    compiled.py libmulun-cuda.so --list      a line for each kernel

Loads and stores are told by their instructions (sm_70 and later: sixteen bytes each, nine bits of operation, three of size),
which the test checks against itself: a kernel without any global access would mean that they are no longer read right."""

import collections
import re
import struct
import subprocess
import sys

REGISTERS, REGISTERS_A_THREAD, THREADS = 65536, 255, 1024  # of a multiprocessor, sm_90
UNIT = 8                                                   # registers are given to a thread in eights
BLOCK = 256                                                # threads of a kernel that names no bound
CUDA = 190                                                 # ELF's machine
OPERATIONS = {0x181: "LDG", 0x186: "STG", 0x183: "LDL", 0x187: "STL", 0x184: "LDS", 0x188: "STS", 0x1AE: "LDGSTS"}
BITS = [8, 8, 16, 16, 32, 64, 128, 0]
MAX_THREADS, FRAME, REGISTER_COUNT = 0x05, 0x11, 0x2F

# What must be there, by kernel: what moves whole activations or weights, in the form that the networks' shapes take (odd widths
# have one of their own, a value at a time).
WIDE = {
    r"add_wide<.*>": ("LDG128", "STG128"),
    r"norm_(forward|backward)<.*, 8>": ("LDG128", "STG128"),
    r"columns_partial<.*, [48]>": ("LDG128",),
    r"squares<4>": ("LDG128",),
    r"adamw<4>": ("LDG128", "STG128"),
    r"conv_finish_8<.*>": ("LDG128", "STG128"),
    r"mma_(forward|backward_q|backward_kv|dots)<.*>": ("LDGSTS128",),
    r"mma_(forward|backward_q|backward_kv|dots)<float.*>": ("LDG128", "STS128"),
}
SINE = "the sine of a large argument is reduced with a table's digits in memory: CUDA's own, never on the way of a small one"
INDEXED = "an array that is indexed by a number that only the launch knows"
# Kernels that may use memory of a thread's own, and why.
LOCAL = {
    r"fourier_(forward|backward)<.*>": SINE, r"time_embedding_(forward|backward)": SINE, r"random_(normal|gamma)": SINE, r"known_gamma": SINE,
    r"flow_probe": SINE, r"dequantise": SINE, r"random_gumbel": INDEXED, r"flow_(step|error|stage)": INDEXED,
}


def sections(elf):
    at, = struct.unpack_from("<Q", elf, 0x28)
    n, names = struct.unpack_from("<HH", elf, 0x3C)
    rows = [struct.unpack_from("<IIQQQQIIQQ", elf, at + 64 * i) for i in range(n)]
    base = rows[names][4]
    return {text_at(elf, base + r[0]): (r[4], r[5]) for r in rows}


def text_at(data, at):
    return data[at:data.index(b"\0", at)].decode()


def attributes(data):
    """(attribute, value) of a .nv.info section."""
    at = 0
    while at < len(data):
        form, name, size = data[at], data[at + 1], struct.unpack_from("<H", data, at + 2)[0]
        yield name, data[at + 4:at + 4 + size] if form == 4 else b""
        at += 4 + (size if form == 4 else 0)


def accesses(code):
    found = collections.Counter()
    for at in range(0, len(code), 16):
        low, high = struct.unpack_from("<QQ", code, at)
        operation = OPERATIONS.get(low & 0x1FF)
        if operation:
            found[f"{operation}{BITS[high >> 9 & 7]}"] += 1
    return found


def kernels_of(elf):
    found = sections(elf)
    cut = lambda name: elf[found[name][0]:sum(found[name])] if name in found else b""
    symbols, strings = cut(".symtab"), found[".strtab"][0]
    of = collections.defaultdict(dict)
    for name, value in attributes(cut(".nv.info")):
        if len(value) == 8:
            symbol, number = struct.unpack("<II", value)
            of[text_at(elf, strings + struct.unpack_from("<I", symbols, 24 * symbol)[0])][name] = number
    for section in found:
        if section.startswith(".text."):
            name = section[len(".text."):]
            bounds = [struct.unpack("<III", v) for a, v in attributes(cut(".nv.info." + name)) if a == MAX_THREADS and len(v) == 12]
            threads = bounds[0][0] * bounds[0][1] * bounds[0][2] if bounds else BLOCK
            yield name, {"registers": of[name].get(REGISTER_COUNT), "frame": of[name].get(FRAME), "threads": threads,
                         "accesses": accesses(cut(section))}


def plain(names):
    """As they stand in the sources, without the anonymous namespace, arguments and result."""
    out = subprocess.run(["c++filt", "-p"], input="\n".join(names), text=True, capture_output=True, check=True).stdout.splitlines()
    return [n.replace("(anonymous namespace)::", "") for n in out]


def read(path):
    """[(name, what it uses)]; files may have kernels of one name."""
    data = open(path, "rb").read()
    names, kernels = [], []
    for m in re.finditer(b"\x7fELF\x02", data):
        if struct.unpack_from("<H", data, m.start() + 18)[0] == CUDA:
            for name, kernel in kernels_of(data[m.start():]):
                names.append(name)
                kernels.append(kernel)
    return list(zip(plain(names), kernels))


def faults(kernels):
    for name, k in kernels:
        if k["registers"] is None or k["frame"] is None or not any(a.startswith(("LDG", "STG")) for a in k["accesses"]):
            yield f"{name}: what it uses cannot be read"
            continue
        registers = -(-k["registers"] // UNIT) * UNIT
        if registers > REGISTERS_A_THREAD + 1 or k["threads"] > THREADS or registers * k["threads"] > REGISTERS:
            yield f"{name}: {registers} registers of {k['threads']} threads are more than there are"
        local = k["frame"] or any(a.startswith(("LDL", "STL")) for a in k["accesses"])
        if local and not any(re.fullmatch(p, name) for p in LOCAL):
            yield f"{name}: {k['frame']} bytes of a thread's own memory (a spill, or an array that is no register)"
    for pattern, wanted in WIDE.items():
        matching = [(name, k) for name, k in kernels if re.fullmatch(pattern, name)]
        if not matching:
            yield f"{pattern}: there is no such kernel"
        for name, k in matching:
            for access in wanted:
                if not k["accesses"][access]:
                    yield f"{name}: no {access}, it has {dict(k['accesses'])}"


def main():
    kernels = read(sys.argv[1])
    if sys.argv[2:] == ["--list"]:
        for name, k in sorted(kernels, key=lambda pair: pair[0]):
            print(name, k["registers"], k["frame"], k["threads"], dict(k["accesses"]))
        return 0
    bad = list(faults(kernels))
    for text in bad:
        print(f"FAIL {text}")
    print(f"{len(kernels)} kernels, {len(bad)} faults")
    return 1 if bad or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())
