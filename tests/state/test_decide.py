from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.git.trailers import Landing, Trailers
from executor.state.decide import Act, Cause, Decision, Facts, Need, Status, decide
from executor.state.model import Attempt, AttemptState, IssueState, Proof, Refusal, Stop

REF = "m4/4.3"
NEED = Need("m4/4.1", Status.LANDED, "r1")
OTHER = Need("m4/4.2", Status.LANDED, "r2")
WAITING = replace(NEED, status=Status.PENDING, result_key="")
AGAIN = replace(NEED, status=Status.STALE)
LANDED = Landing("0123456789abcdef", "tree", 0, 0, Trailers("m4", "4.3", 1, "s1", "result", "k1"))
PROOF = Proof("k1", {"m4/4.1": "r1"}, 1)
REFUSAL = Refusal("k2", {"m4/4.1": "r1"}, 1, "tests failed", "output")
RUN = f"doit issue:{REF}"
RETRY = f"doit retry {REF}"


def facts(state: IssueState | None = None, **changes: Any) -> Facts:
    given: dict[str, Any] = {
        "ref": REF,
        "spec_key": "s1",
        "check_key": "k1",
        "needs": (NEED,),
        "held_by": "",
        "landing": None,
        "accepted": frozenset(),
        "proof": None,
        "state": state or IssueState(),
        "attempts": 3,
    }
    return Facts(**{**given, **changes})


def landed(state: IssueState | None = None, **changes: Any) -> Facts:
    return facts(state, **{"landing": LANDED, "proof": PROOF, **changes})


def attempts(*items: Attempt, **more: Any) -> IssueState:
    return IssueState(attempts={item.number: item for item in items}, **more)


def failed(number: int, print_: str = "", **more: Any) -> Attempt:
    fields: dict[str, Any] = {"revision": 1, "spec_key": "s1", "reason": f"reason {number}", **more}
    return Attempt(number, state=AttemptState.FAILED, print=print_, **fields)


def built(number: int, **more: Any) -> Attempt:
    return Attempt(number, **{"revision": 1, "spec_key": "s1", "state": AttemptState.BUILT, "commit": "c", **more})


def interrupted(number: int) -> Attempt:
    return Attempt(number, 1, "s1", state=AttemptState.INTERRUPTED)


def stopped(level: str, spec: str = "s1") -> Stop:
    return Stop(level, "merge-conflict", "a clash in a.py", spec, 1)


def refused(*items: Attempt, **changes: Any) -> IssueState:
    return attempts(*items, refusal=replace(REFUSAL, **changes))


FIRST = attempts(replace(built(1), state=AttemptState.LANDED))


