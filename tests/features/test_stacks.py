"""One milestone, one stack: pull requests that wait for the forge go to the branch of the one below them.

The rarer cases: EXECUTOR_LONG=1 python -m pytest -m long tests/features/test_stacks.py
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.features.test_github import declared, hub, up
from tests.features.test_remote import BRANCH, branches
from tests.support import Repo, issue

if TYPE_CHECKING:
    from tests.fake_github import FakeGitHub, Pull

__all__ = ["hub"]


def stacked(repo: Repo, hub: FakeGitHub, body: str) -> list[Pull]:
    """A milestone whose pull requests wait for a required check; the forge has a stack of them."""
    rules = repo.path / "rules" / "forge.toml"
    rules.write_text(f"stack = true\n{rules.read_text()}")
    declared(repo, body)
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    return hub.pulls


def three() -> str:
    return "".join(issue(name, f"echo {name} > {name}") for name in "abc")


def bases(hub: FakeGitHub) -> list[str]:
    """Bases of the open pull requests in the order of their numbers, as the names of the issues below."""
    names = {pull.head: str(pull.number) for pull in hub.pulls}
    return [names.get(pull.base, pull.base) for pull in hub.opened()]


def shown(hub: FakeGitHub, pull: Pull) -> list[str]:
    """Files that a pull request shows as changed."""
    return hub.git("diff", "--name-only", f"{pull.base}...{pull.head}").split()


def green(repo: Repo, hub: FakeGitHub, pull: Pull, code: int = 75) -> None:
    hub.set_check(pull.sha, "ci", "success")
    repo.doit("milestone:m1").check(code)


def test_each_pull_request_goes_to_the_one_below_and_to_the_milestone_branch_once_that_has_merged(
    repo: Repo, hub: FakeGitHub
) -> None:
    first, second, third = stacked(repo, hub, three())
    assert bases(hub) == [BRANCH, "1", "2"]
    assert [shown(hub, pull) for pull in hub.pulls] == [["a"], ["b"], ["c"]]
    assert [pull.auto is not None for pull in hub.pulls] == [True, False, False]
    assert "Stacked on #1. Merge that one first." in second.body
    assert "stacked on #2" in repo.doit("status").check().out
    before = [pull.sha for pull in hub.pulls]
    repo.doit("milestone:m1").check(75)
    assert ([pull.sha for pull in hub.pulls], bases(hub)) == (before, [BRANCH, "1", "2"])
    green(repo, hub, first)
    assert bases(hub) == [BRANCH, "2"]
    assert [pull.auto is not None for pull in hub.opened()] == [True, False]
    assert "Stacked on" not in second.body
    shutil.rmtree(repo.path / ".cache")
    green(repo, hub, second)
    assert bases(hub) == [BRANCH]
    green(repo, hub, third, code=0)
    assert repo.landed(BRANCH) == ["a@1", "b@1", "c@1"]
    assert [(pull.merged, pull.base) for pull in hub.pulls] == [(True, BRANCH)] * 3
    assert branches(up(repo)) == ["refs/heads/main", f"refs/heads/{BRANCH}"]


@pytest.mark.long
def test_a_layer_that_is_red_is_left_by_those_above_it(repo: Repo, hub: FakeGitHub) -> None:
    first, second, _ = stacked(repo, hub, three())
    hub.set_check(first.sha, "ci", "failure")
    repo.doit("milestone:m1").check(75)
    assert hub.withdrawn == [1]
    for _ in range(4):
        for pull in hub.opened():
            if pull.base == BRANCH:
                hub.set_check(pull.sha, "ci", "success")
        if repo.doit("milestone:m1").code == 0:
            break
    assert sorted(repo.landed(BRANCH)) == ["a@1", "b@1", "c@1"]
    assert {pull.base for pull in hub.pulls} == {BRANCH}
    assert len(hub.pulls) == 3
    assert second.merged


@pytest.mark.long
def test_a_result_that_conflicts_with_the_layer_below_goes_to_the_milestone_branch(repo: Repo, hub: FakeGitHub) -> None:
    stacked(repo, hub, issue("a", "echo a > same") + issue("b", "echo b > same") + issue("c", "echo c > c"))
    assert bases(hub)[:2] == [BRANCH, BRANCH]
    assert bases(hub)[2] in {"1", "2"}


@pytest.mark.long
def test_a_pull_request_that_somebody_merges_into_the_layer_below_has_not_landed(repo: Repo, hub: FakeGitHub) -> None:
    _, second, _ = stacked(repo, hub, three())
    hub.merge_by_hand(second.number)
    out = repo.doit("milestone:m1").check(4).out
    assert "it was merged into feat/m1-a-issue-a, expected" in out
    assert hub.withdrawn == [1]
    assert "m1/b" not in {f"m1/{name.partition('@')[0]}" for name in repo.landed(BRANCH)}


@pytest.mark.long
def test_one_that_the_forge_closes_with_the_branch_below_it_is_opened_again(repo: Repo, hub: FakeGitHub) -> None:
    first, second, _ = stacked(
        repo, hub, issue("a", "echo a > a") + issue("b", "echo b > b") + issue("c", "echo c > c")
    )
    hub.set_check(first.sha, "ci", "success")
    hub.git("update-ref", "-d", f"refs/heads/{first.head}")
    hub.refresh()
    assert (first.merged, second.state) == (True, "closed")
    repo.doit("milestone:m1").check(75)
    assert len(hub.opened()) == 2
    assert BRANCH in bases(hub)


@pytest.mark.long
def test_the_branch_below_stays_while_a_pull_request_of_somebody_goes_to_it(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    head = hub.pulls[0].head
    hub.git("update-ref", "refs/heads/theirs", hub.tip(head))
    theirs = hub.open_pull("theirs", head)
    tree = hub.git("rev-parse", f"{head}^{{tree}}")
    hub.git("update-ref", "refs/heads/theirs", hub.git("commit-tree", tree, "-p", head, "-m", "theirs"))
    green(repo, hub, hub.pulls[0], code=0)
    assert f"refs/heads/{head}" in branches(up(repo))
    assert theirs.state == "open"
