#!/usr/bin/python3
"""Every call of a program fails once, and no job is failed for it.

    faults.py mulund|fault-player [--sample N] [--seed S] [--only TEXT] [--jobs N]

A first run of the scenario writes down at which places the program calls something (inject.c says what a place is).
Then the scenario is run once for each place and each way in which that call can fail (--sample: so many of them, drawn
by the seed, each call's name by turns). After it: every job is what it was asked to be, none was failed on the way,
nothing that was acknowledged is missing, the database is whole, and the daemon never ended but with a reason in its log,
after which the next one went on.
"""
import argparse
import collections
import concurrent.futures
import errno
import glob
import json
import mmap
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

import requests

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE + "/../daemon", HERE + "/.."]
import service  # noqa: E402
from quick import quick  # noqa: E402

BUILD = os.environ.get("FAULT_BUILD", HERE + "/../../build/tests/fault")
PAGE_BYTES = 256
# A log that cannot be written is lost.
DEVICE, MEMORY, TABLE = ("EIO", "ENOSPC"), ("ENOMEM",), ("EMFILE", "ENOMEM")
WAYS = {
    "open": ("EMFILE", "EIO", "ENOSPC"), "openat": ("EMFILE", "EIO"), "read": ("EIO", "EINTR", "short"), "pread": ("EIO", "short"),
    "write": ("EIO", "ENOSPC", "EINTR", "short"), "pwrite": ("EIO", "ENOSPC", "short"), "fsync": DEVICE, "fdatasync": DEVICE,
    "ftruncate": DEVICE, "fallocate": DEVICE, "rename": DEVICE, "unlink": ("EIO",), "link": DEVICE, "mkdir": DEVICE, "pipe2": ("EMFILE",), "socket": TABLE,
    "connect": ("ENOMEM", "EINTR"), "accept4": ("EMFILE", "ENOMEM", "EINTR"), "send": ("ENOMEM", "EINTR", "short"),
    "recv": ("ENOMEM", "EINTR", "short"), "epoll_ctl": ("ENOMEM", "ENOSPC"), "pidfd_open": TABLE, "posix_spawn": ("ENOMEM", "EAGAIN"),
    "mmap": MEMORY, "malloc": MEMORY, "calloc": MEMORY, "realloc": MEMORY}
LIBRARY = "in a thread of a library"
STEPS = 40
# How a line says which of them it was. A thread that cannot be made for want of memory is one that is not available.
SAYS = {"ENOMEM": "memory|temporarily unavailable", "EIO": "nput/output error", "ENOSPC": "No space left|is full", "EMFILE": "Too many open files",
        "EAGAIN": "temporarily unavailable", "EINTR": "Interrupted", "short": "No space left"}
# SQLite keeps to itself why a file could not be opened, and what befell the journal of a database that is being made.
SAYS = {way: f"{text}|could only be opened for reading|unable to open database file|mulund.db.new: disk I/O error" for way, text in SAYS.items()}
# What the scenario's own kill brings about: a worker that had no assignment yet.
EXPECTED = re.compile("ended while no daemon watched it|a failure of class (host|lost)|not JSON: line 1, column 0")
# What failed once, and is run whatever the sample is: call, two functions of ours on its stack.
ALWAYS = {
    "mulund": [
        ("calloc", "loop_add_timer", "datasets_describe"),  # a data set was gone until the next start
        ("posix_spawn", "process_spawn", "datasets_describe"),
        ("calloc", "worker_new", "start_job"),  # a job stayed "running" without a worker
        ("malloc", "json_parse_flags", "fill_job"),  # what could not be read was taken for wrong: 422
        ("malloc", "request_body", "jobs_submit"),
        ("malloc", "submission_from_json", "jobs_submit"),  # 422, too; and an evaluation without its overrides
        ("malloc", "answer_curve", "read_series"),  # a point was left out of a curve
        ("open", "is_ours", "folder_claim"),  # a job's folder was set aside, with its checkpoints
        ("open", "is_ours", "recover"),
        ("read short", "is_ours", "folder_claim"),  # again
        ("open", "db_open", "store_open"),  # SQLite was content with reading
        ("malloc", "event_decode", "take_lines"),
    ],
    "fault-player": [
        ("pread", "service", "channel_send"),  # the attempt ended
        ("malloc", "event_encode", "record"),  # and was charged to the job
        ("realloc", "buf_reserve", "record"),
    ]}


