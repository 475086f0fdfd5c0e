"""Data from files to training: imports by the real daemon and worker."""

import json
import os
import shutil
import struct
import subprocess
import zlib

import numpy as np
import requests

from harness import MULUNCTL, config, wait


def draw(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


def png(image):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def inside(daemon, name):
    folder = os.path.join(daemon.state, "imports")
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, name)


def write_arrays(daemon, n=40, name="a"):
    path = inside(daemon, f"{name}.npy")
    np.save(path, draw(n))
    return path


def write_many(daemon, n):
    """A folder that takes its time: the same picture under many names."""
    folder = inside(daemon, "many")
    os.makedirs(folder)
    data = png(draw(1)[0])
    first = os.path.join(folder, "0.png")
    with open(first, "wb") as f:
        f.write(data)
    for i in range(1, n):
        os.link(first, os.path.join(folder, f"{i}.png"))
    return folder


def start_import(daemon, name, path, expect=201, **more):
    return daemon.post("datasets", {"name": name, "path": path, **more}, expect)


def listed(daemon):
    return {d["name"]: d for d in daemon.get("datasets")["datasets"]}


def kept(daemon):
    return sorted(os.listdir(os.path.join(daemon.state, "datasets")))


def delete(daemon, name):
    return requests.delete(f"{daemon.url}/v1/datasets/{name}", timeout=120)


def own_config(dataset, **training):
    c = config(num_steps_train=2, num_steps_eval=1, **training)
    c["data"]["dataset"] = dataset
    return c


def test_imported_data_are_trained_on_at_once_and_after_a_restart(daemon):
    daemon.start()
    j = start_import(daemon, "mine", write_arrays(daemon), test_share=0.25)
    assert j["kind"] == "import" and j["config"] is None and j["import"]["what"] == "dataset"
    done = daemon.wait_state(j["id"], "succeeded")
    assert done["result"]["train"] == 30 and done["result"]["test"] == 10 and done["result"]["source"] == "numpy"
    assert done["progress"]["step"] == 40
    mine = listed(daemon)["mine"]
    assert mine["origin"] == "imported" and mine["format"] == "images" and mine["source_format"] == "numpy"
    assert mine["digest"] == done["result"]["digest"] and mine["mean"] == done["result"]["mean"]
    assert daemon.get("datasets/mine") == mine
    photos = listed(daemon)["photos32"]
    assert photos["origin"] == "command line" and all(0 < m < 255 for m in photos["mean"])
    assert kept(daemon) == ["mine.images"]
    first = daemon.wait_state(daemon.train(own_config("mine")), "succeeded")
    assert first["result"]["dataset_digest"] == mine["digest"]

    daemon.terminate()
    daemon.start()
    assert listed(daemon)["mine"] == mine
    daemon.wait_state(daemon.train(own_config("mine")), "succeeded")
    assert [x["id"] for x in daemon.get("jobs", kind="import")["jobs"]] == [j["id"]]
    r = requests.post(f"{daemon.url}/v1/jobs/{j['id']}/resume", json={"steps": 100}, timeout=120)
    assert r.status_code in (409, 422)


def test_a_name_is_given_once_and_kept_while_it_is_used(daemon):
    daemon.start()
    path = write_arrays(daemon)
    job = start_import(daemon, "mine", path, test_share=0.25)["id"]
    for name in ("mine", "photos32"):
        assert "data set" in start_import(daemon, name, path, 409, test_share=0.25)["detail"]
    daemon.wait_state(job, "succeeded")
    start_import(daemon, "mine", path, 409, test_share=0.25)
    r = delete(daemon, "photos32")
    assert r.status_code == 409 and "command line" in r.json()["detail"]
    assert delete(daemon, "no-such").status_code == 404
    c = own_config("mine")
    c["training"]["num_steps_train"] = 100000
    n = daemon.train(c)
    wait(lambda: daemon.job(n)["state"] == "running")
    r = delete(daemon, "mine")
    assert r.status_code == 409 and f"job {n}" in r.json()["detail"]
    daemon.post(f"jobs/{n}/cancel")
    daemon.wait_state(n, "cancelled")
    assert delete(daemon, "mine").status_code == 204
    assert kept(daemon) == [] and "mine" not in listed(daemon)
    assert requests.post(f"{daemon.url}/v1/jobs", json={"kind": "train", "config": own_config("mine")}, timeout=120).status_code == 422
    daemon.wait_state(start_import(daemon, "mine", path, test_share=0.5)["id"], "succeeded")
    assert listed(daemon)["mine"]["train"] == 20
    was = daemon.job(n)  # what it ran on, not what has the name now
    assert (was["dataset"]["name"], was["dataset"]["train"], was["dataset"]["test"], was["devices"]) == ("mine", 30, 10, ["cpu"])
    assert was["dataset"] == requests.get(f"{daemon.url}/v1/jobs/{n}/attempts", timeout=120).json()["attempts"][-1]["dataset"]
    assert was["dataset"]["digest"] != listed(daemon)["mine"]["digest"]
    done = [a["action"] for a in requests.get(f"{daemon.url}/v1/audit?limit=1000", timeout=120).json()["audit"]]
    assert done.count("DELETE /v1/datasets/mine") == 1, "what was refused changed nothing"


