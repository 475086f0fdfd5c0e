import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
import requests

from service import Service, WORKER


@pytest.fixture
def service(request):
    s = Service()
    yield s
    s.close()


TRAIN = [["start"], ["train", 100, 0.005, 10], ["done", {"bpd": 3.5}]]
SLOW = [["start"], ["train", 100000, 0.01, 20], ["done"]]


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


def test_losses_are_never_charged_to_the_job_and_others_pass(service):
    service.script([[["start"], ["log", "no good\n"], ["exit", 3]]] * 4 + [TRAIN])
    service.script([TRAIN], seed=2)
    service.start()
    lost = service.submit()
    other = service.submit(seed=2)
    why = service.until(lambda: service.job(lost)["waiting"])
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
    assert service.until(lambda: service.job(job)["waiting"]) == f"{kind}: no space left on device"
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


def test_error_event_fails_at_once(service):
    service.script([[["start"], ["error", "numeric", "the loss is NaN", 17]]])
    service.start()
    j = service.wait(service.submit(), "failed")
    assert j["attempts"] == 1
    assert j["error"] == {"class": "numeric", "detail": "the loss is NaN", "step": 17}


def test_outcome_is_read_from_the_spool(service):
    """The worker could not reach the daemon at its end."""
    service.script([[["start"], ["scalars", 0, 10], ["flush"], ["mute"], ["scalars", 10, 20], ["checkpoint", 20], ["done", {"bpd": 1.0}]]])
    service.script([[["start"], ["mute"], ["scalars", 0, 20], ["log", "x"], ["error", "host", "no disk", 3]]], seed=2)
    # `done` lingers for an acknowledgement that never comes: kill it
    service.start()
    job = service.submit(20)
    service.wait_step(job, 0)
    service.until(lambda: os.path.exists(f"{service.state}/jobs/{job}/step-20.safetensors"))
    time.sleep(0.3)
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
    service.until(lambda: os.path.exists(f"{service.state}/jobs/{job}/step-60.safetensors"))
    time.sleep(0.3)
    for pid in service.worker_pids():
        os.kill(pid, signal.SIGKILL)
    service.start()
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 1 and j["result"] == {"bpd": 2.0}
    assert service.curve(job)["step"] == list(range(60))


def test_second_daemon_is_refused(service):
    service.script([TRAIN])
    service.start()
    r = subprocess.run(service.command(), capture_output=True, text=True, timeout=10)
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


def rows(service, sql):
    with sqlite3.connect(service.state + "/mulund.db") as db:
        return db.execute(sql).fetchall()


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
    service.script([[["start"], ["done"]]], seed=2)
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


def small_state(service, size):
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root")
    os.mkdir(service.state)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=750", "tmpfs", service.state], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")


def test_low_disk_starts_nothing_says_so_and_ends_by_itself(service):
    small_state(service, "24m")
    try:
        service.script([TRAIN])
        service.environment["MULUND_DISK_RESERVE_MIB"] = "8"
        service.start()
        first = service.submit()
        service.wait(first, "succeeded")
        assert service.get("/healthz")["disk"]["state"] == "ok"
        with open(service.state + "/ballast", "wb") as f:
            f.write(b"x" * (18 << 20))
        assert service.get("/healthz")["disk"]["state"] == "low", "also while nothing happens"
        job = service.submit()
        time.sleep(1)
        j = service.job(job)
        assert j["state"] == "queued" and j["attempts"] == 0 and j["waiting"].startswith("disk low: ")
        assert [x["waiting"] for x in service.get("/v1/jobs", state="queued")["jobs"]] == [j["waiting"]]
        assert service.job(first)["waiting"] is None
        assert service.logged().count("disk low") == 1
        os.truncate(service.state + "/ballast", 14 << 20)  # above the reserve, but not by much
        time.sleep(3)
        assert service.job(job)["state"] == "queued"
        os.unlink(service.state + "/ballast")
        service.wait(job, "succeeded")
        assert "room again" in service.logged() and service.get("/healthz")["disk"]["state"] == "ok"
    finally:
        service.close()
        subprocess.run(["umount", "-l", service.state], capture_output=True)


def test_a_worker_that_the_kernel_ended_for_want_of_memory_is_said(service):
    group = "/sys/fs/cgroup/memory/mulund-test-%d" % os.getpid()
    try:
        os.mkdir(group)
        with open(group + "/memory.limit_in_bytes", "w") as f:
            f.write(str(96 << 20))
    except OSError:
        pytest.skip("no control group can be made here")
    try:
        service.script([[["start"], ["flush"], ["eat", 512]], TRAIN])
        service.environment["MULUND_RETRY_MS"] = "2000"
        service.start(prefix=["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', group])
        job = service.submit()
        why = service.until(lambda: service.job(job)["waiting"])
        assert "signal 9" in why and "memory was short" in why
        service.wait(job, "succeeded")
    finally:
        service.close()
        for _ in range(50):
            try:
                os.rmdir(group)
                break
            except OSError:
                time.sleep(0.1)


def test_a_killed_worker_is_not_said_to_have_lacked_memory(service):
    service.script([[["start"], ["flush"], ["crash"]], TRAIN])
    service.environment["MULUND_RETRY_MS"] = "1000"
    service.start()
    job = service.submit()
    why = service.until(lambda: service.job(job)["waiting"])
    assert "signal 9" in why and "memory" not in why


def test_stop_without_work(service):
    service.start()
    service.post("/v1/stop", expect=202)
    assert service.process.wait(10) == 0


def test_cancel(service):
    service.script([SLOW])
    service.start()
    running = service.submit(100000)
    queued = service.submit(100000)
    service.wait_step(running, 5)
    assert service.post(f"/v1/jobs/{queued}/cancel", expect=200).json()["state"] == "cancelled"
    service.post(f"/v1/jobs/{running}/cancel", expect=200)
    j = service.wait(running, "cancelled")
    assert j["ended"]
    assert service.artifacts(running), "a checkpoint before it stops"
    service.post(f"/v1/jobs/{running}/cancel", expect=409)
    service.post("/v1/jobs/999/cancel", expect=404)


def test_a_second_cancel_is_answered_when_the_first_is_durable(service):
    """Both while the disk is full: neither is told that the job will be cancelled."""
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root")
    os.mkdir(service.state)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=750", "tmpfs", service.state], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        import concurrent.futures
        service.script([SLOW])
        service.environment["MULUND_RETRY_MS"] = "20000"
        service.start()
        job = service.submit(100000)
        service.wait_step(job, 5)
        with open(service.state + "/ballast", "wb", buffering=0) as f:
            try:
                while f.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        service.until(lambda: "the store cannot write" in service.logged())
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: service.post(f"/v1/jobs/{job}/cancel").status_code, range(8)))
        assert 200 not in answers, answers
    finally:
        service.close()
        subprocess.run(["umount", "-l", service.state], capture_output=True)


