"""Every effect is written down before it is done, and done once, whatever a crash or a power cut left."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from executor.state import segments
from executor.state.record import Record, encode
from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

NAME = "milestone/m1-test-m1"
BRANCH = f"refs/heads/{NAME}"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """One issue has landed and one has failed; every run of the agent left a line outside."""
    repo = Repo(tmp_path_factory.mktemp("original") / "repo")
    count = f"echo x >> {repo.path.parent}/count; "
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.milestone("m1", issue("a", f"{count}echo a > a") + issue("r", "echo r > r", accept=[{"run": "false"}]))
    repo.commit("declared")
    repo.doit("milestone:m1").check(1)
    return repo


@pytest.fixture
def repo(original: Repo, tmp_path: Path) -> Repo:
    """A copy of it."""
    shutil.copytree(original.path, tmp_path / "repo", symlinks=True)
    copy = Repo.__new__(Repo)
    copy.path = tmp_path / "repo"
    return copy


def events(repo: Repo) -> list[Record]:
    return segments.read(repo.path / ".cache" / "m1")


def rewrite(repo: Repo, kept: list[Record], *, restarted: bool = False) -> None:
    """Make the journal these records, as if written before the machine was started again."""
    check, data = 0, b""
    for event in kept:
        line = encode(replace(event, boot="before") if restarted else event, check)
        check = int(line[-11:-3], 16)
        data += line
    (repo.path / ".cache" / "m1" / "journal.000001.jsonl").write_bytes(data)


def back_to(repo: Repo, number: int, *, restarted: bool = False) -> None:
    """The world as it was after that many records: the effects of later ones are undone, objects stay."""
    known = events(repo)
    rewrite(repo, known[:number], restarted=restarted)
    happened = {(event.kind, event.key) for event in known[:number]}
    if ("landed", "a") not in happened:
        repo.git("update-ref", BRANCH, "main")
        built = next(event for event in known if event.kind == "attempt-built" and event.key == "a")
        if ("attempt-built", "a") in happened:
            repo.git("update-ref", "refs/attempts/m1/a/1", str(built.data["commit"]))
    if ("branch-created", "") not in happened:
        repo.git("update-ref", "-d", BRANCH)
    if ("attempt-failed", "r") not in happened:
        repo.git("update-ref", "-d", "refs/attempts/m1/r/1")
        built = next(event for event in known if event.kind == "attempt-built" and event.key == "r")
        if ("attempt-built", "r") in happened:
            repo.git("update-ref", "refs/attempts/m1/r/1", str(built.data["commit"]))
    shutil.rmtree(repo.path / ".cache" / "m1" / "receipts", ignore_errors=True)
    shutil.rmtree(repo.path / ".cache" / "m1" / "workspaces", ignore_errors=True)


def place(repo: Repo, kind: str, key: str) -> int:
    return next(number for number, event in enumerate(events(repo), 1) if (event.kind, event.key) == (kind, key))


def count(original: Repo) -> int:
    return len((original.path.parent / "count").read_text().splitlines())


@pytest.mark.parametrize("kind", ["snapshot", "attempt-built", "landing", "landed"])
def test_from_the_snapshot_on_a_repetition_makes_the_very_same_commit_and_asks_no_agent(
    repo: Repo, original: Repo, kind: str
) -> None:
    tip, asked = repo.git("rev-parse", BRANCH), count(original)
    back_to(repo, place(repo, kind, "a"), restarted=True)
    repo.doit("issue:m1/a").check()
    assert repo.git("rev-parse", BRANCH) == tip
    assert count(original) == asked
    assert not [name for name in repo.attempts() if "/a/" in name]


@pytest.mark.parametrize("kind", ["snapshot", "attempt-built"])
def test_a_failed_attempt_is_kept_as_the_very_same_commit(repo: Repo, kind: str) -> None:
    kept = repo.git("rev-parse", "refs/attempts/m1/r/1")
    back_to(repo, place(repo, kind, "r"))
    repo.doit("issue:m1/r").check(1)
    assert repo.git("rev-parse", "refs/attempts/m1/r/1") == kept


def test_a_failure_that_is_under_its_ref_and_not_in_the_journal_is_not_judged_again(repo: Repo) -> None:
    rewrite(repo, events(repo)[: place(repo, "attempt-failed", "r") - 1])
    assert repo.statuses()["m1/r"] == "failed"
    repo.doit("issue:m1/r").check(1)
    assert len([name for name in repo.attempts() if "/r/" in name]) == 1


def emptied(repo: Repo, what: str) -> None:
    """An object as a power cut leaves it where git does not wait for the disk: there, and empty."""
    name = repo.git("rev-parse", what)
    path = repo.path / ".git" / "objects" / name[:2] / name[2:]
    path.chmod(0o644)
    path.write_bytes(b"")


@pytest.mark.parametrize("what", ["refs/attempts/m1/a/1", "refs/attempts/m1/a/1^{tree}", "refs/attempts/m1/a/1:a"])
def test_a_result_that_the_disk_lost_is_made_again_after_a_restart(repo: Repo, original: Repo, what: str) -> None:
    asked = count(original)
    back_to(repo, place(repo, "attempt-built", "a"), restarted=True)
    emptied(repo, what)
    out = repo.doit("issue:m1/a").check().out
    assert "the result of attempt 1 is gone from the disk; it is implemented again" in out
    assert count(original) == asked + 1
    assert repo.git("show", f"{NAME}:a") == "a"


def test_a_tree_that_the_disk_lost_is_not_taken_for_a_result(repo: Repo, original: Repo) -> None:
    asked = count(original)
    back_to(repo, place(repo, "snapshot", "a"), restarted=True)
    emptied(repo, next(str(event.data["tree"]) for event in events(repo) if event.kind == "snapshot"))
    repo.doit("issue:m1/a").check()
    assert count(original) == asked + 1
    assert repo.git("show", f"{NAME}:a") == "a"


def test_a_result_whose_ref_was_deleted_gets_it_back(repo: Repo, original: Repo) -> None:
    asked, tip = count(original), repo.git("rev-parse", BRANCH)
    back_to(repo, place(repo, "attempt-built", "a"))
    repo.git("update-ref", "-d", "refs/attempts/m1/a/1")
    assert "refs/attempts/m1/a/1 was missing and has been restored" in repo.doit("issue:m1/a").check().out
    assert (count(original), repo.git("rev-parse", BRANCH)) == (asked, tip)
