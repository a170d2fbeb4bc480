"""Checks decide, and nothing else does: evidence, repair, services, the base, flakiness, reuse."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Repo, issue, python_with_pytest

if TYPE_CHECKING:
    from collections.abc import Callable

BRANCH = "milestone/m1-test-m1"


@pytest.fixture
def count(repo: Repo) -> Callable[[], int]:
    """How often a check that says `$COUNT` was run."""
    path = repo.path.parent / "count"
    return lambda: path.read_text().count("x") if path.exists() else 0


def check(repo: Repo, name: str, **fields: Any) -> None:
    """Add a check to the repository's rules; `$COUNT` in its command is a command that counts."""
    counting = f"echo x >> {repo.path.parent}/count"
    lines = [f"[check.{name}]"]
    for key, value in fields.items():
        text = value.replace("$COUNT", counting) if isinstance(value, str) else value
        lines.append(f"{key} = {_toml(text)}")
    path = repo.path / "rules" / "checks.toml"
    path.parent.mkdir(exist_ok=True)
    before = path.read_text() if path.exists() else ""
    path.write_text(before + "\n".join(lines) + "\n")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'''" + value + "'''"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)


def test_a_repair_becomes_part_of_what_lands(repo: Repo) -> None:
    check(repo, "clean", run="! grep -rn bad --include=*.txt .", fix="sed -i s/bad/good/ {files}", when=["*.txt"])
    (repo.path / "rules" / "checks.toml").write_text(
        (repo.path / "rules" / "checks.toml").read_text() + "changed_only = true\n"
    )
    repo.milestone("m1", issue("a", "echo bad > a.txt; echo fine > b.txt", checks=["clean"]))
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:a.txt") == "good"


def test_what_a_repair_cannot_mend_fails_with_what_the_check_said(repo: Repo) -> None:
    check(repo, "clean", run="! grep -n bad a.txt", fix="true")
    repo.milestone("m1", issue("a", "echo bad > a.txt", checks=["clean"]))
    out = repo.doit("milestone:m1").check(1).out
    assert "clean: exit 1" in out
    assert repo.statuses() == {"m1/a": "failed"}


def test_a_check_is_given_the_changed_files_it_is_about_and_skipped_without_any(
    repo: Repo, count: Callable[[], int]
) -> None:
    check(
        repo, "names", run="$COUNT; echo {files} > /dev/null; test {files} = src/a.py", when=["*.py"], changed_only=True
    )
    body = issue("a", "mkdir -p src; echo 1 > src/a.py; echo 2 > notes.txt", checks=["names"])
    repo.milestone("m1", body + issue("b", "echo 3 > other.txt", checks=["names"]))
    repo.doit("milestone:m1").check()
    assert count() == 1


def test_a_red_base_holds_everything_back_with_one_message_and_costs_no_attempt(repo: Repo) -> None:
    check(repo, "green", run="test ! -e broken")
    repo.write("broken", "x")
    repo.commit("break it")
    repo.milestone(
        "m1",
        issue("a", "echo a > a", checks=["green"])
        + issue("b", "echo b > b", checks=["green"])
        + issue("c", "echo c > c"),
    )
    result = repo.doit("milestone:m1").check(4)
    assert result.out.count("repair it there; no attempt was used up") == 1
    assert 'the check "green" fails on milestone/m1-test-m1 before anything was done: green: exit 1' in result.out
    # The landing of c moved the tip, so that the next run asks the check again.
    assert repo.statuses() == {"m1/a": "pending", "m1/b": "pending", "m1/c": "landed"}
    assert repo.attempts() == []


def test_a_base_that_was_repaired_lets_the_next_run_go_on(repo: Repo) -> None:
    check(repo, "green", run="test ! -e broken")
    repo.write("broken", "x")
    repo.commit("break it")
    repo.milestone("m1", issue("a", "echo a > a", checks=["green"]))
    repo.doit("milestone:m1").check(4)
    repo.git("rm", "-q", "broken")
    repo.commit("repair it")
    repo.git("update-ref", f"refs/heads/{BRANCH}", "HEAD")
    repo.doit("milestone:m1").check()
    assert repo.statuses() == {"m1/a": "landed"}


