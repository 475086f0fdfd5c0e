"""Who may what: tokens, roles, sessions, rates, and the log of changes."""
import re
import socket
import sqlite3
import time

import pytest
import requests

from conftest import Server, problem
from test_http import DEF, JSON, concrete

ROWS = re.findall(r'^R\((\w+), "([^"]+)", \w+, (\w+), ', DEF, re.M)
RANK = {"NONE": 0, "READ": 1, "SUBMIT": 2, "ADMIN": 3}


def make_token(folder, name, role, secret="5ec2e7"):
    """As another process made it: the first comes from the machine's Unix socket, which this server has not."""
    import hashlib
    salt = "00112233445566778899aabbccddeeff"
    with sqlite3.connect(folder / "mulund.db") as db:
        db.execute("INSERT OR REPLACE INTO token VALUES (?, ?, ?, ?, 1)", (name, RANK[role], salt, hashlib.sha256((salt + secret).encode()).hexdigest()))
    return {"Authorization": f"Bearer {name}.{secret}"}


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("access"), rate=0)
    s.description = requests.get(s.url + "/openapi.json", timeout=60).json()
    s.who = {role: make_token(s.state, role.lower(), role) for role in ("READ", "SUBMIT", "ADMIN")}
    yield s
    s.close()


def ask(server, method, path, who=None, **headers):
    return server.request(method, concrete(path), headers={**JSON, **(who or {}), **headers}, data=b"" if method in ("POST", "PATCH") else None,
                          allow_redirects=False)


# ---- the whole table

@pytest.mark.parametrize("method, path, role", ROWS)
def test_every_route_takes_its_role_and_those_above_it(locked, method, path, role):
    r = ask(locked, method, path)
    if role != "NONE":
        problem(r, 401, "unauthorized")
        assert r.headers["WWW-Authenticate"].startswith("Bearer")
        for wrong in ("Bearer x", "Bearer read.", "Bearer read.5ec2e8", "Bearer .5ec2e7", "Bearer nobody.5ec2e7", "Basic cmVhZDo1ZWMyZTc=", "Bearer", "",
                      "Bearer " + "x" * 5000, "Bearer read.5ec2e7x", "Bearer ../read.5ec2e7"):
            problem(ask(locked, method, path, Authorization=wrong), 401, "unauthorized")
    else:
        assert r.status_code != 403 and (r.status_code != 401 or path == "/open")
    for other, rank in RANK.items():
        if other == "NONE" or path in ("/v1/stop", "/open"):
            continue
        r = ask(locked, method, path, locked.who[other])
        if rank < RANK[role]:
            d = problem(r, 403, "forbidden")
            assert f"role {role.lower()}" in d["detail"] and f"token {other.lower()} has {other.lower()}" in d["detail"]
        else:
            assert r.status_code not in (401, 403), r.text


