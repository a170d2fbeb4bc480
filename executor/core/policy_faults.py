"""Where declarations and rules do not fit together: names that nobody declared, options that nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.core.hints import Known, found, quoted
from executor.core.state import FINDINGS, UNSANDBOXED
from executor.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from executor.core.declaration import Issue, Milestone
    from executor.core.policy import Policy
    from executor.core.profile import Agent

__all__ = ["name_faults", "policy_faults"]


def policy_faults(
    milestones: Mapping[str, Milestone],
    files: Mapping[str, str],
    policy: Policy,
    partial: Mapping[str, Sequence[tuple[int, Issue]]] | None = None,
) -> list[Fault]:
    """Where declarations and rules do not fit together: unknown agents, options, checks, stop rules, workflows.

    Of faulty issues (`partial`) only what they say is looked at: what they lack may be a consequence of their faults.
    """
    names = {
        "agents": tuple(policy.agents),
        "checks": tuple(policy.checks),
        "stops": tuple(stop.id for stop in policy.stops),
        "workflows": tuple(policy.workflows),
    }
    return _faults(milestones, files, names, partial or {}, policy)


def name_faults(
    milestones: Mapping[str, Milestone],
    files: Mapping[str, str],
    names: Mapping[str, Sequence[str]],
    partial: Mapping[str, Sequence[tuple[int, Issue]]] | None = None,
) -> list[Fault]:
    """What of that can be told while the rules are faulty: names that nobody declared.

    Args:
        milestones: id -> declaration.
        files: id -> path of its file, for messages.
        names: ``agents``, ``checks``, ``stops``, ``workflows`` -> what the rules declare, faulty or not; of a kind
            that is left out nothing is known.
        partial: as for `policy_faults`.
    """
    return _faults(milestones, files, names, partial or {}, None)


def _faults(
    milestones: Mapping[str, Milestone],
    files: Mapping[str, str],
    names: Mapping[str, Sequence[str]],
    partial: Mapping[str, Sequence[tuple[int, Issue]]],
    policy: Policy | None,
) -> list[Fault]:
    more = {"stops": (FINDINGS, UNSANDBOXED)}
    known = {kind: Known((*found, *more.get(kind, ()))) for kind, found in names.items()}
    return [
        Fault(files[name], "milestone.checks", f"unknown check {quoted(check)}{advice}")
        for name, milestone in milestones.items()
        for check, advice in _unknown(milestone.checks, known, "checks", "checks")
    ] + [
        Fault(files[name], f"issue[{place}].{key}", problem)
        for name, milestone in milestones.items()
        for issues, whole in ((milestone.placed(), True), (partial.get(name, ()), False))
        for place, issue in issues
        for key, problem in _issue_problems(issue, policy, known, whole=whole)
    ]


def _unknown(names: Iterable[str], known: Mapping[str, Known], kind: str, word: str) -> Iterator[tuple[str, str]]:
    """Those of the names that are not declared, each with the end of its message."""
    declared = known.get(kind)
    if declared is None:
        return
    for name in names:
        if name not in declared.names:
            yield name, declared.advice(name, word)


def _issue_problems(
    issue: Issue, policy: Policy | None, known: Mapping[str, Known], *, whole: bool
) -> Iterator[tuple[str, str]]:
    by = f", needed by {quoted(issue.id)}"
    names = issue.agent if policy is None else policy.agent_names(issue)
    if not names and whole and policy is not None:
        fit = " and ".join(policy.fitting(issue))
        advice = f"; its options fit {fit}, name one" if fit else known["agents"].advice("", "agents")
        yield "agent", f"no agent is declared{by}, and the route of type {quoted(issue.type)} names none{advice}"
    unknown = list(_unknown(names, known, "agents", "agents"))
    for name, advice in unknown:
        yield "agent", f"unknown agent {quoted(name)}{by}{advice}"
    if policy is not None and names and not unknown and (whole or issue.agent):
        yield from _option_problems(issue, policy.agents_for(issue), whole=whole)
    for check, advice in _unknown(issue.checks or (), known, "checks", "checks"):
        yield "checks", f"unknown check {quoted(check)}{by}{advice}"
    for stop, advice in _unknown(issue.allow, known, "stops", "stop rules"):
        yield "allow", f"unknown stop rule {quoted(stop)}{by}{advice}"
    for workflow, advice in _unknown(filter(None, (issue.workflow,)), known, "workflows", "workflows"):
        yield "workflow", f"unknown workflow {quoted(workflow)}{by}{advice}"


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
