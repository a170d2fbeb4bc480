"""What each format holds: tables from text to draft, every fault with its line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.importers.draft import Draft, Source, draft_faults, milestone_id, slug
from executor.importers.formats import FORMATS, detected, read
from executor.importers.markdown import fields_of, ids_in, sections

if TYPE_CHECKING:
    from collections.abc import Mapping


def source(text: str, name: str = "plan.md", files: Mapping[str, str] | None = None) -> Source:
    known = dict(files or {})
    return Source(name, text, known.get, known.get)


def draft(text: str, form: str = "", name: str = "plan.md", files: Mapping[str, str] | None = None) -> Draft:
    return read(source(text, name, files), form)


def faults(found: Draft, elsewhere: Mapping[str, str] | None = None) -> list[str]:
    return [str(fault) for fault in draft_faults(found, "plan.md", elsewhere or {})]


TASKS = """---
design: ../DESIGN.md
---
# Milestone 4: Worker Settings

**Goal:** Workers read their settings
from one place.

**Branch:** `impl/worker-settings` (from main)

## Task 4.1: Create the settings class

**File(s):**
- `src/app/settings.py` (create)
- `tests/test_settings.py:10-20`

**Type:** CODING / TDD
**Size:** L
**Priority:** p0
**GitHub issue:** #123

```python
## Task 9.9: not a task
```

**Acceptance Criteria:**
- [ ] Overridden
      from the environment
- [x] Defaults match

---

### Task 4.1b - Wire it
**File:** `src/app/main.py` (modify)
**Dependencies:** Task 4.1

#### Acceptance criteria

1. It is wired

## Task 4.5.1: Check it ✅
**Depends on:** 4.1 - 4.1b, the weather

## Task 4.10: Docs
**Dependencies:** None
"""


def test_a_list_of_tasks_is_understood_as_it_is_and_ids_keep_their_form() -> None:
    found = draft(TASKS)
    assert (found.id, found.title) == ("m4", "Worker Settings")
    assert found.fields == {"goal": "Workers read their settings from one place.", "branch": "impl/worker-settings"}
    assert [(issue.id, issue.title, issue.line) for issue in found.issues] == [
        ("4.1", "Create the settings class", 11),
        ("4.1b", "Wire it", 33),
        ("4.5.1", "Check it", 41),
        ("4.10", "Docs", 44),
    ]
    assert found.issues[0].fields == {
        "files": ["src/app/settings.py", "tests/test_settings.py"],
        "type": "coding",
        "size": "L",
        "priority": "P0",
        "number": 123,
        "accept": ["Overridden from the environment", "Defaults match"],
    }
    assert found.issues[1].fields == {"files": ["src/app/main.py"], "accept": ["It is wired"], "needs": ["4.1"]}
    assert found.issues[2].fields == {"needs": ["4.1", "4.1b"]}
    assert found.issues[3].fields == {}
    assert "## Task 9.9: not a task" in found.issues[0].text
    assert "Task 4.1b" not in found.issues[0].text
    assert not faults(found)


def test_what_is_not_understood_is_told_with_its_line() -> None:
    notes = {(note.line, note.text) for note in draft(TASKS + "\n## Notes\n\nx\n").notes}
    assert (41, 'dependencies: "the weather" was not understood') in notes
    assert (41, "the plan says that 4.5.1 is done; what has landed is read from git") in notes
    assert (47, '"Notes" is not part of a task and was left out') in notes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Nothing here\n", ["plan.md: no issue was found in it; see docs/import.md for what each format looks like"]),
        (
            "## Task 1.1: A\n## Task 1.1: B\n",
            ['plan.md: line 2: "1.1" is already the id of the issue in line 1'],
        ),
        (
            "## Task 1.1: A\n\n## Task 1.11: B\n**Depends on:** 1.2\n",
            ['plan.md: line 3: unknown issue "1.2", needed by "1.11"; did you mean "1.1"?'],
        ),
    ],
)
def test_faults_of_a_plan_have_their_line(text: str, expected: list[str]) -> None:
    assert faults(draft(text, "tasks")) == expected


def test_an_issue_of_another_milestone_can_be_needed() -> None:
    found = draft("## Task 4.1: A\n**Dependencies:** 3.2\n")
    assert faults(found)
    assert not faults(found, {"3.2": "m3/3.2"})


PLAN = """# M3: Search — Implementation Plan

**Milestone:** `m3`
**Milestone Folder:** `docs/m3/`
**Milestone Branch:** `milestone/m3-search` (base branch for PRs)
**Epic Issue:** #00 — "Epic: M3 — Search"

## Always Load Context (required reads)

- `docs/guide.md`
- `docs/gone.md`

