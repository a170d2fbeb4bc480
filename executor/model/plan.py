"""The plan: ids resolved across milestones, cycles reported in full, and the execution order of issues. Pure.

Order: priority, then position in the file; needs come first. With `order = "critical-path"` in the rules, the longest
remaining path precedes the position.

Whether two issues are expected to change the same files, by the globs that they declare. Pure.

An overlap is a reason to start another issue first, never a lock: in real histories, two changes of one file conflict
in a quarter to a half of all cases.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cache
from typing import TYPE_CHECKING

from executor.errors import DeclarationError, Fault
from executor.model.fingerprint import IssueRef
from executor.model.hints import Known, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from executor.model.milestone import Issue, Milestone

    _Placed = Mapping[str, Sequence[tuple[int, Issue]]]
    """Milestone -> its issues with their positions in the file."""

__all__ = ["WEIGHTS", "Node", "Plan", "compile_plan", "globs_meet"]


_WILD = re.compile(r"[*?\[]")


@cache
def globs_meet(one: str, other: str) -> bool:
    """Return whether a path can match both globs; assumed if both have wildcards in a name."""
    return _meet(_parts(one), _parts(other))


def _parts(glob: str) -> list[str]:
    """Return its names from the root; a glob without a slash is a name in any folder, as in `executor.model.paths`."""
    return glob.strip("/").split("/") if "/" in glob else ["**", glob]


def _meet(one: list[str], other: list[str]) -> bool:
    if not one or not other:
        return all(part == "**" for part in (*one, *other))
    if "**" in (one[0], other[0]):
        deep, rest = (one, other) if one[0] == "**" else (other, one)
        return _meet(deep[1:], rest) or _meet(deep, rest[1:])
    return _names_meet(one[0], other[0]) and _meet(one[1:], other[1:])


def _names_meet(one: str, other: str) -> bool:
    if one == other:
        return True
    wild = bool(_WILD.search(one)), bool(_WILD.search(other))
    if wild == (True, True):
        start = min(_WILD.search(one).start(), _WILD.search(other).start())  # type: ignore[union-attr]  # both are wild
        return one[:start] == other[:start]
    if wild == (False, False):
        return False
    glob, name = (one, other) if wild[0] else (other, one)
    return re.match(translate(glob), name) is not None


WEIGHTS = {"S": 1, "M": 2, "L": 4}
"""Initial estimate of an issue's duration by its declared size, in units of the smallest."""

