"""Clients that ask for much, or take it slowly; each until it is told to stop."""
import os
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
import requests

from service import Service

SERIES = 4
POINTS = 1000000


@pytest.fixture(name="greedy")
def fixture_greedy():
    s = Service([[["start"], ["scalars", 0, 1], ["checkpoint", 1], ["done"]]])
    yield s
    s.close()


def series_reader(url, job, stop):
    """The same job a hundred times and fifty names, some of which are there: again and again."""
    names = ["train/bpd"] + [f"s{i % SERIES}" for i in range(49)]
    while not stop.is_set():
        r = requests.get(url + "/v1/series", params={"jobs": ",".join([str(job)] * 100), "names": ",".join(names)}, timeout=60)
        assert r.status_code == 200 and len(r.json()["series"]) == SERIES + 1


def slow_bodies(url, job, stop):
    """520 of them, each a part of a megabyte and then a byte now and then; who is sent away comes again."""
    port = int(url.rsplit(":", 1)[1])
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n{" + b" " * 200000
    clients = {}
    while not stop.is_set():
        for i in range(520):
            try:
                if i not in clients:
                    clients[i] = socket.create_connection(("127.0.0.1", port), timeout=0.5)
                    clients[i].sendall(head)
                clients[i].settimeout(0.01)
                clients[i].sendall(b" ")
            except OSError:
                if i in clients:
                    clients.pop(i).close()
            if stop.is_set():
                return
        stop.wait(0.2)


def slow_download(url, artifact, stop, done):
    """200 kB a second."""
    port = int(url.rsplit(":", 1)[1])
    s = socket.create_connection(("127.0.0.1", port), timeout=20)
    s.sendall(f"GET /v1/artifacts/{artifact} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    got, began = 0, time.monotonic()
    while not stop.is_set():
        part = s.recv(20000)
        assert part, "it was cut"
        got += len(part)
        time.sleep(max(0, began + got / 200e3 - time.monotonic()))
    done.value = got


def log_reader(url, job, stop):
    while not stop.is_set():
        assert requests.get(f"{url}/v1/jobs/{job}/log", params={"tail": 1000}, timeout=60).status_code == 200


def prepare(service, points=POINTS):
    """A finished job with long series, a checkpoint of 50 MB and a log of 3 GiB without lines: (job, artifact)."""
    service.start()
    job = service.submit(1)
    service.wait(job, "succeeded")
    artifact = service.artifacts(job)[0]
    service.until(lambda: not [n for n in os.listdir(f"{service.state}/jobs/{job}") if n.endswith(".lock")])
    service.kill(signal.SIGTERM)
    with sqlite3.connect(service.state + "/mulund.db", timeout=60) as db:
        attempt, = db.execute("SELECT max(id) FROM attempt WHERE job = ?", (job,)).fetchone()
    subprocess.run([os.environ["TEST_ADD_POINTS"], service.state, str(attempt), "1", str(points), *(f"s{i}" for i in range(SERIES))], check=True)
    os.truncate(f"{service.state}/jobs/{job}/{artifact['name']}", 50 << 20)
    os.truncate(f"{service.state}/jobs/{job}/log", 3 << 30)
    service.start()
    return job, artifact["id"]
