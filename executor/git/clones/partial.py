"""Partial clones: objects that only the remote has are fetched by the user's own git, many at a time.

Our own git directories know no remote, so that git cannot fetch what is missing while it works for us.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from executor.errors import ForgeUnavailableError
from executor.git.command import Git, git_program, users_environment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.git.repository import Repository

__all__ = ["Missing"]

_ROUNDS = 20
_NEGOTIATION = ("-c", "fetch.negotiationAlgorithm=noop", "-c", "core.hooksPath=/dev/null")


class Missing:
    """Fetches what a partial clone does not have."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._git = Git(repository.common_dir, repository.common_dir)
        self._whole: set[str] = set()
        self.remote = self._promisor()
        """Name of the remote that has everything; empty where the repository is no partial clone."""

    def fill(self, commits: Iterable[str]) -> bool:
        """Have every object of the trees of these commits here; whether anything was missing.

        Raises:
            ForgeUnavailableError: the remote does not give them.
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
        for count in range(_ROUNDS):
            missing = self._missing(tree)
            if not missing:
                return count > 0
            self._fetch(missing)
        raise ForgeUnavailableError(f"{self.remote} does not give {len(missing)} objects of {tree}: {missing[0]}, ...")

    def _missing(self, tree: str) -> list[str]:
        """Objects of a tree that are not here; those below a missing tree are not known yet."""
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
