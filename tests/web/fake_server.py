#!/usr/bin/python3
"""A /v1 that plays: serves a folder of static files and answers in the shapes of api/README.md, for developing and
testing the dashboard without a daemon.

    fake_server.py SITE [--port 0] [--scene world|empty|many|odd] [--speed 20]

Prints the port. In `world` one job trains (its curve grows by the clock), others are over; names and logs are hostile on
purpose. `many` has 137 jobs. `odd` has the series, progress and files that are seldom. Told by POST:

    /fake/down?seconds=N           refuses everything for N seconds
    /fake/slow?path=RE&seconds=N   answers of GETs whose address matches come N seconds late; N = 0: no longer
    /fake/submit?n=N               N more jobs
    /fake/change?job=ID&KEY=TEXT   a job has another name, state or waiting
"""

import argparse
import functools
import json
import math
import os
import random
import re
import struct
import sys
import time
import zlib
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>'
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".svg": "image/svg+xml"}


def daemons_policy():
    """The Content-Security-Policy of the daemon's own source: pages are tested under what they run under."""
    with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "api", "static.c"), encoding="utf-8") as f:
        found = re.search(r'policy\[\] =((?:\s*"[^"]*")+);', f.read())
    return "".join(re.findall(r'"([^"]*)"', found[1]))


CSP = daemons_policy()


