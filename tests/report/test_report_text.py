"""Reports as Markdown and JUnit XML: complete, and inert whatever the texts in them are."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.agents.output import AgentOutput
from executor.commands.inspect.log import Session, attempt_lines
from executor.report.collect import AttemptReport, IssueReport, MilestoneReport, schema
from executor.report.text import duration, junit, markdown
from executor.state.model import Attempt

DOCS = Path(__file__).resolve().parents[2] / "docs"


def an_issue(name: str = "1", status: str = "landed", **more: object) -> IssueReport:
    landed = status == "landed"
    given_ = {
        "ref": f"m1/{name}",
        "id": name,
        "title": f"Issue {name}",
        "type": "core",
        "phase": "",
        "priority": "P1",
        "size": "M",
        "status": status,
        "reason": "landed as 0123456789" if landed else "for a reason",
        "hint": "" if landed else f"doit retry m1/{name}",
        "needs": (),
        "critical": False,
        "revision": 1 if landed else 0,
        "commit": "0123456789abcdef" if landed else "",
        "landed_at": "2026-01-02T03:04:05Z" if landed else "",
        "seconds": 65.0,
        "cost_usd": 0.25,
        "files": 1,
        "added": 2,
        "removed": 3,
        "paths": ("a.py",),
        "attempts": (),
        "checks": (),
        "findings": (),
        "stop": "",
        "stop_lines": (),
        "log": "",
    }
    return IssueReport.model_validate(given_ | more)


def a_report(*issues: IssueReport, **more: object) -> MilestoneReport:
    counts: dict[str, int] = {}
    for issue in issues:
        counts[issue.status] = counts.get(issue.status, 0) + 1
    given_ = {
        "generated_at": "2026-01-02T06:00:00Z",
        "id": "m1",
        "title": "First",
        "goal": "",
        "status": "in progress",
        "percent": 50,
        "branch": "milestone/m1-first",
        "base": "main",
        "tip": "fedcba9876543210",
        "counts": counts,
        "seconds": 130.0,
        "cost_usd": 0.5,
        "began_at": "",
        "ended_at": "",
        "critical_path": tuple(issue.ref for issue in issues),
        "issues": issues,
    }
    return MilestoneReport.model_validate(given_ | more)


def test_markdown_tells_who_waits_what_landed_and_what_failed() -> None:
    failed = AttemptReport(
        number=1,
        revision=1,
        agent="claude",
        state="failed",
        kind="checks",
        reason="exit 3",
        started_at="",
        seconds=1,
        cost_usd=0,
    )
    text = markdown(a_report(an_issue("1"), an_issue("2", "failed", attempts=(failed,)), an_issue("3", "blocked")))
    assert "| 2 Issue 2 | failed | for a reason | `doit retry m1/2` |" in text
    assert "| 1 Issue 1 | 0123456789 | 1 file, +2 -3 | 0 | 1 min 5 s | $0.25 |" in text
    assert "| 3 Issue 3 | blocked | for a reason |" in text
    assert "| 2 Issue 2 | 1 | claude | checks | exit 3 |" in text


@given(st.text())
def test_no_text_of_others_formats_ends_a_cell_or_mentions_anybody(text: str) -> None:
    told = markdown(a_report(an_issue("1", "failed", title=text, reason=text, hint=text)))
    row = next(line for line in told.splitlines() if line.startswith("| 1 "))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    cells = row.rpartition(" | ")[0]
    assert not re.search(r"(?<!\\)[@#<>*_`\[\]]", cells.replace("\\\\", ""))


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("pytest -q", "pytest -q"),
        ("bash -lc 'pytest -q && ls'", "pytest -q && ls"),
        ("/bin/zsh -lc \"rg -n 'x y' .\"", "rg -n 'x y' ."),
        ("sh -c 'a' 'b'", "sh -c 'a' 'b'"),
        ("cat > f <<'E'\n1\n2\nE\n", "cat > f <<'E' ... (4 lines)"),
        ("bash -lc 'cd x\nmake'", "cd x ... (2 lines)"),
        ("x" * 400, "x" * 300),
        ("\n", ""),
    ],
)
def test_a_command_of_an_agent_is_shown_as_one_line(command: str, shown: str) -> None:
    told = AgentOutput(commands=[command], files=["/r/.cache/m1/workspaces/3/tree/src/a.py", "/etc/x", "src/a.py"])
    lines = attempt_lines(Attempt(1, 1, "", ""), [Session("", told, "")], [], [])
    assert f"    $ {shown}" in lines
    assert "  files it wrote (2): src/a.py, /etc/x" in lines


@given(st.text(), st.text())
def test_junit_is_xml_whatever_the_texts_are(title: str, log: str) -> None:
    report = a_report(
        an_issue("1"), an_issue("2", "failed", title=title, reason=title, log=log), an_issue("3", "review")
    )
    suite = ET.fromstring(junit(report))[0]  # noqa: S314  (made by us, two lines above)
    assert [suite.get(key) for key in ("tests", "failures", "skipped", "errors")] == ["3", "1", "1", "0"]
    assert [case[0].tag for case in suite if len(case)] == ["failure", "skipped"]


def test_the_documented_schema_is_that_of_the_model() -> None:
    documented = DOCS / "report.schema.json"
    assert json.loads(documented.read_text(encoding="utf-8")) == json.loads(schema())


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (90000, "25 h 0 min")],
)
def test_durations_for_people(seconds: float, told: str) -> None:
    assert duration(seconds) == told
