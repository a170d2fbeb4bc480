"""Reads the policy: the packaged rules, overridden key by key by the user's `rules/`.

Contradictions between declarations and rules: undeclared names, unknown options.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from executor.config.load_milestones import TomlError, read_toml
from executor.config.plugins import KEY, WORDS, entry_points, filled
from executor.config.project import packaged_rules
from executor.errors import DeclarationError, Fault
from executor.model.hints import Known, found, quoted
from executor.model.policy import PROMPTS, SCHEMAS, WORKFLOWS, Policy, declared, read_policy
from executor.model.workflow import DIRECT
from executor.process.files import EncodingError, decoded, files_in
from executor.state.model import FINDINGS, UNSANDBOXED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from executor.model.agent_profile import Agent
    from executor.model.milestone import Issue, Milestone
    from executor.model.policy import Policy

__all__ = ["declared_names", "load_policy", "name_faults", "policy_faults"]


STOP_CHECKS = "make_for_milestones.stop_rules"
"""Entry points of this group are the checks that a stop rule can name as `builtin`."""
STOPS = "stops"
"""Folder of stop rules in separate files, and stem of the file with several rules."""
_EXTEND = "extend_"
_FILES = (
    "agents",
    "checks",
    "environments",
    "forge",
    "landing",
    "limits",
    "notify",
    "routes",
    "runners",
    "setup",
    "status",
    "stops",
    "verdicts",
)


def load_policy(folder: Path) -> Policy:
    """Load the policy of a repository.

    Args:
        folder: the user's rules; it need not exist.

    Raises:
        DeclarationError: with every fault of every file.
    """
    faults: list[Fault] = []
    policy, wrong = read_policy(_merged(folder, faults), folder.name)
    faults += wrong
    faults += _unknown_checks(policy, folder.name) if policy is not None else []
    if faults or policy is None:
        raise DeclarationError(faults)
    return policy


def _unknown_checks(policy: Policy, place: str) -> list[Fault]:
    """Return faults of stop rules with an unknown `builtin`."""
    ours = {str(rule["builtin"]) for rule in _stops(packaged_rules(), []).values() if "builtin" in rule}
    named = [(rule.id, rule.builtin) for rule in policy.stops if rule.builtin is not None and rule.builtin not in ours]
    if not named:
        return []  # the usual case, which need not read the metadata of all installed packages
    known = Known({*ours, *(point.name for point in entry_points(STOP_CHECKS))})
    return [
        Fault(
            f"{place}/stops.toml",
            f"stop.{rule}.builtin",
            f"unknown check {quoted(builtin)}{known.advice(builtin, 'checks')}",
        )
        for rule, builtin in named
        if builtin not in known.names
    ]


def declared_names(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return names of declared agents, checks, stop rules (``stops``) and workflows, faulty or not.

    A kind whose file is unreadable has no entry.
    """
    faults: list[Fault] = []
    merged = _merged(folder, faults)
    unread = {fault.file for fault in faults}
    words = {"agents": "agent", "checks": "check", "stops": "stop"}
    read = {stem: word for stem, word in words.items() if f"{folder.name}/{stem}.toml" not in unread}
    names = {stem: tuple(declared(merged, stem, word)) for stem, word in read.items()}
    return {**names, WORKFLOWS: (DIRECT, *merged[WORKFLOWS])}


def _merged(folder: Path, faults: list[Fault]) -> Mapping[str, Mapping[str, Any]]:
    """Return the documents of all rules by file stem, the user's merged over the packaged ones."""
    merged: dict[str, Mapping[str, object]] = {stem: _packaged(packaged_rules() / f"{stem}.toml") for stem in _FILES}
    merged[STOPS] = {"stop": _stops(packaged_rules(), faults)}
    if folder.is_dir() and not folder.samefile(packaged_rules()):
        known = Known(f"{stem}.toml" for stem in _FILES)
        for path in files_in(folder, ".toml"):
            if path.stem not in _FILES:
                problem = f"unknown rules file{known.advice(path.name, 'files')}"
                faults.append(Fault(f"{folder.name}/{path.name}", "", problem))
            else:
                own = _read(path, faults)
                if path.stem == "stops":
                    own = _by_id(own, f"{folder.name}/{path.name}", faults)
                merged[path.stem] = _over(merged[path.stem], own)
        if isinstance(merged[STOPS].get("stop"), dict):
            merged[STOPS] = _over(merged[STOPS], {"stop": _stops(folder, faults)})
    merged[STOPS] = _extended(merged[STOPS])
    merged[WORKFLOWS] = _workflows(folder, faults)
    merged[PROMPTS] = _prompts(folder, faults)
    merged[SCHEMAS] = _schemas(folder, faults)
    return _with_plugins(merged, folder.name, faults)


def _with_plugins(
    documents: Mapping[str, Mapping[str, Any]], place: str, faults: list[Fault]
) -> Mapping[str, Mapping[str, Any]]:
    """Return the rules with the keys of the plug-ins that they name."""
    merged = dict(documents)
    for stem, word in WORDS.items():
        tables = merged[stem].get(word)
        if isinstance(tables, dict) and any(isinstance(table, dict) and KEY in table for table in tables.values()):
            whole = {name: filled(stem, name, table, place, faults) for name, table in tables.items()}
            merged[stem] = {**merged[stem], word: whole}
    return merged


