#!/usr/bin/python3
"""What a long queue costs: longqueue.py MULUND [JOBS].

Fills a state with so many jobs (half of them queued, of a real configuration's size), starts mulund on it with the tests'
scripted worker, and times, median and worst of 50: the start until it answers, a page of the list, with fields=, by text, by
tag, in the queue's order, sorted; a job; a submission; then durable submissions from 16 connections, each with another learning rate;
10,000 queued jobs cancelled by a filter.
"""
import concurrent.futures
import os
import sqlite3
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../daemon"))
os.environ["MULUND"] = os.path.abspath(sys.argv[1])

import requests  # noqa: E402

from measure import times_of  # noqa: E402
from service import Service  # noqa: E402
from states import fill  # noqa: E402


def timed(name, call, n=50):
    times = times_of(call, n)
    print(f"{name:44} {statistics.median(times):8.2f} ms   worst {max(times):8.2f} ms", flush=True)


def main():
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    service = Service([[["start"], ["flush"], ["hang"]]])
    try:
        service.start()
        service.submit(name="the first", seed=3)
        service.kill()
        for pid in service.worker_pids():
            os.kill(pid, 9)
        began = time.perf_counter()
        fill(service, n)
        with sqlite3.connect(service.state + "/mulund.db") as db:  # no two configurations are the same text, which SQLite would read once
            db.execute("UPDATE job SET test_bpd = 2 + id * 7919 % 10007 / 5000.0, config = json_set(config, '$.training.seed', id) WHERE id >= 10")
        db.close()
        print(f"{n} jobs, a database of {os.path.getsize(service.state + '/mulund.db') >> 20} MiB, filled in {time.perf_counter() - began:.0f} s")
        began = time.perf_counter()
        service.start()
        print(f"{'ready after a start':44} {(time.perf_counter() - began) * 1e3:8.2f} ms")
        session = requests.Session()

        def get(path, **params):
            r = session.get(service.url + path, params=params)
            assert r.status_code == 200, r.text

        config = {"data": {"dataset": "scripted"}, "training": {"batch_size_train": 8, "num_steps_eval": 0}}

        def submit(i):
            r = requests.post(service.url + "/v1/jobs", json={"kind": "train", "config": {**config, "optimizer": {"learning_rate": 1e-6 * (i + 1)}}})
            assert r.status_code == 201, r.text

        narrow = "id,name,state,progress,created"
        timed("a page of 50", lambda: get("/v1/jobs"))
        timed("a page of 50, fields=" + narrow, lambda: get("/v1/jobs", fields=narrow))
        timed("two states, fields", lambda: get("/v1/jobs", fields=narrow, state="failed,queued"))
        timed("order=priority, fields", lambda: get("/v1/jobs", fields=narrow, order="priority"))
        timed("tag, fields", lambda: get("/v1/jobs", fields=narrow, tag="tenth"))
        timed("text of 1 job, fields", lambda: get("/v1/jobs", fields=narrow, text=f"number {n - 7} of"))
        timed("text of all jobs, fields", lambda: get("/v1/jobs", fields=narrow, text="sweep"))
        for key in ("-test_bpd", "best_train_bpd", "duration", "name", "config.optimizer.learning_rate"):
            timed("sort=" + key + ", fields", lambda key=key: get("/v1/jobs", fields=narrow, sort=key), 10)
        timed("config= of 1 job, fields", lambda: get("/v1/jobs", fields=narrow, config="training.seed=" + str(n // 3)), 10)
        timed("a queued job, with why it waits", lambda: get("/v1/jobs/10"))
        timed("a submission", lambda: submit(0))
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(submit, range(1000)))
        print(f"{'durable submissions, 16 connections':44} {1000 / (time.perf_counter() - began):8.0f} a second (the client is Python)")
        began = time.perf_counter()
        r = session.post(service.url + "/v1/jobs/cancel", json={"filter": {"tag": "some"}})
        assert r.json()["changed"] == min(n // 2, 10000), r.text
        print(f"{'10,000 jobs cancelled by a filter':44} {time.perf_counter() - began:8.2f} s")
        with open(f"/proc/{service.process.pid}/status") as f:
            print(next(line.strip() for line in f if line.startswith("VmRSS")))
    finally:
        service.close()


if __name__ == "__main__":
    main()
