"""What is sabotaged for which check, and what the files of a tree are for."""

from __future__ import annotations

import ast

import pytest

from executor.checks.blindness import broken, kind_of, sabotages

TREE = [
    "src/app/__init__.py",
    "src/app/core.py",
    "tests/test_core.py",
    "tests/conftest.py",
    "README.md",
    "pyproject.toml",
    "setup.py",
    "data/x.json",
    "scripts/check.sh",
]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("src/app/core.py", "product"),
        ("app.py", "product"),
        ("cmd/main.go", "product"),
        ("src/lib.rs", "product"),
        ("lib/index.js", "product"),
        ("packages/a/src/index.ts", "product"),
        ("bin/cli.js", "product"),
        ("src/main.c", "product"),
        ("include/a.h", "product"),
        ("test_app.py", "test"),
        ("tests/data.py", "test"),
        ("conftest.py", "test"),
        ("pkg/a_test.go", "test"),
        ("src/a.test.ts", "test"),
        ("src/__tests__/a.js", "test"),
        ("test.js", "test"),
        ("spec/a_spec.rb", "test"),
        ("src/test/java/ATest.java", "test"),
        ("tests/it.rs", "test"),
        ("setup.py", "tooling"),
        ("dodo.py", "tooling"),
        ("noxfile.py", "tooling"),
        ("docs/conf.py", "tooling"),
        ("vite.config.ts", "tooling"),
        ("run.sh", "tooling"),
        ("build.rs", "tooling"),
        (".github/x.py", "tooling"),
        ("README.md", "docs"),
        ("LICENSE", "docs"),
        ("Makefile", "other"),
        ("pyproject.toml", "other"),
        ("a.json", "other"),
    ],
)
def test_what_a_file_is_for(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_a_run_of_tests_is_judged_by_product_code_that_does_not_parse() -> None:
    ((only, code, rest),) = sabotages(TREE, argv=["pytest", "-q"], is_test_run=True)
    assert "scripts/check.sh" in code.files, "tests of scripts fail on a copy of their own"
    assert "data/x.json" in rest.files
    assert not any(path.startswith("tests/") for path in {**code.files, **rest.files})
    assert sorted(only.files) == ["src/app/__init__.py", "src/app/core.py"]
    assert only.name == "none of its 2 source files parses (src/app/__init__.py, src/app/core.py)"


def test_tests_that_may_be_elsewhere_are_broken_too() -> None:
    (product, *_), (tests,) = sabotages(TREE, argv=["run-it", "pytest"], is_test_run=True, elsewhere=True)
    assert sorted(product.files) == ["src/app/__init__.py", "src/app/core.py"]
    assert sorted(tests.files) == ["tests/conftest.py", "tests/test_core.py"]


def test_another_check_is_blind_only_if_it_passes_on_every_copy() -> None:
    ((product, soiled, ugly, gone),) = sabotages(TREE, argv=["ruff", "check", "."], is_test_run=False)
    assert "README.md" not in product.files
    assert {"README.md", "data/x.json", "tests/test_core.py"} <= set(soiled.files)
    assert "pyproject.toml" not in soiled.files, "without its manifest every tool fails, wherever it looks"
    assert set(ugly.files) == set(product.files)
    assert set(gone.files.values()) == {None}


def test_what_a_command_runs_stays_whole_and_what_it_reads_does_not() -> None:
    ((_, soiled, _, gone),) = sabotages(TREE, argv=["sh", "-c", "./scripts/check.sh pyproject.toml"], is_test_run=False)
    assert "scripts/check.sh" not in {**soiled.files, **gone.files}
    assert "pyproject.toml" in soiled.files


def test_a_check_of_changed_files_is_given_broken_ones() -> None:
    ((only,),) = sabotages(TREE, argv=["ruff", "check"], is_test_run=False, given=["src/app/core.py"])
    assert list(only.files) == ["src/app/core.py"]
    assert only.given == ("src/app/core.py",)
    ((tests, *_),) = sabotages(TREE, argv=["pytest"], is_test_run=True, given=["tests/test_core.py"])
    assert "src/app/core.py" in tests.files
    assert tests.given == ("tests/test_core.py",)
    assert sabotages(TREE, argv=["ruff"], is_test_run=False, given=[]) == []


def test_a_check_with_globs_is_judged_by_the_files_that_they_name() -> None:
    ((first, *_),) = sabotages(TREE, argv=["mypy"], is_test_run=False, about=["src/app/core.py", "pyproject.toml"])
    assert list(first.files) == ["src/app/core.py"]


@pytest.mark.parametrize("tree", [[], ["README.md", "Makefile"], ["dodo.py", "tests/test_a.py"]])
def test_without_product_code_nothing_can_be_proved(tree: list[str]) -> None:
    assert sabotages(tree, argv=["true"], is_test_run=False) == []


def test_what_is_broken_does_not_parse() -> None:
    with pytest.raises(SyntaxError):
        ast.parse(broken("a.py"))
    assert broken("a.php").startswith(b"<?php ")
