"""Steps, answers and other marks in git, read from refs and the trailers of their commits.

Milestones that a person paused, as git keeps it without `.cache/`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from executor.state.steps import StepRecord
from executor.status.milestone_status import Pause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.git.refs import Kept, Refs

__all__ = [
    "PAUSED",
    "Answer",
    "Approval",
    "answers_in",
    "answers_trailer",
    "approvals_in",
    "approvals_trailer",
    "pause_in",
    "pause_of",
    "step_in",
    "step_trailers",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """A question of an agent's and what a person answered."""

    question: str
    answer: str


def answers_in(kept: Kept) -> tuple[Answer, ...]:
    """The answers that a ref keeps, oldest first."""
    found = _json(kept.trailers.get("Answers", ""))
    items = found if isinstance(found, list) else []
    return tuple(Answer(str(item["question"]), str(item["answer"])) for item in items if _is_answer(item))


def answers_trailer(answers: Iterable[Answer]) -> str:
    """The same as one line of a commit's message."""
    value = [{"question": item.question, "answer": item.answer} for item in answers]
    return f"Answers: {json.dumps(value, ensure_ascii=True)}"


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval by a person.

    Attributes:
        rules: the rules that were shown.
        tokens: the consents that were given (`executor.model.fingerprint.consent`).
        who: name and mail address.
        when: ISO-8601 time.
        why: the reason that was given.
    """

    rules: tuple[str, ...]
    tokens: tuple[str, ...]
    who: str
    when: str
    why: str


def approvals_in(kept: Kept) -> tuple[Approval, ...]:
    """The approvals that a ref keeps, oldest first."""
    found = _json(kept.trailers.get("Approvals", ""))
    return tuple(
        Approval(
            tuple(map(str, item.get("rules", ()))),
            tuple(map(str, item.get("tokens", ()))),
            str(item.get("who", "")),
            str(item.get("when", "")),
            str(item.get("why", "")),
        )
        for item in (found if isinstance(found, list) else [])
        if isinstance(item, dict)
    )


def approvals_trailer(approvals: Iterable[Approval]) -> str:
    """The same as one line of a commit's message."""
    return f"Approvals: {json.dumps([asdict(item) for item in approvals], ensure_ascii=True)}"


def step_in(kept: Kept) -> StepRecord | None:
    """The result of a step that a ref keeps; None when its commit says something else."""
    told = kept.trailers
    files = _json(told.get("Files", "{}"))
    try:
        return StepRecord(
            step=told["Step"],
            commit=kept.commit,
            key=told["Step-Key"],
            spec_key=told["Spec-Key"],
            revision=int(told["Revision"]),
            attempt=int(told["Attempt"]),
            base=told["Base"],
            tree=told.get("Tree", ""),
            files={str(name): str(key) for name, key in files.items()},
            seconds=float(told.get("Seconds", "0")),
        )
    except (KeyError, ValueError, AttributeError):
        return None


def step_trailers(record: StepRecord) -> str:
    """The same as lines of a commit's message."""
    lines = [
        f"Step: {record.step}",
        f"Step-Key: {record.key}",
        f"Spec-Key: {record.spec_key}",
        f"Revision: {record.revision}",
        f"Attempt: {record.attempt}",
        f"Base: {record.base}",
        f"Files: {json.dumps(dict(record.files), ensure_ascii=True, sort_keys=True)}",
        f"Seconds: {record.seconds}",
    ]
    return "\n".join([*lines, f"Tree: {record.tree}"] if record.tree else lines)


def _is_answer(item: Any) -> bool:
    return isinstance(item, dict) and {"question", "answer"} <= item.keys()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


PAUSED = "refs/executor/paused"
"""A milestone that a person paused: `<milestone>` below this."""


def pause_of(refs: Refs, milestone: str) -> Pause | None:
    """The pause of one milestone, if it is paused."""
    return next(map(pause_in, refs.kept(f"{PAUSED}/{milestone}")), None)


def pause_in(kept: Kept) -> Pause:
    """The pause that a ref below `PAUSED` is."""
    return Pause(kept.trailers.get("Since", ""), kept.trailers.get("Reason", ""))
