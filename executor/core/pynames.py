"""What names and expressions of a Python file stand for, as far as its text says.

Names are resolved to what was imported: ``from urllib import request as r`` makes ``r.urlopen`` read
``urllib.request.urlopen``, and after ``s = requests.Session()`` ``s.get`` reads ``requests.Session().get``. A name that
was not imported begins with a dot. No function here recurses deeper than a bound.
"""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bindings", "imported", "resolve", "targets", "value_of"]

_DEPTH = 40
_STEPS = 2000
_LONGEST_CHAIN = 200
_INJECTED = {"transport", "app", "mounts"}
"""Keywords by which an HTTP client is given something other than the network."""

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Mult: operator.mul,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
}


def resolve(node: ast.expr, scope: dict[str, str]) -> str:
    """The dotted name of an expression, with ``()`` for calls and ``[]`` for items; empty if it has none."""
    parts: list[str] = []
    for _ in range(_LONGEST_CHAIN):
        if isinstance(node, ast.Attribute):
            own = f"self.{node.attr}"
            if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"} and own in scope:
                return scope[own] + "".join(reversed(parts))
            parts.append(f".{node.attr}")
            node = node.value
        elif isinstance(node, ast.Call):
            injected = any(keyword.arg in _INJECTED for keyword in node.keywords)
            parts.append("(injected)" if injected else "()")
            node = node.func
        elif isinstance(node, ast.Subscript):
            parts.append("[]")
            node = node.value
        elif isinstance(node, ast.Await):
            node = node.value
        elif isinstance(node, ast.Name):
            return scope.get(node.id, f".{node.id}") + "".join(reversed(parts))
        else:
            break
    return ""


def value_of(node: ast.AST | None, constants: dict[str, ast.expr]) -> object:
    """The constant an expression stands for; lists for lists, ``{}`` for unknown parts of strings, None if unknown."""
    return _Evaluation(constants).value(node, _DEPTH)


class _Evaluation:
    """One evaluation with a bound on its steps: names that name each other twice would take for ever."""

    def __init__(self, constants: dict[str, ast.expr]) -> None:
        self._constants = constants
        self._steps = _STEPS

    def value(self, node: ast.AST | None, depth: int) -> object:
        self._steps -= 1
        if node is None or depth == 0 or self._steps < 0:
            return None
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.value(self._constants.get(node.id), depth - 1)
        if isinstance(node, ast.BinOp):
            return _combined(node.op, self.value(node.left, depth - 1), self.value(node.right, depth - 1))
        if isinstance(node, ast.List | ast.Tuple):
            return [self.value(item, depth - 1) for item in node.elts]
        return self._text(node, depth)

    def _text(self, node: ast.AST, depth: int) -> object:
        if isinstance(node, ast.JoinedStr):
            parts = [self.value(item, depth - 1) for item in node.values]
            return "".join(part if isinstance(part, str) else "{}" for part in parts)
        if isinstance(node, ast.FormattedValue):
            return self.value(node.value, depth - 1)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return self.value(self._constants.get(f"self.{node.attr}"), depth - 1)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"format", "split"}
        ):
            text = self.value(node.func.value, depth - 1)
            return text.split() if node.func.attr == "split" and isinstance(text, str) else text
        return None


def _combined(sign: ast.operator, left: object, right: object) -> object:
    if isinstance(left, str) and isinstance(sign, ast.Add):
        return _clipped(left + (right if isinstance(right, str) else "{}"))
    if isinstance(left, str) and isinstance(sign, ast.Mod):
        return left
    if isinstance(left, list) and isinstance(sign, ast.Add):
        return [*left, *right][:_STEPS] if isinstance(right, list) else left
    action = _ARITHMETIC.get(type(sign))
    if action is None or not (isinstance(left, int | float) and isinstance(right, int | float)):
        return None
    try:
        return action(float(left), float(right))
    except ArithmeticError:
        return None


def _clipped(text: str) -> str:
    return text[:10_000]


def imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """The names that an import binds, with what they stand for."""
    if isinstance(node, ast.ImportFrom):
        origin = "." * node.level + (node.module or "")
        return {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}
    return {
        alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
        for alias in node.names
    }


def bindings(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    """What is bound anywhere in a node: targets with their values."""
    found: list[tuple[ast.expr, ast.expr]] = []
    for item in ast.walk(node):
        if isinstance(item, ast.Assign):
            found += [(target, item.value) for target in item.targets]
        elif isinstance(item, ast.AnnAssign | ast.NamedExpr) and item.value is not None:
            found.append((item.target, item.value))
        elif isinstance(item, ast.withitem) and item.optional_vars is not None:
            found.append((item.optional_vars, item.context_expr))
    return found


def targets(node: ast.stmt) -> list[str]:
    """The names that an assignment binds."""
    bound = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [item.id for target in bound for item in ast.walk(target) if isinstance(item, ast.Name)]
