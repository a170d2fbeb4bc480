"""The merge queue: which candidates are proved together, which land, and which one broke a lot. Pure.

Candidates land in the order of the queue. They are proved in lots on the predicted tip: the branch with every lot ahead
of them. A lot of one is the mode `each`: every landed tree is proved. Larger lots are the mode `batch`: the tree after
the last member is proved, and the members land in one push. A red lot is narrowed down to its culprit; the rest is
proved again and lands.

Invariants, tested by tests/engine/test_queue.py over thousands of simulated queues:

- A lot lands only if all checks of all its members passed on the tree after its last member, on the real tip.
- A candidate is rejected only if it failed alone on the real tip.
- While the queue is not empty, there is an action to take or a proof in progress.

The batch size follows the failure rate p of the queue: the cost of halving has its minimum near 0.6/p, and above 25 % a
batch costs more runs than it saves.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = [
    "Action",
    "Land",
    "Probe",
    "Prove",
    "Queue",
    "Rate",
    "Reject",
    "Suspect",
    "Verdict",
    "after_landing",
    "arranged",
    "batch_size",
    "likely_culprit",
    "lots_of",
    "next_actions",
]

_TOO_RED = 0.25  # failure rate; above it a batch of two saves next to nothing: 1 + 2 (1 - 0.75²) = 1.9 runs, not 2
_PRIOR_FAILED, _PRIOR_ASKED = 0.4, 20.0
_MEMORY = 0.97
"""Factor by which the weight of an outcome decays with each later one: about the last thirty count."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A tree to prove: the tip with these candidates on it.

    Attributes:
        members: candidates in landing order.
        lot: how many of the last members are judged; the members before them are predicted to land first.
        only: the faults to look for: failed checks or tests; empty: all checks of the lot.
        again: repeats a failed proof, to detect a flaky check.
    """

    members: tuple[str, ...]
    lot: int
    only: frozenset[str] = frozenset()
    again: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a probe.

    Attributes:
        ok: all requested checks passed.
        failed: the checks that failed, or their tests.
        culprit: the member that conflicts with those before it; empty if unknown.
        likely: the member that the failing output points at; empty if unknown.
    """

    ok: bool
    failed: frozenset[str] = frozenset()
    culprit: str = ""
    likely: str = ""


@dataclass(frozen=True, slots=True)
class Prove:
    """Run a probe."""

    probe: Probe


@dataclass(frozen=True, slots=True)
class Land:
    """Land these candidates, the head of the queue, in one push."""

    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reject:
    """Remove a candidate from the queue: it failed alone on the tip."""

    member: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """Prove this candidate alone from now on, because it broke its lot."""

    member: str


Action = Prove | Land | Reject | Suspect


@dataclass(frozen=True, slots=True)
class Queue:
    """A snapshot of the queue.

    Attributes:
        members: candidates in landing order.
        suspects: members that are proved alone, on the real tip.
        verdicts: results of probes on the current tip.
        running: probes in progress.
    """

    members: tuple[str, ...] = ()
    suspects: frozenset[str] = frozenset()
    verdicts: Mapping[Probe, Verdict] = field(default_factory=dict)
    running: frozenset[Probe] = frozenset()


def next_actions(queue: Queue, size: int, slots: int) -> list[Action]:
    """Return the next actions; empty if all that helps is to wait. An action other than `Prove` comes alone.

    Args:
        queue: the queue.
        size: how many candidates are proved together.
        slots: how many probes may run at a time.
    """
    wanted: list[Probe] = []
    for member in queue.members:
        if member in queue.suspects:
            probe = Probe((member,), 1)
            verdict = queue.verdicts.get(probe)
            if verdict is not None:
                return [Land((member,)) if verdict.ok else Reject(member)]
            wanted.append(probe)
    found = _walk(queue, size, wanted)
    if found is not None and not (wanted and queue.suspects and isinstance(found, Land)):
        return [found]
    free = max(0, slots - len(queue.running))
    probes: list[Action] = [Prove(probe) for probe in wanted if probe not in queue.running]
    return probes[:free]


def _walk(queue: Queue, size: int, wanted: list[Probe]) -> Land | Reject | Suspect | None:
    """Walk the lots from the head of the queue; returns what to do with them, appends missing probes to `wanted`."""
    waiting = [member for member in queue.members if member not in queue.suspects]
    accepted: tuple[str, ...] = ()
    land: tuple[str, ...] = ()
    proved = True
    while waiting:
        lot = _lot(waiting, size, accepted, queue)
        probe = Probe((*accepted, *lot), len(lot))
        verdict = queue.verdicts.get(probe)
        if verdict is None:
            proved = False
            if len(lot) == size or probe in queue.running or not (queue.running or wanted):
                wanted.append(probe)
        elif not verdict.ok and len(lot) == 1:
            if not accepted:
                return Reject(lot[0])
            # Red behind others, which may be the cause: it is predicted not to land, and judged again at the head.
            del waiting[0]
            continue
        elif not verdict.ok and not _was_flaky(probe, verdict, queue.verdicts):
            culprit = verdict.culprit or _narrowed(probe, verdict, queue.verdicts, wanted)
            if land:
                break
            return Suspect(culprit) if culprit else None
        accepted = probe.members
        land = accepted if proved else land
        del waiting[: len(lot)]
    return Land(land) if land else None


