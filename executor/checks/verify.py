"""Verify: checks and acceptance on one exact tree. Only what they say counts, and only what a person wrote is asked.

The base is verified before an attempt is spent; a candidate is verified as it would land, and once more with the tests
that the base had, where it changed them without being asked to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.agents.command import child_environment
from executor.checks.base_tests import Trees, asked_again, put_back_of
from executor.checks.blindness import sight_of
from executor.checks.run import verdict_on
from executor.checks.setup import Unready, make_ready
from executor.checks.source_files import kind_of
from executor.checks.spec import CommandProof, FileProof, file_problem
from executor.git.diff import Change, parse_diff
from executor.git.worktrees import ImportRefusedError
from executor.process.runner import Command
from executor.sandbox.policy import in_sandbox
from executor.state.events import BaseRed, Refused, Verified

if TYPE_CHECKING:
    from pathlib import Path

    from executor.engine.milestone_run import MilestoneRun
    from executor.model.milestone import Issue
    from executor.state.decide import Decision

_BLIND_REMEDY = (
    "no attempt was spent. Make it run in the tree (EXECUTOR_TREE, {{tree}} in its prefix), or vouch for it in "
    'rules/checks.toml: [check.{name}] sabotage = "off", sabotage_reason = "..."'
)

__all__ = [
    "Candidate",
    "Judgement",
    "blind_on_base",
    "held_by_base",
    "judge",
    "red_on_base",
    "repaired",
    "verify_again",
    "verify_tip",
]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What all checks together say about a tree.

    Attributes:
        ok: everything passed.
        reason: the first thing that failed, one sentence; empty when all passed.
        detail: the most useful part of its output.
        failed: name of the check that failed; empty when all passed.
        tests: changed tests of the base that a person has to look at; then nothing else speaks against the candidate.
    """

    ok: bool
    reason: str = ""
    detail: str = ""
    failed: str = ""
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tree to be judged, and what is known of how it came about.

    Attributes:
        tree: the tree.
        base: tree that it was made from; empty when there is none to compare with.
        change: what it changes.
        trusted: its tests are taken as they are, because a person has approved of these changes of tests.
        asked: a person has seen changes of its tests for another reason; where those of the base fail, that person is
            asked again.
    """

    tree: str
    base: str
    change: Change
    trusted: bool = False
    asked: bool = False

    @property
    def paths(self) -> list[str]:
        """Changed paths."""
        return [file.path for file in self.change.files]


def judge(run: MilestoneRun, ref: str, candidate: Candidate, logs: Path) -> Judgement:
    """Prove a candidate for one issue; stops at the first check that fails.

    What passes is asked again with the tests of the base on the new code. Where those fail, the attempt has failed;
    if the issue lets these tests be changed, a person is asked.

    Args:
        run: the milestone's run.
        ref: qualified id of the issue.
        candidate: what is to be proved.
        logs: folder for the output of the checks.
    """
    first = _first_failure(run, ref, candidate, logs)
    if not first.ok or candidate.trusted or not candidate.base:
        return first
    blinded = _blinded(run, ref, candidate, logs)
    if not blinded.ok:
        return blinded
    items = run.session.observer.proofs(ref).items
    commands = [item.argv for item in items if isinstance(item, CommandProof)]
    declared = run.issue(ref).files
    plan = put_back_of(run.session.store, candidate.base, candidate.change.files, commands, declared)
    operands = plan.operands if plan.operands and red_on_base(run, ref, candidate.base, accepted=True).ok else ()
    strict = _with_base(run, ref, candidate, (*plan.strict, *operands), logs / "base-tests")
    if strict.ok:
        return first
    changed = plan.tests if candidate.asked else plan.declared
    if changed:
        rest = () if candidate.asked else plan.lenient(declared)
        lenient = _with_base(run, ref, candidate, (*rest, *operands), logs / "undeclared-tests")
        if lenient.ok:
            return Judgement(ok=False, reason=strict.reason, detail=strict.detail, failed=strict.failed, tests=changed)
        strict = lenient
    kept = plan.strict + operands
    names = ", ".join(kept[:3]) + (f" and {len(kept) - 3} more" if len(kept) > 3 else "")  # noqa: PLR2004
    reason = f"with the base's version of {names}: {strict.reason}; declare in `files` the tests that are to change"
    return Judgement(ok=False, reason=reason, detail=strict.detail, failed=strict.failed)


def _with_base(run: MilestoneRun, ref: str, candidate: Candidate, paths: tuple[str, ...], logs: Path) -> Judgement:
    """The judgement of a candidate with these paths as the base has them."""
    store = run.session.store
    if not paths:
        return Judgement(ok=True)
    with run.pool.slot() as slot:
        tree = store.with_paths_of(candidate.tree, candidate.base, paths, slot.scratch)
    if tree == candidate.tree:
        return Judgement(ok=True)
    trees = Trees(store.paths(candidate.tree), store.paths(tree), store, tree)
    return _first_failure(run, ref, replace(candidate, tree=tree), logs, trees=trees)


def red_on_base(run: MilestoneRun, ref: str, tree: str, *, accepted: bool = False) -> Judgement:
    """Whether the named checks of an issue pass before anything was done; `ok` when they do, or when there are none.

    Args:
        run: the milestone's run.
        ref: qualified id of the issue.
        tree: the base.
        accepted: whether the commands of the acceptance are asked as well.
    """
    proofs = run.session.observer.proofs(ref).items
    items = [item for item in proofs if isinstance(item, CommandProof) and (item.named or accepted)]
    for item in items:
        if item.changed_only or item.only_new_failures:
            continue
        verdict = verdict_on(run, tree, item, log=run.folder / "logs" / "base" / f"{item.slug}.log")
        if not verdict.ok and not _has_no_tests(run, verdict.report):
            return Judgement(ok=False, reason=verdict.reason, detail=verdict.detail, failed=item.name)
    return Judgement(ok=True)


def blind_on_base(run: MilestoneRun, ref: str, tree: str) -> Judgement:
    """Whether the named checks of an issue look at the tree; `ok` when they do, or when nothing can be proved yet."""
    for item in _named(run, ref):
        if not item.needs_proof_on_base:
            continue
        sight = sight_of(run, tree, item, log=run.folder / "logs" / "base" / f"{item.slug}.log")
        if sight.state == "blind":
            return Judgement(ok=False, reason=sight.reason, failed=item.name)
    return Judgement(ok=True)


def _named(run: MilestoneRun, ref: str) -> list[CommandProof]:
    items = run.session.observer.proofs(ref).items
    return [item for item in items if isinstance(item, CommandProof) and item.named]


def held_by_base(run: MilestoneRun, ref: str, decision: Decision) -> bool:
    """Hold an issue back whose checks fail before anything was done for it; costs no attempt, is told once.

    One that is done again because its checks fail is what repairs them, and is not held back.
    """
    if decision.cause is not None and decision.cause.input == "verification":
        return False
    tip = run.ensure_branch()
    tree = run.session.store.tree_of(tip)
    found, word = red_on_base(run, ref, tree), "red"
    reason = f'the check "{found.failed}" fails on {run.milestone.branch} before anything was done: {found.reason}'
    remedy = "repair it there, no attempt was spent"
    if found.ok:
        found, word = blind_on_base(run, ref, tree), "blind"
        reason = f'the check "{found.failed}" is blind: {found.reason}'
        remedy = _BLIND_REMEDY.format(name=found.failed)
    if found.ok:
        return False
    observer = run.session.observer
    key = observer.proofs(ref).key
    event = BaseRed(tip=tip, check_key=key, reason=reason, word=word, check=found.failed, detail=found.detail[-4000:])
    run.record(event, run.issue(ref).id)
    told = f"{reason}; {remedy}"
    if told not in run.messages:
        run.messages.append(told)
    return True


def _blinded(run: MilestoneRun, ref: str, candidate: Candidate, logs: Path) -> Judgement:
    """Whether a change made a check blind; looked into when it touches anything but product code and documentation."""
    if not candidate.base or all(kind_of(path) in {"product", "docs"} for path in candidate.paths):
        return Judgement(ok=True)
    for item in _named(run, ref):
        files = _files_for(run, item, candidate)
        if files is None:
            continue
        given = files if item.changed_only else None
        sight = sight_of(run, candidate.tree, item, log=logs / f"{item.slug}.log", given=given, this_tree=True)
        if sight.state == "blind":
            reason = f"{item.name}: with this change the check is blind: {sight.reason}"
            return Judgement(ok=False, reason=reason, failed=item.name)
    return Judgement(ok=True)


def repaired(run: MilestoneRun, ref: str, candidate: Candidate, logs: Path) -> str:
    """The candidate's tree after the automatic repairs of checks that fail; the same if nothing changed."""
    tree = candidate.tree
    for place, item in enumerate(run.session.observer.proofs(ref).items):
        if not isinstance(item, CommandProof) or not item.fix:
            continue
        files = _files_for(run, item, Candidate(tree, candidate.base, candidate.change))
        if files is None:
            continue
        log = logs / f"check-{place + 1}-{item.slug}.log"
        issue = run.issue(ref)
        passed = verdict_on(run, tree, item, base=candidate.base, files=files, issue=issue.id, log=log).ok
        # a command that works elsewhere would repair files elsewhere, such as the user's own
        if not passed and sight_of(run, tree, item, log=log, given=files or None).state != "blind":
            tree = _repaired_by(run, tree, item, files, issue, logs / f"fix-{place + 1}-{item.slug}.log")
    return tree


