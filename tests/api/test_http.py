"""The doors: routes and methods, Host and Origin, bodies, sizes, slow clients, the end of the server."""
import gzip
import os
import re
import socket
import subprocess
import threading
import time

import pytest
import requests

from conftest import HERE, Server, problem, sanitized

DEF = (HERE.parent.parent / "api" / "routes.def").read_text()
ROUTES = re.findall(r'^R\((\w+), "([^"]+)"', DEF, re.M)
PATHS = sorted({p for _, p in ROUTES})
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
JSON = {"Content-Type": "application/json"}


def concrete(pattern):
    return pattern.replace("{id}", "4711").replace("{name}", "vdm-cifar10")


def allowed(pattern):
    methods = [m for m, p in ROUTES if p == pattern]
    return set(methods) | ({"HEAD"} if "GET" in methods else set())


@pytest.mark.parametrize("path", PATHS + ["/", "/lib/api.js", "/no-such"])
@pytest.mark.parametrize("method", METHODS)
def test_every_route_and_method(server, path, method):
    may = allowed(path) or {"GET", "HEAD"}
    r = server.request(method, concrete(path), headers=JSON)
    if method in may:
        assert r.status_code != 405 and r.status_code < 500
    elif method == "HEAD":
        assert r.status_code == 405
    else:
        problem(r, 405, "method-not-allowed")
    if r.status_code == 405:
        assert set(r.headers["Allow"].split(", ")) == may
    assert r.headers["X-Content-Type-Options"] == "nosniff" and "Content-Security-Policy" in r.headers
    if method == "HEAD":
        assert r.content == b""


@pytest.mark.parametrize("path", [p for m, p in ROUTES if m == "GET" and "{id}" not in p and p not in ("/v1/series", "/v1/events", "/v1/webhooks/{name}/deliveries", "/open", "/metrics")] + ["/"])
def test_head_is_get_without_its_body(server, path):
    server.tell(do="dataset", name=concrete("{name}"), train=1, test=1)
    plain = {"Accept-Encoding": "identity"}
    a, b = server.get(concrete(path), headers=plain), server.request("HEAD", concrete(path), headers=plain)
    assert a.status_code == b.status_code == 200 and not b.content
    assert a.headers["Content-Length"] == b.headers["Content-Length"] == str(len(a.content))


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/jobs/", "/v1/jobs/0", "/v1/jobs/01", "/v1/jobs/-1", "/v1/jobs/1x", "/v1/jobs/1/",
                                  "/v1/jobs/99999999999999999999", "/v1/jobs/1/x", "/v1/jobs/1/log/x", "/v2/jobs", "/v1/configs/.x",
                                  "/v1/jobs/%31%20", "/V1/jobs", "/v1/configs/a%00b", "/v1/jobs/1;x"])
def test_what_is_no_path_is_not_found(server, path):
    r = server.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 (404|400) ", r), r[:200]


# ---- who is asked, and who asks

GOOD_HOSTS = ["127.0.0.1", "127.0.0.1:1", "127.0.0.1:65535", "localhost", "LOCALHOST:8700", "localhost:80", "[::1]", "[::1]:8700"]
BAD_HOSTS = ["example.org", "127.0.0.1.example.org", "localhost.example.org", "127.0.0.2", "evil:8700", "localhost:", "localhost:x",
             "localhost:99999", "localhost:80:80", "localhost@evil", "127.0.0.1 evil", "[::1", "[::1]x", "[::2]", "::1", "0.0.0.0", "0x7f.1", "2130706433",
             "localhost.", "xn--localhost", " ", "localhost/"]


