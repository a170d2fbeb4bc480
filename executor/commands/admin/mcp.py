"""`doit mcp`: serve the commands that look, and three that write, to agents over the Model Context Protocol.

A tool runs its command in a process and returns what the command prints, so that tool and command cannot differ.
Decisions about stopped changes are not offered: `doit approve` and `doit accept` are a person's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from pydantic import Field

import executor
from executor.commands.base import Command, Options, Output, none_but_options
from executor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["READING", "WRITING", "Answer", "Mcp", "serve"]

_INSTRUCTIONS = """\
Milestones of this repository: each issue is implemented by a coding agent, checked, and landed once.
Look with plan, list, status, explain, log and report. Add an issue with new. Answer an agent's question with answer.
Clear a failed or skipped issue with retry. A run is started by a shell command: doit milestone:ID.
A stopped change is approved by a person only: name `doit approve MILESTONE/ISSUE --show` and wait.
Exit codes: 0 done; 1 failed; 2 fault of the program; 3 wrong input; 4 a person is needed; 75 time alone is needed.
"""
_TIMEOUT_S = 300.0  # seconds; a choice: no query of this server takes minutes
_MOST = 60_000
"""Characters of a text that are returned; clients cut or refuse longer results."""

Milestone = Annotated[str, Field(description="id of a milestone; empty: the only one, or all")]
Issue = Annotated[str, Field(description="MILESTONE/ISSUE; empty: the one that is meant")]
Named = Annotated[str, Field(description="MILESTONE/ISSUE")]
Format = Annotated[str, Field(description="md, json, junit, sarif or html")]
Every = Annotated[bool, Field(description="include landed issues")]
Attempt = Annotated[int, Field(description="number of the attempt; 0: the last one", ge=0)]
Title = Annotated[str, Field(description="one line")]
Body = Annotated[str, Field(description="the specification, in Markdown; empty: the title")]
Accept = Annotated[list[str], Field(description="shell commands that have to succeed on the result")]
Needs = Annotated[list[str], Field(description="issues that have to land first")]
Agent = Annotated[str, Field(description="agent profile; empty: from the routes")]
Kind = Annotated[str, Field(description="type of the issue; rules/routes.toml maps it to agent and checks")]
Own = Annotated[str, Field(description="id of the issue; empty: the next one")]


class Answer(TypedDict):
    """The result of a command.

    Attributes:
        exit_code: its exit code.
        output: its output: a JSON value where the command prints one, otherwise a text.
        messages: lines of its standard error.
    """

    exit_code: int
    output: Any
    messages: list[str]


class Mcp(Command):
    """Serves tools on standard input and output until the client closes them."""

    name = "mcp"
    output = Output.VIEW
    doc_purpose = "serve plan, status, log, new and others to agents over MCP (extra: mcp)"
    doc_usage = ""

    def run(self, _options: Options, arguments: list[str]) -> int:
        """Serve."""
        none_but_options(self, arguments)
        serve()
        return 0


def serve() -> None:
    """Serve the tools on standard input and output.

    Raises:
        UsageError: the package mcp, or its version 2, is not installed.
    """
    try:
        from mcp.server import MCPServer
        from mcp.types import ToolAnnotations
    except ImportError as error:
        raise UsageError(
            f"`doit mcp` needs the extra `mcp` ({error}): pip install '{executor.DISTRIBUTION}[mcp]'"
        ) from error
    server = MCPServer(
        executor.DISTRIBUTION,
        instructions=_INSTRUCTIONS,
        version=metadata.version(executor.DISTRIBUTION),
        log_level="WARNING",
    )
    for tool in READING:
        hints = ToolAnnotations(read_only_hint=True, open_world_hint=False)
        server.add_tool(tool, name=tool.__name__.rstrip("_"), annotations=hints)
    for tool in WRITING:
        hints = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
        server.add_tool(tool, name=tool.__name__, annotations=hints)
    server.run("stdio")


def plan(milestone: Milestone = "") -> Answer:
    """Show what running a milestone would do: order, actions, reasons, duration, limits, obstacles."""
    return _command("plan", "--json", names=[milestone])


def list_(milestone: Milestone = "", *, every: Every = False) -> Answer:
    """List pending issues in the order in which they would run, with status, reason and next step."""
    return _command("list", "--json", *(["--all"] if every else []), names=[milestone])


def status(milestone: Milestone = "") -> Answer:
    """Show the computed status of milestones and their issues."""
    return _command("status", "--json", names=[milestone])


def explain(issue: Issue = "") -> Answer:
    """Explain the status of an issue: decision, reason, changed input, difference, attempts."""
    return _command("explain", "--json", names=[issue])


def log(issue: Issue = "", attempt: Attempt = 0) -> Answer:
    """Show the attempts at an issue, and what agent and checks of one attempt printed."""
    return _command("log", f"--attempt={attempt}", names=[issue])


def report(milestone: Milestone = "", form: Format = "md") -> Answer:
    """Report what happened to a milestone: issues, attempts, checks, cost, decisions."""
    return _command("report", f"--format={form}", names=[milestone])


def new(
    milestone: Annotated[str, Field(description="id of a milestone; created if it does not exist")],
    title: Title,
    body: Body = "",
    accept: Accept = [],  # noqa: B006  (the schema's default; never changed)
    needs: Needs = [],  # noqa: B006
    agent: Agent = "",
    kind: Kind = "",
    own_id: Own = "",
) -> Answer:
    """Add an issue with its specification to a milestone; nothing is written if the milestone would have a fault."""
    options = {"body": body, "needs": ",".join(needs), "agent": agent, "type": kind, "id": own_id}
    words = [f"--{name}={value}" for name, value in options.items() if value]
    return _command("new", *words, *(f"--accept={command}" for command in accept), names=[milestone, title])


def retry(issue: Named, reason: Annotated[str, Field(description="reason, stored with the decision")] = "") -> Answer:
    """Clear a failed, skipped or reverted issue, so that the next run tries it again."""
    return _command("retry", *([f"--reason={reason}"] if reason else []), names=[issue])


def answer(issue: Named, text: Annotated[str, Field(description="the answer")]) -> Answer:
    """Answer an agent's question about an issue; the next attempt gets the answer."""
    return _command("answer", names=[issue, text])


