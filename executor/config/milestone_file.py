"""A milestone and its issues from the parsed TOML of their file. Pure.

One pass finds all faults of a file; faulty parts are omitted, so the rest is checked too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from executor.errors import Fault
from executor.model.hints import Known, dotted, found, quoted
from executor.model.milestone import PLAIN_ID, Issue, Milestone, Phase, branch_problem, default_branch
from executor.model.validation import model_faults

__all__ = ["Read", "read_milestone"]


class Read:
    """The readable part of one file.

    Attributes:
        milestone: the milestone without its faulty issues and the faulty keys of its table; None if the table is
            missing.
        known: ids of all issues in the file, faulty or not.
        partial: faulty issues without their faulty keys, with their positions, so that the other keys are checked too.
        faults: its faults, in the order of the file.
    """

    def __init__(self) -> None:
        self.milestone: Milestone | None = None
        self.known: set[str] = set()
        self.partial: list[tuple[int, Issue]] = []
        self.faults: list[Fault] = []


def read_milestone(value: Mapping[str, Any], file: str, stem: str) -> Read:
    """Read a milestone from the parsed TOML of its file.

    Args:
        value: the whole document.
        file: its path for messages, for example ``milestones/m4.toml``.
        stem: the required id: the file's name without ``.toml``.
    """
    read = Read()
    read.faults += _unknown_keys(value, file)
    header = value.get("milestone")
    if not isinstance(header, Mapping):
        what = "the table [milestone] is missing" if header is None else f"expected a table, found {found(header)}"
        read.faults.append(Fault(file, "milestone", what))
        header = {}
    phases = _phases(value.get("phase", []), file, read)
    value = _with_plan(value, header)
    issues = _issues(value, file, read)
    every = sorted([*issues, *read.partial], key=lambda item: item[0])
    _unique(every, file, read)
    _earlier_ids(every, file, read)
    if phases is not None:
        _known_phases(every, phases, file, read)
    if isinstance(value.get("milestone"), Mapping):
        read.milestone = _header(header, file, stem, read, phases or [], [issue for _, issue in issues])
    if read.milestone is not None:
        read.milestone.place([place for place, _ in issues])
    return read


def _with_plan(value: Mapping[str, Any], header: Mapping[str, Any]) -> Mapping[str, Any]:
    """Append the planning issue of a milestone with a workflow to the document; last, so that positions remain."""
    workflow, issues = header.get("workflow"), value.get("issue", [])
    if not isinstance(workflow, str) or not isinstance(issues, list):
        return value
    plan = {
        "id": "plan",
        "title": f"Plan {header.get('title', '')}".strip(),
        "type": "planning",
        "priority": "P0",
        "size": "L",
        "body": str(header.get("goal") or header.get("title") or ""),
        "workflow": f"{workflow}-plan",
        "checks": [],
        "allow": ["large-diff"],
    }
    return {**value, "issue": [*issues, plan]}


def _unknown_keys(value: Mapping[str, Any], file: str) -> list[Fault]:
    keys = ("milestone", "defaults", "phase", "issue")
    known = Known(keys)
    return [
        Fault(file, "", f"unknown key {quoted(name)}{known.advice(name, 'keys')}") for name in value if name not in keys
    ]


def _header(
    header: Mapping[str, Any], file: str, stem: str, read: Read, phases: list[Phase], issues: list[Issue]
) -> Milestone | None:
    given = {**header}
    before, wrong = len(read.faults), set[str]()
    own = [name for name in ("phases", "issues") if name in given]
    hints = {"phases": "[[phase]]", "issues": "[[issue]]"}
    for name in own:
        read.faults.append(Fault(file, "milestone", f'unknown key "{name}"; write {hints[name]}'))
        del given[name]
    milestone = None
    try:
        declared, title = given.get("id"), given.get("title")
        if (
            "branch" not in given
            and isinstance(title, str)
            and isinstance(declared, str)
            and PLAIN_ID.fullmatch(declared)
        ):
            branch = default_branch(declared, title)
            given |= {} if branch_problem(branch) else {"branch": branch}
        milestone = Milestone(**given, phases=tuple(phases), issues=tuple(issues))
    except ValidationError as error:
        read.faults += model_faults(error, Milestone, file, ["milestone"])
        wrong = {str(item["loc"][0]) for item in error.errors(include_url=False) if item["loc"]}
    except TypeError:
        read.faults.append(Fault(file, "milestone", "expected keys that are names"))
        wrong = {*map(str, given)}
    if "id" not in wrong and given.get("id", stem) != stem:
        text = f"expected {quoted(stem)}, the name of the file, found {quoted(given['id'])}"
        read.faults.append(Fault(file, "milestone.id", text))
    if len(read.faults) == before:
        return milestone
    kept = {key: value for key, value in header.items() if key in given and str(key) not in wrong}
    return _stand_in(kept, stem, phases, issues)


def _stand_in(given: Mapping[str, Any], stem: str, phases: list[Phase], issues: list[Issue]) -> Milestone | None:
    """Return a milestone of the file's name with the valid keys of its table, so the rest is checked too."""
    title = given.get("title", stem)
    known = {"branch": default_branch(stem, title), **given, "id": stem, "title": title}
    try:
        return Milestone(**known, phases=tuple(phases), issues=tuple(issues))
    except ValidationError:
        return None


