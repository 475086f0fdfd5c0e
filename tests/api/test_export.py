"""Curves and checkpoints for other programs: all of them, exactly, and no more of the server than a piece at a time."""
import csv
import http.client
import io
import json
import math
import os
import shutil
import socket
import subprocess

import numpy
import pytest

from conftest import START, checkpoint, problem

N = 5000  # more than are read at once
VALUES = [i / 7 if i % 5 else 0.5 * i for i in range(N)]
VALUES[3], VALUES[4], VALUES[5] = "NaN", "Infinity", "-Infinity"
FLAX = os.path.join(os.path.dirname(__file__), "..", "formats", "flax-mulan", "mulan-velocity-linear.flax")


@pytest.fixture(scope="module")
def job(server):
    j = server.submit()
    server.run(j, [{"type": "scalars", "step": list(range(k, k + 1000)), "time_ms": [1_700_000_000_001 + i for i in range(k, k + 1000)],
                    "columns": {"train/bpd": VALUES[k:k + 1000], 'a "b", é': [float(i) for i in range(k, k + 1000)]}} for k in range(0, N, 1000)])
    return j


def expected():
    rows = [('a "b", é', i, 1_700_000_000_001 + i, float(i)) for i in range(N)]
    return rows + [("train/bpd", i, 1_700_000_000_001 + i, float(VALUES[i])) for i in range(N)]


def same(a, b):
    return len(a) == len(b) and all(x[:3] == y[:3] and (x[3] == y[3] or math.isnan(x[3]) and math.isnan(y[3])) for x, y in zip(a, b))


def test_every_point_as_csv(server, job):
    r = server.get(f"/v1/jobs/{job}/export?format=csv")
    assert r.headers["Content-Type"] == "text/csv; charset=utf-8" and r.headers["Content-Disposition"] == f'attachment; filename="job-{job}.csv"'
    assert r.headers["Cache-Control"] == "no-store" and r.headers["Transfer-Encoding"] == "chunked"
    head, *rows = csv.reader(io.StringIO(r.content.decode()))
    assert head == ["series", "step", "time_ms", "value"]
    assert same([(n, int(s), int(t), float(v)) for n, s, t, v in rows], expected())


