"""Stops: where a rule ends work on an issue until a person clears it. The rules are pure; here they meet a run.

A stop is bound to what it was about: the result key of a change, or the spec key before there is a change. An approval
of that key clears it; another change has another key.

Holds: why this run begins nothing new for an issue that it could begin: the deadline, or a blocker that pauses.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.agents.command import child_environment
from executor.checks.run import tail
from executor.engine.agent_work import Failure
from executor.engine.attempt import fail
from executor.errors import InterruptedRunError
from executor.git.trailers import one_line
from executor.model.deadline import too_late
from executor.process.files import LOCAL, utcnow
from executor.process.runner import Command
from executor.sandbox.policy import in_sandbox, unsandboxed
from executor.state.budget import Wait
from executor.state.decide import Act, Status
from executor.state.events import Stopped
from executor.state.model import UNSANDBOXED, AttemptState
from executor.status.estimate import expected_seconds
from executor.stop_rules.evaluate import Hit, spec_problems, stops_of
from executor.stop_rules.new_tests.rules import Finding, examine
from executor.stop_rules.secrets import find_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.engine.milestone_run import MilestoneRun
    from executor.git.diff import Change
    from executor.model.rules import StopRule
    from executor.state.decide import Decision
    from executor.state.model import Attempt

__all__ = ["held_back", "hold_of", "record_stop", "stopped_by_change", "stopped_by_spec", "stopped_by_tests"]


NEW_TESTS = "new-tests"
SPEC = "spec-problem"
_ROUNDS = 2
_PARSING = threading.Lock()
"""Python parses with warnings switched off, which is not for several threads at once."""


def stopped_by_spec(run: MilestoneRun, ref: str) -> bool:
    """Stop an issue whose spec cannot be worked on, before anything is spent on it."""
    rule = next((rule for rule in run.session.policy.stops if rule.id == SPEC), None)
    issue = run.issue(ref)
    key = run.session.observer.spec_key(ref)
    if (rule is not None and not rule.enabled) or SPEC in issue.allow or key in run.facts(ref).approved:
        return False
    problems = spec_problems(run.session.observer.spec(ref)["text"], issue.title, len(issue.accept))
    if not problems:
        return False
    needs = rule.needs if rule is not None else ""
    record_stop(run, ref, [Hit(SPEC, "hard", "; ".join(problems), needs, ())], attempt=0, bound=key)
    return True


def stopped_by_change(run: MilestoneRun, ref: str, attempt: Attempt, change: Change, logs: Path) -> bool:
    """Stop an issue whose change a rule is about, unless it is allowed or this very change was approved of."""
    if attempt.result_key in run.facts(ref).approved:
        return False
    store = run.session.store
    base = store.tree_of(attempt.base or store.parent_of(attempt.commit))
    tree = store.tree_of(attempt.commit)

    def content(path: str, new: bool) -> bytes | None:  # noqa: FBT001  (the engine's own shape)
        return store.blob(tree if new else base, path)

    allowed = frozenset(run.issue(ref).allow) | _without_object(run, ref)
    hits = stops_of(change, run.session.policy.stops, allowed, content, find_secrets)
    hits += unsandboxed(run, ref, attempt)
    if not any(hit.rule == UNSANDBOXED for hit in hits):  # until a person has read it, nothing of it is run
        hits += _hits_of_commands(run, ref, tree, allowed, logs)
    if not hits:
        return False
    record_stop(run, ref, hits, attempt=attempt.number, bound=attempt.result_key)
    return True


def stopped_by_tests(run: MilestoneRun, ref: str, attempt: Attempt, change: Change) -> bool:
    """Send an attempt back whose new tests would prove nothing, and ask a person when that did not help."""
    issue = run.issue(ref)
    facts = run.facts(ref)
    rule = next((rule for rule in run.session.policy.stops if rule.id == NEW_TESTS and rule.enabled), None)
    if rule is None or not run.session.policy.route_of(issue).examine_tests:
        return False
    if NEW_TESTS in issue.allow or attempt.result_key in facts.approved:
        return False
    findings = _findings(run, attempt, change)
    if not findings:
        return False
    told = tuple(f"{item.file}:{item.line}: {item.description}" for item in findings[:20])
    reason = f"{len(findings)} finding{'s' if len(findings) > 1 else ''} in its new tests: {told[0]}"
    rounds = sum(item.kind == NEW_TESTS for item in facts.state.counted(facts.spec_key))
    if rounds < _ROUNDS:
        tree = run.session.store.tree_of(attempt.commit)
        fail(run, ref, attempt.number, Failure(NEW_TESTS, reason, "\n".join(told), tree))
        return True
    needs = rule.needs
    record_stop(
        run, ref, [Hit(NEW_TESTS, "hard", reason, needs, told)], attempt=attempt.number, bound=attempt.result_key
    )
    return True


def record_stop(run: MilestoneRun, ref: str, hits: Sequence[Hit], *, attempt: int, bound: str) -> None:
    """Journal a stop; one hard rule makes it a hard one."""
    level = "hard" if any(hit.level == "hard" for hit in hits) else "soft"
    telling = [hit for hit in hits if hit.level == level]
    rule = ", ".join(dict.fromkeys(hit.rule for hit in hits))
    lines = [one_line(line)[:300] for hit in telling for line in hit.lines]
    event = Stopped(
        level=level,
        rule=rule,
        reason="; ".join(one_line(hit.reason) for hit in telling)[:1000],
        needs="; ".join(dict.fromkeys(hit.needs for hit in telling if hit.needs))[:1000],
        lines=tuple(lines[:50]),
        spec_key=run.session.observer.spec_key(ref),
        attempt=attempt,
        bound=bound,
    )
    run.record(event, run.issue(ref).id)


def _without_object(run: MilestoneRun, ref: str) -> frozenset[str]:
    """Rules about deceiving a test run, where no test run is a proof."""
    if run.session.observer.proofs(ref).has_tests:
        return frozenset()
    return frozenset(rule.id for rule in run.session.policy.stops if rule.where_tests_judge)


def _findings(run: MilestoneRun, attempt: Attempt, change: Change) -> list[Finding]:
    store = run.session.store
    base = store.tree_of(attempt.base or store.parent_of(attempt.commit))
    tree = store.tree_of(attempt.commit)
    found: list[Finding] = []
    for file in change.files:
        new = store.blob(tree, file.path)
        if new is None or file.binary:
            continue
        old = store.blob(base, file.path)
        with _PARSING:
            found += examine(file.path, _text(new), None if old is None else _text(old))
    return found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _hits_of_commands(run: MilestoneRun, ref: str, tree: str, allowed: frozenset[str], logs: Path) -> list[Hit]:
    """Rules of the user's that ask a command: anything but exit 0 is a hit, with what it printed."""
    rules = [rule for rule in run.session.policy.stops if rule.run and rule.enabled and rule.id not in allowed]
    return [hit for rule in rules if (hit := _hit_of_command(run, ref, tree, rule, logs)) is not None]


