"""Receivers of messages on loopback, for the tests: a webhook and a mail server that keep what they are given."""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Webhook(ThreadingHTTPServer):
    """Keeps the JSON bodies that are posted; answers with `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.got: list[dict[str, Any]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/"

    def titles(self) -> list[str]:
        return [message["title"] for message in self.got]


class _Hook(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 200:
            self.server.got.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Mail(socketserver.ThreadingTCPServer):
    """The least of SMTP; keeps the messages."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.got: list[Any] = []

    @property
    def url(self) -> str:
        port = self.server_address[1]
        return f"mailto://127.0.0.1:{port}?from=run@example.org&to=me@example.org&mode=insecure"

    def titles(self) -> list[str]:
        return [str(message["Subject"]) for message in self.got]


class _Smtp(socketserver.StreamRequestHandler):
    server: Mail

    def handle(self) -> None:
        answers: dict[bytes, Callable[[], bytes]] = {b"DATA": self._data}
        self.wfile.write(b"220 sink\r\n")
        for line in self.rfile:
            word = line[:4].upper().strip()
            if word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(answers.get(word, lambda: b"250 fine\r\n")())

    def _data(self) -> bytes:
        self.wfile.write(b"354 go on\r\n")
        lines = []
        for line in self.rfile:
            if line == b".\r\n":
                break
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        self.server.got.append(message_from_bytes(b"".join(lines), policy=policy.default))
        return b"250 kept\r\n"


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[None]:
    """Let a receiver receive while the block lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
