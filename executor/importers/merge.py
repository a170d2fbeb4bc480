"""Importing again: what changed in the source is taken over, what a person edited is kept and told. Pure.

Every value is there three times: as it was imported last (only its digest is kept), as it is declared now, and as the
source has it now.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.model.fingerprint import digest, normal_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MISSING", "Merged", "Side", "mark", "merged", "remembered_after"]

MISSING = object()
"""There is no such value."""
Side = dict[str, dict[str, object]]
"""Values by owner (empty for the milestone, else an issue's id) and key; an issue's text has the key ``spec``."""


@dataclass(slots=True)
class Merged:
    """What is to be done.

    Attributes:
        changes: owner -> key -> new value, or `MISSING` to remove it.
        added: issues that are new, in the order of the source.
        kept: values that both sides changed, and that stay as the person has them: ``4.3.title``.
        gone: issues that were imported once, are declared still and are no longer in the source.
    """

    changes: Side = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def mark(value: Any) -> str:
    """Digest of a value as it is remembered."""
    text = normal_text(value) if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return digest(text.encode())[len("sha256:") :][:16]


def merged(last: Mapping[str, Mapping[str, str]], now: Side, new: Side, *, overwrite: bool) -> Merged:
    """What to change so that the declaration follows its source.

    Args:
        last: digests of what was imported last.
        now: what is declared.
        new: what the source says.
        overwrite: take the source's word where both sides changed.
    """
    found = Merged()
    for owner, values in new.items():
        declared = now.get(owner)
        if declared is None:
            if owner and owner in last and not overwrite:
                found.kept.append(owner)
                continue
            found.added.append(owner)
            found.changes[owner] = dict(values)
            continue
        before = last.get(owner, {})
        for key in dict.fromkeys([*values, *before]):
            there, wanted = declared.get(key, MISSING), values.get(key, MISSING)
            if _same(there, wanted):
                continue
            verdict = _choose(before.get(key, ""), there, wanted)
            if verdict == "both" and not overwrite:
                found.kept.append(f"{owner}.{key}" if owner else key)
            elif verdict != "keep":
                found.changes.setdefault(owner, {})[key] = wanted
    found.gone = [owner for owner in last if owner and owner in now and owner not in new]
    return found


def remembered_after(last: Mapping[str, Mapping[str, str]], new: Side, found: Merged) -> dict[str, dict[str, str]]:
    """What is remembered after an import: digests of the source, but of what was kept as it was remembered before.

    So it is told again, until the two are the same or the plan's word is taken.
    """
    kept = set(found.kept)
    values: dict[str, dict[str, str]] = {}
    for owner, keys in new.items():
        if owner in kept:
            values[owner] = dict(last.get(owner, {}))
            continue
        values[owner] = {}
        for key, value in keys.items():
            if (f"{owner}.{key}" if owner else key) not in kept:
                values[owner][key] = mark(value)
            elif key in last.get(owner, {}):
                values[owner][key] = last[owner][key]
    return values


def _choose(before: str, there: Any, wanted: Any) -> str:
    """Whose value counts: ``take`` the source's, ``keep`` the person's, or ``both`` changed it."""
    edited = (before != "") if there is MISSING else mark(there) != before
    changed = (before != "") if wanted is MISSING else mark(wanted) != before
    if not changed:
        return "keep"
    if not edited or (there is MISSING and not before):
        return "take"
    return "keep" if wanted is MISSING else "both"


def _same(left: Any, right: Any) -> bool:
    if left is MISSING or right is MISSING:
        return left is right
    return mark(left) == mark(right)