def _stops(folder: Path, faults: list[Fault]) -> dict[str, dict[str, object]]:
    """Return rules in separate files, by stem."""
    packaged = folder == packaged_rules()
    paths = files_in(folder / STOPS, ".toml")
    return {path.stem: _packaged(path) if packaged else _read(path, faults) for path in paths}


def _extended(document: Mapping[str, Any]) -> dict[str, object]:
    """Return stop rules with the additions of ``extend_KEY`` in the lists of KEY."""
    rules = document.get("stop")
    if not isinstance(rules, dict):
        return dict(document)
    return {
        **document,
        "stop": {name: _with_more(rule) if isinstance(rule, dict) else rule for name, rule in rules.items()},
    }


def _with_more(table: Mapping[str, Any]) -> dict[str, object]:
    merged = {key: value for key, value in table.items() if not key.startswith(_EXTEND)}
    for key, more in table.items():
        if key.startswith(_EXTEND):
            name = key.removeprefix(_EXTEND)
            merged[name] = _joined(merged.get(name), more)
    return merged


def _joined(before: Any, more: Any) -> Any:
    if isinstance(more, dict) and isinstance(before, dict | None):
        known = before or {}
        return {**known, **{key: _joined(known.get(key), value) for key, value in more.items()}}
    return [*before, *more] if isinstance(before, list) and isinstance(more, list) else more


def _workflows(folder: Path, faults: list[Fault]) -> dict[str, dict[str, object]]:
    """Return every workflow's document by name, the user's merged over the packaged ones."""
    found = {path.stem: _packaged(path) for path in files_in(packaged_rules() / WORKFLOWS, ".toml")}
    own = folder / WORKFLOWS
    if own.is_dir() and not own.samefile(packaged_rules() / WORKFLOWS):
        for path in files_in(own, ".toml"):
            found[path.stem] = _over(found.get(path.stem, {}), _read(path, faults))
    return found


@cache
def _packaged(path: Path) -> dict[str, object]:
    """Return a packaged document, read once per process; do not modify it."""
    return read_toml(path)


def _read(path: Path, faults: list[Fault]) -> dict[str, object]:
    try:
        return read_toml(path)
    except TomlError as error:
        faults.append(Fault(_shown(path), "", str(error)))
        return {}


def _prompts(folder: Path, faults: list[Fault]) -> dict[str, str]:
    """Return the conventions for briefs, by issue type; a user's file replaces the packaged one."""
    found = {}
    for place in (packaged_rules() / PROMPTS, folder / PROMPTS):
        for path in files_in(place, ".md"):
            try:
                found[path.stem] = decoded(path.read_bytes())
            except (OSError, EncodingError) as error:
                why = error.strerror if isinstance(error, OSError) else f"it {error}"
                faults.append(Fault(f"{folder.name}/{PROMPTS}/{path.name}", "", f"cannot be read: {why}"))
    return found


def _schemas(folder: Path, faults: list[Fault]) -> dict[str, object]:
    """Return the JSON Schemas by name; a user's file replaces the packaged one."""
    packaged = packaged_rules() / SCHEMAS
    found = {path.stem: json.loads(path.read_bytes()) for path in files_in(packaged, ".json")}
    own = folder / SCHEMAS
    if not own.is_dir() or (packaged.is_dir() and own.samefile(packaged)):
        return found
    from executor.config.schema import schema_fault

    for path in files_in(own, ".json"):
        problem: str | None
        try:
            schema = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            problem = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else f"is not JSON: {error}"
        else:
            problem = schema_fault(schema)
            found[path.stem] = schema if isinstance(schema, dict) else {}
        if problem:
            faults.append(Fault(f"{folder.name}/{SCHEMAS}/{path.name}", "", problem))
            found.setdefault(path.stem, {})
    return found


def _shown(path: Path) -> str:
    """Return the path in the user's form."""
    inside = path.parent.name in {WORKFLOWS, STOPS}
    return "/".join(path.parts[-3 if inside else -2 :])


def _by_id(document: Mapping[str, Any], file: str, faults: list[Fault]) -> dict[str, object]:
    """Convert rules in the form ``[[stop]]`` with an `id` to the equivalent tables ``[stop.ID]``."""
    rules = document.get("stop")
    if not isinstance(rules, list):
        return dict(document)
    tables: dict[str, object] = {}
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


