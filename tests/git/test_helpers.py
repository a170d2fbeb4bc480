"""Helpers of git answer as a new process of git would, whatever others do to the repository meanwhile."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from executor.errors import GitError
from executor.git.checkout import Checkouts
from executor.git.command import Identity, commit_bytes, find_repository
from executor.git.objects import Store
from executor.git.refs import Move, Refs
from executor.git.repair import sweep
from executor.git.trailers import plain_trailers
from executor.git.worktrees import ImportLimits, Workspace
from tests.repositories.shapes import project, sh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support import Repo

REF = "refs/heads/milestone/m"
MARK = "refs/executor/ahead/m"
WHO = Identity("Ann Example", "ann@example.org")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return project(tmp_path / "repo")


@pytest.fixture
def refs(repo: Repo) -> Iterator[Refs]:
    found = Refs(find_repository(repo.path), WHO, lasting=True)
    yield found
    found.close()


@pytest.fixture
def store(repo: Repo, tmp_path: Path) -> Iterator[Store]:
    found = Store(find_repository(repo.path), tmp_path / "store")
    yield found
    found.close()


@pytest.mark.parametrize(
    "moved",
    [
        f"git update-ref {REF} HEAD",
        f"git pack-refs --all --prune; git update-ref {REF} HEAD; git pack-refs --all --prune",
        f"git update-ref {REF} HEAD~1; git pack-refs --all; git update-ref {REF} HEAD",
        f"git update-ref {REF} HEAD; git repack -adq; git prune-packed; git gc -q",
        f"git symbolic-ref {REF} refs/heads/main",
        "git commit -q --allow-empty -m more; git branch -f milestone/m HEAD; git reset -q --hard HEAD~1; exit 0",
    ],
)
def test_a_ref_that_another_process_moved_is_seen(repo: Repo, refs: Refs, moved: str) -> None:
    repo.commit("second")
    assert refs.tip(REF) is None
    assert refs.tips([REF, MARK]) == {}
    sh(repo.path, moved)
    there = repo.git("rev-parse", REF)
    assert refs.tip(REF) == there
    assert refs.tips([REF, MARK]) == {REF: there}
    sh(repo.path, f"git symbolic-ref -d {REF} 2> /dev/null || git update-ref -d {REF}; git pack-refs --all")
    assert refs.tip(REF) is None
    assert refs.tips([REF, MARK]) == {}


def test_a_branch_whose_commit_is_missing_is_not_taken_for_a_deleted_one(repo: Repo, refs: Refs) -> None:
    broken = repo.path / ".git" / REF
    broken.parent.mkdir(parents=True)
    broken.write_text("1" * 40 + "\n")
    assert refs.tips([REF, MARK]) == {REF: "1" * 40}
    assert refs.tip(REF) is None


def test_the_lock_of_a_killed_git_is_removed_while_helpers_live(repo: Repo, refs: Refs, store: Store) -> None:
    tree = store.tree_of(repo.git("rev-parse", "HEAD"))
    store.diff(tree, store.files_tree({"one": b"1\n"}))
    assert refs.tip("refs/heads/main")
    lock = repo.path / ".git" / "refs" / "attempts" / "m" / "1.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert sweep(find_repository(repo.path), ["refs/attempts/m/"], objects=True) == ["refs/attempts/m/1.lock"]


def test_moves_are_compare_and_swap_and_whole(repo: Repo, refs: Refs) -> None:
    old, new = repo.git("rev-parse", "HEAD"), repo.commit("second")
    other = "refs/attempts/m/1/1"
    assert refs.move([Move(MARK, None, old)], "create")
    assert not refs.move([Move(MARK, None, new)], "it exists")
    assert not refs.move([Move(other, None, new), Move(MARK, new, old)], "another value, and nothing of it")
    assert refs.tip(other) is None
    assert refs.move([Move(other, None, new), Move(MARK, old, new)], "both")
    assert refs.move([Move(other, new, None), Move(MARK, "", old)], "one away, one whatever it was")
    assert (refs.tip(other), refs.tip(MARK)) == (None, old)
    assert not list((repo.path / ".git").rglob("*.lock"))


@pytest.mark.parametrize(
    ("name", "email", "when", "message", "plain"),
    [
        ("Ann Example", "ann@example.org", 1_700_000_000, "title\n\nKey: value\n", True),
        ("Jürgen Ölçek", "j@example.org", 1_700_000_000, "Größe \u2026 \U0001f600\n", True),
        ("O'Neil, J. (x)", "a+b@localhost", 1_700_000_000, "no line end", True),
        ("Ann Example", "ann@example.org", 1_700_000_000, "", True),
        ("Ann <x> Example", "ann@example.org", 1_700_000_000, "t\n", False),
        ("Ann Example Jr.", "ann@example.org", 1_700_000_000, "t\n", False),
        ("  Ann", "ann@example.org ", 1_700_000_000, "t\n", False),
        ("Ann", "ann@example.org", 123_456_789, "t\n", False),
        ("Ann", "ann@example.org", 1_700_000_000, "not a character \ufdd0 \U0001ffff\n", False),
    ],
)
def test_a_commit_is_the_one_that_git_commit_tree_makes(
    repo: Repo, store: Store, name: str, email: str, when: int, message: str, plain: bool
) -> None:
    tree, parent, who = repo.git("rev-parse", "HEAD^{tree}"), repo.git("rev-parse", "HEAD"), Identity(name, email)
    assert bool(commit_bytes(tree, [parent], message.encode(), who, when)) is plain
    extra = {
        **{
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in (("NAME", name), ("EMAIL", email), ("DATE", f"{when} +0000"))
        },
    }
    folder = repo.path / ".git"
    (folder / "message").write_text(message, encoding="utf-8")
    words = " ".join(
        f"{key}='{value.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'" for key, value in extra.items()
    )
    expected = sh(folder, f"{words} git commit-tree {tree} -p {parent} < message")
    assert store.commit(tree, [parent], message, who, when) == expected
    assert repo.git("cat-file", "-t", expected) == "commit"


@pytest.mark.parametrize(
    "message",
    [
        "title\n\nbody\n\nMilestone: m\nIssue: 4\n",
        "title\n\nMilestone: m\n  continued\nIssue: 4\n",
        "title\n\nnot one\nMilestone: m\nIssue: 4\nNext: 5\n",
        "Milestone: m\n",
        "title\n\nMilestone: m \n\n\n",
        "title\n \nMilestone: m\n",
        "title\n\nMilestone:m\nIssue : 4\n",
        "title\n\n(cherry picked from commit 1)\nMilestone: m\n",
        "title\n\nMilestone: m\n# a comment\n",
    ],
)
def test_trailers_are_those_that_git_finds(repo: Repo, store: Store, refs: Refs, message: str) -> None:
    commit = store.commit(repo.git("rev-parse", "HEAD^{tree}"), [], message, WHO, 1_700_000_000)
    told = repo.git("log", "-1", "--format=%(trailers:only,unfold)", commit)
    plain = plain_trailers(sh(repo.path, f"git cat-file commit {commit}; printf .")[:-1].encode())
    assert plain in {None, told.strip()}
    alone = Refs(find_repository(repo.path))
    assert refs.trailers(commit) == alone.trailers(commit)


LEFT = {
    "untracked file": "echo x > new",
    "untracked folder": "mkdir -p a/b/c; echo x > a/b/c/new; echo y > src/new",
    "ignored file": "echo '*.log' > .gitignore; echo x > x.log",
    "folder in place of a file": "rm README.md; mkdir README.md; echo x > README.md/x",
    "file in place of a folder": "rm -r src; echo x > src",
    "link in place of a folder": "rm -r src; ln -s / src",
    "link in place of a file": "rm README.md; ln -s /etc/passwd README.md",
    "dangling link": "ln -s nowhere new",
    "nested repository": "git init -q nested; git init -q src; echo x > nested/x",
    "empty folders": "mkdir -p one/two src/three",
    "odd names": "touch 'with space' \"$(printf 'a\\nb')\" \"$(printf '\\377')\" -- -rf",
    "read-only folder": "mkdir shut; touch shut/x; chmod 500 shut",
    "pipe": "mkfifo pipe; rm README.md; mkfifo README.md",
    "deep": 'd=.; for i in $(seq 300); do d=$d/d; done; mkdir -p "$d"',
}


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("next_tree", ["same", "other"])
def test_a_folder_is_cleaned_as_git_cleans_it(
    repo: Repo, store: Store, tmp_path: Path, left: str, next_tree: str
) -> None:
    first = repo.git("rev-parse", "HEAD^{tree}")
    for command in (
        "git rm -qr milestones; mkdir new; echo 1 > new/one; echo 2 > with",
        "git add -A; git commit -qm other",
    ):
        sh(repo.path, command)
    tree = first if next_tree == "same" else repo.git("rev-parse", "HEAD^{tree}")
    folder, index = tmp_path / "tree", tmp_path / "index"
    folder.mkdir()
    store.checkout(first, index, folder)
    sh(folder, LEFT[left])
    if os.geteuid() != 0:
        sh(folder, "chmod -R u+rwx .")
    store.clean(tree, index, folder, ())
    store.checkout(tree, index, folder)
    (tmp_path / "fresh").mkdir()
    store.checkout(tree, tmp_path / "fresh-index", tmp_path / "fresh")
    assert content_of(folder) == content_of(tmp_path / "fresh")


def content_of(folder: Path) -> dict[str, str]:
    """Everything in a folder: the content of files, the targets of links, and the kind of anything else."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_text()
        if path.is_file()
        else str(path.lstat().st_mode)
        for path in sorted(folder.rglob("*"))
    }


