"""The tools of `doit mcp`, listed and called by the official client over standard input and output."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from executor.commands.admin.mcp import status
from tests.support import CHECKOUT, Repo, issue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytest.importorskip("mcp", reason="the extra mcp is not installed")

READING = {"plan", "list", "status", "explain", "log", "report"}
WRITING = {"new", "retry", "answer"}
ASKS = "echo 'Which zone?' > $EXECUTOR_OUT/question.md"


def served(folder: Path, use: Callable[[Any], Awaitable[None]]) -> None:
    """Start the server in a folder and have an initialised client use it."""
    from mcp import ClientSession, StdioServerParameters, stdio_client

    async def session() -> None:
        environment = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "executor", "mcp"], env=environment, cwd=folder
        )
        async with stdio_client(server) as streams, ClientSession(*streams) as client:
            started = await client.initialize()
            assert "doit milestone:ID" in (started.instructions or "")
            await use(client)

    asyncio.run(session())


async def called(client: Any, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, (tool, result.content)
    return result.structured_content


async def refused(client: Any, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error, (tool, result.structured_content)
    return str(result.content[0].text)


def test_the_client_lists_the_tools_and_adds_an_issue(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo")
    repo.milestone("m", issue("a"))
    repo.write("rules/routes.toml", '[route.default]\nagent = "claude"\n')
    folder = repo.path / "src" / "deep"  # a client may work in any folder
    folder.mkdir(parents=True)

    async def use(client: Any) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == READING
        assert set(tools) == READING | WRITING, "approvals are a person's"
        assert all(tool.description for tool in tools.values())
        assert tools["answer"].input_schema["required"] == ["issue", "text"]
        added = await called(client, "new", milestone="m", title="--help is shown", body="- one\n- two", needs=["a"])
        assert (added["exit_code"], added["messages"]) == (0, [])
        assert (repo.path / "milestones" / "m" / "a-2.md").read_text(encoding="utf-8") == "- one\n- two\n"
        await refused(client, "approve", issue="m/a")

    served(folder, use)


@pytest.mark.long
def test_the_official_client_calls_each_tool(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo")
    repo.milestone("m", issue("a", ASKS) + issue("b", "exit 1"))
    repo.commit("plan")
    repo.doit("milestone:m").check(1)

    async def use(client: Any) -> None:
        plan, listed, status, explained, log, report = await asyncio.gather(
            called(client, "plan", milestone="m"),
            called(client, "list", every=True),
            called(client, "status"),
            called(client, "explain", issue="m/a"),
            called(client, "log", issue="m/b"),
            called(client, "report", milestone="m", form="json"),
        )
        assert [item["ref"] for item in plan["output"]["issues"]] == ["m/a", "m/b"]
        assert [item["status"] for item in listed["output"]] == ["review", "failed"]
        assert status["output"]["milestones"][0]["id"] == "m"
        assert "Which zone?" in json.dumps(explained["output"])
        assert "m/b" in log["output"]
        assert json.loads(report["output"])["id"] == "m"
        await called(client, "new", milestone="m", title="Another", agent="claude", needs=["a"])
        await called(client, "answer", issue="m/a", text="- use UTC")
        await called(client, "retry", issue="m/b", reason="again")
        assert 'unknown issue "m/x"' in await refused(client, "explain", issue="m/x")
        await refused(client, "log", issue="--events")

    served(repo.path, use)
    found = repo.doit("status", "--json").check().json["milestones"][0]["issues"]
    assert {item["id"]: item["status"] for item in found} == {"a": "pending", "b": "pending", "b-2": "blocked"}


def test_a_folder_that_is_not_set_up_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp.server.mcpserver.exceptions import ToolError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    with pytest.raises(ToolError, match=r"`make-for-milestones init` sets it up \(exit code 3\)"):
        status()
