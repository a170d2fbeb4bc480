"""The text of a pull request: what changed, what is proved and by what, what it waits for; harmless whatever comes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from executor.forge.publish import placed
from executor.forge.pull_request import (
    Box,
    PullText,
    StopShown,
    body_of,
    history_of,
    read_mark,
    state_comment,
    title_of,
)
from executor.git.diff import parse_diff
from executor.model.milestone import Issue
from executor.model.outward_rules import Forge
from executor.state.events import AttemptFailed, Event, Landed, PullChanged, Stopped, encode
from executor.state.marks import Approval
from executor.state.model import Finding, Review
from executor.state.record import Record

NOTHING = parse_diff(b"")
DIFF = parse_diff(
    b"diff --git a/@team/`x` b/@team/`x`\nnew file mode 100644\n--- /dev/null\n+++ b/@team/`x`\n@@ -0,0 +1 @@\n+x\n"
)


def test_a_landed_one_says_what_changed_and_what_proves_it() -> None:
    text = PullText(
        ref="m4/4.1",
        revision=1,
        attempt=2,
        spec_key="sha256:x",
        change=DIFF,
        title="Add the settings class",
        notes=("Settings reads the environment.",),
        boxes=(
            Box("`pytest -q`", done=True, evidence="failed before the change, passes on this tree"),
            Box("Words", done=False),
        ),
        checks=("tests",),
        approvals=(Approval(("large-diff",), (), "Ann <ann@example.org>", "", "seen"),),
        deviations=("Used @dataclass",),
        number=11,
        assisted="claude:opus",
    )
    issue = Issue(id="4.1", title=text.title, body="", number=11)
    title = title_of(issue, "m4", Forge(kind="local"), 1)
    assert title == "feat(m4): Add the settings class (#11)"
    body = body_of(text, title)
    assert read_mark(body)["attempt"] == "2"
    assert body.partition("-->\n\n")[2] == (
        "Implements issue #11: Add the settings class\n\n"
        "## Changes\n- Settings reads the environment.\n\n1 file changed, 1 line added, 0 removed:\n\n"
        "- created `` @team/`x` ``\n\n"
        "## Acceptance criteria\n- [x] `pytest -q` (failed before the change, passes on this tree)\n"
        "- [ ] Words (not proved)\n\n"
        "## Checks on exactly this tree\n- `tests` passed\n\n"
        "## Approvals\n- `large-diff` by Ann: seen\n\n"
        "## Deviations from the plan\n- Used (at)dataclass\n\n"
        "Closes #11\n\nAssisted-by: claude:opus\n\n<!-- /milestone-executor -->\n"
    )


def test_a_draft_says_where_what_is_needed_and_how_to_clear_it() -> None:
    clears = (("to clear it", 'doit approve m4/13 --reason "..."'), ("for another attempt", "doit retry m4/13"))
    stop = StopShown("database-migration", "It changes the schema.", "look at it", ("m/1.sql:3: ALTER",), clears)
    review = Review("reviewer", (Finding("minor", 30, "a.py", 2), Finding("grave", 95, "b.py"), Finding("x", 5)))
    body = body_of(PullText("m4/13", 1, 1, "sha256:x", NOTHING, stop=stop, review=review, threshold=80), "t")
    assert (
        "> **Waits for a person:** database-migration: It changes the schema.\n>\n"
        "> - `m/1.sql:3: ALTER`\n> - needed: look at it\n"
        '> - to clear it: `doit approve m4/13 --reason "..."`; for another attempt: `doit retry m4/13`\n'
    ) in body
    assert (
        "## Review\nreviewer reported 3 findings.\n\n- `b.py`: grave (score 95)\n\n"
        "<details><summary>2 findings below score 80</summary>\n\n"
        "- `a.py:2`: minor (score 30)\n- x (score 5)\n\n</details>"
    ) in body
    assert "reviewer reported no findings" in body_of(
        PullText("m4/13", 1, 1, "sha256:x", NOTHING, review=Review("reviewer"), threshold=80), "t"
    )


def test_nothing_that_people_or_agents_wrote_calls_anybody_closes_or_hides_anything() -> None:
    words = "fixes #1 @team [skip ci] <!-- x </details> ![y](http://z)"
    title = title_of(
        Issue(id="4.1", title=words, body="", pull_title=f"{{title}} {words}"), "m4", Forge(kind="local"), 2
    )
    text = PullText(
        *("m4/4.1", 2, 1, "sha256:0", NOTHING, words),
        notes=(words,),
        boxes=(Box("x", done=True, evidence=words),),
        stop=StopShown(words, words, words, ("`" + words,)),
        review=Review(words, (Finding(words, 1, words, 1),)),
        threshold=80,
        approvals=(Approval((words,), (), words, "", words),),
        deviations=(words,),
        assisted=words,
    )
    body = body_of(text, title)
    lines = [line for line in body.splitlines() if "milestone-executor" not in line]
    told = "\n".join("".join(line.split("`")[::2]) for line in lines)
    for said in ("fixes #1", "#1", "@team", "[skip ci]", "<!--", "![y]"):
        assert said not in title or said == "![y]"
        assert said not in told
    assert told.count("</details>") == 1


@pytest.mark.parametrize(
    ("template", "number", "expected"),
    [
        ("{token}: {title} ({number})", 11, "feat(m4): Add it (#11)"),
        ("[{milestone}/{issue}] {title}", None, "[m4/4.1] Add it"),
        ("{title} {number}", None, "Add it"),
    ],
)
def test_a_title_is_as_its_template_says(template: str, number: int | None, expected: str) -> None:
    issue = Issue(id="4.1", title="Add it.", body="", number=number, pull_title=template)
    assert title_of(issue, "m4", Forge(kind="local"), 1) == expected


@pytest.mark.parametrize("template", ["{name}", "{title", "x}", "{title!r}", ""])
def test_a_template_that_names_nothing_known_is_refused(template: str) -> None:
    with pytest.raises(ValidationError):
        Issue(id="4.1", title="Add it", body="", pull_title=template)


def test_a_finding_about_a_whole_file_gets_the_line_that_it_is_about() -> None:
    diff = (
        b"diff --git a/req.txt b/req.txt\nindex 1..2 100644\n--- a/req.txt\n+++ b/req.txt\n"
        b"@@ -3,0 +4,2 @@\n+left-pad==1\n+x==1\n"
    )
    found = placed(
        ("req.txt: requirements: nothing -> [x==1]", "req.txt:9: seen", "other: x", "no place"), parse_diff(diff).files
    )
    assert list(found) == ["req.txt:5: requirements: nothing -> [x==1]", "req.txt:9: seen", "other: x", "no place"]


def told(*events: Event, approvals: tuple[Approval, ...] = ()) -> list[str]:
    records = [
        Record(number, f"2026-01-01T10:0{number}:00.0Z", "", "run", event.KIND, "a", encode(event))
        for number, event in enumerate(events)
    ]
    return [text for _, text in history_of(records, "a", approvals)]


def pull_changed(state: str, waits: str = "", reason: str = "", attempt: int = 1) -> PullChanged:
    values = {"url": "", "head": "feat/m1-a", "commit": "c"}
    return PullChanged(number=7, state=state, waits=waits, reason=reason, attempt=attempt, **values)


STOP = Stopped(level="hard", rule="large-diff", reason="It is large.", spec_key="s", attempt=1)
FAILED = AttemptFailed(
    attempt=1, failure="forge-checks", reason="the check failed", detail="", fingerprint="", seconds=0.0, commit="c"
)
LANDED = Landed(attempt=2, commit="c" * 40, revision=1, result_key="r", check_key="k", needs={})


def test_the_comment_tells_what_happened_and_an_ordinary_life_needs_none() -> None:
    ordinary = (pull_changed("open"), pull_changed("open", "open", 'pull request #7 waits for "ci"'), LANDED)
    assert told(*ordinary) == []
    assert told(STOP, pull_changed("draft")) == []
    assert told(*ordinary[:2], FAILED, pull_changed("open", attempt=2), LANDED) == [
        "attempt 1 is shown",
        'waits for "ci"',
        "attempt 1 failed: the check failed",
        "attempt 2 is shown",
        "landed as cccccccccc",
    ]
    superseded = replace(FAILED, failure="superseded", reason="attempt 2 landed instead")
    assert (
        told(*ordinary[:2], FAILED, pull_changed("open", attempt=2), LANDED, superseded)[-1] == "landed as cccccccccc"
    )
    seen = Approval(("large-diff",), (), "Ann <ann@example.org>", "2026-01-01T10:00Z", "seen")
    assert told(STOP, pull_changed("draft"), pull_changed("open"), LANDED, approvals=(seen,)) == [
        "waits for a person: large-diff: It is large.",
        "Ann approved large-diff: seen",
        "attempt 1 is shown",
        "landed as cccccccccc",
    ]


def test_the_comment_begins_with_its_mark_and_the_present_state_and_is_bounded() -> None:
    text = state_comment([("2026-01-01 10:00", f"@all {number} <b>") for number in range(100)])
    lines = text.splitlines()
    assert lines[:2] == ["<!-- milestone-executor state -->", "**State:** (at)all 99 &lt;b>"]
    assert "- 60 states between" in lines
    assert len(lines) == 44
