"""Lists that are sorted, or narrowed to jobs by their numbers, a checkpoint's job and values of their configurations."""
import random
import sqlite3

import pytest

from conftest import START, Server, checkpoint, problem

KEYS = ["name", "kind", "state", "progress", "images_per_second", "test_bpd", "train_bpd", "best_test_bpd", "best_train_bpd", "created", "started", "ended",
        "duration", "step", "attempts", "priority", "owner", "devices", "notes", "config.optimizer.learning_rate"]


def listed(server, **params):
    r = server.get("/v1/jobs", params=params)
    assert r.status_code == 200, r.text
    return r.json()


def pages(server, limit, **params):
    """All of a list, page by page: jobs, and the total, which each page says."""
    jobs, cursor, totals = [], None, set()
    while True:
        d = listed(server, limit=limit, **params, **({"cursor": cursor} if cursor else {}))
        jobs, cursor = jobs + d["jobs"], d["next"]
        totals.add(d["total"])
        if not cursor:
            assert len(totals) == 1
            return jobs, totals.pop()


def ids(jobs):
    return [j["id"] for j in jobs]


@pytest.fixture(scope="module")
def lab(server):
    """Runs as a lab has them: with curves, results, other learning rates, on other devices; ids by name."""
    found = {}

    def add(name, state=None, points=(), result=None, **more):
        job = found[name] = server.submit(name=name, tags=["lab"], **more)
        if state or points:
            server.run(job, [{"type": "start", "step": 0, "steps": 100, "devices": ["cpu"], **START},
                             *[{"type": "scalars", "step": [s], "time_ms": [1000 * s], "columns": {name: ["NaN" if v != v else v]}} for name, s, v in points],
                             {"type": "progress", "step": points[-1][1] if points else 0, "steps": 100, "images_per_second": 10.0 + len(found), "seconds_left": 5}],
                       state, **({"result": result} if result else {}))

    rate = "optimizer.learning_rate"
    add("Beta", "succeeded", [("train/bpd", 10, 3.5), ("train/bpd", 20, 3.25), ("eval/bpd", 20, 3.0)], {"bpd": 2.75, "split": "test"}, overrides={rate: 0.002}, priority=3)
    add("alpha", None, [("train/bpd", 10, 2.5), ("train/bpd", 30, 4.0), ("eval/bpd", 20, 2.625), ("eval/bpd", 30, 2.875)], overrides={rate: 0.0002})
    add("gamma", "failed", [("train/bpd", 50, float("nan"))], overrides={rate: 0.002, "training.seed": 7}, notes="it broke")
    add("delta", overrides={rate: 0.02}, priority=-5, notes="Above")
    add("epsilon", "succeeded", [("time/bpd", 40, 1.0)], {"bpd": 2.25, "split": "train"}, overrides={"training.seed": 7})
    add("zeta", "cancelled")
    return found


def test_the_best_come_first(server, lab):
    def order(**params):
        return [j["name"] for j in pages(server, 500, tag="lab", **params)[0]]
    assert order(sort="test_bpd") == ["Beta", "alpha", "zeta", "epsilon", "delta", "gamma"]  # a result before a curve
    assert order(sort="-test_bpd") == ["alpha", "Beta", "zeta", "epsilon", "delta", "gamma"]  # who has none last still
    assert order(sort="train_bpd") == ["epsilon", "Beta", "alpha", "zeta", "delta", "gamma"]
    assert order(sort="best_train_bpd")[:2] == ["alpha", "Beta"] and order(sort="best_test_bpd")[:2] == ["alpha", "Beta"]
    assert order(sort="name") == ["alpha", "Beta", "delta", "epsilon", "gamma", "zeta"]
    assert order(sort="-config.learning_rate")[0] == "delta" and order(sort="config.optimizer.learning_rate")[-1] == "delta"
    assert order(sort="notes")[:2] == ["delta", "gamma"] and order(sort="-priority")[0] == "Beta" and order(sort="priority")[0] == "delta"
    assert order(sort="state")[0] == "alpha" and order(sort="-step")[0] == "gamma"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("sign", ["", "-"])