@pytest.mark.parametrize("method, path, role", ROWS)
def test_a_token_helps_nobody_from_elsewhere(locked, method, path, role):
    for headers, status in (({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403)):
        r = ask(locked, method, path, locked.who["ADMIN"], **headers)
        assert r.status_code == status and r.json()["type"].startswith("problems/foreign-")


def test_files_of_the_dashboard_are_no_secret(locked):
    assert locked.get("/").status_code == 200 and locked.get("/lib/api.js").status_code == 200


# ---- tokens

def test_a_token_is_made_shown_once_and_removed(locked):
    admin = locked.who["ADMIN"]
    r = locked.post("/v1/tokens", {"name": "ci", "role": "submit"}, headers=admin)
    assert r.status_code == 201, r.text
    token = {"Authorization": "Bearer " + r.json()["token"]}
    assert re.fullmatch(r"ci\.[0-9a-f]{64}", r.json()["token"]) and r.json()["role"] == "submit"
    assert ask(locked, "GET", "/v1/jobs", token).status_code == 200
    problem(ask(locked, "GET", "/v1/tokens", token), 403)
    problem(locked.post("/v1/tokens", {"name": "ci", "role": "read"}, headers=admin), 409)
    listed = locked.get("/v1/tokens", headers=admin).json()["tokens"]
    assert [t["name"] for t in listed] == ["admin", "ci", "read", "submit"] and all(set(t) == {"name", "role", "created"} for t in listed)
    assert ask(locked, "DELETE", "/v1/tokens/ci", admin).status_code == 204
    problem(ask(locked, "GET", "/v1/jobs", token), 401)
    problem(ask(locked, "DELETE", "/v1/tokens/ci", admin), 404)


def test_the_secret_is_nowhere(locked):
    secret = locked.post("/v1/tokens", {"name": "kept", "role": "read"}, headers=locked.who["ADMIN"]).json()["token"].split(".")[1]
    assert ask(locked, "GET", "/v1/jobs", {"Authorization": f"Bearer kept.{secret}"}).status_code == 200
    lines = locked.logged(lambda lines: any(" kept " in line for line in lines))
    assert [" kept GET " in line for line in lines if " kept " in line] == [True] and secret not in "".join(lines)
    for f in locked.state.iterdir():
        if f.is_file():
            assert secret.encode() not in f.read_bytes()


@pytest.mark.parametrize("body, pointers", [({}, ["/name", "/role"]), ({"name": "a b", "role": "read"}, ["/name"]), ({"name": "x" * 65, "role": "read"}, ["/name"]),
                                            ({"name": ".x", "role": "none"}, ["/name", "/role"]), ({"name": "x", "role": 1}, ["/role"])])
def test_what_is_no_token_is_refused(locked, body, pointers):
    d = problem(locked.post("/v1/tokens", body, headers=locked.who["ADMIN"]), 422)
    assert [e["pointer"] for e in d["errors"]] == pointers


# ---- browsers

def test_a_link_opens_a_session_once(locked):
    locked.tell(do="log")
    path = locked.post("/v1/links", headers=locked.who["SUBMIT"]).json()["path"]
    assert ask(locked, "HEAD", path).status_code == 200
    r = ask(locked, "GET", path)
    assert r.status_code == 303 and r.headers["Location"] == "/"
    cookie = r.headers["Set-Cookie"]
    assert "SameSite=Strict" in cookie and "HttpOnly" in cookie and "Path=/" in cookie
    session = {"Cookie": cookie.split(";")[0]}
    locked.session.cookies.clear()
    assert ask(locked, "GET", "/v1/jobs", session).status_code == 200
    assert ask(locked, "POST", "/v1/jobs", session).status_code in (400, 422)
    problem(ask(locked, "GET", "/v1/audit", session), 403)
    problem(ask(locked, "GET", path), 401)
    for wrong in ("mulund_session=" + "0" * 32, "mulund_session=", "other=" + session["Cookie"].split("=")[1], session["Cookie"] + "0"):
        problem(ask(locked, "GET", "/v1/jobs", {"Cookie": wrong}), 401)
    lines = locked.logged(lambda lines: any(" GET /open" in line for line in lines))
    assert path.split("=")[1] not in "".join(lines)


def open_session(server, who):
    path = server.post("/v1/links", headers=who).json()["path"]
    session = {"Cookie": ask(server, "GET", path).headers["Set-Cookie"].split(";")[0]}
    server.session.cookies.clear()
    return session


def test_a_session_outlives_the_server_and_its_key_is_nowhere(tmp_path):
    server = Server(tmp_path, rate=0)
    session = open_session(server, make_token(server.state, "one", "READ"))
    ended = open_session(server, make_token(server.state, "one", "READ"))
    assert ask(server, "DELETE", "/v1/session", ended).status_code == 204
    server.close()
    for f in server.state.iterdir():
        assert not f.is_file() or session["Cookie"].split("=")[1].encode() not in f.read_bytes()
    server = Server(tmp_path, rate=0)
    try:
        assert ask(server, "GET", "/v1/session", session).json() == {"role": "read", "token": "one", "user": None, "session": True}
        problem(ask(server, "GET", "/v1/session", ended), 401)
        make_token(server.state, "one", "SUBMIT")  # what he may is asked anew
        assert ask(server, "GET", "/v1/session", session).json()["role"] == "submit"
        with sqlite3.connect(server.state / "mulund.db") as db:
            left_us = db.execute("SELECT until_us FROM session").fetchone()[0] - time.time() * 1e6
            assert abs(left_us - 7 * 24 * 3600e6) < 600e6
            db.execute("UPDATE session SET until_us = ?", (int(time.time() * 1e6) - 1,))
        problem(ask(server, "GET", "/v1/session", session), 401)
    finally:
        server.close()


def test_a_session_of_whoever_came_to_loopback_lasts_as_long_as_that_is_enough(tmp_path):
    server = Server(tmp_path)
    session = open_session(server, {})
    assert ask(server, "GET", "/v1/session", session).json()["role"] == "admin"
    server.close()
    server = Server(tmp_path, rate=0)  # tokens are needed now
    problem(ask(server, "GET", "/v1/session", session), 401)
    server.close()


def test_no_session_begins_or_ends_before_that_is_stored(locked):
    path = locked.post("/v1/links", headers=locked.who["READ"]).json()["path"]
    locked.tell(do="fail", code=28, text="the disk is full")
    r = ask(locked, "GET", path)
    problem(r, 507, "disk-full")
    assert "Set-Cookie" not in r.headers
    session = open_session(locked, locked.who["READ"])
    locked.tell(do="fail", code=28, text="the disk is full")
    problem(ask(locked, "DELETE", "/v1/session", session), 507)
    assert ask(locked, "GET", "/v1/session", session).json()["session"] is True
    assert ask(locked, "DELETE", "/v1/session", session).status_code == 204


def test_a_session_ends_with_its_token(locked):
    token = locked.post("/v1/tokens", {"name": "short", "role": "read"}, headers=locked.who["ADMIN"]).json()["token"]
    path = locked.post("/v1/links", headers={"Authorization": "Bearer " + token}).json()["path"]
    session = {"Cookie": ask(locked, "GET", path).headers["Set-Cookie"].split(";")[0]}
    locked.session.cookies.clear()
    assert ask(locked, "GET", "/v1/jobs", session).status_code == 200
    ask(locked, "DELETE", "/v1/tokens/short", locked.who["ADMIN"])
    problem(ask(locked, "GET", "/v1/jobs", session), 401)
    locked.post("/v1/tokens", {"name": "short", "role": "admin"}, headers=locked.who["ADMIN"])  # another of its name
    problem(ask(locked, "GET", "/v1/jobs", session), 401)
    ask(locked, "DELETE", "/v1/tokens/short", locked.who["ADMIN"])


def test_a_session_says_whose_it_is_and_ends_when_asked(locked):
    assert locked.get("/v1/session", headers=locked.who["READ"]).json() == {"role": "read", "token": "read", "user": None, "session": False}
    path = locked.post("/v1/links", headers=locked.who["SUBMIT"]).json()["path"]
    session = {"Cookie": ask(locked, "GET", path).headers["Set-Cookie"].split(";")[0]}
    locked.session.cookies.clear()
    assert ask(locked, "GET", "/v1/session", session).json() == {"role": "submit", "token": "submit", "user": None, "session": True}
    assert ask(locked, "DELETE", "/v1/session", {**session, **locked.who["READ"]}).status_code == 204  # a token's, not the cookie's
    assert ask(locked, "GET", "/v1/jobs", session).status_code == 200
    r = ask(locked, "DELETE", "/v1/session", session)
    assert r.status_code == 204 and "mulund_session=;" in r.headers["Set-Cookie"] and "Max-Age=0" in r.headers["Set-Cookie"]
    locked.session.cookies.clear()
    problem(ask(locked, "GET", "/v1/session", session), 401)


# ---- who changed what

def audit(server, **params):
    return server.get("/v1/audit", headers=server.who["ADMIN"], params=params).json()


def test_every_change_is_in_the_log_with_who_asked(locked):
    before = audit(locked, limit=1000)["audit"]
    last = before[-1]["id"] if before else 0
    who = {**locked.who["SUBMIT"], "X-Request-Id": "mine"}
    r = locked.post("/v1/jobs", {"kind": "train", "config": {}}, headers={**who, "Idempotency-Key": "k"})
    job = r.json()["id"]
    assert locked.post("/v1/jobs", {"kind": "train", "config": {}}, headers={**who, "Idempotency-Key": "k"}).json()["id"] == job  # nothing new
    assert locked.request("PATCH", f"/v1/jobs/{job}", data='{"name": "x"}', headers={**JSON, **who}).status_code == 200
    assert locked.post(f"/v1/jobs/{job}/cancel", headers=who).status_code == 200
    problem(locked.post(f"/v1/jobs/{job}/pause", headers=who), 409)
    problem(locked.post("/v1/jobs", {"kind": "fly"}, headers=who), 422)
    assert locked.request("DELETE", f"/v1/jobs/{job}", headers=who).status_code == 204
    rows = audit(locked, after=last)["audit"]
    assert [(a["action"], a["job"]) for a in rows] == [("POST /v1/jobs", job), (f"PATCH /v1/jobs/{job}", job), (f"POST /v1/jobs/{job}/cancel", job),
                                                       (f"DELETE /v1/jobs/{job}", job)]
    assert all(a["token"] == "submit" and a["request_id"] == "mine" and a["address"] == "127.0.0.1" and a["uid"] is None for a in rows)


def test_the_last_page_of_every_list_says_that_it_is_the_last(tmp_path):
    s = Server(tmp_path)
    try:
        jobs = [s.submit(tags=[f"t{i}"]) for i in range(3)]
        for _ in range(2):
            s.post(f"/v1/jobs/{jobs[0]}/cancel")
            s.post(f"/v1/jobs/{jobs[0]}/retry")
        for path, name in (("/v1/audit", "audit"), ("/v1/tags", "tags"), (f"/v1/jobs/{jobs[0]}/events", "events"), ("/v1/jobs", "jobs")):
            cursor = "cursor" if name == "jobs" else "after"
            whole = s.get(path).json()
            n = len(whole[name])
            assert n >= 3 and whole["next"] is None
            assert s.get(path, params={"limit": n}).json()["next"] is None, path
            page = s.get(path, params={"limit": n - 1}).json()
            assert len(page[name]) == n - 1 and page["next"] is not None
            rest = s.get(path, params={"limit": 1, cursor: page["next"]}).json()
            assert page[name] + rest[name] == whole[name] and rest["next"] is None
    finally:
        s.close()


def test_webhooks_of_the_settings_are_shown(locked):
    who = locked.who["ADMIN"]
    hook = {"name": "lab", "url": "http://127.0.0.1:1/", "told": 0, "failed": 2, "next_try": "1970-01-01T00:00:01.000Z"}
    assert locked.get("/v1/webhooks", headers=who).json() == {"webhooks": [hook]}
    assert locked.get("/v1/webhooks/lab/deliveries", headers=who).json() == {"deliveries": [], "next": None}
    problem(locked.get("/v1/webhooks/other/deliveries", headers=who), 404)
    assert locked.post("/v1/webhooks/lab/send", headers=who).json() == hook
    problem(locked.post("/v1/webhooks/other/send", headers=who), 404)
    for event in (0, -1, "1", 1.5, None):
        assert problem(locked.post("/v1/webhooks/lab/send", {"event": event}, headers=who), 422)["errors"][0]["pointer"] == "/event"


def test_the_log_is_paged_and_only_added_to(locked):
    for _ in range(3):
        locked.post("/v1/jobs", {"kind": "train", "config": {}}, headers=locked.who["SUBMIT"])
    pages, after = [], 0
    while after is not None:
        page = audit(locked, after=after, limit=2)
        pages += page["audit"]
        after = page["next"]
    assert [a["id"] for a in pages] == sorted({a["id"] for a in pages}) and len(pages) == len(audit(locked, limit=1000)["audit"])
    with sqlite3.connect(locked.state / "mulund.db") as db:
        rest = "time_us, uid, user, token, address, request, action, job"
        changes = [f"INSERT {how} INTO audit (id, {rest}) SELECT {n}, {rest} FROM audit LIMIT 1" for how in ("", "OR REPLACE", "OR IGNORE") for n in ("0", "-1")]
        for change in ("DELETE FROM audit", "UPDATE audit SET token = 'other'", "INSERT OR REPLACE INTO audit SELECT * FROM audit LIMIT 1", *changes):
            with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                db.execute(change)
        db.execute(f"INSERT INTO audit ({rest}) SELECT {rest} FROM audit LIMIT 1")
        db.rollback()


# ---- rates

def test_a_token_has_a_rate(tmp_path):
    s = Server(tmp_path, rate=2)
    try:
        s.description = requests.get(s.url + "/openapi.json", timeout=60).json()
        one, other = make_token(s.state, "one", "READ"), make_token(s.state, "other", "READ")
        found = [ask(s, "GET", "/v1/devices", one) for _ in range(30)]
        assert [r.status_code for r in found[:20]] == [200] * 20
        late = [r for r in found if r.status_code == 429]
        assert len(late) >= 8 and all(r.headers["Retry-After"] == "1" for r in late)
        problem(late[0], 429, "too-many-requests")
        assert ask(s, "GET", "/v1/devices", other).status_code == 200
        assert ask(s, "GET", "/healthz").status_code == 200
        time.sleep(1.1)
        assert ask(s, "GET", "/v1/devices", one).status_code == 200
    finally:
        s.close()


def read_on(answer, seconds):
    """What comes of a stream until it ends, or for so long; whether it ended."""
    got, end = b"", time.monotonic() + seconds
    answer.settimeout(0.2)
    while time.monotonic() < end:
        try:
            part = answer.recv(1 << 16)
        except TimeoutError:
            continue
        got += part
        if not part or got.endswith(b"0\r\n\r\n"):
            return got, True
    return got, False


@pytest.mark.parametrize("how", ["token", "session of a token", "session"])
@pytest.mark.parametrize("what", ["events", "log"])
def test_a_stream_ends_with_what_opened_it(locked, what, how):
    job = locked.request("POST", "/v1/jobs", json={"kind": "train", "config": "cifar10-conditioned"}, headers=locked.who["SUBMIT"]).json()["id"]
    locked.tell(do="start", job=job)
    folder = locked.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    (folder / "log").write_bytes(b"before\n")
    shown = make_token(locked.state, "short", "READ")
    if how != "token":
        link = locked.request("POST", "/v1/links", json={}, headers=shown).json()["path"]
        cookie = locked.request("GET", link, allow_redirects=False).headers["Set-Cookie"].split(";")[0]
        shown = {"Cookie": cookie}
    path = "/v1/events" if what == "events" else f"/v1/jobs/{job}/log?follow=true"
    with socket.create_connection(("127.0.0.1", locked.port), timeout=30) as s, socket.create_connection(("127.0.0.1", locked.port), timeout=30) as other:
        for c, headers in ((s, shown), (other, locked.who["READ"])):
            c.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode())
            got = b""
            while (b"before" if what == "log" else b"ready") not in got:
                got += c.recv(1 << 16)
        if how == "session":
            assert locked.request("DELETE", "/v1/session", headers=shown).status_code == 204
        else:
            assert locked.request("DELETE", "/v1/tokens/short", headers=locked.who["ADMIN"]).status_code == 204
        time.sleep(1.2)
        with open(folder / "log", "ab") as f:
            f.write(b"after\n")
        r = locked.request("PATCH", f"/v1/jobs/{job}", json={"name": "x"}, headers=locked.who["SUBMIT"])
        assert r.status_code == 200
        got, ended = read_on(s, 20)
        assert ended and b"after" not in got and b'"set"' not in got, got
        assert got.endswith(b"0\r\n\r\n") == (what == "events"), "a stream of events ends in order; of a log nothing says that this was all"
        assert (b"after" if what == "log" else b'"set"') in read_on(other, 3)[0]


def test_a_key_of_another_is_another(locked):
    body = {"kind": "train", "config": "cifar10-conditioned"}

    def submit(who, **more):
        r = locked.request("POST", "/v1/jobs", json={**body, **more}, headers={**who, "Idempotency-Key": "one"})
        return r.json()["id"] if r.status_code == 201 else r.json()["type"]

    a, b = [make_token(locked.state, name * 64, "SUBMIT") for name in "ab"]
    first = submit(a)
    second = submit(b)
    assert first != second and submit(a) == first and submit(b) == second
    assert submit(b, name="x") == "problems/key-reused" and submit(locked.who["ADMIN"], name="x") > second
