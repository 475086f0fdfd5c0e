"""Every format that images come in, written here by its documented form alone (struct, zlib, numpy, tarfile, zipfile),
and the file that an import writes, read by its own. What is refused says why and leaves nothing."""

import gzip
import io
import json
import os
import re
import struct
import subprocess
import tarfile
import zipfile
import zlib

import numpy as np
import pytest

PROGRAM = os.environ["TEST_IMPORT"]
FOREIGN = os.path.join(os.environ["TEST_SHARED"], "data", "foreign")


def foreign(name):
    path = os.path.join(FOREIGN, name)
    if not os.path.exists(path):
        pytest.skip(f"no {path}: its licence is not known, so that it is not in the repository")
    return path


class Imported:
    """An .images file by the text at the top of engine/data/images.h."""

    def __init__(self, path):
        raw = path.read_bytes()
        assert raw[:8] == b"mulundIM" and raw[4095:4096] == b"\n"
        self.header = json.loads(raw[8:4096])
        n, m = self.header["train"], self.header["test"]
        assert len(raw) == 4096 + 3072 * (n + m)
        images = np.frombuffer(raw, np.uint8, offset=4096).reshape(-1, 32, 32, 3)
        self.train, self.test = images[:n], images[n:]
        assert set(self.header) == {"version", "shape", "train", "test", "digest", "mean", "provenance"}
        assert self.header["version"] == 1 and self.header["shape"] == [32, 32, 3]
        np.testing.assert_allclose(self.header["mean"], self.train.reshape(-1, 3).astype(float).mean(0), rtol=1e-12)


class Importer:
    def __init__(self, folder):
        self.folder = folder
        self.out = folder / "out" / "x.images"
        self.out.parent.mkdir()

    def run(self, source, test="-", share=0, form="-", verb=("read",)):
        r = subprocess.run([PROGRAM, *verb, form, source, test, str(share), self.out], capture_output=True, text=True)
        assert r.returncode in (0, 1), r.stderr
        return json.loads(r.stdout)

    def good(self, source, test="-", share=0, form="-"):
        reply = self.run(source, test, share, form)
        assert "error" not in reply, reply
        got = Imported(self.out)
        assert os.listdir(self.out.parent) == ["x.images"]
        assert reply["digest"] == got.header["digest"] and reply["mean"] == got.header["mean"]
        assert (reply["train"], reply["test"]) == (len(got.train), len(got.test))
        assert got.header["provenance"]["path"] == str(source)
        assert got.header["provenance"]["format"] == reply["format"]
        got.format, got.resized = reply["format"], reply["resized"]
        return got

    def refused(self, source, text, test="-", share=0, form="-", where=None):
        reply = self.run(source, test, share, form)
        assert "error" in reply, reply
        assert text in reply["error"], reply
        if where is not None:
            assert reply["path"] == str(where)
        assert os.listdir(self.out.parent) == []
        return reply

    def cut(self, file, source, test="-", share=0):
        """Sizes to which file can be cut and still be imported."""
        self.out.unlink(missing_ok=True)
        return self.run(source, test, share, verb=("cut", file))


@pytest.fixture
def imports(tmp_path):
    return Importer(tmp_path)


