"""The guides of data formats, the other half of `guides`. Pure."""

from __future__ import annotations

from executor.importers.importer import Guide

__all__ = ["DATA"]

_STATUS = "a status that is neither open nor done (reported); a tick (it proves nothing)"

DATA: dict[str, Guide] = {
    "milestone-yaml": Guide(
        "`.milestones/active/NAME.yaml`, with KIRO's phases or without",
        """\
id: milestone-001
title: Worker settings
success_criteria:
  - One place for settings
tasks:
  - id: task-001
    title: Settings class
    estimated_hours: 2
    status: pending
    dependencies: []
    kiro_workflow: {enabled: true}
  - id: task-002
    title: Use it
    dependencies: [task-001]
dependencies:
  requires: [milestone-000]
""",
        {
            "a task": "an issue",
            "dependencies": "`needs`; `dependencies.requires` those of the milestone",
            "estimated_hours": "`size`: up to 2 is S, up to 8 is M, more is L",
            "kiro_workflow enabled": '`workflow = "kiro"`; other weights than the workflow\'s are reported',
            "success_criteria, deliverables": "`accept` of the milestone",
            "assigned_to": "`agent`, if there is such a profile",
            "risks, notes": "`overview.md`",
            "completed": "a claim",
        },
        "timeline, priority and status of the milestone, what it enables (reported); progress and execution, which are computed",
    ),
    "github": Guide(
        "`gh issue list --milestone M --state all --limit 500 --json number,title,body,labels,milestone,state`, the REST list, a Projects export, or the forge itself with --milestone",
        """\
[{"number": 7, "title": "Model", "body": "## Acceptance criteria\\n- [ ] saved", "labels": [{"name": "P0"}],
  "milestone": {"title": "M4 - Store"}, "state": "OPEN"},
 {"number": 8, "title": "API", "body": "Depends on #7", "labels": [{"name": "bug"}],
  "milestone": {"title": "M4 - Store"}, "state": "OPEN"}]
""",
        {
            "an issue": "an issue with that number as its id",
            "labels P0 to P3, `size:S`, `type:x`, bug, documentation": "`priority`, `size`, `type`",
            "`Depends on #7`, `Blocked by #7`, addresses, the forge's dependencies": "`needs`; not from code, quotations, comments, nor where it is denied",
            "a list of boxes under Acceptance criteria": "`accept`",
            "the milestone of most issues": "`forge_milestone`; issues of others are left out (reported)",
            "closed": "left out; nobody waits for it (reported)",
        },
        "other labels, assignees, comments, ticks, dependencies on other repositories, needs outside the list (each reported)",
    ),
    "csv": Guide(
        "a table with columns by name: our own export, Linear, Jira, or any other",
        """\
id,title,description,needs,status,priority
1,Set up,Create the table,,Done,high
2,Serve,Answer requests,1,To do,medium
""",
        {
            "a row": "an issue",
            "id, key, Issue key; title, Summary; description; Blocked By, Inward issue link (Blocks); Acceptance Criteria; Project Milestone ...": "the keys of the issue; several columns of one name are taken together",
            "Done / Canceled": "a claim / left out",
            "our own export": "value for value",
        },
        "columns and cells that no name fits (reported once a column); needs outside the table (reported); " + _STATUS,
    ),
    "json": Guide(
        "a list of objects, `{milestone, issues}` or `{tasks}`, or our own export",
        """\
{"milestone": {"id": "m4", "title": "Worker settings", "needs": ["m3"]},
 "issues": [{"id": "4.1", "title": "Settings class", "description": "...", "accept": ["a", {"run": "pytest -q"}]},
            {"id": "4.2", "title": "Use it", "needs": ["4.1"]}]}
""",
        {
            "an object with id and title": "an issue; the keys are those of the declaration and their usual names",
            "details, design, notes ... beside the description": "further chapters of the spec",
            "our own export": "value for value",
        },
        "keys that no name fits, entries that are no objects (reported); " + _STATUS,
    ),
    "cursor": Guide(
        "a Cursor plan: Markdown whose front matter has to-dos",
        """\
---
name: Add login
overview: Users log in.
todos:
  - id: model
    content: Add the user model
    status: completed
  - id: route
    content: Add the route
    dependencies: [model]
---
# Add login
""",
        {
            "a to-do": "an issue",
            "dependencies": "`needs`",
            "overview, the text": "`goal`, `overview.md`",
            "completed": "a claim",
        },
        _STATUS,
    ),
    "evoclaw": Guide(
        "EvoClaw: the folder of a repository of the benchmark",
        """\
EvoClaw-data/REPOSITORY/
  milestones.csv            id,title
  dependencies.csv          source_id,target_id
  srs/milestone_001/SRS.md
""",
        {
            "a line of milestones.csv": "an issue",
            "dependencies.csv, additional_dependencies.csv": "`needs`; weak ones like strong ones (reported)",
            "SRS.md": "the spec",
            "selected_milestone_ids.txt": "only these are issues",
        },
        "lists of tests (reported: declare the command that runs them)",
    ),
    "checklist": Guide(
        "any Markdown with boxes; TODO lists without boxes, and plans of chapters `Phase 1: ...`",
        """\
# Release

- [ ] Write the changelog
  - [ ] name all who helped
- [x] Set up CI
""",
        {
            "a box of the first level": "an issue, known by its words: other words are another issue",
            "the boxes below": "`accept`",
            "a heading": "`[[phase]]`",
            "an item of a TODO list without boxes": "an issue",
            "a chapter `Phase 1: ...` (Stage, Step, Sprint) of a plan or roadmap without boxes": "an issue, after the one before it",
            "a ticked box": "a claim",
        },
        "the order of boxes says nothing about needs",
    ),
}
