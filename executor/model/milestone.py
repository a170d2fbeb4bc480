"""Milestones and issues as frozen values, with the rules of each field, and the faults of a table as sentences. Pure.

Names of an issue's branches, commits and pull requests. Pure: values in, text out.

The format is that of Conventional Commits, ``type(scope): description``. The type is the declared one, or the mapping
of the issue's type in `rules/forge.toml`; the scope is the milestone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

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
    WithJsonSchema,
    model_validator,
)

from executor.errors import Fault
from executor.model.hints import dotted, expected, found, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "HEADER",
    "PLAIN_ID",
    "Acceptance",
    "Claim",
    "FileCheck",
    "Issue",
    "Milestone",
    "Phase",
    "RunCheck",
    "branch_of",
    "branch_prefixes",
    "branch_problem",
    "commit_token",
    "default_branch",
    "described",
    "header",
    "model_faults",
]


PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The pattern of an id; some matches are still refused."""
_NOT_IN_A_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[/.-]|/\.|[/.]$|\.lock(/|$)|^(@|HEAD)$")
_LONGEST_SLUG = 100  # characters of a generated branch name
_LONGEST_BRANCH = 200  # bytes; file systems take 255 in a name, git adds `.lock`
_RESERVED = frozenset({"doit.json"})


def _id(value: str) -> str:
    if not PLAIN_ID.fullmatch(value):
        raise ValueError(f"expected letters, digits, dots, dashes and underscores, at most 64, found {quoted(value)}")
    if ".." in value or value.endswith((".", ".lock")) or value in _RESERVED:
        raise ValueError(f"{quoted(value)} cannot be part of a git ref or a file name here; choose another id")
    return value


def _line(value: str) -> str:
    if not value.strip():
        raise ValueError("expected text, found an empty text")
    if "\n" in value or "\r" in value:
        raise ValueError("expected one line, found several")
    if "\0" in value:
        raise ValueError(f"expected text without NUL characters, found {quoted(value)}")
    return value


def _names(value: object) -> tuple[str, ...]:
    """Validate one name, or a list of different ones."""
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else None
    wrong = [value] if names is None else [name for name in names if not isinstance(name, str)]
    if names is None or wrong:
        raise ValueError(f"expected text or a list of texts, found {found(wrong[0])}")
    if len(set(names)) < len(names):
        raise ValueError("expected different names, found a duplicate")
    return tuple(map(_line, names))


def _inside(value: str) -> str:
    """Validate a path that stays in its base folder."""
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


def _slug(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value) or branch_problem(value):
        raise ValueError(f"expected letters, digits, dots, dashes and underscores, found {quoted(value)}")
    return value


def _token(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}(?:\([A-Za-z0-9][A-Za-z0-9 ._/,-]{0,63}\))?!?", value):
        raise ValueError(f'expected a commit type such as "feat" or "feat(m4)", found {quoted(value)}')
    return value


