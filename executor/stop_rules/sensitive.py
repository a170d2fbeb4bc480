"""Code about logins, permissions, rate limits and money: by path, by names in a line, by its decision. Pure.

The words are data: `rules/stops/sensitive-code.toml`. Three kinds of lines count: a line that defines, calls or imports
a sensitive name; a condition or comparison about identity or payment; and a removed refusal. A new refusal (a raised
exception) admits nobody and does not count.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from executor.model.paths import CLIKE, is_documentation, is_test, name_of, suffix_of, words_of
from executor.stop_rules.program_text import meaning
from executor.stop_rules.view import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from executor.git.diff import FileChange, Finding, Line

__all__ = ["sensitive_code"]

_SETTINGS = frozenset({".json", ".yml", ".yaml", ".toml", ".ini", ".cfg", ".conf", ".env", ".properties", ""})
_STYLES = frozenset({".css", ".scss", ".sass", ".less", ".woff", ".woff2", ".ttf", ".map", ".lock", ".csv", ".log"})
_LOOKS = _STYLES | {".svg", ".png", ".jpg", ".jpeg", ".gif", ".ico", ".webp", ".po", ".pot", ".mo", ".ipynb"}
_PAGES = frozenset(
    ".html .htm .j2 .jinja .jinja2 .erb .haml .hbs .ejs .vue .svelte .twig .liquid".split()  # noqa: SIM905
)
_ELSEWHERE = re.compile(
    r"(?i)^(examples?|samples?|demos?)/|(^|/)(docs?|documentation|locales?|i18n|l10n|translations|node_modules)/"
)
_LOCKS = re.compile(
    r"(?i)(package(-lock)?\.json|npm-shrinkwrap\.json|pnpm-lock\.yaml|composer\.json|.*requirements.*|pyproject\.toml|.*\.toml)"
)
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`")
_COMMENT = {"#": re.compile(r"(^|\s)#.*"), "//": re.compile(r"(^|\s)//.*|^\s*\*.*|/\*.*?\*/")}
_CALLED = re.compile(r"(?<![\w$])([A-Za-z_$][\w$]*+)[!?]?(?=\()|@([A-Za-z_$][\w.$]*)")
_DEFINED = re.compile(
    r"^\s*(?:export\s+|default\s+|public\s+|private\s+|protected\s+|internal\s+|static\s+|abstract\s+|final\s+|override\s+|pub(?:\(\w+\))?\s+)*"
    r"(?:async\s+)?(?:def|class|function\*?|func|fn|interface|struct|enum|trait|module|type|const|let|var|val|object|record)"
    r"\s+(?:\([^)]*\)\s*)?(?:self\.)?([A-Za-z_$][\w$]*)"
)
_ASSIGNED = re.compile(
    r"^\s*(?:[A-Za-z_$][\w$]*(?:\.|::|->))*\$?([A-Za-z_$][\w$]*)\s*(?::\s*[\w\[\]., |\"'?<>]+?)?\s*(?:[-+|&?]"
    r"|\|\||\?\?)?=(?![=~>])"
)
_ANNOTATED = re.compile(r"^\s+([A-Za-z_]\w*)\s*:\s*[\w\[\].\"']+(?:\s*\|\s*[\w\[\].\"']+)*[,;]?\s*$")
_IMPORTED = re.compile(r"^\s*(?:from|import|use|require|using)\b(.*)")
_FROM = re.compile(
    r"(?m)^[ \t]*(?:from\s+([\w.]+)\s+import\s+(\([^)]*\)|[^\n(#]+)"
    r"|import\s+([\w*{}\s,$]+?)\s+from\s+[\"']([^\"'\n]+)[\"'])"
)
_EXPORTED = re.compile(r"""^\s*export\s+(?:type\s+)?(?:\*|\{[^}]*\})(?:\s+as\s+\w+)?\s+from\s+["'][^"']+["'];?\s*$""")
_IMPORTING = frozenset(
    ["import", "from", "as", "export", "type", "default", "use", "require", "using", "const", "static"]
)
_DOCUMENT = re.compile(r"[:=]\s*[\"']?[\w./ -]+\.(?:md|rst|html)[\"']?\s*,?\s*$")
_FETCHED = re.compile(
    r"^\s*(?:const|let|var|val|final\s+\w+|auto)?\s*([A-Za-z_$][\w$]*)\s*:?=\s*[A-Z]\w*"
    r"(?:\.|::)(?:getInstance|get_instance|instance|shared|sharedInstance)\(\);?\s*$"
)
"""The only object of a class, under a new name: it admits nobody, and lines that use it are examined."""
_KEY = re.compile(r"^\s*(?:-\s+)?[\"']?([A-Za-z_][\w-]*)[\"']?\s*[:=]")
_CONDITION = re.compile(
    r"^\s*(?:\}?\s*(?:el(?:se\s+)?if|elsif|elif|if|unless|while|when|guard|assert|return|case)\b)|&&|\|\||\band\b|\bor\b|\?"
)
_COMPARED = re.compile(r"[!=]==?|\bis\s+not\b|\bnot\s+in\b|\bin\b|[<>]")
_RAISED = re.compile(r"^\s*(?:raise|throw|throws)\b")
_ERROR_CLASS = re.compile(
    r"^\s*(?:export\s+|public\s+)*class\s+\w+(?:\s*\([^)]*(?:Error|Exception)\w*\)|\s+extends\s+\w*(?:Error|Exception))|class\s+\w*(?:Error|Exception)\b"
)
_NAME = re.compile(r"[A-Za-z_$][\w$]*")
_FILE_MODES = re.compile(
    r"chmod|\bS_I[RWX]|umask|\b0o?[0-7]{3}\b|filemode|file_?mode|Permissions::from_mode|\bos\.stat\b|\.stat\(\)|st_mode|PosixFilePermission"
)
_MONEY = re.compile(r"[-+*/]=?|\bround\b|\bsum\b|=\s*[\d.]+")
_FUNCTION = re.compile(r"\b(?:def|function|func|fn)\b|=>|=\s*(?:async\s*)?\(")
_DEPENDS = re.compile(r"\b(?:Depends|Security|Inject)\(\s*(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)")
_INJECTED = re.compile(r"\b(?:Annotated|Depends|Security|fastapi|litestar|[Ii]nject\w*|dishka|punq)\b")
"""A type says what is called before the function."""
_FAR = 80
"""Number of lines to search upward for the start of a function."""
_LARGEST = 1_000_000  # bytes of a file whose two versions are compared
_NEAR = 3
"""Number of context lines that indicate the subject of a line."""


@dataclass(frozen=True, slots=True)
class _Words:
    """The lists of the rule, prepared for matching."""

    names: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    paths: frozenset[str]
    decisions: frozenset[str]
    decision_pairs: frozenset[tuple[str, str]]
    money: frozenset[str]
    heads: frozenset[str]
    harmless: frozenset[str]
    files: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]


def sensitive_code(
    files: Sequence[FileChange], content: Callable[[str, bool], bytes | None], lists: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Yield files and lines about logins, permissions, rates and money, outside tests and documentation.

    Args:
        files: files of the change.
        content: returns a file's whole content before (False) or after (True).
        lists: lists of the rule: names, pairs, paths, decisions, money, refusals, heads, harmless, file_modes,
            patterns.
    """
    words = _ready(lists)
    refusals = tuple(compiled(pattern) for pattern in lists.get("refusals", ()))
    found: list[Finding] = []
    for whole in files:
        if not _is_code(whole.path) or _same_code(whole, content):
            continue
        file = replace(whole, lines=_other_lines(whole, content))
        known, kept = _known_names(file, content)
        if _sensitive_path(file.path, words) and not all(_only_imports(line, known, kept) for line in file.lines):
            found.append((file.path, 0, "its path says so"))
            continue
        yielded = {line.number: line for line in _lines(file, words, refusals) if not _only_imports(line, known, kept)}
        inside = [] if suffix_of(file.path) in _SETTINGS | _PAGES else _inside(file, content, words)
        lines = [line for line in file.lines if line in yielded.values() or line in inside]
        found += ((file.path, line.number, line.text) for line in lines)
    return found


