"""The files of a base that belong to its tests, and the changed files to restore for a judgement by them. Pure.

The tests of a base are more than the files with a test's name: helpers, fixtures, golden files, case tables and
snapshots below test folders, files that the project's configuration or its check commands name as tests, and data that
only tests mention. A second run of the checks takes all of these from the base and omits additions by the change, so
its proof does not depend on files of the change.
"""

from __future__ import annotations

import configparser
import json
import posixpath
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from executor.model.paths import is_documentation, is_test, matches, name_of, suffix_of, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from executor.git.diff import FileChange
    from executor.stop_rules.commands import Reached

__all__ = ["Base", "PutBack", "Suite", "judges", "put_back", "settings_of_tools", "suite_of"]

_FOLDERS = frozenset({"test", "tests", "__tests__", "testdata", "__mocks__", "__snapshots__", "e2e", "androidtest"})
"""Test folders by name alone, unless they are a package of the product."""
_PERHAPS = frozenset(
    {"testing", "spec", "specs", "fixtures", "features", "cypress", "integration", "acceptance", "t", "checks", "it"}
)
"""Test folders if they contain a test."""
_WORDS = frozenset({"test", "tests", "testing"})
_WITH = frozenset(
    "fixture fixtures data resources integration functional unit acceptance helpers utils util support cases"  # noqa: SIM905
    " assets files vectors suite suites kit common it system smoke".split()
)
"""Words that make a folder one of tests beside the word test: testFixtures, integration-tests, test_data."""
_NAMES = re.compile(
    r"(?i)tests?\.[cm]?[jt]sx?|test[-_].*\.([cm]?[jt]sx?|sh|bash|lua|c|cc|cpp|pl|php|rb|clj|jl|r|ml)|.*[-_.](test|tests|spec)\.\w+"
    r"|.*\.(bats|feature|snap|golden|approved\.\w+|ambr)|.*_tests?\.(c|h|lua|clj|jl|erl|hs|zig|swift|kt|sh)|.*\.tests\.ps1"
    r"|run[-_]?tests?\.\w+|.*\.t"
)
_CODE = (
    frozenset({".py", ".pyi", ".js", ".jsx", ".ts", ".tsx", ".mjs", ".cjs", ".mts", ".cts", ".go"})
    | frozenset({".rs", ".rb", ".java", ".kt", ".kts", ".cs", ".php", ".c", ".h", ".cc", ".cpp", ".hpp"})
    | frozenset({".swift", ".scala", ".sh", ".bash", ".lua", ".pl", ".pm", ".ex", ".exs", ".erl", ".hs"})
    | frozenset({".clj", ".jl", ".vue", ".svelte", ".dart", ".zig", ".ml", ".r"})
)
_MANIFESTS = re.compile(
    r"(?i)(package(-lock)?|composer|deno|tsconfig.*|jsconfig)\.jsonc?|(pyproject|cargo|uv)\.toml|.*\.lock|pom\.xml|go\.(mod|sum)"
)
_TESTING = re.compile(
    r"(?m)^\s*(?:import|from)\s+(?:pytest|unittest|hypothesis|nose)\b|[\"'](?:node:test|node:assert(?:/strict)?|assert|chai|vitest|@jest/globals)[\"']"
)
_HELPERS = re.compile(
    r"(?i)(?:^|[/_.-])(?:help|test|fixture|assert|expect|fake|mock|stub|sampl|check|verif|golden|support)[^/]*$"
)
"""Names of files that help tests, if nothing but tests mentions them."""
_ASSERTS = re.compile(rb"\bassert\w*\b|\bAssertionError\b|\bexpect\(|\bt\.(?:Fatal|Error)")
_GO_TESTING = re.compile(rb'(?m)^\s*(?:import\s+)?"(?:testing|github\.com/stretchr/testify/\w+|gotest\.tools/.*)"\s*$')
_JUDGES = frozenset(
    {"script", "scripts", "ci", "tools", "tool", "hack", "dev", "check", "checks", "verify"}
) | frozenset({"verification", "qa", "build-aux", ".ci", ".github", "harness", "smoke"})
_JUDGING = frozenset(
    "check checks checker test tests tester testing verify verifies validate validation smoke lint ci spec selftest"  # noqa: SIM905
    " acceptance assert asserts judge e2e regression harness".split()
)
_PRODUCTS = frozenset(
    "src lib app apps cmd bin pkg internal server client packages api web backend frontend core services functions"  # noqa: SIM905
    " lambda examples example demo public static dist build".split()
)
"""Folders in which a program that a check runs is probably the product."""
_INI = ("pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg")
_LISTS = re.compile(
    r"\b(?:testMatch|testRegex|include|spec|testFiles|specPattern|specs)\b[\"']?\s*:\s*(\[[^\]]*\]|[\"'][^\"']+[\"'])"
)
_JS_CONFIG = re.compile(
    r"(jest|vitest|vite|playwright|cypress|karma|ava|web-test-runner)\.config\.[cm]?[jt]s|\.mocharc\.\w+|\.jasmine\.json"
)
_CONFIGURES = re.compile(
    rf"pyproject\.toml|\.?pytest\.toml|package\.json|phpunit(\.\w+)*\.xml(\.dist)?|{_JS_CONFIG.pattern}"
)


