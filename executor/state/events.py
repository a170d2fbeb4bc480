"""The events of a journal: one frozen dataclass for each kind, encoded and decoded here and nowhere else. Pure.

This module has the events about steps, milestones, runs and nights, `executor.state.issue_events` those about issues.

A journal record (`executor.state.record`) is an envelope around a kind and JSON data. `docs/events.md` is generated
from these classes. A missing field has the zero value of its type; unknown fields and kinds are ignored.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

from executor.state.issue_events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    BaseRed,
    Collision,
    Landed,
    LandingIntended,
    Overlap,
    PullChanged,
    Refused,
    Regenerated,
    Retried,
    Reviewed,
    ReviewerCalled,
    Snapshot,
    Stopped,
    Unsandboxed,
    Verified,
    WorkHosted,
)
from executor.state.model import NO_SPEND, Event, Spend, Unknown, optional, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "KINDS",
    "AgentSilent",
    "AttemptBuilt",
    "AttemptFailed",
    "AttemptInterrupted",
    "AttemptStarted",
    "BaseRed",
    "BlockerFound",
    "BranchCreated",
    "BranchIntended",
    "BranchMoved",
    "Checked",
    "CheckoutsUpdated",
    "CheckoutsUpdating",
    "Collision",
    "Event",
    "GateHeld",
    "GateOpened",
    "Landed",
    "LandingIntended",
    "MilestoneNight",
    "MilestoneReleased",
    "NightEnded",
    "NightStarted",
    "Notified",
    "Overlap",
    "PullChanged",
    "Refused",
    "Regenerated",
    "ReleaseIntended",
    "ReleasePull",
    "ReleaseRefused",
    "Retried",
    "Reviewed",
    "ReviewerCalled",
    "RunEnded",
    "RunStarted",
    "Selected",
    "Snapshot",
    "Spend",
    "StepDone",
    "StepFailed",
    "StepStarted",
    "Stopped",
    "Unknown",
    "Unsandboxed",
    "Verified",
    "WorkHosted",
    "decode",
    "encode",
    "spend_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(Event):
    """An agent starts a step of a workflow."""

    KIND = "step-started"
    attempt: int
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(Event):
    """The result of a step is stored under its ref."""

    KIND = "step-done"
    attempt: int
    step: str
    took: float
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(Event):
    """A step failed."""

    KIND = "step-failed"
    attempt: int
    step: str
    reason: str
    took: float
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOpened(Event):
    """A gate opens the next phase."""

    KIND = "gate-opened"
    attempt: int
    step: str
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateHeld(Event):
    """A gate sends steps back.

    Attributes:
        missing: step -> what it must add.
    """

    KIND = "gate-held"
    attempt: int
    step: str
    percent: int
    reason: str
    missing: Mapping[str, Any]
    spec_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSilent(Event):
    """An agent gives no sign of life."""

    KIND = "agent-silent"
    agent: str
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked(Event):
    """A check ran on a tree, on the host of its runner (`host`) or on this one."""

    KIND = "checked"
    check: str
    tree: str
    ok: bool
    seconds: float
    host: str = optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected(Event):
    """Tests of a check were selected for a result: `tests` of `of`, by ``coverage`` or ``names``.

    Attributes:
        outcome: ``passed``, ``failed``, ``shadow`` (they did not run), ``missed`` (only other ones failed later).
    """

    KIND = "tests-selected"
    attempt: int
    check: str
    tests: int
    of: int
    by: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockerFound(Event):
    """A blocker of the run was found.

    Attributes:
        blocker: one of the known kinds.
        about: the exact subject; each subject is reported once.
        resume: the next step for a person.
        pauses: whether the run starts nothing more.
    """

    KIND = "blocker"
    blocker: str
    about: str
    reason: str
    resume: str
    pauses: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Notified(Event):
    """A notice was sent.

    Attributes:
        channel: the channel that was used.
        of: id of the event that it reports.
    """

    KIND = "notified"
    channel: str
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchIntended(Event):
    """The milestone branch is about to be created."""

    KIND = "branch-intended"
    branch: str
    base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchCreated(Event):
    """The milestone branch exists."""

    KIND = "branch-created"
    branch: str
    base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchMoved(Event):
    """Another process moved the milestone branch."""

    KIND = "branch-moved"
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutsUpdating(Event):
    """A branch is about to move under clean checkouts, which follow it.

    Attributes:
        old: commit before.
        new: commit after.
    """

    KIND = "checkouts-updating"
    branch: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutsUpdated(Event):
    """The checkouts of a branch were updated."""

    KIND = "checkouts-updated"
    branch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run starts.

    Attributes:
        git: state of the user's checkout.
        asked: tasks named on the command line.
        workers: number of issues in parallel.
    """

    KIND = "run-started"
    host: str
    user: str
    pid: int
    git: Mapping[str, Any]
    asked: tuple[str, ...]
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """A run ends.

    Attributes:
        code: exit code.
        how: a value of `executor.state.record.How`.
        why: one sentence.
        following: issues that come next.
    """

    KIND = "run-ended"
    code: int
    how: str
    why: str
    following: tuple[str, ...] = wire("next")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRefused(Event):
    """The completion gate holds the release back."""

    KIND = "release-refused"
    criteria: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseIntended(Event):
    """The base is about to move.

    Attributes:
        commit: the release commit; empty if the forge creates it.
    """

    KIND = "release-intended"
    onto: str
    tip: str
    commit: str = optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneReleased(Event):
    """The milestone is merged into its base."""

    KIND = "released"
    commit: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePull(Event):
    """The final pull request is open."""

    KIND = "release-pull"
    pull: int
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NightStarted(Event):
    """A nightly run starts."""

    KIND = "night-started"
    milestones: tuple[str, ...]
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneNight(Event):
    """A milestone of a nightly run ends."""

    KIND = "night-milestone"
    milestone: str
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NightEnded(Event):
    """A nightly run ends."""

    KIND = "night-ended"
    code: int


