"""`--until`: nothing is begun that cannot end in time, and a run that only time holds up says so with its exit code."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.support import issue

if TYPE_CHECKING:
    from tests.support import Repo


def in_minutes(minutes: float) -> str:
    """A date and a time by the local clock."""
    return (datetime.now().astimezone() + timedelta(minutes=minutes)).isoformat(timespec="seconds")


def test_nothing_is_begun_that_is_not_expected_to_end_in_time(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a") + issue("b", "echo b > b", needs=["a"]))
    run = repo.doit("milestone:m1", "--until", in_minutes(5)).check(75)
    assert "pending   m1/a not started: expected to take " in run.out
    assert "but 5 min are left until " in run.out
    assert repo.statuses() == {"m1/a": "pending", "m1/b": "blocked"}
    assert repo.attempts() == []


def test_after_the_deadline_nothing_is_begun(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    run = repo.doit("issue:m1/a", f"--until={in_minutes(-1)}").check(75)
    assert "not started: no issue starts after " in run.out


def test_with_time_enough_it_lands(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1", "--until", in_minutes(600)).check()
    assert repo.statuses() == {"m1/a": "landed"}


def test_past_durations_tell_what_can_end_in_time(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check()
    repo.milestone("m1", issue("a", "echo a > a") + issue("b", "echo b > b") + issue("c", "echo c > c", size="L"))
    repo.doit("milestone:m1", "--until", in_minutes(2)).check()
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "landed", "m1/c": "landed"}


def test_the_rules_can_declare_the_deadline(repo: Repo) -> None:
    soon = datetime.now().astimezone() + timedelta(minutes=2)
    repo.write("rules/limits.toml", f'deadline = "{soon:%H:%M}"\n')
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check(75)
    repo.doit("milestone:m1", "--until", in_minutes(600)).check()


def test_what_failed_or_waits_for_a_person_counts_more_than_time(repo: Repo) -> None:
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.milestone("m1", issue("a", "exit 1", priority="P0"))
    repo.doit("milestone:m1").check(1)
    repo.milestone("m1", issue("a", "exit 1", priority="P0") + issue("b", "echo b > b"))
    repo.doit("milestone:m1", "--until", in_minutes(-1)).check(1)


def test_a_wrong_deadline_is_refused_before_anything_is_done(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    run = repo.doit("milestone:m1", "--until", "6 o'clock").check(3)
    assert run.err == '--until: expected a time such as 06:00 or 2030-01-31T06:00, found "6 o\'clock"\n'
    repo.write("rules/limits.toml", 'deadline = "25:00"\n')
    run = repo.doit("milestone:m1").check(3)
    assert run.err == 'rules/limits.toml: deadline: expected a time of day such as 06:00, found "25:00"\n'


def test_what_the_deadline_holds_is_not_announced_as_begun_and_is_reported_by_the_status(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a") + issue("b", "echo b > b"))
    run = repo.doit("milestone:m1", "--until", in_minutes(5)).check(75)
    assert "implement" not in run.out
    assert run.out.count("blocker ") == 1
    assert "blocker deadline: m1/a: expected to take " in repo.doit("status").check().out
    repo.doit("milestone:m1").check()
    assert "blocker" not in repo.doit("status").check().out


def test_an_issue_with_steps_says_why_it_is_not_begun(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a", workflow="tdd"))
    run = repo.doit("milestone:m1", "--until", in_minutes(5)).check(75)
    assert "pending   m1/a not started: expected to take " in run.out
    assert "not implemented yet" not in run.out
