"""Work orders, leases and results as values, and the rules about them. Pure.

An order is a commit whose parent is its base, so one fetch brings everything. A lease is a ref that moves only by
compare-and-swap: its creator has claimed the order, its beat counts up while the worker lives, and its fence
counts up with each worker that takes it over. Clocks of hosts are not compared: a lease is silent if the observer has
seen no other beat for a time by its own clock. Only the result of the highest fence counts; one that comes late is kept
and never lands.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from executor.errors import ExecutorError
from executor.process.runner import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "PROTOCOL",
    "Do",
    "Entry",
    "Lease",
    "Limits",
    "Order",
    "ProtocolError",
    "Result",
    "State",
    "Take",
    "Watch",
    "chosen",
    "counts",
    "decoded",
    "encoded",
    "ended_as",
    "ending_of",
    "entry_of",
    "is_check_id",
    "is_order_id",
    "next_lease",
    "same_work",
    "what_to_do",
]

PROTOCOL = 1
"""A worker leaves orders of another number alone."""
_CHECK_ID = re.compile(r"[^/]+/check/k[0-9a-f]+(?:\.\d+)?")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*){0,5}")


class ProtocolError(ExecutorError):
    """An order, a lease or a result cannot be read: it is of another version, or not ours."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the command of an order, as `executor.process.runner.Command` has them."""

    timeout: float = 1800.0
    idle: float = 0.0
    output_cap: int = 64 * 2**20
    linger: float = 0.0


@dataclass(frozen=True, slots=True)
class Take:
    """How the worker imports the tree of an agent; the coordinator imports it again by the same rules.

    Attributes:
        excludes: ignore rules of the coordinator.
        declared: globs of files that count even if they are ignored.
        files, file_bytes, bytes: limits of one result, as `executor.git.worktrees.ImportLimits` has them.
    """

    excludes: str
    declared: tuple[str, ...]
    files: int
    file_bytes: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Order:
    """A work order.

    Attributes:
        id: for example ``m4/4.1/2``: issue and attempt; a step of a workflow adds its name.
        base: the commit to work on.
        argv: the command; `OUT`, `BRIEF` and `GIVEN` of `executor.cluster.worker` stand for paths on the host.
        brief: the brief of an agent; empty for a check.
        profile: name and digest of the agent's profile, or of the check.
        env: values that are no secret.
        secrets: names of variables that the worker takes from its own environment. Values never travel.
        labels: a worker claims it only if it has all of them.
        limits: limits of the command.
        deadline: epoch seconds after which nobody claims it; 0 for none.
        start: working folder of the command in the tree.
        prepare: set-up commands before it.
        agent: the agent's profile; empty for a check.
        take: how its tree is taken; None for a check, which leaves none.
        spec: key of the issue's spec.
        head: commit that the agent sees as HEAD; empty: the base.
        hoped: names of secrets that the coordinator has: if the agent fails where one is not set, its end says so.
        isolated: the host vouches for its isolation, so the agent works there without the sandbox of this program.
        beat_s: seconds between two heartbeats.
        patience_s: seconds of silence after which another worker takes it over.
        inputs: files of a workflow step's inputs, by name.
        asks: of a check or a question, the command whose conditions count; empty for an agent.
        conditions: of a check, those that its host must have, by name. Of a question, the names that the answer must
            have beside those of every command.
        protocol: version of this form.
    """

    id: str
    base: str
    argv: tuple[str, ...]
    brief: str = ""
    profile: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    limits: Limits = Limits()
    deadline: float = 0.0
    start: str = ""
    prepare: tuple[tuple[str, ...], ...] = ()
    agent: Mapping[str, object] = field(default_factory=dict)
    take: Take | None = None
    spec: str = ""
    head: str = ""
    hoped: tuple[str, ...] = ()
    isolated: bool = False
    beat_s: float = 10.0
    patience_s: float = 60.0
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    asks: tuple[str, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    protocol: int = PROTOCOL


class State(StrEnum):
    """State of a lease."""

    HELD = "held"
    FREE = "free"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim of an order.

    Attributes:
        order: id of the order.
        fence: 1 for the first worker, one more for each that takes it over.
        worker: the worker, unique for each process.
        host: its host, for people.
        beat: counts up while the worker lives.
        state: a cancelled one is the tombstone by which the worker notices; a free one was given back.
    """

    order: str
    fence: int
    worker: str
    host: str
    beat: int = 0
    state: State = State.HELD


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an order.

    Attributes:
        order, fence, worker, host: as in the lease.
        how: why the command ended, as `executor.process.runner.Ended` has it.
        code: its exit code; None if a signal ended it or it never started.
        signal: the signal that ended it.
        problem: why it did not start or was lost.
        seconds: how long it took.
        log: end of its output.
        cost: US dollars, if the command says so.
        tree: id of the tree that the agent left; empty without one.
        fault: why it has no result beside the command's own end: ``host`` (it lacks something), ``setup`` (a set-up
            command failed), ``import`` (its tree cannot land), ``secret`` (its tree has secret values).
        places: places of secret values in its tree, without the values.
        output_bytes, leftovers: as `executor.process.runner.Ended` has them.
        conditions: conditions of the host, for a check and for the answer to a question.
        protocol: version of this form.
    """

    order: str
    fence: int
    worker: str
    host: str
    how: str
    code: int | None = None
    signal: int | None = None
    problem: str = ""
    seconds: float = 0.0
    log: str = ""
    cost: float | None = None
    tree: str = ""
    fault: str = ""
    places: tuple[str, ...] = ()
    output_bytes: int = 0
    leftovers: int = 0
    conditions: Mapping[str, str] = field(default_factory=dict)
    protocol: int = PROTOCOL


_T = TypeVar("_T", Order, Lease, Result)


def is_order_id(text: str) -> bool:
    """Return whether a text can be the id of an order: a part of a ref name."""
    return bool(_ID.fullmatch(text)) and ".." not in text and not re.search(r"\.(?:lock)?(?:/|$)", text)


def is_check_id(order: str) -> bool:
    """Return whether an order is that of a check: ``m4/check/k...`` with a digest of all that it asks for."""
    return bool(_CHECK_ID.fullmatch(order))


def encoded(value: Order | Lease | Result) -> bytes:
    """Return a value as canonical JSON, without the brief and the inputs of an order, which are files."""
    fields_of = {name: item for name, item in asdict(value).items() if name not in {"brief", "inputs"}}
    return json.dumps(fields_of, sort_keys=True, separators=(",", ":")).encode() + b"\n"


_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (float, int),
    "bool": (bool,),
    "Mapping[str, str]": (dict,),
    "Mapping[str, object]": (dict,),
}


