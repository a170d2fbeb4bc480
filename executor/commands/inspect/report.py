"""`doit report m4`: the history of a milestone as HTML, Markdown, JSON, JUnit XML or SARIF.

`doit export m4 --format markdown`: a milestone for other people and tools; never the source of truth.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from executor.commands.base import Command, Options, Output, meant_milestone
from executor.config.project import compile_project, open_project
from executor.errors import UsageError
from executor.git.refs import Refs
from executor.model.hints import Known
from executor.process.files import write_over
from executor.report.collect import report_of
from executor.report.exports import sarif
from executor.report.text import junit, markdown
from executor.report.tracking import FORMATS, exported, keep_section
from executor.status.reader import observe
from executor.status.summary_cache import index_of

if TYPE_CHECKING:
    from executor.report.collect import MilestoneReport

__all__ = ["Export", "Report"]


_FORMAT = {
    "name": "format",
    "short": "",
    "long": "format",
    "type": str,
    "default": "md",
    "help": "html, md, json, junit or sarif (default: md)",
}
_OUTPUT = {
    "name": "output",
    "short": "o",
    "long": "output",
    "type": str,
    "default": "",
    "help": "file to write, instead of standard output",
}
_OPEN = {
    "name": "open",
    "short": "",
    "long": "open",
    "type": bool,
    "default": False,
    "help": "write the page and open it in a browser (the variable BROWSER overrides the default one)",
}


class Report(Command):
    """Writes the report of a milestone."""

    name = "report"
    output = Output.VIEW
    doc_purpose = "write a report of a milestone: html (one file, works offline), md, json, junit or sarif"
    doc_usage = "MILESTONE"
    cmd_options = (_FORMAT, _OUTPUT, _OPEN)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Write the report."""
        kind = "html" if options["open"] else options["format"]
        if kind not in _MAKERS:
            raise UsageError(f'unknown format "{kind}"; expected one of {", ".join(_MAKERS)}')
        project = open_project()
        compiled = compile_project(project)
        name = meant_milestone(compiled, arguments, "report")
        row = index_of(project).milestone(name)
        if row is None:
            raise UsageError(f"{name} is an incomplete draft; `doit status {name}` shows what is missing")
        text = _MAKERS[kind](report_of(observe(compiled, Refs(project.repository)), name, row, row["percent"]))
        output = options["output"]
        if options["open"] and not output:
            project.state(name).mkdir(parents=True, exist_ok=True)
            output = str(project.state(name) / "report.html")
        if output:
            _write(Path(output), text)
        else:
            sys.stdout.write(text)
        if options["open"]:
            _open(Path(output))
        return 0


def _open(path: Path) -> None:
    """Show a page in the user's browser; on a machine without one, a message says where the page is."""
    import webbrowser

    try:
        shown = webbrowser.open(path.resolve().as_uri())
    except webbrowser.Error:
        shown = False
    sys.stdout.write(f"{path}\n" if shown else f"{path}: no browser found; set BROWSER\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; name another file with --output") from error


def _html(report: MilestoneReport) -> str:
    from executor.report.html import page

    return page(report)


def _json(report: MilestoneReport) -> str:
    return report.model_dump_json(indent=1) + "\n"


_MAKERS = {"html": _html, "md": markdown, "json": _json, "junit": junit, "sarif": sarif}


class Export(Command):
    """Prints or writes a milestone in another format."""

    name = "export"
    output = Output.VIEW
    doc_purpose = "export a milestone and its status (markdown between marks in a file, json, github, csv)"
    doc_usage = "MILESTONE"
    cmd_options = (
        {
            "name": "format",
            "short": "",
            "long": "format",
            "type": str,
            "default": "markdown",
            "help": f"{', '.join(FORMATS)} (default: markdown)",
        },
        {
            "name": "output",
            "short": "",
            "long": "output",
            "type": str,
            "default": "",
            "help": "file to write; in a Markdown file, only the section between the milestone's marks",
        },
    )

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the export, or write it to a file."""
        form = options["format"]
        if form not in FORMATS:
            raise UsageError(f'unknown format "{form}"{Known(FORMATS).advice(form, "formats")}')
        output = Path(options["output"]) if options["output"] else None
        if output is not None and (output.is_dir() or not output.resolve().parent.is_dir()):
            what = "is a folder" if output.is_dir() else "is in a folder that does not exist"
            raise UsageError(f"--output {options['output']} {what}; name a file")
        project = open_project()
        compiled = compile_project(project)
        name = meant_milestone(compiled, arguments, "export")
        observer = observe(compiled, Refs(project.repository))
        if not options["output"]:
            sys.stdout.write(exported(observer, name, form))
        elif form == "markdown":
            changed = keep_section(Path(options["output"]), observer, name)
            sys.stdout.write(
                f"{options['output']}: {'wrote' if changed else 'nothing changed in'} the section of {name}\n"
            )
        else:
            write_over(Path(options["output"]), exported(observer, name, form).encode())
            sys.stdout.write(f"wrote {options['output']}\n")
        return 0
