"""Tables of merged rules read into models, every fault at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from executor.core.hints import Known, found, quoted
from executor.core.model_faults import model_faults
from executor.errors import Fault

__all__ = ["declared", "named", "single"]

_M = TypeVar("_M", bound=BaseModel)


def declared(value: Mapping[str, Mapping[str, Any]], stem: str, word: str) -> Mapping[str, object]:
    """The tables ``[word.NAME]`` of one file, faulty or not, so that nobody is told that a faulty one is unknown."""
    tables = value.get(stem, {}).get(word, {})
    return tables if isinstance(tables, Mapping) else {}


def named(
    value: Mapping[str, Mapping[str, Any]], stem: str, word: str, model: type[_M], place: str, faults: list[Fault]
) -> dict[str, _M]:
    """The tables ``[word.NAME]`` of one file."""
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
    """A file that is one table."""
    try:
        return model.model_validate(dict(value.get(stem, {})))
    except ValidationError as error:
        faults += model_faults(error, model, f"{place}/{stem}.toml", [])
        return None
