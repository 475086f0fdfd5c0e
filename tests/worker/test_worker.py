"""mulun-worker as a process, without a daemon: what it says of hostile input, and that its spool tells all."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attempts import CONFIG, IDENTITY, LONG, PHOTOS, ROOT, WORKER, assignment, check_progress, check_rates, checkpoints, events, run, scalars, work  # noqa: E402
import files  # noqa: E402


def test_a_run_is_in_its_spool(tmp_path):
    """Its last step is due for nothing but being the last."""
    start = time.monotonic()
    r = work(tmp_path, 1, training__num_steps_train=7)
    assert r.returncode == 0, r.stderr
    check_progress(tmp_path, 1, time.monotonic() - start, 2)
    seen = events(tmp_path, 1)
    assert [e["seq"] for e in seen] == list(range(1, len(seen) + 1))
    assert seen[0]["type"] == "start" and seen[0]["steps"] == 7 and seen[0]["parameters"] > 0
    result = seen[-1]["result"]
    assert seen[-1]["type"] == "done" and result["step"] == 7 and result["images"] == 14 and result["bpd"] > 0
    evaluations = scalars(tmp_path, 1, "eval/bpd")
    assert [s for s, _ in evaluations] == [4, 7] and evaluations[1][1] == result["bpd"]
    assert [(e["step"], e["metric"]) for e in seen if e["type"] == "artifact" and e["kind"] == "checkpoint"] == \
        [(2, None), evaluations[0], (6, None), evaluations[1]]
    assert [s for s, _ in scalars(tmp_path, 1, "train/bpd")] == [1, 3, 5, 7], "the open window, too"
    memory = [v for _, v in scalars(tmp_path, 1, "device/memory_mib")]
    assert len(memory) == 4 and all(10 < v < 100_000 for v in memory)
    assert all(0 < v <= 1 for _, v in scalars(tmp_path, 1, "device/busy")) and len(scalars(tmp_path, 1, "device/busy")) == 4
    assert [e["step"] for e in seen if e["type"] == "artifact" and e["kind"] == "image"] == [4, 7]


def test_a_run_that_goes_on_says_its_last_evaluation_again(tmp_path):
    """Its points from the checkpoint's step on replace those of the attempt before it."""
    assert work(tmp_path, 1).returncode == 0
    r = work(tmp_path, 2, checkpoints(tmp_path, 1), training__num_steps_train=7)
    assert r.returncode == 0, r.stderr
    again = scalars(tmp_path, 2, "eval/bpd")
    assert again[0] == scalars(tmp_path, 1, "eval/bpd")[-1] and [s for s, _ in again] == [6, 7]
    assert [c["step"] for c in checkpoints(tmp_path, 2)] == [7]


def test_the_open_window_is_a_point_at_every_end(tmp_path):
    """Also when nothing else was due; a run that goes on from there replaces it."""
    lazy = {"training__steps_per_logging": 1000, "training__steps_per_eval": 1000, "training__steps_per_save": 2}
    assert run(text=json.dumps(assignment(tmp_path, 1, training__num_steps_train=3, **lazy))).returncode == 0
    (step, first), = scalars(tmp_path, 1, "train/bpd")
    assert step == 3 and first > 0 and events(tmp_path, 1)[-1]["type"] == "done"
    r = run(text=json.dumps(assignment(tmp_path, 2, checkpoints(tmp_path, 1), training__num_steps_train=5, **lazy)))
    assert r.returncode == 0, r.stderr
    assert events(tmp_path, 2)[0]["step"] == 3, "so that the point at step 3 is superseded"
    (step, longer), = scalars(tmp_path, 2, "train/bpd")
    assert step == 5 and longer != first
    r = run(text=json.dumps(assignment(tmp_path, 3, training__num_steps_train=5, **lazy)))
    assert scalars(tmp_path, 3, "train/bpd") == [(5, longer)], "the same mean as of a run that nobody stopped"


