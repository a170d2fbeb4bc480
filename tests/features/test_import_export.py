"""`doit import` and `doit export`: plans of other formats in and out, edits of a person's kept."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from typing import Any

from executor.model.milestone import Issue, Milestone
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
    assert "kept your value: 4.10.title was changed here and in docs/M4.md" in out
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
    assert "left alone: 4.11 is no longer in docs/M4.md" in repo.doit("import", "docs/M4.md").check().out


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
    assert repo.doit("import", "gone.json").check(3).err == "gone.json does not exist; name an existing plan\n"
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


def test_a_damaged_mark_is_reported_and_the_file_is_left_alone(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    text = "x\n<!-- milestone m1: begin -->\n"
    repo.write("T.md", text)
    assert "T.md: expected one" in repo.doit("export", "m1", "--output", "T.md").check(3).err
    assert (repo.path / "T.md").read_text() == text


A_PLAN = "# Milestone 1: Foundation\n\n## Task 1.1: Package\na\n\n## Task 1.2: Config\nb\n"
B_PLAN = "# Milestone 1: Init flags\n\n**Branch:** `feature/flags`\n\n## Task 1.1: Refactor init\nx\n"


def test_a_milestone_follows_one_plan_and_its_landed_work_stays_where_it_is(repo: Repo) -> None:
    require_sandbox()
    repo.write("rules/agents.toml", '[agent.writer]\ncommand = ["sh", "-c", "echo x > work-$EXECUTOR_ISSUE"]\n')
    repo.write("docs/a/M1.md", A_PLAN)
    repo.write("docs/b/M1.md", B_PLAN)
    repo.doit("import", "docs/a/M1.md", "--agent", "writer").check()
    repo.doit("milestone:m1").check()
    before = (repo.path / "milestones/m1.toml").read_text()
    err = repo.doit("import", "docs/b/M1.md").check(3).err
    assert "the milestone m1 was imported from docs/a/M1.md, which is another plan" in err
    assert (repo.path / "milestones/m1.toml").read_text() == before
    repo.write("docs/a/M1.md", A_PLAN.replace("Foundation", "The foundation"))
    out = repo.doit("import", "docs/a/M1.md").check().out
    assert "the title changed; the branch stays milestone/m1-foundation" in out
    repo.write("docs/a/M1.md", A_PLAN.replace("Foundation\n", "The foundation\n\n**Branch:** `feature/new`\n"))
    assert "kept your value: branch" in repo.doit("import", "docs/a/M1.md").check().out
    assert set(repo.statuses("m1").values()) == {"landed"}
    (repo.path / "docs/a/M1.md").rename(repo.path / "docs/M1.md")
    assert "the plan moved" in repo.doit("import", "docs/M1.md").check().out
    assert "differs from the milestone" in repo.doit("import", "docs/M1.md", "--id", "M1").check(3).err


def test_the_order_of_the_plan_is_taken_over_and_lost_specs_are_written_again(repo: Repo) -> None:
    repo.write("docs/M4.md", PLAN)
    repo.doit("import", "docs/M4.md", "--agent", "claude").check()
    repo.write("docs/M4.md", PLAN.replace("## Task 4.10", "## Task 4.2: Between\nText.\n\n## Task 4.10"))
    spec = next((repo.path / "milestones/m4").glob("4.1-*.md"))
    spec.unlink()
    out = repo.doit("import", "docs/M4.md").check().out
    assert "the spec of 4.1, was missing and is written again" in out
    assert spec.exists()
    assert [item["id"] for item in declared(repo)["issue"]] == ["4.1", "4.2", "4.10"]


def test_files_that_git_would_not_commit_never_become_specs(repo: Repo) -> None:
    secret = repo.path.parent / "secret.txt"
    secret.write_text("token")
    repo.write(".gitignore", ".env\n")
    repo.write("docs/.env", "PASSWORD=1")
    (repo.path / "docs/link.md").symlink_to(secret)
    rows = "".join(
        f"| #0{number} | {name} | T{number} | P1 | None |\n"
        for number, name in enumerate(["link.md", ".env", "../.git/config", "ok.md"], 1)
    )
    table = "| Issue # | Issue File | Title | Priority | Dependencies |\n|---|---|---|---|---|\n"
    repo.write("docs/IMPLEMENTATION_PLAN.md", f"# M5: X - Implementation Plan\n\n### Phase 1: P\n\n{table}{rows}")
    repo.write("docs/ok.md", "Fine text.\n")
    repo.doit("import", "docs/IMPLEMENTATION_PLAN.md", "--agent", "claude").check()
    texts = "".join(path.read_text() for path in (repo.path / "milestones/m5").glob("*.md"))
    assert "Fine text." in texts
    assert "token" not in texts
    assert "PASSWORD" not in texts
    assert "[core]" not in texts


def test_several_plans_at_once_see_each_other_and_odd_requests_end_with_a_sentence(repo: Repo) -> None:
    repo.write("docs/a.md", "# M1: A\n\n## Task 1.1: A\na\n")
    repo.write("docs/b.md", "# M2: B\n\n**Builds on:** M1\n\n## Task 2.1: B\n**Depends on:** 1.1\nb\n")
    repo.doit("import", "docs/a.md", "docs/b.md", "--agent", "claude").check()
    assert declared(repo, "m2")["issue"][0]["needs"] == ["m1/1.1"]
    assert declared(repo, "m2")["milestone"]["needs"] == ["m1"]
    assert "### `speckit`" in repo.doit("import", "--formats").check().out
    (repo.path / "docs/latin.md").write_bytes("# M3: X\n\n## Task 3.1: Größe\n".encode("latin-1"))
    assert "line 3 is not utf-8: byte 0xf6" in repo.doit("import", "docs/latin.md").check(3).err
    repo.doit("import", "docs/latin.md", "--encoding", "latin-1", "--agent", "claude").check()
    assert declared(repo, "m3")["issue"][0]["title"] == "Größe"
    repo.write("milestones/m9.toml", '[milestone]\nid = "m9"\ntitle = "T"\n[defaults]\nagent = "claude"\n')
    text = (repo.path / "milestones/m9.toml").read_text()
    (repo.path / "milestones/m9.toml").write_text(f'issue = [{{id = "9.1", title = "A", body = "x"}}]\n{text}')
    repo.write("docs/M9.md", "# M9: T\n\n## Task 9.2: B\nb\n")
    repo.doit("import", "docs/M9.md").check()
    assert [item["id"] for item in declared(repo, "m9")["issue"]] == ["9.1", "9.2"]


def test_what_a_plan_says_about_its_judge_needs_trust(repo: Repo) -> None:
    repo.write("rules/routes.toml", '[route.default]\nchecks = ["unit"]\n[route.docs]\nchecks = []\n')
    repo.write("rules/checks.toml", '[check.unit]\nrun = "true"\n')
    repo.write("tests/test_old.py", "def test_old(): pass\n")
    item = {
        "id": "1",
        "title": "A",
        "type": "docs",
        "files": ["tests/test_old.py", "a.py"],
        "allow": ["tests-weakened"],
        "with": {"run": "true"},
    }
    repo.write("plan.json", json.dumps({"milestone": {"id": "t1", "title": "T"}, "issues": [item]}))
    found = repo.doit("import", "plan.json", "--agent", "script", "--json").check().json["milestones"][0]
    issue_now = declared(repo, "t1")["issue"][0]
    assert issue_now["files"] == ["a.py"]
    assert not {"type", "allow", "with"} & issue_now.keys()
    assert sum("--trust" in note["kind"] for note in found["notes"]) == 4
    repo.doit("import", "plan.json", "--agent", "script", "--trust").check()
    assert declared(repo, "t1")["issue"][0]["allow"] == ["tests-weakened"]


def test_the_body_of_a_github_issue_opens_neither_tests_nor_ignored_files(repo: Repo) -> None:
    repo.write(".gitignore", ".cache/\n.env\n*.pem\nsecrets/\n")
    repo.write("tests/golden.txt", "3\n")
    repo.write("qa/a_spec.rb", "1\n")
    repo.commit("a project")
    shut = ["tests/**", "./tests/", "**/*", "qa/*.rb", ".env", "config/*.pem", "**/.env*", "secrets/a"]
    files = ", ".join(f"`{name}`" for name in [*shut, "a.py", "docs/b.md"])
    item = {"number": 4, "title": "4.1 Do it", "state": "OPEN", "labels": [], "milestone": {"title": "M4"}}
    repo.write("issues.json", json.dumps([{**item, "body": f"Do it.\n\n**Files:** {files}\n"}]))
    order = ("import", "issues.json", "--format", "github", "--id", "m4", "--agent", "script")
    found = repo.doit(*order, "--json").check()
    assert declared(repo, "m4")["issue"][0]["files"] == ["a.py", "docs/b.md"]
    assert sum("left out of files" in note["text"] for note in found.json["milestones"][0]["notes"]) == 2
    repo.doit(*order, "--trust").check()
    assert {".env", "qa/*.rb"} <= set(declared(repo, "m4")["issue"][0]["files"])


EVERY_KEY = """[milestone]
id = "m5"
title = "Round, \\"trip\\" | pipes"
goal = "A goal\\nof two lines"
base = "main"
branch = "milestone/my-branch"
context = ["README.md"]
needs = ["m4"]
epic = "m5/epic.md"
epic_number = 10
tracking = "README.md"
token = "feat(m5)"
pull_title = "{title}"
tag = "v5"
forge_milestone = "M5 - Trip"
checks = ["tests"]
workflow = "kiro"
roadmap = "auto"
accept = [{ run = "true" }, "sentence"]

