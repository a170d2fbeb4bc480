"""The lease of a run on the remote: which machine leads a milestone. Each push of the run moves it, too.

The remote decides: a push that moves branches and lease is all or nothing. A run that was frozen or cut off while
another machine took over moves nothing any more, whatever it still believes.
"""

from __future__ import annotations

import hashlib
import platform
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.cluster.exchange import SPACES, Exchange, lease_commit, place_of
from executor.cluster.orders import Entry, Lease, ProtocolError, State, Watch, beaten, decoded, entry_of, next_lease
from executor.errors import BusyError, ForgeRefusedError, ForgeUnavailableError, InterruptedRunError, TakenOverError
from executor.git.command import Identity
from executor.git.refs import Move
from executor.git.remote import Pushed, Remote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from executor.cluster.exchange import Board
    from executor.git.command import Repository
    from executor.git.objects import Store
    from executor.git.refs import Refs

__all__ = ["Led", "LeftOver", "Pace", "clone_of", "left_over", "left_over_on"]

_LOOK_S = 1.0  # seconds between two looks at a lease
_RACES = 3  # tries to move a ref that others move, too; a choice
_PAUSE_S = 0.05
"""Seconds before the second try; doubled with each further one."""
_PAUSES = (0.5, 1.0, 2.0, 5.0)
_GONE = "couldn't find remote ref"


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of a lease in seconds.

    Attributes:
        beat: between two beats.
        silence: without a beat, after which another machine takes over.
        unreachable: for which a run tries to reach the remote again before it gives up.
    """

    beat: float = 10.0
    silence: float = 30.0
    unreachable: float = 600.0


@dataclass(frozen=True, slots=True)
class _Own:
    """A lease that this run holds: its ref, and the commit that the ref has."""

    ref: str
    lease: Lease
    commit: str


def clone_of(folder: Path) -> str:
    """Return what identifies a clone: this host and this folder. A copy of the folder is another clone."""
    text = f"{platform.node()}\0{folder.resolve()}\0{folder.stat().st_ino}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


class Led(Remote):
    """The remote of a run that leads milestones. Use `begin` before the first push, and `end` after the last.

    A push that gets no answer is asked about: the lease on the remote says whether it was made. A remote that cannot
    be reached is tried again for a time.

    Args:
        repository: the trusted repository.
        name: the remote, as `Remote` has it.
        token: the forge's token.
        refs: refs of the repository.
        objects: its objects.
        who: the committer.
        pace: times of the lease.
        stopping: set when the run is being stopped.
        lost: called once, on any thread, with the error when another machine has taken over.
    """

    def __init__(
        self,
        repository: Repository,
        name: str,
        token: str,
        *,
        refs: Refs,
        objects: Store,
        who: Identity,
        pace: Pace,
        stopping: threading.Event,
        lost: Callable[[TakenOverError], None],
    ) -> None:
        super().__init__(repository, name, token)
        self._refs, self._objects, self._who = refs, objects, who
        self._pace, self._stopping, self._lost = pace, stopping, lost
        self._own: dict[str, _Own] = {}
        self._over: TakenOverError | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)

    def begin(self, milestones: Sequence[str], run: str, folder: Callable[[str], Path], *, asked: bool) -> list[str]:
        """Take the leases of milestones; returns a line for each that another machine held.

        Args:
            milestones: ids of milestones whose locks this process holds.
            run: id of the run.
            folder: returns the folder with the lock of a milestone.
            asked: take over at once, although the holder may live.

        Raises:
            BusyError: another machine runs one of them.
            ForgeRefusedError: the remote takes no leases.
            ForgeUnavailableError: it cannot be reached.
        """
        try:
            lines = [self._take(name, f"{clone_of(folder(name))}/{run}", asked=asked) for name in milestones]
        except BaseException:
            self.end()
            raise
        if not self._beats.is_alive():
            self._beats.start()
        return [line for line in lines if line]

    def end(self) -> None:
        """Give the leases back. One that cannot be given back now goes silent, and this clone takes it again."""
        self._ended.set()
        if self._beats.is_alive():
            self._beats.join()
        with self._lock:
            own, self._own = self._own, {}
            if own and self._over is None:
                with suppress(ForgeRefusedError, ForgeUnavailableError):
                    for item in own.values():
                        self._give_back(item)

    def _give_back(self, item: _Own) -> None:
        if not super().push([Move(item.ref, item.commit, None)]).ok:  # a remote may not delete branches
            over = self._with(item, replace(item.lease, state=State.DONE, beat=item.lease.beat + 1))
            super().push([Move(item.ref, item.commit, over.commit)])

    def push(self, moves: Sequence[Move], *, atomic: bool = True) -> Pushed:
        """Move branches and the leases of this run, all or none.

        Raises:
            TakenOverError: another machine has taken a milestone of this run over.
            ForgeUnavailableError, ForgeRefusedError: as `Remote.push` has it.
        """
        with self._lock:
            if self._over is not None:
                raise self._over
            if not self._own:
                return super().push(moves, atomic=atomic)
            done = self._led(moves)
            if atomic or done.ok or len(moves) == 1:
                return done
            each = [self._led([move]) for move in moves]
            return next((item for item in each if not item.ok), done if not each else each[-1])

    def _led(self, moves: Sequence[Move]) -> Pushed:
        give_up, turn = time.monotonic() + self._pace.unreachable, 0
        before, own, leases = dict[str, _Own](), dict[str, _Own](), list[Move]()
        while True:
            if before != self._own:
                before = dict(self._own)
                own = {name: self._with(item, beaten(item.lease)) for name, item in before.items()}
                leases = [Move(item.ref, before[name].commit, item.commit) for name, item in own.items()]
            reason: ForgeUnavailableError | None = None
            done = Pushed(ok=False)
            try:
                done = super().push([*moves, *leases])
            except ForgeUnavailableError as error:
                reason = error
            if done.ok or self._arrived(own):
                self._own = own
                return Pushed(ok=True)
            if before != self._own:
                continue
            if reason is None:
                return done
            self._pause(turn, give_up, reason)
            turn += 1

    def _arrived(self, own: dict[str, _Own]) -> bool:
        """Return whether the remote has these leases after a push.

        Raises:
            TakenOverError: it has those of another run.
        """
        there = self.tips(*(item.ref for item in own.values()))
        if all(there.get(item.ref) == item.commit for item in own.values()):
            return True
        for name, item in self._own.items():
            now = there.get(item.ref)
            if now != item.commit:
                lease = self._read(item.ref, now) if now is not None and self._refs.has(now) else None
                same = lease and (lease.worker, lease.fence) == (item.lease.worker, item.lease.fence)
                if now and lease and same and lease.state is State.HELD:
                    self._own[name] = _Own(item.ref, lease, now)  # of a push before, whose answer was lost
                    continue
                self._over = TakenOverError(self._loss(name, item.ref, now))
                self._lost(self._over)
                raise self._over
        return False

    def _loss(self, milestone: str, ref: str, commit: str | None) -> str:
        by = "by a run that has ended since"
        if commit is not None:
            found = self._held_by_others(ref, commit, asked=True)
            by = f"by {found.host} (run {found.worker.partition('/')[2]})" if found is not None else "by another run"
        return (
            f"milestone {milestone} was taken over {by}, because this run was silent or a person asked for it; "
            "this run moves nothing more, and everything that landed is kept"
        )

    def _asked(self, *arguments: str) -> str:
        give_up, turn = time.monotonic() + self._pace.unreachable, 0
        while True:
            try:
                return super()._asked(*arguments)
            except ForgeUnavailableError as error:
                if _GONE in str(error) or not self._own:
                    raise
                self._pause(turn, give_up, error)
                turn += 1

    def _pause(self, turn: int, give_up: float, error: ForgeUnavailableError) -> None:
        pause = _PAUSES[min(turn, len(_PAUSES) - 1)]
        if time.monotonic() + pause > give_up:
            raise error
        if self._stopping.wait(pause):
            raise self._over or InterruptedRunError(f"the run was stopped while {self.name} could not be reached", 130)

    def _beat(self) -> None:
        while not self._ended.wait(self._pace.beat):
            try:
                self.push([])
            except TakenOverError:
                return
            except (ForgeRefusedError, ForgeUnavailableError, InterruptedRunError):
                continue

    def _take(self, milestone: str, worker: str, *, asked: bool) -> str:
        watch, beats, last = Watch(), -1, ""
        clone = worker.partition("/")[0]
        while True:
            ref, commit = self._there(milestone)
            before = self._held_by_others(ref, commit, asked=asked) if commit is not None else None
            beats, last = (beats + (last != (commit or "-")), commit or "-")
            silence = watch.silence(milestone, last, time.monotonic())
            pace = self._pace.silence
            if before is None and commit is not None and not asked:
                continue  # it moved between two looks
            match entry_of(before, clone, beats=beats, silence=silence, patience=pace, asked=asked):
                case Entry.BUSY if before is not None:
                    raise BusyError(
                        f"milestone {milestone} is already being run on {before.host} "
                        f"(run {before.worker.partition('/')[2]}); nothing was done here; "
                        "`--take-over` stops that run and continues here"
                    )
                case Entry.BEGIN if self._begins(milestone, ref, commit, _next(milestone, before, worker)):
                    other = (
                        before is not None and before.state is State.HELD and before.worker.partition("/")[0] != clone
                    )
                    return _take_over_text(milestone, before, asked=asked) if before is not None and other else ""
            if self._stopping.wait(min(_LOOK_S, self._pace.silence / 4)):
                raise InterruptedRunError(f"{milestone}: the run was stopped", 130)

    def _held_by_others(self, ref: str, commit: str, *, asked: bool) -> Lease | None:
        try:
            return self._read(ref, commit)
        except ProtocolError as error:
            if asked:
                return None
            raise ForgeRefusedError(
                f"{ref} on {self.name} cannot be read ({error}); `--take-over` replaces it"
            ) from error

    def _begins(self, milestone: str, ref: str, before: str | None, lease: Lease) -> bool:
        """Try to move the lease; False if somebody else was faster."""
        places = [ref] if before is not None else list(dict.fromkeys((ref, *(_ref(it, milestone) for it in SPACES))))
        reason = ""
        for name in places:
            own = self._with(_Own(name, lease, before or ""), lease)
            for turn in range(_RACES):
                try:
                    done = super().push([Move(name, before, own.commit)])
                except ForgeUnavailableError as error:  # it may have arrived all the same
                    done = Pushed(ok=False, reason=str(error))
                there = super().tips(*places)
                if there.get(name) == own.commit:
                    self._own[milestone] = own
                    return True
                if done.moved or there.get(name) != before or len(there) > (before is not None):
                    return False
                reason = done.reason
                time.sleep(_PAUSE_S * 2**turn)  # a refusal is also what a race looks like: the ref has to say
        raise ForgeRefusedError(
            f"{self.name} takes no lease of milestone {milestone}, neither as {_ref(SPACES[0], milestone)} nor as "
            f"{_ref(SPACES[1], milestone)}: {reason}"
        )

    def _there(self, milestone: str) -> tuple[str, str | None]:
        """Return name and commit of the lease on the remote, in the name space that it uses."""
        names = [_ref(space, milestone) for space in SPACES]
        tips = super().tips(*names)
        return next(((name, tips[name]) for name in names if name in tips), (names[0], None))

    def _read(self, ref: str, commit: str) -> Lease | None:
        """Return the lease in a commit; None if the ref has moved since.

        Raises:
            ProtocolError: it is none of ours, or of another version.
        """
        if not self._refs.has(commit):
            with suppress(ForgeUnavailableError):
                super().fetch(ref)
        if not self._refs.has(commit):
            return None
        return decoded(Lease, self._refs.message(commit).partition("\n\n")[2].encode())

    def _with(self, item: _Own, lease: Lease) -> _Own:
        commit = lease_commit(self._objects, self._who, lease, item.ref, item.commit)
        return _Own(item.ref, lease, commit)


def _next(milestone: str, before: Lease | None, worker: str) -> Lease:
    return next_lease(milestone, before, worker, platform.node())


def _ref(space: str, milestone: str) -> str:
    return f"{space}/runs/{milestone}"


def _take_over_text(milestone: str, before: Lease, *, asked: bool) -> str:
    why = "as asked" if asked else "which has been silent"
    return f"{milestone} is taken over from {before.host} (run {before.worker.partition('/')[2]}), {why}"


_DAY_S = 86_400.0  # seconds of a day
_SILENT_S = 300.0
"""Age of the last beat, by the clocks of two hosts, from which a run no longer owns its orders."""


@dataclass(frozen=True, slots=True)
class LeftOver:
    """Refs on a remote without an owner.

    Attributes:
        name: the order, the milestone of a lease, or the ref itself if it is none of ours.
        refs: their names and commits.
        why: what is known about them.
        removable: nobody will need them.
    """

    name: str
    refs: Mapping[str, str]
    why: str
    removable: bool


def left_over(
    tips: Mapping[str, str],
    board: Board,
    leaders: Mapping[str, Lease],
    *,
    age: Callable[[str], float],
    landed: Callable[[str], bool],
    days: int,
) -> list[LeftOver]:
    """Return the refs that no run owns. Results that a run can still use are among them, and are not removable.

    Args:
        tips: refs of work on the remote, with their commits.
        board: the same refs, read.
        leaders: the leases of runs, by milestone.
        age: returns the age of a commit in seconds.
        landed: returns whether the issue of an order has landed.
        days: age of refs in days from which nobody needs them.
    """
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for ref, commit in tips.items():
        kind, name = ("", ref) if ref in board.strange else place_of(ref)
        groups.setdefault(("runs" if kind == "runs" else kind and "order", name), {})[ref] = commit
    beats = {name: age(next(iter(refs.values()))) for (kind, name), refs in groups.items() if kind == "runs"}
    held = {name for name, lease in leaders.items() if lease.state is State.HELD}
    found = []
    for (kind, name), refs in sorted(groups.items()):
        if kind == "runs":
            old, why = beats[name] > _DAY_S, "the run that led it has ended"
            if name in held:
                why = f"its run on {leaders[name].host} has been silent for {beats[name] / 60:.0f} minutes"
            if name not in held or beats[name] > _SILENT_S:
                found.append(LeftOver(name, refs, why, removable=old or name not in held))
        elif not kind:
            found.append(LeftOver(name, refs, board.strange[name], removable=False))
        elif (owner := name.partition("/")[0]) not in held or beats[owner] > _SILENT_S:
            old = max(map(age, refs.values())) > days * _DAY_S
            found.append(_unowned(name, refs, board, old=old, landed=landed(name)))
    return found


def _unowned(name: str, refs: Mapping[str, str], board: Board, *, old: bool, landed: bool) -> LeftOver:
    lease = board.leases.get(name)
    over = {
        "its issue has landed": landed,
        "it was cancelled": lease is not None and lease[0].state is State.CANCELLED,
        "its order is gone": name not in board.orders,
        "it is older than the rule": old,
    }
    why = next((text for text, holds in over.items() if holds), "")
    return LeftOver(name, refs, why or "it waits for the next run of its milestone", removable=bool(why))


def left_over_on(
    remote: Remote, refs: Refs, objects: Store, days: int, landed: Callable[[str], bool]
) -> list[LeftOver]:
    """Return the refs on a remote that no run owns, see `left_over`.

    Raises:
        ForgeUnavailableError: the remote cannot be reached.
        ForgeRefusedError: it does not exist, or rejects access.
    """
    tips = remote.tips(*(f"{space}/*" for space in SPACES))
    if not tips:
        return []
    remote.fetch(*tips)
    board, now = Exchange(remote, refs, objects, Identity("", "")).board(), time.time()
    leaders = {}
    for ref, commit in tips.items():
        kind, name = place_of(ref)
        if kind == "runs":
            with suppress(ProtocolError):
                leaders[name] = decoded(Lease, refs.message(commit).partition("\n\n")[2].encode())

    def age(commit: str) -> float:
        return now - refs.time_of(commit)

    return left_over(tips, board, leaders, age=age, landed=landed, days=days)
