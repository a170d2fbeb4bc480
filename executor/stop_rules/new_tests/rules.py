"""Faults of the new tests of a Python file, from its syntax tree; nothing is executed.

A new test may depend only on the code it tests: no container, real database, network, running service or long sleep,
and it must be able to fail. After unsuccessful repairs a person decides about the exceptions of a project.

A test can fail if it has an assertion that is reached, is not swallowed, and is not always true.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.stop_rules.new_tests.external_access import problems, surroundings
from executor.stop_rules.new_tests.syntax import Function, parse, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.stop_rules.new_tests.external_access import Surroundings
    from executor.stop_rules.new_tests.syntax import Facts, Module, Unit

__all__ = ["UNREADABLE", "Finding", "asserts", "examine"]

UNREADABLE = "the file cannot be read"
"""Start of the finding about a file that is not valid Python; a syntax check reports details."""


_DEPTH = 20  # nested expressions; ends a circle of constants
_CHECKING = re.compile(
    r"(assert|fail\b|expect\b|expect_|raises|warns|deprecated_call|fnmatch_lines|no_fnmatch|re_match_lines|verify_all)"
)
_HELPERS = re.compile(r"(check|verify|expect|ensure|validate|compare)_?")
_HELPING = re.compile(r"(^\.|\btests?\b|testing|helpers?\b|conftest|support\b|utils\b)")
_SWALLOWED = {"AssertionError", "Exception", "BaseException"}
_SAME = (ast.Eq, ast.Is, ast.LtE, ast.GtE)


def asserts(test: Unit, module: Module) -> bool:
    """Return whether a test has a meaningful assertion, directly or in a helper of the file that it calls."""
    waiting, seen = [test], set[str]()
    while waiting:
        unit = waiting.pop()
        if unit.label in seen:
            continue
        seen.add(unit.label)
        facts = module.facts(unit)
        reached = [node for body in _bodies(unit) for node in _reached(body)]
        if any(_is_assertion(node, facts.constants, facts.scope) for node in reached):
            return True
        called = {node.id for node in reached if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        own = {node.attr for node in reached if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
        waiting += [
            found for name in called for found in module.find(name, _class_of(unit, test, name in facts.params))
        ]
        waiting += [found for name in own if f"self.{name}" in facts.names for found in module.find(name, unit.owner)]
        waiting = [unit for unit in waiting if unit.kind != "test" or unit.owner == test.owner]
    return False


def _bodies(unit: Unit) -> list[list[ast.stmt]]:
    """Return the body of a function, or those of all methods of a helper class."""
    if isinstance(unit.node, ast.ClassDef):
        return [item.body for item in unit.node.body if isinstance(item, Function)]
    return [unit.node.body] if isinstance(unit.node, Function) else []


def _class_of(unit: Unit, test: Unit, is_param: bool) -> str:  # noqa: FBT001 - private
    """Return the scope of a plain name: fixtures of the class first, everything else in the file."""
    return (unit.owner or test.owner) if is_param else ""


def _reached(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield nodes that can run and whose failure is visible; nested functions only if they are named."""
    inner: dict[str, list[ast.stmt]] = {}
    waiting: list[list[ast.stmt]] = [body]
    named: set[str] = set()
    while waiting or (called := sorted(named & set(inner))):
        if not waiting:
            waiting += [inner.pop(name) for name in called]
        for statement in waiting.pop():
            if isinstance(statement, Function | ast.ClassDef):
                inner[statement.name] = statement.body
                continue
            blocks = _blocks(statement)
            waiting += [block for block in blocks if block]
            for node in _own(statement):
                if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                    named.add(node.id if isinstance(node, ast.Name) else node.attr)
                yield node
            if _ends(statement):
                break


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield a statement and its expressions, without nested statements."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [
            child
            for child in ast.iter_child_nodes(node)
            if not isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
        ]


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:  # noqa: PLR0911 - one per kind
    """Return the nested bodies of a statement that can run and whose failure is visible."""
    body: list[ast.stmt] = getattr(statement, "body", [])
    other: list[ast.stmt] = getattr(statement, "orelse", [])
    if isinstance(statement, ast.If | ast.While):
        if _always_false(statement.test):
            return [other]
        return [body] if isinstance(statement, ast.If) and _always(statement.test, {}) else [body, other]
    if isinstance(statement, ast.For) and isinstance(statement.iter, ast.List | ast.Tuple) and not statement.iter.elts:
        return [other]
    if isinstance(statement, ast.Try | ast.TryStar):
        handlers = [handler.body for handler in statement.handlers]
        seen = [] if any(_swallows(handler) for handler in statement.handlers) else [body]
        return [*seen, *handlers, other, statement.finalbody]
    if isinstance(statement, ast.With | ast.AsyncWith):
        return [] if any(_suppresses(item.context_expr) for item in statement.items) else [body]
    if isinstance(statement, ast.Match):
        return [case.body for case in statement.cases]
    return [body, other]


