"""`doit log m4/4.1`: the attempts at an issue, and the output of the last one's agent and checks.

An attempt for people: agent, time, cost, the agent's last message, commands, files, checks. The agent's output is
parsed by the rules of its profile; `--raw` shows it unparsed. With `--events`, the journals as a stream of events, one
JSON object a line (docs/events.md); it takes no lock.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from executor.agents.command import read_output
from executor.agents.output import AgentOutput
from executor.checks.base import base_remedy
from executor.checks.spec import slug_of
from executor.commands.base import JSON_OPTION, Command, Options, Output, option, print_json, safe, table
from executor.config.project import compile_project, open_project, unknown_milestone
from executor.engine.candidate import failure_report, success_lines
from executor.errors import UsageError
from executor.git.refs import ATTEMPTS, Refs
from executor.git.trailers import one_line
from executor.model.fingerprint import IssueRef
from executor.process.files import local_time, read_json, segments
from executor.state.decide import Status
from executor.state.events import AttemptBuilt, AttemptStarted, Checked
from executor.state.model import Attempt, AttemptState, IssueState, Red
from executor.state.segments import read as read_events
from executor.status.progress import Tail
from executor.status.reader import Observer, observe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.config.project import Compiled, Project
    from executor.state.record import Record

__all__ = ["CheckRun", "Log", "Session", "attempt_lines", "event_value", "meant_issue", "stream"]


_ATTEMPT = option("attempt", "number of the attempt (default: the last one)", int)
_BRIEF = option("brief", "print the agent's brief", bool)
_EVENTS = option("events", "print events as JSON lines, of the given milestones or issues (default: all)", bool)
_FOLLOW = option("follow", "with --events: also print new events, until interrupted", bool, short="f")
_RAW = option("raw", "print the unchanged output of agent and checks", bool)
_SHOWN = 200_000  # bytes at the end of a log; a choice: what a terminal can scroll


class Log(Command):
    """Shows attempts and their output."""

    name = "log"
    output = Output.VIEW
    doc_purpose = "show the attempts at an issue and the work of the last one (--events: all events)"
    doc_usage = "[MILESTONE/ISSUE] | --events [MILESTONE | MILESTONE/ISSUE ...]"
    cmd_options = (JSON_OPTION, _ATTEMPT, _BRIEF, _RAW, _EVENTS, _FOLLOW)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print it."""
        if options["events"]:
            names = [name.removeprefix("milestone:").removeprefix("issue:") for name in arguments]
            stream(open_project(), names, follow=options["follow"])
            return 0
        if len(arguments) > 1:
            raise UsageError("name one issue, for example `doit log m4/4.1`")
        project = open_project()
        compiled = compile_project(project)
        ref = compiled.ref(arguments[0].removeprefix("issue:")) if arguments else meant_issue(compiled, "log")
        milestone, issue = IssueRef.parse(ref)
        observer = observe(compiled, Refs(project.repository))
        state = observer.views[milestone].states.get(issue) or IssueState()
        attempts = [attempt for _, attempt in sorted(state.attempts.items())]
        number = options["attempt"] or state.last()
        if options["attempt"] and number not in state.attempts:
            raise UsageError(f"{ref} has no attempt {number}; it has {len(attempts)}")
        folder = project.logs(milestone, issue, number)
        if options["json"]:
            print_json({"ref": ref, "attempts": [_value(item, milestone, issue) for item in attempts]})
        elif options["brief"]:
            sys.stdout.write(_briefs(folder))
        else:
            head = _report(observer, ref, state)
            shown = state.attempts.get(number)
            on_base = state.red is not None and observer.decision(ref).reason == state.red.reason
            body = ""
            if on_base and state.red is not None:
                body = _of_base(project.state(milestone) / "logs" / "base", state.red)
            if attempts or not on_base:
                body += _raw(folder) if options["raw"] else _readable(observer, ref, attempts, shown, folder)
            sys.stdout.write("".join(f"{safe(line)}\n" for line in head) + body)
        return 0


def meant_issue(compiled: Compiled, command: str) -> str:
    """The issue that is meant when none is named: the one of the latest event.

    Raises:
        UsageError: nothing has happened yet.
    """
    refs = compiled.plan.nodes
    found = [
        (record.at, str(IssueRef(name, record.key)))
        for name in compiled.loaded.milestones
        for record in read_events(compiled.project.state(name))
        if str(IssueRef(name, record.key)) in refs
    ]
    if not found:
        example = next(iter(compiled.plan.order), "m4/4.1")
        raise UsageError(f"no issue has events yet; name one issue, for example `doit {command} {example}`")
    return max(found)[1]


