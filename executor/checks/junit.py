"""Test reports, in JUnit's format or as runners print them: what they list, and whether that is evidence.

A report is written by untrusted code, so limits apply before it costs anything: no document type, no entities, at
most 32 MiB, at most 50 levels, and no counts that contradict the listed cases. No tree is built.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError, XMLParser
from xml.sax.saxutils import quoteattr

__all__ = [
    "LARGEST",
    "Report",
    "ReportError",
    "junit_of",
    "lost_tests",
    "missing_evidence",
    "new_failures",
    "ran_no_test",
    "read_console",
    "read_junit",
    "says_no_test",
]

LARGEST = 32 * 1024 * 1024
_DEEPEST = 50
_NAMED = 5
_PROLOG = re.compile(rb"\A(?:\xef\xbb\xbf)?(?:\s++|<\?(?s:.*?)\?>|<!--(?s:.*?)-->)*+")
_ROOT = re.compile(rb"<[A-Za-z_:\x80-\xff]")
_KINDS = {"failure": "failures", "error": "errors", "skipped": "skipped"}


class ReportError(ValueError):
    """The file is not a credible JUnit report; the message is one line."""


@dataclass(frozen=True, slots=True)
class Report:
    """The cases of a report.

    Attributes:
        tests: number of cases listed.
        failures: names of the cases that failed.
        errors: names of the cases, or whole suites, that broke.
        skipped: names of the cases that did not run.
        names: names of all cases, in order, including repeats.
    """

    tests: int
    failures: tuple[str, ...]
    errors: tuple[str, ...]
    skipped: tuple[str, ...]
    names: tuple[str, ...]


def read_junit(data: bytes) -> Report:
    """Read a report as pytest, unittest-xml-reporting, jest-junit, surefire, gotestsum or cargo2junit write it.

    Raises:
        ReportError: the data is not a JUnit report, or contradicts itself.
    """
    if len(data) > LARGEST:
        raise ReportError("the report is larger than 32 MiB")
    prolog = _PROLOG.match(data)
    start = prolog.end() if prolog else 0
    rest = data[start : start + 9]
    if not rest:
        raise ReportError("the report is empty")
    if rest.startswith(b"<!"):
        raise ReportError("the report has a document type declaration")
    if not _ROOT.match(rest):
        raise ReportError("the report is not XML in a readable encoding")
    reading = _Reading()
    parser = XMLParser(target=reading)  # noqa: S314 - there is no document type, and so no entity
    try:
        parser.feed(data)
        parser.close()
    except ReportError:
        raise
    except (ParseError, ValueError, LookupError) as error:
        raise ReportError(f"the report is not well-formed XML: {_line(str(error))}") from None
    return reading.report()


def missing_evidence(report: Report | None, base: Report | None) -> str:
    """Return why a check's exit code 0 does not count, in one line; empty if it counts.

    Args:
        report: the report of the check; None without one.
        base: the report of the same check on the base; None if unknown.
    """
    if report is None:
        return "it exited 0 but wrote no test report"
    if not report.tests:
        return "it exited 0 but its report has no test"
    failed = (*report.failures, *report.errors)
    if failed:
        return f"it exited 0 but its report has {_count(failed, 'failure')}: {_listed(failed)}"
    if len(report.skipped) >= report.tests:
        return f"it exited 0 but skipped every test: {_listed(report.skipped)}"
    return _less_than(report, base) if base is not None else ""


def lost_tests(report: Report, base: Report) -> str:
    """Tests that passed on the base and do not run here, in one line; empty when there are none.

    Both runs have the same files of tests: what is missing here, the product left out.
    """
    ran = Counter(base.names) - Counter((*base.failures, *base.errors, *base.skipped))
    missing = tuple((ran - (Counter(report.names) - Counter(report.skipped))).elements())
    return f"{_count(missing, 'test')} that passed on the base did not run: {_listed(missing)}" if missing else ""


def new_failures(report: Report, base: Report) -> tuple[str, ...]:
    """Return tests that fail now but did not fail, or did not exist, on the base; unique, in the report's order."""
    failing, before, cases = Counter(_failed(report)), Counter(_failed(base)), Counter(base.names)
    return tuple(
        name for name, count in failing.items() if not before[name] or (cases[name] > 1 and count > before[name])
    )


