"""What a person does to a job: pause, resume, change; priorities, dependencies, limits; and what is said of it later."""
import concurrent.futures
import os
import signal
import time

import pytest
import requests

from service import SLOW, TRAIN, rows, waits, wall

NO_LIMITS = {"wall": None, "device_seconds": None, "steps": None, "failures": None}


def patch(service, job, body, expect=200, **headers):
    r = requests.patch(f"{service.url}/v1/jobs/{job}", json=body, headers=headers, timeout=60)
    assert r.status_code == expect, r.text
    return r.json()


def attempts(service, job):
    return service.get(f"/v1/jobs/{job}/attempts")["attempts"]


def triggers(service, job):
    return [e["trigger"] for e in service.get(f"/v1/jobs/{job}/events")["events"]]


def test_a_running_job_pauses_after_a_checkpoint_and_goes_on(service):
    service.script([SLOW, [["start"], ["train", 60, 0.001], ["done", {"bpd": 2.5}]]])
    service.start()
    job = service.submit(60)
    service.wait_step(job, 5)
    j = service.post(f"/v1/jobs/{job}/pause", expect=200).json()
    assert j["state"] == "paused" or (j["state"], j["stopping"], j["cancel_requested"]) == ("running", "pause", False)
    j = service.wait(job, "paused")
    assert j["paused"] == {"reason": "pause", "detail": None} and j["stopping"] is None and j["ended"] is None and j["waiting"] is None
    stopped = j["progress"]["step"]
    assert [a["step"] for a in service.artifacts(job)] == [stopped], "a checkpoint where it stopped"
    time.sleep(0.3)
    assert service.job(job)["state"] == "paused", "until it is resumed"
    service.post(f"/v1/jobs/{job}/pause", expect=409)
    service.post(f"/v1/jobs/{job}/retry", expect=409)
    assert service.post(f"/v1/jobs/{job}/resume", expect=200).json()["started"] == j["started"]
    service.wait(job, "succeeded")
    first, second = attempts(service, job)
    assert (first["outcome"], first["stop"], first["class"], first["devices"], first["ranks"]) == ("stopped", "pause", None, ["cpu"], 1)
    assert first["last_step"] == stopped == second["first_step"] and first["boot"] and first["ended"]
    assert (second["outcome"], second["stop"], second["last_step"]) == ("done", None, 60)
    assert service.curve(job)["step"] == list(range(60))
    assert triggers(service, job) == ["submit", "start", "ask_pause", "pause", "resume", "start", "done"]


def test_a_queued_job_pauses_at_once_and_a_paused_one_can_be_cancelled(service):
    service.script([SLOW])
    service.start()
    running = service.submit()
    service.wait(running, "running")
    queued = service.submit()
    assert service.post(f"/v1/jobs/{queued}/pause", expect=200).json()["state"] == "paused"
    assert "cancel it before" in requests.delete(f"{service.url}/v1/jobs/{queued}", timeout=60).text
    assert service.post(f"/v1/jobs/{queued}/resume", expect=200).json()["state"] == "queued"
    service.post(f"/v1/jobs/{queued}/pause", expect=200)
    assert service.post(f"/v1/jobs/{queued}/cancel", expect=200).json()["state"] == "cancelled"
    service.post(f"/v1/jobs/{queued}/pause", expect=409)
    service.post("/v1/jobs/999/pause", expect=404)


def test_cancel_overrides_a_pause_and_not_the_other_way_round(service):
    service.script([[["start"], ["flush"], ["hang"]]])
    service.start()
    job = service.submit()
    service.wait(job, "running")
    service.until(lambda: service.worker_pids())
    assert service.post(f"/v1/jobs/{job}/pause", expect=200).json()["stopping"] == "pause"
    assert service.post(f"/v1/jobs/{job}/cancel", expect=200).json()["stopping"] == "cancel"
    assert "cancelled" in service.post(f"/v1/jobs/{job}/pause", expect=409).json()["detail"]
    service.wait(job, "cancelled")
    a, = attempts(service, job)
    assert (a["outcome"], a["stop"]) == ("stopped", "cancel") and "killed by the daemon" in a["detail"]


