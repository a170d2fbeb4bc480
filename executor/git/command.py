"""Running git safely: an environment made from scratch, explicit directories, plumbing only.

Every call names its git directory and reads no configuration that an agent could have written; the settings are those
of ARCHITECTURE.md ("git calls"). Acknowledged objects and refs survive a power cut (`core.fsync=committed`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from executor.errors import ExecutorError, GitError, GitKilledError, RepositoryError, StateFullError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Git", "Identity", "git_failed", "git_program", "git_version", "safe_environment", "users_environment"]

OLDEST = (2, 38)
"""The first git with `merge-tree --write-tree`."""

_VERSION = re.compile(rb"git version ([0-9]{1,9}(?:\.[0-9]{1,9})*)")
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
    """Absolute path of git.

    Raises:
        RepositoryError: git is not installed.
    """
    path = shutil.which("git", path=os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"))
    if path is None:
        raise RepositoryError("git is not on PATH; install git 2.38 or newer")
    return os.path.realpath(path) if not path.startswith("/") else path


@cache
def git_version() -> tuple[int, ...]:
    """Version of git, for example (2, 39, 5).

    Raises:
        RepositoryError: git is not installed.
        GitError: `git --version` fails.
    """
    program = git_program()
    try:
        done = subprocess.run([program, "version"], capture_output=True, check=False)
    except OSError as error:
        raise GitError(f"{program} does not start: {error.strerror}") from error
    told = _VERSION.match(done.stdout)
    if told is None:
        raise GitError(f"{program} does not report its version (exit {done.returncode})")
    return tuple(int(part) for part in told[1].split(b"."))


@cache
def safe_environment() -> Mapping[str, str]:
    """The complete environment of a git call; from ours it inherits only the path to git's programs."""
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
    """The user's environment for git calls on the user's own checkout, without any GIT_ variable."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}


def git_failed(command: str, words: str) -> ExecutorError:
    """The situation that git's own words amount to."""
    if any(text in words for text in _NO_SPACE):
        return StateFullError(f"git {command}: {words}; nothing is lost, free some space and run again")
    return GitError(f"git {command}: {words}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who commits: name and mail address as in the user's own git configuration."""

    name: str
    email: str


class Git:
    """Git commands on one git directory.

    Args:
        git_dir: explicit git directory; never found by discovery.
        cwd: working directory of the commands, a folder that no agent writes to.
        extra: further environment, for example the object store or the identity.
    """

    def __init__(self, git_dir: Path, cwd: Path, extra: Mapping[str, str] | None = None) -> None:
        self._cwd = cwd
        self._environment = {**safe_environment(), "GIT_DIR": str(git_dir), **(extra or {})}

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a call, for long-running git processes."""
        return {**self._environment, **(extra or {})}

    def run(
        self,
        *arguments: str,
        given: bytes = b"",
        extra: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
        cwd: Path | None = None,
    ) -> bytes:
        """Output of one git command.

        Raises:
            GitError: the exit code is not among `accept`; the message has the command and git's own words.
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
        """Exit code, output and error output of one git command; any exit code is accepted unless `accept` is given.

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
