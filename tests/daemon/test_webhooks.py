"""Webhooks against a receiver of our own: order, signature, tries again, restarts."""
import hashlib
import hmac
import http.server
import json
import os
import sqlite3
import stat
import subprocess
import threading
import time

import pytest

from service import MULUND, SLOW, TRAIN

MULUNCTL = os.path.join(os.path.dirname(MULUND), "../ctl/mulunctl")


class Receiver:
    """Answers with what is next in `answers` (a code and headers; "hang" and for how many seconds; "endless" and the pause between its pieces), else 200."""

    def __init__(self):
        outer = self
        self.got, self.answers, self.cut = [], [], 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((dict(self.headers), body, time.monotonic(), self.path))
                code, headers = outer.answers.pop(0) if outer.answers else (200, {})
                if code == "hang":
                    time.sleep(headers)
                    code, headers = 200, {}
                self.send_response(code if code != "endless" else 200)
                if code == "endless":
                    self.end_headers()
                    try:
                        while self.wfile.write(b"x" * 1000):
                            time.sleep(headers)
                    except OSError:
                        outer.cut += 1
                    return
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def events(self):
        return [json.loads(body) for _, body, _, _ in self.got]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def deliveries(service, n):
    """Of the hook "lab", oldest first, when there are so many."""
    def all_of_them():
        found, after = [], {}
        while True:
            page = service.get("/v1/webhooks/lab/deliveries", limit=3, **after)
            found += page["deliveries"]
            if page["next"] is None:
                return found
            after = {"after": page["next"]}
    service.until(lambda: len(all_of_them()) >= n)
    return all_of_them()[::-1]


@pytest.fixture
def receiver():
    r = Receiver()
    yield r
    r.close()


def told_of_a_run(service, receiver):
    """The ids of a whole training's events, in the order in which they came."""
    service.script([TRAIN])
    service.start("--webhook", f"lab={receiver.url}")
    service.wait(service.submit(100), "succeeded")
    service.until(lambda: "succeeded" in [e["to"] for e in receiver.events()])
    return [e["id"] for e in receiver.events()]


def test_events_arrive_in_order_and_signed(service, receiver):
    service.script([TRAIN])
    service.start("--webhook", f"lab={receiver.url}")
    job = service.submit(100, name="of interest")
    service.wait(job, "succeeded")
    service.until(lambda: "succeeded" in [e["to"] for e in receiver.events()])
    events = receiver.events()
    assert [e["id"] for e in events] == sorted({e["id"] for e in events})
    assert events[0]["from"] is None and events[0]["to"] == "queued" and {e["job"] for e in events} == {job}
    path = f"{service.state}/webhooks/lab.key"
    with open(path) as f:
        key = f.read()
    assert len(key) == 64 and stat.S_IMODE(os.stat(path).st_mode) == 0o600 and key not in service.logged()
    for headers, body, _, _ in receiver.got:
        signed = headers["X-Mulund-Time"].encode() + b"." + body
        assert headers["X-Mulund-Signature"] == "sha256=" + hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()
        assert headers["X-Mulund-Attempt"] == "1" and headers["Content-Type"] == "application/json"
    told = deliveries(service, len(events))
    assert [(d["event"], d["job"], d["attempt"], d["code"], d["error"]) for d in told] == [(e["id"], job, 1, 200, None) for e in events]
    assert service.get("/v1/webhooks") == {"webhooks": [{"name": "lab", "url": receiver.url, "told": events[-1]["id"], "failed": 0, "next_try": None}]}


def test_one_that_is_not_taken_is_tried_again_later_and_those_behind_wait(service, receiver):
    receiver.answers = [(500, {}), (429, {})]
    ids = told_of_a_run(service, receiver)
    assert ids[0] == ids[1] == ids[2] and ids[2:] == sorted(set(ids))
    assert [h["X-Mulund-Attempt"] for h, _, _, _ in receiver.got][:4] == ["1", "2", "3", "1"]
    times = [t for _, _, t, _ in receiver.got]
    assert 0.9 < times[1] - times[0] < 4 and 1.9 < times[2] - times[1] < 6
    assert [(d["attempt"], d["code"]) for d in deliveries(service, len(ids))][:3] == [(1, 500), (2, 429), (3, 200)]


