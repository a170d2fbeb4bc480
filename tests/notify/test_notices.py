"""Which change makes a message, what it says, and that nothing in it steers a chat."""

from __future__ import annotations

import pytest

from executor.model.outward_rules import Channel, channel_problems
from executor.notify.phase_hook import Notice, event_id, of_completion, of_digest, of_event, of_rest
from executor.state.decide import Act, Decision, Status
from executor.state.events import BlockerFound
from executor.state.fold import Blocker
from executor.state.record import Record

AT = "2026-11-21T01:30:00.000Z"


def rest(status: Status, *rules: str, reason: str = "why", title: str = "Title") -> Notice | None:
    decision = Decision(status, Act.REST, reason, "doit retry m1/a")
    return of_rest("m1/a", title, decision, frozenset(rules), "m1/a:stopped:then")


def event(kind: str, key: str = "", **data: object) -> Record:
    return Record(7, AT, "", "r1", kind, key, data)


@pytest.mark.parametrize(
    ("status", "rules", "kind", "title"),
    [
        (Status.REVIEW, ("secrets",), "review", "m1/a waits for a person"),
        (Status.REVIEW, ("question",), "question", "m1/a asks a question"),
        (Status.FAILED, (), "failed", "m1/a failed"),
        (Status.SKIPPED, ("merge-conflict",), "skipped", "m1/a was skipped"),
    ],
)
def test_an_issue_at_rest_until_a_person_moves_it_makes_a_message(
    status: Status, rules: tuple[str, ...], kind: str, title: str
) -> None:
    found = rest(status, *rules)
    assert found is not None
    assert (found.kind, found.title, found.event) == (kind, title, "m1/a:stopped:then")
    assert found.body == ("m1/a: Title\nwhy\nnext: doit retry m1/a\nmore: doit log m1/a\nevent: m1/a:stopped:then\n")


@pytest.mark.parametrize("status", [Status.LANDED, Status.PENDING, Status.BLOCKED, Status.OPEN, Status.STALE])
def test_any_other_makes_none(status: Status) -> None:
    assert rest(status) is None


@pytest.mark.parametrize(
    ("kind", "pauses", "title"),
    [
        ("disk", True, "m1 pauses: disk"),
        ("red-base", False, "m1 is blocked: red-base"),
        ("limit", False, "m1 is blocked: limit"),
        ("silence", False, "m1 is blocked: silence"),
        ("declaration", False, "m1 is blocked: declaration"),
    ],
)
def test_every_blocker_makes_a_message(kind: str, pauses: bool, title: str | None) -> None:
    blocker = Blocker(kind, "", "x", "why", "do this", pauses)  # type: ignore[arg-type]  # the table has words
    found = of_event("m1", event(BlockerFound.KIND, "", **blocker.data()))
    assert (found.title if found is not None else None) == title
    assert found is None or found.body == f"why\nnext: do this\nevent: m1/:blocker:{AT}\n"


def test_a_release_and_a_completion_make_one_and_other_events_none() -> None:
    released = of_event("m1", event("released", commit="f" * 40, tag="v1"))
    assert released is not None
    assert released.kind == "released"
    assert released.body.startswith("m1 is in its base as ffffffffff, tagged v1\n")
    assert of_event("m1", event("landed", "a")) is None
    complete = of_completion("m1", "One", 3, "milestone/m1-one", "f" * 40)
    assert complete.title == "m1 is complete"
    assert complete.event == f"m1:complete:{'f' * 40}"


def test_an_event_is_called_the_same_when_its_number_changes() -> None:
    one, other = event("stopped", "a"), Record(3, AT, "", "r1", "stopped", "a", {})
    assert event_id("m1", one) == event_id("m1", other) == f"m1/a:stopped:{AT}"


@pytest.mark.parametrize(
    "text",
    ["@everyone", "<!channel>", "<https://example.org|here>", "`code`", "a\nb: c", "\x1b[31m", "\u202e", "x" * 9999],
)
def test_what_others_wrote_is_one_short_inert_line(text: str) -> None:
    found = rest(Status.FAILED, reason=text, title=text)
    assert found is not None
    lines = found.body.splitlines()
    assert len(lines) == 5
    assert not set("@<>`\x1b\u202e\n") & set("".join(lines))
    assert max(map(len, lines)) < 600
    digest = of_digest("r", "t", f"- {text}\n")
    assert not set("@<>`") & set(digest.body)


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("mailtos://me:${MAIL_PASSWORD}@example.org", True),
        ("${WHERE}", True),
        ("json://127.0.0.1:8080/path?from=a@example.org", True),
        ("mailto://127.0.0.1:25?to=me@example.org", True),
        ("mailtos://me:secret@example.org", False),
        ("mailtos://me:x${PART}@example.org", False),
    ],
)
def test_a_password_in_the_file_is_refused(url: str, fine: bool) -> None:
    assert (not channel_problems(Channel(name="x", url=url))) is fine
