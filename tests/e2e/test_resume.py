"""What is killed goes on as if nothing had been: metrics and weights, bit for bit."""

import json

import pytest

from harness import Daemon, config, wait

STEPS = 60


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    d = Daemon(tmp_path_factory.mktemp("undisturbed")).start()
    try:
        n = d.train(config(num_steps_train=STEPS))
        d.wait_state(n, "succeeded")
        metrics = d.metrics(n)
        assert [s for s, _ in metrics["train/bpd"]] == list(range(STEPS)) and [s for s, _ in metrics["eval/bpd"]] == [20, 40, 60]
        yield metrics, d.checkpoints(n)
    finally:
        d.stop()


def same(d, n, undisturbed):
    metrics, checkpoints = undisturbed
    assert STEPS in checkpoints
    ours = d.metrics(n)
    assert sorted(ours) == sorted(metrics)
    for name, points in metrics.items():
        assert ours[name] == points, name
    assert d.checkpoints(n)[STEPS] == checkpoints[STEPS]


def past(d, n, step):
    return wait(lambda: d.step(n) >= step or d.job(n)["state"] == "succeeded")


@pytest.mark.parametrize("at", [3, 15, 35])
def test_a_killed_worker_resumes_bit_for_bit(daemon, undisturbed, at):
    daemon.start()
    n = daemon.train(config(num_steps_train=STEPS))
    past(daemon, n, at)
    assert daemon.kill_workers()
    daemon.wait_state(n, "succeeded")
    assert daemon.job(n)["attempts"] == 2
    same(daemon, n, undisturbed)


def test_a_pause_is_no_break(daemon, undisturbed):
    daemon.start()
    n = daemon.train(config(num_steps_train=STEPS))
    for step in (4, 30):
        past(daemon, n, step)
        daemon.post(f"jobs/{n}/pause", expect=200)
        daemon.wait_state(n, "paused")
        assert daemon.workers() == [] or wait(lambda: daemon.workers() == [])
        daemon.post(f"jobs/{n}/resume", expect=200)
    daemon.wait_state(n, "succeeded")
    assert [a["stop"] for a in daemon.get(f"jobs/{n}/attempts")["attempts"]] == ["pause", "pause", None]
    same(daemon, n, undisturbed)


def test_a_killed_daemon_finds_its_worker_again(daemon, undisturbed):
    daemon.start()
    n = daemon.train(config(num_steps_train=STEPS))
    past(daemon, n, 12)
    before = daemon.workers()
    daemon.kill()
    daemon.start()
    assert daemon.job(n)["state"] in ("running", "succeeded")
    daemon.wait_state(n, "succeeded")
    assert len(before) == 1 and daemon.job(n)["attempts"] == 1
    same(daemon, n, undisturbed)


def test_both_killed_resume_bit_for_bit(daemon, undisturbed):
    daemon.start()
    n = daemon.train(config(num_steps_train=STEPS))
    past(daemon, n, 25)
    daemon.kill()
    assert daemon.kill_workers()
    daemon.start()
    daemon.wait_state(n, "succeeded")
    same(daemon, n, undisturbed)


def test_a_worker_killed_while_the_daemon_is_gone(daemon, undisturbed):
    daemon.start()
    n = daemon.train(config(num_steps_train=STEPS))
    past(daemon, n, 5)
    daemon.kill()
    # it goes on alone, into its spool, and dies
    wait(lambda: not daemon.workers() or spooled_step(daemon, n) >= 22)
    daemon.kill_workers()
    daemon.start()
    daemon.wait_state(n, "succeeded")
    same(daemon, n, undisturbed)


def spooled_step(d, n):
    """The last step that the worker wrote down."""
    import glob
    import os
    last = 0
    for path in glob.glob(os.path.join(d.state, "jobs", str(n), "attempt-*.events")):
        with open(path, "rb") as f:
            for line in f:
                try:
                    e = json.loads(line)
                except ValueError:
                    continue
                if e.get("type") == "progress":
                    last = max(last, e["step"])
    return last


def test_killed_again_and_again(daemon, undisturbed):
    daemon.start()
    n = daemon.train(config(num_steps_train=STEPS))
    for step in (11, 21, 31, 41, 51):
        past(daemon, n, step)
        if daemon.job(n)["state"] == "succeeded":
            break
        if step % 20 == 1:
            daemon.kill()
            daemon.kill_workers()
            daemon.start()
        else:
            daemon.kill_workers()
    daemon.wait_state(n, "succeeded")
    same(daemon, n, undisturbed)


def test_the_same_seed_gives_the_same_numbers_twice(daemon, undisturbed):
    daemon.start()
    n = daemon.train(config(num_steps_train=STEPS))
    daemon.wait_state(n, "succeeded")
    same(daemon, n, undisturbed)


def test_sigterm_leaves_the_worker_and_the_next_daemon_finds_it(daemon, undisturbed):
    daemon.start()
    n = daemon.train(config(num_steps_train=STEPS))
    past(daemon, n, 5)
    before = daemon.workers()
    daemon.terminate()
    assert before and (daemon.workers() == before or spooled_step(daemon, n) >= STEPS - 1)
    daemon.start()
    daemon.wait_state(n, "succeeded")
    assert daemon.job(n)["attempts"] == 1
    same(daemon, n, undisturbed)


def test_cancelled_and_resumed_is_the_same_run(daemon, undisturbed):
    daemon.start()
    n = daemon.train(config(num_steps_train=STEPS))
    past(daemon, n, 15)
    daemon.post(f"jobs/{n}/cancel")
    j = daemon.wait_state(n, "cancelled", "succeeded")
    if j["state"] == "cancelled":
        assert max(daemon.checkpoints(n)) >= 10
        daemon.post(f"jobs/{n}/resume")
    daemon.wait_state(n, "succeeded")
    same(daemon, n, undisturbed)


def test_a_finished_run_goes_on_with_more_steps(daemon):
    daemon.start()
    n = daemon.train(config(num_steps_train=20))
    daemon.wait_state(n, "succeeded")
    daemon.post(f"jobs/{n}/resume", {"steps": 30})
    wait(lambda: daemon.job(n)["state"] == "succeeded" and daemon.step(n) == 30)
    assert 30 in daemon.checkpoints(n)
    names = {name: [s for s, _ in points] for name, points in daemon.metrics(n).items()}
    assert names["train/bpd"] == list(range(30)) and names["eval/bpd"] == [20, 30]
