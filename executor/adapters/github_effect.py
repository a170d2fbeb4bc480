"""Effects on GitHub: each is looked for before it is brought about, and again after an answer that was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from executor.errors import ForgeRefusedError, ForgeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.adapters.github_api import Answer, Api

__all__ = ["TRIES", "effect"]

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
