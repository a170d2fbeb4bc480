"""A world in memory for the real run of an issue: git, agents, checks and the machine are modelled, nothing else is.

Real are the decisions, the fold and the order of effects (issue, attempt, landing, verify, recovery, session, observe)
and the journal with its files. Modelled are objects and refs of git, work trees, agents and checks, and how things end:
every effect is a step at which the process can be killed, the power cut or the disk full.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Self

from executor.engine.session import Outside
from executor.errors import StateFullError
from executor.git.checkout import Checkouts
from executor.git.command import Identity
from executor.git.history import Changed, Record
from executor.git.objects import Merge, Store
from executor.git.refs import Kept, Move, Refs
from executor.git.worktrees import Pool, Slot, Workspace
from executor.process.runner import Command, Ended, Supervisor
from executor.state.journal import Disk, Journal

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from executor.git.command import Repository
    from executor.git.worktrees import ImportLimits

__all__ = ["BASE", "Crash", "Memory", "World"]

BASE = "refs/heads/main"
Files = dict[str, str]


class Crash(BaseException):
    """The process ends here; nothing that it does after this has an effect."""


class World:
    """What survives a process: git, the machine, and what the history of a trial has to know.

    Attributes:
        chance: every draw of the trial.
        step: effects of the present run so far.
        end: step at which the present run ends; 0 for none.
        power: it ends by a power cut, which takes back what is not durable.
        full: step from which on the disk is full in the present run; 0 for never.
        meanwhile: called while an agent works; other issues may be worked on.
        started: (issue, spec) of every agent that was started.
        failing: ISSUE@ATTEMPT of agents that fail.
        idle: ISSUE@ATTEMPT of agents that end well and change nothing.
        passes: whether the check of an issue passes on the files of a tree.
        judges: the same for one command of the checks.
        makes: what an agent does to the files of its tree, for an issue and the words of its declaration.
        good: issues whose present result is complete and durable, so that nobody may be asked again.
        violations: promises that were broken.
    """

    def __init__(self, chance: random.Random, root: Path) -> None:
        self.chance, self.root = chance, root
        self.trees: dict[str, Files] = {}
        self.commits: dict[str, tuple[str, tuple[str, ...], str]] = {}
        self.refs: dict[str, str] = {}
        self.places: dict[str, Files] = {}
        self.synced: dict[str, int] = {}
        self.boot = 0
        self.clock = 1_800_000_000.0
        self.step = self.end = self.full = 0
        self.dead = self.power = False
        self.meanwhile: Callable[[], None] = lambda: None
        self.started: list[tuple[str, str]] = []
        self.good: set[str] = set()
        self.failing: set[str] = set()
        self.idle: set[str] = set()
        self.passes: Callable[[Files, str], bool] = lambda files, issue: issue in files
        self.judges: Callable[[Files, str, Sequence[str]], bool] = lambda files, issue, _: self.passes(files, issue)
        self.makes: Callable[[Files, str, str], None] = dict.__setitem__
        self.violations: list[str] = []
        start = self.commit(self.tree({"README": "start"}), (), "start")
        self.refs[BASE] = start

    def effect(self) -> None:
        """Something outside of the process is about to change."""
        if self.dead:
            raise Crash
        self.step += 1
        self.clock += self.chance.choice((0.01, 0.01, 0.01, 86_400.0, -86_400.0))
        if self.step == self.end:
            self.dead = True
            raise Crash

    @property
    def is_full(self) -> bool:
        """Whether nothing can be written now."""
        return bool(self.full) and self.step >= self.full

    def tree(self, files: Files) -> str:
        """Id of a tree."""
        name = hashlib.sha1(json.dumps(files, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
        self.trees[name] = files
        return name

    def commit(self, tree: str, parents: tuple[str, ...], message: str) -> str:
        """Id of a commit."""
        told = repr((tree, parents, message)).encode("utf-8", "replace")
        name = hashlib.sha1(told, usedforsecurity=False).hexdigest()
        self.commits[name] = (tree, parents, message)
        return name

    def history(self, tip: str) -> list[str]:
        """First parents from a commit on, newest first."""
        found = []
        while tip:
            found.append(tip)
            tip = next(iter(self.commits[tip][1]), "")
        return found

    def trailers(self, commit: str) -> dict[str, str]:
        """Those of a commit's message."""
        last = self.commits[commit][2].rstrip().rsplit("\n\n", 1)[-1]
        return dict(line.split(": ", 1) for line in last.splitlines() if ": " in line)


