"""Why acceptance is red on the base: by an assertion, as it should be, or by something else."""

from __future__ import annotations

import pytest

from executor.checks.base import red_for
from executor.checks.junit import Report

FAILS = Report(1, ("a::test",), (), (), ("a::test",))
BREAKS = Report(1, (), ("a",), (), ("a",))
EMPTY = Report(0, (), (), (), ())


@pytest.mark.parametrize(
    ("reason", "detail", "report", "why"),
    [
        ("x: exit 1", "E  assert 1 == 2", None, None),
        ("x: exit 1", "ModuleNotFoundError in the text", FAILS, None),
        ("x: exit 127 (command not found)", "", None, "its program cannot be started"),
        ("x: exit 126", "", None, "its program cannot be started"),
        ("x: exit 2", "", BREAKS, "an error before the tests could run"),
        ("x: exit 5", "no tests ran in 0.01s", EMPTY, "no test was collected"),
        ("x: exit 1", "No tests found, exiting with code 1", None, "no test was collected"),
        ("x: exit 1", "Error: Cannot find module './new'", None, "an error before the tests could run"),
        ("x: exit 101", "error: could not compile `a`", None, "an error before the tests could run"),
        ("x: exit 1", "AssertionError: 1 != 2", None, None),
    ],
)
def test_why_acceptance_is_red(reason: str, detail: str, report: Report | None, why: str | None) -> None:
    assert red_for(reason, detail, report) == why


def test_only_a_missing_program_is_reported_a_plain_command_or_of_tests_that_are_yet_to_come() -> None:
    assert red_for("x: exit 1", "cat: a: No such file or directory", None, is_test_run=False) is None
    assert red_for("x: exit 127", "", None, is_test_run=False) == "its program cannot be started"
