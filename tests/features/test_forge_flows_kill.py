"""kill -9 at every request and push of the flows after a pull request was opened: run again, they end the same.

All points: EXECUTOR_LONG=1 python -m pytest -n 2 -m long tests/features/test_forge_flows_kill.py
"""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.features.test_forge_red_checks import LOG, NOTE, landed_events
from tests.features.test_github import declared, hub, up
from tests.features.test_github_kill import HOOK
from tests.features.test_remote import BRANCH, branches, tip
from tests.forge.test_attested_landings import make_key, verified
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fake_github import FakeGitHub

__all__ = ["hub"]
MOMENTS = ("before", "after")
REQUESTS, PUSHES = 40, 8
"""More than each of the flows has; a test of a number beyond the last one is skipped."""
EPIC = "Epic\n\n- [ ] `test -e a`\n\n## NFR targets\n\n- [ ] `test -d .`\n"


def counted(repo: Repo, name: str, script: str, **extra: object) -> str:
    """An issue whose agent leaves a line outside for every time it works."""
    return issue(name, f"echo {name} >> {repo.path.parent}/ran; {script}", **extra)


def red_check(repo: Repo, hub: FakeGitHub) -> None:
    """A pull request with auto-merge whose check has failed: it is taken back, a new attempt is pushed and shown."""
    declared(repo, counted(repo, "a", "echo attempt $EXECUTOR_ATTEMPT > a"))
    hub.required[BRANCH] = ["ci"]
    hub.new_checks["ci"] = "pending"
    repo.doit("milestone:m1").check(75)
    hub.set_check(hub.pulls[0].sha, "ci", "failure", log=LOG, annotations=(NOTE,))


def approved_draft(repo: Repo, hub: FakeGitHub) -> None:
    """A draft of a stopped change that a person has approved: ready, commented, merged."""
    declared(repo, counted(repo, "a", "mkdir s; echo 'y==1' > s/requirements.txt; echo a > a"))
    repo.doit("milestone:m1").check(4)
    assert hub.pulls[0].draft
    repo.doit("approve", "m1/a", "--reason", "wanted").check()


def answered_question(repo: Repo, hub: FakeGitHub) -> None:
    """A draft of a question that a person has answered: another attempt is shown there."""
    asked = repo.path.parent / "asked"
    ask = f"[ -e {asked} ] || echo Which zone? > $EXECUTOR_OUT/question.md; touch {asked}; echo a > a"
    declared(repo, counted(repo, "a", ask))
    repo.doit("milestone:m1").check(4)
    assert hub.pulls[0].draft
    repo.doit("answer", "m1/a", "EU").check()


def epic_and_tracking(repo: Repo, hub: FakeGitHub) -> None:
    """A landed milestone that is to be released: final pull request, epic ticked and closed, milestone closed, tag."""
    number = hub.add_issue("Epic", body=EPIC)
    hub.add_milestone("M1")
    repo.write("milestones/epic.md", EPIC)
    head = f'tag = "v1"\nforge_milestone = "M1"\nepic = "epic.md"\nepic_number = {number}\n'
    accept = 'accept = [{ run = "test -e a" }, { run = "test -d ." }]\n'
    declared(repo, head + accept + counted(repo, "a", "echo a > a"))
    repo.doit("milestone:m1").check()


FLOWS: dict[str, tuple[Callable[[Repo, FakeGitHub], None], str]] = {
    "red-check": (red_check, "milestone:m1"),
    "approved-draft": (approved_draft, "milestone:m1"),
    "answered-question": (answered_question, "milestone:m1"),
    "epic": (epic_and_tracking, "release:m1"),
}
SLICE = {("red-check", 9, "after"), ("epic", 12, "before")}


def ended(repo: Repo, hub: FakeGitHub, task: str) -> None:
    """Run until it is done; the forge's checks pass on whatever head its pull requests show."""
    for _ in range(4):
        if repo.doit(task).code == 0:
            return
        for pull in hub.opened():
            hub.set_check(pull.sha, "ci", "success")
    repo.doit(task).check()


