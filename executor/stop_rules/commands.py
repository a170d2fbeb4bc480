"""Files that the commands of checks reach: executed scripts, named files, scripts of package.json. Pure.

The judges of a change are derived from its commands, not from a list of names: `sh check.sh` is judged by `check.sh`,
`npm run unit` by the script `unit` and everything that it runs, `make test` by the recipes of `test` and the included
makefiles. Nothing is executed.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from executor.stop_rules.program_text import imported_names, loaded_by_settings, strings_of_calls, words_of_shell
from executor.stop_rules.test_evidence.test_suite import judges

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

__all__ = ["Reached", "reached"]

_DEEPEST = 6  # scripts that call scripts; ends a circle
_LARGEST = 200_000  # bytes of a script; longer ones are no scripts that people write
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"})
_INTERPRETER = re.compile(
    r"(?:python|pypy)[\d.]*|node(?:js)?|ruby|perl|php|lua[\d.]*|Rscript|julia|groovy|tsx|ts-node|pwsh|deno|bun|source|\."
)
_WRAPPERS = frozenset(
    {"env", "time", "nice", "nohup", "exec", "command", "sudo", "xvfb-run", "npx", "bunx", "eval", "!", "if", "then"}
    | {"else", "do", "while", "until", "elif", "{", "("}
)
_RUNNERS = {"uv", "poetry", "pipenv", "pdm", "hatch", "rye", "bundle", "pnpm", "yarn", "npm", "coverage", "conda"}
_RUN = frozenset({"run", "exec", "run-script", "x", "dlx"})
_PACKAGE_MANAGERS = frozenset({"npm", "pnpm", "yarn", "bun"})
_NOT_SCRIPTS = frozenset("install ci i add audit pack publish exec dlx x init version".split())  # noqa: SIM905
_MAKES = frozenset({"make", "gmake", "bmake"})
_LISTING = {  # tools whose file lists commands: every command in it counts, whatever is asked for
    "just": ("justfile", "Justfile", ".justfile"),
    "task": ("Taskfile.yml", "Taskfile.yaml", "taskfile.yml", "Taskfile.dist.yml"),
    "tox": ("tox.ini",),
    "nox": ("noxfile.py",),
    "rake": ("Rakefile", "rakefile"),
    "invoke": ("tasks.py",),
    "inv": ("tasks.py",),
    "doit": ("dodo.py",),
    "gulp": ("gulpfile.js", "gulpfile.mjs", "gulpfile.cjs", "gulpfile.ts"),
    "grunt": ("Gruntfile.js", "gruntfile.js", "Gruntfile.cjs"),
    "jake": ("Jakefile", "Jakefile.js"),
}
_SCRIPTED = frozenset({"gulp", "grunt", "jake"})
"""Tools whose file is a program and no list of commands."""
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_WITH_FILE = re.compile(
    r"--?(?:c|conf|config|config-file|configuration|rcfile|settings|project|p|f|file|require|r|import|loader|setup)"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_RUNS_TESTS = re.compile(
    r"(?:^|[\s/])(?:py\.?test|unittest|nose2?|jest|vitest|mocha|ava|tap|tape|jasmine|rspec|phpunit|pest|bats|prove|busted|ctest"
    r"|minitest|doctest|trial|green|ward|stestr|manage\.py test"
    r"|(?:go|deno|bun|cargo|zig|dart|flutter|mix|swift) test|node\b.* --test)"
    r"(?=[\s=.]|$)"
)
_DOCTEST = re.compile(r"\bdoctest\b|--doctest-(?:modules|glob)|--doctest\b")
_REQUIRE = re.compile(r"(?:require\(|from|import\(?)\s*[\"'](\.{1,2}/[^\"']+)[\"']")
_TARGET = re.compile(r"^([^\s#:=][^:=#]*)::?(?!=)([^#]*)")
_INCLUDE = re.compile(r"^\s*[-s]?include\s+(.+)$")
_SUFFIXES = ("", ".js", ".mjs", ".cjs", ".ts", "/index.js")


@dataclass(frozen=True, slots=True)
class Reached:
    """Files that the commands of an issue depend on.

    Attributes:
        scripts: path of an executed file -> the command that reaches it.
        operands: path of a file or folder that is named as an operand -> the command that names it.
        package_scripts: names of package.json scripts.
        tested: path, folder or glob that is passed to a test runner -> the command that names it.
        patterns: globs of test files that a command passes to its runner.
        included: paths and globs that makefiles of the commands include, whether there is such a file or not.
        settings: path of a file that the settings of a test runner or linter load -> the file of these settings.
        doctests: whether examples in documentation strings are run.
    """

    scripts: dict[str, str] = field(default_factory=dict)
    operands: dict[str, str] = field(default_factory=dict)
    tested: dict[str, str] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()
    package_scripts: frozenset[str] = frozenset()
    doctests: bool = False
    included: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)


def reached(commands: Iterable[Sequence[str]], paths: Collection[str], read: Callable[[str], bytes | None]) -> Reached:
    """Return the files that commands reach in a tree.

    Args:
        commands: argument lists of checks and acceptance.
        paths: every file of the tree.
        read: returns the content of a file of the tree; None if it does not exist.
    """
    search = _Search(frozenset(paths), read)
    for argv in commands:
        search.why = _shown(argv)
        search.command(list(argv), "", 0)
    return Reached(
        search.scripts,
        search.operands,
        search.tested,
        tuple(search.patterns),
        frozenset(search.package_scripts),
        doctests=search.doctests,
        included=tuple(search.included),
        settings=loaded_by_settings(paths, read),
    )


def _shown(argv: Sequence[str]) -> str:
    text = argv[2] if len(argv) == 3 and argv[:2] == ("sh", "-c") else " ".join(argv)  # noqa: PLR2004  (sh -c TEXT)
    return " ".join(text.split())[:80]


@lru_cache(maxsize=4)
def _folders_of(paths: frozenset[str]) -> frozenset[str]:
    """Every folder of these files, the top included as an empty name."""
    found = {path.rpartition("/")[0] for path in paths}
    for folder in list(found):
        parts = folder.split("/")
        found.update("/".join(parts[:end]) for end in range(len(parts)))
    return frozenset(found)


class _Search:
    """Follows commands into files and collects everything it finds."""

    def __init__(self, paths: frozenset[str], read: Callable[[str], bytes | None]) -> None:
        self.scripts: dict[str, str] = {}
        self.operands: dict[str, str] = {}
        self.package_scripts: set[str] = set()
        self.tested: dict[str, str] = {}
        self.patterns: list[str] = []
        self.doctests = False
        self.included: list[str] = []
        self.why = ""
        self._paths, self._read = paths, read
        self._folders = _folders_of(paths)
        self._done: set[tuple[str, str]] = set()

    def shell(self, text: str, folder: str, depth: int) -> None:
        if depth > _DEEPEST:
            return
        for words in words_of_shell(text):
            if words[0] == "cd" and len(words) > 1:
                folder = self._path(folder, words[1]) or folder if self._folder(folder, words[1]) else folder
            else:
                self.command(words, folder, depth)

    def command(self, words: list[str], folder: str, depth: int) -> None:  # noqa: C901  (one branch for a kind of program)
        words = _unwrapped(words)
        if not words or depth > _DEEPEST:
            return
        if any(_DOCTEST.search(word) for word in words):
            self.doctests = True
        program = posixpath.basename(words[0]) or words[0]
        rest = words[1:]
        if program in _SHELLS and "-c" in _cluster(rest):
            at = next((place for place, word in enumerate(rest) if word.startswith("-") and "c" in word), 0)
            if at + 1 < len(rest):
                self.shell(rest[at + 1], folder, depth + 1)
            return
        if self._script(folder, words[0], depth):
            pass
        elif program in _SHELLS or _INTERPRETER.fullmatch(program):
            rest = self._interpreted(program, rest, folder, depth)
        if program in _PACKAGE_MANAGERS:
            self._packages(program, rest, folder, depth)
        elif program in _MAKES:
            self._make(rest, folder, depth)
        elif program in _LISTING:
            self._listing(program, folder, depth)
        if program == "go" and rest[:1] == ["run"]:
            self._go_run(rest[1:], folder)
        tested = _RUNS_TESTS.search(" ".join(words[:4])) is not None
        if tested:
            self.patterns += (word for before, word in pairwise(rest) if before in {"-p", "--pattern"} and "*" in word)
        self._named(rest, folder, depth, self.tested if tested else self.operands)

    def _interpreted(self, program: str, rest: list[str], folder: str, depth: int) -> list[str]:
        """Find the script that an interpreter runs; returns the remaining arguments."""
        if "-m" in rest and program.startswith(("python", "pypy")):
            at = rest.index("-m")
            module = rest[at + 1] if at + 1 < len(rest) else ""
            name = module.replace(".", "/")
            for path in (f"{name}.py", f"{name}/__main__.py"):
                self._script(folder, path, depth)
            return [*rest[:at], *rest[at + 2 :]] if module != "pytest" else rest[at + 2 :]
        if program == "node" and any(word == "--test" or word.startswith("--test=") for word in rest):
            return rest
        place = 0
        while place < len(rest):
            word = rest[place]
            if word in {"run", "test"} and program in {"deno", "bun"}:
                place += 1
            elif word.startswith("-"):
                place += 2 if word in {"-r", "--require", "--import", "--loader", "-W", "-X", "-I"} else 1
                if word in {"-r", "--require", "--import", "--loader"} and place <= len(rest):
                    self._script(folder, rest[place - 1], depth)
            else:
                self._script(folder, word, depth)
                return rest[place + 1 :]
        return []

    def _go_run(self, rest: Sequence[str], folder: str) -> None:
        place = self._path(folder, next((word for word in rest if not word.startswith("-")), ""))
        for path in self._paths:
            if path == place or (path.endswith(".go") and posixpath.dirname(path) == place and place):
                self.scripts.setdefault(path, self.why)

    def _named(self, words: Sequence[str], folder: str, depth: int, into: dict[str, str]) -> None:
        before = ""
        for word in words:
            value = word.partition("=")[2] if word.startswith("-") and "=" in word else word
            path = self._path(folder, value.partition("::")[0])
            if path and (path in self._paths or path in self._folders):
                option = word.partition("=")[0] if value is not word else before
                if _WITH_FILE.fullmatch(option) and path in self._paths:
                    self._script(folder, value, depth)
                else:
                    into.setdefault(path, self.why)
            elif value and re.search(r"[*?\[]", value):
                into.setdefault(posixpath.normpath(posixpath.join(folder, value)), self.why)
            before = word

    def _script(self, folder: str, word: str, depth: int) -> bool:
        """Record a script that judges, and search it."""
        path = self._path(folder, word)
        if not path or path not in self._paths:
            return False
        self.scripts.setdefault(path, self.why)
        if (path, folder) in self._done or depth > _DEEPEST:
            return True
        self._done.add((path, folder))
        text = self._text(path)
        suffix = posixpath.splitext(path)[1]
        first = text[:80].partition("\n")[0]
        if suffix in {".sh", ".bash", ".zsh", ".bats"} or (
            first.startswith("#!") and re.search(r"\b(ba|da|z|k)?sh\b", first)
        ):
            self.shell(text, folder, depth + 1)
        elif suffix == ".py":
            self.doctests = self.doctests or "doctest.testmod" in text or "doctest.testfile" in text
            self._neighbours(path, imported_names(text), (".py", "/__init__.py"), depth)
        elif suffix in {".js", ".mjs", ".cjs", ".ts"}:
            self._neighbours(path, _REQUIRE.findall(text), _SUFFIXES, depth)
        return True

    def _neighbours(self, path: str, names: Iterable[str], suffixes: Sequence[str], depth: int) -> None:
        """Record modules next to a script in a folder of scripts; it judges imports from the product."""
        folder = posixpath.dirname(path)
        for name in names:
            for suffix in suffixes:
                found = self._path(folder, name + suffix)
                if found in self._paths and (found.startswith(f"{folder}/") if folder else judges(found, self._paths)):
                    self._script("", found, depth + 1)

    def _packages(self, program: str, rest: Sequence[str], folder: str, depth: int) -> None:
        place, plain = folder, []
        for at, word in enumerate(rest):
            if word in {"-C", "--prefix", "--cwd", "--dir"} and at + 1 < len(rest):
                place = self._path(folder, rest[at + 1]) or folder
            elif word.startswith(("--prefix=", "--cwd=")):
                place = self._path(folder, word.partition("=")[2]) or folder
            elif not word.startswith("-") and not (at and rest[at - 1] in {"-C", "--prefix", "--cwd", "--dir", "-w"}):
                plain.append(word)
        if not plain:
            return
        name = plain[1] if plain[0] in _RUN and len(plain) > 1 else plain[0]
        if name in _NOT_SCRIPTS and plain[0] not in {"run", "run-script"}:
            return
        self._package_script("test" if name in {"t", "tst"} and program == "npm" else name, place, depth)

    def _package_script(self, name: str, folder: str, depth: int) -> None:
        self.package_scripts.add(name)
        if (name, folder) in self._done or depth > _DEEPEST:
            return
        self._done.add((name, folder))
        try:
            document = json.loads(self._text(posixpath.join(folder, "package.json")) or "{}")
            scripts = document.get("scripts", {}) if isinstance(document, dict) else {}
        except (ValueError, RecursionError):
            return
        for script in (f"pre{name}", name, f"post{name}"):
            text = scripts.get(script) if isinstance(scripts, dict) else None
            if isinstance(text, str):
                self.package_scripts.add(script)
                self.shell(text, folder, depth + 1)
                for run in re.findall(r"(?:npm-run-all|run-[sp])\s+([^;&|]+)", text):
                    for other in run.split():
                        if not other.startswith("-"):
                            self._package_script(other, folder, depth + 1)

    def _make(self, rest: Sequence[str], folder: str, depth: int) -> None:
        place, named, targets = folder, [], []
        words = iter(rest)
        for word in words:
            if word in {"-C", "--directory"}:
                place = self._path(folder, next(words, "")) or folder
            elif word in {"-f", "--file", "--makefile"}:
                named.append(next(words, ""))
            elif not word.startswith("-") and "=" not in word:
                targets.append(word)
        files = named or [name for name in _MAKEFILES if self._path(place, name) in self._paths][:1]
        recipes: dict[str, tuple[list[str], list[str]]] = {}
        for name in files:
            self._makefile(place, name, recipes, depth)
        first = next((name for name in recipes if not name.startswith(".")), "")
        waiting, seen = list(targets) or [first], set[str]()
        while waiting:
            target = waiting.pop()
            if target in seen or target not in recipes:
                continue
            seen.add(target)
            needs, lines = recipes[target]
            waiting += needs
            for line in lines:
                self.shell(
                    line.lstrip("@-+ \t").replace("$(MAKE)", "make").replace("${MAKE}", "make"), place, depth + 1
                )
            for need in needs:
                self._named([need], place, depth, self.operands)

    def _makefile(  # noqa: C901  (one branch for a kind of line)
        self, folder: str, name: str, recipes: dict[str, tuple[list[str], list[str]]], depth: int
    ) -> None:
        path = self._path(folder, name)
        if not path or path not in self._paths or (path, "make") in self._done or depth > _DEEPEST:
            return
        self._done.add((path, "make"))
        self.scripts.setdefault(path, self.why)
        targets: list[str] = []
        for line in re.sub(r"\\\n", " ", self._text(path)).split("\n"):
            if line.startswith("\t"):
                for target in targets:
                    recipes[target][1].append(line.strip())
            elif include := _INCLUDE.match(line):
                for other in include[1].split():
                    self.included.append(posixpath.normpath(posixpath.join(folder, other)))
                    for found in self._matching(folder, other):
                        self._makefile("", found, recipes, depth + 1)
            elif rule := _TARGET.match(line):
                targets = rule[1].split()
                needs, _, recipe = rule[2].partition(";")
                for target in targets:
                    known = recipes.setdefault(target, ([], []))
                    known[0].extend(need for need in needs.split() if need != "|")
                    if recipe.strip():
                        known[1].append(recipe.strip())

    def _listing(self, program: str, folder: str, depth: int) -> None:
        for name in _LISTING[program]:
            path = self._path(folder, name)
            if path in self._paths and (path, "list") not in self._done:
                self._done.add((path, "list"))
                text = self._text(path)
                if program in _SCRIPTED:
                    self._script(folder, name, depth)
                    continue
                self.scripts.setdefault(path, self.why)
                if path.endswith(".py"):
                    text = "\n".join(" ".join(call) for call in strings_of_calls(text))
                text = re.sub(r"(?m)^\s*(?:-\s+)?(?:cmds?|commands\w*|deps)\s*[:=]\s*|^\s*-\s+|^\s*@", "", text)
                self.shell(text, folder, depth + 1)

    def _matching(self, folder: str, pattern: str) -> Iterator[str]:
        path = self._path(folder, pattern)
        if path in self._paths:
            yield path
        elif "*" in pattern:
            expression = re.compile(re.escape(posixpath.join(folder, pattern)).replace(r"\*", "[^/]*"))
            yield from (path for path in self._paths if expression.fullmatch(path))

    def _path(self, folder: str, word: str) -> str:
        """Return a word as a path of the tree; empty if it is none."""
        if not word or word.startswith(("/", "-", "~")) or "\n" in word:
            return ""
        path = posixpath.normpath(posixpath.join(folder, word))
        return "" if path.startswith("..") else "" if path == "." else path

    def _folder(self, folder: str, word: str) -> bool:
        return self._path(folder, word) in self._folders or word in {".", "./"}

    def _text(self, path: str) -> str:
        return (self._read(path) or b"")[:_LARGEST].decode("utf-8", "replace").replace("\r\n", "\n")


def _unwrapped(words: list[str]) -> list[str]:
    """Return a command without assignments and without wrapper programs."""
    while words:
        first = posixpath.basename(words[0])
        if _ASSIGNMENT.fullmatch(words[0]) or first in _WRAPPERS or words[0] in {"sudo", "-q", "-v"}:
            words = words[1:]
        elif first == "timeout" and len(words) > 1:
            words = words[2:]
        elif first in _RUNNERS and first not in _PACKAGE_MANAGERS and len(words) > 1 and words[1] in _RUN:
            words = words[2:]
            while words and words[0].startswith("-") and words[0] != "-m":
                words = words[1:]
            words = ["python", *words] if words[:1] == ["-m"] else words
        elif first in {"pnpm", "yarn", "npm"} and len(words) > 2 and words[1] in {"exec", "dlx", "x"}:  # noqa: PLR2004
            words = [word for word in words[2:] if word != "--"]
        elif first in {"docker", "podman"} and "exec" in words[:3]:
            words = _after_container(words)
        else:
            return words
    return words


def _after_container(words: list[str]) -> list[str]:
    rest = words[words.index("exec") + 1 :]
    while rest and rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in {"-w", "-e", "-u", "--workdir", "--env", "--user"} else rest[1:]
    return rest[1:]


def _cluster(words: Sequence[str]) -> set[str]:
    """Return one-letter options, ``-ec`` as ``-e`` and ``-c``, before the first operand."""
    found: set[str] = set()
    for word in words:
        if not word.startswith("-") or word.startswith("--"):
            break
        found |= {f"-{letter}" for letter in word[1:]}
    return found
