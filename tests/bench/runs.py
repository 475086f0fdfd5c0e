"""Jobs of mulun-worker without a daemon, for benchmarks: an assignment in, its artifacts, series and result out."""

import json
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import spool  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(HERE))
DATA = os.path.join(ROOT, "data", "photos32")
IDENTITY = "0123456789abcdef" * 2


def config(name, **sections):
    """A configuration of configs/, with some keys of some sections set otherwise."""
    with open(os.path.join(ROOT, "configs", f"{name}.json"), encoding="utf-8") as f:
        c = json.load(f)
    for section, keys in sections.items():
        if isinstance(keys, dict):
            c.setdefault(section, {}).update(keys)
        else:
            c[section] = keys
    return c


class Worker:
    """Attempts, each in a folder of its own under `folder`, on photos32."""

    def __init__(self, program, folder):
        self.program, self.folder, self.attempts = program, folder, 0

    def run(self, kind, c, checkpoints=()):
        """The checkpoints that it saved, its other artifacts' paths, its result and its seconds."""
        self.attempts += 1
        folder = os.path.join(self.folder, str(self.attempts))
        os.mkdir(folder)
        assignment = {"job": 1, "attempt": 1, "kind": kind, "config": c, "dataset": {"name": "photos32", "path": DATA, "digest": "0" * 32},
                      "identity": IDENTITY, "accept_changed_data": False, "folder": folder, "checkpoints": list(checkpoints)}
        start = time.perf_counter()
        r = subprocess.run([self.program], input=json.dumps(assignment).encode(), capture_output=True, check=False)
        seconds = time.perf_counter() - start
        if r.returncode:
            sys.exit(r.stderr.decode())
        events = spool.read(f"{folder}/attempt-1.events")
        saved = [{"path": f"{folder}/{e['name']}", "xxh128": e["xxh128"], "step": e["step"], "identity": IDENTITY}
                 for e in events if e["type"] == "artifact" and e["kind"] == "checkpoint"]
        others = [f"{folder}/{e['name']}" for e in events if e["type"] == "artifact" and e["kind"] != "checkpoint"]
        return saved, others, events[-1].get("result"), seconds


def per_image(artifacts):
    """Bits of every image, from the table among an evaluation's artifacts."""
    table = [path for path in artifacts if path.endswith("bpd-per-image.csv")][0]
    with open(table, encoding="utf-8") as f:
        return [float(line.split(",")[1]) for line in f.readlines()[1:]]


def keep(base, c, checkpoint):
    """Leaves BASE.safetensors and BASE.json, which says of what configuration and step it is."""
    shutil.copy(checkpoint["path"], base + ".safetensors.part")
    with open(base + ".json", "w", encoding="utf-8") as f:
        json.dump({"config": c, "step": checkpoint["step"], "xxh128": checkpoint["xxh128"]}, f, indent=1)
    os.replace(base + ".safetensors.part", base + ".safetensors")


def kept(base):
    """What keep left: the configuration and the checkpoint."""
    with open(base + ".json", encoding="utf-8") as f:
        k = json.load(f)
    return k["config"], {"path": os.path.abspath(base + ".safetensors"), "step": k["step"], "xxh128": k["xxh128"], "identity": IDENTITY}
