"""The releases of packages, replayed as milestones in parallel, end in byte-identical trees."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.replay import RELEASES, declare, fetch, nasty_releases, pack

if TYPE_CHECKING:
    from tests.support import Repo

BRANCH = "milestone/replay-replay"


def trees(repo: Repo, names: dict[str, str]) -> dict[str, str]:
    return {name: repo.git("rev-parse", f"{BRANCH}:{name}") for name in names}


@pytest.mark.parametrize("agent", ["patch", "script"])
def test_a_package_with_everything_a_tree_can_have_ends_byte_identical(repo: Repo, agent: str) -> None:
    archives = [pack(files, repo.path.parent / f"nasty-{n}.tar") for n, files in enumerate(nasty_releases())]
    expected = declare(repo, {"nasty": archives}, {"nasty": agent})
    repo.commit("declare")
    before = repo.snapshot()
    repo.doit("milestone:replay").check()
    assert trees(repo, expected) == expected
    assert repo.landed(BRANCH) == [f"nasty-{number}@1" for number in range(1, 5)]
    assert repo.snapshot() == before


def test_real_packages_replayed_in_parallel_end_byte_identical(repo: Repo, pytestconfig: pytest.Config) -> None:
    folder = pytestconfig.cache.mkdir("releases")
    wanted = [(name, version) for name, versions in RELEASES.items() for version in versions]
    with ThreadPoolExecutor(4) as pool:
        archives = dict(zip(wanted, pool.map(lambda release: fetch(release, folder), wanted), strict=True))
    packages = {name: [archives[name, version] for version in versions] for name, versions in RELEASES.items()}
    agents = {name: ("patch", "script")[number % 2] for number, name in enumerate(packages)}
    expected = declare(repo, packages, agents)
    repo.commit("declare")
    before = repo.snapshot()
    repo.doit("milestone:replay", "-n", "4", timeout=240).check()
    assert trees(repo, expected) == expected
    landed = repo.landed(BRANCH)
    assert sorted(landed) == sorted(f"{n}-{k}@1" for n, v in RELEASES.items() for k in range(1, len(v) + 1))
    for name, versions in RELEASES.items():
        own = [item for item in landed if item.startswith(f"{name}-")]
        assert own == [f"{name}-{number}@1" for number in range(1, len(versions) + 1)]
    assert repo.snapshot() == before
    tip = repo.git("rev-parse", BRANCH)
    repo.doit("milestone:replay").check()
    assert repo.git("rev-parse", BRANCH) == tip
    sys.stdout.write(f"{len(landed)} releases\n")
