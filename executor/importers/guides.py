"""The guides of all formats: appearance, mapping of parts, omissions; also the text of docs/import.md. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.importers.guides_data import DATA
from executor.importers.importer import Guide

if TYPE_CHECKING:
    from executor.importers.importer import Importer

__all__ = ["GUIDES", "guide_text"]

_STATUS = "a status that is neither open nor done (reported); a tick (it proves nothing)"

GUIDES: dict[str, Guide] = {
    "tasks": Guide(
        "Markdown whose tasks are headings, with the handoff beside it; also the plan of a request, with `Milestone 1: ...`",
        """\
# M4 - Worker settings

**Goal:** One place for settings
**Builds on:** M3

## Task 4.1: Create the settings class
**Files:** `app/settings.py` (create), `tests/test_settings.py`
**Type:** CODING
**Dependencies:** None

Read every value from the environment.

**Acceptance Criteria:**
- [ ] Each value has a default

## Task 4.2: Use it in the worker
**Depends on:** Task 4.1
""",
        {
            "`## Task 4.1: Title`, any level, colon or not": "an issue; ids keep their form (4.10, 4.1b, 5b.1, T015, A)",
            "Files, Type, Dependencies, Priority, Size, Agent, GitHub issue": "the keys of the issue; labels in bold, in a list, or plain",
            "Dependencies": "ids, ranges (`4.1-4.3`, `Tasks 1-3`), `all previous tasks`, `phase 1`; a milestone (`M3`) becomes `needs` of the milestone",
            "Acceptance Criteria, Definition of Done, Done when, ...": "`accept`, from a list, a table, paragraphs, or a heading of that name",
            "`## Phase 1: ...` around tasks": "`[[phase]]`; where the numbers of tasks restart in each phase, Task 1 of phase 2 is `2.1`",
            "Goal, Branch, Builds on, Success Criteria before the tasks": "the keys of the milestone",
            "everything else": "the spec of the task that it stands in, or `overview.md`, which every issue names as required reading",
            "`HANDOFF_M4.md` beside it, ticks, `Status: Done`": "the claim that a task is done; it is reported, see `--done-as-landed`",
        },
        "tasks in code, comments and quotations; tasks that are struck out; " + _STATUS,
    ),
    "autopilot": Guide(
        "tables of issues, one for each phase: `IMPLEMENTATION_PLAN.md` with files beside it; also any table with ids, titles and dependencies",
        """\
# M4 - Worker settings - Implementation Plan

**Milestone Branch:** `milestone/m4-worker-settings`

### Phase 1: Foundations (P0)
**Goal:** One place for settings

| Issue # | Issue File | Title | Priority | Dependencies | Feature Branch | PR Title Token | Est. Size |
|---|---|---|---|---|---|---|---|
| #01 | 01-settings.md | Create the settings class | P0 | None | `feat/m4-01-settings` | `feat(m4)` | S |
| #02 | 02-worker.md | Use it in the worker | P0 | #01 | `feat/m4-02-worker` | `feat(m4)` | M |

**Dependencies notes:** Start #02 only after #01

## Tracking

### Completed Issues
* [x] #01 - Create the settings class

### Blocked / Needs Review (STOP)
* #02 - Use it in the worker - STOP: migration - Needs: a review
""",
        {
            "a row with a number and a title": "an issue; columns are read by name",
            "Issue File": "the spec, with its acceptance criteria and files",
            "Feature Branch, PR Title Token": "`slug`, `token`",
            "Dependencies, Dependencies notes": "`needs`, ranges (`#01-#03`) included",
            "a number without a leading zero": "the number of the forge's issue",
            "`00-epic.md` beside it": "the epic",
            "Always Load Context": "`context`, as far as the files are there",
            "`git tag -a`, `gh milestone close`": "`tag`, `forge_milestone`",
            "Run Full CI, Run full checks": "with --trust the commands that are proved before the release, else a note",
            "Completed Issues, Status": "the claim that an issue is done",
            "Blocked / Needs Review (STOP)": "`hold`: the issue waits for a person",
            "everything else": "`overview.md`",
        },
        "rows without number or title, tables of risks, tables behind the phases (each reported); a template that is not filled in is refused",
    ),
    "speckit": Guide(
        "spec-kit: `specs/001-name/tasks.md`",
        """\
# Tasks: Photo albums

## Phase 1: Setup
- [ ] T001 Create the project in src/app.py

