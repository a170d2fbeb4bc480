"""Publish: a result as a branch on the remote and, on a forge, as a pull request. Created or adopted, never duplicated.

The branch moves only from its expected commit, and only while it has no commit by others. The texts of the pull request
are collected from journal, verdicts and refs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof, FileProof, file_problem
from executor.engine.candidate import assisted_by
from executor.errors import ForgeRefusedError, GitError
from executor.forge.base import MovesPulls, NewPull
from executor.forge.connect import forge_of
from executor.forge.pull_request import (
    NOT_PROVED,
    STATE,
    Box,
    PullRequest,
    PullText,
    StopShown,
    body_of,
    code,
    harmless,
    history_of,
    merged_body,
    read_mark,
    state_comment,
    title_digest,
    title_of,
)
from executor.git.diff import Change, parse_diff
from executor.git.refs import Move
from executor.git.trailers import AttemptTrailers, decode, parse_trailers
from executor.model.milestone import Claim, branch_of, branch_prefixes
from executor.state import segments
from executor.state.events import PullChanged
from executor.state.model import QUESTION, AttemptState, Pull

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from executor.engine.issue import IssueRun
    from executor.forge.base import Layer
    from executor.git.diff import FileChange
    from executor.state.model import Attempt, Review, Stop

__all__ = ["Publication", "placed"]


_TRIES = 3  # tries; somebody else may move the branch in between
_UNSHOWN = frozenset({"secrets"})
"""Rules whose findings must not leave this machine."""


class Publication:
    """Shows the results of one issue on the remote and its forge."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def show_stopped(self, attempt: Attempt, change: Change) -> None:
        """Show a result that waits for a person as a draft, unless the reason requires it to stay local."""
        stop = self._issue.state.stop
        if self._session.remote is None or stop is None or stop.attempt != attempt.number or stop.level != "hard":
            return
        if stop.rules & _UNSHOWN:
            self._run.warn(f"{self._issue.ref}: its result was not pushed, because {stop.rule} stopped it")
            return
        self.publish(attempt, attempt.commit, change, stop=stop)

    def show_waiting(self) -> None:
        """Show what waits for a person, a stopped result or the work so far of a question, if it is not shown yet."""
        state = self._run.view.states.get(self._issue.id)
        stop = state.stop if state is not None else None
        if self._session.remote is None or state is None or stop is None or stop.attempt not in state.attempts:
            return
        attempt, seen = state.attempts[stop.attempt], state.pull
        if not attempt.commit or (attempt.state is not AttemptState.BUILT and stop.rule != QUESTION):
            return
        if seen is not None and (seen.waits or self._is_shown(seen, attempt)):
            return
        change = parse_diff(self._session.store.diff(f"{attempt.commit}^", attempt.commit))
        self.show_stopped(attempt, change)

    def _is_shown(self, pull: Pull, attempt: Attempt) -> bool:
        return pull.commit == attempt.commit and (pull.number > 0 or forge_of(self._session).kind == "local")

    def publish(
        self, attempt: Attempt, commit: str, change: Change, *, stop: Stop | None = None, onto: Layer | None = None
    ) -> PullRequest | None:
        """Push a result and open or update its pull request; None if there is none, or others use the branch.

        Args:
            attempt: the attempt with the result.
            commit: the commit to push.
            change: the change of the commit.
            stop: why it waits for a person; then it is a draft. Without, every check has passed on its tree.
            onto: the layer of the stack that it goes on; None for the milestone branch.
        """
        if self._session.remote is None:
            return None
        self._withdraw_older(attempt, commit)
        if not self._push(attempt, commit):
            return None
        if forge_of(self._session).kind == "local":
            return None
        text = pull_text(self._issue, attempt, commit, change, stop=stop, onto=onto)
        rules = self._session.policy.forge
        base = self._run.milestone.branch if onto is None else onto.head
        title = title_of(self._issue.declared, self._run.name, rules, attempt.revision)
        body = body_of(text, title)
        pull = self._open_pull(attempt)
        if pull is None:
            new = NewPull(self.head_of(attempt), base, title, body, draft=stop is not None)
            pull = forge_of(self._session).open(new)
        if pull.base != base:
            forge = forge_of(self._session)
            if not isinstance(forge, MovesPulls) or not self.may_go_to(pull.base):
                self.wait_for_person(pull, f"it targets {pull.base}, expected {base}; restore its base")
                return None
            pull = forge.retarget(forge.withdraw(pull) if onto is not None else pull, base)
        known = read_mark(pull.body).get("title")
        pull = forge_of(self._session).update(
            pull,
            title=title if known is None or known == title_digest(pull.title) else None,
            body=merged_body(body, pull.body),
            draft=stop is not None,
            labels=rules.labels,
        )
        self.record_pull(pull, commit, attempt=attempt.number)
        return pull

    def may_go_to(self, base: str) -> bool:
        """Return whether a pull request goes to a branch because it is in a stack, not because a person changed it."""
        seen, run = self._issue.state.pull, self._run
        stacked = run.policy.forge.stack and base.startswith(branch_prefixes(run.milestone.issues, run.name))
        return stacked or base == run.milestone.branch or (seen is not None and base == seen.base)

    def head_of(self, attempt: Attempt) -> str:
        """Return the short name of the branch of a result."""
        return branch_of(self._issue.declared, self._run.name, attempt.revision)

    def record_pull(
        self,
        pull: PullRequest | None,
        commit: str,
        *,
        head: str = "",
        state: str = "",
        waits: str = "",
        why: str = "",
        attempt: int = 0,
    ) -> None:
        """Journal the state of an issue's pull request if it has changed; omitted values stay unchanged."""
        issue = self._issue.id
        folded = self._run.view.states.get(issue)
        before = folded.pull if folded else None
        if before is not None and head and before.head != head:
            before = None
        old = before or Pull(0, "", "", head, "")
        word = ("draft" if pull.draft and pull.state == "open" else pull.state) if pull else ""
        new = replace(
            old,
            number=pull.number if pull else old.number,
            state=state or word or old.state,
            url=pull.url if pull else old.url,
            head=pull.head if pull else (head or old.head),
            commit=commit,
            waits=waits,
            reason=why,
            attempt=attempt or old.attempt,
            base=("" if pull.base == self._run.milestone.branch else pull.base) if pull else old.base,
        )
        if new != old or waits:
            merged = new.state == "merged"
            if merged:
                self.tell_states()  # nothing looks at it again once this is on record
            self._run.record(_event_of(new), issue)
            if not merged:
                self.tell_states()

    def tell_states(self) -> None:
        """Update the single comment that lists the states of the pull request; none until a stop, failure or wait."""
        state = self._run.view.states.get(self._issue.id)
        pull = state.pull if state is not None else None
        forge = forge_of(self._session)
        if pull is None or not pull.number or forge.kind == "local":
            return
        text = states_text(self._issue)
        if not text:
            return
        try:
            forge.comment(
                PullRequest(pull.number, pull.state, draft=False, head=pull.head, sha="", base=""), STATE, text
            )
        except ForgeRefusedError as error:
            self._run.warn(f"{self._issue.ref}: pull request #{pull.number} has no comment about its state: {error}")

    def wait_for_person(self, pull: PullRequest | None, why: str, *, head: str = "") -> None:
        """Hold the issue until a person has changed its pull request or branch."""
        state = self._issue.state
        text = f"pull request #{pull.number}: {why}" if pull else why
        commit = state.pull.commit if state.pull else ""
        self.record_pull(pull, commit, head=head, waits="review", why=text)

    def is_free(self) -> bool:
        """Return whether its branch and pull request permit the issue to continue."""
        state = self._run.view.states.get(self._issue.id)
        return state is None or state.pull is None or not state.pull.waits or state.pull.run != self._session.run_id

    def is_ours(self, commit: str) -> bool:
        """Return whether a remote commit is an unmodified commit of the executor.

        Its message then has the result key of its own change, which only the executor computes.
        """
        state = self._run.view.states.get(self._issue.id)
        if state is not None:
            known = {attempt.commit for attempt in state.attempts.values()}
            if commit in known or (state.pull is not None and commit == state.pull.commit):
                return True
        store, refs = self._session.store, self._session.refs
        try:
            found = refs.trailers(commit)
            trailers, asked = parse_trailers(found), decode(AttemptTrailers, found)
            answer = trailers or asked
            if answer is None or (answer.milestone, answer.issue) != (self._run.name, self._issue.id):
                return False
            text = store.diff(f"{commit}^", commit)
            if trailers is None:
                return asked is not None and asked.outcome == QUESTION and parse_diff(text).key == asked.change_key
            return not text or parse_diff(text).key == trailers.result_key
        except GitError:
            return False

    def _push(self, attempt: Attempt, commit: str) -> bool:
        """Push the branch; returns whether the remote's is at that commit."""
        remote = self._session.remote
        head = self.head_of(attempt)
        name = f"refs/heads/{head}"
        for _ in range(_TRIES):
            if remote is None:
                return False
            there = remote.tips(name).get(name)
            if there == commit:
                return True
            if there is not None:
                remote.fetch(name)
                if not self.is_ours(there):
                    who = self._session.refs.author_of(there)
                    why = (
                        f"the branch {head} has a commit of {who} ({there[:10]}) and is not changed; merge it, or "
                        "delete it"
                    )
                    self.wait_for_person(None, why, head=head)
                    return False
            self.record_pull(None, commit, head=head, attempt=attempt.number)
            done = remote.push([Move(name, there, commit)])
            if done.ok:
                return True
            if not done.moved:
                self.wait_for_person(None, f"the branch {head} cannot be pushed: {done.reason}", head=head)
                return False
        raise ForgeRefusedError(f"{self._issue.ref}: the branch {head} is being moved on the remote by another process")

    def _withdraw_older(self, attempt: Attempt, commit: str) -> None:
        """Before another commit is pushed, keep the forge from merging the one that the pull request still shows."""
        seen = self._issue.state.pull
        if forge_of(self._session).kind == "local" or seen is None or not seen.number or seen.commit == commit:
            return
        for pull in forge_of(self._session).find(self.head_of(attempt)):
            if pull.state == "open" and pull.sha != commit:
                forge_of(self._session).withdraw(pull)

    def _open_pull(self, attempt: Attempt) -> PullRequest | None:
        """Return the open pull request of the branch; the oldest if there are several."""
        found = [pull for pull in forge_of(self._session).find(self.head_of(attempt)) if pull.state == "open"]
        if len(found) > 1:
            others = ", ".join(f"#{pull.number}" for pull in found[1:])
            self._run.warn(
                f"{self._issue.ref}: pull request #{found[0].number} is used; {others} of the same branch should be "
                "closed"
            )
        return found[0] if found else None


def _event_of(pull: Pull) -> PullChanged:
    return PullChanged(
        number=pull.number,
        state=pull.state,
        url=pull.url,
        head=pull.head,
        commit=pull.commit,
        waits=pull.waits,
        reason=pull.reason,
        attempt=pull.attempt,
        base=pull.base,
    )


_WORD = re.compile(r"[\w.-]+")


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
        review=review,
        threshold=issue.session.policy.route_of(issue.declared).threshold,
        approvals=issue.run.view.approvals.get(issue.id, ()),
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
