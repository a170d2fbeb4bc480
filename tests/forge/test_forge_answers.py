"""Whatever a forge answers is a value of ours or a declared error: right answers with something odd in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.errors import ForgeRefusedError, ForgeUnavailableError
from executor.forge.base import Checks, CheckState, ForgeIssue, MergeAnswer, NewPull
from executor.forge.hosts.forgejo import ForgejoForge
from executor.forge.hosts.github import GitHubForge
from executor.forge.hosts.gitlab import GitLabForge
from executor.forge.hosts.rest import Api
from executor.forge.pull_request import PullRequest
from tests.support import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GREEN, WAITING = "c0ffee00" * 5, "decade00" * 5
FIRST = PullRequest(1, "open", False, "feat/m1-a", GREEN, "milestone/m1", "T", "B\n", "https://forge/1", node="N1")
SECOND = replace(FIRST, number=2, head="feat/m1-b", sha=WAITING, url="https://forge/2", node="N2")
NEW = NewPull("feat/m1-c", "milestone/m1", "T", "B\n")
OPERATIONS: dict[str, tuple[Callable[[GitHubForge], object], Any]] = {
    "find": (lambda forge: forge.find("feat/m1-a"), list[PullRequest]),
    "pulls": (lambda forge: forge.pulls("milestone/m1"), list[PullRequest]),
    "open": (lambda forge: forge.open(NEW), PullRequest),
    "update": (lambda forge: forge.update(FIRST, title="U", draft=True, labels=["x"]), PullRequest),
    "checks": (lambda forge: forge.checks(GREEN), Checks),
    "merge": (lambda forge: forge.request_merge(FIRST, GREEN, "T", "M", "squash"), MergeAnswer),
    "schedule": (lambda forge: forge.request_merge(SECOND, WAITING, "T", "M", "squash"), MergeAnswer),
    "close": (lambda forge: forge.close(FIRST), type(None)),
    "issues": (lambda forge: forge.issues("M1"), list[ForgeIssue]),
    "close_issue": (lambda forge: forge.close_issue(7), bool),
    "close_milestone": (lambda forge: forge.close_milestone("M1"), bool),
    "post_status": (lambda forge: forge.post_status(GREEN, "tests", "success", "passed"), bool),
}


@dataclass(frozen=True)
class Odd:
    """What is done to an answer.

    Attributes:
        status: that it gets; none comes with 0.
        place: which part of the right one is replaced, counted from the whole; -1: none.
        value: what stands there instead; `...`: nothing, the key is left out.
        text: what comes instead of JSON.
        headers: that come with it.
    """

    status: int = 200
    place: int = -1
    value: Any = None
    text: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Memory:
    """A repository on a forge, whose answers are odd one after the other; `again`: from the first one on again."""

    def __init__(self, odd: list[Odd | None], *, again: bool = False) -> None:
        self._odd, self._again = odd, again
        self.asked = 0
        self._pulls = {"1": pull_of(1, "feat/m1-a", GREEN), "2": pull_of(2, "feat/m1-b", WAITING)}
        self._one = {"issues": issue_of(7), "milestones": {"number": 3, "title": "M1", "state": "open"}}
        self._statuses = [{"context": "ci", "state": "success", "description": None, "target_url": "https://ci"}]

    def __call__(
        self, verb: str, path: str, _parameters: object, _headers: object, body: Any
    ) -> tuple[int, Mapping[str, Any], str]:
        number, self.asked = self.asked, self.asked + 1
        if self._again and self._odd:
            number %= len(self._odd)
        odd = (self._odd[number] if number < len(self._odd) else None) or Odd()
        if odd.status == 0:
            raise ConnectionResetError
        parts = path.removeprefix("/repos/acme/app").strip("/").split("/")
        if verb != "GET":
            self._write(parts, body)
        answer = changed(self._seen(parts), odd)
        return odd.status, dict(odd.headers), json.dumps(answer) if odd.text is None else odd.text

    def _write(self, parts: list[str], body: dict[str, Any]) -> None:
        match parts:
            case ["graphql"]:
                for pull in self._pulls.values():
                    if pull["node_id"] == body["variables"]["id"]:
                        pull["draft" if "Draft" in body["query"] else "auto_merge"] = True
            case ["pulls"]:
                self._pulls["3"] = pull_of(3, body["head"], GREEN)
            case ["pulls", "1", "merge"]:
                self._pulls["1"] |= {"merged_at": "2026-01-01", "merge_commit_sha": GREEN, "state": "closed"}
            case ["pulls", "1"]:
                self._pulls["1"] |= body
            case ["issues", "1", "labels"]:
                self._pulls["1"]["labels"] = [{"name": name} for name in body["labels"]]
            case ["issues" | "milestones" as kind, _]:
                self._one[kind] |= body
            case ["statuses", _]:
                self._statuses.append(body)

    def _seen(self, parts: list[str]) -> Any:
        done = {"name": "a", "status": "completed", "conclusion": "success", "html_url": "https://ci/1"}
        runs = [done, done | ({"status": "queued", "conclusion": None} if WAITING in parts else {"name": "b"})]
        required = {"type": "required_status_checks", "parameters": {"required_status_checks": [{"context": "b"}]}}
        match parts:
            case ["pulls", number]:
                return self._pulls.get(number)
            case ["issues" | "milestones" as kind, _]:
                return self._one[kind]
        return {
            "graphql": {"data": {}},
            "pulls": [*self._pulls.values()],
            "merge": {"merged": True, "sha": GREEN},
            "labels": [],
            "status": {"state": "success", "statuses": self._statuses},
            "check-runs": {"total_count": 2, "check_runs": runs},
            "issues": [self._one["issues"], self._one["issues"] | {"pull_request": {}}],
            "blocked_by": [issue_of(5)],
            "milestones": [self._one["milestones"]],
            "milestone%2Fm1": [{"type": "deletion"}, required]
            if parts[0] == "rules"
            else {"protection": {"required_status_checks": {"contexts": ["b"], "checks": [{"context": "b"}]}}},
            GREEN: {},
        }[parts[-1]]


def pull_of(number: int, head: str, sha: str) -> dict[str, Any]:
    here = {"full_name": "acme/app"}
    return {
        "number": number,
        "state": "open",
        "draft": False,
        "merged_at": None,
        "head": {"ref": head, "sha": sha, "repo": here},
        "base": {"ref": "milestone/m1", "sha": WAITING, "repo": here},
        "title": "T",
        "body": "B\n",
        "html_url": f"https://forge/{number}",
        "merge_commit_sha": None,
        "user": {"login": "me"},
        "labels": [],
        "node_id": f"N{number}",
        "auto_merge": None,
    }


def issue_of(number: int) -> dict[str, Any]:
    texts = {"title": "I", "body": None, "state": "open", "html_url": "https://forge/i"}
    return {"number": number, "labels": [{"name": "bug"}, "old"], **texts}


def changed(right: Any, odd: Odd) -> Any:
    """The right answer with one part of it replaced or left out."""
    if odd.place < 0:
        return right
    box = [json.loads(json.dumps(right))]
    places = list(parts_of(box))
    holder, key = places[odd.place % len(places)]
    if odd.value is not ...:
        holder[key] = odd.value
    elif holder is not box:
        del holder[key]
    return box[0]


def parts_of(holder: Any) -> Any:
    """Every place in a value: what holds it, and its key there."""
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(value, dict | list):
            yield from parts_of(value)


def forge_of(memory: Memory) -> GitHubForge:
    api = Api(memory, pause=lambda _: None)
    return GitHubForge(api, "acme/app")


@cache
def fields_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value, and every value in it, is what its class says, and its texts can be written down."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) in {tuple, list}:
        return isinstance(value, get_origin(hint)) and all(fits(item, get_args(hint)[0]) for item in value)
    if isinstance(value, str):
        value.encode()
    return type(value) is hint and (
        not is_dataclass(hint) or all(fits(getattr(value, name), own) for name, own in fields_of(hint).items())
    )


def test_the_forge_in_memory_answers_rightly() -> None:
    got = {name: operation(forge_of(Memory([]))) for name, (operation, _) in OPERATIONS.items()}
    first, second = (replace(pull, author="me") for pull in (FIRST, SECOND))
    assert got == {
        "find": [first],
        "pulls": [first, second],
        "open": replace(first, number=3, head="feat/m1-c", url="https://forge/3", node="N3"),
        "update": replace(first, title="U", draft=True, labels=("x",)),
        "checks": Checks(
            (
                CheckState("ci", "success", "", "https://ci"),
                CheckState("a", "success", "success", "https://ci/1"),
                CheckState("b", "success", "success", "https://ci/1"),
            )
        ),
        "merge": MergeAnswer("merged", commit=GREEN),
        "schedule": MergeAnswer("scheduled", 'waits for "a"'),
        "close": None,
        "issues": [ForgeIssue(7, "I", "", "open", ("bug", "old"), (5,), "https://forge/i")],
        "close_issue": True,
        "close_milestone": True,
        "post_status": True,
    }
    assert all(fits(got[name], hint) for name, (_, hint) in OPERATIONS.items())


DEEP = "[" * 900 + '"\\ud800"' + "]" * 900
TEXTS = ["", "null", "<html>", "[", "[" * 5000, DEEP, "1" * 5000, "[1e999]", "{}", "[]", "3"]
SCALARS = [None, True, 0, -1, 7, 1.5, float("nan"), float("inf"), 10**30, "", "open", "7", "\ud800", "\0\x1b[2J", "é"]
TABLES = [{}, {"": None}, {"message": {}, "errors": 3}, {"message": "rate limit"}, {"number": "7"}, {"errors": ["x"]}]
LISTS = [[], [None], [[]], [{}], ["x", 1], [{"number": True}], [{"name": 1}], [{"number": 7}] * 3]
STATUSES = [0, 202, 204, 301, 304, 400, 401, 403, 404, 405, 409, 410, 422, 429, 500, 503]
HEADERS = [
    (("link", '<https://forge/?page=2>; rel="next"'),),
    (("link", '<https://[/?page=2>; rel="next", <'),),
    (("link", '<?page=٣>; rel="next"'),),
    (("link", f'<?page={"9" * 5000}>; rel="next"'),),
    (("retry-after", "٣"),),
    (("retry-after", "9" * 400),),
    (("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "²")),
]
VALUES = [..., *SCALARS, *TABLES, *LISTS]
PLACES = range(60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
PARTS = st.sampled_from([Odd(place=place, value=value) for place in PLACES for value in VALUES])
WHOLES = st.sampled_from(
    [Odd(status=status, place=place, value=value) for status in STATUSES for place in (-1, 0) for value in VALUES]
    + [Odd(text=text) for text in TEXTS]
    + [Odd(status=status, headers=headers) for status in (200, 403, 429) for headers in HEADERS]
)
ODD = st.one_of(PARTS, PARTS, WHOLES, st.builds(Odd, place=st.sampled_from(PLACES), value=JSON))
RUNS = st.sampled_from(list(product(OPERATIONS, range(9), (False, True))))


@pytest.mark.parser
@settings(max_examples=examples(500), deadline=None)
@given(RUNS, ODD, st.none() | ODD)
def test_whatever_a_forge_answers_is_a_value_or_a_declared_error(
    run: tuple[str, int, bool], first: Odd, second: Odd | None
) -> None:
    name, before, again = run
    operation, hint = OPERATIONS[name]
    forge = forge_of(Memory([*[None] * before, first, second], again=again))
    try:
        assert fits(operation(forge), hint)
    except (ForgeRefusedError, ForgeUnavailableError) as error:
        assert str(error).splitlines() == [str(error)] != [""]  # noqa: PT017  (both outcomes are right)


@pytest.mark.parametrize(
    ("name", "odd", "problem"),
    [
        ("find", Odd(place=0, value={}), "pulls cannot be read: the whole: expected a list, found a table"),
        ("find", Odd(place=0, value=[7]), "pulls cannot be read: [0]: expected a table, found the number 7"),
        ("find", Odd(place=2, value="1"), 'pulls cannot be read: [0].number: expected a whole number, found "1"'),
        ("find", Odd(place=2, value=True), "pulls cannot be read: [0].number: expected a whole number, found true"),
        ("find", Odd(place=2, value=...), "pulls cannot be read: [0].number: expected a whole number, found nothing"),
        ("pulls", Odd(place=6, value="x"), 'pulls cannot be read: [0].head: expected a table, found "x"'),
        ("close", Odd(place=0, value=[]), "pulls/1 cannot be read: the whole: expected a table, found an empty list"),
        ("close_issue", Odd(place=0, value="<p>"), 'issues/7 cannot be read: the whole: expected a table, found "<p>"'),
        (
            "issues",
            Odd(place=2, value=1.5),
            "milestones cannot be read: [0].number: expected a whole number, found the number 1.5",
        ),
        ("pulls", Odd(headers=(("link", '<?page=1>; rel="next"'),)), "pulls has too many pages"),
    ],
)
def test_an_answer_that_cannot_be_read_is_reported_with_the_place_in_it(name: str, odd: Odd, problem: str) -> None:
    with pytest.raises(ForgeUnavailableError) as told:
        OPERATIONS[name][0](forge_of(Memory([odd], again=True)))
    assert str(told.value).startswith(f"the forge's answer to GET /repos/acme/app/{problem}; ")


@pytest.mark.parametrize(
    ("forge_class", "answer", "problem"),
    [
        (GitLabForge, [{"iid": 1, "state": "opened"}], "[0].source_branch: expected text, found nothing"),
        (ForgejoForge, [{"number": 1, "state": "open", "head": []}], "[0].head: expected a table, found an empty list"),
    ],
)
def test_the_message_names_the_forge_the_request_and_the_place(
    forge_class: type[GitLabForge | ForgejoForge], answer: object, problem: str
) -> None:
    api = Api(lambda *_: (200, {}, json.dumps(answer)), forge="Codehost at https://code.example")
    with pytest.raises(ForgeUnavailableError) as caught:
        forge_class(api, "acme/app").pulls("milestone/m1")
    start, _, end = str(caught.value).partition(" cannot be read: ")
    assert start.startswith("Codehost at https://code.example's answer to GET /")
    assert end.startswith(f"{problem}; check base_url in rules/forge.toml")
    assert caught.value.exit_code == 75


def test_a_forge_may_add_keys_and_leave_out_what_is_not_needed() -> None:
    bare = {"number": 1, "state": "open", "head": {"ref": "a", "sha": GREEN}, "base": {"ref": "milestone/m1"}}
    api = Api(lambda *_: (200, {}, json.dumps([bare | {"new": {"key": [1]}, "title": None, "user": None}])))
    assert GitHubForge(api, "acme/app").pulls("milestone/m1") == [
        PullRequest(1, "open", False, "a", GREEN, "milestone/m1", "", "")
    ]


@pytest.mark.parametrize("text", ["", "null", "<html>", "[" * 5000, "1" * 5000])
def test_an_answer_that_is_no_json_is_not_taken_for_nothing(text: str) -> None:
    memory = Memory([Odd(text=text)] * 6)
    with pytest.raises(ForgeUnavailableError, match="the forge cannot be reached: its answer is not JSON; nothing is"):
        forge_of(memory).find("feat/m1-a")
    assert forge_of(Memory([Odd(text=text)] * 5)).find("feat/m1-a") == [replace(FIRST, author="me")]


@pytest.mark.parametrize("odd", [Odd(place=0, value={}), Odd(place=2, value="none"), Odd(place=2, value=...)])
def test_checks_that_cannot_be_read_are_not_taken_for_none(odd: Odd) -> None:
    memory = Memory([None, odd])
    with pytest.raises(ForgeUnavailableError, match="cannot be read"):
        forge_of(memory).request_merge(FIRST, GREEN, "T", "M", "squash")
    assert memory.asked == 2


@pytest.mark.parametrize("odd", [Odd(text="<html>"), Odd(place=0, value=[]), Odd(place=2, value=None)])
def test_a_merge_whose_answer_cannot_be_read_is_looked_for(odd: Odd) -> None:
    memory = Memory([None, None, None, odd])
    answer = forge_of(memory).request_merge(FIRST, GREEN, "T", "M", "squash")
    assert answer == MergeAnswer("merged", commit=GREEN)
    assert memory.asked == 5


def test_halves_of_characters_in_texts_are_replaced() -> None:
    forge = forge_of(Memory([Odd(place=16, value="a\ud83d"), Odd(place=16, value="\ud83d\ude00"), Odd()]))
    assert [forge.find("feat/m1-a")[0].title for _ in range(3)] == ["a?", "\U0001f600", "T"]
