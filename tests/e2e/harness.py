"""A real mulund with real workers, on a state folder and a port of its own."""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import requests

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("MULUND_BUILD", os.path.join(ROOT, "build"))
MULUND = os.path.join(BUILD, "daemon", "mulund")
MULUNCTL = os.path.join(BUILD, "ctl", "mulunctl")
WORKER = os.path.join(BUILD, "worker", "mulun-worker")
WEB = os.path.join(BUILD, "web", "site")  # not there in a build without the dashboard
PHOTOS = os.path.join(ROOT, "data", "photos32")
# the computation in float64 that tests/whole holds the worker against
sys.path.insert(0, os.path.join(ROOT, "tests", "whole"))
FINAL = ("succeeded", "failed", "cancelled")

# A network that is as small as it gets: a step takes a fraction of a second, a checkpoint has a few MB.
TINY = {"vdm_type": "vdm", "data": {"dataset": "photos32"},
        "model": {"gamma_type": "fixed", "sm_n_embd": 32, "sm_n_layer": 1, "sm_pdrop": 0.1},
        "training": {"seed": 7, "num_steps_lr_warmup": 5, "num_steps_train": 60, "num_steps_eval": 2, "batch_size_train": 4,
                     "batch_size_eval": 4, "steps_per_logging": 1, "steps_per_eval": 20, "steps_per_save": 10},
        "optimizer": {"learning_rate": 1e-3, "ema_rate": 0.9},
        "sampling": {"n_images": 4, "n_steps": 4},
        "machine": {"threads": 1, "plans": "rule"}}  # runs of several states are compared to the last bit


def config(**training):
    c = json.loads(json.dumps(TINY))
    c["training"].update(training)
    return c


def wait(condition, seconds=300, every=0.05):
    """The first true answer of condition()."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(every)


def free_port():
    """One below those that the system gives to connections: none of another test takes it while its daemon is down."""
    while True:
        port = random.randrange(10000, 32768)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def computed_bpd(checkpoint, n_images, of):
    """[n_images, 4] of a sparse evaluation of the first images of so many, by the average: bpd, recon, latent, diff."""
    import bound
    import files
    import numpy
    import program
    import tape
    found = files.Checkpoint(checkpoint)
    c = program.Config.of(found.config)
    p = {name: tape.Var(x) for name, x in found.section("ema").items()}
    images = program.photographs(n_images, "test")
    rows = [bound.sparse_draws(c, c["evaluation.seed"], i, of) for i in range(n_images)]
    return numpy.concatenate([bound.bits(bound.bound(p, c, images[i:i + 4], rows[i:i + 4])) for i in range(0, n_images, 4)])


def checkpoint_digest(path):
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(size))
        values = f.read()
    state = json.loads(header["__metadata__"].pop("state"))
    assert len(state.pop("identity")) == 32 and len(state["data"]) == 32
    return hashlib.sha256(json.dumps([header, state], sort_keys=True).encode() + values).hexdigest()


OF_THE_MACHINE = ("train/step_ms", "train/tflops", "train/flop_utilisation")


class Daemon:
    def __init__(self, folder, datasets=None):
        self.folder = str(folder)
        self.state = os.path.join(self.folder, "state")
        self.datasets = datasets or {"photos32": PHOTOS}
        self.options = []
        self.port, self.process = 0, None
        self.session = requests.Session()

    def start(self):
        if not self.port:  # the next one of this state takes the same
            self.port = free_port()
        command = [MULUND, "--state", self.state, "--listen", f"127.0.0.1:{self.port}", "--single-user", "yes", "--web", WEB if os.path.isdir(WEB) else self.folder,
                   "--configs", os.path.join(ROOT, "configs")]
        for name, path in self.datasets.items():
            command += ["--dataset", f"{name}={path}"]
        command += self.options
        with open(os.path.join(self.folder, "mulund.log"), "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait(self.answers)
        return self

    def answers(self):
        assert self.process.poll() is None, f"mulund ended with {self.process.returncode}:\n{self.log()}"
        try:
            return requests.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def log(self):
        with open(os.path.join(self.folder, "mulund.log"), encoding="utf-8", errors="replace") as f:
            return f.read()[-4000:]

    # ---- requests

    def get(self, path, **query):
        for again in range(3):
            try:
                r = self.session.get(f"{self.url}/v1/{path}", params=query, timeout=120)
                break
            except requests.ConnectionError:
                if again == 2:
                    raise
        assert r.status_code == 200, f"{r.status_code} {r.text}"
        return r.json()

    def post(self, path, body=None, expect=None):
        r = requests.post(f"{self.url}/v1/{path}", json=body if body is not None else {}, timeout=120)
        assert r.status_code == expect if expect else r.status_code < 300, f"{r.status_code} {r.text}"
        return r.json()

    def train(self, config, name="e2e"):
        return self.post("jobs", {"kind": "train", "config": config, "name": name}, 201)["id"]

    def job(self, n):
        return self.get(f"jobs/{n}")

    def step(self, n):
        return self.job(n)["progress"]["step"]

    def wait_state(self, n, *states, seconds=600):
        def look():
            j = self.job(n)
            if j["state"] in FINAL and j["state"] not in states:
                raise AssertionError(f"job {n} is {j['state']}: {j['error']}\n{self.job_log(n)}\n{self.log()}")
            return j if j["state"] in states else None
        return wait(look, seconds)

    def job_log(self, n):
        return self.session.get(f"{self.url}/v1/jobs/{n}/log", timeout=120).text[-4000:]

    def metrics(self, n):
        """Every point of every series that is not about the machine's speed and load: {name: [(step, value)]}."""
        names = [s["name"] for s in self.get(f"jobs/{n}/series")["series"]]
        names = [x for x in names if "second" not in x and not x.startswith("device/") and x not in OF_THE_MACHINE]
        if not names:
            return {}
        out = {}
        for s in self.get("series", jobs=n, names=",".join(names), points=10000)["series"]:
            assert s["bucket_width"] == 1
            out[s["name"]] = list(zip(s["step"], s["last"]))
        return out

    def checkpoints(self, n):
        """{step: digest of all that a checkpoint holds but the identity of its run}"""
        return {a["step"]: checkpoint_digest(os.path.join(self.state, "jobs", str(n), a["name"]))
                for a in self.get(f"jobs/{n}/artifacts")["artifacts"] if a["kind"] == "checkpoint"}

    # ---- processes

    def workers(self):
        """Worker processes of this state, whoever their parent is now."""
        out = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/exe").split(" ")[0] == os.path.realpath(WORKER) and \
                        os.readlink(f"/proc/{pid}/fd/2").startswith(os.path.realpath(self.state) + "/jobs"):
                    out.append(int(pid))
            except OSError:
                continue
        return out

    def kill_workers(self):
        pids = self.workers()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return pids

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.terminate()
        self.process.wait(120)

    def stop(self):
        """Leaves nothing behind."""
        if self.process and self.process.poll() is None:
            self.kill()
        self.kill_workers()
        shutil.rmtree(self.state, ignore_errors=True)
