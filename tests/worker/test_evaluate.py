"""mulun-worker's evaluations and samples, without a daemon: their numbers, files, and how they go on."""

import csv
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time

import numpy
import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attempts import LONG, ROOT, WORKER, assignment, checkpoints, events, png_pixels, run, scalars, work  # noqa: E402


def rows_of(path):
    with open(path, encoding="utf-8") as f:
        return list(csv.DictReader(f))


@pytest.mark.parametrize("method", ["sparse", pytest.param("dense", marks=LONG)])
def test_what_an_evaluation_shows_beside_its_number(tmp_path, method):
    for name, changes in (("vdm", {}), ("mulan", {"vdm_type": "mulan_epsilon"})):
        folder = tmp_path / name
        folder.mkdir()
        a = assignment(folder, 1)
        a["config"].update(changes)
        a["config"]["model"]["gamma_type"] = "fixed" if name == "vdm" else "linear"
        assert run(text=json.dumps(a)).returncode == 0
        b = {**assignment(folder, 2, checkpoints(folder, 1)[:1], kind="evaluate"), "config": a["config"]}
        b["config"]["evaluation"] = {"n_images": 40, "method": method, "n_timesteps": 5}
        assert run(text=json.dumps(b)).returncode == 0
        said = events(folder, 2)
        files, result = {e["name"] for e in said if e["type"] == "artifact"}, said[-1]["result"]
        assert files == {"bpd-per-image.csv", "bpd-ranked.csv", "images-least-bpd.png", "images-most-bpd.png", "diff-over-time.csv",
                         "gamma-over-time.csv"} | (set() if name == "vdm" else {"gamma-maps.png", "latent-usage.csv"})
        ranked, images = rows_of(folder / "bpd-ranked.csv"), rows_of(folder / "bpd-per-image.csv")
        assert [int(r["image"]) for r in ranked] == sorted(range(40), key=lambda i: (float(images[i]["bpd"]), i))
        least, most = (png_pixels(folder / f"images-{n}-bpd.png") for n in ("least", "most"))
        data = (ROOT + "/data/photos32/test_batch.bin", lambda i: numpy.fromfile(ROOT + "/data/photos32/test_batch.bin", numpy.uint8)[
            3073 * i + 1:3073 * (i + 1)].reshape(3, 32, 32).transpose(1, 2, 0))[1]
        assert (least[:32, :32] == data(int(ranked[0]["image"]))).all() and (most[:32, :32] == data(int(ranked[-1]["image"]))).all()
        times = rows_of(folder / "diff-over-time.csv")
        assert len(times) == 20 and all(float(r["diff"]) > 0 for r in times)
        # sparse: 40 images evenly over t, two in each bin
        assert statistics.mean(float(r["diff"]) for r in times) == pytest.approx(result["parts"]["diff"], rel=1e-6 if method == "sparse" else 0.1)
        gamma = [r for r in rows_of(folder / "gamma-over-time.csv") if r["image"] == "all"]
        assert len(gamma) == 21
        for r in gamma:
            if name == "vdm":
                assert float(r["mean"]) == pytest.approx(-13.3 + 18.3 * float(r["t"]), abs=1e-5) and float(r["spread"]) < 1e-6
            assert float(r["least"]) <= float(r["mean"]) <= float(r["most"])
        series = {s for e in said if e["type"] == "scalars" for s in e["columns"]}
        assert {"time/diff", "time/gamma_mean", "time/gamma_spread", "device/busy", "device/memory_mib"} <= series
        assert 0 < scalars(folder, 2, "device/busy")[0][0] <= 40, "at what is done"
        if name == "mulan":
            usage = [float(r["mean"]) for r in rows_of(folder / "latent-usage.csv")]
            assert len(usage) == 50 and sum(usage) == pytest.approx(15, abs=1e-4)  # the top 15 of each image


ODE = {"method": "ode", "weights": "params", "n_images": 4, "ode": {"n_samples": 2, "rtol": 1e-2, "atol": 1e-2}}


def ode(folder, attempt, checkpoint, **ode_keys):
    a = assignment(folder, attempt, checkpoint, kind="evaluate")
    a["config"]["evaluation"] = {**ODE, "ode": {**ODE["ode"], **ode_keys}}
    return json.dumps(a)


def table(folder):
    with open(os.path.join(str(folder), "bpd-per-image.csv"), encoding="utf-8") as f:
        return list(csv.DictReader(f))