def test_one_that_does_not_stop_in_time_is_paused_all_the_same(service):
    service.script([[["start"], ["scalars", None, 10], ["checkpoint", 10], ["flush"], ["hang"]], [["start"], ["scalars", None, 20], ["done"]]])
    service.start()
    job = service.submit(20)
    service.until(lambda: service.artifacts(job))
    service.post(f"/v1/jobs/{job}/pause", expect=200)
    service.wait(job, "paused")
    service.post(f"/v1/jobs/{job}/resume", expect=200)
    service.wait(job, "succeeded")
    assert service.curve(job)["step"] == list(range(20))


@pytest.mark.parametrize("action, state", [("pause", "paused"), ("cancel", "cancelled")])
def test_a_daemon_killed_meanwhile_goes_on_with_it(service, action, state):
    service.script([[["start"], ["flush"], ["hang"]]])
    service.start()
    job = service.submit()
    service.wait(job, "running")
    service.until(service.worker_pids)
    service.post(f"/v1/jobs/{job}/{action}", expect=200)
    service.kill()
    service.start()
    service.wait(job, state)
    assert service.worker_pids() == [] and service.job(job)["attempts"] == 1
    service.kill()
    service.start()
    assert service.job(job)["state"] == state


def test_any_kind_of_job_can_be_paused_and_resumed(service):
    service.script([[["start"], ["checkpoint", 10], ["done"]]])
    service.start()
    train = service.submit(10)
    service.wait(train, "succeeded")
    service.script([SLOW, [["start"], ["done", {"bpd": 1.0}]]])
    job = service.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": train}}, expect=201).json()["id"]
    service.wait_step(job, 1)
    service.post(f"/v1/jobs/{job}/pause", expect=200)
    service.wait(job, "paused")
    assert "reads its checkpoint" in requests.delete(f"{service.url}/v1/jobs/{train}", timeout=60).text
    service.post(f"/v1/jobs/{job}/resume", {"steps": 5}, expect=422)
    service.post(f"/v1/jobs/{job}/resume", expect=200)
    assert service.wait(job, "succeeded")["result"] == {"bpd": 1.0}


def test_a_job_that_was_paused_at_its_last_step_comes_to_its_end(service):
    service.script([[["start"], ["scalars", 0, 20], ["wait_file", service.root + "/asked"], ["train", 21, 60]], [["start"], ["done", {"bpd": 2.0}]]])
    service.start()
    job = service.submit(20)
    service.wait(job, "running")
    service.until(lambda: service.curve(job)["points_total"] == 20)
    service.post(f"/v1/jobs/{job}/pause", expect=200)
    time.sleep(0.3)
    open(service.root + "/asked", "w").close()
    j = service.wait(job, "paused")
    assert service.artifacts(job)[0]["step"] == 20 and j["state"] == "paused"
    service.post(f"/v1/jobs/{job}/resume", {"steps": 20}, expect=422)
    service.post(f"/v1/jobs/{job}/resume", expect=200)
    assert service.wait(job, "succeeded")["result"] == {"bpd": 2.0}


def test_failures_are_in_their_attempt_with_class_and_blame(service):
    service.script([[["exit", 3]], [["start"], ["error", "device", "no light", 4]], [["start"], ["flush"], ["crash"]],
                    [["start"], ["error", "numeric", "the loss is NaN", 7]]])
    service.environment["MULUND_RETRY_MS"] = "20"
    service.start()
    job = service.submit()
    service.wait(job, "failed")
    got = [(a["outcome"], a["class"], a["blame"]) for a in attempts(service, job)]
    assert got == [("failed", "host", "host"), ("failed", "device", "device"), ("failed", "lost", "host"), ("failed", "numeric", "job")]
    details = [a["detail"] for a in attempts(service, job)]
    assert "exit code 3" in details[0] and details[1] == "no light" and "signal 9" in details[2] and details[3] == "the loss is NaN"


def test_the_daemons_end_is_the_reason_of_a_stop(service):
    service.script([SLOW, TRAIN])
    service.start()
    job = service.submit(100)
    service.wait_step(job, 3)
    service.post("/v1/stop", expect=202)
    assert service.process.wait(10) == 0
    service.start()
    service.wait(job, "succeeded")
    a = attempts(service, job)
    assert [(x["outcome"], x["stop"]) for x in a] == [("stopped", "shutdown"), ("done", None)]


