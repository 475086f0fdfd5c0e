#!/usr/bin/python3
"""Would the checkers see a fault in a kernel? Switches on the faults of loosen.py (each barrier left out, each bound that lets
one more through, each condition of bounds gone) one at a time in a module of the race checker's build, and runs
kernels-check on the operations that reach the place (of sums over ranks: two ranks), the quickest first, until one fails; a
fault a processor at once.

    delete.py BUILD [PATTERN]        all whose file:line, kind or text PATTERN finds, with the score; about half an hour
    delete.py BUILD --sample         as many as a minute allows, by a seed

A check has a limit of processor time, ten times what it takes without a fault: what else the machine does finds nothing.
The last line is the score. The status is 1 where fewer than 95 % are found, in a sample where one is not. What changes
nothing that can be seen is in EQUIVALENT with its reason and does not count."""

import argparse
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 95  # % found
SAMPLE_S, SAMPLE_WALL_S, SEED = 60, 150, 14  # of the processor, by the clock
WHOLE_S = 600  # an operation's
ASLEEP = 30  # times its limit of processor time, by the clock: then it waits for what does not come
# By the clock, and by the processor as what a shell says of it.
OUT_OF_TIME = (124, -signal.SIGXCPU, 128 + signal.SIGXCPU)
SAMPLED = r"^attention\S* barrier"  # faults that are all known to be found

RANKS = "ranks"
# Kernels whose launchers are another file's to call.
USERS = {"attention_mma.cu": ["attention.cu"], "split.cu": ["conv.cu"]}

NOTHING = "a tile behind the end is of zeros and adds nothing"
NO_PIXELS = "a pass behind the last pixel reads, keeps and writes none"
EQUAL = "equal values: either is the same"
# (file, text of the line, kind): why nobody can see it. A line that stands in a file more than once means each.
EQUIVALENT = {
    ("attention.cu", "for (int x = 0; x < tile<R>::COLUMNS; x++) {", "bound"): "the column is compared with c behind it",
    ("attention.cu", "for (int x = 0; x < tile<R>::COLUMNS; x++)", "bound"): "the column is compared with c behind it",
    ("attention.cu", "for (int j = part; j < tile<R>::ROWS; j += 4) {", "bound"): "rows are one value apart, which gets a zero that nobody reads",
    ("attention.cu", "for (int j = 0; j < pixels; j += ROWS) {", "bound"): NOTHING,
    ("attention.cu", "for (int j = 0; j < a.pixels; j += ROWS) {", "bound"): NOTHING,
    ("attention.cu", "for (int i = 0; i < a.pixels; i += ROWS) {", "bound"): NOTHING,
    ("product_mma.h", "for (int k0 = begin; k0 < end; k0 += MMA_K) {", "bound"): NOTHING,
    ("product_mma.h", "if (i + (ALONG_K ? 0 : 7) < n && k + (ALONG_K ? 7 : 0) < end && x.eight(i, k, &v))", "condition"): "one by one they are the same eight",
    ("product.h", "for (int k0 = begin; k0 < end; k0 += DEPTH<Sum>) {", "bound"): NOTHING,
    ("product.h", "for (int64_t i = (int64_t)blockIdx.y * SUM_ROWS + line; i < rows; i += SUM_RUN * step) {", "bound"): "each row is compared inside",
    ("norm.cu", "for (int i = 0; i < own; i += N) {", "bound"): NO_PIXELS,
    ("norm.cu", "for (int e = 0; e < V && !share.spare; e++) /* unrolled: e is a constant, count is not */", "bound"): "a share has at most V values",
    ("norm.cu", "if (K == ANY || (K == SWISH_DRAWN && i >= n.kept))", "condition"): "a drawn mask makes zeros of what it made zeros",
    ("flow.cu", "t->s = t->s + h >= 1 ? 1 : t->s + h;", "bound"): "h is at most 1 - s rounded, and s plus that is 1",
    ("sampling.cu", "return (int)(j < 0 ? 0 : j > 255 ? 255 : j);", "bound"): "j is whole, and is 0 where it is below 1",
    ("sampling.cu", "for (int pass = 0; pass < 2; pass++)", "bound"): "u is below one, so the second pass returns; of a NaN none does",
    ("step.cu", "const int64_t at = wanted < last ? wanted : last, image = at / a.repeats, repeat = at % a.repeats;", "bound"): EQUAL,
    ("step.cu", "const int64_t m = a.m < left ? a.m : left;", "bound"): EQUAL,
    ("step.cu", "const int64_t left = a.n_images * a.repeats - a.state->position, m = a.m < left ? a.m : left;", "bound"): EQUAL,
    ("step.cu", "if ((at < a.n_bins - 1 ? at : a.n_bins - 1) != bin)", "bound"): EQUAL,
    ("step.cu", "FOR_EACH(i, m)", "bound"): "its rows end before they begin",
    ("step.cu", "FOR_EACH(bin, a.n_bins)", "bound"): "no row is of a bin behind the last",
}


