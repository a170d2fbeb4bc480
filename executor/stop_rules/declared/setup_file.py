"""Python read as a syntax tree: the arguments of `setup()`, and what a module does. Pure; nothing is executed.

Two modules do the same if only layout, comments, docstrings, or the notation of types differ.

Several projects in folders of one repository: each file of a change is judged from the view of its project.

The paths of rules, and those that an issue declares, are relative to a project. A file of another project of the
repository is judged as part of that project: its `rules/` and `milestones/` are protected like the issue's own.
"""

from __future__ import annotations

import ast
import posixpath
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from executor.git.diff import Change, FileChange

__all__ = ["Part", "meaning", "parts_of_change", "projects_in", "setup_arguments"]


_STEPS = 20  # assignments that are followed; ends a circle
_TELLING = frozenset({"install_requires", "extras_require", "setup_requires", "tests_require"})


def setup_arguments(text: str, wanted: Collection[str]) -> dict[str, object]:
    """Return literal arguments as values, others as the text of the expression and all statements behind it.

    Raises:
        SyntaxError: the text is not Python.
        ValueError: the text has bytes or sizes that Python does not read.
    """
    tree = ast.parse(re.sub(r"\A[^\n]*coding[:=][^\n]*", "", text))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    found: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (_called(node.func) == "setup" or _is_setup(node)):
            for name, value in _given(node, wanted, statements):
                read = _value(value, statements)
                found[name] = [found[name], read] if name in found else read
    for statement in statements:  # config["install_requires"] = [...]
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
            key = statement.targets[0].slice
            if isinstance(key, ast.Constant) and key.value in wanted:
                found[str(key.value)] = _value(statement.value, statements)
    return found


def _is_setup(call: ast.Call) -> bool:
    """Return whether a call is one of `setup`, also under another name."""
    return any(keyword.arg in _TELLING for keyword in call.keywords)


