#!/usr/bin/python3
"""How fast other programs' files are read and written, and in how much memory: formats.py [--build BUILD] [FOLDER]

A checkpoint of the published size (71 million parameters four times over) to flax's file and back; a job of two million points
out as event file, CSV, JSON lines and NumPy's array, and the event file read again. FOLDER needs 4 GB. Of processes, processor time is
shown beside the clock's: other programs run meanwhile."""

import argparse
import filecmp
import os
import pathlib
import sys
import tempfile
import time

from measure import processor_of

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*argv):
    """(seconds, processor seconds, peak in MiB) of a command."""
    start = time.monotonic()
    pid = os.spawnv(os.P_NOWAIT, str(argv[0]), [str(a) for a in argv])
    _, status, used = os.wait4(pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, argv))}: status {status}")
    return time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def checkpoint(build, folder):
    config = ROOT / "configs" / "cifar10-conditioned.json"
    published, flax = build / "tests/formats/test-published", build / "tests/formats/test-flax"
    ours, theirs, again = (folder / n for n in ("ours.safetensors", "theirs.flax", "again.safetensors"))
    run(published, "--make", "-", ours, config)
    for name, argv in (("export", (flax, "--export", ours, "flax", 1 << 30, theirs)), ("import", (published, "--import", theirs, again, config))):
        seconds, processor, peak = run(*argv)
        size = theirs.stat().st_size
        print(f"{name} of {size / 1e9:.2f} GB: {seconds:.1f} s, {size / processor / 1e6:.0f} MB/s of processor time, peak {peak:.0f} MiB", flush=True)
    print("the same after both:", filecmp.cmp(ours, again, shallow=False))
    for f in (ours, theirs, again):
        f.unlink()


def curves(build, folder, n=1_000_000):
    os.environ["TEST_SERVER"] = str(build / "tests/api/test_server")
    os.environ["TEST_ADD_POINTS"] = str(build / "tests/store/add_points")
    sys.path.insert(0, str(ROOT / "tests" / "api"))
    from conftest import Server  # needs TEST_SERVER
    server = Server(folder / "server")
    job = server.submit()
    server.run(job, [{"type": "scalars", "step": [0], "time_ms": [0], "columns": {"train/bpd": [1.0], "train/recon": [2.0]}}], state="succeeded")
    server.add_points(job, 1, n, ["train/bpd", "train/recon"])
    for form in ("tfevents", "csv", "ndjson", "npy"):
        before, start, size = processor_of(server.process.pid), time.monotonic(), 0
        with open(folder / form, "wb") as f:
            for piece in server.session.get(f"{server.url}/v1/jobs/{job}/export?format={form}", stream=True).iter_content(1 << 20):
                size += f.write(piece)
        seconds, processor = time.monotonic() - start, processor_of(server.process.pid) - before
        print(f"export as {form}: {2 * n / seconds / 1e6:.2f} million points/s, {2 * n / processor / 1e6:.2f} of processor time, {size / 1e6:.0f} MB",
              flush=True)
    server.close()
    size = (folder / "tfevents").stat().st_size
    _, processor, peak = run(build / "tests/formats/test-tfevents", "--bench", folder / "tfevents")
    print(f"event file read: {size / processor / 1e6:.0f} MB/s of processor time, peak {peak:.0f} MiB")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    p.add_argument("folder", nargs="?")
    a = p.parse_args()
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        (pathlib.Path(folder) / "server").mkdir()
        checkpoint(a.build.resolve(), pathlib.Path(folder))
        curves(a.build.resolve(), pathlib.Path(folder))


if __name__ == "__main__":
    main()