class MemoryStore(Store):
    """Objects in memory."""

    def __init__(self, world: World, redact: Callable[[bytes], bytes]) -> None:
        self.world, self.redact = world, redact

    def close(self) -> None:
        """Nothing is open."""

    def tree_of(self, commit: str) -> str:
        if commit.endswith("^"):
            commit = self.world.commits[commit[:-1]][1][0]
        return self.world.commits[commit][0] if commit in self.world.commits else commit

    def files_tree(self, files: Mapping[str, bytes]) -> str:
        return self.world.tree({name: data.decode() for name, data in files.items()})

    def parent_of(self, commit: str) -> str:
        return self.world.commits[commit][1][0]

    def time_of(self, commit: str) -> int:
        _ = commit
        return int(self.world.clock)

    def blob(self, tree: str, path: str) -> bytes | None:
        text = self.world.trees[self.tree_of(tree)].get(path)
        return None if text is None else text.encode()

    def paths(self, tree: str) -> frozenset[str]:
        return frozenset(self.world.trees[self.tree_of(tree)])

    def mentions(self, tree: str, texts: Iterable[str]) -> dict[str, list[str]]:
        files = self.world.trees[self.tree_of(tree)]
        return {text: [path for path, content in files.items() if text and text in content] for text in texts}

    def has_path(self, tree: str, path: str) -> bool:
        files = self.world.trees.get(self.tree_of(tree))
        return files is not None and (not path or any(f"{name}/".startswith(f"{path}/") for name in files))

    def whole(self, new: str, base: str) -> bool:
        _ = base
        return self.tree_of(new) in self.world.trees

    def diff(self, old: str, new: str) -> bytes:
        before, after = self.world.trees[self.tree_of(old)], self.world.trees[self.tree_of(new)]
        parts = []
        for path in sorted(before.keys() | after.keys()):
            was, now = before.get(path), after.get(path)
            if was != now:
                kind = "new file mode 100644\n" if was is None else "deleted file mode 100644\n" if now is None else ""
                head = f"diff --git a/{path} b/{path}\n{kind}index 0..1{'' if kind else ' 100644'}\n"
                lines = [f"-{was}"] * (was is not None) + [f"+{now}"] * (now is not None)
                parts.append(f"{head}--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n" + "\n".join(lines) + "\n")
        return "".join(parts).encode()

    def commit(self, tree: str, parents: Iterable[str], message: str, who: Identity, when: int) -> str:
        _ = who, when
        self.world.effect()
        if self.world.is_full:
            raise StateFullError("git commit-tree: No space left on device")
        return self.world.commit(tree, tuple(parents), message)

    def merge(self, ours: str, theirs: str) -> Merge:
        world = self.world
        known = set(world.history(ours))
        base = next(commit for commit in world.history(theirs) if commit in known)
        start, left, right = (world.trees[self.tree_of(commit)] for commit in (base, ours, theirs))
        changed = {path for path in start.keys() | right.keys() if start.get(path) != right.get(path)}
        conflicts = tuple(sorted(p for p in changed if left.get(p) not in {start.get(p), right.get(p)}))
        if conflicts:
            return Merge("", conflicts)
        merged = {path: text for path, text in left.items() if path not in changed}
        return Merge(world.tree({**merged, **{path: right[path] for path in changed if path in right}}), ())