@pytest.mark.parametrize(
    ("given_facts", "status", "act", "more"),
    [
        # Not landed yet.
        pytest.param(
            facts(),
            Status.PENDING,
            Act.IMPLEMENT,
            {
                "reason": "not implemented yet",
                "hint": RUN,
                "attempt": 1,
                "revision": 1,
                "cause": Cause("spec", "", "s1"),
            },
            id="ready",
        ),
        pytest.param(facts(needs=()), Status.PENDING, Act.IMPLEMENT, {"hint": RUN}, id="ready, needs nothing"),
        pytest.param(
            facts(needs=(WAITING, OTHER)),
            Status.BLOCKED,
            Act.REST,
            {
                "reason": "needs m4/4.1 (pending)",
                "hint": "doit issue:m4/4.1",
                "cause": Cause("status of m4/4.1", "", "pending"),
            },
            id="a need has not landed",
        ),
        pytest.param(
            facts(needs=(OTHER, replace(WAITING, status=Status.FAILED), replace(WAITING, ref="m4/4.0"))),
            Status.BLOCKED,
            Act.REST,
            {"reason": "needs m4/4.1 (failed), m4/4.0 (pending)", "hint": "doit issue:m4/4.1"},
            id="several needs have not landed, all are named",
        ),
        pytest.param(facts(needs=(AGAIN,)), Status.BLOCKED, Act.REST, {}, id="a need is stale"),
        pytest.param(
            facts(held_by="waits for milestone m3", needs=(WAITING,)),
            Status.BLOCKED,
            Act.REST,
            {"reason": "waits for milestone m3", "hint": ""},
            id="the milestone is held, which is said first",
        ),
        pytest.param(
            facts(attempts(built(1))),
            Status.OPEN,
            Act.JUDGE,
            {"attempt": 1, "hint": RUN, "reason": "attempt 1 has a result that is not yet verified and landed"},
            id="a built attempt is judged",
        ),
        pytest.param(
            facts(attempts(built(1), built(2))), Status.OPEN, Act.JUDGE, {"attempt": 2}, id="the latest built attempt"
        ),
        pytest.param(
            facts(attempts(built(1)), spec_key="s2"),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 2, "revision": 1},
            id="a built attempt at another spec is left alone",
        ),
        pytest.param(
            facts(attempts(built(1), forgiven=1)),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 2},
            id="a built attempt before the retry is left alone",
        ),
        pytest.param(
            facts(attempts(failed(1), built(2))), Status.OPEN, Act.JUDGE, {"attempt": 2}, id="built after a failure"
        ),
        pytest.param(
            facts(attempts(failed(1, "p"))),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 2, "reason": "attempt 1 failed (reason 1); trying again"},
            id="one failure: again",
        ),
        pytest.param(
            facts(attempts(failed(1, "p"), failed(2, "q"))),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 3, "reason": "attempt 2 failed (reason 2); trying again"},
            id="two different failures: again",
        ),
        pytest.param(
            facts(attempts(failed(1, "p"), failed(2, "q"), failed(3, "r"))),
            Status.FAILED,
            Act.REST,
            {"reason": "3 of 3 attempts failed: reason 3", "hint": RETRY, "attempt": 3},
            id="attempts exhausted",
        ),
        pytest.param(facts(attempts(failed(1)), attempts=1), Status.FAILED, Act.REST, {}, id="only one is allowed"),
        pytest.param(
            facts(attempts(failed(1, "p"), failed(2, "q"), failed(3, "r")), attempts=4),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 4},
            id="more are allowed now",
        ),
        pytest.param(
            facts(attempts(failed(1, "p"), failed(2, "p"))),
            Status.FAILED,
            Act.REST,
            {"reason": "failed the same way twice: reason 2", "hint": RETRY},
            id="the same failure twice fails early",
        ),
        pytest.param(
            facts(attempts(failed(1, "p"), failed(2, "q"), failed(3, "p")), attempts=9),
            Status.PENDING,
            Act.IMPLEMENT,
            {},
            id="the same failure, but not twice in a row",
        ),
        pytest.param(
            facts(attempts(failed(1), failed(2))), Status.PENDING, Act.IMPLEMENT, {}, id="failures without fingerprint"
        ),
        pytest.param(
            facts(attempts(failed(1, "p"), interrupted(2), failed(3, "p"))),
            Status.FAILED,
            Act.REST,
            {},
            id="the same failure twice with an interruption between them",
        ),
        pytest.param(
            facts(attempts(*map(interrupted, range(1, 6)), failed(6, "p"), interrupted(7), failed(8, "q"))),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 9},
            id="interrupted attempts do not count",
        ),
        pytest.param(
            facts(attempts(Attempt(1, 1, "s1"))),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 2},
            id="started, nothing more",
        ),
        pytest.param(
            facts(attempts(failed(1, "p"), failed(2, "p"), forgiven=2)),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 3, "reason": "not implemented yet"},
            id="retried",
        ),
        pytest.param(
            facts(attempts(failed(1, "p"), failed(2, "p"), failed(3, "p"), forgiven=2)),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 4},
            id="retried, and failed once since",
        ),
        pytest.param(
            facts(attempts(failed(1, "p"), failed(2, "p"), failed(3, "r")), spec_key="s2"),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 4, "reason": "not implemented yet"},
            id="failures at another spec do not count",
        ),
        pytest.param(
            facts(attempts(failed(1), failed(2), failed(3)), needs=(WAITING,)),
            Status.BLOCKED,
            Act.REST,
            {},
            id="blocked is said before failed",
        ),
        # Stopped.
        pytest.param(
            facts(attempts(failed(1), stop=stopped("soft"))),
            Status.SKIPPED,
            Act.REST,
            {"reason": "merge-conflict: a clash in a.py", "hint": RETRY},
            id="a soft stop skips",
        ),
        pytest.param(
            facts(attempts(built(1), stop=stopped("hard"))),
            Status.REVIEW,
            Act.REST,
            {"reason": "merge-conflict: a clash in a.py", "hint": RETRY},
            id="a hard stop waits for a person, even with a result",
        ),
        pytest.param(
            facts(attempts(failed(1), stop=stopped("hard")), spec_key="s2"),
            Status.PENDING,
            Act.IMPLEMENT,
            {"attempt": 2},
            id="a changed spec voids the stop",
        ),
        pytest.param(
            facts(IssueState(stop=stopped("soft")), needs=(WAITING,)),
            Status.BLOCKED,
            Act.REST,
            {},
            id="stopped, blocked",
        ),
        # Landed.
        pytest.param(
            landed(FIRST),
            Status.LANDED,
            Act.REST,
            {"reason": "landed as 0123456789", "hint": "", "cause": None, "revision": 1},
            id="landed",
        ),
        pytest.param(landed(proof=None), Status.LANDED, Act.REST, {}, id="landed, nothing known but git"),
        pytest.param(
            landed(attempts(failed(1), failed(2), failed(3), stop=stopped("hard"))),
            Status.LANDED,
            Act.REST,
            {},
            id="landed, whatever failed before",
        ),
        pytest.param(landed(held_by="waits"), Status.LANDED, Act.REST, {}, id="landed in a milestone that waits"),
        pytest.param(landed(needs=(AGAIN,)), Status.LANDED, Act.REST, {}, id="a need is stale with the same result"),
        pytest.param(landed(needs=()), Status.LANDED, Act.REST, {}, id="a need is gone"),
        pytest.param(landed(needs=(NEED, OTHER)), Status.LANDED, Act.REST, {}, id="a need was added"),
        pytest.param(landed(needs=(OTHER, NEED)), Status.LANDED, Act.REST, {}, id="needs in another order"),
        # The spec changed.
        pytest.param(
            landed(FIRST, spec_key="s2"),
            Status.STALE,
            Act.IMPLEMENT,
            {
                "reason": "revision 2: its spec changed",
                "hint": RUN,
                "cause": Cause("spec", "s1", "s2"),
                "revision": 2,
                "attempt": 2,
            },
            id="the spec changed: next revision",
        ),
        pytest.param(
            landed(FIRST, spec_key="s2", accepted=frozenset({"s2"})),
            Status.LANDED,
            Act.REST,
            {"revision": 1},
            id="the changed spec was accepted",
        ),
        pytest.param(
            landed(FIRST, spec_key="s3", accepted=frozenset({"s2"})),
            Status.STALE,
            Act.IMPLEMENT,
            {},
            id="another spec was accepted",
        ),
        pytest.param(
            landed(spec_key="s2", needs=(WAITING,)),
            Status.BLOCKED,
            Act.REST,
            {"revision": 2, "cause": Cause("spec", "s1", "s2")},
            id="the spec changed and a need has not landed",
        ),
        pytest.param(
            landed(attempts(built(2, revision=2, spec_key="s2")), spec_key="s2"),
            Status.OPEN,
            Act.JUDGE,
            {"attempt": 2, "revision": 2},
            id="the next revision has a result",
        ),
        pytest.param(
            landed(attempts(failed(2, "p", revision=2, spec_key="s2")), spec_key="s2"),
            Status.STALE,
            Act.IMPLEMENT,
            {"reason": "attempt 2 failed (reason 2); trying again", "attempt": 3},
            id="the next revision failed once",
        ),
        pytest.param(
            landed(attempts(*(failed(n, revision=2, spec_key="s2") for n in (2, 3, 4))), spec_key="s2"),
            Status.FAILED,
            Act.REST,
            {"hint": RETRY},
            id="the next revision is out of attempts",
        ),
        pytest.param(
            landed(attempts(built(2, revision=2, spec_key="s2", state=AttemptState.STARTED)), spec_key="s1"),
            Status.LANDED,
            Act.REST,
            {},
            id="the spec was changed back",
        ),
        # What it needs changed.
        pytest.param(
            landed(needs=(replace(NEED, result_key="r9"),)),
            Status.STALE,
            Act.VERIFY,
            {
                "reason": "to be verified again: the result of m4/4.1 changed",
                "hint": RUN,
                "cause": Cause("result of m4/4.1", "r1", "r9"),
                "revision": 1,
            },
            id="the result of a need changed: verify",
        ),
        pytest.param(
            landed(needs=(replace(NEED, result_key="r9", status=Status.STALE),)),
            Status.STALE,
            Act.REST,
            {"reason": "to be verified again after m4/4.1", "hint": ""},
            id="stale, and waits for the need",
        ),
        pytest.param(landed(needs=(replace(NEED, result_key=""),)), Status.LANDED, Act.REST, {}, id="no result known"),
        # The checks changed.
        pytest.param(
            landed(check_key="k2"),
            Status.STALE,
            Act.VERIFY,
            {"reason": "to be verified again: its checks changed", "cause": Cause("checks", "k1", "k2"), "revision": 1},
            id="the checks changed: verify",
        ),
        pytest.param(
            landed(check_key="k2", proof=replace(PROOF, check_key="")),
            Status.STALE,
            Act.VERIFY,
            {"cause": Cause("checks", "k1", "k2")},
            id="the checks changed, as the commit says",
        ),
        pytest.param(
            landed(check_key="k2", proof=replace(PROOF, check_key="k2")),
            Status.LANDED,
            Act.REST,
            {},
            id="proved again under the new checks",
        ),
        pytest.param(
            landed(check_key="k2", needs=(WAITING, OTHER)),
            Status.STALE,
            Act.REST,
            {"reason": "to be verified again after m4/4.1"},
            id="the checks changed, and a need has not landed",
        ),
        pytest.param(
            landed(check_key="k2", spec_key="s2", accepted=frozenset({"s2"})),
            Status.STALE,
            Act.VERIFY,
            {},
            id="accepted work is verified again like any other",
        ),
        pytest.param(
            landed(check_key="k2", spec_key="s2"),
            Status.STALE,
            Act.IMPLEMENT,
            {"revision": 2},
            id="spec and checks changed",
        ),
        # Verification was refused.
        pytest.param(
            landed(refused(*FIRST.attempts.values()), check_key="k2"),
            Status.STALE,
            Act.IMPLEMENT,
            {
                "reason": "revision 2: verification failed (tests failed)",
                "cause": Cause("verification", "passed", "tests failed"),
                "revision": 2,
                "attempt": 2,
            },
            id="refused: implemented again as the next revision",
        ),
        pytest.param(
            landed(refused(built(2, revision=2)), check_key="k2"),
            Status.OPEN,
            Act.JUDGE,
            {"attempt": 2, "revision": 2},
            id="refused, and the next revision has a result",
        ),
        pytest.param(
            landed(refused(built(1, revision=1)), check_key="k2"),
            Status.STALE,
            Act.IMPLEMENT,
            {"revision": 2, "attempt": 2},
            id="refused: a result of the refused revision is not judged again",
        ),
        pytest.param(
            landed(refused(failed(1, "p"), failed(2, "p", revision=2)), check_key="k2"),
            Status.STALE,
            Act.IMPLEMENT,
            {"attempt": 3},
            id="refused: failures of the revision before do not count",
        ),
        pytest.param(
            landed(refused(failed(1, "p")), check_key="k2"),
            Status.STALE,
            Act.IMPLEMENT,
            {"reason": "revision 2: verification failed (tests failed)", "attempt": 2},
            id="refused: a failure of the revision before is not the reason",
        ),
        pytest.param(
            landed(refused(failed(2, "p", revision=2), failed(3, "p", revision=2)), check_key="k2"),
            Status.FAILED,
            Act.REST,
            {"hint": RETRY, "revision": 2},
            id="refused, and the next revision failed the same way twice",
        ),
        pytest.param(
            landed(refused(), check_key="k3"),
            Status.STALE,
            Act.VERIFY,
            {"revision": 1},
            id="refused under other checks: verify under these",
        ),
        pytest.param(
            landed(refused(), needs=(replace(NEED, result_key="r9"),), check_key="k2"),
            Status.STALE,
            Act.VERIFY,
            {},
            id="refused with another result of the need: verify with this one",
        ),
        pytest.param(
            landed(refused(needs={"m4/4.1": "r9"}, check_key="k1"), needs=(replace(NEED, result_key="r9"),)),
            Status.STALE,
            Act.IMPLEMENT,
            {"revision": 2},
            id="refused with the present result of the need",
        ),
        pytest.param(
            landed(refused(revision=0), check_key="k2"), Status.STALE, Act.VERIFY, {}, id="refused in an older revision"
        ),
        pytest.param(
            landed(refused()),
            Status.LANDED,
            Act.REST,
            {},
            id="refused, but the checks are those that once passed again",
        ),
        pytest.param(
            landed(refused(), check_key="k2", needs=(AGAIN,)),
            Status.BLOCKED,
            Act.REST,
            {"revision": 2},
            id="refused, and a need is not landed",
        ),
    ],
)
def test_decisions(given_facts: Facts, status: Status, act: Act, more: dict[str, Any]) -> None:
    found = decide(given_facts)
    assert (found.status, found.act) == (status, act)
    assert {name: getattr(found, name) for name in more} == more


