"""A command of the user's is told of each phase; a tracking file is kept current."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

TELL = 'command = ["sh", "-c", "echo $0 $1 $EXECUTOR_MILESTONE $EXECUTOR_PHASE >> {file}", "{{id}}", "{{status}}"]\n'


def told(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_each_phase_is_reported_in_order(repo: Repo) -> None:
    file = repo.path.parent / "told"
    repo.write("rules/status.toml", TELL.format(file=file))
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check()
    assert told(file) == [
        "m1 started m1 started",
        "m1/a running m1 implement",
        "m1/a open m1 verify",
        "m1/a landed m1 landed",
        "m1 ended m1 ended",
    ]


def test_a_failing_or_slow_status_command_is_a_note_and_nothing_else(repo: Repo) -> None:
    repo.write("rules/status.toml", 'command = ["sh", "-c", "exit 3"]\n')
    repo.milestone("m1", issue("a", "echo a > a"))
    out = repo.doit("milestone:m1").check().out
    assert "note: the status command sh: exit 3; see .cache/m1/status-command.log (5 times)" in out

    repo.write("rules/status.toml", 'command = ["sleep", "60"]\ntimeout_s = 0.2\n')
    repo.milestone("m2", issue("b", "echo b > b"))
    out = repo.doit("milestone:m2", timeout=60).check().out
    assert "note: the status command sleep:" in out
    assert repo.statuses() == {"m1/a": "landed", "m2/b": "landed"}


def test_an_unknown_placeholder_is_a_fault_of_the_rules(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    for placeholder in ("{title}", "{id!r}", "{id:>9}", "{id[0]}", "{}", "{id:{x}}"):
        repo.write("rules/status.toml", f'command = ["tell", "{placeholder}"]\n')
        err = repo.doit("list").check(3).err
        assert f"rules/status.toml: command: unknown placeholder {placeholder}; known: {{id}}" in err


def test_a_tracking_file_is_kept_current_and_the_rest_of_it_is_left_alone(repo: Repo) -> None:
    repo.write("rules/status.toml", 'tracking = "docs/TRACKING.md"\n')
    repo.write("docs/TRACKING.md", "# Ours\n\nKept.\n")
    repo.milestone("m1", issue("a", "echo a > a") + issue("b", "false"))
    repo.doit("milestone:m1").check(1)
    text = (repo.path / "docs/TRACKING.md").read_text()
    assert text.startswith("# Ours\n\nKept.\n\n<!-- milestone m1: begin -->\n")
    assert "- [x] a - Issue a (" in text
    assert "- [ ] b - Issue b\n" in text
    assert "- **b - Issue b**: " in text
    repo.write("docs/TRACKING.md", text + "\nAfter.\n")
    repo.doit("milestone:m1").check(1)
    again = (repo.path / "docs/TRACKING.md").read_text()
    assert again.endswith("<!-- milestone m1: end -->\n\nAfter.\n")
    assert again.count("## Tracking") == 1
