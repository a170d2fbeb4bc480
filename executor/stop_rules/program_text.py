"""Text of programs and scripts, read without executing it. Pure.

The arguments of `setup()`, the meaning of a Python module, the modules that it imports, the words of a shell script,
and the files that settings of tools load. Two modules have one meaning if only layout, comments, docstrings, or the
notation of types differ.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from executor.model.paths import name_of, suffix_of
from executor.stop_rules.test_evidence.test_suite import settings_of_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence


__all__ = ["imported_names", "loaded_by_settings", "meaning", "setup_arguments", "strings_of_calls", "words_of_shell"]


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


_IMPORTED = re.compile(r"(?m)^\s*(?:from\s+\.?([\w.]+)\s+import|import\s+([\w., ]+))")
_LOADING = re.compile(
    r"(?i)(jest|vitest|playwright|cypress|karma|ava|wdio|web-test-runner|eslint|babel|stylelint|prettier)\.config\.[cm]?[jt]s"
    r"|\.mocharc\.\w+|\.(eslint|babel|nyc|c8|stylelint|prettier)rc(\.\w+)?|tsconfig.*\.json|karma\.conf\.\w+|phpunit.*\.xml.*"
    r"|package\.json|vite\.config\.[cm]?[jt]s|conftest\.py|pytest\.ini|pyproject\.toml|setup\.cfg|tox\.ini|\.rspec"
)
"""Settings of test runners and linters that can name further files, which they load."""
_LOADS = re.compile(
    r"\b(?:setupFiles\w*|globalSetup|globalTeardown|testEnvironment|transform|preset|resolver|runner|reporters?|sequencer"
    r"|snapshot(?:Serializers|Resolver|Environment)|test(?:Runner|Sequencer|Bootstrap)|environment|require|import|loader|extends"
    r"|supportFile|dependencyExtractor|bootstrap|pytest_plugins)\b[\"']?\s*[:=(]?\s*"
    r"(\[[^\]]*\]|\{[^}]*\}|\([^)]*\)|[\"'][^\"'\n]+[\"'])|\bfrom\s+([\"']\.[^\"'\n]+[\"'])"
    r"|--?(?:r|p|require)[ =]([\w./-]+)"
)
_LOADED_ENDS = ("", ".js", ".cjs", ".mjs", ".ts", ".mts", ".json", ".py", ".rb", "/index.js", "/__init__.py")


def imported_names(text: str) -> set[str]:
    """Modules and names that a file of Python imports, modules as paths."""
    names: set[str] = set()
    for match in _IMPORTED.finditer(text):
        for name in (match[1] or match[2]).split(","):
            plain = name.strip().partition(" ")[0]
            names |= {plain.replace(".", "/"), plain.rpartition(".")[2]} if plain else set()
    return names


def strings_of_calls(text: str) -> list[list[str]]:
    """Return string arguments of calls in a Python file, as in ``session.run("sh", "check.sh")``."""
    calls = re.findall(r"\(\s*((?:[rbf]?[\"'][^\"'\n]*[\"']\s*,?\s*)+)", text)
    return [re.findall(r"[\"']([^\"'\n]*)[\"']", call) for call in calls]


def words_of_shell(text: str) -> list[list[str]]:
    """Parse a shell text into simple commands as lists of words; unparsable text is split at white space."""
    found: list[list[str]] = []
    for line in re.sub(r"\\\n", " ", text).split("\n"):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        lexer.wordchars += "@%+,:{}[]!$^"
        try:
            words = list(lexer)
        except ValueError:
            words = re.split(r"[\s;&|()<>\"']+", line)
        current: list[str] = []
        for word in words:
            if word and not word.strip(";&|()"):
                found.append(current)
                current = []
            elif word.strip("<>"):
                current.append(word)
        found.append(current)
    return [words for words in found if words]


def loaded_by_settings(paths: Collection[str], read: Callable[[str], bytes | None]) -> dict[str, str]:
    """Return files that the settings of test runners and linters load, with the file of these settings.

    Args:
        paths: every file of the tree.
        read: returns the content of a file of the tree; None if it does not exist.
    """
    found: dict[str, str] = {}
    for path in sorted(path for path in paths if _can_load(name_of(path))):
        folder = posixpath.dirname(path)
        text = (read(path) or b"")[:200_000].decode("utf-8", "replace")
        for match in _LOADS.finditer(settings_of_tools(text) if name_of(path) == "package.json" else text):
            words = [match[3]] if match[3] else re.findall(r"[\"']([^\"'\n]+)[\"']", match[1] or match[2])
            for word in words:
                other = _loaded(folder, word, path, paths)
                if other and other != path:
                    found.setdefault(other, path)
    return found


def _loaded(folder: str, word: str, settings: str, paths: Collection[str]) -> str:
    """Return the file that a word of some settings names; empty if it names none."""
    plain = word.removeprefix("<rootDir>/").removeprefix("${configDir}/")
    if re.search(r"[*\s:]|^/", plain):
        return ""
    if suffix_of(settings) in {".py", ".ini", ".cfg", ".toml"} and "/" not in plain:
        plain = plain.replace(".", "/")
    elif "/" not in plain and not suffix_of(plain):
        return ""
    starts = (folder, "", "src") if suffix_of(settings) == ".py" or "/" not in word else (folder,)
    places = [posixpath.normpath(posixpath.join(start, plain)) for start in dict.fromkeys(starts)]
    return next((f"{place}{end}" for place in places for end in _LOADED_ENDS if f"{place}{end}" in paths), "")


@lru_cache(maxsize=2**16)
def _can_load(name: str) -> bool:
    return _LOADING.fullmatch(name) is not None
