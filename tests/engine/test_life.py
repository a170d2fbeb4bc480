"""The life of an issue on a world in memory: attempts, landing, recovery and verification, without git and processes.

`tests.reliability.memory` implements the ports of the engine. What a person sees of the same is tested in
tests/features, and every order of kills in tests/reliability.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

import pytest

from executor.config.project import Project, compile_project
from executor.engine.issue import IssueLife, IssueRun
from executor.engine.recover import Recovery
from executor.engine.session import Session
from executor.git.command import Repository
from executor.state.record import How
from executor.state.segments import read
from tests.reliability.memory import BASE, Crash, Memory, World
from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    from executor.config.project import Compiled
    from executor.state.decide import Decision

BRANCH = "refs/heads/milestone/m1-test"
PROVED = 'accept = [{ run = "true" }]\n'


class Milestone:
    """A milestone of some issues in a world of its own; a run is a call."""

    def __init__(self, root: Path, *bodies: str) -> None:
        self.root = root
        (root / "milestones").mkdir(parents=True)
        (root / "git" / "objects").mkdir(parents=True)
        self.world = World(random.Random(1), root)  # noqa: S311  (no secret)
        self.runs = 0
        self.compiled = self.declare(*bodies)

    def declare(self, *bodies: str) -> Compiled:
        """Declare these issues from now on."""
        (self.root / "milestones" / "m1.toml").write_text(f'[milestone]\nid = "m1"\ntitle = "Test"\n{"".join(bodies)}')
        repository = Repository(self.root, self.root / "git", self.root / "git")
        compiled = compile_project(Project(self.root, repository))
        limits = compiled.policy.limits.model_copy(update={"backoff_s": 0.0})
        policy = compiled.policy.model_copy(update={"stops": (), "limits": limits})
        self.compiled = dataclasses.replace(compiled, policy=policy)
        self.world.good.clear()
        return self.compiled

    def run(self) -> dict[str, Decision]:
        """One run of all issues; the final decision on each. `Crash` where the world ends it."""
        self.world.step, self.world.dead = 0, False
        session = self.session()
        try:
            session.enter(["m1"])
            run = session.run_of("m1")
            run.begin(["milestone:m1"], 1)
            Recovery(run).recover()
            order = self.compiled.plan.order
            found = {ref: IssueLife(IssueRun(run, ref)).bring_to_rest() for ref in order}
            run.end(0, How.DONE)
            return found
        finally:
            session.close()

    def session(self) -> Session:
        """The session of the next run."""
        self.runs += 1
        return Session(self.compiled, f"run-{self.runs}", Memory(self.world))

    def kinds(self, issue: str) -> list[str]:
        """The kinds of events about an issue, in their order."""
        return [item.kind for item in read(self.root / ".cache" / "m1") if item.key == issue]

    def files(self) -> dict[str, str]:
        """The files at the tip of the branch."""
        return self.world.trees[self.world.commits[self.world.refs[BRANCH]][0]]

    def foreign(self, files: dict[str, str]) -> str:
        """Somebody else's commit with these files on the branch."""
        world, tip = self.world, self.world.refs[BRANCH]
        tree = world.tree({**world.trees[world.commits[tip][0]], **files})
        world.refs[BRANCH] = world.commit(tree, (tip,), "somebody's own")
        return world.refs[BRANCH]

    def landed(self) -> list[tuple[str, str]]:
        """Issue and revision of each landing, oldest first."""
        found = [self.world.trailers(commit) for commit in reversed(self.world.history(self.world.refs[BRANCH]))]
        return [(told["Issue"], told["Revision"]) for told in found if "Issue" in told]


@pytest.fixture
def one(tmp_path: Path) -> Milestone:
    return Milestone(tmp_path / "root", issue("a", "one") + PROVED)


def test_an_attempt_that_succeeds_is_built_proved_and_landed(one: Milestone) -> None:
    assert str(one.run()["m1/a"].status) == "landed"
    assert one.kinds("a") == ["attempt-started", "snapshot", "attempt-built", "checked", "landing", "landed"]
    assert one.files() == {"README": "start", "a": "one"}
    assert one.landed() == [("a", "1")]
    assert [name for name in one.world.refs if name.startswith("refs/attempts/")] == []


