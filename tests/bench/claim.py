#!/usr/bin/python3
"""MuLAN's claim, small: the same network on photos32 with VDM's schedule, with MuLAN's without adaptivity (one schedule a
pixel, the same for all images) and with MuLAN's (a pixel's and an image's), some seeds each, the same steps.

    tests/bench/claim.py --out FOLDER [--build build] [--steps 5000] [--seeds 1 2 3] [--models ...] [--evaluate]

A run that FOLDER has already is not made again: FOLDER/MODEL-SEED.safetensors is its last checkpoint, .json its
configuration. With --evaluate, all that are there are measured on the test images (dense bound) and tabled; the numbers are
kept in .dense.json beside each."""

import argparse
import json
import os
import shutil
import tempfile

import runs

MODELS = {
    "vdm": {"vdm_type": "vdm", "model": {"gamma_type": "learnable_nnet"}},
    "not-adaptive": {"vdm_type": "mulan_velocity", "model": {"gamma_type": "poly_fixedend", "reparam_type": "label"}},
    "mulan": {"vdm_type": "mulan_velocity", "model": {"gamma_type": "poly_fixedend"}},
    "mulan-epsilon": {"vdm_type": "mulan_epsilon", "model": {"gamma_type": "poly_fixedend"}},
}


def configuration(model, seed, steps):
    kind = MODELS[model]
    network = {"forward_n_layer": 1, "sm_n_embd": 32, "sm_n_layer": 1, "sm_pdrop": 0.0}
    c = runs.config("photos32-vdm-tiny" if model == "vdm" else "photos32-tiny", vdm_type=kind["vdm_type"], model={**network, **kind["model"]},
                    training={"seed": seed, "num_steps_train": steps, "num_steps_lr_warmup": 100, "batch_size_train": 8, "steps_per_logging": 50,
                              "steps_per_eval": 1000, "steps_per_save": 10 ** 6, "num_steps_eval": 8, "batch_size_eval": 64},
                    optimizer={"learning_rate": 1e-3, "lr_decay": True, "ema_rate": 0.995}, sampling={"n_images": 1, "n_steps": 1},
                    machine={"plans": "rule", "threads": 1})
    if model == "vdm":
        del c["model"]["forward_n_layer"]
    return c


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--build", default=os.path.join(runs.ROOT, "build"))
    p.add_argument("--steps", type=int, default=5000)
    p.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    p.add_argument("--models", nargs="+", choices=list(MODELS), default=["vdm", "not-adaptive", "mulan"])
    p.add_argument("--evaluate", action="store_true")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    program = os.path.join(a.build, "worker", "mulun-worker")
    for seed in a.seeds:
        for model in a.models:
            base = os.path.join(a.out, f"{model}-{seed}")
            if not a.evaluate and not os.path.exists(base + ".safetensors"):
                with tempfile.TemporaryDirectory(dir=a.out) as folder:
                    c = configuration(model, seed, a.steps)
                    saved, _, result, seconds = runs.Worker(program, folder).run("train", c)
                    with open(base + ".json", "w", encoding="utf-8") as f:
                        json.dump(c, f, indent=1)
                    shutil.copy(os.path.join(folder, "1", "attempt-1.events"), base + ".events")
                    os.replace(saved[-1]["path"], base + ".safetensors")
                print(f"{model} {seed}: {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
