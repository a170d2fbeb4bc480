"""The options of a run besides doit's own, and their meaning.

`doit milestone:m4`, `doit issue:m4/4.1`, `doit release:m4`: doit's run with our outcomes, signals and codes.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.cmd_run import Run as DoitRun
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

from executor.commands.base import (
    Options,
    Output,
    asks_help,
    guarded,
    option,
    permuted,
    report_faults,
    require_here,
    safe,
    show_help,
)
from executor.commands.output import stream_of
from executor.commands.user_code import explained
from executor.config.project import (
    Project,
    compile_project,
    has_milestones,
    open_project,
    prepare_cache,
    require_settled,
)
from executor.errors import PersonNeededError, UsageError
from executor.status.summary_cache import index_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from executor.commands.sessions import Declared, RunRecords
    from executor.config.project import Compiled
    from executor.engine.session import Session
    from executor.tasks.compile import Request

__all__ = ["OPTIONS", "UNTIL", "Run", "budget_of", "deadline_named", "workers_of"]


_PLAIN = option("plain", "print plain lines, even on a terminal", bool)
_FROM = option("from_", "issue to start at; incomplete issues before it in the file are skipped and do not block it")
UNTIL = option("until", "start no issue that is not expected to end by this time: 06:00, or 2030-01-31T06:00")
_BUDGET = option("budget", "US dollars that this run may spend on agents (default: run_usd of rules/limits.toml)")
_TAKE_OVER = option(
    "take_over",
    "continue here immediately, even if another machine may still run the milestone; that run then stops",
    bool,
)
OPTIONS = (_FROM, _PLAIN, UNTIL, _BUDGET, _TAKE_OVER)


def budget_of(params: Options) -> float | None:
    """Return the budget from the command line.

    Raises:
        UsageError: it is not an amount of money.
    """
    text = str(params.get("budget") or "")
    if not text:
        return None
    try:
        value = float(text.removeprefix("$"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f'--budget: expected US dollars, for example 20 or 2.50, found "{text}"')
    return value


def workers_of(params: Options) -> int:
    """Return the number of parallel issues from the command line; 0 if not given.

    Raises:
        UsageError: it is negative.
    """
    count = int(params.get("num_process") or 0)
    if count < 0:
        raise UsageError(f'-n: expected the number of issues at a time, for example 4, found "{count}"')
    return count


def deadline_named(asked: str, declared: str) -> datetime | None:
    """Return the deadline from the command line, otherwise from the rules."""
    from executor.model.clock import deadline_of
    from executor.process.files import LOCAL, utcnow

    try:
        return deadline_of(asked or declared, utcnow(), LOCAL) if asked or declared else None
    except ValueError as error:
        raise UsageError(f"--until: {error}") from error


_KINDS = ("milestone:", "issue:", "release:")
_OURS = (*_KINDS, "step:")


class Run(DoitRun):
    """Replaces doit's `run`; tasks other than milestones run as in plain doit."""

    name = "run"
    doc_purpose = "run tasks; milestone:ID, issue:ID/ISSUE and release:ID come from milestones/"
    doc_usage = "[milestone:ID | issue:ID/ISSUE | release:ID | TASK ...]"
    cmd_options = (*DoitRun.cmd_options, *OPTIONS)
    _plain = False
    _from = ""
    _asked = False
    _request: Request | None = None
    _records: RunRecords
    _roadmaps: Sequence[Declared] = ()
    _line: Sequence[str] = ()
    task_list: Any = ()
    loader: Any

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line, options anywhere on it, and run."""
        if asks_help(in_args if _of_milestones(in_args) else in_args[:1]):
            return guarded(lambda: show_help(self), Output.VIEW)
        self._line = list(in_args)
        action = super().parse_execute
        output = Output.PROTECTED if _of_milestones(in_args) else Output.FOREIGN
        return guarded(lambda: self._explained(lambda: action(self._words(in_args))), output)

    def _explained(self, action: Callable[[], Any]) -> int:
        """Replace doit's messages about the command line and dodo.py by more precise ones."""
        try:
            return int(action() or 0)
        except (CmdParseError, InvalidCommand, InvalidDodoFile, InvalidTask) as error:
            raise explained(error, self.loader.cmd_names, [task.name for task in self.task_list or ()]) from error

    def _words(self, in_args: list[str]) -> list[str]:
        """Move options to the front for milestones; the user's tasks may have options after their names."""
        return permuted(self, in_args) if _of_milestones(in_args) else in_args

    def execute(self, params: Options, args: list[str]) -> int:
        """Called by doit."""
        self._plain = params.pop("plain")
        self._from = params.pop("from_")
        self._asked = params.pop("take_over")
        wanted = [name for name in args if name.startswith(_KINDS)]
        if not wanted:
            return self._own_tasks(Path.cwd(), params, args)
        if len(wanted) < len(args):
            raise UsageError("run your own tasks and milestones in separate commands")
        require_here(params)
        project = open_project(Path.cwd())
        _ask_versions(project)
        _require_values(params)
        done = None if self._asked or _is_unfinished(project, wanted) else _nothing_to_do(project, wanted)
        if done:
            sys.stdout.write(done)
            return 0
        # The modules loaded from here on stay in memory, so a collection would find nothing. `_execute` enables it.
        gc.disable()
        try:
            code = self._run(project, params, wanted)
        finally:
            gc.enable()
        if self._roadmaps and not code:
            from doit.doit_cmd import DoitMain

            return int(DoitMain().run(["run", *self._line]) or 0)  # with a database of its own
        return code

    def _own_tasks(self, root: Path, params: Options, args: list[str]) -> int:
        """Run the user's tasks as in plain doit."""
        if has_milestones(root):
            if not args and not params.get("default_tasks"):
                raise UsageError("name a task, for example `doit milestone:ID`; `doit list` shows pending issues")
            if any(f"{word.partition(':')[0]}:" in _OURS for word in args):
                raise UsageError("tasks of milestones run only if named, for example `doit milestone:ID`")
            prepare_cache(open_project(root))
        action = super().execute
        self._execute = super()._execute  # type: ignore[method-assign]  # doit looks at its parameters
        return self._explained(lambda: action(params, args))

    def _run(self, project: Project, params: Options, wanted: list[str]) -> int:
        from executor.commands import sessions
        from executor.commands.summary import settle, start_of
        from executor.tasks.compile import Request

        compiled = compile_project(project)
        require_settled(compiled)
        wanted = [_checked(compiled, name) for name in wanted]
        start = start_of(compiled, wanted, self._from)
        left_out, wanted = _startable(project, wanted)
        prepare_cache(project)
        if compiled.policy.notify:
            from executor.notify.queue import require_channels

            require_channels(compiled.policy.notify)
        workers = workers_of(params) or max(1, compiled.policy.limits.parallel)
        deadline = deadline_named(params["until"], compiled.policy.limits.deadline)
        action = super().execute
        with (
            sessions.open_session(compiled) as session,
            sessions.leading(session, asked=self._asked) as lead,
            sessions.mending(session),
            sessions.announced(session) as phase_problems,
            sessions.traced(session),
            sessions.recorded(session) as records,
            sessions.tracked(session) as file_problems,
        ):
            self._records = records
            session.deadline = deadline
            session.enter(sorted({name.partition(":")[2].partition("/")[0] for name in wanted}))
            lead()
            _begin(session, records, wanted, workers)
            session.observer.allowance.budget = budget_of(params)
            _open(session, wanted, start, left_out)
            self._request = Request(session, tuple(wanted))
            self.loader = sessions.RequestLoader(self.loader, self._request)
            params.setdefault("dep_file", ".cache/doit.json")
            code = self._explained(lambda: action(params, wanted))
            _write_notes(settle(session, [*phase_problems(), *file_problems()]))
            self._roadmaps = sessions.declare_roadmaps(session)
            asks = left_out or any(item.asks for item in self._roadmaps)
            return code or (PersonNeededError.exit_code if asks else report_faults(compiled.faults))

    def _execute(self, outfile: Any, num_process: int = 0, always: bool = False) -> int:  # noqa: FBT001, FBT002  (called by name)
        """Run the tasks with our runner; called by doit with options by name."""
        request = self._request
        assert request is not None  # noqa: S101  (`_run` has made it)
        session = request.session
        from executor.commands.scheduler import Patience, run_tasks
        from executor.commands.sessions import notified, signals_heeded
        from executor.commands.summary import finish
        from executor.engine.watcher import watched

        gc.freeze()
        gc.enable()
        with stream_of(outfile) as stream, signals_heeded(session) as received, notified(session), watched(session):
            patience = Patience(session)
            while True:
                outcomes = run_tasks(
                    self.task_list,
                    self.sel_tasks,
                    self.dep_manager,
                    session,
                    stream,
                    num_process or max(1, session.policy.limits.parallel),
                    always=always,
                    plain=self._plain,
                )
                if outcomes.errors or not patience.wait(outcomes.asked(session, request.wanted)):
                    break
        return finish(request, outcomes, received, self._records)

    def get_backends(self) -> Any:
        """Return doit's database backends, with one that accepts a damaged file."""
        from executor.commands.base import TolerantJson

        backends = super().get_backends()
        backends["json"] = TolerantJson
        return backends