def test_cancel_kills_a_worker_that_hangs(service):
    service.script([[["start"], ["flush"], ["hang"]]])
    service.start()
    job = service.submit()
    service.wait(job, "running")
    service.post(f"/v1/jobs/{job}/cancel", expect=200)
    j = service.wait(job, "cancelled")
    assert j["attempts"] == 1
    service.until(lambda: service.worker_pids() == [])


def test_adopted_worker_can_be_cancelled(service):
    service.script([SLOW])
    service.script([[["start"], ["flush"], ["hang"]]], seed=2)
    service.start()
    job = service.submit(100000)
    service.wait_step(job, 5)
    service.kill()
    service.start()
    service.post(f"/v1/jobs/{job}/cancel", expect=200)
    assert service.wait(job, "cancelled")["attempts"] == 1
    hanging = service.submit(100, seed=2)
    service.wait(hanging, "running")
    service.until(lambda: service.worker_pids())
    service.kill()
    service.start()
    service.post(f"/v1/jobs/{hanging}/cancel", expect=200)
    service.wait(hanging, "cancelled")
    assert service.worker_pids() == []


def test_cancel_is_remembered_by_the_next_daemon(service):
    service.script([[["start"], ["flush"], ["hang"]]])
    service.start()
    job = service.submit()
    service.wait(job, "running")
    service.until(lambda: service.worker_pids())
    service.post(f"/v1/jobs/{job}/cancel", expect=200)
    service.kill()
    service.start()
    assert service.wait(job, "cancelled")["attempts"] == 1
    assert service.worker_pids() == []


def test_worker_that_has_no_lock_yet_is_not_left_beside_another(service):
    service.script([TRAIN])
    service.environment["SCRIPT_LOCK_DELAY"] = "3"
    service.start()
    job = service.submit(100)
    service.wait(job, "running")
    first = service.until(service.worker_pids)
    time.sleep(0.3)
    service.kill()
    service.environment["SCRIPT_LOCK_DELAY"] = "0"
    service.start()
    service.wait(job, "succeeded")
    assert not os.path.exists(f"/proc/{first[0]}") or service.until(lambda: first[0] not in service.worker_pids())
    assert "without its lock" in service.logged()
    assert service.curve(job)["step"] == list(range(100))


def test_answers_while_ending(service):
    """Requests that meet the end are answered or refused, and what was answered with 201 is there."""
    import threading
    service.script([SLOW])
    service.start()
    made, stop = [], threading.Event()

    def submit():
        while not stop.is_set():
            try:
                r = service.post("/v1/jobs", {"kind": "train", "config": {"data": {"dataset": "scripted"}, "training": {"num_steps_eval": 0}}})
                if r.status_code == 201:
                    made.append(r.json()["id"])
                else:
                    assert r.status_code == 503, r.text
            except requests.exceptions.ConnectionError:
                return

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for t in threads:
        t.start()
    service.until(lambda: len(made) > 10, 60)
    begin = time.monotonic()
    assert service.kill(signal.SIGTERM) == 0
    assert time.monotonic() - begin < 2
    stop.set()
    for t in threads:
        t.join()
    service.start()
    for job in made:
        assert service.job(job)["state"] in ("queued", "running")


def test_resume(service):
    service.script([[["start"], ["scalars", None, 100], ["checkpoint", 100], ["done"]],
                    [["start"], ["scalars", None, 200], ["checkpoint", 200], ["done"]]])
    service.start()
    job = service.submit(100)
    service.wait(job, "succeeded")
    r = service.post(f"/v1/jobs/{job}/resume", {}, expect=422)
    r = service.post(f"/v1/jobs/{job}/resume", {"steps": 100}, expect=422)
    assert r.json()["errors"][0]["pointer"] == "/steps"
    r = service.post(f"/v1/jobs/{job}/resume", {"steps": 200}, expect=200).json()
    assert r["state"] in ("queued", "running") and r["config"]["training"]["num_steps_train"] == 200
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 2 and service.curve(job)["step"] == list(range(200))


def test_a_failed_job_can_be_resumed(service):
    service.script([[["start"], ["error", "numeric", "the loss is NaN", 3]], TRAIN])
    service.start()
    job = service.submit(100)
    service.wait(job, "failed")
    service.post(f"/v1/jobs/{job}/resume", {}, expect=200)
    j = service.wait(job, "succeeded")
    assert j["attempts"] == 2 and j["error"] is None


