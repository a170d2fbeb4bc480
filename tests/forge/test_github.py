"""The GitHub adapter against the fake: the life of a pull request, and every fault on its way."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from executor.errors import ForgeRefusedError, ForgeUnavailableError, UsageError
from executor.forge.base import LinksIssues, NewPull
from executor.forge.hosts.credentials import Budget, find_token, log_reader, repository_of
from executor.forge.hosts.github import GitHubForge, over_pygithub
from executor.forge.hosts.rest import Api
from executor.model.outward_rules import Forge
from tests.fake_github import TOKEN, FakeGitHub, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from executor.forge.pull_request import PullRequest

NEW = NewPull("feat/m1-a", "milestone/m1", "core(m1): A", "ours\n")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeGitHub]:
    """A repository with a base, and two branches ahead of it."""
    folder = tmp_path / "up.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], check=True)
    with FakeGitHub(folder) as server:
        commit = ""
        for branch, content in (("milestone/m1", "base"), ("feat/m1-a", "a"), ("feat/m1-b", "b")):
            blob = server.git("hash-object", "-w", "--stdin", given=content)
            tree = server.git("mktree", given=f"100644 blob {blob}\t{content}\n")
            parents = ["-p", commit] if commit else []
            made = server.git("commit-tree", tree, *parents, given=f"{content}\n")
            commit = commit or made
            server.git("update-ref", f"refs/heads/{branch}", made)
        yield server


@pytest.fixture
def waits() -> list[float]:
    """Every pause that was made, in seconds."""
    return []


@pytest.fixture
def forge(fake: FakeGitHub, waits: list[float], tmp_path: Path) -> GitHubForge:
    fetch = log_reader(fake.url, {"Authorization": f"Bearer {TOKEN}"})
    api = Api(over_pygithub(fake.url, TOKEN), fetch=fetch, cache=tmp_path / "cache", pause=waits.append)
    return GitHubForge(api, "acme/app")


def counted(fake: FakeGitHub, method: str, end: str = "") -> int:
    return sum(request.method == method and request.path.endswith(end) for request in fake.requests)


def opened(forge: GitHubForge) -> PullRequest:
    return forge.open(NEW)


def test_the_life_of_a_pull_request(forge: GitHubForge, fake: FakeGitHub) -> None:
    pull = forge.open(NewPull("feat/m1-a", "milestone/m1", "core(m1): A", "ours\n", draft=True))
    assert (pull.number, pull.state, pull.draft, pull.head, pull.base) == (1, "open", True, "feat/m1-a", "milestone/m1")
    assert forge.find("feat/m1-a") == [pull] == forge.pulls("milestone/m1")
    pull = forge.update(pull, title="core(m1): B", body="ours and theirs\n", draft=False, labels=["x", "y"])
    assert (pull.title, pull.body, pull.draft, pull.labels) == ("core(m1): B", "ours and theirs\n", False, ("x", "y"))
    writes = len([request for request in fake.requests if request.method != "GET"])
    assert forge.update(pull, title="core(m1): B", draft=False, labels=["x"]) == pull
    assert len([request for request in fake.requests if request.method != "GET"]) == writes
    answer = forge.request_merge(pull, pull.sha, "core(m1): B", "Body.\n\nMilestone: m1", "squash")
    assert (answer.state, answer.commit) == ("merged", fake.tip("milestone/m1"))
    assert fake.git("log", "-1", "--format=%B", answer.commit) == "core(m1): B\n\nBody.\n\nMilestone: m1"
    assert forge.request_merge(pull, pull.sha, "core(m1): B", "", "squash") == answer
    assert counted(fake, "PUT") == 1
    assert forge.find("feat/m1-a")[0].state == "merged"


@pytest.mark.parametrize(
    ("method", "what"),
    [("POST", "/pulls"), ("PATCH", "/pulls/1"), ("POST", "/labels"), ("POST", "/graphql"), ("PUT", "/merge")],
)
@pytest.mark.parametrize("how", ["lost", "502"])
def test_a_write_whose_answer_is_lost_is_not_done_twice(
    forge: GitHubForge, fake: FakeGitHub, method: str, what: str, how: str
) -> None:
    lost = how != "502"
    fake.faults.append(Fault(f"^{method} .*{what}$", status=502, lost=lost))
    pull = forge.open(NewPull("feat/m1-a", "milestone/m1", "core(m1): A", "ours\n", draft=True))
    pull = forge.update(pull, body="new\n", draft=False, labels=["x"])
    answer = forge.request_merge(pull, pull.sha, "core(m1): A", "", "squash")
    assert answer.state == "merged"
    assert [(item.merged, item.labels, item.body) for item in fake.pulls] == [(True, ["x"], "new\n")]
    assert fake.git("rev-list", "--count", "milestone/m1") == "2"
    assert counted(fake, method, what) == (1 if lost else 2)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("", status=429, headers={"Retry-After": "7"}, times=2),
        Fault("", status=403, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}, times=2),
        Fault("", status=403, message="You have exceeded a secondary rate limit.", times=2),
        Fault("^GET", status=503, times=3),
        Fault("^GET", lost=True, times=3),
    ],
)
def test_a_passing_fault_is_waited_for(forge: GitHubForge, fake: FakeGitHub, waits: list[float], fault: Fault) -> None:
    fake.faults.append(fault)
    assert opened(forge).number == 1
    assert len(waits) >= 2
    assert len(fake.pulls) == 1
    if "Retry-After" in fault.headers:
        assert all(7 <= pause < 8 for pause in waits)


def test_pauses_grow_and_are_never_quite_the_same(forge: GitHubForge, fake: FakeGitHub, waits: list[float]) -> None:
    fake.faults.append(Fault("^GET", status=503, times=5))
    opened(forge)
    assert len(set(waits)) == len(waits) == 5
    assert all(0.125 * 2**place <= pause <= 0.25 * 2**place for place, pause in enumerate(waits))


@pytest.mark.parametrize("status", [500, 429])
def test_a_fault_that_lasts_ends_in_try_again_later(forge: GitHubForge, fake: FakeGitHub, status: int) -> None:
    fake.faults.append(Fault("", status=status, times=100))
    with pytest.raises(ForgeUnavailableError, match="nothing is lost; run again later"):
        opened(forge)


def test_a_limit_that_lasts_longer_than_a_run_waits_is_reported_at_once(
    forge: GitHubForge, fake: FakeGitHub, waits: list[float]
) -> None:
    fake.faults.append(Fault("", status=403, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}))
    with pytest.raises(ForgeUnavailableError):
        opened(forge)
    assert waits == []


def test_a_pull_request_that_appears_meanwhile_is_adopted(forge: GitHubForge, fake: FakeGitHub) -> None:
    fake.faults.append(Fault("^GET .*/pulls$", status=404, times=1))
    theirs = fake.open_pull("feat/m1-a", "milestone/m1")
    assert opened(forge).number == theirs.number
    assert len(fake.pulls) == 1


@pytest.mark.parametrize(
    ("status", "message"), [(401, "Bad credentials"), (403, "Resource not accessible"), (422, "Validation Failed")]
)
def test_a_refusal_is_reported_with_the_forges_words(
    forge: GitHubForge, fake: FakeGitHub, status: int, message: str
) -> None:
    fake.faults.append(Fault("^POST .*/pulls$", status=status, message=message))
    with pytest.raises(ForgeRefusedError, match=message):
        opened(forge)


def test_a_merge_into_another_base_is_not_asked_for(forge: GitHubForge, fake: FakeGitHub) -> None:
    pull = forge.open(NEW)
    fake.pulls[0].base = "feat/m1-b"
    answer = forge.request_merge(pull, pull.sha, "t", "m", "squash")
    assert (answer.state, answer.reason) == ("moved", "it now targets feat/m1-b")
    assert not fake.pulls[0].merged


def test_a_merge_with_another_head_is_refused(forge: GitHubForge, fake: FakeGitHub) -> None:
    pull = opened(forge)
    fake.git("update-ref", "refs/heads/feat/m1-a", fake.tip("feat/m1-b"))
    answer = forge.request_merge(pull, pull.sha, "A", "", "squash")
    assert answer.state == "moved"
    assert counted(fake, "PUT") == 0


@pytest.mark.parametrize(
    ("status", "message", "state"),
    [
        (409, "Head branch was modified. Review and try the merge again.", "moved"),
        (405, "Base branch was modified. Review and try the merge again.", "moved"),
        (405, "At least 1 approving review is required by reviewers with write access.", "refused"),
        (403, "Resource not accessible by personal access token", "refused"),
    ],
)
def test_what_the_forge_says_of_a_merge(
    forge: GitHubForge, fake: FakeGitHub, status: int, message: str, state: str
) -> None:
    pull = opened(forge)
    fake.faults.append(Fault("^PUT", status=status, message=message))
    answer = forge.request_merge(pull, pull.sha, "A", "", "squash")
    assert (answer.state, answer.reason) == (state, message)


def test_auto_merge_needs_pending_checks_and_a_base_that_requires_one(forge: GitHubForge, fake: FakeGitHub) -> None:
    pull = opened(forge)
    fake.set_check(pull.sha, "ci", "pending")
    answer = forge.request_merge(pull, pull.sha, "A", "", "squash")
    assert (answer.state, fake.pulls[0].auto) == ("pending", None)
    assert "milestone/m1 has no required check" in answer.reason
    fake.required["milestone/m1"] = ["ci"]
    assert forge.request_merge(pull, pull.sha, "A", "Body.", "squash").state == "scheduled"
    assert fake.pulls[0].auto == {"method": "squash", "title": "A", "body": "Body."}
    assert forge.request_merge(pull, pull.sha, "A", "Body.", "squash").state == "scheduled"
    assert counted(fake, "POST", "/graphql") == 1
    fake.set_check(pull.sha, "ci", "success")
    assert forge.request_merge(pull, pull.sha, "A", "Body.", "squash").state == "merged"


def test_checks_that_turn_green_before_auto_merge_is_enabled_are_merged_at_once(
    forge: GitHubForge, fake: FakeGitHub
) -> None:
    pull = opened(forge)
    fake.required["milestone/m1"] = ["ci"]
    fake.faults.append(Fault("^PUT", status=405, message='Required status check "ci" is expected.'))
    fake.set_check(pull.sha, "ci", "success")
    assert forge.request_merge(pull, pull.sha, "A", "", "squash").state == "merged"


@pytest.mark.parametrize(
    ("conclusion", "word", "judges"),
    [
        ("success", "success", False),
        ("neutral", "success", False),
        ("skipped", "success", False),
        ("failure", "failure", True),
        ("timed_out", "failure", True),
        ("cancelled", "failure", False),
        ("stale", "failure", False),
        ("action_required", "pending", False),
    ],
)
def test_a_conclusion_of_a_check_is_green_red_or_pending(
    forge: GitHubForge, fake: FakeGitHub, conclusion: str, word: str, judges: bool
) -> None:
    pull = opened(forge)
    fake.set_check(pull.sha, "ci", conclusion)
    assert [(item.state, item.judges_the_change) for item in forge.checks(pull.sha).items] == [(word, judges)]


def test_a_merge_queue_is_used_where_there_is_one(forge: GitHubForge, fake: FakeGitHub) -> None:
    pull = opened(forge)
    fake.queues.add("milestone/m1")
    answer = forge.request_merge(pull, pull.sha, "A", "", "squash")
    assert (answer.state, fake.pulls[0].queued) == ("scheduled", True)


def test_checks_of_others_are_read_whatever_their_form(forge: GitHubForge, fake: FakeGitHub) -> None:
    pull = opened(forge)
    forge.post_status(pull.sha, "ours", "success", "passed")
    fake.statuses[pull.sha].append({"context": "theirs", "state": "error"})
    for name, state in (("one", "success"), ("two", "pending"), ("three", "cancelled"), ("four", "action_required")):
        fake.set_check(pull.sha, name, state)
    checks = forge.checks(pull.sha)
    assert {item.name: item.state for item in checks.items} == {
        "theirs": "failure",
        "one": "success",
        "two": "pending",
        "three": "failure",
        "four": "pending",
    }
    assert checks.of("pending")[1].detail == "a person has to approve its workflow run"


def test_a_status_is_posted_once_and_not_insisted_on(forge: GitHubForge, fake: FakeGitHub) -> None:
    sha = fake.tip("feat/m1-a")
    fake.faults.append(Fault("^POST .*/statuses/", lost=True))
    assert forge.post_status(sha, "tests", "success", "passed")
    assert forge.post_status(sha, "tests", "success", "passed")
    assert [item["context"] for item in fake.statuses[sha]] == ["milestone/tests"]
    fake.faults.append(Fault("^POST .*/statuses/", status=403))
    assert not forge.post_status(sha, "lint", "success", "passed")


def test_lists_are_read_to_their_last_page_and_unchanged_ones_are_not_sent_again(
    forge: GitHubForge, fake: FakeGitHub
) -> None:
    fake.page = 2
    number = fake.add_milestone("M1")
    issues = [fake.add_issue(f"Issue {place}", milestone=number, labels=("core",)) for place in range(5)]
    fake.blocked_by[issues[2]] = issues[:2]
    found = forge.issues("M1")
    assert [item.number for item in found] == issues
    assert (found[2].needs, found[2].labels) == ((1, 2), ("core",))
    fake.requests.clear()
    assert forge.issues(str(number)) == found
    assert {request.status for request in fake.requests} == {304}


def test_issues_and_milestones_are_closed_once(forge: GitHubForge, fake: FakeGitHub) -> None:
    number = fake.add_issue("One")
    fake.add_milestone("M1")
    fake.faults.append(Fault("^PATCH", lost=True))
    assert [forge.close_issue(number), forge.close_issue(number)] == [True, False]
    assert [forge.close_milestone("M1"), forge.close_milestone("M1")] == [True, False]
    assert counted(fake, "PATCH") == 2
    with pytest.raises(ForgeRefusedError, match='no milestone "M9"'):
        forge.close_milestone("M9")


def test_a_pull_request_is_closed_without_merging(forge: GitHubForge, fake: FakeGitHub) -> None:
    pull = opened(forge)
    forge.close(pull)
    forge.close(pull)
    assert (fake.pulls[0].state, fake.pulls[0].merged, counted(fake, "PATCH")) == ("closed", False, 1)


def test_writes_are_paced(fake: FakeGitHub, waits: list[float], tmp_path: Path) -> None:
    budget = Budget(tmp_path / "budget.json", fake.url, writes_per_minute=2)
    forge = GitHubForge(Api(over_pygithub(fake.url, TOKEN), budget=budget, pause=waits.append), "acme/app")
    pull = opened(forge)
    forge.update(pull, body="x\n", labels=["x"])
    assert len(waits) == 1
    assert 50 < waits[0] <= 60


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://github.com/acme/app.git", "acme/app"),
        ("git@github.com:acme/app.git", "acme/app"),
        ("ssh://git@github.example:2222/acme/app/", "acme/app"),
        ("https://github.com/acme/app.js", "acme/app.js"),
        ("up", ""),
    ],
)
def test_the_repository_is_what_the_remote_says(address: str, expected: str) -> None:
    assert repository_of(address) == expected


def test_the_token_is_that_of_the_environment_or_of_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GH_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    monkeypatch.delenv("GH_TOKEN", raising=False)
    with pytest.raises(ForgeRefusedError, match=r"no token for github\.com"):
        find_token(Forge(kind="github"))
    (tmp_path / "hosts.yml").write_text(
        "github.com:\n    user: me\n    oauth_token: one\n    git_protocol: https\nghe.example:\n    oauth_token: two\n"
    )
    assert find_token(Forge(kind="github")) == "one"
    assert find_token(Forge(kind="github", base_url="https://ghe.example/api/v3")) == "two"
    monkeypatch.setenv("GH_TOKEN", "three")
    assert find_token(Forge(kind="github")) == "three"


def test_a_missing_library_is_reported_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "github", None)
    with pytest.raises(UsageError, match=r"needs the extra `github`: pip install 'make-for-milestones\[github\]'"):
        over_pygithub("https://api.github.com", TOKEN)


@pytest.mark.parametrize("lost", [False, True])
def test_dependencies_are_given_out_once(forge: GitHubForge, fake: FakeGitHub, lost: bool) -> None:
    first, second, third = (fake.add_issue(name) for name in ("One", "Two", "Three"))
    fake.blocked_by[third] = [first]
    fake.faults.append(Fault("POST .*/blocked_by", status=503, lost=lost))
    for _ in range(2):
        forge.block(third, [first, second])
    assert fake.blocked_by == {third: [first, second]}
    assert isinstance(forge, LinksIssues)
    with pytest.raises(ForgeRefusedError, match="no issue #99"):
        forge.block(third, [99])
