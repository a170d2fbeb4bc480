"""Our own git directories find objects as the user's repository does."""

from __future__ import annotations

import os
import stat
from hashlib import sha1
from itertools import count
from typing import TYPE_CHECKING

import pytest

from executor.git.clones import Missing, neutral_config
from executor.git.command import find_repository
from executor.git.objects import Store
from tests.repositories.shapes import clone, project, sh

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "repositoryformatversion = 0"),
        ({"remote.backup.url": "https://example.org/sha256/objectformat.git"}, "repositoryformatversion = 0"),
        ({"core.sharedRepository": "group"}, "sharedRepository = group"),
        ({"core.sharedRepository": "0660"}, "sharedRepository = 0660"),
        ({"core.fsmonitor": "evil", "filter.x.clean": "evil", "core.hooksPath": "evil"}, "bare = false"),
    ],
)
def test_the_configuration_has_what_decides_about_objects_and_nothing_else(
    tmp_path: Path, settings: dict[str, str], expected: str
) -> None:
    repo = project(tmp_path / "repo")
    for key, value in settings.items():
        repo.git("config", key, value)
    text = neutral_config(find_repository(repo.path))
    assert expected in text
    assert "evil" not in text
    assert "objectFormat" not in text


def blob_id(data: bytes) -> str:
    return sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()


def test_objects_are_shared_with_the_group_as_the_repository_says(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo")
    repo.git("config", "core.sharedRepository", "group")
    before = os.umask(0o022)
    try:
        store = Store(find_repository(repo.path), tmp_path / "store")
        # into a folder that git has not made before with other rights
        there = {path.name for path in (repo.path / ".git" / "objects").iterdir()}
        data = next(text for number in count() if blob_id(text := b"content %d\n" % number)[:2] not in there)
        name = store.write("blob", data)
        store.close()
    finally:
        os.umask(before)
    folder = repo.path / ".git" / "objects" / name[:2]
    assert folder.stat().st_mode & stat.S_IWGRP


def test_the_end_of_a_shallow_history_is_followed_when_it_moves(tmp_path: Path) -> None:
    origin = project(tmp_path / "origin")
    origin.commit("more")
    repo = clone(tmp_path, "--depth=1", of=origin.path)
    store = Store(find_repository(repo.path), tmp_path / "store")
    tip, root = repo.git("rev-parse", "HEAD"), origin.git("rev-list", "--max-parents=0", "HEAD")
    assert store.whole(tip, store.write("tree", b""))
    sh(repo.path, "git fetch -q --unshallow")
    assert store.tree_of(f"{tip}~2") == store.tree_of(root)
    store.close()


def test_what_a_partial_clone_lacks_is_fetched_at_once(tmp_path: Path) -> None:
    repo = clone(tmp_path, "--filter=tree:0", "--no-checkout")
    missing = Missing(find_repository(repo.path))
    assert missing.remote == "origin"
    assert missing.fill([repo.git("rev-parse", "HEAD")])
    assert not missing.fill([repo.git("rev-parse", "HEAD")])
    assert not Missing(find_repository(project(tmp_path / "plain").path)).remote
