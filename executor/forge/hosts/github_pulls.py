"""Pull requests of a repository on GitHub: found, opened, changed, closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.errors import ForgeRefusedError
from executor.forge.hosts.answers import effect
from executor.forge.hosts.github_answers import PULL
from executor.forge.hosts.github_issues import labels_of
from executor.forge.pull_request import PullRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.forge.base import NewPull
    from executor.forge.hosts.rest import Answer, Api

__all__ = ["DRAFT", "READY", "Pulls"]


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
