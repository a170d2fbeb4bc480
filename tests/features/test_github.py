"""A milestone on GitHub, from the command line, against a stateful fake with a real git remote behind it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.fake_github import TOKEN, FakeGitHub
from tests.features.test_remote import BRANCH, bare, branches, clone, tip
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = 'kind = "github"\nremote = "origin"\nrepository = "acme/app"\nwait = 0\nlabels = ["executor"]\n'


@pytest.fixture
def hub(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """The forge of the repository, with its main branch."""
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    folder = repo.path.parent / "up.git"
    repo.git("remote", "add", "origin", bare(folder))
    with FakeGitHub(folder) as fake:
        repo.write("rules/forge.toml", f'{RULES}base_url = "{fake.url}"\n')
        yield fake


def declared(repo: Repo, body: str) -> None:
    repo.milestone("m1", body)
    repo.commit("declare")
    repo.git("push", "-q", "origin", "main")


def up(repo: Repo) -> Path:
    return repo.path.parent / "up.git"


def test_a_milestone_lands_by_pull_requests_and_running_again_does_nothing(repo: Repo, hub: FakeGitHub) -> None:
    number = hub.add_issue("Sea")
    three = issue("a", "echo a > a") + issue("b", "echo b > b", needs=["a"]) + issue("c", "echo c > c", number=number)
    declared(repo, three)
    assert "3 landed" in repo.doit("milestone:m1").check().out
    assert sorted(repo.landed(BRANCH)) == ["a@1", "b@1", "c@1"]
    assert tip(up(repo), BRANCH) == repo.git("rev-parse", BRANCH)
    assert branches(up(repo)) == ["refs/heads/main", f"refs/heads/{BRANCH}"]
    assert [(pull.state, pull.merged, pull.draft, pull.labels) for pull in hub.pulls] == [
        ("closed", True, False, ["executor"])
    ] * 3
    assert hub.issues[number]["state"] == "closed"
    before = len(hub.requests)
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    assert len(hub.requests) == before
    shown = repo.doit("status", "--json").check().json["milestones"][0]["issues"]
    assert {item["pr"]["number"]: item["pr"]["state"] for item in shown} == {2: "merged", 3: "merged", 4: "merged"}
    shutil.rmtree(repo.path / ".cache")
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    other = clone(repo, up(repo))
    assert "3 landed" in other.doit("milestone:m1").check().out
    assert len(hub.pulls) == 3
