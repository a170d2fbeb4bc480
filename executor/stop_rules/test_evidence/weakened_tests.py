"""Tests that prove less than before: removed, skipped, emptied, with fewer assertions or a lower threshold. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from executor.model.paths import is_documentation, is_test, suffix_of
from executor.stop_rules.test_evidence.test_inventory import Case, Cases, cases_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from executor.git.diff import FileChange, Finding

__all__ = ["changed_tests", "inline_changes", "weakened"]

_LARGEST = 2_000_000  # bytes of a file of tests; the rest is not compared
_EXAMPLE = re.compile(
    r"(?m)^[ \t]*>>> (.*\n(?:[ \t]*\.\.\. .*\n)*(?:(?![ \t]*>>> |[ \t]*$|[ \t]*(?:\"{3}|'{3})).*\n)*)"
)
_EXPECTS = re.compile(r"\b(?:debug_)?assert\w*!|\bexpect\(|\bassert\b|#\[should_panic")
_PROVES = re.compile(r"\bassert\w*\b|\bdoctest\b|\bSystemExit\b|\bsys\.exit\b|\bprocess\.exit\w*\b|\braise\b|\bthrow\b")
"""What a program needs in order to fail."""
_NO_EXAMPLES = re.compile(r"\b__(?:doc|test)__\b\s*=|\bdel\s+[\w.]+\.__doc__|#\s*doctest:\s*\+SKIP|\bdoctest\.")
_RUST_TEST = re.compile(
    r"(?P<attributes>(?:^[ \t]*#\[[^\n]*\]\s*\n)*)^[ \t]*(?:pub )?(?:async )?fn (?P<name>\$?\w+)\([^{]*\{", re.MULTILINE
)
_RUST_TESTS = re.compile(r"#\[cfg\((?:all\()?test[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub )?mod\b")
_RUST_TEXT = re.compile(r"(?s)\br(#*)\".*?\"\1|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])'|//[^\n]*|/\*.*?\*/")
_RUST_ITEM = re.compile(
    r"^\s*(?:pub )?(?:(?:const |async |unsafe )*fn|const|static|macro_rules!|mod|struct)\s+(\w+)(?!.*\bself\b)"
    r"|\bas (\w+)\s*[;,}]"
)
_RUST_OFF = re.compile(r"should_panic|ignore|cfg")
_ABOUT = re.compile(r"(?i)fail[_-]under|coverage|threshold")
_THRESHOLDS = re.compile(
    r"(?i)(fail[_-]under|cov-fail-under|minimum_coverage(?:_by_file)?|min[_-]coverage"
    r"|coverage[_-]threshold)[\"']?\s*[=: (]\s*[\"']?(\d+(?:\.\d+)?)"
)
_BLOCK = re.compile(r"(?:coverageThreshold|thresholds?)[\"']?\s*:\s*\{")
_ONLY = re.compile(r"\bonly\b|\b(fit|fdescribe|fcontext)\b")
_INNER = re.compile(r"[\"']?(branches|functions|lines|statements)[\"']?\s*:\s*(-?\d+(?:\.\d+)?)")
_NYC = re.compile(r"[\"'](branches|functions|lines|statements)[\"']\s*:\s*(\d+(?:\.\d+)?)")
_SETTINGS = frozenset(
    [
        ".toml",
        ".cfg",
        ".ini",
        ".json",
        ".js",
        ".cjs",
        ".mjs",
        ".ts",
        ".mts",
        ".yml",
        ".yaml",
        ".rb",
        ".sh",
        ".py",
        ".xml",
        ".gradle",
        ".kts",
        ".simplecov",
        ".coveragerc",
        ".nycrc",
        ".mk",
        ".just",
        ".bat",
        ".ps1",
    ]
)


def weakened(files: Sequence[FileChange], content: Callable[[str, bool], bytes | None]) -> list[Finding]:
    """Return all weakened tests in a change.

    Args:
        files: files of the change.
        content: returns a file's whole content before (False) or after (True).
    """
    found: list[Finding] = []
    lost: list[tuple[str, str, Case]] = []
    gained: list[tuple[str, Case]] = []
    for file in files:
        if not is_test(file.path) or is_documentation(file.path):
            continue
        old, new = (cases_of(file.path, _data(content, file.path, new)) for new in (False, True))
        found += _compared(file, old, new)
        lost += ((file.path, name, case) for name, case in old.cases.items() if name not in new.cases)
        if suffix_of(file.path) != ".py" or _names_tests(file.path):  # others are not collected
            gained += ((name, case) for name, case in new.cases.items() if name not in old.cases)
    found += _unreplaced(lost, gained)
    found += _whole(files, {path for path, _, _ in lost}, content)
    return found + _lowered(files, content)


def inline_changes(
    files: Sequence[FileChange],
    content: Callable[[str, bool], bytes | None],
    programs: Collection[str] = (),
    *,
    doctests: bool,
) -> Iterator[Finding]:
    """Yield expectations that were changed or removed in tests inside product files, where no base can be restored.

    Args:
        files: those of the change.
        content: a file's whole content before (False) or after (True).
        programs: files of the product that a check runs, so that they judge themselves.
        doctests: whether a check runs the examples of documentation strings.
    """
    for file in files:
        suffix = suffix_of(file.path)
        if is_test(file.path):
            continue
        if suffix == ".py" and doctests:
            off = [line for line in file.lines if line.added and _NO_EXAMPLES.search(line.text)]
            yield from ((file.path, line.number, f"examples may not run: {line.text.strip()}") for line in off)
        if file.kind == "created":
            continue
        old, new = (_data(content, file.path, new) for new in (False, True))
        if file.path in programs:
            yield from ((file.path, 0, f"a program that checks itself lost: {text}") for text in _unproved(old, new))
        if suffix == ".rs":
            yield from ((file.path, 0, text) for text in _rust_changes(old, new))
        if suffix == ".py" and doctests:
            lost = _examples(old) - _examples(new)
        elif suffix == ".rs" or (suffix in {".ts", ".js", ".mts", ".mjs"} and b"import.meta.vitest" in (old or b"")):
            lost = _expectations(file.path, old) - _expectations(file.path, new)
        else:
            continue
        yield from (
            (file.path, 0, f"an expectation of a test in the product was changed or removed: {text}") for text in lost
        )


def _unproved(old: bytes | None, new: bytes | None) -> Iterator[str]:
    """Lines of a program that can make it fail and that are gone."""
    before, after = (
        Counter(" ".join(line.split()) for line in (data or b"").decode("utf-8", "replace").splitlines())
        for data in (old, new)
    )
    yield from (text for text in before - after if _PROVES.search(text))


def _rust_changes(old: bytes | None, new: bytes | None) -> Iterator[str]:
    """Yield changes of Rust tests inside product files: lines other than assertions, attributes, shadowed names."""
    before, after = _rust_tests(old), _rust_tests(new)
    for name, (attributes, body) in before.items():
        if name not in after:
            continue
        if any(_RUST_OFF.search(text) for text in after[name][0] - attributes):
            yield f"the test {name} has another attribute: {next(iter(after[name][0] - attributes))}"
        others = [text for text in (after[name][1] - body) if not _EXPECTS.search(text)]
        gone = [text for text in (body - after[name][1]) if not _EXPECTS.search(text)]
        if others or gone:
            yield f"the test {name} changed: {(others or gone)[0]}"
    used = {word for _, body in before.values() for text in body for word in re.findall(r"\w+", text)}
    texts = [(data or b"").decode("utf-8", "replace").replace("\r\n", "\n") for data in (old, new)]
    parts = [text[start.start() :] if (start := _RUST_TESTS.search(text)) else "" for text in texts]
    items = [
        Counter(match[1] or match[2] for match in map(_RUST_ITEM.search, part.splitlines()) if match) for part in parts
    ]
    yield from (
        f"its tests have their own {name} now" for name in items[1] - items[0] if name in used and name not in before
    )


def _rust_tests(data: bytes | None) -> dict[str, tuple[Counter[str], Counter[str]]]:
    """Return the tests of a Rust file by name: their attributes, and the statements of their bodies."""
    text = (data or b"").decode("utf-8", "replace").replace("\r\n", "\n")
    plain = _RUST_TEXT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)  # braces in strings are none
    found: dict[str, tuple[Counter[str], Counter[str]]] = {}
    for match in _RUST_TEST.finditer(plain):
        attributes = Counter(
            " ".join(line.split()) for line in text[match.start() : match.end()].split("\n") if "#[" in line
        )
        if any("test" in line for line in attributes):
            body = re.sub(r"(?m)//.*$", "", text[match.end() : match.end() + _end(plain[match.end() :])])
            parts = (" ".join(part.split()) for part in re.split(r";\s*\n", body))
            name = match["name"]
            while name in found:  # in another module, or from a macro
                name += "'"
            found[name] = (attributes, Counter(part for part in parts if part.strip("{}() ;,")))
    return found


def _examples(data: bytes | None) -> Counter[str]:
    """Examples of documentation strings with their results."""
    text = (data or b"").decode("utf-8", "replace")
    found = _EXAMPLE.findall(text)
    return Counter(" ".join(example.split()) for example in found)


def _expectations(path: str, data: bytes | None) -> Counter[str]:
    """Lines with assertions in the tests of a file; of Rust all of their module, with its helpers."""
    text = (data or b"").decode("utf-8", "replace")
    module = _RUST_TESTS.search(text) if path.endswith(".rs") else None
    owned = cases_of(path, data).owners
    first = text.count("\n", 0, module.start()) + 1 if module else len(text)
    return Counter(
        " ".join(line.split())
        for number, line in enumerate(text.splitlines(), 1)
        if (number in owned or number >= first) and _EXPECTS.search(line)
    )


def changed_tests(files: Sequence[FileChange], content: Callable[[str, bool], bytes | None]) -> list[str]:
    """Return tests whose text, data or imports a change alters, as ``path: name``; a file without tests by its path.

    Args:
        files: test files that the change alters or removes.
        content: returns a file's whole content before (False) or after (True).
    """
    lines: list[str] = []
    for file in files:
        old, new = (_data(content, file.path, new) for new in (False, True))
        before, after = texts_of(file.path, old), texts_of(file.path, new)
        names = [name for name, text in before.items() if name and after.get(name) != text]
        around = before.get("") != after.get("")
        lines += [f"{file.path}: {name}{'' if name in after else ' is gone'}" for name in names]
        if around and names:
            lines.append(f"{file.path}: imports, helpers or data of its tests")
        elif not names:
            lines.append(f"{file.path}: {file.kind}" if not around else f"{file.path}: imports, helpers or data")
    return lines


def _data(content: Callable[[str, bool], bytes | None], path: str, new: bool) -> bytes | None:  # noqa: FBT001  (as `content` has it)
    data = content(path, new)
    return data if data is None or len(data) <= _LARGEST else data[:_LARGEST]


def _compared(file: FileChange, old: Cases, new: Cases) -> list[Finding]:
    """Return weakenings of remaining tests, and marks that skip tests."""
    found: list[Finding] = []
    if new.unreadable and old.cases:
        return [(file.path, 0, "tests can no longer be read")]
    for name, before in old.cases.items():
        after = new.cases.get(name)
        if after is None:
            continue
        if after.checks < before.checks:
            what = (
                "is empty now"
                if not after.checks
                else f"has fewer assertions: {after.checks} instead of {before.checks}"
            )
            found.append((file.path, after.line, f"{name} {what}"))
        if after.rows < before.rows:
            found.append((file.path, after.line, f"{name} has fewer cases: {after.rows} instead of {before.rows}"))
        if after.skipped and not before.skipped:
            found.append((file.path, after.line, f"{name} is skipped now"))
    return found + _marks(file, old, new)


def _marks(file: FileChange, old: Cases, new: Cases) -> list[Finding]:
    """Return additional lines that skip or exclude tests; a new file may skip its own."""
    added = {line for line, name in new.owners.items() if name not in old.cases}  # a new test may skip itself
    places = [(file.path, line, text) for line, text in new.skips.items() if line not in added or _ONLY.search(text)]
    if file.kind == "created":
        return [place for place in places if _ONLY.search(place[2])]
    seen = Counter(old.skips.values())
    found = []
    for place in places if len(places) > len(old.skips) else ():
        if seen[place[2]]:
            seen[place[2]] -= 1
        else:
            found.append(place)
    return found


def _unreplaced(lost: list[tuple[str, str, Case]], gained: list[tuple[str, Case]]) -> list[Finding]:
    """Return removed tests without an equivalent: a moved test of that name, or a new one that proves as much."""
    found: list[Finding] = []
    moved = list(gained)
    live = [(name, case) for name, case in gained if not case.skipped]
    rest: list[tuple[str, str, Case]] = []
    for path, name, case in lost:
        able = moved if case.skipped else live  # one that is skipped stays so wherever it moves
        same = next((item for item in able if _short(item[0]) == _short(name) and _covers(item[1], case)), None)
        if same is not None:
            moved.remove(same)
            live = [item for item in live if item is not same]
        else:
            rest.append((path, name, case))
    for path, name, case in sorted(rest, key=lambda item: -item[2].checks):
        other = next((item for item in live if item[1].checks and _covers(item[1], case)), None)
        if other is not None:
            live.remove(other)
        else:
            found.append((path, 0, f"test removed: {name}"))
    return found


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _covers(new: Case, old: Case) -> bool:
    return new.checks >= old.checks and new.rows >= old.rows


def _whole(files: Sequence[FileChange], known: set[str], content: Callable[[str, bool], bytes | None]) -> list[Finding]:
    """Return deleted test files whose tests could not be listed individually."""
    after = True
    created = {content(file.path, after) for file in files if file.kind == "created"}
    return [
        (file.path, 0, "test file deleted")
        for file in files
        if file.kind == "deleted"
        and file.path not in known
        and _names_tests(file.path)
        and content(file.path, not after) not in created
    ]


def _names_tests(path: str) -> bool:
    return is_test(path.rpartition("/")[2]) and not path.endswith("conftest.py")


def _lowered(files: Sequence[FileChange], content: Callable[[str, bool], bytes | None]) -> list[Finding]:
    """Return lowered coverage thresholds, compared over all files, since thresholds move between files."""
    before: defaultdict[str, list[float]] = defaultdict(list)
    after: defaultdict[str, list[float]] = defaultdict(list)
    places: dict[str, str] = {}
    for file in files:
        suffix = suffix_of(file.path)
        if is_documentation(file.path) or (suffix and suffix not in _SETTINGS):
            continue
        if suffix == ".py" and not any(_ABOUT.search(line.text) for line in file.lines):
            continue
        for new, numbers in ((False, before), (True, after)):
            for key, number in _thresholds(content(file.path, new) or b""):
                numbers[key].append(number)
                places.setdefault(key, file.path)
    return [
        (places[key], 0, f"{key} lowered from {_shown(old)} to {_shown(after[key])}")
        for key, old in before.items()
        if _lower(old, after[key])
    ]


def _thresholds(data: bytes) -> list[tuple[str, float]]:
    if len(data) > _LARGEST or not re.search(rb"(?i)fail[_-]under|coverage|threshold", data):
        return []
    text = re.sub(r"(?m)^\s*(#|//).*$", "", data.decode("utf-8", "replace"))
    found = [
        (match[1].lower().replace("-", "_").removeprefix("cov_"), float(match[2]))
        for match in _THRESHOLDS.finditer(text)
    ]
    for block in _BLOCK.finditer(text):
        inner = text[block.end() : block.end() + 1000]
        found += ((match[1], float(match[2])) for match in _INNER.finditer(inner[: _end(inner)]))
    if re.search(r"[\"']check-coverage[\"']\s*:\s*true", text):
        found += ((match[1], float(match[2])) for match in _NYC.finditer(text))
    return found


def _end(text: str) -> int:
    depth = 1
    for brace in re.finditer(r"[{}]", text):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.end()
    return len(text)


def _lower(old: list[float], new: list[float]) -> bool:
    highest = sorted(new, reverse=True)[: len(old)]
    return len(highest) < len(old) or any(
        now < was for now, was in zip(highest, sorted(old, reverse=True), strict=True)
    )


def _shown(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers) or "nothing"
