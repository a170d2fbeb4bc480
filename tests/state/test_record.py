from __future__ import annotations

import json
import random
import re
import zlib
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.state.record import COMPACTED, MOST_BYTES, Base, Damage, Record, base_of, decode, encode, scan
from tests.support import examples, several

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OWN = ("n", "v", "t", "b", "r", "e", "key", "c")
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
ANY_DATA = st.dictionaries(ANY_TEXT.filter(lambda name: name not in OWN), ANY_JSON, max_size=5)
VARIED: tuple[dict[str, Any], ...] = (
    {},
    {"tree": "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "seconds": 1.5, "exit": -9},
    {"title": "naïve ☃ \U0001f600 \u2028 \ud800", "quote": '"}\n{"n":3,"t":"'},
    {"list": [1, [2, [3, {"deep": [None, True, False]}]]], "empty": {}, "nothing": None},
    {
        "inner": {"n": 3, "t": "looks like a record", "c": "00000000"},
        "all": [{"n": 1, "v": 2, "t": 0}, {"n": 9, "t": 1}],
    },
    {"big": 2**70, "small": 5e-324, "text": "x" * 90},
)


def events(count: int, run: str = "run-1", *, varied: bool = True) -> list[Record]:
    kinds = ("intent", "done", "attempt-started")
    return [
        Record(
            number,
            f"2026-01-01T00:00:{number % 60:02d}Z",
            "0f3c9a11",
            run,
            kinds[number % 3],
            f"issue-{number % 4}" if number % 4 else "",
            VARIED[number % len(VARIED)] if varied else {"i": number},
        )
        for number in range(1, count + 1)
    ]


def lines_of(facts: Iterable[Record]) -> list[bytes]:
    lines: list[bytes] = []
    check = 0
    for fact in facts:
        lines.append(encode(fact, check))
        check = int(lines[-1][-11:-3], 16)
    return lines


def common_prefix(some: Sequence[bytes], others: Sequence[bytes]) -> int:
    for place, (one, other) in enumerate(zip(some, others, strict=False)):
        if one != other:
            return place
    return min(len(some), len(others))


FACTS = events(12)
LINES = lines_of(FACTS)
BITS = (*LINES, b"\n", b"}", b'{"n":', b'"v":1', b',"c":"', b"[" * 30, *(line[:-16] for line in LINES), b"\x00" * 9)
"""What a damaged journal may be made of."""
FOREIGN = lines_of(events(12, "run-2"))


@settings(deadline=None, max_examples=200, database=None)
@given(data=ANY_DATA, key=ANY_TEXT, number=st.integers(1, 10**9), previous=st.integers(0, 2**32 - 1))
def test_every_json_value_comes_back_as_json_gives_it_back(
    data: dict[str, Any], key: str, number: int, previous: int
) -> None:
    event = Record(number, "2026-01-01T00:00:00Z", "0f3c9a11", "run-1", "done", key, data)
    line = encode(event, previous)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert json.loads(line)["n"] == number
    read_back = decode(line[:-1], number, previous)
    assert read_back is not None
    back, check = read_back
    assert json.dumps(back.data) == json.dumps(json.loads(json.dumps(data)))
    assert back.key == json.loads(json.dumps(key))
    assert (back.number, back.at, back.boot, back.run, back.kind) == (
        number,
        "2026-01-01T00:00:00Z",
        "0f3c9a11",
        "run-1",
        "done",
    )
    assert line.endswith(b',"c":"%08x"}\n' % check)


def test_a_lone_surrogate_comes_back_exactly() -> None:
    (fact,) = scan(encode(Record(1, "t", "", "r", "k", "\udcff", {"\ud800": ["\udfff"]}), 0)).events
    assert fact.key == "\udcff"
    assert fact.data == {"\ud800": ["\udfff"]}


def test_a_whole_journal_is_read_without_damage() -> None:
    found = scan(b"".join(LINES))
    assert found.events == FACTS
    assert found.good == sum(map(len, LINES))
    assert found.check == int(LINES[-1][-11:-3], 16)
    assert found.damage is Damage.NONE


def test_no_bytes_are_an_empty_journal() -> None:
    found = scan(b"")
    assert (found.events, found.good, found.check, found.damage) == ([], 0, 0, Damage.NONE)


def test_a_journal_cut_off_at_any_byte_gives_exactly_its_whole_records() -> None:
    facts = events(30)
    lines = lines_of(facts)
    whole = b"".join(lines)
    ends = [0]
    for line in lines:
        ends.append(ends[-1] + len(line))
    records = 0
    for cut in range(len(whole) + 1):
        records += records < len(lines) and cut >= ends[records + 1]
        found = scan(whole[:cut])
        assert found.events == facts[:records], cut
        assert found.good == ends[records], cut
        assert found.damage is (Damage.NONE if cut == ends[records] else Damage.TORN), cut


def test_every_flipped_bit_is_noticed_in_the_record_where_it_is() -> None:
    whole = b"".join(LINES)
    version = whole.index(b'"v":1') + len(b'"v":')
    owner = [place for place, line in enumerate(LINES) for _ in line]
    for at in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            found = scan(bytes(flipped))
            expected = {Damage.TORN} if owner[at] == len(LINES) - 1 else {Damage.CORRUPT}
            if at == version and flipped[at : at + 1].isdigit():
                expected = {Damage.CORRUPT, Damage.NEWER}  # refused either way
            assert found.events == FACTS[: owner[at]], (at, bit)
            assert found.damage in expected, (at, bit)


@pytest.mark.parametrize("place", range(len(LINES)))
def test_a_lost_record_ends_what_is_read(place: int) -> None:
    found = scan(b"".join(LINES[:place] + LINES[place + 1 :]))
    assert found.events == FACTS[:place]
    if place < len(LINES) - 2:
        assert found.damage is Damage.CORRUPT
    else:
        assert found.damage is (Damage.TORN if place == len(LINES) - 2 else Damage.NONE)


@pytest.mark.parametrize("place", range(len(LINES)))
def test_a_doubled_record_ends_what_is_read(place: int) -> None:
    found = scan(b"".join(LINES[: place + 1] + LINES[place:]))
    assert found.events == FACTS[: place + 1]
    assert found.damage is (Damage.CORRUPT if place < len(LINES) - 1 else Damage.TORN)


def test_two_records_that_changed_places_are_corrupt() -> None:
    for first in range(len(LINES)):
        for second in range(first + 1, len(LINES)):
            swapped = list(LINES)
            swapped[first], swapped[second] = swapped[second], swapped[first]
            found = scan(b"".join(swapped))
            assert found.events == FACTS[:first]
            assert found.damage is Damage.CORRUPT


@pytest.mark.parametrize("place", range(1, len(LINES)))
def test_a_record_of_another_journal_is_not_accepted(place: int) -> None:
    found = scan(b"".join([*LINES[:place], FOREIGN[place], *LINES[place + 1 :]]))
    assert found.events == FACTS[:place]
    assert found.damage is (Damage.CORRUPT if place < len(LINES) - 1 else Damage.TORN)
    assert scan(b"".join(LINES[:place] + FOREIGN[place:])).events == FACTS[:place]


def test_the_first_record_of_another_journal_makes_the_rest_corrupt() -> None:
    found = scan(b"".join([FOREIGN[0], *LINES[1:]]))
    assert len(found.events) == 1
    assert found.damage is Damage.CORRUPT


@pytest.mark.parser
@settings(deadline=None, max_examples=examples(300), database=None)
@given(order=several([*product((False, True), range(len(LINES)))], max_size=14), kept=st.integers(1, 12))
def test_any_mixture_of_records_gives_the_prefix_that_is_in_order(order: list[tuple[bool, int]], kept: int) -> None:
    lines = LINES[:kept] + [(FOREIGN if foreign else LINES)[place] for foreign, place in order]
    right = common_prefix(lines, LINES)
    found = scan(b"".join(lines))
    assert found.events == FACTS[:right]
    assert (found.damage is Damage.NONE) == (right == len(lines))


@pytest.mark.parser
@given(
    kept=st.integers(0, len(LINES)),
    rest=st.binary(max_size=200) | st.lists(st.sampled_from(BITS) | st.binary(max_size=4)).map(b"".join),
)
def test_whatever_follows_the_records_they_are_read_and_the_rest_is_not_believed(kept: int, rest: bytes) -> None:
    whole = b"".join(LINES[:kept])
    found = scan(whole + rest)
    assert found.events[:kept] == FACTS[:kept]
    assert len(found.events) == kept or rest.startswith(tuple(LINES[kept : kept + 1]))
    assert (found.damage is Damage.NONE) == (found.good == len(whole + rest))
    base_of(rest)


@pytest.mark.parametrize("records", [0, 1, 12])
@pytest.mark.parametrize("half", [b"", b'{"n":13,"t":"2026-01'])
def test_zeros_after_a_crash_are_a_torn_record(records: int, half: bytes) -> None:
    found = scan(b"".join(LINES[:records]) + half + bytes(512))
    assert found.events == FACTS[:records]
    assert found.damage is Damage.TORN


def test_random_bytes_after_a_crash_are_a_torn_record() -> None:
    chance = random.Random(20260101)  # noqa: S311 - repeatable, not secret
    whole = b"".join(LINES)
    for _ in range(500):
        found = scan(whole + chance.randbytes(chance.randint(1, 600)))
        assert found.events == FACTS
        assert found.damage is Damage.TORN


def test_zeros_with_a_record_behind_them_are_corrupt() -> None:
    found = scan(b"".join(LINES[:5]) + bytes(512) + LINES[5])
    assert found.events == FACTS[:5]
    assert found.damage is Damage.CORRUPT


def test_data_that_looks_like_a_record_does_not_make_a_torn_one_corrupt() -> None:
    line = encode(
        Record(1, "t", "b", "r", "k", "", {"x": {"n": 2, "t": 0}, "y": [{"n": 3, "v": 1}, {"n": 4, "t": 1}]}), 0
    )
    assert {scan(line[:cut]).damage for cut in range(1, len(line))} == {Damage.TORN}


@pytest.mark.parametrize("version", [2, 10, 2**40])
def test_a_journal_of_a_later_version_is_distinguished_from_a_corrupt_one(version: int) -> None:
    body = LINES[0][:-16].replace(b'"v":1', b'"v":%d' % version)
    later = body + b',"c":"%08x"}\n' % zlib.crc32(body)
    for data in (later, later + LINES[1], later[:40]):
        found = scan(data)
        assert found.events == []
        assert found.damage is Damage.NEWER


@pytest.mark.parametrize("version", [b"0", b"-1", b'"2"', b"null", b"9" * 5000])
def test_a_version_that_never_was_is_not_a_later_one(version: bytes) -> None:
    body = LINES[0][:-16].replace(b'"v":1', b'"v":' + version)
    found = scan(body + b',"c":"%08x"}\n' % zlib.crc32(body) + LINES[1])
    assert found.events == []
    assert found.damage is Damage.CORRUPT


def test_a_check_in_capital_letters_is_refused() -> None:
    with_letters = next(place for place, line in enumerate(LINES) if re.search(rb"[a-f]", line[-11:-3]))
    line = LINES[with_letters]
    other = line[:-11] + line[-11:-3].upper() + line[-3:]
    assert int(other[-11:-3], 16) == int(line[-11:-3], 16)
    previous = int(LINES[with_letters - 1][-11:-3], 16) if with_letters else 0
    assert decode(line[:-1], with_letters + 1, previous) is not None
    assert decode(other[:-1], with_letters + 1, previous) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"n":2',
        b'{"n":2,"t":"","b":"","r":"","e":""',
        b'{"n":3,"t":"","b":"","r":"","e":"","key":""',
        b'{"n":2,"t":"","b":"","r":"","e":"","key":"\xff"',
        b'["n",{"n":2',
    ],
)
def test_a_right_check_does_not_save_a_wrong_record(body: bytes) -> None:
    assert decode(body + b',"c":"%08x"}' % zlib.crc32(body, 7), 2, 7) is None


