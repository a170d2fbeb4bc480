"""The interface of a stop rule: its view of a change, and its findings. Pure.

A repository may hold several projects in folders. Paths of rules, and those that an issue declares, are relative to a
project, so a change is split by project. A file of another project is judged as part of that project: its `rules/` and
`milestones/` are protected like the issue's own.

An approval covers exactly the displayed change and rules. The result key of a change describes its effect and survives
a rebase; an approval must not. It is bound to paths, modes and whole contents before and after, so the same lines in
another function, or in a file that has changed meanwhile, need a new approval.

`check_stop_rule` holds a check of another package against its protocol; that package runs it in its tests.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from executor.git.diff import FileChange, Line
from executor.model.fingerprint import digest
from executor.model.paths import is_documentation, is_test, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from executor.git.diff import Change, Finding


__all__ = [
    "VIEWS",
    "Part",
    "StopCheck",
    "View",
    "change_identity",
    "check_stop_rule",
    "compiled",
    "outside",
    "outside_scope",
    "parts_of_change",
    "projects_in",
]


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of a rule. The packaged rules have more of them than the cache of `re` holds (512)."""
    return re.compile(pattern)


@dataclass(frozen=True, slots=True)
class View:
    """A change in the form for stop rules. It contains no claims of the change about itself.

    Attributes:
        files: files of the change that the rule examines, with the added and removed lines.
        content: returns a file's whole content before (False) or after (True) the change; None without one.
        lists: lists of the rule from `rules/stops/` and the user's rules.
        base: every file of the tree that the change was made from.
        commands: argument lists of the checks and of the acceptance of the issue.
        secrets: returns those of some lines that contain a secret, with its kind in place of the text.
        values: name of a variable -> its value, for variables that agent profiles pass on.
        declared: globs of files that the issue declares.
        kind: type of the issue.
        proved: whether a check, acceptance by command or file, or a reviewer can prove that the issue is done.
    """

    files: Sequence[FileChange]
    content: Callable[[str, bool], bytes | None]
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    base: frozenset[str] = frozenset()
    commands: Sequence[Sequence[str]] = ()
    secrets: Callable[[Sequence[Finding]], list[Finding]] = list
    values: Mapping[str, str] = field(default_factory=dict)
    declared: Sequence[str] = ()
    kind: str = ""
    proved: bool = True

    def before(self, path: str) -> bytes | None:
        """A file's content before the change."""
        return self.content(path, False)  # noqa: FBT003  (the engine's own shape)

    def after(self, path: str) -> bytes | None:
        """A file's content after the change."""
        return self.content(path, True)  # noqa: FBT003


class StopCheck(Protocol):
    """A builtin of a stop rule: an entry point of the group ``make_for_milestones.stop_rules``.

    A rule names it by ``builtin``. It is a function of the change alone: no I/O, no clock, and the same change always
    gives the same findings. It runs no code of the change.
    """

    def __call__(self, view: View, /) -> Iterable[Finding]:
        """Return places that stop the change: path, line number (0 for the whole file), text for a person."""
        ...


def change_identity(change: Change, content: Callable[[str, bool], bytes | None]) -> str:
    """Return the identity of a change: path, modes and contents of each of its files before and after.

    Args:
        change: the change, parsed from git's diff.
        content: returns a file's whole content before (False) or after (True); used if git gives no ids.
    """
    parts: list[bytes] = []
    for file in change.files:
        ids = [file.old_id, file.new_id]
        if not any(ids):  # only the mode changed
            ids = [digest(content(file.path, new) or b"") for new in (False, True)]
        fields = (file.path, file.old_mode, file.new_mode, *ids)
        parts.append("\0".join(fields).encode("utf-8", "surrogateescape"))
    return digest(b"\0\0".join(parts))


_DOCUMENTING = frozenset({"docs", "doc", "documentation"})
_TESTING = frozenset({"test", "tests", "testing"})


def outside_scope(view: View) -> Iterator[Finding]:
    """Yield changed files that the issue does not declare, and code if its type is about documents or tests."""
    for path, why in outside(view.files, view.declared, view.kind):
        yield path, 0, why


def outside(files: Sequence[FileChange], declared: Sequence[str], kind: str) -> Iterator[tuple[str, str]]:
    """Yield them as pairs of path and reason.

    Args:
        files: files of the change.
        declared: globs of `files`; without globs nothing is declared. Added tests are always permitted.
        kind: type of the issue.
    """
    for file in files:
        if (kind.lower() in _DOCUMENTING and not is_documentation(file.path) and not matches(file.path, declared)) or (
            kind.lower() in _TESTING and not is_test(file.path) and not matches(file.path, declared)
        ):
            yield file.path, f"{file.kind}, in an issue of type {kind}"
        elif declared and not matches(file.path, declared) and not (file.kind == "created" and is_test(file.path)):
            yield file.path, f"{file.kind}, not among the files that the issue declares"


