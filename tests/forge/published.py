"""The published descriptions (Swagger 2.0) of GitLab and Forgejo, and whether requests and answers are as they say.

The files are large and belong to others, so they are not kept here. GitLab's is `doc/api/openapi/openapi_v2.yaml` in
its repository (as JSON or YAML), Forgejo's is `/swagger.v1.json` of any instance:

    EXECUTOR_LONG=1 EXECUTOR_GITLAB_SWAGGER=/some/gitlab.yaml EXECUTOR_FORGEJO_SWAGGER=/some/forgejo.json \\
        python -m pytest -s -m long tests/forge/test_other_forges.py tests/features/test_other_forges.py -k publishes
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.fake_github import Request

__all__ = ["UNPUBLISHED", "assert_as_published", "published"]

VARIABLES = {"gitlab": "EXECUTOR_GITLAB_SWAGGER", "forgejo": "EXECUTOR_FORGEJO_SWAGGER"}
_PROJECT = "/api/v4/projects/{id}"
UNPUBLISHED = {
    "gitlab": {
        f"GET {_PROJECT}/merge_requests/N/notes",
        f"POST {_PROJECT}/merge_requests/N/notes",
        f"PUT {_PROJECT}/merge_requests/N/notes/N",
        f"GET {_PROJECT}/issues",
        f"GET {_PROJECT}/issues/N",
        f"PUT {_PROJECT}/issues/N",
        f"GET {_PROJECT}/milestones",
        f"GET {_PROJECT}/milestones/N",
        f"PUT {_PROJECT}/milestones/N",
    },
    "forgejo": set(),
    "gitea": set(),
}
"""Requests that the published description leaves out although the forge documents them elsewhere."""
_NEWER = {"auto_merge"}
"""Keys of GitLab's that replace described ones in later versions; both are sent."""
_OK, NOT_MODIFIED = 300, 304


def published(kind: str) -> dict[str, Any]:
    """The description of a forge; skips the test where it is not to be had."""
    variable = VARIABLES.get(kind, "EXECUTOR_FORGEJO_SWAGGER")
    name = os.environ.get(variable)
    if not name:
        pytest.skip(f"needs the published description in {variable}; see tests/forge/published.py")
    pytest.importorskip("jsonschema")
    text = Path(name).read_text(encoding="utf-8")
    value: dict[str, Any]
    if text.lstrip().startswith("{"):
        value = json.loads(text)
    else:
        yaml = pytest.importorskip("yaml")
        value = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return value


def assert_as_published(description: dict[str, Any], requests: Iterable[Request], unpublished: set[str]) -> None:
    """Every request is one that the forge describes, with parameters, body and answer as described."""
    kinds: set[str] = set()
    left_out: set[str] = set()
    violations: dict[str, list[str]] = {}
    count = 0
    for request in requests:
        found = _described(description, request)
        if found is None:
            left_out.add(_shortened(request))
            continue
        template, operation = found
        kinds.add(f"{request.method} {template}")
        count += 1
        problems = [*_query_problems(description, operation, request), *_body_problems(description, operation, request)]
        problems += _answer_problems(description, operation, request)
        if problems:
            violations[f"{request.method} {template}"] = problems
    assert not violations, json.dumps(violations, indent=1)
    told = f"{count} requests of {len(kinds)} kinds, 0 violations; not described: {len(left_out)}"
    print(f"\n{told}")  # noqa: T201
    assert left_out <= unpublished
    assert len(kinds) >= 7


def _shortened(request: Request) -> str:
    path = re.sub(r"^(/api/v4/projects/)[^/]+", r"\1{id}", request.path)
    return f"{request.method} {re.sub('/[0-9]+(?=/|$)', '/N', path)}"


def _described(description: dict[str, Any], request: Request) -> tuple[str, dict[str, Any]] | None:
    """The path template and operation that a request is an example of; the one with the most literal parts."""
    path = request.path.removeprefix(description.get("basePath") or "")
    found = []
    for template, operations in description["paths"].items():
        pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template))
        if request.method.lower() in operations and re.fullmatch(pattern, path):
            found.append((template.count("{"), template))
    if not found:
        return None
    template = min(found)[1]
    return template, description["paths"][template][request.method.lower()]


