"""The port through which agents, checks and sandboxes reach the run of a milestone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from pathlib import Path

    from executor.config.project import Project
    from executor.git.objects import Store
    from executor.git.worktrees import ImportLimits, Pool
    from executor.model.agent_profile import Agent
    from executor.model.policy import Policy
    from executor.process.runner import Supervisor
    from executor.state.events import Event

__all__ = ["RunContext"]


class RunContext(Protocol):
    """What the run of a milestone offers to those who run children for it. `engine.milestone_run` implements it."""

    @property
    def name(self) -> str:
        """The milestone's id."""

    @property
    def run_id(self) -> str:
        """Identifies the run; verdicts of failures are reused within it only."""

    @property
    def project(self) -> Project:
        """Where the repository, rules and state are."""

    @property
    def policy(self) -> Policy:
        """The rules."""

    @property
    def store(self) -> Store:
        """Objects of the repository."""

    @property
    def pool(self) -> Pool:
        """Slots with worktrees."""

    @property
    def supervisor(self) -> Supervisor:
        """Runs children."""

    @property
    def stopping(self) -> threading.Event:
        """Set when the run is being stopped."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that no log or file may keep."""

    @property
    def excludes(self) -> Path:
        """File with the ignore rules of results."""

    @property
    def import_limits(self) -> ImportLimits:
        """How large one result may be."""

    @property
    def sandboxed_agents(self) -> Sequence[Agent]:
        """Agents of the milestone's issues that want a sandbox, each once."""

    def redact(self, data: bytes) -> bytes:
        """Replace secrets in data."""

    def record(self, event: Event, issue: str = "") -> object:
        """Append an event to the journal, durably and without secrets."""

    def tell(self, word: str, ref: str, text: str) -> None:
        """Show a line to the user."""

    def warn_unsandboxed(self, problem: str) -> None:
        """Warn once that agents work without a sandbox."""

    def outage(self, agent: Agent) -> tuple[float, float]:
        """When an account whose service fails is used again: epoch seconds, and the seconds of rest."""

    def require_space(self) -> None:
        """Make sure that there is room to work.

        Raises:
            StateFullError: there is less than the rules demand.
        """