def test_worktrees_are_looked_up_again_once_one_of_them_changes(repo: Repo, tmp_path: Path) -> None:
    looked = Checkouts(find_repository(repo.path))
    branch = "refs/heads/side"
    repo.git("branch", "side")
    assert looked.of(branch) == looked.of(branch) == []
    place = tmp_path / "linked"
    repo.git("worktree", "add", "-q", str(place), "side")
    assert [item.top for item in looked.of(branch)] == [place]
    sh(place, "git checkout -q --detach")
    assert looked.of(branch) == []
    sh(place, "git checkout -q side")
    assert [item.top for item in looked.of(branch)] == [place]
    shutil.move(place, tmp_path / "moved")
    sh(repo.path, f"git worktree repair {tmp_path / 'moved'}")
    assert [item.top for item in looked.of(branch)] == [tmp_path / "moved"]
    repo.git("worktree", "remove", "--force", str(tmp_path / "moved"))
    assert looked.of(branch) == []
    repo.git("symbolic-ref", "refs/heads/alias", branch)
    repo.git("symbolic-ref", "HEAD", "refs/heads/alias")
    assert [item.top for item in looked.of(branch)] == [repo.path]
    repo.git("symbolic-ref", "HEAD", "refs/heads/main")
    repo.git("symbolic-ref", branch, "refs/heads/main")
    assert [item.top for item in looked.of(branch)] == [repo.path]


