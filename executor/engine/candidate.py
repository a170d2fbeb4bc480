"""A candidate: the result of an attempt while it is judged and landed, and the message of its commit.

Reports on an issue: what landed and how it deviates from the plan, or what failed, why, and what to do. Pure.

Receipts: the doit target of each landed issue, rebuilt from git if it is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from executor.git.diff import parse_diff
from executor.git.trailers import landing_message, one_line
from executor.model.milestone import commit_token, described, header
from executor.process.files import write_atomic
from executor.state.model import PERMANENT, UNSPENT
from executor.stop_rules.new_tests.rules import is_test_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.config.project import Project
    from executor.engine.issue import IssueRun
    from executor.git.diff import Change
    from executor.git.objects import Store
    from executor.git.trailers import Landing, Trailers
    from executor.state.model import Attempt

__all__ = [
    "Candidate",
    "assisted_by",
    "candidate_of",
    "deviations_in",
    "failure_report",
    "issue_header",
    "notes_in",
    "remedy",
    "result_message",
    "success_lines",
    "success_report",
    "write_receipt",
]


_MOST = 20
_PARTS = ("created", "modified", "deleted", "tests_added", "tests_updated", "deviations")
_REMEDIES = {
    "limit": "nothing: it goes on when the limit is lifted; or name another agent after it in a list",
    "refusal": "say in the spec what it is for, or name another agent after it in a list, then retry",
    "authentication": "log in or set the variable named above, then retry",
    "missing": "install it, or correct PATH or the agent's command, then retry",
    "transient": "nothing: its account rests and is asked again; or name another agent after it in a list",
    "dependency": "install the module or command named above, or correct the agent's command, then retry",
    "resource": "give the machine more memory or disk, or run fewer issues at a time, then retry",
    "input": "have its profile answer or forbid what it asks (permissions, log-in, first-run questions), then retry",
    "gave-up": "say more in the spec, cut the issue in two, or name another agent, then retry",
    "setup": "correct the command in rules/setup.toml or what it needs, then retry",
    "agent": "look at the agent's output below; correct its command or profile, or its time limits, then retry",
    "empty": "say in the spec what has to change, or remove the issue if nothing has to",
    "patch": "make the patch again on the tip of the milestone branch",
    "outputs": "see what the step has to leave in its brief below; have its agent leave it there, then retry",
    "import": "have the agent leave files only: no repositories, sockets or devices",
    "checks": "read the output below: sharpen the spec, or correct the check if it is wrong, then retry",
    "new-tests": "read the findings: say in the spec how the tests are to be written, or approve of them",
    "merge-conflict": "retry it on the present tip, or let the two issues need one another",
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
    return _REMEDIES.get(kind, "look at the output below")


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
    told = (one_line(item).lstrip("-*+ ")[:300] for item in lines if isinstance(item, str))
    return tuple(line for line in told if line)[:_MOST]


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
