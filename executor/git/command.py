"""Run git safely: an environment built from scratch, explicit directories, plumbing only.

Every call names its git directory and reads no configuration that an agent could have written; the settings are those
of ARCHITECTURE.md ("git calls"). Acknowledged objects and refs survive a power cut (`core.fsync=committed`).

Signatures use the user's key, if the user's git is configured to sign. The repository's configuration may name the key,
but a program that it names is never run. A key that would prompt is refused, since no one answers at night.
`find_repository` runs no git at all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from executor.errors import ExecutorError, GitError, GitKilledError, RepositoryError, StateFullError, UnsignedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Git",
    "Identity",
    "Repository",
    "Signer",
    "commit_bytes",
    "find_repository",
    "git_directory",
    "git_failed",
    "git_program",
    "git_version",
    "safe_environment",
    "signer_of",
    "ssh_signature",
    "users_environment",
    "with_signature",
]


@dataclass(frozen=True, slots=True)
class Repository:
    """The paths of the trusted repository.

    Attributes:
        top: the user's checkout.
        git_dir: the git directory of that checkout; for a linked worktree, its own.
        common_dir: the directory with objects and refs, shared by all worktrees.
    """

    top: Path
    git_dir: Path
    common_dir: Path

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.common_dir / "objects"


def find_repository(start: Path) -> Repository:
    """Find the repository that contains `start` (a folder).

    Raises:
        RepositoryError: there is none, or it is bare.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        dot_git = folder / ".git"
        if dot_git.is_dir():
            return Repository(folder, dot_git, _common(dot_git))
        if dot_git.is_file():
            git_dir = _pointed(dot_git)
            return Repository(folder, git_dir, _common(git_dir))
        if _looks_bare(folder):
            raise RepositoryError(
                f"{folder} is a bare repository, expected a checkout with milestones/; clone it and run there"
            )
    elsewhere = os.environ.get("GIT_DIR")
    todo = "run `git init`, commit, then `doit init`"
    if elsewhere:
        todo = f"GIT_DIR is ignored: write `gitdir: {elsewhere}` into a file .git at the top of the checkout"
    raise RepositoryError(f"{start} is not in a git repository; {todo}")


def git_directory(dot_git: Path) -> Path | None:
    """Return the git directory that a `.git` is or names; None if it is neither."""
    if dot_git.is_dir():
        return dot_git
    try:
        return _pointed(dot_git) if dot_git.is_file() else None
    except RepositoryError:
        return None


def _pointed(dot_git: Path) -> Path:
    text = dot_git.read_text(encoding="utf-8").strip()
    if not text.startswith("gitdir:"):
        raise RepositoryError(f"{dot_git}: expected a line `gitdir: ...`, found {text[:40]!r}")
    return (dot_git.parent / text.removeprefix("gitdir:").strip()).resolve()


def _common(git_dir: Path) -> Path:
    pointer = git_dir / "commondir"
    if pointer.is_file():
        return (git_dir / pointer.read_text(encoding="utf-8").strip()).resolve()
    return git_dir


def _looks_bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()


OLDEST = (2, 38)
"""The first git with `merge-tree --write-tree`."""

_VERSION = re.compile(rb"git version ([0-9]{1,9}(?:\.[0-9]{1,9})*)")
_TOO_NEW = ("unknown repository extension", "Expected git repo version")
_NO_SPACE = ("No space left on device", "Disk quota exceeded", "File too large")

_SETTINGS = {
    "core.fsync": "committed",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.autocrlf": "false",
    "core.logAllRefUpdates": "true",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "diff.ignoreSubmodules": "all",
    "fetch.fsckObjects": "true",
    "transfer.bundleURI": "false",
    "protocol.allow": "never",
    "safe.bareRepository": "explicit",
    "credential.helper": "",
}