def operations(name):
    """Those that a file's launchers make or are called by, of a header those of all files that include it."""
    files = [ROOT / "kernels" / "cuda" / name]
    if name.endswith(".h"):
        files = [f for f in (ROOT / "kernels" / "cuda").glob("*.cu") if name == "dialect.h" or includes(f, name)]
    files += [ROOT / "kernels" / "cuda" / user for f in files for user in USERS.get(f.name, [])]
    return sorted({op for f in files for op in re.findall(r"^void cuda_(\w+)\(struct stream", f.read_text(), re.M)})


def includes(path, name):
    listed = re.findall(r'#include "kernels/cuda/(\w+\.h)"', path.read_text())
    return name in listed or any(includes(path.parent / n, name) for n in listed if n not in ("cuda.h", "dialect.h"))


class Checker:
    def __init__(self, build, modules):
        module = build / "tests" / "cuda" / "libmulun-cuda-loosened.so"
        self.program = str(build / "tests" / "kernels" / "kernels-check")
        self.ranks = str(build / "tests" / "ranks" / "test-ranks")
        self.environment = {**os.environ, "MULUN_MODULES": modules, "TEST_EMULATED": str(module), "OMP_WAIT_POLICY": "passive"}
        os.symlink(module, Path(modules) / "libmulun-cuda-race.so")

    def run(self, check, limit, **more):
        """(None where it passes, else how it fails, or "time"; the processor's seconds)."""
        op, *split = check.split()
        argv = [self.program, "test", "cuda-race", op]
        if check == "bf16":
            argv = [self.program, "bf16", "cuda-race"]
        elif check == RANKS:
            argv = [self.ranks, "cuda=2", "*_the_*"]
        elif split:
            more["EMU_FLOAT32"] = "none"
        limit = math.ceil(limit)
        limits = ["/usr/bin/timeout", str(ASLEEP * limit), "/usr/bin/prlimit", f"--cpu={limit}:{limit + 1}"]
        with tempfile.TemporaryFile() as out:
            p = subprocess.Popen(limits + argv, env={**self.environment, **more}, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            _, status, used = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            said = out.read().decode(errors="replace")
        seconds = used.ru_utime + used.ru_stime
        if p.returncode in OUT_OF_TIME:
            return "time", seconds
        told = re.search(r"^emu: FAULT: .*|^FAIL .*|^.* is .*units.*", said, re.M)
        return None if p.returncode == 0 else told.group(0)[:110] if told else f"status {p.returncode}", seconds


def coverage(checker, check, n):
    """(seconds, places reached), by a run with no fault."""
    with tempfile.NamedTemporaryFile() as seen:
        seen.write(bytes(n + 1))
        seen.flush()
        failed, seconds = checker.run(check, WHOLE_S, EMU_SEEN=seen.name)
        if failed:
            sys.exit(f"{check} fails without a fault: {failed}")
        reached = (seconds, Path(seen.name).read_bytes())
        print(f"{check}: {reached[0]:.1f} s, {sum(reached[1])} places", flush=True)
        return reached


def try_fault(checker, number, checks, budget=math.inf):
    """(how it is found, None where nothing finds it, "time" where the budget ends before; the processor's seconds)."""
    spent = 0
    for check, limit in checks:
        told, seconds = checker.run(check, min(limit, budget - spent), EMU_FAULT=str(number))
        spent += seconds
        if spent >= budget:
            return "time", spent
        if told:
            return f"{check}: {'runs out of time' if told == 'time' else told}", spent
    return None, spent


def reason(place):
    return EQUIVALENT.get((place["file"], place["text"], place["kind"]))


def checks_of(name):
    """Those that may reach a file's places: its operations; convolutions also by terms of tf32, whose are split.cu's; ranks, whose
    sums are sum.cu's."""
    ops = operations(name)
    return [RANKS] if name == "sum.cu" else ops + [f"{op} split" for op in ops if op.startswith("conv_")]


def whole(checker, places, chosen):
    checks = ["bf16"] + sorted({check for number in chosen for check in checks_of(places[number - 1]["file"])})

    def one(number):
        place = places[number - 1]
        by = sorted((seconds, check) for check, (seconds, seen) in reached.items() if seen[number])
        told, _ = try_fault(checker, number, [(check, 10 * seconds + 10) for seconds, check in by])
        print(f"{'found' if told else 'NOT FOUND' if by else 'NOT REACHED'}: {place['file']}:{place['line']} {place['kind']}: {place['text']}"
              f"{': ' + told if told else ''}\n", end="", flush=True)
        return told

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reached = dict(zip(checks, pool.map(lambda check: coverage(checker, check, len(places)), checks)))
        told = list(pool.map(one, chosen))
    missed = [places[number - 1] for number, how in zip(chosen, told) if not how]
    return len(chosen) - len(missed), len(chosen), missed


def sample(checker, places, chosen):
    random.Random(SEED).shuffle(chosen)
    found, tried, missed, spent, end = 0, 0, [], 0, time.monotonic() + SAMPLE_WALL_S
    for number in chosen:
        place = places[number - 1]
        told, seconds = try_fault(checker, number, [(check, SAMPLE_S) for check in checks_of(place["file"]) + ["bf16"]], SAMPLE_S - spent)
        spent += seconds
        if told == "time":
            break
        tried += 1
        found += told is not None
        missed += [] if told else [place]
        if time.monotonic() > end:
            break
    return found, tried, missed


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build", type=Path)
    p.add_argument("pattern", nargs="?", default="")
    p.add_argument("--sample", action="store_true")
    args = p.parse_args()

    places = json.loads((args.build / "tests" / "cuda" / "places.json").read_text())
    equivalent = [x for x in places if reason(x)]
    gone = EQUIVALENT.keys() - {(x["file"], x["text"], x["kind"]) for x in places}
    if gone:
        sys.exit(f"EQUIVALENT names what is not there: {sorted(gone)}")
    pattern = SAMPLED if args.sample else args.pattern
    chosen = [i for i, x in enumerate(places, 1) if not reason(x) and re.search(pattern, f"{x['file']}:{x['line']} {x['kind']} {x['text']}")]
    with tempfile.TemporaryDirectory() as modules:
        checker = Checker(args.build.absolute(), modules)
        found, tried, missed = (sample if args.sample else whole)(checker, places, chosen)
    for x in missed:
        print(f"not found: {x['file']}:{x['line']} {x['kind']}: {x['text']}")
    percent = 100 * found / tried if tried else 0
    print(f"score: {found} of {tried} found ({percent:.0f} %); {len(equivalent)} of {len(places)} change nothing that can be seen")
    return 0 if tried and (not missed if args.sample else percent >= ENOUGH) else 1


if __name__ == "__main__":
    sys.exit(main())
