#!/usr/bin/python3
"""What an answer costs in instructions, which other programs do not change: request_cost.py BUILD [PATH]

The API's test server (a real store, a fake daemon) under callgrind, asked by one keep-alive client for PATH, which is /v1/jobs/1, a
running job, unless it is given; job 2 waits. Prints instructions a request, of the whole process; the profile stays in
/tmp/request_cost.callgrind for callgrind_annotate. Packages: valgrind, apache2-utils.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(sys.argv[1]).resolve()
PATH = sys.argv[2] if len(sys.argv) > 2 else "/v1/jobs/1"
PROFILE = "/tmp/request_cost.callgrind"
REQUESTS = 2000
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "api"))

from conftest import Server  # noqa: E402


def ask(url, n):
    out = subprocess.run(["ab", "-q", "-k", "-n", str(n), "-c", "1", url], check=True, capture_output=True, text=True).stdout
    assert "Non-2xx responses" not in out, out


def main():
    with tempfile.TemporaryDirectory() as root:
        program = pathlib.Path(root) / "server"
        program.write_text(f'#!/bin/sh\nexec valgrind -q --tool=callgrind --instr-atstart=no --callgrind-out-file={PROFILE} {BUILD}/tests/api/test_server "$@"\n')
        program.chmod(0o755)
        os.environ["TEST_SERVER"] = str(program)
        server = Server(pathlib.Path(root))
        try:
            for _ in range(2):
                server.submit()
            server.run(1)
            ask(server.url + PATH, 50)
            for what in ("on", "off"):
                subprocess.run(["callgrind_control", "-i", what, str(server.process.pid)], check=True, stdout=subprocess.DEVNULL)
                if what == "on":
                    ask(server.url + PATH, REQUESTS)
        finally:
            server.close()
    summary = [line for line in pathlib.Path(PROFILE).read_text(encoding="utf-8").splitlines() if line.startswith(("summary:", "totals:"))]
    print(f"GET {PATH}: {int(summary[-1].split()[1]) / REQUESTS:.0f} instructions a request")


if __name__ == "__main__":
    main()
