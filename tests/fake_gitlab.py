"""A stateful GitLab of our own: merge requests of one project over real HTTP, with a real bare repository behind it.

Its faults, kills and pages are those of the fake GitHub; what differs is what GitLab says and when it refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fake_github import NAME, OWNER, TOKEN, FakeGitHub, Pull, Refusal, Text

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PROJECT", "FakeGitLab"]

PROJECT = f"{OWNER}/{NAME}"
AT = f"/api/v4/projects/{OWNER}%2F{NAME}"
_STATUS = {"success": "success", "failure": "failed", "pending": "pending", "cancelled": "canceled"}


class FakeGitLab(FakeGitHub):
    """The server; use as a context manager."""

    def __init__(self, git: Path) -> None:
        super().__init__(git)
        self.only_green = False
        """Whether the project merges only green pipelines."""
        self.preparing = 0
        """So many looks at a merge request find it still being prepared."""
        self.approvals = False
        """Whether a merge request needs an approval."""

    def knows(self, headers: Any) -> bool:
        return bool(headers.get("PRIVATE-TOKEN") == TOKEN)

    def routes(self) -> list[tuple[str, Any]]:
        return _ROUTES

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if not path.startswith(AT):
            raise Refusal(404, "404 Project Not Found")
        return super().answer(method, path.removeprefix(AT), query, body)

    def list_requests(self, query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        head, base = query.get("source_branch", [""])[0], query.get("target_branch", [""])[0]
        found = [pull for pull in self.pulls if head in {"", pull.head} and base in {"", pull.base}]
        return 200, [self.shown(pull) for pull in found]

    def create_request(self, _query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        head, base = body["source_branch"], body["target_branch"]
        if not self.tip(head) or not self.tip(base):
            raise Refusal(422, "Source branch does not exist")
        same = [pull for pull in self.pulls if (pull.head, pull.base, pull.state) == (head, base, "open")]
        if same:
            told = f"Another open merge request already exists for this source branch: !{same[0].number}"
            raise Refusal(409, told)
        made = Pull(self._number(), head, base, body["title"], body.get("description") or "", False, self.tip(head))
        self.pulls.append(made)
        self.refresh()
        return 201, self.shown(made)

    def get_request(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        shown = self.shown(self._pull(number))
        if self.preparing > 0:
            self.preparing -= 1
            shown["detailed_merge_status"] = "preparing"
        return 200, shown

    def put_request(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        pull = self._pull(number)
        pull.title, pull.body = body.get("title", pull.title), body.get("description", pull.body)
        pull.labels += [label for label in body.get("add_labels", []) if label not in pull.labels]
        pull.base = body.get("target_branch", pull.base)
        if body.get("state_event") == "close":
            pull.state = "closed"
        return 200, self.shown(pull)

    def merge_request(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        pull = self._pull(number)
        if body.get("sha") and body["sha"] != pull.sha:
            raise Refusal(409, f"SHA does not match HEAD of source branch: {pull.sha}")
        running = "pending" in self.checks.get(pull.sha, {}).values()
        if pull.state != "open" or self.shown(pull)["draft"] or self.approvals or (self._red(pull) and not running):
            raise Refusal(405, "405 Method Not Allowed")
        message = body.get("squash_commit_message") or body.get("merge_commit_message") or ""
        title, _, rest = message.partition("\n\n")
        method = "squash" if body.get("squash") else "merge"
        if running and (body.get("auto_merge") or body.get("merge_when_pipeline_succeeds")):
            pull.auto = {"method": method, "title": title, "body": rest}
            return 200, self.shown(pull)
        if running and self.only_green:
            raise Refusal(405, "405 Method Not Allowed")
        self._merge(pull, method, title, rest)
        return 200, self.shown(pull)

    def cancel(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        pull = self._pull(number)
        if self.before_withdrawal is not None:
            act, self.before_withdrawal = self.before_withdrawal, None
            act(pull)
        if pull.merged:
            raise Refusal(405, "405 Method Not Allowed")
        if pull.auto is None:
            raise Refusal(406, "406 Not Acceptable")
        pull.auto = None
        self.withdrawn.append(pull.number)
        return 201, self.shown(pull)

    def all_statuses(self, _query: dict[str, list[str]], _body: Any, sha: str) -> tuple[int, Any]:
        jobs = [
            {
                "id": self.run_ids.setdefault((sha, name), len(self.run_ids) + 1),
                "sha": sha,
                "name": name,
                "status": _STATUS.get(state, state),
                "target_url": f"{self.url}/{PROJECT}/-/jobs/{name}",
                "description": None,
                "allow_failure": False,
            }
            for name, state in self.checks.get(sha, {}).items()
        ]
        latest = {item["name"]: item for item in self.statuses.get(sha, [])}
        shown = [{key: item[key] for key in ("id", "name", "status", "description")} for item in latest.values()]
        return 200, jobs + shown

    def set_status(self, _query: dict[str, list[str]], body: Any, sha: str) -> tuple[int, Any]:
        if body["state"] not in {"pending", "running", "success", "failed", "canceled", "skipped"}:
            raise Refusal(400, "state does not have a valid value")
        made = {"id": 1000, "name": body["name"], "status": body["state"], "description": body.get("description")}
        self.statuses.setdefault(sha, []).append({**made, "context": body["name"], "state": body["state"]})
        return 201, made

    def trace(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        return 200, Text(self.logs.get(self._run_named(number), ""))

    def project(self, _query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        return 200, {"id": 1, "only_allow_merge_if_pipeline_succeeds": self.only_green, "merge_method": "merge"}

    def issues_of(self, query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        title = query.get("milestone", [""])[0]
        number = next((key for key, item in self.milestones.items() if item["title"] == title), None)
        return 200, [self.shown_issue(item) for item in self.issues.values() if item["milestone"] == number]

    def put_issue(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        item = self._issue(number)
        item["body"] = body.get("description", item["body"])
        item["state"] = "closed" if body.get("state_event") == "close" else item["state"]
        return 200, self.shown_issue(item)

    def links(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        blocking = self.blocked_by.get(int(number), [])
        return 200, [{**self.shown_issue(self.issues[other]), "link_type": "is_blocked_by"} for other in blocking]

    def all_milestones(self, _query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        return 200, [self.shown_milestone(item) for item in self.milestones.values()]

    def one_milestone(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        item = self.milestones[int(number)]
        item["state"] = "closed" if (body or {}).get("state_event") == "close" else item["state"]
        return 200, self.shown_milestone(item)

    def shown_milestone(self, item: dict[str, Any]) -> dict[str, Any]:
        state = "active" if item["state"] == "open" else item["state"]
        return {"id": item["number"], "iid": item["number"], "title": item["title"], "state": state}

    def _red(self, pull: Pull) -> bool:
        return self.only_green and any(state != "success" for state in self.checks.get(pull.sha, {}).values())

    def _missing(self, pull: Pull) -> list[str]:
        """Jobs that are not green: auto-merge waits for the whole pipeline."""
        return [name for name, state in self.checks.get(pull.sha, {}).items() if state != "success"]

    def shown(self, pull: Pull) -> dict[str, Any]:
        running = "pending" in self.checks.get(pull.sha, {}).values()
        draft = pull.title.startswith("Draft: ")
        status = (
            "draft_status"
            if draft
            else "not_approved"
            if self.approvals
            else "ci_still_running"
            if running and self.only_green
            else "mergeable"
        )
        return {
            "id": 1000 + pull.number,
            "iid": pull.number,
            "state": "merged" if pull.merged else "opened" if pull.state == "open" else "closed",
            "title": pull.title,
            "description": pull.body,
            "draft": draft,
            "source_branch": pull.head,
            "target_branch": pull.base,
            "sha": pull.sha,
            "web_url": f"{self.url}/{PROJECT}/-/merge_requests/{pull.number}",
            "merge_commit_sha": pull.merge_commit or None,
            "squash_commit_sha": None,
            "merge_when_pipeline_succeeds": pull.auto is not None,
            "detailed_merge_status": status,
            "labels": list(pull.labels),
            "author": {"username": "executor"},
            "source_project_id": 1,
            "target_project_id": 1,
        }

    def shown_issue(self, item: dict[str, Any]) -> dict[str, Any]:
        return {
            "iid": item["number"],
            "title": item["title"],
            "description": item["body"],
            "state": "opened" if item["state"] == "open" else "closed",
            "labels": item["labels"],
            "web_url": f"{self.url}/{PROJECT}/-/issues/{item['number']}",
        }


_N, _SHA = r"(\d+)", r"([0-9a-f]{40})"
_ROUTES: list[tuple[str, Any]] = [
    ("GET ", FakeGitLab.project),
    ("GET /merge_requests", FakeGitLab.list_requests),
    ("POST /merge_requests", FakeGitLab.create_request),
    (f"GET /merge_requests/{_N}", FakeGitLab.get_request),
    (f"PUT /merge_requests/{_N}", FakeGitLab.put_request),
    (f"PUT /merge_requests/{_N}/merge", FakeGitLab.merge_request),
    (f"POST /merge_requests/{_N}/cancel_merge_when_pipeline_succeeds", FakeGitLab.cancel),
    (f"GET /merge_requests/{_N}/notes", FakeGitLab.list_comments),
    (f"POST /merge_requests/{_N}/notes", FakeGitLab.add_comment),
    (rf"PUT /merge_requests/\d+/notes/{_N}", FakeGitLab.edit_comment),
    (f"GET /repository/commits/{_SHA}/statuses", FakeGitLab.all_statuses),
    (f"POST /statuses/{_SHA}", FakeGitLab.set_status),
    (f"GET /jobs/{_N}/trace", FakeGitLab.trace),
    ("GET /issues", FakeGitLab.issues_of),
    (f"GET /issues/{_N}", FakeGitLab.get_issue),
    (f"PUT /issues/{_N}", FakeGitLab.put_issue),
    (f"GET /issues/{_N}/links", FakeGitLab.links),
    ("GET /milestones", FakeGitLab.all_milestones),
    (f"GET /milestones/{_N}", FakeGitLab.one_milestone),
    (f"PUT /milestones/{_N}", FakeGitLab.one_milestone),
]