def rfc3339(t):
    return datetime.fromtimestamp(t, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@functools.cache
def png(seed, step):
    r = random.Random(seed)
    n, rows = 4 * 34 + 2, []
    noise = max(0.05, 1 - step / 500)
    tiles = [[(r.random(), r.random(), r.random()) for _ in range(2)] for _ in range(16)]
    for y in range(n):
        row = bytearray()
        for x in range(n):
            tx, ty, px, py = x // 34, y // 34, x % 34 - 2, y % 34 - 2
            if tx > 3 or ty > 3 or px < 0 or py < 0:
                row += b"\x10\x10\x18"
                continue
            a, b = tiles[4 * ty + tx]
            t = (px + py) / 62
            for c in range(3):
                v = (a[c] * (1 - t) + b[c] * t) * (1 - noise) + r.random() * noise
                row.append(int(255 * min(1, max(0, v))))
        rows.append(b"\0" + bytes(row))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", n, n, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(b"".join(rows), 6)) + chunk(b"IEND", b""))


CONFIG = {"vdm_type": "mulan_velocity", "data": {"dataset": "photos32"},
          "model": {"unet_type": "vdm", "with_fourier_features": True, "encoder": "unet", "forward_n_layer": 1, "latent_type": "topk",
                    "latent_size": 50, "latent_k": 15, "gamma_type": "poly_fixedend", "gamma_min": -13.3, "gamma_max": 5.0,
                    "sm_n_embd": 64, "sm_n_layer": 1, "sm_pdrop": 0.0},
          "training": {"seed": 1, "num_steps_train": 2000, "batch_size_train": 8, "steps_per_logging": 1},
          "optimizer": {"name": "adamw", "learning_rate": 0.002, "ema_rate": 0.99, "gradient_clip_norm": None}}


class Points:
    """A series: (step, value) in order."""
    def __init__(self, points):
        self.points = list(points)
        self.total, self.last_step = len(self.points), self.points[-1][0]

    def within(self, first, last):
        return [(s, v) for s, v in self.points if first <= s <= last]

    def buckets(self, first, last, n):
        points, width = self.within(first, last), 1
        while points and points[-1][0] // width - points[0][0] // width + 1 > n:
            width *= 2
        groups = {}
        for s, v in points:
            groups.setdefault(s // width, []).append((s, v))
        return width, [(g[-1][0], [v for _, v in g]) for g in groups.values()]

    def ends(self):
        return self.points[0][1], self.points[-1][1]


class Million:
    """A million points of 5, but for one of 50."""
    total, last_step, SPIKE = 1000000, 999999, 654321

    def buckets(self, first, last, n):
        last, width = min(last, self.last_step), 1
        while last // width - first // width + 1 > n:
            width *= 2
        edges = [max(first, k * width) for k in range(first // width, last // width + 1)] + [last + 1]
        return width, [(b - 1, [50.0 if a <= self.SPIKE < b else 5.0] + [5.0] * (b - a - 1)) for a, b in zip(edges, edges[1:])]

    def ends(self):
        return 5.0, 5.0


def noise(seed, n):
    r = random.Random(seed)
    return [5 + r.gauss(0, 0.2) for _ in range(n)]


def odd_jobs():
    """[(kind, name, state, step, more)]; more: members that are not as usual, `series`, `files`."""
    def train(name, series, **more):
        return ("train", name, "succeeded", 2000, dict(more, series=series))
    wave = Points((s, math.sin(s / 7)) for s in range(0, 400))
    resumed = [(s, v) for s, v in enumerate(noise(1, 1000)) if not 400 < s < 700]
    return [
        train("a million", {"train/bpd": Million(), "train/learning_rate": Points((s, 0.001) for s in range(0, 2000, 10))}),
        train("one point", {"train/bpd": Points([(7, 5.5)])}),
        train("holes", {"train/bpd": Points((s, v if s % 3 == 1 else math.nan) for s, v in enumerate(noise(2, 30)))}),
        train("resumed", {"train/bpd": Points(resumed), "eval/bpd": Points((s, 5.0) for s in range(100, 1000, 100) if not 400 < s < 700)}),
        train("a wave", {"train/wave": wave, "train/never": Points((s, -1.0 - s) for s in range(0, 400))}),
        ("sample", "sixteen images", "succeeded", 0, {"progress": (320, 320), "config": {"sampling": {"n_images": 16, "n_steps": 20}}}),
        ("evaluate", "one image", "succeeded", 0, {"progress": (1, 1), "result": {"bpd": 6.5, "standard_error": "NaN", "images": 1}}),
        ("train", "for a device", "queued", 0, {"waiting": {"reason": "retry", "detail": "its worker was lost on gpu-1; tried again in 40 s <b>"}}),
        train("seventy-eight files", {"train/bpd": Points(enumerate(noise(3, 40)))}, files=78),
        ("train", "a long way", "running", 0, {"progress": (1234567, 12000000), "left": 8.3e5}),
        ("evaluate", "of training images", "succeeded", 0, {"progress": (8, 8), "result": {"bpd": 6.25, "standard_error": 0.1, "split": "train"}}),
        train("evaluations", {"eval/bpd": Points((100 * i, v) for i, v in enumerate(noise(4, 40)))}),
        ("import", "flowers", "succeeded", 0, {"progress": (3000, 3000), "import": {"what": "dataset", "name": "flowers", "path": "/data/<b>flowers", "test_share": 0.1},
                                               "result": {"what": "dataset", "dataset": "flowers", "source": "folder", "train": 2700, "test": 300, "resized": 3000,
                                                          "digest": "00112233445566778899aabbccddeeff", "mean": [1.5, 2.5, 3.5]}}),
        ("import", "more", "running", 0, {"progress": (64, 0), "import": {"what": "dataset", "name": "more", "path": "/data/more"}}),
        ("import", "their logs", "succeeded", 0, {"progress": (4096, 4096), "import": {"what": "events", "path": "/data/logs"},
                                                  "series": {"train_bpd": Points((i, v) for i, v in enumerate(noise(4, 40)))},
                                                  "result": {"what": "events", "files": 1, "points": 40, "images": 0, "left_over": 2, "cut": False}}),
        train("five thousand series", {f"train/layer {i}": Points([(0, i), (1, i + 1)]) for i in range(4999)} | {"train/bpd": Points(enumerate(noise(5, 40)))}),
    ]


class World:
    def __init__(self, scene, speed):
        self.start, self.speed = time.time(), speed
        self.down_until = 0
        self.slow = {}  # regular expression -> seconds
        self.jobs = []
        if scene == "many":
            self.submit(137)
        if scene == "odd":
            for i, (kind, name, state, step, more) in enumerate(odd_jobs()):
                self.jobs.append(dict(id=i + 1, kind=kind, name=name, state=state, at=step, made=self.start - 86400 + 60 * i, **more))
        if scene != "world":
            return
        rows = [("train", "first light", "succeeded", 2000), ("evaluate", "", "succeeded", 0), ("train", HOSTILE, "failed", 700),
                ("sample", "a look at it", "succeeded", 0), ("train", "width 128, three layers", "cancelled", 900),
                ("train", "a night on two cores", "queued", 0), ("train", "live & <b>kicking</b>", "running", 0)]
        for i, (kind, name, state, step) in enumerate(rows):
            self.jobs.append(dict(id=i + 1, kind=kind, name=name, state=state, at=step, made=self.start - 86400 + 7200 * i))

    def submit(self, n):
        for _ in range(n):
            i = len(self.jobs) + 1
            self.jobs.append(dict(id=i, kind="train", name=f"run {i}", state="succeeded" if i % 40 else "queued", at=50 if i % 40 else 0,
                                  made=self.start - 86400 + 60 * i))

    def step(self, j):
        if j["state"] == "running":
            return min(2000, 200 + int((time.time() - self.start) * self.speed))
        return j["at"]

    def view(self, j):
        steps, step = 2000 if j["kind"] == "train" else 10, self.step(j)
        state = j["state"]
        if j["kind"] != "train":
            step = steps
        if "progress" in j:
            step, steps = j["progress"]
        final = state in ("succeeded", "failed", "cancelled")
        error = None
        result = j.get("result")
        if j["kind"] == "evaluate" and not result:
            result = {"bpd": 6.981, "standard_error": 0.024, "parts": {"recon": 0.012, "latent": 0.021, "diff": 6.948},
                      "method": "sparse", "dataset": "photos32", "dataset_digest": "00112233445566778899aabbccddeeff", "split": "test",
                      "images": 1228, "weights": "ema", "step": 2000, "seconds": 32.5}
        if state == "failed":
            error = {"class": "numeric", "detail": "the loss is not finite " + HOSTILE, "step": 700}
        return {"id": j["id"], "kind": j["kind"], "name": j["name"], "tags": ["try", "<i>t</i>"] if j["id"] % 2 else [], "state": state,
                "created": rfc3339(j["made"]), "started": None if state == "queued" else rfc3339(j["made"] + 5),
                "ended": rfc3339(j["made"] + 900) if final else None, "attempts": 0 if state == "queued" else 1,
                "progress": {"step": step, "steps": steps, "images_per_second": 11.5 if state == "running" else None,
                             "seconds_left": j.get("left", (2000 - step) / self.speed) if state == "running" else None},
                "config": None if "import" in j else CONFIG | j.get("config", {}), "import": j.get("import"),
                "config_name": None if "import" in j else "photos32-tiny", "cancel_requested": False, "waiting": j.get("waiting"),
                "checkpoint": None if j["kind"] in ("train", "import") else {"job": 1, "step": 2000}, "result": result, "error": error,
                "links": {k: f"v1/jobs/{j['id']}/{k}" for k in ("log", "series", "artifacts")}}

    @functools.cache  # a point is what it was, and is asked for again and again
    def value(self, job, name, step):
        r = random.Random(f"{job}{name}{step}")
        base = 6.3 + 4.5 * math.exp(-step / 140) + 0.6 * math.exp(-step / 900)
        if name == "train/bpd":
            return math.nan if job == 3 and step >= 690 else base + r.gauss(0, 0.12) + (1.5 if r.random() < 0.002 else 0)
        if name == "eval/bpd":
            return base + 0.1 + r.gauss(0, 0.02)
        return {"train/recon": 0.01 + r.gauss(0, 0.0005), "train/latent": 0.02 + r.random() * 0.01, "train/diff": base - 0.03 + r.gauss(0, 0.12),
                "train/images_per_second": 11.5 + r.gauss(0, 0.2), "train/learning_rate": 0.002 * min(1, step / 50) * (1 - step / 2000)}[name]

    NAMES = ("train/bpd", "train/recon", "train/latent", "train/diff", "train/images_per_second", "train/learning_rate", "eval/bpd")

    def series_of(self, j):
        """{name: Points}, as they are now."""
        if "series" in j or j["kind"] != "train" or not self.step(j):
            return j.get("series", {})
        steps = {name: range(100, self.step(j) + 1, 100) if name == "eval/bpd" else range(0, self.step(j)) for name in self.NAMES}
        return {name: Points((x, self.value(j["id"], name, x)) for x in r) for name, r in steps.items() if len(r)}


def clean(v):
    return v if math.isfinite(v) else ("NaN" if math.isnan(v) else "Infinity" if v > 0 else "-Infinity")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body, kind="application/json", more=()):
        if not isinstance(body, bytes):
            body = json.dumps(body, allow_nan=False).encode()
        self.send_response(status)
        for k, v in (("Content-Type", kind), ("Content-Length", len(body)), ("Content-Security-Policy", CSP),
                     ("X-Content-Type-Options", "nosniff"), *more):
            self.send_header(k, str(v))
        self.end_headers()
        self.wfile.write(body)

    def problem(self, status, title, detail=""):
        self.send(status, {"type": "problems/x", "title": title, "status": status, "detail": detail}, "application/problem+json")

    def down(self):
        if time.time() < self.server.world.down_until:
            self.close_connection = True
            self.connection.close()
            return True
        return False

    def job(self, text):
        return next((j for j in self.server.world.jobs if j["id"] == int(text)), None)

    def do_POST(self):
        w, url = self.server.world, urlsplit(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path == "/fake/down":
            w.down_until = time.time() + float(parse_qs(url.query)["seconds"][0])
            return self.send(200, {})
        q = {k: v[0] for k, v in parse_qs(url.query).items()}
        if url.path == "/fake/slow":
            w.slow[q["path"]] = float(q["seconds"])
            return self.send(200, {})
        if url.path == "/fake/submit":
            w.submit(int(q["n"]))
            return self.send(200, {})
        if url.path == "/fake/change":
            self.job(q.pop("job")).update(q)
            return self.send(200, {})
        m = re.fullmatch(r"/v1/jobs/(\d+)/(cancel|resume)", url.path)
        j = m and self.job(m[1])
        if not j:
            return self.problem(404, "Not found")
        final = j["state"] in ("succeeded", "failed", "cancelled")
        if (m[2] == "cancel") == final:
            return self.problem(409, "The job's state does not allow that", j["state"])
        if m[2] == "cancel":
            j.update(at=w.step(j), state="cancelled")
        else:
            j.update(state="queued")
        return self.send(200, w.view(j))

    def do_DELETE(self):
        w = self.server.world
        j = self.job(self.path.rsplit("/", 1)[1])
        if not j:
            return self.problem(404, "Not found")
        w.jobs.remove(j)
        self.send(204, b"")

    def do_GET(self):
        if self.down():
            return
        w, url = self.server.world, urlsplit(self.path)
        q = {k: v[0] for k, v in parse_qs(url.query).items()}
        if url.path == "/healthz":
            return self.send(200, {"status": "ok"})
        time.sleep(max([seconds for path, seconds in w.slow.items() if re.search(path, self.path)], default=0))
        if url.path == "/v1/events":
            return self.stream(w)
        if url.path == "/v1/jobs":
            rows = [j for j in reversed(w.jobs) if q.get("state") in (None, j["state"]) and q.get("text", "").lower() in j["name"].lower()]
            if "checkpoint_job" in q:
                rows = [j for j in rows if (w.view(j)["checkpoint"] or {}).get("job") == int(q["checkpoint_job"])]
            rows, limit = [j for j in rows if j["id"] < int(q.get("cursor", len(w.jobs) + 1))], int(q.get("limit", 50))
            return self.send(200, {"jobs": [w.view(j) for j in rows[:limit]], "next": str(rows[limit - 1]["id"]) if len(rows) > limit else None})
        if url.path == "/v1/series":
            return self.series(w, q)
        m = re.fullmatch(r"/v1/jobs/(\d+)(?:/(log|series|artifacts|events|attempts))?", url.path)
        if m:
            j = self.job(m[1])
            if not j:
                return self.problem(404, "There is no such job")
            if m[2] is None:
                return self.send(200, w.view(j))
            if m[2] == "log":
                return self.log(w, j)
            if m[2] == "events":
                return self.send(200, {"events": [{"id": 1, "time": rfc3339(j["made"]), "from": None, "to": "queued", "trigger": "submit", "detail": None}] if "after" not in q or q["after"] == "0" else [], "next": None})
            if m[2] == "attempts":
                return self.send(200, {"attempts": []})
            if m[2] == "artifacts":
                return self.send(200, {"artifacts": self.artifacts(w, j)})
            rows = []
            for name, s in w.series_of(j).items():
                v = s.ends()
                rows.append({"name": name, "points": s.total, "last_step": s.last_step, "last": clean(v[-1]), "min": clean(min(v)), "max": clean(max(v))})
            if j["id"] == 3:
                rows.append({"name": "train/" + HOSTILE, "points": 0, "last_step": 0, "last": None, "min": None, "max": None})
            return self.send(200, {"series": rows})
        if url.path == "/v1/session":
            return self.send(200, {"role": "admin", "token": None, "user": None, "session": False})
        if url.path == "/v1/datasets":
            return self.send(200, {"datasets": []})
        if url.path == "/v1/configs/schema":
            return self.send(200, {"type": "object", "properties": {}})
        if url.path == "/v1/configs/photos32-tiny":
            return self.send(200, {"name": "photos32-tiny", "config": CONFIG})
        m = re.fullmatch(r"/v1/artifacts/(\d+)", url.path)
        if m:
            return self.send(200, png(int(m[1]) // 1000, int(m[1]) % 1000), "image/png")
        if url.path.startswith("/v1"):
            return self.problem(404, "Not found")
        path = os.path.normpath(os.path.join(self.server.site, url.path.lstrip("/") or "index.html"))
        if not path.startswith(self.server.site + os.sep) or not os.path.isfile(path):
            return self.problem(404, "Not found")
        with open(path, "rb") as f:
            self.send(200, f.read(), TYPES.get(os.path.splitext(path)[1], "application/octet-stream"))

    def stream(self, w):
        """What happens: progress while a job runs, and that jobs are not as they were."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        known = None
        while not self.down():
            now = json.dumps([[j["id"], j["name"], j["state"], j.get("waiting")] for j in w.jobs])
            said = "event: job\ndata: {}\n\n" if known not in (None, now) else ":\n\n" if known else "id: 0\nevent: ready\ndata: {}\n\n"
            said += "".join(f'event: progress\ndata: {{"job": {j["id"]}}}\n\n' for j in w.jobs if j["state"] == "running" and w.step(j) < 2000)
            known = now
            self.wfile.write(said.encode())
            time.sleep(0.2)

    def artifacts(self, w, j):
        out = []
        if j["kind"] in ("train", "sample"):
            for s in range(100, min(1000, w.step(j) + 1) if j["kind"] == "train" else 101, 100):
                out.append({"id": 1000 * j["id"] + s, "kind": "image", "step": s, "name": f"samples-{s}.png", "bytes": 51234,
                            "xxh128": "a1b2c3d4e5f60718293a4b5c6d7e8f90", "created": rfc3339(j["made"] + s)})
        for i in range(j.get("files", 0)):
            out.append({"id": 800000 + i, "kind": "table", "step": i, "name": f"bpd-{i}.csv", "bytes": 4321, "xxh128": "00ff00ff00ff00ff00ff00ff00ff00ff",
                        "created": rfc3339(j["made"] + i)})
        if j["kind"] == "train" and w.step(j) >= 100:
            s = w.step(j) // 100 * 100
            out.append({"id": 900000 + j["id"], "kind": "checkpoint", "step": s, "name": f"step-{s}.safetensors", "bytes": 612345678,
                        "xxh128": "00ff00ff00ff00ff00ff00ff00ff00ff", "created": rfc3339(j["made"] + s)})
        return out[::-1]

    def log(self, w, j):
        if j["state"] == "queued":
            return self.send(200, b"", "text/plain; charset=utf-8", [("X-Log-Size", 0), ("X-Log-Next-Offset", 0)])
        lines = ["mulun-worker 0.1.0, backend cpu, 2 threads", "photos32: 4,200 + 1,228 images", HOSTILE]
        lines += [f"step {s}: bpd {w.value(j['id'], 'train/bpd', s):.3f}" for s in range(0, w.step(j), 50)]
        body = ("\n".join(lines) + "\n").encode()
        q = {k: int(v[0]) for k, v in parse_qs(urlsplit(self.path).query).items()}
        first = min(q.get("offset", 0), len(body))
        if "tail" in q:
            first = len(body) - len(b"".join(body.splitlines(True)[-q["tail"]:]))
        self.send(200, body[first:], "text/plain; charset=utf-8", [("X-Log-Size", len(body)), ("X-Log-Next-Offset", len(body))])

    def series(self, w, q):
        out = []
        for text in q["jobs"].split(","):
            j = self.job(text)
            for name in q["names"].split(","):
                found = w.series_of(j).get(name) if j else None
                if not found:
                    continue
                width, buckets = found.buckets(int(q.get("from", 0)), int(q.get("to", 1 << 53)), int(q.get("points", 1000)))
                row = {"job": j["id"], "name": name, "points_total": found.total, "bucket_width": width, "step": [], "time_ms": [],
                       "count": [], "min": [], "max": [], "mean": [], "last": [], "nan": []}
                for step, values in buckets:
                    fin = [v for v in values if math.isfinite(v)]
                    row["step"].append(step)
                    row["time_ms"].append(int(1000 * j["made"]) + 87 * step)
                    row["count"].append(len(values))
                    row["min"].append(min(fin) if fin else "NaN")
                    row["max"].append(max(fin) if fin else "NaN")
                    row["mean"].append(sum(fin) / len(fin) if fin else "NaN")
                    row["last"].append(clean(values[-1]))
                    row["nan"].append(sum(math.isnan(v) for v in values))
                out.append(row)
        self.send(200, {"series": out})


def main():
    a = argparse.ArgumentParser()
    a.add_argument("site")
    a.add_argument("--port", type=int, default=0)
    a.add_argument("--scene", choices=("world", "empty", "many", "odd"), default="world")
    a.add_argument("--speed", type=float, default=20, help="steps a second of the running job")
    a = a.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", a.port), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a browser that went away
    server.site, server.world = os.path.realpath(a.site), World(a.scene, a.speed)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
