"""Where it listens: a Unix socket whose peers are known, TCP, TLS; behind a proxy; and what others than this machine's users
need."""
import ctypes
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time

import pytest
import requests

from service import HERE, MULUND, TRAIN, Service


def http(sock, method, path, body=b"", host="localhost", **headers):
    """One request over an open socket: status, headers, body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", "Content-Type: application/json", f"Content-Length: {len(body)}",
             *(f"{k}: {v}" for k, v in headers.items())]
    sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    got = b""
    while part := sock.recv(65536):
        got += part
    head, _, rest = got.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return int(head.split()[1]), fields, rest


def confine():
    """A filter that lets everything pass, as a sandbox's first."""
    class Program(ctypes.Structure):
        _fields_ = [("n", ctypes.c_ushort), ("filters", ctypes.c_char_p)]
    allow = struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(Program(1, allow))) == 0


def over_socket(path, *args, uid=None, confined=False, **headers):
    """In a process of its own where it is another user's, or in a sandbox."""
    def ask():
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            return http(s, *args, **headers)
    if uid is None and not confined:
        return ask()
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            if uid is not None:
                os.setgid(uid)
                os.setuid(uid)
            if confined:
                confine()
            os.write(w, repr(ask()).encode())
        finally:
            os._exit(0)
    os.close(w)
    os.waitpid(pid, 0)
    with os.fdopen(r, "rb") as f:
        text = f.read().decode()
    return eval(text) if text else None  # of our own making


@pytest.fixture
def locked():
    s = Service([["start"], ["hang"]], MULUND_SINGLE_USER="no")
    s.start()
    s.socket = s.state + "/mulund.sock"
    yield s
    s.close()


def token(service, name="admin", role="admin"):
    status, _, body = over_socket(service.socket, "POST", "/v1/tokens", b'{"name": "%s", "role": "%s"}' % (name.encode(), role.encode()))
    assert status == 201, body
    return requests.models.complexjson.loads(body)["token"]


def test_the_socket_is_the_way_in_without_a_token(locked):
    assert requests.get(locked.url + "/v1/jobs", timeout=60).status_code == 401
    assert requests.get(locked.url + "/healthz", timeout=60).status_code == 200
    assert over_socket(locked.socket, "GET", "/v1/jobs")[0] == 200
    headers = {"Authorization": "Bearer " + token(locked)}
    assert requests.get(locked.url + "/v1/tokens", headers=headers, timeout=60).status_code == 200
    assert requests.post(locked.url + "/v1/stop", timeout=60, json={}).status_code == 401
    rows = requests.get(locked.url + "/v1/audit", headers=headers, timeout=60).json()["audit"]
    assert [(a["action"], a["uid"], a["user"], a["token"]) for a in rows] == [("POST /v1/tokens", os.getuid(), "root" if os.getuid() == 0 else rows[0]["user"], None)]
    assert rows[0]["address"] == f"uid:{os.getuid()}"
    assert over_socket(locked.socket, "GET", "/v1/jobs", Host="evil.example")[0] in (400, 421)


def test_a_worker_is_not_the_daemons_user_himself(locked):
    """It can connect to the socket, and has that user: what tells it is its sandbox."""
    with open("/proc/self/status") as f:
        if "Seccomp_filters" not in f.read():
            pytest.skip("this kernel does not tell of filters")
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/tokens"), ("POST", "/v1/stop")):
        status, _, body = over_socket(locked.socket, method, path, confined=True)
        assert status == 401 and b"sandbox" in body
    assert over_socket(locked.socket, "GET", "/healthz", confined=True)[0] == 200
    bearer = "Bearer " + token(locked, "reads", "read")
    assert over_socket(locked.socket, "GET", "/v1/jobs", confined=True, Authorization=bearer)[0] == 200
    assert over_socket(locked.socket, "GET", "/v1/tokens")[0] == 200