def _commit_type(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", value):
        raise ValueError(f'expected a commit type such as "feat", found {quoted(value)}')
    return value


_TITLE_PLACES = ("token", "title", "number", "milestone", "issue")
_PLACE = re.compile(r"\{([^{}]*)\}")


def _pull_title(value: str) -> str:
    unknown = [name for name in _PLACE.findall(_line(value)) if name not in _TITLE_PLACES]
    if unknown or "{" in _PLACE.sub("", value) or "}" in _PLACE.sub("", value):
        known = ", ".join(f"{{{name}}}" for name in _TITLE_PLACES)
        raise ValueError(f"expected a title with the placeholders {known}, found {quoted(value)}")
    return value


def titled(template: str, values: Mapping[str, str]) -> str:
    """Return a title from a template, at most `HEADER` characters; a missing value is empty."""
    text = " ".join(_PLACE.sub(lambda place: values.get(place[1], ""), template).split())
    return text if len(text) <= HEADER else f"{text[: HEADER - 1].rstrip()}…"


Id = Annotated[str, AfterValidator(_id)]
Line = Annotated[str, AfterValidator(_line)]
Inside = Annotated[str, AfterValidator(_inside)]
Branch = Annotated[str, AfterValidator(_branch)]
Slug = Annotated[str, AfterValidator(_slug)]
Token = Annotated[str, AfterValidator(_token)]
CommitType = Annotated[str, AfterValidator(_commit_type)]
PullTitle = Annotated[str, AfterValidator(_pull_title)]
_NAMES = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Names = Annotated[tuple[str, ...], BeforeValidator(_names), WithJsonSchema(_NAMES)]
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
    must_fail_before: StrictBool = False
    """It must fail on the base: an issue whose acceptance passes there already does not start."""


class FileCheck(_Declared):
    """An acceptance criterion that a file proves: it exists and, if `contains` is set, matches a pattern."""

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
    """Convert texts in a list of acceptance criteria to claims."""
    if isinstance(value, Mapping) and isinstance(value.get("accept"), list):
        return {**value, "accept": [{"text": item} if isinstance(item, str) else item for item in value["accept"]]}
    return value


class Issue(_Declared):
    """An issue of a milestone.

    `options` is the TOML key `with`, `was` holds its earlier ids. An issue with a `hold` waits until a person removes
    it. `slug`, `token` and `commit_type` determine the names of its branch, its commits and its pull request, and
    `pull_title` the title of the pull request alone.
    """

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
    options: dict[str, object] = Field(default_factory=dict, alias="with")
    workflow: Line | None = None
    checks: tuple[str, ...] | None = None
    size: Literal["S", "M", "L"] = "M"
    number: Annotated[StrictInt, Field(gt=0)] | None = None
    slug: Slug | None = None
    token: Token | None = None
    commit_type: CommitType | None = None
    pull_title: PullTitle | None = None
    resources: tuple[Line, ...] = ()
    allow: tuple[Line, ...] = ()
    phase: Line | None = None
    was: tuple[Id, ...] = ()
    hold: Line | None = None

    _texts = model_validator(mode="before")(_claims)


class Phase(_Declared):
    """A named group of issues, for reports."""

    name: Line
    goal: str | None = None


class Milestone(_Declared):
    """A declared milestone with its issues, in the order of the file.

    `checks` run on release in addition to those of its issues; `accept` is proved on release. Faults of a `draft` stop
    only the draft: it is listed with its faults, and becomes an ordinary milestone once it has none.

    With a `workflow`, its issue ``plan`` passes all phases before the last one; its roadmap declares the other issues.
    A person reviews them first (`roadmap` ``ask``), or the run continues at once (``auto``).
    """

    id: Id
    title: Line
    goal: str | None = None
    base: Branch | None = None
    branch: Branch = ""
    needs: tuple[str, ...] = ()
    context: tuple[Inside, ...] = ()
    epic: Inside | None = None
    epic_number: Annotated[StrictInt, Field(gt=0)] | None = None
    tracking: Inside | None = None
    token: Token | None = None
    pull_title: PullTitle | None = None
    tag: Branch | None = None
    forge_milestone: Line | None = None
    accept: tuple[Acceptance, ...] = ()
    checks: tuple[str, ...] = ()
    draft: StrictBool = False
    workflow: Line | None = None
    roadmap: Literal["ask", "auto"] = "ask"
    phases: tuple[Phase, ...] = ()
    issues: tuple[Issue, ...] = ()
    _places: tuple[int, ...] = ()

    _texts = model_validator(mode="before")(_claims)

    @property
    def claims(self) -> list[str]:
        """Return its acceptance criteria in words."""
        return [item.text for item in self.accept if isinstance(item, Claim)]

    def placed(self) -> Iterator[tuple[int, Issue]]:
        """Yield the issues with their positions in the file, in which omitted faulty ones also count."""
        return zip(self._places or range(len(self.issues)), self.issues, strict=True)

    def place(self, places: Sequence[int]) -> None:
        """Set the positions of the issues, if some were omitted."""
        self._places = () if list(places) == list(range(len(places))) else tuple(places)


def branch_problem(name: str) -> str | None:
    """Return why git would refuse a branch name; None if valid. The rules are those of git-check-ref-format."""
    if not name or len(name.encode()) > _LONGEST_BRANCH or _NOT_IN_A_REF.search(name):
        return f"expected a name that git accepts for a branch, found {quoted(name)}"
    return None


def default_branch(milestone: str, title: str) -> str:
    """Return ``milestone/<id>-<slug of title>``."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    slug = re.sub("[^a-z0-9]+", "-", plain.lower())[:_LONGEST_SLUG].strip("-")
    return f"milestone/{milestone}-{slug}" if slug else f"milestone/{milestone}"


HEADER = 100
"""Maximum length of a header, the limit of @commitlint/config-conventional."""
_SLUG = 40  # characters of an issue's branch; longer ones are cut in lists of forges
_DEFAULT = "feat"


def commit_token(issue: Issue, milestone: str, types: Mapping[str, str]) -> str:
    """Return the part before the colon: ``feat(m4)``.

    Args:
        issue: its `token` is used literally; one without a scope gets the milestone's.
        milestone: id of the milestone.
        types: the conventional type of each issue type, by its name in lower case.
    """
    token = issue.token or issue.commit_type or types.get(issue.type.lower()) or _DEFAULT
    if "(" in token:
        return token
    return f"{token.removesuffix('!')}({milestone}){'!' if token.endswith('!') else ''}"


def header(token: str, title: str, *, number: int | None = None, revision: int = 1) -> str:
    """Return ``token: title (#number)``, at most `HEADER` characters; a long title is shortened."""
    after = f" (revision {revision})" if revision > 1 else ""
    after += f" (#{number})" if number is not None else ""
    room = HEADER - len(token) - len(": ") - len(after)
    answer = title if len(title) <= room else f"{title[: max(room - 1, 1)].rstrip()}…"
    return f"{token}: {answer}{after}"


def described(title: str, *, lower: bool = False) -> str:
    """Convert a title to the description of a header: without a full stop, and in lower case if the rules require it.

    Only the first letter is lowered, and only in a word that is otherwise in lower case: ``HTTP`` stays.
    """
    text = title.strip().rstrip(".").rstrip() or title.strip()
    first = text.split(" ", 1)[0]
    return text[0].lower() + text[1:] if lower and first[1:].islower() else text


def branch_of(issue: Issue, milestone: str, revision: int) -> str:
    """Return ``feat/<milestone>-<number or id>-<slug>``; a token sets the first part, a later revision the last."""
    plain = unicodedata.normalize("NFKD", issue.title).encode("ascii", "ignore").decode().lower()
    slug = issue.slug or re.sub("[^a-z0-9]+", "-", plain)[:_SLUG].strip("-")
    name = f"{_prefix(issue, milestone)}{issue.number or issue.id}"
    name += f"-{slug}" if slug else ""
    return name + (f"-r{revision}" if revision > 1 else "")


def branch_prefixes(issues: Iterable[Issue], milestone: str) -> tuple[str, ...]:
    """Return prefixes of the branch names of a milestone's pull requests."""
    return tuple(sorted({f"{_DEFAULT}/{milestone}-", *(_prefix(issue, milestone) for issue in issues)}))


def _prefix(issue: Issue, milestone: str) -> str:
    kind = re.match("[a-z][a-z0-9-]*", issue.token or issue.commit_type or _DEFAULT)
    return f"{kind[0] if kind else _DEFAULT}/{milestone}-"


def model_faults(error: ValidationError, model: type[BaseModel], file: str, place: Sequence[str | int]) -> list[Fault]:
    """Return the faults of one table as sentences.

    Args:
        error: pydantic's error.
        model: the model of that table, for its valid keys.
        file: path for messages.
        place: position of the table in the file.
    """
    faults = []
    for item in error.errors(include_url=False):
        loc = _without_tags(item["loc"])
        known = _keys_at(model, item["loc"])
        key = loc[:-1] if item["type"] == "extra_forbidden" else loc
        faults.append(Fault(file, dotted([*place, *key]), expected(item, known)))
    return faults


def _without_tags(loc: Sequence[str | int]) -> list[str | int]:
    """Return a position without pydantic's tags for the kinds of acceptance criteria."""
    out: list[str | int] = []
    for place, part in enumerate(loc):
        tag = place > 1 and isinstance(loc[place - 1], int) and loc[place - 2] == "accept"
        if not (tag and part in {"text", "run", "file"}):
            out.append(part)
    if len(out) > 2 and out[-3] == "accept" and out[-1] == "text":  # noqa: PLR2004  (the item of a list is its text)
        out.pop()
    return out


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the other valid keys at a position."""
    kinds: dict[str | int, type[BaseModel]] = {"run": RunCheck, "file": FileCheck, "text": Claim}
    if "accept" in loc[:-1]:
        model = kinds.get(loc[-2], model)
    hidden = {"issues", "phases"} if model is Milestone else set()
    return [field.alias or name for name, field in model.model_fields.items() if name not in hidden]
