"""The remote: branches of another repository, read, fetched, and moved only from their expected commits.

Unlike all other git calls, these use the network and therefore the user's configuration: the remote's address, ssh
and credentials. Hooks stay off. A token is passed through a pipe: it is in no argument, variable or file.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from executor.errors import ExecutorError, ForgeRefusedError, ForgeUnavailableError
from executor.git.command import git_program, safe_environment
from executor.git.refs import Move, Refs
from executor.model.outward_rules import remote_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.git.command import Identity, Repository
    from executor.git.objects import Store

__all__ = ["Pushed", "Remote", "push_files", "without_password"]

_TIMEOUT = 600.0  # seconds; a push over a slow line takes minutes, a dead one for ever
_RACES = 3  # tries; others push to the same remote in between
_PASSED_ON = re.compile(
    r"HOME|USER|LOGNAME|XDG_CONFIG_HOME|SSH_AUTH_SOCK|(?:https?|no|all)_proxy|SSL_CERT_(?:FILE|DIR)", re.IGNORECASE
)
_NOT_OURS = ("GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL", "HOME")
_REFUSED = (
    "does not exist",
    "not found",
    "does not appear to be a git repository",
    "permission denied",
    "permission to",
    "authentication failed",
    "could not read username",
    "could not read password",
    "access denied",
    "invalid username",
    "unauthorized",
    "403",
    "dubious ownership",
    "host key verification failed",
    "not allowed",
)
_SECRET = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Pushed:
    """The outcome of a push: done, a branch had moved, or the remote refused."""

    ok: bool
    moved: bool = False
    reason: str = ""


class Remote:
    """A remote of the trusted repository.

    Args:
        repository: the trusted repository.
        name: name of a remote in the user's git configuration, an address or a path.
        token: the forge's token, for https addresses; empty to use git's credentials.
    """

    def __init__(self, repository: Repository, name: str, token: str = "") -> None:
        self.name = name
        self._repository = repository
        self._token = token
        self._url: str | None = None

    @property
    def url(self) -> str:
        """Return the address in the user's git configuration.

        Raises:
            ForgeRefusedError: the remote does not exist, or its address is of an unsupported kind.
        """
        if self._url is None:
            _, output, _ = self._git("ls-remote", "--get-url", self.name, protocol="never")
            url = output.strip()
            if url == self.name and "/" not in url and ":" not in url:
                raise ForgeRefusedError(
                    f'the remote "{self.name}" does not exist; run `git remote add {self.name} ADDRESS`, or '
                    "declare another one in rules/forge.toml"
                )
            if url.startswith(("./", "../")):
                url = str((self._repository.top / url).resolve())
            problem = remote_problem(url) if "/" in url else f"expected an address or a path, found {url}"
            if problem:
                raise ForgeRefusedError(f'the address of the remote "{self.name}": {problem}')
            self._url = url
        return self._url

    def tips(self, *patterns: str) -> dict[str, str]:
        """Map each branch that matches these full names or patterns (``refs/heads/feat/*``) to its commit."""
        output = self._asked("ls-remote", "--refs", "--quiet", self.url, *patterns)
        pairs = (line.split("\t", 1) for line in output.splitlines() if "\t" in line)
        return {name: commit for commit, name in pairs}

    def fetch(self, *refs: str) -> None:
        """Fetch the commits of these branches (full names); no ref of the user moves."""
        self._asked(
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--refmap=",
            self.url,
            *refs,
        )

    def push(self, moves: Sequence[Move], *, atomic: bool = True) -> Pushed:
        """Move branches, each only from its expected commit; all or none.

        Raises:
            ForgeUnavailableError: the remote is unreachable or gave no answer; check its state before a retry.
            ForgeRefusedError: the remote rejects access.
        """
        leases = [f"--force-with-lease={move.ref}:{move.old or ''}" for move in moves]
        what = [f"{move.new or ''}:{move.ref}" for move in moves]
        words = ["push", "--porcelain", "--no-verify", *(["--atomic"] if atomic else []), *leases, self.url, *what]
        code, output, found = self._git(*words)
        lines = [line.split("\t") for line in output.splitlines() if line.startswith("!\t")]
        if code == 0:
            return Pushed(ok=True)
        if not lines:
            raise self._failed("push", found)
        reasons = [line[-1] for line in lines]
        moved = any("stale info" in reason or "fetch first" in reason for reason in reasons)
        moved = moved or any("cannot lock ref" in reason or "already exists" in reason for reason in reasons)
        telling = [reason for reason in reasons if "atomic" not in reason] or reasons
        hook = [line.removeprefix("remote: ").strip() for line in found.splitlines() if line.startswith("remote: ")]
        reason = "; ".join(dict.fromkeys([*telling, *[line for line in hook if line][:5]]))
        return Pushed(ok=False, moved=moved, reason=_SECRET.sub("", reason))

    def _asked(self, *arguments: str) -> str:
        code, output, found = self._git(*arguments)
        if code != 0:
            raise self._failed(arguments[0], found)
        return output

    def _failed(self, command: str, message: str) -> ExecutorError:
        words = _SECRET.sub("", " ".join(message.split()))[:500] or "git gave no reason"
        lowered = words.lower()
        if any(text in lowered for text in _REFUSED):
            return ForgeRefusedError(f'git {command}: the remote "{self.name}" refuses: {words}')
        return ForgeUnavailableError(
            f'git {command}: the remote "{self.name}" cannot be reached: {words}; nothing is lost; run again later'
        )

    def _git(self, *arguments: str, protocol: str = "") -> tuple[int, str, str]:
        """Return exit code, output and messages of a git command that may use the network."""
        environment = self._environment(protocol or _protocol(self.url))
        read = write = -1
        given = bool(self._token) and not protocol and self.url.startswith("https://")
        if given:
            read, write = os.pipe()
            os.write(write, f"username=x-access-token\npassword={self._token}\n".encode())
            os.close(write)
            _more(environment, {"credential.helper": f'!f() {{ test "$1" = get && cat <&{read}; }}; f'})
        try:
            done = subprocess.run(
                [git_program(), *arguments],
                input=b"",
                capture_output=True,
                env=environment,
                cwd=self._repository.common_dir,
                check=False,
                timeout=_TIMEOUT,
                pass_fds=(read,) if given else (),
            )
        except subprocess.TimeoutExpired:
            return -1, "", f"no answer within {_TIMEOUT:.0f} seconds"
        except OSError as error:
            return -1, "", f"git could not be started: {error}"
        finally:
            if given:
                os.close(read)
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

    def _environment(self, protocol: str) -> dict[str, str]:
        environment = {key: value for key, value in safe_environment().items() if key not in _NOT_OURS}
        environment |= {key: value for key, value in os.environ.items() if _PASSED_ON.fullmatch(key)}
        environment.setdefault("HOME", "/nonexistent")
        environment |= {
            "GIT_DIR": str(self._repository.common_dir),
            "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
            "GIT_HTTP_LOW_SPEED_LIMIT": "100",
            "GIT_HTTP_LOW_SPEED_TIME": "60",
        }
        _more(environment, {f"protocol.{protocol}.allow": "always"} if protocol != "never" else {})
        if not self._token:
            _without(environment, "credential.helper")
        return environment


def without_password(address: str) -> str:
    """Return the address of a remote without a user and password for https, which may be a token. Pure.

    Tasks are seen by whoever reaches the scheduler; a host has credentials of its own.
    """
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or "@" not in parts.netloc:
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def push_files(
    remote: Remote, refs: Refs, store: Store, branch: str, files: Mapping[str, bytes], stamp: tuple[str, Identity, int]
) -> str:
    """Add a commit with files to a branch of the remote that holds nothing but such commits; equal files add none.

    Args:
        remote: the remote.
        refs: refs of the trusted repository, which reads the branch.
        store: its objects.
        branch: short name of the branch; created if it does not exist.
        files: content of each file by its path; other files of the branch stay.
        stamp: subject of the commit, by which such a branch is recognised; its author and its time.

    Returns:
        Why they were not pushed; empty if they were.

    Raises:
        ForgeUnavailableError: the remote is unreachable.
        ForgeRefusedError: the remote rejects access.
    """
    subject, who, when = stamp
    name = f"refs/heads/{branch}"
    for _ in range(_RACES):
        there = remote.tips(name).get(name)
        kept: dict[str, bytes] = {}
        if there is not None:
            remote.fetch(name)
            if refs.message(there).strip() != subject:
                return f"{branch} has other commits on {remote.name}; declare another branch"
            kept = {path: store.blob(there, path) or b"" for path in store.paths(store.tree_of(there))}
        tree = store.files_tree(kept | dict(files))
        if there is not None and store.tree_of(there) == tree:
            return ""
        commit = store.commit(tree, [there] if there else [], f"{subject}\n", who, when)
        done = remote.push([Move(name, there, commit)])
        if done.ok or not done.moved:
            return done.reason
    return f"{branch} is being moved on {remote.name} by another process"


def _protocol(url: str) -> str:
    """Return git's name of the protocol of an address."""
    if "://" in url:
        return url.split("://", 1)[0]
    return "file" if url.startswith(("/", "./", "../")) or ":" not in url else "ssh"


def _more(environment: dict[str, str], settings: Mapping[str, str]) -> None:
    count = int(environment["GIT_CONFIG_COUNT"])
    for place, (key, value) in enumerate(settings.items(), count):
        environment[f"GIT_CONFIG_KEY_{place}"] = key
        environment[f"GIT_CONFIG_VALUE_{place}"] = value
    environment["GIT_CONFIG_COUNT"] = str(count + len(settings))


def _without(environment: dict[str, str], setting: str) -> None:
    """Remove one of the executor's settings so that the user's configuration applies."""
    for place in range(int(environment["GIT_CONFIG_COUNT"])):
        if environment[f"GIT_CONFIG_KEY_{place}"] == setting:
            environment[f"GIT_CONFIG_KEY_{place}"] = "executor.unused"
