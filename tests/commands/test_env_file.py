"""The file of variables for runs that cron starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from executor.commands.admin.cron import read_env_file
from executor.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, text: str) -> str:
    path = folder / "env"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1\n", {"A": "1"}),
        ("# comment\n\nA = 1\r\nexport B='x y' # c\n", {"A": "1", "B": "x y"}),
        ('A="a\\"b"\nB=\'$A ${A}\'\nC=$A\n', {"A": 'a"b', "B": "$A ${A}", "C": "$A"}),
        ("A=\n", {"A": ""}),
        ("KEY=a#b=c\n", {"KEY": "a#b=c"}),
        ("", {}),
    ],
)
def test_variables_are_read_and_nothing_is_expanded(tmp_path: Path, text: str, found: dict[str, str]) -> None:
    assert read_env_file(written(tmp_path, text)) == found


@pytest.mark.parametrize(("text", "line"), [("A=1\n\nno value here\n", 3), ("A\n", 1), ("1A=2\n", 1), ('A="open\n', 1)])
def test_a_line_that_is_no_assignment_is_named(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(UsageError, match=f"line {line}: expected NAME=VALUE"):
        read_env_file(written(tmp_path, text))