def _is_of_type(value: object, name: str) -> bool:
    """Return whether a value from JSON fits the type of a field. Anyone who may push to the remote can write it."""
    allowed = _TYPES.get(name)
    if allowed is None:
        return True
    if name == "Mapping[str, str]" and isinstance(value, dict):
        return all(isinstance(item, str) for item in value.values())
    return isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))


def _refuse_other_types(kind: type[_T], known: Mapping[str, object]) -> None:
    given = (item for item in fields(kind) if item.name in known)
    wrong = next((item.name for item in given if not _is_of_type(known[item.name], str(item.type))), "")
    if wrong:
        raise ProtocolError(f"no {kind.__name__.lower()} of this version: {wrong} is {known[wrong]!r}")


def decoded(kind: type[_T], data: bytes) -> _T:
    """Return a value from its JSON; unknown fields of a later minor version are ignored.

    Raises:
        ProtocolError: it is not of this kind or version.
    """
    try:
        found = json.loads(data)
        known = {item.name: found[item.name] for item in fields(kind) if item.name in found}
        if known.get("protocol", PROTOCOL) != PROTOCOL:
            raise ProtocolError(f"protocol {known['protocol']}, expected {PROTOCOL}; use one version on all hosts")
        for name in ("argv", "secrets", "labels", "places", "hoped", "asks"):
            if name in known:
                known[name] = tuple(map(str, known[name]))
        if "prepare" in known:
            known["prepare"] = tuple(tuple(map(str, argv)) for argv in known["prepare"])
        if "limits" in known:
            known["limits"] = Limits(**known["limits"])
        if known.get("take") is not None:
            known["take"] = Take(**{**known["take"], "declared": tuple(map(str, known["take"]["declared"]))})
        if "state" in known:
            known["state"] = State(known["state"])
        _refuse_other_types(kind, known)
        value = kind(**known)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProtocolError(f"no {kind.__name__.lower()} of this version: {error}") from error
    if not is_order_id(str(known.get("id", known.get("order")))):
        raise ProtocolError("its id cannot be part of a ref name")
    return value