def _report(observer: Observer, ref: str, state: IssueState) -> list[str]:
    """Describe the outcome of the issue: its landing, or its failure and the next step."""
    facts = observer.facts(ref)
    project = observer.compiled.project
    receipt = read_json(project.receipt(*ref.split("/", 1)))
    decision = observer.decision(ref)
    lines = [f"{ref} is {decision.status}: {decision.reason}"]
    if decision.status is Status.LANDED and isinstance(receipt, dict) and isinstance(receipt.get("report"), dict):
        return [*lines, *success_lines(receipt["report"])]
    if state.stop is not None and decision.status in {Status.REVIEW, Status.SKIPPED}:
        lines += [f"  {line}" for line in state.stop.lines]
        return [*lines, f"needed: {state.stop.needs or decision.hint}"]
    red = state.red
    if red is not None and decision.reason == red.reason:
        return [*lines, f"needed: {base_remedy(red.word, red.check, kind=red.proof)}"]
    failed = [item for item in facts.state.counted(facts.spec_key) if item.state is AttemptState.FAILED]
    return [*lines, *(failure_report(failed, facts.attempts) if failed else ())]


def _value(attempt: Attempt, milestone: str, issue: str) -> dict[str, object]:
    return {
        "number": attempt.number,
        "revision": attempt.revision,
        "state": str(attempt.state),
        "started_at": attempt.started_at,
        "seconds": attempt.seconds,
        "agent": attempt.agent,
        "runner": attempt.runner,
        "host": attempt.host,
        "kind": attempt.kind,
        "cost_usd": attempt.cost_usd if attempt.cost_known else None,
        "tokens": dict(attempt.tokens),
        "reason": attempt.reason,
        "detail": attempt.detail,
        "commit": attempt.landing or attempt.commit,
        "ref": f"{ATTEMPTS}/{milestone}/{issue}/{attempt.number}",
    }


def _readable(observer: Observer, ref: str, attempts: list[Attempt], shown: Attempt | None, folder: Path) -> str:
    """Format every attempt as one line, and one of them as a report."""
    if not attempts:
        return f"no attempt at {ref} is recorded in .cache/ or under {ATTEMPTS}\n"
    rows = [
        [
            f"attempt {item.number}",
            f"revision {item.revision}",
            f"{item.state} ({item.kind})" if item.kind else str(item.state),
            item.agent,
            f"${item.cost_usd:.4f}" if item.cost_known else "",
            local_time(item.started_at),
            item.reason or item.commit[:10],
        ]
        for item in attempts
    ]
    parts = [table(rows)] if len(attempts) > 1 else []
    if shown is not None:
        parts.append("".join(f"{safe(line)}\n" for line in _attempt(observer, ref, shown, folder)).rstrip())
        parts.append(f"complete output: doit log {ref} --attempt {shown.number} --raw")
    return "\n".join(parts) + "\n"


def _attempt(observer: Observer, ref: str, shown: Attempt, folder: Path) -> list[str]:
    milestone, issue = IssueRef.parse(ref)
    files, checks = _results(observer.compiled.project.state(milestone), issue, shown)
    sessions = _sessions(observer, ref, shown, folder)
    if checks and shown.kind == "checks" and not checks[-1].ok:
        checks[-1] = replace(checks[-1], output=shown.detail)
        return attempt_lines(shown, sessions, files, checks)
    lines = attempt_lines(shown, sessions, files, checks)
    if shown.detail and (shown.kind == "checks" or not any(item.tail or item.output.text for item in sessions)):
        title = "check that failed, reused from the same tree" if shown.kind == "checks" else "output"
        lines += [f"  {title}:", *(f"    {line}" for line in shown.detail.splitlines())]
    return lines


def _results(state: Path, issue: str, shown: Attempt) -> tuple[list[str], list[CheckRun]]:
    """Return the changes of an attempt and its checks, from the journal."""
    files: list[str] = []
    checks: list[CheckRun] = []
    current = 0
    for record in read_events(state):
        if record.key != issue:
            continue
        match record.event:
            case AttemptStarted(attempt=number):
                current = number
            case AttemptBuilt(attempt=shown.number, files=paths):
                files = list(paths)
            case Checked(check=name, ok=ok, seconds=seconds) if current == shown.number:
                checks.append(CheckRun(name, ok, seconds))
    return files, checks


