"""The branch of a milestone: derived from the declaration, the record, and the repository.

A milestone lands on one branch for all its life. An edited title or `branch`, another plan or an import changes the
declared name, but landed work stays on its branch until a person moves it.

The location of each milestone's work: its branch, its landings, and the records in the history of its base.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.git.history import (
    Revert,
    active_reverts,
    landings_in,
    milestones_in,
    read_records,
    releases_in,
    reverts_in,
    taken_back,
)
from executor.git.refs import LANDED
from executor.git.trailers import decode, parse_trailers
from executor.model.milestone import branch_prefixes
from executor.process.files import read_json, write_json
from executor.state.marks import BranchTrailers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from executor.config.project import Project
    from executor.git.history import Changed, Record
    from executor.git.refs import Kept, Refs
    from executor.git.trailers import Landing, Released, Trailers
    from executor.model.milestone import Milestone

__all__ = ["Found", "Histories", "Location", "Work", "branch_in", "locate", "locate_elsewhere", "recognised"]


@dataclass(frozen=True, slots=True)
class Found:
    """A branch with landings of the milestone.

    Attributes:
        ref: full name, ``refs/heads/...`` or ``refs/remotes/<name>/...``.
        tip: its commit.
        landed: its landings, as ``issue@revision``.
    """

    ref: str
    tip: str
    landed: frozenset[str] = frozenset()

    @property
    def local(self) -> bool:
        """Return whether it is a local branch."""
        return self.ref.startswith("refs/heads/")

    @property
    def branch(self) -> str:
        """Short name of the branch, without the remote's name."""
        rest = self.ref.split("/", 2)[2]
        return rest if self.local else rest.partition("/")[2]

    @property
    def shown(self) -> str:
        """The name as git shows it."""
        return self.ref.split("/", 2)[2]


@dataclass(frozen=True, slots=True)
class Location:
    """The location of a milestone.

    Attributes:
        branch: short name of its branch.
        start: remote-tracking commit to fast-forward the branch to; empty otherwise.
        note: a remark for people; empty if everything is as declared.
        problem: why no work may start; empty if it may.
    """

    branch: str
    start: str = ""
    note: str = ""
    problem: str = ""


def locate(declared: str, record: str, found: Sequence[Found], contains: Callable[[str, str], bool]) -> Location | None:
    """Return the milestone's branch among those with the declared or recorded name; None if none has its work.

    Args:
        declared: short name of the branch that is declared or derived from the title.
        record: short name of the branch of earlier landings; empty if unknown.
        found: local and remote branches of these two names with landings of it.
        contains: returns whether the first commit is reachable from the second.
    """
    here = {item.branch: item for item in found if item.local}
    first, second = here.get(declared), here.get(record)
    if first is not None and second is not None and not second.landed <= first.landed:
        if not first.landed <= second.landed:
            return Location(declared, problem=_split(declared, [first, second]))
        first = second
    chosen = first or second
    if chosen is None:
        chosen = next((item for item in found if item.branch == declared), next(iter(found), None))
        if chosen is None:
            return None
    start = "" if chosen.local else chosen.tip
    for other in found:
        if other.branch != chosen.branch or other.landed <= chosen.landed:
            continue
        if not contains(chosen.tip, other.tip):
            return Location(chosen.branch, problem=_split(chosen.branch, [chosen, other]))
        start = other.tip
    return Location(chosen.branch, start, _moved(declared, chosen.branch))


def locate_elsewhere(
    declared: str, found: Sequence[Found], others: Collection[str], contains: Callable[[str, str], bool]
) -> Location | None:
    """Return the branch of a milestone whose branch a person renamed, so that it has neither name; None without one.

    Args:
        declared: short name of the declared branch.
        found: every branch with its newest landing.
        others: short names of the branches of other milestones, which may be built on it.
        contains: returns whether the first commit is reachable from the second.
    """
    own = [item for item in found if item.branch not in others]
    if not own:
        return None
    local = [item for item in own if item.local] or own
    least = [item for item in local if all(contains(item.tip, other.tip) for other in local)]
    chosen = (least or local)[0]
    if not least and len({item.tip for item in local}) > 1:
        return Location(declared, problem=_split(declared, local))
    return Location(chosen.branch, "" if chosen.local else chosen.tip, _moved(declared, chosen.branch))


