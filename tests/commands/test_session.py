"""A person's first session: right and wrong commands, in one transcript that is compared as a whole.

After a change of wording, write it again with `EXECUTOR_GOLDEN=1 python -m pytest tests/commands/test_session.py`, and
read the difference.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import Repo, usual_environment

GOLDEN = Path(__file__).with_name("session.txt")
SESSION = """
mfm list
mfm init
mfm init now
doit init
cd src && mfm list
doit
doit list
doit lst
doit list frist
doit plan
doit plan first second
doit milestone:frist
doit milestne:first
doit milestone
doit issue:first/2
doit issue:1
doit explain
doit explain 1
doit explain first/x
doit expalin first/1
doit log first/1
doit new
doit new first
doit new first "Say good bye" --agent script
doit new first "Say good bye" --agent nobody
doit new second "Write a plan" --agent claude --needs first/1
doit status secnd
doit milestone:first --until noon
doit milestone:first --budget much
doit milestone:first -n -1
doit milestone:first --from 7
doit milestone:first --plain
doit milestone:first
doit explain 1
doit retry first/1
doit approve first/1
doit approve first/1 --reason ok
doit answer first/1 yes
doit pause scond
doit pause second
doit milestone:second
doit unpause second
doit report --format pdf
doit sessions thrid
doit verify first
doit help nothing
doit --frobnicate
doit status --json extra
"""
CHANGING = [
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?(Z| [A-Z]{3,5}| [+-]\d+)?", "TIME"),
    (r"\b[0-9a-f]{10}\b", "COMMIT"),
    (r"sha256:[0-9a-f]+", "DIGEST"),
    (r"\b\d+:\d\d\b|\b\d+(\.\d+)? s\b", "DURATION"),
    (r"added \d+ commands", "added COMMANDS"),
    (r"process \d+", "process PID"),
    (r"by \S+ on \S+", "by USER on HOST"),
]


def same(text: str, folder: Path) -> str:
    """Text without what is different each time or on another machine."""
    text = text.replace(str(folder), "/repo")
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def answer(repo: Repo, line: str) -> str:
    """What a line of the session prints, and its exit code if that is not 0."""
    if line.startswith(("mfm", "cd")):
        command = line.replace("mfm", f"{sys.executable} -m executor")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=repo.path,
            env=repo.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout + (f"[exit {done.returncode}]\n" if done.returncode else "")
    words = re.findall(r'"[^"]*"|\S+', line)[1:]
    found = repo.doit(*(word.strip('"') for word in words))
    return found.out + found.err + (f"[exit {found.code}]\n" if found.code else "")


def test_a_first_session_reads_as_it_should(tmp_path: Path) -> None:
    repo = Repo.__new__(Repo)
    repo.path = tmp_path / "repo"
    (repo.path / "src").mkdir(parents=True)
    repo.git("init", "-q", "-b", "main")
    repo.git("config", "user.name", "Tester")
    repo.git("config", "user.email", "tester@example.org")
    repo.write("src/app.py", "")
    repo.commit("start")
    environment = {**usual_environment(), "COLUMNS": "80", "PATH": "/usr/bin:/bin"}
    repo.environment = lambda: environment  # type: ignore[method-assign]
    transcript = "".join(f"$ {line}\n{answer(repo, line)}\n" for line in SESSION.strip().splitlines())
    transcript = same(transcript, repo.path)
    assert "Traceback" not in transcript
    if os.environ.get("EXECUTOR_GOLDEN"):
        GOLDEN.write_text(transcript, encoding="utf-8")
    assert transcript == GOLDEN.read_text(encoding="utf-8")