@cache
def git_program() -> str:
    """Return the absolute path of git.

    Raises:
        RepositoryError: git is not installed.
    """
    path = shutil.which("git", path=os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"))
    if path is None:
        raise RepositoryError("git is not on PATH; install git 2.38 or newer")
    return os.path.realpath(path) if not path.startswith("/") else path


@cache
def git_version() -> tuple[int, ...]:
    """Return the version of git, for example (2, 39, 5).

    Raises:
        RepositoryError: git is not installed.
        GitError: `git --version` fails.
    """
    program = git_program()
    try:
        done = subprocess.run([program, "version"], capture_output=True, check=False)
    except OSError as error:
        raise GitError(f"{program} does not start: {error.strerror}") from error
    output = _VERSION.match(done.stdout)
    if output is None:
        raise GitError(f"{program} does not report its version (exit {done.returncode})")
    return tuple(int(part) for part in output[1].split(b"."))


@cache
def safe_environment() -> Mapping[str, str]:
    """Return the complete environment of a git call; it inherits only the path to git's programs."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PAGER": "cat",
        "GIT_EDITOR": "false",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    }
    for place, (key, value) in enumerate(_SETTINGS.items()):
        environment[f"GIT_CONFIG_KEY_{place}"] = key
        environment[f"GIT_CONFIG_VALUE_{place}"] = value
    return environment


def users_environment() -> dict[str, str]:
    """Return the user's environment for git calls on the user's checkout, without any GIT_ variable."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}


def git_failed(command: str, words: str) -> ExecutorError:
    """Return the error that git's message indicates."""
    if any(text in words for text in _NO_SPACE):
        return StateFullError(f"git {command}: {words}; nothing is lost; free some space and run again")
    if any(text in words for text in _TOO_NEW):
        message = " ".join(words.removeprefix("fatal: ").split())
        return RepositoryError(f"this repository needs a newer git ({message}): install it, {git_program()} is too old")
    return GitError(f"git {command}: {words}")


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a committer: name and mail address from the user's git configuration."""

    name: str
    email: str


class Git:
    """Runs git commands on one git directory.

    Args:
        git_dir: explicit git directory; never discovered.
        cwd: working directory of the commands, a folder that no agent writes to.
        extra: further environment, for example the object store or the identity.
    """

    def __init__(self, git_dir: Path, cwd: Path, extra: Mapping[str, str] | None = None) -> None:
        self._cwd = cwd
        self._environment = {**safe_environment(), "GIT_DIR": str(git_dir), **(extra or {})}

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a call, for long-running git processes."""
        return {**self._environment, **(extra or {})}

    def run(
        self,
        *arguments: str,
        given: bytes = b"",
        extra: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
        cwd: Path | None = None,
    ) -> bytes:
        """Return the output of a git command.

        Raises:
            GitError: the exit code is not among `accept`; the message has the command and git's message.
        """
        return self.call(*arguments, given=given, extra=extra, accept=accept, cwd=cwd)[1]

    def call(
        self,
        *arguments: str,
        given: bytes = b"",
        extra: Mapping[str, str] | None = None,
        accept: Sequence[int] | None = None,
        cwd: Path | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Return exit code, output and error output of a git command; without `accept` any exit code is accepted.

        Raises:
            GitError: git could not be started, or the exit code is not among `accept`.
            GitKilledError: a signal ended it.
        """
        environment = self._environment if extra is None else {**self._environment, **extra}
        try:
            done = subprocess.run(
                [git_program(), *arguments],
                input=given,
                capture_output=True,
                env=environment,
                cwd=cwd or self._cwd,
                check=False,
            )
        except OSError as error:
            raise GitError(f"git {arguments[0]} could not be started: {error}") from error
        if done.returncode < 0:
            raise GitKilledError(f"git {arguments[0]} was killed by signal {-done.returncode}; run again")
        if accept is not None and done.returncode not in accept:
            words = done.stderr.decode("utf-8", "replace").strip() or f"exit {done.returncode}"
            raise git_failed(" ".join(arguments[:6]), words)
        return done.returncode, done.stdout, done.stderr


_PLAIN = re.compile(r"""(?![\s.,:;"\\'])[^<>\x00-\x1f]+(?<![\s.,:;"\\'])""")
"""A name or address that git takes as it is."""
_REFUSED = re.compile(
    "[\x00\ufdd0-\ufdef" + "".join(chr(plane * 0x10000 + 0xFFFE + end) for plane in range(17) for end in (0, 1)) + "]"
)
"""Characters that `git commit-tree` refuses or writes otherwise."""
_LEAST_TIME = 1_000_000_000
"""Git may read a smaller number of seconds as a date."""


def commit_bytes(tree: str, parents: Sequence[str], message: bytes, who: Identity, when: int) -> bytes:
    """Return the commit that `git commit-tree` would write; empty where git would refuse or change a part of it."""
    plain = all(_PLAIN.fullmatch(word) and word.isprintable() for word in (who.name, who.email))
    try:
        plain = plain and _REFUSED.search(message.decode()) is None
    except UnicodeDecodeError:
        return b""
    if not plain or when < _LEAST_TIME or len({*parents}) != len(parents):
        return b""
    signature = f"{who.name} <{who.email}> {when} +0000\n"
    head = [f"tree {tree}\n", *(f"parent {parent}\n" for parent in parents)]
    return "".join((*head, f"author {signature}committer {signature}\n")).encode() + message


_PATIENCE_S = 20.0  # seconds; a signer that needs longer waits for a person, and none is there
_PROGRAMS = {"openpgp": ("gpg.openpgp.program", "gpg.program"), "ssh": ("gpg.ssh.program",)}
_LITERAL = ("key::", "ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs like the user's git.

    Attributes:
        commits: landings and releases are signed.
        tags: tags of releases are signed.
        form: ``openpgp`` or ``ssh``.
        program: the program that signs.
        key: the key in `user.signingkey`; for openpgp the identity if none is set.
        problem: why it cannot sign; empty if unknown.
    """

    commits: bool
    tags: bool
    form: str = "openpgp"
    program: str = "gpg"
    key: str = ""
    problem: str = field(default="", compare=False)

    def sign(self, data: bytes, namespace: str = "git") -> bytes:
        """Return the armoured signature of some bytes; only one by ssh has a namespace.

        Raises:
            UnsignedError: signing fails, or would prompt a person.
        """
        if self.problem:
            raise UnsignedError(self.problem)
        if self.form == "ssh":
            return self._by_ssh(data, namespace)
        quiet = ("--batch", "--no-tty", "--pinentry-mode", "error")
        return self._ended((self.program, *quiet, "--status-fd=2", "-bsau", self.key), data)

    def _by_ssh(self, data: bytes, namespace: str) -> bytes:
        command = (self.program, "-Y", "sign", "-n", namespace, "-f")
        if not self.key.startswith(_LITERAL):
            return self._ended((*command, str(Path(self.key).expanduser())), data)
        with tempfile.NamedTemporaryFile(prefix="signing-key-", suffix=".pub") as file:
            file.write(self.key.removeprefix("key::").encode() + b"\n")
            file.flush()
            return self._ended((*command, file.name, "-U"), data)

    def _ended(self, command: tuple[str, ...], data: bytes) -> bytes:
        asks_nobody = {"SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "force", "LC_ALL": "C"}
        shown = {"DISPLAY", "WAYLAND_DISPLAY", "GPG_TTY"}
        environment = {key: value for key, value in users_environment().items() if key not in shown} | asks_nobody
        try:
            done = subprocess.run(
                command,
                input=data,
                capture_output=True,
                check=False,
                cwd=os.sep,
                env=environment,
                timeout=_PATIENCE_S,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise UnsignedError(f"{command[0]} returned no signature within {_PATIENCE_S:.0f} s") from error
        except OSError as error:
            raise UnsignedError(f"{command[0]} does not start: {error.strerror}") from error
        if done.returncode != 0 or b"-----BEGIN " not in done.stdout:
            lines = done.stderr.decode("utf-8", "replace").splitlines()
            texts = [line for line in lines if line.strip() and not line.startswith("[GNUPG:]")]
            why = texts[-1].strip() if texts else f"exit {done.returncode}"
            raise UnsignedError(f"{command[0]} cannot sign with {self.key or 'the default key'}: {why}")
        return done.stdout


def ssh_signature(data: bytes, key: Path, namespace: str) -> bytes:
    """Return the armoured SSH signature of some bytes.

    Args:
        data: the bytes.
        key: a private key without a passphrase, or a public key whose private half an SSH agent holds.
        namespace: what the signature is for; it is valid for nothing else.

    Raises:
        UnsignedError: ssh-keygen is missing, refuses the key, or wants a passphrase.
    """
    return Signer(commits=False, tags=False, form="ssh", program="ssh-keygen", key=str(key)).sign(data, namespace)


def signer_of(repository: Repository, who: Identity) -> Signer | None:
    """Return the signer of a repository's landings, releases and tags; None if git is not configured to sign."""
    commits, tags = (_get(repository, key, "--type=bool") == "true" for key in ("commit.gpgsign", "tag.gpgsign"))
    if not (commits or tags):
        return None
    form = _get(repository, "gpg.format") or "openpgp"
    if form not in _PROGRAMS:
        return Signer(commits, tags, problem=f"gpg.format is {form}, expected openpgp or ssh")
    program = {"openpgp": "gpg", "ssh": "ssh-keygen"}[form]
    for name in _PROGRAMS[form]:
        chosen = _get(repository, name, "--type=path")
        if chosen and chosen not in {
            _get(repository, name, "--type=path", scope) for scope in ("--global", "--system")
        }:
            return Signer(commits, tags, problem=f"{name} is set by the repository; only your own configuration may")
        if chosen:
            program = chosen
            break
    key = _get(repository, "user.signingkey")
    if not key and form == "ssh":
        return Signer(commits, tags, problem="user.signingkey is not set")
    return Signer(commits, tags, form, program, key or f"{who.name} <{who.email}>")


def with_signature(commit: bytes, signature: bytes, *, header: str = "gpgsig") -> bytes:
    """Insert a signature into the bytes of a commit; a signed commit is unchanged."""
    head, gap, message = commit.partition(b"\n\n")
    if b"\n" + header.encode() + b" " in head:
        return commit
    folded = signature.rstrip(b"\n").replace(b"\r\n", b"\n").replace(b"\n", b"\n ")
    return head + b"\n" + header.encode() + b" " + folded + gap + message


def _get(repository: Repository, key: str, *options: str) -> str:
    done = subprocess.run(
        [git_program(), "config", *options, "--get", key],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        cwd=repository.top,
        env=users_environment(),
    )
    return done.stdout.strip() if done.returncode == 0 else ""