@pytest.mark.parametrize("method, path", ROUTES + [("GET", "/v1/no-such"), ("PUT", "/v1/jobs")])
def test_a_foreign_host_is_refused_on_every_route(server, method, path):
    for host in BAD_HOSTS:
        r = server.raw(f"{method} {concrete(path)} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                       "Connection: close\r\n\r\n".encode())
        assert r.startswith((b"HTTP/1.1 421 ", b"HTTP/1.1 400 ")), (host, r[:200])
        if host.strip():
            assert r.startswith(b"HTTP/1.1 421 ") and host.split()[0].encode() in r.replace(b"\\/", b"/"), r
    for host in GOOD_HOSTS:
        r = server.raw(f"{method} {concrete(path)} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                       "Connection: close\r\n\r\n".encode())
        assert not r.startswith((b"HTTP/1.1 421 ", b"HTTP/1.1 403 ")), (host, r[:200])


def test_no_host_or_two_are_refused(server):
    assert server.raw(b"GET /healthz HTTP/1.0\r\n\r\n").split(b" ")[1] == b"421"
    assert server.raw(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").split(b" ")[1] in (b"400", b"421")
    assert server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n").split(b" ")[1] == b"400"


@pytest.mark.parametrize("host", BAD_HOSTS[:4])
def test_files_say_nothing_and_are_served_whoever_asks(server, host):
    """A proxy sends any Host, and module scripts an Origin."""
    for path, status in (("/", 200), ("/lib/api.js", 200), ("/no-such", 404)):
        r = server.request("GET", path, headers={"Host": host, "Origin": "http://example.org", "Sec-Fetch-Site": "cross-site"})
        assert r.status_code == status


@pytest.mark.parametrize("method, path", ROUTES + [("PUT", "/v1/jobs"), ("GET", "/v1/no-such")])
def test_a_foreign_origin_is_refused_on_every_route(server, method, path):
    own = f"http://127.0.0.1:{server.port}"
    bad = [{"Origin": o} for o in ("null", "http://example.org", f"ftp://127.0.0.1:{server.port}", "http://127.0.0.1",
                                   f"http://localhost:{server.port}", own + ".example.org", own + "/", f"http://127.0.0.1:{server.port}1",
                                   "file://", "http://evil@127.0.0.1")] + [{"Sec-Fetch-Site": "cross-site"},
                                                                          {"Origin": own, "Sec-Fetch-Site": "Cross-Site"}]
    for headers in bad:
        problem(server.request(method, concrete(path), headers={**JSON, **headers}), 403, "foreign-origin")
    for headers in ({"Origin": own}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"},
                    {"Origin": own, "Sec-Fetch-Site": "same-origin"}):
        assert server.request(method, concrete(path), headers={**JSON, **headers}).status_code != 403


@pytest.mark.parametrize("type_", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
                                   "application/jsonx", "application/json; charset=latin1", "text/json", ""])
def test_post_takes_json_only(server, type_):
    for path in ("/v1/jobs", "/v1/jobs/1/cancel", "/v1/jobs/1/resume", "/v1/jobs/1/retry", "/v1/stop"):
        problem(server.request("POST", path, data=b"{}", headers={"Content-Type": type_}), 415, "not-json-type")


@pytest.mark.parametrize("type_", ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'])
def test_json_may_be_announced_in_several_ways(server, type_):
    problem(server.request("POST", "/v1/jobs", data=b"{}", headers={"Content-Type": type_}), 422)


# ---- bodies

def test_a_compressed_body_is_not_taken_for_broken_json(server):
    body = b'{"kind": "x"}'
    for coding, data in (("gzip", gzip.compress(body)), ("zstd", body), ("", body)):
        d = problem(server.request("POST", "/v1/jobs", data=data, headers={**JSON, "Content-Encoding": coding}), 415, "not-json-type")
        assert "compressed" in d["detail"]
    problem(server.request("POST", "/v1/jobs", data=body, headers={**JSON, "Content-Encoding": "Identity"}), 422)


TEXTS = sorted((HERE / "json").glob("*.json"))


def test_the_suite_is_whole():
    assert len(TEXTS) == 318


@pytest.mark.parametrize("text", TEXTS, ids=lambda p: p.name)
def test_json_test_suite(server, text):
    r = server.request("POST", "/v1/jobs", data=text.read_bytes(), headers=JSON)
    kind = text.name[0]
    if kind == "n" or text.name == "y_object_escaped_null_in_key.json":
        problem(r, 400, "not-json")
    elif kind == "y":
        problem(r, 422, "request-invalid")
    else:
        assert r.status_code in (400, 422)
        problem(r, r.status_code)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe{}", b'{"kind": "\xff"}', b"{}\x00", b"\x00", b"{} {}", b"{}x", b"[" * 100000,
                                  b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"a": NaN}', b"{'a': 1}", b'{"a": 1,}', b'{"a": "\\ud800"}',
                                  b'{"a": 1e999}', b'{"a": 99999999999999999999}', b'{"\\u0000": 1}'])
def test_what_is_not_json_is_a_400(server, body):
    d = problem(server.request("POST", "/v1/jobs", data=body, headers=JSON), 400, "not-json")
    assert d["detail"].startswith("not JSON")


def test_a_body_at_the_limit_is_taken_and_one_above_not(server):
    limit = 1 << 20
    good = b'{"kind": "x"}'
    problem(server.request("POST", "/v1/jobs", data=good + b" " * (limit - len(good)), headers=JSON), 422)
    problem(server.request("POST", "/v1/jobs", data=good + b" " * (limit - len(good) + 1), headers=JSON), 413, "body-too-large")


def test_a_body_of_100_mb_is_refused_quickly_and_memory_stays(server):
    body = b'{"kind": "' + b"x" * 100_000_000 + b'"}'
    before = server.tell(do="rss")["max_kib"]
    began = time.monotonic()
    problem(server.request("POST", "/v1/jobs", data=body, headers=JSON), 413, "body-too-large")
    assert time.monotonic() - began < 5
    # in pieces of unknown number
    problem(server.request("POST", "/v1/jobs", data=iter([body[i:i + 1_000_000] for i in range(0, 30_000_000, 1_000_000)]),
                           headers=JSON), 413, "body-too-large")
    # refused for another reason: read to its end, kept nowhere
    problem(server.request("POST", "/v1/no-such", data=body, headers=JSON), 404)
    assert server.tell(do="rss")["max_kib"] - before < 4096
    # who asks first is told at once
    r = server.raw(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n"
                   b"Expect: 100-continue\r\n\r\n", timeout=3, end=False)
    assert r.startswith(b"HTTP/1.1 413 ")
    # and who announces a terabyte, too
    r = server.raw(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000000000\r\n\r\n",
                   timeout=3, end=False)
    assert r.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", [b"-1", b"x", b"1x", b"18446744073709551616", b""])
def test_a_content_length_that_is_none_is_refused(server, length):
    r = server.raw(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " + length +
                   b"\r\nConnection: close\r\n\r\n{}", timeout=3)
    assert not r or re.match(rb"HTTP/1.1 4\d\d ", r), r[:100]


def test_headers_and_urls_are_bounded(server):
    r = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"x" * 200_000 + b"\r\nConnection: close\r\n\r\n")
    assert not r or re.match(rb"HTTP/1.1 4\d\d ", r), r[:100]
    r = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50_000 + b"Connection: close\r\n\r\n")
    assert not r or re.match(rb"HTTP/1.1 4\d\d ", r), r[:100]
    r = server.raw(b"GET /v1/jobs?text=" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert r.startswith(b"HTTP/1.1 414 ")
    r = server.raw(b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert not r or re.match(rb"HTTP/1.1 4\d\d ", r), r[:100]
    assert server.get("/healthz").status_code == 200


def test_slow_clients_hold_up_nobody(server):
    slow = []
    for i in range(40):
        s = socket.create_connection(("127.0.0.1", server.port))
        s.sendall([b"GET /healthz HT", b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
                   b""][i % 3])
        slow.append(s)
    began = time.monotonic()
    for _ in range(20):
        assert server.get("/healthz").status_code == 200
    assert time.monotonic() - began < 3
    # a byte at a time is still a request
    s = slow[0]
    for c in b"TP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":
        s.sendall(bytes([c]))
    assert s.recv(100).startswith(b"HTTP/1.1 200")
    for s in slow:
        s.close()


def test_smuggling_and_garbage_are_refused(server):
    for data in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
                 b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
                 b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
                 b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                 b"GET * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                 b"GET /healthz?a b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                 b"GET /healthz  HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                 b"GET /healthz HTTP/1.1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                 b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
        r = server.raw(data, timeout=3)
        assert not r or re.match(rb"HTTP/1.1 [45]\d\d ", r) and not r.startswith(b"HTTP/1.1 500"), (data, r[:100])
    assert server.get("/healthz").status_code == 200


def test_a_hundred_clients_at_once(server):
    bad = []

    def client(i):
        try:
            for _ in range(5):
                if i % 4 == 0:
                    server.submit(name=f"client {i}")
                elif server.get("/v1/jobs?limit=5").status_code != 200:
                    bad.append(i)
        except Exception as e:  # pylint: disable=broad-except
            bad.append((i, e))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(100)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad


def test_what_waits_at_the_end_is_told(tmp_path):
    s = Server(tmp_path)
    s.submit()
    s.tell(do="hold")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(s.post("/v1/jobs/1/cancel"))) for _ in range(5)]
    for t in threads:
        t.start()
    time.sleep(0.5)
    assert not answers and s.get("/healthz").status_code == 200  # the server's threads are free while they wait
    s.close()
    for t in threads:
        t.join()
    assert len(answers) == 5
    for r in answers:
        problem(r, 503, "unavailable")