@dataclass(frozen=True, slots=True)
class Base:
    """The tree that a change was made from.

    Attributes:
        paths: every file of it.
        read: returns the content of a file; None if it does not exist.
        mentions: maps texts to the files that contain them, for several texts at once.
    """

    paths: frozenset[str]
    read: Callable[[str], bytes | None]
    mentions: Callable[[Collection[str]], Mapping[str, Collection[str]]]


@dataclass(frozen=True, slots=True)
class Suite:
    """The tests of a base.

    Attributes:
        folders: folders whose whole content belongs to the tests.
        globs: patterns of test files that the project or its commands declare.
        files: further files.
        known: every folder of the base.
    """

    folders: frozenset[str]
    globs: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()

    def has(self, path: str) -> bool:
        """Return whether a file belongs to the tests, or would if it were added."""
        if path in self.files or is_test_name(path) or matches(path, self.globs):
            return True
        return any(folder in self.folders or self._is_new(folder) for folder in _parents(path))

    def _is_new(self, folder: str) -> bool:
        """Return whether the base lacks a folder that would be one of tests by its name."""
        named = name_of(folder).lower() in _FOLDERS - {"test"}  # a package of the product may be called test
        return named and "src/main/" not in f"{folder}/" and bool(self.known) and folder not in self.known


@dataclass(frozen=True, slots=True)
class PutBack:
    """Modifications of a candidate for its second judgement.

    Attributes:
        tests: files of the base's tests that the change altered or removed; taken from the base.
        declared: those of them that the issue declares as changed.
        added: files that the change adds to the tests; omitted.
        scripts: judging scripts that the change altered or removed; taken from the base.
        operands: other files that a command runs or names and that the change altered; taken from the base if the
            command passes on the base.
        helpers: altered files with assertions that only tests mention and whose names say so; the tests of the base
            have to pass with the new ones and with those of the base.
    """

    tests: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    operands: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()

    @property
    def strict(self) -> tuple[str, ...]:
        """All files that are taken from the base or omitted."""
        return (*self.tests, *self.added, *self.scripts)

    def lenient(self, declared: Sequence[str]) -> tuple[str, ...]:
        """Return the same without files that the issue declares."""
        return tuple(path for path in self.strict if not matches(path, declared))


def suite_of(base: Base, reached: Reached) -> Suite:
    """Return the tests of a base, by names, by its configuration and by the arguments of its commands."""
    globs = (*_configured(base), *(f"**/{pattern}" for pattern in reached.patterns))
    tests = {path for path in base.paths if is_test_name(path) or matches(path, globs)}
    folders = _folders(base.paths, tests)
    files: set[str] = set()
    for path in reached.tested:
        if path in base.paths:
            files.add(path)
        elif re.search(r"[*?\[]", path):
            globs = (*globs, path)
        elif _mostly(path, base.paths, tests):
            folders.add(path)
    return Suite(frozenset(folders), globs, frozenset(files), _known_folders(base.paths))


@lru_cache(maxsize=4)
def _known_folders(paths: frozenset[str]) -> frozenset[str]:
    return frozenset(
        it for place in {path.rpartition("/")[0] for path in paths} - {""} for it in (place, *_above(place))
    )


def put_back(
    changed: Sequence[FileChange], base: Base, suite: Suite, reached: Reached, declared: Sequence[str]
) -> PutBack:
    """Return the changed files to restore for a judgement by the base's tests.

    Args:
        changed: the files of the change.
        base: the base of the change.
        suite: the base's tests.
        reached: files that the commands of its checks reach.
        declared: globs of files that the issue declares as changed.
    """
    tests: list[str] = []
    added: list[str] = []
    scripts: list[str] = []
    operands: list[str] = []
    mentioned = _only_tests_mention([file.path for file in changed if file.kind != "created"], base, suite)
    helpers = {path for path in mentioned if suffix_of(path) in _CODE and not _imports_tests(path, base)}
    for file in changed:
        path = file.path
        if suite.has(path) or path in mentioned - helpers:
            (added if file.kind == "created" else tests).append(path)
        elif file.kind == "created":
            continue
        elif path in reached.scripts and judges(path, base.paths):
            scripts.append(path)
        elif path in reached.scripts or path in reached.operands:
            operands.append(path)
    named = tuple(path for path in tests if matches(path, declared))
    scripts = [path for path in scripts if not matches(path, declared)]
    operands = [path for path in operands if not matches(path, declared)]
    left = tuple(sorted(path for path in helpers if not matches(path, declared)))
    return PutBack(tuple(tests), named, tuple(added), tuple(scripts), tuple(operands), left)


