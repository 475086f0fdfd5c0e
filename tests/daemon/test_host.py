"""The daemon and its host: order, data sets, the command line, the state, descriptors, disk, memory, kills."""
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
import requests

from service import SLOW, TRAIN, WORKER, fill, small_state, spooled, waits


def test_low_disk_starts_nothing_says_so_and_ends_by_itself(service):
    with small_state(service, "24m"):
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
        assert j["state"] == "queued" and j["attempts"] == 0 and j["waiting"]["reason"] == "disk_low" and j["waiting"]["detail"].startswith("disk low: ")
        assert [x["waiting"]["reason"] for x in service.get("/v1/jobs", state="queued")["jobs"]] == ["disk_low"]
        assert service.job(first)["waiting"] is None
        assert service.logged().count("disk low") == 1
        os.truncate(service.state + "/ballast", 14 << 20)  # above the reserve, but not by much
        time.sleep(3)
        assert service.job(job)["state"] == "queued"
        os.unlink(service.state + "/ballast")
        service.wait(job, "succeeded")
        assert "room again" in service.logged() and service.get("/healthz")["disk"]["state"] == "ok"


def test_a_training_stops_before_the_disk_is_full_and_room_for_its_checkpoint_was_kept(service):
    """E4: what others write takes all but what was allocated beforehand; an evaluation, which writes little, goes on."""
    begin = [["start"], ["weigh", 2 << 20], ["scalars", 0, 10], ["checkpoint"]]
    with small_state(service, "24m"):
        service.script([[*begin, ["train", 100000, 0.01], ["done"]], [["start"], ["train", 100000, 0.01], ["done"]]])
        service.script([[["start"], ["wait_file", service.root + "/go"], ["done", {"bpd": 1.0}]]], "evaluate")
        service.environment["MULUND_DISK_RESERVE_MIB"] = "8"
        cores = sorted(os.sched_getaffinity(0))
        service.start("--device", f"left=cpu:{cores[0]}", "--device", f"right=cpu:{cores[-1]}")
        job = service.submit(100000)
        service.wait_step(job, 30)
        r = service.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": job}}, expect=201)
        held = os.stat(service.state + "/reserve")
        assert held.st_blocks * 512 == 4 << 20, "half of the reserve is the most"
        evaluation = r.json()["id"]
        service.wait(evaluation, "running")
        fs = os.statvfs(service.state)
        with open(service.state + "/ballast", "wb") as f:
            f.write(b"x" * (fs.f_bavail * fs.f_frsize - (600 << 10)))
        j = service.wait(job, "queued")
        assert j["waiting"]["reason"] == "disk_low" and j["attempts"] == 1
        assert service.artifacts(job)[0]["step"] == j["progress"]["step"] and service.artifacts(job)[0]["bytes"] > 2 << 20
        a, = service.get(f"/v1/jobs/{job}/attempts")["attempts"]
        assert (a["outcome"], a["stop"], a["class"]) == ("stopped", "disk", None)
        assert "the disk is nearly full" in [e["detail"] for e in service.get(f"/v1/jobs/{job}/events")["events"] if e["trigger"] == "ask_disk"][0]
        assert not os.path.exists(service.state + "/reserve") and service.job(evaluation)["state"] == "running"
        os.unlink(service.state + "/ballast")
        service.wait_step(job, j["progress"]["step"] + 5)
        service.until(lambda: os.path.exists(service.state + "/reserve"))
        assert service.job(job)["attempts"] == 2 and service.get("/healthz")["disk"]["state"] == "ok"
        open(service.root + "/go", "w").close()
        service.wait(evaluation, "succeeded")
        service.post(f"/v1/jobs/{job}/cancel", expect=200)
        service.wait(job, "cancelled")
        service.until(lambda: not os.path.exists(service.state + "/reserve"))


def test_a_file_system_that_keeps_no_room_is_said_once(service):
    """There it is as before: nothing new starts below the reserve."""
    service.script([TRAIN])
    service.environment["MULUND_DISK_RESERVE_MIB"] = "8"
    os.makedirs(service.state + "/reserve/x")
    service.start()
    service.wait(service.submit(), "succeeded")
    assert service.logged().count("no room can be kept") == 1 and os.path.isdir(service.state + "/reserve")


