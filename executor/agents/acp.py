"""Drives one agent that speaks the Agent Client Protocol, from a brief on standard input to a log of JSON lines.

This separate program runs outside the sandbox and starts the agent's command, which may be inside. It offers the agent
neither files nor terminals, so the agent can only do what its process can. It imports nothing of the executor, because
every call of an agent starts it.

The protocol: https://agentclientprotocol.com, version 1, JSON-RPC 2.0 with one message a line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

VERSION = 1  # the version of the Agent Client Protocol that is spoken here
LONGEST = 16 * 1024 * 1024  # bytes of one message; an agent that sends more is out of order
PATIENCE = 10.0  # seconds that an agent has to exit after its standard input is closed
NO_METHOD, NO_LOGIN = -32601, -32000  # JSON-RPC 2.0: method not found; the protocol: authentication required


Message = dict[str, Any]
"""An object of JSON-RPC, whose fields nothing has checked yet."""


class ProtocolError(Exception):
    """The agent answers with an error, or does not speak the protocol."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Conversation:
    """One session with an agent, from `initialize` to the end of the turn."""

    def __init__(self, agent: subprocess.Popen[bytes]) -> None:
        self.agent = agent
        self.number = 0
        self.session = ""
        self.text: list[str] = []  # chunks of the agent's present message
        self.cost: float | None = None  # US dollars of the session so far
        self.cancelled = False

    def hold(self, brief: str) -> str:
        """Give the agent its brief, print what it does, and return why its turn ended.

        Raises:
            ProtocolError: the agent answers with an error, or does not speak the protocol.
        """
        capabilities = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
        client = {"name": "make-for-milestones", "version": "1"}
        self.ask("initialize", protocolVersion=VERSION, clientCapabilities=capabilities, clientInfo=client)
        opened = self.ask("session/new", cwd=str(Path.cwd()), mcpServers=[])
        self.session = str(opened.get("sessionId", ""))
        show("session", id=self.session)
        if model := os.environ.get("EXECUTOR_MODEL"):
            self.ask("session/set_model", sessionId=self.session, modelId=model)
        answer = self.ask("session/prompt", sessionId=self.session, prompt=[{"type": "text", "text": brief}])
        stop = str(answer.get("stopReason", ""))
        usage = answer.get("usage") if isinstance(answer.get("usage"), dict) else {}
        reason = f"the agent stopped: {stop}"
        show("end", stop=stop, reason=reason, text="".join(self.text).strip(), usage=usage, cost=self.cost)
        return stop

    def ask(self, method: str, **parameters: object) -> Message:
        """Send a request and return its result; serves the agent's own requests until then."""
        self.number += 1
        mine = self.number
        self.send({"id": mine, "method": method, "params": parameters})
        while True:
            message = self.receive()
            if "method" in message:
                self.serve(str(message["method"]), message.get("id"), _table(message.get("params")))
            elif message.get("id") == mine:
                if "error" in message:
                    error = _table(message["error"])
                    code = error.get("code")
                    raise ProtocolError(f"{method}: {_sentence(error)}", code if isinstance(code, int) else 0)
                return _table(message.get("result"))

    def serve(self, method: str, request: object, parameters: Message) -> None:
        """Handle a notification or a request of the agent."""
        if method == "session/update":
            self.update(_table(parameters.get("update")))
        elif method == "session/request_permission":
            self.send({"id": request, "result": {"outcome": self.permission(parameters)}})
        elif request is not None:
            self.send({"id": request, "error": {"code": NO_METHOD, "message": f"{method} is not offered"}})

    def permission(self, parameters: Message) -> dict[str, str]:
        """Return the answer to a request for permission: yes, since the sandbox is the limit and the diff is judged."""
        options = [_table(option) for option in _items(parameters.get("options"))]
        allowed = [
            option for kind in ("allow_once", "allow_always") for option in options if option.get("kind") == kind
        ]
        title = _table(parameters.get("toolCall")).get("title")
        show("permission", title=title, option=allowed[0].get("name") if allowed else None)
        if self.cancelled or not allowed:
            return {"outcome": "cancelled"}
        return {"outcome": "selected", "optionId": str(allowed[0].get("optionId"))}

    def update(self, update: Message) -> None:
        """Print one update of the session."""
        kind = str(update.get("sessionUpdate", ""))
        if kind == "agent_message_chunk":
            self.text.append(str(_table(update.get("content")).get("text", "")))
            show("chunk", text=self.text[-1])
        elif kind in {"tool_call", "tool_call_update"}:
            self.text.clear()  # its last message is the one after its last tool
            given = _table(update.get("rawInput"))
            places = [_table(place).get("path") for place in _items(update.get("locations"))]
            writes = update.get("kind") in {"edit", "delete", "move"}
            show(
                "tool",
                title=update.get("title"),
                status=update.get("status"),
                command=given.get("command") if kind == "tool_call" else None,
                path=places[0] if writes and places else None,
            )
        elif kind == "usage_update":
            amount = _table(update.get("cost")).get("amount")
            in_dollars = _table(update.get("cost")).get("currency") == "USD"
            self.cost = float(amount) if in_dollars and isinstance(amount, int | float) else self.cost
        else:
            show(kind or "unknown")

    def cancel(self, _number: int, _frame: FrameType | None) -> None:
        """End the turn as the protocol wants it; a second signal, or the agent's own end, does the rest."""
        if self.cancelled or not self.session:
            sys.exit(130)
        self.cancelled = True
        self.send({"method": "session/cancel", "params": {"sessionId": self.session}})

    def send(self, message: Message) -> None:
        """Send one message."""
        try:
            _pipe(self.agent.stdin).write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            _pipe(self.agent.stdin).flush()
        except BrokenPipeError:
            pass  # `receive` says how it ended

    def receive(self) -> Message:
        """Return the next message; other lines go to the log unchanged.

        Raises:
            ProtocolError: the agent has ended, or sends a message without end.
        """
        while True:
            line = _pipe(self.agent.stdout).readline(LONGEST)
            if not line:
                raise ProtocolError(f"the agent ended before its turn: exit {self.agent.wait()}")
            if len(line) >= LONGEST:
                raise ProtocolError(f"the agent sent a message of more than {LONGEST} bytes")
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if isinstance(message, dict):
                return message
            print(line.decode("utf-8", "replace").rstrip(), flush=True)  # noqa: T201


