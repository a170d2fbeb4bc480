"""Faults of a user's table, translated from pydantic, and tables that another program wrote. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from executor.errors import Fault
from executor.model.hints import dotted, expected, found
from executor.model.milestone import Claim, FileCheck, Milestone, RunCheck

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["Received", "UnreadableError", "json_of", "model_faults", "received"]


_T = TypeVar("_T")


def model_faults(error: ValidationError, model: type[BaseModel], file: str, place: Sequence[str | int]) -> list[Fault]:
    """Return the faults of one table as sentences.

    Args:
        error: pydantic's error.
        model: the model of that table, for its valid keys.
        file: path for messages.
        place: position of the table in the file.
    """
    faults = []
    for item in error.errors(include_url=False):
        loc = _without_tags(item["loc"])
        known = _keys_at(model, item["loc"])
        key = loc[:-1] if item["type"] == "extra_forbidden" else loc
        faults.append(Fault(file, dotted([*place, *key]), expected(item, known)))
    return faults


def _without_tags(loc: Sequence[str | int]) -> list[str | int]:
    """Return a position without pydantic's tags for the kinds of acceptance criteria."""
    out: list[str | int] = []
    for place, part in enumerate(loc):
        tag = place > 1 and isinstance(loc[place - 1], int) and loc[place - 2] == "accept"
        if not (tag and part in {"text", "run", "file"}):
            out.append(part)
    if len(out) > 2 and out[-3] == "accept" and out[-1] == "text":  # noqa: PLR2004  (the item of a list is its text)
        out.pop()
    return out


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the other valid keys at a position."""
    kinds: dict[str | int, type[BaseModel]] = {"run": RunCheck, "file": FileCheck, "text": Claim}
    if "accept" in loc[:-1]:
        model = kinds.get(loc[-2], model)
    hidden = {"issues", "phases"} if model is Milestone else set()
    return [field.alias or name for name, field in model.model_fields.items() if name not in hidden]


class Received(BaseModel):
    """A table that another program wrote, for example a forge.

    Unknown keys are ignored, because it may gain some at any time. A key with a default may be absent or null.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_absent(cls, value: Any) -> Any:
        """Drop null where a key has a default; a required key that is absent is null, so its type is in the message."""
        if not isinstance(value, dict):
            return value
        needed = {name: value.get(name) for name, field in cls.model_fields.items() if field.is_required()}
        return {key: item for key, item in value.items() if item is not None} | needed


class UnreadableError(ValueError):
    """A value that another program wrote has another shape; the message names the place, the expected and the found."""


def received(value: Any, kind: type[_T], inside: str = "") -> _T:
    """Read JSON that another program wrote.

    Args:
        value: the JSON.
        kind: its type, for example a `Received` or a list of them.
        inside: key that holds the value, for the message; empty for the whole answer.

    Raises:
        UnreadableError: the value has another shape.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        # The words for a user's list have an example of TOML, which says nothing about an answer.
        wrong = f"expected a list, found {found(first['input'])}" if first["type"] == "list_type" else expected(first)
        place = dotted((*filter(None, [inside]), *first["loc"])) or "the whole"
        raise UnreadableError(f"{place}: {wrong}") from error


_HALF = "\\ud"
"""Prefix of the JSON escape of a lone surrogate."""


def json_of(text: Any) -> Any:
    """Parse JSON from another program, so that all its texts can be encoded; None if it is invalid."""
    try:
        value = json.loads(text) if text else None
        return _whole(value) if text and _HALF in text.lower() else value
    except (TypeError, ValueError, RecursionError):
        return None


def _whole(value: Any) -> Any:
    """Return the value without lone surrogates."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case list():
            return [_whole(item) for item in value]
        case dict():
            return {_whole(key): _whole(item) for key, item in value.items()}
    return value
