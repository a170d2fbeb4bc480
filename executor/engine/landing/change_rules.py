"""The stop rules that judge a change alone, applied to the change of an attempt; nothing of the change is run here.

They apply before a repair runs any code of the change, and again before its checks do.

Review: an optional agent reads the change and may stop the landing. It can never cause one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from executor.agents.brief import most_useful, review_brief
from executor.agents.reviewer import REVIEW, Question, Reviewers
from executor.checks.spec import CommandProof
from executor.checks.verdicts import Verdict
from executor.git.diff import parse_diff
from executor.git.trailers import ApprovedBy, one_line
from executor.model.fingerprint import cleared, combined_key, consent, digest
from executor.model.milestone import Claim
from executor.process.files import left_file
from executor.state.events import Reviewed, Stopped
from executor.state.model import FINDINGS, Criterion
from executor.stop_rules.content import blotted, find_secrets, known_secrets
from executor.stop_rules.evaluate import Hit, stops_of
from executor.stop_rules.view import View, change_identity, parts_of_change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from executor.engine.issue import IssueRun
    from executor.git.diff import Change
    from executor.git.objects import Store
    from executor.model.agent_profile import Agent
    from executor.state.model import Attempt
    from executor.stop_rules.view import Part

__all__ = [
    "KNOWN_SECRET",
    "ChangeRules",
    "Objection",
    "Rests",
    "ReviewFinding",
    "Reviews",
    "contents_of",
    "identity_of",
    "read_criteria",
    "read_findings",
]

KNOWN_SECRET = "known-secret"  # noqa: S105  (the name of a rule)


@dataclass(frozen=True, slots=True)
class Objection:
    """Rules that block a change until a person approves exactly this change.

    Attributes:
        hits: the rules; not empty.
        bound: the identity that the approval is bound to; empty if there is none.
    """

    hits: tuple[Hit, ...]
    bound: str


class ChangeRules:
    """Applies the stop rules to the change of one issue."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def hits_of(self, attempt: Attempt, change: Change, tree: str) -> list[Hit]:
        """Return the rules that stop a change, including work without a sandbox, except those that a person cleared.

        Args:
            attempt: the attempt that made the change.
            change: the change.
            tree: its result.
        """
        return self.uncleared(
            self._all_hits(attempt, change, tree), identity_of(self._run.store, attempt, change, tree)
        )

    def allowed_rules(self) -> frozenset[str]:
        """Rules that the issue clears in advance, and rules about deceiving a command if no command runs the code."""
        allowed = frozenset(self._issue.declared.allow)
        if self._issue.proofs.run_code:
            return allowed
        return allowed | {rule.id for rule in self._session.policy.stops if rule.where_tests_judge}

    def uncleared(self, hits: Sequence[Hit], bound: str) -> list[Hit]:
        """Return hits without an approval for this change. A secret that is known by its value cannot be approved."""
        approved = self._issue.facts.approved
        return [hit for hit in hits if hit.rule == KNOWN_SECRET or not cleared(bound, (hit.rule,), approved)]

    def altered_since(self, attempt: Attempt, change: Change, tip: str, tree: str) -> tuple[list[Hit], str]:
        """Return the approved rules that apply again because the change lands in a different form on changed files.

        Args:
            attempt: the attempt with the approved change.
            change: the change as it was made.
            tip: tree to land on.
            tree: tree that would land.

        Returns:
            The rules to ask about again, and the identity that their approval is bound to.
        """
        if not self._issue.facts.approved:
            return [], ""
        was = identity_of(self._run.store, attempt, change)
        landing = parse_diff(self._session.store.diff(tip, tree))
        now = change_identity(landing, contents_of(self._run.store, tip, tree))
        if now == was:
            return [], ""
        everything = self._all_hits(attempt, change, self._session.store.tree_of(attempt.commit))
        before = {file.path: (file.old_id, file.new_id) for file in change.files}
        moved = [file.path for file in landing.files if before.get(file.path) != (file.old_id, file.new_id)]
        lines = tuple(f"{path}: changed by others since the approval" for path in moved)
        hits = [Hit(hit.rule, hit.level, hit.reason, hit.needs, (*lines, *hit.lines)) for hit in everything]
        return self.uncleared(hits, now), now

    def approvals_of(self, attempt: Attempt, change: Change) -> tuple[ApprovedBy, ...]:
        """Return who approved which rule, when and why, for the landing commit; empty without approvals."""
        bound = identity_of(self._run.store, attempt, change)
        found = self._run.view.approvals.get(self._issue.id, ())
        return tuple(
            ApprovedBy(item.who, rule, item.when, item.why)
            for item in found
            for rule in item.rules
            if consent(bound, rule) in item.tokens
        )

    def record_stop(self, hits: Sequence[Hit], *, attempt: int, bound: str) -> None:
        """Journal a stop; it is hard if one of its rules is hard."""
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
            spec_key=self._issue.spec_key,
            attempt=attempt,
            bound=bound,
        )
        self._run.record(event, self._issue.id)

    def without_secrets(self, base: str, tree: str) -> tuple[str, list[str]]:
        """Return a tree without the secret values that agents received, and the places of those values.

        A file is left out completely if its name contains a value, or if a value cannot be removed from it.
        """
        store, values = self._session.store, self._session.known_secrets
        rule = next((rule for rule in self._session.policy.stops if rule.id == KNOWN_SECRET), None)
        off = rule is None or not rule.enabled or KNOWN_SECRET in self._issue.declared.allow
        if off or not values or not tree or tree == base:
            return tree, []
        change = parse_diff(store.diff(base, tree))
        found = list(known_secrets(change.files, contents_of(self._run.store, base, tree), values))
        if not found:
            return tree, []
        names = dict.fromkeys(path for path, _, _ in found)
        contents = {path: blotted(store.blob(tree, path) or b"", values) for path in names}
        with self._run.pool.slot() as slot:
            cleaned = store.with_contents(tree, contents, slot.scratch)
            rest = known_secrets(
                parse_diff(store.diff(base, cleaned)).files, contents_of(self._run.store, base, cleaned), values
            )
            gone = dict.fromkeys((path for path, _, _ in rest), None)
            cleaned = store.with_contents(cleaned, gone, slot.scratch) if gone else cleaned
        places = [(self._session.redaction.redact_value(path), number, what) for path, number, what in found]
        return cleaned, [f"{path}:{number}: {what}" if number else f"{path}: {what}" for path, number, what in places]

    def _all_hits(self, attempt: Attempt, change: Change, tree: str) -> list[Hit]:
        issue, base = self._issue.declared, _base_of(self._run.store, attempt)
        items = self._issue.proofs.items
        paths = self._session.store.paths(base)
        content = contents_of(self._run.store, base, tree)
        found: list[Hit] = []
        for part in parts_of_change(change, self._run.project.prefix, paths, issue.files):
            view = View(
                files=(),
                content=_content_of(part, content),
                base=part.base(paths),
                commands=[item.argv for item in items if isinstance(item, CommandProof)],
                secrets=find_secrets,
                values=self._session.known_secrets,
                declared=part.declared,
                kind=issue.type,
                proved=self._session.policy.proves(issue),
            )
            hits = stops_of(part.change, self._session.policy.stops, self.allowed_rules(), view)
            found += [replace(hit, lines=tuple(part.inside(line) for line in hit.lines)) for hit in hits]
        found.sort(key=lambda hit: hit.level != "hard")
        return found + self._run.sandboxing.unsandboxed(self._issue.declared, attempt)


