"""What a gate says: declared criteria looked for in files, by code. Exact: 74 % and 75 % are not the same. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from executor.model.milestone import Claim, FileCheck, RunCheck
from executor.model.workflow import TREE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.model.milestone import Issue
    from executor.model.workflow import Criterion, Gate

__all__ = ["Score", "criteria_texts", "has_section", "score"]

_MOST_CHARACTERS = 2_000_000
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")


@dataclass(frozen=True, slots=True)
class Score:
    """What came out.

    Attributes:
        share: how much of the criteria is met, by weight, 0 to 1.
        missing: what is missing, by the step that would have to bring it; empty name: any.
    """

    share: Fraction
    missing: Mapping[str, tuple[str, ...]]

    @property
    def percent(self) -> int:
        """In whole per cent, rounded down."""
        return int(self.share * 100)

    def opens(self, gate: Gate) -> bool:
        """Whether it is enough."""
        return self.share * 100 >= gate.threshold

    def told(self) -> str:
        """What is missing, as one sentence; empty when nothing is."""
        texts = [text for own in self.missing.values() for text in own]
        more = len(texts) - 3
        return "; ".join(texts[:3]) + (f"; and {more} more" if more > 0 else "")


def score(gate: Gate, files: Mapping[str, bytes], criteria: Sequence[str]) -> Score:
    """Look for everything that a gate declares.

    Args:
        gate: what is declared.
        files: content of the files it names; those that are not there are left out.
        criteria: the issue's acceptance criteria, for `covers`.
    """
    whole = earned = Fraction(0)
    missing: dict[str, list[str]] = {}
    for criterion in gate.criteria.values():
        parts = _parts(criterion, files.get(criterion.file), criteria)
        whole += criterion.weight
        earned += Fraction(sum(not problem for problem in parts), len(parts)) * criterion.weight
        step = "" if criterion.file.startswith(TREE) else criterion.file.partition("/")[0]
        own = [problem for problem in parts if problem]
        if own:
            missing.setdefault(step, []).extend(own)
    share = earned / whole if whole else Fraction(1)
    return Score(share, {step: tuple(texts) for step, texts in missing.items()})


def criteria_texts(issue: Issue) -> tuple[str, ...]:
    """The issue's acceptance criteria in the words by which they are recognised."""
    texts = []
    for item in issue.accept:
        match item:
            case Claim():
                texts.append(item.text)
            case RunCheck():
                texts.append(item.run)
            case FileCheck():
                texts.append(item.file)
    return tuple(texts)


def has_section(text: str, heading: str) -> bool:
    """Whether a Markdown text has a heading of these words, whatever its level and case, with text below it.

    The heading may go on after the words; what stands in a fenced block is not a heading.
    """
    wanted = _plain(heading)
    depth, fence, inside = 0, "", False
    for line in text.splitlines():
        fenced = _FENCE.match(line)
        if fence:
            fence = "" if fenced and fenced[1].startswith(fence) else fence
        elif fenced:
            fence = fenced[1]
        elif found := _HEADING.match(line):
            level = len(found[1])
            if inside and level <= depth:
                inside = False
            if not inside and _begins(_plain(found[2]), wanted):
                inside, depth = True, level
            continue
        if inside and line.strip():
            return True
    return False


def _begins(title: str, wanted: str) -> bool:
    return title == wanted or title.startswith((f"{wanted} ", f"{wanted}:"))


def _parts(criterion: Criterion, data: bytes | None, criteria: Sequence[str]) -> list[str]:
    """One entry for each part of a criterion: empty when it is met, else what is missing."""
    name = criterion.file
    names = [f"the key {key}" for key in criterion.keys]
    names += [f'the section "{section}"' for section in criterion.sections]
    names += [f"what matches {criterion.contains}"] if criterion.contains else []
    names += [f'the criterion "{text}"' for text in criteria] if criterion.covers else []
    text = (data or b"").decode("utf-8", "replace")[:_MOST_CHARACTERS]
    if not text.strip():
        return [f"{name} is missing or empty"] * max(1, len(names))
    value = _json(text) if criterion.keys else None
    met = [_has_key(value, key) for key in criterion.keys]
    met += [has_section(text, section) for section in criterion.sections]
    met += [re.search(criterion.contains, text) is not None] if criterion.contains else []
    if criterion.covers:
        plain = _plain(text) + " " + _plain(json.dumps(value or _json(text), ensure_ascii=False))
        met += [_plain(item) in plain for item in criteria]
    return ["" if there else f"{name} lacks {what}" for what, there in zip(names, met, strict=True)] or [""]


def _has_key(value: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return value not in (None, "", [], {})


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain(text: str) -> str:
    return " ".join(text.replace("\\", "").replace("`", "").replace("*", "").split()).casefold()
