"""Load the recorded state of every milestone from journals, history and refs. Read-only.

Renamed issues: `was` lists the earlier ids of an issue, and records under those ids belong to it. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from executor.config.load_milestones import spec_text
from executor.config.project import base_branch, base_names
from executor.git.refs import (
    ACCEPTED,
    AHEAD,
    ANSWERS,
    APPROVED,
    ATTEMPTS,
    BRANCHES,
    DELIVERED,
    HANDOFFS,
    LANDED,
    MERGED,
    REMOTE,
    REVIVED,
    SETTLED,
    STEPS,
    attempt_in,
    parts_of,
)
from executor.git.trailers import AttemptTrailers, Released, decode
from executor.model.fingerprint import canonical_spec, work_key
from executor.state import segments
from executor.state.fold import blockers_of, fold, with_git_attempts
from executor.state.marks import AcceptedTrailers, RevivedTrailers, answers_in, approved_in
from executor.state.model import QUESTION, UNKNOWN_AGENT, Attempt, AttemptState
from executor.state.steps import step_in
from executor.status.location import Histories, branch_in, recognised
from executor.status.milestone_status import PAUSED, pause_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from executor.config.project import Compiled
    from executor.git.history import Revert
    from executor.git.refs import Kept, Refs
    from executor.git.trailers import Landing
    from executor.model.milestone import Issue, Milestone
    from executor.state.fold import Blocker
    from executor.state.marks import Answer, Approval
    from executor.state.model import IssueState
    from executor.state.steps import StepRecord
    from executor.status.location import Work
    from executor.status.milestone_status import Pause

    _ByKind = dict[tuple[str, str], list[Kept]]

__all__ = ["MilestoneView", "carried_over", "claims_of", "gather", "merged_states", "owned"]


def claims_of(milestone: Milestone) -> dict[str, str]:
    """Map each earlier id to the issue that it now belongs to."""
    return {old: issue.id for issue in milestone.issues for old in issue.was if old != issue.id}


def owned(landing: Landing, milestone: Milestone, claims: Mapping[str, str], key_of: Callable[[Issue], str]) -> Landing:
    """Return a landing under the current id of its issue.

    An earlier id can be in use again, as after a renumbering. Then the landing belongs to the current issue of that id
    if its trailers have `was`, which the executor has written since then, or its work key matches; otherwise it belongs
    to the renamed issue.

    Args:
        landing: the landing in history.
        milestone: the declaration.
        claims: result of `claims_of`.
        key_of: returns the work key of a declared issue.
    """
    trailers = landing.trailers
    if trailers.issue not in claims:
        return landing
    holder = next((issue for issue in milestone.issues if issue.id == trailers.issue), None)
    if holder is not None and (trailers.was or (trailers.work_key and trailers.work_key == key_of(holder))):
        return landing
    return replace(landing, trailers=replace(trailers, issue=claims[trailers.issue]))


def carried_over(known: Mapping[str, object], milestone: Milestone, claims: Mapping[str, str]) -> dict[str, str]:
    """Map earlier ids to current ids, for known records under ids that are no longer declared."""
    declared = {issue.id for issue in milestone.issues}
    return {old: new for old, new in claims.items() if old in known and old not in declared}


def merged_states(old: IssueState, new: IssueState | None) -> IssueState:
    """Merge the states of an issue under both ids; the current id takes precedence."""
    if new is None:
        return old
    return replace(
        new,
        attempts={**old.attempts, **new.attempts},
        forgiven=max(old.forgiven, new.forgiven),
        proof=new.proof or old.proof,
        pull=new.pull or old.pull,
        seconds=old.seconds + new.seconds,
        cost_usd=round(old.cost_usd + new.cost_usd, 8),
    )


_V = TypeVar("_V")


@dataclass(slots=True)
class MilestoneView:
    """The recorded state of one milestone: journal, history, refs.

    Attributes:
        milestone: its declaration.
        branch: full name of its branch.
        base: full name of its base branch.
        tip: commit that work starts from: the branch's tip, or the base's while nothing has landed.
        exists: whether the branch exists.
        branch_at: commit of the branch itself; empty if it does not exist.
        ahead: commit of landings ahead of the branch, because a checkout of it cannot follow; empty otherwise.
        note: a remark for people on the location of its work.
        problem: why no work on it may start; empty if it may.
        landings: latest landing of each issue.
        history: positions and result keys of each issue's landings, oldest first.
        states: the fold of its journal.
        blockers: blockers at the time of the read.
        count: number of landings in the history, of all issues together.
        accepted: issue -> (landing commit, spec keys) accepted by a person.
        approved: issue -> a person's consents to changes and specs.
        approvals: issue -> the same with person, time and reason, oldest first.
        base_tip: commit of the base branch.
        pause: its pause; None if it is not paused.
        released: its latest release.
        merged: everything on the branch is reachable from the base.
        steps: issue -> stored results of its steps, by ``phase.step``.
        handoffs: issue -> commit that stores its handoff.
        answers: issue -> questions of its agents with a person's answers, oldest first.
        remote_tip: last seen commit of the remote's branch; empty if never seen.
        tag: its declared tag, if that exists.
        delivered: the release that the remote has completely.
        settled: the tip whose landings are attested and whose tracking files are pushed.
        reverted: issue -> the revert of its latest landing.
        revived: issue -> reverts after which a person wants the work again.
        lost: issues that had landed but are on no branch any more.
    """

    milestone: Milestone
    branch: str
    base: str
    tip: str
    exists: bool
    landings: dict[str, Landing] = field(default_factory=dict)
    history: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    states: dict[str, IssueState] = field(default_factory=dict)
    blockers: list[Blocker] = field(default_factory=list)
    count: int = 0
    accepted: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    approved: dict[str, frozenset[str]] = field(default_factory=dict)
    approvals: dict[str, tuple[Approval, ...]] = field(default_factory=dict)
    steps: dict[str, dict[str, StepRecord]] = field(default_factory=dict)
    handoffs: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[Answer, ...]] = field(default_factory=dict)
    remote_tip: str = ""
    base_tip: str = ""
    pause: Pause | None = None
    released: Released | None = None
    merged: bool = False
    tag: str = ""
    delivered: str = ""
    settled: str = ""
    branch_at: str = ""
    ahead: str = ""
    note: str = ""
    problem: str = ""
    reverted: dict[str, Revert] = field(default_factory=dict)
    revived: dict[str, frozenset[str]] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()

    @property
    def release(self) -> Released | None:
        """Its latest release, or a merge into the base by others that amounts to one."""
        if self.released is None and self.merged:
            return Released(self.base_tip, self.tip)
        return self.released

    @property
    def release_current(self) -> bool:
        """Return whether all landings are released, with the declared tag."""
        if self.milestone.tag and not self.tag:
            return False
        return self.merged or (self.released is not None and (not self.exists or self.released.tip == self.tip))

    @property
    def removed(self) -> dict[str, Landing]:
        """Landings of issues that are no longer declared."""
        declared = {issue.id for issue in self.milestone.issues}
        return {issue: landing for issue, landing in self.landings.items() if issue not in declared}

    def add(self, landing: Landing) -> None:
        """Add a new landing."""
        issue = landing.trailers.issue
        self.count += 1
        self.landings[issue] = landing
        self.reverted.pop(issue, None)
        self.history.setdefault(issue, []).append((landing.position, landing.trailers.result_key))

    def result_before(self, issue: str, position: int) -> str:
        """Return an issue's result key before a position of the history; empty if it had not landed."""
        known = self.history.get(issue, [])
        place = bisect_left(known, (position, ""))
        return known[place - 1][1] if place else ""