def test_retry_runs_a_failed_or_cancelled_job_of_any_kind_again(service):
    service.script([[["start"], ["scalars", None, 10], ["checkpoint", 10], ["flush"], ["error", "numeric", "the loss is NaN", 12]],
                    [["start"], ["scalars", None, 20], ["done"]]])
    service.start()
    job = service.submit(20)
    service.wait(job, "failed")
    j = service.post(f"/v1/jobs/{job}/retry", {}, expect=200).json()
    assert j["state"] in ("queued", "running") and j["error"] is None
    assert service.wait(job, "succeeded")["attempts"] == 2
    assert service.curve(job)["step"] == list(range(20)), "from its last checkpoint"
    assert service.post(f"/v1/jobs/{job}/retry", {}, expect=409).json()["detail"].startswith("the job is succeeded")
    service.post("/v1/jobs/999/retry", {}, expect=404)
    assert "/steps" in service.post(f"/v1/jobs/{job}/retry", {"steps": 5}, expect=422).text
    service.script([[["start"], ["error", "memory", "too much", 0]], [["start"], ["done", {"bpd": 1.0}]]])
    for kind in ("evaluate", "sample"):
        job2 = service.post("/v1/jobs", {"kind": kind, "checkpoint": {"job": job}}, expect=201).json()["id"]
        service.wait(job2, "failed")
        service.post(f"/v1/jobs/{job2}/retry", expect=200)
        assert service.wait(job2, "succeeded")["attempts"] == 2


def test_a_cancelled_evaluation_is_run_again_while_its_checkpoint_is_there(service):
    service.script([[["start"], ["checkpoint", 10], ["done"]]])
    service.start()
    job = service.submit(10)
    service.wait(job, "succeeded")
    service.script([[["start"], ["flush"], ["hang"]], [["start"], ["done", {"bpd": 1.0}]]])
    evaluation = service.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": job}}, expect=201).json()["id"]
    service.wait(evaluation, "running")
    service.post(f"/v1/jobs/{evaluation}/cancel", expect=200)
    service.wait(evaluation, "cancelled")
    service.post(f"/v1/jobs/{evaluation}/retry", {}, expect=200)
    assert service.wait(evaluation, "succeeded")["result"] == {"bpd": 1.0}
    second = service.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": job}}, expect=201).json()["id"]
    service.post(f"/v1/jobs/{second}/cancel")
    service.until(lambda: service.job(second)["state"] in ("cancelled", "succeeded"))
    assert requests.delete(f"{service.url}/v1/jobs/{job}").status_code == 204
    if service.job(second)["state"] == "cancelled":
        assert "gone" in service.post(f"/v1/jobs/{second}/retry", {}, expect=422).text


def test_a_job_starts_from_anothers_checkpoint_with_another_rate(service):
    service.script([[["start"], ["scalars", 0, 20], ["checkpoint", 10, 2.0], ["checkpoint", 20, 3.0], ["flush"], ["error", "numeric", "NaN", 25]]])
    service.start()
    job = service.submit(50, name="first")
    service.wait(job, "failed")
    service.script([[["start"], ["scalars", None, 30], ["checkpoint", 30], ["flush"], ["crash"]], [["start"], ["scalars", None, 50], ["done"]]])
    j = service.post("/v1/jobs", {"kind": "train", "start_from": {"job": job, "checkpoint": "best"}, "name": "lower",
                                  "overrides": {"optimizer.learning_rate": 1e-5, "model.sm_pdrop": 0.2, "model.sm_n_embd": 128}}, expect=201).json()
    assert j["checkpoint"] == {"job": job, "step": 10} and j["config"]["optimizer"]["learning_rate"] == 1e-5
    assert j["config"]["training"] == service.job(job)["config"]["training"]
    other = service.wait(j["id"], "succeeded")
    assert other["attempts"] == 2 and service.curve(j["id"])["step"] == list(range(10, 50)), "its own checkpoint when it has one"
    for body, pointer in (({"overrides": {"model.sm_n_embd": 64}}, "/model/sm_n_embd"), ({"overrides": {"vdm_type": "mulan_epsilon"}}, "/vdm_type"),
                          ({"overrides": {"model.latent_size": 51, "model.gamma_min": -12.0}}, "/model/gamma_min"),
                          ({"overrides": {"training.num_steps_train": 20}}, "/training/num_steps_train"),
                          ({"overrides": {"data.dataset": "other"}}, "/data/dataset"), ({"overrides": {"optimizer.learning_rate": 7}}, "/optimizer/learning_rate"),
                          ({"overrides": {"model.rate": 7}}, "/model/rate"), ({"config": {}}, "/config"),
                          ({"start_from": {"job": 999}}, "/start_from/job"), ({"start_from": {"job": job, "checkpoint": 15}}, "/start_from/checkpoint"),
                          ({"start_from": {"job": job, "checkpoint": "newest"}}, "/start_from/checkpoint"), ({"start_from": {}}, "/start_from/job"),
                          ({"start_from": {"job": job, "step": 1}}, "/start_from/step"), ({"start_from": 1}, "/start_from")):
        r = service.post("/v1/jobs", {"kind": "train", "start_from": {"job": job}, **body}, expect=422)
        assert pointer in [e["pointer"] for e in r.json()["errors"]], r.text
    assert requests.delete(f"{service.url}/v1/jobs/{job}").status_code == 204


