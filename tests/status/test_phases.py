from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from executor.model.workflow import read_workflow
from executor.state.steps import StepState, compiled_flow
from executor.status.progress import phase_line, phases_of, started_steps

if TYPE_CHECKING:
    from executor.state.steps import Flow

TEXT = """
[phase.design.step.keep]
does = "x"
outputs = ["k.json"]
[phase.design.step.add]
does = "x"
outputs = ["a.json"]
[phase.design.gate.criterion.k]
file = "design.keep/k.json"
[phase.build.step.code]
does = "x"
tree = true
"""


def flow() -> Flow:
    workflow, faults = read_workflow("w", tomllib.loads(TEXT), "w.toml")
    assert workflow is not None, faults
    return compiled_flow(workflow, "feature")


OPEN, HELD = StepState("open", percent=83), StepState("held", percent=50, reason="design.gate: 50 %")


@pytest.mark.parametrize(
    ("done", "states", "line"),
    [
        ((), {}, "design 0 of 2, build -"),
        (("design.keep",), {}, "design 1 of 2, build -"),
        (("design.keep", "design.add"), {"design.gate": HELD}, "design held 50 %, build -"),
        (("design.keep", "design.add", "design.gate"), {"design.gate": OPEN}, "design done 83 %, build 0 of 1"),
        (
            ("design.keep", "design.add", "design.gate", "build.code"),
            {"design.gate": OPEN},
            "design done 83 %, build done",
        ),
    ],
)
def test_phases_are_waiting_running_held_or_done(
    done: tuple[str, ...], states: dict[str, StepState], line: str
) -> None:
    assert phase_line(phases_of(flow(), dict.fromkeys(done, True), states)) == line


def test_the_steps_of_an_attempt_that_began_are_found() -> None:
    states = {
        "b.x": StepState("started", 2),
        "a.y": StepState("started", 2),
        "a.z": StepState("started", 1),
        "a.done": StepState("done", 2),
    }
    assert started_steps(states, 2) == ["a.y", "b.x"]
