"""Every request of the GitHub adapter against GitHub's own published description. It has a command of its own:

    npm install --prefix /some/folder @octokit/openapi @octokit/graphql-schema
    pip install jsonschema graphql-core
    EXECUTOR_LONG=1 EXECUTOR_OCTOKIT=/some/folder/node_modules/@octokit \
        python -m pytest -s -m long tests/forge/test_github_description.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from executor.forge.base import CheckState, NewPull
from executor.forge.hosts.github import AUTO_MERGE, DEQUEUE, DISABLE, DRAFT, ENQUEUE, READY
from tests.forge.test_github import NEW, fake, forge, waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.forge.hosts.github import GitHubForge
    from tests.fake_github import FakeGitHub, Request

__all__ = ["fake", "forge", "waits"]
pytestmark = pytest.mark.long
MUTATIONS = {
    "READY": READY,
    "DRAFT": DRAFT,
    "AUTO_MERGE": AUTO_MERGE,
    "ENQUEUE": ENQUEUE,
    "DISABLE": DISABLE,
    "DEQUEUE": DEQUEUE,
}


@pytest.fixture(scope="module")
def octokit() -> Path:
    folder = os.environ.get("EXECUTOR_OCTOKIT")
    if not folder:
        pytest.skip("needs @octokit/openapi and @octokit/graphql-schema from npm; see the head of this file")
    return Path(folder)


@pytest.fixture(scope="module")
def description(octokit: Path) -> dict[str, Any]:
    path = octokit / "openapi" / "generated" / "api.github.com.json"
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value


def everything(forge: GitHubForge, fake: FakeGitHub) -> None:
    """Every request that the adapter can make, both ways where there are two."""
    milestone = fake.add_milestone("M1")
    issue = fake.add_issue("One", milestone=milestone)
    forge.block(fake.add_issue("Two", milestone=milestone), [issue])
    forge.issues("M1")
    pull = forge.open(NewPull("feat/m1-a", "milestone/m1", "core(m1): A", "ours\n", draft=True))
    pull = forge.update(pull, title="core(m1): B", body="new\n", draft=False, labels=["x"])
    pull = forge.update(forge.update(pull, draft=True), draft=False)
    forge.pulls("milestone/m1")
    forge.post_status(pull.sha, "tests", "success", "passed on exactly this tree")
    fake.set_check(pull.sha, "ci", "pending")
    fake.required["milestone/m1"] = ["ci"]
    forge.request_merge(pull, pull.sha, "core(m1): B", "Body.", "squash")
    forge.withdraw(pull)
    forge.comment(pull, "<!-- m -->", "<!-- m --> one")
    forge.comment(pull, "<!-- m -->", "<!-- m --> two")
    forge.report(CheckState("ci", "failure", id=1))
    forge.edit_issue(issue, "text")
    forge.request_merge(pull, pull.sha, "core(m1): B", "Body.", "squash")
    fake.set_check(pull.sha, "ci", "success")
    fake.required.clear()
    other = forge.open(NewPull("feat/m1-b", "milestone/m1", "core(m1): C", ""))
    other = forge.retarget(forge.retarget(other, "feat/m1-a"), "milestone/m1")
    forge.request_merge(other, other.sha, "core(m1): C", "Body.", "merge")
    fake.git(
        "update-ref", "refs/heads/feat/m1-a", fake.git("commit-tree", f"{pull.sha}^{{tree}}", "-p", pull.sha, given="x")
    )
    forge.close(forge.open(NEW))
    forge.close_issue(issue)
    forge.close_milestone("M1")


def test_every_request_is_one_that_github_describes(
    forge: GitHubForge, fake: FakeGitHub, description: dict[str, Any]
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    everything(forge, fake)
    requests = [request for request in fake.requests if request.path != "/graphql"]
    kinds = set()
    for request in requests:
        template, operation = described(description, request)
        kinds.add(f"{request.method} {template}")
        problems = [*query_problems(jsonschema, description, operation, request)]
        problems += body_problems(jsonschema, description, operation, request)
        assert problems == [], f"{request.method} {request.path}"
    print(f"\n{len(requests)} requests of {len(kinds)} kinds, 0 violations of the description")  # noqa: T201
    assert len(kinds) >= 18


def test_every_mutation_is_one_that_the_schema_has(octokit: Path, forge: GitHubForge, fake: FakeGitHub) -> None:
    graphql = pytest.importorskip("graphql")
    text = (octokit / "graphql-schema" / "schema.graphql").read_text()
    schema = graphql.build_schema(text, assume_valid=True, assume_valid_sdl=True)  # it has faults of its own
    for document in MUTATIONS.values():
        assert graphql.validate(schema, graphql.parse(document)) == []
    everything(forge, fake)
    sent = [request.body for request in fake.requests if request.path == "/graphql"]
    for body in sent:
        document = graphql.parse(body["query"])
        operation = document.definitions[0]
        values = graphql.execution.values.get_variable_values(schema, operation.variable_definitions, body["variables"])
        assert not getattr(values, "errors", None)
        assert not isinstance(values, list), values
    print(f"\n{len(MUTATIONS)} documents and {len(sent)} calls, 0 violations of the schema")  # noqa: T201
    assert {body["query"] for body in sent} >= {READY, DRAFT, AUTO_MERGE}


def described(description: dict[str, Any], request: Request) -> tuple[str, dict[str, Any]]:
    """The path template and operation that a request is an example of; the one with the most literal parts."""
    found = []
    for template, operations in description["paths"].items():
        pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, request.path) and request.method.lower() in operations:
            found.append((template.count("{"), template))
    assert found, f"{request.method} {request.path} is not described"
    template = min(found)[1]
    return template, description["paths"][template][request.method.lower()]


def query_problems(
    jsonschema: Any, description: dict[str, Any], operation: dict[str, Any], request: Request
) -> Iterator[str]:
    declared = {}
    for parameter in operation.get("parameters", []):
        whole = resolved(description, parameter)
        if whole["in"] == "query":
            declared[whole["name"]] = whole
    for name, parameter in declared.items():
        if parameter.get("required") and name not in request.query:
            yield f"the parameter {name} is missing"
    for name, values in request.query.items():
        if name not in declared:
            yield f"the parameter {name} is not described"
            continue
        schema = plain(description, declared[name]["schema"])
        value: Any = int(values[0]) if schema.get("type") == "integer" else values[0]
        yield from (error.message for error in jsonschema.Draft7Validator(schema).iter_errors(value))


def body_problems(
    jsonschema: Any, description: dict[str, Any], operation: dict[str, Any], request: Request
) -> Iterator[str]:
    wanted = operation.get("requestBody")
    if wanted is None:
        if request.body:
            yield "no body is described"
        return
    schema = plain(description, wanted["content"]["application/json"]["schema"])
    body = request.body or {}
    yield from (error.message for error in jsonschema.Draft7Validator(schema).iter_errors(body))
    alternatives = [schema, *schema.get("oneOf", []), *schema.get("anyOf", [])]
    known = {key for item in alternatives for key in item.get("properties", {})}
    yield from (f"the key {key} is not described" for key in body if key not in known)


def resolved(description: dict[str, Any], value: Any) -> Any:
    """What a reference stands for."""
    while isinstance(value, dict) and "$ref" in value:
        target: Any = description
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        value = target
    return value


def plain(description: dict[str, Any], schema: Any) -> Any:
    """An OpenAPI 3.0 schema as JSON Schema: references in place, `nullable` as a type."""
    schema = resolved(description, schema)
    if isinstance(schema, list):
        return [plain(description, item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: plain(description, value)
        for key, value in schema.items()
        if key not in {"example", "examples", "x-github"}
    }
    if found.pop("nullable", False) and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found