def arranged(queue: Queue, rivals: Mapping[str, int], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Return the members in the order in which most of them land.

    Members without a known conflict go first, then those with the fewest conflicts, then the smallest changes. A member
    whose proof has begun keeps its place, and so do those ahead of it.

    Args:
        queue: the queue.
        rivals: member -> how many results it conflicts with; a missing one conflicts with none.
        sizes: member -> lines that it changes.
    """
    begun = {member for probe in (*queue.running, *queue.verdicts) for member in probe.members} | queue.suspects
    fixed = max((place + 1 for place, member in enumerate(queue.members) if member in begun), default=0)
    rest = sorted(
        queue.members[fixed:],
        key=lambda member: (rivals.get(member, 0), sizes.get(member, 0) if rivals.get(member) else 0),
    )
    return (*queue.members[:fixed], *rest)


def after_landing(verdicts: Mapping[Probe, Verdict], landed: tuple[str, ...]) -> dict[Probe, Verdict]:
    """Keep the results that are still valid after these have landed: those of trees that contain all of them."""
    count = len(landed)
    return {
        replace(probe, members=probe.members[count:]): verdict
        for probe, verdict in verdicts.items()
        if probe.members[:count] == landed and probe.lot <= len(probe.members) - count
    }


def likely_culprit(changed: Mapping[str, Sequence[str]], text: str, read: Collection[str]) -> str:
    """Return the member that most likely broke its lot; empty if the signs name none or several.

    From strong to weak: it changed files that the failing output names, such as those of a traceback; files that the
    failing tests executed; files whose tests by name are among the failing ones.

    Args:
        changed: member -> the files that it changes.
        text: the failing output, and the names of the failing tests.
        read: files that the failing tests executed, as far as that is known.
    """
    every = {path for paths in changed.values() for path in paths}
    signs = (
        lambda path, plain, _: _names(text, path) or _names(text, plain.replace("/", ".")),
        lambda path, _, __: path in read,
        lambda _, __, stem: _names(text, f"test_{stem}") or _names(text, f"{stem}_test"),
    )
    for sign in signs:
        found = {path for path in every if sign(path, path.partition(".")[0], _stem(path))}
        counts = {member: len(found.intersection(paths)) for member, paths in changed.items()}
        best = [member for member, count in counts.items() if count and count == max(counts.values())]
        if best:
            return best[0] if len(best) == 1 else ""
    return ""


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def _names(text: str, name: str) -> bool:
    """Return whether a text has a path or a dotted module as a whole name, also below another folder or package."""
    return bool(name) and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w/-])", text) is not None


def lots_of(members: tuple[str, ...], verdicts: Mapping[Probe, Verdict]) -> list[tuple[str, ...]]:
    """Split members that land now into the lots that were proved, each with its own tree."""
    lots, place = [], 0
    while place < len(members):
        known = [
            probe.lot
            for probe in verdicts
            if not probe.only
            and len(probe.members) == place + probe.lot
            and probe.members == members[: place + probe.lot]
        ]
        count = max(known, default=1)
        lots.append(members[place : place + count])
        place += count
    return lots


def batch_size(rate: float, most: int) -> int:
    """Return how many candidates to prove together: about 0.6/rate as a power of two; one above 25 %."""
    if rate > _TOO_RED:
        return 1
    wanted = round(math.log2(0.6 / max(rate, 1e-6)))
    return max(1, min(most, 1 << max(0, wanted)))


@dataclass(frozen=True, slots=True)
class Rate:
    """The recent failure rate of the queue.

    Attributes:
        failed: weight of the rejected candidates; starts as if 2 % had failed.
        asked: weight of all candidates.
    """

    failed: float = _PRIOR_FAILED
    asked: float = _PRIOR_ASKED

    def after(self, *, rejected: bool) -> Rate:
        """Return the rate after one more outcome."""
        return Rate(self.failed * _MEMORY + rejected, self.asked * _MEMORY + 1)

    @property
    def value(self) -> float:
        """The share of rejected candidates, 0 to 1."""
        return self.failed / self.asked


def _lot(waiting: list[str], size: int, accepted: tuple[str, ...], queue: Queue) -> tuple[str, ...]:
    """Return the next lot; prefers one with a known or running proof, so that no proof is wasted."""
    start = len(accepted)
    known = [
        probe.lot
        for probe in (*queue.running, *queue.verdicts)
        if not probe.only
        and len(probe.members) == start + probe.lot
        and probe.members[:start] == accepted
        and probe.members[start:] == tuple(waiting[: probe.lot])
    ]
    if known:
        return tuple(waiting[: max(known)])
    return tuple(waiting[:size])


def _was_flaky(probe: Probe, verdict: Verdict, verdicts: Mapping[Probe, Verdict]) -> bool:
    """Whether the failed checks passed in a second run on the same tree."""
    again = verdicts.get(replace(probe, only=verdict.failed, again=True))
    return again is not None and again.ok


def _narrowed(probe: Probe, red_verdict: Verdict, verdicts: Mapping[Probe, Verdict], wanted: list[Probe]) -> str:
    """Return the culprit of a red lot; empty while unknown, with the probes that narrow it down appended.

    Only what failed runs: first on the same tree again, then on ever shorter prefixes of the lot. The culprit is the
    last member of the shortest red prefix. The prefixes before and behind a likely culprit are the first ones.
    """
    failed = red_verdict.failed
    again = replace(probe, only=failed, again=True)
    if again not in verdicts:
        wanted.append(again)
        return ""
    start = len(probe.members) - probe.lot
    lot = probe.members[start:]
    green, red = 0, len(lot)
    for count in range(1, len(lot)):
        verdict = verdicts.get(Probe(probe.members[: start + count], count, failed))
        if verdict is None:
            continue
        if verdict.culprit:
            return verdict.culprit
        if verdict.ok:
            green = max(green, count)
        else:
            red = min(red, count)
    if red - green <= 1:
        return lot[red - 1]
    half = (green + red) // 2
    if red_verdict.likely in lot:
        place = lot.index(red_verdict.likely)
        half = next((count for count in (place + 1, place) if green < count < red), half)
    wanted.append(Probe(probe.members[: start + half], half, failed))
    return ""
