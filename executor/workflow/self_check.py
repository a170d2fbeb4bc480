"""The command that an agent in a step can run: does what lies in its output folder satisfy the step's contract?

It runs inside the agent's sandbox and decides nothing: the gate reads the same files again with the same code.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from executor.model.workflow import TREE
from executor.workflow.contract import missing_from, read_contract

if TYPE_CHECKING:
    from executor.workflow.contract import Contract

__all__ = ["main", "readable_paths", "write_self_check"]

_SCRIPT = """#!/bin/sh
# Says what the files of this step still lack. Exit code 0: nothing.
exec {python} -I -c '
import sys
sys.path.insert(0, sys.argv[1])
from executor.workflow.self_check import main
sys.exit(main(sys.argv[2]))
' {package} "${{EXECUTOR_IN}}/contract.json"
"""


def write_self_check(folder: Path, contract: Contract) -> None:
    """Write the command ``check`` and what it checks into the folder of a step's inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.json").write_text(json.dumps(contract.data()), encoding="utf-8")
    script = _SCRIPT.format(python=shlex.quote(sys.executable), package=shlex.quote(str(_package().parent)))
    (folder / "check").write_text(script, encoding="utf-8")
    (folder / "check").chmod(0o755)


def readable_paths() -> tuple[Path, ...]:
    """Folders that the command needs inside a sandbox: the interpreter, its packages, and this package."""
    paths = (Path(sys.prefix), Path(sys.base_prefix), _package())
    return tuple(path for path in dict.fromkeys(paths) if not path.is_relative_to("/usr"))


def main(contract_file: str) -> int:
    """Print what is missing, one line each; 0 when nothing is, else 1."""
    contract = read_contract(json.loads(Path(contract_file).read_bytes()))
    out = Path(os.environ["EXECUTOR_OUT"])

    def read(name: str) -> bytes | None:
        path = Path(name.removeprefix(TREE)) if name.startswith(TREE) else out / name
        return path.read_bytes() if path.is_file() else None

    missing = missing_from(contract, read)
    sys.stdout.write("".join(f"{text}\n" for text in missing) or "nothing is missing\n")
    return 1 if missing else 0


def _package() -> Path:
    return Path(__file__).resolve().parents[1]
