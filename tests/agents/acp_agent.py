"""An agent that speaks the Agent Client Protocol; the word of its command line says how it behaves."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any


class Speaker:
    def __init__(self, manner: str) -> None:
        self.manner = manner
        self.asked = 0

    def send(self, **message: Any) -> None:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()

    def update(self, what: str, /, **fields: Any) -> None:
        self.send(method="session/update", params={"sessionId": "s1", "update": {"sessionUpdate": what, **fields}})

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.asked += 1
        self.send(id=f"agent-{self.asked}", method=method, params={"sessionId": "s1", **parameters})
        return json.loads(sys.stdin.readline())  # type: ignore[no-any-return]

    def listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            method, number = message.get("method"), message.get("id")
            if method == "initialize":
                assert message["params"]["clientCapabilities"]["terminal"] is False
                self.send(id=number, result={"protocolVersion": 1, "agentCapabilities": {}})
            elif method == "session/new" and self.manner == "no-login":
                self.send(id=number, error={"code": -32000, "message": "Authentication required"})
            elif method == "session/new":
                assert Path(message["params"]["cwd"]) == Path.cwd()
                self.send(id=number, result={"sessionId": "s1"})
            elif method == "session/prompt":
                self.send(id=number, result=self.turn(message["params"]["prompt"][0]["text"]))

    def turn(self, brief: str) -> dict[str, Any]:
        sys.stdout.write("a line that is no message\n")
        if self.manner == "refuses":
            return {"stopReason": "refusal"}
        if self.manner == "dies":
            sys.exit(9)
        if self.manner == "hangs":
            while json.loads(sys.stdin.readline()).get("method") != "session/cancel":
                pass
            Path("cancelled").touch()
            return {"stopReason": "cancelled"}
        self.update("agent_message_chunk", content={"type": "text", "text": "I begin."})
        assert self.ask("fs/read_text_file", path="/etc/hostname")["error"]["code"] == -32601
        options = [
            {"optionId": "no", "name": "No", "kind": "reject_once"},
            {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
        ]
        answer = self.ask(
            "session/request_permission", toolCall={"toolCallId": "t1", "title": "Write"}, options=options
        )
        assert answer["result"]["outcome"] == {"outcome": "selected", "optionId": "yes"}
        target = Path("written.txt").absolute()
        self.update(
            "tool_call",
            toolCallId="t1",
            title="Write",
            kind="edit",
            status="pending",
            locations=[{"path": str(target)}],
        )
        target.write_text(brief[:20])
        self.update(
            "tool_call", toolCallId="t2", title="ls", kind="execute", status="pending", rawInput={"command": "ls -l"}
        )
        self.update("tool_call_update", toolCallId="t2", status="completed")
        self.update("usage_update", used=10, size=100, cost={"amount": 0.25, "currency": "USD"})
        for word in ("It is ", "written."):
            self.update("agent_message_chunk", content={"type": "text", "text": word})
        return {"stopReason": "end_turn", "usage": {"inputTokens": 70, "cachedReadTokens": 30, "outputTokens": 7}}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # only the protocol cancels it
    Speaker(sys.argv[1]).listen()
