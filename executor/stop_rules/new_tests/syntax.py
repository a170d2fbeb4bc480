"""A Python test file as units: its tests, and the fixtures, helpers and statements that they use.

Read from the syntax tree; nothing is executed.

Resolution of names and expressions of a Python file, from its text alone.

Names are resolved to their imports: after ``from urllib import request as r`` the name ``r.urlopen`` resolves to
``urllib.request.urlopen``, and after ``s = requests.Session()`` ``s.get`` resolves to ``requests.Session().get``. A
name without an import starts with a dot. No function here recurses deeper than a bound.
"""

from __future__ import annotations

import ast
import operator
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Facts", "Function", "Module", "Unit", "bindings", "imported", "parse", "resolve", "targets", "value_of"]


_DEPTH = 40  # nested expressions; bounds the recursion on hostile code
_STEPS = 2000  # evaluated nodes; bounds the time on hostile code
_LONGEST_CHAIN = 200  # attributes in a row; bounds the time on hostile code
_INJECTED = {"transport", "app", "mounts"}
"""Keywords that replace the network of an HTTP client."""

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Mult: operator.mul,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
}


def resolve(node: ast.expr, scope: dict[str, str]) -> str:
    """Return the dotted name of an expression, with ``()`` for calls and ``[]`` for items; empty if it has none."""
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
    """Return the constant value of an expression, with ``{}`` for unknown parts of strings; None if unknown."""
    return _Evaluation(constants).value(node, _DEPTH)


class _Evaluation:
    """One evaluation with a limited number of steps: names that refer to each other would never end."""

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
    """Return the names that an import binds, with their targets."""
    if isinstance(node, ast.ImportFrom):
        origin = "." * node.level + (node.module or "")
        return {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}
    return {
        alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
        for alias in node.names
    }


