"""Seeded histories of a milestone in memory: killed, cut off, out of disk, robbed of `.cache`, with a jumping clock.

`memory.py` says what is modelled. A failure prints its seed; `history(seed, ...)` plays it again. The control is a
naive executor: it believes its journal alone and recovers nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executor.config.project import Compiled, Project, compile_project
from executor.engine.issue import IssueLife, IssueRun
from executor.engine.recover import Recovery
from executor.engine.session import Session
from executor.errors import ExecutorError, StateBrokenError, StateFullError
from executor.git.command import Repository
from executor.state.decide import Status
from executor.state.fold import fold
from executor.state.model import AttemptState
from executor.state.record import How
from tests.reliability.memory import BASE, Crash, Memory, World
from tests.support import issue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.engine.milestone_run import MilestoneRun

BRANCH = "refs/heads/milestone/m1-test"
Declared = dict[str, list[Compiled]]
"""Shape of a milestone -> what is declared at first, and after its first issue was changed."""
SEED = 20_261_121
"""First seed of the campaign; the trial with number n has this plus n."""
FAST, SHARES = 75, 20
CAMPAIGN = int(os.environ.get("EXECUTOR_HISTORIES", "3000"))
LAST_RUNS = 3
SHAPES = ("a", "ab", "ac", "abc")
"""Milestones that histories are of, by their issues."""
MASKED = {"pid", "when", "seconds", "host", "user", "git", "c"}


def declared(root: Path, names: str, change: str) -> Compiled:
    """Some of three issues, one with acceptance and a need; `change` is a part of the first one's spec."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "milestones").mkdir(parents=True)
    (root / "git" / "objects").mkdir(parents=True)
    bodies = {
        "a": issue("a", f"a{change}", body=f"Do a{change}."),
        "b": issue("b", "b", needs=["a"]) + 'accept = [{ run = "test -e b" }]\n',
        "c": issue("c", "c"),
    }
    body = "".join(bodies[name] for name in names)
    (root / "milestones" / "m1.toml").write_text(f'[milestone]\nid = "m1"\ntitle = "Test"\n{body}')
    compiled = compile_project(Project(root, Repository(root, root / "git", root / "git")))
    limits = compiled.policy.limits.model_copy(update={"backoff_s": 0.0})
    return dataclasses.replace(compiled, policy=compiled.policy.model_copy(update={"stops": (), "limits": limits}))


