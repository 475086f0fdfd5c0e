#!/usr/bin/python3
"""What each solver, tolerance and rule of the exact likelihood costs and errs; and the published way beside ours.

    tests/bench/ode.py [--build build] [--steps 200] [--images 8] [--peer] [--svg FILE] [--json FILE]

A small mulan_velocity (photos32-tiny) is trained for so many steps by mulun-worker, or --checkpoint names one that
claim.py trained. Errors are of bits per dimension, the root of the mean square over the images, for the same images and
dequantising noise. A probe that is fixed to its trajectory makes a smooth integrand and an estimate of the divergence
that is off by what that one probe is off; probes that are drawn at every evaluation (as published) make a rough one, and
average. So there are two truths, each at a tolerance of --finest: with the same fixed probe (what the solver errs) and
with fresh ones (what solver and probe err together). With --peer (packages of group bench; mulan_velocity alone)
torch_ode.py integrates the same flow as published: one step size a batch, fresh probes, on the host, with noise of its
own; its error is what two runs with other probes differ by, over the root of two (so without what the solver errs in
both alike). Seconds are processor time of one thread each: other work on the machine matters less."""

import argparse
import json
import math
import os
import resource
import subprocess
import tempfile

import runs


def train(worker, steps):
    c = runs.config("photos32-tiny", optimizer={"learning_rate": 3e-4, "lr_decay": False, "ema_rate": 0.98}, machine={"plans": "rule"},
                    training={"num_steps_train": steps, "steps_per_logging": 50, "steps_per_eval": 10 ** 6, "steps_per_save": 10 ** 6,
                              "num_steps_eval": 0}, sampling={"n_images": 1, "n_steps": 1})
    saved, _, _, _ = worker.run("train", c)
    return c, saved[-1]


def processor_seconds():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def evaluate(worker, config, checkpoint, a, **keys):
    """Bits of every image, evaluations a trajectory, rejected steps, processor seconds of all but the start."""
    c = json.loads(json.dumps(config))
    c["training"]["batch_size_eval"] = a.batch
    c["machine"]["threads"] = 1
    c.setdefault("evaluation", {}).update(method="ode", n_images=a.images, inspect=False, ode={"n_samples": 1, **keys})
    before = processor_seconds()
    _, artifacts, result, _ = worker.run("evaluate", c, [checkpoint])
    return {"bpd": runs.per_image(artifacts), "evaluations": result["evaluations"]["mean"], "rejected": result["evaluations"]["rejected_steps"],
            "seconds": processor_seconds() - before}


def error(bpd, truth):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(bpd, truth)) / len(bpd))


def peer(checkpoint, a, *more):
    command = ["/usr/bin/python3", os.path.join(runs.HERE, "torch_ode.py"), "--checkpoint", checkpoint["path"], "--data", runs.DATA, "--threads", "1",
               "--images", str(a.images), "--batch", str(a.batch), *more]
    before = processor_seconds()
    r = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return {"bpd": r["bpd"], "evaluations": sum(r["evaluations"]) / len(r["evaluations"]), "rejected": 0, "seconds": processor_seconds() - before}