_REMOTES = "refs/remotes/"
_KINDS = (ACCEPTED, APPROVED, ATTEMPTS, BRANCHES, MERGED, PAUSED, REVIVED, STEPS, HANDOFFS, ANSWERS)
_OUTCOMES = {"": AttemptState.BUILT, "interrupted": AttemptState.INTERRUPTED, QUESTION: AttemptState.INTERRUPTED}


def gather(compiled: Compiled, refs: Refs, *, states: bool) -> dict[str, MilestoneView]:
    """Load the view of every declared milestone; with `states`, also its journal. Takes no lock.

    Raises:
        DeclarationError: a base branch does not exist.
        RepositoryError: the repository has no commits.
        StateBrokenError: a journal is corrupt.
    """
    project = compiled.project
    declared = list(compiled.loaded.milestones.values())
    kept = _by_kind(refs.kept(*_KINDS))
    records = {name: next(iter(kept.get((BRANCHES, name), ())), None) for name in compiled.loaded.milestones}
    branches = {name: _branches(milestone, records[name]) for name, milestone in compiled.loaded.milestones.items()}
    named = _named(compiled, branches)
    shorts = list(dict.fromkeys([*(name for both in branches.values() for name in both), *_bases(declared)]))
    above = list(dict.fromkeys(f"refs/heads/{name}" for short in shorts for name in _above(short)))
    listed = refs.listed([*named, *above, *(f"{_REMOTES}*/{short}" for short in shorts)])
    tips = {name: listed[name] for name in named if name in listed}
    tips |= {name: tip for name, tip in listed.items() if name.startswith(_REMOTES)}
    histories = Histories(project, refs, tips)
    views: dict[str, MilestoneView] = {}
    for name, milestone in list(compiled.loaded.milestones.items()):
        base = base_branch(milestone, refs, tips)
        others = frozenset(branch for other, both in branches.items() if other != name for branch in both)
        by_hand = recognised(kept.get((MERGED, name), ()))
        work = histories.find(milestone, base, records[name], tips.get(f"{AHEAD}/{name}", ""), by_hand, others)
        claims = claims_of(milestone)
        if claims:
            _take_over(compiled, work, milestone, claims, kept.get((ANSWERS, name), ()))
        view = views[name] = _view(compiled, name, base, work, tips[base])
        _add_marks(view, tips, listed)
        if states:
            events = segments.read(project.state(name))
            view.states = fold(events)
            view.blockers = blockers_of(events)
        with_git_attempts(view.states, map(_attempt, kept.get((ATTEMPTS, name), ())))
        with_git_attempts(view.states, _lost(view.states, work.lost))
        view.lost = frozenset(landing.trailers.issue for landing in work.lost)
        _add_decisions(view, name, kept)
        _carry_over(view, claims)
    return views


