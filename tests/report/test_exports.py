"""SARIF and traces: results and spans that other tools read, with their places and parents."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from executor.agents.command import span_id, trace_of, trace_variables, traces
from executor.report.collect import FindingReport
from executor.report.exports import export_spans, send_trace, spans_of
from executor.report.text import sarif
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptStarted,
    Checked,
    Event,
    Landed,
    LandingIntended,
    RunEnded,
    RunStarted,
    Spend,
    encode,
)
from executor.state.record import Record
from tests.report.test_report_text import a_report, an_issue
from tests.support import Repo, issue

PLACE = {
    "type": "object",
    "required": ["physicalLocation"],
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation", "region"],
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "required": ["uri"],
                    "properties": {"uri": {"type": "string", "format": "uri-reference", "pattern": r"^[^\s\\]+$"}},
                },
                "region": {
                    "type": "object",
                    "properties": {"startLine": {"type": "integer", "minimum": 1}},
                    "additionalProperties": False,
                },
            },
        },
        "logicalLocations": {"type": "array"},
    },
    "additionalProperties": False,
}
RESULT = {
    "type": "object",
    "required": ["message", "ruleId", "ruleIndex", "level", "locations", "partialFingerprints"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": {"enum": ["none", "note", "warning", "error"]},
        "message": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
        "locations": {"type": "array", "minItems": 1, "items": PLACE},
        "rank": {"type": "number", "minimum": 0, "maximum": 100},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
        "properties": {"type": "object"},
    },
    "additionalProperties": False,
}
LOG = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "tool": {"type": "object", "required": ["driver"]},
                    "results": {"type": "array", "items": RESULT},
                },
            },
        },
    },
    "additionalProperties": False,
}
"""What SARIF 2.1.0 and GitHub's code scanning require, for what is written here; the published schema is larger."""


def results_of(*issues: Any) -> list[Any]:
    log = json.loads(sarif(a_report(*issues)))
    jsonschema.validate(log, LOG)
    [run] = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[item["ruleIndex"]] == item["ruleId"] for item in run["results"])
    assert rules == sorted(set(rules))
    return list(run["results"])


def place(result: Any) -> tuple[str, int]:
    physical = result["locations"][0]["physicalLocation"]
    return physical["artifactLocation"]["uri"], physical["region"]["startLine"]


@pytest.mark.parametrize(
    ("status", "stop", "lines", "expected"),
    [
        ("landed", "", (), []),
        ("pending", "", (), []),
        ("failed", "", (), [("attempt-failed", "error", ("milestones/m1.toml", 1))]),
        ("skipped", "merge-conflict", (), [("merge-conflict", "warning", ("milestones/m1.toml", 1))]),
        (
            "review",
            "auth-code, secret",
            ("src/a b.py:12: def login():", "ä.py:3:", "a file was deleted: x"),
            [
                ("auth-code", "error", ("src/a%20b.py", 12)),
                ("auth-code", "error", ("%C3%A4.py", 3)),
                ("auth-code", "error", ("milestones/m1.toml", 1)),
            ],
        ),
    ],
)
def test_stops_and_failures_are_results_with_a_place(
    status: str, stop: str, lines: tuple[str, ...], expected: list[Any]
) -> None:
    found = results_of(an_issue(status=status, stop=stop, stop_lines=lines))
    assert [(item["ruleId"], item["level"], place(item)) for item in found] == expected
    if stop:
        assert found[0]["properties"]["rules"] == stop.split(", ")


def test_findings_of_reviewers_are_notes_or_warnings_and_keep_their_score() -> None:
    findings = (
        FindingReport(description="unused", score=20, file="a.py", line=0),
        FindingReport(description="leaks \udcff a file", score=90, file="b.py", line=7),
        FindingReport(description="no place", score=75, file="", line=0),
    )
    found = results_of(an_issue(findings=findings))
    assert [item["level"] for item in found] == ["note", "warning", "warning"]
    assert [place(item) for item in found] == [("a.py", 1), ("b.py", 7), ("milestones/m1.toml", 1)]
    assert [item["rank"] for item in found] == [20, 90, 75]
    prints = {item["partialFingerprints"]["issueRuleText/v1"] for item in found}
    assert len(prints) == 3
    again = results_of(an_issue(findings=findings))
    assert {item["partialFingerprints"]["issueRuleText/v1"] for item in again} == prints


def journal(*events: tuple[int, str, Event], run: str = "r1") -> list[Record]:
    return [
        Record(
            number=number,
            at=f"2026-01-02T03:00:{second:02}.000Z",
            boot="",
            run=run,
            kind=event.KIND,
            key=key,
            data=encode(event),
        )
        for number, (second, key, event) in enumerate(events, 1)
    ]


def started(number: int) -> AttemptStarted:
    return AttemptStarted(attempt=number, revision=1, spec_key="k", base="b", agent="claude", account="", when=0)


