"""What goes wrong has one clear message and its exit code, and leaves everything else untouched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import CONFIG, DODO, Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "milestone/m1-test-m1"
GOOD = issue("good", "echo good > good")
PATCH: dict[str, Any] = {"agent": "patch", "with": {"file": "m1/a.patch"}}


def test_a_failing_check_fails_its_issue_and_the_others_land(repo: Repo) -> None:
    bad = issue("bad", "echo $EXECUTOR_ATTEMPT > bad", accept=[{"run": "echo not good enough; exit 3"}])
    repo.milestone("m1", bad + issue("after", "echo", needs=["bad"]) + GOOD)
    before = repo.snapshot()

    result = repo.doit("milestone:m1").check(1)

    assert repo.statuses() == {"m1/bad": "failed", "m1/after": "blocked", "m1/good": "landed"}
    assert "3 of 3 attempts failed: echo not good enough; exit 3: exit 3" in result.out
    assert "doit retry m1/bad" in result.out
    assert repo.attempts() == [f"refs/attempts/m1/bad/{number}" for number in (1, 2, 3)]
    assert repo.snapshot() == before
    assert "not good enough" in repo.doit("log", "m1/bad").check().out
    tip = repo.git("rev-parse", BRANCH)
    repo.doit("milestone:m1").check(1)
    assert repo.git("rev-parse", BRANCH) == tip
    assert len(repo.attempts()) == 3
    shutil.rmtree(repo.path / ".cache")
    repo.doit("milestone:m1").check(1)
    assert len(repo.attempts()) == 3


def test_the_same_failure_twice_stops_early_and_retry_gives_new_attempts(repo: Repo, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    repo.milestone("m1", issue("a", "echo same > a", accept=[{"run": f"test -e {allowed}"}]))
    assert "failed the same way twice" in repo.doit("milestone:m1").check(1).out
    assert len(repo.attempts()) == 2
    assert "m1/a is failed" not in repo.doit("retry", "m1/a", "--reason", "fixed").check().out
    assert repo.statuses() == {"m1/a": "pending"}
    assert not (repo.path / ".cache" / "m1" / "holder.json").exists()
    allowed.touch()
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["a@1"]
    assert "there is nothing to retry" in repo.doit("retry", "m1/a").check(3).err


def test_an_agent_that_changes_nothing_has_failed(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo I am done") + GOOD)
    out = repo.doit("milestone:m1").check(1).out
    assert "the agent ended without an error but changed nothing" in out
    assert repo.landed(BRANCH) == ["good@1"]


def test_an_agent_that_ends_with_an_error_has_failed_whatever_it_wrote(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo x > x; echo cannot; exit 7") + GOOD)
    out = repo.doit("milestone:m1").check(1).out
    assert "agent script: exit 7" in out
    assert repo.landed(BRANCH) == ["good@1"]


def test_a_patch_that_does_not_apply_says_so(repo: Repo) -> None:
    repo.write("milestones/m1/a.patch", "--- a/none.txt\n+++ b/none.txt\n@@ -1 +1 @@\n-old\n+new\n")
    repo.milestone("m1", issue("a", **PATCH) + GOOD)
    out = repo.doit("milestone:m1").check(1).out
    assert "the patch milestones/m1/a.patch does not apply: error: none.txt: does not exist in index" in out
    assert repo.landed(BRANCH) == ["good@1"]


def test_a_merge_conflict_between_parallel_issues_skips_the_later_one(repo: Repo) -> None:
    repo.milestone(
        "m1",
        issue("one", "sleep 1; echo one > same.txt")
        + issue("two", "sleep 2; echo two > same.txt")
        + issue("three", "echo 3 > 3"),
    )
    result = repo.doit("milestone:m1", "-n", "3").check(1)
    assert "merge-conflict: conflict in same.txt with what" in result.out
    assert repo.statuses() == {"m1/one": "landed", "m1/two": "skipped", "m1/three": "landed"}
    assert repo.attempts() == ["refs/attempts/m1/two/1"]
    assert repo.git("show", "refs/attempts/m1/two/1:same.txt") == "two"
    repo.doit("retry", "m1/two").check()
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:same.txt") == "two"


def test_all_faults_of_all_files_are_printed_at_once_and_nothing_is_done(repo: Repo) -> None:
    repo.milestone(
        "m1",
        issue("a", "echo", needs=["b"])
        + issue("b", "echo", needs=["a"])
        + issue("c", "echo", needs=["4.O"], priorty="P0")
        + issue("c", "echo")
        + '\n[[issue]]\nid = "d"\ntitle = "D"\nspec = "m1/missing.md"\nagent = "script"\nwith = { run = "echo" }\n',
    )
    repo.milestone("m2", "surprise = 1\n" + issue("x", "echo"))
    for command in ("list", "milestone:m1", "status", "plan"):
        result = repo.doit(*([command, "m1"] if command == "plan" else [command])).check(3)
        assert "priorty" in result.err
        assert "surprise" in result.err
        assert "missing.md" in result.err
    assert repo.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"


def test_an_issue_with_a_faulty_key_is_looked_at_further_in_the_same_pass(repo: Repo) -> None:
    repo.milestone(
        "m1",
        GOOD
        + """
