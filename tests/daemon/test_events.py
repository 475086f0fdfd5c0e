"""What workers say, in their own name or another's: on the socket, in spools, in folders."""
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

from service import SLOW, TRAIN, Service, kept, spooled


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
    told = [e["detail"] for e in service.get(f"/v1/jobs/{job}/events")["events"] if e["trigger"] == "spool"]
    assert len(told) == 1 and "something that its worker said was not applied" in told[0], "its user sees it, too"
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


def test_a_name_that_is_too_long_is_refused_and_its_user_is_told(service):
    """B7: 200 bytes are one, 201 are none; and nothing else of the run is lost."""
    names = ["\u00e9" * 100, "\u00e9" * 100 + "x"]
    events = [["event", {"type": "scalars", "step": [3], "time_ms": [1], "columns": {name: [1.5]}}] for name in names]
    service.script([[["start"], ["scalars", 0, 10], *events, ["scalars", 10, 20], ["done"]]])
    service.start()
    job = service.submit(20)
    service.wait(job, "succeeded")
    assert [s["name"] for s in service.get(f"/v1/jobs/{job}/series")["series"]] == ["train/bpd", names[0]]
    assert service.curve(job)["step"] == list(range(20))
    told, = [e["detail"] for e in service.get(f"/v1/jobs/{job}/events")["events"] if e["trigger"] == "spool"]
    assert "200" in told, told


@pytest.mark.parametrize("line", [["what is this\n"], ["x", 2 << 20, "\n"], ['{"type":"progress","seq":900}\n'],
                                  ['{"type":"stopped","seq":90,"step":3}\n']])
def test_a_spool_with_a_line_that_was_not_applied_is_kept(service, line):
    service.script([[["start"], ["flush"], ["mute"], ["scalars", 0, 20], ["spool", *line], ["crash"]], TRAIN])
    service.start()
    job = service.submit(20)
    service.wait(job, "succeeded")
    assert kept(service, job) == ["attempt-1.kept"]
    assert service.logged().count("was not applied") == 1


@pytest.mark.parametrize("spooled_only", [False, True])
def test_packed_columns_arrive(service, spooled_only):
    service.script([[["start"], ["flush"], *([["mute"]] if spooled_only else []), ["packed", 40], ["scalars", None, 60], ["packed", 300],
                     ["event", {"type": "done", "result": None}], ["crash"] if spooled_only else ["leave"]]])
    service.start()
    job = service.submit(300)
    assert service.wait(job, "succeeded")["attempts"] == 1
    assert service.curve(job)["step"] == list(range(300))
    other = service.curve(job, "train/\u00e9")
    assert other["points_total"] == 280 and sum(other["minus_infinity"]) == 280
    service.until(lambda: kept(service, job) == kept(service, job, "events") == [])


@pytest.mark.parametrize("spooled_only", [False, True])
def test_a_damaged_packed_line_holds_up_nothing_and_is_kept(service, spooled_only):
    """Of a name's last bytes: it has its number, and what it says is not understood."""
    service.script([[["start"], ["flush"], *([["mute"]] if spooled_only else []), ["packed", 40, {3: 7}], ["packed", 60],
                     ["event", {"type": "done", "result": None}], ["crash"] if spooled_only else ["leave"]]])
    service.start()
    job = service.submit(60)
    service.wait(job, "succeeded")
    assert service.curve(job)["step"] == list(range(40, 60))
    assert kept(service, job) == ["attempt-1.kept"] and "printable" in service.logged()


def test_a_spool_that_was_applied_is_removed(service):
    service.script([[["start"], ["flush"], ["mute"], ["scalars", 0, 20], ["spool", '{"type":"torn'], ["crash"]], TRAIN])
    service.start()
    job = service.submit(20)
    service.wait(job, "succeeded")
    service.until(lambda: kept(service, job) == kept(service, job, "events") == [])


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


