"""Prepares a tree for work: its environment, declared ignored files, and set-up commands with changed inputs."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.agents.command import child_environment
from executor.checks.spec import slug_of
from executor.environments.environment import (
    FOLDER,
    TreeEnvironment,
    fetching_variables,
    has_python,
    mark_made,
    to_be_made,
)
from executor.environments.making import tree_environment
from executor.errors import InterruptedRunError
from executor.git.worktrees import empty_folder, remove
from executor.process.files import read_json, write_json
from executor.process.runner import Command
from executor.state.model import AttemptState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from executor.checks.spec import CommandProof
    from executor.cluster.orders import Order
    from executor.cluster.runners import Crowd, Host, Hosts
    from executor.environments.environment import Step
    from executor.git.remote import Remote
    from executor.git.worktrees import Slot, Workspace
    from executor.model.outward_rules import Runner
    from executor.model.rules import Setup
    from executor.process.runner import Ended
    from executor.sandbox.policy import RunContext, Sandboxing
    from executor.state.model import IssueState

__all__ = ["TreeSetup", "Unready"]


class Unready(Exception):  # noqa: N818  (a situation, not an error of ours)
    """A set-up command failed; carries one sentence and the log with its output."""

    def __init__(self, reason: str, log: Path) -> None:
        super().__init__(reason)
        self.log = log


@dataclass(frozen=True)
class _Run:
    """A command that prepares a tree."""

    name: str
    argv: tuple[str, ...]
    start: Path
    log: Path
    timeout: float | None = None
    boxed: bool = True
    write: tuple[Path, ...] = ()
    network: bool = True
    fetches: bool = False


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A check that ran on another host.

    Attributes:
        ended: its end.
        host: the host.
        conditions: those of its verdict.
    """

    ended: Ended
    host: str
    conditions: dict[str, str]


_TRIES = 3
"""Hosts that are tried for a check before it runs here."""


