"""Answers of a forge: their shape is looked at in one place, and every effect is looked for before and after.

A shape is ``str``, ``int`` or ``bool``; a list with the shape of its items; a tuple of shapes of which one will do; or
a table of keys, each of which may be absent or null unless it is `Needed`. What no shape names may be anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from executor.errors import ForgeRefusedError, ForgeUnavailableError
from executor.model.hints import found

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.forge.hosts.rest import Answer, Api

__all__ = ["TRIES", "Needed", "checked", "effect"]

_WORDS = {str: "text", int: "a whole number", bool: "true or false", dict: "a table", list: "a list"}

T = TypeVar("T")
TRIES = 5
"""How often something is asked for before we give up."""


@dataclass(frozen=True, slots=True)
class Needed:
    """The shape of a value that has to be there."""

    shape: Any


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


def effect(
    api: Api,
    what: str,
    probe: Callable[[], T | None],
    do: Callable[[], Answer],
    refusal: Callable[[Answer], str] = lambda answer: answer.message or f"status {answer.status}",
) -> T:
    """Apply an effect: look it up, do it, look again, until it exists or the forge refuses.

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
