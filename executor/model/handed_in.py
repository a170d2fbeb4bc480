"""One file that a step hands in: it exists, it is JSON, it matches the JSON Schema that the workflow names. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["file_faults", "schema_fault"]

_MOST = 10
_LONGEST = 240


def file_faults(name: str, data: bytes | None, schema: Mapping[str, Any] | None = None) -> list[str]:
    """Everything that keeps a file from being accepted; an empty list accepts it.

    Args:
        name: the file's name; ``*.json`` has to be JSON.
        data: its content; None when it is missing.
        schema: the JSON Schema that it has to match, if one is named. An invalid schema is `schema_fault`'s business.
    """
    if data is None:
        return [f"{name} is missing"]
    if not data.strip():
        return [f"{name} is empty"]
    if not name.endswith(".json") and schema is None:
        return []
    try:
        value = json.loads(data)
    except RecursionError:
        return [f"{name} is nested too deeply"]
    except ValueError as error:
        return [f"{name} is not JSON: {error}"]
    return [] if schema is None else _violations(name, value, schema)


def schema_fault(schema: object) -> str:
    """Why a document is no JSON Schema; empty when it is one."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    if not isinstance(schema, dict):
        return f"expected an object, found {json.dumps(schema)[:60]}"
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return f"is no JSON Schema: {_place(error.path)}{_short(error.message)}"
    return ""


def _violations(name: str, value: Any, schema: Mapping[str, Any]) -> list[str]:
    from jsonschema.exceptions import best_match
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # An empty registry: a `$ref` to another host is an error, never a download.
    checker = validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())
    try:
        errors = sorted(checker.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    except RecursionError:
        return [f"{name} is nested too deeply"]
    except Unresolvable as error:
        return [f"{name}: its JSON Schema refers to {error.ref}, which is not in it"]
    told = []
    for each in errors[:_MOST]:
        deepest = best_match([each]) or each  # of `anyOf`, the branch that fits best
        told.append(f"{name}: {_place(deepest.absolute_path)}{_short(deepest.message)}")
    more = len(errors) - _MOST
    return [*told, f"{name}: {more} more faults"] if more > 0 else told


def _place(path: Any) -> str:
    """Where in a document, as `tasks[2].estimate: `; empty for the whole of it."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return f"{text}: " if text else ""


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 40]} ... {flat[-36:]}"
