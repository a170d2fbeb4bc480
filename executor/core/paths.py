"""What a path says about its file: test, documentation, language. Pure."""

from __future__ import annotations

import re

__all__ = ["CLIKE", "is_documentation", "is_test", "name_of", "suffix_of", "words_of"]

CLIKE = frozenset(
    [
        ".js",
        ".jsx",
        ".ts",
        ".tsx",
        ".mjs",
        ".cjs",
        ".mts",
        ".cts",
        ".go",
        ".java",
        ".kt",
        ".kts",
        ".cs",
        ".php",
        ".rs",
        ".scala",
        ".swift",
        ".vue",
    ]
)
"""Languages whose comments are written ``//`` and ``/* */``."""
_DOCUMENTS = frozenset(
    [
        ".md",
        ".markdown",
        ".mdx",
        ".rst",
        ".txt",
        ".adoc",
        ".asciidoc",
        ".html",
        ".htm",
        ".tex",
        ".org",
        ".pod",
        ".textile",
    ]
)
_DOCUMENT_NAMES = re.compile(r"(?i)(change(s|log)|news|history|readme|authors|contributing|todo|security)(\..*)?")
_TEST_FOLDERS = frozenset(
    ["test", "tests", "testing", "spec", "specs", "__tests__", "__mocks__", "testdata", "fixtures", "e2e"]
)
_TEST_NAME = re.compile(
    r"test_.*\.py|.*_tests?\.py|tests?\.py|conftest\.py|.*[.\-_](test|spec|cy)\.[cm]?[jt]sx?|.*_test\.(go|exs|rb|dart|cc|cpp|rs)"
    r"|test_.*\.rb|.*_spec\.rb|.*(Tests?|IT|Spec)\.(java|kt|scala|groovy|cs|php|swift)|Test[A-Z].*\.(java|kt|php)"
)
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def name_of(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def suffix_of(path: str) -> str:
    """``.py``, in lower case; empty when the name has none."""
    stem, dot, suffix = name_of(path).rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def is_test(path: str) -> bool:
    """Whether a file is a test or belongs to tests."""
    folders = path.split("/")[:-1]
    return any(folder.lower() in _TEST_FOLDERS for folder in folders) or bool(_TEST_NAME.fullmatch(name_of(path)))


def is_documentation(path: str) -> bool:
    """Whether a file is text for people."""
    return suffix_of(path) in _DOCUMENTS or bool(_DOCUMENT_NAMES.fullmatch(name_of(path)))


def words_of(name: str) -> list[str]:
    """The words of an identifier, in lower case: ``rateLimit_v2`` is rate, limit, v, 2."""
    return [word.lower() for word in _WORD.findall(name)]