@pytest.mark.parametrize("name", OWN)
def test_data_named_as_a_field_of_the_record_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"named {name}$"):
        encode(Record(2, "t", "b", "r", "k", "", {name: 1, "fine": 2}), 0)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(Record(1, "t", "b", "r", "k", "", {"x": [number]}), 0)


def test_the_longest_record_is_written_and_one_byte_more_is_refused() -> None:
    room = MOST_BYTES - len(encode(Record(1, "t", "b", "r", "k", "", {"x": ""}), 0))
    longest = encode(Record(1, "t", "b", "r", "k", "", {"x": "y" * room}), 0)
    assert len(longest) == MOST_BYTES
    assert len(scan(longest).events) == 1
    with pytest.raises(ValueError, match="65537 bytes"):
        encode(Record(1, "t", "b", "r", "k", "", {"x": "y" * (room + 1)}), 0)


def test_twenty_thousand_records_are_read() -> None:
    facts = events(20_000, varied=False)
    found = scan(b"".join(lines_of(facts)))
    assert found.damage is Damage.NONE
    assert found.events == facts


@pytest.mark.parametrize("place", range(len(LINES) + 1))
def test_a_segment_goes_on_from_the_one_before(place: int) -> None:
    first = scan(b"".join(LINES[:place]))
    second = scan(b"".join(LINES[place:]), place + 1, first.check)
    assert [*first.events, *second.events] == FACTS
    assert second.check == scan(b"".join(LINES)).check
    assert second.damage is Damage.NONE


