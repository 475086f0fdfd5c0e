"""Packages: what tools/install.sh installs for tests is not started, now or with the machine; what a purge of ours leaves."""
import os
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
POLICY = "/usr/sbin/policy-rc.d"


def test_services_of_packages_for_tests_do_not_start(tmp_path):
    policy, said = tmp_path / "policy-rc.d", tmp_path / "said"
    for name, text in (("dpkg-query", "exit 1"), ("sudo", 'exec "$@"'), ("systemctl", f'echo "systemctl $*" >> {said}'),
                       ("apt-get", f'{policy} nginx start; echo "apt-get $1: $?" >> {said}')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    packages = tmp_path / "packages.txt"
    packages.write_text("[test]\nnginx-light\nprometheus\nfile\n")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/install.sh").write_text(open(ROOT + "/tools/install.sh").read().replace(POLICY, str(policy)))
    subprocess.run(["sh", tmp_path / "tools/install.sh", "test"], check=True, timeout=60, stdout=subprocess.DEVNULL,
                   env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert said.read_text().split("\n")[:-1] == ["apt-get update: 101", "apt-get install: 101", "systemctl --quiet disable nginx", "systemctl --quiet disable prometheus"]
    assert not policy.exists(), "it goes with the installation"


@pytest.mark.parametrize("kept", ["mulund.db", "jobs/1/step-10.safetensors", "imports/photos.tar.gz", "mulund.db.damaged", None])
def test_a_purge_removes_nothing_that_somebody_made(tmp_path, kept):
    state, script = tmp_path / "state", open(ROOT + "/debian/mulund.postrm").read()
    for folder in ("jobs/1", "imports"):
        (state / folder).mkdir(parents=True)
    for name in ("lock", "reserve", *([kept] if kept else [])):
        (state / name).write_text("x")
    script = script.replace("/var/lib/mulund", str(state)).replace("/var/cache/mulund", str(tmp_path / "cache"))
    r = subprocess.run(["sh", "-c", script, "postrm", "purge"], capture_output=True, text=True, check=True, timeout=60)
    assert state.exists() == (kept is not None) and ("what was trained stays in" in r.stdout) == (kept is not None)
    assert kept is None or (state / kept).read_text() == "x"