def plot(rows, path):
    """Evaluations against error, both logarithmic: a line a solver and rule."""
    kinds = list(dict.fromkeys(r["what"] for r in rows))
    xs, ys = [math.log10(max(r["error"], 1e-9)) for r in rows], [math.log10(r["evaluations"]) for r in rows]
    place = lambda r: (60 + 500 * (math.log10(max(r["error"], 1e-9)) - min(xs)) / (max(xs) - min(xs) or 1),
                       320 - 280 * (math.log10(r["evaluations"]) - min(ys)) / (max(ys) - min(ys) or 1))
    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#888888"]
    with open(path, "w", encoding="utf-8") as f:
        f.write('<svg xmlns="http://www.w3.org/2000/svg" width="1080" height="370" font-family="sans-serif" font-size="12">\n')
        f.write('<rect width="1080" height="370" fill="white"/><text x="230" y="360">error of an image (root mean square), bits per dimension</text>\n')
        f.write('<text x="10" y="20">evaluations a trajectory</text>\n')
        for kind, colour in zip(kinds, colours):
            mine = [r for r in rows if r["what"] == kind]
            f.write(f'<polyline fill="none" stroke="{colour}" points="{" ".join("%.1f,%.1f" % place(r) for r in mine)}"/>\n')
            for r in mine:
                x, y = place(r)
                f.write(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{kind}, tolerance {r["rtol"]:g}: {r["evaluations"]:.0f}, {r["error"]:.2g}</title></circle>\n')
            f.write(f'<text x="590" y="{40 + 18 * kinds.index(kind)}" fill="{colour}">{kind}</text>\n')
        for r in (min(rows, key=lambda r: r["error"]), max(rows, key=lambda r: r["error"])):
            f.write(f'<text x="{place(r)[0] - 20:.0f}" y="340">{r["error"]:.1g}</text>\n')
        for r in (min(rows, key=lambda r: r["evaluations"]), max(rows, key=lambda r: r["evaluations"])):
            f.write(f'<text x="20" y="{place(r)[1]:.0f}">{r["evaluations"]:.0f}</text>\n')
        f.write("</svg>\n")


RULES = (("Dormand-Prince, fixed probe", {}),
         ("Dormand-Prince, fixed probe, pi", {"step_control": "pi"}),
         ("Tsitouras, fixed probe", {"solver": "tsitouras"}),
         ("Bogacki-Shampine, fixed probe", {"solver": "bogacki_shampine"}),
         ("Dormand-Prince, fresh probes, the image's errors alone", {"fresh_probe": True, "error_norm": "image"}),
         ("Bogacki-Shampine, fresh probes, the image's errors alone", {"solver": "bogacki_shampine", "fresh_probe": True, "error_norm": "image"}),
         ("Dormand-Prince, fresh probes, the batch's step (published)", {"fresh_probe": True, "step_size": "batch"}))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default=os.path.join(runs.ROOT, "build"))
    p.add_argument("--checkpoint", help="BASE of BASE.safetensors and BASE.json, as claim.py keeps them")
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--images", type=int, default=8)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--finest", type=float, default=1e-7)
    p.add_argument("--tolerances", type=float, nargs="+", default=[1e-3, 1e-4, 1e-5])
    p.add_argument("--peer", action="store_true")
    p.add_argument("--svg")
    p.add_argument("--json")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        worker = runs.Worker(os.path.join(a.build, "worker", "mulun-worker"), folder)
        config, checkpoint = runs.kept(a.checkpoint) if a.checkpoint else train(worker, a.steps)
        # of many probes: the pair that adds up their noise the least, with steps that do not follow it
        truths = [evaluate(worker, config, checkpoint, a, rtol=a.finest, atol=a.finest, **keys)
                  for keys in ({}, {"fresh_probe": True, "solver": "bogacki_shampine", "error_norm": "image"})]
        fixed, fresh = (t["bpd"] for t in truths)
        print(f"truth with fixed probes {sum(fixed) / a.images:.4f} ({truths[0]['evaluations']:.0f} evaluations), with fresh ones "
              f"{sum(fresh) / a.images:.4f} ({truths[1]['evaluations']:.0f}): a fixed probe is off by {error(fixed, fresh):.4f} an image\n")
        print("| rule | tolerance | solver's error | with the probe's | evaluations | rejected steps | images a processor second |")
        print("|---|---|---|---|---|---|---|", flush=True)
        rows = []

        def tell(what, rtol, e, own, whole):
            rows.append({"what": what, "rtol": rtol, "own_error": own, "error": whole, "evaluations": e["evaluations"], "rejected": e["rejected"],
                         "images_per_second": a.images / e["seconds"], "bpd": e["bpd"]})
            print(f"| {what} | {rtol:g} | {'' if own is None else f'{own:.4f}'} | {whole:.4f} | {e['evaluations']:.0f} | {e['rejected']:.1f} | "
                  f"{a.images / e['seconds']:.4f} |", flush=True)

        for what, keys in RULES:
            for rtol in a.tolerances:
                e = evaluate(worker, config, checkpoint, a, rtol=rtol, atol=rtol, **keys)
                tell(what, rtol, e, None if keys.get("fresh_probe") else error(e["bpd"], fixed), error(e["bpd"], fresh))
        if a.peer:
            for rtol in a.tolerances[-1:]:
                several = [peer(checkpoint, a, "--rtol", str(rtol), "--probe-seed", str(seed)) for seed in (1, 2)]
                # two runs that differ in their probes alone: each is off by a root of two less than they differ
                tell("PyTorch, as published", rtol, several[0], None, error(*(e["bpd"] for e in several)) / math.sqrt(2))
            for theirs in [r for r in rows if "PyTorch" in r["what"]]:
                equal = [r for r in rows if "ublished" not in r["what"] and r["error"] <= theirs["error"]]
                if equal:
                    best = max(equal, key=lambda r: r["images_per_second"])
                    print(f"\nat no more error than PyTorch's {theirs['rtol']:g}: {best['what']}, {best['rtol']:g}: "
                          f"{best['evaluations'] / theirs['evaluations']:.2f} of the evaluations, "
                          f"{best['images_per_second'] / theirs['images_per_second']:.2f} times the images a processor second")
    if a.svg:
        plot(rows, a.svg)
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump({"fixed": fixed, "fresh": fresh, "rows": rows}, f, indent=1)


if __name__ == "__main__":
    main()
