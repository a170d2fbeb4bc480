"""A check of the forge that fails: the next attempt is told of it, and no head but the one on record is merged."""

from __future__ import annotations

import json
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_github import wait_until
from tests.features.test_github import declared, hub
from tests.features.test_remote import BRANCH
from tests.support import Repo, issue

if TYPE_CHECKING:
    from tests.fake_github import FakeGitHub

__all__ = ["hub"]
COUNTS = "echo attempt $EXECUTOR_ATTEMPT > a; cp $EXECUTOR_BRIEF {folder}/brief-$EXECUTOR_ATTEMPT"
LOG = "2026-01-01T00:00:00.0000000Z ##[group]Run pytest\n2026-01-01T00:00:01Z \x1b[31mE  assert 1 == 2\x1b[0m\n"
NOTE = {"path": "a", "start_line": 3, "message": "expected 2"}


def waiting(repo: Repo, hub: FakeGitHub, **extra: Any) -> None:
    """One issue whose pull request waits for a required check; every attempt leaves its brief outside."""
    declared(repo, issue("a", COUNTS.format(folder=repo.path.parent), **extra))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    assert hub.pulls[0].auto is not None


def turned_red(hub: FakeGitHub, state: str = "failure") -> None:
    hub.set_check(hub.pulls[0].sha, "ci", state, log=LOG, annotations=(NOTE,))


def landed_events(repo: Repo) -> list[dict[str, Any]]:
    lines = (repo.path / ".cache" / "m1" / "journal.000001.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["e"] == "landed"]


def test_a_red_check_brings_a_new_attempt_that_is_reported_and_shown_in_the_same_pull_request(
    repo: Repo, hub: FakeGitHub
) -> None:
    waiting(repo, hub)
    old = hub.pulls[0].sha
    turned_red(hub)
    repo.doit("milestone:m1").check(75)
    pull = hub.pulls[0]
    assert hub.withdrawn == [1]
    assert pull.sha != old
    assert hub.git("show", f"{pull.sha}:a") == "attempt 2"
    assert "attempt=2" in pull.body
    assert pull.auto is not None
    brief = (repo.path.parent / "brief-2").read_text()
    for told in ('"ci" failed', "conclusion: failure", f"{hub.url}/checks/ci", "a:3: expected 2", "E  assert 1 == 2"):
        assert told in brief
    assert "##[group]" not in brief
    hub.set_check(old, "ci", "success")
    hub.refresh()
    assert not pull.merged
    hub.set_check(pull.sha, "ci", "success")
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:a") == "attempt 2"
    assert [event["attempt"] for event in landed_events(repo)] == [2]
    assert len(hub.pulls) == 1


def test_a_retry_after_a_red_check_is_pushed_and_the_old_head_is_never_merged(repo: Repo, hub: FakeGitHub) -> None:
    waiting(repo, hub)
    turned_red(hub, "cancelled")
    repo.doit("issue:m1/a").check(4)
    repo.doit("retry", "m1/a").check()
    repo.doit("issue:m1/a").check(75)
    assert hub.git("show", f"{hub.pulls[0].sha}:a") == "attempt 2"
    assert hub.withdrawn == [1]
    hub.set_check(hub.pulls[0].sha, "ci", "success")
    repo.doit("issue:m1/a").check()
    assert [event["attempt"] for event in landed_events(repo)] == [2]


def test_the_same_red_check_again_and_again_ends_as_failed_and_names_the_check(repo: Repo, hub: FakeGitHub) -> None:
    waiting(repo, hub)
    hub.new_checks["ci"] = "failure"
    turned_red(hub)
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {"m1/a": "failed"}
    assert 'the forge\'s check "ci" failed' in repo.doit("log", "m1/a").check().out
    assert hub.pulls[0].auto is None
    assert not hub.pulls[0].merged


@pytest.mark.parametrize("word", ["cancelled", "startup_failure"])
def test_a_check_without_a_verdict_costs_no_attempt_and_asks_a_person(repo: Repo, hub: FakeGitHub, word: str) -> None:
    waiting(repo, hub)
    turned_red(hub, word)
    out = repo.doit("milestone:m1").check(4).out
    assert "gave no verdict" in out
    assert hub.git("show", f"{hub.pulls[0].sha}:a") == "attempt 1"
    hub.set_check(hub.pulls[0].sha, "ci", "success")
    repo.doit("milestone:m1").check()
    assert [event["attempt"] for event in landed_events(repo)] == [1]


def test_without_a_cache_a_new_attempt_is_still_distinguished_from_the_one_shown(repo: Repo, hub: FakeGitHub) -> None:
    waiting(repo, hub)
    turned_red(hub)
    shutil.rmtree(repo.path / ".cache")
    repo.doit("milestone:m1").check(75)
    assert hub.git("show", f"{hub.pulls[0].sha}:a") == "attempt 2"
    hub.set_check(hub.pulls[0].sha, "ci", "success")
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:a") == "attempt 2"


def test_a_check_that_turns_green_while_auto_merge_is_taken_back_lands_that_attempt(
    repo: Repo, hub: FakeGitHub
) -> None:
    waiting(repo, hub)
    turned_red(hub)
    hub.before_withdrawal = lambda pull: hub.set_check(pull.sha, "ci", "success")
    repo.doit("milestone:m1").check()
    assert [event["attempt"] for event in landed_events(repo)] == [1]
    assert repo.git("show", f"{BRANCH}:a") == "attempt 1"


def test_auto_merge_does_not_hold_the_run_and_what_needs_it_goes_on_after_the_merge(
    repo: Repo, hub: FakeGitHub
) -> None:
    declared(repo, issue("a", "echo a > a") + issue("b", "echo b > b", needs=["a"]) + issue("c", "echo c > c"))
    rules = repo.path / "rules" / "forge.toml"
    rules.write_text(rules.read_text().replace("wait = 0", "wait = 60"))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    seen: list[int] = []

    def workflows() -> None:
        wait_until(lambda: len(hub.opened()) == 2, 50)
        seen.append(len(hub.pulls))
        hub.new_checks["ci"] = "success"
        for pull in hub.opened():
            hub.set_check(pull.sha, "ci", "success")

    thread = threading.Thread(target=workflows)
    thread.start()
    repo.doit("milestone:m1").check()
    thread.join()
    assert seen == [2]
    assert sorted(repo.landed(BRANCH)) == ["a@1", "b@1", "c@1"]
