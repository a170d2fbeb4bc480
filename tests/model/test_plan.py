"""The order of the plan, what can run side by side, and every way in which needs and branches can be wrong."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.config.load_milestones import read_milestone
from executor.errors import DeclarationError, Fault
from executor.model.milestone import Issue, Milestone
from executor.model.plan import WEIGHTS, Plan, compile_plan

if TYPE_CHECKING:
    from collections.abc import Iterable


def issue(text: str) -> Issue:
    """``id[:P0][:S] [needs...]`` as an issue."""
    head, *needs = text.split()
    name, *rest = head.split(":")
    priority = next((item for item in rest if item.startswith("P")), "P1")
    size = next((item for item in rest if not item.startswith("P")), "M")
    return Issue.model_validate(
        {"id": name, "title": name, "body": "b", "priority": priority, "size": size, "needs": tuple(needs)}
    )


def milestone(
    name: str, *issues: str, needs: Iterable[str] = (), branch: str = "", base: str | None = None
) -> Milestone:
    return Milestone.model_validate(
        {
            "id": name,
            "title": name,
            "needs": tuple(needs),
            "branch": branch or f"milestone/{name}",
            "base": base,
            "issues": tuple(issue(text) for text in issues),
        }
    )


def compiled(*milestones: Milestone, faulty: Iterable[str] = ()) -> Plan:
    by_id = {item.id: item for item in milestones}
    return compile_plan(by_id, {name: f"milestones/{name}.toml" for name in by_id}, faulty, by_path=True)


def faults(*milestones: Milestone, faulty: Iterable[str] = ()) -> list[Fault]:
    with pytest.raises(DeclarationError) as caught:
        compiled(*milestones, faulty=faulty)
    return list(caught.value.faults)


def fault(name: str, key: str, problem: str) -> Fault:
    return Fault(f"milestones/{name}.toml", key, problem)


def cycle(name: str, key: str, *path: str) -> Fault:
    return fault(name, key, f"cycle: {' -> '.join(path)}; each of them needs the next")


@pytest.mark.parametrize(
    ("issues", "order"),
    [
        ([], []),
        (["a"], ["a"]),
        (["a", "b", "c"], ["a", "b", "c"]),
        (["z", "y", "x"], ["z", "y", "x"]),
        (["10", "9", "1"], ["10", "9", "1"]),
        (["a:P3", "b:P2", "c:P1", "d:P0"], ["d", "c", "b", "a"]),
        (["a:S", "b:M", "c:L"], ["c", "b", "a"]),
        (["a", "b", "c b"], ["b", "a", "c"]),
        (["a b", "b c", "c"], ["c", "b", "a"]),
        (["a b", "b"], ["b", "a"]),
        (["a:P0 b", "b:P3", "c:P2"], ["c", "b", "a"]),
        (["a:L", "b:S", "c:L b"], ["b", "a", "c"]),
        (["a:L", "b:S", "c:M b"], ["a", "b", "c"]),
        (["a:P1:S", "b:P0:S", "c:P1:L"], ["b", "c", "a"]),
        (["d b c", "b a", "c:L a", "a"], ["a", "c", "b", "d"]),
        (["a", "b a a", "c a b a"], ["a", "b", "c"]),
    ],
)
def test_order_is_priority_then_longest_remaining_path_then_place(issues: list[str], order: list[str]) -> None:
    plan = compiled(milestone("m", *issues))
    assert plan.order == tuple(f"m/{name}" for name in order)


@pytest.mark.parametrize(
    ("issues", "order"),
    [
        (["a:S", "b:M", "c:L"], ["a", "b", "c"]),
        (["a", "b", "c b"], ["a", "b", "c"]),
        (["a:L", "b:S", "c:L b"], ["a", "b", "c"]),
        (["a b", "b"], ["b", "a"]),
        (["a:P3", "b:P2", "c:P1", "d:P0"], ["d", "c", "b", "a"]),
    ],
)
def test_without_the_rule_order_is_priority_then_place(issues: list[str], order: list[str]) -> None:
    declared = milestone("m", *issues)
    assert compile_plan({"m": declared}, {"m": "milestones/m.toml"}).order == tuple(f"m/{name}" for name in order)


def test_order_takes_the_place_of_the_milestone_before_that_of_the_issue() -> None:
    assert compiled(milestone("m2", "x", "y"), milestone("m1", "a")).order == ("m2/x", "m2/y", "m1/a")


def test_a_node_knows_its_place_its_needs_and_what_is_left_behind_it() -> None:
    plan = compiled(milestone("m1", "a:S"), milestone("m2", "b:L m1/a", "c b b m1/a"))
    node = plan.nodes["m2/c"]
    assert (node.ref, node.milestone, node.issue.id, node.needs, node.position, node.remaining) == (
        "m2/c",
        "m2",
        "c",
        ("m2/b", "m1/a"),
        1,
        2,
    )
    assert {ref: item.remaining for ref, item in plan.nodes.items()} == {"m1/a": 7, "m2/b": 6, "m2/c": 2}
    assert plan.dependents == {"m1/a": ("m2/b", "m2/c"), "m2/b": ("m2/c",), "m2/c": ()}


def test_no_milestones_are_a_plan_of_nothing() -> None:
    assert compiled() == Plan({}, (), {})


def test_an_issue_of_a_milestone_that_needs_another_comes_after_all_of_it() -> None:
    plan = compiled(milestone("m1", "a:P3", "b:P3"), milestone("m2", "x:P0", needs=["m1"]))
    assert plan.order == ("m1/a", "m1/b", "m2/x")
    assert plan.nodes["m2/x"].needs == ()


def test_a_milestone_may_be_needed_through_one_without_issues() -> None:
    plan = compiled(milestone("m3", "x:P0", needs=["m2"]), milestone("m2", needs=["m1"]), milestone("m1", "a:P3"))
    assert plan.order == ("m1/a", "m3/x")


def test_what_holds_a_whole_milestone_up_has_all_of_it_left_behind() -> None:
    plan = compiled(milestone("m1", "a", "b:S"), milestone("m2", "x:L", "y:L x", needs=["m1"]))
    assert {ref: node.remaining for ref, node in plan.nodes.items()} == {
        "m1/a": 10,
        "m1/b": 9,
        "m2/x": 8,
        "m2/y": 4,
    }


@pytest.mark.parametrize(
    ("issues", "waves", "path"),
    [
        ([], [], []),
        (["a", "b", "c"], [["a", "b", "c"]], ["a"]),
        (["a", "b a", "c b"], [["a"], ["b"], ["c"]], ["a", "b", "c"]),
        (["a", "b a", "c a", "d b c"], [["a"], ["b", "c"], ["d"]], ["a", "b", "d"]),
        (["a", "b:S a", "c:L a", "d b c"], [["a"], ["c", "b"], ["d"]], ["a", "c", "d"]),
        (["a:S", "b:S a", "c:L"], [["c", "a"], ["b"]], ["c"]),
        (["a", "d a c", "b a", "c b"], [["a"], ["b"], ["c"], ["d"]], ["a", "b", "c", "d"]),
    ],
)
def test_waves_and_critical_path_of_a_milestone(issues: list[str], waves: list[list[str]], path: list[str]) -> None:
    plan = compiled(milestone("m", *issues))
    assert plan.waves("m") == [[f"m/{name}" for name in wave] for wave in waves]
    assert plan.critical_path("m") == tuple(f"m/{name}" for name in path)


def test_waves_and_critical_path_stay_inside_the_milestone() -> None:
    plan = compiled(milestone("m1", "a:L", "b:L a"), milestone("m2", "x m1/b", "y x", "z:S"))
    assert plan.waves("m2") == [["m2/x", "m2/z"], ["m2/y"]]
    assert plan.critical_path("m2") == ("m2/x", "m2/y")
    assert plan.waves("m9") == []
    assert plan.critical_path("m9") == ()


def test_issues_may_need_issues_of_another_milestone_or_their_own_by_full_name() -> None:
    plan = compiled(milestone("m4", "4.1 m3/3.2", "4.2 m4/4.1"), milestone("m3", "3.2:P3"))
    assert plan.nodes["m4/4.1"].needs == ("m3/3.2",)
    assert plan.nodes["m4/4.2"].needs == ("m4/4.1",)
    assert plan.order == ("m3/3.2", "m4/4.1", "m4/4.2")


def test_the_message_about_an_unknown_issue_is_that_of_the_contract() -> None:
    with pytest.raises(DeclarationError) as caught:
        compiled(milestone("m4", "4.0", "4.1", "4.3 4.O"))
    assert str(caught.value) == (
        'milestones/m4.toml: issue[2].needs: unknown issue "4.O", needed by "4.3"; did you mean "4.0"?'
    )
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("need", "problem"),
    [
        ("4.O", 'unknown issue "4.O", needed by "x"; did you mean "4.0"?'),
        ("zebra", 'unknown issue "zebra", needed by "x"'),
        ("", 'unknown issue "", needed by "x"'),
        ("m3/3.l", 'unknown issue "m3/3.l", needed by "x"; did you mean "m3/3.1"?'),
        ("m4/4.O", 'unknown issue "m4/4.O", needed by "x"; did you mean "m4/4.0"?'),
        ("m3/zebra", 'unknown issue "m3/zebra", needed by "x"'),
        ("M3/3.1", 'unknown milestone "M3" in "M3/3.1", needed by "x"; did you mean "m3"?'),
        ("other/3.1", 'unknown milestone "other" in "other/3.1", needed by "x"'),
        ("/3.1", 'unknown milestone "" in "/3.1", needed by "x"'),
        ("m3/", 'unknown issue "m3/", needed by "x"'),
        ("m3/3.1/y", 'unknown issue "m3/3.1/y", needed by "x"'),
        ("m3", 'unknown issue "m3", needed by "x"'),
    ],
)
def test_a_need_that_does_not_exist_is_named(need: str, problem: str) -> None:
    own = Issue.model_validate({"id": "x", "title": "x", "body": "b", "needs": (need,)})
    m4 = milestone("m4", "4.0").model_copy(update={"issues": (issue("4.0"), own)})
    assert faults(milestone("m3", "3.1"), m4) == [fault("m4", "issue[1].needs", problem)]


def test_an_unknown_milestone_is_named() -> None:
    assert faults(milestone("m3", "a"), milestone("m4", "b", needs=["M3", "zebra"])) == [
        fault("m4", "milestone.needs", 'unknown milestone "M3", needed by "m4"; did you mean "m3"?'),
        fault("m4", "milestone.needs", 'unknown milestone "zebra", needed by "m4"'),
    ]


def test_what_is_declared_but_faulty_is_not_unknown() -> None:
    plan = compiled(
        milestone("m4", "a", "b gone", "c broken/1", "d a", needs=["broken"]),
        faulty=["m4/gone", "broken"],
    )
    assert plan.nodes["m4/b"].needs == ()
    assert plan.order == ("m4/a", "m4/b", "m4/c", "m4/d")


def test_a_faulty_issue_of_one_milestone_does_not_excuse_the_same_id_in_another() -> None:
    assert faults(milestone("m4", "b gone"), faulty=["m3/gone"]) == [
        fault("m4", "issue[0].needs", 'unknown issue "gone", needed by "b"')
    ]


def test_a_fault_is_reported_at_the_place_in_the_file_although_faulty_issues_were_left_out() -> None:
    text = (
        '[milestone]\nid = "m4"\ntitle = "T"\n[[issue]]\nid = "bad"\ntitle = ""\nbody = "b"\n'
        '[[issue]]\nid = "a"\ntitle = "A"\nbody = "b"\nneeds = ["a"]\n'
        '[[issue]]\nid = "b"\ntitle = "B"\nbody = "b"\nneeds = ["zebra"]\n'
    )
    read = read_milestone(tomllib.loads(text), "milestones/m4.toml", "m4")
    assert read.milestone is not None
    assert faults(read.milestone) == [
        fault("m4", "issue[2].needs", 'unknown issue "zebra", needed by "b"'),
        cycle("m4", "issue[1].needs", "m4/a", "m4/a"),
    ]


B = '[[issue]]\nid = "b"\ntitle = "B"\nbody = "b"\nneeds = ["a"]\n'


@pytest.mark.parametrize(
    "extra",
    [f'{B}size = "XL"\n', f'{B}[[issue]]\nid = "b"\ntitle = "Again"\nbody = "b"\n'],
    ids=["through a faulty issue", "through one of two with the same id"],
)
def test_a_cycle_is_reported_beside_other_faults(extra: str) -> None:
    text = f'[milestone]\nid = "m4"\ntitle = "T"\n[[issue]]\nid = "a"\ntitle = "A"\nbody = "b"\nneeds = ["b"]\n{extra}'
    read = read_milestone(tomllib.loads(text), "milestones/m4.toml", "m4")
    assert read.milestone is not None
    assert read.faults
    with pytest.raises(DeclarationError) as caught:
        compile_plan({"m4": read.milestone}, {"m4": "milestones/m4.toml"}, {"m4/b"}, {"m4": read.partial})
    assert list(caught.value.faults) == [cycle("m4", "issue[0].needs", "m4/a", "m4/b", "m4/a")]


def test_a_faulty_issue_is_no_part_of_the_plan() -> None:
    whole, faulty = milestone("m4", "a"), issue("b a")
    plan = compile_plan({"m4": whole}, {"m4": "milestones/m4.toml"}, {"m4/b"}, {"m4": [(1, faulty)]})
    assert list(plan.nodes) == ["m4/a"]


def test_all_faults_of_all_files_come_at_once() -> None:
    assert faults(
        milestone("m1", "a nope", "b c", "c b"), milestone("m2", "x y9", branch="milestone/m1", needs=["m7"])
    ) == [
        fault("m1", "issue[0].needs", 'unknown issue "nope", needed by "a"'),
        fault("m2", "issue[0].needs", 'unknown issue "y9", needed by "x"'),
        fault("m2", "milestone.needs", 'unknown milestone "m7", needed by "m2"'),
        fault("m2", "milestone.branch", '"milestone/m1" is already the branch of milestone "m1"; choose another name'),
        cycle("m1", "issue[1].needs", "m1/b", "m1/c", "m1/b"),
    ]


@pytest.mark.parametrize(
    ("issues", "expected"),
    [
        (["a c", "b a", "c b"], [cycle("m1", "issue[0].needs", "m1/a", "m1/c", "m1/b", "m1/a")]),
        (["a a"], [cycle("m1", "issue[0].needs", "m1/a", "m1/a")]),
        (["a", "b m1/b"], [cycle("m1", "issue[1].needs", "m1/b", "m1/b")]),
        (
            ["a b", "b a", "c d", "d c", "e"],
            [
                cycle("m1", "issue[0].needs", "m1/a", "m1/b", "m1/a"),
                cycle("m1", "issue[2].needs", "m1/c", "m1/d", "m1/c"),
            ],
        ),
        (["w x", "x a", "a b", "b a", "y"], [cycle("m1", "issue[2].needs", "m1/a", "m1/b", "m1/a")]),
        (["a b", "b a first", "first"], [cycle("m1", "issue[0].needs", "m1/a", "m1/b", "m1/a")]),
        (["a b c", "b c", "c a"], [cycle("m1", "issue[0].needs", "m1/a", "m1/c", "m1/a")]),
        (
            ["a b", "b a", "between b", "c d between", "d c"],
            [
                cycle("m1", "issue[0].needs", "m1/a", "m1/b", "m1/a"),
                cycle("m1", "issue[3].needs", "m1/c", "m1/d", "m1/c"),
            ],
        ),
    ],
)
def test_a_cycle_is_named_in_full_and_what_hangs_behind_it_is_not(issues: list[str], expected: list[Fault]) -> None:
    assert faults(milestone("m1", *issues)) == expected


def test_a_cycle_over_issues_of_two_milestones_is_named() -> None:
    assert faults(milestone("m1", "a m2/b"), milestone("m2", "b m1/a")) == [
        cycle("m1", "issue[0].needs", "m1/a", "m2/b", "m1/a")
    ]


def test_milestones_that_need_each_other_are_a_cycle_even_without_issues() -> None:
    assert faults(milestone("m1", needs=["m2"]), milestone("m2", needs=["m1"])) == [
        cycle("m1", "milestone.needs", "milestone m1", "milestone m2", "milestone m1")
    ]
    assert faults(milestone("m1", "a", needs=["m2"]), milestone("m2", "b", needs=["m1"])) == [
        cycle("m1", "milestone.needs", "milestone m1", "milestone m2", "milestone m1")
    ]


def test_a_milestone_that_needs_itself_is_a_cycle() -> None:
    assert faults(milestone("m1", "a", needs=["m1"])) == [
        cycle("m1", "milestone.needs", "milestone m1", "milestone m1")
    ]


def test_three_milestones_that_need_each_other_are_named_in_full() -> None:
    ring = [milestone(f"m{number}", "a", needs=[f"m{number % 3 + 1}"]) for number in (1, 2, 3)]
    assert faults(*ring, milestone("m4", "x", needs=["m1"])) == [
        cycle("m1", "milestone.needs", "milestone m1", "milestone m2", "milestone m3", "milestone m1")
    ]


def test_a_cycle_through_a_milestone_that_needs_one_whose_issue_needs_one_of_the_first_is_named() -> None:
    assert faults(milestone("m1", "free", "a m2/x"), milestone("m2", "x", "y", needs=["m1"])) == [
        cycle("m1", "milestone.needs", "milestone m1", "m1/a", "m2/x", "milestone m1")
    ]


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        (
            [("m1", "work"), ("m2", "work"), ("m3", "work")],
            [
                fault("m2", "milestone.branch", '"work" is already the branch of milestone "m1"; choose another name'),
                fault("m3", "milestone.branch", '"work" is already the branch of milestone "m1"; choose another name'),
            ],
        ),
        (
            [("m1", "main")],
            [
                fault(
                    "m1",
                    "milestone.branch",
                    '"main" is a base branch; work never lands directly on one; choose another name',
                )
            ],
        ),
        (
            [("m1", "work"), ("m2", "work/more/m2")],
            [fault("m2", "milestone.branch", 'git cannot have both "work/more/m2" and "work", the branch of "m1"')],
        ),
        (
            [("m1", "work/m1"), ("m2", "work")],
            [fault("m1", "milestone.branch", 'git cannot have both "work/m1" and "work", the branch of "m2"')],
        ),
    ],
)
def test_branches_that_git_or_safety_cannot_have_side_by_side_are_refused(
    branches: list[tuple[str, str]], expected: list[Fault]
) -> None:
    assert faults(*(milestone(name, "a", branch=branch) for name, branch in branches)) == expected


def test_a_branch_that_is_the_base_of_another_milestone_is_refused() -> None:
    assert faults(milestone("m1", branch="next"), milestone("m2", base="next")) == [
        fault(
            "m1", "milestone.branch", '"next" is a base branch; work never lands directly on one; choose another name'
        )
    ]


def test_branches_with_a_common_beginning_are_side_by_side() -> None:
    compiled(milestone("m1", branch="work/m1"), milestone("m2", branch="work/m10"), milestone("m3", branch="works"))


Graph = list[tuple[str, str, list[int]]]


@st.composite
def dags(draw: st.DrawFn) -> tuple[Graph, list[int]]:
    """Issues in a random order of the file, each with needs among those before it in another random order."""
    count = draw(st.integers(0, 30))
    graph = [
        (
            draw(st.sampled_from(["P0", "P1", "P2", "P3"])),
            draw(st.sampled_from(["S", "M", "L"])),
            sorted(draw(st.sets(st.integers(0, number - 1), max_size=4))) if number else [],
        )
        for number in range(count)
    ]
    return graph, draw(st.permutations(range(count)))


def _written(graph: Graph, order: list[int]) -> list[str]:
    return [
        " ".join([f"{number}:{graph[number][0]}:{graph[number][1]}", *map(str, graph[number][2])]) for number in order
    ]


@settings(max_examples=120, deadline=None)
@given(dags())
def test_nothing_comes_before_its_needs_and_always_the_best_of_what_is_ready(drawn: tuple[Graph, list[int]]) -> None:
    graph, order = drawn
    plan = compiled(milestone("m", *_written(graph, order)))
    remaining = [0] * len(graph)
    for number in reversed(range(len(graph))):
        after = [remaining[other] for other in range(len(graph)) if number in graph[other][2]]
        remaining[number] = WEIGHTS[graph[number][1]] + max(after, default=0)
    assert [plan.nodes[f"m/{number}"].remaining for number in range(len(graph))] == remaining
    left, done, expected = list(order), set[int](), []
    while left:
        ready = [number for number in left if done.issuperset(graph[number][2])]
        best = min(ready, key=lambda number: (graph[number][0], -remaining[number], order.index(number)))
        expected.append(f"m/{best}")
        done.add(best)
        left.remove(best)
    assert list(plan.order) == expected


@settings(max_examples=60, deadline=None)
@given(dags())
def test_waves_hold_every_issue_once_after_its_needs_and_the_critical_path_weighs_most(
    drawn: tuple[Graph, list[int]],
) -> None:
    graph, order = drawn
    plan = compiled(milestone("m", *_written(graph, order)))
    waves = plan.waves("m")
    where = {ref: number for number, wave in enumerate(waves) for ref in wave}
    assert sorted(ref for wave in waves for ref in wave) == sorted(plan.nodes)
    for ref, node in plan.nodes.items():
        assert where[ref] == max((where[need] + 1 for need in node.needs), default=0)
    path = plan.critical_path("m")
    assert all(before in plan.nodes[after].needs for before, after in pairwise(path))
    assert sum(WEIGHTS[plan.nodes[ref].issue.size] for ref in path) == max(
        (node.remaining for node in plan.nodes.values()), default=0
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(st.integers(0, 9), max_size=3), min_size=10, max_size=10))
def test_a_graph_is_refused_exactly_when_it_has_a_cycle_and_each_named_cycle_is_one(needs: list[set[int]]) -> None:
    reach = [set(items) for items in needs]
    for middle in range(10):
        for items in reach:
            if middle in items:
                items.update(reach[middle])
    knots = {frozenset(other for other in items if number in reach[other]) for number, items in enumerate(reach)}
    written = milestone("m", *(" ".join(map(str, [number, *sorted(items)])) for number, items in enumerate(needs)))
    found = faults(written) if any(n in reach[n] for n in range(10)) else []
    if not found:
        assert len(compiled(written).order) == 10
    named = []
    for item in found:
        path = [
            int(ref.removeprefix("m/")) for ref in item.problem.removeprefix("cycle: ").partition(";")[0].split(" -> ")
        ]
        assert path[0] == path[-1]
        assert item.key == f"issue[{path[0]}].needs"
        assert all(after in needs[before] for before, after in pairwise(path))
        named.append(frozenset(other for other in range(10) if path[0] in reach[other] and other in reach[path[0]]))
    assert len(named) == len(set(named))
    assert set(named) == knots - {frozenset()}


def test_a_chain_of_ten_thousand_compiles() -> None:
    count = 10_000
    chain = milestone("m", *(f"{n}:S {n + 1}" if n + 1 < count else f"{n}:S" for n in range(count)))
    plan = compiled(chain)
    assert plan.order == tuple(f"m/{n}" for n in reversed(range(count)))
    assert plan.nodes[f"m/{count - 1}"].remaining == count
    assert len(plan.waves("m")) == count
    assert plan.critical_path("m") == plan.order


def test_ten_thousand_side_by_side_compile() -> None:
    plan = compiled(milestone("m", *(f"i{n}" for n in range(10_000))), milestone("n", "last:P0", needs=["m"]))
    assert len(plan.waves("m")) == 1
    assert len(plan.order) == 10_001
    assert plan.order[-1] == "n/last"


def test_a_cycle_of_ten_thousand_is_named_from_its_first() -> None:
    count = 10_000
    (only,) = faults(milestone("m", *(f"{n} {(n + 1) % count}" for n in range(count))))
    assert only.key == "issue[0].needs"
    assert only.problem.count(" -> ") == count
    assert only.problem.startswith("cycle: m/0 -> m/1 -> ")
    assert only.problem.endswith(" -> m/9999 -> m/0; each of them needs the next")
