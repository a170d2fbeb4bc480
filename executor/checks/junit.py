"""Test reports in JUnit's format: what they list, and whether that is evidence. The coverage of tests.

A report is written by untrusted code, so limits apply before it costs anything: no document type, no entities, at
most 32 MiB, at most 50 levels, and no counts that contradict the listed cases. No tree is built.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError, XMLParser
from xml.sax.saxutils import quoteattr

from executor.process.files import left_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

__all__ = [
    "LARGEST",
    "CoverageFiles",
    "Report",
    "ReportError",
    "junit_of",
    "lost_tests",
    "missing_evidence",
    "new_failures",
    "read_coverage",
    "read_junit",
    "read_percent",
]

LARGEST = 32 * 1024 * 1024  # bytes; bounds the memory for a hostile report
_DEEPEST = 50  # levels; JUnit needs four, the rest bounds the stack of the reader
_NAMED = 5  # names in a sentence; the log has the rest
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


def missing_evidence(report: Report | None, base: Report | None) -> str | None:
    """Return why a check's exit code 0 does not count, in one line; None if it counts.

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
    return _less_than(report, base) if base is not None else None


def lost_tests(report: Report, base: Report) -> str | None:
    """Tests that passed on the base and do not run here, in one line; None when there are none.

    Both runs have the same files of tests: what is missing here, the product left out.
    """
    ran = Counter(base.names) - Counter((*base.failures, *base.errors, *base.skipped))
    gone = ran - (Counter(report.names) - Counter(report.skipped))
    skipped = ran & (Counter(report.skipped) - Counter(base.skipped))  # a second line may claim that it passed
    missing = tuple((gone | skipped).elements())
    return f"{_count(missing, 'test')} that passed on the base did not run: {_listed(missing)}" if missing else None


def new_failures(report: Report, base: Report) -> tuple[str, ...]:
    """Return tests that fail now but did not fail, or did not exist, on the base; unique, in the report's order."""
    failing, before, cases = Counter(_failed(report)), Counter(_failed(base)), Counter(base.names)
    return tuple(
        name for name, count in failing.items() if not before[name] or (cases[name] > 1 and count > before[name])
    )


