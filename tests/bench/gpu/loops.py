#!/usr/bin/env python3
"""The instructions of kernels' loops, which say what a kernel costs where no GPU is at hand:

    loops.py NVDISASM kernels/cuda/norm.cu [NAME]    kernels whose name matches; each loop with its instructions by kind

NVDISASM: nvdisasm of any CUDA toolkit, such as 11.8's in Debian's non-free nvidia-cuda-toolkit (`apt-get download`, `dpkg-deb -x`: it need not
be installed). Those before 13 refuse the header of nvcc 13's files, but not their code, which is the same: the header is made as theirs."""
import collections
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
CUDA = pathlib.Path("/usr/local/cuda")
ABI_AT, FLAGS_AT, OLD_ABI, OLD_SM_90 = 7, 48, b"\x33\x07", 0x005A055A


def listing(nvdisasm, source):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as f:
        subprocess.run([CUDA / "bin/nvcc", "-std=c++17", "-O3", "-arch=sm_90a", "-cubin", f"-I{ROOT}", "-o", f.name, source], check=True)
        elf = bytearray(open(f.name, "rb").read())
        elf[ABI_AT:ABI_AT + 2] = OLD_ABI
        struct.pack_into("<I", elf, FLAGS_AT, OLD_SM_90)
        f.seek(0)
        f.write(elf)
        f.flush()
        return subprocess.run([nvdisasm, "-c", f.name], check=True, capture_output=True, text=True).stdout


def kernels(text):
    """By name: its instructions, and where its labels stand among them."""
    found, code, labels = {}, [], {}
    for line in text.splitlines():
        if m := re.match(r"\.text\.(\S+):", line):
            code, labels = found[m[1]] = [], {}
        elif m := re.match(r"\s*(\.L\S+):", line):
            labels[m[1]] = len(code)
        elif m := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line):
            code.append(m[1])
    return found


def kinds(code):
    return collections.Counter(re.sub(r"^@!?U?P\w+\s+", "", x).split()[0].split(".")[0] for x in code).most_common(20)


def main():
    nvdisasm, source, pattern = (sys.argv[1:] + ["."])[:3]
    found = kernels(listing(nvdisasm, source))
    names = subprocess.run(["c++filt"], input="\n".join(found), capture_output=True, text=True, check=True).stdout
    names = names.replace("(anonymous namespace)::", "").splitlines()
    for (code, labels), name in zip(found.values(), names):
        if not re.search(pattern, name):
            continue
        print(f"{name}\n  {len(code)} instructions")
        for end, x in enumerate(code):
            m = re.search(r"BRA.*`\((\.L\S+)\)", x)
            if m and labels.get(m[1], end) < end:
                loop = code[labels[m[1]]:end + 1]
                print(f"  loop of {len(loop)}:", " ".join(f"{kind} {n}" for kind, n in kinds(loop)))


if __name__ == "__main__":
    sys.exit(main())
