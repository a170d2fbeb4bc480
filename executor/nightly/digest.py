"""The digest of a period on one page: landed, waiting and failed issues, cost, and the next commands. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executor.git.trailers import one_line
from executor.model.fingerprint import IssueRef
from executor.model.hints import counted
from executor.state.events import AttemptBuilt, AttemptFailed, AttemptStarted, Event, Landed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.state.record import Record

__all__ = ["Digest", "Item", "digest_of"]

_HEADS = (
    ("review", "Waits for you"),
    ("failed", "Failed"),
    ("skipped", "Skipped"),
    ("open", "Open"),
    ("stale", "Stale"),
    ("pending", "Not begun"),
    ("blocked", "Blocked"),
    ("running", "At work"),
)
_MOST = 30  # lines of a digest; a choice: it is read on a phone


def _cost(event: Event) -> float:
    return event.spend.cost_usd or 0.0 if isinstance(event, AttemptBuilt | AttemptFailed) else 0.0


@dataclass(frozen=True, slots=True)
class Item:
    """A line: an issue, its title and a remark."""

    ref: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Digest:
    """Events since a given time, and the current status.

    Attributes:
        since: that time, in readable form.
        milestones: one sentence each.
        landed: landings since then.
        rest: status word -> unfinished issues.
        blockers: open blockers.
        attempts: number of attempts started since then.
        cost_usd: money spent since then.
        next: commands that help.
    """

    since: str
    milestones: tuple[str, ...]
    landed: tuple[Item, ...]
    rest: Mapping[str, tuple[Item, ...]]
    blockers: tuple[str, ...]
    attempts: int
    cost_usd: float
    next: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return one line with the most important numbers."""
        counts = {"landed": len(self.landed)}
        counts |= {word: len(self.rest.get(word, ())) for word in ("failed", "skipped")}
        waiting = len(self.rest.get("review", ()))
        lines = [f"{count} {word}" for word, count in counts.items() if count or word == "landed"]
        lines += [f"{waiting} for you"] * bool(waiting)
        return ", ".join(lines) + (f", ${self.cost_usd:.2f}" if self.cost_usd else "")

    def text(self) -> str:
        """Return the page as readable Markdown."""
        tried = counted(self.attempts, "attempt")
        lines = [f"# {self.title}", "", f"Since {self.since}: {tried}, ${self.cost_usd:.2f}.", ""]
        lines += [f"- {line}" for line in self.milestones]
        lines += _section("In the way", self.blockers)
        lines += _section("Landed", _lines(self.landed))
        for word, head in _HEADS:
            lines += _section(head, _lines(self.rest.get(word, ())))
        lines += _section("Next", tuple(f"`{command}`" for command in self.next))
        return "\n".join(lines) + "\n"

    def data(self) -> dict[str, object]:
        """Return the digest as JSON."""

        def items(found: Sequence[Item]) -> list[dict[str, str]]:
            return [{"ref": item.ref, "title": item.title, "text": item.text} for item in found]

        return {
            "since": self.since,
            "title": self.title,
            "landed": items(self.landed),
            **{word: items(found) for word, found in self.rest.items()},
            "blockers": list(self.blockers),
            "attempts": self.attempts,
            "cost_usd": round(self.cost_usd, 6),
            "next": list(self.next),
        }


def digest_of(
    since: str,
    since_text: str,
    milestones: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    events: Mapping[str, Sequence[Record]],
) -> Digest:
    """Return the digest of everything.

    Args:
        since: ISO-8601 UTC, compared with the times of events.
        since_text: `since`, formatted for people.
        milestones: rows of the milestones in the status table.
        rows: rows of the issues in the status table.
        events: milestone -> its journal.
    """
    titles = {row["ref"]: row["title"] for row in rows}
    fresh = [(name, event) for name, own in events.items() for event in own if event.at >= since]
    landed: dict[str, Item] = {}
    for name, event in fresh:
        if isinstance(fact := event.event, Landed):
            ref = str(IssueRef(name, event.key))
            landed[ref] = Item(ref, titles.get(ref, ""), fact.commit[:10])
    rest: dict[str, tuple[Item, ...]] = {}
    for row in rows:
        if row["status"] != "landed":
            item = Item(row["ref"], row["title"], row["reason"])
            rest[row["status"]] = (*rest.get(row["status"], ()), item)
    stuck = [row["hint"] for row in rows if row["status"] in {"review", "failed", "skipped"} and row["hint"]]
    todo = [f"doit milestone:{item['id']}" for item in milestones if item["status"] in {"in progress", "planned"}]
    return Digest(
        since=since_text,
        milestones=tuple(_milestone(item) for item in milestones),
        landed=tuple(landed.values()),
        rest=rest,
        blockers=tuple(
            f"{item['id']}: {one_line(blocker['reason'])}; {one_line(blocker['resume'])}"
            for item in milestones
            for blocker in item["blockers"]
        ),
        attempts=sum(event.kind == AttemptStarted.KIND for _, event in fresh),
        cost_usd=sum(_cost(event.event) for _, event in fresh),
        next=tuple(dict.fromkeys([*stuck, *todo]))[:_MOST],
    )


def _milestone(item: Mapping[str, Any]) -> str:
    return f"{item['id']} {one_line(item['title'])}: {item['status']}, {item['landed']} of {item['total']} landed"


def _lines(items: Sequence[Item]) -> tuple[str, ...]:
    shown = [f"{item.ref} {one_line(item.title)} - {one_line(item.text)}" for item in items[:_MOST]]
    return (*shown, f"and {len(items) - _MOST} more: doit list --all") if len(items) > _MOST else tuple(shown)


def _section(head: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {head}", "", *(f"- {line}" for line in lines)] if lines else []
