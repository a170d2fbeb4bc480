"""Reads the policy: the packaged rules, overridden key by key by the user's own `rules/`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from executor.adapters.declarations import TomlError, read_toml
from executor.adapters.packaged import packaged_rules
from executor.core.hints import Known, found, quoted
from executor.core.policy import PROMPTS, WORKFLOWS, Policy, read_policy
from executor.core.rule_tables import declared
from executor.core.workflow import DIRECT
from executor.errors import DeclarationError, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["declared_names", "load_policy"]

_FILES = ("agents", "checks", "forge", "limits", "notify", "routes", "setup", "status", "stops")


def load_policy(folder: Path) -> Policy:
    """The policy for a repository.

    Args:
        folder: the user's own rules; it need not exist.

    Raises:
        DeclarationError: with every fault of every file.
    """
    faults: list[Fault] = []
    policy, wrong = read_policy(_merged(folder, faults), folder.name)
    faults += wrong
    if faults or policy is None:
        raise DeclarationError(faults)
    return policy


def declared_names(folder: Path) -> dict[str, tuple[str, ...]]:
    """Names of agents, checks, stop rules (``stops``) and workflows that rules declare, however faulty they are.

    Of a kind whose file cannot be read there is no entry.
    """
    faults: list[Fault] = []
    merged = _merged(folder, faults)
    unread = {fault.file for fault in faults}
    words = {"agents": "agent", "checks": "check", "stops": "stop"}
    read = {stem: word for stem, word in words.items() if f"{folder.name}/{stem}.toml" not in unread}
    names = {stem: tuple(declared(merged, stem, word)) for stem, word in read.items()}
    return {**names, WORKFLOWS: (DIRECT, *merged[WORKFLOWS])}


def _merged(folder: Path, faults: list[Fault]) -> dict[str, Any]:
    """The documents of all rules by the stems of their files, the user's own on top of the packaged ones."""
    merged: dict[str, dict[str, Any]] = {stem: _packaged(packaged_rules() / f"{stem}.toml") for stem in _FILES}
    if folder.is_dir() and not folder.samefile(packaged_rules()):
        known = Known(f"{stem}.toml" for stem in _FILES)
        for path in sorted(folder.glob("*.toml")):
            if path.stem not in _FILES:
                problem = f"unknown rules file{known.advice(path.name, 'files')}"
                faults.append(Fault(f"{folder.name}/{path.name}", "", problem))
            else:
                own = _read(path, faults)
                if path.stem == "stops":
                    own = _by_id(own, f"{folder.name}/{path.name}", faults)
                merged[path.stem] = _over(merged[path.stem], own)
    merged[WORKFLOWS] = _workflows(folder, faults)
    merged[PROMPTS] = _prompts(folder, faults)
    return merged


def _workflows(folder: Path, faults: list[Fault]) -> dict[str, Any]:
    """Every workflow's document by its name: the packaged ones, those of the user's own on top."""
    found = {path.stem: _packaged(path) for path in sorted((packaged_rules() / WORKFLOWS).glob("*.toml"))}
    own = folder / WORKFLOWS
    if own.is_dir() and not own.samefile(packaged_rules() / WORKFLOWS):
        for path in sorted(own.glob("*.toml")):
            found[path.stem] = _over(found.get(path.stem, {}), _read(path, faults))
    return found


@cache
def _packaged(path: Path) -> dict[str, Any]:
    """A packaged document, read once a process; nobody changes it."""
    return read_toml(path)


def _read(path: Path, faults: list[Fault]) -> dict[str, Any]:
    try:
        return read_toml(path)
    except TomlError as error:
        faults.append(Fault(_shown(path), "", str(error)))
        return {}


def _prompts(folder: Path, faults: list[Fault]) -> dict[str, str]:
    """The conventions that briefs tell, by type of issue; a file of the user's own replaces the packaged one."""
    found = {}
    for place in (packaged_rules() / PROMPTS, folder / PROMPTS):
        for path in sorted(place.glob("*.md")):
            try:
                found[path.stem] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                told = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                faults.append(Fault(f"{folder.name}/{PROMPTS}/{path.name}", "", f"cannot be read: {told}"))
    return found


def _shown(path: Path) -> str:
    """The path as a user would write it."""
    inside = path.parent.name == WORKFLOWS
    return "/".join(path.parts[-3 if inside else -2 :])


def _by_id(document: Mapping[str, Any], file: str, faults: list[Fault]) -> dict[str, Any]:
    """Rules written as ``[[stop]]`` with an `id` as the tables ``[stop.ID]`` that they mean."""
    rules = document.get("stop")
    if not isinstance(rules, list):
        return dict(document)
    tables: dict[str, Any] = {}
    for place, rule in enumerate(rules):
        if not isinstance(rule, dict):
            faults.append(Fault(file, f"stop[{place}]", f"expected a table, found {found(rule)}"))
        elif not isinstance(rule.get("id"), str):
            wrong = f"expected text, found {found(rule['id'])}" if "id" in rule else "is missing, but required"
            faults.append(Fault(file, f"stop[{place}].id", wrong))
        elif rule["id"] in tables:
            faults.append(Fault(file, f"stop[{place}].id", f"{quoted(rule['id'])} is already the id of another rule"))
        else:
            tables[rule["id"]] = {key: value for key, value in rule.items() if key != "id"}
    return {**document, "stop": tables}


def _over(packaged: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The packaged tables with the user's keys on top; a list replaces a list."""
    merged = dict(packaged)
    for key, value in own.items():
        before = merged.get(key)
        merged[key] = _over(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
