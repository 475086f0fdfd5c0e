"""The service manager: told of the daemon's life, and the socket that it listens on."""
import os
import signal
import socket
import subprocess
import time

import pytest
import requests

from service import SLOW


class Manager:
    """What systemd does at its end of NOTIFY_SOCKET."""

    def __init__(self, path, abstract=False):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if abstract else path)
        self.socket.settimeout(20)

    def next(self, but=("WATCHDOG=1",)):
        while True:
            text = self.socket.recv(4096).decode()
            if text not in but:
                return text


@pytest.fixture(params=["path", "abstract"])
def manager(service, request):
    path = service.root + "/notify"
    m = Manager(path, request.param == "abstract")
    service.environment["NOTIFY_SOCKET"] = ("@" + path[1:]) if request.param == "abstract" else path
    yield m
    m.socket.close()


def test_ready_reload_and_end_are_told(service, manager):
    service.start()
    assert manager.next() == "READY=1"
    requests.get(service.url + "/healthz", timeout=5).raise_for_status()
    service.process.send_signal(signal.SIGHUP)
    assert [manager.next(), manager.next()] == ["RELOADING=1", "READY=1"]
    service.process.send_signal(signal.SIGTERM)
    assert manager.next() == "STOPPING=1"
    assert service.process.wait(10) == 0


def test_ready_is_not_said_before_it_is(service, manager):
    service.start("--worker", "/no/such/worker", wait=False)
    assert service.process.wait(20) == 1
    assert manager.next() == "STOPPING=1"


def test_the_watchdog_hears_as_often_as_it_wants_and_nothing_else_wakes(service, manager):
    service.environment["WATCHDOG_USEC"] = "600000"
    service.start()
    while manager.next(but=()) != "READY=1":
        pass
    times = []
    for _ in range(5):
        assert manager.next(but=()) == "WATCHDOG=1"
        times.append(time.monotonic())
    assert max(b - a for a, b in zip(times, times[1:])) < 0.6


def test_a_watchdog_of_another_process_is_not_ours(service, manager):
    service.environment.update({"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
    service.start()
    assert manager.next(but=()) == "READY=1"
    manager.socket.settimeout(0.6)
    with pytest.raises(socket.timeout):
        manager.next(but=())


def test_a_bad_address_of_the_manager_ends_the_start(service):
    service.environment["NOTIFY_SOCKET"] = "relative"
    service.start(wait=False)
    assert service.process.wait(10) == 1 and "NOTIFY_SOCKET" in service.logged()


def start_with(service, listening):
    """As systemd does: the socket is descriptor 3, and LISTEN_PID the process itself."""
    shell = 'exec 3<&"$0"; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
    service.log_path = service.root + "/log"
    with open(service.log_path, "ab") as log:
        service.process = subprocess.Popen(["bash", "-c", shell, str(listening.fileno()), *service.command()], stderr=log,
                                           env={**os.environ, **service.environment}, pass_fds=[listening.fileno()])


def test_a_socket_that_the_manager_listens_on_outlives_the_daemon(service):
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    service.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    service.script(SLOW)
    for start in range(3):
        early = socket.create_connection(listening.getsockname(), timeout=20)  # before there is a daemon
        early.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        start_with(service, listening)
        assert early.recv(65536).startswith(b"HTTP/1.1 200")
        service.get("/v1/jobs")
        assert service.kill(signal.SIGTERM if start else signal.SIGKILL) in (0, -9)
    listening.close()


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_a_socket_that_others_reach_is_refused_without_tls(service, address):
    listening = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    start_with(service, listening)
    assert service.process.wait(20) == 1 and "takes TLS" in service.logged()
    listening.close()
