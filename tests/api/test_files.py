"""Artifacts, logs, the dashboard's files: ranges, validators, and nothing outside."""
import gzip
import os
import re
import socket
import sqlite3
import time

import pytest
import requests

from conftest import Server, checkpoint, problem, sanitized

DATA = bytes(range(256)) * 40
DIGEST = '"0123456789abcdef0123456789abcdef"'


@pytest.fixture(scope="module")
def job(server):
    j = server.submit()
    folder = server.state / "jobs" / str(j)
    folder.mkdir(parents=True)
    (folder / "step-10.safetensors").write_bytes(DATA)
    (folder / "grid.png").write_bytes(b"\x89PNG")
    (folder / "bpd.csv").write_text("image,bpd\n")
    (folder / "empty.npy").write_bytes(b"")
    (folder / "link.csv").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo.csv")
    (folder / "folder.csv").mkdir()
    artifact = checkpoint(10)
    names = [("image", "grid.png"), ("table", "bpd.csv"), ("table", "empty.npy"), ("table", "gone.csv"), ("table", "link.csv"),
             ("table", "fifo.csv"), ("table", "folder.csv")]
    server.run(j, [checkpoint(10, metric=7.25)] + [{**artifact, "kind": k, "name": n, "metric": None} for k, n in names])
    return j


@pytest.fixture(scope="module")
def artifacts(server, job):
    return {a["name"]: a for a in server.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"]}


def test_artifacts_are_listed(server, job, artifacts):
    a = artifacts["step-10.safetensors"]
    assert a["kind"] == "checkpoint" and a["step"] == 10 and a["bytes"] == 1000 and a["metric"] == 7.25 and a["job"] == job
    assert a["xxh128"] == DIGEST.strip('"') and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", a["created"])
    assert artifacts["grid.png"]["metric"] is None
    only = server.get(f"/v1/jobs/{job}/artifacts?kind=image").json()["artifacts"]
    assert [x["name"] for x in only] == ["grid.png"]
    problem(server.get(f"/v1/jobs/{job}/artifacts?kind=x"), 400, "query-invalid")
    problem(server.get("/v1/jobs/4711/artifacts"), 404, "not-found")


def test_only_a_checkpoint_is_pinned(server, artifacts):
    """How retention takes it is the daemon's test."""
    for name in ("grid.png", "bpd.csv"):
        r = server.request("PATCH", f"/v1/artifacts/{artifacts[name]['id']}", json={"pinned": True})
        problem(r, 422, "request-invalid")
        assert f"{name} is no checkpoint" in r.text
    path = f"/v1/artifacts/{artifacts['step-10.safetensors']['id']}"
    for change in ({"pinned": True}, {"bad": True}, {"pinned": False, "bad": False}):
        r = server.request("PATCH", path, json=change)
        assert r.status_code == 200 and {**r.json(), **change} == r.json()
    assert not r.json()["pinned"] and not r.json()["bad"]


@pytest.mark.parametrize("name, type_, disposition", [
    ("step-10.safetensors", "application/octet-stream", "attachment"), ("grid.png", "image/png", "inline"),
    ("bpd.csv", "text/csv; charset=utf-8", "attachment"), ("empty.npy", "application/octet-stream", "attachment")])
def test_an_artifact_is_served_as_its_kind(server, artifacts, name, type_, disposition):
    r = server.get(f"/v1/artifacts/{artifacts[name]['id']}")
    assert r.status_code == 200 and r.headers["Content-Type"] == type_ and r.headers["X-Content-Type-Options"] == "nosniff"
    assert r.headers["Content-Disposition"] == f'{disposition}; filename="{name}"' and r.headers["ETag"] == DIGEST
    assert "default-src 'none'" in r.headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["gone.csv", "link.csv", "fifo.csv", "folder.csv"])
def test_what_is_no_file_is_not_served(server, artifacts, name):
    problem(server.get(f"/v1/artifacts/{artifacts[name]['id']}", timeout=3), 404, "not-found")