[[issue]]
id = "bad"
title = "Several mistakes"
size = "XL"
needs = ["goood"]
spec = "m1/missing.md"
agent = "script"
checks = ["lintt"]
phase = "Nowhere"
with = { rum = "true" }

[[issue]]
id = "typo"
title = "A typo in a key"
body = "x"
agnet = "script"
with = { run = "true" }
""",
    )
    told = repo.doit("milestone:m1").check(3).err
    for key, problem in (
        ("issue[1].size", '"XL"'),
        ("issue[1].needs", 'did you mean "good"?'),
        ("issue[1].spec", "milestones/m1/missing.md does not exist"),
        ("issue[1].checks", 'unknown check "lintt"'),
        ("issue[1].phase", 'unknown phase "Nowhere"'),
        ("issue[1].with", 'unknown option "rum"'),
        ("issue[2]", 'did you mean "agent"?'),
    ):
        assert any(f"m1.toml: {key}: " in line and problem in line for line in told.splitlines()), (key, told)
    assert "no agent" not in told
    assert "needs the option" not in told, "what is missing may be a consequence of what is wrong"


def test_a_faulty_table_of_a_milestone_hides_no_fault_of_its_issues(repo: Repo) -> None:
    repo.write(
        "milestones/m1.toml",
        '[milestone]\nid = "m2"\ntitel = "T"\nneeds = ["m0"]\nepic = "m1/epic.md"\n'
        + issue("a", "true", needs=["b"], checks=["lnit"])
        + issue("b", "true", needs=["a", "c"], agents="x"),
    )
    told = repo.doit("list").check(3).err.splitlines()
    assert [line.removeprefix("milestones/m1.toml: ").split(";")[0] for line in told] == [
        'issue[0].checks: unknown check "lnit", needed by "a"',
        "issue[0].needs: cycle: m1/a -> m1/b -> m1/a",
        'issue[1]: unknown key "agents"',
        'issue[1].needs: unknown issue "c", needed by "b"',
        'milestone: unknown key "titel"',
        'milestone.epic: milestones/m1/epic.md does not exist, needed by "m1"',
        'milestone.id: expected "m1", the name of the file, found "m2"',
        'milestone.needs: unknown milestone "m0", needed by "m1"',
        "milestone.title: is missing, but required",
    ]


def test_faulty_rules_hide_no_fault_of_a_milestone_and_cause_none(repo: Repo) -> None:
    repo.write("rules/agents.toml", '[agent.mine]\ncomand = ["true"]\n')
    repo.write("rules/checks.toml", "[check.own\n")
    repo.milestone(
        "m1",
        issue("a", agent="mine", checks=["own"], workflow="tddd", allow=["secret"])
        + issue("b", agent=["script", "main"]),
    )
    told = repo.doit("list").check(3).err.splitlines()
    assert [line.partition(";")[0] for line in told if line.startswith("milestones/")] == [
        'milestones/m1.toml: issue[0].allow: unknown stop rule "secret", needed by "a"',
        'milestones/m1.toml: issue[0].workflow: unknown workflow "tddd", needed by "a"',
        'milestones/m1.toml: issue[1].agent: unknown agent "main", needed by "b"',
    ]
    assert {line.split(": ")[0] for line in told if line.startswith("rules/")} == {
        "rules/agents.toml",
        "rules/checks.toml",
    }


def test_an_issue_without_a_title_is_checked_in_full(repo: Repo) -> None:
    text = issue("a", agent="scrpt", needs=["b"]).replace("\ntitle =", "\ntitel =")
    repo.milestone("m1", text)
    assert repo.doit("list").check(3).err.splitlines() == [
        'milestones/m1.toml: issue[0]: unknown key "titel"; did you mean "title"?',
        'milestones/m1.toml: issue[0].agent: unknown agent "scrpt", needed by "a"; did you mean "script"?',
        'milestones/m1.toml: issue[0].needs: unknown issue "b", needed by "a"',
        "milestones/m1.toml: issue[0].title: is missing, but required",
    ]


def test_a_cycle_is_named_in_full(repo: Repo) -> None:
    repo.milestone(
        "m1", issue("a", "echo", needs=["c"]) + issue("b", "echo", needs=["a"]) + issue("c", "echo", needs=["b"])
    )
    assert "m1/a -> m1/c -> m1/b -> m1/a" in repo.doit("list").check(3).err


def test_an_unknown_need_is_reported_with_the_one_that_was_meant(repo: Repo) -> None:
    repo.milestone("m1", issue("4.0", "echo") + issue("4.1", "echo") + issue("4.3", "echo", needs=["4.O"]))
    expected = 'milestones/m1.toml: issue[2].needs: unknown issue "4.O", needed by "4.3"; did you mean "4.0"?\n'
    assert repo.doit("milestone:m1").check(3).err == expected


def test_a_bomb_of_200_kb_is_refused_at_once(repo: Repo) -> None:
    repo.write("milestones/m1.toml", ".".join(["a"] * 100_000) + " = 1\n")
    result = repo.doit("list", timeout=60).check(3)
    assert "milestones/m1.toml" in result.err


def test_a_cache_that_cannot_be_written_is_named(repo: Repo) -> None:
    repo.milestone("m1", GOOD)
    repo.write(".cache", "a file where the folder should be\n")
    result = repo.doit("milestone:m1").check(74)
    assert ".cache cannot be written" in result.err
    assert "make it a writable folder, or remove it" in result.err
    assert repo.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert "pending" in repo.doit("list").check().out


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_cache_is_named(repo: Repo) -> None:
    repo.milestone("m1", GOOD)
    (repo.path / ".cache").mkdir()
    (repo.path / ".cache").chmod(0o500)
    assert ".cache cannot be written" in repo.doit("milestone:m1").check(74).err


def test_a_detached_head_and_a_dirty_checkout_are_left_as_they_are(repo: Repo) -> None:
    repo.milestone("m1", GOOD)
    repo.commit("declare")
    repo.git("checkout", "-q", "--detach")
    repo.write("dirty.txt", "mine\n")
    repo.write("dodo.py", DODO + "# mine\n")
    repo.git("add", "dirty.txt")
    before = repo.snapshot()

    repo.doit("milestone:m1").check()

    assert repo.snapshot() == before
    assert repo.landed(BRANCH) == ["good@1"]


def test_the_milestone_branch_checked_out_clean_is_brought_along_and_dirty_is_left_alone(repo: Repo) -> None:
    repo.milestone("m1", GOOD)
    repo.commit("declare")
    repo.git("checkout", "-q", "-b", BRANCH)
    repo.doit("milestone:m1").check()
    assert (repo.path / "good").read_text() == "good\n"
    assert repo.git("status", "--porcelain") == ""

    repo.milestone("m1", GOOD + issue("more", "echo more > more"))
    result = repo.doit("milestone:m1").check()
    assert "cannot follow (it has uncommitted changes)" in result.out
    assert not (repo.path / "more").exists()
    assert "more" in (repo.path / "milestones" / "m1.toml").read_text()
    assert repo.landed(BRANCH) == ["good@1"]
    assert repo.landed("refs/executor/ahead/m1") == ["good@1", "more@1"]
    assert repo.statuses() == {"m1/good": "landed", "m1/more": "landed"}

    repo.commit("the plan")
    repo.doit("milestone:m1").check()
    assert (repo.path / "more").read_text() == "more\n"
    assert repo.git("status", "--porcelain") == ""
    assert repo.landed(BRANCH) == ["good@1", "more@1"]


def test_a_bare_repository_a_repository_without_commits_and_no_repository(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    empty = Repo(tmp_path / "empty", commit=False)
    empty.milestone("m1", GOOD)
    for folder in (bare, tmp_path / "none"):
        (folder / "milestones").mkdir(parents=True)
        (folder / "dodo.py").write_text(DODO)
        (folder / "pyproject.toml").write_text(CONFIG)
        (folder / "milestones" / "m1.toml").write_text('[milestone]\nid = "m1"\ntitle = "T"\n' + GOOD)
    asked = Repo.__new__(Repo)
    for folder, message in (
        (bare, "is a bare repository, expected a checkout with milestones/"),
        (tmp_path / "none", "is not in a git repository; run `git init`"),
        (empty.path, "the repository has no commits, but milestone m1 starts from branch"),
    ):
        asked.path = folder
        for command in ("milestone:m1", "list"):
            result = asked.doit(command).check(3)
            assert message in result.err
            assert len(result.err.splitlines()) == 1


def test_a_base_branch_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo", branch="trunk")
    repo.milestone("m1", 'base = "next"\n' + GOOD)
    err = repo.doit("milestone:m1").check(3).err
    assert err == (
        'milestones/m1.toml: milestone.base: branch "next" does not exist; branches here: trunk; '
        "create it, or declare another base\n"
    )
    wrong = [item for item in repo.doit("doctor", "--json").check(3).json if item["code"]]
    assert [(item["kind"], f"{item['text']}\n") for item in wrong] == [("declaration", err)]
    repo.milestone("m1", GOOD)
    repo.doit("milestone:m1").check()
    assert repo.statuses() == {"m1/good": "landed"}, "the only branch is the base"


def test_unknown_names_and_options_are_usage_errors(repo: Repo) -> None:
    repo.milestone("m1", GOOD)
    assert 'unknown milestone "m2"; declared in milestones/: m1' in repo.doit("milestone:m2").check(3).err
    assert 'unknown issue "m1/god"; did you mean "m1/good"?' in repo.doit("issue:m1/god").check(3).err
    assert 'unknown issue "m1/9"; `doit list --all m1` lists the issues' in repo.doit("log", "m1/9").check(3).err
    assert "name a task" in repo.doit().check(3).err


def test_a_plan_tells_order_reasons_time_and_limits_and_touches_nothing(repo: Repo) -> None:
    repo.write("rules/limits.toml", "attempts = 2\ntimeout_s = 90.0\nrun_usd = 20.0\nissue_usd = 2.5\n")
    repo.milestone("m1", issue("b", "true", needs=["a"], size="L") + issue("a", "true", size="S"))
    before = repo.git("for-each-ref"), repo.snapshot()
    tip = repo.git("rev-parse", "main")[:10]
    assert repo.doit("plan", "m1").check().out == (
        "m1: Test m1\n"
        f"lands on milestone/m1-test-m1, starting from {tip} (main)\n"
        "critical path: a -> b\n"
        "takes about 31:56 (a guess), 1 at a time\n"
        "at most 2 attempts per issue, 1:30 per call of an agent, $2.50 for an issue, $20.00 for a run\n"
        "\n"
        "wave 1  implement  m1/a  script  P1 S  Issue a  not implemented yet\n"
        "wave 2  implement  m1/b  script  P1 L  Issue b  needs m1/a (pending)\n"
        "unproved: m1/a, m1/b: add an acceptance command, or a check to the route\n"
    )
    assert (repo.git("for-each-ref"), repo.snapshot()) == before
    repo.write("rules/limits.toml", "")
    assert "per call of an agent; no cap on money (--budget, or rules/limits" in repo.doit("plan", "m1").check().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("milestone:m1 --frobnicate", "option --frobnicate not recognized; `doit help run` lists the options"),
        ("plan m1 --frobnicate", "option --frobnicate not recognized; `doit help plan` lists the options"),
        ("milestone:m1 --from", "option --from requires argument; `doit help run` lists the options"),
        ("milestone:m1 -n four", '-n: expected a whole number, found "four"'),
        ("milestone:m1 -n -1", '-n: expected the number of issues at a time, for example 4, found "-1"'),
        ("log m1/good --attempt last", '--attempt: expected a whole number, found "last"'),
        ("watch --interval often", '--interval: expected a number, found "often"'),
        ("milestone", "tasks of milestones run only if named, for example `doit milestone:ID`"),
        ("step:m1/good/a.b", "tasks of milestones run only if named, for example `doit milestone:ID`"),
        ("gc m1", '`doit gc` takes no arguments, found "m1"'),
        ("doctor m1", '`doit doctor` takes no arguments, found "m1"'),
        ("digest m1", '`doit digest` takes no arguments, found "m1"'),
        ("init m1", '`doit init` takes no arguments, found "m1"'),
        ("cron start now", 'expected `doit cron install`, `remove` or `show`, found "start now"'),
    ],
)
def test_a_line_that_is_not_understood_changes_nothing_and_says_what_was_expected(
    repo: Repo, words: str, message: str
) -> None:
    repo.milestone("m1", GOOD)
    assert repo.doit(*words.split()).check(3).err == f"{message}\n"
    assert not repo.attempts()


@pytest.mark.parametrize(
    ("words", "command"), [("plan --help", "plan"), ("list -h", "list"), ("milestone:m1 --help", "run"), ("-h", "run")]
)
def test_help_is_given_where_it_is_asked_for(repo: Repo, words: str, command: str) -> None:
    repo.milestone("m1", GOOD)
    assert repo.doit(*words.split()).check().out == repo.doit("help", command).check().out
    assert not repo.attempts()


def test_what_doit_has_to_ignore_runs_all_the_same_and_is_reported(repo: Repo) -> None:
    repo.milestone("m1", GOOD)
    plain = "import sys; from doit.doit_cmd import DoitMain; DoitMain(config_filenames=()).run(sys.argv[1:])"
    subprocess.run(
        [sys.executable, "-c", plain, "ignore", "issue:m1/good"], cwd=repo.path, env=repo.environment(), check=True
    )
    assert "note      issue:m1/good `doit ignore` has no effect on milestones" in repo.doit("milestone:m1").check().out
    assert repo.statuses() == {"m1/good": "landed"}


OWN = """
def task_own():
    return {"actions": ["true"], "uptodate": [lambda: False]}
