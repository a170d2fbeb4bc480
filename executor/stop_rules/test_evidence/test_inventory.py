"""The tests of a file, and the strength of each. Pure; Python by syntax tree, other languages by patterns."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.model.paths import CLIKE, suffix_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Case", "Cases", "cases_of", "texts_of"]


@dataclass(frozen=True, slots=True)
class Case:
    """A test.

    Attributes:
        line: its first line.
        checks: assertions that can fail.
        rows: number of parameter sets; 0 if they cannot be counted.
        skipped: it does not run, or may fail.
    """

    line: int
    checks: int
    rows: int = 0
    skipped: bool = False


@dataclass(slots=True)
class Cases:
    """The tests of a file by name, lines that skip or exclude tests, and the test of each line."""

    cases: dict[str, Case] = field(default_factory=dict)
    skips: dict[int, str] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    unreadable: bool = False


_SKIP_WORDS = frozenset(
    [
        "skip",
        "skipif",
        "xfail",
        "skipTest",
        "SkipTest",
        "skipIf",
        "skipUnless",
        "expectedFailure",
        "importorskip",
        "skip_if",
        "skip_unless",
    ]
)
_CHECK = re.compile(r"_*(assert|check|verify|expect|should|fail|raises|warns|deprecated_call|ensure|must)")
_SWALLOWED = frozenset({"AssertionError", "Exception", "BaseException"})

_STARTS = {
    "js": re.compile(
        r"\b(?:x?it|x?test|fit|specify)(?:\.(?!describe)\w+)*(?:\s*\(?\s*`[^`]*`|\([^()]*\))?\s*\(\s*([\"'`])((?:(?!\1).)+)\1"
    ),
    ".go": re.compile(r"(?m)^func ()(Test\w+|Fuzz\w+)\("),
    ".rs": re.compile(r"#\[(?:\w+::)?test(?:\([^)]*\))?\]()(?:\s*#\[[^\]]*\])*\s*(?:pub )?(?:async )?fn (\$?\w+)"),
    ".php": re.compile(r"function ()(test\w+)\s*\("),
    ".rb": re.compile(r"(?m)^\s*(?:x?it|specify|test|def)\s*\(?\s*([\"'])?((?(1)(?:(?!\1).)+|test_\w+))"),
    "jvm": re.compile(
        r"(?:@(?:Parameterized|Repeated)?Test\b|\[(?:Fact|Theory|Test|TestMethod|TestCase)\b[^\]]*\])(?:\([^)]*\))?()(?:\s|@\w+(?:\([^)]*\))?|\[[^\]]*\])*"
        r"(?:[\w<>\[\],]+\s+)*?(`[^`]+`|\w+)\s*\("
    ),
}
_KINDS = {
    **dict.fromkeys((".js", ".jsx", ".ts", ".tsx", ".mjs", ".cjs", ".mts", ".cts"), "js"),
    **dict.fromkeys((".java", ".kt", ".kts", ".cs", ".scala", ".groovy"), "jvm"),
    ".go": ".go",
    ".rs": ".rs",
    ".php": ".php",
    ".rb": ".rb",
}
_ASSERTS = re.compile(
    r"\bexpect(?:_\w+)?\s*[({]|\bassert\w*[!.(\s]|\bAssert(?:ions)?\.\w+|\bassertThat\b|\bt\.(?:Error|Fatal|Fail)\w*|\brequire\.\w+\("
    r"|\bshould\b|\bverify\w*\(|\bis_expected\b|\bmust_\w+|\brefute\w*\b|\bself::assert\w+|->assert\w+|\bt\.(?:is|deepEqual|true|false|throws|truthy|equal|ok)\("
    r"|\.Should\(\)|\bpanic!"
)
_SKIPS = re.compile(
    r"\b(?:it|test|describe|context|suite|specify)\.(?:skip|todo|fixme|failing|only|skipIf|runIf)\b"
    r"|\b(?:xit|xtest|xdescribe|xcontext|xspecify|fit|fdescribe|fcontext|fspecify)\s*[( ]"
    r"|@(?:Disabled|Ignore|DisabledOn\w+|DisabledIf\w*|EnabledIf\w*)\b|\[Ignore\b|\bSkip\s*=\s*\"|\b[tb]\.Skip(?:Now|f)?\(|testing\.Short\(\)"
    r"|#\[(?:ignore|should_panic)\b|\bmarkTest(?:Skipped|Incomplete)\b|(?m:^\s*(?:skip|pending)\b(?!\s*[=:]))|\bAssumptions?\.assume|\bAssume\.assume"
)


def cases_of(path: str, data: bytes | None) -> Cases:
    """Return the tests of a file; none without a file, only `unreadable` for one that cannot be read."""
    if data is None:
        return Cases()
    suffix = suffix_of(path)
    if suffix == ".py":
        try:
            return _python(data)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return Cases(unreadable=True)
    kind = _KINDS.get(suffix)
    return _other(kind, suffix, data.decode("utf-8", "replace")) if kind else Cases()


def texts_of(path: str, data: bytes | None) -> dict[str, str]:
    """Return the text of each test of a file by name; the rest of the file has the empty name."""
    lines = (data or b"").decode("utf-8", "replace").splitlines()
    starts = sorted((case.line, name) for name, case in cases_of(path, data).cases.items())
    found: dict[str, str] = {}
    rest = list(lines)
    for place, (line, name) in enumerate(starts):
        following = starts[place + 1][0] if place + 1 < len(starts) else len(lines) + 1
        end = _end(lines, line, following) if path.endswith(".py") else following
        found[name] = "\n".join(text.rstrip() for text in lines[line - 1 : end - 1]).strip()
        rest[line - 1 : end - 1] = [""] * (end - line)
    found[""] = "\n".join(text.rstrip() for text in rest if text.strip())
    return found


def _end(lines: list[str], line: int, following: int) -> int:
    """Return the line after a Python function: the first one that is not indented deeper, at most `following`."""
    indent = len(lines[line - 1]) - len(lines[line - 1].lstrip())
    for number in range(line + 1, following):
        text = lines[number - 1]
        if text.strip() and len(text) - len(text.lstrip()) <= indent and not text.lstrip().startswith((")", "]", "}")):
            return number
    return following


def _python(data: bytes) -> Cases:
    tree = ast.parse(data)
    lines = data.decode("utf-8", "replace").splitlines()
    found = Cases()
    for prefix, node in _functions(tree.body, ""):
        name = prefix + node.name
        while name in found.cases:  # a later one of the same name hides the earlier one
            del found.cases[name]
        skipped = any(_skips(item) for item in node.decorator_list) or any(_skips(item) for item in node.body)
        first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
        found.owners |= dict.fromkeys(range(first, (node.end_lineno or first) + 1), name)
        found.cases[name] = Case(
            node.lineno, _checks(node.body), sum(_rows(item) for item in node.decorator_list), skipped
        )
    for name in _hidden(tree.body):
        found.cases.pop(name, None)
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Attribute | ast.Name) and _last(inner) in _SKIP_WORDS:
            found.skips[inner.lineno] = lines[inner.lineno - 1].strip() if inner.lineno <= len(lines) else ""
        elif isinstance(inner, ast.Assign) and any(
            _last(target) in {"__test__", "collect_ignore", "collect_ignore_glob"} for target in inner.targets
        ):
            found.skips[inner.lineno] = lines[inner.lineno - 1].strip()
    return found


def _functions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if node.name.startswith("test"):
                    yield prefix, node
            case ast.ClassDef() if _is_collected(node):
                yield from _functions(node.body, f"{prefix}{node.name}.")
            case ast.If(test=ast.Constant(value=value)):
                yield from _functions(node.body if value else node.orelse, prefix)
            case ast.If() | ast.Try():
                yield from _functions(node.body, prefix)


def _is_collected(node: ast.ClassDef) -> bool:
    """Return whether pytest collects tests from a class; one with a base may be a unittest."""
    made = any(isinstance(inner, ast.FunctionDef) and inner.name == "__init__" for inner in node.body)
    return bool(node.bases) or (node.name.startswith("Test") and not made)


def _hidden(body: list[ast.stmt]) -> set[str]:
    """Return names that are rebound or unbound at the end of a module."""
    targets = [target for node in body if isinstance(node, ast.Assign | ast.Delete) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _checks(body: list[ast.stmt]) -> int:
    """Return the number of assertions that are reached and can fail."""
    count = 0
    for node in body:
        if isinstance(node, ast.Return | ast.Raise) or _skips(node):
            return count + isinstance(node, ast.Raise)
        count += _statement_checks(node)
    return count


def _statement_checks(node: ast.stmt) -> int:  # noqa: C901, PLR0911  (one for each kind of statement)
    match node:
        case ast.Assert(test=test):
            return int(not _always(test))
        case ast.If(test=ast.Constant(value=value), body=body, orelse=orelse):
            return _checks(body) if value else _checks(orelse)
        case ast.While(test=ast.Constant(value=value)) if not value:
            return 0
        case ast.For(iter=rows, body=body, orelse=orelse) if (count := _turns(rows)) is not None:
            return count * _checks(body) + _checks(orelse)
        case ast.Try(handlers=handlers) if any(_swallows(handler) for handler in handlers):
            return sum(_checks(handler.body) for handler in handlers) + _checks(node.orelse) + _checks(node.finalbody)
        case ast.With(items=items) | ast.AsyncWith(items=items):
            if any(_last(item.context_expr) == "suppress" for item in items):
                return 0
            return _calls(*(item.context_expr for item in items)) + _checks(node.body)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return sum(_statement_checks(inner) for inner in node.body)
    blocks = [
        value
        for name in ("body", "orelse", "finalbody")
        for value in [getattr(node, name, None)]
        if isinstance(value, list)
    ]
    if isinstance(node, ast.Match):
        blocks += [case.body for case in node.cases]
    handled = getattr(node, "handlers", [])
    if blocks:
        return sum(_checks(block) for block in [*blocks, *(handler.body for handler in handled)])
    return _calls(node)


def _turns(rows: ast.expr) -> int | None:
    """Return the number of iterations of a loop over a literal; None if it is unknown."""
    match rows:
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            return None if any(isinstance(item, ast.Starred) for item in items) else len(items)
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int(most))]):
            return max(0, most)
        case ast.Call(func=ast.Attribute(value=ast.Dict(keys=keys), attr="items" | "keys" | "values")):
            return len(keys)
    return None


def _calls(*nodes: ast.AST) -> int:
    return sum(
        isinstance(inner, ast.Call) and bool(_CHECK.match(_last(inner.func)))
        for node in nodes
        for inner in ast.walk(node)
    )


def _always(test: ast.expr) -> bool:
    """Return whether a condition is always true."""
    match test:
        case ast.Constant():
            return True
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(_always(value) for value in values)
        case ast.Compare(left=left, comparators=[right]):
            return ast.dump(left) == ast.dump(right)
        case ast.UnaryOp(op=ast.Not(), operand=ast.Constant()):
            return True
        case ast.Tuple(elts=elements):
            return bool(elements)
        case _:
            return False


def _swallows(handler: ast.ExceptHandler) -> bool:
    if any(isinstance(inner, ast.Raise) for node in handler.body for inner in ast.walk(node)) or _checks(handler.body):
        return False
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or _last(kind) in _SWALLOWED for kind in kinds)


def _skips(node: ast.AST) -> bool:
    """Return whether a decorator or a direct statement skips the test."""
    if isinstance(node, ast.Expr | ast.Raise):
        inner = node.value if isinstance(node, ast.Expr) else node.exc
        return isinstance(inner, ast.Call) and _last(inner) in _SKIP_WORDS
    return isinstance(node, ast.expr) and _last(node) in _SKIP_WORDS


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _rows(node: ast.expr) -> int:
    if isinstance(node, ast.Call) and _last(node) == "parametrize" and len(node.args) > 1:
        rows = node.args[1]
        return len(rows.elts) if isinstance(rows, ast.List | ast.Tuple | ast.Set) else 0
    return 0


def _other(kind: str, suffix: str, text: str) -> Cases:
    plain = _without_comments(text, suffix)
    found = Cases()
    starts = list(_STARTS[kind].finditer(plain))
    for place, start in enumerate(starts):
        end = starts[place + 1].start() if place + 1 < len(starts) else len(plain)
        body = plain[start.start() : end]
        line = plain.count("\n", 0, start.start()) + 1
        name = start[2]
        while name in found.cases:
            name += "'"
        found.owners |= dict.fromkeys(range(line, plain.count("\n", 0, end) + 1), name)
        found.cases[name] = Case(line, len(_ASSERTS.findall(body)), 0, bool(_SKIPS.search(body)))
    lines = text.splitlines()
    for skip in _SKIPS.finditer(plain):
        number = plain.count("\n", 0, skip.start() + len(skip[0]) - len(skip[0].lstrip())) + 1
        found.skips[number] = lines[number - 1].strip() if number <= len(lines) else ""
    return found


def _without_comments(text: str, suffix: str) -> str:
    text = text.replace("\r\n", "\n")
    if suffix in CLIKE:
        text = re.sub(r"(?s)/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        return re.sub(r"(?m)(^|\s)//.*$", lambda match: match[1], text)
    return re.sub(r"(?m)^\s*#(?!\[).*$", "", text)
