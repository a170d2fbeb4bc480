"""The options of a run besides doit's own, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["OPTIONS", "UNTIL", "budget_of", "deadline_named", "workers_of"]

_PLAIN = {
    "name": "plain",
    "short": "",
    "long": "plain",
    "type": bool,
    "default": False,
    "help": "plain lines also on a terminal",
}
_FROM = {
    "name": "from_",
    "short": "",
    "long": "from",
    "type": str,
    "default": "",
    "help": "issue to start at; incomplete ones before it in the file are passed over and not in the way",
}
UNTIL = {
    "name": "until",
    "short": "",
    "long": "until",
    "type": str,
    "default": "",
    "help": "begin nothing that is not expected to end by then: 06:00, or 2030-01-31T06:00",
}
_BUDGET = {
    "name": "budget",
    "short": "",
    "long": "budget",
    "type": str,
    "default": "",
    "help": "US dollars that this run may spend on agents (default: run_usd of rules/limits.toml)",
}
OPTIONS = (_FROM, _PLAIN, UNTIL, _BUDGET)


def budget_of(params: dict[str, Any]) -> float | None:
    """The money that was named on the command line.

    Raises:
        UsageError: it is not a sum of money.
    """
    text = str(params.get("budget") or "")
    if not text:
        return None
    try:
        value = float(text.removeprefix("$"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f'--budget: expected US dollars, for example 20 or 2.50, found "{text}"')
    return value


def workers_of(params: dict[str, Any]) -> int:
    """How many issues at a time were named on the command line; 0 if that was left to the rules.

    Raises:
        UsageError: it is less than none.
    """
    count = int(params.get("num_process") or 0)
    if count < 0:
        raise UsageError(f'-n: expected how many issues at a time, for example 4, found "{count}"')
    return count


def deadline_named(asked: str, declared: str) -> datetime | None:
    """The moment by which everything has to have ended: what the command line says, else the rules."""
    from executor.adapters.clock import LOCAL, utcnow
    from executor.core.deadline import deadline_of

    try:
        return deadline_of(asked or declared, utcnow(), LOCAL) if asked or declared else None
    except ValueError as error:
        raise UsageError(f"--until: {error}") from error
