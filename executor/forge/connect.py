"""The forge of a session: its token before anything is kept, its connection at first use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.config.project import Compiled
    from executor.engine.session import Session
    from executor.forge.base import Forge

__all__ = ["Connection", "forge_of"]


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
                    from executor.forge.plugins import Target, connected

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
