"""GitHub through its REST interface, and GraphQL where required: the modules `github_…` as one forge.

Statuses of a commit: foreign checks are read, the executor's verdicts are posted.

Merges of a pull request: immediate, by auto-merge, or through the merge queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from executor.errors import ForgeUnavailableError, UsageError
from executor.forge.base import CheckReport, Checks, CheckState, MergeAnswer, red_answer, standing
from executor.forge.hosts.credentials import TIMEOUT, log_reader
from executor.forge.hosts.github_pulls import Annotation, Branch, CheckRun, Issues, Merged, Pulls, Rule, Status
from executor.forge.hosts.rest import GRAPHQL, PAGE, TRIES, Api, understood

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.forge.base import ForgeIssue, NewPull
    from executor.forge.connect import Target
    from executor.forge.hosts.rest import Send
    from executor.forge.pull_request import PullRequest

__all__ = [
    "AUTO_MERGE",
    "DEQUEUE",
    "DISABLE",
    "ENQUEUE",
    "GitHubForge",
    "Merging",
    "Statuses",
    "connect",
    "over_pygithub",
]


_PREFIX = "milestone/"
"""Prefix of the executor's statuses, which are no foreign checks."""
_GOOD = frozenset({"success", "neutral", "skipped"})
_MOST_ANNOTATIONS = 50  # a choice: the first ones go into a brief, the log has the rest
_UNDONE = ("queued", "in_progress", "waiting", "requested", "pending")


class Statuses:
    """The statuses of one repository; `executor.forge.base.Forge` documents the methods."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._at = f"/repos/{repository}"

    def checks(self, sha: str) -> Checks:
        """Return the foreign checks of a commit: statuses and check runs."""
        statuses = self._api.pages(f"{self._at}/commits/{sha}/status", {}, Status, "statuses")
        foreign = [_check_of_status(item) for item in statuses if not item.context.startswith(_PREFIX)]
        runs = self._api.pages(f"{self._at}/commits/{sha}/check-runs", {}, CheckRun, "check_runs")
        return Checks((*foreign, *(_check_of_run(item) for item in runs)))

    def report(self, check: CheckState) -> CheckReport:
        """Return annotations and the end of the log of a check run; a commit status has neither."""
        if not check.id:
            return CheckReport()
        lines = []
        for item in self._api.pages(f"{self._at}/check-runs/{check.id}/annotations", {}, Annotation):
            place = f"{item.path}:{item.start_line or 1}: " if item.path else ""
            lines.append(f"{place}{item.message or item.title}".strip())
            if len(lines) >= _MOST_ANNOTATIONS:
                break
        return CheckReport(tuple(filter(None, lines)), self._api.text(f"{self._at}/actions/jobs/{check.id}/logs"))

    def post(self, sha: str, name: str, state: str, description: str) -> bool:
        """Post the verdict of one of the executor's checks; False if the token lacks permission."""
        context = f"{_PREFIX}{name}"[:255]
        path = f"{self._at}/commits/{sha}/status"

        def known() -> str | None:
            return {item.context: item.state for item in self._api.pages(path, {}, Status, "statuses")}.get(context)

        body = {"state": state, "context": context, "description": description[:140]}
        return self._api.post_status(f"{self._at}/statuses/{sha}", state, known, body, sha)


def _check_of_status(item: Status) -> CheckState:
    state = item.state
    word = "failure" if state in {"failure", "error"} else "success" if state == "success" else "pending"
    conclusion = state if word == "failure" else ""
    return CheckState(item.context, word, item.description, item.target_url, conclusion=conclusion)


def _check_of_run(item: CheckRun) -> CheckState:
    outcome = item.conclusion
    if outcome == "action_required":
        word, detail = "pending", "a person has to approve its workflow run"
    elif item.status in _UNDONE or not outcome:
        word, detail = "pending", ""
    else:
        word, detail = "success" if outcome in _GOOD else "failure", outcome
    return CheckState(item.name, word, detail, item.html_url, outcome if word == "failure" else "", item.id)


AUTO_MERGE = """mutation(
  $id: ID!, $sha: GitObjectID!, $method: PullRequestMergeMethod!, $headline: String!, $body: String!
) {
  enablePullRequestAutoMerge(input: {
    pullRequestId: $id, expectedHeadOid: $sha, mergeMethod: $method, commitHeadline: $headline, commitBody: $body
  }) { pullRequest { autoMergeRequest { enabledAt } } }
}"""
ENQUEUE = """mutation($id: ID!, $sha: GitObjectID!) {
  enqueuePullRequest(input: {pullRequestId: $id, expectedHeadOid: $sha}) { mergeQueueEntry { id } }
}"""
DISABLE = """mutation($id: ID!) {
  disablePullRequestAutoMerge(input: {pullRequestId: $id}) { pullRequest { id } }
}"""
DEQUEUE = """mutation($id: ID!) {
  dequeuePullRequest(input: {id: $id}) { mergeQueueEntry { id } }
}"""
_LEAVE = MergeAnswer("pending", "to be left to the forge")
_CONFLICT = 409  # HTTP: the head is not the expected one
_MOVED = ("base branch was modified", "head branch was modified")
_EXPECTED = ("required status check", "is expected", "are expected", "in progress", "pending")


