"""Which files of a tree are product code, tests, tooling, documentation, by their paths alone. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Kind", "kind_of", "product_files"]

Kind = Literal["product", "test", "tooling", "docs", "other"]

_CODE = re.compile(
    r"py|pyx|pxd|jsx?|mjs|cjs|tsx?|mts|cts|vue|svelte|go|rs|[ch]|cc|cpp|cxx|hpp|hh|hxx|cu|mm?|java|kt|scala|groovy|rb|php|cs"
    r"|fs|vb|swift|lua|p[lm]|[rR]|jl|exs?|erl|hs|mli?|dart|zig|nim|cljs?|f90|f95|s?v|vhd|pas|d"
)
_SHELL = frozenset({"sh", "bash", "zsh", "fish", "ps1", "bat"})
_DOCS = frozenset(["md", "rst", "adoc", "txt", "png", "jpg", "jpeg", "gif", "svg", "ico", "pdf"])
_TEST_FOLDER = re.compile(r"tests?|__(?:tests|mocks|snapshots)__|specs?|testdata|fixtures|e2e|cypress")
_TOOL_FOLDER = re.compile(
    r"scripts?|tools?|ci|hack|dev|etc|cmake|build-aux|docs?|examples?|samples?|bench(?:marks)?|milestones|rules"
    r"|node_modules|vendor|third_party"
)
_TEST_NAME = re.compile(
    r"(?:test_.*|.*_test|.*_tests|tests?|conftest)\.(?:py|c|cc|cpp|go|rs|lua|exs?|rb|php|js|ts|mjs|cjs)"
    r"|.*[.-](?:test|spec|cy|e2e)\.(?:[mc]?[jt]sx?)|.*_spec\.(?:rb|lua)"
    r"|.*(?:Test|Tests|IT|Spec)\.(?:java|kt|cs|scala|groovy|php|swift)"
)
_TOOL_NAME = re.compile(
    r"setup\.py|noxfile\.py|dodo\.py|fabfile\.py|tasks\.py|conf\.py|build\.rs|versioneer\.py|.*\.config\.[mc]?[jt]s|"
    r"\..*rc\.[mc]?js|gulpfile\..*|gruntfile\..*|.*\.gradle(?:\.kts)?|.*\.cmake|rakefile|dangerfile.*|meson\.build",
    re.IGNORECASE,
)


def kind_of(path: str) -> Kind:
    """What a file is for, by its path.

    ``tooling`` is code that builds, runs or checks the product; without it a check fails for a reason of its own.
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


def product_files(paths: Iterable[str]) -> list[str]:
    """The product code among some files."""
    return [path for path in paths if kind_of(path) == "product"]


def _any(folders: Iterable[str], pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(folder.lower()) for folder in folders)
