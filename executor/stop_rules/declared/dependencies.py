"""Changes to the declarations of a project: dependencies, licence, tools that judge it, schema of its database. Pure.

A schema changes by migrations, SQL statements in any file, and models of ORMs; their locations and patterns are data:
`rules/stops/database-migration.toml`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.model.paths import is_documentation, is_test, matches, name_of, suffix_of
from executor.stop_rules.commands import Reached, reached
from executor.stop_rules.declared.manifests import (
    IN_REQUIREMENTS,
    READERS,
    REQUIREMENTS,
    UNREADABLE,
    ToolNames,
    build_parts,
    dependencies,
    licences,
    tools,
)
from executor.stop_rules.test_evidence.test_suite import judges
from executor.stop_rules.view import View, compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from executor.git.diff import FileChange, Finding, Line
    from executor.stop_rules.declared.manifests import Part

    Content = Callable[[str, bool], bytes | None]


__all__ = ["dependency_changes", "licence_changes", "schema_changes", "tool_changes"]


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
_SCRIPT = re.compile(r"(?m)^# /// script\n((?:#(?: .*)?\n)*?)# ///$")
_ADDED_LINTER = re.compile(
    r"tool (ruff|mypy|pyright|basedpyright|pylint|flake8|ty|bandit|isort|pyrefly|importlinter|vulture"
    r"|interrogate|deptry|pydocstyle|semgrep): nothing -> "
)
_ADDED_SCRIPT = re.compile(r"tool scripts\.((?:test|lint|typecheck|check|coverage|ci)(?::[^ ]*)?): nothing -> ")
_BINDING = re.compile(r"SPDX-License-Identifier\s*:.*\b(A?GPL|LGPL|SSPL|EUPL|OSL|BUSL|CC-BY-(NC|SA))\b")
_REMARK = re.compile(r"\s*(?:$|#(?!!)|//(?!>))")
_REMARKS_COUNT = frozenset({"package.swift", "build.sc"})
_TOP = 40
"""Number of lines at the top of a file that may contain its notice."""
_TOOLED = frozenset(
    {"pyproject.toml", "setup.cfg", "package.json", "tox.ini", "composer.json", "deno.json", "deno.jsonc"}
)


def dependency_changes(view: View) -> Iterator[Finding]:
    """Yield manifests with changed dependencies, all changed lock files and vendored code, images, submodules."""
    for file in view.files:
        path = file.path.lower()
        if _SUBMODULE in {file.old_mode, file.new_mode}:
            yield file.path, 0, "a submodule"
        elif file.kind == "mode":
            continue
        elif is_manifest(file.path):
            yield from _compared(file, view.content, dependencies, "its dependencies cannot be compared")
        elif is_locked(file.path, view.content) or matches(path, view.lists.get("locked", ())):
            if not _only_remarks(file):
                yield from _all_lines(file)
        elif matches(path, view.lists.get("vendored", ())):
            yield file.path, 0, f"{file.kind}, third-party code"
        elif not is_test(file.path):
            yield from _dependency_lines(file, view)


def _only_remarks(file: FileChange) -> bool:
    """Return whether only blank lines and whole lines of remarks changed; in some files remarks are read by tools."""
    if file.kind != "modified" or file.binary or not file.lines or name_of(file.path).lower() in _REMARKS_COUNT:
        return False
    return file.old_mode == file.new_mode and all(_REMARK.match(line.text) for line in file.lines)


def _lines_about(file: FileChange, view: View) -> Iterator[Finding]:
    """Yield changed lines that a rule covers in other files: `lines` of the rule, as ``GLOB => pattern``."""
    for item in view.lists.get("lines", ()):
        glob, _, pattern = item.partition(" => ")
        if matches(file.path.lower(), (glob.strip(),)):
            yield from (
                (file.path, line.number, ("+" if line.added else "-") + line.text)
                for line in file.lines
                if compiled(pattern.strip()).search(line.text)
            )


def _dependency_lines(file: FileChange, view: View) -> Iterator[Finding]:
    """Yield lines about images and packages in other files, and inline metadata of scripts."""
    yield from _lines_about(file, view)
    if suffix_of(file.path) == ".py" and any(line.text.startswith("#") for line in file.lines):
        old, new = (_inline(view.content(file.path, new) or b"") for new in (False, True))
        if old != new:
            yield file.path, 0, f"dependencies of a script: {_difference(old, new)}"


def _inline(data: bytes) -> str:
    """Return the metadata of a script in comments (PEP 723), without white space."""
    text = data[:100_000].decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(re.sub(r"\s", "", block) for block in _SCRIPT.findall(text))


def licence_changes(view: View) -> Iterator[Finding]:
    """Yield changed licence texts and licence fields of manifests, and removed or altered headers."""
    headers = [compiled(pattern) for pattern in view.lists.get("headers", ())]
    for file in view.files:
        name = name_of(file.path)
        stated = _LICENCE.fullmatch(name) and suffix_of(file.path) not in _CODE
        if (stated or name.lower() == "reuse.toml" or _LICENCE_FOLDER.search(file.path)) and file.kind != "mode":
            yield from _all_lines(file)
            continue
        if _LICENSED.fullmatch(name):
            yield from _compared(file, view.content, licences, "")
        yield from _headers(file, view.content)
        yield from _copyleft(file, view)
        yield from _notices(file, view, headers)


def _copyleft(file: FileChange, view: View) -> Iterator[Finding]:
    """Yield a new file under a copyleft licence if the project's licence is another one."""
    if file.kind != "created":
        return
    found = [line for line in file.lines[:_TOP] if _BINDING.search(line.text)]
    if not found:
        return
    own = b"".join(view.before(path) or b"" for path in view.base if _LICENCE.fullmatch(path))
    if not re.search(rb"(?i)general public license", own):
        yield from ((file.path, line.number, "+" + line.text) for line in found)


