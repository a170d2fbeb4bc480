"""A project may be a folder of the repository: processes start there, paths are relative to it, its rules hold."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.repositories.shapes import at, sh, two_projects
from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

BRANCH = "milestone/m1-test-m1"


@pytest.fixture
def web(tmp_path: Path) -> Repo:
    """The project apps/web; apps/api is another one of the same repository."""
    return two_projects(tmp_path)


def declare(repo: Repo, *issues: str) -> Repo:
    repo.milestone("m1", "".join(issues))
    repo.git("add", "-A")
    repo.git("commit", "-qm", "declare")
    return repo


def test_agents_and_checks_start_in_the_folder_and_paths_are_relative_to_it(web: Repo) -> None:
    web.write("rules/checks.toml", '[check.here]\nrun = "test -f milestones/m1.toml"\nsabotage = "off"\n')
    run = "mkdir -p src; pwd > src/where; git ls-files > src/files; cat $EXECUTOR_BRIEF > src/brief"
    accept = [{"run": "test -f src/where"}, {"file": "src/where", "contains": "apps/web"}]
    declare(web, issue("1", run, files=["src/*"], accept=accept, checks=["here"]))
    web.doit("milestone:m1").check(0)
    landed = web.git("ls-tree", "-r", "--name-only", "--full-tree", BRANCH).split()
    assert "apps/web/src/where" in landed
    assert not [name for name in landed if name.startswith("src/")]
    assert web.git("show", f"{BRANCH}:apps/web/src/where").endswith("/apps/web")
    assert "The project is the folder `apps/web/`" in web.git("show", f"{BRANCH}:apps/web/src/brief")
    web.doit("release:m1").check(0)


def test_included_and_kept_files_are_those_of_the_folder(web: Repo) -> None:
    web.write(
        "rules/setup.toml", 'include = [".env"]\n\n[setup.dep]\nrun = "mkdir dep; echo d > dep/d"\nkeep = ["dep/"]\n'
    )
    declare(web, issue("1", "cat .env dep/d > seen", accept=[{"run": "grep -q secret .env"}]))
    web.write(".env", "secret\n")
    web.doit("milestone:m1").check(0)
    assert web.git("show", f"{BRANCH}:apps/web/seen").split() == ["secret", "d"]
    landed = web.git("ls-tree", "-r", "--name-only", "--full-tree", BRANCH)
    assert ".env" not in landed
    assert "dep/" not in landed


@pytest.mark.parametrize(
    ("run", "status"),
    [
        ("echo x >> rules/limits.toml", "review"),
        ("echo x >> dodo.py", "review"),
        ("echo x >> milestones/m1.toml", "review"),
        ("echo x >> ../api/rules/limits.toml", "review"),
        ("echo x >> ../api/dodo.py", "review"),
        ("mkdir -p ../../.github/workflows; echo x > ../../.github/workflows/ci.yml", "review"),
        ("echo x > ordinary.txt", "landed"),
    ],
)
def test_rules_and_declarations_of_every_project_are_protected(web: Repo, run: str, status: str) -> None:
    declare(web, issue("1", run))
    web.doit("milestone:m1")
    assert web.statuses("m1") == {"m1/1": status}


def test_projects_of_one_repository_run_side_by_side(web: Repo) -> None:
    api = at(web.path.parent / "api")
    api.doit("milestone:api").check(0)
    web.doit("milestone:m1").check(0)
    assert api.statuses() == {"api/1": "landed", "api/2": "landed"}
    assert web.statuses() == {"m1/1": "landed", "m1/2": "landed"}


def test_commands_work_from_any_folder_below(web: Repo) -> None:
    """Plain doit reads its configuration from the current folder, and so finds our commands at the top only."""
    declare(web, issue("1", "mkdir -p deep/er; echo x > deep/er/x"))
    below = at(web.path / "deep" / "er")
    below.path.mkdir(parents=True)
    told = below.doit("-k", "milestone:m1").check(2)
    assert "make-for-milestones issue:m1/1" in told.out + told.err
    executor = f"{sys.executable} -m executor"
    sh(below.path, f"{executor} milestone:m1")
    found = json.loads(sh(below.path, f"{executor} status m1 --json"))
    assert found["milestones"][0]["issues"][0]["status"] == "landed"


def test_a_project_that_is_not_committed_yet_runs(web: Repo) -> None:
    new = web.path.parent / "new"
    sh(web.path.parent, "mkdir new; cp -r web/dodo.py web/pyproject.toml web/milestones new/")
    repo = at(new)
    repo.milestone("n1", issue("1", "echo n > n.txt"))
    (new / "milestones" / "m1.toml").unlink()
    repo.doit("milestone:n1").check(0)
    assert repo.git("show", "milestone/n1-test-n1:apps/new/n.txt") == "n"