def test_changed_data_are_accepted_for_one_run_of_the_job(service):
    service.script([[["assert_accepts", False], ["start"], ["error", "data", "other images", 3]], [["assert_accepts", True], ["start"], ["done"]],
                    [["assert_accepts", False], ["start"], ["done"]]])
    service.start()
    job = service.submit(20)
    j = service.wait(job, "failed")
    assert j["error"]["class"] == "data" and j["attempts"] == 1 and not j["accept_changed_data"]
    assert service.post(f"/v1/jobs/{job}/retry", {"accept_changed_data": True}, expect=200).json()["accept_changed_data"]
    service.wait(job, "succeeded")
    service.post(f"/v1/jobs/{job}/resume", {"steps": 30}, expect=200)
    assert service.wait(job, "succeeded")["accept_changed_data"] is False
    job = service.submit(20, accept_changed_data=True)
    assert service.job(job)["accept_changed_data"]
    r = service.post("/v1/jobs", {"kind": "sample", "checkpoint": {"job": job}, "accept_changed_data": True}, expect=422)
    assert "/accept_changed_data" in r.text


def test_retention_keeps_two_and_the_best_and_what_is_read(service):
    script = [["start"]]
    for step, metric in ((10, 5.0), (20, 3.0), (30, 4.0), (40, 4.5), (50, 4.4)):
        script += [["scalars", None, step], ["checkpoint", step, metric], ["flush"]]
    service.script([script + [["done"]]])
    service.start()
    job = service.submit(100)
    service.wait(job, "succeeded")
    service.until(lambda: sorted(a["step"] for a in service.artifacts(job)) == [20, 40, 50])
    files = service.until(lambda: (lambda f: f if len(f) == 3 else None)(
        sorted(f for f in os.listdir(f"{service.state}/jobs/{job}") if f.endswith(".safetensors"))))
    assert files == ["step-20.safetensors", "step-40.safetensors", "step-50.safetensors"]


def test_evaluate_and_sample_name_their_checkpoint(service):
    service.script([[["start"], ["scalars", 0, 10], ["checkpoint", 10, 2.0], ["checkpoint", 20, 3.0], ["done"]]])
    service.start()
    job = service.submit(20)
    service.wait(job, "succeeded")
    ids = []
    for checkpoint, step in (({"job": job, "which": "latest"}, 20), ({"job": job, "which": "best"}, 10), ({"job": job, "step": 10}, 10)):
        r = service.post("/v1/jobs", {"kind": "evaluate", "checkpoint": checkpoint, "n_images": 50}, expect=201).json()
        ids.append(r["id"])
        assert r["config"]["evaluation"]["n_images"] == 50
    r = service.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": job, "step": 15}})
    assert r.status_code in (404, 422) and "no checkpoint at step 15" in r.text
    r = service.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": job}, "n_images": 101}, expect=422)
    assert "/evaluation/n_images" in r.text
    r = service.post("/v1/jobs", {"kind": "sample", "checkpoint": {"job": 999}})
    assert r.status_code in (404, 422)
    for i in ids:
        service.wait(i, "succeeded")


def test_submission_is_checked_against_the_data_set_and_memory(service):
    service.start()
    for overrides, pointer in (({"training.batch_size_train": 1001}, "/training/batch_size_train"),
                               ({"training.num_steps_eval": 1, "training.batch_size_eval": 101}, "/training/batch_size_eval"),
                               ({"data.dataset": "other"}, "/data/dataset")):
        with pytest.raises(AssertionError) as e:
            service.submit(overrides=overrides)
        assert pointer in str(e.value)
    service.kill()
    service.environment["SCRIPT_ESTIMATE"] = '{"bytes": 1000000000000000}'
    service.start()
    with pytest.raises(AssertionError) as e:
        service.submit()
    assert "1000000000000000 bytes" in str(e.value) and "available" in str(e.value)
    service.kill()
    service.environment["SCRIPT_ESTIMATE"] = 'Traceback'
    service.start()
    r = service.post("/v1/jobs", {"kind": "train", "config": {"data": {"dataset": "scripted"}, "training": {"num_steps_eval": 0}}})
    assert r.status_code == 500 and "memory" in r.text


def test_remove(service):
    service.script([TRAIN])
    service.script([SLOW], seed=2)
    service.start()
    job = service.submit(100)
    service.wait(job, "succeeded")
    running = service.submit(100000, seed=2)
    service.wait_step(running, 1)
    assert requests.delete(f"{service.url}/v1/jobs/{running}").status_code == 409
    assert requests.delete(f"{service.url}/v1/jobs/{job}").status_code == 204
    assert requests.get(f"{service.url}/v1/jobs/{job}").status_code == 404
    assert not os.path.exists(f"{service.state}/jobs/{job}")
    assert requests.delete(f"{service.url}/v1/jobs/{job}").status_code == 404


def test_checkpoint_that_is_read_keeps_its_job(service):
    service.script([[["start"], ["checkpoint", 10], ["done"]]])
    service.start()
    job = service.submit(10)
    service.wait(job, "succeeded")
    service.script([SLOW])
    other = service.submit(10000)
    evaluation = service.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": job}}, expect=201).json()["id"]
    assert requests.delete(f"{service.url}/v1/jobs/{job}").status_code == 409
    service.post(f"/v1/jobs/{evaluation}/cancel", expect=200)
    assert requests.delete(f"{service.url}/v1/jobs/{job}").status_code == 204
    assert service.job(other)["state"] in ("queued", "running")


@pytest.mark.parametrize("action", [["garbage", "what is this\n"], ["garbage", "{\"seq\":1}\n"], ["huge", 3 << 20],
                                    ["garbage", "\0\0\n"], ["garbage", '{"type":"progress","seq":900,"step":1,"steps":2,"images_per_second":1,"seconds_left":1}\n']])
def test_garbage_closes_the_connection_and_hurts_nothing(service, action):
    service.script([[["start"], ["scalars", 0, 10], ["flush"], action, ["sleep", 0.3], ["scalars", 10, 20], ["done"]]])
    service.start()
    job = service.submit(20)
    assert service.wait(job, "succeeded")["attempts"] == 1
    assert service.curve(job)["step"] == list(range(20))
    assert "connection is closed" in service.logged()


