"""What every request has: an id, a line of the log; and what answers save: coding, and what has not changed."""
import ctypes
import gzip
import json
import re
import threading
import time

import pytest
import requests

from conftest import START, Server, checkpoint, problem

LINE = re.compile(r"request (\S+) (\S+) (\S+) (\S+) (\S+) (\d+) (\d+) (\d+\.\d) ms")


def lines(server, n):
    """So many of the log."""
    found = server.logged(lambda found: len(found) >= n)
    assert len(found) == n, found
    return [LINE.fullmatch(x).groups() for x in found]


# ---- ids

@pytest.mark.parametrize("given", ["a", "Az09.-_x", "x" * 64, "7f3a-1"])
def test_a_plain_id_is_kept(server, given):
    assert server.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given
    assert problem(server.get("/v1/jobs/999", headers={"X-Request-Id": given}), 404)["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a\tb", "x" * 65, "é", "<script>", "a;b", ".hidden"])
def test_any_other_is_replaced(server, given):
    made = server.get("/healthz", headers={"X-Request-Id": given.encode()}).headers["X-Request-Id"]
    assert made != given and re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", made)


def test_each_request_has_its_own(server):
    made = [server.get("/healthz").headers["X-Request-Id"] for _ in range(20)]
    assert len(set(made)) == 20
    d = problem(server.get("/v1/jobs/999"), 404)
    assert d["request_id"] not in made
    for method, path, headers in (("POST", "/v1/jobs", {}), ("GET", "/v1/jobs?x=1", {}), ("BREW", "/", {}), ("GET", "/v1/jobs", {"Host": "evil"})):
        r = server.request(method, path, headers=headers)
        assert r.json()["request_id"] == r.headers["X-Request-Id"]


# ---- log

def test_each_request_is_a_line(server):
    server.tell(do="log")
    r = server.get("/v1/jobs?limit=1", headers={"X-Request-Id": "mine"})
    assert server.post("/v1/jobs", {"kind": "fly"}).status_code == 422
    (id_, client, token, method, path, status, size, ms), (_, _, _, method2, path2, status2, *_) = lines(server, 2)
    assert (id_, client, token, method, path, status) == ("mine", "127.0.0.1", "-", "GET", "/v1/jobs?limit=1", "200")
    assert int(size) == int(r.headers["Content-Length"]) and 0 <= float(ms) < 5000
    assert (method2, path2, status2) == ("POST", "/v1/jobs", "422")


