"""Writes kernels/cuda's sources once more, with a fault at each place where one can be switched on: a barrier (or a wait
for copies) that is left out, a bound that lets one more through (`a < b` as `a <= b`, `a >= b` as `a > b`), a condition of bounds that always holds.

    loosen.py ROOT FOLDER    FOLDER/loosened/kernels/cuda/*, FOLDER/fault.h and FOLDER/places.json: [{file, line, kind, text}], fault N the N-th, from 1

The process's EMU_FAULT says which fault is on; where EMU_SEEN names a file, it has a byte for each fault at the end: whether
its place was reached. Only code of the device counts; the first places of a file stay theirs when others come behind."""

import json
import re
import sys
from pathlib import Path

HEADER = """#pragma once
#include <cstdio>
#include <cstdlib>
namespace
{
struct fault_switch {
        int on = std::getenv("EMU_FAULT") ? std::atoi(std::getenv("EMU_FAULT")) : 0;
        unsigned char seen[%d] = {};
        ~fault_switch()
        {
                const char *path = std::getenv("EMU_SEEN");
                FILE *f = path ? std::fopen(path, "r+b") : nullptr;

                for (size_t i = 0; f && i < sizeof seen; i++)
                        if (seen[i] && std::fseek(f, (long)i, SEEK_SET) == 0)
                                std::fputc(1, f);
                if (f)
                        std::fclose(f);
        }
} fault_switch;

__attribute__((no_sanitize_thread)) inline int fault_is(int n)
{
        fault_switch.seen[n] = 1;
        return fault_switch.on == n;
}
} // namespace
"""


def functions(text):
    """(start, end) of the bodies of device functions: what follows a head with __device__ or __global__, up to its closing brace;
    both braces have lines of their own."""
    for m in re.finditer(r"^( *)\{\n", text, re.M):
        head = re.split(r"[;{}]|\*/|\n\n", text[:m.start()])[-1]
        if re.search(r"__device__|__global__", head):
            yield m.end(), text.index(f"\n{m.group(1)}}}", m.end()) + 1


def closing(text, at):
    """Where the parenthesis that opens at `at` closes."""
    depth = 0
    for i in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise ValueError("a parenthesis that does not close")


def places(text):
    """(position, kind, [(where, what is put there)]) with %d for the fault's number, in the order of the text."""
    for start, end in functions(text):
        body = text[start:end]
        for m in re.finditer(r"(__sync(?:threads|warp)\(\)|copies_wait<\d>\(\));", body):
            yield start + m.start(), "barrier", [(start + m.start(), "if (!fault_is(%d)) ")]
        for m in re.finditer(r" (<|>=) ", body):
            line = text[text.rfind("\n", 0, start + m.start()) + 1:text.find("\n", start + m.start())]
            if "constexpr" not in line and not line.lstrip().startswith(("*", "/*")) and not re.search(r"< 0\.|HUGE", line):
                yield start + m.start(), "bound", [(start + m.end(), "fault_is(%d) + ")]
        for m in re.finditer(r"FOR_EACH\(\w+, ", body):
            yield start + m.start(), "bound", [(start + m.end(), "fault_is(%d) + ")]
        for m in re.finditer(r"\bif (\()", body):
            at = start + m.start(1)
            end_of_it = closing(text, at)
            if re.search(r" (<|>=) ", text[at:end_of_it]):
                leaves = re.match(r"\)\s*(return|break|continue)", text[end_of_it:])
                yield at, "condition", [(at + 1, f"fault_is(%d) ? {'false' if leaves else 'true'} : ("), (end_of_it, ")")]


def main():
    root, folder = Path(sys.argv[1]), Path(sys.argv[2])
    all_places = []
    for path in sorted(p for p in (root / "kernels" / "cuda").iterdir() if p.suffix in (".cu", ".h")):
        text = path.read_text()
        edits = []
        for position, kind, puts in sorted(places(text)):
            line = text.count("\n", 0, position) + 1
            all_places.append({"file": path.name, "line": line, "kind": kind, "text": text.splitlines()[line - 1].strip()})
            edits += [(where, what.replace("%d", str(len(all_places)))) for where, what in puts]
        for where, what in sorted(edits, reverse=True):
            text = text[:where] + what + text[where:]
        to = folder / "loosened" / "kernels" / "cuda" / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(f'#include "fault.h"\n#line 1 "{path}"\n{text}' if path.suffix == ".cu" else text)
    (folder / "fault.h").write_text(HEADER % (len(all_places) + 1))
    (folder / "places.json").write_text(json.dumps(all_places, indent=0))


if __name__ == "__main__":
    main()
