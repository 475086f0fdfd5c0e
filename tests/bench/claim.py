#!/usr/bin/python3
"""MuLAN's claim, small: the same network on photos32 with VDM's schedule, with MuLAN's without adaptivity (one schedule a
pixel, the same for all images) and with MuLAN's (a pixel's and an image's), all in the noise parameterisation, some seeds
each, the same steps.

    tests/bench/claim.py --out FOLDER [--build build] [--steps 2000] [--seeds 1 2 3] [--models ...] [--images 128] [--train-only]

A run that FOLDER has already is not made again: MODEL-SEED.safetensors is its last checkpoint, .json says of what, .csv is
its curve. All that are there are measured with the dense bound on the same test images and tabled."""

import argparse
import json
import math
import os
import statistics
import tempfile

import runs
import spool

MODELS = {
    "vdm": {"vdm_type": "vdm", "model": {"gamma_type": "learnable_nnet"}},
    "not-adaptive": {"vdm_type": "mulan_epsilon", "model": {"gamma_type": "poly_fixedend", "reparam_type": "label"}},
    "mulan": {"vdm_type": "mulan_epsilon", "model": {"gamma_type": "poly_fixedend"}},
    # not of the claim, for consistency.py
    "vdm-fixed": {"vdm_type": "vdm", "model": {"gamma_type": "fixed"}},
    "mulan-velocity": {"vdm_type": "mulan_velocity", "model": {"gamma_type": "poly_fixedend"}},
}


def configuration(model, seed, steps, fourier=False):
    kind = MODELS[model]
    # without the sines of up to 2^7 2 pi z, which in a few thousand steps do more harm than good (RESULTS.md)
    network = {"forward_n_layer": 1, "sm_n_embd": 32, "sm_n_layer": 1, "sm_pdrop": 0.0, "with_fourier_features": fourier}
    c = runs.config("photos32-vdm-tiny" if kind["vdm_type"] == "vdm" else "photos32-tiny", vdm_type=kind["vdm_type"], model={**network, **kind["model"]},
                    training={"seed": seed, "num_steps_train": steps, "num_steps_lr_warmup": 100, "batch_size_train": 8, "steps_per_logging": 50,
                              "steps_per_eval": 1000, "steps_per_save": 10 ** 6, "num_steps_eval": 8, "batch_size_eval": 64},
                    optimizer={"learning_rate": 1e-3, "lr_decay": True, "ema_rate": 0.995}, sampling={"n_images": 1, "n_steps": 1},
                    machine={"plans": "rule", "threads": 1})
    if kind["vdm_type"] == "vdm":
        del c["model"]["forward_n_layer"]
    return c


def curve(artifacts, path):
    """step, seconds, training bits and test bits of the average, from a run's events."""
    events = [e for e in spool.read(artifacts) if e["type"] == "scalars"]
    with open(path, "w", encoding="utf-8") as f:
        f.write("step,seconds,train/bpd,eval/bpd\n")
        for e in events:
            for i, step in enumerate(e["step"]):
                values = [e["columns"][name][i] if name in e["columns"] else "" for name in ("train/bpd", "eval/bpd")]
                if any(v != "" for v in values):
                    f.write(f"{step},{(e['time_ms'][i] - events[0]['time_ms'][0]) / 1000:.1f},{values[0]},{values[1]}\n")


def train(program, a, model, seed, base):
    with tempfile.TemporaryDirectory(dir=a.out) as folder:
        c = configuration(model, seed, a.steps, a.fourier)
        saved, _, _, seconds = runs.Worker(program, folder).run("train", c)
        curve(os.path.join(folder, "1", "attempt-1.events"), base + ".csv")
        runs.keep(base, c, saved[-1])
    print(f"{model} {seed}: {seconds:.0f} s", flush=True)


def measure(program, images, base):
    """The dense bound of each image."""
    c, checkpoint = runs.kept(base)
    c["training"]["batch_size_eval"] = 32
    c["evaluation"] = {"method": "dense", "n_timesteps": 32, "n_images": images, "inspect": False}
    with tempfile.TemporaryDirectory() as folder:
        _, artifacts, result, _ = runs.Worker(program, folder).run("evaluate", c, [checkpoint])
        return runs.per_image(artifacts), result


def table(program, a):
    print("| model | seed | bpd | standard error over images | recon | latent | diff | less than vdm of that seed, image by image |")
    print("|---|---|---|---|---|---|---|---|")
    means = {}
    for seed in a.seeds:
        first = None
        for model in a.models:
            bits, result = measure(program, a.images, os.path.join(a.out, f"{model}-{seed}"))
            first = first or bits
            less = [x - y for x, y in zip(first, bits)]
            error = statistics.stdev(less) / math.sqrt(len(less))
            parts = result["parts"]
            means.setdefault(model, []).append(result["bpd"])
            print(f"| {model} | {seed} | {result['bpd']:.3f} | {result['standard_error']:.3f} | {parts['recon']:.3f} | {parts['latent']:.3f} | "
                  f"{parts['diff']:.3f} | {statistics.mean(less):.3f} +- {error:.3f} |", flush=True)
    for model, x in means.items():
        print(f"{model}: {statistics.mean(x):.3f}" + (f" +- {statistics.stdev(x):.3f} (standard deviation over {len(x)} seeds)" if len(x) > 1 else ""))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--build", default=os.path.join(runs.ROOT, "build"))
    p.add_argument("--steps", type=int, default=2000)
    p.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    p.add_argument("--models", nargs="+", choices=list(MODELS), default=["vdm", "not-adaptive", "mulan"])
    p.add_argument("--fourier", action="store_true", help="with Fourier features, as published")
    p.add_argument("--images", type=int, default=128)
    p.add_argument("--train-only", action="store_true")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    program = os.path.join(a.build, "worker", "mulun-worker")
    for seed in a.seeds:
        for model in a.models:
            base = os.path.join(a.out, f"{model}-{seed}")
            if not os.path.exists(base + ".safetensors"):
                train(program, a, model, seed, base)
    if not a.train_only:
        table(program, a)


if __name__ == "__main__":
    main()
