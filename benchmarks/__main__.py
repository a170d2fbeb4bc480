"""Measure and print: `python -m benchmarks [--quick] [--json FILE]`. Ratios count; seconds are this machine's.

--quick leaves 10,000 issues out and takes fewer rounds. `python -m benchmarks sabotage` and `python -m benchmarks
stops` measure the judge, `python -m benchmarks queue` how fast verified results land, `python -m benchmarks history`
ranges of real histories, `python -m benchmarks collisions` what conflicts cost there, `python -m benchmarks large`
large repositories, `python -m benchmarks environments` what the environments of trees cost, `python -m benchmarks
hosts` what checks cost on other hosts, `python -m benchmarks overhead` what an issue costs beside its agent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    collisions,
    environments,
    history,
    hosts,
    landing,
    large_repository,
    merge_queue,
    ours,
    overhead,
    peers,
)
from benchmarks.graphs import SHAPES, graph
from benchmarks.judging import sabotage, stops
from benchmarks.measure import Command, Result, race

if TYPE_CHECKING:
    from collections.abc import Iterator

JUDGING = {
    "sabotage": sabotage.main,
    "stops": stops.main,
    "large": large_repository.main,
    "queue": merge_queue.main,
    "history": history.main,
    "collisions": collisions.main,
    "environments": environments.main,
    "hosts": hosts.main,
    "overhead": overhead.main,
}
_DOIT = (sys.executable, "-m", "doit")


@dataclass(frozen=True)
class Row:
    """One line of the table: a measure, for one graph, beside its peer."""

    measure: str
    size: int
    shape: str
    ours_ms: float
    doit_ms: float
    ratio: float
    target: float | None
    ours_mib: float
    doit_mib: float
    ninja_ms: float | None
    make_ms: float | None

    def text(self) -> str:
        """As a row of a Markdown table."""
        goal = "" if self.target is None else f"<= {self.target:g} {'met' if self.ratio <= self.target else 'MISSED'}"
        others = " | ".join("-" if value is None else f"{value:.0f}" for value in (self.ninja_ms, self.make_ms))
        return (
            f"| {self.measure} | {self.size:,} {self.shape} | {self.ours_ms:.0f} | {self.doit_ms:.0f} "
            f"| {self.ratio:.2f} | {goal} | {self.ours_mib:.0f} / {self.doit_mib:.0f} | {others} |"
        )


def main() -> None:
    """Measure what the command line asks for."""
    if sys.argv[1:2] and sys.argv[1] in JUDGING:
        JUDGING[sys.argv[1]](sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 and 1,000 issues, three rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    sizes, rounds = ((100, 1_000), 3) if options.quick else ((100, 1_000, 10_000), 7)
    rows: list[Row] = []
    print("| measure | issues | ours ms | doit ms | ratio | target | peak MiB ours / doit | ninja ms | make ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in sizes:
        for shape in SHAPES:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                for row in _rows(Path(folder), shape, size, rounds):
                    print(row.text(), flush=True)
                    rows.append(row)
    cost = _landing_cost(40 if options.quick else 60)
    print(f"\nlanding: {cost['ours_ms']:.0f} ms an issue, bare git {cost['git_ms']:.0f} ms, ratio {cost['ratio']:.2f}")
    if options.json:
        options.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], "landing": cost}, indent=1))


def _rows(folder: Path, shape: str, size: int, rounds: int) -> Iterator[Row]:
    nodes = graph(shape, size)
    repo = ours.declare(folder / "ours", nodes)
    plain = peers.plain_doit(folder / "doit", nodes)
    flat = peers.plain_doit(folder / "flat", nodes, flat=True)
    others = [
        command for command in (peers.ninja(folder / "ninja", nodes), peers.make(folder / "make", nodes)) if command
    ]
    listing = Command("doit", [*_DOIT, "list"], flat)
    pending = race([Command("ours", [*_DOIT, "list"], repo), listing], rounds)
    yield _row("list, all pending", shape, size, pending, 1.3 if size == 100 else 2.0)
    ours.land_everything(repo)
    landed = race([Command("ours", [*_DOIT, "list"], repo), listing], rounds)
    yield _row("list, all landed", shape, size, landed, {100: 1.3, 10_000: 0.5}.get(size))
    again = race(
        [Command("ours", [*_DOIT, "milestone:bench"], repo), Command("doit", _DOIT, plain), *others],
        rounds,
    )
    yield _row("run, nothing to do", shape, size, again, 0.5 if size == 10_000 else None)


def _row(measure: str, shape: str, size: int, found: dict[str, Result], target: float | None) -> Row:
    mine, plain = found["ours"], found["doit"]
    times = {name: result.seconds * 1000 for name, result in found.items()}
    return Row(
        measure,
        size,
        shape,
        times["ours"],
        times["doit"],
        mine.over(plain),
        target,
        mine.peak / 2**20,
        plain.peak / 2**20,
        times.get("ninja"),
        times.get("make"),
    )


def _landing_cost(count: int) -> dict[str, float]:
    """Median of three turns each."""
    mine, bare = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            bare.append(landing.bare_git(Path(folder) / "git", count))
            mine.append(landing.milestone(Path(folder) / "ours", count))
    seconds, base = sorted(mine)[1], sorted(bare)[1]
    ratio = sorted(one / other for one, other in zip(mine, bare, strict=True))[1]
    return {"ours_ms": seconds * 1000, "git_ms": base * 1000, "ratio": ratio}


if __name__ == "__main__":
    main()
