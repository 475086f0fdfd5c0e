"""What is known of GPUs while the daemon runs: by the real text that looks at them, and an NVML of our own (tests/nvml)."""
import json
import os
import pwd
import signal
import subprocess
import time

import pytest

from service import HERE, MULUND, TRAIN
from test_devices import GPUS, WAIT, act, allocated, devices

BUILD = os.path.join(HERE, "../../build")
ON_GPU = {"overrides": {"machine.backend": "cuda"}}


class Gpus:
    """The file that nvml.c reads."""

    def __init__(self, service):
        self.path = service.root + "/nvml"
        self.said = [f"{d['uuid']} gpu" for d in GPUS["devices"] if d["uuid"]] + ["GPU-1234 energy 1000000", "GPU-5678 energy 7000000"]
        self.write()
        service.environment.update(
            SCRIPT_PROBE=json.dumps(GPUS), SCRIPT_NVML=self.path, SCRIPT_WATCH=os.environ.get("TEST_WATCHER", BUILD + "/tests/daemon/watcher"),
            LD_LIBRARY_PATH=os.environ.get("TEST_NVML", BUILD + "/tests/nvml"))

    def write(self):
        with open(self.path + ".new", "w") as f:
            f.write("".join(line + "\n" for line in self.said))
        os.rename(self.path + ".new", self.path)

    def say(self, line):
        self.said.append(line)
        self.write()

    def unsay(self, beginning):
        self.said = [line for line in self.said if not line.startswith(beginning)]
        self.write()


@pytest.fixture
def gpus(service):
    return Gpus(service)


def start(service, *more):
    service.start("--watch-every", "50ms", *more)
    service.until(lambda: all(d["watched"] for d in devices(service).values() if d["kind"] == "gpu"))


def watchers(service):
    """Processes that look for this service."""
    pids = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as f:
                if b"--watch\0" not in f.read():
                    continue
            with open(f"/proc/{name}/environ", "rb") as f:
                if service.tag.encode() in f.read():
                    pids.append(int(name))
        except OSError:
            pass
    return pids


def state(service, name):
    return devices(service)[name]["state"]


def test_a_device_is_given_to_nobody_while_another_computes_on_it(service, gpus):
    service.script([WAIT])
    other = subprocess.Popen(["sleep", "1000"])
    try:
        gpus.say(f"GPU-1234 process {other.pid} 1048576")
        gpus.say("GPU-5678 process 999999999")
        start(service)
        user = pwd.getpwuid(os.geteuid()).pw_name
        d = devices(service)
        assert d["gpu0"]["state"] == "occupied" and d["gpu0"]["occupied_by"] == [{"pid": other.pid, "user": user, "bytes": 1048576}]
        assert d["gpu1"]["occupied_by"] == [{"pid": 999999999, "user": None, "bytes": None}] and not d["cpu"]["watched"]
        job = service.submit(**ON_GPU)
        why = service.until(lambda: service.job(job)["waiting"])
        assert why["reason"] == "no_free_device" and f"gpu0 is occupied by process {other.pid} of user {user}" in why["detail"]
        ctl = os.path.join(os.path.dirname(MULUND), "../ctl/mulunctl")
        shown = subprocess.run([ctl, "-s", service.url, "device", "list"], capture_output=True, text=True, check=True).stdout
        assert f"; used by process {other.pid} of {user}\n" in shown and "; used by process 999999999\n" in shown
        gpus.unsay("GPU-1234 process")
        service.wait(job, "running")
        assert allocated(service, job) == [["gpu0"]] and state(service, "gpu0") == "busy" and state(service, "gpu1") == "occupied"
    finally:
        other.kill()
        other.wait()


def test_a_gpu_that_the_library_does_not_know_is_used_all_the_same(service, gpus):
    """CUDA has found it; in a container the library may tell of none."""
    service.script([WAIT])
    gpus.unsay("GPU-5678 gpu")
    start(service)
    job = service.submit(overrides={"machine.backend": "cuda", "machine.devices": 2})
    service.wait(job, "running")
    assert allocated(service, job) == [["gpu0", "gpu1"]]


