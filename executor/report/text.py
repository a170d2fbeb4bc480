"""A report as Markdown for people, as JUnit XML for dashboards, as SARIF for editors and code scanning. Pure.

The tracking section of a milestone, as Markdown between two marks.
"""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from importlib import metadata
from typing import TYPE_CHECKING
from urllib.parse import quote

from executor import DISTRIBUTION
from executor.git.trailers import one_line
from executor.model.fingerprint import IssueRef
from executor.model.hints import counted
from executor.process.files import local_time
from executor.report.snapshot import SurvivalReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from executor.model.milestone import Milestone
    from executor.report.collect import IssueReport, MilestoneReport, OverlapReport
    from executor.report.exports import Tracked

__all__ = [
    "as_markdown",
    "between_marks",
    "duration",
    "inline",
    "junit",
    "markdown",
    "marks_of",
    "money",
    "overlaps_text",
    "sarif",
]


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~@])")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WAITS = ("review", "open", "blocked", "pending", "running", "stale", "skipped")


def markdown(report: MilestoneReport) -> str:
    """Return the report as Markdown; all external text is escaped, so it can neither format nor mention."""
    parts = [
        f"# {_words(report.id)}: {_words(report.title)}",
        _facts(report),
        *_section("Money", [report.money.HEAD, report.money.cells()]),
        *_section("Lines that stayed", [SurvivalReport.HEAD, *([*map(_words, it.cells())] for it in report.survival)]),
        *_section("Needs a person", _waiting(report)),
        *_section("Landed", _landed(report)),
        *_section("Not landed yet", _rest(report)),
        *_section("Failed attempts", _failures(report)),
    ]
    return "\n\n".join(parts) + "\n"


def junit(report: MilestoneReport) -> str:
    """Return the report as JUnit XML: a case for each issue; failed ones are failures, waiting ones are skipped."""
    failed = [issue for issue in report.issues if issue.status == "failed"]
    waiting = [issue for issue in report.issues if issue.status in _WAITS]
    suite = ET.Element(
        "testsuite",
        name=_xml(f"{report.id}: {report.title}"),
        tests=str(len(report.issues)),
        failures=str(len(failed)),
        errors="0",
        skipped=str(len(waiting)),
        time=f"{report.seconds:.3f}",
        timestamp=report.generated_at,
    )
    for issue in report.issues:
        phase = f".{issue.phase}" if issue.phase else ""
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_xml(f"{report.id}{phase}"),
            name=_xml(f"{issue.id} {issue.title}"),
            time=f"{issue.seconds:.3f}",
        )
        if issue.status == "failed":
            failure = ET.SubElement(case, "failure", type="failed", message=_xml(issue.reason))
            failure.text = _xml(issue.log)
        elif issue.status in _WAITS:
            ET.SubElement(case, "skipped", type=issue.status, message=_xml(f"{issue.status}: {issue.reason}"))
    root = ET.Element("testsuites", name="make for milestones")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def duration(seconds: float) -> str:
    """Format seconds for people: ``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004  (seconds in a minute)
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004  (seconds in an hour)
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def money(dollars: float) -> str:
    """Format an amount in US dollars; a dash for zero."""
    return f"${dollars:.2f}" if dollars else "-"


def _facts(report: MilestoneReport) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.items())
    lines = [
        f"- Status: **{report.status}**, {report.percent} %",
        f"- Issues: {counts or 'none'}",
        f"- Branch: {_words(report.branch)}" + (f" at {report.tip[:10]}" if report.tip else ", not begun"),
        f"- Work of agents: {duration(report.seconds)}" + (f", {money(report.cost_usd)}" if report.cost_usd else ""),
        f"- Made: {local_time(report.generated_at)}",
    ]
    if met := overlaps_text(report.overlaps):
        lines.append(f"- Overlaps: {met}")
    if chosen := str(report.selection):
        lines.append(f"- Selected tests: {chosen}")
    if report.forecast is not None and report.forecast.known:
        it = report.forecast
        held = f"; {it.inside_p80} of {it.milestones} past milestones ended within their p80" if it.milestones else ""
        lines.append(f"- Rest: p50 {duration(it.p50_s)}, p80 {duration(it.p80_s)}{held}")
    if report.critical_path:
        path = " → ".join(_words(IssueRef.parse(ref).issue) for ref in report.critical_path[:30])
        lines.insert(4, f"- Critical path: {path}" + (" → …" if len(report.critical_path) > 30 else ""))  # noqa: PLR2004
    return "\n".join(lines)


def overlaps_text(found: OverlapReport) -> str:
    """Return predicted and actual conflicts as one line; empty without either."""
    numbers = (
        (found.predicted, f"predicted, {found.met} of them changed the same file"),
        (found.found_early, f"in conflict before either landed, {found.unforeseen} of them not predicted"),
    )
    parts = [f"{counted(count, 'pair')} {answer}" for count, answer in numbers if count]
    parts += [f"{found.conflicts} of the results could not be merged"] if found.conflicts else []
    return "; ".join([*parts, *([f"{found.regenerated} resolved by a command"] if found.regenerated else [])])


def _section(title: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if len(rows) > 1:
        head = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
        yield f"## {title}"
        yield "\n".join(f"| {line} |" for line in [*head, *(" | ".join(row) for row in rows[1:])])


def _waiting(report: MilestoneReport) -> list[list[str]]:
    rows = [["Issue", "Status", "Why", "Next"]]
    rows += ([_name(item), item.status, _words(item.reason), _code(item.hint)] for item in report.waiting())
    return rows


def _landed(report: MilestoneReport) -> list[list[str]]:
    rows = [["Issue", "Commit", "Change", "Attempts", "Work", "Cost"]]
    for item in report.issues:
        if item.status == "landed":
            revision = f" (revision {item.revision})" if item.revision > 1 else ""
            change = f"{counted(item.files, 'file')}, +{item.added} -{item.removed}"
            work = [str(len(item.attempts)), duration(item.seconds), money(item.cost_usd)]
            rows.append([_name(item) + revision, item.commit[:10], change, *work])
    return rows


def _rest(report: MilestoneReport) -> list[list[str]]:
    waiting = {item.ref for item in report.waiting()}
    rows = [["Issue", "Status", "Why"]]
    rows += (
        [_name(item), item.status, _words(item.reason)]
        for item in report.issues
        if item.status != "landed" and item.ref not in waiting
    )
    return rows


def _failures(report: MilestoneReport) -> list[list[str]]:
    rows = [["Issue", "Attempt", "Agent", "Class", "Why"]]
    rows += (
        [_name(item), str(attempt.number), _words(attempt.agent), _words(attempt.kind), _words(attempt.reason)]
        for item in report.issues
        for attempt in item.attempts
        if attempt.state == "failed"
    )
    return rows


def _name(issue: IssueReport) -> str:
    return f"{_words(issue.id)} {_words(issue.title)}"


def _words(text: str) -> str:
    """Escape others' text for Markdown: one line, without formatting, links, mentions or ends of table cells."""
    return _SPECIAL.sub(r"\\\1", one_line(text)).replace("&", "&amp;")