RESULTS = st.sampled_from(["", "r1", "r2"])
SPECS = st.sampled_from(["s1", "s2"])
CHECKS = st.sampled_from(["", "k1", "k2"])
REVISIONS = st.integers(1, 3)
NEEDS = st.lists(
    st.builds(Need, ref=st.sampled_from(["m4/4.1", "m4/4.2"]), status=st.sampled_from(Status), result_key=RESULTS),
    max_size=2,
    unique_by=lambda need: need.ref,
).map(tuple)
KEYS = st.dictionaries(st.sampled_from(["m4/4.1", "m4/4.2"]), RESULTS)
ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        number=st.integers(1, 5),
        revision=REVISIONS,
        spec_key=SPECS,
        state=st.sampled_from(AttemptState),
        reason=st.just("because"),
        print=st.sampled_from(["", "p", "q"]),
    )
)
STATES = st.builds(
    IssueState,
    attempts=ATTEMPTS.map(lambda items: {item.number: item for item in items}),
    forgiven=st.integers(0, 5),
    stop=st.none()
    | st.builds(
        Stop,
        level=st.sampled_from(["soft", "hard"]),
        rule=st.just("rule"),
        reason=st.just("because"),
        spec_key=SPECS,
        attempt=st.just(1),
    ),
    refusal=st.none()
    | st.builds(
        Refusal, check_key=CHECKS, needs=KEYS, revision=REVISIONS, reason=st.just("red"), detail=st.just("output")
    ),
)
FACTS = st.builds(
    Facts,
    ref=st.just(REF),
    spec_key=SPECS,
    check_key=st.sampled_from(["k1", "k2"]),
    needs=NEEDS,
    held_by=st.sampled_from(["", "waits"]),
    landing=st.none() | REVISIONS.map(lambda n: replace(LANDED, trailers=replace(LANDED.trailers, revision=n))),
    accepted=st.frozensets(SPECS),
    proof=st.none() | st.builds(Proof, check_key=CHECKS, needs=KEYS, revision=REVISIONS),
    state=STATES,
    attempts=st.integers(1, 4),
)


