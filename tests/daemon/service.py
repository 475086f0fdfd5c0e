"""A mulund of its own for a test: state folder, data set with a script, any free port."""
import datetime
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

import pytest
import requests

HERE = os.path.dirname(os.path.abspath(__file__))
WORKER = HERE + "/script_worker"
MULUND = os.environ.get("MULUND", os.path.join(HERE, "../../build/daemon/mulund"))


class Service:
    def __init__(self, script=None, **environment):
        self.root = tempfile.mkdtemp(prefix="mulund-")
        self.state = self.root + "/state"
        self.data = self.root + "/data"
        self.web = self.root + "/web"
        self.configs = self.root + "/configs"
        for folder in (self.data, self.web, self.configs):
            os.mkdir(folder)
        self.environment = {"MULUND_STOP_TIMEOUT_MS": "2000", "MULUND_RETRY_MS": "300", "MULUND_DISK_RESERVE_MIB": "0", "MULUND_SINGLE_USER": "yes", "SERVICE_ROOT": self.root,
                            "MULUND_WORKER_ENVIRONMENT": "SERVICE_ROOT SCRIPT_* PYTHON*", **environment}
        self.process = None
        self.workers = set()
        if script is not None:
            self.script(script)

    def script(self, attempts, of=None):
        """of: jobs of a seed or a kind alone."""
        path = f"{self.data}/script{'' if of is None else f'-{of}'}.json"
        with open(path, "w") as f:
            json.dump(attempts, f)

    def command(self, *more):
        return [MULUND, "--state", self.state, "--listen", "127.0.0.1:0", "--dataset", f"scripted={self.data}", "--web", self.web,
                "--configs", self.configs, "--worker", WORKER, *more]

    def start(self, *more, wait=True, prefix=()):
        self.log_path = f"{self.root}/log"
        self.log = open(self.log_path, "ab")
        begin = self.log.tell()
        self.process = subprocess.Popen([*prefix, *self.command(*more)], stderr=self.log, env={**os.environ, **self.environment})
        if wait:
            m = self.until(lambda: re.search(r"listens on (http://127.0.0.1:\d+)/", self.logged(begin)), 60)
            self.url = m.group(1)
        return self

    def logged(self, begin=0):
        with open(self.log_path, "rb") as f:
            f.seek(begin)
            return f.read().decode(errors="replace")

    def until(self, ready, seconds=60):
        end = time.monotonic() + seconds
        while True:
            value = ready()
            if value:
                return value
            if self.process.poll() not in (None, -signal.SIGKILL) and time.monotonic() > end - seconds + 1:  # not by us
                value = ready()
                assert value, f"mulund ended with {self.process.returncode}\n" + self.logged()
                return value
            assert time.monotonic() < end, "waited too long\n" + self.logged()
            time.sleep(0.02)

    # ---- HTTP

    def answered(self, method, path, answer):
        """For who looks at answers."""

    def get(self, path, **params):
        r = requests.get(self.url + path, params=params, timeout=60)
        self.answered("GET", path, r)
        assert r.status_code == 200, r.text
        return r.json()

    def post(self, path, body=None, expect=None):
        r = requests.post(self.url + path, json={} if body is None else body, timeout=60)
        self.answered("POST", path, r)
        if expect is not None:
            assert r.status_code == expect, r.text
        return r

    def submit(self, steps=100, seed=1, **more):
        config = {"data": {"dataset": "scripted"}, "training": {"num_steps_train": steps, "batch_size_train": 8,
                  "num_steps_eval": 0, "seed": seed}}
        for path, value in more.pop("overrides", {}).items():
            section, key = path.split(".")
            config.setdefault(section, {})[key] = value
        r = self.post("/v1/jobs", {"kind": "train", "config": config, **more})
        assert r.status_code == 201, r.text
        return r.json()["id"]

    def job(self, job):
        return self.get(f"/v1/jobs/{job}")

    def wait(self, job, *states, seconds=90):
        return self.until(lambda: (lambda j: j if j["state"] in states else None)(self.job(job)), seconds)

    def wait_step(self, job, step, seconds=90):
        return self.until(lambda: (lambda j: j if j["progress"]["step"] >= step else None)(self.job(job)), seconds)

    def curve(self, job, name="train/bpd", points=10000):
        series = self.get("/v1/series", jobs=str(job), names=name, points=points)["series"]
        return series[0] if series else {"step": [], "points_total": 0}

    def artifacts(self, job):
        return self.get(f"/v1/jobs/{job}/artifacts")["artifacts"]

    # ---- processes

    def worker_pids(self):
        pids = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    if not f.read().endswith(WORKER.encode() + b".py\0"):  # a zombie has none
                        continue
                with open(f"/proc/{name}/environ", "rb") as f:
                    environment = f.read()
            except OSError:
                continue
            if self.tag.encode() in environment:
                pids.append(int(name))
        return pids

    @property
    def tag(self):
        return f"SERVICE_ROOT={self.root}"

    def kill(self, signum=signal.SIGKILL):
        self.process.send_signal(signum)
        return self.process.wait(15)

    def close(self):
        """Ends and removes all of it; its log."""
        if self.process and self.process.poll() is None:
            self.kill()
        for pid in self.worker_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        log = self.logged() if self.process and os.path.exists(self.log_path) else ""
        shutil.rmtree(self.root, ignore_errors=True)
        assert "Sanitizer" not in log and "runtime error" not in log, log
        return log


def wall(text):
    """Seconds since 1970 of a time in an answer; None where there is none."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None


def spooled(service, job, text):
    """The path of a spool that has the text, or None."""
    folder = f"{service.state}/jobs/{job}"
    for name in kept(service, job, "events") if os.path.exists(folder) else []:
        with open(f"{folder}/{name}", errors="replace") as f:
            if text in f.read():
                return f.name
    return None


def waits(service, job, reason):
    """What holds up the job, when it is that."""
    why = service.job(job)["waiting"]
    return why["detail"] if why and why["reason"] == reason else None


TRAIN = [["start"], ["train", 100, 0.005, 10], ["done", {"bpd": 3.5}]]
SLOW = [["start"], ["train", 100000, 0.01, 20], ["done"]]


def rows(service, sql):
    with sqlite3.connect(service.state + "/mulund.db") as db:
        return db.execute(sql).fetchall()


@contextlib.contextmanager
def small_state(service, size):
    """The state on a file system of that size, which goes with it."""
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root")
    os.mkdir(service.state)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=750", "tmpfs", service.state], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        service.close()
        subprocess.run(["umount", "-l", service.state], capture_output=True)


def fill(service):
    """All that is left of it, with the file "ballast"."""
    with open(service.state + "/ballast", "wb", buffering=0) as f:
        try:
            while f.write(b"x" * 4096):
                pass
        except OSError:
            pass


def kept(service, job, suffix="kept"):
    folder = f"{service.state}/jobs/{job}"
    return [name for name in os.listdir(folder) if name.endswith("." + suffix)]
