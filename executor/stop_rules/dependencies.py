"""Changes to what a project declares: its dependencies, its licence, the tools that judge it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.model.paths import name_of, suffix_of
from executor.stop_rules.manifests import UNREADABLE, dependencies, is_locked, is_manifest, licences, tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from executor.git.diff import FileChange, Finding
    from executor.stop_rules.manifests import Part

    Content = Callable[[str, bool], bytes | None]

__all__ = ["dependency_changes", "licence_changes", "tool_changes"]

_SUBMODULE, _LINK = "160000", "120000"
_LICENCE = re.compile(
    r"(?i)((un|mit-|bsd-|apache-|gpl-)?licen[sc]es?|copying|notices?|copyright|patents|third[-_]party[-_](notices?|licen[sc]es?))([-_.].*)?|.*-licen[sc]e(\.(txt|md|rst))?"
    r"|reuse\.toml|dep5"
)
_LICENCE_FOLDER = re.compile(r"(^|/)LICEN[SC]ES/")
_CODE = frozenset(
    [
        ".py",
        ".pyi",
        ".js",
        ".jsx",
        ".ts",
        ".tsx",
        ".mjs",
        ".cjs",
        ".go",
        ".rs",
        ".rb",
        ".java",
        ".kt",
        ".cs",
        ".php",
        ".c",
        ".h",
        ".cc",
        ".cpp",
        ".hpp",
        ".swift",
        ".scala",
        ".sh",
        ".css",
        ".scss",
        ".vue",
        ".sql",
        ".png",
        ".svg",
        ".toml",
        ".yml",
        ".yaml",
        ".json",
        ".jpg",
    ]
)
_LICENSED = re.compile(
    r"(?i)pyproject\.toml|setup\.(py|cfg)|package\.json|composer\.json|cargo\.toml|pom\.xml|.*\.gemspec|.*\.(cs|fs|vb)proj|.*\.nuspec"
)
_SPDX = re.compile(r"SPDX-License-Identifier\s*:\s*([^\s*/\->#][^*\n>]*)")
_SPDX_BYTES = re.compile(rb"SPDX-License-Identifier\s*:\s*([^\s*/\->#][^*\n>]*)")
_TOOLED = frozenset({"pyproject.toml", "setup.cfg", "package.json"})


def dependency_changes(files: Sequence[FileChange], content: Content) -> Iterator[Finding]:
    """Manifests whose dependencies changed, lock files that changed at all, and submodules."""
    for file in files:
        if _SUBMODULE in {file.old_mode, file.new_mode}:
            yield file.path, 0, "a submodule"
        elif file.kind == "mode":
            continue
        elif is_manifest(file.path):
            yield from _compared(file, content, dependencies, "its dependencies cannot be compared")
        elif is_locked(file.path, content):
            yield from _all_lines(file)


def licence_changes(files: Sequence[FileChange], content: Content) -> Iterator[Finding]:
    """Licence texts, fields of manifests about the licence, and SPDX headers that were removed or altered."""
    for file in files:
        name = name_of(file.path)
        stated = _LICENCE.fullmatch(name) and suffix_of(file.path) not in _CODE
        if (stated or name.lower() == "reuse.toml" or _LICENCE_FOLDER.search(file.path)) and file.kind != "mode":
            yield from _all_lines(file)
        elif _LICENSED.fullmatch(name):
            yield from _compared(file, content, licences, "")
        yield from _headers(file, content)


def tool_changes(files: Sequence[FileChange], content: Content) -> Iterator[Finding]:
    """Tables of manifests that configure the tools by which the code is judged."""
    for file in files:
        if name_of(file.path) in _TOOLED and file.kind != "mode":
            yield from _compared(file, content, tools, "its settings of tools cannot be compared")


def _all_lines(file: FileChange) -> Iterator[Finding]:
    yield file.path, 0, file.kind
    yield from ((file.path, line.number, ("+" if line.added else "-") + line.text) for line in file.lines)


def _compared(
    file: FileChange, content: Content, part: Callable[[str, bytes], Part], unreadable: str
) -> Iterator[Finding]:
    """What differs in one part of a manifest; a link in its place, or one that cannot be read, differs."""
    if _LINK in {file.old_mode, file.new_mode}:
        yield file.path, 0, "a symbolic link"
        return
    parts: list[Part] = []
    for new in (False, True):
        data = content(file.path, new)
        try:
            parts.append(part(file.path, data) if data is not None and data.strip() else {})
        except UNREADABLE:
            if unreadable:
                yield file.path, 0, f"{unreadable}: {'now' if new else 'before'} it cannot be read"
                return
            parts.append(_by_lines(data or b""))
    old, new_part = parts
    for key in dict.fromkeys([*old, *new_part]):
        if old.get(key) != new_part.get(key):
            yield file.path, 0, f"{key}: {_difference(old.get(key, ''), new_part.get(key, ''))}"


def _by_lines(data: bytes) -> Part:
    """Lines about the licence of a manifest that cannot be read."""
    lines = [" ".join(line.split()) for line in data.decode("utf-8", "replace").splitlines()]
    return {"lines": "\n".join(line for line in lines if re.search(r"(?i)licen[sc]e", line))}


def _difference(old: str, new: str) -> str:
    """Both values without what they have in common at their ends."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    start = max(0, start - 30)
    return f"{old[start : len(old) - end][:80] or 'nothing'} -> {new[start : len(new) - end][:80] or 'nothing'}"


def _headers(file: FileChange, content: Content) -> Iterator[Finding]:
    about = [line for line in file.lines if _SPDX.search(line.text)]
    if file.kind != "modified" or not about:
        return
    old, new = (_identifiers(content(file.path, new)) for new in (False, True))
    if old and old != new:
        yield from ((file.path, line.number, ("+" if line.added else "-") + line.text) for line in about)


def _identifiers(data: bytes | None) -> set[bytes]:
    return {match[1].strip() for match in _SPDX_BYTES.finditer(data or b"")}