def bindings(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    """Return bindings anywhere in a node: targets with their values."""
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
    """Return the names that an assignment binds."""
    bound = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [item.id for target in bound for item in ast.walk(target) if isinstance(item, ast.Name)]


Function = ast.FunctionDef | ast.AsyncFunctionDef
_SETUP = {
    *(
        "setUp",
        "asyncSetUp",
        "setUpClass",
        "tearDown",
        "asyncTearDown",
        "tearDownClass",
        "setUpModule",
        "tearDownModule",
    ),
    *(f"{verb}_{level}" for verb in ("setup", "teardown") for level in ("method", "class", "module", "function")),
}


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A function, method, helper class or statement of the file; `owner` is its class."""

    name: str
    kind: str
    node: ast.AST
    owner: str
    text: str

    @property
    def label(self) -> str:
        """Its name with its class."""
        return f"{self.owner}.{self.name}" if self.owner else self.name


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """References of one unit.

    Attributes:
        nodes: every node, from the outside in.
        calls: every call with the resolved name of its target.
        names: names it reads; attributes of self as ``self.x``.
        params: its parameters and the fixtures that it requests by marker.
        scope: bindings of its names.
        constants: expressions bound to names.
    """

    unit: Unit
    nodes: tuple[ast.AST, ...]
    calls: tuple[tuple[ast.Call, str], ...]
    names: frozenset[str]
    params: frozenset[str]
    scope: dict[str, str]
    constants: dict[str, ast.expr]


@dataclass(slots=True, eq=False)
class Module:
    """All units of a file."""

    units: list[Unit] = field(default_factory=list)
    bases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scope: dict[str, str] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    _facts: dict[Unit, Facts] = field(default_factory=dict)
    _index: dict[tuple[str, str], list[Unit]] = field(default_factory=dict)
    _always: list[Unit] | None = None

    def tests(self) -> list[Unit]:
        """Its tests, in order."""
        return [unit for unit in self.units if unit.kind == "test"]

    def facts(self, unit: Unit) -> Facts:
        """Return the references of a unit, computed once."""
        if unit not in self._facts:
            self._facts[unit] = _facts(unit, self)
        return self._facts[unit]

    def find(self, name: str, owner: str) -> list[Unit]:
        """Return units that a name refers to inside a class (``self.x``, fixtures) or, outside of one, in the file."""
        if not self._index:
            for unit in self.units:
                self._index.setdefault((unit.owner, unit.name), []).append(unit)
        waiting, seen = [owner] if owner else [], set[str]()
        while waiting:
            place = waiting.pop(0)
            if place in seen:
                continue
            seen.add(place)
            if found := self._index.get((place, name)):
                return found
            waiting += self.bases.get(place, ())
        return [] if name.startswith("self.") else self._index.get(("", name), [])

    def reach(self, test: Unit) -> list[Facts]:
        """Return the test, then everything it uses: named units, fixtures, set-up and top-level statements."""
        found: dict[Unit, Facts] = {}
        if self._always is None:
            self._always = [unit for unit in self.units if _is_automatic(unit)]
        waiting = [test, *(unit for unit in self._always if _applies(unit, test))]
        while waiting:
            unit = waiting.pop(0)
            if unit in found or (unit.kind == "test" and unit is not test):
                continue
            facts = found[unit] = self.facts(unit)
            for name in sorted(facts.names | facts.params):
                inside, plain = name.startswith("self."), name.removeprefix("self.")
                waiting += self.find(plain, (unit.owner or test.owner) if inside or name in facts.params else "")
            if unit.owner:
                waiting += [found for name in sorted(_SETUP) for found in self.find(name, unit.owner)]
        return list(found.values())


def parse(source: str) -> Module:
    """Read a file.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as `ast.parse`, for an unreadable file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    module = Module()
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.scope |= imported(node)
    _collect(tree.body, "", module, lines, tests=True)
    for unit in module.units:
        _bind_unit(unit, module)
    return module


def _collect(body: list[ast.stmt], owner: str, module: Module, lines: list[str], *, tests: bool) -> None:
    """Add the units of a body; `tests` tells whether functions named test_* are tests there."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            _collect_class(node, owner, module, lines)
        elif isinstance(node, Function):
            kind = "test" if tests and node.name.startswith("test") and not _is_fixture(node) else "function"
            module.units.append(Unit(node.name, kind, node, owner, _text(node, lines)))
        elif isinstance(node, ast.If | ast.Try | ast.With):
            if isinstance(node, ast.If) and any(
                isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test)
            ):
                continue
            parts = [node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])]
            parts += [handler.body for handler in getattr(node, "handlers", [])]
            for part in parts:
                _collect(part, owner, module, lines, tests=tests)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            for name in targets(node) or ["*"]:
                module.units.append(Unit(name, "statement", node, owner, _text(node, lines)))


def _collect_class(node: ast.ClassDef, owner: str, module: Module, lines: list[str]) -> None:
    place = f"{owner}.{node.name}" if owner else node.name
    bases = tuple(name.rpartition(".")[2] for base in node.bases if (name := resolve(base, {})))
    module.bases[place] = bases
    is_test = node.name.startswith("Test") or any(base.endswith(("TestCase", "Tests")) for base in bases)
    if not is_test:
        module.units.append(Unit(node.name, "class", node, owner, _text(node, lines)))
    else:
        for decorator in node.decorator_list:
            module.units.append(Unit("*", "statement", decorator, place, ""))
    _collect(node.body, place, module, lines, tests=is_test)


def _text(node: ast.stmt, lines: list[str]) -> str:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(lines[first - 1 : node.end_lineno]).strip()


def _is_fixture(node: Function) -> bool:
    return any(resolve(item, {}).removesuffix("()").endswith("fixture") for item in node.decorator_list)


def _applies(unit: Unit, test: Unit) -> bool:
    return not unit.owner or unit.owner == test.owner or test.owner.startswith(f"{unit.owner}.")


def _is_automatic(unit: Unit) -> bool:
    """Return whether the tests beside a unit depend on it without naming it."""
    if unit.kind == "statement":
        return unit.name in {"*", "pytestmark"} and not _is_docstring(unit.node)
    if unit.kind != "function" or not isinstance(unit.node, Function):
        return False
    automatic = any(
        isinstance(node, ast.keyword) and node.arg == "autouse"
        for item in unit.node.decorator_list
        for node in ast.walk(item)
    )
    return automatic or unit.name in _SETUP


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _bind_unit(unit: Unit, module: Module) -> None:
    """Record bindings of statements for the whole file, of methods for `self`, and of fixtures for their parameters."""
    node = unit.node
    if unit.kind == "statement" and isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        name = f"self.{unit.name}" if unit.owner else unit.name
        module.constants[name] = node.value
        _bind(name, node.value, module.scope)
    elif isinstance(node, Function):
        scope, _ = _locals(node, module)
        module.scope |= {name: origin for name, origin in scope.items() if name.startswith("self.")}
        if _is_fixture(node):
            for item in ast.walk(node):
                if isinstance(item, ast.Return | ast.Yield) and item.value is not None:
                    _bind(f"fixture {node.name}", item.value, scope, module.scope)


def _bind(name: str, value: ast.expr, scope: dict[str, str], into: dict[str, str] | None = None) -> None:
    origin = resolve(value, scope)
    if origin and not origin.startswith("."):
        (scope if into is None else into)[name] = origin


def _locals(node: ast.AST, module: Module) -> tuple[dict[str, str], dict[str, ast.expr]]:
    """Return the bindings of a unit's names: those of the file, except its parameters and its own bindings."""
    used = _used(node, module)
    scope = {name: module.scope[name] for name in used if name in module.scope}
    constants = {name: module.constants[name] for name in used if name in module.constants}
    for name, default in _params(node).items():
        scope.pop(name, None)
        constants.pop(name, None)
        if f"fixture {name}" in module.scope:
            scope[name] = module.scope[f"fixture {name}"]
        if default is not None:
            constants[name] = default
    for item in sorted(bindings(node), key=lambda pair: pair[0].lineno):
        target, value = item
        own = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
        name = target.id if isinstance(target, ast.Name) else f"self.{target.attr}" if own else ""  # type: ignore[attr-defined]
        if name:
            constants[name] = value
            _bind(name, value, scope)
    return scope, constants


def _used(node: ast.AST, module: Module) -> set[str]:
    """Return names in a unit and, recursively, in the constants that they refer to."""
    waiting, found = [node], set[str]()
    while waiting:
        for item in ast.walk(waiting.pop()):
            name = (
                item.id
                if isinstance(item, ast.Name)
                else f"self.{item.attr}"
                if isinstance(item, ast.Attribute)
                else ""
            )
            if name and name not in found:
                found.add(name)
                waiting += [module.constants[name]] if name in module.constants else []
    return found


def _params(node: ast.AST) -> dict[str, ast.expr | None]:
    """Return parameters of a function with their defaults."""
    if not isinstance(node, Function):
        return {}
    plain = [*node.args.posonlyargs, *node.args.args]
    found: dict[str, ast.expr | None] = {arg.arg: None for arg in plain}
    found |= {arg.arg: default for arg, default in zip(reversed(plain), reversed(node.args.defaults), strict=False)}
    return found | {arg.arg: default for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)}


def _facts(unit: Unit, module: Module) -> Facts:
    scope, constants = _locals(unit.node, module)
    nodes = tuple(ast.walk(unit.node))
    calls = tuple((node, resolve(node.func, scope)) for node in nodes if isinstance(node, ast.Call))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    names |= {
        f"self.{node.attr}"
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
    }
    params = set(_params(unit.node))
    for call, name in calls:
        if name.endswith("mark.usefixtures"):
            params |= {str(item.value) for item in call.args if isinstance(item, ast.Constant)}
    return Facts(unit, nodes, calls, frozenset(names), frozenset(params), scope, constants)
