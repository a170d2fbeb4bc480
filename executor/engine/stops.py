"""Stops: a rule ends work on an issue until a person clears it. The rules are pure; this module applies them in a run.

A stop is bound to its subject: the identity of a change (`executor.stop_rules.view`), or the spec key before a change
exists. An approval covers this subject and the rules that were shown; another change or rule asks again.

Holds: why this run does not start an issue that is otherwise ready: the deadline, or a blocker that pauses.
"""

from __future__ import annotations

import re
import threading
import tomllib
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.agents.command import child_environment
from executor.checks.base import base_note, base_reason, base_remedy, beside_the_tree, last_lines
from executor.checks.run import tail
from executor.config.load_milestones import spec_encoding
from executor.engine.agent_work import Failure
from executor.engine.landing.change_rules import KNOWN_SECRET, ChangeRules, Objection, contents_of, identity_of
from executor.errors import GitError, GitKilledError, InterruptedRunError
from executor.model.clock import too_late
from executor.model.fingerprint import IssueRef, cleared
from executor.model.paths import is_test
from executor.process.files import LOCAL, utcnow
from executor.process.runner import Command
from executor.state.budget import Wait
from executor.state.decide import Act, Status
from executor.state.events import BaseRed
from executor.state.model import DONE_ALREADY, UNSANDBOXED, AttemptState
from executor.status.estimate import expected_seconds
from executor.stop_rules.evaluate import Hit, spec_problems
from executor.stop_rules.test_evidence.weakened_tests import changed_tests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.checks.base import BaseResult
    from executor.checks.verify import Judgement
    from executor.engine.issue import IssueRun
    from executor.git.diff import Change
    from executor.git.history import Changed
    from executor.model.rules import StopRule
    from executor.state.decide import Decision
    from executor.state.model import Attempt
    from executor.stop_rules.new_tests.rules import Finding

__all__ = ["Obstacle", "Stops", "find_obstacle", "record_obstacle"]


NEW_TESTS = "new-tests"
TESTS_CHANGED = "tests-changed"
SPEC = "spec-problem"
_ROUNDS = 2  # attempts that get the findings before a person is asked; a choice
_MOST_CHANGES = 1000
"""Number of commits of the base to search for work that is done already."""
_KEPT_CHARACTERS = 4000  # characters of a base check's output in the journal
_PARSING = threading.Lock()
"""Guards the parser while Python warnings are disabled, which is not thread-safe."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why work on an issue cannot begin.

    Attributes:
        reason: one sentence.
        hit: the stop rule that its spec breaks; None if the branch is the obstacle.
        result: the check or acceptance command that fails on the branch.
        tip: the commit on which it failed.
    """

    reason: str
    hit: Hit | None = None
    result: BaseResult | None = None
    tip: str = ""


def find_obstacle(issue: IssueRun, decision: Decision) -> Obstacle | None:
    """Return the obstacle to work on an issue, if any; runs the checks on the branch.

    An issue that runs again because its checks fail is the repair, so their failure is no obstacle.
    """
    hit = Stops(issue).broken_spec()
    if hit is not None:
        return Obstacle(hit.reason, hit)
    if decision.cause is not None and decision.cause.input == "verification":
        return None
    already = _ask_about_done_work(issue)
    if already is not None:
        return Obstacle(already.reason, already)
    tip = issue.run.ensure_branch()
    if not issue.proofs.items:
        return None
    branch = issue.run.milestone.branch
    accepted = issue.facts.landing is None and not issue.run.sandboxing.lacking()
    for result in issue.base_check.results(issue.session.store.tree_of(tip), accepted=accepted):
        if result.holds:
            return Obstacle(base_reason(branch, result), None, result, tip)
        note = base_note(branch, result)
        if note:
            issue.run.warn(f"{issue.ref}: {note}")
    return None


def _base_ahead(issue: IssueRun, tip: str) -> str:
    """Suggest a merge of the base if it has commits that the branch lacks; empty otherwise."""
    view, refs = issue.run.view, issue.session.refs
    base = view.base.removeprefix("refs/heads/")
    now = refs.tip(view.base)
    if now is None or refs.contains(now, tip):
        return ""
    return f" (or `git merge {base}` on it, if {base} has the fix)"


