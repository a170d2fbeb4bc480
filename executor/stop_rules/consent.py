"""An approval covers exactly the change and the rules that were shown. Pure.

The result key of a change names what it does and survives a rebase; an approval must not. It is bound to paths, modes
and whole contents before and after, so that the same lines in another function, or in a file that has changed
meanwhile, are asked about again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.model.fingerprint import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.git.diff import Change

__all__ = ["change_identity"]


def change_identity(change: Change, content: Callable[[str, bool], bytes | None]) -> str:
    """The identity of a change: path, modes and contents of each of its files before and after.

    Args:
        change: parsed from git's diff.
        content: a file's whole content before (False) or after (True) the change; asked where git gives no ids.
    """
    parts: list[bytes] = []
    for file in change.files:
        ids = [file.old_id, file.new_id]
        if not any(ids):  # only the mode changed
            ids = [digest(content(file.path, new) or b"") for new in (False, True)]
        fields = (file.path, file.old_mode, file.new_mode, *ids)
        parts.append("\0".join(fields).encode("utf-8", "surrogateescape"))
    return digest(b"\0\0".join(parts))
