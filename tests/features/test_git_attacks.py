"""Whatever an agent writes into its repository's configuration, hooks, attributes: our git never runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

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
        "include.path",
        "maintenance.auto",
        "receive.fsckObjects",
    ),
)
HOOKS = (
    *("pre-commit", "post-commit", "commit-msg", "prepare-commit-msg", "post-checkout", "post-merge", "pre-push"),
    *("reference-transaction", "post-index-change", "fsmonitor-watchman", "pre-auto-gc", "post-rewrite", "update"),
)


EVENTS = ("pre-commit", "post-checkout", "post-index-change", "reference-transaction", "prepare-commit-msg")
"""Events for which a git of 2.54 or newer runs commands from its configuration, too."""
NAIVE = (
    *("status", "add --all", "diff", "diff --cached", "commit -m x", "commit -m x --allow-empty -S", "checkout -b y"),
    *("log -p --ext-diff", "show --textconv", "merge other", "rebase other", "stash", "gc --auto", "commit --amend"),
    *("push . HEAD:refs/heads/z", "fetch origin", "push origin HEAD", "interpret-trailers --trailer evil=x note"),
    *("clone . ../copy", "submodule update --init", "request-pull HEAD ."),
)
"""What somebody would do in an agent's tree who thinks nothing of it."""
LEAST = 14
"""How many kinds of payload such a git runs at least; the number that an experiment found with git 2.39.5."""


@pytest.fixture(params=["", *filter(None, [os.environ.get("EXECUTOR_GIT")])], ids=lambda folder: folder or "installed")
def git(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The git that is installed, and another one in the folder that EXECUTOR_GIT names."""
    if request.param:
        monkeypatch.setenv("PATH", f"{request.param}:{os.environ['PATH']}")


def poisons(fired: Path) -> dict[str, str]:
    """Kind of payload -> shell that plants it in the repository it stands in.

    What is run leaves a file with the name of its kind in the folder `fired`.
    """

    def payload(kind: str) -> str:
        return f"touch {fired}/{kind}; cat"

    attributes = (
        "printf '* filter=evil diff=evil merge=evil\\n' | tee .gitattributes .git/info/attributes > /dev/null; "
        "git config core.attributesFile $PWD/.gitattributes"
    )
    found = {}
    for key in KEYS:
        found[key] = f"git config {key} '{payload(key)}'"
        if key.split(".")[0] in {"filter", "diff", "merge"}:
            found[key] += f"; {attributes}"
    for event in EVENTS:
        found[f"hook-{event}"] = (
            f"git config hook.evil-{event}.command '{payload(f'hook-{event}')}'; "
            f"git config hook.evil-{event}.event {event}"
        )
    for hook in HOOKS:
        script = f"printf '#!/bin/sh\\n{payload(hook)}\\n' > .git/hooks/{hook}"
        found[hook] = f"mkdir -p .git/hooks; {script}; chmod +x .git/hooks/{hook}"
    found["include.path"] = (
        f"printf '[core]\\n\\tfsmonitor = {payload('include.path')}\\n' > evil.cfg; "
        "printf '[include]\\n\\tpath = ../evil.cfg\\n' >> .git/config"
    )
    found["core.hooksPath"] = (
        f"mkdir -p hooks; printf '#!/bin/sh\\n{payload('core.hooksPath')}\\n' > hooks/post-checkout; "
        "chmod +x hooks/post-checkout; git config core.hooksPath hooks"
    )
    found["submodule.evil.update"] = (
        f'printf \'[submodule "evil"]\\n\\tpath = sub\\n\\turl = ext::sh -c touch% {fired}/submodule.evil.update\\n'
        f"\\tupdate = !{payload('submodule.evil.update')}\\n' > .gitmodules"
    )
    return found


@pytest.mark.usefixtures("git")
def test_a_hostile_repository_in_the_tree_has_no_effect(repo: Repo) -> None:
    fired = repo.path.parent / "fired"
    fired.mkdir()
    evil = "\n".join([*poisons(fired).values(), "echo result > result.txt"])
    allowed = ["large-diff", "dependency-change", "protected-files"]
    body = issue("evil", evil, allow=allowed) + 'accept = [{ run = "test -e result.txt" }]\n'
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
    ran = {path.name for path in fired.iterdir()}
    assert repo.snapshot() == before
    assert repo.git("show", "milestone/m1-test-m1:result.txt") == "result\nmore"
    assert ran == set()


@pytest.mark.campaign
@pytest.mark.usefixtures("git")
def test_the_same_payloads_would_have_hurt_a_naive_git(tmp_path: Path) -> None:
    """Each one in a repository of its own, so that none keeps another one from being run."""
    fired, plain = tmp_path / "fired", tmp_path / "plain"
    fired.mkdir()
    plain.mkdir()
    who = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@x", "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@x"}
    env = {**os.environ, **who, "GIT_ALLOW_PROTOCOL": "file:ext", "EDITOR": "true"}
    begin = (
        "git init -q .; git commit -q --allow-empty -m start; git branch other; git remote add origin $PWD; echo > note"
    )
    subprocess.run(["sh", "-ec", begin], cwd=plain, check=True, env=env)
    for kind, plant in poisons(fired).items():
        tree = tmp_path / kind / "tree"
        shutil.copytree(plain, tree)
        naive = "; ".join(f"git {command}" for command in NAIVE)
        told = f"exec < /dev/null > /dev/null 2>&1; {plant}; rm -f {fired}/{kind}; echo result > result.txt; {naive}"
        subprocess.run(["sh", "-c", told], cwd=tree, check=False, timeout=30, env=env)
    ran = sorted(path.name for path in fired.iterdir())
    assert len(ran) >= LEAST, ran