class TreeSetup:
    """Prepares the trees of one milestone.

    Args:
        context: the run.
        sandboxing: the sandboxes of its commands.
        outside: returns the remote of the forge, None without one, and the commit on which work starts.
    """

    def __init__(
        self, context: RunContext, sandboxing: Sandboxing, outside: Callable[[], tuple[Remote | None, str]]
    ) -> None:
        self._context = context
        self._sandboxing = sandboxing
        self._outside = outside
        self._hosts: Hosts | None = None

    @property
    def hosts(self) -> Hosts:
        """The hosts of the runners."""
        if self._hosts is None:
            from executor.cluster.runners import Hosts

            self._hosts = Hosts(self._context.policy, self._outside)
        return self._hosts

    def tidy(self, states: Mapping[str, IssueState], landed: Collection[str]) -> None:
        """Remove the orders on remotes whose attempts have landed or failed.

        Args:
            states: the issues of the milestone.
            landed: those that have landed, here or from another machine.
        """
        policy = self._context.policy
        asked = {check.runner for check in policy.checks.values()} - {""}
        for runner in policy.runners.values():
            if runner.claimed and not asked.isdisjoint(runner.names):  # a run that was killed may have left orders
                self.hosts.desk(self._context, runner, self._outside()[0])
        if self._hosts is not None:
            self._hosts.tidy(lambda order: _is_needed(order, states, landed))

    def host_of(self, item: CommandProof, *, boxed: bool) -> Host | Crowd | None:
        """Return the host on which a check runs; None if it runs here."""
        if not item.runner or item.before or item.after or item.prefix:
            return None
        return self.hosts.host_for(item.runner, boxed=boxed)

    def conditions_elsewhere(self, item: CommandProof, *, boxed: bool) -> dict[str, str]:
        """Return the conditions of verdicts of a check on the host of its runner; empty if it runs here."""
        found = self._answering(item, boxed=boxed)
        return found[1] if found is not None else {}

    def _answering(self, item: CommandProof, *, boxed: bool) -> tuple[Host | Crowd, dict[str, str]] | None:
        """Return the first host of a check that answers, and its conditions."""
        python = has_python(self._context.project.repository)
        while (host := self.host_of(item, boxed=boxed)) is not None:
            conditions = host.conditions(self._context, item.argv, python=python)
            if conditions is not None:
                return host, conditions
        return None

    def elsewhere(self, item: CommandProof, tree: str, files: Sequence[str], log: Path, out: Path) -> Elsewhere | None:
        """Run a check on a host of its runner. None if it has none, or all of them fail: it runs here.

        Args:
            item: the check.
            tree: the tree to judge.
            files: changed files that it receives.
            log: file for its output.
            out: folder for its report.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        context, boxed = self._context, item.sandboxed and self._sandboxing.judges()
        for _ in range(_TRIES):
            answering = self._answering(item, boxed=boxed)
            if answering is None:
                return None
            host, conditions = answering
            empty_folder(out)
            done = host.run(context, self._order(host.runner, item, tree, files, conditions), log, out)
            if done is not None:
                return Elsewhere(*done, conditions)
            if host.down:
                text = f"runner {host.runner.name} failed, {item.name} runs here: {host.down}"
                context.tell("warning", context.name, text)
        return None

    def _order(
        self, runner: Runner, item: CommandProof, tree: str, files: Sequence[str], conditions: Mapping[str, str]
    ) -> Order:
        """Return the order of a check, which gets its id and its base from the runner."""
        from executor.cluster.orders import Limits, Order
        from executor.cluster.worker import OUT

        report, context = f"{OUT}/report.xml", self._context
        return Order(
            id="-",
            base="",
            argv=item.command(files, report),
            profile=item.name,
            env={**item.environment(report), "EXECUTOR_MILESTONE": context.name},
            secrets=runner.env,
            labels=runner.needs,
            limits=Limits(float(item.timeout), 0.0, context.policy.limits.output_cap_bytes),
            start=context.project.prefix,
            prepare=tuple(step.argv for step in context.policy.setup.steps.values()),
            spec=tree,
            isolated=runner.isolated,
            beat_s=runner.beat_s,
            patience_s=runner.patience_s,
            asks=item.argv,
            conditions=conditions,
        )

    def make_ready(
        self, slot: Slot, tree: Workspace, logs: Path, *, judging: bool, sabotaged: bool = False
    ) -> TreeEnvironment:
        """Prepare a tree and return the environment for its processes.

        Args:
            slot: the slot that the tree belongs to.
            tree: a freshly checked out tree of the slot.
            logs: folder for the output of the commands.
            judging: the tree is for checks; kept files are reused only if unmodified since.
            sabotaged: it is a deliberately broken copy.

        Raises:
            Unready: a command failed.
            InterruptedRunError: the run is being stopped.
        """
        rules = self._context.policy.setup
        repository, store = self._context.project.repository, self._context.project.cache / FOLDER
        env = child_environment((), {}, tree.folder)
        own = self._context.policy.environments
        environment = tree_environment(repository, tree, slot.number, env, store, own, sabotaged=sabotaged)
        for source, target in _included(self._context.project.root, tree.start, rules.include):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        own_packages = any("node_modules" in path for step in rules.steps.values() for path in step.keep)
        for needed in environment.steps:
            if needed.place is None or not (own_packages and needed.place.name.startswith("node-")):
                environment = environment.joined(self._completed(slot, environment, tree, needed, logs))
        environment = environment.without_steps()
        if rules.steps:
            self._complete_declared(slot, environment, tree, logs, judging=judging)
        return environment

    def _complete_declared(
        self, slot: Slot, environment: TreeEnvironment, tree: Workspace, logs: Path, *, judging: bool
    ) -> None:
        """Run the commands of rules/setup.toml whose inputs or kept files have changed since their last run."""
        mark = tree.index.with_name(f"{tree.folder.name}.setup.json")
        known = read_json(mark)
        done: dict[str, list[str]] = known if isinstance(known, dict) else {}
        for name, step in self._context.policy.setup.steps.items():
            key = step.key(_inputs(tree.start, step))
            if done.get(name) == [key, _stamp(tree.start, step) if judging else ""] and _there(tree.start, step):
                continue
            done.pop(name, None)
            write_json(mark, done, durable=False)
            for path in step.keep:
                remove(tree.start / path)
            self._run(slot, environment, tree, name, step, logs / f"setup-{name}.log")
            done[name] = [key, _stamp(tree.start, step) if judging else ""]
            write_json(mark, done, durable=False)

    def _completed(
        self, slot: Slot, environment: TreeEnvironment, tree: Workspace, step: Step, logs: Path
    ) -> TreeEnvironment:
        """Return the additions of a step to an environment; fills its folder first unless an earlier tree did."""
        log = logs / f"environment-{slug_of(step.name)}.log"
        if step.place is None:
            self._complete(slot, environment, tree, step, log)
            return step.finish()
        with to_be_made(step.place) as needed:
            if needed:
                begun = time.monotonic()
                if step.prepare is not None:
                    step.prepare()
                self._complete(slot, environment, tree, step, log)
                mark_made(step.place, step.key, time.monotonic() - begun)
        return step.finish()

    def _complete(self, slot: Slot, environment: TreeEnvironment, tree: Workspace, step: Step, log: Path) -> None:
        given = environment.joined(TreeEnvironment(variables=step.variables))
        write = (*step.writable, *([step.place] if step.place is not None else []))
        start = step.start or tree.start
        if step.first:
            command = _Run(
                step.name,
                step.first,
                start,
                log.with_suffix(".first.log"),
                timeout=step.timeout,
                boxed=False,
                fetches=True,
            )
            self._child(slot, given, tree, command)
        boxed = _Run(
            step.name,
            step.argv,
            start,
            log,
            timeout=step.timeout,
            boxed=step.boxed,
            write=write,
            network=step.network,
            fetches=True,
        )
        ended = self._child(slot, given, tree, boxed)
        if not ended.ok:
            self._context.require_space()
            raise Unready(f"{step.name}: {ended.describe()}", log)

    def _run(
        self, slot: Slot, environment: TreeEnvironment, tree: Workspace, name: str, step: Setup, log: Path
    ) -> None:
        argv = (*self._context.policy.environments.prefix, *step.argv)
        ended = self._child(
            slot, environment, tree, _Run(f"set-up {name}", argv, tree.start, log, timeout=step.timeout)
        )
        if not ended.ok:
            self._context.require_space()
            raise Unready(f"set-up {name}: {ended.describe()}", log)

    def _child(self, slot: Slot, environment: TreeEnvironment, tree: Workspace, run: _Run) -> Ended:
        run.log.parent.mkdir(parents=True, exist_ok=True)
        limits = self._context.policy.limits
        given = fetching_variables(os.environ, trusted=not run.boxed) if run.fetches else {}
        given |= {"EXECUTOR_MILESTONE": self._context.name, "EXECUTOR_SLOT": str(slot.number)}
        env = environment.environment(child_environment((), given, tree.folder))
        argv = environment.command(run.argv)
        if run.boxed:
            argv = self._sandboxing.wrap(
                argv,
                tree=tree.folder,
                env=env,
                writable=run.write,
                readable=environment.shown,
                network=run.network,
                start=run.start,
            )
        ended = self._context.supervisor.run(
            Command(
                argv=argv,
                cwd=run.start,
                env=env,
                log=run.log,
                timeout=float(run.timeout or limits.check_timeout_s),
                output_cap=limits.output_cap_bytes,
                secrets=self._context.secrets,
            )
        )
        if ended.reason in {"stopped", "lost"}:
            raise InterruptedRunError(f"the {run.name} was interrupted", 130)
        return ended


def _is_needed(order: str, states: Mapping[str, IssueState], landed: Collection[str]) -> bool:
    """Return whether the attempt of an order has not ended; one of another machine ends with the landing."""
    from executor.cluster.orders import is_check_id

    parts = order.split("/")
    if is_check_id(order):
        return False  # of a check: all of this run are over, and those of a killed run are not wanted any more
    number = parts[2].partition(".")[0] if len(parts) > 2 else ""  # noqa: PLR2004  (milestone, issue, attempt)
    if not number.isdecimal():
        return True
    issue = parts[1]
    attempt = states[issue].attempts.get(int(number)) if issue in states else None
    return issue not in landed if attempt is None else attempt.state in {AttemptState.STARTED, AttemptState.BUILT}


def _included(root: Path, folder: Path, globs: tuple[str, ...]) -> Iterator[tuple[Path, Path]]:
    """Yield the files of the user's checkout to copy, with their targets; existing files stay untouched."""
    for glob in globs:
        for source in sorted(root.glob(glob)):
            target = folder / source.relative_to(root)
            inside = folder.resolve() in target.parent.resolve().parents or target.parent.resolve() == folder.resolve()
            if source.is_file() and not source.is_symlink() and inside and not os.path.lexists(target):
                yield source, target


def _inputs(folder: Path, step: Setup) -> dict[str, bytes]:
    """Return the contents of the input files; links are not followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for glob in step.inputs
        for path in sorted(folder.glob(glob))
        if path.is_file() and not path.is_symlink()
    }


def _there(folder: Path, step: Setup) -> bool:
    """Whether its output still exists."""
    return all(os.path.lexists(folder / path) for path in step.keep)


def _stamp(folder: Path, step: Setup) -> str:
    """Return a digest of the stat data of all kept files; change times cannot be set back by the author of a file."""
    hasher = hashlib.sha256()
    for kept in step.keep:
        for place, folders, names in os.walk(folder / kept):
            folders.sort()
            for name in sorted((*folders, *names)):
                facts = os.lstat(os.path.join(place, name))  # noqa: PTH118  (a hundred thousand calls)
                hasher.update(
                    f"{name}\0{facts.st_ctime_ns} {facts.st_size} {facts.st_ino}\n".encode("utf-8", "replace")
                )
    return hasher.hexdigest()
