"""What becomes of an attempt: it ends, dies, is adopted by the next daemon, is tidied."""
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest
import requests

from service import SLOW, TRAIN, WORKER, kept, rows, spooled, waits


def test_curve_arrives(service):
    service.script([[["start"], ["scalars", 0, 3000], ["checkpoint", 3000, 2.5], ["done", {"bpd": 3.5}]]])
    service.start()
    job = service.submit(3000, name="first", tags=["try"])
    j = service.wait(job, "succeeded")
    assert j["result"] == {"bpd": 3.5} and j["error"] is None and j["attempts"] == 1
    c = service.curve(job)
    assert c["step"] == list(range(3000)) and c["bucket_width"] == 1
    c = service.curve(job, points=1000)
    assert c["bucket_width"] == 4 and c["points_total"] == 3000 and c["max"][0] == 10.0
    series = service.get(f"/v1/jobs/{job}/series")["series"]
    assert series[0]["points"] == 3000 and series[0]["last_step"] == 2999 and series[0]["max"] == 10.0
    assert [a["name"] for a in service.artifacts(job)] == ["step-3000.safetensors"]
    assert not [f for f in os.listdir(f"{service.state}/jobs/{job}") if f.startswith("attempt-")] or service.until(
        lambda: not [f for f in os.listdir(f"{service.state}/jobs/{job}") if f.startswith("attempt-")])


def test_killed_worker_goes_on_from_its_last_checkpoint(service):
    service.script([[["start"], ["scalars", 0, 50], ["checkpoint", 50], ["scalars", 50, 70], ["flush"], ["log", "at 70"], ["crash"]],
                    [["start"], ["scalars", None, 100], ["done"]]])
    service.start()
    job = service.submit(100)
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 2
    assert service.curve(job)["step"] == list(range(100))
    assert "signal 9" in service.logged()


def test_a_worker_that_cannot_start_fails_no_job(service):
    """The host's trouble: it was 40 of 40 jobs in 1.2 seconds."""
    service.script([[["start"], ["done"]]])
    broken = service.root + "/worker"
    with open(broken, "w") as f:
        f.write(f"#!/bin/sh\n[ -e {service.root}/broken ] && [ $# = 0 ] && exit 127\nexec {WORKER} \"$@\"\n")
    os.chmod(broken, 0o755)
    open(service.root + "/broken", "w").close()
    service.start("--worker", broken)
    jobs = [service.submit() for _ in range(10)]
    service.until(lambda: sum(service.job(j)["attempts"] for j in jobs) >= 3)
    assert {service.job(j)["state"] for j in jobs} <= {"queued", "running"}
    assert "class host" in service.logged() and "exit code 127" in service.logged()
    begin = sum(service.job(j)["attempts"] for j in jobs)
    time.sleep(1)
    assert sum(service.job(j)["attempts"] for j in jobs) <= begin + 1, "the pauses grow"
    os.unlink(service.root + "/broken")
    for j in jobs:
        service.wait(j, "succeeded", seconds=30)


@pytest.mark.parametrize("break_it", [lambda path: os.chmod(path, 0o644), lambda path: (os.unlink(path), os.mkdir(path))], ids=["not executable", "a folder"])
def test_a_worker_that_is_no_program_is_said_and_fails_no_job(service, break_it):
    """From one job to the next, as an update that went wrong does it; what a submission asks of it is known by then."""
    service.script([[["start"], ["done"]]])
    program = service.root + "/worker"
    shutil.copy(WORKER, program)
    shutil.copy(WORKER + ".py", service.root)
    service.start("--worker", program)
    service.wait(service.submit(), "succeeded")
    break_it(program)
    job = service.submit()
    assert service.until(lambda: waits(service, job, "retry")) == f"the worker did not start: {program}: cannot be started: Permission denied"
    if os.path.isdir(program):
        os.rmdir(program)
    shutil.copy(WORKER, program)
    j = service.wait(job, "succeeded")
    assert j["error"] is None and service.get(f"/v1/jobs/{job}/attempts")["attempts"][0]["blame"] == "host"


def test_losses_are_never_charged_to_the_job_and_others_pass(service):
    service.script([[["start"], ["log", "no good\n"], ["exit", 3]]] * 4 + [TRAIN])
    service.script([TRAIN], of=2)
    service.start()
    lost = service.submit()
    other = service.submit(seed=2)
    why = service.until(lambda: waits(service, lost, "retry"))
    assert "exit code 3" in why and "no good" in why
    assert service.wait(other, "succeeded")["attempts"] == 1
    j = service.wait(lost, "succeeded", seconds=40)
    assert j["attempts"] == 5 and j["error"] is None and j["waiting"] is None
    assert "exit code 3" in service.logged() and "no good" in service.logged() and "class lost" in service.logged()