_LINES = (Line(1, "plain", added=False), Line(1, "", added=True), Line(2, "x" * 20_000, added=True))
_ODD = (Line(1, "\udcff\x00\u202e", added=True), Line(2, "<<<<<<< HEAD", added=True))
_FILES = (
    FileChange("src/app.py", "modified", 2, 1, binary=False, old_mode="100644", new_mode="100644", lines=_LINES),
    FileChange("new \udce9\n\U0001f600.txt", "created", 2, 0, binary=False, new_mode="100755", lines=_ODD),
    FileChange("gone", "deleted", 0, 0, binary=False, old_mode="100644"),
    FileChange("image.png", "modified", 0, 0, binary=True, old_mode="100644", new_mode="100644"),
    FileChange("link", "mode", 0, 0, binary=False, old_mode="100644", new_mode="120000"),
)


def _content(path: str, after: bool) -> bytes | None:  # noqa: FBT001  (the engine's own shape)
    if path == "gone" and after:
        return None
    return b"\x89PNG\x00\xff" if path == "image.png" else b"one\ntwo\n"


VIEWS = (
    View((), _content),
    View(_FILES, _content, base=frozenset({"src/app.py", "gone"}), declared=("src/**",), kind="feature"),
    View(_FILES, lambda _path, _after: None, lists={"words": ("a",)}, commands=(("pytest", "-q"),)),
)
"""Changes of every shape: an empty one, hostile names and lines, unavailable contents."""


def check_stop_rule(plugin: Any) -> list[str]:
    """Return the promises of `StopCheck` that a check breaks; empty if it keeps all."""
    return list(_problems(plugin))


def _problems(plugin: Any) -> Iterator[str]:
    if not callable(plugin):
        yield "it cannot be called with a View"
        return
    for number, view in enumerate(VIEWS):
        try:
            findings = [list(plugin(view)) for _ in range(2)]
        except Exception as error:  # noqa: BLE001  (whatever a stranger's check raises is what is looked for)
            yield f"it raises {type(error).__name__} for view {number}: {error}"
            continue
        if findings[0] != findings[1]:
            yield f"it returns other findings for view {number} the second time"
        yield from (f"view {number}: {wrong}" for item in findings[0] if (wrong := _wrong(item, view)))


def _wrong(finding: Any, view: View) -> str | None:
    match finding:
        case (str(path), int(line), str(text)):
            if path not in {file.path for file in view.files}:
                return f"it names {path!r}, which the change does not touch"
            return None if line >= 0 and text else f"{finding!r}: expected a line of 0 or more and a text"
    return f"it yields {finding!r}, expected a path, the number of a line and a text"


_NOTHING = "\0nothing"
"""A glob that matches no file: there are declared files, but not in this project."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a change that belongs to one project.

    Attributes:
        prefix: its folder in the repository, with a slash at the end; empty at the top.
        change: its files, with paths relative to the project.
        declared: globs of files that the issue declares, also relative.
    """

    prefix: str
    change: Change
    declared: tuple[str, ...]

    def inside(self, path: str) -> str:
        """Return the repository path of a project path."""
        return f"{self.prefix}{path}"

    def base(self, paths: Collection[str]) -> frozenset[str]:
        """Return the repository's files that belong to the project, as project paths."""
        if not self.prefix:
            return frozenset(paths)
        return frozenset(path[len(self.prefix) :] for path in paths if path.startswith(self.prefix))


def projects_in(paths: Collection[str]) -> list[str]:
    """Return folders of the repository with a dodo.py and milestones/, with a slash at the end."""
    return list(_projects_in(frozenset(paths)))


@lru_cache(maxsize=4)
def _projects_in(paths: frozenset[str]) -> tuple[str, ...]:
    folders = {path.rpartition("milestones/")[0] for path in paths if path.endswith(".toml") and "milestones/" in path}
    return tuple(sorted(folder for folder in folders if f"{folder}dodo.py" in paths))


def parts_of_change(change: Change, own: str, paths: Collection[str], declared: Sequence[str]) -> list[Part]:
    """Split a change by the projects of its files; the issue's own project comes first.

    Args:
        change: the change, with paths relative to the repository.
        own: folder of the issue's project, with a slash at the end; empty at the top.
        paths: every file of the tree that the change was made from.
        declared: globs of files that the issue declares, relative to its project.
    """
    prefixes = sorted({own, "", *projects_in(paths)}, key=len, reverse=True)
    files: dict[str, list[FileChange]] = {own: []}
    for file in change.files:
        prefix = next(prefix for prefix in prefixes if file.path.startswith(prefix))
        files.setdefault(prefix, []).append(replace(file, path=file.path[len(prefix) :]))
    return [
        Part(prefix, replace(change, files=tuple(found)), _declared_in(prefix, own, declared))
        for prefix, found in files.items()
    ]


def _declared_in(prefix: str, own: str, declared: Sequence[str]) -> tuple[str, ...]:
    if prefix == own:
        return tuple(declared)
    absolute = [posixpath.normpath(f"{own}{glob}") for glob in declared]
    found = tuple(glob[len(prefix) :] for glob in absolute if glob.startswith(prefix))
    return found or ((_NOTHING,) if declared else ())
