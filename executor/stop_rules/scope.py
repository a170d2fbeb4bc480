"""Files of a change outside of what its issue declares. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.model.paths import is_documentation, is_test, matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.git.diff import FileChange, Finding
    from executor.stop_rules.view import View

__all__ = ["outside", "outside_scope"]

_DOCUMENTING = frozenset({"docs", "doc", "documentation"})
_TESTING = frozenset({"test", "tests", "testing"})


def outside_scope(view: View) -> Iterator[Finding]:
    """Files that the issue does not declare to be changed, and code where its type is about documents or tests."""
    for path, why in outside(view.files, view.declared, view.kind):
        yield path, 0, why


def outside(files: Sequence[FileChange], declared: Sequence[str], kind: str) -> Iterator[tuple[str, str]]:
    """The same as pairs of path and reason.

    Args:
        files: those of the change.
        declared: globs of `files`; none declares nothing. Tests that are added may always come with a change.
        kind: type of the issue.
    """
    for file in files:
        if (kind.lower() in _DOCUMENTING and not is_documentation(file.path) and not matches(file.path, declared)) or (
            kind.lower() in _TESTING and not is_test(file.path) and not matches(file.path, declared)
        ):
            yield file.path, f"{file.kind}, in an issue of type {kind}"
        elif declared and not matches(file.path, declared) and not (file.kind == "created" and is_test(file.path)):
            yield file.path, f"{file.kind}, not among the files that the issue declares"
