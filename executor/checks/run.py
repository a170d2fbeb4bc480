"""One check on one exact tree: services around it, retries, evidence, and the verdict, which is stored for reuse."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from executor.agents.brief import most_useful
from executor.agents.command import child_environment
from executor.checks.console import Written, ran_no_test, read_console
from executor.checks.junit import (
    LARGEST,
    CoverageFiles,
    Report,
    ReportError,
    junit_of,
    missing_evidence,
    new_failures,
    read_junit,
)
from executor.checks.setup import Unready
from executor.checks.spec import COVERAGE
from executor.checks.verdicts import Asked, Verdict
from executor.environments.environment import NO_ENVIRONMENT
from executor.environments.making import conditions_of
from executor.errors import InterruptedRunError
from executor.git.trailers import one_line
from executor.git.worktrees import ImportRefusedError, empty_folder
from executor.process.files import ABSENT, left_file
from executor.process.runner import Command, Ended
from executor.state.events import Checked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from executor.checks.setup import TreeSetup
    from executor.checks.spec import CommandProof
    from executor.checks.verdicts import Verdicts
    from executor.environments.environment import TreeEnvironment
    from executor.git.worktrees import Slot
    from executor.sandbox.policy import RunContext, Sandboxing

__all__ = ["CheckRunner", "Made", "tail"]

_LOG_TAIL = 64 * 1024  # bytes at the end of a log from which the useful part is chosen
_PASSING = re.compile(r"(?m)^(?:=== (?:RUN|PAUSE|CONT|NAME)\b|\s*--- PASS: ).*\n")
"""Lines of `go test -v` that say nothing of a failure."""
_PLAIN_RSPEC = re.compile(r"(?!.*(?:--format|--out|\s-[a-zA-Z]*[fo]))(?:.*[\s/'\"])?rspec\b(?:[\s'\"].*)?", re.DOTALL)
_LOG_READ = 8 * 1024 * 1024  # bytes at the end of a log in which the names of tests are looked for
_SERVICE_PATIENCE = 300.0  # seconds for `after`; a service that does not stop must not hold the slot
_REPORT_IN_TREE = ".executor-report"
_WITH_SERVICE = 'eval "$1" || exit 1; : > "$2" || exit 1; shift 2; exec "$@"'
"""One command for service and check: processes left running by the first live as long as the second."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a command made of a tree.

    Attributes:
        tree: the resulting tree; empty if there is none.
        problem: why the command failed; empty if it ended well.
    """

    tree: str
    problem: str


@dataclass(eq=False)
class CheckRunner:
    """Runs the checks of one milestone and stores their verdicts.

    Attributes:
        context: the run.
        sandboxing: the sandboxes of its commands.
        setup: prepares its trees.
        verdicts: the store of verdicts.
        force: whether stored verdicts are ignored.
        again: whether failures of this run are ignored.
    """

    context: RunContext
    sandboxing: Sandboxing
    setup: TreeSetup
    verdicts: Verdicts
    force: bool = False
    again: bool = False
    _digests: dict[tuple[str, str], str] = field(default_factory=dict, init=False)

    def verdict_on(
        self,
        tree: str,
        item: CommandProof,
        *,
        base: str = "",
        files: Sequence[str] = (),
        issue: str = "",
        log: Path,
        sabotaged: bool = False,
    ) -> Verdict:
        """Return the verdict of a check on a tree: the stored one, or one from a run in a clean checkout.

        Args:
            tree: the tree to judge.
            item: the check.
            base: tree whose number of tests is the minimum, and whose failures may be excused; empty without one.
            files: changed files for a check with `changed_only`.
            issue: id of the issue that needs the verdict; empty for the milestone.
            log: file for its output.
            sabotaged: the tree is a deliberately broken copy; a failure on it is no event of the milestone.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        key, seen = item.verdict_key(files), self._inputs_of(tree, item)
        conditions = self.check_conditions(item)
        known = self._known(seen, key, item, conditions)
        if known is not None:
            return known
        before = self._base_report(item, base, tree, log)
        with self.verdicts.alone(seen, key):
            known = self._known(seen, key, item, conditions)
            if known is not None:
                return known

            def prove() -> Verdict:
                with self.context.pool.slot() as slot:
                    trial = _Trial(self, tree, item, slot, tuple(files), issue, log, conditions)
                    return trial.verdict(before, key, seen, quiet=sabotaged)

            shared = self.verdicts.shared() if item.shareable and not (sabotaged or self.force) else None
            if shared is None:
                return prove()
            return shared.verdict(self.context, Asked(seen, key, item, conditions, issue), prove)

    def result_of(
        self, tree: str, item: CommandProof, argv: tuple[str, ...], *, declared: Sequence[str], log: Path
    ) -> Made:
        """Run a command that changes files in a clean checkout of a tree, where and as a check runs.

        Args:
            tree: the tree to start from.
            item: the check that the command belongs to.
            argv: the command.
            declared: globs of files that are part of the result although they are ignored.
            log: file for its output.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        context = self.context
        log.parent.mkdir(parents=True, exist_ok=True)
        with context.pool.slot() as slot:
            slot.check.prepare(context.store, tree)
            try:
                environment = self.setup.make_ready(slot, slot.check, log.parent, judging=True)
            except Unready as problem:
                return Made("", str(problem))
            env = environment.environment(child_environment((), dict(item.env), slot.check.folder))
            ended = self.child(argv, item, slot, environment, env, log, boxed=item.sandboxed)
            if ended.reason in {"stopped", "lost"}:
                raise InterruptedRunError(f"{item.name} was interrupted", 130)
            try:
                made = slot.check.result(context.store, context.excludes, declared, context.import_limits)
            except ImportRefusedError as problem:
                return Made("", str(problem))
            return Made(made, "" if ended.ok else ended.describe())

    def child(
        self,
        argv: tuple[str, ...],
        item: CommandProof,
        slot: Slot,
        environment: TreeEnvironment,
        env: dict[str, str],
        log: Path,
        *,
        boxed: bool,
        timeout: float | None = None,
        writable: Sequence[Path] = (),
    ) -> Ended:
        """Run a command of a check in a clean checkout, in the sandbox if it is `boxed`."""
        argv = environment.command(argv)
        if boxed:
            shown, network = [*item.readable, *environment.shown], item.network
            argv = self.sandboxing.wrap(
                argv, tree=slot.check.folder, env=env, writable=writable, readable=shown, network=network
            )
        command = Command(
            argv=argv,
            cwd=slot.check.start,
            env=env,
            log=log,
            timeout=item.timeout if timeout is None else timeout,
            output_cap=self.context.policy.limits.output_cap_bytes,
            secrets=self.context.secrets,
        )
        return self.context.supervisor.run(command)

    def _inputs_of(self, tree: str, item: CommandProof) -> str:
        """What a verdict is kept for: the tree, or a fingerprint of those of its files that the check depends on."""
        if not item.by_inputs:
            return tree
        if (tree, item.key) not in self._digests:
            relative = self.context.project.relative
            self._digests[tree, item.key] = self.context.store.digest_of(
                tree, lambda path: bool(item.concerned([relative(path)]))
            )
        return self._digests[tree, item.key]

    def trying_again(self) -> CheckRunner:
        """Return the same runner, but one that ignores failures of this run."""
        return CheckRunner(self.context, self.sandboxing, self.setup, self.verdicts, force=self.force, again=True)

    def check_conditions(self, item: CommandProof) -> dict[str, str]:
        """Return the conditions of a verdict besides tree and check, by name: sandbox, tools, environment."""
        repository, boxed = self.context.project.repository, self.boxed(item)
        if there := self.setup.conditions_elsewhere(item, boxed=boxed):
            return there
        found = conditions_of(repository, item.argv, child_environment((), {}, repository.top))
        return {"sandbox": "yes" if boxed else "no", **found}

    def known_report(self, tree: str, item: CommandProof) -> Report | None:
        """The report of what is known of a check on a tree, empty for a run that named no test; nothing is run."""
        verdict = self.known(tree, item)
        if verdict is None:
            return None
        return self.report_of(verdict) if verdict.report else Report(0, (), (), (), ())

    def known(self, tree: str, item: CommandProof) -> Verdict | None:
        """Return the latest verdict of a check on a tree under any conditions, if there is one; nothing is run."""
        return self.verdicts.find(self._inputs_of(tree, item), item.key)

    def report_of(self, verdict: Verdict) -> Report | None:
        """Return the JUnit report of a verdict, if it still exists."""
        data = self.verdicts.report(verdict.report) if verdict.report else None
        try:
            return read_junit(data) if data is not None else None
        except ReportError:
            return None

    def _known(self, tree: str, key: str, item: CommandProof, conditions: Mapping[str, str]) -> Verdict | None:
        """Return a reusable verdict: passes always, failures only within the run that saw them."""
        verdict = self.verdicts.find(tree, key, conditions) if item.reusable else None
        if verdict is None or (verdict.run == self.context.run_id and (verdict.ok or not self.again)):
            return verdict
        return verdict if verdict.ok and not self.force else None

    def boxed(self, item: CommandProof) -> bool:
        """Whether a check runs in the sandbox."""
        return item.sandboxed and self.sandboxing.judges()

    def _base_report(self, item: CommandProof, base: str, tree: str, log: Path) -> Report | None:
        """Return the report of a check on the base; None if its result is not compared."""
        compared = item.named and item.wants_report and bool(base) and not item.changed_only
        if not compared or base == tree:
            return None
        return self.report_of(self.verdict_on(base, item, log=log.with_name(f"base-{log.name}")))


def tail(log: Path) -> str:
    """Return the most useful part at the end of a log file."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_TAIL))
            return most_useful(_PASSING.sub("", file.read().decode("utf-8", "replace")))
    except OSError:
        return ""


