"""Forges as plug-ins: each kind is an entry point of the group `FORGES` and gives a `Forge` for what the rules declare.

A package of somebody else's adds a kind by declaring, in its own pyproject.toml::

    [project.entry-points."make_for_milestones.forges"]
    bitbucket = "my_package.bitbucket:connect"

`connect` takes a `Target`. The token of a kind is read from ``<KIND>_TOKEN``; no child process is ever given it.

The forge of a session: its token before anything is kept, its connection at first use.
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
    """What a plug-in is given.

    Attributes:
        rules: `rules/forge.toml`.
        address: of the remote that branches are pushed to.
        token: of the user.
        cache: folder for answers that need not be sent again; None keeps none.
    """

    rules: ForgeRules
    address: str
    token: str
    cache: Path | None = None

    def repository(self, *, nested: bool = False) -> str:
        """The declared repository, or what the remote's address says.

        Raises:
            UsageError: neither says one.
        """
        found = self.rules.repository or repository_of(self.address, nested=nested)
        if not found:
            raise UsageError(
                f'rules/forge.toml: repository: is missing, and the address of the remote "{self.rules.pushes_to}" '
                'does not say it; write repository = "owner/name"'
            )
        return found

    def budget(self, base_url: str) -> Budget:
        """What the token may still be used for at that address; shared by all runs on this machine."""
        return Budget.of(base_url, self.token, writes_per_minute=self.rules.writes_per_minute)


def kinds() -> list[str]:
    """Every kind of forge that is installed, besides the local one."""
    return sorted(entry.name for entry in entry_points(group=FORGES))


def connected(wanted: Target) -> Forge:
    """The forge of the declared kind.

    Raises:
        UsageError: no such kind is installed, or what it needs is not.
        ForgeRefusedError: there is no token for it.
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
        token: credential for forge and remote; empty where none is used.

    Raises:
        ForgeRefusedError: the forge needs a token and there is none.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._rules = compiled.policy.forge
        self._forge: Forge | None = None
        self._lock = threading.Lock()
        self.token = ""
        if self._rules.kind != "local":
            from executor.forge.hosts.credentials import find_token

            self.token = find_token(self._rules)

    def forge(self, session: Session) -> Forge:
        """The forge, connected at first use.

        Raises:
            UsageError: a library that the forge needs is not installed, or nothing says which repository is meant.
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
    """Where the pull requests of a session live.

    Raises:
        UsageError: as `Connection.forge`.
    """
    publisher = session.plugins.publisher
    return (publisher if isinstance(publisher, Connection) else Connection(session.compiled)).forge(session)
