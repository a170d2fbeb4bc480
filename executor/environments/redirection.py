"""Text that names the user's checkout, rewritten so that it names the tree under judgement. Pure.

Editable installs are text: `.pth` lines, the mappings of import finders, `egg-link` files, URLs of `direct_url.json`.
Each of them names the checkout by its absolute path, so that one rewriting covers all build tools.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Redirection", "is_pointer_file"]

_POINTER = re.compile(r".*\.(?:pth|egg-link)|__editable__.*|_?_?editable_.*\.py|.*(?:finder|loader|editable).*\.py")
_END = rb"(?=[/'\"\s;,:)\]}\\]|\Z)"
"""A path ends here, or goes on below: `/home/me/app` is not part of `/home/me/app-data`."""


@dataclass(frozen=True)
class Redirection:
    """From the folders of the user's checkouts to the tree.

    Attributes:
        roots: absolute paths of the checkout, under every name that it may be written with; other worktrees too.
        tree: absolute path of the tree.
        kept: absolute paths inside the roots that stay as they are, such as a virtual environment in the checkout.
    """

    roots: tuple[str, ...]
    tree: str
    kept: tuple[str, ...] = ()

    @cached_property
    def _pattern(self) -> re.Pattern[bytes]:
        roots = sorted({form for root in self.roots for form in _forms(root)}, key=len, reverse=True)
        kept = [form for path in self.kept for form in _forms(path)]
        spared = rb"(?!" + rb"|".join(re.escape(form) + _END for form in kept) + rb")" if kept else b""
        return re.compile(rb"(?<![\w.~-])" + spared + rb"(?:" + rb"|".join(map(re.escape, roots)) + rb")" + _END)

    def names_a_root(self, data: bytes) -> bool:
        """Whether some text names the checkout or something in it."""
        return bool(self.roots) and self._pattern.search(data) is not None

    def rewritten(self, data: bytes) -> bytes:
        """The text with the tree in place of the checkout; URLs keep their form."""
        if not self.roots:
            return data
        tree = self.tree.encode("utf-8", "surrogateescape")
        return self._pattern.sub(lambda _: tree, data)

    def moved(self, path: str) -> str | None:
        """Where a path of the checkout is in the tree; None if it is not in the checkout, or is kept."""
        if any(_within(path, kept) for kept in self.kept):
            return None
        for root in sorted(self.roots, key=len, reverse=True):
            if _within(path, root):
                return self.tree + path[len(root) :]
        return None

    def paths_in(self, data: bytes) -> list[str]:
        """The paths of the checkout that some text names, each once, as paths relative to the checkout."""
        found: dict[str, None] = {}
        for match in self._pattern.finditer(data):
            rest = re.match(rb"/[^'\"\s;,:)\]}]*", data[match.end() :])
            found[rest.group().decode("utf-8", "surrogateescape").strip("/") if rest else ""] = None
        return list(found)


def is_pointer_file(name: str) -> bool:
    """Whether a file of this name, at the top of a site folder, may lead imports elsewhere."""
    return _POINTER.fullmatch(name) is not None


def _forms(path: str) -> Iterable[bytes]:
    """A path as it stands in text: as it is, and as part of a URL."""
    return {path.encode("utf-8", "surrogateescape"), quote(path).encode("ascii")}


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
