"""The table of every issue's status, with a cached summary, so nothing is parsed if nothing changed.

The summary is keyed by all inputs of a status: bytes of declarations and rules, stat data of the files they name,
refs, journals, tools. If the summary is valid, few modules are imported: tests/features/test_overhead.py lists them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.config.project import compile_project, prepare_cache, unknown_milestone
from executor.errors import DeclarationError, Fault, UsageError
from executor.git.command import Git
from executor.model.fingerprint import IssueRef
from executor.process.files import content_of, files_in, is_locked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from executor.config.project import Compiled, Project
    from executor.status.load import MilestoneView
    from executor.status.progress import PhaseProgress
    from executor.status.reader import Observer
    from executor.status.rows import (
        AllRows,
        BlockerRow,
        DraftRow,
        IssueRow,
        MilestoneRow,
        PhaseRow,
        PullRow,
        Summary,
    )

__all__ = ["StatusIndex", "index_of", "is_held", "pull_of", "refs_stamp"]

_VERSION = 11  # raised whenever the summary changes; another one is made again
_NEVER = 2.0**60
"""Expiry in epoch seconds of a summary that does not depend on the time."""
_PACKAGE = __file__


@dataclass(frozen=True, slots=True)
class StatusIndex:
    """Rows of every issue that has not landed, in execution order, and counts for the rest.

    Attributes:
        milestones: for each: id, title, branch, tip, total, landed, needs, status, reason, hint, release and more.
        pending: rows of the issues that have not landed (or are stale); a row has ref, status, title, reason, hint,
            started.
        drafts: for each incomplete draft: id, file, number of faults and the first of them.
        faults: faults of milestones that are omitted.
        left_out: ids of those milestones.
        rows: function that returns the rows of all issues; reads a second file on demand only.
    """

    milestones: list[MilestoneRow]
    pending: list[IssueRow]
    project: Project
    key: str
    drafts: list[DraftRow] = field(default_factory=list)
    faults: tuple[Fault, ...] = ()
    left_out: frozenset[str] = frozenset()

    def require(self, names: Iterable[str]) -> None:
        """Verify that these milestones are declared.

        Raises:
            UsageError: one of them is not declared.
            DeclarationError: one of them is omitted because of a fault.
        """
        for name in sorted(set(names)):
            if self.milestone(name) is None and all(item["id"] != name for item in self.drafts):
                if name in self.left_out:
                    raise DeclarationError(self.faults)
                raise UsageError(unknown_milestone(name, [item["id"] for item in self.milestones]))

    def rows(self) -> list[IssueRow]:
        """Return the rows of all issues, in execution order."""
        found: AllRows | None = _read(self.project.cache / "_board" / "all.json")
        if found is None or found.get("key") != self.key:
            return _build(self.project)[1]
        return _running(self.project, list(found["rows"]))

    def milestone(self, name: str) -> MilestoneRow | None:
        """Return one milestone's counts."""
        return next((item for item in self.milestones if item["id"] == name), None)


def index_of(project: Project) -> StatusIndex:
    """Return the current table, from the cache if its key still matches.

    Raises:
        DeclarationError: declarations or rules are invalid.
        RepositoryError: the repository has no commits, or a base branch is missing.
        StateBrokenError: a journal is corrupt.
    """
    found: Summary | None = _read(project.summary)
    if found is not None and found.get("version") == _VERSION:
        key = _inputs_key(project, found["watch"], found["tools"], found["ids"], found["refs"])
        if key == found.get("key") and time.time() < found["expires"]:
            return StatusIndex(
                _overlaid(project, found["milestones"]),
                _running(project, found["pending"]),
                project,
                key,
                found["drafts"],
                tuple(Fault(*row) for row in found["faults"]),
                frozenset(found["left_out"]),
            )
    index, _ = _build(project)
    return index


def is_held(project: Project, milestone: str) -> bool:
    """Whether a live process runs this milestone now."""
    return is_locked(project.state(milestone) / "lock")


