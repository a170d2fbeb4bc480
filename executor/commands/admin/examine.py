"""Commands that examine, and spend nothing on agents.

`doit doctor`: check machine, configuration and state, and suggest remedies.

`doit repair m4`: show the damage of a refused journal, and with `--to` keep the records up to a number.

`doit verify m4`: all checks and acceptance of landed issues, on the branch's tip. With `--base` it tries every check
and acceptance command on the base before the night, as a run does.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from executor.commands.base import (
    JSON_OPTION,
    Command,
    Options,
    meant_milestone,
    none_but_options,
    option,
    print_json,
    safe,
    table,
)
from executor.config.project import Compiled, compile_project, open_project
from executor.doctor.consistency import cut, inconsistencies
from executor.doctor.health import Finding, configuration, machine
from executor.engine.session import hold
from executor.errors import BusyError, ExecutorError, ForgeRefusedError, ForgeUnavailableError, UsageError
from executor.git.refs import Refs
from executor.process.locks import remove_holder
from executor.state.segments import inspect
from executor.status.reader import observe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.checks.base import BaseResult
    from executor.config.project import Project
    from executor.engine.issue import IssueRun
    from executor.engine.session import Session
    from executor.state.segments import Trouble
    from executor.status.rows import VerifiedRow

__all__ = ["Doctor", "Repair", "Verify", "base_rows"]


_REPAIR = option("repair", "repair everything that can be repaired without data loss", bool)
_BASE = option(
    "base", "also run every check and acceptance command on each milestone's base, like `doit verify m4 --base`", bool
)
_WORST_FIRST = (74, 3, 75, 2, 4, 1)


class Doctor(Command):
    """Checks everything that a run depends on."""

    name = "doctor"
    doc_purpose = "check the machine, the configuration and the state (--repair: repair what is safe)"
    doc_usage = ""
    cmd_options = (_REPAIR, _BASE, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the findings; the exit code is that of the worst remaining one."""
        none_but_options(self, arguments)
        looked = list(_look())
        compiled = next((item for item in looked if isinstance(item, Compiled)), None)
        if options["base"] and compiled is not None:
            looked += _tried(compiled)
        project = next((item.project for item in looked if isinstance(item, Compiled)), None)
        findings = [item for item in looked if isinstance(item, Finding)]
        lines = [
            _mended(project, item) if options["repair"] and project else (item, "", item.code) for item in findings
        ]
        codes = {code for _, _, code in lines}
        if options["json"]:
            print_json([_value(item, done, code) for item, done, code in lines])
        else:
            rows = [[_word(item, done, code), item.subject, _text(item, done, code)] for item, done, code in lines]
            sys.stdout.write(table(rows) + "\n")
            if not options["repair"] and any(item.mend is not None for item in findings):
                sys.stdout.write("`doit doctor --repair` repairs the findings marked with it\n")
        return next((code for code in _WORST_FIRST if code in codes), 0)


def _look() -> Iterator[Finding | Compiled]:
    if not (yield from machine()):
        return
    for item in configuration():
        yield item
        if isinstance(item, Compiled):
            yield from inconsistencies(item)
            yield from _orders(item)


def _orders(compiled: Compiled) -> Iterator[Finding]:
    """Yield refs of work orders that no run owns."""
    if not any(runner.claimed for runner in compiled.policy.runners.values()):
        return
    from executor.commands.admin.gc import orders_left

    try:
        for remote, item in orders_left(compiled, observe(compiled, Refs(compiled.project.repository))):
            todo = (
                "doit gc removes them" if item.removable else f"doit milestone:{item.name.partition('/')[0]} uses them"
            )
            yield Finding("order-left", f"{item.name} on {remote.name}", f"{len(item.refs)} refs: {item.why}", todo)
    except (ForgeUnavailableError, ForgeRefusedError) as error:
        yield Finding("runner-broken", "work orders", str(error), "check the remote, see docs/hosts.md")


def _tried(compiled: Compiled) -> Iterator[Finding]:
    """Yield the results of each milestone's checks and acceptance commands on its base."""
    from executor.checks.base import base_remedy

    for name in compiled.loaded.milestones:
        try:
            rows = base_rows(compiled, name)
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


