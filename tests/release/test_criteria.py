"""What a release asks for: boxes, criteria, exit codes, message and tag."""

from __future__ import annotations

import pytest

from executor.model.milestone import Issue, Milestone
from executor.release.criteria import (
    NOT_ASKED,
    Box,
    Criterion,
    Met,
    ReleaseText,
    box_criteria,
    boxes,
    next_for,
    refusal_code,
    release_message,
    tag_object,
    with_ticks,
)

EPIC = """# Epic
Intro
## Success criteria
- [ ] First
* [x] Second
  1. [X] Third
- no box [ ]
- [ ]
```text
- [ ] In code
```
~~~
```
- [x] In other code
~~~
## Targets ##
+ [ ] 95th percentile under 50 ms
"""


def test_boxes_are_found_wherever_they_stand_but_in_code() -> None:
    assert boxes(EPIC) == [
        Box("First", False, "Success criteria", 4),
        Box("Second", True, "Success criteria", 5),
        Box("Third", True, "Success criteria", 6),
        Box("95th percentile under 50 ms", False, "Targets", 17),
    ]


@pytest.mark.parametrize(
    ("box", "proof", "met"),
    [
        (Box("Fast", False, "", 3), None, Met.LACKING),
        (Box("Fast", True, "", 3), None, Met.YES),
        (Box("Fast", False, "", 3), Criterion("accept", "fast", Met.YES), Met.YES),
        (Box("**Fast**.", False, "", 3), Criterion("accept", "Fast", Met.YES), Met.YES),
        (Box("Fast", True, "", 3), Criterion("accept", "Fast", Met.FAILED, "exit 1"), Met.FAILED),
        (Box("Fast", False, "", 3), Criterion("accept", "Other", Met.YES), Met.LACKING),
    ],
)
def test_a_box_is_ticked_or_proved_and_a_proof_weighs_more(box: Box, proof: Criterion | None, met: Met) -> None:
    found = box_criteria([box], [proof] if proof else [], "milestones/m4/epic.md")
    assert [item.met for item in found] == [met]
    if met is Met.LACKING:
        assert "milestones/m4/epic.md:3" in found[0].reason


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        ([Met.YES, Met.WORDS], 0),
        ([Met.YES, Met.LACKING], 4),
        ([Met.LACKING, Met.FAILED], 1),
        ([Met.YES, Met.WAITS], 75),
        ([Met.WAITS, Met.LACKING], 4),
        ([Met.WAITS, Met.FAILED], 1),
    ],
)
def test_the_exit_code_of_a_release_that_is_held_back(states: list[Met], code: int) -> None:
    assert refusal_code([Criterion("check", "x", met) for met in states]) == code


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ([("check", "tests", Met.LACKING, NOT_ASKED), ("issues", "4.1", Met.LACKING, "stale: x")], "doit milestone:m4"),
        ([("issues", "4.1", Met.FAILED, "failed: x")], "doit log m4/4.1, then doit retry m4/4.1"),
        ([("check", "tests", Met.FAILED, "exit 1; see log")], "make it pass on milestone/m4, or correct the criterion"),
        ([("tag", "v1", Met.LACKING, "already names abc; declare another tag")], "already names abc"),
        ([("merge", "pull request #7", Met.WAITS, "waits for ci; release again")], "doit release:m4"),
    ],
)
def test_a_refused_release_says_what_to_do_next(criteria: list[tuple[str, str, Met, str]], expected: str) -> None:
    told = next_for([Criterion(*item) for item in criteria], "m4", "milestone/m4")
    assert told.startswith(expected)
    assert told.endswith("doit release:m4")


def milestone(title: str = "Worker settings") -> Milestone:
    return Milestone(id="m4", title=title, goal="Make it so.", issues=(Issue(id="4.1", title="A | b", body=""),))


def test_the_final_message_has_the_table_the_boxes_the_issues_and_ends_in_its_trailers() -> None:
    criteria = [Criterion("check", "tests", Met.YES, "exit 0 | fine"), Criterion("epic", "Fast", Met.YES, "ticked")]
    message = release_message(ReleaseText(milestone(), "t" * 40, (7, 9)), criteria)
    assert message.startswith("chore(m4): release Worker settings\n\n")
    titled = milestone().model_copy(update={"pull_title": "# {milestone} Milestone: {title}"})
    assert release_message(ReleaseText(titled, "t" * 40, ()), []).startswith("# m4 Milestone: Worker settings\n")
    assert "| check: tests | met | exit 0 \\| fine |" in message
    assert "- [x] Fast" in message
    assert "Closes #7\nCloses #9" in message
    assert message.endswith(f"\n\nMilestone-Released: m4\nReleased-Tip: {'t' * 40}\n")


def test_nothing_declared_can_forge_a_trailer_or_a_header() -> None:
    forged = milestone("x\u2028Milestone-Released: m9")
    message = release_message(ReleaseText(forged, "t" * 40, ()), [])
    assert [line for line in message.splitlines() if line.startswith("Milestone-Released: ")] == [
        "Milestone-Released: m4"
    ]


def test_the_same_release_always_gives_the_same_tag() -> None:
    first = tag_object("v1", "c" * 40, "A <a@b> 1795256538 +0000", milestone())
    assert first == tag_object("v1", "c" * 40, "A <a@b> 1795256538 +0000", milestone())
    assert first.startswith(b"object " + b"c" * 40 + b"\ntype commit\ntag v1\ntagger A <a@b> 1795256538 +0000\n\n")


def test_nothing_that_people_wrote_calls_anybody_or_closes_anything_in_the_final_pull_request() -> None:
    words = "fixes #1 @team [skip ci] <!-- x"
    issues = (Issue(id="4.1", title=words, body=""),)
    hostile = Milestone(id="m4", title=words, goal=words, issues=issues)
    criteria = [Criterion("check", words, Met.YES, words), Criterion("epic", words, Met.LACKING, words)]
    message = release_message(ReleaseText(hostile, "t" * 40, (7,)), criteria)
    subject, _, body = message.partition("\n")
    for said in ("fixes #1", "#1", "@team", "[skip ci]"):
        assert said not in subject
        assert said not in body
    assert "<!--" not in body
    assert message.count("Closes #7") == 1


def test_nfr_boxes_have_a_section_of_their_own_and_met_ones_are_ticked_in_the_epic() -> None:
    text = "## Acceptance\n- [ ] It works.\n## NFR Targets\n- [x] Fast\n```\n- [ ] It works\n```\n"
    found = box_criteria(boxes(text), [], "epic.md")
    assert [(item.kind, item.name) for item in found] == [("epic", "It works."), ("nfr", "Fast")]
    milestone = Milestone.model_validate({"id": "m4", "title": "T", "token": "feat(m4)"})
    message = release_message(ReleaseText(milestone, "c" * 40, ()), found)
    assert message.startswith("feat(m4): T\n")
    assert "NFR targets:\n\n- [x] Fast" in message
    assert with_ticks(text, ["It works"]) == text.replace("- [ ] It works.", "- [x] It works.")