class _Trial:
    """One run of a check on one tree."""

    def __init__(
        self,
        checks: CheckRunner,
        tree: str,
        item: CommandProof,
        slot: Slot,
        files: tuple[str, ...],
        issue: str,
        log: Path,
        conditions: dict[str, str],
    ) -> None:
        self._checks, self._context = checks, checks.context
        self._tree, self._item, self._slot = tree, item, slot
        self._files, self._issue, self._log = files, issue, log
        # a prefix such as `docker run -v {tree}:{tree}` runs in a place that has only the tree
        self._out = slot.check.folder / _REPORT_IN_TREE if item.prefix else slot.scratch.with_name("report")
        self._report = self._out / "report.xml"
        self._boxed = checks.boxed(item)
        self._environment = NO_ENVIRONMENT
        self._conditions = conditions
        self._host = ""
        self._covered: CoverageFiles | None = None
        self._written: Written | None = None

    def verdict(self, base: Report | None, key: str, seen: str, *, quiet: bool = False) -> Verdict:
        """Run the check with its retries, and store the verdict for what it depends on (`seen`)."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        verdicts = self._checks.verdicts
        first = verdict = self._once(base, sabotaged=quiet)
        # a test that is known to be flaky is tried once more
        for _ in range(self._item.retries or int(verdicts.only_flaky(key, first))):
            if verdict.ok:
                break
            verdict = self._once(base, sabotaged=quiet)
        if verdict.ok and not first.ok:
            verdicts.mark_flaky(key, self._tree, first, verdict)
        if self._item.reusable and (verdict.ok is first.ok or not verdicts.is_flaky(key)):
            verdicts.keep(seen, key, verdict)
        if not quiet:
            seconds = round(verdict.seconds, 3)
            event = Checked(check=self._item.name, tree=self._tree, ok=verdict.ok, seconds=seconds, host=self._host)
            self._context.record(event, self._issue)
        return verdict

    def _once(self, base: Report | None, *, sabotaged: bool) -> Verdict:
        if self._item.runner:
            found = self._checks.setup.elsewhere(self._item, self._tree, self._files, self._log, self._out)
            if found is not None:
                self._host, self._conditions = found.host, found.conditions
                return self._judged(found.ended, base)
            self._conditions = self._checks.check_conditions(self._item)
        self._slot.check.prepare(self._context.store, self._tree)
        try:
            self._environment = self._checks.setup.make_ready(
                self._slot, self._slot.check, self._log.parent, judging=True, sabotaged=sabotaged
            )
        except Unready as problem:
            return self._unready(problem)
        empty_folder(self._out)
        self._written = Written(self._slot.check.start)
        self._covered = CoverageFiles(self._slot.check.start)
        argv = self._item.command(self._files, str(self._report))
        up = self._out / "service-is-up"
        if self._item.before:
            argv = ("sh", "-c", _WITH_SERVICE, "sh", self._item.before, str(up), *argv)
        try:
            ended = self._child(argv, "", self._item.timeout)
        finally:
            if self._item.after:
                self._child(("sh", "-c", self._item.after), "after", _SERVICE_PATIENCE)
        if self._item.before and not up.exists():
            return self._failed(f"its service did not start: {ended.describe()}", ended)
        return self._judged(ended, base)

    def _unready(self, problem: Unready) -> Verdict:
        reason = f"{one_line(self._item.name)}: {problem}"
        return Verdict(
            ok=False,
            reason=reason,
            detail=tail(problem.log),
            seconds=0.0,
            run=self._context.run_id,
            ended=False,
            unready=True,
            conditions=self._conditions,
        )

    def _judged(self, ended: Ended, base: Report | None) -> Verdict:
        report, problem, kept = self._read_report()
        if not ended.ok:
            self._context.require_space()  # a check that had no room says nothing about the tree
        if ended.ok:
            lacking = problem or (missing_evidence(report, base) if self._item.wants_report else None)
            if lacking:
                return self._failed(f"exit 0, but {lacking}", ended, kept)
            return self._passed(ended, kept)
        if self._item.only_new_failures and report is not None and base is not None and ended.reason == "exited":
            fresh = new_failures(report, base)
            if not fresh and report.tests >= base.tests and (report.failures or report.errors):
                return self._passed(ended, kept)
            if fresh:
                names = ", ".join(one_line(name) for name in fresh[:5]) + (" and more" if len(fresh) > 5 else "")  # noqa: PLR2004
                return self._failed(f"{ended.describe()}, new failures: {names}", ended, kept)
        return self._failed(ended.describe(), ended, kept)

    def _read_report(self) -> tuple[Report | None, str, str]:
        """Return the report, its fault (empty if none), and the name under which it is stored."""
        if self._item.coverage:
            data = left_file(self._report.parent, COVERAGE, self._context.secrets, LARGEST)
            return None, "", self._checks.verdicts.keep_report(data) if isinstance(data, bytes) else ""
        if not self._item.wants_report:
            return self._printed()
        data = left_file(self._report.parent, self._report.name, self._context.secrets, LARGEST)
        if isinstance(data, str):
            return None, "" if data == ABSENT else f"its report cannot be believed: it {data}", ""
        try:
            report = read_junit(data)
        except ReportError as error:
            return None, f"its report cannot be believed: {error}", ""
        return report, "", self._checks.verdicts.keep_report(data)

    def _printed(self) -> tuple[Report | None, str, str]:
        """The same of a runner that leaves reports in the tree, or prints its tests: their names, or how many."""
        report = self._written.report(self._context.secrets) if self._written is not None else None
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, self._log.stat().st_size - _LOG_READ))
                report = report or read_console(file.read(), str(self._slot.check.folder))
        except OSError:
            return None, "", ""
        if report is None:
            return None, "", ""
        every = "" if len(report.skipped) < report.tests else "it skipped every test"
        return report, every, self._checks.verdicts.keep_report(junit_of(report))

    def _passed(self, ended: Ended, report: str) -> Verdict:
        empty = not report and self._item.proves_by_tests and ran_no_test(tail(self._log))
        covered = self._covered.percent(self._context.secrets) if self._covered is not None else None
        found = self._failed("", ended, report)
        return replace(found, ok=True, reason="", detail="", ended=True, empty=empty, covered=covered)

    def _failed(self, reason: str, ended: Ended, report: str = "") -> Verdict:
        return Verdict(
            ok=False,
            reason=f"{one_line(self._item.name)}: {reason}",
            detail=tail(self._log),
            seconds=ended.seconds,
            run=self._context.run_id,
            report=report,
            ended=ended.reason == "exited",
            conditions=self._conditions,
            host=self._host,
        )

    def _child(self, argv: tuple[str, ...], part: str, timeout: float) -> Ended:
        given = {
            **self._item.environment(str(self._report)),
            "EXECUTOR_MILESTONE": self._context.name,
            "EXECUTOR_ISSUE": self._issue,
            "EXECUTOR_SLOT": str(self._slot.number),
        }
        env = self._environment.environment(child_environment((), given, self._slot.check.folder))
        if not part and (self._slot.check.start / "go.mod").is_file():  # `go test` names its tests only when asked to
            env = {**env, "GOFLAGS": f"{env.get('GOFLAGS', '')} -v".strip()}
        if not part and _PLAIN_RSPEC.fullmatch(shlex.join(argv)):  # the same for `rspec`, if it has no format
            env = {**env, "SPEC_OPTS": f"{env.get('SPEC_OPTS', '')} --format documentation".strip()}
        where = self._item, self._slot, self._environment, env
        log, out = self._log.with_suffix(f".{part}.log") if part else self._log, [self._out]
        ended = self._checks.child(argv, *where, log, boxed=self._boxed, timeout=timeout, writable=out)
        if ended.reason in {"stopped", "lost"} and part != "after":
            raise InterruptedRunError(f"the check {self._item.name} was interrupted", 130)
        return ended
