from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.model.workflow import Workflow, progress, read_workflow
from executor.state.model import Attempt, AttemptState, IssueState
from executor.state.steps import (
    Flow,
    StepFacts,
    StepRecord,
    compiled_flow,
    done_steps,
    pinned_base,
    refused_at,
    step_key,
)

PACKAGED = Path(__file__).resolve().parents[2] / "rules" / "workflows"
SMALL = """
types = ["CODING", "RESEARCH"]
default_type = "CODING"
[phase.design]
weight = 25
[phase.design.step.a]
does = "A"
outputs = ["a.md"]
[phase.design.step.b]
does = "B"
outputs = ["b.md"]
[phase.design.step.c]
does = "C"
inputs = ["design.a/a.md"]
needs = ["b"]
outputs = ["c.md"]
[phase.design.gate]
threshold = 75
[phase.design.gate.criterion.c]
file = "design.c/c.md"
[phase.build]
weight = 75
[phase.build.step.tests]
does = "T"
tree = true
types = ["coding"]
[phase.build.step.code]
does = "C"
tree = true
inputs = ["design.c/c.md", "tree:README.md"]
[phase.build.step.report]
does = "R"
needs = ["code"]
outputs = ["r.md"]
"""


def read(text: str, name: str = "small") -> Workflow:
    workflow, faults = read_workflow(name, tomllib.loads(text), f"rules/workflows/{name}.toml")
    assert faults == []
    assert workflow is not None
    return workflow


def packaged(name: str) -> Workflow:
    return read((PACKAGED / f"{name}.toml").read_text(encoding="utf-8"), name)


def order(flow: Flow) -> dict[str, tuple[str, ...]]:
    return {step.id: step.after for step in flow.steps}


def test_steps_wait_for_their_inputs_their_needs_and_the_phase_before() -> None:
    assert order(compiled_flow(read(SMALL), "feature")) == {
        "design.a": (),
        "design.b": (),
        "design.c": ("design.a", "design.b"),
        "design.gate": ("design.a", "design.b", "design.c"),
        "build.tests": ("design.gate",),
        "build.code": ("design.gate", "build.tests"),
        "build.report": ("design.gate", "build.code"),
    }


def test_steps_that_keep_their_tree_follow_each_other_and_later_ones_see_it() -> None:
    flow = compiled_flow(read(SMALL), "coding")
    assert {step.id: step.tree_from for step in flow.steps if step.phase == "build"} == {
        "build.tests": "",
        "build.code": "build.tests",
        "build.report": "build.code",
    }
    assert flow.last_tree == "build.code"


def test_the_task_type_chooses_the_steps_whatever_its_case() -> None:
    for kind, tests in (("Research", False), ("RESEARCH", False), ("coding", True), ("api", True)):
        assert any(step.id == "build.tests" for step in compiled_flow(read(SMALL), kind).steps) is tests


def test_the_packaged_workflows_are_those_of_the_mission() -> None:
    assert packaged("direct").phases == {}
    kiro = packaged("kiro")
    assert {name: phase.weight for name, phase in kiro.phases.items()} == {
        "design": 15,
        "spec": 25,
        "task": 20,
        "execute": 40,
    }
    assert [phase.gate.threshold for phase in kiro.phases.values() if phase.gate] == [75, 80, 100, 100]
    assert [step.after for step in compiled_flow(kiro, "x").steps[:4]] == [()] * 4
    assert list(packaged("tdd").phases) == ["setup", "research", "implement", "verify", "complete"]
    assert set(packaged("tdd").types) == {"CODING", "VALIDATION", "RESEARCH", "MIXED"}


