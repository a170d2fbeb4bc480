"""GitLab and Forgejo against their fakes: the same life of a pull request as on GitHub, and every fault on its way."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from executor.errors import ForgeRefusedError
from executor.forge.base import MovesPulls, NewPull
from executor.forge.hosts.credentials import log_reader
from executor.forge.hosts.forgejo import ForgejoForge, over_requests
from executor.forge.hosts.gitlab import GitLabForge, over_python_gitlab
from executor.forge.hosts.rest import Api
from tests.fake_forgejo import FakeForgejo
from tests.fake_github import TOKEN, FakeGitHub, Fault
from tests.fake_gitlab import PROJECT, FakeGitLab
from tests.forge.published import UNPUBLISHED, assert_as_published, published

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from executor.forge.base import Forge

BASE, HEAD = "milestone/m1", "feat/m1-a"
NEW = NewPull(HEAD, BASE, "core(m1): A", "ours\n")


def filled(server: FakeGitHub) -> None:
    """A base, and two branches ahead of it."""
    commit = ""
    for branch, content in ((BASE, "base"), (HEAD, "a"), ("feat/m1-b", "b")):
        blob = server.git("hash-object", "-w", "--stdin", given=content)
        tree = server.git("mktree", given=f"100644 blob {blob}\t{content}\n")
        made = server.git("commit-tree", tree, *(["-p", commit] if commit else []), given=f"{content}\n")
        commit = commit or made
        server.git("update-ref", f"refs/heads/{branch}", made)


@pytest.fixture(params=["gitlab", "forgejo"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fake(kind: str, tmp_path: Path) -> Iterator[FakeGitHub]:
    folder = tmp_path / "up.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], check=True)
    with (FakeGitLab if kind == "gitlab" else FakeForgejo)(folder) as server:
        filled(server)
        yield server


@pytest.fixture
def forge(kind: str, fake: FakeGitHub, tmp_path: Path) -> Forge:
    pauses: list[float] = []
    if kind == "gitlab":
        send = over_python_gitlab(fake.url, TOKEN)
        fetch = log_reader(f"{fake.url}/api/v4", {"PRIVATE-TOKEN": TOKEN})
    else:
        send = over_requests(f"{fake.url}/api/v1", TOKEN)
        fetch = log_reader(f"{fake.url}/api/v1", {"Authorization": f"token {TOKEN}"})
    api = Api(send, fetch=fetch, cache=tmp_path / "cache", pause=pauses.append)
    return GitLabForge(api, PROJECT) if kind == "gitlab" else ForgejoForge(api, "acme/app")


def guarded(fake: FakeGitHub) -> None:
    """Merges wait for the check ci."""
    fake.required[BASE] = ["ci"]
    if isinstance(fake, FakeGitLab):
        fake.only_green = True


def test_the_life_of_a_pull_request(forge: Forge, fake: FakeGitHub) -> None:
    pull = forge.open(NewPull(HEAD, BASE, "core(m1): A", "ours\n", draft=True))
    assert (pull.number, pull.state, pull.draft, pull.head, pull.base) == (1, "open", True, HEAD, BASE)
    assert pull.title == "core(m1): A"
    assert forge.find(HEAD) == [pull] == forge.pulls(BASE)
    assert forge.open(NEW) == pull
    pull = forge.update(pull, title="core(m1): B", body="ours and theirs\n", draft=False, labels=["x"])
    assert (pull.title, pull.body, pull.draft, pull.labels) == ("core(m1): B", "ours and theirs\n", False, ("x",))
    writes = len([request for request in fake.requests if request.method != "GET"])
    assert forge.update(pull, title="core(m1): B", draft=False, labels=["x"]) == pull
    assert len([request for request in fake.requests if request.method != "GET"]) == writes
    answer = forge.request_merge(pull, pull.sha, "core(m1): B", "Body.\n\nMilestone: m1", "squash")
    assert (answer.state, answer.commit) == ("merged", fake.tip(BASE))
    assert fake.git("log", "-1", "--format=%B", answer.commit) == "core(m1): B\n\nBody.\n\nMilestone: m1"
    assert forge.request_merge(pull, pull.sha, "core(m1): B", "", "squash") == answer
    assert forge.find(HEAD)[0].state == "merged"


def test_auto_merge_is_asked_for_taken_back_and_asked_for_again(forge: Forge, fake: FakeGitHub) -> None:
    pull = forge.open(NEW)
    fake.set_check(pull.sha, "ci", "pending")
    assert forge.request_merge(pull, pull.sha, "t", "b", "squash").state == "pending"
    assert fake.pulls[0].auto is None
    guarded(fake)
    answer = forge.request_merge(pull, pull.sha, "t", "b", "squash")
    assert (answer.state, answer.reason) == ("scheduled", 'waits for "ci"')
    assert forge.request_merge(pull, pull.sha, "t", "b", "squash").state == "scheduled"
    assert forge.withdraw(pull).state == "open"
    assert fake.withdrawn == [1]
    assert forge.withdraw(pull).state == "open"
    assert forge.request_merge(pull, pull.sha, "t", "b", "squash").state == "scheduled"
    fake.set_check(pull.sha, "ci", "success")
    assert fake.pulls[0].merged
    assert forge.withdraw(pull).state == "merged"


def test_a_red_check_is_reported_with_what_it_left(forge: Forge, fake: FakeGitHub) -> None:
    pull = forge.open(NEW)
    fake.set_check(pull.sha, "ci", "failure", log="line\nE  assert\n")
    answer = forge.request_merge(pull, pull.sha, "t", "b", "squash")
    assert (answer.state, [item.name for item in answer.failed]) == ("red", ["ci"])
    assert answer.failed[0].judges_the_change
    assert answer.failed[0].url.startswith(fake.url)
    if isinstance(fake, FakeGitLab):
        assert forge.report(answer.failed[0]).log == "line\nE  assert\n"


def test_a_moved_branch_is_not_merged(forge: Forge, fake: FakeGitHub) -> None:
    pull = forge.open(NEW)
    other = fake.git("commit-tree", f"{pull.sha}^{{tree}}", "-p", pull.sha, given="x")
    fake.git("update-ref", f"refs/heads/{HEAD}", other)
    assert forge.request_merge(pull, pull.sha, "t", "b", "squash").state == "moved"
    assert not fake.pulls[0].merged


def test_a_forge_that_still_looks_is_asked_again_and_a_refusal_has_its_reason(forge: Forge, fake: FakeGitHub) -> None:
    pull = forge.open(NewPull(HEAD, BASE, "t", "", draft=True))
    assert forge.request_merge(pull, pull.sha, "t", "b", "squash").state == "refused"
    pull = forge.update(pull, draft=False)
    if isinstance(fake, FakeGitLab):
        fake.preparing = 2
    elif isinstance(fake, FakeForgejo):
        fake.looking = 2
    assert forge.request_merge(pull, pull.sha, "t", "b", "squash").state == "merged"


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("verb", ["POST .*(pulls|merge_requests)$", "(POST|PUT) .*/merge$", "POST .*statuses"])
def test_a_lost_answer_does_nothing_twice(forge: Forge, fake: FakeGitHub, verb: str, lost: bool) -> None:
    fake.faults.append(Fault(verb, status=503, lost=lost))
    pull = forge.open(NEW)
    assert forge.post_status(pull.sha, "tests", "success", "passed")
    assert forge.request_merge(pull, pull.sha, "t", "b", "squash").state == "merged"
    assert len(fake.pulls) == 1
    assert len(fake.statuses[pull.sha]) == 1
    assert fake.git("rev-list", "--count", f"refs/heads/{BASE}") == "2"


def test_one_comment_is_kept_and_edited(forge: Forge, fake: FakeGitHub) -> None:
    pull = forge.open(NEW)
    for text in ("<!-- m --> one", "<!-- m --> one", "<!-- m --> two"):
        forge.comment(pull, "<!-- m -->", text)
    assert [item["body"] for item in fake.comments[1]] == ["<!-- m --> two"]


def test_issues_and_milestones_are_read_and_closed(forge: Forge, fake: FakeGitHub) -> None:
    milestone = fake.add_milestone("M1")
    first = fake.add_issue("One", body="Do it.", milestone=milestone, labels=("P0",))
    second = fake.add_issue("Two", milestone=milestone)
    fake.add_issue("Elsewhere")
    fake.blocked_by[second] = [first]
    for item in fake.issues.values():
        if isinstance(fake, FakeForgejo):
            item["labels"] = list(item["labels"])
    found = forge.issues("M1")
    assert [(item.number, item.title, item.needs, item.state) for item in found] == [
        (first, "One", (), "open"),
        (second, "Two", (first,), "open"),
    ]
    assert forge.close_issue(first)
    assert not forge.close_issue(first)
    forge.edit_issue(second, "New text")
    known = forge.issue(second)
    assert known is not None
    assert known.body == "New text"
    assert forge.issue(99) is None
    assert forge.close_milestone("M1")
    assert not forge.close_milestone("M1")
    with pytest.raises(ForgeRefusedError, match="no milestone"):
        forge.close_milestone("M9")


@pytest.mark.long
def test_every_request_and_answer_is_as_the_forge_publishes_it(forge: Forge, fake: FakeGitHub, kind: str) -> None:
    description = published(kind)
    milestone = fake.add_milestone("M1")
    first, second = (fake.add_issue(name, milestone=milestone) for name in ("One", "Two"))
    fake.blocked_by[second] = [first]
    forge.issues("M1")
    pull = forge.open(NewPull(HEAD, BASE, "core(m1): A", "ours\n", draft=True))
    forge.pulls(BASE)
    pull = forge.update(pull, title="core(m1): B", body="new\n", draft=False, labels=["x"])
    forge.post_status(pull.sha, "tests", "success", "passed on exactly this tree")
    fake.set_check(pull.sha, "ci", "pending")
    guarded(fake)
    forge.request_merge(pull, pull.sha, "t", "b", "squash")
    forge.withdraw(pull)
    for text in ("<!-- m --> one", "<!-- m --> two"):
        forge.comment(pull, "<!-- m -->", text)
    fake.set_check(pull.sha, "ci", "failure", log="line\n")
    forge.report(forge.checks(pull.sha).items[0])
    fake.set_check(pull.sha, "ci", "success")
    forge.request_merge(pull, pull.sha, "t", "b", "squash")
    other = forge.open(NewPull("feat/m1-b", BASE, "core(m1): C", ""))
    assert isinstance(forge, MovesPulls)
    assert forge.retarget(other, HEAD).base == HEAD
    forge.close(other)
    forge.edit_issue(second, "text")
    forge.close_issue(first)
    forge.close_milestone("M1")
    assert_as_published(description, fake.requests, UNPUBLISHED[kind])
