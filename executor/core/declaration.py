"""What a user declares: milestones and their issues as frozen values, read from already parsed TOML. Pure.

Every fault of a file is found in one pass; what is faulty is left out, so that the rest can be looked at too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    Tag,
    ValidationError,
    model_validator,
)

from executor.core.hints import Known, dotted, expected, found, quoted
from executor.errors import Fault

__all__ = [
    "Acceptance",
    "Claim",
    "FileCheck",
    "Issue",
    "Milestone",
    "Phase",
    "Read",
    "RunCheck",
    "branch_problem",
    "default_branch",
    "model_faults",
    "read_milestone",
]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOT_IN_A_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[/.-]|/\.|[/.]$|\.lock(/|$)|^(@|HEAD)$")
_LONGEST_SLUG = 100
_LONGEST_BRANCH = 200
_RESERVED = frozenset({"doit.json"})


def _id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError(f"expected letters, digits, dots, dashes and underscores, at most 64, found {quoted(value)}")
    if ".." in value or value.endswith((".", ".lock")) or value in _RESERVED:
        raise ValueError(f"{quoted(value)} cannot be part of a git ref or a file name here; choose another id")
    return value


def _line(value: str) -> str:
    if not value.strip():
        raise ValueError("expected text, found an empty one")
    if "\n" in value or "\r" in value:
        raise ValueError("expected one line, found several")
    if "\0" in value:
        raise ValueError(f"expected text without NUL characters, found {quoted(value)}")
    return value


def _names(value: object) -> tuple[str, ...]:
    """One name, or a list of different ones."""
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else None
    wrong = [value] if names is None else [name for name in names if not isinstance(name, str)]
    if names is None or wrong:
        raise ValueError(f"expected text or a list of texts, found {found(wrong[0])}")
    if len(set(names)) < len(names):
        raise ValueError("expected different names, found one twice")
    return tuple(map(_line, names))


def _inside(value: str) -> str:
    """A path that stays in the folder it is relative to."""
    if not value or value.startswith("/") or ".." in value.split("/") or "\0" in value:
        raise ValueError(f"expected a relative path without .., found {quoted(value)}")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"expected a regular expression, found {quoted(value)}: {error}") from error
    return value


def _branch(value: str) -> str:
    problem = branch_problem(value)
    if problem:
        raise ValueError(problem)
    return value


Id = Annotated[str, AfterValidator(_id)]
Line = Annotated[str, AfterValidator(_line)]
Inside = Annotated[str, AfterValidator(_inside)]
Branch = Annotated[str, AfterValidator(_branch)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
"""One name or an ordered list of them."""
Seconds = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Claim(_Declared):
    """An acceptance criterion in words; shown to the agent and in the pull request."""

    text: Line


class RunCheck(_Declared):
    """An acceptance criterion that a command proves: exit 0 in a clean checkout of the candidate tree."""

    run: Line
    timeout: Seconds | None = None
    name: Line | None = None
    network: StrictBool = False


class FileCheck(_Declared):
    """An acceptance criterion that a file proves: it exists and, if asked for, matches a pattern."""

    file: Inside
    contains: Annotated[str, AfterValidator(_pattern)] | None = None


def _kind_of_acceptance(value: object) -> str | None:
    if isinstance(value, Claim):
        return "text"
    if isinstance(value, Mapping):
        return next((kind for kind in ("run", "file", "text") if kind in value), "run")
    return None if not isinstance(value, BaseModel) else "run" if isinstance(value, RunCheck) else "file"


Acceptance = Annotated[
    Annotated[Claim, Tag("text")] | Annotated[RunCheck, Tag("run")] | Annotated[FileCheck, Tag("file")],
    Discriminator(
        _kind_of_acceptance,
        custom_error_type="acceptance",
        custom_error_message='expected text, { run = "..." } or { file = "..." }',
    ),
]


def _claims(value: object) -> object:
    """Texts in a list of acceptance criteria are claims."""
    if isinstance(value, Mapping) and isinstance(value.get("accept"), list):
        return {**value, "accept": [{"text": item} if isinstance(item, str) else item for item in value["accept"]]}
    return value


class Issue(_Declared):
    """One issue of a milestone; `options` is the TOML key `with`."""

    id: Id
    title: Line
    type: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")] = "feature"
    priority: Literal["P0", "P1", "P2", "P3"] = "P1"
    needs: tuple[str, ...] = ()
    spec: Inside | None = None
    body: str | None = None
    files: tuple[Inside, ...] = ()
    accept: tuple[Acceptance, ...] = ()
    agent: Names = ()
    options: dict[str, Any] = Field(default_factory=dict, alias="with")
    workflow: Line | None = None
    checks: tuple[str, ...] | None = None
    size: Literal["S", "M", "L"] = "M"
    number: Annotated[StrictInt, Field(gt=0)] | None = None
    resources: tuple[Line, ...] = ()
    allow: tuple[Line, ...] = ()
    phase: Line | None = None

    _texts = model_validator(mode="before")(_claims)


class Phase(_Declared):
    """A named group of issues, for reports."""

    name: Line
    goal: str | None = None


class Milestone(_Declared):
    """A declared milestone with its issues, in the order of the file.

    `checks` are asked on release besides those of its issues; `accept` is proved on release.
    """

    id: Id
    title: Line
    goal: str | None = None
    base: Branch | None = None
    branch: Branch = ""
    needs: tuple[str, ...] = ()
    context: tuple[Inside, ...] = ()
    epic: Inside | None = None
    tag: Branch | None = None
    forge_milestone: Line | None = None
    accept: tuple[Acceptance, ...] = ()
    checks: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
    issues: tuple[Issue, ...] = ()
    _places: tuple[int, ...] = ()

    _texts = model_validator(mode="before")(_claims)

    @property
    def claims(self) -> list[str]:
        """Its acceptance criteria in words."""
        return [item.text for item in self.accept if isinstance(item, Claim)]

    def placed(self) -> Iterator[tuple[int, Issue]]:
        """The issues with their places in the file, where faulty ones that were left out count too."""
        return zip(self._places or range(len(self.issues)), self.issues, strict=True)

    def place(self, places: Sequence[int]) -> None:
        """Remember the places of the issues, if some were left out."""
        self._places = () if list(places) == list(range(len(places))) else tuple(places)


class Read:
    """What could be read of one file.

    Attributes:
        milestone: the milestone without its faulty issues; None when its own table is faulty.
        known: ids of all issues that the file names, faulty or not.
        partial: the faulty issues without their faulty keys, with their places: what they do say can be looked at too.
        faults: what is wrong, in the order of the file.
    """

    def __init__(self) -> None:
        self.milestone: Milestone | None = None
        self.known: set[str] = set()
        self.partial: list[tuple[int, Issue]] = []
        self.faults: list[Fault] = []


def branch_problem(name: str) -> str:
    """Why git would not take a branch of that name; empty if it would. The rules are those of git-check-ref-format."""
    if not name or len(name.encode()) > _LONGEST_BRANCH or _NOT_IN_A_REF.search(name):
        return f"expected a name that git accepts for a branch, found {quoted(name)}"
    return ""


def default_branch(milestone: str, title: str) -> str:
    """``milestone/<id>-<slug of title>``."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    slug = re.sub("[^a-z0-9]+", "-", plain.lower())[:_LONGEST_SLUG].strip("-")
    return f"milestone/{milestone}-{slug}" if slug else f"milestone/{milestone}"


