"""`doit release:m4`: the completion gate, the final merge, the tag - once, however often it is asked or killed."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "milestone/m1-test-m1"
HEAD = 'tag = "v1"\n'


def done(repo: Repo, head: str = HEAD, tail: str = "") -> Repo:
    """Two issues landed, declarations committed."""
    repo.milestone("m1", head + issue("a", "echo a > a", number=7) + issue("b", "echo b > b", needs=["a"]) + tail)
    repo.commit("declare")
    repo.doit("milestone:m1").check()
    return repo


def status(repo: Repo, name: str = "m1") -> str:
    found = repo.doit("status", name, "--json").check().json["milestones"]
    return str(found[0]["status"])


def releases(repo: Repo) -> list[str]:
    form = "%(trailers:key=Milestone-Released,valueonly,separator=)"
    return [line for line in repo.git("log", "--first-parent", f"--format={form}", "main").splitlines() if line]


def assert_released_once(repo: Repo) -> None:
    assert releases(repo) == ["m1"]
    assert repo.git("rev-parse", "v1^{commit}") == repo.git("rev-parse", "main")
    assert repo.git("cat-file", "-t", "v1") == "tag"
    assert repo.git("status", "--porcelain") == ""
    assert (repo.path / "a").read_text() == "a\n"


def test_a_complete_milestone_is_merged_into_its_base_and_tagged(repo: Repo) -> None:
    done(repo)
    tip, base = repo.git("rev-parse", BRANCH), repo.git("rev-parse", "main")
    out = repo.doit("release:m1").check().out
    assert "m1 is released to main" in out
    assert repo.git("rev-parse", "main^1", "main^2").split() == [base, tip]
    message = repo.git("log", "-1", "--format=%B", "main")
    assert message.startswith("chore(m1): release Test m1\n")
    assert "Closes #7" in message
    assert f"Milestone-Released: m1\nReleased-Tip: {tip}" in message
    assert_released_once(repo)
    assert status(repo) == "released"


def test_released_again_is_nothing_to_do_even_without_the_cache_and_on_a_clone_without_the_branch(repo: Repo) -> None:
    done(repo).doit("release:m1").check()
    main = repo.git("rev-parse", "main")
    assert "nothing to do" in repo.doit("release:m1").check().out
    shutil.rmtree(repo.path / ".cache")
    assert "nothing to do" in repo.doit("release:m1").check().out
    repo.git("branch", "-D", BRANCH)
    shutil.rmtree(repo.path / ".cache")
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    assert "nothing to do" in repo.doit("release:m1").check().out
    assert status(repo) == "released"
    assert repo.git("rev-parse", "main") == main


def test_every_criterion_that_is_not_met_is_reported_at_once_and_nothing_is_released(repo: Repo) -> None:
    repo.write("milestones/m1/epic.md", "# Epic\n\n- [x] Ticked\n- [ ] Open one\n\n```\n- [ ] in code\n```\n")
    repo.write("rules/checks.toml", '[check.integration]\nrun = "false"\n')
    accept = '[{ run = "false", name = "Proved one" }, { file = "none" }, "In words"]'
    done(repo, f'{HEAD}epic = "m1/epic.md"\nchecks = ["integration"]\naccept = {accept}\n')
    repo.git("tag", "v1")
    main = repo.git("rev-parse", "main")
    out = repo.doit("release:m1").check(1).out
    for word in ("integration", "Proved one", "file none", "Open one", "milestones/m1/epic.md:4", "v1"):
        assert word in out
    assert "in code" not in out
    assert "5 of 10 criteria are not met" in out
    assert repo.git("rev-parse", "main") == main


def test_before_every_issue_has_landed_no_command_is_asked(repo: Repo) -> None:
    ran = repo.path.parent / "ran"
    repo.milestone("m1", f'accept = [{{ run = "touch {ran}" }}]\n' + issue("a", "echo a > a") + issue("b", "false"))
    repo.doit("milestone:m1").check(1)
    out = repo.doit("release:m1").check(1).out
    assert "m1 is not released" in out
    assert "next: " in out
    assert not ran.exists()


def test_a_check_that_fails_for_several_issues_is_one_criterion(repo: Repo) -> None:
    repo.write("rules/checks.toml", '[check.whole]\nrun = "test ! -e broken"\n')
    two = "".join(issue(name, f"echo {name} > {name}", checks=["whole"]) for name in "ab")
    repo.milestone("m1", two)
    repo.commit("declare")
    repo.doit("milestone:m1").check()
    repo.write("broken", "x\n")
    repo.commit("broken")
    out = repo.doit("release:m1").check(1).out
    assert "1 of 3 criteria are not met" in out


def test_a_box_of_the_epic_is_proved_by_the_acceptance_of_its_name(repo: Repo) -> None:
    repo.write("milestones/m1/epic.md", "- [ ] Both are there.\n")
    done(repo, HEAD + 'epic = "m1/epic.md"\naccept = [{ run = "test -e a -a -e b", name = "both are there" }]\n')
    repo.doit("release:m1").check()
    assert "- [x] Both are there." in repo.git("log", "-1", "--format=%B", "main")


def test_a_service_is_up_for_the_integration_check(repo: Repo) -> None:
    rule = '[check.integration]\nrun = "test -e /tmp/$EXECUTOR_MILESTONE.$PPID.up || test -e up"\nbefore = "touch up"\n'
    repo.write("rules/checks.toml", rule + 'after = "rm up"\n')
    done(repo, HEAD + 'checks = ["integration"]\n').doit("release:m1").check()


def test_a_base_that_moved_is_merged_in_memory_and_proved_before_it_becomes_the_tip(repo: Repo) -> None:
    done(repo, HEAD + 'accept = [{ run = "test ! -e other || test -e fixed", name = "together" }]\n')
    repo.write("other", "x\n")
    base = repo.commit("meanwhile")
    out = repo.doit("release:m1").check(1).out
    assert "together" in out
    assert repo.git("rev-parse", "main") == base
    repo.write("fixed", "x\n")
    base = repo.commit("mend it")
    repo.doit("release:m1").check()
    assert repo.git("rev-parse", "main^1") == base
    assert repo.git("ls-tree", "--name-only", "main", "a", "b", "other").split() == ["a", "b", "other"]


def test_a_conflict_with_the_base_is_reported_and_waits_for_a_person(repo: Repo) -> None:
    done(repo)
    repo.write("a", "mine\n")
    base = repo.commit("meanwhile")
    assert "conflict in a" in repo.doit("release:m1").check(4).out
    assert repo.git("rev-parse", "main") == base


def test_local_changes_in_the_checkout_of_the_base_are_kept(repo: Repo) -> None:
    repo.write("notes", "one\n")
    done(repo)
    repo.write("notes", "two\n")
    repo.doit("release:m1").check()
    assert repo.git("status", "--porcelain") == "M notes"
    assert (repo.path / "a").exists()


def test_local_changes_in_the_way_hold_the_release_back(repo: Repo) -> None:
    done(repo)
    repo.write("a", "mine, untracked\n")
    main = repo.git("rev-parse", "main")
    assert "checkout" in repo.doit("release:m1").check(4).out
    assert repo.git("rev-parse", "main") == main
    assert (repo.path / "a").read_text() == "mine, untracked\n"


def test_a_merge_by_hand_counts_and_only_the_tag_is_left_to_do(repo: Repo) -> None:
    done(repo)
    repo.git("merge", "-q", "--no-ff", "-m", "by hand", BRANCH)
    main = repo.git("rev-parse", "main")
    assert status(repo) == "complete"
    assert "tagged it v1" in repo.doit("release:m1").check().out
    assert repo.git("rev-parse", "main") == main == repo.git("rev-parse", "v1^{commit}")
    assert status(repo) == "released"


def test_a_spec_changed_after_the_release_is_built_and_released_again_under_another_tag(repo: Repo) -> None:
    done(repo).doit("release:m1").check()
    text = (
        (repo.path / "milestones/m1.toml").read_text().replace("Do a.", "Do a again.").replace("echo a >", "echo A >")
    )
    repo.write("milestones/m1.toml", text)
    repo.commit("again")
    assert status(repo) == "in progress"
    repo.doit("milestone:m1").check()
    assert status(repo) == "complete"
    assert "declare another" in repo.doit("release:m1").check(4).out
    repo.write("milestones/m1.toml", text.replace('"v1"', '"v2"'))
    repo.commit("another tag")
    repo.doit("release:m1").check()
    assert releases(repo) == ["m1", "m1"]
    assert repo.git("show", "main:a") == "A"
    assert status(repo) == "released"


def test_a_revision_after_the_branch_is_gone_starts_from_the_base_and_keeps_what_landed(repo: Repo) -> None:
    done(repo).doit("release:m1").check()
    repo.git("branch", "-D", BRANCH)
    text = (repo.path / "milestones/m1.toml").read_text().replace("Do a.", "Do a again.").replace('"v1"', '"v2"')
    repo.write("milestones/m1.toml", text.replace("echo a >", "echo A >"))
    repo.commit("again")
    assert repo.statuses() == {"m1/a": "stale", "m1/b": "landed"}
    out = repo.doit("milestone:m1").check().out
    assert "landed as" in out
    assert repo.landed(BRANCH) == ["a@2"]
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "landed"}
    repo.doit("release:m1").check()
    assert status(repo) == "released"
    repo.git("branch", "-D", BRANCH)
    shutil.rmtree(repo.path / ".cache")
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "stale"}  # that b was proved on the new a is forgotten
    assert "verify    m1/b" in repo.doit("milestone:m1").check().out


def test_a_milestone_and_its_release_can_be_asked_for_together(repo: Repo) -> None:
    repo.milestone("m1", HEAD + issue("a", "echo a > a"))
    repo.milestone("m2", 'needs = ["m1"]\n' + issue("c", "echo c > c"))
    repo.commit("declare")
    out = repo.doit("milestone:m1", "release:m1").check().out
    assert "m1 is released to main" in out
    assert "m2 (Test m2) can continue: doit milestone:m2" in out
    repo.doit("milestone:m2").check()
    assert repo.git("ls-tree", "--name-only", "milestone/m2-test-m2", "a", "c").split() == ["a", "c"]


_WRITING = "update-ref|hash-object|commit-tree|read-tree"
_SCRIPT = """#!/bin/sh
case "$1" in
{calls})
  case "$*" in
  *--stdin-paths*)  # a helper: each object counts as a call
    while read -r line; do
      echo "$line" > {asked}.$$
      {before}
      {real} "$@" < {asked}.$$ || exit $?
      {after}
    done
    exit 0;;
  esac
  {before}
  {real} "$@"; code=$?
  {after}
  exit $code;;
