from __future__ import annotations

from typing import Any

import pytest

from executor.checks.spec import CommandProof, FileProof, Proofs, file_problem, proofs_of
from executor.model.milestone import Claim, FileCheck, Issue, RunCheck
from executor.model.outward_rules import Forge
from executor.model.policy import Policy
from executor.model.rules import Check, Limits, Route

LINT = Check(name="lint", run=("ruff", "check"), when=("*.py",), timeout=30, env={"B": "2", "A": "1"})
TESTS = Check(name="tests", run="pytest -q", version=("pytest", "--version"))
SLOW = Check(name="slow", run=("make", "slow"), prefix=("nice", "-n5"), flaky=True)


def policy(*checks: Check, limit: float = 600) -> Policy:
    limits = Limits(
        attempts=3,
        timeout_s=100,
        idle_s=100,
        check_timeout_s=limit,
        output_cap_bytes=4096,
        parallel=1,
        retention_days=1,
        disk_floor_bytes=0,
        import_files=1,
        import_file_bytes=1,
        import_bytes=1,
    )
    found = {check.name: check for check in checks or (LINT, TESTS, SLOW)}
    routes = {"default": Route(checks=("tests",) if "tests" in found else ()), "fix": Route(checks=("slow", "lint"))}
    return Policy(agents={}, checks=found, routes=routes, limits=limits, forge=Forge(kind="local"))


def issue(**fields: Any) -> Issue:
    return Issue(**{"id": "4.1", "title": "T", "body": "-", **fields})


def no_version(_: Check) -> str:
    return ""


def proofs(rules: Policy | None = None, version: str = "", /, **fields: Any) -> Proofs:
    return proofs_of(issue(**fields), rules or policy(), lambda check: version if check.version else "")


def names(found: Proofs) -> list[str]:
    return [item.name for item in found.items]


ACCEPT = (
    Claim(text="it is fast"),
    RunCheck(run="test -f a"),
    FileCheck(file="a.txt", contains="x"),
    RunCheck(run="make e2e", name="end to end", timeout=5),
    Claim(text="it is clear"),
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, ["tests"], id="the default route"),
        pytest.param({"type": "unknown"}, ["tests"], id="a type without a route takes the default one"),
        pytest.param({"type": "fix"}, ["slow", "lint"], id="the route of the type, in its order"),
        pytest.param({"checks": ("lint", "tests")}, ["lint", "tests"], id="its own checks replace the route's"),
        pytest.param({"checks": ()}, [], id="its own empty list replaces the route's"),
        pytest.param(
            {"accept": ACCEPT}, ["tests", "test -f a", "file a.txt", "end to end"], id="acceptance comes after checks"
        ),
        pytest.param({"checks": (), "accept": (Claim(text="fast"),)}, [], id="claims are not proofs"),
    ],
)
def test_proofs_are_checks_then_acceptance_in_declared_order(fields: dict[str, Any], expected: list[str]) -> None:
    assert names(proofs(**fields)) == expected


def test_a_named_check_becomes_a_command() -> None:
    (found,) = proofs(checks=("lint",)).items
    assert isinstance(found, CommandProof)
    assert found.argv == ("ruff", "check")
    assert found.env == (("A", "1"), ("B", "2"))
    assert found.timeout == 30
    assert found.when == ("*.py",)
    assert found.reusable


def test_a_shell_command_a_prefix_and_the_common_time_limit() -> None:
    shell, prefixed = proofs(checks=("tests", "slow")).items
    assert isinstance(shell, CommandProof)
    assert isinstance(prefixed, CommandProof)
    assert shell.argv == ("sh", "-c", "pytest -q")
    assert shell.timeout == 600
    assert prefixed.argv == ("nice", "-n5", "make", "slow")
    assert not prefixed.reusable


def test_acceptance_becomes_commands_and_files_that_always_apply() -> None:
    run, file, named = proofs(checks=(), accept=ACCEPT).items
    assert isinstance(run, CommandProof)
    assert isinstance(file, FileProof)
    assert isinstance(named, CommandProof)
    assert (run.argv, run.timeout, run.when, run.env, run.reusable) == (("sh", "-c", "test -f a"), 600, (), (), True)
    assert (named.argv, named.timeout) == (("sh", "-c", "make e2e"), 5)
    assert (file.file, file.contains) == ("a.txt", "x")


def changed(**fields: Any) -> Check:
    return LINT.model_copy(update=fields)


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(changed(run=("ruff", "check", ".")), id="command"),
        pytest.param(changed(run="ruff check"), id="shell instead of arguments"),
        pytest.param(changed(timeout=31.0), id="time limit"),
        pytest.param(changed(timeout=None), id="no time limit of its own"),
        pytest.param(changed(env={"A": "1", "B": "3"}), id="environment"),
        pytest.param(changed(env={}), id="no environment"),
        pytest.param(changed(prefix=("nice",)), id="prefix"),
    ],
)
def test_the_key_alters_with_what_is_run(check: Check) -> None:
    assert proofs(policy(check), checks=("lint",)).key != proofs(policy(LINT), checks=("lint",)).key


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(changed(env={"A": "1", "B": "2"}), id="order of the environment"),
        pytest.param(changed(timeout=30.0), id="number written with a fraction"),
        pytest.param(
            changed(version=("ruff", "--version")), id="how the version is asked, when the answer is the same"
        ),
    ],
)
def test_the_key_does_not_alter_with_how_it_is_written(check: Check) -> None:
    assert proofs(policy(check), checks=("lint",)).key == proofs(policy(LINT), checks=("lint",)).key


