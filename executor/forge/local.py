"""The local forge: a pull request is a ref and a record in this repository; no account, no network without a remote.

The record is a commit below `refs/executor/pulls/`: its message has title, body and further fields as trailers; its
parent is the head, so none of its commits can be lost. Pull requests of issues need no record: their ref is that of
the attempt, and the candidate's message is their record.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.errors import ForgeRefusedError, GitError, UsageError
from executor.forge.base import CheckReport, Checks, ForgeIssue, MergeAnswer, NewPull
from executor.forge.pull_request import PullRequest
from executor.git.refs import Move, Refs
from executor.git.trailers import decode, encode, one_line
from executor.state.marks import PullTrailers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.forge.base import CheckState
    from executor.git.command import Identity
    from executor.git.objects import Store
    from executor.git.refs import Kept
    from executor.git.remote import Remote

__all__ = ["PULLS", "LocalForge"]

PULLS = "refs/executor/pulls"
"""Records of pull requests: `<number>` below this."""
_HEADS = "refs/heads/"
_TRIES = 5  # tries; another process may move the branch in between


class LocalForge:
    """Pull requests between branches of this repository.

    Args:
        refs: the repository's refs.
        store: its objects.
        identity: author of records and merges.
        remote: the remote to push to; None without one.
    """

    kind = "local"

    def __init__(self, refs: Refs, store: Store, identity: Identity, remote: Remote | None = None) -> None:
        self._refs = refs
        self._store = store
        self._identity = identity
        self._remote = remote

    def find(self, head: str) -> list[PullRequest]:
        """Return every pull request of a branch."""
        return [pull for pull in self._all() if pull.head == head]

    def pulls(self, base: str) -> list[PullRequest]:
        """Return every pull request into a branch."""
        return [pull for pull in self._all() if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """Open the pull request of that branch into that base, or return the open one."""
        for _ in range(_TRIES):
            known = self._all()
            for pull in known:
                if (pull.head, pull.base, pull.state) == (new.head, new.base, "open"):
                    return pull
            sha = self._tip(new.head)
            number = max((pull.number for pull in known), default=0) + 1
            made = PullRequest(number, "open", new.draft, new.head, sha, new.base, new.title, new.body)
            if self._keep(made, None):
                return made
        raise GitError(f"no number below {PULLS} was free for {new.head}; try again")

    def update(
        self,
        pull: PullRequest,
        *,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
        labels: Sequence[str] = (),
    ) -> PullRequest:
        """Set these values; returns the pull request."""
        changed = replace(
            pull,
            title=pull.title if title is None else title,
            body=pull.body if body is None else body,
            draft=pull.draft if draft is None else draft,
            labels=tuple(dict.fromkeys([*pull.labels, *labels])),
            sha=self._tip(pull.head) if pull.state == "open" else pull.sha,
        )
        return self._kept(changed, pull)

    def checks(self, sha: str) -> Checks:
        """Return no checks: the executor's are the only ones."""
        _ = sha
        return Checks()

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it now: in memory, then by compare-and-swap, on the remote first if there is one."""
        if pull.state == "merged":
            return MergeAnswer("merged", commit=pull.merge_commit)
        if pull.state == "closed" or pull.draft:
            return MergeAnswer("refused", f"pull request {pull.number} is {'closed' if not pull.draft else 'a draft'}")
        if self._tip(pull.head) != sha:
            return MergeAnswer("moved", f"{pull.head} is no longer at {sha[:10]}")
        return self._merge(pull, sha, f"{title}\n\n{message}", method)

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Return the pull request: no merge is ever scheduled."""
        return pull

    def report(self, check: CheckState) -> CheckReport:
        """Return an empty report: the executor's checks are the only ones."""
        _ = check
        return CheckReport()

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Do nothing: comments have no reader here."""
        _ = pull, mark, text

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""
        if pull.state == "open":
            self._kept(replace(pull, state="closed"), pull)

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Return no issues."""
        raise UsageError(f'the local forge has no issues to read "{milestone}" from; declare kind = "github"')

    def issue(self, number: int) -> ForgeIssue | None:
        """Return None: there are no issues."""
        _ = number
        return None

    def edit_issue(self, number: int, body: str) -> None:
        """Do nothing: there are no issues."""
        _ = number, body

    def close_issue(self, number: int) -> bool:
        """Do nothing: there are no issues."""
        _ = number
        return False

    def close_milestone(self, title: str) -> bool:
        """Do nothing: there are no milestones."""
        _ = title
        return False

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Do nothing: statuses have no reader here."""
        _ = sha, name, state, description
        return False

    def _merge(self, pull: PullRequest, sha: str, message: str, method: str) -> MergeAnswer:
        base = _HEADS + pull.base
        there, tip = self._caught_up(base), self._tip(pull.base)
        merged = self._store.merge(tip, sha)
        problem = f"conflict in {', '.join(merged.conflicts[:5])}" if merged.conflicts else ""
        if there is not None and there != tip:
            problem = f"{pull.base} has commits here that the remote lacks, and the reverse"
        if problem:
            return MergeAnswer("refused", problem)
        commit = tip
        if merged.tree != self._store.tree_of(tip):
            parents = [tip, sha] if method == "merge" else [tip]
            made = self._store.commit(merged.tree, parents, message, self._identity, int(time.time()))
            commit = self._store.signed(made)
            if self._remote is not None:
                pushed = self._remote.push([Move(base, there, commit)])
                if not pushed.ok:
                    return MergeAnswer("moved" if pushed.moved else "refused", pushed.reason)
            if not self._refs.move([Move(base, tip, commit)], f"merge pull request {pull.number}"):
                return MergeAnswer("moved", f"{pull.base} is no longer at {tip[:10]}")
        self._kept(replace(pull, state="merged", merge_commit=commit), pull)
        return MergeAnswer("merged", commit=commit)

    def _caught_up(self, base: str) -> str | None:
        """Fast-forward our branch to the remote's if it is only behind; returns the remote's tip, None without one."""
        if self._remote is None:
            return None
        there, here = self._remote.tips(base).get(base), self._refs.tip(base)
        if there is not None and here is not None and there != here:
            self._remote.fetch(base)
            if self._refs.contains(here, there):
                self._refs.move([Move(base, here, there)], "catch up with the remote")
        return there

    def _tip(self, branch: str) -> str:
        tip = self._refs.tip(_HEADS + branch)
        if tip is None:
            raise ForgeRefusedError(f"the branch {branch} does not exist")
        return tip

    def _all(self) -> list[PullRequest]:
        found = [self._read(kept) for kept in self._refs.kept(f"{PULLS}/")]
        return sorted(found, key=lambda pull: pull.number)

    def _read(self, kept: Kept) -> PullRequest:
        found = decode(PullTrailers, kept.trailers) or PullTrailers(0, "open", False, "", "", "")  # noqa: FBT003
        title, _, rest = self._refs.message(kept.commit).partition("\n\n")
        body = rest.rpartition("\n\nPull-Request: ")[0]
        return PullRequest(
            number=int(kept.ref.rsplit("/", 1)[1]),
            state=found.state,
            draft=found.draft,
            head=found.head,
            sha=found.commit,
            base=found.base,
            title=title,
            body=body + "\n" if body else "",
            merge_commit=found.merge,
            labels=found.labels,
            node=kept.commit,
        )

    def _kept(self, pull: PullRequest, before: PullRequest) -> PullRequest:
        """Return the current record.

        Raises:
            GitError: another process has changed it meanwhile.
        """
        if replace(pull, node="") == replace(before, node=""):
            return before
        old = self._refs.tip(f"{PULLS}/{pull.number}")
        if not self._keep(pull, old):
            raise GitError(f"{PULLS}/{pull.number} was changed by another process at the same time; try again")
        return pull

    def _keep(self, pull: PullRequest, old: str | None) -> bool:
        trailers = PullTrailers(
            pull.number, pull.state, pull.draft, pull.head, pull.base, pull.sha, pull.merge_commit, tuple(pull.labels)
        )
        text = f"{one_line(pull.title)}\n\n{pull.body.strip()}\n\n{encode(trailers)}\n"
        commit = self._store.commit(self._store.tree_of(pull.sha), [pull.sha], text, self._identity, int(time.time()))
        return self._refs.move([Move(f"{PULLS}/{pull.number}", old, commit)], f"pull request {pull.number}")
