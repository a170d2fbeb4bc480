"""Agents and what judges them in a sandbox, and what becomes of their work where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from executor.sandbox.bubblewrap import find_sandbox, sandbox_problem
from tests.support import Result, issue

if TYPE_CHECKING:
    from tests.support import Repo

BRANCH = "milestone/m1-test-m1"
BOX = find_sandbox()
PROBLEM = sandbox_problem() or "bubblewrap (bwrap) is not installed"
"""Why there is no sandbox, where there is none."""
needs_sandbox = pytest.mark.skipif(BOX is None, reason=sandbox_problem() or "-")


def profile(repo: Repo, extra: str = "", name: str = "boxed") -> None:
    repo.write("rules/agents.toml", f'[agent.{name}]\ncommand = ["sh", "-c", "{{run}}"]\n{extra}')


def boxed(name: str, run: str, **extra: Any) -> str:
    return issue(name, run, **extra).replace('agent = "script"', 'agent = "boxed"')


def on_bare_machine(repo: Repo, *arguments: str) -> Result:
    """The command line where bubblewrap is not installed: the program is covered by something else."""
    if BOX is None:
        return repo.doit(*arguments)
    bare = [str(BOX.program), "--dev-bind", "/", "/", "--ro-bind", "/dev/null", str(BOX.program), "--"]
    done = subprocess.run(
        [*bare, sys.executable, "-m", "doit", *arguments],
        cwd=repo.path,
        capture_output=True,
        text=True,
        check=False,
        env=repo.environment(),
        timeout=120,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@needs_sandbox
def test_a_sandboxed_agent_works_and_cannot_touch_repository_state_or_checkout(repo: Repo) -> None:
    profile(repo, 'isolation = "bwrap"\nnetwork = false\n')
    tries = (
        f"cat $EXECUTOR_BRIEF > brief; git log --oneline > log; echo x > {repo.path}/stolen; "
        f"echo x > {repo.path}/.git/hooks/post-commit; rm -f {repo.path}/.cache/m1/journal*; "
        f"ls {repo.path} > listing 2>&1; "
        "echo note > $EXECUTOR_OUT/handoff.md; echo done > a"
    )
    repo.milestone("m1", boxed("a", tries))
    before = repo.snapshot()
    repo.doit("milestone:m1").check()
    assert repo.snapshot() == before
    assert not (repo.path / "stolen").exists()
    assert not (repo.path / ".git" / "hooks" / "post-commit").exists()
    assert "start" in repo.git("show", f"{BRANCH}:log")
    assert "m1/a" in repo.git("show", f"{BRANCH}:brief")
    assert "dodo.py" not in repo.git("show", f"{BRANCH}:listing")
    assert (repo.path / ".cache" / "m1" / "logs" / "a" / "1" / "out" / "handoff.md").read_text() == "note\n"
    assert "all escape attempts failed" in repo.doit("doctor").out


@needs_sandbox
def test_a_profile_of_ones_own_works_in_a_sandbox_unless_it_says_otherwise(repo: Repo) -> None:
    profile(repo)
    repo.milestone("m1", boxed("a", f"test ! -e {repo.path}/dodo.py; echo $? > a"))
    assert "NO SANDBOX" not in repo.doit("milestone:m1").check().out
    assert repo.git("show", f"{BRANCH}:a") == "0"


@needs_sandbox
def test_an_agent_sees_of_the_home_only_what_its_profile_names(repo: Repo) -> None:
    for name in ("shown", "kept", "secret"):
        repo.write(f"../home/{name}/file", f"{name}\n")
    home = repo.path.parent / "home"
    profile(repo, f'readable = ["{home}/shown"]\nwritable = ["{home}/kept"]\n')
    tries = f"cat {home}/*/file > a; echo more >> {home}/kept/file; echo more >> {home}/shown/file; true"
    repo.milestone("m1", boxed("a", tries))
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:a").split() == ["kept", "shown"]
    assert (home / "kept" / "file").read_text() == "kept\nmore\n"
    assert (home / "shown" / "file").read_text() == "shown\n"


@needs_sandbox
def test_what_an_agent_writes_into_its_programs_settings_is_thrown_away_but_for_a_renewed_log_in(repo: Repo) -> None:
    home = repo.path.parent / "home"
    for name, text in {"settings.json": "{}", "auth.json": '{"token": 1}', "CLAUDE.md": "be kind"}.items():
        (home / ".tool").mkdir(parents=True, exist_ok=True)
        (home / ".tool" / name).write_text(text)
    (home / ".tool.json").write_text("{}")
    profile(
        repo,
        f'copied = ["{home}/.tool", "{home}/.tool.json"]\n'
        f'written_back = ["{home}/.tool/auth.json", "{home}/.tool/new.json", "{home}/.tool/settings.json"]\n',
    )
    script = (
        f"cat {home}/.tool/CLAUDE.md > a; cd {home}; "
        "echo '{\"hooks\": 1}' > .tool.json; echo evil > .tool/CLAUDE.md; mkdir .tool/hooks; echo x > .tool/hooks/x; "
        "echo '{\"token\": 2}' > .tool/auth.json; echo '{}' > .tool/new.json; echo 'not json' > .tool/settings.json"
    )
    repo.milestone("m1", boxed("a", script))
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:a") == "be kind"
    kept = {path.name: path.read_text() for path in (home / ".tool").iterdir()}
    assert kept == {"settings.json": "{}", "auth.json": '{"token": 2}\n', "CLAUDE.md": "be kind"}
    assert (home / ".tool.json").read_text() == "{}"
    assert list((repo.path / ".cache").rglob("auth.json")) == []
    repo.milestone(
        "m1", boxed("b", f"cd {home}/.tool; rm auth.json; ln -s ../.tool.json auth.json; echo b > $OLDPWD/b")
    )
    repo.doit("milestone:m1").check()
    assert (home / ".tool" / "auth.json").read_text() == '{"token": 2}\n'


@needs_sandbox
def test_what_a_sandboxed_agent_wrote_is_checked_and_repaired_in_a_sandbox_without_a_network(repo: Repo) -> None:
    profile(repo)
    report = '<testsuite><testcase name="a"/></testsuite>'
    look = (
        f"test ! -e {repo.path}/dodo.py && test ! -e $HOME/.ssh && test $(ls /sys/class/net 2>/dev/null | wc -l) -le 1"
    )
    tcp = "python3 -c 'import socket; socket.create_connection((chr(49)+chr(46)+chr(49), 80), 1)'"
    repo.write(
        "rules/checks.toml",
        f"""