N = len(DATA)
RANGES = [
    ("bytes=0-0", 0, 1), ("bytes=0-", 0, N), ("bytes=10-19", 10, 20), ("bytes=-1", N - 1, N), (f"bytes=-{N}", 0, N), (f"bytes=-{N * 2}", 0, N),
    (f"bytes={N - 1}-", N - 1, N), (f"bytes=5-{N * 10}", 5, N), ("bytes=5-99999999999999999999999", 5, N), ("BYTES= 1-2 ", 1, 3),
    ("bytes=5-4", None, None), ("bytes=-", None, None), ("bytes=x-", None, None), ("lines=1-2", None, None), ("bytes=0-1,3-4", None, None),
    ("bytes 0-1", None, None), ("bytes=1--2", None, None), ("bytes=+1-2", None, None),
    (f"bytes={N}-", 416, None), ("bytes=-0", 416, None), ("bytes=99999999999999999999999-", 416, None),
]


@pytest.mark.parametrize("header, first, end", RANGES)
def test_ranges(server, artifacts, header, first, end):
    path = f"/v1/artifacts/{artifacts['step-10.safetensors']['id']}"
    r = server.get(path, headers={"Range": header})
    if first is None:
        assert r.status_code == 200 and r.content == DATA
    elif first == 416:
        problem(r, 416, "range-not-satisfiable")
        assert r.headers["Content-Range"] == f"bytes */{N}"
    else:
        assert r.status_code == 206 and r.content == DATA[first:end]
        assert r.headers["Content-Range"] == f"bytes {first}-{end - 1}/{N}" and r.headers["Content-Length"] == str(end - first)
        h = server.request("HEAD", path, headers={"Range": header})
        assert h.status_code == 206 and h.headers["Content-Length"] == str(end - first) and not h.content


def test_validators(server, artifacts):
    path = f"/v1/artifacts/{artifacts['step-10.safetensors']['id']}"
    for value in (DIGEST, "W/" + DIGEST, f'"x", {DIGEST}', "*"):
        r = server.get(path, headers={"If-None-Match": value})
        assert r.status_code == 304 and not r.content and r.headers["ETag"] == DIGEST
    for value in ('"x"', DIGEST[:-1], "0123456789abcdef0123456789abcdef", ""):
        assert server.get(path, headers={"If-None-Match": value}).status_code == 200
    assert server.get(path, headers={"If-Range": DIGEST, "Range": "bytes=0-1"}).status_code == 206
    assert server.get(path, headers={"If-Range": '"x"', "Range": "bytes=0-1"}).status_code == 200
    assert server.get(path, headers={"If-Range": "Tue, 24 Nov 2026 12:00:00 GMT", "Range": "bytes=0-1"}).status_code == 200


# ---- logs

def test_the_log(server):
    job = server.submit()
    path = f"/v1/jobs/{job}/log"
    r = server.get(path)
    assert r.status_code == 200 and r.text == "" and r.headers["X-Log-Size"] == "0" and r.headers["X-Log-Next-Offset"] == "0"
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    lines = [f"line {i} é\n" for i in range(20000)]
    text = "".join(lines)
    (folder / "log").write_text(text)
    size = len(text.encode())
    r = server.get(path)
    assert r.content == text.encode() and r.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert r.headers["X-Log-Size"] == r.headers["X-Log-Next-Offset"] == str(size)
    for n in (1, 2, 100, 5000, 19999, 20000, 20001, 100000):
        assert server.get(f"{path}?tail={n}").content == "".join(lines[-n:]).encode(), n
    assert server.get(f"{path}?offset={size - 5}").content == text.encode()[-5:]
    r = server.get(f"{path}?offset={size}")
    assert r.status_code == 200 and r.content == b"" and r.headers["X-Log-Next-Offset"] == str(size)
    assert server.get(f"{path}?offset={size + 100}").headers["X-Log-Next-Offset"] == str(size)
    with open(folder / "log", "a", encoding="utf-8") as f:
        f.write("unfinished")
    assert server.get(f"{path}?offset={size}").text == "unfinished"
    assert server.get(f"{path}?tail=2").content == (lines[-1] + "unfinished").encode()
    r = server.get(path, headers={"Range": f"bytes={size}-"})
    assert r.status_code == 206 and r.text == "unfinished" and r.headers["Content-Range"] == f"bytes {size}-{size + 9}/{size + 10}"
    problem(server.get(path, headers={"Range": f"bytes={size + 10}-"}), 416)
    assert server.get(path, headers={"Range": "bytes=-4"}).text == "shed"
    for query in ("tail=0", "tail=-1", "tail=x", "tail=100001", "offset=-1", "offset=x", "tail=1&offset=1", "follow", "fold=yes"):
        problem(server.get(f"{path}?{query}"), 400, "query-invalid")
    problem(server.get("/v1/jobs/4711/log"), 404, "not-found")


