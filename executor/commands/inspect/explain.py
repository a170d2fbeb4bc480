"""The status of an issue: its reason, and its proof again on the present branch.

`doit explain m4/4.1`: the decision and the named input behind it, old and new, down to the changed line.

`doit verify m4`: all checks and acceptance of landed issues, on the branch's tip. With `--base` it tries every check
and acceptance command on the base before the night, as a run does.
"""

from __future__ import annotations

import difflib
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from executor.agents.brief import kept_spec
from executor.agents.command import child_environment
from executor.checks.base import base_remedy
from executor.checks.spec import CommandProof
from executor.checks.verdicts import Verdicts, described, differences, kept_checks
from executor.commands.base import (
    JSON_OPTION,
    Command,
    Options,
    Output,
    meant_milestone,
    option,
    print_json,
    safe,
    table,
)
from executor.commands.inspect.log import meant_issue
from executor.config.project import compile_project, open_project
from executor.environments.making import conditions_of
from executor.errors import BusyError, UsageError
from executor.git.history import text_at, texts_of, trees_of
from executor.git.refs import Refs
from executor.model.fingerprint import IssueRef, normal_text, spec_key
from executor.sandbox.bubblewrap import find_sandbox
from executor.state import segments
from executor.state.decide import Act, Decision, Status
from executor.state.events import Selected
from executor.status.reader import Observer, observe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from executor.checks.base import BaseResult
    from executor.config.project import Compiled
    from executor.doctor.health import Finding
    from executor.engine.issue import IssueRun
    from executor.engine.session import Session
    from executor.git.trailers import Landing
    from executor.model.fingerprint import Spec
    from executor.state.decide import Cause
    from executor.state.model import Attempt
    from executor.status.rows import Explanation, ProofRow, VerifiedRow

__all__ = ["Explain", "Verify", "base_findings"]


_BASE_LINES = 20  # lines; about a screen


