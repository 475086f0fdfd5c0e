#!/usr/bin/env python3
"""A training step of cifar10-conditioned on paper: what each operation's launches move, as counted from their arguments
(mulun-worker --bench --paper), beside the least that its operands need; and the step's time at rates that were measured
on an H200 (cuDNN's best plan for a shape; 4.24 TB/s for everything else).

    paper.py WORKER MODULE [BATCH]    prints the table; the status says whether the bars hold (batch 128)

MODULE: libmulun-cuda-emu.so, so that no GPU is needed, or libmulun-cuda.so.
"""
import collections
import json
import os
import subprocess
import sys
import tempfile

BANDWIDTH = 4.24e12
ATTENTION = 607e12  # FLOP/s of fused attention
# TFLOP/s by FLOP of a call at batch 128: 128 to 128, 256 to 128, 15 to 128, 128 to 3 and to 1 channels
RATES = {"conv_forward": {38.65: 664, 77.31: 725, 4.53: 90, 0.91: 15, 0.30: 15},
         "conv_backward_data": {38.65: 621, 77.31: 749, 4.53: 76, 0.91: 19, 0.30: 19},
         "conv_backward_weights": {38.65: 561, 77.31: 628, 4.53: 77, 0.91: 15, 0.30: 15}}
PEER_BYTES = 15.4e9  # PyTorch 2.11, compiled, the same step
NONE, NORM, BLOCK = range(3)


def count(worker, module, batch, recompute):
    with tempfile.TemporaryDirectory() as modules:
        os.symlink(os.path.abspath(module), modules + "/libmulun-cuda.so")
        return count_with(worker, modules, batch, recompute)


def count_with(worker, modules, batch, recompute):
    r = subprocess.run([worker, "--bench", "--paper", "1", "--cuda", "1", "--bf16", "1", "--embd", "128", "--layers", "32", "--encoder-layers", "4",
                        "--batch", str(batch), "--recompute", str(recompute)], capture_output=True, text=True, check=True,
                       env={**os.environ, "MULUN_MODULES": modules})
    lines = [json.loads(line) for line in r.stdout.splitlines()]
    return lines[:-1], lines[-1]["bytes"]


def seconds(x, batch):
    """Of a call: a convolution's own operands come with its rate, what it moves beyond them with the bandwidth."""
    if x["op"] in RATES:
        scale = batch / 128
        rate = RATES[x["op"]][min(RATES[x["op"]], key=lambda f: abs(f - x["flop"] / scale / 1e9))]
        return x["flop"] / rate / 1e12 + (x["moved"] - x["least"]) / BANDWIDTH
    return max(x["moved"] / BANDWIDTH, x["flop"] / ATTENTION if x["op"].startswith("attention") else 0)


def main():
    worker, module = sys.argv[1:3]
    batch = int(sys.argv[3]) if len(sys.argv) > 3 else 128
    rows, memory = count(worker, module, batch, NORM)
    least_rows, _ = count(worker, module, batch, NONE)
    _, memory_block = count(worker, module, batch, BLOCK)
    table = collections.defaultdict(lambda: [0, 0.0, 0.0, 0.0, 0.0])
    for x in rows:
        t = table[x["op"]]
        for i, v in enumerate((1, x["flop"] / 1e12, x["least"] / 1e9, x["moved"] / 1e9, seconds(x, batch) * 1e3)):
            t[i] += x["calls"] * v
    total = [sum(t[i] for t in table.values()) for i in range(5)]
    print("| operation | calls | TFLOP | least, GB | moved, GB | ms |\n|---|---|---|---|---|---|")
    for op, t in sorted(table.items(), key=lambda item: -item[1][4]):
        if t[4] >= 0.01:
            print(f"| {op} | {t[0]} | {t[1]:.3f} | {t[2]:.2f} | {t[3]:.2f} | {t[4]:.2f} |")
    print(f"| all | {total[0]} | {total[1]:.3f} | {total[2]:.2f} | {total[3]:.2f} | {total[4]:.2f} |")
    least = sum(x["calls"] * x["least"] for x in least_rows) / 1e9
    ratio = total[3] / least
    print(f"\nmoved {total[3]:.1f} GB, {ratio:.2f} times the {least:.1f} GB of a step that computes nothing twice; predicted {total[4]:.1f} ms; "
          f"memory {memory / 1e9:.2f} GB ({memory / PEER_BYTES:.2f} of the compiled peer's), {memory_block / 1e9:.2f} GB with "
          f"machine.recompute \"block\" ({memory_block / PEER_BYTES:.2f})")
    ok = batch != 128 or (ratio <= 1.6 and total[4] <= 60 and memory <= 0.5 * PEER_BYTES and memory_block <= 0.25 * PEER_BYTES)
    return 0 if ok and total[0] > 1000 else 1


if __name__ == "__main__":
    sys.exit(main())
