"""Rules stop an issue, a person clears it for exactly one change, everything else goes on."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tests.support import issue

if TYPE_CHECKING:
    from tests.support import Repo

BRANCH = "milestone/m1-test-m1"
GOOD = issue("good", "echo good > good")
REQUIREMENTS = "printf 'requests==2.0\\n' > requirements.txt"


def test_a_hard_stop_waits_for_a_person_while_the_rest_goes_on(repo: Repo) -> None:
    repo.milestone("m1", issue("deps", REQUIREMENTS) + issue("after", "echo x > x", needs=["deps"]) + GOOD)
    result = repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/deps": "review", "m1/after": "blocked", "m1/good": "landed"}
    assert "dependency-change" in result.out
    assert 'doit approve m1/deps --reason "..." or doit retry m1/deps' in result.out
    shown = repo.doit("approve", "m1/deps", "--show").check().out
    assert "requirements.txt" in shown
    assert "requests==2.0" in shown
    assert repo.git("show", "refs/attempts/m1/deps/1:requirements.txt") == "requests==2.0"
    repo.doit("milestone:m1").check(4)
    assert repo.attempts() == ["refs/attempts/m1/deps/1"]


def test_an_approved_change_lands_without_another_attempt_also_when_the_branch_has_moved(repo: Repo) -> None:
    repo.milestone("m1", issue("deps", REQUIREMENTS))
    repo.doit("milestone:m1").check(4)
    assert "--reason is missing" in repo.doit("approve", "m1/deps").check(3).err
    assert "exactly this change" in repo.doit("approve", "m1/deps", "--reason", "looked at it").check().out
    repo.milestone("m1", issue("deps", REQUIREMENTS) + issue("other", "echo o > o", priority="P0"))
    repo.doit("issue:m1/other").check()
    shutil.rmtree(repo.path / ".cache")
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["other@1", "deps@1"]
    assert "looked at it" in repo.git("log", "-1", "--format=%B", "refs/executor/approved/m1/deps")
    assert "nothing to approve" in repo.doit("approve", "m1/deps", "--reason", "again").check(3).err


def test_an_approval_does_not_hold_for_a_change_of_one_line_more(repo: Repo) -> None:
    repo.milestone("m1", issue("deps", REQUIREMENTS))
    repo.doit("milestone:m1").check(4)
    repo.doit("approve", "m1/deps", "--reason", "this one").check()
    assert repo.statuses() == {"m1/deps": "open"}
    repo.milestone("m1", issue("deps", f"{REQUIREMENTS}; echo evil==1.0 >> requirements.txt", body="Add one more."))
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/deps": "review"}
    assert "evil==1.0" in repo.doit("approve", "m1/deps", "--show").check().out


def test_a_large_change_is_skipped_and_allowing_it_lands_the_same_attempt(repo: Repo) -> None:
    body = issue("big", "for i in 1 2 3 4 5 6 7 8 9; do echo $i > f$i; done")
    repo.milestone("m1", body + GOOD)
    out = repo.doit("milestone:m1").check(1).out
    assert "large-diff" in out
    assert repo.statuses() == {"m1/big": "skipped", "m1/good": "landed"}
    repo.milestone("m1", body.replace("[[issue]]", '[[issue]]\nallow = ["large-diff"]') + GOOD)
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:f9") == "9"
    assert repo.attempts() == []
    assert "attempt 1 (revision 1) landed" in repo.doit("explain", "m1/big").check().out


def test_eight_files_and_four_hundred_lines_are_not_large(repo: Repo) -> None:
    files = "for i in 1 2 3 4 5 6 7 8; do seq 50 > f$i; done"
    repo.milestone("m1", issue("exactly", files))
    repo.doit("milestone:m1").check()


def test_a_spec_that_says_nothing_costs_no_attempt(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a", body="TODO") + GOOD)
    out = repo.doit("milestone:m1").check(4).out
    assert "spec-problem" in out
    assert repo.statuses() == {"m1/a": "review", "m1/good": "landed"}
    assert repo.doit("status", "--json").check().json["milestones"][0]["issues"][0]["attempts"] == 0
    repo.doit("approve", "m1/a", "--reason", "clear enough").check()
    repo.doit("milestone:m1").check()


def test_rules_of_the_project_stop_by_path_content_and_command(repo: Repo) -> None:
    repo.write(
        "rules/stops.toml",
        '[stop.generated]\nlevel = "hard"\nreason = "generated files are made by make"\n'
        'needs = "run make"\npaths = ["gen/**"]\n'
        '[stop.no-eval]\nlevel = "soft"\nreason = "no eval"\nneeds = "do without"\ncontent = ["\\\\beval\\\\("]\n'
        '[stop.size]\nlevel = "hard"\nreason = "too much of it"\nneeds = "less"\n'
        'run = "test $(cat * 2>/dev/null | wc -c) -lt 5000"\n',
    )
    body = (
        issue("gen", "mkdir gen; echo x > gen/x")
        + issue("eval", "echo 'eval(x)' > code.py")
        + issue("size", "head -c 9000 /dev/zero | tr '\\0' x > size")
    )
    repo.milestone("m1", body + GOOD)
    out = repo.doit("milestone:m1").check(1).out
    assert repo.statuses() == {"m1/gen": "review", "m1/eval": "skipped", "m1/size": "review", "m1/good": "landed"}
    for text in ("generated: generated files are made by make", "no-eval: no eval", "size: too much of it"):
        assert text in out


def test_rules_that_a_change_brings_along_do_not_judge_it(repo: Repo) -> None:
    quiet = "mkdir -p rules; printf '[stop.protected-files]\\nenabled = false\\n' > rules/stops.toml"
    repo.milestone("m1", issue("quiet", quiet))
    assert "protected-files" in repo.doit("milestone:m1").check(4).out


def test_what_is_stopped_stays_stopped_without_its_cache_and_costs_nothing_again(repo: Repo) -> None:
    marker = repo.path.parent / "ran"
    repo.milestone("m1", issue("deps", f"echo x >> {marker}; {REQUIREMENTS}"))
    repo.doit("milestone:m1").check(4)
    shutil.rmtree(repo.path / ".cache")
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/deps": "review"}
    assert marker.read_text() == "x\n"


def test_code_that_cannot_be_parsed_fails_its_syntax_check_and_is_no_finding_about_tests(repo: Repo) -> None:
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\n")
    repo.milestone("m1", issue("a", "echo 'def f(:' > money.py", type="core", checks=["syntax"]))
    out = repo.doit("milestone:m1").check(1).out
    assert repo.statuses() == {"m1/a": "failed"}
    assert "new-tests" not in out


def test_tests_that_prove_nothing_go_back_twice_and_then_to_a_person(repo: Repo) -> None:
    script = "mkdir -p tests; printf 'import time\\n\\ndef test_it():\\n    time.sleep(5)\\n' > tests/test_it.py"
    seen = repo.path.parent / "brief"
    repo.milestone("m1", issue("a", f"cp $EXECUTOR_BRIEF {seen}-$EXECUTOR_ATTEMPT; {script}", type="core"))
    out = repo.doit("milestone:m1").check(4).out
    assert repo.statuses() == {"m1/a": "review"}
    assert "new-tests" in out
    assert "tests/test_it.py" in (seen.parent / "brief-2").read_text()
    assert (seen.parent / "brief-3").exists()
    assert not (seen.parent / "brief-4").exists()
    repo.doit("approve", "m1/a", "--reason", "slow on purpose").check()
    repo.doit("milestone:m1").check()


def reviewer(repo: Repo, findings: object) -> None:
    text = json.dumps(findings) if not isinstance(findings, str) else findings
    repo.write("answer.json", text)
    run = f"echo x >> {repo.path.parent}/asked; cp {repo.path}/answer.json $EXECUTOR_OUT/findings.json"
    repo.write("rules/agents.toml", f'[agent.critic]\ncommand = ["sh", "-c", "{run}"]\nisolation = "none"\n')
    repo.write("rules/routes.toml", '[route.core]\nreviewer = "critic"\nthreshold = 70\nchecks = []\n')


def test_a_reviewer_can_stop_a_change_with_file_and_line(repo: Repo) -> None:
    finding = {"description": "loses the lock", "score": 90, "file": "a", "line": 1}
    minor = {"description": "naming", "score": 10, "file": "a", "line": 2}
    reviewer(repo, [finding, minor])
    repo.milestone("m1", issue("a", "echo a > a", type="core") + GOOD)
    out = repo.doit("milestone:m1").check(4).out
    assert "review-findings: 1 finding of 70 or more: a:1: loses the lock (score 90)" in out
    assert repo.statuses() == {"m1/a": "review", "m1/good": "landed"}
    repo.doit("approve", "m1/a", "--reason", "known").check()
    repo.doit("milestone:m1").check()
    assert (repo.path.parent / "asked").read_text() == "x\n"


def test_a_reviewer_that_finds_little_lets_it_land_and_one_that_says_nothing_does_not(repo: Repo) -> None:
    reviewer(repo, [{"description": "naming", "score": 69, "file": "a", "line": 2}])
    repo.milestone("m1", issue("a", "echo a > a", type="core"))
    repo.doit("milestone:m1").check()
    reviewer(repo, '{"looks": "fine"}')
    repo.milestone("m1", issue("a", "echo a > a", type="core") + issue("b", "echo b > b", type="core"))
    out = repo.doit("milestone:m1").check(4).out
    assert "reviewer critic: findings.json is not a list of at most 200 findings" in out


def test_a_reviewer_cannot_make_a_failing_check_pass(repo: Repo) -> None:
    reviewer(repo, [])
    repo.milestone("m1", issue("a", "echo a > a", type="core") + 'accept = [{ run = "exit 1" }]\n')
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {"m1/a": "failed"}
    assert not (repo.path.parent / "asked").exists()


def test_what_landed_is_reported_with_its_tests_and_deviations(repo: Repo) -> None:
    told = '{"deviations": ["kept the old name", 7, "two\\\\nlines"], "notes": ""}'
    script = (
        "mkdir -p tests; echo 'def test_a(): assert 1 + 1 == 2' > tests/test_a.py; echo a > a; echo more >> dodo.py; "
        f"printf '{told}' > $EXECUTOR_OUT/report.json"
    )
    repo.milestone("m1", issue("a", script, allow=["protected-files"]))
    repo.doit("milestone:m1").check()
    report = json.loads((repo.path / ".cache" / "m1" / "receipts" / "a.json").read_text())["report"]
    assert report == {
        "created": ["a"],
        "modified": ["dodo.py"],
        "deleted": [],
        "tests_added": ["tests/test_a.py"],
        "tests_updated": [],
        "deviations": ["kept the old name", "two lines"],
    }
    out = repo.doit("log", "m1/a").check().out
    assert "tests added: tests/test_a.py\ndeviations: kept the old name, two lines\n" in out


def test_what_failed_is_reported_with_remedy_and_what_comes_next(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a") + 'accept = [{ run = "echo no such thing; exit 3" }]\n' + GOOD)
    repo.doit("milestone:m1").check(1)
    out = repo.doit("log", "m1/a").check().out
    assert "failed: attempt 2 (checks)\nwhy: echo no such thing; exit 3: exit 3\nremedy: read the output below" in out
    assert "next: escalated, a person is needed" in out
    assert "check that failed, reused from the same tree:\n    no such thing\n" in out
