"""kill -9 at every request and push of the flows after a pull request was opened: run again, they end the same.

All points: EXECUTOR_LONG=1 python -m pytest -n 2 -m long tests/features/test_forge_flows_kill.py
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from executor.process.locks import read_holder
from tests.fake_github import TOKEN
from tests.features.test_forge_red_checks import LOG, NOTE, landed_events
from tests.features.test_github import declared, hub, served, up
from tests.features.test_github_kill import HOOK
from tests.features.test_remote import BRANCH, branches, tip
from tests.forge.test_attested_landings import make_key, verified
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fake_github import FakeGitHub

__all__ = ["hub"]
MOMENTS = ("before", "after")
REQUESTS, PUSHES = 120, 9
"""More than each of the flows has; a test of a push beyond the last one is skipped."""
EPIC = "Epic\n\n- [ ] `test -e a`\n\n## NFR targets\n\n- [ ] `test -d .`\n"


def counted(repo: Repo, name: str, script: str, **extra: object) -> str:
    """An issue whose agent leaves a line outside for every time it works."""
    return issue(name, f"echo {name} >> {repo.path.parent}/ran; {script}", **extra)


def red_check(repo: Repo, hub: FakeGitHub) -> None:
    """A pull request with auto-merge whose check has failed: it is taken back, a new attempt is pushed and shown."""
    declared(repo, counted(repo, "a", "echo attempt $EXECUTOR_ATTEMPT > a"))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    hub.set_check(hub.pulls[0].sha, "ci", "failure", log=LOG, annotations=(NOTE,))


def approved_draft(repo: Repo, hub: FakeGitHub) -> None:
    """A draft of a stopped change that a person has approved: ready, commented, merged."""
    declared(repo, counted(repo, "a", "mkdir s; echo 'y==1' > s/requirements.txt; echo a > a"))
    repo.doit("milestone:m1").check(4)
    assert hub.pulls[0].draft
    repo.doit("approve", "m1/a", "--reason", "wanted").check()


def answered_question(repo: Repo, hub: FakeGitHub) -> None:
    """A draft of a question that a person has answered: another attempt is shown there."""
    asked = repo.path.parent / "asked"
    ask = f"[ -e {asked} ] || echo Which zone? > $EXECUTOR_OUT/question.md; touch {asked}; echo a > a"
    declared(repo, counted(repo, "a", ask))
    repo.doit("milestone:m1").check(4)
    assert hub.pulls[0].draft
    repo.doit("answer", "m1/a", "EU").check()


def epic_and_tracking(repo: Repo, hub: FakeGitHub) -> None:
    """A landed milestone that is to be released: final pull request, epic ticked and closed, milestone closed, tag."""
    number = hub.add_issue("Epic", body=EPIC)
    hub.add_milestone("M1")
    repo.write("milestones/epic.md", EPIC)
    head = f'tag = "v1"\nforge_milestone = "M1"\nepic = "epic.md"\nepic_number = {number}\n'
    accept = 'accept = [{ run = "test -e a" }, { run = "test -d ." }]\n'
    declared(repo, head + accept + counted(repo, "a", "echo a > a"))
    repo.doit("milestone:m1").check()


def retried(repo: Repo, hub: FakeGitHub) -> None:
    """A retry, while auto-merge of the old head is armed: it is taken back before the new attempt is pushed."""
    red_check(repo, hub)
    hub.set_check(hub.pulls[0].sha, "ci", "cancelled")
    repo.doit("issue:m1/a").check(4)
    repo.doit("retry", "m1/a").check()


def two_numbered(repo: Repo, hub: FakeGitHub) -> None:
    """Two issues of the forge of which one needs the other; the forge is given that dependency."""
    first, second = hub.add_issue("One"), hub.add_issue("Two")
    rules = repo.path / "rules/forge.toml"
    rules.write_text(f"dependencies = true\n{rules.read_text()}")
    declared(
        repo,
        counted(repo, "a", "echo a > a", number=first) + counted(repo, "b", "echo b > b", number=second, needs=["a"]),
    )


def question(repo: Repo, hub: FakeGitHub) -> None:
    """An issue that will ask a question, which is to be shown as a draft."""
    _ = hub
    asked = repo.path.parent / "asked"
    ask = f"[ -e {asked} ] || echo Which zone? > $EXECUTOR_OUT/question.md; touch {asked}; echo a > a"
    declared(repo, counted(repo, "a", ask))


def stack(repo: Repo, hub: FakeGitHub) -> None:
    """Two issues whose pull requests will wait, one on the other."""
    rules = repo.path / "rules/forge.toml"
    rules.write_text(f"stack = true\n{rules.read_text()}")
    declared(repo, counted(repo, "a", "echo a > a") + counted(repo, "b", "echo b > b"))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"


def stack_whose_lowest_merges(repo: Repo, hub: FakeGitHub) -> None:
    """A stack of two; the forge has just merged the lower one."""
    stack(repo, hub)
    repo.doit("milestone:m1").check(75)
    assert [pull.base for pull in hub.pulls] == [BRANCH, hub.pulls[0].head]
    hub.set_check(hub.pulls[0].sha, "ci", "success")


@dataclass(frozen=True)
class Flow:
    """A flow that is killed.

    Attributes:
        prepare: brings the repository and the forge to its beginning.
        task: what is run and killed.
        landed: the issues that have landed in the end.
        worked: how often agents have worked in the end.
    """

    prepare: Callable[[Repo, FakeGitHub], None]
    task: str = "milestone:m1"
    landed: tuple[str, ...] = ("a",)
    worked: int = 1


FLOWS = {
    "red-check": Flow(red_check, worked=2),
    "retried": Flow(retried, worked=2),
    "approved-draft": Flow(approved_draft),
    "question": Flow(question, worked=2),
    "answered-question": Flow(answered_question, worked=2),
    "dependencies": Flow(two_numbered, landed=("a", "b"), worked=2),
    "stack": Flow(stack, landed=("a", "b"), worked=2),
    "stack-merges": Flow(stack_whose_lowest_merges, landed=("a", "b"), worked=2),
    "epic": Flow(epic_and_tracking, "release:m1"),
}


@dataclass
class World:
    """A repository and a forge at the beginning of a flow, brought back to it before each kill.

    Attributes:
        flow: the flow.
        repo: the repository; the remote is beside it.
        hub: the forge.
        saved: a copy of all files.
        state: what the forge knew.
    """

    flow: Flow
    repo: Repo
    hub: FakeGitHub
    saved: Path
    state: dict[str, Any]

    @classmethod
    def of(cls, flow: Flow, folder: Path) -> World:
        (folder / "world").mkdir()
        repo = Repo(folder / "world" / "repo")
        hub = served(repo)
        flow.prepare(repo, hub)
        state = copy.deepcopy({key: value for key, value in vars(hub).items() if key in STATE})
        shutil.copytree(folder / "world", folder / "saved", symlinks=True)
        return cls(flow, repo, hub, folder / "saved", state)

    def begin(self) -> None:
        """Bring files and forge back to the beginning of the flow."""
        folder = self.repo.path.parent
        shutil.rmtree(folder)
        shutil.copytree(self.saved, folder, symlinks=True)
        vars(self.hub).update(copy.deepcopy(self.state))

    def left(self) -> str:
        """Return all that a kill has left, without times and ids: journal, refs, files of state, and the forge.

        Two kills that leave the same, such as those around a request that only reads, are one for the next run.
        """
        repo, hub, form = self.repo, self.hub, "--format=%(refname) %(tree) %(subject)"
        journal = [
            [value for name, value in json.loads(line).items() if name in {"e", "key", "attempt", "state", "waits"}]
            for path in sorted((repo.path / ".cache").glob("m1/journal*.jsonl"))
            for line in path.read_text().splitlines()
        ]
        files = sorted(
            re.sub("[0-9a-f]{6,}|[0-9]+", "N", str(path.relative_to(repo.path)))
            for place in (".cache", ".git")
            for path in (repo.path / place).rglob("*")
            if path.is_file() and not {"objects", "_forge", "_store", "logs"} & set(path.parts)
        )
        known = {key: value for key, value in vars(hub).items() if key in STATE - {"requests", "kill", "victim"}}
        words = [repo.git("for-each-ref", form), hub.git("for-each-ref", form), (repo.path.parent / "ran").exists()]
        return re.sub(r"\b[0-9a-f]{40}\b|\d+:\d+", "N", repr([journal, files, words, known]))


STATE = frozenset(
    {
        *("pulls", "issues", "milestones", "statuses", "checks", "run_ids", "annotations", "logs", "comments"),
        *("withdrawn", "required", "queues", "blocked_by", "requests", "faults", "new_checks", "kill", "victim"),
        *("_numbers", "_contained"),
    }
)
"""What the forge forgets when a flow begins."""


def ended(repo: Repo, hub: FakeGitHub, task: str) -> None:
    """Run until it is done; the forge's checks pass on whatever its pull requests show, a question is answered."""
    for _ in range(5):
        if repo.doit(task).code == 0:
            return
        for pull in hub.opened():
            if pull.base == BRANCH:
                hub.set_check(pull.sha, "ci", "success")
        if any("question:" in pull.body for pull in hub.opened() if pull.draft):
            repo.doit("answer", "m1/a", "EU").check()
    repo.doit(task).check()


