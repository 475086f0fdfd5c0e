#!/usr/bin/python3
"""The service beside others, in one run: service_peers.py BUILD [POINTS]

* The same bytes of JSON from mulund and from nginx, which has them as a file: ab, 16 connections, in turns, medians. mulund keeps the
  answer while nothing is committed (api/kept.h); so a job that waits, whose answer is kept for a fifth of a second at most, is asked for, too.
* A million points of one series into mulund's store (add_points: its writer, as events come), into a table of SQLite's with a row
  a point, and into Prometheus's blocks (promtool, from OpenMetrics text); then the whole curve in 1,000 buckets from each: over HTTP
  from mulund and from a Prometheus of this run's own, by SQL from the table.

Processor time is the server's or the command's own; other programs run meanwhile, so the clock's figures are best read as ratios.
By hand, as it takes a minute; packages: nginx-light, prometheus, apache2-utils.
"""
import json
import os
import pathlib
import resource
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = pathlib.Path(sys.argv[1]).resolve()
POINTS = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
os.environ["MULUND"] = str(BUILD / "daemon/mulund")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "daemon"))

import requests  # noqa: E402

from measure import processor_of_family, times_of  # noqa: E402
from service import Service  # noqa: E402

BUCKETS, ROUNDS = 1000, 5
BASE_MS = 1_000_000_000_000  # as add_points has it: a millisecond a step, values step / 7
NGINX = """
daemon off; pid {root}/nginx.pid; error_log stderr; worker_processes 2;
events {{ }}
http {{
    access_log off; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    keepalive_requests 1000000; default_type application/json;
    server {{ listen 127.0.0.1:{port}; root {root}/files; }}
}}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until_open(port):
    for _ in range(400):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def ab(url, pid):
    """(requests a second, p99 in ms, the server's microseconds of processor time a request)"""
    before = processor_of_family(pid)
    out = subprocess.run(["ab", "-q", "-k", "-n", "10000", "-c", "16", url], check=True, capture_output=True, text=True).stdout
    fields = dict(line.split(":", 1) for line in out.splitlines() if ":" in line)
    assert "Non-2xx responses" not in fields, out
    p99 = next(line.split()[1] for line in out.splitlines() if line.strip().startswith("99%"))
    return float(fields["Requests per second"].split()[0]), float(p99), (processor_of_family(pid) - before) * 100


def beside_nginx(service, folder):
    job = service.submit(name="one")
    path = f"/v1/jobs/{job}"
    service.until(lambda: service.job(job)["state"] == "running")
    waiting = service.submit(name="two")
    (folder / "files/v1/jobs").mkdir(parents=True)
    body = requests.get(service.url + path, timeout=10).content
    (folder / ("files" + path)).write_bytes(body)
    folder.chmod(0o755)
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(root=folder, port=port))
    nginx = subprocess.Popen(["/usr/sbin/nginx", "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        until_open(port)
        urls = {"mulund": (service.url + path, service.process.pid), "nginx": (f"http://127.0.0.1:{port}{path}", nginx.pid),
                "mulund, a job that waits": (f"{service.url}/v1/jobs/{waiting}", service.process.pid)}
        took = {who: [] for who in urls}
        for _ in range(ROUNDS):
            for who, where in urls.items():
                took[who].append(ab(*where))
    finally:
        nginx.terminate()
        nginx.wait(10)
    for who, rounds in took.items():
        print(f"{len(body)} bytes of JSON, 16 connections, {who}: {statistics.median(r[0] for r in rounds):.0f} requests/s, "
              f"p99 {statistics.median(r[1] for r in rounds):.0f} ms, {statistics.median(r[2] for r in rounds):.0f} us of processor time each", flush=True)
    print("of nginx's requests/s, by rounds:", ", ".join(f"{m[0] / n[0]:.2f} ({waits[0] / n[0]:.2f} of one that waits)" for m, n, waits in zip(*took.values())), flush=True)


def timed(what, call, n=20):
    times = times_of(call, n)
    print(f"{what}: {BUCKETS} buckets of {POINTS} points: median {statistics.median(times):.1f} ms, best {min(times):.1f}", flush=True)


def ingested(what, command, bytes_of):
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what}: {POINTS / seconds / 1e6:.2f} million points/s, {POINTS / used / 1e6:.2f} a second of processor time, "
          f"{bytes_of() / POINTS:.1f} bytes a point", flush=True)


