"""How branches, commits and pull requests of an issue are called. Pure: values in, text out.

The form is that of Conventional Commits, ``type(scope): description``. The type is the declared one, or what
`rules/forge.toml` maps the issue's type to; the scope is the milestone.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.model.milestone import Issue

__all__ = ["HEADER", "branch_of", "branch_prefixes", "commit_token", "described", "header"]

HEADER = 100
"""Most characters of a header, the limit of @commitlint/config-conventional."""
_SLUG = 40
_DEFAULT = "feat"


def commit_token(issue: Issue, milestone: str, types: Mapping[str, str]) -> str:
    """What stands before the colon: ``feat(m4)``.

    Args:
        issue: its `token` is taken literally; one without a scope is given the milestone's.
        milestone: id of the milestone.
        types: the conventional type of each type of issue, by its name in lower case.
    """
    token = issue.token or issue.commit_type or types.get(issue.type.lower()) or _DEFAULT
    if "(" in token:
        return token
    return f"{token.removesuffix('!')}({milestone}){'!' if token.endswith('!') else ''}"


def header(token: str, title: str, *, number: int | None = None, revision: int = 1) -> str:
    """``token: title (#number)``, at most `HEADER` characters; the title is what is shortened."""
    after = f" (revision {revision})" if revision > 1 else ""
    after += f" (#{number})" if number is not None else ""
    room = HEADER - len(token) - len(": ") - len(after)
    told = title if len(title) <= room else f"{title[: max(room - 1, 1)].rstrip()}…"
    return f"{token}: {told}{after}"


def described(title: str, *, lower: bool = False) -> str:
    """A title as the description of a header: without a full stop, and in lower case where the rules want that.

    Only the first letter is made small, and only of a word that is otherwise written small: ``HTTP`` stays.
    """
    text = title.strip().rstrip(".").rstrip() or title.strip()
    first = text.split(" ", 1)[0]
    return text[0].lower() + text[1:] if lower and first[1:].islower() else text


def branch_of(issue: Issue, milestone: str, revision: int) -> str:
    """``feat/<milestone>-<number or id>-<slug>``; a declared token says its first part, a later revision its last."""
    plain = unicodedata.normalize("NFKD", issue.title).encode("ascii", "ignore").decode().lower()
    slug = issue.slug or re.sub("[^a-z0-9]+", "-", plain)[:_SLUG].strip("-")
    name = f"{_prefix(issue, milestone)}{issue.number or issue.id}"
    name += f"-{slug}" if slug else ""
    return name + (f"-r{revision}" if revision > 1 else "")


def branch_prefixes(issues: Iterable[Issue], milestone: str) -> tuple[str, ...]:
    """Beginnings of the names of the branches that a milestone's pull requests come from."""
    return tuple(sorted({f"{_DEFAULT}/{milestone}-", *(_prefix(issue, milestone) for issue in issues)}))


def _prefix(issue: Issue, milestone: str) -> str:
    kind = re.match("[a-z][a-z0-9-]*", issue.token or issue.commit_type or _DEFAULT)
    return f"{kind[0] if kind else _DEFAULT}/{milestone}-"
