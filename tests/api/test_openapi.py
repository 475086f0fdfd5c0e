"""/openapi.json: made of the tables that route, and true."""
import json
import re

import openapi
from test_http import ROUTES, DEF


def document(server):
    return server.get("/openapi.json").json()


def test_every_route_is_described_and_nothing_else(server):
    d = document(server)
    assert d["openapi"] == "3.1.0" and d["info"]["title"] == "mulund" and d["info"]["version"]
    described = {(m.upper(), p) for p, operations in d["paths"].items() for m in operations}
    assert described == set(ROUTES)
    operations = [o for path in d["paths"].values() for o in path.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)
    assert all(re.fullmatch(r"[a-z0-9_]+", o["operationId"]) and o["summary"] for o in operations)


def test_parameters_are_those_of_the_routes(server):
    d = document(server)
    rows = re.findall(r'^R\((\w+), "([^"]+)", \w+, \w+, "([^"]*)"', DEF, re.M)
    assert len(rows) == len(ROUTES)
    for method, path, params in rows:
        described = d["paths"][path][method.lower()]["parameters"]
        assert {p["name"] for p in described if p["in"] == "query"} == set(params.split())
        assert {p["name"] for p in described if p["in"] == "path"} == set(re.findall(r"\{(\w+)\}", path))
        assert all(p["required"] is (p["in"] == "path") and p["schema"] is not None and p["description"] for p in described)


def test_every_reference_is_there_and_every_schema_used(server):
    d = document(server)
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(d).replace("\\/", "/")))
    assert used == set(d["components"]["schemas"])


def test_the_checker_finds_what_is_wrong(server):
    d = document(server)
    job = server.get(f"/v1/jobs/{server.submit()}").json()
    schema = {"$ref": "#/components/schemas/Job"}
    assert openapi.errors(d, schema, job) == []
    for wrong in ({"id": "1"}, {"state": "happy"}, {"tags": [1]}, {"new": 1}, {"stopping": "whim"}, {"progress": {"step": 1}}, {"ended": 5}):
        assert openapi.errors(d, schema, {**job, **wrong}), wrong
    assert openapi.errors(d, schema, {k: v for k, v in job.items() if k != "version"})


def test_requests_that_are_taken_are_as_described(server):
    d = document(server)
    body = {"kind": "train", "config": "cifar10-conditioned", "name": "n", "tags": ["t"], "notes": "x", "priority": 1, "after": [], "limits": {"wall": 5},
            "overrides": {}, "accept_changed_data": False}
    assert server.post("/v1/jobs", body).status_code == 201
    assert openapi.errors(d, d["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"], body) == []
