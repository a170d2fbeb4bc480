"""How a pull request is merged on GitHub: at once, by its auto-merge, or through its merge queue."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from executor.errors import ForgeUnavailableError
from executor.forge.base import MergeAnswer, red_answer, standing
from executor.forge.hosts.answers import TRIES
from executor.forge.hosts.github_answers import BRANCH, RULE

if TYPE_CHECKING:
    from executor.forge.hosts.github_checks import Statuses
    from executor.forge.hosts.github_pulls import Pulls
    from executor.forge.hosts.rest import Api
    from executor.forge.pull_request import PullRequest

__all__ = ["AUTO_MERGE", "DEQUEUE", "DISABLE", "ENQUEUE", "Merging"]


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
_CONFLICT = 409
_MOVED = ("base branch was modified", "head branch was modified")
_EXPECTED = ("required status check", "is expected", "are expected", "in progress", "pending")


class Merging:
    """Merges the pull requests of one repository.

    Args:
        api: how requests are sent.
        repository: ``owner/name``.
        pulls: the pull requests as they are now.
        statuses: what is pending or failed.
        auto_merge: whether GitHub may be asked to merge later.
    """

    def __init__(self, api: Api, repository: str, pulls: Pulls, statuses: Statuses, *, auto_merge: bool) -> None:
        self._api = api
        self._at = f"/repos/{repository}"
        self._pulls = pulls
        self._statuses = statuses
        self._auto_merge = auto_merge

    def request(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it at once if nothing is pending; else leave it to GitHub, if the base has something to wait for."""
        for tries in range(TRIES):
            now = self._pulls.get(pull.number)
            if now.state != "open" or now.sha != sha:
                return standing(now, sha)
            checks = self._statuses.checks(sha)
            if checks.of("failure"):
                return red_answer(checks)
            waiting = ", ".join(
                f'"{item.name}"' + (f" ({item.detail})" if item.detail else "") for item in checks.of("pending")
            )
            answer: MergeAnswer | None = _LEAVE if waiting else self._merged(now, sha, title, message, method)
            if answer is _LEAVE:
                answer = self._left(now, sha, title, message, method, waiting or "required checks")
            if answer is not None:
                return answer
            self._api.wait(tries)
        raise ForgeUnavailableError(f"pull request #{pull.number}: the forge did not say what came of its merge")

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Take back auto-merge, or take it out of the merge queue; the pull request as it is now."""
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
        raise ForgeUnavailableError(f"pull request #{pull.number}: the forge did not take its auto-merge back")

    def _merged(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer | None:
        """Merge now; `_LEAVE` when only GitHub can do that, None when nobody knows whether it was done."""
        body = {"sha": sha, "merge_method": method, "commit_title": title, "commit_message": message}
        answer = self._api.write("PUT", f"{self._at}/pulls/{pull.number}/merge", body)
        words = answer.message.lower()
        if answer.ok:
            commit = answer.data.get("sha") if isinstance(answer.data, dict) else None
            return MergeAnswer("merged", commit=commit) if isinstance(commit, str) else None
        if answer.status == _CONFLICT or any(text in words for text in _MOVED):
            return MergeAnswer("moved", answer.message)
        if answer.lost:
            return None
        if "merge queue" in words or any(text in words for text in _EXPECTED):
            return _LEAVE
        return MergeAnswer("refused", answer.message or f"status {answer.status}")

    def _left(
        self, pull: PullRequest, sha: str, title: str, message: str, method: str, waiting: str
    ) -> MergeAnswer | None:
        """Have GitHub merge it when its checks are green; None when it could be merged at once after all."""
        if pull.waiting:
            return MergeAnswer("scheduled", f"waits for {waiting}")
        required, queue = self._required(pull.base)
        if not queue and not self._auto_merge:
            return MergeAnswer("pending", f"waits for {waiting}")
        if not queue and not required:
            return MergeAnswer(
                "pending",
                f"waits for {waiting}; auto-merge is not enabled, because {pull.base} has no required check and it "
                "would merge at once",
            )
        variables = {"id": pull.node, "sha": sha}
        if not queue:
            variables |= {"method": method.upper(), "headline": title, "body": message}
        answer = self._api.graphql(ENQUEUE if queue else AUTO_MERGE, variables)
        words = answer.message.lower()
        if answer.ok:
            return MergeAnswer("scheduled", f"waits for {waiting}" if not queue else "waits in the merge queue")
        if answer.lost or "clean status" in words or "already" in words:
            return None
        return MergeAnswer("refused", f"auto-merge cannot be enabled: {answer.message or answer.status}")

    def _required(self, base: str) -> tuple[bool, bool]:
        """Whether a branch has at least one required check, and whether it has a merge queue."""
        name = quote(base, safe="")
        branch = self._api.get(f"{self._at}/branches/{name}", BRANCH) or {}
        checks = (branch.get("protection") or {}).get("required_status_checks") or {}
        required = bool(checks.get("contexts") or checks.get("checks"))
        queue = False
        for rule in self._api.get(f"{self._at}/rules/branches/{name}", [RULE]) or []:
            required = required or (
                rule.get("type") == "required_status_checks"
                and bool((rule.get("parameters") or {}).get("required_status_checks"))
            )
            queue = queue or rule.get("type") == "merge_queue"
        return required, queue
