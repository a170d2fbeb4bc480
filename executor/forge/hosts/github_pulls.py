"""Pull requests of a repository on GitHub: found, opened, changed, closed.

Issues and milestones of the repository: read, edited, closed; comments.

The types of GitHub's answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from executor.errors import ForgeRefusedError
from executor.forge.base import ForgeIssue
from executor.forge.hosts.rest import Comment
from executor.forge.pull_request import PullRequest
from executor.model.validation import Received

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.forge.base import NewPull
    from executor.forge.hosts.rest import Answer, Api

__all__ = ["DRAFT", "READY", "Annotation", "Branch", "CheckRun", "Issues", "Merged", "Pulls", "Rule", "Status"]


class Label(Received):
    """A label of an issue or a pull request."""

    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _only_its_name(cls, value: Any) -> Any:
        """GitHub lists the labels of an issue as tables or as names."""
        return {"name": value} if isinstance(value, str) else value


class Repository(Received):
    """The repository of a branch."""

    full_name: str = ""


class Head(Received):
    """The branch of a pull request; its repository is absent if it was deleted."""

    ref: str
    sha: str
    repo: Repository = Repository()


class Base(Received):
    """The branch that a pull request goes into."""

    ref: str


class User(Received):
    """An account."""

    login: str = ""


class Pull(Received):
    """A pull request."""

    number: int
    state: str
    head: Head
    base: Base
    draft: bool = False
    merged_at: str = ""
    title: str = ""
    body: str = ""
    html_url: str = ""
    merge_commit_sha: str = ""
    user: User = User()
    labels: list[Label] = Field(default_factory=list)
    node_id: str = ""
    auto_merge: Any = None
    """Null unless GitHub was asked to merge it later."""


class Issue(Received):
    """An issue, or a pull request in a list of issues."""

    number: int
    title: str
    state: str
    body: str = ""
    labels: list[Label] = Field(default_factory=list)
    html_url: str = ""
    pull_request: Any = None
    """Present only in pull requests."""


class Blocker(Received):
    """An issue that blocks another."""

    number: int


class Numbered(Received):
    """An issue if only GitHub's own id of it is needed."""

    id: int


class Milestone(Received):
    """A milestone."""

    number: int
    title: str = ""


class Status(Received):
    """A status of a commit."""

    context: str = ""
    state: str = ""
    description: str = ""
    target_url: str = ""


class Annotation(Received):
    """A remark of a check run about a line."""

    path: str = ""
    start_line: int = 0
    message: str = ""
    title: str = ""


class CheckRun(Received):
    """A check run."""

    id: int = 0
    name: str = ""
    status: str = ""
    conclusion: str = ""
    html_url: str = ""


class RequiredChecks(Received):
    """The required checks of a protected branch, by name and by table."""

    contexts: list[str] = Field(default_factory=list)
    checks: list[dict[str, object]] = Field(default_factory=list)


class Protection(Received):
    """The protection of a branch."""

    required_status_checks: RequiredChecks = RequiredChecks()


class Branch(Received):
    """A branch."""

    protection: Protection = Protection()


class RuleParameters(Received):
    """The parameters of a rule of a branch."""

    required_status_checks: Any = None


class Rule(Received):
    """A rule of a branch."""

    type: str = ""
    parameters: RuleParameters = RuleParameters()


class Merged(Received):
    """The answer to a merge."""

    sha: str