def _repaired_by(run: MilestoneRun, tree: str, item: CommandProof, files: list[str], issue: Issue, log: Path) -> str:
    with run.pool.slot() as slot:
        slot.check.prepare(run.session.store, tree)
        try:
            environment = make_ready(run, slot, slot.check, log.parent, judging=True)
        except Unready:
            return tree
        folder = slot.check.folder
        env = environment.environment(child_environment((), dict(item.env), folder))
        argv = environment.command(item.repair(files))
        if item.sandboxed:
            shown = [*item.readable, *environment.shown]
            argv = in_sandbox(run, argv, tree=folder, env=env, readable=shown, network=item.network)
        run.supervisor.run(
            Command(
                argv=argv,
                cwd=folder,
                env=env,
                log=log,
                timeout=item.timeout,
                output_cap=run.session.policy.limits.output_cap_bytes,
                secrets=run.session.secrets,
            )
        )
        try:
            return slot.check.result(run.session.store, run.excludes, issue.files, run.import_limits)
        except ImportRefusedError:
            return tree


def verify_again(run: MilestoneRun, ref: str) -> None:
    """Prove a landed issue on the present tip, and record what came of it."""
    facts = run.facts(ref)
    landing = facts.landing
    if landing is None:
        return
    issue = run.issue(ref).id
    tip = run.view.tip
    result = verify_tip(run, ref, run.session.store.tree_of(tip))
    key, revision = facts.check_key, landing.trailers.revision
    needs = {need.ref: need.result_key for need in facts.needs}
    run.keep_spec(ref)
    if result.ok:
        run.record(Verified(check_key=key, needs=needs, revision=revision, tip=tip), issue)
        run.write_receipt(landing)
    else:
        run.record(
            Refused(reason=result.reason, detail=result.detail, check_key=key, needs=needs, revision=revision, tip=tip),
            issue,
        )


