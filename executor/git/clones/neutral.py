"""The configuration of the executor's git directories: what they need to read and write the user's objects.

Nothing else of the user's configuration is copied: the rest may run programs or change what lands.

Partial clones: the user's git fetches objects that only the remote has, many at a time.

The executor's git directories know no remote, so git cannot fetch missing objects on its own.

Obstacles in the repository that a person must settle before a run can land anything: asked of git, read-only.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from executor.errors import ForgeUnavailableError, UnsignedError
from executor.git.checkout import identity_of, ownership_problem
from executor.git.command import Git, git_program, signer_of, users_environment
from executor.process.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from executor.git.repository import Repository


__all__ = ["Missing", "Obstacle", "copy_into", "make_neutral", "neutral_config", "obstacles"]


_FOLLOWED = ("shallow", "info/grafts")
"""Files with the boundaries of history; the executor's git directories follow the user's current ones."""


_ATTRIBUTES = "* -text -filter -ident -working-tree-encoding -export-subst !eol !diff !merge\n"


def make_neutral(repository: Repository, folder: Path, union: Iterable[str] = ()) -> None:
    """Make a neutral git directory, or mend it: a power cut may have left empty files.

    Args:
        repository: the user's.
        folder: of the git directory.
        union: globs of files in which a merge keeps the lines of both sides.
    """
    attributes = _ATTRIBUTES + "".join(f"{_quoted(glob)} merge=union\n" for glob in union)
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "info").mkdir(exist_ok=True)
    files = {"HEAD": "ref: refs/heads/none\n", "config": neutral_config(repository), "info/attributes": attributes}
    contents = {name: os.fsencode(text) for name, text in files.items()}
    for name, data in {**contents, "packed-refs": replacements(repository)}.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data, durable=False)
    follow(repository, folder)


def _quoted(glob: str) -> str:
    """A glob as a pattern of git's attributes, from the top of the repository if it has a slash."""
    rooted = f"/{glob.lstrip('/')}" if "/" in glob else glob
    return '"' + rooted.replace("\\", "\\\\").replace('"', '\\"') + '"'


@cache
def neutral_config(repository: Repository) -> str:
    """Return a git configuration with the object format and the sharing mode; cached."""
    git = Git(repository.common_dir, repository.common_dir)
    form = git.run("rev-parse", "--show-object-format").decode().strip()
    code, output, _ = git.call("config", "--get", "core.sharedRepository")
    shared = output.decode("utf-8", "replace").strip() if code == 0 else ""
    lines = ["[core]", f"\trepositoryformatversion = {0 if form == 'sha1' else 1}", "\tbare = false"]
    if shared.isalnum():
        lines.append(f"\tsharedRepository = {shared}")
    if form != "sha1":
        lines += ["[extensions]", f"\tobjectFormat = {form}"]
    return "\n".join(lines) + "\n"


def replacements(repository: Repository) -> bytes:
    """Return the user's replace refs as a packed-refs file; empty without any."""
    if not _may_replace(repository.common_dir):
        return b""
    git = Git(repository.common_dir, repository.common_dir)
    listed = git.run("for-each-ref", "--format=%(objectname) %(refname)", "--", "refs/replace/")
    return b"# pack-refs with: peeled fully-peeled sorted \n" + listed if listed else b""


def _may_replace(common_dir: Path) -> bool:
    """Return whether there may be replace refs; every agent's repository asks."""
    folder, packed = common_dir / "refs" / "replace", common_dir / "packed-refs"
    if (common_dir / "reftable").exists() or (folder.is_dir() and any(folder.iterdir())):
        return True
    try:
        seen = packed.stat()
    except FileNotFoundError:
        return False
    return _packed_replacement(packed, (seen.st_mtime_ns, seen.st_size, seen.st_ino))


@lru_cache(maxsize=8)
def _packed_replacement(packed: Path, _state: tuple[int, ...]) -> bool:
    return b" refs/replace/" in packed.read_bytes()


