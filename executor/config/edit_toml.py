"""Edit the user's TOML files; comments and layout are preserved."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from executor.errors import DeclarationError, Fault
from executor.process.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["edited_plan", "require_toml", "set_defaults"]

_WIDEST = 100  # columns; a longer list is written with one item a line


def set_defaults(path: Path, values: Mapping[str, Any]) -> list[str]:
    """Set missing keys; returns those that were added.

    Args:
        path: the file; created if missing.
        values: dotted key of bare parts -> value.

    Raises:
        DeclarationError: the file is not TOML, or a parent key is not a table.
    """
    import tomlkit

    require_toml(path)
    text = path.read_bytes().decode() if path.exists() else ""  # not as text, which would change the ends of lines
    document = tomlkit.parse(text)
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
        target = path.resolve()  # a symbolic link stays one
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        new = tomlkit.dumps(document)
        if "\r\n" in text:
            new = new.replace("\r\n", "\n").replace("\n", "\r\n")
        write_atomic(target, new.encode(), durable=False, mode=mode)
    return added


def require_toml(path: Path) -> None:
    """Verify that a file is TOML or missing.

    Raises:
        DeclarationError: it is neither.
    """
    try:
        tomllib.loads(path.read_bytes().decode() if path.exists() else "")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeclarationError([Fault(path.name, "", f"not valid TOML ({error}); correct it first")]) from error


def edited_plan(
    text: str,
    milestone: Mapping[str, Any],
    defaults: Mapping[str, Any],
    phases: Sequence[Mapping[str, Any]],
    issues: Mapping[str, Mapping[str, Any]],
    order: Sequence[str] = (),
) -> str:
    """Return a declaration with keys set, added and removed (None); comments and layout are preserved.

    Args:
        text: the current TOML text; empty for a new file.
        milestone: keys of its table.
        defaults: keys of ``[defaults]``.
        phases: tables to add.
        issues: id -> keys; a missing issue is appended.
        order: ids in the required order of their tables; empty to keep the order.
    """
    import tomlkit

    document: Any = tomlkit.parse(text)
    for name, values in (("milestone", milestone), ("defaults", defaults)):
        if values:
            if name not in document:
                document[name] = tomlkit.table()
            _set(document[name], values)
    if phases:
        _tables_of(document, "phase").extend(_set(tomlkit.table(), values) for values in phases)
    known = {str(table.get("id")): table for table in document.get("issue", [])}
    for name, values in issues.items():
        if name in known:
            _set(known[name], values)
        else:
            tables = _tables_of(document, "issue")
            # An issue of an inline array, `issue = [{...}]`, is an inline table.
            empty = tomlkit.inline_table() if isinstance(tables, tomlkit.items.Array) else tomlkit.table()
            apart = not tables or not isinstance(empty, tomlkit.items.Table) or tables[-1].as_string().endswith("\n\n")
            if text and not apart:
                tables[-1].add(tomlkit.nl())
            tables.append(_set(empty, {"id": name, **values}))
    if order:
        _arrange(document, order)
    return str(tomlkit.dumps(document))


def _arrange(document: Any, order: Sequence[str]) -> None:
    """Reorder the tables of the issues; unnamed ones stay behind their current predecessor."""
    import tomlkit

    tables = list(document.get("issue", []))
    names = [str(table.get("id")) for table in tables]
    wanted = _order_of(names, order)
    if wanted == names or not isinstance(document["issue"], tomlkit.items.AoT):
        return
    by_name = dict(zip(names, tables, strict=True))
    arranged = tomlkit.aot()
    for name in wanted:
        arranged.append(by_name[name])
    document["issue"] = arranged


def _order_of(names: Sequence[str], order: Sequence[str]) -> list[str]:
    found = [name for name in order if name in names]
    for place, name in enumerate(names):
        if name not in order:
            found.insert(found.index(names[place - 1]) + 1 if place else 0, name)
    return found


def _tables_of(document: Any, name: str) -> Any:
    import tomlkit

    if name not in document:
        if len(document):
            document.add(tomlkit.nl())
        document[name] = tomlkit.aot()
    return document[name]


def _set(table: Any, values: Mapping[str, Any]) -> Any:
    import tomlkit

    for key, value in values.items():
        if value is None:
            table.pop(key, None)
            continue
        item: Any = value
        if isinstance(value, list | tuple):
            item = tomlkit.array()
            item.extend(value)
            item.multiline(len(str(value)) > _WIDEST or any(isinstance(part, dict) for part in value))
        elif isinstance(value, dict):
            item = tomlkit.inline_table()
            item.update(value)
        elif isinstance(value, str) and "\n" in value:
            item = tomlkit.string(value, multiline=True)
        table[key] = item
    return table
