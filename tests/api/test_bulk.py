"""One action on all jobs that a filter takes."""
import pytest

from conftest import pointers, problem


def states(server, jobs):
    return [server.get(f"/v1/jobs/{j}").json()["state"] for j in jobs]


def test_a_filter_takes_what_it_says(server):
    jobs = [server.submit(tags=["b" if i % 2 else "a"], name=f"sweep {i}") for i in range(6)]
    other = server.submit(tags=["b"], name="other")
    r = server.post("/v1/jobs/pause", {"filter": {"tag": "a", "text": "sweep"}})
    assert r.status_code == 200 and r.json() == {"matched": 3, "changed": 3, "refused": 0}
    assert states(server, jobs) == ["paused", "queued"] * 3
    assert server.post("/v1/jobs/pause", {"filter": {"tag": "a"}}).json()["matched"] == 0  # they are
    r = server.post("/v1/jobs/cancel", {"filter": {"text": "sweep", "state": ["paused", "queued"], "kind": ["train", "sample"]}})
    assert r.json() == {"matched": 6, "changed": 6, "refused": 0}
    assert states(server, jobs) == ["cancelled"] * 6 and states(server, [other]) == ["queued"]
    events = server.get(f"/v1/jobs/{jobs[0]}/events").json()["events"]
    assert [(e["trigger"], e["from"], e["to"]) for e in events[1:]] == [("pause", "queued", "paused"), ("cancel", "paused", "cancelled")]
    assert server.get(f"/v1/jobs/{jobs[0]}").json()["ended"] is not None
    assert server.post("/v1/jobs/cancel", {"filter": {"text": "sweep"}}).json() == {"matched": 0, "changed": 0, "refused": 0}


def test_what_runs_or_reads_anothers_checkpoint_is_asked_by_itself(server):
    from conftest import checkpoint
    source = server.submit(tags=["each"])
    server.run(source, [checkpoint(5)])
    evaluation = server.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": source, "step": 5}, "tags": ["each"]}).json()["id"]
    plain = server.submit(tags=["each"])
    r = server.post("/v1/jobs/cancel", {"filter": {"tag": "each"}})
    assert r.json() == {"matched": 3, "changed": 3, "refused": 0}
    assert states(server, [evaluation, plain]) == ["cancelled"] * 2
    assert server.get(f"/v1/jobs/{source}").json()["stopping"] == "cancel"


def test_jobs_of_a_filter_go_on(server):
    jobs = [server.submit(tags=["again"]) for _ in range(4)]
    server.post("/v1/jobs/pause", {"filter": {"tag": "again"}})
    assert server.post("/v1/jobs/retry", {"filter": {"tag": "again"}}).json() == {"matched": 0, "changed": 0, "refused": 0}
    server.post(f"/v1/jobs/{jobs[0]}/cancel", {})
    assert server.post("/v1/jobs/resume", {"filter": {"tag": "again"}}).json() == {"matched": 3, "changed": 3, "refused": 0}
    assert states(server, jobs) == ["cancelled", "queued", "queued", "queued"]
    r = server.post("/v1/jobs/retry", {"filter": {"tag": "again", "state": ["cancelled", "queued"]}}, headers={"X-Request-Id": "each"})
    assert r.json() == {"matched": 1, "changed": 1, "refused": 0} and states(server, jobs) == ["queued"] * 4
    rows = [a for a in server.get("/v1/audit?limit=1000").json()["audit"] if a["request_id"] == "each"]
    assert [(a["action"], a["job"]) for a in rows] == [("POST /v1/jobs/retry", jobs[0])]


def test_jobs_of_a_filter_are_removed_when_they_are_over(server):
    jobs = [server.submit(tags=["gone"]) for _ in range(3)]
    for j in jobs[:2]:
        server.post(f"/v1/jobs/{j}/cancel", {})
    server.tell(do="fail", code=16, text="another waits for it")  # the first that is asked
    assert server.post("/v1/jobs/remove", {"filter": {"tag": "gone"}}).json() == {"matched": 2, "changed": 1, "refused": 1}
    assert [server.get(f"/v1/jobs/{j}").status_code for j in jobs] == [404, 200, 200]
    problem(server.post("/v1/jobs/remove", {"filter": {}}), 422)


def test_it_is_one_change_in_the_log(server):
    jobs = [server.submit(tags=["logged"]) for _ in range(3)]
    server.post("/v1/jobs/cancel", {"filter": {"tag": "logged"}}, headers={"X-Request-Id": "bulk"})
    rows = [a for a in server.get("/v1/audit?limit=1000").json()["audit"] if a["request_id"] == "bulk"]
    assert [(a["action"], a["job"]) for a in rows] == [("POST /v1/jobs/cancel", None)] and states(server, jobs) == ["cancelled"] * 3


@pytest.mark.parametrize("body, wrong", [({}, ["/filter"]), ({"filter": {}}, ["/filter"]), ({"filter": []}, ["/filter"]), ({"filter": {"state": "queued"}}, ["/filter/state"]),
                                         ({"filter": {"state": ["happy"], "kind": []}}, ["/filter/state", "/filter/kind"]), ({"filter": {"tag": ""}}, ["/filter/tag"]),
                                         ({"filter": {"tag": "a\0b"}}, ["/filter/tag"]), ({"filter": {"text": 3}}, ["/filter/text"]), ({"filter": {"id": 3}}, ["/filter/id"]),
                                         ({"strange": 1}, ["/strange"])])
def test_what_is_no_filter_does_nothing(server, body, wrong):
    job = server.submit()
    r = server.post("/v1/jobs/cancel", body)
    problem(r, 422)
    assert pointers(r) == wrong and states(server, [job]) == ["queued"]


def test_a_daemon_that_fails_is_said(server):
    job = server.submit(tags=["fails"])
    server.tell(do="fail", code=28, text="the disk is full")
    problem(server.post("/v1/jobs/cancel", {"filter": {"tag": "fails"}}), 507)
    assert states(server, [job]) == ["queued"]