def verify_tip(run: MilestoneRun, ref: str, tree: str) -> Judgement:
    """Prove a landed issue on a tree that contains it."""
    landing = run.view.landings[run.issue(ref).id]
    change = parse_diff(run.session.store.diff(f"{landing.commit}^", landing.commit))
    logs = run.folder / "logs" / run.issue(ref).id / "verify"
    return _first_failure(run, ref, Candidate(tree, "", change), logs)


def _first_failure(
    run: MilestoneRun, ref: str, candidate: Candidate, logs: Path, *, trees: Trees | None = None
) -> Judgement:
    """The first check that fails; with `trees`, of those that have something to say about the tests of the base."""
    issue = run.issue(ref).id
    for place, given in enumerate(run.session.observer.proofs(ref).items):
        item = given if trees is None else asked_again(given, trees)
        if item is None:
            continue
        if isinstance(item, FileProof):
            problem = _file_problem(run, candidate.tree, item)
            if problem:
                return Judgement(ok=False, reason=problem, failed=item.name)
            continue
        concerned = _files_for(run, item, candidate)
        if concerned is None:
            continue
        log = logs / f"check-{place + 1}-{item.slug}.log"
        verdict = verdict_on(run, candidate.tree, item, base=candidate.base, files=concerned, issue=issue, log=log)
        if not verdict.ok:
            return Judgement(ok=False, reason=verdict.reason, detail=verdict.detail, failed=item.name)
    return Judgement(ok=True)


def _files_for(run: MilestoneRun, item: CommandProof, candidate: Candidate) -> list[str] | None:
    """The files that a check is given; None when it does not apply."""
    concerned = item.concerned(candidate.paths)
    if item.when and not concerned:
        return None
    if not item.changed_only:
        return []
    present = [path for path in concerned if run.session.store.has_path(candidate.tree, path)]
    return present or None


def _has_no_tests(run: MilestoneRun, report: str) -> bool:
    """Whether a report says that there was nothing to test, as at the beginning of a project."""
    from executor.checks.junit import ReportError, read_junit

    data = run.session.verdicts.report(report) if report else None
    try:
        return data is not None and read_junit(data).tests == 0
    except ReportError:
        return False


def _file_problem(run: MilestoneRun, tree: str, item: FileProof) -> str:
    store = run.session.store
    exists = store.has_path(tree, item.file)
    return file_problem(item, store.blob(tree, item.file) if exists else None, exists=exists)
