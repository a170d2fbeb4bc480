"""The interface of a stop rule: its view of a change, and its findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from executor.git.diff import FileChange, Finding

__all__ = ["StopCheck", "View"]


@dataclass(frozen=True, slots=True)
class View:
    """A change as stop rules see it. Nothing that the change says about itself is part of it.

    Attributes:
        files: those of the change that the rule looks at, with the lines added and removed.
        content: a file's whole content before (False) or after (True) the change; None when there is none.
        lists: the lists of the rule, as `rules/stops/` and the user's own rules have them.
        base: every file of the tree that the change was made from.
        commands: argument lists of the checks and of the acceptance of the issue.
        secrets: gives those of some lines in which a secret is, with what it is in place of the text.
        values: name of a variable -> its value, for those that profiles of agents pass on.
        declared: globs of files that the issue says it changes.
        kind: type of the issue.
    """

    files: Sequence[FileChange]
    content: Callable[[str, bool], bytes | None]
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    base: frozenset[str] = frozenset()
    commands: Sequence[Sequence[str]] = ()
    secrets: Callable[[Sequence[Finding]], list[Finding]] = list
    values: Mapping[str, str] = field(default_factory=dict)
    declared: Sequence[str] = ()
    kind: str = ""

    def before(self, path: str) -> bytes | None:
        """A file's content before the change."""
        return self.content(path, False)  # noqa: FBT003  (the engine's own shape)

    def after(self, path: str) -> bytes | None:
        """A file's content after the change."""
        return self.content(path, True)  # noqa: FBT003


class StopCheck(Protocol):
    """One builtin of a stop rule: an entry point of the group ``make_for_milestones.stop_rules``.

    A rule names it by ``builtin``. It is a function of the change alone: no I/O, no clock, and the same change always
    gives the same findings. It runs nothing of the change.
    """

    def __call__(self, view: View, /) -> Iterable[Finding]:
        """Places that stop the change: path, number of the line (0 for the file as a whole), text for a person."""
        ...