def _add_marks(view: MilestoneView, tips: Mapping[str, str], listed: Iterable[str]) -> None:
    """Add the marks and tags of a milestone, and conflicting names of its branch."""
    name, tag = view.milestone.id, view.milestone.tag
    view.remote_tip = tips.get(f"{REMOTE}/{name}", "")
    view.delivered = tips.get(f"{DELIVERED}/{name}", "")
    view.settled = tips.get(f"{SETTLED}/{name}", "")
    view.tag = tag or "" if view.landings and f"refs/tags/{tag}" in tips else ""
    view.problem = view.problem or _in_the_way(listed, view) or ""


def _add_decisions(view: MilestoneView, name: str, kept: _ByKind) -> None:
    """Add what people have decided about a milestone and its issues, and results of steps."""
    view.pause = next(map(pause_in, kept.get((PAUSED, name), ())), None)
    for item in kept.get((ACCEPTED, name), ()):
        found = decode(AcceptedTrailers, item.trailers) or AcceptedTrailers()
        view.accepted[item.ref.rsplit("/", 1)[-1]] = (found.landing, frozenset(found.spec_keys))
    for item in kept.get((APPROVED, name), ()):
        issue = item.ref.rsplit("/", 1)[-1]
        approved = approved_in(item)
        view.approved[issue] = frozenset(approved.tokens)
        view.approvals[issue] = approved.approvals
    for item in kept.get((REVIVED, name), ()):
        revived = decode(RevivedTrailers, item.trailers) or RevivedTrailers()
        view.revived[item.ref.rsplit("/", 1)[-1]] = frozenset(revived.reverts)
    for kind in (STEPS, HANDOFFS, ANSWERS):
        for item in kept.get((kind, name), ()):
            _take(view, item)


def _view(compiled: Compiled, name: str, base: str, work: Work, base_tip: str) -> MilestoneView:
    """Return a milestone with its landings in history and the branch of its work."""
    branch = work.branch.removeprefix("refs/heads/")
    milestone = compiled.loaded.milestones[name]
    if milestone.branch != branch:
        milestone = compiled.loaded.milestones[name] = milestone.model_copy(update={"branch": branch})
    view = MilestoneView(milestone, work.branch, base, work.tip, bool(work.at), base_tip=base_tip)
    view.branch_at, view.ahead, view.note, view.problem = work.at, work.ahead, work.note, work.problem
    view.released, view.merged = work.released, work.merged
    for landing in work.landings:
        view.add(landing)
    view.reverted = work.reverted
    return view


def _in_the_way(listed: Iterable[str], view: MilestoneView) -> str | None:
    """Return why git could not create the branch: another branch's name is a parent or child of its name."""
    if view.exists:
        return None
    branch = view.branch.removeprefix("refs/heads/")
    above = {f"refs/heads/{name}" for name in _above(branch)}
    found = [name for name in listed if name in above or name.startswith(f"{view.branch}/")]
    if not found:
        return None
    other = found[0].removeprefix("refs/heads/")
    return (
        f'branch "{other}" conflicts with "{branch}", git cannot have both: rename it '
        f"(git branch -m {other} NEW), or declare another `branch` in milestones/{view.milestone.id}.toml"
    )


def _above(branch: str) -> list[str]:
    """The names that git keeps as folders for a branch: no branch can have one of them."""
    parts = branch.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _branches(milestone: Milestone, record: Kept | None) -> list[str]:
    """Return the possible short branch names of a milestone: declared, and recorded."""
    before = branch_in(record).branch
    return [milestone.branch, before] if before and before != milestone.branch else [milestone.branch]