def judges(path: str, paths: Collection[str] = ()) -> bool:
    """Return whether a script that a check runs is a judge, by its path; otherwise it may be part of the product.

    Args:
        path: path of the script.
        paths: every file of the tree. A script in a separate folder that is neither a package nor a usual product
            folder is a judge.
    """
    *folders, name = path.split("/")
    if suffix_of(path) in {".sh", ".bash", ".mk", ".bats"} or "akefile" in name or is_test(path):
        return True
    if not _JUDGES.isdisjoint(map(str.lower, folders)) or not _JUDGING.isdisjoint(words_of(name.rpartition(".")[0])):
        return True
    if not paths or not folders or not _PRODUCTS.isdisjoint(map(str.lower, folders)):
        return False
    return not any(f"{'/'.join(folders[:end])}/__init__.py" in paths for end in range(1, len(folders) + 1))


# A landing changes few names of a tree: in a large repository, remembering them saves most of a judgement's time.
_REMEMBERED = 2**16


@lru_cache(maxsize=_REMEMBERED)
def _can_configure(name: str) -> bool:
    return name in _INI or _CONFIGURES.fullmatch(name) is not None


def is_test_name(path: str) -> bool:
    """Return whether a file is a test by its name, in any language; its folders do not count."""
    return _is_test_name(name_of(path))


@lru_cache(maxsize=_REMEMBERED)
def _is_test_name(name: str) -> bool:
    return _NAMES.fullmatch(name) is not None or is_test(name)


def _parents(path: str) -> tuple[str, ...]:
    """Return the folders that a path is in, the nearest first."""
    folder = path.rpartition("/")[0]
    return (folder, *_above(folder)) if folder else ()


