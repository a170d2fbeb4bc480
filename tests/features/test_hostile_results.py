"""What an agent leaves is looked at before git is: what cannot land is named, costs one attempt, and harms nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import issue

if TYPE_CHECKING:
    from tests.support import Repo

BRANCH = "milestone/m1-test-m1"
GOOD = issue("good", "echo good > good")
HOSTILE = {
    "mkfifo pipe; rm keep; mkfifo keep": "keep is neither a file nor a link",
    "ln -s /etc/passwd link": "link is a link that leads out of the tree",
    "ln -s ../../outside link": "link is a link that leads out of the tree",
    "mkdir d; ln -s ../.git/config d/link": "d/link is a link that leads out of the tree",
    "ln -s .git/hooks hooks": "hooks is a link that leads out of the tree",
    "git init -q inner; echo x > inner/x": "inner/ is a git repository inside the tree; only files can land",
    "mkdir inner; echo 'gitdir: ../.git' > inner/.git; echo x > inner/x": "inner/ is a git repository inside the tree",
    "mkdir -p sub/.GIT; echo x > sub/.GIT/config": "changed nothing",
    "mkdir -p sub/GIT~1; echo x > sub/GIT~1/config": "changed nothing",
    "head -c 3000 /dev/zero > large": "large is too large",
    "for i in 1 2 3 4 5 6; do head -c 900 /dev/zero > f$i; done": "or all changes together are",
    "for i in $(seq 30); do echo $i > f$i; done": "more than 25 files changed",
}


@pytest.mark.parametrize("script", HOSTILE)
def test_what_cannot_land_is_named_and_the_rest_goes_on(repo: Repo, script: str) -> None:
    repo.write("keep", "kept\n")
    repo.commit("a file")
    repo.write("rules/limits.toml", "import_files = 25\nimport_file_bytes = 2000\nimport_bytes = 5000\nattempts = 1\n")
    repo.milestone("m1", issue("bad", script, allow=["large-diff"]) + GOOD)
    before = repo.snapshot()
    out = repo.doit("milestone:m1").check(1).out
    assert HOSTILE[script] in out
    assert repo.statuses() == {"m1/bad": "failed", "m1/good": "landed"}
    assert repo.snapshot() == before


@pytest.mark.parametrize(
    ("mode", "content", "reason"),
    [
        ("160000", "Subproject commit " + "1" * 40, "is a separate repository (submodule)"),
        ("120000", "/etc/passwd", "is a link that leads out of the tree"),
    ],
)
def test_a_patch_is_looked_at_too(repo: Repo, mode: str, content: str, reason: str) -> None:
    ending = "" if mode == "160000" else "\\ No newline at end of file\n"
    patch = (
        f"diff --git a/x b/x\nnew file mode {mode}\nindex 0000000..1111111\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n"
        f"+{content}\n{ending}"
    )
    repo.write("milestones/m1/a.patch", patch)
    options: dict[str, Any] = {"agent": "patch", "with": {"file": "m1/a.patch"}}
    repo.milestone("m1", issue("a", **options) + GOOD)
    out = repo.doit("milestone:m1").check(1).out
    assert reason in out
    assert repo.landed(BRANCH) == ["good@1"]


def test_links_inside_the_tree_land(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "mkdir d; echo x > d/x; ln -s d/x one; ln -s ../d/x d/two; ln -s nowhere three"))
    repo.doit("milestone:m1").check()
    assert repo.git("ls-tree", "-r", "--name-only", BRANCH, "--", "one", "d/two", "three") == "d/two\none\nthree"
