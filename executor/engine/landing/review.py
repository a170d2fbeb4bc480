"""Review: an optional agent reads the change and may stop the landing. It can never cause one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from executor.agents.brief import most_useful, review_brief
from executor.agents.reviewer import REVIEW, Question
from executor.checks.verdicts import Verdict
from executor.engine.landing.change_rules import Objection, identity_of
from executor.git.diff import parse_diff
from executor.git.trailers import one_line
from executor.model.fingerprint import cleared, combined_key, digest
from executor.model.milestone import Claim
from executor.process.files import left_file
from executor.state.events import Reviewed
from executor.state.model import FINDINGS, Criterion
from executor.stop_rules.evaluate import Hit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.engine.issue import IssueRun
    from executor.model.agent_profile import Agent
    from executor.state.model import Attempt

__all__ = ["Rests", "ReviewFinding", "Reviews", "read_criteria", "read_findings"]

_MOST_BYTES = 1024 * 1024
_MOST_FINDINGS = 200
_DIFF = 200_000


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
        hit = Hit(
            FINDINGS, "hard", problem or count, "repair what was found and retry, or approve of it as it is", lines
        )
        return Objection((hit,), bound)

    def _findings(
        self, agent: Agent, attempt: Attempt, tree: str, logs: Path
    ) -> tuple[list[ReviewFinding], str] | Rests:
        """Return the reviewer's findings, cached for the same change on the same tree; or why they are unknown."""
        key = combined_key([attempt.result_key, digest(repr((agent.name, agent.command)).encode())])
        known = self._session.verdicts.find(tree, key)
        if known is not None and known.ok:
            return read_findings(known.detail.encode()), ""
        asked = self._asked(agent, attempt, tree, logs)
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

    def _asked(self, agent: Agent, attempt: Attempt, tree: str, logs: Path) -> tuple[bytes, str, float] | Rests:
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
        answered = self._run.reviewers.ask(agent, question)
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