class Failure(Exception):
    pass


class Sick(service.Service):
    """A daemon that may end itself with a reason, and is started again."""

    def __init__(self, **environment):
        super().__init__(MULUND_RETRY_MS="40", MULUND_STOP_TIMEOUT_MS="1500", MULUND_DISK_RESERVE_MIB="1", **environment)
        self.answers = []  # of 500 and above
        self.ends = 0

    def command(self, *more):
        command = super().command("--device", "one=cpu:0", "--device", "two=cpu:1", *more)
        command[command.index("--worker") + 1] = BUILD + "/fault-player"
        return command

    def up(self):
        """Runs and serves, after starts that ended with a reason."""
        for _ in range(4):
            begin = os.path.getsize(self.root + "/log") if os.path.exists(self.root + "/log") else 0
            self.start(wait=False)
            end = time.monotonic() + 15
            while self.process.poll() is None and time.monotonic() < end:
                m = re.search(r"listens on (http://127.0.0.1:\d+)/", self.logged(begin))
                if m:
                    self.url = m.group(1)
                    return self
                time.sleep(0.01)
            if self.process.poll() is None:
                raise Failure("it neither serves nor ends")
            self.check_end(begin)
        raise Failure("it does not start any more")

    def check_end(self, begin=0):
        self.ends += 1
        if self.process.returncode < 0:
            raise Failure(f"it was ended by signal {-self.process.returncode}")
        if " error " not in self.logged(begin) and "mulund: " not in self.logged(begin):
            raise Failure(f"it ended with {self.process.returncode} without a reason in its log")
        if self.ends > 3:
            raise Failure("it ends again and again")

    def ask(self, method, path, body=None, fine=(), key=None):
        """The answer; asked again where the daemon could not. fine: codes of 400 and above that are answers, too."""
        end = time.monotonic() + 12
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self.check_end()
                self.up()
            try:
                r = requests.request(method, self.url + path, json=body if method == "POST" else None, timeout=5,
                                     headers={"Idempotency-Key": key} if key else {})
            except requests.exceptions.ReadTimeout:
                raise Failure(f"{method} {path} is not answered")
            except requests.RequestException:
                self.answers.append("the connection ended")
                time.sleep(0.02)
                continue
            if r.status_code < 400 or r.status_code in fine:
                return r
            if r.status_code < 500:
                raise Failure(f"{method} {path}: {r.status_code} {r.text}")
            self.answers.append(r.text)
            time.sleep(0.05)
        raise Failure(f"{method} {path} is not answered well: {self.answers[-1]}")

    def new(self, key, steps=STEPS, **body):
        config = {"data": {"dataset": "scripted"}, "training": {"num_steps_train": steps, "batch_size_train": 8, "num_steps_eval": 0}}
        return self.ask("POST", "/v1/jobs", body or {"kind": "train", "config": config}, key=key).json()["id"]

    def state_of(self, job):
        return self.ask("GET", f"/v1/jobs/{job}").json()["state"]

    def reaches(self, job, *states):
        end = time.monotonic() + 12
        state = None
        while time.monotonic() < end:
            state = self.state_of(job)
            if state in states:
                return state
            if state == "failed":
                raise Failure(f"job {job} is failed: {self.ask('GET', f'/v1/jobs/{job}').json()['error']}")
            time.sleep(0.02)
        raise Failure(f"job {job} stays {state}, not {states}")

    def act(self, job, action, state):
        self.ask("POST", f"/v1/jobs/{job}/{action}", {}, fine=(409,))
        return self.reaches(job, *state)


