"""Real runs killed at random moments, the worker, the daemon or both, until they have ended: each must be bit for bit the
run that nobody touched. MULUND_SOAK_RUNS (20) runs, some ten kills each."""

import os
import random
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))

import harness  # noqa: E402
from test_resume import STEPS, same, undisturbed  # noqa: E402, F401  (a fixture)


@pytest.fixture
def daemon(tmp_path):
    d = harness.Daemon(tmp_path)
    yield d
    d.stop()


@pytest.mark.parametrize("seed", range(int(os.environ.get("MULUND_SOAK_RUNS", "20"))))
def test_killed_at_random(daemon, undisturbed, seed):  # noqa: F811
    chance = random.Random(seed)
    daemon.start()
    n = daemon.train(harness.config(num_steps_train=STEPS))
    for _ in range(10):
        time.sleep(chance.uniform(0.5, 4))
        which = chance.choice(("worker", "daemon", "both"))
        if which != "worker":
            daemon.kill()
        if which != "daemon":
            daemon.kill_workers()
        if which != "worker":
            daemon.start()
        if daemon.job(n)["state"] in harness.FINAL:
            break
    job = daemon.wait_state(n, "succeeded", "failed")
    if job["state"] == "failed":
        assert job["error"]["class"] == "lost"  # three times in a row before a checkpoint: as promised
        return
    same(daemon, n, undisturbed)
