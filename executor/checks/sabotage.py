"""Copies of a tree on which an honest check fails. A check that passes on one of them does not look at the tree. Pure.

What a check is about is not known, so that several copies are tried, the most telling one first. A check is blind when
it passes on all of them. For a run of tests each copy decides alone: tests that pass while no product code parses test
something else, and so do those that pass while no test file parses.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.checks.source_files import kind_of, product_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Sabotage", "broken", "sabotages"]

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
_SHELL = ("sh", "-c")
_SCRIPTS = frozenset({"sh", "bash", "py", "js", "mjs", "cjs", "ts", "rb", "pl", "mk"})


@dataclass(frozen=True)
class Sabotage:
    """A copy of a tree.

    Attributes:
        name: what was done to it, for messages: ``none of its 3 source files parses``.
        files: new contents by path; None where the file is removed.
        given: the files that a check with `changed_only` is given; empty for others.
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
    """The copies to try, in groups: a check is blind if it passes on all copies of one.

    Empty when the tree has no product code, so that nothing can be proved.

    Args:
        paths: the regular files of the tree.
        argv: the check's command; files that it runs stay as they are.
        is_test_run: it runs tests.
        elsewhere: it may run in another folder, so that its tests need not be those of the tree.
        about: the files that its `when` names; None if it has no `when`.
        given: the files that it is given as arguments; None if it is about the whole tree.
    """
    run = _run_by(argv, paths)
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
    if is_test_run:
        tests = [path for path in paths if kind_of(path) == "test" and path not in run] if elsewhere else []
        return [[first], *([[_copy(_none_parses(tests, "test"), tests, _BROKEN, files)]] if tests else [])]
    kept = [path for path in paths if path in run or _MANIFESTS.fullmatch(path.rpartition("/")[2])]
    others = [path for path in paths if path not in set(kept)]
    named = [path for path in (about or _named_in(argv, paths)) if path not in run]
    everything = list(dict.fromkeys([*others, *named]))
    gone = dict.fromkeys(everything)
    return [
        [
            first,
            _copy("no file of it can be read", everything, _SOILED, files),
            Sabotage("each source file is badly formatted", {path: _ugly(path) for path in chosen}, files),
            Sabotage("its files are gone", gone, files),
        ]
    ]


def broken(path: str) -> bytes:
    """Content for a source file that does not parse."""
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
    if tuple(argv[:2]) != _SHELL:
        return list(argv)
    try:
        return shlex.split(" ".join(argv[2:]), comments=False)
    except ValueError:
        return " ".join(argv[2:]).split()


def _named_in(argv: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The files of the tree that a command names."""
    known = set(paths)
    return [name for word in _words(argv) if (name := word.removeprefix("./").strip(";&|()\"'")) in known]


def _run_by(argv: Sequence[str], paths: Sequence[str]) -> set[str]:
    """The files of the tree that a command runs: programs and scripts that it names."""
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
