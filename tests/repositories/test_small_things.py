"""What lies about in real repositories, and what it must not do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repositories.shapes import BRANCH, project, sh
from tests.support import Repo, issue

LITTER = """
.claude/settings.local.json .claude/worktrees/x .codex/log .gemini/tmp .serena/a .mcp.json .idea/x.xml .venv/x
a.orig a.rej a~ .a.swp .#a core.123 nohup.out npm-debug.log x.egg-info/PKG __pycache__/a.pyc .DS_Store
""".split()  # noqa: SIM905  (names are read more easily without their quotes)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return project(tmp_path / "repo")


def test_leftovers_beside_declarations_and_rules_are_passed_over(repo: Repo) -> None:
    for folder in ("milestones", "rules"):
        sh(repo.path / folder, "ln -s user@host.1 .#m1.toml; ln -s gone gone.toml; echo x > ._m1.toml; touch a.toml~")
    repo.doit("list").check(0)
    repo.doit("milestone:m1").check(0)


def test_a_faulty_milestone_stops_only_what_needs_it(repo: Repo) -> None:
    repo.write("milestones/bad.toml", "[milestone\n")
    repo.milestone("after", 'needs = ["bad"]\n' + issue("1", "echo a > a"))
    listed = repo.doit("list").check(3)
    assert "m1/1" in listed.out
    assert "milestones/bad.toml" in listed.err
    assert repo.doit("plan", "m1").check(3).out.startswith("m1: ")
    assert "milestones/bad.toml" in repo.doit("milestone:after").check(3).err
    assert "milestones/bad.toml" in repo.doit("status", "bad").check(3).err
    result = repo.doit("milestone:m1").check(3)
    assert "milestones/bad.toml" in result.err
    (repo.path / "milestones" / "bad.toml").unlink()
    (repo.path / "milestones" / "after.toml").unlink()
    assert repo.statuses() == {"m1/1": "landed", "m1/2": "landed"}


def test_a_missing_base_stops_only_its_milestone_and_what_needs_it(repo: Repo) -> None:
    repo.milestone("next", 'base = "release/2.0"\n' + issue("1", "echo a > a"))
    repo.milestone("after", 'needs = ["next"]\n' + issue("1", "echo a > a"))
    listed = repo.doit("list").check(3)
    assert "m1/1" in listed.out
    assert 'milestones/next.toml: milestone.base: branch "release/2.0" does not exist' in listed.err
    assert repo.doit("plan", "m1").check(3).out.startswith("m1: ")
    for name in ("next", "after"):
        assert "milestones/next.toml" in repo.doit(f"milestone:{name}").check(3).err
    assert "milestones/next.toml" in repo.doit("milestone:m1").check(3).err
    repo.git("branch", "release/2.0", "main")
    assert repo.statuses()["m1/2"] == "landed"
    repo.doit("milestone:next").check(0)


def test_a_fault_in_the_rules_stops_everything(repo: Repo) -> None:
    repo.write("rules/limits.toml", "attempts = 'many'\n")
    repo.doit("list").check(3)
    repo.doit("milestone:m1").check(3)


def test_declarations_and_specs_of_other_systems_are_read_or_refused(repo: Repo) -> None:
    path = repo.path / "milestones" / "m1.toml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    spec = '\n[[issue]]\nid = "{}"\ntitle = "S"\nspec = "{}.md"\nagent = "script"\nwith = {{ run = "echo {} > s{}" }}\n'
    text = "".join(spec.format(name, name, name, name) for name in ("latin", "wide"))
    path.write_bytes(path.read_bytes() + text.encode())
    (repo.path / "milestones" / "latin.md").write_bytes("Eine Größe\n".encode("latin-1"))
    (repo.path / "milestones" / "wide.md").write_bytes("Eine Größe\n".encode("utf-16"))
    out = repo.doit("milestone:m1").check(4).out
    assert "milestones/latin.md is not UTF-8 in line 1" in out
    assert {ref for ref, status in repo.statuses().items() if status == "landed"} == {"m1/1", "m1/2", "m1/wide"}


def test_what_agents_and_editors_leave_does_not_land(tmp_path: Path) -> None:
    run = "; ".join(f"mkdir -p $(dirname {name}); echo x > {name}" for name in LITTER)
    repo = project(tmp_path / "repo", issues=issue("1", f"{run}; echo a > good.txt"))
    repo.doit("milestone:m1").check(0)
    assert repo.git("diff", "--name-only", "main", BRANCH) == "good.txt"


@pytest.mark.parametrize("place", [".claude/worktrees/agent-1", "trees/mine"])
def test_a_worktree_that_an_agent_made_for_itself_does_not_fail_the_attempt(tmp_path: Path, place: str) -> None:
    run = f"git worktree add -q -b mine {place}; echo a > good.txt"
    repo = project(tmp_path / "repo", issues=issue("1", run))
    repo.doit("milestone:m1").check(0)
    assert repo.git("diff", "--name-only", "main", BRANCH) == "good.txt"


def test_a_base_that_the_remote_protects_is_a_persons_matter(repo: Repo) -> None:
    hub = repo.path.parent / "hub.git"
    sh(repo.path.parent, f"git clone -q --bare repo '{hub}'")
    hook = hub / "hooks" / "update"
    hook.write_text('#!/bin/sh\n[ "$1" != refs/heads/main ] || { echo "GH006: Protected branch"; exit 1; }\n')
    hook.chmod(0o755)
    repo.git("remote", "add", "origin", str(hub))
    repo.write("rules/forge.toml", 'remote = "origin"\n')
    repo.commit("a remote")
    hook.rename(hook.with_name("off"))
    repo.git("push", "-q", "origin", "main")
    hook.with_name("off").rename(hook)
    repo.doit("milestone:m1").check(0)
    before = repo.git("rev-parse", "main")
    out = repo.doit("release:m1").check(4).out
    assert "pull request" in out
    assert repo.git("rev-parse", "main") == before


def test_a_dodo_file_of_ones_own_without_the_tasks_is_named_before_a_run(repo: Repo) -> None:
    repo.write("dodo.py", 'def task_mine():\n    return {"actions": ["true"]}\n')
    assert "dodo-unconnected" in {item["kind"] for item in repo.doit("doctor", "--json").json}
    assert "add to it: from executor.tasks import" in repo.doit("milestone:m1").check(4).err
    repo.doit("plan", "m1").check(4)


def test_a_locale_and_the_environment_of_a_hook_stop_no_command(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Titles that the locale cannot write, git's variables as in a hook, and a `git gc` while an agent works."""
    path = repo.path / "milestones" / "m1.toml"
    text = path.read_text().replace('title = "Test m1"', 'title = "Größe — 日本語"\nbranch = "work/m1"')
    prune = f"git -C {repo.path} reflog expire --expire=now --all; git -C {repo.path} gc -q --prune=now; echo 3 > 3"
    path.write_text(text + issue("3", prune))
    repo.commit("declare")
    narrow = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    hook = dict.fromkeys(("GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE"), "/nowhere")
    with monkeypatch.context() as changed:
        for name, value in (narrow | hook).items():
            changed.setenv(name, value)
        for line in ("list", "plan m1", "milestone:m1", "status", "report m1 --format md"):
            command = [sys.executable, "-m", "doit", *line.split()]
            done = subprocess.run(command, cwd=repo.path, capture_output=True, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert len(repo.landed("work/m1")) == 3
    repo.git("fsck", "--connectivity-only", "--no-dangling")


def test_a_folder_whose_name_is_no_utf8_works_like_any_other(tmp_path: Path) -> None:
    repo = Repo(Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xf6\xdfe")))
    repo.milestone("m1", issue("a", "echo a > a", accept=[{"run": "test -e a"}]))
    repo.doit("milestone:m1").check()
    repo.doit("doctor").check()
    reason = os.fsdecode(b"gr\xf6\xdfer")
    assert r"expected text in UTF-8, found gr\xf6\xdfer" in repo.doit("pause", "m1", "--reason", reason).check(3).err


def test_help_that_nobody_reads_to_its_end_prints_no_traceback(repo: Repo) -> None:
    assert "Traceback" not in sh(repo.path, f"{sys.executable} -m doit help verify 2>&1 | head -1")


def test_a_byte_order_mark_that_an_editor_drops_makes_nothing_stale(repo: Repo) -> None:
    spec = repo.path / "milestones" / "spec.md"
    spec.write_bytes(b"\xef\xbb\xbf# Do it\r\n")
    text = '[[issue]]\nid = "1"\ntitle = "S"\nspec = "spec.md"\nagent = "script"\nwith = { run = "echo s > s" }\n'
    repo.milestone("m1", text)
    repo.doit("milestone:m1").check(0)
    spec.write_bytes(b"# Do it\n")
    assert repo.statuses() == {"m1/1": "landed"}


def test_a_repository_of_a_newer_git_is_named_as_such(repo: Repo) -> None:
    sh(repo.path, "git config core.repositoryformatversion 1; git config extensions.notKnownYet true")
    for words in (("list",), ("milestone:m1",)):
        told = repo.doit(*words).check(3)
        assert "needs a newer git (unknown repository extension found: notknownyet)" in told.out + told.err