@pytest.mark.parametrize(
    ("behaviour", "status", "kinds"),
    [
        pytest.param({"failing": {"a@1"}}, "landed", {"a@1": "agent"}, id="it fails once"),
        pytest.param({"failing": {"a@1", "a@2"}}, "failed", {"a@1": "agent", "a@2": "agent"}, id="it fails twice"),
        pytest.param({"idle": {"a@1", "a@2"}}, "failed", {"a@1": "empty", "a@2": "empty"}, id="it changes nothing"),
    ],
)
def test_an_attempt_that_fails_is_kept_with_its_outcome(
    one: Milestone, behaviour: dict[str, set[str]], status: str, kinds: dict[str, str]
) -> None:
    for name, attempts in behaviour.items():
        setattr(one.world, name, attempts)
    assert str(one.run()["m1/a"].status) == status
    kept = {ref: one.world.trailers(one.world.refs[ref]) for ref in one.world.refs if ref.startswith("refs/attempts/")}
    assert {f"{told['Issue']}@{told['Attempt']}": told["Outcome"] for told in kept.values()} == kinds


def test_a_result_whose_check_fails_does_not_land(one: Milestone) -> None:
    one.world.passes = lambda files, name: name not in files
    assert str(one.run()["m1/a"].status) == "failed"
    assert "landed" not in one.kinds("a")
    assert one.landed() == []


def test_a_result_is_proved_and_landed_on_what_others_have_landed_meanwhile(one: Milestone) -> None:
    others: list[str] = []
    one.world.meanwhile = lambda: others.append(one.foreign({"other": "x"}))
    one.run()
    assert one.files() == {"README": "start", "other": "x", "a": "one"}
    tip = one.world.refs[BRANCH]
    assert one.world.commits[tip][1] == (others[0],)


def test_a_conflict_stops_the_issue_and_leaves_the_branch(one: Milestone) -> None:
    others: list[str] = []
    one.world.meanwhile = lambda: others.append(one.foreign({"a": "theirs"}))
    decision = one.run()["m1/a"]
    assert str(decision.status) == "skipped"
    assert one.kinds("a")[-1] == "stopped"
    assert one.world.refs[BRANCH] == others[-1]


def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next_one(tmp_path: Path) -> None:
    steps = 0
    for end in range(1, 200):
        milestone = Milestone(tmp_path / str(end), issue("a", "one") + PROVED)
        milestone.world.end = end
        try:
            milestone.run()
        except Crash:
            steps += 1
        else:
            break
        milestone.world.end = 0
        decision = milestone.run()["m1/a"]
        assert (str(decision.status), milestone.landed()) == ("landed", [("a", "1")]), end
        assert milestone.world.violations == [], end
    assert steps > 20
    assert steps < 199


@pytest.mark.parametrize(
    ("changed", "landed", "kind"),
    [
        pytest.param(issue("a", "one") + 'accept = [{ run = "test 1" }]\n', [("a", "1")], "verified", id="its check"),
        pytest.param(
            issue("a", "two", body="Do it otherwise.") + PROVED, [("a", "1"), ("a", "2")], "landed", id="its text"
        ),
    ],
)
def test_a_changed_declaration_is_verified_first_and_implemented_where_the_work_changed(
    one: Milestone, changed: str, landed: list[tuple[str, str]], kind: str
) -> None:
    one.run()
    one.declare(changed)
    assert str(one.run()["m1/a"].status) == "landed"
    assert one.landed() == landed
    assert one.kinds("a")[-1] == kind


def test_a_second_run_does_nothing(one: Milestone) -> None:
    one.run()
    before, tip = one.kinds("a"), one.world.refs[BRANCH]
    assert str(one.run()["m1/a"].status) == "landed"
    assert (one.kinds("a"), one.world.refs[BRANCH]) == (before, tip)
    assert one.world.refs[BASE] != tip


def test_an_issue_waits_for_what_it_needs(tmp_path: Path) -> None:
    bodies = (issue("a", "one") + PROVED, issue("b", "two", needs=["a"]) + PROVED)
    milestone = Milestone(tmp_path / "root", *bodies)
    milestone.world.failing = {"a@1", "a@2"}
    found = milestone.run()
    assert (str(found["m1/a"].status), str(found["m1/b"].status)) == ("failed", "blocked")
    assert milestone.kinds("b") == []
