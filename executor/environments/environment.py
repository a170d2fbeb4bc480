"""The environment of a command that works on a tree, as a value; `making` makes it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["NO_ENVIRONMENT", "TreeEnvironment"]


@dataclass(frozen=True)
class TreeEnvironment:
    """The tools of one tree.

    Attributes:
        tree: the folder of the tree; empty while it is not known.
        slot: number of the place in which it is worked.
        variables: environment variables beyond the ordinary ones.
        programs: folders of commands to put on PATH, each with the folder before which it goes (empty: at the front).
        moved: programs by the folder that holds them, for commands that name it: the user's, the tree's.
        readable: what else must be readable in a sandbox.
        install: command that installs the packages of the tree first; empty when nothing is to be installed.
    """

    tree: str = ""
    slot: int = 0
    variables: tuple[tuple[str, str], ...] = ()
    programs: tuple[tuple[str, str], ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    readable: tuple[Path, ...] = ()
    install: tuple[str, ...] = ()

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """The variables of a command: those given, with this environment's around them and its tools on PATH."""
        path = given.get("PATH", "").split(os.pathsep)
        for before, folder in self.programs:
            place = path.index(before) if before in path else 0
            path.insert(place, folder)
        own = dict(self.variables)
        if self.tree:
            own["EXECUTOR_TREE"] = self.tree
        values = {key: self.filled(value) for key, value in given.items()}
        return {**own, **values, "PATH": os.pathsep.join(path)}

    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        """A command with ``{tree}`` and ``{slot}`` filled in, and the user's programs replaced by the tree's."""
        return tuple(self._moved(self.filled(word)) for word in argv)

    def filled(self, text: str) -> str:
        """Text with ``{tree}`` and ``{slot}`` filled in."""
        return text.replace("{tree}", self.tree).replace("{slot}", str(self.slot)) if self.tree else text

    @property
    def shown(self) -> list[str]:
        """The paths that must be readable in a sandbox."""
        return [str(path) for path in self.readable]

    def joined(self, other: TreeEnvironment) -> TreeEnvironment:
        """Both together; the tree is this one's."""
        return replace(
            self,
            variables=(*self.variables, *other.variables),
            programs=(*self.programs, *other.programs),
            moved=(*self.moved, *other.moved),
            readable=(*self.readable, *other.readable),
            install=self.install or other.install,
        )

    def _moved(self, word: str) -> str:
        for before, folder in self.moved:
            word = word.replace(f"{before}/", f"{folder}/")
        return word


NO_ENVIRONMENT = TreeEnvironment()
