"""`doit digest`: landed, waiting, failed and spent since last night, and the next commands."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, Command, Options, Output, none_but_options, print_json, safe
from executor.config.project import open_project
from executor.errors import UsageError
from executor.model.deadline import deadline_of, told
from executor.nightly.digest import Digest, digest_of
from executor.nightly.night_log import Nights
from executor.process.files import LOCAL, utcnow
from executor.state import segments
from executor.status.summary_cache import board_of

if TYPE_CHECKING:
    from datetime import datetime

    from executor.config.project import Project

__all__ = ["DigestCommand", "digest_since"]

_SINCE = {
    "name": "since",
    "short": "",
    "long": "since",
    "type": str,
    "default": "",
    "help": "from when on, for example 2030-01-31T18:00 (default: the last nightly run, else a day ago)",
}


class DigestCommand(Command):
    """Shows the digest."""

    name = "digest"
    output = Output.VIEW
    doc_purpose = "show what landed, waits, failed and was spent since the last night"
    doc_usage = ""
    cmd_options = (_SINCE, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the digest."""
        none_but_options(self, arguments)
        project = open_project()
        digest = digest_since(project, _since(project, options["since"]))
        if options["json"]:
            print_json(digest.data())
        else:
            sys.stdout.write("".join(f"{safe(line)}\n" for line in digest.text().splitlines()))
        return 0


def digest_since(project: Project, since: datetime) -> Digest:
    """The digest of everything since a moment."""
    board = board_of(project)
    moment = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    events = {item["id"]: segments.read(project.state(item["id"])) for item in board.milestones}
    return digest_of(moment, told(since, LOCAL), board.milestones, board.rows(), events)


def _since(project: Project, asked: str) -> datetime:
    now = utcnow()
    if asked:
        try:
            return deadline_of(asked, now - timedelta(days=1), LOCAL)
        except ValueError as error:
            raise UsageError(f"--since: {error}") from error
    nights = Nights(project.cache).nights()
    return nights[-1].started if nights else now - timedelta(days=1)