@lru_cache(maxsize=_REMEMBERED)
def _above(folder: str) -> tuple[str, ...]:
    parts = folder.split("/")
    return tuple("/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))


def _folders(paths: Collection[str], tests: Collection[str]) -> set[str]:
    """Return the test folders: by name, or by name and content."""
    packages = {path.rpartition("/")[0] for path in paths if name_of(path) == "__init__.py"}
    direct: set[str] = set()  # folders with a test that is in no other folder of tests in between
    for path in tests:
        for folder in _parents(path):
            direct.add(folder)
            if name_of(folder).lower() in _FOLDERS | _PERHAPS:
                break
    found: set[str] = set()
    for inner in {path.rpartition("/")[0] for path in paths} - {""}:
        for folder in reversed([inner, *_parents(inner)]):
            if any(parent in found for parent in _parents(folder)):
                break
            product = "src/main/" in f"{folder}/" or (folder in packages and folder not in direct)
            if (_is_of_tests(folder) and not product) or (_may_be_of_tests(folder) and folder in direct):
                found.add(folder)
                break
    return found


@lru_cache(maxsize=_REMEMBERED)
def _is_of_tests(folder: str) -> bool:
    words = set(words_of(name_of(folder)))
    return name_of(folder).lower() in _FOLDERS or not (_WORDS.isdisjoint(words) or _WITH.isdisjoint(words))


@lru_cache(maxsize=_REMEMBERED)
def _may_be_of_tests(folder: str) -> bool:
    return name_of(folder).lower() in _PERHAPS or not _WORDS.isdisjoint(words_of(name_of(folder)))


def _mostly(folder: str, paths: Collection[str], tests: Collection[str]) -> bool:
    """Return whether at least half of the code below a folder are tests."""
    inside = [path for path in paths if path.startswith(f"{folder}/") and suffix_of(path) in _CODE]
    return bool(inside) and 2 * sum(path in tests for path in inside) >= len(inside)


def _only_tests_mention(paths: Sequence[str], base: Base, suite: Suite) -> set[str]:
    """Return files outside test folders that exist only for tests: data that they name, helpers that they import."""
    names = {path: name for path in paths if not suite.has(path) and (name := _mentioned_as(path, base))}
    if not names:
        return set()
    mentions = base.mentions(frozenset(names.values()))
    found = set()
    for path, name in names.items():
        others = [other for other in mentions.get(name, ()) if other != path and suffix_of(other) in _CODE]
        if others and all(suite.has(other) for other in others):
            found.add(path)
    return found


def _mentioned_as(path: str, base: Base) -> str:
    """Return the name by which tests would mention a file that exists for them; empty for a product file."""
    name = name_of(path)
    suffix = suffix_of(path)
    if _MANIFESTS.fullmatch(name) or (is_documentation(path) and suffix != ".txt"):
        return ""
    if suffix == ".go":
        folder = posixpath.dirname(path)
        return f'/{name_of(folder)}"' if folder and _GO_TESTING.search(base.read(path) or b"") else ""
    if suffix in _CODE:
        helps = _HELPERS.search(path) and _ASSERTS.search(base.read(path) or b"")
        return name.rpartition(".")[0] if helps or _imports_tests(path, base) else ""
    return "" if suffix == "" or name in {"LICENSE", "README"} else name


def _imports_tests(path: str, base: Base) -> bool:
    """Return whether a file of code imports a framework for tests."""
    if suffix_of(path) == ".go":
        return True  # only packages that do are looked for
    return _TESTING.search((base.read(path) or b"")[:200_000].decode("utf-8", "replace")) is not None


def _configured(base: Base) -> tuple[str, ...]:
    """Return globs of test files that the base's configuration declares."""
    found: list[str] = []
    for path in sorted(path for path in base.paths if _can_configure(name_of(path))):
        name = name_of(path)
        if name in _INI or name in {"pyproject.toml", "pytest.toml", ".pytest.toml"}:
            found += _in(path, _pytest_globs(name, base.read(path) or b""))
        elif name == "package.json" or _JS_CONFIG.fullmatch(name):
            found += _in(path, _js_globs(name, base.read(path) or b""))
        else:
            text = (base.read(path) or b"").decode("utf-8", "replace")
            folders = (word.strip("./ ") for word in re.findall(r"<directory[^>]*>([^<]+)<", text) if "src" not in word)
            found += _in(path, [f"{folder}/**" for folder in folders])
    return tuple(dict.fromkeys(found))


def _in(path: str, globs: Iterable[str]) -> Iterator[str]:
    folder = posixpath.dirname(path)
    for glob in globs:
        yield f"{folder}/{glob}" if folder else glob


def _pytest_globs(name: str, data: bytes) -> list[str]:
    text = data.decode("utf-8", "replace")
    try:
        if name.endswith(".toml"):
            table: Any = tomllib.loads(text)
            for key in ("tool", "pytest", "ini_options") if name == "pyproject.toml" else ("pytest",):
                table = table.get(key, {}) if isinstance(table, dict) else {}
            value = table.get("python_files", "") if isinstance(table, dict) else ""
        else:
            parser = configparser.RawConfigParser(strict=False)
            parser.read_string(text)
            section = "tool:pytest" if name == "setup.cfg" else "pytest"
            value = parser.get(section, "python_files", fallback="")
    except (ValueError, configparser.Error):
        return []
    words = (
        value.split() if isinstance(value, str) else [str(word) for word in value] if isinstance(value, list) else []
    )
    return [word if "/" in word else f"**/{word}" for word in words if word.strip("*?") not in {"", ".py"}]


def settings_of_tools(text: str) -> str:
    """Return the parts of a package.json that are about test runners and linters; empty if it cannot be read."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    names = (
        "jest",
        "mocha",
        "ava",
        "vitest",
        "nyc",
        "c8",
        "tap",
        "eslintConfig",
        "babel",
        "prettier",
        "stylelint",
        "xo",
    )
    parts = [document.get(name) for name in names] if isinstance(document, dict) else []
    return json.dumps([part for part in parts if part])


def _js_globs(name: str, data: bytes) -> list[str]:
    text = data[:200_000].decode("utf-8", "replace")
    if name == "package.json":
        text = settings_of_tools(text).replace('"files"', '"testFiles"')
    elif name.startswith("vite.") and "test" not in text:
        return []
    found: list[str] = []
    for match in _LISTS.finditer(text):
        for pattern in re.findall(r"[\"']([^\"']+)[\"']", match[1]):
            found += _expanded(pattern.removeprefix("<rootDir>/").removeprefix("./"))
    return [glob for glob in found if re.search(r"[A-Za-z]", re.sub(r"\.\w+$", "", glob).replace("src", ""))]


def _expanded(glob: str) -> list[str]:
    """Return a glob with its braces expanded and its extended patterns removed."""
    glob = re.sub(r"[?*+@]\(([^()]*)\)", lambda match: "*" if "|" in match[1] else "", glob)
    if brace := re.search(r"\{([^{}]*)\}", glob):
        return [
            whole
            for part in brace[1].split(",")[:20]
            for whole in _expanded(glob[: brace.start()] + part + glob[brace.end() :])
        ]
    return [glob] if not re.search(r"[\\$^|]", glob) else []