BAR = b"".join(b"\r%3d%%" % i for i in range(101))


@pytest.mark.parametrize("text, folded", [
    (b"a" + BAR + b"\nb\n", b"100%\nb\n"), (b"10%\r20%\r30%\r", b"30%"), (b"one\r\ntwo\r\n", b"one\ntwo\n"), (b"\r\r\n\r", b"\n"), (b"x\r", b"x"), (b"\rx", b"x"),
    (b"begin\n" + BAR * 500 + b"\rdone\nend", b"begin\ndone\nend"), (BAR * 20000 + b"\n", b"100%\n"), (b"y" * 65535 + b"\r\nz\r" + b"w" * 70000, b"y" * 65535 + b"\n" + b"w" * 70000),
    (b"v" * 65537 + b"\rw", b"v" * 65537 + b"w")], ids=range(10))  # the last: longer than what is kept to be drawn over
def test_what_was_drawn_over_is_folded(server, text, folded):
    job = server.submit()
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    (folder / "log").write_bytes(text)
    path = f"/v1/jobs/{job}/log"
    for query in ("?fold=true", "?tail=100", "?tail=100&fold=true"):
        r = server.get(path + query)
        assert r.content.replace(b"\r", b"") == folded and r.content.count(b"\r") <= len(text) >> 20, query
        assert r.headers["X-Log-Size"] == r.headers["X-Log-Next-Offset"] == str(len(text))
    for query in ("", "?fold=false", "?tail=100&fold=false", "?offset=0"):
        assert server.get(path + query).content == text, query


@pytest.mark.parametrize("query", ["fold=true", "format=timed", "format=ndjson", "tail=1"])
@pytest.mark.parametrize("text", [b"\r" * (10 << 20), BAR * 20000 + b"\n"], ids=["returns", "bars"])
def test_what_is_drawn_over_again_and_again_holds_up_nobody(server, text, query):
    """A line's end was looked for anew behind each return: half a minute, a second and more of it at once."""
    job = server.submit()
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    (folder / "log").write_bytes(text)
    began = time.monotonic()
    assert server.get(f"/v1/jobs/{job}/log?{query}").status_code == 200
    assert time.monotonic() - began < (40 if sanitized() else 4)


@pytest.mark.parametrize("text", [b"", b"\n", b"\n\n\n", b"a", b"a\nb", b"x" * 70000 + b"\n" + b"y" * 65535 + b"\n"])
def test_tails_of_odd_logs(server, text):
    job = server.submit()
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    (folder / "log").write_bytes(text)
    lines = text.splitlines(keepends=True)
    for n in (1, 2, 3):
        assert server.get(f"/v1/jobs/{job}/log?tail={n}").content == b"".join(lines[-n:])


# ---- the dashboard

