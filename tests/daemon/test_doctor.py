"""mulund --doctor and mulunctl doctor: what a start would meet."""
import os
import subprocess

import pytest

from service import MULUND, WORKER, small_state

CTL = os.path.join(os.path.dirname(MULUND), "../ctl/mulunctl")


def doctor(service, *more, command=None, code=0):
    command = command or [*service.command(), "--doctor"]
    r = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, env={**os.environ, **service.environment})
    assert r.returncode == code, r.stdout + r.stderr
    return r.stdout


def test_all_is_well_and_nothing_is_made(service):
    text = doctor(service)
    assert "BAD" not in text and "ok    SQLite 3." in text and "ok    libmicrohttpd " in text and "device cpu: A processor" in text
    assert "is not there yet" in text and not os.path.exists(service.state)


def test_a_state_in_use_is_no_fault(service):
    service.start()
    assert "a daemon uses it" in doctor(service)
    service.get("/v1/jobs")


@pytest.mark.parametrize("what", ["mode", "worker", "web", "dataset", "descriptors"])
def test_what_is_wrong_is_said(service, what):
    os.mkdir(service.state)
    more = []
    if what == "mode":
        os.chmod(service.state, 0o777)
        expected = "chmod go-w"
    elif what == "worker":
        more = ["--worker", "/no/such/worker"]
        expected = "BAD   worker /no/such/worker: cannot be started"
    elif what == "web":
        os.rmdir(service.web)
        expected = "BAD   dashboard"
    elif what == "dataset":
        more = ["--dataset", "gone=/no/such/folder"]
        expected = "BAD   data set gone"
    else:
        more = None
        expected = "BAD   descriptors: 400"
    if more is None:
        text = doctor(service, command=["bash", "-c", 'ulimit -n 400; exec "$@"', "x", *service.command(), "--doctor"], code=1)
    else:
        text = doctor(service, *more, code=1)
    assert expected in text, text


def test_a_full_disk_is_said(service):
    with small_state(service, "8m"):
        service.environment["MULUND_DISK_RESERVE_MIB"] = "64"
        assert "BAD   " in doctor(service, code=1)


def test_a_driver_without_a_gpu_that_can_be_used_is_told_from_none(service):
    service.environment["SCRIPT_PROBE"] = '{"devices": [], "cuda": "no module for it"}'
    assert "note  no GPU: no module for it" in doctor(service, code=1 if os.path.exists("/proc/driver/nvidia/version") else 0)


def test_mulunctl_asks_the_program_beside_it(service):
    path = service.root + "/mulund.conf"
    with open(path, "w") as f:
        f.write(f"[daemon]\nstate = {service.state}\nworker = {WORKER}\n[server]\nweb = {service.web}\nconfigs = {service.configs}\n")
    assert f"state {service.state}: is not there yet" in doctor(service, command=[CTL, "doctor", path])
    with open(path, "a") as f:
        f.write("nonsense = 1\n")
    r = subprocess.run([CTL, "doctor", path], capture_output=True, text=True, timeout=60)
    assert r.returncode == 2 and "mulund.conf:7: there is no such key" in r.stderr
