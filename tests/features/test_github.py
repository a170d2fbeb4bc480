"""A milestone on GitHub, from the command line, against a stateful fake with a real git remote behind it.

The rarer cases have a command of their own: EXECUTOR_LONG=1 python -m pytest -m long tests/features/test_github.py
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.fake_github import TOKEN, FakeGitHub, Fault
from tests.features.test_remote import BRANCH, bare, branches, clone, tip
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = 'kind = "github"\nremote = "origin"\nrepository = "acme/app"\nwait = 0\nlabels = ["executor"]\n'


def served(repo: Repo) -> FakeGitHub:
    """Give a repository a remote on a forge, which is served until its `__exit__`."""
    folder = repo.path.parent / "up.git"
    repo.git("remote", "add", "origin", bare(folder))
    fake = FakeGitHub(folder).__enter__()
    repo.write("rules/forge.toml", f'{RULES}base_url = "{fake.url}"\n')
    return fake


@pytest.fixture
def hub(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """The forge of the repository, with its main branch."""
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(repo.path.parent / "user-cache"))
    fake = served(repo)
    yield fake
    fake.__exit__()


def declared(repo: Repo, body: str) -> None:
    repo.milestone("m1", body)
    repo.commit("declare")
    repo.git("push", "-q", "origin", "main")


def events(repo: Repo) -> list[str]:
    """Kinds of the journal's events about issues, in order."""
    lines = (repo.path / ".cache" / "m1" / "journal.000001.jsonl").read_text().splitlines()
    return [event["e"] for event in map(json.loads, lines) if event["key"]]


def up(repo: Repo) -> Path:
    return repo.path.parent / "up.git"


def test_a_milestone_lands_by_pull_requests_and_running_again_does_nothing(repo: Repo, hub: FakeGitHub) -> None:
    number = hub.add_issue("Sea")
    three = issue("a", "echo a > a") + issue("b", "echo b > b", needs=["a"]) + issue("c", "echo c > c", number=number)
    declared(repo, three)
    assert "3 landed" in repo.doit("milestone:m1").check().out
    assert sorted(repo.landed(BRANCH)) == ["a@1", "b@1", "c@1"]
    assert tip(up(repo), BRANCH) == repo.git("rev-parse", BRANCH)
    assert branches(up(repo)) == ["refs/heads/main", f"refs/heads/{BRANCH}"]
    assert [(pull.state, pull.merged, pull.draft, pull.labels) for pull in hub.pulls] == [
        ("closed", True, False, ["executor"])
    ] * 3
    assert hub.issues[number]["state"] == "closed"
    before = len(hub.requests)
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    assert len(hub.requests) == before
    shown = repo.doit("status", "--json").check().json["milestones"][0]["issues"]
    assert {item["pr"]["number"]: item["pr"]["state"] for item in shown} == {2: "merged", 3: "merged", 4: "merged"}
    shutil.rmtree(repo.path / ".cache")
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    other = clone(repo, up(repo))
    assert "3 landed" in other.doit("milestone:m1").check().out
    assert len(hub.pulls) == 3


def test_needs_are_given_to_the_forge_as_dependencies_of_its_issues(repo: Repo, hub: FakeGitHub) -> None:
    first, second = hub.add_issue("One"), hub.add_issue("Two")
    rules = repo.path / "rules/forge.toml"
    rules.write_text(f"dependencies = true\n{rules.read_text()}")
    two = issue("a", "echo a > a", number=first) + issue("b", "echo b > b", number=second, needs=["a"])
    declared(repo, two + issue("c", "echo c > c", needs=["a"]))
    repo.doit("milestone:m1").check()
    assert hub.blocked_by == {second: [first]}