def scenario(s):
    s.up()
    first, long, third, fourth = s.new("a"), s.new("b", 1000000), s.new("c"), s.new("d", 20)
    s.act(third, "cancel", ("cancelled", "succeeded"))
    s.reaches(first, "succeeded")
    evaluation = s.new("e", kind="evaluate", checkpoint={"job": first, "which": "latest"}, method="sparse")
    s.act(long, "pause", ("paused",))
    s.act(long, "resume", ("queued", "running"))
    s.reaches(long, "running")
    for path in ("/v1/jobs", f"/v1/jobs/{first}/log", f"/v1/jobs/{first}/events", "/v1/devices", f"/v1/jobs/{long}/series"):
        s.ask("GET", path)
    if s.process.poll() is None:
        s.kill()
    s.up()
    s.reaches(evaluation, "succeeded")
    s.reaches(fourth, "succeeded")
    s.act(long, "cancel", ("cancelled",))
    check_files(s, long)
    check_curve(s, first, STEPS)
    check_curve(s, fourth, 20)
    s.ask("DELETE", f"/v1/jobs/{third}", fine=(404,))
    s.until(lambda: s.ask("GET", f"/v1/jobs/{third}", fine=(404,)).status_code == 404, 10)
    if s.process.poll() is None and s.kill(signal.SIGTERM) != 0:
        raise Failure(f"it ended with {s.process.returncode} at SIGTERM")
    s.up()  # what was left behind is tidied by the next
    s.until(lambda: not untidied(s), 10)
    s.kill(signal.SIGTERM)
    check_store(s)


def check_curve(s, job, steps):
    curve = s.ask("GET", f"/v1/series?jobs={job}&names=train/bpd&points=10000").json()["series"]
    if not curve or curve[0]["step"] != list(range(steps)):
        raise Failure(f"job {job}: its curve is {curve[0]['step'] if curve else None}")
    check_files(s, job)


def check_files(s, job):
    """Whatever is listed is there; a checkpoint that retention is removing is listed a moment longer."""
    def missing():
        listed = s.ask("GET", f"/v1/jobs/{job}/artifacts").json()["artifacts"]
        return [a["name"] for a in listed if not os.path.exists(f"{s.state}/jobs/{job}/{a['name']}")]

    s.until(lambda: not missing(), 10)


def untidied(s):
    with sqlite3.connect(f"file:{s.state}/mulund.db?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM attempt WHERE ended_us = 0").fetchone()[0]


def check_store(s):
    with sqlite3.connect(s.state + "/mulund.db") as db:
        whole = db.execute("PRAGMA integrity_check").fetchone()[0]
        jobs = db.execute("SELECT count(*) FROM job").fetchone()[0]
    if whole != "ok" or jobs != 4:
        raise Failure(f"the database: {whole}, {jobs} jobs")


def unsaid(way, stack, s):
    """What the fault brought about without a line that says which it was, or None."""
    lines = [line for line in s.text.splitlines() if " info " not in line and not EXPECTED.search(line)]
    seen = lines + s.answers
    if stack == LIBRARY and set(seen) == {"the connection ended"}:
        return None  # libmicrohttpd's own, which has nobody to tell
    if seen and not any(re.search(SAYS[way], line) for line in seen):
        return f"nobody says why: {seen[0]}"
    return None


class Page:
    """What the library counts, for all processes of a scenario."""

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix="fault-")
        self.file.write(bytes(PAGE_BYTES))
        self.file.flush()
        self.map = mmap.mmap(self.file.fileno(), PAGE_BYTES)

    @property
    def fired(self):
        return self.map[8] != 0

    @property
    def what(self):
        return self.map[16:].split(b"\0")[0].decode()


def run(program, **fault):
    """What went wrong, or None; the service, which is closed, has its log in text."""
    environment = {"LD_PRELOAD": BUILD + "/fault-inject.so", "FAULT_PROGRAM": program, **fault}
    if program != "mulund":
        environment["MULUND_WORKER_ENVIRONMENT"] = "SERVICE_ROOT LD_PRELOAD FAULT_*"
    s = Sick(**environment)
    try:
        scenario(s)
        return None, s
    except (Failure, AssertionError) as e:
        return str(e).split("\n", 1)[0], s
    except (requests.RequestException, sqlite3.Error, LookupError, TypeError) as e:
        return f"an answer or the database is not what it should be: {e!r}", s
    finally:
        s.text = s.logged() + "".join(read(path) for path in glob.glob(s.state + "/jobs/*/log"))
        s.close()


def read(path):
    with open(path, errors="replace") as f:
        return f.read()


