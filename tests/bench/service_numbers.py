#!/usr/bin/python3
"""What the service costs over HTTP, on a real daemon: service_numbers.py BUILD [FOLDER] [--http].

bench-store's numbers first (store.c says which), then: a zoom in 20 runs of a million points through /v1/series; durable
submissions from 64 connections (ab of apache2-utils, which is C); a worker's scalars through its socket, committed, and
what a page of the list takes meanwhile. With the load of the machine, since it is part of every number.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = pathlib.Path(sys.argv[1]).resolve()
os.environ["MULUND"] = str(BUILD / "daemon/mulund")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "daemon"))

import requests  # noqa: E402

from measure import processor_of, times_of  # noqa: E402
from service import Service  # noqa: E402
from states import long_runs  # noqa: E402

CONFIG = {"data": {"dataset": "scripted"}, "training": {"batch_size_train": 8, "num_steps_eval": 0}}
RUNS, POINTS = 20, 1_000_000


def timed(service, name, call, n=30):
    before = processor_of(service.process.pid)
    times = times_of(call, n)
    print(f"{name}: median {statistics.median(times):.1f} ms, best {min(times):.1f}, the server's processor time {(processor_of(service.process.pid) - before) / n * 1e3:.1f}",
          flush=True)


def zooms(service):
    jobs = long_runs(service, BUILD, RUNS, POINTS)
    session = requests.Session()

    def read(**more):
        r = session.get(service.url + "/v1/series", params={"jobs": ",".join(map(str, jobs)), "names": "train/bpd", **more})
        assert r.status_code == 200 and r.content.count(b'"bucket_width"') == RUNS, r.text[:200]
    timed(service, "20 runs of 1 M points, 1,000 buckets each", read)
    timed(service, "20 runs, a zoom to a quarter", lambda: read(**{"from": 333_333, "to": 583_333}))
    timed(service, "20 runs, a zoom to 1,000 steps", lambda: read(**{"from": 333_333, "to": 334_333}))
    timed(service, "1 run of 1 M points", lambda: session.get(service.url + "/v1/series", params={"jobs": jobs[0], "names": "train/bpd"}))


def submissions(service, folder):
    body = pathlib.Path(folder) / "body.json"
    body.write_text(json.dumps({"kind": "train", "config": CONFIG, "tags": ["bench"]}))
    service.submit(name="so that the memory is known")
    for at_once in (1, 16, 64):
        before, n = processor_of(service.process.pid), min(20000, 1000 * at_once)
        out = subprocess.run(["ab", "-q", "-k", "-n", str(n), "-c", str(at_once), "-p", body, "-T", "application/json",
                              service.url + "/v1/jobs"], check=True, capture_output=True, text=True).stdout
        fields = dict(line.split(":", 1) for line in out.splitlines() if ":" in line)
        assert "Non-2xx responses" not in fields, out
        print(f"submissions over HTTP, {at_once} at once: {float(fields['Requests per second'].split()[0]):.0f} a second, "
              f"{n / (processor_of(service.process.pid) - before):.0f} a second of processor time", flush=True)


def ingest(service):
    """One worker: the machine's one device takes one job."""
    job, session, took, path = service.submit(name="a stream"), requests.Session(), [], None
    path = pathlib.Path(f"{service.state}/jobs/{job}/streamed.json")
    before = processor_of(service.process.pid)
    while not path.exists() or not path.read_text():
        began = time.perf_counter()
        assert session.get(service.url + "/v1/jobs?limit=50").status_code == 200
        took.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.005)
    r = json.loads(path.read_text())
    print(f"scalars from a worker, committed: {r['scalars'] / r['seconds'] / 1e6:.2f} million/s, "
          f"{r['scalars'] / (processor_of(service.process.pid) - before) / 1e6:.2f} a second of processor time; GET /v1/jobs meanwhile: "
          f"median {statistics.median(took):.1f} ms, p99 {sorted(took)[len(took) * 99 // 100]:.1f} ms", flush=True)


def with_service(script, use):
    service = Service([script])
    try:
        service.start()
        use(service)
    finally:
        service.close()


def main():
    print("load", os.getloadavg(), flush=True)
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        if "--http" not in sys.argv:
            subprocess.run([BUILD / "tests/bench/bench-store", folder], check=True)
        with_service([["start"], ["stream", 250, 256, 16], ["hang"]], ingest)
        with_service([["start"], ["flush"], ["hang"]], lambda service: submissions(service, folder))
        with_service([["start"], ["flush"], ["hang"]], zooms)
    print("load", os.getloadavg(), flush=True)


if __name__ == "__main__":
    main()
