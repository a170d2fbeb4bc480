"""JSON Schemas of milestones and rules for editors, generated from the models that read them.

A schema helps while writing: everything that it refuses, the product refuses; some faults only the product finds.

A file that a step hands in: it exists, is JSON, and matches the JSON Schema in the workflow. Pure.

JSON that another program wrote, such as the answer of a forge, is read into a model. Pure.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from executor.model.agent_profile import Agent
from executor.model.hints import dotted, expected, found
from executor.model.milestone import Issue, Milestone, Phase
from executor.model.outward_rules import Channel, Forge, Runner, StatusRules, VerdictRules
from executor.model.rules import Check, EnvironmentRules, LandingRules, Limits, Route, SetupRules, StopRule
from executor.model.workflow import Schema, Workflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


__all__ = [
    "SUFFIX",
    "Received",
    "UnreadableError",
    "file_faults",
    "json_of",
    "received",
    "schema_fault",
    "schema_line",
    "schemas",
]

_T = TypeVar("_T")


SUFFIX = ".schema.json"
"""Suffix of the names of schema files."""
_DRAFT = "http://json-schema.org/draft-07/schema#"
_TABLES: dict[str, tuple[str, type[BaseModel]]] = {
    "agents": ("agent", Agent),
    "checks": ("check", Check),
    "routes": ("route", Route),
    "stops": ("stop", StopRule),
    "notify": ("notify", Channel),
    "runners": ("runner", Runner),
}
"""Rules files with named tables: stem -> the word before the names, and the model of a table."""
_SINGLE: dict[str, type[BaseModel]] = {
    "limits": Limits,
    "forge": Forge,
    "landing": LandingRules,
    "environments": EnvironmentRules,
    "setup": SetupRules,
    "status": StatusRules,
    "verdicts": VerdictRules,
}
_EXTENDED = {"^extend_": {"type": ["array", "object"]}}
_PLUGIN = {"type": "string", "description": "name of a plug-in that provides default keys"}


def schema_line(up: str, kind: str) -> str:
    """Return the first line of a TOML file, which refers editors to its schema.

    Args:
        up: path from the folder of the file to the folder of the schemas, for example ``../.schemas``.
        kind: a key of `schemas`.
    """
    return f"#:schema {up}/{kind}{SUFFIX}\n"


def schemas() -> dict[str, Schema]:
    """Return every schema by the kind of file: ``milestone``, the stems of the rules files, ``stop``, ``workflow``."""
    found = {"milestone": _milestone()}
    found |= {stem: _named(stem, word, model) for stem, (word, model) in _TABLES.items()}
    found |= {stem: _document(model) for stem, model in _SINGLE.items()}
    found["stop"] = {**_document(StopRule, without=("id",)), "patternProperties": _EXTENDED}
    found["workflow"] = _workflow()
    return dict(sorted(found.items()))


def _milestone() -> Schema:
    header, definitions = _table(Milestone, without=("phases", "issues"))
    issue, more = _table(Issue)
    phase, phases = _table(Phase)
    defaults = {**issue, "properties": {key: value for key, value in issue["properties"].items() if key != "id"}}
    return {
        "$schema": _DRAFT,
        "title": "A milestone",
        "type": "object",
        "required": ["milestone"],
        "additionalProperties": False,
        "properties": {
            "milestone": header,
            "defaults": {**defaults, "required": []},
            "phase": {"type": "array", "items": phase},
            "issue": {"type": "array", "items": {**issue, "required": ["id"]}},  # a title may be a default
        },
        "definitions": {**definitions, **more, **phases},
    }


def _named(stem: str, word: str, model: type[BaseModel]) -> Schema:
    """Return the schema of a file of tables ``[word.NAME]``, without required keys: a packaged table may have them."""
    table, definitions = _table(model, without=("name", "id"))
    table["required"] = []
    if stem in {"agents", "checks"}:
        table["properties"]["plugin"] = _PLUGIN
    tables: Schema = {"type": "object", "additionalProperties": table}
    if stem == "stops":
        table["patternProperties"] = _EXTENDED
        listed = {**table, "properties": {"id": {"type": "string"}, **table["properties"]}, "required": ["id"]}
        tables = {"anyOf": [tables, {"type": "array", "items": listed}]}
    return {
        "$schema": _DRAFT,
        "title": f"rules/{stem}.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {word: tables},
        "definitions": definitions,
    }


def _workflow() -> Schema:
    """Return the schema of a workflow, with the tables ``[phase.NAME]`` and ``[phase.NAME.step.NAME]``."""
    schema = _document(Workflow, without=("name",))
    for table, plural, singular in ((schema, "phases", "phase"), (schema["definitions"]["Phase"], "steps", "step")):
        table["properties"] = {singular if key == plural else key: item for key, item in table["properties"].items()}
        table["required"] = []
    for name in ("Phase", "Step"):
        schema["definitions"][name]["properties"].pop("name", None)
    return schema


def _document(model: type[BaseModel], without: Iterable[str] = ()) -> Schema:
    table, definitions = _table(model, without)
    return {"$schema": _DRAFT, **table, "required": [], "definitions": definitions}


def _table(model: type[BaseModel], without: Iterable[str] = ()) -> tuple[Schema, Schema]:
    """Return the schema of a table, and its definitions."""
    schema = _plain(model.model_json_schema(by_alias=True, ref_template="#/definitions/{model}"))
    definitions = schema.pop("$defs", {})
    if "Claim" in definitions:  # a text in a list of acceptance criteria
        definitions["Claim"] = {"type": "string", "minLength": 1}
    hidden = set(without)
    schema["properties"] = {key: value for key, value in schema["properties"].items() if key not in hidden}
    schema["required"] = [key for key in schema.get("required", ()) if key not in hidden]
    return schema, definitions


def _plain(value: Any) -> Any:
    """Remove pydantic's additions for Python: titles of keys, defaults, and `null`, which TOML lacks."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept: Schema = {}
    for key, item in value.items():
        if key == "properties":
            kept[key] = {name: _plain(inner) for name, inner in item.items()}
        elif key == "default" or (key == "title" and isinstance(item, str)):
            continue
        elif key in {"anyOf", "oneOf"}:
            kinds = [_plain(inner) for inner in item if inner != {"type": "null"}]
            kept |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        else:
            kept[key] = _plain(item)
    return kept


