"""GitHub: pull requests, merges, statuses and issues through its REST interface, and GraphQL where only that can.

Every effect is looked for before it is brought about, and again after an answer that was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from executor.adapters.forge import Checks, CheckState, ForgeIssue, MergeAnswer, NewPull
from executor.adapters.forge_token import repository_of
from executor.adapters.github_api import Api
from executor.core.pull import PullRequest
from executor.errors import ForgeRefusedError, ForgeUnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from executor.adapters.github_api import Answer
    from executor.core.forge_rules import Forge

__all__ = ["AUTO_MERGE", "DRAFT", "ENQUEUE", "READY", "STATUS_PREFIX", "GitHubForge", "connect"]

T = TypeVar("T")
STATUS_PREFIX = "milestone/"
"""What the names of the statuses that we post begin with; they are no checks of somebody else's."""
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
_LEAVE = MergeAnswer("pending", "to be left to the forge")
_TRIES = 5
_CONFLICT = 409
_DENIED = frozenset({403, 404})
_GOOD = frozenset({"success", "neutral", "skipped"})
_UNDONE = ("queued", "in_progress", "waiting", "requested", "pending")
_MOVED = ("base branch was modified", "head branch was modified")
_EXPECTED = ("required status check", "is expected", "are expected", "in progress", "pending")