def _notices(file: FileChange, view: View, headers: list[re.Pattern[str]]) -> Iterator[Finding]:
    """Yield removed lines of a notice at the top of a code file, unless a year or a name was added to them."""
    if file.kind != "modified" or not headers or suffix_of(file.path) not in _CODE:
        return
    gone = [
        line
        for line in file.lines
        if not line.added and line.number <= _TOP and any(pattern.search(line.text) for pattern in headers)
    ]
    if not gone:
        return
    after = (view.after(file.path) or b"")[:20_000].decode("utf-8", "replace")
    kinds = [pattern for pattern in headers if any(pattern.search(line.text) for line in gone)]
    if any(not pattern.search(after) for pattern in kinds):
        yield from ((file.path, line.number, "-" + line.text) for line in gone)


def tool_changes(view: View) -> Iterator[Finding]:
    """Yield changed settings of judging tools, automatic scripts of package.json, and inputs of the checks."""
    found = _judging(view)
    for file in view.files:
        if name_of(file.path) in _TOOLED and file.kind != "mode":
            names = ToolNames.of(view.lists, found.package_scripts)

            def part(path: str, data: bytes, names: ToolNames = names) -> Part:
                return tools(path, data, names)

            for path, number, what in _compared(file, view.content, part, "its tool settings cannot be compared"):
                if not _adds_a_script(what, found.package_scripts) and not _adds_a_tool(what, view.commands):
                    yield path, number, what
        yield from _reached(file, found, view)
        yield from _lines_about(file, view)
        yield from _left_out(file, view)


def _judging(view: View) -> Reached:
    """Return the files that judge the change: those that its commands and the settings of tools reach."""
    # settings load files of the base only, so a change that only adds files touches none of them
    if not view.commands and view.base.isdisjoint(file.path for file in view.files):
        return Reached()
    return reached(view.commands, view.base, view.before)


def _left_out(file: FileChange, view: View) -> Iterator[Finding]:
    """Yield parts of a build that it no longer has although they are still there: their tests do not run."""
    if name_of(file.path).lower() not in {"pom.xml", "cargo.toml"} or file.kind != "modified":
        return
    try:
        old, new = (build_parts(file.path, view.content(file.path, new) or b"") for new in (False, True))
    except UNREADABLE:
        return  # other rules name it
    folder = file.path.rpartition("/")[0]
    deleted = {it.path for it in view.files if it.kind == "deleted"}
    for part in sorted(old - new):
        inside = f"{folder}/{part.rstrip('/')}/".lstrip("/")
        if "*" in part or any(path.startswith(inside) and path not in deleted for path in view.base):
            yield file.path, 0, f"the build no longer has {part}"


def _adds_a_script(what: str, reached_scripts: Collection[str]) -> bool:
    """Return whether a difference is a new script of package.json that neither a check nor npm runs automatically."""
    added = _ADDED_SCRIPT.match(what)
    return added is not None and added[1] not in reached_scripts


def _adds_a_tool(what: str, commands: Sequence[Sequence[str]]) -> bool:
    """Return whether a difference is the first table of a linter that no check runs."""
    added = _ADDED_LINTER.match(what)
    if added is None or not commands:
        return False
    name = {"importlinter": "lint-imports"}.get(added[1], added[1])
    return not any(name in word for argv in commands for word in argv)


