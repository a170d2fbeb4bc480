"""Plans of every format, true to form: the example of each guide, and larger ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.importers.importer import installed
from executor.importers.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PLANS", "file", "folder"]


def file(name: str, text: str, beside: Mapping[str, str] | None = None) -> Source:
    """A plan in one file, with the files beside it."""
    known = dict(beside or {})
    place = name.rpartition("/")[0]
    place = f"{place}/" if place else ""
    return Source(
        name, text, lambda path: known.get(path.removeprefix(place)), known.get, siblings=tuple(known), place=place
    )


def folder(name: str, files: Mapping[str, str]) -> Source:
    """A plan that is a folder."""
    known = dict(files)
    place = f"{name}/"
    names = tuple(known)
    return Source(
        name, "", lambda path: known.get(path.removeprefix(place)), known.get, names, siblings=names, place=place
    )


def example(form: str) -> str:
    """The example of a guide."""
    return installed()[form].guide.example


TASKS = """---
design: ../DESIGN.md
---
# Milestone 4: Worker Settings

**Goal:** One place for settings
**Branch:** `impl/workers`
**Builds on:** M3

## Overview

Settings stand in seven files today.

## Phase 1: Base

### Task 4.1: Create `Settings`
**File(s):** `app/settings.py` (create), tests/test_settings.py
**Type:** CODING
**Estimated time:** 2 hours

Quote it like so:

```markdown
## Configuration

```bash
export WORKERS=4
```
Further quoted words.
```

**Acceptance Criteria:**
- [ ] every value has a default
- [x] values come from the environment

### Task 4.2: Use it
**Depends on:** Task 4.1, the weather

| Key | Default |
|---|---|
| workers | four |

> Quoted remark of somebody

## Phase 2: Rest

### Task 4.10: Validate ✅
**Dependencies:** 4.1-4.2

#### Acceptance Criteria
Given a worker
When it starts
Then it reads settings

<!-- hidden comment -->

## Notes

Never touch billing.
"""
SPECKIT = """# Tasks: Photo albums

**Input**: Design documents from specs

## Phase 1: Setup (Shared Infrastructure)

**Purpose**: Project initialization

- [ ] T001 Create structure in src/app.py
- [x] T002 [P] Configure linting

## Phase 2: Foundational (Blocking)

- [ ] T003 Storage in src/storage.py

**Checkpoint**: Foundation ready

## Phase 3: User Story 1 - Make an album (Priority: P1)

**Goal**: An album exists

**Independent Test**: open the page

### Tests for User Story 1
- [ ] T004 [P] [US1] Contract test in tests/test_album.py

### Implementation for User Story 1
- [ ] T005 [US1] Model in src/models/album.py

## Phase 4: Polish
- [ ] T006 Documentation

## Dependencies & Execution Order

- **User Story 1 (P1)**: Can start after Foundational

## Notes

Commit after each task.
"""
KIRO = """# Implementation Plan

Introductory sentence here.

- [x] 1. Set up storage
  - Create migration
  - _Requirements: 1.1_

- [ ] 2. Build service
- [ ] 2.1 Endpoint for sessions
  - POST handler
  - _Agent: Coder_
- [ ]* 2.2 Unit tests
"""
GSD = """# Roadmap: Reader v1.1

## Overview

Better reading for everyone.

## Phases

- [x] **Phase 1: Storage** - Keep articles (completed 2026-03-07)
- [ ] **Phase 2: Search** - Find articles

## Phase Details

### Phase 1: Storage

**Goal**: Articles are kept
**Depends on**: Nothing (first phase)
**Success Criteria** (what must be TRUE):

1. An article survives a restart

**Plans:** 1 plan

- [x] 01-01-PLAN.md -- Store them

### Phase 2: Search

**Goal**: Articles are found
**Depends on**: Phase 1 (needs the store)
**Success Criteria** (what must be TRUE):

1. A word finds its article

## Progress

