"""A repository that an older version worked in, with its `.cache/`, its refs and its configuration, goes on as it is.

`tests/fixtures/state-of-0.1.0.tar.xz` is a repository after two runs of version 0.1.0, before events were typed: two
landed issues (one in its second revision), one that failed twice, one that a rule stopped, one with a question, one
that waits for another. Its configuration names two commands; `python -m executor init` adds the others.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import Repo, unpack

if TYPE_CHECKING:
    from typing import Any

ARCHIVE = Path(__file__).resolve().parents[1] / "fixtures" / "state-of-0.1.0.tar.xz"
STATUS = {"1": "landed", "2": "landed", "3": "failed", "4": "review", "5": "review", "6": "blocked"}


@pytest.fixture(params=["with .cache", "without .cache"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "repo")
    shutil.rmtree(repo.path)
    with tarfile.open(ARCHIVE) as archive:
        unpack(archive, tmp_path)
    (tmp_path / "oldrepo").rename(repo.path)
    subprocess.run([sys.executable, "-m", "executor", "init"], cwd=repo.path, check=True, stdout=subprocess.DEVNULL)
    if request.param == "without .cache":
        shutil.rmtree(repo.path / ".cache")
    return repo


def issues(repo: Repo) -> dict[str, dict[str, Any]]:
    [milestone] = repo.doit("status", "m1", "--json").check().json["milestones"]
    return {item["id"]: item for item in milestone["issues"]}


def test_its_status_is_read_and_a_run_pays_for_nothing_again(old: Repo) -> None:
    refs = old.git("for-each-ref", "refs/heads", "refs/attempts")
    # Stops are not kept outside `.cache/`: without it, the result waits to be judged once more.
    before = STATUS if (old.path / ".cache").exists() else STATUS | {"4": "open"}
    assert {name: item["status"] for name, item in issues(old).items()} == before
    assert issues(old)["2"]["revision"] == 2
    old.doit("milestone:m1").check(1)
    assert old.git("for-each-ref", "refs/heads", "refs/attempts") == refs
    assert {name: item["status"] for name, item in issues(old).items()} == STATUS


def test_what_waits_for_a_person_goes_on(old: Repo) -> None:
    old.doit("milestone:m1").check(1)
    # An approval of a stop that version 0.1.0 recorded does not say which rules were shown, so it is asked once more.
    for _ in range(2):
        old.doit("approve", "m1/4", "--reason", "wanted")
        old.doit("milestone:m1").check(1)
    assert issues(old)["4"]["status"] == "landed"
    assert old.git("show", "milestone/m1-first-things:requirements.txt") == "requests"
