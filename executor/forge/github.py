"""GitHub, through its REST interface, and GraphQL where only that can: the modules `github_…` as one forge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.errors import UsageError
from executor.forge.github_api import Api, repository_of
from executor.forge.github_pulls import Issues, Merging, Pulls, Statuses

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.forge.base import CheckReport, Checks, CheckState, ForgeIssue, MergeAnswer, NewPull
    from executor.forge.pull_request import PullRequest
    from executor.model.outward_rules import Forge

__all__ = ["GitHubForge", "connect"]


def connect(rules: Forge, address: str, token: str, cache: Path | None = None) -> GitHubForge:
    """The forge that the rules declare.

    Args:
        rules: of the kind `github`.
        address: of the remote, which says the repository where the rules do not.
        token: as `executor.forge.github_api.find_token` finds it.
        cache: folder for answers that need not be sent again.

    Raises:
        UsageError: the library is not installed, or nothing says which repository is meant.
    """
    repository = rules.repository or repository_of(address)
    if not repository:
        raise UsageError(
            f'rules/forge.toml: repository: is missing, and the address of the remote "{rules.pushes_to}" does not '
            'say it; write repository = "owner/name"'
        )
    api = Api(rules.base_url, token, writes_per_minute=rules.writes_per_minute, cache=cache)
    return GitHubForge(api, repository, auto_merge=rules.auto_merge)


class GitHubForge:
    """One repository on GitHub.

    Args:
        api: how requests are sent.
        repository: ``owner/name``.
        auto_merge: whether GitHub may be asked to merge later.
    """

    kind = "github"

    def __init__(self, api: Api, repository: str, *, auto_merge: bool = True) -> None:
        self._pulls = Pulls(api, repository)
        self._statuses = Statuses(api, repository)
        self._issues = Issues(api, repository)
        self._merging = Merging(api, repository, self._pulls, self._statuses, auto_merge=auto_merge)

    def find(self, head: str) -> list[PullRequest]:
        """Every pull request of a branch, oldest first; those of other repositories' branches are not meant."""
        return self._pulls.find(head)

    def pulls(self, base: str) -> list[PullRequest]:
        """Every pull request into a branch, oldest first."""
        return self._pulls.into(base)

    def open(self, new: NewPull) -> PullRequest:
        """The open pull request of that branch into that base."""
        return self._pulls.open(new)

    def update(
        self,
        pull: PullRequest,
        *,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
        labels: Sequence[str] = (),
    ) -> PullRequest:
        """The same with these values."""
        return self._pulls.update(pull, title=title, body=body, draft=draft, labels=labels)

    def checks(self, sha: str) -> Checks:
        """What other checks than ours say of a commit: statuses and check runs."""
        return self._statuses.checks(sha)

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it at once if nothing is pending; else leave it to GitHub, if the base has something to wait for."""
        return self._merging.request(pull, sha, title, message, method)

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Take back auto-merge or a place in the merge queue."""
        return self._merging.withdraw(pull)

    def report(self, check: CheckState) -> CheckReport:
        """Annotations and the end of the log of a check run."""
        return self._statuses.report(check)

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Keep one comment that begins with the mark."""
        self._issues.comment(pull.number, mark, text)

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""
        self._pulls.close(pull)

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Issues of a milestone given by title or number, with what blocks them; pull requests left out."""
        return self._issues.of_milestone(milestone)

    def issue(self, number: int) -> ForgeIssue | None:
        """One issue; None when there is none of that number."""
        return self._issues.get(number)

    def edit_issue(self, number: int, body: str) -> None:
        """Give an issue another text."""
        self._issues.edit(number, body)

    def close_issue(self, number: int) -> bool:
        """Close an issue; whether it was open."""
        return self._issues.close(number)

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; whether it was open."""
        return self._issues.close_milestone(title)

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Tell the verdict of one check of ours; False where the token may not."""
        return self._statuses.post(sha, name, state, description)
