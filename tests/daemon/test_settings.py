"""mulund.conf, the command line, the environment: one table, and all that is wrong said at once."""
import os
import random
import re
import signal
import subprocess

import pytest

from service import HERE, MULUND

EXAMPLE = os.path.join(os.path.dirname(MULUND), "mulund.conf")


def check(path, **environment):
    return subprocess.run([MULUND, "--check-config", str(path)], capture_output=True, text=True, errors="replace", timeout=60,
                          env={"PATH": os.environ["PATH"], **environment})


def write(tmp_path, text):
    path = tmp_path / "mulund.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_example_is_good_with_and_without_its_comments(tmp_path):
    with open(EXAMPLE) as f:
        text = f.read()
    assert check(EXAMPLE).returncode == 0
    whole = re.sub(r"^#([a-z-]+ = )", r"\1", text, flags=re.M)
    assert whole.count("\n#") < text.count("\n#")
    r = check(write(tmp_path, whole))
    assert r.returncode == 0, r.stderr


def test_every_error_has_its_line_and_what_was_expected(tmp_path):
    path = write(tmp_path, """\
[sevrer]
any = thing
[server]
lisen = 127.0.0.1:1
web = a/b
web = /x
state = /x
[daemon]
stop-timeout = 5 minutes
retry-pause = 2h
disk-reserve = many
[devices]
a b = cpu:0
c = gpu
d = cpu:0
d = cpu:1
[datasets]
a = relative
nonsense
[imports
""")
    r = check(path)
    assert r.returncode == 2 and not r.stdout
    wanted = {1: "[server] that is meant", 4: "is it listen in [server]", 5: "web: ", 6: "stands in line 5", 7: "is it state in [daemon]",
              9: "stop-timeout: expected a time", 10: "retry-pause: is not in 1ms..1h", 11: "disk-reserve: expected a size", 13: "letters, digits",
              14: "expected cpu:CORES", 16: "the same name twice", 18: "absolute", 19: "expected KEY = VALUE", 20: "[NAME]"}
    found = {int(m.group(1)): m.group(2) for m in re.finditer(re.escape(f"mulund: {path}:") + r"(\d+): (.*)", r.stderr)}
    assert set(found) == set(wanted), r.stderr
    for line, text in wanted.items():
        assert text in found[line], (line, found[line])
    assert f"{len(wanted)} errors" in r.stderr


@pytest.mark.parametrize("text", [b"\xff\xfe[\0s\0", b"[daemon]\nstate = /a\0b\n", b"[daemon]\nstate = /a\x1b[2J\n", b"[daemon]\nstate = /\xc0\xaf\n",
                                  b"key = before\n", b"[]\n", b"[a]b\n", b"[" + b"a" * 100 + b"]\n", b"[daemon]\nstate = /" + b"a" * 5000 + b"\n",
                                  b"[daemon]\n" + b"a" * 100000, b"[datasets]\n" + b"".join(b"d%d = /tmp\n" % i for i in range(65)),
                                  b"#" * (1 << 20) + b"\n"])
def test_a_hostile_file_is_an_error_and_no_more(tmp_path, text):
    r = check(write(tmp_path, text))
    assert r.returncode == 2 and all(line.isprintable() for line in r.stderr.splitlines()), r.stderr
    assert "mulund.conf" in r.stderr and "Sanitizer" not in r.stderr


def test_any_bytes_end_with_an_answer(tmp_path):
    with open(EXAMPLE, "rb") as f:
        good = f.read().replace(b"\n#", b"\n")
    rng = random.Random(1)
    for _ in range(40):
        text = bytearray(good)
        for _ in range(rng.randrange(1, 30)):
            at = rng.randrange(len(text))
            text[at:at + rng.randrange(3)] = bytes(rng.randrange(256) for _ in range(rng.randrange(4)))
        r = check(write(tmp_path, bytes(text)))
        assert r.returncode in (0, 2), r.stderr


with open(os.path.join(HERE, "../../daemon/settings.def")) as f:
    ROWS = re.findall(r'^SETTING\((\w+), "([^"]+)", "([^"]+)", "[^"]+", \w+, (?:"[^"]*"|NULL), ([^,]+), ([^,]+), ', f.read(), re.M)
