"""What a history says of landings, releases and reverts: tables of records."""

from __future__ import annotations

import pytest

from executor.git.history import (
    Changed,
    Record,
    active_reverts,
    landings_in,
    milestones_in,
    releases_in,
    reverts_in,
    taken_back,
)


def trailers(issue: str, revision: int = 1, result: str = "r", milestone: str = "m1") -> str:
    return f"Milestone: {milestone}\nIssue: {issue}\nRevision: {revision}\nSpec-Key: s\nResult-Key: {result}\n"


def record(commit: str, text: str) -> Record:
    return Record(commit, f"tree of {commit}", 1, text)


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], []),
        (["no trailers", "Milestone: m1\nIssue: 1\n"], []),
        ([f"feat: x\n\n{trailers('1')}"], [("1", "c0")]),
        ([f"feat: x\n\n{trailers('1', milestone='other')}"], []),
        ([trailers("1"), trailers("2")], [("1", "c0"), ("2", "c1")]),
        ([trailers("1"), "between", trailers("1")], [("1", "c2")]),
        ([trailers("1", result="a"), trailers("1", result="b")], [("1", "c0"), ("1", "c1")]),
        ([f"squash\n\n* one\n\n{trailers('1')}\n* two\n\n{trailers('2')}"], [("1", "c0"), ("2", "c0")]),
        ([f"Squashed commit\n\n{indented(trailers('1'))}\n{indented(trailers('2'))}"], [("1", "c0"), ("2", "c0")]),
        ([trailers("1").replace("Revision: 1", "Revision: many")], []),
        ([f"{trailers('1')}(cherry picked from commit abc)\n"], [("1", "c0")]),
    ],
)
def test_landings_are_found_wherever_their_trailers_are(messages: list[str], expected: list[tuple[str, str]]) -> None:
    found = landings_in([record(f"c{place}", text) for place, text in enumerate(messages)], "m1")
    assert [(landing.trailers.issue, landing.commit) for landing in found] == expected
    assert [landing.position for landing in found] == list(range(len(found)))


def test_a_commit_that_a_person_recognised_is_a_landing() -> None:
    known = landings_in([record("x", trailers("1"))], "m1")[0].trailers
    found = landings_in([record("a", ""), record("b", trailers("2"))], "m1", {"a": [known]})
    assert [(landing.trailers.issue, landing.commit) for landing in found] == [("1", "a"), ("2", "b")]
    assert milestones_in(record("b", trailers("2"))) == {"m1"}


def test_the_latest_release_counts() -> None:
    release = "Milestone-Released: m1\nReleased-Tip: {}\n"
    found = releases_in([record("a", release.format("t1")), record("b", release.format("t2")), record("c", "x")])
    assert (found["m1"].commit, found["m1"].tip) == ("b", "t2")
    assert releases_in([record("a", indented(release.format("t1")))]) == {}


def test_reverts_are_read_as_git_writes_them() -> None:
    one = f'Revert "x"\n\nThis reverts commit {"a" * 40}.\n'
    merge = f'Revert "Merge"\n\nThis reverts commit {"b" * 40}, reversing\nchanges made to {"c" * 40}.\n'
    found = reverts_in([record("1", one), record("2", merge), record("3", "we reverted it")])
    assert [(item.commit, item.reverted[:1], item.onto[:1]) for item in found] == [("1", "a", ""), ("2", "b", "c")]


@pytest.mark.parametrize(
    ("chain", "active"),
    [
        ([("v1", "x")], ["v1"]),
        ([("v1", "x"), ("v2", "v1")], ["v2"]),
        ([("v1", "x"), ("v2", "v1"), ("v3", "v2")], ["v1", "v3"]),
        ([("v1", "x"), ("v2", "y")], ["v1", "v2"]),
    ],
)
def test_a_reverted_revert_does_not_count(chain: list[tuple[str, str]], active: list[str]) -> None:
    name = {
        short: (short * 20)[:40].replace("v", "d").replace("x", "e").replace("y", "f")
        for short in ["x", "y", "v1", "v2", "v3"]
    }
    reverts = reverts_in([record(name[by], f"This reverts commit {name[of]}.") for by, of in chain])
    assert [item.commit for item in active_reverts(reverts)] == [name[short] for short in active]


NONE = "0"
FIRST = ("L1", {"one": (NONE, "a"), "two": (NONE, "b")})
SECOND = ("L2", {"two": ("b", "c"), "three": (NONE, "d")})


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        pytest.param([("C", {"two": ("c", "b"), "three": ("d", NONE)})], {"L2": "C"}, id="the last one"),
        pytest.param(
            [("C", {"one": ("a", NONE), "two": ("c", NONE), "three": ("d", NONE)})],
            {"L1": "C", "L2": "C"},
            id="both in one commit",
        ),
        pytest.param([("C", {"two": ("c", "b")})], {}, id="a part of one"),
        pytest.param([("C", {"two": ("c", "b"), "three": ("d", NONE), "x": (NONE, "y")})], {}, id="and more"),
        pytest.param([("C", {"two": ("c", "e"), "three": ("d", "f")})], {}, id="further work on the same files"),
        pytest.param(
            [("C", {"two": ("c", "b"), "three": ("d", NONE)}), ("D", {"two": ("b", "c"), "three": (NONE, "d")})],
            {},
            id="and brought back",
        ),
        pytest.param(
            [("known", {"two": ("c", "b"), "three": ("d", NONE)})], {}, id="by a landing or a revert with words"
        ),
        pytest.param([("merge", {"two": ("c", "b"), "three": ("d", NONE)})], {}, id="by a merge"),
        pytest.param(
            [("C", {"two": ("c", "g"), "three": ("d", "h")}), ("opposite", {"two": ("g", "i"), "three": ("h", "j")})],
            {"L2": "opposite"},
            id="by its lines",
        ),
        pytest.param([("empty", {})], {}, id="no files"),
    ],
)
def test_a_commit_that_only_takes_a_landing_back_is_known_by_its_files(
    later: list[tuple[str, dict[str, tuple[str, str]]]], expected: dict[str, str]
) -> None:
    changes = [Changed(name, 1, name == "merge", paths) for name, paths in (FIRST, SECOND, *later)]
    found = taken_back(changes, {"L1", "L2"}, {"known"}, lambda one, other: (one, other) == ("opposite", "L2"))
    assert {item.reverted: item.commit for item in found} == expected
