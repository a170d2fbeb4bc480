"""The texts of an issue's pull request, collected from journal, verdicts and refs: its body and its comment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof, FileProof, file_problem
from executor.engine.candidate import assisted_by
from executor.forge.pull_request import (
    NOT_PROVED,
    ApprovalShown,
    Box,
    FindingShown,
    PullText,
    ReviewShown,
    StopShown,
    code,
    harmless,
    state_comment,
)
from executor.git.trailers import one_line
from executor.model.milestone import Claim
from executor.state import segments
from executor.state.events import AttemptFailed, Landed, PullChanged, Retried, Stopped
from executor.state.model import QUESTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from executor.engine.issue import IssueRun
    from executor.forge.base import Layer
    from executor.git.diff import Change, FileChange
    from executor.state.marks import Approval
    from executor.state.model import Attempt, Review, Stop
    from executor.state.record import Record

__all__ = ["history_of", "placed", "pull_text", "states_text"]

_PLACE = re.compile(r":\d+: ")
_WORD = re.compile(r"[\w.-]+")
_APPROVALS = 20  # rows; the last decisions are enough in a pull request


def pull_text(
    issue: IssueRun, attempt: Attempt, commit: str, change: Change, *, stop: Stop | None, onto: Layer | None = None
) -> PullText:
    """Collect the text of the pull request that shows an attempt.

    Args:
        issue: the issue.
        attempt: the attempt.
        commit: its commit.
        change: the change of that commit.
        stop: why it waits for a person. Without one, every check has passed on the commit's tree.
        onto: the layer of the stack that it goes on; None for the milestone branch.
    """
    declared, proofs = issue.declared, issue.proofs.items
    review = issue.state.reviews.get(attempt.number)
    return PullText(
        ref=issue.ref,
        revision=attempt.revision,
        attempt=attempt.number,
        spec_key=attempt.spec_key,
        change=change,
        title=declared.title,
        notes=attempt.notes,
        boxes=_boxes(issue, commit, review, proved=stop is None),
        checks=() if stop else tuple(item.name for item in proofs if isinstance(item, CommandProof) and item.named),
        stop=_stop_shown(issue, stop, change) if stop else None,
        review=_review_shown(issue, review),
        approvals=_approvals(issue),
        deviations=attempt.deviations,
        number=declared.number,
        assisted=assisted_by(issue, attempt.agent),
        below=onto.number if onto is not None else 0,
    )


def _boxes(issue: IssueRun, commit: str, review: Review | None, *, proved: bool) -> tuple[Box, ...]:
    """Return the acceptance criteria in order, each with its evidence."""
    proofs = [item for item in issue.proofs.items if isinstance(item, FileProof) or not item.named]
    found, waiting = [], iter(proofs)
    for item in issue.declared.accept:
        if isinstance(item, Claim):
            found.append(_claim(item.text, review))
            continue
        proof = next(waiting)
        text = f"file {code(proof.file)}" if isinstance(proof, FileProof) else code(proof.name)
        found.append(_proved(issue, commit, proof, text) if proved else Box(text, done=False, evidence=NOT_PROVED))
    return tuple(found)


def _proved(issue: IssueRun, commit: str, proof: CommandProof | FileProof, text: str) -> Box:
    """Return a criterion that holds on the result. The change proves it only if it did not hold before."""
    store = issue.session.store
    before = store.tree_of(store.parent_of(commit))
    if isinstance(proof, FileProof):
        exists = store.has_path(before, proof.file)
        held = not file_problem(proof, store.blob(before, proof.file) if exists else None, exists=exists)
        return _compared(text, held=held, was="did not match before the change, matches now")
    log = issue.run.folder / "logs" / "base" / f"accept-{proof.slug}.log"
    held = issue.run.checks.verdict_on(before, proof, log=log).ok
    return _compared(text, held=held, was="failed before the change, passes on this tree")


def _compared(text: str, *, held: bool, was: str) -> Box:
    if held:
        return Box(text, done=False, evidence=f"{NOT_PROVED}: it also passed before the change")
    return Box(text, done=True, evidence=was)


def _claim(text: str, review: Review | None) -> Box:
    """Return a criterion in words: only a reviewer's statement about exactly this one proves it."""
    shown = harmless(text)[:500]
    found = next((item for item in review.criteria if item.criterion == text), None) if review else None
    if review is None or found is None:
        return Box(shown, done=False, evidence=f"{NOT_PROVED}: no reviewer has judged it")
    word = "met" if found.met else "not met"
    return Box(shown, found.met, f"{word}, says {review.reviewer}" + (f": {found.evidence}" if found.evidence else ""))


