"""Curves: the names, and the points of many series at once."""
import math
import random
import socket
import time

import pytest

from conftest import START, problem

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
    assert server.get("/v1/series?jobs=4711&names=train/bpd").json()["series"] == []


def test_a_name_with_a_comma_can_be_asked_for(server):
    j = server.submit()
    server.run(j, [{"type": "scalars", "step": [1], "time_ms": [1], "columns": {"a, b": [1], "a": [2], '"q"': [3]}}])
    names = '"a, b",a,"""q"""'
    assert [s["name"] for s in server.get("/v1/series", params={"jobs": j, "names": names}).json()["series"]] == ["a, b", "a", '"q"']


@pytest.mark.parametrize("query", ["", "jobs=1", "names=x", "jobs=&names=x", "jobs=1&names=", "jobs=x&names=x", "jobs=1,&names=x", "jobs=1&names=%22x", "jobs=1&names=%22x%22y", "jobs=1&names=%22%22", "jobs=,&names=x", "jobs=1&names=x,",
                                   "jobs=0&names=x", "jobs=1&names=x&points=0", "jobs=1&names=x&points=10001", "jobs=1&names=x&from=-1",
                                   "jobs=1&names=x&from=5&to=4", "jobs=1&names=x%0a", "jobs=1&names=" + "x" * 201,
                                   "jobs=" + ",".join(map(str, range(1, 102))) + "&names=x", "jobs=1&names=" + ",".join(f"x{i}" for i in range(51)), "jobs=1&names=x&y=1",
                                   "jobs=1&names=x&to=1.5"])
def test_a_question_that_is_not_valid_is_refused(server, query):
    d = problem(server.get("/v1/series?" + query), 400, "query-invalid")
    assert all("parameter" in e for e in d["errors"])


def with_points(server, n_series, n_points):
    """A job, and the names of its series: their points go straight into the store."""
    job, names = server.submit(), [f"s{i}" for i in range(n_series)]
    server.run(job, [{"type": "scalars", "step": [0], "time_ms": [0], "columns": {n: [1.0] for n in names}}], state="succeeded")
    server.add_points(job, 1, n_points - 1, names)
    return job, ",".join(names)


def test_clients_that_do_not_read_their_answers_hold_a_bounded_memory(server):
    long, names = with_points(server, 14, 10000)
    path = f"/v1/series?jobs={long}&names={names}&points=10000"
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
    r = server.get("/v1/series", params={"jobs": ",".join(map(str, range(job, job + 100))), "names": ",".join(f"n{i}" for i in range(50)), "points": 10000})
    assert r.status_code == 200 and r.json()["series"] == []
    (a, names), (b, _) = with_points(server, 50, 10000), with_points(server, 50, 10000)
    r = server.get("/v1/series", params={"jobs": f"{a},{b}", "names": names, "points": 10000}, timeout=120)
    problem(r, 422, "answer-too-large")


def test_what_is_named_twice_is_read_once(server, job):
    q = f"jobs={','.join([str(job)] * 300)}&names={','.join(['train/bpd'] * 300)}"
    assert len(server.get("/v1/series?" + q).json()["series"]) == 1


def test_heavy_reads_end_with_their_client_and_leave_quick_ones_alone(server):
    heavy, names = with_points(server, 6, 300000)
    path = f"/v1/series?jobs={heavy}&names={names}"
    began = time.monotonic()
    assert [s["points_total"] for s in server.get(path, timeout=60).json()["series"]] == [300000] * 6
    alone = time.monotonic() - began
    gone = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    for s in gone:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    time.sleep(0.3)
    for quick in ("/healthz", "/v1/jobs?limit=1", f"/v1/jobs/{heavy}/series"):
        began = time.monotonic()
        assert server.get(quick).status_code == 200
        assert time.monotonic() - began < max(3, alone), quick  # behind a hundred it would be fifty times that
    for s in gone:
        s.close()
    began = time.monotonic()
    while (r := server.get(path, timeout=60)).status_code == 503:
        time.sleep(0.05)
    assert r.status_code == 200
    # a hundred would take fifty times one's on two threads
    assert time.monotonic() - began < 3 * alone + max(3, 20 * alone), "what nobody waits for is not read"


