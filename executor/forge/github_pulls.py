"""Issues and milestones of a repository on GitHub: read, and closed.

Pull requests of a repository on GitHub: found, opened, changed, closed; how they are merged is not known here.

What GitHub says of a commit: checks of others, which are read, and verdicts of ours, which are told.

How a pull request is merged on GitHub: at once, by its auto-merge, or through its merge queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from executor.errors import ForgeRefusedError, ForgeUnavailableError
from executor.forge.base import CheckReport, Checks, CheckState, ForgeIssue, MergeAnswer, red_answer, standing
from executor.forge.github_answers import (
    ANNOTATION,
    BLOCKER,
    BRANCH,
    COMMENT,
    ISSUE,
    MILESTONE,
    PULL,
    RULE,
    RUN,
    STATE,
    STATUS,
    TRIES,
    effect,
)
from executor.forge.pull_request import PullRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.forge.base import NewPull
    from executor.forge.github_api import Answer, Api

__all__ = [
    "AUTO_MERGE",
    "DEQUEUE",
    "DISABLE",
    "DRAFT",
    "ENQUEUE",
    "READY",
    "Issues",
    "Merging",
    "Pulls",
    "Statuses",
    "labels_of",
]


class Issues:
    """The issues and milestones of one repository; `executor.forge.base.Forge` says what each method promises."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._at = f"/repos/{repository}"

    def of_milestone(self, milestone: str) -> list[ForgeIssue]:
        """Issues of a milestone given by title or number, with what blocks them; pull requests left out."""
        number = self._milestone(milestone)["number"]
        asked = {"milestone": str(number), "state": "all", "sort": "created", "direction": "asc"}
        found = self._api.pages(f"{self._at}/issues", asked, ISSUE)
        return [self._issue(item) for item in found if "pull_request" not in item]

    def get(self, number: int) -> ForgeIssue | None:
        """One issue; None when there is none of that number."""
        found = self._api.get(f"{self._at}/issues/{number}", ISSUE)
        return None if found is None else self._issue(found)

    def edit(self, number: int, body: str) -> None:
        """Give an issue another text."""
        path = f"{self._at}/issues/{number}"

        def probe() -> bool | None:
            return True if str((self._api.get(path, ISSUE) or {}).get("body") or "") == body else None

        effect(self._api, "edit an issue", probe, lambda: self._api.write("PATCH", path, {"body": body}))

    def comment(self, number: int, mark: str, text: str) -> None:
        """Keep one comment that begins with the mark."""
        path = f"{self._at}/issues/{number}/comments"

        def ours() -> dict[str, Any] | None:
            comments = self._api.pages(path, {}, COMMENT)
            return next((item for item in comments if str(item.get("body") or "").startswith(mark)), None)

        def probe() -> bool | None:
            found = ours()
            return True if found is not None and str(found.get("body")) == text else None

        def write() -> Answer:
            found = ours()
            if found is None:
                return self._api.write("POST", path, {"body": text})
            return self._api.write("PATCH", f"{self._at}/issues/comments/{found['id']}", {"body": text})

        effect(self._api, "comment on a pull request", probe, write)

    def close(self, number: int) -> bool:
        """Close an issue; whether it was open."""
        return self._closed(f"{self._at}/issues/{number}", {"state": "closed", "state_reason": "completed"}, "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; whether it was open."""
        number = self._milestone(title)["number"]
        return self._closed(f"{self._at}/milestones/{number}", {"state": "closed"}, "milestone")

    def _milestone(self, wanted: str) -> dict[str, Any]:
        for item in self._api.pages(f"{self._at}/milestones", {"state": "all"}, MILESTONE):
            if wanted in {str(item.get("title")), str(item.get("number"))}:
                return item
        raise ForgeRefusedError(f'the forge has no milestone "{wanted}"')

    def _issue(self, item: dict[str, Any]) -> ForgeIssue:
        number = int(item["number"])
        blocking = self._api.pages(f"{self._at}/issues/{number}/dependencies/blocked_by", {}, BLOCKER)
        return ForgeIssue(
            number=number,
            title=str(item.get("title", "")),
            body=str(item.get("body") or ""),
            state=str(item.get("state", "")),
            labels=labels_of(item),
            needs=tuple(int(other["number"]) for other in blocking),
            url=str(item.get("html_url", "")),
        )

    def _closed(self, path: str, body: dict[str, str], what: str) -> bool:
        before = self._api.get(path, STATE)
        if before is None:
            raise ForgeRefusedError(f"the forge has no such {what}: {path}")
        if before.get("state") == "closed":
            return False

        def probe() -> bool | None:
            return True if (self._api.get(path, STATE) or {}).get("state") == "closed" else None

        return effect(self._api, f"close a {what}", probe, lambda: self._api.write("PATCH", path, body))


def labels_of(item: dict[str, Any]) -> tuple[str, ...]:
    """The names of the labels of an issue or pull request."""
    labels = item.get("labels") or []
    return tuple(str(label.get("name", "") if isinstance(label, dict) else label) for label in labels)


READY = """mutation($id: ID!) {
  markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } }
}"""
DRAFT = """mutation($id: ID!) {
  convertPullRequestToDraft(input: {pullRequestId: $id}) { pullRequest { isDraft } }
}"""


class Pulls:
    """The pull requests of one repository; `executor.forge.base.Forge` says what each method promises."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._owner = repository.partition("/")[0]
        self._at = f"/repos/{repository}"

    def get(self, number: int) -> PullRequest:
        """One of them; `ForgeRefusedError` if there is none of that number."""
        found = self._api.get(f"{self._at}/pulls/{number}", PULL)
        if found is None:
            raise ForgeRefusedError(f"pull request #{number} is not on the forge")
        return _pull_of(found)

    def find(self, head: str) -> list[PullRequest]:
        """Every pull request of a branch, oldest first; those of other repositories' branches are not meant."""
        found = self._list({"head": f"{self._owner}:{head}"})
        return [pull for pull in found if pull.head == head]

    def into(self, base: str) -> list[PullRequest]:
        """Every pull request into a branch, oldest first."""
        return [pull for pull in self._list({"base": base}) if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """The open pull request of that branch into that base."""

        def probe() -> PullRequest | None:
            return next((pull for pull in self.find(new.head) if pull.state == "open" and pull.base == new.base), None)

        body = {"title": new.title, "head": new.head, "base": new.base, "body": new.body, "draft": new.draft}

        def refusal(answer: Answer) -> str:
            return "" if "already exists" in answer.message else answer.message

        return effect(
            self._api, "open a pull request", probe, lambda: self._api.write("POST", f"{self._at}/pulls", body), refusal
        )

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
        now = self.get(pull.number)
        wanted = {"title": now.title if title is None else title, "body": now.body if body is None else body}
        if wanted != {"title": now.title, "body": now.body}:
            path = f"{self._at}/pulls/{pull.number}"
            changed = {key: value for key, value in wanted.items() if value != getattr(now, key)}

            def probe() -> PullRequest | None:
                there = self.get(pull.number)
                return there if {"title": there.title, "body": there.body} == wanted else None

            now = effect(self._api, "update a pull request", probe, lambda: self._api.write("PATCH", path, changed))
        missing = [label for label in labels if label not in now.labels]
        if missing:
            path = f"{self._at}/issues/{pull.number}/labels"

            def labelled() -> PullRequest | None:
                there = self.get(pull.number)
                return there if set(labels) <= set(there.labels) else None

            now = effect(
                self._api, "label a pull request", labelled, lambda: self._api.write("POST", path, {"labels": missing})
            )
        if draft is not None and now.draft != draft and now.state == "open":
            query = DRAFT if draft else READY

            def turned() -> PullRequest | None:
                there = self.get(pull.number)
                return there if there.draft == draft else None

            node = now.node
            now = effect(self._api, "change a draft", turned, lambda: self._api.graphql(query, {"id": node}))
        return now

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

        def probe() -> PullRequest | None:
            there = self.get(pull.number)
            return there if there.state != "open" else None

        path = f"{self._at}/pulls/{pull.number}"
        effect(self._api, "close a pull request", probe, lambda: self._api.write("PATCH", path, {"state": "closed"}))

    def _list(self, filters: dict[str, str]) -> list[PullRequest]:
        asked = {"state": "all", "sort": "created", "direction": "asc", **filters}
        found = [_pull_of(item) for item in self._api.pages(f"{self._at}/pulls", asked, PULL) if self._is_here(item)]
        return sorted(found, key=lambda pull: pull.number)

    def _is_here(self, item: dict[str, Any]) -> bool:
        """Whether the branch of a pull request is in this repository, as far as the forge still knows."""
        repository = (item.get("head") or {}).get("repo") or {}
        full = str(repository.get("full_name", ""))
        return not full or f"/repos/{full}".lower() == self._at.lower()


def _pull_of(item: dict[str, Any]) -> PullRequest:
    head, base = item.get("head") or {}, item.get("base") or {}
    merged = bool(item.get("merged_at"))
    return PullRequest(
        number=int(item["number"]),
        state="merged" if merged else str(item.get("state", "")),
        draft=bool(item.get("draft")),
        head=str(head.get("ref", "")),
        sha=str(head.get("sha", "")),
        base=str(base.get("ref", "")),
        title=str(item.get("title", "")),
        body=str(item.get("body") or ""),
        url=str(item.get("html_url", "")),
        merge_commit=str(item.get("merge_commit_sha") or "") if merged else "",
        author=str((item.get("user") or {}).get("login", "")),
        waiting=bool(item.get("auto_merge")),
        labels=labels_of(item),
        node=str(item.get("node_id", "")),
    )


_PREFIX = "milestone/"
"""What the names of the statuses that we post begin with; they are no checks of somebody else's."""
_DENIED = frozenset({403, 404})
_GOOD = frozenset({"success", "neutral", "skipped"})
_MOST_ANNOTATIONS = 50
_UNDONE = ("queued", "in_progress", "waiting", "requested", "pending")


class Statuses:
    """Those of one repository; `executor.forge.base.Forge` says what each method promises."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._at = f"/repos/{repository}"

    def checks(self, sha: str) -> Checks:
        """What other checks than ours say of a commit: statuses and check runs."""
        found: list[CheckState] = []
        for item in self._api.pages(f"{self._at}/commits/{sha}/status", {}, STATUS, "statuses"):
            name, state = str(item.get("context", "")), str(item.get("state", ""))
            if not name.startswith(_PREFIX):
                word = "failure" if state in {"failure", "error"} else "success" if state == "success" else "pending"
                found.append(
                    CheckState(
                        name,
                        word,
                        str(item.get("description") or ""),
                        str(item.get("target_url") or ""),
                        conclusion=state if word == "failure" else "",
                    )
                )
        for item in self._api.pages(f"{self._at}/commits/{sha}/check-runs", {}, RUN, "check_runs"):
            state, outcome = str(item.get("status", "")), str(item.get("conclusion") or "")
            if outcome == "action_required":
                word, detail = "pending", "a person has to let its workflow run"
            elif state in _UNDONE or not outcome:
                word, detail = "pending", ""
            else:
                word, detail = "success" if outcome in _GOOD else "failure", outcome
            url, number = str(item.get("html_url") or ""), int(item.get("id") or 0)
            found.append(
                CheckState(str(item.get("name", "")), word, detail, url, outcome if word == "failure" else "", number)
            )
        return Checks(tuple(found))

    def report(self, check: CheckState) -> CheckReport:
        """Annotations and the end of the log of a check run; a commit status has neither."""
        if not check.id:
            return CheckReport()
        lines = []
        for item in self._api.pages(f"{self._at}/check-runs/{check.id}/annotations", {}, ANNOTATION):
            place = f"{item['path']}:{item.get('start_line') or 1}: " if item.get("path") else ""
            lines.append(f"{place}{item.get('message') or item.get('title') or ''}".strip())
            if len(lines) >= _MOST_ANNOTATIONS:
                break
        return CheckReport(tuple(filter(None, lines)), self._api.text(f"{self._at}/actions/jobs/{check.id}/logs"))

    def post(self, sha: str, name: str, state: str, description: str) -> bool:
        """Tell the verdict of one check of ours; False where the token may not."""
        context = f"{_PREFIX}{name}"[:255]
        path = f"{self._at}/commits/{sha}/status"
        for tries in range(TRIES):
            statuses = self._api.pages(path, {}, STATUS, "statuses")
            known = {str(item.get("context")): str(item.get("state")) for item in statuses}
            if known.get(context) == state:
                return True
            body = {"state": state, "context": context, "description": description[:140]}
            answer = self._api.write("POST", f"{self._at}/statuses/{sha}", body)
            if answer.status in _DENIED:
                return False
            if not answer.ok and not answer.lost:
                raise ForgeRefusedError(f"the forge refuses a status for {sha[:10]}: {answer.message}")
            if answer.lost:
                self._api.wait(tries)
        return False


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