READING: tuple[Callable[..., Answer], ...] = (plan, list_, status, explain, log, report)
"""Tools that change nothing."""
WRITING: tuple[Callable[..., Answer], ...] = (new, retry, answer)
"""Tools that write a declaration or record a decision."""


def _command(command: str, *options: str, names: Sequence[str]) -> Answer:
    """Run a command in the current folder; its result.

    Raises:
        ToolError: it failed without any output, or took longer than five minutes.
    """
    from mcp.server.mcpserver.exceptions import ToolError

    # -P: a folder `executor` of the repository must not be imported in the place of this package.
    words = [sys.executable, "-P", "-m", "executor", command, *options, "--", *(name for name in names if name)]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (subprocess.TimeoutExpired, ValueError, OSError) as error:
        raise ToolError(f"doit {command}: {error}") from error
    if done.returncode and not done.stdout.strip():
        raise ToolError(f"{done.stderr.strip() or 'no output'} (exit code {done.returncode})")
    output = json.loads(done.stdout) if "--json" in options else _shortened(done.stdout)
    return {"exit_code": done.returncode, "output": output, "messages": done.stderr.splitlines()}


def _shortened(text: str) -> str:
    """A text without its middle if it is too long: the head names the subject, the tail says how it ended."""
    if len(text) <= _MOST:
        return text
    cut = f"\n[... {len(text) - _MOST} characters left out ...]\n"
    return text[: _MOST // 4] + cut + text[-_MOST * 3 // 4 :]