def test_where_it_is_said_a_device_is_used_beside_others(service, gpus):
    service.script([WAIT])
    gpus.say("GPU-1234 process 999999999")
    start(service, "--use-occupied=yes")
    job = service.submit(**ON_GPU)
    service.wait(job, "running")
    assert allocated(service, job) == [["gpu0"]] and devices(service)["gpu0"]["occupied_by"] == []


def test_what_comes_between_two_looks_is_seen_before_a_start(service, gpus):
    """Looked at by itself once an hour: it is asked anew."""
    service.script([WAIT])
    service.start("--watch-every", "1h")
    service.until(lambda: devices(service)["gpu0"]["watched"])
    gpus.say("GPU-1234 process 999999999 5")
    time.sleep(0.2)  # longer than an answer counts
    job = service.submit(**ON_GPU)
    service.wait(job, "running")
    assert allocated(service, job) == [["gpu1"]] and devices(service)["gpu0"]["occupied_by"][0]["bytes"] == 5


def test_a_job_s_own_processes_occupy_nothing_until_it_is_over(service, gpus):
    service.script([[["start"], ["stray"], ["flush"], ["hang"]]])
    service.script([WAIT], of=2)
    start(service)
    act(service, "gpu1", "drain")
    job = service.submit(**ON_GPU)
    service.wait(job, "running")
    path = f"{service.state}/jobs/{job}/stray"
    service.until(lambda: os.path.exists(path) and open(path).read())
    stray = int(open(path).read())
    pid, = service.worker_pids()
    gpus.say(f"GPU-1234 process {pid} 100")
    gpus.say(f"GPU-1234 process {stray} 100")
    gpus.say("GPU-5678 process 999999998 100")  # so that it is known when the lines above were seen
    service.until(lambda: devices(service)["gpu1"]["occupied_by"])
    assert devices(service)["gpu0"]["occupied_by"] == []
    gpus.unsay(f"GPU-1234 process {pid}")
    other = service.submit(seed=2, **ON_GPU)
    service.post(f"/v1/jobs/{job}/cancel", expect=200)
    service.until(lambda: state(service, "gpu0") == "occupied")
    assert devices(service)["gpu0"]["occupied_by"][0]["pid"] == stray and service.job(other)["state"] == "queued"
    os.kill(stray, signal.SIGKILL)
    gpus.unsay("GPU-1234 process")
    service.wait(other, "running")


def test_energy_is_kept_with_the_attempt(service, gpus):
    go = service.root + "/go"
    service.script([[["start"], ["scalars", 0, 10], ["flush"], ["wait_file", go], ["done"]]])
    start(service)
    job = service.submit(overrides={"machine.backend": "cuda", "machine.devices": 2})
    service.wait(job, "running")
    gpus.unsay("GPU-1234 energy"), gpus.unsay("GPU-5678 energy")
    gpus.say("GPU-1234 energy 3500000"), gpus.say("GPU-5678 energy 7000500")
    open(go, "w").close()
    service.wait(job, "succeeded")
    attempt = service.until(lambda: (lambda a: a if a["ended"] else None)(service.get(f"/v1/jobs/{job}/attempts")["attempts"][0]))
    assert attempt["energy_j"] == 2500.5 and service.job(job)["energy_j"] == 2500.5
    would = service.post("/v1/jobs?dry_run=true", {"kind": "train", "config": {**service.job(job)["config"], "data": {"dataset": "scripted"}}}, expect=200).json()
    assert would["energy_j"] == pytest.approx(2500.5 / (attempt["last_step"] - attempt["first_step"]) * would["steps"]) and would["steps"] == 100
    on_cpu = service.submit()
    service.wait(on_cpu, "succeeded")
    attempt = service.until(lambda: (lambda a: a if a["ended"] else None)(service.get(f"/v1/jobs/{on_cpu}/attempts")["attempts"][0]))
    assert attempt["energy_j"] is None and service.job(on_cpu)["energy_j"] is None


