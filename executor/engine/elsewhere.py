"""An agent at work on another host: its order, its result, and the import of its tree into a slot of this machine.

A result is treated as the tree that an agent left in a slot: the same import, limits, rules and checks.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import executor
from executor.agents.command import secret_values
from executor.checks.run import tail
from executor.cluster.bench import BRIEF, CHECK, GIVEN, OUT, PACKAGE, PYTHON
from executor.cluster.desk import HostError
from executor.cluster.orders import Limits, Order, State, Take, ending_of
from executor.engine.agent_work import RESULT, Failure, called_command, tree_left, variables_of
from executor.engine.attempt import Attempts
from executor.engine.issue import IssueRun
from executor.engine.landing.change_rules import KNOWN_SECRET
from executor.git.worktrees import ImportRefusedError
from executor.model.fingerprint import digest
from executor.process.files import scrub, write_json
from executor.process.runner import Command
from executor.state.decide import Status
from executor.state.events import AttemptStarted, WorkHosted
from executor.state.model import AttemptState

if TYPE_CHECKING:
    from executor.cluster.exchange import Arrived
    from executor.cluster.orders import Lease
    from executor.engine.agent_work import Work
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.worktrees import Slot
    from executor.model.outward_rules import Runner
    from executor.process.runner import Ended
    from executor.state.model import Attempt

__all__ = ["Adoption", "is_later", "run_elsewhere"]


def run_elsewhere(work: Work, slot: Slot, runner: Runner) -> str | Failure:
    """Run an agent on a host of a runner; returns the tree that it left, or the failure.

    Raises:
        InterruptedRunError: the run is being stopped.
    """
    run = work.run
    slot.work.prepare(run.session.store, work.base_tree)
    slot.work.give_repository(run.session.project.repository, work.base)
    far = _Far(work, slot, runner)
    command = Command(argv=(), cwd=slot.work.folder, env={}, log=work.log)

    def changed() -> bool:
        return far.left != work.base_tree

    try:
        called = run.agents.call(run.issue(work.ref).id, work.agent, command, changed, work.output_file, far.run)
    except HostError as error:
        reason = f"runner {runner.name}: {error}"
        if not error.away:
            return Failure("host", reason, tail(work.log))
        until, rest_s = run.session.observer.allowance.outage(work.agent)
        return Failure("transient", reason, tail(work.log), until=until, rest_s=rest_s)
    scrub(work.out, run.session.redaction.redact)
    if isinstance(far.left, Failure):
        return far.left
    if called.finding is not None:
        run.session.require_space()
        found = called.finding
        return Failure(found.kind, found.reason, tail(work.log), far.left, until=found.until, rest_s=found.rest_s)
    return far.left


class _Far:
    """The calls of one agent on another host."""

    def __init__(self, work: Work, slot: Slot, runner: Runner) -> None:
        self._work, self._slot, self._runner = work, slot, runner
        self.left: str | Failure = work.base_tree
        """What the last call left."""
        self._calls = self._fence = 0

    def run(self, command: Command) -> Ended:
        """Do one call; returns its end. Its log and its files are then where those of a call on this machine are."""
        work, self._calls, self._fence = self._work, self._calls + 1, 0
        run = work.run
        order = _order(work, self._runner, self._calls)
        arrived = run.setup.hosts.agent_done(run, self._runner, run.session.remote, order, command.log, self._seen)
        self._bring(arrived, command)
        result = arrived.result
        ended = ending_of(result)
        if ended is None:
            raise HostError(result.problem or f"{result.host} stopped it", away=result.fault != "host")
        if not isinstance(self.left, Failure):
            write_json(work.logs / RESULT, asdict(ended))
        return ended

    def _seen(self, lease: Lease) -> None:
        """Take a beat as a sign of life, and the first one of a worker as its claim."""
        work = self._work
        work.log.touch()
        if lease.fence <= self._fence:
            return
        self._fence = lease.fence
        work.run.tell("claimed", work.ref, f"{lease.host} works on attempt {work.number}")
        event = WorkHosted(attempt=work.number, runner=self._runner.name, host=lease.host, step=work.step)
        work.run.record(event, work.run.issue(work.ref).id)

    def _bring(self, arrived: Arrived, command: Command) -> None:
        """Put what came from the host into the slot and the folders of the attempt."""
        work, store = self._work, self._work.run.session.store
        result = arrived.result
        arrived.write(command.log, work.out)
        if result.fault in {"setup", "import"}:
            self.left = Failure(result.fault, result.problem, tail(command.log))
            return
        if not result.tree:
            return
        try:
            self._slot.work.receive(store, work.base_tree, store.tree_of(arrived.commit), work.run.import_limits)
        except ImportRefusedError as error:
            self.left = Failure("import", str(error))
            return
        self._slot.mark(work.run.issue(work.ref).id, work.number, work.step)
        self.left = tree_left(work.issue, self._slot.work)
        if result.places and isinstance(self.left, str):
            rule = next(rule for rule in work.run.session.policy.stops if rule.id == KNOWN_SECRET)
            self.left = Failure(KNOWN_SECRET, f"{rule.reason} {result.places[0]}", "\n".join(result.places), self.left)


def _order(work: Work, runner: Runner, call: int) -> Order:
    """Build the order of an agent's call; paths of this machine are replaced by marks."""
    run = work.run
    policy, issue = run.session.policy, run.issue(work.ref)
    agent, limits, bounds = work.agent, policy.limits, run.import_limits
    argv = called_command(work, brief=BRIEF, out=OUT, sandbox="" if agent.isolation == "none" else "bwrap")
    given = variables_of(work, brief=BRIEF, out=OUT, inputs=GIVEN)
    profile = agent.model_dump(mode="json", exclude_defaults=True)
    number = f"{work.number}.{call}" if call > 1 else f"{work.number}"
    return Order(
        id="/".join(filter(None, (run.name, issue.id, number, work.step))),
        base=_start(work),
        head=work.base,
        argv=argv,
        brief=run.redact(work.brief.read_bytes()).decode("utf-8", "surrogateescape"),
        profile=f"{agent.name} {digest(repr((sorted(profile.items()), argv)).encode('utf-8', 'surrogateescape'))[:16]}",
        env={**given, **agent.variables},
        secrets=runner.env,
        hoped=tuple(secret_values(agent.env)),
        labels=runner.needs,
        limits=Limits(
            timeout=float(agent.timeout or limits.timeout_s),
            idle=float(agent.idle or limits.idle_s),
            output_cap=limits.output_cap_bytes,
            linger=limits.background_s,
        ),
        start=run.session.project.prefix,
        prepare=tuple(step.argv for step in policy.setup.steps.values()),
        agent=profile,
        take=Take(
            run.excludes.read_text("utf-8", "surrogateescape"),
            issue.files,
            bounds.files,
            bounds.file_bytes,
            bounds.bytes,
        ),
        spec=run.session.observer.spec_key(work.ref),
        isolated=runner.isolated,
        beat_s=runner.beat_s,
        patience_s=runner.patience_s,
        inputs=_inputs(work),
    )


