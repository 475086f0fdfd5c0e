#!/usr/bin/python3
"""Three ways to the same number: the sparse bound, the dense bound and the exact likelihood of trained models on the same
test images. In theory sparse and dense agree within their noise, and the exact likelihood needs no more bits than the bound.

    tests/bench/consistency.py BASE ... [--build build] [--images 32] [--batch 8] [--rtol 1e-5]

BASE: of BASE.safetensors and BASE.json, as claim.py keeps them."""

import argparse
import json
import math
import os
import statistics
import tempfile

import runs


def evaluate(worker, c, checkpoint, method, a):
    c = json.loads(json.dumps(c))
    c["training"]["batch_size_eval"] = a.batch
    c["machine"]["threads"] = a.threads
    c["evaluation"] = {"method": method, "n_images": a.images, "n_timesteps": 128, "inspect": False,
                       "ode": {"n_samples": 1, "rtol": a.rtol, "atol": a.rtol}}
    _, artifacts, result, _ = worker.run("evaluate", c, [checkpoint])
    return runs.per_image(artifacts), result


def mean_and_error(x):
    return statistics.mean(x), statistics.stdev(x) / math.sqrt(len(x))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("bases", nargs="+")
    p.add_argument("--build", default=os.path.join(runs.ROOT, "build"))
    p.add_argument("--images", type=int, default=32)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--rtol", type=float, default=1e-5)
    a = p.parse_args()
    print("| model | sparse | dense | ode | sparse - dense | dense - ode | evaluations |")
    print("|---|---|---|---|---|---|---|")
    for base in a.bases:
        c, checkpoint = runs.kept(base)
        with tempfile.TemporaryDirectory() as folder:
            worker = runs.Worker(os.path.join(a.build, "worker", "mulun-worker"), folder)
            bits, results = zip(*(evaluate(worker, c, checkpoint, method, a) for method in ("sparse", "dense", "ode")))
        cells = ["%.3f +- %.3f" % mean_and_error(x) for x in bits]
        cells += ["%.3f +- %.3f" % mean_and_error([x - y for x, y in zip(bits[i], bits[i + 1])]) for i in (0, 1)]
        print(f"| {os.path.basename(base)} | " + " | ".join(cells) + f" | {results[2]['evaluations']['mean']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
