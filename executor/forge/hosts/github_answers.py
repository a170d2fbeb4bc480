"""The shapes of GitHub's answers, as far as they are read."""

from __future__ import annotations

from executor.forge.hosts.answers import Needed

__all__ = [
    "ANNOTATION",
    "BLOCKER",
    "BRANCH",
    "COMMENT",
    "ISSUE",
    "MILESTONE",
    "PULL",
    "RULE",
    "RUN",
    "STATE",
    "STATUS",
]

_LABELS = [(str, {"name": str})]
PULL = {
    "number": Needed(int),
    "state": Needed(str),
    "draft": bool,
    "merged_at": str,
    "head": Needed({"ref": Needed(str), "sha": Needed(str), "repo": {"full_name": str}}),
    "base": Needed({"ref": Needed(str)}),
    "title": str,
    "body": str,
    "html_url": str,
    "merge_commit_sha": str,
    "user": {"login": str},
    "labels": _LABELS,
    "node_id": str,
}
ISSUE = {
    "number": Needed(int),
    "title": Needed(str),
    "body": str,
    "state": Needed(str),
    "labels": _LABELS,
    "html_url": str,
}
BLOCKER = {"number": Needed(int)}
MILESTONE = {"number": Needed(int), "title": str}
STATE = {"state": Needed(str)}
"""Of an issue or a milestone, when only that is asked for."""
STATUS = {"context": str, "state": str, "description": str, "target_url": str}
COMMENT = {"id": Needed(int), "body": str}
ANNOTATION = {"path": str, "start_line": int, "message": str, "title": str}
RUN = {"id": int, "name": str, "status": str, "conclusion": str, "html_url": str}
"""Of a check, as GitHub runs it."""
BRANCH = {"protection": {"required_status_checks": {"contexts": [str], "checks": [{}]}}}
RULE = {"type": str, "parameters": {}}