def record_obstacle(issue: IssueRun, obstacle: Obstacle) -> None:
    """Journal an obstacle; uses up no attempt."""
    result = obstacle.result
    if result is None:
        hits = [obstacle.hit] if obstacle.hit is not None else []
        bound = "" if obstacle.hit is not None and obstacle.hit.rule == DONE_ALREADY else issue.spec_key
        ChangeRules(issue).record_stop(hits, attempt=0, bound=bound)
        return
    if result.word == "red":
        beside = beside_the_tree(issue.session.project.repository)
        result = replace(result, detail=f"{result.detail}\n{beside}".strip())
    issue.record(
        BaseRed(
            tip=obstacle.tip,
            check_key=issue.proofs.key,
            reason=obstacle.reason,
            word=result.word,
            check=result.name,
            proof=result.kind,
            detail=result.detail[-_KEPT_CHARACTERS:],
        )
    )
    remedy = base_remedy(result.word, result.name, kind=result.kind)
    if result.word == "red":
        remedy += _base_ahead(issue, obstacle.tip)
    issue.run.warn(f"{obstacle.reason}; {remedy}; no attempt was used up{last_lines(result.detail)}")


def _ask_about_done_work(issue: IssueRun) -> Hit | None:
    """Return the question whether the base has the work of an issue already; asks it for the other issues, too.

    A fresh clone knows nothing of work that a person brought into the base in other words, without trailers, if its
    branch is deleted. Only a milestone without any trace of work is examined, in its first run here.
    """
    view, session = issue.run.view, issue.session
    ran_before = any(event.run != session.run_id for event in issue.run.journal.events)
    if ran_before or view.landings or view.lost or any(state.attempts for state in view.states.values()):
        return None
    hit = _done_already(issue)
    for other in issue.run.milestone.issues if hit is not None else ():
        beside, state = replace(issue, ref=str(IssueRef(issue.run.name, other.id))), view.states.get(other.id)
        asked = other.id == issue.id or (state is not None and state.stop is not None)
        if not asked and (found := _done_already(beside)) is not None:
            ChangeRules(beside).record_stop([found], attempt=0, bound="")
    return hit


def _done_already(issue: IssueRun) -> Hit | None:
    """Return the question about one issue; None without evidence.

    The evidence: its acceptance fails on the commit that declares it as it is now and holds on the base, or files that
    it declares by name were added since, in both cases by a commit that is no landing of any milestone.
    """
    run, refs = issue.run, issue.session.refs
    plan, own = run.project.inside(f"milestones/{run.name}.toml"), run.project.inside("milestones/x")[:-1]
    try:
        changes = refs.changes(run.view.base_tip, most=_MOST_CHANGES)
        now = _declared_as(issue, run.view.base_tip, plan)
        plans = (n for n, item in enumerate(changes) if plan in item.paths)
        start = next((n for n in plans if _declared_as(issue, changes[n].commit, plan) == now), None)
        later = changes[start + 1 :] if start is not None else []
        if now is None or start is None or all(path.startswith(own) for item in later for path in item.paths):
            return None
        commit, why = _accepted_since(issue, changes[start], later) or _added_since(issue, changes[start], later)
    except GitKilledError:
        raise
    except GitError:
        return None  # a partial clone that cannot reach its remote
    if not commit or commit in {record.commit for record in refs.records(run.view.base_tip)}:
        return None
    base = run.view.base.removeprefix("refs/heads/")
    needs = f"doit accept {issue.ref} if that is this issue's work, or doit retry {issue.ref}"
    return Hit(
        DONE_ALREADY,
        "hard",
        f"{base} seems to contain this issue's work already: {why} {commit[:10]}",
        needs,
        (commit,),
    )


def _declared_as(issue: IssueRun, commit: str, plan: str) -> list[object] | None:
    """Return what a commit declares the issue to be and to fulfil; None if it does not declare it."""
    store = issue.session.store
    try:
        read = tomllib.loads((store.blob(store.tree_of(commit), plan) or b"").decode("utf-8-sig"))
    except ValueError:
        return None
    items, ids = read.get("issue"), {issue.id, *issue.declared.was}
    found = (item for item in items if isinstance(item, dict)) if isinstance(items, list) else ()
    own = next((item for item in found if str(item.get("id")) in ids), None)
    return None if own is None else [own.get(key) for key in ("accept", "body", "spec", "files")]


def _accepted_since(issue: IssueRun, declared: Changed, later: Sequence[Changed]) -> tuple[str, str] | None:
    """Return the commit since which the acceptance holds, if it fails on the commit that declares the issue."""
    tree_of, check = issue.session.store.tree_of, issue.base_check
    if issue.run.sandboxing.lacking() or not check.accepts(tree_of(issue.run.view.base_tip)):
        return None
    if check.accepts(tree_of(declared.commit)) is not False:
        return None
    first = bisect_left(later, 1, hi=len(later) - 1, key=lambda item: bool(check.accepts(tree_of(item.commit))))
    return later[first].commit, f"its acceptance fails on {declared.commit[:10]}, which declares it, and passes since"


