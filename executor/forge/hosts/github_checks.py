"""What GitHub says of a commit: the checks of others, which are read, and our verdicts, which are posted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.errors import ForgeRefusedError
from executor.forge.base import CheckReport, Checks, CheckState
from executor.forge.hosts.answers import TRIES
from executor.forge.hosts.github_answers import ANNOTATION, RUN, STATUS

if TYPE_CHECKING:
    from executor.forge.hosts.rest import Api

__all__ = ["Statuses"]


_PREFIX = "milestone/"
"""What the names of the statuses that we post begin with; they are no checks of somebody else's."""
_DENIED = frozenset({403, 404})
_GOOD = frozenset({"success", "neutral", "skipped"})
_MOST_ANNOTATIONS = 50
_UNDONE = ("queued", "in_progress", "waiting", "requested", "pending")


class Statuses:
    """Those of one repository; `executor.forge.base.Forge` says what each method promises."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._at = f"/repos/{repository}"

    def checks(self, sha: str) -> Checks:
        """What other checks than ours say of a commit: statuses and check runs."""
        found: list[CheckState] = []
        for item in self._api.pages(f"{self._at}/commits/{sha}/status", {}, STATUS, "statuses"):
            name, state = str(item.get("context", "")), str(item.get("state", ""))
            if not name.startswith(_PREFIX):
                word = "failure" if state in {"failure", "error"} else "success" if state == "success" else "pending"
                found.append(
                    CheckState(
                        name,
                        word,
                        str(item.get("description") or ""),
                        str(item.get("target_url") or ""),
                        conclusion=state if word == "failure" else "",
                    )
                )
        for item in self._api.pages(f"{self._at}/commits/{sha}/check-runs", {}, RUN, "check_runs"):
            state, outcome = str(item.get("status", "")), str(item.get("conclusion") or "")
            if outcome == "action_required":
                word, detail = "pending", "a person has to let its workflow run"
            elif state in _UNDONE or not outcome:
                word, detail = "pending", ""
            else:
                word, detail = "success" if outcome in _GOOD else "failure", outcome
            url, number = str(item.get("html_url") or ""), int(item.get("id") or 0)
            found.append(
                CheckState(str(item.get("name", "")), word, detail, url, outcome if word == "failure" else "", number)
            )
        return Checks(tuple(found))

    def report(self, check: CheckState) -> CheckReport:
        """Annotations and the end of the log of a check run; a commit status has neither."""
        if not check.id:
            return CheckReport()
        lines = []
        for item in self._api.pages(f"{self._at}/check-runs/{check.id}/annotations", {}, ANNOTATION):
            place = f"{item['path']}:{item.get('start_line') or 1}: " if item.get("path") else ""
            lines.append(f"{place}{item.get('message') or item.get('title') or ''}".strip())
            if len(lines) >= _MOST_ANNOTATIONS:
                break
        return CheckReport(tuple(filter(None, lines)), self._api.text(f"{self._at}/actions/jobs/{check.id}/logs"))

    def post(self, sha: str, name: str, state: str, description: str) -> bool:
        """Tell the verdict of one check of ours; False where the token may not."""
        context = f"{_PREFIX}{name}"[:255]
        path = f"{self._at}/commits/{sha}/status"
        for tries in range(TRIES):
            statuses = self._api.pages(path, {}, STATUS, "statuses")
            known = {str(item.get("context")): str(item.get("state")) for item in statuses}
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
