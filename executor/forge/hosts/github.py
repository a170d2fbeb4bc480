"""GitHub through its REST interface, and GraphQL where required.

A merge is immediate, by auto-merge, or through the merge queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field

from executor.config.schema import Received
from executor.errors import ForgeRefusedError
from executor.forge.base import CheckReport, Checks, CheckState, MergeAnswer
from executor.forge.hosts.credentials import TIMEOUT, log_reader
from executor.forge.hosts.repository import CONFLICT, RestForge, check_of, issue_of, pull_of
from executor.forge.hosts.rest import GRAPHQL, PAGE, TRIES, Api, Issue, Pull, Status, missing_extra, understood

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.forge.base import ForgeIssue
    from executor.forge.connect import Target
    from executor.forge.hosts.repository import Milestone
    from executor.forge.hosts.rest import Answer, Send
    from executor.forge.pull_request import PullRequest

__all__ = [
    "AUTO_MERGE",
    "DEQUEUE",
    "DISABLE",
    "DRAFT",
    "ENQUEUE",
    "READY",
    "GitHubForge",
    "connect",
    "over_pygithub",
]

_OWN = "https://api.github.com"
_GOOD = frozenset({"success", "neutral", "skipped"})
_MOST_ANNOTATIONS = 50  # a choice: the first ones go into a brief, the log has the rest
_UNDONE = ("queued", "in_progress", "waiting", "requested", "pending")
_LEAVE = MergeAnswer("pending", "to be left to the forge")
_MOVED = ("base branch was modified", "head branch was modified")
_EXPECTED = ("required status check", "is expected", "are expected", "in progress", "pending")
READY = """mutation($id: ID!) {
  markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } }
}"""
DRAFT = """mutation($id: ID!) {
  convertPullRequestToDraft(input: {pullRequestId: $id}) { pullRequest { isDraft } }
}"""
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


class _Numbered(Received):
    """An issue if only GitHub's own id of it is needed."""

    id: int


class _Annotation(Received):
    """A remark of a check run about a line."""

    path: str = ""
    start_line: int = 0
    message: str = ""
    title: str = ""


class _CheckRun(Received):
    """A check run."""

    id: int = 0
    name: str = ""
    status: str = ""
    conclusion: str = ""
    html_url: str = ""


class _RequiredChecks(Received):
    """The required checks of a protected branch, by name and by table."""

    contexts: list[str] = Field(default_factory=list)
    checks: list[dict[str, object]] = Field(default_factory=list)


class _Protection(Received):
    """The protection of a branch."""

    required_status_checks: _RequiredChecks = _RequiredChecks()


class _Branch(Received):
    """A branch."""

    protection: _Protection = _Protection()


class _RuleParameters(Received):
    """The parameters of a rule of a branch."""

    required_status_checks: Any = None


class _Rule(Received):
    """A rule of a branch."""

    type: str = ""
    parameters: _RuleParameters = _RuleParameters()


class _Merged(Received):
    """The answer to a merge."""

    sha: str


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


