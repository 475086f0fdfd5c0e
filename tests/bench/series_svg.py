#!/usr/bin/python3
"""Writes a run's curves as CSV and as an SVG picture, from /v1 alone.

    series_svg.py ADDRESS JOB OUT [--title TEXT] [--line NAME=VALUE ...]     -> OUT.csv, OUT.svg
"""

import argparse
import csv
import json
import math
import sys
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

W, H, LEFT, RIGHT, TOP, BOTTOM = 900, 420, 60, 20, 46, 44
COLOURS = {"train/bpd": "#5b5bd6", "eval/bpd": "#e5484d"}


def get(address, path, **query):
    url = f"{address}/{path}" + ("?" + urllib.parse.urlencode(query) if query else "")
    with urllib.request.urlopen(url, timeout=60) as r:
        return json.load(r)


def number(v):
    return float(v) if v is not None else math.nan


def nice(lo, hi, n):
    rough = (hi - lo) / n
    power = 10 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough)
    k = math.ceil(lo / step)
    while k * step <= hi + 1e-9:
        yield k * step
        k += 1


def svg(series, title, lines):
    points = {s["name"]: [(x, number(y)) for x, y in zip(s["step"], s["mean"]) if math.isfinite(number(y))] for s in series}
    points = {k: v for k, v in points.items() if v}
    last = max(p[-1][0] for p in points.values())
    values = [y for p in points.values() for x, y in p if x >= last / 50]
    values += [v for _, v in lines]
    lo, hi = min(values), max(values)
    lo, hi = lo - 0.05 * (hi - lo), hi + 0.05 * (hi - lo)

    def at(x, y):
        return (LEFT + (W - LEFT - RIGHT) * x / max(1, last), TOP + (H - TOP - BOTTOM) * (1 - (min(y, hi) - lo) / (hi - lo)))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="system-ui, sans-serif" font-size="12" fill="#555">',
           f'<rect width="{W}" height="{H}" fill="#fff"/>', f'<text x="{LEFT}" y="22" font-size="15" fill="#111">{escape(title)}</text>']
    for y in nice(lo, hi, 6):
        _, py = at(0, y)
        out.append(f'<path d="M{LEFT} {py:.1f}H{W - RIGHT}" stroke="#e8e8ee"/><text x="{LEFT - 8}" y="{py + 4:.1f}" text-anchor="end">{y:.4g}</text>')
    for x in nice(0, last, 8):
        px, _ = at(x, lo)
        out.append(f'<text x="{px:.1f}" y="{H - BOTTOM + 18}" text-anchor="middle">{x:,.0f}</text>')
    out.append(f'<text x="{(LEFT + W - RIGHT) / 2}" y="{H - 6}" text-anchor="middle">step</text>')
    for name, v in lines:
        _, py = at(0, v)
        out.append(f'<path d="M{LEFT} {py:.1f}H{W - RIGHT}" stroke="#999" stroke-dasharray="5 4"/>'
                   f'<text x="{W - RIGHT}" y="{py - 5:.1f}" text-anchor="end">{escape(name)} {v:.3f}</text>')
    for i, (name, p) in enumerate(points.items()):
        colour = COLOURS.get(name, "#12a594")
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in p)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>')
        out.append(f'<text x="{LEFT + 150 * i}" y="39" fill="{colour}">{escape(name)}, last {p[-1][1]:.3f}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    a = argparse.ArgumentParser()
    a.add_argument("address")
    a.add_argument("job", type=int)
    a.add_argument("out")
    a.add_argument("--title", default="Bits per dimension")
    a.add_argument("--line", action="append", default=[], help="NAME=VALUE, a level to compare with")
    a = a.parse_args()
    rows = get(a.address, f"v1/jobs/{a.job}/series")["series"]
    names = [r["name"] for r in rows if r["name"] in COLOURS]
    if not names:
        sys.exit(f"job {a.job} has no {' or '.join(COLOURS)}")
    series = get(a.address, "v1/series", jobs=a.job, names=",".join(names), points=2000)["series"]
    with open(a.out + ".csv", "w", newline="", encoding="utf-8") as f:
        w = csv.writer(f)
        w.writerow(["series", "step", "time_ms", "count", "min", "mean", "max", "last"])
        for s in series:
            w.writerows([s["name"], *row] for row in zip(*(s[k] for k in ("step", "time_ms", "count", "min", "mean", "max", "last"))))
    with open(a.out + ".svg", "w", encoding="utf-8") as f:
        f.write(svg(series, a.title, [(x.rpartition("=")[0], float(x.rpartition("=")[2])) for x in a.line]))


if __name__ == "__main__":
    main()
