"""Globs over paths as users write them: `**`, and a pattern without a slash for a name in any folder. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["matches"]

_PIECE = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?|\[(?:!?\]?[^\]]*)\]|[^*?\[]+|\[")


def matches(path: str, globs: Iterable[str]) -> bool:
    """Whether a path matches one of the globs.

    ``*`` and ``?`` stay within a folder, ``**`` does not. A pattern without a slash is tried on the file name in every
    folder, one with a slash at its end means everything in that folder.
    """
    return any(_compiled(glob).fullmatch(path) for glob in globs)


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    pattern = glob.removeprefix("/") + ("**" if glob.endswith("/") else "")
    anywhere = "/" not in glob
    body = "".join(_piece(piece) for piece in _PIECE.findall(pattern))
    try:
        return re.compile(("(?:.*/)?" if anywhere else "") + body, re.DOTALL)
    except re.error:  # a strange set such as [z-a]: the text itself
        return re.compile(re.escape(glob))


def _piece(piece: str) -> str:
    fixed = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if piece in fixed:
        return fixed[piece]
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:  # noqa: PLR2004  (brackets with something)
        inner = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.escape(piece)
