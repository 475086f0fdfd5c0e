"""The road from a POST to a curve in a real Chromium."""

import json
import os
import re
import shutil
import subprocess

import pytest

from harness import BUILD, ROOT, config

HERE = os.path.dirname(os.path.abspath(__file__))


def test_a_submitted_run_is_seen_in_chromium_as_it_trains(daemon):
    playwright = os.path.join(BUILD, "tests", "web", "npm")
    if not os.path.exists("/usr/bin/chromium"):
        pytest.skip("chromium is not installed")
    if not os.path.isdir(os.path.join(playwright, "node_modules", "playwright-core")):
        pytest.skip("playwright-core could not be installed from npm")
    out = os.path.join(BUILD, "tests", "e2e", "screenshots")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    daemon.start()
    n = daemon.train(config(num_steps_train=400, steps_per_eval=50, steps_per_save=100), name="<b>seen</b>")
    r = subprocess.run(["node", os.path.join(HERE, "browser.mjs"), playwright, daemon.url, str(n), out], capture_output=True, text=True,
                       timeout=1100, check=False, stdin=subprocess.DEVNULL)
    assert r.returncode == 0, f"{r.stdout}{r.stderr}\n{daemon.job(n)}\n{daemon.job_log(n)}"
    seen = json.loads(r.stdout.splitlines()[-1])
    assert seen["runs"] == ["<b>seen</b>"]
    assert len(set(seen["legends"])) == 3 and seen["legends"][0].startswith("train/bpd")
    assert seen["ink"] > 1000
    assert seen["sample"] == [66, 66]  # two by two, 2 pixels between them
    assert seen["log"] > 0 and seen["files"] >= 2
    assert seen["complaints"] == []
    first, *later = seen["views"]
    whole = int(seen["legends"][1].rsplit(" ", 1)[1].replace(",", ""))  # it grew until the key was pressed
    assert first[1] - first[0] > 0 and later[0] == later[1] and later[0][1] - later[0][0] < 0.6 * whole, seen["views"]
    assert seen["focus"] == "Cancel"
    assert seen["pictures"] == 4 and seen["again"] == ["true", "0", "epochs"] and seen["beside"] <= 0, seen
    until = re.search(r"Epochs 0 to ([\d.]+)\.", seen["epochs"])
    train = next(d["train"] for d in daemon.get("datasets")["datasets"] if d["name"] == "photos32")
    assert until and float(until.group(1)) == pytest.approx(400 * 4 / train, abs=0.01), seen["epochs"]
    assert seen["stats"] == ["Images3 of 3, of 5 steps each", "Images1 of 1"]
    assert re.fullmatch(r"\d+\.\d{3}", seen["result"])
    assert re.match(r"Bits per dimension of 1 image: from (\d+\.\d\d) to \1, median \1$", seen["bits"])
    assert re.match(r"Diffusion term over time\. Diffusion times 0\S* to ", seen["overTime"]), seen["overTime"]
    assert [p.split(",")[0] for p in seen["captions"]] == ["The images with the fewest bits", "The images with the most bits"]
    assert seen["made"] == ["evaluate", "sample"]
    # test and training apart: the evaluation, the samples, the training with both
    assert [bool(re.fullmatch(r"\d+\.\d{3}( ± [\d.]+)?(best \d+\.\d{3})?", x)) for x in seen["bpd"]] == [True, False, False, False, True, True], seen["bpd"]
    # a sheet and scripts that the page itself names, compressed; the second time only the page is asked about
    cold, warm = seen["loads"]
    assert {f["path"].rsplit("-", 1)[0] for f in cold} <= {"/", "/icon.svg", *(f"/assets/{name}" for name in ("first", "style", "app", "chunk", "others"))}, cold
    assert sum(f["bytes"] for f in cold) < 100 * 1024, cold
    assert {f["path"] for f in warm if f["bytes"]} <= {"/", "/icon.svg"}, warm
    assert sum(f["bytes"] for f in warm) < 2000, warm
    with open(os.path.join(ROOT, "web", "README.md"), encoding="utf-8") as f:
        assert f"`{seen['policy']}`" in f.read()
    for name in ("runs.png", "job-running.png", "job-done.png"):
        assert os.path.getsize(os.path.join(out, name)) > 10000
