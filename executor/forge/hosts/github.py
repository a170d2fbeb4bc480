"""GitHub, through its REST interface, and GraphQL where only that can: the modules `github_…` as one forge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.errors import UsageError
from executor.forge.hosts.github_checks import Statuses
from executor.forge.hosts.github_issues import Issues
from executor.forge.hosts.github_merging import Merging
from executor.forge.hosts.github_pulls import Pulls
from executor.forge.hosts.rest import GRAPHQL, PAGE, TIMEOUT, Api, log_reader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.forge.base import CheckReport, Checks, CheckState, ForgeIssue, MergeAnswer, NewPull
    from executor.forge.hosts.rest import Send
    from executor.forge.plugins import Target
    from executor.forge.pull_request import PullRequest

__all__ = ["GitHubForge", "connect", "over_pygithub"]

_OWN = "https://api.github.com"


def connect(wanted: Target) -> GitHubForge:
    """The repository on GitHub that the rules declare.

    Raises:
        UsageError: the library is not installed, or nothing says which repository is meant.
        ForgeRefusedError: there is no token.
    """
    rules = wanted.rules
    base = rules.base_url or _OWN
    send = over_pygithub(base, wanted.token)
    fetch = log_reader(base, {"Authorization": f"Bearer {wanted.token}"})
    api = Api(send, fetch=fetch, budget=wanted.budget(base), cache=wanted.cache)
    return GitHubForge(api, wanted.repository(), auto_merge=rules.auto_merge)


def over_pygithub(base_url: str, token: str) -> Send:
    """Requests by PyGithub, which knows about tokens, redirects and proxies.

    Raises:
        UsageError: the library is not installed.
    """
    try:
        from github import Auth
        from github.Requester import Requester
    except ImportError as error:
        raise UsageError(
            "kind = \"github\" in rules/forge.toml needs the extra `github`: pip install 'make-for-milestones[github]'"
        ) from error
    requester = Requester(
        Auth.Token(token), base_url, TIMEOUT, "make-for-milestones", PAGE, verify=True, retry=None, pool_size=None
    )

    def send(
        verb: str, path: str, parameters: dict[str, Any] | None, headers: dict[str, str], body: Any
    ) -> tuple[int, Mapping[str, Any], str]:
        place = requester.graphql_url if path == GRAPHQL else path
        return requester.requestJson(verb, place, parameters, headers, body)

    return send


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