@pytest.fixture(scope="module")
def resumed(server):
    """Step 3 came twice, and then again in a second attempt."""
    j = server.submit()
    server.run(j, [{"type": "start", "step": 0, "steps": 100, **START},
                   {"type": "scalars", "step": [1, 2, 3, 3, 4], "time_ms": [1, 2, 3, 4, 5], "columns": {"a": [1, 2, "NaN", "Infinity", "-Infinity"]}}],
               state="failed", error={"class": "host", "detail": "x"})
    server.post(f"/v1/jobs/{j}/retry")
    server.run(j, [{"type": "start", "step": 3, "steps": 100, **START}, {"type": "scalars", "step": [3], "time_ms": [6], "columns": {"a": [30]}}])
    return j


def test_superseded_points_stay_readable(server, resumed):
    def read(**more):
        return server.get("/v1/series", params={"jobs": resumed, "names": "a", **more}).json()["series"][0]
    assert read()["step"] == [1, 2, 3] and read()["last"] == [1, 2, 30]
    assert read(attempt=1)["step"] == [1, 2, 3, 4] and read(attempt=1)["count"] == [1, 1, 2, 1]
    assert read(attempt=2)["step"] == [3]
    assert read(attempt=3)["step"] == []


def test_what_is_not_finite_is_counted(server, resumed):
    [s] = server.get("/v1/series", params={"jobs": resumed, "names": "a", "attempt": 1}).json()["series"]
    assert (s["nan"], s["infinity"], s["minus_infinity"]) == ([0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1])
    assert s["min"] == [1, 2, "NaN", "NaN"] and s["last"] == [1, 2, "Infinity", "-Infinity"]
    [s] = server.get("/v1/series", params={"jobs": resumed, "names": "a"}).json()["series"]
    assert not {"nan", "infinity", "minus_infinity"} & set(s), "left out where all are finite"


def test_series_of_a_request_share_the_edges_of_their_buckets(server, job):
    short = server.submit()
    server.run(short, [{"type": "scalars", "step": [0, 1, 2], "time_ms": [0, 1, 2], "columns": {"train/bpd": [1, 2, 3]}}])
    q = {"jobs": f"{job},{short}", "names": "train/bpd", "points": 100}
    a, b = server.get("/v1/series", params=q).json()["series"]
    assert a["bucket_width"] == b["bucket_width"] > 1 and b["count"] == [3]
    a, b = server.get("/v1/series", params={**q, "widths": "own"}).json()["series"]
    assert a["bucket_width"] > 1 and b["bucket_width"] == 1 and b["count"] == [1, 1, 1]
    problem(server.get("/v1/series", params={**q, "widths": "both"}), 400, "query-invalid")
    a, b = server.get("/v1/series", params={**q, "points": 30, "axis": "log"}).json()["series"]
    assert a["bucket_ratio"] == b["bucket_ratio"] == 1.5 and (a["bucket_width"], b["bucket_width"]) == (256, 1)
    a, b = server.get("/v1/series", params={**q, "points": 30, "axis": "log", "widths": "own"}).json()["series"]
    assert a["bucket_ratio"] == 1.5 and b["bucket_ratio"] < 1.000001 and b["step"] == [0, 1, 2]


@pytest.mark.parametrize("points,ratio", [(100, 1 + 1 / 8), (30, 1.5), (12, 2), (6, 4), (1, None)])
def test_buckets_of_a_log_axis_have_one_ratio(server, job, points, ratio):
    q = {"jobs": job, "names": "train/bpd", "points": points, "axis": "log"}
    [s] = server.get("/v1/series", params=q).json()["series"]
    assert s["points_total"] == STEPS and len(s["step"]) <= points and s["bucket_ratio"] == (ratio or s["bucket_ratio"])

    def edge(step):  # where its bucket begins, as the description says it
        if ratio is None:
            return 0
        octave = 1 << max(step.bit_length() - 1, 0)
        if ratio >= 2:
            return 0 if step == 0 else int(ratio ** math.floor(math.log2(octave) / math.log2(ratio)))
        width = max(int(octave * (ratio - 1)), 1)
        return octave + (step - octave) // width * width if step else 0

    expected = {}
    for step in range(STEPS):
        expected.setdefault(edge(step), []).append(step)
    assert s["step"] == [steps[-1] for steps in expected.values()] and s["count"] == [len(steps) for steps in expected.values()]
    value = lambda step: 10 - step / 200
    for b, steps in enumerate(expected.values()):
        known = [value(i) for i in steps if i != 500]
        assert math.isclose(s["max"][b], max(known), rel_tol=1e-6) and math.isclose(s["mean"][b], sum(known) / len(known), rel_tol=1e-6)
    assert sum(s["nan"]) == 1
    problem(server.get("/v1/series", params={**q, "axis": "logarithmic"}), 400, "query-invalid")


