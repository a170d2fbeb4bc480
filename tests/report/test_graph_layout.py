"""Drawings of what needs what, and of attempts over time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from executor.report.html import Place, in_lanes, layout

GRAPHS = st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=60).map(
    lambda rows: {str(place): [str(need) for need in row if need < place] for place, row in enumerate(rows)}
)
SPANS = st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 100)).map(lambda pair: (pair[0], pair[0] + pair[1])))


def test_a_chain_is_one_row_and_a_fan_one_column() -> None:
    chain = layout({"a": [], "b": ["a"], "c": ["b"]})
    assert chain.places == {"a": Place(0, 0), "b": Place(1, 0), "c": Place(2, 0)}
    assert (chain.columns, chain.rows) == (3, 1)
    assert chain.edges == (("a", "b"), ("b", "c"))
    fan = layout({"a": [], "b": ["a"], "c": ["a"]})
    assert {fan.places["b"].row, fan.places["c"].row} == {0, 1}


def test_rows_are_ordered_so_that_edges_do_not_cross() -> None:
    drawing = layout({"a": [], "b": [], "x": ["b"], "y": ["a"]})
    assert (drawing.places["a"].row < drawing.places["b"].row) == (drawing.places["y"].row < drawing.places["x"].row)


def test_an_empty_milestone_has_an_empty_drawing_and_foreign_needs_are_left_out() -> None:
    assert layout({}).columns == 0
    assert layout({"a": ["m3/1"]}).edges == ()


@given(GRAPHS)
def test_every_issue_stands_right_of_what_it_needs_and_nowhere_else(needs: dict[str, list[str]]) -> None:
    drawing = layout(needs)
    assert set(drawing.places) == set(needs)
    assert len(set(drawing.places.values())) == len(needs)
    for ref, wanted in needs.items():
        assert all(drawing.places[need].column < drawing.places[ref].column for need in wanted)
    assert all(
        0 <= place.column < drawing.columns and 0 <= place.row < drawing.rows for place in drawing.places.values()
    )


@given(SPANS)
def test_spans_in_one_lane_do_not_overlap_and_no_lane_is_wasted(spans: list[tuple[float, float]]) -> None:
    lanes = in_lanes(spans)
    for one, (begin, end) in enumerate(spans):
        for other, (begins, ends) in enumerate(spans):
            if one < other and lanes[one] == lanes[other]:
                assert end <= begins or ends <= begin
    assert set(lanes) == set(range(len(set(lanes))))
