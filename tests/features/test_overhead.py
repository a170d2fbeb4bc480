"""What an issue costs beside its agent and its checks: processes of git, which are the same on every machine."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from typing import TYPE_CHECKING

from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support import Repo

MOST = 9
"""Three checkouts, a search of manifests, a look at what the agent left, two for its tree, two moves of refs."""


def test_a_landing_starts_few_processes_of_git(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"i{number}" for number in range(6)]
    repo.milestone(
        "m1", "".join(issue(name, f"echo {name} > {name}", accept=[{"run": f"test -f {name}"}]) for name in names)
    )
    repo.commit("declare")
    log, wrapper = tmp_path / "calls", tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec {shutil.which("git")} "$@"\n')
    wrapper.chmod(0o755)
    environment = {**repo.environment(), "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    monkeypatch.setattr(repo, "environment", lambda: environment)
    repo.doit("milestone:m1", "-n", "1").check()
    calls = log.read_text().splitlines()
    landings = [place for place, call in enumerate(calls) if re.match(r"update-ref -m land m1/i\d ", call)]
    assert len(landings) == len(names)
    for begin, end in itertools.pairwise(landings[1:]):  # the first ones start the helpers
        assert end - begin <= MOST, calls[begin + 1 : end + 1]
