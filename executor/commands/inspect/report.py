"""A milestone before and after its work.

`doit plan m4`: the dry run: order, actions, durations, limits. It changes nothing.

`doit report m4`: the history of a milestone as HTML, Markdown, JSON, JUnit XML or SARIF.

`doit sessions`: the runs of milestones: time, user, task, outcome, and where they stopped.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
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
    option,
    print_json,
    report_faults,
    safe,
    table,
    unproved_note,
)
from executor.commands.output import ago, money
from executor.config.project import compile_project, obstacles_of, open_project, unknown_milestone
from executor.errors import PersonNeededError, UsageError
from executor.git.history import trees_of
from executor.git.refs import Refs
from executor.model.fingerprint import IssueRef
from executor.process.files import local_time
from executor.process.locks import read_holder
from executor.report.collect import report_of
from executor.report.text import junit, markdown, sarif
from executor.state import segments
from executor.state.decide import Status
from executor.state.record import How, RunRecord, moment, run_records
from executor.status.estimate import selections
from executor.status.progress import Ahead, expected_end, forecast_of
from executor.status.reader import Observer, observe, overlaps_of
from executor.status.summary_cache import index_of

if TYPE_CHECKING:
    from executor.config.project import Project
    from executor.report.collect import MilestoneReport
    from executor.status.rows import Expected, PlanIssue, PlanLimits, PlanReport

__all__ = ["Plan", "Report", "Sessions", "sessions_of"]


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


_FORMAT = option("format", "html, md, json, junit or sarif (default: md)", default="md")
_OUTPUT = option("output", "file to write, instead of standard output", short="o")
_OPEN = option("open", "write the page and open it in a browser (the variable BROWSER overrides the default one)", bool)


class Report(Command):
    """Writes the report of a milestone."""

    name = "report"
    has_files = True
    output = Output.VIEW
    doc_purpose = "write a report of a milestone: html (one file, works offline), md, json, junit or sarif"
    doc_usage = "MILESTONE"
    cmd_options = (_FORMAT, _OUTPUT, _OPEN)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Write the report."""
        kind = "html" if options["open"] else options["format"]
        if kind not in _MAKERS:
            raise UsageError(f'unknown format "{kind}"; expected one of {", ".join(_MAKERS)}')
        project = open_project()
        compiled = compile_project(project)
        name = meant_milestone(compiled, arguments, "report")
        row = index_of(project).milestone(name)
        if row is None:
            raise UsageError(f"{name} is an incomplete draft; `doit status {name}` shows what is missing")
        text = _MAKERS[kind](report_of(observe(compiled, Refs(project.repository)), name, row, row["percent"]))
        output = options["output"]
        if options["open"] and not output:
            project.state(name).mkdir(parents=True, exist_ok=True)
            output = str(project.state(name) / "report.html")
        if output:
            _write(Path(output), text)
        else:
            sys.stdout.write(text)
        if options["open"]:
            _open(Path(output))
        return 0


def _open(path: Path) -> None:
    """Show a page in the user's browser; on a machine without one, a message says where the page is."""
    import webbrowser

    try:
        shown = webbrowser.open(path.resolve().as_uri())
    except webbrowser.Error:
        shown = False
    sys.stdout.write(f"{path}\n" if shown else f"{path}: no browser found; set BROWSER\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; name another file with --output") from error


def _html(report: MilestoneReport) -> str:
    from executor.report.html import page

    return page(report)


def _json(report: MilestoneReport) -> str:
    return report.model_dump_json(indent=1) + "\n"


_MAKERS = {"html": _html, "md": markdown, "json": _json, "junit": junit, "sarif": sarif}


_ALL = option("all", "show all runs, not only the latest 20", bool, short="a")
_MOST_RUNS = 20  # runs; about a screen, `--all` shows the rest


_EXPLAINED = {How.INTERRUPTED, How.HALTED, How.ERROR}


class Sessions(Command):
    """Shows the runs in the journals, latest last."""

    name = "sessions"
    output = Output.VIEW
    doc_purpose = "list runs: when, who, how they ended, where they stopped"
    doc_usage = "[MILESTONE ...]"
    cmd_options = (_ALL, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print them."""
        project = open_project()
        known = sorted(path.stem for path in project.milestones.glob("*.toml"))
        names = [name.removeprefix("milestone:") for name in arguments]
        for name in names:
            if name not in known:
                raise UsageError(unknown_milestone(name, known))
        found = [(name, record) for name in names or known for record in sessions_of(project, name)]
        found.sort(key=lambda item: item[1].started)
        shown = found if options["all"] or options["json"] else found[-_MOST_RUNS:]
        if options["json"]:
            print_json({"sessions": [_run_value(name, record) for name, record in shown]})
        elif not shown:
            sys.stdout.write("no run is recorded in .cache/\n")
        else:
            left_out = len(found) - len(shown)
            sys.stdout.write(f"{left_out} earlier ones are not shown; --all shows them\n" if left_out else "")
            sys.stdout.write(table([_run_row(name, record) for name, record in shown]) + "\n")
            sys.stdout.write(_last_run_text(*found[-1]))
        return 0


def sessions_of(project: Project, name: str) -> list[RunRecord]:
    """Return the runs of a milestone, oldest first.

    Raises:
        StateBrokenError: its journal is corrupt.
    """
    folder = project.state(name)
    holder = read_holder(folder)
    return run_records(segments.read(folder), holder.run if holder is not None and holder.alive else "")


def _run_value(name: str, record: RunRecord) -> dict[str, object]:
    return {"id": record.run, "milestone": name, **asdict(record), "how": str(record.how)}


def _run_row(name: str, record: RunRecord) -> list[str]:
    git = f"{record.git.get('branch') or 'detached'}@{str(record.git.get('commit', ''))[:10]}"
    changed = record.git.get("changed")
    took = ago(moment(record.ended) - moment(record.started)) if record.ended else ""
    code = "" if record.code is None else f"exit {record.code}"
    return [
        local_time(record.started),
        name,
        str(record.how) + (f" ({record.why.splitlines()[0]})" if record.why and record.how in _EXPLAINED else ""),
        code,
        took,
        f"{record.user}@{record.host}" + (f", agents on {', '.join(record.hosts)}" if record.hosts else ""),
        git + (f" +{changed} changed" if changed else ""),
        f"{len(record.landed)} landed",
        _left(name, record),
    ]


def _left(name: str, record: RunRecord) -> str:
    """Return its issues in progress, and the next ones."""
    flying = ", ".join(str(IssueRef(name, issue)) for issue in record.in_flight)
    following = ", ".join(record.following[:3]) + (" ..." if len(record.following) > 3 else "")  # noqa: PLR2004
    parts = [f"working on {flying}" if flying else "", f"next {following}" if following else ""]
    return "; ".join(part for part in parts if part)


def _last_run_text(name: str, record: RunRecord) -> str:
    return f"the last one did not finish; doit milestone:{name} resumes it\n" if record.cut_off else ""