class MemoryRefs(Refs):
    """Refs in memory; a change of several is not one step, as git's is not when git is killed."""

    def __init__(self, world: World) -> None:
        self.world = world

    def close(self) -> None:
        pass

    def tip(self, ref: str) -> str | None:
        return self.world.refs.get(ref)

    def tips(self, refs: Sequence[str]) -> dict[str, str]:
        return {ref: self.world.refs[ref] for ref in refs if ref in self.world.refs}

    def listed(self, patterns: Sequence[str]) -> dict[str, str]:
        return {
            name: commit
            for name, commit in self.world.refs.items()
            if any(f"{name}/".startswith(f"{item.rstrip('/')}/") or fnmatchcase(name, item) for item in patterns)
        }

    def branches(self) -> list[str]:
        return [ref.removeprefix("refs/heads/") for ref in self.world.refs if ref.startswith("refs/heads/")]

    def move(self, moves: Sequence[Move], reason: str) -> bool:
        _ = reason
        self.world.effect()
        if self.world.is_full:
            raise StateFullError("git update-ref: No space left on device")
        if any(move.old not in {"", self.world.refs.get(move.ref)} for move in moves):
            return False
        for place, move in enumerate(moves):
            if place:
                self.world.effect()
            if move.new is None:
                self.world.refs.pop(move.ref, None)
            else:
                self.world.refs[move.ref] = move.new
        return True

    def time_of(self, commit: str) -> int:
        _ = commit
        return int(self.world.clock)

    def message(self, commit: str) -> str:
        return self.world.commits[commit][2]

    def contains(self, older: str, newer: str) -> bool:
        return older in self.world.history(newer)

    def unreadable(self, prefix: str) -> list[tuple[str, str]]:
        _ = prefix
        return []

    def trailers(self, commit: str) -> dict[str, str]:
        return self.world.trailers(commit)

    def has(self, commit: str) -> bool:
        return commit in self.world.commits

    def records(self, ref: str, *, since: Sequence[str] = ()) -> list[Record]:
        world = self.world
        known = {commit for start in since for commit in world.history(start)}
        return [
            Record(commit, world.commits[commit][0], 0, world.commits[commit][2])
            for commit in reversed(world.history(world.refs.get(ref, ref)))
            if commit not in known
        ]

    def changes(self, tip: str, *, since: Sequence[str] = (), most: int) -> list[Changed]:  # noqa: ARG002  (no person)
        return []

    def absorbs(self, tip: str, other: str) -> bool:  # noqa: ARG002  (nobody squashes)
        return False

    def unmerged(self, bases: Sequence[str]) -> list[Record]:
        _ = bases
        return []

    def remote_tips(self, branches: Sequence[str]) -> dict[str, str]:
        _ = branches
        return {}

    def below(self, prefix: str) -> list[str]:
        return [name for name in self.world.refs if name.startswith(prefix)]

    def kept(self, *prefixes: str) -> list[Kept]:
        starts = tuple(f"{prefix.rstrip('/')}/" for prefix in prefixes)
        names = [name for name in sorted(self.world.refs) if f"{name}/".startswith(starts)]
        return [Kept(name, self.world.refs[name], self.world.trailers(self.world.refs[name])) for name in names]

    def on_first_parents(self, older: str, newer: str) -> bool:
        return older in self.world.commits and older in self.world.history(newer)

    def reachable(self, base: str, names: Sequence[str]) -> set[str]:
        known = set(self.world.history(base))
        return {name for name in names if self.world.refs.get(name) in known}


class MemoryCheckouts(Checkouts):
    """The user has nothing checked out."""

    def __init__(self) -> None:
        """Nothing is asked."""

    def of(self, branch: str) -> list[object]:  # type: ignore[override]  # always empty
        _ = branch
        return []

    def state(self, top: Path) -> dict[str, str | int]:
        _ = top
        return {}

    def catch_up(self, branch: str, old: str, new: str) -> None:
        """Nobody is to be brought along."""


class MemoryWorkspace(Workspace):
    """A work tree in memory, known by the name of its folder."""

    def _files(self, store: Store) -> Files:
        assert isinstance(store, MemoryStore)
        return store.world.places.setdefault(str(self.folder), {})

    def prepare(self, store: Store, tree: str) -> None:
        assert isinstance(store, MemoryStore)
        store.world.effect()
        store.world.places[str(self.folder)] = dict(store.world.trees[tree])

    def mend(self, store: Store, tree: str) -> None:
        """There is no index."""

    def give_repository(self, repository: Repository, commit: str) -> None:
        """Agents of this world do not look at history."""

    def result(
        self, store: Store, excludes: Path, declared: Sequence[str], limits: ImportLimits, base: str = ""
    ) -> str:
        _ = excludes, declared, limits, base
        assert isinstance(store, MemoryStore)
        store.world.effect()
        return store.world.tree(dict(self._files(store)))