*) exec {real} "$@";;
esac
"""


def killing_git(folder: Path, place: int, when: str, calls: str = _WRITING) -> dict[str, str]:
    """An environment in which git kills whoever called it, before or after its n-th call of those that write."""
    folder.mkdir(exist_ok=True)
    real = shutil.which("git")
    script = folder / "git"
    kill = f'echo x >> {folder}/calls; if [ "$(wc -l < {folder}/calls)" -eq {place} ]; then kill -9 $PPID; fi'
    before, after = (kill, "") if when == "before" else ("", kill)
    script.write_text(_SCRIPT.format(calls=calls, before=before, after=after, real=real, asked=folder / "asked"))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.long), "after"])
def test_killed_at_every_git_call_that_writes_it_ends_the_same_and_does_nothing_twice(
    repo: Repo, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(repo)
    base, tip = repo.git("rev-parse", "main"), repo.git("rev-parse", BRANCH)
    path = os.environ["PATH"]
    ends = set()
    for place in range(1, 40):
        folder = repo.path.parent / f"{when}-{place}"
        monkeypatch.setenv("PATH", killing_git(folder, place, when)["PATH"])
        code = repo.doit("release:m1").code
        monkeypatch.setenv("PATH", path)
        if code == 0:
            assert place >= 5
            break
        assert code == -9
        repo.doit("release:m1").check()
        assert_released_once(repo)
        ends.add(repo.git("rev-parse", "main^{tree}"))
        assert repo.git("rev-parse", "main^2") == tip
        repo.git("tag", "-d", "v1")
        repo.git("reset", "-q", "--hard", base)
    assert len(ends) == 1
    assert_released_once(repo)
