"""A milestone in the forms that other tools read: JSON, GitHub's list of issues, CSV; a run as OpenTelemetry spans.

JSON, GitHub and CSV hold every key of every issue, so that `doit import` reads back what was declared. Pure, but for
sending a trace.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from executor import DISTRIBUTION
from executor.agents.command import span_id
from executor.model.fingerprint import IssueRef
from executor.model.milestone import Claim, FileCheck, Issue, Milestone, RunCheck
from executor.report.text import inline
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    Checked,
    Landed,
    LandingIntended,
    RunEnded,
    StepDone,
    StepFailed,
    StepStarted,
    Stopped,
)
from executor.state.record import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from executor.state.events import Event, Spend
    from executor.state.record import Record

    Fact = str | int | float | bool
    Facts = Mapping[str, Fact]

__all__ = [
    "OWN_COLUMNS",
    "OWN_FORMAT",
    "WRITERS",
    "Span",
    "Tracked",
    "cell",
    "cell_text",
    "export_spans",
    "send_trace",
    "spans_of",
]

OWN_FORMAT = "make-for-milestones/1"
"""The format name in our JSON, which `doit import` recognises."""
OWN_COLUMNS = ("id", "title", "type", "priority", "size", "needs", "files", "accept", "number", "phase")
"""The first columns of every CSV export; further keys that an issue uses follow."""
_IN_LABELS = frozenset({"id", "title", "type", "priority", "size", "number", "needs"})


@dataclass(frozen=True, slots=True)
class Tracked:
    """An issue and its progress.

    Attributes:
        issue: its declaration.
        text: its specification.
        status: its status word.
        reason: the reason, one sentence.
        commit: its latest landing; empty without one.
        pull: its pull request, number or address; empty without one.
        checks: its state (``open``, ``draft``, ``closed``, ``merged``), then what it waits for, if known.
        needs: the action required of a person; empty for none.
        findings: reasons of a stop, one line each.
        number: number of its pull request; 0 without one.
        review: the reviewer's verdict.
        created: day on which its pull request was opened.
        blocked: day of its last stop.
        at_work: an agent works on it now.
    """

    issue: Issue
    text: str
    status: str
    reason: str
    commit: str = ""
    pull: str = ""
    checks: str = ""
    needs: str = ""
    findings: tuple[str, ...] = ()
    number: int = 0
    review: str = ""
    created: str = ""
    blocked: str = ""
    at_work: bool = False

    @property
    def short(self) -> str:
        """Return its number on the forge, or its id without a number."""
        return f"#{self.issue.number}" if self.issue.number is not None else self.issue.id

    @property
    def url(self) -> str:
        """Return the address of its pull request; empty for a local one."""
        return self.pull if self.pull.startswith("http") else ""

    @property
    def name(self) -> str:
        """Return its display name: number if it has one, id, title."""
        number = f"#{self.issue.number} " if self.issue.number is not None else ""
        return f"{number}{self.issue.id} - {inline(self.issue.title)}"


_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""How a cell begins that would be calculated, or one that was guarded against that."""


def cell(text: str) -> str:
    """Escape a text so that no spreadsheet treats it as a formula; `cell_text` reverses this."""
    return f"'{text}" if _FORMULA.match(text) else text


def cell_text(written: str) -> str:
    """Return the text of a cell."""
    return written[1:] if written.startswith("'") and _FORMULA.match(written[1:]) else written


def _head(milestone: Milestone, epic: str, **more: str) -> dict[str, object]:
    """Return a milestone's own declaration: its keys and `more`, its phases, the text of its epic."""
    head = milestone.model_dump(mode="json", exclude_defaults=True, exclude={"phases", "issues", "accept"})
    head |= {"accept": _accept(milestone.accept)} if milestone.accept else {}
    phases = [{"name": phase.name, "goal": phase.goal} for phase in milestone.phases]
    return {"milestone": {**head, "id": milestone.id, **more}, "phases": phases, "epic": epic}


def _as_json(milestone: Milestone, status: str, issues: Sequence[Tracked], epic: str) -> str:
    """Return declaration and status as one JSON value."""
    rows = [
        {**_fields(item.issue), "text": item.text, "status": item.status, "reason": item.reason, "commit": item.commit}
        for item in issues
    ]
    return _json({"format": OWN_FORMAT, **_head(milestone, epic, status=status), "issues": rows})


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _as_github(milestone: Milestone, _status: str, issues: Sequence[Tracked], epic: str) -> str:
    """Return issues in the format of `gh issue list --json number,title,body,labels,milestone,state`.

    GitHub's list has no fields for ids, for needs of issues without a number, and for most other keys: the
    additional fields `id`, `needs` and `declaration` contain them, that of the milestone in the first issue. Other
    readers ignore these.
    """
    numbers = {item.issue.id: item.issue.number for item in issues}
    head = {"declaration": _head(milestone, epic)}
    found: list[dict[str, object]] = []
    for item in issues:
        issue = item.issue
        labels = [f"type:{issue.type}", issue.priority, f"size:{issue.size}"]
        needs = [f"#{numbers[need]}" for need in issue.needs if numbers.get(need) is not None]
        body = item.text.rstrip("\n") + (f"\n\nDepends on {', '.join(needs)}" if needs else "") + "\n"
        found.append(
            {
                "number": issue.number,
                "id": issue.id,
                "title": issue.title,
                "body": body,
                "labels": [{"name": label} for label in labels],
                "milestone": {"title": milestone.forge_milestone or milestone.title, **({} if found else head)},
                "state": "CLOSED" if item.status == "landed" else "OPEN",
                "needs": list(issue.needs),
                "declaration": {key: value for key, value in _fields(issue).items() if key not in _IN_LABELS},
            }
        )
    return _json(found)