def assert_right(repo: Repo, hub: FakeGitHub, task: str, landed: tuple[str, ...] = ("a",)) -> None:
    """No duplicates and no wrong merges: what landed is the one attempt on record, in its one pull request."""
    merged = [*[BRANCH] * len(landed), *(["main"] if task == "release:m1" else [])]
    assert [pull.base for pull in hub.pulls if pull.merged] == merged
    assert all(pull.merged and not pull.draft for pull in hub.pulls)
    assert tip(up(repo), BRANCH) == repo.git("rev-parse", BRANCH)
    heads = [name for name in branches(up(repo)) if not name.startswith(("refs/attestations/", "refs/tags/"))]
    assert sorted({*heads} - {"refs/heads/tracking"}) == ["refs/heads/main", f"refs/heads/{BRANCH}"]
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in landed]
    numbers = {event["key"]: event["attempt"] for event in landed_events(repo)}
    assert len(landed_events(repo)) == len(landed)
    assert all(len(items) <= 1 for items in hub.comments.values())
    posted = Counter((sha, item["context"]) for sha, items in hub.statuses.items() for item in items)
    assert set(posted.values()) <= {1}
    for name in landed:
        assert repo.git("show", f"{BRANCH}:{name}") in {name, f"attempt {max(numbers.values())}"}
    for items in hub.comments.values():
        assert "landed as" in items[0]["body"].splitlines()[1]
    before = len(hub.requests)
    assert "nothing to do" in repo.doit(task).check().out
    assert len(hub.requests) == before


