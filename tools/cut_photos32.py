#!/usr/bin/python3
"""Cuts data/photos32 out of the whole photos32 set: N training images at even distances over both of its batches,
whose order is random over the photographs, so that each is represented; all test images; the licences.

    tools/cut_photos32.py FOLDER_OF_THE_WHOLE_SET data/photos32

The same input gives the same bytes.
"""

import os
import shutil
import sys

ROW = 3073  # a label, then red, green and blue plane of 32 x 32
N = 4200    # with the test images 15.9 MiB


def main(source, target):
    rows = b""
    for name in ("data_batch_1.bin", "data_batch_2.bin"):
        with open(os.path.join(source, name), "rb") as f:
            rows += f.read()
    total = len(rows) // ROW
    assert len(rows) == total * ROW and total >= N
    chosen = [i * total // N for i in range(N)]
    os.makedirs(target, exist_ok=True)
    with open(os.path.join(target, "data_batch_1.bin"), "wb") as f:
        for i in chosen:
            f.write(rows[i * ROW:(i + 1) * ROW])
    for name in ("test_batch.bin", "LICENCES"):
        shutil.copyfile(os.path.join(source, name), os.path.join(target, name))
    print(f"{N} of {total} training images")


if __name__ == "__main__":
    main(*sys.argv[1:])
