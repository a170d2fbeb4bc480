"""A person's decisions, stored in git as commits under refs.

`doit accept m4/4.3`: keep landed work under a changed spec, or count work that the base has already. Stored as a ref,
so it outlives `.cache/`.

`doit answer m4/4.3 "..."`: answer a question of an agent; stored as a ref, and part of the spec.

`doit approve m4/4.3 --reason "..."`: clear a stop for exactly this change; stored as a ref.

`doit retry m4/4.3`: clear a skipped or failed issue, so the next run tries it again.

`doit pause m4`, `doit unpause m4`: start nothing of a milestone until it is unpaused. Stored as a ref.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, REASON_OPTION, Command, Options, option, print_json, safe
from executor.config.project import compile_project, open_project, prepare_cache, unknown_milestone
from executor.errors import ExecutorError, UsageError
from executor.git.checkout import identity_of
from executor.git.diff import parse_diff
from executor.git.objects import Store
from executor.git.refs import ACCEPTED, ANSWERS, APPROVED, MERGED, Move, Refs
from executor.git.trailers import UNPROVED, Trailers, encode, one_line
from executor.model.fingerprint import IssueRef, consents
from executor.state.decide import Status
from executor.state.events import Retried
from executor.state.journal import Journal
from executor.state.marks import AcceptedTrailers, Answer, AnswersTrailers, Approval, ApprovedTrailers, PausedTrailers
from executor.state.model import DONE_ALREADY, QUESTION
from executor.status.milestone_status import PAUSED
from executor.status.reader import observe
from executor.status.summary_cache import index_of

if TYPE_CHECKING:
    from executor.config.project import Project
    from executor.git.command import Identity
    from executor.state.model import Stop
    from executor.status.reader import Observer
    from executor.status.rows import MilestoneRow

__all__ = ["Accept", "AnswerCommand", "Approve", "Pause", "Retry", "Unpause", "keep_mark"]


def keep_mark(
    project: Project, refs: Refs, who: Identity, name: str, *, on: str, message: str, what: str, adding: bool
) -> None:
    """Store a commit with this message and the tree of `on` under the ref; `adding` makes the old commit its parent.

    Args:
        project: the project.
        refs: refs of its repository.
        who: the person who decides.
        name: full name of the ref.
        on: the commit of the decision.
        message: message of the commit.
        what: reason for the ref's reflog.
        adding: keep the person's earlier decision as the parent.

    Raises:
        ExecutorError: another process moved the ref meanwhile.
    """
    before = refs.tip(name)
    store = Store(project.repository, project.cache / "_store")
    parent = before if adding and before else on
    commit = store.commit(store.tree_of(on), [parent], message, who, int(time.time()))
    store.close()
    if not refs.move([Move(name, before, commit)], what):
        raise ExecutorError(f"{name} was changed by another process at the same time; try again")


class Accept(Command):
    """Records that a person accepts the landed work."""

    name = "accept"
    doc_purpose = "keep landed work under a changed spec, or count work that the base already has"
    doc_usage = "MILESTONE/ISSUE ..."
    cmd_options = (REASON_OPTION,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Record it for each named issue."""
        if not arguments:
            raise UsageError("name an issue, for example `doit accept m4/4.3`")
        project = open_project()
        compiled = compile_project(project)
        names = [compiled.ref(name.removeprefix("issue:")) for name in arguments]
        prepare_cache(project)
        who = identity_of(project.repository)
        refs = Refs(project.repository, who)
        observer = observe(compiled, refs)
        for ref in names:
            self._accept(project, observer, refs, who, ref, options["reason"])
        return 0

    def _accept(self, project: Project, observer: Observer, refs: Refs, who: Identity, ref: str, reason: str) -> None:
        facts = observer.facts(ref)
        landing, stop = facts.landing, facts.state.stop
        if landing is None and stop is not None and stop.rule == DONE_ALREADY and stop.lines:
            _count_as_landed(project, observer, refs, who, ref, stop.lines[0])
            return
        if landing is None:
            raise UsageError(f"{ref} has not landed; there is nothing to accept")
        if facts.spec_key == landing.trailers.spec_key or facts.spec_key in facts.accepted:
            raise UsageError(f"{ref} has landed with the current spec; there is nothing to accept")
        milestone, issue = IssueRef.parse(ref)
        message = (
            f"accept {ref} under a changed spec\n\n{one_line(reason)}\n\n"
            f"{encode(AcceptedTrailers(milestone, issue, landing.commit, (facts.spec_key,)))}\n"
        )
        name = f"{ACCEPTED}/{ref}"
        keep_mark(project, refs, who, name, on=landing.commit, message=message, what=f"accept {ref}", adding=False)
        sys.stdout.write(f"{ref} stays landed as {landing.commit[:10]} under the current spec\n")


