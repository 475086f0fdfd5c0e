"""What benchmarks of the service measure with."""

import os
import pathlib
import time


def times_of(call, n):
    """Milliseconds of n calls, one after the other."""
    times = []
    for _ in range(n):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    return times


def processor_of(pid):
    """Seconds of processor time of a process, all of its threads."""
    fields = stat_of(pathlib.Path(f"/proc/{pid}/stat"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processor_of_family(pid):
    """The same with the processes that it started and that still run."""
    total = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if pid in (int(stat.parent.name), int(stat_of(stat)[1])):
                total += processor_of(stat.parent.name)
        except OSError:
            pass  # it has ended
    return total


def stat_of(path):
    """The fields of proc(5) from the third on."""
    return path.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