def _sessions(observer: Observer, ref: str, shown: Attempt, folder: Path) -> list[Session]:
    """Return the calls of agents in an attempt, parsed by the rules of their profiles."""
    policy = observer.compiled.policy
    workflow = policy.workflow_of(observer.compiled.plan.nodes[ref].issue)
    found = []
    for log in [*sorted(folder.glob("agent*.log")), *_of_steps(folder, "agent*.log")]:
        step = log.parent.name if log.parent != folder else ""
        agent = policy.agents.get((workflow.agent_of(step) if step else None) or shown.agent)
        if agent is None:
            found.append(Session(step, AgentOutput(), _shown(log)))
            continue
        out = Path(agent.output_file.format(out=log.parent / "out")) if agent.output_file else None
        output = read_output(agent, log, out)
        found.append(Session(step, output, "" if output.events else output.noise))
    return found


def _raw(folder: Path) -> str:
    """Return the complete output of agents and checks of an attempt."""
    parts = [f"--- {path.stem} of attempt {folder.name}\n{_shown(path).rstrip()}" for path in _logs(folder)]
    parts += (
        f"--- {path.stem} of step {path.parent.name}\n{_shown(path).rstrip()}" for path in _of_steps(folder, "*.log")
    )
    return "\n".join(parts or ["the output is no longer in .cache/"]) + "\n"


def _of_base(folder: Path, red: Red) -> str:
    """Return the complete output of the check on the base, or the journal's part of it."""
    paths = [folder / f"{slug_of(red.check)}.log", folder / f"sabotaged-{slug_of(red.check)}.log"]
    path = paths[red.word == "blind"]
    if path.is_file():
        where = "a broken copy of the base" if red.word == "blind" else "the base"
        return f"--- {safe(red.check)} on {where}\n{_shown(path)}"
    lines = "".join(f"{safe(line)}\n" for line in red.detail.splitlines())
    return f"--- {red.check} on the base, its last lines\n{lines}" if lines else ""


def _briefs(folder: Path) -> str:
    """Return the brief of an attempt; for a workflow, the brief of each step."""
    steps = _of_steps(folder, "brief.md")
    if not steps:
        return _shown(folder / "brief.md")
    return "".join(f"--- brief of step {path.parent.name}\n{_shown(path)}" for path in steps)


def _logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def _of_steps(folder: Path, name: str) -> list[Path]:
    """Return files of an attempt's steps, in the order of their creation."""
    return sorted(folder.glob(f"steps/*/{name}"), key=lambda path: (path.stat().st_mtime_ns, path))


def _shown(path: Path) -> str:
    """Return the text of a file, safe for a terminal, line by line; its end if it is long."""
    try:
        data = path.read_bytes()
    except OSError:
        return "(not in .cache/)\n"
    text = data[-_SHOWN:].decode("utf-8", "replace") or "(nothing was printed)"
    return "".join(f"{safe(line.expandtabs())}\n" for line in text.splitlines())


_EVERY = 0.3  # seconds between two refreshes at a growing log; below what a person notices


def stream(project: Project, wanted: Sequence[str], *, follow: bool) -> None:
    """Print the events of these milestones or issues, or of all; then follow new ones if requested.

    Args:
        project: project with the journals.
        wanted: ids of milestones, ``m4``, and of issues, ``m4/4.1``; empty for everything.
        follow: continue until interrupted.

    Raises:
        UsageError: an unknown milestone.
        StateBrokenError: a journal is corrupt.
    """
    whole = {name for name in wanted if "/" not in name}
    names = list(dict.fromkeys(IssueRef.parse(name).milestone for name in wanted))
    for name in names:
        if not (project.milestones / f"{name}.toml").exists() and not segments(project.state(name)):
            raise UsageError(unknown_milestone(name, sorted(path.stem for path in project.milestones.glob("*.toml"))))
    tails: dict[str, Tail] = {}
    while True:
        for name in names or _journals(project):
            tails.setdefault(name, Tail(project.state(name)))
        found = [(event, name) for name, tail in tails.items() for event in tail.read()]
        found.sort(key=lambda item: item[0].at)  # stable: one milestone's stay in their order
        for event, name in found:
            if name in names and name not in whole and str(IssueRef(name, event.key)) not in wanted:
                continue
            sys.stdout.write(json.dumps(event_value(name, event)) + "\n")
        sys.stdout.flush()
        if not follow:
            return
        time.sleep(_EVERY)


def event_value(milestone: str, event: Record) -> dict[str, object]:
    """Return a record in the form of the stream."""
    return {
        "number": event.number,
        "at": event.at,
        "milestone": milestone,
        "issue": event.key,
        "event": event.kind,
        "run": event.run,
        "boot": event.boot,
        **event.data,
    }


def _journals(project: Project) -> list[str]:
    return sorted(path.name for path in project.cache.glob("[!_]*") if segments(path))


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
