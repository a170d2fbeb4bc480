"""Random edits of a landed milestone: the incremental run ends where one from scratch would, and explain names why.

The agent is a function of what an issue asks for and of the interfaces that it uses; acceptance passes on exactly what
that agent would make. Then it must not matter in which steps a declaration came about. The world is in memory
(tests/reliability/memory.py); decisions, journal and landing are the real ones. Of an issue that cannot land the old
landing stays, so it is compared by its status alone, and what needs it is not compared. A changed check of rules/ never
changes a verdict here, because what failed under other rules is tried again only after `doit retry`.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from executor.commands.inspect.explain import _difference
from executor.state.decide import Decision, Status
from tests.engine.test_life import Milestone
from tests.support import issue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SEED = int(os.environ.get("EXECUTOR_SEED", "20261128"))
SCRIPTS = int(os.environ.get("EXECUTOR_SCRIPTS", "1000"))
SHARES = 4
Files = dict[str, str]


@dataclass
class Item:
    """A declared issue. `uses` are the files whose interface its own file depends on."""

    file: str
    uses: tuple[str, ...] = ()
    interface: int = 0
    words: int = 0
    blanks: int = 0
    spaces: int = 0
    title: int = 0
    type: str = "feature"
    priority: str = "P1"
    size: str = "M"
    files: int = 0
    claims: int = 0
    accept: int = 0
    never: bool = False
    needs: tuple[str, ...] = ()
    checks: tuple[str, ...] = ("all",)
    comment: int = 0
    was: tuple[str, ...] = ()

    def toml(self, name: str) -> str:
        said = json.dumps([self.file, self.interface, self.words, self.claims, *self.uses])
        blank, space = "\n" * self.blanks, " " * self.spaces
        text = f"Make {self.file} with interface {self.interface}.{space}\n\n{blank}Words {self.words}."
        told = issue(
            name,
            said,
            title=f"Issue of {self.file}, {self.title}",
            body=f"{text} Uses {' '.join(self.uses) or 'nothing'}.",
            type=self.type,
            priority=self.priority,
            size=self.size,
            files=[self.file, *(f"more{number}" for number in range(self.files))],
            needs=list(self.needs),
            checks=list(self.checks),
            accept=[
                f"It is number {self.claims}",
                {"run": f"{'never' if self.never else 'judge'} {self.file} {self.accept}"},
            ],
            **({"was": list(self.was)} if self.was else {}),
        )
        return "# a comment\n" * self.comment + told


@dataclass
class Declared:
    """A milestone: its issues in order, and the checks of rules/."""

    issues: dict[str, Item] = field(default_factory=dict)
    checks: dict[str, list[int]] = field(default_factory=lambda: {"all": [0, 60, 0], "lint": [0, 60, 0]})
    made: int = 0

    def of(self, file: str) -> str:
        return next(name for name, item in self.issues.items() if item.file == file)

    def add(self, chance: random.Random) -> None:
        self.made += 1
        known = [item.file for item in self.issues.values()]
        uses = tuple(chance.sample(known, min(len(known), chance.choice((0, 1, 1, 2)))))
        self.issues[str(self.made)] = Item(f"f{self.made}", uses, needs=tuple(map(self.of, uses)))

    def rules(self) -> str:
        shown = '[check.{}]\nrun = "check {}"\ntimeout = {}\nenv = {{ A = "{}" }}\n'
        vouched = 'sabotage = "off"\nsabotage_reason = "t"\n'
        return "".join((shown + vouched).format(name, *values) for name, values in self.checks.items())


WORK = ("interface", "words", "claims")
INPUTS = {"spec": WORK, "checks": ("accept", "never", "checks")}
"""Inputs that explain names, and the fields of an issue that they consist of; the checks of rules/ are inputs too."""
Edit = Callable[[Declared, Item, random.Random], None]


def count(name: str) -> Edit:
    return lambda _, item, __: setattr(item, name, getattr(item, name) + 1)


def pick(name: str, *values: str) -> Edit:
    return lambda _, item, chance: setattr(item, name, chance.choice(values))


def rule(place: int) -> Edit:
    def edit(declared: Declared, _: Item, chance: random.Random) -> None:
        declared.checks[chance.choice(sorted(declared.checks))][place] += 1

    return edit


def needs_more(declared: Declared, item: Item, chance: random.Random) -> None:
    before = list(declared.issues)[: list(declared.issues.values()).index(item)]
    item.needs = tuple(dict.fromkeys((*item.needs, *([chance.choice(before)] if before else []))))


def needs_less(declared: Declared, item: Item, _: random.Random) -> None:
    item.needs = tuple(map(declared.of, item.uses))


def remove(declared: Declared, item: Item, _: random.Random) -> None:
    name = declared.of(item.file)
    if len(declared.issues) > 2 and not any(item.file in other.uses for other in declared.issues.values()):
        del declared.issues[name]
        for other in declared.issues.values():
            other.needs = tuple(need for need in other.needs if need != name)


def rename(declared: Declared, item: Item, _: random.Random) -> None:
    declared.made += 1
    old, new = declared.of(item.file), f"r{declared.made}"
    item.was = (*item.was, old)
    declared.issues = {new if name == old else name: other for name, other in declared.issues.items()}
    for other in declared.issues.values():
        other.needs = tuple(new if need == old else need for need in other.needs)


EDITS: dict[str, Edit] = {
    **{name: count(name) for name in (*WORK, "blanks", "spaces", "title", "files", "accept", "comment")},
    "an acceptance that fails": lambda _, item, __: setattr(item, "never", not item.never),
    "type": pick("type", "feature", "docs", "core"),
    "priority": pick("priority", "P0", "P1", "P2"),
    "size": pick("size", "S", "M", "L"),
    "which checks": lambda _, item, chance: setattr(item, "checks", chance.choice(((), ("all",), ("all", "lint")))),
    "the command of a check": rule(0),
    "the time limit of a check": rule(1),
    "the environment of a check": rule(2),
    "one more need": needs_more,
    "fewer needs": needs_less,
    "another issue": lambda declared, _, chance: declared.add(chance),
    "an issue less": remove,
    "another id": rename,
}


class Edited(Milestone):
    """A milestone in memory that is edited."""

    def __init__(self, root: Path, declared: Declared) -> None:
        self.now = declared
        self.asked: list[str] = []
        (root / "rules").mkdir(parents=True)
        super().__init__(root)
        self.world.makes, self.world.judges = self._make, self._judge

    def declare(self, *_: str) -> Any:
        (self.root / "rules/checks.toml").write_text(self.now.rules())
        return super().declare(*(item.toml(name) for name, item in self.now.issues.items()))

    def _make(self, files: Files, name: str, said: str) -> None:
        files.pop(name, None)
        file, interface, words, claims, *uses = json.loads(said)
        files[file] = json.dumps([interface, words, claims, {use: json.loads(files[use])[0] for use in uses}])
        self.asked.append(name)

    @staticmethod
    def _judge(files: Files, _: str, argv: Sequence[str]) -> bool:
        kind, file, *_rest = argv[-1].split()
        if kind not in {"judge", "never"}:
            return True
        uses = json.loads(files[file])[3] if file in files else {"": 0}
        return kind == "judge" and all(use in files and json.loads(files[use])[0] == uses[use] for use in uses)

    def decisions(self) -> dict[str, tuple[Decision, list[str]]]:
        """The decision on each issue and the lines that explain prints about it, before anything runs."""
        session = self.session()
        try:
            session.enter(["m1"])
            found = {ref: session.observer.decision(ref) for ref in self.compiled.plan.order}
            return {ref: (item, _difference(session.observer, ref, item.cause)) for ref, item in found.items()}
        finally:
            session.close()


def edited(declared: Declared, chance: random.Random, edits: int) -> list[str]:
    names = [chance.choice(sorted(EDITS)) for _ in range(edits)]
    for name in names:
        EDITS[name](declared, chance.choice(list(declared.issues.values())), chance)
    return names


def ended(milestone: Edited) -> tuple[dict[str, str], Files]:
    """Status and content by file."""
    statuses = {ref.partition("/")[2]: str(decision.status) for ref, decision in milestone.run().items()}
    named = {name: item.file for name, item in milestone.now.issues.items()}
    files = milestone.files() if "refs/heads/milestone/m1-test" in milestone.world.refs else {}
    return {named[name]: status for name, status in statuses.items()}, files


def assert_alike(incremental: Edited, scratch: Edited, why: str) -> None:
    statuses, files = ended(incremental)
    expected, made = ended(scratch)
    for item in scratch.now.issues.values():
        if expected[item.file] != "blocked":
            assert statuses[item.file] == expected[item.file], (why, item, statuses, expected)
        if expected[item.file] == "landed":
            assert files[item.file] == made[item.file], (why, item)


def play(root: Path, seed: int) -> None:
    """One script: up to three rounds of edits, each explained, run, and compared with a run from scratch."""
    chance = random.Random(seed)  # noqa: S311  (no secret)
    declared = Declared()
    for _ in range(chance.randrange(2, 6)):
        declared.add(chance)
    milestone = Edited(root / "incremental", declared)
    milestone.run()
    for number in range(chance.randrange(1, 4)):
        before = copy.deepcopy(milestone.now)
        landed = {ref for ref, (item, _) in milestone.decisions().items() if item.status is Status.LANDED}
        names = edited(milestone.now, chance, chance.randrange(1, 5))
        milestone.declare()
        assert_explained(milestone, before, landed)
        scratch = Edited(root / f"scratch-{number}", copy.deepcopy(milestone.now))
        for item in scratch.now.issues.values():
            item.was = ()
        scratch.declare()
        assert_alike(milestone, scratch, f"seed {seed}, round {number}: {', '.join(names)}")
        asked = len(milestone.asked)
        milestone.run()
        assert len(milestone.asked) == asked, f"seed {seed}: a second run asked an agent"


def assert_explained(milestone: Edited, before: Declared, landed: set[str]) -> None:
    """Every landing that is doubted is so for an input that was edited; taking back that input clears the doubt."""
    after = milestone.now
    for ref, (decision, lines) in milestone.decisions().items():
        name = ref.partition("/")[2]
        if ref in landed and name in before.issues:
            assert_causes_are_the_edits(milestone, before, ref, decision, lines)
        milestone.now = after
        milestone.declare()


def assert_causes_are_the_edits(
    milestone: Edited, before: Declared, ref: str, decision: Decision, lines: list[str]
) -> None:
    """Take back one named input after the other until the landing stands; each of them alone is doubt enough."""
    seen: set[str] = set()
    while decision.status is not Status.LANDED:
        cause = decision.cause.input if decision.cause is not None else ""
        assert cause in INPUTS, (ref, decision)
        assert cause not in seen, (ref, decision)
        assert lines, (ref, decision)
        seen.add(cause)
        name, now = ref.partition("/")[2], milestone.now
        alone, without = copy.deepcopy(before), copy.deepcopy(now)
        take_over(cause, name, now, alone)
        take_over(cause, name, before, without)
        milestone.now = alone
        milestone.declare()
        told = milestone.decisions()[ref][0].cause
        assert told is not None, (ref, cause)
        assert told.input == cause, (ref, told)
        milestone.now = without
        milestone.declare()
        decision, lines = milestone.decisions()[ref]


def take_over(cause: str, name: str, source: Declared, target: Declared) -> None:
    for one in INPUTS[cause]:
        setattr(target.issues[name], one, getattr(source.issues[name], one))
    if cause == "checks":
        target.checks = copy.deepcopy(source.checks)


@pytest.mark.parametrize("seed", range(SEED, SEED + 10))
def test_an_incremental_run_ends_where_one_from_scratch_would_and_explain_names_the_cause(
    tmp_path: Path, seed: int
) -> None:
    play(tmp_path, seed)


@pytest.mark.campaign
@pytest.mark.parametrize("share", range(SHARES))
def test_so_do_a_thousand_random_scripts_of_edits(tmp_path: Path, share: int) -> None:
    for seed in range(SEED + 10 + share, SEED + 10 + SCRIPTS, SHARES):
        play(tmp_path / str(seed), seed)
