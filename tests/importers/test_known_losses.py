"""Losses, inventions and crashes of earlier importers: each kind as a small plan with its right answer.

The id of a case is its number in the list of findings. `ELSEWHERE` says where the cases are that need a project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from executor.importers.draft import draft_faults, grouped, listed
from executor.importers.importer import chosen
from executor.importers.source import EncodingError, decoded
from tests.importers.plans import file, folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.importers.draft import Draft
    from executor.importers.source import Source

FEATURES = "tests/features/test_import_export.py"
SEEDS = "tests/features/test_import_seeds.py"
FORMATS = "tests/importers/test_formats.py"
ELSEWHERE: dict[str, tuple[str, str]] = {
    "C13": (SEEDS, "test_a_draft_stops_only_itself"),
    "C15": (FEATURES, "test_several_plans_at_once_see_each_other_and_odd_requests_end_with_a_sentence"),
    "C16": (FEATURES, "test_a_milestone_follows_one_plan_and_its_landed_work_stays_where_it_is"),
    "C17": (SEEDS, "test_a_draft_stops_only_itself"),
    "C18": (FEATURES, "test_odd_requests_of_an_import_end_with_a_sentence"),
    "C19": (FEATURES, "test_odd_requests_of_an_import_end_with_a_sentence"),
    "C20": (SEEDS, "test_a_plan_of_an_ancestor_lands"),
    "C55": (FORMATS, "test_dependencies_in_words"),
    "C69": (FORMATS, "test_the_id_that_a_title_or_a_file_name_begins_with"),
    "C22": (SEEDS, "test_a_handoff_says_what_is_done_and_is_no_plan"),
    "C23": (SEEDS, "test_a_plan_with_a_tracking_section_keeps_its_stops_claims_and_notes"),
    "C24": (SEEDS, "test_a_plan_with_a_tracking_section_keeps_its_stops_claims_and_notes"),
    "C25": (FEATURES, "test_the_order_of_the_plan_is_taken_over_and_lost_specs_are_written_again"),
    "C26": (SEEDS, "test_a_plan_of_an_ancestor_lands"),
    "C30": (FEATURES, "test_each_export_comes_back_value_for_value"),
    "C31": (FEATURES, "test_each_export_comes_back_value_for_value"),
    "C32": (FEATURES, "test_each_export_comes_back_value_for_value"),
    "C38": (FEATURES, "test_odd_requests_of_an_import_end_with_a_sentence"),
    "C61": (FEATURES, "test_odd_requests_of_an_import_end_with_a_sentence"),
    "C62": (FEATURES, "test_files_that_git_would_not_commit_never_become_specs"),
    "C63": (FEATURES, "test_a_milestone_follows_one_plan_and_its_landed_work_stays_where_it_is"),
    "C64": (FEATURES, "test_several_plans_at_once_see_each_other_and_odd_requests_end_with_a_sentence"),
    "C65": (FEATURES, "test_the_order_of_the_plan_is_taken_over_and_lost_specs_are_written_again"),
    "C66": (FEATURES, "test_an_export_keeps_mode_link_and_line_ends_and_refuses_odd_places"),
    "C68": (FEATURES, "test_odd_requests_of_an_import_end_with_a_sentence"),
    "C70": (FEATURES, "test_a_milestone_follows_one_plan_and_its_landed_work_stays_where_it_is"),
    "C71": (FEATURES, "test_odd_requests_of_an_import_end_with_a_sentence"),
}
NUMBERS = {f"C{number}" for number in range(1, 75)} - {f"C{number}" for number in (27, 28, 29, 39)}


def task(name: str, *lines: str) -> str:
    return "\n".join([f"## Task {name}", *lines, "", ""])


def read(source: Source, *, faults: tuple[str, ...] = ()) -> Draft:
    draft = chosen(source).read(source)
    found = [str(fault) for fault in draft_faults(draft, source.name, {})]
    assert len(found) == len(faults), found
    assert all(wanted in said for wanted, said in zip(faults, found, strict=True)), found
    return draft


def told(draft: Draft) -> str:
    notes = [*draft.notes, *(note for account in draft.accounts for note in account.notes())]
    return "\n".join(grouped(notes, "plan"))


def seen(draft: Draft, *keys: str) -> list[tuple[Any, ...]]:
    """The issues by id and title, and by some of their keys."""
    return [(issue.id, issue.title, *(issue.fields.get(key) for key in keys)) for issue in draft.issues]


AB = [("4.1", "A"), ("4.2", "B")]
FENCES = task("4.1: A", "````text", "```", "x", "```", "````") + task("4.2: B")
NESTED = task("4.1: A", "```markdown", "## Setup", "", "```bash", "run", "```", "text", "```") + task("4.2: B")
UNCLOSED = task("4.1: A", "```sh", "run") + task("4.2: B")
PREAMBLE = "# M4: W\n\n**Builds on:** M3\n\n## Scenario\nSomebody logs in.\n\n"
LOWER = "### Task 6.2: B\n\nText.\n\n## CRITICAL: reuse\n\n**Acceptance Criteria:**\n- [ ] reused\n\n### Task 6.3: C\n"

# number of the finding -> a plan; its issues by id and title; words of its notes; words of a spec or the overview
MARKDOWN: dict[str, tuple[str, list[tuple[str, str]], str, str]] = {
    "C1": (NESTED, AB, "", "```bash"),
    "C1b": (FENCES, AB, "", "````text"),
    "C2": (task("4.1 A") + task("5b.1: B") + task("TASK-2.0: C"), [("4.1", "A"), ("5b.1", "B")], "", ""),
    "C6": (
        "".join(map(task, ("3a.1: A", "5b.1: B", "5b.2: C"))) + "## ~~TASK 1.6~~ D\n",
        [("3a.1", "A"), ("5b.1", "B"), ("5b.2", "C")],
        "is struck out in the plan and was left out",
        "",
    ),
    "C5": (PREAMBLE + task("4.1: A"), AB[:1], "", "Somebody logs in."),
    "C7": (
        task("4.1: Set `APP_ENV`") + task("4.2: Test __init__"),
        [("4.1", "Set `APP_ENV`"), ("4.2", "Test __init__")],
        "",
        "",
    ),
    "C8": ("# Task 47: Parts Epic\n\n### 001: A\nx\n\n### 002: B\ny\n", [("001", "A"), ("002", "B")], "", ""),
    "C11": (decoded(b"\xef\xbb\xbf" + (task("4.1: A") + task("4.2: B")).encode()), AB, "", ""),
    "C41": (f" {task('4.1: A')}##Task 4.2: B\n", AB, "a space is missing after #", ""),
    "C45": (f"{task('4.1: A')}<!--\n{task('4.2: B')}-->\n", AB[:1], "is in a comment", ""),
    "C46": (task("4.1: `code` and [link](http://x.y)"), [("4.1", "`code` and link")], "", ""),
    "C50": (UNCLOSED, AB, "the code fence is never closed", "run"),
    "C54": (
        "# P\n\n### Phase 1: {Name}\n\n| Issue # | Title | Needs |\n|---|---|---|\n| #01 | {Issue Title} | None |\n",
        [],
        "",
        "",
    ),
    "C72": (task("4.1: A", "```diff", "-a", " ", "+b  ", "```", "hard  ", "break"), AB[:1], "", "-a\n \n+b  "),
    "C73": (
        "# M6: W\n\n### Task 6.1: A\n\n" + LOWER,
        [("6.1", "A"), ("6.2", "B"), ("6.3", "C")],
        "",
        "CRITICAL: reuse",
    ),
}
MARKDOWN["C2"] = (
    MARKDOWN["C2"][0].replace("Task TASK-2.0", "TASK-2.0"),
    [("4.1", "A"), ("5b.1", "B"), ("2.0", "C")],
    "",
    "",
)


@pytest.mark.parametrize("number", MARKDOWN)
def test_markdown_with_its_issues_its_notes_and_its_text(number: str) -> None:
    text, issues, note, kept = MARKDOWN[number]
    faults = ("is a template",) if number == "C54" else ()
    draft = read(file("docs/plan.md", text), faults=faults)
    assert seen(draft) == issues
    assert note in told(draft)
    assert kept in "\n".join([draft.overview, *(issue.text for issue in draft.issues)])


def test_c5_a_milestone_that_the_plan_builds_on() -> None:
    assert read(file("docs/plan.md", PREAMBLE + task("4.1: A"))).after == ("m3",)


def test_c73_c1_criteria_stay_with_their_task() -> None:
    draft = read(file("docs/M6.md", "### Task 6.1: A\nx\n\n" + LOWER))
    assert [listed(issue.fields, "accept") for issue in draft.issues] == [[], ["reused"], []]


def test_c21_c38_the_agent_of_a_task() -> None:
    for label in ("Agent", "Assigned agent"):
        draft = read(file("docs/plan.md", task("1: A", f"- **{label}:** endpoint-builder")))
        assert draft.issues[0].fields["agent"] == "endpoint-builder"


NEEDS = {
    "C40": ("**Dependencies:** Tasks 1-3", ["1", "2", "3"]),
    "C42": ("Depends on: Task 2", ["2"]),
    "C42b": ("- Dependencies: Task 2", ["2"]),
    "C42c": ("**Prerequisites:** Task 2", ["2"]),
    "C42d": ("**Requires:** Task 2", ["2"]),
    "C42e": ("**Dependencies:** not on Task 2", []),
    "C43": ("**Dependencies:** httpx 0.27 and Python 3.11", []),
    "C43b": ("**Dependencies:** Task 2, due 2026-01-15", ["2"]),
    "C13b": ("**Dependencies:** Task 4, Task 2", ["4", "2"]),
}


@pytest.mark.parametrize("number", NEEDS)
def test_needs_in_words(number: str) -> None:
    line, expected = NEEDS[number]
    draft = read(file("docs/plan.md", "".join(task(f"{n}: T{n}", "text") for n in (1, 2, 3)) + task("4: T4", line)))
    assert listed(draft.issues[-1].fields, "needs") == expected


def test_c43_a_milestone_among_the_needs_is_one() -> None:
    assert read(file("docs/plan.md", task("4.1: A", "**Dependencies:** M3 complete"))).after == ("m3",)


DONE = ("**Status:** Done", "**Status:** ✅ Complete", "**Status:** completed")


@pytest.mark.parametrize("line", DONE)
def test_c44_done_in_a_field(line: str) -> None:
    assert read(file("docs/plan.md", task("4.1: A", line))).issues[0].done


@pytest.mark.parametrize("mark", ["[DONE]", "✅ COMPLETE", "✅", "(done)"])
def test_c44_done_in_a_title(mark: str) -> None:
    issue = read(file("docs/plan.md", task(f"4.1: A {mark}"))).issues[0]
    assert (issue.title, issue.done) == ("A", True)


FILES = {
    "`a.py` (create), b.py": ["a.py", "b.py"],
    "Modify: `src/y.py` and z.py": ["src/y.py", "z.py"],
    "Dockerfile": ["Dockerfile"],
}


@pytest.mark.parametrize("label", ["Files", "Files Created", "Files Modified", "New files", "File(s)"])
def test_c47_files(label: str) -> None:
    for said, paths in FILES.items():
        assert (
            read(file("docs/plan.md", task("4.1: A", f"**{label}:**", f"- {said}"))).issues[0].fields["files"] == paths
        )


def test_c47_each_of_many_words_that_are_no_paths_is_reported() -> None:
    odd = [f"`/abs{number}`" for number in range(8)]
    assert "/abs7" in told(read(file("docs/plan.md", task("4.1: A", f"**Files:** {', '.join(odd)}"))))


ACCEPT = {
    "C48": ("### Acceptance Criteria", "Given a worker", "When it starts", "Then it reads"),
    "C48b": ("Acceptance criteria:", "- it reads"),
    "C48c": ("**Definition of Done:**", "- it reads"),
    "C48d": ("**AC:**", "- it reads"),
    "C48e": ("**Done when:** it reads",),
    "C48f": ("### Acceptance Criteria", "", "| # | Criterion |", "|---|---|", "| 1 | it reads |"),
    "C74": ("**Success Criteria (from Design Section 11 - Phase 3):**", "- it reads"),
    "C74b": ("**Acceptance Criteria** (must):", "- it reads"),
}


@pytest.mark.parametrize("number", ACCEPT)
def test_criteria_in_all_their_forms(number: str) -> None:
    claims = read(file("docs/plan.md", task("4.1: A", *ACCEPT[number]))).issues[0].fields["accept"]
    assert len(claims) == 1
    assert "it reads" in claims[0]


def test_c49_phases_around_tasks_and_several_milestones_in_a_file() -> None:
    draft = read(file("docs/plan.md", f"## Phase 1: Base\n\n#{task('4.1: A')}## Phase 2: Rest\n\n#{task('4.2: B')}"))
    assert seen(draft, "phase") == [("4.1", "A", "Phase 1: Base"), ("4.2", "B", "Phase 2: Rest")]
    assert "the file has several milestones" in told(
        read(file("docs/p.md", f"# M1\n\n{task('1: A')}# M2\n\n{task('2: B')}"))
    )


def test_c51_a_type_of_several_words_is_reported() -> None:
    draft = read(file("docs/plan.md", task("4.1: A", "**Type:** Back end / API")))
    assert draft.issues[0].fields["type"] == "back-end"
    assert 'the type "Back end / API" became "back-end"' in told(draft)


def records(rows: object, name: str = "plan.json") -> Draft:
    return read(file(name, json.dumps(rows)))


def test_c3_c56_all_texts_of_a_record_are_kept() -> None:
    draft = records([{"id": 1, "title": "A", "description": "Short.", "details": "Port 8443.", "body": "More."}])
    assert all(word in draft.issues[0].text for word in ("Short.", "Port 8443.", "More."))
    csv = read(file("plan.csv", "id,key,title,summary,description,body\n1,APP-1,T,S,D,B\n"))
    assert "D" in csv.issues[0].text
    assert "B" in csv.issues[0].text
    assert "key: APP-1" in told(csv)
    assert "summary: S" in told(csv)


def test_c4_c36_done_and_cancelled_are_claims() -> None:
    text = "id,title,status,priority,blocked by\n1,A,Done,High,\n2,B,Canceled,Urgent,\n3,C,In Progress,High,1 2\n"
    draft = read(file("plan.csv", text))
    assert [(issue.id, issue.done, issue.fields.get("priority")) for issue in draft.issues] == [
        ("1", True, "P1"),
        ("3", False, "P1"),
    ]
    assert listed(draft.issues[1].fields, "needs") == ["1"]
    said = told(draft)
    assert '2: is "Canceled" in the source and was left out' in said
    assert 'the status "In Progress" was not imported' in said


def test_c9_words_of_one_kind_are_one_note_and_known_ones_none() -> None:
    rows = [{"id": n, "title": "T", "priority": "HIGH" if n < 4 else "soon"} for n in range(1, 8)]
    lines = told(records(rows)).split("\n")
    assert len(lines) == 1
    assert "4 times" in lines[0]


def test_c10_c12_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    with pytest.raises(EncodingError, match="line 2 is not utf-8: byte 0xf6"):
        decoded(b"# T\nGr\xf6sse\n")
    with pytest.raises(EncodingError, match="UTF-16"):
        decoded("id,title\n1,A\n".encode("utf-16-le"))


def test_c14_nothing_of_a_broken_table_or_list_is_dropped() -> None:
    read(file("plan.csv", 'id,title\n1,"A\n2,B\n'), faults=("a quotation mark is never closed",))
    assert "cells after the last column" in told(read(file("plan.csv", "id,title\n1,A,more\n")))
    draft = records(["a", {"id": 1, "title": "A"}, 7])
    assert seen(draft) == [("1", "A")]
    assert "entries that are not issues: 2 times" in told(draft)


def test_c52_c53_rows_that_are_no_issues_are_reported_and_risks_are_none() -> None:
    head = "| # | Title | Priority | Status | Dependencies |\n|---|---|---|---|---|\n"
    rows = "| 01 | A | High | ✅ Done | |\n| 02 | B | P1 | ⛔ Needs Review (STOP) | |\n| 03 | C | P1 | | #01-#02 |\n"
    odd = "|  | No number | P1 | | |\n| 05 |  | P1 | | |\n"
    risks = "\nDo not start before Monday.\n\n| # | Risk | Issue |\n|---|---|---|\n| 1 | delay | none |\n"
    backlog = f"\n### Backlog\n\n{head}| 09 | Later | P3 | | |\n"
    draft = read(file("IMPLEMENTATION_PLAN.md", f"# M5: X\n\n### Phase 1: Base\n\n{head}{rows}{odd}{risks}{backlog}"))
    assert [(issue.id, issue.done, bool(issue.hold)) for issue in draft.issues][:3] == [
        ("01", True, False),
        ("02", False, True),
        ("03", False, False),
    ]
    assert listed(draft.issues[2].fields, "needs") == ["01", "02"]
    assert draft.issues[0].fields["priority"] == "P1"
    assert "delay" not in {issue.title for issue in draft.issues}
    assert draft.issues[-1].fields.get("phase") != "Phase 1: Base" or draft.issues[-1].id == "03"
    assert "lacks a number" in told(draft)
    assert "lacks a title" in told(draft)
    assert "before Monday" in draft.overview
    notes = file("notes.md", "# Notes\n\n| Room | Floor |\n|---|---|\n| Meeting room | 2 |\n")
    with pytest.raises(Exception, match="not a plan"):
        read(notes)


def test_c57_a_command_of_a_record_stays_a_command_and_the_milestone_keeps_its_keys() -> None:
    head = {
        "id": "m5",
        "title": "T",
        "needs": ["m4"],
        "tag": "v1",
        "base": "main",
        "accept": ["done"],
        "context": ["R.md"],
    }
    draft = records({"milestone": head, "issues": [{"id": "1", "title": "A", "accept": [{"run": "true"}]}]})
    assert draft.issues[0].fields["accept"] == [{"run": "true"}]
    assert {key: draft.fields[key] for key in ("needs", "tag", "base", "accept", "context")} == {
        key: head[key] for key in ("needs", "tag", "base", "accept", "context")
    }


def test_c58_criteria_in_a_cell() -> None:
    text = 'id,title,acceptance\n1,A,must accept a; b as input\n2,B,"[ ] first\n[x] second"\n'
    draft = read(file("plan.csv", text))
    assert [listed(issue.fields, "accept") for issue in draft.issues] == [
        ["must accept a; b as input"],
        ["first", "second"],
    ]


def test_c59_an_export_that_was_edited_by_hand_is_refused_with_its_place() -> None:
    for value, said in (
        ({"milestone": "x"}, "milestone: expected a table"),
        ({"milestone": {"id": "m"}, "issues": [5]}, "issues[0]: expected a table"),
    ):
        read(file("m5.json", json.dumps({"format": "make-for-milestones/1", **value})), faults=(said,))
    read(file("m5.json", '{"format": "make-for-milestones/2"}'), faults=("expected the format make-for-milestones/1",))


def github(*items: Mapping[str, Any]) -> Draft:
    group = {"title": "M4 - Store"}
    rows = [{"title": f"T{item['number']}", "state": "OPEN", "body": "", "milestone": group, **item} for item in items]
    return read(file("issues.json", json.dumps(rows)))


DENIED = [
    "```\nDepends on #7\n```",
    "> Depends on #7",
    "This no longer depends on #7",
    "Not blocked by #7",
    "<!-- depends on #7 -->",
    "    Depends on #7",
    "`depends on #7`",
]


@pytest.mark.parametrize("body", DENIED)
def test_c34_what_is_quoted_or_denied_is_no_need(body: str) -> None:
    draft = github({"number": 7}, {"number": 8, "body": f"Text.\n\n{body}"})
    assert listed(draft.issues[1].fields, "needs") == []


@pytest.mark.parametrize("body", ["Depends on #7", "**Blocked by:** #7", "Blocked by: https://github.com/o/r/issues/7"])
def test_c34_what_is_said_is_a_need(body: str) -> None:
    assert listed(github({"number": 7}, {"number": 8, "body": body}).issues[1].fields, "needs") == ["7"]


def test_c33_a_need_outside_of_the_list_is_left_out() -> None:
    draft = github({"number": 8, "body": "Depends on #7"})
    assert not draft.whole
    jira = "Issue key,Summary,Inward issue link (Blocks)\nAPP-1,A,APP-9\n"
    assert not read(file("jira.csv", jira)).whole


def test_c35_issues_of_other_milestones_labels_and_ticks_are_reported() -> None:
    draft = github(
        {"number": 7, "labels": [{"name": "wontfix"}, {"name": "priority: high"}], "assignees": [{"login": "a"}]},
        {"number": 8, "body": "## Acceptance criteria\n- [x] loaded\n"},
        {"number": 9, "milestone": {"title": "M5 - Else"}},
    )
    said = told(draft)
    assert [issue.id for issue in draft.issues] == ["7", "8"]
    assert draft.issues[0].fields["priority"] == "P1"
    assert 'is in the milestone "M5 - Else"' in said
    assert all(word in said for word in ("wontfix", "assignees were not imported", "boxes are ticked"))


def test_c37_a_note_names_the_line_where_a_record_begins() -> None:
    draft = read(file("linear.csv", 'ID,Title,Description,Team\n1,A,"one\ntwo\nthree",X\n'))
    assert "plan:2: not imported: team: X" in told(draft)


def test_c60_closed_issues_are_reported_when_nothing_is_left() -> None:
    rows = json.dumps([{"number": 1, "title": "A", "state": "CLOSED", "body": "", "labels": []}])
    draft = read(file("issues.json", rows), faults=("it contains no issue",))
    assert "#1 is closed" in told(draft)


def test_c67_a_handoff_and_the_file_of_an_issue_are_no_plans() -> None:
    read(file("docs/HANDOFF_M4.md", "# Handoff\n\n## Task 4.1 Complete\nx\n"), faults=("is a handoff, not a plan",))
    steps = "# Index\n\n## Acceptance Criteria\n- [ ] works\n\n### Task 1: Read (2 min)\n\n### Task 2: Write (3 min)\n"
    read(file("docs/01-index.md", steps), faults=("is the file of one issue",))


def test_the_one_file_formats_of_the_findings_are_read() -> None:
    """A prd.json, a Cursor plan, a Claude plan, a checklist, a Projects export (as JSON and as a table)."""
    assert seen(records({"userStories": [{"id": "U1", "title": "A", "passes": True}]}, "prd.json")) == [("U1", "A")]
    cursor = "---\nname: Login\ntodos:\n  - id: model\n    content: Model\n    status: pending\n---\n# Login\n"
    draft = read(file("a.plan.md", cursor))
    assert (seen(draft), told(draft)) == ([("model", "Model")], "")
    assert seen(read(file("todo.md", "- [ ] Add login\n"))) == [("add-login", "Add login")]
    claude = "# Plan\n\n## Step 1: Model\ntext\n\n## Step 2: Route\ntext\n"
    assert seen(read(file("plan.md", claude))) == [("step-1", "Model"), ("step-2", "Route")]
    items = {"items": [{"content": {"number": 3, "title": "Do", "type": "Issue", "body": ""}, "status": "Todo"}]}
    assert seen(records(items)) == [("3", "Do")]
    table = "Title\tURL\tStatus\nDo\thttps://github.com/o/r/issues/3\tTodo\n"
    assert seen(read(file("project.tsv", table))) == [("3", "Do")]


def test_every_finding_has_a_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8").casefold()
    missing = [number for number in NUMBERS if f"{number.casefold()}" not in text]
    assert missing == []
    root = Path(__file__).parents[2]
    for number, (path, name) in ELSEWHERE.items():
        assert f"def {name}(" in (root / path).read_text(encoding="utf-8"), number


def test_c53_a_folder_of_files_is_no_plan_without_tasks() -> None:
    with pytest.raises(Exception, match="not a plan"):
        read(folder("docs", {"a.md": "# A\n\nText.\n"}))