# ---- priorities and changes


def test_priority_then_submission_decides_who_is_next(service):
    service.script([[["start"], ["wait_file", service.root + "/go"], ["done"]]])
    service.script([TRAIN], of=2)
    service.start()
    first = service.submit()
    service.wait(first, "running")
    low, a, b, high = (service.submit(seed=2, priority=p) for p in (-5, 0, 0, 7))
    assert [service.job(j)["waiting"]["position"] for j in (high, a, b, low)] == [1, 2, 3, 4]
    assert service.job(high)["waiting"]["reason"] == "no_free_device" and service.job(high)["waiting"]["blocked_by"] == [first]
    assert service.job(low)["waiting"]["reason"] == "priority" and service.job(low)["waiting"]["blocked_by"] == [high]
    assert patch(service, low, {"priority": 3})["waiting"]["position"] == 2
    patch(service, b, {"priority": 3})
    open(service.root + "/go", "w").close()
    for j in (low, a, b, high):
        service.wait(j, "succeeded")
    started = {j: service.job(j)["started"] for j in (low, a, b, high)}
    assert sorted(started, key=started.get) == [high, low, b, a]


def test_patch_changes_what_it_names_and_counts_versions(service):
    service.script([SLOW])
    service.start()
    job = service.submit(name="x", tags=["a"])
    assert service.job(job)["version"] == 1
    j = patch(service, job, {"notes": "one\ntwo", "limits": {"steps": 100000}})
    assert (j["name"], j["tags"], j["notes"], j["limits"], j["version"]) == ("x", ["a"], "one\ntwo", {**NO_LIMITS, "steps": 100000}, 2)
    j = patch(service, job, {"tags": ["b", "c", "b"], "name": "", "limits": {"wall": 9999}}, **{"If-Match": '"2"'})
    assert (j["name"], j["tags"], j["limits"], j["version"]) == ("", ["b", "c"], {**NO_LIMITS, "wall": 9999, "steps": 100000}, 3)
    patch(service, job, {"name": "late"}, 412, **{"If-Match": '"2"'})
    assert [x["id"] for x in service.get("/v1/jobs", tag="b")["jobs"]] == [job] and service.get("/v1/jobs", tag="a")["jobs"] == []
    assert patch(service, job, {"limits": {"wall": None}})["limits"] == {**NO_LIMITS, "steps": 100000}
    patch(service, 999, {"name": "none"}, 404)
    for body, pointer in (({"priority": 1001}, "/priority"), ({"priority": 1.5}, "/priority"), ({"limits": {"wall": 0}}, "/limits/wall"),
                          ({"limits": {"x": 1}}, "/limits/x"), ({"limits": 5}, "/limits"), ({"notes": "a\0b"}, "/notes"), ({"name": " "}, "/name"),
                          ({"tags": [""]}, "/tags/0"), ({"state": "paused"}, "/state"), ({}, "")):
        assert patch(service, job, body, 422)["errors"][0]["pointer"] == pointer
    service.post(f"/v1/jobs/{job}/cancel", expect=200)
    service.wait(job, "cancelled")
    assert patch(service, job, {"name": "done with", "notes": ""})["name"] == "done with"
    assert patch(service, job, {"priority": 1}, 409)["detail"].startswith("the job is cancelled")
    assert "set" in triggers(service, job)


# ---- dependencies


