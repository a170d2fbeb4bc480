from __future__ import annotations

import json
from typing import Any

import pytest

from executor.workflow.outputs import RoadmapError, issues_of


def made(tasks: list[dict[str, Any]], dependencies: dict[str, list[str]], batches: list[list[str]], *gates: Any) -> Any:
    full = [{"title": f"T {task['id']}", "spec": "Do it.", "estimate_hours": 1, **task} for task in tasks]
    return issues_of(
        json.dumps({"tasks": full}).encode(),
        json.dumps({"dependencies": dependencies, "critical_path": []}).encode(),
        json.dumps({"batches": batches, "gates": list(gates)}).encode(),
    )


def test_tasks_are_issues_in_the_order_of_their_batches() -> None:
    tasks: list[dict[str, Any]] = [
        {"id": "b", "estimate_hours": 20},
        {"id": "a", "files": ["a.py"], "accept": ["It works"]},
        {"id": "c"},
    ]
    issues = made(tasks, {"b": ["a"]}, [["a", "c"], ["b"]], {"after_batch": 1, "run": "make test"})
    assert list(issues) == ["a", "c", "b"]
    assert issues["a"] == {
        "title": "T a",
        "type": "feature",
        "size": "S",
        "body": "Do it.",
        "files": ["a.py"],
        "accept": ["It works", {"run": "make test"}],
    }
    assert (issues["b"]["needs"], issues["b"]["size"]) == (["a", "c"], "L")


def test_without_a_gate_only_dependencies_hold_a_task_back() -> None:
    issues = made([{"id": "a"}, {"id": "b"}, {"id": "c"}], {"c": ["a"]}, [["a", "b"], ["c"]])
    assert issues["c"]["needs"] == ["a"]


@pytest.mark.parametrize(
    ("dependencies", "batches", "fault"),
    [
        ({}, [["a"]], '"b" is in no batch'),
        ({}, [["a", "b"], ["b"]], '"b" is in two batches'),
        ({}, [["a", "b", "x"]], 'batches name "x", which is not a task'),
        ({"a": ["x"]}, [["a"], ["b"]], 'dependencies name "x", which is not a task'),
        ({"a": ["b"]}, [["a", "b"]], '"a" needs "b", which is not in an earlier batch'),
    ],
)
def test_what_does_not_fit_together_is_said(
    dependencies: dict[str, list[str]], batches: list[list[str]], fault: str
) -> None:
    with pytest.raises(RoadmapError, match=fault):
        made([{"id": "a"}, {"id": "b"}], dependencies, batches)