### Phase 1: Foundations — Issues #01, #02
**Goal:** Something to build on

| Issue # | Issue File | Title | Priority | Dependencies | Feature Branch | PR Title Token | Est. Size |
|---------|------------|-------|----------|--------------|----------------|----------------|-----------|
| #01 | 01-index.md | Index \\| store | P0 | None | `feat/m3-01-index` | `feat(m3)` | M |
| #02 | 02-docs.md | Docs | P1 | #01 | `feat/m3-02-docs` | `docs(m3)` | S/M/L |

### Phase 2: Speed
| Issue # | Issue File | Title | Priority | Dependencies |
|---|---|---|---|---|
| #123 | 123.md | Fast | P0 | #01, #02 |

## After
```bash
git tag -a v0.3.0 -m "M3"
gh milestone close "M3 - Search"
```
"""
FILES = {
    "docs/m3/01-index.md": "# Index\n\n**Files:** `src/index.py`\n\n## Acceptance Criteria\n\n- [ ] It is built\n",
    "docs/m3/00-epic.md": "# Epic\n\n- [ ] All\n",
    "docs/guide.md": "x",
}


def test_an_autopilot_plan_is_read_by_the_names_of_its_columns() -> None:
    found = draft(PLAN, files=FILES)
    assert (found.id, found.title) == ("m3", "Search")
    assert found.fields == {
        "branch": "milestone/m3-search",
        "context": ["docs/guide.md"],
        "tag": "v0.3.0",
        "forge_milestone": "M3 - Search",
    }
    assert found.phases == (("Foundations", "Something to build on"), ("Speed", ""))
    assert found.epic == FILES["docs/m3/00-epic.md"]
    assert [(issue.id, issue.title, dict(issue.fields)) for issue in found.issues] == [
        (
            "01",
            "Index | store",
            {
                "phase": "Foundations",
                "priority": "P0",
                "size": "M",
                "accept": ["It is built"],
                "files": ["src/index.py"],
            },
        ),
        ("02", "Docs", {"phase": "Foundations", "priority": "P1", "type": "docs", "needs": ["01"]}),
        ("123", "Fast", {"phase": "Speed", "priority": "P0", "needs": ["01", "02"], "number": 123}),
    ]
    told = [note.text for note in found.notes]
    assert "02: its issue file 02-docs.md was not found; write its spec" in told
    assert "required reading docs/gone.md was not found and was left out" in told


def test_the_older_table_of_a_plan_is_read_too() -> None:
    text = (
        "# M0 Implementation Plan\n\n**Milestone:** M0 - Foundations\n**Branch:** `milestone/m0`\n\n"
        "## Phase 1: Setup (P0)\n\n| # | Issue | File | Branch | Status |\n|---|---|---|---|---|\n"
        "| 01 | Project structure | 01.md | feat/m0-01 | ✅ Done |\n\n"
        "## Open PRs\n\n| Issue | PR |\n|---|---|\n| - | - |\n"
    )
    found = draft(text)
    assert (found.id, found.title) == ("m0", "Foundations")
    assert [(issue.id, issue.title, issue.fields["priority"]) for issue in found.issues] == [
        ("01", "Project structure", "P0")
    ]
    assert any("the plan says that 01 is done" in note.text for note in found.notes)


def test_issues_of_github_are_read_with_their_labels_and_dependencies() -> None:
    group = {"title": "M4 - Workers", "description": "Do\nit."}
    items: list[dict[str, Any]] = [
        {
            "number": 7,
            "title": "First",
            "body": "Text\r\n\r\n## Acceptance Criteria\r\n\r\n- [ ] It works\r\n",
            "labels": [{"name": "P0"}, {"name": "bug"}, {"name": "size: L"}],
            "milestone": group,
            "state": "OPEN",
        },
        {"number": 8, "title": "Second", "body": "Depends on #7, #6 and #9", "labels": [{"name": "type:docs"}]},
        {"number": 6, "title": "Closed", "state": "closed"},
        {"number": 9, "title": "A pull request", "pull_request": {}},
    ]
    found = draft(json.dumps(items), name="issues.json")
    assert (found.id, found.title) == ("m4", "Workers")
    assert found.fields == {"forge_milestone": "M4 - Workers", "goal": "Do it."}
    assert [(issue.id, dict(issue.fields)) for issue in found.issues] == [
        ("7", {"number": 7, "accept": ["It works"], "priority": "P0", "type": "fix", "size": "L"}),
        ("8", {"number": 8, "type": "docs", "needs": ["7"]}),
    ]
    assert [note.text for note in found.notes] == ["#6 is closed there and was left out"]


def test_rows_of_a_csv_file_are_read_by_name_and_columns_of_one_name_together() -> None:
    text = (
        "Issue key,Summary,Priority,Blocked by,Blocked by,Files,Acceptance,Weight\n"
        'A-1,"One, two",P0,,,src/a.py src/b.py,"It works\nIt is fast",3\n'
        "A-2,Second,High,A-1,,,,\n"
    )
    found = draft(text, name="M5 list.csv")
    assert found.id == "m5"
    assert [(issue.id, issue.title, issue.line, dict(issue.fields)) for issue in found.issues] == [
        (
            "A-1",
            "One, two",
            3,
            {"priority": "P0", "files": ["src/a.py", "src/b.py"], "accept": ["It works", "It is fast"]},
        ),
        ("A-2", "Second", 4, {"needs": ["A-1"]}),
    ]
    assert {note.text for note in found.notes} == {
        "not taken over: weight",
        'priority "HIGH" is none of P0, P1, P2, P3 and was left out',
    }


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("a,b\n1,2\n", "x.csv", "plan.md: line 1: expected a column id; columns: a, b"),
        ("id,title\n1,\n", "x.csv", 'plan.md: line 2: expected an issue with id and title, found "1"'),
        ("{", "x.json", "plan.md: line 1: is not JSON: Expecting property name enclosed in double quotes"),
        ("3", "x.json", "plan.md: expected a list of issues, found the number 3"),
        ('[{"number": "x", "state": "open"}]', "x.json", 'plan.md: expected an issue with number and title, found "x"'),
    ],
)
def test_faulty_records_are_told(text: str, name: str, expected: str) -> None:
    found = draft(text, name=name)
    assert expected.replace("plan.md", name) in [str(fault) for fault in found.faults]


@pytest.mark.parametrize(
    ("text", "names", "ranges", "rest"),
    [
        ("None", [], [], ""),
        ("—", [], [], ""),
        ("#01, #02", ["01", "02"], [], ""),
        ("Task 4.1 and 4.1b", ["4.1", "4.1b"], [], ""),
        ("4.1 (see below)", ["4.1"], [], ""),
        ("4.1-4.3", [], [("4.1", "4.3")], ""),
        ("M3 complete", ["M3"], [], "complete"),
        ("all of the above", [], [], "all of the above"),
    ],
)
def test_ids_in_prose(text: str, names: list[str], ranges: list[tuple[str, str]], rest: str) -> None:
    assert ids_in(text) == (names, ranges, rest)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Milestone 4: Workers", "m4"),
        ("M4 - Workers", "m4"),
        ("M4.5_more.md", "m4.5"),
        ("docs/M10_x.md", "m10"),
        ("Roadmap", ""),
        ("Mars 4", ""),
    ],
)
def test_the_id_that_a_title_or_a_file_name_speaks_of(text: str, name: str) -> None:
    assert milestone_id(text) == name


@pytest.mark.parser
@given(st.text(max_size=400), st.sampled_from(sorted(FORMATS)))
def test_whatever_is_read_gives_a_draft_and_no_surprise(text: str, form: str) -> None:
    found = draft(text, form)
    list(draft_faults(found, "plan.md", {}))
    assert isinstance(found.title, str)


@given(st.text(max_size=300))
def test_sections_lose_no_line(text: str) -> None:
    parts = sections(text)
    lines = sum(len(part.lines) for part in parts) + sum(part.level > 0 for part in parts)
    assert lines == len(text.replace("\r\n", "\n").split("\n"))
    fields_of(parts)


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[1-9][0-9]?(\.[1-9][0-9]?){0,2}[a-z]?", fullmatch=True), st.text("abc xyz", min_size=1)
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda item: item[0],
    )
)
def test_every_heading_of_a_task_is_an_issue_with_that_very_id(tasks: list[tuple[str, str]]) -> None:
    text = "\n".join(f"## Task {name}: x{title}\n\nText {name}\n" for name, title in tasks)
    found = draft(text, "tasks")
    assert [issue.id for issue in found.issues] == [name for name, _ in tasks]
    assert [issue.text for issue in found.issues] == [f"Text {name}" for name, _ in tasks]


@given(st.text(max_size=80))
def test_a_slug_is_part_of_a_file_name(text: str) -> None:
    assert set(slug(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not slug(text).startswith("-")


@pytest.mark.parametrize(
    ("text", "name", "form"),
    [
        ("a,b", "X.CSV", "csv"),
        ("[]", "x.json", "json"),
        ('[{"number": 1, "state": "OPEN"}]', "x.json", "github"),
        ("### Task 1.1: x", "x.md", "tasks"),
        ("# Plan", "x.md", "autopilot"),
    ],
)
def test_the_format_is_found_out(text: str, name: str, form: str) -> None:
    assert detected(source(text, name)) == form
