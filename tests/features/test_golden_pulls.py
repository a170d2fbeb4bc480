"""The pull requests of one milestone as a maintainer receives them, each a file below golden/pulls.

Run: EXECUTOR_LONG=1 python -m pytest -m long tests/features/test_golden_pulls.py. With EXECUTOR_GOLDEN=1 as well, it
writes the files again: look at the difference.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.features.test_github import declared, hub, up
from tests.features.test_remote import BRANCH, clone
from tests.support import Repo, issue

if TYPE_CHECKING:
    from tests.fake_github import FakeGitHub, Pull

__all__ = ["hub"]
GOLDEN = Path(__file__).with_name("golden") / "pulls"
LOG = "2026-01-01T00:00:00Z E  assert 1 == 2\n"
PENDING = ("red-then-green", "closed-by-hand", "foreign-commit")
NAMES = ("landed", "draft-by-rule", "question", *PENDING, "revision-2", "approved", "draft-by-review", "unproved")
REFERENCE = re.compile(r"^[a-z]+(\([\w.-]+\))?!?: \S.*$")
"""A conventional header, as @commitlint/config-conventional parses it."""
NOTES = '{"notes": ["Adds the constant that the importer reads."], "deviations": ["Left the old name as an alias."]}'
FINDINGS = [
    {"description": "The name of the timeout has no unit.", "score": 40, "file": "plain", "line": 1},
    {"description": "The token is compared with ==.", "score": 90, "file": "plain", "line": 2},
]
CRITERIA = [{"criterion": "Reads well", "met": True, "evidence": "plain says what it does"}]
SQL = "CREATE TABLE places (id int);\\nALTER TABLE people ADD age int;\\n"
EPIC = "# Epic\n\n- [x] People can import settings\n\n## NFR targets\n\n- [x] Imports take less than a second\n"


def proved(name: str, script: str, file: str, /, **extra: Any) -> str:
    return issue(name, script, accept=[{"file": file}], **extra)


def plan(word: str = "one") -> str:
    notes = f"echo '{NOTES}' > $EXECUTOR_OUT/report.json"
    question = "printf 'Which zone?\\nEU or US.\\n' > $EXECUTOR_OUT/question.md"
    proof = [{"run": "test -e landed.py"}]
    return (
        'tag = "v1"\nforge_milestone = "M1"\nepic = "epic.md"\ngoal = "Settings come from a file."\n'
        'accept = ["Reads as one", { run = "test -e landed.py" }]\n'
        + issue("landed", f"echo x = 1 > landed.py; {notes}", accept=proof, type="fix", number=1)
        + proved("draft-by-rule", f"mkdir db; printf '{SQL}' > db/1.sql", "db/1.sql")
        + proved("question", f"echo half > half; {question}", "half")
        + proved("red-then-green", "echo $EXECUTOR_ATTEMPT > red", "red")
        + proved("closed-by-hand", "echo e > closed", "closed")
        + proved("foreign-commit", "echo f > foreign", "foreign")
        + proved("revision-2", f"echo {word} > revised", "revised", body=f"Write the word {word}.")
        + proved("approved", "mkdir -p sub; echo 'y==1' > sub/requirements.txt", "sub/requirements.txt")
        + issue(
            "draft-by-review", "echo n > plain; echo m >> plain", accept=["Reads well", {"run": "true"}], type="read"
        )
        + issue("unproved", "echo u > unproved")
    )


def rules(repo: Repo) -> None:
    """A reviewer with two findings, and the rule that nothing lands without a proof."""
    answer = repo.path.parent / "answer.json"
    answer.write_text(json.dumps(FINDINGS))
    (repo.path.parent / "criteria.json").write_text(json.dumps(CRITERIA))
    run = f"cp {answer} $EXECUTOR_OUT/findings.json; cp {answer.with_name('criteria.json')} $EXECUTOR_OUT/criteria.json"
    repo.write("rules/agents.toml", f'[agent.critic]\ncommand = ["sh", "-c", "{run}"]\nisolation = "none"\n')
    repo.write("rules/routes.toml", '[route.read]\nreviewer = "critic"\nthreshold = 70\nchecks = []\n')
    repo.write("rules/stops.toml", "[stop.unproved]\nenabled = true\n")
    repo.write("milestones/epic.md", EPIC)
    forge = repo.path / "rules/forge.toml"
    forge.write_text(f"lower_case = true\n{forge.read_text()}")


def heads(hub: FakeGitHub) -> dict[str, Pull]:
    return {name: pull for pull in hub.pulls for name in NAMES if f"-{name}" in pull.head or f"/{name}" in pull.head}


def all_pulls(repo: Repo, hub: FakeGitHub) -> dict[str, str]:
    """Every pull request as text, by the situation it is in."""
    rules(repo)
    hub.add_issue("Import settings", milestone=hub.add_milestone("M1"))
    declared(repo, plan())
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1", "-n", "2").check(4)
    pulls = heads(hub)
    hub.set_check(
        pulls["red-then-green"].sha,
        "ci",
        "failure",
        log=LOG,
        annotations=({"path": "red", "start_line": 1, "message": "expected 2"},),
    )
    pulls["closed-by-hand"].state = "closed"
    other = clone(repo, up(repo))
    other.git("checkout", "-q", pulls["foreign-commit"].head)
    other.write("more", "more")
    other.commit("more")
    other.git("push", "-q", "origin", "HEAD")
    for name in ("landed", "revision-2"):
        hub.set_check(pulls[name].sha, "ci", "success")
    repo.doit("approve", "m1/approved", "--reason", "wanted").check()
    repo.doit("milestone:m1").check(4)
    hub.new_checks["ci"] = "success"
    for name in ("red-then-green", "approved"):
        hub.set_check(pulls[name].sha, "ci", "success")
    repo.milestone("m1", plan("two"))
    repo.doit("milestone:m1").check(4)
    found = {name: shown(hub, pull) for name, pull in pulls.items()}
    found["revision-2"] = shown(hub, hub.pulls[-1])
    found["released"] = released(repo, hub, pulls)
    return found


def released(repo: Repo, hub: FakeGitHub, pulls: dict[str, Pull]) -> str:
    """Clear what waits, as people do, until the milestone is released; the text of its pull request."""
    hub.merge_by_hand(pulls["foreign-commit"].number)
    repo.doit("retry", "m1/closed-by-hand").check()
    repo.doit("answer", "m1/question", "EU").check()
    repo.milestone("m1", plan("two").replace("printf 'Which zone", ": 'Which zone"))
    for name in ("draft-by-rule", "unproved", "draft-by-review"):
        repo.doit("approve", f"m1/{name}", "--reason", "looked at").check()
    repo.doit("milestone:m1").check()
    repo.doit("release:m1").check()
    assert hub.pulls[-1].merged
    return shown(hub, hub.pulls[-1])


def shown(hub: FakeGitHub, pull: Pull) -> str:
    state = "merged" if pull.merged else "draft" if pull.draft else pull.state
    head = f"{pull.title}\n{pull.head} -> {pull.base}, {state}, labels: {', '.join(pull.labels)}\n"
    comments = [f"--- comment\n{item['body']}" for item in hub.comments.get(pull.number, [])]
    return normalised("\n".join([head, pull.body, *comments]) + "\n")


def normalised(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{40,64}\b", "<id>", text)
    text = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{7,12}\b", "<short id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?", "<time>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d", "<day>", text)
    text = re.sub(r"\b\d+:\d\d\b(?! )|\b\d+(\.\d+)? s\b", "<duration>", text)
    return re.sub(r"http://127\.0\.0\.1:\d+", "<forge>", text)


@pytest.fixture
def pulls(repo: Repo, hub: FakeGitHub) -> dict[str, str]:
    return all_pulls(repo, hub)


@pytest.mark.long
def test_the_pull_requests_of_one_milestone(pulls: dict[str, str]) -> None:
    GOLDEN.mkdir(exist_ok=True)
    if os.environ.get("EXECUTOR_GOLDEN"):
        for name, text in pulls.items():
            (GOLDEN / f"{name}.md").write_text(text)
    expected = {path.stem: path.read_text() for path in GOLDEN.glob("*.md")}
    assert pulls == expected
    titles = [text.splitlines()[0] for text in pulls.values()]
    assert [title for title in titles if not REFERENCE.match(title) or "(m1): " not in title] == []


@pytest.mark.long
@pytest.mark.skipif(shutil.which("npx") is None, reason="needs npx")
def test_titles_pass_commitlint(tmp_path: Path) -> None:
    words = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "@commitlint/cli",
        "@commitlint/config-conventional",
    ]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=300)
    (tmp_path / "commitlint.config.mjs").write_text(
        "export default { extends: ['@commitlint/config-conventional'] };\n"
    )
    for path in sorted(GOLDEN.glob("*.md")):
        title = path.read_text().splitlines()[0]
        done = subprocess.run(
            ["npx", "commitlint"], cwd=tmp_path, input=title, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{title}\n{done.stdout}"
