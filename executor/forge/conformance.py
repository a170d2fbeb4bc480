"""Tests a forge against its protocol; a package with a forge runs this in its tests, against its own server.

It opens, changes and closes one pull request, and requests things that do not exist. Every call is made twice, as
after a lost answer.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from executor.forge.base import Checks, Forge, MovesPulls, NewPull

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check"]

_NOBODYS = 999_999_999
_TITLE, _OTHER = "Say hello", "Say hello in two languages"


def check(forge: Any, head: str, base: str) -> list[str]:
    """Return the promises of `Forge` that a forge breaks; empty if it keeps all.

    Args:
        forge: connected to a repository without other activity.
        head: a branch with a commit that `base` lacks, and without a pull request.
        base: another branch.
    """
    missing = list(_missing(forge))
    return missing or [*_opening(forge, head, base), *_changing(forge, head)]


def _missing(forge: Any) -> Iterator[str]:
    for name, method in inspect.getmembers(Forge, inspect.isfunction):
        if name.startswith("_"):
            continue
        own = getattr(forge, name, None)
        if own is None:
            yield f"it has no method {name}"
        else:
            wanted = [word for word in inspect.signature(method).parameters if word != "self"]
            found = list(inspect.signature(own).parameters)
            if found != wanted:
                yield f"{name} takes {', '.join(found)}; expected {', '.join(wanted)}"
    if not isinstance(getattr(forge, "kind", None), str):
        yield "it has no kind"


def _opening(forge: Forge, head: str, base: str) -> Iterator[str]:
    if forge.find(head):
        yield f"find: there is a pull request of {head} before one was opened"
    new = NewPull(head, base, _TITLE, "Body.", draft=True)
    pull, again = forge.open(new), forge.open(new)
    if pull.number != again.number:
        yield f"open: the second call opened {again.number}, expected the open one, {pull.number}"
    if (pull.state, pull.head, pull.base, pull.title) != ("open", head, base, _TITLE):
        yield f"open: gave {pull}"
    for name, found in (("find", forge.find(head)), ("pulls", forge.pulls(base))):
        if [item.number for item in found] != [pull.number]:
            yield f"{name}: gave {[item.number for item in found]}, expected {[pull.number]}"


def _changing(forge: Forge, head: str) -> Iterator[str]:
    pull = forge.find(head)[-1]
    changed = [forge.update(pull, title=_OTHER, draft=False) for _ in range(2)][-1]
    if (changed.number, changed.title, changed.draft) != (pull.number, _OTHER, False):
        yield f"update: gave {changed}"
    if isinstance(forge, MovesPulls) and [forge.retarget(changed, pull.base).base for _ in range(2)][-1] != pull.base:
        yield f"retarget: it does not go to {pull.base}"
    for _ in range(2):
        forge.comment(changed, "<!-- mark -->", "<!-- mark -->\nOne comment.")
    if not isinstance(forge.checks(changed.sha), Checks):
        yield "checks: gave something else than Checks"
    if changed.sha and forge.request_merge(changed, "0" * 40, _OTHER, "", "squash").state == "merged":
        yield "request_merge: merged although the branch is at another commit"
    for _ in range(2):
        forge.close(changed)
    if [item.state for item in forge.find(head)] != ["closed"]:
        yield "close: it is not closed"
    if forge.issue(_NOBODYS) is not None:
        yield f"issue: there is an issue {_NOBODYS}"
