"""A small stand-in for agent command lines: ``fake_cli.py CLI PLAN``. It prints what the real one printed once.

PLAN is a file with one behaviour a line, the first of which is taken off at each call; when there is none left it is
`ok`. That does what the lines `RUN: ...` of the brief say. Others are the recordings in `tests/recorded`, `hang`,
`ask` (waits for an answer) and `crash`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"
USAGE = {
    "claude": {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": "Done.",
        "session_id": "s1",
        "total_cost_usd": 0.25,
        "usage": {"input_tokens": 2000, "cache_read_input_tokens": 400, "output_tokens": 200},
    },
    "codex": {
        "type": "turn.completed",
        "usage": {"input_tokens": 2400, "cached_input_tokens": 400, "output_tokens": 200},
    },
    "opencode": {
        "type": "step_finish",
        "sessionID": "s1",
        "part": {
            "tokens": {"input": 2000, "output": 200, "reasoning": 0, "cache": {"read": 400, "write": 0}},
            "cost": 0.25,
        },
    },
}
SILENT_EXITS = {"aider": 0}
"""Exit codes of failures; 1 for all others."""


def main(cli: str, plan: Path) -> int:
    """Behave as planned and exit as the real one would."""
    behaviour = taken(plan)
    brief = Path(os.environ["EXECUTOR_BRIEF"]).read_text(encoding="utf-8")
    if behaviour == "ok":
        for command in re.findall(r"^RUN: (.+)$", brief, re.MULTILINE):
            subprocess.run(command, shell=True, check=False)  # noqa: S602  (the test's own command)
        sys.stdout.write(json.dumps(USAGE.get(cli, {"type": "done"})) + "\n")
        return 0
    if behaviour == "hang":
        time.sleep(600)
    if behaviour == "ask":
        sys.stdout.write("Allow the agent to edit files? [y/N] ")
        sys.stdout.flush()
        sys.stdin.read()
        time.sleep(600)
    if behaviour == "crash":
        return 3
    sys.stdout.write((RECORDED / f"{cli}-{behaviour}.txt").read_text(encoding="utf-8"))
    return 0 if behaviour in {"give-up", "refuse"} else SILENT_EXITS.get(cli, 1)


def taken(plan: Path) -> str:
    """The next behaviour of the plan; several calls may ask at once."""
    with plan.open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().split()
        file.seek(0)
        file.truncate()
        file.write("\n".join(lines[1:]))
    return lines[0] if lines else "ok"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