def _same_code(file: FileChange, content: Callable[[str, bool], bytes | None]) -> bool:
    """Return whether only layout or comments changed: equal syntax trees, or equal sequences of tokens."""
    if file.kind != "modified" or suffix_of(file.path) in _SETTINGS | _PAGES:
        return False
    old, new = (
        (content(file.path, new) or b"")[:_LARGEST].decode("utf-8", "replace").replace("\r\n", "\n")
        for new in (False, True)
    )
    if suffix_of(file.path) == ".py":
        plain = not any(_INJECTED.search(text) for text in (old, new))
        try:
            return meaning(ast.parse(old), plain=plain) == meaning(ast.parse(new), plain=plain)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return suffix_of(file.path) in CLIKE and _signs(old) == _signs(new)


def _other_lines(file: FileChange, content: Callable[[str, bool], bytes | None]) -> tuple[Line, ...]:
    """Return the changed lines outside of functions of Python that do the same before and after."""
    if file.kind != "modified" or suffix_of(file.path) != ".py":
        return tuple(file.lines)
    texts = [
        (content(file.path, new) or b"")[:_LARGEST].decode("utf-8", "replace").replace("\r\n", "\n")
        for new in (False, True)
    ]
    plain = not any(map(_INJECTED.search, texts))
    try:
        old, new = (_functions(ast.parse(text), plain=plain) for text in texts)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return tuple(file.lines)
    same = [name for name, (does, _, _) in old.items() if does and new.get(name, ("",))[0] == does]
    within = [{number for name in same for number in range(side[name][1], side[name][2] + 1)} for side in (old, new)]
    return tuple(line for line in file.lines if line.number not in within[line.added])