def assert_right(repo: Repo, hub: FakeGitHub, task: str) -> None:
    """No duplicates and no wrong merges: what landed is the one attempt on record, in its one pull request."""
    assert [pull.base for pull in hub.pulls if pull.merged] == [BRANCH, *(["main"] if task == "release:m1" else [])]
    assert all(pull.merged and not pull.draft for pull in hub.pulls)
    assert tip(up(repo), BRANCH) == repo.git("rev-parse", BRANCH)
    heads = [name for name in branches(up(repo)) if not name.startswith("refs/attestations/")]
    assert [name for name in heads if not name.startswith("refs/tags/")] == ["refs/heads/main", f"refs/heads/{BRANCH}"]
    assert repo.landed(BRANCH) == ["a@1"]
    landed = [event["attempt"] for event in landed_events(repo)]
    assert len(landed) == 1
    assert all(len(items) <= 1 for items in hub.comments.values())
    posted = Counter((sha, item["context"]) for sha, items in hub.statuses.items() for item in items)
    assert set(posted.values()) <= {1}
    shown = repo.git("show", f"{BRANCH}:a")
    assert shown in {"a", f"attempt {landed[0]}"}
    if hub.comments:
        assert "landed as" in next(iter(hub.comments.values()))[0]["body"].splitlines()[1]
    before = len(hub.requests)
    assert "nothing to do" in repo.doit(task).check().out
    assert len(hub.requests) == before


def died(repo: Repo, hub: FakeGitHub, task: str, number: int, moment: str) -> bool:
    """Run a task and die at its n-th request; whether it came to that."""
    process = repo.start(task)
    hub.victim, hub.kill = process.pid, (len(hub.requests) + number, moment)
    process.communicate(timeout=120)
    hub.kill = None
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("flow", "number", "moment"),
    [
        pytest.param(flow, number, moment, marks=() if (flow, number, moment) in SLICE else pytest.mark.long)
        for flow in FLOWS
        for number in range(1, REQUESTS)
        for moment in MOMENTS
    ],
)
def test_a_flow_killed_at_a_request_ends_the_same(
    repo: Repo, hub: FakeGitHub, flow: str, number: int, moment: str
) -> None:
    prepare, task = FLOWS[flow]
    prepare(repo, hub)
    before = len(hub.requests)
    if not died(repo, hub, task, number, moment):
        pytest.skip(f"the flow has {len(hub.requests) - before} requests")
    ended(repo, hub, task)
    assert_right(repo, hub, task)
    ran = (repo.path.parent / "ran").read_text().split()
    assert len(ran) == (2 if flow in {"red-check", "answered-question"} else 1)
    if flow == "epic":
        epic = next(iter(hub.issues.values()))
        assert (epic["state"], epic["body"]) == ("closed", EPIC.replace("[ ]", "[x]"))
        assert [item["state"] for item in hub.milestones.values()] == ["closed"]
        assert repo.git("cat-file", "-t", "v1") == "tag"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(number, moment, marks=() if (number, moment) == (3, "post-receive") else pytest.mark.long)
        for number in range(1, PUSHES)
        for moment in ("pre-receive", "post-receive")
    ],
)
def test_an_attested_run_killed_at_a_push_ends_the_same(
    repo: Repo, hub: FakeGitHub, tmp_path: Path, number: int, moment: str
) -> None:
    key = make_key(tmp_path)
    repo.write("rules/landing.toml", f'attest_key = "{key}"\n')
    declared(repo, counted(repo, "a", "echo a > a"))
    folder = up(repo)
    (folder / f"{moment}.count").touch()
    hook = folder / "hooks" / moment
    hook.write_text(HOOK.format(folder=folder, moment=moment))
    hook.chmod(0o755)
    process = repo.start("milestone:m1")
    (folder / "kill").write_text(f"{number} {moment} {process.pid}\n")
    process.communicate(timeout=120)
    if process.returncode != -signal.SIGKILL:
        pytest.skip(f"the run has fewer than {number} pushes")
    hook.unlink()
    repo.doit("milestone:m1").check()
    assert_right(repo, hub, "milestone:m1")
    here = repo.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/attestations/")
    assert here == hub.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/attestations/")
    assert verified(repo, tmp_path / "signers") == (0, "1 landings, 0 problems\n")
