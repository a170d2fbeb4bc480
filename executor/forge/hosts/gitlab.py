"""GitLab: merge requests as pull requests, over its REST interface (version 4) with python-gitlab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from pydantic import Field

from executor.config.schema import Received
from executor.forge.base import CheckReport, Checks, CheckState, ForgeIssue, MergeAnswer
from executor.forge.hosts.credentials import TIMEOUT, log_reader
from executor.forge.hosts.repository import CONFLICT, RestForge
from executor.forge.hosts.rest import TRIES, Api, missing_extra
from executor.forge.pull_request import PullRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.forge.connect import Target
    from executor.forge.hosts.repository import Milestone
    from executor.forge.hosts.rest import Answer, Send

__all__ = ["GitLabForge", "connect", "over_python_gitlab"]

_OWN = "https://gitlab.com"
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


class GitLabForge(RestForge[_Request, _Issue]):
    """A project on GitLab.

    Args:
        api: sends the requests.
        project: its path, ``group/name``.
        auto_merge: GitLab may be asked to merge later.
    """

    kind = "gitlab"
    pull_type, issue_type = _Request, _Issue
    name, noun, sign = "GitLab", "merge request", "!"
    pulls_path, edit = "merge_requests", "PUT"
    keys = ("source_branch", "target_branch", "description")
    closed: ClassVar = {"state_event": "close"}
    draft = "Draft: "
    milestones: ClassVar = {"include_ancestors": "true"}
    status = ("name", 255)

    def __init__(self, api: Api, project: str, *, auto_merge: bool = True) -> None:
        super().__init__(api, f"/projects/{quote(project, safe='')}", auto_merge=auto_merge)

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Cancel auto-merge; returns the current merge request."""
        for tries in range(TRIES):
            now = self._get(pull.number)
            if now.state != "open" or not now.waiting:
                return now
            path = f"{self._at}/merge_requests/{pull.number}/cancel_merge_when_pipeline_succeeds"
            if not self._api.write("POST", path).ok:
                self._api.wait(tries)
        raise self._silent(pull, "cancel its auto-merge")

    def report(self, check: CheckState) -> CheckReport:
        """Return the end of a job's log; an external status has none."""
        return CheckReport(log=self._api.text(f"{self._at}/jobs/{check.id}/trace") if check.id else "")

    def _asked(self, *, head: str = "", base: str = "") -> Mapping[str, str]:
        branch = {"source_branch": head} if head else {"target_branch": base}
        return {"state": "all", "scope": "all", "order_by": "created_at", "sort": "asc", **branch}

    def _is_here(self, item: _Request) -> bool:
        return item.source_project_id == item.target_project_id

    def _in_milestone(self, milestone: Milestone) -> Mapping[str, str]:
        return {"milestone": milestone.title, "scope": "all", "order_by": "created_at", "sort": "asc"}

    def _statuses(self, sha: str) -> list[CheckState]:
        path = f"{self._at}/repository/commits/{sha}/statuses"
        return [_check_of(item) for item in self._api.pages(path, {}, _Status)]

    def _status_word(self, state: str) -> str:
        return "failed" if state in {"failure", "error"} else state

    def _add_labels(self, pull: PullRequest, missing: Sequence[str]) -> PullRequest:
        def probe() -> PullRequest | None:
            there = self._get(pull.number)
            return there if set(missing) <= set(there.labels) else None

        return self._api.effect(
            "label a merge request", probe, lambda: self._change(pull.number, {"add_labels": list(missing)})
        )

    def _comments_at(self, number: int, comment: int | None = None) -> str:
        notes = f"{self._at}/{self.pulls_path}/{number}/notes"
        return notes if comment is None else f"{notes}/{comment}"

    def _merge(
        self, pull: PullRequest, item: _Request, checks: Checks, sha: str, title: str, message: str, method: str
    ) -> MergeAnswer | None:
        status, text = item.detailed_merge_status, f"{title}\n\n{message}"
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
        body: dict[str, Any] = {"sha": sha, "squash": squash, "merge_commit_message": text}
        body |= {"squash_commit_message": text} if squash else {}
        body |= {"auto_merge": True, "merge_when_pipeline_succeeds": True} if later else {}
        return self._merge_answer(
            pull, self._api.write("PUT", f"{self._at}/merge_requests/{pull.number}/merge", body), waiting
        )

    def _merge_answer(self, pull: PullRequest, answer: Answer, waiting: str) -> MergeAnswer | None:
        """Interpret the answer to a merge request; None if the outcome is unknown."""
        if answer.lost:
            return None
        if answer.status == CONFLICT:
            return MergeAnswer("moved", answer.message or "its branch has moved")
        if not answer.ok:
            return MergeAnswer("refused", answer.message or f"status {answer.status}")
        now = self._get(pull.number)
        if now.state == "merged":
            return MergeAnswer("merged", commit=now.merge_commit)
        return MergeAnswer("scheduled", f"waits for {waiting}") if now.waiting else None

    def _merges_only_green(self) -> bool:
        return (self._api.get(self._at, _Project) or _Project()).only_allow_merge_if_pipeline_succeeds

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

    def _pull(self, item: _Request) -> PullRequest:
        state = _STATES.get(item.state, "closed")
        commit = item.merge_commit_sha or item.squash_commit_sha or item.sha
        return PullRequest(
            number=item.iid,
            state=state,
            draft=item.draft,
            head=item.source_branch,
            sha=item.sha,
            base=item.target_branch,
            title=item.title.removeprefix(self.draft),
            body=item.description,
            url=item.web_url,
            merge_commit=commit if state == "merged" else "",
            author=item.author.username,
            waiting=item.merge_when_pipeline_succeeds and state == "open",
            labels=tuple(item.labels),
        )


def over_python_gitlab(base_url: str, token: str) -> Send:
    """Send requests with python-gitlab, one at a time, with its tokens, redirects and proxies; the caller retries.

    Raises:
        UsageError: the library is not installed.
    """
    try:
        import gitlab
        import requests
    except ImportError as error:
        raise missing_extra("gitlab", "gitlab") from error
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


def _check_of(item: _Status) -> CheckState:
    word = item.status
    if word in _GOOD or (item.allow_failure and word in {*_BAD, "manual"}):
        return CheckState(item.name, "success", item.description, item.target_url)
    if word in _BAD:
        return CheckState(item.name, "failure", item.description, item.target_url, word, item.id)
    detail = "a person has to start it" if word == "manual" else item.description
    return CheckState(item.name, "pending", detail, item.target_url)