class Merging:
    """Merges the pull requests of one repository.

    Args:
        api: sends the requests.
        repository: ``owner/name``.
        pulls: current pull requests.
        statuses: pending and failed checks.
        auto_merge: GitHub may be asked to merge later.
    """

    def __init__(self, api: Api, repository: str, pulls: Pulls, statuses: Statuses, *, auto_merge: bool) -> None:
        self._api = api
        self._at = f"/repos/{repository}"
        self._pulls = pulls
        self._statuses = statuses
        self._auto_merge = auto_merge

    def request(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it now if nothing is pending; otherwise leave it to GitHub if the base has something to wait for."""
        for tries in range(TRIES):
            now = self._pulls.get(pull.number)
            if now.state != "open" or (now.sha, now.base) != (sha, pull.base):
                return standing(now, sha)
            checks = self._statuses.checks(sha)
            if checks.of("failure"):
                return red_answer(checks)
            waiting = ", ".join(
                f'"{item.name}"' + (f" ({item.detail})" if item.detail else "") for item in checks.of("pending")
            )
            answer: MergeAnswer | None = _LEAVE if waiting else self._merge_now(now, sha, title, message, method)
            if answer is _LEAVE:
                answer = self._leave_to_forge(now, sha, title, message, method, waiting or "required checks")
            if answer is not None:
                return answer
            self._api.wait(tries)
        raise ForgeUnavailableError(f"pull request #{pull.number}: the forge did not report the result of its merge")

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Cancel auto-merge, or remove it from the merge queue; returns the current pull request."""
        for tries in range(TRIES):
            now = self._pulls.get(pull.number)
            if now.state != "open":
                return now
            if now.waiting:
                answer = self._api.graphql(DISABLE, {"id": now.node})
            elif not tries and self._required(now.base)[1]:
                self._api.graphql(DEQUEUE, {"id": now.node})  # refused when it is not in the queue, which is as well
                return self._pulls.get(pull.number)
            else:
                return now
            if not answer.ok:
                self._api.wait(tries)
        raise ForgeUnavailableError(f"pull request #{pull.number}: the forge did not cancel its auto-merge")

    def _merge_now(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer | None:
        """Merge now; `_LEAVE` if only GitHub can do that, None if the outcome is unknown."""
        body = {"sha": sha, "merge_method": method, "commit_title": title, "commit_message": message}
        answer = self._api.write("PUT", f"{self._at}/pulls/{pull.number}/merge", body)
        words = answer.message.lower()
        if answer.ok:
            merged = understood(answer.data, Merged)
            return MergeAnswer("merged", commit=merged.sha) if merged is not None else None
        if answer.status == _CONFLICT or any(text in words for text in _MOVED):
            return MergeAnswer("moved", answer.message)
        if answer.lost:
            return None
        if "merge queue" in words or any(text in words for text in _EXPECTED):
            return _LEAVE
        return MergeAnswer("refused", answer.message or f"status {answer.status}")

    def _leave_to_forge(
        self, pull: PullRequest, sha: str, title: str, message: str, method: str, waiting: str
    ) -> MergeAnswer | None:
        """Enable GitHub's auto-merge; None if the pull request can be merged immediately."""
        if pull.waiting:
            return MergeAnswer("scheduled", f"waits for {waiting}")
        required, queue = self._required(pull.base)
        if not queue and not (self._auto_merge and required):
            no_check = (
                f"auto-merge is not enabled, because {pull.base} has no required check, so it would merge immediately"
            )
            return MergeAnswer("pending", f"waits for {waiting}" + (f"; {no_check}" if self._auto_merge else ""))
        variables = {"id": pull.node, "sha": sha}
        texts = {"method": method.upper(), "headline": title, "body": message}
        answer = self._api.graphql(ENQUEUE, variables) if queue else self._api.graphql(AUTO_MERGE, variables | texts)
        words = answer.message.lower()
        if queue and not answer.ok and not answer.lost and any(text in words for text in _EXPECTED):
            # The queue takes only what is green; auto-merge puts it there once it is.
            answer, queue = self._api.graphql(AUTO_MERGE, variables | texts), False
            words = answer.message.lower()
        if answer.ok or (queue and "already" in words):
            return MergeAnswer("scheduled", f"waits for {waiting}" if not queue else "waits in the merge queue")
        if answer.lost or "clean status" in words or "already" in words:
            return None
        if "unstable status" in words:
            # Its required checks have passed: it could be merged at once, and GitHub schedules nothing.
            return MergeAnswer("pending", f"waits for {waiting}, which {pull.base} does not require")
        return MergeAnswer("refused", f"auto-merge cannot be enabled: {answer.message or answer.status}")

    def _required(self, base: str) -> tuple[bool, bool]:
        """Return whether a branch has at least one required check, and whether it has a merge queue."""
        name = quote(base, safe="")
        branch = self._api.get(f"{self._at}/branches/{name}", Branch) or Branch()
        checks = branch.protection.required_status_checks
        rules = self._api.get(f"{self._at}/rules/branches/{name}", list[Rule]) or []
        required = bool(checks.contexts or checks.checks) or any(
            rule.type == "required_status_checks" and rule.parameters.required_status_checks for rule in rules
        )
        return required, any(rule.type == "merge_queue" for rule in rules)


_OWN = "https://api.github.com"


def connect(wanted: Target) -> GitHubForge:
    """Connect to the declared repository on GitHub.

    Raises:
        UsageError: the library is not installed, or the repository is unknown.
        ForgeRefusedError: no token was found.
    """
    rules = wanted.rules
    base = rules.base_url or _OWN
    send = over_pygithub(base, wanted.token)
    fetch = log_reader(base, {"Authorization": f"Bearer {wanted.token}"})
    api = Api(send, fetch=fetch, budget=wanted.budget(base), cache=wanted.cache, forge=f"GitHub at {base}")
    return GitHubForge(api, wanted.repository(), auto_merge=rules.auto_merge)


def over_pygithub(base_url: str, token: str) -> Send:
    """Send requests with PyGithub, which handles tokens, redirects and proxies.

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
    """A repository on GitHub.

    Args:
        api: sends the requests.
        repository: ``owner/name``.
        auto_merge: GitHub may be asked to merge later.
    """

    kind = "github"

    def __init__(self, api: Api, repository: str, *, auto_merge: bool = True) -> None:
        self._pulls = Pulls(api, repository)
        self._statuses = Statuses(api, repository)
        self._issues = Issues(api, repository)
        self._merging = Merging(api, repository, self._pulls, self._statuses, auto_merge=auto_merge)

    def find(self, head: str) -> list[PullRequest]:
        """Return every pull request of a branch, oldest first, without those from other repositories."""
        return self._pulls.find(head)

    def pulls(self, base: str) -> list[PullRequest]:
        """Return every pull request into a branch, oldest first."""
        return self._pulls.into(base)

    def open(self, new: NewPull) -> PullRequest:
        """Open the pull request of that branch into that base, or return the open one."""
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
        """Set these values; returns the pull request."""
        return self._pulls.update(pull, title=title, body=body, draft=draft, labels=labels)

    def retarget(self, pull: PullRequest, base: str) -> PullRequest:
        """Set the branch that it goes to."""
        return self._pulls.retarget(pull, base)

    def checks(self, sha: str) -> Checks:
        """Return the foreign checks of a commit: statuses and check runs."""
        return self._statuses.checks(sha)

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it now if nothing is pending; otherwise leave it to GitHub if the base has something to wait for."""
        return self._merging.request(pull, sha, title, message, method)

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Cancel auto-merge or a place in the merge queue."""
        return self._merging.withdraw(pull)

    def report(self, check: CheckState) -> CheckReport:
        """Return annotations and the end of the log of a check run."""
        return self._statuses.report(check)

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Maintain one comment that starts with the mark."""
        self._issues.comment(pull.number, mark, text)

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""
        self._pulls.close(pull)

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Return the issues of a milestone given by title or number, with their blockers, without pull requests."""
        return self._issues.of_milestone(milestone)

    def issue(self, number: int) -> ForgeIssue | None:
        """Return an issue; None if the number does not exist."""
        return self._issues.get(number)

    def edit_issue(self, number: int, body: str) -> None:
        """Replace the text of an issue."""
        self._issues.edit(number, body)

    def block(self, number: int, by: Sequence[int]) -> None:
        """Record that an issue is blocked by others; only missing ones are added."""
        self._issues.block(number, by)

    def close_issue(self, number: int) -> bool:
        """Close an issue; returns whether it was open."""
        return self._issues.close(number)

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; returns whether it was open."""
        return self._issues.close_milestone(title)

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Post the verdict of one of the executor's checks; False if the token lacks permission."""
        return self._statuses.post(sha, name, state, description)
