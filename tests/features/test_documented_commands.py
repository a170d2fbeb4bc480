"""Every command line of the README and of the docs names commands and options that exist; each whole one runs.

All lines, in one repository: EXECUTOR_LONG=1 python -m pytest -m long tests/features/test_documented_commands.py
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from executor.commands import COMMANDS
from tests.support import CHECKOUT, Repo, issue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted(CHECKOUT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOITS = frozenset({"info", "clean", "forget", "ignore", "reset-dep", "strace", "dumpdb", "help", "tabcompletion"})
"""Commands of doit itself."""
ENDLESS = frozenset({"mcp"})
"""Commands that serve until their input ends; they have tests with a client."""
MISUSE = re.compile(
    "not recognized|requires argument|must not have|unknown command|did you mean|Traceback", re.IGNORECASE
)
"""Marks of a command line that is wrong, as against one that this repository has no use for."""
CRONTAB = '#!/bin/sh\ncase "$1" in -l) [ -e TAB ] && exec cat TAB; exit 1;; -) cat > TAB;; esac\n'


def lines() -> Iterator[tuple[str, str]]:
    """Each page and command line in it, from blocks and from running text, with backslashes and comments resolved."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [body for language, body in BLOCK.findall(text) if language in {"", "sh", "bash", "console"}]
        whole = "\n".join(blocks).replace("\\\n", " ")
        found = [line.strip().removeprefix("$ ") for line in whole.splitlines()]
        found += [" ".join(inner.split()) for inner in re.findall(r"`([^`]+)`", BLOCK.sub("", text))]
        yield from ((page.name, line) for line in dict.fromkeys(found) if re.match(r"doit [a-z\[]", line))


def words_of(line: str) -> list[str]:
    """The words after `doit`: without comment, what follows a pipe, and the brackets around optional words."""
    plain = re.sub(r"\s\|\s.*$", "", line)
    words = shlex.split(re.sub(r"[\[\]]", " ", plain).replace("...", "text"), comments=True)[1:]
    return [word.partition("|")[0] for word in words]


LINES = [(page, words_of(line)) for page, line in lines()]


def test_the_docs_hold_many_command_lines() -> None:
    assert len(LINES) > 90


@pytest.mark.parametrize(("page", "words"), LINES, ids=lambda item: " ".join(item) if isinstance(item, list) else item)
def test_a_documented_command_exists(page: str, words: list[str]) -> None:
    name = words[0].partition(":")[0]
    assert name in {*COMMANDS, *DOITS, "milestone", "issue", "release"} or words[0] == "COMMAND", page


def prepared(path: Path) -> Repo:
    """A repository with the milestones and issues that the docs name."""
    repo = Repo(path)
    for name in ("first", "m1", "m3"):
        repo.milestone(name, issue("1", "echo one > one.txt") + issue("2", "echo two > two.txt"))
    repo.milestone("m4", "".join(issue(f"4.{number}", f"echo {number} > {number}.txt") for number in (1, 2)))
    repo.write("FILE", "# Plan\n\n- [ ] Read settings\n")
    repo.commit("plans")
    repo.doit("milestone:m4")
    return repo


@pytest.mark.long
def test_each_documented_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crontab = tmp_path / "bin" / "crontab"
    crontab.parent.mkdir()
    crontab.write_text(CRONTAB.replace("TAB", str(tmp_path / "tab")))
    crontab.chmod(0o755)
    monkeypatch.setenv("PATH", f"{crontab.parent}{os.pathsep}{os.environ['PATH']}")
    repo = prepared(tmp_path / "repo")
    refused = []
    for page, words in LINES:
        if len(words) == 1 and ":" not in words[0]:
            continue  # a command's bare name in running text
        if words[0] in ENDLESS or words[0].isupper():
            continue
        done = repo.doit(*[word for word in words if word != "--follow"])
        if MISUSE.search(done.out + done.err):
            refused.append(
                f"{page}: doit {shlex.join(words)}: exit {done.code}: {(done.out + done.err).strip()[-300:]}"
            )
    assert not refused, "\n".join(refused)
