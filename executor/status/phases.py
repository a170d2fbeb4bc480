"""The phases of an issue's workflow: which steps are done, which agent works on which, which gate is held. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.model.workflow import GATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.state.steps import Flow, StepState

__all__ = ["PhaseProgress", "milestone_phases", "phase_line", "phases_of", "started_steps"]

EXECUTE = "execute"
"""Phase of a milestone in which the issues of its roadmap are worked on."""


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """A phase in the workflow of one issue.

    Attributes:
        name: name of the phase.
        state: ``waiting`` for the phase before it, ``running``, ``held`` by its gate, or ``done``.
        done: number of finished steps.
        total: number of steps.
        percent: score of its gate once it has run; None before, and without a gate.
        reason: why its gate is held; empty otherwise.
    """

    name: str
    state: str
    done: int
    total: int
    percent: int | None = None
    reason: str = ""


def phases_of(flow: Flow, done: Mapping[str, bool], states: Mapping[str, StepState]) -> tuple[PhaseProgress, ...]:
    """Return the phases of a flow in order.

    Args:
        flow: the steps and gates of the issue.
        done: ``phase.step`` and ``phase.gate`` -> whether it is done.
        states: states of steps and gates in the journal.
    """
    found: list[PhaseProgress] = []
    complete = True
    for name in dict.fromkeys(step.phase for step in flow.steps):
        own = [step.id for step in flow.steps if step.phase == name and step.gate is None]
        gate = next((step.id for step in flow.steps if step.phase == name and step.gate is not None), None)
        ready = sum(done.get(step, False) for step in own)
        asked = states.get(gate) if gate is not None else None
        is_open = gate is None or done.get(gate, False)
        held = asked is not None and asked.word == "held" and not is_open
        going = "held" if held else "running" if complete else "waiting"
        state = "done" if ready == len(own) and is_open else going
        percent = asked.percent if asked is not None and (held or is_open) and asked.word else None
        reason = asked.reason if asked is not None and held else ""
        found.append(PhaseProgress(name, state, ready, len(own), percent, reason))
        complete = complete and state == "done"
    return tuple(found)


def milestone_phases(planning: Sequence[PhaseProgress], landed: int, total: int) -> tuple[PhaseProgress, ...]:
    """Return the phases of a milestone with a workflow: those of its planning issue, and the execution of its issues.

    Args:
        planning: phases of the planning issue.
        landed: number of landed issues that the roadmap declares.
        total: number of all issues that it declares.
    """
    planned = all(phase.state == "done" for phase in planning)
    state = "waiting" if not planned else "done" if total and landed == total else "running"
    return (*planning, PhaseProgress(EXECUTE, state, landed, total))


def started_steps(states: Mapping[str, StepState], attempt: int) -> list[str]:
    """Return the names of the steps in progress within an attempt."""
    return sorted(
        name
        for name, item in states.items()
        if item.word == "started" and item.attempt == attempt and not name.endswith(f".{GATE}")
    )


def phase_line(phases: Sequence[PhaseProgress]) -> str:
    """Format the phases as one line, for example ``design done 83 %, spec 2 of 5, task -, execute -``."""
    return ", ".join(_words(phase) for phase in phases)


def _words(phase: PhaseProgress) -> str:
    gate = f" {phase.percent} %" if phase.percent is not None else ""
    match phase.state:
        case "done":
            return f"{phase.name} done{gate}"
        case "held":
            return f"{phase.name} held{gate}"
        case "running":
            return f"{phase.name} {phase.done} of {phase.total}"
        case _:
            return f"{phase.name} -"