def _phases(value: object, file: str, read: Read) -> list[Phase] | None:
    """Return the declared phases; None if they are faulty, so no phase is reported as unknown."""
    phases: list[Phase] = []
    before = len(read.faults)
    for place, table in enumerate(_tables(value, "phase", file, read)):
        try:
            phases.append(Phase.model_validate(table))
        except ValidationError as error:
            read.faults += model_faults(error, Phase, file, ["phase", place])
    return phases if len(read.faults) == before else None


def _issues(value: Mapping[str, Any], file: str, read: Read) -> list[tuple[int, Issue]]:
    defaults = _defaults(value.get("defaults", {}), file, read)
    issues = []
    for place, table in enumerate(_tables(value.get("issue", []), "issue", file, read)):
        if not isinstance(table, Mapping):
            read.faults.append(Fault(file, dotted(["issue", place]), f"expected a table, found {found(table)}"))
            continue
        if isinstance(table.get("id"), str):
            read.known.add(table["id"])
        given = {**defaults, **table}
        if "body" in table and "spec" not in table:
            given.pop("spec", None)
        if "spec" in table and "body" not in table:
            given.pop("body", None)
        try:
            issue = Issue.model_validate(given)
        except ValidationError as error:
            read.faults += model_faults(error, Issue, file, ["issue", place])
            read.partial += _partial(place, given, error)
            continue
        if (issue.spec is None) == (issue.body is None):
            have = "neither" if issue.spec is None else "both"
            read.faults.append(
                Fault(
                    file, dotted(["issue", place]), f"expected either spec or body, found {have}, in {quoted(issue.id)}"
                )
            )
            read.partial.append((place, issue))
            continue
        issues.append((place, issue))
    return issues


def _partial(place: int, given: Mapping[str, Any], error: ValidationError) -> list[tuple[int, Issue]]:
    """Return a faulty issue without its faulty keys; empty if its id or title is faulty."""
    wrong = {str(item["loc"][0]) for item in error.errors(include_url=False) if item["loc"]}
    try:
        return [(place, Issue.model_validate({key: value for key, value in given.items() if key not in wrong}))]
    except ValidationError:
        return []


def _tables(value: object, name: str, file: str, read: Read) -> list[Any]:
    if isinstance(value, list):
        return value
    read.faults.append(Fault(file, name, f"expected a list of tables, written as [[{name}]], found {found(value)}"))
    return []


def _defaults(value: object, file: str, read: Read) -> dict[str, object]:
    """Return the valid defaults; their faults are reported here once instead of with every issue."""
    if not isinstance(value, Mapping):
        read.faults.append(Fault(file, "defaults", f"expected a table, found {found(value)}"))
        return {}
    given = {**value}
    if "id" in given:
        read.faults.append(Fault(file, "defaults.id", "an id belongs to one issue only; remove it here"))
        del given["id"]
    try:
        Issue.model_validate({"title": "-", **given, "id": "x"})
    except ValidationError as error:
        read.faults += model_faults(error, Issue, file, ["defaults"])
        for item in error.errors(include_url=False):
            given.pop(str(item["loc"][0]), None)
    return given


def _unique(issues: Iterable[tuple[int, Issue]], file: str, read: Read) -> None:
    first: dict[str, int] = {}
    for place, issue in issues:
        if issue.id in first:
            problem = f"{quoted(issue.id)} is already the id of issue[{first[issue.id]}]; ids are unique in a milestone"
            read.faults.append(Fault(file, dotted(["issue", place, "id"]), problem))
        else:
            first[issue.id] = place


def _earlier_ids(issues: Sequence[tuple[int, Issue]], file: str, read: Read) -> None:
    """Verify that an earlier id belongs to only one issue."""
    owner: dict[str, str] = {}
    for place, issue in issues:
        for old in issue.was:
            if old == issue.id:
                problem = f"{quoted(old)} is its present id; remove it here"
            elif old in owner:
                problem = f"{quoted(old)} is already an earlier id of {quoted(owner[old])}"
            else:
                owner[old] = issue.id
                continue
            read.faults.append(Fault(file, dotted(["issue", place, "was"]), problem))


def _known_phases(issues: Iterable[tuple[int, Issue]], phases: list[Phase], file: str, read: Read) -> None:
    known = Known(phase.name for phase in phases)
    for place, issue in issues:
        if issue.phase is not None and issue.phase not in known.names:
            hint = known.advice(issue.phase, "phases") if known.names else "; declare it first: [[phase]] with a name"
            problem = f"unknown phase {quoted(issue.phase)}, needed by {quoted(issue.id)}{hint}"
            read.faults.append(Fault(file, dotted(["issue", place, "phase"]), problem))