def _write_notes(notes: Iterable[str]) -> None:
    lines = [line for note in notes for line in f"note: {note}".split("\n")]
    sys.stdout.write("".join(f"{safe(line)}\n" for line in lines))


def _begin(session: Session, records: RunRecords, wanted: list[str], workers: int) -> None:
    """Begin the runs of the milestones, and settle what earlier runs and people left."""
    from executor.commands.summary import note_on

    for run in session.runs():
        before = run.cut_off()
        records.begin(run, wanted, workers)
        if before is not None:
            sys.stdout.write(f"note: {safe(note_on(before, run.name))}\n")
        run.recover()
        if session.remote is not None:
            from executor.forge.reconcile import Reconciliation

            Reconciliation(run).take_over()
        claimed = [runner for runner in session.policy.runners.values() if runner.claimed]
        if claimed and session.remote is not None:
            from executor.engine.elsewhere import Adoption

            for runner in claimed:
                Adoption(runner, run).adopt()


def _open(session: Session, wanted: list[str], start: str, left_out: Iterable[str]) -> None:
    """Print the header of the run, and write missing receipts of landings."""
    from executor.commands.summary import opening, passed_over
    from executor.tasks.compile import selected

    passed = passed_over(session.observer, start) if start else ()
    session.observer.pass_over(passed)
    found = opening(session.observer, wanted, start, passed)
    session.said = [safe(line) for line in (*found, *(f"left out: {reason}" for reason in left_out))]
    sys.stdout.write("".join(f"{line}\n" for line in session.said))
    _receipts_for(session, selected(session.observer, wanted))


