"""The demonstration of the README lands in full on this very repository, and shows its loop."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support import CHECKOUT, Repo

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demonstration_lands_and_shows_its_loop(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo")
    kept = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, kept.split("\0")):
        source = CHECKOUT / name
        if source.is_file():
            (repo.path / name).parent.mkdir(parents=True, exist_ok=True)
            (repo.path / name).write_bytes(source.read_bytes())
    repo.commit("this repository")

    out = repo.doit("milestone:quickstart", "-n", "4").check().out

    assert "6 landed" in out
    assert out.count("failed") == 1, "one issue fails its check at first, so that the loop is seen"
    page = repo.git("show", "milestone/quickstart-tour:tour/index.html")
    assert page.count("<img") + page.count("<svg") == 2
    assert "nothing to do" in repo.doit("milestone:quickstart").check().out