class Explain(Command):
    """Explains the status of an issue."""

    name = "explain"
    output = Output.VIEW
    doc_purpose = "show the decision about an issue and the input that caused it"
    doc_usage = "[MILESTONE/ISSUE]"
    cmd_options = (JSON_OPTION,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the explanation."""
        if len(arguments) > 1:
            raise UsageError(f"name one issue, for example `doit explain {arguments[0]}`")
        project = open_project()
        compiled = compile_project(project)
        name = arguments[0].removeprefix("issue:") if arguments else meant_issue(compiled, "explain")
        observer = observe(compiled, Refs(project.repository))
        gone = _removed(observer, name)
        if gone is not None:
            _print_removed(gone, as_json=options["json"])
            return 0
        ref = compiled.ref(name)
        decision = observer.decision(ref)
        difference = _difference(observer, ref, decision.cause)
        state = observer.facts(ref).state
        if state.stop is not None and decision.status in {Status.REVIEW, Status.SKIPPED}:
            difference = [*state.stop.lines, *([f"needed: {state.stop.needs}"] if state.stop.needs else [])]
        if state.red is not None and decision.reason == state.red.reason:
            difference = state.red.detail.splitlines()[-_BASE_LINES:]
        verdicts, proofs = [*_not_reused(observer, ref), *_selected(observer, ref)], _proofs(observer, ref)
        attempts = [state.attempts[number] for number in sorted(state.attempts)]
        if options["json"]:
            print_json(_value(ref, decision, difference, attempts, verdicts, proofs))
        else:
            lines = "".join(f"{safe(line)}\n" for line in [*map(_whose, proofs), *verdicts])
            sys.stdout.write(_text(ref, decision, difference, attempts) + lines)
        return 0


def _not_reused(observer: Observer, ref: str) -> list[str]:
    """For each check of an issue whose verdict on its tree is not used again: which condition is another."""
    project, landing, milestone = observer.compiled.project, observer.facts(ref).landing, IssueRef.parse(ref).milestone
    tip = observer.views[milestone].tip
    tree = landing.tree if landing is not None else trees_of(project.repository, tip, 1)[tip][0]
    nodes = [node for node in observer.compiled.plan.nodes.values() if node.milestone == milestone]
    agents = [agent for node in nodes for agent in observer.compiled.policy.agents_for(node.issue)]
    boxed = any(agent.isolation != "none" for agent in agents) and find_sandbox() is not None
    verdicts, env = Verdicts(project.cache / "_verdicts"), child_environment((), {}, project.repository.top)
    lines = []
    for item in observer.proofs(ref).items:
        if isinstance(item, CommandProof) and not item.changed_only and not item.runner:
            now = {"sandbox": "yes" if boxed and item.sandboxed else "no"}
            now |= conditions_of(project.repository, item.argv, env)
            why = verdicts.why_not_again(tree, item.key, now)
            lines += [f"the verdict of {item.name} is not reused: {line}" for line in why]
    return lines


def _selected(observer: Observer, ref: str) -> list[str]:
    """Return what the tests that were selected for the results of an issue showed, one line for each selection."""
    milestone, issue = IssueRef.parse(ref)
    return [
        f"attempt {it.attempt}: {it.tests} of {it.of} tests of {it.check} were selected by {it.by}: {it.outcome}"
        for record in segments.read(observer.compiled.project.state(milestone))
        if record.key == issue and isinstance(it := record.event, Selected)
    ]


def _proofs(observer: Observer, ref: str) -> list[ProofRow]:
    """For each check of an issue: the verdict on the branch's tip, or on the tree of its landing, and whose it is."""
    project, landing = observer.compiled.project, observer.facts(ref).landing
    tip = observer.views[IssueRef.parse(ref).milestone].tip
    trees = [trees_of(project.repository, tip, 1)[tip][0], *([landing.tree] if landing is not None else [])]
    verdicts = Verdicts(project.cache / "_verdicts")
    rows: list[ProofRow] = []
    for item in observer.proofs(ref).items:
        if not isinstance(item, CommandProof) or item.changed_only:
            continue
        found = [(tree, verdict) for tree in trees if (verdict := verdicts.find(tree, item.key)) is not None]
        for tree, verdict in found[:1]:
            when = datetime.fromtimestamp(verdict.at, UTC).isoformat() if verdict.at else ""
            rows.append(
                {
                    "check": item.name,
                    "tree": tree,
                    "ok": verdict.ok,
                    "by": verdict.by,
                    "host": verdict.host,
                    "at": when,
                    "run": verdict.run,
                }
            )
    return rows


def _whose(row: ProofRow) -> str:
    word = "passed" if row["ok"] else "failed"
    here = f"proved on {row['host']}" if row["host"] else "proved here"
    by = f"signed by {row['by']} on {row['host']}, {row['at']}" if row["by"] else here
    return f"{row['check']} {word} on {row['tree'][:10]}: {by}, run {row['run']}"


def _removed(observer: Observer, name: str) -> Landing | None:
    """The landing of an issue that is no longer declared."""
    milestone, issue = IssueRef.parse(name)
    view = observer.views.get(milestone)
    return view.removed.get(issue) if view is not None else None


def _print_removed(landing: Landing, *, as_json: bool) -> None:
    trailers = landing.trailers
    ref = str(IssueRef(trailers.milestone, trailers.issue))
    reason = f"landed as {landing.commit[:10]}, revision {trailers.revision}; it is no longer declared"
    hint = f'if it was renamed, write `was = ["{trailers.issue}"]` into the issue'
    if as_json:
        decision = Decision(Status.LANDED, Act.REST, reason, hint)
        print_json(_value(ref, decision, [], [], [], []))
    else:
        sys.stdout.write(f"{safe(ref)} has {reason}\nnext: {hint}\n")


def _difference(observer: Observer, ref: str, cause: Cause | None) -> list[str]:
    """Return lines of difference for changed checks and for a spec that differs from the landed one."""
    if cause is not None and cause.input == "checks":
        return [*_changed_checks(observer, ref, cause.old), *_changed_spec(observer, ref)]
    return _changed_spec(observer, ref)


def _changed_checks(observer: Observer, ref: str, key: str) -> list[str]:
    """Return the difference of the checks, from their stored text, otherwise from the rules at the landing."""
    node = observer.compiled.plan.nodes[ref]
    old = kept_checks(observer.compiled.project.state(node.milestone), key)
    if old is not None:
        return differences(old, described(observer.proofs(ref)))
    landing = observer.views[node.milestone].landings[node.issue.id]
    lines = _changed_rules(observer, landing.commit)
    lost = "the checks that proved it are no longer in .cache/"
    return (
        [f"{lost}; since it landed, rules/ changed as follows", *lines]
        if lines
        else [f"{lost}; rules/ are unchanged, so a tool's version or the declaration has changed"]
    )


def _changed_rules(observer: Observer, commit: str) -> list[str]:
    """Return the difference of the rules that define checks, between a commit and now."""
    project = observer.compiled.project
    lines: list[str] = []
    for name in ("checks", "routes", "setup", "limits"):
        path = project.rules / f"{name}.toml"
        now = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        then = text_at(project.repository, commit, path)
        shown = f"rules/{name}.toml"
        lines += difflib.unified_diff(
            then.splitlines(), now.splitlines(), f"{shown} (landed)", f"{shown} (now)", lineterm="", n=1
        )
    return lines


def _changed_spec(observer: Observer, ref: str) -> list[str]:
    """Return the difference between the landed and the declared spec; empty without a difference or a landing."""
    landing = observer.facts(ref).landing
    if landing is None or landing.trailers.spec_key == observer.spec_key(ref):
        return []
    new: Mapping[str, object] = observer.spec(ref)
    old: Mapping[str, object] | None = _old_spec(observer, ref, landing.trailers.spec_key)
    if old is None:
        return [f"the text of spec {landing.trailers.spec_key} is neither in .cache/ nor in the history of its file"]
    lines: list[str] = []
    for field in new:
        if old.get(field) != new[field]:
            lines += difflib.unified_diff(
                _lines(old.get(field)), _lines(new[field]), f"{field} (landed)", f"{field} (declared)", lineterm="", n=2
            )
    return lines


def _old_spec(observer: Observer, ref: str, key: str) -> Spec | None:
    node = observer.compiled.plan.nodes[ref]
    kept = kept_spec(observer.compiled.project.state(node.milestone), key)
    if kept is not None or node.issue.spec is None:
        return kept
    now = observer.spec(ref)
    for text in texts_of(observer.compiled.project.repository, observer.compiled.project.milestones / node.issue.spec):
        candidate: Spec = {**now, "text": normal_text(text)}
        if spec_key(candidate) == key:
            return candidate
    return None


def _lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    return str(value if value is not None else "").splitlines()


def _value(
    ref: str,
    decision: Decision,
    difference: list[str],
    attempts: list[Attempt],
    verdicts: list[str],
    proofs: list[ProofRow],
) -> Explanation:
    cause = decision.cause
    return {
        "ref": ref,
        "status": str(decision.status),
        "act": str(decision.act),
        "reason": decision.reason,
        "hint": decision.hint,
        "cause": None if cause is None else {"input": cause.input, "old": cause.old, "new": cause.new},
        "difference": difference,
        "attempts": [
            {
                "number": item.number,
                "revision": item.revision,
                "state": str(item.state),
                "reason": item.reason,
                "host": item.host,
            }
            for item in attempts
        ],
        "verdicts": verdicts,
        "proofs": proofs,
    }


def _text(ref: str, decision: Decision, difference: list[str], attempts: list[Attempt]) -> str:
    if decision.status is Status.LANDED:
        since = "its spec has changed since, but not the required work" if difference else "no input has changed since"
        lines = [f"{ref} has {decision.reason}, revision {decision.revision}; {since}"]
    else:
        goes_on = "leaves it alone" if decision.act is Act.REST else f"continues with: {decision.act}"
        lines = [f"{ref} is {decision.status}: {decision.reason}", f"the next run {goes_on}"]
    if decision.hint:
        lines.append(f"next: {decision.hint}")
    if decision.cause is not None:
        lines += [
            f"because of: {decision.cause.input}",
            f"  old  {decision.cause.old or '(none)'}",
            f"  new  {decision.cause.new}",
        ]
    lines += (safe(line) for line in difference)
    for item in attempts:
        text = f": {safe(item.reason)}" if item.reason else ""
        where = f" on {item.host}" if item.host else ""
        lines.append(f"attempt {item.number} (revision {item.revision}){where} {item.state}{text}")
    return "\n".join(lines) + "\n"


_FORCE = option("force", "run every check, without reusing verdicts", bool)


_ON_BASE = option("base", "run every check and acceptance command on the base, as a run does before an attempt", bool)


class Verify(Command):
    """Verifies the tip of a milestone's branch."""

    name = "verify"
    doc_purpose = "run all checks and acceptance of landed issues on the branch's tip"
    doc_usage = "MILESTONE"
    cmd_options = (_FORCE, _ON_BASE, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the verdicts of every landed issue; exit code 1 if one fails."""
        from executor.commands.sessions import open_session
        from executor.commands.summary import unshared
        from executor.engine.recover import Recovery

        compiled = compile_project(open_project())
        name = meant_milestone(compiled, arguments, "verify")
        with open_session(compiled) as session:
            session.force = options["force"]
            session.enter([name])
            Recovery(session.run_of(name)).recover()
            issues, tree = _issues(session, name), session.store.tree_of(session.run_of(name).view.tip)
            if options["base"]:
                base = _base_rows(issues, tree)
                sys.stderr.write("".join(f"note: {safe(line)}\n" for line in unshared(session)))
                return _print_base(base, as_json=options["json"])
            rows = _rows([issue for issue in issues if issue.facts.landing is not None], tree)
            sys.stderr.write("".join(f"note: {safe(line)}\n" for line in unshared(session)))
        if options["json"]:
            print_json(rows)
        else:
            shown = [["passed" if row["ok"] else "failed", row["ref"], row["title"], row["reason"]] for row in rows]
            sys.stdout.write((table(shown) or f"no issue of {name} has landed yet") + "\n")
        return 0 if all(row["ok"] for row in rows) else 1


def _issues(session: Session, milestone: str) -> list[IssueRun]:
    """Return the issues of a milestone in plan order."""
    from executor.engine.issue import IssueRun

    plan, run = session.compiled.plan, session.run_of(milestone)
    return [IssueRun(run, ref) for ref in plan.order if plan.nodes[ref].milestone == milestone]


def base_findings(compiled: Compiled) -> Iterator[Finding]:
    """Yield the results of each milestone's checks and acceptance commands on its base."""
    from executor.doctor.health import Finding

    for name in compiled.loaded.milestones:
        try:
            rows = _base_of(compiled, name)
        except BusyError as error:
            yield Finding("ok", f"base of {name}", f"not tried: {error}")
            continue
        for row, refs in rows:
            subject, text = f"{row.kind} {row.name}", f"{row.word} on the base, {row.seconds:.1f} s"
            if row.holds:
                todo = base_remedy(row.word, row.name, kind=row.kind)
                yield Finding("base-red", subject, f"{text}: {row.reason}; needed by {', '.join(refs)}", todo)
            else:
                yield Finding("ok", subject, f"{text}, for {', '.join(refs)}")


def _base_of(compiled: Compiled, name: str) -> list[tuple[BaseResult, list[str]]]:
    """Try every check and acceptance command of a milestone on its base, each once, with the issues that it is for.

    Raises:
        BusyError: the milestone is running.
    """
    from executor.commands.sessions import open_session
    from executor.engine.recover import Recovery

    with open_session(compiled) as session:
        session.enter([name])
        run = session.run_of(name)
        Recovery(run).recover()
        return _base_rows(_issues(session, name), session.store.tree_of(run.view.tip))


def _base_rows(issues: list[IssueRun], tree: str) -> list[tuple[BaseResult, list[str]]]:
    """Return every check and acceptance command of the issues on the base's tree, each once, with those issues."""
    rows: dict[tuple[str, str, str], tuple[BaseResult, list[str]]] = {}
    for issue in issues:
        for result in issue.base_check.results(tree, accepted=issue.facts.landing is None):
            rows.setdefault((result.kind, result.name, result.word), (result, []))[1].append(issue.ref)
    return list(rows.values())


def _print_base(rows: list[tuple[BaseResult, list[str]]], *, as_json: bool) -> int:
    needed = [base_remedy(row.word, row.name, kind=row.kind) if row.holds else "" for row, _ in rows]
    if as_json:
        print_json(
            [
                {
                    "check": row.name,
                    "kind": row.kind,
                    "status": row.word,
                    "ok": not row.holds,
                    "reason": row.reason,
                    "detail": row.detail,
                    "needed": remedy,
                    "seconds": round(row.seconds, 3),
                    "proof_seconds": round(row.proof_seconds, 3),
                    "refs": refs,
                }
                for (row, refs), remedy in zip(rows, needed, strict=True)
            ]
        )
    else:
        shown = [
            [row.word, row.kind, row.name, f"{row.seconds + row.proof_seconds:.1f} s", row.reason] for row, _ in rows
        ]
        sys.stdout.write((table(shown) or "nothing to run: no issue has a check or an acceptance command") + "\n")
        for (row, refs), remedy in zip(rows, needed, strict=True):
            if row.holds:
                lines = [f"  | {line}" for line in row.detail.splitlines()[-_BASE_LINES:]]
                lines.append(f"{row.name}: {remedy}; needed by {', '.join(refs)}")
                sys.stdout.write("".join(f"{safe(line)}\n" for line in lines))
    return 0 if not any(row.holds for row, _ in rows) else 1


def _rows(landed: list[IssueRun], tree: str) -> list[VerifiedRow]:
    rows: list[VerifiedRow] = []
    for issue in landed:
        result = issue.verify_on(tree)
        rows.append({"ref": issue.ref, "title": issue.declared.title, "ok": result.ok, "reason": result.reason})
    return rows