def _moved(declared: str, branch: str) -> str:
    if branch == declared:
        return ""
    return (
        f'its landed work is on branch "{branch}" and stays there, although "{declared}" is declared; '
        f"to move it: git branch -m {branch} {declared}"
    )


def _split(branch: str, found: Sequence[Found]) -> str:
    names = " and ".join(item.shown for item in found)
    return (
        f"its landed work is on several branches with different commits: {names}; "
        f'merge them into "{branch}", or delete the other'
    )


_MOST_CHANGES = 1000
"""Number of commits to search for implicit reverts."""
_KEPT_SCANS = 200  # entries of a cache that only grows otherwise


@dataclass(slots=True)
class Work:
    """The location and content of a milestone's work.

    Attributes:
        branch: full name of its branch.
        at: commit of the branch itself; empty if it does not exist.
        tip: the newest relevant commit: of the branch, or ahead of it.
        ahead: commit ahead of the branch if a checkout of it cannot follow; empty otherwise.
        landings: landings, oldest first.
        released: its latest release.
        merged: all landings are in the base.
        reverted: issue -> the revert of its latest landing.
        lost: landings that are on no branch any more, according to the ref that keeps them.
        note: a remark for people.
        problem: why no work may start; empty if it may.
    """

    branch: str
    at: str
    tip: str
    ahead: str = ""
    landings: list[Landing] = field(default_factory=list)
    released: Released | None = None
    merged: bool = False
    reverted: dict[str, Revert] = field(default_factory=dict)
    lost: list[Landing] = field(default_factory=list)
    note: str = ""
    problem: str = ""


