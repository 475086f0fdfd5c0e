"""Submitting, listing, acting on jobs."""
import datetime
import json
import sqlite3

import pytest

from conftest import PUBLISHED, Server, checkpoint, pointers, problem

ENDINGS = {"created", "started", "ended"}


def test_a_job_is_answered_whole(server):
    r = server.post("/v1/jobs", {"kind": "train", "config": "cifar10-conditioned", "name": "first", "tags": ["try", "try"],
                                 "overrides": {"optimizer.ema_rate": 0.99, "training.num_steps_train": 3000}})
    assert r.status_code == 201
    j = r.json()
    assert r.headers["Location"] == f"/v1/jobs/{j['id']}"
    assert j["kind"] == "train" and j["name"] == "first" and j["tags"] == ["try"] and j["state"] == "queued"
    assert j["started"] is None and j["ended"] is None and j["attempts"] == 0
    assert j["progress"] == {"step": 0, "steps": 3000, "images_per_second": None, "seconds_left": None}
    assert j["config_name"] == "cifar10-conditioned" and j["result"] is None and j["error"] is None and j["waiting"]["reason"] == "dataset"
    assert j["links"] == {k: f"/v1/jobs/{j['id']}/{k}" for k in ("log", "series", "artifacts", "events", "attempts")}
    assert j["config"]["optimizer"]["ema_rate"] == 0.99 and j["config"]["sampling"]["n_steps"] == 1000
    published = json.loads((PUBLISHED / "cifar10-conditioned.json").read_text())
    for section, keys in published.items():
        if isinstance(keys, dict):
            for key, v in keys.items():
                if key not in ("ema_rate", "num_steps_train"):
                    assert j["config"][section][key] == v
    created = datetime.datetime.fromisoformat(j["created"].replace("Z", "+00:00"))
    assert abs((datetime.datetime.now(datetime.timezone.utc) - created).total_seconds()) < 60
    assert server.get(f"/v1/jobs/{j['id']}").json() == j


def test_the_answer_to_a_submission_is_what_is_read_later(server):
    """It is made of what was stored, not read again."""
    source, met = server.submit(), server.submit()
    server.run(source, [checkpoint(5)], "succeeded")
    server.run(met, state="succeeded")
    for body in ({"kind": "train", "config": "cifar10-conditioned"},
                 {"kind": "train", "config": {}, "name": "n", "tags": ["a"], "notes": "x\ny", "priority": -3, "limits": {"steps": 5}, "after": [met, server.submit()]},
                 {"kind": "train", "config": {}, "after": [met]},
                 {"kind": "evaluate", "checkpoint": {"job": source, "step": 5}},
                 {"kind": "import", "what": "events", "path": "/x"}):
        r = server.post("/v1/jobs", body)
        assert r.status_code == 201, r.text
        assert server.get(r.headers["Location"]).json() == r.json()


def test_a_dry_run_says_what_it_would_need_and_submits_nothing(server):
    def total():
        return sum(server.get("/v1/jobs?limit=1").json()["counts"]["state"].values())
    server.tell(do="devices", resting=0, runs=0)
    before = total()
    body = {"kind": "train", "config": "cifar10-conditioned", "overrides": {"optimizer.ema_rate": 0.9}}
    r = server.post("/v1/jobs?dry_run=true", body, headers={"Idempotency-Key": "dry"})
    assert r.status_code == 200 and "Location" not in r.headers
    d = r.json()
    assert d["config"]["optimizer"]["ema_rate"] == 0.9 and d["memory_bytes"] == 1000 and d["steps"] == 100 and d["seconds"] is None
    assert d["devices"] == ["cpu"] and total() == before
    problem(server.post("/v1/jobs?dry_run=true", {**body, "overrides": {"model.sm_n_embd": 1}}), 422, "config-invalid")
    problem(server.post("/v1/jobs?dry_run=perhaps", body), 400, "query-invalid")
    assert server.post("/v1/jobs?dry_run=false", body).status_code == 201 and total() == before + 1


def test_tags_are_listed_with_how_many_have_them(server):
    for tags in (["facet-a", "facet-b"], ["facet-b"]):
        server.submit(tags=tags)
    found, after = {}, ""
    while after is not None:
        page = server.get("/v1/tags", params={"limit": 2, **({"after": after} if after else {})}).json()
        found.update({t["tag"]: t["jobs"] for t in page["tags"]})
        after = page["next"]
    assert found["facet-a"] == 1 and found["facet-b"] == 2 and list(found) == sorted(found)


def test_an_inline_configuration_is_merged_with_the_defaults(server):
    r = server.post("/v1/jobs", {"kind": "train", "config": {"vdm_type": "vdm", "model": {"gamma_type": "fixed"}},
                                 "overrides": {"model.sm_n_embd": 64}})
    assert r.status_code == 201, r.text
    j = r.json()
    assert j["config_name"] is None and j["name"] == "" and j["config"]["model"]["sm_n_embd"] == 64
    assert j["config"]["model"]["gamma_type"] == "fixed"


