"""`doit log` reads like a report; the raw output stays behind --raw."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.support import issue

if TYPE_CHECKING:
    from tests.support import Repo


def used(tool: str, **given: str) -> dict[str, object]:
    return {"type": "assistant", "message": {"content": [{"type": "tool_use", "name": tool, "input": given}]}}


STREAM = [
    {"type": "system", "session_id": "s1"},
    used("Bash", command="pytest -q"),
    used("Bash", command="python - <<'PY'\nprint(1)\nPY"),
    used("Read", file_path="README.md"),
    {
        "type": "assistant",
        "message": {
            "content": [
                {"type": "tool_use", "name": "Read", "input": {"file_path": "README.md"}},
                {"type": "tool_use", "name": "Edit", "input": {"file_path": "/x/.cache/m1/workspaces/0/tree/a.py"}},
            ]
        },
    },
    {
        "type": "result",
        "result": "Added the settings class.\nAll tests pass.",
        "total_cost_usd": 0.42,
        "usage": {"input_tokens": 1200, "cache_read_input_tokens": 300, "output_tokens": 45},
    },
]


def test_the_log_of_a_structured_agent_is_a_report(repo: Repo) -> None:
    repo.write("stream.jsonl", "".join(json.dumps(item) + "\n" for item in STREAM))
    repo.write(
        "rules/agents.toml",
        f'[agent.claude]\nisolation = "none"\nlogin = []\n'
        f'command = ["sh", "-c", "cat {repo.path}/stream.jsonl; echo x > a.py; echo y > b.py"]\nflags = {{}}\n',
    )
    accept = "accept = [{ run = 'test -f a.py' }]\n"
    repo.milestone("m1", f'[[issue]]\nid = "a"\ntitle = "A"\nbody = "x"\nagent = "claude"\n{accept}')
    repo.doit("milestone:m1").check()
    out = repo.doit("log").check().out
    assert "m1/a is landed" in out
    assert re.search(r"attempt 1 by claude began \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+: landed, \d+ s, \$0\.4200, ", out)
    for line in (
        "1,500 tokens read (300 cached), 45 written",
        "  the agent said at its end:\n    Added the settings class.\n    All tests pass.\n",
        "  commands (2):\n    $ pytest -q\n    $ python - <<'PY' ... (3 lines)\n",
        "  files it wrote (1): a.py\n",
        "  files changed (2): a.py, b.py\n",
        "  check test -f a.py: passed in ",
        "complete output: doit log m1/a --attempt 1 --raw",
    ):
        assert line in out
    assert '"type"' not in out
    assert '"session_id": "s1"' in repo.doit("log", "m1/a", "--raw").check().out


def test_the_log_of_a_plain_agent_ends_with_its_last_lines_and_the_failing_check(repo: Repo) -> None:
    run = "for i in $(seq 60); do echo line $i; done; echo $EXECUTOR_ATTEMPT > a"
    repo.milestone("m1", issue("a", run, accept=[{"run": "echo expected 7; exit 4"}]))
    repo.doit("milestone:m1").check(1)
    out = repo.doit("log", "m1/a", "--attempt", "1").check().out
    assert "  the agent printed (the last 40 of 60 lines):\n    line 21\n" in out
    assert "    line 60\n" in out
    assert "line 20\n" not in out
    assert "  check echo expected 7; exit 4: failed in " in out
    assert "    expected 7\n" in out


def test_without_a_name_plan_takes_the_milestone_that_is_meant(repo: Repo) -> None:
    assert "name one issue" in repo.doit("log").check(3).err
    repo.milestone("m1", issue("a", "echo a > a"))
    assert "m1" in repo.doit("plan").check().out
    repo.milestone("m2", issue("a", "echo b > b"))
    assert "there are m1, m2" in repo.doit("plan").check(3).err
    repo.doit("milestone:m1").check()
    assert repo.doit("plan", "--json").check().json["milestone"] == "m2"
    assert (
        repo.doit("log", "--json").check().json["ref"] == repo.doit("explain", "--json").check().json["ref"] == "m1/a"
    )