class Histories:
    """The histories of bases and branches; each is read once."""

    def __init__(self, project: Project, refs: Refs, tips: dict[str, str]) -> None:
        self._project = project
        self._refs = refs
        self._tips = tips
        """Commits by full ref names: of every candidate branch, local and remote."""
        self._bases: dict[str, list[Record]] = {}
        self._beside: list[Record] | None = None
        self._changed: dict[tuple[str, tuple[str, ...]], list[Changed]] = {}

    def of_base(self, base: str) -> list[Record]:
        """Return the records of a base branch (full name)."""
        if base not in self._bases:
            path = self._project.cache / f"_history.{base.replace('/', '%')}.json"
            self._bases[base] = read_records(path, self._refs, self._tips[base])
        return self._bases[base]

    def find(
        self,
        milestone: Milestone,
        base: str,
        record: Kept | None,
        ahead: str,
        by_hand: Mapping[str, Sequence[Trailers]],
        others: frozenset[str],
    ) -> Work:
        """Locate a milestone's work.

        Args:
            milestone: its declaration.
            base: full name of its base.
            record: the branch of earlier landings, as stored in git.
            ahead: commit ahead of its branch; empty without one.
            by_hand: commits that count as landings although their messages do not say so.
            others: short names of the branches of other milestones.
        """
        base_tip = self._tips[base]
        before = branch_in(record).branch
        place = self._of_landings(milestone, before, base_tip, by_hand)
        base_records = self._with(self.of_base(base), by_hand, base_tip)
        in_base = landings_in(base_records, milestone.id, by_hand)
        if place is None and not in_base and not ahead:
            place = self._elsewhere(milestone, base, others)
        nowhere = place is None and not in_base and not ahead
        if place is None:
            place = Location(before if in_base and f"refs/heads/{before}" in self._tips else milestone.branch)
        work = self._work_at(place, base_tip, ahead)
        known = {item.commit for item in base_records}
        beyond = self._beyond(work.tip, base_tip, by_hand)
        records = base_records + [item for item in beyond if item.commit not in known]
        work.landings = landings_in(records, milestone.id, by_hand)
        if not work.landings and work.at and not ahead and self._follows(work.at, base_tip, record):
            work.tip = base_tip
        work.released = releases_in(self.of_base(base)).get(milestone.id)
        work.merged = self._is_merged(work, base_tip, in_base)
        kept = self._tips.get(f"{LANDED}/{milestone.id}", "")
        if kept and not work.merged and kept != work.tip and not self._refs.contains(kept, work.tip):
            self._remember(work, milestone.id, kept, base_tip, nowhere=nowhere)
            records = records if work.landings else []
        work.reverted = self._reverted(records, work.landings)
        self._take_silent_reverts(work, records, base_tip)
        return work

    def _of_landings(
        self, milestone: Milestone, before: str, base_tip: str, by_hand: Mapping[str, Sequence[Trailers]]
    ) -> Location | None:
        """Return the branch that has the milestone's landings; None without any."""
        found = [
            Found(ref, tip, landed)
            for ref, tip in self._named(milestone.branch, before)
            if (landed := _landed(landings_in(self._beyond(tip, base_tip), milestone.id, by_hand)))
        ]
        return locate(milestone.branch, before, found, self._refs.contains)

    def _work_at(self, place: Location, base_tip: str, ahead: str) -> Work:
        """Return the work on a branch, or on a commit ahead of it, before its landings are read."""
        branch = f"refs/heads/{place.branch}"
        work = Work(branch, self._tips.get(branch, ""), "", note=place.note, problem=place.problem)
        work.tip = place.start or work.at or base_tip
        if ahead and not (work.at and self._refs.contains(ahead, work.at)):
            work.tip = work.ahead = ahead
        return work

    def _is_merged(self, work: Work, base_tip: str, in_base: Sequence[Landing]) -> bool:
        """Return whether the base has every landing."""
        if not work.landings:
            return False
        return work.tip == base_tip or self._refs.contains(work.tip, base_tip) or (not work.at and bool(in_base))

    def _remember(self, work: Work, milestone: str, kept: str, base_tip: str, *, nowhere: bool) -> None:
        """Add landings that are on no branch any more: the base may have their content, as after a manual squash."""
        if not self._refs.has(kept):
            return  # its objects are gone; the doctor says so
        landings = landings_in(self._refs.records(kept, since=(base_tip,)), milestone)
        if nowhere and landings and self._refs.absorbs(base_tip, kept):
            work.landings, work.merged, work.tip = landings, True, base_tip
        else:
            known = {landing.trailers.issue for landing in work.landings}
            work.lost = [landing for landing in landings if landing.trailers.issue not in known]

    def _follows(self, at: str, base_tip: str, record: Kept | None) -> bool:
        """Return whether a branch without landings is still where its base is, or was when the branch was created."""
        began = branch_in(record).began
        return at == began or self._refs.contains(at, base_tip)

    def _beyond(self, tip: str, base_tip: str, by_hand: Mapping[str, Sequence[Trailers]] | None = None) -> list[Record]:
        """Return records of a branch that its base lacks."""
        if tip == base_tip:
            return []
        return self._with(self._refs.records(tip, since=(base_tip,)), by_hand, tip)

    def _with(self, records: list[Record], by_hand: Mapping[str, Sequence[Trailers]] | None, tip: str) -> list[Record]:
        """Return records of a branch with the commits on it that count as landings although they do not say so."""
        known = {item.commit for item in records}
        records = list(records)
        for commit in by_hand or ():
            if commit not in known and self._refs.contains(commit, tip):
                extra = self._refs.record(commit)
                place = next((at for at, item in enumerate(records) if item.time > extra.time), len(records))
                records.insert(place, extra)
        return records

    def _named(self, *branches: str) -> Iterable[tuple[str, str]]:
        """Yield branches of these short names, local ones first, then remote-tracking ones."""
        for ref, tip in sorted(self._tips.items()):
            short = ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else ""
            if not short and ref.startswith("refs/remotes/"):
                short = ref.split("/", 3)[3]
            if short and short in branches:
                yield ref, tip

    def _elsewhere(self, milestone: Milestone, base: str, others: frozenset[str]) -> Location | None:
        """Find a milestone's work on a branch of another name."""
        if self._beside is None:
            self._beside = self._refs.unmerged(list(dict.fromkeys(self._tips[name] for name in {base, *self._bases})))
        mine = [record for record in self._beside if milestone.id in milestones_in(record)]
        if not mine:
            return None
        found = [Found(ref, tip) for ref, tip in self._refs.holding(mine[-1].commit)]
        proposed = branch_prefixes(milestone.issues, milestone.id)  # of pull requests: what is on those has not landed
        found = [item for item in found if not item.branch.startswith(proposed)]
        place = locate_elsewhere(milestone.branch, found, others, self._refs.contains)
        if place is not None:
            ref = f"refs/heads/{place.branch}"
            self._tips.update({item.ref: item.tip for item in found if item.ref == ref})
        return place

    def _reverted(self, records: list[Record], landings: list[Landing]) -> dict[str, Revert]:
        """Map issues to the revert of their latest landing."""
        latest = {landing.trailers.issue: landing.commit for landing in landings}
        found: dict[str, Revert] = {}
        for revert in active_reverts(reverts_in(records)):
            within = self._taken_back(revert) if latest else set()
            for issue, commit in latest.items():
                if commit.startswith(revert.reverted) or commit in within:
                    found[issue] = revert
        return found

    def _take_silent_reverts(self, work: Work, records: list[Record], base_tip: str) -> None:
        """Find reverts by a person without git's standard message."""
        latest = {landing.trailers.issue: landing.commit for landing in work.landings}
        standing = {issue: commit for issue, commit in latest.items() if issue not in work.reverted}
        if not standing:
            return
        path = self._project.cache / "_taken_back.json"
        tip = base_tip if work.merged else work.tip
        landings = {landing.commit for landing in work.landings}
        key = hashlib.sha256("\0".join((tip, *sorted(landings))).encode()).hexdigest()
        known = read_json(path)
        kept = known if isinstance(known, dict) else {}
        if key not in kept:
            others = {record.commit for record in records}
            changes = self._changes(tip, () if work.merged else (f"{work.landings[0].commit}^",))
            found = taken_back(changes, landings, others, self._refs.is_inverse)
            kept = dict(list(kept.items())[-_KEPT_SCANS:])
            kept[key] = [[item.commit, item.time, item.reverted] for item in found]
            if path.parent.is_dir():
                with suppress(ExecutorError):
                    write_json(path, kept, durable=False)
        for commit, time, landing in kept[key]:
            work.reverted |= {issue: Revert(commit, time, landing) for issue, at in standing.items() if at == landing}

    def _changes(self, tip: str, since: tuple[str, ...]) -> list[Changed]:
        if (tip, since) not in self._changed:
            self._changed[tip, since] = self._refs.changes(tip, since=since, most=_MOST_CHANGES)
        return self._changed[tip, since]

    def _taken_back(self, revert: Revert) -> set[str]:
        """Return the commits that a reverted merge had added."""
        if not revert.onto or not (self._refs.has(revert.reverted) and self._refs.has(revert.onto)):
            return set()
        return self._refs.between(revert.onto, revert.reverted)


def _landed(landings: list[Landing]) -> frozenset[str]:
    return frozenset(f"{item.trailers.issue}@{item.trailers.revision}" for item in landings)


def recognised(records: Iterable[Kept]) -> dict[str, list[Trailers]]:
    """Map commits to the landings that they represent, for merges whose messages do not say so."""
    found: dict[str, list[Trailers]] = {}
    for kept in records:
        trailers = parse_trailers(kept.trailers)
        if trailers is not None and trailers.landing:
            found.setdefault(trailers.landing, []).append(replace(trailers, landing=""))
    return found


def branch_in(kept: Kept | None) -> BranchTrailers:
    """Return the branch of a milestone that a ref stores."""
    return (decode(BranchTrailers, kept.trailers) if kept is not None else None) or BranchTrailers()