def _build(project: Project) -> tuple[StatusIndex, list[IssueRow]]:
    from executor.git.refs import Refs
    from executor.status.reader import observe

    compiled = compile_project(project)
    refs = Refs(project.repository)
    watch, ids = compiled.loaded.watched, list(compiled.loaded.milestones)
    tools = sorted({check.version[0] for check in compiled.policy.checks.values() if check.version})
    tags = sorted(f"refs/tags/{item.tag}" for item in compiled.loaded.milestones.values() if item.tag)
    names = ["refs/heads/", "refs/remotes/", *tags, "refs/attempts/", "refs/executor/"]
    key = _inputs_key(project, watch, tools, ids, names)
    observer = observe(compiled, refs)
    rows = [_row(observer, ref) for ref in compiled.plan.order]
    milestones = _with_status([_milestone(observer, name, rows) for name in ids])
    pending = [row for row in rows if row["status"] != "landed"]
    drafts = _drafts(compiled)
    _keep(
        project,
        {
            "version": _VERSION,
            "key": key,
            "watch": watch,
            "tools": tools,
            "ids": ids,
            "refs": names,
            "milestones": milestones,
            "faults": [[fault.file, fault.key, fault.problem] for fault in compiled.faults],
            "left_out": sorted(compiled.left_out),
            "pending": pending,
            "drafts": drafts,
            "expires": min((row["until"] for row in pending if row["until"]), default=_NEVER),
        },
        {"key": key, "rows": rows},
    )
    index = StatusIndex(
        _overlaid(project, milestones),
        _running(project, pending),
        project,
        key,
        drafts,
        compiled.faults,
        compiled.left_out,
    )
    return index, _running(project, rows)


def _drafts(compiled: Compiled) -> list[DraftRow]:
    return [
        {"id": name, "file": f"milestones/{name}.toml", "faults": len(faults), "reason": str(faults[0])}
        for name, faults in compiled.loaded.drafts.items()
    ]


def _row(observer: Observer, ref: str) -> IssueRow:
    from executor.status.progress import started_steps

    node = observer.compiled.plan.nodes[ref]
    decision = observer.decision(ref)
    view = observer.views[node.milestone]
    state = view.states.get(node.issue.id)
    landing = view.landings.get(node.issue.id)
    running = observer.running(ref)
    return {
        "ref": ref,
        "id": node.issue.id,
        "title": node.issue.title,
        "status": str(decision.status),
        "act": str(decision.act),
        "reason": decision.reason,
        "hint": decision.hint,
        "revision": landing.trailers.revision if landing else 0,
        "commit": landing.commit if landing else None,
        "attempts": state.spent() if state else 0,
        "last": state.last() if state else 0,
        "seconds": round(state.seconds, 3) if state else 0.0,
        "cost_usd": state.cost_usd if state else 0.0,
        "started": running is not None,
        "doing": ", ".join(started_steps(state.steps, running.number)) if state and running else "",
        "size": node.issue.size,
        "built": state.built if state else False,
        "until": decision.wait.until if decision.wait is not None else None,
        "steps": observer.steps_percent(ref),
        "phases": _phases(observer.phases(ref)) if observer.steps_percent(ref) or running is not None else [],
        "pr": pull_of(state, landing),
        "unproved": not observer.compiled.policy.proves(node.issue),
    }


def _phases(phases: Iterable[PhaseProgress]) -> list[PhaseRow]:
    return [
        {
            "name": phase.name,
            "state": phase.state,
            "done": phase.done,
            "total": phase.total,
            "percent": phase.percent,
            "reason": phase.reason,
        }
        for phase in phases
    ]