## Phase 2: User Story 1 - Make an album (Priority: P1)
**Independent Test**: an album can be made and opened
- [ ] T002 [P] [US1] Model in src/models/album.py
- [ ] T003 [US1] Page in src/pages/album.py
""",
        {
            "a phase": "an issue (`phase-1`, `US1`); with --split each task is one",
            "its tasks, Independent Test, Checkpoint": "`accept`",
            "paths in tasks": "`files`",
            "the order of the phases": "`needs`: a story waits for the phases before the first story, any other phase for all before it",
            "`User Story 2: depends on US1`, `(depends on T001)` behind a task": "`needs`",
            "`(Priority: P1)`": "`priority`",
            "spec.md, plan.md, contracts/ ... beside it": "`context`",
            "all boxes of a phase ticked": "the claim that it is done",
        },
        "`[P]` (only --split uses it); single ticks (reported)",
    ),
    "kiro": Guide(
        "Kiro: `.kiro/specs/NAME/tasks.md`",
        """\
# Implementation Plan

- [ ] 1. Build the login
  - [ ] 1.1 Endpoint for sessions
    - POST /api/sessions
    - _Requirements: 1.1, 1.2_
  - [ ]* 1.2 Unit tests
- [ ] 2. Build the logout
""",
        {
            "a number of the first level": "an issue, after the one before it; with --split each number is one",
            "the numbers below": "`accept`",
            "`_Agent: ..._`": "`agent`, if there is such a profile",
            "requirements.md, design.md beside it": "`context`",
        },
        "the star of optional tasks (reported; they are criteria like the others); single ticks (reported)",
    ),
    "openspec": Guide(
        "OpenSpec: `openspec/changes/NAME/` or its `tasks.md`",
        """\
## 1. Checker
- [ ] 1.1 Create `src/check.ts`
- [ ] 1.2 Tests for it

## 2. Release
- [ ] 2.1 Changeset
""",
        {
            "the change": "one issue; with --split each chapter is one, after the one before it",
            "its boxes; without any, the items of its lists or its numbered chapters": "`accept`",
            "proposal.md, design.md, specs/": "`context`; the title of the proposal is the title",
            "all boxes ticked": "the claim that it is done",
        },
        "single ticks (reported)",
    ),
    "taskmaster": Guide(
        "task-master: `.taskmaster/tasks/tasks.json`, with or without tags",
        """\
{"master": {"tasks": [
  {"id": 1, "title": "Set up", "description": "Short.", "details": "Use port 8443.", "testStrategy": "curl /health",
   "status": "done", "priority": "high", "dependencies": [],
   "subtasks": [{"id": 1, "title": "Create table", "status": "done"}]},
  {"id": 2, "title": "Serve", "status": "pending", "dependencies": ["1.1"]}
]}}
""",
        {
            "a task of the tag": "an issue; --tag names the tag, else `master` or the only one",
            "description, details, testStrategy": "the spec",
            "subtasks, acceptanceCriteria": "a chapter of the spec for each subtask, and `accept`",
            "files, phase": "`files`, `phase`",
            "dependencies, also those of subtasks on other tasks": "`needs`; one on a subtask is one on its task",
            "priority": "critical P0, high P1, medium P2, low P3",
            "done / cancelled": "a claim / left out, subtasks too",
        },
        "other tags (reported), times, scores of complexity; " + _STATUS,
    ),
    "backlog": Guide(
        "Backlog.md: `backlog/tasks/`, or some of its files",
        """\
---
id: task-310.01
title: Detect the version
status: To Do
labels: [bug]
dependencies: [task-309]
priority: high
---
## Description
Read it from the binary.

## Acceptance Criteria
<!-- AC:BEGIN -->
- [ ] #1 The version is printed
<!-- AC:END -->
""",
        {
            "a file": "an issue; --tag takes only those of one milestone; a second file of the same id gets its title behind it (reported)",
            "dependencies, priority, milestone": "`needs`, `priority`, `phase`",
            "Acceptance Criteria, Definition of Done": "`accept`",
            "the text": "the spec",
            "Done / archived": "a claim / left out",
        },
        "labels, references, parents, assignees, dates; needs of tasks in other folders (reported)",
    ),
    "beads": Guide(
        "beads: `.beads/issues.jsonl`",
        """\
{"id":"x-1","title":"Login","status":"open","priority":1,"issue_type":"epic"}
{"id":"x-1.1","title":"Endpoint","description":"POST /api/sessions","status":"open","priority":1,"issue_type":"task","dependencies":[{"issue_id":"x-1.1","depends_on_id":"x-1","type":"parent-child"}]}
{"id":"x-1.2","title":"Page","status":"closed","priority":2,"issue_type":"task","dependencies":[{"issue_id":"x-1.2","depends_on_id":"x-1.1","type":"blocks"}]}
""",
        {
            "a line": "an issue",
            "an epic with children": "`[[phase]]`; its text goes into `overview.md`",
            "dependencies of type blocks": "`needs`",
            "description, design, notes, acceptance_criteria": "the spec and `accept`",
            "priority 0 to 4": "P0 to P3; 4 is P3",
            "closed / tombstone": "a claim / left out",
        },
        "other links, labels, assignees, reasons, records that are no issues (reported); times",
    ),
    "ccpm": Guide(
        "ccpm: `.claude/epics/NAME/`, or some of its files",
        """\