def test_only_allowed_folders_are_read(daemon, tmp_path):
    outside, allowed = tmp_path / "outside", tmp_path / "allowed"
    for folder in (outside, allowed):
        folder.mkdir()
        np.save(folder / "a.npy", draw(4))
    (allowed / "link.npy").symlink_to(outside / "a.npy")
    (tmp_path / "allowed-not").mkdir()
    np.save(tmp_path / "allowed-not" / "a.npy", draw(4))
    daemon.options = ["--import-root", str(allowed)]
    daemon.start()
    for path in (outside / "a.npy", allowed / "link.npy", allowed / ".." / "outside" / "a.npy", outside / "no-such", allowed / ".." / "outside" / "no-such", tmp_path / "allowed-not" / "a.npy", "/etc/passwd"):
        problem = start_import(daemon, "x", str(path), 422)
        assert problem["errors"][0]["pointer"] == "/path" and "--import-root" in problem["errors"][0]["detail"], problem
        assert str(allowed) in problem["errors"][0]["detail"]
    problem = start_import(daemon, "x", str(allowed / "no-such"), 422)
    assert "cannot be found" in problem["errors"][0]["detail"]
    problem = start_import(daemon, "x", str(allowed / "a.npy"), 422, test_path=str(outside / "a.npy"))
    assert problem["errors"][0]["pointer"] == "/test_path"
    assert daemon.get("jobs")["jobs"] == []
    for i, path in enumerate((allowed / "a.npy", write_arrays(daemon, 4))):
        daemon.wait_state(start_import(daemon, f"x{i}", str(path), test_share=0.5)["id"], "succeeded")


def test_what_is_broken_is_named_and_leaves_nothing(daemon):
    daemon.start()
    folder = inside(daemon, "pictures")
    os.makedirs(folder)
    for i in range(3):
        with open(os.path.join(folder, f"{i}.png"), "wb") as f:
            f.write(png(draw(1)[0])[: None if i < 2 else -30])
    job = start_import(daemon, "mine", folder, test_share=0.5)["id"]
    j = daemon.wait_state(job, "failed")
    assert j["error"]["class"] == "data" and "2.png" in j["error"]["detail"] and j["attempts"] == 1
    assert kept(daemon) == [] and "mine" not in listed(daemon)
    assert not [n for n in os.listdir(os.path.join(daemon.state, "jobs", str(job))) if "images" in n or "unpacked" in n]
    with open(os.path.join(folder, "2.png"), "wb") as f:
        f.write(png(draw(1)[0]))
    daemon.post(f"jobs/{job}/retry")
    daemon.wait_state(job, "succeeded")
    assert listed(daemon)["mine"]["train"] == 2


def test_a_killed_import_leaves_nothing_half_written_and_runs_again(daemon):
    daemon.start()
    job = start_import(daemon, "mine", write_many(daemon, 30000), test_share=0.1)["id"]
    wait(lambda: daemon.job(job)["progress"]["step"] > 0, every=0.01)
    assert daemon.kill_workers()
    assert kept(daemon) == []
    j = daemon.wait_state(job, "succeeded")
    assert j["attempts"] == 2 and kept(daemon) == ["mine.images"]
    assert [n for n in os.listdir(os.path.join(daemon.state, "jobs", str(job))) if ".images" in n] == []
    assert listed(daemon)["mine"]["train"] == 27000


