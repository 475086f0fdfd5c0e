"""The units as systemd reads them, without a systemd that runs."""
import os
import re
import shutil
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
BUILD = os.environ["MULUND_BUILD"]
EXPOSURE_MAX = 2.0

if not shutil.which("systemd-analyze"):
    pytest.skip("systemd-analyze is not installed", allow_module_level=True)


@pytest.fixture
def unit(tmp_path):
    """The unit with the program where it was built."""
    with open(f"{BUILD}/systemd/mulund.service") as f:
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={BUILD}/daemon/mulund", f.read(), flags=re.M)
    path = tmp_path / "mulund.service"
    path.write_text(text)
    shutil.copy(f"{ROOT}/systemd/mulund.socket", tmp_path)
    return str(path)


def test_units_are_valid(unit):
    for path in (unit, unit.replace(".service", ".socket")):
        r = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, timeout=60)
        assert r.returncode == 0 and "mulund" not in r.stderr, r.stderr


def test_exposure_is_small_with_gpus_allowed(unit):
    with open(unit) as f:
        assert "DeviceAllow=char-nvidia rw" in f.read()
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit], capture_output=True, text=True, timeout=60)
    exposure = float(re.search(r"exposure level for mulund.service: ([\d.]+)", r.stdout).group(1))
    assert exposure <= EXPOSURE_MAX, r.stdout


@pytest.mark.parametrize("line", ["Delegate=yes", "KillMode=process", "OOMPolicy=continue", "OOMScoreAdjust=-500", "Type=notify", "WatchdogSec=2min", "StateDirectoryMode=0750", "UMask=0077",
                                  "NoNewPrivileges=yes", "ExecReload=/bin/kill -HUP $MAINPID"])
def test_what_the_service_is_relied_on_for_stands_in_the_unit(unit, line):
    """Workers outlive a restart and go first when memory is short; what they leave is nobody else's to read."""
    with open(unit) as f:
        assert line in f.read().splitlines()


def test_the_unit_starts_after_what_makes_the_groups_of_gpu_devices(unit):
    with open(unit) as f:
        text = f.read()
    allowed = re.findall(r"^DeviceAllow=char-(\S+) rw$", text, re.M)
    after = " ".join(re.findall(r"^After=(.*)$", text, re.M)).split()
    assert {"nvidia", "nvidiactl", "nvidia-uvm", "nvidia-caps"} <= set(allowed)
    assert {"systemd-modules-load.service", "nvidia-persistenced.service"} <= set(after)


def test_no_group_of_system_calls_is_unknown(unit):
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit], capture_output=True, text=True, timeout=60)
    assert "ignoring" not in r.stderr, r.stderr


def test_users_and_folders_are_made(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "etc").mkdir()
    for command, name in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        arguments = ["--create"] if name == "tmpfiles" else []
        r = subprocess.run([command, f"--root={tmp_path}", *arguments, f"{ROOT}/systemd/{name}.conf"], capture_output=True, text=True, timeout=60)
        assert r.returncode == 0, r.stderr
    user = next(line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("mulund:"))
    assert user[5] == "/var/lib/mulund" and user[6].endswith("nologin")
    assert "video:x" in (tmp_path / "etc/group").read_text()
    state = tmp_path / "var/lib/mulund"
    assert state.stat().st_mode & 0o777 == 0o750 and state.stat().st_uid == int(user[2]) and (state / "imports").is_dir()
