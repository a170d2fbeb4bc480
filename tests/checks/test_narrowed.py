"""A check that runs only the tests that failed before: how its command is changed, and what its report says."""

from __future__ import annotations

import pytest

from executor.checks.console import narrowed, outcome_of
from executor.checks.junit import Report
from executor.checks.spec import CommandProof


def check(run: str, **env: str) -> CommandProof:
    return CommandProof("unit", ("sh", "-c", run), tuple(env.items()), 60.0, (), "key", named=True)


@pytest.mark.parametrize(
    ("run", "tests", "expected"),
    [
        (
            "pytest -q",
            ["tests.test_a.TestX::test_b[1]", "tests.test_a::test_c"],
            "PYTEST_ADDOPTS=-k 'test_b or test_c'",
        ),
        ("pytest --junitxml={report} t", ["t.test_a::test_b"], "PYTEST_ADDOPTS=-k test_b"),
        ("A=1 go test ./...", ["x/y: TestA/case 1", "x: TestB"], "GOFLAGS=-run=^(TestA|TestB)$"),
        ("cargo test -q", ["a::tests::b"], "cargo test -q -- a::tests::b"),
        ("cargo test -- --nocapture", ["a", "b"], "cargo test -- --nocapture a b"),
        ("node --test lib", ["adds (1)"], "node --test '--test-name-pattern=^adds\\ \\(1\\)$' lib"),
        ("node --test", ["a"], "node --test '--test-name-pattern=^a$'"),
    ],
)
def test_a_check_is_narrowed_in_the_way_of_its_runner(run: str, tests: list[str], expected: str) -> None:
    few = narrowed(check(run), tests)
    assert few is not None
    assert expected in {few.argv[2], *(f"{name}={value}" for name, value in few.env)}
    assert (few.name, few.named) == (f"unit ({len(tests)} of its tests)", False)
    assert few.key != check(run).key


@pytest.mark.parametrize(
    ("run", "tests"),
    [
        ("make test", ["a"]),
        ("go test ./... | tee log", ["x: TestA"]),
        ("go test -run TestA ./...", ["x: TestA"]),
        ("cargo test", ["src/lib.rs - f (line 3)"]),
        ("pytest -q", ["an example of a feature file"]),
        ("pytest -q", []),
        ("pytest -q", [f"t::test_{number}" for number in range(41)]),
    ],
)
def test_a_check_stays_whole_where_its_runner_cannot_select(run: str, tests: list[str]) -> None:
    assert narrowed(check(run), tests) is None


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (None, None),
        (Report(1, ("a",), (), (), ("a",)), False),
        (Report(1, (), ("a",), (), ("a",)), False),
        (Report(1, (), (), (), ("a",)), True),
        (Report(0, (), (), (), ()), True),  # no such test in this tree
        (Report(1, (), ("test_x",), (), ("test_x",)), None),  # something else is broken
    ],
)
def test_only_the_asked_tests_decide(report: Report | None, *, expected: bool | None) -> None:
    assert outcome_of(report, ["a"]) is expected
