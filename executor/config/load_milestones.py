"""Reads `milestones/`: bounded, robust against hostile TOML, with all faults of all files in one pass.

`read_milestone` makes a milestone and its issues of the parsed TOML of one file, without input or output. It omits
faulty parts, so the rest is checked too.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from executor.errors import ExecutorError, Fault
from executor.model.hints import Known, dotted, found, quoted
from executor.model.milestone import PLAIN_ID, Issue, Milestone, Phase, branch_problem, default_branch, model_faults
from executor.process.files import EncodingError, decoded, files_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path


__all__ = [
    "MOST_BYTES",
    "Loaded",
    "Read",
    "TomlError",
    "load",
    "read_milestone",
    "read_toml",
    "spec_encoding",
    "spec_text",
]

MOST_BYTES = 16 * 1024 * 1024
"""Maximum size of a TOML file: 10,000 issues with a page of text each fit."""
_MOST_SPEC_BYTES = 1024 * 1024  # bytes; no brief could hold more
_MOST_DOTS = 32  # parts of a key; tomllib takes quadratic time, 8 s for a key of 16,000
_TEXT_OR_COMMENT = re.compile(
    rb'"""(?:[^"\\]|\\.|"(?!""))*+(?:"""|\Z)?'
    rb"|'''(?:[^']|'(?!''))*+(?:'''|\Z)?"
    rb'|"(?:[^"\\\n]|\\.)*+"?'
    rb"|'[^'\n]*+'?"
    rb"|#[^\n]*+",
    re.DOTALL,
)
_BETWEEN_KEYS = re.compile(rb"[\n=,{}\[\]]+")


class TomlError(ValueError):
    """The file is not TOML, or is too large."""


@dataclass(slots=True)
class Loaded:
    """The declarations.

    Attributes:
        folder: `milestones/`.
        milestones: id -> milestone, in the natural order of their ids; without faulty ones.
        files: id -> path for messages.
        partial: id of a milestone -> its faulty issues without their faulty keys, with their positions.
        faulty: milestones and issue refs that exist but could not be read.
        faults: all faults.
        watched: further files that a status depends on, relative to the folder's parent.
        drafts: incomplete drafts -> their faults; they are not among the milestones.
    """

    folder: Path
    milestones: dict[str, Milestone] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    partial: dict[str, list[tuple[int, Issue]]] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)
    drafts: dict[str, list[Fault]] = field(default_factory=dict)

    def set_aside(self, names: Collection[str], faults: Sequence[Fault]) -> None:
        """Move drafts out of the milestones, with their faults."""
        for name in names:
            file = self.files.pop(name)
            del self.milestones[name]
            self.partial.pop(name, None)
            self.drafts[name] = [fault for fault in faults if fault.file == file] or list(faults)
            self.faults = [fault for fault in self.faults if fault.file != file]
            self.faulty = {ref for ref in self.faulty if ref != name and not ref.startswith(f"{name}/")}


def load(folder: Path) -> Loaded:
    """Read every declaration in a folder; faults are part of the result."""
    loaded = Loaded(folder)
    for path in sorted(files_in(folder, ".toml"), key=lambda path: natural(path.stem)):
        file = f"{folder.name}/{path.name}"
        try:
            document = read_toml(path)
        except TomlError as error:
            loaded.faults.append(Fault(file, "", str(error)))
            loaded.faulty.add(path.stem)
            continue
        read = read_milestone(document, file, path.stem)
        loaded.faults += read.faults
        loaded.faulty |= {f"{path.stem}/{issue}" for issue in read.known}
        if read.milestone is None:
            loaded.faulty.add(path.stem)
            continue
        loaded.milestones[path.stem] = read.milestone
        loaded.files[path.stem] = file
        if read.partial:
            loaded.partial[path.stem] = read.partial
        loaded.faults += _missing_files(loaded, read.milestone, file)
    return loaded


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts m2 before m10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]


def read_toml(path: Path) -> dict[str, object]:
    """Parse a TOML file with the standard library, after a check for input that would crash it.

    The parser's time grows with the square of the number of parts of a key (cpython gh-149231), so a file of 200 kB
    could take all memory; files larger than `MOST_BYTES` are not read at all.

    Raises:
        TomlError: the file is invalid; the message is one line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise TomlError(f"cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise TomlError(f"is larger than {MOST_BYTES // 2**20} MiB; split it into several milestones")
    try:
        text = decoded(data)
        _refuse_bombs(text.encode())
        return tomllib.loads(text)
    except EncodingError as error:
        raise TomlError(str(error)) from error
    except TomlError:
        raise
    except RecursionError as error:
        raise TomlError("is nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"is not TOML: {error}") from error
    except ValueError as error:
        raise TomlError(f"has a value that cannot be read: {error}") from error


def spec_text(loaded: Loaded, milestone: str, issue: Issue) -> str:
    """Return the text of an issue's spec; in another encoding only its readable part (see `spec_encoding`).

    Raises:
        ExecutorError: its file vanished or became unreadable since the load.
    """
    if issue.body is not None:
        return issue.body
    data = _spec_bytes(loaded, milestone, issue)
    try:
        return decoded(data)
    except EncodingError:
        return data.decode("utf-8", "replace")


def spec_encoding(loaded: Loaded, milestone: str, issue: Issue) -> str | None:
    """Return why an issue's spec cannot be decoded; None if it can.

    Raises:
        ExecutorError: its file vanished or became unreadable since the load.
    """
    if issue.body is not None:
        return None
    try:
        decoded(_spec_bytes(loaded, milestone, issue))
    except EncodingError as error:
        return f"{loaded.folder.name}/{issue.spec} {error}"
    return None


def _spec_bytes(loaded: Loaded, milestone: str, issue: Issue) -> bytes:
    name = f"{loaded.folder.name}/{issue.spec}, the spec of {milestone}/{issue.id},"
    try:
        with (loaded.folder / str(issue.spec)).open("rb") as file:
            data = file.read(_MOST_SPEC_BYTES + 1)
    except OSError as error:
        raise ExecutorError(f"{name} cannot be read: {error.strerror}") from error
    if len(data) > _MOST_SPEC_BYTES:
        raise ExecutorError(f"{name} is larger than 1 MiB; shorten it")
    return data


def _refuse_bombs(data: bytes) -> None:
    if all(line.count(b".") <= _MOST_DOTS for line in data.splitlines()):
        return
    bare = _TEXT_OR_COMMENT.sub(b'""', data)
    if any(part.count(b".") > _MOST_DOTS for part in _BETWEEN_KEYS.split(bare)):
        raise TomlError(f"has a key of more than {_MOST_DOTS} dotted parts")


def _missing_files(loaded: Loaded, milestone: Milestone, file: str) -> Iterator[Fault]:
    """Faults for named files that do not exist; existing ones are watched from now on."""
    root = loaded.folder.parent
    here = loaded.folder.name
    named = [
        (f"{here}/{issue.spec}", f"issue[{place}].spec", issue.id)
        for place, issue in (*milestone.placed(), *loaded.partial.get(milestone.id, ()))
        if issue.spec
    ]
    named += [(path, "milestone.context", milestone.id) for path in milestone.context]
    if milestone.epic:
        named.append((f"{here}/{milestone.epic}", "milestone.epic", milestone.id))
    base = str(root)
    for path, key, by in named:
        if not os.path.isfile(f"{base}/{path}"):  # noqa: PTH113  (ten thousand calls)
            yield Fault(file, key, f'{path} does not exist, needed by "{by}"; write it, or correct the path')
        loaded.watched.append(path)


@dataclass(slots=True)
class Read:
    """The readable part of one file.

    Attributes:
        milestone: the milestone without its faulty issues and the faulty keys of its table; None if the table is
            missing.
        known: ids of all issues in the file, faulty or not.
        partial: faulty issues without their faulty keys, with their positions, so that the other keys are checked too.
        faults: its faults, in the order of the file.
    """

    milestone: Milestone | None = None
    known: set[str] = field(default_factory=set)
    partial: list[tuple[int, Issue]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


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
        match given.get("id"), given.get("title"):
            case str(declared), str(title) if "branch" not in given and PLAIN_ID.fullmatch(declared):
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
            problem = f"expected either spec or body, found {have}, in {quoted(issue.id)}"
            read.faults.append(Fault(file, dotted(["issue", place]), problem))
            read.partial.append((place, issue))
            continue
        issues.append((place, issue))
    return issues


def _partial(place: int, given: Mapping[str, Any], error: ValidationError) -> list[tuple[int, Issue]]:
    """Return a faulty issue without its faulty keys, so the rest is checked too; empty if its id is faulty."""
    wrong = {str(item["loc"][0]) for item in error.errors(include_url=False) if item["loc"]}
    try:
        kept = {key: value for key, value in given.items() if key not in wrong}
        return [(place, Issue.model_validate({"title": "-", **kept}))]
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
                problem = f"{quoted(old)} is its current id; remove it here"
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
