"""A sample of the sabotage benchmark: no injected fault lands, and the right changes do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from benchmarks.judging.faults import CLASSES
from benchmarks.judging.projects import LANGUAGES
from benchmarks.judging.sabotage import cases_of, outcomes

if TYPE_CHECKING:
    from pathlib import Path


def test_of_a_hundred_changes_the_bad_ones_do_not_land_and_the_good_ones_do(tmp_path: Path) -> None:
    languages = [language for language in LANGUAGES.values() if shutil.which(language.tool)]
    found = outcomes(cases_of(80, 4, languages), tmp_path)
    assert {case.kind for case, _ in found} == {*CLASSES, "good"}
    assert [case for case, status in found if (status == "landed") is not (case.kind == "good")] == []