def fifo(path):
    if os.path.lexists(path):
        os.remove(path)
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["attempt-1.events", "attempt-1.lock", "log", "log.times", "identity"])
def test_a_fifo_in_a_jobs_folder_holds_up_nobody(service, name):
    """Opening one waits for who writes: for good, and with it the daemon and each that is started after it."""
    service.script([SLOW])
    service.start()
    job = service.submit(20)
    service.wait_step(job, 20)
    fifo(f"{service.state}/jobs/{job}/{name}")
    for pid in service.worker_pids():
        os.kill(pid, signal.SIGKILL)
    service.until(lambda: service.logged().count("(lost)") or "spool cannot be read" in service.logged() or "cannot start" in service.logged(), 20)
    assert requests.get(service.url + "/healthz", timeout=10).status_code == 200
    service.kill(signal.SIGTERM)
    service.start()
    service.post(f"/v1/jobs/{job}/cancel", expect=200)
    service.wait(job, "cancelled", seconds=20)
    assert requests.get(f"{service.url}/v1/jobs/{job}/log", timeout=10).status_code == 200


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


@pytest.mark.parametrize("by_a_start", [False, True])
def test_a_folder_that_was_half_made_goes_with_its_job(service, by_a_start):
    """Its job was removed before it ran again; by_a_start: the daemon was killed between its mark and its files."""
    service.script([SLOW])
    service.start()
    first, job = service.submit(100000), service.submit()
    os.makedirs(f"{service.state}/jobs/{job}.new")
    open(f"{service.state}/jobs/{job}.new/identity.XYZ", "w").close()
    service.post(f"/v1/jobs/{job}/cancel", expect=200)
    if by_a_start:
        service.wait(first, "running", seconds=60)
        service.kill()
        with sqlite3.connect(service.state + "/mulund.db") as db:
            db.execute("UPDATE job SET marked = 1 WHERE id = ?", (job,))
        service.start()
    else:
        assert requests.delete(f"{service.url}/v1/jobs/{job}", timeout=15).status_code == 204
    assert not [name for name in os.listdir(f"{service.state}/jobs") if name.startswith(str(job))]
    assert requests.get(f"{service.url}/v1/jobs/{job}", timeout=15).status_code == 404


def test_a_folder_that_was_half_made_is_made(service):
    """Its daemon was killed before the folder had its marker: it is nobody's, and nobody is told."""
    folder = f"{service.state}/jobs/1.new"
    os.makedirs(folder)
    open(folder + "/identity.XYZ", "w").close()
    service.script([TRAIN])
    service.start()
    job = service.submit(20)
    assert job == 1 and service.wait(job, "succeeded")
    assert not os.path.exists(folder) and "aside" not in service.logged()


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


@pytest.mark.parametrize("lock_delay", ["0", "600"])
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
    service.environment["SCRIPT_LOCK_DELAY"] = "600"
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
    for hello in ({"type": "hello", "protocol": 9, "protocol_min": 3, "job": job, "attempt": 1, "pid": 1},
                  {"type": "hello", "protocol": 1, "job": job, "attempt": 77, "pid": 1}, {"type": "hello", "protocol": 2, "job": job, "attempt": 1, "pid": 1},
                  {"type": "hello", "protocol": 1, "job": 5, "attempt": 1, "pid": 1}, {"type": "hello", "protocol": 1, "job": job, "attempt": 1, "pid": 1},
                  {"type": "hello", "protocol": 1, "job": job, "attempt": 1, "pid": 1, "identity": "0" * 32}, {"type": "stopped", "seq": 1, "step": 1}):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect(service.state + "/worker.sock")
        s.sendall((json.dumps(hello) + "\n").encode())
        assert s.recv(100) == b""
    assert "it speaks protocols 3 to 9, this daemon 1 to 2" in service.logged()
    step = service.job(job)["progress"]["step"]
    service.wait_step(job, step + 5)
    assert os.stat(service.state + "/worker.sock").st_mode & 0o777 == 0o600
    assert os.stat(service.state).st_mode & 0o777 == 0o750