"""


def test_commands_of_doit_work_or_say_what_to_use_instead(repo: Repo) -> None:
    repo.milestone("m1", GOOD + issue("w", "true", workflow="tdd"))
    repo.write("dodo.py", DODO + OWN)
    instead = "works only on your own tasks"
    table = [
        ("dumpdb", 3, "neither .doit.db nor .cache/doit.json records a run"),
        ("own", 0, ""),
        ("dumpdb", 0, "own -> {"),
        ("info own", 1, "- task_own.<lambda>()"),
        ("info m1/good", 1, "- the issue is pending: not implemented yet; `doit explain m1/good` says more"),
        ("info step:m1/w/setup.plan", 1, "- there is no result"),
        *((f"{command} own", 0, "") for command in ("ignore", "reset-dep", "clean", "forget")),
        *((f"{name} m1/good", 3, instead) for name in ("ignore", "reset-dep", "clean", "forget", "strace")),
        ("ignore milestone", 3, instead),
        ("reset-dep", 0, "processed own"),
        ("list -s", 0, "m1/good"),
        ("list m1/good", 3, "expected a milestone, found m1/good; `doit explain m1/good`"),
        ("list --file dodo.py --dir .", 0, "m1/good"),
        ("list --file none.py", 3, "--file none.py: no such file"),
        ("--dir rules milestone:m1", 3, "--dir rules: milestones run in the folder of their configuration"),
    ]
    for words, code, text in table:
        done = repo.doit(*words.split()).check(code)
        assert text in done.out + done.err, words
        assert "Traceback" not in done.out + done.err, words
        assert " at 0x" not in done.out, words
    assert not repo.attempts()


def test_tasks_of_the_users_own_run_beside_milestones(repo: Repo) -> None:
    repo.milestone("m1", GOOD)
    repo.write("dodo.py", f'{DODO}\n\ndef task_own():\n    return {{"actions": ["echo own > own"]}}\n')
    repo.doit("own").check()
    assert (repo.path / "own").read_text() == "own\n"
    assert not repo.attempts()
    assert "run your own tasks and milestones in separate" in repo.doit("own", "milestone:m1").check(3).err
    assert '"onw" is neither a command nor a task; did you mean "own"?' in repo.doit("onw").check(3).err


def test_an_embedded_repository_cannot_land(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "git init -q inner && echo x > inner/x && echo y > y") + GOOD)
    assert "inner/ is a git repository inside the tree; only files can land" in repo.doit("milestone:m1").check(1).out


def test_ignored_files_are_left_out_unless_they_are_declared(repo: Repo) -> None:
    repo.write(".gitignore", ".cache/\n*.log\n")
    repo.commit("ignore")
    repo.milestone(
        "m1",
        issue(
            "a",
            "echo x > x.log; echo '*' > .gitignore; echo y > y; mkdir -p __pycache__; echo > __pycache__/z.pyc",
            files=["k/*.log"],
        )
        + issue("b", "mkdir k; echo k > k/k.log", files=["k/*.log"]),
    )
    repo.milestone(
        "m2",
        issue("c", "mkdir s; echo > s/s.log; echo > s/s.py", files=["s/**", "**"])
        + issue("d", "mkdir o; echo > o/o.log", files=["o/**"]),
    )
    repo.doit("milestone:m1", "milestone:m2").check()
    names = repo.git("ls-tree", "-r", "--name-only", BRANCH).split()
    assert "y" in names
    assert "k/k.log" in names
    assert "x.log" not in names
    assert not [name for name in names if "__pycache__" in name]
    second = repo.git("ls-tree", "-r", "--name-only", "milestone/m2-test-m2").split()
    assert {"s/s.py", "o/o.log"} <= set(second)
    assert "s/s.log" not in second


def test_doctor_and_gc_say_what_they_find(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo $EXECUTOR_ATTEMPT > a", accept=[{"run": "false"}]) + GOOD)
    repo.doit("milestone:m1").check(1)
    assert repo.doit("doctor").check().out.startswith("ok")
    assert "workspaces" in repo.doit("gc", "--dry-run").check().out
    repo.doit("gc").check()
    assert len(repo.attempts()) == 3
    assert not (repo.path / ".cache" / "m1" / "workspaces").exists()
    repo.git("update-ref", f"refs/heads/{BRANCH}", "main")
    found = repo.doit("doctor", "--json").check(4).json
    assert any("was moved by hand: m1/good landed" in item["text"] for item in found)


def test_refs_of_other_names_below_our_places_are_not_looked_at(repo: Repo) -> None:
    repo.milestone("m1", GOOD)
    repo.commit("declared")
    below = ["handoffs/odd", "steps/odd", "steps/m1/good", "answers/m1", "accepted/m1", "merged/m1/good"]
    odd = [*(f"refs/executor/{name}" for name in below), "refs/attempts/m1/good/007", "refs/attempts/m1/good/0"]
    trailers = "Step: p.s\nStep-Key: k\nSpec-Key: s\nRevision: 1\nAttempt: 1\nBase: b"
    commit = repo.git("commit-tree", "-m", f"odd\n\n{trailers}", "HEAD^{tree}")
    for ref in odd:
        repo.git("update-ref", ref, commit)
    assert repo.doit("list").check().out.startswith("pending  m1/good  Issue good  not implemented yet\n")
    found = repo.doit("doctor", "--json").check(4).json
    assert [item["kind"] for item in found if item["level"] != "ok"] == ["attempt-misnamed", "attempt-misnamed"]
    repo.doit("milestone:m1").check()
    assert repo.statuses() == {"m1/good": "landed"}
    repo.doit("gc").check()
    assert repo.git("for-each-ref", "--format=%(refname)", "refs/attempts", "refs/executor").split() == sorted(
        [*odd, "refs/executor/branches/m1", "refs/executor/landed/m1"]
    )


def test_an_odd_ref_in_the_way_of_a_milestones_own_does_not_stop_looking(repo: Repo) -> None:
    repo.milestone("m1", GOOD)
    for place in ("handoffs", "steps", "answers", "approved"):
        repo.git("update-ref", f"refs/executor/{place}/m1", "HEAD")
    for ref in ("attempts", "executor/accepted", "executor/merged", "executor/paused/m1/odd"):
        repo.git("update-ref", f"refs/{ref}", "HEAD")
    for command, code in (("list", 0), ("status", 0), ("gc", 0), ("doctor", 4)):
        repo.doit(command).check(code)
    assert repo.statuses() == {"m1/good": "pending"}