def follow(repository: Repository, git_dir: Path) -> None:
    """Link the user's files of `_FOLLOWED` into a git directory of the executor, existing or not."""
    for name in _FOLLOWED:
        link, target = git_dir / name, repository.common_dir / name
        if not (link.is_symlink() and link.readlink() == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def copy_into(repository: Repository, git_dir: Path) -> None:
    """Copy them instead, for a git directory that cannot see the user's."""
    for name in _FOLLOWED:
        source = repository.common_dir / name
        if source.is_file():
            (git_dir / name).parent.mkdir(exist_ok=True)
            (git_dir / name).write_bytes(source.read_bytes())
    packed = replacements(repository)
    if packed:
        (git_dir / "packed-refs").write_bytes(packed)


_ROUNDS = 20
_NEGOTIATION = ("-c", "fetch.negotiationAlgorithm=noop", "-c", "core.hooksPath=/dev/null")


class Missing:
    """Fetches the objects that a partial clone lacks."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._git = Git(repository.common_dir, repository.common_dir)
        self._whole: set[str] = set()
        self.remote = self._promisor()
        """Name of the remote with all objects; empty if the repository is no partial clone."""

    def fill(self, commits: Iterable[str]) -> bool:
        """Fetch all missing objects of the trees of these commits; returns whether any were missing.

        Raises:
            ForgeUnavailableError: the remote does not deliver them.
        """
        fetched = False
        for commit in commits if self.remote else ():
            code, output, _ = self._git.call("log", "-1", "--format=%T", "--end-of-options", commit, "--")
            tree = output.decode().strip() if code == 0 and output.strip() else commit
            if tree not in self._whole:
                fetched = self._fill(tree) or fetched
                self._whole.add(tree)
        return fetched

    def _fill(self, tree: str) -> bool:
        missing: list[str] = []
        for count in range(_ROUNDS):
            missing = self._missing(tree)
            if not missing:
                return count > 0
            self._fetch(missing)
        raise ForgeUnavailableError(f"{self.remote} does not give {len(missing)} objects of {tree}: {missing[0]}, ...")

    def _missing(self, tree: str) -> list[str]:
        """Return the missing objects of a tree; objects below a missing tree are not known yet."""
        if self._git.call("cat-file", "-e", tree)[0] != 0:
            return [tree]
        output = self._git.run("rev-list", "--objects", "--missing=print", tree, "--").decode("utf-8", "replace")
        return [line[1:] for line in output.splitlines() if line.startswith("?")]

    def _fetch(self, names: list[str]) -> None:
        wanted = ("--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none", "--stdin")
        done = subprocess.run(
            [git_program(), *_NEGOTIATION, "fetch", "--quiet", self.remote, *wanted],
            input="".join(f"{name}\n" for name in names).encode(),
            capture_output=True,
            check=False,
            cwd=self._repository.top,
            env=users_environment(),
        )
        if done.returncode != 0:
            words = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise ForgeUnavailableError(
                f"this is a partial clone, and {len(names)} objects that are needed are only on {self.remote}, which "
                f"does not give them ({words}); nothing was begun: see that `git fetch {self.remote}` works, run again"
            )

    def _promisor(self) -> str:
        code, output, _ = self._git.call("config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$")
        lines = output.decode("utf-8", "surrogateescape").splitlines() if code == 0 else []
        pairs = dict(line.split(" ", 1) for line in lines if " " in line)
        given = [key for key, value in pairs.items() if key.endswith(".promisor") and value == "true"]
        names = [key[len("remote.") : -len(".promisor")] for key in given]
        return names[0] if names else pairs.get("extensions.partialclone", "")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A condition that a person must settle first.

    Attributes:
        kind: ``repository-owner``, ``repository-bare``, ``unsigned`` or ``dodo-unconnected``.
        text: the condition.
        todo: the remedy.
    """

    kind: str
    text: str
    todo: str

    def __str__(self) -> str:
        return f"{self.text}: {self.todo}"


def obstacles(repository: Repository, *, unsigned: bool, tags: bool) -> list[Obstacle]:
    """Return all obstacles to every run.

    Args:
        repository: the user's repository.
        unsigned: the rules let commits and tags land without a signature.
        tags: a milestone declares a tag.
    """
    if ownership_problem(repository.top):
        text = f"{repository.top} belongs to another user, and git refuses to work in it"
        return [Obstacle("repository-owner", text, f"git config --global --add safe.directory {repository.top}")]
    if _is_bare(repository):
        text = f"{repository.top} has files checked out, but git takes it for a bare repository (core.bare is true)"
        linked = repository.git_dir != repository.common_dir
        where = " --worktree" if linked else ""
        return [Obstacle("repository-bare", text, f"git -C {repository.top} config{where} core.bare false")]
    signer = None if unsigned else signer_of(repository, identity_of(repository))
    if signer is None or not (signer.commits or tags):
        return []
    try:
        signer.sign(b"Can this key sign without a prompt?\n")
    except UnsignedError as error:
        keys = [key for key, wanted in (("commit.gpgsign", signer.commits), ("tag.gpgsign", signer.tags)) if wanted]
        text = f"{' and '.join(keys)} is set in git's configuration, but nothing can be signed here: {error}"
        todo = (
            "unlock the key so that it signs without a prompt (ssh-add, gpg-agent), switch signing off here, or write "
            'unsigned_landing = "allow" into rules/limits.toml to land without signatures'
        )
        return [Obstacle("unsigned", text, todo)]
    return []


def _is_bare(repository: Repository) -> bool:
    """Whether git refuses to work in the checkout; other tools' worktrees are known to set that by mistake.

    Such a checkout cannot follow its branch. Once it works again, its next commit would undo what landed meanwhile.
    """
    done = subprocess.run(
        [git_program(), "rev-parse", "--is-bare-repository"],
        capture_output=True,
        text=True,
        check=False,
        cwd=repository.top,
        env=users_environment(),
    )
    return done.stdout.strip() == "true"