def test_nothing_of_a_request_breaks_the_line(server):
    server.tell(do="log")
    server.raw(b"GET /%0a\x01\xff?\x7f" + b"x" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    server.raw(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\x1bb\r\nConnection: close\r\n\r\n")
    for line in lines(server, 2):
        assert all(" " < c <= "~" for part in line for c in part)


@pytest.mark.parametrize("method, path", [("POST", "/open?code=5ec2e7"), ("GET", "/open?code=5ec2e7&code=1"), ("GET", "/open?code=5ec2e7&x=1"), ("GET", "/v1/jobs?token=ci.5ec2e7"),
                                          ("GET", "/v1/jobs?limit=1&access_token=5ec2e7"), ("GET", "/no-such?key=5ec2e7"), ("GET", "/?token=5ec2e7"), ("BREW", "/v1/jobs?limit=5ec2e7")])
def test_what_may_be_a_secret_is_not_in_the_line(server, method, path):
    server.tell(do="log")
    server.request(method, path)
    (_, _, _, method2, path2, *_), = lines(server, 1)
    assert (method2, path2) == (method, path.split("?")[0])


def test_streams_and_files_are_counted_as_sent(server):
    j = server.submit()
    server.run(j, [{"type": "scalars", "step": [1, 2], "time_ms": [1, 2], "columns": {"a": [1, 2]}}])
    server.tell(do="log")
    r = server.get(f"/v1/jobs/{j}/export?format=csv")
    f = server.get("/lib/api.js", headers={"Range": "bytes=1-4"})
    (*_, size, _), (*_, status2, size2, _) = lines(server, 2)
    assert int(size) == len(r.content) > 0 and status2 == "206" and int(size2) == len(f.content) == 4


# ---- codings

def decoded(coding, content):
    if coding == "gzip":
        return gzip.decompress(content)
    out = ctypes.create_string_buffer(1 << 22)
    n = ctypes.CDLL("libzstd.so.1").ZSTD_decompress(out, len(out), content, len(content))
    return out.raw[:n]


@pytest.mark.parametrize("accepted, coding", [("gzip", "gzip"), ("zstd", "zstd"), ("gzip, zstd;q=0.5", "zstd"), ("gzip, zstd;q=0", "gzip"),
                                              ("br", None), ("identity", None), ("gzip;q=0", None)])
def test_long_json_is_sent_in_the_coding_that_is_taken(server, accepted, coding):
    server.submit()
    path = "/v1/jobs?order=id"
    plain = server.get(path, headers={"Accept-Encoding": "identity"})
    r = server.session.get(server.url + path, headers={"Accept-Encoding": accepted}, stream=True)
    raw = r.raw.read(decode_content=False)
    assert r.headers.get("Content-Encoding") == coding and r.headers["Vary"] == "Accept-Encoding"
    assert int(r.headers["Content-Length"]) == len(raw)
    if coding:
        assert len(raw) < len(plain.content) / 2
    assert (decoded(coding, raw) if coding else raw) == plain.content


def test_what_is_short_is_sent_as_it_is(server):
    assert "Content-Encoding" not in server.get("/healthz", headers={"Accept-Encoding": "gzip"}).headers


# ---- what has not changed

def test_who_polls_is_told_that_nothing_changed(server):
    j = server.submit()
    for path in (f"/v1/jobs/{j}", "/v1/jobs?limit=2", "/v1/devices"):
        tag = server.get(path).headers["ETag"]
        assert tag.startswith('W/"')
        for coding in ("identity", "gzip", "zstd"):
            r = server.get(path, headers={"If-None-Match": tag, "Accept-Encoding": coding})
            assert r.status_code == 304 and not r.content and r.headers["ETag"] == tag and "Content-Encoding" not in r.headers
            assert r.headers["Cache-Control"] == "private, no-cache"
        assert server.get(path, headers={"If-None-Match": 'W/"other", ' + tag}).status_code == 304
        assert server.get(path, headers={"If-None-Match": 'W/"other"'}).status_code == 200
    before = server.get(f"/v1/jobs/{j}").headers["ETag"]
    assert server.request("PATCH", f"/v1/jobs/{j}", data='{"name": "new"}', headers={"Content-Type": "application/json"}).status_code == 200
    r = server.get(f"/v1/jobs/{j}", headers={"If-None-Match": before})
    assert r.status_code == 200 and r.json()["name"] == "new" and r.headers["ETag"] != before


def test_only_reading_has_tags(server):
    assert "ETag" not in server.post("/v1/jobs", {"kind": "train", "config": {}}).headers
    assert "ETag" not in server.get("/v1/jobs/999").headers
    assert server.get("/v1/jobs/999", headers={"If-None-Match": "*"}).status_code == 404


# ---- answers that are kept while nothing is committed


def test_a_kept_answer_is_given_in_every_coding_and_to_who_has_it(server):
    j = server.submit(name="kept")
    server.run(j)
    path = f"/v1/jobs/{j}"
    first = server.get(path, headers={"Accept-Encoding": "identity"})
    for _ in range(2):
        for coding in ("identity", "gzip", "zstd", "zstd;q=0, gzip"):
            r = server.session.get(server.url + path, headers={"Accept-Encoding": coding}, stream=True)
            raw, applied = r.raw.read(decode_content=False), r.headers.get("Content-Encoding")
            assert (decoded(applied, raw) if applied else raw) == first.content and applied == {"identity": None, "gzip": "gzip", "zstd": "zstd"}.get(coding, "gzip")
            same = {"ETag", "Content-Type", "Cache-Control", "Vary", "Content-Security-Policy", "X-Content-Type-Options"}
            assert {k: r.headers[k] for k in same} == {k: first.headers[k] for k in same}
        head = server.request("HEAD", path, headers={"Accept-Encoding": "identity"})
        assert not head.content and head.headers["Content-Length"] == str(len(first.content))
        assert server.get(path, headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
        assert server.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    ids = {server.get(path).headers["X-Request-Id"] for _ in range(5)}
    assert len(ids) == 5


def test_a_change_is_in_the_next_answer_however_often_it_was_given(server):
    j = server.submit(name="0")
    paths = [f"/v1/jobs/{j}/{of}" for of in ("events", "attempts", "artifacts")]
    before = [server.get(path).json() for path in paths for _ in range(2)][::2]
    server.run(j, [{"type": "start", "step": 0, "steps": 100, **START}, checkpoint(10)], "failed", error={"class": "numeric", "detail": "diverged"})
    assert all(server.get(path).json() != old for path, old in zip(paths, before))
    for i in range(1, 100):
        assert server.request("PATCH", f"/v1/jobs/{j}", data=json.dumps({"name": str(i)}), headers={"Content-Type": "application/json"}).json()["name"] == str(i)
        for _ in range(2):
            assert server.get(f"/v1/jobs/{j}").json()["name"] == str(i)


def test_nobody_sees_a_job_go_back_while_others_change_it(server):
    j = server.submit(name="0")
    server.run(j)
    over, seen = threading.Event(), [0]

    def change():
        with requests.Session() as session:
            for i in range(1, 150):
                r = session.patch(f"{server.url}/v1/jobs/{j}", json={"name": str(i)}, timeout=60)
                assert r.status_code == 200
        over.set()

    changer = threading.Thread(target=change)
    changer.start()
    sessions = [requests.Session() for _ in range(3)]
    while not over.is_set():
        for session in sessions:  # each has a connection, and so perhaps a thread, of its own
            seen.append(session.get(f"{server.url}/v1/jobs/{j}", timeout=60).json()["version"])
    changer.join()
    assert seen == sorted(seen) and server.get(f"/v1/jobs/{j}").json()["name"] == "149"


def test_why_a_job_waits_is_asked_anew(server):
    j = server.submit()
    reasons = []
    for why in ("", "the disk is nearly full", ""):
        server.tell(do="disk", low=why)  # which nothing of the store tells
        reasons.append(server.get(f"/v1/jobs/{j}").json()["waiting"]["reason"])
    assert reasons[1] == "disk_low" and "disk_low" not in (reasons[0], reasons[2])


def test_why_a_job_waits_is_kept_for_a_fifth_of_a_second_at_most(server):
    """Also where nobody says that a cause has changed, as when a disk fills up."""
    j = server.submit()

    def low():
        return server.get(f"/v1/jobs/{j}").json()["waiting"]["reason"] == "disk_low"

    kept = 0
    for i in range(20):
        was = low()
        server.tell(do="disk", low="" if was else "nearly full", unsaid=True)
        now = low()
        kept += now == was
        time.sleep(0.2 + 0.05)
        assert low() != was, "a fifth of a second is over"
    assert kept, "it is never kept"
    server.tell(do="disk", low="")
