"""The contract between a step and its gate: an agent that knows nothing but its brief opens every gate at once."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.features.test_workflows import KIRO_STEPS, TDD, TDD_END
from tests.support import Repo, issue

AGENT = f"{shlex.quote(sys.executable)} -I {Path(__file__).with_name('brief_agent.py')}"
BRANCH = "milestone/m1-test-m1"


def events(repo: Repo, *kinds: str) -> list[dict[str, object]]:
    lines = (repo.path / ".cache/m1/journal.000001.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line))["e"] in kinds]


@pytest.mark.parametrize(
    ("workflow", "kind", "command"),
    [
        pytest.param("kiro", "feature", "python3 code_a.py", marks=pytest.mark.campaign),
        ("tdd", "CODING", "python3 test_a.py"),
        pytest.param("tdd", "MIXED", "python3 test_a.py", marks=pytest.mark.campaign),
        pytest.param("tdd", "VALIDATION", "python3 code_a.py", marks=pytest.mark.campaign),
        pytest.param("tdd", "RESEARCH", "python3 code_a.py", marks=pytest.mark.campaign),
    ],
)
def test_an_agent_that_knows_only_its_brief_opens_every_gate_in_the_first_round(
    repo: Repo, workflow: str, kind: str, command: str
) -> None:
    accept = ["It says what it is", {"run": command}]
    repo.milestone(
        "m1",
        issue(
            "a",
            AGENT,
            workflow=workflow,
            type=kind,
            accept=accept,
            allow=["new-tests"],
            files=["test_a.py", "code_a.py"],
        ),
    )
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["a@1"]
    steps = KIRO_STEPS if workflow == "kiro" else [*TDD[kind], *TDD_END]
    assert sorted(str(event["step"]) for event in events(repo, "step-done")) == sorted(steps)
    assert not events(repo, "gate-held", "step-failed", "attempt-failed")
    assert {event["percent"] for event in events(repo, "gate-opened")} == {100}


NAMED = """
[phase.plan]
[phase.plan.step.list]
does = "List the tasks."
outputs = ["tasks.json"]
schemas = { "tasks.json" = "tasks" }
[phase.build]
[phase.build.step.code]
does = "Build it."
tree = true
[phase.build.gate]
checks = true
rounds = 1
"""
SCHEMA = {
    "type": "object",
    "required": ["tasks"],
    "properties": {"tasks": {"type": "array", "items": {"type": "object", "required": ["hours"]}}},
}


@pytest.fixture
def named(repo: Repo) -> Repo:
    repo.write("rules/workflows/named.toml", NAMED)
    repo.write("rules/schemas/tasks.json", json.dumps(SCHEMA))
    return repo


def test_a_file_that_does_not_match_its_schema_fails_the_step_with_every_fault(named: Repo) -> None:
    checked = (
        "sh $EXECUTOR_CHECK > $EXECUTOR_OUT/said; cat $EXECUTOR_OUT/said; cp $EXECUTOR_OUT/said ../said-$EXECUTOR_STEP"
    )
    wrong = f"echo '{{\"tasks\": [{{}}, 1]}}' > $EXECUTOR_OUT/tasks.json; {checked}"
    named.milestone("m1", issue("a", f"echo x > a; {wrong}", workflow="named"))
    named.doit("milestone:m1").check(1)
    failed = events(named, "attempt-failed")[0]
    for fault in ("tasks.json: tasks[0]: 'hours' is a required property", "tasks.json: tasks[1]: 1 is not of type"):
        assert fault in str(failed["reason"])
        assert fault in (named.path / ".cache/m1/logs/a/1/steps/plan.list/agent.log").read_text()


def test_a_broken_schema_is_a_fault_of_the_declaration(named: Repo) -> None:
    named.write("rules/schemas/tasks.json", '{"type": "objec"}')
    named.write("rules/schemas/more.json", "{")
    named.milestone("m1", issue("a", "true", workflow="named"))
    err = named.doit("milestone:m1").check(3).err
    assert "rules/schemas/tasks.json: is not a valid JSON Schema: type: " in err
    assert "rules/schemas/more.json: is not JSON: " in err


def test_the_check_works_inside_the_sandbox(named: Repo) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    run = """echo '{{"tasks": []}}' > $EXECUTOR_OUT/tasks.json; sh $EXECUTOR_CHECK || exit 9; echo x > a"""
    named.write("rules/agents.toml", f'[agent.boxed]\ncommand = ["sh", "-c", {json.dumps(run)}]\nisolation = "bwrap"\n')
    named.milestone("m1", '[[issue]]\nid = "a"\ntitle = "A"\nbody = "x"\nagent = "boxed"\nworkflow = "named"\n')
    named.doit("milestone:m1").check()
    assert named.landed(BRANCH) == ["a@1"]


def test_a_gate_of_checks_sends_the_phase_back_with_the_output_and_leaves_a_validation_record(named: Repo) -> None:
    run = (
        "echo '{\"tasks\": []}' > $EXECUTOR_OUT/tasks.json; "
        "grep -q 'only 7 of' $EXECUTOR_BRIEF && echo 8 > a || echo 7 > a"
    )
    accept = [{"run": "grep -q 8 a || { echo only $(cat a) of 8; exit 1; }"}]
    named.milestone("m1", issue("a", run, workflow="named", accept=accept))
    named.doit("milestone:m1").check()
    assert len(events(named, "gate-held")) == 1
    assert not events(named, "attempt-failed")
    record = json.loads((named.path / ".cache/m1/steps/a/build.gate/validation.json").read_text())
    assert record == {
        "phase": "build",
        "score": 100,
        "threshold": 100,
        "missing": [],
        "approved": False,
        "coverage": None,
    }


def test_a_gate_asks_for_the_coverage_that_the_checks_report(named: Repo) -> None:
    named.write("rules/workflows/named.toml", f"{NAMED}coverage = 80\n")
    run = (
        "echo '{\"tasks\": []}' > $EXECUTOR_OUT/tasks.json; rate=0.7; "
        "grep -q 'coverage of at least 80 %' $EXECUTOR_BRIEF && grep -q 'coverage 70.0 %;' $EXECUTOR_BRIEF "
        "&& rate=0.85; "
        'echo "<coverage line-rate=\\"$rate\\">" > report'
    )
    named.milestone("m1", issue("a", run, workflow="named", accept=[{"run": "cp report coverage.xml"}]))
    out = named.doit("milestone:m1").check().out
    assert "coverage 70.0 %; the gate asks for at least 80 %" in str(events(named, "gate-held"))
    assert "build.gate: checks passed, coverage 85.0 %" in out
    record = json.loads((named.path / ".cache/m1/steps/a/build.gate/validation.json").read_text())
    assert record["coverage"] == 85
    named.milestone("m2", issue("b", run, workflow="named", accept=[{"run": "test -e report"}]))
    assert "coverage not reported" in named.doit("milestone:m2").check(4).out