WRONG = {"PATH": ["relative", "", "/\xa0" * 2500], "SIZE": ["many", "-1", "1.5GiB", "1 parsec"], "TIME": ["soon", "-1s", "1.5m", ""], "BOOL": ["true", "1", "YES", ""],
         "COUNT": ["x", "-1", "1.5", "", "99999999999999999999"], "LISTENER": ["8700", "localhost:8700", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:-1", "::1:8700", "udp:1.2.3.4:5"],
         "GROUP": ["a b", "../x"], "HOSTS": ["a:1", "http://a"], "PREFIX": ["mulund", "/", "/a//b", "/../x", "/v1"], "NAMES": ["a=b", "a,b", "a;b"], "FOLDER": ["relative", "/no/such", "/etc/passwd"],
         "DATASET": ["relative", "/etc/passwd"], "DEVICE": ["gpu", "cpu:", "cpu:x", "cpu:3-1", "cuda:", "tpu:0"], "WEBHOOK": ["x", "ftp://a/", "http:/a", "file:///etc/passwd"]}


def beyond(kind, least, most):
    """Values just outside of what the row allows."""
    least, most = (eval(x.replace("(int64_t)", ""), {"US_PER_S": 10**6, "US_PER_MS": 1000, "INT64_MAX": 2**63 - 1}) for x in (least, most))  # of our own making
    if kind == "TIME":
        return ["0ms", f"{most // 10**6 + 1}s"]
    if kind == "SIZE":
        return ([f"{least - 1}B"] if least > 0 else []) + ([f"{most + 1}B"] if most < 2**63 - 1 else [])
    return ([str(least - 1)] if least > 0 else []) + [str(most + 1)] if kind == "COUNT" else []


def test_every_setting_refuses_what_it_is_not(tmp_path):
    """Row by row of settings.def: other kinds, beyond its limits, twice, and misspelt."""
    assert len(ROWS) > 30 and {kind for kind, *_ in ROWS} == set(WRONG)
    lines, wanted = [], {}

    def add(line, *texts):
        lines.append(line)
        if texts:
            wanted[len(lines)] = texts
    for kind, section, key, least, most in ROWS:
        name = "name" if key == "*" else key
        add(f"[{section}]")
        for i, value in enumerate(WRONG[kind] + beyond(kind, least, most)):
            first = not i or kind in ("LISTENER", "FOLDER", "DATASET", "DEVICE", "WEBHOOK")
            add(f"{name}{i if key == '*' else ''} = {value}", (section if key == "*" else key) + ": " if first else f"{key}: it stands in line")
    for kind, section, key, *_ in ROWS:
        if key != "*":
            add(f"[{section}]")
            if section not in ("datasets", "devices", "webhooks"):
                add(f"{key}x = 1", f"no such key in [{section}]; is it {key} in [{section}] that is meant?")
    for section in sorted({section for _, section, *_ in ROWS}):
        add(f"[{section}x]", f"no such section; is it [{section}] that is meant?")
    path = write(tmp_path, "\n".join(lines) + "\n")
    r = check(path)
    found = {int(m.group(1)): m.group(2) for m in re.finditer(re.escape(f"mulund: {path}:") + r"(\d+): (.*)", r.stderr)}
    assert r.returncode == 2 and set(found) == set(wanted), (sorted(set(found) ^ set(wanted)), r.stderr)
    for line, texts in wanted.items():
        assert all(text in found[line] for text in texts), (lines[line - 1], found[line])


@pytest.mark.parametrize("kind, section, key, value", [(kind, section, key, value) for kind, section, key, least, most in ROWS
                                                       for value in (WRONG[kind] + beyond(kind, least, most))[1:] if kind in ("SIZE", "TIME", "BOOL", "COUNT", "PREFIX", "GROUP", "HOSTS", "NAMES")])
def test_every_value_is_refused_alone(tmp_path, kind, section, key, value):
    r = check(write(tmp_path, f"[{section}]\n{key} = {value}\n"))
    assert r.returncode == 2 and f"mulund.conf:2: {key}: " in r.stderr, r.stderr


def test_files_that_are_not_read(tmp_path):
    path = write(tmp_path, "[daemon]\n")
    os.chmod(path, 0o666)
    assert "others may change it" in check(path).stderr
    assert "regular" in check(tmp_path).stderr
    assert "cannot be found" in check(tmp_path / "none").stderr
    os.mkfifo(tmp_path / "pipe")
    assert "regular" in check(tmp_path / "pipe").stderr


def test_crlf_and_blanks_and_no_last_newline(tmp_path):
    r = check(write(tmp_path, "  # first\r\n\r\n[ daemon ]\r\n\t stop-timeout \t=\t 5s \r\n; more\r\n[server]\r\nlisten=127.0.0.1:0"))
    assert r.returncode == 0, r.stderr


def test_the_command_line_stands_above_the_file_and_lists_grow(service):
    path = os.path.join(service.root, "mulund.conf")
    with open(path, "w") as f:
        f.write(f"[server]\nlisten = 127.0.0.1:1\n[datasets]\nfiled = {service.data}\n[devices]\none = cpu:0\n[imports]\nroot = {service.root}\n")
    service.start("--config", path)
    assert {d["name"] for d in service.get("/v1/datasets")["datasets"]} == {"scripted", "filed"}
    assert [d["name"] for d in service.get("/v1/devices")["devices"]] == ["one"]


def test_the_environment_is_checked_and_ends_the_start(service):
    service.environment["MULUND_RETRY_MS"] = "soon"
    service.environment["MULUND_DISK_RESERVE_MIB"] = "-1"
    service.start(wait=False)
    assert service.process.wait(10) == 2
    assert "MULUND_RETRY_MS: expected a time" in service.logged() and "MULUND_DISK_RESERVE_MIB: expected a size" in service.logged()


def test_a_reload_takes_over_what_it_may_and_says_the_rest(service):
    del service.environment["MULUND_STOP_TIMEOUT_MS"]
    path = os.path.join(service.root, "mulund.conf")

    def write_config(text):
        with open(path, "w") as f:
            f.write(text)

    write_config("[daemon]\nstop-timeout = 1h\n")
    service.start("--config", path)
    write_config("[daemon]\nstop-timeout = 1h\nnonsense = 1\n")
    service.process.send_signal(signal.SIGHUP)
    service.until(lambda: "mulund.conf:3: there is no such key" in service.logged() and "stay as they were" in service.logged())
    write_config(f"[daemon]\nstop-timeout = 1s\n[datasets]\nmore = {service.data}\n")
    service.process.send_signal(signal.SIGHUP)
    service.until(lambda: "was read again" in service.logged())
    assert "[datasets] *: the new value holds from the next start" in service.logged()
    assert "[server]" not in service.logged() and "[daemon] state" not in service.logged()