def same_work(one: Order, other: Order) -> bool:
    """Return whether two orders request the same work, so that the result of one serves the other.

    Briefs may differ in what surrounds the issue, such as the issues in progress beside it; the base of a check, whose
    tree is part of its id, may differ in its history.
    """
    names = ("id", "asks", "conditions") if one.asks else ("id", "base", "spec", "profile")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def ended_as(result: Result, ended: Ended) -> Result:
    """Return a result with the end of its command."""
    return replace(
        result,
        how=ended.reason,
        code=ended.code,
        signal=ended.signal,
        problem=ended.problem,
        seconds=ended.seconds,
        output_bytes=ended.output_bytes,
        leftovers=ended.leftovers,
    )


_ENDS = frozenset({"exited", "timeout", "idle", "output-limit", "not-started"})


def ending_of(result: Result) -> Ended | None:
    """Return the end of the command of a result; None if it was stopped, or has an unknown end, because of the host."""
    if result.fault == "host" or result.how not in _ENDS:
        return None
    return Ended(
        code=result.code,
        signal=result.signal,
        reason=result.how,  # type: ignore[arg-type]
        problem=result.problem,
        seconds=result.seconds,
        output_bytes=result.output_bytes,
        leftovers=result.leftovers,
    )


def chosen(answers: Sequence[Result]) -> Mapping[str, str]:
    """Return the conditions that most hosts have; of several, the same for everyone who asks."""
    every = Counter(tuple(sorted(it.conditions.items())) for it in answers)
    return dict(min(every.items(), key=lambda it: (-it[1], it[0]))[0])


class Do(StrEnum):
    """Steps of a worker that looks at an order."""

    CLAIM = "claim"
    TAKE_OVER = "take over"
    LEAVE = "leave"


@dataclass(slots=True)
class Watch:
    """Since when an observer has seen each lease unchanged, on its own clock."""

    seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def silence(self, order: str, commit: str, now: float) -> float:
        """Return for how many seconds the lease of an order has been this commit.

        Args:
            order: id of the order.
            commit: the commit of its lease.
            now: seconds on a clock that never goes back.
        """
        before, since = self.seen.get(order, ("", now))
        if before != commit:
            since = now
        self.seen[order] = (commit, since)
        return now - since


def what_to_do(
    order: Order, lease: Lease | None, labels: frozenset[str], *, silence: float, patience: float, now: float
) -> Do:
    """Decide what a free worker does with an order.

    Args:
        order: the order.
        lease: its lease; None if it is unclaimed.
        labels: labels of the worker.
        silence: seconds since the observer saw the lease move.
        patience: seconds of silence after which a lease is taken over.
        now: epoch seconds, for the deadline alone.
    """
    if not labels.issuperset(order.labels) or (order.deadline and now > order.deadline):
        return Do.LEAVE
    if lease is None:
        return Do.CLAIM
    silent = lease.state is State.HELD and silence >= patience
    return Do.TAKE_OVER if silent or lease.state is State.FREE else Do.LEAVE


def next_lease(order: str, before: Lease | None, worker: str, host: str) -> Lease:
    """Return the lease of a worker that claims an order or takes it over."""
    return Lease(order, 1 if before is None else before.fence + 1, worker, host)


def beaten(lease: Lease) -> Lease:
    """Return the lease with its next beat."""
    return replace(lease, beat=lease.beat + 1)


def counts(result: Result, lease: Lease | None) -> bool:
    """Return whether a result may land: nobody took the order over, and nobody cancelled it."""
    return (
        lease is not None
        and lease.state is State.DONE
        and (lease.order, lease.fence, lease.worker) == (result.order, result.fence, result.worker)
    )


class Entry(StrEnum):
    """Answers to a run that wants to begin while the remote has a lease of its milestone."""

    BEGIN = "begin"
    """It takes the lease and begins."""
    WAIT = "wait"
    """The holder may be dead: look again."""
    BUSY = "busy"
    """The holder lives."""


def entry_of(lease: Lease | None, clone: str, *, beats: int, silence: float, patience: float, asked: bool) -> Entry:
    """Decide whether a run may take the lease of its milestone.

    Args:
        lease: the lease on the remote; None without one. Its `order` is the milestone, its `worker` is CLONE/RUN.
        clone: the clone of the run. It holds the milestone's lock, so no other run of this clone lives.
        beats: how often the observer saw the lease move.
        silence: seconds since the observer saw it move, or saw it first, by the observer's clock.
        patience: seconds of silence after which the holder counts as dead.
        asked: a person asks for the take-over.
    """
    if lease is None or lease.state is not State.HELD or asked or lease.worker.partition("/")[0] == clone:
        return Entry.BEGIN
    if beats:
        return Entry.BUSY
    return Entry.BEGIN if silence >= patience else Entry.WAIT
