"""Writes the table of `docs/events.md` from the classes of events: `python -m tests.state.events_page`."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from itertools import takewhile
from pathlib import Path

from executor.state.events import KINDS, Event, Spend

PAGE = Path(__file__).resolve().parents[2] / "docs" / "events.md"
MARK = "<!-- The table below is generated: python -m tests.state.events_page -->\n"
COMMON = {
    "attempt": "number of the attempt",
    "commit": "commit id",
    "revision": "revision of the issue",
    "result_key": "digest of the change",
    "check_key": "digest of the checks",
    "spec_key": "digest of the spec",
    "reason": "one sentence",
    "detail": "end of the output",
    "seconds": "seconds",
    "took": "seconds",
    "step": "`phase.step`, or `phase.gate`",
    "percent": "score of the gate",
    "cost_usd": "US dollars, where the agent reports them",
    "tokens": "tokens by kind, where the agent reports them",
    "code": "exit code",
    "branch": "full ref name",
    "tip": "commit id of the branch",
    "agent": "profile",
    "reviewer": "profile",
}


def page() -> str:
    """The whole page: the words of the present one, and the generated table."""
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    rows = ["| kind | meaning | fields |", "|---|---|---|"]
    rows += [f"| `{kind}` | {_meaning(cls)} | {', '.join(_fields(cls))} |" for kind, cls in KINDS.items()]
    return head + MARK + "\n" + "\n".join(rows) + "\n"


def _meaning(cls: type[Event]) -> str:
    lines = inspect.cleandoc(cls.__doc__ or "").splitlines()
    return " ".join(takewhile(bool, lines)).replace("``", "`")


def _fields(cls: type[Event]) -> list[str]:
    meanings = dict(re.findall(r"^    (\w+): ((?:.|\n {8})+?)\.?$", inspect.cleandoc(cls.__doc__ or ""), re.MULTILINE))
    found: list[str] = []
    for item in fields(cls):
        names = ["cost_usd", "tokens"] if item.type == Spend.__name__ else [item.metadata.get("wire") or item.name]
        for name in names:
            meaning = meanings.get(item.name) if name != "tokens" and item.name != "spend" else None
            meaning = (meaning or COMMON.get(name, "")).replace("``", "`")
            optional = "; optional" if item.metadata.get("optional") else ""
            found.append(f"`{name}`" + (f" ({meaning}{optional})" if meaning or optional else ""))
    return [text.replace("(; ", "(") for text in found]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
