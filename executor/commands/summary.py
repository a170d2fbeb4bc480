"""The end of a run: its exit code, recorded and printed.

Header and summary of a run: where it resumes, what it skips, the state of a complete milestone.

One table and the exact next commands at the end of a run.

The outcome of a release, and the milestones that a completed one unblocks.
"""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof
from executor.commands.base import safe, table, worse
from executor.commands.output import ago, money
from executor.commands.sessions import CODES
from executor.errors import ExecutorError, UsageError
from executor.git.refs import HANDOFFS, SETTLED, Move
from executor.model.fingerprint import IssueRef
from executor.model.hints import counted
from executor.process.files import local_time
from executor.release.criteria import next_for
from executor.state.decide import Act, Status, counts
from executor.state.events import AttemptBuilt, AttemptFailed, Landed, spend_of
from executor.state.record import How, moment
from executor.status.milestone_status import unblocked_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.commands.scheduler import Outcomes
    from executor.commands.sessions import RunRecords
    from executor.config.project import Compiled
    from executor.engine.session import Session
    from executor.model.milestone import Milestone
    from executor.release.criteria import Outcome
    from executor.state.decide import Decision
    from executor.state.record import RunRecord
    from executor.status.reader import Observer
    from executor.tasks.compile import Request

__all__ = [
    "closing",
    "finish",
    "note_on",
    "opening",
    "passed_over",
    "released",
    "settle",
    "start_of",
    "summary",
    "unblocked",
    "unshared",
]


def finish(request: Request, outcomes: Outcomes, received: list[int], records: RunRecords) -> int:
    """Record the end of the run and print its summary; returns the exit code."""
    session, wanted = request.session, request.wanted
    asked = outcomes.asked(session, wanted)
    decisions = {ref: session.decision(ref) for ref in asked}
    missing = _missing(session, asked)
    known = {ref: session.decision(ref) for ref in missing}
    code = exit_code(asked, known, missing, erred=bool(outcomes.errors))
    code = worse(code, *(item.code for item in request.releases.values()))
    if session.halted is not None:
        code = session.halted.exit_code
    if received:
        code = CODES[signal.Signals(received[0])]
    how, why = How.DONE, ""
    if session.halted is not None:
        how, why = How.HALTED, str(session.halted)
    elif received:
        how, why = How.INTERRUPTED, signal.Signals(received[0]).name
    records.end(code, how, why)
    if decisions or outcomes.errors or received:
        sys.stdout.write(summary(session, decisions, outcomes.errors, interrupted=bool(received)))
    sys.stdout.write("".join(f"{safe(line)}\n" for line in closing(session.observer, wanted)))
    sys.stdout.write("".join(released(session, item) for item in request.releases.values()))
    sys.stdout.write(unblocked(request))
    if session.halted is not None:
        sys.stderr.write(f"{safe(str(session.halted))}\n")
    return code


def settle(session: Session, problems: list[str]) -> list[str]:
    """Attest the landings; returns the problems outside of the work, each once."""
    lines = [*problems, *_attest(session), *unshared(session)]
    return lines + [message for run in session.runs() for message in run.messages]


def _attest(session: Session) -> list[str]:
    """Attest the landings of the session if the rules require it; returns the problems.

    The mark that nothing is left comes last: a run that dies before it is finished by the next one, which else would
    have nothing to do.
    """
    if not session.policy.settles:
        return []
    key, lines = session.policy.landing.attest_key, []
    if key:
        from executor.forge.attest import attest_landings

        try:
            lines = [line for run in session.runs() for line in attest_landings(run, Path(key).expanduser())]
        except ExecutorError as error:
            return [str(error)]
    marks = {f"{SETTLED}/{run.name}": run.view.tip for run in session.runs() if run.view.exists}
    before = session.refs.tips(list(marks))
    moves = [Move(name, before.get(name), tip) for name, tip in marks.items() if before.get(name) != tip]
    if moves:
        session.refs.move(moves, "settled")
    return lines


def unshared(session: Session) -> list[str]:
    """Write the verdicts that are shared at the end of a run; returns the problems."""
    shared = session.verdicts.shared()
    return shared.settle() if shared is not None else []


def _missing(session: Session, refs: Iterable[str]) -> dict[str, list[str]]:
    """Return these issues and everything that they wait for, with their needs that have not landed."""
    from executor.state.decide import Status

    found: dict[str, list[str]] = {}
    waiting = list(refs)
    while waiting:
        ref = waiting.pop()
        if ref not in found:
            needs = session.compiled.plan.nodes[ref].needs
            found[ref] = [need for need in needs if session.decision(need).status is not Status.LANDED]
            waiting += found[ref]
    return found