def test_a_worker_that_the_kernel_ended_for_want_of_memory_is_said(service):
    group = "/sys/fs/cgroup/memory/mulund-test-%d" % os.getpid()
    try:
        os.mkdir(group)
        with open(group + "/memory.limit_in_bytes", "w") as f:
            f.write(str(384 << 20))  # the worker is the larger by far when it is full, also beside a daemon under ASan
    except OSError:
        pytest.skip("no control group can be made here")
    try:
        service.script([[["start"], ["flush"], ["eat", 512]], TRAIN])
        service.environment["MULUND_RETRY_MS"] = "2000"
        for _ in range(3):
            service.start(prefix=["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', group])
            job = service.submit()
            try:
                why = service.until(lambda: waits(service, job, "retry"))
                break
            except requests.ConnectionError:  # on a full machine the kernel takes the daemon, too, while the worker still ends
                assert service.process.wait(10) == -signal.SIGKILL
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
    why = service.until(lambda: waits(service, job, "retry"))
    assert "signal 9" in why and "memory" not in why


def jobs_is_a_file(state, job):
    os.rename(f"{state}/jobs", f"{state}/jobs.away")
    open(f"{state}/jobs", "w").close()
    return lambda: (os.unlink(f"{state}/jobs"), os.rename(f"{state}/jobs.away", f"{state}/jobs"))


def jobs_leads_nowhere(state, job):
    os.rename(f"{state}/jobs", f"{state}/jobs.away")
    os.symlink("/nowhere", f"{state}/jobs")
    return lambda: (os.unlink(f"{state}/jobs"), os.rename(f"{state}/jobs.away", f"{state}/jobs"))


def folder_is_a_file(state, job):
    open(f"{state}/jobs/{job}", "w").close()
    return lambda: os.unlink(f"{state}/jobs/{job}")


def log_is_a_folder(state, job):
    os.makedirs(f"{state}/jobs/{job}/log")
    with sqlite3.connect(f"{state}/mulund.db") as db:
        identity, = db.execute("SELECT identity FROM job WHERE id = ?", (job,)).fetchone()
    with open(f"{state}/jobs/{job}/identity", "w") as f:
        f.write(identity + "\n")
    return lambda: os.rmdir(f"{state}/jobs/{job}/log")


@pytest.mark.parametrize("sicken", [jobs_is_a_file, jobs_leads_nowhere, folder_is_a_file, log_is_a_folder])
def test_a_sick_state_folder_at_a_start_is_said_and_costs_the_job_nothing(service, sicken):
    """The job was "running" without a process, and said nothing, until the folder was well again."""
    service.script([[["wait_file", service.root + "/go"], ["done"]], TRAIN])
    service.start()
    first, job = service.submit(), service.submit()
    service.wait(first, "running")
    mend = sicken(service.state, job)
    service.post(f"/v1/jobs/{first}/cancel", expect=200)
    why = service.until(lambda: waits(service, job, "retry"))
    assert why.startswith("the worker did not start: ") and service.state[-20:] in why and f"jobs/{job}" in why
    event = service.get(f"/v1/jobs/{job}/events")["events"][-1]
    assert service.job(job)["state"] != "failed" and event["trigger"] in ("lost", "start")
    attempt = service.get(f"/v1/jobs/{job}/attempts")["attempts"][0]
    assert attempt["class"] == attempt["blame"] == "host" and attempt["detail"] == why
    mend()
    with open(service.root + "/go", "w"):
        pass
    assert service.wait(job, "succeeded")["error"] is None


def test_a_spool_that_is_out_of_reach_is_said_in_the_jobs_events(service):
    service.script([[["start"], ["flush"], ["mute"], ["scalars", 0, 20], ["event", {"type": "done", "result": None}], ["hang"]]])
    service.start()
    job = service.submit(20)
    service.until(lambda: spooled(service, job, '"done"'))
    mend = jobs_leads_nowhere(service.state, job)
    for pid in service.worker_pids():
        os.kill(pid, signal.SIGKILL)
    told = service.until(lambda: [e for e in service.get(f"/v1/jobs/{job}/events")["events"] if e["trigger"] == "spool"])
    assert "cannot be read" in told[0]["detail"] and service.job(job)["state"] == "running"
    mend()
    assert service.wait(job, "succeeded")["attempts"] == 1 and service.curve(job)["step"] == list(range(20))


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
        json.dump({"format": "cifar10", "train": 1, "test": 1, "digest": "0" * 32, "mean": [1, 2, 3], "remark": "data_batch_2.bin is missing"}, f)
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
    (["--nonsense"], "--nonsense"), (["--import-root", "/no/such/folder"], "--import-root"), (["--import-root", "/etc/passwd"], "--import-root"),
    (["--import-root", ""], "--import-root"), (["--state"], "--state"), (["--state", "--web"], "--state"), (["--dataset", "x"], "--dataset"),
    (["--dataset", "=x"], "--dataset"), (["--dataset", "a="], "--dataset"), (["--dataset", "a/b=/tmp"], "--dataset"),
    (["--listen", "tls:8700"], "--listen"), (["--listen", "localhost:8700"], "--listen"), (["--listen", "[::1:8700"], "--listen"),
    (["--prefix", "mulund"], "--prefix"), (["--prefix", "/v1"], "--prefix"), (["--prefix", "/a/"], "--prefix"), (["--prefix", "/a/../b"], "--prefix"),
    (["--allowed-hosts", "a/b"], "--allowed-hosts"), (["--socket-group", "a b"], "--socket-group"), (["--single-user", "true"], "--single-user"),
    (["--token-rate", "-1"], "--token-rate"),
    (["--listen", "127.0.0.1"], "--listen"), (["--listen", "127.0.0.1:70000"], "--listen"), (["word"], "word")])