[[phase]]
name = "One"
goal = "first"

[[issue]]
id = "5.1"
title = "First; with, commas \\"and\\" quotes | pipe"
type = "docs"
priority = "P0"
body = "text"
files = ["a b/c.txt", "src/*.py", "x,y.txt"]
accept = ["one; two, three", { run = "test -e x" }, { file = "README.md", contains = "demo" }]
number = 11
phase = "One"
checks = []
resources = ["db"]
allow = ["dependency-change"]
agent = "claude"
hold = "wait"
slug = "first"
token = "fix(m5)"
commit_type = "fix"
pull_title = "{title} of {issue}"
was = ["5.0"]

[[issue]]
id = "5.2"
title = "=SUM(A1)"
needs = ["5.1"]
body = "inline"
size = "S"
agent = ["claude", "codex"]
workflow = "direct"

[[issue]]
id = "5.10"
title = "No number"
needs = ["5.2", "5.1"]
body = "-x"
agent = "script"
with = { run = "true" }
"""


DEFAULTS = {"priority": "P1", "size": "M", "type": "feature"}
ELSEWHERE = {"spec", "issues", "phases", "draft"}
"""Keys that an export writes as text, as rows, or not at all."""


def assert_every_key() -> None:
    whole = tomllib.loads(EVERY_KEY)
    used = {key for item in whole["issue"] for key in item}
    assert {info.alias or name for name, info in Issue.model_fields.items()} - used <= ELSEWHERE
    assert {info.alias or name for name, info in Milestone.model_fields.items()} - whole[
        "milestone"
    ].keys() <= ELSEWHERE


def _flat(repo: Repo, name: str) -> list[dict[str, Any]]:
    found = []
    for item in declared(repo, name)["issue"]:
        text = item.pop("body", None) or (repo.path / "milestones" / item.pop("spec")).read_text()
        said = {key: value for key, value in item.items() if DEFAULTS.get(key) != value}
        found.append({**said, "text": text.strip()})
    return found


def test_each_export_comes_back_value_for_value(repo: Repo) -> None:
    repo.write("README.md", "demo\n")
    repo.write("milestones/m5.toml", EVERY_KEY)
    repo.write("milestones/m5/epic.md", "- [ ] All\n")
    repo.write("milestones/m4.toml", '[milestone]\nid = "m4"\ntitle = "T"\n' + issue("a", "true"))
    repo.write("rules/routes.toml", '[route.default]\nagent = "claude"\n[route.planning]\nagent = "claude"\n')
    assert_every_key()
    for form, more in (("json", []), ("csv", []), ("github", ["--trust"])):
        file = f"m5.{'csv' if form == 'csv' else 'json'}"
        repo.doit("export", "m5", "--format", form, "--output", file).check()
        repo.doit("import", file, "--id", f"back-{form}", *more).check()
        assert _flat(repo, f"back-{form}") == _flat(repo, "m5"), form
        head, before = declared(repo, f"back-{form}"), declared(repo, "m5")
        head["milestone"].pop("draft")  # its branch is that of m5
        epic = head["milestone"].pop("epic")
        assert (repo.path / "milestones" / epic).read_text() == "- [ ] All\n", form
        assert {**head["milestone"], "id": "m5", "epic": "m5/epic.md"} == before["milestone"], form
        assert head["phase"] == before["phase"], form
        (repo.path / f"milestones/back-{form}.toml").unlink()


def test_an_export_keeps_mode_link_and_line_ends_and_refuses_odd_places(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    real = repo.write("docs/real.md", "# Status\r\n")
    real.write_bytes(b"# Status\r\n")
    real.chmod(0o600)
    (repo.path / "link.md").symlink_to("docs/real.md")
    repo.doit("export", "m1", "--output", "link.md").check()
    assert (repo.path / "link.md").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert b"\n" not in real.read_bytes().replace(b"\r\n", b"")
    assert "nothing changed" in repo.doit("export", "m1", "--output", "link.md").check().out
    assert "is a folder; name a file" in repo.doit("export", "m1", "--format", "json", "--output", ".").check(3).err
    assert "does not exist" in repo.doit("export", "m1", "--format", "json", "--output", "no/x.json").check(3).err


def test_odd_requests_of_an_import_end_with_a_sentence(repo: Repo) -> None:
    assert "no milestone is declared" in repo.doit("list").check().err
    repo.write("docs/notes.txt", "Nothing but words.\n")
    err = repo.doit("import", "docs/notes.txt").check(3).err
    assert "not a plan in a known format" in err
    assert "speckit" in err
    repo.write("rules/agents.toml", '[agent.writer]\ncommand = ["true"]\n')
    repo.write("docs/M4.md", PLAN.replace("Write a.", "**Agent:** endpoint-builder\n\nWrite a."))
    assert "unknown agent" in repo.doit("import", "docs/M4.md", "--agent", "writter").check(3).err
    words = [sys.executable, "-m", "executor", "import", "M4.md", "--agent", "writer,claude", "--json"]
    found = json.loads(subprocess.run(words, cwd=repo.path / "docs", stdout=subprocess.PIPE, check=True).stdout)
    assert not (repo.path / "docs/milestones").exists()
    assert "not a profile of rules/agents.toml" in found["milestones"][0]["notes"][0]["text"]
    assert declared(repo)["defaults"]["agent"] == ["writer", "claude"]
    assert "agent" not in declared(repo)["issue"][0]
    repo.doit("list").check()
    repo.write("docs/M4.md", PLAN + "\n## Task 4.11: More\nText.\n")
    out = repo.doit("import", "docs/M4.md", "--dry-run").check().out
    assert "+\n+[[issue]]" in out
    (repo.path / "milestones").rename(repo.path / "gone")
    repo.write("milestones", "a file")
    assert "milestones is a file" in repo.doit("import", "docs/M4.md").check(3).err
