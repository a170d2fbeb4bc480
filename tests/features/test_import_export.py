"""`doit import` and `doit export`: plans of other formats in and out, edits of a person's kept."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from tests.support import Repo, issue, require_sandbox

PLAN = """# M4 - Worker settings

## Task 4.1: Create the class
**Files:** `a.txt`

Write a.

**Acceptance Criteria:**
- [ ] It is there

## Task 4.10: Use it
**Dependencies:** 4.1

Write b.
"""


def declared(repo: Repo, name: str = "m4") -> dict[str, Any]:
    return tomllib.loads((repo.path / f"milestones/{name}.toml").read_text())


def test_a_list_of_tasks_becomes_a_milestone_that_runs(repo: Repo) -> None:
    require_sandbox()
    repo.write("docs/M4.md", PLAN)
    assert '+id = "4.10"' in repo.doit("import", "docs/M4.md", "--dry-run").check().out
    assert not (repo.path / "milestones").exists()
    out = repo.doit("import", "docs/M4.md").check().out
    assert "before it can run: milestones/m4.toml: issue[0].agent: no agent is declared" in out
    repo.write("rules/routes.toml", '[route.default]\nagent = "writer"\n')
    repo.write("rules/agents.toml", '[agent.writer]\ncommand = ["sh", "-c", "cat $EXECUTOR_BRIEF > $EXECUTOR_ISSUE"]\n')
    assert "nothing changed" in repo.doit("import", "docs/M4.md").check().out
    assert repo.doit("list", "-q").check().out.split() == ["m4/4.1", "m4/4.10"]
    repo.doit("milestone:m4").check()
    assert "Write b." in repo.git("show", "milestone/m4-worker-settings:4.10")


def test_importing_again_takes_over_what_changed_and_keeps_comments_and_edits(repo: Repo) -> None:
    repo.write("docs/M4.md", PLAN)
    repo.doit("import", "docs/M4.md", "--agent", "script").check()
    path = repo.path / "milestones/m4.toml"
    text = path.read_text().replace('title = "Use it"', 'title = "Use it well"  # mine')
    text = text.replace('accept = ["It is there"]', 'accept = ["It is there", { run = "test -e a.txt" }]')
    path.write_text("# ours\n" + text)
    changed = (
        PLAN.replace("Write a.", "Write a and more.")
        .replace("Use it", "Use it now")
        .replace("- [ ] It is there", "- [ ] It is there\n\n**Size:** S")
    )
    repo.write("docs/M4.md", changed + "\n## Task 4.11: More\n")
    out = repo.doit("import", "docs/M4.md").check().out
    assert "kept yours: 4.10.title was changed here and in docs/M4.md" in out
    now = declared(repo)["issue"]
    assert [item["id"] for item in now] == ["4.1", "4.10", "4.11"]
    assert now[0]["accept"] == ["It is there", {"run": "test -e a.txt"}]
    assert now[0]["size"] == "S"
    assert now[1]["title"] == "Use it well"
    assert path.read_text().startswith("# ours\n")
    assert "# mine" in path.read_text()
    assert "Write a and more." in (repo.path / "milestones" / now[0]["spec"]).read_text()
    repo.doit("import", "docs/M4.md", "--overwrite").check()
    assert declared(repo)["issue"][1]["title"] == "Use it now"
    assert "# mine" in path.read_text()
    repo.write("docs/M4.md", changed)
    assert "left as it is: 4.11 is no longer in docs/M4.md" in repo.doit("import", "docs/M4.md").check().out


def test_a_faulty_plan_changes_nothing_and_every_fault_has_its_line(repo: Repo) -> None:
    repo.write("docs/M4.md", PLAN.replace("4.10: Use it\n**Dependencies:** 4.1", "4.1: Use it\n**Dependencies:** 4.2"))
    err = repo.doit("import", "docs/M4.md").check(3).err
    assert 'docs/M4.md: line 11: "4.1" is already the id of the issue in line 3' in err
    assert 'docs/M4.md: line 11: unknown issue "4.2", needed by "4.1"' in err
    assert not (repo.path / "milestones").exists()
    assert "docs/none.md does not exist" in repo.doit("import", "docs/none.md").check(3).err
    assert (
        'unknown format "tsks"; did you mean "tasks"?'
        in repo.doit("import", "docs/M4.md", "--format", "tsks").check(3).err
    )


def test_what_was_exported_as_json_is_imported_as_it_was_declared(repo: Repo) -> None:
    repo.write("milestones/m1/epic.md", "- [ ] All\n")
    head = 'goal = "Go"\nepic = "m1/epic.md"\ntag = "v1"\naccept = [{ run = "true", name = "All" }]\n'
    repo.milestone(
        "m1",
        f'{head}[[phase]]\nname = "P"\n'
        + issue("a", "echo a > a", files=["a"], accept=["Words", {"file": "a"}], phase="P", size="S", number=7)
        + issue("b", "echo b > b", needs=["a"], priority="P0", resources=["db"]),
    )
    repo.doit("export", "m1", "--format", "json", "--output", "m1.json").check()
    before = declared(repo, "m1")
    (repo.path / "milestones/m1.toml").unlink()
    repo.doit("import", "m1.json").check()
    after = declared(repo, "m1")
    for item in (*before["issue"], *after["issue"]):
        text = item.pop("body", None) or (repo.path / "milestones" / item.pop("spec")).read_text()
        item["text"] = text.strip()
    assert after == before


def test_what_was_exported_can_be_imported_under_another_id_beside_it(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("export", "m1", "--format", "json", "--output", "m1.json").check()
    repo.doit("import", "m1.json", "--id", "m2").check()
    assert "lands on milestone/m2-test-m1" in repo.doit("plan", "m2").check().out
    assert repo.doit("import", "gone.json").check(3).err == "gone.json does not exist; name a plan\n"
    assert "milestones is a folder of" in repo.doit("import", "milestones").check(3).err


def test_github_issues_and_csv_go_out_and_in_again(repo: Repo) -> None:
    repo.write("rules/routes.toml", '[route.default]\nagent = "writer"\n')
    repo.write("rules/agents.toml", '[agent.writer]\ncommand = ["true"]\n')
    repo.milestone(
        "m1",
        issue("7", "echo a > a", number=7, accept=["Words"], files=["a"])
        + issue("8", "false", number=8, needs=["7"], priority="P0", type="docs"),
    )
    repo.doit("milestone:m1").check(1)
    found = repo.doit("export", "m1", "--format", "github").check().json
    assert [(item["number"], item["state"]) for item in found] == [(7, "CLOSED"), (8, "OPEN")]
    repo.write("issues.json", json.dumps([{**item, "state": "OPEN"} for item in found]))
    repo.doit("import", "issues.json", "--id", "g1").check()
    now = declared(repo, "g1")["issue"]
    assert [(item["id"], item["type"], item.get("needs")) for item in now] == [
        ("7", "feature", None),
        ("8", "docs", ["7"]),
    ]
    repo.doit("export", "m1", "--format", "csv", "--output", "issues.csv").check()
    repo.doit("import", "issues.csv", "--id", "c1").check()
    now = declared(repo, "c1")["issue"]
    assert [(item["id"], item.get("needs"), item.get("number")) for item in now] == [("7", None, 7), ("8", ["7"], 8)]
    assert now[0]["accept"] == ["Words"]


def test_a_damaged_mark_is_told_and_the_file_is_left_alone(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    text = "x\n<!-- milestone m1: begin -->\n"
    repo.write("T.md", text)
    assert "T.md: expected one" in repo.doit("export", "m1", "--output", "T.md").check(3).err
    assert (repo.path / "T.md").read_text() == text
