"""Checks of a milestone run on workers that claim them; the tools of their hosts are part of the verdicts."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from tests.cluster.test_workers import BRANCH, FAR, Far
from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

REPORT = '"<testsuite><testcase name=\\"one\\"/></testsuite>" > {report}'


@pytest.fixture
def far(repo: Repo, tmp_path: Path) -> Far:
    """A repository whose checks run on workers of a remote, and whose agents work here."""
    return Far(tmp_path, repo)


def declare(far: Far, run: str, rules: str = "isolated = true\n") -> None:
    far.repo.write("rules/runners.toml", f"[runner.far]\n{FAR}{rules}")
    far.repo.write(
        "rules/checks.toml",
        f"[check.there]\nrunner = \"far\"\nsabotage = \"off\"\nsabotage_reason = \"-\"\nrun = '''{run}'''\n",
    )
    far.repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nchecks = ["there"]\n')


def test_a_worker_does_a_check_and_its_verdict_is_used_again(far: Far) -> None:
    ran = far.folder / "ran"
    declare(
        far,
        f"echo $HOME $FAR_NAME >> {ran}; test -e dodo.py; echo printed there; echo {REPORT}",
        'isolated = true\nenv = ["FAR_NAME"]\n',
    )
    far.repo.milestone("m1", issue("a", "echo a > a"))
    with far.worker("box", FAR_NAME="of-the-host"):
        far.repo.doit("milestone:m1").check()
        lines = ran.read_text().splitlines()
        assert set(lines) == {f"{far.folder}/box of-the-host"}
        proofs = far.repo.doit("explain", "m1/a", "--json").check().json["proofs"]
        assert [(row["ok"], row["host"]) for row in proofs] == [(True, platform.node())]
        far.repo.doit("verify", "m1").check()
        assert ran.read_text().splitlines() == lines, "the verdict is used again"
        found = {item["subject"]: item for item in far.repo.doit("doctor", "--json").json}
        assert (found["runner far"]["kind"], f"checks: {platform.node()}" in found["runner far"]["text"]) == (
            "ok",
            True,
        )
    assert far.repo.landed(BRANCH) == ["a@1"]
    assert {item["host"] for item in far.events("checked")} == {platform.node()}
    assert far.refs() == []
