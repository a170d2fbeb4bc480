"""`doit doctor`: each way in which journal, git and files can contradict each other is found, explained and mended."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from executor.doctor.health import KINDS
from executor.forge.hosts.credentials import Budget
from tests.support import Repo, doit_after, issue, small_disk

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "milestone/m1-test-m1"
BRANCH = f"refs/heads/{NAME}"
DOCS = Path(__file__).parents[2] / "docs" / "doctor.md"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Two issues have landed, one waits with a result."""
    repo = Repo(tmp_path_factory.mktemp("original") / "repo")
    body = issue("a", "echo a > a") + issue("b", "echo b > b", needs=["a"])
    repo.milestone("m1", body + issue("w", "echo w > Dockerfile; mkdir migrations; echo > migrations/0001.sql"))
    repo.commit("declared")
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "landed", "m1/w": "review"}
    return repo


@pytest.fixture
def landed(original: Repo, tmp_path: Path) -> Repo:
    """A copy of it to be harmed."""
    shutil.copytree(original.path, tmp_path / "repo", symlinks=True)
    copy = Repo.__new__(Repo)
    copy.path = tmp_path / "repo"
    return copy


def found(repo: Repo, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and kind -> finding, of everything that is not in order."""
    done = repo.doit("doctor", "--json", *options)
    return done.code, {item["kind"]: item for item in done.json if item["kind"] != "ok"}


def receipt(repo: Repo, name: str) -> Path:
    return repo.path / ".cache" / "m1" / "receipts" / f"{name}.json"


def test_a_sound_repository_has_nothing_but_ok(landed: Repo) -> None:
    code, items = found(landed)
    assert (code, items) == (0, {})


def test_every_kind_of_finding_is_in_the_documentation() -> None:
    rows = set(re.findall(r"^\| `([a-z-]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows == set(KINDS) - {"ok"}


# Kinds with tests in repositories/, cluster/, test_environments.py, test_hosts.py and test_shared_verdicts.py.
ELSEWHERE = (
    "base-red",
    "environment-outside",
    "repository-owner",
    "repository-bare",
    "unsigned",
    "not-in-checkouts",
    "order-left",
    "dodo-unconnected",
    "branch-behind",
    "runner-broken",
    "verdict-key",
    "verdict-store",
    "verdict-refuted",
)


def test_every_kind_of_finding_is_brought_about_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []


def moved_back(repo: Repo) -> None:
    repo.git("update-ref", BRANCH, f"{BRANCH}^")


def moved_aside(repo: Repo) -> None:
    repo.git("update-ref", BRANCH, "main")
    other = repo.git("commit-tree", "-p", "main", "-m", "other", "main^{tree}")
    repo.git("update-ref", BRANCH, other)


def deleted(repo: Repo) -> None:
    repo.git("update-ref", "-d", BRANCH)


def deleted_with_its_commits(repo: Repo) -> None:
    tips = repo.git("rev-list", f"main..{BRANCH}").split()
    repo.git("update-ref", "-d", BRANCH)
    for tip in tips:
        (repo.path / ".git" / "objects" / tip[:2] / tip[2:]).unlink()


@pytest.mark.parametrize(
    ("harm", "kind", "text", "todo"),
    [
        (
            moved_back,
            "branch-lost",
            "was moved by hand: m1/b landed according to the journal, but is not on it",
            "git branch -f",
        ),
        (moved_aside, "branch-lost", "m1/a, m1/b landed according to the journal, but are not on it", "git merge"),
        (deleted, "branch-deleted", "was deleted: m1/a, m1/b landed", f"git branch {NAME} "),
        (deleted_with_its_commits, "branch-deleted", "and the commits are gone", "to implement them again"),
    ],
)
def test_a_branch_that_lost_landings_is_explained_and_left_to_a_person(
    landed: Repo, harm: Callable[[Repo], None], kind: str, text: str, todo: str
) -> None:
    tip = landed.git("rev-parse", BRANCH)
    harm(landed)
    code, items = found(landed, "--repair")
    assert code == 4
    assert text in items[kind]["text"]
    assert todo in items[kind]["todo"]
    if items[kind]["todo"].startswith("git branch"):
        landed.git(*items[kind]["todo"].partition(",")[0].split()[1:])
        assert landed.git("rev-parse", BRANCH) == tip
        assert landed.statuses("m1") == {"m1/a": "landed", "m1/b": "landed", "m1/w": "review"}
        return
    landed.doit("milestone:m1").check(4)
    assert {ref for ref, status in landed.statuses("m1").items() if status == "review"} >= {"m1/b", "m1/w"}
    landed.doit("retry", "m1/a", "m1/b").check()
    landed.doit("milestone:m1").check(4)
    assert landed.statuses("m1") == {"m1/a": "landed", "m1/b": "landed", "m1/w": "review"}


def test_a_branch_rewritten_with_its_trailers_is_only_reported(landed: Repo) -> None:
    tree, message = landed.git("rev-parse", f"{BRANCH}^{{tree}}"), landed.git("log", "-1", "--format=%B", BRANCH)
    again = landed.git("commit-tree", "-p", f"{BRANCH}^", "-m", message, tree)
    landed.git("update-ref", BRANCH, again)
    code, items = found(landed, "--repair")
    assert code == 0
    assert (
        "m1/b landed as other commits; git decides; no issue is implemented again" in items["branch-rewritten"]["text"]
    )


def test_an_issue_landed_twice_by_somebody_else_is_reported(landed: Repo) -> None:
    message = re.sub("Result-Key: .*", "Result-Key: other", landed.git("log", "-1", "--format=%B", BRANCH))
    again = landed.git("commit-tree", "-p", BRANCH, "-m", message, f"{BRANCH}^{{tree}}")
    landed.git("update-ref", BRANCH, again)
    code, items = found(landed)
    assert code == 4
    assert "more landings of b than revisions" in items["landed-twice"]["text"]


def receipt_of_nothing(repo: Repo) -> None:
    shutil.copy(receipt(repo, "a"), receipt(repo, "w"))


def receipt_lost(repo: Repo) -> None:
    receipt(repo, "a").unlink()


def receipt_of_another(repo: Repo) -> None:
    shutil.copy(receipt(repo, "b"), receipt(repo, "a"))


def holder(repo: Repo) -> None:
    told = {"pid": 1, "host": "elsewhere", "since": "2020-01-01T00:00:00.000Z", "run": "x", "born": "1"}
    repo.write(".cache/m1/holder.json", json.dumps(told))


def git_lock(repo: Repo) -> None:
    repo.write(f".git/{BRANCH}.lock", "")


def half_slot(repo: Repo) -> None:
    (repo.path / ".cache" / "m1" / "workspaces" / "0" / "tree.index").unlink()


def gone_slot(repo: Repo) -> None:
    shutil.rmtree(repo.path / ".cache" / "m1" / "workspaces" / "0" / "tree")


def ref_lost(repo: Repo) -> None:
    repo.git("update-ref", "-d", "refs/attempts/m1/w/1")


def cache_shown(repo: Repo) -> None:
    repo.write(".cache/.gitignore", "")
    repo.write(".gitignore", "")


@pytest.mark.parametrize(
    ("harm", "kind", "code", "text", "done"),
    [
        (receipt_of_nothing, "receipt-stray", 1, "no commit on the branch", "receipt removed"),
        (receipt_lost, "receipt-missing", 0, "it has landed, but has no receipt", "receipt written"),
        (receipt_of_another, "receipt-wrong", 1, "its receipt names another commit", "receipt written"),
        (holder, "holder-stale", 1, "process 1 on elsewhere held it since 20", "forgotten"),
        (git_lock, "git-lock", 1, f"{BRANCH}.lock: left by a killed git process", f"removed {BRANCH}.lock"),
        (half_slot, "slot-broken", 1, "its tree folder has no index", "removed; it is created again"),
        (gone_slot, "slot-broken", 1, "its tree folder is gone", "removed; it is created again"),
        (ref_lost, "result-ref-missing", 1, "is no longer under refs/attempts/m1/w/1", "refs/attempts/m1/w/1 is"),
        (cache_shown, "cache-not-ignored", 1, "git does not ignore it", ".cache/.gitignore rewritten"),
    ],
)
def test_what_is_safe_to_mend_is_mended_and_nothing_else_happens(
    landed: Repo, harm: Callable[[Repo], None], kind: str, code: int, text: str, done: str
) -> None:
    before = landed.git("for-each-ref")
    harm(landed)
    seen = landed.git("for-each-ref")
    first, items = found(landed)
    assert (first, set(items)) == (code, {kind})
    assert text in items[kind]["text"]
    assert items[kind]["repairable"]
    assert landed.git("for-each-ref") == seen
    second, items = found(landed, "--repair")
    assert second == 0
    assert done in items[kind]["done"]
    assert items[kind]["level"] == "mended"
    assert found(landed) == (0, {})
    assert landed.git("for-each-ref") == before


def result_gone(repo: Repo) -> None:
    commit = repo.git("rev-parse", "refs/attempts/m1/w/1")
    repo.git("update-ref", "-d", "refs/attempts/m1/w/1")
    (repo.path / ".git" / "objects" / commit[:2] / commit[2:]).unlink()


def misnamed(repo: Repo) -> None:
    repo.git("update-ref", "refs/attempts/m1/odd", "main")


def users_lock(repo: Repo) -> None:
    repo.write(".git/index.lock", "")


def tracked(repo: Repo) -> None:
    repo.git("add", "-f", ".cache/m1/receipts/a.json")


def clock_back(repo: Repo) -> None:
    later = time.time() + 7200
    os.utime(repo.path / ".cache" / "m1" / "journal.000001.jsonl", (later, later))


def corrupt(repo: Repo) -> None:
    path = repo.path / ".cache" / "m1" / "journal.000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"attempt-started", b"attempt-stArted", 1))


def newer(repo: Repo) -> None:
    path = repo.path / ".cache" / "m1" / "journal.000001.jsonl"
    path.write_bytes(b'{"n":1,"v":99,"t":"x"}\n')


def unknown_tool(repo: Repo) -> None:
    repo.write("rules/checks.toml", '[check.odd]\nrun = ["no-such-tool"]\nversion = ["no-such-tool", "--version"]\n')
    repo.write("rules/routes.toml", '[route.core]\nchecks = ["odd"]\n')
    repo.milestone("m2", issue("x", "true", type="core"))


def unknown_agent(repo: Repo) -> None:
    repo.write("rules/agents.toml", '[agent.odd]\ncommand = ["no-such-agent"]\nisolation = "none"\n')
    repo.milestone("m2", issue("x", agent="odd"))


def faulty(repo: Repo) -> None:
    repo.milestone("m2", issue("x", "true", prioroty="P0"))


def no_repository(repo: Repo) -> None:
    shutil.rmtree(repo.path / ".git")


def bare_repository(repo: Repo) -> None:
    shutil.copytree(repo.path / ".git", repo.path, symlinks=True, dirs_exist_ok=True)
    no_repository(repo)


def no_place_for_the_cache(repo: Repo) -> None:
    shutil.rmtree(repo.path / ".cache")
    repo.write(".cache", "")


def no_base(repo: Repo) -> None:
    repo.milestone("m2", 'base = "nowhere"\n' + issue("x", "true"))


def no_commit(repo: Repo) -> None:
    for ref in repo.git("for-each-ref", "--format=%(refname)").splitlines():
        repo.git("update-ref", "-d", ref)


def own_agent(repo: Repo, rules: str, program: str = "true") -> None:
    path = repo.write("../agent", f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    asked = f'command = ["{path}"]\nversion = ["{path}", "--version"]\n'
    repo.write("rules/agents.toml", f"[agent.odd]\n{asked}{rules}")
    repo.milestone("m2", issue("x", agent="odd"))


def broken_agent(repo: Repo) -> None:
    own_agent(repo, 'isolation = "none"\n', "echo no licence; exit 3")


def agent_without_login(repo: Repo) -> None:
    own_agent(repo, 'isolation = "none"\nlogin = ["$NO_SUCH_KEY", "/nonexistent/auth"]\n')


@pytest.mark.parametrize(
    ("harm", "kind", "code", "text", "todo"),
    [
        (result_gone, "result-lost", 4, "ref and commit are gone; the next run implements it again", "git gc"),
        (
            misnamed,
            "attempt-misnamed",
            4,
            "refs/attempts/m1/odd is not an attempt",
            "git update-ref -d refs/attempts/m1/odd",
        ),
        (
            users_lock,
            "git-lock-users",
            4,
            "a git process is running, or was killed",
            "when no git process is running: rm ",
        ),
        (tracked, "cache-tracked", 4, "1 of its files are tracked by git", "git rm -r -q --cached .cache"),
        (clock_back, "clock-back", 4, "but the journal of m1 was written at", "set the clock"),
        (corrupt, "journal-broken", 74, "journal.000001.jsonl", "doit repair m1"),
        (newer, "journal-broken", 74, "runs of m1 are refused", "newer version"),
        (unknown_tool, "tool-missing", 4, "its tool is not on PATH, needed by m2/x", "install it"),
        (unknown_agent, "agent-missing", 4, "no-such-agent is not on PATH, needed by m2/x", "install no-such-agent"),
        (faulty, "declaration", 3, 'unknown key "prioroty"', ""),
        (no_repository, "repository", 3, "is not in a git repository; run `git init`", ""),
        (bare_repository, "repository", 3, "is a bare repository, expected a checkout with milestones/", ""),
        (no_place_for_the_cache, "cache-broken", 74, ".cache cannot be written (File exists)", ""),
        (no_base, "declaration", 3, 'branch "nowhere" does not exist; branches here: main, milestone/m1-test-m1', ""),
        (no_commit, "state", 4, "the repository has no commits, but milestone m1 starts from", ""),
        (broken_agent, "agent-broken", 4, "--version ended with exit 3: no licence, needed by m2/x", "find out why"),
        (
            agent_without_login,
            "agent-login",
            4,
            "no sign that it can log in, needed by m2/x",
            "set NO_SUCH_KEY or log in (/nonexistent/auth)",
        ),
    ],
)
def test_what_a_person_has_to_do_is_said_with_the_exit_code_for_it(
    landed: Repo, harm: Callable[[Repo], None], kind: str, code: int, text: str, todo: str
) -> None:
    harm(landed)
    got, items = found(landed, "--repair")
    assert (got, set(items)) == (code, {kind})
    assert text in items[kind]["text"]
    assert todo in items[kind]["todo"]


@pytest.mark.parametrize(
    ("script", "kind", "text", "todo"),
    [
        ("", "git-missing", "git is not on PATH", "install git 2.38 or newer"),
        ("#!/bin/sh\nexit 3", "git-broken", "/git does not report its version (exit 3)", "install git 2.38 or newer"),
        ("#!/bin/sh\necho hello", "git-broken", "/git does not report its version (exit 0)", "find out why"),
        ("#!/nonexistent/sh", "git-broken", "/git does not start: No such file or directory", "find out why"),
        (
            '#!/bin/sh\ntest "$1" = version && echo git version 2.37.4 || exec {git} "$@"',
            "git-old",
            "version 2.37.4 is too old, expected 2.38 or newer (merge-tree --write-tree)",
            "install a newer git",
        ),
    ],
)
def test_a_git_that_will_not_do_is_reported(
    landed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, kind: str, text: str, todo: str
) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    if script:
        (folder / "git").write_text(script.replace("{git}", str(shutil.which("git"))) + "\n", encoding="utf-8")
        (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}" if kind == "git-old" else str(folder))
    code, items = found(landed)
    assert (code, set(items)) == (4, {kind})
    assert text in items[kind]["text"]
    assert todo in items[kind]["todo"]


def test_another_module_of_our_name_is_found(landed: Repo) -> None:
    landed.write("executor.py", "")
    # `python -m doit` puts the current folder first and then cannot start; our own program does not.
    ours = [sys.executable, "-P", "-m", "executor", "doctor", "--json"]
    done = subprocess.run(ours, cwd=landed.path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 4, done.stderr
    items = {item["kind"]: item for item in json.loads(done.stdout)}
    assert str(landed.path / "executor.py") in items["package-foreign"]["text"]


def test_too_little_room_on_the_disk_is_reported(original: Repo, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 20) as disk:
        repo = Repo.__new__(Repo)
        repo.path = disk / "repo"
        shutil.copytree(original.path, repo.path, symlinks=True)
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 500_000))
        code, items = found(repo)
        assert (code, set(items)) == (75, {"disk-low"})
        assert "0 MiB free, at least 1 are needed; no attempt starts until" in items["disk-low"]["text"]
        assert "doit gc" in items["disk-low"]["todo"]
        (disk / "ballast").unlink()
        assert found(repo) == (0, {})


def test_a_cache_on_a_network_file_system_is_reported(landed: Repo, tmp_path: Path) -> None:
    """The kernel's table of mounts is covered by one in which everything is on NFS."""
    table = tmp_path / "mounts"
    mounts = f"sed 's/ - [^ ]* / - nfs4 /' /proc/$$/mountinfo > {table}; mount --bind {table} /proc/$$/mountinfo"
    done = doit_after(mounts, landed, "doctor", "--json").check(4)
    told = {item["kind"]: item for item in done.json if item["kind"] != "ok"}
    assert set(told) == {"cache-remote"}
    assert told["cache-remote"]["text"] == "it is on a file system (nfs4) where locks may not exclude a second machine"
    assert found(landed) == (0, {})


@pytest.mark.parametrize(
    ("isolation", "then"),
    [
        ("auto", "their work waits for a person instead of landing"),
        ("bwrap", 'agents with isolation = "bwrap" are not started'),
    ],
)
def test_a_machine_without_the_sandbox_that_agents_want_is_reported(landed: Repo, isolation: str, then: str) -> None:
    own_agent(landed, f'isolation = "{isolation}"\n')
    bwrap = shutil.which("bwrap")
    cover = f"mount --bind /dev/null {bwrap}" if bwrap is not None else ":"
    done = doit_after(cover, landed, "doctor", "--json").check(4)
    told = {item["kind"]: item for item in done.json if item["kind"] != "ok"}
    assert set(told) == {"sandbox-missing"}
    assert told["sandbox-missing"]["text"] == f"bubblewrap (bwrap) is not installed, needed by agent odd; {then}"
    assert told["sandbox-missing"]["todo"].startswith("install bubblewrap")


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_a_sandbox_that_does_not_hold_is_reported_with_what_gets_out_of_it(landed: Repo, tmp_path: Path) -> None:
    own_agent(landed, 'isolation = "auto"\n')
    bwrap, leaky, real = shutil.which("bwrap"), tmp_path / "leaky", tmp_path / "real"
    leaky.write_text(f'#!/bin/sh\nshift\nexec {real} --unshare-all --share-net "$@"\n', encoding="utf-8")
    leaky.chmod(0o755)
    cover = f"cp {bwrap} {real}; mount --bind {leaky} {bwrap}"
    done = doit_after(cover, landed, "doctor", "--json").check(4)
    told = [item for item in done.json if item["kind"] != "ok"]
    assert {item["kind"] for item in told} == {"sandbox-broken"}
    assert "a network connection to the machine can be made" in " ".join(item["text"] for item in told)
    code, items = found(landed)
    assert (code, items) == (0, {})


def test_an_attempt_that_was_cut_off_is_reported_and_the_next_run_goes_on(landed: Repo, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    again = f"test -e {flag} && echo c > c || {{ touch {flag}; sleep 60; }}"
    landed.milestone("m1", issue("a", "echo a > a") + issue("c", again))
    run = landed.start("milestone:m1")
    while not flag.exists():
        time.sleep(0.02)
    run.kill()
    run.communicate()
    code, items = found(landed, "--repair")
    assert code == 0
    assert items["attempt-cut-off"]["text"].startswith("attempt 1 was cut off; the next run keeps its partial result")
    assert items["holder-stale"]["done"] == "forgotten"
    landed.doit("milestone:m1").check()
    assert "attempt-cut-off" not in found(landed)[1]


def test_a_result_that_is_gone_is_made_again(landed: Repo) -> None:
    result_gone(landed)
    landed.doit("milestone:m1").check(4)
    assert landed.git("show", "refs/attempts/m1/w/2:Dockerfile") == "w"


def test_what_only_git_knows_and_what_nobody_declares_is_reported_and_kept(landed: Repo) -> None:
    landed.git("update-ref", "refs/attempts/m1/a/7", "main")
    landed.git("update-ref", "refs/attempts/gone/a/1", "main")
    landed.milestone("m1", issue("a", "echo a > a"))
    code, items = found(landed, "--repair")
    assert code == 0
    assert "attempt 7 is under refs/attempts/m1/a/7" in items["attempt-from-git"]["text"]
    assert "for example refs/attempts/gone/a/1; they are kept" in items["attempt-stray"]["text"]
    assert "no longer declared; its work stays on the branch" in items["undeclared"]["text"]
    assert "refs/attempts/gone/a/1" in landed.attempts()


def test_a_damaged_branch_is_reported_and_stops_nothing(landed: Repo) -> None:
    (landed.path / ".git/refs/heads/torn").touch()
    code, items = found(landed)
    assert code == 0
    assert items["ref-damaged"]["text"].startswith("refs/heads/torn holds no commit")
    assert landed.doit("list").check().out


def test_a_worktree_that_is_gone_is_reported(landed: Repo, tmp_path: Path) -> None:
    landed.git("worktree", "add", "-q", str(tmp_path / "other"), NAME)
    shutil.rmtree(tmp_path / "other")
    code, items = found(landed)
    assert (code, items["worktree-gone"]["text"]) == (
        0,
        f"{tmp_path}/other is gone, but git still considers its branch checked out",
    )
    assert items["worktree-gone"]["todo"] == "git worktree prune"
    (landed.path / ".git/worktrees/other/locked").touch()
    assert found(landed)[1]["worktree-gone"]["todo"].startswith(f"git worktree unlock {tmp_path}/other")


def test_a_milestone_being_run_is_left_alone(landed: Repo, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    landed.milestone("m1", issue("a", "echo a > a") + issue("c", f"touch {flag}; sleep 60; echo c > c"))
    run = landed.start("milestone:m1")
    try:
        while not flag.exists():
            time.sleep(0.02)
        code, items = found(landed, "--repair")
        assert (code, set(items)) == (0, {"running", "holder-stale"} & set(items) | {"running"})
    finally:
        run.terminate()
        run.communicate()
    code, items = found(landed)
    assert "holder-stale" not in items


def test_without_a_cache_there_is_nothing_to_complain_about(landed: Repo) -> None:
    shutil.rmtree(landed.path / ".cache")
    assert found(landed)[0] == 0


def test_people_read_in_lines_what_is_wrong_and_what_mends_it(landed: Repo) -> None:
    receipt_of_another(landed)
    out = landed.doit("doctor").check(1).out
    assert re.search(
        r"^problem  m1/a +its receipt names another commit .* \(doit doctor --repair\)$", out, re.MULTILINE
    )
    assert out.endswith("`doit doctor --repair` repairs the findings marked with it\n")
    out = landed.doit("doctor", "--repair").check(0).out
    assert re.search(
        r"^mended +m1/a +its receipt names another commit .*: receipt written from its commit$", out, re.MULTILINE
    )


def test_a_forge_without_a_token_or_at_its_limit_is_reported(landed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    landed.write("rules/forge.toml", 'kind = "gitlab"\nbase_url = "https://git.example.org"\nrepository = "a/b"\n')
    landed.git("remote", "add", "origin", "https://git.example.org/a/b.git")
    for name in ("GITLAB_TOKEN", "GL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    code, items = found(landed)
    assert (code, set(items)) == (4, {"forge-token"})
    assert items["forge-token"]["text"].startswith("no token for git.example.org: set GITLAB_TOKEN; ")
    monkeypatch.setenv("GITLAB_TOKEN", "secret")
    monkeypatch.setenv("XDG_CACHE_HOME", str(landed.path / ".cache" / "user"))
    Budget.of("https://git.example.org", "secret", writes_per_minute=1).after({}, 3000.0)
    code, items = found(landed)
    assert (code, set(items)) == (75, {"forge-limit"})
    assert "nothing is sent until" in items["forge-limit"]["text"]
