"""The text of a pull request: what changed, what is proved and by what, what it waits for; harmless whatever comes."""

from __future__ import annotations

from executor.forge.pull_request import (
    ApprovalShown,
    Box,
    FindingShown,
    PullText,
    ReviewShown,
    StopShown,
    body_of,
    read_mark,
    title_of,
)
from executor.git.diff import parse_diff

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
        approvals=(ApprovalShown("large-diff", "Ann", "seen"),),
        deviations=("Used @dataclass",),
        number=11,
        assisted="claude:opus",
    )
    title = title_of("feat(m4)", text.title, 1, 11)
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
    stop = StopShown("database-migration", "It changes the schema.", "look at the migration", ("m/1.sql:3: ALTER",))
    review = ReviewShown(
        "reviewer", (FindingShown("minor", 30, "a.py", 2), FindingShown("grave", 95, "b.py"), FindingShown("x", 5)), 80
    )
    body = body_of(PullText("m4/13", 1, 1, "sha256:x", NOTHING, stop=stop, review=review), "t")
    assert (
        "> **Waits for a person:** database-migration: It changes the schema.\n>\n"
        "> - `m/1.sql:3: ALTER`\n> - needed: look at the migration\n"
        '> - to clear it: `doit approve m4/13 --reason "..."`; for another attempt: `doit retry m4/13`\n'
    ) in body
    assert "<details><summary>reviewer: 3 findings, 1 of score 80 or more</summary>" in body
    assert "- `b.py`: grave (score 95)\n- `a.py:2`: minor (score 30)\n- x (score 5)\n" in body
    assert "reviewer reported no findings" in body_of(
        PullText("m4/13", 1, 1, "sha256:x", NOTHING, review=ReviewShown("reviewer", (), 80)), "t"
    )


def test_nothing_that_people_or_agents_wrote_calls_anybody_closes_or_hides_anything() -> None:
    words = "fixes #1 @team [skip ci] <!-- x </details> ![y](http://z)"
    title = title_of("core(m4)", words, 2)
    text = PullText(
        *("m4/4.1", 2, 1, "sha256:0", NOTHING, words),
        notes=(words,),
        boxes=(Box("x", done=True, evidence=words),),
        stop=StopShown(words, words, words, ("`" + words,)),
        review=ReviewShown(words, (FindingShown(words, 1, words, 1),), 80),
        approvals=(ApprovalShown(words, words, words),),
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
