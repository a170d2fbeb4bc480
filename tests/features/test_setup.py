"""Trees are ready when work begins: set-up commands, what they keep, ignored files that are copied."""

from __future__ import annotations

from tests.support import Repo, issue

BRANCH = "milestone/m1-test-m1"
COUNTED = """
[setup.deps]
run = "mkdir -p deps && cat lock > deps/made && echo x >> {count}"
inputs = ["lock"]
keep = ["deps/"]
"""


def prepared(repo: Repo) -> list[str]:
    """Declare a set-up that counts its calls; the lines counted so far are in the file."""
    count = repo.path.parent / "count"
    count.touch()
    repo.write("lock", "one\n")
    repo.write("rules/setup.toml", COUNTED.format(count=count))
    repo.commit("lock")
    return [str(count)]


def test_what_a_tree_needs_is_made_once_for_agents_and_once_for_checks(repo: Repo) -> None:
    (count,) = prepared(repo)
    accept = [{"run": "test -s deps/made"}]
    repo.milestone(
        "m1",
        "".join(
            issue(name, f"cat deps/made > {name}.txt", accept=accept, **({"needs": [before]} if before else {}))
            for name, before in (("a", ""), ("b", "a"), ("c", "b"))
        ),
    )
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["a@1", "b@1", "c@1"]
    assert repo.git("show", f"{BRANCH}:c.txt") == "one"
    assert repo.git("ls-tree", "-r", "--name-only", BRANCH).split().count("deps/made") == 0
    with open(count, encoding="utf-8") as file:  # noqa: PTH123
        assert len(file.read().split()) == 2


def test_a_changed_input_makes_it_again(repo: Repo) -> None:
    (count,) = prepared(repo)
    accept = [{"run": "cmp lock deps/made"}]
    repo.milestone("m1", issue("a", "echo two > lock", accept=accept) + issue("b", "cat deps/made > b", needs=["a"]))
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:b") == "two"
    with open(count, encoding="utf-8") as file:  # noqa: PTH123
        assert len(file.read().split()) == 4


def test_what_a_check_altered_is_not_used_for_the_next(repo: Repo) -> None:
    prepared(repo)
    spoil = [{"run": "test $(cat deps/made) = one && echo spoilt > deps/made"}]
    repo.milestone("m1", issue("a", "echo a > a", accept=spoil) + issue("b", "echo b > b", accept=spoil, needs=["a"]))
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["a@1", "b@1"]


def test_a_setup_that_fails_costs_no_agent_and_is_reported_with_its_output(repo: Repo) -> None:
    repo.write("rules/setup.toml", '[setup.deps]\nrun = "echo no such package; exit 7"\n')
    repo.milestone("m1", issue("a", "touch ran && echo a > a"))
    repo.doit("milestone:m1").check(1)
    shown = repo.doit("log", "m1/a").check().out
    assert "m1/a is failed: set-up deps: exit 7" in shown
    assert "no such package" in shown
    assert "remedy: correct the command in rules/setup.toml" in shown


def test_ignored_files_are_copied_by_name_and_never_land(repo: Repo) -> None:
    repo.write(".gitignore", ".cache/\n.env*\n")
    repo.commit("ignore")
    repo.write(".env.test", "PORT=80\n")
    repo.write(".env.secret", "TOKEN=1\n")
    repo.write("rules/setup.toml", 'include = [".env.test"]\n')
    run = "ls -a > seen; cp .env.test copy; echo PORT=1 > .env.test"
    repo.milestone("m1", issue("a", run, accept=[{"run": "grep -q PORT=80 .env.test"}]))
    repo.doit("milestone:m1").check()
    seen = repo.git("show", f"{BRANCH}:seen").split()
    assert ".env.test" in seen
    assert ".env.secret" not in seen
    assert ".env.test" not in repo.git("ls-tree", "-r", "--name-only", BRANCH).split()


def test_wrong_setup_rules_are_reported_by_key(repo: Repo) -> None:
    repo.write("rules/setup.toml", '[setup.deps]\nrun = "true"\nkeep = ["../x"]\ninptus = ["lock"]\n')
    repo.milestone("m1", issue("a", "echo a > a"))
    told = repo.doit("list").check(3).err
    assert 'rules/setup.toml: setup.deps.keep[0]: expected a relative path without .., found "../x"' in told
    assert 'rules/setup.toml: setup.deps: unknown key "inptus"' in told
