"""A candidate: the result of an attempt while it is judged and landed, and the message of its commit.

Selected tests: those that a candidate is likely to break run first. If they fail, it is proved alone, so that it breaks
no batch. Only the proof by all tests decides; it shows what the selection missed.

Reports on an issue: what landed and how it deviates from the plan, or what failed, why, and what to do. Pure.

Receipts: the doit target of each landed issue, rebuilt from git if it is missing.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from executor.checks.console import Selection, by_coverage, by_names, measured, outcome_of, reported
from executor.checks.junit import read_coverage
from executor.checks.spec import CommandProof
from executor.git.diff import Change, parse_diff
from executor.git.trailers import inert, landing_message, one_line
from executor.model.milestone import commit_token, described, header
from executor.model.paths import is_test_file
from executor.process.files import write_atomic
from executor.state.events import Selected
from executor.state.model import PERMANENT, UNSPENT
from executor.status.collisions import twins_of
from executor.stop_rules.view import outside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.checks.verify import Judgement
    from executor.config.project import Project
    from executor.engine.agent_work import Work
    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.diff import FileChange
    from executor.git.objects import Store
    from executor.git.trailers import Landing, Trailers
    from executor.state.model import Attempt

__all__ = [
    "Candidate",
    "SelectedTests",
    "assisted_by",
    "candidate_of",
    "change_of",
    "deviations_in",
    "failure_report",
    "issue_header",
    "may_be_empty",
    "notes_in",
    "outside_scope",
    "remedy",
    "result_message",
    "success_lines",
    "success_report",
    "write_receipt",
]


_MOST = 20  # lines and items; bounds what one issue adds to messages
_PARTS = ("created", "modified", "deleted", "tests_added", "tests_updated", "deviations")
_REMEDIES = {
    "limit": "none: it continues when the limit is lifted; or name another agent after it in a list",
    "refusal": "explain the purpose in the spec, or name another agent after it in a list, then retry",
    "authentication": "log in or set the variable named above, then retry",
    "missing": "install it, or correct PATH or the agent's command, then retry",
    "host": "provide what the host named above lacks, then retry",
    "transient": "none: its account is suspended and retried later; or name another agent after it in a list",
    "dependency": "install the module or command named above, or correct the agent's command, then retry",
    "resource": "give the machine more memory or disk, or run fewer issues at a time, then retry",
    "input": "let its profile answer or disable its prompts (permissions, log-in, first-run questions), then retry",
    "gave-up": "extend the spec, split the issue, or name another agent, then retry",
    "setup": "correct the command in rules/setup.toml or what it needs, then retry",
    "agent": "read the agent's output below; correct its command, profile or time limits, then retry",
    "empty": "describe the required change in the spec, or remove the issue if no change is needed",
    "patch": "create the patch again on the tip of the milestone branch",
    "outputs": "its brief below lists the required outputs; make its agent write them, then retry",
    "import": "make the agent leave only files: no repositories, sockets or devices",
    "checks": "read the output below; improve the spec, or correct the check if it is wrong, then retry",
    "new-tests": "read the findings; describe the required tests in the spec, or approve them",
    "merge-conflict": "retry it on the current tip, or let one of the issues need the other",
}


def success_report(change: Change, deviations: Sequence[str] = ()) -> dict[str, list[str]]:
    """Files created, modified and deleted, tests added and updated, deviations from the plan."""
    created, modified = change.of_kind("created"), [*change.of_kind("modified"), *change.of_kind("mode")]
    return {
        "created": [path for path in created if not is_test_file(path)],
        "modified": [path for path in modified if not is_test_file(path)],
        "deleted": change.of_kind("deleted"),
        "tests_added": [path for path in created if is_test_file(path)],
        "tests_updated": [path for path in modified if is_test_file(path)],
        "deviations": list(deviations),
    }


def success_lines(report: dict[str, list[str]]) -> list[str]:
    """Format the report as lines for people; omits empty sections."""
    return [f"{name.replace('_', ' ')}: {_listed(report[name])}" for name in _PARTS if report.get(name)]


def failure_report(failed: Sequence[Attempt], allowed: int) -> list[str]:
    """Describe the last failure, its cause and remedy, and whether another attempt follows or a person is needed.

    Args:
        failed: failed attempts at the current spec, oldest first; not empty.
        allowed: maximum number of attempts.
    """
    last = failed[-1]
    spent = [item for item in failed if item.kind not in UNSPENT]
    twice = len(spent) > 1 and last.kind != "resource" and last.print and last.print == spent[-2].print
    again = len(spent) < allowed and last.kind not in PERMANENT and not twice
    tried = [f"tried: attempt {item.number} by {item.agent or 'its agent'}: {_class(item)}" for item in failed[-_MOST:]]
    return [
        *(tried if len(failed) > 1 else ()),
        f"failed: attempt {last.number} ({last.kind or 'unknown'})",
        f"why: {one_line(last.reason)}",
        f"remedy: {remedy(last.kind)}",
        "next: the next run retries it" if again else "next: escalated, a person is needed",
    ]


def _class(attempt: Attempt) -> str:
    cost = f", ${attempt.cost_usd:.2f}" if attempt.cost_known else ""
    return f"{attempt.kind or 'unknown'}, {attempt.seconds:.0f} s{cost}: {one_line(attempt.reason)[:200]}"


def remedy(kind: str) -> str:
    """Return the next step for a class of failure."""
    return _REMEDIES.get(kind, "read the output below")


def deviations_in(data: bytes) -> tuple[str, ...]:
    """Read the deviations from the plan in an agent's report.json; none if the file is unreadable."""
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    found = value.get("deviations") if isinstance(value, dict) else None
    if not isinstance(found, list):
        return ()
    return tuple(one_line(item)[:300] for item in found[:_MOST] if isinstance(item, str) and one_line(item))


