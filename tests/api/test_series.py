"""Curves: the names, and the points of many series at once."""
import math
import socket
import time

import pytest

from conftest import problem

STEPS = 1000


@pytest.fixture(scope="module")
def job(server):
    j = server.submit()
    rows = list(range(STEPS))
    server.run(j, [{"type": "scalars", "step": rows, "time_ms": [1_700_000_000_000 + i for i in rows],
                    "columns": {"train/bpd": [10 - i / 200 if i != 500 else "NaN" for i in rows],
                                "train/images_per_second": [100.0] * STEPS, "gap é": ["Infinity", "-Infinity", "NaN"] + [1.0] * (STEPS - 3)}}])
    return j


def test_names_with_their_ends(server, job):
    s = {x["name"]: x for x in server.get(f"/v1/jobs/{job}/series").json()["series"]}
    assert set(s) == {"train/bpd", "train/images_per_second", "gap é"}
    a = s["train/bpd"]
    assert a["points"] == STEPS and a["last_step"] == STEPS - 1
    assert math.isclose(a["last"], 10 - 999 / 200, rel_tol=1e-6) and math.isclose(a["max"], 10, rel_tol=1e-6)
    assert server.get(f"/v1/jobs/{server.submit()}/series").json() == {"series": []}
    problem(server.get("/v1/jobs/4711/series"), 404, "not-found")


def test_points_come_in_buckets(server, job):
    r = server.get("/v1/series", params={"jobs": job, "names": "train/bpd", "points": 100})
    assert r.headers["Content-Type"] == "application/json"
    [s] = r.json()["series"]
    assert s["job"] == job and s["name"] == "train/bpd" and s["points_total"] == STEPS
    w = s["bucket_width"]
    assert w & (w - 1) == 0
    n = len(s["step"])
    assert 0 < n <= 101 and all(len(s[k]) == n for k in ("time_ms", "count", "min", "max", "mean", "last"))
    assert sum(s["count"]) == STEPS and s["time_ms"][-1] == 1_700_000_000_000 + STEPS - 1
    [s] = server.get("/v1/series", params={"jobs": job, "names": "train/bpd", "from": 499, "to": 501}).json()["series"]
    assert s["step"] == [499, 500, 501] and s["last"][1] == "NaN" and s["count"] == [1, 1, 1]
    [s] = server.get("/v1/series", params={"jobs": job, "names": "gap é", "to": 2}).json()["series"]
    assert s["last"] == ["Infinity", "-Infinity", "NaN"] and s["min"] == ["NaN"] * 3


def test_jobs_times_names(server, job):
    other = server.submit()
    d = server.get("/v1/series", params={"jobs": f"{job},{other}", "names": "train/bpd,no-such,gap é"}).json()["series"]
    assert [(s["job"], s["name"]) for s in d] == [(job, "train/bpd"), (job, "gap é")]
    assert server.get("/v1/series?jobs=4711&names=train/bpd").json() == {"series": []}


@pytest.mark.parametrize("query", ["", "jobs=1", "names=x", "jobs=&names=x", "jobs=1&names=", "jobs=x&names=x", "jobs=1,&names=x",
                                   "jobs=0&names=x", "jobs=1&names=x&points=0", "jobs=1&names=x&points=10001", "jobs=1&names=x&from=-1",
                                   "jobs=1&names=x&from=5&to=4", "jobs=1&names=x%0a", "jobs=1&names=" + "x" * 201,
                                   "jobs=" + ",".join("1" * 101) + "&names=x", "jobs=1&names=" + ",".join("x" * 51), "jobs=1&names=x&y=1",
                                   "jobs=1&names=x&to=1.5"])
def test_a_question_that_is_not_valid_is_refused(server, query):
    d = problem(server.get("/v1/series?" + query), 400, "query-invalid")
    assert all("parameter" in e for e in d["errors"])


def test_clients_that_do_not_read_their_answers_hold_a_bounded_memory(server):
    long = server.submit()
    server.run(long, [{"type": "scalars", "step": rows, "time_ms": rows, "columns": {"a": [i / 7 for i in rows]}}
                      for rows in (list(range(i, i + 2500)) for i in range(0, 10000, 2500))])
    path = f"/v1/series?jobs={','.join([str(long)] * 14)}&names=a&points=10000"
    began = time.monotonic()
    size = len(server.get(path).content)
    assert size > 8_000_000
    if time.monotonic() - began > 2.5:
        pytest.skip("this machine is too busy: the first client would be given up before the last has come")
    slow = []
    for _ in range(18):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.port))
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        slow.append(s)
    answers = [s.recv(12) for s in slow]
    assert b"HTTP/1.1 200" in answers and b"HTTP/1.1 503" in answers, answers
    assert server.get("/healthz").status_code == 200
    for s in slow:
        s.close()
    for _ in range(50):
        r = server.get(path)
        if r.status_code == 200:
            break
        problem(r, 503, "busy")
        assert r.headers["Retry-After"]
        time.sleep(0.1)
    assert r.status_code == 200


def test_the_limits_themselves_are_taken(server, job):
    r = server.get("/v1/series", params={"jobs": ",".join([str(job)] * 100), "names": ",".join(f"n{i}" for i in range(50)), "points": 10000})
    assert r.status_code == 200 and r.json() == {"series": []}
    r = server.get("/v1/series", params={"jobs": ",".join([str(job)] * 100), "names": ",".join(["train/bpd"] * 50), "points": 10000},
                   timeout=120)
    problem(r, 422, "answer-too-large")
