"""Devices: parts of the processor and GPUs, several jobs at once, in and out of service."""
import json
import os
import re
import subprocess
import time

import pytest
import requests

from service import SLOW, TRAIN, rows, waits, wall

CPUS = sorted(os.sched_getaffinity(0))
GPUS = {"devices": [{"backend": "cpu", "index": 0, "name": "A processor", "uuid": "", "memory_total": 1 << 40},
                    {"backend": "cuda", "index": 0, "name": "A GPU", "uuid": "GPU-1234", "memory_total": 1 << 33},
                    {"backend": "cuda", "index": 1, "name": "A GPU", "uuid": "GPU-5678", "memory_total": 1 << 34}]}
WAIT = [["start"], ["flush"], ["hang"]]


@pytest.fixture
def halves(service):
    """Two devices, a core each (the same one, where there is only one)."""
    return ["--device", f"left=cpu:{CPUS[0]}", "--device", f"right=cpu:{CPUS[-1]}"]


def devices(service):
    return {d["name"]: d for d in service.get("/v1/devices")["devices"]}


def act(service, name, action, body=None, expect=200):
    r = requests.post(f"{service.url}/v1/devices/{name}/{action}", json=body or {}, timeout=60)
    assert r.status_code == expect, r.text
    return r.json()


def allocated(service, job):
    return [a["devices"] for a in service.get(f"/v1/jobs/{job}/attempts")["attempts"]]


def test_two_jobs_run_side_by_side_each_on_its_cores(service, halves):
    service.script([WAIT])
    service.start(*halves)
    a, b, c = (service.submit() for _ in range(3))
    service.wait(a, "running"), service.wait(b, "running")
    pids = service.until(lambda: (lambda p: p if len(p) == 2 else None)(service.worker_pids()))
    assert sorted(map(tuple, (os.sched_getaffinity(p) for p in pids))) == sorted([(CPUS[0],), (CPUS[-1],)])
    assert allocated(service, a) == [["left"]] and allocated(service, b) == [["right"]]
    d = devices(service)
    assert (d["left"]["job"], d["right"]["job"], d["left"]["state"], d["left"]["kind"]) == (a, b, "busy", "cpu")
    assert d["left"]["cores"] == str(CPUS[0])
    why = service.job(c)["waiting"]
    assert why["reason"] == "no_free_device" and sorted(why["blocked_by"]) == [a, b] and why["position"] == 1
    assert os.sched_getaffinity(service.process.pid) == set(CPUS), "the daemon has all of them again"
    service.until(lambda: all(seq > 0 for seq, in rows(service, "SELECT last_seq FROM attempt")))
    service.kill()
    service.start(*halves)
    service.post(f"/v1/jobs/{b}/cancel", expect=200)
    service.wait(c, "running")
    assert allocated(service, c) == [["right"]] and service.job(a)["state"] == "running", "each was found again where it runs"


def test_a_device_that_fails_leaves_the_other_alone(service, halves):
    service.script([[["exit", 3]], WAIT])
    service.script([WAIT], of=2)
    service.environment["MULUND_RETRY_MS"] = "60000"
    service.start(*halves)
    a = service.submit()
    assert service.until(lambda: waits(service, a, "retry"))
    assert service.until(lambda: devices(service)["left"]["state"] == "rests") and devices(service)["left"]["rests_until"]
    b, c = service.submit(seed=2), service.submit(seed=2)
    service.wait(b, "running")
    assert allocated(service, b) == [["right"]] and service.job(c)["state"] == "queued"