def _hit_of_command(run: MilestoneRun, ref: str, tree: str, rule: StopRule, logs: Path) -> Hit | None:
    log = logs / f"stop-{rule.id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = ("sh", "-c", rule.run) if isinstance(rule.run, str) else tuple(rule.run or ())
    with run.pool.slot() as slot:
        slot.check.prepare(run.session.store, tree)
        folder = slot.check.folder
        given = {"EXECUTOR_MILESTONE": run.name, "EXECUTOR_ISSUE": run.issue(ref).id}
        env = child_environment((), given, folder)
        ended = run.supervisor.run(
            Command(
                argv=in_sandbox(run, argv, tree=folder, env=env),
                cwd=folder,
                env=env,
                log=log,
                timeout=float(run.session.policy.limits.check_timeout_s),
                output_cap=run.session.policy.limits.output_cap_bytes,
                secrets=run.session.secrets,
            )
        )
    if ended.reason in {"stopped", "lost"}:
        raise InterruptedRunError(f"{ref}: the rule {rule.id} was interrupted", 130)
    if ended.ok:
        return None
    reason = rule.reason or f"{rule.id} says so ({ended.describe()})"
    return Hit(rule.id, rule.level, reason, rule.needs, tuple(tail(log).splitlines()[-10:]))


def held_back(run: MilestoneRun, ref: str, decision: Decision, *, begun: bool) -> Decision:
    """The decision on an issue as it is, or, if it may not start now, one that lets it rest, kept in `session.held`."""
    wait = hold_of(run, ref, decision, begun=begun)
    if wait is None:
        run.session.held.pop(ref, None)
        return decision
    status = Status.PENDING if decision.act is Act.IMPLEMENT else decision.status
    held = replace(decision, status=status, act=Act.REST, reason=f"not started: {wait.reason}", wait=wait)
    run.session.held[ref] = held
    return held


def hold_of(run: MilestoneRun, ref: str, decision: Decision, *, begun: bool) -> Wait | None:
    """What keeps this run from doing what would be done next with an issue, if anything does.

    Args:
        run: the milestone's run.
        ref: the issue.
        decision: what would be done next.
        begun: something was done for it in this run; then it may come to its end, but no other attempt begins.
    """
    if decision.act is Act.REST or (begun and decision.act is not Act.IMPLEMENT):
        return None
    session = run.session
    paused = session.paused.get(run.name)
    if paused:
        return Wait(paused, None, kind="pause")
    if session.deadline is None:
        return None
    seconds = _expected(run, ref) if decision.act is Act.IMPLEMENT else 0.0
    reason = too_late(session.deadline, utcnow(), seconds, LOCAL)
    return Wait(reason, session.deadline.timestamp(), kind="deadline") if reason else None


def _expected(run: MilestoneRun, ref: str) -> float:
    """Seconds that an attempt is expected to take, from what issues of the milestone have taken."""
    view = run.view
    past = [
        (declared.size, attempt.seconds)
        for declared in view.milestone.issues
        if (state := view.states.get(declared.id)) is not None
        for attempt in state.attempts.values()
        if attempt.state is AttemptState.LANDED and attempt.seconds
    ]
    return expected_seconds(run.issue(ref).size, past)