def test_what_a_hard_rule_stops_is_a_draft_with_the_reason_until_a_person_approves(repo: Repo, hub: FakeGitHub) -> None:
    declared(
        repo,
        issue("a", "mkdir sub; echo 'x==1' > sub/requirements.txt", accept=["It is written down", {"run": "true"}]),
    )
    repo.doit("milestone:m1").check(4)
    pull = hub.pulls[0]
    assert (pull.draft, pull.state, pull.base) == (True, "open", BRANCH)
    assert "**Waits for a person:** dependency-change" in pull.body
    assert "- [ ] It is written down (not proved: no reviewer has judged it)\n- [ ] `true` (not proved)" in pull.body
    assert "> - `sub/requirements.txt" in pull.body
    assert '> - to clear it: `doit approve m1/a --reason "..."`; for another attempt: `doit retry m1/a`' in pull.body
    repo.doit("milestone:m1").check(4)
    assert len(hub.pulls) == 1
    repo.doit("approve", "m1/a", "--reason", "wanted").check()
    repo.doit("milestone:m1").check()
    assert (pull.draft, pull.merged) == (False, True)
    assert "Waits for a person" not in pull.body
    assert "- [ ] `true` (not proved: it also passed before the change)" in pull.body
    assert re.search(r"## Approvals\n- `dependency-change` by Tester on \S+: wanted\n", pull.body)
    assert repo.git("log", "-1", "--format=%s%n%(trailers:key=Pull-Request)", BRANCH) == (
        f"feat(m1): Issue a\nPull-Request: {pull.number}"
    )
    assert "Tester <tester@example.org> for dependency-change on" in repo.git("log", "-1", "--format=%b", BRANCH)


def test_a_secret_is_not_pushed(repo: Repo, hub: FakeGitHub) -> None:
    key = "AKIA" + "Q3ZK7NBV5WXR2TLM"
    declared(repo, issue("a", f"echo 'key = \"{key}\"' > settings.py"))
    out = repo.doit("milestone:m1").check(4).out
    assert "its result was not pushed, because secrets stopped it" in out
    assert hub.pulls == []
    assert branches(up(repo)) == ["refs/heads/main", f"refs/heads/{BRANCH}"]