def test_static_files(server):
    r = server.get("/")
    assert r.status_code == 200 and r.headers["Content-Type"] == "text/html; charset=utf-8" and "mulund" in r.text
    assert server.get("/index.html").content == r.content
    csp = r.headers["Content-Security-Policy"]
    assert csp.startswith("default-src 'self'") and "unsafe" not in csp and "frame-ancestors 'none'" in csp
    assert r.headers["X-Content-Type-Options"] == "nosniff" and r.headers["Referrer-Policy"] == "no-referrer"
    js = server.get("/lib/api.js?v=2")
    assert js.status_code == 200 and js.headers["Content-Type"] == "text/javascript; charset=utf-8"
    again = server.get("/lib/api.js", headers={"If-None-Match": js.headers["ETag"]})
    assert again.status_code == 304 and not again.content and "default-src 'self'" in again.headers["Content-Security-Policy"]
    (server.web / "lib" / "api.js").write_text("export const x = 2;")
    assert server.get("/lib/api.js", headers={"If-None-Match": js.headers["ETag"]}).status_code == 200


def test_static_files_are_compressed_for_who_takes_it(server):
    plain = b"a { color: red }" * 100
    assets = server.web / "assets"
    assets.mkdir()
    (assets / "a-1.css").write_bytes(plain)
    (assets / "a-1.css.gz").write_bytes(gzip.compress(plain))
    (assets / "a-1.css.br").write_bytes(b"made by brotli")
    (assets / "b-1.css").write_bytes(plain)

    def get(accept, path="/assets/a-1.css", **headers):
        r = server.raw("\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"] +
                                  ([f"Accept-Encoding: {accept}"] if accept is not None else []) +
                                  [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()] + ["", ""]).encode())
        head, body = r.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        return lines[0].split()[1], {k.lower(): v for k, v in (x.split(": ", 1) for x in lines[1:])}, body

    tags = set()
    for accept, coding, body in ((None, None, plain), ("", None, plain), ("gzip", "gzip", gzip.compress(plain)), ("gzip, deflate, br", "br", b"made by brotli"),
                                 ("br;q=0, GZIP;q=0.5", "gzip", None), ("br; q=0.0,gzip;q=0", None, plain), ("br;q=0;x=1", None, plain), ("br;q=0.05;x=1", "br", b"made by brotli"), ("xgzip, brx, gz", None, plain),
                                 ("br;q=0.001", "br", b"made by brotli"), ("deflate", None, plain)):
        status, headers, got = get(accept)
        assert status == "200" and headers.get("content-encoding") == coding and headers["vary"] == "Accept-Encoding", accept
        assert headers["content-type"] == "text/css; charset=utf-8" and (got == body if coding != "gzip" else gzip.decompress(got) == plain), accept
        assert headers["cache-control"] == "max-age=31536000, immutable"
        tags.add(headers["etag"])
        status, headers, got = get(accept, If_None_Match=headers["etag"])
        assert status == "304" and not got and headers["vary"] == "Accept-Encoding" and "content-encoding" not in headers
    assert len(tags) == 3
    assert get("br, gzip", "/assets/b-1.css")[2] == plain
    for path in ("/assets/a-1.css.gz", "/assets/a-1.css.br"):
        assert get("gzip", path)[0] == "404"
    os.utime(assets / "a-1.css", (1, 1))
    assert get(None)[1]["etag"] in tags  # the same content
    assert get(None, "/")[1]["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/secret.key", "/link.txt", "/lib", "/lib/", "/lib/none.js", "/index.html/", "/index.html/x", "/."])
def test_what_is_no_page_is_not_served(server, path):
    r = server.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 40[04] ", r) and b"secret" not in r