def test_a_restart_keeps_tokens_and_replaces_the_socket(locked):
    headers = {"Authorization": "Bearer " + token(locked, "kept", "read")}
    locked.kill()
    assert os.path.exists(locked.socket)
    locked.start()
    assert requests.get(locked.url + "/v1/jobs", headers=headers, timeout=60).status_code == 200
    assert over_socket(locked.socket, "GET", "/v1/jobs")[0] == 200


def test_a_socket_that_somebody_has_and_a_file_are_left_alone(locked):
    other, path = Service([]), locked.root + "/file"
    with open(path, "w") as f:
        f.write("of mine")
    try:
        assert "mulund.sock: the address is in use" in refused(other, "--socket", locked.socket)
        assert "something else than a socket" in refused(other, "--socket", path) and open(path).read() == "of mine"
        os.symlink(path, locked.root + "/link")
        assert "something else than a socket" in refused(other, "--socket", locked.root + "/link") and os.path.islink(locked.root + "/link")
    finally:
        other.close()
    assert over_socket(locked.socket, "GET", "/v1/jobs")[0] == 200


def test_a_browsers_session_outlives_a_killed_daemon_until_it_is_ended(locked):
    status, _, body = over_socket(locked.socket, "POST", "/v1/links")
    assert status == 201, body
    _, fields, _ = over_socket(locked.socket, "GET", requests.models.complexjson.loads(body)["path"])
    session = {"Cookie": fields["Set-Cookie"].split(";")[0]}
    for _ in range(2):
        r = requests.get(locked.url + "/v1/session", headers=session, timeout=60)
        assert r.status_code == 200 and r.json()["session"] is True and r.json()["role"] == "admin"
        locked.kill()
        locked.start()
    assert requests.delete(locked.url + "/v1/session", headers=session, timeout=60).status_code == 204
    locked.kill()
    locked.start()
    assert requests.get(locked.url + "/v1/session", headers=session, timeout=60).status_code == 401


@pytest.mark.skipif(os.getuid() != 0, reason="needs other users")
def test_a_member_of_the_group_may_submit_and_no_more_and_others_nothing(locked):
    locked.kill(signal.SIGTERM)
    path = "/tmp/mulund-test-" + str(os.getpid())
    try:
        locked.start("--socket", path, "--socket-group", "nogroup")
        assert (os.stat(path).st_mode & 0o777, os.stat(path).st_gid) == (0o660, 65534)
        assert over_socket(path, "GET", "/v1/jobs", uid=65534)[0] == 200
        status, _, body = over_socket(path, "POST", "/v1/stop", uid=65534)
        assert status == 403 and b"role admin" in body and b"uid:65534" in body
        status, _, body = over_socket(path, "POST", "/v1/jobs", b'{"kind": "train", "config": {"data": {"dataset": "scripted"}, "training": {"batch_size_train": 8, "num_steps_eval": 0}}}', uid=65534)
        assert status == 201, body
        assert over_socket(path, "GET", "/v1/jobs", uid=65533) is None
    finally:
        if os.path.exists(path):
            os.unlink(path)


# ---- who changed what

with open(HERE + "/../../api/routes.def") as f:
    ROUTES = re.findall(r'^R\((\w+), "([^"]+)"', f.read(), re.M)
# What changes nothing: a link is in memory alone, and who opens it begins the session. An imported data set's removal is in tests/e2e.
CHANGES = {r for r in ROUTES if r[0] != "GET"} - {("POST", "/v1/links"), ("DELETE", "/v1/datasets/{name}")} | {("GET", "/open")}


