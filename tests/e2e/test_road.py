"""Train, evaluate, sample over the API, as quickstart does."""

import os
import struct

import pytest
import requests

from harness import computed_bpd, config


def test_train_evaluate_sample(daemon):
    daemon.start()
    n = daemon.train(config(num_steps_train=20))
    trained = daemon.wait_state(n, "succeeded")
    assert trained["progress"]["step"] == 20
    points = daemon.metrics(n)
    assert [s for s, _ in points["train/bpd"]] == list(range(20)) and [s for s, _ in points["eval/bpd"]] == [20]
    rates = [1e-3 * min(step / 5, 1) for step in range(20)]
    assert [v for _, v in points["train/learning_rate"]] == pytest.approx(rates, rel=1e-6)
    assert sorted(daemon.checkpoints(n)) == [10, 20]

    e = daemon.post("jobs", {"kind": "evaluate", "checkpoint": {"job": n, "which": "latest"}, "method": "sparse", "split": "test",
                             "weights": "ema", "overrides": {"evaluation.n_images": 32}}, 201)["id"]
    s = daemon.post("jobs", {"kind": "sample", "checkpoint": {"job": n, "which": "latest"}, "n_images": 4, "n_steps": 4, "seed": 1}, 201)["id"]
    r = daemon.wait_state(e, "succeeded")["result"]
    assert r["images"] == 32 and r["step"] == 20 and r["weights"] == "ema" and r["method"] == "sparse" and r["split"] == "test"
    # the number, from the checkpoint, computed by other code; 1e-5: see tests/whole/test_evaluation.py
    table = computed_bpd(os.path.join(daemon.state, "jobs", str(n), "step-20.safetensors"), 32, 32)
    means = table.mean(0)
    assert [r["bpd"], *(r["parts"][k] for k in ("recon", "latent", "diff"))] == pytest.approx(list(means), abs=1e-5 * means[0])
    assert r["standard_error"] == pytest.approx(table[:, 0].std(ddof=1) / 32**0.5, rel=1e-4)
    eight = computed_bpd(os.path.join(daemon.state, "jobs", str(n), "step-20.safetensors"), 8, 8)
    assert points["eval/bpd"] == [(20, pytest.approx(eight[:, 0].mean(), rel=1e-5))] and trained["result"]["bpd"] == pytest.approx(eight[:, 0].mean(), rel=1e-5)
    tables = {a["name"] for a in daemon.get(f"jobs/{e}/artifacts")["artifacts"] if a["kind"] == "table"}
    assert tables == {"bpd-per-image.csv", "bpd-ranked.csv", "diff-over-time.csv", "gamma-over-time.csv"}

    daemon.wait_state(s, "succeeded")
    images = [a for a in daemon.get(f"jobs/{s}/artifacts")["artifacts"] if a["kind"] == "image"]
    assert len(images) == 1
    png = requests.get(f"{daemon.url}/v1/artifacts/{images[0]['id']}", timeout=120).content
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) == images[0]["bytes"]
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == (66, 66)  # two by two, 2 pixels between them


def test_plans_are_measured_once_and_kept(daemon):
    daemon.start()
    file = os.path.join(daemon.state, "plans", "plans")
    c = config(num_steps_train=2, num_steps_eval=0)
    c["model"]["sm_n_embd"] = 64
    daemon.wait_state(daemon.train(c), "succeeded")
    assert not os.path.exists(file)  # by the rule, as the harness asks for

    c["machine"]["plans"] = "measured"
    n = daemon.train(c)
    daemon.wait_state(n, "succeeded")
    with open(file, encoding="ascii") as f:
        kept = f.read()
    assert kept.startswith("mulund plans ") and kept.count("\n") > 3 and "conv" in kept
    again = daemon.train(c)
    daemon.wait_state(again, "succeeded")
    with open(file, encoding="ascii") as f:
        assert f.read() == kept
    assert daemon.metrics(n)["train/bpd"] == daemon.metrics(again)["train/bpd"]

    os.rename(os.path.join(daemon.state, "plans"), os.path.join(daemon.state, "elsewhere"))
    n = daemon.train(c)
    daemon.wait_state(n, "succeeded")
    assert "plans are chosen by the rule" in daemon.job_log(n)


def test_every_template_is_taken_or_refused_for_its_data_alone(daemon):
    daemon.start()
    from harness import ROOT
    names = sorted(f[:-5] for f in os.listdir(os.path.join(ROOT, "configs")) if f.endswith(".json"))
    assert "photos32-tiny" in names and "cifar10-conditioned" in names
    for name in names:
        overrides = {"data.dataset": "photos32", "training.batch_size_train": 2, "training.batch_size_eval": 2}
        # what is wrong besides is named too, so only this one error shows that the rest is right
        r = requests.post(f"{daemon.url}/v1/jobs", json={"kind": "train", "config": name, "overrides": {**overrides, "model.sm_n_embd": 33}}, timeout=120)
        assert r.status_code == 422, f"{name}: {r.status_code} {r.text}"
        pointers = [e["pointer"] for e in r.json()["errors"]]
        assert len(pointers) == 1 and pointers[0].endswith("sm_n_embd"), f"{name}: {r.text}"


def test_the_curl_of_the_readme_works(daemon):
    import re
    import subprocess
    from harness import ROOT, wait
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        commands = re.findall(r"^    (curl (?:.*\\\n)*.*)$", f.read(), re.M)[:1]
    assert commands
    daemon.start()
    for c in commands:
        c = c.replace("http://127.0.0.1:8700", daemon.url)
        r = subprocess.run(["bash", "-c", c], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        assert r.returncode == 0 and '"problems/' not in r.stdout, f"{c}\n{r.stdout}{r.stderr}"
    n = daemon.get("jobs")["jobs"][0]["id"]
    daemon.post(f"jobs/{n}/cancel")
    wait(lambda: daemon.job(n)["state"] == "cancelled", 60)
