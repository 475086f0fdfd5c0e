"""The installed service under a systemd that runs: a restart while training, reload, watchdog, socket."""
import json
import os
import subprocess
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(HERE + "/../..")
BUILD = os.environ["MULUND_BUILD"]
SOCKET = "/var/lib/mulund/mulund.sock"


def until(ready, seconds=60):
    end = time.monotonic() + seconds
    while not (value := ready()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return value


class Machine:
    """Namespaces with a systemd as their first process."""

    def __init__(self, folder):
        self.log = open(folder / "console", "w+")
        (folder / "machine").mkdir()
        self.boot = subprocess.Popen(["unshare", "--mount", "--pid", "--cgroup", "--fork", "--kill-child", "--ipc", "--uts", "--net", HERE + "/boot.sh",
                                      str(folder / "machine")], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.pid = None
        end = time.monotonic() + 60
        while self.boot.poll() is None and time.monotonic() < end and not self.is_up():
            time.sleep(0.1)
        if not self.is_up():
            self.close()
            self.log.seek(0)
            pytest.skip("no systemd runs here: " + self.log.read()[-300:].replace("\n", " "))

    def is_up(self):
        try:
            with open(f"/proc/{self.boot.pid}/task/{self.boot.pid}/children") as f:
                self.pid = int(f.read())
            with open(f"/proc/{self.pid}/comm") as f:
                return f.read() == "systemd\n" and self.run("systemctl", "is-system-running", check=False) in ("running", "degraded")
        except (OSError, ValueError):
            return False

    def run(self, *command, check=True):
        r = subprocess.run(["nsenter", "-t", str(self.pid), "-m", "-p", "-C", "-i", "-u", "-n", f"--root=/proc/{self.pid}/root", "--wd=/", "env", "-i",
                            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", *command], capture_output=True, text=True, timeout=90)
        assert not check or r.returncode == 0, (command, r.stdout, r.stderr, self.journal())
        return r.stdout.strip()

    def journal(self):
        return self.run("journalctl", "-u", "mulund", "--no-pager", "-n", "40", "-o", "cat", check=False)

    def write(self, path, text):
        path = f"/proc/{self.pid}/root{path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def get(self, path):
        return json.loads(self.run("curl", "-sS", "--max-time", "10", "--unix-socket", SOCKET, "http://localhost" + path))

    def main_pid(self):
        return int(self.run("systemctl", "show", "mulund", "-p", "MainPID", "--value"))

    def close(self):
        self.boot.kill()
        self.boot.wait()


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    folder = tmp_path_factory.mktemp("systemd")
    m = Machine(folder)
    try:
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], check=True, timeout=120,
                       env={**os.environ, "DESTDIR": f"/proc/{m.pid}/root"}, stdout=subprocess.DEVNULL)
        prefix = m.run("find", "/usr/local", "/usr", "-path", "*/systemd/system/mulund.service").split("\n")[0].split("/lib/")[0]
        m.run("systemd-sysusers", f"{prefix}/lib/sysusers.d/mulund.conf")
        m.run("systemd-tmpfiles", "--create", f"{prefix}/lib/tmpfiles.d/mulund.conf")
        m.settings = m.run("find", "/etc/mulund", f"{prefix}/etc/mulund", "-name", "mulund.conf", check=False).split("\n")[0]
        m.run("cp", "-r", f"{ROOT}/data/photos32", "/srv/photos32")
        m.write(m.settings, "[daemon]\ndisk-reserve = 0\n[datasets]\nphotos32 = /srv/photos32\n")
        m.run("systemctl", "daemon-reload")
        m.run("systemctl", "start", "mulund")
        yield m
    finally:
        m.close()


@pytest.fixture(scope="module")
def job(machine):
    """One that trains as long as the tests last, by the service's own user."""
    text = machine.run("mulunctl", "--server", SOCKET, "submit", "photos32-tiny", "--set", "training.num_steps_train=100000", "--set", "training.num_steps_eval=0",
                       "--set", "training.num_steps_lr_warmup=1", "--set", "training.batch_size_train=1", "--set", "training.steps_per_logging=1")
    number = int(text)
    until(lambda: step_of(machine, number) >= 3)
    return number


def step_of(machine, job):
    answer = machine.get(f"/v1/jobs/{job}")
    assert answer["state"] == "running" or not answer["attempts"], answer
    return answer["progress"]["step"]


def worker_of(machine):
    """Its process and its control group."""
    pids = machine.run("pgrep", "-u", "mulund", "-f", "libexec.*mulun-worker").split()
    assert len(pids) == 1
    return int(pids[0]), machine.run("grep", "^0:", f"/proc/{pids[0]}/cgroup")


def served_again(machine, before):
    until(lambda: machine.main_pid() not in (0, before) and machine.run("curl", "-s", "--unix-socket", SOCKET, "http://localhost/healthz", check=False))


def check_whole(machine, job):
    """It goes on in its one attempt, and each of its steps is there once."""
    after = step_of(machine, job) + 2
    until(lambda: step_of(machine, job) >= after, 120)
    assert machine.get(f"/v1/jobs/{job}")["attempts"] == 1
    curve, = machine.get(f"/v1/series?jobs={job}&names=train/bpd&points=10000")["series"]
    assert curve["points_total"] == len(curve["step"]) >= after - 1 and curve["step"] == list(range(len(curve["step"])))


def test_a_restart_while_training_loses_nothing_and_costs_no_step(machine, job):
    """E2: also by a daemon that is killed, whom systemd starts again."""
    worker, before = worker_of(machine), machine.main_pid()
    assert worker[1].endswith("/attempt-1") and "mulund.service" in worker[1]
    machine.run("systemctl", "restart", "mulund")
    served_again(machine, before)
    assert worker_of(machine) == worker
    before = machine.main_pid()
    machine.run("kill", "-9", str(before))
    served_again(machine, before)
    assert worker_of(machine) == worker
    check_whole(machine, job)


def test_a_reload_changes_settings_and_nothing_else(machine, job):
    worker, before = worker_of(machine), machine.main_pid()
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reload", "mulund")
    until(lambda: "was read again" in machine.journal())
    assert machine.main_pid() == before and worker_of(machine) == worker
    check_whole(machine, job)


def test_a_daemon_that_hangs_is_started_again_by_the_watchdog(machine, job):
    machine.write("/etc/systemd/system/mulund.service.d/watchdog.conf", "[Service]\nWatchdogSec=3s\n")
    machine.run("systemctl", "daemon-reload")
    before = machine.main_pid()
    machine.run("systemctl", "restart", "mulund")
    served_again(machine, before)
    worker, before = worker_of(machine), machine.main_pid()
    time.sleep(4)
    assert machine.main_pid() == before, "it says that it lives"
    machine.run("kill", "-STOP", str(before))
    served_again(machine, before)
    assert machine.run("systemctl", "show", "mulund", "-p", "NRestarts", "--value") == "1" and worker_of(machine) == worker
    check_whole(machine, job)


def test_who_comes_through_the_socket_starts_the_daemon_and_waits(machine):
    machine.run("systemctl", "stop", "mulund")
    machine.run("systemctl", "start", "mulund.socket")
    assert machine.main_pid() == 0
    assert json.loads(machine.run("curl", "-sS", "--max-time", "60", "http://127.0.0.1:8700/healthz"))["status"] == "ok"
    assert machine.main_pid() != 0
    machine.run("systemctl", "restart", "mulund")
    assert json.loads(machine.run("curl", "-sS", "--max-time", "60", "http://127.0.0.1:8700/healthz"))["status"] == "ok"