def _over(packaged: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, object]:
    """Merge the user's keys over the packaged tables; a list replaces a list."""
    merged = dict(packaged)
    for key, value in own.items():
        before = merged.get(key)
        merged[key] = _over(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def policy_faults(
    milestones: Mapping[str, Milestone],
    files: Mapping[str, str],
    policy: Policy,
    partial: Mapping[str, Sequence[tuple[int, Issue]]] | None = None,
) -> list[Fault]:
    """Return contradictions between declarations and rules: unknown agents, options, checks, stop rules, workflows.

    For faulty issues (`partial`) only present keys are checked: missing ones may be a consequence of their faults.
    """
    names = {
        "agents": tuple(policy.agents),
        "checks": tuple(policy.checks),
        "stops": tuple(stop.id for stop in policy.stops),
        "workflows": tuple(policy.workflows),
    }
    return _faults(milestones, files, names, partial or {}, policy)


def name_faults(
    milestones: Mapping[str, Milestone],
    files: Mapping[str, str],
    names: Mapping[str, Sequence[str]],
    partial: Mapping[str, Sequence[tuple[int, Issue]]] | None = None,
) -> list[Fault]:
    """Return the faults that can be found while the rules are faulty: undeclared names.

    Args:
        milestones: id -> declaration.
        files: id -> path of its file, for messages.
        names: ``agents``, ``checks``, ``stops``, ``workflows`` -> declared names, faulty or not; a missing kind is
            unknown.
        partial: as in `policy_faults`.
    """
    return _faults(milestones, files, names, partial or {}, None)


def _faults(
    milestones: Mapping[str, Milestone],
    files: Mapping[str, str],
    names: Mapping[str, Sequence[str]],
    partial: Mapping[str, Sequence[tuple[int, Issue]]],
    policy: Policy | None,
) -> list[Fault]:
    more = {"stops": (FINDINGS, UNSANDBOXED)}
    known = {kind: Known((*found, *more.get(kind, ()))) for kind, found in names.items()}
    return [
        Fault(files[name], "milestone.checks", f"unknown check {quoted(check)}{advice}")
        for name, milestone in milestones.items()
        for check, advice in _unknown(milestone.checks, known, "checks", "checks")
    ] + [
        Fault(files[name], f"issue[{place}].{key}", problem)
        for name, milestone in milestones.items()
        for issues, whole in ((milestone.placed(), True), (partial.get(name, ()), False))
        for place, issue in issues
        for key, problem in _issue_problems(issue, policy, known, whole=whole)
    ]


def _unknown(names: Iterable[str], known: Mapping[str, Known], kind: str, word: str) -> Iterator[tuple[str, str]]:
    """Yield the undeclared names, each with the end of its message."""
    declared = known.get(kind)
    if declared is None:
        return
    for name in names:
        if name not in declared.names:
            yield name, declared.advice(name, word)


def _issue_problems(
    issue: Issue, policy: Policy | None, known: Mapping[str, Known], *, whole: bool
) -> Iterator[tuple[str, str]]:
    by = f", needed by {quoted(issue.id)}"
    names = issue.agent if policy is None else policy.agent_names(issue)
    if not names and whole and policy is not None:
        fit = " and ".join(policy.fitting(issue))
        advice = f"; its options fit {fit}; name one" if fit else known["agents"].advice("", "agents")
        yield "agent", f"no agent is declared{by}, and the route of type {quoted(issue.type)} names none{advice}"
    unknown = list(_unknown(names, known, "agents", "agents"))
    for name, advice in unknown:
        yield "agent", f"unknown agent {quoted(name)}{by}{advice}"
    if policy is not None and names and not unknown and (whole or issue.agent):
        yield from _option_problems(issue, policy.agents_for(issue), whole=whole)
    for check, advice in _unknown(issue.checks or (), known, "checks", "checks"):
        yield "checks", f"unknown check {quoted(check)}{by}{advice}"
    for stop, advice in _unknown(issue.allow, known, "stops", "stop rules"):
        yield "allow", f"unknown stop rule {quoted(stop)}{by}{advice}"
    for workflow, advice in _unknown(filter(None, (issue.workflow,)), known, "workflows", "workflows"):
        yield "workflow", f"unknown workflow {quoted(workflow)}{by}{advice}"


def _option_problems(issue: Issue, agents: list[Agent], *, whole: bool) -> Iterator[tuple[str, str]]:
    """Yield options that an agent needs but the issue lacks, and options that no agent knows."""
    by = f", needed by {quoted(issue.id)}"
    for agent in agents:
        for option in sorted(agent.needed() - issue.options.keys()) if whole else ():
            yield (
                "with",
                f'agent "{agent.name}" needs the option {quoted(option)}{by}; write with = {{ {option} = "..." }}',
            )
    allowed = Known(sorted(frozenset[str]().union(*(agent.allowed() for agent in agents))))
    names = " or ".join(f'"{agent.name}"' for agent in agents)
    for option, value in issue.options.items():
        if option not in allowed.names:
            yield "with", f"unknown option {quoted(option)} of agent {names}{allowed.advice(option, 'options')}"
        elif not isinstance(value, str | int | float):
            yield f"with.{option}", f"expected text, found {found(value)}"
    if any(agent.builtin == "patch" for agent in agents) and isinstance(issue.options.get("file"), str):
        parts = str(issue.options["file"]).split("/")
        if parts[0] == "" or ".." in parts:
            yield "with.file", f"expected a path inside milestones/, found {quoted(str(issue.options['file']))}"
