"""Writes docs/json.schema.json from the declared shapes of JSON output: `python -m tests.status.json_schema`."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from executor.status.rows import SHAPES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "json.schema.json"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def page() -> str:
    """The whole file: one definition for each command with `--json`."""
    found = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {}}
    found["definitions"] = {name: schema_of(shape) for name, shape in SHAPES.items()}
    return json.dumps(found, indent=1) + "\n"


def schema_of(shape: Any) -> dict[str, object]:
    """The JSON Schema of a type made of texts, numbers, lists, tables and typed dictionaries."""
    if shape in _PLAIN:
        return {"type": _PLAIN[shape]}
    if is_typeddict(shape):
        keys = {name: schema_of(kind) for name, kind in get_type_hints(shape).items()}
        told = " ".join((shape.__doc__ or "").split("\n\n")[0].split())
        return {
            **({"description": told} if told and not told.startswith("dict(") else {}),
            "type": "object",
            "properties": keys,
            "required": sorted(keys),
            "additionalProperties": False,
        }
    inner = get_args(shape)
    if get_origin(shape) is list:
        return {"type": "array", "items": schema_of(inner[0])}
    if get_origin(shape) is dict:
        return {"type": "object", "additionalProperties": schema_of(inner[1])}
    assert get_origin(shape) is UnionType, shape
    return {"anyOf": [schema_of(item) for item in inner]}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
