"""Which declared globs can match the same file."""

from __future__ import annotations

import pytest

from executor.model.milestone import Issue
from executor.model.plan import Node, globs_meet
from executor.model.rules import LandingRules, Regenerate
from executor.status.collisions import Expected, Overlaps, Predictor


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("src/a.py", "src/a.py", True),
        ("src/a.py", "src/b.py", False),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/a.txt", False),
        ("src/*.py", "src/sub/a.py", False),
        ("src/**", "src/sub/a.py", True),
        ("**/a.py", "src/sub/a.py", True),
        ("**/a.py", "a.py", True),
        ("**/a.py", "src/b.py", False),
        ("tests/test_set*.py", "tests/test_settings.py", True),
        ("tests/test_a*.py", "tests/test_b*.py", False),
        ("tests/*_a.py", "tests/test_*.py", True),
        ("a/**/c", "a/b/**", True),
        ("a/**", "b/**", False),
        ("**", "anything/at/all", True),
        ("a", "a/b", False),
    ],
)
def test_globs_meet_if_a_path_can_match_both(one: str, other: str, *, expected: bool) -> None:
    assert globs_meet(one, other) is expected
    assert globs_meet(other, one) is expected


def overlaps(rules: LandingRules, **files: tuple[str, ...]) -> Overlaps:
    issues = {name: Issue(id=name, title=name, body="-", files=own) for name, own in files.items()}
    nodes = {name: Node(name, "m", issue, (), 0, 0) for name, issue in issues.items()}
    return Overlaps(nodes, rules, lambda _: "", lambda _: Predictor([], []))


def test_issues_meet_in_the_files_that_both_declare() -> None:
    found = overlaps(LandingRules(), a=("x.py", "y.py"), b=("*.py", "z.md"), c=())
    assert found.cost("a", ["b", "c", "a", "unknown"]) == 2
    assert found.between("a", ["b", "c"]) == [Expected("b", ("x.py", "y.py"), 2.0, declared=True)]
    assert found.cost("c", ["a", "b"]) == 0


@pytest.mark.parametrize(
    "rules",
    [
        LandingRules(overlap="off"),
        LandingRules(union=("CHANGES.md",)),
        LandingRules(regenerate=Regenerate(paths=("CHANGES.md",), run="make changes")),
    ],
)
def test_nothing_is_expected_of_files_that_merge_without_conflicts(rules: LandingRules) -> None:
    own = ("docs/CHANGES.md",)
    assert overlaps(rules, a=own, b=own).cost("a", ["b"]) == 0
    assert overlaps(LandingRules(), a=own, b=own).cost("a", ["b"]) == 1
