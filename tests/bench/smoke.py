#!/usr/bin/python3
"""What the benchmark relies on: smoke.py WORKER [CONVOLUTION]. The worker's line has the members that peer.py reads, and the peer's own
group norm and optimizer agree with PyTorch's (left out where python3-torch is not installed)."""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    r = subprocess.run([sys.argv[1], "--bench", "--embd", "32", "--layers", "1", "--encoder-layers", "1", "--batch", "2", "--steps", "2",
                        "--threads", "2"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert r.returncode == 0, f"{r.returncode}: {r.stdout}{r.stderr}"
    row = json.loads(next(line for line in r.stdout.splitlines() if line.startswith("{")))
    for key in ("seconds", "images_per_second", "peak_bytes", "gflops"):
        assert row[key] > 0, (key, row)
    assert abs(row["seconds"] * row["images_per_second"] - 2) < 0.02, row
    print(row)
    r = subprocess.run([sys.argv[1], "--bench", "--embd", "32", "--layers", "1", "--encoder-layers", "1", "--batch", "2", "--threads", "2", "--ode", "1"],
                       capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    row = json.loads(r.stdout)
    assert row["evaluations"] > 3 and row["seconds_an_evaluation"] > 0, row
    print(row)
    if len(sys.argv) > 2:
        bare = json.loads(subprocess.run([sys.argv[2], "32", "2", "3"], capture_output=True, text=True, check=True).stdout)
        assert bare["conv_gflops"] > 0, bare
    if subprocess.run(["/usr/bin/python3", "-c", "import torch"], capture_output=True, check=False).returncode:
        print("python3-torch is not installed: the peer is not looked at")
        return
    subprocess.run(["/usr/bin/python3", os.path.join(HERE, "torch_mulan.py"), "--verify"], check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
