"""`meson install`: where files are, that what is installed runs from there (also moved), and the manual."""
import contextlib
import glob
import json
import os
import re
import shutil
import subprocess
import time

import pytest
import requests

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
BUILD = os.environ["MULUND_BUILD"]
PAGES = ["man1/mulunctl.1", "man5/mulund.conf.5", "man8/mulun-worker.8", "man8/mulund.8"]


def option(name):
    text = subprocess.run(["meson", "introspect", "--buildoptions", BUILD], check=True, capture_output=True, text=True, timeout=120).stdout
    return next(o["value"] for o in json.loads(text) if o["name"] == name)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The prefix below a folder of the test's own."""
    destination = tmp_path_factory.mktemp("installed")
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], check=True, timeout=120,
                   env={**os.environ, "DESTDIR": str(destination)}, stdout=subprocess.DEVNULL)
    return str(destination) + option("prefix")


def test_every_file_has_its_place(installed):
    for path in ("sbin/mulund", "bin/mulunctl", "libexec/mulund/mulun-worker"):
        assert os.access(f"{installed}/{path}", os.X_OK), path
    for path in ("lib/systemd/system/mulund.service", "lib/systemd/system/mulund.socket", "lib/sysusers.d/mulund.conf", "lib/tmpfiles.d/mulund.conf",
                 "share/bash-completion/completions/mulunctl", "share/doc/mulund/examples/mulund.conf", "share/mulund/configs/photos32-tiny.json",
                 *(f"share/man/{page}" for page in PAGES)):
        assert os.path.isfile(f"{installed}/{path}"), path
    assert not glob.glob(f"{installed}/bin/mulun-worker")
    with open(f"{installed}/lib/systemd/system/mulund.service") as f:
        assert f"ExecStart={option('prefix')}/sbin/mulund --config " in f.read()


def test_settings_of_a_person_are_not_written_over(tmp_path):
    script = f"{ROOT}/systemd/install.sh"
    for text in (None, "mine"):
        path = tmp_path / "etc/mulund/mulund.conf"
        if text:
            path.write_text(text)
        subprocess.run([script, f"{BUILD}/daemon/mulund.conf", "/etc"], check=True, env={**os.environ, "DESTDIR": str(tmp_path)}, timeout=60)
        assert (path.read_text() == text) if text else path.read_text().startswith("# Settings of mulund")


@contextlib.contextmanager
def serving(command, log_path):
    """A daemon, and its address; ended in any case."""
    with open(log_path, "w") as log:
        p = subprocess.Popen([*command, "--listen", "127.0.0.1:0", "--single-user", "yes"], stderr=log, env={"PATH": os.environ["PATH"], "MULUND_DISK_RESERVE_MIB": "0"})
    try:
        url, end = None, time.monotonic() + 60
        while not url:
            with open(log_path) as f:
                text = f.read()
            assert p.poll() is None and time.monotonic() < end, text
            m = re.search(r"listens on (http://127.0.0.1:\d+)/", text)
            url = m and m.group(1)
            time.sleep(0.05)
        yield url
        p.terminate()
        assert p.wait(10) == 0
    finally:
        p.kill()
        p.wait()


SHORT = ["training.num_steps_train=2", "training.num_steps_eval=0", "training.num_steps_lr_warmup=1", "training.batch_size_train=8",
         "training.steps_per_logging=1"]


def test_an_installation_that_was_moved_runs_from_where_it_is(installed, tmp_path):
    moved = str(tmp_path / "moved")
    shutil.copytree(installed, moved, symlinks=True)
    shutil.copy(f"{moved}/share/mulund/configs/photos32-tiny.json", f"{moved}/share/mulund/configs/moved-along.json")
    command = [f"{moved}/sbin/mulund", "--state", str(tmp_path / "state"), "--dataset", f"photos32={ROOT}/data/photos32"]
    with serving(command, tmp_path / "log") as url:
        def ctl(*arguments):
            return subprocess.run([f"{moved}/bin/mulunctl", "--server", url, *arguments], check=True, capture_output=True, text=True, timeout=60).stdout

        if option("web"):
            assert "<html" in requests.get(url + "/", timeout=60).text
        assert "moved-along" in ctl("configs")
        job = ctl("submit", "moved-along", *(word for s in SHORT for word in ("--set", s))).strip()
        answer, end = {"state": "queued"}, time.monotonic() + 240
        while answer["state"] in ("queued", "running"):
            assert time.monotonic() < end
            answer = requests.get(f"{url}/v1/jobs/{job}", timeout=60).json()
            time.sleep(0.02)
        assert answer["state"] == "succeeded", answer


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_without_warnings(installed, page):
    path = f"{installed}/share/man/{page}"
    for command in (["mandoc", "-Tlint", "-W", "warning", path], ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path]):
        if not shutil.which(command[0]):
            pytest.skip(f"{command[0]} is not installed")
        r = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "LC_ALL": "C.UTF-8"})
        assert r.returncode == 0 and not r.stderr, r.stderr + r.stdout
        assert command[0] == "man" or not r.stdout, r.stdout


def shown(page):
    r = subprocess.run(["mandoc", "-Tutf8", page], capture_output=True, text=True, timeout=60, check=True)
    return re.sub(".\b", "", r.stdout).replace("\u2010", "-")


def test_the_manual_has_every_command_option_and_setting(installed):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    for program, page in (("bin/mulunctl", PAGES[0]), ("sbin/mulund", PAGES[3])):
        text = shown(f"{installed}/share/man/{page}")
        helped = subprocess.run([f"{installed}/{program}", "--help"], check=True, capture_output=True, text=True, timeout=60).stdout
        for name in re.findall(r"^  (?:-\w, )?\s*(--[\w-]+)", helped, re.M):
            assert name in text, (page, name)
    settings = shown(f"{installed}/share/man/{PAGES[1]}")
    with open(f"{installed}/share/doc/mulund/examples/mulund.conf") as f:
        for key in re.findall(r"^#([\w-]+) = ", f.read(), re.M):
            assert key == "name" or f"{key} = " in settings, key


def complete(installed, *words):
    script = (f'PATH={installed}/bin:$PATH; source {installed}/share/bash-completion/completions/mulunctl; COMP_WORDS=("$@"); '
              'COMP_CWORD=$(($# - 1)); _mulunctl; printf "%s\\n" "${COMPREPLY[@]}"')
    return subprocess.run(["bash", "-c", script, "complete", *words], check=True, capture_output=True, text=True, timeout=60).stdout.split()


def test_completion_knows_commands_and_their_options(installed):
    assert complete(installed, "mulunctl", "sub") == ["submit"]
    assert complete(installed, "mulunctl", "-s", "x", "pau") == ["pause"]
    assert complete(installed, "mulunctl", "log", "--fol") == ["--follow"]
    assert complete(installed, "mulunctl", "list", "--fol") == []