def test_a_run_that_diverges_has_its_last_points_and_is_told_how_to_go_on(tmp_path):
    """A second moment below 0: the next weights are no numbers."""
    lazy = {"training__steps_per_logging": 1000, "training__steps_per_eval": 1000, "training__num_steps_train": 4}
    assert work(tmp_path, 1, **lazy).returncode == 0
    newest = [c for c in checkpoints(tmp_path, 1) if c["step"] == 2]
    with open(newest[0]["path"], "r+b") as f:
        size = int.from_bytes(f.read(8), "little")
        tensors = json.loads(f.read(size))
        f.seek(8 + size + next(t["data_offsets"][0] for name, t in tensors.items() if name.startswith("v/")))
        f.write(struct.pack("<f", -1.0))
    newest[0]["xxh128"] = files.xxh128(newest[0]["path"])
    r = work(tmp_path, 2, newest, **lazy)
    last = events(tmp_path, 2)[-1]
    assert r.returncode == 1 and last["type"] == "error" and last["class"] == "numeric", last
    (step, value), = scalars(tmp_path, 2, "train/bpd")
    assert step == last["step"] == 2 and value > 0
    assert '"start_from": {"job": 1}' in last["detail"] and "learning_rate" in last["detail"]


def test_a_better_evaluation_is_saved(tmp_path):
    """best always has a checkpoint, whatever steps_per_save is."""
    assert work(tmp_path, 1, training__num_steps_train=12, training__steps_per_eval=3, training__steps_per_save=100).returncode == 0
    best = {}
    for step, value in scalars(tmp_path, 1, "eval/bpd"):
        if value < min(best.values(), default=1e9):
            best[step] = value
    saved = {e["step"]: e["metric"] for e in events(tmp_path, 1) if e["type"] == "artifact" and e["kind"] == "checkpoint"}
    assert {**best, 12: dict(scalars(tmp_path, 1, "eval/bpd"))[12]} == saved
    again = [c for c in checkpoints(tmp_path, 1) if c["step"] == max(best)]
    assert work(tmp_path, 2, again, training__num_steps_train=12, training__steps_per_eval=3, training__steps_per_save=100).returncode == 0
    later = {e["step"] for e in events(tmp_path, 2) if e["type"] == "artifact" and e["kind"] == "checkpoint"}
    assert later == {s for s in saved if s > max(best)}, "it remembers the best of the attempts before"


