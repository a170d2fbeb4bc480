"""GitLab: merge requests as pull requests, over its REST interface (version 4) with python-gitlab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field

from executor.errors import ForgeRefusedError, ForgeUnavailableError, UsageError
from executor.forge.base import CheckReport, Checks, CheckState, ForgeIssue, MergeAnswer, red_answer, standing
from executor.forge.hosts.credentials import TIMEOUT, log_reader
from executor.forge.hosts.rest import TRIES, Api, Comment
from executor.forge.pull_request import PullRequest
from executor.model.validation import Received

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from executor.forge.base import NewPull
    from executor.forge.connect import Target
    from executor.forge.hosts.rest import Answer, Send

__all__ = ["GitLabForge", "connect", "over_python_gitlab"]

_OWN = "https://gitlab.com"
_DRAFT = "Draft: "
_OURS = "milestone/"
_STATES = {"opened": "open", "locked": "open", "closed": "closed", "merged": "merged"}
_GOOD = frozenset({"success", "skipped"})
_BAD = frozenset({"failed", "canceled"})
_NOT_READY = frozenset({"checking", "unchecked", "preparing", "approvals_syncing"})
_LEAVE = frozenset({"ci_still_running", "ci_must_pass"})
_WHY = {
    "not_approved": "it needs an approval",
    "requested_changes": "a reviewer has requested changes",
    "discussions_not_resolved": "a discussion is not resolved",
    "draft_status": "it is a draft",
    "conflict": "it conflicts with its target branch",
    "need_rebase": "it has to be rebased",
    "blocked_status": "another merge request blocks it",
    "status_checks_must_pass": "an external status check has not passed",
    "merge_request_blocked": "another merge request blocks it",
}
_CONFLICT = 409  # HTTP: it exists already, or the head is not the expected one


class _Issue(Received):
    iid: int
    state: str
    title: str = ""
    description: str = ""
    labels: list[str] = Field(default_factory=list)
    web_url: str = ""


class _Author(Received):
    username: str = ""


class _Request(_Issue):
    """A merge request, which has the keys of an issue as well."""

    source_branch: str
    target_branch: str
    draft: bool = False
    sha: str = ""
    merge_commit_sha: str = ""
    squash_commit_sha: str = ""
    merge_when_pipeline_succeeds: bool = False
    detailed_merge_status: str = ""
    author: _Author = _Author()
    source_project_id: int = 0
    target_project_id: int = 0


class _Status(Received):
    status: str
    id: int = 0
    name: str = ""
    description: str = ""
    target_url: str = ""
    allow_failure: bool = False


class _Link(Received):
    iid: int
    link_type: str = ""


class _Milestone(Received):
    id: int
    iid: int = 0
    title: str = ""


class _Project(Received):
    only_allow_merge_if_pipeline_succeeds: bool = False


def connect(wanted: Target) -> GitLabForge:
    """Connect to the declared project on GitLab; `base_url` is the address of the instance.

    Raises:
        UsageError: the library is not installed, or the project is unknown.
        ForgeRefusedError: no token was found.
    """
    base = wanted.rules.base_url or _OWN
    send = over_python_gitlab(base, wanted.token)
    fetch = log_reader(f"{base}/api/v4", {"PRIVATE-TOKEN": wanted.token})
    api = Api(send, fetch=fetch, budget=wanted.budget(base), cache=wanted.cache, forge=f"GitLab at {base}")
    return GitLabForge(api, wanted.repository(nested=True), auto_merge=wanted.rules.auto_merge)


class GitLabForge:
    """A project on GitLab; `Forge` documents the methods.

    Args:
        api: sends the requests.
        project: its path, ``group/name``.
        auto_merge: GitLab may be asked to merge later.
    """

    kind = "gitlab"

    def __init__(self, api: Api, project: str, *, auto_merge: bool = True) -> None:
        self._api = api
        self._at = f"/projects/{quote(project, safe='')}"
        self._auto_merge = auto_merge

    def find(self, head: str) -> list[PullRequest]:
        """Return every merge request of a branch of this project, oldest first."""
        return [pull for pull in self._list({"source_branch": head}) if pull.head == head]

    def pulls(self, base: str) -> list[PullRequest]:
        """Return every merge request into a branch, oldest first."""
        return [pull for pull in self._list({"target_branch": base}) if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """Open the merge request of that branch into that base, or return the open one."""

        def probe() -> PullRequest | None:
            return next((pull for pull in self.find(new.head) if pull.state == "open" and pull.base == new.base), None)

        body = {
            "source_branch": new.head,
            "target_branch": new.base,
            "title": f"{_DRAFT * new.draft}{new.title}",
            "description": new.body,
        }

        def refusal(answer: Answer) -> str:
            return "" if answer.status == _CONFLICT else answer.message or f"status {answer.status}"

        def do() -> Answer:
            return self._api.write("POST", f"{self._at}/merge_requests", body)

        return self._api.effect("open a merge request", probe, do, refusal)

    def update(
        self,
        pull: PullRequest,
        *,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
        labels: Sequence[str] = (),
    ) -> PullRequest:
        """Set these values; the title marks a draft."""
        now = self._get(pull.number)
        title = now.title if title is None else title
        draft = now.draft if draft is None or now.state != "open" else draft
        body = now.body if body is None else body
        missing = [label for label in labels if label not in now.labels]
        changed: dict[str, Any] = {}
        if (title, draft) != (now.title, now.draft):
            changed["title"] = f"{_DRAFT * draft}{title}"
        if body != now.body:
            changed["description"] = body
        if missing:
            changed["add_labels"] = missing
        if not changed:
            return now

        def probe() -> PullRequest | None:
            there = self._get(pull.number)
            same = (there.title, there.draft, there.body) == (title, draft, body)
            return there if same and set(labels) <= set(there.labels) else None

        return self._api.effect("update a merge request", probe, lambda: self._put(pull.number, changed))

    def retarget(self, pull: PullRequest, base: str) -> PullRequest:
        """Set the branch that it goes to; returns the merge request."""
        n, body = pull.number, {"target_branch": base}
        return self._api.effect(f"retarget !{n}", lambda: self._get(n).going_to(base), lambda: self._put(n, body))

    def checks(self, sha: str) -> Checks:
        """Return the commit's foreign jobs and external statuses."""
        return Checks(tuple(_check_of(item) for item in self._statuses(sha) if not item.name.startswith(_OURS)))

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it now if nothing is pending; otherwise schedule it, if the project requires green pipelines."""
        for tries in range(TRIES):
            item = self._item(pull.number)
            now = _pull_of(item)
            if now.state != "open" or (now.sha, now.base) != (sha, pull.base):
                return standing(now, sha)
            checks = self.checks(sha)
            if checks.of("failure"):
                return red_answer(checks)
            answer = self._ask(now, item, sha, f"{title}\n\n{message}", method, checks)
            if answer is not None:
                return answer
            self._api.wait(tries)
        raise ForgeUnavailableError(f"merge request !{pull.number}: GitLab did not report the result of its merge")

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Cancel auto-merge; returns the current merge request."""
        for tries in range(TRIES):
            now = self._get(pull.number)
            if now.state != "open" or not now.waiting:
                return now
            path = f"{self._at}/merge_requests/{pull.number}/cancel_merge_when_pipeline_succeeds"
            if not self._api.write("POST", path).ok:
                self._api.wait(tries)
        raise ForgeUnavailableError(f"merge request !{pull.number}: GitLab did not cancel its auto-merge")

    def report(self, check: CheckState) -> CheckReport:
        """Return the end of a job's log; an external status has none."""
        return CheckReport(log=self._api.text(f"{self._at}/jobs/{check.id}/trace") if check.id else "")

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Maintain one note that starts with the mark."""
        path = f"{self._at}/merge_requests/{pull.number}/notes"

        def write(known: int | None) -> Answer:
            if known is None:
                return self._api.write("POST", path, {"body": text})
            return self._api.write("PUT", f"{path}/{known}", {"body": text})

        def notes() -> Iterator[Comment]:
            return self._api.pages(path, {}, Comment)

        self._api.maintain_comment("comment on a merge request", mark, text, notes, write)

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

        def probe() -> bool | None:
            return True if self._get(pull.number).state != "open" else None

        self._api.effect("close a merge request", probe, lambda: self._put(pull.number, {"state_event": "close"}))

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Return the issues of a milestone given by title or number, with their blockers if the project has them."""
        asked = {"milestone": self._milestone(milestone).title, "scope": "all", "order_by": "created_at", "sort": "asc"}
        return [self._issue(item) for item in self._api.pages(f"{self._at}/issues", asked, _Issue)]

    def issue(self, number: int) -> ForgeIssue | None:
        """Return an issue; None if the number does not exist."""
        found = self._api.get(f"{self._at}/issues/{number}", _Issue)
        return None if found is None else self._issue(found)

    def edit_issue(self, number: int, body: str) -> None:
        """Replace the text of an issue."""
        path = f"{self._at}/issues/{number}"

        def probe() -> bool | None:
            found = self._api.get(path, _Issue)
            return True if (found.description if found is not None else "") == body else None

        self._api.effect("edit an issue", probe, lambda: self._api.write("PUT", path, {"description": body}))

    def close_issue(self, number: int) -> bool:
        """Close an issue; returns whether it was open."""
        return self._close(f"{self._at}/issues/{number}", "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; returns whether it was open."""
        number = self._milestone(title).id
        return self._close(f"{self._at}/milestones/{number}", "milestone")

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Post the verdict of one of the executor's checks; False if the token lacks permission."""
        full = f"{_OURS}{name}"[:255]
        word = "failed" if state in {"failure", "error"} else state

        def known() -> str | None:
            return {item.name: item.status for item in self._statuses(sha)}.get(full)

        body = {"state": word, "name": full, "description": description[:255]}
        return self._api.post_status(f"{self._at}/statuses/{sha}", word, known, body, sha)

    def _ask(
        self, pull: PullRequest, item: _Request, sha: str, message: str, method: str, checks: Checks
    ) -> MergeAnswer | None:
        """Request the merge; None while the outcome is unknown."""
        status = item.detailed_merge_status
        waiting = ", ".join(f'"{check.name}"' for check in checks.of("pending")) or "its pipeline"
        if pull.waiting:
            return MergeAnswer("scheduled", f"waits for {waiting}")
        if status in _NOT_READY:
            return None
        if status in _WHY:
            return MergeAnswer("refused", _WHY[status])
        later = bool(checks.of("pending")) or status in _LEAVE
        if later and not (self._auto_merge and self._merges_only_green()):
            why = "; auto-merge is not used, because the project also merges red pipelines" if self._auto_merge else ""
            return MergeAnswer("pending", f"waits for {waiting}{why}")
        squash = method == "squash"
        body: dict[str, Any] = {"sha": sha, "squash": squash, "merge_commit_message": message}
        body |= {"squash_commit_message": message} if squash else {}
        body |= {"auto_merge": True, "merge_when_pipeline_succeeds": True} if later else {}
        return self._merge_answer(pull, self._put(pull.number, body, "/merge"), waiting)

    def _merge_answer(self, pull: PullRequest, answer: Answer, waiting: str) -> MergeAnswer | None:
        """Interpret the answer to a merge request; None if the outcome is unknown."""
        if answer.lost:
            return None
        if answer.status == _CONFLICT:
            return MergeAnswer("moved", answer.message or "its branch has moved")
        if not answer.ok:
            return MergeAnswer("refused", answer.message or f"status {answer.status}")
        now = self._get(pull.number)
        if now.state == "merged":
            return MergeAnswer("merged", commit=now.merge_commit)
        return MergeAnswer("scheduled", f"waits for {waiting}") if now.waiting else None

    def _merges_only_green(self) -> bool:
        return (self._api.get(self._at, _Project) or _Project()).only_allow_merge_if_pipeline_succeeds

    def _get(self, number: int) -> PullRequest:
        return _pull_of(self._item(number))

    def _item(self, number: int) -> _Request:
        found = self._api.get(f"{self._at}/merge_requests/{number}", _Request)
        if found is None:
            raise ForgeRefusedError(f"merge request !{number} is not on GitLab")
        return found

    def _put(self, number: int, body: Mapping[str, Any], what: str = "") -> Answer:
        return self._api.write("PUT", f"{self._at}/merge_requests/{number}{what}", body)

    def _list(self, filters: Mapping[str, str]) -> list[PullRequest]:
        asked = {"state": "all", "scope": "all", "order_by": "created_at", "sort": "asc", **filters}
        found = [
            _pull_of(item)
            for item in self._api.pages(f"{self._at}/merge_requests", asked, _Request)
            if item.source_project_id == item.target_project_id
        ]
        return sorted(found, key=lambda pull: pull.number)

    def _statuses(self, sha: str) -> list[_Status]:
        return list(self._api.pages(f"{self._at}/repository/commits/{sha}/statuses", {}, _Status))

    def _milestone(self, wanted: str) -> _Milestone:
        for item in self._api.pages(f"{self._at}/milestones", {"include_ancestors": "true"}, _Milestone):
            if wanted in {item.title, str(item.iid)}:
                return item
        raise ForgeRefusedError(f'GitLab has no milestone "{wanted}"')

    def _issue(self, item: _Issue) -> ForgeIssue:
        links = self._api.get(f"{self._at}/issues/{item.iid}/links", list[_Link]) or []
        return ForgeIssue(
            number=item.iid,
            title=item.title,
            body=item.description,
            state="open" if item.state == "opened" else "closed",
            labels=tuple(item.labels),
            needs=tuple(link.iid for link in links if link.link_type == "is_blocked_by"),
            url=item.web_url,
        )

    def _close(self, path: str, what: str) -> bool:
        return self._api.close_once(path, what, lambda: self._api.write("PUT", path, {"state_event": "close"}))


def over_python_gitlab(base_url: str, token: str) -> Send:
    """Send requests with python-gitlab, one at a time, with its tokens, redirects and proxies; the caller retries.

    Raises:
        UsageError: the library is not installed.
    """
    try:
        import gitlab
        import requests
    except ImportError as error:
        raise UsageError(
            "kind = \"gitlab\" in rules/forge.toml needs the extra `gitlab`: pip install 'make-for-milestones[gitlab]'"
        ) from error
    session = requests.Session()
    answers: list[requests.Response] = []
    session.hooks["response"].append(lambda answer, *_, **__: answers.append(answer))
    client = gitlab.Gitlab(
        base_url, private_token=token, session=session, timeout=TIMEOUT, user_agent="make-for-milestones"
    )

    def send(
        verb: str, path: str, parameters: dict[str, Any] | None, headers: dict[str, str], body: Any
    ) -> tuple[int, Mapping[str, Any], str]:
        answers.clear()
        try:
            client.http_request(
                verb,
                path,
                query_data=parameters,
                post_data=body,
                obey_rate_limit=False,
                retry_transient_errors=False,
                extra_headers=headers,
            )
        except gitlab.GitlabError as error:
            if not answers:
                raise RuntimeError(str(error)) from error
        last = answers[-1]  # its error does not carry the headers
        return last.status_code, last.headers, last.text

    return send


def _pull_of(item: _Request) -> PullRequest:
    state = _STATES.get(item.state, "closed")
    commit = item.merge_commit_sha or item.squash_commit_sha or item.sha
    return PullRequest(
        number=item.iid,
        state=state,
        draft=item.draft,
        head=item.source_branch,
        sha=item.sha,
        base=item.target_branch,
        title=item.title.removeprefix(_DRAFT),
        body=item.description,
        url=item.web_url,
        merge_commit=commit if state == "merged" else "",
        author=item.author.username,
        waiting=item.merge_when_pipeline_succeeds and state == "open",
        labels=tuple(item.labels),
    )


def _check_of(item: _Status) -> CheckState:
    word = item.status
    if word in _GOOD or (item.allow_failure and word in {*_BAD, "manual"}):
        return CheckState(item.name, "success", item.description, item.target_url)
    if word in _BAD:
        return CheckState(item.name, "failure", item.description, item.target_url, word, item.id)
    detail = "a person has to start it" if word == "manual" else item.description
    return CheckState(item.name, "pending", detail, item.target_url)