_Graph = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Node:
    """An issue in the plan.

    Attributes:
        ref: qualified id, ``m4/4.1``.
        milestone: id of its milestone.
        issue: its declaration.
        needs: refs of the issues that it needs.
        position: position in the file, from 0.
        remaining: weight of the longest path from this issue to the end, including it.
    """

    ref: str
    milestone: str
    issue: Issue
    needs: tuple[str, ...]
    position: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Every declared issue, in sequential execution order.

    Attributes:
        nodes: qualified id -> node.
        order: refs; each after all its needs.
        dependents: qualified id -> its direct dependents.
    """

    nodes: Mapping[str, Node]
    order: tuple[str, ...]
    dependents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def waves(self, milestone: str) -> list[list[str]]:
        """Return the issues of a milestone that could run in parallel: each wave needs only earlier ones."""
        depth: dict[str, int] = {}
        waves: list[list[str]] = []
        for ref in self._own(milestone):
            depth[ref] = max((depth[need] + 1 for need in self.nodes[ref].needs if need in depth), default=0)
            if depth[ref] == len(waves):
                waves.append([])
            waves[depth[ref]].append(ref)
        return waves

    def critical_path(self, milestone: str) -> tuple[str, ...]:
        """Return the chain of issues of a milestone with the greatest weight; the milestone cannot end sooner."""
        best: dict[str, tuple[int, str]] = {}
        own = list(self._own(milestone))
        for ref in reversed(own):
            following = [(best[item][0], item) for item in self.dependents.get(ref, ()) if item in best]
            weight, after = max(following, key=lambda item: item[0], default=(0, ""))
            best[ref] = (weight + WEIGHTS[self.nodes[ref].issue.size], after)
        path: list[str] = []
        ref = max(own, key=lambda item: best[item][0], default="")
        while ref:
            path.append(ref)
            ref = best[ref][1]
        return tuple(path)

    def _own(self, milestone: str) -> Iterator[str]:
        return (ref for ref in self.order if self.nodes[ref].milestone == milestone)


def compile_plan(
    milestones: Mapping[str, Milestone],
    files: Mapping[str, str],
    faulty: Iterable[str] = (),
    partial: Mapping[str, Sequence[tuple[int, Issue]]] | None = None,
    *,
    by_path: bool = False,
) -> Plan:
    """Compile the plan of all milestones.

    Args:
        milestones: id -> declaration, in the order of the files.
        files: id -> path of its file, for messages.
        faulty: ids of issues and milestones that are declared but could not be read; they are not reported as unknown.
        partial: milestone -> faulty issues with their positions, as far as readable; cycles through them are reported,
            but they are not part of the plan.
        by_path: of issues with equal priority, the one with the longest remaining path goes first.

    Raises:
        DeclarationError: with every unknown id, every cycle and every clash of branches.
    """
    faults: list[Fault] = []
    unread = frozenset(faulty)
    every = {name: [*item.placed(), *(partial or {}).get(name, ())] for name, item in milestones.items()}
    needs = _issue_needs(every, files, unread, faults)
    held = _milestone_needs(milestones, files, unread, faults)
    faults += _branch_faults(milestones, files)
    graph = _graph(every, needs, held)
    dependents = _reversed(graph)
    sorted_refs = _topological(graph, dependents)
    if len(sorted_refs) < len(graph):
        faults += _cycles(graph, frozenset(sorted_refs), every, files)
    if faults:
        raise DeclarationError(faults)
    if partial:
        return compile_plan(milestones, files, unread, by_path=by_path)
    return _plan(milestones, needs, graph, dependents, sorted_refs, by_path=by_path)


def _issue_needs(every: _Placed, files: Mapping[str, str], unread: frozenset[str], faults: list[Fault]) -> _Graph:
    """Return the needs of each issue; two issues with one id share their needs."""
    ids = {name: {issue.id for _, issue in issues} for name, issues in every.items()}
    known: dict[str, Known] = {}
    resolved: _Graph = {}
    for name, issues in every.items():
        for place, issue in issues:
            found = [*resolved.get(str(IssueRef(name, issue.id)), ())]
            for need in issue.needs:
                owner, slash, wanted = need.partition("/") if "/" in need else (name, "", need)
                ref = str(IssueRef(owner, wanted))
                if owner in ids and wanted in ids[owner]:
                    found.append(ref)
                elif ref not in unread and owner not in unread:
                    problem = _unknown(need, issue.id, owner, slash, ids, known)
                    faults.append(Fault(files[name], f"issue[{place}].needs", problem))
            resolved[str(IssueRef(name, issue.id))] = tuple(dict.fromkeys(found))
    return resolved


def _unknown(need: str, by: str, owner: str, slash: str, ids: Mapping[str, set[str]], known: dict[str, Known]) -> str:
    if owner not in ids:
        if not known.get(""):
            known[""] = Known(ids)
        return f"unknown milestone {quoted(owner)} in {quoted(need)}, needed by {quoted(by)}{known[''].hint(owner)}"
    if owner not in known:
        known[owner] = Known(sorted(ids[owner]))
    near = known[owner].nearest(need.partition("/")[2] if slash else need)
    hint = "" if near is None else f"; did you mean {quoted(f'{owner}/{near}' if slash else near)}?"
    return f"unknown issue {quoted(need)}, needed by {quoted(by)}{hint}"


def _milestone_needs(
    milestones: Mapping[str, Milestone], files: Mapping[str, str], unread: frozenset[str], faults: list[Fault]
) -> _Graph:
    known = Known(milestones)
    resolved: _Graph = {}
    for name, milestone in milestones.items():
        for need in milestone.needs:
            if need not in milestones and need not in unread:
                problem = f"unknown milestone {quoted(need)}, needed by {quoted(name)}{known.hint(need)}"
                faults.append(Fault(files[name], "milestone.needs", problem))
        resolved[name] = tuple(dict.fromkeys(need for need in milestone.needs if need in milestones))
    return resolved


def _branch_faults(milestones: Mapping[str, Milestone], files: Mapping[str, str]) -> Iterator[Fault]:
    owner: dict[str, str] = {}
    bases = {milestone.base or "main" for milestone in milestones.values()}
    for name, milestone in milestones.items():
        branch = milestone.branch
        if branch in bases:
            problem = f"{quoted(branch)} is a base branch; work never lands directly on one; choose another name"
            yield Fault(files[name], "milestone.branch", problem)
        elif branch in owner:
            problem = (
                f"{quoted(branch)} is already the branch of milestone {quoted(owner[branch])}; choose another name"
            )
            yield Fault(files[name], "milestone.branch", problem)
        owner.setdefault(branch, name)
    for branch, name in owner.items():
        parts = branch.split("/")
        for end in range(1, len(parts)):
            above = "/".join(parts[:end])
            if above in owner:
                problem = (
                    f"git cannot have both {quoted(branch)} and {quoted(above)}, the branch of {quoted(owner[above])}"
                )
                yield Fault(files[name], "milestone.branch", problem)


def _graph(every: _Placed, needs: _Graph, held: _Graph) -> _Graph:
    """Return the dependency graph: issues by qualified id, and whole milestones as ``milestone <id>``."""
    whole = {name: f"milestone {name}" for name in every}
    gates = {name: tuple(whole[need] for need in held[name]) for name in every}
    needed = {need for names in held.values() for need in names}
    graph: _Graph = {}
    for name, issues in every.items():
        own = [str(IssueRef(name, issue.id)) for _, issue in issues]
        graph[whole[name]] = (*gates[name], *own) if name in needed else ()
        for ref in own:
            graph[ref] = (*gates[name], *needs[ref]) if gates[name] else needs[ref]
    return graph


def _reversed(graph: _Graph) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {ref: [] for ref in graph}
    for ref, needs in graph.items():
        for need in needs:
            dependents[need].append(ref)
    return dependents


def _topological(graph: _Graph, dependents: Mapping[str, Sequence[str]]) -> list[str]:
    """Return everything that is neither on nor behind a cycle, needs first."""
    left = {ref: len(needs) for ref, needs in graph.items()}
    ready = deque(ref for ref, count in left.items() if not count)
    done = []
    while ready:
        ref = ready.popleft()
        done.append(ref)
        for dependent in dependents[ref]:
            left[dependent] -= 1
            if not left[dependent]:
                ready.append(dependent)
    return done


def _cycles(graph: _Graph, free: frozenset[str], every: _Placed, files: Mapping[str, str]) -> Iterator[Fault]:
    """Yield one shortest cycle for every strongly connected part, with a natural start for a reader."""
    place = {
        str(IssueRef(name, issue.id)): number for name, issues in every.items() for number, issue in reversed(issues)
    }
    stuck = {ref: tuple(need for need in graph[ref] if need not in free) for ref in graph if ref not in free}
    behind = frozenset(_topological(_turned(stuck), stuck))
    left = dict.fromkeys(ref for ref in stuck if ref not in behind)
    while left:
        for start in list(left):
            path = _way_back(graph, start, left)
            if path:
                break
            del left[start]
        else:
            return
        kind, space, name = start.partition(" ")
        milestone = name if space else start.partition("/")[0]
        key = "milestone.needs" if space and kind == "milestone" else f"issue[{place[start]}].needs"
        yield Fault(files[milestone], key, f"cycle: {' -> '.join(path)}; each of them needs the next")
        for ref in _knot(graph, start, left):
            left.pop(ref, None)


def _turned(graph: _Graph) -> _Graph:
    return {ref: tuple(items) for ref, items in _reversed(graph).items()}


def _way_back(graph: _Graph, start: str, within: Mapping[str, object]) -> list[str]:
    """Return the shortest path from `start` to itself; empty without one."""
    came: dict[str, str] = {}
    queue = deque([start])
    while queue:
        ref = queue.popleft()
        for need in graph[ref]:
            if need == start:
                path = [ref]
                while path[-1] != start:
                    path.append(came[path[-1]])
                return [*reversed(path), start]
            if need in within and need not in came:
                came[need] = ref
                queue.append(need)
    return []


def _knot(graph: _Graph, start: str, within: Mapping[str, object]) -> set[str]:
    """Return everything that both reaches `start` and is reached by it."""
    return _reach(graph, start, within) & _reach(_reversed(graph), start, within)


def _reach(edges: Mapping[str, Sequence[str]], start: str, within: Mapping[str, object]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        for item in edges.get(waiting.pop(), ()):
            if item in within and item not in found:
                found.add(item)
                waiting.append(item)
    return found


def _plan(
    milestones: Mapping[str, Milestone],
    needs: _Graph,
    graph: _Graph,
    dependents: Mapping[str, Sequence[str]],
    sorted_refs: Sequence[str],
    *,
    by_path: bool,
) -> Plan:
    sizes = {
        str(IssueRef(name, issue.id)): WEIGHTS[issue.size] for name, item in milestones.items() for issue in item.issues
    }
    remaining: dict[str, int] = {}
    for ref in reversed(sorted_refs):
        remaining[ref] = sizes.get(ref, 0) + max((remaining[item] for item in dependents[ref]), default=0)
    nodes: dict[str, Node] = {}
    keys: dict[str, tuple[str, int, int]] = {}
    for number, (name, milestone) in enumerate(milestones.items()):
        for position, issue in enumerate(milestone.issues):
            ref = str(IssueRef(name, issue.id))
            nodes[ref] = Node(ref, name, issue, needs[ref], position, remaining[ref])
            keys[ref] = (issue.priority, -remaining[ref] if by_path else 0, len(nodes))
        keys[f"milestone {name}"] = ("", 0, number)
    order = [ref for ref in _by_key(graph, dependents, keys) if ref in nodes]
    own = {ref: tuple(item for item in dependents[ref] if item in nodes) for ref in nodes}
    return Plan(nodes, tuple(order), own)


def _by_key(
    graph: _Graph, dependents: Mapping[str, Sequence[str]], keys: Mapping[str, tuple[str, int, int]]
) -> Iterator[str]:
    left = {ref: len(items) for ref, items in graph.items()}
    ready = [(keys[ref], ref) for ref, count in left.items() if not count]
    heapq.heapify(ready)
    while ready:
        _, ref = heapq.heappop(ready)
        yield ref
        for dependent in dependents[ref]:
            left[dependent] -= 1
            if not left[dependent]:
                heapq.heappush(ready, (keys[dependent], dependent))
