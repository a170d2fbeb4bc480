"""A fresh checkout has what the user's has: files of submodules, contents kept by Git LFS."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.repositories.shapes import BRANCH, clone, project, sh, submodule_inside
from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


def declare(repo: Repo, *issues: str) -> Repo:
    repo.milestone("m1", "".join(issues))
    repo.commit("declare")
    return repo


def test_the_files_of_a_submodule_are_there_for_agents_and_checks(tmp_path: Path) -> None:
    repo = declare(
        submodule_inside(tmp_path), issue("1", "cp lib/lib.txt seen", accept=[{"run": "test -f lib/lib.txt"}])
    )
    link = repo.git("rev-parse", "HEAD:lib")
    repo.doit("milestone:m1").check(0)
    assert repo.git("show", f"{BRANCH}:seen") == "lib"
    assert repo.git("rev-parse", f"{BRANCH}:lib") == link


def test_submodules_of_submodules_are_filled_and_follow_their_commit(tmp_path: Path) -> None:
    repo = submodule_inside(tmp_path)
    user = "git config user.name T; git config user.email t@example.org"
    sh(tmp_path, f"git init -q -b main deep; cd deep; {user}; echo deep > deep.txt; git add .; git commit -q -m deep")
    sh(repo.path / "lib", f"{user}; git submodule --quiet add 'file://{tmp_path}/deep' in; echo newer > lib.txt")
    sh(repo.path / "lib", "git add -A; git commit -q -m newer")
    repo.git("add", "lib")
    declare(repo, issue("1", "cat lib/lib.txt lib/in/deep.txt > seen"))
    repo.doit("milestone:m1").check(0)
    assert repo.git("show", f"{BRANCH}:seen").split() == ["newer", "deep"]


def test_a_change_of_a_submodules_file_is_refused_by_name(tmp_path: Path) -> None:
    repo = declare(submodule_inside(tmp_path), issue("1", "echo x >> lib/lib.txt; echo a > a"))
    out = repo.doit("milestone:m1").out
    assert "lib/lib.txt is in a submodule" in out
    assert repo.statuses() == {"m1/1": "failed"}


def test_a_submodule_that_the_user_does_not_have_is_named(tmp_path: Path) -> None:
    repo = clone(tmp_path, of=submodule_inside(tmp_path).path)
    declare(repo, issue("1", "echo a > a"))
    found = {item["kind"]: item for item in repo.doit("doctor", "--json").json}
    assert "git submodule update --init lib" in found["not-in-checkouts"]["todo"]
    repo.doit("milestone:m1").check(0)


def test_checks_see_nothing_of_what_an_agent_left_in_the_folder_that_both_use(tmp_path: Path) -> None:
    """The agent's result has one file; everything else that it did to its tree is gone when it is judged."""
    repo = project(tmp_path / "repo", issues="")
    repo.write(".gitignore", ".cache/\n__pycache__/\nbuild/\n")
    repo.write("src/keep.sh", "echo kept\n")
    left = (
        "mkdir -p build lib; echo x > build/x; echo x > .git/hooks-were-here; chmod 500 src; chmod 755 src/keep.sh; "
        "chmod 644 src/keep.sh; touch -d '2001-01-01' src/keep.sh; git init -q .git/own; echo one > one.txt"
    )
    clean = "test ! -e build && test ! -e .git && test ! -e lib && test -w src && test $(sh src/keep.sh) = kept"
    failing = issue("3", "exit 3")  # a complete milestone keeps no folder
    declare(
        repo,
        issue("1", left, accept=[{"run": f"{clean} && test -f one.txt"}]),
        issue("2", "echo two > two.txt"),
        failing,
    )
    repo.doit("milestone:m1", "-n", "1").check(1)
    assert repo.git("diff", "--name-only", "main", BRANCH).split() == ["one.txt", "two.txt"]
    slots = list((repo.path / ".cache" / "m1" / "workspaces").iterdir())
    assert [(slot / "tree").is_dir() and not (slot / "check").exists() for slot in slots] == [True]


@pytest.fixture
def lfs(tmp_path: Path) -> Repo:
    """Two files under LFS; the user has the content of the first."""
    repo = project(tmp_path / "repo")
    data = b"large content\n"
    name = hashlib.sha256(data).hexdigest()
    repo.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    repo.write("a.bin", POINTER.format(name, len(data)))
    repo.write("b.bin", POINTER.format("0" * 64, 5))
    repo.commit("lfs")
    store = repo.path / ".git" / "lfs" / "objects" / name[:2] / name[2:4]
    store.mkdir(parents=True)
    (store / name).write_bytes(data)
    (repo.path / "a.bin").write_bytes(data)
    return repo


def test_lfs_contents_are_there_and_stay_pointers_in_what_lands(lfs: Repo) -> None:
    declare_only(lfs, issue("1", "cp a.bin seen.txt", accept=[{"run": "grep -q large a.bin"}]))
    pointer = lfs.git("rev-parse", "HEAD:a.bin")
    lfs.doit("milestone:m1").check(0)
    assert lfs.git("show", f"{BRANCH}:seen.txt") == "large content"
    assert lfs.git("rev-parse", f"{BRANCH}:a.bin") == pointer
    found = {item["kind"]: item for item in lfs.doit("doctor", "--json").json}
    assert "git lfs fetch" in found["not-in-checkouts"]["todo"]


@pytest.mark.parametrize(
    ("run", "landed"),
    [
        ("echo new > a.bin", False),
        ("echo new > c.bin", False),
        ("cp b.bin c.bin", True),
        ("rm a.bin", True),
        ("echo a > plain.txt", True),
    ],
)
def test_raw_bytes_do_not_land_where_a_pointer_belongs(lfs: Repo, run: str, landed: bool) -> None:
    declare_only(lfs, issue("1", run))
    out = lfs.doit("milestone:m1").out
    assert lfs.statuses() == {"m1/1": "landed" if landed else "failed"}
    assert ("is under filter=lfs" in out) is not landed


def declare_only(repo: Repo, *issues: str) -> None:
    """Commit the plan alone: `git add -A` would take the content for the pointer."""
    repo.milestone("m1", "".join(issues))
    repo.git("add", "milestones")
    repo.git("commit", "-qm", "declare")
