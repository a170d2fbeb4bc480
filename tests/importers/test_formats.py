"""What each format holds: tables from text to draft, every fault with its line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from executor.importers.draft import Draft, draft_faults, grouped, milestone_id, slug
from executor.importers.importer import chosen, installed
from executor.importers.reading.words import needs_in
from executor.importers.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping


def source(text: str, name: str = "plan.md", files: Mapping[str, str] | None = None) -> Source:
    known = dict(files or {})
    return Source(name, text, known.get, known.get, siblings=tuple(known))


def draft(text: str, form: str = "", name: str = "plan.md", files: Mapping[str, str] | None = None) -> Draft:
    found = source(text, name, files)
    return chosen(found, form).read(found)


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


def test_what_is_not_understood_is_reported_with_its_line() -> None:
    notes = {(note.line, note.text) for note in draft(TASKS + "\n## Notes\n\nx\n").notes}
    assert (42, '4.5.1: dependencies: "the weather" was not understood') in notes
    assert (47, '"Notes" is not part of a task; it is kept in the overview') in notes
    found = draft(TASKS + "\n## Notes\n\nx\n")
    assert [issue.id for issue in found.issues if issue.done] == ["4.5.1"]
    assert "## Notes\n\nx" in found.overview


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "# Nothing here\n",
            ["plan.md: it contains no issue; `doit import --formats` shows the formats"],
        ),
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
                "token": "feat(m3)",
                "slug": "index",
                "accept": ["It is built"],
                "files": ["src/index.py"],
            },
        ),
        (
            "02",
            "Docs",
            {
                "phase": "Foundations",
                "priority": "P1",
                "token": "docs(m3)",
                "type": "docs",
                "slug": "docs",
                "needs": ["01"],
            },
        ),
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
    assert found.issues[0].done


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
    assert [note.text for note in found.notes] == [
        "#6 is closed and was left out",
        "#9 is a pull request and was left out",
        "8 does not wait for 6, 9, which are left out",
    ]


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
            2,
            {"priority": "P0", "files": ["src/a.py", "src/b.py"], "accept": ["It works", "It is fast"]},
        ),
        ("A-2", "Second", 4, {"priority": "P1", "needs": ["A-1"]}),
    ]
    assert [note.text for note in found.notes] == ["not imported: weight: 3"]


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("a,b\n1,2\n", "x.csv", "x.csv: line 1: expected a column id; columns: a, b"),
        ("id,title\n1,\n", "x.csv", 'x.csv: line 2: expected an issue with id and title, found id "1", title ""'),
        ('id,title\n1,"A\n2,B\n', "x.csv", "x.csv: line 2: is not CSV: a quotation mark is never closed"),
        ("{", "x.json", "x.json: line 1: is not JSON: Expecting property name enclosed in double quotes"),
        (
            "3",
            "x.json",
            "x.json: line 1: expected a list of issues, found the number 3; `doit import --formats` shows the formats",
        ),
        (
            '[{"number": "x", "title": "A", "state": "open", "body": ""}, {"number": true, "title": "B"}]',
            "x.json",
            "x.json: line 1: expected an issue with number and title, found true, titled 'B'",
        ),
        (
            '{"format": "make-for-milestones/1", "milestone": {"id": "m4"}, "issues": [5]}',
            "x.json",
            "x.json: line 1: issues[0]: expected a table, found the number 5",
        ),
        (
            '{"format": "make-for-milestones/1", "milestone": "x", "issues": []}',
            "x.json",
            'x.json: line 1: milestone: expected a table, found "x"',
        ),
        (
            '{"format": "make-for-milestones/2", "issues": []}',
            "x.json",
            (
                "x.json: line 1: expected the format make-for-milestones/1, found make-for-milestones/2; "
                "export it again with this version"
            ),
        ),
        ("id: [", "x.yaml", "x.yaml: line 1: is not YAML: expected the node content, but found '<stream end>'"),
        ('{"id": 1, "title": "A"}\n{"id"', "x.jsonl", "x.jsonl: line 2: is not JSON: Expecting ':' delimiter"),
    ],
)
def test_faulty_records_have_their_line(text: str, name: str, expected: str) -> None:
    form = "milestone-yaml" if name.endswith("yaml") else ""
    assert expected in [str(fault) for fault in draft(text, form, name=name).faults]


IDS = ["4.1", "4.1b", "4.2", "4.3", "4.10"]


@pytest.mark.parametrize(
    ("text", "order", "names", "unknown", "milestones", "rest"),
    [
        ("None", IDS, [], [], [], []),
        ("—", IDS, [], [], [], []),
        ("None (first task)", IDS, [], [], [], []),
        ("#01, #02", ["01", "02"], ["01", "02"], [], [], []),
        ("#1", ["01", "02"], ["01"], [], [], []),
        ("Task 4.1 and 4.1b", IDS, ["4.1", "4.1b"], [], [], []),
        ("4.1 (see below)", IDS, ["4.1"], [], [], []),
        ("Database layer (Task 4.1)", IDS, ["4.1"], [], [], ["Database layer"]),
        ("4.1-4.3", IDS, ["4.1", "4.1b", "4.2", "4.3"], [], [], []),
        ("Tasks 1-3", ["1", "2", "3", "4"], ["1", "2", "3"], [], [], []),
        ("#01-#03", ["01", "02", "03"], ["01", "02", "03"], [], [], []),
        ("M3 complete", IDS, [], [], ["m3"], []),
        ("all previous tasks", IDS, IDS[:4], [], [], []),
        ("the previous task", IDS, ["4.3"], [], [], []),
        ("not on Task 4.2", IDS, [], [], [], ["not on Task 4.2"]),
        ("4.1; can run with 4.2", IDS, ["4.1"], [], [], ["can run with 4.2"]),
        ("httpx 0.27 and Python 3.11", IDS, [], [], [], ["httpx 0.27 Python 3.11"]),
        ("Task 4.1, due 2026-01-15", IDS, ["4.1"], [], [], ["due 2026-01-15"]),
        ("4.O", IDS, [], ["4.O"], [], []),
        ("Task 9", IDS, [], ["9"], [], []),
        ("phase 1", ["1", "2"], [], [], [], ["phase 1"]),
        ("0004", ["story-0016-0004"], ["story-0016-0004"], [], [], []),
    ],
)
def test_dependencies_in_words(
    text: str, order: list[str], names: list[str], unknown: list[str], milestones: list[str], rest: list[str]
) -> None:
    found = needs_in(text, order, "4.10")
    assert (found.names, found.unknown, found.milestones, found.rest) == (names, unknown, milestones, rest)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Milestone 4: Workers", "m4"),
        ("M4 - Workers", "m4"),
        ("Workers - M4: Settings", "m4"),
        ("M4.5_more.md", "m4.5"),
        ("docs/M10_x.md", "m10"),
        ("Implementation Plan: Request 42 - Bookmarks", "request-42"),
        ("Roadmap", ""),
        ("Mars 4", ""),
        ("Version 2 of M3 plan", ""),
        ("Migrate from M1 to M2 chips", ""),
        ("2024-m1.md", ""),
    ],
)
def test_the_id_that_a_title_or_a_file_name_begins_with(text: str, name: str) -> None:
    assert milestone_id(text) == name


def test_a_slug_is_part_of_a_file_name() -> None:
    assert slug("Create the (settings) Class!") == "create-the-settings-class"


def test_notes_of_one_kind_are_one_line_with_count_and_first_lines() -> None:
    rows = "".join(f"{number},T,hi\n" for number in range(1, 9))
    found = draft(f"id,title,weight\n{rows}", name="x.csv")
    assert grouped(found.notes, "x.csv") == [
        "x.csv:2: not imported: weight: hi (8 times: lines 2, 3, 4, 5, 6 and 3 more)"
    ]


@pytest.mark.parametrize(
    "box", ["- [ ]* 2. Tests", r"- [ ]\* 2. Tests", r"- \[ \] 2. Tests", "* [ ] 2. Tests", "+ [X] 2. Tests"]
)
def test_a_box_that_a_formatter_has_written_with_backslashes_is_a_task(box: str) -> None:
    found = draft(f"# Implementation Plan\n\n- [ ] 1. Build\n\n{box}\n  - _Requirements: 1.1_\n", "kiro", "tasks.md")
    assert [(issue.id, issue.title) for issue in found.issues] == [("1", "Build"), ("2", "Tests")]


@pytest.mark.parametrize("name", sorted(installed()))
def test_the_example_of_each_guide_is_read(name: str) -> None:
    importer = installed()[name]
    guide = importer.guide
    assert guide.summary
    assert guide.becomes
    assert guide.left_out
