"""The tests that a run shows: what runners print, and the reports that Gradle, Maven and sbt leave in the tree.

Names are evidence where a runner gives them; else the number of tests is. Pure, but for `Written`.

Checks that run only some of their tests: those that a change is likely to break, or those that failed before.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from executor.checks.blindness import kind_of
from executor.checks.junit import LARGEST, Report, ReportError, read_junit
from executor.model.fingerprint import combined_key
from executor.process.files import left_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from executor.checks.spec import CommandProof
    from executor.git.diff import FileChange

__all__ = [
    "Selection",
    "Written",
    "by_coverage",
    "by_names",
    "measured",
    "narrowed",
    "outcome_of",
    "ran_no_test",
    "read_console",
    "reported",
    "says_no_test",
]

_BUILDS = ("pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts", "build.sbt")
_REPORTS = frozenset({"surefire-reports", "failsafe-reports", "test-results", "test-reports"})
_DEEPEST = 8  # levels of folders; a choice
_MOST_REPORTS = 5_000  # files; bounds the walk through a tree with generated XML


class Written:
    """The JUnit reports that a build leaves in its tree.

    Args:
        start: folder in which the build runs; reports that lie there already are no evidence.
    """

    def __init__(self, start: Path) -> None:
        self._start = start
        self._builds = any((start / name).is_file() for name in _BUILDS)
        self._before = dict(self._found())

    def report(self, secrets: Iterable[str]) -> Report | None:
        """Return the cases of all new reports; None without any, or if one of them is not credible."""
        cases: list[Report] = []
        left = LARGEST
        for path, state in self._found():
            if self._before.get(path) == state:
                continue
            data = left_file(path.parent, path.name, secrets, left)
            if isinstance(data, str):
                return None
            left -= len(data)
            try:
                cases.append(read_junit(data))
            except ReportError:
                return None
        failures, errors, skipped, names = (
            tuple(name for case in cases for name in getattr(case, kind))
            for kind in ("failures", "errors", "skipped", "names")
        )
        return Report(len(names), failures, errors, skipped, names) if cases else None

    def _found(self) -> Iterator[tuple[Path, tuple[int, int, int]]]:
        if not self._builds:
            return
        count = 0
        for name, folders, files in os.walk(self._start):
            folder = Path(name)
            parts = folder.relative_to(self._start).parts
            folders[:] = [
                inner for inner in folders if inner[0] != "." and inner != "node_modules" and len(parts) < _DEEPEST
            ]
            for file in sorted(files) if not _REPORTS.isdisjoint(parts) else ():
                count += file.endswith(".xml")
                if file.endswith(".xml") and count <= _MOST_REPORTS:
                    facts = (folder / file).lstat()
                    yield folder / file, (facts.st_ino, facts.st_mtime_ns, facts.st_size)


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


_MOST_NAMED = 100_000  # tests; bounds the memory for a total that a hostile log only claims
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PASSED, _FAILED, _SKIPPED = "passed", "failed", "skipped"
_WORDS = {
    **dict.fromkeys("PASS PASSED ok Passed ✔ ✓ √".split(), _PASSED),  # noqa: SIM905
    **dict.fromkeys("FAIL FAILED Failed ERROR Errored ✖ ✗ ✘ \u00d7 ***Failed ***Timeout ***Exception".split(), _FAILED),  # noqa: SIM905
    **dict.fromkeys("SKIP SKIPPED Skipped ignored skipped ﹣ ○ ↓ □ ✎ ↩ ∅ ***Skipped".split(), _SKIPPED),  # noqa: SIM905
    "not ok": _FAILED,
    "***Not Run": _SKIPPED,
}
_LINES = (
    re.compile(r"\s*--- (?P<word>PASS|FAIL|SKIP): (?P<name>\S+) \("),  # go test -v
    re.compile(r"test (?P<name>\S.*?) \.\.\. (?P<word>ok|FAILED|ignored)\b"),  # cargo test
    re.compile(r"(?P<name>test\w* \([\w.]+\)).*? \.\.\. (?P<word>ok|FAIL|ERROR|skipped)\b"),  # unittest -v
    re.compile(
        r"\s*\d+/\d+ Test +#\d+: (?P<name>\S.*?) \.*\s*"
        r"(?P<word>Passed|\*\*\*(?:Failed|Timeout|Skipped|Not Run|Exception))"
    ),  # ctest
    re.compile(r"(?P<name>\S.* > \S.*?) (?P<word>PASSED|FAILED|SKIPPED)$"),  # gradle with testLogging
    re.compile(r"Test (?P<word>Passed|Failed|Errored|Skipped) \((?P<name>\S.*)\)$"),  # phpunit --debug
    # the spec reporter of node, jest --verbose, mocha, vitest, phpunit --testdox
    re.compile(r"\s*(?P<word>[✔✓√✖✗✘\u00d7﹣○↓□✎↩∅]) (?P<name>\S.*?)(?: +\(?\d[\d.]*\s?m?s\)?)?(?: # SKIP.*)?$"),
)
_FILE = re.compile(
    r"\s*[✓✔\u276f\u00d7✗↓] (?P<file>\S+) +\((?P<all>\d+)(?: tests?)?(?P<more>(?: \| \d+ \w+)*)\)(?: +[\d.]+ ?m?s)?"
    r"(?: .*)?$"
)
"""A file of tests as vitest prints it: how many there are in it."""
_JEST = re.compile(r"(?m)^(?P<word>PASS|FAIL) +(?P<name>\S.*?)(?: \([\d.]+ m?s\))?$")
"""A file of tests as jest prints it."""
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
    re.compile(r"(?m)^test result: \w+\. (?P<ran>\d+) passed; \d+ failed; (?P<skipped>\d+) ignored"),  # cargo -q
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
        files = [(match["name"], _WORDS[match["word"]]) for match in _JEST.finditer(text)]
        counted = _counted(text)
        found = _documented(text) or [*(files if counted else ()), *counted]
    if not found:
        return None
    names = {word: tuple(name for name, said in found if said == word) for word in (_FAILED, _SKIPPED)}
    return Report(len(found), names[_FAILED], (), names[_SKIPPED], tuple(name for name, _ in found))


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
        if file := _FILE.match(line):
            found += _of_file(file)
            continue
        if package := re.match(r"(?:ok|FAIL)\s+(\S+)\s+(?:\(cached\)|[\d.]+s)", line):
            found[open_from:] = [(f"{package[1]}: {name}", word) for name, word in found[open_from:]]
            open_from = len(found)
            continue
        for pattern in _LINES:
            if match := pattern.match(line):
                found.append((match["name"], _WORDS[match["word"]]))
                break
    return found


def _of_file(match: re.Match[str]) -> list[tuple[str, str]]:
    words = {"failed": _FAILED, "skipped": _SKIPPED, "todo": _SKIPPED}
    counts = {words.get(word, ""): 0 for word in ("", *words)}
    for number, word in re.findall(r"\| (\d+) (\w+)", match["more"]):
        counts[words.get(word, "")] += int(number)
    total = min(int(match["all"]), _MOST_NAMED)
    said = [word for word in (_FAILED, _SKIPPED) for _ in range(min(counts[word], total))][:total]
    return [(match["file"], word) for word in (*said, *[_PASSED] * (total - len(said)))]


def _documented(text: str) -> list[tuple[str, str]]:
    """Tests as `rspec --format documentation` prints them; none if they are not as many as it says."""
    said = re.search(r"(?m)^(\d+) examples?, \d+ failures?", text)
    found: list[tuple[str, str]] = []
    above: list[tuple[int, str]] = []
    lines = [
        line for line in re.split(r"(?m)^(?:Pending:|Failures:|Finished in )", text)[0].split("\n") if line.strip()
    ]
    for line, after in zip(lines, [*lines[1:], ""], strict=False):
        depth = len(line) - len(line.lstrip())
        above = [item for item in above if item[0] < depth]
        if depth and len(after) - len(after.lstrip()) <= depth:
            name = re.sub(r" \((?:FAILED - \d+|PENDING: .*)\)$", "", line.strip())
            word = _FAILED if " (FAILED - " in line else _SKIPPED if " (PENDING: " in line else _PASSED
            found.append((" ".join([*(item[1] for item in above), name]), word))
        above.append((depth, line.strip()))
    return found if said and len(found) == int(said[1]) else []


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


_SHELL = ("sh", "-c")
_MOST_TESTS = 40  # names in one command line; a choice, with more the whole suite runs
_GO = re.compile(r"(?:\w+=\S*\s+)*go\s+test\b[^;&|<>]*")
_CARGO = re.compile(r"(?:\w+=\S*\s+)*cargo\s+(?:\+\S+\s+)?test\b[^;&|<>]*")
_NODE = re.compile(r"(?:\w+=\S*\s+)*node\s[^;&|<>]*--test(?=\s|$)[^;&|<>]*")


def narrowed(item: CommandProof, tests: Sequence[str]) -> CommandProof | None:
    """Return a check that runs only these tests, or a few more; None if its runner does not take names of tests.

    A runner that ignores the selection runs them all: `outcome_of` looks at the report and not at the exit code.

    Args:
        item: the check: one call of pytest, go, cargo or node.
        tests: names of tests as reports have them.
    """
    if not tests or len(tests) > _MOST_TESTS:
        return None
    text = item.argv[2] if tuple(item.argv[:2]) == _SHELL else shlex.join(item.argv)
    argv, env = item.argv, dict(item.env)
    if item.calls_pytest:
        names = _plain([re.split(r"::|\.", name.partition("[")[0])[-1] for name in tests], r"[^\W\d]\w*")
        env["PYTEST_ADDOPTS"] = f"{env.get('PYTEST_ADDOPTS', '')} -k {shlex.quote(' or '.join(names))}".strip()
    elif _GO.fullmatch(text) and "-run" not in text:
        names = _plain([name.rpartition(": ")[2].partition("/")[0] for name in tests], r"\w+")
        env["GOFLAGS"] = f"{env.get('GOFLAGS', '')} -run=^({'|'.join(names)})$".strip()
    elif _CARGO.fullmatch(text):
        names = _plain(tests, r"[\w:]+")
        argv = _with_words(item.argv, names if "--" in text.split() else ["--", *names], "")
    elif _NODE.fullmatch(text):
        names = sorted(set(tests))
        argv = _with_words(item.argv, [f"--test-name-pattern=^{re.escape(name)}$" for name in names], "--test")
    else:
        return None
    if not names:
        return None
    return _part(replace(item, argv=argv, env=tuple(sorted(env.items()))), tests)


def _part(item: CommandProof, tests: Iterable[str]) -> CommandProof:
    every = sorted(tests)
    name, key = f"{item.name} ({len(every)} of its tests)", combined_key([item.key, "tests", *every])
    return replace(item, name=name, key=key, named=False, retries=0)


def outcome_of(report: Report | None, tests: Sequence[str]) -> bool | None:
    """Return whether none of these tests fails in the report of a narrowed check; None if the report cannot tell.

    A test that does not exist in the tree does not fail there.
    """
    if report is None:
        return None
    failed, wanted = {*report.failures, *report.errors}, set(tests)
    if failed & wanted:
        return False
    return None if failed else True


def _plain(names: Iterable[str], form: str) -> list[str]:
    """Return the names, each once; none if one of them has a form that the runner would misunderstand."""
    found = sorted(set(names))
    return found if all(re.fullmatch(form, name) for name in found) else []


def _with_words(argv: tuple[str, ...], words: Sequence[str], after: str) -> tuple[str, ...]:
    """Return an argument list with words after a word of it, or at its end."""
    if tuple(argv[:2]) != _SHELL:
        place = argv.index(after) + 1 if after else len(argv)
        return (*argv[:place], *words, *argv[place:])
    text = shlex.join(words)
    head, found, tail = argv[2].partition(f"{after} ") if after else (argv[2], "", "")
    return (*_SHELL, f"{head}{found.rstrip()} {text} {tail}".rstrip() if found else f"{head} {text}", *argv[3:])


_AT_IMPORT = re.compile(
    r"(?!def|class|if|from|import|async|with|for|try)[A-Za-z_][\w.]*\s*(?:[(\[]|:[^=]+=|[-+*/|&]?=[^=])"
)
"""A statement of a module that runs when it is imported, such as the value of a constant."""
_MOST_OPTIONS = 100_000
"""Maximum length of an environment variable in bytes; Linux takes 131,072."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The tests that a change is likely to break: their names, how many tests there are, and the check that runs them.

    `item` is None if no test is selected, or all.
    """

    tests: frozenset[str]
    of: int
    item: CommandProof | None = None


def measured(item: CommandProof) -> CommandProof:
    """Return a check that finds out which files each of its tests executes, by pytest-cov."""
    key = combined_key([item.key, "coverage"])
    return replace(item, name=f"{item.name} (coverage)", key=key, named=False, retries=0, coverage=True)


def by_coverage(item: CommandProof, reached: Mapping[str, frozenset[str]], changed: Sequence[FileChange]) -> Selection:
    """Select the tests that executed a changed file, by whole files of tests where they are many.

    All tests are selected if a file changes whose readers coverage does not show: one that is no Python module, a
    conftest.py, a module that is only imported, or a value that a module sets when it is imported.

    Args:
        item: the check, a call of pytest.
        reached: test -> files, as `executor.checks.junit.read_coverage` gives them.
        changed: all files that differ from the tree in which `reached` was measured.
    """
    tests = {test: test.partition("::")[0] for test in reached if "::" in test}
    every = Selection(frozenset(map(reported, tests)), len(tests))
    chosen: set[str] = set()
    for file in (file for file in changed if kind_of(file.path) != "docs"):
        met = {key for key, files in reached.items() if file.path in files or tests.get(key) == file.path}
        if _is_read_elsewhere(file, met):
            return every
        chosen |= met - {""}
    few = {test for test, file in tests.items() if test in chosen or file in chosen}
    own = {file.path for file in changed if kind_of(file.path) == "test"}
    if len(few) == len(tests):
        return every
    if not few and not own:
        return replace(every, tests=frozenset())
    part = None if own else narrowed(item, sorted(map(reported, few)))
    if part is None:
        kept = own | {tests[test] for test in few}
        few = {test for test, file in tests.items() if file in kept}
        options = " ".join(f"--ignore={shlex.quote(file)}" for file in sorted({*tests.values()} - kept))
        if not options or len(options) > _MOST_OPTIONS:
            return every
        env = dict(item.env)
        env["PYTEST_ADDOPTS"] = f"{env.get('PYTEST_ADDOPTS', '')} {options}".strip()
        part = replace(_part(item, [*map(reported, few), *own]), env=tuple(sorted(env.items())))
    return Selection(frozenset(map(reported, few)), len(tests), part)


def _is_read_elsewhere(file: FileChange, met: set[str]) -> bool:
    """Return whether a changed file has readers that coverage does not show; `met` are the tests that executed it."""
    if not file.path.endswith(".py") or file.path.rpartition("/")[2] == "conftest.py":
        return True
    kind = kind_of(file.path)
    if file.kind == "created":
        return kind == "tooling"
    if met <= {""} and (met or kind != "product"):
        return True
    return kind != "test" and any(_AT_IMPORT.match(line.text) for line in file.lines)


def by_names(item: CommandProof, names: Sequence[str], texts: Mapping[str, str]) -> Selection:
    """Select the tests whose names are in the changed files or in their twins; all tests if a file has none.

    Args:
        item: the check.
        names: names of all its tests, as its last report has them.
        texts: changed file -> its text and that of its twins.
    """
    every = Selection(frozenset(names), len(names))
    chosen: set[str] = set()
    for path, text in texts.items():
        met = {name for name in names if _last_part(name) in text}
        if not met and kind_of(path) != "docs":
            return every
        chosen |= met
    part = narrowed(item, sorted(chosen))
    return Selection(frozenset(chosen), len(names), part) if part is not None or not chosen else every


def reported(test: str) -> str:
    """Return the name of a test in pytest's report: ``tests.test_a.TestX::test_b[1]``."""
    plain, bracket, parameters = test.partition("[")
    path, *names = plain.split("::")
    owner = ".".join([path.removesuffix(".py").replace("/", "."), *names[:-1]])
    return f"{owner}::{names[-1]}{bracket}{parameters}" if names else owner


def _last_part(name: str) -> str:
    return re.split(r"::|: ", name.partition("[")[0])[-1].partition("/")[0].strip()
