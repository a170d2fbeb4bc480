"""What an answer of GitHub's has to look like to be read, and the one place where that is looked at.

A shape is ``str``, ``int`` or ``bool``; a list with the shape of its items; a tuple of shapes of which one will do;
or a table of keys, each of which may be absent or null unless it is `Needed`. What no shape names may be anything.

Effects on GitHub: each is looked for before it is brought about, and again after an answer that was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from executor.errors import ForgeRefusedError, ForgeUnavailableError
from executor.model.hints import found

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.forge.github_api import Answer, Api

__all__ = [
    "ANNOTATION",
    "BLOCKER",
    "BRANCH",
    "COMMENT",
    "ISSUE",
    "MILESTONE",
    "PULL",
    "RULE",
    "RUN",
    "STATE",
    "STATUS",
    "TRIES",
    "Needed",
    "checked",
    "effect",
]


@dataclass(frozen=True, slots=True)
class Needed:
    """The shape of a value that has to be there."""

    shape: Any


_LABELS = [(str, {"name": str})]
PULL = {
    "number": Needed(int),
    "state": Needed(str),
    "draft": bool,
    "merged_at": str,
    "head": Needed({"ref": Needed(str), "sha": Needed(str), "repo": {"full_name": str}}),
    "base": Needed({"ref": Needed(str)}),
    "title": str,
    "body": str,
    "html_url": str,
    "merge_commit_sha": str,
    "user": {"login": str},
    "labels": _LABELS,
    "node_id": str,
}
ISSUE = {
    "number": Needed(int),
    "title": Needed(str),
    "body": str,
    "state": Needed(str),
    "labels": _LABELS,
    "html_url": str,
}
BLOCKER = {"number": Needed(int)}
MILESTONE = {"number": Needed(int), "title": str}
STATE = {"state": Needed(str)}
"""Of an issue or a milestone, when only that is asked for."""
STATUS = {"context": str, "state": str, "description": str, "target_url": str}
COMMENT = {"id": Needed(int), "body": str}
ANNOTATION = {"path": str, "start_line": int, "message": str, "title": str}
RUN = {"id": int, "name": str, "status": str, "conclusion": str, "html_url": str}
"""Of a check, as GitHub runs it."""
BRANCH = {"protection": {"required_status_checks": {"contexts": [str], "checks": [{}]}}}
RULE = {"type": str, "parameters": {}}
_WORDS = {str: "text", int: "a whole number", bool: "true or false", dict: "a table", list: "a list"}


def checked(value: Any, shape: Any, asked: str) -> Any:
    """The same value.

    Args:
        value: JSON as it came.
        shape: that it has to have.
        asked: what it answers, for example ``GET /repos/a/b/pulls``.

    Raises:
        ForgeUnavailableError: it has another shape.
    """
    problem = _problem(value, shape, "")
    if problem:
        raise ForgeUnavailableError(
            f"the forge's answer to {asked} cannot be read: {problem}; is base_url in rules/forge.toml right? "
            "Nothing is lost, run again later"
        )
    return value


def _problem(value: Any, shape: Any, place: str) -> str:
    """The first thing that is not of the shape; empty if there is none."""
    if isinstance(shape, Needed):
        return _problem(value, shape.shape, place)
    if isinstance(shape, tuple):
        problems = [_problem(value, one, place) for one in shape]
        return problems[-1] if all(problems) else ""
    kind = shape if isinstance(shape, type) else type(shape)
    fits: bool = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if not fits:
        return f"{place or 'the whole'}: expected {_WORDS[kind]}, found {found(value)}"
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(shape, list):
        parts = [(f"{place}[{number}]", item, shape[0]) for number, item in enumerate(value)]
    elif isinstance(shape, dict):
        parts = [
            (f"{place}.{key}" if place else key, value.get(key), inner)
            for key, inner in shape.items()
            if value.get(key) is not None or isinstance(inner, Needed)
        ]
    return next(filter(None, (_problem(item, inner, where) for where, item, inner in parts)), "")


T = TypeVar("T")
TRIES = 5
"""How often something is asked for before we give up."""


def effect(
    api: Api,
    what: str,
    probe: Callable[[], T | None],
    do: Callable[[], Answer],
    refusal: Callable[[Answer], str] = lambda answer: answer.message or f"status {answer.status}",
) -> T:
    """Bring something about: look, do, look again, until it is there or the forge says no.

    Args:
        api: where it is done.
        what: in words, for messages.
        probe: looks; None while it is not there.
        do: asks for it.
        refusal: why an answer means no; empty if it does not.

    Raises:
        ForgeRefusedError: the forge says no.
        ForgeUnavailableError: it said nothing, again and again, and the effect is not there.
    """
    for tries in range(TRIES):
        found = probe()
        if found is not None:
            return found
        answer = do()
        why = "" if answer.ok or answer.lost else refusal(answer)
        if why:
            raise ForgeRefusedError(f"the forge refuses to {what}: {why}")
        if not answer.ok or tries:
            api.wait(tries)
    found = probe()
    if found is None:
        raise ForgeUnavailableError(f"the forge did not say what came of this: {what}; run again later")
    return found