def _require_values(params: Options) -> None:
    """Validate the values of options, even if there is nothing to do.

    Raises:
        UsageError: a value is invalid.
    """
    workers_of(params)
    budget_of(params)
    if params["until"]:
        deadline_named(params["until"], "")


def _of_milestones(words: list[str]) -> bool:
    return any(word.startswith(_KINDS) for word in words)


def _ask_versions(project: Project) -> None:
    """Query versions of tools that may have changed without a change of any local file."""
    from executor.process.files import ASKED

    if (project.cache / ASKED).exists():
        from executor.checks.verdicts import ToolVersions

        ToolVersions(project.cache).ask_again()


def _nothing_to_do(project: Project, wanted: list[str]) -> str | None:
    """Return the message if every requested issue has landed, without loading anything; None otherwise."""
    if any(name.startswith("issue:") for name in wanted):
        return None
    index = index_of(project)
    lines = []
    for name in wanted:
        item = index.milestone(name.partition(":")[2])
        if item is None or item["landed"] < item["total"] or not item["total"] or _left_refs(project, item["id"]):
            return None
        released = item["status"] == "released"
        if name.startswith("release:"):
            if not released or not item["delivered"]:
                return None
            tag = f" and tagged {item['tag']}" if item["tag"] else ""
            lines.append(f"{item['id']}: {item['reason']} on {item['base']}{tag}; nothing to do\n")
        elif not released and not item["pushed"]:
            return None
        else:
            # The words are those of `all_landed`, whose module a run with nothing to do does not load.
            issues = "its issue has" if item["total"] == 1 else f"all {item['total']} issues have"
            lines.append(f"{item['id']}: {issues} landed on {item['branch']}; nothing to do\n")
    return "".join(lines)


def _is_unfinished(project: Project, wanted: list[str]) -> bool:
    """Whether an issue has not landed; False if a stored summary can answer. A run would outdate a new one at once."""
    if project.summary.exists():
        return False
    from executor.git.refs import Refs
    from executor.status.reader import has_open_issues

    return has_open_issues(
        compile_project(project), Refs(project.repository), {name.partition(":")[2] for name in wanted}
    )


def _left_refs(project: Project, milestone: str) -> bool:
    """Return whether the last run here died and may have left its lease or its orders on the remote."""
    if not (project.rules / "runners.toml").is_file():
        return False
    from executor.process.locks import read_holder

    holder = read_holder(project.state(milestone))
    return holder is not None and not holder.alive


def _startable(project: Project, wanted: list[str]) -> tuple[list[str], list[str]]:
    """Return the reasons to skip paused milestones, and the tasks that may start.

    Raises:
        PersonNeededError: everything requested is paused.
    """
    from executor.git.refs import Refs
    from executor.status.milestone_status import PAUSED

    refused: dict[str, str] = {}
    names = {f"{PAUSED}/{name.partition(':')[2].partition('/')[0]}" for name in wanted}
    if not Refs(project.repository).listed(sorted(names)):
        return [], wanted
    index = index_of(project)
    for name in wanted:
        item = index.milestone(name.partition(":")[2].partition("/")[0])
        if item is not None and item["status"] == "paused":
            refused[name] = f"{item['reason']}; nothing was started; continue with: {item['hint']}"
    if len(refused) == len(wanted):
        raise PersonNeededError("\n".join(dict.fromkeys(refused.values())))
    return list(dict.fromkeys(refused.values())), [name for name in wanted if name not in refused]


def _checked(compiled: Compiled, name: str) -> str:
    kind, _, what = name.partition(":")
    return f"issue:{compiled.ref(what)}" if kind == "issue" else f"{kind}:{compiled.milestone(what).id}"


def _receipts_for(session: Session, refs: list[str]) -> None:
    """Rebuild missing receipts that are file dependencies of the tasks from git."""
    plan = session.compiled.plan
    wanted: dict[str, list[str]] = {}
    for ref in refs:
        for need in plan.nodes[ref].needs:
            node = plan.nodes[need]
            wanted.setdefault(node.milestone, []).append(node.issue.id)
    for milestone, issues in wanted.items():
        view = session.observer.views[milestone]
        runs = {run.name: run for run in session.runs()}
        if milestone in runs:
            runs[milestone].ensure_receipts(issues)
        else:
            from executor.engine.candidate import write_receipt

            for issue in issues:
                if issue in view.landings:
                    write_receipt(session.project, session.store, view.landings[issue])
