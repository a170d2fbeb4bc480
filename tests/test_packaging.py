"""What is installed is what is used: rules, types marker and console script are in the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_has_the_rules_the_types_marker_and_the_console_script(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [entry_points] = [name for name in names if name.endswith("entry_points.txt")]
        text = archive.read(entry_points).decode()
    assert {f"executor/_rules/{path.name}" for path in (ROOT / "rules").glob("*.toml")} <= names
    assert "executor/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "milestones/", "benchmarks/"))]
    assert "make-for-milestones = executor.__main__:main" in text.splitlines()
    assert "[doit." not in text, "no doit project but ours gets commands"


def test_the_readme_has_the_two_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert ".venv/bin/pip install -q -e . && .venv/bin/doit milestone:quickstart -n 4" in readme
    assert ".venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest -q -n 3" in readme
    assert "pip install -q -e '.[test]'" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
