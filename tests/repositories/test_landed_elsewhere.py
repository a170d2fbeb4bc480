"""Landed work is recognised wherever a person took it: nothing is implemented again, and status tells where it is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.repositories.shapes import BRANCH, identified, project, sh
from tests.support import issue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support import Repo

ALL = {"m1/1": "landed", "m1/2": "landed"}


def merged_with_a_commit(repo: Repo) -> Repo:
    repo.git("merge", "-q", "--no-ff", "-m", "merge", BRANCH)
    return repo


def merged_and_branch_deleted(repo: Repo) -> Repo:
    merged_with_a_commit(repo)
    repo.git("branch", "-D", BRANCH)
    return repo


def fast_forwarded_and_branch_deleted(repo: Repo) -> Repo:
    repo.git("merge", "-q", "--ff-only", BRANCH)
    repo.git("branch", "-D", BRANCH)
    return repo


def rebased_and_branch_deleted(repo: Repo) -> Repo:
    repo.write("other.txt", "other\n")
    repo.commit("other")
    sh(
        repo.path,
        f"git checkout -q {BRANCH}; git rebase -q main; git checkout -q main; git merge -q --ff-only {BRANCH}",
    )
    repo.git("branch", "-D", BRANCH)
    return repo


def squashed(repo: Repo) -> Repo:
    sh(repo.path, f"git merge -q --squash {BRANCH}; git commit -q --no-edit")
    return repo


def squashed_and_branch_deleted(repo: Repo) -> Repo:
    squashed(repo)
    repo.git("branch", "-D", BRANCH)
    return repo


def squashed_as_a_forge_does(repo: Repo) -> Repo:
    """One list of the squashed commits with their whole messages."""
    told = repo.git("log", "--reverse", "--format=* %B", f"main..{BRANCH}")
    sh(repo.path, f"git merge -q --squash {BRANCH}")
    repo.git("commit", "-q", "-m", f"Milestone 1 (#7)\n\n{told}")
    repo.git("branch", "-D", BRANCH)
    return repo


def squash_in_ones_own_words(repo: Repo) -> None:
    repo.write("other.txt", "other\n")
    repo.commit("other")
    sh(repo.path, f"git merge -q --squash {BRANCH}; git commit -q -m 'Both files'")


def squashed_in_ones_own_words(repo: Repo) -> Repo:
    """Nothing but the content says what it is, and the journal is gone."""
    squash_in_ones_own_words(repo)
    repo.git("branch", "-D", BRANCH)
    shutil.rmtree(repo.path / ".cache")
    return repo


def cherry_picked_and_branch_deleted(repo: Repo) -> Repo:
    repo.write("other.txt", "other\n")
    repo.commit("other")
    repo.git("cherry-pick", "-x", f"main..{BRANCH}")
    repo.git("branch", "-D", BRANCH)
    return repo


def synced_with_the_base(repo: Repo) -> Repo:
    repo.write("other.txt", "other\n")
    repo.commit("other")
    sh(repo.path, f"git checkout -q {BRANCH}; git merge -q --no-edit main; git checkout -q main")
    return repo


def pulled_into_a_commit_of_ones_own(repo: Repo) -> Repo:
    """What landed is the second parent, as after `git pull` on a branch with a commit of one's own."""
    sh(repo.path, f"git branch theirs {BRANCH}; git branch -f {BRANCH} main; git checkout -q {BRANCH}")
    sh(repo.path, "echo mine > mine.txt; git add mine.txt; git commit -q -m mine; git merge -q -m pull theirs")
    sh(repo.path, "git checkout -q main; git branch -D theirs")
    return repo


def branch_renamed(repo: Repo) -> Repo:
    repo.git("branch", "-m", BRANCH, "feature/other")
    return repo


def branch_renamed_without_cache(repo: Repo) -> Repo:
    branch_renamed(repo)
    shutil.rmtree(repo.path / ".cache")
    return repo