def died(world: World, number: int, moment: str) -> bool:
    """Run a flow and die at its n-th request; whether it came to that."""
    repo, hub = world.repo, world.hub

    def runner() -> int:
        holder = read_holder(repo.path / ".cache" / "m1")
        return holder.pid if holder is not None else 0

    hub.victim, hub.kill = runner, (len(hub.requests) + number, moment)
    code = repo.doit(world.flow.task).code
    hub.victim, hub.kill = 0, None
    return code == -signal.SIGKILL


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The world of a flow."""
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "world" / "user-cache"))
    made = World.of(FLOWS[request.param], tmp_path)
    yield made
    made.hub.__exit__()


def assert_ends_right(world: World) -> None:
    """Run again after a kill, until it is done: nothing is doubled and nothing merged that is not on record."""
    flow, repo, hub = world.flow, world.repo, world.hub
    ended(repo, hub, flow.task)
    assert_right(repo, hub, flow.task, flow.landed)
    assert len((repo.path.parent / "ran").read_text().split()) == flow.worked
    if flow.prepare is two_numbered:
        assert hub.blocked_by == {2: [1]}
    if flow.prepare is epic_and_tracking:
        epic = next(iter(hub.issues.values()))
        assert (epic["state"], epic["body"]) == ("closed", EPIC.replace("[ ]", "[x]"))
        assert [item["state"] for item in hub.milestones.values()] == ["closed"]
        assert repo.git("cat-file", "-t", "v1") == "tag"


@pytest.mark.parametrize(
    ("world", "number", "moment"), [("red-check", 9, "after"), ("epic", 12, "before")], indirect=["world"]
)
def test_a_flow_killed_at_a_request_ends_the_same(world: World, number: int, moment: str) -> None:
    world.begin()
    assert died(world, number, moment)
    assert_ends_right(world)


@pytest.mark.long
@pytest.mark.parametrize("world", FLOWS, indirect=True)
def test_a_flow_killed_at_any_request_ends_the_same(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    seen: set[str] = set()
    failed, killed = {}, 0
    for number in range(1, REQUESTS):
        for moment in MOMENTS:
            world.begin()
            if not died(world, number, moment):
                break
            killed += 1
            left = world.left()
            if left not in seen:
                seen.add(left)
                try:
                    assert_ends_right(world)
                except AssertionError as error:
                    failed[f"{moment} request {number}"] = str(error)[:2000]
        else:
            continue
        break
    record_property("kills", killed)
    record_property("different", len(seen))
    print(f"\n{killed} kills that leave {len(seen)} different states, {len(failed)} end wrong")  # noqa: T201
    assert 2 * number - 2 <= killed < 2 * REQUESTS - 2
    assert failed == {}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(number, moment, marks=() if (number, moment) == (3, "post-receive") else pytest.mark.long)
        for number in range(1, PUSHES)
        for moment in ("pre-receive", "post-receive")
    ],
)
def test_an_attested_and_tracked_run_killed_at_a_push_ends_the_same(
    repo: Repo, hub: FakeGitHub, tmp_path: Path, number: int, moment: str
) -> None:
    key = make_key(tmp_path)
    repo.write("rules/landing.toml", f'attest_key = "{key}"\n')
    repo.write("rules/status.toml", 'tracking = "TRACKING.md"\npush_to = "tracking"\n')
    declared(repo, counted(repo, "a", "echo a > a"))
    folder = up(repo)
    (folder / f"{moment}.count").touch()
    hook = folder / "hooks" / moment
    hook.write_text(HOOK.format(folder=folder, moment=moment))
    hook.chmod(0o755)
    process = repo.start("milestone:m1")
    (folder / "kill").write_text(f"{number} {moment} {process.pid}\n")
    process.communicate(timeout=120)
    if process.returncode != -signal.SIGKILL:
        pytest.skip(f"the run has fewer than {number} pushes")
    hook.unlink()
    repo.doit("milestone:m1").check()
    assert_right(repo, hub, "milestone:m1")
    here = repo.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/attestations/")
    assert here == hub.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/attestations/")
    assert verified(repo, tmp_path / "signers") == (0, "1 landings, 0 problems\n")
    assert "1 of 1" in hub.git("show", "tracking:TRACKING.md")
    assert hub.git("ls-tree", "-r", "--name-only", "tracking") == "TRACKING.md"