class History:
    """One trial: runs that end in every way, then runs that nobody disturbs."""

    def __init__(self, seed: int, worlds: Declared, *, naive: bool = False) -> None:
        self.chance = random.Random(seed)  # noqa: S311  (no secret)
        self.names = self.chance.choice(SHAPES)
        self.versions, self.naive = worlds[self.names], naive
        self.root = self.versions[0].project.root
        shutil.rmtree(self.root / ".cache", ignore_errors=True)
        self.world = World(self.chance, self.root)
        self.version = 0
        self.told: list[str] = []
        self.runs = 0
        if self.chance.random() < 0.3:
            self.world.failing.add(f"{self.chance.choice(self.names)}@1")

    def play(self) -> list[str]:
        """Live through it; what was broken of what must hold."""
        for _ in range(self.chance.randrange(1, 7)):
            done = self._disturbed()
            if self.world.violations:
                return self.world.violations
            if done:
                break
        self.world.end = self.world.full = 0
        for _ in range(LAST_RUNS):
            if self._run() and not self.world.violations:
                self._check_end()
                return self.world.violations
        return self.world.violations or ["it does not come to rest"]

    @property
    def journal(self) -> list[dict[str, object]]:
        """Its records without what differs from run to run of the same seed."""
        lines: list[dict[str, object]] = []
        for path in sorted((self.root / ".cache" / "m1").glob("journal.*.jsonl")):
            whole = path.read_bytes().rpartition(b"\n")[0]
            lines += [json.loads(line) for line in whole.splitlines()]
        return [{key: value for key, value in line.items() if key not in MASKED} for line in lines]

    def _disturbed(self) -> bool:
        """A run that something happens to, and what happens before the next; whether nothing more is left to do."""
        world, chance = self.world, self.chance
        world.end = chance.randrange(1, 10 + 27 * len(self.names))
        world.power = chance.random() < 0.25
        world.full = chance.randrange(1, 20 * len(self.names)) if chance.random() < 0.15 else 0
        done = self._run()
        if world.dead and world.power:
            self._lose_power()
        event = chance.random()
        done = done and event > 0.3
        if event < 0.08:
            shutil.rmtree(self.root / ".cache", ignore_errors=True)
            world.places.clear()
            world.synced.clear()
            self._forgive()
        elif event < 0.2 and world.refs.get(BRANCH):
            tip = world.refs[BRANCH]
            files = {**world.trees[world.commits[tip][0]], f"foreign-{self.runs}": "x"}
            world.refs[BRANCH] = world.commit(world.tree(files), (tip,), "somebody's own")
        elif event < 0.27 and self.version == 0 and len(self.versions) > 1:
            self.version = 1
            world.good.discard("a")
        return done

    def _lose_power(self) -> None:
        """What was not synced is gone, work trees are anything, and the machine says so."""
        world = self.world
        for path in (self.root / ".cache" / "m1").glob("journal.*.jsonl"):
            size = path.stat().st_size
            os.truncate(path, self.chance.randrange(min(world.synced.get(str(path), 0), size), size + 1))
        for files in world.places.values():
            for name in list(files):
                if self.chance.random() < 0.5:
                    files[name] = ""
        world.boot += 1
        self._forgive()

    def _forgive(self) -> None:
        """Results that were in a work tree only may be paid for again; those on record or under a ref may not."""
        world = self.world
        events = []
        with suppress(ExecutorError):
            from executor.state.segments import read

            events = read(self.root / ".cache" / "m1")
        said = self._said()
        taken = {
            name
            for name, state in fold(events).items()
            for item in state.attempts.values()
            if item.state is AttemptState.STARTED and world.trees.get(item.tree, {}).get(name) == said[name]
        }
        attempts = [ref for ref in world.refs if ref.startswith("refs/attempts/m1/")]
        kept = {ref.split("/")[3] for ref in attempts if self._is_result(ref)}
        tip = world.refs.get(BRANCH, world.refs[BASE])
        landed = {name for name, text in self._said().items() if self._files(tip).get(name) == text}
        world.good &= taken | kept | landed

    def _is_result(self, ref: str) -> bool:
        commit = self.world.refs[ref]
        name = ref.split("/")[3]
        return "Outcome" not in self.world.trailers(commit) and self._files(commit).get(name) == self._said()[name]

    def _files(self, commit: str) -> dict[str, str]:
        return self.world.trees[self.world.commits[commit][0]]

    def _said(self) -> dict[str, str]:
        """What the agents are to make of each file."""
        said = {"a": "a-two" if self.version else "a-one", "b": "b", "c": "c"}
        return {name: said[name] for name in self.names}

    def _run(self) -> bool:
        """One process; whether it ended with everything landed."""
        world = self.world
        world.step, world.dead = 0, False
        self.runs += 1
        compiled = self.versions[self.version]
        session = Session(compiled, f"run-{self.runs}", Memory(world))
        try:
            session.enter(["m1"])
            run = session.run_of("m1")
            if self.naive:
                self._believe_the_journal(session)
            run.begin(["milestone:m1"], 1)
            if not self.naive:
                Recovery(run).recover()
            self._work(run)
            self._see(run)
            statuses = {run.decision(ref).status for ref in compiled.plan.order}
            run.end(0, How.DONE)
        except Crash:
            return False
        except ExecutorError as error:
            if not isinstance(error, StateFullError) or not world.is_full:
                world.violations.append(f"{type(error).__name__}: {error}")
            return False
        else:
            return statuses == {Status.LANDED} and not session.stopping.is_set()
        finally:
            world.meanwhile = lambda: None
            self._keep_promises()
            session.close()

    def _work(self, run: MilestoneRun) -> None:
        """Issues in their order, some of them while the agent of another one works, as threads would do it."""
        order = list(run.session.compiled.plan.order)
        waiting = list(order)

        def one(ref: str) -> None:
            waiting.remove(ref)
            try:
                IssueLife(IssueRun(run, ref)).bring_to_rest()
            except (StateFullError, StateBrokenError) as error:
                run.session.halt(error)
            except ExecutorError:
                if not run.session.stopping.is_set():
                    raise

        def meanwhile() -> None:
            ready = [ref for ref in waiting if all(need.ref not in waiting for need in run.facts(ref).needs)]
            fit = [ref for ref in ready if run.decision(ref).status is not Status.BLOCKED]
            if fit and self.chance.random() < 0.5:
                one(self.chance.choice(fit))

        self.world.meanwhile = meanwhile
        for ref in order:
            if ref in waiting:
                one(ref)

    def _see(self, run: MilestoneRun) -> None:
        """What the run would tell its user now."""
        for name, landing in run.view.landings.items():
            if run.decision(f"m1/{name}").status is Status.LANDED and landing.commit not in self.told:
                self.told.append(landing.commit)

    def _keep_promises(self) -> None:
        """What holds at any moment: nothing landed twice, nothing that was told is gone."""
        world = self.world
        history = world.history(world.refs.get(BRANCH, ""))
        landed = [(told["Issue"], told["Revision"]) for c in history if "Issue" in (told := world.trailers(c))]
        if len(landed) != len(set(landed)):
            world.violations.append(f"landed twice: {sorted(landed)}")
        keys = [(told["Issue"], told["Spec-Key"]) for c in history if "Issue" in (told := world.trailers(c))]
        if len(keys) != len(set(keys)):
            world.violations.append(f"the same spec landed twice: {sorted(landed)}")
        if missing := [commit for commit in self.told if commit not in history]:
            world.violations.append(f"told, and not there: {missing}")
        if not world.dead:
            return
        for event in self.journal:
            if event["e"] == "landed" and event["commit"] not in history:
                world.violations.append(f"on record as landed, and not there: {event['commit']}")

    def _check_end(self) -> None:
        world = self.world
        files, said = self._files(world.refs[BRANCH]), self._said()
        if {name: files.get(name) for name in said} != said:
            world.violations.append(f"not what the agents made: {files}")
        left = [ref for ref in world.refs if ref.startswith("refs/attempts/") and not self._has_outcome(ref)]
        if left:
            world.violations.append(f"left over: {left}")
        assert BASE in world.refs

    def _has_outcome(self, ref: str) -> bool:
        told = self.world.trailers(self.world.refs[ref])
        return bool(told.get("Outcome")) or told.get("Spec-Key") != self._spec_of(ref)

    def _spec_of(self, ref: str) -> str:
        commits = self.world.history(self.world.refs[BRANCH])
        named = [self.world.trailers(commit) for commit in commits]
        return next((told["Spec-Key"] for told in named if told.get("Issue") == ref.split("/")[3]), "")

    def _believe_the_journal(self, session: Session) -> None:
        """The naive executor: what has landed is what the journal says, and so is everything else."""
        view = session.observer.views["m1"]
        landed = {event["commit"] for event in self.journal if event["e"] == "landed"}
        for name, landing in list(view.landings.items()):
            if landing.commit not in landed:
                del view.landings[name]
                view.history.pop(name, None)
        view.states = fold(session.run_of("m1").journal.events)


