"""What the text of an issue's pull request is made of, gathered from journal, verdicts and refs."""

from __future__ import annotations

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
)
from executor.model.milestone import Claim

if TYPE_CHECKING:
    from executor.engine.issue import IssueRun
    from executor.git.diff import Change
    from executor.state.model import Attempt, Review, Stop

__all__ = ["pull_text"]

_APPROVALS = 20


def pull_text(issue: IssueRun, attempt: Attempt, commit: str, change: Change, *, stop: Stop | None) -> PullText:
    """The text of the pull request that shows an attempt.

    Args:
        issue: the issue.
        attempt: that it shows.
        commit: that it shows.
        change: what that changes.
        stop: why it waits for a person. Without one, every check has passed on the commit's tree.
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
        stop=StopShown(stop.rule, stop.reason, stop.needs, stop.lines) if stop else None,
        review=_review(issue, review),
        approvals=_approvals(issue),
        deviations=attempt.deviations,
        number=declared.number,
        assisted=assisted_by(issue, attempt.agent),
    )


def _boxes(issue: IssueRun, commit: str, review: Review | None, *, proved: bool) -> tuple[Box, ...]:
    """The acceptance criteria in their order, each with its evidence."""
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
    """A criterion that holds on the result. It is proved by the change only if it did not hold before it."""
    store = issue.session.store
    before = store.tree_of(store.parent_of(commit))
    if isinstance(proof, FileProof):
        exists = store.has_path(before, proof.file)
        held = not file_problem(proof, store.blob(before, proof.file) if exists else None, exists=exists)
        return _compared(text, held=held, was="was not as declared before the change, is now")
    log = issue.run.folder / "logs" / "base" / f"accept-{proof.slug}.log"
    held = issue.run.checks.verdict_on(before, proof, log=log).ok
    return _compared(text, held=held, was="failed before the change, passes on this tree")


def _compared(text: str, *, held: bool, was: str) -> Box:
    if held:
        return Box(text, done=False, evidence=f"{NOT_PROVED}: it passed before the change as well")
    return Box(text, done=True, evidence=was)


def _claim(text: str, review: Review | None) -> Box:
    """A criterion in words: only a reviewer who says so of exactly this one proves it."""
    shown = harmless(text)[:500]
    found = next((item for item in review.criteria if item.criterion == text), None) if review else None
    if review is None or found is None:
        return Box(shown, done=False, evidence=f"{NOT_PROVED}: no reviewer has judged it")
    word = "met" if found.met else "not met"
    return Box(shown, found.met, f"{word}, says {review.reviewer}" + (f": {found.evidence}" if found.evidence else ""))


def _review(issue: IssueRun, review: Review | None) -> ReviewShown | None:
    if review is None:
        return None
    threshold = issue.session.policy.route_of(issue.declared).threshold
    findings = tuple(FindingShown(item.description, item.score, item.file, item.line) for item in review.findings)
    return ReviewShown(review.reviewer, findings, threshold)


def _approvals(issue: IssueRun) -> tuple[ApprovalShown, ...]:
    """Everything that a person approved of about the issue, oldest first; names without their addresses."""
    found = issue.run.view.approvals.get(issue.id, ())
    return tuple(
        ApprovalShown(", ".join(item.rules), item.who.partition(" <")[0], item.why) for item in found[-_APPROVALS:]
    )