def _functions(tree: ast.Module, *, plain: bool) -> dict[str, tuple[str, int, int]]:
    """Map each function outside of functions to its meaning, first and last line; a duplicate has none."""
    found: dict[str, tuple[str, int, int]] = {}
    waiting: list[tuple[str, ast.stmt]] = [("", node) for node in tree.body]
    for scope, node in waiting:
        if isinstance(node, ast.ClassDef):
            waiting += [(f"{scope}{node.name}.", inner) for inner in node.body]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{scope}{node.name}"
            first, last = min([node.lineno, *(item.lineno for item in node.decorator_list)]), node.end_lineno or 0
            does = "" if name in found else meaning(ast.Module([node], []), plain=plain)
            found[name] = (does, first, last)
    return found


def _signs(text: str) -> list[str]:
    """Return the tokens of a C-like language, without white space, whole-line comments and trailing commas."""
    plain = re.sub(r"(?m)^\s*//.*$", "", text)
    signs = re.findall(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|\w+|[^\w\s]", plain)
    return [
        f'"{sign[1:-1]}"' if sign[0] == "'" and len(sign) > 1 else sign
        for sign, after in pairwise([*signs, ""])
        if not (sign == "," and after in {")", "]", "}"})
    ]


def _known_names(
    file: FileChange, content: Callable[[str, bool], bytes | None]
) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """Return words of the file before the change, which an import may replace, and imports that it keeps."""
    if not any(_IMPORTED.match(line.text) or _EXPORTED.match(line.text) for line in file.lines):
        return frozenset(), frozenset()
    old, new = ((content(file.path, new) or b"")[:_LARGEST].decode("utf-8", "replace") for new in (False, True))
    return frozenset(re.findall(r"\w+", old)), frozenset(_imports(old) & _imports(new))


def _imports(text: str) -> set[tuple[str, str]]:
    """Return the imports of a text: the module, and the name as written."""
    found = ((match[1] or match[4], match[2] or match[3]) for match in _FROM.finditer(text))
    return {
        (source, " ".join(name.split()))
        for source, names in found
        for name in re.split(r"[,{}()]", names)
        if name.strip()
    }


def _only_imports(line: Line, known: Collection[str], kept: Collection[tuple[str, str]]) -> bool:
    """Return whether a line only imports names that are new to its file, or that it keeps from the same module.

    The lines that use new names are examined.
    """
    text = line.text.strip()
    if text and _imports(text) and _imports(text) <= set(kept):
        return True
    if not text or not line.added:
        return not text
    match = _EXPORTED.match(text) or (_IMPORTED.match(text) if not text.startswith("import(") else None)
    imported = {name for pair in _imports(text) & set(kept) for name in re.findall(r"\w+", pair[1])}
    names = re.findall(r"\w+", _STRING.sub("", text)) if match else []
    return bool(names) and not any(name in known for name in names if name not in _IMPORTING | imported)


def _ready(lists: Mapping[str, Sequence[str]]) -> _Words:
    def pairs(key: str) -> frozenset[tuple[str, str]]:
        return frozenset(
            (first, second) for first, _, second in (item.partition(" ") for item in lists.get(key, ())) if second
        )

    names = frozenset(lists.get("names", ()))
    return _Words(
        names=frozenset(name for name in names if " " not in name),
        pairs=pairs("names"),
        paths=frozenset(lists.get("paths", ())),
        decisions=frozenset(name for name in lists.get("decisions", ()) if " " not in name),
        decision_pairs=pairs("decisions"),
        money=frozenset(lists.get("money", ())),
        heads=frozenset(lists.get("heads", ())),
        harmless=frozenset(lists.get("harmless", ())),
        files=frozenset(lists.get("file_modes", ())),
        patterns=tuple(compiled(pattern) for pattern in lists.get("patterns", ())),
    )


def _is_code(path: str) -> bool:
    suffix = suffix_of(path)
    if suffix in _PAGES and not _ELSEWHERE.search(path):
        return True
    if is_documentation(path) or suffix in _LOOKS or _LOCKS.fullmatch(name_of(path)):
        return False
    if is_test(name_of(path)):
        return False
    if is_test(path):  # a folder called testing or fixtures may hold the product: names mark its tests
        folders = [folder.lower() for folder in path.split("/")[:-1]]
        return (
            not (
                {"test", "tests", "__tests__", "__mocks__", "testdata", "e2e", "spec", "specs", "fixtures"}
                & set(folders)
            )
            and suffix not in _SETTINGS
        )
    return not _ELSEWHERE.search(path)


def _sensitive_path(path: str, words: _Words) -> bool:
    parts = path.split("/")
    stem = parts[-1].rpartition(".")[0] or parts[-1]
    known = words.names | words.paths
    return any(_has(words_of(_normal(part)), known, words.pairs) for part in [*parts[:-1], stem])


def _has(parts: Sequence[str], names: frozenset[str], pairs: frozenset[tuple[str, str]]) -> bool:
    return not names.isdisjoint(parts) or any(pair in pairs for pair in pairwise(parts))


def _lines(file: FileChange, words: _Words, refusals: Sequence[re.Pattern[str]]) -> Iterator[Line]:
    suffix = suffix_of(file.path)
    modes = {line.number for line in file.lines if _FILE_MODES.search(line.text)}
    given = {match[1] for line in file.lines if not line.added and (match := _ASSIGNED.match(_bare(line.text)))}
    for line in file.lines:
        text = _plain(line.text, suffix)
        fetched = _FETCHED.match(text) if line.added else None
        if not text.strip() or (fetched and fetched[1] not in given):
            continue
        if any(pattern.search(line.text) for pattern in words.patterns):
            yield line
        elif suffix in _SETTINGS:
            key = _KEY.match(line.text)
            if key and not _DOCUMENT.search(line.text) and _sensitive_name(key[1], words, about_files=False):
                yield line
        elif suffix in _PAGES:
            if re.search(r"\{[%{]|<%|v-if|\{#if|\*ngIf", line.text) and _about_who(text, words):
                yield line
        elif _sensitive_line(
            line, text, words, refusals, about_files=any(abs(line.number - at) <= _NEAR for at in modes)
        ):
            yield line


def _inside(file: FileChange, content: Callable[[str, bool], bytes | None], words: _Words) -> list[Line]:
    """Return changed lines in the body of a function with a sensitive name; for money only lines with a computation."""
    texts = [
        (content(file.path, new) or b"")[:_LARGEST].decode("utf-8", "replace").split("\n") for new in (False, True)
    ]
    found: list[Line] = []
    for line in file.lines:
        text = _plain(line.text, suffix_of(file.path))
        name = _enclosing(texts[line.added], line.number) if text.strip() else ""
        parts = words_of(name)
        if not parts or (len(parts) > 1 and parts[-1] in words.heads):
            continue
        about_money = not words.money.isdisjoint(parts) and _MONEY.search(text)
        if (
            _has(parts, words.decisions, words.decision_pairs)
            or any(pair in words.pairs for pair in pairwise(parts))
            or about_money
        ):
            found.append(line)
    return found


def _enclosing(lines: Sequence[str], number: int) -> str:
    """Return the name of the function around a line, by indentation; empty if none is near."""
    own = lines[number - 1] if 0 < number <= len(lines) else ""
    depth = len(own) - len(own.lstrip())
    for text in reversed(lines[max(0, number - 1 - _FAR) : number - 1]):
        indent = len(text) - len(text.lstrip())
        if text.strip() and indent < depth:
            match = _DEFINED.match(_normal(text))
            if match:
                return match[1] if _FUNCTION.search(text) else ""
            depth = indent
        if not depth:
            return ""
    return ""


def _sensitive_line(
    line: Line, text: str, words: _Words, refusals: Sequence[re.Pattern[str]], *, about_files: bool
) -> bool:
    if line.added and _RAISED.match(text):
        return False
    if not line.added and any(pattern.search(text) for pattern in refusals):
        return True
    if _ERROR_CLASS.search(text):
        return False
    if any(_sensitive_name(name, words, about_files=about_files) for name in _names(text)):
        return True
    return _decides(text, words) or _prices(text, words)


def _decides(text: str, words: _Words) -> bool:
    """Return whether a line is a condition or comparison about identity."""
    return bool(_CONDITION.search(text) or _COMPARED.search(text)) and _about_who(text, words)


def _about_who(text: str, words: _Words) -> bool:
    return any(_has(words_of(name), words.decisions, words.decision_pairs) for name in _NAME.findall(text))


def _prices(text: str, words: _Words) -> bool:
    """Return whether a line computes or sets a payment."""
    if not _MONEY.search(text):
        return False
    return any(
        not words.money.isdisjoint(parts) and (not parts or parts[-1] not in words.heads)
        for parts in map(words_of, _NAME.findall(text))
    )


def _plain(text: str, suffix: str) -> str:
    """Normalise a line: names unified, strings emptied, comments removed."""
    text = _normal(text)
    return _COMMENT["//" if suffix in CLIKE else "#"].sub("", _STRING.sub('""', text))


def _bare(text: str) -> str:
    """Return a line without the word that declares a variable."""
    return re.sub(r"^\s*(?:const|let|var|val|auto|final\s+\w+)\s+", "", text)


def _normal(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _names(text: str) -> Iterator[str]:
    """Yield names that a line defines, calls, imports or has called."""
    for call in _CALLED.finditer(text):
        yield call[1] or call[2]
    yield from _DEPENDS.findall(text)
    for pattern in (_DEFINED, _ASSIGNED, _ANNOTATED):
        if match := pattern.match(text):
            yield match[1]
    if match := _IMPORTED.match(text):
        yield from re.findall(r"\w+", match[1])


def _sensitive_name(name: str, words: _Words, *, about_files: bool) -> bool:
    parts = words_of(name)
    if name in words.harmless or not parts or (len(parts) > 1 and parts[-1] in words.heads):
        return False
    names = words.names - words.files if about_files else words.names
    return _has(parts, names, words.pairs)