FAULTS: list[tuple[str, list[tuple[str, str]]]] = [
    ("zebra = 1", [("", 'unknown key "zebra"; known keys: types, default_type, keeps, phase')]),
    ("phase = 3", [("phase", "expected tables [phase.NAME], found the number 3")]),
    ("[phase.a]", [("phase.a", "expected at least one step")]),
    (
        "[phase.a]\nwieght = 3\n[phase.a.step.b]\ndoes='x'",
        [("phase.a", 'unknown key "wieght"; did you mean "weight"?')],
    ),
    ("[phase.a.step.b]\n", [("phase.a.step.b.does", "is missing, but required")]),
    (
        '[phase.a.step.gate]\ndoes="x"\n[phase.a.step.B]\ndoes="x"\n[phase.a.step.c]\ndoes="x"',
        [
            (
                "phase.a.step",
                (
                    '"gate" is the name of a phase\'s gate; '
                    "expected small letters, digits, dashes and underscores, at most 32"
                ),
            ),
            ("phase.a.step", '"B" is no name; expected small letters, digits, dashes and underscores, at most 32'),
        ],
    ),
    (
        '[phase.a.step.b]\ndoes="x"\nneeds=["c"]\ninputs=["a.b/x.md","../y"]',
        [("phase.a.step.b.inputs[1]", 'expected a relative path without .., found "../y"')],
    ),
    (
        '[phase.a.step.b]\ndoes="x"\nneeds=["c"]\ninputs=["a.d/x.md"]\n[phase.a.step.d]\ndoes="x"\noutputs=["y.md"]',
        [
            ("phase.a.step.b.needs", 'unknown step "c" of its phase; known steps: b, d'),
            ("phase.a.step.b.inputs", 'no step writes "a.d/x.md"; did you mean "a.d/y.md"?'),
        ],
    ),
    (
        '[phase.a.step.b]\ndoes="x"\nneeds=["d"]\n[phase.a.step.d]\ndoes="x"\nneeds=["b"]',
        [("phase.a.step", "steps need each other: b, d")],
    ),
    (
        '[phase.a.step.b]\ndoes="x"\ninputs=["z.c/c"]\n[phase.z.step.c]\ndoes="x"\noutputs=["c"]',
        [("phase.a.step.b.inputs", '"z.c/c" is written in a later phase')],
    ),
    (
        '[phase.a.step.b]\ndoes="x"\n[phase.a.gate]',
        [("phase.a.gate", "expected at least one criterion, a reviewer, or checks = true")],
    ),
    (
        '[phase.a.step.b]\ndoes="x"\n[phase.a.gate]\nthreshold=101\n[phase.a.gate.criterion.c]\nfile="a.b/x"\ncontains="("',
        [
            (
                "phase.a.gate.criterion.c.contains",
                'expected a regular expression, found "(": missing ), unterminated subpattern at position 0',
            ),
            ("phase.a.gate.threshold", "expected a number at most 100, found the number 101"),
        ],
    ),
    (
        'types=["A"]\ndefault_type="B"\n[phase.a.step.b]\ndoes="x"\ntypes=["c"]',
        [
            ("default_type", 'expected one of the types, found "B"'),
            ("phase.a.step.b.types", 'unknown type "c"; known types: a'),
        ],
    ),
    (
        '[phase.a]\nweight=0\n[phase.a.step.b]\ndoes="x"',
        [("phase", "expected at least one phase with a weight above 0")],
    ),
]


@pytest.mark.parametrize(("text", "expected"), FAULTS)
def test_everything_wrong_with_a_workflow_is_reported_at_once(text: str, expected: list[tuple[str, str]]) -> None:
    workflow, faults = read_workflow("w", tomllib.loads(text), "rules/workflows/w.toml")
    assert workflow is None
    assert [(fault.key, fault.problem) for fault in faults] == expected


def facts(**fields: Any) -> StepFacts:
    given: dict[str, Any] = {"spec_key": "s", "revision": 1, "refused": 0, "base_tree": "base", "records": {}}
    return StepFacts(**{**given, **fields})


def worked(flow: Flow, upto: str = "", **fields: Any) -> dict[str, StepRecord]:
    """Records of all steps up to one, made at these facts."""
    records: dict[str, StepRecord] = {}
    for step in flow.steps:
        told = facts(**{**fields, "records": records})
        outputs = step.step.outputs if step.step is not None else ()
        records[step.id] = StepRecord(
            step=step.id,
            commit=f"commit of {step.id}",
            key=step_key(step, told, done_steps(flow, told)),
            spec_key="s",
            revision=1,
            attempt=1,
            base="b",
            tree=f"tree of {step.id}" if step.keeps_tree else "",
            files={name: f"digest of {name}" for name in outputs},
        )
        if step.id == upto:
            break
    return records


