"""The name of an issue across milestones."""

from __future__ import annotations

import pytest

from executor.model.fingerprint import IssueRef


@pytest.mark.parametrize(
    ("text", "milestone", "issue"), [("m4/4.1", "m4", "4.1"), ("m4/a/b", "m4", "a/b"), ("m4", "m4", "")]
)
def test_a_name_has_two_parts(text: str, milestone: str, issue: str) -> None:
    assert IssueRef.parse(text) == (milestone, issue)


def test_a_name_is_written_as_it_is_read() -> None:
    assert str(IssueRef("m4", "4.1")) == f"{IssueRef.parse('m4/4.1')}" == "m4/4.1"
