"""Milestones as doit tasks: which tasks there are, what each waits for, and how an error of an action ends."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, cast

import pytest

from executor.config.project import compile_project, open_project
from executor.errors import ForgeUnavailableError, GitKilledError, StateBrokenError, StateFullError, UsageError
from executor.git.refs import Refs
from executor.state.decide import Act, Decision, Status
from executor.status.reader import Observer, observe
from executor.tasks import task_milestones
from executor.tasks.compile import NotReleased, Request, Waiting, _fail, requested_tasks, selected
from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

STEPS = '[phase.design.step.draft]\ndoes = "Draft it."\noutputs = ["draft.md"]\n'


class Session:
    """The parts of a session that a request and a failed action use."""

    def __init__(self, observer: Observer | None = None) -> None:
        self.observer = observer
        self.halted: list[Exception] = []
        self.git_killed = False

    def halt(self, error: Exception) -> None:
        self.halted.append(error)


def observed(repo: Repo) -> Observer:
    return observe(compile_project(open_project(repo.path)), Refs(open_project(repo.path).repository))


def request(observer: Observer, *wanted: str) -> Request:
    return Request(cast("Any", Session(observer)), wanted)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Of two milestones the second needs the first; m1/b, m1/c need m1/a; m2/d goes through a workflow."""
    repo = Repo(tmp_path_factory.mktemp("tasks") / "repo")
    repo.write("rules/workflows/drafted.toml", STEPS)
    repo.milestone("m1", issue("a", "true") + issue("b", "true", needs=["a"]) + issue("c", "true", needs=["a"]))
    repo.milestone("m2", 'needs = ["m1"]\n' + issue("d", "true", workflow="drafted"))
    repo.commit("declared")
    return repo


@pytest.mark.parametrize(
    ("wanted", "issues"),
    [
        ((), []),
        (("milestone:m1",), ["m1/a", "m1/b", "m1/c"]),
        (("issue:m1/b",), ["m1/a", "m1/b"]),
        (("issue:m1/b", "issue:m1/c"), ["m1/a", "m1/b", "m1/c"]),
        (("issue:m2/d",), ["m2/d"]),
        (("milestone:m2", "milestone:m1"), ["m1/a", "m1/b", "m1/c", "m2/d"]),
        (("release:m1",), []),
    ],
)
def test_a_request_selects_its_issues_and_what_they_need_in_their_milestone(
    repo: Repo, wanted: tuple[str, ...], issues: list[str]
) -> None:
    assert selected(observed(repo), wanted) == issues


def test_a_task_has_its_needs_as_dependencies_and_its_receipt_as_target(repo: Repo) -> None:
    observer = observed(repo)
    tasks = {
        f"{task['basename']}:{task['name']}": task
        for task in requested_tasks(request(observer, "milestone:m1", "milestone:m2", "release:m1"))
    }
    assert list(tasks) == [
        "issue:None", "step:None", "issue:m1/a", "issue:m1/b", "issue:m1/c", "issue:m2/d", "step:m2/d/design.draft",
        "milestone:None", "milestone:m1", "milestone:m2", "release:None", "release:m1",
    ]  # fmt: skip
    assert tasks["issue:m1/b"]["file_dep"] == ["milestones/m1.toml", ".cache/m1/receipts/a.json"]
    assert tasks["issue:m1/b"]["targets"] == [".cache/m1/receipts/b.json"]
    assert tasks["issue:m1/b"]["task_dep"] == []
    assert tasks["issue:m2/d"]["task_dep"][0] == "milestone:m1"
    assert tasks["step:m2/d/design.draft"]["task_dep"] == ["milestone:m1"]
    assert tasks["milestone:m1"]["task_dep"] == ["issue:m1/a", "issue:m1/b", "issue:m1/c"]
    assert tasks["release:m1"]["task_dep"] == ["milestone:m1"]
    assert str(cast("Any", tasks["issue:m1/b"]["actions"])[0]) == "implement, verify and land m1/b"
    assert [ready() for ready in tasks["issue:m1/b"]["uptodate"]] == [False]


def test_doits_own_commands_have_the_tasks_of_every_milestone(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(repo.path)
    names = [task["name"] for task in task_milestones() if task["basename"] == "issue" and task["name"]]
    assert names == ["m1/a", "m1/b", "m1/c", "m2/d"]
    monkeypatch.chdir(tmp_path)
    assert list(task_milestones()) == []


@pytest.mark.parametrize(
    ("error", "halts", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StateFullError, "nothing is lost; free some space"),
        (StateBrokenError("the journal is broken"), StateBrokenError, "m1/a: the journal is broken"),
        (ForgeUnavailableError("no answer"), ForgeUnavailableError, "m1/a: no answer"),
        (UsageError("no such step"), None, "m1/a: no such step"),
        (OSError(errno.EACCES, "Permission denied"), None, "m1/a: unexpected PermissionError"),
        (ZeroDivisionError("division by zero"), None, "m1/a: unexpected ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_of_an_action_ends_its_task_and_some_end_the_run(
    error: Exception, halts: type[Exception] | None, said: str
) -> None:
    session = Session()
    outcome = _fail(cast("Any", session), "m1/a", error)
    assert [type(item) for item in session.halted] == ([halts] if halts else [])
    assert said in str(outcome)
    assert not session.git_killed


def test_a_killed_git_is_remembered() -> None:
    session = Session()
    _fail(cast("Any", session), "m1/a", GitKilledError("git was killed"))
    assert session.git_killed


def test_what_waits_is_no_error_and_says_why() -> None:
    waiting = Waiting(Decision(Status.BLOCKED, Act.REST, "a person must answer"))
    assert (waiting.message, waiting.report) == ("a person must answer", False)
    assert (NotReleased("m1").message, NotReleased("m1").report) == ("m1 is not released", False)
