"""tools/install.sh: what it installs for tests is not started, now or with the machine."""
import os
import subprocess

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