def test_a_range_of_times(server, job):
    first = 1_700_000_000_000
    ask = lambda **range_: server.get("/v1/series", params={"jobs": job, "names": "train/bpd", "points": 10000, **range_})
    steps = lambda **range_: ask(**range_).json()["series"][0]["step"]
    assert steps(from_ms=first + 990) == list(range(990, 1000))
    assert steps(to_ms=0) == [] == steps(from_ms=0, to_ms=0), "nothing came in 1970"
    assert steps(to_ms=first + 2) == [0, 1, 2] and steps(from_ms=0, to_ms=first - 1) == []
    assert steps(from_ms=first + 10, to_ms=first + 12) == [10, 11, 12] and steps(from_ms=first + 10, to_ms=first + 900, to=11) == [10, 11]
    assert steps(from_ms=first + STEPS) == [] and steps(from_ms=first, to_ms=10**17) == list(range(STEPS))
    [s] = ask(from_ms=first + 100, to_ms=first + 899, points=50).json()["series"]
    assert s["points_total"] == 800 and s["step"][-1] == 899 and len(s["step"]) <= 50
    e = problem(ask(from_ms=5, to_ms=4), 400, "query-invalid")["errors"]
    assert [x["parameter"] for x in e] == ["from_ms"]
    problem(ask(from_ms="2026-01-01"), 400, "query-invalid")


COLUMNS = ("step", "time_ms", "count", "min", "max", "mean", "last")
OTHERS = ("nan", "infinity", "minus_infinity")


class Live:
    """Series that are read by cursors alone."""

    def __init__(self, server, **question):
        self.server, self.question, self.cursor, self.known = server, question, None, {}

    def read(self):
        """What came: a series and how many buckets of it, None before it where it is anew."""
        r = self.server.get("/v1/series", params={**self.question, **({"cursor": self.cursor} if self.cursor else {})})
        assert r.status_code == 200, r.text
        came, d = {}, r.json()
        for s in d["series"]:
            assert ("from" in s) == (self.cursor is not None)
            key, start = (s["job"], s["name"]), s.pop("from", None)
            s = self.columns(s)
            came[key] = (start, len(s["step"]))
            if start is not None:
                known = self.known[key]
                n = sum(step < start for step in known["step"])
                s = {**s, **{k: known[k][:n] + s[k] for k in COLUMNS + OTHERS}}
            self.known[key] = s
        self.cursor = d["cursor"]
        return came

    def columns(self, s):
        return {**s, **{k: s.get(k, [0] * len(s["step"])) for k in OTHERS}}

    def whole(self):
        d = self.server.get("/v1/series", params=self.question).json()
        return {(s["job"], s["name"]): self.columns(s) for s in d["series"]}, d["cursor"]

    def check(self):
        came = self.read()
        assert (self.known, self.cursor) == self.whole()
        assert self.read() == {}, "nothing is repeated"
        return came


class Running:
    """An attempt that says scalars as they are given to it."""

    def __init__(self, server, job, step):
        self.server, self.job, self.seq, self.time = server, job, 0, 0
        self.attempt = server.tell(do="start", job=job)["attempt"]
        self.tell({"type": "start", "step": step, "steps": 1000000, **START})

    def tell(self, *events):
        lines = [{"seq": self.seq + 1 + i, **e} for i, e in enumerate(events)]
        self.seq += len(lines)
        self.server.tell(do="events", job=self.job, attempt=self.attempt, lines=lines)

    def scalars(self, steps, **columns):
        self.time += len(steps)
        self.tell({"type": "scalars", "step": steps, "time_ms": [self.time + i for i in range(len(steps))],
                   "columns": {name: v if isinstance(v, list) else [v] * len(steps) for name, v in columns.items()}})

    def fail(self):
        self.server.tell(do="end", job=self.job, state="failed", error={"class": "host", "detail": "x"})
        assert self.server.post(f"/v1/jobs/{self.job}/retry").status_code == 200


@pytest.mark.parametrize("points,rounds,view", [(10000, 50, {}), (16, 150, {}), (16, 150, {"widths": "own"}), (16, 100, {"axis": "log"}),
                                                (4, 50, {"axis": "log", "widths": "own"}), (16, 100, {"from_ms": 300})])