def test_what_waited_is_answered(server):
    server.tell(do="hold")
    answers = []
    t = threading.Thread(target=lambda: answers.append(server.post("/v1/jobs/1/cancel")))
    t.start()
    # and one that goes away while it waits
    s = socket.create_connection(("127.0.0.1", server.port))
    s.sendall(b"POST /v1/jobs/1/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n")
    time.sleep(0.3)
    s.close()
    server.tell(do="release")
    t.join()
    assert "released" in problem(answers[0], 404)["detail"]
    assert server.get("/healthz").status_code == 200


def test_an_address_in_use_is_named(server, tmp_path):
    p = subprocess.run([os.environ["TEST_SERVER"], tmp_path, tmp_path, tmp_path, "2", str(server.port)], capture_output=True, text=True,
                       check=False, timeout=20)
    assert p.returncode == 1 and f"127.0.0.1:{server.port}: cannot listen: Address already in use" in p.stderr


def test_who_drips_headers_makes_room_for_others(server):
    """More connections than half of the limit, a byte every half second each: never silent, never done."""
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(900)]
    for s in slow:
        s.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
    began, open_ = time.monotonic(), slow
    while len(open_) > 768 and time.monotonic() - began < 20:
        time.sleep(0.5)
        assert server.get("/healthz").status_code == 200
        still = []
        for s in open_:
            try:
                s.sendall(b"x")
                still.append(s)
            except OSError:
                s.close()
        open_ = still
    assert len(open_) <= 768 and time.monotonic() - began > 4
    for s in open_:
        s.close()


