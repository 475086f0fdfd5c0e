"""Published checkpoints and logs, in and out, by the real daemon and worker."""

import csv
import io
import os
import shutil
import struct
import subprocess

import requests

from harness import MULUNCTL, ROOT

FLAX = os.path.join(ROOT, "tests", "formats", "flax-mulan", "mulan-velocity-linear.flax")
MODEL = {"vdm_type": "mulan_velocity", "data": {"dataset": "photos32"},
         "model": {"gamma_type": "linear", "sm_n_embd": 32, "sm_n_layer": 1, "forward_n_layer": 1},
         "training": {"num_steps_train": 6, "num_steps_eval": 1, "batch_size_train": 4, "batch_size_eval": 4, "steps_per_logging": 1},
         "sampling": {"n_images": 1, "n_steps": 2}, "machine": {"threads": 1, "plans": "rule"}}


def inside(daemon, name):
    folder = os.path.join(daemon.state, "imports")
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, name)


def get_text(daemon, path):
    return requests.get(f"{daemon.url}/v1/{path}", timeout=60)


def artifacts(daemon, job):
    return {a["name"]: a for a in daemon.get(f"jobs/{job}/artifacts")["artifacts"]}


def table(daemon, job):
    text = get_text(daemon, f"artifacts/{artifacts(daemon, job)['import.csv']['id']}").content.decode()
    return list(csv.DictReader(io.StringIO(text)))


def import_checkpoint(daemon, path, expect=201, **more):
    return daemon.post("jobs", {"kind": "import", "what": "checkpoint", "path": path, "config": MODEL, **more}, expect)


def test_a_published_checkpoint_is_evaluated_sampled_trained_further_and_exported(daemon):
    daemon.start()
    path = inside(daemon, "ckpt-1.flax")
    shutil.copy(FLAX, path)
    j = import_checkpoint(daemon, path, name="published", overrides={"sampling.n_steps": 3})
    assert j["import"] == {"what": "checkpoint", "path": path} and j["config"]["sampling"]["n_steps"] == 3
    done = daemon.wait_state(j["id"], "succeeded")
    n = 4 * 118
    assert done["result"] == {"what": "checkpoint", "step": 3, "parameters": 322294, "matched": n, "missing": 0, "left_over": 0}
    rows = table(daemon, j["id"])
    assert len(rows) == n and {r["status"] for r in rows} == {"matched"} and "params/score_model/conv_in/kernel" in {r["tensor"] for r in rows}
    checkpoint = artifacts(daemon, j["id"])["step-3.safetensors"]
    assert checkpoint["kind"] == "checkpoint" and checkpoint["step"] == 3
    assert "tensors matched, 0 missing, 0 left over" in get_text(daemon, f"jobs/{j['id']}/log").text
    source = {"job": j["id"], "which": "latest"}
    evaluation = daemon.post("jobs", {"kind": "evaluate", "checkpoint": source, "n_images": 8}, 201)
    sample = daemon.post("jobs", {"kind": "sample", "checkpoint": source}, 201)
    further = daemon.post("jobs", {"kind": "train", "start_from": {"job": j["id"]}}, 201)
    assert 5 < daemon.wait_state(evaluation["id"], "succeeded")["result"]["bpd"] < 20
    daemon.wait_state(sample["id"], "succeeded")
    daemon.wait_state(further["id"], "succeeded")
    assert "step-6.safetensors" in artifacts(daemon, further["id"])
    assert [s["points"] for s in daemon.get(f"jobs/{further['id']}/series")["series"] if s["name"] == "train/bpd"] == [3]
    with open(FLAX, "rb") as f:
        assert get_text(daemon, f"artifacts/{checkpoint['id']}?format=flax").content == f.read()


def test_what_is_no_checkpoint_of_the_configuration_leaves_nothing(daemon):
    daemon.start()
    path = inside(daemon, "ckpt-1.flax")
    with open(FLAX, "rb") as f:
        whole = f.read()
    for data, overrides, text in ((whole, {"model.sm_n_embd": 64}, "/params/score_model/dense0/kernel has shape [82,128]"),
                                  (whole[:100000], {}, "is cut"), (whole.replace(b"conv_in", b"conv_on"), {}, "not score_model/conv_in/kernel"),
                                  (whole[:0x50] + struct.pack("<f", float("nan")) + whole[0x54:], {}, "value 0 is nan")):
        with open(path, "wb") as f:
            f.write(data)
        j = import_checkpoint(daemon, path, overrides=overrides)
        failed = daemon.wait_state(j["id"], "failed")
        assert failed["error"]["class"] == "data" and text in failed["error"]["detail"], failed["error"]
        assert not [a for a in artifacts(daemon, j["id"]) if a.endswith(".safetensors")]
        assert not [f for f in os.listdir(os.path.join(daemon.state, "jobs", str(j["id"]))) if "safetensors" in f]
        refused = daemon.post("jobs", {"kind": "evaluate", "checkpoint": {"job": j["id"], "which": "latest"}}, 422)
        assert refused["errors"]


