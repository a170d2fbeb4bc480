"""Blindness: does a check look at the tree? It runs on deliberately broken copies; a check that still passes is blind.

The kind of each file by its path alone: product code, tests, tooling, documentation. Pure.

Broken copies of a tree, on which an honest check fails. Pure.

The subject of a check is unknown, so several copies are tried, the most informative first. A check is blind if it
passes on all of them. For a test run a single copy suffices: tests that pass although no product code parses, or
although no test file parses, test something else.

Whether a script of a check runs to its end: a product can end the process that judges it with exit code 0.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from executor.model.fingerprint import combined_key, digest
from executor.model.paths import matches, suffix_of
from executor.stop_rules.commands import reached

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from executor.checks.run import CheckRunner
    from executor.checks.spec import CommandProof

__all__ = [
    "Blindness",
    "Kind",
    "Sabotage",
    "Sight",
    "broken",
    "in_test_folder",
    "kind_of",
    "left_early",
    "product_files",
    "sabotages",
]


Kind = Literal["product", "test", "tooling", "docs", "other"]

_CODE = re.compile(
    r"py|pyx|pxd|jsx?|mjs|cjs|tsx?|mts|cts|vue|svelte|go|rs|[ch]|cc|cpp|cxx|hpp|hh|hxx|cu|mm?|java|kt|scala|groovy|rb|php|cs"
    r"|fs|vb|swift|lua|p[lm]|[rR]|t|jl|exs?|erl|hs|mli?|dart|zig|nim|cljs?|f90|f95|s?v|vhd|pas|d"
)
_SHELL = frozenset({"sh", "bash", "zsh", "fish", "ps1", "bat", "bats"})
_DOCS = frozenset(["md", "rst", "adoc", "txt", "png", "jpg", "jpeg", "gif", "svg", "ico", "pdf"])
_TEST_FOLDER = re.compile(r"t|tests?|__(?:tests|mocks|snapshots)__|specs?|testdata|fixtures|e2e|cypress")
_TOOL_FOLDER = re.compile(
    r"scripts?|tools?|ci|hack|dev|etc|cmake|build-aux|docs?|examples?|samples?|bench(?:marks)?|milestones|rules"
    r"|node_modules|vendor|third_party"
)
_TEST_NAME = re.compile(
    r"(?:test_.*|.*_test|.*_tests|tests?|conftest)\.(?:py|c|cc|cpp|go|rs|lua|exs?|rb|php|js|ts|mjs|cjs)"
    r"|.*[.-](?:test|spec|cy|e2e)\.(?:[mc]?[jt]sx?)|.*_spec\.(?:rb|lua)"
    r"|.*\.(?:t|bats)|.*(?:Test|Tests|IT|Spec)\.(?:java|kt|cs|scala|groovy|php|swift)"
)
_TOOL_NAME = re.compile(
    r"setup\.py|noxfile\.py|dodo\.py|fabfile\.py|tasks\.py|conf\.py|build\.rs|versioneer\.py|.*\.config\.[mc]?[jt]s|"
    r"\..*rc\.[mc]?js|gulpfile\..*|gruntfile\..*|.*\.gradle(?:\.kts)?|.*\.cmake|rakefile|dangerfile.*|meson\.build",
    re.IGNORECASE,
)


def kind_of(path: str) -> Kind:
    """Return the kind of a file, by its path.

    ``tooling`` is code that builds, runs or checks the product; without it a check fails for an unrelated reason.
    """
    *folders, name = path.split("/")
    extension = name.rpartition(".")[2].lower() if "." in name.lstrip(".") else ""
    if _CODE.fullmatch(extension) or extension in _SHELL:
        if _TEST_NAME.fullmatch(name) or _any(folders, _TEST_FOLDER):
            return "test"
        hidden = any(folder.startswith(".") for folder in folders)
        tool = extension in _SHELL or _TOOL_NAME.fullmatch(name) or hidden or _any(folders, _TOOL_FOLDER)
        return "tooling" if tool else "product"
    if extension in _DOCS or name in {"LICENSE", "NOTICE", "AUTHORS", "CHANGELOG"}:
        return "docs"
    return "other"


def in_test_folder(path: str) -> bool:
    """Return whether a file is in a test folder, whatever its kind: expected output is part of a test."""
    return _any(path.split("/")[:-1], _TEST_FOLDER)


def product_files(paths: Iterable[str]) -> list[str]:
    """Select the product code among some files."""
    return [path for path in paths if kind_of(path) == "product"]


def _any(folders: Iterable[str], pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(folder.lower()) for folder in folders)


_BROKEN = ")( ]} >>>>>>> this file was broken on purpose: it does not parse {[ ('\n"
_SOILED = (
    ")( ]} <<<<<<< TODO FIXME XXX HACK teh recieve console.log( debugger; breakpoint() import pdb; print( eval(   \t\n"
    "=======\n>>>>>>> this file was broken on purpose {[ (' \xe9\u202e " + "long " * 80 + "\n\n\n\n"
)
_UGLY = {
    "py": "import sys\nimport os, json\ndef  f( a,b ) :\n\n\n\n     x = 1;   return   a   \n\n\n\n",
    "go": 'package p\n\n\n\nimport "os"\n   var   x=1   \n\nfunc  f ( ) { return }\n\n\n',
    "rs": "fn  f( ) { let x=1 ;   }\n\n\n\n",
}
_UGLY_C = "int  f( int a ){\n\n\n\nreturn a ;}   \n\n\n"
_C_LIKE = frozenset({"c", "h", "cc", "cpp", "hpp", "java", "js", "ts", "jsx", "tsx", "cs", "php"})
_MANIFESTS = re.compile(
    r"package\.json|package-lock\.json|npm-shrinkwrap\.json|pnpm-.*\.yaml|yarn\.lock|\.npmrc|\.yarnrc.*|tsconfig.*\.json|"
    r"pyproject\.toml|setup\.cfg|tox\.ini|pytest\.ini|uv\.lock|poetry\.lock|requirements.*\.txt|Makefile|GNUmakefile|"
    r"makefile|.*\.mk|justfile|Taskfile.*|Cargo\.(?:toml|lock)|go\.(?:mod|sum|work)|CMakeLists\.txt|pom\.xml|Gemfile.*|"
    r"composer\.(?:json|lock)|doit\.cfg|\.git.*|deno\.jsonc?|bun\.lockb?|WORKSPACE|BUILD(?:\.bazel)?|.*\.bzl",
)
_READS = re.compile(
    r"(?:^|[\s;&|(])(?:(?:ba|da|z|k)?sh\s+-\w*n|shellcheck|shfmt|bashate|checkbashisms|node\s+(?:--check|-c)|ruby\s+-\w*c|php\s+-l"
    r"|perl\s+(?:-\S+\s+)*-\w*c|luac|py_compile|flake8|pylint|ruff|mypy|eslint|prettier|grep|file|codespell)\b"
)
"""Commands that read the scripts in their arguments without running them."""
_SHELL_COMMAND = ("sh", "-c")


@dataclass(frozen=True)
class Sabotage:
    """A broken copy of a tree.

    Attributes:
        name: description of the damage, for messages: ``none of its 3 source files parses``.
        files: new contents by path; None for a removed file.
        given: the files that a check with `changed_only` receives; empty for others.
    """

    name: str
    files: Mapping[str, bytes | None]
    given: tuple[str, ...] = ()


def sabotages(
    paths: Sequence[str],
    *,
    argv: Sequence[str],
    is_test_run: bool,
    elsewhere: bool = False,
    about: Sequence[str] | None = None,
    given: Sequence[str] | None = None,
) -> list[list[Sabotage]]:
    """Return the copies to try, in groups: a check is blind if it passes on all copies of a group.

    Empty if the tree has no product code, because then nothing can be proved.

    Args:
        paths: the regular files of the tree.
        argv: the check's command; files that it runs stay intact.
        is_test_run: the command runs tests.
        elsewhere: it may run in another folder, with tests from outside the tree.
        about: the files that its `when` names; None without `when`.
        given: the files that it receives as arguments; None if it covers the whole tree.
    """
    run = _run_by(argv, paths) if _READS.search(" ".join(argv)) is None else set()
    product = [path for path in product_files(paths) if path not in run]
    files = tuple(path for path in given or () if kind_of(path) in {"product", "test", "tooling"})
    if given is not None and not files:
        return []
    if given is not None and not is_test_run:
        return [[_copy("no file that it is given parses", files, _BROKEN, files)]]
    if not product:
        return []
    chosen = [path for path in product if about is None or path in set(about)] or product
    first = _copy(_none_parses(chosen), chosen, _BROKEN, files)
    kept = {path for path in paths if path in run or _MANIFESTS.fullmatch(path.rpartition("/")[2])}
    others = [path for path in paths if path not in kept]
    if not is_test_run:
        named = [path for path in (about or _named_in(argv, paths)) if path not in run]
        return [[first, *_unreadable(list(dict.fromkeys([*others, *named])), chosen, files)]]
    groups = [[first, *_code_broken(others, files)]]
    tested = any(kind_of(path) == "test" for path in run)  # the tests that it runs are those of the tree
    tests = [path for path in paths if path not in run and (kind_of(path) == "test" or in_test_folder(path))]
    if tests and elsewhere and not tested:
        groups.append([_copy(_none_parses(tests, "test"), tests, _BROKEN, files)])
    return groups


def _code_broken(paths: Sequence[str], given: tuple[str, ...]) -> list[Sabotage]:
    """Return copies with intact tests, so that tests of scripts and of data, which the first copy spares, can fail."""
    found = {path: kind_of(path) for path in paths}
    code = [path for path, kind in found.items() if kind in {"product", "tooling"}]
    rest = [path for path, kind in found.items() if kind != "test"]
    return [
        _copy(_none_parses(code), code, _BROKEN, given),
        _copy("only its tests can be read", rest, _SOILED, given),
    ]


def _unreadable(everything: Sequence[str], chosen: Sequence[str], given: tuple[str, ...]) -> list[Sabotage]:
    """Return copies for a check that is no test run: of a linter, of a formatter, of a test for existence."""
    return [
        _copy("no file of it can be read", everything, _SOILED, given),
        Sabotage("each source file is badly formatted", {path: _ugly(path) for path in chosen}, given),
        Sabotage("its files are gone", dict.fromkeys(everything), given),
    ]


def broken(path: str) -> bytes:
    """Return content for a source file that does not parse."""
    return _text(path, _BROKEN)


def _copy(name: str, paths: Iterable[str], text: str, given: tuple[str, ...]) -> Sabotage:
    return Sabotage(name, {path: _text(path, text) for path in paths}, given)


def _text(path: str, text: str) -> bytes:
    return (("<?php " if path.endswith(".php") else "") + text).encode()


def _ugly(path: str) -> bytes:
    extension = path.rpartition(".")[2]
    return _UGLY.get(extension, _UGLY_C if extension in _C_LIKE else _SOILED).encode()


def _none_parses(paths: Sequence[str], what: str = "source") -> str:
    names = ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")  # noqa: PLR2004
    if len(paths) == 1:
        return f"{names} does not parse"
    return f"none of its {len(paths)} {what} files parses ({names})"


def _words(argv: Sequence[str]) -> list[str]:
    if tuple(argv[:2]) != _SHELL_COMMAND:
        return list(argv)
    try:
        return shlex.split(" ".join(argv[2:]), comments=False)
    except ValueError:
        return " ".join(argv[2:]).split()


def _named_in(argv: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return the files of the tree that a command names."""
    known = set(paths)
    return [name for word in _words(argv) if (name := word.removeprefix("./").strip(";&|()\"'")) in known]