STRANGE = [["event", {"type": "cosmic", "rays": 3}],
           ["event", {"type": "artifact", "kind": "film", "step": 3, "name": "a.mp4", "bytes": 1, "xxh128": "0" * 32, "metric": None}]]


def kept(service, job, suffix="kept"):
    folder = f"{service.state}/jobs/{job}"
    return [name for name in os.listdir(folder) if name.endswith("." + suffix)]


def spooled(service, job, text):
    """The path of a spool that has the text, or None."""
    folder = f"{service.state}/jobs/{job}"
    for name in kept(service, job, "events") if os.path.exists(folder) else []:
        with open(f"{folder}/{name}") as f:
            if text in f.read():
                return f.name
    return None


@pytest.mark.parametrize("how", ["connection", "spool"])
def test_events_that_are_not_understood_are_kept_and_hold_up_nothing(service, how):
    """Of a newer worker: an unknown type, a bad value."""
    hidden = [["mute"]] if how == "spool" else []
    end = [["crash"]] if how == "spool" else []
    service.script([[["start"], ["flush"], *hidden, ["scalars", 0, 10], *STRANGE, ["scalars", 10, 20], ["event", {"type": "done", "result": None}],
                     *end, ["leave"]]])
    service.start()
    job = service.submit(20)
    assert service.wait(job, "succeeded")["attempts"] == 1
    assert service.curve(job)["step"] == list(range(20))
    service.until(lambda: not kept(service, job, "events"))
    assert kept(service, job) == ["attempt-1.kept"]
    with open(f"{service.state}/jobs/{job}/attempt-1.kept") as f:
        text = f.read()
    assert "cosmic" in text and "film" in text and '"done"' in text, "the whole spool, also what came after"
    assert service.logged().count("was not applied") == 1 and "attempt-1.kept" in service.logged()
    assert "connection is closed" not in service.logged()
    assert requests.delete(f"{service.url}/v1/jobs/{job}").status_code == 204
    service.until(lambda: not os.path.exists(f"{service.state}/jobs/{job}"))


def test_what_was_kept_is_kept_over_a_restart(service):
    service.script([[["start"], *STRANGE, ["train", 60, 0.02], ["done"]]])
    service.start()
    job = service.submit(60)
    service.wait_step(job, 5)
    service.kill()
    service.start()
    service.wait(job, "succeeded")
    service.until(lambda: not kept(service, job, "events"))
    assert kept(service, job) == ["attempt-1.kept"]


@pytest.mark.parametrize("line", [["what is this\n"], ["x", 2 << 20, "\n"], ['{"type":"progress","seq":900}\n'],
                                  ['{"type":"stopped","seq":90,"step":3}\n']])
def test_a_spool_with_a_line_that_was_not_applied_is_kept(service, line):
    service.script([[["start"], ["flush"], ["mute"], ["scalars", 0, 20], ["spool", *line], ["crash"]], TRAIN])
    service.start()
    job = service.submit(20)
    service.wait(job, "succeeded")
    assert kept(service, job) == ["attempt-1.kept"]
    assert service.logged().count("was not applied") == 1


def test_a_spool_that_was_applied_is_removed(service):
    service.script([[["start"], ["flush"], ["mute"], ["scalars", 0, 20], ["spool", '{"type":"torn'], ["crash"]], TRAIN])
    service.start()
    job = service.submit(20)
    service.wait(job, "succeeded")
    assert kept(service, job) == kept(service, job, "events") == []


@pytest.mark.parametrize("whose", [{"attempt": 7}, {"job": 7}, {"identity": "0" * 32}, {}])
def test_the_spool_of_another_attempt_is_not_applied(service, whose):
    service.script([[["mute"], ["start"], ["scalars", 0, 5, 7.0], ["event", {"type": "done", "result": None}], ["spool_is_of", whose], ["crash"]],
                    TRAIN])
    service.start()
    job = service.submit(20)
    assert service.wait(job, "succeeded")["attempts"] == 2
    assert 7.0 not in service.curve(job)["last"]
    assert "another attempt" in service.logged() and kept(service, 1) == ["attempt-1.kept"]


@pytest.mark.parametrize("cancel", [False, True])
def test_a_spool_that_cannot_be_read_is_not_at_its_end(service, cancel):
    service.script([[["start"], ["flush"], ["mute"], ["scalars", 0, 20], ["event", {"type": "done", "result": None}], ["hang"]]])
    service.start()
    job = service.submit(20)
    path = service.until(lambda: spooled(service, job, '"done"'))
    os.rename(path, path + ".away")
    os.mkdir(path)
    for pid in service.worker_pids():
        os.kill(pid, signal.SIGKILL)
    service.until(lambda: "spool cannot be read" in service.logged())
    time.sleep(1)
    assert service.job(job)["state"] == "running" and service.logged().count("spool cannot be read") == 1
    if cancel:
        service.post(f"/v1/jobs/{job}/cancel", expect=200)
        service.wait(job, "cancelled")
        assert os.path.isdir(path), "what could not be read stays"
        return
    os.rmdir(path)
    os.rename(path + ".away", path)
    assert service.wait(job, "succeeded")["attempts"] == 1
    assert service.curve(job)["step"] == list(range(20))