def test_pages_of_any_order_are_its_whole_and_each_job_once(server, lab, key, sign):
    whole, total = pages(server, 500, sort=sign + key)
    assert total == len(whole) == listed(server)["total"] and len(set(ids(whole))) == total
    for limit in (1, 2, 5):
        paged, n = pages(server, limit, sort=sign + key, fields="id")
        assert (n, ids(paged)) == (total, ids(whole)) or key == "duration"  # one runs
    values = [j["sorted_by"] for j in whole]
    known = [v for v in values if v is not None]
    assert values[:len(known)] == known  # what is not known last
    low = [v.lower() if isinstance(v, str) else v for v in known]
    assert low == sorted(low, reverse=sign == "-")
    for a, b in zip(whole, whole[1:]):
        assert a["sorted_by"] != b["sorted_by"] or a["id"] > b["id"]


def test_what_it_is_sorted_by_is_what_the_job_says(server, lab):
    def by(key):
        return {j["name"]: j["sorted_by"] for j in listed(server, tag="lab", sort=key)["jobs"]}
    assert by("test_bpd") == {"Beta": 2.75, "alpha": 2.875, "gamma": None, "delta": None, "epsilon": None, "zeta": None}
    assert by("train_bpd") == {"Beta": 3.25, "alpha": 4.0, "gamma": None, "delta": None, "epsilon": 2.25, "zeta": None}
    assert by("best_train_bpd")["alpha"] == 2.5 and by("best_test_bpd") == {"Beta": 3.0, "alpha": 2.625, "gamma": None, "delta": None, "epsilon": None, "zeta": None}
    assert by("config.learning_rate")["delta"] == 0.02 and by("notes")["delta"] == "Above" and by("priority")["Beta"] == 3
    jobs = {j["name"]: j for j in listed(server, tag="lab")["jobs"]}
    assert by("step") == {n: j["progress"]["step"] for n, j in jobs.items()}
    assert by("progress") == {n: j["progress"]["step"] / j["progress"]["steps"] for n, j in jobs.items()}
    assert by("images_per_second") == {n: j["progress"]["images_per_second"] if j["state"] == "running" else None for n, j in jobs.items()}
    assert all((v is None) == (jobs[n]["started"] is None) and (v is None or 0 <= v < 600) for n, v in by("duration").items())
    assert "sorted_by" not in jobs["Beta"]
    assert all(set(j) == {"id", "sorted_by"} for j in listed(server, tag="lab", sort="step", fields="id")["jobs"])


def test_a_value_of_the_configuration_narrows_a_list(server, lab):
    def names(**params):
        d = listed(server, tag="lab", **params)
        assert d["total"] == len(d["jobs"])
        return sorted(j["name"] for j in d["jobs"])
    assert names(config="learning_rate=0.002") == names(config="optimizer.learning_rate=2e-3") == ["Beta", "gamma"]
    assert names(config="training.seed=7") == ["epsilon", "gamma"] and names(config="learning_rate=0.002,training.seed=7") == ["gamma"]
    assert names(config="learning_rate=0.002", state="succeeded") == ["Beta"] and names(config="learning_rate=0.5") == []
    assert names(config="dataset=photos32") == names(config='"dataset=photos32"') and names(config="dataset=none") == []
    assert names(config="with_attention=true") == [] and len(names(config="reparam_type=true")) == 6  # a text that looks like none
    assert names(config="learning_rate=0.002", sort="name") == ["Beta", "gamma"] and names(config="learning_rate=0.002", order="id") == ["Beta", "gamma"]
    assert names(config="learning_rate=0.02", order="priority") == ["delta"]


def test_totals_of_what_is_narrowed_are_of_all_pages(server, lab):
    d = listed(server, tag="lab", config="gamma_type=poly_fixedend", limit=2)
    assert d["total"] == 6 and len(d["jobs"]) == 2
    second = listed(server, tag="lab", config="gamma_type=poly_fixedend", limit=2, cursor=d["next"])
    assert second["total"] == 6 and ids(second["jobs"]) == ids(listed(server, tag="lab")["jobs"])[2:4]
    assert listed(server, config="training.seed=7", tag="lab", sort="step", limit=1)["total"] == 2