def _review_shown(issue: IssueRun, review: Review | None) -> ReviewShown | None:
    if review is None:
        return None
    threshold = issue.session.policy.route_of(issue.declared).threshold
    findings = tuple(FindingShown(item.description, item.score, item.file, item.line) for item in review.findings)
    return ReviewShown(review.reviewer, findings, threshold)


def _approvals(issue: IssueRun) -> tuple[ApprovalShown, ...]:
    """Return everything that a person approved for the issue, oldest first; names without mail addresses."""
    found = issue.run.view.approvals.get(issue.id, ())
    return tuple(
        ApprovalShown(", ".join(item.rules), item.who.partition(" <")[0], item.why, str(item.when))
        for item in found[-_APPROVALS:]
    )


def _stop_shown(issue: IssueRun, stop: Stop, change: Change) -> StopShown:
    again = ("for another attempt", f"doit retry {issue.ref}")
    if stop.rule == QUESTION:
        return StopShown(
            stop.rule, stop.reason, "an answer", stop.lines, (("to answer it", f'doit answer {issue.ref} "..."'),)
        )
    clears = (("to clear it", f'doit approve {issue.ref} --reason "..."'), again)
    return StopShown(stop.rule, stop.reason, stop.needs, tuple(placed(stop.lines, change.files)), clears)


def placed(lines: Iterable[str], files: Iterable[FileChange]) -> Iterator[str]:
    """Yield findings; one about a whole file gets the number of the changed line that has most of its words."""
    by_path = {file.path: file for file in files}
    for line in lines:
        path, mark, rest = line.partition(": ")
        file = by_path.get(path)
        if not mark or file is None or not file.lines:
            yield line
            continue
        words = set(_WORD.findall(rest))
        kind = any(item.added for item in file.lines)
        number = max(
            (item for item in file.lines if item.added == kind),
            key=lambda item: len(words.intersection(_WORD.findall(item.text))),
        ).number
        yield f"{path}:{number}: {rest}"


def states_text(issue: IssueRun) -> str:
    """Return the comment on an issue's pull request; empty while nothing but its ordinary life has happened."""
    records = segments.read(issue.session.project.state(issue.run.name))
    history = history_of(records, issue.id, issue.run.view.approvals.get(issue.id, ()))
    return state_comment(history) if history else ""


def history_of(records: Iterable[Record], issue: str, approvals: Iterable[Approval] = ()) -> list[tuple[str, str]]:
    """Return the states of an issue's pull request, oldest first: day and time, and a sentence. Pure.

    Empty unless something has stopped, failed or waited for a person and changed since: until then, the pull request
    itself says everything. An approval, which has only a minute, follows the stop that it clears.
    """
    found: list[tuple[str, str]] = []
    clears: dict[int, frozenset[str]] = {}
    opened = answer = False
    for record in records:
        if record.key != issue or _is_superseded(record.event):
            continue
        event, text = record.event, _state(record.event)
        if isinstance(event, PullChanged):
            opened = opened or event.number > 0
            answer = answer or event.waits == "review"
            again = not event.waits and (event.state == "draft" or text in {known for _, known in found})
            text = "" if found and again else text
        answer = answer or isinstance(event, AttemptFailed | Stopped)
        if text and (not found or found[-1][1] != text):
            found.append((_minute(record.at), text))
            if isinstance(event, Stopped):
                clears[len(found)] = frozenset(event.rule.split(", "))
    for approval in reversed(tuple(approvals)):
        when = _minute(approval.when)
        places = [
            place for place, rules in clears.items() if rules & set(approval.rules) and found[place - 1][0] <= when
        ]
        place = max(places, default=sum(at <= when for at, _ in found))
        who = approval.who.partition(" <")[0]
        found.insert(place, (when, f"{who} approved {', '.join(approval.rules)}: {approval.why}"))
    return found if opened and answer and len(found) > 1 else []


def _is_superseded(event: object) -> bool:
    """Return whether an event ends an older result because another one has landed; the landing says it already."""
    return isinstance(event, AttemptFailed) and event.failure == "superseded"


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")


def _state(event: object) -> str:
    """Return what an event says about a pull request; empty if it says nothing."""
    text = ""
    match event:
        case PullChanged() if event.waits:
            text = re.sub(r"^pull request #\d+:? ", "", event.reason)
        case PullChanged(state="draft" | "open"):
            number = f"attempt {event.attempt}" if event.attempt else "a result"
            text = f"{number} is shown" + (" as a draft" if event.state == "draft" else "")
        case Stopped():
            text = f"waits for a person: {event.rule}: {event.reason}"
        case AttemptFailed():
            text = f"attempt {event.attempt} failed: {one_line(event.reason)}"
        case Retried():
            text = "another attempt is requested"
        case Landed():
            text = f"landed as {event.commit[:10]}"
    return text