RUN = journal(
    (0, "", RunStarted(host="h", user="u", pid=1, git={}, asked=("milestone:m",), workers=1)),
    (1, "a", started(1)),
    (3, "a", Checked(check="tests", tree="t", ok=False, seconds=1.0)),
    (
        4,
        "a",
        AttemptFailed(
            attempt=1,
            failure="checks",
            reason="tests: exit 1",
            detail="",
            fingerprint="",
            seconds=2.0,
            commit="",
            spend=Spend(0.5, {"input": 7}),
        ),
    ),
    (5, "a", started(2)),
    (
        7,
        "a",
        AttemptBuilt(
            attempt=2, commit="c", result_key="r", pull=0, seconds=2.0, files=(), added=0, removed=0, deviations=()
        ),
    ),
    (9, "a", Checked(check="tests", tree="t", ok=True, seconds=1.5)),
    (10, "a", LandingIntended(attempt=2, commit="c", onto="b")),
    (11, "a", Landed(attempt=2, commit="c", revision=1, result_key="r", check_key="k", needs={})),
    (12, "b", started(1)),
    (14, "", RunEnded(code=1, how="ended", why="a failed", following=())),
)


def test_a_run_is_a_trace_of_attempts_checks_and_landings() -> None:
    spans = spans_of({"m": RUN, "other": journal((0, "", RUN[0].event), run="r0")}, "r1", "aaaaaaaaaaaaaaaa")
    known = {span.id: span for span in spans}
    shown = [(span.name, known[span.parent].name if span.parent in known else span.parent) for span in spans]
    assert shown == [
        ("run", "aaaaaaaaaaaaaaaa"),
        ("milestone m", "run"),
        ("check tests", "attempt m/a"),
        ("attempt m/a", "milestone m"),
        ("attempt m/a", "milestone m"),
        ("check tests", "attempt m/a"),
        ("landing m/a", "attempt m/a"),
        ("attempt m/b", "milestone m"),
    ]
    assert len(known) == len(spans)
    assert [span.end - span.start for span in spans] == [14, 14, 1, 3, 2, 1.5, 1, 2]
    first = spans[3]
    assert (first.error, first.facts["milestones.cost_usd"], first.facts["error.type"]) == (
        "tests: exit 1",
        0.5,
        "checks",
    )
    assert first.id == span_id("r1", "m/a", "1"), "the span that the agent was given"
    assert spans[5].parent == spans[4].id
    assert spans[7].error == "the run ended before it did"
    assert spans_of({"m": RUN}, "r2") == []


def test_the_spans_are_read_back_from_a_collector_in_memory() -> None:
    pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    assert export_spans(spans_of({"m": RUN}, "r1", parent), trace, exporter)
    found = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in found} == {trace}
    root, milestone, *_ = found
    assert f"{root.parent.span_id:016x}" == parent
    assert root.parent.is_remote
    assert milestone.parent.span_id == root.context.span_id
    assert [span.status.is_ok for span in found if span.name.startswith("check")] == [False, True]
    assert root.resource.attributes["service.name"] == "make-for-milestones"
    assert found[3].attributes["milestones.issue"] == "m/a"
    assert found[3].end_time - found[3].start_time == 3_000_000_000


OTEL = (
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, False),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_made_where_the_usual_variables_ask_for_them(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OTEL:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert traces() is expected
    assert bool(trace_variables("r1", "m", "a", 1)) is expected


@pytest.mark.parametrize(
    ("given", "continued"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_a_run_continues_the_trace_of_the_program_that_started_it(
    given: str, continued: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", given)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    trace, parent = trace_of("r1")
    assert ((trace, parent) == tuple(given.split("-")[1:3])) is continued
    assert len(trace) == 32
    assert trace_variables("r1", "m", "a", 2) == {"TRACEPARENT": f"00-{trace}-{span_id('r1', 'm/a', '2')}-01"}


def test_a_collector_that_cannot_be_reached_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    problem = send_trace(spans_of({"m": RUN}, "r1"), "0af7651916cd43dd8448eb211c80319c") or ""
    assert problem.startswith("the trace ")


def test_a_run_sends_its_trace_and_its_agents_know_their_span(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")
    for name in OTEL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    repo.milestone("m", issue("a", "echo $TRACEPARENT > trace", accept=[{"run": "true"}]))
    sent = repo.doit("milestone:m").check().err
    decoder, spans = json.JSONDecoder(), {}
    while "{" in sent:
        value, end = decoder.raw_decode(sent := sent[sent.index("{") :])
        spans[value["name"]], sent = value, sent[end:]
    assert list(spans) == ["run", "milestone m", "attempt m/a", "check true", "landing m/a"]
    assert spans["run"]["parent_id"] == "0xb7ad6b7169203331"
    _, trace, span, _ = repo.git("show", "milestone/m-test-m:trace").split("-")
    assert f"0x{trace}" == spans["landing m/a"]["context"]["trace_id"] == "0x0af7651916cd43dd8448eb211c80319c"
    assert f"0x{span}" == spans["attempt m/a"]["context"]["span_id"] == spans["landing m/a"]["parent_id"]