def test_jobs_are_asked_for_by_their_numbers(server, lab):
    some = [lab["delta"], lab["Beta"], lab["zeta"]]
    asked = ",".join(map(str, [*some, 10**15, lab["Beta"]]))
    assert ids(listed(server, id=asked)["jobs"]) == sorted(some, reverse=True) and listed(server, id=asked)["total"] == 3
    assert ids(listed(server, id=asked, order="id")["jobs"]) == sorted(some)
    assert ids(pages(server, 1, id=asked, order="id")[0]) == sorted(some) and ids(pages(server, 2, id=asked)[0]) == sorted(some, reverse=True)
    assert ids(listed(server, id=asked, sort="-config.learning_rate")["jobs"])[0] == lab["delta"]
    assert ids(listed(server, id=asked, state="queued")["jobs"]) == [lab["delta"]] == ids(listed(server, id=asked, order="priority")["jobs"])
    assert ids(listed(server, id=asked, text="eta", config="learning_rate=0.002")["jobs"]) == [lab["Beta"]]


def test_what_was_made_of_a_jobs_checkpoints(server):
    source, other = server.submit(), server.submit()
    for job in (source, other):
        server.run(job, [checkpoint(5)], "succeeded")
    made = [server.post("/v1/jobs", {"kind": kind, "checkpoint": {"job": job, "step": 5}}).json()["id"] for kind in ("evaluate", "sample") for job in (source, other, source)]
    mine = [made[i] for i in (0, 2, 3, 5)]
    assert ids(listed(server, checkpoint_job=source)["jobs"]) == mine[::-1] and ids(listed(server, checkpoint_job=source, order="id")["jobs"]) == mine
    assert ids(pages(server, 3, checkpoint_job=source)[0]) == mine[::-1] and listed(server, checkpoint_job=source)["total"] == 4
    assert ids(listed(server, checkpoint_job=source, kind="sample")["jobs"]) == mine[:1:-1] and listed(server, checkpoint_job=made[0])["total"] == 0
    assert ids(listed(server, checkpoint_job=source, sort="kind")["jobs"]) == [mine[1], mine[0], mine[3], mine[2]]


@pytest.mark.parametrize("query, where", [
    ("sort=", "sort"), ("sort=-", "sort"), ("sort=bpd", "sort"), ("sort=NAME", "sort"), ("sort=--step", "sort"), ("sort=step,name", "sort"), ("sort=config.", "sort"),
    ("sort=config.seed", "sort"), ("sort=config.optimizer", "sort"), ("sort=config.$.x", "sort"), ("sort=step&order=id", "sort"), ("sort=" + "x" * 300, "sort"),
    ("sort=step&cursor=5", "cursor"), ("sort=step&cursor=5.n", "cursor"), ("sort=step&cursor=5.nx", "cursor"), ("sort=step&cursor=5.n1x", "cursor"), ("sort=step&cursor=5.nnan", "cursor"),
    ("sort=step&cursor=5.t6", "cursor"), ("sort=step&cursor=5.t00", "cursor"), ("sort=step&cursor=5.t" + "61" * 100, "cursor"), ("sort=step&cursor=0.n1", "cursor"),
    ("sort=step&cursor=x.n1", "cursor"), ("sort=step&cursor=5.q", "cursor"), ("sort=step&cursor=", "cursor"), ("cursor=5.n1", "cursor"),
    ("id=", "id"), ("id=0", "id"), ("id=x", "id"), ("id=1,,2", "id"), ("id=1,", "id"), ("id=-1", "id"), ("id=99999999999999999999", "id"), ("id=" + ",".join(map(str, range(1, 502))), "id"),
    ("checkpoint_job=0", "checkpoint_job"), ("checkpoint_job=x", "checkpoint_job"),
    ("config=", "config"), ("config=seed", "config"), ("config==3", "config"), ("config=sed=3", "config"), ("config=training.seed=3,", "config"), ("config=training.seed=x", "config"), ("config=training.seed=1.5", "config"), ("config=seed=3", "config"),
    ("config=learning_rate=2", "config"), ("config=gamma_type=poly", "config"), ("config=with_attention=maybe", "config"), ("config=optimizer=3", "config"), ('config="seed=3', "config"),
    ("config=$.training.seed=3", "config"), ("config=learning_rate=0.1,optimizer.learning_rate=0.2", "config"), ("config=training.seed=[3]", "config"), ("config=training.seed=null", "config"), ("config=training.seed", "config"),
])
def test_what_cannot_be_asked_for_is_said_with_its_place(server, query, where):
    r = server.get("/v1/jobs?" + query)
    problem(r, 400)
    assert [e["parameter"] for e in r.json()["errors"]] == [where], r.text


