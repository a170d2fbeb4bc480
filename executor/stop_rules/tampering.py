"""Code that deceives its judge: it behaves otherwise before tests, or takes the place of another module. Pure.

Product code that notices the test above it, that borrows from a test framework, or whose comparison ignores what it is
compared with, behaves otherwise before its tests. The patterns are data: `rules/stops/judge-tampering.toml`.

A new module shadows another one by rule instead of a list: a name counts if the language's standard library has it, if
an installed tool of the checks has it, if the base imports it from outside, or if another module of the project can be
imported by it.
"""

from __future__ import annotations

import posixpath
import re
import sys
import unicodedata
from typing import TYPE_CHECKING

from executor.model.paths import CLIKE, is_documentation, is_test, name_of, suffix_of
from executor.stop_rules.content import LARGEST
from executor.stop_rules.test_evidence.test_suite import is_test_name
from executor.stop_rules.view import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from executor.git.diff import FileChange, Finding, Line


__all__ = ["behaves_otherwise", "shadowing_modules"]

_HASHES = frozenset({".py", ".pyi", ".rb", ".php", ".pl", ".pm", ".ex", ".exs"})
"""Languages with the comment ``#``."""
_CODE = CLIKE | _HASHES | {".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".groovy", ".dart", ".lua"}
_REMARK = re.compile(r"^\s*(?://|/\*|\*(?!\w)|--|#(?![!\[]|\s*(?:if|elif|define)\b)|>>>|\.\.\. ).*|(?<![:\"'])//\s.*$")
_LITERAL = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|(?<=[(=~,!>:&|?])\s?/[^/\s]+/")
_COMPARISONS = tuple(
    map(
        re.compile,
        (
            r"^\s*def\s+__(?:eq|ne|contains)__\s*\(\s*\w+\s*(?:,\s*/\s*)?,\s*\*?(\w+)",
            r"\b__(?:eq|ne|contains)__\s*=\s*lambda\s+\w+\s*,\s*\*?(\w+)[^:]*(?=:)",
            r"^\s*def\s+(?:self\.)?(?:==|===|eql\?|equal\?|<=>|=~)\s*\(?\s*(\w*)\s*\)?",
            r"\bbool(?:ean)?\s+[eE]quals\s*\(\s*(?:final\s+)?(?:@\w+\s+)*[\w<>?.\[\]]+\s+(\w+)\s*\)",
            r"\bint\s+[cC]ompareTo\s*\(\s*(?:final\s+)?(?:@\w+\s+)*[\w<>?.\[\]]+\s+(\w+)\s*\)",
            r"\b(?:fun|def)\s+(?:equals|compareTo|==)\s*\(\s*(\w+)\s*:[^)]*\)",
            r"\boperator\s*==\s*\((?:[^,()]*,)?\s*(?:const\s+)?[\w:<>?]+\s*&?\s*(\w*)\s*\)",
            r"\bfunc\s+==\s*\(\s*\w+\s*:\s*\w+\s*,\s*(\w+)\s*:[^)]*\)",
            r"^func\s*\([^)]*\)\s*(?:Equals?|Compare|Is)\s*\(\s*(\w+)\b[^)]*\)\s*(?=bool|int)",
            r"\bfn\s+(?:eq|ne|cmp|partial_cmp)\s*\(\s*&self\s*,\s*(\w+)\s*:[^)]*\)",
            r"\[\s*Symbol\.hasInstance\s*\]\s*(?:[:=]\s*(?:function\s*)?)?\(\s*(\w*)\s*\)",
        ),
    )
)
"""The start of a method that compares with another object, and the name of that object."""
_REFUSES = re.compile(
    r"(?:raise|throw|panic|fatalError|unimplemented|todo|unreachable)\b|(?:(?:return|=>|=|:)\s*)?"
    r"(?:False|false|NotImplemented|nil|null|None)\s*;?$"
)
_OTHER_CLASS = re.compile(r"\bis_?[iI]nstance\(\s*\w+\s*,\s*([^()]*)\)")
_OWN = re.compile(r"\b(?:__class__|type|self)\b")
_MOST_OF_A_BODY = 40  # lines of a function in which the reading of tests is looked for
_READS = re.compile(r"(?i)\b(?:require|import|from|include|file|fs|glob)|open|read|load|path|join")
_IMPORTS_TESTS = re.compile(r"^\s*(?:from|import)\s+((?:tests?|testing|specs?)(?:\.\w+)*)\b")


def behaves_otherwise(
    files: Sequence[FileChange],
    content: Callable[[str, bool], bytes | None],
    lists: Mapping[str, Sequence[str]],
    base: Collection[str] = (),
) -> Iterator[Finding]:
    """Yield lines of product code by which it can behave otherwise before its tests.

    Args:
        files: files of the change.
        content: returns a file's whole content before (False) or after (True).
        lists: lists of the rule: ``product`` are patterns of such lines; ``sources`` tell who runs the code and
            ``runners`` are names of what runs tests; ``callers`` tell who calls it and ``tests`` are further names.
        base: every file of the tree that the change was made from; its tests are not to be read.
    """
    product = [compiled(pattern) for pattern in lists.get("product", ())]
    looks = [
        (
            [compiled(pattern) for pattern in lists.get(kind, ())],
            [compiled(pattern) for name in names for pattern in lists.get(name, ())],
        )
        for kind, names in (("sources", ("runners",)), ("callers", ("runners", "tests")))
    ]
    for file in files:
        if not _is_product(file.path):
            continue
        hashes = suffix_of(file.path) in _HASHES
        lines = [(line, text) for line in file.lines if line.added and (text := _code(line.text, hashes=hashes))]
        found = {line.number: line for line, text in lines if any(pattern.search(text) for pattern in product)}
        words = [word for _, text in lines for word in _LITERAL.findall(text)]
        for sources, names in looks:
            if any(name.search(word) for word in words for name in names):
                found |= {line.number: line for line, text in lines if any(it.search(text) for it in sources)}
        found |= {line.number: line for line in _ignoring(file, content)}
        found |= {line.number: line for line, text in lines if _reads_tests(text, base)}
        yield from ((file.path, number, found[number].text) for number in sorted(found))


def _reads_tests(text: str, base: Collection[str]) -> bool:
    """Return whether a line imports or opens a file or folder of the tests of the base by its path."""
    if not _READS.search(_LITERAL.sub("", text)):
        return False
    words = [word[1:-1].strip("./") for word in _LITERAL.findall(text)]
    places = {word for word in (*words, "/".join(words)) if "/" in word and is_test(f"{word}/_")}
    if module := _IMPORTS_TESTS.match(text):
        places.add(module[1].replace(".", "/"))
    return any(
        f"/{place}" in f"/{path}" and re.match(r"\.\w+$|/|$", f"/{path}".partition(f"/{place}")[2])
        for place in places
        for path in base
    )


def _is_product(path: str) -> bool:
    """Return whether a file is code of the product; files of tests are put back, and are examined by other rules."""
    if suffix_of(path) not in _CODE or is_documentation(path):
        return False
    folders = path.lower().split("/")[:-1]
    return "src/main/" in path or not (is_test(path) or any(name.endswith((".test", ".tests")) for name in folders))


def _code(text: str, *, hashes: bool) -> str:
    """Return a line in one form of letters and without remarks; empty if it is one."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    plain = _REMARK.sub("", plain)
    return re.sub(r"(?:^|\s)#\s.*$", "", plain) if hashes else plain


def _ignoring(file: FileChange, content: Callable[[str, bool], bytes | None]) -> Iterator[Line]:
    """Yield added lines of comparisons that accept an object without inspecting it."""
    added = {line.number: line for line in file.lines if line.added}
    if not added:
        return
    lines = (content(file.path, True) or b"")[:LARGEST].decode("utf-8", "replace").splitlines()  # noqa: FBT003
    for number, text in enumerate(lines, 1):
        for pattern in _COMPARISONS:
            match = pattern.search(text)
            if match is None:
                continue
            body = _body(lines[number - 1 :], match.end())
            own = next((it for it in reversed(lines[:number]) if re.match(r"\s*class\s+\w", it)), "")
            changed = [added[at] for at in range(number, number + len(body)) if at in added]
            if changed and _admits(body, match[1], re.sub(r"^\s*class\s+(\w+).*", r"\1", own)):
                yield changed[0]
            break


def _body(lines: Sequence[str], start: int) -> list[str]:
    """Return the lines of a function after its parameters: to its closing brace, or while they are indented further."""
    head = lines[0][start:]
    depth = len(lines[0]) - len(lines[0].lstrip())
    body = [head]
    if "{" not in head and re.search(r"(?::|=>?)\s*[^\s:=]", head) and not head.rstrip().endswith((":", "{")):
        return body  # on one line
    braces = head.count("{") - head.count("}")
    if "{" in head and braces <= 0:
        return body
    for text in lines[1:_MOST_OF_A_BODY]:
        if text.strip() and len(text) - len(text.lstrip()) <= depth and text.strip() not in {"{", ")"}:
            break
        body.append(text)
    return body


def _admits(body: Sequence[str], other: str, own: str) -> bool:
    """Return whether a body yields something but does not use the other object; its class alone is no use of it."""
    joined = re.sub(r"(?s)\"\"\".*?\"\"\"|'''.*?'''", "", "\n".join(body[1:]))
    texts = [_REMARK.sub("", text).strip() for text in [body[0], *joined.split("\n")]]
    texts = [re.sub(r"(?:^|\s)#\s.*$", "", text) for text in texts]
    head = re.sub(r"^[^{=:]*(?:->\s*[\w.]+\s*)?(?:\{|=>?|:)?", "", texts[0]).strip(" {};")
    said = [text for text in [head, *(text.strip("{}; ") for text in texts[1:])] if text and text != "end"]
    if not said or all(_REFUSES.match(text) for text in said):
        return False
    own_kind = re.compile(rf"{_OWN.pattern}|\b{own}\b" if own else _OWN.pattern)
    plain = _OTHER_CLASS.sub(lambda match: match[0] if own_kind.search(match[1]) else "", "\n".join(said))
    return not other or re.search(rf"\b{re.escape(other)}\b", plain) is None


_TOOLS = frozenset(
    [
        "pytest",
        "_pytest",
        "pluggy",
        "iniconfig",
        "packaging",
        "coverage",
        "mypy",
        "mypyc",
        "ruff",
        "hypothesis",
        "xdist",
        "execnet",
        "tomli",
        "exceptiongroup",
        "pygments",
        "setuptools",
        "pkg_resources",
        "pip",
        "wheel",
        "nose",
        "nose2",
        "tox",
        "nox",
        "flake8",
        "pycodestyle",
        "pyflakes",
        "mccabe",
        "pylint",
        "astroid",
        "black",
        "isort",
        "bandit",
        "attr",
        "attrs",
        "py",
        "sitecustomize",
        "usercustomize",
        "typing_extensions",
        "yaml",
        "numpy",
        "requests",
    ]
)
_STANDARD = frozenset(sys.stdlib_module_names)
_COMPILED = re.compile(r"(\w+)(\.[\w-]+)?\.(so|pyd|pyc)")
_JS = (".js", ".mjs", ".cjs", ".jsx", ".json", ".node", ".ts", ".tsx", ".mts", ".cts")
_JS_FIRST = {  # a new file with this ending is resolved before one with those
    ".js": (".ts", ".tsx", ".jsx", ".mts", ".cts", ".json", ".node", ".mjs", ".cjs"),
    ".mjs": (".ts", ".tsx", ".json", ".node"),
    ".cjs": (".ts", ".tsx", ".json", ".node"),
    ".jsx": (".ts", ".tsx", ".json", ".node"),
    ".ts": (".tsx", ".js", ".jsx", ".mjs"),
    ".tsx": (".js", ".jsx"),
    ".json": (".node",),
}
_IMPORT = re.compile(r"(?m)^\s*(?:from\s+([A-Za-z_]\w*)[\w.]*\s+import|import\s+([A-Za-z_][\w., ]*))")
_LARGEST = 500_000  # bytes of a source file
_FOREIGN = {  # by ending: how a test loads a library; the group is its path, with its parts apart by . or / or ::
    **dict.fromkeys((".java", ".kt", ".scala", ".groovy", ".class"), r"(?m)^\s*import\s+(?:static\s+)?([\w.]+)"),
    ".rb": r"(?m)^\s*require\s*\(?\s*[\"']([\w/-]+)[\"']",
    ".pm": r"(?m)^\s*use\s+([A-Z][\w:]+)",
    ".lua": r"\brequire\s*\(?\s*[\"']([\w./]+)[\"']",
    **dict.fromkeys((".h", ".hpp", ".hh"), r"(?m)^\s*#\s*include\s*[<\"]([\w./]+)\.h"),
}
_FRAMEWORKS = {  # by ending: folders and files of test frameworks, which these load themselves
    ".rb": re.compile(r"(?:^|/)(?:lib|test|spec)/((?:minitest|rspec|test/unit|bacon|cucumber)(?=/|$))"),
    ".pm": re.compile(r"(?:^|/)(?:lib|t/lib)/((?:Test|TAP)(?=/))"),
    ".lua": re.compile(r"(?:^|/)((?:busted|luassert|say)(?=/|$))"),
    **dict.fromkeys(
        (".java", ".kt", ".scala", ".groovy", ".class"),
        re.compile(r"/((?:org/(?:junit|testng|opentest4j|hamcrest|assertj|mockito)|junit/framework)(?=/))"),
    ),
}
_JVM = frozenset({".java", ".kt", ".scala", ".groovy", ".class"})


def shadowing_modules(
    files: Sequence[FileChange], paths: Collection[str], read: Callable[[str], bytes | None]
) -> Iterator[Finding]:
    """Yield new files that are imported in place of another module.

    Args:
        files: files of the change.
        paths: every file of the base.
        read: returns the content of a file of the base.
    """
    gone = {file.path for file in files if file.kind == "deleted"}
    kept = frozenset(paths) - gone
    created = [file.path for file in files if file.kind == "created"]
    if not created:
        return
    roots = _roots(kept, created)
    known: dict[str, str] | None = None
    for path in created:
        if found := _javascript(path, kept) or _foreign(path, kept, read):
            yield path, 0, found
            continue
        if "__pycache__" in path.split("/"):
            yield path, 0, "compiled code that Python loads instead of its source"
            continue
        for root, name in _import_names(path, roots):
            if known is None:
                known = _known(kept, roots)
            if hidden := _taken(path, root, name, kept, known, read):
                yield path, 0, hidden
                break


def _taken(
    path: str,
    root: str,
    name: str,
    kept: frozenset[str],
    known: dict[str, str],
    read: Callable[[str], bytes | None],
) -> str | None:
    """Return what a new module hides if it is imported by this name; empty if nothing."""
    other = known.get(name)
    if other is not None and other != path and not _same_package(path, other):
        return f"it is imported as {name} instead of {other}"
    top = name.partition(".")[0]
    if top != name or _there(root, top, kept):
        return None  # inside a package that is there already
    if top in _STANDARD:
        return f"it is imported instead of the module {top} of Python"
    if top in _TOOLS:
        return f"it is imported instead of the tool {top}"
    user = _imported_outside(top, kept, read) if known.get(top) is None else ""
    return f"it is imported instead of the package {top}, which {user} uses" if user else None


def _import_names(path: str, roots: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the names by which a Python file can be imported, each with its folder on the search path."""
    name = name_of(path)
    compiled = _COMPILED.fullmatch(name)
    if suffix_of(path) != ".py" and compiled is None:
        return
    stem = compiled[1] if compiled else name[: -len(".py")]
    folder = posixpath.dirname(path)
    for root in roots:
        if root and folder != root and not folder.startswith(f"{root}/"):
            continue
        inside = folder[len(root) :].strip("/")
        parts = [*(inside.split("/") if inside else []), *([stem] if stem != "__init__" else [])]
        if parts and all(part.isidentifier() for part in parts):
            yield root, ".".join(parts)


def _roots(kept: frozenset[str], created: Sequence[str]) -> list[str]:
    """Return the folders on Python's search path: the root, `src`, and test folders that are no packages."""
    found = {""}
    if any(path.startswith("src/") and path.endswith(".py") for path in kept):
        found.add("src")
    everything = {*kept, *created}
    for path in everything:
        if path.endswith(".py") and is_test_name(path):
            folder = posixpath.dirname(path)
            while folder and f"{folder}/__init__.py" in kept:
                folder = posixpath.dirname(folder)
            found.add(folder)
    return sorted(found)


def _known(kept: frozenset[str], roots: Sequence[str]) -> dict[str, str]:
    """Map import names to modules of the base."""
    known: dict[str, str] = {}
    for path in kept:
        if path.endswith(".py"):
            for _, name in _import_names(path, roots):
                if not is_test_name(path) and name_of(path) != "conftest.py":
                    known.setdefault(name, path)
    return known


def _there(root: str, top: str, kept: frozenset[str]) -> bool:
    """Return whether the base has a module or package of that name in the same place."""
    place = f"{root}/{top}" if root else top
    return f"{place}.py" in kept or any(path.startswith(f"{place}/") and path.endswith(".py") for path in kept)


def _same_package(path: str, other: str) -> bool:
    """Return whether two files of one name never compete: stubs, or parts of one namespace package in two folders."""
    return path.endswith(".pyi") or other.endswith(".pyi")


def _imported_outside(top: str, kept: frozenset[str], read: Callable[[str], bytes | None]) -> str:
    """Return a file of the base that imports a name which is no module of the project."""
    for path in sorted(kept):
        if path.endswith(".py"):
            text = (read(path) or b"")[:_LARGEST].decode("utf-8", "replace")
            if top in text and any(
                top in {part.strip().partition(" ")[0].partition(".")[0] for part in (match[1] or match[2]).split(",")}
                for match in _IMPORT.finditer(text)
            ):
                return path
    return ""


def _foreign(path: str, kept: frozenset[str], read: Callable[[str], bytes | None]) -> str:
    """Return what a new file of another language is loaded in place of: a library that tests of the base use."""
    stem, suffix = posixpath.splitext(path)
    pattern = _FOREIGN.get(suffix)
    if pattern is None or is_test_name(path):
        return ""
    framework = _FRAMEWORKS[suffix].search(stem) if suffix in _FRAMEWORKS else None
    if framework and not any(f"/{framework[1]}" in f"/{other}" for other in kept if other.endswith(suffix)):
        return f"it is loaded instead of a part of {framework[1]}"
    family = _JVM if suffix in _JVM else {suffix, ".c", ".cc", ".cpp", ".pl", ".t"}
    for user in sorted(other for other in kept if suffix_of(other) in family and is_test_name(other)):
        for name in re.findall(pattern, (read(user) or b"")[:_LARGEST].decode("utf-8", "replace")):
            parts = re.split(r"\.|/|::", name)
            # Java names a class or a part of it, Ruby and the others a file
            for end in (len(parts), len(parts) - 1) if suffix in _JVM else (len(parts),):
                place = "/".join(parts[:end])
                if f"/{stem}".endswith(f"/{place}") and ("/" in place or suffix not in _JVM):
                    known = any(f"/{posixpath.splitext(other)[0]}".endswith(f"/{place}") for other in kept)
                    return "" if known else f"it is loaded instead of {name}, which {user} uses"
    return ""


def _javascript(path: str, kept: frozenset[str]) -> str:
    """Return what a new JavaScript file shadows during resolution; empty if nothing."""
    parts = path.split("/")
    if "node_modules" in parts[:-1]:
        return "it is resolved instead of an installed package"
    stem, suffix = posixpath.splitext(path)
    if suffix not in _JS or path.endswith(".d.ts"):
        return ""
    for other in _JS_FIRST.get(suffix, ()):
        if f"{stem}{other}" in kept:
            return f"it is resolved instead of {stem}{other}"
    for other in _JS:
        if f"{stem}/index{other}" in kept:
            return f"it is resolved instead of {stem}/index{other}"
    return ""
