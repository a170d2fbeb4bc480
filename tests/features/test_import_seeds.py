"""The plans that the product descends from: each is imported and runs to a landed milestone with a scripted agent."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import require_sandbox

if TYPE_CHECKING:
    from tests.support import Repo


RULES = {
    "rules/agents.toml": '[agent.writer]\ncommand = ["sh", "-c", "cp $EXECUTOR_BRIEF work-$EXECUTOR_ISSUE"]\n',
}

REQUEST = """# Implementation Plan: Request 42 - Bookmarks

## Summary
Users can keep bookmarks.

## Milestone 1: Bookmark model
Store a bookmark.

- **Type:** database
- **Assigned agent:** endpoint-builder
- **Dependencies:** None
- **Files:** `app/bookmark.py`
- **Acceptance criteria:**
  - [ ] has url and title

## Milestone 2: Tests
- **Type:** test
- **Dependencies:** Milestone 1
- **Acceptance criteria:**
  - [ ] success and failure are covered
"""

AUTOPILOT = """# M7 Implementation Plan

**Milestone:** `m7`
**Milestone Branch:** `milestone/m7-search` (base branch for PRs)
**Epic Issue:** #00 - "Epic: M7 - Search"

### Phase 1: Base - Issues #01, #02
**Goal:** Something to search in

| Issue # | Issue File | Title | Priority | Dependencies | Feature Branch | PR Title Token | Est. Size |
|---|---|---|---|---|---|---|---|
| #01 | 01-index.md | Build the index | P0 | None | `feat/m7-01-index` | `feat(m7)` | S |
| #02 | 02-store.md | Store it | P0 | #01 | `feat/m7-02-store` | `feat(m7)` | M |
| #03 | 03-rank.md | Rank hits | P1 | None | `feat/m7-03-rank` | `feat(m7)` | M |

**Dependencies notes:** Start #03 only after #01

## Milestone Completion Checklist

### 2) Run Full CI

```bash
pytest tests/
```

## Tracking (agent-updated)

### Completed Issues
* [x] #01 - Build the index

### Blocked / Needs Review (STOP)
* #02 - Store it - STOP: a migration - Needs: a review

### Skipped Issues (Soft Stops)
* (none)
"""

TASKS = """# Milestone 4: Worker Settings

**Goal:** One place for settings
**Branch:** `feature/m4-workers`

## Task 4.1: Create the settings class
**File(s):** `app/settings.py`
**Type:** CODING

**Acceptance Criteria:**
- [ ] the class exists

## Task 4.2: Use it
**Dependencies:** Task 4.1

## Task 4.10: Validate
**Type:** VALIDATION
**Dependencies:** 4.1-4.2
"""

YAML = """id: "milestone-001"
title: "Worker settings"
description: One place for settings
status: in_progress
priority: high
success_criteria:
  - "Each value has a default"
tasks:
  - id: "task-001"
    title: "Settings class"
    estimated_hours: 1
    status: completed
    assigned_to: claude-of-somebody
  - id: task-002
    title: Use it
    dependencies: [task-001]
    status: pending
    kiro_workflow: {enabled: false}
dependencies:
  requires: []
  enables: [milestone-002]
kiro_configuration:
  phase_weights: {design: 15, spec: 25, task: 20, execute: 40}