def _code(text: str) -> str:
    plain = one_line(text).replace("|", "\\|")
    fence = "`" * (max(map(len, _runs(plain)), default=0) + 1)
    return f"{fence}{plain}{fence}" if plain else ""


def _runs(text: str) -> Iterable[str]:
    return re.findall("`+", text)


def _xml(text: str) -> str:
    """Return text with only the characters that XML 1.0 allows."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


_SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_PLACE = re.compile(r"(?P<path>[^\s:][^:]*):(?P<line>[1-9]\d*)(?::|$)")
"""How a line begins that names a place: ``src/auth.py:12: def login():``."""
_LEVELS = {"review": "error", "failed": "error", "skipped": "warning"}
_SERIOUS = 75
"""Findings of reviewers from this score on are warnings, others notes."""


def sarif(report: MilestoneReport) -> str:
    """Stops, failures and findings of reviewers as a SARIF 2.1.0 log, for code scanning and editors.

    Every result has a place, as GitHub requires: the line that a rule names, else the declaration of the milestone. Its
    fingerprint rests on issue, rule and text, so that a later log with the same result is seen as the same.
    """
    results = [found for issue in report.issues for found in (*_stops(report, issue), *_findings(report, issue))]
    rules = sorted({str(item["ruleId"]) for item in results})
    driver = {
        "name": DISTRIBUTION,
        "version": metadata.version(DISTRIBUTION),
        "rules": [{"id": rule, "shortDescription": {"text": _RULES.get(rule, f"stop rule {rule}")}} for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"milestone/{report.id}/"},
        "columnKind": "unicodeCodePoints",
        "results": [{**item, "ruleIndex": rules.index(str(item["ruleId"]))} for item in results],
    }
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


_RULES = {"attempt-failed": "an issue has exhausted its attempts", "reviewer-finding": "a reviewer's finding"}


def _stops(report: MilestoneReport, issue: IssueReport) -> Iterator[dict[str, object]]:
    """A result for each line that stopped the issue, or one if none is named; its rule is the first of the stop."""
    if issue.status not in _LEVELS:
        return
    rules = issue.stop.split(", ") if issue.stop else ["attempt-failed"]
    for line in issue.stop_lines or ("",):
        text = f"{issue.ref} {issue.title}: {issue.reason}" + (f"\n{line}" if line else "")
        yield {
            **_result(report, issue, rules[0], text, line),
            "level": _LEVELS[issue.status],
            "properties": {"issue": issue.ref, "status": issue.status, "rules": rules, "next": issue.hint},
        }


def _findings(report: MilestoneReport, issue: IssueReport) -> Iterator[dict[str, object]]:
    for finding in issue.findings:
        place = f"{finding.file}:{max(finding.line, 1)}" if finding.file else ""
        yield {
            **_result(report, issue, "reviewer-finding", f"{issue.ref}: {finding.description}", place),
            "level": "warning" if finding.score >= _SERIOUS else "note",
            "rank": float(min(max(finding.score, 0), 100)),
            "properties": {"issue": issue.ref, "status": issue.status, "score": finding.score},
        }


def _result(report: MilestoneReport, issue: IssueReport, rule: str, text: str, place: str) -> dict[str, object]:
    found = _PLACE.match(place)
    path, line = (found["path"], int(found["line"])) if found else (f"milestones/{report.id}.toml", 1)
    digest = hashlib.sha256(f"{issue.ref}\0{rule}\0{text}".encode("utf-8", "replace")).hexdigest()
    physical = {
        "artifactLocation": {"uri": quote(path, errors="replace"), "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": line},
    }
    logical = [{"fullyQualifiedName": issue.ref, "kind": "issue"}]
    return {
        "ruleId": rule,
        "message": {"text": text},
        "locations": [{"physicalLocation": physical, "logicalLocations": logical}],
        "partialFingerprints": {"issueRuleText/v1": digest},
    }


def as_markdown(milestone: Milestone, status: str, issues: Sequence[Tracked], updated: str) -> str:
    """Return the tracking section of a milestone, with its marks.

    Args:
        milestone: its declaration.
        status: its state and reason.
        issues: its issues, in the order of the file.
        updated: time of the latest record.
    """
    landed = [item for item in issues if item.status == "landed"]
    current = next((item for item in issues if item.status in {"running", "open", "pending", "stale"}), None)
    waiting = [item for item in issues if item.status in {"review", "failed"}]
    parts = [
        f"## Tracking: {milestone.id} - {inline(milestone.title)}",
        f"**Status:** {inline(status)}; {len(landed)} of {len(issues)} landed",
        "### Completed issues",
        _list(f"[{'x' if item in landed else ' '}] {item.name}{_where(item)}" for item in issues),
        "### Open pull requests",
        _list(
            f"{inline(item.pull)} {item.name}: {inline(item.checks or item.reason)}"
            for item in issues
            if item.pull and item.checks.partition(";")[0] in {"open", "draft"}
        ),
        "### Blocked / needs review",
        _list(_waiting_item(item) for item in waiting),
        "### Skipped issues",
        _list(f"{item.name}: skipped: {inline(item.reason)}" for item in issues if item.status == "skipped"),
        "### Current phase",
        _list(
            [
                f"**Phase:** {inline((current.issue.phase if current else '') or 'none')}",
                f"**Current issue:** {current.name if current else 'none'}",
                f"**Blockers:** {', '.join(item.issue.id for item in waiting) or 'none'}",
            ]
        ),
        f"**Last updated:** {inline(updated) or 'never'}",
    ]
    begin, end = marks_of(milestone.id)
    return "\n".join([begin, "\n\n".join(parts), end]) + "\n"


def between_marks(text: str, section: str, milestone: str) -> str:
    """Replace a milestone's section in a text, or append it; all else remains unchanged.

    Raises:
        ValueError: only one of the two marks exists, or they are in the wrong order.
    """
    begin, end = marks_of(milestone)
    line = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    # A file with Windows line ends keeps them, also in our section. A single one does not make such a file.
    section = section.replace("\n", line)
    start, stop = text.find(begin), text.find(end)
    if start < 0 and stop < 0:
        gap = "" if not text else line if text.endswith("\n") else line * 2
        return f"{text}{gap}{section}"
    if start < 0 or stop < start or text.count(begin) > 1 or text.count(end) > 1:
        raise ValueError(f"expected one {begin} and one {end} after it")
    after = text[stop + len(end) :]
    return text[:start] + section.rstrip("\r\n") + after


def marks_of(milestone: str) -> tuple[str, str]:
    """Return the lines around the section of a milestone."""
    return f"<!-- milestone {milestone}: begin -->", f"<!-- milestone {milestone}: end -->"


def _list(lines: Iterable[str]) -> str:
    found = [f"- {line}" for line in lines]
    return "\n".join(found or ["- (none)"])


def _where(item: Tracked) -> str:
    return f" ({inline(item.pull) + ', ' if item.pull else ''}{item.commit[:10]})" if item.status == "landed" else ""


def _waiting_item(item: Tracked) -> str:
    lines = [f"**{item.name}**: {inline(item.reason)}" + (f"; needs: {inline(item.needs)}" if item.needs else "")]
    lines += [f"  {place}. {inline(line)}" for place, line in enumerate(item.findings[:20], 1)]
    return "\n".join(lines)


def inline(text: str) -> str:
    """Format foreign text as one line of Markdown, without our marks and without mentions."""
    plain = one_line(text).replace("<!--", "< !--").replace("-->", "-- >")
    return re.sub(r"@(?=[A-Za-z0-9])", "@\u200b", plain)