def test_a_new_database_beside_old_folders_takes_nothing_of_them(service):
    """As the daemon's own advice for a damaged database says: move it away."""
    service.script([[["start"], ["scalars", 0, 10, 7.0], ["checkpoint", 10], ["flush"], ["crash"]]])
    service.environment["MULUND_RETRY_MS"] = "20000"
    service.start()
    old = service.submit(20)
    service.until(lambda: service.artifacts(old))
    service.kill()
    for name in ("mulund.db", "mulund.db-wal", "mulund.db-shm"):
        if os.path.exists(f"{service.state}/{name}"):
            os.rename(f"{service.state}/{name}", f"{service.root}/{name}")
    os.mkdir(f"{service.state}/jobs/41")
    service.script([[["start"], ["scalars", None, 20], ["done"]]])
    service.start()
    job = service.submit(20)
    assert job == 42 and os.path.exists(f"{service.state}/jobs/{old}/step-10.safetensors")
    service.wait(job, "succeeded")
    assert 7.0 not in service.curve(job)["last"] and service.curve(job)["step"] == list(range(20))
    service.kill()
    service.start()
    assert service.submit(20) == 43


def test_a_worker_of_another_database_is_refused_said_once_and_left(service):
    service.script([SLOW])
    service.start()
    service.wait_step(service.submit(100000), 5)
    first, = service.worker_pids()
    service.kill()
    for name in ("mulund.db", "mulund.db-wal", "mulund.db-shm"):
        if os.path.exists(f"{service.state}/{name}"):
            os.unlink(f"{service.state}/{name}")
    service.script([[["start"], ["scalars", 0, 20, 3.0], ["train", 60, 0.03], ["done"]]])
    service.start()
    job = service.submit(60)
    assert job == 2 and service.wait(job, "succeeded")["attempts"] == 1
    assert set(service.curve(job)["last"][:20]) == {3.0}
    assert first in service.worker_pids() and service.logged().count(f"(pid {first}) is closed") == 1


def test_a_folder_of_another_run_is_set_aside(service):
    """It came while the daemon ran, of a backup perhaps: nothing of it is read, nothing of it is lost."""
    service.script([[["start"], ["scalars", None, 20], ["done"]]])
    service.start()
    os.makedirs(f"{service.state}/jobs/1")
    for name, text in (("attempt-1.events", '{"type":"start"}\n'), ("log", "old"), ("identity", "0" * 32 + "\n")):
        with open(f"{service.state}/jobs/1/{name}", "w") as f:
            f.write(text)
    job = service.submit(20)
    assert job == 1 and service.wait(job, "succeeded")["attempts"] == 1
    assert open(f"{service.state}/jobs/1.aside/log").read() == "old"
    assert os.path.exists(f"{service.state}/jobs/1.aside/attempt-1.events")
    assert "is not of this run" in service.logged()
    assert len(open(f"{service.state}/jobs/1/identity").read()) == 33


def test_a_spool_that_has_the_name_of_a_new_attempt_is_set_aside(service):
    service.script([[["start"], ["flush"], ["wait_file", service.root + "/go"], ["crash"]], TRAIN])
    service.start()
    job = service.submit(20)
    service.wait(job, "running")
    service.until(service.worker_pids)
    spool = f"{service.state}/jobs/{job}/attempt-2.events"
    with open(spool, "w") as f:
        f.write("of another future\n")
    open(service.root + "/go", "w").close()
    assert service.wait(job, "succeeded")["attempts"] == 2
    assert open(spool + ".aside").read() == "of another future\n"


def copy_of(service):
    """A second daemon's service on a copy of the first one's state."""
    other = Service()
    subprocess.run(["cp", "-a", service.state, other.state], check=True)
    shutil.rmtree(other.data)
    os.symlink(service.data, other.data)
    return other


@pytest.mark.parametrize("lock_delay", ["0", "30"])
def test_a_daemon_on_a_copy_of_the_state_leaves_the_first_ones_worker(service, lock_delay):
    service.script([SLOW])
    service.environment["SCRIPT_LOCK_DELAY"] = lock_delay
    service.start()
    job = service.submit(100000)
    service.wait(job, "running")
    pids = service.until(service.worker_pids)
    if lock_delay == "0":
        service.wait_step(job, 5)
    time.sleep(0.3)
    other = copy_of(service)
    try:
        other.start()
        other.until(other.worker_pids)
        assert service.worker_pids() == pids and "without its lock" not in other.logged()
        other.post(f"/v1/jobs/{job}/cancel", expect=200)
        other.wait(job, "cancelled")
        assert service.worker_pids() == pids and service.job(job)["state"] == "running"
    finally:
        other.close()


@pytest.mark.parametrize("lie", ["boot = 'another boot'", "start_ticks = start_ticks - 1", "start_ticks = 0"])
def test_a_process_that_is_not_provably_the_attempts_is_left(service, lie):
    """After a reboot anybody may have its number."""
    service.script([SLOW, TRAIN])
    service.environment["SCRIPT_LOCK_DELAY"] = "30"
    service.start()
    job = service.submit(100)
    service.wait(job, "running")
    first = service.until(service.worker_pids)
    time.sleep(0.3)
    service.kill()
    with sqlite3.connect(service.state + "/mulund.db") as db:
        db.execute("UPDATE attempt SET " + lie)
    service.environment["SCRIPT_LOCK_DELAY"] = "0"
    service.start()
    service.until(lambda: service.job(job)["attempts"] == 2)
    assert first[0] in service.worker_pids() and "without its lock" not in service.logged()


