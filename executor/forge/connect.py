"""Forges as plug-ins: each kind is an entry point of the group `FORGES` that returns a `Forge` for the rules.

A third-party package adds a kind with this declaration in its pyproject.toml::

    [project.entry-points."make_for_milestones.forges"]
    bitbucket = "my_package.bitbucket:connect"

`connect` takes a `Target`. The token of a kind is read from ``<KIND>_TOKEN``; no child process ever gets it.

The forge of a session: the token is read before any redaction; the connection is opened on first use.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from executor.errors import UsageError
from executor.forge.hosts.credentials import Budget, repository_of
from executor.model.outward_rules import FORGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from executor.config.project import Compiled
    from executor.engine.session import Session
    from executor.forge.base import Forge
    from executor.model.outward_rules import Forge as ForgeRules

__all__ = ["Connection", "Target", "connected", "forge_of", "kinds"]


@dataclass(frozen=True, slots=True)
class Target:
    """The input of a plug-in.

    Attributes:
        rules: `rules/forge.toml`.
        address: address of the remote that branches are pushed to.
        token: token of the user.
        cache: folder for cached answers; None for no cache.
    """

    rules: ForgeRules
    address: str
    token: str
    cache: Path | None = None

    def repository(self, *, nested: bool = False) -> str:
        """Return the declared repository, or the one in the remote's address.

        Raises:
            UsageError: neither has one.
        """
        found = self.rules.repository or repository_of(self.address, nested=nested)
        if not found:
            raise UsageError(
                f'rules/forge.toml: repository: is missing, and the address of the remote "{self.rules.pushes_to}" '
                'does not say it; write repository = "owner/name"'
            )
        return found

    def budget(self, base_url: str) -> Budget:
        """Return the request budget of the token at that address; shared by all runs on this machine."""
        return Budget.of(base_url, self.token, writes_per_minute=self.rules.writes_per_minute)


def kinds() -> list[str]:
    """Return every installed kind of forge, besides the local one."""
    return sorted(entry.name for entry in entry_points(group=FORGES))


def connected(wanted: Target) -> Forge:
    """Return the forge of the declared kind.

    Raises:
        UsageError: the kind, or a library that it needs, is not installed.
        ForgeRefusedError: it has no token.
    """
    found = next(iter(entry_points(group=FORGES, name=wanted.rules.kind)), None)
    if found is None:
        raise UsageError(
            f'rules/forge.toml: kind: expected one of {", ".join(["local", *kinds()])}, found "{wanted.rules.kind}"; '
            "another kind is a package that declares an entry point of the group " + FORGES
        )
    connect: Callable[[Target], Forge] = found.load()
    return connect(wanted)


class Connection:
    """The forge that the rules declare.

    Attributes:
        token: credential for forge and remote; empty if unused.
        unstacked: issues whose result was refused on another layer of the stack, and is judged on the tip.

    Raises:
        ForgeRefusedError: the forge needs a token and none is set.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._rules = compiled.policy.forge
        self._forge: Forge | None = None
        self._lock = threading.Lock()
        self.token = ""
        self.unstacked: set[str] = set()
        if self._rules.kind != "local":
            from executor.forge.hosts.credentials import find_token

            self.token = find_token(self._rules)

    def forge(self, session: Session) -> Forge:
        """Return the forge; connects on first use.

        Raises:
            UsageError: a library that the forge needs is not installed, or the repository is unknown.
        """
        remote = session.remote
        with self._lock:
            if self._forge is None:
                if self._rules.kind != "local":
                    address = remote.url if remote is not None else ""
                    self._forge = connected(Target(self._rules, address, self.token, session.project.cache / "_forge"))
                else:
                    from executor.forge.local import LocalForge

                    self._forge = LocalForge(session.refs, session.store, session.identity, remote)
            return self._forge


def forge_of(session: Session) -> Forge:
    """Return the forge with the pull requests of a session.

    Raises:
        UsageError: as in `Connection.forge`.
    """
    publisher = session.plugins.publisher
    return (publisher if isinstance(publisher, Connection) else Connection(session.compiled)).forge(session)