def _reached(file: FileChange, found: Reached, view: View) -> Iterator[Finding]:
    """Yield a changed script that a check runs as a judge, unless the issue declares the change."""
    if file.kind == "created" and matches(file.path, found.included):
        yield file.path, 0, "created; a makefile of the checks includes it"
    if file.path in found.settings and not is_test(file.path) and not matches(file.path, view.declared):
        yield file.path, 0, f"{file.kind}; {found.settings[file.path]} loads it"
        return
    why = found.scripts.get(file.path)
    if why is None or is_test(file.path) or matches(file.path, view.declared) or not judges(file.path, view.base):
        return
    yield file.path, 0, f"{file.kind}; run by the check `{why}`"


def _all_lines(file: FileChange) -> Iterator[Finding]:
    yield file.path, 0, file.kind
    yield from ((file.path, line.number, ("+" if line.added else "-") + line.text) for line in file.lines)


def _compared(
    file: FileChange, content: Content, part: Callable[[str, bytes], Part], unreadable: str
) -> Iterator[Finding]:
    """Yield the differences in one part of a manifest; a link or an unreadable manifest counts as different."""
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
                yield file.path, 0, f"{unreadable}: cannot be read {'now' if new else 'before'}"
                return
            parts.append(_by_lines(data or b""))
    old, new_part = parts
    for key in dict.fromkeys([*old, *new_part]):
        if old.get(key) != new_part.get(key):
            yield file.path, 0, f"{key}: {_difference(old.get(key, ''), new_part.get(key, ''))}"


def _by_lines(data: bytes) -> Part:
    """Return lines about the licence in an unreadable manifest."""
    lines = [" ".join(line.split()) for line in data.decode("utf-8", "replace").splitlines()]
    return {"lines": "\n".join(line for line in lines if re.search(r"(?i)licen[sc]e", line))}


def _difference(old: str, new: str) -> str:
    """Return both values without their common prefix and suffix."""
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


_THING = (
    r"(UNIQUE\s+|OR\s+REPLACE\s+|GLOBAL\s+|LOCAL\s+|TEMP(ORARY)?\s+|UNLOGGED\s+|MATERIALIZED\s+|CLUSTERED\s+|EXTERNAL\s+)*"
    r"(TABLE|INDEX|VIEW|SCHEMA|DATABASE|SEQUENCE|TRIGGER|FUNCTION|PROCEDURE|TYPE|DOMAIN|EXTENSION|POLICY|COLUMN)\b"
)
_DDL = re.compile(
    rf"(?i)(^|[;'$])\s*(((CREATE|ALTER|DROP)\s+{_THING})|TRUNCATE\s+(TABLE\s+)?\w|RENAME\s+TABLE\b)", re.MULTILINE
)
_QUOTED = re.compile(
    rf"(?i:(execute\w*|query|exec|raw|prepare|text|run_sql|RunSQL|sql)!?\(\s*[rfbu]{{0,2}}[\"'`]+\s*(CREATE|ALTER|DROP)\s+{_THING})"
    rf"|(?<![\w])[rfbuRFBU]{{0,2}}[\"'`]{{1,3}}\s*(CREATE|ALTER|DROP)\s+{_THING}"
    r"|(?i:[\"'`]{1,3}\s*(CREATE|ALTER|DROP)\s+TABLE\s+(IF\s+(NOT\s+)?EXISTS\s+)?[\w.\"`\[{]+\]?\"?`?\}?\s*(\(|ADD\b|DROP\b|RENAME\b|ALTER\b|;|CASCADE|[\"'`]))"
)
_BLOCK = re.compile(r"/\*.*?\*/", re.DOTALL)
_SQL = frozenset({".sql", ".ddl", ".psql", ".pgsql", ".hql", ".cql"})
_COMMENTED = re.compile(r"\s*(#(?!\[)|//|\*|--)")
_LARGEST = 500_000  # bytes of a manifest; locks are not read by this rule