def find_places(program, times):
    """place -> (name, addresses), of some runs: what depends on the moment is in one or the other."""
    places = {}
    for _ in range(times):
        with tempfile.NamedTemporaryFile(prefix="fault-") as f:
            wrong, s = run(program, FAULT_RECORD=f.name)
            if wrong:
                sys.exit(f"the scenario fails without a fault: {wrong}\n{s.text}")
            for line in open(f.name):
                name, place, *addresses = line.split()
                places[place] = name, addresses
    return places


def choose(plans, n, seed):
    """n of them, of each call's name by turns."""
    groups = collections.defaultdict(list)
    for plan in plans:
        groups[plan[0]].append(plan)
    for group in groups.values():
        random.Random(seed).shuffle(group)
    chosen = []
    while len(chosen) < n and any(groups.values()):
        chosen += [group.pop() for group in groups.values() if group]
    return chosen[:n]


def name_stacks(program, places):
    """place -> its stack in words, nearest first."""
    path = service.MULUND if program == "mulund" else f"{BUILD}/{program}"
    every = sorted({a for _, addresses in places.values() for a in addresses})
    text = subprocess.run(["addr2line", "-i", "-a", "-f", "-e", path], input="\n".join(hex(int(a, 16) - 1) for a in every), capture_output=True, text=True).stdout
    names = [" < ".join(part.split("\n")[1:-1:2]) for part in re.split("^0x", text, flags=re.M)[1:]]
    found = dict(zip(every, names))
    return {place: " < ".join(found[a] for a in addresses) or LIBRARY for place, (_, addresses) in places.items()}


def always(program, plans, stacks):
    """One of each that is always run: of a call, or of a call and a way."""
    chosen = []
    for name, *functions in ALWAYS[program]:
        of = [p for p in plans if name in (p[0], f"{p[0]} {p[2]}") and all(f in stacks[p[1]].split(" < ") for f in functions)]
        if not of:
            print(f"{program}: no {name} in {' < '.join(functions)} this time, which is to be run always", flush=True)
        chosen += of[:1]
    return chosen


def attempt(program, plan, stack):
    name, place, way = plan
    page = Page()
    begin = time.monotonic()
    wrong, s = run(program, FAULT_PAGE=page.file.name, FAULT_PLACE=place, FAULT_WITH=way if way == "short" else str(getattr(errno, way)))
    if not wrong and page.fired:
        wrong = unsaid(way, stack, s)
    return {"plan": plan, "wrong": wrong, "fired": page.fired, "what": page.what, "where": stack, "seconds": time.monotonic() - begin,
            "log": s.text, "answers": s.answers, "ends": s.ends}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program", choices=["mulund", "fault-player"])
    p.add_argument("--sample", type=int, default=0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", default="")
    p.add_argument("--jobs", type=int, default=3)
    p.add_argument("--report", default="", help="a file for a line of JSON a run")
    o = p.parse_args()
    tempfile.tempdir = quick()
    places = find_places(o.program, 2)
    plans = sorted((name, place, way) for place, (name, _) in places.items() for way in WAYS[name])
    stacks = name_stacks(o.program, places)
    plans = [plan for plan in plans if o.only in " ".join(plan) and (plan[2] not in DEVICE or not stacks[plan[1]].startswith("log_line"))]
    print(f"{o.program}: {len(places)} places, {len(plans)} ways to fail", flush=True)
    if o.sample:
        plans = always(o.program, plans, stacks) + choose(plans, o.sample, o.seed)
    wrong = fired = 0
    report = open(o.report, "w") if o.report else None
    with concurrent.futures.ThreadPoolExecutor(o.jobs) as pool:
        for r in pool.map(lambda plan: attempt(o.program, plan, stacks[plan[1]]), plans):
            fired += r["fired"]
            wrong += bool(r["wrong"])
            if r["wrong"]:
                print(f"{' '.join(r['plan'])}: {r['wrong']}\n    {r['what']}\n    {r['where']}", flush=True)
            if report:
                report.write(json.dumps(r) + "\n")
                report.flush()
    print(f"{o.program}: {len(plans)} runs, {fired} with their fault, {wrong} went wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