_MOST = 10  # faults of one document; the first ones are enough to mend it
_LONGEST = 240  # characters of one fault


def file_faults(name: str, data: bytes | None, schema: Mapping[str, Any] | None = None) -> list[str]:
    """Return everything that keeps a file from being accepted; an empty list accepts it.

    Args:
        name: the file's name; ``*.json`` must be JSON.
        data: its content; None if it is missing.
        schema: the JSON Schema that it must match, if any. `schema_fault` handles an invalid schema.
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


def schema_fault(schema: object) -> str | None:
    """Return why a document is not a JSON Schema; None if it is one."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    if not isinstance(schema, dict):
        return f"expected an object, found {json.dumps(schema)[:60]}"
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return f"is not a valid JSON Schema: {_place(error.path)}{_short(error.message)}"
    return None


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
    lines = []
    for each in errors[:_MOST]:
        deepest = best_match([each]) or each  # of `anyOf`, the branch that fits best
        lines.append(f"{name}: {_place(deepest.absolute_path)}{_short(deepest.message)}")
    more = len(errors) - _MOST
    return [*lines, f"{name}: {more} more faults"] if more > 0 else lines


def _place(path: Any) -> str:
    """Return the position in a document, as `tasks[2].estimate: `; empty for the whole document."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return f"{text}: " if text else ""


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 40]} ... {flat[-36:]}"


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