def draw(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


def planes(images):
    return images.transpose(0, 3, 1, 2)


def cifar_batch(images):
    return b"".join(bytes([i % 10]) + p.tobytes() for i, p in enumerate(planes(images)))


def assert_same(got, train, test):
    np.testing.assert_array_equal(got.train, train)
    np.testing.assert_array_equal(got.test, test)


# ---- CIFAR-10


def write_cifar(folder, train, test):
    folder.mkdir()
    for i, part in enumerate(np.array_split(train, 2)):
        (folder / f"data_batch_{i + 1}.bin").write_bytes(cifar_batch(part))
    (folder / "test_batch.bin").write_bytes(cifar_batch(test))
    return folder


def add_member(tar, name, data, **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for k, v in attributes.items():
        setattr(info, k, v)
    tar.addfile(info, io.BytesIO(data))


def write_archive(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, data, attributes in members:
            add_member(tar, name, data, **attributes)
    return path


def cifar_members(train, test):
    """In an order that is not that of their numbers, as a tar may have them."""
    first, second = np.array_split(train, 2)
    return [
        ("cifar-10-batches-bin/data_batch_2.bin", cifar_batch(second), {}),
        ("cifar-10-batches-bin/test_batch.bin", cifar_batch(test), {}),
        ("cifar-10-batches-bin/readme.html", b"<html>", {}),
        ("cifar-10-batches-bin/data_batch_1.bin", cifar_batch(first), {}),
    ]


def test_cifar_folder_archive_and_our_own_file_are_the_same(imports, tmp_path):
    train, test = draw(7), draw(3, 1)
    folder = imports.good(write_cifar(tmp_path / "cifar", train, test))
    assert_same(folder, train, test)
    assert folder.format == "cifar10"
    for name, mode in (("c.tar.gz", "w:gz"), ("c.tgz", "w:gz"), ("c.tar", "w")):
        archive = imports.good(write_archive(tmp_path / name, cifar_members(train, test), mode))
        assert_same(archive, train, test)
        assert archive.header["digest"] == folder.header["digest"]
    (tmp_path / "own.images").write_bytes(imports.out.read_bytes())
    assert_same(imports.good(tmp_path / "own.images"), train, test)


@pytest.mark.parametrize(
    "name, attributes, text",
    [
        ("../data_batch_3.bin", {}, "leaves the archive's folder"),
        ("a/../../data_batch_3.bin", {}, "leaves the archive's folder"),
        ("a/..", {}, "leaves the archive's folder"),
        ("/tmp/data_batch_3.bin", {}, "leaves the archive's folder"),
        ("other", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link"),
        ("data_batch_3.bin", {"type": tarfile.LNKTYPE, "linkname": "cifar-10-batches-bin/test_batch.bin"}, "is a link"),
        ("dev", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "is a device"),
        ("dev", {"type": tarfile.BLKTYPE, "devmajor": 1, "devminor": 3}, "is a device"),
        ("fifo", {"type": tarfile.FIFOTYPE}, "is a FIFO"),
        ("again/test_batch.bin", {}, "is there twice"),
    ],
)
def test_archives_that_reach_out_are_refused(imports, tmp_path, name, attributes, text):
    members = cifar_members(draw(4), draw(2, 1))
    members.insert(2, (name, b"" if attributes else cifar_batch(draw(1)), attributes))
    path = write_archive(tmp_path / "c.tar.gz", members)
    reply = imports.refused(path, text, where=path)
    assert name.split("/")[-1] in reply["error"]


def test_a_member_of_two_dots_more_is_a_name(imports, tmp_path):
    members = [("..a/b../...", b"x", {}), *cifar_members(draw(4), draw(2, 1))]
    assert_same(imports.good(write_archive(tmp_path / "c.tar.gz", members)), draw(4), draw(2, 1))


def test_broken_archives_say_so(imports, tmp_path):
    members = cifar_members(draw(2), draw(1, 1))
    path = write_archive(tmp_path / "c.tar.gz", members)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    imports.refused(path, "cannot be unpacked")
    # behind the archive's end, which is long before the stream's
    longer = gzip.compress(write_archive(tmp_path / "c.tar", members, "w").read_bytes() + bytes(1 << 20))
    path.write_bytes(longer[:-8] + bytes([longer[-8] ^ 1]) + longer[-7:])
    imports.refused(path, "cannot be unpacked")
    path.write_bytes(b"not an archive at all")
    imports.refused(path, "is no archive, or damaged")
    path.write_bytes(b"")
    imports.refused(path, "is no archive, or damaged")
    write_archive(path, [("cifar-10-batches-py/data_batch_1", b"pickle", {})])
    imports.refused(path, "cifar-10-binary.tar.gz")
    write_archive(path, members[:1])
    imports.refused(path, "test_batch.bin is missing")
    write_archive(path, [*members[:3], (members[3][0], members[3][1][:-1], {})])
    imports.refused(path, "data_batch_1.bin has 3072 bytes")


def test_archives_cut_at_any_byte_are_refused(imports, tmp_path):
    image = np.zeros((1, 32, 32, 3), np.uint8)
    path = write_archive(tmp_path / "c.tar.gz", cifar_members(np.concatenate([image, image]), image))
    assert imports.cut(path, path) == []


def test_our_own_file_cut_or_altered_is_refused(imports, tmp_path):
    imports.good(write_cifar(tmp_path / "cifar", draw(2), draw(1, 1)))
    own = tmp_path / "own.images"
    whole = imports.out.read_bytes()
    own.write_bytes(whole)
    assert imports.cut(own, own) == []
    for at in (4096, len(whole) - 1):
        own.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        imports.refused(own, "altered")
    own.write_bytes(whole + b"x")
    imports.refused(own, "expected 13312 for 2 and 1 images")
    for old, new, text in (
        (b'"version":1', b'"version":2', "version"),
        (b'"train":2', b'"train":1', "expected"),
        (b'"train":2', b'"train":0', "/train"),
        (b'"train":2', b'"train":999999999999999', "/train"),
        (b'"test":1', b'"text":1', "/text"),
        (b'"shape":[32,', b'"shape":[33,', "/shape"),
        (b'"mean":[', b'"mean":[-', "/mean"),
    ):
        assert old in whole
        head = whole[:4096].replace(old, new)
        own.write_bytes(head[: 4096 - 1].ljust(4095)[:4095] + b"\n" + whole[4096:])
        imports.refused(own, text)
    # a split that was moved: the images are the same
    own.write_bytes(whole.replace(b'"train":2', b'"train":1', 1).replace(b'"test":1', b'"test":2', 1))
    imports.refused(own, "altered")


# ---- NumPy


def npy_bytes(array, version=None):
    b = io.BytesIO()
    np.lib.format.write_array(b, array, version)
    return b.getvalue()


LAYOUTS = {
    "rows": lambda x: x,
    "planes": planes,
    "flat": lambda x: planes(x).reshape(len(x), 3072),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_arrays_of_every_layout(imports, tmp_path, layout, order, version):
    train, test = draw(5), draw(2, 1)
    for name, images in (("a", train), ("b", test)):
        array = np.array(LAYOUTS[layout](images), order=order)
        (tmp_path / f"{name}.npy").write_bytes(npy_bytes(array, version))
        np.savez_compressed(tmp_path / f"{name}.npz", data=array, labels=np.arange(len(images)))
    for end in "npy", "npz":
        got = imports.good(tmp_path / f"a.{end}", tmp_path / f"b.{end}")
        assert_same(got, train, test)
        assert got.format == "numpy" and got.header["provenance"]["test_path"] == str(tmp_path / f"b.{end}")


def test_imagenet32_as_published_is_a_folder_of_npz(imports, tmp_path):
    folder = tmp_path / "imagenet32"
    folder.mkdir()
    parts = [draw(3, i) for i in range(12)]
    for i, part in enumerate(parts[:11]):
        np.savez(folder / f"train_data_batch_{i + 1}.npz", data=LAYOUTS["flat"](part), labels=[1], mean=np.zeros(3072))
    np.savez(folder / "val_data.npz", data=LAYOUTS["flat"](parts[11]), labels=[1])
    assert_same(imports.good(folder), np.concatenate(parts[:11]), parts[11])
    imports.out.unlink()
    (folder / "link.npy").symlink_to(folder / "val_data.npz")
    imports.refused(folder, "is a link", where=folder / "link.npy")


def test_an_only_array_needs_no_name_and_several_do(imports, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, draw(4))
    assert len(imports.good(path, share=0.25).train) == 3
    imports.out.unlink()
    np.savez(path, draw(4), draw(4))
    imports.refused(path, "holds 2 arrays, none of them called data", share=0.25)
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("readme.txt", "no array")
    imports.refused(path, "holds no array", share=0.25)
    with zipfile.ZipFile(path, "w") as z, pytest.warns(UserWarning, match="Duplicate"):
        z.writestr("data.npy", npy_bytes(draw(4)))
        z.writestr("data.npy", npy_bytes(draw(4)))
    imports.refused(path, "holds the array data 2 times", share=0.25)


def test_other_arrays_are_refused_with_what_was_found(imports, tmp_path):
    path = tmp_path / "a.npy"
    for array, text in (
        (np.zeros((2, 32, 32, 3), np.int8), "type |i1 and shape [2, 32, 32, 3]"),
        (np.zeros((2, 32, 32, 3), ">u2"), "type >u2"),
        (np.zeros((2, 32, 32, 3), "<f8"), "type <f8"),
        (np.zeros((2, 32, 32, 3), bool), "type |b1"),
        (np.zeros((2, 32, 32, 4), np.uint8), "shape [2, 32, 32, 4]"),
        (np.zeros((32, 32, 3), np.uint8), "shape [32, 32, 3]"),
        (np.zeros(3072, np.uint8), "shape [3072]"),
        (np.uint8(3), "shape []"),
        (np.zeros((2, 32, 32, 3), [("r", np.uint8)]), "header is not understood"),
    ):
        path.write_bytes(npy_bytes(array))
        imports.refused(path, text, share=0.5, where=path)


@pytest.mark.parametrize("name", ["array.npy", "example_bool_bad_value.npy", "example_c64_little_endian_standard.npy",
                                  "example_f64_big_endian_fortran.npy"])
def test_other_peoples_arrays_are_no_images(imports, name):
    kinds = {"array.npy": "<i4", "example_bool_bad_value.npy": "|b1", "example_c64_little_endian_standard.npy": "<c16",
             "example_f64_big_endian_fortran.npy": ">f8"}
    imports.refused(foreign(f"npy/{name}"), f"type {kinds[name]}", share=0.5)


def header(text, version=1):
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text.encode()


@pytest.mark.parametrize(
    "head, text",
    [
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 32, 32, 3), 'shape': (2, 32, 32, 3)}"), "not understood"),
        (header("{'descr': '|u1', 'fortran_order': False}"), "not understood"),
        (header("{'descr': '|u1', 'fortran_order': 0, 'shape': (2, 3072)}"), "not understood"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 3072)}"), "not understood"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 3072)}"), "not understood"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (9223372036854775807, 3072)}"), "6144 bytes"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (6004799503160662, 3072)}"), "has "),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}"), "not understood"),
        (header("(" * 9000), "not understood"),
        (header("{" * 9000), "not understood"),
        (header("{'descr': " + "[" * 9000), "not understood"),
        (header("__import__('os').system('true')"), "not understood"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of 4294967295 bytes"),
        (b"\x93NUMPY\x04\x00\x00\x00\x00\x00", "version 4.0"),
        (b"\x93NUMPX\x01\x00\x00\x00", "does not begin"),
    ],
)
def test_array_headers_that_lie_are_refused(imports, tmp_path, head, text):
    (tmp_path / "a.npy").write_bytes(head + bytes(6144))
    if text == "6144 bytes":
        text = "expected a header of"
    imports.refused(tmp_path / "a.npy", text, share=0.5)