def show(kind: str, **fields: object) -> None:
    """Print one line of the log; `executor.model.agent_profile.ACP_EVENTS` reads it."""
    known = {name: value for name, value in fields.items() if value is not None}
    print(json.dumps({"type": kind, **known}), flush=True)  # noqa: T201


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101  (both are pipes, see `main`)
    return stream


def _table(value: object) -> Message:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _sentence(error: Message) -> str:
    detail = _table(error.get("data")).get("details") or _table(error.get("data")).get("message")
    return ": ".join(str(part) for part in (error.get("message"), detail) if part)


def main(words: list[str]) -> NoReturn:
    """Run a command that speaks the protocol: exit 0 if it ended its turn, 1 if not, 130 if it was cancelled."""
    brief = sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        agent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        show("error", message=f"{words[0]} does not start: {error.strerror}")
        sys.exit(127)
    conversation = Conversation(agent)
    signal.signal(signal.SIGTERM, conversation.cancel)
    try:
        stop = conversation.hold(brief)
    except ProtocolError as error:
        show("error", message=str(error), code=error.code)
        stop = ""
    _pipe(agent.stdin).close()
    try:
        agent.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        agent.terminate()
    sys.exit({"end_turn": 0, "cancelled": 130}.get(stop, 1))


if __name__ == "__main__":
    main(sys.argv[1:])
