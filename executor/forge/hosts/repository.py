"""A repository behind a REST interface: the methods of `Forge` that all hosts share.

A host gives its paths, its keys and its words for states. Each write is looked up before and after, by `Api.effect`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from executor.config.schema import Received
from executor.errors import ForgeRefusedError, ForgeUnavailableError
from executor.forge.base import CheckReport, Checks, CheckState, ForgeIssue, MergeAnswer, red_answer, standing
from executor.forge.hosts.rest import TRIES
from executor.forge.pull_request import PullRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.forge.base import NewPull
    from executor.forge.hosts.rest import Answer, Api, Issue, Pull, Status

__all__ = ["CONFLICT", "Comment", "Milestone", "RestForge", "check_of", "issue_of", "pull_of"]

CONFLICT = 409  # HTTP: it exists already, or the head is not the expected one
_NO_PERMISSION = frozenset({403, 404})
_OURS = "milestone/"
"""Prefix of the executor's statuses, which are no foreign checks."""
_LONGEST_NAME = 255  # characters; the limit of all hosts for the name of a status
_WORDS = {"success": "success", "warning": "success", "failure": "failure", "error": "failure"}


class _Numbered(Received):
    number: int


class Comment(Received):
    """A comment of any host."""

    id: int
    body: str = ""


class _State(Received):
    state: str


class Milestone(Received):
    """A milestone of any host.

    Attributes:
        title: its title.
        id: the host's id for it; in paths, unless it has a number (GitHub).
        number: GitHub's number.
        iid: GitLab's number for people.
    """

    title: str = ""
    id: int = 0
    number: int = 0
    iid: int = 0


def check_of(item: Status) -> CheckState:
    """Return a status of a commit as a check."""
    word = item.state or item.status
    state = _WORDS.get(word, "pending")
    return CheckState(item.context, state, item.description, item.target_url, word if state == "failure" else "")


def pull_of(item: Pull, draft: str = "") -> PullRequest:
    """Return a pull request as a value of ours; `draft` is the start of the title of a draft."""
    merged = item.merged or bool(item.merged_at)
    return PullRequest(
        number=item.number,
        state="merged" if merged else item.state,
        draft=item.draft or (bool(draft) and item.title.startswith(draft)),
        head=item.head.ref,
        sha=item.head.sha,
        base=item.base.ref,
        title=item.title.removeprefix(draft),
        body=item.body,
        url=item.html_url,
        merge_commit=item.merge_commit_sha if merged else "",
        author=item.user.login,
        waiting=bool(item.auto_merge),
        labels=tuple(label.name for label in item.labels),
        node=item.node_id,
    )


def issue_of(item: Issue, needs: Iterable[int]) -> ForgeIssue:
    """Return an issue as a value of ours, with the numbers of those that block it."""
    labels = tuple(label.name for label in item.labels)
    return ForgeIssue(item.number, item.title, item.body, item.state, labels, tuple(needs), item.html_url)


PullT = TypeVar("PullT", bound=Received)
IssueT = TypeVar("IssueT", bound=Received)