def test_every_point_as_json_lines(server, job):
    r = server.get(f"/v1/jobs/{job}/export?format=ndjson")
    assert r.headers["Content-Type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in r.content.decode().splitlines()]
    assert all(isinstance(x["value"], (float, int)) or x["value"] in ("NaN", "Infinity", "-Infinity") for x in rows)
    assert same([(x["series"], x["step"], x["time_ms"], float(x["value"])) for x in rows], expected())


def test_every_point_as_an_event_file(server, job, tmp_path):
    r = server.get(f"/v1/jobs/{job}/export?format=tfevents")
    assert "tfevents" in r.headers["Content-Disposition"]
    (tmp_path / "events").write_bytes(r.content)
    out = subprocess.run([os.environ["TEST_TFEVENTS"], "--list", tmp_path / "events"], check=True, capture_output=True, text=True).stdout
    *rows, whole = [json.loads(line) for line in out.splitlines()]
    assert whole["version"] == "brain.Event:2"
    assert same([(x["tag"], x["step"], round(x["wall"] * 1000), float(x["scalar"])) for x in rows], expected())


def array_of(server, job, **params):
    r = server.get(f"/v1/jobs/{job}/export", params={"format": "npy", **params})
    assert r.status_code == 200 and r.headers["Content-Type"] == "application/octet-stream", r.text
    assert r.headers["Content-Disposition"] == f'attachment; filename="job-{job}.npy"'
    return numpy.load(io.BytesIO(r.content))


def test_every_point_as_an_array(server, job):
    a = array_of(server, job)
    assert a.dtype == [("series", "<U9"), ("step", "<i8"), ("time_ms", "<i8"), ("value", "<f8")] and a.shape == (2 * N,)
    assert same(a.tolist(), expected())
    assert a[a["series"] == "train/bpd"]["value"].tobytes() == numpy.array(VALUES, float).tobytes(), "to the last bit"


FORMS = {
    "csv": lambda b: [(n, int(s), float(v)) for n, s, _, v in list(csv.reader(io.StringIO(b.decode())))[1:]],
    "ndjson": lambda b: [(x["series"], x["step"], float(x["value"])) for x in map(json.loads, b.decode().splitlines())],
    "npy": lambda b: [(n, s, v) for n, s, _, v in numpy.load(io.BytesIO(b)).tolist()],
}


@pytest.mark.parametrize("form", FORMS)
def test_some_series_alone(server, form):
    names = ["a", "a, b", 'say ""', "\u20ac \U0001f600", "long" * 50]
    j = server.submit()
    server.run(j, [{"type": "scalars", "step": [7], "time_ms": [1], "columns": {n: [i] for i, n in enumerate(names)}}])

    def read(*names):
        quoted = ",".join('"' + n.replace('"', '""') + '"' if set(n) & set(',"') else n for n in names)
        r = server.get(f"/v1/jobs/{j}/export", params={"format": form, **({"names": quoted} if names else {})})
        assert r.status_code == 200, r.text
        return FORMS[form](r.content)
    assert read() == sorted((n, 7, i) for i, n in enumerate(names))
    assert read("a, b") == [("a, b", 7, 1)]
    assert read('say ""', "a", names[3], "a") == [("a", 7, 0), ('say ""', 7, 2), (names[3], 7, 3)]
    d = problem(server.get(f"/v1/jobs/{j}/export?format={form}&names=a,none"), 400, "query-invalid")
    assert d["errors"] == [{"parameter": "names", "detail": "the job has no series of name 2 of the list"}]
    for wrong in ('"a', '"a"b', '"a",', ",", ""):
        assert problem(server.get(f"/v1/jobs/{j}/export", params={"format": form, "names": wrong}), 400, "query-invalid")["errors"][0]["parameter"] == "names"


@pytest.mark.parametrize("form", FORMS)
def test_an_export_is_of_the_points_that_there_were(server, form):
    """While it is read more is logged, and another attempt begins before what was read."""
    n = 100_000
    j = server.submit()
    server.run(j, [{"type": "start", "step": 0, "steps": n, **START}, {"type": "scalars", "step": [0], "time_ms": [0], "columns": {"a": [0.5]}}],
               state="failed", error={"class": "host", "detail": "x"})
    server.add_points(j, 1, n - 1, ["a"])
    whole = FORMS[form](server.get(f"/v1/jobs/{j}/export?format={form}").content)
    assert [s for _, s, _ in whole] == list(range(n))
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.sendall(f"GET /v1/jobs/{j}/export?format={form} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = http.client.HTTPResponse(s)
        answer.begin()
        part = answer.read(1000)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)  # what comes now comes quickly
        server.post(f"/v1/jobs/{j}/retry")
        server.run(j, [{"type": "start", "step": 5, "steps": n, **START}, {"type": "scalars", "step": [5, 6], "time_ms": [5, 6], "columns": {"a": [30, 40], "b": [1, 2]}}])
        assert FORMS[form](part + answer.read()) == whole
    assert [s for name, s, _ in FORMS[form](server.get(f"/v1/jobs/{j}/export?format={form}").content) if name == "a"] == list(range(7))


def test_a_job_without_a_point(server):
    j = server.submit()
    assert array_of(server, j).tolist() == []
    assert server.get(f"/v1/jobs/{j}/export?format=csv").text == "series,step,time_ms,value\n"
    assert server.get(f"/v1/jobs/{j}/export?format=ndjson").content == b""


@pytest.mark.parametrize("path", ["/v1/jobs/{}/export?format=csv", "/v1/jobs/{}/export?format=tfevents", "/v1/events"])
def test_head_of_a_stream_has_no_body(server, job, path):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        s.sendall(f"HEAD {path.format(job)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\n") and answer.count(b"\r\n\r\n") == 1, answer


def test_superseded_points_are_left_out(server):
    j = server.submit()
    server.run(j, [{"type": "start", "step": 0, "steps": 100, **START}, {"type": "scalars", "step": [1, 2, 3, 4], "time_ms": [1, 2, 3, 4], "columns": {"a": [1, 2, 3, 4]}}],
               state="failed", error={"class": "host", "detail": "x"})
    server.post(f"/v1/jobs/{j}/retry")
    server.run(j, [{"type": "start", "step": 3, "steps": 100, **START}, {"type": "scalars", "step": [3, 4], "time_ms": [5, 6], "columns": {"a": [30, 40]}}])
    assert rows_of(server, j) == [("a", 1, 1, 1), ("a", 2, 2, 2), ("a", 3, 5, 30), ("a", 4, 6, 40)]


def rows_of(server, job):
    _, *rows = csv.reader(io.StringIO(server.get(f"/v1/jobs/{job}/export?format=csv").content.decode()))
    return [(n, int(s), int(t), float(v)) for n, s, t, v in rows]


def test_what_is_not_asked_for_rightly(server, job):
    assert problem(server.get(f"/v1/jobs/{job}/export"), 400, "query-invalid")["errors"][0]["parameter"] == "format"
    problem(server.get(f"/v1/jobs/{job}/export?format=xlsx"), 400, "query-invalid")
    problem(server.get("/v1/jobs/4711/export?format=csv"), 404, "not-found")


def test_a_checkpoint_is_the_published_file_again(server):
    j = server.submit()
    folder = server.state / "jobs" / str(j)
    folder.mkdir(parents=True)
    subprocess.run([os.environ["TEST_PUBLISHED"], "--import", FLAX, folder / "step-3.safetensors"], check=True)
    (folder / "step-4.safetensors").write_bytes(b"no checkpoint")
    (folder / "bpd.csv").write_text("image,bpd\n")
    server.run(j, [checkpoint(3), checkpoint(4), {**checkpoint(3), "kind": "table", "name": "bpd.csv", "metric": None}])
    ids = {a["name"]: a["id"] for a in server.get(f"/v1/jobs/{j}/artifacts").json()["artifacts"]}
    r = server.get(f"/v1/artifacts/{ids['step-3.safetensors']}?format=flax")
    with open(FLAX, "rb") as f:
        assert r.content == f.read()
    assert int(r.headers["Content-Length"]) == len(r.content) and r.headers["Content-Disposition"] == f'attachment; filename="job-{j}-step-3.flax"'
    r = server.get(f"/v1/artifacts/{ids['step-3.safetensors']}?format=ema")
    size = int.from_bytes(r.content[:8], "little")
    assert "score_model/conv_in/kernel" in json.loads(r.content[8:8 + size])
    problem(server.get(f"/v1/artifacts/{ids['step-4.safetensors']}?format=flax"), 422, "not-exportable")
    problem(server.get(f"/v1/artifacts/{ids['bpd.csv']}?format=flax"), 422, "not-exportable")
    problem(server.get(f"/v1/artifacts/{ids['bpd.csv']}?format=onnx"), 400, "query-invalid")
    shutil.rmtree(folder)
    problem(server.get(f"/v1/artifacts/{ids['step-3.safetensors']}?format=flax"), 404, "not-found")
