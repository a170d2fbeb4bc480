"""A milestone of the kiro way from one paragraph: phases, roadmap to declaration, batches, release."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support import Repo

BRIEF_AGENT = f"{shlex.quote(sys.executable)} -I {Path(__file__).with_name('brief_agent.py')}"
AGENT = """case $EXECUTOR_STEP in
"") echo $EXECUTOR_ISSUE > $EXECUTOR_ISSUE.txt; exit;;
task.breakdown) cat > $EXECUTOR_OUT/tasks.json <<'J'
{"tasks": [
 {"id": "1", "title": "Settings", "spec": "The class.", "estimate_hours": 3, "accept": [{"file": "1.txt"}]},
 {"id": "2", "title": "Reader", "spec": "Read it.", "estimate_hours": 1, "accept": ["It reads"]},
 {"id": "3", "title": "Guide", "spec": "Tell it.", "estimate_hours": 30}]}
J
exit;;
task.dependencies) echo '{"dependencies": {"3": ["1"]}, "critical_path": ["1", "3"]}' \
 > $EXECUTOR_OUT/dependencies.json; exit;;
task.roadmap) echo '{"batches": [["1", "2"], ["3"]], "gates": [{"after_batch": 1, "run": "ls *.txt"}]}' \
 > $EXECUTOR_OUT/roadmap.json; exit;;
esac
exec """


@pytest.mark.parametrize("roadmap", ["ask", "auto"])
def test_a_paragraph_becomes_a_released_milestone(repo: Repo, roadmap: str) -> None:
    script = repo.path.parent / "agent.sh"
    script.write_text(AGENT + BRIEF_AGENT + "\n")
    repo.write(
        "milestones/m1.toml",
        f'[milestone]\nid = "m1"\ntitle = "Test m1"\ngoal = "Workers have settings."\nworkflow = "kiro"\n'
        f'roadmap = "{roadmap}"\n[defaults]\nagent = "script"\nwith = {{ run = "sh {script}" }}\n',
    )
    repo.commit("declare")
    if roadmap == "ask":
        out = repo.doit("milestone:m1", "-n", "2").check(4).out
        assert "m1: the roadmap declares 3 issues in milestones/m1.toml; look at them, then doit milestone:m1" in out
        assert repo.doit("status", "--json").json["milestones"][0]["percent"] == 60
        assert repo.statuses() == {"m1/plan": "landed", "m1/1": "pending", "m1/2": "pending", "m1/3": "blocked"}
    repo.doit("milestone:m1", "-n", "2").check()
    assert set(repo.statuses().values()) == {"landed"}
    assert repo.doit("status", "--json").json["milestones"][0]["percent"] == 100
    landed = repo.landed("milestone/m1-test-m1")
    assert landed[0] == "plan@1"
    assert landed[-1] == "3@1"
    names = repo.git("ls-tree", "-r", "--name-only", "milestone/m1-test-m1").split()
    assert "docs/plans/m1/task.roadmap/roadmap.json" in names
    assert "docs/plans/m1/design.gate/validation.json" in names
    repo.commit("the roadmap's issues")
    repo.doit("release:m1").check()
