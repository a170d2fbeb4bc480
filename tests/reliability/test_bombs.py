"""Thirty bombs: what is made to take for ever, or all memory, is refused or read in a moment and little room."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executor.agents.errors import parse_output
from executor.checks.junit import ReportError, read_junit
from executor.config.load_milestones import TomlError, read_toml
from executor.forge.pull_request import harmless, read_mark
from executor.git.diff import parse_diff
from executor.model.agent_profile import Agent
from executor.process.redact import Redactor
from executor.state.record import base_of, scan

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 200_000
SECONDS, BYTES = 0.1, 100 * 1024 * 1024


def toml(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(TomlError):
        path = Path(folder) / "x.toml"
        path.write_bytes(data)
        read_toml(path)


def junit(data: bytes) -> None:
    with suppress(ReportError):
        read_junit(data)


def output(data: bytes) -> None:
    parse_output(Agent(name="x", command=("x",)), data.decode().splitlines(keepends=True))


def text(data: bytes) -> None:
    harmless(data.decode())


def redacted(data: bytes) -> None:
    Redactor(["s3cret-" * 4, "a" * 30]).redact(data)


def doubling(name: bytes) -> bytes:
    entities = b"".join(b'<!ENTITY l%d "&l%d;&l%d;">' % (n, n - 1, n - 1) for n in range(1, 40))
    return b'<!DOCTYPE x [<!ENTITY l0 "' + name + b'">' + entities + b"]><testsuite>&l39;</testsuite>"


def nested(opening: bytes, closing: bytes, count: int = 20_000) -> bytes:
    return opening * count + closing * count


BOMBS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "dotted key": (toml, b".".join([b"a"] * (SIZE // 2)) + b" = 1"),
    "dotted key with spaces": (toml, b" . ".join([b"a"] * (SIZE // 4)) + b" = 1"),
    "dotted header": (toml, b"[" + b".".join([b"a"] * (SIZE // 2)) + b"]"),
    "quoted dotted key": (toml, b".".join([b'"a"'] * (SIZE // 4)) + b" = 1"),
    "nested lists": (toml, b"a = " + nested(b"[", b"]")),
    "nested tables": (toml, b"a = " + b"{ a = " * 20_000),
    "open text": (toml, b'a = "' + b"\\" * SIZE),
    "quotes only": (toml, b'"' * SIZE),
    "dots only": (toml, b"." * SIZE),
    "zeros": (toml, bytes(SIZE)),
    "long number": (toml, b"a = " + b"9" * SIZE),
    "entities that double": (junit, doubling(b"lol")),
    "one long entity": (junit, doubling(b"x" * 50_000)),
    "entity from a file": (junit, b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///dev/zero">]><testsuite>&e;</testsuite>'),
    "nested suites": (junit, nested(b"<testsuite>", b"</testsuite>", 5_000)),
    "many attributes": (junit, b"<testsuite " + b" ".join(b'a%d="1"' % n for n in range(9_000)) + b"/>"),
    "long name": (junit, b'<testsuite><testcase name="' + b"x" * SIZE + b'"/></testsuite>'),
    "numbers of tests": (junit, b'<testsuite tests="' + b"9" * SIZE + b'"/>'),
    "nested records": (scan, b'{"n":1,"v":1,"x":' + nested(b"[", b"]") + b',"c":"00000000"}\n'),
    "records of half a line": (scan, b'{"n":1,' * (SIZE // 7)),
    "line ends": (scan, b"\n" * SIZE),
    "base without an end": (base_of, b'{"e":"compacted","x":' + b"[" * SIZE),
    "headers of files": (parse_diff, b"diff --git a/x b/x\n" * 2_000),
    "one long line": (parse_diff, b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n+" + b"x" * SIZE),
    "quoted name": (parse_diff, b'diff --git "a/' + b"\\303" * (SIZE // 4) + b'" b/x\n'),
    "hunks": (parse_diff, b"diff --git a/x b/x\n--- a/x\n+++ b/x\n" + b"@@ -9,9 +9,9 @@\n" * 9_000),
    "nested event": (output, b'{"type":' + nested(b"[", b"]") + b"}\n"),
    "open braces": (output, b"{" * SIZE),
    "comments": (text, b"<!--" * (SIZE // 4)),
    "people": (text, b"@a" * (SIZE // 10)),
    "open marks": (lambda data: read_mark(data.decode()), b"<!-- executor " * (SIZE // 14)),
    "almost a secret": (redacted, b"s3cret-" * (SIZE // 7)),
}


def test_there_are_thirty() -> None:
    assert len(BOMBS) >= 30


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_a_moment(name: str) -> None:
    read, data = BOMBS[name]
    took = []
    for _ in range(2):
        begin = time.process_time()
        read(data)
        took.append(time.process_time() - begin)
    assert min(took) < SECONDS


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_little_memory(name: str) -> None:
    read, data = BOMBS[name]
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            read(data)
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status, used = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert used.ru_maxrss * 1024 - before < BYTES
