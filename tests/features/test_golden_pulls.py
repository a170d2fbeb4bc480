"""The pull requests of one milestone as a maintainer receives them, each a file below golden/pulls.

Run: EXECUTOR_LONG=1 python -m pytest -m long tests/features/test_golden_pulls.py. With EXECUTOR_GOLDEN=1 as well, it
writes the files again: look at the difference. A question has no pull request, because its work is no result yet.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

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
NAMES = (
    "landed",
    "draft-by-rule",
    *PENDING,
    "revision-2",
    "approved",
    "not-proved",
)
REFERENCE = re.compile(r"^[a-z]+(\([\w.-]+\))?!?: \S.*$")
"""A conventional header, as @commitlint/config-conventional parses it."""


def plan(word: str = "one") -> str:
    proof = [{"run": "test -e landed.py"}]
    return (
        issue(
            "landed", "echo x = 1 > landed.py; echo Adds a constant. > $EXECUTOR_OUT/notes.md", accept=proof, type="fix"
        )
        + issue("draft-by-rule", "echo 'x==1' > requirements.txt")
        + issue("question", "echo half > half; echo 'Which zone?' > $EXECUTOR_OUT/question.md")
        + issue("red-then-green", "echo $EXECUTOR_ATTEMPT > red")
        + issue("closed-by-hand", "echo e > closed")
        + issue("foreign-commit", "echo f > foreign")
        + issue("revision-2", f"echo {word} > revised", body=f"Write the word {word}.")
        + issue("approved", "mkdir -p sub; echo 'y==1' > sub/requirements.txt")
        + issue("not-proved", "echo n > plain", accept=["Reads well", {"run": "true"}])
    )


def heads(hub: FakeGitHub) -> dict[str, Pull]:
    return {name: pull for pull in hub.pulls for name in NAMES if f"-{name}" in pull.head or f"/{name}" in pull.head}


def all_pulls(repo: Repo, hub: FakeGitHub) -> dict[str, str]:
    """Every pull request as text, by the situation it is in."""
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
    hub.set_check(other.commit("more"), "ci", "success")
    other.git("push", "-q", "origin", "HEAD")
    for name in ("landed", "revision-2", "not-proved"):
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
    return found


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
    assert [title for title in titles if not REFERENCE.match(title)] == []


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
        lower = re.sub(r"(: )([A-Z])", lambda match: match[1] + match[2].lower(), title, count=1)
        done = subprocess.run(
            ["npx", "commitlint"], cwd=tmp_path, input=lower, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{title}\n{done.stdout}"