def test_every_route_that_changes_something_leaves_a_row_with_who_asked(service):
    """Row by row of routes.def: who adds one adds how it is asked for here."""
    service.script([TRAIN])
    service.start("--webhook", "lab=http://127.0.0.1:1/")
    asker = {"Authorization": "Bearer " + service.post("/v1/tokens", {"name": "ci", "role": "admin"}, expect=201).json()["token"]}
    done, n = service.submit(100), iter(range(1000))
    service.wait(done, "succeeded")
    checkpoint = service.artifacts(done)[0]["id"]
    service.post("/v1/devices/cpu/drain", expect=200)
    last = service.get("/v1/audit", limit=1000)["audit"][-1]["id"]
    asked = []

    def ask(method, pattern, body=None, job=None, who=asker, **names):
        request = f"walk-{next(n)}"
        r = requests.request(method, service.url + pattern.format(**names), json=body or {} if method != "GET" else None, timeout=60, allow_redirects=False,
                             headers={**who, "X-Request-Id": request})
        assert r.status_code < 400, (method, pattern, r.text)
        asked.append((request, method, pattern, pattern.format(**names).split("?")[0], job))
        return r

    train = {"kind": "train", "config": {"data": {"dataset": "scripted"}, "training": {"batch_size_train": 8, "num_steps_eval": 0}}, "tags": ["walked"]}
    job = ask("POST", "/v1/jobs", train).json()["id"]
    asked[-1] = (*asked[-1][:4], job)
    by_id = {"job": job, "id": job}
    ask("PATCH", "/v1/jobs/{id}", {"name": "x"}, **by_id)
    for action in ("pause", "resume", "cancel", "retry"):
        ask("POST", "/v1/jobs/{id}/" + action, **by_id)
    for action, one in (("pause", None), ("resume", job), ("cancel", None), ("retry", job), ("cancel", None), ("remove", job)):
        assert ask("POST", "/v1/jobs/" + action, {"filter": {"tag": "walked"}}, one).json()["changed"] == 1
    os.makedirs(service.state + "/imports/x", exist_ok=True)
    imported = ask("POST", "/v1/datasets", {"name": "mine", "path": service.state + "/imports/x"}).json()["id"]
    asked[-1] = (*asked[-1][:4], imported)
    ask("PATCH", "/v1/artifacts/{id}", {"pinned": False}, done, id=checkpoint)
    ask("DELETE", "/v1/jobs/{id}", job=done, id=done)
    for action in ("enable", "drain"):
        ask("POST", "/v1/devices/{name}/" + action, name="cpu")
    ask("POST", "/v1/tokens", {"name": "other", "role": "read"})
    ask("DELETE", "/v1/tokens/{name}", name="other")
    ask("POST", "/v1/webhooks/{name}/send", name="lab")
    ask("POST", "/v1/backups/{name}", name="walked")
    code = requests.post(service.url + "/v1/links", json={}, headers=asker, timeout=60).json()["path"].split("=")[1]
    cookie = ask("GET", "/open?code={code}", who={}, code=code).headers["Set-Cookie"].split(";")[0]
    ask("DELETE", "/v1/session", who={"Cookie": cookie})
    rows = service.get("/v1/audit", after=last, limit=1000)["audit"]
    ask("POST", "/v1/stop")
    service.process.wait(30)
    service.start()
    rows += service.get("/v1/audit", after=rows[-1]["id"])["audit"]
    assert [(a["request_id"], a["action"], a["job"]) for a in rows] == [(request, f"{method} {path}", job) for request, method, _, path, job in asked]
    assert {(a["token"], a["address"], a["user"]) for a in rows} == {("ci", "127.0.0.1", None)} and all(a["time"] for a in rows)
    assert {(method, pattern.split("?")[0]) for _, method, pattern, _, _ in asked} == CHANGES
    assert code not in str(rows)


# ---- TLS, and others than this machine's users

def certificate(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/certificate.pem"],
                   check=True, capture_output=True)
    return ["--certificate", f"{folder}/certificate.pem", "--key", f"{folder}/key.pem"]


def common_name(port, trust):
    context = ssl.create_default_context(cafile=trust)
    with socket.create_connection(("127.0.0.1", port)) as s, context.wrap_socket(s, server_hostname="localhost") as t:
        return dict(x[0] for x in t.getpeercert()["subject"])["commonName"], t.version()


def refused(service, *more):
    service.start(*more, wait=False)
    assert service.process.wait(20) == 1
    return service.logged().splitlines()[-1]