def _mended(project: Project, finding: Finding) -> tuple[Finding, str, int]:
    """Repair a finding if possible; returns it, the repair, and the remaining exit code."""
    if finding.mend is None:
        return finding, "", finding.code
    try:
        if not finding.milestone:
            return finding, finding.mend(), 0
        lock = hold(project, finding.milestone, f"doctor-{os.getpid()}")
        try:
            return finding, finding.mend(), 0
        finally:
            remove_holder(project.state(finding.milestone))
            lock.release()
    except BusyError as error:
        return finding, f"not mended: {error}", error.exit_code
    except (ExecutorError, OSError) as error:
        return finding, f"not mended: {error}", finding.code or 1


def _word(finding: Finding, done: str, code: int) -> str:
    return "mended" if done and not code else finding.level


def _text(finding: Finding, done: str, code: int) -> str:
    if done:
        return f"{finding.text}: {done}"
    if finding.mend is not None:
        return f"{finding.text} (doit doctor --repair)"
    return f"{finding.text}; {finding.todo}" if finding.todo and code else finding.text


def _value(finding: Finding, done: str, code: int) -> dict[str, object]:
    return {
        "level": _word(finding, done, code),
        "kind": finding.kind,
        "subject": finding.subject,
        "text": finding.text,
        "todo": finding.todo,
        "repairable": finding.mend is not None,
        "done": done,
        "code": code,
    }


_TO = option("to", "number of the last record to keep; later records are moved to a file next to the journal")


class Repair(Command):
    """Shows why a journal is refused, or keeps its good part; nothing is ever deleted."""

    name = "repair"
    doc_purpose = "show the faults of a corrupt journal, or keep its intact part"
    doc_usage = "MILESTONE"
    cmd_options = (_TO,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Show or repair."""
        project = open_project()
        name = meant_milestone(compile_project(project), arguments, "repair")
        if options["to"]:
            if not (options["to"].isascii() and options["to"].isdigit()):
                raise UsageError(f"--to {options['to']}: expected the number of a record")
            text = _repair(project, name, int(options["to"]))
        else:
            text = _shown(name, inspect(project.state(name)))
        sys.stdout.write("".join(f"{safe(line)}\n" for line in text))
        return 0


def _shown(name: str, trouble: Trouble | None) -> list[str]:
    if trouble is None:
        return [f"the journal of {name} is intact; there is nothing to repair"]
    rows = [
        ["file", str(trouble.path)],
        ["problem", trouble.why],
        ["first bad record", f"{trouble.record}, at byte {trouble.offset}"],
        ["good records before it", str(trouble.good)],
    ]
    if trouble.newer:
        return [
            *table([*rows[:1], ["problem", "a newer version of the executor wrote it; use that version"]]).splitlines()
        ]
    rows += [["would be moved aside", f"{size} bytes of {file}"] for file, size in trouble.cut]
    lines = [
        *table(rows).splitlines(),
        "",
        f"doit repair {name} --to {trouble.good}  keeps records 1 to {trouble.good}",
    ]
    if not trouble.good:
        lines[-1] = f"doit repair {name} --to 0  starts an empty journal"
    return [*lines, "Landings are in git and stay; only figures of time and cost are lost."]


def _repair(project: Project, name: str, to: int) -> list[str]:
    from executor.engine.session import hold
    from executor.state.record import now

    lock = hold(project, name, "repair")
    try:
        made = cut(project.state(name), to, at=now().replace(":", "").replace("-", ""))
    finally:
        (project.state(name) / "holder.json").unlink(missing_ok=True)
        lock.release()
    kept = f"records 1 to {to} are kept" if to else "it starts empty"
    return [
        f"the journal of {name} is repaired: {kept}",
        *(f"moved aside: {project.state(name) / file}" for file in made),
        f"continue with: doit milestone:{name}",
    ]


_BASE_LINES = 20  # lines; about a screen
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


def base_rows(compiled: Compiled, name: str) -> list[tuple[BaseResult, list[str]]]:
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
    from executor.checks.base import base_remedy

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
