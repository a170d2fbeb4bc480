"""Forms that plans of public repositories have, restated: what each format must read besides its usual form."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from executor.importers.draft import draft_faults, listed
from executor.importers.importer import chosen
from tests.importers.plans import file, folder

if TYPE_CHECKING:
    from executor.importers.draft import Draft
    from executor.importers.source import Source

EPIC = "---\nname: settings\nstatus: open\n---\n\n# Epic: Settings\n"


def read(source: Source, form: str) -> Draft:
    importer = chosen(source)
    assert importer.name == form
    draft = importer.read(source)
    assert list(draft_faults(draft, source.name, {})) == []
    return draft


def needs(draft: Draft) -> dict[str, list[str]]:
    return {issue.id: listed(issue.fields, "needs") for issue in draft.issues}


def accepts(draft: Draft) -> dict[str, list[Any]]:
    return {issue.id: listed(issue.fields, "accept") for issue in draft.issues}


def told(draft: Draft) -> str:
    return "\n".join(note.text for note in draft.notes)


def task(name: str, **fields: str) -> str:
    lines = {"name": name, "status": "open", **fields}
    return "---\n" + "".join(f"{key}: {value}\n" for key, value in lines.items()) + "---\n\n# Task\n\nDo it.\n"


def test_tasks_of_an_epic_have_names_behind_their_numbers() -> None:
    source = folder(
        ".claude/epics/settings",
        {
            "epic.md": EPIC,
            "001-reader.md": task("Reader", depends_on="[]", phase="1", files="\n  - src/reader.py"),
            "002-writer.md": task("Writer", depends_on="[001]"),
            "002-analysis.md": "---\nissue: 2\ntitle: Analysis\n---\nNotes.\n",
        },
    )
    draft = read(source, "ccpm")
    assert needs(draft) == {"001": [], "002": ["001"]}
    assert draft.issues[0].fields["files"] == ["src/reader.py"]
    assert draft.issues[0].fields["phase"] == "Phase 1"
    assert "002-analysis.md" in told(draft)


def test_tasks_of_an_epic_in_a_folder_below_and_two_of_one_number() -> None:
    source = folder(
        ".claude/epics/settings",
        {
            "epic.md": EPIC,
            "tasks/001-reader.md": task("Reader"),
            "tasks/002-writer.md": task("Writer"),
            "tasks/002-writer-two.md": task("Second writer"),
        },
    )
    draft = read(source, "ccpm")
    assert [issue.id for issue in draft.issues] == ["001", "002", "002-writer-two"]
    assert "002 is already the id of tasks/002-writer.md" in told(draft)


def test_tasks_of_an_epic_without_front_matter() -> None:
    body = (
        "# 00{0}: Part {0}\n\n**Agent**: reader\n**Depends on**: {1}\n\n## Acceptance Criteria\n- [ ] part {0} works\n"
    )
    source = folder(
        ".claude/epics/settings",
        {"epic.md": EPIC, "001.md": body.format(1, "None"), "002.md": body.format(2, "Task 001")},
    )
    draft = read(source, "ccpm")
    assert [(issue.id, issue.title) for issue in draft.issues] == [("001", "Part 1"), ("002", "Part 2")]
    assert needs(draft) == {"001": [], "002": ["001"]}
    assert accepts(draft)["002"] == ["part 2 works"]


def test_needs_by_the_names_that_files_had_before_they_were_renumbered() -> None:
    table = "\n## Tasks Created\n\n| ID | Title |\n|---|---|\n| 001 | First |\n| 010 | Second |\n"
    files = {"179.md": task("First", depends_on="[]"), "180.md": task("Second", depends_on="[001]")}
    draft = read(folder(".claude/epics/voice", {"epic.md": EPIC + table, **files}), "ccpm")
    assert needs(draft) == {"179": [], "180": ["179"]}
    assert "001 is 179, 010 is 180" in told(draft)
    names = {"3.md": task('"T1: First"'), "4.md": task('"T2: Second"', depends_on="[T1]")}
    assert needs(read(folder(".claude/epics/look", {"epic.md": EPIC, **names}), "ccpm"))["4"] == ["3"]


def test_two_files_of_a_backlog_with_one_id_are_two_tasks() -> None:
    head = "---\nid: task-5\ntitle: {}\nstatus: To Do\ndependencies: []\n---\nText.\n"
    source = folder("backlog/tasks", {"task-5 - a.md": head.format("Clean"), "task-5 - b.md": head.format("Paint it")})
    draft = read(source, "backlog")
    assert [issue.id for issue in draft.issues] == ["task-5", "task-5-paint-it"]
    assert "task-5 is already the id of task-5 - a.md" in told(draft)


def test_memories_in_an_export_of_beads_are_no_issues_and_epics_keep_their_text() -> None:
    rows = [
        {"id": "x-1", "title": "Parts", "description": "Why parts.", "status": "open", "issue_type": "epic"},
        {
            "id": "x-2",
            "title": "A part",
            "status": "open",
            "issue_type": "task",
            "dependencies": [{"issue_id": "x-2", "depends_on_id": "x-1", "type": "parent-child"}],
        },
        {"_type": "memory", "key": "k", "value": "v"},
    ]
    draft = read(file(".beads/issues.jsonl", "\n".join(map(json.dumps, rows))), "beads")
    assert [issue.id for issue in draft.issues] == ["x-2"]
    assert draft.overview == "## Parts\n\nWhy parts."
    assert "a record of type memory is not an issue" in told(draft)


def test_task_master_with_tags_below_a_key_and_criteria_and_files() -> None:
    one = {
        "id": 1,
        "title": "Set up",
        "details": "d",
        "dependencies": [],
        "phase": "Base",
        "acceptanceCriteria": ["runs"],
    }
    one["subtasks"] = [{"id": 1, "title": "Create", "files": ["src/a.py"]}]
    text = json.dumps({"version": "1", "tags": {"master": {"tasks": [one]}, "later": {"tasks": [one]}}})
    draft = read(file(".taskmaster/tasks/tasks.json", text), "taskmaster")
    assert accepts(draft) == {"1": ["runs", "1.1 Create"]}
    assert (draft.issues[0].fields["files"], draft.issues[0].fields["phase"]) == (["src/a.py"], "Base")
    assert "other tags of the file were not imported: later (1 tasks)" in told(draft)


def test_phases_of_a_roadmap_in_another_language_with_criteria_behind_a_remark() -> None:
    text = (
        "# Roadmap: Site\n\n## Phases\n\n- [x] Phase 1\uff1aBase (2/2 plans) - completed\n"
        "- [ ] **Phase 2\uff1aPages** - all\n"
        "- [ ] **Phase 3: Later** - not planned yet\n\n"
        "### Phase 2\uff1aPages\n\n**Goal**: Pages\n**Depends on**: Phase 1, Phase 0 (archived)\n"
        "**Success Criteria** (what must be TRUE):\n\n1. A page opens\n"
    )
    draft = read(file(".planning/ROADMAP.md", text), "gsd")
    assert [(issue.id, issue.title, issue.done) for issue in draft.issues] == [
        ("1", "Base", True),
        ("2", "Pages", False),
        ("3", "Later", False),
    ]
    assert accepts(draft)["2"] == ["A page opens"]
    assert not draft.whole


def test_stories_of_other_names_and_spikes_are_stories() -> None:
    text = (
        "project: shop\nstory_location: '{project-root}/stories'\ndevelopment_status:\n  supp-epic-1: in-progress\n"
        "  se1-1-parser: done\n  spike-windows: ready-for-dev\n  supp-epic-1-retrospective: optional\n"
    )
    source = file("stories/sprint-status.yaml", text, {"se1-1-parser.md": "# Story SE1.1: Parser\n\nText.\n"})
    draft = read(source, "bmad")
    assert [(issue.id, issue.done) for issue in draft.issues] == [("se1-1", True), ("spike-windows", False)]
    assert "Text." in draft.issues[0].text


def test_the_star_of_an_optional_task_behind_its_number() -> None:
    draft = read(file(".kiro/specs/a/tasks.md", "# Plan\n\n- [ ] 1. Build\n- [ ] 1.1* Tests\n- [ ] 2* More\n"), "kiro")
    assert [issue.id for issue in draft.issues] == ["1", "2"]
    assert accepts(draft)["1"] == ["1.1* Tests (optional)"]


def test_a_work_package_with_a_unique_id_keeps_its_number() -> None:
    head = "---\nwork_package_id: 01KN5R6XJV7W3S4G1GBDJAN{0}\ntitle: Part {0}\ndependencies: [{1}]\n---\nText.\n"
    files = {"tasks/WP01-a.md": head.format(1, ""), "tasks/WP02-b.md": head.format(2, "WP01")}
    assert needs(read(folder("kitty-specs/003-x", files), "speckitty")) == {"WP01": [], "WP02": ["WP01"]}


def test_a_change_of_openspec_without_boxes() -> None:
    name = "openspec/changes/add-check/tasks.md"
    for text, expected in (
        ("# Tasks\n\n1. **Write it**: now\n2. Test it\n", ["**Write it**: now", "Test it"]),
        ("# Tasks\n\n1. **[ ] Write it**\n   - fast\n2. **[x] Test it**\n", ["Write it", "Test it"]),
        ("# Tasks\n\n## ✅ 1. Write it\n\nText.\n\n## 2. Test it\n", ["1. Write it", "2. Test it"]),
    ):
        assert accepts(read(file(name, text), "openspec")) == {"add-check": expected}


def test_lists_and_chapters_without_boxes() -> None:
    draft = read(file("TODO.md", "# TODO\n\n## Library\n\n- add a parameter\n- ~~old~~\n* faster\n"), "checklist")
    assert [issue.id for issue in draft.issues] == ["add-a-parameter", "faster"]
    text = (
        "# Plan\n\n## Stage 1 - Base\n- write\n\n"
        "## Stage 2 - Rest ✅\n\n**Acceptance Criteria:**\n- it runs\n\n## Notes\nx\n"
    )
    draft = read(file("IMPLEMENTATION_PLAN.md", text), "checklist")
    assert [(issue.id, issue.title, issue.done) for issue in draft.issues] == [
        ("stage-1", "Base", False),
        ("stage-2", "Rest", True),
    ]
    assert needs(draft)["stage-2"] == ["stage-1"]
    assert accepts(draft)["stage-2"] == ["it runs"]
    assert "Notes" in draft.overview


def test_numbers_of_tasks_that_restart_in_each_phase() -> None:
    text = (
        "# Import\n\n## Wave 1: Base\n\n### Task 1: Client\nText.\n\n### Task 2: Transport\n**Depends on:** Task 1\n\n"
        "## Wave 2: Rest\n\n### Task 1: Row\n**Depends on:** Task 2\n\n### Task 2: Overlay\n**Depends on:** Task 1\n"
    )
    draft = read(file("docs/plan.md", text), "tasks")
    assert needs(draft) == {"1.1": [], "1.2": ["1.1"], "2.1": ["2.2"], "2.2": ["2.1"]}
    named = "# P\n\n## Task 1: Base (WP01)\nText.\n\n## Task 2: Rest (WP02)\n**Depends on:** WP01\n"
    assert needs(read(file("docs/plan.md", named), "tasks")) == {"1": [], "2": ["1"]}


# Public reports about importers and trackers of plans, tried here.


def test_boxes_of_every_list_marker_and_with_marks_that_others_do_not_know() -> None:
    """OpenSpec 1861, 1761 and 1485: numbered and + boxes, [~], tasks below a ticked one."""
    text = (
        "## 1. Work\n- [x] 1.1 Done\n  - [ ] 1.1.1 Below\n1. [ ] 1.2 Numbered\n2) [ ] 1.3 Other\n\n+ [ ] 1.4 Plus\n\n"
        "- [~] 1.5 Later\n\n```\n- [ ] 9.9 quoted\n```\n"
    )
    draft = read(file("openspec/changes/work/tasks.md", text), "openspec")
    assert [claim.split()[0] for claim in accepts(draft)["work"]] == ["1.1", "1.1.1", "1.2", "1.3", "1.4", "1.5"]
    assert not draft.issues[0].done


def test_needs_of_subtasks_on_other_tasks() -> None:
    """claude-task-master 975 and 542: a subtask needs one beside it, another task, a subtask of another task."""
    sub = [
        {"id": 1, "title": "A"},
        {"id": 2, "title": "B", "dependencies": [1, 11]},
        {"id": 3, "title": "C", "dependencies": ["9.1"]},
    ]
    rows: list[dict[str, Any]] = [
        {"id": n, "title": f"T{n}", "details": "d", "dependencies": [], "subtasks": []} for n in (9, 11)
    ]
    rows.append({"id": 16, "title": "T16", "details": "d", "dependencies": ["9"], "subtasks": sub})
    draft = read(file(".taskmaster/tasks/tasks.json", json.dumps({"master": {"tasks": rows}})), "taskmaster")
    assert needs(draft)["16"] == ["9", "11"]


SPECKIT = (
    "# Tasks: Login\n\n## Phase 1: Setup\n- [ ] **T001** Base\n- [ ] T002 [P] Rest\n\n"
    "## Phase 2: User Story 1\n- [ ] T003 [US1] Model\n\n## Phase 3: User Story 2\n"
    "- [ ] T004 [US1,US2] View (depends on T002, T003)\n- [ ] T005 [US2] Test (depends on T009)\n\n"
    "```\n- [ ] T099 quoted\n```\n"
)


def test_dependencies_behind_tasks_and_ids_in_bold() -> None:
    """spec-kit 1934 and 4272, claude-power-pack 863 and 607: (depends on T002), **T001**, quoted boxes."""
    draft = read(file("specs/001-login/tasks.md", SPECKIT), "speckit")
    assert needs(draft) == {"phase-1": [], "US1": ["phase-1"], "US2": ["phase-1", "US1"]}
    assert accepts(draft)["phase-1"] == ["T001 Base", "T002 Rest"]
    assert "T005 depends on T009" in told(draft)
    split = read(replace(file("specs/001-login/tasks.md", SPECKIT), split=True), "speckit")
    assert needs(split) == {
        "T001": [],
        "T002": [],
        "T003": ["T001", "T002"],
        "T004": ["T003", "T002"],
        "T005": ["T004"],
    }


def test_the_smallest_tasks_become_issues_on_request() -> None:
    kiro = file(
        ".kiro/specs/a/tasks.md", "# Plan\n\n- [ ] 1. Build\n  - [ ] 1.1 Model\n  - [ ] 1.2 View\n- [ ] 2. Ship\n"
    )
    assert needs(read(replace(kiro, split=True), "kiro")) == {"1.1": [], "1.2": ["1.1"], "2": ["1.2"]}
    change = file("openspec/changes/a/tasks.md", "## 1. Build\n- [ ] 1.1 Model\n\n## 2. Ship\n- [ ] 2.1 Pack\n")
    assert needs(read(replace(change, split=True), "openspec")) == {"1": [], "2": ["1"]}


def test_front_matter_that_is_no_yaml() -> None:
    """tldw_chatbook 1954: titles with a colon or an apostrophe, a section without its end mark."""
    head = "---\nid: task-{}\ntitle: {}\nstatus: To Do\ndependencies: []\n---\n<!-- SECTION:NOTES:BEGIN -->\nText.\n"
    files = {
        "task-1 - a.md": head.format(1, "Console: skip rows"),
        "task-2 - b.md": head.format(2, "'Write the user's reply'"),
    }
    draft = read(folder("backlog/tasks", files), "backlog")
    assert [issue.title for issue in draft.issues] == ["Console: skip rows", "Write the user's reply"]
    assert all("Text." in issue.text for issue in draft.issues)
    assert "is not YAML" in told(draft)


def test_criteria_that_are_tables_become_sentences() -> None:
    rows = [{"id": "AC1", "text": "It opens", "passes": None, "testCommand": "make ok", "last": None}, {"run": "true"}]
    text = json.dumps({"userStories": [{"id": "U1", "title": "A", "acceptanceCriteria": rows}]})
    assert accepts(read(file("prd.json", text), "ralph"))["U1"] == ["It opens; testCommand: make ok", {"run": "true"}]