def test_a_check_that_fails_and_then_passes_is_flaky_and_its_verdict_is_not_used_again(
    repo: Repo, count: Callable[[], int]
) -> None:
    beside = repo.path.parent / "once"
    check(repo, "moody", run=f"$COUNT; test -e {beside} || {{ touch {beside}; exit 1; }}", retries=1)
    repo.milestone("m1", issue("a", "echo a > a", checks=["moody"]))
    repo.doit("milestone:m1").check()
    ran = count()
    assert "passed" in repo.doit("verify", "m1").check().out
    assert count() == ran + 1


def test_a_service_is_up_while_the_check_runs_and_gone_afterwards(repo: Repo) -> None:
    pid = repo.path.parent / "pid"
    ended = repo.path.parent / "ended"
    check(
        repo,
        "served",
        run=f"kill -0 $(cat {pid})",
        before=f"sleep 300 & echo $! > {pid}",
        after=f"touch {ended}",
    )
    repo.milestone("m1", issue("a", "echo a > a", checks=["served"]))
    repo.doit("milestone:m1").check()
    assert ended.exists()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_a_service_that_does_not_start_is_named_and_cleaned_up_after(repo: Repo) -> None:
    ended = repo.path.parent / "ended"
    check(repo, "served", run="true", before="echo no port >&2; exit 9", after=f"touch {ended}")
    repo.milestone("m1", issue("a", "echo a > a", checks=["served"]))
    out = repo.doit("milestone:m1").check(4).out
    assert "served: its service did not start: exit 1" in out or "served: its service did not start: exit 9" in out
    assert ended.exists()


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ("sleep 300", "killed after 1 s (timeout)"),
        ("sleep 300 & exit 3", "exit 3; 1 leftover process killed"),
        ("(setsid sleep 300 &) ; sleep 0.2; exit 3", "exit 3; 1 leftover process killed"),
        ("head -c 200000000 /dev/zero; exit 3", "exit 3"),
        ("kill -9 $$", "ended by SIGKILL"),
        ("no-such-program-anywhere", "exit 127 (command not found)"),
    ],
)
def test_a_check_that_misbehaves_fails_with_what_it_did_and_leaves_nothing_running(
    repo: Repo, run: str, reason: str
) -> None:
    body = (
        issue("a", "echo a > a")
        + f"accept = [{{ run = {_toml(run)}, timeout = {1.0 if run == 'sleep 300' else 60.0} }}]\n"
    )
    repo.milestone("m1", body)
    (repo.path / "rules").mkdir(exist_ok=True)
    repo.write("rules/limits.toml", "attempts = 1\noutput_cap_bytes = 100000\n")
    assert reason in repo.doit("milestone:m1").check(1).out
    logs = list((repo.path / ".cache" / "m1" / "logs" / "a" / "1").glob("check-*.log"))
    assert logs
    assert all(path.stat().st_size < 200_000 for path in logs)