class GitHubForge(RestForge[Pull, Issue]):
    """A repository on GitHub.

    Args:
        api: sends the requests.
        repository: ``owner/name``.
        auto_merge: GitHub may be asked to merge later.
    """

    kind = "github"
    pull_type, issue_type = Pull, Issue
    blockers = "dependencies/blocked_by"
    status = ("context", 140)

    def __init__(self, api: Api, repository: str, *, auto_merge: bool = True) -> None:
        super().__init__(api, f"/repos/{repository}", auto_merge=auto_merge)
        self._owner = repository.partition("/")[0]

    def checks(self, sha: str) -> Checks:
        """Return the foreign checks of a commit: statuses and check runs."""
        runs = self._api.pages(f"{self._at}/commits/{sha}/check-runs", {}, _CheckRun, "check_runs")
        return Checks((*super().checks(sha).items, *map(_check_of_run, runs)))

    def report(self, check: CheckState) -> CheckReport:
        """Return annotations and the end of the log of a check run; a commit status has neither."""
        if not check.id:
            return CheckReport()
        lines = []
        for item in self._api.pages(f"{self._at}/check-runs/{check.id}/annotations", {}, _Annotation):
            place = f"{item.path}:{item.start_line or 1}: " if item.path else ""
            lines.append(f"{place}{item.message or item.title}".strip())
            if len(lines) >= _MOST_ANNOTATIONS:
                break
        return CheckReport(tuple(filter(None, lines)), self._api.text(f"{self._at}/actions/jobs/{check.id}/logs"))

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Cancel auto-merge, or remove it from the merge queue; returns the current pull request."""
        for tries in range(TRIES):
            now = self._get(pull.number)
            if now.state != "open":
                return now
            if now.waiting:
                answer = self._api.graphql(DISABLE, {"id": now.node})
            elif not tries and self._required(now.base)[1]:
                self._api.graphql(DEQUEUE, {"id": now.node})  # refused when it is not in the queue, which is as well
                return self._get(pull.number)
            else:
                return now
            if not answer.ok:
                self._api.wait(tries)
        raise self._silent(pull, "cancel its auto-merge")

    def block(self, number: int, by: Sequence[int]) -> None:
        """Record that an issue is blocked by others; only missing ones are added."""
        path = f"{self._at}/issues/{number}/{self.blockers}"

        for other in sorted(set(by).difference(self._blocking(number))):
            found = self._api.get(f"{self._at}/issues/{other}", _Numbered)
            if found is None:
                raise ForgeRefusedError(f"the forge has no issue #{other}, which #{number} needs")
            body = {"issue_id": found.id}

            def probe(other: int = other) -> bool | None:
                return True if other in self._blocking(number) else None

            def write(body: dict[str, int] = body) -> Answer:
                return self._api.write("POST", path, body)

            self._api.effect("add a dependency", probe, write)

    def _asked(self, *, head: str = "", base: str = "") -> Mapping[str, str]:
        branch = {"head": f"{self._owner}:{head}"} if head else {"base": base}
        return {"state": "all", "sort": "created", "direction": "asc", **branch}

    def _is_here(self, item: Pull) -> bool:
        """Return whether the branch of a pull request is in this repository; true if GitHub no longer knows."""
        full = item.head.repo.full_name
        return not full or f"/repos/{full}".lower() == self._at.lower()

    def _pull(self, item: Pull) -> PullRequest:
        return pull_of(item)

    def _in_milestone(self, milestone: Milestone) -> Mapping[str, str]:
        return {"milestone": str(milestone.number), "state": "all", "sort": "created", "direction": "asc"}

    def _issue(self, item: Issue) -> ForgeIssue:
        return issue_of(item, self._blocking(item.number))

    def _statuses(self, sha: str) -> list[CheckState]:
        return [check_of(item) for item in self._api.pages(f"{self._at}/commits/{sha}/status", {}, Status, "statuses")]

    def _turn(self, pull: PullRequest, *, draft: bool) -> PullRequest:
        def probe() -> PullRequest | None:
            there = self._get(pull.number)
            return there if there.draft == draft else None

        query = DRAFT if draft else READY
        return self._api.effect("change a draft", probe, lambda: self._api.graphql(query, {"id": pull.node}))

    def _merge(
        self, pull: PullRequest, item: Pull, checks: Checks, sha: str, title: str, message: str, method: str
    ) -> MergeAnswer | None:
        _ = item
        waiting = ", ".join(
            f'"{item.name}"' + (f" ({item.detail})" if item.detail else "") for item in checks.of("pending")
        )
        answer = _LEAVE if waiting else self._merge_now(pull, sha, title, message, method)
        if answer is _LEAVE:
            return self._leave_to_forge(pull, sha, title, message, method, waiting or "required checks")
        return answer

    def _merge_now(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer | None:
        """Merge now; `_LEAVE` if only GitHub can do that, None if the outcome is unknown."""
        body = {"sha": sha, "merge_method": method, "commit_title": title, "commit_message": message}
        answer = self._api.write("PUT", f"{self._at}/pulls/{pull.number}/merge", body)
        words = answer.message.lower()
        if answer.ok:
            merged = understood(answer.data, _Merged)
            return MergeAnswer("merged", commit=merged.sha) if merged is not None else None
        if answer.status == CONFLICT or any(text in words for text in _MOVED):
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
        branch = self._api.get(f"{self._at}/branches/{name}", _Branch) or _Branch()
        checks = branch.protection.required_status_checks
        rules = self._api.get(f"{self._at}/rules/branches/{name}", list[_Rule]) or []
        required = bool(checks.contexts or checks.checks) or any(
            rule.type == "required_status_checks" and rule.parameters.required_status_checks for rule in rules
        )
        return required, any(rule.type == "merge_queue" for rule in rules)


def over_pygithub(base_url: str, token: str) -> Send:
    """Send requests with PyGithub, which handles tokens, redirects and proxies.

    Raises:
        UsageError: the library is not installed.
    """
    try:
        from github import Auth
        from github.Requester import Requester
    except ImportError as error:
        raise missing_extra("github", "github") from error
    requester = Requester(
        Auth.Token(token), base_url, TIMEOUT, "make-for-milestones", PAGE, verify=True, retry=None, pool_size=None
    )

    def send(
        verb: str, path: str, parameters: dict[str, Any] | None, headers: dict[str, str], body: Any
    ) -> tuple[int, Mapping[str, Any], str]:
        place = requester.graphql_url if path == GRAPHQL else path
        return requester.requestJson(verb, place, parameters, headers, body)

    return send


def _check_of_run(item: _CheckRun) -> CheckState:
    outcome = item.conclusion
    if outcome == "action_required":
        word, detail = "pending", "a person has to approve its workflow run"
    elif item.status in _UNDONE or not outcome:
        word, detail = "pending", ""
    else:
        word, detail = "success" if outcome in _GOOD else "failure", outcome
    return CheckState(item.name, word, detail, item.html_url, outcome if word == "failure" else "", item.id)