FLOW = compiled_flow(read(SMALL), "coding")


def undone(**fields: Any) -> list[str]:
    told = facts(**{"records": worked(FLOW), **fields})
    return [step.id for step in FLOW.steps if step.id not in done_steps(FLOW, told)]


def test_with_every_result_there_is_nothing_to_do() -> None:
    assert undone() == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"spec_key": "t"}, [step.id for step in FLOW.steps]),
        ({"revision": 2}, [step.id for step in FLOW.steps]),
        ({"refused": 1}, ["build.tests", "build.code", "build.report"]),
        ({"base_tree": "other"}, ["build.tests", "build.code", "build.report"]),
        ({"criteria": "others"}, ["design.gate", "build.tests", "build.code", "build.report"]),
        ({"content": lambda _tree, _path: "new README"}, ["build.code", "build.report"]),
        ({"wanted": frozenset({"design.b"})}, [step.id for step in FLOW.steps if step.id != "design.a"]),
    ],
)
def test_what_is_done_again_when_an_input_changes(fields: dict[str, Any], expected: list[str]) -> None:
    assert undone(**fields) == expected


def test_a_step_done_again_with_the_same_result_leaves_what_rests_on_it_alone() -> None:
    records = worked(FLOW)
    again = StepRecord(
        **{**{name: getattr(records["design.b"], name) for name in StepRecord.__slots__}, "commit": "new"}
    )
    assert undone(records={**records, "design.b": again}) == []
    other = StepRecord(**{**{name: getattr(again, name) for name in StepRecord.__slots__}, "files": {"b.md": "other"}})
    assert undone(records={**records, "design.b": other})[:2] == ["design.c", "design.gate"]


def test_the_base_stays_as_long_as_it_is_not_in_conflict() -> None:
    records = worked(FLOW, "design.b")
    assert pinned_base(records, IssueState(), "s", 1) == "b"
    assert pinned_base(records, IssueState(), "t", 1) == ""
    conflict = Attempt(1, 1, "s", base="b", state=AttemptState.FAILED, kind="merge-conflict")
    assert pinned_base(records, IssueState({1: conflict}), "s", 1) == ""


def test_only_attempts_whose_result_was_refused_have_the_tree_made_again() -> None:
    attempts = {
        1: Attempt(1, 1, "s", state=AttemptState.FAILED, kind="checks"),
        2: Attempt(2, 1, "s", state=AttemptState.FAILED, kind="outputs", step="design.a"),
        3: Attempt(3, 1, "s", state=AttemptState.INTERRUPTED),
        4: Attempt(4, 1, "s", state=AttemptState.BUILT),
    }
    assert refused_at(IssueState(attempts), "s", 1) == 1
    assert refused_at(IssueState(attempts, forgiven=4), "s", 1) == 4
    assert refused_at(IssueState(attempts), "t", 1) == 0


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], 0),
        (["design.a"], 6),
        (["design.a", "design.b", "design.c"], 18),
        (["design.a", "design.b", "design.c", "design.gate"], 25),
        (["design.a", "design.b", "design.c", "design.gate", "build.tests"], 50),
        ([step.id for step in FLOW.steps], 100),
    ],
)
def test_progress_is_weighted_by_phases(done: list[str], expected: int) -> None:
    assert progress(FLOW.workflow, {step.id: step.id in done for step in FLOW.steps}) == expected


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_any_document_is_a_workflow_or_has_faults(document: dict[str, Any]) -> None:
    for value in (document, {"phase": document}, {"phase": {"a": {"step": document, "gate": document}}}):
        workflow, faults = read_workflow("w", value, "w.toml")
        assert (workflow is None) == bool(faults)
