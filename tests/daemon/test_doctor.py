"""mulund --doctor and mulunctl doctor: what a start would meet."""
import os
import signal
import sqlite3
import subprocess

import pytest

from service import MULUND, WORKER, small_state

CTL = os.path.join(os.path.dirname(MULUND), "../ctl/mulunctl")


def doctor(service, *more, command=None, code=0):
    command = command or [*service.command(), "--doctor"]
    r = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, env={**os.environ, **service.environment})
    assert r.returncode == code, r.stdout + r.stderr
    return r.stdout


def test_all_is_well_and_nothing_is_made(service):
    text = doctor(service)
    assert "BAD" not in text and "ok    SQLite 3." in text and "ok    libmicrohttpd " in text and "device cpu: A processor" in text
    assert "is not there yet" in text and not os.path.exists(service.state)


def test_a_state_in_use_is_no_fault(service):
    service.start()
    assert "a daemon uses it" in doctor(service)
    service.get("/v1/jobs")


@pytest.mark.parametrize("what", ["mode", "worker", "web", "dataset", "descriptors"])
def test_what_is_wrong_is_said(service, what):
    os.mkdir(service.state)
    more = []
    if what == "mode":
        os.chmod(service.state, 0o777)
        expected = "chmod go-w"
    elif what == "worker":
        more = ["--worker", "/no/such/worker"]
        expected = "BAD   worker /no/such/worker: cannot be started"
    elif what == "web":
        os.rmdir(service.web)
        expected = "BAD   dashboard"
    elif what == "dataset":
        more = ["--dataset", "gone=/no/such/folder"]
        expected = "BAD   data set gone"
    else:
        more = None
        expected = "BAD   descriptors: 400"
    if more is None:
        text = doctor(service, command=["bash", "-c", 'ulimit -n 400; exec "$@"', "x", *service.command(), "--doctor"], code=1)
    else:
        text = doctor(service, *more, code=1)
    assert expected in text, text


BROKEN = {
    "newer": (lambda state: sqlite3.connect(state + "/mulund.db").execute("PRAGMA user_version = 99").connection.close(), "from a newer mulund"),
    "damaged": (lambda state: os.truncate(state + "/mulund.db", 9000), "the database is damaged"),
    "folder": (lambda state: (os.remove(state + "/mulund.db"), os.mkdir(state + "/mulund.db")), "it is no regular file"),
    "fifo": (lambda state: (os.remove(state + "/mulund.db"), os.mkfifo(state + "/mulund.db")), "it is no regular file"),
    "link": (lambda state: (os.remove(state + "/mulund.db"), os.symlink("/no/such/disk/mulund.db", state + "/mulund.db")), "is its disk mounted?"),
    "jobs": (lambda state: (os.rmdir(state + "/jobs"), os.symlink("/no/such/disk/jobs", state + "/jobs")), "jobs: "),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_state_on_which_no_start_succeeds_is_said_before(service, what):
    """And a start changes nothing of it: no new database comes in the place of one whose disk is not there."""
    service.start()
    service.kill(signal.SIGTERM)
    spoil, said = BROKEN[what]
    before = sorted(os.listdir(service.state))
    assert "ok    database" in doctor(service) and sorted(os.listdir(service.state)) == before, "who looks leaves nothing"
    spoil(service.state)
    assert said in doctor(service, code=1)
    kind = os.lstat(service.state + "/mulund.db").st_mode
    service.start(wait=False)
    assert service.process.wait(20) == 1 and said in service.logged()
    assert os.lstat(service.state + "/mulund.db").st_mode == kind


@pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root")
def test_root_looks_with_the_eyes_of_the_states_owner(service):
    """As of an installed mulund, whose user is its own."""
    os.chmod(service.root, 0o755)
    os.mkdir(service.state, 0o750)
    os.chown(service.state, 65534, 65534)
    text = doctor(service)
    assert "looks as user 65534 (nobody)" in text and f"ok    state {service.state}: ours" in text
    os.mkdir(service.state + "/jobs", 0o700)  # root's: no start could use it
    assert f"BAD   {service.state}/jobs: " in doctor(service, code=1)
    other = doctor(service, command=["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", *service.command(), "--doctor"])
    assert "another user's, and was not looked at" in other


def test_a_database_that_a_start_will_change_is_said(service):
    service.start()
    service.kill(signal.SIGTERM)
    with sqlite3.connect(service.state + "/mulund.db") as db:
        db.execute("PRAGMA user_version = 11")
    db.close()
    assert "note  database: of an older mulund" in doctor(service)


def test_a_full_disk_is_said(service):
    with small_state(service, "8m"):
        service.environment["MULUND_DISK_RESERVE_MIB"] = "64"
        assert "BAD   " in doctor(service, code=1)


def test_a_driver_without_a_gpu_that_can_be_used_is_told_from_none(service):
    service.environment["SCRIPT_PROBE"] = '{"devices": [], "cuda": "no module for it"}'
    assert "note  no GPU: no module for it" in doctor(service, code=1 if os.path.exists("/proc/driver/nvidia/version") else 0)


def test_mulunctl_asks_the_program_beside_it(service):
    path = service.root + "/mulund.conf"
    with open(path, "w") as f:
        f.write(f"[daemon]\nstate = {service.state}\nworker = {WORKER}\n[server]\nweb = {service.web}\nconfigs = {service.configs}\n")
    assert f"state {service.state}: is not there yet" in doctor(service, command=[CTL, "doctor", path])
    with open(path, "a") as f:
        f.write("nonsense = 1\n")
    r = subprocess.run([CTL, "doctor", path], capture_output=True, text=True, timeout=60)
    assert r.returncode == 2 and "mulund.conf:7: there is no such key" in r.stderr
