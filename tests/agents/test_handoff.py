from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from executor.agents.brief import CHARACTERS, Handoff, chosen, distances


def test_distances_follow_what_is_needed() -> None:
    needs = {"d": ["c", "a"], "c": ["b"], "b": ["a"], "a": [], "x": []}
    assert distances("d", needs) == {"c": 1, "a": 1, "b": 2}


def test_what_fits_is_whole_the_next_one_is_cut_the_rest_is_named() -> None:
    texts = chosen([Handoff(name, name * 2000, f"commit {name}") for name in "abcd"], 1300)
    assert [len(item.text) for item in texts] == [2000, 2000, 1200, 0]
    assert texts[2].text.endswith("(the rest was left out)")
    assert [item.commit for item in texts] == ["commit a", "commit b", "commit c", "commit d"]


@given(st.lists(st.integers(0, 3000), max_size=12), st.integers(0, 2000))
def test_handoffs_never_exceed_the_budget_and_none_is_forgotten(sizes: list[int], tokens: int) -> None:
    given_ = [Handoff(str(place), "x" * size, "c") for place, size in enumerate(sizes)]
    taken = chosen(given_, tokens)
    assert [item.issue for item in taken] == [item.issue for item in given_]
    assert sum(len(item.text) for item in taken) <= tokens * CHARACTERS
