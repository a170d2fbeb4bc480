"""Reconcile: what the forge's pull requests mean for the issues of a milestone. One pure function, one table.

Changes by others on the forge and the remote are taken over at the start of a run, and on request.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from executor.engine.issue import IssueRun
from executor.engine.landing.milestone_branch import RemoteBranch
from executor.errors import ForgeRefusedError
from executor.forge.base import LinksIssues, MovesPulls
from executor.forge.connect import forge_of
from executor.forge.merge import Merging
from executor.forge.publish import Publication
from executor.forge.pull_request import PullRequest, read_mark, title_digest
from executor.git.refs import Move, attempt_ref
from executor.git.trailers import parse_trailers
from executor.model.fingerprint import IssueRef
from executor.model.milestone import branch_of, branch_prefixes
from executor.state.fold import with_git_attempts
from executor.state.model import Attempt, AttemptState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session
    from executor.state.model import Pull

__all__ = ["Finding", "ForgePatience", "Known", "Meaning", "Reconciliation", "reconcile"]


class Meaning(StrEnum):
    """The required action for a finding."""

    NOTHING = "nothing"
    """No pull request, or one that is settled."""
    OPEN = "open"
    """Its pull request is open and unchanged."""
    MERGED = "merged"
    """It was merged, but the branch has no record: by hand, or without our trailers."""
    TIDY = "tidy"
    """It has landed; its issue must be closed and its branch deleted."""
    LOST = "lost"
    """The forge has closed it because the branch that it went to is gone; another one is opened."""
    WAIT = "wait"
    """A person has changed it in a way that only a person can resolve."""


@dataclass(frozen=True, slots=True)
class Known:
    """The known state of an issue without a query to the forge.

    Attributes:
        ref: its qualified id.
        revision: the revision that is in progress or has landed.
        attempt: number of the current attempt, or of the next one; 0 if there was none.
        head: short name of its existing or future branch.
        base: short name of the milestone branch.
        number: last seen number of its pull request; 0 without one.
        commit: our last pushed commit; empty without one.
        landed: that revision has landed.
        settled: nothing is left to do after its landing.
        built: a result waits to land.
        bases: other branches that its pull request may go to: those of a stack.
    """

    ref: str
    revision: int
    attempt: int
    head: str
    base: str
    number: int = 0
    commit: str = ""
    landed: bool = False
    settled: bool = False
    built: bool = False
    bases: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Finding:
    """The meaning of the forge's pull requests for one issue.

    Attributes:
        ref: its qualified id.
        meaning: the required action.
        pull: the relevant pull request; None without one.
        reason: the problem with the pull request, for `WAIT`.
        notes: further remarks.
    """

    ref: str
    meaning: Meaning
    pull: PullRequest | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


def reconcile(
    known: Iterable[Known], pulls: Iterable[PullRequest], branches: frozenset[str], is_ours: Callable[[str, str], bool]
) -> list[Finding]:
    """Return the required action for every issue.

    Args:
        known: the issues.
        pulls: pull requests of the forge, in any state, of any branch.
        branches: short names of the branches on the remote.
        is_ours: returns whether a commit of an issue's branch (ref, commit) is unmodified by others.
    """
    by_head: dict[str, list[PullRequest]] = {}
    for pull in sorted(pulls, key=lambda item: item.number):
        by_head.setdefault(pull.head, []).append(pull)
    return [_finding(item, _about(item, by_head.get(item.head, [])), branches, is_ours) for item in known]


def _about(known: Known, pulls: list[PullRequest]) -> list[PullRequest]:
    """Return the pull requests for the current revision; one that was closed before a retry does not count."""
    found = []
    for pull in pulls:
        answer = read_mark(pull.body)
        if answer.get("key", known.ref) != known.ref:
            continue
        attempt = answer.get("attempt", "")
        older = attempt.isdecimal() and known.attempt > int(attempt)
        if not (older and (pull.state == "closed" or _merged_elsewhere(known, pull))):
            found.append(pull)
    return found


def _finding(
    known: Known, pulls: list[PullRequest], branches: frozenset[str], is_ours: Callable[[str, str], bool]
) -> Finding:
    opened = [pull for pull in pulls if pull.state == "open"]
    merged = [pull for pull in pulls if pull.state == "merged" and pull.base == known.base]
    closed = [pull for pull in pulls if pull.state == "closed" or _merged_elsewhere(known, pull)]
    notes = _doubled(opened, merged)
    if known.landed:
        left = not known.settled and (known.number or known.head in branches)
        return Finding(
            known.ref, Meaning.TIDY if left else Meaning.NOTHING, merged[-1] if merged else None, notes=notes
        )
    if merged:
        return Finding(known.ref, Meaning.MERGED, merged[-1], notes=notes)
    if opened:
        return _of_open(known, opened[0], notes, is_ours)
    if closed and (known.built or known.number):
        return _of_closed(known, closed[-1], branches)
    return Finding(known.ref, Meaning.NOTHING)


def _of_closed(known: Known, pull: PullRequest, branches: frozenset[str]) -> Finding:
    if pull.state == "merged":
        reason = f"it was merged into {pull.base}, expected {known.base}; `doit retry {known.ref}`"
        return Finding(known.ref, Meaning.WAIT, pull, reason)
    if pull.base in known.bases and pull.base not in branches and known.head in branches:
        return Finding(known.ref, Meaning.LOST, pull)
    gone = "" if known.head in branches else " and its branch was deleted"
    reason = f"it was closed without being merged{gone}; reopen it, or `doit retry {known.ref}`"
    return Finding(known.ref, Meaning.WAIT, pull, reason)


def _merged_elsewhere(known: Known, pull: PullRequest) -> bool:
    """Return whether the pull request of an issue was merged into the branch of another one of the stack."""
    return pull.state == "merged" and pull.number == known.number and pull.base in known.bases


def _of_open(known: Known, pull: PullRequest, notes: tuple[str, ...], is_ours: Callable[[str, str], bool]) -> Finding:
    if pull.base not in {known.base, *known.bases}:
        reason = f"it targets {pull.base}, expected {known.base}; restore its base"
        return Finding(known.ref, Meaning.WAIT, pull, reason, notes)
    if pull.sha and pull.sha != known.commit and not is_ours(known.ref, pull.sha):
        reason = (
            f"another person has committed to {known.head} ({pull.sha[:10]}), so it is left alone; merge or delete the "
            "branch"
        )
        return Finding(known.ref, Meaning.WAIT, pull, reason, notes)
    title = read_mark(pull.body).get("title")
    if title is None and known.number == pull.number:
        notes = (*notes, f"pull request #{pull.number}: its text was rewritten; our text is put before it")
    elif title is not None and title != title_digest(pull.title):
        notes = (*notes, f"pull request #{pull.number}: a person changed its title, which stays")
    return Finding(known.ref, Meaning.OPEN, pull, notes=notes)


def _doubled(opened: list[PullRequest], merged: list[PullRequest]) -> tuple[str, ...]:
    """Return a remark if an issue has several pull requests."""
    used = merged[-1] if merged else opened[0] if opened else None
    others = [pull for pull in opened if pull is not used]
    if used is None or not others:
        return ()
    names = ", ".join(f"#{pull.number}" for pull in others)
    return (f"pull request #{used.number} counts; close {names} of the same branch",)


_HEADS = "refs/heads/"


class Reconciliation:
    """Takes over changes by others on remote and forge."""

    def __init__(self, run: MilestoneRun) -> None:
        self._run = run
        self._issues = [str(IssueRef(run.name, issue.id)) for issue in run.milestone.issues]

    def take_over(self) -> None:
        """Update the known state of a milestone from remote and forge."""
        remote = self._run.session.remote
        if remote is None or self._nothing_begins():
            return
        RemoteBranch(self._run).tip_to_build_on()
        prefixes = branch_prefixes(self._run.milestone.issues, self._run.name)
        heads = remote.tips(*(f"{_HEADS}{prefix}*" for prefix in prefixes))
        branches = {name.removeprefix(_HEADS): commit for name, commit in heads.items()}
        for ref in self._issues:
            self._adopt(ref, branches)
        if forge_of(self._run.session).kind != "local":
            self._reconcile(branches)
            self._write_dependencies()
        for ref in self._issues:
            Publication(IssueRun(self._run, ref)).show_waiting()

    def _write_dependencies(self) -> None:
        """Give the forge the declared dependencies between issues that have a number there, if the rules say so."""
        session = self._run.session
        if not session.policy.forge.dependencies:
            return
        forge = forge_of(session)
        if not isinstance(forge, LinksIssues):
            self._run.warn(f"rules/forge.toml: dependencies: {forge.kind} has none; expected github")
            return
        for issue in self._run.milestone.issues:
            needs = session.compiled.plan.nodes[str(IssueRef(self._run.name, issue.id))].needs
            numbers = [
                number for need in needs if (number := session.compiled.plan.nodes[need].issue.number) is not None
            ]
            if issue.number is None or not numbers:
                continue
            try:
                forge.block(issue.number, numbers)
            except ForgeRefusedError as error:
                self._run.warn(f"{self._run.name}/{issue.id}: {error}")

    def _nothing_begins(self) -> bool:
        """Return whether the milestone is released or waits for another one; then it gets no branch."""
        view = self._run.view
        released = view.release is not None and view.release_current
        return released or any(self._run.facts(ref).held_by for ref in self._issues[:1])

    def _adopt(self, ref: str, branches: dict[str, str]) -> None:
        """Adopt a result that is on the remote but not here, from another clone, instead of building it again."""
        facts = self._run.facts(ref)
        issue = self._run.issue(ref)
        revision = 1 if facts.landing is None else facts.landing.trailers.revision + 1
        commit = branches.get(branch_of(issue, self._run.name, revision))
        landed = facts.landing is not None and facts.landing.trailers.spec_key == facts.spec_key
        if commit is None or facts.state.attempts or landed:
            return
        remote = self._run.session.remote
        if remote is None:
            return
        remote.fetch(_HEADS + branch_of(issue, self._run.name, revision))
        if not Publication(IssueRun(self._run, ref)).is_ours(commit):
            return
        trailers = parse_trailers(self._run.session.refs.trailers(commit))
        if trailers is None or trailers.spec_key != facts.spec_key or trailers.revision != revision:
            return
        number = facts.state.last() + 1
        attempt = Attempt(
            number,
            revision,
            trailers.spec_key,
            state=AttemptState.BUILT,
            commit=commit,
            result_key=trailers.result_key,
            pull=trailers.pull,
        )
        self._run.session.refs.move(
            [Move(attempt_ref(self._run.name, issue.id, number), None, commit)], f"adopt {ref} from the remote"
        )
        with_git_attempts(self._run.view.states, [(issue.id, attempt)])
        self._run.session.observer.changed(ref)
        self._run.warn(f"{ref}: the result on {remote.name} is used")

    def _reconcile(self, branches: dict[str, str]) -> None:
        known = [self._known(ref) for ref in self._issues]
        forge = forge_of(self._run.session)
        if self._run.policy.forge.stack and not isinstance(forge, MovesPulls):
            self._run.warn(f"rules/forge.toml: stack: {forge.kind} has none; expected github, gitlab, forgejo or gitea")
        pulls = {pull.number: pull for pull in forge.pulls(self._run.milestone.branch)}
        for item in known:
            if item.number and item.number not in pulls and not item.landed:
                pulls |= {pull.number: pull for pull in forge.find(item.head)}

        def fetch_and_compare(ref: str, commit: str) -> bool:
            remote = self._run.session.remote
            head = next(item.head for item in known if item.ref == ref)
            if remote is not None and branches.get(head) == commit:
                remote.fetch(_HEADS + head)
            return Publication(IssueRun(self._run, ref)).is_ours(commit)

        if self._run.policy.forge.stack:
            heads = frozenset(item.head for item in known)
            known = [replace(item, bases=item.bases | heads) for item in known]
        by_ref = {item.ref: item for item in known}
        for finding in reconcile(known, pulls.values(), frozenset(branches), fetch_and_compare):
            for note in finding.notes:
                self._run.warn(f"{finding.ref}: {note}")
            self._act(by_ref[finding.ref], finding)
            if finding.meaning in {Meaning.OPEN, Meaning.WAIT}:
                # A run that died after its record has not commented.
                Publication(IssueRun(self._run, finding.ref)).tell_states()

    def _act(self, known: Known, finding: Finding) -> None:
        ref, pull = finding.ref, finding.pull
        issue = IssueRun(self._run, ref)
        publication, merging = Publication(issue), Merging(issue)
        if finding.meaning is Meaning.TIDY:
            merging.tidy(pull, known.revision)
        elif finding.meaning is Meaning.LOST:
            publication.record_pull(pull, known.commit)
        elif finding.meaning is Meaning.WAIT:
            seen = self._run.facts(ref).state.pull
            if pull is not None and pull.state == "open" and seen is not None and seen.waits == "open":
                # This program asked for the merge of another commit; a person who wants this one merged asks again.
                forge_of(self._run.session).withdraw(pull)
            publication.wait_for_person(pull, finding.reason)
        elif finding.meaning is Meaning.OPEN and pull is not None and (known.built or known.number):
            publication.record_pull(pull, known.commit or pull.sha)
        elif finding.meaning is Meaning.MERGED and pull is not None:
            spec_key = read_mark(pull.body).get("spec") or self._run.facts(ref).spec_key
            if merging.recognise(pull, spec_key, known.revision):
                merging.tidy(pull, known.revision)
            else:
                why = f"it was merged as {pull.merge_commit[:10]}, which is not on {self._run.milestone.branch}"
                publication.wait_for_person(pull, why)

    def _known(self, ref: str) -> Known:
        facts = self._run.facts(ref)
        issue = self._run.issue(ref)
        landing = facts.landing
        landed = landing is not None and (
            landing.trailers.spec_key == facts.spec_key or facts.spec_key in facts.accepted
        )
        before = landing.trailers.revision if landing is not None else 0
        revision = before if landed else before + 1
        head = branch_of(issue, self._run.name, revision)
        pull = facts.state.pull if facts.state.pull is not None and facts.state.pull.head == head else None
        counted = facts.state.counted(facts.spec_key)
        return Known(
            ref=ref,
            revision=revision,
            attempt=facts.state.last() + (facts.state.last() > 0 and not counted),
            head=head,
            base=self._run.milestone.branch,
            number=pull.number if pull else 0,
            commit=pull.commit if pull else "",
            landed=landed,
            settled=pull is not None and pull.state == "merged",
            built=any(item.state is AttemptState.BUILT and item.revision == revision for item in counted),
            bases=frozenset({pull.base} if pull and pull.base else ()),
        )


_POLLS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


class ForgePatience:
    """Waits for pull requests that the run left to the forge, once it has nothing else to do.

    Args:
        session: the session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._left = session.policy.forge.wait
        self._green: dict[str, tuple[int, str]] = {}
        """Number and head of pull requests that were seen green; one that still waits, such as in a merge queue, is
        not queried again until something else has changed."""

    def wait(self, refs: Iterable[str]) -> bool:
        """Wait until the forge has merged or refused one of them, and take the outcome over; returns whether it has."""
        session, polls = self._session, 0
        wanted = [ref for ref in refs if self._pull(ref) is not None]
        while wanted and not session.stopping.is_set():
            moved = sorted({IssueRef.parse(ref).milestone for ref in wanted if self._moved(ref)})
            for name in moved:
                Reconciliation(session.run_of(name)).take_over()
            if moved:
                return True
            pause = _POLLS[min(polls, len(_POLLS) - 1)]
            late = session.deadline is not None and time.time() + pause >= session.deadline.timestamp()
            if late or self._left < pause:
                return False
            if not polls:
                names = ", ".join(wanted[:5]) + (f" and {len(wanted) - 5} more" if len(wanted) > 5 else "")  # noqa: PLR2004
                session.tell("wait", wanted[0], f"nothing else to do: the forge merges {names} when their checks pass")
            polls += 1
            self._left -= pause
            session.stopping.wait(pause)
        return False

    def _pull(self, ref: str) -> Pull | None:
        """Return the pull request of an issue, if this run left it to the forge."""
        milestone, issue = IssueRef.parse(ref)
        state = self._session.observer.views[milestone].states.get(issue)
        pull = state.pull if state is not None else None
        left = pull is not None and pull.number and pull.waits == "open" and pull.run == self._session.run_id
        return pull if left else None

    def _is_pushed(self, pull: Pull) -> bool:
        """Return whether the branch is at our commit: then the forge has not noticed the push yet."""
        remote, name = self._session.remote, f"refs/heads/{pull.head}"
        return remote is not None and remote.tips(name).get(name) == pull.commit

    def _moved(self, ref: str) -> bool:
        """Return whether a pull request requires an action: it is merged, closed, red or green."""
        pull, forge = self._pull(ref), forge_of(self._session)
        if pull is None:
            return False
        now = next((item for item in forge.find(pull.head) if item.number == pull.number), None)
        if now is None or now.state != "open":
            return True
        if now.sha != pull.commit:
            return not self._is_pushed(pull)
        if pull.base:
            return now.base != pull.base or self._rests_on_nothing(ref, pull)
        checks = forge.checks(now.sha)
        return bool(checks.of("failure")) or self._note_green(ref, now, waits=bool(checks.of("pending")))

    def _rests_on_nothing(self, ref: str, pull: Pull) -> bool:
        """Return whether the layer below a pull request of a stack has merged, failed or changed."""
        layer = Merging(IssueRun(self._session.run_of(IssueRef.parse(ref).milestone), ref)).layer_below()
        return layer is None or layer.commit != self._session.store.parent_of(pull.commit)

    def _note_green(self, ref: str, now: PullRequest, *, waits: bool) -> bool:
        """Note a pull request that nothing keeps from its merge; returns whether that is new at this head."""
        if waits or now.waiting:
            self._green.pop(ref, None)
            return False
        before, self._green[ref] = self._green.get(ref), (now.number, now.sha)
        return before != self._green[ref]
