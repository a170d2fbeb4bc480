"""The events of a journal: one frozen dataclass for each kind, encoded and decoded here and nowhere else. Pure.

A journal record (`executor.state.record`) is an envelope around a kind and JSON data. `docs/events.md` is generated
from these classes. A field that is missing has the zero value of its type; unknown fields and kinds do no harm.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "KINDS",
    "AgentSilent",
    "AttemptBuilt",
    "AttemptFailed",
    "AttemptInterrupted",
    "AttemptLost",
    "AttemptStarted",
    "BaseRed",
    "BlockerFound",
    "BranchCreated",
    "BranchIntended",
    "BranchMoved",
    "Checked",
    "CheckoutsUpdated",
    "CheckoutsUpdating",
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
    "PullChanged",
    "Refused",
    "ReleaseIntended",
    "ReleasePull",
    "ReleaseRefused",
    "Retried",
    "Reviewed",
    "ReviewerCalled",
    "RunEnded",
    "RunStarted",
    "Snapshot",
    "Spend",
    "StepDone",
    "StepFailed",
    "StepStarted",
    "Stopped",
    "Unknown",
    "Unsandboxed",
    "Verified",
    "decode",
    "encode",
    "spend_of",
]


@dataclass(frozen=True, slots=True)
class Spend:
    """Money and tokens of a call; both are left out of a record where the agent does not report them.

    Attributes:
        cost_usd: US dollars; None where nobody knows.
        tokens: tokens by kind, for example ``input`` and ``output``.
    """

    cost_usd: float | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether the agent reported anything."""
        return self.cost_usd is not None or bool(self.tokens)


NO_SPEND = Spend()


def _optional(default: object, wire: str = "") -> Any:
    """A field that is left out of the record while it has its default."""
    return field(default=default, metadata={"optional": True, "wire": wire})