@LONG
def test_the_exact_likelihood(tmp_path):
    (tmp_path / "train").mkdir()
    assert work(tmp_path / "train", 1, optimizer__learning_rate=0.001).returncode == 0
    newest = checkpoints(tmp_path / "train", 1)[:1]
    results = {}
    for name, keys in (("plain", {}), ("published", {"constants": "published"}), ("uniform", {"dequantisation": "uniform"}),
                       ("batch", {"step_size": "batch", "fresh_probe": True, "probe": "gaussian"}), ("context", {"published_vdm_context": True})):
        (tmp_path / name).mkdir()
        assert run(text=ode(tmp_path / name, 1, newest, **keys)).returncode == 0
        results[name] = [e for e in events(tmp_path / name, 1) if e["type"] == "done"][0]["result"]
        r, rows = results[name], table(tmp_path / name)
        assert r["images"] == 4 and r["n_samples"] == 2 and r["method"] == "ode" and r["evaluations"]["mean"] > 6
        assert r["bpd"] == r["bpd_published" if name == "published" else "bpd_exact"]
        assert r["parts"]["latent"] + r["parts"]["flow"] == pytest.approx(r["bpd"], abs=1e-9)
        assert len(rows) == 4 and statistics.mean(float(x["bpd"]) for x in rows) == pytest.approx(r["bpd_exact"], abs=1e-7)
        assert statistics.stdev(float(x["bpd"]) for x in rows) / 4 ** 0.5 == pytest.approx(r["standard_error"], abs=1e-7)
    plain, published = results["plain"], results["published"]
    assert plain["bpd_exact"] == published["bpd_exact"] and plain["bpd"] != published["bpd"]
    assert plain["bpd_published"] - plain["bpd_exact"] == pytest.approx(math.log2(0.99730020393673979 / 0.9974613), abs=1e-9)
    assert abs(results["uniform"]["bpd"] - plain["bpd"]) > 1e-3 and results["batch"]["bpd"] != plain["bpd"]
    assert results["context"]["bpd"] != plain["bpd"]


@pytest.fixture(scope="module", name="interrupted")
def fixture_interrupted(tmp_path_factory):
    """A checkpoint, its exact likelihood's table, and the folder of an evaluation that was stopped on its way."""
    train, whole, killed = (tmp_path_factory.mktemp(name) for name in ("train", "whole", "killed"))
    assert work(train, 1).returncode == 0
    newest = checkpoints(train, 1)[:1]
    assert run(text=ode(whole, 1, newest)).returncode == 0
    spool = killed / "attempt-1.events"
    with subprocess.Popen([WORKER], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
        p.stdin.write(ode(killed, 1, newest).encode())
        p.stdin.close()
        while p.poll() is None and not (spool.exists() and any(b'"progress"' in line and b'"step":0,' not in line for line in spool.read_bytes().split(b"\n"))):
            time.sleep(0.02)
        p.send_signal(signal.SIGTERM)  # a stop keeps what is done, as every ten seconds do
        p.wait(60)
    assert events(killed, 1)[-1]["type"] == "stopped" and (killed / "ode-results.bin").exists()
    return newest, table(whole), killed


@pytest.mark.parametrize("damage", [None, pytest.param("cut", marks=LONG), pytest.param("other data", marks=LONG), "garbage"])
def test_the_exact_likelihood_goes_on_after_a_kill(tmp_path, interrupted, damage):
    newest, whole, killed = interrupted
    data = bytearray((killed / "ode-results.bin").read_bytes())
    if damage == "cut":
        data = data[:-8]
    elif damage == "other data":
        data[16 + 2 * 33] ^= 1
    elif damage == "garbage":
        data[-40:] = b"\xff" * 40
    (tmp_path / "ode-results.bin").write_bytes(data)
    r = run(text=ode(tmp_path, 2, newest))
    assert r.returncode == 0
    assert (b"begins anew" in r.stderr) == (damage in ("cut", "other data"))
    assert (b"were done before" in r.stderr) == (damage in (None, "garbage"))
    for mine, theirs in zip(table(tmp_path), whole):
        assert float(mine["bpd"]) == pytest.approx(float(theirs["bpd"]), abs=1e-3)


@pytest.mark.parametrize("method", ["ancestral", "ode"])
def test_samples_are_a_grid_an_array_and_a_film(tmp_path, method):
    assert work(tmp_path, 1).returncode == 0
    keys = {"sampling__method": method, "sampling__n_images": 3, "sampling__film_frames": 4, "sampling__latent": "images", "sampling__n_steps": 6,
            "sampling__rtol": 1e-2, "sampling__atol": 1e-2}
    r = work(tmp_path, 2, checkpoints(tmp_path, 1)[:1], kind="sample", **keys)
    assert r.returncode == 0, r.stderr
    said = events(tmp_path, 2)
    result = said[-1]["result"]
    assert result["method"] == method and result["images"] == 3 and result["dataset"] == "photos32" and ("n_steps" in result) == (method == "ancestral")
    names = {e["name"] for e in said if e["type"] == "artifact"}
    assert names == {"samples-step-6.png", "samples-step-6.npy", "film-step-6.png"}
    assert scalars(tmp_path, 2, "device/busy")
    images = numpy.load(tmp_path / "samples-step-6.npy")
    grid, film = (png_pixels(tmp_path / f"{name}-step-6.png") for name in ("samples", "film"))
    assert images.shape == (3, 32, 32, 3) and images.dtype == numpy.uint8
    for i in range(3):
        top, left = 34 * (i // 2), 34 * (i % 2)
        assert (grid[top:top + 32, left:left + 32] == images[i]).all()
    # of the first batch's two samples, the last frame being the sample
    assert film.shape[0] == 66 and (film[-32:, -32:] == images[1]).all() and (film[-32:, :32] != images[1]).any()
    r = work(tmp_path, 3, checkpoints(tmp_path, 1)[:1], kind="sample", sampling__latent="images", sampling__n_images=4000)
    assert r.returncode == 1 and b"1228 images" in r.stderr