def test_a_failing_check_fails_also_where_the_parent_ignores_the_end_of_children(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a") + 'accept = [{ run = "exit 7" }]\n')
    repo.write("rules/limits.toml", "attempts = 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "doit", "milestone:m1"],
        cwd=repo.path,
        env=repo.environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )
    assert done.returncode == 1, done.stdout
    assert "exit 7" in done.stdout


@pytest.mark.parametrize("issues", [12, pytest.param(100, marks=pytest.mark.long)])
def test_a_second_run_starts_no_check_and_a_changed_check_runs_once_for_all_landed_issues(
    repo: Repo, count: Callable[[], int], issues: int
) -> None:
    check(repo, "all", run="$COUNT; true")
    repo.write("rules/landing.toml", 'mode = "each"\n')  # batches prove fewer trees; the default decides by load
    repo.milestone("m1", "".join(issue(f"i{n}", f"echo {n} > f{n}", checks=["all"]) for n in range(issues)))
    repo.doit("milestone:m1", "-n", "2", timeout=240).check()
    ran = count()
    assert ran > issues
    repo.doit("milestone:m1").check()
    repo.doit("verify", "m1").check()
    assert count() == ran
    (repo.path / "rules" / "checks.toml").unlink()
    check(repo, "all", run="$COUNT; true; true")
    assert set(repo.statuses().values()) == {"stale"}
    repo.doit("milestone:m1", "-n", "2").check()
    assert count() == ran + 1
    assert len(repo.landed(BRANCH)) == issues
    assert repo.doit("verify", "m1", "--force").check().out.count("passed") == issues
    assert count() == ran + 2


def test_a_verdict_is_used_by_another_milestone_and_after_a_rebase_to_the_same_tree(
    repo: Repo, count: Callable[[], int]
) -> None:
    check(repo, "all", run="$COUNT; true")
    for name in ("m1", "m2"):
        repo.milestone(name, issue("a", "echo a > a", checks=["all"]))
    repo.doit("milestone:m1").check()
    ran = count()
    repo.doit("milestone:m2").check()
    assert count() == ran
    repo.git("commit", "-q", "--allow-empty", "-m", "nothing")
    repo.git("branch", "-q", "-D", "milestone/m2-test-m2")
    repo.doit("retry", "m2/a").check()
    repo.doit("milestone:m2").check()
    assert count() == ran


def test_verify_says_which_proof_fails_on_the_tip_and_nothing_is_redone(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a") + 'accept = [{ run = "test -e a" }]\n')
    repo.doit("milestone:m1").check()
    repo.git("worktree", "add", "-q", "../other", BRANCH)
    other = repo.path.parent / "other"
    subprocess.run(["git", "mv", "a", "b"], cwd=other, check=True)  # no revert, which would make it stale
    subprocess.run(["git", "commit", "-q", "-m", "gone"], cwd=other, check=True)
    out = repo.doit("verify", "m1").check(1).out
    assert "failed  m1/a  Issue a  test -e a: exit 1" in out
    assert repo.statuses() == {"m1/a": "landed"}
    assert repo.doit("verify", "m1", "--json").check(1).json[0]["ok"] is False


def test_exit_0_without_a_report_is_not_believed(repo: Repo) -> None:
    repo.write("test_one.py", "import code\n\ndef test_one():\n    assert code.ok()\n".replace("code", "thing"))
    repo.write("thing.py", "def ok():\n    return True\n")
    repo.commit("tests")
    check(
        repo,
        "tests",
        run=f"{python_with_pytest()} -P -m pytest -q -p no:cacheprovider --rootdir=. --junitxml={{report}}",
        env={"PYTHONPATH": "."},
    )
    hack = "printf 'import os\\nos._exit(0)\\n' > thing.py"
    repo.milestone("m1", issue("a", hack, checks=["tests"], allow=["judge-tampering"]))
    repo.write("rules/limits.toml", "attempts = 1\n")
    out = repo.doit("milestone:m1").check(1).out
    assert "tests: exit 0, but" in out
    assert "report" in out


def test_failures_that_the_base_has_too_do_not_count_where_a_project_says_so(repo: Repo) -> None:
    repo.write("test_old.py", "def test_old():\n    assert False\n")
    repo.commit("old failure")
    check(
        repo,
        "tests",
        run=f"{python_with_pytest()} -P -m pytest -q -p no:cacheprovider --rootdir=. --junitxml={{report}}",
        only_new_failures=True,
    )
    good = "printf 'def test_new():\\n    assert 1 + 1 == 2\\n' > test_new.py"
    bad = "printf 'def test_bad():\\n    assert 1 + 1 == 3\\n' > test_bad.py"
    repo.milestone("m1", issue("good", good, checks=["tests"]) + issue("bad", bad, checks=["tests"], needs=["good"]))
    repo.write("rules/limits.toml", "attempts = 1\n")
    out = repo.doit("milestone:m1").check(1).out
    assert repo.statuses() == {"m1/good": "landed", "m1/bad": "failed"}
    assert "new failures: test_bad::test_bad" in out


def test_two_issues_that_ask_the_same_of_the_same_tree_at_once_run_it_once(
    repo: Repo, count: Callable[[], int]
) -> None:
    check(repo, "slow", run="$COUNT; sleep 0.5")
    repo.milestone("m1", "".join(issue(f"i{n}", f"echo {n} > f{n}; sleep 1", checks=["slow"]) for n in range(3)))
    run = repo.start("milestone:m1", "-n", "3")
    deadline = time.monotonic() + 20
    while not count() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    assert count() == 1
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out
