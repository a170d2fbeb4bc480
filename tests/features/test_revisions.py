"""What reruns, and why: only what is incomplete or invalidated, and `doit explain` names the input."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "milestone/m1-test-m1"


def chain(text: str = "word=one", *, check_b: str = "test -s b.txt", extra: str = "") -> str:
    """a -> b -> c, and d beside them; what `a` makes depends on its spec text."""
    return (
        issue(
            "a",
            "grep -o 'word=[a-z]*' \"$EXECUTOR_BRIEF\" | head -n 1 > a.txt",
            body=text,
            accept=[{"run": "test -s a.txt"}],
        )
        + issue("b", "echo b >> b.txt", needs=["a"], accept=[{"run": check_b}])
        + issue("c", "echo c >> c.txt", needs=["b"])
        + issue("d", "echo d >> d.txt")
        + extra
    )


def attempts_of(repo: Repo, name: str) -> int:
    found = repo.doit("status", "m1", "--json").check().json["milestones"][0]["issues"]
    return int(next(item["attempts"] for item in found if item["id"] == name))


def test_a_changed_spec_revises_that_issue_and_verifies_its_dependents_again(repo: Repo) -> None:
    repo.milestone("m1", chain())
    repo.doit("milestone:m1").check()
    repo.milestone("m1", chain("word=two"))

    assert repo.statuses() == {"m1/a": "stale", "m1/b": "landed", "m1/c": "landed", "m1/d": "landed"}
    told = repo.doit("explain", "m1/a").check().out
    assert "because of: spec" in told
    assert "-word=one" in told
    assert "+word=two" in told

    result = repo.doit("milestone:m1").check()

    assert repo.landed(BRANCH)[-1] == "a@2"
    assert len(repo.landed(BRANCH)) == 5
    assert repo.git("show", f"{BRANCH}:a.txt") == "word=two"
    assert "verify    m1/b" in result.out
    assert [attempts_of(repo, name) for name in "abcd"] == [2, 1, 1, 1]
    assert set(repo.statuses().values()) == {"landed"}
    assert "nothing to do" in repo.doit("milestone:m1").check().out


def test_a_revision_with_the_same_result_lands_without_a_change_and_leaves_dependents_alone(repo: Repo) -> None:
    repo.milestone("m1", chain("word=one"))
    repo.doit("milestone:m1").check()
    repo.milestone("m1", chain("word=one\n\nSaid more clearly."))

    repo.doit("milestone:m1").check()

    assert repo.landed(BRANCH)[-1] == "a@2"
    assert repo.git("diff", "--name-only", f"{BRANCH}^", BRANCH) == ""
    assert [attempts_of(repo, name) for name in "abcd"] == [2, 1, 1, 1]
    shutil.rmtree(repo.path / ".cache")
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    assert len(repo.landed(BRANCH)) == 5


def test_what_does_not_count_changes_nothing(repo: Repo) -> None:
    repo.milestone("m1", chain("word=one"))
    repo.doit("milestone:m1").check()
    text = (repo.path / "milestones" / "m1.toml").read_text()
    text = "# a comment\n" + text.replace('body = "word=one"', 'priority = "P0"\nsize = "L"\nbody = "word=one   "')
    (repo.path / "milestones" / "m1.toml").write_text(text.replace("echo d >>", "echo other >>"))
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    assert len(repo.landed(BRANCH)) == 4


def test_a_changed_check_verifies_again_and_implements_only_when_that_fails(repo: Repo) -> None:
    repo.milestone("m1", chain())
    repo.doit("milestone:m1").check()

    repo.write("rules/checks.toml", '[check.small]\nrun = "test $(wc -l < b.txt) -lt 5"\n')
    text = chain().replace('id = "b"', 'id = "b"\nchecks = ["small"]')
    repo.milestone("m1", text)
    assert repo.statuses()["m1/b"] == "stale"
    assert "because of: checks" in repo.doit("explain", "m1/b").check().out
    repo.doit("milestone:m1").check()
    assert len(repo.landed(BRANCH)) == 4
    assert set(repo.statuses().values()) == {"landed"}

    repo.write("rules/checks.toml", '[check.small]\nrun = "test $(wc -l < b.txt) -eq 2"\n')
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH)[-1] == "b@2"
    assert repo.git("show", f"{BRANCH}:b.txt") == "b\nb"


def test_a_verdict_is_never_asked_for_twice_on_the_same_tree(repo: Repo, tmp_path: Path) -> None:
    counter = tmp_path / "count"
    run = f"echo x >> {counter}"
    repo.milestone("m1", "".join(issue(name, f"echo {name} > {name}") for name in "abcdef"))
    repo.doit("milestone:m1").check()
    repo.write("rules/checks.toml", f'[check.counted]\nrun = "{run}"\n')
    repo.write("rules/routes.toml", '[route.feature]\nchecks = ["counted"]\n')

    repo.doit("milestone:m1", "-n", "1").check()

    assert counter.read_text().count("x") == 1
    assert len(repo.landed(BRANCH)) == 6


def test_accept_keeps_landed_work_also_without_the_cache(repo: Repo) -> None:
    repo.milestone("m1", chain())
    repo.doit("milestone:m1").check()
    assert "nothing to accept" in repo.doit("accept", "m1/a").check(3).err
    repo.milestone("m1", chain("word=two"))

    repo.doit("accept", "m1/a", "--reason", "good enough").check()

    shutil.rmtree(repo.path / ".cache")
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    assert len(repo.landed(BRANCH)) == 4
    repo.milestone("m1", chain("word=three"))
    assert repo.statuses()["m1/a"] == "stale"


def test_explain_finds_the_old_text_in_the_history_of_the_file_when_the_cache_is_gone(repo: Repo) -> None:
    repo.write("milestones/m1/a.md", "# A\n\nFirst wording.\n")
    repo.milestone(
        "m1", '\n[[issue]]\nid = "a"\ntitle = "A"\nspec = "m1/a.md"\nagent = "script"\nwith = { run = "echo > x" }\n'
    )
    repo.commit("spec")
    repo.doit("milestone:m1").check()
    repo.write("milestones/m1/a.md", "# A\n\nSecond wording.\n")
    shutil.rmtree(repo.path / ".cache")

    told = repo.doit("explain", "m1/a", "--json").check().json

    assert told["cause"]["input"] == "spec"
    assert "-First wording." in told["difference"]
    assert "+Second wording." in told["difference"]


def test_a_commit_by_hand_on_the_milestone_branch_is_built_upon(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check()
    repo.git("checkout", "-q", BRANCH)
    repo.write("hand.txt", "by hand\n")
    repo.commit("by hand")
    repo.git("checkout", "-q", "main")
    repo.milestone("m1", issue("a", "echo a > a") + issue("b", "cat hand.txt > b"))

    repo.doit("milestone:m1").check()

    assert repo.landed(BRANCH) == ["a@1", "b@1"]
    assert repo.git("show", f"{BRANCH}:b") == "by hand"
