from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from executor.config.schema import file_faults, schema_fault
from executor.model.workflow import read_workflow
from executor.state.steps import Flow, compiled_flow
from executor.workflow.contract import contract_of, contract_text, missing_from, read_contract

TASKS: dict[str, Any] = {
    "type": "object",
    "required": ["tasks"],
    "properties": {"tasks": {"type": "array", "items": {"type": "object", "required": ["id"]}}},
}
TEXT = """
[phase.plan]
[phase.plan.step.list]
does = "List the tasks."
outputs = ["tasks.json", "notes.md"]
schemas = { "tasks.json" = "tasks" }
[phase.plan.step.other]
does = "Something else."
outputs = ["other.md"]
[phase.plan.gate]
threshold = 80
[phase.plan.gate.criterion.tasks]
file = "plan.list/tasks.json"
keys = ["tasks", "worst.case"]
weight = 3
[phase.plan.gate.criterion.cover]
file = "plan.list/notes.md"
sections = ["Why"]
covers = "acceptance"
[phase.build]
[phase.build.step.code]
does = "Build."
tree = true
[phase.build.gate]
[phase.build.gate.criterion.later]
file = "plan.list/notes.md"
contains = "v[0-9]"
[phase.build.gate.criterion.guide]
file = "tree:guide.md"
sections = ["Use"]
"""


def flow(text: str = TEXT) -> Flow:
    workflow, faults = read_workflow("w", tomllib.loads(text), "w.toml", {"tasks": TASKS})
    assert workflow is not None, faults
    return compiled_flow(workflow, "feature")


def test_a_contract_has_every_criterion_of_every_gate_that_reads_a_file_of_the_step() -> None:
    contract = contract_of(flow(), flow()["plan.list"], ("It works",))
    assert [(item.name, [gate for gate, _ in item.criteria]) for item in contract.files] == [
        ("tasks.json", ["plan.gate"]),
        ("notes.md", ["plan.gate", "build.gate"]),
    ]
    assert contract.files[0].schema == TASKS
    assert read_contract(json.loads(json.dumps(contract.data()))) == contract
    assert [item.name for item in contract_of(flow(), flow()["plan.other"], ()).files] == ["other.md"]
    assert [item.name for item in contract_of(flow(), flow()["build.code"], ()).files] == ["tree:guide.md"]


def test_the_text_names_files_keys_headings_words_weights_and_thresholds() -> None:
    text = contract_text(contract_of(flow(), flow()["plan.list"], ("It `works`\nwell",)))
    for line in (
        "`$EXECUTOR_OUT/tasks.json`: JSON, not empty. It has to have:",
        "- the key `worst.case`, not null and not an empty text; an empty list is a value",
        "- read by `plan.gate`, which opens at 80 % of its criteria by weight; this one has weight 3 of 4.",
        "- the heading `## Why` with text below it",
        "- every acceptance criterion, in these words:",
        "  - It `works` well",
        "- text that matches the regular expression `v[0-9]`",
        "It has to match this JSON Schema:",
    ):
        assert line in text.splitlines()
    assert contract_text(contract_of(flow(), flow()["build.code"], ())).startswith("`guide.md`: Markdown in the tree")


GOOD = {"tasks.json": b'{"tasks": [], "worst": {"case": []}}', "notes.md": b"# Why\nv1 it works"}


@pytest.mark.parametrize(
    ("name", "data", "missing"),
    [
        ("notes.md", GOOD["notes.md"], []),
        ("notes.md", None, ["notes.md is missing"]),
        ("notes.md", b"v1 It works", ['notes.md lacks the section "Why" with text below it']),
        ("tasks.json", b"{", ["tasks.json is not JSON: Expecting property name enclosed in double quotes: line 1"]),
        ("tasks.json", b'{"tasks": 1, "worst": {"case": 1}}', ["tasks.json: tasks: 1 is not of type 'array'"]),
        ("tasks.json", b'{"tasks": [{}]}', ["tasks.json: tasks[0]: 'id' is a required property"]),
        ("tasks.json", b'{"tasks": []}', ["tasks.json lacks the key worst.case"]),
    ],
)
def test_what_is_missing_is_said_file_by_file(name: str, data: bytes | None, missing: list[str]) -> None:
    files = {**GOOD, name: data}
    found = missing_from(contract_of(flow(), flow()["plan.list"], ("It works",)), files.get)
    assert len(found) == len(missing)
    assert all(text.startswith(start) for text, start in zip(found, missing, strict=True)), found


def test_every_fault_of_a_file_is_listed_up_to_ten_and_short() -> None:
    value = json.dumps({"tasks": ["x" * 1000] * 12}).encode()
    faults = file_faults("tasks.json", value, TASKS)
    assert len(faults) == 11
    assert faults[-1] == "tasks.json: 2 more faults"
    assert max(map(len, faults)) < 300


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (TASKS, ""),
        ([], "expected an object, found []"),
        ({"type": "objec"}, "is not a valid JSON Schema: type: 'objec' is not valid under any of the given schemas"),
        ({"properties": {"a": {"minItems": -1}}}, "is not a valid JSON Schema: properties.a.minItems: -1 is less than"),
    ],
)
def test_a_schema_that_is_none_is_a_fault_of_the_rules(schema: object, fault: str) -> None:
    found = schema_fault(schema) or ""
    assert found.startswith(fault)
    assert bool(found) is bool(fault)


def test_a_reference_to_another_host_is_never_fetched() -> None:
    faults = file_faults("a.json", b"{}", {"$ref": "http://127.0.0.1:9/x.json"})
    assert faults == ["a.json: its JSON Schema refers to http://127.0.0.1:9/x.json, which is not in it"]


@pytest.mark.parametrize(
    ("schemas", "place", "problem"),
    [
        ('{ "other.json" = "tasks" }', "phase.plan.step.list.schemas", '"other.json" is not an output of the step'),
        ('{ "tasks.json" = "task" }', "phase.plan.step.list.schemas.tasks.json", "no file rules/schemas/task.json"),
    ],
)
def test_schemas_that_do_not_fit_are_faults(schemas: str, place: str, problem: str) -> None:
    text = TEXT.replace('{ "tasks.json" = "tasks" }', schemas)
    workflow, faults = read_workflow("w", tomllib.loads(text), "w.toml", {"tasks": TASKS})
    assert workflow is None
    assert [fault.key for fault in faults] == [place]
    assert faults[0].problem.startswith(problem)
