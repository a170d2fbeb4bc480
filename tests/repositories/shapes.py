"""Shapes that real repositories have, as named builders: each makes a project with two issues, ready to be run.

A builder is given an empty folder and returns the project, a `Repo` whose path is the folder to work in. All of them
declare the same milestone `m1`, whose issues write `one.txt` and `two.txt`.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support import DODO, Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["BRANCH", "SHAPES", "Shape", "project", "sh"]

BRANCH = "milestone/m1-test-m1"
TWO = issue("1", "echo one > one.txt", accept=[{"run": "test -f one.txt"}]) + issue(
    "2", "echo two > two.txt", accept=[{"run": "test -f two.txt"}], needs=["1"]
)


@dataclass(frozen=True)
class Shape:
    """One shape.

    Attributes:
        name: what it is called in the tests.
        build: makes it in an empty folder.
        cheap: whether the suite has it, too; the others are in the campaign only.
        base: the branch that milestones are released to.
    """

    name: str
    build: Callable[[Path], Repo]
    cheap: bool = False
    base: str = "main"


SHAPES: dict[str, Shape] = {}


def shape(*, cheap: bool = False, base: str = "main") -> Callable[[Callable[[Path], Repo]], Callable[[Path], Repo]]:
    def add(build: Callable[[Path], Repo]) -> Callable[[Path], Repo]:
        name = build.__name__.strip("_").replace("_", "-")
        SHAPES[name] = Shape(name, build, cheap, base)
        return build

    return add


def sh(folder: Path, script: str) -> str:
    """Run a script of the user's; it has to succeed."""
    environment = {
        **os.environ,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "protocol.file.allow",
        "GIT_CONFIG_VALUE_0": "always",
    }
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def at(folder: Path) -> Repo:
    """The project in a folder that is there already."""
    repo = Repo.__new__(Repo)
    repo.path = folder
    return repo


def project(folder: Path, *, branch: str = "main", extra: str = "", issues: str = TWO) -> Repo:
    """An ordinary repository with the milestone committed."""
    repo = Repo(folder, branch=branch)
    repo.milestone("m1", extra + issues)
    repo.write("README.md", "# A project\n")
    repo.write("src/main.c", "int main(void) { return 0; }\n")
    repo.commit("the project")
    return repo


def clone(folder: Path, *options: str, of: Path | None = None) -> Repo:
    """A clone of an ordinary repository beside it."""
    origin = of or project(folder / "origin").path
    sh(origin, "git config uploadpack.allowFilter true; git config uploadpack.allowAnySHA1InWant true")
    sh(folder, f"git clone -q {' '.join(options)} 'file://{origin}' clone")
    return identified(folder / "clone")


def identified(folder: Path) -> Repo:
    sh(folder, "git config user.name Tester; git config user.email tester@example.org")
    return at(folder)


def needs_git(*least: int) -> None:
    """Skip the test where git is older."""
    words = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout.split()
    version = tuple(int(part) for part in words[2].split(".")[:2] if part.isdigit())
    if version < least:
        pytest.skip(f"git {'.'.join(map(str, least))} is not here")


# -- where the git directory is ---------------------------------------------------------------------------------------


@shape(cheap=True)
def plain(folder: Path) -> Repo:
    return project(folder / "repo")


