"""A test server of its own for each module: real store in a temporary folder, a control that can be told to fail."""
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import requests

import openapi

HERE = pathlib.Path(__file__).parent
PUBLISHED = HERE.parent / "contract" / "published"
sys.path.insert(0, str(HERE.parent))
from quick import quick  # noqa: E402

START = {"memory_bytes": 1, "parameters": 1, "backend": "cpu", "threads": 1}  # what else a start event says


def pytest_configure():
    tempfile.tempdir = quick()


class Server:
    def __init__(self, folder, threads=2, idle_ms=0, rate=None):
        self.state, self.web, self.configs = folder / "state", folder / "web", folder / "configs"
        for f in (self.state, self.web, self.configs, self.web / "lib"):
            f.mkdir(parents=True, exist_ok=True)
        (self.web / "index.html").write_text("<!doctype html><title>mulund</title>")
        (self.web / "lib" / "api.js").write_text("export const x = 1;")
        (self.web / "secret.key").write_text("secret")
        (folder / "outside.txt").write_text("secret")
        if not (self.web / "link.txt").is_symlink():  # a state that had a server before
            (self.web / "link.txt").symlink_to(folder / "outside.txt")
        for f in PUBLISHED.glob("*.json"):
            (self.configs / f.name).write_text(f.read_text())
        (self.configs / "broken.json").write_text("{")
        self.process = subprocess.Popen([os.environ["TEST_SERVER"], self.state, self.web, self.configs, str(threads), "0", str(idle_ms),
                                         *([] if rate is None else [str(rate)])],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lock = threading.Lock()
        self.port = json.loads(self.process.stdout.readline())["port"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.description = None
        self.session = requests.Session()
        self.session.trust_env = False

    def tell(self, **command):
        with self.lock:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer

    def logged(self, enough):
        """Lines of the request log until enough(lines): one is written a moment after its answer has come."""
        lines, end = [], time.monotonic() + 60
        while not enough(lines):
            assert time.monotonic() < end, lines
            time.sleep(0.01)
            lines += self.tell(do="log")["lines"]
        return lines

    def request(self, method, path, **kwargs):
        kwargs.setdefault("timeout", 90)
        r = self.session.request(method, self.url + path, stream=True, **kwargs)
        if r.headers.get("Content-Type") == "text/event-stream":
            r.close()  # it has no end
        else:
            r.content
            self.check(method, path, r)
        return r

    def check(self, method, path, answer):
        """Every answer is what /openapi.json says."""
        if self.description is None:
            self.description = self.session.get(self.url + "/openapi.json", timeout=60).json()
        openapi.check(self.description, method, path, answer)

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def post(self, path, document=None, **kwargs):
        return self.request("POST", path, data=json.dumps(document if document is not None else {}),
                            headers={"Content-Type": "application/json", **kwargs.pop("headers", {})}, **kwargs)

    def raw(self, data, timeout=10, end=True):
        """Bytes as they are; all that comes back until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            try:
                s.sendall(data)
                if end:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            got = b""
            try:
                while b"Content-Type: text/event-stream" not in got and (part := s.recv(65536)):
                    got += part
            except OSError:
                pass
            return got

    def submit(self, config="cifar10-conditioned", **members):
        r = self.post("/v1/jobs", {"kind": "train", "config": config, **members})
        assert r.status_code == 201, r.text
        return r.json()["id"]

    def run(self, job, lines=(), state=None, **outcome):
        """The job runs, says these events, and ends in the state."""
        attempt = self.tell(do="start", job=job)["attempt"]
        if lines:
            self.tell(do="events", job=job, attempt=attempt, lines=[{"seq": i + 1, **x} for i, x in enumerate(lines)])
        if state:
            self.tell(do="end", job=job, state=state, **outcome)
        return attempt

    def processor_s(self):
        """What it has used since it began."""
        with open(f"/proc/{self.process.pid}/stat") as f:
            return sum(int(x) for x in f.read().rsplit(")", 1)[1].split()[11:13]) / os.sysconf("SC_CLK_TCK")

    def add_points(self, job, first, n, names, attempt=0):
        """Of the job's last attempt, or of one before it (-1, ..), straight into the store."""
        with sqlite3.connect(self.state / "mulund.db", timeout=60) as db:
            ids = [i for i, in db.execute("SELECT id FROM attempt WHERE job = ? ORDER BY id", (job,))]
        subprocess.run([os.environ["TEST_ADD_POINTS"], self.state, str(ids[attempt - 1]), str(first), str(n), *names], check=True)

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        self.process.stdout.close()


def problem(r, status, type_=None):
    """The answer is a problem document of that status."""
    assert r.status_code == status, (r.status_code, r.text)
    assert r.headers["Content-Type"] == "application/problem+json"
    d = r.json()
    assert d["status"] == status and d["title"] and isinstance(d["detail"], str) and d["type"].startswith("problems/")
    if type_:
        assert d["type"] == f"problems/{type_}"
    return d


def pointers(r):
    return [e["pointer"] for e in r.json()["errors"]]


def sanitized():
    """A sanitizer is slow, and keeps what was freed for a while."""
    with open(os.environ["TEST_SERVER"], "rb") as f:
        binary = f.read()
    return b"__asan_init" in binary or b"__tsan_init" in binary


@pytest.fixture(scope="session", autouse=True)
def swept(tmp_path_factory):
    """Nothing stays in memory."""
    yield
    shutil.rmtree(tmp_path_factory.getbasetemp(), ignore_errors=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("api"))
    yield s
    s.close()


def checkpoint(step, name=None, metric=None):
    return {"type": "artifact", "kind": "checkpoint", "step": step, "name": name or f"step-{step}.safetensors", "bytes": 1000,
            "xxh128": "0123456789abcdef0123456789abcdef", "metric": metric}
