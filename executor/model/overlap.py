"""Whether two issues are expected to change the same files, by the globs that they declare. Pure.

The answer is a reason to start something else first, never a lock: on real histories, two changes of one file conflict
in a quarter to a half of all cases.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["globs_meet", "overlap"]

_WILD = re.compile(r"[*?\[]")


def overlap(one: Sequence[str], other: Sequence[str]) -> int:
    """How many pairs of globs of two issues can match the same file; 0 if one of them declares nothing."""
    return sum(globs_meet(a, b) for a in one for b in other)


@cache
def globs_meet(one: str, other: str) -> bool:
    """Whether some path can match both globs; where both have wildcards in a name, it is assumed that one can."""
    return _meet(_parts(one), _parts(other))


def _parts(glob: str) -> list[str]:
    """Its names from the root; a glob without a slash means a name in any folder, as in `executor.model.paths`."""
    return glob.strip("/").split("/") if "/" in glob else ["**", glob]


def _meet(one: list[str], other: list[str]) -> bool:
    if not one or not other:
        return all(part == "**" for part in (*one, *other))
    if "**" in (one[0], other[0]):
        deep, rest = (one, other) if one[0] == "**" else (other, one)
        return _meet(deep[1:], rest) or _meet(deep, rest[1:])
    return _names_meet(one[0], other[0]) and _meet(one[1:], other[1:])


def _names_meet(one: str, other: str) -> bool:
    if one == other:
        return True
    wild = bool(_WILD.search(one)), bool(_WILD.search(other))
    if wild == (True, True):
        start = min(_WILD.search(one).start(), _WILD.search(other).start())  # type: ignore[union-attr]  # both are wild
        return one[:start] == other[:start]
    if wild == (False, False):
        return False
    glob, name = (one, other) if wild[0] else (other, one)
    return re.match(translate(glob), name) is not None