Everything is counted elsewhere.
"""
BACKLOG = {
    "task-1 - Detect.md": example("backlog"),
    "task-2 - Print.md": "---\nid: task-2\ntitle: Print\nstatus: Done\ndependencies:\n  - TASK-310.01\npriority: low\n"
    "---\n\n"
    "## Description\n\nPrinting matters.\n\n## Implementation Notes\n\nWas quick.\n",
}
CCPM = {
    "epic.md": "---\nname: settings\nstatus: open\n---\n\n# Epic: Settings\n\n## Success Criteria\n- deployed\n",
    "2.md": "---\nname: Reader\nstatus: closed\ndepends_on: []\nparallel: true\n---\n\n"
    "# Task: Reader\n\n## Acceptance Criteria\n\n- [x] reads\n",
    "3.md": example("ccpm").replace("conflicts_with: [4]", "conflicts_with: [2]"),
    "updates-notes.md": "progress only\n",
}
KITTY = {
    "tasks/WP01-validation.md": example("speckitty"),
    "tasks/WP02-release.md": "---\nwork_package_id: WP02\ntitle: Release\nlane: done\ndependencies: [WP01]\n---\n"
    "# WP02\n\nShip things.\n",
}
STORIES = {
    "1-1-login.md": "# Story 1.1: Login\n\nStatus: done\n\n## Acceptance Criteria\n1. A session exists\n",
    "1-2-logout.md": example("story"),
}
EVOCLAW = {
    "milestones.csv": "id,title\nmilestone_001,Faster search\nmilestone_002,Better output\n",
    "dependencies.csv": "source_id,target_id,strength\nmilestone_001,milestone_002,strong\n",
    "srs/milestone_001/SRS.md": "# Faster search\n\nIndexes shall be used.\n",
    "srs/milestone_002/SRS.md": "# Better output\n\nColours shall be optional.\n",
}
LINEAR = (
    "ID,Team,Title,Description,Status,Estimate,Priority,Project,Labels,Project Milestone,Blocked By\n"
    'ENG-12,Engineering,Add export,"Write it\n\n- [ ] csv",Todo,3,Urgent,Reports,Feature,M4,ENG-11\n'
    "ENG-11,Engineering,Add model,,Done,5,No priority,Reports,,M4,\n"
)
OPENSPEC = {"proposal.md": "# Change: Check versions\n\n## Why\n\nOld agents break.\n"}

PLANS: dict[str, list[Source]] = {
    "tasks": [
        file("docs/M4_workers.md", TASKS),
        file(
            "docs/M4.md", example("tasks").replace("**Depends on:** Task 4.1", "**Depends on:** Task 4.1\n\nUse them.")
        ),
    ],
    "autopilot": [
        file("docs/m4/IMPLEMENTATION_PLAN.md", example("autopilot"), {"01-settings.md": "# Settings\n\nRead them.\n"})
    ],
    "speckit": [file("specs/001-albums/tasks.md", SPECKIT), file("specs/002-x/tasks.md", example("speckit"))],
    "kiro": [file(".kiro/specs/login/tasks.md", KIRO), file(".kiro/specs/auth/tasks.md", example("kiro"))],
    "openspec": [
        file("openspec/changes/check-versions/tasks.md", example("openspec"), OPENSPEC),
        folder("openspec/changes/check-versions", {**OPENSPEC, "tasks.md": example("openspec")}),
    ],
    "taskmaster": [file(".taskmaster/tasks/tasks.json", example("taskmaster"))],
    "backlog": [folder("backlog/tasks", BACKLOG)],
    "beads": [file(".beads/issues.jsonl", example("beads"))],
    "ccpm": [folder(".claude/epics/settings", CCPM)],
    "speckitty": [folder("kitty-specs/002-release", KITTY)],
    "gsd": [file(".planning/ROADMAP.md", GSD), file(".gsd/milestones/M001/M001-ROADMAP.md", example("gsd"))],
    "bmad": [file("stories/sprint-status.yaml", example("bmad"), {"1-2-logout.md": example("story")})],
    "story": [folder("stories", STORIES), file("stories/1-2-logout.md", example("story"))],
    "ralph": [file("prd.json", example("ralph"))],
    "milestone-yaml": [file(".milestones/active/milestone-001.yaml", example("milestone-yaml"))],
    "github": [file("issues.json", example("github"))],
    "csv": [file("issues.csv", example("csv")), file("linear.csv", LINEAR)],
    "json": [file("m4.json", example("json"))],
    "cursor": [file("login.plan.md", example("cursor"))],
    "evoclaw": [folder("EvoClaw-data/search", EVOCLAW)],
    "checklist": [file("TODO.md", example("checklist"))],
}