def _swallows(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler catches failed assertions and suppresses them."""
    caught = handler.type
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught] if caught is not None else []
    if caught is not None and not any(resolve(kind, {}).rpartition(".")[2] in _SWALLOWED for kind in kinds):
        return False
    for statement in handler.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Raise | ast.Assert) or (isinstance(node, ast.Call) and _checks(node, {})):
                return False
    return True


def _suppresses(context: ast.expr) -> bool:
    if not isinstance(context, ast.Call) or resolve(context.func, {}).rpartition(".")[2] != "suppress":
        return False
    return any(resolve(kind, {}).rpartition(".")[2] in _SWALLOWED for kind in context.args)


def _ends(statement: ast.stmt) -> bool:
    """Whether the rest of the block is unreachable."""
    if isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break):
        return True
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    return resolve(statement.value.func, {}) in {
        ".pytest.skip",
        ".pytest.xfail",
        ".self.skipTest",
        ".pytest.exit",
        ".sys.exit",
    }


def _is_assertion(node: ast.AST, constants: dict[str, ast.expr], scope: dict[str, str]) -> bool:
    if isinstance(node, ast.Assert):
        return not _always(node.test, constants)
    if isinstance(node, ast.Raise):
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(kind, ast.Name) and kind.id == "AssertionError"
    return isinstance(node, ast.Call) and _checks(node, scope) and not _idle(node, constants)


def _checks(call: ast.Call, scope: dict[str, str]) -> bool:
    """Return whether a call is an assertion by its name; helpers of other test modules count by their names."""
    name = resolve(call.func, scope)
    last = (name or f".{getattr(call.func, 'attr', '')}").rpartition(".")[2]
    if _CHECKING.match(last) or last in {"assert_", "Assert"}:
        return True
    module = name.rpartition(".")[0]
    return bool(module and isinstance(call.func, ast.Name) and _HELPERS.match(last) and _HELPING.search(module))


def _idle(call: ast.Call, constants: dict[str, ast.expr]) -> bool:
    """Return whether a call is like ``self.assertTrue(True)``."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in {"assertTrue", "assert_"} and call.args:
        return _always(call.args[0], constants)
    if name == "assertFalse" and call.args:
        return _always_false(call.args[0])
    if name in {"assertEqual", "assertEquals", "assertIs", "assertListEqual", "assertDictEqual"} and len(call.args) > 1:
        return _same(call.args[0], call.args[1])
    if name == "assertIsNotNone" and call.args:
        return _literal(call.args[0], constants)
    return name == "assertIsNone" and bool(call.args) and _always_false(call.args[0])


def _always(node: ast.expr, constants: dict[str, ast.expr], depth: int = _DEPTH) -> bool:  # noqa: C901, PLR0911 - one per kind
    """Whether an expression is true whatever the code under test does."""
    if depth == 0:
        return False
    if isinstance(node, ast.Constant):
        return bool(node.value)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts)
    if isinstance(node, ast.Dict):
        return bool(node.keys)
    if isinstance(node, ast.Lambda):
        return True
    if isinstance(node, ast.NamedExpr):
        return _always(node.value, constants, depth - 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _always_false(node.operand)
    if isinstance(node, ast.BoolOp):
        true = [_always(value, constants, depth - 1) for value in node.values]
        return all(true) if isinstance(node.op, ast.And) else any(true)
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.Constant) for part in node.values)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and len(node.args) > 1
    ):
        return isinstance(node.args[1], ast.Name) and node.args[1].id == "object"
    return isinstance(node, ast.Compare) and len(node.ops) == 1 and _idle_compare(node, constants)


def _idle_compare(node: ast.Compare, constants: dict[str, ast.expr]) -> bool:
    operator, left, right = node.ops[0], node.left, node.comparators[0]
    if isinstance(operator, ast.IsNot | ast.NotEq) and isinstance(right, ast.Constant) and right.value is None:
        return _literal(left, constants)
    if isinstance(operator, ast.GtE) and isinstance(right, ast.Constant) and right.value == 0:
        return isinstance(left, ast.Call) and isinstance(left.func, ast.Name) and left.func.id == "len"
    if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
        return True
    return isinstance(operator, _SAME) and _same(left, right)


def _always_false(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id == "TYPE_CHECKING"
    return isinstance(node, ast.Constant) and not node.value


def _literal(node: ast.expr, constants: dict[str, ast.expr]) -> bool:
    """Return whether an expression, or the value of its name, is a literal other than None."""
    bound = constants.get(node.id, node) if isinstance(node, ast.Name) else node
    if isinstance(bound, ast.Constant):
        return bound.value is not None
    return isinstance(bound, ast.List | ast.Tuple | ast.Dict | ast.Set | ast.JoinedStr)


def _same(left: ast.expr, right: ast.expr) -> bool:
    """Return whether two expressions have equal text and no calls, so they cannot differ."""
    for here, there in zip(ast.walk(left), ast.walk(right), strict=False):
        if type(here) is not type(there) or isinstance(here, ast.Call | ast.Await | ast.NamedExpr):
            return False
        for key in ("id", "attr", "value", "arg"):
            mine = getattr(here, key, None)
            if not isinstance(mine, ast.AST) and mine != getattr(there, key, None):
                return False
    return sum(1 for _ in ast.walk(left)) == sum(1 for _ in ast.walk(right))


_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of a test.

    Attributes:
        description: the test and its fault, in one line.
        score: severity, from 0 to 100.
        file: the path of the file.
        line: line number, counted from 1.
    """

    description: str
    score: int
    file: str
    line: int


def examine(path: str, source: str, old: str | None = None) -> list[Finding]:
    """Return the faults of the new tests of a file, in line order.

    Args:
        path: path of the file, named in findings; files that are not Python have none.
        source: its current content.
        old: its content on the base; tests with the same source there are not examined.
    """
    if not path.endswith(".py"):
        return []
    try:
        return sorted(_examine(path, source, _known(old)), key=lambda found: (found.line, found.description))
    except _UNREADABLE as error:
        line = error.lineno if isinstance(error, SyntaxError) and error.lineno else 1
        return [Finding(f"{UNREADABLE}: {_reason(error)}", 100, path, max(line, 1))]


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deeply"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(text.encode("utf-8", "replace").decode().split())[:200]


def _known(old: str | None) -> set[tuple[str, str]]:
    """Return the tests of the base by name and source; none if the file was new or unreadable."""
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
            found[line, test.label] = Finding(f"{test.label} has no assertion that can fail", 80, path, line)
    return list(found.values())
