"""What a person sees on a real terminal, kept as text in golden/ (EXECUTOR_GOLDEN=1 writes it anew).

Times, commits, users and machines are made alike; lines of a run are sorted, because issues run side by side.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
GOLDEN = Path(__file__).with_name("golden")
WAIT = "while [ ! -e {0}/go-{1} ]; do sleep 0.05; done; echo {1} > {1}"


class Terminal:
    """Windows of a tmux server of our own."""

    def __init__(self, repo: Repo, columns: int, lines: int = 32) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tmux"))
        (self._folder / "conf").write_text("set -g remain-on-exit on\nset -g status off\n")
        self._repo, self._size = repo, (columns, lines)
        self.pids: dict[str, int] = {}

    def open(self, name: str, *words: str, **environment: str) -> None:
        """Run a command of doit in a session of that name."""
        given = [f"{key}={value}" for key, value in environment.items()]
        command = ["env", *given, sys.executable, "-m", "doit", *words]
        columns, lines = map(str, self._size)
        self.tmux("new-session", "-d", "-s", name, "-x", columns, "-y", lines, "-c", str(self._repo.path), *command)
        self.pids[name] = int(self.tmux("display", "-p", "-t", name, "#{pane_pid}"))

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self._folder / "s"), "-f", str(self._folder / "conf"), *words]
        environment = {**self._repo.environment(), "LOGNAME": "tester", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip("\n")

    def text(self, name: str, *options: str) -> str:
        return self.tmux("capture-pane", "-p", "-t", name, *options)

    def until(self, name: str, seen: Callable[[str], bool], seconds: float = 60) -> str:
        """The screen as soon as a condition holds."""
        end = time.monotonic() + seconds
        while not seen(text := self.text(name)):
            assert time.monotonic() < end, text
            time.sleep(0.05)
        return text

    def ended(self, name: str) -> None:
        """Wait until its command has ended."""
        end = time.monotonic() + 60
        while not self.dead(name):
            assert time.monotonic() < end, self.text(name)
            time.sleep(0.05)

    def dead(self, name: str) -> bool:
        return self.tmux("display", "-p", "-t", name, "#{pane_dead}") == "1"

    def close(self) -> None:
        subprocess.run(["tmux", "-S", str(self._folder / "s"), "kill-server"], capture_output=True, check=False)
        shutil.rmtree(self._folder)


@pytest.fixture
def night(repo: Repo) -> Repo:
    """A milestone of which one issue has landed, one has failed, and two work until they are let go."""
    repo.milestone(
        "m1",
        issue("a", "echo a > a", title="Create the settings class")
        + issue("b", WAIT.format(repo.path, "b"), title="Read settings from the environment", needs=["a"])
        + issue("c", WAIT.format(repo.path, "c"), title="Write the documentation", size="L", phase="Foundations")
        + issue("d", "exit 3", title="A broken one")
        + issue("e", "echo e > e", title="Follows the broken one", needs=["d"])
        + issue("f", "echo f > f", title="Follows the documentation", needs=["c"])
        + '[[phase]]\nname = "Foundations"\n',
    )
    repo.write("rules/landing.toml", 'order = "critical-path"\n')
    repo.commit("declare")
    repo.doit("issue:m1/a", "issue:m1/d").check(1)
    return repo


@pytest.fixture(params=[80, 200])
def terminal(request: pytest.FixtureRequest, night: Repo) -> Iterator[Terminal]:
    made = Terminal(night, request.param)
    yield made
    made.close()


def alike(text: str) -> str:
    """A screen without what differs from run to run; widths are kept."""
    text = re.sub(r"running since .*? \(process \d+\)", "running since hh:mm by tester", text, flags=re.DOTALL)
    text = re.sub(r"by tester on \S+", "by tester", text)
    text = re.sub(r"\d\d:\d\d:\d\d", "hh:mm:ss", text)
    text = re.sub(r"\d{4}-\d\d-\d\d", "yyyy-mm-dd", text)
    text = re.sub(r"(about|ended at)(\s+)\d\d:\d\d", r"\1\2hh:mm", text)
    text = re.sub(r"\b\d:\d\d\b", "m:ss", text)
    text = re.sub(r"\b[0-9a-f]{10}\b", "c" * 10, text)
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith("Pane is dead")]
    for beside in (r" *hh:mm:ss ", r".* quiet m:ss$"):
        found = sorted(line for line in lines if re.match(beside, line))
        lines = [found.pop(0) if re.match(beside, line) else line for line in lines]
    return "\n".join(lines).strip("\n") + "\n"


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("EXECUTOR_GOLDEN"):
        path.write_text(alike(text), encoding="utf-8")
    assert alike(text) == path.read_text(encoding="utf-8")


def test_the_views_of_a_run_at_two_widths(terminal: Terminal, night: Repo, request: pytest.FixtureRequest) -> None:
    columns = request.node.callspec.params["terminal"]
    terminal.open("run", "milestone:m1", "-n", "2")
    wanted = ("2 running", "failed    m1/d", "blocked   m1/e")
    terminal.until("run", lambda text: text.count("quiet") == 2 and all(words in text for words in wanted))
    terminal.open("watch", "watch", "--interval", "0.2")
    terminal.until("watch", lambda text: "2 running" in text)
    compare(f"live-{columns}.txt", terminal.text("run"))
    compare(f"watch-{columns}.txt", terminal.text("watch"))
    for name in "bc":
        night.write(f"go-{name}", "")
    terminal.until("watch", lambda text: "the last run ended" in text)
    end = terminal.until("run", lambda text: "this run:" in text)
    assert "quiet" not in end
    compare(f"end-{columns}.txt", terminal.text("run", "-S", "-"))  # tmux scrolls when it says that the pane is dead


STEPS = """
[phase.design]
weight = 15
[phase.design.step.keep]
does = "Keep."
outputs = ["keep.md"]
[phase.design.step.improve]
does = "Improve."
outputs = ["improve.md"]
[phase.design.gate.criterion.keep]
file = "design.keep/keep.md"
[phase.spec]
weight = 25
[phase.spec.step.contracts]
does = "Specify."
outputs = ["contracts.md"]
[phase.spec.step.data]
does = "Specify data."
outputs = ["data.md"]
[phase.execute]
weight = 60
[phase.execute.step.code]
does = "Build."
tree = true
"""


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_views_of_a_run_know_steps_and_phases(repo: Repo, columns: int) -> None:
    repo.write("rules/workflows/steps.toml", STEPS)
    wait = f"case $EXECUTOR_STEP in spec.*) while [ ! -e {repo.path}/go ]; do sleep 0.05; done;; esac; "
    leave = "for f in keep improve contracts data; do echo x > $EXECUTOR_OUT/$f.md; done; echo a > a"
    repo.milestone("m1", issue("a", wait + leave, title="Create the settings class", workflow="steps"))
    repo.commit("declare")
    terminal = Terminal(repo, columns, 24)
    try:
        terminal.open("run", "milestone:m1")
        terminal.until("run", lambda text: text.count("spec.data") == 2 and "spec 0 of" in text)
        terminal.open("watch", "watch", "--interval", "0.2")
        terminal.until("watch", lambda text: "spec 0 of" in text)
        live = terminal.text("run")
        compare(f"live-steps-{columns}.txt", live[live.index("m1 Test m1") :])
        compare(f"watch-steps-{columns}.txt", terminal.text("watch"))
        terminal.open("plain", "watch", "--once", "--plain")
        terminal.open("status", "status")
        for name in ("plain", "status"):
            terminal.ended(name)
            compare(f"{name}-steps.txt", terminal.text(name, "-J", "-S", "-"))  # the same text at every width
        value = repo.doit("watch", "--once", "--json").json["milestones"][0]
        assert sorted(item["what"] for item in value["working"]) == ["step spec.contracts", "step spec.data"]
        assert [phase["state"] for phase in value["phases"]["m1/a"]] == ["done", "running", "waiting"]
        assert value["percent"] == 15
        shown = repo.doit("status", "--json").json["milestones"][0]["issues"][0]["phases"]
        assert [(phase["state"], phase["percent"]) for phase in shown] == [
            ("done", 100),
            ("running", None),
            ("waiting", None),
        ]
        repo.write("go", "")
        terminal.until("run", lambda text: "this run:" in text)
    finally:
        terminal.close()


def test_a_narrower_terminal_gets_a_whole_new_picture_and_no_colour_is_no_colour(night: Repo) -> None:
    terminal = Terminal(night, 140)
    try:
        terminal.open("run", "milestone:m1", "-n", "2", NO_COLOR="1")
        terminal.until("run", lambda text: text.count("quiet") == 2)
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.text("run", "-e"))
        terminal.tmux("resize-window", "-t", "run", "-x", "70", "-y", "20")
        said = terminal.until("run", lambda text: re.search(r"m1 Test m1 {10,30}1 of 6", text) is not None)
        time.sleep(1)
        said = terminal.text("run")
        assert said.count("quiet") == 2
        assert said.count("m1 Test m1") == 1
        assert "implement m1/c" in said
    finally:
        terminal.close()


def test_a_watcher_of_a_killed_run_says_so_within_five_seconds(night: Repo) -> None:
    terminal = Terminal(night, 100)
    try:
        terminal.open("run", "milestone:m1", "-n", "2")
        terminal.open("watch", "watch", "m1", "--follow")
        terminal.until("watch", lambda text: "2 running" in text)
        os.kill(terminal.pids["run"], 9)
        terminal.until("watch", lambda text: "interrupted about" in text and "running" not in text, 5)
        said = terminal.text("watch")
        assert re.search(r"working on m1/[bc], m1/[bc]; doit milestone:m1 resumes it", said.replace("\n", " "))
        assert len(re.findall(r"^pending ", said, re.MULTILINE)) == 2
        assert terminal.tmux("display", "-p", "-t", "watch", "#{alternate_on}") == "1"
        os.kill(terminal.pids["watch"], 15)
        deadline = time.monotonic() + 10
        while not terminal.dead("watch"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert terminal.tmux("display", "-p", "-t", "watch", "#{alternate_on}") == "0"
    finally:
        terminal.close()
