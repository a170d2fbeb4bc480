"""What the forge's pull requests mean for an issue: one row for every case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from executor.forge.base import Layer, below
from executor.forge.pull_request import PullRequest, mark, title_digest
from executor.forge.reconcile import Finding, Known, Meaning, reconcile

HEAD, BASE = "feat/m1-a-a", "milestone/m1"
OURS, THEIRS, MERGE = "1" * 40, "2" * 40, "3" * 40
TITLE = "core(m1): A"


def body(attempt: int = 1, ref: str = "m1/a") -> str:
    return mark({"key": ref, "revision": "1", "attempt": str(attempt), "title": title_digest(TITLE)})


PULL = PullRequest(7, "open", False, HEAD, OURS, BASE, TITLE, body())
MERGED = replace(PULL, state="merged", merge_commit=MERGE)
CLOSED = replace(PULL, state="closed")
BUILT = Known("m1/a", 1, 1, HEAD, BASE, number=7, commit=OURS, built=True)
LANDED = replace(BUILT, landed=True, built=False)
FRESH = Known("m1/a", 1, 0, HEAD, BASE)
LOWER = "feat/m1-z"
STACKED = replace(BUILT, bases=frozenset({HEAD, LOWER}))
ON_LOWER = replace(PULL, base=LOWER)
CASES: dict[str, tuple[Known, list[PullRequest], set[str], Meaning, int, str]] = {
    "nothing there": (FRESH, [], set(), Meaning.NOTHING, 0, ""),
    "open as we left it": (BUILT, [PULL], {HEAD}, Meaning.OPEN, 7, ""),
    "open and not yet known here": (FRESH, [PULL], {HEAD}, Meaning.OPEN, 7, ""),
    "merged, and the branch says so": (LANDED, [MERGED], {HEAD}, Meaning.TIDY, 7, ""),
    "merged and tidied": (replace(LANDED, settled=True), [MERGED], set(), Meaning.NOTHING, 7, ""),
    "landed long ago, nothing left": (replace(LANDED, number=0), [], set(), Meaning.NOTHING, 0, ""),
    "landed, its branch is still there": (replace(LANDED, number=0), [], {HEAD}, Meaning.TIDY, 0, ""),
    "merged by hand": (BUILT, [MERGED], set(), Meaning.MERGED, 7, ""),
    "merged by hand, unknown here": (FRESH, [MERGED], set(), Meaning.MERGED, 7, ""),
    "merged by hand into another branch": (BUILT, [replace(MERGED, base="main")], set(), Meaning.NOTHING, 0, ""),
    "merged by hand, then the branch was used again": (
        BUILT,
        [MERGED, replace(PULL, number=8)],
        {HEAD},
        Meaning.MERGED,
        7,
        "",
    ),
    "closed": (BUILT, [CLOSED], {HEAD}, Meaning.WAIT, 7, "it was closed without being merged; reopen it"),
    "closed, its branch deleted": (BUILT, [CLOSED], set(), Meaning.WAIT, 7, "merged and its branch was deleted"),
    "closed before a retry": (replace(BUILT, attempt=2), [CLOSED], set(), Meaning.NOTHING, 0, ""),
    "closed and reopened": (BUILT, [replace(CLOSED, state="open")], {HEAD}, Meaning.OPEN, 7, ""),
    "closed, another one opened": (BUILT, [CLOSED, replace(PULL, number=8)], {HEAD}, Meaning.OPEN, 8, ""),
    "closed, never built here": (FRESH, [CLOSED], {HEAD}, Meaning.NOTHING, 0, ""),
    "retargeted": (BUILT, [replace(PULL, base="main")], {HEAD}, Meaning.WAIT, 7, f"targets main, expected {BASE}"),
    "force-pushed by somebody": (BUILT, [replace(PULL, sha=THEIRS)], {HEAD}, Meaning.WAIT, 7, "another person has"),
    "its head is not told": (BUILT, [replace(PULL, sha="")], {HEAD}, Meaning.OPEN, 7, ""),
    "about another issue": (BUILT, [replace(PULL, body=body(ref="m1/b"))], {HEAD}, Meaning.NOTHING, 0, ""),
    "of another branch": (BUILT, [replace(PULL, head="feat/m1-b")], {HEAD}, Meaning.NOTHING, 0, ""),
    "in a stack": (STACKED, [ON_LOWER], {HEAD, LOWER}, Meaning.OPEN, 7, ""),
    "in a stack, moved to another branch": (
        STACKED,
        [replace(PULL, base="main")],
        {HEAD, LOWER},
        Meaning.WAIT,
        7,
        f"targets main, expected {BASE}",
    ),
    "in a stack, merged into the one below": (
        STACKED,
        [replace(MERGED, base=LOWER)],
        {HEAD, LOWER},
        Meaning.WAIT,
        7,
        f"it was merged into {LOWER}, expected {BASE}",
    ),
    "in a stack, merged into the one below before a retry": (
        replace(STACKED, attempt=2),
        [replace(MERGED, base=LOWER)],
        {HEAD, LOWER},
        Meaning.NOTHING,
        0,
        "",
    ),
    "in a stack, closed with the branch below": (STACKED, [replace(CLOSED, base=LOWER)], {HEAD}, Meaning.LOST, 7, ""),
    "in a stack, closed by a person": (
        STACKED,
        [replace(CLOSED, base=LOWER)],
        {HEAD, LOWER},
        Meaning.WAIT,
        7,
        "it was closed without being merged; reopen it",
    ),
    "opened by hand, without a mark": (BUILT, [replace(PULL, body="mine")], {HEAD}, Meaning.OPEN, 7, ""),
}


def of(known: Known, pulls: list[PullRequest], branches: set[str]) -> Finding:
    found = reconcile([known], pulls, frozenset(branches), lambda ref, commit: (ref, commit) == ("m1/a", OURS))
    assert [item.ref for item in found] == ["m1/a"]
    return found[0]


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_one_meaning(case: str) -> None:
    known, pulls, branches, meaning, number, reason = CASES[case]
    found = of(known, pulls, branches)
    assert (found.meaning, found.pull.number if found.pull else 0) == (meaning, number)
    assert reason in found.reason
    assert bool(found.reason) == (meaning is Meaning.WAIT)


def test_the_order_in_which_the_forge_lists_them_does_not_matter() -> None:
    second = replace(PULL, number=9)
    assert of(BUILT, [second, PULL], {HEAD}) == of(BUILT, [PULL, second], {HEAD})


@pytest.mark.parametrize(
    ("pulls", "told"),
    [
        ([PULL, replace(PULL, number=9)], "pull request #7 counts; close #9 of the same branch"),
        ([MERGED, replace(PULL, number=9)], "pull request #7 counts; close #9 of the same branch"),
        ([replace(PULL, title="Better")], "pull request #7: a person changed its title, which stays"),
        ([replace(PULL, body="rewritten")], "pull request #7: its text was rewritten; our text is put before it"),
    ],
)
def test_what_is_worth_saying_is_said(pulls: list[PullRequest], told: str) -> None:
    assert of(BUILT, pulls, {HEAD}).notes == (told,)


def test_a_commit_that_we_pushed_need_not_be_looked_into() -> None:
    assert reconcile([BUILT], [PULL], frozenset({HEAD}), lambda *_: False)[0].meaning is Meaning.OPEN


A, B, C = Layer(1, "a", "1"), Layer(2, "b", "2", "a"), Layer(3, "c", "3", "b")


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        pytest.param(None, [], None, id="the first goes to the milestone branch"),
        pytest.param(None, [A, C, B], C, id="a new one goes on top"),
        pytest.param(A, [B, C], None, id="the lowest stays"),
        pytest.param(B, [A, C], A, id="each keeps its place"),
        pytest.param(replace(B, commit="9"), [A, C], A, id="also with another commit"),
        pytest.param(B, [C], None, id="the one below has merged"),
        pytest.param(C, [A], A, id="the one below has failed, and the stack is shorter"),
        pytest.param(replace(A, number=0), [B, C], None, id="a closed one does not go on those that rest on it"),
        pytest.param(None, [A, Layer(4, "d", "4")], Layer(4, "d", "4"), id="of two stacks of one height, the later"),
        pytest.param(None, [replace(A, base="b"), B], None, id="a circle is no stack"),
    ],
)
def test_a_pull_request_has_one_place_in_the_stack(own: Layer | None, others: list[Layer], expected: object) -> None:
    assert below(own, others) == expected