SUBMIT = b"POST /v1/jobs/999/cancel HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
SECOND = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize("head", [
    SUBMIT + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    SUBMIT + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
    SUBMIT + b"Content-Length : 2\r\n\r\n{}",
    SUBMIT + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    SUBMIT.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}",
    SUBMIT.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\n") + b"Content-Length: 2\r\n\r\n{}",
    SUBMIT.replace(b"127.0.0.1\r\n", b"127.0.0.1\n") + b"Content-Length: 2\r\n\r\n{}",
    SUBMIT + b"Content-Length: 2\n\r\n{}",
    SUBMIT + b"Content-Length: 2\r\n\n{}",
    SUBMIT + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"X: a\r\n\tContent-Length: 40\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"Content-Length: 2\r\nX: a\r\n b\r\n\r\n{}",
    SUBMIT + b"Content-Length:\r\n 2\r\n\r\n{}",
    SUBMIT.replace(b"127.0.0.1", b"127.0.0.1\0.evil.example") + b"Content-Length: 2\r\n\r\n{}",
    SUBMIT.replace(b"127.0.0.1", b"127.0.0.1\0") + b"Content-Length: 2\r\n\r\n{}",
    SUBMIT + b"Content-Length: 2\r\nX: \0\r\n\r\n{}",
    SUBMIT + b"Content-Length: 2\r\nX\0Y: 1\r\n\r\n{}",
    SUBMIT + b"X: a\rContent-Length: 40\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"X: a\r\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"X: \x01\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"X: a\x7fb\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"X(Y): 1\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"X\xe9: 1\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b": 1\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    SUBMIT + b"Transfer-Encoding:\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\0\r\n\r\n",
    b"GET /healthz\0/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/jobs?limit=1\0&cursor=x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET\0X /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET  /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET \0/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\n",
    b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n"])
def test_what_a_proxy_may_read_otherwise_is_refused_and_closed(server, head):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        s.sendall(head + SECOND)
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1 ") == 1, answer


@pytest.mark.parametrize("length", [b"+2", b"-0", b"0x2", b"2,2", b"2, 2", b"2 2", b"2a", b"2 ", b"99999999999999999999"])
def test_a_length_that_is_no_number_ends_the_connection(server, length):
    answer = server.raw(SUBMIT + b"Content-Length: " + length + b"\r\n\r\n{}" + SECOND, end=False)
    assert re.match(rb"HTTP/1.1 4(00|13) ", answer) and b"HTTP/1.1 200" not in answer, answer


CHUNKED = SUBMIT + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("head, status", [
    (CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", 404),
    (CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 404),
    (CHUNKED + b"2\n{}\r\n0\r\n\r\n", 404),
    (CHUNKED + b"2;\n{}\r\n0\r\n\r\n", 404),
    (CHUNKED + b"2\r\n{}\n0\r\n\r\n", 404),
    (CHUNKED + b"2\r\n{}\r\n0\n\n", 404),
    (CHUNKED + b"2\r\n{}\r\n0\r\nX: y\n\n", 404),
    (SUBMIT + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
    (SUBMIT + b"Transfer-Encoding: xchunked\r\n\r\n{}", 400),
    (SUBMIT + b"Transfer-Encoding: identity\r\n\r\n{}", 400),
    (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"2\r\n{}\r\n0\r\n\r\n", 404)])
def test_nothing_is_read_behind_a_body_that_is_encoded(server, head, status):
    """Where it ends for libmicrohttpd need not be where it ends for a proxy."""
    answer = server.raw(head + SECOND, end=False)
    assert answer.count(b"HTTP/1.") == 1 and b"HTTP/1.1 200" not in answer, answer
    assert re.match(rb"HTTP/1\.[01] %d " % status, answer), answer


def test_odd_but_whole_requests_are_taken(server):
    """What looks at where lines end must not be misled by size, number, pieces or company."""
    plain = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    assert server.raw((plain + b"\r\n") * 3 + plain + b"Connection: close\r\n\r\n").count(b"HTTP/1.1 200") == 4
    for more in (b"X: \r\n", b"X:\r\n", b"X:  a  \r\n", b"Cookie: a=b; c=d\r\n", b"X: \xff\xfe\r\n", b"X: y\r\n" * 200, b"X: " + b"y" * 12000 + b"\r\n"):
        data = plain + more + b"Connection: close\r\n\r\n"
        assert server.raw(data).startswith(b"HTTP/1.1 200"), more[:20]
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
            for i in range(0, len(data), 997):
                s.sendall(data[i:i + 997])
                time.sleep(0.002)
            assert s.recv(100).startswith(b"HTTP/1.1 200"), more[:20]


def typical(act):
    """Seconds, the median of five times: others compute on this machine, too."""
    times = []
    for _ in range(5):
        began = time.monotonic()
        act()
        times.append(time.monotonic() - began)
    return sorted(times)[2]


def test_bodies_have_a_budget_and_submissions_pass(server):
    """550 MB were held."""
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    before = server.tell(do="rss")["kib"]
    slow = []
    try:
        def send_slowly():
            slow.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            slow[-1].sendall(head % (1 << 20) + b" " * 600_000)
        for _ in range(200):
            send_slowly()
        time.sleep(0.5)
        # buffers grow by doubling; what crowds of tests before took has been given back
        assert server.tell(do="rss")["kib"] - before < (400 if sanitized() else 104) << 10
        assert typical(server.submit) < (10 if sanitized() else 1)
        for _ in range(100):
            r = server.request("POST", "/v1/jobs", data=b'{"kind": "x"}' + b" " * 900_000, headers=JSON)
            if r.status_code == 503:
                break
            send_slowly()  # the room of those that were refused, or cut on a slow machine, is free again
        problem(r, 503, "busy")
        assert r.headers["Retry-After"]
    finally:
        for s in slow:
            s.close()
    for _ in range(100):
        r = server.request("POST", "/v1/jobs", data=b'{"kind": "x"}' + b" " * 900_000, headers=JSON)
        if r.status_code != 503:
            break
        time.sleep(0.1)
    problem(r, 422)


def test_a_newcomer_finds_room_among_slow_bodies(server):
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    slow = []
    try:
        for _ in range(1700):
            s = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            s.sendall(head)
            slow.append(s)
        assert typical(lambda: requests.get(server.url + "/healthz", timeout=60).raise_for_status()) < (10 if sanitized() else 1)
    finally:
        for s in slow:
            s.close()


@pytest.mark.parametrize("query, detail", [("stat=running", "there is no such parameter; is it state that is meant? There are: state kind tag"),
                                           ("whatever=1", "there is no such parameter; there are: state kind tag")])
def test_an_unknown_parameter_is_answered_with_the_nearest_known_one(server, query, detail):
    [e] = problem(server.get("/v1/jobs?" + query), 400, "query-invalid")["errors"]
    assert e["parameter"] == query.split("=")[0] and e["detail"].startswith(detail)
    [e] = problem(server.get("/v1/devices?x=1"), 400, "query-invalid")["errors"]
    assert e["detail"] == "there is no such parameter"
