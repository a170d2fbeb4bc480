"""New modules with the name of an existing module, which they would shadow in imports. Pure.

By rule instead of a list: a name counts if the language's standard library has it, if an installed tool of the checks
has it, if the base imports it from outside, or if another module of the project can be imported by it.

Names and words in the scripts that commands run, and files that the settings of tools load.
"""

from __future__ import annotations

import posixpath
import re
import shlex
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from executor.model.paths import name_of, suffix_of
from executor.stop_rules.test_evidence.test_suite import is_test_name, settings_of_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from executor.git.diff import FileChange, Finding

__all__ = ["imported_names", "loaded_by_settings", "shadowing_modules", "strings_of_calls", "words_of_shell"]

_IMPORT = re.compile(r"(?m)^\s*(?:from\s+\.?([\w.]+)\s+import|import\s+([\w., ]+))")

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


def imported_names(text: str) -> set[str]:
    """Modules and names that a file of Python imports, modules as paths."""
    names: set[str] = set()
    for match in _IMPORT.finditer(text):
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
