"""Commands that find, repair and remove: they spend nothing on agents.

`doit doctor`: check machine, configuration and state, and suggest remedies.

`doit repair m4`: show the damage of a refused journal, and with `--to` keep the records up to a number.

`doit gc`: clean up by the retention rule, and pack loose objects. Work that has not landed is never removed before it
expires.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
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
from executor.environments.environment import FOLDER, kept_environments
from executor.errors import BusyError, ExecutorError, ForgeRefusedError, ForgeUnavailableError, UsageError
from executor.git.refs import ATTEMPTS, STEPS, Move, Refs, attempt_in, parts_of
from executor.git.repair import pack_loose
from executor.model.fingerprint import IssueRef
from executor.state.model import AttemptState
from executor.state.record import now
from executor.state.segments import inspect
from executor.status.reader import Observer, observe
from executor.status.summary_cache import is_held

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from executor.cluster.lead import LeftOver
    from executor.config.project import Project
    from executor.git.refs import Kept
    from executor.git.remote import Remote
    from executor.state.model import Attempt
    from executor.state.segments import Trouble

__all__ = ["Doctor", "Gc", "Repair", "orders_left"]

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
            from executor.commands.inspect.explain import base_findings

            looked += base_findings(compiled)
        findings = [item for item in looked if isinstance(item, Finding)]
        project = compiled.project if compiled is not None and options["repair"] else None
        lines = [(item, "", item.code) if project is None else _mended(project, item) for item in findings]
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
            yield from _unowned_orders(item)


def _unowned_orders(compiled: Compiled) -> Iterator[Finding]:
    """Yield refs of work orders that no run owns."""
    if not any(runner.claimed for runner in compiled.policy.runners.values()):
        return
    try:
        for remote, item in orders_left(compiled, observe(compiled, Refs(compiled.project.repository))):
            milestone = item.name.partition("/")[0]
            todo = "doit gc removes them" if item.removable else f"doit milestone:{milestone} uses them"
            yield Finding("order-left", f"{item.name} on {remote.name}", f"{len(item.refs)} refs: {item.why}", todo)
    except (ForgeUnavailableError, ForgeRefusedError) as error:
        yield Finding("runner-broken", "work orders", str(error), "check the remote, see docs/hosts.md")


def _mended(project: Project, finding: Finding) -> tuple[Finding, str, int]:
    """Repair a finding if possible; returns it, the repair, and the remaining exit code."""
    if finding.mend is None:
        return finding, "", finding.code
    try:
        with _held(project, finding.milestone, "doctor") if finding.milestone else nullcontext():
            return finding, finding.mend(), 0
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


class Repair(Command):
    """Shows why a journal is refused, or keeps its good part; nothing is ever deleted."""

    name = "repair"
    doc_purpose = "show the faults of a corrupt journal, or keep its intact part"
    doc_usage = "MILESTONE"
    cmd_options = (
        option("to", "number of the last record to keep; later records are moved to a file next to the journal"),
    )

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
    rows = [["file", str(trouble.path)]]
    if trouble.newer:
        return table([*rows, ["problem", "a newer version of the executor wrote it; use that version"]]).splitlines()
    rows += [
        ["problem", trouble.why],
        ["first bad record", f"{trouble.record}, at byte {trouble.offset}"],
        ["good records before it", str(trouble.good)],
        *(["would be moved aside", f"{size} bytes of {file}"] for file, size in trouble.cut),
    ]
    does = f"keeps records 1 to {trouble.good}" if trouble.good else "starts an empty journal"
    return [
        *table(rows).splitlines(),
        "",
        f"doit repair {name} --to {trouble.good}  {does}",
        "Landings are in git and stay; only figures of time and cost are lost.",
    ]


def _repair(project: Project, name: str, to: int) -> list[str]:
    with _held(project, name, "repair"):
        made = cut(project.state(name), to, at=now().replace(":", "").replace("-", ""))
    kept = f"records 1 to {to} are kept" if to else "it starts empty"
    return [
        f"the journal of {name} is repaired: {kept}",
        *(f"moved aside: {project.state(name) / file}" for file in made),
        f"continue with: doit milestone:{name}",
    ]


_DAY = 86_400  # seconds


@dataclass(frozen=True, slots=True)
class _Item:
    """A candidate for removal: a ref with its commit, refs on a remote, or a file or folder, and the reason."""

    what: str
    why: str
    milestone: str = ""
    commit: str = ""
    path: Path | None = None
    far: tuple[Remote, Mapping[str, str]] | None = None


class Gc(Command):
    """Removes what is reachable from a landed tip or older than the retention rule, and lists it."""

    name = "gc"
    doc_purpose = "remove old attempts, logs and workspaces by the retention rule"
    doc_usage = ""
    cmd_options = (option("dry_run", "only show what would be removed", bool), JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Show candidates and remove them."""
        none_but_options(self, arguments)
        project = open_project()
        compiled = compile_project(project)
        refs = Refs(project.repository)
        observer = observe(compiled, refs)
        rule = _Rule(observer, refs, time.time(), compiled.policy.limits.retention_days)
        finders = (rule.attempts, rule.steps, rule.logs, rule.workspaces, rule.caches, rule.environments)
        items = [*(item for find in finders for item in find()), *_orders(compiled, observer)]
        kept = {} if options["dry_run"] else _remove(project, refs, items)
        packed = 0 if options["dry_run"] or rule.held else pack_loose(project.repository)
        if options["json"]:
            print_json([{"what": item.what, "why": item.why, "kept": kept.get(item.what, "")} for item in items])
        elif not items and not packed:
            sys.stdout.write(f"nothing to remove (attempts and logs are kept {rule.days} days)\n")
        else:
            rows = [[item.what, f"kept: {kept[item.what]}" if item.what in kept else item.why] for item in items]
            sys.stdout.write(table(rows) + "\n" * bool(rows))
            sys.stdout.write(f"packed {packed} loose git objects\n" if packed else "")
            text = f"would remove {len(items)}" if options["dry_run"] else f"removed {len(items) - len(kept)}"
            sys.stdout.write(f"{text}\n")
        return BusyError.exit_code if kept else 0