BAD_BODIES = [
    ({}, ["/kind"]),
    ([], [""]),
    ("x", [""]),
    (None, None),
    ({"kind": "fly"}, ["/kind"]),
    ({"kind": 1}, ["/kind"]),
    ({"kind": "train"}, ["/config"]),
    ({"kind": "train", "config": 3}, ["/config"]),
    ({"kind": "train", "config": "no-such"}, ["/config"]),
    ({"kind": "train", "config": "../x"}, ["/config"]),
    ({"kind": "train", "config": "broken"}, ["/config"]),
    ({"kind": "train", "config": {}, "strange": 1}, ["/strange"]),
    ({"kind": "train", "config": {}, "strange/~": 1}, ["/strange~1~0"]),
    ({"kind": "train", "config": {}, "checkpoint": {}}, ["/checkpoint"]),
    ({"kind": "train", "config": {}, "method": "dense"}, ["/method"]),
    ({"kind": "train", "config": {}, "name": 1}, ["/name"]),
    ({"kind": "train", "config": {}, "name": "a\nb"}, ["/name"]),
    ({"kind": "train", "config": {}, "name": "x" * 201}, ["/name"]),
    ({"kind": "train", "config": {}, "tags": "x"}, ["/tags"]),
    ({"kind": "train", "config": {}, "tags": ["a", ""]}, ["/tags/1"]),
    ({"kind": "train", "config": {}, "tags": ["a", 1]}, ["/tags/1"]),
    ({"kind": "train", "config": {}, "tags": [str(i) for i in range(33)]}, ["/tags"]),
    ({"kind": "train", "config": {}, "overrides": []}, ["/overrides"]),
    ({"kind": "train", "config": {}, "overrides": None}, ["/overrides"]),
    ({"kind": "train", "name": 1, "tags": 1}, ["/name", "/tags", "/config"]),
    ({"kind": "evaluate"}, ["/checkpoint"]),
    ({"kind": "evaluate", "checkpoint": 1}, ["/checkpoint"]),
    ({"kind": "evaluate", "checkpoint": {}}, ["/checkpoint/job"]),
    ({"kind": "evaluate", "checkpoint": {"job": 0}}, ["/checkpoint/job"]),
    ({"kind": "evaluate", "checkpoint": {"job": "1"}}, ["/checkpoint/job"]),
    ({"kind": "evaluate", "checkpoint": {"job": 1, "which": "first"}}, ["/checkpoint/which"]),
    ({"kind": "evaluate", "checkpoint": {"job": 1, "step": -1}}, ["/checkpoint/step"]),
    ({"kind": "evaluate", "checkpoint": {"job": 1, "step": 1, "which": "best"}}, ["/checkpoint/step"]),
    ({"kind": "evaluate", "checkpoint": {"job": 1, "x": 1}}, ["/checkpoint/x"]),
    ({"kind": "evaluate", "checkpoint": {"job": 1}, "config": {}}, ["/config"]),
    ({"kind": "evaluate", "checkpoint": {"job": 1}, "n_steps": 1}, ["/n_steps"]),
    ({"kind": "sample", "checkpoint": {"job": 1}, "method": "dense"}, ["/method"]),
    ({"kind": "evaluate", "checkpoint": {"job": 999}}, ["/checkpoint/job"]),
]


@pytest.mark.parametrize("body, expected", BAD_BODIES)
def test_a_request_that_is_not_valid_names_every_place(server, body, expected):
    r = server.request("POST", "/v1/jobs", data=json.dumps(body), headers={"Content-Type": "application/json"})
    problem(r, 422, "request-invalid")
    if expected:
        assert pointers(r) == expected


BAD_CONFIGS = [
    ({"kind": "train", "config": "cifar10-conditioned", "overrides": {"model.sm_n_embd": 96.5}},
     [("/model/sm_n_embd", "96.5 is not an integer in 32..2048")]),
    ({"kind": "train", "config": {"model": {"sm_n_embd": "x", "y": 1}, "z": {}}},
     [("/model/sm_n_embd", "a string is not an integer in 32..2048"), ("/model/y", "there is no such key"),
      ("/z", "there is no such key")]),
    ({"kind": "train", "config": {}, "overrides": {"model.x": 1}}, [("/model/x", "there is no such key")]),
    ({"kind": "train", "config": {"model": 1}, "overrides": {"model.sm_n_embd": 64}},
     [("/model/sm_n_embd", "what it lies in is not an object")]),
    ({"kind": "train", "config": {"vdm_type": "vdm"}}, [("/model/gamma_type", None)]),
    ({"kind": "train", "config": {"data": {"dataset": "no-such"}}}, [("/data/dataset", "this server has no such data set")]),
    ({"kind": "evaluate", "checkpoint": {"job": 1}, "method": "exact"}, [("/evaluation/method", None)]),
    ({"kind": "evaluate", "checkpoint": {"job": 1}, "n_timesteps": 0}, [("/evaluation/n_timesteps", None)]),
    ({"kind": "evaluate", "checkpoint": {"job": 1}, "overrides": {"model.sm_n_embd": 64}}, [("/model/sm_n_embd", None)]),
    ({"kind": "sample", "checkpoint": {"job": 1}, "n_images": 5000}, [("/sampling/n_images", None)]),
]


@pytest.mark.parametrize("body, expected", BAD_CONFIGS)
def test_a_configuration_that_is_not_valid_names_its_keys(server, body, expected):
    server.submit()
    r = server.post("/v1/jobs", body)
    problem(r, 422, "config-invalid")
    got = [(e["pointer"], e["detail"]) for e in r.json()["errors"]]
    assert [p for p, _ in got] == [p for p, _ in expected]
    for (_, a), (_, b) in zip(got, expected):
        assert b is None or a == b