def _bases(declared: Iterable[Milestone]) -> list[str]:
    return [base for milestone in declared for base in base_names(milestone)]


def _take_over(
    compiled: Compiled, work: Work, milestone: Milestone, claims: Mapping[str, str], answers: Iterable[Kept]
) -> None:
    """Move landings under earlier issue ids to the current ids."""
    given = {item.ref.rsplit("/", 1)[-1]: item for item in answers}

    def key_of(issue: Issue) -> str:
        found = [item.answer for item in answers_in(given[issue.id])] if issue.id in given else []
        return work_key(canonical_spec(issue, spec_text(compiled.loaded, milestone.id, issue), found))

    work.landings = [owned(landing, milestone, claims, key_of) for landing in work.landings]
    for old, new in carried_over(work.reverted, milestone, claims).items():
        work.reverted[new] = work.reverted.pop(old)


def _carry_over(view: MilestoneView, claims: Mapping[str, str]) -> None:
    """Move other records under earlier issue ids to the current ids."""
    _rename(view.accepted, view.milestone, claims)
    _rename(view.approved, view.milestone, claims)
    _rename(view.steps, view.milestone, claims)
    _rename(view.handoffs, view.milestone, claims)
    _rename(view.answers, view.milestone, claims)
    for old, new in carried_over(view.states, view.milestone, claims).items():
        view.states[new] = merged_states(view.states.pop(old), view.states.get(new))


def _rename(known: dict[str, _V], milestone: Milestone, claims: Mapping[str, str]) -> None:
    for old, new in carried_over(known, milestone, claims).items():
        known.setdefault(new, known.pop(old))


def _named(compiled: Compiled, branches: Mapping[str, list[str]]) -> list[str]:
    """Return the full names of the single refs that milestones use."""
    names = []
    for name, milestone in compiled.loaded.milestones.items():
        names += [f"refs/heads/{branch}" for branch in branches[name]]
        names += [f"{kind}/{name}" for kind in (REMOTE, DELIVERED, SETTLED, AHEAD, LANDED)]
        names += [f"refs/tags/{milestone.tag}"] if milestone.tag else []
        names += [f"refs/heads/{base}" for base in base_names(milestone)]
    return list(dict.fromkeys(names))


def _by_kind(kept: Iterable[Kept]) -> _ByKind:
    """Group the executor's refs by kind and milestone."""
    found: _ByKind = {}
    for item in kept:
        kind = next((kind for kind in _KINDS if item.ref.startswith(f"{kind}/")), "")
        parts = (item.ref[len(kind) + 1 :],) if kind in {PAUSED, BRANCHES} else parts_of(item.ref)
        if parts is not None and (kind != ATTEMPTS or attempt_in(item.ref) is not None):
            found.setdefault((kind, parts[0]), []).append(item)
    return found


def _take(view: MilestoneView, kept: Kept) -> None:
    """Add an issue's steps, handoff and answers from git."""
    _, _, kind, _, issue, *rest = kept.ref.split("/")
    match kind:
        case "steps":
            record = step_in(kept)
            if record is not None:
                view.steps.setdefault(issue, {})[rest[0]] = record
        case "handoffs":
            view.handoffs[issue] = kept.commit
        case "answers":
            view.answers[issue] = answers_in(kept)


def _attempt(kept: Kept) -> tuple[str, Attempt]:
    """Read an attempt from its ref and its commit's trailers."""
    _, _, _, issue, number = kept.ref.split("/")
    found = decode(AttemptTrailers, kept.trailers) or AttemptTrailers()
    wanted = found.unsandboxed
    return issue, Attempt(
        number=int(number),
        revision=found.revision or 1,
        spec_key=found.spec_key,
        state=_OUTCOMES.get(found.outcome, AttemptState.FAILED),
        commit=kept.commit,
        result_key=found.result_key,
        kind=found.outcome,
        reason=found.reason,
        print=found.failure,
        step=found.step,
        pull=found.pull,
        agent=found.agent,
        sandbox=found.sandbox,
        # A result without a record counts as made without its required sandbox.
        unsandboxed=UNKNOWN_AGENT if wanted is None else wanted,
    )


def _lost(states: Mapping[str, IssueState], lost: Iterable[Landing]) -> Iterator[tuple[str, Attempt]]:
    """Yield landings on no branch as attempts of issues that the journal does not have."""
    for landing in lost:
        found, state = landing.trailers, states.get(landing.trailers.issue)
        if state is None or not state.attempts:
            attempt = Attempt(1, found.revision, found.spec_key, state=AttemptState.LANDED, commit=landing.commit)
            yield found.issue, replace(attempt, result_key=found.result_key)