def test_a_cancelled_import_is_over_and_its_name_is_free(daemon):
    daemon.start()
    job = start_import(daemon, "mine", write_many(daemon, 30000), test_share=0.1)["id"]
    wait(lambda: daemon.job(job)["progress"]["step"] > 0, every=0.01)
    daemon.post(f"jobs/{job}/cancel")
    daemon.wait_state(job, "cancelled")
    assert kept(daemon) == [] and "mine" not in listed(daemon)
    other = start_import(daemon, "mine", write_arrays(daemon), test_share=0.5)["id"]
    daemon.wait_state(other, "succeeded")
    r = requests.post(f"{daemon.url}/v1/jobs/{job}/retry", json={}, timeout=120)
    assert r.status_code == 409 and "already" in r.text


def test_an_import_goes_on_without_the_daemon(daemon):
    daemon.start()
    job = start_import(daemon, "mine", write_many(daemon, 30000), test_share=0.1)["id"]
    wait(lambda: daemon.job(job)["progress"]["step"] > 0, every=0.01)
    daemon.kill()
    wait(lambda: not daemon.workers())
    daemon.start()
    daemon.wait_state(job, "succeeded")
    assert listed(daemon)["mine"]["train"] == 27000


def test_a_file_that_was_altered_is_not_available_but_can_be_removed(daemon):
    daemon.start()
    daemon.wait_state(start_import(daemon, "mine", write_arrays(daemon), test_share=0.5)["id"], "succeeded")
    daemon.terminate()
    path = os.path.join(daemon.state, "datasets", "mine.images")
    with open(path, "r+b") as f:
        f.seek(5000)
        byte = f.read(1)[0]
        f.seek(5000)
        f.write(bytes([byte ^ 1]))
    shutil.copy(path, os.path.join(daemon.state, "datasets", "photos32.images"))
    daemon.start()
    assert list(listed(daemon)) == ["photos32"] and listed(daemon)["photos32"]["origin"] == "command line"
    assert "altered" in daemon.log() and "that of the command line is used" in daemon.log()
    start_import(daemon, "mine", write_arrays(daemon), 409, test_share=0.5)
    assert delete(daemon, "mine").status_code == 204
    assert kept(daemon) == ["photos32.images"]


def ctl(daemon, *args, code=0):
    p = subprocess.run([MULUNCTL, "--server", daemon.url, *args], capture_output=True, text=True, timeout=300, check=False)
    assert p.returncode == code, p.stdout + p.stderr
    return p.stdout if code == 0 else p.stdout + p.stderr


def test_the_command_line_imports_lists_and_deletes(daemon):
    daemon.start()
    path = write_arrays(daemon)
    out = ctl(daemon, "dataset", "import", "mine", path, "--test", write_arrays(daemon, 8, "b"), "--format", "numpy")
    assert "succeeded" in out and "40 images to train on, 8 to test on" in out
    rows = [line.split() for line in ctl(daemon, "dataset", "list").splitlines()]
    assert ["mine", "images", "40", "8", "numpy"] in rows and rows[0] == ["NAME", "FORMAT", "TRAIN", "TEST", "FROM"]
    assert "already" in ctl(daemon, "dataset", "import", "mine", path, code=1)
    job = int(ctl(daemon, "dataset", "import", "other", path, "--test-share", "0.5", "--detach"))
    daemon.wait_state(job, "succeeded")
    shown = ctl(daemon, "show", str(job))
    assert "import" in shown and "other" in shown and "train        20" in shown
    assert ctl(daemon, "list", "--kind", "import").count("succeeded") == 2
    assert "test_path" in ctl(daemon, "dataset", "import", "third", path, code=1)
    assert json.loads(ctl(daemon, "dataset", "list", "--json"))["datasets"][0]["name"] == "mine"
    ctl(daemon, "dataset", "delete", "mine")
    assert "no data set" in ctl(daemon, "dataset", "delete", "mine", code=1)
    assert sorted(listed(daemon)) == ["other", "photos32"]