def test_who_comes_from_elsewhere_needs_tls_and_a_token(locked):
    locked.kill(signal.SIGTERM)
    pair = certificate(locked.root, "first")
    assert "takes TLS" in refused(locked, "--listen", "0.0.0.0:0")
    assert "needs certificate and key" in refused(locked, "--listen", "tls:0.0.0.0:0")
    assert "nobody has a token" in refused(locked, "--listen", "tls:0.0.0.0:0", *pair)
    assert "nobody has a token" in refused(locked, "--listen", "tls:[::]:0", *pair)
    assert "there is no group no-such" in refused(locked, "--socket-group", "no-such")
    locked.start()
    secret = token(locked)
    locked.kill(signal.SIGTERM)
    begin = len(locked.logged())
    locked.start("--listen", "tls:0.0.0.0:0", *pair)
    port = int(re.search(r"listens on https://0.0.0.0:(\d+)/", locked.logged(begin)).group(1))
    url, trust = f"https://localhost:{port}", f"{locked.root}/certificate.pem"
    assert common_name(port, trust) == ("first", "TLSv1.3")
    assert requests.get(url + "/v1/jobs", verify=trust, timeout=60).status_code == 401
    r = requests.post(url + "/v1/links", verify=trust, timeout=60, json={}, headers={"Authorization": "Bearer " + secret, "Origin": url})
    assert r.status_code == 201, r.text
    assert "; Secure" in requests.get(url + r.json()["path"], verify=trust, timeout=60, allow_redirects=False).headers["Set-Cookie"]
    assert requests.get(locked.url + "/healthz", timeout=60).status_code == 200  # plain, on loopback, beside it


def test_a_certificate_is_read_again_on_sighup(locked):
    locked.kill(signal.SIGTERM)
    pair = certificate(locked.root, "first")
    begin = len(locked.logged())
    locked.start("--listen", "tls:127.0.0.1:0", *pair)
    port = int(re.search(r"listens on https://127.0.0.1:(\d+)/", locked.logged(begin)).group(1))
    trust = f"{locked.root}/certificate.pem"
    assert common_name(port, trust)[0] == "first"
    certificate(locked.root, "second")
    locked.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert common_name(port, trust)[0] == "second"
    with open(f"{locked.root}/key.pem", "w") as f:
        f.write("no key")
    locked.process.send_signal(signal.SIGHUP)
    locked.until(lambda: "the certificate stays as it was" in locked.logged())
    assert common_name(port, trust)[0] == "second"


