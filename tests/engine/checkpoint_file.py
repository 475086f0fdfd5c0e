"""The checkpoint file read and written by its documented format alone: struct, json and numpy."""

import json
import os
import struct
import subprocess

import numpy as np

PROGRAM = os.environ["TEST_CHECKPOINT"]
SECTIONS = ["params", "ema", "m", "v"]
MODEL = {"a/kernel": ([1, 3, 2, 1], 0), "a/bias": ([5], 32), "w": ([2, 2], 16)}  # shape, offset in the buffer


def values(section, shape, offset):
    n = int(np.prod(shape))
    with np.errstate(over="ignore"):
        i = np.arange(offset, offset + n, dtype=np.uint32)
        x = np.uint32((section + 1) * 2654435761 & 0xFFFFFFFF) ^ i * np.uint32(2246822519)
        x = (x ^ x >> np.uint32(15)) * np.uint32(2654435761)
        x = x ^ x >> np.uint32(13)
    return x.reshape(shape)


def test_written_file_is_safetensors(tmp_path):
    path = tmp_path / "c.safetensors"
    subprocess.run([PROGRAM, "--write", path], check=True)
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    assert (8 + size) % 64 == 0
    text = raw[8 : 8 + size].decode()
    assert text.startswith("{") and text.rstrip(" ").endswith("}")
    header = json.loads(text)
    data = raw[8 + size :]
    metadata = header.pop("__metadata__")
    assert metadata["format"] == "mulund-1" and metadata["step"] == "1000"
    assert json.loads(metadata["config"])["model"]["sm_n_embd"] == 128
    assert all(isinstance(v, str) for v in metadata.values())
    assert set(header) == {f"{s}/{n}" for s in SECTIONS for n in MODEL}
    at = 0
    for name, entry in header.items():
        section, _, rest = name.partition("/")
        shape, offset = MODEL[rest]
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32" and entry["shape"] == shape and begin == at
        at = end
        found = np.frombuffer(data[begin:end], dtype="<u4").reshape(shape)
        assert np.array_equal(found, values(SECTIONS.index(section), shape, offset))
    assert at == len(data)


def test_file_of_another_writer_reads(tmp_path):
    """Other order of tensors and data, other white space, no padding."""
    path = tmp_path / "c.safetensors"
    header, data = {}, b""
    for section in reversed(SECTIONS):
        for name in ["w", "a/kernel", "a/bias"]:
            raw = values(SECTIONS.index(section), *MODEL[name]).astype("<u4").tobytes()
            offsets = [len(data), len(data) + len(raw)]
            header[f"{section}/{name}"] = {"data_offsets": offsets, "shape": MODEL[name][0], "dtype": "F32"}
            data += raw
    header["__metadata__"] = {"step": "1000", "config": "{}", "format": "mulund-1"}
    text = json.dumps(header, indent=1).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    subprocess.run([PROGRAM, "--read", path], check=True)