def _wire(name: str) -> Any:
    """A field whose name in the record differs, because journals already say so."""
    return field(metadata={"wire": name})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact about a milestone or one of its issues."""

    KIND: ClassVar[str] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Event):
    """A record of a kind that this version does not know."""

    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """An agent is chosen, money is set aside, and the attempt begins.

    Attributes:
        attempt: its number, counted from 1 for each issue.
        revision: revision of the issue that it would become.
        spec_key: what is to be built.
        base: commit that it starts from.
        agent: profile of who works.
        account: billing account that pays.
        when: epoch seconds, the time that its commits carry.
        reserved_usd: money set aside in US dollars.
        workflow: the workflow whose steps the attempt performs; left out for a direct one.
    """

    KIND = "attempt-started"
    attempt: int
    revision: int
    spec_key: str
    base: str
    agent: str
    account: str
    when: int
    reserved_usd: float = _optional(0.0)
    workflow: str = _optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsandboxed(Event):
    """An agent that was to work in a sandbox runs without one, so that its work waits for a person."""

    KIND = "unsandboxed"
    attempt: int
    agent: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Event):
    """The agent ended well and its tree is in git.

    Attributes:
        tree: what it left.
        when: epoch seconds, the time that the candidate's commit carries.
        seconds: how long the agent worked.
    """

    KIND = "snapshot"
    attempt: int
    tree: str
    when: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost(Event):
    """The disk no longer has the result of an attempt; it is made again and does not count."""

    KIND = "attempt-lost"
    attempt: int
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBuilt(Event):
    """An attempt has a candidate commit under ``refs/attempts/``.

    Attributes:
        commit: the candidate.
        result_key: digest of its change.
        pull: number of the local pull request; 0 on other forges.
        files: up to 100 changed paths.
        added: lines added.
        removed: lines removed.
        deviations: where the agent says that it deviated from the spec.
        spend: money and tokens.
        notes: what the agent says that it changed.
    """

    KIND = "attempt-built"
    attempt: int
    commit: str
    result_key: str
    pull: int
    seconds: float
    files: tuple[str, ...]
    added: int
    removed: int
    deviations: tuple[str, ...]
    spend: Spend = NO_SPEND
    notes: tuple[str, ...] = _optional(())


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Event):
    """An attempt failed.

    Attributes:
        failure: class of the failure.
        reason: one sentence.
        detail: the most useful part of the output.
        fingerprint: the same failure on the same tree has the same one.
        commit: keeps what was made.
        step: step of a workflow that failed.
        until: epoch seconds at which a usage limit is lifted.
        rest_s: seconds that the account rests after an outage.
    """

    KIND = "attempt-failed"
    attempt: int
    failure: str
    reason: str
    detail: str
    fingerprint: str = _wire("print")
    seconds: float
    commit: str
    step: str = _optional("")
    until: float = _optional(0.0)
    rest_s: float = _optional(0.0)
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInterrupted(Event):
    """An attempt was cut off, or ended with a question; it does not count."""

    KIND = "attempt-interrupted"
    attempt: int
    commit: str
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewerCalled(Event):
    """A reviewer was called; what it cost counts for the attempt."""

    KIND = "reviewer-called"
    attempt: int
    reviewer: str
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed(Event):
    """A reviewer answered.

    Attributes:
        findings: objects with ``description``, ``score``, ``file`` and ``line``.
        criteria: objects with ``criterion``, ``met`` and ``evidence``.
    """

    KIND = "reviewed"
    attempt: int
    reviewer: str
    findings: tuple[Mapping[str, Any], ...]
    criteria: tuple[Mapping[str, Any], ...] = _optional(())


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingIntended(Event):
    """A proved commit is about to become the tip."""

    KIND = "landing"
    attempt: int
    commit: str
    onto: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed(Event):
    """The issue is on the milestone branch.

    Attributes:
        attempt: 0 for work that was merged by hand.
        check_key: what proved it.
        needs: issue that it needs -> result key that it was proved with.
    """

    KIND = "landed"
    attempt: int
    commit: str
    revision: int
    result_key: str
    check_key: str
    needs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Event):
    """A landed issue passes its checks on the present tip."""

    KIND = "verified"
    check_key: str
    needs: Mapping[str, str]
    revision: int
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """A landed issue fails its checks on the present tip."""

    KIND = "refused"
    reason: str
    detail: str
    check_key: str
    needs: Mapping[str, str]
    revision: int
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """A rule, a conflict or a question stops the issue.

    Attributes:
        level: ``hard`` waits for a person, ``soft`` skips the issue.
        rule: ids of the rules.
        bound: key of exactly the change that an approval would clear; empty: any.
        needs: what a person has to do.
        lines: findings, one sentence each.
        paths: files in conflict.
        tip: tip that the candidate conflicts with.
    """

    KIND = "stopped"
    level: str
    rule: str
    reason: str
    spec_key: str
    attempt: int
    bound: str = _optional("")
    needs: str = _optional("")
    lines: tuple[str, ...] = _optional(())
    paths: tuple[str, ...] = _optional(())
    tip: str = _optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRed(Event):
    """The base keeps an issue back before anything is done for it.

    Attributes:
        word: ``red``, ``blind`` or ``vacuous`` (docs/environments.md).
        check: name of the check, or the acceptance command.
        proof: ``check`` or ``acceptance``.
    """

    KIND = "base-red"
    tip: str
    check_key: str
    reason: str
    word: str = "red"
    check: str = ""
    proof: str = "check"
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullChanged(Event):
    """News of an issue's pull request.

    Attributes:
        state: ``draft``, ``open``, ``merged`` or ``closed``.
        head: branch of the pull request.
        commit: commit that it shows.
        waits: what it waits for.
        reason: one sentence for people.
        attempt: attempt that it shows.
    """

    KIND = "pull"
    number: int
    state: str
    url: str
    head: str
    commit: str
    waits: str
    reason: str
    attempt: int = _optional(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried(Event):
    """A person clears a failed or stopped issue.

    Attributes:
        after: number of the last attempt that is forgiven.
    """

    KIND = "retried"
    reason: str
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(Event):
    """An agent begins a step of a workflow."""

    KIND = "step-started"
    attempt: int
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(Event):
    """The result of a step is kept under its ref."""

    KIND = "step-done"
    attempt: int
    step: str
    took: float
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(Event):
    """A step came to nothing."""

    KIND = "step-failed"
    attempt: int
    step: str
    reason: str
    took: float
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOpened(Event):
    """A gate lets the next phase begin."""

    KIND = "gate-opened"
    attempt: int
    step: str
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateHeld(Event):
    """A gate sends steps back.

    Attributes:
        missing: step -> what it has to add.
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
    """A check ran on a tree."""

    KIND = "checked"
    check: str
    tree: str
    ok: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockerFound(Event):
    """Something stands in the way of the run.

    Attributes:
        blocker: which of the known kinds.
        about: what exactly; the same thing is reported once.
        resume: what to do next.
        pauses: whether the run begins nothing more.
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
        channel: where to.
        of: id of the event that it is about.
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
    """Somebody else moved the milestone branch."""

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
    """The checkouts of a branch have followed it."""

    KIND = "checkouts-updated"
    branch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run begins.

    Attributes:
        git: state of the user's checkout.
        asked: tasks named on the command line.
        workers: issues side by side.
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
    following: tuple[str, ...] = _wire("next")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRefused(Event):
    """The completion gate holds the release back."""

    KIND = "release-refused"
    criteria: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseIntended(Event):
    """The base is about to move.

    Attributes:
        commit: the release's commit; empty where the forge makes it.
    """

    KIND = "release-intended"
    onto: str
    tip: str
    commit: str = _optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneReleased(Event):
    """The milestone is in its base."""

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
    """A nightly run begins."""

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
"""Kind as the journal spells it -> class. (With slots, each class is made twice; the second one counts.)"""

_ZERO: Mapping[str, Callable[[], Any]] = {"int": int, "float": float, "str": str, "bool": bool}
"""Zero values of the types of fields; every other type is a tuple, a mapping or `Spend`."""


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
    """The data of an event's record: JSON values, optional fields left out while they have their default."""
    data: dict[str, object] = {}
    for item in _LAYOUTS[type(event)]:
        value = getattr(event, item.name)
        if item.type == "Spend":
            data.update(_spent(value))
        elif not (item.optional and value == item.default):
            data[item.wire] = list(value) if isinstance(value, tuple) else value
    return data


def decode(kind: str, data: Mapping[str, Any]) -> Event:
    """The event of a record's kind and data."""
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
    """Money and tokens as a record has them."""
    if "cost_usd" not in data and "tokens" not in data:
        return NO_SPEND
    return Spend(data.get("cost_usd"), data.get("tokens", {}))


def _spent(spend: Spend) -> dict[str, object]:
    data: dict[str, object] = {} if spend.cost_usd is None else {"cost_usd": spend.cost_usd}
    return {**data, "tokens": dict(spend.tokens)} if spend.tokens else data
