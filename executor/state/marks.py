"""Trailers of the commits below the executor's refs: steps, handoffs, pauses, local pull requests, decisions.

`executor.git.trailers` encodes and decodes them; the functions read them from a ref. Add a key here first; keys of
older commits stay readable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executor.git.trailers import count, decode, exact, flag, json_value, number, text, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.git.refs import Kept

__all__ = [
    "AcceptedTrailers",
    "Answer",
    "AnswersTrailers",
    "Approval",
    "ApprovedTrailers",
    "BranchTrailers",
    "HandoffTrailers",
    "PausedTrailers",
    "PullTrailers",
    "RevivedTrailers",
    "StepTrailers",
    "answers_in",
    "approved_in",
]


def _texts(found: Any) -> dict[str, str]:
    """Return a table of texts.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(found, dict):
        raise ValueError("expected a table")  # noqa: TRY004  (the codec's one kind of exception)
    return {str(name): str(value) for name, value in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTrailers:
    """The result of a step; `files` are its outputs with their keys, `tree` is empty for a step that keeps none."""

    milestone: str = text("Milestone", "")
    issue: str = text("Issue", "")
    step: str = text("Step")
    key: str = text("Step-Key")
    spec_key: str = text("Spec-Key")
    revision: int = number("Revision")
    attempt: int = number("Attempt")
    base: str = text("Base")
    files: Mapping[str, str] = json_value("Files", _texts)
    seconds: float = number("Seconds", kind=float)
    tree: str = text("Tree", "")


@dataclass(frozen=True, slots=True)
class HandoffTrailers:
    """A handoff of an issue to later ones."""

    milestone: str = text("Milestone")
    issue: str = text("Issue")
    spec_key: str = text("Spec-Key")


@dataclass(frozen=True, slots=True)
class AcceptedTrailers:
    """A person's acceptance of landed work under other specs."""

    milestone: str = text("Milestone", "")
    issue: str = text("Issue", "")
    landing: str = text("Landing", "")
    spec_keys: tuple[str, ...] = words("Spec-Key", ())


@dataclass(frozen=True, slots=True)
class RevivedTrailers:
    """A person's request for reverted work; `reverts` are the reverting commits."""

    ref: str = text("Issue-Ref", "")
    reverts: tuple[str, ...] = words("Revert", ())


@dataclass(frozen=True, slots=True)
class BranchTrailers:
    """The branch of a milestone, and the commit at which it started."""

    milestone: str = text("Milestone-Id", "")
    branch: str = exact("Branch", "")
    began: str = text("Began", "")


@dataclass(frozen=True, slots=True)
class PausedTrailers:
    """The pause of a milestone by a person: time (ISO-8601) and reason."""

    milestone: str = text("Milestone", "")
    since: str = text("Since", "")
    reason: str = text("Reason", "")


@dataclass(frozen=True, slots=True)
class PullTrailers:
    """A local pull request: the part of its record that is neither title nor text."""

    number: int = number("Pull-Request")
    state: str = text("State")
    draft: bool = flag("Draft")
    head: str = exact("Head")
    base: str = exact("Base")
    commit: str = text("Commit")
    merge: str = text("Merge", "")
    labels: tuple[str, ...] = words("Labels", (), ", ")


@dataclass(frozen=True, slots=True)
class Answer:
    """A question of an agent and a person's answer."""

    question: str
    answer: str

    @classmethod
    def read(cls, found: Any) -> tuple[Answer, ...]:
        """Return the answers in a JSON value; ignores other parts."""
        items = found if isinstance(found, list) else []
        records = (item for item in items if isinstance(item, dict) and {"question", "answer"} <= item.keys())
        return tuple(cls(str(item["question"]), str(item["answer"])) for item in records)


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval by a person.

    Attributes:
        rules: the rules that were shown.
        tokens: the consents (`executor.model.fingerprint.consent`).
        who: name and mail address.
        when: ISO-8601 time.
        why: the given reason.
    """

    rules: tuple[str, ...]
    tokens: tuple[str, ...]
    who: str
    when: str
    why: str

    @classmethod
    def read(cls, found: Any) -> tuple[Approval, ...]:
        """Return the approvals in a JSON value; ignores other parts."""
        return tuple(
            cls(
                tuple(map(str, item.get("rules", ()))),
                tuple(map(str, item.get("tokens", ()))),
                str(item.get("who", "")),
                str(item.get("when", "")),
                str(item.get("why", "")),
            )
            for item in (found if isinstance(found, list) else [])
            if isinstance(item, dict)
        )


@dataclass(frozen=True, slots=True)
class AnswersTrailers:
    """The answers to the questions of an issue so far, oldest first."""

    milestone: str = text("Milestone", "")
    issue: str = text("Issue", "")
    attempt: int = count("Attempt")
    answers: tuple[Answer, ...] = json_value("Answers", Answer.read, ())


@dataclass(frozen=True, slots=True)
class ApprovedTrailers:
    """The approvals of an issue's changes so far, oldest first; `tokens` are their consents."""

    milestone: str = text("Milestone", "")
    issue: str = text("Issue", "")
    rule: str = text("Rule", "")
    tokens: tuple[str, ...] = words("Approved", ())
    approvals: tuple[Approval, ...] = json_value("Approvals", Approval.read, ())


def answers_in(kept: Kept) -> tuple[Answer, ...]:
    """Return the answers that a ref stores, oldest first."""
    found = decode(AnswersTrailers, {"Answers": kept.trailers.get("Answers", "")})
    return found.answers if found is not None else ()


def approved_in(kept: Kept) -> ApprovedTrailers:
    """Return the approvals that a ref stores."""
    return decode(ApprovedTrailers, kept.trailers) or ApprovedTrailers()