def _less_than(report: Report, base: Report) -> str | None:
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
    return None


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
        self._off = False
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
        self._off = attributes.get("status", "") in {"disabled", "notrun"}  # ctest

    def _close(self) -> None:
        """Count a case once, by the worst of its marks."""
        self._names.append(self._case)
        suite = self._suites[-1]
        suite.direct += 1
        suite.cases["tests"] += 1
        if self._case.endswith("::TestMain"):
            suite.cases["main"] += 1
        if not self._marks:
            self._by_kind["skipped"] += [self._case] if self._off else []
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
    (gotestsum) or a suite that did not load. Only for these the number of tests may differ, by their number. From
    version 9 on, pytest counts passed subtests, which it does not list: it may count more tests than it lists.
    """
    listed, marks = suite.cases, suite.marks
    slack = marks["errors"] + marks["whole"] + listed["main"]
    for key, said in suite.says.items():
        if key == "tests":
            fits = (suite.direct and said == suite.direct) or abs(said - listed["tests"]) <= slack
            fits = fits or (suite.name == "pytest" and said > listed["tests"] > 0)
        else:
            extra = 0 if key == "skipped" else marks["whole"]
            fits = listed[key] - listed["main"] <= said <= marks[key] + extra
        if not fits:
            counted = listed[key]
            raise ReportError(f"the report contradicts itself: it says {key}={said} and lists {counted}")


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


_COVERAGE_FILES = (
    "coverage.xml",
    "cobertura.xml",
    "coverage/cobertura-coverage.xml",
    "coverage.json",
    "coverage/coverage-summary.json",
    "lcov.info",
    "coverage.lcov",
    "coverage/lcov.info",
    "coverage.out",
    "cover.out",
    "coverage.txt",
    "target/site/jacoco/jacoco.xml",
    "build/reports/jacoco/test/jacocoTestReport.xml",
)
"""Where coverage.py, c8, nyc, jest, cargo-llvm-cov, `go test`, gcovr and JaCoCo write, by default or by custom."""
_LINE_RATE = re.compile(rb"""<coverage\b[^>]*?\sline-rate=["']([\d.]+)["']""")
_JACOCO = re.compile(rb"""<counter type=["']LINE["'] missed=["'](\d+)["'] covered=["'](\d+)["']""")
_LCOV = re.compile(rb"^(LF|LH):(\d+)\s*$", re.MULTILINE)
_GO = re.compile(rb"^\S+:\d+\.\d+,\d+\.\d+ (\d+) (\d+)\s*$", re.MULTILINE)


class CoverageFiles:
    """The coverage reports that a check leaves in its tree.

    Args:
        start: folder in which the check runs; reports that lie there already count for nothing.
    """

    def __init__(self, start: Path) -> None:
        self._start = start
        self._before = dict(self._found())

    def percent(self, secrets: Collection[str]) -> float | None:
        """Return the lines that were executed, in per cent, by the first new report; None without one."""
        for name, state in self._found():
            if self._before.get(name) != state:
                data = left_file(self._start, name, secrets, LARGEST)
                found = read_percent(data) if isinstance(data, bytes) else None
                if found is not None:
                    return found
        return None

    def _found(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        for name in _COVERAGE_FILES:
            try:
                facts = (self._start / name).lstat()
            except OSError:
                continue
            yield name, (facts.st_ino, facts.st_mtime_ns, facts.st_size)


def read_percent(data: bytes) -> float | None:
    """Return the lines that tests executed, in per cent, from a coverage report; None if it is none.

    Reads Cobertura's and JaCoCo's XML, the JSON of coverage.py and of Istanbul's summary, LCOV, and Go's cover profile.
    """
    head = data.lstrip()[:5]
    if head[:1] == b"{":
        found = _percent_in_json(data)
    elif head[:1] == b"<":
        rate, lines = _LINE_RATE.search(data[:4096]), _JACOCO.findall(data)
        found = _share(*map(int, lines[-1])) if lines else None  # the last counter is that of the whole
        found = float(rate[1]) * 100 if rate and rate[1].count(b".") < 2 else found  # noqa: PLR2004
    elif head == b"mode:":
        blocks = [(int(count), int(hits) > 0) for count, hits in _GO.findall(data)]
        covered = sum(count for count, hit in blocks if hit)
        found = _share(sum(count for count, _ in blocks) - covered, covered)
    else:
        sums = Counter[bytes]()
        for key, value in _LCOV.findall(data):
            sums[key] += int(value)
        found = _share(sums[b"LF"] - sums[b"LH"], sums[b"LH"])
    return found if found is not None and 0 <= found <= 100 else None  # noqa: PLR2004  (per cent)


def _share(missed: int, covered: int) -> float | None:
    return 100 * covered / (missed + covered) if missed + covered > 0 else None


def _percent_in_json(data: bytes) -> float | None:
    try:
        value = json.loads(data)
        found = value["totals"]["percent_covered"] if "totals" in value else value["total"]["lines"]["pct"]
        return float(found)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


_MOST_ROWS = 2_000_000  # rows; bounds the time to read a hostile coverage file
_MOST_STEPS = 20_000
"""Thousands of instructions that SQLite may take for a file: it is written by untrusted code."""
_COVERED = """
    SELECT context.context, file.path
    FROM (SELECT context_id, file_id FROM line_bits UNION SELECT context_id, file_id FROM arc) AS ran
    JOIN context ON context.id = ran.context_id JOIN file ON file.id = ran.file_id LIMIT ?
"""


def read_coverage(data: bytes, paths: Collection[str]) -> dict[str, frozenset[str]]:
    """Read which files each test executed, from coverage.py's data file with pytest-cov's contexts; empty if unknown.

    The keys are the ids of pytest: ``tests/test_a.py::test_b``. The set-up of a test counts for all tests of its file,
    because only the first one executes what they share: its key is ``tests/test_a.py``. Imports have the key ``""``.

    Args:
        data: the file.
        paths: files of the tree; others, such as installed packages, are left out.
    """
    import sqlite3

    found: dict[str, set[str]] = {}
    inside: dict[str, str] = {}
    steps = iter(range(_MOST_STEPS))
    base = sqlite3.connect(":memory:")
    try:
        base.deserialize(data)
        base.set_progress_handler(lambda: next(steps, None) is None, 1000)
        for context, path in base.execute(_COVERED, (_MOST_ROWS,)):
            if path not in inside:
                parts = str(path).split("/")
                ends = ("/".join(parts[place:]) for place in range(len(parts)))
                inside[path] = next((end for end in ends if end in paths), "")
            test, _, phase = str(context).rpartition("|")
            key = test.partition("::")[0] if phase == "setup" else test
            found.setdefault(key, set()).update({inside[path]} - {""})
    except (sqlite3.Error, AttributeError, OverflowError):  # not every SQLite reads from memory
        return {}
    finally:
        base.close()
    return {test: frozenset(files) for test, files in found.items()} if any("::" in test for test in found) else {}