def test_arrays_cut_at_any_byte_are_refused(imports, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(npy_bytes(np.zeros((2, 3072), np.uint8)))
    assert imports.cut(path, path, share=0.5) == []
    path.write_bytes(npy_bytes(np.zeros((2, 3072), np.uint8)) + b"x")
    imports.refused(path, "has 6273 bytes", share=0.5)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_zips_cut_at_any_byte_or_altered_are_refused(imports, tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, data=np.zeros((2, 3072), np.uint8))
    whole = path.read_bytes()
    assert imports.cut(path, path, share=0.5) == []
    at = len(whole) // 3
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    imports.refused(path, "", share=0.5)


# ---- PNG


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(image, extra=b""):
    """8-bit RGB [h, w, 3] or grey [h, w]."""
    h, w = image.shape[:2]
    head = struct.pack(">IIBBBBB", w, h, 8, 2 if image.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def unfilter(raw, width_bytes, rows, bpp):
    out = np.zeros((rows, width_bytes), np.uint8)
    before = np.zeros(width_bytes, np.int64)
    at = 0
    for y in range(rows):
        kind, line = raw[at], np.frombuffer(raw, np.uint8, width_bytes, at + 1).astype(np.int64)
        at += 1 + width_bytes
        row = np.zeros(width_bytes, np.int64)
        for x in range(width_bytes):
            a = row[x - bpp] if x >= bpp else 0
            b = before[x]
            c = before[x - bpp] if x >= bpp else 0
            p = a + b - c
            nearest = a if abs(p - a) <= abs(p - b) and abs(p - a) <= abs(p - c) else b if abs(p - b) <= abs(p - c) else c
            row[x] = (line[x] + (0, a, b, (a + b) // 2, nearest)[kind]) & 255
        before = row
        out[y] = row
    return out, at


def decode_png(raw):
    """By the PNG specification, without libpng: 8-bit RGB; transparency left out, 16 bits rounded to 8."""
    at, data, palette = 8, b"", None
    while at < len(raw):
        (n,) = struct.unpack_from(">I", raw, at)
        kind, body = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + n]
        if kind == b"IHDR":
            w, h, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
        elif kind == b"PLTE":
            palette = np.frombuffer(body, np.uint8).reshape(-1, 3)
        elif kind == b"IDAT":
            data += body
        at += 12 + n
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    data = zlib.decompress(data)
    out = np.zeros((h, w, channels), np.int64)
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    at = 0
    for x0, y0, dx, dy in passes if interlace else [(0, 0, 1, 1)]:
        pw, ph = -((x0 - w) // dx), -((y0 - h) // dy)
        if pw <= 0 or ph <= 0:
            continue
        width_bytes = (pw * channels * depth + 7) // 8
        rows, used = unfilter(data[at:], width_bytes, ph, max(1, channels * depth // 8))
        at += used
        if depth == 16:
            values = rows.reshape(ph, pw * channels, 2).astype(np.int64)
            values = values[..., 0] * 256 + values[..., 1]
        else:
            bits = np.unpackbits(rows, axis=1).reshape(ph, -1, depth)
            values = (bits * (1 << np.arange(depth)[::-1])).sum(-1)[:, : pw * channels]
        out[y0::dy, x0::dx] = values.reshape(ph, pw, channels)
    if colour == 3:
        return palette[out[..., 0]]
    out = out[..., :3] if channels > 2 else np.repeat(out[..., :1], 3, -1)
    top = (1 << depth) - 1
    return ((out * 255 * 2 + top) // (2 * top)).astype(np.uint8)


def fit(image):
    """Area average of the centre's square, in exact fractions."""
    h, w = image.shape[:2]
    side = min(h, w)

    def weights(length):
        m = np.zeros((32, length), object)
        for i in range(32):
            a, b = 32 * (length - side) + 2 * side * i, 32 * (length - side) + 2 * side * (i + 1)
            for k in range(length):
                m[i, k] = max(0, min(b, 64 * (k + 1)) - max(a, 64 * k))
        return m

    u, v = weights(h), weights(w)
    area = (2 * side) ** 2
    return np.stack([(u.dot(image[..., c].astype(object)).dot(v.T) * 2 + area) // (2 * area) for c in range(3)], -1).astype(np.uint8)


def write_images(folder, images, end=".png"):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        (folder / f"image_{i}{end}").write_bytes(png(image))


def test_folders_train_and_test(imports, tmp_path):
    train, test = draw(12), draw(3, 1)
    for name in ("test", "val", "validation"):
        source = tmp_path / f"with-{name}"
        write_images(source / "train" / "class", train[:11])
        (source / "train" / "x.PNG").write_bytes(png(train[11]))
        write_images(source / name, test)
        (source / "train" / "labels.csv").write_text("not an image")
        (source / "beside.png").write_bytes(b"passed over")
        got = imports.good(source)
        assert_same(got, train, test)
        assert got.format == "folder" and got.resized == 0
    write_images(source / "test", test)
    imports.out.unlink()
    imports.refused(source, "several folders of test images", where=source)


def test_a_share_is_exact_even_and_repeatable(imports, tmp_path):
    images = draw(10)
    write_images(tmp_path / "all", images)
    imports.refused(tmp_path / "all", "name them by test_path, or a part of them by test_share")
    got = imports.good(tmp_path / "all", share=0.2)
    assert_same(got, np.delete(images, (4, 9), 0), images[[4, 9]])
    assert got.header["provenance"]["test_share"] == 0.2
    digest = got.header["digest"]
    assert imports.good(tmp_path / "all", share=0.2).header["digest"] == digest
    imports.out.unlink()
    imports.refused(tmp_path / "all", "there are no test images", share=0.01)
    imports.refused(tmp_path / "all", "below 1", share=1)
    imports.refused(tmp_path / "all", "below 1", share=-0.5)
    imports.refused(tmp_path / "all", "test_path names the test images", test=tmp_path / "all", share=0.5)


def test_what_is_to_test_on_is_said_once(imports, tmp_path):
    write_images(tmp_path / "a" / "train", draw(2))
    write_images(tmp_path / "a" / "test", draw(2))
    write_images(tmp_path / "b", draw(2))
    imports.refused(tmp_path / "a", "leave test_share out", share=0.5)
    imports.refused(tmp_path / "a", "leave test_path out", test=tmp_path / "b")
    imports.refused(tmp_path / "b", "images that are to train on", test=tmp_path / "a")
    assert_same(imports.good(tmp_path / "a" / "train", tmp_path / "b"), draw(2), draw(2))


@pytest.mark.parametrize("shape", [(64, 64), (33, 47), (48, 32), (5, 9), (1, 1), (32, 200), (100, 37), (31, 32)])
def test_other_sizes_are_averaged_over_their_area(imports, tmp_path, shape):
    images = np.random.default_rng(3).integers(0, 256, (2, *shape, 3), np.uint8)
    write_images(tmp_path / "all", images)
    got = imports.good(tmp_path / "all", share=0.5)
    assert_same(got, fit(images[0])[None], fit(images[1])[None])
    assert got.resized == got.header["provenance"]["resized"] == 2


def test_png_suite(imports, tmp_path):
    folder = foreign("pngsuite")
    names = sorted(n for n in os.listdir(folder) if n.endswith(".png") and not n.startswith("x"))
    assert len(names) > 150
    got = imports.run(folder, share=0.5)
    assert got["code"] < 0 and re.search(r"/x\w+\.png", got["path"])
    source = tmp_path / "good"
    source.mkdir()
    for n in names:
        (source / n).write_bytes(open(os.path.join(folder, n), "rb").read())
    (source / "last.png").write_bytes(png(draw(1)[0]))
    got = imports.good(source, share=1 / (len(names) + 1))
    for n, image in zip(sorted([*names, "last.png"]), np.concatenate([got.train, got.test])):
        if n != "last.png":
            expected = fit(decode_png(open(os.path.join(folder, n), "rb").read()))
            assert np.abs(expected.astype(int) - image).max() <= (1 if "16" in n else 0), n


def test_malformed_pngs_are_refused(imports, tmp_path):
    names = sorted(n for n in os.listdir(foreign("pngsuite")) if n.startswith("x") and n.endswith(".png"))
    assert len(names) >= 14
    for n in names:
        source = tmp_path / n.split(".")[0]
        write_images(source, draw(1))
        (source / n).write_bytes(open(foreign(f"pngsuite/{n}"), "rb").read())
        imports.refused(source, "", share=0.5, where=source / n)


def test_images_cut_at_any_byte_are_refused(imports, tmp_path):
    write_images(tmp_path / "all", np.zeros((2, 32, 32, 3), np.uint8))
    assert imports.cut(tmp_path / "all" / "image_1.png", tmp_path / "all", share=0.5) == []
    for mode in ("baseline", "progressive", "arithmetic"):
        source = tmp_path / mode
        write_images(source, draw(1))
        jpeg(source / "x.jpg", mode=mode)
        assert imports.cut(source / "x.jpg", source, share=0.5) == []


def test_pngs_that_promise_too_much_are_refused(imports, tmp_path):
    write_images(tmp_path / "all", draw(1))
    path = tmp_path / "all" / "x.png"
    for w, h, text in ((40000, 1, "libpng"), (32768, 32768, "67108864 pixels"), (0, 1, "libpng"), (1, 2**31 + 5, "libpng")):
        head = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))
        imports.refused(tmp_path / "all", text, share=0.5, where=path)
    path.write_bytes(png(draw(1)[0], chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50 << 20)))))
    imports.run(tmp_path / "all", share=0.5)  # read or refused, but not unpacked beyond its limit


def test_folders_that_lead_elsewhere_are_refused(imports, tmp_path):
    write_images(tmp_path / "all", draw(2))
    (tmp_path / "all" / "x.png").symlink_to(tmp_path / "all" / "image_0.png")
    imports.refused(tmp_path / "all", "is a link", share=0.5, where=tmp_path / "all" / "x.png")
    (tmp_path / "all" / "x.png").unlink()
    (tmp_path / "all" / "deeper").symlink_to(tmp_path)
    imports.refused(tmp_path / "all", "is a link", share=0.5)
    (tmp_path / "all" / "deeper").unlink()
    write_images(tmp_path / "all" / "/".join(str(i) for i in range(20)), draw(1))
    imports.refused(tmp_path / "all", "deeper than 16 folders", share=0.5)


def test_names_of_any_bytes_are_said_in_ascii_or_not_at_all(imports, tmp_path):
    write_images(tmp_path / "all", draw(1))
    os.rename(tmp_path / "all" / "image_0.png", os.fsencode(tmp_path / "all") + b"/a\xff\nb.png")
    with open(os.fsencode(tmp_path / "all") + b"/a\xff\nc.png", "wb") as f:
        f.write(b"no image")
    reply = imports.refused(tmp_path / "all", "neither PNG nor JPEG", share=0.5)
    assert reply["path"].endswith("/a??c.png")
    os.unlink(os.fsencode(tmp_path / "all") + b"/a\xff\nc.png")
    (tmp_path / "all" / "bl\u00fcte.png").write_bytes(b"no image")
    imports.refused(tmp_path / "all", "neither", share=0.5, where=tmp_path / "all" / "bl\u00fcte.png")


def test_long_paths_fit_into_the_header(imports, tmp_path):
    deep = tmp_path
    for _ in range(7):
        deep = deep / ('"' * 200)
        deep.mkdir()
    for name in "a", "b":
        np.save(deep / f"{name}.npy", draw(2))
    reply = imports.run(deep / "a.npy", deep / "b.npy")
    assert reply["train"] == 2, reply
    imports.out.rename(tmp_path / "kept.images")
    (deep / "c-\u00fc.npy").write_bytes(b"no array")
    where = imports.refused(deep / "c-\u00fc.npy", "does not begin", share=0.5)["path"]
    assert where.startswith("...") and where.endswith('"/c-\u00fc.npy') and len(where.encode()) == 159
    provenance = Imported(tmp_path / "kept.images").header["provenance"]
    assert provenance["path"] == str(deep / "a.npy")[:900] and len(provenance["test_path"]) == 900


# ---- JPEG


def jpeg(path, width=32, height=32, colours=3, mode="baseline"):
    subprocess.run([PROGRAM, "jpeg", path, str(width), str(height), str(colours), mode], check=True)


@pytest.mark.parametrize("mode", ["baseline", "progressive", "arithmetic"])
@pytest.mark.parametrize("colours", [1, 3])
def test_jpegs_are_read(imports, tmp_path, mode, colours):
    write_images(tmp_path / "all", draw(1))
    jpeg(tmp_path / "all" / "x.jpeg", colours=colours, mode=mode)
    y, x = np.mgrid[:32, :32]
    expected = np.stack([8 * x, 8 * y, 0 * x + 128], -1) if colours == 3 else np.stack([8 * x] * 3, -1)
    got = imports.good(tmp_path / "all", share=0.5)
    assert np.abs(got.test[0].astype(int) - expected).max() <= 6  # chroma is halved
    assert np.abs(got.test[0].astype(int) - expected).mean() <= 2


def test_jpegs_of_four_colours_are_refused_by_name(imports, tmp_path):
    write_images(tmp_path / "all", draw(1))
    jpeg(tmp_path / "all" / "x.jpg", colours=4)
    imports.refused(tmp_path / "all", "CMYK", share=0.5, where=tmp_path / "all" / "x.jpg")


def test_damaged_jpegs_are_refused(imports, tmp_path):
    write_images(tmp_path / "all", draw(1))
    path = tmp_path / "all" / "x.jpg"
    jpeg(path)
    whole = path.read_bytes()
    at = whole.index(b"\xff\xda") + 40
    path.write_bytes(whole[:at] + b"\xff\xd5" + whole[at:])
    imports.refused(tmp_path / "all", "libjpeg", share=0.5, where=path)


# ---- TFRecords


def crc32c(data):
    c = 0xFFFFFFFF
    for b in data:
        c ^= b
        for _ in range(8):
            c = (c >> 1) ^ (0x82F63B78 if c & 1 else 0)
    return c ^ 0xFFFFFFFF


def masked(data):
    c = crc32c(data)
    return struct.pack("<I", (((c >> 15) | (c << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data):
    head = struct.pack("<Q", len(data))
    return head + masked(head) + data + masked(data)


def field(number, data):
    n, head = len(data), b""
    while n > 127:
        head += bytes([n & 127 | 128])
        n >>= 7
    return bytes([number << 3 | 2]) + head + bytes([n]) + data


def feature(key, kind, value):
    return field(1, field(1, key.encode()) + field(2, field(kind, value)))


def example(image, key="image"):
    features = feature("id", 1, field(1, b"train_1")) + feature(key, 1, field(1, image)) + feature("label", 3, b"\x0a\x01\x07")
    return field(1, features)


def small_png(seed):
    """Compresses well, so that checksums in Python stay cheap."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[seed % 32] = seed
    return image, png(image)


def tfrecord(seeds):
    return b"".join(record(example(small_png(s)[1])) for s in seeds)


def images_of(seeds):
    return np.stack([small_png(s)[0] for s in seeds])


def write_tfds(folder, name="cifar10", test="test", parts=3):
    folder.mkdir()
    for i in range(parts):
        (folder / f"{name}-train.tfrecord-{i:05}-of-{parts:05}").write_bytes(tfrecord([2 * i, 2 * i + 1]))
    (folder / f"{name}-{test}.tfrecord-00000-of-00001").write_bytes(tfrecord([100, 101]))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.mark.parametrize("name, test, parts", [("cifar10", "test", 1), ("downsampled_imagenet", "validation", 11)])
def test_tfrecords_as_tfds_names_them(imports, tmp_path, name, test, parts):
    got = imports.good(write_tfds(tmp_path / "1.0.0", name, test, parts))
    assert_same(got, images_of(range(2 * parts)), images_of([100, 101]))
    assert got.format == "tfrecord"


def test_a_file_of_records(imports, tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(tfrecord(range(4)))
    (tmp_path / "b.tfrecord").write_bytes(tfrecord([9]))
    assert_same(imports.good(tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"), images_of(range(4)), images_of([9]))
    assert_same(imports.good(tmp_path / "a.tfrecord", share=0.25), images_of(range(3)), images_of([3]))


def test_parts_that_do_not_belong_together_are_refused(imports, tmp_path):
    folder = write_tfds(tmp_path / "a")
    part = folder / "cifar10-train.tfrecord-00001-of-00003"
    whole = part.read_bytes()
    part.unlink()
    imports.refused(folder, "part 00001 of cifar10-train is missing")
    part.write_bytes(whole)
    last = folder / "cifar10-train.tfrecord-00002-of-00003"
    last.rename(tmp_path / "kept")
    imports.refused(folder, "part 00002 of 00003 of cifar10-train is missing")
    (tmp_path / "kept").rename(last)
    for name, text in (
        ("cifar10-train.tfrecord-00003-of-00004", "missing"),
        ("cifar10-extra.tfrecord-00000-of-00001", "split extra"),
        ("mnist-train.tfrecord-00000-of-00001", "another data set"),
        ("cifar10-validation.tfrecord-00000-of-00001", "both test and validation"),
        ("more.tfrecord", "nothing says which"),
    ):
        (folder / name).write_bytes(tfrecord([1]))
        imports.refused(folder, text)
        (folder / name).unlink()
    assert imports.good(folder)


@pytest.mark.parametrize(
    "data, text",
    [
        (b"\x0a\xff\xff\xff\xff\x0f", "is no tf.train.Example"),
        (b"", "has no feature image"),
        (example(small_png(1)[1], "picture"), "has no feature image"),
        (field(1, feature("image", 3, b"\x0a\x01\x07")), "is not one string of bytes"),
        (field(1, feature("image", 1, field(1, b"a") + field(1, b"b"))), "is not one string of bytes"),
        (field(1, feature("image", 1, field(1, b"a")) * 2), "has the feature image twice"),
        (example(b"GIF89a"), "neither PNG nor JPEG"),
        (example(png(np.zeros((64, 64, 3), np.uint8))), "is 64 x 64; expected 32 x 32"),
        (example(small_png(1)[1][:-1]), "the image is cut"),
        (b"\x0b" * 100000, "is no tf.train.Example"),
    ],
    ids=range(10),
)
def test_records_that_are_no_images_are_named(imports, tmp_path, data, text):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(tfrecord([1, 2]) + record(data))
    reply = imports.refused(path, text, share=0.5, where=path)
    assert reply["error"].startswith("record 2: ")


def test_records_cut_at_any_byte_are_refused_but_between_two(imports, tmp_path):
    path = tmp_path / "a.tfrecord"
    first = tfrecord([0, 1])
    path.write_bytes(first + tfrecord([2]))
    # whole records, of which nothing says how many there should be
    assert imports.cut(path, path, share=0.5) == [len(first)]
    path.write_bytes(first + tfrecord([2])[:-1] + b"\0")
    imports.refused(path, "record 2 at byte", share=0.5)
    path.write_bytes(gzip.compress(first))
    imports.refused(path, "begins as gzip's files do", share=0.5)


def test_other_peoples_records(imports, tmp_path):
    import hashlib

    got = imports.good(foreign("tfrecord/tfx_cifar10_train.tfrecord"), foreign("tfrecord/tfx_cifar10_test_tiny.tfrecord"))
    assert len(got.train) == 128 and len(got.test) == 100
    raw = open(foreign("tfrecord/tfx_cifar10_train.tfrecord"), "rb").read()
    at = raw.index(b"\x89PNG")
    np.testing.assert_array_equal(got.train[0], decode_png(raw[at : raw.index(b"IEND", at) + 8]))
    assert hashlib.sha256(got.train.tobytes()).digest() != hashlib.sha256(got.test.tobytes()).digest()


# ---- all


def test_a_stopped_import_leaves_nothing(imports, tmp_path):
    (tmp_path / "a.npy").write_bytes(npy_bytes(draw(300)))
    reply = imports.run(tmp_path / "a.npy", share=0.5, verb=("stop", "128"))
    assert reply["error"] == "told to end"
    assert os.listdir(imports.out.parent) == []


def test_what_had_the_name_stays_until_the_new_one_is_whole(imports, tmp_path):
    (tmp_path / "a.npy").write_bytes(npy_bytes(draw(4)))
    first = imports.good(tmp_path / "a.npy", share=0.5).header["digest"]
    (tmp_path / "b.npy").write_bytes(npy_bytes(draw(4))[:-1])
    assert "error" in imports.run(tmp_path / "b.npy", share=0.5)
    assert Imported(imports.out).header["digest"] == first


def test_what_is_not_known_is_refused(imports, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"bytes")
    imports.refused(tmp_path / "a.bin", "no images that are known here")
    imports.refused(tmp_path / "a.bin", "expected cifar10, tfrecord, numpy or folder", form="gif")
    (tmp_path / "empty").mkdir()
    imports.refused(tmp_path / "empty", "holds no PNG or JPEG image", where=tmp_path / "empty")
    for form in ("cifar10", "tfrecord", "numpy", "folder"):
        imports.refused(tmp_path / "nowhere", "", form=form)
        imports.refused(tmp_path / "empty", "", form=form)
        os.mkfifo(tmp_path / f"fifo-{form}.npy")
        imports.refused(tmp_path / f"fifo-{form}.npy", "", form=form, share=0.5)


def test_the_same_bytes_compressed_twice(imports, tmp_path):
    """A .tar.gz of two members of gzip is one stream to gzip, and one archive."""
    tar = write_archive(tmp_path / "c.tar", cifar_members(draw(2), draw(1, 1)), "w").read_bytes()
    (tmp_path / "d.tar.gz").write_bytes(gzip.compress(tar[:1000]) + gzip.compress(tar[1000:]))
    assert_same(imports.good(tmp_path / "d.tar.gz"), draw(2), draw(1, 1))
