"""Every check that a stop rule can name keeps to the interface, those of other packages too."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

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


def test_every_check_of_ours_is_an_entry_point() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["entry-points"]["make_for_milestones.stop_rules"]
    own = {name for name, check in stop_checks().items() if check.__module__.startswith("executor.")}
    assert set(listed) == own
    assert {name: EntryPoint(name, place, "").load() for name, place in listed.items()} == {
        name: stop_checks()[name] for name in listed
    }
