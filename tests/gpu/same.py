#!/usr/bin/env python3
"""The same bits on a GPU, in every precision: a run, the same run once more, and one that goes on from the first one's
middle end with the same file, from weights to the sums of the open log window.

    same.py WORKER MODULE FOLDER [STEPS]    MODULE: libmulun-cuda.so, or the emulated device's; prints a line a precision
"""
import json
import os
import random
import subprocess
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # in a pack it lies beside this
import spool  # noqa: E402

IDENTITY = "0123456789abcdef0123456789abcdef"
STEPS = 8


def write_images(folder):
    os.makedirs(folder, exist_ok=True)
    draw = random.Random(1)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        with open(os.path.join(folder, name), "wb") as f:
            for _ in range(16):
                f.write(bytes([0]) + bytes(min(255, max(0, int(128 + 60 * draw.gauss(0, 1)))) for _ in range(3072)))


def train(worker, modules, folder, data, precision, steps, attempt, checkpoints):
    """The events' artifacts: {step: checkpoint}."""
    os.makedirs(folder, exist_ok=True)
    config = {"model": {"sm_n_embd": 32, "sm_n_layer": 1, "forward_n_layer": 1, "gamma_type": "linear"},
              "training": {"batch_size_train": 2, "batch_size_eval": 1, "num_steps_train": steps, "num_steps_lr_warmup": 2, "num_steps_eval": 0,
                           "steps_per_logging": 3, "steps_per_eval": 1000, "steps_per_save": steps // 2},
              "sampling": {"n_images": 1, "n_steps": 2}, "optimizer": {"learning_rate": 0.002},
              "machine": {"backend": "cuda", "precision": precision}}
    assignment = {"job": 1, "attempt": attempt, "kind": "train", "config": config, "identity": IDENTITY, "accept_changed_data": False,
                  "dataset": {"name": "noise", "path": data, "digest": "0" * 32}, "folder": folder, "checkpoints": checkpoints}
    r = subprocess.run([worker], input=json.dumps(assignment), text=True, capture_output=True, env={**os.environ, "MULUN_MODULES": modules}, check=False)
    if r.returncode:
        sys.exit(f"{precision}: the worker ended with {r.returncode}: {r.stderr.strip().splitlines()[-1:]}")
    said = spool.read(os.path.join(folder, f"attempt-{attempt}.events"))
    return {e["step"]: {"path": os.path.join(folder, e["name"]), "xxh128": e["xxh128"], "step": e["step"], "identity": IDENTITY}
            for e in said if e["type"] == "artifact" and e["kind"] == "checkpoint"}


def main():
    worker, module, folder = (os.path.abspath(x) for x in sys.argv[1:4])
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else STEPS
    modules, data = os.path.join(folder, "modules"), os.path.join(folder, "data")
    os.makedirs(modules, exist_ok=True)
    if not os.path.lexists(modules + "/libmulun-cuda.so"):
        os.symlink(module, modules + "/libmulun-cuda.so")
    write_images(data)
    failed = 0
    for precision in ("float32", "tf32", "bf16"):
        def run(name, attempt=1, checkpoints=(), precision=precision):
            return train(worker, modules, os.path.join(folder, precision, name), data, precision, steps, attempt, list(checkpoints))

        first, second = run("first"), run("second")
        resumed = run("resumed", 2, [first[steps // 2]])
        digests = [x[steps]["xxh128"] for x in (first, second, resumed)]
        same = len(set(digests)) == 1 and first[steps // 2]["xxh128"] != digests[0]
        failed += not same
        print(f"{precision}: {steps} steps, twice and resumed at {steps // 2}: {'the same bits' if same else 'DIFFERENT ' + ' '.join(digests)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