def test_a_key_that_is_not_one_is_answered_with_the_nearest(server):
    def said(**params):
        return server.get("/v1/jobs", params=params).json()["errors"][0]["detail"]
    assert "optimizer.learning_rate" in said(config="learning_rte=3") and "optimizer.learning_rate" in said(sort="config.learning_rte")
    for what in ({"sort": "config.seed"}, {"config": "seed=3"}):  # as many would be removed by it as have the default of the other
        assert "training.seed" in said(**what) and "evaluation.seed" in said(**what)
    assert "section" in said(sort="config.optimizer") and "section" in said(config="optimizer=3") and "config.KEY" in said(sort="bpd")
    assert "poly_fixedend" in said(config="gamma_type=poly") and "test_bpd" in said(sort="bpd")


def test_texts_are_sorted_by_whatever_is_in_them(server):
    odd = ["'; DROP TABLE job; --", "%s%n", "Ünï", "ünì", "x" * 200, "x" * 199 + "y", "\U0001f600", '"', "]", "a.b", "$.config"]
    jobs = [server.submit(name=name, tags=["odd"]) for name in odd]
    for sort in ("name", "-name"):
        assert sorted(ids(pages(server, 1, tag="odd", sort=sort)[0])) == jobs


def test_actions_on_many_take_the_same_filter(server, lab):
    jobs = [server.submit(name="bulk", tags=["bulk"], overrides={"training.seed": i % 2, "optimizer.learning_rate": 0.25}) for i in range(6)]

    def states():
        return [server.get(f"/v1/jobs/{j}").json()["state"] for j in jobs]
    r = server.post("/v1/jobs/pause", {"filter": {"config": "learning_rate=0.25,training.seed=1"}})
    assert r.json() == {"matched": 3, "changed": 3, "refused": 0} and states() == ["queued", "paused"] * 3
    assert server.post("/v1/jobs/cancel", {"filter": {"id": [jobs[0], jobs[1], 10**15]}}).json() == {"matched": 2, "changed": 2, "refused": 0}
    assert states() == ["cancelled", "cancelled", "queued", "paused", "queued", "paused"]
    assert server.post("/v1/jobs/cancel", {"filter": {"id": jobs, "state": ["paused"]}}).json()["changed"] == 2
    server.run(jobs[2], [checkpoint(5)], "succeeded")
    made = server.post("/v1/jobs", {"kind": "evaluate", "checkpoint": {"job": jobs[2], "step": 5}}).json()["id"]
    assert server.post("/v1/jobs/cancel", {"filter": {"checkpoint_job": jobs[2]}}).json() == {"matched": 1, "changed": 1, "refused": 0}
    assert server.get(f"/v1/jobs/{made}").json()["state"] == "cancelled"
    for bad, where in (({"id": []}, "/filter/id"), ({"id": [0]}, "/filter/id"), ({"id": ["1"]}, "/filter/id"), ({"id": {"a": 1}}, "/filter/id"), ({"id": [1.5]}, "/filter/id"),
                       ({"id": list(range(1, 502))}, "/filter/id"), ({"config": {}}, "/filter/config"), ({"config": ""}, "/filter/config"), ({"config": "sed=3"}, "/filter/config"),
                       ({"checkpoint_job": 0}, "/filter/checkpoint_job"), ({"checkpoint_job": "3"}, "/filter/checkpoint_job"), ({"sort": "step"}, "/filter/sort")):
        r = server.post("/v1/jobs/cancel", {"filter": bad})
        problem(r, 422)
        assert [e["pointer"] for e in r.json()["errors"]] == [where], r.text
    assert states() == ["cancelled", "cancelled", "succeeded", "cancelled", "queued", "cancelled"]