class MemoryPool(Pool):
    """The real pool with such work trees."""

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        with super().slot() as slot:
            yield replace(slot, work=_in_memory(slot.work), check=_in_memory(slot.check))

    def left_by(self, issue: str, attempt: int, step: str = "") -> Workspace | None:
        found = super().left_by(issue, attempt, step)
        return None if found is None else _in_memory(found)


def _in_memory(workspace: Workspace) -> MemoryWorkspace:
    return MemoryWorkspace(workspace.folder, workspace.index)


class MemorySupervisor(Supervisor):
    """Runs agents and checks that are functions."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Nothing runs."""

    def run(self, command: Command, on_silence: Callable[[float], None] | None = None) -> Ended:
        _ = on_silence
        world = self.world
        files = world.places[str(command.cwd)]
        issue = command.env["EXECUTOR_ISSUE"]
        if command.result_file is None:
            return _ended(0 if world.judges(files, issue, command.argv) else 1)
        return self._agent(command, files, issue)

    def _agent(self, command: Command, files: Files, issue: str) -> Ended:
        world = self.world
        assert command.result_file is not None
        command.result_file.unlink(missing_ok=True)
        world.effect()
        if issue in world.good:
            world.violations.append(f"{issue} was paid for twice")
        said = command.argv[-1]
        if f"{issue}@{command.env['EXECUTOR_ATTEMPT']}" in world.idle:
            return _ended(0)
        files[issue] = "half"
        world.effect()
        world.meanwhile()
        if f"{issue}@{command.env['EXECUTOR_ATTEMPT']}" in world.failing:
            return _ended(1)
        world.makes(files, issue, said)
        world.effect()
        told = {"code": 0, "signal": None, "reason": "exited", "problem": "", "seconds": 0.1}
        command.result_file.write_text(json.dumps({**told, "output_bytes": 0, "leftovers": 0}))
        world.good.add(issue)
        world.effect()
        return _ended(0)


def _ended(code: int) -> Ended:
    return Ended(code, None, "exited", "", 0.1, 0, 0)


class MemoryDisk(Disk):
    """The journal's disk: real files, with a memory of what is durable."""

    def __init__(self, world: World) -> None:
        self.world = world

    def write(self, descriptor: int, data: bytes) -> int:
        world = self.world
        try:
            world.effect()
        except Crash:
            super().write(descriptor, data[: world.chance.randrange(len(data))])
            raise
        if world.is_full:
            super().write(descriptor, data[: world.chance.randrange(len(data))])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self.world.effect()
        self.world.synced[os.readlink(f"/proc/self/fd/{descriptor}")] = os.fstat(descriptor).st_size  # noqa: PTH115

    def fsync_dir(self, folder: Path) -> None:
        _ = folder
        self.world.effect()


class Memory(Outside):
    """The surroundings of a session in such a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.identity = Identity("T", "t@example.org")

        self.refs = MemoryRefs(world)
        self.checkouts = MemoryCheckouts()

    def store(self, redact: Callable[[bytes], bytes], union: Sequence[str] = ()) -> Store:
        _ = union
        return MemoryStore(self.world, redact)

    def journal(self, folder: Path, run: str) -> Journal:
        (folder / "journal.ballast").touch()
        disk = MemoryDisk(self.world)
        return Journal.open(folder, run=run, now=self._now, boot=f"{self.world.boot:08x}", disk=disk)

    def _now(self) -> str:
        return datetime.fromtimestamp(self.world.clock, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def supervisor(self, lock: Path) -> Supervisor:
        _ = lock
        return MemorySupervisor(self.world)

    def pool(self, numbers: Path, folder: Path, keep: tuple[str, ...]) -> Pool:
        return MemoryPool(numbers, folder, keep)
