"""/metrics: true, and as Prometheus reads it."""
import json
import pathlib
import re
import shutil
import subprocess
import time

import pytest

GRAFANA = pathlib.Path(__file__).parent.parent.parent / "docs" / "grafana.json"


def read(server):
    r = server.get("/metrics")
    assert r.status_code == 200 and r.headers["Content-Type"] == "text/plain; version=0.0.4"
    found = {}
    for line in r.text.splitlines():
        if not line.startswith("#"):
            name, value = re.fullmatch(r"([a-z_]+(?:\{[^}]*\})?) (\S+)", line).groups()
            assert name not in found, name
            found[name] = float(value)
    return found, r.text


def test_jobs_devices_and_requests_are_counted(server):
    before, _ = read(server)
    job = server.submit()
    server.tell(do="devices", resting=0, runs=job)
    server.run(job, [{"type": "progress", "step": 17, "steps": 100, "images_per_second": 11.5, "seconds_left": 3}])
    assert server.get("/v1/jobs/4711").status_code == 404
    time.sleep(0.1)
    after, _ = read(server)
    assert after['mulund_jobs{state="running",kind="train"}'] == before['mulund_jobs{state="running",kind="train"}'] + 1
    assert after[f'mulund_job_step{{job="{job}"}}'] == 17 and after[f'mulund_job_images_per_second{{job="{job}"}}'] == 11.5
    assert after['mulund_device_busy{device="cpu",kind="cpu"}'] == 1
    assert after['mulund_http_answers_total{status="4xx"}'] == before['mulund_http_answers_total{status="4xx"}'] + 1
    assert after['mulund_http_answers_total{status="2xx"}'] >= before['mulund_http_answers_total{status="2xx"}'] + 2
    assert after["mulund_http_sent_bytes_total"] > before["mulund_http_sent_bytes_total"]
    buckets = [v for k, v in after.items() if k.startswith("mulund_http_seconds_bucket")]
    assert buckets == sorted(buckets) and buckets[-1] == after["mulund_http_seconds_count"] >= before["mulund_http_seconds_count"] + 3
    server.tell(do="devices", resting=0, runs=0)


def test_streams_are_counted_while_they_are_open(server):
    r = server.session.get(server.url + "/v1/events", stream=True, timeout=60)
    assert next(r.iter_lines()).startswith(b"id:") and read(server)[0]["mulund_event_streams"] == 1
    r.close()


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian's prometheus) is not installed")
def test_promtool_finds_nothing_wrong(server):
    p = subprocess.run(["promtool", "check", "metrics"], input=read(server)[1], capture_output=True, text=True, check=False)
    assert p.returncode == 0 and not p.stderr, p.stderr


def test_the_dashboard_for_grafana_asks_for_what_there_is(server):
    names = {re.match(r"[a-z_]+", k).group() for k in read(server)[0]} | {"mulund_job_step", "mulund_job_steps", "mulund_job_images_per_second"}
    asked = {n for e in re.findall(r'"expr": "([^"]+)', GRAFANA.read_text()) for n in re.findall(r"(?:mulund|process)_[a-z_]+", e)}
    assert asked and asked <= names, asked - names
    assert json.loads(GRAFANA.read_text())["title"] == "mulund"