def _called(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _given(call: ast.Call, wanted: Collection[str], statements: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Yield arguments by name, including those of ``**table``."""
    for keyword in call.keywords:
        if keyword.arg is not None:
            if keyword.arg in wanted:
                yield keyword.arg, keyword.value
            continue
        table = _resolved(keyword.value, statements)
        if isinstance(table, ast.Dict):
            pairs = [
                (key.value, item)
                for key, item in zip(table.keys, table.values, strict=True)
                if isinstance(key, ast.Constant)
            ]
        elif isinstance(table, ast.Call) and _called(table.func) == "dict":
            pairs = [(inner.arg, inner.value) for inner in table.keywords]
        else:
            pairs = [("install_requires", keyword.value)] if "install_requires" in wanted else []
        yield from ((str(name), item) for name, item in pairs if name in wanted)


def _resolved(node: ast.expr, statements: list[ast.stmt]) -> ast.expr:
    """Return the expression that a name refers to, if it is assigned exactly once and not altered."""
    for _ in range(_STEPS):
        if not isinstance(node, ast.Name):
            return node
        given = [statement for statement in statements if _gives(statement, node.id)]
        if len(given) != 1 or not isinstance(given[0], ast.Assign | ast.AnnAssign) or given[0].value is None:
            return node
        node = given[0].value
    return node


def _value(node: ast.expr, statements: list[ast.stmt]) -> Any:
    node = _resolved(node, statements)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return [ast.dump(node), *_behind(node, statements)]


def _behind(node: ast.expr, statements: list[ast.stmt]) -> list[str]:
    """Return the statements that an expression depends on, also indirectly."""
    waiting, seen, found = _used(node), set[str](), list[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for statement in statements:
            if _gives(statement, name):
                found.append(ast.dump(statement))
                waiting |= _used(statement)
    return sorted(found)


def _used(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _gives(statement: ast.stmt, name: str) -> bool:
    """Return whether a statement sets or alters the value of a name."""
    match statement:
        case ast.Assign(targets=targets):
            return any(_root(part) == name for target in targets for part in _parts(target))
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target) | ast.For(target=target):
            return any(_root(part) == name for part in _parts(target))
        case ast.FunctionDef(name=own) | ast.AsyncFunctionDef(name=own) | ast.ClassDef(name=own):
            return own == name
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=target))):
            return _root(target) == name
        case ast.With(items=items):
            return any(item.optional_vars is not None and _root(item.optional_vars) == name for item in items)
        case _:
            return False


def _parts(node: ast.expr) -> list[ast.expr]:
    return [part for item in node.elts for part in _parts(item)] if isinstance(node, ast.Tuple | ast.List) else [node]


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


_NOTHING = "\0nothing"
"""A glob that matches no file: there are declared files, but not in this project."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a change that belongs to one project.

    Attributes:
        prefix: its folder in the repository, with a slash at the end; empty at the top.
        change: its files, with paths relative to the project.
        declared: globs of files that the issue declares, also relative.
    """

    prefix: str
    change: Change
    declared: tuple[str, ...]

    def inside(self, path: str) -> str:
        """Return the repository path of a project path."""
        return f"{self.prefix}{path}"

    def base(self, paths: Collection[str]) -> frozenset[str]:
        """Return the repository's files that belong to the project, as project paths."""
        if not self.prefix:
            return frozenset(paths)
        return frozenset(path[len(self.prefix) :] for path in paths if path.startswith(self.prefix))


def projects_in(paths: Collection[str]) -> list[str]:
    """Return folders of the repository with a dodo.py and milestones/, with a slash at the end."""
    return list(_projects_in(frozenset(paths)))


@lru_cache(maxsize=4)
def _projects_in(paths: frozenset[str]) -> tuple[str, ...]:
    folders = {path.rpartition("milestones/")[0] for path in paths if path.endswith(".toml") and "milestones/" in path}
    return tuple(sorted(folder for folder in folders if f"{folder}dodo.py" in paths))


def parts_of_change(change: Change, own: str, paths: Collection[str], declared: Sequence[str]) -> list[Part]:
    """Split a change by the projects of its files; the issue's own project comes first.

    Args:
        change: the change, with paths relative to the repository.
        own: folder of the issue's project, with a slash at the end; empty at the top.
        paths: every file of the tree that the change was made from.
        declared: globs of files that the issue declares, relative to its project.
    """
    prefixes = sorted({own, "", *projects_in(paths)}, key=len, reverse=True)
    files: dict[str, list[FileChange]] = {own: []}
    for file in change.files:
        prefix = next(prefix for prefix in prefixes if file.path.startswith(prefix))
        files.setdefault(prefix, []).append(replace(file, path=file.path[len(prefix) :]))
    return [
        Part(prefix, replace(change, files=tuple(found)), _declared_in(prefix, own, declared))
        for prefix, found in files.items()
    ]


def _declared_in(prefix: str, own: str, declared: Sequence[str]) -> tuple[str, ...]:
    if prefix == own:
        return tuple(declared)
    absolute = [posixpath.normpath(f"{own}{glob}") for glob in declared]
    found = tuple(glob[len(prefix) :] for glob in absolute if glob.startswith(prefix))
    return found or ((_NOTHING,) if declared else ())


_GENERIC = frozenset({"Dict", "List", "Tuple", "Set", "FrozenSet", "Type"})
_PLAIN_DECORATORS = frozenset(
    ["abstractmethod", "asynccontextmanager", "cache", "classmethod", "contextmanager", "property", "staticmethod"]
)


def meaning(tree: ast.Module, *, plain: bool) -> str:
    """Reduce a Python module to what runs: no docstrings or `__all__`, and, if `plain`, no types of functions."""
    for node in ast.walk(tree):
        _in_one_notation(node)
        if plain and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _ignores_types(node.decorator_list):
            given = node.args
            for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
                if one is not None:
                    one.annotation = None
            node.returns = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in node.body:
                if isinstance(inner, ast.AnnAssign):
                    inner.annotation = ast.Constant(None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [item for item in node.body if not _says_nothing(item)] or [ast.Pass()]
    return ast.dump(tree)


def _in_one_notation(node: ast.AST) -> None:
    """Write the types of a node in one notation: ``Optional[a]``, ``Union[a, None]`` and ``"a | None"`` are one."""
    match node:
        case ast.AnnAssign(annotation=found) | ast.arg(annotation=ast.expr() as found):
            node.annotation = ast.Constant(_written(found))
        case ast.FunctionDef(returns=ast.expr() as found) | ast.AsyncFunctionDef(returns=ast.expr() as found):
            node.returns = ast.Constant(_written(found))


def _written(node: ast.expr) -> str:
    return " | ".join(sorted(_kinds(node)))


def _kinds(node: ast.expr) -> set[str]:  # noqa: PLR0911  (one for each notation)
    match node:
        case ast.Constant(value=str(text)):
            return _kinds(ast.parse(text, mode="eval").body)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _kinds(left) | _kinds(right)
        case ast.Attribute(value=ast.Name(id="typing" | "t"), attr=name) | ast.Name(id=name):
            return {name.lower() if name in _GENERIC else name}
        case ast.List(elts=items):
            return {f"[{', '.join(map(_written, items))}]"}
        case ast.Subscript(value=of, slice=inner) if (name := _written(of)) != "Literal":
            items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            if name in {"Optional", "Union"}:
                return {"None"}.intersection([name.replace("Optional", "None")]).union(*map(_kinds, items))
            return {f"{name}[{', '.join(map(_written, items))}]"}
    return {ast.unparse(node)}


def _ignores_types(decorators: Sequence[ast.expr]) -> bool:
    """Return whether no decorator of a function reads its types: those of frameworks do."""
    return all(ast.unparse(item).rpartition(".")[2] in _PLAIN_DECORATORS for item in decorators)


def _says_nothing(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.ImportFrom(module="__future__"):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
    return False