def test_a_job_waits_until_all_it_names_have_succeeded(service):
    service.script([[["start"], ["wait_file", service.root + "/go"], ["done"]]])
    service.script([[["start"], ["error", "numeric", "no", 1]], TRAIN], of=2)
    service.start()
    a, b = service.submit(), service.submit(seed=2)
    job = service.submit(seed=2, after=[a, b, a], priority=9)
    j = service.job(job)
    assert j["after"] == [a, b] and j["waiting"]["reason"] == "dependency" and j["waiting"]["blocked_by"] == [a, b]
    assert j["waiting"]["position"] is None
    open(service.root + "/go", "w").close()
    service.wait(b, "failed")
    why = service.until(lambda: (lambda w: w if w["blocked_by"] == [b] else None)(service.job(job)["waiting"]))
    assert why["detail"] == f"job {b} is failed: retry it, or cancel this one"
    assert requests.delete(f"{service.url}/v1/jobs/{a}", timeout=60).status_code == 204, "it is met already"
    assert f"({job}) waits for it" in requests.delete(f"{service.url}/v1/jobs/{b}", timeout=60).json()["detail"]
    service.kill()
    service.start()
    assert service.job(job)["waiting"]["reason"] == "dependency"
    service.post(f"/v1/jobs/{b}/retry", expect=200)
    service.wait(b, "succeeded")
    service.wait(job, "failed")
    assert requests.delete(f"{service.url}/v1/jobs/{b}", timeout=60).status_code == 204


@pytest.mark.parametrize("action", ["retry", "resume"])
def test_who_waits_for_a_removed_job_is_not_taken_again(service, action):
    """It would wait for ever."""
    service.script([SLOW])
    service.start()
    first = service.submit()
    second = service.submit(after=[first])
    service.post("/v1/jobs/cancel", {"filter": {"kind": ["train"]}}, expect=200)
    service.wait(first, "cancelled")
    assert service.job(second)["state"] == "cancelled"
    assert service.until(lambda: requests.delete(f"{service.url}/v1/jobs/{first}", timeout=60).status_code == 204)
    answer = service.post(f"/v1/jobs/{second}/{action}", expect=422).json()
    assert f"it waits for job {first}, which was removed" in answer["errors"][0]["detail"] and service.job(second)["state"] == "cancelled"


def test_after_names_jobs_that_are_there(service):
    service.script([TRAIN])
    service.start()
    a = service.submit()
    service.wait(a, "succeeded")
    config = {"data": {"dataset": "scripted"}, "training": {"batch_size_train": 8, "num_steps_eval": 0}}
    for after, pointer in (([a, 77], "/after/1"), ("1", "/after"), ([0], "/after/0"), ([1.5], "/after/0"), (list(range(1, 34)), "/after")):
        r = service.post("/v1/jobs", {"kind": "train", "config": config, "after": after}, expect=422)
        assert r.json()["errors"][0]["pointer"] == pointer
    assert service.wait(service.submit(after=[a]), "succeeded")["after"] == [a]


# ---- limits


def test_a_job_pauses_at_its_limit_of_steps(service):
    service.script([SLOW, SLOW, TRAIN])
    service.start()
    job = service.submit(100, limits={"steps": 10})
    j = service.wait(job, "paused")
    assert j["paused"]["reason"] == "limit" and "limit of 10 steps is reached" in j["paused"]["detail"] and j["progress"]["step"] >= 10
    assert service.artifacts(job)[0]["step"] == j["progress"]["step"]
    a, = attempts(service, job)
    assert (a["outcome"], a["stop"]) == ("stopped", "limit")
    r = service.post(f"/v1/jobs/{job}/resume", expect=422).json()
    assert r["errors"][0]["pointer"] == "/limits/steps"
    service.post(f"/v1/jobs/{job}/resume", {"limits": {"steps": j["progress"]["step"] + 10}}, expect=200)
    j = service.wait(job, "paused")
    patch(service, job, {"limits": {"steps": None}})
    service.post(f"/v1/jobs/{job}/resume", expect=200)
    service.wait(job, "succeeded")


def test_a_job_pauses_when_its_attempts_have_run_long_enough(service):
    service.script([SLOW, SLOW])
    service.start()
    job = service.submit(100000, limits={"wall": 1})
    begin = time.monotonic()
    j = service.wait(job, "paused")
    assert 0.5 < time.monotonic() - begin < 5 and "limit of 1 s is used up" in j["paused"]["detail"]
    service.post(f"/v1/jobs/{job}/resume", {"limits": {"wall": 9999}}, expect=200)
    service.wait_step(job, j["progress"]["step"] + 3)
    service.kill()
    service.start()
    patch(service, job, {"limits": {"wall": 2}})
    assert service.wait(job, "paused")["attempts"] == 2, "of all its attempts together, by an adopted worker"
    assert "ask_limit" in triggers(service, job)