def test_an_answer_is_kept_for_a_full_id_only(repo: Repo, store: Store, refs: Refs, tmp_path: Path) -> None:
    first, tree = repo.git("rev-parse", "HEAD"), repo.git("rev-parse", "HEAD^{tree}")
    missing = "0" * len(tree)
    with pytest.raises(GitError):
        store.tree_of(missing)
    assert store.tree_of(first) == store.tree_of(tree) == store.tree_of(first) == tree
    assert refs.tip("refs/heads/main") == first
    repo.write("later.txt", "later\n")
    second = repo.commit("later")
    assert refs.tip("refs/heads/main") == second
    assert store.parent_of(second) == first
    assert store.blob(second, "later.txt") == b"later\n"
    assert not store.has_path(tree, "later.txt")
    (tmp_path / "folder").mkdir()
    store.clean(tree, tmp_path / "index", tmp_path / "folder", ())  # reads the tree: its paths are known from now on
    assert not store.has_path(tree, "later.txt")
    assert store.has_path(tree, "")
    assert store.blob(tree, "README.md") == (repo.path / "README.md").read_bytes()
    (repo.path / ".git" / "objects" / second[:2] / second[2:]).unlink()
    assert store.commit(tree, [first], "m\n\nA: b\n", WHO, 1_700_000_000)
    with pytest.raises(GitError):
        store.commit(tree, [second], "m\n\nA: b\n", WHO, 1_700_000_000)