def _content_of(part: Part, content: Callable[[str, bool], bytes | None]) -> Callable[[str, bool], bytes | None]:
    return lambda path, new: content(part.inside(path), new)


def identity_of(store: Store, attempt: Attempt, change: Change, tree: str = "") -> str:
    """Return the identity that an approval of an attempt's change is bound to."""
    return change_identity(change, contents_of(store, _base_of(store, attempt), tree or store.tree_of(attempt.commit)))


def contents_of(store: Store, base: str, tree: str) -> Callable[[str, bool], bytes | None]:
    """Return a function that reads files before (False) and after (True) a change from one tree to another."""

    def content(path: str, new: bool) -> bytes | None:  # noqa: FBT001  (the shape of the rules)
        return store.blob(tree if new else base, path)

    return content


def _base_of(store: Store, attempt: Attempt) -> str:

    return store.tree_of(attempt.base or store.parent_of(attempt.commit))


_MOST_FINDINGS = 200  # findings; bounds a hostile findings.json
_DIFF = 200_000  # characters; some 50,000 tokens leave room for the spec in every reviewer's context


@dataclass(frozen=True, slots=True)
class ReviewFinding:
    """One finding of a reviewer; `score` is 0 to 100."""

    description: str
    score: int
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Rests:
    """A review that waits until the account of the reviewer is used again."""

    reason: str