def connect(rules: Forge, address: str, token: str, cache: Path | None = None) -> GitHubForge:
    """The forge that the rules declare.

    Args:
        rules: of the kind `github`.
        address: of the remote, which says the repository where the rules do not.
        token: as `executor.adapters.forge_token.find_token` finds it.
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
        self._api = api
        self._owner = repository.partition("/")[0]
        self._at = f"/repos/{repository}"
        self._auto_merge = auto_merge

    # -- pull requests ------------------------------------------------------------------------------------------------

    def find(self, head: str) -> list[PullRequest]:
        """Every pull request of a branch, oldest first; those of other repositories' branches are not meant."""
        found = self._list({"head": f"{self._owner}:{head}"})
        return [pull for pull in found if pull.head == head]

    def pulls(self, base: str) -> list[PullRequest]:
        """Every pull request into a branch, oldest first."""
        return [pull for pull in self._list({"base": base}) if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """The open pull request of that branch into that base."""

        def probe() -> PullRequest | None:
            return next((pull for pull in self.find(new.head) if pull.state == "open" and pull.base == new.base), None)

        body = {"title": new.title, "head": new.head, "base": new.base, "body": new.body, "draft": new.draft}

        def refusal(answer: Answer) -> str:
            return "" if "already exists" in answer.message else answer.message

        return self._effect(
            "open a pull request", probe, lambda: self._api.write("POST", f"{self._at}/pulls", body), refusal
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
        now = self._pull(pull.number)
        wanted = {"title": now.title if title is None else title, "body": now.body if body is None else body}
        if wanted != {"title": now.title, "body": now.body}:
            path = f"{self._at}/pulls/{pull.number}"
            changed = {key: value for key, value in wanted.items() if value != getattr(now, key)}

            def probe() -> PullRequest | None:
                there = self._pull(pull.number)
                return there if {"title": there.title, "body": there.body} == wanted else None

            now = self._effect("update a pull request", probe, lambda: self._api.write("PATCH", path, changed))
        missing = [label for label in labels if label not in now.labels]
        if missing:
            path = f"{self._at}/issues/{pull.number}/labels"

            def labelled() -> PullRequest | None:
                there = self._pull(pull.number)
                return there if set(labels) <= set(there.labels) else None

            now = self._effect(
                "label a pull request", labelled, lambda: self._api.write("POST", path, {"labels": missing})
            )
        if draft is not None and now.draft != draft and now.state == "open":
            query = DRAFT if draft else READY

            def turned() -> PullRequest | None:
                there = self._pull(pull.number)
                return there if there.draft == draft else None

            node = now.node
            now = self._effect("change a draft", turned, lambda: self._api.graphql(query, {"id": node}))
        return now

    def checks(self, sha: str) -> Checks:
        """What other checks than ours say of a commit: statuses and check runs."""
        found: list[CheckState] = []
        for item in self._api.pages(f"{self._at}/commits/{sha}/status", {}, "statuses"):
            name, state = str(item.get("context", "")), str(item.get("state", ""))
            if not name.startswith(STATUS_PREFIX):
                word = "failure" if state in {"failure", "error"} else "success" if state == "success" else "pending"
                found.append(
                    CheckState(name, word, str(item.get("description") or ""), str(item.get("target_url") or ""))
                )
        for item in self._api.pages(f"{self._at}/commits/{sha}/check-runs", {}, "check_runs"):
            state, outcome = str(item.get("status", "")), str(item.get("conclusion") or "")
            if outcome == "action_required":
                word, detail = "pending", "a person has to let its workflow run"
            elif state in _UNDONE or not outcome:
                word, detail = "pending", ""
            else:
                word, detail = "success" if outcome in _GOOD else "failure", outcome
            found.append(CheckState(str(item.get("name", "")), word, detail, str(item.get("html_url") or "")))
        return Checks(tuple(found))

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

        def probe() -> PullRequest | None:
            there = self._pull(pull.number)
            return there if there.state != "open" else None

        path = f"{self._at}/pulls/{pull.number}"
        self._effect("close a pull request", probe, lambda: self._api.write("PATCH", path, {"state": "closed"}))

    # -- merging ------------------------------------------------------------------------------------------------------

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it at once if nothing is pending; else leave it to GitHub, if the base has something to wait for."""
        for tries in range(_TRIES):
            now = self._pull(pull.number)
            if now.state != "open" or now.sha != sha:
                return _standing(now, sha)
            checks = self.checks(sha)
            if checks.of("failure"):
                told = ", ".join(f'"{item.name}"' for item in checks.of("failure"))
                return MergeAnswer("refused", f"the forge's check {told} failed")
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

    def _merged(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer | None:
        """Merge now; `_LEAVE` when only GitHub can do that, None when nobody knows whether it was done."""
        body = {"sha": sha, "merge_method": method, "commit_title": title, "commit_message": message}
        answer = self._api.write("PUT", f"{self._at}/pulls/{pull.number}/merge", body)
        words = answer.message.lower()
        if answer.ok:
            return MergeAnswer("merged", commit=str(answer.data.get("sha", "")))
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
        branch = self._api.get(f"{self._at}/branches/{name}") or {}
        checks = (branch.get("protection") or {}).get("required_status_checks") or {}
        required = bool(checks.get("contexts") or checks.get("checks"))
        queue = False
        for rule in self._api.get(f"{self._at}/rules/branches/{name}") or []:
            required = required or (
                rule.get("type") == "required_status_checks"
                and bool((rule.get("parameters") or {}).get("required_status_checks"))
            )
            queue = queue or rule.get("type") == "merge_queue"
        return required, queue

    # -- issues and statuses ------------------------------------------------------------------------------------------

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Issues of a milestone given by title or number, with what blocks them; pull requests left out."""
        number = self._milestone(milestone)["number"]
        found = self._api.pages(
            f"{self._at}/issues", {"milestone": str(number), "state": "all", "sort": "created", "direction": "asc"}
        )
        return [self._issue(item) for item in found if "pull_request" not in item]

    def close_issue(self, number: int) -> bool:
        """Close an issue; whether it was open."""
        return self._closed(f"{self._at}/issues/{number}", {"state": "closed", "state_reason": "completed"}, "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; whether it was open."""
        number = self._milestone(title)["number"]
        return self._closed(f"{self._at}/milestones/{number}", {"state": "closed"}, "milestone")

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Tell the verdict of one check of ours; False where the token may not."""
        context = f"{STATUS_PREFIX}{name}"[:255]
        path = f"{self._at}/commits/{sha}/status"
        for tries in range(_TRIES):
            known = {str(item.get("context")): str(item.get("state")) for item in self._api.pages(path, {}, "statuses")}
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

    # -- how ----------------------------------------------------------------------------------------------------------

    def _list(self, filters: dict[str, str]) -> list[PullRequest]:
        asked = {"state": "all", "sort": "created", "direction": "asc", **filters}
        found = [_pull_of(item) for item in self._api.pages(f"{self._at}/pulls", asked) if self._is_here(item)]
        return sorted(found, key=lambda pull: pull.number)

    def _is_here(self, item: dict[str, Any]) -> bool:
        """Whether the branch of a pull request is in this repository, as far as the forge still knows."""
        repository = (item.get("head") or {}).get("repo") or {}
        full = str(repository.get("full_name", ""))
        return not full or f"/repos/{full}".lower() == self._at.lower()

    def _pull(self, number: int) -> PullRequest:
        found = self._api.get(f"{self._at}/pulls/{number}")
        if found is None:
            raise ForgeRefusedError(f"pull request #{number} is not on the forge")
        return _pull_of(found)

    def _milestone(self, wanted: str) -> dict[str, Any]:
        for item in self._api.pages(f"{self._at}/milestones", {"state": "all"}):
            if wanted in {str(item.get("title")), str(item.get("number"))}:
                return item
        raise ForgeRefusedError(f'the forge has no milestone "{wanted}"')

    def _issue(self, item: dict[str, Any]) -> ForgeIssue:
        number = int(item["number"])
        blocking = self._api.pages(f"{self._at}/issues/{number}/dependencies/blocked_by", {})
        return ForgeIssue(
            number=number,
            title=str(item.get("title", "")),
            body=str(item.get("body") or ""),
            state=str(item.get("state", "")),
            labels=_labels(item),
            needs=tuple(int(other["number"]) for other in blocking),
            url=str(item.get("html_url", "")),
        )

    def _closed(self, path: str, body: dict[str, str], what: str) -> bool:
        before = self._api.get(path)
        if before is None:
            raise ForgeRefusedError(f"the forge has no such {what}: {path}")
        if before.get("state") == "closed":
            return False

        def probe() -> bool | None:
            return True if (self._api.get(path) or {}).get("state") == "closed" else None

        return self._effect(f"close a {what}", probe, lambda: self._api.write("PATCH", path, body))

    def _effect(
        self,
        what: str,
        probe: Callable[[], T | None],
        do: Callable[[], Answer],
        refusal: Callable[[Answer], str] = lambda answer: answer.message or f"status {answer.status}",
    ) -> T:
        """Bring something about: look, do, look again, until it is there or the forge says no."""
        for tries in range(_TRIES):
            found = probe()
            if found is not None:
                return found
            answer = do()
            why = "" if answer.ok or answer.lost else refusal(answer)
            if why:
                raise ForgeRefusedError(f"the forge refuses to {what}: {why}")
            if not answer.ok or tries:
                self._api.wait(tries)
        found = probe()
        if found is None:
            raise ForgeUnavailableError(f"the forge did not say what came of this: {what}; run again later")
        return found


def _standing(pull: PullRequest, sha: str) -> MergeAnswer:
    """What there is to say of a pull request that is not open at that commit."""
    if pull.state == "merged":
        return MergeAnswer("merged", commit=pull.merge_commit)
    if pull.state == "closed":
        return MergeAnswer("refused", "it was closed without being merged")
    return MergeAnswer("moved", f"its branch is at {pull.sha[:10]}, expected {sha[:10]}")


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
        labels=_labels(item),
        node=str(item.get("node_id", "")),
    )


def _labels(item: dict[str, Any]) -> tuple[str, ...]:
    labels = item.get("labels") or []
    return tuple(str(label.get("name", "") if isinstance(label, dict) else label) for label in labels)
