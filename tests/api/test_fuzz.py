"""Configurations and queries that hypothesis makes up: never a 500, never a crash, and what is taken is what was asked."""
import json
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import PUBLISHED, problem

KEYS = [f"{s}.{k}" for s, v in json.loads((PUBLISHED / "cifar10-conditioned.json").read_text()).items() if isinstance(v, dict) for k in v]
KEYS += ["vdm_type", "evaluation.method", "sampling.n_images", "machine.threads"]
text = st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=40)
scalar = st.none() | st.booleans() | st.integers(-2**63, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | text
anything = st.recursive(scalar, lambda x: st.lists(x, max_size=4) | st.dictionaries(text, x, max_size=4), max_leaves=8)
RUN = settings(max_examples=100 if "TEST_QUICK" in os.environ else 300, deadline=None, suppress_health_check=list(HealthCheck))


def refused_or_taken(r):
    assert r.status_code in (201, 400, 422), r.text
    if r.status_code != 201:
        problem(r, r.status_code)


@RUN
@given(overrides=st.dictionaries(st.sampled_from(KEYS) | text, scalar | anything, max_size=5))
def test_overrides(server, overrides):
    r = server.post("/v1/jobs", {"kind": "train", "config": "cifar10-conditioned", "overrides": overrides})
    refused_or_taken(r)
    if r.status_code == 201:
        config = r.json()["config"]
        for path, v in overrides.items():
            o = config
            for k in path.split("."):
                o = o[k]
            assert o == v or isinstance(o, float) and o == float(v)


@RUN
@given(config=st.dictionaries(st.sampled_from(["model", "training", "optimizer", "data", "vdm_type"]) | text, anything, max_size=4))
def test_inline_configurations(server, config):
    refused_or_taken(server.post("/v1/jobs", {"kind": "train", "config": config}))


@RUN
@given(body=st.dictionaries(st.sampled_from(["kind", "config", "checkpoint", "tags", "name", "overrides", "seed", "method"]) | text,
                            anything | st.sampled_from(["train", "evaluate", "sample"]), max_size=6))
def test_bodies(server, body):
    refused_or_taken(server.post("/v1/jobs", body))


@RUN
@given(body=st.binary(max_size=200))
def test_bytes(server, body):
    r = server.request("POST", "/v1/jobs", data=body, headers={"Content-Type": "application/json"})
    assert r.status_code in (400, 422)
    problem(r, r.status_code)


@RUN
@given(params=st.dictionaries(st.sampled_from(["state", "kind", "tag", "text", "id", "config", "checkpoint_job", "sort", "order", "limit", "cursor", "jobs", "names", "points", "from", "to"]),
                              text | st.integers(-5, 10**20).map(str), max_size=4))
def test_queries(server, params):
    for path in ("/v1/jobs", "/v1/series", "/v1/jobs/1/log"):
        r = server.get(path, params=params)
        assert r.status_code in (200, 400, 404), r.text
