"""Which handoffs a brief holds: nearest needs first, then the newest, within a budget of tokens. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.core.brief import Handoff

__all__ = ["CHARACTERS", "chosen", "distances"]

CHARACTERS = 4
"""Characters that count as one token: no tokenizer is asked, so that a brief is the same for every agent."""
_LEAST = 400
_CUT = "\n... (the rest was left out)"


def distances(ref: str, needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How far each issue is that `ref` needs: 1 for what it needs directly, 2 for what that needs, and so on."""
    found = {ref: 0}
    waiting = deque([ref])
    while waiting:
        current = waiting.popleft()
        for need in needs.get(current, ()):
            if need not in found:
                found[need] = found[current] + 1
                waiting.append(need)
    del found[ref]
    return found


def chosen(handoffs: Sequence[Handoff], tokens: int) -> tuple[Handoff, ...]:
    """The handoffs in the given order; those beyond the budget have no text, the first of them a part of it."""
    left = tokens * CHARACTERS
    taken = []
    for handoff in handoffs:
        text = handoff.text
        if len(text) > left:
            text = text[: left - len(_CUT)] + _CUT if left >= _LEAST else ""
            left = 0
        else:
            left -= len(text)
        taken.append(replace(handoff, text=text))
    return tuple(taken)
