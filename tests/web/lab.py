#!/usr/bin/python3
"""A real mulund whose workers play scripts, for tests and for developing: a lab with runs to compare.

    lab.py SITE [--live] [--many] [--locked] [--parts] [--below]        MULUND: its program, build/daemon/mulund by default

Prints the port when the runs are over, and serves until it is killed. Jobs 1 to 6 are of two learning rates with three
seeds each, 400 steps of a second and eight evaluations; job 3 has one value far off, job 5 a NaN. Job 7 stood still for an
hour halfway. Job 8 lost its host once, and was named after a template; what it logs has colours. A test may submit a job of seed 12,
which loses four steps; of 13, which has a NaN among 4,000 points; of 14, which tells of its device and, as evaluations do, of the
loss over diffusion time, and leaves a checkpoint of step 20; of 15, which goes on from one; of 16, whose series have odd names. With --live
job 9 goes on and on and tells of its device, and job 10 waits for it. With --many jobs 10 to 12009 are copies of job 1, none of which
runs; see spread(). With --locked it asks for tokens: one of each role follows the port. With
--parts the processor is two devices, a and b, and job 11 waits for both jobs 9 and 10. With
--below the port is that of an nginx with its defaults, below whose path /mulund/ it stands.
"""

import argparse
import datetime
import math
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", folder) for folder in ("daemon", "bench")]
from service import Service  # noqa: E402
from states import fill  # noqa: E402

STEPS, EVERY, START_MS = 400, 50, 1790000000000
HOUR_MS = 3600 * 1000
ODD = ["a, b", 'say "a"', "time/constructor", "constructor/toString", "__proto__"]


def clean(v):
    return v if math.isfinite(v) else "NaN"


def run(seed, rate, pause_at=None):
    """The script of a run: one attempt that says all of it at once."""
    r = random.Random(seed)

    def bpd(step):
        return 3 + 5 * math.exp(-step * rate * 8) + 0.02 * (seed % 3)

    def at(step):
        return START_MS + 1000 * step + (HOUR_MS if pause_at is not None and step >= pause_at else 0)
    values = [bpd(s) + r.gauss(0, 0.05) for s in range(STEPS)]
    if seed == 3:
        values[200] = 400.0
    if seed == 5:
        values[300] = math.nan
    evals = list(range(EVERY, STEPS + 1, EVERY))
    result = {"step": STEPS, "images": 8 * STEPS, "bpd": bpd(STEPS) + 0.1, "standard_error": 0.02, "test_images": 100, "weights": "ema"}
    return [[["start", 0],
             ["event", {"type": "scalars", "step": list(range(STEPS)), "time_ms": [at(s) for s in range(STEPS)],
                        "columns": {"train/bpd": [clean(v) for v in values], "train/learning_rate": [rate] * STEPS}}],
             ["event", {"type": "scalars", "step": evals, "time_ms": [at(s) for s in evals],
                        "columns": {"eval/bpd": [bpd(s) + 0.1 for s in evals], "eval/standard_error": [0.02] * len(evals)}}],
             ["event", {"type": "progress", "step": STEPS, "steps": STEPS, "images_per_second": 8.0, "seconds_left": 0.0}],
             ["log", f"seed {seed}"], ["done", result]]]


def troubled():
    attempt = [["start"], ["log", "\x1b[31mred alert\x1b[0m <b>from the host</b>"], ["train", 20, 0, 10]]
    return [attempt + [["error", "host", "the fan stood still", 20]], [["start"], ["log", "\x1b[1;32mall is well\x1b[0m"], ["train", 40, 0, 10], ["done", {"bpd": 5.0}]]]


def interrupted():
    """Its host is lost four steps after a checkpoint: the second attempt writes these steps anew."""
    return [[["start"], ["train", 20, 0, 20], ["train", 24, 0], ["error", "host", "the fan stood still", 24]], [["start"], ["train", 40, 0, 20], ["done", {"bpd": 5.0}]]]


def stamped(ms, text):
    """A line of a worker's log."""
    return ["log", f"{datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc).isoformat()} {text}"]


def long():
    """So many points that a browser asks for buckets; in one of them a value is not finite."""
    steps, odd = list(range(4000)), 1234
    told = {"type": "scalars", "step": steps, "time_ms": [START_MS + 1000 * s for s in steps], "columns": {"train/bpd": ["NaN" if s == odd else 4 + s % 2 for s in steps]}}
    return [[["start"], ["event", told], *[stamped(START_MS + 1000 * s, f"step {s}") for s in range(0, 4000, 100)], ["done", {"bpd": 5.0}]]]


