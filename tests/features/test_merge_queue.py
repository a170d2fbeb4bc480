"""Results land through a merge queue: proved side by side on the predicted tip, or in batches; killed at any moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from executor.commands.scheduler import Urgency
from executor.config.project import compile_project, open_project
from executor.engine.session import Session
from tests.features.test_github_kill import HOOK
from tests.features.test_remote import bare, tip
from tests.support import Repo, issue, pytest_command, python_with_pytest

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "milestone/m1-test-m1"
NAMES = tuple("abcdef")


def declare(repo: Repo, mode: str, *, bad: str = "", seconds: float = 0.5) -> Path:
    """Issues that need nothing of one another, and a check of them all that writes down when it runs."""
    runs = repo.path.parent / "runs"
    runs.touch()
    repo.write("check.sh", f"sleep {seconds}; echo run >> {runs}; ! grep -q bad *.txt\n")
    repo.write("start.txt", "good\n")
    repo.commit("start")
    repo.write(
        "rules/checks.toml",
        '[check.all]\nrun = "sh check.sh"\nsabotage = "off"\nsabotage_reason = "a test counts its runs"\n',
    )
    repo.write("rules/landing.toml", f'mode = "{mode}"\n')
    repo.write("rules/limits.toml", "attempts = 1\n")
    work = [issue(name, f"echo {'bad' if name in bad else name} > {name}.txt", checks=["all"]) for name in NAMES]
    repo.milestone("m1", "".join(work))
    return runs


def count(runs: Path) -> int:
    return len(runs.read_text().splitlines())


def proved_with(repo: Repo) -> list[str]:
    form = "%(trailers:key=Proved-With,valueonly,separator=)"
    return repo.git("log", "--first-parent", f"--format={form}", BRANCH).split()


def test_each_landed_tree_is_proved_once_and_side_by_side(repo: Repo) -> None:
    runs = declare(repo, "each")
    repo.doit("milestone:m1", "-n", "6").check()
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in NAMES]
    assert count(runs) <= 1 + 1.3 * len(NAMES)  # the first is that of the base
    assert proved_with(repo) == []


def test_a_batch_is_proved_by_its_last_tree_which_every_landing_names(repo: Repo) -> None:
    runs = declare(repo, "batch")
    repo.doit("milestone:m1", "-n", "6").check()
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in NAMES]
    assert count(runs) <= 1 + 0.5 * len(NAMES)
    trees = repo.git("log", "--first-parent", "--format=%T", BRANCH).split()
    assert set(proved_with(repo)) <= set(trees)


def test_a_result_that_waits_leaves_its_place_to_an_agent(repo: Repo) -> None:
    runs = declare(repo, "batch", seconds=1.5)
    repo.doit("milestone:m1", "-n", "2").check()
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in NAMES]
    assert max(Counter(proved_with(repo)).values()) > 2  # more in one push than there are places to work
    assert count(runs) <= 1 + 0.7 * len(NAMES)


@pytest.mark.parametrize("mode", ["each", "batch", "auto"])
def test_a_bad_result_fails_alone_and_the_others_land(repo: Repo, mode: str) -> None:
    declare(repo, mode, bad="c", seconds=0.2)
    repo.doit("milestone:m1", "-n", "6").check(1)
    others = [name for name in NAMES if name != "c"]
    assert repo.statuses() == {"m1/c": "failed", **{f"m1/{name}": "landed" for name in others}}
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in others]


def test_of_two_results_that_conflict_the_first_lands(repo: Repo) -> None:
    declare(repo, "batch", seconds=0.2)
    work = [issue(name, f"echo {name} > same.txt", checks=["all"]) for name in "ab"]
    repo.milestone("m1", "".join(work))
    repo.doit("milestone:m1", "-n", "2").check(1)
    assert sorted(repo.statuses().values()) == ["landed", "skipped"]


def test_lines_of_both_stay_in_a_file_that_is_merged_as_a_union(repo: Repo) -> None:
    declare(repo, "each", seconds=0.2)
    repo.write("rules/landing.toml", 'union = ["CHANGELOG.md"]\n')
    repo.write("docs/CHANGELOG.md", "# Changes\n")
    repo.commit("a changelog")
    wait = "sleep 0.5"  # so that both start from the same tip
    work = [issue(name, f"{wait}; echo '- {name}' >> docs/CHANGELOG.md", checks=["all"]) for name in "ab"]
    repo.milestone("m1", "".join(work))
    repo.doit("milestone:m1", "-n", "2").check()
    text = repo.git("show", f"{BRANCH}:docs/CHANGELOG.md")
    assert text.splitlines()[0] == "# Changes"
    assert sorted(text.splitlines()[1:]) == ["- a", "- b"]


def together(repo: Repo, *names: str) -> str:
    """A command that ends when as many agents are at work at once as there are names."""
    meeting = repo.path.parent / "meeting"
    meeting.mkdir(exist_ok=True)
    return f"mktemp -p {meeting}; until [ $(ls {meeting} | wc -l) -ge {len(names)} ]; do sleep 0.02; done"


def events(repo: Repo, kind: str) -> list[dict[str, Any]]:
    """Events of a kind in the journal of the milestone, in order."""
    folder = repo.path / ".cache" / "m1"
    lines = [line for path in sorted(folder.glob("journal.*.jsonl")) for line in path.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if record["e"] == kind]


def registry(repo: Repo, run: str = "ls parts > all.txt; echo spoiled > start.txt") -> None:
    """Two issues that each add a part and write the list of all parts, which a rule regenerates."""
    declare(repo, "batch")
    repo.write("check.sh", "ls parts | cmp - all.txt\n")
    repo.write("parts/0", "0\n")
    repo.write("all.txt", "0\n")
    repo.commit("a registry")
    repo.write("rules/landing.toml", f"mode = 'batch'\nregenerate = {{ paths = ['all.txt'], run = '{run}' }}\n")
    wait = together(repo, "a", "b")
    own = {"checks": ["all"], "files": ["all.txt", "parts/*"]}
    work = [issue(name, f"echo {name} > parts/{name}; ls parts > all.txt; {wait}", **own) for name in "ab"]
    repo.milestone("m1", "".join(work))


def test_a_file_that_a_rule_regenerates_is_written_again_after_a_conflict_and_proved(repo: Repo) -> None:
    registry(repo)
    repo.doit("milestone:m1", "-n", "2").check()
    assert repo.git("show", f"{BRANCH}:all.txt").split() == ["0", "a", "b"]
    assert repo.git("show", f"{BRANCH}:start.txt") == "good"  # the command's other changes are left out
    assert [item["paths"] for item in events(repo, "regenerated")] == [["all.txt"]]


@pytest.mark.parametrize("run", ["exit 3", "true"])
def test_a_conflict_stays_or_fails_if_the_command_does_not_settle_it(repo: Repo, run: str) -> None:
    registry(repo, run)
    repo.doit("milestone:m1", "-n", "2").check(1)
    assert set(repo.statuses().values()) == {"landed", "skipped" if run == "exit 3" else "failed"}
    reason = next(item["reason"] for item in events(repo, "attempt-failed"))
    assert ("`exit 3` did not resolve it" in reason) is (run == "exit 3")


def test_a_conflict_between_agents_at_work_is_found_and_reported_and_a_third_is_not_blamed(repo: Repo) -> None:
    repo.write("same.txt", "0\n")
    repo.commit("start")
    repo.write("rules/landing.toml", "probe_s = 0.2\n")
    journal = repo.path / ".cache" / "m1" / "journal.000001.jsonl"
    wait = f'until grep -q \'"e":"collision"\' {journal}; do sleep 0.05; done'
    work = [issue(name, f"echo {name} > same.txt; {wait}", files=["same.txt"]) for name in "ab"]
    repo.milestone("m1", "".join(work) + issue("c", "echo c > c.txt"))
    first, second = repo.doit("plan", "m1", "--json").json["issues"][:2]
    assert first["overlaps"] == []
    assert second["overlaps"] == [{"ref": "m1/a", "files": ["same.txt"], "declared": True, "cost": 1.0}]

    repo.doit("milestone:m1", "-n", "3").check(1)
    assert sorted(repo.statuses().values()) == ["landed", "landed", "skipped"]
    assert [item["paths"] for item in events(repo, "collision")] == [["same.txt"]]
    stopped = next(item for item in events(repo, "stopped") if item["rule"] == "merge-conflict")
    loser = stopped["key"]
    winner = "a" if loser == "b" else "b"
    assert f"m1/{winner}" in stopped["reason"]
    assert "m1/c" not in stopped["reason"]
    report = json.loads(repo.doit("report", "m1", "--format", "json").check().out)
    assert report["overlaps"] == {
        "predicted": 1,
        "met": 1,
        "found_early": 1,
        "conflicts": 1,
        "unforeseen": 0,
        "regenerated": 0,
    }

    repo.doit("retry", f"m1/{loser}").check()
    repo.doit("milestone:m1").check()
    brief = (repo.path / ".cache" / "m1" / "logs" / loser / "2" / "brief.md").read_text()
    assert f"m1/{winner} has landed this change of the same files" in brief
    assert f"+{winner}" in brief


def test_a_verdict_carries_over_landings_that_touch_none_of_the_inputs_of_its_check(repo: Repo) -> None:
    runs = declare(repo, "each", seconds=0)
    repo.write(
        "rules/checks.toml",
        '[check.all]\nrun = "sh check.sh"\nwhen = ["*.txt"]\ninputs = "when"\nsabotage = "off"\n'
        'sabotage_reason = "a test counts its runs"\n',
    )
    names = ("d.md", "e.md", "a.txt", "f.md")
    work = [issue(name[0], f"echo {name} > {name}", checks=["all"]) for name in names]
    repo.milestone("m1", "".join(work))
    repo.doit("milestone:m1", "-n", "1").check()
    assert len(repo.landed(BRANCH)) == len(names)
    assert count(runs) == 2  # the base, and the one change of an input


def test_a_batch_that_is_killed_while_it_lands_is_finished_by_the_next_run(repo: Repo) -> None:
    declare(repo, "batch", seconds=0.2)
    run = repo.start("milestone:m1", "-n", "6")
    journal = repo.path / ".cache" / "m1" / "journal.000001.jsonl"
    end = time.monotonic() + 60
    while not (journal.exists() and '"e":"landing"' in journal.read_text()):
        assert time.monotonic() < end
        assert run.poll() is None
        time.sleep(0.002)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    repo.doit("milestone:m1", "-n", "6").check()
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in NAMES]
    assert repo.attempts() == []
    assert journal.read_text().count('"e":"attempt-built"') == len(NAMES)  # no agent worked twice
    assert "nothing to do" in repo.doit("milestone:m1").check().out


def selecting(repo: Repo, mode: str) -> None:
    """Two modules with a file of tests each, and three results: a good one, a bad one, and one that breaks the other
    module in a way that coverage does not show."""
    for name in "xy":
        repo.write(f"{name}.py", f"def {name}():\n    return 1\n\n\n# end\n\n\n")
        tests = "".join(f"def test_{name}{number}():\n    assert {name}.{name}() == 1\n\n\n" for number in range(3))
        repo.write(f"test_{name}.py", f"import {name}\n\n\n{tests}")
    python = python_with_pytest("coverage", "pytest_cov")
    check = f'[check.unit]\nrun = "{python} -m pytest -q -p no:cacheprovider"\nsabotage = "off"\n'
    repo.write("rules/checks.toml", check + 'sabotage_reason = "a test of selection"\n')
    repo.write("rules/landing.toml", f'mode = "batch"\nselect_tests = "{mode}"\n')
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.commit("start")
    sly = "echo 'import x' > z.py; echo 'x.x = lambda: 2' >> z.py; sed -i '1i import z' y.py"
    work = [
        issue("good", "echo good > README.md", checks=["unit"]),  # selects no test, whichever lands first
        issue("bad", "sed -i 's/return 1/return 2/' x.py", checks=["unit"]),
        issue("sly", sly, checks=["unit"]),
    ]
    repo.milestone("m1", "".join(work))


@pytest.mark.parametrize("mode", [pytest.param("shadow", marks=pytest.mark.long), "on"])
def test_selected_tests_run_first_and_what_they_miss_is_counted(repo: Repo, mode: str) -> None:
    pytest.importorskip("pytest_cov")
    selecting(repo, mode)
    repo.doit("milestone:m1", "-n", "3").check(1)
    assert repo.statuses() == {"m1/good": "landed", "m1/bad": "failed", "m1/sly": "failed"}
    made = {
        (item["key"], item["outcome"]): (item["tests"], item["of"], item["by"])
        for item in events(repo, "tests-selected")
    }
    bad, sly = ("failed", "passed") if mode == "on" else ("shadow", "shadow")
    some = (3, 6, "coverage")
    assert made == {
        ("good", "shadow"): (0, 6, "coverage"),
        ("bad", bad): some,
        ("sly", sly): some,
        ("sly", "missed"): some,
    }
    report = json.loads(repo.doit("report", "m1", "--format", "json").check().out)
    assert report["selection"] == {"results": 3, "missed": 1, "failed": mode == "on", "tests": 6, "of": 18}
    held = f"{mode}; skipped 67 %, missed 1 of 3 results"
    assert repo.doit("plan", "m1", "--json").json["select_tests"] == held
    told = "attempt 1: 0 of 6 tests of unit were selected by coverage"
    assert repo.doit("explain", "m1/good", "--json").json["verdicts"] == [f"{told}: shadow"]


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(number, moment, marks=() if (number, moment) == (1, "post-receive") else pytest.mark.long)
        for number in range(1, 5)
        for moment in ("pre-receive", "post-receive")
    ],
)
def test_a_batch_killed_while_it_is_pushed_is_finished_by_the_next_run(repo: Repo, number: int, moment: str) -> None:
    declare(repo, "batch", seconds=0.1)
    up = repo.path.parent / "up.git"
    repo.git("remote", "add", "origin", bare(up))
    repo.write("rules/forge.toml", 'remote = "origin"\n')
    repo.commit("declare")
    repo.git("push", "-q", "origin", "main")
    (up / f"{moment}.count").touch()
    hook = up / "hooks" / moment
    hook.write_text(HOOK.format(folder=up, moment=moment))
    hook.chmod(0o755)
    run = repo.start("milestone:m1", "-n", "6")
    (up / "kill").write_text(f"{number} {moment} {run.pid}\n")
    run.communicate()
    if run.returncode != -signal.SIGKILL:
        pytest.skip(f"the run has fewer than {number} pushes")
    hook.unlink()
    repo.doit("milestone:m1", "-n", "6").check()
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in NAMES]
    assert tip(up, BRANCH) == repo.git("rev-parse", BRANCH)
    assert len(events(repo, "attempt-built")) == len(NAMES)  # no agent worked twice
    assert "nothing to do" in repo.doit("milestone:m1").check().out


@pytest.mark.parametrize(("overlap", "chosen"), [("off", "b"), ("declared", "b"), ("learned", "c")])
def test_an_issue_whose_text_names_the_file_of_another_one_starts_later_if_that_is_asked_for(
    repo: Repo, overlap: str, chosen: str
) -> None:
    repo.write("rules/landing.toml", f'overlap = "{overlap}"\n')
    repo.write("core.py", "1\n")
    repo.write("page.py", "1\n")
    repo.commit("start")
    texts = {"a": "Change core.py.", "b": "Change core.py, too.", "c": "Change page.py."}
    repo.milestone("m1", "".join(issue(name, "true", body=text) for name, text in texts.items()))
    with Session(compile_project(open_project(repo.path))) as session:
        assert Urgency(session).choose(["m1/b", "m1/c"], ["m1/a"]) == f"m1/{chosen}"
        assert Urgency(session).choose(["m1/b", "m1/c"], []) == "m1/b"


def test_of_two_runs_at_once_one_lands_everything(repo: Repo) -> None:
    declare(repo, "batch", seconds=1)
    runs = [repo.start("milestone:m1", "-n", "6") for _ in range(2)]
    for run in runs:
        run.communicate()
    assert sorted(run.wait() for run in runs) == [0, 75]
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in NAMES]
    assert repo.attempts() == []


def test_a_patch_whose_lines_have_moved_is_merged_three_way(repo: Repo) -> None:
    lines = [f"line {number}\n" for number in range(40)]
    repo.write("long.txt", "".join(lines))
    repo.commit("start")
    repo.write("long.txt", "".join([*lines[:20], "second\n", *lines[20:]]))
    patch = repo.git("diff") + "\n"
    repo.git("checkout", "-q", "long.txt")
    repo.write("milestones/m1/b.patch", patch)
    first = "{ seq 1 60; sed -i s/.20$/.20X/ long.txt; cat long.txt; } > new.txt; mv new.txt long.txt"
    repo.milestone("m1", issue("a", first) + issue("b", agent="patch", needs=["a"], **{"with": {"file": "m1/b.patch"}}))
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "failed"}  # line 20 itself was changed: a true conflict

    repo.milestone(
        "m2",
        issue("a", "{ seq 1 60; cat long.txt; } > new.txt; mv new.txt long.txt; sed -i s/.18$/.18X/ long.txt")
        + issue("b", agent="patch", needs=["a"], **{"with": {"file": "m1/b.patch"}}),
    )
    repo.doit("milestone:m2").check()
    assert "second" in repo.git("show", "milestone/m2-test-m2:long.txt")


@dataclass(frozen=True)
class Runner:
    """A test runner: the check, the files of the start with one test, and a command that adds the test NAME."""

    run: str
    files: dict[str, str]
    test: str


RUNNERS = {
    "pytest": Runner(
        "pytest",
        {"test_0.py": "def test_0():\n    pass\n"},
        'echo \'def test_NAME(): assert "WORD" == "good"\' > test_NAME.py',
    ),
    "go": Runner(
        "go test ./...",
        {
            "go.mod": "module x\n\ngo 1.18\n",
            "zero_test.go": 'package x\n\nimport "testing"\n\n'
            'func Test0(t *testing.T) { if "good" == "bad" { t.Fail() } }\n',
            "x.go": "package x\n",
        },
        "sed -e s/Test0/Test_NAME/ -e s/good/WORD/ zero_test.go > NAME_test.go",
    ),
    "node": Runner(
        "node --test",
        {"0.test.js": "require('node:test')('zero', () => {});\n"},
        "echo \"require('node:test')('NAME x', () => { if ('WORD' == 'bad') throw 1; });\" > NAME.test.js",
    ),
}


def suite(repo: Repo, runner: Runner) -> None:
    """Four issues that each add a test; the one of issue d fails."""
    for name, text in runner.files.items():
        repo.write(name, text)
    repo.commit("start")
    # The first proof waits until all results are there, so that the others are one batch.
    journal = repo.path / ".cache" / "m1" / "journal.000001.jsonl"
    built = f'$(grep -c \'"e":"attempt-built"\' {journal})'
    until = f"until [ {built} -eq 0 ] || [ {built} -ge 4 ]; do sleep 0.1; done"
    run = pytest_command() if runner.run == "pytest" else runner.run
    check = f"[check.all]\nrun = {json.dumps(run)}\nbefore = {json.dumps(until)}\n"
    repo.write("rules/checks.toml", f"{check}sabotage = 'off'\nsabotage_reason = '-'\n")
    repo.write("rules/landing.toml", 'mode = "batch"\n')
    repo.write("rules/limits.toml", "attempts = 1\n")
    words = {name: "bad" if name == "d" else "good" for name in "abcd"}
    adding = {name: runner.test.replace("NAME", name).replace("WORD", word) for name, word in words.items()}
    adding["d"] += f"; until [ {built} -ge 1 ]; do sleep 0.1; done"  # not the first one
    work = [issue(name, command, checks=["all"]) for name, command in adding.items()]
    repo.milestone("m1", "".join(work))


@pytest.mark.parametrize("name", ["pytest", *(pytest.param(name, marks=pytest.mark.long) for name in ("go", "node"))])
def test_a_red_batch_is_narrowed_by_its_failing_tests_only(repo: Repo, name: str) -> None:
    if name != "pytest" and shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    suite(repo, RUNNERS[name])
    repo.doit("milestone:m1", "-n", "4").check(1)
    assert repo.statuses() == {f"m1/{name}": "failed" if name == "d" else "landed" for name in "abcd"}
    few = [item for item in events(repo, "checked") if item["check"] == "all (1 of its tests)"]
    assert few
