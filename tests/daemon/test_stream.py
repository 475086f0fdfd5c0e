"""GET /v1/events: what happens, as it happens, over one connection."""
import http.client
import json
import signal
import socket
import threading
import time
import urllib.parse

import pytest
import requests

from service import SLOW, TRAIN


class Stream:
    """One client, its events in the order in which they came."""

    def __init__(self, service, last=None, **params):
        self.events = []
        self.beats = 0
        self.over = False
        self.connection = http.client.HTTPConnection(service.url.split("//")[1], timeout=60)
        self.connection.request("GET", "/v1/events?" + urllib.parse.urlencode(params), headers={} if last is None else {"Last-Event-ID": str(last)})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.headers["Content-Type"] == "text/event-stream" and self.answer.headers["Cache-Control"] == "no-store"
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        event = {}
        try:
            for line in self.answer:
                line = line.decode().rstrip("\n")
                if line == ":":
                    self.beats += 1
                elif line:
                    key, value = line.split(": ", 1)
                    event[key] = value
                elif event:
                    self.events.append((event["event"], int(event["id"]) if "id" in event else None, json.loads(event["data"])))
                    event = {}
        except (http.client.HTTPException, OSError, ValueError):
            pass
        self.over = True

    def of(self, kind):
        return [data for name, _, data in list(self.events) if name == kind]

    def triggers(self, job):
        return [e["trigger"] for e in self.of("job") if e["job"] == job]

    def close(self):
        """At once, though another thread reads."""
        self.connection.sock.shutdown(socket.SHUT_RDWR)


def test_a_stream_tells_what_happens_and_progress_and_counts(service):
    service.script([TRAIN])
    service.start()
    stream = Stream(service)
    service.until(lambda: stream.of("ready"))
    job = service.submit(100, name="told")
    service.wait(job, "succeeded")
    service.until(lambda: "done" in stream.triggers(job))
    assert [t for t in stream.triggers(job) if t != "artifact"] == ["submit", "start", "done"]
    done = stream.of("job")[-1]
    assert (done["from"], done["to"], done["job"]) == ("running", "succeeded", job) and done["time"].endswith("Z")
    assert stream.of("progress") and all(p["job"] == job for p in stream.of("progress"))
    service.until(lambda: stream.of("counts")[-1]["state"]["succeeded"] == 1)
    ids = [i for _, i, _ in stream.events if i]
    assert ids == sorted(ids)
    requests.delete(f"{service.url}/v1/jobs/{job}", timeout=5)
    service.until(lambda: stream.of("counts")[-1]["state"]["succeeded"] == 0)
    stream.close()


def test_who_comes_back_misses_nothing_also_after_a_restart(service):
    service.script([TRAIN])
    service.start()
    first = service.submit(100)
    service.wait(first, "succeeded")
    stream = Stream(service, after=0)
    service.until(lambda: "done" in stream.triggers(first))
    last = max(i for _, i, _ in stream.events if i)
    stream.close()
    second = service.submit(100)
    service.wait(second, "succeeded")
    service.kill()
    service.start()
    stream = Stream(service, last=last)
    service.until(lambda: "done" in stream.triggers(second))
    assert stream.triggers(first) == [] and min(e["id"] for e in stream.of("job")) > last
    assert stream.events[0][0] == "ready" and stream.events[0][1] == last
    stream.close()
    many = [service.submit(1, seed=2) for _ in range(3)]
    for job in many:
        for i in range(150):
            requests.patch(f"{service.url}/v1/jobs/{job}", json={"name": str(i)}, timeout=5)
    stream = Stream(service, after=last)
    service.until(lambda: stream.triggers(many[-1]).count("set") == 150, 20)
    ids = [e["id"] for e in stream.of("job")]
    assert ids == sorted(set(ids)), "each once, over several pieces"
    stream.close()
    stream = Stream(service, last=ids[-2], after=last)  # a browser that comes back says the same address
    service.until(lambda: stream.of("job"))
    assert stream.events[0][1] == ids[-2] and [e["id"] for e in stream.of("job")] == ids[-1:]
    stream.close()
    stream = Stream(service, last=ids[-1] + 1000)  # of a database that this one took the place of
    service.until(lambda: stream.events)
    assert stream.events[0][:2] == ("ready", ids[-1])
    requests.patch(f"{service.url}/v1/jobs/{many[0]}", json={"name": "more"}, timeout=60)
    service.until(lambda: stream.triggers(many[0]) == ["set"])
    stream.close()