def _count_as_landed(project: Project, observer: Observer, refs: Refs, who: Identity, ref: str, commit: str) -> None:
    """Record a commit of the base as the landing of an issue; the next run verifies it."""
    milestone, issue = IssueRef.parse(ref)
    store = Store(project.repository, project.cache / "_store")
    key = parse_diff(store.diff(f"{commit}^", commit)).key
    store.close()
    trailers = Trailers(milestone, issue, 1, observer.facts(ref).spec_key, key, UNPROVED, landing=commit)
    message = f"{ref} landed as {commit[:10]}\n\n{encode(trailers)}\n"
    name = f"{MERGED}/{ref}/1"
    keep_mark(project, refs, who, name, on=commit, message=message, what=f"accept {ref}", adding=False)
    sys.stdout.write(f"{ref} counts as landed with {commit[:10]}; the next run verifies it: doit issue:{ref}\n")


_MOST = 20_000  # characters; an answer goes into every later brief of the issue


class AnswerCommand(Command):
    """Records a person's answer; the next attempt receives it."""

    name = "answer"
    doc_purpose = "answer an agent's question about an issue"
    doc_usage = 'MILESTONE/ISSUE "ANSWER"'

    def run(self, _options: Options, arguments: list[str]) -> int:
        """Record it."""
        if len(arguments) < 2:  # noqa: PLR2004  (issue and answer)
            raise UsageError('name the issue and the answer, for example `doit answer m4/4.3 "Use UTC."`')
        project = open_project()
        compiled = compile_project(project)
        ref = compiled.ref(arguments[0].removeprefix("issue:"))
        text = " ".join(arguments[1:]).strip()
        if not text or len(text) > _MOST:
            raise UsageError(f"expected an answer of 1 to {_MOST} characters, found {len(text)}")
        who = identity_of(project.repository)
        refs = Refs(project.repository, who)
        observer = observe(compiled, refs)
        decision, facts = observer.decision(ref), observer.facts(ref)
        stop = facts.state.stop
        if decision.status is not Status.REVIEW or stop is None or stop.rule != QUESTION:
            raise UsageError(f"{ref} is {decision.status} and has no open question; see `doit explain {ref}`")
        prepare_cache(project)
        milestone, issue = IssueRef.parse(ref)
        view = observer.views[milestone]
        question = "\n".join(stop.lines) or stop.reason
        answers = (*view.answers.get(issue, ()), Answer(question, text))
        message = f"answer to {ref}\n\n{encode(AnswersTrailers(milestone, issue, stop.attempt, answers))}\n"
        name = f"{ANSWERS}/{ref}"
        keep_mark(project, refs, who, name, on=view.tip, message=message, what=f"answer {ref}", adding=True)
        sys.stdout.write(f"{ref} is answered; the next attempt gets the answer: doit issue:{ref}\n")
        return 0


_SHOW = option("show", "only show the change that would be approved", bool)