def test_what_is_not_asked_for_rightly(daemon):
    daemon.start()
    for body, pointer in (({"what": "dataset", "path": "/x"}, "/what"), ({"what": "events"}, "/path"), ({"what": "events", "path": "x"}, "/path"),
                          ({"what": "events", "path": "/x", "config": MODEL}, "/config"), ({"what": "checkpoint", "path": "/x"}, "/config"),
                          ({"what": "events", "path": "/etc/passwd"}, "/path"), ({"what": "checkpoint", "path": "/etc/passwd", "config": MODEL}, "/path"),
                          ({"what": "events", "path": "/x", "start_from": {"job": 1}}, "/start_from"),
                          ({"what": "checkpoint", "path": "/x", "config": MODEL, "overrides": {"model.sm_n_embd": 33}}, "/model/sm_n_embd")):
        refused = daemon.post("jobs", {"kind": "import", **body}, 422)
        assert pointer in [e["pointer"] for e in refused["errors"]], (body, refused)


def varint(v):
    out = b""
    while v >= 128:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def crc(data):
    c = 0xFFFFFFFF
    for b in data:
        c ^= b
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    c ^= 0xFFFFFFFF
    return struct.pack("<I", ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data):
    size = struct.pack("<Q", len(data))
    return size + crc(size) + data + crc(data)


def event(step, *values, wall=1.7e9):
    return record(b"\x09" + struct.pack("<d", wall + step) + b"\x10" + varint(step) + field(5, b"".join(field(1, v) for v in values)))


def scalar(tag, value):
    return field(1, tag) + b"\x15" + struct.pack("<f", value)


IMAGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 3, 300) + b"rest"
EVENTS = record(b"\x09" + struct.pack("<d", 1.7e9) + field(3, b"brain.Event:2")) + b"".join(
    event(i, scalar(b"train_bpd", 10 - i / 100), scalar("éval/bpd".encode(), float(i))) for i in range(600)) + \
    event(600, field(1, b"samples") + field(4, field(4, IMAGE)), field(1, b"h") + field(5, b""), scalar(b"bad\x01", 1.0),
          field(1, b"gif") + field(4, field(4, b"GIF89a......")))


def import_events(daemon, path):
    return daemon.post("jobs", {"kind": "import", "what": "events", "path": path}, 201)


def test_published_logs_become_series_and_images_and_go_out_again(daemon):
    daemon.start()
    path = inside(daemon, "events.out.tfevents.1")
    with open(path, "wb") as f:
        f.write(EVENTS)
    j = import_events(daemon, path)
    assert j["config"] is None and j["import"] == {"what": "events", "path": path}
    result = daemon.wait_state(j["id"], "succeeded")["result"]
    assert result == {"what": "events", "files": 1, "events": 602, "series": 2, "points": 1200, "images": 1, "left_over": 3, "cut": False}
    [s] = daemon.get(f"series?jobs={j['id']}&names=train_bpd&points=10000")["series"]
    assert s["step"] == list(range(600)) and s["time_ms"][7] == 1_700_000_007_000
    assert s["last"] == [struct.unpack("<f", struct.pack("<f", 10 - i / 100))[0] for i in range(600)]
    names = artifacts(daemon, j["id"])
    assert get_text(daemon, f"artifacts/{names['samples-step-600-0.png']['id']}").content == IMAGE
    assert {(r["tag"], r["points"], r["images"], r["left_over"], r["what"]) for r in table(daemon, j["id"])} == {
        ("train_bpd", "600", "0", "0", ""), ("éval/bpd", "600", "0", "0", ""), ("samples", "0", "1", "0", ""), ("h", "0", "0", "1", "a histogram"),
        ("bad?", "0", "0", "1", "a tag that is no name"), ("gif", "0", "0", "1", "an image that is no PNG or one too many")}
    out = inside(daemon, "again.tfevents")
    subprocess.run([MULUNCTL, "--server", daemon.url, "export", str(j["id"]), "--format", "tfevents", "-o", out], check=True, timeout=60)
    again = import_events(daemon, out)
    assert daemon.wait_state(again["id"], "succeeded")["result"] == {**result, "events": 1202, "left_over": 0}
    assert get_text(daemon, f"artifacts/{artifacts(daemon, again['id'])['samples-step-600-0.png']['id']}").content == IMAGE
    assert get_text(daemon, f"jobs/{again['id']}/export?format=csv").text == get_text(daemon, f"jobs/{j['id']}/export?format=csv").text
    refused = daemon.post("jobs", {"kind": "evaluate", "checkpoint": {"job": j["id"], "which": "latest"}}, 422)
    assert refused["errors"]


def test_a_folder_of_logs_and_one_that_is_cut_or_altered(daemon):
    daemon.start()
    folder = inside(daemon, "run")
    os.makedirs(folder)
    for i, data in enumerate((event(1, scalar(b"a", 1.0)), event(2, scalar(b"a", 2.0)) + event(3, scalar(b"a", 3.0))[:-1])):
        with open(os.path.join(folder, f"events.out.tfevents.{i}"), "wb") as f:
            f.write(data)
    with open(os.path.join(folder, "notes.txt"), "w", encoding="utf-8") as f:
        f.write("no event file")
    result = daemon.wait_state(import_events(daemon, folder)["id"], "succeeded")["result"]
    assert (result["files"], result["points"], result["cut"]) == (2, 2, True)
    with open(os.path.join(folder, "events.out.tfevents.0"), "r+b") as f:
        f.seek(20)
        f.write(b"x")
    failed = daemon.wait_state(import_events(daemon, folder)["id"], "failed")
    assert failed["error"]["class"] == "data" and "record 0 at byte 0" in failed["error"]["detail"]
