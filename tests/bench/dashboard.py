#!/usr/bin/python3
"""What the dashboard costs in Debian's Chromium, on a real daemon: dashboard.py BUILD [MINUTES [--live]].

Medians of repeats: the first rows of 100,000 jobs, what a first visit transfers, the first curves of 20 runs of a million
points each, a zoom in them; with MINUTES, so long of live updates with 500 rows (--live: these alone): the longest task of each minute, and what the
page holds in memory after a collection. With the load of the machine, since it is part of every number.
"""
import os
import pathlib
import subprocess
import sys

BUILD = pathlib.Path(sys.argv[1]).resolve()
HERE = pathlib.Path(__file__).resolve().parent
os.environ["MULUND"] = str(BUILD / "daemon/mulund")
sys.path.insert(0, str(HERE.parent / "daemon"))

from service import Service  # noqa: E402
from states import fill, long_runs  # noqa: E402

JOBS, RUNS, POINTS, ROWS = 100_000, 20, 1_000_000, 500


def measured(script, prepare, what, *more):
    service = Service([script])
    service.web = str(BUILD / "web/site")
    try:
        service.start()
        found = prepare(service)
        subprocess.run(["node", HERE / "dashboard.mjs", BUILD / "tests/web/npm", service.url, what, *more, *([",".join(map(str, found))] if found else [])], check=True)
    finally:
        service.close()


def many(n):
    """So many jobs, of which one runs."""
    def prepare(service):
        service.submit(steps=10_000_000)
        service.wait_step(1, 1)  # its worker lives on without the daemon
        service.kill()
        fill(service, n)
        service.start()
        service.wait(1, "running")
    return prepare


def main():
    print("load", os.getloadavg(), flush=True)
    live = [["start"], ["train", 10_000_000, 0.1]]
    if "--live" not in sys.argv:
        measured(live, many(JOBS), "rows")
        measured([["start"], ["flush"], ["hang"]], lambda service: long_runs(service, BUILD, RUNS, POINTS), "curves")
    if len(sys.argv) > 2:
        measured(live, many(ROWS), "live", sys.argv[2])
    print("load", os.getloadavg(), flush=True)


if __name__ == "__main__":
    main()
