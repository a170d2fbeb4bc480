"""The tracking section of somebody's own plan: filled where it is, in its own layout, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.model.milestone import Issue
from executor.report.exports import Tracked
from executor.report.tracking import filled

PLAN = """# Plan

**Status:** of the overview

## Tracking (agent-updated)

Kept by the tool.

### Completed Issues

* [ ] #01 — {Issue Title}

### Open PRs (autopilot)

* (none)
* **Enhanced format**:
  ```markdown
  * [PR #{n}](link)
  ### not a heading
  ```

### Blocked / Needs Review (STOP)

Use it for hard stops.

* (none)

### Skipped Issues (Soft Stops)

* (none)

### Current Phase

* **Phase:** Phase 1
* **Current Issue:** #01

---

**Last Updated:** {YYYY-MM-DD}
**Status:** Not Started | In Progress | Complete

## Notes

**Status:** of somebody else
"""


def entry(
    own: int | None, name: str, title: str, status: str, reason: str = "", phase: str = "", **more: Any
) -> Tracked:
    """An issue and its progress, whatever its title is."""
    return Tracked(Issue.model_construct(id=name, title=title, number=own, phase=phase), "", status, reason, **more)


ENTRIES = (
    entry(11, "4.1", "Add settings", "landed", phase="One", number=25, pull="https://f/25"),
    entry(
        *(12, "4.2", "Read them", "open", "", "Two"),
        number=26,
        pull="https://f/26",
        checks="open; ci runs",
        review="✓ No issues",
        created="2026-11-01",
    ),
    entry(
        *(13, "4.3", "Change the schema", "review", "database-migration: it changes @all", "Two"),
        number=27,
        pull="https://f/27",
        checks="draft",
        review="⏳ Pending",
        created="2026-11-02",
        blocked="2026-11-03",
        needs="look at it",
        findings=("m.sql:3: ALTER",),
    ),
    entry(14, "4.4", "Move", "skipped", "large-diff: 401 lines"),
    entry(None, "4.5", "Later", "pending", phase="Three"),
)


def test_every_part_is_filled_in_its_place() -> None:
    text = filled(PLAN, ENTRIES, day="2026-11-28", status="In Progress") or ""
    assert text.startswith(
        "# Plan\n\n**Status:** of the overview\n\n## Tracking (agent-updated)\n\nKept by the tool.\n"
    )
    assert text.endswith(
        "### Skipped Issues (Soft Stops)\n\n* #14 — Move — Skipped: large-diff: 401 lines\n\n"
        "### Current Phase\n\n* **Phase:** Two\n* **Current Issue:** #12\n* **Blockers:** #13\n\n"
        "---\n\n**Last Updated:** 2026-11-28\n**Status:** In Progress\n\n## Notes\n\n**Status:** of somebody else\n"
    )
    assert "* [x] #11 — Add settings ✅ Done — [PR #25](https://f/25)\n* [ ] #12 — Read them\n" in text
    assert (
        "* [PR #26](https://f/26) — Read them (#12)\n  - Status: ⏳ Pending: ci runs\n  - Code Review: ✓ No issues\n"
        "  - Created: 2026-11-01\n"
    ) in text
    assert (
        "Use it for hard stops.\n\n* **#13** (plan 4.3) — Change the schema\n"
        "  - Reason: database-migration: it changes @\u200ball\n  - Findings:\n    1. m.sql:3: ALTER\n"
        "  - Needs: look at it\n"
        "  - PR: [PR #27](https://f/27)\n  - Blocked Date: 2026-11-03\n"
    ) in text
    assert filled(text, ENTRIES, day="2026-11-28", status="In Progress") == text


def test_the_current_issue_is_the_one_at_work_else_one_that_waits() -> None:
    waiting = ENTRIES[2:3]
    text = filled(PLAN, waiting, day="d", status="s") or ""
    assert "* **Phase:** Two\n* **Current Issue:** #13\n" in text
    at_work = (*ENTRIES, entry(16, "4.6", "Now", "pending", phase="Four", at_work=True))
    assert "* **Phase:** Four\n* **Current Issue:** #16\n" in (filled(PLAN, at_work, day="d", status="s") or "")
    assert "* **Phase:** Complete\n* **Current Issue:** None\n* **Blockers:** None" in (
        filled(PLAN, ENTRIES[:1], day="d", status="s") or ""
    )


@pytest.mark.parametrize(
    "text", ["", "# Plan\n", "## Completed Issues\n* x\n", "```\n### Completed Issues\n### Skipped\n```\n"]
)
def test_a_plan_without_such_a_section_is_left_to_the_marks(text: str) -> None:
    assert filled(text, ENTRIES, day="d", status="s") is None


def test_line_ends_bullets_and_levels_of_the_plan_are_kept() -> None:
    plan = PLAN.replace("* ", "- ").replace("### ", "#### ").replace("\n", "\r\n")
    text = filled(plan, ENTRIES, day="d", status="s") or ""
    assert "\n" not in text.replace("\r\n", "")
    assert "- [x] #11" in text
    assert "#### Current Phase\r\n\r\n- **Phase:** Two" in text


@given(st.text(max_size=40), st.text(max_size=40))
def test_somebody_elses_words_stay_on_their_line(title: str, reason: str) -> None:
    issues = (entry(1, "1", title, "review", reason),)
    text = filled(PLAN, issues, day="d", status="s") or ""
    assert filled(text, issues, day="d", status="s") == text
    assert text.count("### ") == PLAN.count("### ") - 1