def test_what_waits_is_tried_at_once_and_any_event_is_sent_again(service, receiver):
    receiver.answers = [(500, {})] * 6
    service.script([SLOW])
    service.start("--webhook", f"lab={receiver.url}", "--webhook", "gone=http://127.0.0.1:1/")
    job = service.submit(100000)
    for n in range(1, 6):  # by then the next try is some 16 s away
        service.until(lambda n=n: [h["failed"] for h in service.get("/v1/webhooks")["webhooks"] if h["name"] == "lab"] == [n], 60)
        service.post("/v1/webhooks/lab/send", expect=202)
    service.until(lambda: len(receiver.got) >= 6)
    receiver.answers.clear()
    service.post("/v1/webhooks/lab/send", expect=202)
    service.until(lambda: service.job(job)["state"] == "running" and len({e["id"] for e in receiver.events()}) >= 2)
    first, n = receiver.events()[0]["id"], len(receiver.got)
    known = len(deliveries(service, n))
    hook = service.post("/v1/webhooks/lab/send", {"event": first}, expect=202).json()
    assert hook["name"] == "lab" and hook["told"] > first and hook["failed"] == 0
    service.until(lambda: len(receiver.got) > n)
    headers, body, _, _ = receiver.got[-1]
    assert json.loads(body) == receiver.events()[0] and int(headers["X-Mulund-Attempt"]) == sum(e["id"] == first for e in receiver.events())
    again = deliveries(service, known + 1)[-1]
    assert (again["event"], again["code"], again["attempt"]) == (first, 200, int(headers["X-Mulund-Attempt"]))
    down = service.until(lambda: service.get("/v1/webhooks/gone/deliveries")["deliveries"])[-1]
    assert down["code"] is None and "connect" in down["error"] and down["seconds"] >= 0
    for path, body, status in (("/v1/webhooks/none/send", {}, 404), ("/v1/webhooks/lab/send", {"event": 10**6}, 404), ("/v1/webhooks/lab/send", {"event": "x"}, 422),
                               ("/v1/webhooks/lab/send", {"events": 1}, 422)):
        assert service.post(path, body).status_code == status
    assert [a["action"] for a in service.get("/v1/audit", limit=1000)["audit"]].count("POST /v1/webhooks/lab/send") == 7
    shown = subprocess.run([MULUNCTL, "-s", service.url, "webhook", "deliveries", "lab"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(shown) == known + 2 and shown[1].split()[1:3] == [str(first), str(job)] and "200 in" in shown[1]
    listed = subprocess.run([MULUNCTL, "-s", service.url, "webhook", "list"], capture_output=True, text=True, check=True).stdout
    assert receiver.url in listed and "gone" in listed
    assert subprocess.run([MULUNCTL, "-s", service.url, "webhook", "send", "lab", str(first)]).returncode == 0
    service.until(lambda: sum(e["id"] == first for e in receiver.events()) == again["attempt"] + 1)


def test_a_redirect_is_not_followed(service, receiver):
    receiver.answers = [(302, {"Location": receiver.url + "/elsewhere"}), (307, {"Location": receiver.url + "/elsewhere"})]
    service.start("--webhook", f"lab={receiver.url}")
    service.submit(100)
    service.until(lambda: len(receiver.got) >= 3)
    assert {path for _, _, _, path in receiver.got} == {"/hook"}


def test_a_restart_loses_none_and_repeats_none_that_was_taken(service, receiver):
    receiver.answers = [(200, {}), (503, {})]
    service.script([SLOW])
    service.start("--webhook", f"lab={receiver.url}")
    service.submit(100000)
    service.until(lambda: len(receiver.got) == 2)
    service.until(lambda: '"attempts": 1' in open(f"{service.state}/webhooks/lab.json").read())
    service.kill()
    first = [e["id"] for e in receiver.events()]
    service.start("--webhook", f"lab={receiver.url}")
    service.until(lambda: len(receiver.got) >= 3)
    assert receiver.events()[2]["id"] == first[1] and receiver.got[2][0]["X-Mulund-Attempt"] == "2"


def test_a_new_hook_is_not_told_the_past_and_nobody_there_harms_nothing(service, receiver):
    service.script([TRAIN])
    service.start()
    old = service.submit(100)
    service.wait(old, "succeeded")
    service.kill()
    service.start("--webhook", f"lab={receiver.url}", "--webhook", "gone=http://127.0.0.1:1/")
    new = service.submit(100)
    service.wait(new, "succeeded")
    service.until(lambda: "succeeded" in [e["to"] for e in receiver.events()])
    assert {e["job"] for e in receiver.events()} == {new}
    assert service.logged().count("webhook gone: event") == 1


def test_a_receiver_that_hangs_does_not_hold_up_the_end(service, receiver):
    receiver.answers = [("hang", 20)]
    service.start("--webhook", f"lab={receiver.url}")
    service.submit(100)
    service.until(lambda: receiver.got)
    began = time.monotonic()
    service.process.terminate()
    assert service.process.wait(15) == 0 and time.monotonic() - began < 4


def test_an_answer_without_an_end_is_an_answer(service, receiver):
    receiver.answers = [("endless", 0), ("endless", 1)]
    ids = told_of_a_run(service, receiver)
    assert ids == sorted(set(ids)), "each once"
    assert {(d["attempt"], d["code"]) for d in deliveries(service, len(ids))} == {(1, 200)}
    service.until(lambda: receiver.cut == 2)


def test_after_a_day_an_event_is_given_up_and_those_behind_it_are_told(service, receiver):
    receiver.answers = [(503, {})]
    service.script([TRAIN])
    service.start("--webhook", f"lab={receiver.url}")
    job = service.submit(100)
    service.until(lambda: '"attempts": 1' in open(f"{service.state}/webhooks/lab.json").read())
    service.kill()
    first = receiver.events()[0]["id"]
    with sqlite3.connect(service.state + "/mulund.db") as db:
        assert db.execute("UPDATE job_event SET time_us = time_us - 86400000000 WHERE id = ?", (first,)).rowcount == 1
    with open(f"{service.state}/webhooks/lab.json", "r+") as f:
        position = json.load(f) | {"waited_s": 86400}
        f.seek(0)
        json.dump(position, f)
    receiver.answers = [(503, {})]
    service.start("--webhook", f"lab={receiver.url}")
    service.wait(job, "succeeded")
    service.until(lambda: "succeeded" in [e["to"] for e in receiver.events()])
    assert f"webhook lab: event {first} is given up after a day" in service.logged()
    told = [(d["event"], d["attempt"], d["code"]) for d in deliveries(service, len(receiver.got))]
    assert told[:2] == [(first, 1, 503), (first, 2, 503)] and {x[1:] for x in told[2:]} == {(1, 200)} and first not in {x[0] for x in told[2:]}


def test_a_day_without_power_is_no_day_of_trying(service, receiver):
    """The receiver starts behind us, on Monday: what happened on Friday is told."""
    receiver.answers = [(503, {})] * 99
    service.script([TRAIN])
    service.start("--webhook", f"lab={receiver.url}")
    job = service.submit(100)
    service.wait(job, "succeeded")
    service.kill()
    with sqlite3.connect(service.state + "/mulund.db") as db:
        db.execute("UPDATE job_event SET time_us = time_us - 3 * 86400000000")
        ids = [i for i, in db.execute("SELECT id FROM job_event ORDER BY id")]
    receiver.answers, receiver.got = [(503, {})], []
    service.start("--webhook", f"lab={receiver.url}")
    service.until(lambda: len(receiver.got) == len(ids) + 1)
    assert [e["id"] for e in receiver.events()] == ids[:1] + ids and "given up" not in service.logged()


def test_a_new_database_is_told_of_from_its_first_event(service, receiver):
    service.script([TRAIN])
    service.start("--webhook", f"lab={receiver.url}")
    service.wait(service.submit(100), "succeeded")
    service.wait(service.submit(100), "succeeded")
    service.until(lambda: [e["to"] for e in receiver.events()].count("succeeded") == 2)
    service.kill()
    for name in [n for n in os.listdir(service.state) if n.startswith("mulund.db")]:
        os.rename(f"{service.state}/{name}", f"{service.root}/{name}")
    receiver.got = []
    service.start("--webhook", f"lab={receiver.url}")
    job = service.submit(100)
    service.wait(job, "succeeded")
    service.until(lambda: "succeeded" in [e["to"] for e in receiver.events()], 20)
    assert receiver.events()[0]["id"] == 1 and {e["job"] for e in receiver.events()} == {job}


@pytest.mark.parametrize("value", ["x", "x=", "x=ftp://a/", "x=file:///etc/passwd", "a b=http://a/", "x=http://a b/", "x=http://a/\n"])
def test_only_urls_are_taken(service, value):
    service.start("--webhook", value, wait=False)
    assert service.process.wait(10) == 2 and "--webhook" in service.logged()
