"""Changes to the schema of a database: migrations, SQL statements in any file, models of ORMs. Pure.

The locations and patterns are data: `rules/stops/database-migration.toml`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.model.paths import is_documentation, is_test, matches, suffix_of
from executor.stop_rules.view import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from executor.git.diff import FileChange, Finding, Line

__all__ = ["schema_changes"]

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
_LARGEST = 500_000


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