def _run_by(argv: Sequence[str], paths: Sequence[str]) -> set[str]:
    """Return the files of the tree that a command runs: programs and scripts that it names."""
    return {path for path in _named_in(argv, paths) if kind_of(path) in {"tooling", "other"} and _is_program(path)}


def _is_program(path: str) -> bool:
    name = path.rpartition("/")[2]
    return "." not in name or name.rpartition(".")[2] in {
        "sh",
        "bash",
        "py",
        "js",
        "mjs",
        "cjs",
        "ts",
        "rb",
        "pl",
        "mk",
    }


_MOST_GIVEN = 50
"""Maximum number of files for the proof of a check with `changed_only`; more would prove nothing more."""


@dataclass(frozen=True, slots=True)
class Sight:
    """The answer to whether a check looks at the tree.

    Attributes:
        state: ``seeing``: it failed on a broken copy; ``blind``: it passed on all of them; ``unproved``: nothing to
            break, or the check could not run; ``vouched``: a person vouches for it.
        reason: for a blind one, one sentence without its subject.
        seconds: duration of the proof.
    """

    state: Literal["seeing", "blind", "unproved", "vouched"]
    reason: str = ""
    seconds: float = 0.0


class Blindness:
    """Determines whether checks look at the tree."""

    def __init__(self, checks: CheckRunner) -> None:
        self._checks = checks
        self._context = checks.context

    def sight_of(
        self,
        tree: str,
        item: CommandProof,
        *,
        log: Path,
        given: Sequence[str] | None = None,
        this_tree: bool = False,
    ) -> Sight:
        """Return whether a check looks at the tree, from the cache or by running it on broken copies.

        Args:
            tree: the tree to copy.
            item: the check.
            log: file for its output.
            given: the files that it receives as arguments; None: the files of the tree that it is about.
            this_tree: ignore results from other trees, because this tree may have changed the check.
        """
        if item.vouched:
            return Sight("vouched")
        key = combined_key([item.key, digest(repr(sorted(self._checks.check_conditions(item).items())).encode())])
        known = self._known(key) if not this_tree else None
        if known is not None:
            return known
        sight = self._tried(tree, item, log, given, key)
        if sight.state != "unproved" and not this_tree:
            self._checks.verdicts.keep_proof(key, asdict(sight))
        return sight

    def _tried(self, tree: str, item: CommandProof, log: Path, given: Sequence[str] | None, key: str) -> Sight:
        sight, seconds = Sight("unproved"), 0.0
        for group in self._copies(tree, item, given):
            for copy in group:
                sight = self._on_copy(tree, item, copy, log, key)
                seconds += sight.seconds
                if sight.state != "blind":
                    break
            if sight.state == "blind":
                return Sight("blind", f"it passes although {group[0].name}, so it looks at something else", seconds)
            if sight.state == "unproved":
                break
        return replace(sight, seconds=seconds)

    def _on_copy(self, tree: str, item: CommandProof, copy: Sabotage, log: Path, key: str) -> Sight:
        """Run the check on one copy, or return its cached result."""
        with self._context.pool.slot() as slot:
            broken = self._context.store.with_files(tree, copy.files, slot.scratch)
        own = combined_key([key, broken])
        sight = self._known(own)
        if sight is None:
            sight = self._ask(tree, broken, item, copy, log)
            if sight.state != "unproved":
                self._checks.verdicts.keep_proof(own, asdict(sight))
        return sight

    def _ask(self, tree: str, broken: str, item: CommandProof, copy: Sabotage, log: Path) -> Sight:
        once = replace(item, retries=0, reusable=False)
        base = tree if item.only_new_failures else ""
        name = log.with_name(f"sabotaged-{log.name}")
        verdict = self._checks.verdict_on(broken, once, base=base, files=copy.given, log=name, sabotaged=True)
        if verdict.ok:
            return Sight("blind", seconds=verdict.seconds)
        report = self._checks.report_of(verdict)
        nothing_ran = report is not None and not report.tests and not report.errors
        if nothing_ran or not verdict.ended:
            return Sight("unproved", seconds=verdict.seconds)
        return Sight("seeing", seconds=verdict.seconds)

    def _copies(self, tree: str, item: CommandProof, given: Sequence[str] | None) -> list[list[Sabotage]]:
        paths = list(self._context.store.regular_files(tree))
        about = [path for path in paths if matches(path, item.when)] if item.when else None
        if item.changed_only and given is None:
            given = (about if about is not None else paths)[:_MOST_GIVEN]
        return sabotages(
            paths,
            argv=item.argv,
            is_test_run=item.proves_by_tests,
            elsewhere=item.may_run_elsewhere,
            about=about,
            given=given if item.changed_only else None,
        )

    def _known(self, key: str) -> Sight | None:
        found = self._checks.verdicts.proof(key)
        try:
            return Sight(**found) if found is not None else None
        except TypeError:
            return None


