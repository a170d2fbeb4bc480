"""Consistency: contradictions between journal, git and files of a milestone, their meaning and their repair.

Read-only; a repair is a function in the finding, which `doit doctor --repair` calls while no run holds the milestone.
Git alone decides what has landed, so nothing here moves a branch.

A corrupt journal is truncated after its last good record, and the rest is kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from executor.doctor.health import Finding
from executor.engine.candidate import write_receipt
from executor.errors import DeclarationError, ExecutorError, StateBrokenError, StateFullError, UsageError
from executor.git.objects import Store
from executor.git.refs import ACCEPTED, APPROVED, ATTEMPTS, LANDED, Move, Refs, attempt_in, locks_on
from executor.git.repair import sweep
from executor.git.worktrees import Pool
from executor.model.fingerprint import IssueRef
from executor.process.files import NO_SPACE, local_time, read_json
from executor.process.locks import read_holder, remove_holder
from executor.state import segments
from executor.state.events import Landed
from executor.state.fold import fold
from executor.state.journal import Disk, publish
from executor.state.model import AttemptState
from executor.state.record import scan
from executor.state.segments import ARCHIVE, Chain, look, refuse, restore, segment_name
from executor.status.reader import observe
from executor.status.summary_cache import is_held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.config.project import Compiled, Project
    from executor.git.refs import Kept
    from executor.state.model import IssueState
    from executor.state.record import Record
    from executor.status.load import MilestoneView

__all__ = ["cut", "inconsistencies"]

_MOST_NAMED = 5  # names in a sentence; the first ones are enough to look
_USERS_LOCKS = ("index.lock", "HEAD.lock", "config.lock", "shallow.lock")


@dataclass(slots=True)
class _Scene:
    """A milestone in all its representations."""

    compiled: Compiled
    refs: Refs
    view: MilestoneView
    events: list[Record]
    states: dict[str, IssueState]
    kept: list[Kept]

    @property
    def project(self) -> Project:
        return self.compiled.project

    @property
    def name(self) -> str:
        return self.view.milestone.id

    @property
    def folder(self) -> Path:
        return self.project.state(self.name)


def inconsistencies(compiled: Compiled) -> Iterator[Finding]:
    """Yield all inconsistencies, milestone by milestone, then the others."""
    refs = Refs(compiled.project.repository)
    try:
        observer = observe(compiled, refs, states=False)
    except DeclarationError as error:
        yield from (Finding("declaration", "declaration", str(fault)) for fault in error.faults)
        return
    except ExecutorError as error:
        yield Finding("state", "state", str(error))
        return
    kept = refs.kept(ATTEMPTS)
    for name, view in observer.views.items():
        events, problem = _journal(compiled.project, name)
        yield problem or Finding("ok", f"journal of {name}", f"{len(events)} records")
        # A run changes journal, refs and files one after the other; between two of them they contradict each other.
        if is_held(compiled.project, name):
            yield Finding("running", f"milestone {name}", "is being run now; its state is checked only between runs")
            continue
        mine = [item for item in kept if item.ref.startswith(f"{ATTEMPTS}/{name}/")]
        scene = _Scene(compiled, refs, view, events, fold(events), mine)
        for examine in (_branch, _receipts, _attempts, _slots, _locks, _undeclared):
            yield from examine(scene)
    yield from _strays(kept, set(observer.views))
    yield from _users_git(compiled.project)


def _journal(project: Project, name: str) -> tuple[list[Record], Finding | None]:
    try:
        trouble = segments.inspect(project.state(name))
        if trouble is None:
            return segments.read(project.state(name)), None
    except StateBrokenError as error:
        return [], Finding("journal-broken", f"journal of {name}", str(error), f"doit repair {name} shows more")
    text = f"{trouble.path} {trouble.why}; runs of {name} are refused"
    todo = "use the newer version" if trouble.newer else f"doit repair {name} shows what can be kept"
    return [], Finding("journal-broken", f"journal of {name}", text, todo)


def _branch(scene: _Scene) -> Iterator[Finding]:
    """Yield landings in the journal that the branch lacks, or that are ahead of the branch."""
    view, branch = scene.view, scene.view.milestone.branch
    if view.ahead:
        text = (
            f"the latest landings are kept beyond {branch}, at {view.ahead[:10]}, because a checkout could not follow"
        )
        todo = f"commit or stash the changes in its checkouts, then doit milestone:{scene.name}"
        yield Finding("branch-behind", f"milestone {scene.name}", text, todo)
    last = {item.key: (item, event) for item in scene.events if isinstance(event := item.event, Landed)}
    lost = [(item, event) for issue, (item, event) in last.items() if _revision(view, issue) < event.revision]
    if lost:
        yield _lost(scene, lost)
    elif view.lost:
        names = ", ".join(str(IssueRef(scene.name, issue)) for issue in sorted(view.lost)[:_MOST_NAMED])
        todo = f"git branch {branch} {LANDED}/{scene.name}, or doit retry {names.replace(', ', ' ')}"
        todo = todo if not view.exists else f"git merge {LANDED}/{scene.name} on {branch}"
        yield Finding("branch-deleted", f"milestone {scene.name}", f"{names} landed and no branch has it", todo)
    rewritten = [
        item
        for issue, (item, event) in last.items()
        if (landing := view.landings.get(issue)) is not None
        and landing.trailers.revision == event.revision
        and landing.commit != event.commit
        and not scene.refs.contains(event.commit, view.tip)
    ]
    if rewritten:
        text = f"{branch} was rewritten by hand: {_named(scene, rewritten)} landed as other commits; git decides"
        yield Finding("branch-rewritten", f"milestone {scene.name}", f"{text}; no issue is implemented again")
    twice = [issue for issue, known in view.history.items() if len(known) > _revision(view, issue)]
    if twice:
        names = ", ".join(twice[:_MOST_NAMED])
        text = f"{branch} has more landings of {names} than revisions; someone else commits there"
        yield Finding("landed-twice", f"milestone {scene.name}", text, f"git log --first-parent {branch}, revert one")


def _lost(scene: _Scene, lost: list[tuple[Record, Landed]]) -> Finding:
    view, branch = scene.view, scene.view.milestone.branch
    newest = max(lost, key=lambda pair: pair[0].number)[1].commit
    what = f"{branch} was deleted" if not view.exists else f"{branch} was moved by hand"
    names = _named(scene, [item for item, _ in lost])
    text = f"{what}: {names} landed according to the journal, but {'are' if len(lost) > 1 else 'is'} not on it"
    subject, kind = f"milestone {scene.name}", "branch-lost" if view.exists else "branch-deleted"
    again = f"doit retry {' '.join(f'{scene.name}/{item.key}' for item, _ in lost)} to implement them again"
    if scene.refs.tip(newest) is None:
        return Finding(kind, subject, f"{text}, and the commits are gone; git decides", again)
    if not view.exists:
        return Finding(kind, subject, f"{text}; git decides", f"git branch {branch} {newest}, or {again}")
    if scene.refs.contains(view.tip, newest):
        return Finding(kind, subject, f"{text}; git decides", f"git branch -f {branch} {newest}, or {again}")
    todo = f"it has other commits: git merge {newest} (git log {view.tip[:10]}..{newest[:10]}), or {again}"
    return Finding(kind, subject, f"{text}; git decides", todo)


def _receipts(scene: _Scene) -> Iterator[Finding]:
    project, name, view = scene.project, scene.name, scene.view
    declared = {issue.id for issue in view.milestone.issues}
    paths = {path.name.removesuffix(".json"): path for path in (scene.folder / "receipts").glob("*.json")}
    for issue, path in sorted(paths.items()):
        if issue not in view.landings:

            def forget(path: Path = path) -> str:
                path.unlink(missing_ok=True)
                return "receipt removed"

            text = "it has a receipt, but no commit on the branch; issues that need it would trust the receipt"
            yield Finding("receipt-stray", str(IssueRef(name, issue)), text, mend=forget, milestone=name)
    if not scene.events and not paths:
        return  # without `.cache/` there are none, and the next run writes them
    for issue, landing in sorted(view.landings.items()):
        found = read_json(paths[issue]) if issue in paths else None
        if issue not in declared or (isinstance(found, dict) and found.get("commit") == landing.commit):
            continue

        def write(issue: str = issue) -> str:
            store = Store(project.repository, project.cache / "_store")
            try:
                write_receipt(project, store, view.landings[issue])
            finally:
                store.close()
            return "receipt written from its commit"

        kind = "receipt-wrong" if issue in paths else "receipt-missing"
        what = "its receipt names another commit" if issue in paths else "it has landed, but has no receipt"
        text = f"{what} ({landing.commit[:10]}); the next run writes it too"
        yield Finding(kind, str(IssueRef(name, issue)), text, mend=write, milestone=name)


def _attempts(scene: _Scene) -> Iterator[Finding]:
    refs = {item.ref: item.commit for item in scene.kept}
    known = {issue: set(state.attempts) for issue, state in scene.states.items()}
    for item in scene.kept:
        place = attempt_in(item.ref)
        if scene.events and place is not None and place[1] not in known.get(place[0], ()):
            text = f"attempt {place[1]} is under {item.ref}, but not in the journal; it counts anyway"
            yield Finding("attempt-from-git", f"{scene.name}/{place[0]}", text)
    for issue, state in scene.states.items():
        for attempt in state.attempts.values():
            ref = f"{ATTEMPTS}/{scene.name}/{issue}/{attempt.number}"
            subject = str(IssueRef(scene.name, issue))
            if attempt.state is AttemptState.STARTED and ref not in refs:
                text = f"attempt {attempt.number} was cut off; the next run keeps its partial result and tries again"
                yield Finding("attempt-cut-off", subject, text)
            if attempt.state is AttemptState.BUILT and ref not in refs and attempt.landing not in _landed(scene):
                yield _without_ref(scene, subject, ref, attempt.commit)


def _without_ref(scene: _Scene, subject: str, ref: str, commit: str) -> Finding:
    if scene.refs.tip(commit) is None:
        text = (
            f"its result {commit[:10]} was kept under {ref}; ref and commit are gone; the next run implements it again"
        )
        return Finding(
            "result-lost", subject, text, "find out who removed it: `git gc` does not, unless the ref was deleted"
        )

    def restore() -> str:
        done = scene.refs.move([Move(ref, None, commit)], "doctor: restore")
        return f"{ref} is {commit[:10]} again" if done else f"{ref} already exists"

    text = f"its result {commit[:10]} is no longer under {ref}: git may remove it"
    return Finding("result-ref-missing", subject, text, mend=restore, milestone=scene.name)


def _slots(scene: _Scene) -> Iterator[Finding]:
    pool = Pool(scene.project.cache / "_slots", scene.folder / "workspaces")
    for number, why in pool.broken():

        def discard(number: int = number) -> str:
            pool.discard(number)
            return "removed; it is created again when needed"

        subject = f"slot {number} of {scene.name}"
        yield Finding("slot-broken", subject, f"{why}; it is not used", mend=discard, milestone=scene.name)


def _locks(scene: _Scene) -> Iterator[Finding]:
    found = read_holder(scene.folder)
    if found is not None:

        def forget() -> str:
            remove_holder(scene.folder)
            return "forgotten"

        who = f"process {found.pid} on {found.host}"
        text = f"{who} held it since {local_time(found.since)} and did not release it; the lock is free"
        yield Finding("holder-stale", f"milestone {scene.name}", text, mend=forget, milestone=scene.name)
    repository, names = scene.project.repository, _own_refs(scene)
    locks = [str(path.relative_to(repository.common_dir)) for path in locks_on(repository.common_dir, names)]
    if locks:

        def remove() -> str:
            removed = sweep(repository, names)
            return f"removed {', '.join(removed)}" if removed else "left alone: git is running in this repository"

        text = f"{', '.join(locks[:_MOST_NAMED])}: left by a killed git process"
        yield Finding("git-lock", f"milestone {scene.name}", text, mend=remove, milestone=scene.name)


def _own_refs(scene: _Scene) -> tuple[str, ...]:
    folders = (f"{place}/{scene.name}/" for place in (ATTEMPTS, ACCEPTED, APPROVED))
    return (scene.view.branch, str(IssueRef(LANDED, scene.name)), *folders)


def _undeclared(scene: _Scene) -> Iterator[Finding]:
    declared = {issue.id for issue in scene.view.milestone.issues}
    for issue in sorted(set(scene.view.landings) - declared):
        text = "it has landed but is no longer declared; its work stays on the branch"
        yield Finding("undeclared", str(IssueRef(scene.name, issue)), text)


def _strays(kept: list[Kept], milestones: set[str]) -> Iterator[Finding]:
    wrong = [item.ref for item in kept if attempt_in(item.ref) is None]
    for ref in wrong[:_MOST_NAMED]:
        text = f"{ref} is not an attempt and is ignored"
        yield Finding("attempt-misnamed", "attempts", text, f"git update-ref -d {ref}, or give it another name")
    stray = [item.ref for item in kept if item.ref not in wrong and item.ref.split("/")[2] not in milestones]
    if stray:
        text = f"{len(stray)} refs belong to undeclared milestones, for example {stray[0]}; they are kept"
        yield Finding("attempt-stray", "attempts", text)


def _users_git(project: Project) -> Iterator[Finding]:
    """Yield obstructive locks and worktrees of the user, which the executor must not remove."""
    for name in _USERS_LOCKS:
        path = project.repository.git_dir / name
        if path.exists():
            text = f"{path} exists: a git process is running, or was killed"
            yield Finding("git-lock-users", "git", text, f"when no git process is running: rm {path}")
    for pointer in sorted((project.repository.common_dir / "worktrees").glob("*/gitdir")):
        place = Path(pointer.read_text(encoding="utf-8", errors="replace").strip()).parent
        if not place.exists():
            text = f"{place} is gone, but git still considers its branch checked out"
            # `prune` passes over a locked one: it may be on a disk that is not mounted.
            locked = (pointer.parent / "locked").exists()
            todo = f"git worktree unlock {place}, then git worktree prune" if locked else "git worktree prune"
            yield Finding("worktree-gone", "worktree", text, todo)


def _landed(scene: _Scene) -> frozenset[str]:
    return frozenset(landing.commit for landing in scene.view.landings.values())


def _revision(view: MilestoneView, issue: str) -> int:
    landing = view.landings.get(issue)
    return landing.trailers.revision if landing is not None else 0


def _named(scene: _Scene, events: list[Record]) -> str:
    names = [str(IssueRef(scene.name, event.key)) for event in events]
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def cut(folder: Path, to: int, *, at: str, disk: Disk | None = None) -> list[str]:
    """Keep the first records of a refused journal and move all later ones into files next to it.

    The caller holds the milestone's lock. A crash in between leaves a journal that is as corrupt as before, or
    repaired.

    Args:
        folder: folder of the journal.
        to: number of the last record to keep; 0 for an empty journal.
        at: part of the file names, for example the current time.
        disk: the system calls.

    Returns:
        Names of the files with the rest.

    Raises:
        UsageError: the journal is intact, or it cannot be kept up to that record.
        StateFullError: the disk has no space for the rest; nothing was changed.
        StateBrokenError: a newer version wrote it, or the disk fails.
    """
    chain = look(folder)
    trouble = chain.trouble
    if trouble is None:
        raise UsageError(f"the journal of {folder.name} is intact; there is nothing to repair")
    if trouble.newer:
        refuse(folder, chain)
    if to and not trouble.first <= to <= trouble.good:
        ways = (
            f"{trouble.first} to {trouble.good}, or 0 for an empty journal"
            if trouble.good
            else "0 only: for an empty journal"
        )
        raise UsageError(f"--to {to}: the journal of {folder.name} can be kept up to record {ways}")
    try:
        return _cut(folder, chain, to, folder / f"journal.corrupt.{at}", disk or Disk())
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StateFullError(f"{folder}: {error.strerror}; free some space and repair again") from error
        raise StateBrokenError(f"{folder} cannot be repaired: {error.strerror or error}") from error


def _cut(folder: Path, chain: Chain, to: int, aside: Path, disk: Disk) -> list[str]:
    place, size = _end_of(chain, to)
    names, number = os.listdir(folder), 0  # noqa: PTH208
    first = aside.name
    while any(name.startswith(aside.name) for name in names):
        number += 1
        aside = aside.with_name(f"{first}-{number}")
    kept, later = chain.segments[: place + 1], chain.segments[place + 1 :]
    restore(folder, replace(chain, segments=kept), disk)
    rest = kept[-1].data[size:] if kept else b""
    made = []
    # The rest is durable elsewhere before the journal is cut: a crash in between loses nothing.
    if rest:
        publish(disk, aside, rest)
        made.append(aside.name)
    moves = [(segment.path, f"{segment.number:06d}") for segment in reversed(later) if segment.path is not None]
    own = kept[0].base.snapshot if kept and kept[0].base is not None else ""
    moves += [(path, path.name) for path in sorted(folder.glob("snapshot.*.jsonl")) if path.name != own]
    if not kept and (folder / ARCHIVE).is_dir():
        moves.append((folder / ARCHIVE, ARCHIVE))
    for path, name in moves:
        made.append(f"{aside.name}.{name}")
        disk.rename(path, folder / made[-1])
    disk.fsync_dir(folder)
    if rest:
        descriptor = disk.open(folder / segment_name(kept[-1].number), os.O_RDWR)
        try:
            disk.truncate(descriptor, size)
            disk.fsync(descriptor)
        finally:
            os.close(descriptor)
    return made


def _end_of(chain: Chain, to: int) -> tuple[int, int]:
    """Return the index of the segment with that record and the byte offset of the record's end; -1 if none is kept."""
    first = chain.segments[0]
    if not to:
        return (0, 0) if first.number == 1 and first.path is not None else (-1, 0)
    number, check = (first.base.number, first.base.check) if first.base is not None else (0, 0)
    place, end = 0, 0
    found = scan(first.data, number + 1, check)
    while number + len(found.events) < to:
        place, number, check = place + 1, number + len(found.events), found.check
        found = scan(chain.segments[place].data, number + 1, check)
    for _ in range(to - number):
        end = chain.segments[place].data.index(b"\n", end) + 1
    return place, end