def title_edited(repo: Repo) -> Repo:
    path = repo.path / "milestones" / "m1.toml"
    path.write_text(path.read_text().replace('title = "Test m1"', 'title = "Quite another title"'))
    return repo


def branch_edited(repo: Repo) -> Repo:
    path = repo.path / "milestones" / "m1.toml"
    path.write_text(path.read_text().replace("[[issue]]", 'branch = "work/m1"\n[[issue]]', 1))
    return repo


def branch_edited_and_moved(repo: Repo) -> Repo:
    branch_edited(repo)
    repo.git("branch", "-m", BRANCH, "work/m1")
    return repo


def title_edited_without_cache(repo: Repo) -> Repo:
    title_edited(repo)
    shutil.rmtree(repo.path / ".cache")
    return repo


def cloned(repo: Repo) -> Repo:
    folder = repo.path.parent
    sh(folder, "git clone -q --bare repo hub.git; git clone -q -b main hub.git fresh")
    return identified(folder / "fresh")


def cloned_with_an_edited_title(repo: Repo) -> Repo:
    return title_edited(cloned(repo))


def squashed_in_ones_own_words_and_cloned_with_the_branch(repo: Repo) -> Repo:
    """The branch of the milestone is still on the remote."""
    squash_in_ones_own_words(repo)
    return cloned(repo)


def released_elsewhere(repo: Repo) -> Repo:
    """Released on one machine, the branch deleted; another machine clones."""
    repo.doit("release:m1").check(0)
    repo.git("branch", "-D", BRANCH)
    return cloned(repo)


def behind_another_machine(repo: Repo) -> Repo:
    """The branch is here as it was after the first issue; the other machine has landed the second."""
    there = cloned(repo)
    sh(there.path, f"git branch -q --no-track {BRANCH} origin/{BRANCH}~1")
    return there


def on_a_branch_that_is_built_on_it(repo: Repo) -> Repo:
    sh(repo.path, f"git checkout -q -b mine {BRANCH}; echo m > m; git add m; git commit -q -m m; git checkout -q main")
    return repo


WAYS: tuple[Callable[[Repo], Repo], ...] = (
    merged_with_a_commit,
    merged_and_branch_deleted,
    fast_forwarded_and_branch_deleted,
    rebased_and_branch_deleted,
    squashed,
    squashed_and_branch_deleted,
    squashed_as_a_forge_does,
    squashed_in_ones_own_words,
    cherry_picked_and_branch_deleted,
    synced_with_the_base,
    pulled_into_a_commit_of_ones_own,
    branch_renamed,
    branch_renamed_without_cache,
    title_edited,
    title_edited_without_cache,
    branch_edited,
    branch_edited_and_moved,
    cloned,
    cloned_with_an_edited_title,
    squashed_in_ones_own_words_and_cloned_with_the_branch,
    released_elsewhere,
    behind_another_machine,
    on_a_branch_that_is_built_on_it,
)
CHEAP = {merged_and_branch_deleted, squashed_and_branch_deleted, branch_renamed, title_edited, cloned}


def agents_called(repo: Repo) -> int:
    return len(list((repo.path / ".cache" / "m1" / "logs").glob("*/[0-9]*")))


@pytest.fixture
def landed(tmp_path: Path) -> Repo:
    repo = project(tmp_path / "repo")
    repo.doit("milestone:m1").check(0)
    return repo


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, id=way.__name__, marks=() if way in CHEAP else (pytest.mark.campaign,)) for way in WAYS],
)
def test_what_landed_is_recognised_and_not_done_again(landed: Repo, way: Callable[[Repo], Repo]) -> None:
    repo = way(landed)
    before = agents_called(repo)
    assert repo.statuses() == ALL
    repo.doit("milestone:m1").check(0)
    assert agents_called(repo) == before
    assert repo.statuses() == ALL


