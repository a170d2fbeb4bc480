"""`doit plan m4`: the dry run: order, actions, durations, limits.

Changes nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from executor.checks.base import before_of
from executor.checks.spec import CommandProof
from executor.checks.verdicts import Verdicts
from executor.commands.base import (
    JSON_OPTION,
    Command,
    Options,
    Output,
    meant_milestone,
    print_json,
    report_faults,
    safe,
    table,
    unproved_note,
)
from executor.commands.plain import ago, money
from executor.config.project import compile_project, obstacles_of, open_project
from executor.errors import PersonNeededError
from executor.git.history import trees_of
from executor.git.refs import Refs
from executor.model.fingerprint import IssueRef
from executor.state import segments
from executor.state.decide import Status
from executor.status.estimate import selections
from executor.status.progress import Ahead, expected_end, forecast_of
from executor.status.reader import Observer, observe, overlaps_of

if TYPE_CHECKING:
    from executor.status.rows import Expected, PlanIssue, PlanLimits, PlanReport

__all__ = ["Plan"]


_A = {"issue": "an issue", "run": "a run", "day": "a day", "milestone": "the milestone"}


class Plan(Command):
    """Shows the actions of a run."""

    name = "plan"
    output = Output.VIEW
    doc_purpose = "show what a run of a milestone would do, in which order and why; changes nothing"
    doc_usage = "[MILESTONE]"
    cmd_options = (JSON_OPTION,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print it."""
        project = open_project()
        compiled = compile_project(project)
        name = meant_milestone(compiled, arguments, "plan")
        observer = observe(compiled, Refs(project.repository))
        value = _value(observer, name)
        if options["json"]:
            print_json(value)
        else:
            sys.stdout.write(_text(value))
        return report_faults(compiled.faults) or (PersonNeededError.exit_code if value["obstacles"] else 0)


def _value(observer: Observer, name: str) -> PlanReport:
    plan = observer.compiled.plan
    view = observer.views[name]
    wave_of = {ref: number for number, wave in enumerate(plan.waves(name), 1) for ref in wave}
    issues: list[PlanIssue] = []
    repository = observer.compiled.project.repository
    verdicts = Verdicts(observer.compiled.project.cache / "_verdicts")
    tree = trees_of(repository, view.tip, 1)[view.tip][0]
    for ref in plan.order:
        node = plan.nodes[ref]
        if node.milestone == name:
            decision = observer.decision(ref)
            issues.append(
                {
                    "ref": ref,
                    "title": node.issue.title,
                    "wave": wave_of[ref],
                    "priority": node.issue.priority,
                    "size": node.issue.size,
                    "needs": list(node.needs),
                    "status": str(decision.status),
                    "act": "implement" if decision.status is Status.BLOCKED and node.needs else str(decision.act),
                    "why": decision.reason,
                    "agent": observer.compiled.policy.agent_for(node.issue).name,
                    "unproved": not observer.compiled.policy.proves(node.issue),
                    "vacuous": [] if decision.status is Status.LANDED else _vacuous(observer, ref, verdicts, tree),
                    "overlaps": [],
                }
            )
    _predict_overlaps(observer, issues)
    return {
        "milestone": name,
        "title": view.milestone.title,
        "branch": view.milestone.branch,
        "base": view.base.removeprefix("refs/heads/"),
        "from": view.tip,
        "critical_path": list(plan.critical_path(name)),
        "issues": issues,
        "obstacles": [str(item) for item in obstacles_of(observer.compiled)] + ([view.problem] if view.problem else []),
        "note": view.note,
        "select_tests": _selection(observer, name),
        "expected": _expected(observer, issues, name),
        "limits": _limits(observer, issues),
    }


def _predict_overlaps(observer: Observer, issues: list[PlanIssue]) -> None:
    """Fill in which of the next issues are expected to meet although neither needs the other."""
    nodes = observer.compiled.plan.nodes
    overlaps = overlaps_of(observer, Refs(observer.compiled.project.repository))
    ahead = [item for item in issues if item["status"] != Status.LANDED][:_AHEAD]
    behind: dict[str, frozenset[str]] = {}
    for item in issues:  # in an order in which needs come first
        own = nodes[item["ref"]].needs
        behind[item["ref"]] = frozenset(own).union(*(behind.get(need, frozenset()) for need in own))
    for place, item in enumerate(ahead):
        ref = item["ref"]
        others = [other["ref"] for other in ahead[:place] if other["ref"] not in behind[ref]]
        item["overlaps"] = [
            {"ref": met.other, "files": list(met.files), "declared": met.declared, "cost": round(met.cost, 2)}
            for met in overlaps.between(ref, others)
        ]


_AHEAD = 200
"""Number of the next issues whose overlaps are predicted: the work grows with its square."""
_SHOWN = 20  # pairs; about a screen


def _selection(observer: Observer, name: str) -> str:
    """Return whether selected tests run before all others, and how well the selection has held; empty if not."""
    mode = observer.compiled.policy.landing.select_tests
    if mode == "off":
        return ""
    held = str(selections(segments.read(observer.compiled.project.state(name))))
    return f"{mode}; {held}" if held else mode


