"""A check that runs only the tests that failed before: how its command is changed, and what its report says."""

from __future__ import annotations

import sqlite3

import pytest

from executor.checks.console import by_coverage, by_names, narrowed, outcome_of
from executor.checks.junit import Report, read_coverage
from executor.checks.spec import CommandProof
from executor.git.diff import FileChange, Line


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


REACHED = {
    "": frozenset({"x.py", "y.py", "constants.py", "test_x.py", "test_y.py"}),
    "test_x.py": frozenset({"setup.py", "shared.py"}),
    **{f"test_x.py::test_x[{number}]": frozenset({"x.py", "test_x.py"}) for number in range(2)},
    "test_y.py::TestY::test_y": frozenset({"y.py", "x.py", "test_y.py"}),
}
X, Y = ["test_x::test_x[0]", "test_x::test_x[1]"], ["test_y.TestY::test_y"]


def changed(path: str, kind: str = "modified", line: str = "    return 1") -> FileChange:
    return FileChange(path, kind, 1, 0, binary=False, lines=(Line(1, line, added=True),))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([changed("y.py")], Y),
        ([changed("x.py")], [*X, *Y]),
        ([changed("shared.py")], X),  # the set-up that the first test of a file makes for all
        ([changed("docs/a.md"), changed("README.md")], []),
        ([changed("never_run.py")], []),
        ([changed("new.py", "created", "VALUE = 1"), changed("y.py")], Y),
        ([changed("test_y.py")], Y),
        ([changed("test_new.py", "created")], []),
        ([changed("constants.py")], [*X, *Y]),
        ([changed("y.py", line="LIMIT: int = 3")], [*X, *Y]),
        ([changed("y.py", line="register(y)")], [*X, *Y]),
        ([changed("y.py", line="def other() -> None:")], Y),
        ([changed("y.py"), changed("data.json")], [*X, *Y]),
        ([changed("tests/conftest.py", "created")], [*X, *Y]),
        ([changed("pyproject.toml")], [*X, *Y]),
    ],
)
def test_the_tests_that_executed_a_changed_file_are_selected(files: list[FileChange], expected: list[str]) -> None:
    found = by_coverage(check("pytest -q"), REACHED, files)
    assert (sorted(found.tests), found.of) == (sorted(expected), 3)
    assert (found.item is None) == (len(expected) == 3 or (not expected and not any("new" in it.path for it in files)))


def test_many_selected_tests_run_as_whole_files() -> None:
    many = {f"t/test_a.py::test_{number}": frozenset({"a.py"}) for number in range(99)}
    found = by_coverage(
        check("pytest -q", PYTEST_ADDOPTS="-x"), many | {"t/test_b.py::test_b": frozenset()}, [changed("a.py")]
    )
    assert found.item is not None
    assert dict(found.item.env) == {"PYTEST_ADDOPTS": "-x --ignore=t/test_b.py"}
    assert len(found.tests) == 99


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"a.go": "", "b.go": "func TestB("}, ["x: TestA", "x: TestB/one"]),  # a file without a test of its own
        ({"b.go": "func TestB("}, ["x: TestB/one"]),
        ({"b.go": "func TestB(", "README.md": "text"}, ["x: TestB/one"]),
        ({"README.md": "text"}, []),
    ],
)
def test_without_coverage_the_tests_of_the_changed_files_and_of_their_twins_are_selected(
    texts: dict[str, str], expected: list[str]
) -> None:
    found = by_names(check("go test ./..."), ["x: TestA", "x: TestB/one"], texts)
    assert (sorted(found.tests), found.of) == (expected, 2)
    assert (found.item is None) == (len(expected) != 1)


def test_coverage_is_read_for_each_test_and_a_damaged_file_says_nothing() -> None:
    base = sqlite3.connect(":memory:")
    base.executescript("""
        CREATE TABLE file (id INTEGER, path TEXT); CREATE TABLE context (id INTEGER, context TEXT);
        CREATE TABLE line_bits (file_id INTEGER, context_id INTEGER);
        CREATE TABLE arc (file_id INTEGER, context_id INTEGER);
        INSERT INTO file VALUES (1, '/slot/3/tree/src/a.py'), (2, '/usr/lib/os.py'), (3, 't/test_a.py');
        INSERT INTO context VALUES (1, ''), (2, 't/test_a.py::test_a|setup'), (3, 't/test_a.py::test_a|run');
        INSERT INTO line_bits VALUES (1, 1), (1, 2), (2, 3); INSERT INTO arc VALUES (3, 3);
    """)
    data = base.serialize()
    base.close()
    paths = {"src/a.py", "t/test_a.py"}
    assert read_coverage(data, paths) == {
        "": {"src/a.py"},
        "t/test_a.py": {"src/a.py"},
        "t/test_a.py::test_a": {"t/test_a.py"},
    }
    assert read_coverage(data[: len(data) // 2], paths) == {}
    assert read_coverage(b"no database", paths) == {}