def _start(work: Work) -> str:
    """Return the commit whose tree the agent gets: the base, or one on top of it for a step with changes before it."""
    session = work.run.session
    if work.base_tree == session.store.tree_of(work.base):
        return work.base
    when = session.refs.time_of(work.base)
    return session.store.commit(work.base_tree, [work.base], "Changes of earlier steps\n", session.identity, when)


def _inputs(work: Work) -> dict[str, bytes]:
    folder = work.inputs
    if folder is None or not folder.is_dir():
        return {}
    marks = {
        os.fsencode(sys.executable): PYTHON.encode(),
        os.fsencode(Path(executor.__file__).parents[1]): PACKAGE.encode(),
    }
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    for ours, mark in marks.items():
        found |= {CHECK: found[CHECK].replace(ours, mark)} if CHECK in found else {}
    return found


class Adoption:
    """Goes on with the attempts that another machine had started, from their orders on the remote.

    An order becomes an attempt of this repository, as if a run here had died: `Attempts` then waits for its result.
    Attempts whose issue has landed elsewhere, or whose order another one has replaced, end.

    Args:
        runner: the runner of the orders.
        run: the run; the landings on the remote are known to it.
    """

    def __init__(self, runner: Runner, run: MilestoneRun) -> None:
        self._runner, self._run = runner, run

    def adopt(self) -> None:
        """Adopt the orders.

        Raises:
            ForgeUnavailableError: the remote cannot be reached.
            ForgeRefusedError: it rejects access.
        """
        run = self._run
        board = run.setup.hosts.desk(run, self._runner, run.session.remote).board()
        newest: dict[str, tuple[int, Order]] = {}
        for name, (order, _, _) in board.orders.items():
            lease = board.leases.get(name)
            parts = name.split("/")[1:]
            if (
                len(parts) == _ATTEMPT
                and parts[1].isdecimal()
                and (lease is None or lease[0].state is not State.CANCELLED)
            ):
                newest[parts[0]] = max(newest.get(parts[0], (0, order)), (int(parts[1]), order), key=lambda it: it[0])
        for issue in [item.id for item in run.milestone.issues]:
            self._settle(issue, *newest.get(issue, (0, None)))

    def _settle(self, issue: str, number: int, order: Order | None) -> None:
        run, ref = self._run, f"{self._run.name}/{issue}"
        state = run.view.states.get(issue)
        last = state.attempts.get(state.last()) if state is not None else None
        started = last is not None and last.state is AttemptState.STARTED
        landed = run.decision(ref).status is Status.LANDED
        adopted = not landed and order is not None and self._is_wanted(ref, order, number, last)
        if last is not None and started and (landed or adopted):
            Attempts(IssueRun(run, ref)).keep_interrupted(last, "")
        if order is None or not adopted:
            return
        facts = run.facts(ref)
        agent = run.session.policy.agents[str(order.agent["name"])]
        event = AttemptStarted(
            attempt=number,
            revision=1 if facts.landing is None else facts.landing.trailers.revision + 1,
            spec_key=order.spec,
            base=order.head or order.base,
            agent=agent.name,
            account=agent.payer,
            when=int(time.time()),
        )
        run.record(event, issue)
        run.warn(f"{ref}: attempt {number}, which another machine started, continues")

    def _is_wanted(self, ref: str, order: Order, number: int, last: Attempt | None) -> bool:
        """Return whether an order is the work that this issue needs next, and later than all that is known here."""
        run, issue = self._run, IssueRun(self._run, ref)
        base = order.head or order.base
        return (
            not issue.has_steps
            and order.spec == issue.spec_key
            and order.agent.get("name") in run.session.policy.agents
            and (last is None or is_later(number, base, last))
            and run.session.refs.has(base)
            and run.session.refs.contains(base, run.view.tip)
        )


def is_later(number: int, base: str, last: Attempt) -> bool:
    """Return whether the order of an attempt goes beyond what this repository knows of its issue. Pure.

    A repository that led before may have started the same attempt on another base. The order on the remote counts:
    it may have a result.

    Args:
        number: the attempt of the order.
        base: the commit that it works on.
        last: the last attempt that this repository knows.
    """
    if last.state is AttemptState.BUILT:
        return False
    if number != last.number:
        return number > last.number
    other = last.state is AttemptState.STARTED and not last.tree and last.base != base
    return other or last.state is AttemptState.INTERRUPTED


_ATTEMPT = 2
"""Parts of an order's name behind the milestone: issue and attempt. Those of steps and of repeated calls have more."""
