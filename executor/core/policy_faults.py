"""Where declarations and rules do not fit together: names that nobody declared, options that nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.core.hints import Known, found, quoted
from executor.core.state import FINDINGS, UNSANDBOXED
from executor.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from executor.core.declaration import Issue, Milestone
    from executor.core.policy import Policy
    from executor.core.profile import Agent

__all__ = ["policy_faults"]


def policy_faults(
    milestones: Mapping[str, Milestone],
    files: Mapping[str, str],
    policy: Policy,
    partial: Mapping[str, Sequence[tuple[int, Issue]]] | None = None,
) -> list[Fault]:
    """Where declarations and rules do not fit together: unknown agents, options, checks, stop rules, workflows.

    Of faulty issues (`partial`) only what they say is looked at: what they lack may be a consequence of their faults.
    """
    stops = (*(stop.id for stop in policy.stops), FINDINGS, UNSANDBOXED)
    known = (Known(policy.agents), Known(policy.checks), Known(policy.workflows), Known(stops))
    partial = partial or {}
    return [
        Fault(files[name], "milestone.checks", f"unknown check {quoted(check)}{known[1].advice(check, 'checks')}")
        for name, milestone in milestones.items()
        for check in milestone.checks
        if check not in policy.checks
    ] + [
        Fault(files[name], f"issue[{place}].{key}", problem)
        for name, milestone in milestones.items()
        for issues, whole in ((milestone.placed(), True), (partial.get(name, ()), False))
        for place, issue in issues
        for key, problem in _issue_problems(issue, policy, known, whole=whole)
    ]


def _issue_problems(
    issue: Issue, policy: Policy, known: tuple[Known, Known, Known, Known], *, whole: bool
) -> Iterator[tuple[str, str]]:
    agents, checks, workflows, stops = known
    by = f", needed by {quoted(issue.id)}"
    names = policy.agent_names(issue)
    if not names and whole:
        fitting = policy.fitting(issue)
        advice = f"; its options fit {' and '.join(fitting)}, name one" if fitting else agents.advice("", "agents")
        yield "agent", f"no agent is declared{by}, and the route of type {quoted(issue.type)} names none{advice}"
    unknown = [name for name in names if name not in policy.agents]
    for name in unknown:
        yield "agent", f"unknown agent {quoted(name)}{by}{agents.advice(name, 'agents')}"
    if names and not unknown and (whole or issue.agent):
        yield from _option_problems(issue, policy.agents_for(issue), whole=whole)
    for check in issue.checks or ():
        if check not in policy.checks:
            yield "checks", f"unknown check {quoted(check)}{by}{checks.advice(check, 'checks')}"
    for stop in issue.allow:
        if stop not in stops.names:
            yield "allow", f"unknown stop rule {quoted(stop)}{by}{stops.advice(stop, 'stop rules')}"
    if issue.workflow is not None and issue.workflow not in policy.workflows:
        yield (
            "workflow",
            f"unknown workflow {quoted(issue.workflow)}{by}{workflows.advice(issue.workflow, 'workflows')}",
        )


def _option_problems(issue: Issue, agents: list[Agent], *, whole: bool) -> Iterator[tuple[str, str]]:
    """Options that one of the agents needs and has not, and options that none of them knows."""
    by = f", needed by {quoted(issue.id)}"
    for agent in agents:
        for option in sorted(agent.needed() - issue.options.keys()) if whole else ():
            yield (
                "with",
                f'agent "{agent.name}" needs the option {quoted(option)}{by}; write with = {{ {option} = "..." }}',
            )
    allowed = Known(sorted(frozenset[str]().union(*(agent.allowed() for agent in agents))))
    names = " or ".join(f'"{agent.name}"' for agent in agents)
    for option, value in issue.options.items():
        if option not in allowed.names:
            yield "with", f"unknown option {quoted(option)} of agent {names}{allowed.advice(option, 'options')}"
        elif not isinstance(value, str | int | float):
            yield f"with.{option}", f"expected text, found {found(value)}"
    if any(agent.builtin == "patch" for agent in agents) and isinstance(issue.options.get("file"), str):
        parts = str(issue.options["file"]).split("/")
        if parts[0] == "" or ".." in parts:
            yield "with.file", f"expected a path inside milestones/, found {quoted(str(issue.options['file']))}"
