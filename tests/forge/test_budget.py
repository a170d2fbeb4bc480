"""What a token may still be used for: shared by all runs of a machine, learnt from the answers, closed at the limit."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from executor.errors import ForgeUnavailableError
from executor.forge.hosts.credentials import Budget, Standing, learnt, next_write, standings

if TYPE_CHECKING:
    from pathlib import Path

HEADERS = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4000", "x-ratelimit-reset": "9000"}


@pytest.mark.parametrize(
    ("writes", "most", "wait"),
    [((), 2, 0.0), ((100.0,), 2, 0.0), ((100.0, 110.0), 2, 50.0), ((40.0, 110.0), 2, 0.0), ((170.0, 171.0), 2, 120.0)],
)
def test_a_write_waits_until_fewer_were_written_within_a_minute(
    writes: tuple[float, ...], most: int, wait: float
) -> None:
    assert next_write(Standing(writes=writes), 110.0, most) == wait


@pytest.mark.parametrize(
    ("headers", "delay", "closed"),
    [
        (HEADERS, None, 0.0),
        ({**HEADERS, "x-ratelimit-remaining": "50"}, None, 9000.0),
        ({**HEADERS, "x-ratelimit-remaining": "50", "x-ratelimit-reset": "900"}, None, 0.0),
        ({"x-ratelimit-limit": "60", "x-ratelimit-remaining": "50", "x-ratelimit-reset": "9000"}, None, 0.0),
        ({"ratelimit-limit": "600", "ratelimit-remaining": "3", "ratelimit-reset": "9000"}, None, 9000.0),
        ({}, 30.0, 1030.0),
        ({}, 0.0, 1001.0),
    ],
)
def test_the_circuit_opens_at_a_limit_and_at_the_reserve(
    headers: dict[str, str], delay: float | None, closed: float
) -> None:
    assert learnt(Standing(), headers, delay, 1000.0).closed_until == closed


def test_an_answer_of_another_run_does_not_close_the_breaker_early() -> None:
    standing = learnt(Standing(), {}, 600.0, 1000.0)
    assert learnt(standing, HEADERS, None, 1001.0).closed_until == 1600.0


def test_runs_of_one_token_share_it_and_another_token_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, same, other = (Budget.of("https://forge", token, writes_per_minute=60) for token in ("a", "a", "b"))
    one.after({}, 900.0)
    with pytest.raises(ForgeUnavailableError, match="no attempt was used up"):
        same.before(writes=False)
    other.before(writes=False)
    told = standings()[0].describe(time.time())
    assert told.startswith("https://forge: no limit was reported; nothing is sent until ")
    assert all(b"token" not in path.read_bytes() for path in tmp_path.rglob("*.json"))


def test_writes_of_many_runs_at_once_are_booked_one_after_the_other(tmp_path: Path) -> None:
    waits: list[float] = []

    def one(_: int) -> None:
        Budget(tmp_path / "b.json", "f", writes_per_minute=5).before(writes=True, pause=waits.append)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(12)))
    assert sorted(round(wait, -1) for wait in waits) == [60.0] * 5 + [120.0] * 2


def test_a_damaged_file_is_an_empty_account(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    for text in ("", "{", "[]", '{"host": 1}', '{"limit": "x"}'):
        path.write_text(text)
        Budget(path, "f", writes_per_minute=5).before(writes=True)