@pytest.mark.parametrize("kind", ["host", "device"])
def test_errors_of_the_host_are_retried(service, kind):
    service.script([[["start"], ["error", kind, "no space left on device", 3]], TRAIN])
    service.environment["MULUND_RETRY_MS"] = "1000"
    service.start()
    job = service.submit()
    assert service.until(lambda: waits(service, job, "retry")) == f"{kind}: no space left on device"
    service.kill()
    service.start()
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 2 and j["error"] is None
    assert f"class {kind}" in service.logged()


def test_checkpoints_let_a_lost_job_go_on_at_once(service):
    service.script([[["start"], ["scalars", None, 10 * i], ["checkpoint", 10 * i], ["flush"], ["crash"]] for i in range(1, 8)] + [TRAIN])
    service.environment["MULUND_RETRY_MS"] = "10000"
    service.start()
    j = service.wait(service.submit(), "succeeded")
    assert j["attempts"] == 8


def test_a_checkpoint_that_crashed_two_starts_stands_behind_the_one_before(service):
    """E5. What ends it from outside says nothing of its checkpoint, nor a crash after a step; a good one comes first however old."""
    service.environment["MULUND_RETRY_MS"] = "20"
    crash = [["start"], ["flush"], ["crash", 11]]
    service.script([[["start"], ["scalars", 0, 10], ["checkpoint", 10], ["scalars", 10, 20], ["checkpoint", 20], ["flush"], ["crash", 9]],
                    [["start"], ["flush"], ["crash", 9]], [["start"], ["scalars", None, 25], ["flush"], ["crash", 11]],
                    crash, crash, crash, crash, [["assignment"], ["start"], ["scalars", None, 100], ["done"]]])
    service.start()
    job = service.submit(100)
    service.wait(job, "succeeded")
    attempts = service.get(f"/v1/jobs/{job}/attempts")["attempts"]
    assert [a["first_step"] for a in attempts] == [0, 20, 20, 20, 20, 10, 10, 20], "both are bad in the end: the newest again"
    assert {a["step"]: a["bad"] for a in service.artifacts(job)} == {10: True, 20: True}
    with open(f"{service.state}/jobs/{job}/assignment.json") as f:
        assert [c["step"] for c in json.load(f)["checkpoints"]] == [20, 10]
    r = requests.patch(f"{service.url}/v1/artifacts/{service.artifacts(job)[0]['id']}", json={"bad": False}, timeout=60)
    assert (r.status_code, r.json()["step"], r.json()["bad"]) == (200, 20, False)


def test_error_event_fails_at_once(service):
    service.script([[["start"], ["error", "numeric", "the loss is NaN", 17]]])
    service.start()
    j = service.wait(service.submit(), "failed")
    assert j["attempts"] == 1
    assert j["error"] == {"class": "numeric", "detail": "the loss is NaN", "step": 17}


def test_outcome_is_read_from_the_spool(service):
    """The worker could not reach the daemon at its end."""
    service.script([[["start"], ["scalars", 0, 10], ["flush"], ["mute"], ["scalars", 10, 20], ["checkpoint", 20], ["done", {"bpd": 1.0}]]])
    service.script([[["start"], ["mute"], ["scalars", 0, 20], ["log", "x"], ["error", "host", "no disk", 3]]], of=2)
    # `done` lingers for an acknowledgement that never comes: kill it
    service.start()
    job = service.submit(20)
    service.wait_step(job, 0)
    service.until(lambda: spooled(service, job, '"done"'))
    for pid in service.worker_pids():
        os.kill(pid, signal.SIGKILL)
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 1 and j["result"] == {"bpd": 1.0}
    assert service.curve(job)["step"] == list(range(20))
    assert len(service.artifacts(job)) == 1


def test_daemon_killed_and_started_again_adopts(service):
    service.script([[["start"], ["train", 300, 0.01, 50], ["done"]]])
    service.start()
    job = service.submit(300)
    service.wait_step(job, 40)
    pids = service.worker_pids()
    service.kill()
    time.sleep(0.5)
    service.start()
    assert service.worker_pids() == pids
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 1
    assert service.curve(job)["step"] == list(range(300))


def test_adopted_worker_that_dies_is_noticed(service):
    service.script([[["start"], ["train", 100000, 0.01, 20]], TRAIN])
    service.start()
    job = service.submit(100)
    service.wait_step(job, 30)
    service.kill()
    service.start()
    service.wait_step(job, 50)
    for pid in service.worker_pids():
        os.kill(pid, signal.SIGKILL)
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 2


def test_both_killed_resumes(service):
    service.script([SLOW, TRAIN])
    service.start()
    job = service.submit(100)
    service.wait_step(job, 50)
    service.kill()
    for pid in service.worker_pids():
        os.kill(pid, signal.SIGKILL)
    service.start()
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 2
    assert service.curve(job)["step"] == list(range(100))


def test_worker_that_ended_while_no_daemon_ran(service):
    service.script([[["start"], ["train", 60, 0.01], ["checkpoint", 60], ["done", {"bpd": 2.0}]]])
    service.start()
    job = service.submit(60)
    service.wait_step(job, 5)
    service.kill()
    service.until(lambda: spooled(service, job, '"done"'))
    for pid in service.worker_pids():
        os.kill(pid, signal.SIGKILL)
    service.start()
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 1 and j["result"] == {"bpd": 2.0}
    assert service.curve(job)["step"] == list(range(60))