def notes_in(data: bytes) -> tuple[str, ...]:
    """Read the agent's notes on its change in report.json, one line each; none if the file is unreadable."""
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    found = value.get("notes") if isinstance(value, dict) else None
    lines = found.splitlines() if isinstance(found, str) else found if isinstance(found, list) else []
    notes = (one_line(item).lstrip("-*+ ")[:300] for item in lines if isinstance(item, str))
    return tuple(line for line in notes if line)[:_MOST]


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(one_line(item) for item in items[:_MOST])
    more = len(items) - _MOST
    return f"{shown} and {more} more" if more > 0 else shown


def write_receipt(project: Project, store: Store, landing: Landing, deviations: Sequence[str] = ()) -> None:
    """Write the receipt of a landing, for doit and for people; only the deviations are not in the commit."""
    trailers = landing.trailers
    change = parse_diff(store.diff(f"{landing.commit}^", landing.commit))
    receipt = {
        "milestone": trailers.milestone,
        "issue": trailers.issue,
        "commit": landing.commit,
        "revision": trailers.revision,
        "spec_key": trailers.spec_key,
        "result_key": trailers.result_key,
        "check_key": trailers.check_key,
        "report": success_report(change, deviations),
    }
    path = project.receipt(trailers.milestone, trailers.issue)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = store.redact((json.dumps(receipt, indent=1, sort_keys=True) + "\n").encode())
    if not path.exists() or path.read_bytes() != data:
        write_atomic(path, data)


@dataclass(frozen=True, slots=True)
class Candidate:
    """The result of an attempt that is to land.

    Attributes:
        issue: the issue.
        attempt: the attempt that made it.
        change: the difference to the attempt's base.
        logs: folder for the output of its checks.
    """

    issue: IssueRun
    attempt: Attempt
    change: Change
    logs: Path

    @property
    def base(self) -> str:
        """The commit that the attempt started from."""
        return self.attempt.base or self.issue.session.store.parent_of(self.attempt.commit)


def candidate_of(issue: IssueRun, attempt: Attempt) -> Candidate:
    """Return the candidate of an attempt that has built a commit."""
    session = issue.session
    change = parse_diff(session.store.diff(f"{attempt.commit}^", attempt.commit))
    return Candidate(issue, attempt, change, session.project.logs(issue.run.name, issue.id, attempt.number))


def result_message(
    issue: IssueRun,
    change: Change,
    trailers: Trailers,
    *,
    agent: str = "",
    notes: tuple[str, ...] = (),
    note: str = "",
) -> str:
    """Return the commit message for an issue's result; equal arguments give equal text.

    Args:
        issue: the issue.
        change: the change of the result.
        trailers: the trailers of the commit.
        agent: name of the agent's profile; empty if unknown.
        notes: the agent's description of the change.
        note: a sentence of the executor for unusual landings.
    """
    return landing_message(
        issue_header(issue),
        change,
        replace(trailers, assisted=assisted_by(issue, agent)),
        title=issue.declared.title,
        number=issue.declared.number,
        note=note,
        notes=notes,
    )


def issue_header(issue: IssueRun) -> str:
    """Return ``feat(m4): title``, the subject of its commits."""
    rules, declared = issue.session.policy.forge, issue.declared
    token = commit_token(declared, issue.run.name, rules.commit_types)
    return header(token, described(declared.title, lower=rules.lower_case))


def assisted_by(issue: IssueRun, agent: str) -> str:
    """``AGENT:MODEL`` of a profile, without an unknown model; empty for a deterministic agent, or by policy."""
    policy = issue.session.policy
    profile = policy.agents.get(agent)
    if profile is None or profile.deterministic or not policy.forge.assisted_by:
        return ""
    return f"{profile.name}:{profile.model}" if profile.model else profile.name


_TOO_MANY = 0.5
"""Share of the tests from which the landings since the last measurement make a new one worth its time."""


