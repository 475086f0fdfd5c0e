"""mulun-worker on several devices: what it leaves is what one leaves, and when a rank ends badly all end."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

from attempts import WORKER, assignment, checkpoints, events, run, scalars

MPI = os.environ.get("MULUN_MPI", "")
EMULATED = os.environ.get("MULUN_EMULATED", "")
TWO = {"training__batch_size_train": 4, "machine__devices": 2}
started = []  # processes


@pytest.fixture(autouse=True)
def backend(request, tmp_path, monkeypatch):
    """A folder of modules: MPI's, and as back end "cuda" the emulated device; skips where that is not built."""
    kind = getattr(request, "param", "cpu")
    modules = tmp_path / "modules"
    modules.mkdir()
    for path, name in ((MPI, "libmulun-mpi.so"), (EMULATED, "libmulun-cuda.so")):
        if os.path.exists(path):
            os.symlink(path, modules / name)
    if not os.path.exists({"cpu": MPI, "cuda": EMULATED}[kind]):
        pytest.skip("its module is not built")
    monkeypatch.setenv("MULUN_MODULES", str(modules))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    yield kind
    while started:  # of a test that failed, ranks are left, each in a session of its own
        p = started.pop()
        for pid in [*ranks_of(p).values(), *([p.pid] if p.poll() is None else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        p.wait()


# The emulated device takes minutes for what the processor does in seconds.
both = pytest.mark.parametrize("backend", ["cpu", "cuda"], indirect=True)


def folder(tmp_path, name):
    made = tmp_path / name
    made.mkdir()
    return made


def text(where, backend, attempt=1, saved=(), devices=None, kind="train", **config):
    a = assignment(where, attempt, saved, kind, **{"machine__backend": backend, **config})
    return json.dumps({**a, "devices": devices} if devices else a)


def outcome(where, attempt=1):
    return events(where, attempt)[-1]


def start(where, *args, **kwargs):
    p = subprocess.Popen([WORKER], stdin=subprocess.PIPE, stderr=open(where / "log", "ab"), start_new_session=True)
    started.append(p)
    p.stdin.write(text(where, *args, **kwargs).encode())
    p.stdin.close()
    return p


def ranks_of(p):
    """The pids of a launcher's ranks."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().decode().split("\0")
        except OSError:
            continue
        if words[1:3] == ["--rank", str(p.pid)]:
            found[int(words[3])] = int(pid)
    return found


def wait_for(what, seconds=120):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def trained(where):
    path = where / "attempt-1.events"
    return path.exists() and b"train/bpd" in path.read_bytes()


def test_a_training_is_that_of_one_device(tmp_path, backend):
    one, two = folder(tmp_path, "one"), folder(tmp_path, "two")
    for where, ranks in ((one, 1), (two, 2)):
        r = run(text=text(where, backend, **{**TWO, "machine__devices": ranks, "training__n_micro_batches": 3 - ranks}), seconds=300)
        assert r.returncode == 0, r.stderr.decode()[-2000:]
    kinds = [[e["type"] for e in events(where, 1) if e["type"] not in ("progress", "scalars")] for where in (one, two)]
    assert kinds[0] == kinds[1]
    for name in ("train/bpd", "eval/bpd"):
        a, b = scalars(one, 1, name), scalars(two, 1, name)
        assert [s for s, _ in a] == [s for s, _ in b]
        assert [v for _, v in b] == pytest.approx([v for _, v in a], rel=1e-5)
    assert outcome(two)["result"]["bpd"] == pytest.approx(outcome(one)["result"]["bpd"], rel=1e-5)


@both
def test_the_number_may_be_asked_for_by_hand(tmp_path, backend):
    r = run("--ranks", "2", text=text(tmp_path, backend, training__num_steps_train=1, training__num_steps_eval=0, sampling__n_images=1, sampling__n_steps=1), seconds=300)
    assert r.returncode == 0 and outcome(tmp_path)["type"] == "done", r.stderr.decode()[-2000:]


def test_a_run_goes_on_with_another_number_of_devices(tmp_path, backend):
    r = run(text=text(tmp_path, backend, training__num_steps_train=2, **TWO), seconds=300)
    assert r.returncode == 0, r.stderr.decode()[-2000:]
    for attempt, devices, steps in ((2, 1, 4), (3, 4, 6)):
        saved = checkpoints(tmp_path, attempt - 1)
        r = run(text=text(tmp_path, backend, attempt, saved, training__num_steps_train=steps, training__batch_size_train=4,
                          machine__devices=devices), seconds=300)
        assert r.returncode == 0, r.stderr.decode()[-2000:]
        assert events(tmp_path, attempt)[0]["step"] == steps - 2 and outcome(tmp_path, attempt)["result"]["step"] == steps


@both
def test_a_rank_that_dies_ends_all_and_is_named(tmp_path, backend):
    devices = [{"name": "left", "place": "0"}, {"name": "right", "place": "0"}]
    p = start(tmp_path, backend, devices=devices, training__num_steps_train=100000, training__steps_per_logging=1,
              training__steps_per_eval=100000, training__steps_per_save=100000, **TWO)
    wait_for(lambda: trained(tmp_path))
    ranks = ranks_of(p)
    os.kill(ranks[1], signal.SIGKILL)
    assert p.wait(30) == 1
    last = outcome(tmp_path)
    assert last["type"] == "error" and last["class"] == "host"
    assert last["detail"].startswith("rank 1 of 2 (right): ") and "without a word" in last["detail"]
    assert not ranks_of(p)


def test_a_reason_of_a_rank_is_the_attempts(tmp_path, backend):
    """The second rank's cores, or device, are not there."""
    devices = [{"name": "left", "place": "0"}, {"name": "right", "place": "1023"}]
    r = run(text=text(tmp_path, backend, devices=devices, **TWO))
    assert r.returncode == 1
    assert outcome(tmp_path)["detail"].startswith("rank 1 of 2 (right): /devices: the cores 1023 cannot be used")


@both
def test_the_first_ranks_own_reason_wins(tmp_path, backend):
    r = run(text=text(tmp_path, backend, training__n_micro_batches=3, **TWO))
    last = outcome(tmp_path)
    assert r.returncode == 1 and last["class"] == "configuration" and last["detail"].startswith("/training/n_micro_batches")
    assert len([e for e in events(tmp_path, 1) if e["type"] == "error"]) == 1


def test_a_stop_is_the_first_ranks_to_honour(tmp_path, backend):
    p = start(tmp_path, backend, training__num_steps_train=100000, training__steps_per_logging=1, training__steps_per_eval=100000,
              training__steps_per_save=100000, **TWO)
    wait_for(lambda: trained(tmp_path))
    p.terminate()
    assert p.wait(60) == 0
    said = events(tmp_path, 1)
    assert said[-1]["type"] == "stopped" and said[-1]["step"] == checkpoints(tmp_path, 1)[0]["step"] > 0


@both
def test_a_launcher_that_is_killed_leaves_no_rank(tmp_path, backend):
    p = start(tmp_path, backend, training__num_steps_train=100000, training__steps_per_logging=1, training__steps_per_eval=100000,
              training__steps_per_save=100000, **TWO)
    wait_for(lambda: trained(tmp_path))
    assert sorted(ranks_of(p)) == [0, 1]
    p.kill()
    p.wait()
    wait_for(lambda: not ranks_of(p), 10)


@pytest.mark.parametrize("method", ["sparse", "dense", "ode"])
def test_an_evaluation_is_that_of_one_device(tmp_path, backend, method):
    trained = folder(tmp_path, "trained")
    r = run(text=text(trained, backend, training__num_steps_train=2, training__num_steps_eval=0), seconds=900)
    assert r.returncode == 0, r.stderr.decode()[-2000:]
    where = {n: folder(tmp_path, f"on-{n}") for n in (1, 2)}
    for n in where:
        a = json.loads(text(where[n], backend, 1, checkpoints(trained, 1), kind="evaluate", machine__devices=n, evaluation__method=method,
                            evaluation__n_images=5, evaluation__n_timesteps=3, training__batch_size_train=4,
                            evaluation__ode={"n_samples": 1, "rtol": 0.1, "atol": 0.1}))
        r = run(text=json.dumps(a), seconds=900)
        assert r.returncode == 0, r.stderr.decode()[-2000:]
    results = [{k: v for k, v in outcome(w)["result"].items() if k != "seconds"} for w in where.values()]
    assert results[0] == results[1]
    tables = sorted(p.name for p in where[1].glob("*.csv"))
    assert len(tables) >= 3 and tables == sorted(p.name for p in where[2].glob("*.csv"))
    for name in [*tables, *(p.name for p in where[1].glob("*.png"))]:
        assert (where[1] / name).read_bytes() == (where[2] / name).read_bytes()


def children_of(pid):
    found = []
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{other}/stat") as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(other))
        except OSError:
            pass
    return found


def test_who_asks_all_of_them_to_end_gets_a_checkpoint(tmp_path):
    """A service manager that ends a whole control group: mpirun alone would kill ranks that are in a step a second later."""
    p = start(tmp_path, "cpu", devices=None, machine__devices=2, training__batch_size_train=8, model__sm_n_embd=96, model__sm_n_layer=6,
              training__num_steps_train=1000, training__steps_per_logging=50, training__steps_per_save=1000, training__steps_per_eval=1000)
    wait_for(lambda: any(e["type"] == "progress" for e in events(tmp_path, 1)))
    for pid in [*children_of(p.pid), p.pid, *ranks_of(p).values()]:
        os.kill(pid, signal.SIGTERM)
    assert p.wait(240) == 0
    last = outcome(tmp_path)
    assert last["type"] == "stopped" and checkpoints(tmp_path, 1)[0]["step"] == last["step"], last
