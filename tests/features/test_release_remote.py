"""A release with a remote, and through a forge's pull request: everything arrives there, once."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.fake_github import TOKEN, FakeGitHub
from tests.features.test_release import BRANCH, killing_git, status
from tests.features.test_remote import bare, clone, tip
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = 'tag = "v1"\nforge_milestone = "M1"\n'


@pytest.fixture
def up(repo: Repo) -> Path:
    """The bare remote of the repository."""
    folder = repo.path.parent / "up.git"
    repo.git("remote", "add", "origin", bare(folder))
    return folder


def landed(repo: Repo) -> None:
    repo.milestone("m1", HEAD + issue("a", "echo a > a"))
    repo.commit("declare")
    repo.git("push", "-q", "origin", "main")
    repo.doit("milestone:m1").check()


def assert_arrived_once(repo: Repo, up: Path) -> None:
    form = "--format=%(trailers:key=Milestone-Released,valueonly,separator=)"
    assert repo.git("log", "--first-parent", form, "main").split() == ["m1"]
    assert tip(up, "main") == repo.git("rev-parse", "main")
    assert tip(up, "v1") == repo.git("rev-parse", "v1")
    assert tip(up, "v1^{commit}") == tip(up, "main")
    assert repo.git("status", "--porcelain") == ""


def test_base_and_tag_are_on_the_remote_and_a_second_clone_has_nothing_to_do(repo: Repo, up: Path) -> None:
    repo.write("rules/forge.toml", 'remote = "origin"\n')
    landed(repo)
    repo.doit("release:m1").check()
    assert_arrived_once(repo, up)
    assert "nothing to do" in repo.doit("release:m1").check().out
    other = clone(repo, up)
    assert "nothing to do" in other.doit("milestone:m1").check().out
    other.doit("release:m1").check()
    assert "nothing to do" in other.doit("release:m1").check().out
    assert status(other) == "released"
    assert_arrived_once(repo, up)


def test_a_base_that_moved_on_the_remote_is_taken_over_and_proved_with(repo: Repo, up: Path) -> None:
    repo.write("rules/forge.toml", 'remote = "origin"\n')
    landed(repo)
    other = clone(repo, up)
    other.write("other", "x\n")
    moved = other.commit("meanwhile")
    other.git("push", "-q", "origin", "main")
    repo.doit("release:m1").check()
    assert repo.git("rev-parse", "main^1") == moved
    assert_arrived_once(repo, up)


def test_killed_at_every_git_call_that_moves_something_the_remote_has_it_once(
    repo: Repo, up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.write("rules/forge.toml", 'remote = "origin"\n')
    landed(repo)
    base, path = repo.git("rev-parse", "main"), os.environ["PATH"]
    for place in range(1, 20):
        folder = repo.path.parent / f"kill-{place}"
        monkeypatch.setenv("PATH", killing_git(folder, place, "after", "push|update-ref")["PATH"])
        code = repo.doit("release:m1").code
        monkeypatch.setenv("PATH", path)
        if code == 0:
            assert place >= 4
            break
        assert code == -9
        repo.doit("release:m1").check()
        assert_arrived_once(repo, up)
        repo.git("tag", "-d", "v1")
        repo.git("push", "-q", "origin", ":refs/tags/v1", f"+{base}:main")
        repo.git("update-ref", "-d", "refs/executor/released/m1")
        repo.git("reset", "-q", "--hard", base)
    assert_arrived_once(repo, up)


def test_github_merges_the_final_pull_request_and_its_milestone_is_closed(
    repo: Repo, up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    with FakeGitHub(up) as hub:
        rules = f'kind = "github"\nremote = "origin"\nrepository = "acme/app"\nwait = 0\nbase_url = "{hub.url}"\n'
        repo.write("rules/forge.toml", rules)
        number = hub.add_milestone("M1")
        landed(repo)
        out = repo.doit("release:m1").check().out
        assert 'closed the milestone "M1" of the forge' in out
        final = hub.pulls[-1]
        assert (final.head, final.base, final.merged) == (BRANCH, "main", True)
        assert "| check" in final.body or "| issues: all | met |" in final.body
        assert hub.milestones[number]["state"] == "closed"
        assert_arrived_once(repo, up)
        before = len(hub.requests)
        assert "nothing to do" in repo.doit("release:m1").check().out
        assert len(hub.requests) == before
        other = clone(repo, up)
        other.doit("release:m1").check()
        shutil.rmtree(other.path / ".cache")
        assert "nothing to do" in other.doit("release:m1").check().out
        assert len(hub.pulls) == 2
        assert_arrived_once(repo, up)


@contextmanager
def on_github(repo: Repo, up: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """The forge of the repository, with a milestone of one issue that has landed."""
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    with FakeGitHub(up) as hub:
        rules = f'kind = "github"\nremote = "origin"\nrepository = "acme/app"\nwait = 0\nbase_url = "{hub.url}"\n'
        repo.write("rules/forge.toml", rules)
        hub.add_milestone("M1")
        landed(repo)
        yield hub


def test_a_release_that_waits_for_the_forges_checks_ends_with_75_and_goes_on_later(
    repo: Repo, up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_github(repo, up, monkeypatch) as hub:
        hub.required["main"] = ["ci"]
        hub.new_checks["ci"] = "pending"
        assert 'waits for "ci"' in repo.doit("release:m1").check(75).out
        repo.doit("release:m1").check(75)
        hub.set_check(hub.pulls[-1].sha, "ci", "success")
        repo.doit("release:m1").check()
        assert len(hub.pulls) == 2
        assert_arrived_once(repo, up)


def release_killed_at(repo: Repo, up: Path, hub: FakeGitHub, number: int, moment: str) -> bool:
    """Release, die at that request, release again; whether it came to that."""
    process = repo.start("release:m1")
    hub.victim, hub.kill = process.pid, (len(hub.requests) + number, moment)
    process.communicate(timeout=60)
    if process.returncode != -signal.SIGKILL:
        return False
    repo.doit("release:m1").check()
    assert [(pull.base, pull.merged) for pull in hub.pulls] == [(BRANCH, True), ("main", True)]
    assert [item["state"] for item in hub.milestones.values()] == ["closed"]
    assert_arrived_once(repo, up)
    before = len(hub.requests)
    assert "nothing to do" in repo.doit("release:m1").check().out
    assert len(hub.requests) == before
    return True


@pytest.mark.parametrize(("number", "moment"), [(5, "after")])
def test_a_release_killed_at_a_request_ends_the_same_when_asked_for_again(
    repo: Repo, up: Path, monkeypatch: pytest.MonkeyPatch, number: int, moment: str
) -> None:
    with on_github(repo, up, monkeypatch) as hub:
        assert release_killed_at(repo, up, hub, number, moment)


@pytest.mark.long
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 25))
def test_a_release_killed_at_any_request_ends_the_same(
    repo: Repo, up: Path, monkeypatch: pytest.MonkeyPatch, number: int, moment: str
) -> None:
    with on_github(repo, up, monkeypatch) as hub:
        if not release_killed_at(repo, up, hub, number, moment):
            pytest.skip(f"the release has fewer than {number} requests")
