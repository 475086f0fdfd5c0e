#!/usr/bin/python3
"""Our training step and the same network in PyTorch, in one go on this machine, turn about.

    tests/bench/peer.py [--build build] [--embd 64 128] [--rounds 3] [--steps 7] [--json FILE]

Needs the packages of group bench (tools/install.sh bench) and an idle machine: a busy one is said at the top of the
table, and the numbers are worth little then. A round is ours, then the peer; medians over the rounds are compared. Bars:
images/s at least 2.2 times the peer's at n_embd 64 and 1.7 times at 128 (AVX-512); peak memory at most 0.5 of the peer's; where
the processor multiplies bf16, our bf16 at least 1.5 times our float32 at 128; at 128
FLOP/s at least 0.72 of what oneDNN's bare 3x3 convolution reaches in the same run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PYTHON = "/usr/bin/python3"
BARS = {64: 2.2, 128: 1.7}
MEMORY_BAR, CONV_BAR, BF16_BAR = 0.5, 0.72, 1.5

# What makes PyTorch fast on a CPU: no page faults for its large tensors, OpenBLAS for what this processor is.
PEER_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_PROC_BIND": "true",
}


def environment(threads, more=()):
    e = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "OPENBLAS_", "MALLOC_", "DNNL_", "KMP_", "GOMP_"))}
    e.update(OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads), **dict(more))
    return e


def run(command, env):
    r = subprocess.run(command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    lines = [line for line in r.stdout.splitlines() if line.startswith("{")]
    if r.returncode or not lines:
        sys.exit(f"{' '.join(command)}\nended with {r.returncode}:\n{r.stdout[-2000:]}{r.stderr[-2000:]}")
    return json.loads(lines[-1])


def busy():
    """Share of the processors' time that others use, over half a second."""
    def read():
        with open("/proc/stat", encoding="ascii") as f:
            v = [int(x) for x in f.readline().split()[1:9]]
        return sum(v), v[3] + v[4]
    a = read()
    time.sleep(0.5)
    b = read()
    return 1 - (b[1] - a[1]) / max(1, b[0] - a[0])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default=os.path.join(ROOT, "build"))
    p.add_argument("--embd", type=int, nargs="+", default=[64, 128])
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--encoder-layers", type=int, default=2)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=7)
    p.add_argument("--json", help="write everything measured to this file")
    p.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    a = p.parse_args()

    worker = os.path.join(a.build, "worker", "mulun-worker")
    convolution = os.path.join(a.build, "tests", "bench", "bench-conv")
    for program in (worker, convolution):
        if not os.path.exists(program):
            sys.exit(f"{program} is not there: build first")
    if subprocess.run([PYTHON, "-c", "import torch"], capture_output=True, check=False).returncode:
        print("SKIP: python3-torch is not installed (tools/install.sh bench)")
        sys.exit(77)

    load = busy()
    blas = os.path.realpath("/usr/lib/x86_64-linux-gnu/libblas.so.3")
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        info = f.read()
    cpu = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "?")
    has_bf16 = "avx512_bf16" in info
    print(f"{cpu}, {a.threads} threads, batch {a.batch}, {a.layers} layers, encoder {a.encoder_layers}; BLAS of the peer: {blas}")
    if load > 0.05:
        print(f"NOTE: other programs use {100 * load:.0f} % of this machine; these numbers are rough")
    if "openblas" not in blas:
        print("NOTE: the peer runs without OpenBLAS; the comparison is void")

    out, good = [], True
    for embd in a.embd:
        sizes = ["--embd", embd, "--layers", a.layers, "--encoder-layers", a.encoder_layers, "--batch", a.batch, "--steps", a.steps, "--threads", a.threads]
        sizes = [str(s) for s in sizes]
        ours, peer, bare, bf16 = [], [], [], []
        for i in range(a.rounds):
            bare.append(run([convolution, str(embd), str(a.batch)], environment(a.threads)))
            ours.append(run([worker, "--bench", *sizes], environment(a.threads)))
            if has_bf16:
                bf16.append(run([worker, "--bench", "--bf16", "1", *sizes], environment(a.threads)))
            peer.append(run([PYTHON, os.path.join(HERE, "torch_mulan.py"), *sizes], environment(a.threads, PEER_ENVIRONMENT.items())))
            print(f"  n {embd} round {i + 1}: ours {ours[-1]['images_per_second']:.2f} images/s, peer {peer[-1]['images_per_second']:.2f}", flush=True)

        def middle(rows, key):
            return statistics.median(r[key] for r in rows)
        row = {"embd": embd, "ours": ours, "peer": peer, "busy": load,
               "images_per_second": middle(ours, "images_per_second"), "peer_images_per_second": middle(peer, "images_per_second"),
               "peak_bytes": middle(ours, "peak_bytes"), "peer_peak_bytes": middle(peer, "peak_bytes"),
               "gflops": middle(ours, "gflops")}
        row["conv_gflops"] = middle(bare, "conv_gflops")
        row["speed_ratio"] = row["images_per_second"] / row["peer_images_per_second"]
        row["memory_ratio"] = row["peak_bytes"] / row["peer_peak_bytes"]
        row["conv_ratio"] = row["gflops"] / row["conv_gflops"]
        out.append(row)
        bars = [("images/s", f"{row['images_per_second']:.2f}", f"{row['peer_images_per_second']:.2f}", row["speed_ratio"], ">=", BARS.get(embd, 0)),
                ("peak memory, GB", f"{row['peak_bytes'] / 1e9:.2f}", f"{row['peer_peak_bytes'] / 1e9:.2f}", row["memory_ratio"], "<=", MEMORY_BAR),
                ("GFLOP/s of bare convolution", f"{row['gflops']:.0f}", f"{row['conv_gflops']:.0f}", row["conv_ratio"], ">=", CONV_BAR if embd >= 128 else 0)]
        if bf16:
            row["bf16"], bf16_rate = bf16, middle(bf16, "images_per_second")
            bars.append(("images/s, bf16 to our float32", f"{bf16_rate:.2f}", f"{row['images_per_second']:.2f}",
                         bf16_rate / row["images_per_second"], ">=", BF16_BAR if embd >= 128 else 0))
        print(f"\n  n_embd {embd:<22}{'ours':>10}{'other':>10}{'ratio':>9}  bar")
        for name, x, y, ratio, sign, bar in bars:
            ok = ratio >= bar if sign == ">=" else ratio <= bar
            good &= ok
            print(f"  {name:29}{x:>10}{y:>10}{ratio:>9.2f}  {f'{sign} {bar}' if bar else '-'}{'' if ok else '   MISSED'}")
        print()
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump(out, f, indent=1)
    return 1 if a.check and not good else 0


if __name__ == "__main__":
    sys.exit(main())
