"""Backups while the daemon runs, and what is restored from them."""
import glob
import os
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time

import pytest
import requests

from service import MULUND, TRAIN, Service, rows, small_state

CTL = os.path.join(os.path.dirname(MULUND), "../ctl/mulunctl")
LONG = [["start"], ["train", 2000, 0.01, 20], ["done", {"bpd": 3.5}]]


def ctl(*arguments, code=0):
    r = subprocess.run([CTL, *arguments], capture_output=True, text=True, timeout=120)
    assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
    return r.stdout.strip() if code == 0 else r.stderr


def backup(service, *name):
    return ctl("--server", service.url, "backup", *name)


@pytest.fixture
def other():
    s = Service([TRAIN])
    yield s
    s.close()


def start_on(other, folder, data=None):
    """A daemon of its own on what is restored there."""
    ctl("restore", folder, other.state)
    if data:
        other.data = data
    return other.start()


def test_a_backup_of_a_running_daemon_starts_elsewhere(service, other):
    service.script([LONG])
    service.start()
    over = service.submit(20, seed=2)
    running = service.submit(2000)
    service.script([TRAIN], of=2)
    service.wait_step(running, 60, seconds=60)
    folder = backup(service, "first")
    assert folder == f"{service.state}/backups/first" and os.path.exists(folder + "/backup.json")
    then = service.job(running)["progress"]["step"]
    start_on(other, folder)
    assert {j["id"] for j in other.get("/v1/jobs")["jobs"]} == {over, running}
    done = other.wait(running, "succeeded", seconds=60)  # from its last checkpoint, by the other daemon's own worker
    assert done["attempts"] >= 2
    steps = other.curve(running)["step"]
    copied = other.get(f"/v1/jobs/{running}/attempts")["attempts"][-1]["first_step"]  # on a slow machine it was further than the script goes
    assert steps[:20] == list(range(20)) and steps[-1] == max(copied, 100) - 1
    assert service.job(running)["state"] == "running" and service.job(running)["progress"]["step"] >= then


def test_checkpoints_are_linked_and_logs_are_copied(service):
    service.script([TRAIN])
    service.start()
    job = service.submit(100)
    service.wait(job, "succeeded")
    with open(f"{service.state}/jobs/{job}/log.times", "ab") as f:  # there once the worker has said something
        f.write(bytes(16))
    folder = backup(service)
    (checkpoint,) = glob.glob(f"{service.state}/jobs/{job}/step-100.safetensors") or glob.glob(f"{service.state}/jobs/{job}/step-9*.safetensors")[:1]
    name = os.path.basename(checkpoint)
    assert os.path.samefile(checkpoint, f"{folder}/jobs/{job}/{name}")
    for written_in_place in ("log", "log.times", "identity"):
        assert not os.path.samefile(f"{service.state}/jobs/{job}/{written_in_place}", f"{folder}/jobs/{job}/{written_in_place}")
    assert sqlite3.connect(f"{folder}/mulund.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert requests.delete(f"{service.url}/v1/jobs/{job}", timeout=60).status_code == 204
    assert os.path.exists(f"{folder}/jobs/{job}/{name}") and not os.path.exists(checkpoint)


def test_names_are_taken_once_and_stay_inside(service):
    service.start()
    backup(service, "one")
    assert "there is a backup of that name" in ctl("--server", service.url, "backup", "one", code=1)
    for name in ("../out", ".hidden", "a/b", "x" * 65):
        ctl("--server", service.url, "backup", name, code=2)
    for name in ("..%2fout", ".hidden", "a%2fb", "x" * 65):
        assert requests.post(f"{service.url}/v1/backups/{name}", json={}, timeout=60).status_code in (400, 404)
    assert os.listdir(service.state + "/backups") == ["one"]


def test_writes_go_on_while_one_is_made_and_all_that_it_names_is_there(service):
    service.script([[["start"], ["train", 600, 0.002, 5], ["done"]]])
    service.start()
    job = service.submit(600)
    service.wait_step(job, 20)
    folders = [backup(service, f"at-{i}") for i in range(6)]
    service.wait(job, "succeeded", seconds=60)
    for folder in folders:
        with sqlite3.connect(f"file:{folder}/mulund.db?mode=ro&immutable=1", uri=True) as db:
            names = [n for n, in db.execute("SELECT name FROM artifact WHERE job = ? AND NOT marked", (job,))]
        assert names and all(os.path.exists(f"{folder}/jobs/{job}/{name}") for name in names), (folder, names)
    assert rows(service, "PRAGMA integrity_check") == [("ok",)]


def many_files(service):
    """So that a backup takes a while."""
    os.makedirs(f"{service.state}/jobs/77")
    for i in range(3000):
        with open(f"{service.state}/jobs/77/attempt-{i}.events", "w") as f:
            f.write("x" * 1000)


def test_killed_while_one_is_made_it_leaves_nothing_that_looks_whole(service):
    service.start()
    many_files(service)
    thread = threading.Thread(target=lambda: subprocess.run([CTL, "--server", service.url, "backup", "torn"], capture_output=True))
    thread.start()
    service.until(lambda: os.path.exists(f"{service.state}/backups/torn.partial/jobs"))
    service.kill()
    thread.join()
    assert os.listdir(f"{service.state}/backups") == ["torn.partial"]
    assert "is no whole backup" in ctl("restore", f"{service.state}/backups/torn.partial", f"{service.root}/restored", code=1)
    assert not os.path.exists(f"{service.root}/restored")
    service.start()
    assert os.listdir(f"{service.state}/backups") == [] and "half a backup" in service.logged()


def test_an_end_of_the_daemon_gives_it_up(service):
    service.start()
    many_files(service)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(requests.post(service.url + "/v1/backups/torn", json={}, timeout=60)))
    thread.start()
    service.until(lambda: os.path.exists(f"{service.state}/backups/torn.partial/jobs"))
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(10) == 0 and time.monotonic() - began < 5
    thread.join()
    assert answers[0].status_code == 503 and os.listdir(f"{service.state}/backups") == []