def size_of(folder):
    return sum(p.stat().st_size for p in pathlib.Path(folder).rglob("*") if p.is_file())


def ours(service):
    job = service.submit(name="long")
    service.until(lambda: service.job(job)["state"] == "running")
    service.kill()
    with sqlite3.connect(service.state + "/mulund.db") as db:
        attempt, = db.execute("SELECT id FROM attempt WHERE job = ?", (job,)).fetchone()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = [pathlib.Path(service.state + "/mulund.db" + end) for end in ("", "-wal")]
    before = sum(f.stat().st_size for f in files if f.exists())
    ingested("mulund's store", [BUILD / "tests/store/add_points", service.state, str(attempt), "0", str(POINTS), "x"],
             lambda: sum(f.stat().st_size for f in files if f.exists()) - before)
    service.start()
    session = requests.Session()

    def read():
        r = session.get(service.url + "/v1/series", params={"jobs": job, "names": "x", "points": BUCKETS})
        assert r.status_code == 200 and r.json()["series"][0]["points_total"] == POINTS
    timed("mulund", read)


ROWS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE point (series INTEGER, step INTEGER, time_ms INTEGER, value REAL, PRIMARY KEY (series, step)) WITHOUT ROWID")
n = int(sys.argv[2])
for first in range(0, n, 4096):
    with db:
        db.executemany("INSERT INTO point VALUES (1, ?, ?, ?)", ((i, 1000000000000 + i, i / 7) for i in range(first, min(n, first + 4096))))
"""


def rows(folder):
    file = folder / "rows.db"
    ingested("rows of SQLite", [sys.executable, "-c", ROWS, file, str(POINTS)], lambda: file.stat().st_size)
    db = sqlite3.connect(file)
    width = POINTS // BUCKETS
    timed("rows of SQLite", lambda: db.execute("SELECT step / ?, count(*), min(value), max(value), avg(value) FROM point WHERE series = 1 GROUP BY 1",
                                               (width,)).fetchall(), 5)


def prometheus(folder):
    text, blocks, port = folder / "points.txt", folder / "blocks", free_port()
    with open(text, "w") as f:
        f.write("# TYPE x gauge\n")
        f.writelines(f"x {i / 7} {(BASE_MS + i) / 1000:.3f}\n" for i in range(POINTS))
        f.write("# EOF\n")
    blocks.mkdir()
    ingested("Prometheus's blocks", ["promtool", "tsdb", "create-blocks-from", "openmetrics", text, blocks], lambda: size_of(blocks))
    (folder / "prometheus.yml").write_text("global:\n  scrape_interval: 1h\n")
    server = subprocess.Popen(["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={blocks}", f"--web.listen-address=127.0.0.1:{port}",
                               "--storage.tsdb.retention.time=100y"], stderr=subprocess.DEVNULL)
    try:
        until_open(port)
        url, session = f"http://127.0.0.1:{port}/api/v1/query_range", requests.Session()
        width = POINTS // BUCKETS / 1000
        ask = {"query": f"avg_over_time(x[{int(width * 1000)}ms])", "start": BASE_MS / 1000 + width, "end": (BASE_MS + POINTS) / 1000, "step": width}

        def read():
            r = session.get(url, params=ask).json()
            assert r["status"] == "success" and len(r["data"]["result"][0]["values"]) >= BUCKETS - 1, json.dumps(r)[:300]
        for _ in range(200):
            try:
                read()
                break
            except (IndexError, AssertionError, ValueError, KeyError):
                time.sleep(0.1)
        timed("Prometheus, the mean alone", read)
    finally:
        server.terminate()
        server.wait(30)


def main():
    print("load", os.getloadavg(), flush=True)
    service = Service([[["start"], ["flush"], ["hang"]]])
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root)
        try:
            service.start()
            beside_nginx(service, folder)
            service.close()
            service = Service([[["start"], ["flush"], ["hang"]]])
            service.start()
            ours(service)
        finally:
            service.close()
        rows(folder)
        prometheus(folder)
    print("load", os.getloadavg(), flush=True)


if __name__ == "__main__":
    main()
