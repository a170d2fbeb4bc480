"""Which verdicts are used again, where a check or one of its tests is flaky."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from executor.checks.verdicts import Verdict, Verdicts

if TYPE_CHECKING:
    from pathlib import Path


def kept(verdicts: Verdicts, *failed: str, reported: bool = True) -> Verdict:
    cases = "".join(
        f'<testcase name="{name}">{"<failure/>" if name in failed else ""}</testcase>' for name in ("one", "two")
    )
    report = verdicts.keep_report(f"<testsuite>{cases}</testsuite>".encode()) if reported else ""
    return Verdict(ok=not failed, reason="", detail="", seconds=1.0, run="r", report=report)


@pytest.mark.parametrize("order", [("one", ""), ("", "one")])
def test_a_test_with_two_results_on_one_tree_is_flaky_and_no_other(tmp_path: Path, order: tuple[str, str]) -> None:
    verdicts = Verdicts(tmp_path)
    for failed in order:
        verdicts.keep("t", "k", kept(verdicts, *([failed] if failed else [])))
    assert (verdicts.is_flaky("k"), sorted(verdicts.flaky_tests("k"))) == (False, ["one"])
    for tree, names, used in (("a", "", True), ("b", "one", False), ("c", "two", True), ("d", "one two", True)):
        verdicts.keep(tree, "k", kept(verdicts, *names.split()))
        assert (verdicts.find(tree, "k") is not None) is used, (tree, names)


def test_without_a_report_the_whole_check_is_flaky_and_stays_so(tmp_path: Path) -> None:
    verdicts = Verdicts(tmp_path)
    verdicts.keep("t", "k", kept(verdicts, "one", reported=False))
    verdicts.keep("t", "k", kept(verdicts, reported=False))
    assert verdicts.is_flaky("k")
    verdicts.mark_flaky("k", "t", kept(verdicts, "one"), kept(verdicts))
    assert verdicts.is_flaky("k")
    assert verdicts.find("t", "k") is None