[check.inside]
run = {json.dumps(f"{look} && echo '{report}' > {{report}} && ! {tcp}")}
[check.mended]
run = "test -e mended"
fix = "touch {repo.path}/stolen; touch mended"
""",
    )
    repo.write("mended", "")
    repo.commit("with it")
    steal = f"rm mended; echo 'touch {repo.path}/stolen || true' > a"
    proofs = [{"run": "sh a"}, {"run": "test -e mended"}]
    repo.milestone("m1", boxed("a", steal, checks=["inside", "mended"], accept=proofs))
    repo.doit("milestone:m1").check()
    assert not (repo.path / "stolen").exists()


@needs_sandbox
def test_a_check_can_be_given_a_network_or_be_left_out_of_the_sandbox_by_name(repo: Repo) -> None:
    profile(repo)
    count = "test $(grep -c : /proc/net/dev) -gt 1"
    repo.write(
        "rules/checks.toml",
        f'[check.net]\nrun = "{count}"\nnetwork = true\n[check.out]\nrun = "test -e {repo.path}/dodo.py"\n'
        'isolation = "none"\n',
    )
    accept = [{"run": f"! {count}"}, {"run": count, "network": True}]
    repo.milestone("m1", boxed("a", "echo a > a", checks=["net", "out"], accept=accept))
    outside = subprocess.run(["sh", "-c", count], check=False).returncode == 0
    assert repo.doit("milestone:m1").code == (0 if outside else 1)


@needs_sandbox
def test_an_issue_of_a_script_is_checked_in_the_sandbox_too_when_its_tree_has_an_agents_work(repo: Repo) -> None:
    profile(repo)
    mine = issue("b", "echo b > b", needs=["a"], accept=[{"run": f"test ! -e {repo.path}/dodo.py"}])
    repo.milestone("m1", boxed("a", "echo a > a") + mine)
    repo.doit("milestone:m1").check()


def test_without_a_sandbox_an_agent_that_must_have_one_is_not_started(repo: Repo) -> None:
    profile(repo, 'isolation = "bwrap"\n')
    repo.milestone("m1", boxed("a", f"touch {repo.path}/ran"))
    out = on_bare_machine(repo, "milestone:m1").check(2).out
    assert f"m1/a: agent boxed requires a sandbox, but {PROBLEM}; install" in out
    assert not (repo.path / "ran").exists()


def test_without_a_sandbox_what_an_agent_made_waits_for_a_person_and_is_reported_once(repo: Repo) -> None:
    profile(repo)
    checked = repo.path / "checked"
    accept = [{"run": f"touch {checked}"}]
    repo.milestone("m1", boxed("a", "echo a > a", accept=accept) + boxed("b", "echo b > b") + issue("c", "echo c > c"))
    out = on_bare_machine(repo, "milestone:m1", "-n", "2").check(4).out
    assert repo.statuses() == {"m1/a": "review", "m1/b": "review", "m1/c": "landed"}
    told = f"NO SANDBOX for agent boxed: {PROBLEM}; their processes can access everything"
    assert out.count(f"note: {told}") == 1
    assert out.count(f"warning   m1   {told}") == 1
    assert "unsandboxed: agent boxed required a sandbox but had none" in out
    assert not checked.exists()  # nothing of it is run before a person has read it
    shown = repo.doit("approve", "m1/a", "--show").check().out
    assert (
        'install bubblewrap (docs/sandbox.md says how) and retry. To allow it: isolation = "none" for agent boxed'
        in shown
    )
    repo.doit("approve", "m1/a", "--reason", "read it").check()
    on_bare_machine(repo, "milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "review", "m1/c": "landed"}
    if BOX is not None:  # bubblewrap was installed: the work of before still waits, a new attempt lands
        repo.doit("milestone:m1").check(4)
        repo.doit("retry", "m1/b").check()
        repo.doit("milestone:m1").check()


@needs_sandbox
def test_another_change_has_to_be_approved_of_again(repo: Repo) -> None:
    profile(repo)
    repo.milestone("m1", boxed("a", "echo $EXECUTOR_ATTEMPT > a"))
    on_bare_machine(repo, "milestone:m1").check(4)
    repo.doit("approve", "m1/a", "--reason", "read it").check()
    repo.doit("retry", "m1/a")
    repo.milestone("m1", boxed("a", "echo other > a", files=["a"]))
    on_bare_machine(repo, "milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "review"}


def test_without_a_sandbox_work_lands_when_the_policy_or_the_profile_says_so_by_name(repo: Repo) -> None:
    profile(repo)
    repo.milestone("m1", boxed("a", "echo a > a"))
    on_bare_machine(repo, "milestone:m1").check(4)
    repo.write("rules/limits.toml", 'unsandboxed_landing = "allow"\n')
    out = on_bare_machine(repo, "milestone:m1").check().out
    assert repo.landed(BRANCH) == ["a@1"]
    repo.write("rules/limits.toml", "")
    profile(repo, 'isolation = "none"\n')
    repo.milestone("m1", boxed("a", "echo a > a") + boxed("b", "echo b > b"))
    out = on_bare_machine(repo, "milestone:m1").check().out
    assert "NO SANDBOX" not in out
    assert repo.landed(BRANCH) == ["a@1", "b@1"]


def test_the_quickstart_needs_no_sandbox(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    assert "NO SANDBOX" not in on_bare_machine(repo, "milestone:m1").check().out