@given(FACTS)
def test_every_decision_is_one_that_a_run_can_carry_out(given_facts: Facts) -> None:
    found = decide(given_facts)
    assert found == decide(given_facts)
    allowed = {
        Act.IMPLEMENT: {Status.PENDING, Status.STALE},
        Act.JUDGE: {Status.OPEN},
        Act.VERIFY: {Status.STALE},
        Act.REST: set(Status) - {Status.PENDING, Status.OPEN, Status.RUNNING},
    }
    assert found.status in allowed[found.act]
    assert found.reason
    assert "\n" not in found.reason


@given(FACTS)
def test_work_is_only_begun_on_landed_needs_and_never_under_a_number_that_was_used(given_facts: Facts) -> None:
    found = decide(given_facts)
    if found.act is not Act.REST:
        assert all(need.status is Status.LANDED for need in given_facts.needs)
        assert found.hint == RUN
    if found.act is Act.IMPLEMENT:
        assert found.attempt == given_facts.state.last() + 1
        assert not given_facts.held_by
    if found.act is Act.JUDGE:
        assert given_facts.state.attempts[found.attempt].state is AttemptState.BUILT


@given(FACTS)
def test_the_revision_is_that_of_the_landing_or_the_next(given_facts: Facts) -> None:
    found = decide(given_facts)
    now = given_facts.landing.trailers.revision if given_facts.landing is not None else 0
    assert found.revision in {now, now + 1}
    assert found.revision >= 1
    assert (found.act in {Act.IMPLEMENT, Act.JUDGE}) <= (found.revision == now + 1)


@given(FACTS)
def test_what_has_landed_unchanged_is_left_alone_whatever_failed(given_facts: Facts) -> None:
    settled = replace(given_facts, landing=LANDED, spec_key="s1", check_key="k1", proof=PROOF, needs=(NEED,))
    assert decide(settled).status is Status.LANDED
    assert decide(settled) == Decision(Status.LANDED, Act.REST, "landed as 0123456789", revision=1)