def _less_than(report: Report, base: Report) -> str:
    """Describe the tests that ran on the base and do not run now."""
    gone = tuple((Counter(base.names) - Counter(report.names)).elements())
    if report.tests < base.tests:
        counts = f"it exited 0 but has {_number(report.tests, 'test')} where the base has {base.tests}"
        return f"{counts}; gone: {_listed(gone)}"
    skipped_before = Counter(base.skipped)
    missing = tuple((Counter(gone) - skipped_before).elements())
    if missing:
        return f"it exited 0 but no longer runs {_count(missing, 'test')} that ran on the base: {_listed(missing)}"
    here = Counter({name: count for name, count in Counter(report.skipped).items() if name in set(base.names)})
    skipped = tuple((here - skipped_before).elements())
    if skipped:
        return f"it exited 0 but now skips {_count(skipped, 'test')} that ran on the base: {_listed(skipped)}"
    return ""


def _failed(report: Report) -> tuple[str, ...]:
    return (*report.failures, *report.errors)


def _count(names: tuple[str, ...], noun: str) -> str:
    return _number(len(names), noun)


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(names: tuple[str, ...]) -> str:
    shown = [name if len(name) <= 200 else f"{name[:200]}..." for name in names[:_NAMED]]  # noqa: PLR2004 - a line's width
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _line(text: str) -> str:
    return " ".join(text.split())


@dataclass(slots=True)
class _Suite:
    """A suite while it is read: its own counts, and the cases listed in it and below."""

    name: str
    says: dict[str, int]
    direct: int = 0
    cases: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)


class _Reading:
    """Receives the parser's events; `XMLParser` calls `start`, `end`, `data`, `doctype` and `close`."""

    def __init__(self) -> None:
        self._tags: list[str] = []
        self._suites: list[_Suite] = []
        self._seen = False
        self._case = ""
        self._marks: Counter[str] = Counter()
        self._names: list[str] = []
        self._by_kind: dict[str, list[str]] = {kind: [] for kind in _KINDS.values()}

    def doctype(self, _name: str, _public: str | None, _system: str | None) -> None:
        raise ReportError("the report has a document type declaration")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition("}")[2]
        parent = self._tags[-1] if self._tags else ""
        if len(self._tags) >= _DEEPEST:
            raise ReportError(f"the report is nested deeper than {_DEEPEST} levels")
        if not parent and tag not in {"testsuites", "testsuite"}:
            raise ReportError(f"the report is not JUnit's: its root is <{_line(tag)[:60]}>")
        self._tags.append(tag)
        if tag in {"testsuites", "testsuite"} and parent in {"", "testsuites", "testsuite"}:
            self._seen = self._seen or tag == "testsuite"
            name = "" if tag == "testsuites" else _line(attributes.get("name", ""))
            self._suites.append(_Suite(name, _says(attributes)))
        elif tag == "testcase" and parent in {"testsuite", "testsuites"}:
            self._open(attributes)
        elif tag in _KINDS and parent == "testcase":
            self._marks[_KINDS[tag]] += 1
        elif tag in {"failure", "error"} and parent == "testsuite":
            self._by_kind["errors"].append(self._suites[-1].name or "(suite)")
            self._suites[-1].marks["whole"] += 1

    def data(self, _text: str) -> None:
        """Ignore the output of tests."""

    def end(self, _tag: str) -> None:
        tag = self._tags.pop()
        parent = self._tags[-1] if self._tags else ""
        if tag == "testcase" and parent in {"testsuite", "testsuites"}:
            self._close()
        elif tag in {"testsuites", "testsuite"} and parent in {"", "testsuites", "testsuite"}:
            suite = self._suites.pop()
            _consistent(suite)
            if self._suites:
                self._suites[-1].cases += suite.cases
                self._suites[-1].marks += suite.marks

    def close(self) -> None:
        if not self._seen:
            raise ReportError("the report has no testsuite")

    def report(self) -> Report:
        kinds = {kind: tuple(names) for kind, names in self._by_kind.items()}
        return Report(tests=len(self._names), names=tuple(self._names), **kinds)

    def _open(self, attributes: dict[str, str]) -> None:
        name = _line(attributes.get("name", ""))
        if not name:
            raise ReportError("the report has a testcase without a name")
        suites = (suite.name for suite in reversed(self._suites) if suite.name)
        owner = _line(attributes.get("classname", "")) or next(suites, "")
        self._case = f"{owner}::{name}" if owner else name

    def _close(self) -> None:
        """Count a case once, by the worst of its marks."""
        self._names.append(self._case)
        suite = self._suites[-1]
        suite.direct += 1
        suite.cases["tests"] += 1
        if self._case.endswith("::TestMain"):
            suite.cases["main"] += 1
        if not self._marks:
            return
        suite.marks += self._marks
        suite.cases.update(set(self._marks))
        worst = next(kind for kind in _KINDS.values() if self._marks[kind])
        self._by_kind[worst].append(self._case)
        self._marks = Counter()