def test_an_edited_title_goes_on_where_the_work_is(landed: Repo) -> None:
    title_edited(landed)
    path = landed.path / "milestones" / "m1.toml"
    path.write_text(
        path.read_text() + '\n[[issue]]\nid = "3"\ntitle = "Three"\nbody = "b"\n'
        'agent = "script"\nwith = { run = "echo three > three.txt" }\n'
    )
    out = landed.doit("milestone:m1").check(0).out
    assert f"git branch -m {BRANCH} milestone/m1-quite-another-title" in out
    assert landed.landed(BRANCH) == ["1@1", "2@1", "3@1"]
    assert landed.git("branch", "--list", "milestone/*").split() == [BRANCH]


def test_work_that_is_nowhere_any_more_is_a_question_and_not_paid_again(landed: Repo) -> None:
    landed.git("branch", "-D", BRANCH)
    landed.doit("milestone:m1").check(4)
    assert landed.statuses() == {"m1/1": "review", "m1/2": "review"}
    assert agents_called(landed) == 2
    landed.doit("retry", "m1/1").check(0)
    landed.doit("milestone:m1").check(4)
    assert agents_called(landed) == 3


def test_without_a_journal_lost_work_is_a_question_too(landed: Repo) -> None:
    landed.git("branch", "-D", BRANCH)
    shutil.rmtree(landed.path / ".cache")
    landed.doit("milestone:m1").check(4)
    assert landed.statuses() == {"m1/1": "review", "m1/2": "review"}
    assert agents_called(landed) == 0
    landed.doit("retry", "m1/1").check(0)
    landed.doit("milestone:m1").check(4)
    assert landed.statuses() == {"m1/1": "landed", "m1/2": "review"}
    assert agents_called(landed) == 1
    landed.git("branch", "-f", BRANCH, "refs/executor/landed/m1")
    assert landed.statuses() == ALL


def test_a_clone_after_a_squash_in_ones_own_words_asks_once_and_pays_nothing(landed: Repo) -> None:
    squash_in_ones_own_words(landed)
    landed.git("branch", "-D", BRANCH)
    there = cloned(landed)
    there.write("later.txt", "later\n")
    there.commit("later")
    out = there.doit("milestone:m1").check(4).out
    assert "doit accept m1/1" in out
    assert there.statuses() == {"m1/1": "review", "m1/2": "blocked"}
    there.doit("accept", "m1/1", "m1/2").check(0)
    there.doit("milestone:m1").check(0)
    assert there.statuses() == ALL
    assert agents_called(there) == 0
    squash = there.git("log", "--format=%h", "--abbrev=10", "--grep=Both files")
    assert f"landed as {squash}" in there.doit("explain", "m1/1").check(0).out
    assert there.doit("status", "--json").check(0).json["milestones"][0]["status"] == "released"


@pytest.mark.parametrize("own", [True, False])
def test_files_that_an_issue_names_and_the_base_got_since_are_asked_about(tmp_path: Path, own: bool) -> None:
    """Unless another milestone has landed them; a person's word is enough to have the work done."""
    repo = project(tmp_path / "repo", issues=issue("1", "echo done >> one.txt", files=["one.txt", "src/*"]))
    if own:
        repo.write("one.txt", "one\n")
        repo.commit("Add one")
        repo.doit("milestone:m1").check(4)
        assert repo.statuses() == {"m1/1": "review"}
        repo.doit("retry", "m1/1").check(0)
    else:
        repo.milestone("m0", issue("1", "echo one > one.txt"))
        repo.commit("m0")
        repo.doit("milestone:m0").check(0)
        repo.doit("release:m0").check(0)
    repo.doit("milestone:m1").check(0)
    assert repo.statuses("m1") == {"m1/1": "landed"}
    assert agents_called(repo) == 1