"""

SEEDS = [
    ("docs/request-42-plan.md", REQUEST, "request-42", ["1", "2"], [("2", ["1"])]),
    ("docs/M4_workers.md", TASKS, "m4", ["4.1", "4.2", "4.10"], [("4.10", ["4.1", "4.2"])]),
    (
        ".milestones/active/milestone-001.yaml",
        YAML,
        "milestone-001",
        ["task-001", "task-002"],
        [("task-002", ["task-001"])],
    ),
]


def declared(repo: Repo, name: str) -> dict[str, Any]:
    return tomllib.loads((repo.path / f"milestones/{name}.toml").read_text())


def imported(repo: Repo, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = repo.doit("import", *arguments, "--json").check().json["milestones"][0]
    return found


@pytest.mark.parametrize(("file", "text", "name", "ids", "needs"), SEEDS, ids=["request", "tasks", "yaml"])
def test_a_plan_of_an_ancestor_lands(
    repo: Repo, file: str, text: str, name: str, ids: list[str], needs: list[tuple[str, list[str]]]
) -> None:
    require_sandbox()
    for path, rules in RULES.items():
        repo.write(path, rules)
    repo.write(file, text)
    found = imported(repo, file, "--agent", "writer")
    assert (found["id"], found["issues"], found["draft"]) == (name, ids, [])
    issues = {item["id"]: item.get("needs", []) for item in declared(repo, name)["issue"]}
    assert all(issues[issue] == wanted for issue, wanted in needs)
    assert found["account"].get("not_understood", 0) == 0
    repo.doit(f"milestone:{name}").check()
    assert set(repo.statuses(name).values()) == {"landed"}
    assert imported(repo, file, "--agent", "writer")["wrote"] == []


def test_a_plan_with_a_tracking_section_keeps_its_stops_claims_and_notes(repo: Repo) -> None:
    require_sandbox()
    for path, rules in RULES.items():
        repo.write(path, rules)
    repo.write("docs/m7/IMPLEMENTATION_PLAN.md", AUTOPILOT)
    for name in ("01-index", "02-store", "03-rank"):
        repo.write(f"docs/m7/{name}.md", f"# {name}\n\n## Acceptance Criteria\n- [ ] {name} works\n")
    repo.commit("plan")
    found = imported(repo, "docs/m7/IMPLEMENTATION_PLAN.md", "--agent", "writer", "--done-as-landed", "HEAD")
    assert (found["done"], found["landed"]) == (["01"], ["01"])
    now = {item["id"]: item for item in declared(repo, "m7")["issue"]}
    assert now["02"]["hold"] == "a migration; Needs: a review"
    assert now["03"]["needs"] == ["01"]
    assert now["01"]["accept"] == ["01-index works"]
    kinds = {note["kind"] for note in found["notes"]}
    assert any("`pytest tests/` before a merge" in kind for kind in kinds)
    repo.doit("milestone:m7").check(4)
    assert repo.statuses("m7") == {"m7/01": "landed", "m7/02": "review", "m7/03": "landed"}
    row = next(item for item in repo.doit("list", "--json").check().json if item["ref"] == "m7/02")
    assert row["reason"] == "on hold: a migration; Needs: a review"
    file = repo.path / "milestones/m7.toml"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("hold")))
    repo.doit("milestone:m7").check()
    assert set(repo.statuses("m7").values()) == {"landed"}
    imported(repo, "docs/m7/IMPLEMENTATION_PLAN.md", "--overwrite")
    repo.doit("export", "m7", "--output", "docs/m7/IMPLEMENTATION_PLAN.md").check()
    again = imported(repo, "docs/m7/IMPLEMENTATION_PLAN.md")
    assert (again["done"], again["wrote"]) == (["01", "02", "03"], [])
    repo.doit("import", "docs/m7/IMPLEMENTATION_PLAN.md", "--trust").check()
    assert {"run": "pytest tests/"} in declared(repo, "m7")["milestone"]["accept"]


def test_a_handoff_says_what_is_done_and_is_no_plan(repo: Repo) -> None:
    repo.write("docs/M4_workers.md", TASKS)
    repo.write("docs/HANDOFF_M4.md", "# Handoff M4\n\n## Task 4.1 Complete\n\nsettings class\n")
    repo.commit("plan")
    found = imported(repo, "docs/M4_workers.md", "--agent", "claude", "--done-as-landed", "HEAD")
    assert (found["done"], found["landed"]) == (["4.1"], ["4.1"])
    assert repo.statuses("m4")["m4/4.1"] == "landed"
    assert "(m4): Create the settings class" in repo.git("log", "-1", "--format=%s", "feature/m4-workers")
    assert "is a handoff, not a plan" in repo.doit("import", "docs/HANDOFF_M4.md").check(3).err
    assert imported(repo, "docs/M4_workers.md", "--done-as-landed", "HEAD")["landed"] == []


def test_a_draft_stops_only_itself(repo: Repo) -> None:
    require_sandbox()
    for path, rules in RULES.items():
        repo.write(path, rules)
    repo.write(
        "ok.json", json.dumps({"milestone": {"id": "ok", "title": "Sound"}, "issues": [{"id": "1", "title": "A"}]})
    )
    repo.doit("import", "ok.json", "--agent", "writer").check()
    repo.write(
        "docs/M4.md", "# M4 - W\n\n## Task 4.1: A\n**Dependencies:** 4.2\n\n## Task 4.2: B\n**Dependencies:** 4.1\n"
    )
    found = imported(repo, "docs/M4.md", "--agent", "writer")
    assert any("cycle" in line for line in found["draft"])
    out = repo.doit("list").check().out
    assert "m4: draft: milestones/m4.toml: issue[0].needs: cycle" in out
    assert [item["id"] for item in repo.doit("status", "--json").check().json["drafts"]] == ["m4"]
    repo.doit("milestone:ok").check()
    assert "m4 is a draft" in repo.doit("plan", "m4").check(3).err
    repo.write("docs/M4.md", "# M4 - W\n\n## Task 4.1: A\nWrite a.\n\n## Task 4.2: B\n**Dependencies:** 4.1\n")
    assert imported(repo, "docs/M4.md", "--agent", "writer")["draft"] == []
    repo.doit("milestone:m4").check()
    repo.write(
        "docs/M4.md", "# M4 - W\n\n## Task 4.1: A\n**Dependencies:** 4.2\n\n## Task 4.2: B\n**Dependencies:** 4.1\n"
    )
    before = (repo.path / "milestones/m4.toml").read_text()
    assert "cycle" in repo.doit("import", "docs/M4.md").check(3).err
    assert (repo.path / "milestones/m4.toml").read_text() == before
    assert (
        'unknown agent "wrter"; did you mean "writer"?'
        in repo.doit("import", "ok.json", "--agent", "wrter").check(3).err
    )


@pytest.mark.long
def test_a_task_with_kiros_phases_is_imported_and_lands_step_by_step(repo: Repo) -> None:
    agent = Path(__file__).with_name("step_agent.sh").read_text(encoding="utf-8")
    script = repo.path.parent / "agent.sh"
    script.write_text(agent.replace("@beside@", str(repo.path.parent)))
    repo.write("rules/agents.toml", f'[agent.writer]\ncommand = ["sh", "{script}"]\nisolation = "none"\n')
    plan = YAML.replace("kiro_workflow: {enabled: false}", "kiro_workflow: {enabled: true}")
    repo.write(".milestones/active/milestone-001.yaml", plan)
    repo.commit("plan")
    words = (".milestones/active/milestone-001.yaml", "--agent", "writer", "--done-as-landed", "HEAD")
    assert imported(repo, *words)["landed"] == ["task-001"]
    assert [item.get("workflow") for item in declared(repo, "milestone-001")["issue"]] == [None, "kiro"]
    repo.doit("milestone:milestone-001").check()
    assert set(repo.statuses("milestone-001").values()) == {"landed"}
    done = {line.split()[1].partition(".")[0] for line in (repo.path.parent / "steps.log").read_text().splitlines()}
    assert done == {"design", "spec", "task", "execute"}
