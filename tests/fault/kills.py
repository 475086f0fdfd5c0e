#!/usr/bin/python3
"""Daemon, workers or both are killed at random moments, while people submit, cancel, pause, resume, retry, change and
remove jobs on two busy devices; and nothing that was said to anybody is taken back.

    kills.py [--kills N] [--seed S] [--power N]

What a client was told is written down when it is told: submissions, and of each job the points and checkpoints that it
saw, by attempt. At the end every job comes to its end, and all of that is there; the database is whole; no job failed.
--power: so many times the power goes, too: what was not synced is gone (power.c).
"""
import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time

import requests

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE + "/../daemon", HERE + "/.."]
import service  # noqa: E402
from quick import quick  # noqa: E402

BUILD = os.environ.get("FAULT_BUILD", HERE + "/../../build/tests/fault")
OPEN = ("queued", "running", "paused")
ROUND = 25  # kills of one state


class Told:
    """What clients know, and are to find again."""

    def __init__(self):
        self.jobs = {}  # id -> number of steps
        self.removed = set()
        self.points = {}  # (job, attempt) -> the last step that was seen
        self.checkpoints = {}  # job -> the newest step


class Lab(service.Service):
    def __init__(self, power):
        super().__init__(MULUND_RETRY_MS="30", MULUND_STOP_TIMEOUT_MS="1000", MULUND_WORKER_ENVIRONMENT="SERVICE_ROOT LD_PRELOAD FAULT_*")
        self.shadow = self.root + "/shadow"
        os.mkdir(self.shadow)
        if power:
            self.environment |= {"LD_PRELOAD": BUILD + "/fault-power.so", "FAULT_STATE": self.state, "FAULT_SHADOW": self.shadow}
        self.told = Told()
        self.up = threading.Event()
        self.starts = 0

    def command(self, *more):
        command = super().command("--device", "one=cpu:0", "--device", "two=cpu:1", *more)
        command[command.index("--worker") + 1] = BUILD + "/fault-player"
        return command

    def begin(self):
        self.start()
        self.starts += 1
        self.up.set()

    def worker_pids(self):
        pids = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    player = f.read().split(b"\0")[0].endswith(b"/fault-player")
                with open(f"/proc/{name}/environ", "rb") as f:
                    if player and self.tag.encode() in f.read():
                        pids.append(int(name))
            except OSError:
                pass
        return pids

    def kill_workers(self, chance=1.0):
        for pid in self.worker_pids():
            if random.random() < chance:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    # ---- clients

    def ask(self, method, path, body=None, key=None):
        """An answer, or None: there is no daemon, or it was killed meanwhile."""
        self.up.wait(20)
        try:
            return requests.request(method, self.url + path, json=body, timeout=20, headers={"Idempotency-Key": key} if key else {})
        except requests.RequestException:
            return None

    def submit_one(self, rng, n):
        """Asked until there is an answer: the key makes it one job."""
        steps = rng.choice((10, 30, 80, 200))
        config = {"data": {"dataset": "scripted"}, "training": {"num_steps_train": steps, "batch_size_train": 8, "num_steps_eval": 0}}
        body = {"kind": "train", "config": config, "priority": rng.randrange(-2, 3)}
        for _ in range(40):
            r = self.ask("POST", "/v1/jobs", body, key=f"{id(rng)}-{n}")
            if r is not None and r.status_code < 500:
                assert r.status_code == 201, r.text
                self.told.jobs[r.json()["id"]] = steps
                return

    def act_once(self, rng):
        job = rng.choice([*self.told.jobs] or [1])
        action = rng.choice(("cancel", "pause", "resume", "resume", "retry", "remove", "change", "look", "look"))
        if action == "look":
            self.look(job)
        elif action == "change":
            self.ask("PATCH", f"/v1/jobs/{job}", {"priority": rng.randrange(-2, 3)})
        elif action == "remove":
            r = self.ask("DELETE", f"/v1/jobs/{job}")
            if r is None or r.status_code in (200, 202, 204):  # or it may have been
                self.told.removed.add(job)
        else:
            self.ask("POST", f"/v1/jobs/{job}/{action}", {})

    def look(self, job):
        attempts = self.ask("GET", f"/v1/jobs/{job}/attempts")
        for number in range(1, len(attempts.json()["attempts"]) + 1) if attempts is not None and attempts.status_code == 200 else ():
            last = self.last_step(job, number)
            if last is not None:
                self.told.points[job, number] = max(last, self.told.points.get((job, number), -1))
        listed = self.newest_checkpoint(job)
        if listed is not None:
            self.told.checkpoints[job] = max(listed, self.told.checkpoints.get(job, -1))

    def last_step(self, job, attempt):
        r = self.ask("GET", f"/v1/series?jobs={job}&names=train/bpd&points=10000&attempt={attempt}")
        curves = r.json().get("series") if r is not None and r.status_code == 200 else None
        return curves[0]["step"][-1] if curves and curves[0]["step"] else None

    def newest_checkpoint(self, job):
        r = self.ask("GET", f"/v1/jobs/{job}/artifacts")
        steps = [a["step"] for a in r.json()["artifacts"] if a["kind"] == "checkpoint"] if r is not None and r.status_code == 200 else []
        return max(steps, default=None)

    def client(self, seed, stop):
        rng = random.Random(seed)
        n = 0
        while not stop.is_set():
            if rng.random() < 0.2 or not self.told.jobs:
                self.submit_one(rng, n)
                n += 1
            else:
                self.act_once(rng)
            time.sleep(rng.uniform(0, 0.03))

    # ---- faults

    def power_goes(self):
        """All processes end at once; the state is what was synced."""
        self.up.clear()
        self.kill()
        self.kill_workers()
        while self.worker_pids():
            time.sleep(0.005)
        inode = os.stat(self.state).st_ino
        os.rename(self.state, self.root + "/lost")
        self.make_anew(inode, self.state)
        numbers = {}  # the new files have other numbers; what is durable stays so
        for path, before in self.made:
            numbers[before] = os.stat(path).st_ino
        self.renumber(numbers)
        shutil.rmtree(self.root + "/lost")

    def make_anew(self, inode, path, top=True):
        if top:
            self.made = []
        os.mkdir(path, 0o750)
        self.made.append((path, inode))
        names = f"{self.shadow}/folder-{inode}"
        for line in open(names) if os.path.exists(names) else ():
            name, number = line.rstrip("\n").rsplit(" ", 1)
            lost = path.replace(self.state, self.root + "/lost", 1) + "/" + name
            content = f"{self.shadow}/file-{number}"
            if os.path.exists(f"{self.shadow}/folder-{number}") or os.path.isdir(lost):
                self.make_anew(int(number), path + "/" + name, False)
            elif os.path.exists(content):
                shutil.copyfile(content, path + "/" + name)
                os.chmod(path + "/" + name, 0o640)
                self.made.append((path + "/" + name, int(number)))
            elif not name.endswith(".sock"):
                open(path + "/" + name, "w").close()
                self.made.append((path + "/" + name, int(number)))

    def renumber(self, numbers):
        kept = {}
        for name in os.listdir(self.shadow):
            with open(f"{self.shadow}/{name}", "rb") as f:
                kept[name] = f.read()
        shutil.rmtree(self.shadow)
        os.mkdir(self.shadow)
        for name, content in kept.items():
            kind, _, number = name.partition("-")
            if not number.isdigit() or int(number) not in numbers:
                continue
            if kind == "folder":
                lines = [line.rsplit(b" ", 1) for line in content.splitlines()]
                content = b"".join(b"%s %d\n" % (n, numbers[int(i)]) for n, i in lines if int(i) in numbers)
            with open(f"{self.shadow}/{kind}-{numbers[int(number)]}", "wb") as f:
                f.write(content)

    def fault(self, rng, power):
        what = "power" if power else rng.choice(("daemon", "worker", "both"))
        if what == "power":
            self.power_goes()
            self.begin()
            return
        if what != "daemon":
            self.kill_workers(0.7)
        if what != "worker":
            self.up.clear()
            self.kill()
            if rng.random() < 0.3:
                time.sleep(rng.uniform(0, 0.2))
            self.begin()

    # ---- the end

    def settle(self):
        """All that is paused goes on, and everything comes to its end."""
        end = time.monotonic() + 120
        refused = ""
        while time.monotonic() < end:
            jobs = [j for state in OPEN for j in self.get("/v1/jobs", state=state, limit=200)["jobs"]]
            if not jobs:
                return
            for job in jobs:
                if job["state"] == "paused":
                    r = self.post(f"/v1/jobs/{job['id']}/resume")
                    refused = r.text if r.status_code >= 400 else refused
            time.sleep(0.1)
        raise AssertionError(f"these do not end: {[(j['id'], j['state'], j['waiting']) for j in jobs]} {refused}")

    def check(self):
        told = self.told
        for job, steps in told.jobs.items():
            r = self.ask("GET", f"/v1/jobs/{job}")
            if job in told.removed and r.status_code == 404:
                continue
            assert r.status_code == 200, f"job {job} is lost"
            j = r.json()
            assert j["state"] in ("succeeded", "cancelled"), f"job {job} is {j['state']}: {j['error']}"
            if j["state"] == "succeeded":
                assert self.curve(job)["step"] == list(range(steps)), f"job {job} of {steps} steps: {self.curve(job)['step']}"
            for (of, attempt), step in told.points.items():
                if of == job:
                    assert (self.last_step(job, attempt) or 0) >= step, f"job {job}, attempt {attempt}: step {step} was seen, and is gone"
            newest = self.newest_checkpoint(job)
            assert job not in told.checkpoints or (newest is not None and newest >= told.checkpoints[job]), f"job {job}: checkpoint {told.checkpoints[job]} is gone: {newest}"
            for a in self.artifacts(job):
                size = os.path.getsize(f"{self.state}/jobs/{job}/{a['name']}")
                assert size == a["bytes"], f"job {job}: {a['name']} has {size} bytes of {a['bytes']}"
        self.kill(signal.SIGTERM)
        with sqlite3.connect(self.state + "/mulund.db") as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert not db.execute("SELECT count(*) FROM attempt WHERE ended_us = 0").fetchone()[0]


