"""The structure of the product stays within its limits, and the walk in ARCHITECTURE.md is what happens."""

from __future__ import annotations

from tests.house import FIGURES, PACKAGE, ROOT, entered, measured, walk


def test_each_figure_of_the_structure_is_within_its_limit() -> None:
    values = measured()
    assert set(values) == set(FIGURES)
    assert {figure.name: values[figure] for figure in FIGURES if values[figure] > figure.limit} == {}


def test_no_limit_is_stricter_than_its_target() -> None:
    assert [figure for figure in FIGURES if figure.limit < figure.target] == []


def test_the_walk_in_the_architecture_is_entered_when_an_issue_lands() -> None:
    assert [name for name in walk() if not (PACKAGE / name).is_file()] == []
    assert [name for name in walk() if name not in entered(checked=True)] == []


def test_every_package_has_its_folder_of_tests() -> None:
    packages = [folder.parent for folder in PACKAGE.glob("*/__init__.py")]
    assert [folder.name for folder in packages if not [*(ROOT / "tests" / folder.name).glob("test_*.py")]] == []