_MOST = 20  # names in a line; more are counted


def start_of(compiled: Compiled, wanted: Sequence[str], given: str) -> str:
    """Return the qualified id of the issue that `--from` names; empty if not given.

    Raises:
        UsageError: the issue does not exist, or its milestone is ambiguous.
    """
    if not given:
        return ""
    milestones = [name.partition(":")[2] for name in wanted if name.startswith("milestone:")]
    if len(milestones) != 1 or len(wanted) != 1:
        raise UsageError("--from needs exactly one milestone, for example `doit milestone:m4 --from 4.4`")
    ref = compiled.ref(given if "/" in given else f"{milestones[0]}/{given}")
    if IssueRef.parse(ref).milestone != milestones[0]:
        raise UsageError(f"--from {given}: {ref} is not an issue of milestone {milestones[0]}")
    return ref


def passed_over(observer: Observer, start: str) -> tuple[str, ...]:
    """Return unlanded issues before the start in their file: they are not done, and nothing waits for them."""
    name, _, first = start.partition("/")
    found = []
    for issue in observer.compiled.milestone(name).issues:
        if issue.id == first:
            break
        ref = str(IssueRef(name, issue.id))
        if observer.decision(ref).status is not Status.LANDED:
            found.append(ref)
    return tuple(found)


def opening(observer: Observer, wanted: Sequence[str], start: str, passed: Sequence[str]) -> list[str]:
    """Describe the completed issues of each requested milestone and where the run resumes."""
    return [line for name in _milestones(wanted) for line in _opening(observer, name, start, passed)]


def closing(observer: Observer, wanted: Sequence[str]) -> list[str]:
    """Return the sections of each requested milestone that is complete."""
    return [line for name in _milestones(wanted) for line in _closing(observer, name)]


def _milestones(wanted: Sequence[str]) -> list[str]:
    return [what for kind, _, what in (name.partition(":") for name in wanted) if kind == "milestone"]


def _opening(observer: Observer, name: str, start: str, passed: Sequence[str]) -> list[str]:
    milestone = observer.compiled.milestone(name)
    order = [ref for ref in observer.compiled.plan.order if IssueRef.parse(ref).milestone == name and ref not in passed]
    decisions = {ref: observer.decision(ref) for ref in order}
    landed = [
        issue.id
        for issue in milestone.issues
        if (ref := str(IssueRef(name, issue.id))) in decisions and decisions[ref].status is Status.LANDED
    ]
    rest = [ref for ref in order if decisions[ref].status is not Status.LANDED]
    if not rest:
        return []
    ready = [ref for ref in rest if decisions[ref].act is not Act.REST]
    first = start if start in rest else (ready or rest)[0]
    word = "resuming from" if landed or observer.views[name].states else "starting from"
    if not ready:
        word = "waiting at"
    lines = [f"{_titled(milestone)}, completed {_listed(landed) or 'none'}, {word} {first.partition('/')[2]}"]
    if start and start not in rest:
        lines.append(f"{start} has landed and is not changed")
    if passed:
        names = _listed([IssueRef.parse(ref).issue for ref in passed])
        lines.append(f"skipped because of --from, without blocking others: {names}")
    return lines


def _closing(observer: Observer, name: str) -> list[str]:
    milestone = observer.compiled.milestone(name)
    view = observer.views[name]
    refs = [str(IssueRef(name, issue.id)) for issue in milestone.issues]
    if not refs or any(observer.decision(ref).status is not Status.LANDED for ref in refs):
        return []
    opened = sum(item.word == "open" for state in view.states.values() for item in state.steps.values())
    checks = dict.fromkeys(item.name for ref in refs for item in observer.proofs(ref).items if _is_named(item))
    claims = sum(len(issue.accept) for issue in milestone.issues)
    proved = [issue.id for issue in milestone.issues if issue.type.lower() == "validation"]
    found = [f"checks passed: {_listed(list(checks))}"] if checks else []
    found += [f"{counted(claims, 'acceptance criterion', 'acceptance criteria')}"] if claims else []
    found += [f"end to end by {_listed(proved)}"] if proved else []
    latest = max(
        (view.landings[issue] for issue in view.handoffs if issue in view.landings),
        key=lambda landing: landing.position,
        default=None,
    )
    handoff = "none asked for"
    if latest is not None:
        handoff = f"{len(view.handoffs)}, latest: git show {HANDOFFS}/{name}/{latest.trailers.issue}:handoff.md"
    base = view.base.removeprefix("refs/heads/")
    return [
        f"{_titled(milestone)} is complete",
        f"  tasks completed  {_listed([issue.id for issue in milestone.issues])}",
        f"  gates            {f'{opened} opened, none held' if opened else 'none declared'}",
        f"  validation       {', '.join(found) or 'none declared'}",
        f"  handoff          {handoff}",
        f"  ready for PR     {milestone.branch} -> {base}: doit release:{name}",
    ]


