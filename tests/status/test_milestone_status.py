"""The state of a milestone: a table from facts to word, reason and hint."""

from __future__ import annotations

from typing import Any

import pytest

from executor.git.trailers import Released
from executor.status.milestone_status import MilestoneFacts, Pause, standing, unblocked_by

PAUSE = Pause("2026-11-21T10:00:00Z", "wait for Ann")
RELEASE = Released("c" * 40, "t" * 40)
ALL: dict[str, Any] = {"total": 2, "landed": 2, "waiting": {}, "started": True}
ONE: dict[str, Any] = {"total": 2, "landed": 1, "waiting": {"b": "pending"}, "started": True}
NONE: dict[str, Any] = {"total": 2, "landed": 0, "waiting": {"a": "pending", "b": "blocked"}}

TABLE = [
    (NONE, "planned", "not started", "doit milestone:m4"),
    (NONE | {"held": True}, "in progress", "is being run; 0 of 2 landed", ""),
    (NONE | {"started": True}, "in progress", "0 of 2 landed", "doit milestone:m4"),
    (ONE, "in progress", "1 of 2 landed", "doit milestone:m4"),
    (ONE | {"waiting": {"b": "open"}}, "in progress", "1 of 2 landed", "doit milestone:m4"),
    (ONE | {"waiting": {"b": "stale"}}, "in progress", "1 of 2 landed", "doit milestone:m4"),
    (ONE | {"waiting": {"b": "review"}}, "blocked", "waits for a person: b (review)", "doit status m4"),
    (ONE | {"waiting": {"a": "failed", "b": "blocked"}}, "blocked", "waits for a person: a (failed)", "doit status m4"),
    (ONE | {"waiting": {"b": "blocked"}}, "blocked", "waits for a person: b (blocked)", "doit status m4"),
    (ONE | {"waiting": {"b": "review"}, "held": True}, "in progress", "is being run; 1 of 2 landed", ""),
    (NONE | {"needs": {"m3": (1, 2)}}, "blocked", "needs m3 (1 of 2 landed)", "doit milestone:m3"),
    (ONE | {"needs": {"m3": (1, 2)}}, "blocked", "needs m3 (1 of 2 landed)", "doit milestone:m3"),
    (NONE | {"needs": {"m3": (2, 2)}}, "planned", "not started", "doit milestone:m4"),
    (NONE | {"pause": PAUSE}, "paused", PAUSE.sentence("m4"), "doit unpause m4"),
    (ONE | {"pause": PAUSE, "held": True}, "paused", PAUSE.sentence("m4"), "doit unpause m4"),
    (ONE | {"pause": PAUSE, "needs": {"m3": (0, 1)}}, "paused", PAUSE.sentence("m4"), "doit unpause m4"),
    (ALL, "complete", "all 2 issues have landed", "doit release:m4"),
    (ALL | {"held": True}, "complete", "all 2 issues have landed", "doit release:m4"),
    (ALL | {"pause": PAUSE}, "paused", PAUSE.sentence("m4"), "doit unpause m4"),
    (ALL | {"needs": {"m3": (0, 1)}}, "complete", "all 2 issues have landed", "doit release:m4"),
    (ALL | {"release": RELEASE, "current": True}, "released", "released as cccccccccc", ""),
    (ALL | {"release": RELEASE, "current": True, "pause": PAUSE}, "released", "released as cccccccccc", ""),
    (ONE | {"release": RELEASE, "current": True}, "in progress", "1 of 2 landed", "doit milestone:m4"),
]


@pytest.mark.parametrize(("facts", "word", "reason", "hint"), TABLE)
def test_the_state_of_a_milestone(facts: dict[str, Any], word: str, reason: str, hint: str) -> None:
    found = standing(MilestoneFacts("m4", **facts))
    assert (found.status, found.reason, found.hint) == (word, reason, hint)


def test_what_landed_after_a_release_makes_it_complete_again_and_says_so() -> None:
    found = standing(MilestoneFacts("m4", **ALL, release=RELEASE))
    assert found.status == "complete"
    assert "not all are in the release cccccccccc" in found.reason
    assert found.hint == "doit release:m4"


@pytest.mark.parametrize(
    ("complete", "told"),
    [
        ({"m1"}, ["m2"]),
        ({"m1", "m0"}, ["m2", "m3"]),
        ({"m1", "m2"}, []),
        (set(), []),
    ],
)
def test_who_can_go_on_when_a_milestone_is_complete(complete: set[str], told: list[str]) -> None:
    needs = {"m0": [], "m1": [], "m2": ["m1"], "m3": ["m0", "m1"], "m4": ["m2"]}
    assert unblocked_by("m1", needs, frozenset(complete)) == told