def test_pending_required_checks_leave_the_merge_to_the_forge_and_the_issue_open(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a") + issue("b", "echo b > b", needs=["a"]))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    assert repo.statuses() == {"m1/a": "open", "m1/b": "blocked"}
    pull = hub.pulls[0]
    assert pull.auto is not None
    assert "PR #1 open" in repo.doit("status").check().out
    sha = pull.sha
    repo.doit("milestone:m1").check(75)
    assert pull.sha == sha
    hub.new_checks["ci"] = "success"
    hub.set_check(pull.sha, "ci", "success")
    assert pull.merged
    assert repo.doit("status", "--refresh", "--json").check().json["milestones"][0]["issues"][0]["status"] == "landed"
    repo.doit("milestone:m1").check()
    assert sorted(repo.landed(BRANCH)) == ["a@1", "b@1"]
    assert len(hub.pulls) == 2


@pytest.mark.long
def test_auto_merge_is_not_asked_for_where_it_would_merge_at_once(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.new_checks["ci"] = "pending"
    out = repo.doit("milestone:m1").check(75).out
    assert f"auto-merge is not enabled, because {BRANCH} has no required check" in out
    assert hub.pulls[0].auto is None
    hub.set_check(hub.pulls[0].sha, "ci", "success")
    repo.doit("milestone:m1").check()
    assert hub.pulls[0].merged


@pytest.mark.long
def test_a_check_of_the_forge_that_fails_each_time_fails_the_issue_with_the_reason(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.new_checks["ci"] = "failure"
    out = repo.doit("milestone:m1").check(1).out
    assert 'failed the same way twice: the forge\'s check "ci" failed' in out
    assert repo.statuses() == {"m1/a": "failed"}


@pytest.mark.long
def test_a_merge_queue_is_recognised_and_its_merge_without_trailers_too(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.queues.add(BRANCH)
    assert "waits in the merge queue" in repo.doit("milestone:m1").check(75).out
    hub.leave_queue()
    assert "was merged by hand" in repo.doit("milestone:m1").check().out
    assert repo.statuses() == {"m1/a": "landed"}
    shutil.rmtree(repo.path / ".cache")
    repo.doit("milestone:m1").check()
    assert len(hub.pulls) == 1


@pytest.mark.parametrize(
    "method",
    ["merge", pytest.param("squash", marks=pytest.mark.long), pytest.param("rebase", marks=pytest.mark.long)],
)
def test_a_pull_request_merged_by_hand_is_recognised_here_and_in_another_clone(
    repo: Repo, hub: FakeGitHub, method: str
) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    hub.merge_by_hand(1, method)
    repo.doit("milestone:m1").check()
    assert repo.statuses() == {"m1/a": "landed"}
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    shutil.rmtree(repo.path / ".cache")
    repo.doit("milestone:m1").check()
    assert repo.statuses() == {"m1/a": "landed"}
    other = clone(repo, up(repo))
    other.doit("milestone:m1").check()
    assert other.statuses() == {"m1/a": "landed"}
    assert other.attempts() == []
    assert len(hub.pulls) == 1


def test_a_branch_that_somebody_else_has_committed_to_is_left_alone(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    other = clone(repo, up(repo))
    other.git("checkout", "-q", hub.pulls[0].head)
    other.write("more", "more")
    theirs = other.commit("more")
    other.git("push", "-q", "origin", "HEAD")
    hub.set_check(theirs, "ci", "success")
    out = repo.doit("milestone:m1").check(4).out
    assert f"another person has committed to {hub.pulls[0].head} ({theirs[:10]}), so it is left alone" in out
    assert tip(up(repo), hub.pulls[0].head) == theirs
    hub.merge_by_hand(1, "squash", "theirs")
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:more") == "more"
    assert repo.statuses() == {"m1/a": "landed"}


def test_closed_reopened_and_retargeted_pull_requests_wait_for_a_person(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    pull = hub.pulls[0]
    pull.state = "closed"
    assert "was closed without being merged" in repo.doit("milestone:m1").check(4).out
    pull.state, pull.base = "open", "main"
    assert f"targets main, expected {BRANCH}" in repo.doit("milestone:m1").check(4).out
    pull.base, pull.title, pull.body = BRANCH, "A better title", f"Hello.\n\n{pull.body}\nBye."
    hub.set_check(pull.sha, "ci", "success")
    repo.doit("milestone:m1").check()
    assert (pull.merged, pull.title) == (True, "A better title")
    assert pull.body.startswith("Hello.\n\n<!-- milestone-executor ")
    assert pull.body.endswith("Bye.")
    assert len(hub.pulls) == 1


@pytest.mark.long
def test_a_deleted_branch_waits_for_a_person_and_a_retry_begins_anew(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    hub.git("update-ref", "-d", f"refs/heads/{hub.pulls[0].head}")
    assert "closed without being merged and its branch was deleted" in repo.doit("milestone:m1").check(4).out
    hub.new_checks.clear()
    repo.doit("retry", "m1/a").check()
    repo.doit("milestone:m1").check()
    assert [(pull.state, pull.merged) for pull in hub.pulls] == [("closed", False), ("closed", True)]


@pytest.mark.long
def test_of_two_pull_requests_for_one_issue_one_is_used_and_the_other_reported(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo 'x==1' > requirements.txt"))
    repo.doit("milestone:m1").check(4)
    hub.open_pull(hub.pulls[0].head, BRANCH)
    repo.doit("approve", "m1/a", "--reason", "wanted").check()
    out = repo.doit("milestone:m1").check().out
    assert "pull request #1 counts; close #2 of the same branch" in out
    assert hub.pulls[0].merged


@pytest.mark.long
def test_a_second_revision_has_a_pull_request_of_its_own_that_says_so(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a >> a"))
    repo.doit("milestone:m1").check()
    declared(repo, issue("a", "echo a >> a", body="Do it better."))
    repo.doit("milestone:m1").check()
    assert [pull.title for pull in hub.pulls] == ["feat(m1): Issue a", "feat(m1): Issue a (revision 2)"]
    assert repo.landed(BRANCH) == ["a@1", "a@2"]


@pytest.mark.long
def test_a_result_that_another_clone_pushed_is_used_here(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "date +%N > a"))
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    made = hub.pulls[0].sha
    other = clone(repo, up(repo))
    assert "the result on origin is used" in other.doit("milestone:m1").check(75).out
    assert hub.pulls[0].sha == made
    hub.set_check(made, "ci", "success")
    other.doit("milestone:m1").check()
    repo.doit("milestone:m1").check()
    assert repo.git("rev-parse", BRANCH) == other.git("rev-parse", BRANCH)
    assert len(hub.pulls) == 1


def test_the_base_that_moves_at_the_moment_of_the_merge_has_the_landing_verified_again(
    repo: Repo, hub: FakeGitHub
) -> None:
    declared(repo, issue("a", "echo a > a", accept=[{"run": "test -e a"}]))

    def outsider(_pull: object) -> None:
        tree = hub.git("rev-parse", f"{BRANCH}^{{tree}}")
        blob = hub.git("hash-object", "-w", "--stdin", given="x")
        listing = hub.git("ls-tree", tree) + f"\n100644 blob {blob}\toutside\n"
        commit = hub.git("commit-tree", hub.git("mktree", given=listing), "-p", hub.tip(BRANCH), given="outside\n")
        hub.git("update-ref", f"refs/heads/{BRANCH}", commit)

    hub.before_merge = outsider
    repo.doit("milestone:m1").check()
    assert events(repo)[-1] == "verified"
    assert repo.statuses() == {"m1/a": "landed"}


def test_no_child_sees_the_token(repo: Repo, hub: FakeGitHub) -> None:
    seen = repo.path.parent / "seen"
    look = f"env >> {seen}; cat /proc/$PPID/environ >> {seen} 2>/dev/null || true"
    declared(repo, issue("a", f"{look}; echo a > a", accept=[{"run": look}]))
    repo.doit("milestone:m1").check()
    assert "EXECUTOR_ISSUE=a" in seen.read_text()
    assert TOKEN not in seen.read_text()
    assert hub.pulls[0].merged


@pytest.mark.long
def test_a_forge_that_is_away_ends_the_run_early_and_nothing_is_lost(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", f"echo x >> {repo.path.parent}/ran; echo a > a") + issue("b", "echo b > b"))
    hub.faults.append(Fault("^POST .*/pulls$", status=503, times=100))
    result = repo.doit("milestone:m1").check(75)
    assert "run again later" in result.err + result.out
    hub.faults.clear()
    repo.doit("milestone:m1").check()
    assert (repo.path.parent / "ran").read_text() == "x\n"
    assert len(hub.pulls) == 2


def test_a_milestone_of_the_forge_is_imported_and_its_open_pull_requests_are_tracked(
    repo: Repo, hub: FakeGitHub
) -> None:
    title = "M4 - Worker settings"
    milestone = hub.add_milestone(title)
    first = hub.add_issue("Create the settings", body="Do it.", milestone=milestone, labels=("P0",))
    hub.add_issue("Read them", body=f"Depends on #{first}", milestone=milestone)
    hub.add_issue("Elsewhere")
    repo.doit("import", "--milestone", title, "--agent", "script").check()
    found = tomllib.loads((repo.path / "milestones" / "m4.toml").read_text(encoding="utf-8"))
    assert found["milestone"]["forge_milestone"] == title
    assert [(item["number"], item.get("needs")) for item in found["issue"]] == [(1, None), (2, ["1"])]
    assert "nothing changed" in repo.doit("import", "--format", "github", "--milestone", title).check().out
    assert "omit files" in repo.doit("import", "plan.md", "--milestone", title).check(3).err
    (repo.path / "milestones" / "m4.toml").unlink()
    declared(repo, issue("a", "echo a > a"))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    section = repo.doit("export", "m1", "--format", "markdown").check().out
    assert f"- {hub.url}" in section.partition("### Open pull requests")[2].partition("###")[0]
    assert "open; pull request #" in section
    assert 'waits for "ci"' in section


def test_the_plans_own_tracking_section_is_kept_while_the_run_works(repo: Repo, hub: FakeGitHub) -> None:
    plan = "# Plan\n\n## Tracking\n\n### Completed Issues\n\n* (none)\n\n### Open PRs\n\n* (none)\n\n"
    repo.write("docs/PLAN.md", f"{plan}### Current Phase\n\n* **Current Issue:** none\n")
    look = f"cat {repo.path}/docs/PLAN.md > {repo.path.parent}/seen-$EXECUTOR_ISSUE"
    number = hub.add_issue("Add it")
    first = issue("a", f"sleep 1.2; {look}; echo a > a", number=number)
    declared(repo, f'tracking = "docs/PLAN.md"\n{first}' + issue("b", f"sleep 1.2; {look}; echo b > b", needs=["a"]))
    repo.doit("milestone:m1").check()
    seen = (repo.path.parent / "seen-b").read_text()
    assert f"* [x] #{number} — Issue a ✅ Done — [PR #2]({hub.url}/acme/app/pull/2)\n* [ ] b — Issue b\n" in seen
    assert "**Current Issue:** b" in seen
    text = (repo.path / "docs" / "PLAN.md").read_text()
    assert "* [x] b — Issue b ✅ Done" in text
    assert text.count("### Completed Issues") == 1
    assert "nothing changed" in repo.doit("export", "m1", "--output", "docs/PLAN.md").check().out


def test_a_question_is_a_draft_that_the_answer_turns_into_the_pull_request(repo: Repo, hub: FakeGitHub) -> None:
    ask = "echo half > half; [ -e {0} ] || echo Which zone? > $EXECUTOR_OUT/question.md; touch {0}"
    declared(repo, issue("a", ask.format(repo.path.parent / "asked")))
    repo.doit("milestone:m1").check(4)
    pull = hub.pulls[0]
    assert (pull.draft, hub.git("show", f"{pull.sha}:half"), hub.comments) == (True, "half", {})
    assert '> - to answer it: `doit answer m1/a "..."`' in pull.body
    before = pull.sha
    repo.doit("milestone:m1").check(4)
    other = clone(repo, up(repo))
    other.doit("status", "--refresh").check()
    assert other.attempts() == []  # it is no result that another clone could take over
    repo.doit("answer", "m1/a", "EU").check()
    repo.doit("milestone:m1").check()
    assert (len(hub.pulls), pull.merged, pull.draft, pull.sha != before) == (1, True, False, True)
    assert len(hub.comments[pull.number]) == 1
    assert "waits for a person: question: Which zone?" in hub.comments[pull.number][0]["body"]
    assert "landed as" in hub.comments[pull.number][0]["body"].splitlines()[1]


def test_a_commit_that_somebody_adds_takes_back_the_auto_merge_that_was_asked_for(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    other = clone(repo, up(repo))
    other.git("checkout", "-q", hub.pulls[0].head)
    other.write("more", "more")
    other.commit("more")
    other.git("push", "-q", "origin", "HEAD")
    repo.doit("milestone:m1").check(4)
    assert (hub.withdrawn, hub.pulls[0].auto) == ([1], None)
    hub.pulls[0].auto = {"method": "squash", "title": "by a person", "body": ""}
    repo.doit("milestone:m1").check(4)
    assert hub.pulls[0].auto is not None  # a person asked for it, after having seen that commit


def test_a_forge_that_notices_a_push_late_is_waited_for_and_not_asked_without_a_pause(
    repo: Repo, hub: FakeGitHub
) -> None:
    declared(repo, issue("a", "mkdir s; echo 'y==1' > s/requirements.txt"))
    repo.doit("milestone:m1").check(4)
    repo.doit("approve", "m1/a", "--reason", "wanted").check()
    hub.lag = 1000
    before = len(hub.requests)
    repo.doit("milestone:m1").check(75)
    assert len(hub.requests) - before < 60
    hub.lag = 0
    repo.doit("milestone:m1").check()
    assert hub.pulls[0].merged


def test_a_merge_queue_that_takes_only_green_ones_is_entered_by_auto_merge(repo: Repo, hub: FakeGitHub) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.queues.add(BRANCH)
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    assert (hub.pulls[0].auto is not None, hub.pulls[0].queued) == (True, False)
    hub.set_check(hub.pulls[0].sha, "ci", "success")
    assert hub.pulls[0].queued
    hub.leave_queue()
    repo.doit("milestone:m1").check()
    assert repo.statuses() == {"m1/a": "landed"}


def test_a_check_that_is_not_required_and_still_runs_is_waited_for_without_auto_merge(
    repo: Repo, hub: FakeGitHub
) -> None:
    declared(repo, issue("a", "echo a > a"))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks |= {"ci": "success", "slow": "pending"}
    out = repo.doit("milestone:m1").check(75).out
    assert f'waits for "slow", which {BRANCH} does not require' in out
    assert hub.pulls[0].auto is None
    hub.set_check(hub.pulls[0].sha, "slow", "success")
    repo.doit("milestone:m1").check()
    assert hub.pulls[0].merged
