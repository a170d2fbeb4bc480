"""Faults of a user's table, translated from pydantic. Pure.

Reads tables of merged rules into models and reports all faults at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from executor.errors import Fault
from executor.model.hints import Known, dotted, expected, found, quoted
from executor.model.milestone import Claim, FileCheck, Milestone, RunCheck

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["declared", "model_faults", "named", "single"]


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
    """Return the valid keys beside the one at a position."""
    kinds: dict[str | int, type[BaseModel]] = {"run": RunCheck, "file": FileCheck, "text": Claim}
    if "accept" in loc[:-1]:
        model = kinds.get(loc[-2], model)
    hidden = {"issues", "phases"} if model is Milestone else set()
    return [field.alias or name for name, field in model.model_fields.items() if name not in hidden]


_M = TypeVar("_M", bound=BaseModel)


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
