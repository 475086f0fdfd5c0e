#!/usr/bin/python3
"""kernel_times.py FILE: kernels of ncu's CSV by the time that they took together."""

import collections
import csv
import sys


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        lines = [line for line in f if line.startswith('"')]
    total = collections.defaultdict(float)
    calls = collections.Counter()
    scale = {"ns": 1e-3, "nsecond": 1e-3, "us": 1, "usecond": 1, "ms": 1e3, "msecond": 1e3}
    for row in csv.DictReader(lines):
        name = row["Kernel Name"][:110]
        total[name] += float(row["Metric Value"].replace(",", "")) * scale[row["Metric Unit"]]
        calls[name] += 1
    for name, us in sorted(total.items(), key=lambda item: -item[1]):
        print(f"{us:10.1f} us {calls[name]:5} calls {us / calls[name]:8.1f} us each  {name}")
    print(f"{sum(total.values()):10.1f} us in all")


if __name__ == "__main__":
    main()
