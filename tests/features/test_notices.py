"""One message for each change that needs a person, over a real webhook, real mail and a command, once over each."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.sinks import Mail, Webhook, serving
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Iterator

PRINTED = "gh" + "p_0123456789abcdefghijABCDEFGHIJ012345"


@pytest.fixture
def hook() -> Iterator[Webhook]:
    server = Webhook()
    with serving(server):
        yield server


def notify(repo: Repo, url: str, more: str = "") -> None:
    repo.write("rules/notify.toml", f'[notify.hook]\nurl = "{url}"\n{more}')


def mixed(repo: Repo) -> None:
    """One issue of every outcome."""
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.milestone(
        "m1",
        issue("a", "echo a > a")
        + issue("b", "exit 3", title="Break <!channel> @everyone")
        + issue("c", "echo x > LICENSE")
        + issue("d", "echo d > d", needs=["b"]),
    )


def test_each_change_that_needs_a_person_is_reported_once_over_all_runs(repo: Repo, hook: Webhook) -> None:
    mixed(repo)
    notify(repo, hook.url)
    repo.doit("milestone:m1").check(1)
    assert sorted(hook.titles()) == ["m1/b failed", "m1/c waits for a person"]
    told = next(message["message"] for message in hook.got if message["title"] == "m1/b failed")
    assert told.startswith("m1/b: Break ‹!channel› ＠everyone\n")  # noqa: RUF001  (what makes it harmless)
    assert "\nnext: doit retry m1/b\nmore: doit log m1/b\nevent: m1/b:attempt-failed:" in told
    repo.doit("milestone:m1").check(1)
    assert len(hook.got) == 2
    repo.doit("retry", "m1/b").check()
    repo.doit("milestone:m1").check(1)
    assert sorted(hook.titles()) == ["m1/b failed", "m1/b failed", "m1/c waits for a person"]


def test_a_complete_and_a_released_milestone_are_reported_once(repo: Repo, hook: Webhook) -> None:
    notify(repo, hook.url)
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.commit("declare")
    repo.doit("milestone:m1").check()
    repo.doit("issue:m1/a").check()
    assert hook.titles() == ["m1 is complete"]
    repo.doit("release:m1").check()
    repo.doit("release:m1").check()
    assert hook.titles() == ["m1 is complete", "m1 is released"]
    assert "its issue has landed on milestone/m1-test-m1\n" in hook.got[0]["message"]


def test_what_was_not_delivered_is_a_note_and_is_reported_by_the_next_run(repo: Repo, hook: Webhook) -> None:
    mixed(repo)
    notify(repo, hook.url)
    hook.status = 500
    run = repo.doit("milestone:m1").check(1)
    assert run.out.count("note: notification hook: not delivered") == 1
    assert hook.got == []
    hook.status = 200
    repo.doit("milestone:m1").check(1)
    assert sorted(hook.titles()) == ["m1/b failed", "m1/c waits for a person"]


def test_a_run_that_is_killed_tells_nothing_twice_and_forgets_nothing(repo: Repo, hook: Webhook) -> None:
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.milestone("m1", issue("a", "exit 3", priority="P0") + issue("b", "sleep 60", priority="P3"))
    notify(repo, hook.url)
    journal = repo.path / ".cache" / "m1" / "journal.000001.jsonl"
    run = repo.start("milestone:m1")
    end = time.monotonic() + 30
    while not journal.exists() or '"notified"' not in journal.read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
    run.kill()
    run.communicate(timeout=30)
    repo.milestone("m1", issue("a", "exit 3", priority="P0") + issue("b", "exit 4", priority="P3"))
    for _ in range(3):
        repo.doit("milestone:m1").check(1)
    assert sorted(hook.titles()) == ["m1/a failed", "m1/b failed"]


def test_a_run_that_is_killed_before_it_could_tell_leaves_it_to_the_next(repo: Repo, hook: Webhook) -> None:
    ready = repo.path.parent / "ready"
    repo.write("rules/limits.toml", "attempts = 1\n")
    wait = issue("b", f"touch {ready}; sleep 60", priority="P3")
    repo.milestone("m1", issue("a", "exit 3", priority="P0") + wait)
    notify(repo, hook.url)
    hook.status = 500
    run = repo.start("milestone:m1")
    end = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    run.kill()
    run.communicate(timeout=30)
    hook.status = 200
    repo.doit("issue:m1/a").check(1)
    repo.doit("issue:m1/a").check(1)
    assert hook.titles() == ["m1/a failed"]


def test_mail_is_sent(repo: Repo) -> None:
    server = Mail()
    with serving(server):
        mixed(repo)
        notify(repo, server.url)
        repo.doit("milestone:m1").check(1)
        repo.doit("milestone:m1").check(1)
    assert sorted(server.titles()) == ["m1/b failed", "m1/c waits for a person"]
    assert str(server.got[0]["To"]).endswith("me@example.org")


def test_a_command_is_given_the_text_and_inert_words(repo: Repo) -> None:
    out = repo.path.parent / "told"
    script = repo.write("tell.sh", f'#!/bin/sh\n{{ printf "%s|" "$@"; echo "$NOTICE_KIND"; cat; }} >> {out}\n')
    script.chmod(0o755)
    repo.write(
        "rules/notify.toml",
        f"[notify.script]\ncommand = {json.dumps([str(script), '{title}', '--kind={kind}'])}\n"
        'events = ["failed", "skipped"]\n',
    )
    mixed(repo)
    repo.doit("milestone:m1").check(1)
    told = out.read_text()
    assert told.startswith("m1/b failed|--kind=failed|failed\nm1/b: Break ‹!channel›")  # noqa: RUF001
    assert told.count("|") == 2


def test_a_command_that_fails_hangs_or_is_not_there_never_fails_the_run(repo: Repo) -> None:
    repo.write(
        "rules/notify.toml",
        '[notify.absent]\ncommand = ["/no/such"]\n'
        '[notify.hangs]\ncommand = ["sleep", "60"]\ntimeout = 0.2\n'
        '[notify.wrong]\ncommand = ["sh", "-c", "echo no >&2; exit 3"]\n',
    )
    repo.milestone("m1", issue("a", "echo a > a"))
    run = repo.doit("milestone:m1").check()
    assert "note: notification absent: /no/such cannot be run: No such file or directory; the next run" in run.out
    assert "note: notification hangs: sleep did not end within 0.2 s; the next run" in run.out
    assert "note: notification wrong: sh ended with 3: no; the next run" in run.out


def test_secrets_come_from_the_environment_and_are_in_no_message_and_no_note(
    repo: Repo, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", PRINTED)
    repo.write("rules/agents.toml", '[agent.script]\nenv = ["HOOK_TOKEN"]\n')
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.milestone("m1", issue("a", 'echo "$HOOK_TOKEN" >&2; exit 3', title=f"Use {PRINTED}"))
    notify(repo, hook.url + "${HOOK_TOKEN}")
    hook.status = 500
    run = repo.doit("milestone:m1").check(1)
    assert "note: notification hook: not delivered" in run.out
    assert PRINTED not in run.out.split("note: ", 1)[1]
    hook.status = 200
    repo.doit("milestone:m1").check(1)
    assert PRINTED not in json.dumps(hook.got)
    assert hook.got[0]["message"].startswith("m1/a: Use [redacted]\n")
    monkeypatch.delenv("HOOK_TOKEN")
    repo.doit("retry", "m1/a").check()
    assert "the environment variable HOOK_TOKEN is not set" in repo.doit("milestone:m1").check(1).out


def test_a_blocker_is_reported_and_not_again_by_the_next_run(repo: Repo, hook: Webhook) -> None:
    notify(repo, hook.url)
    repo.write("rules/limits.toml", "long_s = 0.6\n")
    repo.milestone("m1", issue("a", "echo a > a; sleep 1.2") + issue("b", "echo b > b"))
    repo.doit("milestone:m1").check(4)
    assert hook.titles() == ["m1 pauses: long"]
    repo.write("rules/limits.toml", "")  # the other issue may take its time
    repo.doit("milestone:m1").check()
    assert hook.titles() == ["m1 pauses: long", "m1 is complete"]


IN_CLEAR = "expected no password in the file; write ${NAME} and set the environment variable NAME"
PLACES = "known are {body}, {event}, {issue}, {kind}, {milestone}, {title}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "notify.x: expected either a url, a command or a plugin"),
        ('url = "json://x"\ncommand = ["y"]', "notify.x: expected either a url, a command or a plugin"),
        ('url = "mailtos://me:secret@example.org"', f"notify.x.url: {IN_CLEAR}"),
        ('command = ["y", "{titel}"]', f'notify.x.command: unknown placeholder in "{{titel}}"; {PLACES}'),
    ],
)
def test_a_wrong_channel_is_refused(repo: Repo, text: str, problem: str) -> None:
    repo.write("rules/notify.toml", f"[notify.x]\n{text}\n")
    repo.milestone("m1", issue("a", "echo a > a"))
    assert repo.doit("milestone:m1").check(3).err == f"rules/notify.toml: {problem}\n"