class RestForge(ABC, Generic[PullT, IssueT]):
    """A repository on a host; `Forge` documents the public methods.

    Args:
        api: sends the requests.
        at: path of the repository.
        auto_merge: the host may be asked to merge later.
    """

    kind: str
    pull_type: type[PullT]
    issue_type: type[IssueT]
    name: ClassVar[str] = "the forge"
    noun: ClassVar[str] = "pull request"
    sign: ClassVar[str] = "#"
    """The character before the number of a pull request."""
    pulls_path: ClassVar[str] = "pulls"
    edit: ClassVar[str] = "PATCH"
    """The verb of a change."""
    keys: ClassVar[tuple[str, str, str]] = ("head", "base", "body")
    """The host's keys for the branch, the base and the text of a pull request; the last one also for issues."""
    closed: ClassVar[Mapping[str, str]] = {"state": "closed"}
    """The change that closes a pull request, an issue or a milestone."""
    draft: ClassVar[str] = ""
    """The start of the title of a draft; empty if a title says nothing about it."""
    milestones: ClassVar[Mapping[str, str]] = {"state": "all"}
    """The parameters that list all milestones."""
    blockers: ClassVar[str] = ""
    """The path of the issues that block an issue, below the issue."""
    status: ClassVar[tuple[str, int]] = ("context", 255)
    """The key for the name of a status, and the maximum length of its text in characters."""

    def __init__(self, api: Api, at: str, *, auto_merge: bool) -> None:
        self._api = api
        self._at = at
        self._auto_merge = auto_merge

    @abstractmethod
    def _asked(self, *, head: str = "", base: str = "") -> Mapping[str, str]:
        """Return the parameters that list the pull requests of a branch or into a base."""

    @abstractmethod
    def _is_here(self, item: PullT) -> bool:
        """Return whether the branch of a pull request is in this repository."""

    @abstractmethod
    def _pull(self, item: PullT) -> PullRequest:
        """Return a pull request as a value of ours."""

    @abstractmethod
    def _in_milestone(self, milestone: Milestone) -> Mapping[str, str]:
        """Return the parameters that list the issues of a milestone."""

    @abstractmethod
    def _issue(self, item: IssueT) -> ForgeIssue:
        """Return an issue as a value of ours."""

    @abstractmethod
    def _statuses(self, sha: str) -> Iterable[CheckState]:
        """Return the latest status of each name, the executor's as well."""

    @abstractmethod
    def _merge(
        self, pull: PullRequest, item: PullT, checks: Checks, sha: str, title: str, message: str, method: str
    ) -> MergeAnswer | None:
        """Request the merge of a pull request without a failed check; None while the outcome is unknown."""

    def find(self, head: str) -> list[PullRequest]:
        """Return every pull request of a branch of this repository, oldest first."""
        return [pull for pull in self._list(self._asked(head=head)) if pull.head == head]

    def pulls(self, base: str) -> list[PullRequest]:
        """Return every pull request into a branch, oldest first."""
        return [pull for pull in self._list(self._asked(base=base)) if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """Open the pull request of that branch into that base, or return the open one."""
        values = dict(zip(self.keys, (new.head, new.base, new.body), strict=True))
        body: dict[str, object] = {**values, "title": f"{self.draft * new.draft}{new.title}"}
        body |= {} if self.draft else {"draft": new.draft}

        def probe() -> PullRequest | None:
            return next((pull for pull in self.find(new.head) if pull.state == "open" and pull.base == new.base), None)

        def refusal(answer: Answer) -> str:
            exists = answer.status == CONFLICT or "already exists" in answer.message
            return "" if exists else answer.message or f"status {answer.status}"

        def do() -> Answer:
            return self._api.write("POST", f"{self._at}/{self.pulls_path}", body)

        return self._api.effect(f"open a {self.noun}", probe, do, refusal)

    def update(
        self,
        pull: PullRequest,
        *,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
        labels: Sequence[str] = (),
    ) -> PullRequest:
        """Set these values; labels are only added."""
        now = self._get(pull.number)
        title = now.title if title is None else title
        draft = now.draft if draft is None or now.state != "open" else draft
        body = now.body if body is None else body
        changed: dict[str, object] = {}
        if title != now.title or (self.draft and draft != now.draft):
            changed["title"] = f"{self.draft * draft}{title}"
        if body != now.body:
            changed[self.keys[-1]] = body

        def probe() -> PullRequest | None:
            there = self._get(pull.number)
            same = (there.title, there.body) == (title, body) and (not self.draft or there.draft == draft)
            return there if same else None

        if changed:
            now = self._api.effect(f"update a {self.noun}", probe, lambda: self._change(pull.number, changed))
        missing = [label for label in labels if label not in now.labels]
        now = self._add_labels(now, missing) if missing else now
        return now if draft == now.draft else self._turn(now, draft=draft)

    def retarget(self, pull: PullRequest, base: str) -> PullRequest:
        """Set the branch that it goes to; returns the pull request."""
        n, body = pull.number, {self.keys[1]: base}
        return self._api.effect(
            f"retarget {self.sign}{n}", lambda: self._get(n).going_to(base), lambda: self._change(n, body)
        )

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

        def probe() -> bool | None:
            return True if self._get(pull.number).state != "open" else None

        self._api.effect(f"close a {self.noun}", probe, lambda: self._change(pull.number, self.closed))

    def checks(self, sha: str) -> Checks:
        """Return the foreign checks of a commit."""
        return Checks(tuple(item for item in self._statuses(sha) if not item.name.startswith(_OURS)))

    def report(self, check: CheckState) -> CheckReport:
        """Return an empty report: a status has only a description and an address, which the check has already."""
        _ = check
        return CheckReport()

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it now if nothing is pending; otherwise leave it to the host if the host waits for something."""
        for tries in range(TRIES):
            item = self._item(pull.number)
            now = self._pull(item)
            if now.state != "open" or (now.sha, now.base) != (sha, pull.base):
                return standing(now, sha)
            checks = self.checks(sha)
            if checks.of("failure"):
                return red_answer(checks)
            answer = self._merge(now, item, checks, sha, title, message, method)
            if answer is not None:
                return answer
            self._api.wait(tries)
        raise self._silent(pull, "report the result of its merge")

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Maintain one comment that starts with the mark."""

        def ours() -> Comment | None:
            return next((item for item in self._comments(pull.number) if item.body.startswith(mark)), None)

        def probe() -> bool | None:
            there = ours()
            return True if there is not None and there.body == text else None

        def do() -> Answer:
            there = ours()
            path = self._comments_at(pull.number, None if there is None else there.id)
            return self._api.write("POST" if there is None else self.edit, path, {"body": text})

        self._api.effect(f"comment on a {self.noun}", probe, do)

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Return the issues of a milestone given by title or number, with their blockers, without pull requests."""
        asked = self._in_milestone(self._milestone(milestone))
        items = self._api.pages(f"{self._at}/issues", asked, self.issue_type)
        found = [self._issue(item) for item in items if getattr(item, "pull_request", None) is None]
        return sorted(found, key=lambda issue: issue.number)

    def issue(self, number: int) -> ForgeIssue | None:
        """Return an issue; None if the number does not exist."""
        found = self._api.get(f"{self._at}/issues/{number}", self.issue_type)
        return None if found is None else self._issue(found)

    def edit_issue(self, number: int, body: str) -> None:
        """Replace the text of an issue."""
        path, key = f"{self._at}/issues/{number}", self.keys[-1]

        def probe() -> bool | None:
            return True if getattr(self._api.get(path, self.issue_type), key, "") == body else None

        self._api.effect("edit an issue", probe, lambda: self._api.write(self.edit, path, {key: body}))

    def close_issue(self, number: int) -> bool:
        """Close an issue; returns whether it was open."""
        return self._close(f"{self._at}/issues/{number}", "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; returns whether it was open."""
        found = self._milestone(title)
        return self._close(f"{self._at}/milestones/{found.number or found.id}", "milestone")

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Post the verdict of one of the executor's checks; False if the token lacks permission."""
        full, (key, longest) = f"{_OURS}{name}"[:_LONGEST_NAME], self.status
        body = {"state": self._status_word(state), key: full, "description": description[:longest]}
        for tries in range(TRIES):
            if {item.name: item.state for item in self._statuses(sha)}.get(full) == _WORDS.get(state, state):
                return True
            answer = self._api.write("POST", f"{self._at}/statuses/{sha}", body)
            if answer.status in _NO_PERMISSION:
                return False
            if not answer.ok and not answer.lost:
                raise ForgeRefusedError(f"{self._api.forge} refuses a status for {sha[:10]}: {answer.message}")
            if answer.lost:
                self._api.wait(tries)
        return False

    def _status_word(self, state: str) -> str:
        """Return the host's word for the state of a status."""
        return state

    def _get(self, number: int) -> PullRequest:
        return self._pull(self._item(number))

    def _item(self, number: int) -> PullT:
        found = self._api.get(f"{self._at}/{self.pulls_path}/{number}", self.pull_type)
        if found is None:
            raise ForgeRefusedError(f"{self.noun} {self.sign}{number} is not on {self.name}")
        return found

    def _list(self, asked: Mapping[str, str]) -> list[PullRequest]:
        items = self._api.pages(f"{self._at}/{self.pulls_path}", asked, self.pull_type)
        return sorted((self._pull(item) for item in items if self._is_here(item)), key=lambda pull: pull.number)

    def _change(self, number: int, body: Mapping[str, object]) -> Answer:
        return self._api.write(self.edit, f"{self._at}/{self.pulls_path}/{number}", body)

    def _add_labels(self, pull: PullRequest, missing: Sequence[str]) -> PullRequest:
        return self._labelled(pull, missing, missing)

    def _labelled(self, pull: PullRequest, missing: Iterable[str], given: Sequence[str | int]) -> PullRequest:
        """Add labels to a pull request; `given` is what the host takes for them, their names or ids."""

        def probe() -> PullRequest | None:
            there = self._get(pull.number)
            return there if set(missing) <= set(there.labels) else None

        path = f"{self._at}/issues/{pull.number}/labels"
        return self._api.effect(
            f"label a {self.noun}", probe, lambda: self._api.write("POST", path, {"labels": list(given)})
        )

    def _turn(self, pull: PullRequest, *, draft: bool) -> PullRequest:
        """Make a pull request a draft, or ready; only where the title says nothing about it."""
        _ = draft
        return pull

    def _comments_at(self, number: int, comment: int | None = None) -> str:
        """Return the path of the comments of a pull request, or of one of them."""
        return f"{self._at}/issues/" + (f"{number}/comments" if comment is None else f"comments/{comment}")

    def _comments(self, number: int) -> Iterable[Comment]:
        return self._api.pages(self._comments_at(number), {}, Comment)

    def _milestone(self, wanted: str) -> Milestone:
        for item in self._api.pages(f"{self._at}/milestones", self.milestones, Milestone):
            if wanted in {item.title, str(item.number or item.iid or item.id)}:
                return item
        raise ForgeRefusedError(f'{self.name} has no milestone "{wanted}"')

    def _blocking(self, number: int) -> list[int]:
        return [item.number for item in self._api.pages(f"{self._at}/issues/{number}/{self.blockers}", {}, _Numbered)]

    def _close(self, path: str, what: str) -> bool:
        """Close an issue or a milestone; returns whether it was open."""
        before = self._api.get(path, _State)
        if before is None:
            raise ForgeRefusedError(f"{self._api.forge} has no such {what}: {path}")
        if before.state == "closed":
            return False

        def probe() -> bool | None:
            there = self._api.get(path, _State)
            return True if there is not None and there.state == "closed" else None

        return self._api.effect(f"close a {what}", probe, lambda: self._api.write(self.edit, path, self.closed))

    def _silent(self, pull: PullRequest, what: str) -> ForgeUnavailableError:
        return ForgeUnavailableError(f"{self.noun} {self.sign}{pull.number}: {self.name} did not {what}")
