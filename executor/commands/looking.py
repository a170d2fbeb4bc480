"""Looking on at milestones from outside: pictures made from files and git, again and again. Takes no lock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.adapters.files import journal_stamp, segments, stamp
from executor.adapters.holder import Holder, read_holder
from executor.adapters.refs import Refs
from executor.adapters.tail import Tail
from executor.errors import DeclarationError
from executor.observe import observe
from executor.picture import Picture, picture_of, standing_of
from executor.project import compile_project

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.core.event import Event
    from executor.observe import Observer
    from executor.project import Compiled, Project

__all__ = ["Looker"]


class Looker:
    """Makes pictures of some milestones; what has not changed is not read again.

    Attributes:
        names: the milestones.
        problem: why the declarations cannot be read now, if so; the pictures are then those of before.
    """

    def __init__(self, project: Project, names: Sequence[str] = ()) -> None:
        """Look at these milestones; without a name at those that are being run, else at the latest one that was.

        Raises:
            DeclarationError: the declarations are wrong.
            UsageError: an unknown milestone.
        """
        self._project = project
        self._compiled = compile_project(project)
        self._declared = self._declaration_stamp()
        known = list(self._compiled.loaded.milestones)
        self.names = [self._compiled.milestone(name).id for name in names] or self._interesting(known)
        self.problem = ""
        self._tails = {name: Tail(project.state(name)) for name in self.names}
        self._events: dict[str, list[Event]] = {name: [] for name in self.names}
        self._observer: Observer | None = None
        self._seen = b""

    def pictures(self) -> list[Picture]:
        """The milestones as they are now.

        Raises:
            StateBrokenError: a journal is corrupt.
        """
        self._read_declarations()
        holders = {name: self._holder(name) for name in self.names}
        for name, tail in self._tails.items():
            self._events[name] += tail.read()
        observer = self._observed(self._compiled)
        return [
            picture_of(
                observer,
                name,
                self._events[name],
                at=time.time(),
                standing=standing_of(observer, name, held=holder is not None),
                alive=holder.run if holder is not None else "",
            )
            for name, holder in holders.items()
        ]

    def _interesting(self, known: list[str]) -> list[str]:
        held = [name for name in known if self._holder(name) is not None]
        if held or not known:
            return held
        return [max(known, key=self._written)]

    def _written(self, name: str) -> float:
        """When a journal was last written to, seconds since 1970; 0 if there is none."""
        folder = self._project.state(name)
        return max((folder.joinpath(item).stat().st_mtime for item in segments(folder)), default=0.0)

    def _holder(self, name: str) -> Holder | None:
        holder = read_holder(self._project.state(name))
        return holder if holder is not None and holder.alive else None

    def _read_declarations(self) -> None:
        declared = self._declaration_stamp()
        if declared == self._declared:
            return
        try:
            self._compiled = compile_project(self._project)
        except DeclarationError as error:
            self.problem = str(error).splitlines()[0]
        else:
            self._declared, self.problem, self._observer = declared, "", None

    def _observed(self, compiled: Compiled) -> Observer:
        """Facts and decisions, gathered again when anything that they rest on has changed."""
        refs = Refs(self._project.repository)
        heads = [f"refs/heads/{item.branch}" for item in compiled.loaded.milestones.values()]
        journals = [journal_stamp(self._project.state(name)) for name in compiled.loaded.milestones]
        seen = refs.stamp([*heads, "refs/attempts/", "refs/executor/"]) + "\n".join(journals).encode()
        if self._observer is None or seen != self._seen:
            self._observer, self._seen = observe(compiled, refs), seen
        return self._observer

    def _declaration_stamp(self) -> str:
        paths = [
            path for folder in (self._project.milestones, self._project.rules) for path in sorted(folder.rglob("*"))
        ]
        return "\n".join(f"{path} {stamp(path)}" for path in paths if path.is_file())