@pytest.mark.parametrize("damage", ["torn", "altered", "gone"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_used(tmp_path, damage):
    assert work(tmp_path, 1).returncode == 0
    whole = checkpoints(tmp_path, 1)
    newest = whole[1]["path"]  # of step 4
    if damage == "torn":
        os.truncate(newest, os.path.getsize(newest) // 2)
    elif damage == "altered":
        with open(newest, "r+b") as f:
            f.seek(os.path.getsize(newest) - 100)
            f.write(b"\x7f")
    else:
        os.unlink(newest)
    r = work(tmp_path, 2, whole[1:])
    assert r.returncode == 0, r.stderr
    assert newest.encode() in r.stderr and b"refused" in r.stderr
    assert events(tmp_path, 2)[0]["step"] == 2
    assert checkpoints(tmp_path, 2)[0]["xxh128"] == whole[0]["xxh128"]  # bit for bit the undisturbed run


def test_no_whole_checkpoint_is_an_error_not_a_new_start(tmp_path):
    assert work(tmp_path, 1).returncode == 0
    newest = checkpoints(tmp_path, 1)[:1]
    os.truncate(newest[0]["path"], 100)
    r = work(tmp_path, 2, newest)
    assert r.returncode == 1
    last = events(tmp_path, 2)[-1]
    assert last["type"] == "error" and last["class"] == "configuration" and "checkpoint" in last["detail"]


def test_a_checkpoint_of_another_run_is_set_aside_and_never_read(tmp_path):
    assert work(tmp_path, 1).returncode == 0
    old = checkpoints(tmp_path, 1)
    other = "f" * 32
    mine = [{**c, "identity": other} for c in old]
    r = work(tmp_path, 2, mine[:1], identity=other)
    last = events(tmp_path, 2)[-1]
    assert r.returncode == 1 and last["type"] == "error" and last["class"] == "configuration"
    assert b"another run" in r.stderr and os.path.exists(old[0]["path"] + ".aside") and not os.path.exists(old[0]["path"])
    r = work(tmp_path, 3, mine[1:2], kind="evaluate")  # of another job: it is refused, and left where it is
    assert r.returncode == 1 and "another run" in events(tmp_path, 3)[-1]["detail"] and os.path.exists(old[1]["path"])
    r = work(tmp_path, 4, mine[1:2], kind="sample")
    assert r.returncode == 1 and "another run" in events(tmp_path, 4)[-1]["detail"]
    r = work(tmp_path, 5, [{**mine[1], "identity": IDENTITY}], identity=other)  # of the job that it starts from
    assert r.returncode == 0, r.stderr
    assert events(tmp_path, 5)[0]["step"] == 4


def test_a_run_with_fewer_steps_than_its_checkpoint_ends(tmp_path):
    assert work(tmp_path, 1).returncode == 0
    r = run(text=json.dumps(assignment(tmp_path, 2, checkpoints(tmp_path, 1), training__num_steps_train=3)), seconds=60)
    assert r.returncode == 0, r.stderr
    last = events(tmp_path, 2)[-1]
    assert last["type"] == "done" and last["result"]["step"] == 6


def few_images(folder, n_train=8, n_test=2, skip=0):
    folder.mkdir()
    for name, n in (("data_batch_1.bin", n_train), ("test_batch.bin", n_test)):
        with open(os.path.join(PHOTOS, name), "rb") as f:
            f.seek(skip * 3073)
            (folder / name).write_bytes(f.read(n * 3073))
    return folder


@pytest.mark.parametrize("which", ["data_batch_1.bin", "test_batch.bin"])
def test_other_data_under_a_run_are_refused_by_name_or_mark_the_curve(tmp_path, which):
    data, other = few_images(tmp_path / "data"), few_images(tmp_path / "other", skip=1)
    assert run(text=json.dumps(assignment(tmp_path, 1, data=data))).returncode == 0
    digest = json.loads(run("--describe", str(data)).stdout)["digest"]
    assert events(tmp_path, 1)[-1]["result"]["dataset_digest"] == digest
    os.rename(other / which, data / which)
    changed = json.loads(run("--describe", str(data)).stdout)["digest"]
    again = [checkpoints(tmp_path, 1), {"data": data, "training__num_steps_train": 10}]
    r = run(text=json.dumps(assignment(tmp_path, 2, again[0], **again[1])))
    last = events(tmp_path, 2)[-1]
    assert r.returncode == 1 and last["type"] == "error" and last["class"] == "data"
    assert all(text in last["detail"] for text in (digest, changed, "photos32", "accept_changed_data", "step 6"))
    assert [e["type"] for e in events(tmp_path, 2)] == ["error"], "nothing was trained"
    r = run(text=json.dumps(assignment(tmp_path, 3, again[0], accept=True, **again[1])))
    assert r.returncode == 0, r.stderr
    assert scalars(tmp_path, 3, "train/data_changed") == [(6, 1)]
    r = run(text=json.dumps(assignment(tmp_path, 5, again[0], accept=True, data=data)))  # nothing is left to train, but to evaluate
    assert r.returncode == 0, r.stderr
    result, (evaluation,) = events(tmp_path, 5)[-1]["result"], scalars(tmp_path, 5, "eval/bpd")
    assert result["dataset_digest"] == changed and evaluation == (6, result["bpd"])
    assert which != "test_batch.bin" or evaluation != scalars(tmp_path, 1, "eval/bpd")[-1], "on what is there now"
    assert events(tmp_path, 3)[-1]["result"]["dataset_digest"] == changed
    r = run(text=json.dumps(assignment(tmp_path, 4, checkpoints(tmp_path, 3), **{**again[1], "training__num_steps_train": 12})))
    assert r.returncode == 0 and not scalars(tmp_path, 4, "train/data_changed"), "its checkpoints are of the new data"


def test_evaluate_and_sample_read_the_checkpoint_that_is_named(tmp_path):
    assert work(tmp_path, 1).returncode == 0
    newest, start = checkpoints(tmp_path, 1)[:1], time.monotonic()
    r = work(tmp_path, 2, newest, kind="evaluate", training__batch_size_eval=5)
    assert r.returncode == 0, r.stderr
    check_progress(tmp_path, 2, time.monotonic() - start)
    result = events(tmp_path, 2)[-1]["result"]
    assert result["step"] == 6 and result["images"] == 50 and result["standard_error"] > 0
    assert abs(sum(result["parts"].values()) - result["bpd"]) < 1e-6
    with open(os.path.join(str(tmp_path), "bpd-per-image.csv"), encoding="utf-8") as f:
        rows = f.read().splitlines()
    assert rows[0] == "image,bpd,recon,latent,diff" and len(rows) == 51
    mean = sum(float(row.split(",")[1]) for row in rows[1:]) / 50
    assert abs(mean - result["bpd"]) < 1e-5
    start = time.monotonic()
    r = work(tmp_path, 3, newest, kind="sample", sampling__n_images=3)
    assert r.returncode == 0, r.stderr
    check_progress(tmp_path, 3, time.monotonic() - start)
    with open(os.path.join(str(tmp_path), "samples-step-6.png"), "rb") as f:
        assert f.read(8) == b"\x89PNG\r\n\x1a\n"


def test_sigterm_ends_in_a_checkpoint(tmp_path):
    text = json.dumps(assignment(tmp_path, 1, training__num_steps_train=100000, training__steps_per_save=100000,
                                 training__steps_per_eval=100000))
    start = time.monotonic()
    with subprocess.Popen([WORKER], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
        p.stdin.write(text.encode())
        p.stdin.close()
        end = time.monotonic() + 60
        while time.monotonic() < end and not os.path.exists(os.path.join(str(tmp_path), "attempt-1.events")):
            time.sleep(0.05)
        time.sleep(2)
        with open(f"/proc/{p.pid}/status") as f:
            status = dict(line.split(":", 1) for line in f)
        assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
        p.send_signal(signal.SIGTERM)
        assert p.wait(60) == 0
    last = events(tmp_path, 1)[-1]
    check_rates(tmp_path, 1, time.monotonic() - start, 2)
    assert last["type"] == "stopped" and checkpoints(tmp_path, 1)[0]["step"] == last["step"]


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{\"job\": 1}", "\0", "{\"job\":" * 5000, "x" * (5 << 20), b"\xff\xfe{}"],
                         ids=["empty", "cut", "array", "number", "incomplete", "nul", "deep", "long", "utf16"])
def test_a_hostile_assignment_is_refused(text):
    r = run(text=text)
    assert r.returncode == 2 and r.stderr and not r.stdout


def test_an_assignment_whose_configuration_is_wrong(tmp_path):
    r = run(text=json.dumps(assignment(tmp_path, 1, model__sm_n_embd=33)))
    last = events(tmp_path, 1)[-1]
    assert r.returncode == 1 and last["class"] == "configuration" and "/model/sm_n_embd" in last["detail"]


def test_more_memory_than_there_is(tmp_path):
    r = run(text=json.dumps(assignment(tmp_path, 1, model__sm_n_embd=2048, model__sm_n_layer=256)))
    last = events(tmp_path, 1)[-1]
    assert r.returncode == 1 and last["class"] == "memory" and "MiB are free; no batch fits" in last["detail"]


def test_what_a_killed_attempt_left_half_written_is_swept(tmp_path):
    left = ["step-12.safetensors.PwpyiM", "samples-step-4.png.abc123", "bpd-per-image.csv.ZZZZZZ"]
    kept = ["step-2.safetensors", "notes.txt.backup", "log.abcdef"]
    for name in left + kept:
        (tmp_path / name).write_bytes(b"x" * 1000)
    assert work(tmp_path, 1).returncode == 0
    there = os.listdir(tmp_path)
    assert not set(left) & set(there) and set(kept) <= set(there)


def test_a_result_names_the_data_that_were_read(tmp_path):
    assert work(tmp_path, 1).returncode == 0
    assert work(tmp_path, 2, checkpoints(tmp_path, 1)[:1], kind="evaluate").returncode == 0
    result = events(tmp_path, 2)[-1]["result"]
    assert result["dataset_digest"] == json.loads(run("--describe", PHOTOS).stdout)["digest"] != "0" * 32


def test_an_evaluation_without_standard_error_is_in_the_checkpoint(tmp_path):
    """One test image: its standard error is not a number, the evaluation is said again all the same."""
    data = few_images(tmp_path / "data", n_test=1)
    a = assignment(tmp_path, 1, data=data, training__num_steps_train=4)
    assert run(text=json.dumps(a)).returncode == 0
    said = [e for e in events(tmp_path, 1) if e["type"] == "scalars" and "eval/bpd" in e["columns"]]
    b = assignment(tmp_path, 2, checkpoints(tmp_path, 1)[:1], data=data, training__num_steps_train=4)
    assert run(text=json.dumps(b)).returncode == 0
    again = [e for e in events(tmp_path, 2) if e["type"] == "scalars" and "eval/bpd" in e["columns"]]
    assert said and again and again[-1]["columns"]["eval/bpd"] == said[-1]["columns"]["eval/bpd"]


def test_a_batch_in_parts_runs_and_a_number_that_does_not_divide_it_is_refused(tmp_path):
    for attempt, parts in ((1, 2), (2, 0)):
        assert work(tmp_path, attempt, training__n_micro_batches=parts).returncode == 0
    r = work(tmp_path, 3, training__n_micro_batches=3)
    last = events(tmp_path, 3)[-1]
    assert r.returncode == 1 and last["class"] == "configuration" and "/training/n_micro_batches" in last["detail"]


@LONG
@pytest.mark.parametrize("model", [{"sm_n_layer": 256, "with_attention": True, "sm_n_embd": 32},
                                   {"sm_n_layer": 256, "with_attention": True, "sm_n_embd": 2048}], ids=["deep", "largest"])
def test_the_largest_configurations_are_estimated(model):
    c = {"model": {**model, "forward_n_layer": 64}, "training": {"batch_size_train": 2048, "batch_size_eval": 2048}}
    for kind in ("train", "evaluate", "sample"):
        r = run("--estimate", kind, text=json.dumps(c))
        assert r.returncode == 0, r.stderr
        assert json.loads(r.stdout)["bytes"] > 1 << 30


def test_the_same_attempt_twice_is_refused(tmp_path):
    assert work(tmp_path, 1).returncode == 0
    assert work(tmp_path, 1).returncode == 1


def test_describe():
    d = json.loads(run("--describe", PHOTOS).stdout)
    assert d["format"] == "cifar10" and d["test"] == 1228 and len(d["digest"]) == 32
    for folder in ("/nonexistent", ROOT, "/dev/null"):
        r = run("--describe", folder)
        assert r.returncode == 1 and json.loads(r.stdout)["error"]["detail"]


@pytest.mark.parametrize("numbers, remark", [
    (["1", "2"], None), (["0", "1"], None), (["1", "3"], "data_batch_2.bin is missing"), (["2"], "data_batch_1.bin is missing"),
    (["1", "4", "6"], "data_batch_2.bin to data_batch_3.bin are missing; data_batch_5.bin is missing"), (["1", "01"], "batch 1 is there twice")])
def test_gaps_in_the_numbers_of_its_files_are_said(tmp_path, numbers, remark):
    data = few_images(tmp_path / "data")
    whole = (data / "data_batch_1.bin").read_bytes()
    os.unlink(data / "data_batch_1.bin")
    for n in numbers:
        (data / f"data_batch_{n}.bin").write_bytes(whole)
    d = json.loads(run("--describe", str(data)).stdout)
    assert d["train"] == 8 * len(numbers) and d.get("remark") == remark


def modules(tmp_path):
    """A folder whose back end "cuda" is the emulated device; skips where that is not built."""
    emulated = os.environ.get("MULUN_EMULATED", "")
    if not os.path.exists(emulated):
        pytest.skip("the emulated device is not built: CUDA's headers were not found")
    os.symlink(emulated, tmp_path / "libmulun-cuda.so")
    return str(tmp_path)


def test_probe_lists_devices(tmp_path, monkeypatch):
    monkeypatch.setenv("MULUN_MODULES", "/nonexistent")
    d = json.loads(run("--probe").stdout)
    assert [x["backend"] for x in d["devices"]] == ["cpu"] and "no module" in d["cuda"]
    monkeypatch.setenv("MULUN_MODULES", modules(tmp_path))
    d = json.loads(run("--probe").stdout)
    assert [x["backend"] for x in d["devices"]] == ["cpu", "cuda"] and "cuda" not in d
    assert d["devices"][1]["name"] == "emulated device" and d["devices"][1]["uuid"].startswith("GPU-")
    assert d["devices"][1]["memory_total"] >= d["devices"][1]["memory_free"] > 0 and d["devices"][1]["compute"] == [9, 0]


def test_each_instance_of_a_divided_gpu_is_a_device(tmp_path, monkeypatch):
    """Beside a whole GPU; a divided one is none itself. What the environment says is to be seen is all there is."""
    monkeypatch.setenv("MULUN_MODULES", modules(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", os.environ["TEST_NVML"])
    monkeypatch.setenv("SCRIPT_NVML", str(tmp_path / "nvml"))
    ids = [f"MIG-{i}e0c7b1a-1b2c-5d3e-8f40-a1b2c3d4e5f6" for i in range(3)]
    (tmp_path / "nvml").write_text("GPU-1 gpu\nGPU-2e0c7b1a-1b2c-5d3e-8f40-a1b2c3d4e5f6 gpu\n" + "".join(f"{i} parent GPU-1\n" for i in ids))
    d = json.loads(run("--probe").stdout)
    assert "cuda" not in d
    assert [(x["backend"], x["index"], x["uuid"]) for x in d["devices"][:4]] == [("cpu", 0, ""), *(("cuda", i, uuid) for i, uuid in enumerate(ids))]
    assert len(d["devices"]) == 5 and d["devices"][4]["uuid"].startswith("GPU-") and d["devices"][4]["index"] == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ids[1])
    assert [x["uuid"] for x in json.loads(run("--probe").stdout)["devices"]] == ["", ids[1]]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (tmp_path / "nvml").write_text(f"GPU-1 gpu\n{ids[0]} parent GPU-1\nMIG-ill parent GPU-1\n{ids[2]} parent GPU-1\n")
    d = json.loads(run("--probe").stdout)  # one cannot be opened
    assert [(x["index"], x["uuid"]) for x in d["devices"][1:]] == [(0, ids[0]), (2, ids[2])] and "MIG-ill" in d["cuda"]
    (tmp_path / "nvml").write_text("GPU-1 gpu\n")
    assert [x["uuid"][:4] for x in json.loads(run("--probe").stdout)["devices"]] == ["", "GPU-"]
    (tmp_path / "nvml").write_text(f"GPU-1 gpu\n{ids[0]} parent GPU-1\n")
    monkeypatch.setenv("MULUN_MODULES", "/nonexistent")
    d = json.loads(run("--probe").stdout)
    assert [x["backend"] for x in d["devices"]] == ["cpu"] and ids[0] in d["cuda"] and "no module" in d["cuda"]


def test_a_check_says_whether_a_device_computes(monkeypatch):
    r = run("--check", "cpu")
    assert json.loads(r.stdout) == {"passed": True} and r.returncode == 0
    monkeypatch.setenv("MULUN_MODULES", "/nonexistent")
    r = run("--check", "cuda")
    said = json.loads(r.stdout)["error"]
    assert said["class"] == "host" and "no module" in said["detail"] and r.returncode == 1


def test_without_nvml_nothing_is_watched(monkeypatch):
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)  # that meson sets leads to this build's library in NVML's place
    assert "libnvidia-ml" in json.loads(run("--watch", "1000", "GPU-1").stdout)["none"]


def train_on(folder, backend, precision, steps, **keys):
    folder.mkdir()
    a = assignment(folder, 1, machine__backend=backend, machine__precision=precision, training__num_steps_train=steps, training__steps_per_logging=1,
                   training__steps_per_eval=100, training__num_steps_eval=1, evaluation__n_images=2, sampling__n_images=1, **keys)
    assert run(text=json.dumps(a), seconds=500).returncode == 0
    said = events(folder, 1)
    assert [e["backend"] for e in said if e["type"] == "start"] == [backend.replace("cuda", "cuda-emu")]
    return [v for e in said if e["type"] == "scalars" for v in e["columns"].get("train/bpd", [])]


def test_training_on_the_emulated_device_is_training_on_the_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("MULUN_MODULES", modules(tmp_path))
    values = {backend: train_on(tmp_path / backend, backend, "float32", 20) for backend in ("cpu", "cuda")}
    # what sums of float32 in another order leave after 20 updates: 1.7e-9 seen, a unit in the last place is 6e-8
    assert len(values["cpu"]) == 20 and values["cuda"] == pytest.approx(values["cpu"], rel=1e-7)


def test_tf32_rounds_factors_where_a_gpu_is_faster_so(tmp_path, monkeypatch):
    monkeypatch.setenv("MULUN_MODULES", modules(tmp_path))
    fast = {"optimizer__learning_rate": 0.01}  # the networks' last layers begin at zero
    exact, rounded = (train_on(tmp_path / name, "cuda", name, 5, **fast) for name in ("float32", "tf32"))
    assert rounded != pytest.approx(exact, rel=1e-7) and rounded == pytest.approx(exact, rel=1e-2)
    assert train_on(tmp_path / "cpu", "cpu", "tf32", 5, **fast) == train_on(tmp_path / "cpu-32", "cpu", "float32", 5, **fast)


@pytest.mark.parametrize("asked, kind, text", [
    ("open:1:100", "device", "no CUDA-capable device is detected (cudaErrorNoDevice)"),
    ("open:2:46", "device", "busy or unavailable (cudaErrorDevicesUnavailable)"),
    ("memory:1:2", "memory", "out of memory (cudaErrorMemoryAllocation)"), ("memory:2:2", "memory", "MiB left"),
    ("memory:6:2", "memory", "MiB left"), ("memory:3:214", "device", "uncorrectable ECC error encountered (cudaErrorECCUncorrectable)"),
    ("launch:30:700", "device", "illegal memory access was encountered (cudaErrorIllegalAddress)"), ("launch:90:1", "host", "cudaErrorInvalidValue"),
    ("wait:2:214", "device", "cudaErrorECCUncorrectable"), ("wait:12:702", "device", "the launch timed out and was terminated (cudaErrorLaunchTimeout)"),
    ("wait:12:719", "device", "unspecified launch failure (cudaErrorLaunchFailure)"), ("wait:11:999", "device", "cudaErrorUnknown")])
def test_a_failing_device_is_named_and_is_not_the_jobs_fault(tmp_path, monkeypatch, asked, kind, text):
    monkeypatch.setenv("MULUN_MODULES", modules(tmp_path))
    monkeypatch.setenv("EMU_FAIL", asked)
    a = assignment(tmp_path, 1, machine__backend="cuda", training__num_steps_train=2, training__steps_per_eval=100, evaluation__n_images=2,
                   sampling__n_images=1)
    assert run(text=json.dumps(a), seconds=500).returncode == 1
    failure = events(tmp_path, 1)[-1]
    assert failure["type"] == "error" and failure["class"] == kind and text in failure["detail"]


def test_estimate():
    need = {kind: json.loads(run("--estimate", kind, text=json.dumps(CONFIG)).stdout)["bytes"] for kind in ("train", "evaluate", "sample")}
    assert need["train"] > need["evaluate"] > 0 and need["sample"] > 0
    for text in ("", "{", "[1]", '{"model": {"sm_n_embd": 1}}'):
        r = run("--estimate", "train", text=text)
        assert r.returncode == 1 and json.loads(r.stdout)["error"]["detail"]


def test_what_does_not_fit_is_told_what_would():
    def ask(room, kind="train", **keys):
        return json.loads(run("--estimate", kind, str(room), text=json.dumps(assignment("", 1, **keys)["config"])).stdout)

    keys = {"training__batch_size_train": 12, "training__batch_size_eval": 1, "sampling__n_images": 1}
    need = ask(1 << 40, **keys)
    assert need["advice"] == ""
    room = need["bytes"] * 3 // 4
    words = ask(room, **keys)["advice"]
    batch, parts = re.fullmatch(r"training.batch_size_train (\d+)(?:,| or) training.n_micro_batches (\d+)(?: or machine.recompute \"block\")? would fit", words).groups()
    assert ask(room, **{**keys, "training__batch_size_train": int(batch)})["bytes"] <= room
    assert ask(room, **{**keys, "training__batch_size_train": int(batch) + 1})["bytes"] > room
    assert ask(room, **{**keys, "training__n_micro_batches": int(parts)})["bytes"] <= room
    assert (ask(room, **{**keys, "machine__recompute": "block"})["bytes"] <= room) == ("block" in words)
    assert ask(1 << 20, **keys)["advice"] == "no batch fits"
    assert ask(1, "sample", **keys)["advice"] == ""


@pytest.mark.parametrize("args", [["--nonsense"], ["--describe"], ["--estimate", "dance"], ["--estimate", "train", "much"], ["--bench", "--embd"], ["--bench", "--embd", "x"],
                                  ["--bench", "--embd", "33"], ["--bench", "--steps", "0"]])
def test_usage_errors(args):
    assert run(*args).returncode == 2


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