def test_what_stands_in_the_way_of_a_restore_is_left_alone(service):
    service.start()
    folder = backup(service, "one")
    target = f"{service.root}/target"
    os.makedirs(target + "/mine")
    assert "there is something already" in ctl("restore", folder, target, code=1)
    assert os.listdir(target) == ["mine"]
    os.rmdir(target + "/mine")
    assert ctl("restore", folder, target + "/") == target
    assert "mulund.db" in os.listdir(target) and "backup.json" not in os.listdir(target) and "lock" not in os.listdir(target)
    assert "is no whole backup" in ctl("restore", target, f"{service.root}/again", code=1)


def another_file_system(service):
    for folder in ("/dev/shm", "/var/tmp", "/tmp"):
        if os.stat(folder).st_dev != os.stat(service.root).st_dev and os.access(folder, os.W_OK):
            return folder
    pytest.skip("all folders are of one file system")


def test_a_backup_is_restored_on_another_file_system(service, other):
    service.script([TRAIN])
    service.start()
    job = service.submit(100)
    service.wait(job, "succeeded")
    folder = backup(service, "one")
    with tempfile.TemporaryDirectory(dir=another_file_system(service)) as there:
        state, other.state = other.state, there + "/state"
        start_on(other, folder)
        assert other.job(job)["state"] == "succeeded" and other.curve(job)["points_total"] == 100
        (checkpoint, *_) = other.artifacts(job)
        assert requests.get(f"{other.url}/v1/artifacts/{checkpoint['id']}", timeout=60).content == open(f"{folder}/jobs/{job}/{checkpoint['name']}", "rb").read()
        other.kill()
        other.state = state


def test_what_was_moved_to_another_disk_and_linked_is_in_a_backup(service):
    service.script([TRAIN])
    service.start()
    job = service.submit(100)
    service.wait(job, "succeeded")
    os.rename(f"{service.state}/jobs/{job}", f"{service.root}/large")
    os.symlink(f"{service.root}/large", f"{service.state}/jobs/{job}")
    with open(f"{service.root}/far.images", "w") as f:
        f.write("images")
    os.symlink(f"{service.root}/far.images", f"{service.state}/datasets/far.images")
    os.symlink("/etc", f"{service.root}/large/etc")  # what a job makes leads nowhere
    folder = backup(service, "one")
    assert not os.path.islink(f"{folder}/jobs/{job}") and set(os.listdir(f"{folder}/jobs/{job}")) == set(os.listdir(f"{service.root}/large")) - {"etc"}
    assert open(f"{folder}/datasets/far.images").read() == "images" and not os.path.islink(f"{folder}/datasets/far.images")
    os.rename(f"{service.root}/large", f"{service.root}/not-mounted")
    answer = requests.post(service.url + "/v1/backups/two", json={}, timeout=60)
    assert answer.status_code == 500 and f"jobs/{job}: cannot be copied: No such file or directory" in answer.text
    assert os.listdir(service.state + "/backups") == ["one"]


@pytest.mark.parametrize("target, said", [("link", "is a link"), ("file", "there is something already"), ("full", "there is something already"),
                                          ("backup/inside", "lies in the backup itself")])
def test_where_nothing_can_be_restored_is_said(service, target, said):
    backup_folder = service.root + "/backup"
    os.makedirs(backup_folder + "/jobs")
    with open(backup_folder + "/backup.json", "w") as f:
        f.write('{"mulund": "1", "made": "now"}')
    os.makedirs(service.root + "/full/of")
    open(service.root + "/file", "w").close()
    os.symlink("nowhere", service.root + "/link")
    before = sorted(os.listdir(service.root))
    assert said in ctl("restore", backup_folder, f"{service.root}/{target}", code=1)
    assert sorted(os.listdir(service.root)) == before and sorted(os.listdir(backup_folder)) == ["backup.json", "jobs"]
    assert "the folder's path is empty" in ctl("restore", backup_folder, "", code=2)


def test_a_mount_point_is_said_to_be_one(service):
    service.start()
    folder = backup(service, "one")
    small = Service()
    with small_state(small, "1m"):
        assert "is a mount point" in ctl("restore", folder, small.state, code=1)
        assert ctl("restore", folder, small.state + "/mulund") == small.state + "/mulund"


def test_a_full_disk_is_said(service):
    service.environment["MULUND_DISK_RESERVE_MIB"] = str(1 << 40)
    service.start()
    r = requests.post(service.url + "/v1/backups/x", json={}, timeout=60)
    assert r.status_code == 507, r.text