def test_among_very_many_what_is_old_is_found_as_well(tmp_path):
    """40,000 jobs, of which what is asked for is not among the newest; each page looks at all of them by an index."""
    s = Server(tmp_path)
    n = 40000
    try:
        first = s.submit(name="first", overrides={"training.seed": 1})
        with sqlite3.connect(s.state / "mulund.db", timeout=60) as db:
            names = ", ".join(row[1] for row in db.execute("PRAGMA table_info(job)") if row[1] not in ("id", "name", "test_bpd", "config", "source_job"))
            db.execute(f"""WITH RECURSIVE k (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM k WHERE i < {n})
                INSERT INTO job (id, name, test_bpd, config, source_job, {names}) SELECT k.i, 'run ' || k.i, 2 + k.i * 7919 % 40009 / 20000.0, json_set(j.config, '$.training.seed', k.i % 1000), CASE k.i % 20 WHEN 3 THEN 1 ELSE 0 END,
                {', '.join('j.' + x for x in names.split(', '))} FROM k, job j WHERE j.id = ?""", (first,))
        db.close()
        best = sorted(range(10, n + 1), key=lambda i: (i * 7919 % 40009, -i))
        assert ids(listed(s, sort="test_bpd", fields="id", limit=500)["jobs"]) == best[:500]
        assert ids(listed(s, sort="-test_bpd", fields="id", limit=20)["jobs"]) == sorted(best, key=lambda i: (-(i * 7919 % 40009), -i))[:20]
        assert ids(pages(s, 500, sort="test_bpd", fields="id", text="run 1")[0]) == [i for i in best if str(i).startswith("1")]
        d = listed(s, config="training.seed=77", fields="id", limit=30)
        assert d["total"] == 40 and ids(d["jobs"]) == list(range(n - 923, 0, -1000))[:30]
        assert ids(listed(s, config="training.seed=77", sort="test_bpd", fields="id", limit=3)["jobs"]) == [i for i in best if i % 1000 == 77][:3]
        assert listed(s, id="77,12345", fields="id")["total"] == 2
        d = listed(s, checkpoint_job=1, fields="id", limit=3)
        assert d["total"] == 2000 - 1 and ids(d["jobs"]) == [39983, 39963, 39943]
        assert s.post("/v1/jobs/cancel", {"filter": {"config": "training.seed=77"}}).json()["changed"] == 40
        assert listed(s, state="cancelled", limit=1)["total"] == 40

        def processor_s(**params):
            before = s.processor_s()
            for _ in range(10):
                listed(s, fields="id", limit=50, **params)
            return s.processor_s() - before
        # an index of what is sorted by is a fortieth of the rows
        assert processor_s(sort="test_bpd") < 0.6 * processor_s(sort="config.training.seed") + 0.05
        assert processor_s(id="77,12345", sort="test_bpd") < 0.2 * processor_s(sort="test_bpd") + 0.05
    finally:
        s.close()


def test_any_order_of_any_filter_is_the_same_as_sorting_all(server, lab):
    """Against Python's own sort of what a list without an order says, with filters drawn at random (a seed each run shows)."""
    seed = random.randrange(10**9)
    rng = random.Random(seed)
    keys = {"step": lambda j: j["progress"]["step"], "priority": lambda j: j["priority"], "attempts": lambda j: j["attempts"],
            "name": lambda j: j["name"].lower().encode() or None, "owner": lambda j: j["owner"], "config.learning_rate": lambda j: (j["config"] or {}).get("optimizer", {}).get("learning_rate")}
    for _ in range(60):
        params = {k: v for k, v in {"state": rng.choice(["queued", "succeeded,failed", "queued,running,cancelled"]), "kind": rng.choice(["train", "evaluate,sample"]), "tag": "lab",
                                    "text": rng.choice(["a", "eta", "run"]), "config": rng.choice(["learning_rate=0.002", "training.seed=7", "dataset=photos32"])}.items() if rng.random() < 0.3}
        key, down = rng.choice(list(keys)), rng.random() < 0.5
        if key == "name":
            params["tag"] = "lab"  # others' are long, or not ASCII
        jobs, total = pages(server, 500, **params)
        assert total == len(jobs), (seed, params)
        known = [j for j in jobs if keys[key](j) is not None]
        wanted = ids(sorted(known, key=keys[key], reverse=down)) + ids([j for j in jobs if keys[key](j) is None])  # stable: newest first stays
        got = ids(pages(server, rng.choice([3, 50]), sort="-" * down + key, fields="id", **params)[0])
        assert got == wanted, (seed, params, key, down)
