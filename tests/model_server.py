"""A scripted model on loopback that real agents can talk to: OpenAI chat and responses, Anthropic messages, Gemini.

What it answers is chosen by the name of the model (its last part): `ok` runs the command that the task names in a line
`RUN: ...` and then says that it is done; `unauthorized`, `limit`, `error`, `hang`, `give-up` and `refuse` do that.
`always` is what every model does while it is set.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PRICE = {"input": 3.0, "cached": 0.3, "output": 15.0}
"""US dollars for a million tokens ..."""
PRICE_OF_MESSAGES = {"input": 5.0, "cached": 0.5, "output": 25.0}
"""... and what Claude Code takes for the price of a model that it does not know."""
USAGE = (1_200, 200, 100)
"""Tokens read, of them from the cache, and written, for every answer."""
_WIRES = ("chat/completions", "responses", "messages")
_SHELLS = ("bash", "shell", "exec_command", "local_shell", "shell_command", "run_shell_command", "Bash")
_SAYS = {
    "ok": "Done.",
    "give-up": "I was unable to find a way to do this and I give up.",
    "refuse": "I'm sorry, but I can't help with that.",
}


@dataclass
class Asked:
    """One request: the wire format, the model, how it was answered, and what was billed for it."""

    wire: str
    model: str
    behaviour: str
    billed_usd: float = 0.0


@dataclass
class ModelServer:
    """The server; a context manager. `url` is its root."""

    retry_after: int = 7
    always: str = ""
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def billed_usd(self) -> float:
        """What everything that was answered cost."""
        return sum(item.billed_usd for item in self.asked)

    def behaviour(self, model: str) -> str:
        """What a model does."""
        return self.always or re.sub(r"^(?:claude|gemini)-", "", model.rpartition("/")[2])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: ModelServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it so)
        """Print nothing."""

    def do_GET(self) -> None:
        """A list of models, for who asks for one."""
        self._json(200, {"object": "list", "data": [], "models": []})

    def do_POST(self) -> None:
        """One request to the model."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        path = self.path.partition("?")[0]
        wire = next((name for name in _WIRES if path.endswith(name)), "")
        named = re.search(r"/models/([^/:]+):(?:streamG|g)enerateContent$", path)
        if named:
            wire = "gemini"
            body |= {"model": named[1], "stream": "stream" in path, "tools": _declared(body)}
        if not wire:
            self._json(404, {"error": {"message": f"no such path: {self.path}"}})
            return
        model = str(body.get("model", ""))
        texts = list(_texts(body))
        commands = [line for text in texts for line in re.findall(r"^RUN: (.+)$", text, re.MULTILINE)]
        behaviour = self.server.owner.behaviour(model)
        asked = Asked(wire, model, behaviour)
        self.server.owner.asked.append(asked)
        if behaviour == "hang":
            self.server.owner.closing.wait(600)
            return
        if behaviour in {"unauthorized", "limit", "error"}:
            self._fail(behaviour)
            return
        asked.billed_usd = _price(PRICE_OF_MESSAGES if wire == "messages" else PRICE)
        tool = _shell_of(body.get("tools") or []) if behaviour == "ok" and commands and not _has_result(body) else None
        call = (tool[0], _arguments(tool[1], commands[0])) if tool else None
        if behaviour == "ok" and tool is None and commands and not _has_result(body) and "tools" not in body:
            text = f"Here is what to do:\n\n```mswea_bash_command\n{commands[0]}\n```"
        else:
            text = _SAYS[behaviour]
        self._answer(wire, body, text, call)

    def _fail(self, behaviour: str) -> None:
        status, kind, message, headers = {
            "unauthorized": (401, "authentication_error", "Incorrect API key provided: sk-xxxx.", {}),
            "limit": (
                429,
                "rate_limit_error",
                "Rate limit reached for requests.",
                {"retry-after": str(self.server.owner.retry_after)},
            ),
            "error": (500, "api_error", "The server had an error while processing your request.", {}),
        }[behaviour]
        self._json(status, {"type": "error", "error": {"type": kind, "message": message, "code": kind}}, headers)

    def _answer(self, wire: str, body: dict[str, Any], text: str, call: tuple[str, dict[str, Any]] | None) -> None:
        make = {"chat/completions": _chat, "responses": _responses, "messages": _messages, "gemini": _gemini}[wire]
        whole, events = make(str(body.get("model")), text, call)
        if not body.get("stream"):
            self._json(200, whole)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event and wire != "chat/completions" else ""
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
        if wire == "chat/completions":
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, content in (headers or {}).items():
            self.send_header(name, content)
        self.end_headers()
        self.wfile.write(data)


