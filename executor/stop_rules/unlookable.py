"""Content that deceives a rule, a reader or a test. Pure.

A rule says nothing about a file that it cannot read. So a text file with a NUL byte, a line beyond the limit, bytes in
no known encoding, or an excessive size is itself a stop, as are bidirectional controls and invisible characters in
code and file names.

Product code that notices the test above it, that borrows from a test framework, or whose comparison ignores what it is
compared with, behaves otherwise before its tests. The patterns are data: `rules/stops/judge-tampering.toml`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from executor.git.diff import LONGEST_LINE
from executor.model.paths import CLIKE, is_documentation, is_test, suffix_of
from executor.stop_rules.view import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from executor.git.diff import FileChange, Finding, Line

__all__ = ["LARGEST", "MEDIA", "behaves_otherwise", "unlookable"]

LARGEST = 5_000_000
"""Maximum bytes of a file that rules read."""
MEDIA = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".webp",
        ".avif",
        ".bmp",
        ".ico",
        ".icns",
        ".tif",
        ".tiff",
        ".psd",
        ".mp3",
        ".mp4",
        ".m4a",
        ".ogg",
        ".opus",
        ".wav",
        ".flac",
        ".webm",
        ".mov",
        ".avi",
        ".woff",
        ".woff2",
        ".ttf",
        ".otf",
        ".eot",
        ".pdf",
        ".xls",
        ".xlsx",
        ".doc",
        ".docx",
        ".ppt",
        ".pptx",
        ".odt",
        ".ods",
        ".epub",
        ".mo",
        ".npy",
        ".npz",
        ".parquet",
        ".sqlite",
        ".db",
        ".bin",
        ".dat",
        ".pt",
        ".onnx",
        ".safetensors",
        ".h5",
        ".hdf5",
        ".glb",
        ".blend",
        ".dds",
        ".ktx",
        ".swf",
        ".heic",
    ]
)
"""Suffixes of files that are neither text nor executable."""
_PACKED = frozenset(
    [
        ".zip",
        ".gz",
        ".bz2",
        ".xz",
        ".tgz",
        ".tar",
        ".7z",
        ".rar",
        ".zst",
        ".jar",
        ".war",
        ".whl",
        ".egg",
        ".nupkg",
        ".gem",
        ".crate",
        ".apk",
        ".deb",
        ".rpm",
    ]
)
_RUNS = frozenset(
    [".so", ".dll", ".dylib", ".exe", ".o", ".a", ".class", ".pyc", ".pyd", ".node", ".wasm", ".elf", ".com", ".msi"]
)
_DATA = frozenset({".json", ".jsonl", ".csv", ".tsv", ".txt", ".xml"})
_INVISIBLE = frozenset(
    "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\u00ad\u180e\u3164\uffa0\u115f\u1160\u2800"
)
_JOINERS = frozenset("\u200c\u200d")  # part of ordinary writing in several scripts and of emoji
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_HIGH = re.compile(rb"[\x80-\xff]")
_TAGS = range(0xE0000, 0xE0080)


def unlookable(files: Sequence[FileChange], content: Callable[[str, bool], bytes | None]) -> Iterator[Finding]:
    """Yield every place of a change that rules or people cannot see as it is executed."""
    for file in files:
        if odd := _odd(file.path):
            yield file.path, 0, f"its name has {odd}"
        if file.kind in {"deleted", "mode"} or file.new_mode in {"120000", "160000"}:
            continue
        data = content(file.path, True)  # noqa: FBT003  (the engine's own shape)
        if data is None:
            continue
        old = content(file.path, False) if file.kind != "created" else None  # noqa: FBT003
        before = set(_unread(file, old or b""))
        yield from ((file.path, 0, text) for text in _unread(file, data) if text not in before)
        if not is_documentation(file.path) and not _is_data_of_tests(file.path) and b"\0" not in data:
            for line in file.lines:
                if line.added and not line.text.isascii() and (odd := _odd(line.text.removeprefix("\ufeff"))):
                    yield file.path, line.number, f"{odd} in the line"


def _is_data_of_tests(path: str) -> bool:
    """Return whether a file is data for tests: odd characters in it are what a test is about, and nothing runs them."""
    return is_test(path) and suffix_of(path) in _DATA


def _unread(file: FileChange, data: bytes) -> Iterator[str]:
    """Yield why a content cannot be examined."""
    suffix = suffix_of(file.path)
    if suffix in _RUNS or suffix in _PACKED:
        if data:
            yield f"a {'program' if suffix in _RUNS else 'packed file'} that cannot be inspected"
        return
    if suffix in MEDIA:
        return
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return
    if b"\0" in data:
        yield "a NUL byte: it looks like a program"
    elif len(data) > LARGEST:
        yield f"larger than {LARGEST // 1_000_000} MB: too large to inspect"
    elif not _is_text(data):
        yield "bytes in an unknown encoding"
    if any(len(line) >= LONGEST_LINE for line in data.split(b"\n")):
        yield f"a line of {LONGEST_LINE} characters or more: too long to inspect"


def _is_text(data: bytes) -> bool:
    """Return whether it is UTF-8, or in a single-byte encoding with few control characters."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        start = data[:100_000]
        return not _CONTROLS.search(start) and 3 * len(_HIGH.findall(start)) < len(start)
    return True


def _odd(text: str) -> str:
    """Describe the unusual character of a text as a phrase; empty without any."""
    for place, char in enumerate(text):
        if char in _DIRECTION:
            return f"a control of writing direction (U+{ord(char):04X})"
        if ord(char) in _TAGS or (char in _INVISIBLE and not (char in _JOINERS and _joins(text, place))):
            return f"an invisible character (U+{ord(char):04X})"
        if unicodedata.category(char) == "Cc" and char not in "\t\f\r\x1b":
            return f"a control character (U+{ord(char):04X})"
    return ""


def _joins(text: str, place: int) -> bool:
    """Return whether a joiner is between letters or signs of a script that requires it."""
    before = text[place - 1] if place else ""
    return ord(before or "\0") > 0x2FF  # noqa: PLR2004  (beyond Latin)


_HASHES = frozenset({".py", ".pyi", ".rb", ".php", ".pl", ".pm", ".ex", ".exs"})
"""Languages with the comment ``#``."""
_CODE = CLIKE | _HASHES | {".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".groovy", ".dart", ".lua"}
_REMARK = re.compile(r"^\s*(?://|/\*|\*(?!\w)|--|#(?![!\[]|\s*(?:if|elif|define)\b)|>>>|\.\.\. ).*|(?<![:\"'])//\s.*$")
_LITERAL = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|(?<=[(=~,!>:&|?])\s?/[^/\s]+/")
_COMPARISONS = tuple(
    re.compile(pattern)
    for pattern in (
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
    )
)
"""The start of a method that compares with another object, and the name of that object."""
_REFUSES = re.compile(
    r"(?:raise|throw|panic|fatalError|unimplemented|todo|unreachable)\b|(?:(?:return|=>|=|:)\s*)?"
    r"(?:False|false|NotImplemented|nil|null|None)\s*;?$"
)
_FOREIGN = re.compile(r"\bis_?[iI]nstance\(\s*\w+\s*,\s*([^()]*)\)")
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
    plain = _FOREIGN.sub(lambda match: match[0] if own_kind.search(match[1]) else "", "\n".join(said))
    return not other or re.search(rf"\b{re.escape(other)}\b", plain) is None