class Issues:
    """The issues and milestones of one repository; `executor.forge.base.Forge` documents the methods."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._at = f"/repos/{repository}"

    def of_milestone(self, milestone: str) -> list[ForgeIssue]:
        """Return the issues of a milestone given by title or number, with their blockers, without pull requests."""
        number = self._milestone(milestone).number
        asked = {"milestone": str(number), "state": "all", "sort": "created", "direction": "asc"}
        found = self._api.pages(f"{self._at}/issues", asked, Issue)
        return [self._issue(item) for item in found if item.pull_request is None]

    def get(self, number: int) -> ForgeIssue | None:
        """Return an issue; None if the number does not exist."""
        found = self._api.get(f"{self._at}/issues/{number}", Issue)
        return None if found is None else self._issue(found)

    def edit(self, number: int, body: str) -> None:
        """Replace the text of an issue."""
        path = f"{self._at}/issues/{number}"

        def probe() -> bool | None:
            found = self._api.get(path, Issue)
            return True if (found.body if found is not None else "") == body else None

        self._api.effect("edit an issue", probe, lambda: self._api.write("PATCH", path, {"body": body}))

    def block(self, number: int, by: Sequence[int]) -> None:
        """Record that an issue is blocked by others; only missing ones are added."""
        path = f"{self._at}/issues/{number}/dependencies/blocked_by"

        def known() -> set[int]:
            return {item.number for item in self._api.pages(path, {}, Blocker)}

        for other in sorted(set(by) - known()):
            found = self._api.get(f"{self._at}/issues/{other}", Numbered)
            if found is None:
                raise ForgeRefusedError(f"the forge has no issue #{other}, which #{number} needs")
            body = {"issue_id": found.id}

            def probe(other: int = other) -> bool | None:
                return True if other in known() else None

            def write(body: dict[str, int] = body) -> Answer:
                return self._api.write("POST", path, body)

            self._api.effect("add a dependency", probe, write)

    def comment(self, number: int, mark: str, text: str) -> None:
        """Maintain one comment that starts with the mark."""
        path = f"{self._at}/issues/{number}/comments"

        def write(known: int | None) -> Answer:
            if known is None:
                return self._api.write("POST", path, {"body": text})
            return self._api.write("PATCH", f"{self._at}/issues/comments/{known}", {"body": text})

        def comments() -> Iterator[Comment]:
            return self._api.pages(path, {}, Comment)

        self._api.maintain_comment("comment on a pull request", mark, text, comments, write)

    def close(self, number: int) -> bool:
        """Close an issue; returns whether it was open."""
        return self._close(f"{self._at}/issues/{number}", {"state": "closed", "state_reason": "completed"}, "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; returns whether it was open."""
        number = self._milestone(title).number
        return self._close(f"{self._at}/milestones/{number}", {"state": "closed"}, "milestone")

    def _milestone(self, wanted: str) -> Milestone:
        for item in self._api.pages(f"{self._at}/milestones", {"state": "all"}, Milestone):
            if wanted in {item.title, str(item.number)}:
                return item
        raise ForgeRefusedError(f'the forge has no milestone "{wanted}"')

    def _issue(self, item: Issue) -> ForgeIssue:
        blocking = self._api.pages(f"{self._at}/issues/{item.number}/dependencies/blocked_by", {}, Blocker)
        return ForgeIssue(
            number=item.number,
            title=item.title,
            body=item.body,
            state=item.state,
            labels=tuple(label.name for label in item.labels),
            needs=tuple(other.number for other in blocking),
            url=item.html_url,
        )

    def _close(self, path: str, body: dict[str, str], what: str) -> bool:
        return self._api.close_once(path, what, lambda: self._api.write("PATCH", path, body))


READY = """mutation($id: ID!) {
  markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } }
}"""
DRAFT = """mutation($id: ID!) {
  convertPullRequestToDraft(input: {pullRequestId: $id}) { pullRequest { isDraft } }
}"""


