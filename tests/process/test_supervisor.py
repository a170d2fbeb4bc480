"""How the supervisor starts: little is imported, and nothing that is not its own or of the standard library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import executor
from executor.process.runner import SCRIPT

PACKAGE = Path(executor.__file__).parent
READY = '{"ready": true, "problem": ""}\n'
SLOW = {"contextlib", "dataclasses", "importlib.machinery", "inspect", "pathlib", "subprocess", "threading", "typing"}

COORDINATOR = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from executor.process.runner import Command, Supervisor
here = Path(sys.argv[2])
with Supervisor(here / "lock") as running:
    command = Command(("/bin/echo", "a-secret"), here, {}, here / "log", secrets=("a-secret",))
    print(running.run(command).describe())
"""


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A folder like site-packages, with the package and without bytecode."""
    folder = tmp_path / "installed"
    shutil.copytree(PACKAGE, folder / "executor", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def start(script: Path, here: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Start it as the client does, in a folder, with nobody to serve."""
    hear, say = os.pipe()
    try:
        command = [sys.executable, "-I", "-S", "-X", "utf8", *options, str(script), str(here / "lock"), "1", str(hear)]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=(hear,), cwd=here, check=False
        )
    finally:
        os.close(hear)
        os.close(say)


def script_in(installation: Path) -> Path:
    return installation / "executor" / SCRIPT.relative_to(PACKAGE)


def test_the_start_imports_little_and_of_the_package_only_the_supervisor_and_the_redactor(tmp_path: Path) -> None:
    done = start(SCRIPT, tmp_path, "-X", "importtime")
    assert done.stdout == READY
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    own = {name for name in loaded if name.partition(".")[0] == "executor"}
    modules = {f"executor.process.supervisor.{path.stem}" for path in SCRIPT.parent.glob("[!_]*.py")}
    folders = {"executor", "executor.process", "executor.process.supervisor"}
    assert own == modules | folders | {"executor.process.redact"}
    foreign = loaded - own - {"imported package"}  # the heading of the table
    assert {name.partition(".")[0] for name in foreign} <= sys.stdlib_module_names
    bare_script = tmp_path / "bare.py"
    bare_script.write_text("import ctypes\n")
    bare = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", str(bare_script)],
        capture_output=True,
        text=True,
        check=True,
    )
    # Python 3.14 itself loads more for ctypes
    unavoidable = {line.rpartition("|")[2].strip() for line in bare.stderr.splitlines()}
    assert not (foreign - unavoidable) & SLOW


def test_nothing_beside_the_package_and_nothing_in_the_current_folder_is_imported(
    installation: Path, tmp_path: Path
) -> None:
    for name in ("ctypes", "json", "os", "re", "signal", "sitecustomize", "usercustomize"):
        for folder in (installation, script_in(installation).parent, tmp_path):
            (folder / f"{name}.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "executor").mkdir()
    (tmp_path / "executor" / "__init__.py").write_text("raise SystemExit('imported')\n")
    done = start(script_in(installation), tmp_path)
    assert (done.stdout, done.stderr) == (READY, "")


def test_it_starts_where_no_bytecode_can_be_written(installation: Path, tmp_path: Path) -> None:
    for folder in [installation / "executor", *(path for path in installation.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("in the way")
    done = start(script_in(installation), tmp_path)
    assert (done.stdout, done.stderr) == (READY, "")


@pytest.mark.parametrize(("option", "kept"), [("-B", False), ("-Wdefault", True)])
def test_bytecode_of_the_supervisor_is_kept_as_that_of_its_client(
    installation: Path, tmp_path: Path, option: str, *, kept: bool
) -> None:
    command = [sys.executable, option, "-c", COORDINATOR, str(installation), str(tmp_path)]
    assert subprocess.check_output(command, text=True, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}) == "exit 0\n"
    assert (tmp_path / "log").read_text() == "[redacted]\n"
    assert (script_in(installation).parent / "__pycache__").exists() is kept