class Approve(Command):
    """Records that a person approves a change that a rule stopped."""

    name = "approve"
    doc_purpose = "clear a stop for exactly this change (--show: show it first)"
    doc_usage = "MILESTONE/ISSUE"
    cmd_options = (REASON_OPTION, _SHOW, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Record it, or show why the issue was stopped."""
        if len(arguments) != 1:
            raise UsageError('name one issue, for example `doit approve m4/4.3 --reason "..."`')
        project = open_project()
        compiled = compile_project(project)
        ref = compiled.ref(arguments[0].removeprefix("issue:"))
        who = identity_of(project.repository)
        refs = Refs(project.repository, who)
        observer = observe(compiled, refs)
        facts, decision = observer.facts(ref), observer.decision(ref)
        stop = facts.state.stop
        if decision.status not in {Status.REVIEW, Status.SKIPPED} or stop is None:
            raise UsageError(f"{ref} is {decision.status}, expected review or skipped; there is nothing to approve")
        if not stop.bound:
            raise UsageError(f"{ref} was stopped by {stop.rule}, which has no change to approve; `doit retry {ref}`")
        if options["show"]:
            _show(ref, stop, as_json=options["json"])
            return 0
        if not one_line(options["reason"]):
            raise UsageError(f'--reason is missing: doit approve {ref} --reason "..."; `--show` shows what stopped it')
        prepare_cache(project)
        milestone, issue = IssueRef.parse(ref)
        view = observer.views[milestone]
        tokens = consents(stop.bound, stop.rules)
        approval = Approval(
            rules=tuple(sorted(stop.rules)),
            tokens=tuple(sorted(tokens)),
            who=f"{who.name} <{who.email}>",
            when=datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
            why=one_line(options["reason"]),
        )
        given = (*view.approvals.get(issue, ()), approval)
        kept = ApprovedTrailers(milestone, issue, stop.rule, tuple(sorted({*facts.approved, *tokens})), given)
        message = f"approve {ref}: {stop.rule}\n\n{one_line(options['reason'])}\n\n{encode(kept)}\n"
        name = f"{APPROVED}/{ref}"
        keep_mark(project, refs, who, name, on=view.tip, message=message, what=f"approve {ref}", adding=True)
        sys.stdout.write(f"{ref} is cleared of {stop.rule} for exactly this change: doit issue:{ref}\n")
        return 0


def _show(ref: str, stop: Stop, *, as_json: bool) -> None:
    if as_json:
        value = {
            "ref": ref,
            "level": stop.level,
            "rule": stop.rule,
            "reason": stop.reason,
            "needs": stop.needs,
            "lines": list(stop.lines),
            "attempt": stop.attempt,
            "bound": stop.bound,
        }
        print_json(value)
        return
    lines = [f"{ref} was stopped by {stop.rule}: {stop.reason}", *(f"  {line}" for line in stop.lines)]
    if stop.needs:
        lines.append(f"needed: {stop.needs}")
    if stop.attempt:
        lines.append(f"the change: git show refs/attempts/{ref}/{stop.attempt}")
    sys.stdout.write("".join(f"{safe(line)}\n" for line in lines))


class Retry(Command):
    """Restores the attempts of an issue."""

    name = "retry"
    doc_purpose = "clear a skipped, failed or reverted issue; the next run tries it again"
    doc_usage = "MILESTONE/ISSUE ..."
    cmd_options = (REASON_OPTION,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Record it."""
        from executor.engine.session import hold
        from executor.state.record import now

        if not arguments:
            raise UsageError("name at least one issue, for example `doit retry m4/4.3`")
        project = open_project()
        compiled = compile_project(project)
        prepare_cache(project)
        refs = [compiled.ref(name.removeprefix("issue:")) for name in arguments]
        observer = observe(compiled, Refs(project.repository))
        for ref in refs:
            status = observer.decision(ref).status
            if status not in {Status.FAILED, Status.SKIPPED, Status.REVIEW} and not observer.facts(ref).reverted:
                raise UsageError(
                    f"{ref} is {status}, expected failed, skipped, review or reverted; there is nothing to retry"
                )
        for name in dict.fromkeys(IssueRef.parse(ref).milestone for ref in refs):
            lock = hold(project, name, "retry")
            try:
                journal = Journal.open(project.state(name), run="retry", now=now)
                for ref in refs:
                    if IssueRef.parse(ref).milestone == name:
                        issue = IssueRef.parse(ref).issue
                        state = observer.views[name].states.get(issue)
                        last = state.last() if state is not None else 0
                        journal.record(Retried(reason=options["reason"], after=last), issue)
                        _revived(project, observer, ref)
                journal.close()
            finally:
                lock.release()
        sys.stdout.write("".join(f"{ref} will be tried again: doit issue:{ref}\n" for ref in refs))
        return 0


def _revived(project: Project, observer: Observer, ref: str) -> None:
    """Request that reverted work lands again, if the person wants that."""
    from executor.engine.recover import revive

    if not observer.facts(ref).reverted:
        return
    who = identity_of(project.repository)
    store = Store(project.repository, project.cache / "_store")
    try:
        revive(observer, Refs(project.repository, who), store, who, ref)
    finally:
        store.close()


class Pause(Command):
    """Pauses milestones; a run in progress finishes its current work and starts nothing more."""

    name = "pause"
    doc_purpose = "start no more issues of a milestone until `doit unpause`"
    doc_usage = "MILESTONE ..."
    cmd_options = (REASON_OPTION,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Record it."""
        project = open_project()
        for item in _named(project, arguments, "pause"):
            if item["pause"] is not None:
                sys.stdout.write(f"{item['id']} is already paused since {safe(item['pause'][0])}\n")
                continue
            if item["status"] == "released":
                raise UsageError(f"{item['id']} is released; there is nothing to pause")
            held = item["status"] == "in progress" and item["reason"].startswith("is being run")
            _mark(project, item["id"], item["start"], one_line(options["reason"]))
            after = "; the active run finishes the issues that it has started" if held else ""
            sys.stdout.write(f"{item['id']} is paused{after}; continue with: doit unpause {item['id']}\n")
        return 0


class Unpause(Command):
    """Unpauses milestones."""

    name = "unpause"
    doc_purpose = "continue a paused milestone"
    doc_usage = "MILESTONE ..."

    def run(self, _options: Options, arguments: list[str]) -> int:
        """Remove the mark."""
        project = open_project()
        refs = Refs(project.repository, identity_of(project.repository))
        for item in _named(project, arguments, "unpause"):
            name = f"{PAUSED}/{item['id']}"
            tip = refs.tip(name)
            if tip is None:
                sys.stdout.write(f"{item['id']} is not paused\n")
            elif not refs.move([Move(name, tip, None)], f"unpause {item['id']}"):
                raise ExecutorError(f"{name} was changed by another process at the same time; try again")
            else:
                sys.stdout.write(f"{item['id']} is no longer paused: doit milestone:{item['id']}\n")
        return 0


def _named(project: Project, arguments: list[str], command: str) -> list[MilestoneRow]:
    if not arguments:
        raise UsageError(f"name at least one milestone, for example `doit {command} m4`")
    index = index_of(project)
    found = []
    for name in arguments:
        item = index.milestone(name.removeprefix("milestone:"))
        if item is None:
            raise UsageError(unknown_milestone(name, [item["id"] for item in index.milestones]))
        found.append(item)
    return found


def _mark(project: Project, milestone: str, commit: str, reason: str) -> None:
    prepare_cache(project)
    who = identity_of(project.repository)
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    message = f"pause {milestone}\n\n{encode(PausedTrailers(milestone, since, reason))}\n"
    refs = Refs(project.repository, who)
    name, what = f"{PAUSED}/{milestone}", f"pause {milestone}"
    keep_mark(project, refs, who, name, on=commit, message=message, what=what, adding=False)
