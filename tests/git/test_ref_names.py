"""Ids and branches that are taken are names of files and refs; other refs than ours are not looked at."""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.config.load_milestones import read_milestone
from executor.git.refs import (
    ACCEPTED,
    ANSWERS,
    APPROVED,
    ATTEMPTS,
    HANDOFFS,
    MERGED,
    STEPS,
    Kept,
    attempt_in,
    attempt_ref,
    parts_of,
)
from executor.git.trailers import parse_trailers
from executor.model.milestone import branch_of, branch_problem
from executor.state.marks import answers_in
from executor.state.steps import step_in
from tests.support import examples, several

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.model.milestone import Milestone
    from tests.support import Repo

PIECES = [
    *"aAbz019.-_/\\~^:?*[@{ \t\n\0\x7f'\"$();",
    *(
        "..",
        ".lock",
        "lock",
        "@{",
        "//",
        "refs/heads/",
        "HEAD",
        "-",
        "--",
        "doit",
        ".json",
        ".git",
        "é",
        "\u202e",
        "%2F",
    ),
]
WORDS = several(PIECES, max_size=8).map("".join)
TAKEN = 20
"""Of those that a run makes up, at least so many are taken, else it would show nothing."""
LONGEST = 255
IDS = WORDS | st.text("aZ09._-", max_size=70) | st.text(max_size=5)


def read(name: str, branch: str | None = None) -> Milestone | None:
    """A milestone of that id with one issue of that id, if the reader takes both."""
    header = {"id": name, "title": "Ä title"} | ({} if branch is None else {"branch": branch})
    issue = {"id": name, "title": "Ö title", "body": "x"}
    found = read_milestone({"milestone": header, "issue": [issue]}, "milestones/x.toml", name)
    assert found.faults or (found.milestone is not None and found.milestone.issues)
    return None if found.faults else found.milestone


def refused(repo: Repo, refs: Iterable[str], *, locked: bool = False) -> str:
    """What git has against refs of these names, all made at once; `locked`: up to the moment before they are there."""
    tip = repo.git("rev-parse", "HEAD")
    lines = ["start", *(f"create {ref}\0{tip}" for ref in refs), *(["prepare"] if locked else []), "abort", ""]
    done = subprocess.run(
        ["git", "update-ref", "--stdin", "-z"],
        cwd=repo.path,
        input="\0".join(lines).encode(),
        capture_output=True,
        check=False,
    )
    return done.stderr.decode() if done.returncode else ""


def test_git_refuses_names_that_will_not_do_and_names_in_each_others_way(repo: Repo) -> None:
    assert refused(repo, ["refs/heads/a", "refs/heads/b"], locked=True) == ""
    assert "invalid ref format: refs/heads/a..b" in refused(repo, ["refs/heads/a", "refs/heads/a..b"])
    in_the_way = refused(repo, ["refs/heads/a", "refs/heads/a/b"], locked=True)
    assert "refs/heads/a/b" in in_the_way
    assert "at the same time" in in_the_way  # git 2.39 says "cannot lock ref" before it, git 2.55 does not


@pytest.mark.parser
def test_an_id_that_is_taken_is_one_name_in_its_folder_and_a_part_of_refs(repo: Repo) -> None:
    taken: set[str] = set()

    @settings(max_examples=examples(500), deadline=None)
    @given(IDS)
    def look(name: str) -> None:
        milestone = read(name)
        if milestone is None:
            return
        taken.add(name)
        place = PurePosixPath("/folder", name)
        assert (place.parent, place.name) == (PurePosixPath("/folder"), name)
        assert name.isascii()
        assert name.isprintable()
        assert name[0].isalnum()
        assert len(f"{name}.json.lock") <= LONGEST
        assert read(f"{name}.lock") is None
        assert attempt_in(attempt_ref(name, name, 3)) == (name, 3)
        assert branch_problem(milestone.branch) == branch_problem(branch_of(milestone.issues[0], name, 2)) is None

    look()
    assert len(taken) > TAKEN
    assert not [name for name in taken if name.endswith(".lock")]
    places = [f"{ATTEMPTS}/m/{{}}/1", f"{ACCEPTED}/{{}}/a", f"{STEPS}/m/{{}}/phase.step", "refs/executor/paused/{}"]
    assert refused(repo, (place.format(name) for place in places for name in sorted(taken)), locked=True) == ""


