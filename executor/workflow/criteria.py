"""Scores declared criteria of a gate in files. Exact: 74 % is less than 75 %. Pure."""

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
    """The score.

    Attributes:
        share: how much of the criteria is met, by weight, 0 to 1.
        missing: missing parts by the step that has to supply them; empty name: any.
    """

    share: Fraction
    missing: Mapping[str, tuple[str, ...]]

    @property
    def percent(self) -> int:
        """In whole per cent, rounded down."""
        return int(self.share * 100)

    def opens(self, gate: Gate) -> bool:
        """Whether the score reaches the threshold."""
        return self.share * 100 >= gate.threshold

    def told(self) -> str:
        """The missing parts as one sentence; empty for none."""
        texts = [text for own in self.missing.values() for text in own]
        more = len(texts) - 3
        return "; ".join(texts[:3]) + (f"; and {more} more" if more > 0 else "")


def score(gate: Gate, files: Mapping[str, bytes], criteria: Sequence[str]) -> Score:
    """Score all criteria of a gate.

    Args:
        gate: its declaration.
        files: content of its files; missing ones are left out.
        criteria: the issue's acceptance criteria, for `covers`.
    """
    whole = earned = Fraction(0)
    missing: dict[str, list[str]] = {}
    for criterion in gate.criteria.values():
        parts = _parts(criterion, files.get(criterion.file), criteria)
        whole += criterion.weight
        earned += Fraction(sum(not problem for problem in parts), len(parts)) * criterion.weight
        step = "" if criterion.file.startswith(TREE) else criterion.file.partition("/")[0]
        own = list(dict.fromkeys(problem for problem in parts if problem))
        if own:
            missing.setdefault(step, []).extend(own)
    share = earned / whole if whole else Fraction(1)
    return Score(share, {step: tuple(dict.fromkeys(texts)) for step, texts in missing.items()})


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
    """One entry for each part of a criterion: empty when the part is met, else the reason why it is not.

    A fault of the whole file (it is missing, it is not JSON) stands for every part that it spoils, in the same words.
    """
    name = criterion.file
    text = (data or b"").decode("utf-8", "replace")[:_MOST_CHARACTERS]
    if not text.strip():
        fault = f"{name} is {'missing' if data is None else 'empty'}"
        count = len(criterion.keys) + len(criterion.sections) + bool(criterion.contains)
        count += len(criteria) if criterion.covers else 0
        return [fault] * max(1, count)
    parts = _key_parts(name, text, criterion.keys) if criterion.keys else []
    parts += [
        "" if has_section(text, section) else f'{name} lacks the section "{section}" with text below it'
        for section in criterion.sections
    ]
    if criterion.contains:
        parts.append("" if re.search(criterion.contains, text) else f"{name} lacks what matches {criterion.contains}")
    if criterion.covers:
        plain = _plain(text) + " " + _plain(json.dumps(_json(text), ensure_ascii=False))
        parts += ["" if _plain(item) in plain else f'{name} lacks the criterion "{item}"' for item in criteria]
    return parts or [""]


def _key_parts(name: str, text: str, keys: Sequence[str]) -> list[str]:
    """One entry for each key that a JSON file has to have."""
    try:
        value = json.loads(text)
    except RecursionError:
        return [f"{name} is nested too deeply"] * len(keys)
    except ValueError as error:
        return [f"{name} is not JSON: {error}"] * len(keys)
    if not isinstance(value, dict):
        return [f"{name} holds {_kind(value)} where an object with the keys {', '.join(keys)} is expected"] * len(keys)
    return [_key_fault(name, value, key) for key in keys]


def _key_fault(name: str, value: Any, key: str) -> str:
    """Why a key does not count; empty when it does. An empty list or object is a value; "" and null are none."""
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return f"{name} lacks the key {key}"
        value = value[part]
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"{name} has no value for the key {key}: it is {'null' if value is None else 'an empty text'}"
    return ""


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain(text: str) -> str:
    return " ".join(text.replace("\\", "").replace("`", "").replace("*", "").split()).casefold()
