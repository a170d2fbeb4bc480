"""Whatever an agent writes into its repository's configuration, hooks, attributes: our git never runs it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

KEYS = (
    *(
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "core.askPass",
        "core.gitProxy",
        "core.hooksPath",
    ),
    *("diff.external", "diff.evil.command", "diff.evil.textconv", "filter.evil.clean", "filter.evil.smudge"),
    *("filter.evil.process", "merge.evil.driver", "mergetool.evil.cmd", "difftool.evil.cmd", "gpg.program"),
    *("gpg.ssh.program", "gpg.x509.program", "credential.helper", "sequence.editor", "interactive.diffFilter"),
    *("pager.status", "pager.diff", "pager.log", "uploadpack.packObjectsHook", "gc.recentObjectsHook", "alias.status"),
    *(
        "trailer.evil.command",
        "trailer.evil.cmd",
        "remote.origin.uploadpack",
        "remote.origin.receivepack",
        "web.browser",
    ),
    *(
        "sendemail.toCmd",
        "submodule.evil.update",
        "hook.evil.command",
        "include.path",
        "maintenance.auto",
        "receive.fsckObjects",
    ),
)
HOOKS = (
    *("pre-commit", "post-commit", "commit-msg", "prepare-commit-msg", "post-checkout", "post-merge", "pre-push"),
    *("reference-transaction", "post-index-change", "fsmonitor-watchman", "pre-auto-gc", "post-rewrite", "update"),
)


def poison(marker: Path) -> str:
    """Shell that fills the repository it stands in with everything that git could be made to run."""
    payload = f"touch {marker}; cat"
    lines = [f"git config {key} '{payload}'" for key in KEYS if key not in {"include.path", "core.hooksPath"}]
    lines += [
        "git config filter.evil.required true",
        "git config commit.gpgSign true",
        "git config core.attributesFile $PWD/.gitattributes",
        "mkdir -p .git/hooks .git/info",
        *(f"printf '#!/bin/sh\\n{payload}\\n' > .git/hooks/{hook}; chmod +x .git/hooks/{hook}" for hook in HOOKS),
        "printf '* filter=evil diff=evil merge=evil\\n' | tee .gitattributes .git/info/attributes > /dev/null",
        "printf '[include]\\n\\tpath = ../evil.cfg\\n' >> .git/config",
        f"printf '[core]\\n\\tfsmonitor = {payload}\\n' > evil.cfg",
        (
            f'printf \'[submodule "evil"]\\n\\tpath = sub\\n\\turl = ext::sh -c touch% {marker}\\n'
            f"\\tupdate = !{payload}\\n' > .gitmodules"
        ),
        "echo result > result.txt",
    ]
    return "\n".join(lines)


def test_a_hostile_repository_in_the_tree_has_no_effect(repo: Repo) -> None:
    marker = repo.path.parent / "fired"
    body = (
        issue("evil", poison(marker), allow=["large-diff", "dependency-change"])
        + 'accept = [{ run = "test -e result.txt" }]\n'
    )
    after = issue("after", "echo more >> result.txt", needs=["evil"]) + 'accept = [{ run = "true" }]\n'
    repo.milestone("m1", body + after)
    before = repo.snapshot()
    repo.doit("milestone:m1").check()
    for command in (
        ("list",),
        ("status",),
        ("explain", "m1/evil"),
        ("log", "m1/evil"),
        ("verify", "m1", "--force"),
        ("gc",),
    ):
        repo.doit(*command).check()
    assert not marker.exists()
    assert repo.snapshot() == before
    assert repo.git("show", "milestone/m1-test-m1:result.txt") == "result\nmore"


def test_the_same_repository_would_have_hurt_a_naive_git(tmp_path: Path) -> None:
    marker = tmp_path / "fired"
    tree = tmp_path / "tree"
    subprocess.run(["git", "init", "-q", tree], check=True)
    subprocess.run(["sh", "-c", poison(marker)], cwd=tree, check=False, capture_output=True)
    marker.unlink(missing_ok=True)
    fired = []
    for command in ("status", "add --all", "diff", "commit -m x", "checkout -b y"):
        subprocess.run(["git", *command.split()], cwd=tree, check=False, capture_output=True, timeout=20)
        fired.append(marker.exists())
        marker.unlink(missing_ok=True)
    assert sum(fired) >= 3