def test_foreign_connections_are_refused(service):
    service.script([SLOW])
    service.start()
    job = service.submit(100000)
    service.wait_step(job, 2)
    for hello in ({"type": "hello", "protocol": 1, "job": job, "attempt": 77, "pid": 1}, {"type": "hello", "protocol": 2, "job": job, "attempt": 1, "pid": 1},
                  {"type": "hello", "protocol": 1, "job": 5, "attempt": 1, "pid": 1}, {"type": "hello", "protocol": 1, "job": job, "attempt": 1, "pid": 1},
                  {"type": "hello", "protocol": 1, "job": job, "attempt": 1, "pid": 1, "identity": "0" * 32}, {"type": "stopped", "seq": 1, "step": 1}):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect(service.state + "/worker.sock")
        s.sendall((json.dumps(hello) + "\n").encode())
        assert s.recv(100) == b""
    step = service.job(job)["progress"]["step"]
    service.wait_step(job, step + 5)
    assert os.stat(service.state + "/worker.sock").st_mode & 0o777 == 0o600
    assert os.stat(service.state).st_mode & 0o777 == 0o750


def test_jobs_run_in_order_one_at_a_time(service):
    service.script([TRAIN])
    service.start()
    jobs = [service.submit(100) for _ in range(3)]
    for job in jobs:
        service.wait(job, "succeeded")
    spans = [(service.job(j)["started"], service.job(j)["ended"]) for j in jobs]
    assert spans == sorted(spans) and all(spans[i][1] <= spans[i + 1][0] for i in range(2))


def test_data_set_that_is_broken_is_said_and_unavailable(service):
    os.mkdir(service.root + "/broken")
    with open(service.root + "/broken/describe.json", "w") as f:
        f.write('{"error": {"path": "batch_1.bin", "detail": "3072 bytes are missing"}}')
    service.start("--dataset", f"broken={service.root}/broken")
    assert "broken" in service.logged() and "3072 bytes are missing" in service.logged()
    assert [d["name"] for d in service.get("/v1/datasets")["datasets"]] == ["scripted"]


def test_what_is_odd_in_a_data_set_is_said(service):
    with open(service.data + "/describe.json", "w") as f:
        json.dump({"format": "cifar10", "train": 1, "test": 1, "digest": "0" * 32, "remark": "data_batch_2.bin is missing"}, f)
    service.start()
    assert "scripted" in service.logged() and "data_batch_2.bin is missing" in service.logged()
    assert [d["name"] for d in service.get("/v1/datasets")["datasets"]] == ["scripted"]


def test_job_waits_for_a_data_set_that_this_daemon_lacks(service):
    service.script([SLOW, TRAIN])
    service.start()
    job = service.submit(100)
    service.wait_step(job, 2)
    service.post("/v1/stop", expect=202)
    service.process.wait(10)
    with open(service.data + "/describe.json", "w") as f:
        f.write('{"error": {"path": "x", "detail": "gone"}}')
    service.start()
    service.until(lambda: "waits" in service.logged())
    assert service.job(job)["state"] == "queued"
    service.kill()
    os.unlink(service.data + "/describe.json")
    service.start()
    service.wait(job, "succeeded")


@pytest.mark.parametrize("arguments, option", [
    (["--nonsense"], "--nonsense"), (["--state"], "--state"), (["--state", "--web"], "--state"), (["--dataset", "x"], "--dataset"),
    (["--dataset", "=x"], "--dataset"), (["--dataset", "a="], "--dataset"), (["--dataset", "a/b=/tmp"], "--dataset"),
    (["--listen", "0.0.0.0:8700"], "--listen"), (["--listen", "localhost:8700"], "--listen"), (["--listen", "[::1]:8700"], "--listen"),
    (["--listen", "127.0.0.1"], "--listen"), (["--listen", "127.0.0.1:70000"], "--listen"), (["word"], "word")])
def test_usage_errors(service, arguments, option):
    r = subprocess.run([service.command()[0], *arguments], capture_output=True, text=True, timeout=10)
    assert r.returncode == 2 and option in r.stderr, r.stderr


def test_help_and_version(service):
    mulund = service.command()[0]
    assert "--dataset" in subprocess.run([mulund, "--help"], capture_output=True, text=True, timeout=10).stdout
    assert subprocess.run([mulund, "--version"], capture_output=True, text=True, timeout=10).stdout.startswith("mulund ")


def test_environment_at_fault(service):
    def run(*more):
        return subprocess.run(service.command(*more), capture_output=True, text=True, timeout=10)

    r = run("--worker", "/nonexistent/worker")
    assert r.returncode == 1 and "/nonexistent/worker" in r.stderr
    r = run("--state", service.root + "/" + "long" * 30)
    assert r.returncode == 1 and "too long" in r.stderr
    with open(service.root + "/file", "w"):
        pass
    r = run("--state", service.root + "/file/state")
    assert r.returncode == 1 and "/file/state" in r.stderr
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen()
    r = run("--listen", f"127.0.0.1:{s.getsockname()[1]}")
    assert r.returncode == 1 and "in use" in r.stderr


def test_a_state_that_others_can_write_is_refused(service):
    os.mkdir(service.state)
    os.chmod(service.state, 0o777)
    r = subprocess.run(service.command(), capture_output=True, text=True, timeout=10)
    assert r.returncode == 1 and "others may write" in r.stderr and os.listdir(service.state) == []
    os.chmod(service.state, 0o750)
    if os.geteuid() != 0:
        return
    os.chown(service.state, 12345, -1)
    r = subprocess.run(service.command(), capture_output=True, text=True, timeout=10)
    assert r.returncode == 1 and "belongs to user 12345" in r.stderr and os.listdir(service.state) == []


def test_paths_that_are_not_utf8_are_refused(service):
    def run(*more):
        return subprocess.run([os.fsencode(x) for x in service.command()] + list(more), capture_output=True, timeout=10)

    os.mkdir(os.fsencode(service.root) + b"/caf\xe9")
    os.symlink(os.fsencode(service.root) + b"/caf\xe9", service.root + "/link")
    for more, option in (([b"--state", os.fsencode(service.root) + b"/caf\xe9"], b"--state"),
                         ([b"--state", os.fsencode(service.root) + b"/link"], b"--state"),
                         ([b"--dataset", b"x=" + os.fsencode(service.root) + b"/caf\xe9"], b"--dataset"),
                         ([b"--dataset", b"x=" + os.fsencode(service.root) + b"/link"], b"--dataset")):
        r = run(*more)
        assert r.returncode in (1, 2) and option in r.stderr and b"not UTF-8" in r.stderr, r.stderr