# CVE-2023-6977, CVE-2024-1483, CVE-2024-3848, CVE-2024-1593, CVE-2024-1560, CVE-2024-8859 of MLflow, and their kin
TRAVERSALS = [
    "/../outside.txt", "//proc/self/root/etc/passwd", "/#/../outside.txt", "/lib/..;/outside.txt", "/lib/%252e%252e/outside.txt",
    "/dbfs:/etc/passwd", "/file:///etc/passwd", "/..%2foutside.txt", "/%2e%2e/outside.txt", "/%2e%2e%2foutside.txt", "/..%5coutside.txt",
    "/..\\outside.txt", "/lib/../../outside.txt", "/lib/./../../outside.txt", "/lib/%2e%2e/%2e%2e/outside.txt", "/%00", "/index.html%00.txt",
    "/..%00/outside.txt", "/%c0%ae%c0%ae/outside.txt", "/%c0%ae%c0%ae%c0%afoutside.txt", "/%e0%80%ae%e0%80%ae/outside.txt", "/....//outside.txt",
    "/lib/..", "/lib/%2e%2e", "/%2fetc%2fpasswd", "/%5cetc", "/lib//api.js", "/;/outside.txt", "/lib/..%3b/outside.txt", "/~root/x.txt",
    "/%25%32%65%25%32%65/outside.txt", "/lib/%2e%2e%252foutside.txt", "/?/../outside.txt", "/link.txt", "/C:/x.txt", "/lib/.%2e/outside.txt",
    "/%u002e%u002e/outside.txt", "/\x01.txt", "/%0d%0aSet-Cookie:x.txt", "/lib/%",
]
PREFIXES = ["", "/v1/configs", "/v1/artifacts", "/v1/jobs/1/artifacts", "/v1/jobs/1/log"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", TRAVERSALS)
def test_nothing_outside_is_reached(server, prefix, path):
    r = server.raw(f"GET {prefix}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin1"))
    assert b"secret" not in r and b"root:" not in r
    if not (path.startswith("/?") or path.startswith("/%0d")):
        assert re.match(rb"HTTP/1.1 40[04] ", r), r[:100]
    assert b"\r\nSet-Cookie" not in r


def test_requests_with_a_name_of_a_config_reach_only_plain_names(server):
    (server.configs.parent / "outside.json").write_text("{}")
    for name in ("../outside", "..%2foutside", "%2e%2e%2foutside"):
        r = requests.Request("GET", server.url + "/v1/configs/" + name).prepare()
        r.url = server.url + "/v1/configs/" + name
        assert server.session.send(r).status_code in (400, 404)
    for name in ("../outside", "..", ".", "/etc/x", "a/b", "outside\x00", "a\\b"):
        problem(server.post("/v1/jobs", {"kind": "train", "config": name}), 422)


def bytes_read(server):
    """By read(2) and its like, since it began."""
    with open(f"/proc/{server.process.pid}/io") as f:
        return int(re.search(r"^rchar: (\d+)", f.read(), re.M).group(1))


def test_the_tail_of_a_log_without_lines_is_bounded(server):
    """3 GiB were read back to their beginning."""
    job = server.submit()
    server.run(job)
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log", "wb") as f:
        f.write(b"first\n")
        f.seek((3 << 30) - (32 << 20))  # before that a hole, which costs nobody anything
        f.write(b"x" * (32 << 20))
    before = bytes_read(server)
    r = server.get(f"/v1/jobs/{job}/log?tail=10")
    assert r.status_code == 200 and len(r.content) == 16 << 20 and r.headers["X-Log-Size"] == str(3 << 30)
    assert bytes_read(server) - before < 64 << 20
    with open(folder / "log", "ab") as f:
        f.write(b"\nlast but one\nlast\n")
    assert server.get(f"/v1/jobs/{job}/log?tail=2").content == b"last but one\nlast\n"


