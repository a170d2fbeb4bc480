"""The releases of packages, replayed as milestones in parallel, end in byte-identical trees."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from benchmarks import history
from tests.replay import RELEASES, declare, fetch, nasty_releases, pack
from tests.support import kept

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


@pytest.mark.parametrize("names", [("tabulate",), pytest.param(tuple(RELEASES), marks=pytest.mark.long)])
def test_real_packages_replayed_in_parallel_end_byte_identical(
    repo: Repo, pytestconfig: pytest.Config, names: tuple[str, ...]
) -> None:
    folder = kept(pytestconfig, "releases")
    releases = {name: RELEASES[name] for name in names}
    wanted = [(name, version) for name, versions in releases.items() for version in versions]
    with ThreadPoolExecutor(4) as pool:
        archives = dict(zip(wanted, pool.map(lambda release: fetch(release, folder), wanted), strict=True))
    packages = {name: [archives[name, version] for version in versions] for name, versions in releases.items()}
    agents = {name: ("patch", "script")[number % 2] for number, name in enumerate(packages)}
    expected = declare(repo, packages, agents)
    repo.commit("declare")
    before = repo.snapshot()
    repo.doit("milestone:replay", "-n", "4", timeout=240).check()
    assert trees(repo, expected) == expected
    landed = repo.landed(BRANCH)
    assert sorted(landed) == sorted(f"{n}-{k}@1" for n, v in releases.items() for k in range(1, len(v) + 1))
    for name, versions in releases.items():
        own = [item for item in landed if item.startswith(f"{name}-")]
        assert own == [f"{name}-{number}@1" for number in range(1, len(versions) + 1)]
    assert repo.snapshot() == before
    tip = repo.git("rev-parse", BRANCH)
    repo.doit("milestone:replay").check()
    assert repo.git("rev-parse", BRANCH) == tip
    sys.stdout.write(f"{len(landed)} releases\n")


def test_a_range_of_a_history_as_a_milestone_ends_in_the_same_tree(
    repo: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two changes of one line, two that go together, one that needs a rename, and a merge."""
    lines = [f"line {number}\n" for number in range(30)]

    def commit(title: str, **files: str) -> None:
        for name, text in files.items():
            repo.write(f"{name}.txt", text)
        repo.commit(title)

    def changed(**places: str) -> str:
        for place, text in places.items():
            lines[int(place[1:])] = f"{text}\n"
        return "".join(lines)

    commit("start", long="".join(lines))
    start = repo.git("rev-parse", "HEAD")
    commit("the top", long=changed(l1="top"))
    commit("the bottom", long=changed(l28="bottom"))
    commit("the top again", long=changed(l1="top again"))
    repo.git("mv", "long.txt", "moved.txt")
    commit("a rename", other="other\n")
    commit("in the renamed file", moved=changed(l15="middle"))
    repo.git("commit", "-q", "--allow-empty", "-m", "nothing")
    history.main([str(repo.path), f"{start}..HEAD", "-n", "4"])
    *_, heads, _, cells = [
        [cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines() if "|" in line
    ]
    row = dict(zip(heads, cells, strict=True))
    found = [row[name] for name in ("issues", "landed", "landed twice", "end tree")]
    assert found == ["5", "5", "0", "identical"]