def test_usage_errors(service, arguments, option):
    r = subprocess.run([service.command()[0], *arguments], capture_output=True, text=True, timeout=60)
    assert r.returncode == 2 and option in r.stderr, r.stderr


@pytest.mark.parametrize("option, nearest", [("--confg", "--config"), ("--check-conf", "--check-config"), ("--docter", "--doctor"), ("--hlep", "--help"), ("--datset", "--dataset")])
def test_the_nearest_option_is_told(service, option, nearest):
    r = subprocess.run([service.command()[0], option], capture_output=True, text=True, timeout=60)
    assert r.returncode == 2 and f"mulund: {option}: there is no such option; is it {nearest} that is meant?" in r.stderr, r.stderr


def test_help_and_version(service):
    mulund = service.command()[0]
    assert "--dataset" in subprocess.run([mulund, "--help"], capture_output=True, text=True, timeout=60).stdout
    assert subprocess.run([mulund, "--version"], capture_output=True, text=True, timeout=60).stdout.startswith("mulund ")


def test_environment_at_fault(service):
    def run(*more):
        return subprocess.run(service.command(*more), capture_output=True, text=True, timeout=60)

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


def test_a_state_has_one_daemon(service):
    service.script([SLOW])
    service.start()
    job = service.submit(100000)
    service.wait_step(job, 3)
    link = service.root + "/link"
    os.symlink(service.state, link)
    for state in (service.state, link):
        r = subprocess.run(service.command("--state", state), capture_output=True, text=True, timeout=60)
        assert r.returncode == 1 and f"another mulund (pid {service.process.pid}) uses this state" in r.stderr, r.stderr
    j = service.job(job)
    assert j["state"] == "running" and j["attempts"] == 1
    service.kill()
    service.start()
    service.wait_step(job, j["progress"]["step"] + 3)
    assert service.job(job)["attempts"] == 1