@pytest.mark.parametrize("version, taken", [("TLSv1", False), ("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_that_is_broken_is_not_spoken(locked, version, taken):
    locked.kill(signal.SIGTERM)
    begin = len(locked.logged())
    locked.start("--listen", "tls:127.0.0.1:0", *certificate(locked.root, "first"))
    port = int(re.search(r"listens on https://127.0.0.1:(\d+)/", locked.logged(begin)).group(1))
    context = ssl.create_default_context(cafile=f"{locked.root}/certificate.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        if taken:
            with context.wrap_socket(s, server_hostname="localhost") as t:
                assert t.version() == version.replace("_", ".")
        else:
            with pytest.raises((ssl.SSLError, OSError)):
                context.wrap_socket(s, server_hostname="localhost")


def test_a_certificate_that_is_no_good_ends_the_start(locked):
    locked.kill(signal.SIGTERM)
    pair = certificate(locked.root, "first")
    os.mkdir(locked.root + "/other")
    certificate(locked.root + "/other", "second")
    assert "key.pem: cannot be used" in refused(locked, "--listen", "tls:127.0.0.1:0", *pair[:3], locked.root + "/other/key.pem")
    assert "none.pem: cannot be used" in refused(locked, "--listen", "tls:127.0.0.1:0", "--certificate", locked.root + "/none.pem", *pair[2:])


# ---- behind a proxy

NGINX = """
daemon off; pid {root}/nginx.pid; error_log stderr; worker_processes 1;
events {{ }}
http {{
    access_log off; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    server {{
        listen 127.0.0.1:{port};
        location /kept/ {{ proxy_pass {mulund}; }}
        location /mulund/ {{ proxy_pass {mulund}/; }}
    }}
}}
"""


@pytest.fixture
def proxy(tmp_path):
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if not program:
        pytest.skip("nginx is not installed")
    processes = []

    def start(mulund):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        (tmp_path / "nginx.conf").write_text(NGINX.format(root=tmp_path, port=port, mulund=mulund))
        processes.append(subprocess.Popen([program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.DEVNULL))
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        return f"http://127.0.0.1:{port}"
    yield start
    for p in processes:
        p.terminate()
        p.wait(10)


FORWARDS = [{"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"X-Real-IP": "192.0.2.1"}, {"Via": "1.1 lab"}]


@pytest.mark.parametrize("headers", FORWARDS, ids=lambda h: next(iter(h)))
def test_what_a_proxy_forwards_is_not_this_machines_own(service, headers):
    service.start()
    assert requests.get(service.url + "/v1/jobs", timeout=60).status_code == 200
    r = requests.get(service.url + "/v1/jobs", headers=headers, timeout=60)
    assert r.status_code == 401 and "trust-forwarded" in r.json()["detail"]
    status, _, body = over_socket(service.state + "/mulund.sock", "GET", "/v1/jobs", **headers)
    assert status == 401 and b"trust-forwarded" in body, "also through the socket, where the peer is the proxy"
    assert requests.get(service.url + "/healthz", headers=headers, timeout=60).status_code == 200
    assert service.logged().count("a proxy on this machine forwards") == 1
    token = requests.post(service.url + "/v1/tokens", json={"name": "x", "role": "read"}, timeout=60).json()["token"]
    assert requests.get(service.url + "/v1/jobs", headers={**headers, "Authorization": f"Bearer {token}"}, timeout=60).status_code == 200


def test_a_proxy_that_asks_who_comes_can_be_trusted(service):
    service.start("--trust-forwarded", "yes", "--prefix", "/mulund")
    assert requests.get(service.url + "/v1/jobs", headers=FORWARDS[0], timeout=60).status_code == 200
    assert over_socket(service.state + "/mulund.sock", "GET", "/v1/jobs", **FORWARDS[0])[0] == 200
    assert "single-user and trust-forwarded: whoever reaches a proxy" in service.logged()


def test_a_proxy_with_a_single_user_is_warned_of(service):
    r = subprocess.run([*service.command("--prefix", "/mulund"), "--doctor"], capture_output=True, text=True, timeout=60, env={**os.environ, **service.environment})
    assert "note  single-user behind a proxy" in r.stdout + r.stderr
    service.start("--allowed-hosts", "lab.example")
    assert "warning single-user behind a proxy" in service.logged()


@pytest.mark.parametrize("prefix", ["/mulund", "/kept"])
def test_nginx_with_its_defaults_serves_it_below_a_prefix(service, proxy, prefix):
    """proxy_pass as it is: Host becomes the upstream's, Origin stays the page's; with a slash at its end the prefix goes."""
    with open(service.web + "/index.html", "w") as f:
        f.write("<!doctype html><script type=module src=main.js></script>")
    with open(service.web + "/main.js", "w") as f:
        f.write("fetch('v1/jobs')")
    service.start("--prefix", prefix, "--allowed-hosts", "lab.example")
    url = proxy(service.url) + prefix
    page = {"Origin": "https://lab.example", "Sec-Fetch-Site": "same-origin"}
    assert "module" in requests.get(url + "/", timeout=60).text
    assert requests.get(url + "/main.js", headers=page, timeout=60).status_code == 200
    body = {"kind": "train", "config": {"data": {"dataset": "scripted"}, "training": {"batch_size_train": 8, "num_steps_eval": 0}}}
    r = requests.post(url + "/v1/jobs", json=body, headers=page, timeout=60)
    assert r.status_code == 201, r.text
    job = r.json()
    assert r.headers["Location"] == f"{prefix}/v1/jobs/{job['id']}" and job["links"]["log"] == f"{prefix}/v1/jobs/{job['id']}/log"
    assert requests.get(url[:-len(prefix)] + job["links"]["events"], timeout=60).status_code == 200
    assert requests.get(service.url + "/v1/jobs", timeout=60, headers={"Host": "lab.example:443"}).status_code == 200  # a proxy that keeps it
    assert requests.get(url + "/v1/jobs", timeout=60).json()["jobs"][0]["links"]["log"] == job["links"]["log"]
    assert requests.post(url + "/v1/jobs", json=body, headers={"Origin": "https://evil.example"}, timeout=60).status_code == 403
    assert requests.get(service.url + "/v1/jobs", timeout=60, headers={"Host": "evil.example"}).status_code == 421
    r = requests.post(url + "/v1/links", json={}, timeout=60)
    assert r.json()["path"].startswith(prefix + "/open?code=")
    r = requests.get(url[:-len(prefix)] + r.json()["path"], timeout=60, allow_redirects=False)
    assert r.status_code == 303 and r.headers["Location"].endswith(prefix + "/") and f"Path={prefix}/;" in r.headers["Set-Cookie"]
    assert requests.get(url + "/openapi.json", timeout=60).json()["servers"] == [{"url": prefix}]


def test_check_config_knows_the_keys(tmp_path):
    path = tmp_path / "mulund.conf"
    path.write_text("[server]\nlisten = 127.0.0.1:8700\nlisten = tls:0.0.0.0:8443\nallowed-hosts = a b\nprefix = /v1\nsingle-user = perhaps\n")
    r = subprocess.run([MULUND, "--check-config", str(path)], capture_output=True, text=True, timeout=60)
    assert r.returncode == 2 and ":5: prefix: expected a path such as /mulund" in r.stderr and ":6: single-user: expected yes or no" in r.stderr
    assert "allowed-hosts" not in r.stderr


@pytest.mark.parametrize("hosts", ["lab.example:8443", "https://lab.example", "lab.example/mulund", "a,b", "[::1", "::1", "[::1]:80", "[lab]", "a b:", "*.example"])
def test_a_host_that_would_never_match_is_an_error(tmp_path, hosts):
    path = tmp_path / "mulund.conf"
    path.write_text(f"[server]\nallowed-hosts = {hosts}\n")
    r = subprocess.run([MULUND, "--check-config", str(path)], capture_output=True, text=True, timeout=60)
    assert r.returncode == 2 and ":2: allowed-hosts: expected names of hosts" in r.stderr and "without scheme and port" in r.stderr


def test_allowed_hosts_are_names_and_addresses_on_any_port(service):
    service.start("--allowed-hosts", "Lab.example  192.0.2.7 [2001:db8::7]")

    def status(**headers):
        return requests.get(service.url + "/v1/jobs", headers=headers, timeout=60).status_code
    for host in ("lab.example", "LAB.EXAMPLE:443", "192.0.2.7:1", "[2001:db8::7]", "[2001:DB8::7]:8443"):
        assert status(Host=host) == 200, host
        assert status(Origin=f"https://{host}") == 200, "as from behind a proxy that puts another Host"
    for host in ("lab.example.", "lab.example.evil.example", "x.lab.example", "lab.example:", "lab.example:http", "192.0.2.70", "2001:db8::7", "[2001:db8::7",
                 "[2001:db8::7]x", "[2001:db8::70]", "[2001:db8::7]:", "lab.example@evil.example", "[", "]"):
        assert status(Host=host) == 421, host
        assert status(Origin=f"https://{host}") == 403, host


@pytest.mark.parametrize("headers, is_secure", [({"X-Forwarded-Proto": "https"}, True), ({"Forwarded": "for=192.0.2.1;proto=https"}, True), ({"X-Forwarded-Proto": "HTTPS, http"}, True),
                                                ({"X-Forwarded-Proto": "http"}, False), ({"Forwarded": "for=192.0.2.1;proto=http"}, False), ({}, False)])
def test_a_session_behind_a_proxy_with_tls_is_never_sent_without(service, headers, is_secure):
    service.start()
    path = service.post("/v1/links", expect=201).json()["path"]
    cookie = requests.get(service.url + path, headers=headers, timeout=60, allow_redirects=False).headers["Set-Cookie"]
    assert ("; Secure" in cookie) == is_secure and "; HttpOnly" in cookie and "; SameSite=Strict" in cookie
