"""The smallest forge interface that covers the local one, GitHub and others.

Every method may be called again after a lost answer: each first checks whether its effect exists already.
`check_forge` tests this against a server: it opens, changes and closes one pull request, and requests things that do
not exist. It makes every call twice, as after a lost answer.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from executor.forge.pull_request import PullRequest

__all__ = [
    "CheckReport",
    "CheckState",
    "Checks",
    "Forge",
    "ForgeIssue",
    "Layer",
    "LinksIssues",
    "MergeAnswer",
    "MovesPulls",
    "NewPull",
    "below",
    "check_forge",
    "red_answer",
    "standing",
]

_ABOUT_THE_CHANGE = frozenset({"", "failure", "failed", "timed_out"})


@dataclass(frozen=True, slots=True)
class NewPull:
    """A pull request to open: short names of the branches, and its texts."""

    head: str
    base: str
    title: str
    body: str
    draft: bool = False


@dataclass(frozen=True, slots=True)
class CheckState:
    """The state of one check of a commit on the forge.

    Attributes:
        name: its name.
        state: ``success``, ``failure`` or ``pending``.
        detail: one sentence from the forge or the service behind the check.
        url: its address for people.
        conclusion: the forge's word for the result, for example ``timed_out``; empty without one.
        id: the forge's number for it; 0 without one.
    """

    name: str
    state: str
    detail: str = ""
    url: str = ""
    conclusion: str = ""
    id: int = 0

    @property
    def judges_the_change(self) -> bool:
        """Return whether a failure is about the change. A cancelled check, or one that never started, is not."""
        return self.state == "failure" and self.conclusion in _ABOUT_THE_CHANGE


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The output of a failed check, as the service that ran it reports it.

    Attributes:
        annotations: one line each, ``path:line: message`` if it has a place.
        log: the end of its log; empty if the forge has none.
    """

    annotations: tuple[str, ...] = ()
    log: str = ""


@dataclass(frozen=True, slots=True)
class Checks:
    """The verdicts of all checks of a commit on the forge."""

    items: tuple[CheckState, ...] = ()

    def of(self, state: str) -> list[CheckState]:
        """Return the checks in a state."""
        return [item for item in self.items if item.state == state]


