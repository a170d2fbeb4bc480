"""Every check that a stop rule can name keeps to the interface, those of other packages too."""

from __future__ import annotations

import pytest

from executor.git.diff import FileChange, Line
from executor.stop_rules.evaluate import stop_checks
from executor.stop_rules.view import View

LINES = (Line(1, "x = 1", added=False), Line(1, "x = 2", added=True))
FILE = FileChange("a.py", "modified", 1, 1, binary=False, lines=LINES)


@pytest.mark.parametrize("name", sorted(stop_checks()))
def test_a_check_gives_places_and_the_same_ones_again(name: str) -> None:
    check = stop_checks()[name]
    view = View(files=(FILE,), content=lambda _, new: b"x = 2\n" if new else b"x = 1\n", base=frozenset({"a.py"}))
    found = list(check(view))
    assert found == list(check(view))
    for finding in found:
        path, line, text = finding
        assert (path, line >= 0, bool(text)) == ("a.py", True, True)
    assert list(check(View(files=(), content=lambda *_: None))) == []