def _titled(milestone: Milestone) -> str:
    name = milestone.id.upper() if re.fullmatch(r"m[0-9.]+", milestone.id) else milestone.id
    count = len(milestone.issues)
    return f"{name} - {milestone.title} ({counted(count, 'task')})"


def _is_named(item: object) -> bool:
    return isinstance(item, CommandProof) and item.named


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST
    return " ".join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")


_MOST_LANDED = 20  # lines; about a screen, what has not landed is always shown
_WIDEST = 36  # columns of a title, so that a line fits into 80
_FOR_PERSONS = frozenset({Status.FAILED, Status.SKIPPED, Status.REVIEW})
_PLACES = {
    status: place
    for place, status in enumerate(
        (
            *(Status.LANDED, Status.STALE, Status.OPEN, Status.RUNNING, Status.PENDING, Status.BLOCKED),
            *(Status.REVIEW, Status.SKIPPED, Status.FAILED),
        )
    )
}
"""Statuses in display order: those that need a person come last, where they are seen."""


def summary(
    session: Session, decisions: Mapping[str, Decision], errors: Mapping[str, str], *, interrupted: bool
) -> str:
    """Return landings of this run, unlanded issues with the next step, and totals."""
    spent = _spent(session)
    rest = {ref: decision for ref, decision in decisions.items() if decision.status is not Status.LANDED}
    landed = [ref for ref in decisions if ref not in rest and ref in spent and spent[ref].landed]
    shown = [*landed[:_MOST_LANDED], *sorted(rest, key=lambda ref: _PLACES[rest[ref].status])]
    plan = session.compiled.plan
    rows = [
        [
            str(decisions[ref].status),
            ref,
            _short(plan.nodes[ref].issue.title),
            ago(spent[ref].seconds) if ref in spent else "",
            money(spent[ref].cost) if ref in spent and spent[ref].cost else "",
            "" if ref in rest else decisions[ref].reason,
        ]
        for ref in shown
    ]
    lines = [""]
    for ref, line in zip(shown, table(rows).splitlines(), strict=True):
        lines.append(line)
        if ref in rest:
            lines.append(safe(f"{'':<9}{decisions[ref].reason}"))
            lines.append(safe(f"{'':<9}next: {_next(ref, decisions)}"))
    if len(landed) > _MOST_LANDED:
        lines.insert(1 + _MOST_LANDED, f"landed   {len(landed) - _MOST_LANDED} more in this run")
    for name, problem in errors.items():
        lines.append(safe(f"error in {name}: {' '.join(problem.split())}"))
    found = counts(str(decision.status) for decision in decisions.values())
    lines += [""] if len(lines) > 1 else []
    lines += [", ".join(f"{count} {status}" for status, count in found.items())] if found else []
    for branch in dict.fromkeys(session.compiled.milestone(IssueRef.parse(ref).milestone).branch for ref in decisions):
        lines.append(f"branch {branch}")
    cost = sum(item.cost for item in spent.values())
    lines.append(f"this run: {len(landed)} landed in {ago(_elapsed(session))}, cost {money(cost)}")
    if interrupted:
        lines.append("interrupted; the next run continues from here")
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class _Spent:
    """Work of this run on one issue."""

    seconds: float = 0.0
    cost: float = 0.0
    landed: bool = False


def _spent(session: Session) -> dict[str, _Spent]:
    found: dict[str, _Spent] = {}
    for run in session.runs():
        for event in run.journal.events:
            if event.run == session.run_id and event.key:
                item = found.setdefault(str(IssueRef(run.name, event.key)), _Spent())
                fact = event.event
                item.seconds += fact.seconds if isinstance(fact, AttemptBuilt | AttemptFailed) else 0.0
                item.cost += spend_of(event.data).cost_usd or 0.0
                item.landed = item.landed or isinstance(fact, Landed)
    return found


def _elapsed(session: Session) -> float:
    """Return the seconds between the first and the last record of this run."""
    times = [moment(event.at) for run in session.runs() for event in run.journal.events if event.run == session.run_id]
    return max(times, default=0.0) - min(times, default=0.0)