class Pulls:
    """The pull requests of one repository; `executor.forge.base.Forge` documents the methods."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._owner = repository.partition("/")[0]
        self._at = f"/repos/{repository}"

    def get(self, number: int) -> PullRequest:
        """Return a pull request; raises `ForgeRefusedError` if the number does not exist."""
        found = self._api.get(f"{self._at}/pulls/{number}", Pull)
        if found is None:
            raise ForgeRefusedError(f"pull request #{number} is not on the forge")
        return _pull_of(found)

    def find(self, head: str) -> list[PullRequest]:
        """Return every pull request of a branch, oldest first, without those from other repositories."""
        found = self._list({"head": f"{self._owner}:{head}"})
        return [pull for pull in found if pull.head == head]

    def into(self, base: str) -> list[PullRequest]:
        """Return every pull request into a branch, oldest first."""
        return [pull for pull in self._list({"base": base}) if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """Open the pull request of that branch into that base, or return the open one."""

        def probe() -> PullRequest | None:
            return next((pull for pull in self.find(new.head) if pull.state == "open" and pull.base == new.base), None)

        body = {"title": new.title, "head": new.head, "base": new.base, "body": new.body, "draft": new.draft}

        def refusal(answer: Answer) -> str:
            return "" if "already exists" in answer.message else answer.message

        return self._api.effect(
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
        """Set these values; returns the pull request."""
        now = self.get(pull.number)
        wanted = {"title": now.title if title is None else title, "body": now.body if body is None else body}
        if wanted != {"title": now.title, "body": now.body}:
            path = f"{self._at}/pulls/{pull.number}"
            changed = {key: value for key, value in wanted.items() if value != getattr(now, key)}

            def probe() -> PullRequest | None:
                there = self.get(pull.number)
                return there if {"title": there.title, "body": there.body} == wanted else None

            now = self._api.effect("update a pull request", probe, lambda: self._api.write("PATCH", path, changed))
        missing = [label for label in labels if label not in now.labels]
        if missing:
            path = f"{self._at}/issues/{pull.number}/labels"

            def labelled() -> PullRequest | None:
                there = self.get(pull.number)
                return there if set(labels) <= set(there.labels) else None

            now = self._api.effect(
                "label a pull request", labelled, lambda: self._api.write("POST", path, {"labels": missing})
            )
        if draft is not None and now.draft != draft and now.state == "open":
            query = DRAFT if draft else READY

            def turned() -> PullRequest | None:
                there = self.get(pull.number)
                return there if there.draft == draft else None

            node = now.node
            now = self._api.effect("change a draft", turned, lambda: self._api.graphql(query, {"id": node}))
        return now

    def retarget(self, pull: PullRequest, base: str) -> PullRequest:
        """Set the branch that it goes to; returns the pull request."""
        n, path = pull.number, f"{self._at}/pulls/{pull.number}"

        def do() -> Answer:
            return self._api.write("PATCH", path, {"base": base})

        return self._api.effect(f"retarget #{n}", lambda: self.get(n).going_to(base), do)

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

        def probe() -> PullRequest | None:
            there = self.get(pull.number)
            return there if there.state != "open" else None

        path = f"{self._at}/pulls/{pull.number}"
        self._api.effect("close a pull request", probe, lambda: self._api.write("PATCH", path, {"state": "closed"}))

    def _list(self, filters: dict[str, str]) -> list[PullRequest]:
        asked = {"state": "all", "sort": "created", "direction": "asc", **filters}
        found = [_pull_of(item) for item in self._api.pages(f"{self._at}/pulls", asked, Pull) if self._is_here(item)]
        return sorted(found, key=lambda pull: pull.number)

    def _is_here(self, item: Pull) -> bool:
        """Return whether the branch of a pull request is in this repository; true if the forge no longer knows."""
        full = item.head.repo.full_name
        return not full or f"/repos/{full}".lower() == self._at.lower()


def _pull_of(item: Pull) -> PullRequest:
    merged = bool(item.merged_at)
    return PullRequest(
        number=item.number,
        state="merged" if merged else item.state,
        draft=item.draft,
        head=item.head.ref,
        sha=item.head.sha,
        base=item.base.ref,
        title=item.title,
        body=item.body,
        url=item.html_url,
        merge_commit=item.merge_commit_sha if merged else "",
        author=item.user.login,
        waiting=bool(item.auto_merge),
        labels=tuple(label.name for label in item.labels),
        node=item.node_id,
    )