KINDS: Mapping[str, type[Event]] = {cls.KIND: cls for cls in Event.__subclasses__() if cls.KIND}
"""Kind as spelled in the journal -> class. (With slots, each class is created twice; the second one counts.)"""

_ZERO: Mapping[str, Callable[[], Any]] = {"int": int, "float": float, "str": str, "bool": bool}
"""Zero values by field type; every other type is a tuple, a mapping or `Spend`."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    wire: str
    type: str
    optional: bool
    default: Any


def _layout(cls: type[Event]) -> tuple[_Field, ...]:
    found = []
    for item in fields(cls):
        kind = str(item.type)
        default = item.default
        if default is MISSING:
            default = _ZERO[kind]() if kind in _ZERO else () if kind.startswith("tuple") else {}
        wire = item.metadata.get("wire") or item.name
        found.append(_Field(item.name, wire, kind, bool(item.metadata.get("optional")), default))
    return tuple(found)


_LAYOUTS = {cls: _layout(cls) for cls in KINDS.values()}


def encode(event: Event) -> dict[str, object]:
    """Return the data of an event's record: JSON values, without optional fields at their default."""
    data: dict[str, object] = {}
    for item in _LAYOUTS[type(event)]:
        value = getattr(event, item.name)
        if item.type == "Spend":
            data.update(_spent(value))
        elif not (item.optional and value == item.default):
            data[item.wire] = list(value) if isinstance(value, tuple) else value
    return data


def decode(kind: str, data: Mapping[str, Any]) -> Event:
    """Return the event of a record's kind and data."""
    cls = KINDS.get(kind)
    if cls is None:
        return Unknown(kind=kind, data=data)
    values: dict[str, object] = {}
    for item in _LAYOUTS[cls]:
        if item.type == "Spend":
            values[item.name] = spend_of(data)
        else:
            value = data.get(item.wire, item.default)
            values[item.name] = tuple(value) if isinstance(value, list) else item.default if value is None else value
    return cls(**values)


def spend_of(data: Mapping[str, Any]) -> Spend:
    """Return money and tokens as a record has them."""
    if "cost_usd" not in data and "tokens" not in data:
        return NO_SPEND
    return Spend(data.get("cost_usd"), data.get("tokens", {}))


def _spent(spend: Spend) -> dict[str, object]:
    data: dict[str, object] = {} if spend.cost_usd is None else {"cost_usd": spend.cost_usd}
    return {**data, "tokens": dict(spend.tokens)} if spend.tokens else data