def _next(ref: str, decisions: Mapping[str, Decision]) -> str:
    """Return the exact command that advances an issue, or its precondition."""
    decision = decisions[ref]
    if decision.status in _FOR_PERSONS and decision.hint:
        return f"doit log {ref}, then {decision.hint}"
    if decision.status is Status.BLOCKED and decision.hint:
        need = decision.hint.removeprefix("doit issue:")
        if need == ref:
            return f"doit log {ref} shows the failure on the branch; then {decision.hint}"
        if need in decisions and decisions[need].status is not Status.PENDING:
            return f"none; it continues when {need} has landed"
    return decision.hint or f"doit milestone:{ref.partition('/')[0]}"


def _short(title: str) -> str:
    return title if len(title) <= _WIDEST else f"{title[: _WIDEST - 3]}..."


def released(session: Session, outcome: Outcome) -> str:
    """Format the criteria of a release as a table, with the steps done or the next step."""
    rows = [[str(item.met), item.kind, item.name, item.reason] for item in outcome.criteria]
    shown = f"{table(rows)}\n\n" if rows else ""
    name = outcome.milestone
    if outcome.code:
        lacking = sum(item.holds_back for item in outcome.criteria)
        todo = next_for(outcome.criteria, name, session.compiled.milestone(name).branch)
        return f"{shown}{name} is not released: {lacking} of {len(rows)} criteria are not met\nnext: {safe(todo)}\n"
    base = session.observer.views[name].base.removeprefix("refs/heads/")
    done = "".join(f"{name}: {safe(line)}\n" for line in outcome.done)
    return f"{shown}{done}{name} is released to {base}\n"


def unblocked(request: Request) -> str:
    """Return the milestones that can start now because a milestone of this run is complete."""
    session = request.session
    refused = {name for name, outcome in request.releases.items() if outcome.code}
    names = dict.fromkeys(word.partition(":")[2].partition("/")[0] for word in request.wanted)
    needed = {need for milestone in session.compiled.loaded.milestones.values() for need in milestone.needs}
    lines = []
    for name in [name for name in names if name in needed - refused]:
        for other in unblocked_now(session.observer, name):
            title = session.compiled.milestone(other).title
            lines.append(f"{name} is complete: {other} ({safe(title)}) can continue: doit milestone:{other}\n")
    return "".join(dict.fromkeys(lines))


def note_on(record: RunRecord, milestone: str) -> str:
    """Format the note at the start of a run that follows an interrupted one."""
    why = f" ({record.why})" if record.why else ""
    flying = ", ".join(f"{milestone}/{issue} (attempt {number})" for issue, number in record.in_flight.items())
    at_work = f"; it was working on {flying}" if flying else "; no issue was in progress"
    return (
        f"the run of {local_time(record.started)} by {record.user} on {record.host} "
        f"(process {record.pid}) {_ENDED[record.how]}{why}{at_work}"
    )


_ENDED = {
    How.DIED: "died",
    How.INTERRUPTED: "was interrupted",
    How.HALTED: "was halted",
    How.ERROR: "was ended by an error",
}


def exit_code(
    asked: Iterable[str], decisions: Mapping[str, Decision], missing: Mapping[str, Sequence[str]], *, erred: bool
) -> int:
    """Return 0: all landed; 1: a failure or skip; 2: an executor error; 75: time helps; 4: a person is needed.

    Args:
        asked: the requested issues, in plan order.
        decisions: their decisions, and those of everything that they wait for.
        missing: unlanded needs of each of those.
        erred: the executor itself had an error.
    """
    if erred:
        return 2
    asked = list(asked)
    statuses = {decisions[ref].status for ref in asked}
    if statuses & {Status.FAILED, Status.SKIPPED}:
        return 1
    if statuses <= {Status.LANDED}:
        return 0
    return 75 if all(_time_helps(ref, decisions, missing) for ref in asked) else 4


def _time_helps(ref: str, decisions: Mapping[str, Decision], missing: Mapping[str, Sequence[str]]) -> bool:
    """Return whether time alone lets an issue continue, and everything that it waits for."""
    waiting, seen = [ref], {ref}
    while waiting:
        current = waiting.pop()
        decision = decisions[current]
        if decision.status is Status.LANDED or (decision.wait is not None and decision.wait.by_time):
            continue
        needs = missing[current] if decision.status is Status.BLOCKED else ()
        if not needs and (decision.status is not Status.OPEN or decision.wait is not None):
            return False  # open is what a forge has to check or to merge
        waiting.extend(need for need in needs if need not in seen)
        seen.update(needs)
    return True