def schema_changes(
    files: Sequence[FileChange], content: Callable[[str, bool], bytes | None], lists: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Yield migrations, statements and models that a change adds, alters or removes.

    Args:
        files: files of the change.
        content: returns a file's whole content before (False) or after (True).
        lists: lists of the rule. `migrations`: globs of migrations and schemas. `calls`: patterns of lines that change
            a schema. `models`: pairs of a pattern in a file and a pattern of its lines, joined by `` => ``.
    """
    calls = [compiled(pattern) for pattern in lists.get("calls", ())]
    models = [
        (compiled(where), compiled(what))
        for where, _, what in (item.partition(" => ") for item in lists.get("models", ()))
    ]
    found: list[Finding] = []
    for file in files:
        if is_test(file.path):
            continue
        if matches(file.path.lower(), lists.get("migrations", ())) and not file.path.endswith("/__init__.py"):
            found.append((file.path, 0, "a migration or schema"))
        elif not is_documentation(file.path) and file.lines:
            texts = (
                [(content(file.path, new) or b"")[:_LARGEST].decode("utf-8", "replace") for new in (False, True)]
                if models
                else []
            )
            inside = [what for where, what in models if any(where.search(text) for text in texts)]
            found += ((file.path, line.number, line.text) for line in _lines(file, calls, inside))
    return found


def _lines(file: FileChange, calls: Sequence[re.Pattern[str]], models: Sequence[re.Pattern[str]]) -> Iterator[Line]:
    if suffix_of(file.path) in _SQL:
        for sign in (True, False):
            yield from _statements([line for line in file.lines if line.added is sign])
        return
    for line in file.lines:
        if not _COMMENTED.match(line.text) and any(pattern.search(line.text) for pattern in (*calls, *models)):
            yield line
    for sign in (True, False):
        lines = [line for line in file.lines if line.added is sign and not _COMMENTED.match(line.text)]
        text = "\n".join(line.text for line in lines)
        for match in _QUOTED.finditer(text):
            yield lines[text.count("\n", 0, match.start())]


def _statements(lines: Sequence[Line]) -> Iterator[Line]:
    text = "\n".join(line.text.removeprefix("\ufeff") for line in lines)
    plain = _BLOCK.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    plain = re.sub(r"--[^\n]*", "", plain)
    for match in _DDL.finditer(plain):
        yield lines[plain.count("\n", 0, match.start(2))]


_LOCKED = re.compile(
    r"(?i)package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|pnpm-workspace\.yaml|bun\.lockb?|deno\.lock"
    r"|pipfile(\.lock)?|(uv|poetry|pdm|pixi)\.lock|pylock(\..+)?\.toml|cargo\.lock|go\.(mod|sum|work)|go\.work\.sum"
    r"|gradle\.lockfile|.*\.lockfile|libs\.versions\.toml|gemfile(\.lock)?|gems\.(rb|locked)|.*\.gemspec|composer\.lock"
    r"|.*\.(cs|fs|vb)proj|packages\.config|packages\.lock\.json|directory\.packages\.props|conda-lock\.ya?ml"
    r"|mix\.(exs|lock)|podfile(\.lock)?|package\.(swift|resolved)|pubspec\.(yaml|lock)|\.gitmodules"
)
_CONDA = re.compile(r"(?i)environment([-_.].*)?\.ya?ml")
_REQUIREMENT = re.compile(
    r"-[rcefi]\b.*|--\S+.*|(?:git|https?|file)\+?:.*|\.{1,2}/.*"
    r"|[A-Za-z0-9][\w.-]*(?:\[[\w, .-]*\])?\s*(?:(?:[=<>!~]=?=?|@).*|;.*)?"
)
_PINNED = re.compile(r"[A-Za-z0-9][\w.-]*(?:\[[\w, .-]*\])?\s*(?:[=<>!~]=|[<>])\s*\d|-r\s+\S")


def is_locked(path: str, content: Callable[[str, bool], bytes | None]) -> bool:
    """Return whether a file is about dependencies only, so any change of it changes a dependency."""
    name = name_of(path)
    both = (
        [content(path, new) or b"" for new in (False, True)]
        if name.endswith((".yml", ".yaml", ".txt", ".in", ".pip"))
        else []
    )
    if _CONDA.fullmatch(name) or (both and name.lower().endswith(("env.yml", "env.yaml"))):
        return any(re.search(rb"(?m)^\s*dependencies\s*:", data) for data in both)
    if name.endswith((".yml", ".yaml")):
        return any(
            re.search(rb"(?m)^channels\s*:", data) and re.search(rb"(?m)^dependencies\s*:", data) for data in both
        )
    if both:
        return any(_lists_requirements(data) for data in both)
    return bool(_LOCKED.fullmatch(name))


def _lists_requirements(data: bytes) -> bool:
    """Return whether a text has only requirements, at least one with a version, whatever its file name."""
    text = re.sub(r"\\\n", " ", data[:100_000].decode("utf-8", "replace"))
    lines = [line for raw in text.splitlines() if (line := re.sub(r"(^|\s)#.*", "", raw).strip())]
    return bool(lines) and any(map(_PINNED.match, lines)) and all(map(_REQUIREMENT.fullmatch, lines))


def is_manifest(path: str) -> bool:
    """Return whether a file declares dependencies among other things."""
    name = name_of(path).lower()
    return name in READERS or bool(REQUIREMENTS.fullmatch(name) or IN_REQUIREMENTS.search(path))