@dataclass(frozen=True, slots=True)
class MergeAnswer:
    """The outcome of a merge request.

    Attributes:
        state: ``merged``; ``scheduled``: the forge merges it once its checks are green; ``pending``: its checks are not
            done and the forge does not merge it automatically; ``moved``: head or base have changed; ``red``: a check
            of the forge failed; ``refused``.
        reason: one sentence, for all but ``merged``.
        commit: the resulting commit, for ``merged``.
        failed: the failed checks, for ``red``.
    """

    state: Literal["merged", "scheduled", "pending", "moved", "red", "refused"]
    reason: str = ""
    commit: str = ""
    failed: tuple[CheckState, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """An open pull request of a stack.

    Attributes:
        number: its number on the forge.
        head: short name of its branch.
        commit: the commit that was pushed.
        base: branch of the layer below it; empty for a layer that goes to the milestone branch.
    """

    number: int
    head: str
    commit: str
    base: str = ""


def below(own: Layer | None, others: Sequence[Layer]) -> Layer | None:
    """Return the layer that a pull request is stacked on; None if it targets the milestone branch.

    It keeps its place while the layer below it is open. A new one goes on top of the stack. Layers that rest on its
    branch do not count: a forge takes a pull request for merged once its commit is in the branch that it goes to.

    Args:
        own: the pull request as it is, with the number 0 if it is closed; None if there was none.
        others: the other open layers.
    """
    by_head = {layer.head: layer for layer in others}
    if own is not None and own.number and not own.base:
        return None
    place = {layer.head: _height(layer, by_head, own.head if own else "") for layer in others}
    free = [layer for layer in others if place[layer.head] >= 0]
    kept = next((layer for layer in free if own is not None and layer.head == own.base), None)
    return kept or max(free, key=lambda layer: (place[layer.head], layer.number), default=None)


def _height(layer: Layer, by_head: Mapping[str, Layer], own: str) -> int:
    """Return how many layers are below a layer; -1 if one of them is `own`, or if they form a circle."""
    seen = {layer.head}
    while layer.base:
        if layer.base == own or layer.base in seen:
            return -1
        if layer.base not in by_head:
            break
        layer = by_head[layer.base]
        seen.add(layer.head)
    return len(seen) - 1


def standing(pull: PullRequest, sha: str) -> MergeAnswer:
    """Return the answer for a pull request that is not open at that commit, or goes to another base."""
    if pull.state == "merged":
        return MergeAnswer("merged", commit=pull.merge_commit)
    if pull.state == "closed":
        return MergeAnswer("refused", "it was closed without being merged")
    if pull.sha != sha:
        return MergeAnswer("moved", f"its branch is at {pull.sha[:10]}, expected {sha[:10]}")
    return MergeAnswer("moved", f"it now targets {pull.base}")


def red_answer(checks: Checks) -> MergeAnswer:
    """Return the answer to a merge request for a commit with failed checks; names each with result and address."""
    failed = checks.of("failure")
    text = ", ".join(
        f'"{item.name}"' + (f" ({item.conclusion})" if item.conclusion not in {"", "failure"} else "")
        for item in failed
    )
    where = next((f"; {item.url}" for item in failed if item.url), "")
    return MergeAnswer("red", f"the forge's check {text} failed{where}", failed=tuple(failed))


@dataclass(frozen=True, slots=True)
class ForgeIssue:
    """An issue on the forge; its texts come from others.

    Attributes:
        number: its number on the forge.
        title: its title.
        body: its text.
        state: ``open`` or ``closed``.
        labels: names of its labels.
        needs: numbers of the issues that it is blocked by.
        url: its address for people.
    """

    number: int
    title: str
    body: str
    state: str
    labels: tuple[str, ...] = ()
    needs: tuple[int, ...] = ()
    url: str = ""


@runtime_checkable
class LinksIssues(Protocol):
    """A forge that also takes dependencies between issues; a forge without them need not have this."""

    def block(self, number: int, by: Sequence[int]) -> None:
        """Record that an issue is blocked by others; only missing ones are added. Raises as `Forge`."""


@runtime_checkable
class MovesPulls(Protocol):
    """A forge that also moves an open pull request to another base; a forge without stacks need not have this."""

    def retarget(self, pull: PullRequest, base: str) -> PullRequest:
        """Set the branch that a pull request goes to; returns the pull request. Raises as `Forge`."""


class Forge(Protocol):
    """A place where pull requests live.

    Raises (every method):
        ForgeUnavailableError: it is unreachable now, or requires a longer wait than a run accepts.
        ForgeRefusedError: it refuses permanently: no permission, no such repository.
    """

    kind: str

    def find(self, head: str) -> list[PullRequest]:
        """Return every pull request of a branch, in any state, oldest first."""

    def pulls(self, base: str) -> list[PullRequest]:
        """Return every pull request into a branch, in any state, oldest first."""

    def open(self, new: NewPull) -> PullRequest:
        """Open the pull request of that branch into that base, or return the open one."""

    def update(
        self,
        pull: PullRequest,
        *,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
        labels: Sequence[str] = (),
    ) -> PullRequest:
        """Set these values; only differences are changed, labels are only added. Returns the pull request."""

    def checks(self, sha: str) -> Checks:
        """Return the verdicts of foreign checks on a commit."""

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Request a merge if its branch is still at that commit.

        Args:
            pull: the pull request.
            sha: commit that was proved.
            title: first line of the resulting commit.
            message: rest of its message.
            method: ``squash``, ``merge`` or ``rebase``.
        """

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Cancel a scheduled merge; returns the current pull request, which may be merged already."""

    def report(self, check: CheckState) -> CheckReport:
        """Return the output of a failed check; empty if the forge keeps none or the token may not read it."""

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Maintain one comment: edits the one whose text starts with the mark, or writes a new one."""

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Return the issues of a forge milestone, given by title or number."""

    def issue(self, number: int) -> ForgeIssue | None:
        """Return an issue; None if the number does not exist."""

    def edit_issue(self, number: int, body: str) -> None:
        """Replace the text of an issue."""

    def close_issue(self, number: int) -> bool:
        """Close an issue; returns whether it was open."""

    def close_milestone(self, title: str) -> bool:
        """Close a forge milestone, given by title or number; returns whether it was open."""

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Post the verdict of one of the executor's checks; returns whether the forge accepts it."""


_NOBODYS = 999_999_999  # a number that no repository has reached
_TITLE, _OTHER = "Say hello", "Say hello in two languages"


def check_forge(forge: Any, head: str, base: str) -> list[str]:
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
            yield f"{name}: returned {[item.number for item in found]}, expected {[pull.number]}"


def _changing(forge: Forge, head: str) -> Iterator[str]:
    pull = forge.find(head)[-1]
    changed = [forge.update(pull, title=_OTHER, draft=False) for _ in range(2)][-1]
    if (changed.number, changed.title, changed.draft) != (pull.number, _OTHER, False):
        yield f"update: gave {changed}"
    if isinstance(forge, MovesPulls) and [forge.retarget(changed, pull.base).base for _ in range(2)][-1] != pull.base:
        yield f"retarget: it does not target {pull.base}"
    for _ in range(2):
        forge.comment(changed, "<!-- mark -->", "<!-- mark -->\nOne comment.")
    if not isinstance(forge.checks(changed.sha), Checks):
        yield "checks: returned something other than Checks"
    if changed.sha and forge.request_merge(changed, "0" * 40, _OTHER, "", "squash").state == "merged":
        yield "request_merge: merged although the branch is at another commit"
    for _ in range(2):
        forge.close(changed)
    if [item.state for item in forge.find(head)] != ["closed"]:
        yield "close: it is not closed"
    if forge.issue(_NOBODYS) is not None:
        yield f"issue: there is an issue {_NOBODYS}"
