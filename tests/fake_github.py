"""A stateful GitHub of our own: real HTTP on loopback, a real bare git repository behind it, and faults on demand.

It does what GitHub does where the executor depends on it: pull requests belong to branches of the repository, a second
one for a branch is refused, a merge with the wrong head is refused, auto-merge waits for required checks and is refused
where there is nothing to wait for. Faults: any status, limits, answers that are lost after the work was done, and a
kill of the client before or after its n-th request was processed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["TOKEN", "FakeGitHub", "Fault", "Request"]

TOKEN = "token-of-the-tests"  # noqa: S105  (no secret)
OWNER, NAME = "acme", "app"
LONGEST = 65_536
REPO = f"/repos/{OWNER}/{NAME}"
WHO = {
    "GIT_AUTHOR_NAME": "GitHub",
    "GIT_AUTHOR_EMAIL": "noreply@github.example",
    "GIT_COMMITTER_NAME": "GitHub",
    "GIT_COMMITTER_EMAIL": "noreply@github.example",
}


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    status: int
    answer: Any = None


@dataclass
class Fault:
    """What goes wrong with requests that a pattern (``"PUT /repos/.*/merge"``) matches, and how often."""

    pattern: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "injected"
    lost: bool = False
    times: int = 1
    skip: int = 0


@dataclass
class Pull:
    """One pull request."""

    number: int
    head: str
    base: str
    title: str
    body: str
    draft: bool
    sha: str
    state: str = "open"
    merge_commit: str = ""
    merged: bool = False
    labels: list[str] = field(default_factory=list)
    auto: dict[str, str] | None = None
    queued: bool = False


class Text(str):
    """An answer that is no JSON."""

    __slots__ = ()


class Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    """An answer other than success."""

    def __init__(self, status: int, message: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors


def _require_short(body: dict[str, Any]) -> None:
    if len(body.get("body") or "") > LONGEST:
        told = f"body is too long (maximum is {LONGEST} characters)"
        raise Refusal(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": told}])


class FakeGitHub:
    """The server; use as a context manager. `git` is the bare repository behind it."""

    def __init__(self, git: Path) -> None:
        self.git_dir = git
        self.lock = threading.RLock()
        self.pulls: list[Pull] = []
        self.issues: dict[int, dict[str, Any]] = {}
        self.milestones: dict[int, dict[str, Any]] = {}
        self.statuses: dict[str, list[dict[str, Any]]] = {}
        self.checks: dict[str, dict[str, str]] = {}
        self.run_ids: dict[tuple[str, str], int] = {}
        self.annotations: dict[str, list[dict[str, Any]]] = {}
        """By the name of the check."""
        self.logs: dict[str, str] = {}
        """By the name of the check."""
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.withdrawn: list[int] = []
        """Numbers of the pull requests whose auto-merge was taken back, in order."""
        self.required: dict[str, list[str]] = {}
        self.queues: set[str] = set()
        self.blocked_by: dict[int, list[int]] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.new_checks: dict[str, str] = {}
        self.page = 100
        self.closes_orphans = True
        """Whether a pull request is closed when the branch that it goes to is deleted by a push."""
        self.lag = 0
        """So many looks after a push find the old head of its pull request."""
        self.kill: tuple[int, str] | None = None
        self.victim: int | Callable[[], int] = 0
        """The process to kill, or what finds it."""
        self.before_merge: Callable[[Pull], None] | None = None
        self.before_withdrawal: Callable[[Pull], None] | None = None
        self._numbers = 0
        self._contained: dict[tuple[str, str], bool] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- what people and workflows do ----------------------------------------------------------------------------------

    def add_issue(
        self, title: str, *, body: str = "", milestone: int | None = None, labels: tuple[str, ...] = ()
    ) -> int:
        with self.lock:
            number = self._number()
            self.issues[number] = {
                "number": number,
                "title": title,
                "body": body,
                "state": "open",
                "milestone": milestone,
                "labels": list(labels),
            }
            return number

    def add_milestone(self, title: str) -> int:
        with self.lock:
            number = len(self.milestones) + 1
            self.milestones[number] = {"number": number, "title": title, "state": "open"}
            return number

    def open_pull(self, head: str, base: str, title: str = "by hand", body: str = "") -> Pull:
        with self.lock:
            pull = Pull(self._number(), head, base, title, body, False, self.tip(head))
            self.pulls.append(pull)
            return pull

    def pull(self, number: int) -> Pull:
        with self.lock:
            self.refresh()
            return next(item for item in self.pulls if item.number == number)

    def merge_by_hand(self, number: int, method: str = "merge", message: str = "") -> str:
        """Press the button."""
        with self.lock:
            pull = self.pull(number)
            title = message or f"Merge pull request #{number} from {OWNER}/{pull.head}"
            return self._merge(pull, method, title, "")

    def set_check(
        self,
        sha: str,
        name: str,
        state: str,
        *,
        log: str = "",
        annotations: tuple[dict[str, Any], ...] = (),
    ) -> None:
        """A workflow says, or says again after a re-run: success, failure or pending."""
        with self.lock:
            self.checks.setdefault(sha, {})[name] = state
            self.logs[name], self.annotations[name] = log, list(annotations)
            self._merge_waiting()

    def git(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            ["git", "-C", str(self.git_dir), *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **WHO},
        )
        if done.returncode:
            raise Refusal(422, done.stderr.strip() or done.stdout.strip() or "git failed")
        return done.stdout.strip()

    def tip(self, branch: str) -> str:
        try:
            return self.git("rev-parse", "-q", "--verify", f"refs/heads/{branch}")
        except Refusal:
            return ""

    def opened(self) -> list[Pull]:
        with self.lock:
            self.refresh()
            return [pull for pull in self.pulls if pull.state == "open"]

    def refresh(self) -> None:
        """What pushes mean for pull requests."""
        waiting = [pull for pull in self.pulls if pull.state == "open"]
        if not waiting:
            return
        lines = self.git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads/").splitlines()
        tips = dict(line.rsplit(" ", 1) for line in lines)
        for pull in waiting:
            tip, base = tips.get(pull.head, ""), tips.get(pull.base, "")
            if not tip or (not base and self.closes_orphans):
                pull.state = "closed"
                continue
            if pull.sha != tip and self.lag > 0:
                self.lag -= 1
                continue
            pull.sha = tip
            for name, state in self.new_checks.items():
                self.checks.setdefault(tip, {}).setdefault(name, state)
            if (tip, base) not in self._contained:
                done = subprocess.run(
                    ["git", "-C", str(self.git_dir), "merge-base", "--is-ancestor", tip, base],
                    check=False,
                    capture_output=True,
                )
                self._contained[tip, base] = done.returncode == 0
            if self._contained[tip, base]:
                pull.state, pull.merged, pull.merge_commit = "closed", True, tip

    # -- the interface -------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        with self.lock:
            self.refresh()
            for pattern, handle in self.routes():
                found = re.fullmatch(pattern, f"{method} {path}")
                if found:
                    status, value = handle(self, query, body or {}, *map(unquote, found.groups()))
                    return status, value
        raise Refusal(404, "Not Found")

    def routes(self) -> list[tuple[str, Any]]:
        """Patterns of requests, and what answers them."""
        return _ROUTES

    def knows(self, headers: Any) -> bool:
        """Whether a request carries the token."""
        return headers.get("Authorization") in {f"token {TOKEN}", f"Bearer {TOKEN}"}

    def list_pulls(self, query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        found = list(self.pulls)
        state = query.get("state", ["open"])[0]
        if state != "all":
            found = [pull for pull in found if pull.state == state]
        if "head" in query and ":" in query["head"][0]:
            owner, _, head = query["head"][0].partition(":")
            found = [pull for pull in found if pull.head == head and owner == OWNER]
        if "base" in query:
            found = [pull for pull in found if pull.base == query["base"][0]]
        if query.get("direction", ["desc"])[0] == "desc":
            found.reverse()
        return 200, [self.shown(pull) for pull in found]

    def create_pull(self, _query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        _require_short(body)
        head, base = body["head"].rpartition(":")[2], body["base"]
        for name, kind in ((head, "head"), (base, "base")):
            if not self.tip(name):
                raise Refusal(422, "Validation Failed", [{"resource": "PullRequest", "field": kind, "code": "invalid"}])
        if any(pull.head == head and pull.base == base and pull.state == "open" for pull in self.pulls):
            told = f"A pull request already exists for {OWNER}:{head}."
            raise Refusal(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": told}])
        if self.git("rev-list", "--count", f"refs/heads/{base}..refs/heads/{head}") == "0":
            told = f"No commits between {base} and {head}"
            raise Refusal(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": told}])
        made = Pull(
            self._number(), head, base, body["title"], body.get("body") or "", bool(body.get("draft")), self.tip(head)
        )
        self.pulls.append(made)
        self.refresh()
        return 201, self.shown(made)

    def get_pull(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        return 200, self.shown(self._pull(number))

    def patch_pull(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        _require_short(body)
        pull = self._pull(number)
        if "base" in body and (pull.state != "open" or not self.tip(body["base"])):
            told = {"resource": "PullRequest", "field": "base", "code": "invalid"}
            raise Refusal(422, "Validation Failed", [told])
        pull.title, pull.body = body.get("title", pull.title), body.get("body", pull.body)
        pull.base, pull.state = body.get("base", pull.base), body.get("state", pull.state)
        return 200, self.shown(pull)

    def merge_pull(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        pull = self._pull(number)
        if pull.state != "open":
            raise Refusal(405, "Pull Request is not mergeable")
        if pull.draft:
            raise Refusal(405, "Pull Request is still a draft")
        if body.get("sha") and body["sha"] != pull.sha:
            raise Refusal(409, "Head branch was modified. Review and try the merge again.")
        if pull.base in self.queues:
            raise Refusal(405, "Changes must be made through the merge queue")
        missing = self._missing(pull)
        if missing:
            raise Refusal(405, f'Required status check "{missing[0]}" is expected.')
        if self.before_merge is not None:
            act, self.before_merge = self.before_merge, None
            act(pull)
        method = body.get("merge_method", "merge")
        sha = self._merge(pull, method, body.get("commit_title") or pull.title, body.get("commit_message") or "")
        return 200, {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}

    def add_labels(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        pull = self._pull(number)
        pull.labels += [label for label in body["labels"] if label not in pull.labels]
        return 200, [{"name": label} for label in pull.labels]

    def list_issues(self, query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        wanted = query.get("milestone", [""])[0]
        found = [
            self.shown_issue(item) for item in self.issues.values() if not wanted or str(item["milestone"]) == wanted
        ]
        if not wanted:
            found += [{**self.shown(pull), "pull_request": {}} for pull in self.pulls]
        return 200, found

    def get_issue(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        return 200, self.shown_issue(self._issue(number))

    def patch_issue(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        item = self._issue(number)
        item["state"], item["body"] = body.get("state", item["state"]), body.get("body", item["body"])
        return 200, self.shown_issue(item)

    def blocking(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        return 200, [self.shown_issue(self.issues[other]) for other in self.blocked_by.get(int(number), [])]

    def add_blocking(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        other = int(body["issue_id"]) - 5000
        if other in self.blocked_by.setdefault(int(number), []):
            raise Refusal(422, "Validation Failed", [{"code": "custom", "message": "The dependency already exists"}])
        self._issue(number)
        self.blocked_by[int(number)].append(other)
        return 201, self.shown_issue(self._issue(str(other)))

    def list_milestones(self, query: dict[str, list[str]], _body: Any) -> tuple[int, Any]:
        state = query.get("state", ["open"])[0]
        return 200, [item for item in self.milestones.values() if state in {"all", item["state"]}]

    def get_milestone(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        return 200, self.milestones[int(number)]

    def patch_milestone(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        self.milestones[int(number)].update(body)
        return 200, self.milestones[int(number)]

    def combined(self, _query: dict[str, list[str]], _body: Any, sha: str) -> tuple[int, Any]:
        latest = {item["context"]: item for item in self.statuses.get(sha, [])}
        return 200, {"state": "pending", "sha": sha, "total_count": len(latest), "statuses": list(latest.values())}

    def check_runs(self, _query: dict[str, list[str]], _body: Any, sha: str) -> tuple[int, Any]:
        runs = [
            {
                "id": self.run_ids.setdefault((sha, name), len(self.run_ids) + 1),
                "name": name,
                "status": "in_progress" if state == "pending" else "completed",
                "conclusion": None if state == "pending" else state,
                "html_url": f"{self.url}/checks/{name}",
            }
            for name, state in self.checks.get(sha, {}).items()
        ]
        return 200, {"total_count": len(runs), "check_runs": runs}

    def run_annotations(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        return 200, self.annotations.get(self._run_named(number), [])

    def job_log(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        text = self.logs.get(self._run_named(number), "")
        if not text:
            raise Refusal(404, "Not Found")
        return 200, Text(text)

    def _run_named(self, number: str) -> str:
        return next((name for (_, name), known in self.run_ids.items() if known == int(number)), "")

    def list_comments(self, _query: dict[str, list[str]], _body: Any, number: str) -> tuple[int, Any]:
        return 200, self.comments.get(int(number), [])

    def add_comment(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        made = {"id": sum(map(len, self.comments.values())) + 1, "body": body["body"], "user": {"login": "executor"}}
        self.comments.setdefault(int(number), []).append(made)
        return 201, made

    def edit_comment(self, _query: dict[str, list[str]], body: Any, number: str) -> tuple[int, Any]:
        for item in (one for items in self.comments.values() for one in items):
            if item["id"] == int(number):
                item["body"] = body["body"]
                return 200, item
        raise Refusal(404, "Not Found")

    def post_status(self, _query: dict[str, list[str]], body: Any, sha: str) -> tuple[int, Any]:
        self.statuses.setdefault(sha, []).append(dict(body))
        return 201, body

    def branch(self, _query: dict[str, list[str]], _body: Any, name: str) -> tuple[int, Any]:
        required = self.required.get(name, [])
        return 200, {
            "name": name,
            "protected": bool(required),
            "protection": {"enabled": bool(required), "required_status_checks": {"contexts": required}},
        }

    def rules(self, _query: dict[str, list[str]], _body: Any, name: str) -> tuple[int, Any]:
        return 200, [{"type": "merge_queue", "parameters": {}}] if name in self.queues else []

    def graphql(self, _query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        variables = body["variables"]
        pull = self._pull(str(variables["id"]).removeprefix("PR_"))
        kind = re.search(r"\b(\w+)\(input", body["query"])
        name = kind[1] if kind else ""
        mutate = _MUTATIONS.get(name)
        problem = mutate(self, pull, variables) if mutate else f"Field '{name}' doesn't exist on type 'Mutation'"
        if problem:
            return 200, {"data": None, "errors": [{"message": problem}]}
        return 200, {"data": {name: {"pullRequest": {"isDraft": pull.draft}}}}

    def ready(self, pull: Pull, _variables: dict[str, Any]) -> str:
        pull.draft = False
        return ""

    def to_draft(self, pull: Pull, _variables: dict[str, Any]) -> str:
        pull.draft, pull.auto = True, None
        return ""

    def enable(self, pull: Pull, variables: dict[str, Any]) -> str:
        if pull.sha != variables["sha"]:
            return "Head sha does not match expected head oid"
        if pull.draft or pull.state != "open" or not self._missing(pull):
            green = all(state == "success" for state in self.checks.get(pull.sha, {}).values())
            return f"Pull request Pull request is in {'clean' if green else 'unstable'} status"
        pull.auto = {"method": variables["method"].lower(), "title": variables["headline"], "body": variables["body"]}
        return ""

    def disable(self, pull: Pull, _variables: dict[str, Any]) -> str:
        if self.before_withdrawal is not None:
            act, self.before_withdrawal = self.before_withdrawal, None
            act(pull)
        if pull.auto is None:
            return "Can't disable auto-merge for this pull request."
        pull.auto = None
        self.withdrawn.append(pull.number)
        return ""

    def enqueue(self, pull: Pull, _variables: dict[str, Any]) -> str:
        if pull.queued:
            return "Pull request is already in the merge queue"
        if self._missing(pull):
            return f'Required status check "{self._missing(pull)[0]}" is expected.'
        pull.queued = True
        return ""

    def dequeue(self, pull: Pull, _variables: dict[str, Any]) -> str:
        if not pull.queued:
            return "Pull request is not in the merge queue."
        pull.queued = False
        self.withdrawn.append(pull.number)
        return ""

    # -- how -----------------------------------------------------------------------------------------------------------

    def leave_queue(self) -> None:
        """The merge queue does its work, with a message of its own."""
        with self.lock:
            for pull in self.opened():
                if pull.queued:
                    self._merge(pull, "squash", f"{pull.title} (#{pull.number})", "")

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _pull(self, number: str) -> Pull:
        for pull in self.pulls:
            if pull.number == int(number):
                return pull
        raise Refusal(404, "Not Found")

    def _issue(self, number: str) -> dict[str, Any]:
        if int(number) not in self.issues:
            raise Refusal(404, "Not Found")
        return self.issues[int(number)]

    def _missing(self, pull: Pull) -> list[str]:
        """Required checks that are not green."""
        green = {name for name, state in self.checks.get(pull.sha, {}).items() if state == "success"}
        green |= {item["context"] for item in self.statuses.get(pull.sha, []) if item["state"] == "success"}
        return [name for name in self.required.get(pull.base, []) if name not in green]

    def _merge_waiting(self) -> None:
        self.refresh()
        for pull in self.pulls:
            if pull.state == "open" and pull.auto is not None and not self._missing(pull):
                if pull.base in self.queues:
                    pull.auto, pull.queued = None, True
                    continue
                self._merge(pull, pull.auto["method"], pull.auto["title"], pull.auto["body"])

    def _merge(self, pull: Pull, method: str, title: str, body: str) -> str:
        base, tip = f"refs/heads/{pull.base}", self.tip(pull.base)
        tree = self.git("merge-tree", "--write-tree", tip, pull.sha).splitlines()[0]
        message = f"{title}\n\n{body}".strip() + "\n"
        if method == "rebase":
            message = self.git("log", "-1", "--format=%B", pull.sha) + "\n"
        parents = ["-p", tip, "-p", pull.sha] if method == "merge" else ["-p", tip]
        commit = self.git("commit-tree", tree, *parents, given=message)
        self.git("update-ref", base, commit, tip)
        pull.state, pull.merged, pull.merge_commit, pull.auto = "closed", True, commit, None
        return commit

    def shown(self, pull: Pull) -> dict[str, Any]:
        return {
            "number": pull.number,
            "node_id": f"PR_{pull.number}",
            "html_url": f"{self.url}/{OWNER}/{NAME}/pull/{pull.number}",
            "state": pull.state,
            "draft": pull.draft,
            "title": pull.title,
            "body": pull.body,
            "user": {"login": "executor"},
            "labels": [{"name": label} for label in pull.labels],
            "merged_at": "2026-01-01T00:00:00Z" if pull.merged else None,
            "merge_commit_sha": pull.merge_commit or None,
            "auto_merge": {"merge_method": pull.auto["method"]} if pull.auto else None,
            "head": {"ref": pull.head, "sha": pull.sha, "repo": {"full_name": f"{OWNER}/{NAME}"}},
            "base": {"ref": pull.base, "repo": {"full_name": f"{OWNER}/{NAME}"}},
        }

    def shown_issue(self, item: dict[str, Any]) -> dict[str, Any]:
        return {
            **{key: item[key] for key in ("number", "title", "body", "state")},
            "id": 5000 + item["number"],
            "labels": [{"name": label} for label in item["labels"]],
            "html_url": f"{self.url}/{OWNER}/{NAME}/issues/{item['number']}",
        }

    def fault_for(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if re.search(fault.pattern, request) and fault.times > 0:
                    if fault.skip > 0:
                        fault.skip -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None

    def strike(self, moment: str) -> bool:
        """Kill the client if this is the request at which it is to die; whether it was."""
        if self.kill != (len(self.requests), moment):
            return False
        victim = self.victim() if callable(self.victim) else self.victim
        if not victim:
            return False
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        self.kill = None
        return True


_MUTATIONS: dict[str, Callable[[FakeGitHub, Pull, dict[str, Any]], str]] = {
    "markPullRequestReadyForReview": FakeGitHub.ready,
    "convertPullRequestToDraft": FakeGitHub.to_draft,
    "enablePullRequestAutoMerge": FakeGitHub.enable,
    "disablePullRequestAutoMerge": FakeGitHub.disable,
    "enqueuePullRequest": FakeGitHub.enqueue,
    "dequeuePullRequest": FakeGitHub.dequeue,
}
"""What each mutation does; why it does nothing, empty when it did."""
_NUMBER, _SHA = r"(\d+)", r"([0-9a-f]{40})"
_ROUTES: list[tuple[str, Any]] = [
    (f"GET {REPO}/pulls", FakeGitHub.list_pulls),
    (f"POST {REPO}/pulls", FakeGitHub.create_pull),
    (f"GET {REPO}/pulls/{_NUMBER}", FakeGitHub.get_pull),
    (f"PATCH {REPO}/pulls/{_NUMBER}", FakeGitHub.patch_pull),
    (f"PUT {REPO}/pulls/{_NUMBER}/merge", FakeGitHub.merge_pull),
    (f"POST {REPO}/issues/{_NUMBER}/labels", FakeGitHub.add_labels),
    (f"GET {REPO}/issues", FakeGitHub.list_issues),
    (f"GET {REPO}/issues/{_NUMBER}", FakeGitHub.get_issue),
    (f"PATCH {REPO}/issues/{_NUMBER}", FakeGitHub.patch_issue),
    (f"GET {REPO}/issues/{_NUMBER}/dependencies/blocked_by", FakeGitHub.blocking),
    (f"POST {REPO}/issues/{_NUMBER}/dependencies/blocked_by", FakeGitHub.add_blocking),
    (f"GET {REPO}/milestones", FakeGitHub.list_milestones),
    (f"GET {REPO}/milestones/{_NUMBER}", FakeGitHub.get_milestone),
    (f"PATCH {REPO}/milestones/{_NUMBER}", FakeGitHub.patch_milestone),
    (f"GET {REPO}/commits/{_SHA}/status", FakeGitHub.combined),
    (f"GET {REPO}/commits/{_SHA}/check-runs", FakeGitHub.check_runs),
    (f"POST {REPO}/statuses/{_SHA}", FakeGitHub.post_status),
    (f"GET {REPO}/check-runs/{_NUMBER}/annotations", FakeGitHub.run_annotations),
    (f"GET {REPO}/actions/jobs/{_NUMBER}/logs", FakeGitHub.job_log),
    (f"GET {REPO}/issues/{_NUMBER}/comments", FakeGitHub.list_comments),
    (f"POST {REPO}/issues/{_NUMBER}/comments", FakeGitHub.add_comment),
    (f"PATCH {REPO}/issues/comments/{_NUMBER}", FakeGitHub.edit_comment),
    (f"GET {REPO}/branches/([^/]+)", FakeGitHub.branch),
    (f"GET {REPO}/rules/branches/([^/]+)", FakeGitHub.rules),
    ("POST /graphql", FakeGitHub.graphql),
]


class _Handler(BaseHTTPRequestHandler):
    fake: FakeGitHub
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        body = json.loads(text) if text else None
        with self.fake.lock:
            self.fake.requests.append(Request(self.command, parts.path, query, body, 0))
            struck = self.fake.strike("before")
        if struck:
            self.hang_up()
            return
        fault = self.fake.fault_for(f"{self.command} {parts.path}")
        if fault is not None and not fault.lost:
            self.reply(fault.status, {"message": fault.message}, fault.headers)
            return
        status, value = self.outcome(parts.path, query, body)
        with self.fake.lock:
            struck = self.fake.strike("after")
        if struck or (fault is not None and fault.lost):
            self.hang_up()
            return
        self.paged(status, value, parts.path, query)

    def outcome(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if not self.fake.knows(self.headers):
            return 401, {"message": "Bad credentials"}
        try:
            return self.fake.answer(self.command, path, query, body)
        except Refusal as refusal:
            told: dict[str, Any] = {"message": refusal.message}
            return refusal.status, {**told, "errors": refusal.errors} if refusal.errors else told

    def paged(self, status: int, value: Any, path: str, query: dict[str, list[str]]) -> None:
        headers: dict[str, str] = {}
        size = min(int((query.get("per_page") or query.get("limit") or ["30"])[0]), self.fake.page)
        page = int(query.get("page", ["1"])[0])
        inside = next((key for key in ("statuses", "check_runs") if isinstance(value, dict) and key in value), "")
        items = value[inside] if inside else value
        if self.command == "GET" and status == 200 and isinstance(items, list):
            if len(items) > page * size:
                headers["Link"] = f'<{self.fake.url}{path}?page={page + 1}&per_page={size}>; rel="next"'
            items = items[(page - 1) * size : page * size]
            value = {**value, inside: items} if inside else items
        if self.command == "GET" and status == 200:
            tag = '"' + hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16] + '"'
            headers["ETag"] = tag
            if self.headers.get("If-None-Match") == tag:
                self.reply(304, None, headers)
                return
        self.reply(status, value, headers)

    def reply(self, status: int, value: Any, headers: dict[str, str]) -> None:
        data = b"" if value is None else value.encode() if isinstance(value, Text) else json.dumps(value).encode()
        with self.fake.lock:
            last = self.fake.requests[-1]
            self.fake.requests[-1] = Request(last.method, last.path, last.query, last.body, status, value)
        self.send_response(status)
        for key, text in headers.items():
            self.send_header(key, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815  (names of the base class)

    def log_message(self, *_: object) -> None:
        """Silence."""


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another thread or process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