def test_gpus_are_found_and_jobs_go_where_their_configuration_says(service):
    service.environment["SCRIPT_PROBE"] = json.dumps(GPUS)
    service.environment["CUDA_VISIBLE_DEVICES"] = "nonsense"
    service.script([WAIT])
    service.start()
    d = devices(service)
    assert list(d) == ["cpu", "gpu0", "gpu1"] and d["gpu1"]["uuid"] == "GPU-5678" and d["gpu1"]["model"] == "A GPU" and d["gpu1"]["memory_bytes"] == 1 << 34
    on_gpu = [service.submit(overrides={"machine.backend": "cuda"}) for _ in range(3)]
    on_cpu = [service.submit(overrides={"machine.backend": backend}) for backend in ("auto", "cpu")]
    for job, device in ((on_gpu[0], "gpu0"), (on_gpu[1], "gpu1"), (on_cpu[0], "cpu")):
        service.wait(job, "running")
        assert allocated(service, job) == [[device]]
    pids = service.until(lambda: (lambda p: p if len(p) == 3 else None)(service.worker_pids()))
    seen = set()
    for pid in pids:
        with open(f"/proc/{pid}/environ", "rb") as f:
            seen |= set(re.findall(rb"CUDA_VISIBLE_DEVICES=([^\0]*)", f.read()))
    assert seen == {b"GPU-1234", b"GPU-5678", b"nonsense"}
    assert sorted(service.job(on_gpu[2])["waiting"]["blocked_by"]) == on_gpu[:2]
    assert service.job(on_cpu[1])["waiting"]["blocked_by"] == [on_cpu[0]] and service.job(on_cpu[1])["waiting"]["position"] == 1


def test_a_job_for_a_gpu_waits_where_there_is_none(service):
    service.script([TRAIN])
    service.start()
    job = service.submit(overrides={"machine.backend": "cuda"})
    assert service.job(job)["waiting"]["reason"] == "device_constraint"
    service.wait(service.submit(), "succeeded")
    service.kill()
    service.environment["SCRIPT_PROBE"] = json.dumps(GPUS)
    service.start()
    service.wait(job, "succeeded")


def test_out_of_service_and_in_again(service, halves):
    service.script([SLOW, TRAIN])
    service.script([WAIT], of=2)
    service.start(*halves)
    a = service.submit(100)
    service.wait_step(a, 5)
    assert act(service, "right", "drain")["state"] == "drained"
    b = service.submit(seed=2)
    assert service.job(b)["waiting"]["reason"] == "no_free_device", "the right one takes nothing"
    assert act(service, "left", "drain")["state"] == "draining" and service.job(a)["state"] == "running"
    assert service.job(b)["waiting"]["reason"] == "drained"
    service.kill()
    service.start(*halves)
    assert devices(service)["right"]["state"] == "drained", "also after a restart"
    act(service, "left", "drain", {"preempt": True})
    service.wait(a, "queued")
    attempt = service.get(f"/v1/jobs/{a}/attempts")["attempts"][0]
    assert (attempt["outcome"], attempt["stop"]) == ("stopped", "preempt")
    assert act(service, "right", "enable")["state"] in ("idle", "busy")
    service.wait(a, "succeeded")
    steps = service.curve(a)["step"]
    assert allocated(service, a) == [["left"], ["right"]] and steps == list(range(len(steps))), "it went on elsewhere"
    service.wait(b, "running")
    act(service, "none", "drain", expect=404)
    act(service, "left", "drain", {"preempt": 1}, expect=422)
    act(service, "left", "enable", {"preempt": True}, expect=422)


