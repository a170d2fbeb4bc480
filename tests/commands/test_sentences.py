"""Records as sentences."""

from __future__ import annotations

from typing import Any

import pytest

from executor.commands.plain import sentence_of
from executor.state.record import Record

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("run-started", {"asked": ["milestone:m1"], "user": "u", "host": "h"}, "run of milestone:m1 by u on h"),
    ("run-ended", {"code": 143, "how": "interrupted", "why": "SIGTERM"}, "run interrupted (SIGTERM), exit code 143"),
    ("run-ended", {"code": 0}, "run done, exit code 0"),
    ("attempt-started", {"attempt": 2, "agent": "claude"}, "attempt 2 by claude"),
    (
        "attempt-built",
        {"attempt": 1, "files": ["a"], "added": 3, "removed": 1},
        "attempt 1 has a result: +3 -1 in 1 file",
    ),
    ("attempt-failed", {"attempt": 1, "reason": "exit 3"}, "attempt 1 failed: exit 3"),
    ("checked", {"check": "tests", "ok": False, "seconds": 1.25}, "tests failed in 1.2 s"),
    ("stopped", {"rule": "size", "reason": "12 files"}, "stopped by size: 12 files"),
    ("landed", {"commit": "0123456789abcdef"}, "landed as 0123456789"),
    ("step-failed", {"step": "spec", "reason": "no file"}, "step spec failed: no file"),
    ("something-new", {}, "something new"),
    ("something-new", {"reason": "because"}, "something new: because"),
    ("something-new", {"reason": 7}, "something new"),
]


@pytest.mark.parametrize(("kind", "data", "expected"), CASES)
def test_a_record_is_a_sentence(kind: str, data: dict[str, Any], expected: str) -> None:
    assert sentence_of(Record(1, "2026-01-01T00:00:00Z", "", "r", kind, "a", data)) == expected
