"""Answers against /openapi.json: as much of JSON Schema as it uses."""
import re


def find(document, method, path):
    """The operation of a request; None: the path is no resource."""
    for pattern, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path.split("?")[0]):
            if "{name}" in pattern and path.split("?")[0] in document["paths"]:
                continue  # a fixed path comes first
            return operations.get("get" if method == "HEAD" else method.lower())
    return None


def errors(document, schema, value, where=""):
    """What is wrong with the value."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        found = [errors(document, s, value, where) for s in schema["anyOf"]]
        return [] if [] in found else [f"{where}: {value!r} is none of {schema['anyOf']}: {found}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is not one of {schema['enum']}"]
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    kind = schema.get("type")
    if kind and (not isinstance(value, types[kind]) or (kind in ("integer", "number") and isinstance(value, bool))):
        return [f"{where}: {value!r} is no {kind}"]
    if kind == "array":
        return [e for i, item in enumerate(value) for e in errors(document, schema["items"], item, f"{where}/{i}")]
    if kind == "object":
        wrong = [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
        properties = schema.get("properties", {})
        if properties:
            wrong += [f"{where}: {name} is not described" for name in value if name not in properties]
        return wrong + [e for name, s in properties.items() if name in value for e in errors(document, s, value[name], f"{where}/{name}")]
    return []


def check(document, method, path, answer):
    """Fails when the answer is not what the description says."""
    operation = find(document, method, path)
    kind = answer.headers.get("Content-Type", "")
    if operation is None or method == "HEAD" or not kind.endswith("json"):
        return
    described = operation["responses"].get(str(answer.status_code), operation["responses"]["default"])
    content = described.get("content", {})
    if kind not in content:
        assert "application/octet-stream" in content or "text/plain" in content, (method, path, answer.status_code, kind, described)
        return
    if answer.status_code == 200 and "fields=" in answer.url:
        return  # a part of it
    wrong = errors(document, content[kind]["schema"], answer.json())
    assert not wrong, (method, path, wrong)
