"""The nightly entry: installed in a crontab, run as cron runs it, quietly, one at a time, and missed nights told."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from executor.commands.admin.cron import ours
from tests.sinks import Webhook, serving
from tests.support import Repo, Result, issue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CRONTAB = """#!/bin/sh
case "$1" in
-l) [ -e TAB ] && exec cat TAB; echo "no crontab for me" >&2; exit 1;;
-) cat > TAB;;
esac
"""
OTHERS = 'MAILTO=""\n# mine   \n0  5 * *\t*  echo "a  b" # tail\n'


@pytest.fixture
def tab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a `crontab` command of our own, so that the user's real one is left alone."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "crontab"
    program.write_text(CRONTAB.replace("TAB", str(tmp_path / "tab")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "tab"


def as_cron(line: str, home: Path) -> Result:
    """Run the command of a crontab line in the environment that cron gives: no PATH to speak of, no terminal."""
    command = line.split(" ", 5)[5].replace(r"\%", "%")
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=home,
        env={"HOME": str(home), "LOGNAME": "me", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def entry(repo: Repo, tab: Path) -> str:
    lines = ours(tab.read_text(), str(repo.path))
    assert len(lines) == 1
    return lines[0]


def logs(repo: Repo) -> str:
    return "".join(path.read_text() for path in sorted((repo.path / ".cache" / "_nightly").glob("*.log")))


def test_the_entry_is_written_once_shown_and_removed_and_other_lines_are_left_alone(repo: Repo, tab: Path) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    tab.write_text(OTHERS)
    assert "no nightly entry" in repo.doit("cron").check().out
    first = repo.doit("cron", "install", "--at", "1:30", "--until", "06:00", "--milestone", "m1").check().out
    assert re.search(r"^\+ 30 1 \* \* \* cd \S+ && PATH=\S+ PYTHONUTF8=1 ", first, re.MULTILINE)
    assert "3 other lines of the crontab left unchanged\n" in first
    assert entry(repo, tab).endswith(f" -m doit nightly --at 01:30 --until 06:00 m1 # make-for-milestones: {repo.path}")
    assert tab.read_text().startswith(OTHERS)
    before = tab.read_text()
    assert "nothing to change" in repo.doit("cron", "install", "--at=01:30", "--until=06:00", "--milestone=m1").out
    assert tab.read_text() == before
    assert "- 30 1 * * *" in repo.doit("cron", "install", "--at", "02:15").check().out
    assert entry(repo, tab).startswith("15 2 * * * ")
    shown = repo.doit("cron", "show").check().out
    assert "nightly: never ran yet; next " in shown
    assert "nightly: never ran yet; next " in repo.doit("status").check().out
    assert repo.doit("status", "--json").check().json["nightly"]["at"] == "02:15"
    repo.doit("cron", "remove").check()
    assert tab.read_text() == OTHERS
    assert "nightly" not in repo.doit("status").check().out


def test_a_night_that_cannot_be_is_refused_and_the_crontab_left_alone(repo: Repo, tab: Path) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    for words, problem in (
        (["--at", "25:00"], '--at: expected a time of day such as 06:00, found "25:00"\n'),
        (["--until", "soon"], '--until: expected a time of day such as 06:00, found "soon"\n'),
        (["--env-file", "/no/such"], "--env-file /no/such cannot be read: "),
        (["--milestone", "m2"], 'unknown milestone "m2"; declared in milestones/: m1\n'),
    ):
        assert repo.doit("cron", "install", *words).check(3).err.startswith(problem)
    assert not tab.exists()


def test_an_entry_at_boot_does_the_work_of_a_missed_night_only(repo: Repo, tab: Path) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.write("rules/limits.toml", 'catch_up = "at-boot"\n')
    repo.doit("cron", "install").check()
    nightly, boot = ours(tab.read_text(), str(repo.path))
    assert nightly.startswith("30 1 * * * ")
    assert boot.startswith("@reboot cd ")
    assert " --catch-up " in boot
    repo.doit("nightly", "--at", "01:30", "--catch-up").check()
    assert repo.statuses() == {"m1/a": "pending"}
    pretend_installed(repo, days=3)
    repo.doit("nightly", "--at", "01:30", "--catch-up").check()
    assert repo.statuses() == {"m1/a": "landed"}


def test_what_cron_gives_is_enough_and_a_run_prints_nothing(repo: Repo, tab: Path) -> None:
    repo.milestone("m1", issue("a", "printf 'gr\\303\\274n\\n' > a; cat a; env > $EXECUTOR_OUT/env", title="Grün"))
    at, until = (datetime.now().astimezone() + timedelta(hours=hours) for hours in (12, 11))  # all but an hour is night
    repo.doit("cron", "install", "--at", f"{at:%H:%M}", "--until", f"{until:%H:%M}").check()
    run = as_cron(entry(repo, tab), repo.path.parent)
    assert (run.code, run.out, run.err) == (0, "", "")
    assert repo.statuses() == {"m1/a": "landed"}
    assert "landed    m1/a landed as" in logs(repo)
    assert "LANG=C.UTF-8" in (repo.path / ".cache/m1/logs/a/1/out/env").read_text()
    assert re.search(r"nightly: last run [-\d]+ [:\d]+ \S+, exit 0; next", repo.doit("status").check().out)


def test_a_second_run_leaves_quietly_while_the_first_is_at_work(repo: Repo, tab: Path) -> None:
    ready, go = repo.path.parent / "ready", repo.path.parent / "go"
    repo.milestone("m1", issue("a", f"echo a > a; touch {ready}; while [ ! -e {go} ]; do sleep 0.05; done"))
    repo.doit("cron", "install").check()
    first = repo.start("nightly", "m1")
    wait_for(ready)
    second = as_cron(entry(repo, tab), repo.path.parent)
    assert (second.code, second.out, second.err) == (75, "", "")
    assert "nightly: at work since" in repo.doit("status").check().out
    go.touch()
    out, _ = first.communicate(timeout=60)
    assert (first.returncode, out) == (0, "")
    assert repo.landed("milestone/m1-test-m1") == ["a@1"]
    assert "another nightly run started and exited" in logs(repo)


def test_a_milestone_that_a_person_is_running_is_left_alone_quietly(repo: Repo) -> None:
    ready, go = repo.path.parent / "ready", repo.path.parent / "go"
    repo.milestone("m1", issue("a", f"echo a > a; touch {ready}; while [ ! -e {go} ]; do sleep 0.05; done"))
    person = repo.start("milestone:m1")
    wait_for(ready)
    run = repo.doit("nightly").check(75)
    assert (run.out, run.err) == ("", "")
    assert "milestone m1 is already being run by process" in logs(repo)
    go.touch()
    person.communicate(timeout=60)
    assert person.returncode == 0


def test_missed_nights_are_reported_until_there_is_a_run(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("nightly", "--at", "01:30").check()
    assert "missed" not in repo.doit("status").check().out
    nights = repo.path / ".cache" / "_nightly"
    for path in nights.glob("journal.*"):
        path.unlink()
    pretend_installed(repo, days=3)
    told = repo.doit("status").check().out
    assert re.search(r"nightly: [34] runs missed: [-\d]+ 01:30 \S+, ", told)
    assert len(repo.doit("status", "--json").check().json["nightly"]["missed"]) in {3, 4}
    repo.doit("nightly").check()
    assert "missed" not in repo.doit("status").check().out


def test_a_run_after_its_night_begins_nothing(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    now = datetime.now().astimezone()
    at, until = now - timedelta(minutes=10), now - timedelta(minutes=5)
    repo.doit("nightly", "--at", f"{at:%H:%M}", "--until", f"{until:%H:%M}").check(75)
    assert "too late: this night ended at" in logs(repo)
    assert repo.statuses() == {"m1/a": "pending"}
    assert "nightly: never ran yet" in repo.doit("status").check().out


def test_milestones_are_run_in_the_order_in_which_they_need_each_other(repo: Repo) -> None:
    repo.milestone("m1", 'needs = ["m2"]\n' + issue("a", "echo a > a"))
    repo.milestone("m2", issue("b", "echo b > b"))
    repo.doit("nightly").check()
    assert repo.statuses() == {"m1/a": "landed", "m2/b": "landed"}
    repo.doit("nightly").check()
    assert "all issues have landed; nothing to do" in logs(repo)


def test_what_is_wrong_with_the_declarations_is_printed_for_cron_to_mail(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a", zebra=1))
    run = repo.doit("nightly", "m1").check(3)
    assert run.err.startswith(f"nightly run of {repo.path}: m1 ended with 3; see ")
    assert 'milestones/m1.toml: issue[0]: unknown key "zebra"' in logs(repo)


def test_variables_come_from_a_file_that_nobody_else_can_read(repo: Repo) -> None:
    repo.milestone("m1", issue("a", 'echo "$LC_NIGHT" > a'))
    file = repo.path.parent / "env"
    file.write_text("# comment\n\nLC_NIGHT='quoted value'\n")
    file.chmod(0o644)
    run = repo.doit("nightly", "--env-file", str(file)).check(3)
    assert run.err == f"--env-file {file} can be read by others; `chmod 600` it\n"
    file.chmod(0o600)
    repo.doit("nightly", "--env-file", str(file)).check()
    assert repo.git("show", "milestone/m1-test-m1:a") == "quoted value"
    file.write_text("not a variable\n")
    run = repo.doit("nightly", "--env-file", str(file)).check(3)
    assert run.err == f"--env-file {file}, line 1: expected NAME=VALUE\n"


def test_a_killed_night_is_reported_and_the_next_one_goes_on(repo: Repo, tab: Path) -> None:
    ready = repo.path.parent / "ready"
    repo.milestone("m1", issue("a", f"echo a > a; [ -e {ready} ] || {{ touch {ready}; sleep 60; }}"))
    repo.doit("cron", "install").check()
    run = repo.start("nightly")
    wait_for(ready)
    run.kill()
    run.communicate(timeout=30)
    assert "died before its end" in repo.doit("status").check().out
    assert as_cron(entry(repo, tab), repo.path.parent).code == 0
    assert repo.statuses() == {"m1/a": "landed"}


def test_only_the_last_logs_are_kept(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    folder = repo.path / ".cache" / "_nightly"
    folder.mkdir(parents=True)
    for number in range(40):
        (folder / f"20260101T{number:06d}.log").write_text("old\n")
    repo.doit("nightly").check()
    kept = sorted(path.name for path in folder.glob("*.log"))
    assert len(kept) == 30
    assert kept[0] == "20260101T000011.log"


def test_the_morning_has_a_digest_reported_once(repo: Repo) -> None:
    server = Webhook()
    with serving(server):
        repo.write("rules/notify.toml", f'[notify.hook]\nurl = "{server.url}"\nevents = ["digest"]\n')
        repo.write("rules/limits.toml", "attempts = 1\n")
        repo.milestone("m1", issue("a", "echo a > a") + issue("b", "exit 3", title="Ask @everyone"))
        repo.doit("nightly").check(1)
    assert len(server.got) == 1
    assert re.fullmatch(r"Night of [-\d]+ [:\d]+ \S+: 1 landed, 1 failed", server.got[0]["title"])
    assert "- m1/b Ask ＠everyone - " in server.got[0]["message"]  # noqa: RUF001  (what makes it harmless)
    page = (repo.path / ".cache" / "_nightly" / "digest.md").read_text()
    assert page.startswith("# 1 landed, 1 failed\n\nSince ")
    assert repo.doit("digest").check().out == page
    assert repo.doit("digest", "--json").check().json["next"] == ["doit retry m1/b"]
    assert repo.doit("digest", "--since", "2001-01-01T00:00").check().out.count("- m1/a Issue a - ") == 1


@pytest.mark.long
def test_a_real_cron_daemon_fires_the_installed_entry(repo: Repo, real_cron: None) -> None:
    _ = real_cron
    ran = repo.path.parent / "ran"
    repo.milestone("m1", issue("a", f"echo a > a; echo x >> {ran}; sleep 3"))
    soon = datetime.now().astimezone() + timedelta(seconds=65)
    repo.doit("cron", "install", "--at", f"{soon:%H:%M}", "--milestone", "m1").check()
    line = ours(crontab("-l"), str(repo.path))[0]
    assert repo.doit("cron", "show", "--json").check().json["daemon"] is True
    wait_for(ran, seconds=130)
    second = as_cron(line, repo.path.parent)
    assert (second.code, second.out, second.err) == (75, "", "")
    night: dict[str, Any] = {}
    for _ in range(300):
        night = repo.doit("status", "--json").check().json["nightly"]
        if night["last"] and night["last"]["code"] is not None:
            break
        time.sleep(0.1)
    assert night["last"]["code"] == 0, logs(repo)
    assert night["missed"] == []
    assert repo.statuses() == {"m1/a": "landed"}
    assert ran.read_text() == "x\n"


@pytest.fixture
def real_cron() -> Iterator[None]:
    """Debian's cron daemon, started here if none is running; the user's crontab is as before afterwards."""
    daemon = shutil.which("cron", path="/usr/sbin:/usr/bin")
    if daemon is None or shutil.which("crontab") is None:
        pytest.skip("there is no cron here; `apt-get install cron`")
    if os.geteuid() != 0:
        pytest.skip("only root can start a cron daemon")
    before = crontab("-l")
    process = subprocess.Popen([daemon, "-f"], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)
        if before:
            crontab("-", before)
        else:
            crontab("-r")


def crontab(argument: str, given: str = "") -> str:
    done = subprocess.run(["crontab", argument], input=given, capture_output=True, text=True, check=False)
    return done.stdout


def pretend_installed(repo: Repo, *, days: int) -> None:
    """The entry was installed so many days ago."""
    path = repo.path / ".cache" / "_nightly" / "schedule.json"
    kept = json.loads(path.read_text())
    kept["since"] = (datetime.fromisoformat(kept["since"]) - timedelta(days=days)).isoformat()
    path.write_text(json.dumps(kept))


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def test_the_line_names_this_python(repo: Repo, tab: Path) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("cron", "install").check()
    assert sys.executable in shlex.split(entry(repo, tab).split(" ", 5)[5])
