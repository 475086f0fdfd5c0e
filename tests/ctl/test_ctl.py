"""mulunctl against the API's test server."""
import ctypes
import http.server
import json
import os
import pathlib
import pty
import re
import struct
import subprocess
import sys
import threading
import time

import numpy
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "api"))
from conftest import PUBLISHED, Server, checkpoint  # noqa: E402

CTL = os.environ["MULUNCTL"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("ctl"))
    yield s
    s.close()


def ctl(server, *args, code=0, stdin="", env=None):
    url = server if isinstance(server, str) else server.url
    p = subprocess.run([CTL, "--server", url, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=60,
                       env={**os.environ, **(env or {})})
    assert p.returncode == code, (p.returncode, p.stdout, p.stderr)
    return p.stdout if code == 0 else p.stderr


def test_submit_prints_the_id(server):
    out = ctl(server, "submit", "cifar10-conditioned", "--name", "first é", "--tag", "a", "-t", "b", "--set", "model.sm_n_embd=64",
              "--set", "optimizer.gradient_clip_norm=null", "--set", "vdm_type=mulan_epsilon", "--set", "optimizer.lr_decay=true")
    assert re.fullmatch(r"\d+\n", out)
    j = server.get(f"/v1/jobs/{int(out)}").json()
    assert j["name"] == "first é" and j["tags"] == ["a", "b"] and j["config"]["model"]["sm_n_embd"] == 64
    assert j["config"]["vdm_type"] == "mulan_epsilon" and j["config"]["optimizer"]["lr_decay"] is True


def test_submit_takes_a_file(server, tmp_path):
    f = tmp_path / "x.json"
    f.write_text('{"model": {"sm_n_embd": 96}}')
    for args, stdin in ((["--file", f], ""), (["--file", "-"], f.read_text())):
        j = json.loads(ctl(server, "--json", "submit", *args, stdin=stdin))
        assert j["config"]["model"]["sm_n_embd"] == 96 and j["config_name"] is None
    assert "none.json" in ctl(server, "submit", "--file", tmp_path / "none.json", code=1)
    assert "not JSON" in ctl(server, "submit", "--file", "-", stdin="{", code=1)


def test_submit_evaluations_and_samples(server):
    source = server.submit()
    j = json.loads(ctl(server, "submit", "--json", "--evaluate", source, "--set", "evaluation.method=dense", "--set", "evaluation.seed=3"))
    assert j["kind"] == "evaluate" and j["config"]["evaluation"]["method"] == "dense" and j["config"]["evaluation"]["seed"] == 3
    j = json.loads(ctl(server, "submit", "--json", "--sample", source, "--checkpoint", "20"))
    assert j["kind"] == "sample" and j["checkpoint"] == {"job": source, "step": 20}
    assert "/checkpoint" in ctl(server, "submit", "--evaluate", "4711", code=1)
    j = json.loads(ctl(server, "submit", "--json", "--from", source, "--checkpoint", "20", "--set", "optimizer.learning_rate=1e-5", "--accept-changed-data"))
    assert j["kind"] == "train" and j["checkpoint"] == {"job": source, "step": 20} and j["config"]["optimizer"]["learning_rate"] == 1e-5
    assert j["accept_changed_data"] is True
    assert "/start_from/job" in ctl(server, "submit", "--from", "4711", code=1)


def test_problems_name_every_place(server):
    err = ctl(server, "submit", "cifar10-conditioned", "--set", "model.sm_n_embd=96.5", "--set", "model.sm_pdrop=7", code=1)
    assert err == ("mulunctl: The configuration is not valid: 2 errors\n"
                   "  /model/sm_n_embd: 96.5 is not an integer in 32..2048\n  /model/sm_pdrop: 7 is not a number in 0..0.99\n")
    assert "no configuration of that name" in ctl(server, "submit", "no-such", code=1)


@pytest.mark.parametrize("args", [[], ["fly"], ["--strange"], ["list", "--wait"], ["show"], ["show", "x"], ["show", "0"], ["show", "1", "2"],
                                  ["submit"], ["submit", "a", "b"], ["dataset"], ["dataset", "fly"], ["dataset", "import", "a"], ["dataset", "delete", "a/b"], ["dataset", "list", "x"], ["dataset", "import", "a", "/b", "--test-share", "2"], ["submit", "a", "--file", "x"], ["submit", "--set"], ["submit", "a", "--set", "x"],
                                  ["submit", "a", "--set", "=x"], ["submit", "--evaluate", "1", "--sample", "1"], ["submit", "a", "--evaluate", "1"],
                                  ["submit", "a", "--from", "1"], ["submit", "--from", "1", "--sample", "1"], ["submit", "--from", "x"], ["retry"],
                                  ["submit", "a", "--checkpoint", "best"], ["submit", "--evaluate", "x"], ["submit", "--evaluate", "1", "--checkpoint", "x"],
                                  ["log", "1", "--lines", "x"], ["resume", "1", "--steps", "x"], ["watch"], ["cancel"], ["-x"], ["stop", "now"]])
def test_usage_errors_exit_2(server, args):
    err = ctl(server, *args, code=2)
    assert err.startswith("mulunctl: ") and "--help" in err


def test_help_and_version():
    p = subprocess.run([CTL, "--help"], capture_output=True, text=True, check=True)
    for command in "submit list show watch log cancel resume retry remove stop configs datasets dataset".split():
        assert re.search(rf"^  {command} ", p.stdout, re.M)
        h = subprocess.run([CTL, command, "--help"], capture_output=True, text=True, check=True).stdout
        assert h.startswith(f"usage: mulunctl {command} ") and "--server" in h
    assert re.fullmatch(r"mulunctl \d+\.\d+\.\d+\n", subprocess.run([CTL, "--version"], capture_output=True, text=True, check=True).stdout)


def test_nobody_answers():
    err = ctl("http://127.0.0.1:1", "list", code=3)
    assert err == "mulunctl: no answer from http://127.0.0.1:1: is mulund running?\n"
    p = subprocess.run([CTL, "list"], capture_output=True, text=True, env={**os.environ, "MULUND_SERVER": "http://127.0.0.1:2/"}, check=False)
    assert p.returncode == 3 and "http://127.0.0.1:2: is mulund running?" in p.stderr
    assert "URL" in ctl("127.0.0.1:1", "list", code=2)


def test_every_command_tells_that_nobody_answers_from_a_no(tmp_path):
    lines = """submit x; submit x --wait; submit x --dry-run; submit --evaluate 1; submit --from 1; list; show 1; watch 1; log 1; log 1 -f; events 1; why 1; set 1 --name x; cancel 1; cancel --tag x -y;
        pause 1; resume 1; resume --tag x -y; retry 1; remove 1 -y; remove --tag x -y; import events /x; import checkpoint /x y; series 1; series 1 a; artifacts 1; get 1; get 1 -o g; export 1; export 1 -o e;
        checkpoint export 1 -o f; checkpoint pin 1; token list; token add a; token remove a; open; audit; webhook list; webhook deliveries a; webhook send a; stop; backup; configs; configs x; device list;
        device drain x; datasets; dataset list; dataset import a /x; dataset delete a"""
    commands = [line.split() for line in lines.split(";")]
    told = re.findall(r"^  ([a-z]+) ", subprocess.run([CTL, "--help"], capture_output=True, text=True, check=True).stdout.split("Options")[0], re.M)
    assert {c[0] for c in commands} | {"restore", "doctor"} == set(told), "restore and doctor need no server"
    for command in commands:
        p = subprocess.run([CTL, "-s", "http://127.0.0.1:1", *command], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
        assert p.returncode == 3 and "no answer from http://127.0.0.1:1" in p.stderr and not p.stdout, (command, p)
    assert not list(tmp_path.iterdir()), "and no file is left"


def test_a_proxy_is_not_asked(server):
    ctl(server, "list", env={"http_proxy": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1"})


def test_list_and_show(server):
    job = server.submit(name="listed ünd named", tags=["shown"])
    out = ctl(server, "list", "--tag", "shown", "--state", "queued", "--kind", "train", "--text", "ünd", "--limit", 5)
    head, row = out.splitlines()
    assert head.split() == ["ID", "STATE", "KIND", "PROGRESS", "CREATED", "NAME"]
    assert row.split()[:4] == [str(job), "queued", "train", "0/10000000"] and row.endswith("listed ünd named")
    assert json.loads(ctl(server, "list", "--json", "--tag", "shown"))["jobs"][0]["id"] == job
    assert re.search(r"there are more, \d+ in all", ctl(server, "list", "--limit", 1))
    ctl(server, "list", "--first", "last", code=2)
    first, second = (ctl(server, "list", "--first", f, "--limit", 1, "--state", "queued").splitlines()[1] for f in ("oldest", "next"))
    assert int(first.split()[0]) < job
    assert "expected one of queued" in ctl(server, "list", "--state", "happy", code=1)
    out = ctl(server, "show", job)
    assert re.search(r"^state +queued$", out, re.M) and re.search(r"^tag +shown$", out, re.M)
    assert json.loads(ctl(server, "show", job, "--json"))["id"] == job
    assert "Not found: there is no job 4711" in ctl(server, "show", 4711, code=1)
    server.run(job, state="queued", detail="host: no room")
    server.tell(do="devices", resting=job, runs=0)
    assert re.search(r"^waiting +retry: host: no room .number \d+ in the queue., not before 2", ctl(server, "show", job), re.M)
    server.tell(do="devices", resting=0, runs=0)


def test_actions(server):
    a, b = server.submit(), server.submit()
    assert ctl(server, "cancel", a, b) == f"job {a} is cancelled\njob {b} is cancelled\n"
    assert "the job is cancelled" in ctl(server, "cancel", a, code=1)
    assert ctl(server, "resume", a, "--steps", 50) == f"job {a} is queued\n"
    assert ctl(server, "retry", b) == f"job {b} is queued\n"
    assert "the job is queued" in ctl(server, "retry", b, code=1)
    assert ctl(server, "cancel", b) == f"job {b} is cancelled\n"
    assert json.loads(ctl(server, "retry", b, "--accept-changed-data", "--json"))["accept_changed_data"] is True
    assert ctl(server, "cancel", b) == f"job {b} is cancelled\n"
    server.run(a)
    assert ctl(server, "cancel", a) == f"job {a} is running and stops after a checkpoint\n"
    assert ctl(server, "remove", "--yes", b) == f"job {b} is removed\n"
    assert "running" in ctl(server, "remove", "-y", a, code=1)
    assert ctl(server, "stop") == "mulund is stopping\n"


def test_import_makes_jobs(server, tmp_path):
    j = json.loads(ctl(server, "import", "checkpoint", "/data/ckpt-1.flax", "cifar10-conditioned", "--json", "--name", "published", "-t", "a",
                       "--set", "training.seed=5"))
    assert (j["kind"], j["name"], j["tags"], j["import"]) == ("import", "published", ["a"], {"what": "checkpoint", "path": "/data/ckpt-1.flax"})
    assert j["config_name"] == "cifar10-conditioned" and j["config"]["training"]["seed"] == 5
    f = tmp_path / "x.json"
    f.write_text('{"model": {"sm_n_embd": 96}}')
    assert json.loads(ctl(server, "import", "checkpoint", "/data/x", "--file", f, "--json"))["config"]["model"]["sm_n_embd"] == 96
    out = ctl(server, "import", "events", "/data/logs")
    assert server.get(f"/v1/jobs/{int(out)}").json()["import"] == {"what": "events", "path": "/data/logs"}
    for args in (["checkpoint", "/x"], ["checkpoint", "/x", "y", "--file", f], ["events", "/x", "y"], ["events", "/x", "--set", "a=1"], ["dataset", "/x"]):
        ctl(server, "import", *args, code=2)


def test_export_writes_whole_files(server, tmp_path):
    job = server.submit()
    server.run(job, [scalars(0, 3.5), scalars(1, 2.25)])
    assert ctl(server, "export", job) == "series,step,time_ms,value\n" + ctl(server, "export", job, "--format", "csv").split("\n", 1)[1]
    out = tmp_path / "curves.ndjson"
    assert ctl(server, "export", job, "--format", "ndjson", "-o", out) == ""
    assert [json.loads(line)["value"] for line in out.read_text().splitlines()] == [3.5, 2.25]
    array = tmp_path / "curves.npy"
    assert ctl(server, "export", job, "train/bpd", "--format", "npy", "-o", array) == ""
    assert numpy.load(array)["value"].tolist() == [3.5, 2.25]
    array.unlink()
    assert "name 1 of the list" in ctl(server, "export", job, "no, such", code=1)
    assert "query is not valid" in ctl(server, "export", job, "--format", "xlsx", "-o", tmp_path / "none", code=1)
    assert "there is no job 4711" in ctl(server, "export", 4711, code=1)
    ctl(server, "export", "x", code=2)
    assert "cannot be written" in ctl(server, "export", job, "-o", "/nonexistent/x", code=1)
    assert os.listdir(tmp_path) == ["curves.ndjson"]


def test_checkpoint_export_finds_the_one_that_is_asked_for(server, tmp_path):
    job = server.submit()
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    flax = pathlib.Path(__file__).parent.parent / "formats/flax-mulan/mulan-velocity-linear.flax"
    subprocess.run([os.environ["TEST_PUBLISHED"], "--import", flax, folder / "step-3.safetensors"], check=True)
    (folder / "step-4.safetensors").write_bytes(b"no checkpoint")
    server.run(job, [checkpoint(3, metric=7.0), checkpoint(4, metric=8.0)])
    for which in ("best", "3"):
        ctl(server, "checkpoint", "export", job, "--checkpoint", which, "-o", tmp_path / "x.flax")
        assert (tmp_path / "x.flax").read_bytes() == flax.read_bytes()
    assert "has no such form" in ctl(server, "checkpoint", "export", job, "-o", tmp_path / "y", code=1)
    assert ctl(server, "checkpoint", "pin", job, "--checkpoint", "best") == "step-3.safetensors is kept until it is unpinned\n"
    assert re.search(r" 3  .* step-3.safetensors, pinned\n", ctl(server, "artifacts", job))
    assert ctl(server, "checkpoint", "unpin", job, "--checkpoint", 3) == "step-3.safetensors is kept no longer than others\n"
    assert "pinned" not in ctl(server, "artifacts", job)
    assert "no such checkpoint" in ctl(server, "checkpoint", "export", job, "--checkpoint", 5, code=1)
    ctl(server, "checkpoint", "import", job, code=2)
    ctl(server, "checkpoint", "export", job, "--checkpoint", "newest", code=2)
    assert os.listdir(tmp_path) == ["x.flax"]


def test_configs_and_datasets(server):
    server.tell(do="dataset", name="photos32", train=7415, test=1228)
    assert ctl(server, "configs").split() == ["cifar10-conditioned", "imagenet32", "vdm-cifar10"]
    assert json.loads(ctl(server, "configs", "vdm-cifar10")) == json.loads((PUBLISHED / "vdm-cifar10.json").read_text())
    assert ctl(server, "datasets").splitlines()[1].split() == ["photos32", "cifar10", "7415", "1228", "command", "line"]
    assert "no configuration of that name" in ctl(server, "configs", "no-such", code=1)


def progress(step):
    return {"type": "progress", "step": step, "steps": 100, "images_per_second": 11.5, "seconds_left": 75}


def scalars(step, bpd):
    return {"type": "scalars", "step": [step], "time_ms": [1_700_000_000_000], "columns": {"train/bpd": [bpd]}}


def later(server, job, state, **outcome):
    def act():
        time.sleep(1.2)
        attempt = server.tell(do="start", job=job)["attempt"]
        server.tell(do="events", job=job, attempt=attempt, lines=[{"seq": 1, **scalars(9, 7.5)}, {"seq": 2, **progress(10)}])
        time.sleep(1.5)
        server.tell(do="end", job=job, state=state, **outcome)
    t = threading.Thread(target=act)
    t.start()
    return t


def test_watch_prints_lines_and_ends_with_the_job(server):
    job = server.submit(overrides={"training.num_steps_train": 100})
    t = later(server, job, "succeeded", result={"bpd": 3.21})
    out = ctl(server, "watch", job).splitlines()
    t.join()
    assert out[0] == "queued 0/100" and out[-1] == f"job {job} succeeded: 3.2100 bits per dimension"
    assert any(re.match(r"running \d+/100", x) for x in out) and not any("\r" in x for x in out)
    job = server.submit()
    t = later(server, job, "failed", error={"class": "numeric", "detail": "loss is NaN", "step": 17})
    p = subprocess.run([CTL, "--server", server.url, "watch", str(job)], capture_output=True, text=True, timeout=60, check=False)
    t.join()
    assert p.returncode == 1 and p.stdout.splitlines()[-1] == f"job {job} failed: numeric: loss is NaN"
    assert "there is no job 4711" in ctl(server, "watch", 4711, code=1)


def test_watch_draws_a_bar_on_a_terminal(server):
    job = server.submit(overrides={"training.num_steps_train": 100})
    server.run(job, [scalars(9, 7.5), progress(50)])
    main, other = pty.openpty()
    with subprocess.Popen([CTL, "--server", server.url, "watch", str(job)], stdout=other, stdin=other) as p:
        os.close(other)
        time.sleep(1.5)
        server.tell(do="end", job=job, state="succeeded")
        out = b""
        try:
            while part := os.read(main, 4096):
                out += part
        except OSError:
            pass
        assert p.wait(20) == 0
    os.close(main)
    assert b"\rrunning [###############...............] 50/100  bpd 7.500  11.5 images/s  1:15 left" in out, out
    assert out.rstrip().endswith(f"job {job} succeeded".encode())


def test_watch_as_json_and_submit_and_wait(server):
    job = server.submit()
    t = later(server, job, "succeeded")
    states = [json.loads(x)["state"] for x in ctl(server, "watch", "--json", job).splitlines()]
    t.join()
    assert states[0] == "queued" and states[-1] == "succeeded"
    with subprocess.Popen([CTL, "--server", server.url, "submit", "cifar10-conditioned", "--wait"], stdout=subprocess.PIPE, text=True) as p:
        job = int(p.stdout.readline())
        t = later(server, job, "cancelled")
        rest = p.stdout.read()
        assert p.wait(20) == 1 and rest.splitlines()[-1] == f"job {job} cancelled"
    t.join()


def test_log_and_follow(server):
    job = server.submit()
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    (folder / "log").write_text("one\ntwo\nthree\n")
    server.run(job, [checkpoint(1)])
    assert ctl(server, "log", job) == "one\ntwo\nthree\n"
    assert ctl(server, "log", job, "--lines", 2) == "two\nthree\n"
    (folder / "log.times").write_bytes(struct.pack("<4q", 1000, 8, 2500, 14))
    assert ctl(server, "log", job, "--times") == "".join(f"1970-01-01T00:00:0{t}00Z {line}\n" for t, line in (("1.0", "one"), ("1.0", "two"), ("2.5", "three")))
    with subprocess.Popen([CTL, "--server", server.url, "log", "-f", "--lines", "1", str(job)], stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline() == "three\n"
        with open(folder / "log", "a", encoding="utf-8") as f:
            f.write("four\n")
        assert p.stdout.readline() == "four\n"
        with open(folder / "log", "a", encoding="utf-8") as f:
            f.write("five\n")
        server.tell(do="end", job=job, state="succeeded")
        assert p.stdout.read() == "five\n" and p.wait(20) == 0


def test_watching_survives_nothing_but_says_so(tmp_path):
    s = Server(tmp_path)
    job = s.submit()
    s.close()
    assert "is mulund running?" in ctl(s.url, "watch", job, code=3)


class Answers(http.server.BaseHTTPRequestHandler):
    """One answer a request: status, and a document or a text; the last for good."""
    answers = []

    def do_GET(self):
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_PATCH = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def fake():
    """url(answers): a server that gives these."""
    servers = []

    def serve(*answers):
        handler = type("Handler", (Answers,), {"answers": list(answers)})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for s in servers:
        s.shutdown()
        s.server_close()


PROXY = (502, "<html>Bad Gateway</html>")
BUSY = (429, {"title": "Too many requests", "status": 429, "detail": "again in 1 s"})
RUNNING = {"id": 1, "state": "running", "progress": {"step": 1, "steps": 2}}
OVER = {**RUNNING, "state": "succeeded"}


def test_a_proxy_without_its_server_is_nobody(fake):
    for status in (502, 503, 504):
        for command in (["list"], ["log", "1"], ["submit", "x"], ["export", "1"]):
            assert "is mulund running?" in ctl(fake((status, "<html>")), *command, code=3)
    assert "the store does not answer" in ctl(fake((503, {"title": "Unavailable", "detail": "the store does not answer"})), "list", code=1)


def test_watching_goes_on_when_the_server_does(fake):
    """It restarts behind a proxy, or a token's rate is used up: nothing of that is the job's."""
    assert "job 1 succeeded" in ctl(fake((200, RUNNING), (200, {"series": []}), PROXY, BUSY, (503, {"title": "Unavailable"}), (200, OVER)), "watch", 1)
    assert "Too many requests" in ctl(fake(BUSY), "watch", 1, code=1), "but who was never answered is told"


@pytest.mark.parametrize("body", ["<html>Welcome to the hotel</html>", "", "[]", "null", "7", '"text"'])
def test_who_is_not_mulund_is_not_believed(fake, body):
    for command in (["list"], ["show", "1"], ["submit", "x"], ["watch", "1"], ["cancel", "1"], ["token", "list"], ["device", "list"], ["datasets"], ["audit"]):
        assert "is it mulund?" in ctl(fake((200, body)), *command, code=1), command


def test_a_terminal_gets_no_orders_from_texts(fake):
    evil = "a\x1b[2J\x1b]0;title\x07b\x9b31mc\u202ed\x7f"
    job = {"id": 1, "state": "failed", "name": evil, "notes": "one\ntwo" + evil, "progress": {"step": 1, "steps": 2}, "error": {"class": "data", "detail": evil}}
    out = [ctl(fake((200, job)), "show", 1), ctl(fake((200, {"jobs": [job]})), "list"), ctl(fake((200, {"series": [{"name": evil}]})), "series", 1),
           ctl(fake((200, {"artifacts": [{"name": evil, "kind": evil}]})), "artifacts", 1), ctl(fake((422, {"title": evil, "detail": evil, "errors": [{"detail": evil}]})), "submit", "x", code=1)]
    for text in out:
        assert "a?[2J?]0;title?b?31mc?d?" in text and not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text), repr(text)
    assert "one\ntwoa?" in out[0]
    assert json.loads(ctl(fake((200, job)), "show", 1, "--json")) == job, "what a program reads is what it was"


def test_standard_output_that_is_full_is_an_error(server):
    with open("/dev/full", "w", encoding="utf-8") as full:
        p = subprocess.run([CTL, "--server", server.url, "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert p.returncode == 1 and "cannot be written" in p.stderr


def test_watching_ends_when_nobody_can_read_it(server):
    job = server.submit()
    with open("/dev/full", "w", encoding="utf-8") as full:
        p = subprocess.run([CTL, "--server", server.url, "watch", str(job)], stdout=full, stderr=subprocess.PIPE, text=True, timeout=20, check=False)
    assert p.returncode == 1 and "cannot be written" in p.stderr


def test_pause_set_why_and_events(server):
    job = server.submit()
    assert ctl(server, "pause", job) == f"job {job} is paused\n"
    assert f"job {job} is paused: pause\n" == ctl(server, "why", job)
    assert "Conflict" in ctl(server, "pause", 4711, code=1) or "Not found" in ctl(server, "pause", 4711, code=1)
    assert ctl(server, "resume", job, "--limit-wall", "90m", "--limit-steps", 7, "--limit-device-seconds", "1h", "--limit-failures", 3) == f"job {job} is queued\n"
    assert server.get(f"/v1/jobs/{job}").json()["limits"] == {"wall": 5400, "device_seconds": 3600, "steps": 7, "failures": 3}
    out = ctl(server, "set", job, "--name", "better", "--tag", "a", "--tag", "b", "--priority", -3, "--notes", "for the paper", "--limit-wall", "none")
    assert re.search(r"^name +better$", out, re.M) and re.search(r"^priority +-3$", out, re.M) and re.search(r"^notes +for the paper$", out, re.M)
    j = server.get(f"/v1/jobs/{job}").json()
    assert j["tags"] == ["a", "b"] and j["limits"] == {"wall": None, "device_seconds": 3600, "steps": 7, "failures": 3} and j["version"] == 2
    ctl(server, "set", job, "--tag", "")
    assert server.get(f"/v1/jobs/{job}").json()["tags"] == []
    for wrong in (["--priority", "high"], ["--limit-wall", "3w"], ["--limit-wall", "0"], ["--limit-steps", "-1"], []):
        ctl(server, "set", job, *wrong, code=2)
    assert "priority" in ctl(server, "set", job, "--priority", 5000, code=1)
    assert re.match(rf"job {job} waits: ", ctl(server, "why", job))
    assert json.loads(ctl(server, "why", job, "--json"))["reason"]
    server.run(job, state="failed", error={"class": "numeric", "detail": "loss is NaN", "step": 3})
    assert f"job {job} failed: numeric: loss is NaN\n" in ctl(server, "why", job)
    out = ctl(server, "events", job)
    assert [line.split()[1] for line in out.splitlines()[:4]] == ["submit", "pause", "resume", "set"]
    assert "queued -> paused" in out and re.search(r"^attempt 1 on", out, re.M)
    assert json.loads(ctl(server, "events", job, "--json").splitlines()[0])["events"][0]["to"] == "queued"


def test_submit_says_whom_it_waits_for(server):
    first = server.submit()
    job = int(ctl(server, "submit", "cifar10-conditioned", "--after", first, "--priority", 4, "--limit-steps", 10, "--notes", "n"))
    j = server.get(f"/v1/jobs/{job}").json()
    assert j["after"] == [first] and j["priority"] == 4 and j["limits"]["steps"] == 10 and j["notes"] == "n"
    assert j["waiting"]["reason"] == "dependency" and f"job {first} is queued" in ctl(server, "why", job)
    assert re.search(rf"^after +job {first}$", ctl(server, "show", job), re.M)
    ctl(server, "submit", "cifar10-conditioned", "--after", "x", code=2)


def test_devices_are_listed_and_taken_out_of_service(server):
    server.tell(do="devices", resting=0, runs=7)
    head, row = ctl(server, "device", "list").splitlines()
    assert head.split() == ["NAME", "KIND", "STATE", "RUNS", "WHAT"] and row.split() == ["cpu", "cpu", "busy", "job", "7"]
    assert ctl(server, "device", "drain", "cpu", "--preempt").split()[2] == "draining"
    assert json.loads(ctl(server, "device", "list", "--json"))["devices"][0]["state"] == "draining"
    assert ctl(server, "device", "enable", "cpu").split()[2] == "busy"
    assert "no such device" in ctl(server, "device", "drain", "gpu9", code=1)
    ctl(server, "device", "drain", code=2)
    ctl(server, "device", "paint", "cpu", code=2)
    server.tell(do="devices", resting=0, runs=0)


# ---- options, answers, removal

def test_options_are_not_abbreviated(server):
    for wrong in (["list", "--sta", "queued"], ["list", "--stat=queued"], ["--js", "list"], ["submit", "x", "--nam", "y"]):
        assert "there is no option --" in ctl(server, *wrong, code=2)
    job = int(ctl(server, "submit", "cifar10-conditioned", "--notes", "--sta", "-n", "--x", "--", ))
    j = server.get(f"/v1/jobs/{job}").json()
    assert j["notes"] == "--sta" and j["name"] == "--x"


@pytest.mark.parametrize("args, said", [(["lsit"], "no command lsit; is it list that is meant?"), (["resum", "1"], "is it resume that"), (["device", "list", "--serevr", "x"], "is it --server that"),
                                        (["submit", "x", "--limit-wal=3"], "no option --limit-wal; is it --limit-wall that"), (["dataests"], "is it datasets that"),
                                        (["zzzzzz"], "no command zzzzzz\n"), (["list", "--zzzzzz"], "no option --zzzzzz\n"), (["x" * 500], "no command xxx"), (["--" + "x" * 500], "no option --xxx")])
def test_the_nearest_name_is_told(server, args, said):
    assert said in ctl(server, *args, code=2)


@pytest.mark.parametrize("args", [["backup", "a/b"], ["backup", "../x"], ["backup", ".x"], ["backup", "a b"], ["backup", "x" * 65], ["device", "drain", "a?b"], ["token", "remove", "a#b"],
                                  ["token", "add", "a b"], ["webhook", "send", "a%2f"], ["webhook", "deliveries", ""], ["dataset", "delete", ".."], ["dataset", "import", "é", "/x"], ["configs", "a/b"]])
def test_what_can_be_no_name_is_said_to_be_none(server, args):
    assert "is named by 1 to 64 letters, digits, '.', '-' and '_'" in ctl(server, *args, code=2)


def test_removal_asks(server):
    job = server.submit()
    ctl(server, "cancel", job)
    assert "--yes" in ctl(server, "remove", job, code=2)
    for answer, gone in (("n\n", False), ("\n", False), ("y\n", True)):
        main, other = pty.openpty()
        with subprocess.Popen([CTL, "--server", server.url, "remove", str(job)], stdin=other, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
            os.write(main, answer.encode())
            out, err = p.communicate(timeout=20)
        os.close(main)
        os.close(other)
        assert "Remove 1 job with curves" in err and p.returncode == (0 if gone else 1)
        assert server.get(f"/v1/jobs/{job}").status_code == (404 if gone else 200)


def test_all_jobs_of_a_filter_are_stopped(server):
    jobs = [server.submit(tags=["mine"]) for _ in range(3)]
    assert ctl(server, "pause", "--tag", "mine", "--yes") == "3 of 3 jobs: pause\n"
    assert ctl(server, "cancel", "--state", "queued,paused", "--tag", "mine", "-y") == "3 of 3 jobs: cancel\n"
    assert [server.get(f"/v1/jobs/{j}").json()["state"] for j in jobs] == ["cancelled"] * 3
    assert "--yes" in ctl(server, "cancel", "--tag", "mine", code=2)
    assert "not both" in ctl(server, "cancel", jobs[0], "--tag", "mine", code=2)
    assert "takes jobs" in ctl(server, "cancel", code=2)
    assert "/filter/state" in ctl(server, "cancel", "--state", "happy", "-y", code=1)


def test_all_jobs_of_a_filter_go_on_or_go(server):
    jobs = [server.submit(tags=["theirs"]) for _ in range(2)]
    ctl(server, "pause", *jobs)
    assert "jobs that are named" in ctl(server, "resume", "--tag", "theirs", "--steps", "9", "-y", code=2)
    assert ctl(server, "resume", "--tag", "theirs", "-y") == "2 of 2 jobs: resume\n"
    ctl(server, "cancel", *jobs)
    assert ctl(server, "retry", "--tag", "theirs", "--state", "cancelled", "-y") == "2 of 2 jobs: retry\n"
    ctl(server, "cancel", *jobs)
    assert "--yes" in ctl(server, "remove", "--tag", "theirs", code=2)
    assert ctl(server, "remove", "--tag", "theirs", "-y") == "2 of 2 jobs: remove\n"
    assert [server.get(f"/v1/jobs/{j}").status_code for j in jobs] == [404, 404]


def test_a_dry_run_says_what_a_job_needs(server):
    out = ctl(server, "submit", "cifar10-conditioned", "--dry-run")
    assert re.search(r"^steps +100$", out, re.M) and re.search(r"^memory +1000B$", out, re.M) and re.search(r"^fits on +cpu$", out, re.M)
    assert json.loads(ctl(server, "submit", "cifar10-conditioned", "--dry-run", "--json"))["memory_bytes"] == 1000


# ---- which jobs, and in which order

def listed(out):
    """Ids of a list's rows; behind its titles."""
    return [int(line.split()[0]) for line in out.splitlines()[1:] if not line.startswith("there are more")]


def cells(out, title):
    """What a list shows under a title: its columns are aligned."""
    head, *rows = out.splitlines()
    begin = head.index(f" {title} ") + 1
    end = begin + len(title) + re.match(" *", head[begin + len(title):]).end()
    return [row[begin:end].strip() for row in rows if not row.startswith("there are more")]


@pytest.fixture(scope="module")
def sweep(server):
    """Five trainings with this tag: bpd 3.25, 2.5, 10, none and 2.75; later ones learn slower, but for the last."""
    jobs = []
    for i, (bpd, rate) in enumerate([(3.25, 1e-3), (2.5, 2e-4), (10, 3e-5), (None, 2e-5), (2.75, 2e-4)]):
        jobs.append(server.submit(name=f"run {'ecabd'[i]}", tags=["sweep"], notes="n" * 10 * i, priority=-i,
                                  overrides={"optimizer.learning_rate": rate, "training.seed": 1234567 + i, "data.dataset": "a,\"b" if i == 2 else "c"}))
        if bpd:
            points = {"type": "scalars", "step": [1, 2], "time_ms": [1, 2], "columns": {"train/bpd": [bpd - 1, bpd]}}
            server.run(jobs[i], [points], state="succeeded", result={"bpd": bpd})
    return jobs


def test_a_list_is_sorted_and_shows_by_what(server, sweep):
    a, b, c, d, e = sweep
    up = ctl(server, "list", "--tag", "sweep", "--sort", "test_bpd")
    assert up.splitlines()[0].split() == ["ID", "STATE", "KIND", "PROGRESS", "CREATED", "TEST_BPD", "NAME"]
    assert listed(up) == [b, e, a, c, d] and cells(up, "TEST_BPD") == ["2.5", "2.75", "3.25", "10", "-"]
    assert up.splitlines()[1].endswith("  run c")
    for args in (["--sort", "-test_bpd"], ["--sort=-test_bpd"]):
        down = ctl(server, "list", *args, "--tag", "sweep")
        assert listed(down) == [c, a, e, b, d] and cells(down, "TEST_BPD") == ["10", "3.25", "2.75", "2.5", "-"], "what has none is last either way"
    best = ctl(server, "list", "--tag", "sweep", "--sort", "test_bpd", "--limit", 2)
    assert listed(best) == [b, e] and "there are more, 5 in all: --limit, --state, --kind, --tag, --text, --config, --from\n" in best
    assert [j["sorted_by"] for j in json.loads(ctl(server, "list", "--tag", "sweep", "--sort", "test_bpd", "--json"))["jobs"]] == [2.5, 2.75, 3.25, 10, None]


def test_each_key_is_shown_as_what_it_is(server, sweep):
    a, b, c, d, e = sweep
    rates = ctl(server, "list", "--tag", "sweep", "--sort", "-config.optimizer.learning_rate")
    assert cells(rates, "LEARNING_RATE") == ["0.001", "0.0002", "0.0002", "3e-05", "2e-05"] and listed(rates) == [a, e, b, c, d], "equals newest first"
    assert cells(ctl(server, "list", "--tag", "sweep", "--sort", "config.training.seed"), "SEED") == [str(1234567 + i) for i in range(5)]
    assert cells(ctl(server, "list", "--tag", "sweep", "--sort", "priority"), "PRIORITY") == ["-4", "-3", "-2", "-1", "0"]
    assert cells(ctl(server, "list", "--tag", "sweep", "--sort", "best_train_bpd"), "BEST_TRAIN_BPD") == ["1.5", "1.75", "2.25", "9", "-"]
    notes = ctl(server, "list", "--tag", "sweep", "--sort", "notes")
    assert cells(notes, "NOTES") == ["n" * 10, "n" * 20, "n" * 24, "n" * 24, "-"] and listed(notes) == [b, c, d, e, a]
    for key in ("started", "ended"):
        times = cells(ctl(server, "list", "--tag", "sweep", "--sort", key), key.upper())
        assert times == [server.get(f"/v1/jobs/{j}").json()[key] for j in (a, b, c, e)] + ["-"]
    assert cells(ctl(server, "list", "--tag", "sweep", "--sort", "duration"), "DURATION") == ["0:00"] * 4 + ["-"]
    for key in ("state", "kind", "created", "name", "progress", "step", "-step"):
        head = ctl(server, "list", "--tag", "sweep", "--sort", key).splitlines()[0]
        assert head.split() == ["ID", "STATE", "KIND", "PROGRESS", "CREATED", "NAME"], "it has a column already"
    assert listed(ctl(server, "list", "--tag", "sweep", "--sort", "name")) == [c, d, b, e, a]


def test_what_a_list_is_sorted_by_is_shown_whatever_it_is(fake):
    def shown(key, *values):
        return cells(ctl(fake((200, {"jobs": [{"id": 1, "name": "x", "sorted_by": v} for v in values]})), "list", "--sort", key), key.split(".")[-1].upper())
    assert shown("duration", 5, 3661.4, -1, None) == ["0:05", "1:01:01", "0:00", "-"]
    assert shown("ended", 1.5e12, 1e300, -1e300, 1e18) == ["1970-01-18T08:40:00.000Z", "1e+300", "-1e+300", "1e+18"]
    assert shown("config.x.y", 1 / 3, -0.5, 123456789, 1e22, "text", True, [1], {}, "") == ["0.333333", "-0.5", "123456789", "1e+22", "text", "-", "-", "-", ""]
    assert shown("owner", "ü" * 100, "日本" * 100) == ["ü" * 24, "日本" * 12]
    evil = "a\x1b[2J\nb\tc\x9bd\u202ee\x7f\r"
    assert shown("notes", evil, "\n" * 1000) == ["a?[2J?b?c?d?e??", "?" * 24], "a cell has one line"


def test_keys_of_sort_are_the_servers(server):
    helped = re.search(r"--sort KEY .* KEY: (.*)", subprocess.run([CTL, "list", "--help"], capture_output=True, text=True, check=True).stdout).group(1).split(", ")
    err = ctl(server, "list", "--sort", "bpd", code=1)
    assert helped == re.search("sort: expected one of (.*)", err).group(1).split(", ")
    for key in (k.replace("KEY", "training.seed") for k in helped):
        ctl(server, "list", "--sort", key, "--limit", 1)
    for wrong, said in (("config.sed", "no such key"), ("config.seed", "which of them"), ("", "sort: expected"), ("-", "expected one of"), ("--name", "expected one of")):
        assert said in ctl(server, "list", "--sort", wrong, code=1)
    assert "--sort and --first" in ctl(server, "list", "--sort", "name", "--first", "oldest", code=2)
    assert "--sort needs an argument" in ctl(server, "list", "--sort", code=2)
    assert "cancel takes no --sort" in ctl(server, "cancel", "--sort", "name", "-y", code=2)


def test_keys_of_sort_are_completed():
    def complete(*words):
        script = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mulunctl; printf "%s\\n" "${COMPREPLY[@]}"'
        file = pathlib.Path(__file__).parent.parent.parent / "ctl/completion/mulunctl"
        return subprocess.run(["bash", "-c", script, file, CTL, "list", *words], check=True, capture_output=True, text=True, timeout=60).stdout.split()
    assert complete("--sort", "te") == ["test_bpd"] and complete("--sort", "-best_te") == ["-best_test_bpd"]
    assert complete("--sort", "con") == ["config."] and {"name", "notes"} <= set(complete("--sort", "")) and complete("--sort", "x") == []
    assert complete("--so") == ["--sort"] and complete("--conf") == ["--config"] and complete("--fro") == ["--from"]


def test_jobs_are_told_by_their_configuration(server, sweep):
    a, b, c, d, e = sweep

    def found(*options):
        return listed(ctl(server, "list", "--tag", "sweep", *options))
    assert found("--config", "learning_rate=0.00020") == found("--config=optimizer.learning_rate=2e-4") == [e, b]
    assert found("--config", "learning_rate=2e-4", "--config", "training.seed=1234568") == [b]
    assert found("--config", "learning_rate=2e-4", "--config", "training.seed=1234567") == []
    assert "which of them: training.seed or evaluation.seed?" in ctl(server, "remove", "--config", "seed=1", "-y", code=1)
    assert found("--config", 'dataset=a,"b') == [c] and found("--config", "dataset=a") == [], "it has a comma and a quote in it"
    assert found("--config", 'dataset=a,"b', "--config", "learning_rate=3e-5", "--sort", "test_bpd") == [c]
    for wrong, said in (("rate=1", "no such key"), ("learning_rat=1", "is it optimizer.learning_rate"), ("lr_decay=perhaps", "not true or false")):
        assert said in ctl(server, "list", "--config", wrong, code=1)
        assert said in ctl(server, "cancel", "--config", wrong, "-y", code=1)
    for command in (["list"], ["cancel", "-y"]):
        for wrong in ("seed", "=1", ""):
            assert "--config takes KEY=VALUE" in ctl(server, *command, "--config", "learning_rate=1", "--config", wrong, code=2)
        assert "more than 64 times" in ctl(server, *command, *["--config", "learning_rate=1"] * 65, code=2)
    assert "submit takes no --config" in ctl(server, "submit", "x", "--config", "a=1", code=2)


def test_jobs_are_told_by_the_checkpoint_they_began_with(server):
    source, other = server.submit(), server.submit()
    made = [int(ctl(server, "submit", how, source)) for how in ("--evaluate", "--sample", "--from")]
    ctl(server, "submit", "--evaluate", other)
    assert listed(ctl(server, "list", "--from", source)) == made[::-1]
    assert listed(ctl(server, "list", "--from", source, "--kind", "sample")) == [made[1]]
    assert listed(ctl(server, "list", "--from", 4711)) == []
    for wrong in ("x", "0", "-1", ""):
        for command in (["list"], ["cancel", "-y"]):
            assert "named by its number" in ctl(server, *command, "--from", wrong, code=2)
    assert ctl(server, "cancel", "--from", source, "-y") == "3 of 3 jobs: cancel\n"
    assert {server.get(f"/v1/jobs/{j}").json()["state"] for j in made} == {"cancelled"}
    assert ctl(server, "remove", "--from", source, "--kind", "evaluate,sample", "-y") == "2 of 2 jobs: remove\n"
    assert [server.get(f"/v1/jobs/{j}").status_code for j in made] == [404, 404, 200]


def test_actions_touch_only_jobs_of_the_configuration(server):
    jobs = [server.submit(overrides={"optimizer.learning_rate": rate, "data.dataset": name})
            for rate, name in ((7e-5, "x,y"), (7e-5, "x"), (8e-5, "x,y"), (7e-5, "x,y"))]

    def states():
        return [server.get(f"/v1/jobs/{j}").json()["state"] for j in jobs]
    chosen = ["--config", "learning_rate=7e-5", "--config", "dataset=x,y", "-y"]
    assert "--yes" in ctl(server, "pause", *chosen[:-1], code=2)
    for verb, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled"), ("retry", "queued"), ("cancel", "cancelled")):
        assert ctl(server, verb, *chosen) == f"2 of 2 jobs: {verb}\n"
        assert states() == [state, "queued", "queued", state]
    assert ctl(server, "remove", *chosen) == "2 of 2 jobs: remove\n"
    assert [server.get(f"/v1/jobs/{j}").status_code for j in jobs] == [404, 200, 200, 404]
    for option in (chosen[:2], ["--from", jobs[1]]):
        assert "not both" in ctl(server, "cancel", jobs[1], *option, code=2)
    err = ctl(server, "cancel", code=2)
    assert "cancel takes jobs, or --state, --kind, --tag, --text, --config, --from\n" in err
    assert "jobs that are named" in ctl(server, "resume", "--from", jobs[1], "--steps", 9, "-y", code=2)


# ---- what a job made

def test_series_are_listed_and_shown(server):
    job = server.submit()
    server.run(job, [{"type": "scalars", "step": list(range(50)), "time_ms": list(range(50)), "columns": {"train/bpd": [7 - i / 50 for i in range(50)]}}])
    head, row = ctl(server, "series", job).splitlines()
    assert head.split()[0] == "NAME" and row.split()[:3] == ["train/bpd", "50", "49"]
    out = ctl(server, "series", job, "train/bpd", "--points", 5).splitlines()
    assert out[0].split() == ["STEP", "POINTS", "MEAN", "MIN", "MAX"] and 2 < len(out) <= 6
    assert sum(int(x.split()[1]) for x in out[1:]) == 50
    assert json.loads(ctl(server, "series", job, "train/bpd", "--json"))["points_total"] == 50
    assert "has no series nothing" in ctl(server, "series", job, "nothing", code=1)


class Halves(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh128(content):
    function = ctypes.CDLL("libxxhash.so.0").XXH3_128bits
    function.restype, function.argtypes = Halves, [ctypes.c_char_p, ctypes.c_size_t]
    h = function(content, len(content))
    return f"{h.high:016x}{h.low:016x}"


def artifact(server, content):
    """A job's checkpoint with this content: its id."""
    job = server.submit()
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    (folder / "step-7.safetensors").write_bytes(content)
    server.run(job, [{**checkpoint(7), "bytes": len(content), "xxh128": xxh128(content)}])
    return job, server.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"][0]["id"]


def test_a_file_is_got_whole_and_a_cut_one_goes_on(server, tmp_path):
    content = bytes(range(256)) * 20000
    job, id_ = artifact(server, content)
    assert ctl(server, "artifacts", job).splitlines()[1].split()[:2] == [str(id_), "checkpoint"]
    assert ctl(server, "artifacts", job).splitlines()[1].split()[4] == "-", "it has no metric"
    to = tmp_path / "got"
    assert ctl(server, "get", id_, "-o", to) == "" and to.read_bytes() == content
    digest = server.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"][0]["xxh128"]
    part = tmp_path / f"again.{digest}.part"
    part.write_bytes(content[:1_000_000])
    server.tell(do="log")
    ctl(server, "get", id_, "-o", tmp_path / "again")
    time.sleep(0.1)
    sent = [line.split() for line in server.tell(do="log")["lines"]]
    assert (tmp_path / "again").read_bytes() == content and not part.exists()
    assert [x[6:8] for x in sent if x[4] == "GET"] == [["206", str(len(content) - 1_000_000)]]
    part.write_bytes(b"x" * 1_000_000)  # not a beginning of it
    assert "not what the server has" in ctl(server, "get", id_, "-o", tmp_path / "again", code=1) and not part.exists()
    subprocess.run([CTL, "--server", server.url, "get", str(id_)], cwd=tmp_path, check=True)
    assert (tmp_path / "step-7.safetensors").read_bytes() == content
    assert "no such artifact" in ctl(server, "get", 4711, code=1)
    main, other = pty.openpty()
    subprocess.run([CTL, "--server", server.url, "get", str(id_), "-o", str(to)], stderr=other, check=True)
    os.close(other)
    drawn = b""
    try:
        while piece := os.read(main, 4096):
            drawn += piece
    except OSError:
        pass
    os.close(main)
    assert b"[##############################] 4.9 of 4.9 MiB" in drawn


def test_what_is_no_file_is_not_replaced(server, tmp_path):
    """A device, a pipe, a folder, a link: /dev/stdout of root is one."""
    job, id_ = artifact(server, b"weights" * 1000)
    fifo, folder, link = tmp_path / "fifo", tmp_path / "folder", tmp_path / "link"
    os.mkfifo(fifo)
    folder.mkdir()
    (tmp_path / "real").write_text("old")
    link.symlink_to("real")
    for args in (["export", job], ["checkpoint", "export", job], ["get", id_]):
        assert "is a folder" in ctl(server, *args, "-o", folder, code=1)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE, text=True) as cat:
        ctl(server, "export", job, "-o", fifo)
        assert cat.stdout.read().startswith("series,step,time_ms,value")
    assert "is no regular file" in ctl(server, "get", id_, "-o", fifo, code=1) and fifo.is_fifo()
    ctl(server, "export", job, "-o", link)
    assert link.is_symlink() and (tmp_path / "real").read_text().startswith("series,")
    ctl(server, "get", id_, "-o", link)
    assert link.is_symlink() and (tmp_path / "real").read_bytes() == b"weights" * 1000
    assert sorted(os.listdir(tmp_path)) == ["fifo", "folder", "link", "real"]


def test_a_long_log_is_streamed(server):
    job = server.submit()
    folder = server.state / "jobs" / str(job)
    folder.mkdir(parents=True)
    with open(folder / "log", "wb") as f:
        for _ in range(300):
            f.write(b"x" * ((1 << 20) - 1) + b"\n")
    p, n = subprocess.Popen([CTL, "--server", server.url, "log", str(job)], stdout=subprocess.PIPE), 0
    while part := p.stdout.read(1 << 20):
        n += len(part)
    p.stdout.close()
    _, p.returncode, usage = os.wait4(p.pid, 0)
    assert n == 300 << 20 and p.returncode == 0 and usage.ru_maxrss < 200 << 10
    (folder / "log").unlink()


# ---- who may

def test_tokens_links_and_the_log_of_changes(server):
    token = ctl(server, "token", "add", "ci", "--role", "submit").strip()
    assert re.fullmatch(r"ci\.[0-9a-f]{64}", token)
    assert ctl(server, "token", "list").splitlines()[1].split()[:2] == ["ci", "submit"]
    job = int(ctl(server, "submit", "cifar10-conditioned", env={"MULUND_TOKEN": token}))
    out = ctl(server, "audit")
    assert re.search(rf"ci +127.0.0.1 +POST /v1/jobs$", out, re.M) and server.get(f"/v1/jobs/{job}").status_code == 200
    assert "role admin" in ctl(server, "token", "list", code=1, env={"MULUND_TOKEN": token})
    assert "no token of this server" in ctl(server, "list", code=1, env={"MULUND_TOKEN": "ci.wrong"})
    ctl(server, "token", "remove", "ci")
    assert "no token of this server" in ctl(server, "list", code=1, env={"MULUND_TOKEN": token})
    url = ctl(server, "open").strip()
    assert url.startswith(server.url + "/open?code=")
    assert server.session.get(url, allow_redirects=False, timeout=60).status_code == 303
    ctl(server, "token", "paint", code=2)
    assert "role" in ctl(server, "token", "add", "x", "--role", "king", code=1)


def test_a_token_in_a_file_is_used_unless_others_may_read_it(server, tmp_path):
    (tmp_path / "mulund").mkdir()
    path = tmp_path / "mulund" / "token"
    path.write_text(ctl(server, "token", "add", "filed"))
    path.chmod(0o600)
    assert "the token filed has read" in ctl(server, "cancel", server.submit(), code=1, env={"XDG_CONFIG_HOME": str(tmp_path)})
    path.chmod(0o644)
    assert "chmod 600" in ctl(server, "list", code=2, env={"XDG_CONFIG_HOME": str(tmp_path)})


def test_the_socket_of_ones_own_server_is_found(server, tmp_path):
    """A Unix socket that passes bytes on to the test server."""
    import socket
    import threading as t
    (tmp_path / "mulund").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "mulund" / "mulund.sock"))
    listener.listen()

    def pump(a, b):
        while data := a.recv(65536):
            b.sendall(data)
        b.close()

    def serve():
        while True:
            a, _ = listener.accept()
            b = socket.create_connection(("127.0.0.1", server.port))
            t.Thread(target=pump, args=(a, b), daemon=True).start()
            t.Thread(target=pump, args=(b, a), daemon=True).start()
    t.Thread(target=serve, daemon=True).start()
    environment = {k: v for k, v in os.environ.items() if k not in ("MULUND_SERVER", "MULUND_TOKEN")}
    for args, more in ((["list"], {"XDG_STATE_HOME": str(tmp_path)}), (["--server", str(tmp_path / "mulund" / "mulund.sock"), "list"], {}),
                       (["list"], {"MULUND_SERVER": str(tmp_path / "mulund" / "mulund.sock")})):
        p = subprocess.run([CTL, *args], env={**environment, **more}, capture_output=True, text=True, timeout=60, check=False)
        assert p.returncode == 0 and p.stdout.startswith("ID"), p.stderr
    p = subprocess.run([CTL, "--server", "/no/such.sock", "list"], capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == 3 and "no answer from /no/such.sock" in p.stderr
