"""kill -9 at every network call of a milestone on GitHub: run again, it ends the same, and nothing is done twice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.features.test_github import declared, hub, up
from tests.features.test_remote import BRANCH, branches, tip
from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fake_github import FakeGitHub

__all__ = ["hub"]

REQUESTS = 60
"""More than such a run has; a kill that never comes is notified by the run's end."""
PUSHES = 6
HOOK = """#!/bin/sh
echo x >> {folder}/{moment}.count
read number moment pid < {folder}/kill
[ "$moment" = {moment} ] && [ "$(wc -l < {folder}/{moment}.count)" -eq "$number" ] || exit 0
rm {folder}/kill
kill -9 "$pid"
exit 1
"""


def two_issues(repo: Repo, hub: FakeGitHub) -> Path:
    """A milestone of two issues; the agents leave a line in a file outside for every time they work."""
    ran = repo.path.parent / "ran"
    number = hub.add_issue("Tracked")
    first = issue("a", f"echo a >> {ran}; echo a > a", accept=[{"run": "test -e a"}], number=number)
    declared(repo, first + issue("b", f"echo b >> {ran}; echo b > b", needs=["a"]))
    return ran


def assert_ended_right(repo: Repo, hub: FakeGitHub, ran: Path) -> None:
    assert repo.landed(BRANCH) == ["a@1", "b@1"]
    assert tip(up(repo), BRANCH) == repo.git("rev-parse", BRANCH)
    assert branches(up(repo)) == ["refs/heads/main", f"refs/heads/{BRANCH}"]
    assert [(pull.merged, pull.draft, pull.labels) for pull in hub.pulls] == [(True, False, ["executor"])] * 2
    assert [item["state"] for item in hub.issues.values()] == ["closed"]
    posted = Counter((sha, item["context"]) for sha, items in hub.statuses.items() for item in items)
    assert set(posted.values()) == {1}
    assert sorted(ran.read_text().split()) == ["a", "b"]
    assert repo.git("for-each-ref", "refs/attempts/") == ""
    before = len(hub.requests)
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    assert len(hub.requests) == before


def killed_at(repo: Repo, hub: FakeGitHub, number: int, moment: str) -> bool:
    """Run and die at that request; whether it came to that."""
    hub.kill = (number, moment)
    process = repo.start("milestone:m1")
    hub.victim = process.pid
    process.communicate(timeout=60)
    return hub.kill is None


@pytest.mark.parametrize(("number", "moment"), [(14, "after")])
def test_a_run_killed_at_a_request_ends_the_same_when_run_again(
    repo: Repo, hub: FakeGitHub, number: int, moment: str
) -> None:
    ran = two_issues(repo, hub)
    assert killed_at(repo, hub, number, moment)
    repo.doit("milestone:m1").check()
    assert_ended_right(repo, hub, ran)


@pytest.mark.long
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, REQUESTS))
def test_a_run_killed_at_any_request_ends_the_same(repo: Repo, hub: FakeGitHub, number: int, moment: str) -> None:
    ran = two_issues(repo, hub)
    if not killed_at(repo, hub, number, moment):
        pytest.skip(f"the run has {len(hub.requests)} requests")
    repo.doit("milestone:m1").check()
    assert_ended_right(repo, hub, ran)


@pytest.mark.long
@pytest.mark.parametrize("moment", ["pre-receive", "post-receive"])
@pytest.mark.parametrize("number", range(1, PUSHES))
def test_a_run_killed_at_any_push_ends_the_same(repo: Repo, hub: FakeGitHub, number: int, moment: str) -> None:
    ran = two_issues(repo, hub)
    folder = up(repo)
    (folder / f"{moment}.count").touch()
    hook = folder / "hooks" / moment
    hook.write_text(HOOK.format(folder=folder, moment=moment))
    hook.chmod(0o755)
    process = repo.start("milestone:m1")
    (folder / "kill").write_text(f"{number} {moment} {process.pid}\n")
    process.communicate(timeout=60)
    assert not (folder / "kill").exists()
    hook.unlink()
    repo.doit("milestone:m1").check()
    assert_ended_right(repo, hub, ran)


def through_the_forges_queue(repo: Repo, hub: FakeGitHub) -> None:
    """Run until done; the forge's own merge queue merges whenever a run ends."""
    for _ in range(6):
        if repo.doit("milestone:m1").code == 0:
            break
        hub.leave_queue()


def assert_merged_once(repo: Repo, hub: FakeGitHub, ran: Path) -> None:
    """The queue merges with a message of its own, so the landings are known by their pull requests."""
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "landed"}
    assert [(pull.merged, pull.draft) for pull in hub.pulls] == [(True, False)] * 2
    assert sorted(ran.read_text().split()) == ["a", "b"]
    assert repo.git("show", f"{BRANCH}:a", f"{BRANCH}:b").split() == ["a", "b"]
    assert "nothing to do" in repo.doit("milestone:m1").check().out


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (16, "after"),
        *(
            pytest.param(n, moment, marks=pytest.mark.long)
            for n in range(1, REQUESTS)
            for moment in ("before", "after")
        ),
    ],
)
def test_a_run_killed_beside_the_merge_queue_of_the_forge_ends_the_same(
    repo: Repo, hub: FakeGitHub, number: int, moment: str
) -> None:
    ran = two_issues(repo, hub)
    hub.queues.add(BRANCH)
    if not killed_at(repo, hub, number, moment):
        pytest.skip(f"the run has {len(hub.requests)} requests")
    through_the_forges_queue(repo, hub)
    assert_merged_once(repo, hub, ran)