@dataclass(frozen=True, slots=True)
class SelectedTests:
    """Selects the tests that a result is likely to break, runs them, and records what the selection missed."""

    run: MilestoneRun
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reached: dict[str, tuple[str, dict[str, frozenset[str]]]] = field(default_factory=dict)
    """Name of a check -> the tree in which it was measured, and the files that each of its tests executed."""
    _made: dict[tuple[str, int, str], tuple[Selection, str]] = field(default_factory=dict)
    """Issue, attempt and name of a check -> its selection, and how it was made."""

    def test(self, candidate: Candidate, tree: str, tip: str) -> bool:
        """Run the selected tests on a candidate's tree; returns whether they fail, False if there are none to run.

        Args:
            candidate: the candidate.
            tree: its tree on the tip.
            tip: the tree of the tip.
        """
        run, failed = self.run, False
        change = parse_diff(run.store.diff(tip, tree)).files
        paths = [run.project.relative(file.path) for file in change]
        for item in candidate.issue.proofs.items:
            if not isinstance(item, CommandProof) or not item.named or item.changed_only or not item.concerned(paths):
                continue
            log = candidate.logs / f"selected-{item.slug}.log"
            made = self._select(item, tree, tip, change, log) if item.proves_by_tests else None
            if made is None:
                continue
            self._made[candidate.issue.ref, candidate.attempt.number, item.name] = made
            outcome = "shadow"
            if run.policy.landing.select_tests == "on" and made[0].item is not None:
                verdict = run.checks.verdict_on(tree, made[0].item, issue=candidate.issue.id, log=log)
                passed = outcome_of(run.checks.report_of(verdict), sorted(made[0].tests))
                outcome = "passed" if passed or verdict.ok else "failed"
            self._record(candidate, item.name, outcome)
            failed = failed or outcome == "failed"
        return failed

    def check(self, candidate: Candidate, result: Judgement) -> None:
        """Record if all tests found a fault that the selection missed."""
        made = self._made.get((candidate.issue.ref, candidate.attempt.number, result.failed))
        if made is not None and result.failing and made[0].tests.isdisjoint(result.failing):
            self._record(candidate, result.failed, "missed")

    def read_by(self, check: str, tests: Sequence[str]) -> frozenset[str]:
        """Return the files that these tests executed when they were measured; none if they were not."""
        reached = self._reached.get(check, ("", {}))[1]
        return frozenset().union(*(files for test, files in reached.items() if reported(test) in tests))

    def _record(self, candidate: Candidate, check: str, outcome: str) -> None:
        number = candidate.attempt.number
        found, by = self._made[candidate.issue.ref, number, check]
        tests, of = len(found.tests), found.of
        candidate.issue.record(Selected(attempt=number, check=check, tests=tests, of=of, by=by, outcome=outcome))

    def _select(
        self, item: CommandProof, tree: str, tip: str, change: Sequence[FileChange], log: Path
    ) -> tuple[Selection, str] | None:
        """Return a selection and its method; None if the names of the tests are unknown."""
        store = self.run.store
        measured_in, reached = self._measured(item, tip, log)
        if reached:
            return by_coverage(item, reached, parse_diff(store.diff(measured_in, tree)).files), "coverage"
        report = self.run.checks.known_report(tip, item)
        if report is None or not report.names:
            return None
        by_name: dict[str, list[str]] = {}
        for path in store.paths(tree):
            by_name.setdefault(path.rpartition("/")[2], []).append(path)
        texts = {}
        for file in change:
            blobs = [store.blob(tree, path) or b"" for path in (file.path, *twins_of(file.path, by_name))]
            texts[file.path] = b"\n".join(blobs).decode("utf-8", "replace")
        return by_names(item, report.names, texts), "names"

    def _measured(self, item: CommandProof, tip: str, log: Path) -> tuple[str, dict[str, frozenset[str]]]:
        """Return which files each test executed, and in which tree; measured again when too much has landed since."""
        store, checks = self.run.store, self.run.checks
        with self._lock:
            known = self._reached.get(item.name)
            if known is not None and (not known[1] or not self._is_old(item, *known, tip)):
                return known
            reached: dict[str, frozenset[str]] = {}
            if item.calls_pytest:
                verdict = checks.verdict_on(tip, measured(item), log=log.with_name(f"coverage-{item.slug}.log"))
                data = checks.verdicts.report(verdict.report) if verdict.report else None
                reached = read_coverage(data, store.paths(tip)) if data is not None else {}
            self._reached[item.name] = (tip, reached)
            return self._reached[item.name]

    def _is_old(self, item: CommandProof, tree: str, reached: dict[str, frozenset[str]], tip: str) -> bool:
        landed = by_coverage(item, reached, parse_diff(self.run.store.diff(tree, tip)).files)
        return tree != tip and len(landed.tests) > _TOO_MANY * landed.of


def outside_scope(work: Work, change: Change) -> list[str]:
    """Return changed files that the issue does not declare, as deviations from the plan."""
    issue = work.run.issue(work.ref)
    return [inert(f"{path}: {why}") for path, why in outside(change.files, issue.files, issue.type)][:20]


def change_of(work: Work, tree: str) -> Change:
    """Return the change from the base of an attempt to a tree."""
    return parse_diff(work.run.session.store.diff(work.base_tree, tree)) if tree != work.base_tree else Change((), "")


def may_be_empty(work: Work) -> bool:
    """Return whether a revision may be empty: only a later one, vouched for by a command or a deterministic agent."""
    return work.revision > 1 and (work.agent.deterministic or bool(work.run.session.observer.proofs(work.ref).items))