def read_milestone(value: Mapping[str, Any], file: str, stem: str) -> Read:
    """A milestone from the parsed TOML of its file.

    Args:
        value: the whole document.
        file: its path for messages, for example ``milestones/m4.toml``.
        stem: the id that it has to have: the file's name without ``.toml``.
    """
    read = Read()
    read.faults += _unknown_keys(value, file)
    header = value.get("milestone")
    if not isinstance(header, Mapping):
        what = "the table [milestone] is missing" if header is None else f"expected a table, found {found(header)}"
        read.faults.append(Fault(file, "milestone", what))
        header = {}
    phases = _phases(value.get("phase", []), file, read)
    issues = _issues(value, file, read)
    every = sorted([*issues, *read.partial], key=lambda item: item[0])
    _unique(every, file, read)
    if phases is not None:
        _known_phases(every, phases, file, read)
    if isinstance(value.get("milestone"), Mapping):
        read.milestone = _header(header, file, stem, read, phases or [], [issue for _, issue in issues])
    if read.milestone is not None:
        read.milestone.place([place for place, _ in issues])
    return read


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
    own = [name for name in ("phases", "issues") if name in given]
    hints = {"phases": "[[phase]]", "issues": "[[issue]]"}
    for name in own:
        read.faults.append(Fault(file, "milestone", f'unknown key "{name}"; write {hints[name]}'))
        del given[name]
    try:
        declared, title = given.get("id"), given.get("title")
        if "branch" not in given and isinstance(title, str) and isinstance(declared, str) and _ID.fullmatch(declared):
            branch = default_branch(declared, title)
            given |= {} if branch_problem(branch) else {"branch": branch}
        milestone = Milestone(**given, phases=tuple(phases), issues=tuple(issues))
    except ValidationError as error:
        read.faults += model_faults(error, Milestone, file, ["milestone"])
        return None
    except TypeError:
        read.faults.append(Fault(file, "milestone", "expected keys that are names"))
        return None
    if milestone.id != stem:
        read.faults.append(
            Fault(file, "milestone.id", f"expected {quoted(stem)}, the name of the file, found {quoted(milestone.id)}")
        )
        return None
    return milestone


def _phases(value: object, file: str, read: Read) -> list[Phase] | None:
    """The declared phases; None when they are faulty, so that nobody is told that a phase is unknown."""
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
    """A faulty issue without the keys that are wrong; nothing if its id or title is."""
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


def _defaults(value: object, file: str, read: Read) -> dict[str, Any]:
    """The defaults that are in order; faults are told here once instead of with every issue."""
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


def _known_phases(issues: Iterable[tuple[int, Issue]], phases: list[Phase], file: str, read: Read) -> None:
    known = Known(phase.name for phase in phases)
    for place, issue in issues:
        if issue.phase is not None and issue.phase not in known.names:
            hint = known.advice(issue.phase, "phases")
            problem = f"unknown phase {quoted(issue.phase)}, needed by {quoted(issue.id)}{hint}"
            read.faults.append(Fault(file, dotted(["issue", place, "phase"]), problem))


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