class _Rule:
    """Candidates for removal. Milestones with a live run are skipped."""

    def __init__(self, observer: Observer, refs: Refs, now: float, days: int) -> None:
        self.days = days
        self._observer, self._refs, self._now = observer, refs, now
        self._oldest = now - days * _DAY
        self._project = observer.compiled.project
        self.held = {name for name in observer.views if is_held(self._project, name)}

    def attempts(self) -> Iterator[_Item]:
        """Yield refs of expired failed attempts, and of attempts that are on the branch anyway."""
        for kept in self._refs.kept(ATTEMPTS):
            place = attempt_in(kept.ref)
            if place is None or (milestone := kept.ref.split("/")[2]) in self.held:
                continue
            why = self._why(milestone, *place, kept)
            if why:
                yield _Item(kept.ref, why, milestone, commit=kept.commit)

    def steps(self) -> Iterator[_Item]:
        """Yield results of steps of issues that are no longer declared."""
        for kept in self._refs.kept(STEPS):
            parts = parts_of(kept.ref)
            if parts is None:
                continue
            milestone, issue = parts[:2]
            declared = str(IssueRef(milestone, issue)) in self._observer.compiled.plan.nodes
            made = self._refs.time_of(kept.commit)
            if not declared and milestone not in self.held and made < self._oldest:
                age = f"{int((self._now - made) // _DAY)} days old"
                yield _Item(kept.ref, f"step of an undeclared issue, {age}", milestone, commit=kept.commit)

    def _why(self, milestone: str, issue: str, number: int, kept: Kept) -> str:
        view = self._observer.views.get(milestone)
        if view is not None and self._refs.contains(kept.commit, view.tip):
            return f"it is on {view.milestone.branch}"
        made = self._refs.time_of(kept.commit)
        age = f"{int((self._now - made) // _DAY)} days old"
        if made >= self._oldest:
            return ""
        if view is None:
            return f"attempt of an undeclared milestone, {age}"
        state = view.states.get(issue)
        attempt = state.attempts.get(number) if state is not None else None
        if attempt is None or attempt.state is AttemptState.STARTED:
            return ""
        if attempt.state is AttemptState.BUILT and not self._outdated(str(IssueRef(milestone, issue)), attempt):
            return ""  # it may still land, or a person has yet to look at it
        return f"{attempt.state if attempt.state is not AttemptState.BUILT else 'outdated'} attempt, {age}"

    def _outdated(self, ref: str, attempt: Attempt) -> bool:
        """Return whether a result belongs to a spec that is no longer declared."""
        if ref not in self._observer.compiled.plan.nodes:
            return False
        return attempt.spec_key != self._observer.spec_key(ref)

    def logs(self) -> Iterator[_Item]:
        """Yield logs older than the retention rule, unless their attempt has no end yet."""
        for milestone, view in self._observer.views.items():
            if milestone in self.held:
                continue
            for folder in sorted((self._project.state(milestone) / "logs").glob("*/*")):
                state = view.states.get(folder.parent.name)
                attempt = state.attempts.get(int(folder.name)) if state and folder.name.isdigit() else None
                open_yet = attempt is not None and attempt.state in {AttemptState.STARTED, AttemptState.BUILT}
                if folder.is_dir() and not open_yet and folder.stat().st_mtime < self._oldest:
                    yield self._at(folder, "logs, older than the retention rule", milestone)

    def workspaces(self) -> Iterator[_Item]:
        """Yield work trees, unless one may hold the only copy of an interrupted attempt's work."""
        for milestone, view in self._observer.views.items():
            folder = self._project.state(milestone) / "workspaces"
            attempts = [attempt for state in view.states.values() for attempt in state.attempts.values()]
            cut_off = any(attempt.state is AttemptState.STARTED for attempt in attempts)
            if folder.is_dir() and not cut_off and milestone not in self.held:
                yield self._at(folder, "workspaces, created again when needed", milestone)

    def caches(self) -> Iterator[_Item]:
        """Yield old verdicts and reports, and quarantined objects."""
        if self.held:
            return
        for name, what in (("_verdicts", "verdicts"), ("_damaged", "damaged objects")):
            files = (self._project.cache / name).rglob("*")
            old = [path for path in files if path.is_file() and path.stat().st_mtime < self._oldest]
            yield from (self._at(path, f"{what}, older than the retention rule", "") for path in old)

    def environments(self) -> Iterator[_Item]:
        """Yield environments unused for longer than the rule permits, and incomplete ones."""
        if self.held:
            return
        for kept in kept_environments(self._project.cache / FOLDER):
            if not kept.whole:
                yield self._at(kept.folder, "incomplete environment", "")
            elif kept.used < self._oldest:
                yield self._at(kept.folder, f"environment of {kept.name}, not used within the retention time", "")

    def _at(self, path: Path, why: str, milestone: str) -> _Item:
        return _Item(str(path.relative_to(self._project.root)), why, milestone, path=path)


