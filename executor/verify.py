"""Verify: checks and acceptance on one exact tree, in a clean checkout of it. Only what they say counts."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.adapters.agents import child_environment
from executor.adapters.processes import Command
from executor.adapters.verdicts import Verdict
from executor.core.brief import most_useful
from executor.core.checks import CommandProof, FileProof, file_problem
from executor.core.message import one_line
from executor.errors import InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.adapters.workspaces import Slot
    from executor.session import MilestoneRun

__all__ = ["Judgement", "judge", "tail", "verify_again"]

_LOG_TAIL = 64 * 1024


@dataclass(frozen=True, slots=True)
class Judgement:
    """What all checks together say about a tree.

    Attributes:
        ok: everything passed.
        reason: the first thing that failed, one sentence; empty when all passed.
        detail: the most useful part of its output.
        failed: name of the check that failed; empty when all passed.
    """

    ok: bool
    reason: str = ""
    detail: str = ""
    failed: str = ""


def judge(run: MilestoneRun, ref: str, tree: str, changed: Sequence[str], logs: Path) -> Judgement:
    """Prove one tree for one issue; stops at the first check that fails.

    Args:
        run: the milestone's run.
        ref: qualified id of the issue.
        tree: tree id to be proved.
        changed: paths the issue changes; a check with `when` applies only if one of them matches.
        logs: folder for the output of the checks.
    """
    proofs = run.session.observer.proofs(ref)
    items = [item for item in proofs.items if _applies(item, changed)]
    unknown = [item for item in items if isinstance(item, CommandProof) and _known(run, tree, item) is None]
    if not unknown:
        return _first_failure(run, ref, tree, items, None, logs)
    with run.pool.slot() as slot:
        return _first_failure(run, ref, tree, items, slot, logs)


def verify_again(run: MilestoneRun, ref: str) -> None:
    """Prove a landed issue on the present tip, and record what came of it."""
    facts = run.facts(ref)
    landing = facts.landing
    if landing is None:
        return
    issue = run.issue(ref).id
    tip = run.view.tip
    tree = run.session.store.tree_of(tip)
    logs = run.folder / "logs" / issue / "verify"
    result = judge(run, ref, tree, _changed_by(run, landing.commit), logs)
    proved = {
        "check_key": facts.check_key,
        "needs": {need.ref: need.result_key for need in facts.needs},
        "revision": landing.trailers.revision,
        "tip": tip,
    }
    if result.ok:
        run.record("verified", issue, **proved)
        run.write_receipt(landing)
    else:
        run.record("refused", issue, reason=result.reason, detail=result.detail, **proved)


def _changed_by(run: MilestoneRun, commit: str) -> list[str]:
    from executor.core.change import parse_diff

    return [file.path for file in parse_diff(run.session.store.diff(f"{commit}^", commit)).files]


def _first_failure(
    run: MilestoneRun,
    ref: str,
    tree: str,
    items: Sequence[CommandProof | FileProof],
    slot: Slot | None,
    logs: Path,
) -> Judgement:
    fresh = True
    for place, item in enumerate(items):
        if isinstance(item, FileProof):
            store = run.session.store
            exists = store.has_path(tree, item.file)
            problem = file_problem(item, store.blob(tree, item.file) if exists else None, exists=exists)
            if problem:
                return Judgement(ok=False, reason=problem, failed=item.name)
            continue
        verdict = _known(run, tree, item)
        if verdict is None and slot is not None:
            if fresh:
                slot.check.prepare(run.session.store, tree)
            verdict = _run_check(run, ref, tree, item, slot, logs / f"check-{place + 1}.log")
            fresh = True
        if verdict is not None and not verdict.ok:
            return Judgement(ok=False, reason=verdict.reason, detail=verdict.detail, failed=item.name)
    return Judgement(ok=True)


def _known(run: MilestoneRun, tree: str, item: CommandProof) -> Verdict | None:
    """A verdict that may be used again: passes always, failures only within the run that saw them."""
    if not item.reusable:
        return None
    verdict = run.session.verdicts.find(tree, item.key)
    if verdict is None or verdict.ok or verdict.run == run.session.run_id:
        return verdict
    return None


def _run_check(run: MilestoneRun, ref: str, tree: str, item: CommandProof, slot: Slot, log: Path) -> Verdict:
    log.parent.mkdir(parents=True, exist_ok=True)
    given = {
        **dict(item.env),
        "EXECUTOR_MILESTONE": run.name,
        "EXECUTOR_ISSUE": run.issue(ref).id,
        "EXECUTOR_SLOT": str(slot.number),
    }
    folder = slot.check.folder
    ended = run.supervisor.run(
        Command(
            argv=item.argv,
            cwd=folder,
            env=child_environment((), given, folder),
            log=log,
            timeout=item.timeout,
            output_cap=run.session.policy.limits.output_cap_bytes,
        )
    )
    if ended.reason in {"stopped", "lost"}:
        raise InterruptedRunError(f"{ref}: the check {item.name} was interrupted", 130)
    if ended.ok:
        verdict = Verdict(ok=True, reason="", detail="", seconds=ended.seconds, run=run.session.run_id)
    else:
        reason = f"{one_line(item.name)}: {ended.describe()}"
        verdict = Verdict(ok=False, reason=reason, detail=tail(log), seconds=ended.seconds, run=run.session.run_id)
    if item.reusable:
        run.session.verdicts.keep(tree, item.key, verdict)
    run.record("checked", run.issue(ref).id, check=item.name, tree=tree, ok=verdict.ok, seconds=round(ended.seconds, 3))
    return verdict


def tail(log: Path) -> str:
    """The most useful part of a log file's end."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_TAIL))
            return most_useful(file.read().decode("utf-8", "replace"))
    except OSError:
        return ""


def _applies(item: CommandProof | FileProof, changed: Sequence[str]) -> bool:
    if isinstance(item, FileProof) or not item.when:
        return True
    return any(fnmatch.fnmatch(path, glob) for path in changed for glob in item.when)