def test_two_branches_with_landings_of_their_own_are_a_question(landed: Repo) -> None:
    there = behind_another_machine(landed)
    sh(there.path, f"git checkout -q {BRANCH}; echo own > own; git add own; git commit -q -m own; git checkout -q main")
    assert there.statuses() == {"m1/1": "landed", "m1/2": "blocked"}
    there.doit("milestone:m1").check(4)
    assert agents_called(there) == 0
    sh(there.path, f"git checkout -q {BRANCH}; git merge -q -m join origin/{BRANCH}; git checkout -q main")
    assert there.statuses() == ALL


def reverted_on_the_branch(repo: Repo) -> None:
    sh(repo.path, f"git checkout -q {BRANCH}; git revert --no-edit HEAD >&2; git checkout -q main")


def reverted_after_the_release(repo: Repo) -> None:
    repo.doit("release:m1").check(0)
    repo.git("revert", "--no-edit", "-m", "1", "HEAD")


def reverted_after_a_merge_by_hand(repo: Repo) -> None:
    merged_and_branch_deleted(repo)
    repo.git("revert", "--no-edit", "-m", "1", "HEAD")


def reverted_squash(repo: Repo) -> None:
    squashed_and_branch_deleted(repo)
    repo.git("revert", "--no-edit", "HEAD")


def taken_back_in_other_words(repo: Repo) -> None:
    sh(repo.path, f"git checkout -q {BRANCH}; git revert -n HEAD; git commit -q -m 'not yet'; git checkout -q main")


def both_taken_back_in_one_commit(repo: Repo) -> None:
    sh(repo.path, f"git checkout -q {BRANCH}; git rm -q one.txt two.txt; git commit -q -m away; git checkout -q main")


def taken_back_on_the_base_in_other_words(repo: Repo) -> None:
    repo.doit("release:m1").check(0)
    sh(repo.path, "git checkout -q HEAD~1 -- . ; git rm -q one.txt two.txt; git commit -q -m 'back to before'")


REVERTS: tuple[tuple[Callable[[Repo], None], set[str]], ...] = (
    (reverted_on_the_branch, {"m1/2"}),
    (reverted_after_the_release, {"m1/1", "m1/2"}),
    (reverted_after_a_merge_by_hand, {"m1/1", "m1/2"}),
    (reverted_squash, {"m1/1", "m1/2"}),
    (taken_back_in_other_words, {"m1/2"}),
    (both_taken_back_in_one_commit, {"m1/1", "m1/2"}),
    (taken_back_on_the_base_in_other_words, {"m1/1", "m1/2"}),
)


@pytest.mark.parametrize(
    ("revert", "issues"),
    [
        pytest.param(*row, id=row[0].__name__, marks=() if place in {0, 1, 4} else (pytest.mark.campaign,))
        for place, row in enumerate(REVERTS)
    ],
)
def test_a_landing_that_was_reverted_is_stale_and_comes_back_with_a_retry(
    landed: Repo, revert: Callable[[Repo], None], issues: set[str]
) -> None:
    revert(landed)
    found = landed.doit("status", "--json").check(0).json["milestones"][0]
    assert found["status"] != "released"
    stale = {f"m1/{item['id']}": item["reason"] for item in found["issues"] if item["status"] == "stale"}
    assert stale.keys() == issues
    assert all(reason.startswith("reverted by ") for reason in stale.values())
    landed.doit("milestone:m1").check(4)
    landed.doit("release:m1").check(4)
    assert agents_called(landed) == 2
    landed.doit("retry", *sorted(issues)).check(0)
    landed.doit("milestone:m1").check(0)
    assert landed.statuses() == ALL
    landed.doit("release:m1").check(0)
    assert {"one.txt", "two.txt"} <= set(landed.git("ls-tree", "--name-only", "main").split())
    assert agents_called(landed) == 2, "the same change lands again, nobody is paid for it twice"


def test_a_revert_of_a_revert_brings_the_landing_back(landed: Repo) -> None:
    reverted_on_the_branch(landed)
    reverted_on_the_branch(landed)
    assert landed.statuses() == ALL