NAMES = ("a.txt", "src/one.py", "src/deep/two.py", "src/deep/more/three.py", "other/x", "new", "new/inside", "src-2")


def test_a_tree_made_of_a_few_files_is_the_one_that_git_makes(repo: Repo, store: Store, tmp_path: Path) -> None:
    for name in ("src/one.py", "src/deep/two.py", "src/kept.py", "other/x", "a.txt", "src.txt"):
        repo.write(name, f"{name}\n")
    (repo.path / "link").symlink_to("a.txt")
    (repo.path / "src/kept.py").chmod(0o755)
    repo.commit("files")
    base, chance = repo.git("rev-parse", "HEAD^{tree}"), random.Random(7)  # noqa: S311  (no secret)
    work = Workspace(tmp_path / "work" / "tree", tmp_path / "work" / "tree.index")
    (tmp_path / "work").mkdir()
    (tmp_path / "excludes").write_text("")
    limits = ImportLimits(100, 10**6, 10**6)
    made = 0
    for _ in range(40):
        work.prepare(store, base)
        for name in chance.sample(NAMES, chance.randint(0, 4)):
            _change(work.folder / name, chance)
        paths = store.index(work.index, work.folder).touched(tmp_path / "excludes", own_rules=True).paths
        ours, git = store.tree_with(base, work.folder, paths), store.index(work.index, work.folder).write_tree(paths)
        assert ours in {git, ""}, paths
        assert work.result(store, tmp_path / "excludes", (), limits, base) == git
        made += bool(ours)
    assert made >= 20


@pytest.mark.parametrize(
    "change",
    [
        "ln -s README.md odd",
        "mkdir -p .hidden && echo x > .hidden/file",
        "rm README.md && mkdir README.md && echo x > README.md/file",
        "echo x > 'with space'",
        "echo x > GIT~1",
        "head -c 2000000 /dev/zero > large",
        "for n in $(seq 60); do echo $n > file$n; done",
    ],
)
def test_git_makes_the_tree_of_anything_but_a_few_plain_files(
    repo: Repo, store: Store, tmp_path: Path, change: str
) -> None:
    base = repo.git("rev-parse", "HEAD^{tree}")
    work = Workspace(tmp_path / "work" / "tree", tmp_path / "work" / "tree.index")
    (tmp_path / "work").mkdir()
    (tmp_path / "excludes").write_text("")
    work.prepare(store, base)
    sh(work.folder, change)
    paths = store.index(work.index, work.folder).touched(tmp_path / "excludes", own_rules=True).paths
    assert paths
    assert store.tree_with(base, work.folder, paths) == ""


def _change(path: Path, chance: random.Random) -> None:
    """Write, remove, or make executable; a file in the way becomes a folder and a folder a file."""
    kind = chance.choice(["write", "write", "remove", "mode"])
    if kind == "write":
        if path.is_dir():
            shutil.rmtree(path)
        for parent in path.parents:
            if parent.is_file():
                parent.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{chance.random()}\n")
    elif path.is_file():
        path.unlink() if kind == "remove" else path.chmod(0o755)