@pytest.mark.parametrize("blank", [" ", "\u200b", " \u00a0\u3000", "\u00ad", "\u034f", "\u115f\u3164", "\u17b4\u17b5", "\u180b", "\u180f", "\u2800", "\ufe0f", "\ufeff",
                                   "\U0001d173", "\U000e0001", "\U000e0100"])
def test_a_blank_name_is_no_name(server, blank):
    job = server.submit(name="it has one")
    r = server.request("PATCH", f"/v1/jobs/{job}", data=json.dumps({"name": blank}), headers={"Content-Type": "application/json"})
    assert r.status_code == 422 and r.json()["errors"][0]["pointer"] == "/name" and server.get(f"/v1/jobs/{job}").json()["name"] == "it has one"
    for body, pointer in (({"name": blank}, "/name"), ({"tags": [blank]}, "/tags/0")):
        r = server.post("/v1/jobs", {"kind": "train", "config": {}, **body})
        assert r.status_code == 422 and r.json()["errors"][0]["pointer"] == pointer, r.text


def test_many_errors_are_counted(server):
    r = server.post("/v1/jobs", {"kind": "train", "config": {f"k{i}": i for i in range(100)}})
    d = problem(r, 422, "config-invalid")
    assert d["detail"].startswith("100 errors") and len(d["errors"]) == 16


def test_a_long_key_is_cut_to_valid_text(server):
    r = server.post("/v1/jobs", {"kind": "train", "config": {"é" * 500: 1}, })
    d = problem(r, 422, "config-invalid")
    assert d["errors"][0]["pointer"].startswith("/éé")


def test_evaluations_and_samples_take_the_sources_configuration(server):
    source = server.submit(overrides={"model.sm_n_embd": 64})
    r = server.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": source, "which": "latest"}, "method": "dense", "split": "train",
                                 "weights": "params", "n_timesteps": 7, "n_images": 5, "seed": 9, "overrides": {"machine.threads": 2}})
    assert r.status_code == 201, r.text
    j = r.json()
    asked = {"method": "dense", "split": "train", "weights": "params", "precision": "float32", "n_timesteps": 7, "n_images": 5, "seed": 9}
    assert {k: j["config"]["evaluation"][k] for k in asked} == asked
    assert j["config"]["model"]["sm_n_embd"] == 64 and j["config"]["machine"]["threads"] == 2
    assert j["checkpoint"]["job"] == source and j["kind"] == "evaluate"
    r = server.post("/v1/jobs", {"kind": "sample", "checkpoint": {"job": source, "step": 0}, "n_images": 4, "n_steps": 3, "seed": 2,
                                 "weights": "params", "latent": "fixed"})
    assert r.status_code == 201, r.text
    asked = {"n_images": 4, "n_steps": 3, "seed": 2, "weights": "params", "latent": "fixed"}
    assert {k: r.json()["config"]["sampling"][k] for k in asked} == asked


