"""A report as Markdown for people and as JUnit XML for dashboards. Pure.

A record of the journal as one sentence for people. Pure.

An attempt for people: agent, time, cost, the agent's last message, commands, files, checks.

The agent's output is parsed by the rules of its profile; `doit log --raw` shows it unparsed.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.git.trailers import one_line
from executor.model.fingerprint import IssueRef
from executor.model.hints import counted
from executor.process.files import local_time
from executor.report.snapshot import SurvivalReport
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    BlockerFound,
    BranchCreated,
    BranchMoved,
    Checked,
    Collision,
    GateHeld,
    GateOpened,
    Landed,
    LandingIntended,
    MilestoneReleased,
    Notified,
    Overlap,
    PullChanged,
    Refused,
    Regenerated,
    Reviewed,
    RunEnded,
    RunStarted,
    Selected,
    StepDone,
    StepFailed,
    StepStarted,
    Stopped,
    Verified,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from executor.agents.output import AgentOutput
    from executor.report.collect import IssueReport, MilestoneReport, OverlapReport
    from executor.state.events import Event
    from executor.state.model import Attempt
    from executor.state.record import Record

__all__ = [
    "CheckRun",
    "Session",
    "attempt_lines",
    "cell",
    "cell_text",
    "duration",
    "junit",
    "markdown",
    "money",
    "overlaps_text",
    "sentence_of",
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


def sentence_of(record: Record) -> str:
    """Describe a record in one sentence; for a kind without a sentence, by kind and reason."""
    sentence = _sentence_of_run(record.event) or _sentence_of_issue(record.event)
    if sentence:
        return sentence
    reason = record.data.get("reason")
    return record.kind.replace("-", " ") + (f": {reason}" if isinstance(reason, str) and reason else "")


def _sentence_of_run(event: Event) -> str:  # noqa: PLR0911  (a table of sentences)
    match event:
        case RunStarted():
            return f"run of {' '.join(event.asked)} by {event.user} on {event.host}"
        case RunEnded():
            why = f" ({event.why})" if event.why else ""
            return f"run {event.how or 'done'}{why}, exit code {event.code}"
        case BlockerFound():
            return f"{event.blocker}: {event.reason}"
        case Notified():
            return f"notified by {event.channel}"
        case MilestoneReleased():
            return f"released as {event.commit[:10]}"
        case BranchMoved():
            return f"the branch was moved to {event.new[:10]}"
        case BranchCreated():
            return f"branch {event.branch.removeprefix('refs/heads/')} created"
    return ""


def _sentence_of_attempt(event: Event) -> str:
    match event:
        case AttemptStarted():
            return f"attempt {event.attempt} by {event.agent or 'an agent'}"
        case AttemptBuilt():
            files = counted(len(event.files), "file")
            return f"attempt {event.attempt} has a result: +{event.added} -{event.removed} in {files}"
        case AttemptFailed():
            return f"attempt {event.attempt} failed: {event.reason}"
        case AttemptInterrupted():
            return f"attempt {event.attempt} was interrupted"
    return ""


def _sentence_of_issue(event: Event) -> str:  # noqa: C901, PLR0911, PLR0912  (a table of sentences)
    match event:
        case Checked():
            return f"{event.check} {'passed' if event.ok else 'failed'} in {event.seconds:.1f} s"
        case Selected():
            return f"{event.tests} of {event.of} tests of {event.check} selected by {event.by}: {event.outcome}"
        case Reviewed():
            return f"{event.reviewer} had {len(event.findings)} findings"
        case StepStarted():
            return f"step {event.step} begins"
        case StepDone():
            return f"step {event.step} is done"
        case StepFailed():
            return f"step {event.step} failed: {event.reason}"
        case GateOpened():
            return f"gate {event.step} opened with {event.percent} %"
        case GateHeld():
            return f"gate {event.reason}"
        case PullChanged():
            return f"pull request {event.number} is {event.state}"
        case Overlap():
            return f"overlaps with {', '.join(event.others)}: all may change {', '.join(event.files)}"
        case Collision():
            return f"conflicts with {event.other} in {', '.join(event.paths)}"
        case Regenerated():
            return f"`{event.command}` wrote {', '.join(event.paths)} again{f': {event.reason}' * bool(event.reason)}"
        case LandingIntended():
            return f"lands as {event.commit[:10]}"
        case Landed():
            return f"landed as {event.commit[:10]}"
        case Verified():
            return "verified again"
        case Refused():
            return f"verification failed: {event.reason}"
        case Stopped():
            return f"stopped by {event.rule}: {event.reason}"
    return _sentence_of_attempt(event)


_MOST = 20  # items in a list of the report
_LAST_LINES = 40  # lines of a log; about two screens


@dataclass(frozen=True, slots=True)
class Session:
    """One call of an agent, or the calls of one step.

    Attributes:
        step: the step of a workflow; empty for a whole attempt.
        output: its parsed output.
        tail: the end of its output, for agents with unstructured output.
    """

    step: str
    output: AgentOutput
    tail: str = ""


@dataclass(frozen=True, slots=True)
class CheckRun:
    """A check that ran in an attempt.

    Attributes:
        name: name of the check, or the command of an acceptance.
        ok: whether it passed.
        seconds: duration of the check.
        output: the end of its output if it failed.
    """

    name: str
    ok: bool
    seconds: float
    output: str = ""


def attempt_lines(
    attempt: Attempt, sessions: Sequence[Session], files: Sequence[str], checks: Sequence[CheckRun]
) -> list[str]:
    """Format an attempt as lines.

    Args:
        attempt: the attempt.
        sessions: the calls of its agents, in order.
        files: its changed files.
        checks: the checks of its result, in order.
    """
    facts = [f"{attempt.seconds:.0f} s"] if attempt.seconds else []
    facts += [f"${attempt.cost_usd:.4f}"] if attempt.cost_known else []
    facts += [_tokens(attempt.tokens)] if attempt.tokens else []
    began = f" began {local_time(attempt.started_at)}" if attempt.started_at else ""
    who = f" by {attempt.agent}" if attempt.agent else ""
    who += f" on {attempt.host}" if attempt.host else ""
    lines = [f"attempt {attempt.number}{who}{began}: {', '.join([str(attempt.state), *facts])}"]
    lines += [f"  why: {one_line(attempt.reason)}"] if attempt.reason else []
    for session in sessions:
        lines += _session(session)
    lines += [f"  files changed ({len(files)}): {_listed(files)}"] if files else []
    for check in checks:
        lines.append(f"  check {check.name}: {'passed' if check.ok else 'failed'} in {check.seconds:.1f} s")
        lines += [f"    {line}" for line in check.output.splitlines()[-_LAST_LINES:]]
    return lines


def _session(session: Session) -> list[str]:
    output = session.output
    where = f"  step {session.step}: " if session.step else "  "
    lines: list[str] = []
    if output.text.strip():
        lines += [f"{where}the agent said at its end:", *(f"    {line}" for line in output.text.strip().splitlines())]
    elif session.tail.strip():
        last = session.tail.rstrip().splitlines()
        more = f" (the last {_LAST_LINES} of {len(last)} lines)" if len(last) > _LAST_LINES else ""
        lines += [f"{where}the agent printed{more}:", *(f"    {line}" for line in last[-_LAST_LINES:])]
    if output.commands:
        shown = output.commands[:_MOST]
        lines += [f"{where}commands ({len(output.commands)}):", *(f"    $ {_command(command)}" for command in shown)]
        more_commands = len(output.commands) - len(shown)
        lines += [f"    and {more_commands} more"] if more_commands else []
    if output.files:
        written = list(dict.fromkeys(_WORKSPACE.sub("", path) for path in output.files))
        lines.append(f"{where}files it wrote ({len(written)}): {_listed(written)}")
    lines += [f"{where}error: {one_line(error.message)[:300]}" for error in output.errors[-3:] if error.message]
    return lines


_WORKSPACE = re.compile(r"\A/.*/workspaces/\d+/tree/(?=.)")
_SHELL = re.compile(r"\A(?:/\S*/)?(?:ba|da|z)?sh -l?c (['\"])(.*)\1\s*\Z", re.DOTALL)


def _command(text: str) -> str:
    """Return the first line of a command, without the shell that an agent puts around it."""
    shell = _SHELL.match(text)
    first, *more = (shell[2] if shell and shell[1] not in shell[2] else text).strip().splitlines() or [""]
    return one_line(first)[:300] + (f" ... ({len(more) + 1} lines)" if more else "")


def _tokens(tokens: Mapping[str, int]) -> str:
    cached = f" ({tokens['cached']:,} cached)" if tokens.get("cached") else ""
    return f"{tokens.get('input', 0):,} tokens read{cached}, {tokens.get('output', 0):,} written"


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(one_line(item) for item in items[:_MOST])
    return f"{shown} and {len(items) - _MOST} more" if len(items) > _MOST else shown


_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""How a cell begins that would be calculated, or one that was guarded against that."""


def cell(text: str) -> str:
    """Escape a text so that no spreadsheet treats it as a formula; `cell_text` reverses this."""
    return f"'{text}" if _FORMULA.match(text) else text


def cell_text(written: str) -> str:
    """Return the text of a cell."""
    return written[1:] if written.startswith("'") and _FORMULA.match(written[1:]) else written