@pytest.mark.parser
def test_a_branch_that_is_taken_is_one_for_git_and_no_option(repo: Repo) -> None:
    taken: set[str] = set()

    @settings(max_examples=examples(300), deadline=None)
    @given(WORDS | st.text(max_size=6))
    def look(name: str) -> None:
        milestone = read("m", name)
        assert (milestone is None) == bool(branch_problem(name))
        if milestone is not None:
            taken.add(name)
            assert milestone.branch == name
            assert not name.startswith(("-", "/", "."))
            assert not {"", ".", ".."} & {*name.split("/")}

    look()
    assert len(taken) > TAKEN
    assert "HEAD" not in taken
    assert refused(repo, (f"refs/heads/{name}" for name in sorted(taken))) == ""


PLACES = [ATTEMPTS, ACCEPTED, APPROVED, STEPS, HANDOFFS, ANSWERS, MERGED, "refs/heads", "refs/executor", "refs", ""]
PARTS = ["m1", "a", "1", "7", "007", "0", "-1", "1" * 5000, "٣", "²", "", ".", "..", "p.s", "\0", "é", "a b", "\u202e"]


@pytest.mark.parser
@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(PLACES), several(PARTS, max_size=5), st.text(max_size=3))
def test_a_ref_is_ours_only_if_its_name_is_exactly_one_that_we_give(place: str, parts: list[str], end: str) -> None:
    ref = "/".join([place, *parts]) + end
    found, attempt = parts_of(ref), attempt_in(ref)
    if found is not None:
        assert ref == "/".join([place, *found])
        assert len(found) == (3 if place in {ATTEMPTS, STEPS, MERGED} else 2)
    if attempt is not None:
        assert found is not None
        assert ref == attempt_ref(found[0], *attempt)


LANDING = {"Milestone": "m1", "Issue": "a", "Revision": "2", "Spec-Key": "s", "Result-Key": "r", "Pull-Request": "7"}
STEP = {
    "Step": "p.s",
    "Step-Key": "k",
    "Attempt": "1",
    "Base": "b",
    "Files": '{"x": "y"}',
    "Seconds": "1.5",
}
RIGHT = LANDING | STEP | {"Answers": '[{"question": "q", "answer": "a"}]'}
TOLD = [
    "",
    "-1",
    "1_0",
    "٣",
    "1" * 5000,
    "1e999",
    "nan",
    "{}",
    "[]",
    "null",
    "[" * 5000,
    '[{"question": 1}]',
]
ODD = st.sampled_from(list(product(RIGHT, TOLD))) | st.tuples(st.sampled_from(list(RIGHT)), st.text(max_size=8))


@pytest.mark.parser
@settings(max_examples=examples(300), deadline=None)
@given(ODD, st.none() | ODD)
def test_whatever_the_commit_of_a_ref_says_is_read_or_passed_over(
    one: tuple[str, str], other: tuple[str, str] | None
) -> None:
    trailers = RIGHT | dict([one] if other is None else [one, other])
    kept = Kept(f"{STEPS}/m1/a/p.s", "0" * 40, trailers)
    record, landing = step_in(kept), parse_trailers(trailers)
    assert record is None or (record.step, record.attempt) == (trailers["Step"], int(trailers["Attempt"]))
    assert landing is None or (landing.milestone, landing.issue) == (trailers["Milestone"], trailers["Issue"])
    assert all(isinstance(text, str) for item in answers_in(kept) for text in (item.question, item.answer))


def test_a_commit_that_says_everything_is_read() -> None:
    kept = Kept(f"{STEPS}/m1/a/p.s", "0" * 40, RIGHT)
    assert step_in(kept) is not None
    assert parse_trailers(RIGHT) is not None
    assert [(item.question, item.answer) for item in answers_in(kept)] == [("q", "a")]
