"""One run of an agent in a slot: its input, its process and its result. No claim of the agent is trusted."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from executor.agents.command import LOG, child_environment, cost_of, missing_program, trace_variables
from executor.checks.run import tail
from executor.checks.setup import Unready
from executor.errors import UsageError
from executor.git.worktrees import ImportRefusedError, leads_out
from executor.process.files import left_file, scrub
from executor.sandbox.bubblewrap import waiting_for_background
from executor.sandbox.policy import take_back

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.environments.environment import TreeEnvironment
    from executor.git.diff import Change
    from executor.git.objects import Store
    from executor.git.worktrees import Slot, Workspace
    from executor.model.agent_profile import Agent
    from executor.process.runner import Command
    from executor.state.events import Spend

__all__ = [
    "RESULT",
    "Failure",
    "Work",
    "called_command",
    "entry_problem",
    "produce",
    "tree_left",
    "variables_of",
]

PRIVATE = "private"
"""Folder in an attempt's logs with copies of the agent program's files, during its run."""

RESULT = "agent.result.json"
"""Durable record of the agent's end, so that no call is repeated after the run died."""
_REPORT_BYTES = 64 * 1024  # bytes; a report is some sentences, the bound is for hostile ones
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    Attributes:
        kind: its class: ``agent``, ``empty``, ``patch``, ``import``, ``checks``, ``outputs``, or of core/classify.py.
        reason: one sentence.
        detail: the most useful part of the output.
        tree: tree that was produced; shows whether the same failure happened again.
        step: the workflow step that failed; empty outside a workflow.
        until: epoch seconds until which the account is suspended, after a limit or a failing service.
        rest_s: seconds for which the account of a failing service is suspended.
    """

    kind: str
    reason: str
    detail: str = ""
    tree: str = ""
    step: str = ""
    until: float | None = None
    rest_s: float = 0.0

    def print(self) -> str:
        """Fingerprint: equal for the same failure on the same tree."""
        parts = f"{self.kind}\0{self.reason}\0{self.tree}".encode("utf-8", "replace")
        return hashlib.sha256(parts).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Work:
    """An attempt in progress.

    Attributes:
        issue: the issue.
        number: number of the attempt.
        revision: the revision that it would land as.
        base: commit that it starts from.
        base_tree: tree of that commit.
        agent: profile of the agent.
        logs: folder for its brief and output.
        brief: the agent's instructions.
        out: folder where the agent may write its protocol files.
        step: the workflow step; empty for a whole attempt.
        inputs: folder with the input files of the step; None without any.
        own_options: options of the step's own agent; None: those of the issue.
        readable: further paths that the agent may read in a sandbox.
    """

    issue: IssueRun
    number: int
    revision: int
    base: str
    base_tree: str
    agent: Agent
    logs: Path
    brief: Path
    out: Path
    step: str = ""
    inputs: Path | None = None
    own_options: Mapping[str, Any] | None = None
    readable: tuple[Path, ...] = ()

    @property
    def run(self) -> MilestoneRun:
        """The run of the milestone."""
        return self.issue.run

    @property
    def ref(self) -> str:
        """Qualified id of the issue."""
        return self.issue.ref

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the agent: the step's own, or the issue's."""
        return self.run.issue(self.ref).options if self.own_options is None else self.own_options

    @property
    def log(self) -> Path:
        """The log of the agent's output."""
        return self.logs / LOG

    @property
    def output_file(self) -> Path | None:
        """Path of its structured output; None if that is printed."""
        name = self.agent.output_file
        return Path(name.format(out=self.out)) if name else None

    @property
    def report(self) -> bytes:
        """The agent's report.json; empty if it is missing, too large or not a regular file."""
        data = left_file(self.out, "report.json", self.run.secrets, _REPORT_BYTES)
        return data if isinstance(data, bytes) else b""

    def cost(self) -> Spend:
        """Money and tokens that the agent has used."""
        return cost_of(self.agent, self.log, self.output_file)


def produce(work: Work, settle: Callable[[str | Failure], Kept]) -> Kept:
    """Run the agent and return what `settle` makes of the tree that it left, or of the failure.

    The slot is reserved until `settle` has recorded the result: if the run dies before that, the next run takes the
    tree from the slot, so no other issue may use the slot meanwhile.
    """
    act = _apply_patch if work.agent.builtin == "patch" else _run_agent
    with work.run.pool.slot() as slot:
        return settle(act(work, slot))


def _apply_patch(work: Work, slot: Slot) -> str | Failure:
    """Run the agent `patch`: apply a patch file of the declaration, byte for byte, without a checkout."""
    name = str(work.options["file"])
    path = work.run.session.project.milestones / name
    try:
        patch = path.read_bytes()
    except OSError as error:
        return Failure("patch", f"the patch file milestones/{name} cannot be read: {error.strerror}")
    tree, problem = work.run.session.store.apply(work.base_tree, patch, slot.scratch)
    if problem:
        return Failure("patch", f"the patch milestones/{name} does not apply: {problem.splitlines()[0]}", problem)
    return tree


