"""The JSON of commands has the shapes that executor/status/rows.py declares, and docs/json.schema.json says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest

from executor.status.rows import SHAPES
from tests.status.json_schema import PAGE, page, schema_of
from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path


def test_the_documented_schema_is_that_of_the_declared_shapes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.status.json_schema"


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder: Path = tmp_path_factory.mktemp("json") / "repo"
    made = Repo(folder)
    made.milestone("m1", issue("a", "echo a > a", accept=[{"run": "true"}]) + issue("b", "exit 3", needs=["a"]))
    made.doit("milestone:m1")
    return made


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("list", ["list", "--all", "--json"]),
        ("status", ["status", "--json"]),
        ("plan", ["plan", "m1", "--json"]),
        ("explain", ["explain", "m1/a", "--json"]),
        ("explain", ["explain", "m1/b", "--json"]),
        ("verify", ["verify", "m1", "--json"]),
    ],
)
def test_a_command_prints_its_declared_shape(repo: Repo, command: str, arguments: list[str]) -> None:
    printed = json.loads(repo.doit(*arguments).out)
    jsonschema.validate(printed, schema_of(SHAPES[command]))
    assert printed
