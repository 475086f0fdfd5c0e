"""Other programs' files in ../shared/data/foreign: each reads as its expected.json says, which was made without any code
of ours. Skipped where that folder does not exist."""

import json
import math
import os
import subprocess

import pytest

FOREIGN = os.environ.get("FOREIGN", "")
EXPECTED = {}
if os.path.exists(os.path.join(FOREIGN, "expected.json")):
    with open(os.path.join(FOREIGN, "expected.json"), encoding="utf-8") as f:
        EXPECTED = json.load(f)
needs_foreign = pytest.mark.skipif(not EXPECTED, reason="skipped: ../shared/data/foreign is not here")
CHUNK = "__msgpack_chunked_array__"


def names(kind):
    return [n for n in EXPECTED if n.startswith(kind)] or [pytest.param("", marks=needs_foreign)]


def run(tool, *args):
    return subprocess.run([os.environ[tool], *map(str, args)], check=True, capture_output=True, text=True).stdout


def joined(leaves):
    """Chunked arrays as the array that they stand for."""
    out = {}
    for path, leaf in leaves.items():
        head, mark, rest = path.partition("/chunks/")
        if head + "/" + CHUNK in leaves and mark:
            row = out.setdefault(head, {"dtype": leaf["dtype"], "shape": {}, "square": 0.0})
            row["square"] += leaf["l2"] ** 2
        else:
            out[path] = dict(leaf)
    for path in [p for p in out if p.endswith("/" + CHUNK)]:
        head = path[: -len(CHUNK) - 1]
        row = out[head]
        dims = [p for p in out if p.startswith(head + "/shape/")]
        row["shape"] = [out[head + "/shape/%d" % i]["value"] for i in range(len(dims))]
        row["l2"] = math.sqrt(row.pop("square"))
        for p in [path, *dims]:
            del out[p]
    return out


@pytest.mark.parametrize("name", names("flax"))
def test_every_leaf_of_a_flax_file(name):
    expected = joined(EXPECTED[name]["leaves"])
    found = {}
    for line in run("TEST_FLAX", "--list", os.path.join(FOREIGN, name)).splitlines():
        path, dtype, shape, value = line.split("\t")
        found[path] = (dtype, json.loads(shape), value)
    assert sorted(found) == sorted(expected)
    for path, (dtype, shape, value) in found.items():
        leaf = expected[path]
        if dtype == "value":
            assert "value" in leaf
        else:
            assert (dtype, shape) == (leaf["dtype"], leaf["shape"]), path
            if value and dtype.startswith("float"):
                assert float(value) == pytest.approx(leaf["l2"], rel=1e-6, abs=1e-40), path
            elif value:
                assert abs(int(value)) == leaf["l2"], path


@needs_foreign
@pytest.mark.parametrize("name, chunk_bytes", [("mulan-velocity-linear", 1 << 30), ("mulan-velocity-linear-chunked", 5000)])
def test_a_published_checkpoint_comes_back_byte_for_byte(tmp_path, name, chunk_bytes):
    published = os.path.join(FOREIGN, "flax-mulan", name + ".flax")
    run("TEST_PUBLISHED", "--import", published, tmp_path / "ours")
    run("TEST_FLAX", "--export", tmp_path / "ours", "flax", chunk_bytes, tmp_path / "theirs")
    with open(published, "rb") as a, open(tmp_path / "theirs", "rb") as b:
        assert a.read() == b.read()


def kind_of(row):
    if row["kind"].startswith("scalar"):
        return "scalar"
    return "image" if row["kind"] == "image" or (row.get("plugin") == "images" and "strings" in row["kind"]) else "other"


@pytest.mark.parametrize("name", names("tfevents"))
def test_every_value_of_an_event_file(name):
    expected = EXPECTED[name]
    *values, whole = [json.loads(line) for line in run("TEST_TFEVENTS", "--list", os.path.join(FOREIGN, name)).splitlines()]
    assert (whole["version"], whole["events"]) == (expected["file_version"], expected["events"])
    found = {}
    for v in values:
        found.setdefault(v["tag"], []).append(v)
    assert sorted(found) == sorted(expected["tags"])
    for tag, row in expected["tags"].items():
        of_tag = found[tag]
        kind = kind_of(row)
        assert {v["kind"] for v in of_tag} == {kind}, tag
        per_value = len(of_tag) // row["n"]  # images of one tensor
        assert len(of_tag) == per_value * row["n"]
        first, last = of_tag[0], of_tag[-1]
        assert (first["step"], last["step"]) == (row["first_step"], row["last_step"])
        assert (first["wall"], last["wall"]) == (row["first_wall"], row["last_wall"])
        if kind == "scalar":
            scalars = [float(v["scalar"]) for v in of_tag]
            assert scalars[0] == float(row["first_value"]) and scalars[-1] == float(row["last_value"])
            assert sum(s for s in scalars if math.isfinite(s)) == pytest.approx(row["sum"], rel=1e-12)
            assert sum(not math.isfinite(s) for s in scalars) == row["n_not_finite"]
        if kind == "image":
            assert all(v["bytes"] > 8 for v in of_tag)
