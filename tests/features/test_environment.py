"""What an agent is given of our environment, and what it can find of it by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import issue

if TYPE_CHECKING:
    from tests.support import Repo

BRANCH = "milestone/m1-test-m1"
CANARY = "canary-of-the-forge-7f3a9"


def test_no_forge_token_and_no_ssh_agent_reach_an_agent_or_a_check(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "SSH_AUTH_SOCK", "GIT_ASKPASS", "AWS_SECRET_ACCESS_KEY")
    for name in names:
        monkeypatch.setenv(name, CANARY)
    look = f"env | grep -c -e {CANARY} -e {' -e '.join(names)} > a || true"
    repo.milestone("m1", issue("a", look, accept=[{"run": f"! env | grep {CANARY}"}]))
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:a") == "0"


@pytest.mark.skipif(
    os.getuid() == 0 and shutil.which("setpriv") is None, reason="setpriv is needed to be less than root"
)
def test_an_agent_cannot_read_the_environment_of_the_processes_above_it(repo: Repo) -> None:
    """Root may read everything; root without capabilities is like everybody else."""
    look = (
        "CONTROL=control-value sleep 30 & sleep 0.2; "
        "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; cat $p/maps; done 2>/dev/null > all; kill $!; "
        f"grep -c {CANARY} all > found; grep -c control-value all > control; rm all; true"
    )
    repo.milestone("m1", issue("a", look))
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*drop, sys.executable, "-m", "doit", "milestone:m1"],
        cwd=repo.path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**repo.environment(), "FORGE_TOKEN": CANARY},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert repo.git("show", f"{BRANCH}:control") != "0"
    assert repo.git("show", f"{BRANCH}:found") == "0"


def test_nothing_that_is_kept_has_a_value_that_a_profile_passes_on(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = "made-up-0123456789abcdef"
    monkeypatch.setenv("MODEL_KEY", canary)
    repo.write(
        "rules/agents.toml",
        '[agent.talker]\ncommand = ["sh", "-c", "{run}"]\nenv = ["MODEL_KEY"]\nisolation = "none"\n',
    )
    repo.write("rules/routes.toml", '[route.core]\nreviewer = "critic"\nchecks = ["report"]\n')
    finding = [{"description": f"uses {canary}", "score": 99, "file": f"{canary}.py", "line": 1}]
    repo.write("answer.json", json.dumps(finding))
    with (repo.path / "rules" / "agents.toml").open("a") as file:
        run = f"cp {repo.path}/answer.json $EXECUTOR_OUT/findings.json"
        file.write(f'[agent.critic]\ncommand = ["sh", "-c", "{run}"]\nisolation = "none"\n')
    case = f'<testsuite><testcase name="{canary}"><failure/></testcase></testsuite>'
    fine = '<testsuite><testcase name="x"/></testsuite>'
    judge = repo.write("judge.sh", f"if test -e ok; then echo '{fine}' > $1; else echo '{case}' > $1; exit 1; fi\n")
    repo.write("rules/checks.toml", f'[check.report]\nrun = "sh {judge} {{report}}"\n')
    repo.write("ok", "")
    repo.commit("ok")
    tell = (
        'printf \'{"deviations": ["used %s"]}\' $MODEL_KEY > $EXECUTOR_OUT/report.json; '
        "echo $MODEL_KEY > $EXECUTOR_OUT/handoff.md; ln -s /etc/passwd $EXECUTOR_OUT/link; mkfifo $EXECUTOR_OUT/pipe; "
        "echo $MODEL_KEY; "
    )
    body = issue("good", tell + "echo 1 > good", checks=[]) + issue(
        "named", tell + "echo 1 > $MODEL_KEY.txt", checks=[]
    )
    body += issue("red", tell + "rm ok; exit 0", type="core") + issue("read", tell + "echo 1 > read", type="core")
    body += issue("broken", tell + "ln -s /$MODEL_KEY $MODEL_KEY", checks=[])
    repo.milestone("m1", body.replace('agent = "script"', 'agent = "talker"'))
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {
        "m1/good": "landed",
        "m1/named": "review",
        "m1/red": "failed",
        "m1/read": "review",
        "m1/broken": "failed",
    }
    inside = [
        path
        for path in (repo.path / ".cache").rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and "workspaces" not in path.parts
        and canary.encode() in path.read_bytes()
    ]
    assert inside == []
    assert canary not in repo.git("log", "--all", "--format=%B")
    for command in ("status", "log", "explain"):
        for name in ("good", "red", "read", "broken"):
            shown = repo.doit(command, *([] if command == "status" else [f"m1/{name}"]))
            assert canary not in shown.out + shown.err
    assert "[redacted]" in repo.doit("approve", "m1/read", "--show").check().out