def test_what_does_not_fit_beside_others_waits_for_memory(service, halves):
    service.script([WAIT])
    service.start(*halves)
    total = devices(service)["left"]["memory_bytes"]
    service.kill()
    service.environment["SCRIPT_ESTIMATE"] = json.dumps({"bytes": total // 3 * 2})
    service.start(*halves)
    a, b = service.submit(), service.submit(overrides={"training.batch_size_train": 4})
    service.wait(a, "running")
    why = service.job(b)["waiting"]
    assert why["reason"] == "too_little_memory" and why["blocked_by"] == [a] and why["detail"].startswith("it needs")
    service.post(f"/v1/jobs/{a}/cancel", expect=200)
    service.wait(b, "running")


WIDE = {"overrides": {"machine.devices": 2}}
NOTE = [[["assignment"], *WAIT]]


def assigned(service, job):
    """What its worker was given."""
    path = f"{service.state}/jobs/{job}/assignment.json"
    service.until(lambda: os.path.exists(path))
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def test_a_wide_job_gets_all_its_devices(service, halves):
    service.script(NOTE)
    service.start(*halves)
    a = service.submit(**WIDE)
    service.wait(a, "running")
    assert allocated(service, a) == [["left", "right"]]
    assert [r for r, in rows(service, "SELECT ranks FROM attempt")] == [2]
    assert {d["job"] for d in devices(service).values()} == {a}
    given = assigned(service, a)
    assert given["devices"] == [{"name": "left", "place": str(CPUS[0])}, {"name": "right", "place": str(CPUS[-1])}]
    pid, = service.worker_pids()
    assert os.sched_getaffinity(pid) == {CPUS[0], CPUS[-1]}
    b = service.submit()
    why = service.job(b)["waiting"]
    assert why["reason"] == "no_free_device" and why["blocked_by"] == [a], "once, though it is on two devices"
    service.until(lambda: all(seq > 0 for seq, in rows(service, "SELECT last_seq FROM attempt")))
    service.kill()
    service.start(*halves)
    assert {d["job"] for d in devices(service).values()} == {a}, "found again on both"
    service.post(f"/v1/jobs/{a}/cancel", expect=200)
    service.wait(b, "running")
    assert "devices" not in assigned(service, b)


def test_narrow_jobs_do_not_keep_a_wide_one_waiting(service, halves):
    service.script(NOTE)
    service.start(*halves)
    a, b = service.submit(), service.submit()
    service.wait(a, "running"), service.wait(b, "running")
    wide, narrow = service.submit(**WIDE), service.submit()
    service.post(f"/v1/jobs/{a}/cancel", expect=200)
    service.until(lambda: devices(service)["left"]["state"] == "idle")
    why = service.job(wide)["waiting"]
    assert why["reason"] == "no_free_device" and why["blocked_by"] == [b] and "2 devices are free" in why["detail"]
    held = service.job(narrow)["waiting"]
    assert held["reason"] == "reservation" and held["blocked_by"] == [wide] and devices(service)["left"]["state"] == "idle"
    service.post(f"/v1/jobs/{b}/cancel", expect=200)
    service.wait(wide, "running")
    assert service.job(narrow)["state"] == "queued"


def test_a_narrow_job_that_is_over_in_time_runs_before_a_wide_one(service, halves):
    """By what its like has taken; and a limit of wall time only makes that shorter."""
    service.script([[["start"], ["event", {"type": "progress", "step": 1, "steps": 100, "images_per_second": 1.0, "seconds_left": 600.0}], ["flush"], ["hang"]]])
    service.script([TRAIN], of=2)
    service.script([WAIT], of=3)
    service.start(*halves)
    service.wait(service.submit(seed=2), "succeeded")
    runs = service.submit()
    service.until(lambda: service.job(runs)["progress"]["seconds_left"] == 600.0)
    wide = service.submit(seed=3, **WIDE)
    quick = service.submit(seed=2)
    assert service.wait(quick, "succeeded")["attempts"] == 1 and service.job(wide)["state"] == "queued"
    begins = wall(service.job(wide)["waiting"]["earliest_start"])
    assert 500 < begins - time.time() < 601, "the reservation is when what runs will be over"
    slow = service.submit(10000000, seed=2)
    held = service.until(lambda: (lambda w: w if w and w["reason"] == "reservation" else None)(service.job(slow)["waiting"]))
    assert held["blocked_by"] == [wide] and service.job(slow)["state"] == "queued"
    limited = service.submit(10000000, seed=3, limits={"wall": 100})
    service.wait(limited, "running")
    assert {service.job(j)["state"] for j in (wide, slow)} == {"queued"}
    for job in (runs, limited):
        service.post(f"/v1/jobs/{job}/cancel", expect=200)
    service.wait(wide, "running")
    assert allocated(service, wide) == [["left", "right"]] and service.job(slow)["state"] == "queued"


def test_what_takes_longer_than_it_said_makes_no_room_before_a_wide_job(service, halves):
    """A wide job's reservation may come later; who runs before it is over by the time that was said first."""
    def left(seconds):
        return ["event", {"type": "progress", "step": 1, "steps": 100, "images_per_second": 1.0, "seconds_left": seconds}]

    go = service.root + "/go"
    service.script([[["start"], left(3000.0), ["flush"], ["wait_file", go], left(90000.0), ["flush"], ["hang"]]])
    service.script([WAIT], of=3)
    service.start(*halves)
    runs = service.submit()
    service.until(lambda: service.job(runs)["progress"]["seconds_left"] == 3000.0)
    wide = service.submit(seed=3, **WIDE)

    def begins():
        when = wall(service.job(wide)["waiting"]["earliest_start"])
        return when and when - time.time()

    service.until(begins)
    with open(go, "w"):
        pass
    service.until(lambda: begins() > 80000)
    long, short = (service.submit(10000000, seed=3, limits={"wall": wall}) for wall in (20000, 100))
    service.wait(short, "running")
    assert service.job(long)["state"] == "queued" and service.job(long)["waiting"]["blocked_by"]
    for job in (runs, short):
        service.post(f"/v1/jobs/{job}/cancel", expect=200)
    service.wait(wide, "running")


def test_a_job_that_is_too_wide_holds_up_nobody(service, halves):
    service.script([TRAIN])
    service.start(*halves)
    wide = service.submit(overrides={"machine.devices": 4})
    service.wait(service.submit(), "succeeded")
    why = service.job(wide)["waiting"]
    assert why["reason"] == "device_constraint" and "4 devices" in why["detail"] and "has 2" in why["detail"]
    act(service, "left", "drain")
    other = service.submit(**WIDE)
    service.wait(service.submit(), "succeeded")
    assert service.job(other)["waiting"]["reason"] == "drained"
    act(service, "left", "enable")
    service.wait(other, "succeeded")


def test_gpus_of_a_wide_job_are_alike(service):
    probe = json.loads(json.dumps(GPUS))
    probe["devices"] += [{**probe["devices"][1], "index": 2, "name": "Another GPU", "uuid": "GPU-9"}]
    probe["devices"][1]["name"] = "Another GPU"
    service.environment["SCRIPT_PROBE"] = json.dumps(probe)
    service.script(NOTE)
    service.start()
    job = service.submit(overrides={"machine.backend": "cuda", "machine.devices": 2})
    service.wait(job, "running")
    assert allocated(service, job) == [["gpu0", "gpu2"]]
    given = assigned(service, job)
    assert [d["place"] for d in given["devices"]] == ["GPU-1234", "GPU-9"]


def test_ranks_on_the_processor_need_its_memory_together(service, halves):
    service.script([WAIT])
    service.start(*halves)
    total = devices(service)["left"]["memory_bytes"]
    service.kill()
    service.environment["SCRIPT_ESTIMATE"] = json.dumps({"bytes": total // 3 * 2})
    service.start(*halves)
    r = requests.post(f"{service.url}/v1/jobs", timeout=60, json={
        "kind": "train", "config": {"data": {"dataset": "scripted"}, "training": {"batch_size_train": 8, "num_steps_eval": 0},
                                      "machine": {"devices": 2}}})
    assert r.status_code == 422 and "bytes of memory" in r.text


@pytest.mark.parametrize("option, error", [("x", "expected NAME=VALUE"), ("x=cpu:", "expected cpu:CORES"), ("x=gpu:0", "expected cpu:CORES"),
                                           ("x=cpu:a", "expected cores"), ("x=cpu:3-1", "expected cores"), ("x=cpu:0,", "expected cores"),
                                           ("x y=cpu:0", "a name has letters"), ("x=cpu:1000", "not all of the cores"), ("x=cuda:7", "there is no GPU 7")])
def test_devices_that_are_not_there_are_said(service, option, error):
    r = subprocess.run(service.command("--device", option), capture_output=True, text=True, env={**os.environ, **service.environment}, timeout=60)
    assert r.returncode != 0 and error in r.stderr


def test_a_worker_that_cannot_say_which_there_are_runs_on_the_processor(service):
    service.environment["SCRIPT_PROBE"] = "Traceback"
    service.script([TRAIN])
    service.start()
    assert list(devices(service)) == ["cpu"] and "which devices there are is not known" in service.logged()
    service.wait(service.submit(), "succeeded")
