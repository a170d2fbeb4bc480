"""Nothing of the user's is overwritten, and no commit of the user's undoes a landing: checkouts of branch and base."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.repositories.shapes import BRANCH, project, sh
from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

AHEAD = "refs/executor/ahead/m1"


@pytest.fixture
def on_branch(tmp_path: Path) -> Repo:
    """The user has the milestone branch checked out."""
    repo = project(tmp_path / "repo")
    sh(repo.path, f"git checkout -q -b {BRANCH}")
    return repo


def more(repo: Repo, name: str, run: str) -> None:
    """Declare one more issue, committed on the branch."""
    path = repo.path / "milestones" / "m1.toml"
    path.write_text(path.read_text() + issue(name, run))
    repo.commit(f"declare {name}")


def test_the_next_commit_of_a_changed_checkout_does_not_undo_what_landed(on_branch: Repo) -> None:
    on_branch.write("README.md", "mine\n")
    out = on_branch.doit("milestone:m1").check(0).out
    assert "cannot follow (it has uncommitted changes)" in out
    assert on_branch.git("status", "--porcelain") == "M README.md"
    assert "branch-behind" in {item["kind"] for item in on_branch.doit("doctor", "--json").json}
    on_branch.git("commit", "-qam", "docs: my edit")
    assert on_branch.statuses() == {"m1/1": "landed", "m1/2": "landed"}
    on_branch.doit("milestone:m1").check(0)
    assert {"one.txt", "two.txt"} <= set(on_branch.git("ls-tree", "--name-only", BRANCH).split())
    assert on_branch.git("show", f"{BRANCH}:README.md") == "mine"
    assert on_branch.git("status", "--porcelain") == ""
    assert on_branch.git("rev-parse", "-q", "--verify", AHEAD, check=False) == ""


def test_work_goes_on_beyond_the_branch_over_several_runs(on_branch: Repo) -> None:
    on_branch.write("README.md", "mine\n")
    on_branch.doit("issue:m1/1").check(0)
    on_branch.doit("milestone:m1").check(0)
    assert on_branch.landed(AHEAD) == ["1@1", "2@1"]
    on_branch.git("checkout", "-q", "--", "README.md")
    on_branch.doit("milestone:m1").check(0)
    assert on_branch.landed(BRANCH) == ["1@1", "2@1"]
    assert (on_branch.path / "two.txt").exists()


def test_a_commit_that_conflicts_with_what_landed_beyond_the_branch_is_a_question(on_branch: Repo) -> None:
    on_branch.write("one.txt", "mine\n")
    on_branch.git("add", "one.txt")
    on_branch.doit("milestone:m1").check(0)
    on_branch.git("commit", "-qm", "mine")
    result = on_branch.doit("milestone:m1").check(4)
    assert f"git merge {AHEAD}" in result.out + result.err
    on_branch.git("merge", "-q", "-X", "ours", "-m", "join", AHEAD)
    on_branch.doit("milestone:m1").check(0)
    assert on_branch.git("show", f"{BRANCH}:one.txt") == "mine"
    assert {"m1/1", "m1/2"} == {ref for ref, status in on_branch.statuses().items() if status == "landed"}


def test_a_staged_revert_is_kept(on_branch: Repo) -> None:
    on_branch.doit("milestone:m1").check(0)
    more(on_branch, "3", "echo three > three.txt")
    sh(on_branch.path, "git revert -n HEAD~1")
    before = on_branch.git("status", "--porcelain")
    on_branch.doit("milestone:m1").check(0)
    assert on_branch.git("status", "--porcelain") == before == "D  two.txt"


@pytest.mark.parametrize("state", ["merge", "cherry-pick", "revert", "rebase"])
def test_an_operation_in_progress_is_left_alone(on_branch: Repo, state: str) -> None:
    sh(on_branch.path, "git checkout -q -b side main; echo a > f; git add f; git commit -q -m f")
    sh(on_branch.path, f"git checkout -q {BRANCH}; echo b > f; git add f; git commit -q -m g; echo c > f")
    sh(on_branch.path, "git commit -q -a -m h")
    words = {"revert": "revert --no-edit HEAD~1"}.get(state, f"{state} side")
    on_branch.git(*words.split(), check=False)
    before = on_branch.git("status", "--porcelain")
    on_branch.doit("milestone:m1").check(0)
    assert on_branch.git("status", "--porcelain") == before
    assert on_branch.landed(AHEAD) == ["1@1", "2@1"]
    if state == "rebase":
        sh(on_branch.path, "echo b > f; git add f; GIT_EDITOR=true git rebase --continue || git rebase --skip")
        assert on_branch.git("symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"


def ignoring(repo: Repo) -> Repo:
    """What the issue writes is ignored by git, and the user has a file of that name."""
    repo.write(".gitignore", ".cache/\n__pycache__/\none.txt\n")
    repo.milestone("m1", issue("1", "echo one > one.txt", files=["one.txt"]))
    repo.commit("ignore")
    repo.write("one.txt", "PRECIOUS\n")
    return repo


def test_an_ignored_file_of_the_users_is_not_overwritten_by_a_landing(on_branch: Repo) -> None:
    out = ignoring(on_branch).doit("milestone:m1").check(0).out
    assert "one.txt would be overwritten" in out
    assert (on_branch.path / "one.txt").read_text() == "PRECIOUS\n"
    (on_branch.path / "one.txt").unlink()
    on_branch.doit("milestone:m1").check(0)
    assert (on_branch.path / "one.txt").read_text() == "one\n"


def test_an_ignored_file_of_the_users_is_not_overwritten_by_a_release(tmp_path: Path) -> None:
    repo = ignoring(project(tmp_path / "repo"))
    repo.doit("milestone:m1").check(0)
    out = repo.doit("release:m1").check(4).out
    assert "one.txt would be overwritten" in out
    assert (repo.path / "one.txt").read_text() == "PRECIOUS\n"
    (repo.path / "one.txt").rename(repo.path / "one.kept")
    repo.doit("release:m1").check(0)
    assert (repo.path / "one.txt").read_text() == "one\n"


def test_an_ignored_file_in_a_folder_that_a_file_replaces_is_kept(on_branch: Repo) -> None:
    on_branch.write("dd/t", "t\n")
    on_branch.write(".gitignore", ".cache/\n__pycache__/\ndd/*.local\n")
    on_branch.milestone("m1", issue("1", "rm -r dd; echo file > dd"))
    on_branch.commit("a folder")
    on_branch.write("dd/x.local", "PRECIOUS\n")
    assert "dd/x.local would be overwritten" in on_branch.doit("milestone:m1").check(0).out
    assert (on_branch.path / "dd/x.local").read_text() == "PRECIOUS\n"


def test_a_file_in_the_place_of_a_folder_is_kept(on_branch: Repo) -> None:
    on_branch.write(".gitignore", ".cache/\n__pycache__/\nout\n")
    on_branch.milestone("m1", issue("1", "mkdir out; echo f > out/f", files=["out/f"]))
    on_branch.commit("ignore")
    on_branch.write("out", "PRECIOUS\n")
    assert "out would be overwritten" in on_branch.doit("milestone:m1").check(0).out
    assert (on_branch.path / "out").read_text() == "PRECIOUS\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_checkout_of_another_owner_is_named_before_anything_is_begun(on_branch: Repo) -> None:
    sh(on_branch.path, "chown -R 12345 .")
    kinds = {item["kind"] for item in on_branch.doit("doctor", "--json").json}
    assert "repository-owner" in kinds
    result = on_branch.doit("milestone:m1").check(4)
    assert "safe.directory" in result.err
    assert not (on_branch.path / ".cache" / "m1" / "logs").exists()


@pytest.mark.parametrize(("what", "workers"), [("-m {} renamed", "1"), ("-D {}", "1"), ("-m {} renamed", "2")])
def test_no_agent_is_begun_once_the_branch_is_gone(tmp_path: Path, what: str, workers: str) -> None:
    """The second agent takes the branch away: its result is kept, and those after it are not begun."""
    path = tmp_path / "repo"
    taken = f"git -C {path} branch -q {what.format(BRANCH)}; echo 2 > f2"
    later = [issue(str(number), f"sleep 1; echo {number} > f{number}", needs=["1"]) for number in (3, 4)]
    repo = project(path, issues="".join([issue("1", "echo 1 > f1"), issue("2", taken, needs=["1"]), *later]))
    out = repo.doit("milestone:m1", "-n", workers).check(4)
    assert "was deleted or renamed during the run" in out.out + out.err
    begun = {folder.name for folder in (repo.path / ".cache" / "m1" / "logs").iterdir()}
    assert begun == {"1", "2"} if workers == "1" else "4" not in begun
    assert repo.git("branch", "--list", BRANCH) == ""
    if "renamed" in what:
        repo.doit("milestone:m1").check(0)
        assert repo.landed("renamed") == ["1@1", "2@1", "3@1", "4@1"]
        made = [len(list(folder.iterdir())) for folder in (repo.path / ".cache" / "m1" / "logs").iterdir()]
        assert made == [1, 1, 1, 1], "nobody is paid twice"


def test_a_checkout_that_git_takes_for_bare_is_named_before_anything_is_begun(tmp_path: Path) -> None:
    """It could not follow its branch, and its next commit would undo what landed."""
    repo = project(tmp_path / "repo")
    repo.git("config", "core.bare", "true")
    assert "repository-bare" in {item["kind"] for item in repo.doit("doctor", "--json").json}
    assert "core.bare false" in repo.doit("milestone:m1").check(4).err
    assert not (repo.path / ".cache" / "m1" / "logs").exists()
    repo.git("config", "core.bare", "false")
    repo.doit("plan", "m1").check(0)


def test_an_empty_branch_follows_its_base(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo", issues=issue("1", "echo one > one.txt", checks=["mine"]))
    repo.write("rules/checks.toml", '[check.mine]\nrun = "test -f fixed"\nsabotage = "off"\n')
    repo.commit("a check that fails")
    repo.doit("milestone:m1").check(4)
    repo.write("fixed", "")
    repo.commit("repair the base")
    assert repo.statuses() == {"m1/1": "pending"}
    repo.doit("milestone:m1").check(0)
    assert repo.git("merge-base", "main", BRANCH) == repo.git("rev-parse", "main")


def test_a_base_that_was_amended_is_followed_as_long_as_nothing_landed(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo", issues=issue("1", "false") + issue("2", "cat secret > out; true"))
    repo.write("secret", "token\n")
    repo.commit("a secret")
    repo.doit("issue:m1/1").check(1)
    old = repo.git("rev-parse", BRANCH)
    repo.write("secret", "nothing\n")
    repo.git("commit", "-qa", "--amend", "-m", "no secret")
    repo.doit("issue:m1/2").check(0)
    assert repo.git("show", f"{BRANCH}:out") == "nothing"
    assert old not in repo.git("rev-list", BRANCH).split()


def test_a_needed_milestone_that_was_released_meanwhile_is_seen(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo")
    repo.milestone("m2", 'needs = ["m1"]\n' + issue("1", "cp one.txt copy.txt"))
    repo.commit("declare")
    repo.git("branch", "milestone/m2-test-m2")
    repo.doit("milestone:m1").check(0)
    repo.doit("release:m1").check(0)
    repo.doit("milestone:m2").check(0)
    assert repo.git("show", "milestone/m2-test-m2:copy.txt") == "one"


def test_a_branch_in_the_way_of_the_name_is_named_before_anything_is_begun(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo")
    repo.git("branch", "milestone")
    out = repo.doit("milestone:m1").check(4).out
    assert 'branch "milestone" conflicts' in out
    assert repo.statuses() == {"m1/1": "blocked", "m1/2": "blocked"}
    repo.git("branch", "-m", "milestone", "mine")
    repo.doit("milestone:m1").check(0)


def signing(repo: Repo, form: str, environment: pytest.MonkeyPatch) -> None:
    """Have git sign by a key without a passphrase, and accept what it signs."""
    home = repo.path.parent
    if form == "ssh":
        sh(home, "ssh-keygen -q -t ed25519 -N '' -C tester -f key; echo tester@example.org $(cat key.pub) > allowed")
        sh(repo.path, f"git config gpg.ssh.allowedSignersFile {home}/allowed; git config user.signingkey {home}/key")
    else:
        (home / "gnupg").mkdir(mode=0o700)
        environment.setenv("GNUPGHOME", str(home / "gnupg"))
        quiet = "gpg --batch --quiet --pinentry-mode loopback --passphrase ''"
        sh(home, f"{quiet} --quick-gen-key 'Tester <tester@example.org>' default default never")
    sh(repo.path, f"git config gpg.format {form}; git config commit.gpgsign true; git config tag.gpgsign true")


@pytest.mark.parametrize(("form", "tool"), [("ssh", "ssh-keygen"), ("openpgp", "gpg")])
def test_landings_and_the_release_are_signed_where_git_is_to_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, tool: str
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not here")
    repo = project(tmp_path / "repo", extra='tag = "v1"\n')
    signing(repo, form, monkeypatch)
    repo.doit("milestone:m1").check(0)
    repo.doit("release:m1").check(0)
    before = "HEAD^1"
    assert set(repo.git("log", "--format=%G?", f"{before}..main").split()) <= {"G", "U"}
    assert len(repo.git("log", "--format=%h", f"{before}..main").split()) == 3, "two landings and the release"
    repo.git("tag", "-v", "v1")


def test_a_key_that_would_ask_is_refused_before_anything_is_begun(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo", extra='tag = "v1"\n')
    repo.git("config", "tag.gpgsign", "true")
    repo.git("config", "gpg.format", "ssh")
    assert "unsigned" in {item["kind"] for item in repo.doit("doctor", "--json").json}
    assert "user.signingkey is not set" in repo.doit("plan", "m1", "--json").check(4).json["obstacles"][0]
    if shutil.which("ssh-keygen"):
        sh(tmp_path, "ssh-keygen -q -t ed25519 -N 'a passphrase' -C tester -f key")
        repo.git("config", "user.signingkey", str(tmp_path / "key"))
    assert "unsigned_landing" in repo.doit("milestone:m1").check(4).err
    repo.git("config", "gpg.ssh.program", str(tmp_path / "evil"))
    assert "gpg.ssh.program is set by the repository" in repo.doit("milestone:m1").check(4).err
    repo.write("rules/limits.toml", 'backoff_s = 0.0\nunsigned_landing = "allow"\n')
    repo.doit("plan", "m1").check(0)
    repo.doit("milestone:m1").check(0)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not here")
def test_a_key_that_goes_away_during_the_run_costs_no_second_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    repo = project(
        tmp_path / "repo",
        issues=issue("1", f"mv {key} {key}.away; echo 1 > f1") + issue("2", "echo 2 > f2"),
    )
    signing(repo, "ssh", monkeypatch)
    out = repo.doit("milestone:m1").check(4)
    assert "cannot sign" in out.out + out.err
    assert [folder.name for folder in (repo.path / ".cache" / "m1" / "logs").iterdir()] == ["1"]
    (tmp_path / "key.away").rename(key)
    repo.doit("milestone:m1").check(0)
    assert sorted(repo.landed(BRANCH)) == ["1@1", "2@1"]
    assert len(list((repo.path / ".cache" / "m1" / "logs" / "1").iterdir())) == 1
    assert set(repo.git("log", "--format=%G?", f"main..{BRANCH}").split()) == {"G"}


def test_a_red_branch_with_landings_is_reported_that_its_base_may_have_the_repair(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo", issues=issue("1", "echo one > one.txt"))
    repo.doit("milestone:m1").check(0)
    repo.write("rules/checks.toml", '[check.mine]\nrun = "test -f fixed"\nsabotage = "off"\n')
    repo.milestone("m1", issue("1", "echo one > one.txt") + issue("2", "echo two > two.txt", checks=["mine"]))
    repo.commit("a check that fails on the branch")
    assert "`git merge main` on it" in repo.doit("milestone:m1").check(4).out