def notes(service, job):
    return [e["detail"] for e in service.get(f"/v1/jobs/{job}/events")["events"] if e["trigger"] == "xid"]


def test_an_xid_of_the_application_is_kept_with_its_attempt_and_one_of_the_device_ends_its_service(service, gpus):
    service.script([[["start"], ["train", 100000, 0.01, 20]]])
    gpus.say("GPU-1234 xid 1 79")  # of a time before: told of to nobody
    start(service)
    job = service.submit(100000, **ON_GPU)
    service.wait_step(job, 3)
    gpus.say("GPU-1234 xid 2 31")
    service.until(lambda: notes(service, job))
    assert "gpu0: XID 31: a fault of the program" in notes(service, job)[0] and state(service, "gpu0") == "busy"
    gpus.say("GPU-1234 xid 3 12345")
    service.until(lambda: len(notes(service, job)) == 2)
    assert "no meaning is known" in notes(service, job)[1] and state(service, "gpu0") == "busy"
    gpus.say("GPU-1234 xid 4 79")
    service.until(lambda: len(allocated(service, job)) == 2)
    assert allocated(service, job) == [["gpu0"], ["gpu1"]]
    first = service.get(f"/v1/jobs/{job}/attempts")["attempts"][0]
    assert (first["outcome"], first["stop"]) == ("stopped", "preempt")
    service.until(lambda: state(service, "gpu0") == "drained")  # its worker may have lingered
    d = devices(service)["gpu0"]
    assert d["why"] == "XID 79: it has fallen off the bus"
    service.kill()
    start(service)
    assert devices(service)["gpu0"]["why"] == d["why"], "also after a restart"
    assert act(service, "gpu0", "enable")["state"] == "idle" and devices(service)["gpu0"]["why"] is None
    act(service, "gpu1", "drain", {"preempt": True})
    service.until(lambda: allocated(service, job)[2:] == [["gpu0"]])


@pytest.mark.parametrize("line, why", [("GPU-1234 lost", "the device is lost: NVML: GPU is lost (15)"),
                                       ("GPU-1234 ecc 2", "2 uncorrectable memory errors (ECC) since its last reset")])
def test_a_sick_device_goes_out_of_service_and_comes_back_without_a_restart(service, gpus, line, why):
    service.script([WAIT])
    start(service)
    gpus.say(line)
    service.until(lambda: state(service, "gpu0") == "drained")
    assert devices(service)["gpu0"]["why"] == why
    job = service.submit(**ON_GPU)
    service.wait(job, "running")
    assert allocated(service, job) == [["gpu1"]]
    if "lost" in line:  # it is looked at before anything starts there
        act(service, "gpu0", "enable")
        other = service.submit(**ON_GPU)
        service.until(lambda: state(service, "gpu0") == "drained")
        assert service.job(other)["state"] == "queued"
        gpus.unsay(line)
    act(service, "gpu0", "enable")
    job = service.submit(**ON_GPU)
    service.until(lambda: state(service, "gpu0") == "busy")


def test_a_device_that_was_put_back_stays_in_service_over_a_restart(service, gpus):
    service.script([WAIT])
    start(service)
    gpus.say("GPU-1234 ecc 2")
    service.until(lambda: state(service, "gpu0") == "drained")
    act(service, "gpu0", "enable")
    service.kill()
    start(service)
    job = service.submit(**ON_GPU)
    service.wait(job, "running")
    assert allocated(service, job) == [["gpu0"]] and "gpu0: 2 uncorrectable memory errors (ECC) since its last reset, from before" in service.logged()
    gpus.said = [line.replace("ecc 2", "ecc 3") for line in gpus.said]
    gpus.write()
    service.until(lambda: state(service, "gpu0") in ("draining", "drained"))
    assert devices(service)["gpu0"]["why"] == "3 uncorrectable memory errors (ECC) since its last reset"
    service.kill()
    start(service)
    assert state(service, "gpu0") in ("draining", "drained"), "nobody has put it back"