@pytest.fixture(scope="module")
def worlds() -> Iterator[Declared]:
    shared = Path("/dev/shm")  # noqa: S108  (memory, and a name of our own)
    place = (shared if shared.is_dir() else Path("/tmp")) / f"executor-histories-{os.getpid()}"  # noqa: S108
    yield {names: [declared(place / names, names, change) for change in ("-two", "-one")][::-1] for names in SHAPES}
    shutil.rmtree(place, ignore_errors=True)


def played(worlds: Declared, seeds: range, *, naive: bool = False) -> dict[int, list[str]]:
    """Seeds of histories in which something was broken, and what."""
    found = {seed: History(seed, worlds, naive=naive).play() for seed in seeds}
    return {seed: broken for seed, broken in found.items() if broken}


def test_in_no_history_is_anything_lost_or_done_twice(worlds: Declared) -> None:
    assert played(worlds, range(FAST)) == {}


def test_an_executor_that_believes_its_journal_alone_breaks_many_histories(worlds: Declared) -> None:
    assert len(played(worlds, range(60), naive=True)) >= 20


def test_the_same_seed_is_the_same_history(worlds: Declared) -> None:
    for seed in range(5):
        journals = []
        for _ in range(2):
            history = History(seed, worlds)
            history.play()
            journals.append(history.journal)
        assert journals[0] == journals[1]


@pytest.mark.campaign
@pytest.mark.parametrize("share", range(SHARES))
def test_in_none_of_thousands_of_histories_is_anything_lost_or_done_twice(worlds: Declared, share: int) -> None:
    size = CAMPAIGN // SHARES
    assert played(worlds, range(SEED + share * size, SEED + (share + 1) * size)) == {}