def pull_of(state: Any, landing: Any) -> PullRow | None:
    """Return an issue's pull request (number, state, address, branch) as far as known without a query to the forge."""
    seen = state.pull if state else None
    if seen is not None and seen.number and (landing is None or landing.trailers.pull in {0, seen.number}):
        word = "merged" if landing is not None and landing.trailers.pull == seen.number else seen.state
        return {"number": seen.number, "state": word, "url": seen.url or None, "head": seen.head}
    last = state.attempts[state.last()] if state and state.attempts else None
    if last is not None and last.pull and (landing is None or last.pull != landing.trailers.pull):
        stopped = state.stop is not None and state.stop.attempt == last.number
        word = "draft" if stopped else {"built": "open"}.get(str(last.state), "closed")
        return {"number": last.pull, "state": word, "url": None, "head": None}
    if landing is not None and landing.trailers.pull:
        return {"number": landing.trailers.pull, "state": "merged", "url": None, "head": None}
    return None


def _is_tidy(view: MilestoneView) -> bool:
    """Return whether no pull request of a landed issue is still open, by the journal."""
    pulls = [state.pull for issue, state in view.states.items() if issue in view.landings]
    return not any(pull is not None and pull.number and pull.state in {"draft", "open"} for pull in pulls)


def _is_pushed(observer: Observer, view: MilestoneView) -> bool:
    """Return whether a run would have nothing to push, to attest or to read from the forge."""
    policy = observer.compiled.policy
    settled = not policy.settles or view.settled == view.tip
    on_remote = not policy.forge.pushes_to or (view.remote_tip == view.tip and _is_tidy(view))
    return not view.ahead and settled and on_remote


def _milestone(observer: Observer, name: str, rows: list[IssueRow]) -> MilestoneRow:
    from executor.status.progress import Part

    view = observer.views[name]
    own = [row for row in rows if IssueRef.parse(row["ref"]).milestone == name]
    landed = sum(row["status"] == "landed" for row in own)
    release = view.release
    return {
        "id": name,
        "title": view.milestone.title,
        "branch": view.milestone.branch,
        "tip": view.tip if view.exists else None,
        "start": view.tip,
        "percent": observer.percent(
            name, {row["ref"]: Part(row["size"], row["status"], row["built"], row["steps"]) for row in own}
        ),
        "total": len(own),
        "landed": landed,
        "started": bool(view.landings or view.states),
        "needs": list(view.milestone.needs),
        "words": {row["id"]: row["status"] for row in own if row["status"] != "landed"},
        "phases": _phases(observer.milestone_phases(name)),
        "base": view.base.removeprefix("refs/heads/"),
        "tag": view.milestone.tag,
        "pause": [view.pause.since, view.pause.reason] if view.pause is not None else None,
        "release": [release.commit, release.tip] if release is not None else None,
        "current": view.release_current,
        "delivered": observer.delivered(name),
        "pushed": _is_pushed(observer, view),
        "removed": [
            {"id": issue, "commit": landing.commit, "revision": landing.trailers.revision}
            for issue, landing in view.removed.items()
        ],
        "blockers": _blockers(view),
        "status": "",
        "reason": "",
        "hint": "",
    }


def _blockers(view: MilestoneView) -> list[BlockerRow]:
    return [
        {
            "issue": item.issue,
            "blocker": item.kind,
            "about": item.about,
            "reason": item.reason,
            "resume": item.resume,
            "pauses": item.pauses,
        }
        for item in view.blockers
    ]


def _overlaid(project: Project, milestones: list[MilestoneRow]) -> list[MilestoneRow]:
    """Set the status of milestones for now: it depends on the holder of the lock, the time of a pause on the zone."""
    held = {item["id"] for item in milestones if is_held(project, item["id"])}
    if held or any(item["pause"] for item in milestones):
        return _with_status(milestones, held)
    return milestones


def _with_status(milestones: list[MilestoneRow], held: Iterable[str] = ()) -> list[MilestoneRow]:
    """Set the status of milestones; processes hold those in `held`."""
    from executor.git.trailers import Released
    from executor.status.milestone_status import MilestoneFacts, Pause, standing

    counts = {item["id"]: (item["landed"], item["total"]) for item in milestones}
    out: list[MilestoneRow] = []
    for item in milestones:
        found = standing(
            MilestoneFacts(
                item["id"],
                item["total"],
                item["landed"],
                waiting=item["words"],
                started=item["started"],
                held=item["id"] in held,
                pause=Pause(*item["pause"]) if item["pause"] else None,
                needs={need: counts[need] for need in item["needs"]},
                release=Released(*item["release"]) if item["release"] else None,
                current=item["current"],
            )
        )
        out.append({**item, "status": str(found.status), "reason": found.reason, "hint": found.hint})
    return out