def test_time_in_which_nobody_computed_is_not_the_jobs(service):
    """The machine was off for a while: that uses up no limit, and is no part of the attempt."""
    service.script([SLOW, SLOW])
    service.start()
    job = service.submit(100000, limits={"wall": 5})
    service.wait_step(job, 30)
    service.kill()
    for pid in service.worker_pids():
        os.kill(pid, signal.SIGKILL)
    time.sleep(6)
    service.start()
    j = service.wait_step(job, service.job(job)["progress"]["step"] + 10)
    assert j["state"] == "running" and j["attempts"] == 2
    a = attempts(service, job)[0]
    assert a["outcome"] == "failed" and wall(a["ended"]) - wall(a["started"]) < 5


@pytest.mark.skipif("TEST_CLOCK_LIBRARY" not in os.environ, reason="run by meson, without a sanitizer")
def test_a_clock_that_is_set_uses_up_no_limit(service):
    """As a machine without one does that has found a server of time."""
    clock = service.root + "/clock"

    def off_by(days):
        with open(clock + ".new", "w") as f:
            f.write(str(days * 86400))
        os.rename(clock + ".new", clock)

    service.environment |= {"LD_PRELOAD": os.environ["TEST_CLOCK_LIBRARY"], "TEST_CLOCK": clock}
    service.script([SLOW, SLOW])
    off_by(-300)
    service.start()
    job = service.submit(100000, limits={"wall": 3600})
    service.wait_step(job, 30)
    off_by(0)
    j = service.wait_step(job, service.job(job)["progress"]["step"] + 50)
    service.kill()
    service.start()
    j = service.wait_step(job, j["progress"]["step"] + 20)
    assert j["state"] == "running" and j["attempts"] == 1
    off_by(-300)
    service.post(f"/v1/jobs/{job}/pause", expect=200)
    service.wait(job, "paused")
    a, = service.until(lambda: [x for x in attempts(service, job) if x["ended"]])
    assert 0 < wall(a["ended"]) - wall(a["started"]) < 100
    service.post(f"/v1/jobs/{job}/resume", expect=200)
    service.wait(job, "running")


def test_a_job_pauses_when_its_devices_together_have_run_long_enough(service):
    """Two devices use two seconds in one; what was asked of another day counts as well."""
    service.script([SLOW, SLOW])
    cores = sorted(os.sched_getaffinity(0))
    service.start("--device", f"one=cpu:{cores[0]}", "--device", f"two=cpu:{cores[-1]}")
    job = service.submit(100000, overrides={"machine.devices": 2}, limits={"device_seconds": 2})
    began = time.monotonic()
    j = service.wait(job, "paused")
    assert 0.5 < time.monotonic() - began < 10 and "limit of 2 device seconds is used up" in j["paused"]["detail"]
    a, = attempts(service, job)
    assert (a["devices"], a["stop"], a["energy_j"]) == (["one", "two"], "limit", None)
    assert service.job(job)["devices"] == ["one", "two"] and service.job(job)["dataset"] == a["dataset"] == {
        "name": "scripted", "train": 1000, "test": 100, "digest": service.get("/v1/datasets")["datasets"][0]["digest"]}
    service.post("/v1/devices/one/drain", expect=200)
    waits = service.submit(overrides={"machine.devices": 2})
    assert (service.job(waits)["devices"], service.job(waits)["dataset"]) == ([], None)
    service.post(f"/v1/jobs/{waits}/cancel", expect=200)
    service.post("/v1/devices/one/enable", expect=200)
    assert service.post(f"/v1/jobs/{job}/resume", expect=422).json()["errors"][0]["pointer"] == "/limits/device_seconds"
    service.post(f"/v1/jobs/{job}/resume", {"limits": {"device_seconds": 4}}, expect=200)
    assert "limit of 4 device seconds" in service.until(lambda: (service.job(job)["paused"] or {}).get("detail"))