def test_the_key_alters_with_the_version_of_a_tool_that_is_asked_for_it() -> None:
    assert proofs(None, "8.0", checks=("tests",)).key != proofs(None, "8.1", checks=("tests",)).key
    assert proofs(None, "8.0", checks=("lint",)).key == proofs(None, "8.1", checks=("lint",)).key


def test_each_check_is_asked_for_its_version_once() -> None:
    asked: list[str] = []

    def version(check: Check) -> str:
        asked.append(check.name)
        return ""

    proofs_of(issue(checks=("lint", "tests"), accept=ACCEPT), policy(), version)
    assert asked == ["lint", "tests"]


def test_the_key_does_not_alter_with_the_common_time_limit() -> None:
    """A slower machine's limits.toml must not make everything stale."""
    one, other = (proofs(policy(limit=limit), accept=ACCEPT) for limit in (600, 900))
    assert one.key == other.key
    assert one != other


def test_the_key_alters_with_order_and_number_but_not_with_claims() -> None:
    one = proofs(checks=("lint", "tests"))
    assert proofs(checks=("tests", "lint")).key != one.key
    assert proofs(checks=("lint",)).key != one.key
    assert proofs(checks=("lint", "tests"), accept=(Claim(text="fast"),)).key == one.key
    assert proofs(checks=("lint", "tests"), accept=(RunCheck(run="true"),)).key != one.key


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(RunCheck(run="a"), RunCheck(run="b"), False, id="command"),
        pytest.param(RunCheck(run="a"), RunCheck(run="a", timeout=3), False, id="time limit"),
        pytest.param(RunCheck(run="a"), RunCheck(run="a", name="n"), True, id="what it is called"),
        pytest.param(FileCheck(file="a"), FileCheck(file="b"), False, id="file"),
        pytest.param(FileCheck(file="a"), FileCheck(file="a", contains="x"), False, id="pattern"),
        pytest.param(FileCheck(file="a", contains="x"), FileCheck(file="a", contains="y"), False, id="other pattern"),
        pytest.param(FileCheck(file="a"), RunCheck(run="file a"), False, id="a file is not a command"),
    ],
)
def test_the_key_of_acceptance(one: RunCheck | FileCheck, other: RunCheck | FileCheck, same: bool) -> None:
    keys = {proofs(checks=(), accept=(item,)).key for item in (one, other)}
    assert (len(keys) == 1) is same


def test_a_command_has_the_same_key_as_a_check_and_as_acceptance() -> None:
    """So that one verdict serves both."""
    check = Check(name="unit", run="make unit")
    found = proofs_of(issue(checks=("unit",), accept=(RunCheck(run="make unit"),)), policy(check), no_version)
    assert found.items[0].key == found.items[1].key


def test_no_proofs_have_a_key_too() -> None:
    assert proofs(checks=()).items == ()
    assert proofs(checks=()).key.startswith("sha256:")


@pytest.mark.parametrize(
    ("contains", "content", "exists", "problem"),
    [
        pytest.param(None, b"anything", True, None, id="exists"),
        pytest.param(None, b"", True, None, id="exists and is empty"),
        pytest.param(None, None, True, None, id="exists but is not a regular file"),
        pytest.param(None, None, False, "doc.md does not exist in the result", id="missing"),
        pytest.param("x", None, False, "doc.md does not exist in the result", id="missing with a pattern"),
        pytest.param("usage", b"# usage\n", True, None, id="contains"),
        pytest.param("^## Usage$", b"# A\n## Usage\ntext\n", True, None, id="anchors are those of lines"),
        pytest.param("^Usage", b"# Usage\n", True, "doc.md does not contain '^Usage'", id="anchor does not match"),
        pytest.param("a.b", b"a\nb", True, "doc.md does not contain 'a.b'", id="a dot does not match a line end"),
        pytest.param("(?s)a.b", b"a\nb", True, None, id="a flag inside the pattern counts"),
        pytest.param("Usage", b"usage", True, "doc.md does not contain 'Usage'", id="case counts"),
        pytest.param("grüße", "viele grüße".encode(), True, None, id="not ASCII"),
        pytest.param("end", b"\xff\xfe end", True, None, id="content that is not text"),
        pytest.param("x", b"", True, "doc.md does not contain 'x'", id="empty content"),
        pytest.param("x", None, True, "doc.md does not contain 'x'", id="no content"),
        pytest.param("", b"", True, None, id="the empty pattern"),
    ],
)
def test_file_acceptance(contains: str | None, content: bytes | None, exists: bool, problem: str | None) -> None:
    assert file_problem(FileProof("file doc.md", "doc.md", contains, ""), content, exists=exists) == problem
