#!/usr/bin/python3
"""The exact likelihood beside the published way of it, in one run on this machine; and what each solver, tolerance and
rule costs and errs.

    tests/bench/ode.py [--build build] [--steps 200] [--images 4] [--peer] [--svg FILE] [--json FILE]

A small mulan_velocity (photos32-tiny) is trained for so many steps by mulun-worker, or --checkpoint names one that
claim.py trained. Errors are of bits per dimension, the largest over the images, from the same noise and probes
at a tolerance of --finest. With --peer (packages of group bench) torch_ode.py integrates the same model's flow as
published: one step size a batch, a fresh probe at every evaluation, on the host; its error is from its own solution of
its own noise with one probe at that tolerance, so that it includes what fresh probes cost. Bars: at equal error at most
0.7 of the published evaluations an image, and at least 2 times its images a second."""

import argparse
import json
import math
import os
import subprocess
import tempfile

import runs

def train(worker, steps):
    c = runs.config("photos32-tiny", optimizer={"learning_rate": 3e-4, "lr_decay": False, "ema_rate": 0.98}, machine={"plans": "rule"},
                    training={"num_steps_train": steps, "steps_per_logging": 50, "steps_per_eval": 10 ** 6, "steps_per_save": 10 ** 6,
                              "num_steps_eval": 0}, sampling={"n_images": 1, "n_steps": 1})
    saved, _, _, _ = worker.run("train", c)
    return c, saved[-1]


def evaluate(worker, config, checkpoint, images, batch, **keys):
    """Bits of every image, and the result."""
    c = json.loads(json.dumps(config))
    c["training"]["batch_size_eval"] = batch
    c.setdefault("evaluation", {}).update(method="ode", n_images=images, inspect=False, ode={"n_samples": 1, **keys})
    _, artifacts, result, _ = worker.run("evaluate", c, [checkpoint])
    return runs.per_image(artifacts), result


def error(bpd, reference):
    return max(abs(a - b) for a, b in zip(bpd, reference))


def peer(checkpoint, images, batch, *more):
    command = ["/usr/bin/python3", os.path.join(runs.HERE, "torch_ode.py"), "--checkpoint", checkpoint["path"], "--data", runs.DATA, "--images", str(images),
               "--batch", str(batch), *more]
    r = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(r.stdout.splitlines()[-1])