def _says(attributes: dict[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for key in ("tests", *_KINDS.values()):
        text = attributes.get(key, "").strip()
        if not text:
            continue
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise ReportError(f"the report says {key}={_line(text)[:60]!r}, which is no count")
        found[key] = int(text)
    return found


def _consistent(suite: _Suite) -> None:
    """Refuse a suite whose counts differ from its listed cases.

    Runners count a case that broke in its teardown once or twice (pytest), and do not count a failed `TestMain`
    (gotestsum) or a suite that did not load. Only for these the number of tests may differ, by their number.
    """
    listed, marks = suite.cases, suite.marks
    slack = marks["errors"] + marks["whole"] + listed["main"]
    for key, said in suite.says.items():
        if key == "tests":
            fits = (suite.direct and said == suite.direct) or abs(said - listed["tests"]) <= slack
        else:
            extra = 0 if key == "skipped" else marks["whole"]
            fits = listed[key] - listed["main"] <= said <= marks[key] + extra
        if not fits:
            counted = listed[key]
            raise ReportError(f"the report contradicts itself: it says {key}={said} and lists {counted}")


_NO_TESTS = re.compile(
    r"\bno tests? (?:ran|found|files?|to run|executed|were found|is available)\b|\bcollected 0 items\b|\bran 0 tests\b"
    r"|^[#\u2139] tests 0$|\brunning 0 tests\b|^1\.\.0\b|\bresult: notests\b|\b0 (?:examples|runs|passing|tests)\b"
    r"|^\d+ deselected\b",
    re.IGNORECASE | re.MULTILINE,
)
_TESTS = re.compile(
    r"\b[1-9]\d* (?:passed|passing|failed|examples?|runs|tests?\b(?! files? found))|\b(?:ran|running) [1-9]\d* tests?\b"
    r"|^ok\s+\S+\s+(?:\(cached\)|[\d.]+s)(?!.*no tests)|^[#\u2139] tests [1-9]|^(?:not )?ok \d+|\bTests=[1-9]"
    r"|tests run: [1-9]",
    re.IGNORECASE | re.MULTILINE,
)


def says_no_test(output: str) -> bool:
    """Return whether the output of a test runner reports that there were no tests."""
    return _NO_TESTS.search(output) is not None


def ran_no_test(output: str) -> bool:
    """Return whether the output reports that there were no tests, and nothing in it reports a test that ran."""
    return says_no_test(output) and _TESTS.search(output) is None


_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PASSED, _FAILED, _SKIPPED = "passed", "failed", "skipped"
_WORDS = {
    **dict.fromkeys(("PASS", "ok", "Passed", "✔", "✓", "√"), _PASSED),
    **dict.fromkeys(("FAIL", "FAILED", "ERROR", "not ok", "***Failed", "***Timeout", "✖", "✗", "\u00d7"), _FAILED),
    **dict.fromkeys(("SKIP", "ignored", "skipped", "***Skipped", "***Not Run", "﹣", "○", "↓"), _SKIPPED),
}
_LINES = (
    re.compile(r"\s*--- (?P<word>PASS|FAIL|SKIP): (?P<name>\S+) \("),  # go test -v
    re.compile(r"test (?P<name>\S.*?) \.\.\. (?P<word>ok|FAILED|ignored)\b"),  # cargo test
    re.compile(r"(?P<name>test\w* \([\w.]+\)).*? \.\.\. (?P<word>ok|FAIL|ERROR|skipped)\b"),  # unittest -v
    re.compile(
        r"\s*\d+/\d+ Test +#\d+: (?P<name>\S+) \.*\s*(?P<word>Passed|\*\*\*(?:Failed|Timeout|Skipped|Not Run))"
    ),  # ctest
    # the spec reporter of node, jest --verbose, mocha, vitest
    re.compile(r"\s*(?P<word>[✔✓√✖✗\u00d7﹣○↓]) (?P<name>\S.*?)(?: +\(?\d[\d.]*\s?m?s\)?)?(?: # SKIP.*)?$"),
)
_TAP = re.compile(r"\s*(?P<word>ok|not ok)\b(?: \d+)?(?: -)? ?(?P<name>.*?)(?P<skip> # (?:SKIP|skip|TODO|todo)\b.*)?$")
_COUNTS = (
    re.compile(
        r"(?m)^Ran (?P<all>\d+) tests? in (?s:.{0,200}?)\b(?:OK|FAILED)(?: \((?:.*\bskipped=(?P<skipped>\d+))?)?"
    ),  # unittest
    re.compile(
        r"(?m)^=* ?(?:\d+ failed, )?(?P<ran>\d+) passed\b(?:,? (?P<skipped>\d+) skipped)?.* in [\d.]+s"
    ),  # pytest
    re.compile(r"(?m)^Tests: +(?:.*?(?P<skipped>\d+) skipped, )?.*?(?P<all>\d+) total"),  # jest
    re.compile(r"(?m)^ *Tests +.*?(?:(?P<skipped>\d+) skipped )?\((?P<all>\d+)\)"),  # vitest
    re.compile(
        r"(?m)^(?:\[\w+\] *)?Tests run: (?P<all>\d+), Failures: \d+, Errors: \d+, Skipped: (?P<skipped>\d+)\s*$"
    ),  # maven
    re.compile(r"(?m)^(?P<all>\d+) examples?, \d+ failures?(?:, (?P<skipped>\d+) pending)?"),  # rspec
    re.compile(r"(?m)^OK \((?P<all>\d+) tests?,"),  # phpunit
    re.compile(r"(?m)^Tests: (?P<all>\d+), Assertions: \d+(?:.*Skipped: (?P<skipped>\d+))?"),  # phpunit
    re.compile(r"(?m)^(?P<all>\d+) runs, .*?(?P<skipped>\d+) skips"),  # minitest
    re.compile(r"Failed: +\d+, Passed: +\d+, Skipped: +(?P<skipped>\d+), Total: +(?P<all>\d+)"),  # dotnet
)


def read_console(data: bytes, folder: str = "") -> Report | None:
    """Read what a runner printed: names where it prints them, else how many tests there were. None without any.

    Args:
        data: output of go test -v, cargo test, ctest, unittest, node, jest, vitest, mocha, pytest, maven, rspec,
            phpunit, minitest, dotnet, or anything that prints TAP.
        folder: place of the tree, which is left out of names.
    """
    text = _COLOUR.sub("", data[-LARGEST:].decode("utf-8", "replace").replace("\r\n", "\n"))
    text = text.replace(f"{folder}/", "") if folder else text
    found = _tap(text) if re.search(r"(?m)^(?:TAP version|1\.\.\d+\s*$)", text) else _named_lines(text)
    if not found:
        found = _counted(text)
    if not found:
        return None
    names = {word: tuple(name for name, said in found if said == word) for word in (_FAILED, _SKIPPED)}
    return Report(len(found), names[_FAILED], (), names[_SKIPPED], tuple(name for name, _ in found))


def junit_of(report: Report) -> bytes:
    """A report as JUnit's XML, as `read_junit` reads it."""
    bad, skipped = Counter(_failed(report)), Counter(report.skipped)
    cases = []
    for name in report.names:
        kind = "failure" if bad[name] else "skipped" if skipped[name] else ""
        (bad if kind == "failure" else skipped)[name] -= 1 if kind else 0
        plain = "".join(char if char.isprintable() else "?" for char in name)
        cases.append(f"<testcase name={quoteattr(plain or '?')}>{f'<{kind}/>' if kind else ''}</testcase>")
    return f"<testsuite>{''.join(cases)}</testsuite>".encode("utf-8", "replace")


def _tap(text: str) -> list[tuple[str, str]]:
    """Tests of TAP. Assertions below a comment with the name of their test (tape) are one test together."""
    found: list[tuple[str, str]] = []
    heading = ""
    by_heading: dict[str, str] = {}
    for line in text.split("\n"):
        if line.startswith("# ") and not line.startswith("# Subtest"):
            heading = line[2:].strip()
        elif match := _TAP.match(line):
            word = _SKIPPED if match["skip"] else _WORDS[match["word"]]
            found.append((" ".join(match["name"].split()) or "test", word))
            if heading:
                by_heading[heading] = _FAILED if _FAILED in {word, by_heading.get(heading)} else word
    return list(by_heading.items()) if heading and by_heading else found


def _named_lines(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    open_from = 0  # tests of go are named before their package
    for line in text.split("\n"):
        if package := re.match(r"(?:ok|FAIL)\s+(\S+)\s+(?:\(cached\)|[\d.]+s)", line):
            found[open_from:] = [(f"{package[1]}: {name}", word) for name, word in found[open_from:]]
            open_from = len(found)
            continue
        for pattern in _LINES:
            if match := pattern.match(line):
                found.append((match["name"], _WORDS[match["word"]]))
                break
    return found


def _counted(text: str) -> list[tuple[str, str]]:
    for pattern in _COUNTS:
        matches = list(pattern.finditer(text))
        if matches:
            counts = [match.groupdict(default="0") for match in matches]
            skipped = sum(int(count.get("skipped", 0)) for count in counts)
            whole = sum(int(count["all"]) if "all" in count else int(count["ran"]) for count in counts)
            whole += 0 if "all" in counts[0] else skipped  # pytest does not count those that it skips
            return [("test", _SKIPPED)] * min(skipped, whole) + [("test", _PASSED)] * max(0, whole - skipped)
    return []
