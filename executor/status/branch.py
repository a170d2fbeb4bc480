"""The branch that a milestone is on: decided from what is declared, on record, and found in the repository.

A milestone lands on one branch for all its life. An edited title or `branch`, another plan or an import gives it
another declared name, but its landed work stays where it is until a person moves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ["Found", "Location", "locate", "locate_elsewhere"]


@dataclass(frozen=True, slots=True)
class Found:
    """A branch that has landings of the milestone.

    Attributes:
        ref: full name, ``refs/heads/...`` or ``refs/remotes/<name>/...``.
        tip: its commit.
        landed: what has landed on it, as ``issue@revision``.
    """

    ref: str
    tip: str
    landed: frozenset[str] = frozenset()

    @property
    def local(self) -> bool:
        """Whether it is a branch of this repository."""
        return self.ref.startswith("refs/heads/")

    @property
    def branch(self) -> str:
        """Short name of the branch, without the name of the remote."""
        rest = self.ref.split("/", 2)[2]
        return rest if self.local else rest.partition("/")[2]

    @property
    def shown(self) -> str:
        """The name that git shows."""
        return self.ref.split("/", 2)[2]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a milestone is.

    Attributes:
        branch: short name of its branch.
        start: commit that the branch is brought forward to, as last seen of another repository; empty otherwise.
        note: a remark for people; empty when everything is as declared.
        problem: why nothing may be begun; empty when it may.
    """

    branch: str
    start: str = ""
    note: str = ""
    problem: str = ""


def locate(declared: str, record: str, found: Sequence[Found], contains: Callable[[str, str], bool]) -> Location | None:
    """The branch of a milestone among those that are called as declared or as on record; None if none has its work.

    Args:
        declared: short name of the branch that is declared, or made from the title.
        record: short name of the branch that it landed on before; empty when that is not known.
        found: the branches of these two names, here and on remotes, that have landings of it.
        contains: whether the first commit is reachable from the second.
    """
    here = {item.branch: item for item in found if item.local}
    first, second = here.get(declared), here.get(record)
    if first is not None and second is not None and not second.landed <= first.landed:
        if not first.landed <= second.landed:
            return Location(declared, problem=_split(declared, [first, second]))
        first = second
    chosen = first or second
    if chosen is None:
        chosen = next((item for item in found if item.branch == declared), next(iter(found), None))
        if chosen is None:
            return None
    start = "" if chosen.local else chosen.tip
    for other in found:
        if other.branch != chosen.branch or other.landed <= chosen.landed:
            continue
        if not contains(chosen.tip, other.tip):
            return Location(chosen.branch, problem=_split(chosen.branch, [chosen, other]))
        start = other.tip
    return Location(chosen.branch, start, _moved(declared, chosen.branch))


def locate_elsewhere(
    declared: str, found: Sequence[Found], others: Collection[str], contains: Callable[[str, str], bool]
) -> Location | None:
    """The branch of a milestone whose work is on a branch of another name: a person renamed it. None if there is none.

    Args:
        declared: short name of the branch that is declared.
        found: every branch that has its newest landing.
        others: short names of the branches of other milestones, which may be built on it.
        contains: whether the first commit is reachable from the second.
    """
    own = [item for item in found if item.branch not in others]
    if not own:
        return None
    local = [item for item in own if item.local] or own
    least = [item for item in local if all(contains(item.tip, other.tip) for other in local)]
    chosen = (least or local)[0]
    if not least and len({item.tip for item in local}) > 1:
        return Location(declared, problem=_split(declared, local))
    return Location(chosen.branch, "" if chosen.local else chosen.tip, _moved(declared, chosen.branch))


def _moved(declared: str, branch: str) -> str:
    if branch == declared:
        return ""
    return (
        f'its landed work is on branch "{branch}" and goes on there, although "{declared}" is declared; '
        f"to move it: git branch -m {branch} {declared}"
    )


def _split(branch: str, found: Sequence[Found]) -> str:
    names = " and ".join(item.shown for item in found)
    return (
        f"its landed work is on several branches with commits of their own: {names}; which one counts? "
        f'merge them into "{branch}", or delete the other'
    )
