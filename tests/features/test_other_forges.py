"""A milestone on GitLab and on Forgejo, from the command line, against stateful fakes with a real git remote."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.fake_forgejo import FakeForgejo
from tests.fake_github import TOKEN, FakeGitHub
from tests.fake_gitlab import FakeGitLab
from tests.features.test_github import declared, up
from tests.features.test_remote import BRANCH, bare, branches, tip
from tests.forge.published import UNPUBLISHED, assert_as_published, published
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS = {"gitlab": FakeGitLab, "forgejo": FakeForgejo, "gitea": FakeForgejo}
PLUGIN = """
from executor.forge.base import Checks
from executor.forge.hosts.github import GitHubForge, over_pygithub
from executor.forge.hosts.rest import Api


class Plain(GitHubForge):
    kind = "acme"
    retarget = None


def connect(wanted):
    return Plain(Api(over_pygithub(wanted.rules.base_url, wanted.token)), wanted.repository())
"""


@pytest.fixture(params=["gitlab", "forgejo", pytest.param("gitea", marks=pytest.mark.long)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def hub(repo: Repo, kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """The forge of the repository, with its main branch."""
    monkeypatch.setenv(f"{kind.upper()}_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(repo.path.parent / "user-cache"))
    folder = repo.path.parent / "up.git"
    repo.git("remote", "add", "origin", bare(folder))
    rules = f'kind = "{kind}"\nrepository = "acme/app"\nwait = 0\nlabels = ["executor"]\n'
    with KINDS[kind](folder) as fake:
        repo.write("rules/forge.toml", f'{rules}base_url = "{fake.url}"\n')
        yield fake


def life_of_a_milestone(repo: Repo, hub: FakeGitHub) -> None:
    """Landed, stopped and approved, red and green, released: then there is nothing to do."""
    number = hub.add_issue("Sea")
    hub.add_milestone("M1")
    body = issue("a", "echo a > a", number=number) + issue("b", "echo x==1 > requirements.txt")
    declared(repo, f'tag = "v1"\nforge_milestone = "M1"\n{body}')
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    if isinstance(hub, FakeGitLab):
        hub.only_green = True
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "open", "m1/b": "review"}
    first, second = hub.pulls
    assert first.auto is not None
    assert hub.shown(second)["draft"]
    assert first.labels == ["executor"]
    hub.set_check(first.sha, "ci", "failure")
    repo.doit("issue:m1/a").check(75)
    assert hub.withdrawn == [first.number]
    hub.set_check(first.sha, "ci", "success")
    assert first.merged
    repo.doit("approve", "m1/b", "--reason", "wanted").check()
    repo.doit("milestone:m1").check(75)
    hub.set_check(second.sha, "ci", "success")
    repo.doit("milestone:m1").check()
    assert hub.issues[number]["state"] == "closed"
    assert branches(up(repo)) == ["refs/heads/main", f"refs/heads/{BRANCH}"]
    assert tip(up(repo), BRANCH) == repo.git("rev-parse", BRANCH)
    hub.new_checks.clear()
    hub.required.clear()
    if isinstance(hub, FakeGitLab):
        hub.only_green = False
    repo.doit("release:m1").check()
    assert hub.milestones[1]["state"] == "closed"
    assert repo.git("cat-file", "-t", "v1") == "tag"
    before = len(hub.requests)
    assert "nothing to do" in repo.doit("release:m1").check().out
    assert len(hub.requests) == before
    shutil.rmtree(repo.path / ".cache")
    repo.doit("milestone:m1").check()
    assert len(hub.pulls) == 3


def test_the_life_of_a_milestone(repo: Repo, hub: FakeGitHub) -> None:
    life_of_a_milestone(repo, hub)


def stack_of_two(repo: Repo, hub: FakeGitHub) -> None:
    """Two pull requests that wait, one on the other, until both have merged into the milestone branch."""
    rules = repo.path / "rules" / "forge.toml"
    rules.write_text(f"stack = true\n{rules.read_text()}")
    declared(repo, issue("a", "echo a > a") + issue("b", "echo b > b"))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    if isinstance(hub, FakeGitLab):
        hub.only_green = True
    repo.doit("milestone:m1").check(75)
    first, second = hub.pulls
    assert [(pull.base, pull.auto is not None) for pull in hub.pulls] == [(BRANCH, True), (first.head, False)]
    hub.set_check(first.sha, "ci", "success")
    repo.doit("milestone:m1").check(75)
    assert (second.base, second.auto is not None) == (BRANCH, True)
    hub.set_check(second.sha, "ci", "success")
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["a@1", "b@1"]
    assert branches(up(repo)) == ["refs/heads/main", f"refs/heads/{BRANCH}"]


@pytest.mark.long
def test_a_stack_merges_from_below(repo: Repo, hub: FakeGitHub) -> None:
    stack_of_two(repo, hub)


@pytest.mark.long
@pytest.mark.parametrize("life", [life_of_a_milestone, stack_of_two])
def test_the_life_of_a_milestone_is_as_the_forge_publishes_it(
    repo: Repo, hub: FakeGitHub, kind: str, life: Callable[[Repo, FakeGitHub], None]
) -> None:
    description = published(kind)
    life(repo, hub)
    assert_as_published(description, hub.requests, UNPUBLISHED[kind])


def test_a_plug_in_of_another_package_is_a_kind_and_an_unknown_one_is_reported(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_FORGE_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(repo.path.parent / "user-cache"))
    folder = repo.path.parent / "up.git"
    repo.git("remote", "add", "origin", bare(folder))
    repo.write("acme_forge.py", PLUGIN)
    repo.write("acme_forge-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme-forge\nVersion: 1\n")
    points = "[make_for_milestones.forges]\nacme-forge = acme_forge:connect\n"
    repo.write("acme_forge-1.dist-info/entry_points.txt", points)
    with FakeGitHub(folder) as fake:
        rules = f'repository = "acme/app"\nwait = 0\nbase_url = "{fake.url}"\n'
        repo.write("rules/forge.toml", f'kind = "acme-forge"\nstack = true\n{rules}')
        declared(repo, issue("a", "echo a > a"))
        assert "rules/forge.toml: stack: acme has none" in repo.doit("milestone:m1").check().out
        assert fake.pulls[0].merged
        repo.write("rules/forge.toml", f'kind = "nowhere"\n{rules}')
        err = repo.doit("milestone:m1").check(3).err
        kinds = '"local", "acme-forge", "forgejo", "gitea", "github", "gitlab"'
        assert f'rules/forge.toml: kind: expected one of {kinds}, found "nowhere"' in err
