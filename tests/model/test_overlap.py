"""Which declared globs can match the same file."""

from __future__ import annotations

import pytest

from executor.model.plan import globs_meet, overlap


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


def test_issues_that_declare_nothing_overlap_with_nothing() -> None:
    assert overlap((), ("a",)) == 0
    assert overlap(("a", "b"), ("a", "b", "c")) == 2