def _run_agent(work: Work, slot: Slot) -> str | Failure:
    run = work.run
    issue = run.issue(work.ref)
    store = run.session.store
    runner = run.session.policy.runner_of(issue, work.agent)
    if runner is not None:
        from executor.engine.elsewhere import run_elsewhere

        return run_elsewhere(work, slot, runner)
    slot.work.prepare(store, work.base_tree)
    slot.work.give_repository(run.session.project.repository, work.base)
    slot.mark(issue.id, work.number, work.step)
    try:
        environment = run.setup.make_ready(slot, slot.work, work.logs, judging=False)
    except Unready as problem:
        return Failure("setup", str(problem), tail(problem.log))
    command = _command(work, slot, environment)
    if lacking := missing_program(work.agent, command.env):
        return Failure("missing", lacking)
    left: list[str | Failure] = []

    def changed() -> bool:
        """Return whether the tree differs from the base; a tree that cannot be imported counts as changed."""
        left[:] = [tree_left(work.issue, slot.work, work.base_tree)]
        return left[0] != work.base_tree

    try:
        called = run.agents.call(issue.id, work.agent, command, changed, work.output_file)
    finally:
        take_back(work.agent, work.logs / PRIVATE)
    scrub(work.out, run.session.redaction.redact)
    if called.finding is not None:
        run.session.require_space()
        made = tree_left(work.issue, slot.work, work.base_tree)
        tree = made if isinstance(made, str) else ""
        found = called.finding
        return Failure(found.kind, found.reason, tail(work.log), tree, until=found.until, rest_s=found.rest_s)
    # All processes of the agent have ended before the check for changes.
    return left[0] if left else tree_left(work.issue, slot.work, work.base_tree)


def _command(work: Work, slot: Slot, environment: TreeEnvironment) -> Command:
    issue = work.run.issue(work.ref)
    tree = slot.work.folder
    agent = work.agent
    limits = work.run.session.policy.limits
    argv = called_command(work)
    if work.run.sandboxing.is_boxed(agent):
        argv = waiting_for_background(argv, limits.background_s)
    given = {"EXECUTOR_SLOT": str(slot.number), **variables_of(work)}
    env = environment.environment({**child_environment(agent.env, given, tree), **agent.variables})
    boxed = work.run.sandboxing.wrap_agent(
        agent,
        argv,
        issue=issue.id,
        attempt=work.number,
        tree=tree,
        writable=[work.out],
        readable=[
            work.brief,
            *(() if work.inputs is None else (work.inputs,)),
            *work.readable,
            *environment.readable,
        ],
        env=env,
        private=work.logs / PRIVATE,
    )
    result = work.logs / RESULT
    return work.run.agents.command(agent, boxed, tree=tree, env=env, brief=work.brief, log=work.log, result_file=result)


def called_command(work: Work, **elsewhere: str) -> tuple[str, ...]:
    """Return the command line of an agent.

    Args:
        work: the attempt.
        elsewhere: on another host: its `brief`, `out` and `sandbox` instead of those of this machine.

    Raises:
        UsageError: the issue lacks an option of the agent.
    """
    run, agent = work.run, work.agent
    route = run.session.policy.route_of(run.issue(work.ref))
    left = run.session.observer.allowance.left(work.ref)
    caps = [cap for cap in (run.session.policy.limits.attempt_usd, left) if cap is not None]
    values = {
        **work.options,
        **run.agents.values(agent, work.brief, work.out),
        "tools": ",".join(route.tools),
        "budget": f"{min(caps):.2f}" if caps else "",
    }
    if elsewhere:
        values |= {"brief_file": elsewhere["brief"], "out": elsewhere["out"], "sandbox": elsewhere["sandbox"]}
    try:
        return agent.argv(values)
    except KeyError as error:
        raise UsageError(f"{work.ref}: agent {agent.name} needs the option {error}; declare it in `with`") from error


def variables_of(work: Work, **elsewhere: str) -> dict[str, str]:
    """Return the variables by which an agent knows where it works, and on what.

    Args:
        work: the attempt.
        elsewhere: on another host: its `brief`, `out` and `inputs` instead of those of this machine.
    """
    given = {
        "EXECUTOR_MILESTONE": work.run.name,
        "EXECUTOR_ISSUE": work.run.issue(work.ref).id,
        "EXECUTOR_ATTEMPT": str(work.number),
        "EXECUTOR_BRIEF": elsewhere.get("brief", str(work.brief)),
        "EXECUTOR_OUT": elsewhere.get("out", str(work.out)),
        **trace_variables(work.run.run_id, work.run.name, work.run.issue(work.ref).id, work.number),
    }
    if model := work.options.get("model") or work.agent.model:
        given["EXECUTOR_MODEL"] = str(model)
    if work.step:
        given["EXECUTOR_STEP"] = work.step
    if work.inputs is not None:
        given["EXECUTOR_IN"] = elsewhere.get("inputs", str(work.inputs))
        given["EXECUTOR_CHECK"] = f"{given['EXECUTOR_IN']}/check"
    return given


def tree_left(issue: IssueRun, workspace: Workspace, base: str = "") -> str | Failure:
    """Return the tree that an agent left in its workspace, or why it cannot be imported.

    `base` is the tree that the workspace was prepared with, if the caller knows it: then a few files need no index.
    """
    run = issue.run
    try:
        return workspace.result(run.store, run.excludes, issue.declared.files, run.import_limits, base)
    except ImportRefusedError as error:
        return Failure("import", str(error))


def entry_problem(store: Store, tree: str, change: Change) -> str | None:
    """Return why an entry of a result cannot land although git accepts it; None if all can."""
    for file in change.files:
        if file.new_mode == "160000":
            return f"{file.path} is a separate repository (submodule); only files can land"
        if file.new_mode == "120000":
            target = store.blob(tree, file.path) or b""
            if leads_out(os.fsencode(file.path), target):
                return f"{file.path} is a link that leads out of the tree"
    return None