@pytest.mark.parametrize("end", [["crash"], ["error", "device", "the GPU is gone"]], ids=["lost", "device"])
def test_a_job_may_fail_so_often_and_then_has_failed(service, end):
    """Without that limit what is not its fault is made again for ever."""
    service.script([[["start"], ["scalars", None, 10], ["flush"], end]])
    service.environment["MULUND_RETRY_MS"] = "20"
    service.start()
    job = service.submit(limits={"failures": 3})
    j = service.wait(job, "failed", "succeeded")
    assert (j["state"], j["attempts"], j["error"]["class"]) == ("failed", 3, "lost" if end == ["crash"] else "device")
    assert "its limit of 3 failed attempts is reached: 3 of them failed" in j["error"]["detail"]
    assert [(a["outcome"], a["class"]) for a in attempts(service, job)] == [("failed", j["error"]["class"])] * 3
    r = service.post(f"/v1/jobs/{job}/retry", expect=422).json()
    assert r["errors"][0]["pointer"] == "/limits/failures"
    service.script([[["done"]]])
    service.post(f"/v1/jobs/{job}/retry", {"limits": {"failures": 4}}, expect=200)
    service.wait(job, "succeeded")


# ---- owners


def test_an_owner_has_so_many_devices_at_once_and_others_pass(service):
    go = service.root + "/go"
    service.script([[["start"], ["wait_file", go], ["done"]]])
    settings = service.root + "/mulund.conf"

    def write_settings(n):
        with open(settings, "w") as f:
            f.write(f"[jobs]\ndevices-per-owner = {n}\n")

    write_settings(1)
    cores = sorted(os.sched_getaffinity(0))
    service.start("--config", settings, "--device", f"left=cpu:{cores[0]}", "--device", f"right=cpu:{cores[-1]}")
    secrets = {name: service.post("/v1/tokens", {"name": name, "role": "submit"}, expect=201).json()["token"] for name in ("ada", "bob")}

    def submit(owner, n=1):
        config = {"data": {"dataset": "scripted"}, "training": {"num_steps_train": 10, "batch_size_train": 8, "num_steps_eval": 0}, "machine": {"devices": n}}
        r = requests.post(service.url + "/v1/jobs", json={"kind": "train", "config": config}, timeout=60, headers={"Authorization": f"Bearer {secrets[owner]}"})
        assert r.status_code == 201 and r.json()["owner"] == owner, r.text
        return r.json()["id"]

    first, second, wide, other = submit("ada"), submit("ada"), submit("ada", 2), submit("bob")
    service.wait(first, "running")
    service.wait(other, "running")
    assert "ada may have 1 device at once: jobs of that owner have 1, this one takes 1" == waits(service, second, "quota")
    assert service.job(second)["waiting"]["blocked_by"] == [first] and "takes 2" in waits(service, wide, "quota")
    nobodys = service.submit()
    assert service.job(nobodys)["owner"] is None and service.job(nobodys)["waiting"]["reason"] != "quota"
    open(go, "w").close()
    for job in (first, second, other, nobodys):
        service.wait(job, "succeeded")
    assert "takes 2" in service.until(lambda: waits(service, wide, "quota"))
    write_settings(2)
    service.process.send_signal(signal.SIGHUP)
    service.wait(wide, "succeeded")


# ---- what is kept


def test_a_filter_resumes_and_retries_what_it_fits_and_they_run(service):
    failing, fine = [["start"], ["error", "numeric", "diverged"]], TRAIN
    service.script([SLOW])
    for seed, script in ((2, [failing, fine]), (3, [fine])):
        service.script(script, of=seed)
    service.start()
    first = service.submit(100000)
    service.wait(first, "running", seconds=60)
    paused = [service.submit(seed=3, tags=["p"]) for _ in range(3)]
    cancelled = service.submit(seed=3, tags=["r"])
    failed = service.submit(seed=2, tags=["r"], priority=5)
    assert service.post("/v1/jobs/pause", {"filter": {"tag": "p"}}, expect=200).json() == {"matched": 3, "changed": 3, "refused": 0}
    service.post(f"/v1/jobs/{cancelled}/cancel", expect=200)
    service.post(f"/v1/jobs/{first}/cancel", expect=200)
    service.wait(failed, "failed", seconds=60)
    assert service.post("/v1/jobs/resume", {"filter": {"tag": "r"}}, expect=200).json()["matched"] == 0  # none is paused
    assert service.post("/v1/jobs/retry", {"filter": {"tag": "p"}}, expect=200).json()["matched"] == 0
    assert service.post("/v1/jobs/retry", {"filter": {"tag": "r"}}, expect=200).json() == {"matched": 2, "changed": 2, "refused": 0}
    assert service.post("/v1/jobs/resume", {"filter": {"tag": "p"}}, expect=200).json() == {"matched": 3, "changed": 3, "refused": 0}
    for job in (*paused, cancelled, failed):
        assert service.wait(job, "succeeded", seconds=60)["result"] == {"bpd": 3.5}
    assert service.job(failed)["attempts"] == 2 and service.job(paused[0])["attempts"] == 1
    assert [t for t in triggers(service, paused[0]) if t in ("pause", "resume")] == ["pause", "resume"]
    assert "retry" in triggers(service, cancelled) and "retry" in triggers(service, failed)
    actions = [a["action"] for a in service.get("/v1/audit", limit=1000)["audit"]]
    assert actions.count("POST /v1/jobs/retry") == 2 and actions.count("POST /v1/jobs/resume") == 3  # a row each


