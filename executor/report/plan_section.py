"""The tracking section of a plan, filled in with the plan's own headings and layout. Pure.

It is recognised by its headings (Completed Issues, Open PRs, Blocked / Needs Review, Skipped Issues, Current Phase) at
any level. Text by people above the first item of each remains; the items are replaced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.git.trailers import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Entry", "filled", "inline"]

_KINDS = (
    ("done", re.compile(r"^completed? issues?\b", re.IGNORECASE)),
    ("pulls", re.compile(r"^open (?:prs?|pull requests?)\b", re.IGNORECASE)),
    ("blocked", re.compile(r"^blocked\b|^needs review\b", re.IGNORECASE)),
    ("skipped", re.compile(r"^skipped\b", re.IGNORECASE)),
    ("now", re.compile(r"^current phase\b", re.IGNORECASE)),
)
_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
_ITEM = re.compile(r"^\s*(?:([-*+])\s|\d+[.)]\s|\(none\))")
_RULE = re.compile(r"^ {0,3}(?:-{3,}|\*{3,}|_{3,})\s*$")
_FOOT = re.compile(r"^\*\*(Last Updated|Status):\*\*.*$", re.IGNORECASE)
_LEAST = 2
"""Minimum number of these headings in a tracking section."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An issue in the section; every text is one line.

    Attributes:
        name: ``#11``, or its id without a number.
        id: its id in the plan.
        title: its title.
        status: its status word.
        reason: the reason, one sentence.
        phase: its phase; empty without one.
        pull: number of its pull request; 0 without one.
        url: address of the pull request; empty for a local one.
        checks: state of the forge's checks.
        review: the reviewer's verdict.
        created: day on which its pull request was opened.
        blocked: day of its last stop.
        needs: the action required of a person.
        findings: the reasons of the stop.
        at_work: an agent works on it now.
    """

    name: str
    id: str
    title: str
    status: str
    reason: str = ""
    phase: str = ""
    pull: int = 0
    url: str = ""
    checks: str = ""
    review: str = ""
    created: str = ""
    blocked: str = ""
    needs: str = ""
    findings: tuple[str, ...] = field(default=())
    at_work: bool = False


def filled(text: str, entries: Sequence[Entry], *, day: str, status: str) -> str | None:
    """Return a plan with its tracking section filled in; None if it has none.

    Args:
        text: the plan.
        entries: the issues, in order.
        day: day of the latest record, ``2026-11-28``.
        status: ``Not Started``, ``In Progress`` or ``Complete``.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.split(end)
    headings = _headings(lines)
    parts = _parts(headings, len(lines))
    if len(parts) < _LEAST:
        return None
    region = max(stop for _, stop in parts.values())
    for place in range(min(start for start, _ in parts.values()), _end_of_region(lines, headings, region)):
        foot = _FOOT.match(lines[place])
        if foot:
            lines[place] = f"**{foot[1]}:** {day if foot[1].lower() == 'last updated' else status}"
    for kind, (start, stop) in sorted(parts.items(), key=lambda item: -item[1][0]):
        lines[start:stop] = _filled_part(lines[start:stop], _ITEMS[kind](entries))
    return end.join(lines)