def _query_problems(description: dict[str, Any], operation: dict[str, Any], request: Request) -> Iterator[str]:
    import jsonschema

    declared = {item["name"]: item for item in operation.get("parameters", []) if item["in"] == "query"}
    for name, parameter in declared.items():
        if parameter.get("required") and name not in request.query:
            yield f"the parameter {name} is missing"
    for name, values in request.query.items():
        parameter = declared.get(name) or declared.get(f"{name}[]")
        if parameter is None:
            yield f"the parameter {name} is not described"
            continue
        schema = _plain(description, {key: parameter[key] for key in ("type", "enum", "items") if key in parameter})
        value: Any = values[0]
        if schema.get("type") == "integer":
            value = int(value)
        elif schema.get("type") == "array":
            value = value.split(",")
        yield from (error.message for error in jsonschema.Draft7Validator(schema).iter_errors(value))


def _body_problems(description: dict[str, Any], operation: dict[str, Any], request: Request) -> Iterator[str]:
    import jsonschema

    wanted = next((item for item in operation.get("parameters", []) if item["in"] == "body"), None)
    body = request.body or {}
    if wanted is None:
        forms = {item["name"] for item in operation.get("parameters", []) if item["in"] in {"formData", "query"}}
        yield from (f"the key {key} is not described" for key in body if key not in forms)
        return
    schema = _plain(description, wanted["schema"])
    yield from (error.message for error in jsonschema.Draft7Validator(schema).iter_errors(body))
    known = schema.get("properties", {}).keys() | _NEWER
    yield from (f"the key {key} is not described" for key in body if key not in known)


def _answer_problems(description: dict[str, Any], operation: dict[str, Any], request: Request) -> Iterator[str]:
    """Whether the fake answers with a described status, and with described fields of the described types."""
    if request.status == NOT_MODIFIED or not request.status:
        return
    responses = {str(status): value for status, value in operation["responses"].items()}
    told = responses.get(str(request.status))
    if told is None and request.status < _OK:  # GitLab describes 200 for what it creates with 201, Forgejo 201 for 200
        told = next((value for status, value in responses.items() if status.startswith("2")), None)
    if told is None:
        yield f"the status {request.status} is not described"
        return
    schema = _plain(description, _resolved(description, told).get("schema") or {})
    answer = request.answer
    if request.status >= _OK or not schema:
        return
    loose = description["info"]["title"] == "GitLab API"  # which says string of all that it gives no type
    if isinstance(answer, list):
        for item in answer:
            yield from _field_problems(schema.get("items", {}), item, loose=loose)
    elif isinstance(answer, dict):
        yield from _field_problems(schema, answer, loose=loose)


def _field_problems(schema: dict[str, Any], item: dict[str, Any], *, loose: bool) -> Iterator[str]:
    import jsonschema

    known = schema.get("properties", {})
    for key, value in item.items():
        if key not in known:
            yield f"the answer's field {key} is not described"
        elif value is not None and not (loose and known[key].get("type") == "string"):
            errors = jsonschema.Draft7Validator(known[key]).iter_errors(value)
            yield from (f"{key}: {error.message}" for error in errors)


def _resolved(description: dict[str, Any], value: Any) -> Any:
    """What a reference stands for."""
    while isinstance(value, dict) and "$ref" in value:
        target: Any = description
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def _plain(description: dict[str, Any], schema: Any, depth: int = 6) -> Any:
    """A Swagger schema as JSON Schema: references in place, down to a depth; null is allowed where a value is."""
    schema = _resolved(description, schema)
    if isinstance(schema, list):
        return [_plain(description, item, depth) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if depth <= 0:
        return {}
    found = {
        key: _plain(description, value, depth - 1) for key, value in schema.items() if key not in {"example", "format"}
    }
    kind = found.get("type")
    if isinstance(kind, str) and kind == "file":
        return {}
    return found