def _added_since(issue: IssueRun, declared: Changed, later: Sequence[Changed]) -> tuple[str, str]:
    """Return the last commit with all files that the issue names and that did not exist at its declaration."""
    store, inside = issue.session.store, issue.run.project.inside
    then, now = (store.tree_of(commit) for commit in (declared.commit, issue.run.view.base_tip))
    named = [inside(name) for name in issue.declared.files if not re.search(r"[*?\[\]{}]|/$", name)]
    new = {path for path in named if not store.has_path(then, path)}
    added = [item.commit for item in later if new and new <= item.paths.keys()]
    if not added or not all(store.has_path(now, path) for path in new):
        return "", ""
    return added[-1], f"{', '.join(sorted(new)[:3])} was added after its declaration, in"


class Stops:
    """Decides whether a rule requires a person for one issue, and whether it may start; records nothing."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def broken_spec(self) -> Hit | None:
        """Return the stop of an issue with an invalid spec."""
        rule = next((rule for rule in self._session.policy.stops if rule.id == SPEC), None)
        issue = self._issue.declared
        key = self._issue.spec_key
        if (
            (rule is not None and not rule.enabled)
            or SPEC in issue.allow
            or cleared(key, (SPEC,), self._issue.facts.approved)
        ):
            return None
        problems = spec_problems(self._issue.spec["text"], issue.title, len(issue.accept))
        encoding = spec_encoding(self._session.compiled.loaded, self._run.name, issue)
        problems = [encoding, *problems] if encoding else problems
        if not problems:
            return None
        return Hit(SPEC, "hard", "; ".join(problems), rule.needs if rule is not None else "", ())

    def objection_to(self, attempt: Attempt, change: Change, logs: Path) -> Objection | Failure | None:
        """Return the objection to a change before its checks run: from its stop rules, then from its new tests."""
        return self._objection_to_change(attempt, change, logs) or self._objection_to_new_tests(attempt, change)

    def _objection_to_change(self, attempt: Attempt, change: Change, logs: Path) -> Objection | None:
        """Return the rules that a change breaks and that are neither allowed nor approved for exactly this change."""
        tree = self._session.store.tree_of(attempt.commit)
        bound = identity_of(self._run.store, attempt, change)
        hits = ChangeRules(self._issue).hits_of(attempt, change, tree)
        if not any(hit.rule == UNSANDBOXED for hit in hits):  # until a person has read it, nothing of it is run
            hits += ChangeRules(self._issue).uncleared(
                self._hits_of_commands(tree, ChangeRules(self._issue).allowed_rules(), logs), bound
            )
        if not hits:
            return None
        secret = any(hit.rule == KNOWN_SECRET for hit in hits)
        return Objection(tuple(hits), "" if secret else bound)

    def objection_to_tests(self, attempt: Attempt, change: Change, result: Judgement) -> Objection | None:
        """Object to a result that passes only with changed declared tests; None otherwise, or if the rule is off."""
        rule = next((rule for rule in self._session.policy.stops if rule.id == TESTS_CHANGED and rule.enabled), None)
        if rule is None or not result.tests:
            return None
        store = self._session.store
        contents = contents_of(
            self._run.store,
            store.tree_of(attempt.base or store.parent_of(attempt.commit)),
            store.tree_of(attempt.commit),
        )
        lines = changed_tests([file for file in change.files if file.path in result.tests], contents)
        reason = f"{rule.reason} With the base's tests: {result.reason}"
        hit = Hit(rule.id, rule.level, reason, rule.needs, tuple(lines[:20]))
        return Objection((hit,), identity_of(self._run.store, attempt, change))

    def _objection_to_new_tests(self, attempt: Attempt, change: Change) -> Objection | Failure | None:
        """Examine new tests that prove nothing: a failure with the findings; after some rounds, an objection."""
        issue = self._issue.declared
        facts = self._issue.facts
        rule = next((rule for rule in self._session.policy.stops if rule.id == NEW_TESTS and rule.enabled), None)
        if rule is None or not self._session.policy.route_of(issue).examine_tests:
            return None
        bound = identity_of(self._run.store, attempt, change)
        if NEW_TESTS in issue.allow or cleared(bound, (NEW_TESTS,), facts.approved):
            return None
        findings = self._findings(attempt, change)
        if not findings:
            return None
        lines = tuple(f"{item.file}:{item.line}: {item.description}" for item in findings[:20])
        reason = f"{len(findings)} finding{'s' if len(findings) > 1 else ''} in its new tests: {lines[0]}"
        rounds = sum(item.kind == NEW_TESTS for item in facts.state.counted(facts.spec_key))
        if rounds < _ROUNDS:
            return Failure(NEW_TESTS, reason, "\n".join(lines), self._session.store.tree_of(attempt.commit))
        return Objection((Hit(NEW_TESTS, "hard", reason, rule.needs, lines),), bound)

    def _findings(self, attempt: Attempt, change: Change) -> list[Finding]:
        store = self._session.store
        base = store.tree_of(attempt.base or store.parent_of(attempt.commit))
        tree = store.tree_of(attempt.commit)
        found: list[Finding] = []
        for file in change.files:
            new = store.blob(tree, file.path)
            if new is None or file.binary or not is_test(file.path):
                continue
            from executor.stop_rules.new_tests.rules import UNREADABLE, examine

            old = store.blob(base, file.path)
            with _PARSING:
                findings = examine(file.path, _text(new), None if old is None else _text(old))
            found += [item for item in findings if item.description.partition(":")[0] != UNREADABLE]  # checks say that
        return found

    def _hits_of_commands(self, tree: str, allowed: frozenset[str], logs: Path) -> list[Hit]:
        """Run the user's stop rules with a command: any exit code but 0 is a hit with the command's output."""
        rules = [rule for rule in self._session.policy.stops if rule.run and rule.enabled and rule.id not in allowed]
        return [hit for rule in rules if (hit := self._hit_of_command(tree, rule, logs)) is not None]

    def _hit_of_command(self, tree: str, rule: StopRule, logs: Path) -> Hit | None:
        log = logs / f"stop-{rule.id}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        argv = ("sh", "-c", rule.run) if isinstance(rule.run, str) else tuple(rule.run or ())
        with self._run.pool.slot() as slot:
            slot.check.prepare(self._session.store, tree)
            folder = slot.check.folder
            given = {"EXECUTOR_MILESTONE": self._run.name, "EXECUTOR_ISSUE": self._issue.id}
            env = child_environment((), given, folder)
            ended = self._run.supervisor.run(
                Command(
                    argv=self._run.sandboxing.wrap(argv, tree=folder, env=env),
                    cwd=slot.check.start,
                    env=env,
                    log=log,
                    timeout=float(self._session.policy.limits.check_timeout_s),
                    output_cap=self._session.policy.limits.output_cap_bytes,
                    secrets=self._session.secrets,
                )
            )
        if ended.reason in {"stopped", "lost"}:
            raise InterruptedRunError(f"{self._issue.ref}: the rule {rule.id} was interrupted", 130)
        if ended.ok:
            return None
        reason = rule.reason or f"{rule.id} says so ({ended.describe()})"
        return Hit(rule.id, rule.level, reason, rule.needs, tuple(tail(log).splitlines()[-10:]))

    def held(self, decision: Decision, *, begun: bool) -> Decision | None:
        """Return the decision that replaces one whose action must not be taken in this run; None if it may."""
        wait = self.hold_of(decision, begun=begun)
        if wait is None:
            return None
        status = Status.PENDING if decision.act is Act.IMPLEMENT else decision.status
        return replace(decision, status=status, act=Act.REST, reason=f"not started: {wait.reason}", wait=wait)

    def hold_of(self, decision: Decision, *, begun: bool) -> Wait | None:
        """Return why this run must not take the next action for an issue; None if it may.

        Args:
            decision: the next action.
            begun: this run has already started the issue; it may finish, but no further attempt begins.
        """
        if decision.act is Act.REST or (begun and decision.act is not Act.IMPLEMENT):
            return None
        session = self._session
        paused = session.paused.get(self._run.name)
        if paused:
            return Wait(paused, None, kind="pause")
        if session.deadline is None:
            return None
        seconds = self._expected() if decision.act is Act.IMPLEMENT else 0.0
        reason = too_late(session.deadline, utcnow(), seconds, LOCAL)
        return Wait(reason, session.deadline.timestamp(), kind="deadline") if reason else None

    def _expected(self) -> float:
        """Estimate the seconds of an attempt from past issues of the milestone."""
        view = self._run.view
        past = [
            (declared.size, attempt.seconds)
            for declared in view.milestone.issues
            if (state := view.states.get(declared.id)) is not None
            for attempt in state.attempts.values()
            if attempt.state is AttemptState.LANDED and attempt.seconds
        ]
        return expected_seconds(self._issue.declared.size, past)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
