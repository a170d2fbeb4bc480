"""New modules that are imported in place of others."""

from __future__ import annotations

import pytest

from executor.git.diff import FileChange
from executor.stop_rules.tampering import shadowing_modules

BASE = {
    "calc.py": "",
    "tests/test_a.py": "",
    "app/__init__.py": "",
    "app/x.py": "import click\nfrom jinja2 import x\n",
    "calc2.ts": "",
    "lib/index.js": "",
    "a.js": "",
}
TAKEN = [
    "tests/calc.py",
    "tests/calc/__init__.py",
    "calc/__init__.py",
    "calc.cpython-311-x86_64-linux-gnu.so",
    "__pycache__/calc.cpython-311.pyc",
    "bdb.py",
    "queue/__init__.py",
    "tests/json.py",
    "pluggy/__init__.py",
    "click.py",
    "tests/jinja2/__init__.py",
    "calc2.js",
    "lib.js",
    "node_modules/left-pad/index.js",
]
FREE = [
    "app/json.py",
    "app/coverage.py",
    "app/calc.py",
    "tests/test_b.py",
    "tests/util.py",
    "hello.py",
    "types/a.py",
    "a.mjs",
    "a.d.ts",
    "a.test.js",
    "b.js",
    "docs/json.md",
    "json.toml",
]


def found(path: str, *, deleted: str = "", more: dict[str, str] | None = None) -> list[str]:
    files = [FileChange(path, "created", 1, 0, binary=False)]
    files += [FileChange(deleted, "deleted", 0, 1, binary=False)] if deleted else []
    base = {**BASE, **(more or {})}
    return [where for where, _, _ in shadowing_modules(files, base, lambda name: base.get(name, "").encode())]


@pytest.mark.parametrize("path", TAKEN)
def test_a_name_that_is_taken(path: str) -> None:
    assert found(path) == [path]


@pytest.mark.parametrize("path", FREE)
def test_a_name_that_is_free(path: str) -> None:
    assert found(path) == []


def test_a_module_may_become_a_package() -> None:
    assert found("calc/__init__.py", deleted="calc.py") == []


def test_tests_in_a_package_hide_nothing() -> None:
    assert found("tests/calc.py", more={"tests/__init__.py": ""}) == []


def test_a_source_folder_is_on_the_search_path() -> None:
    assert found("pkg/__init__.py", more={"src/pkg/__init__.py": ""}) == ["pkg/__init__.py"]
    assert found("src/json.py", more={"src/pkg/__init__.py": ""}) == ["src/json.py"]
    assert found("src/pkg/new.py", more={"src/pkg/__init__.py": ""}) == []
