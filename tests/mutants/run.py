#!/usr/bin/python3
"""Plants the faults of faults.py one at a time in a copy of the tree and runs the tests that should see each.

A fault counts as found when a test that passes without it fails, crashes or runs out of time: the line says which. The exit
status is 1 when fewer than 95 % are found, or when a row no longer fits the tree or does not build (warnings are none here).

The copy (one a job, in build-mutants/ unless --folder names another place) holds what git tracks and what is new, with a build folder of its own that is kept: a second
run builds little. Tests run as meson has them, with its environment, but on their own."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import faults

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 95  # % found
SETUP = ["--buildtype=release", "-Dweb=false", "-Dbench=false", "-Dwerror=false"]
NO_BUILD = "the build fails"


def command(argv, cwd, limit=None, env=None):
    """(status, output); status is a number, or "time" past the limit, with all that the command started killed."""
    with subprocess.Popen(argv, cwd=cwd, env=env, text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as p:
        try:
            output = p.communicate(timeout=limit)[0]
            return p.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            return "time", p.communicate()[0]


def files_of_tree():
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    return {f for f in listed.stdout.decode().split("\0") if f and (ROOT / f).is_file()}


class Copy:
    """A copy of the tree with its build folder; one thread's."""

    def __init__(self, folder, limit):
        self.root, self.build, self.limit = folder / "tree", folder / "tree" / "build", limit
        shared = folder / "shared"
        if (ROOT.parent / "shared").exists() and not shared.exists():
            shared.parent.mkdir(parents=True, exist_ok=True)
            shared.symlink_to(ROOT.parent / "shared")
        self.update()
        if not (self.build / "build.ninja").exists():
            self.must(["meson", "setup", str(self.build)] + SETUP)
        self.must(["ninja", "-C", str(self.build), "build.ninja"])
        targets = {t["id"]: t for t in self.introspect("--targets")}
        self.tests = {}
        for t in self.introspect("--tests"):
            built = [os.path.relpath(f, self.build) for d in t["depends"] for f in targets[d]["filename"]]
            self.tests[t["suite"][0].split(":")[-1] + ":" + t["name"]] = {**t, "built": built}

    def update(self):
        """What differs is copied, so that what is equal keeps its time and is not built again."""
        files, old = files_of_tree(), self.root / "files.json"
        for f in files:
            data, to = (ROOT / f).read_bytes(), self.root / f
            if not to.is_file() or to.read_bytes() != data:
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(data)
                shutil.copymode(ROOT / f, to)
        for f in set(json.loads(old.read_text()) if old.exists() else []) - files:
            (self.root / f).unlink(missing_ok=True)
        old.write_text(json.dumps(sorted(files)))

    def must(self, argv):
        status, output = command(argv, self.root)
        if status != 0:
            raise RuntimeError(f"{' '.join(argv)}: status {status}\n{output}")

    def introspect(self, what):
        return json.loads(subprocess.run(["meson", "introspect", what, str(self.build)], check=True, capture_output=True).stdout)

    def run(self, test):
        """None where the test passes, else how it fails. TEST is suite:name or suite:name#filter."""
        name, _, wanted = test.partition("#")
        t = self.tests.get(name)
        if not t:
            raise RuntimeError(f"there is no test {name}")
        argv = t["cmd"] + ((["-k", wanted] if any("pytest" in a for a in t["cmd"]) else [wanted]) if wanted else [])
        if command(["ninja", "-C", str(self.build)] + t["built"], self.root)[0] != 0:
            return NO_BUILD
        status, _output = command(argv, t["workdir"] or self.build, min(self.limit, t["timeout"]), {**os.environ, **t["env"]})
        if status == "time":
            return f"{test} runs out of time"
        if status == 77 or (wanted and status == 5):
            return f"{test} is skipped"
        return None if status == 0 else f"{test} crashes (signal {-status})" if status < 0 else test

    def plant(self, fault):
        """The file's text without the fault; None where it does not fit."""
        path = self.root / fault.file
        text = path.read_text() if path.is_file() else ""
        if text.count(fault.old) != 1:
            return None
        path.write_text(text.replace(fault.old, fault.new))
        return text


class Results:
    def __init__(self, n):
        self.lock, self.n, self.found, self.missed, self.wrong, self.sound = threading.Lock(), n, [], [], [], {}

    def say(self, fault, what, seconds, to):
        with self.lock:
            to.append(fault)
            done = len(self.found) + len(self.missed) + len(self.wrong)
            print(f"[{done}/{self.n}] {fault.name}: {what} ({seconds:.0f} s)", flush=True)

    def is_sound(self, copy, test):
        """Whether the test passes without a fault, which is asked once."""
        with self.lock:
            known = self.sound.get(test)
        if known is None:
            known = copy.run(test) or ""
            with self.lock:
                self.sound[test] = known
        return known


def try_fault(copy, fault, results):
    start = time.monotonic()
    broken = [b for b in (results.is_sound(copy, t) for t in fault.tests) if b]
    text = None if broken else copy.plant(fault)
    if text is None:
        results.say(fault, f"WITHOUT THE FAULT {broken[0]}" if broken else f"STALE: {fault.file} has not its text once",
                    time.monotonic() - start, results.wrong)
        return
    try:
        seen = next((s for s in map(copy.run, fault.tests) if s), None)
    finally:
        (copy.root / fault.file).write_text(text)
    if seen == NO_BUILD:
        results.say(fault, "DOES NOT BUILD", time.monotonic() - start, results.wrong)
        return
    results.say(fault, f"found: {seen}" if seen else "NOT FOUND by " + " ".join(fault.tests), time.monotonic() - start,
                results.found if seen else results.missed)


def work(folder, limit, rows, results):
    copy = Copy(folder, limit)
    while True:
        with results.lock:
            if not rows:
                return
            fault = rows.pop(0)
        try_fault(copy, fault, results)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("pattern", nargs="?", default="", help="a regular expression: only rows whose name or file it finds")
    p.add_argument("--jobs", type=int, default=1, help="copies that work side by side")
    p.add_argument("--limit", type=float, default=240, help="seconds that a test may take")
    p.add_argument("--folder", type=Path, default=ROOT / "build-mutants", help="where the copies are; one run's at a time")
    args = p.parse_args()

    chosen = [f for f in faults.FAULTS if re.search(args.pattern, f"{f.name} {f.file}")]
    for f in (f for f in chosen if f.equivalent):
        print(f"not counted: {f.name}: {f.equivalent}")
    rows = [f for f in chosen if not f.equivalent]
    results, queue = Results(len(rows)), list(rows)
    threads = [threading.Thread(target=work, args=(args.folder.absolute() / str(i), args.limit, queue, results))
               for i in range(args.jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()

    for f in results.missed + results.wrong:
        print(f"not found: {f.name} ({f.file})")
    n = len(results.found)
    percent = 100 * n / len(rows) if rows else 0
    print(f"score: {n} of {len(rows)} found ({percent:.0f} %)")
    return 0 if rows and percent >= ENOUGH and not results.wrong and n + len(results.missed) == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