def _headings(lines: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return line, level and title of every heading outside code blocks."""
    found, fence = [], ""
    for place, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1][:3]
        elif mark and line.strip().startswith(fence):
            fence = ""
        elif not fence and (heading := _HEADING.match(line)):
            found.append((place, len(heading[1]), re.sub(r"[*_`]", "", heading[2])))
    return found


def _parts(headings: Sequence[tuple[int, int, str]], count: int) -> dict[str, tuple[int, int]]:
    """Return the lines below each heading of the most complete section; the last one of several equal ones."""
    groups: list[dict[str, tuple[int, int]]] = [{}]
    for number, (place, _, title) in enumerate(headings):
        kind = next((kind for kind, pattern in _KINDS if pattern.match(title)), "")
        after = headings[number + 1][0] if number + 1 < len(headings) else count
        if not kind:
            if groups[-1]:
                groups.append({})
        elif kind in groups[-1]:
            groups.append({kind: (place + 1, after)})
        else:
            groups[-1][kind] = (place + 1, after)
    return max(reversed(groups), key=len)


def _end_of_region(lines: Sequence[str], headings: Sequence[tuple[int, int, str]], last: int) -> int:
    """Return the end of the section: the next heading below its last part, else the end of the text."""
    return next((place for place, _, _ in headings if place >= last), len(lines))


def _filled_part(lines: Sequence[str], items: Sequence[str]) -> list[str]:
    """Replace the items below one heading; keeps text above the first item, and a rule or footer below."""
    first = next((place for place, line in enumerate(lines) if _ITEM.match(line) or _FENCE.match(line)), None)
    foot = next((place for place, line in enumerate(lines) if _RULE.match(line) or _FOOT.match(line)), len(lines))
    first = foot if first is None or first > foot else first
    bullet = next((found[1] for line in lines[first:foot] if (found := _ITEM.match(line)) and found[1]), "*")
    head = list(lines[:first])
    while head and not head[-1].strip():
        head.pop()
    shown = [line.replace("* ", f"{bullet} ", 1) if line.startswith("* ") else line for line in items or ["* (none)"]]
    return [*head, "", *shown, "", *lines[foot:]]


def _completed(entries: Sequence[Entry]) -> list[str]:
    found = []
    for item in entries:
        done = item.status == "landed"
        link = f" — {_link(item)}" if done and item.pull else ""
        found.append(f"* [{'x' if done else ' '}] {item.name} — {inline(item.title)}{' ✅ Done' if done else ''}{link}")
    return found


def _pulls(entries: Sequence[Entry]) -> list[str]:
    found = []
    for item in entries:
        if item.pull and item.status in {"open", "review", "failed", "skipped", "pending", "running", "stale"}:
            found += [
                f"* {_link(item)} — {inline(item.title)} ({item.name})",
                f"  - Status: {inline(item.checks)}",
                f"  - Code Review: {inline(item.review)}",
                f"  - Created: {item.created or 'unknown'}",
            ]
    return found


def _blocked(entries: Sequence[Entry]) -> list[str]:
    found = []
    for item in entries:
        if item.status not in {"review", "failed"}:
            continue
        found += [f"* **{item.name}** (plan {item.id}) — {inline(item.title)}", f"  - Reason: {inline(item.reason)}"]
        if item.findings:
            found.append("  - Findings:")
            found += [f"    {place}. {inline(line)}" for place, line in enumerate(item.findings[:20], 1)]
        found += [f"  - Needs: {inline(item.needs)}"] if item.needs else []
        found += [f"  - PR: {_link(item)}"] if item.pull else []
        found += [f"  - Blocked Date: {item.blocked}"] if item.blocked else []
    return found


def _skipped(entries: Sequence[Entry]) -> list[str]:
    return [
        f"* {item.name} — {inline(item.title)} — Skipped: {inline(item.reason)}"
        for item in entries
        if item.status == "skipped"
    ]


def _now(entries: Sequence[Entry]) -> list[str]:
    """Return the issue in progress, else the first that can continue, else the first that waits for a person."""
    open_ones = [item for item in entries if item.status != "landed"]
    going = [item for item in open_ones if item.status in {"running", "open", "pending", "stale"}]
    current = next((item for item in open_ones if item.at_work), None) or next(iter([*going, *open_ones]), None)
    waiting = [item.name for item in open_ones if item.status in {"review", "failed"}]
    return [
        f"* **Phase:** {inline(current.phase) or 'none' if current else 'Complete'}",
        f"* **Current Issue:** {current.name if current else 'None'}",
        f"* **Blockers:** {', '.join(waiting) or 'None'}",
    ]


_ITEMS: Mapping[str, Callable[[Sequence[Entry]], list[str]]] = {
    "done": _completed,
    "pulls": _pulls,
    "blocked": _blocked,
    "skipped": _skipped,
    "now": _now,
}


def _link(item: Entry) -> str:
    return f"[PR #{item.pull}]({item.url})" if item.url else f"PR #{item.pull}"


def inline(text: str) -> str:
    """Format foreign text as one line of Markdown, without our marks and without mentions."""
    plain = one_line(text).replace("<!--", "< !--").replace("-->", "-- >")
    return re.sub(r"@(?=[A-Za-z0-9])", "@\u200b", plain)