def test_a_download_that_makes_progress_is_not_cut_and_one_that_makes_none_is(tmp_path):
    """With a second of patience: the socket takes more than a slow client reads in that time."""
    s = Server(tmp_path, idle_ms=1000)
    try:
        job, size = s.submit(), 24 << 20
        folder = s.state / "jobs" / str(job)
        folder.mkdir(parents=True)
        (folder / "step-1.safetensors").write_bytes(b"x" * size)
        s.run(job, [{**checkpoint(1), "name": "step-1.safetensors", "bytes": size}])
        artifact = s.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"][0]["id"]
        request = f"GET /v1/artifacts/{artifact} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        slow, deaf = [socket.create_connection(("127.0.0.1", s.port), timeout=10) for _ in range(2)]
        slow.sendall(request)
        deaf.sendall(request)
        got, began = 0, time.monotonic()
        while time.monotonic() - began < 12:
            got += len(slow.recv(20000))
            time.sleep(0.1)
        assert got < size / 2
        while part := slow.recv(1 << 16):
            got += len(part)
        assert got > size
        got = 0
        try:
            while part := deaf.recv(1 << 16):
                got += len(part)
        except OSError:
            pass
        assert got < size
        silent = socket.create_connection(("127.0.0.1", s.port), timeout=10)
        silent.sendall(b"GET /healthz HT")
        assert silent.recv(10) == b"", "silence is none, too"
    finally:
        s.close()


def test_who_follows_a_silent_log_is_not_cut(tmp_path):
    """What he waits for is ours to say, however long that takes; whether his machine is there is asked."""
    s = Server(tmp_path, idle_ms=1000)
    try:
        job = s.submit()
        log = s.state / "jobs" / str(job) / "log"
        log.parent.mkdir(parents=True)
        log.write_bytes(b"one\n")
        s.tell(do="start", job=job)
        with socket.create_connection(("127.0.0.1", s.port), timeout=30) as follower:
            follower.sendall(f"GET /v1/jobs/{job}/log?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            got = b""
            while b"one\n" not in got:
                got += follower.recv(1 << 16)
            pair = f":{s.port:04X} 0100007F:{follower.getsockname()[1]:04X} 01"
            timer, = [line.split()[5] for line in open("/proc/net/tcp") if pair in line]
            assert timer.startswith("02:"), "the kernel's timer is not that of keepalive"
            time.sleep(5)
            with open(log, "ab") as f:
                f.write(b"two\n")
            while b"two\n" not in got:
                part = follower.recv(1 << 16)
                assert part, "it was cut"
                got += part
    finally:
        s.close()


def test_nothing_of_another_runs_folder_is_served(server):
    job = server.submit()
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    server.run(job, [{**checkpoint(1), "name": "step-1.safetensors"}], state="succeeded")
    artifact = server.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"][0]["id"]
    (folder / "step-1.safetensors").write_bytes(b"weights")
    (folder / "log").write_text("words")
    with sqlite3.connect(server.state / "mulund.db") as db:
        (identity,), = db.execute("SELECT identity FROM job WHERE id = ?", (job,)).fetchall()
    for text, is_ours in ((identity + "\n", True), ("0" * 32 + "\n", False), ("", False)):
        (folder / "identity").write_text(text)
        assert server.get(f"/v1/artifacts/{artifact}").status_code == (200 if is_ours else 404)
        assert server.get(f"/v1/jobs/{job}/log").text == ("words" if is_ours else "")


def test_a_folder_that_was_moved_to_another_disk_is_served_through_its_link(server, tmp_path):
    job = server.submit()
    server.run(job, [{**checkpoint(1), "name": "step-1.safetensors"}], state="succeeded")
    artifact = server.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"][0]["id"]
    (server.state / "jobs").mkdir(exist_ok=True)
    (tmp_path / "step-1.safetensors").write_bytes(b"weights")
    (tmp_path / "log").write_text("words")
    (server.state / "jobs" / str(job)).symlink_to(tmp_path)
    assert server.get(f"/v1/artifacts/{artifact}").content == b"weights" and server.get(f"/v1/jobs/{job}/log").text == "words"
    (tmp_path / "log").unlink()
    (tmp_path / "log").symlink_to("step-1.safetensors")
    assert server.get(f"/v1/jobs/{job}/log").text == ""
