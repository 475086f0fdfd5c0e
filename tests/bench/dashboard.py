#!/usr/bin/python3
"""What the dashboard costs in Debian's Chromium, on a real daemon: dashboard.py BUILD [MINUTES [--live]] [--beside SITE].

Medians of repeats: the first rows of 100,000 jobs, as they are and sorted, what a first visit transfers, the first curves of 20 runs of a million
points each, a zoom in them; with MINUTES, so long of live updates with 500 rows (--live: these alone): the longest task of each minute, and what the
page holds in memory after a collection. With the load of the machine, since it is part of every number. SITE: what another
build left in web/site; its pages are visited in turns with these, so that both have the same load.
"""
import os
import pathlib
import shutil
import subprocess
import sys

ARGUMENTS = sys.argv[1:]
BESIDE = ARGUMENTS.pop(ARGUMENTS.index("--beside") + 1) if "--beside" in ARGUMENTS else None
MINUTES = [a for a in ARGUMENTS[1:] if a.isdigit()]
BUILD = pathlib.Path(ARGUMENTS[0]).resolve()
HERE = pathlib.Path(__file__).resolve().parent
os.environ["MULUND"] = str(BUILD / "daemon/mulund")
sys.path.insert(0, str(HERE.parent / "daemon"))

from service import Service  # noqa: E402
from states import fill, long_runs  # noqa: E402

JOBS, RUNS, POINTS, ROWS = 100_000, 20, 1_000_000, 500


def site(folder):
    """What is served: the build's site, and the other's as beside.html, whose files have names of their own, by their digests."""
    shutil.copytree(BUILD / "web/site", folder, dirs_exist_ok=True)
    if BESIDE:
        shutil.copytree(pathlib.Path(BESIDE) / "assets", folder + "/assets", dirs_exist_ok=True)
        shutil.copy(pathlib.Path(BESIDE) / "index.html", folder + "/beside.html")


def measured(script, prepare, what, *more):
    service = Service([script])
    site(service.web)
    try:
        service.start()
        found = prepare(service)
        subprocess.run(["node", HERE / "dashboard.mjs", BUILD / "tests/web/npm", service.url, what, *more, *([",".join(map(str, found))] if found else [])],
                       check=True, env={**os.environ, "SITES": "index.html beside.html" if BESIDE else "index.html"})
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
    if "--live" not in ARGUMENTS:
        measured(live, many(JOBS), "rows")
        measured([["start"], ["flush"], ["hang"]], lambda service: long_runs(service, BUILD, RUNS, POINTS), "curves")
    if MINUTES:
        measured(live, many(ROWS), "live", MINUTES[0])
    print("load", os.getloadavg(), flush=True)


if __name__ == "__main__":
    main()
