"""What the tests of mulun-worker share: attempts without a daemon, and what is in their spools."""

import json
import os
import struct
import subprocess
import sys
import zlib

import numpy
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORKER = os.environ["MULUN_WORKER"]
sys.path[:0] = [os.path.join(ROOT, "tests"), os.path.join(ROOT, "tests", "whole")]
import spool  # noqa: E402

PHOTOS = os.path.join(ROOT, "data", "photos32")
CONFIG = {"vdm_type": "vdm", "data": {"dataset": "photos32"},
          "model": {"gamma_type": "fixed", "sm_n_embd": 32, "sm_n_layer": 1, "sm_pdrop": 0.1},
          "training": {"num_steps_lr_warmup": 2, "num_steps_train": 6, "num_steps_eval": 1, "batch_size_train": 2,
                       "batch_size_eval": 2, "steps_per_logging": 2, "steps_per_eval": 4, "steps_per_save": 2},
          "evaluation": {"n_images": 50}, "sampling": {"n_images": 2, "n_steps": 2}, "machine": {"threads": 1}}

# Sanitizers make of a minute ten: what only repeats is left to the plain build (./check sets it).
LONG = pytest.mark.skipif("TEST_QUICK" in os.environ, reason="the plain build has it")


def run(*args, text="", seconds=120):
    data = text.encode() if isinstance(text, str) else text
    return subprocess.run([WORKER, *args], input=data, capture_output=True, timeout=seconds, check=False)


def png_pixels(path):
    """Of an RGB PNG of eight bits, unfiltered or not."""
    data, at, packed = path.read_bytes(), 8, b""
    width, height = struct.unpack(">II", data[16:24])
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        packed += data[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    raw, rows, before = zlib.decompress(packed), [], numpy.zeros(width * 3, int)
    for y in range(height):
        line = numpy.frombuffer(raw[y * (3 * width + 1):(y + 1) * (3 * width + 1)], numpy.uint8).astype(int)
        kind, row = line[0], line[1:].copy()
        for x in range(3 * width if kind else 0):
            left, up, corner = (row[x - 3], before[x], before[x - 3]) if x >= 3 else (0, before[x], 0)
            guess = left + up - corner
            paeth = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            row[x] = (row[x] + (0, left, up, (left + up) // 2, paeth)[kind]) % 256
        rows.append(row)
        before = row
    return numpy.array(rows, numpy.uint8).reshape(height, width, 3)


IDENTITY = "0123456789abcdef" * 2


def assignment(folder, attempt, checkpoints=(), kind="train", identity=IDENTITY, accept=False, data=PHOTOS, **config):
    c = json.loads(json.dumps(CONFIG))
    for path, value in config.items():
        group, key = path.split("__")
        c.setdefault(group, {})[key] = value
    return {"job": 1, "attempt": attempt, "kind": kind, "config": c,
            "dataset": {"name": "photos32", "path": str(data), "digest": "0" * 32}, "identity": identity, "accept_changed_data": accept,
            "folder": str(folder), "checkpoints": list(checkpoints)}


def events(folder, attempt):
    """What is in an attempt's spool so far, behind the hello; nothing where it has not been made."""
    path = os.path.join(str(folder), f"attempt-{attempt}.events")
    lines = list(spool.read(path)) if os.path.exists(path) else []
    assert all(e["type"] == "hello" and e["attempt"] == attempt for e in lines[:1])
    return lines[1:]


def checkpoints(folder, attempt):
    """Newest first, as a daemon hands them on."""
    return [{"path": os.path.join(str(folder), e["name"]), "xxh128": e["xxh128"], "step": e["step"], "identity": IDENTITY}
            for e in reversed(events(folder, attempt)) if e["type"] == "artifact" and e["kind"] == "checkpoint"]


def work(folder, *args, **kwargs):
    return run(text=json.dumps(assignment(folder, *args, **kwargs)))


def check_rates(folder, attempt, seconds, images_a_step=1):
    """What is left takes as long as the rate says; the rate is no slower than a step in all of the run."""
    seen = [e for e in events(folder, attempt) if e["type"] == "progress"]
    for e in (e for e in seen if e["images_per_second"]):
        left = (e["steps"] - e["step"]) * images_a_step / e["images_per_second"]
        assert e["step"] <= e["steps"] and e["seconds_left"] == pytest.approx(left, rel=1e-6)
        assert e["images_per_second"] * seconds >= images_a_step
    assert seen[-1]["images_per_second"]
    return seen[-1]


def check_progress(folder, attempt, seconds, images_a_step=1):
    last = check_rates(folder, attempt, seconds, images_a_step)
    assert last["step"] == last["steps"]


def scalars(folder, attempt, name):
    """[(step, value)]"""
    return [pair for e in events(folder, attempt) if e["type"] == "scalars" and name in e["columns"]
            for pair in zip(e["step"], e["columns"][name])]