def test_events_come_in_pages(service):
    service.script([TRAIN])
    service.start()
    job = service.submit()
    service.wait(job, "succeeded")
    for i in range(5):
        patch(service, job, {"name": str(i)})
    got, after = [], 0
    while after is not None:
        page = service.get(f"/v1/jobs/{job}/events", limit=3, after=after)
        got += page["events"]
        after = page["next"]
    assert [e["trigger"] for e in got] == ["submit", "start", "done"] + ["set"] * 5
    assert [(e["from"], e["to"]) for e in got[:3]] == [(None, "queued"), ("queued", "running"), ("running", "succeeded")]
    assert got[3]["from"] == got[3]["to"] == "succeeded" and sorted(e["id"] for e in got) == [e["id"] for e in got]
    assert requests.get(f"{service.url}/v1/jobs/99/events", timeout=5).status_code == 404
    assert requests.get(f"{service.url}/v1/jobs/99/attempts", timeout=5).status_code == 404


def test_a_state_of_the_release_before_is_taken_over(service):
    """Its running job has no worker any more: it is queued again; its past is what it was."""
    here = os.path.dirname(os.path.abspath(__file__))
    os.makedirs(service.state)
    os.chmod(service.state, 0o700)
    with open(here + "/../store/release-0.1.sql") as f:
        import sqlite3
        with sqlite3.connect(service.state + "/mulund.db") as db:
            db.executescript(f.read())
        db.close()
    service.script([TRAIN])
    service.start()
    assert [a["outcome"] for a in attempts(service, 3)][0] == "failed"
    service.wait(3, "succeeded")
    service.wait(4, "succeeded")
    assert attempts(service, 2)[0]["class"] == "numeric"
    assert os.path.exists(service.state + "/mulund.db.schema-3")
    assert service.submit() == 9


def test_what_many_ask_at_once_is_each_ones_own(service):
    """Under the thread sanitizer, too: what is answered belongs to the thread that answers."""
    service.script([SLOW])
    service.start()
    path = service.state + "/imports/x"
    os.makedirs(path)
    train = {"kind": "train", "config": {"data": {"dataset": "scripted"}, "training": {"batch_size_train": 8, "num_steps_eval": 0}}}

    def ask(i):
        made = service.post("/v1/datasets", {"name": f"mine-{i}", "path": path}, expect=201).json()
        job = service.post("/v1/jobs", {**train, "name": f"run {i}", "tags": [f"tag {i}"], "overrides": {"training.seed": i}}, expect=201).json()
        changed = patch(service, job["id"], {"tags": [f"other {i}"], "notes": f"note {i}"})
        service.post(f"/v1/jobs/{job['id']}/cancel")
        return made["import"]["name"], job["tags"], job["config"]["training"]["seed"], changed["tags"], changed["notes"]

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        said = list(pool.map(ask, range(40)))
    assert said == [(f"mine-{i}", [f"tag {i}"], i, [f"other {i}"], f"note {i}") for i in range(40)]
    assert {j["import"]["name"] for j in service.get("/v1/jobs", kind="import", limit=100)["jobs"]} == {s[0] for s in said}
