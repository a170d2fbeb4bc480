"""`doit report` from the command line, on a real milestone."""

from __future__ import annotations

import json
import shutil
import time
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from executor.config.project import compile_project, open_project
from executor.git.refs import Refs
from executor.report.snapshot import survival_of
from executor.status.reader import observe
from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support import Repo

TITLE = "</script><script>alert(1)</script> | `x` @all"


def prepared(repo: Repo) -> None:
    landed = issue(
        "good",
        "echo said so; mkdir src; echo x > src/a.py",
        accept=[{"run": "test -e src/a.py", "name": "there"}],
        title=TITLE,
    )
    failing = issue("bad", "echo $EXECUTOR_ATTEMPT > b", accept=[{"run": "echo because; exit 3"}])
    waiting = issue("auth", "echo 'def login(password): pass' > auth.py")
    repo.milestone("m1", landed + failing + waiting + issue("after", "echo", needs=["bad"]))
    repo.doit("milestone:m1").check(1)


def test_every_format_tells_what_happened_and_why(repo: Repo) -> None:
    prepared(repo)
    before = repo.snapshot()

    told = repo.doit("report", "m1", "--format", "json").check().json
    found = {item["id"]: item for item in told["issues"]}
    assert {name: item["status"] for name, item in found.items()} == {
        "good": "landed",
        "bad": "failed",
        "auth": "review",
        "after": "blocked",
    }
    assert told["counts"] == {"landed": 1, "blocked": 1, "failed": 1, "review": 1}
    good = found["good"]
    assert (good["files"], good["added"], good["removed"], good["paths"]) == (1, 1, 0, ["src/a.py"])
    assert good["checks"] == [
        {"name": "there", "ok": True, "seconds": good["checks"][0]["seconds"], "reason": "", "before": "red"}
    ]
    assert "said so" in good["log"]
    assert [item["agent"] for item in found["bad"]["attempts"]] == ["script"] * 3
    assert "because" in found["bad"]["log"]
    assert found["auth"]["stop"] == "sensitive-code"
    assert found["auth"]["stop_lines"] == ["auth.py: its path says so"]

    page = repo.path.parent / "page.html"
    assert repo.doit("report", "m1", "--format", "html", "--output", str(page)).check().out == ""
    text = page.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert repo.doit("report", "m1").check().out.startswith("# m1: Test m1\n")
    suite = ET.fromstring(repo.doit("report", "m1", "--format", "junit").check().out)[0]  # noqa: S314  (ours)
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "2")
    assert repo.snapshot() == before


def test_money_that_never_landed_and_lines_that_stayed_are_counted(repo: Repo) -> None:
    usage = """[agent.paid]
isolation = "none"
command = ["sh", "-c", "echo cost 0.25; {run}"]
[agent.paid.patterns]
usage = 'cost (?P<cost>[0-9.]+)'
"""
    repo.write("rules/agents.toml", usage)

    def paid(name: str, run: str, **extra: object) -> str:
        return issue(name, run, **extra).replace('agent = "script"', 'agent = "paid"')

    repo.milestone(
        "m1",
        paid("a", "printf '1\\n2\\n3\\n' > f")
        + paid("b", "printf '1\\nx\\n3\\n' > f", needs=["a"], type="docs")
        + paid("c", "echo c > c", needs=["b"])
        + paid("d", "exit 3"),
    )
    repo.doit("milestone:m1").check(1)
    branch = "milestone/m1-test-m1"
    repo.git("checkout", "-q", branch)
    repo.git("revert", "--no-edit", "HEAD")
    repo.git("checkout", "-q", "main")
    told = repo.doit("report", "m1", "--format", "json").check().json
    assert told["money"] == {
        "attempts": 5,
        "landed": 3,
        "reused": 0,
        "skipped": 0,
        "reverted": 1,
        "spent_usd": 1.25,
        "unlanded_usd": 0.5,
    }
    assert told["survival"] == []
    assert told["forecast"]["known"] == 3
    project = open_project(repo.path)
    later = survival_of(observe(compile_project(project), Refs(project.repository)), "m1", time.time() + 31 * 86_400)
    assert [(row.agent, row.type, row.days, row.landings, row.lines, row.alive, row.reverted) for row in later] == [
        ("paid", "docs", 7, 1, 1, 1, 0),
        ("paid", "docs", 30, 1, 1, 1, 0),
        ("paid", "feature", 7, 2, 4, 2, 1),
        ("paid", "feature", 30, 2, 4, 2, 1),
    ]


def test_without_the_cache_the_report_still_tells_what_landed(repo: Repo) -> None:
    prepared(repo)
    shutil.rmtree(repo.path / ".cache")
    told = json.loads(repo.doit("report", "m1", "--format", "json").check().out)
    good = next(item for item in told["issues"] if item["id"] == "good")
    assert (good["status"], good["paths"], good["revision"]) == ("landed", ["src/a.py"], 1)
    assert next(item for item in told["issues"] if item["id"] == "bad")["attempts"][0]["kind"] == "checks"


def test_wrong_use_is_reported(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo"))
    assert 'unknown format "pdf"; expected one of html, md, json, junit' in (
        repo.doit("report", "m1", "--format", "pdf").check(3).err
    )
    assert "name one milestone" in repo.doit("report", "m1", "m2").check(3).err
    assert repo.doit("report").check().out.startswith("# m1")
    assert 'unknown milestone "m9"' in repo.doit("report", "m9").check(3).err
    assert "cannot be written" in repo.doit("report", "m1", "--output", "/nowhere/x.html").check(3).err


def test_the_page_opens_in_a_browser(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    shown = tmp_path / "shown"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shown}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    assert repo.doit("report", "m1", "--open").check().out.endswith("/.cache/m1/report.html\n")
    page = repo.path / ".cache" / "m1" / "report.html"
    assert shown.read_text().strip() == page.as_uri()
    assert "Issue a" in page.read_text(encoding="utf-8")
