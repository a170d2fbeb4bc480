"""A failed check of the forge as a reason and as material for the next attempt. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.git.trailers import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.forge.base import CheckReport, CheckState

__all__ = ["failure_detail", "failure_reason", "log_tail"]

_LINES = 60
_WIDTH = 400
_ANNOTATIONS = 20
_STAMP = re.compile(r"^\ufeff?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z ?")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_SECTION = re.compile(r"^section_(?:start|end):\d+:\S*\r?")
_NOISE = re.compile(r"^(?:##\[(?:group|endgroup|debug|command)\]|Post job cleanup|Cleaning up orphan processes)")


def failure_reason(failed: Iterable[CheckState]) -> str:
    """One sentence: each failed check by name and conclusion.

    It has no address, so that the same failure of two attempts reads the same and is recognised as the same.
    """
    names = [
        f'"{one_line(item.name)}"' + (f" ({item.conclusion})" if item.conclusion not in {"", "failure"} else "")
        for item in failed
    ]
    kind = "check" if len(names) == 1 else "checks"
    return f"the forge's {kind} {', '.join(names)} failed"


def failure_detail(failed: Sequence[tuple[CheckState, CheckReport]]) -> str:
    """What the next attempt is given: name, conclusion, address, annotations and the end of the log of each check."""
    return "\n\n".join(_one(check, report) for check, report in failed)


def log_tail(log: str, lines: int = _LINES) -> str:
    """The last lines of a log that say something: without time stamps, colours, folds and clean-up."""
    kept = []
    for raw in log.splitlines():
        line = _STAMP.sub("", _SECTION.sub("", _ANSI.sub("", raw.rsplit("\r", 1)[-1]))).rstrip()
        if line and not _NOISE.match(line):
            kept.append(line.removeprefix("##[error]")[:_WIDTH])
    return "\n".join(kept[-lines:])


def _one(check: CheckState, report: CheckReport) -> str:
    parts = [f"check: {one_line(check.name)}", f"conclusion: {check.conclusion or check.state}"]
    if check.detail and check.detail != check.conclusion:
        parts.append(f"said: {one_line(check.detail)[:_WIDTH]}")
    if check.url:
        parts.append(f"address: {one_line(check.url)}")
    if report.annotations:
        parts.append("annotations:")
        parts += [f"  {one_line(line)[:_WIDTH]}" for line in report.annotations[:_ANNOTATIONS]]
        more = len(report.annotations) - _ANNOTATIONS
        parts += [f"  and {more} more"] if more > 0 else []
    tail = log_tail(report.log)
    if tail:
        parts.append(f"the end of its log:\n{tail}")
    return "\n".join(parts)
