"""A merge queue in simulated time, which the tests and the benchmark share."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field, replace

from executor.engine.landing.queue import (
    Action,
    Land,
    Probe,
    Prove,
    Queue,
    Reject,
    Suspect,
    Verdict,
    after_landing,
    next_actions,
)

__all__ = ["Trial"]


@dataclass
class Trial:
    """A queue that is filled, proved and landed in simulated time.

    Attributes:
        names: candidates in the order in which they arrive.
        bad: those that fail wherever they are.
        pairs: two of which the later one fails on a tree with the earlier one.
        rivals: two that conflict textually.
        flaky: probability that a good tree fails.
    """

    names: list[str]
    bad: set[str] = field(default_factory=set)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    rivals: set[tuple[str, str]] = field(default_factory=set)
    flaky: float = 0.0
    size: int = 1
    slots: int = 1
    every: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311
    landed: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    runs: int = 0
    partial: int = 0
    clock: float = 0.0
    queue: Queue = field(default_factory=Queue)
    arriving: list[str] = field(default_factory=list)
    ending: list[tuple[float, int, Probe, Verdict]] = field(default_factory=list)

    def failing(self, tree: list[str]) -> frozenset[str]:
        """Names of the checks that fail on a tree."""
        found = {name for name in tree if name in self.bad}
        found |= {b for a, b in self.pairs if a in tree and b in tree}
        return frozenset(found)

    def verdict(self, probe: Probe) -> Verdict:
        tree = list(self.landed)
        for member in probe.members:
            if any({member, other} in [set(pair) for pair in self.rivals] for other in tree):
                return Verdict(ok=False, culprit=member if member in probe.members[-probe.lot :] else "")
            tree.append(member)
        failed = self.failing(tree)
        if probe.only:
            failed &= probe.only
        elif not failed and self.chance.random() < self.flaky:
            return Verdict(ok=False, failed=frozenset({"flaky"}))
        return Verdict(ok=not failed, failed=failed)

    def run(self) -> None:
        """Until everything has landed or is rejected."""
        self.arriving = list(self.names)
        while self.queue.members or self.arriving:
            while self.arriving and self.clock >= self.every * (len(self.names) - len(self.arriving)):
                self.queue = replace(self.queue, members=(*self.queue.members, self.arriving.pop(0)))
            actions = next_actions(self.queue, self.size, self.slots)
            assert actions or self.queue.running or self.arriving, f"stuck with {self.queue}"
            for action in actions:
                self.act(action)
            if all(isinstance(action, Prove) for action in actions):
                self.wait()

    def act(self, action: Action) -> None:
        queue = self.queue
        match action:
            case Prove(probe):
                assert probe not in queue.running
                assert probe not in queue.verdicts
                self.runs += not probe.only
                self.partial += bool(probe.only)
                heapq.heappush(
                    self.ending,
                    (self.clock + (0.1 if probe.only else 1), self.runs + self.partial, probe, self.verdict(probe)),
                )
                self.queue = replace(queue, running=queue.running | {probe})
            case Land(members):
                self.land(members)
                kept = after_landing(dict.fromkeys(queue.running, Verdict(ok=True)), members)
                self.ending = [
                    (when, order, kept_probe, verdict)
                    for when, order, probe, verdict in self.ending
                    for kept_probe in after_landing({probe: verdict}, members)
                ]
                heapq.heapify(self.ending)
                rest = tuple(name for name in queue.members if name not in members)
                verdicts = after_landing(queue.verdicts, members)
                self.queue = Queue(rest, queue.suspects - set(members), verdicts, frozenset(kept))
            case Reject(member):
                assert not queue.verdicts[Probe((member,), 1)].ok
                self.rejected.append(member)
                rest = tuple(name for name in queue.members if name != member)
                self.queue = replace(queue, members=rest, suspects=queue.suspects - {member})
            case Suspect(member):
                assert member in queue.members
                assert member not in queue.suspects
                self.queue = replace(queue, suspects=queue.suspects | {member})

    def wait(self) -> None:
        """For the end of a probe, or for the next candidate."""
        if not self.ending:
            self.clock += self.every or 1.0
            return
        self.clock, _, probe, verdict = heapq.heappop(self.ending)
        if probe in self.queue.running:
            verdicts = {**self.queue.verdicts, probe: verdict}
            self.queue = replace(self.queue, running=self.queue.running - {probe}, verdicts=verdicts)

    def land(self, members: tuple[str, ...]) -> None:
        """Every member was proved in a lot whose tree is part of what lands now."""
        queue, place = self.queue, 0
        while place < len(members):
            count = next(
                count
                for count in range(len(members) - place, 0, -1)
                if (probe := Probe(members[: place + count], count)) in queue.verdicts
                and (
                    queue.verdicts[probe].ok
                    or queue.verdicts[replace(probe, only=queue.verdicts[probe].failed, again=True)].ok
                )
            )
            place += count
        self.landed += members
        assert not self.failing(self.landed)