def test_signals_that_mean_nothing_end_nothing(service):
    service.start()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        service.process.send_signal(number)
    service.until(lambda: service.logged().count("nothing to do") == 3)
    assert service.get("/healthz")["status"] == "ok"


def test_workers_inherit_no_secrets_and_no_folder(service):
    service.script([SLOW])
    service.environment.update(AWS_SECRET_ACCESS_KEY="secret", OMP_NUM_THREADS="1")
    service.start()
    job = service.submit(100000)
    service.wait_step(job, 1)
    pid, = service.worker_pids()
    environment = open(f"/proc/{pid}/environ", "rb").read()
    assert b"secret" not in environment and b"OMP_NUM_THREADS=1" in environment
    assert os.readlink(f"/proc/{pid}/cwd") == f"{service.state}/jobs/{job}"


def test_downloads_leave_descriptors_to_workers(service):
    """512 slow downloads at 1,024 descriptors: every job failed, for want of one."""
    import resource
    service.script([[["start"], ["done"]]])
    service.start(prefix=["prlimit", "--nofile=1024:1024"])
    job = service.submit()
    service.wait(job, "succeeded")
    os.truncate(f"{service.state}/jobs/{job}/log", 64 << 20)  # more than a socket's buffers hold
    session = requests.Session()
    body = {"kind": "train", "config": service.job(job)["config"]}
    assert session.get(service.url + "/healthz").status_code == 200
    port = int(service.url.rsplit(":", 1)[1])
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 700:
        resource.setrlimit(resource.RLIMIT_NOFILE, (700, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    clients = []
    try:
        for _ in range(512):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(5)
            s.connect(("127.0.0.1", port))
            s.sendall(b"GET /v1/jobs/%d/log HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % job)
            clients.append(s)
        service.until(lambda: len(os.listdir(f"/proc/{service.process.pid}/fd")) > 700)
        time.sleep(0.5)
        assert len(os.listdir(f"/proc/{service.process.pid}/fd")) < 1024 - 150
        other = session.post(service.url + "/v1/jobs", json=body).json()["id"]
        service.until(lambda: session.get(f"{service.url}/v1/jobs/{other}").json()["state"] == "succeeded")
    finally:
        for s in clients:
            s.close()


def test_damaged_database_is_refused_and_left(service):
    service.start()
    service.submit()
    service.kill(signal.SIGTERM)
    path = service.state + "/mulund.db"
    for damage in (b"", b"not a database" * 100, open(path, "rb").read()[:5000]):
        with open(path, "wb") as f:
            f.write(damage)
        r = subprocess.run(service.command(), capture_output=True, text=True, timeout=10)
        assert r.returncode == 1 and "damaged" in r.stderr and "mulund.db" in r.stderr, r.stderr
        assert open(path, "rb").read() == damage


def test_full_disk_loses_nothing(service):
    """The database cannot grow; when it can again, everything arrives."""
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root")
    os.mkdir(service.state)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=750", "tmpfs", service.state], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        service.script([[["start"], ["scalars", 0, 100], ["flush"], ["wait_file", service.root + "/full"], ["scalars", 100, 4000], ["done"]]])
        service.start()
        job = service.submit(4000)
        service.until(lambda: service.curve(job)["points_total"] == 100)
        with open(service.state + "/ballast", "wb", buffering=0) as f:
            try:
                while f.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        os.close(os.open(service.root + "/full", os.O_CREAT | os.O_WRONLY))
        service.until(lambda: "the store cannot write" in service.logged())
        time.sleep(1)
        assert service.job(job)["state"] == "running"
        assert service.logged().count("the store cannot write") == 1
        os.unlink(service.state + "/ballast")
        service.wait(job, "succeeded")
        assert service.curve(job)["step"] == list(range(4000))
    finally:
        service.close()
        subprocess.run(["umount", "-l", service.state], capture_output=True)


def test_at_rest_it_sleeps(service):
    with open(service.command()[0], "rb") as f:
        if b"__tsan_init" in f.read():
            pytest.skip("the thread sanitizer has a thread of its own that wakes up")
    service.start()
    time.sleep(0.5)

    def switches():
        n = 0
        for task in os.listdir(f"/proc/{service.process.pid}/task"):
            for line in open(f"/proc/{service.process.pid}/task/{task}/status"):
                if line.startswith("voluntary_ctxt_switches"):
                    n += int(line.split()[1])
        return n

    before = switches()
    time.sleep(2)
    assert switches() == before


@pytest.mark.parametrize("seed", range(int(os.environ.get("MULUND_SOAK_SEEDS", "3"))))
def test_killed_at_any_moment_nothing_is_lost(service, seed):
    import random
    random.seed(seed)
    service.script([[["start"], ["train", 400, 0.004, 25], ["checkpoint"], ["done", {"bpd": 1.0}]]])
    service.start()
    jobs = [service.submit(400), service.submit(400)]
    for _ in range(6):
        time.sleep(random.uniform(0.05, 0.6))
        if random.random() < 0.5:
            for pid in service.worker_pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if random.random() < 0.7:
            service.kill()
            service.start()
    for job in jobs:
        service.wait(job, "succeeded", seconds=60)
        assert service.curve(job)["step"] == list(range(400))


def test_worker_path_is_executable():
    assert os.access(WORKER, os.X_OK)