def test_a_lock_that_is_let_go_at_once_is_waited_for(service):
    """A worker that was just being made when its daemon was killed has a copy of it for a moment."""
    import fcntl
    import threading
    service.script([TRAIN])
    service.start()
    service.kill()
    lock = open(service.state + "/lock", "r+")
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(0.2, lock.close).start()
    service.start()
    service.wait(service.submit(), "succeeded")


def test_second_daemon_is_refused(service):
    service.script([TRAIN])
    service.start()
    r = subprocess.run(service.command(), capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and f"pid {service.process.pid}" in r.stderr
    service.get("/healthz")


def test_sigterm_leaves_the_worker(service):
    service.script([SLOW])
    service.start()
    job = service.submit(100000)
    service.wait_step(job, 5)
    pids = service.worker_pids()
    begin = time.monotonic()
    assert service.kill(signal.SIGTERM) == 0
    assert time.monotonic() - begin < 1.0
    assert service.worker_pids() == pids
    service.start()
    assert service.job(job)["state"] == "running" and service.job(job)["attempts"] == 1


def test_stop_ends_worker_and_daemon_and_the_next_goes_on(service):
    service.script([SLOW, TRAIN])
    service.start()
    job = service.submit(100)
    step = service.wait_step(job, 5)["progress"]["step"]
    service.post("/v1/stop", expect=202)
    assert service.process.wait(10) == 0
    assert service.worker_pids() == []
    service.start()
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 2 and service.curve(job)["step"] == list(range(100)) and step >= 5


def test_stop_kills_a_worker_that_hangs(service):
    service.script([[["start"], ["checkpoint", 1], ["flush"], ["hang"]], TRAIN])
    service.start()
    job = service.submit(100)
    service.until(lambda: service.artifacts(job))
    service.post("/v1/stop", expect=202)
    assert service.process.wait(10) == 0
    assert service.worker_pids() == []
    service.start()
    assert service.wait(job, "succeeded")["attempts"] == 2


def test_an_ended_attempt_that_was_not_tidied_is_at_the_next_start(service):
    """Killed between an outcome's commit and what follows from it."""
    service.script([[["start"], ["log", "x"], ["crash"]], TRAIN])
    service.environment["MULUND_RETRY_MS"] = "50"
    service.start()
    done = service.submit()
    service.wait(done, "succeeded")
    service.until(lambda: rows(service, "SELECT count(*) FROM attempt WHERE ended_us = 0") == [(0,)])
    service.kill()
    folder = f"{service.state}/jobs/{done}"
    with sqlite3.connect(service.state + "/mulund.db") as db:
        db.execute("UPDATE attempt SET ended_us = 0")
    for name in ("attempt-1.events", "attempt-1.lock", "attempt-2.events", "attempt-2.lock"):
        open(f"{folder}/{name}", "w").close()
    service.start()
    service.until(lambda: not kept(service, done, "events") and not kept(service, done, "lock"))
    service.until(lambda: rows(service, "SELECT count(*) FROM attempt WHERE ended_us = 0") == [(0,)])
    assert service.job(done)["state"] == "succeeded" and service.job(done)["attempts"] == 2


def test_a_worker_that_lingers_after_its_outcome_is_watched_by_the_next_daemon(service):
    service.script([[["start"], ["event", {"type": "done", "result": None}], ["flush"], ["hang"]], [["start"], ["done"]]])
    service.script([[["start"], ["done"]]], of=2)
    service.start()
    first, second = service.submit(), service.submit(seed=2)
    service.wait(first, "succeeded")
    pid, = service.worker_pids()
    service.kill()
    service.start()
    time.sleep(0.5)
    assert service.worker_pids() == [pid] and service.job(second)["state"] == "queued", "the device is free when the process is gone"
    os.kill(pid, signal.SIGKILL)
    service.wait(second, "succeeded")
    service.until(lambda: not kept(service, first, "events") and not kept(service, first, "lock"))
    service.until(lambda: rows(service, "SELECT count(*) FROM attempt WHERE ended_us = 0") == [(0,)])


def test_nothing_of_a_foreign_folder_is_tidied(service):
    service.script([TRAIN])
    service.start()
    job = service.submit()
    service.wait(job, "succeeded")
    service.until(lambda: rows(service, "SELECT count(*) FROM attempt WHERE ended_us = 0") == [(0,)])
    service.kill()
    with sqlite3.connect(service.state + "/mulund.db") as db:
        db.execute("UPDATE attempt SET ended_us = 0")
    folder = f"{service.state}/jobs/{job}"
    with open(folder + "/identity", "w") as f:
        f.write("0" * 32 + "\n")
    open(folder + "/attempt-1.events", "w").close()
    service.start()
    assert os.path.exists(folder + "/attempt-1.events")
    assert rows(service, "SELECT count(*) FROM attempt WHERE ended_us = 0") == [(0,)]