def test_a_mig_instance_has_the_errors_of_its_gpu_and_processes_of_its_own(service, gpus):
    probe = json.loads(json.dumps(GPUS))
    probe["devices"][2]["uuid"] = "MIG-1"
    probe["cuda"] = "MIG-2: it cannot be opened"
    gpus.said += ["MIG-1 parent GPU-1234", "GPU-1234 process 999999999"]
    gpus.write()
    service.environment["SCRIPT_PROBE"] = json.dumps(probe)
    start(service)
    assert state(service, "gpu0") == "occupied" and state(service, "gpu1") == "idle"
    assert "not each GPU can be used: MIG-2: it cannot be opened" in service.logged()
    gpus.say("GPU-1234 xid 2 95")
    service.until(lambda: {state(service, name) for name in ("gpu0", "gpu1")} == {"drained"})


def test_a_gpu_of_two_names_has_two_slots(service, gpus):
    """Each with half of the memory; processes of the one's job are nobody else's for the other, and what befalls the GPU befalls both."""
    service.script([[["start"], ["train", 100000, 0.01, 20]]])
    start(service, "--device", "left=cuda:0", "--device", "right=cuda:GPU-1234")
    whole = next(d for d in GPUS["devices"] if d["uuid"] == "GPU-1234")["memory_total"]
    assert [(d["uuid"], d["memory_bytes"]) for d in devices(service).values()] == [("GPU-1234", whole // 2)] * 2
    job = service.submit(100000, **ON_GPU)
    service.wait_step(job, 3)
    pid, = service.worker_pids()
    gpus.say(f"GPU-1234 process {pid} 5")
    wide = service.submit(overrides={"machine.backend": "cuda", "machine.devices": 2})
    assert service.job(wide)["waiting"]["reason"] in ("device_constraint", "drained"), "a GPU is not used twice by one job"
    other = service.submit(100000, **ON_GPU)
    service.wait_step(other, 3)
    assert allocated(service, job) == [["left"]] and allocated(service, other) == [["right"]]
    assert [d["occupied_by"] for d in devices(service).values()] == [[], []]
    gpus.say("GPU-1234 xid 2 79")
    for j in (job, other):
        service.until(lambda: notes(service, j))
    service.until(lambda: {d["state"] for d in devices(service).values()} == {"drained"})
    assert {service.wait(j, "queued")["attempts"] for j in (job, other)} == {1}


def test_a_driver_that_hangs_holds_up_nobody(service, gpus):
    service.script([TRAIN])
    start(service, "--watch-timeout", "1s")
    first, = watchers(service)
    gpus.say("hang")
    time.sleep(0.2)  # longer than an answer counts
    job = service.submit(**ON_GPU)
    began = time.monotonic()
    assert service.get("/healthz")["status"] == "ok" and time.monotonic() - began < 1
    service.wait(job, "succeeded")
    service.until(lambda: "it does not answer" in service.logged() and not devices(service)["gpu0"]["watched"])
    service.until(lambda: first not in watchers(service))
    gpus.unsay("hang")
    service.until(lambda: devices(service)["gpu0"]["watched"])
    assert len(watchers(service)) == 1


def test_one_that_is_killed_is_started_again_and_jobs_go_on(service, gpus):
    service.script([WAIT])
    start(service)
    job = service.submit(**ON_GPU)
    service.wait(job, "running")
    pid, = watchers(service)
    os.kill(pid, signal.SIGKILL)
    service.until(lambda: pid not in watchers(service) and devices(service)["gpu0"]["watched"])
    assert service.job(job)["state"] == "running" and service.job(job)["attempts"] == 1
    service.kill()
    service.until(lambda: not watchers(service))


@pytest.mark.parametrize("said", ["nonsense", "[]", '{"answers": 9, "devices": []}', '{"devices": [{"uuid": "GPU-0"}]}', '{"devices": [{}]}',
                                  '{"uuid": "GPU-1234", "xid": "x"}', '{"uuid": 1}', '{"devices": 1}', '{"none": 1}',
                                  '{"devices": [{"uuid": "GPU-1234", "processes": [{"pid": -1}]}]}', '{"devices": [{"uuid": "GPU-1234", "ecc": -1}]}'])
def test_what_is_not_understood_is_an_error_in_the_log(service, gpus, said):
    service.script([TRAIN])
    program = service.root + "/watcher"
    with open(program, "w") as f:
        f.write(f"#!/bin/sh\necho '{said}'\nexec sleep 1000\n")
    os.chmod(program, 0o755)
    service.environment["SCRIPT_WATCH"] = program
    service.environment["MULUND_RETRY_MS"] = "60000"
    service.start()
    service.until(lambda: "what it says is not understood" in service.logged())
    service.wait(service.submit(**ON_GPU), "succeeded")
    service.until(lambda: not watchers(service))


def test_without_a_library_or_without_gpus_nothing_looks(service, gpus):
    service.script([TRAIN])
    service.environment["LD_LIBRARY_PATH"] = service.root
    service.start()
    service.wait(service.submit(**ON_GPU), "succeeded")
    assert "GPUs are not watched" in service.logged() and not watchers(service) and not devices(service)["gpu0"]["watched"]
    service.kill()
    del service.environment["SCRIPT_PROBE"]
    begin = len(service.logged())
    service.start()
    assert not watchers(service) and "watched" not in service.logged(begin)


# ---- suspect devices

DONE = [["start"], ["done"]]
FAULT = [["start"], ["flush"], ["error", "device", "it does not compute"]]


def suspects(service, check, *options):
    service.environment["SCRIPT_CHECK"] = check
    service.environment["MULUND_RETRY_MS"] = "20"
    service.script([FAULT, FAULT, FAULT, DONE])
    service.start(*options)
    return [service.submit(), service.submit()]


def test_two_jobs_that_fail_at_once_make_a_device_suspect_and_one_that_computes_goes_back(service):
    go = service.root + "/go"
    jobs = suspects(service, f"until [ -e {go} ]; do sleep 0.1; done; echo '{{\"passed\": true}}'")
    service.until(lambda: state(service, "cpu") == "suspect")
    d = devices(service)["cpu"]
    assert "jobs 1 and 2 failed on it in their first minute" in d["why"]
    service.until(lambda: [w for w in (service.job(j)["waiting"] for j in jobs) if w and w["reason"] == "no_free_device" and "it is checked" in w["detail"]])
    open(go, "w").close()
    service.until(lambda: "computes what it should" in service.logged())
    for job in jobs:
        service.wait(job, "succeeded")


def test_one_that_does_not_compute_goes_out_of_service_with_the_reason(service):
    jobs = suspects(service, "echo '{\"error\": {\"class\": \"device\", \"detail\": \"two equal steps differ\"}}'; exit 1")
    service.until(lambda: state(service, "cpu") == "drained")
    assert devices(service)["cpu"]["why"] == "its check failed: two equal steps differ"
    assert {service.job(j)["waiting"]["reason"] for j in jobs} <= {"drained", "retry"}
    service.environment["SCRIPT_CHECK"] = "echo '{\"passed\": true}'"
    service.kill()
    service.start()
    act(service, "cpu", "enable")
    for job in jobs:
        service.wait(job, "succeeded")


@pytest.mark.parametrize("check", ["exit 127", "echo '{\"error\": {\"class\": \"host\", \"detail\": \"no room\"}}'; exit 1", "kill -SEGV $$"])
def test_a_sick_host_takes_no_device_out(service, check):
    jobs = suspects(service, check)
    for job in jobs:
        service.wait(job, "succeeded")
    assert "cannot be checked, which is the host's doing" in service.logged()
    service.until(lambda: state(service, "cpu") == "idle")


def test_one_job_alone_makes_no_device_suspect(service):
    service.environment["MULUND_RETRY_MS"] = "20"
    service.script([FAULT, FAULT, DONE])
    service.start()
    service.wait(service.submit(), "succeeded")
    assert "suspect" not in service.logged()