@shape(cheap=True)
def separate_git_directory(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git init -q --separate-git-dir ../elsewhere.git")
    return repo


@shape()
def git_directory_behind_a_link(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "mv .git ../real.git; ln -s ../real.git .git")
    return repo


@shape()
def project_behind_a_link(folder: Path) -> Repo:
    project(folder / "repo")
    (folder / "link").symlink_to("repo")
    return at(folder / "link")


@shape()
def core_worktree(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, f"git init -q --separate-git-dir ../store.git; git config core.worktree '{repo.path}'")
    return repo


@shape(cheap=True)
def linked_worktree(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git checkout -q -b other; git worktree add -q ../linked main")
    return at(folder / "linked")


@shape()
def linked_worktree_on_the_branch(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, f"git worktree add -q -b {BRANCH} ../linked")
    return repo


@shape()
def worktree_that_vanished(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, f"git worktree add -q -b {BRANCH} ../gone; rm -r ../gone")
    return repo


@shape()
def bare_with_worktrees(folder: Path) -> Repo:
    origin = project(folder / "origin").path
    sh(folder, f"git clone -q --bare 'file://{origin}' store.git; git -C store.git worktree add -q ../tree main")
    return identified(folder / "tree")


@shape(cheap=True)
def bare_in_a_hidden_folder(folder: Path) -> Repo:
    origin = project(folder / "origin").path
    sh(folder, f"mkdir home; git clone -q --bare 'file://{origin}' home/.bare; echo 'gitdir: ./.bare' > home/.git")
    sh(folder / "home", "git worktree add -q main main")
    return identified(folder / "home" / "main")


@shape(cheap=True)
def checkout_of_a_submodule(folder: Path) -> Repo:
    origin = project(folder / "origin").path
    (folder / "super").mkdir()
    sh(folder / "super", "git init -q -b main; git config user.name T; git config user.email t@example.org")
    sh(folder / "super", f"git submodule --quiet add 'file://{origin}' part; git commit -q -m super")
    sh(folder / "super" / "part", "git checkout -q main")
    return identified(folder / "super" / "part")


@shape(cheap=True)
def submodule_on_the_branch(folder: Path) -> Repo:
    repo = checkout_of_a_submodule(folder)
    sh(repo.path, f"git checkout -q -b {BRANCH}")
    return repo


@shape()
def separate_git_directory_on_the_branch(folder: Path) -> Repo:
    repo = separate_git_directory(folder)
    sh(repo.path, f"git checkout -q -b {BRANCH}")
    return repo


@shape()
def checkout_of_a_submodule_with_its_own_configuration(folder: Path) -> Repo:
    """As tools leave it that use `git config --worktree`: the relative core.worktree is in the shared file."""
    repo = checkout_of_a_submodule(folder)
    sh(repo.path, "git config core.repositoryformatversion 1; git config extensions.worktreeConfig true")
    return repo


@shape()
def bare_in_dot_git_with_worktrees(folder: Path) -> Repo:
    origin = project(folder / "origin").path
    sh(folder, f"mkdir home; git clone -q --bare 'file://{origin}' home/.git")
    sh(folder / "home", "git config core.repositoryformatversion 1; git config extensions.worktreeConfig true")
    sh(folder / "home", "git worktree add -q trees/main main; git -C trees/main config --worktree core.bare false")
    return identified(folder / "home" / "trees" / "main")


@shape()
def sparse_worktree_of_a_bare_repository(folder: Path) -> Repo:
    origin = project(folder / "origin").path
    sh(folder, f"git clone -q --bare 'file://{origin}' store.git")
    sh(folder, "git -C store.git worktree add -q --no-checkout ../tree main")
    sh(folder / "tree", "git sparse-checkout set milestones rules; git checkout -q main")
    return identified(folder / "tree")


@shape()
def blobless_with_worktrees_of_their_own_configuration(folder: Path) -> Repo:
    repo = clone(folder, "--filter=blob:none")
    sh(repo.path, "git config extensions.worktreeConfig true; git worktree add -q ../linked -b other")
    return repo


@shape()
def odd_path(folder: Path) -> Repo:
    return project(folder / "a b 'ü' $HOME\n%40;#[x]")


# -- how refs and objects are kept ------------------------------------------------------------------------------------


@shape(cheap=True)
def sha256(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "rm -rf .git; git init -q -b main --object-format=sha256; git add -A")
    identified(repo.path)
    sh(repo.path, "git commit -q -m start")
    return repo


@shape()
def object_format_spelled_out(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git config core.repositoryformatversion 1; git config extensions.objectFormat sha1")
    sh(repo.path, "git remote add backup https://example.org/sha256/x.git")
    return repo


@shape()
def reftable(folder: Path) -> Repo:
    needs_git(2, 45)
    repo = project(folder / "repo")
    sh(repo.path, "rm -rf .git; git init -q -b main --ref-format=reftable; git add -A")
    identified(repo.path)
    sh(repo.path, "git commit -q -m start")
    return repo


@shape()
def packed(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git pack-refs --all; git gc -q")
    return repo


@shape(cheap=True)
def shallow(folder: Path) -> Repo:
    origin = project(folder / "origin")
    origin.commit("more")
    return clone(folder, "--depth=1", of=origin.path)


@shape()
def shallow_at_a_merge(folder: Path) -> Repo:
    origin = project(folder / "origin")
    sh(origin.path, "git checkout -q -b side; echo s > side.txt; git add side.txt; git commit -q -m side")
    sh(
        origin.path,
        "git checkout -q main; echo m > m.txt; git add m.txt; git commit -q -m m; git merge -q side -m merge",
    )
    origin.commit("after")
    return clone(folder, "--depth=2", of=origin.path)


@shape(cheap=True)
def blobless(folder: Path) -> Repo:
    return clone(folder, "--filter=blob:none")


@shape()
def treeless(folder: Path) -> Repo:
    return clone(folder, "--filter=tree:0")


@shape(cheap=True)
def blobless_and_sparse(folder: Path) -> Repo:
    repo = clone(folder, "--filter=blob:none", "--sparse")
    sh(repo.path, "git sparse-checkout set milestones rules")
    return repo


@shape()
def treeless_and_sparse(folder: Path) -> Repo:
    repo = clone(folder, "--filter=tree:0", "--sparse")
    sh(repo.path, "git sparse-checkout set milestones rules")
    return repo


@shape()
def small_blobs_only(folder: Path) -> Repo:
    origin = project(folder / "origin")
    origin.write("big.dat", "x" * 10_000)
    origin.commit("big")
    return clone(folder, "--filter=blob:limit=1k", of=origin.path)


@shape()
def shallow_and_blobless(folder: Path) -> Repo:
    origin = project(folder / "origin")
    origin.commit("more")
    return clone(folder, "--depth=1", "--filter=blob:none", of=origin.path)


@shape()
def sparse(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git sparse-checkout set milestones rules")
    return repo


@shape()
def sparse_by_patterns(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git sparse-checkout set --no-cone '/*' '!/src/'")
    return repo


@shape()
def sparse_index(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git sparse-checkout set --sparse-index milestones rules")
    return repo


@shape(cheap=True)
def borrowed_objects(folder: Path) -> Repo:
    origin = project(folder / "origin").path
    sh(folder, f"git clone -q --shared '{origin}' clone")
    return identified(folder / "clone")


@shape()
def borrowed_twice(folder: Path) -> Repo:
    origin = project(folder / "origin").path
    sh(folder, f"git clone -q --shared '{origin}' middle; git clone -q --shared middle clone")
    sh(folder, "echo ../../../middle/.git/objects > clone/.git/objects/info/alternates")
    return identified(folder / "clone")


@shape()
def replaced_commit(folder: Path) -> Repo:
    repo = project(folder / "repo")
    old = repo.git("rev-parse", "HEAD~1")
    new = sh(repo.path, f"git cat-file commit {old} | sed 's/start/begin/' | git hash-object -t commit -w --stdin")
    sh(repo.path, f"git replace {old} {new}")
    return repo


@shape()
def replaced_file(folder: Path) -> Repo:
    repo = project(folder / "repo")
    old = repo.git("rev-parse", "HEAD:README.md")
    sh(repo.path, f"git replace {old} $(echo other | git hash-object -w --stdin); git checkout -q -- README.md")
    return repo


@shape()
def grafted_history(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git rev-parse HEAD > .git/info/grafts")
    return repo


@shape()
def shared_with_a_group(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git config core.sharedRepository group; chmod -R g+w .git")
    return repo


# -- where the project is ---------------------------------------------------------------------------------------------


def sub_project(top: Path, where: str, *, milestone: str = "m1") -> Repo:
    """Another project in a folder of a repository, committed."""
    repo = at(top / where)
    repo.path.mkdir(parents=True)
    whole = at(top)
    for name in ("pyproject.toml", ".gitignore", "rules/limits.toml"):
        repo.write(name, (top / name).read_text(encoding="utf-8") if (top / name).is_file() else "")
    repo.write("dodo.py", DODO)
    repo.milestone(milestone, TWO)
    repo.write("src/app.c", "int x;\n")
    whole.commit(f"a project in {where}")
    return repo


@shape(cheap=True)
def project_in_a_folder(folder: Path) -> Repo:
    top = Repo(folder / "repo")
    top.git("rm", "-rq", "dodo.py")
    top.write("README.md", "# Many\n")
    return sub_project(top.path, "apps/web")


@shape()
def two_projects(folder: Path) -> Repo:
    top = Repo(folder / "repo")
    sub_project(top.path, "apps/api", milestone="api")
    return sub_project(top.path, "apps/web")


@shape()
def project_in_a_folder_of_a_worktree(folder: Path) -> Repo:
    top = Repo(folder / "repo")
    sub_project(top.path, "apps/web")
    sh(top.path, "git checkout -q -b other; git worktree add -q ../linked main")
    return at(folder / "linked" / "apps" / "web")


# -- the state of the checkout ----------------------------------------------------------------------------------------


@shape()
def detached(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git checkout -q --detach")
    return repo


@shape(cheap=True)
def checkout_of_the_branch(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, f"git checkout -q -b {BRANCH}")
    return repo


@shape()
def changed_files(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "echo mine >> README.md; echo staged > staged.txt; git add staged.txt; echo new > new.txt")
    return repo


@shape(cheap=True)
def changed_files_on_the_branch(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, f"git checkout -q -b {BRANCH}; echo mine >> README.md")
    return repo


@shape()
def staged_files_on_the_branch(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, f"git checkout -q -b {BRANCH}; echo staged > staged.txt; git add staged.txt")
    return repo


@shape()
def merge_in_progress_on_the_branch(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git checkout -q -b side; echo s > side.txt; git add side.txt; git commit -q -m side")
    sh(repo.path, f"git checkout -q main; git checkout -q -b {BRANCH}; git merge -q --no-ff --no-commit side")
    return repo


@shape()
def ignored_files(folder: Path) -> Repo:
    repo = project(folder / "repo")
    repo.write(".gitignore", ".cache/\n__pycache__/\n*.local\nbuild/\n")
    repo.commit("ignore")
    sh(repo.path, "echo precious > a.local; mkdir build; echo o > build/x.o")
    return repo


@shape()
def assumed_unchanged(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git update-index --assume-unchanged README.md; echo mine > README.md")
    return repo


@shape()
def lock_left_over(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "touch .git/index.lock")
    return repo


@shape()
def many_index_extensions(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git update-index --split-index --untracked-cache; git config feature.manyFiles true")
    return repo


@shape()
def hooks_that_fail(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(
        repo.path,
        "for hook in pre-commit commit-msg post-commit post-checkout reference-transaction post-merge; do "
        "printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/$hook; chmod +x .git/hooks/$hook; done",
    )
    return repo


@shape()
def line_ends_converted(folder: Path) -> Repo:
    repo = project(folder / "repo")
    repo.write(".gitattributes", "*.md text eol=crlf\n*.txt text\n")
    sh(
        repo.path,
        "git config core.autocrlf true; git add -A; git commit -q -m attributes; rm README.md; git checkout .",
    )
    return repo


@shape()
def filtered_files(folder: Path) -> Repo:
    repo = project(folder / "repo")
    repo.write(".gitattributes", "*.dat filter=up\n")
    repo.write("a.dat", "text\n")
    sh(repo.path, "git config filter.up.clean 'tr a-z A-Z'; git config filter.up.smudge 'tr A-Z a-z'")
    repo.commit("filtered")
    return repo


@shape()
def lfs_without_its_program(folder: Path) -> Repo:
    """Its filter would fail at every checkout, and so would a hook after it."""
    repo = project(folder / "repo")
    repo.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    repo.commit("attributes")
    for verb in ("process", "smudge", "clean"):
        repo.git("config", f"filter.lfs.{verb}", f"no-such-program {verb}")
    repo.git("config", "filter.lfs.required", "true")
    hook = repo.write(".git/hooks/post-checkout", "#!/bin/sh\nexit 2\n")
    hook.chmod(0o755)
    return repo


# -- branches, remotes and history ------------------------------------------------------------------------------------


@shape(base="master")
def base_called_master(folder: Path) -> Repo:
    return project(folder / "repo", branch="master")


@shape(base="trunk")
def base_called_trunk(folder: Path) -> Repo:
    return project(folder / "repo", branch="trunk", extra='base = "trunk"\n')


@shape(cheap=True)
def base_only_on_the_remote(folder: Path) -> Repo:
    origin = project(folder / "origin")
    sh(origin.path, "git branch feature")
    return clone(folder, "-b", "feature", of=origin.path)


@shape()
def ordinary_clone(folder: Path) -> Repo:
    return clone(folder)


@shape()
def single_branch_clone(folder: Path) -> Repo:
    return clone(folder, "--single-branch")


@shape()
def mirror_as_remote(folder: Path) -> Repo:
    repo = clone(folder)
    sh(repo.path, "git remote rename origin upstream; git remote add fork ../nowhere")
    return repo


@shape()
def tag_named_like_branches(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, f"git tag main; git tag {BRANCH}")
    return repo


@shape()
def branch_begun_by_the_user(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(
        repo.path,
        f"git checkout -q -b {BRANCH}; echo w > work.txt; git add work.txt; git commit -q -m w; git checkout -q main",
    )
    return repo


@shape()
def merged_histories(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(
        repo.path,
        "git checkout -q --orphan other; git rm -rfq .; echo o > o.txt; git add o.txt; git commit -q -m other",
    )
    sh(repo.path, "git checkout -q main; git merge -q --allow-unrelated-histories other -m join")
    return repo


@shape()
def submodule_inside(folder: Path) -> Repo:
    (folder / "lib").mkdir()
    sh(folder / "lib", "git init -q -b main; git config user.name T; git config user.email t@example.org")
    sh(folder / "lib", "echo lib > lib.txt; git add lib.txt; git commit -q -m lib")
    repo = project(folder / "repo")
    sh(repo.path, f"git submodule --quiet add 'file://{folder}/lib' lib; git commit -q -m lib")
    return repo


@shape()
def names_that_differ_by_case(folder: Path) -> Repo:
    repo = project(folder / "repo")
    repo.write("readme.md", "other\n")
    repo.write("ü\u0301 \n.txt", "odd\n")
    repo.commit("names")
    return repo


# -- the user's habits and accidents ----------------------------------------------------------------------------------


@shape()
def worktree_of_a_submodule(folder: Path) -> Repo:
    inner = project(folder / "inner")
    outer = project(folder / "outer")
    sh(outer.path, f"git submodule add -q {inner.path} lib; git commit -q -m sub")
    sh(identified(outer.path / "lib").path, "git worktree add -q ../../side -b side")
    return at(folder / "side")


@shape()
def branch_damaged_by_a_power_cut(folder: Path) -> Repo:
    repo = project(folder / "repo")
    (repo.path / ".git/refs/heads/torn").touch()
    sh(repo.path, "git symbolic-ref refs/remotes/origin/HEAD refs/remotes/origin/gone")
    return repo


@shape()
def refs_that_are_called_like_others(folder: Path) -> Repo:
    repo = project(folder / "repo")
    names = "refs/tags/heads/main refs/tags/main refs/heads/tags/main"
    sh(repo.path, f"for name in {names}; do git update-ref $name HEAD; done")
    for name in ("HEAD", "main", "FETCH_HEAD", "-rf", "--help", " lead", "a\nb", BRANCH):
        repo.write(name, "a file that is called like a ref or an option\n")
    repo.commit("odd names")
    return repo


@shape()
def habits_that_change_what_git_prints(folder: Path) -> Repo:
    repo = project(folder / "repo")
    habits = """merge.ff=no merge.renames=false commit.template=/none commit.cleanup=scissors
        i18n.commitEncoding=ISO-8859-1
        i18n.logOutputEncoding=ISO-8859-1 core.quotePath=false core.commentChar=; core.abbrev=4 core.safecrlf=true
        core.fileMode=false log.showSignature=true log.decorate=full log.date=relative log.follow=true
        format.pretty=oneline format.signOff=true diff.noprefix=true diff.mnemonicPrefix=true diff.external=/bin/false
        diff.renames=copies diff.submodule=log diff.ignoreSubmodules=all color.ui=always column.ui=always
        status.showUntrackedFiles=no status.short=true push.default=nothing push.followTags=true fetch.prune=true
        fetch.fsckObjects=true submodule.recurse=true rebase.autoStash=true rerere.enabled=true gc.auto=1
        tag.sort=-refname"""
    for habit in habits.split():
        sh(repo.path, "git config '{}' '{}'".format(*habit.split("=", 1)))
    return repo


@shape()
def rebase_in_progress(folder: Path) -> Repo:
    repo = project(folder / "repo")
    change = "echo {0} > README.md; git commit -q -a -m {0}"
    sh(repo.path, f"git checkout -q -b side; {change.format('side')}; git checkout -q main; {change.format('main')}")
    sh(repo.path, "git checkout -q side; git rebase main > /dev/null 2>&1 || test -d .git/rebase-merge")
    return repo


@shape()
def base_that_is_another_name(folder: Path) -> Repo:
    repo = project(folder / "repo")
    sh(repo.path, "git branch -m main trunk; git symbolic-ref refs/heads/main refs/heads/trunk")
    return repo


@shape()
def attributes_of_every_kind(folder: Path) -> Repo:
    repo = project(folder / "repo")
    repo.write(
        ".gitattributes",
        "*.txt eol=crlf text ident export-subst\n*.u16 working-tree-encoding=UTF-16LE-BOM text\n"
        "*.c merge=missing diff=foo filter=none\n*.md merge=binary -diff\n",
    )
    (repo.path / "a.u16").write_bytes("\ufeffhällo\n".encode("utf-16-le"))
    repo.write("v.txt", "$Id$ $Format:%H$\n")
    repo.commit("attributes")
    sh(repo.path, "git config diff.foo.textconv /bin/false; git config diff.foo.command /bin/false")
    sh(repo.path, "rm -f v.txt a.u16; git checkout -q -- .")
    return repo