def _as_csv(milestone: Milestone, _status: str, issues: Sequence[Tracked], epic: str) -> str:
    """Return a table with a header and one row per issue; the first row has the milestone's declaration as JSON.

    Items of lists are separated by spaces, acceptance criteria by lines; a list that this would not preserve is JSON.
    """
    values = [_fields(item.issue) for item in issues]
    more = sorted({key for row in values for key in row} - set(OWN_COLUMNS))
    names = [*OWN_COLUMNS, *more]
    rows = [[*names, "milestone", "status", "reason", "commit", "description"]]
    for item, row in zip(issues, values, strict=True):
        head = "" if rows[1:] else json.dumps(_head(milestone, epic), ensure_ascii=False)
        cells = [*(_written(name, row) for name in names), head]
        rows.append([cell(text) for text in (*cells, item.status, item.reason, item.commit, item.text)])
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


WRITERS: Mapping[str, Callable[[Milestone, str, Sequence[Tracked], str], str]] = {
    "json": _as_json,
    "github": _as_github,
    "csv": _as_csv,
}
"""Name of a format -> the function that writes milestone, status, issues and epic in it."""


def _written(name: str, row: Mapping[str, Any]) -> str:
    """Return a value as a cell."""
    if name not in row:
        return ""
    value = row[name]
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        between = "\n" if name == "accept" else " "
        plain = all(
            part.strip() == part and part and not re.search(r"\n" if name == "accept" else r"[\s,]", part)
            for part in value
        )
        if plain and name != "agent" and not value[0].startswith(("[", "{")):
            return between.join(value)
    if isinstance(value, str) and not value.startswith(("[", "{")):
        return value
    return (
        str(value) if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
    )


def _fields(issue: Issue) -> dict[str, object]:
    """Return an issue's declaration without empty values."""
    found = issue.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"accept", "spec", "body"})
    if found.get("agent") and len(issue.agent or ()) == 1:
        found["agent"] = found["agent"][0]
    return {"id": issue.id, "title": issue.title, **found} | ({"accept": _accept(issue.accept)} if issue.accept else {})