def plot(rows, path):
    """Evaluations against error, both logarithmic: a line a solver and rule."""
    kinds = sorted({r["what"] for r in rows})
    xs, ys = [math.log10(max(r["error"], 1e-9)) for r in rows], [math.log10(r["evaluations"]) for r in rows]
    place = lambda r: (60 + 500 * (math.log10(max(r["error"], 1e-9)) - min(xs)) / (max(xs) - min(xs) or 1),
                       320 - 280 * (math.log10(r["evaluations"]) - min(ys)) / (max(ys) - min(ys) or 1))
    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
    with open(path, "w", encoding="utf-8") as f:
        f.write('<svg xmlns="http://www.w3.org/2000/svg" width="800" height="370" font-family="sans-serif" font-size="12">\n')
        f.write('<rect width="800" height="370" fill="white"/><text x="230" y="360">largest error of an image, bits per dimension</text>\n')
        f.write('<text x="10" y="20">evaluations a trajectory</text>\n')
        for kind, colour in zip(kinds, colours):
            mine = sorted((r for r in rows if r["what"] == kind), key=lambda r: r["error"])
            f.write(f'<polyline fill="none" stroke="{colour}" points="{" ".join("%.1f,%.1f" % place(r) for r in mine)}"/>\n')
            for r in mine:
                x, y = place(r)
                f.write(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{kind}, tolerance {r["rtol"]:g}: {r["evaluations"]:.0f}, {r["error"]:.2g}</title></circle>\n')
            f.write(f'<text x="580" y="{40 + 18 * kinds.index(kind)}" fill="{colour}">{kind}</text>\n')
        for r in (min(rows, key=lambda r: r["error"]), max(rows, key=lambda r: r["error"])):
            f.write(f'<text x="{place(r)[0] - 20:.0f}" y="340">{r["error"]:.1g}</text>\n')
        for r in (min(rows, key=lambda r: r["evaluations"]), max(rows, key=lambda r: r["evaluations"])):
            f.write(f'<text x="20" y="{place(r)[1]:.0f}">{r["evaluations"]:.0f}</text>\n')
        f.write("</svg>\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default=os.path.join(runs.ROOT, "build"))
    p.add_argument("--checkpoint", help="BASE of BASE.safetensors and BASE.json, as claim.py keeps them")
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--images", type=int, default=4)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--finest", type=float, default=1e-6)
    p.add_argument("--tolerances", type=float, nargs="+", default=[1e-3, 1e-4, 1e-5])
    p.add_argument("--peer", action="store_true")
    p.add_argument("--svg")
    p.add_argument("--json")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        worker = runs.Worker(os.path.join(a.build, "worker", "mulun-worker"), folder)
        if a.checkpoint:
            config, checkpoint = runs.kept(a.checkpoint)
        else:
            config, checkpoint = train(worker, a.steps)
        finest = {"rtol": a.finest, "atol": a.finest}
        reference, result = evaluate(worker, config, checkpoint, a.images, a.batch, **finest)
        print(f"reference: {sum(reference) / len(reference):.5f} bits per dimension, {result['evaluations']['mean']:.0f} evaluations", flush=True)
        rows = []
        for what, keys in (("Dormand-Prince, a probe a trajectory", {}), ("Tsitouras, a probe a trajectory", {"solver": "tsitouras"}),
                           ("Bogacki-Shampine, a probe a trajectory", {"solver": "bogacki_shampine"}),
                           ("Dormand-Prince, fresh probes, the batch's step (published)", {"fresh_probe": True, "step_size": "batch"})):
            for rtol in a.tolerances:
                if rtol < 1e-4 and "Bogacki" in what:
                    continue
                bpd, result = evaluate(worker, config, checkpoint, a.images, a.batch, rtol=rtol, atol=rtol, **keys)
                rows.append({"what": what, "rtol": rtol, "error": error(bpd, reference), "evaluations": result["evaluations"]["mean"],
                             "rejected": result["evaluations"]["rejected_steps"], "images_per_second": a.images / result["seconds"]})
                print("{what:60} {rtol:7g}  error {error:.2e}  evaluations {evaluations:6.0f}  rejected {rejected:5.1f}  {images_per_second:.4f} images/s"
                      .format(**rows[-1]), flush=True)
        report = {"rows": rows}
        if a.peer:
            published = peer(checkpoint, a.images, a.batch, "--rtol", "1e-5")
            truth = peer(checkpoint, a.images, a.batch, "--fixed-probe", "--rtol", str(a.finest))
            report["peer"] = {"error": error(published["bpd"], truth["bpd"]), "evaluations": sum(published["evaluations"]) / len(published["evaluations"]),
                              "images_per_second": a.images / published["seconds"], "bpd": published["bpd"]}
            print("PyTorch, as published: error {error:.2e}, evaluations {evaluations:.0f}, {images_per_second:.4f} images/s".format(**report["peer"]))
            equal = [r for r in rows if r["error"] <= report["peer"]["error"]]
            best = max(equal, key=lambda r: r["images_per_second"]) if equal else None
            if best:
                print(f"at no more error: {best['what']}, tolerance {best['rtol']:g}: {best['evaluations'] / report['peer']['evaluations']:.2f} of the evaluations, "
                      f"{best['images_per_second'] / report['peer']['images_per_second']:.2f} times the images a second")
    if a.svg:
        plot(rows, a.svg)
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump(report, f, indent=1)


if __name__ == "__main__":
    main()
