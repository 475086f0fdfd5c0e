"""The files that the program reads and writes, read and written by other code: checkpoints (engine/checkpoint.h), PNG grids,
CIFAR-10's binary format, per-image tables."""

import ctypes
import json
import struct
import zlib

import numpy as np

SECTIONS = ("params", "ema", "m", "v")


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh128(path):
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_128bits.restype = Hash128
    library.XXH3_128bits.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    data = np.memmap(path, np.uint8, "r")
    h = library.XXH3_128bits(data.ctypes.data, data.size)
    return f"{h.high:016x}{h.low:016x}"


class Checkpoint:
    """A safetensors file: step, state, and the tensors of a section by name, float64."""

    def __init__(self, path):
        with open(path, "rb") as f:
            size, = struct.unpack("<Q", f.read(8))
            self.header = json.loads(f.read(size))
        self.start, self.path = 8 + size, path
        metadata = self.header.pop("__metadata__")
        self.step, self.config = int(metadata["step"]), json.loads(metadata["config"])
        self.state = json.loads(metadata["state"])

    def shapes(self, section):
        """In the order of their places in the file."""
        found = sorted((entry["data_offsets"], name) for name, entry in self.header.items() if name.startswith(section + "/"))
        return {name[len(section) + 1:]: tuple(self.header[name]["shape"]) for _, name in found}

    def tensor(self, section, name):
        entry = self.header[f"{section}/{name}"]
        begin, end = entry["data_offsets"]
        with open(self.path, "rb") as f:
            f.seek(self.start + begin)
            return np.frombuffer(f.read(end - begin), "<f4").astype(np.float64).reshape(entry["shape"])

    def section(self, section):
        return {name: self.tensor(section, name) for name in self.shapes(section)}


def write_checkpoint(path, step, config, state, sections):
    """sections: {section: {name: array}}"""
    header, at = {"__metadata__": {"format": "mulund-1", "step": str(step), "config": json.dumps(config), "state": json.dumps(state)}}, 0
    for section in SECTIONS:
        for name, value in sections[section].items():
            header[f"{section}/{name}"] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + 4 * value.size]}
            at += 4 * value.size
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for section in SECTIONS:
            for value in sections[section].values():
                f.write(value.astype("<f4").tobytes())


def write_cifar(path, images):
    """images [n, 3072] in the order row, column, channel; the file has planes, and a label of 0 to 9."""
    planes = images.reshape(-1, 1024, 3).transpose(0, 2, 1).reshape(-1, 3072)
    labels = (np.arange(len(images)) % 10).astype(np.uint8)[:, None]
    np.concatenate([labels, planes.astype(np.uint8)], axis=1).tofile(path)


def read_cifar(path):
    records = np.fromfile(path, np.uint8).reshape(-1, 3073)[:, 1:]
    return records.reshape(-1, 3, 1024).transpose(0, 2, 1).reshape(-1, 3072)


def _paeth(a, b, c):
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def read_png(path):
    """[height, width, 3] of an 8-bit RGB PNG without interlacing (ISO/IEC 15948)."""
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, size = 8, b"", None
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", body)
            assert rest == [8, 2, 0, 0, 0]
            size = (height, width)
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    height, width = size
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 3 * width)
    out = np.zeros((height + 1, 3 * width + 3), int)  # a row above and a pixel to the left that are not there
    for y, line in enumerate(lines, 1):
        for x, value in enumerate(line[1:].tolist(), 3):
            a, b, c = int(out[y, x - 3]), int(out[y - 1, x]), int(out[y - 1, x - 3])
            out[y, x] = (value + (0, a, b, (a + b) // 2, _paeth(a, b, c))[line[0]]) & 255
    return out[1:, 3:].reshape(height, width, 3).astype(np.uint8)


def grid_images(grid, n):
    """[n, 3072] of a grid with ceil(sqrt(n)) columns and 2 white pixels between images; what no image fills is white."""
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    assert grid.shape == (34 * rows - 2, 34 * columns - 2, 3)
    used, out = np.zeros(grid.shape[:2], bool), []
    for i in range(n):
        at = (slice(i // columns * 34, i // columns * 34 + 32), slice(i % columns * 34, i % columns * 34 + 32))
        used[at] = True
        out.append(grid[at].reshape(-1))
    assert (grid[~used] == 255).all()
    return np.stack(out)


def read_table(path):
    """bpd-per-image.csv: [n, 4], bpd, recon, latent, diff."""
    with open(path, encoding="ascii") as f:
        lines = f.read().splitlines()
    assert lines[0] == "image,bpd,recon,latent,diff"
    rows = [line.split(",") for line in lines[1:]]
    assert [int(r[0]) for r in rows] == list(range(len(rows)))
    return np.array([[float(x) for x in r[1:]] for r in rows])
