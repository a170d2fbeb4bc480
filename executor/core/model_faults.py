"""What is wrong with one table of a user's, as its model finds it, told as faults of ours. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.core.declaration import Claim, FileCheck, Milestone, RunCheck
from executor.core.hints import dotted, expected
from executor.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel, ValidationError

__all__ = ["model_faults"]


def model_faults(error: ValidationError, model: type[BaseModel], file: str, place: Sequence[str | int]) -> list[Fault]:
    """The faults of one table, as sentences of ours.

    Args:
        error: what pydantic found.
        model: the model of that table, for the keys that could have stood there.
        file: path for messages.
        place: where the table is in the file.
    """
    faults = []
    for item in error.errors(include_url=False):
        loc = _without_tags(item["loc"])
        known = _keys_at(model, item["loc"])
        key = loc[:-1] if item["type"] == "extra_forbidden" else loc
        faults.append(Fault(file, dotted([*place, *key]), expected(item, known)))
    return faults


def _without_tags(loc: Sequence[str | int]) -> list[str | int]:
    """A place without the tags that pydantic adds for the kinds of acceptance criteria."""
    out: list[str | int] = []
    for place, part in enumerate(loc):
        tag = place > 1 and isinstance(loc[place - 1], int) and loc[place - 2] == "accept"
        if not (tag and part in {"text", "run", "file"}):
            out.append(part)
    if len(out) > 2 and out[-3] == "accept" and out[-1] == "text":  # noqa: PLR2004  (the item of a list is its text)
        out.pop()
    return out


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that a user could have written beside the one at a place."""
    kinds: dict[str | int, type[BaseModel]] = {"run": RunCheck, "file": FileCheck, "text": Claim}
    if "accept" in loc[:-1]:
        model = kinds.get(loc[-2], model)
    hidden = {"issues", "phases"} if model is Milestone else set()
    return [field.alias or name for name, field in model.model_fields.items() if name not in hidden]
