"""Editing TOML files of the user's without losing comments and layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.adapters.files import write_atomic
from executor.errors import DeclarationError, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["set_defaults"]


def set_defaults(path: Path, values: Mapping[str, Any]) -> list[str]:
    """Set keys that are not there yet; returns those that were added.

    Args:
        path: the file; made if missing.
        values: dotted key of bare parts -> value.

    Raises:
        DeclarationError: the file is not TOML, or a key on the way is not a table.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise DeclarationError([Fault(path.name, "", f"not valid TOML ({error}); correct it first")]) from error
    added = []
    for name, value in values.items():
        key = name.split(".")
        table: Any = document
        for place, part in enumerate(key[:-1]):
            if part not in table:
                table[part] = tomlkit.table(is_super_table=place < len(key) - 2)
            table = table[part]
            if not hasattr(table, "keys"):
                raise DeclarationError(
                    [Fault(path.name, ".".join(key[: place + 1]), "expected a table, found a value")]
                )
        if key[-1] not in table:
            table[key[-1]] = value
            added.append(name)
    if added:
        write_atomic(path, tomlkit.dumps(document).encode(), durable=False, mode=0o644)
    return added