@pytest.mark.parametrize("place", range(1, len(LINES)))
def test_a_segment_is_not_read_after_another_one(place: int) -> None:
    rest = b"".join(LINES[place:])
    check = scan(b"".join(LINES[:place])).check
    for number, previous in ((place, check), (place + 2, check), (place + 1, check ^ 1), (place + 1, 0), (1, 0)):
        found = scan(rest, number, previous)
        assert found.events == []
        assert found.damage is (Damage.CORRUPT if place < len(LINES) - 1 else Damage.TORN)


BASE = Base("snapshot.000002.jsonl", "0" * 64, 12, 0x0F3C9A11)


def based(base: Base = BASE, kind: str = COMPACTED, number: int = 13) -> bytes:
    return encode(Record(number, "t", "b", "r", kind, "", base.data()), BASE.check)


def test_what_a_segment_rests_on_is_read_from_its_first_record() -> None:
    assert base_of(based()) == base_of(based() + LINES[0]) == BASE
    assert BASE.data() == {
        "snapshot": "snapshot.000002.jsonl",
        "sha256": "0" * 64,
        "last": {"number": 12, "check": "0f3c9a11"},
    }


def test_a_segment_whose_first_record_is_cut_off_or_changed_rests_on_nothing() -> None:
    line = based()
    assert {base_of(line[:cut]) for cut in range(len(line))} == {None}
    for at in range(len(line)):
        for bit in range(8):
            changed = bytearray(line)
            changed[at] ^= 1 << bit
            assert base_of(bytes(changed)) is None, (at, bit)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        LINES[0],
        LINES[1] + based(),
        based(kind="landed"),
        based(number=14),
        based(Base("../snapshot.000002.jsonl", "0" * 64, 12, BASE.check)),
        based(Base("snapshot.00002.jsonl", "0" * 64, 12, BASE.check)),
        based(Base("snapshot.000002.jsonl", "0" * 64, 12, 7)),
        encode(Record(13, "t", "b", "r", COMPACTED, "", {}), BASE.check),
        encode(Record(13, "t", "b", "r", COMPACTED, "", {**BASE.data(), "last": 12}), BASE.check),
        encode(Record(13, "t", "b", "r", COMPACTED, "", {**BASE.data(), "snapshot": 12}), BASE.check),
        encode(Record(13, "t", "b", "r", COMPACTED, "", {**BASE.data(), "last": {"number": 12, "check": 7}}), 0),
        b'{"e":"compacted"\n',
        b'["e":"compacted"]\n',
        b'{"e":"compacted","x":' + b"[" * 60_000 + b"\n",
    ],
)
def test_other_first_records_are_no_base(data: bytes) -> None:
    assert base_of(data) is None


