"""Stops: where a rule ends work on an issue until a person clears it. The rules are pure; here they meet a run.

A stop is bound to what it was about: the result key of a change, or the spec key before there is a change. An approval
of that key clears it; another change has another key.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from executor.adapters.agents import child_environment
from executor.adapters.processes import Command
from executor.adapters.secrets import find_secrets
from executor.attempt import fail
from executor.checking import tail
from executor.core.message import one_line
from executor.core.newtests import Finding, examine
from executor.core.state import UNSANDBOXED
from executor.core.stops import Hit, spec_problems, stops_of
from executor.errors import InterruptedRunError
from executor.isolation import in_sandbox, unsandboxed
from executor.work import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.core.change import Change
    from executor.core.state import Attempt
    from executor.core.stop_rules import StopRule
    from executor.milestone_run import MilestoneRun

__all__ = ["record_stop", "stopped_by_change", "stopped_by_spec", "stopped_by_tests"]

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
    run.record(
        "stopped",
        run.issue(ref).id,
        level=level,
        rule=rule,
        reason="; ".join(one_line(hit.reason) for hit in telling)[:1000],
        needs="; ".join(dict.fromkeys(hit.needs for hit in telling if hit.needs))[:1000],
        lines=[one_line(line)[:300] for hit in telling for line in hit.lines][:50],
        spec_key=run.session.observer.spec_key(ref),
        attempt=attempt,
        bound=bound,
    )


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
