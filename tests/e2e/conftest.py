"""Where nothing could run, meson is told so (77), with the reasons in the log."""

import os

import pytest

import harness


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    stats = reporter.stats
    if exitstatus == 0 and stats.get("skipped") and not stats.get("passed"):
        session.exitstatus = 77


@pytest.fixture
def daemon(tmp_path):
    for path in (harness.MULUND, harness.WORKER):
        if not os.path.exists(path):
            pytest.skip(f"{path} is not built")
    d = harness.Daemon(tmp_path)
    yield d
    d.stop()
