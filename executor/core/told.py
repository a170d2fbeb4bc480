"""A record of the journal as one sentence that a person reads. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor.core.event import Event

__all__ = ["told"]


def told(event: Event) -> str:
    """What a record says; of a kind that has no sentence of its own, the kind and the reason."""
    say = _SENTENCES.get(event.kind)
    if say is not None:
        return say(event.data)
    reason = event.data.get("reason")
    return event.kind.replace("-", " ") + (f": {reason}" if isinstance(reason, str) and reason else "")


def _built(data: Mapping[str, Any]) -> str:
    count = len(data.get("files", ()))
    size = f"+{data.get('added', 0)} -{data.get('removed', 0)} in {count} file{'' if count == 1 else 's'}"
    return f"attempt {data['attempt']} has a result: {size}"


def _checked(data: Mapping[str, Any]) -> str:
    return f"{data['check']} {'passed' if data['ok'] else 'failed'} in {data['seconds']:.1f} s"


def _ended(data: Mapping[str, Any]) -> str:
    how = f"run {data.get('how', 'done')}"
    why = f" ({data['why']})" if data.get("why") else ""
    return f"{how}{why}, exit code {data['code']}"


_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "run-started": lambda data: f"run of {' '.join(data['asked'])} by {data['user']} on {data['host']}",
    "run-ended": _ended,
    "attempt-started": lambda data: f"attempt {data['attempt']} by {data.get('agent', 'an agent')}",
    "attempt-built": _built,
    "attempt-failed": lambda data: f"attempt {data['attempt']} failed: {data['reason']}",
    "attempt-interrupted": lambda data: f"attempt {data['attempt']} was interrupted",
    "checked": _checked,
    "reviewed": lambda data: f"{data['reviewer']} had {len(data['findings'])} findings",
    "step-started": lambda data: f"step {data['step']} begins",
    "step-done": lambda data: f"step {data['step']} is done",
    "step-failed": lambda data: f"step {data['step']} failed: {data['reason']}",
    "gate-opened": lambda data: f"gate {data['step']} opened with {data['percent']} %",
    "gate-held": lambda data: f"gate {data['reason']}",
    "pull": lambda data: f"pull request {data['number']} is {data['state']}",
    "blocker": lambda data: f"{data['blocker']}: {data['reason']}",
    "notified": lambda data: f"told by {data['channel']}",
    "released": lambda data: f"released as {data['commit'][:10]}",
    "landing": lambda data: f"lands as {data['commit'][:10]}",
    "landed": lambda data: f"landed as {data['commit'][:10]}",
    "verified": lambda _: "verified again",
    "refused": lambda data: f"verification failed: {data['reason']}",
    "stopped": lambda data: f"stopped by {data['rule']}: {data['reason']}",
    "branch-moved": lambda data: f"the branch was moved to {data['new'][:10]}",
    "branch-created": lambda data: f"branch {data['branch'].removeprefix('refs/heads/')} created",
}
