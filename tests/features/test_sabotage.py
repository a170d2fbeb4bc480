"""A sample of the sabotage benchmark: no injected fault lands, and the right changes do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from benchmarks.judging.faults import CLASSES
from benchmarks.judging.projects import LANGUAGES
from benchmarks.judging.sabotage import cases_of, outcomes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("faults", "names"),
    [(len(CLASSES), ("python",)), pytest.param(80, tuple(LANGUAGES), marks=pytest.mark.long)],
    ids=["one of each class in Python", "a hundred in all languages"],
)
def test_bad_changes_do_not_land_and_good_ones_do(tmp_path: Path, faults: int, names: tuple[str, ...]) -> None:
    languages = [LANGUAGES[name] for name in names if shutil.which(LANGUAGES[name].tool)]
    found = outcomes(cases_of(faults, 4, languages), tmp_path)
    assert {case.kind for case, _ in found} == {*CLASSES, "good"}
    assert [case for case, status in found if (status == "landed") is not (case.kind == "good")] == []