class Reviews:
    """Has the changes of one issue reviewed."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def objection_to(self, attempt: Attempt, tree: str, logs: Path) -> Objection | Rests | None:
        """Have the route's reviewer read the change; object if a finding reaches the threshold or the review fails.

        A reviewer whose account rests is no objection: the result is kept and the review is done later.
        """
        issue = self._issue.declared
        route = self._session.policy.route_of(issue)
        facts = self._issue.facts
        if route.reviewer is None:
            return None
        store = self._session.store
        bound = identity_of(self._run.store, attempt, parse_diff(store.diff(f"{attempt.commit}^", attempt.commit)))
        if FINDINGS in issue.allow or cleared(bound, (FINDINGS,), facts.approved):
            return None
        found = self._findings(self._session.policy.agents[route.reviewer], attempt, tree, logs)
        if isinstance(found, Rests):
            return found
        findings, problem = found
        grave = [item for item in findings if item.score >= route.threshold]
        if not grave and not problem:
            return None
        lines = tuple(f"{item.file}:{item.line}: {item.description} (score {item.score})" for item in grave)
        count = (
            f"{len(grave)} finding{'s' if len(grave) > 1 else ''} of {route.threshold} or more: {lines[0]}"
            if grave
            else ""
        )
        hit = Hit(FINDINGS, "hard", problem or count, "fix the findings and retry, or approve the change", lines)
        return Objection((hit,), bound)

    def _findings(
        self, agent: Agent, attempt: Attempt, tree: str, logs: Path
    ) -> tuple[list[ReviewFinding], str] | Rests:
        """Return the reviewer's findings, cached for the same change on the same tree; or why they are unknown."""
        key = combined_key([attempt.result_key, digest(repr((agent.name, agent.command)).encode())])
        known = self._session.verdicts.find(tree, key)
        if known is not None and known.ok:
            return read_findings(known.detail.encode()), ""
        asked = self._ask(agent, attempt, tree, logs)
        if isinstance(asked, Rests):
            return asked
        data, problem, seconds = asked
        if problem:
            return [], problem
        try:
            findings = read_findings(data)
        except ValueError as error:
            return [], f"reviewer {agent.name}: {error}"
        verdict = Verdict(ok=True, reason="", detail=data.decode(), seconds=seconds, run=self._session.run_id)
        self._session.verdicts.keep(tree, key, verdict)
        shown = tuple(
            {"description": i.description, "score": i.score, "file": i.file, "line": i.line} for i in findings[:50]
        )
        criteria = tuple(map(asdict, self._criteria(logs / "review" / "out")))
        event = Reviewed(attempt=attempt.number, reviewer=agent.name, findings=shown, criteria=criteria)
        self._run.record(event, self._issue.id)
        return findings, ""

    def _criteria(self, out: Path) -> list[Criterion]:
        """Return the reviewer's verdicts on the criteria in words."""
        declared = [item.text for item in self._issue.declared.accept if isinstance(item, Claim)]
        data = left_file(out, "criteria.json") if declared else b""
        return read_criteria(self._session.redaction.redact(data), declared) if isinstance(data, bytes) else []

    def _ask(self, agent: Agent, attempt: Attempt, tree: str, logs: Path) -> tuple[bytes, str, float] | Rests:
        wait = self._run.accounts.review_wait(agent.name)
        if wait is not None:
            self._session.observer.changed(self._issue.ref)
            return Rests(wait.reason)
        issue, store = self._issue.declared, self._session.store
        diff = store.diff(attempt.base or store.parent_of(attempt.commit), attempt.commit).decode("utf-8", "replace")
        route = self._session.policy.routes.get(REVIEW)
        spec = self._issue.spec["text"]
        text = review_brief(issue, spec, most_useful(diff, _DIFF), route.focus if route else "")
        question = Question(issue.id, attempt.number, tree, text, logs / "review", "findings.json")
        answered = Reviewers(self._run, self._run.agents, self._run.sandboxing).ask(agent, question)
        if answered.rests:
            return Rests(answered.problem)
        if answered.problem:
            return b"", f"reviewer: {answered.problem}", answered.seconds
        data, problem = _answer(question.out / question.answer, agent.name)
        return self._session.redaction.redact(data), problem, answered.seconds


def read_findings(data: bytes) -> list[ReviewFinding]:
    """Read a reviewer's findings.json: ``[{"description", "score", "file", "line"}]``.

    Raises:
        ValueError: the file has another form; the message is one sentence.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("findings.json is not JSON") from error
    if not isinstance(value, list) or len(value) > _MOST_FINDINGS:
        raise ValueError(f"findings.json is not a list of at most {_MOST_FINDINGS} findings")
    return [_finding(item, place) for place, item in enumerate(value)]


def read_criteria(data: bytes, declared: Sequence[str]) -> list[Criterion]:
    """Read a reviewer's criteria.json: ``[{"criterion", "met", "evidence"}]``.

    Entries about undeclared criteria and unreadable entries are ignored.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return []
    known = {one_line(text): text for text in declared}
    found = {}
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict) and isinstance(item.get("met"), bool):
            text = known.get(one_line(str(item.get("criterion", ""))))
            if text is not None:
                evidence = one_line(str(item.get("evidence", "")))[:300]
                found[text] = Criterion(text, item["met"], evidence)
    return list(found.values())


def _finding(item: Any, place: int) -> ReviewFinding:
    if not isinstance(item, dict) or not isinstance(item.get("description"), str):
        raise ValueError(f"findings.json[{place}] has no description")  # noqa: TRY004  (bad data, not a bad call)
    score, line = item.get("score"), item.get("line", 0)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 100:  # noqa: PLR2004
        raise ValueError(f"findings.json[{place}] has no score from 0 to 100")
    place_in_file = line if isinstance(line, int) and not isinstance(line, bool) else 0
    return ReviewFinding(
        one_line(item["description"])[:500], int(score), one_line(str(item.get("file", "")))[:300], place_in_file
    )


def _answer(path: Path, name: str) -> tuple[bytes, str]:
    data = left_file(path.parent, path.name)
    if isinstance(data, bytes):
        return data, ""
    return b"", f"findings.json of reviewer {name} {data}; an empty list says that nothing was found"
