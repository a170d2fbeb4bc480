"""A milestone of the kiro way from one paragraph: phases, roadmap to declaration, batches side by side, release.

The agents of the two issues of the first batch wait for each other: one after the other they would fail.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import CHECKOUT

if TYPE_CHECKING:
    from tests.support import Repo

BRIEF_AGENT = f"{shlex.quote(sys.executable)} -I {Path(__file__).with_name('brief_agent.py')}"
AGENT = """sample() {
  [ -e @beside@/sampled ] || return 0
  (cd @repo@ && PYTHONPATH=@code@ @python@ -m doit watch m1 --once --json > @beside@/sampled/$1.json)
}
case $EXECUTOR_STEP$EXECUTOR_ISSUE in spec.contracts*|task.breakdown*|1) sample ${EXECUTOR_STEP:-issue};; esac
case $EXECUTOR_STEP in
"") touch @beside@/at-work-$EXECUTOR_ISSUE
case $EXECUTOR_ISSUE in 1) other=2;; 2) other=1;; *) other=$EXECUTOR_ISSUE;; esac
tries=0; until [ -e @beside@/at-work-$other ] || [ $tries -gt 600 ]; do tries=$((tries + 1)); sleep 0.1; done
[ $tries -le 600 ] || exit 9
echo $EXECUTOR_ISSUE > $EXECUTOR_ISSUE.txt; exit;;
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
    beside = repo.path.parent
    places = {"beside": beside, "repo": repo.path, "code": CHECKOUT, "python": shlex.quote(sys.executable)}
    text = AGENT
    for name, place in places.items():
        text = text.replace(f"@{name}@", str(place))
    script.write_text(text + BRIEF_AGENT + "\n")
    if roadmap == "auto":
        (beside / "sampled").mkdir()
    repo.write(
        "milestones/m1.toml",
        f'[milestone]\nid = "m1"\ntitle = "Test m1"\ngoal = "Workers have settings."\nworkflow = "kiro"\n'
        f'roadmap = "{roadmap}"\n[defaults]\nagent = "script"\nwith = {{ run = "sh {script}" }}\n',
    )
    repo.commit("declare")
    if roadmap == "ask":
        out = repo.doit("milestone:m1", "-n", "2").check(4).out
        assert "m1: the roadmap declares 3 issues in milestones/m1.toml; review them, then doit milestone:m1" in out
        item = repo.doit("status", "--json").json["milestones"][0]
        assert item["percent"] == 60
        states = [(phase["name"], phase["state"], phase["percent"]) for phase in item["phases"]]
        assert states == [*((name, "done", 100) for name in ("design", "spec", "task")), ("execute", "running", None)]
        assert "m1: design done 100 %, spec done 100 %, task done 100 %, execute 0 of 3" in repo.doit("status").out
        assert repo.statuses() == {"m1/plan": "landed", "m1/1": "pending", "m1/2": "pending", "m1/3": "blocked"}
    repo.doit("milestone:m1", "-n", "2").check()
    assert set(repo.statuses().values()) == {"landed"}
    if roadmap == "auto":
        seen = {
            path.stem: json.loads(path.read_text())["milestones"][0]["percent"] for path in beside.glob("sampled/*")
        }
        sample = json.loads((beside / "sampled/spec.contracts.json").read_text())["milestones"][0]
        assert [phase["state"] for phase in sample["phases"]["m1"]] == ["done", "running", "waiting", "waiting"]
        assert 15 <= seen["spec.contracts"] < 40
        assert 40 <= seen["task.breakdown"] < 60
        assert 60 <= seen["issue"] < 100
    assert repo.doit("status", "--json").json["milestones"][0]["percent"] == 100
    landed = repo.landed("milestone/m1-test-m1")
    assert landed[0] == "plan@1"
    assert landed[-1] == "3@1"
    names = repo.git("ls-tree", "-r", "--name-only", "milestone/m1-test-m1").split()
    assert "docs/plans/m1/task.roadmap/roadmap.json" in names
    assert "docs/plans/m1/design.gate/validation.json" in names
    repo.commit("the roadmap's issues")
    repo.doit("release:m1").check()
