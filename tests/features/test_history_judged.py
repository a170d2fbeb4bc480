"""Real history as judge of the judge: releases that changed their declared dependencies are stopped, no others."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from executor.config.load_rules import load_policy
from executor.config.project import packaged_rules
from executor.git.diff import parse_diff
from executor.stop_rules.content import find_secrets
from executor.stop_rules.evaluate import stops_of
from executor.stop_rules.view import View
from tests.replay import RELEASES, STOPS, Mirror, declare, fetch
from tests.support import kept

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

TRUTH = {
    ("docutils", "0.16"): (False, "declares none: setup.py has python_requires only"),
    ("docutils", "0.17.1"): (False, "still declares none; setup.py was rewritten from distutils to setuptools"),
    ("docutils", "0.18.1"): (False, "still declares none"),
    ("docutils", "0.19"): (False, "still declares none; python_requires went from >=2.7 to >=3.7"),
    ("jinja2", "2.10.3"): (True, "first declares MarkupSafe>=0.23, Babel>=0.8 for i18n, and docs/requirements.txt"),
    ("jinja2", "2.11.3"): (False, "setup.py changed, with the same install_requires and extras_require"),
    ("jinja2", "3.0.3"): (True, "MarkupSafe>=2.0 and Babel>=2.7; docs/requirements.txt gave way to requirements/"),
    ("jinja2", "3.1.2"): (True, "other pins in requirements/*.txt; those of setup.py are the same"),
    ("six", "1.13.0"): (True, "first declares pytest in tests_require"),
    ("six", "1.14.0"): (False, "the same tests_require; python_requires changed"),
    ("six", "1.15.0"): (False, "the same tests_require; setup.py is unchanged but for nothing declared"),
    ("six", "1.16.0"): (False, "the same tests_require"),
    ("tabulate", "0.8.7"): (True, "first declares wcwidth for widechars"),
    ("tabulate", "0.8.9"): (False, "the same extras_require; test_suite went"),
    ("tabulate", "0.8.10"): (False, "the same extras_require; python_requires came"),
}
"""(package, release) -> whether its declared dependencies differ from those of the release before, and why."""


def dependency_stops(mirror: Mirror) -> list[str]:
    """Lines of the stop that the last commit of a mirror earns; empty when it earns none."""
    rules = [rule for rule in load_policy(packaged_rules()).stops if rule.id == "dependency-change"]

    def content(path: str, after: bool) -> bytes | None:
        done = subprocess.run(
            ["git", "cat-file", "blob", f"{'HEAD' if after else 'HEAD^'}:{path}"],
            cwd=mirror.folder,
            capture_output=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else None

    hits = stops_of(parse_diff(mirror.patch()), rules, (), View(files=(), content=content, secrets=find_secrets))
    return [line for hit in hits for line in hit.lines]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "tabulate" else [pytest.mark.long]) for name in RELEASES]
)
def test_exactly_the_releases_that_changed_their_dependencies_are_stopped(
    name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    mirror = Mirror(tmp_path / "mirror")
    subprocess.run(
        ["git", "-c", "user.name=R", "-c", "user.email=r@example.org", "commit", "-q", "--allow-empty", "-m", "-"],
        cwd=mirror.folder,
        check=True,
    )
    judged, told = {}, {}
    for version in RELEASES[name]:
        mirror.add(name, fetch((name, version), kept(pytestconfig, "releases")))
        lines = dependency_stops(mirror)
        judged[version], told[version] = bool(lines), lines
    assert judged == {version: TRUTH[name, version][0] for version in RELEASES[name]}, told
    sys.stdout.write(f"{name}: {sum(judged.values())} of {len(judged)} releases stopped\n")


@pytest.mark.long
def test_a_replay_is_stopped_at_exactly_these_releases_and_goes_on_once_they_are_approved(
    repo: Repo, pytestconfig: pytest.Config
) -> None:
    folder = kept(pytestconfig, "releases")
    packages = {
        name: [fetch((name, version), folder) for version in RELEASES[name]] for name in ("jinja2", "six", "tabulate")
    }
    others = [rule for rule in STOPS if rule != "dependency-change"]
    expected = declare(repo, packages, dict.fromkeys(packages, "patch"), allow=others)
    stopped: set[str] = set()
    for _ in range(8):
        result = repo.doit("milestone:replay", "-n", "3", timeout=120)
        if result.code == 0:
            break
        result.check(4)
        waiting = [ref for ref, status in repo.statuses().items() if status == "review"]
        assert waiting
        for ref in waiting:
            assert "dependency-change" in repo.doit("explain", ref).check().out
            repo.doit("approve", ref, "--reason", "read it").check()
            stopped.add(ref.partition("/")[2])
    truth = {
        f"{name}-{number}"
        for name in packages
        for number, version in enumerate(RELEASES[name], 1)
        if TRUTH[name, version][0]
    }
    assert stopped == truth
    assert {name: repo.git("rev-parse", f"milestone/replay-replay:{name}") for name in expected} == expected