def test_a_stream_of_one_job_is_of_it_alone(service):
    service.script([SLOW])
    service.start()
    a, b = service.submit(), service.submit()
    stream = Stream(service, job=b, after=0)
    service.wait_step(a, 3)
    service.post(f"/v1/jobs/{b}/cancel", expect=200)
    service.until(lambda: "cancel" in stream.triggers(b))
    assert {e["job"] for e in stream.of("job")} == {b} and not stream.of("progress") and not stream.of("counts")
    stream.close()


def test_more_at_once_than_one_piece_has_reaches_all_streams_once(service):
    service.script([SLOW])
    service.start()
    service.submit()
    jobs = [service.submit() for _ in range(230)]
    streams = [Stream(service) for _ in range(8)] + [Stream(service, after=0), Stream(service, job=jobs[3])]
    service.until(lambda: all(s.of("ready") for s in streams))
    r = requests.post(f"{service.url}/v1/jobs/cancel", json={"filter": {"state": ["queued"]}}, timeout=60)
    assert r.json()["changed"] == len(jobs)
    late = Stream(service, after=0)
    for s in [*streams[:9], late]:
        service.until(lambda s=s: len([e for e in s.of("job") if e["trigger"] == "cancel"]) >= len(jobs), 30)
        ids = [e["id"] for e in s.of("job")]
        assert ids == sorted(set(ids)) and sorted(e["job"] for e in s.of("job") if e["trigger"] == "cancel") == jobs
    service.until(lambda: streams[9].triggers(jobs[3]) == ["cancel"])
    for s in [*streams, late]:
        s.close()


def test_streams_end_with_the_daemon_and_never_hold_it_up(service):
    service.script([SLOW])
    service.start()
    streams = [Stream(service) for _ in range(50)]
    service.until(lambda: all(s.of("ready") for s in streams))
    for s in streams[:20]:
        s.close()
    job = service.submit()
    service.until(lambda: all("submit" in s.triggers(job) for s in streams[20:]))
    begin = time.monotonic()
    assert service.kill(signal.SIGTERM) == 0
    assert time.monotonic() - begin < 3
    service.process = None
    end = time.monotonic() + 5
    while not all(s.over for s in streams[20:]) and time.monotonic() < end:
        time.sleep(0.02)
    assert all(s.over for s in streams[20:])


def test_others_are_served_beside_many_streams_and_a_client_that_does_not_read(service):
    service.script([SLOW])
    service.start()
    streams = [Stream(service) for _ in range(100)]
    deaf = socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    job = service.submit()
    service.wait_step(job, 50)
    times = []
    for _ in range(20):
        begin = time.monotonic()
        service.get("/healthz")
        times.append(time.monotonic() - begin)
    assert sorted(times)[10] < 0.1
    service.until(lambda: all(s.of("progress") for s in streams))
    deaf.close()
    for s in streams:
        s.close()


def test_a_stream_is_asked_for_properly(service):
    service.start()
    for headers, params in (({"Last-Event-ID": "x"}, {}), ({}, {"after": "-1"}), ({}, {"job": "0"}), ({}, {"jobs": "1"})):
        r = requests.get(service.url + "/v1/events", headers=headers, params=params, timeout=5)
        assert r.status_code == 400 and r.json()["type"] == "problems/query-invalid"
    assert requests.head(service.url + "/v1/events", timeout=5).status_code == 200
