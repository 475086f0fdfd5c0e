"""The first command of the README, with a small network: it ends with a number, runs again, and its daemon can be stopped
as it says."""

import json
import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import time

import pytest
import requests

from harness import BUILD, ROOT, Daemon, computed_bpd, free_port

OVERRIDES = {"training.num_steps_train": 20, "training.num_steps_lr_warmup": 5, "training.num_steps_eval": 1, "training.batch_size_train": 4,
             "model.sm_n_embd": 32, "machine.threads": 1, "training.steps_per_eval": 10, "training.steps_per_save": 10}


@pytest.fixture
def env(tmp_path):
    if os.path.realpath(BUILD) != os.path.join(ROOT, "build"):
        pytest.skip("quickstart builds in build/, and this is another build folder")
    e = dict(os.environ, MULUND_STATE=str(tmp_path / "state"), MULUND_PORT=str(free_port()), MULUND_CONFIG="photos32-vdm-tiny",
             MULUND_OVERRIDES=json.dumps(OVERRIDES))
    yield e
    try:
        pid = int((tmp_path / "state" / "quickstart.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pass
    Daemon(tmp_path).kill_workers()


def quickstart(env, *arguments):
    return subprocess.run([os.path.join(ROOT, "quickstart"), *arguments], env=env, capture_output=True, text=True, timeout=1100, check=False,
                          stdin=subprocess.DEVNULL)


def check_number(state, jobs, bpd, error):
    """What was said is the mean of the table, and the table's first rows are those of a computation by other code."""
    by_kind = {kind: next(j["id"] for j in jobs if j["kind"] == kind) for kind in ("train", "evaluate")}
    with open(os.path.join(state, "jobs", str(by_kind["evaluate"]), "bpd-per-image.csv"), encoding="ascii") as f:
        rows = [[float(x) for x in line.split(",")[1:]] for line in f.read().splitlines()[1:]]
    all_bpd = [r[0] for r in rows]
    assert len(rows) == 1228 and abs(statistics.fmean(all_bpd) - bpd) <= 0.0051
    assert abs(statistics.stdev(all_bpd) / len(rows)**0.5 - error) <= 0.0051
    expected = computed_bpd(os.path.join(state, "jobs", str(by_kind["train"]), "step-20.safetensors"), 8, len(rows))
    for row, computed in zip(rows, expected.tolist()):
        assert row == pytest.approx(computed, abs=1e-5 * computed[0])


def test_quickstart_ends_with_a_number_and_runs_again(env):
    r = quickstart(env)
    assert r.returncode == 0, r.stdout + r.stderr
    said = re.search(r"> this model after 20 steps, EMA +([\d.]+) ± ([\d.]+)", r.stdout)
    assert said, r.stdout
    assert "PNG, all in one strip" in r.stdout and "JPEG XL" in r.stdout
    address = re.search(r"Dashboard: +(\S+)", r.stdout)[1]
    assert requests.get(address, timeout=60).status_code == 200
    png = re.search(r"Samples: +(\S+)\n +(\S+)", r.stdout)
    sent = requests.get(png[1], timeout=60).content
    assert sent[:4] == b"\x89PNG" and struct.unpack(">II", sent[16:24]) == (134, 134)  # four by four
    with open(png[2], "rb") as f:
        assert f.read() == sent
    check_number(env["MULUND_STATE"], requests.get(f"{address}v1/jobs", timeout=60).json()["jobs"], float(said[1]), float(said[2]))

    # what was computed is computed; that all of it runs once more is seen with a few images
    again = quickstart({**env, "MULUND_OVERRIDES": json.dumps({**OVERRIDES, "evaluation.n_images": 16})})
    assert again.returncode == 0 and "runs already" in again.stdout, again.stdout + again.stderr
    assert len(requests.get(f"{address}v1/jobs", timeout=60).json()["jobs"]) == 6

    stop = re.search(r"Stop it: +(.*?stop)", again.stdout)[1]
    assert subprocess.run(["bash", "-c", stop], cwd=ROOT, check=False, timeout=90).returncode == 0
    end = time.monotonic() + 70
    while time.monotonic() < end:
        try:
            requests.get(address, timeout=5)
        except requests.ConnectionError:
            return
        time.sleep(0.2)
    raise AssertionError("it still answers")


def test_a_port_in_use_is_told_and_another_taken(env):
    with socket.socket() as s:
        s.bind(("127.0.0.1", int(env["MULUND_PORT"])))
        s.listen()
        env["MULUND_OVERRIDES"] = '{"model.sm_n_embd": 33}'
        r = quickstart(env)
    assert f"Port {env['MULUND_PORT']} is in use by another program" in r.stdout
    assert r.returncode == 1 and "sm_n_embd" in r.stderr, r.stdout + r.stderr


def test_a_folder_without_images_is_refused(env, tmp_path):
    r = quickstart(env, str(tmp_path))
    assert r.returncode == 1 and "data_batch_" in r.stderr
    assert quickstart(env, "/nowhere").returncode == 1