def _running(project: Project, rows: list[IssueRow]) -> list[IssueRow]:
    """Set `running` in rows whose attempt has started and whose run is alive."""
    held: dict[str, bool] = {}
    out = rows
    for place, row in enumerate(rows):
        if row["started"]:
            name = IssueRef.parse(row["ref"]).milestone
            if name not in held:
                held[name] = is_held(project, name)
            if held[name]:
                out = list(rows) if out is rows else out
                out[place] = {**row, "status": "running", "reason": _at_work(row)}
    return out


def _at_work(row: IssueRow) -> str:
    reason = f"attempt {row['last']} is running"
    return f"{reason} on step {row['doing']}" if row["doing"] else reason


def _inputs_key(project: Project, watch: list[str], tools: list[str], ids: list[str], refs: list[str]) -> str:
    """Return the digest of every input of a status."""
    from executor.process.files import journal_stamp

    hasher = hashlib.sha256()
    schemas = project.rules / "schemas"
    for folder in (project.milestones, project.rules, project.rules / "workflows", schemas):
        for path in files_in(folder, ".json" if folder == schemas else ".toml"):
            hasher.update(f"{path.name}\0".encode())
            hasher.update(path.read_bytes())
    for fact in _stats(str(project.root), watch):
        hasher.update(fact)
    for name in ids:
        hasher.update(journal_stamp(project.state(name)).encode())
    hasher.update("\0".join(f"{tool}={_tool_stat(tool)}" for tool in tools).encode())
    hasher.update(content_of(project.cache / "_asked.json"))
    hasher.update(_package_stamp().encode())
    hasher.update(refs_stamp(project, refs))
    return hasher.hexdigest()


def refs_stamp(project: Project, names: Sequence[str]) -> bytes:
    """Return bytes that change if any ref of these names or below these prefixes changes."""
    folder = project.repository.common_dir
    return Git(folder, folder).run("for-each-ref", "--format=%(refname) %(objectname)", "--", *names)


def _stats(root: str, watch: list[str]) -> Iterable[bytes]:
    for path in watch:
        try:
            facts = os.stat(f"{root}/{path}")  # noqa: PTH116  (ten thousand calls)
        except OSError:
            yield b"-"
        else:
            yield b"%d %d %d;" % (facts.st_mtime_ns, facts.st_size, facts.st_ino)


def _tool_stat(tool: str) -> str:
    import shutil

    program = shutil.which(tool)
    return "absent" if program is None else f"{program} {os.stat(program).st_mtime_ns}"  # noqa: PTH116


def _package_stamp() -> str:
    """Return a value that changes with the installed version of the executor or of the packaged rules."""
    from executor.config.project import packaged_rules

    times = [os.stat(path).st_mtime_ns for path in sorted(packaged_rules().rglob("*.toml"))]  # noqa: PTH116
    return f"{_VERSION} {os.stat(_PACKAGE).st_mtime_ns} {times}"  # noqa: PTH116


def _read(path: Path) -> Any:
    """Return the object in a file of `_keep`; None without one. Files of another version differ in their key."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _keep(project: Project, pending: Summary, rows: AllRows) -> None:
    from executor.errors import ExecutorError
    from executor.process.files import write_atomic

    try:
        prepare_cache(project)
        folder = project.cache / "_board"
        folder.mkdir(exist_ok=True)
        write_atomic(folder / "all.json", json.dumps(rows).encode(), durable=False)
        write_atomic(folder / "pending.json", json.dumps(pending).encode(), durable=False)
    except (OSError, ExecutorError):
        return
