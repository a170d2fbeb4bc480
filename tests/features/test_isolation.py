"""An agent in a sandbox does its work and sees nothing else; one that must have a sandbox does not start without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from executor.adapters.sandbox import find_sandbox, sandbox_problem
from tests.support import issue

if TYPE_CHECKING:
    from tests.support import Repo

BRANCH = "milestone/m1-test-m1"
needs_sandbox = pytest.mark.skipif(find_sandbox() is None, reason=sandbox_problem() or "-")


def profile(repo: Repo, extra: str) -> None:
    repo.write("rules/agents.toml", f'[agent.boxed]\ncommand = ["sh", "-c", "{{run}}"]\n{extra}')


def boxed(name: str, run: str) -> str:
    return issue(name, run).replace('agent = "script"', 'agent = "boxed"')


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
    assert "nothing gets out of it" in repo.doit("doctor").out


@pytest.mark.skipif(find_sandbox() is not None, reason="there is a sandbox here")
def test_without_a_sandbox_an_agent_that_must_have_one_is_not_started(repo: Repo) -> None:
    profile(repo, 'isolation = "bwrap"\n')
    repo.milestone("m1", boxed("a", f"touch {repo.path}/ran"))
    assert "is to run in a sandbox, but" in repo.doit("milestone:m1").check(2).out
    assert not (repo.path / "ran").exists()


def test_an_agent_that_need_not_have_a_sandbox_works_with_and_without(repo: Repo) -> None:
    profile(repo, 'isolation = "auto"\n')
    repo.milestone("m1", boxed("a", "echo a > a"))
    out = repo.doit("milestone:m1").check().out
    assert ("agent boxed runs without a sandbox" in out) == (find_sandbox() is None)
