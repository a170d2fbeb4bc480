"""What the executor asks of a forge: the smallest interface that covers a local one, GitHub and others.

Every method may be called again after a lost answer: each looks first whether what is asked for is there already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.forge.pull_request import PullRequest

__all__ = [
    "CheckReport",
    "CheckState",
    "Checks",
    "Forge",
    "ForgeIssue",
    "MergeAnswer",
    "NewPull",
    "red_answer",
    "standing",
]

_ABOUT_THE_CHANGE = frozenset({"", "failure", "failed", "timed_out"})


@dataclass(frozen=True, slots=True)
class NewPull:
    """A pull request to be opened: short names of the branches, and its texts."""

    head: str
    base: str
    title: str
    body: str
    draft: bool = False


@dataclass(frozen=True, slots=True)
class CheckState:
    """What the forge says of one check of a commit.

    Attributes:
        name: its name.
        state: ``success``, ``failure`` or ``pending``.
        detail: one sentence of the forge or of the service behind the check.
        url: where a person looks at it.
        conclusion: the forge's own word for the result, for example ``timed_out``; empty where it has none.
        id: the forge's own number for it; 0 where it has none.
    """

    name: str
    state: str
    detail: str = ""
    url: str = ""
    conclusion: str = ""
    id: int = 0

    @property
    def judges_the_change(self) -> bool:
        """Whether a failure says something about the change. A cancelled check, or one that never started, does not."""
        return self.state == "failure" and self.conclusion in _ABOUT_THE_CHANGE


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a failed check left behind, in the words of the service that ran it.

    Attributes:
        annotations: one line each, ``path:line: message`` where it names a place.
        log: the end of its log; empty where the forge has none.
    """

    annotations: tuple[str, ...] = ()
    log: str = ""


@dataclass(frozen=True, slots=True)
class Checks:
    """Verdicts of all checks of a commit on the forge."""

    items: tuple[CheckState, ...] = ()

    def of(self, state: str) -> list[CheckState]:
        """Filter by state."""
        return [item for item in self.items if item.state == state]


@dataclass(frozen=True, slots=True)
class MergeAnswer:
    """The outcome of a merge request.

    Attributes:
        state: ``merged``; ``scheduled``: the forge merges it when its checks are green; ``pending``: its checks are not
            done and the forge does not merge it by itself; ``moved``: head or base are not what they were; ``red``: a
            check of the forge failed; ``refused``.
        reason: one sentence, for all but ``merged``.
        commit: what it became, once merged.
        failed: the failed checks, for ``red``.
    """

    state: Literal["merged", "scheduled", "pending", "moved", "red", "refused"]
    reason: str = ""
    commit: str = ""
    failed: tuple[CheckState, ...] = ()


def standing(pull: PullRequest, sha: str) -> MergeAnswer:
    """What there is to say of a pull request that is not open at that commit."""
    if pull.state == "merged":
        return MergeAnswer("merged", commit=pull.merge_commit)
    if pull.state == "closed":
        return MergeAnswer("refused", "it was closed without being merged")
    return MergeAnswer("moved", f"its branch is at {pull.sha[:10]}, expected {sha[:10]}")


def red_answer(checks: Checks) -> MergeAnswer:
    """The answer to a request for a merge of a commit with failed checks; names each with its result and address."""
    failed = checks.of("failure")
    told = ", ".join(
        f'"{item.name}"' + (f" ({item.conclusion})" if item.conclusion not in {"", "failure"} else "")
        for item in failed
    )
    where = next((f"; {item.url}" for item in failed if item.url), "")
    return MergeAnswer("red", f"the forge's check {told} failed{where}", failed=tuple(failed))


@dataclass(frozen=True, slots=True)
class ForgeIssue:
    """An issue as it is tracked on the forge; its texts are somebody else's words.

    Attributes:
        number: on the forge.
        title: its title.
        body: its text.
        state: ``open`` or ``closed``.
        labels: names of its labels.
        needs: numbers of the issues that block it.
        url: where a person looks at it.
    """

    number: int
    title: str
    body: str
    state: str
    labels: tuple[str, ...] = ()
    needs: tuple[int, ...] = ()
    url: str = ""


class Forge(Protocol):
    """A place where pull requests live.

    Raises (every method):
        ForgeUnavailableError: it cannot be reached now, or asks us to wait longer than a run does.
        ForgeRefusedError: it says no, and would again: no right, no such repository.
    """

    kind: str

    def find(self, head: str) -> list[PullRequest]:
        """Every pull request of a branch, in any state, oldest first."""

    def pulls(self, base: str) -> list[PullRequest]:
        """Every pull request into a branch, in any state, oldest first."""

    def open(self, new: NewPull) -> PullRequest:
        """The open pull request of that branch into that base: opened, or found."""

    def update(
        self,
        pull: PullRequest,
        *,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
        labels: Sequence[str] = (),
    ) -> PullRequest:
        """The same with these values; only what differs is changed, labels are only added."""

    def checks(self, sha: str) -> Checks:
        """Verdicts of foreign checks on a commit."""

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Have it merged if its branch is still at that commit.

        Args:
            pull: the pull request.
            sha: commit that was proved.
            title: first line of the commit that it becomes.
            message: the rest of it.
            method: ``squash``, ``merge`` or ``rebase``.
        """

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Take back a merge that was asked for later; the pull request as it is now, which may be merged already."""

    def report(self, check: CheckState) -> CheckReport:
        """What a failed check left behind; nothing where the forge keeps nothing or the token may not read it."""

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Keep one comment of ours: the one whose text begins with the mark is edited, or a new one is written."""

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Issues of a forge milestone, given by title or number."""

    def issue(self, number: int) -> ForgeIssue | None:
        """One issue; None when there is none of that number."""

    def edit_issue(self, number: int, body: str) -> None:
        """Give an issue another text."""

    def close_issue(self, number: int) -> bool:
        """Close an issue; whether it was open."""

    def close_milestone(self, title: str) -> bool:
        """Close a forge milestone, given by title or number; whether it was open."""

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Tell the verdict of one check of ours; whether the forge takes it."""
