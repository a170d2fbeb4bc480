"""Costs that are the same on every machine: modules and processes of a warm command, processes of git of a landing."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support import Repo

WARM = {
    *("commands.base", "commands.output", "commands.user_code", "config.project", "errors", "git.command"),
    *("model.fingerprint", "process.files", "process.redact", "status.summary_cache"),
}
"""Our modules that `doit list` and a run with nothing to do load if no input has changed, besides the command's own."""
UNUSED = {"asyncio", "decimal", "email.parser", "http", "ssl", "statistics", "urllib.request", "xml", "zoneinfo"}
"""Parts of the standard library that are slow to load; some belong to the code for a changed input."""
TRACED = """
import json, sys
started = []
def heard(event, arguments):
    if event == "subprocess.Popen":
        started.append([str(word) for word in arguments[1]])
    elif event in {"os.exec", "os.fork", "os.forkpty", "os.system"}:
        started.append([event])
sys.addaudithook(heard)
from doit.doit_cmd import DoitMain
before = set(sys.modules)
code = DoitMain().run(sys.argv[1:])
print("\\n" + json.dumps({"code": code, "started": started, "loaded": sorted(set(sys.modules) - before)}))
"""
"""doit with a list of the processes that it starts and the modules that it loads beyond doit's own, as last line."""

MOST = 6
"""Three checkouts, a look at what the agent left, two moves of refs."""


def test_a_landing_starts_few_processes_of_git(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"i{number}" for number in range(6)]
    repo.milestone(
        "m1", "".join(issue(name, f"echo {name} > {name}", accept=[{"run": f"test -f {name}"}]) for name in names)
    )
    repo.commit("declare")
    log, wrapper = tmp_path / "calls", tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec {shutil.which("git")} "$@"\n')
    wrapper.chmod(0o755)
    environment = {**repo.environment(), "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    monkeypatch.setattr(repo, "environment", lambda: environment)
    repo.doit("milestone:m1", "-n", "1").check()
    calls = log.read_text().splitlines()
    landings = [place for place, call in enumerate(calls) if re.match(r"update-ref -m land m1/i\d ", call)]
    assert len(landings) == len(names)
    for begin, end in itertools.pairwise(landings[1:]):  # the first ones start the helpers
        assert end - begin <= MOST, calls[begin + 1 : end + 1]


def test_a_warm_list_and_a_run_with_nothing_to_do_load_few_modules_and_start_one_process(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.milestone("m2", issue("b", "echo b > b"))
    repo.commit("declare")
    repo.doit("milestone:m1").check()
    for line in (["list"], ["list", "--json"], ["list", "--all"], ["milestone:m1"]):
        _traced(repo, line)
        found = _traced(repo, line)
        assert found["code"] == 0
        assert [words[1] for words in found["started"]] == ["for-each-ref"], line
        names = {name.removeprefix("executor.") for name in found["loaded"] if name.startswith("executor.")}
        command = "commands.list" if line[0] == "list" else "commands.run"
        packages = {name.partition(".")[0] for name in WARM}
        assert names == WARM | packages | {command}, line
        foreign = {name for name in found["loaded"] if name.partition(".")[0] != "executor"}
        assert not {name.partition(".")[0] for name in foreign} - sys.stdlib_module_names, line
        assert not foreign & UNUSED, line


def _traced(repo: Repo, line: list[str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", TRACED, *line],
        cwd=repo.path,
        env=repo.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
