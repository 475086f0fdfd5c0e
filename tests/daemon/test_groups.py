"""As below the unit of systemd: a delegated control group, a restart while training, and what an attempt leaves behind."""
import os
import signal
import time

import pytest

from service import TRAIN, Service

MOUNTS = [m for m in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if os.path.exists(m + "/cgroup.procs")]
if os.geteuid() != 0 or not MOUNTS:
    pytest.skip("a control group of version 2 of our own needs root and a mount", allow_module_level=True)

SLOW = [["start"], ["train", 400, 0.01, 50], ["done", {"bpd": 3.5}]]


class Unit(Service):
    """Its daemon begins in a group of its own; delegated or not."""

    def __init__(self, delegated=True):
        super().__init__()
        self.group = f"{MOUNTS[0]}/mulund-test-{os.getpid()}"
        try:
            os.mkdir(self.group)
            if delegated:
                os.setxattr(self.group, "user.delegate", b"1")
        except OSError as e:
            super().close()
            pytest.skip(f"no control group: {e}")

    def start(self, *more, **how):
        return super().start(*more, prefix=("bash", "-c", f'echo $$ > {self.group}/cgroup.procs && exec "$@"', "unit"), **how)

    def groups(self):
        return sorted(name for name in os.listdir(self.group) if os.path.isdir(f"{self.group}/{name}"))

    def close(self):
        super().close()
        for name in [*(f"/{g}" for g in self.groups()), ""]:
            with open(f"{self.group}{name}/cgroup.kill", "w") as f:
                f.write("1")
            for _ in range(100):
                try:
                    os.rmdir(self.group + name)
                    break
                except OSError:
                    time.sleep(0.02)


@pytest.fixture
def unit(request):
    u = Unit(getattr(request, "param", True))
    yield u
    u.close()


def stray(unit, job):
    path = f"{unit.state}/jobs/{job}/stray"
    return int(unit.until(lambda: os.path.exists(path) and open(path).read()))


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def group_of(pid):
    with open(f"/proc/{pid}/cgroup") as f:
        return next(line.strip().split(":", 2)[2] for line in f if line.startswith("0::"))


def test_each_attempt_has_a_group_and_leaves_nothing(unit):
    unit.script([[["start"], ["stray"], ["train", 100, 0.01, 10], ["done"]]])
    unit.start()
    job = unit.submit(100)
    child = stray(unit, job)
    assert group_of(child).endswith("/attempt-1") and group_of(unit.worker_pids()[0]) == group_of(child)
    assert unit.wait(job, "succeeded") and unit.job(job)["attempts"] == 1
    unit.until(lambda: not runs(child))
    second = unit.submit(100, seed=2)  # an end sweeps what the end before could not remove yet
    unit.wait(second, "succeeded")
    unit.until(lambda: unit.groups() in ([], ["attempt-2"]))


def test_a_worker_that_hangs_is_ended_with_all_that_it_started(unit):
    unit.script([[["start"], ["stray"], ["hang"]]])
    unit.start()
    job = unit.submit(100)
    child = stray(unit, job)
    unit.post(f"/v1/jobs/{job}/cancel", expect=200)
    unit.wait(job, "cancelled")
    unit.until(lambda: not runs(child))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_while_training_loses_nothing_and_costs_no_step(unit, signum):
    """E1: `systemctl restart mulund`, whose KillMode=process ends the daemon's own process alone."""
    unit.script([SLOW])
    unit.start()
    job = unit.submit(400)
    unit.wait_step(job, 40)
    worker = unit.worker_pids()
    unit.kill(signum)
    unit.start()
    assert unit.worker_pids() == worker and unit.groups() == ["attempt-1"]
    done = unit.wait(job, "succeeded", seconds=30)
    assert done["attempts"] == 1
    assert unit.curve(job)["step"] == list(range(400))
    assert unit.curve(job)["points_total"] == 400


def test_what_a_worker_leaves_behind_while_no_daemon_runs_ends_with_the_next(unit):
    unit.script([[["start"], ["stray"], ["hang"]], TRAIN])
    unit.start()
    job = unit.submit(100)
    child = stray(unit, job)
    pids = unit.worker_pids()
    unit.kill()
    os.kill(pids[0], signal.SIGKILL)
    unit.start()
    unit.until(lambda: not runs(child))
    unit.wait(job, "succeeded")


@pytest.mark.parametrize("unit", [False], indirect=True)
def test_a_group_that_is_not_delegated_is_left_alone(unit):
    unit.script([[["start"], ["stray"], *TRAIN[1:]]])
    unit.start()
    job = unit.submit(100)
    child = stray(unit, job)
    assert group_of(child) == group_of(unit.process.pid) and unit.groups() == []
    unit.wait(job, "succeeded")
    os.kill(child, signal.SIGKILL)


def test_workers_are_not_spared_when_memory_is_short(unit):
    unit.script([SLOW])
    with open("/proc/self/oom_score_adj") as f:
        before = f.read().strip()
    try:
        with open("/proc/self/oom_score_adj", "w") as f:
            f.write("-500")
    except OSError:
        pytest.skip("oom_score_adj cannot be lowered here")
    try:
        unit.start()
        job = unit.submit(400)
        unit.wait_step(job, 2)
        with open(f"/proc/{unit.process.pid}/oom_score_adj") as a, open(f"/proc/{unit.worker_pids()[0]}/oom_score_adj") as b:
            assert a.read().strip() == "-500" and b.read().strip() == "0"
    finally:
        with open("/proc/self/oom_score_adj", "w") as f:
            f.write(before)
