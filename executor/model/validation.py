"""Faults of a user's table, translated from pydantic, and tables that another program wrote. Pure.

Reads tables of merged rules into models and reports all faults at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from executor.errors import Fault
from executor.model.hints import Known, dotted, expected, found, quoted
from executor.model.milestone import Claim, FileCheck, Milestone, RunCheck

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["Received", "UnreadableError", "declared", "json_of", "model_faults", "named", "received", "single"]


_T = TypeVar("_T")
_M = TypeVar("_M", bound=BaseModel)


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


def declared(value: Mapping[str, Mapping[str, Any]], stem: str, word: str) -> Mapping[str, object]:
    """Return the tables ``[word.NAME]`` of one file, faulty or not, so a faulty one is not reported as unknown."""
    tables = value.get(stem, {}).get(word, {})
    return tables if isinstance(tables, Mapping) else {}


def named(
    value: Mapping[str, Mapping[str, Any]], stem: str, word: str, model: type[_M], place: str, faults: list[Fault]
) -> dict[str, _M]:
    """Read the tables ``[word.NAME]`` of one file."""
    file = f"{place}/{stem}.toml"
    document = value.get(stem, {})
    hint = Known([word])
    faults += (
        Fault(file, "", f"unknown key {quoted(key)}{hint.advice(key, 'keys')}") for key in document if key != word
    )
    tables = document.get(word, {})
    if not isinstance(tables, Mapping):
        faults.append(Fault(file, word, f"expected tables [{word}.NAME], found {found(tables)}"))
        return {}
    read: dict[str, _M] = {}
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            faults.append(Fault(file, f"{word}.{name}", f"expected a table, found {found(table)}"))
            continue
        key = next((key for key in ("name", "id") if key in model.model_fields), None)
        given = {**table, key: name} if key else dict(table)
        try:
            read[name] = model.model_validate(given)
        except ValidationError as error:
            faults += model_faults(error, model, file, [word, name])
    return read


def single(
    value: Mapping[str, Mapping[str, Any]], stem: str, model: type[_M], place: str, faults: list[Fault]
) -> _M | None:
    """Read a file that is a single table."""
    try:
        return model.model_validate(dict(value.get(stem, {})))
    except ValidationError as error:
        faults += model_faults(error, model, f"{place}/{stem}.toml", [])
        return None
