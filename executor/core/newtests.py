"""What is wrong with the new tests of a Python file, read from its syntax tree and never executed.

A new test must need nothing but the code it tests: no container, real database, network, running service or long
sleep, and it must be able to fail. What a project cannot avoid is decided by a person, who is asked after the repairs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.core.assertions import asserts
from executor.core.outside import problems
from executor.core.pytree import parse
from executor.core.surroundings import surroundings

if TYPE_CHECKING:
    from executor.core.pytree import Facts
    from executor.core.surroundings import Surroundings

__all__ = ["Finding", "examine", "is_test_file"]

_TEST_FILE = re.compile(r"(test_\w*|\w*_test|tests?)\.py")
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a test.

    Attributes:
        description: the test and what is wrong with it, in one line.
        score: how bad it is, from 0 to 100.
        file: the path of the file.
        line: where, counted from 1.
    """

    description: str
    score: int
    file: str
    line: int


def is_test_file(path: str) -> bool:
    """Whether a path is that of a Python test file, by the names that pytest, unittest and Django collect."""
    return _TEST_FILE.fullmatch(path.rpartition("/")[2]) is not None


def examine(path: str, source: str, old: str | None = None) -> list[Finding]:
    """What is wrong with the new tests of a file, in the order of its lines.

    Args:
        path: of the file; findings name it, and files that are not Python have none.
        source: its content now.
        old: its content on the base; tests whose source is the same there are not examined.
    """
    if not path.endswith(".py"):
        return []
    try:
        return sorted(_examine(path, source, _known(old)), key=lambda found: (found.line, found.description))
    except _UNREADABLE as error:
        line = error.lineno if isinstance(error, SyntaxError) and error.lineno else 1
        return [Finding(f"the file cannot be read: {_reason(error)}", 100, path, max(line, 1))]


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deeply"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(text.encode("utf-8", "replace").decode().split())[:200]


def _known(old: str | None) -> set[tuple[str, str]]:
    """The tests of the base by name and source; none if the file was new or could not be read."""
    try:
        return {(test.label, test.text) for test in parse(old).tests()} if old is not None else set()
    except _UNREADABLE:
        return set()


def _examine(path: str, source: str, known: set[tuple[str, str]]) -> list[Finding]:
    module = parse(source)
    found: dict[tuple[int, str], Finding] = {}
    done: set[tuple[Facts, Surroundings]] = set()
    for test in module.tests():
        if (test.label, test.text) in known:
            continue
        reach = module.reach(test)
        around = surroundings(reach)
        for facts in reach:
            if (facts, around) in done:
                continue
            done.add((facts, around))
            for problem in problems(facts, around):
                description = f"{test.label} {problem.what}"
                found.setdefault((problem.line, problem.what), Finding(description, problem.score, path, problem.line))
        if not asserts(test, module):
            line: int = getattr(test.node, "lineno", 1)
            found[line, test.label] = Finding(f"{test.label} asserts nothing that can fail", 80, path, line)
    return list(found.values())
