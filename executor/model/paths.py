"""The role of a file by its path: test, documentation, language. Pure.

Globs over paths in the user's form: `**`, and a pattern without a slash for a name in any folder. Pure.

Ignore rules of a base tree, flattened into one file, so that rules by an agent have no effect.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CLIKE",
    "flatten_ignores",
    "is_documentation",
    "is_test",
    "is_test_file",
    "matches",
    "name_of",
    "suffix_of",
    "words_of",
]


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
"""Languages with the comments ``//`` and ``/* */``."""
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
_TEST_FILE = re.compile(r"(test_\w*|\w*_test|tests?)\.py")
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def name_of(path: str) -> str:
    """Return the last part of a path."""
    return path.rpartition("/")[2]


def suffix_of(path: str) -> str:
    """Return ``.py``, in lower case; empty if the name has none."""
    stem, dot, suffix = name_of(path).rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def is_test(path: str) -> bool:
    """Whether a file is a test or belongs to tests."""
    folder, _, name = path.rpartition("/")
    return _is_below_tests(folder) or _TEST_NAME.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def is_test_file(path: str) -> bool:
    """Return whether a path is that of a Python test file, by the names that pytest, unittest and Django collect."""
    return _TEST_FILE.fullmatch(path.rpartition("/")[2]) is not None


def _is_below_tests(folder: str) -> bool:
    return any(name.lower() in _TEST_FOLDERS for name in folder.split("/"))


def is_documentation(path: str) -> bool:
    """Whether a file is text for people."""
    return suffix_of(path) in _DOCUMENTS or bool(_DOCUMENT_NAMES.fullmatch(name_of(path)))


def words_of(name: str) -> list[str]:
    """Return the words of an identifier, in lower case: ``rateLimit_v2`` is rate, limit, v, 2."""
    return [word.lower() for word in _WORD.findall(name)]


_PIECE = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?|\[(?:!?\]?[^\]]*)\]|[^*?\[]+|\[")


def matches(path: str, globs: Iterable[str]) -> bool:
    """Return whether a path matches one of the globs.

    ``*`` and ``?`` stay within a folder, ``**`` does not. A pattern without a slash matches the file name in every
    folder, one with a slash at its end everything in that folder.
    """
    return any(
        all(text in path for text in _texts(glob)) and _compiled(glob).fullmatch(path) is not None for glob in globs
    )


@lru_cache(maxsize=4096)
def _texts(glob: str) -> tuple[str, ...]:
    """The literal parts of a glob. Most paths lack one, so most globs of the packaged rules are never compiled."""
    return tuple(piece for piece in _PIECE.findall(glob.strip("/")) if piece[0] not in "*?[" and piece != "/**")


@lru_cache(maxsize=4096)
def _compiled(glob: str) -> re.Pattern[str]:
    pattern = glob.removeprefix("/") + ("**" if glob.endswith("/") else "")
    anywhere = "/" not in glob
    body = "".join(_piece(piece) for piece in _PIECE.findall(pattern))
    try:
        return re.compile(("(?:.*/)?" if anywhere else "") + body, re.DOTALL)
    except re.error:  # a strange set such as [z-a]: the text itself
        return re.compile(re.escape(glob))


def _piece(piece: str) -> str:
    fixed = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if piece in fixed:
        return fixed[piece]
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:  # noqa: PLR2004  (brackets with something)
        inner = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.escape(piece)


def flatten_ignores(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Combine `.gitignore` files of folders into one set of rules at the root.

    Args:
        files: (folder, content), the folder with a slash at its end and empty for the root; shallow folders first, so
            that deeper rules come later and take precedence, as in git.
    """
    lines: list[bytes] = []
    for folder, content in files:
        place = _escaped(folder)
        for raw in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            rule = _moved(raw, place)
            if rule is not None:
                lines.append(rule)
    return b"".join(line + b"\n" for line in lines)


def _moved(raw: bytes, place: bytes) -> bytes | None:
    line = raw.removesuffix(b"\r")
    negated = line.startswith(b"!")
    pattern = line[1:] if negated else line
    if line.startswith(b"#") or not pattern.strip(b"/ "):  # git matches nothing with an empty pattern
        return None
    anchored = b"/" in pattern.rstrip(b" ").removesuffix(b"/")
    moved = b"/" + place + (pattern.removeprefix(b"/") if anchored else b"**/" + pattern)
    return b"!" + moved if negated else moved


def _escaped(folder: str) -> bytes:
    """Escape the folder as a pattern; a line end, which no rule can contain, becomes any character."""
    special = b"\\*?[ !#"
    return b"".join(
        b"\\" + bytes([byte]) if byte in special else bytes([byte])
        for byte in folder.encode("utf-8", "surrogateescape")
    ).replace(b"\n", b"?")