def _overlaps_text(issues: list[PlanIssue]) -> str:
    """Return the predicted overlaps as lines, the strongest first."""
    pairs = [(met["cost"], item["ref"], met) for item in issues for met in item["overlaps"]]
    pairs.sort(key=lambda pair: -pair[0])
    lines = [
        f"may overlap: {safe(ref)} and {safe(met['ref'])} in {safe(', '.join(met['files'][:5]))} "
        f"({'declared' if met['declared'] else 'learned'})\n"
        for _, ref, met in pairs[:_SHOWN]
    ]
    return "".join(lines) + (f"may overlap: {len(pairs) - _SHOWN} more pairs\n" if len(pairs) > _SHOWN else "")


def _vacuous(observer: Observer, ref: str, verdicts: Verdicts, tree: str) -> list[str]:
    """Acceptance of an issue that passes before anything was done, as far as that is known."""
    items = [item for item in observer.proofs(ref).items if isinstance(item, CommandProof) and not item.named]
    return [item.name for item in items if before_of(verdicts, tree, item) == "vacuous"]


def _expected(observer: Observer, issues: list[PlanIssue], name: str) -> Expected | None:
    """Forecast the rest of the milestone; None if nothing continues without a person."""
    ahead = [Ahead(item["ref"], item["size"], item["status"], tuple(item["needs"]), None) for item in issues]
    sizes = {IssueRef.parse(item["ref"]).issue: item["size"] for item in issues}
    events = segments.read(observer.compiled.project.state(name))
    workers = observer.compiled.policy.limits.parallel
    end = expected_end(ahead, events, sizes, workers)
    if end is None:
        return None
    found = forecast_of(observer, name, [item["ref"] for item in issues if item["status"] != "landed"])
    if found is None:
        return None
    rest, proved = found
    return {
        "seconds": round(end.seconds),
        "p50_s": round(rest.p50_s),
        "p80_s": round(rest.p80_s),
        "known": rest.known,
        "workers": workers,
        "guess": not rest.known,
        "calibration": {"milestones": proved.milestones, "inside_p80": proved.inside},
    }


def _limits(observer: Observer, issues: list[PlanIssue]) -> PlanLimits:
    """Return the limits of cost: attempts per issue, seconds per call, money by scope."""
    policy, nodes = observer.compiled.policy, observer.compiled.plan.nodes
    agents = [agent for item in issues for agent in policy.agents_for(nodes[item["ref"]].issue)]
    longest = max((agent.timeout or policy.limits.timeout_s for agent in agents), default=0.0)
    return {"attempts": policy.limits.attempts, "timeout_s": longest, "usd": dict(policy.limits.caps.usd)}


def _range(expected: Expected) -> str:
    """Format the forecast as a range, with its past accuracy; empty for a guess."""
    if expected["guess"]:
        return ""
    text = f"p50 {ago(expected['p50_s'])}, p80 {ago(expected['p80_s'])}, from {expected['known']} durations"
    proved = expected["calibration"]
    if proved["milestones"]:
        text += f"; {proved['inside_p80']} of {proved['milestones']} past milestones ended within their p80"
    return f"{text}\n"


def _text(value: PlanReport) -> str:
    rows = [
        [
            f"wave {item['wave']}",
            item["act"],
            item["ref"],
            item["agent"],
            f"{item['priority']} {item['size']}",
            item["title"],
            item["why"],
        ]
        for item in value["issues"]
    ]
    expected, limits = value["expected"], value["limits"]
    usd = ", ".join(f"{money(cap)} for {_A[scope]}" for scope, cap in limits["usd"].items())
    bounds = f"at most {limits['attempts']} attempts per issue, {ago(limits['timeout_s'])} per call of an agent"
    bounds += f", {usd}" if usd else "; no cap on money (--budget, or rules/limits.toml)"
    if expected is not None:
        guess = " (a guess)" if expected["guess"] else ""
        text = f"takes about {ago(expected['seconds'])}{guess}, {expected['workers']} at a time"
        bounds = f"{text}\n{_range(expected)}{bounds}"
    path = " -> ".join(IssueRef.parse(ref).issue for ref in value["critical_path"])
    return (
        f"{value['milestone']}: {value['title']}\n"
        f"lands on {value['branch']}, starting from {value['from'][:10]} ({value['base']})\n"
        f"critical path: {path}\n{bounds}\n\n{table(rows)}\n"
        + unproved_note([item["ref"] for item in value["issues"] if item["unproved"] and item["status"] != "landed"])
        + "".join(
            f'vacuous: {safe(item["ref"])}: "{safe(name)}" passes before any work; it proves nothing\n'
            for item in value["issues"]
            for name in item["vacuous"]
        )
        + _overlaps_text(value["issues"])
        + "".join(f"selected tests: {held}\n" for held in [value["select_tests"]] if held)
        + "".join(f"note: {safe(value['note'])}\n" for _ in range(bool(value["note"])))
        + "".join(f"resolve first: {safe(item)}\n" for item in value["obstacles"])
    )
