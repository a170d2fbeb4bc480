"""The wording of each command, in one file a command: a reworded message changes one place.

After a change of wording, write them again with `EXECUTOR_GOLDEN=1 python -m pytest tests/commands/test_wording.py`,
and read the difference.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from executor.commands import COMMANDS
from tests.support import Repo, issue

WORDING = Path(__file__).parent / "wording"
MILESTONE = (
    issue("1", "echo one > one.txt", title="Say one")
    + issue("2", "exit 3", title="Fail")
    + issue("3", "mkdir -p .github/workflows; echo 'on: push' > .github/workflows/ci.yml", title="Change the build")
    + issue("4", "echo four > four.txt", title="Build on the failure", needs=["2"])
    + issue("5", 'echo "Which colour?" > "$EXECUTOR_OUT/question.md"', title="Ask")
)
SCRIPT = """\
list
list m1 --all
plan m1
milestone:m1
list m1 --all
status
status m1
explain m1/1
explain m1/2
explain m1/4
log m1/1
log m1/2
sessions
report m1 --format md
digest
verify m1
approve m1/3 --show
approve m1/3
answer m1/5 blue
answer m1/1 blue
retry m1/2
retry m1/9
accept m1/1
pause m1
pause m1
milestone:m1
list m1
unpause m1
unpause m1
new m1 Say six
new m9 Say seven
schema
import plan.md
import plan.md --id m2 --dry-run
import plan.md --id m2
import none.md
export m1
gc
repair m1
list m8
nothing
milestone:m8
release:m1
watch m8
cron maybe
"""
REPLACED = (
    (r"(?s)\n    DB backend\n.*?(?=--- exit)", "\n"),
    (r"\S+@\S+(?=  \S+@[0-9a-f]{7})", "USER@HOST"),
    (r"zygote\.py|python -m doit", "doit"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?( ?(UTC|[+-]\d\d:?\d\d|[A-Z]{3,5}|Z))?", "TIME"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"\b\d+:\d\d(:\d\d)?\b", "CLOCK"),
    (r"\b[0-9a-f]{40}\b", "COMMIT"),
    (r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,16}\b|\b\d{10}\b", "ID"),  # an id may have digits only
    (r"\b\d+(\.\d+)? (ms|s|min|h)\b", "N s"),
    (r"\bprocess \d+\b", "process N"),
    (r"\b\d+(\.\d+)? (bytes|KB|KiB|MB|MiB|kB)\b", "N bytes"),
    (r" +(?=\n)", ""),
)


def wording(folder: Path) -> dict[str, str]:
    """Play the script in a repository; what each command printed, by the name of the command."""
    repo = Repo(folder / "repo")
    repo.milestone("m1", MILESTONE)
    repo.write("plan.md", "# Plan\n\n## Task 1: Read settings\n\n**Mood:** good\n\n- [ ] Each has a default\n")
    repo.commit("plans")
    found = {name: _shown(folder, repo, "help", name) for name in sorted(COMMANDS)}
    for line in SCRIPT.splitlines():
        words = line.split()
        name = words[0].partition(":")[0]
        name = name if name in COMMANDS else "run"
        if words[0] == "new":
            words = [*words[:2], " ".join(words[2:])]
        found[name] += "\n" + _shown(folder, repo, *words)
    return found


def _shown(folder: Path, repo: Repo, *words: str) -> str:
    done = repo.doit(*words)
    text = "".join(
        f"--- {where}\n{output.rstrip()}\n"
        for where, output in (("out", done.out), ("err", done.err))
        if output.strip()
    )
    text = text.replace(str(repo.path), "REPOSITORY").replace(str(folder), "FOLDER")
    for pattern, word in REPLACED:
        text = re.sub(pattern, word, text)
    return f"$ doit {' '.join(words)}\n{text}--- exit {done.code}\n"


def test_each_command_says_what_its_file_has(tmp_path: Path) -> None:
    printed = wording(tmp_path)
    if os.environ.get("EXECUTOR_GOLDEN"):
        for name, text in printed.items():
            (WORDING / f"{name}.txt").write_text(text, encoding="utf-8")
    written = {path.stem: path.read_text(encoding="utf-8") for path in WORDING.glob("*.txt")}
    assert set(written) == set(printed)
    changed = [
        "\n".join(
            difflib.unified_diff(written[name].splitlines(), printed[name].splitlines(), "written", name, "", "", 2)
        )
        for name in printed
        if printed[name] != written[name]
    ]
    assert not changed, "\n".join(changed)