---
name: Settings class
status: open
depends_on: [2]
parallel: true
conflicts_with: [4]
---
# Task: Settings class

## Acceptance Criteria
- [ ] Each value has a default
""",
        {
            "`3.md`, `003-name.md`, `tasks/003-name.md`": "an issue `3`, `003`, with or without front matter",
            "depends_on": "`needs`, also by names from before the files were renumbered (`T1: Title`, a table of the epic)",
            "files, phase, agent": "`files`, `phase`, `agent`, if there is such a profile",
            "conflicts_with": "a resource that the two share, so that they never run at once",
            "github": "`number`",
            "Acceptance Criteria, Size": "`accept`, `size`",
            "epic.md": "`overview.md`; its success criteria are the milestone's",
            "closed": "a claim",
        },
        "files of other names (reported), progress, dates",
    ),
    "speckitty": Guide(
        "spec-kitty: `kitty-specs/NAME/tasks/`",
        """\
---
work_package_id: WP01
title: Validation
lane: planned
dependencies: []
owned_files: [scripts/validate.py]
phase: Phase 1 - Foundations
---
## Definition of Done Checklist
- [ ] The validator has tests
""",
        {
            "`WP01-*.md`": "an issue",
            "dependencies, owned_files, phase": "`needs`, `files`, `phase`",
            "Definition of Done Checklist": "`accept`",
            "lane done": "a claim",
        },
        "history, agent, assignee, shell_pid",
    ),
    "gsd": Guide(
        "GSD: `M001-ROADMAP.md`, `.planning/ROADMAP.md`",
        """\
# M001: Baseline quality

**Vision:** A clean base

## Slices
- [ ] **S01: Shared utilities** `risk:low` `depends:[]`
  > After this: `tsc --noEmit` passes
- [ ] **S02: Refactor routers** `risk:medium` `depends:[S01]`
""",
        {
            "a slice, or a chapter `Phase 1: Title`": "an issue; also a phase that is only listed",
            "`depends:[S01]`, Depends on": "`needs`",
            "After this, Success Criteria": "`accept`",
            "Boundary Map": "the spec of both slices",
            "Vision, Success Criteria, Definition of Done": "`goal` and `accept` of the milestone",
            "a ticked slice": "a claim",
        },
        "risk (it stays in the spec); needs of phases that are in other files (reported)",
    ),
    "bmad": Guide(
        "BMAD: `sprint-status.yaml` with its story files",
        """\
project: shop
story_location: stories
development_status:
  epic-1: in-progress
  1-1-login: done
  1-2-logout: backlog
""",
        {
            "a story": "an issue `1-2`; its file is the spec; an entry without numbers keeps its name",
            "an epic": "`[[phase]]`",
            "done": "a claim",
        },
        "retrospectives, dates; " + _STATUS,
    ),
    "story": Guide(
        "BMAD: a story file, or a folder of them",
        """\
# Story 1.2: Logout

Status: ready-for-dev

## Acceptance Criteria
1. The session is gone
""",
        {"`# Story 1.2: Title`": "an issue `1-2`", "Acceptance Criteria": "`accept`", "Status: done": "a claim"},
        "tasks and subtasks stay in the spec",
    ),
    "ralph": Guide(
        "Ralph: `prd.json`, also a bare list of stories",
        """\
{"project": "App", "branchName": "ralph/login", "description": "Login",
 "userStories": [
  {"id": "US-001", "title": "Model", "description": "A table.", "acceptanceCriteria": ["table exists"],
   "priority": 1, "passes": false, "notes": ""}]}
""",
        {
            "a story": "an issue",
            "acceptanceCriteria, notes": "`accept`, the spec",
            "priority": "the order of the issues",
            "branchName, description": "`branch`, `goal`",
            "passes": "a claim",
        },
        "keys of other names (reported)",
    ),
    **DATA,
}


def guide_text(importer: Importer) -> str:
    """Return the page of a format, as Markdown."""
    guide = importer.guide
    rows = [f"| {part} | {becomes} |" for part, becomes in guide.becomes.items()]
    fence = "````" if "```" in guide.example else "```"
    return "\n".join(
        [
            f"### `{importer.name}`",
            "",
            f"{guide.summary[:1].upper()}{guide.summary[1:]}.",
            "",
            f"{fence}text",
            guide.example.rstrip("\n"),
            fence,
            "",
            "| part | becomes |",
            "|---|---|",
            *rows,
            "",
            f"Left out: {guide.left_out}.",
            "",
        ]
    )