def run_round(seed, kills, power):
    random.seed(seed)
    rng = random.Random(seed)
    lab = Lab(power)
    stop = threading.Event()
    errors = []

    def client(n):
        try:
            lab.client(f"{seed}-{n}", stop)
        except AssertionError as e:
            errors.append(str(e))

    try:
        lab.begin()
        clients = [threading.Thread(target=client, args=(n,)) for n in range(3)]
        for c in clients:
            c.start()
        at_power = set(rng.sample(range(kills), power))
        try:
            for k in range(kills):
                time.sleep(rng.uniform(0.01, 0.35))
                lab.fault(rng, k in at_power)
        finally:
            stop.set()
            lab.up.set()
            for c in clients:
                c.join()
        assert not errors, errors[0]
        lab.settle()
        jobs = len(lab.told.jobs)
        lab.check()
        print(f"seed {seed}: {kills} kills, {power} of them of the power; {lab.starts} starts, {jobs} jobs, {len(lab.told.points)} attempts' points and "
              f"{len(lab.told.checkpoints)} jobs' checkpoints seen", flush=True)
    except BaseException:
        print(f"seed {seed}:\n{lab.logged()[-6000:]}")
        raise
    finally:
        lab.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--power", type=int, default=0)
    o = p.parse_args()
    tempfile.tempdir = quick()
    rounds = max(o.kills // ROUND, 1)
    for n in range(rounds):
        run_round(o.seed + n, o.kills // rounds, o.power // rounds)


if __name__ == "__main__":
    main()