def _price(price: dict[str, float]) -> float:
    read, cached, written = USAGE
    return ((read - cached) * price["input"] + cached * price["cached"] + written * price["output"]) / 1e6


def _texts(value: object) -> Iterator[str]:
    """Every text in what was sent, the definitions of tools left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "tools":
                yield from _texts(item)


def _has_result(body: dict[str, Any]) -> bool:
    """Whether a tool has answered in this conversation, or the model has."""
    items = body.get("messages") or body.get("input") or body.get("contents") or []
    for item in items if isinstance(items, list) else []:
        if item.get("role") in {"tool", "assistant", "model"} or str(item.get("type", "")).endswith("_output"):
            return True
    return False


def _declared(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The tools of a Gemini request in the form of the others."""
    found = [item for group in body.get("tools") or [] for item in group.get("functionDeclarations", [])]
    return [{**item, "parameters": item.get("parametersJsonSchema") or item.get("parameters") or {}} for item in found]


def _shell_of(tools: Iterable[dict[str, Any]]) -> tuple[str, dict[str, Any]] | None:
    """Name and parameters of the tool that runs commands, among those offered."""
    offered = {}
    for tool in tools:
        told = tool.get("function", tool)
        offered[told.get("name", tool.get("type"))] = told.get("parameters") or told.get("input_schema") or {}
    return next(((name, offered[name]) for name in _SHELLS if name in offered), None)


def _arguments(schema: dict[str, Any], command: str) -> dict[str, Any]:
    known = schema.get("properties", {})
    name = "cmd" if "cmd" in known else "command"
    listed = known.get(name, {}).get("type") == "array"
    given: dict[str, Any] = {name: ["sh", "-c", command] if listed else command}
    if "description" in known:
        given["description"] = "do it"
    return given


def _chat(
    model: str, text: str, call: tuple[str, dict[str, Any]] | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    read, cached, written = USAGE
    usage = {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    message: dict[str, Any] = {"role": "assistant", "content": None if call else text}
    if call:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        message["tool_calls"] = [{"index": 0, "id": "call_1", "type": "function", "function": function}]
    reason = "tool_calls" if call else "stop"
    head: dict[str, Any] = {"id": "chatcmpl-1", "created": int(time.time()), "model": model}
    whole = {**head, "object": "chat.completion", "usage": usage}
    whole["choices"] = [{"index": 0, "message": message, "finish_reason": reason}]
    part = {**head, "object": "chat.completion.chunk"}
    events: list[dict[str, Any]] = [
        {**part, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {**part, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        {**part, "choices": [], "usage": usage},
    ]
    return whole, events


def _responses(
    model: str, text: str, call: tuple[str, dict[str, Any]] | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    read, cached, written = USAGE
    item: dict[str, Any]
    if call:
        arguments = json.dumps(call[1])
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": call[0], "arguments": arguments}
    else:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    usage = {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }
    whole = {
        "id": "resp_1",
        "object": "response",
        "model": model,
        "status": "completed",
        "output": [item],
        "usage": usage,
    }
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    return whole, events


def _messages(
    model: str, text: str, call: tuple[str, dict[str, Any]] | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    read, cached, written = USAGE
    usage: dict[str, Any] = {
        "input_tokens": read - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": written,
    }
    block: dict[str, Any] = {"type": "text", "text": text}
    empty: dict[str, Any] = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": text}
    if call:
        block = {"type": "tool_use", "id": "toolu_1", "name": call[0], "input": call[1]}
        empty, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
    reason = "tool_use" if call else "end_turn"
    head: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_sequence": None,
    }
    whole = {**head, "content": [block], "stop_reason": reason, "usage": usage}
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {**head, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 0}},
        },
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return whole, events


def _gemini(
    model: str, text: str, call: tuple[str, dict[str, Any]] | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    read, cached, written = USAGE
    part = {"functionCall": {"name": call[0], "args": call[1]}} if call else {"text": text}
    usage = {
        "promptTokenCount": read,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": written,
        "totalTokenCount": read + written,
    }
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    whole: dict[str, Any] = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model}
    return whole, [whole]