def test_listing_filters_and_pages(server):
    ids = [server.submit(name=f"page {i}", tags=["paged", f"n{i % 2}"]) for i in range(7)]
    seen, cursor = [], None
    while True:
        d = server.get("/v1/jobs", params={"tag": "paged", "limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        assert len(d["jobs"]) <= 3
        seen += [j["id"] for j in d["jobs"]]
        cursor = d["next"]
        if not cursor:
            break
        assert isinstance(cursor, str) and len(d["jobs"]) == 3
    assert seen == ids[::-1]
    assert [j["id"] for j in server.get("/v1/jobs?tag=n1&text=page").json()["jobs"]] == ids[1::2][::-1]
    assert [j["id"] for j in server.get("/v1/jobs?text=page+3").json()["jobs"]] == [ids[3]]
    d = server.get("/v1/jobs?text=100%25").json()
    assert d["jobs"] == [] and d["next"] is None and d["total"] == 0
    assert server.get("/v1/jobs?kind=sample&tag=paged").json()["jobs"] == []
    server.run(ids[0])
    assert [j["id"] for j in server.get("/v1/jobs?state=running&tag=paged").json()["jobs"]] == [ids[0]]
    assert len(server.get("/v1/jobs?limit=7&tag=paged").json()["jobs"]) == 7
    assert server.get("/v1/jobs?limit=7&tag=paged").json()["next"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=-1", "limit=1.0", "limit=", "limit=+1", "limit=01", "limit=1e2",
                                   "limit=99999999999999999999", "limit=%31%00", "cursor=x", "cursor=0", "state=happy", "kind=x", "tag=",
                                   "text=", "text=" + "x" * 201, "strange=1", "limit=1&limit=2", "state=queued&state=running",
                                   "limit=%zz", "%ff=1"])
def test_a_query_that_is_not_valid_is_refused(server, query):
    problem(server.get("/v1/jobs?" + query), 400)


def test_a_jobs_life(server):
    job = server.submit(overrides={"training.num_steps_train": 100})
    problem(server.request("DELETE", f"/v1/jobs/{job}"), 409, "conflict")
    problem(server.post(f"/v1/jobs/{job}/resume"), 409, "conflict")
    server.run(job, [{"type": "progress", "step": 10, "steps": 100, "images_per_second": 11.5, "seconds_left": None}, checkpoint(10)])
    j = server.get(f"/v1/jobs/{job}").json()
    assert j["state"] == "running" and j["attempts"] == 1 and j["started"]
    assert j["progress"] == {"step": 10, "steps": 100, "images_per_second": 11.5, "seconds_left": None}
    r = server.request("DELETE", f"/v1/jobs/{job}")
    assert "running" in problem(r, 409, "conflict")["detail"]
    j = server.post(f"/v1/jobs/{job}/cancel").json()
    assert j["cancel_requested"] and j["state"] == "running"
    server.tell(do="end", job=job, state="cancelled")
    assert server.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"
    assert "cancelled" in problem(server.post(f"/v1/jobs/{job}/cancel"), 409, "conflict")["detail"]
    r = server.post(f"/v1/jobs/{job}/resume", {"steps": 5})
    problem(r, 422, "request-invalid")
    assert pointers(r) == ["/steps"]
    j = server.post(f"/v1/jobs/{job}/resume", {"overrides": {"training.num_steps_train": 200}}).json()
    assert j["state"] == "queued" and j["progress"]["steps"] == 200 and j["config"]["training"]["num_steps_train"] == 200
    assert server.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    r = server.request("DELETE", f"/v1/jobs/{job}")
    assert r.status_code == 204 and r.content == b""
    problem(server.get(f"/v1/jobs/{job}"), 404, "not-found")
    problem(server.request("DELETE", f"/v1/jobs/{job}"), 404, "not-found")


def test_a_failed_job_of_any_kind_is_retried(server):
    job = server.submit()
    problem(server.post(f"/v1/jobs/{job}/retry"), 409, "conflict")
    server.run(job, state="failed", error={"class": "numeric", "detail": "loss is NaN"})
    j = server.post(f"/v1/jobs/{job}/retry", {"accept_changed_data": True}).json()
    assert j["state"] == "queued" and j["error"] is None and j["accept_changed_data"] is True
    server.run(job, state="succeeded")
    assert "succeeded" in problem(server.post(f"/v1/jobs/{job}/retry"), 409, "conflict")["detail"]
    for body, expected in (({"steps": 5}, ["/steps"]), ({"accept_changed_data": 1}, ["/accept_changed_data"])):
        r = server.post(f"/v1/jobs/{job}/retry", body)
        problem(r, 422, "request-invalid")
        assert pointers(r) == expected


@pytest.mark.parametrize("body, expected", [({"steps": 0}, ["/steps"]), ({"steps": "5"}, ["/steps"]), ({"steps": 1.5}, ["/steps"]),
                                            ({"x": 1}, ["/x"]), ({"overrides": 1}, ["/overrides"]), ({"accept_changed_data": "yes"}, ["/accept_changed_data"]),
                                            ({"overrides": {"model.sm_n_embd": 64}}, ["/overrides/model.sm_n_embd"]),
                                            ({"steps": 5, "overrides": {"training.num_steps_train": 6}}, ["/steps"]), ([], [""])])
def test_resume_is_strict(server, body, expected):
    r = server.request("POST", "/v1/jobs/1/resume", data=json.dumps(body), headers={"Content-Type": "application/json"})
    problem(r, 422, "request-invalid")
    assert pointers(r) == expected


def test_a_job_says_why_it_waits_only_while_it_does(server):
    job = server.submit()
    server.run(job, state="queued", detail="host: no room")
    server.tell(do="devices", resting=job, runs=0)
    waiting = server.get(f"/v1/jobs/{job}").json()["waiting"]
    assert waiting["reason"] == "retry" and waiting["detail"] == "host: no room" and waiting["earliest_start"].startswith("2")
    assert next(j for j in server.get("/v1/jobs").json()["jobs"] if j["id"] == job)["waiting"]["reason"] == "retry"
    server.tell(do="devices", resting=0, runs=0)
    assert server.get(f"/v1/jobs/{job}").json()["waiting"]["reason"] == "dataset"
    server.run(job, state="failed", detail="numeric: over")
    assert server.get(f"/v1/jobs/{job}").json()["waiting"] is None


def test_low_disk_is_why_queued_jobs_wait(server):
    queued, running = server.submit(), server.submit()
    server.run(running)
    try:
        server.tell(do="disk", low="disk low: no room")
        assert server.get("/healthz").json()["disk"] == {"state": "low", "free_bytes": 5, "reserve_bytes": 7}
        waiting = server.get(f"/v1/jobs/{queued}").json()["waiting"]
        assert waiting["reason"] == "disk_low" and waiting["detail"] == "disk low: no room" and waiting["blocked_by"] == []
        assert server.get(f"/v1/jobs/{running}").json()["waiting"] is None
        assert next(j for j in server.get("/v1/jobs").json()["jobs"] if j["id"] == queued)["waiting"]["reason"] == "disk_low"
    finally:
        server.tell(do="disk", low="")
    assert server.get(f"/v1/jobs/{queued}").json()["waiting"]["reason"] == "dataset"
    assert server.get("/healthz").json()["disk"]["state"] == "ok"


def test_results_and_errors_are_shown(server):
    job = server.submit()
    server.run(job, state="failed", error={"class": "numeric", "detail": "loss is NaN", "step": 17})
    assert server.get(f"/v1/jobs/{job}").json()["error"] == {"class": "numeric", "detail": "loss is NaN", "step": 17}
    job = server.submit()
    server.run(job, state="succeeded", result={"bpd": 3.21, "parts": {"recon": 0.01}})
    j = server.get(f"/v1/jobs/{job}").json()
    assert j["result"] == {"bpd": 3.21, "parts": {"recon": 0.01}} and j["state"] == "succeeded" and j["ended"]


@pytest.mark.parametrize("code, status, type_", [(2, 404, "not-found"), (16, 409, "conflict"), (22, 422, None), (28, 507, "disk-full"),
                                                 (5, 500, "internal"), (108, 503, "unavailable"), (12, 500, "internal")])
def test_what_the_daemon_refuses_is_told(server, code, status, type_):
    server.submit()
    for path in ("/v1/jobs/1/cancel", "/v1/jobs/1/resume", "/v1/stop"):
        server.tell(do="fail", code=code, text="because", pointer="/steps")
        r = server.post(path)
        d = problem(r, status, type_)
        assert status == 503 or "because" in r.text, d
    server.tell(do="fail", code=code, text="because", pointer="/steps")
    problem(server.request("DELETE", "/v1/jobs/1"), status, type_)
    server.tell(do="fail", code=code, text="because", pointer="/data/dataset")
    problem(server.post("/v1/jobs", {"kind": "train", "config": {}}), 422 if code == 2 else status, None)


def test_stop_is_passed_on(server):
    r = server.post("/v1/stop")
    assert r.status_code == 202 and r.json() == {"stopping": True}


def test_bodies_may_be_left_out_where_nothing_is_needed(server):
    job = server.submit()
    r = server.request("POST", f"/v1/jobs/{job}/cancel", headers={"Content-Type": "application/json"})
    assert r.status_code == 200, r.text
    problem(server.request("POST", "/v1/jobs", headers={"Content-Type": "application/json"}), 400, "not-json")


def test_configs_and_datasets(server):
    photos = {"name": "photos32", "format": "cifar10", "train": 7415, "test": 1228, "digest": "00112233445566778899aabbccddeeff",
              "mean": [0.0, 127.5, 0.0], "origin": "command line", "source_format": None}
    server.tell(do="dataset", name="photos32", train=7415, test=1228)
    server.tell(do="dataset", name="mine", train=3, test=2, source="folder")
    mine = {**photos, "name": "mine", "train": 3, "test": 2, "origin": "imported", "source_format": "folder"}
    assert server.get("/v1/datasets").json() == {"datasets": [mine, photos]}
    assert server.get("/v1/datasets/mine").json() == mine
    problem(server.get("/v1/datasets/no-such"), 404, "not-found")
    problem(server.request("PUT", "/v1/datasets/mine"), 405, "method-not-allowed")
    configs = server.get("/v1/configs").json()["configs"]
    assert [c["name"] for c in configs] == ["cifar10-conditioned", "imagenet32", "vdm-cifar10"]
    assert configs[0]["config"] == json.loads((PUBLISHED / "cifar10-conditioned.json").read_text())
    assert server.get("/v1/configs/vdm-cifar10").json() == configs[2]
    problem(server.get("/v1/configs/no-such"), 404, "not-found")
    problem(server.get("/v1/configs/broken"), 500, "internal")
    schema = server.get("/v1/configs/schema").json()
    assert schema["properties"]["model"]["properties"]["sm_n_embd"]["maximum"] == 2048
    assert server.get("/healthz").json()["status"] == "ok"
    assert server.get("/readyz").json()["status"] == "ok"


def test_an_import_is_a_job(server):
    body = {"name": "mine", "path": "/data/mine", "format": "tfrecord", "test_share": 0.25}
    r = server.post("/v1/datasets", body)
    j = r.json()
    assert r.status_code == 201 and r.headers["Location"] == f"/v1/jobs/{j['id']}"
    assert j["kind"] == "import" and j["name"] == "mine" and j["state"] == "queued" and j["config"] is None
    assert j["import"] == {"what": "dataset", **body}
    server.submit()
    assert [x["import"] for x in server.get("/v1/jobs?limit=2").json()["jobs"]] == [None, j["import"]]
    assert {**server.get("/v1/jobs?kind=import").json()["jobs"][0], "energy_j": None} == j  # which is asked for of one alone
    j = server.post("/v1/datasets", {"name": "b", "path": "/a", "test_path": "/b"}).json()
    assert j["import"] == {"what": "dataset", "name": "b", "path": "/a", "test_path": "/b"}


@pytest.mark.parametrize("body, pointers", [
    ({}, ["/name", "/path"]),
    ({"name": "../x", "path": "/a"}, ["/name"]),
    ({"name": ".x", "path": "/a"}, ["/name"]),
    ({"name": "a/b", "path": "/a"}, ["/name"]),
    ({"name": "a" * 65, "path": "/a"}, ["/name"]),
    ({"name": "a\x00b", "path": "/a"}, ["/name"]),
    ({"name": 3, "path": "/a"}, ["/name"]),
    ({"name": "a", "path": "relative"}, ["/path"]),
    ({"name": "a", "path": ""}, ["/path"]),
    ({"name": "a", "path": "/a\x00"}, ["/path"]),
    ({"name": "a", "path": "/" + "a" * 4096}, ["/path"]),
    ({"name": "a", "path": "/a", "test_path": "b"}, ["/test_path"]),
    ({"name": "a", "path": "/a", "format": "gif"}, ["/format"]),
    ({"name": "a", "path": "/a", "test_share": 0}, ["/test_share"]),
    ({"name": "a", "path": "/a", "test_share": 1}, ["/test_share"]),
    ({"name": "a", "path": "/a", "test_share": "0.5"}, ["/test_share"]),
    ({"name": "a", "path": "/a", "test_share": 0.5, "test_path": "/b"}, ["/test_share"]),
    ({"name": "a", "path": "/a", "target": "/etc/passwd"}, ["/target"]),
])
def test_imports_that_are_not_valid(server, body, pointers):
    newest = server.get("/v1/jobs?limit=1").json()["jobs"]
    d = problem(server.post("/v1/datasets", body), 422, "request-invalid")
    assert [e["pointer"] for e in d["errors"]] == pointers
    assert server.get("/v1/jobs?limit=1").json()["jobs"] == newest


def test_checkpoints_and_events_are_imported_as_jobs(server):
    j = server.post("/v1/jobs", {"kind": "import", "what": "events", "path": "/a", "name": "logs", "tags": ["x"]}).json()
    assert (j["kind"], j["name"], j["config"], j["import"]) == ("import", "logs", None, {"what": "events", "path": "/a"})
    j = server.post("/v1/jobs", {"kind": "import", "what": "checkpoint", "path": "/a", "config": "cifar10-conditioned", "overrides": {"training.seed": 5}}).json()
    assert j["config"]["training"]["seed"] == 5 and j["config_name"] == "cifar10-conditioned" and j["import"] == {"what": "checkpoint", "path": "/a"}


@pytest.mark.parametrize("body, pointers, type_", [
    ({}, ["/path", "/what"], "request-invalid"),
    ({"what": "dataset", "path": "/a"}, ["/what"], "request-invalid"),
    ({"what": "events", "path": "a"}, ["/path"], "request-invalid"),
    ({"what": "events", "path": "/a", "config": {}, "overrides": {}}, ["/config", "/overrides"], "request-invalid"),
    ({"what": "events", "path": "/a", "checkpoint": {"job": 1}}, ["/checkpoint"], "request-invalid"),
    ({"what": "checkpoint", "path": "/a"}, ["/config"], "request-invalid"),
    ({"what": "checkpoint", "path": "/a", "config": {"model": {"sm_n_embd": 33}}}, ["/model/sm_n_embd"], "config-invalid"),
])
def test_imports_of_checkpoints_and_events_that_are_not_valid(server, body, pointers, type_):
    d = problem(server.post("/v1/jobs", {"kind": "import", **body}), 422, type_)
    assert sorted(e["pointer"] for e in d["errors"]) == pointers


def test_data_sets_are_removed(server):
    server.tell(do="dataset", name="mine", train=3, test=2, source="folder")
    r = server.request("DELETE", "/v1/datasets/mine")
    assert r.status_code == 204
    problem(server.get("/v1/datasets/mine"), 404, "not-found")
    for code, status, type_ in ((2, 404, "not-found"), (17, 409, "conflict"), (5, 500, "internal")):
        server.tell(do="fail", code=code, text="because", pointer="")
        assert "because" in str(problem(server.request("DELETE", "/v1/datasets/mine"), status, type_))
        server.tell(do="fail", code=code if code != 2 else 17, text="because", pointer="/name")
        problem(server.post("/v1/datasets", {"name": "mine", "path": "/a"}), status if code != 2 else 409, None)


# ---- lists of all sorts

def listed(server, **params):
    r = server.get("/v1/jobs", params=params)
    assert r.status_code == 200, r.text
    return r.json()


def test_a_list_takes_several_states_and_kinds_in_either_order(server):
    mine = [server.submit(tags=["several"]) for _ in range(9)]
    for i, state in ((0, "succeeded"), (1, "failed"), (2, "cancelled"), (3, "paused")):
        server.run(mine[i], state=state)
    server.run(mine[4])
    ids = [j["id"] for j in listed(server, tag="several", state="queued,paused", kind="train,sample")["jobs"]]
    assert ids == [mine[i] for i in (8, 7, 6, 5, 3)]
    every = listed(server, state="succeeded,failed,cancelled,running", limit=500)["jobs"]
    assert [j["id"] for j in every] == sorted((j["id"] for j in every), reverse=True) and {j["state"] for j in every} >= {"succeeded", "running"}
    got, cursor = [], None
    while True:
        page = listed(server, tag="several", state="queued,paused", order="id", limit=2, **({"cursor": cursor} if cursor else {}))
        got += [j["id"] for j in page["jobs"]]
        assert page["total"] == 5
        cursor = page["next"]
        if cursor is None:
            break
    assert got == [mine[i] for i in (3, 5, 6, 7, 8)]


def test_the_queue_is_listed_by_priority_with_a_cursor(server):
    mine = [server.submit(tags=["queue"], priority=p) for p in (-7, 0, 900, 0, -7)]
    got, cursor = [], None
    while True:
        page = listed(server, tag="queue", order="priority", limit=2, **({"cursor": cursor} if cursor else {}))
        got += [j["id"] for j in page["jobs"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert got == [mine[i] for i in (2, 1, 3, 0, 4)]
    assert listed(server, order="priority", state="queued")["jobs"]
    for params, name in (({"order": "priority", "state": "running"}, "order"), ({"order": "name"}, "order"), ({"order": "priority", "cursor": "5"}, "cursor"),
                         ({"order": "priority", "cursor": "x.1"}, "cursor"), ({"cursor": "1.5"}, "cursor"), ({"state": "queued,"}, "state"),
                         ({"state": "queued,happy"}, "state"), ({"fields": "id,colour"}, "fields"), ({"fields": ""}, "fields")):
        r = server.get("/v1/jobs", params=params)
        problem(r, 400, "query-invalid")
        assert [e["parameter"] for e in r.json()["errors"]] == [name], params


def test_fields_are_what_was_asked_for(server):
    job = server.submit(name="narrow", tags=["narrow"])
    assert listed(server, tag="narrow", fields="state,id,name")["jobs"] == [{"id": job, "name": "narrow", "state": "queued"}]
    whole = listed(server, tag="narrow")["jobs"][0]
    for key, value in whole.items():
        assert listed(server, tag="narrow", fields=key)["jobs"] == [{key: value}], key


def test_totals_and_counts_are_of_all_pages(server):
    before = listed(server, limit=1)
    for i in range(4):
        server.submit(tags=["totals"], name=f"counted number {i}")
    after = listed(server, limit=1)
    assert after["total"] == before["total"] + 4 and len(after["jobs"]) == 1
    assert after["counts"]["state"]["queued"] == before["counts"]["state"]["queued"] + 4
    assert after["counts"]["kind"]["train"] == before["counts"]["kind"]["train"] + 4
    assert sum(after["counts"]["state"].values()) == sum(after["counts"]["kind"].values()) == after["total"]
    assert listed(server, tag="totals", limit=1)["total"] == 4
    assert listed(server, text="COUNTED number", limit=2)["total"] == 4
    assert listed(server, state="queued", tag="totals", text="number 2")["total"] == 1
    assert listed(server, tag="none at all")["total"] == 0


def test_text_is_found_in_notes_and_follows_changes(server):
    job = server.submit(name="plain", notes="a Überraschung in the notes")
    assert [j["id"] for j in listed(server, text="überrasch")["jobs"]] == [job]
    r = server.request("PATCH", f"/v1/jobs/{job}", data=json.dumps({"notes": "nothing", "name": "renamed \"so\""}), headers={"Content-Type": "application/json"})
    assert r.status_code == 200, r.text
    assert listed(server, text="überrasch")["jobs"] == [] and [j["id"] for j in listed(server, text='med "so')["jobs"]] == [job]


def test_after_and_limits_are_checked(server):
    first = server.submit()
    r = server.post("/v1/jobs", {"kind": "train", "config": "cifar10-conditioned", "after": [first, first], "limits": {"wall": None, "steps": 7}, "priority": -5})
    assert r.status_code == 201 and r.json()["after"] == [first] and r.json()["limits"] == {"wall": None, "device_seconds": None, "steps": 7, "failures": None}
    for body, expected in (({"after": {}}, "/after"), ({"after": ["1"]}, "/after/0"), ({"priority": "high"}, "/priority"), ({"limits": []}, "/limits"),
                           ({"limits": {"wall": -1}}, "/limits/wall"), ({"limits": {"device_seconds": 0}}, "/limits/device_seconds"), ({"limits": {"failures": "3"}}, "/limits/failures"), ({"notes": 5}, "/notes"), ({"notes": "x" * 16385}, "/notes"), ({"notes": "\u0007"}, "/notes")):
        r = server.post("/v1/jobs", {"kind": "train", "config": "cifar10-conditioned", **body})
        problem(r, 422, "request-invalid")
        assert pointers(r) == [expected]


def test_if_match_names_a_version_in_quotes(server):
    job = server.submit()

    def change(header):
        return server.request("PATCH", f"/v1/jobs/{job}", data='{"name": "x"}', headers={"Content-Type": "application/json", "If-Match": header})

    assert change('"1"').json()["version"] == 2 and change("*").json()["version"] == 3
    problem(change('"1"'), 412, "changed-meanwhile")
    for odd in ("3", '"x"', '"', '""', 'W/"3"', '"3", "4"'):
        problem(change(odd), 422, "request-invalid")
    r = server.request("PATCH", f"/v1/jobs/{job}", data='{"name": "x"}')
    problem(r, 415, "not-json-type")


# ---- asking twice, asking wrongly

def keyed(server, key, path="/v1/jobs", **body):
    return server.post(path, body, headers={"Idempotency-Key": key})


def test_who_asks_again_with_the_same_key_gets_the_same_job(server):
    body = {"kind": "train", "config": "cifar10-conditioned", "name": "keyed"}
    first = keyed(server, "a-key", **body)
    assert first.status_code == 201
    again = keyed(server, "a-key", **body)
    assert again.status_code == 201 and again.json()["id"] == first.json()["id"] and again.headers["Location"] == first.headers["Location"]
    assert keyed(server, "another-key", **body).json()["id"] != first.json()["id"]
    problem(keyed(server, "a-key", **{**body, "name": "other"}), 422, "key-reused")
    for odd in ("", "with space", "x" * 201, "ä".encode()):
        problem(server.post("/v1/jobs", body, headers={"Idempotency-Key": odd}), 400, "bad-header")
    assert keyed(server, "x" * 200, **body).status_code == 201


def test_many_at_once_with_one_key_make_one_job(server):
    import concurrent.futures
    body = {"kind": "train", "config": "cifar10-conditioned"}
    before = listed(server, limit=1)["total"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = {r.json()["id"] for r in pool.map(lambda _: keyed(server, "at-once", **body), range(24))}
    assert len(ids) == 1 and listed(server, limit=1)["total"] == before + 1


@pytest.mark.parametrize("text", ['{"kind": "sample", "kind": "train", "config": "cifar10-conditioned"}',
                                  '{"kind": "train", "config": {"optimizer": {"learning_rate": 0.1, "ema_rate": 0.9, "learning_rate": 0.2}}}',
                                  '{"kind": "train", "config": "cifar10-conditioned", "tags": ["a"], "t\\u0061gs": ["b"]}'])
def test_a_key_that_is_there_twice_is_refused(server, text):
    r = server.request("POST", "/v1/jobs", data=text, headers={"Content-Type": "application/json"})
    problem(r, 422, "request-invalid")
    assert "the same key twice: line 1" in r.json()["errors"][0]["detail"]


def test_a_section_is_not_overridden_whole(server):
    r = server.post("/v1/jobs", {"kind": "train", "config": {}, "overrides": {"model": None}})
    assert r.status_code == 422 and r.json()["errors"] == [{"pointer": "/model", "detail": "is a section: its keys are overridden one by one"}]


@pytest.mark.parametrize("body, pointer, meant", [
    ({"kind": "train", "config": "cifar10-conditioned", "overridess": {}}, "/overridess", '"overrides"'),
    ({"kind": "train", "config": "cifar10-conditioned", "tag": []}, "/tag", '"tags"'),
    ({"kind": "train", "config": "cifar10-conditioned", "nothing_like_it": 1}, "/nothing_like_it", None),
    ({"kind": "train", "config": {"optimizer": {"learningrate": 1}}}, "/optimizer/learningrate", "optimizer.learning_rate"),
    ({"kind": "train", "config": {"learning_rate": 1}}, "/learning_rate", "optimizer.learning_rate"),
    ({"kind": "train", "config": {}, "overrides": {"model.sm_embd": 64}}, "/model/sm_embd", "model.sm_n_embd"),
    ({"kind": "train", "config": {}, "overrides": {"evaluation.ode.rtoll": 1}}, "/evaluation/ode/rtoll", "evaluation.ode.rtol"),
    ({"kind": "train", "config": {"optimiser": {"learning_rate": 1}}}, "/optimiser", "optimizer"),
    ({"kind": "train", "config": {"evaluation": {"odes": {"rtol": 1}}}}, "/evaluation/odes", "evaluation.ode"),
    ({"kind": "train", "config": {"x": 1}}, "/x", None)])
def test_an_unknown_key_is_answered_with_the_nearest(server, body, pointer, meant):
    r = server.post("/v1/jobs", body)
    assert r.status_code == 422
    e, = r.json()["errors"]
    assert e["pointer"] == pointer
    assert (f"is it {meant} that is meant?" in e["detail"]) if meant else "is it" not in e["detail"]


def test_the_fewest_are_walked(tmp_path):
    """Not the jobs of a common tag one by one, where the text or the state has few."""
    s = Server(tmp_path)
    try:
        first = s.submit(name="first", tags=["few"])
        with sqlite3.connect(s.state / "mulund.db", timeout=60) as db:
            names = ", ".join(row[1] for row in db.execute("PRAGMA table_info(job)") if row[1] not in ("id", "name"))
            db.execute(f"""WITH RECURSIVE k (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM k WHERE i < 30000)
                INSERT INTO job (id, name, {names}) SELECT k.i, 'run ' || k.i, {', '.join('j.' + n for n in names.split(', '))} FROM k, job j WHERE j.id = ?""", (first,))
            db.execute("INSERT INTO job_tag SELECT 'many', id FROM job WHERE id % 10 <> 7")
        db.close()

        def found(**params):
            d = s.get("/v1/jobs", params={"fields": "id", **params}).json()
            return [j["id"] for j in d["jobs"]], d["total"]

        assert found(tag="many", text="run 2999") == ([i for i in range(29999, 29989, -1) if i % 10 != 7] + [2999], 10)
        assert found(tag="many", text="run 2999", order="id", state="queued")[0][:2] == [2999, 29990]
        assert found(tag="many", text="none at all") == ([], 0) and found(tag="few", text="run 2999") == ([], 0)
        assert found(tag="few", text="first") == ([first], 1) and found(tag="many", text="first") == ([first], 1)
        assert found(tag="none", text="run 2999") == ([], 0) and found(tag="many", text="run 2999", kind="sample") == ([], 0)

        def processor_s(**params):
            before = s.processor_s()
            for _ in range(10):
                found(**params)
            return s.processor_s() - before

        assert processor_s(tag="many", text="none at all") < 5 * processor_s(text="none at all") + 0.1
        second = s.submit(name="second", tags=["many"])
        s.tell(do="start", job=second)
        assert found(tag="many", state="running") == ([second], 1) and found(tag="few", state="running") == ([], 0)
        assert found(text="se", state="running") == ([second], 1) and found(text="sx", state="running") == ([], 0)
        assert found(tag="many", text="second", state="running,paused", kind="train") == ([second], 1)
        assert found(tag="many", text="run 2999", state="running") == ([], 0)
        assert max(processor_s(tag="many", state="running"), processor_s(text="se", state="running")) < 5 * processor_s(state="running") + 0.1
    finally:
        s.close()
