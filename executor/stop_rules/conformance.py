"""Tests a check of a stop rule against its protocol; a package with such a check runs this in its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.git.diff import FileChange, Line
from executor.stop_rules.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VIEWS", "check"]

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


def check(plugin: Any) -> list[str]:
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
            yield f"it gives other findings for view {number} the second time"
        yield from (f"view {number}: {wrong}" for item in findings[0] if (wrong := _wrong(item, view)))


def _wrong(finding: Any, view: View) -> str:
    match finding:
        case (str(path), int(line), str(text)):
            if path not in {file.path for file in view.files}:
                return f"it names {path!r}, which the change does not touch"
            return "" if line >= 0 and text else f"{finding!r}: expected a line of 0 or more and a text"
    return f"it yields {finding!r}, expected a path, the number of a line and a text"