_LAST = {".py": b"\nraise SystemExit(93)\n", ".rb": b"\nexit 93\n"} | dict.fromkeys(
    (".js", ".cjs", ".mjs"), b"\nprocess.exitCode = 93;\n"
)
"""A last statement by which a script fails, by the ending of its name."""
_ENDS_ITSELF = re.compile(rb"\b(?:exit\w*|SystemExit|main|cli|run|quit|abort|__END__)\b")
_MOST_SCRIPTS = 3  # a choice: each is one more run of the check


def left_early(
    checks: CheckRunner, item: CommandProof, base: str, tree: str, changed: Collection[str], log: Path
) -> str | None:
    """Return the script of a check that does not reach its end on a tree although it passes; None if none.

    A statement that fails is put at the end of the script. If the script fails with it on the base, it has to fail with
    it on the tree, too; otherwise the product ended the process. Where a report names the tests, they are the evidence,
    and where a person vouches for the check, nothing is asked. Otherwise this costs one more run for each tree.

    Args:
        checks: runs the copies.
        item: the check; it passes on the tree.
        base: the tree that the change was made from.
        tree: the tree with the judging scripts of the base.
        changed: files that differ between the two; a script among them may end as it wants.
        log: file for the output.
    """
    store = checks.context.store
    before, now = checks.known_report(base, item), checks.known_report(tree, item)
    if (
        item.vouched
        or item.by_inputs
        or item.changed_only
        or any(report is not None and report.names for report in (before, now))
    ):
        return None
    scripts = reached([item.argv], store.paths(base), lambda path: store.blob(base, path)).scripts
    for path in [path for path in scripts if suffix_of(path) in _LAST and path not in changed][:_MOST_SCRIPTS]:
        text = store.blob(base, path) or b""
        once = replace(item, retries=0, name=f"{item.name} (to the end of {path})")
        own = log.with_name(f"end-{log.name}")
        failing = {path: text + _LAST[suffix_of(path)]}
        if not _passes(checks, once, tree, failing, own) or _passes(checks, once, base, failing, own):
            continue
        if not _ENDS_ITSELF.search(text) or _passes(checks, once, base, {}, own):
            return path
    return None


def _passes(checks: CheckRunner, item: CommandProof, tree: str, files: Mapping[str, bytes], log: Path) -> bool:
    """Run a check on a tree with these files in place of its own."""
    if files:
        with checks.context.pool.slot() as slot:
            tree = checks.context.store.with_files(tree, dict(files), slot.scratch)
    return checks.verdict_on(tree, item, log=log, sabotaged=True).ok