def spread(service):
    """12,000 jobs of values that are told apart: the best are neither new nor old, 700 of the oldest have a learning rate of their own, and
    the same 700 and every tenth are paused."""
    service.kill(signal.SIGTERM)
    fill(service, 12000)
    with sqlite3.connect(service.state + "/mulund.db") as db:
        db.execute("""UPDATE job SET state = CASE WHEN id < 710 OR id % 10 = 0 THEN 5 WHEN state = 0 THEN 2 ELSE state END, name = 'run ' || id, owner = 'user ' || (id % 11), notes = 'of ' || (id * 31 % 1009),
            attempts = 1 + id % 5, step = id % 400, created_us = created_us + id, started_us = started_us + id, ended_us = started_us + (1 + id * 7919 % 10007) * 1000000, test_bpd = 3 + id * 7919 % 10007 / 10007.0 - (id = 4321) * 2,
            config = json_set(config, '$.training.seed', id, '$.optimizer.learning_rate', CASE WHEN id < 710 THEN 0.0005 ELSE 0.002 END) WHERE id >= 10""")
        db.execute("UPDATE job SET started_us = started_us / 1000 * 1000, ended_us = ended_us / 1000 * 1000")  # as an answer has them
        db.execute("UPDATE job SET result = json_set(result, '$.bpd', test_bpd) WHERE id >= 10")
    service.start()


def lock(service):
    """Starts it again as a server that knows nobody by where he comes from; answers a token of each role."""
    tokens = [service.post("/v1/tokens", {"name": f"{role}er", "role": role}, 201).json()["token"] for role in ("read", "submit", "admin")]
    service.kill(signal.SIGTERM)
    service.environment["MULUND_SINGLE_USER"] = "no"
    service.start()
    return tokens


NGINX = """
daemon off; pid {root}/nginx.pid; error_log stderr; worker_processes 1;
events {{ }}
http {{
    access_log off; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    server {{ listen 127.0.0.1:{port}; location /mulund/ {{ proxy_pass {url}/; }} }}
}}
"""


def proxy(service):
    """An nginx in front of it: its process and its port, once that answers."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    path = service.root + "/nginx.conf"
    with open(path, "w") as f:
        f.write(NGINX.format(root=service.root, port=port, url=service.url))
    process = subprocess.Popen(["/usr/sbin/nginx", "-p", service.root, "-c", path])

    def answers():
        assert process.poll() is None, "nginx has ended"
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    service.until(answers)
    return process, port


def main():
    a = argparse.ArgumentParser()
    a.add_argument("site")
    a.add_argument("--live", action="store_true")
    a.add_argument("--many", action="store_true")
    a.add_argument("--parts", action="store_true")
    a.add_argument("--locked", action="store_true")
    a.add_argument("--below", action="store_true")
    a = a.parse_args()
    service, nginx = Service(), None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        service.web = a.site
        service.configs = os.path.join(HERE, "..", "..", "configs")
        for seed in range(1, 8):
            service.script(run(seed, 0.002 if seed <= 3 else 0.001, 200 if seed == 7 else None), seed)
        service.script(troubled(), 8)
        service.script(interrupted(), 12)
        service.script(long(), 13)
        busy = {"device/busy": [0.25, 0.5, 0.75], "device/celsius": [41.0, 55.5, 52.0], "device/memory_mib": [100.0, 300.0, 200.0]}
        told = {"type": "scalars", "step": [0, 1, 2], "time_ms": [START_MS] * 3, "columns": busy}
        over_time = {"type": "scalars", "step": list(range(1001)), "time_ms": [START_MS] * 1001, "columns": {"time/diff": [2.0 ** (-t / 250) for t in range(1001)]}}
        service.script([[["start"], ["event", told], ["event", over_time], ["checkpoint", 20], ["done", {}]]], 14)
        odd = {"type": "scalars", "step": [0, 1], "time_ms": [START_MS] * 2, "columns": {name: [1.0, 2.0] for name in ODD}}
        service.script([[["start"], ["event", odd], ["done", {}]]], 16)
        further = {"type": "scalars", "step": list(range(20, 60)), "time_ms": [START_MS + 1000 * s for s in range(40)], "columns": {"train/bpd": [4 + s % 2 for s in range(40)]}}
        service.script([[["start", 20], ["event", further], ["done", {"bpd": 4.0}]]], 15)
        service.start(*("--device", "a=cpu:0", "--device", "b=cpu:1") if a.parts else (), *("--prefix", "/mulund", "--allowed-hosts", "127.0.0.1") if a.below else ())
        for seed in range(1, 8):
            service.submit(STEPS, seed, name=f"run {seed}" if seed != 6 else "<b>run 6</b>", tags=["lab"], overrides={"optimizer.learning_rate": 0.002 if seed <= 3 else 0.001})
        service.submit(40, 8, name="troubled")
        for job in range(1, 9):
            service.wait(job, "succeeded")
        if a.live:
            service.until(lambda: all(d["state"] == "idle" for d in service.get("/v1/devices")["devices"]))  # then the first one is taken
            service.script([[["start"], ["event", told], ["train", 100000, 0.1, 20]]], 9)
            service.submit(100000, 9, name="live")
            service.wait(9, "running")
            service.submit(100000, 9, name="behind it")
            if a.parts:
                service.wait(10, "running")
                service.submit(100000, 9, name="last", priority=-1)
        if a.many:
            spread(service)
        tokens = lock(service) if a.locked else []
        port = service.url.rsplit(":", 1)[1]
        if a.below:
            nginx, port = proxy(service)
        print(port, *tokens, flush=True)
        while True:
            signal.pause()
    finally:
        if nginx:
            nginx.terminate()
            nginx.wait()
        service.close()


if __name__ == "__main__":
    main()
