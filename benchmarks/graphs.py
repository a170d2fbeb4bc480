"""The shapes that are measured: name of each node and the nodes it needs, in an order in which they could be built."""

from __future__ import annotations

import random

__all__ = ["SHAPES", "Graph", "graph"]

Graph = dict[str, list[str]]
SHAPES = ("wide", "chain", "mixed")


def graph(shape: str, size: int) -> Graph:
    """A graph of that many nodes.

    ``wide``: nobody needs anybody. ``chain``: each needs the one before. ``mixed``: each needs up to three of the
    hundred before it, the same ones every time.
    """
    names = [f"n{number}" for number in range(size)]
    if shape == "wide":
        return {name: [] for name in names}
    if shape == "chain":
        return {name: names[max(0, place - 1) : place] for place, name in enumerate(names)}
    chance = random.Random(size)  # noqa: S311  (no secret)
    found: Graph = {}
    for place, name in enumerate(names):
        near = names[max(0, place - 100) : place]
        found[name] = sorted(chance.sample(near, min(len(near), chance.randint(0, 3))))
    return found