def _accept(items: Iterable[Claim | RunCheck | FileCheck]) -> list[Any]:
    """Return acceptance criteria in declared form."""
    return [item.text if isinstance(item, Claim) else item.model_dump(exclude_defaults=True) for item in items]


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of a run: ids of 16 hexadecimal digits, times in epoch seconds, `error` empty where all went well."""

    name: str
    id: str
    parent: str
    start: float
    end: float
    facts: Facts
    error: str = ""


def spans_of(journals: Mapping[str, Sequence[Record]], run_id: str, parent: str = "") -> list[Span]:
    """The spans of one run: one for the run, one a milestone, below it attempts with their steps, checks and landings.

    Args:
        journals: the records of each milestone.
        run_id: the run; records of others are passed over.
        parent: the span of the program that started the run; empty if there is none.
    """
    root = span_id(run_id)
    inner = [_MilestoneSpans(name, run_id, root).spans(records) for name, records in journals.items()]
    milestones = [spans[0] for spans in inner if spans]
    if not milestones:
        return []
    start, end = min(span.start for span in milestones), max(span.end for span in milestones)
    first = Span("run", root, parent, start, end, {"milestones.run": run_id})
    return [first, *(span for spans in inner for span in spans)]


class _MilestoneSpans:
    """Builds the spans of one milestone from its journal."""

    def __init__(self, name: str, run_id: str, root: str) -> None:
        self._name, self._run, self._root = name, run_id, root
        self._id = span_id(run_id, name)
        self._begun: dict[tuple[str, ...], tuple[float, dict[str, Fact]]] = {}
        self._attempts: dict[str, str] = {}
        self._done: list[Span] = []

    def spans(self, records: Sequence[Record]) -> list[Span]:
        """The milestone's span, then those inside it; nothing if the run did not touch the milestone."""
        own = [record for record in records if record.run == self._run]
        if not own:
            return []
        start, end = moment(own[0].at), moment(own[-1].at)
        facts: dict[str, Fact] = {"milestones.milestone": self._name}
        error = ""
        for record in own:
            if isinstance(record.event, RunEnded):
                facts |= {"milestones.exit_code": record.event.code, "milestones.ended": record.event.how}
                error = record.event.why if record.event.code else ""
            elif record.key:
                self._take(record.key, moment(record.at), record.event)
        for name in list(self._begun):
            self._close(name, end, {}, "the run ended before it did")
        return [Span(f"milestone {self._name}", self._id, self._root, start, end, facts, error), *self._done]

    def _take(self, key: str, at: float, event: Event) -> None:
        ref = str(IssueRef(self._name, key))
        match event:
            case AttemptStarted(attempt=number, agent=agent, revision=revision):
                self._attempts[key] = span_id(self._run, ref, str(number))
                self._begun["attempt", key] = (
                    at,
                    {
                        "milestones.issue": ref,
                        "milestones.attempt": number,
                        "milestones.revision": revision,
                        "milestones.agent": agent,
                    },
                )
            case StepStarted(step=step):
                self._begun["step", key, step] = at, {"milestones.issue": ref, "milestones.step": step}
            case LandingIntended(commit=commit):
                self._begun["landing", key] = at, {"milestones.issue": ref, "milestones.commit": commit}
            case Checked(check=check, ok=ok, seconds=seconds, tree=tree):
                about: dict[str, Fact] = {"milestones.issue": ref, "milestones.check": check, "milestones.tree": tree}
                self._add(("check", key, check), at - seconds, at, about, "" if ok else f"{check} failed")
            case Stopped(rule=rule, reason=reason):
                self._add(("stop", key, rule), at, at, {"milestones.issue": ref, "milestones.rule": rule}, reason)
            case _:
                self._end(key, at, event)

    def _end(self, key: str, at: float, event: Event) -> None:
        match event:
            case AttemptBuilt(spend=spend):
                self._close(("attempt", key), at, _spent(spend))
            case AttemptFailed(spend=spend, reason=reason, failure=failure):
                self._close(("attempt", key), at, {**_spent(spend), "error.type": failure}, reason)
            case AttemptInterrupted():
                self._close(("attempt", key), at, {}, "interrupted")
            case StepDone(step=step):
                self._close(("step", key, step), at, {})
            case StepFailed(step=step, reason=reason):
                self._close(("step", key, step), at, {}, reason)
            case Landed():
                self._close(("landing", key), at, {})

    def _close(self, name: tuple[str, ...], at: float, facts: Facts, error: str = "") -> None:
        if name in self._begun:
            start, begun = self._begun.pop(name)
            self._add(name, start, at, {**begun, **facts}, error)

    def _add(self, name: tuple[str, ...], start: float, end: float, facts: Facts, error: str) -> None:
        kind, key, *words = name
        attempt = self._attempts.get(key)
        if kind == "attempt" and attempt is not None:
            own, parent = attempt, self._id
        else:
            own, parent = span_id(self._run, *name, str(len(self._done))), attempt or self._id
        shown = " ".join(words) or str(IssueRef(self._name, key))
        self._done.append(Span(f"{kind} {shown}", own, parent, start, max(start, end), facts, error))


def _spent(spend: Spend) -> dict[str, Fact]:
    found: dict[str, Fact] = {f"milestones.tokens.{kind}": n for kind, n in spend.tokens.items()}
    return found if spend.cost_usd is None else {**found, "milestones.cost_usd": spend.cost_usd}


def export_spans(spans: Sequence[Span], trace: str, exporter: Any) -> bool:
    """Hand spans to an exporter of the OpenTelemetry SDK; whether it took them.

    Args:
        spans: of one trace.
        trace: its id, 32 hexadecimal digits.
        exporter: a `SpanExporter`.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.trace import SpanContext, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode

    resource = Resource.create({"service.name": DISTRIBUTION, "service.version": metadata.version(DISTRIBUTION)})

    def context(span: str, *, remote: bool = False) -> Any:
        return SpanContext(int(trace, 16), int(span, 16), remote, TraceFlags(TraceFlags.SAMPLED))

    known = {span.id for span in spans}
    readable = [
        ReadableSpan(
            span.name,
            context=context(span.id),
            parent=context(span.parent, remote=span.parent not in known) if span.parent else None,
            resource=resource,
            attributes=dict(span.facts),
            start_time=int(span.start * 1e9),
            end_time=int(span.end * 1e9),
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
        )
        for span in spans
    ]
    return bool(exporter.export(readable) is SpanExportResult.SUCCESS)


def send_trace(spans: Sequence[Span], trace: str) -> str | None:
    """Send spans to where the variables OTEL_* say; why they were not sent, None when they were."""
    exporter: Any
    try:
        if os.environ.get("OTEL_TRACES_EXPORTER") == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            exporter = ConsoleSpanExporter(out=sys.stderr)
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
    except ImportError as error:
        return f"the trace needs the extra `otel` ({error}): pip install '{DISTRIBUTION}[otel]'"
    try:
        sent = export_spans(spans, trace, exporter)
        exporter.shutdown()
    except Exception as error:  # noqa: BLE001  (whatever an exporter does, the run has ended as it did)
        return f"the trace was not sent: {error}"
    return None if sent else "the collector did not accept the trace; see the variables OTEL_EXPORTER_OTLP_*"