def test_a_longer_record_is_written_where_that_is_asked_for() -> None:
    fact = Record(1, "t", "b", "r", "k", "", {"x": "y" * MOST_BYTES})
    line = encode(fact, 0, 2 * MOST_BYTES)
    assert scan(line).events == [fact]
    with pytest.raises(ValueError, match="at most 131072 are allowed"):
        encode(Record(1, "t", "b", "r", "k", "", {"x": "y" * 2 * MOST_BYTES}), 0, 2 * MOST_BYTES)


def test_ten_thousand_mixtures_of_records_never_pass_for_the_journal() -> None:
    chance = random.Random(20_261_121)  # noqa: S311  (no secret)
    lines, other = lines_of(events(30)), lines_of(events(30, "run-2"))
    facts = events(30)
    for _ in range(10_000):
        place, further = sorted(chance.sample(range(1, len(lines) - 1), 2))
        changed = list(lines)
        match chance.randrange(4):
            case 0:
                del changed[place:further]
            case 1:
                changed[place:place] = lines[place:further]
            case 2:
                changed[place], changed[further] = changed[further], changed[place]
            case _:
                changed[place:further] = other[place:further]
        found = scan(b"".join(changed))
        assert found.damage is not Damage.NONE
        assert found.events == facts[: len(found.events)]
        assert len(found.events) <= further