def test_a_live_view_by_cursors_is_what_a_whole_read_gives(server, points, rounds, view):
    dice = random.Random(points)
    jobs = [server.submit(), server.submit()]
    live = Live(server, jobs=",".join(map(str, jobs)), names="a,b,never", points=points, **view)
    assert live.check() == {}
    running, at = {j: Running(server, j, 0) for j in jobs}, dict.fromkeys(jobs, 0)
    value = lambda: dice.choice([dice.randrange(1000) / 8] * 9 + ["NaN", "Infinity", "-Infinity"])
    for _ in range(rounds):
        j = dice.choice(jobs)
        what = dice.randrange(20)
        n = 1 if what < 12 else dice.choice([3, 300])  # 300: the tail is soon put into chunks
        if what == 0:  # superseded, often by as many points at the same steps
            running[j].fail()
            at[j] = max(0, at[j] - dice.choice([0, 1, 5, 50]))
            running[j] = Running(server, j, at[j])
            if dice.random() < 0.5:
                live.check()
        elif what == 1:  # back by some, within an attempt
            at[j] = max(0, at[j] - dice.choice([1, 40]))
        steps = [at[j] + i // dice.choice([1, 1, 1, 2]) for i in range(n)]
        columns = {"a": [value() for _ in steps], "b": [value() for _ in steps]}
        if dice.random() < 0.5:
            del columns[dice.choice("ab")]
        running[j].scalars(steps, **columns)
        at[j] = max(steps) + dice.choice([0, 1, 1, 3])
        if dice.random() < 0.7:
            live.check()
    live.check()
    assert len(live.known) == 4


def test_a_live_view_moves_what_is_new_alone(server):
    j = server.submit()
    run = Running(server, j, 0)
    run.scalars(list(range(3000)), a=1.5, b=2.5)
    live = Live(server, jobs=j, names="a,b", points=1000)
    live.check()
    run.scalars([3000], a=1)
    assert live.check() == {(j, "a"): (3000, 1)}
    run.scalars([3000], a=1)
    assert live.check() == {(j, "a"): (3000, 1)}, "of equal steps the bucket comes again"
    run.scalars([3001, 3004], a=1, b=2)
    assert live.check() == {(j, "a"): (3000, 2), (j, "b"): (3000, 2)}
    run.scalars([10], b=7)
    assert live.check() == {(j, "b"): (None, 752)}, "steps went back"
    run.fail()
    assert live.check() == {}, "an attempt that has said nothing supersedes nothing"
    Running(server, j, 3001)
    assert live.check() == {(j, "a"): (None, 751), (j, "b"): (None, 750)}, "another attempt"


def test_a_cursor_that_is_none_is_refused(server, job):
    q = {"jobs": job, "names": "train/bpd"}
    d = server.get("/v1/series", params=q).json()
    cursor = d["cursor"]
    forged = [cursor[:-1], cursor + "0", cursor.upper(), cursor[:32] + ".0-0-0-0-0", cursor[:32], "0" * 32, "." * 40, "x", "-1", "0", "\u00e9" * 20, "9" * 8192]
    asked = [({**q, "points": 5}, cursor), ({**q, "names": "train/bpd,x"}, cursor), ({**q, "attempt": 1}, cursor), ({**q, "from": 1}, cursor),
             ({**q, "to": 5}, cursor), ({**q, "widths": "own"}, cursor), ({**q, "axis": "log"}, cursor), ({**q, "from_ms": 1}, cursor), ({**q, "to_ms": 5}, cursor), ({**q, "jobs": f"{job},{job + 1}"}, cursor), *((q, c) for c in [*forged, ""])]
    for question, c in asked:
        e = problem(server.get("/v1/series", params={**question, "cursor": c}), 400, "query-invalid")["errors"]
        assert [x["parameter"] for x in e] == ["cursor"] and "expected" in e[0]["detail"], (question, c)
    assert server.get("/v1/series", params={**q, "cursor": cursor}).json() == {"series": [], "cursor": cursor}


def test_so_many_series_have_no_cursor(server):
    names = [f"s{i}" for i in range(50)]
    jobs = [server.submit() for _ in range(6)]
    for j in jobs:
        server.run(j, [{"type": "scalars", "step": [0], "time_ms": [0], "columns": {n: [1.0] for n in names}}], state="succeeded")
    few = Live(server, jobs=",".join(map(str, jobs[:4])), names=",".join(names))
    assert len(few.check()) == 200 and few.cursor
    d = server.get("/v1/series", params={"jobs": ",".join(map(str, jobs)), "names": ",".join(names)}).json()
    assert len(d["series"]) == 300 and d["cursor"] is None
