"""Which records of a journal still matter: those that the fold needs to come to the same result. Pure.

A record is needed while it is the last to say something of what the fold shows: an issue's stop, red base, proof,
refusal, pull request and retry, an attempt's fields. What adds up (seconds, money) is always needed, and so are the
runs themselves.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from executor.core.fold import fold
from executor.core.sessions import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.core.event import Event

__all__ = ["live"]

_ISSUE: dict[str, frozenset[str]] = {
    "attempt-started": frozenset({"stop", "red"}),
    "landed": frozenset({"proof", "refusal", "stop"}),
    "verified": frozenset({"proof", "refusal"}),
    "refused": frozenset({"refusal"}),
    "stopped": frozenset({"stop"}),
    "base-red": frozenset({"red"}),
    "pull": frozenset({"pull"}),
    "retried": frozenset({"forgiven", "stop"}),
}
"""What a record says of its issue."""
_VALUE = {
    "landed": "proof",
    "verified": "proof",
    "refused": "refusal",
    "stopped": "stop",
    "base-red": "red",
    "pull": "pull",
    "retried": "forgiven",
}
"""The one of them to which it gives a value; the others it only clears, which needs no record when nothing is set."""
_ATTEMPT: dict[str, frozenset[str]] = {
    "attempt-interrupted": frozenset({"state", "commit", "cost", "tokens"}),
    "landing": frozenset({"landing"}),
    "landed": frozenset({"state", "commit"}),
}
"""What a record says of its attempt."""
_ADDS = {
    "attempt-built": frozenset({"state", "commit", "result_key", "pull", "seconds", "deviations", "cost", "tokens"}),
    "attempt-failed": frozenset({"state", "commit", "kind", "reason", "detail", "print", "until", "cost", "tokens"}),
}
"""The same for records that also add to the issue's sums."""
_ALL = frozenset().union(*_ATTEMPT.values(), *_ADDS.values())
_FACTS = frozenset({"notified"})
"""What is kept although no state rests on it: that a person was told must not be forgotten."""
_KNOWN = _ISSUE.keys() | _ATTEMPT.keys() | _ADDS.keys()


def live(events: Sequence[Event]) -> list[Event]:
    """The records without which `fold` would not come to the same states, in their order.

    A kind that the fold knows and this function does not is kept whole.
    """
    folded: dict[str, bool] = {}
    issues: defaultdict[str, _Issue] = defaultdict(_Issue)
    kept: set[int] = set()
    latest: dict[str, int] = {}
    for place in range(len(events) - 1, -1, -1):
        event = events[place]
        if event.kind not in folded:
            folded[event.kind] = bool(fold((event,)))
        if event.kind in KINDS:
            kept.add(place)
        elif folded[event.kind]:
            latest.setdefault(event.key, place)
            kept.update(issues[event.key].needed(place, event))
    seen = {events[place].key for place in kept if events[place].kind not in KINDS}
    kept.update(place for key, place in latest.items() if key not in seen)
    kept.update(place for place, event in enumerate(events) if event.kind in _FACTS)
    return [events[place] for place in sorted(kept)]


class _Issue:
    """What later records have said of an issue, while its records are gone through from the last to the first."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._attempts: defaultdict[int, set[str]] = defaultdict(set)
        self._waiting: defaultdict[int, list[int]] = defaultdict(list)
        self._started: set[int] = set()

    def needed(self, place: int, event: Event) -> list[int]:
        """Places of the records of which it is clear now that they are needed."""
        kind = event.kind
        says = _VALUE.get(kind)
        last = says is not None and says not in self._said
        adds = kind in _ADDS or "cost_usd" in event.data
        found = [place] if last or adds or kind not in _KNOWN else []
        self._said |= _ISSUE.get(kind, frozenset())
        if kind == "retried" and last:
            self._started.clear()  # what a retry forgives depends on the attempts that were started before it
        elif kind == "attempt-started":
            found += self._start(place, int(event.data["attempt"]))
        elif (kind in _ATTEMPT or kind in _ADDS) and event.data.get("attempt"):
            self._change(place, int(event.data["attempt"]), _ATTEMPT.get(kind) or _ADDS[kind])
        return found

    def _start(self, place: int, number: int) -> list[int]:
        """The beginning of an attempt: what was said of it since is needed, what was said of the number before not."""
        found = self._waiting.pop(number, [])
        if number not in self._started:
            found.append(place)
        self._started.add(number)
        self._attempts[number] |= _ALL
        return found

    def _change(self, place: int, number: int, fields: frozenset[str]) -> None:
        """Something said of an attempt; needed if it is the last to say it and the attempt was started before."""
        if fields - self._attempts[number]:
            self._waiting[number].append(place)
        self._attempts[number] |= fields