def orders_left(compiled: Compiled, observer: Observer) -> Iterator[tuple[Remote, LeftOver]]:
    """Yield refs of work orders on the remotes of runners that no run owns.

    Raises:
        ForgeUnavailableError: a remote cannot be reached.
        ForgeRefusedError: it does not exist, or rejects access.
    """
    project, rules = compiled.project, compiled.policy.forge
    claimed = [runner for runner in compiled.policy.runners.values() if runner.claimed]
    if not claimed:
        return
    from executor.cluster.lead import left_over_on
    from executor.forge.hosts.credentials import find_token
    from executor.git.objects import Store
    from executor.git.remote import Remote

    token = "" if rules.kind == "local" else find_token(rules)

    def landed(order: str) -> bool:
        view = observer.views.get(IssueRef.parse(order).milestone)
        return view is not None and order.split("/")[1] in view.landings

    refs, store = Refs(project.repository), Store(project.repository, project.cache / "_store")
    try:
        for name in dict.fromkeys(runner.remote or rules.pushes_to or "origin" for runner in claimed):
            remote = Remote(project.repository, name, token)
            found = left_over_on(remote, refs, store, compiled.policy.limits.retention_days, landed)
            yield from ((remote, item) for item in found)
    finally:
        store.close()


def _orders(compiled: Compiled, observer: Observer) -> Iterator[_Item]:
    """Yield refs of work orders that nobody needs."""
    try:
        for remote, item in orders_left(compiled, observer):
            if item.removable:
                yield _Item(f"{remote.name}: {item.name}", item.why, far=(remote, item.refs))
    except (ForgeUnavailableError, ForgeRefusedError) as error:
        sys.stderr.write(f"note: work orders were not checked: {error}\n")


def _discard(refs: Refs, item: _Item) -> str | None:
    """Remove a candidate; returns why it stays."""
    moved = "it was moved at the same time"
    if item.far is not None:
        remote, far = item.far
        try:
            done = remote.push([Move(ref, commit, None) for ref, commit in far.items()])
        except (ForgeUnavailableError, ForgeRefusedError) as error:
            return str(error)
        return None if done.ok else moved if done.moved else done.reason
    if item.commit and not refs.move([Move(item.what, item.commit, None)], "gc"):
        return moved
    if item.path is not None and item.path.is_dir():
        shutil.rmtree(item.path, ignore_errors=True)
    elif item.path is not None:
        item.path.unlink(missing_ok=True)
    return None


def _remove(project: Project, refs: Refs, items: Sequence[_Item]) -> dict[str, str]:
    """Remove candidates, milestone by milestone under its lock; returns those that were kept, with reasons."""
    kept: dict[str, str] = {}
    for milestone in dict.fromkeys(item.milestone for item in items):
        mine = [item for item in items if item.milestone == milestone]
        try:
            with _held(project, milestone, "gc") if project.state(milestone or "-").is_dir() else nullcontext():
                kept |= {item.what: why for item in mine if (why := _discard(refs, item))}
        except BusyError as error:
            kept |= {item.what: str(error) for item in mine}
    return kept


@contextmanager
def _held(project: Project, milestone: str, command: str) -> Iterator[None]:
    """Hold the lock of a milestone; raises `BusyError` if a run holds it."""
    lock = hold(project, milestone, f"{command}-{os.getpid()}")
    try:
        yield
    finally:
        lock.release()
