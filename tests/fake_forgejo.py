"""A stateful Forgejo (or Gitea) of our own: pull requests over real HTTP, with a real bare repository behind it.

Its faults, kills and pages are those of the fake GitHub; what differs is what Forgejo says and when it refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fake_github import NAME, OWNER, REPO, TOKEN, FakeGitHub, Pull, Refusal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FakeForgejo"]

AT = "/api/v1"


class FakeForgejo(FakeGitHub):
    """The server; use as a context manager."""

    def __init__(self, git: Path) -> None:
        super().__init__(git)
        self.labels = {"executor": 1, "x": 2}
        self.looking = 0
        """So many merges are refused because it still looks whether the branch can be merged."""

    def knows(self, headers: Any) -> bool:
        return bool(headers.get("Authorization") == f"token {TOKEN}")

    def routes(self) -> list[tuple[str, Any]]:
        return _ROUTES

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if not path.startswith(AT):
            raise Refusal(404, "not found")
        return super().answer(method, path.removeprefix(AT), query, body)

    def list_all(self, _query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        return 200, [self.shown(pull) for pull in reversed(self.pulls)]

    def create_pull(self, _query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        head, base = body["head"], body["base"]
        if not self.tip(head) or not self.tip(base):
            raise Refusal(404, "The target couldn't be found.")
        if any((pull.head, pull.base, pull.state) == (head, base, "open") for pull in self.pulls):
            raise Refusal(409, "pull request already exists for these targets [id: 1, issue_id: 1]")
        made = Pull(self._number(), head, base, body["title"], body.get("body") or "", False, self.tip(head))
        self.pulls.append(made)
        self.refresh()
        return 201, self.shown(made)

    def merge_pull(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        pull = self._pull(number)
        if pull.state != "open":
            raise Refusal(404, "The target couldn't be found.")
        if body.get("head_commit_id") and body["head_commit_id"] != pull.sha:
            raise Refusal(409, "head out of date")
        if self.looking > 0:
            self.looking -= 1
            raise Refusal(405, "Please try again later")
        if self.shown(pull)["draft"]:
            raise Refusal(405, "Work in progress PRs cannot be merged")
        title, message = body.get("MergeTitleField") or pull.title, body.get("MergeMessageField") or ""
        if self._missing(pull):
            if not body.get("merge_when_checks_succeed"):
                raise Refusal(405, "Not all required status checks successful")
            if pull.auto is not None:
                raise Refusal(409, "The auto merge is already scheduled")
            pull.auto = {"method": body["Do"], "title": title, "body": message}
            return 201, None
        self._merge(pull, body["Do"], title, message)
        return 200, None

    def cancel(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        pull = self._pull(number)
        if self.before_withdrawal is not None:
            act, self.before_withdrawal = self.before_withdrawal, None
            act(pull)
        if pull.auto is None:
            raise Refusal(404, "The target couldn't be found.")
        pull.auto = None
        self.withdrawn.append(pull.number)
        return 204, None

    def all_statuses(self, _query: dict[str, list[str]], _body: Any, sha: str) -> tuple[int, Any]:
        found = [
            {
                "id": place,
                "context": name,
                "status": state,
                "description": "",
                "target_url": f"{self.url}/{OWNER}/{NAME}/actions/{name}",
            }
            for place, (name, state) in enumerate(self.checks.get(sha, {}).items(), 1)
        ]
        return 200, found + [_shown_status(item) for item in self.statuses.get(sha, [])]

    def set_status(self, _query: dict[str, list[str]], body: Any, sha: str) -> tuple[int, Any]:
        made = {**body, "status": body["state"]}
        self.statuses.setdefault(sha, []).append(made)
        return 201, _shown_status(made)

    def branch(self, _query: dict[str, list[str]], _body: Any, name: str) -> tuple[int, Any]:
        required = self.required.get(name, [])
        return 200, {
            "name": name,
            "protected": bool(required),
            "enable_status_check": bool(required),
            "status_check_contexts": required,
        }

    def issues_of(self, query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        title = query.get("milestones", [""])[0]
        number = next((key for key, item in self.milestones.items() if item["title"] == title), None)
        return 200, [self.shown_issue(item) for item in self.issues.values() if item["milestone"] == number]

    def all_labels(self, _query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        return 200, [{"id": number, "name": name} for name, number in self.labels.items()]

    def add_labels(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        pull = self._pull(number)
        names = {known: name for name, known in self.labels.items()}
        pull.labels += [names[item] for item in body["labels"] if names[item] not in pull.labels]
        return 200, [{"id": self.labels[name], "name": name} for name in pull.labels]

    def all_milestones(self, _query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        return 200, [self.shown_milestone(item) for item in self.milestones.values()]

    def one_milestone(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        item = self.milestones[int(number)]
        item.update({key: value for key, value in (body or {}).items() if key == "state"})
        return 200, self.shown_milestone(item)

    def shown_milestone(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"id": item["number"], "title": item["title"], "state": item["state"]}

    def shown(self, pull: Pull) -> dict[str, Any]:
        return {
            "number": pull.number,
            "html_url": f"{self.url}/{OWNER}/{NAME}/pulls/{pull.number}",
            "state": pull.state,
            "merged": pull.merged,
            "draft": pull.title.startswith(("WIP:", "[WIP]")),
            "title": pull.title,
            "body": pull.body,
            "user": {"login": "executor"},
            "labels": [{"id": self.labels.get(label, 0), "name": label} for label in pull.labels],
            "merge_commit_sha": pull.merge_commit or None,
            "head": {"ref": pull.head, "sha": pull.sha, "repo_id": 1},
            "base": {"ref": pull.base, "sha": self.tip(pull.base), "repo_id": 1},
        }


def _shown_status(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "state"}


_N, _SHA = r"(\d+)", r"([0-9a-f]{40})"
_ROUTES: list[tuple[str, Any]] = [
    (f"GET {REPO}/pulls", FakeForgejo.list_all),
    (f"POST {REPO}/pulls", FakeForgejo.create_pull),
    (f"GET {REPO}/pulls/{_N}", FakeForgejo.get_pull),
    (f"PATCH {REPO}/pulls/{_N}", FakeForgejo.patch_pull),
    (f"POST {REPO}/pulls/{_N}/merge", FakeForgejo.merge_pull),
    (f"DELETE {REPO}/pulls/{_N}/merge", FakeForgejo.cancel),
    (f"GET {REPO}/labels", FakeForgejo.all_labels),
    (f"POST {REPO}/issues/{_N}/labels", FakeForgejo.add_labels),
    (f"GET {REPO}/issues", FakeForgejo.issues_of),
    (f"GET {REPO}/issues/{_N}", FakeForgejo.get_issue),
    (f"PATCH {REPO}/issues/{_N}", FakeForgejo.patch_issue),
    (f"GET {REPO}/issues/{_N}/dependencies", FakeForgejo.blocking),
    (f"GET {REPO}/issues/{_N}/comments", FakeForgejo.list_comments),
    (f"POST {REPO}/issues/{_N}/comments", FakeForgejo.add_comment),
    (f"PATCH {REPO}/issues/comments/{_N}", FakeForgejo.edit_comment),
    (f"GET {REPO}/milestones", FakeForgejo.all_milestones),
    (f"GET {REPO}/milestones/{_N}", FakeForgejo.one_milestone),
    (f"PATCH {REPO}/milestones/{_N}", FakeForgejo.one_milestone),
    (f"GET {REPO}/commits/{_SHA}/statuses", FakeForgejo.all_statuses),
    (f"POST {REPO}/statuses/{_SHA}", FakeForgejo.set_status),
    (f"GET {REPO}/branches/([^/]+)", FakeForgejo.branch),
]