def test_a_state_that_others_can_write_is_refused(service):
    os.mkdir(service.state)
    os.chmod(service.state, 0o777)
    r = subprocess.run(service.command(), capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and "others may write" in r.stderr and os.listdir(service.state) == []
    os.chmod(service.state, 0o750)
    if os.geteuid() != 0:
        return
    os.chown(service.state, 12345, -1)
    r = subprocess.run(service.command(), capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and "belongs to user 12345" in r.stderr and os.listdir(service.state) == []


def test_a_line_of_the_log_is_one_whatever_a_path_holds(service):
    os.mkdir(service.root + "/x\n2026-01-01T00:00:00.000Z error forged\x1b[2J\x9b31m")
    service.start("--dataset", f"evil={service.root}/x\n2026-01-01T00:00:00.000Z error forged\x1b[2J\x9b31m")
    assert "data set evil: " in service.logged() and "forged?[2J??31m" in service.logged()
    assert not [line for line in service.logged().splitlines() if line.startswith("2026-01-01")]


def test_paths_that_are_not_utf8_are_refused(service):
    def run(*more):
        return subprocess.run([os.fsencode(x) for x in service.command()] + list(more), capture_output=True, timeout=60)

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
    harmless = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR, 16, signal.SIGPIPE, signal.SIGWINCH]
    for number in harmless:  # 16: SIGSTKFLT
        service.process.send_signal(number)
    service.until(lambda: service.logged().count("nothing to do") == len(harmless) - 2)  # those that are ignored anyway
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
    hidden, = (e[13:].decode() for e in environment.split(b"\0") if e.startswith(b"MULUN_HIDDEN="))  # see worker/sandbox.h
    assert hidden.split("\n") == [f"{service.state}/{name}" for name in ("mulund.db*", "backups", "webhooks")]
    assert os.readlink(f"/proc/{pid}/cwd") == f"{service.state}/jobs/{job}"


def test_downloads_leave_descriptors_to_workers(service):
    """512 slow downloads at 1,024 descriptors: every job failed, for want of one."""
    import resource
    service.script([[["start"], ["done"]]])
    service.start(prefix=["prlimit", "--nofile=1024:1024"])
    job = service.submit()
    service.wait(job, "succeeded")
    with open(f"{service.state}/jobs/{job}/log", "wb") as f:  # more than a socket's buffers hold
        f.write(b"x" * (64 << 20))
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
        # 364 connections are let in, the last sixteenth of them for newcomers: some 340 downloads, with a file each
        service.until(lambda: len(os.listdir(f"/proc/{service.process.pid}/fd")) > 640)
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
        r = subprocess.run(service.command(), capture_output=True, text=True, timeout=60)
        assert r.returncode == 1 and "damaged" in r.stderr and "mulund.db" in r.stderr, r.stderr
        assert open(path, "rb").read() == damage


def test_full_disk_loses_nothing(service):
    """The database cannot grow; when it can again, everything arrives."""
    with small_state(service, "3m"):
        service.script([[["start"], ["scalars", 0, 100], ["flush"], ["wait_file", service.root + "/full"], ["scalars", 100, 4000], ["done"]]])
        service.start()
        job = service.submit(4000)
        service.until(lambda: service.curve(job)["points_total"] == 100)
        fill(service)
        os.close(os.open(service.root + "/full", os.O_CREAT | os.O_WRONLY))
        service.until(lambda: "the store cannot write" in service.logged())
        time.sleep(1)
        assert service.job(job)["state"] == "running"
        assert service.logged().count("the store cannot write") == 1
        os.unlink(service.state + "/ballast")
        service.wait(job, "succeeded")
        assert service.curve(job)["step"] == list(range(4000))


def test_at_rest_it_sleeps(service):
    with open(service.command()[0], "rb") as f:
        if b"__tsan_init" in f.read():
            pytest.skip("the thread sanitizer has a thread of its own that wakes up")
    service.start()

    def switches():
        n = 0
        for task in os.listdir(f"/proc/{service.process.pid}/task"):
            for line in open(f"/proc/{service.process.pid}/task/{task}/status"):
                if line.startswith("voluntary_ctxt_switches"):
                    n += int(line.split()[1])
        return n

    def sleeps(seconds):
        before = switches()
        time.sleep(seconds)
        return switches() == before

    service.until(lambda: sleeps(1))  # the start is over
    assert sleeps(2)


@pytest.mark.parametrize("seed", range(3))
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
