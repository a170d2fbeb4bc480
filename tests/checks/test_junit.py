"""Shapes are those that each runner writes; refused inputs are what an agent, or a broken runner, leaves instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.checks.console import Written, read_console
from executor.checks.junit import (
    LARGEST,
    CoverageFiles,
    Report,
    ReportError,
    junit_of,
    lost_tests,
    missing_evidence,
    new_failures,
    read_junit,
    read_percent,
)

if TYPE_CHECKING:
    from pathlib import Path

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1"
failures="1" skipped="1" tests="5" time="0.031" timestamp="2026-11-21T07:50:48+00:00" hostname="h">
<testcase classname="tests.test_a.TestA" name="test_ok" time="0.001" />
<testcase classname="tests.test_a" name="test_p[1-a b]" time="0.001" />
<testcase classname="tests.test_a" name="test_bad" time="0.001"><failure message="assert 1 == 2">def test_bad():
&gt; assert 1 == 2</failure></testcase>
<testcase classname="tests.test_a" name="test_skip" time="0.0"><skipped type="pytest.skip"
 message="no">x</skipped></testcase>
<testcase classname="" name="tests.test_b" time="0.0"><error
 message="collection failure">ImportError</error></testcase>
</testsuite></testsuites>"""
XMLRUNNER = b"""<?xml version="1.0" ?>
<testsuites>
<testsuite name="tests.test_x.XTest-20261121075048" tests="3" file="tests/test_x.py" time="0.001" failures="0"
 errors="1"
 skipped="1">
 <properties><property name="a" value="b"/></properties>
 <testcase classname="tests.test_x.XTest" name="test_a" time="0.0" timestamp="2026" file="tests/test_x.py" line="3"/>
 <testcase classname="tests.test_x.XTest" name="test_b" time="0.0"><error type="KeyError"
 message="'k'"><![CDATA[<!DOCTYPE html>]]></error></testcase>
 <testcase classname="tests.test_x.XTest" name="test_c" time="0"><skipped type="skip" message="later"/></testcase>
 <system-out><![CDATA[<html><!DOCTYPE x></html>]]></system-out>
</testsuite></testsuites>"""
JEST = b"""<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="jest tests" tests="3" failures="1" errors="0" time="1.2">
<testsuite name="math" errors="0" failures="1" skipped="0" timestamp="2026" time="0.5" tests="2">
<testcase classname="math adds" name="math adds" time="0.003"></testcase>
<testcase classname="math fails" name="math fails" time="0.003"><failure>Error: expect(received)</failure></testcase>
</testsuite>
<testsuite name="util" errors="0" failures="0" skipped="1" timestamp="2026" time="0.5" tests="1">
<testcase classname="util todo" name="util todo" time="0"><skipped/></testcase>
</testsuite></testsuites>"""
SUREFIRE = b"""<?xml version="1.0" encoding="UTF-8"?>
<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="https://x/s.xsd"
 version="3.0" name="com.acme.ATest" time="0.1" tests="4" errors="0" skipped="1" failures="0">
 <properties><property name="java.version" value="21"/></properties>
 <testcase name="adds" classname="com.acme.ATest" time="0.01"/>
 <testcase name="sums" classname="com.acme.ATest" time="0.01"/>
 <testcase name="sums" classname="com.acme.ATest" time="0.01"><flakyFailure type="x">once</flakyFailure></testcase>
 <testcase name="later" classname="com.acme.ATest" time="0"><skipped message="no"/></testcase>
</testsuite>"""
SUBTESTS = b"""<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0"
 failures="1" skipped="1" tests="12" time="0.196"><testcase classname="test_s.T" name="test_a" time="0.039" />
<testcase classname="test_s.T" name="test_b" time="0.070"><failure message="False is not true">x</failure></testcase>
<testcase classname="test_s.T" name="test_c" time="0.015"><skipped type="pytest.skip" message="no"/></testcase>
</testsuite></testsuites>"""
"""pytest 9 counts the passed subtests, and lists none of them."""
CTEST = b"""<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="(empty)"
\ttests="4"
\tfailures="1"
\tdisabled="1"
\tskipped="1"
\thostname=""
\ttime="1"
\t>
\t<testcase name="adds" classname="adds" time="0.0156406" status="run"><system-out></system-out></testcase>
\t<testcase name="bad" classname="bad" time="0.0182389" status="fail"><failure message=""/></testcase>
\t<testcase name="off" classname="off" time="0" status="disabled"><system-out>Disabled</system-out></testcase>
\t<testcase name="gone" classname="gone" time="0" status="notrun"><skipped message="Unable to find"/></testcase>
</testsuite>"""
GOTESTSUM = b"""<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="2" failures="1" errors="0" time="0.3">
<testsuite tests="2" failures="1" time="0.1" name="github.com/acme/x" timestamp="2026">
<properties><property name="go.version" value="go1.25"></property></properties>
<testcase classname="github.com/acme/x" name="TestA" time="0.0"></testcase>
<testcase classname="github.com/acme/x" name="TestA/sub_1" time="0.0"><failure message="Failed"
 type="">x_test.go:3</failure></testcase>
</testsuite>
<testsuite tests="0" failures="0" time="0.1" name="github.com/acme/y" timestamp="2026">
<testcase classname="github.com/acme/y" name="TestMain" time="0.0"><failure message="Failed"
 type=""></failure></testcase>
</testsuite></testsuites>"""
CARGO = b"""<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite id="0" name="acme"
 package="testsuite/acme" tests="2"
 errors="0" failures="0" hostname="localhost" timestamp="2026" time="0"><testcase name="parses"
 classname="parse::tests" />
<testcase name="it_works" /></testsuite></testsuites>"""
NESTED = b"""<testsuites tests="2"><testsuite name="all" tests="2"><testsuite name="inner" tests="1">
<testcase name="a"/></testsuite><testcase name="b"/></testsuite></testsuites>"""
TEARDOWN = b"""<testsuites><testsuite name="pytest" errors="1" failures="0" skipped="0" tests="2"><testcase
 classname="t"
 name="test_a"><error message="failed on teardown">x</error></testcase></testsuite></testsuites>"""
DOUBLE = b"""<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="0" tests="1"><testcase
 classname="t"
 name="test_a"><failure message="x"/></testcase><testcase classname="t" name="test_a"><error message="y"/></testcase>
</testsuite></testsuites>"""
WHOLE = b'<testsuite name="s" tests="0" errors="1"><error message="did not load"/></testsuite>'


def report(names: str, failures: str = "", errors: str = "", skipped: str = "") -> Report:
    """Names are given with spaces between them."""
    found = tuple(names.split())
    return Report(len(found), tuple(failures.split()), tuple(errors.split()), tuple(skipped.split()), found)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            PYTEST,
            Report(
                5,
                ("tests.test_a::test_bad",),
                ("pytest::tests.test_b",),
                ("tests.test_a::test_skip",),
                (
                    "tests.test_a.TestA::test_ok",
                    "tests.test_a::test_p[1-a b]",
                    "tests.test_a::test_bad",
                    "tests.test_a::test_skip",
                    "pytest::tests.test_b",
                ),
            ),
        ),
        (
            XMLRUNNER,
            report(
                "tests.test_x.XTest::test_a tests.test_x.XTest::test_b tests.test_x.XTest::test_c",
                errors="tests.test_x.XTest::test_b",
                skipped="tests.test_x.XTest::test_c",
            ),
        ),
        (
            JEST,
            Report(
                3,
                ("math fails::math fails",),
                (),
                ("util todo::util todo",),
                ("math adds::math adds", "math fails::math fails", "util todo::util todo"),
            ),
        ),
        (
            SUREFIRE,
            report(
                "com.acme.ATest::adds com.acme.ATest::sums com.acme.ATest::sums com.acme.ATest::later",
                skipped="com.acme.ATest::later",
            ),
        ),
        (
            GOTESTSUM,
            report(
                "github.com/acme/x::TestA github.com/acme/x::TestA/sub_1 github.com/acme/y::TestMain",
                failures="github.com/acme/x::TestA/sub_1 github.com/acme/y::TestMain",
            ),
        ),
        (CARGO, report("parse::tests::parses acme::it_works")),
        (
            SUBTESTS,
            report(
                "test_s.T::test_a test_s.T::test_b test_s.T::test_c",
                failures="test_s.T::test_b",
                skipped="test_s.T::test_c",
            ),
        ),
        (CTEST, report("adds::adds bad::bad off::off gone::gone", failures="bad::bad", skipped="off::off gone::gone")),
        (NESTED, report("inner::a all::b")),
        (TEARDOWN, report("t::test_a", errors="t::test_a")),
        (DOUBLE, report("t::test_a t::test_a", failures="t::test_a", errors="t::test_a")),
        (WHOLE, report("", errors="s")),
        (b'\xef\xbb\xbf<!-- by hand --><testsuite><testcase name="a"/></testsuite>\n', report("a")),
        (b'<j:testsuite xmlns:j="urn:j"><j:testcase name="a\n b"/></j:testsuite>', Report(1, (), (), (), ("a b",))),
        (b'<?xml version="1.0" encoding="iso-8859-1"?><testsuite><testcase name="\xe4"/></testsuite>', report("ä")),
    ],
)
def test_the_shapes_of_real_runners_are_read(data: bytes, expected: Report) -> None:
    assert read_junit(data) == expected


LAUGHS = b'<!DOCTYPE l [<!ENTITY a "ha">' + b"".join(
    b'<!ENTITY %c "&%c;&%c;">' % (98 + n, 97 + n, 97 + n) for n in range(20)
)
NO_TYPE = "the report has a document type declaration"
UNREADABLE = "the report is not XML in a readable encoding"
BROKEN = "the report is not well-formed XML: "


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the report is empty"),
        (b" \n\t", "the report is empty"),
        (b'<?xml version="1.0"?>\n', "the report is empty"),
        (LAUGHS + b"]><testsuite><testcase name='&t;'/></testsuite>", NO_TYPE),
        (b'<?xml version="1.0"?><!-- x --><!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite/>', NO_TYPE),
        (b'<!DOCTYPE testsuite SYSTEM "http://evil/x.dtd"><testsuite/>', NO_TYPE),
        (b"<!DOCTYPE html><html></html>", NO_TYPE),
        (b"<html><body>502 Bad Gateway</body></html>", "the report is not JUnit's: its root is <html>"),
        (b'{"numTotalTests": 3}', UNREADABLE),
        (b"ok 1 - adds\nok 2 - sums\n", UNREADABLE),
        ('<?xml version="1.0" encoding="utf-16"?><testsuite/>'.encode("utf-16"), UNREADABLE),
        (b'<?xml version="1.0" encoding="nonsense"?><testsuite/>', BROKEN + "unknown encoding: nonsense"),
        (PYTEST[:-40], BROKEN + "unclosed token: line 10, column 41"),
        (b"<testsuite><testcase name='a'></testsuite>", BROKEN + "mismatched tag: line 1, column 32"),
        (b"<testsuite><testcase name='&x;'/></testsuite>", BROKEN + "undefined entity: line 1, column 11"),
        (b"<testsuite>\x00</testsuite>", BROKEN + "not well-formed (invalid token): line 1, column 11"),
        (b"<testsuite><testcase name='\xff'/></testsuite>",
         BROKEN + "not well-formed (invalid token): line 1, column 27"),
        (b"<testsuite/><testsuite/>", BROKEN + "junk after document element: line 1, column 12"),
        (b"<testsuite>" + b"<a>" * 50, "the report is nested deeper than 50 levels"),
        (b"<testsuite>" * 100_000, "the report is nested deeper than 50 levels"),
        (b"<testsuites/>", "the report has no testsuite"),
        (b'<testsuites><testcase name="a"/></testsuites>', "the report has no testsuite"),
        (b"<testsuite><testcase/></testsuite>", "the report has a testcase without a name"),
        (b'<testsuite tests="many"/>', "the report says tests='many', which is no count"),
        (b'<testsuite tests="-1"/>', "the report says tests='-1', which is no count"),
        (b'<testsuite tests="3"/>', "the report contradicts itself: it says tests=3 and lists 0"),
        (b'<testsuites tests="0"><testsuite><testcase name="a"/></testsuite></testsuites>',
         "the report contradicts itself: it says tests=0 and lists 1"),
        (b'<testsuite failures="0"><testcase name="a"><failure/></testcase></testsuite>',
         "the report contradicts itself: it says failures=0 and lists 1"),
        (b'<testsuite failures="2" tests="1"><testcase name="a"/></testsuite>',
         "the report contradicts itself: it says failures=2 and lists 0"),
        (b'<testsuite errors="1"><testcase name="a"/></testsuite>',
         "the report contradicts itself: it says errors=1 and lists 0"),
        (b'<testsuite skipped="1"><testcase name="a"/></testsuite>',
         "the report contradicts itself: it says skipped=1 and lists 0"),
        (b"<testsuite>" + b" " * LARGEST + b"</testsuite>", "the report is larger than 32 MiB"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(ReportError) as caught:
        read_junit(data)
    assert str(caught.value) == message


def test_a_report_at_the_limits_is_read() -> None:
    inner = b"<properties>" * 49 + b"</properties>" * 49
    text = b'<testsuite><testcase name="a"/>' + inner + b"</testsuite>"
    assert read_junit(text + b" " * (LARGEST - len(text))) == report("a")


@pytest.mark.parametrize(
    ("now", "base", "message"),
    [
        (None, None, "it exited 0 but wrote no test report"),
        (None, report("a"), "it exited 0 but wrote no test report"),
        (report(""), None, "it exited 0 but its report has no test"),
        (report(""), report(""), "it exited 0 but its report has no test"),
        (report("a b", failures="a"), None, "it exited 0 but its report has 1 failure: a"),
        (report("a b", "a", "b"), report("a"), "it exited 0 but its report has 2 failures: a, b"),
        (report("a b", skipped="a b"), None, "it exited 0 but skipped every test: a, b"),
        (report("a"), report("a b c"), "it exited 0 but has 1 test where the base has 3; gone: b, c"),
        (report("x y"), report("a b c"), "it exited 0 but has 2 tests where the base has 3; gone: a, b, c"),
        (report("p"), report("p p"), "it exited 0 but has 1 test where the base has 2; gone: p"),
        (
            report("x"),
            report("a b c d e f g h"),
            "it exited 0 but has 1 test where the base has 8; gone: a, b, c, d, e and 3 more",
        ),
        (report("a x"), report("a b"), "it exited 0 but no longer runs 1 test that ran on the base: b"),
        (report("a x y z"), report("a b c"), "it exited 0 but no longer runs 2 tests that ran on the base: b, c"),
        (report("a b", skipped="b"), report("a b"), "it exited 0 but now skips 1 test that ran on the base: b"),
        (
            report("a b c d", skipped="b c"),
            report("a b c", skipped="a"),
            "it exited 0 but now skips 2 tests that ran on the base: b, c",
        ),
        (report("a"), None, None),
        (report("a"), report(""), None),
        (report("a"), report("a"), None),
        (report("b a"), report("a b"), None),
        (report("a b c"), report("a b", failures="a", errors="b"), None),
        (report("a b", skipped="b"), report("a b", skipped="b"), None),
        (report("a c", skipped="c"), report("a b", skipped="b"), None),
        (report("a b c", skipped="c"), report("a b"), None),
    ],
)
def test_why_an_exit_of_0_is_not_believed(now: Report | None, base: Report | None, message: str | None) -> None:
    assert missing_evidence(now, base) == message


def test_long_names_are_cut() -> None:
    problem = missing_evidence(report("a" * 999, failures="a" * 999), None)
    assert problem is not None
    assert problem.endswith(": " + "a" * 200 + "...")


@pytest.mark.parametrize(
    ("now", "base", "expected"),
    [
        (report("a"), report("a"), ""),
        (report("a b", failures="a"), report("a b"), "a"),
        (report("a b", failures="a"), report("a b", failures="a"), ""),
        (report("a b", failures="a"), report("a b", errors="a"), ""),
        (report("a b", "b", "a"), report("a b", "a"), "b"),
        (report("a n", failures="n"), report("a"), "n"),
        (report("a", failures="a"), report("a", skipped="a"), "a"),
        (report("a"), report("a", failures="a"), ""),
        (report("p p", failures="p p"), report("p p", failures="p"), "p"),
        (report("p p", failures="p"), report("p p", failures="p"), ""),
        (report("t t", "t", "t"), report("t", "t"), ""),
        (report("c b a", "c a", "b"), report(""), "c a b"),
        (read_junit(GOTESTSUM), read_junit(CARGO), "github.com/acme/x::TestA/sub_1 github.com/acme/y::TestMain"),
    ],
)
def test_only_what_did_not_fail_on_the_base_is_a_new_failure(now: Report, base: Report, expected: str) -> None:
    assert new_failures(now, base) == tuple(expected.split())


PIECES = (
    *(
        b"<testsuite",
        b"<testsuites>",
        b"<testcase name='a'",
        b">",
        b"/>",
        b"<failure/>",
        b"</testcase>",
        b"</testsuite>",
    ),
    *(b" tests='1'", b"<!DOCTYPE", b"<![CDATA[", b"]]>", b"<?xml version='1.0' encoding='utf-7'?>", b"&a;", b"\x00"),
)


def read(data: bytes) -> Report | str:
    try:
        return read_junit(data)
    except ReportError as error:
        return str(error)


@pytest.mark.parser
@given(st.binary() | st.lists(st.sampled_from(PIECES) | st.binary(max_size=3)).map(b"".join))
def test_any_bytes_give_a_report_or_one_line(data: bytes) -> None:
    found = read(data)
    if isinstance(found, str):
        assert found.startswith("the report ")
        assert "\n" not in found
    else:
        assert found.tests == len(found.names)
        assert set(found.failures) | set(found.skipped) <= set(found.names)


@given(st.integers(0, len(PYTEST)))
def test_a_report_cut_anywhere_is_refused(length: int) -> None:
    if length < len(PYTEST):
        with pytest.raises(ReportError):
            read_junit(PYTEST[:length])
    problem = missing_evidence(read_junit(PYTEST), None) or ""
    assert problem.startswith("it exited 0 but its report has 2 failures: ")


PRINTED = {
    "go": (
        """=== RUN   TestA
--- PASS: TestA (0.00s)
    --- SKIP: TestA/x (0.00s)
PASS
ok  \ta.b/c\t0.01s
--- FAIL: TestB (0.1s)
FAIL\ta.b/d\t0.2s
""",
        ["a.b/c: TestA", "a.b/c: TestA/x", "a.b/d: TestB"],
        ["a.b/c: TestA/x"],
        ["a.b/d: TestB"],
    ),
    "cargo": (
        "test a::b ... ok\ntest a::c ... ignored\ntest src/lib.rs - add (line 3) ... FAILED\n",
        ["a::b", "a::c", "src/lib.rs - add (line 3)"],
        ["a::c"],
        ["src/lib.rs - add (line 3)"],
    ),
    "unittest": (
        "test_a (m.T.test_a) ... ok\ntest_b (m.T.test_b) ... skipped 'x'\n",
        ["test_a (m.T.test_a)", "test_b (m.T.test_b)"],
        ["test_b (m.T.test_b)"],
        [],
    ),
    "TAP of node": (
        "TAP version 13\n# Subtest: adds\nok 1 - adds\n  ---\n  ...\n# Subtest: subs\nok 2 - subs # SKIP\n1..2\n",
        ["adds", "subs"],
        ["subs"],
        [],
    ),
    "TAP of tape": (
        "TAP version 13\n# one\nok 1 equal\nnot ok 2 equal\n# two\nok 3 x\n\n1..3\n",
        ["one", "two"],
        [],
        ["one"],
    ),
    "TAP of bats": ("1..2\nok 1 a b\nnot ok 2 c\n", ["a b", "c"], [], ["c"]),
    "spec": (
        "▶ x\n  ✔ adds (1.2ms)\n  ﹣ subs (0.1ms) # SKIP\n  ✖ muls (3ms)\n",
        ["adds", "subs", "muls"],
        ["subs"],
        ["muls"],
    ),
    "ctest": (" 1/2 Test #1: a ....   Passed 0.1 sec\n 2/2 Test #2: b ...***Skipped 0.1\n", ["a", "b"], ["b"], []),
    "unittest, quiet": ("Ran 3 tests in 0.001s\n\nOK (skipped=1)\n", ["test"] * 3, ["test"], []),
    "pytest": ("....\n3 passed, 1 skipped in 0.10s\n", ["test"] * 4, ["test"], []),
    "pytest, most skipped": ("1 passed, 5 skipped in 0.10s\n", ["test"] * 6, ["test"] * 5, []),
    "jest": (
        "PASS t/a.test.js (5.03 s)\nPASS t/b.test.js\n\nTests:       1 skipped, 3 passed, 4 total\n",
        ["t/a.test.js", "t/b.test.js", *["test"] * 4],
        ["test"],
        [],
    ),
    "jest --verbose": (
        (
            "PASS t/a.test.js\n  calc\n    ✓ adds (39 ms)\n    ✓ case 1 2\n    ○ skipped later\n    ✎ todo one\n\n"
            "Tests:       1 skipped, 1 todo, 2 passed, 4 total\n"
        ),
        ["adds", "case 1 2", "skipped later", "todo one"],
        ["skipped later", "todo one"],
        [],
    ),
    "vitest": (
        (
            " ✓ v/a.test.mjs (3 tests | 1 skipped | 1 todo) 3ms\n ✓ v/b.test.mjs (1 test) 8ms\n"
            " \u276f v/c.test.ts (2 tests | 1 failed) 12ms\n ✓ v/d.test.ts  (1)\n\n"
            " Test Files  3 passed (3)\n      Tests  4 passed | 1 skipped | 1 todo (7)\n"
        ),
        [*["v/a.test.mjs"] * 3, "v/b.test.mjs", *["v/c.test.ts"] * 2, "v/d.test.ts"],
        ["v/a.test.mjs"] * 2,
        ["v/c.test.ts"],
    ),
    "vitest --reporter=verbose": (
        " ✓ v/a.test.mjs > calc > adds 2ms\n ↓ v/a.test.mjs > calc > later\n □ v/a.test.mjs > calc > todo one\n",
        ["v/a.test.mjs > calc > adds", "v/a.test.mjs > calc > later", "v/a.test.mjs > calc > todo one"],
        ["v/a.test.mjs > calc > later", "v/a.test.mjs > calc > todo one"],
        [],
    ),
    "old vitest": ("      Tests  3 passed | 1 skipped (4)\n", ["test"] * 4, ["test"], []),
    "gradle": (
        "> Task :test\n\nCalcTest > adds() PASSED\n\nCalcTest > later() SKIPPED\n\nCalcTest > row > [1] 1, 2 FAILED\n",
        ["CalcTest > adds()", "CalcTest > later()", "CalcTest > row > [1] 1, 2"],
        ["CalcTest > later()"],
        ["CalcTest > row > [1] 1, 2"],
    ),
    "rspec --format documentation": (
        (
            "\nCalc\n  #add\n    adds\n    is pending (PENDING: Not yet implemented)\n    fails (FAILED - 1)\n  empty\n"
            "    is expected to be empty\n\nPending: (x)\n\nFailures:\n\n  1) Calc fails\n\nFinished in 0.1 seconds\n"
            "4 examples, 1 failure, 1 pending\n"
        ),
        ["Calc #add adds", "Calc #add is pending", "Calc #add fails", "Calc empty is expected to be empty"],
        ["Calc #add is pending"],
        ["Calc #add fails"],
    ),
    "phpunit --testdox": (
        "Calc\n ✔ Adds\n ✔ Rows with data set #0\n ↩ Later\n ∅ Open\n ✘ Bad\n   │\n   │ Failed asserting.\n",
        ["Adds", "Rows with data set #0", "Later", "Open", "Bad"],
        ["Later", "Open"],
        ["Bad"],
    ),
    "phpunit --debug": (
        "Test Prepared (CalcTest::testA)\nTest Passed (CalcTest::testA)\nTest Skipped (CalcTest::testB)\n",
        ["CalcTest::testA", "CalcTest::testB"],
        ["CalcTest::testB"],
        [],
    ),
    "ctest, more": (
        (
            "1/3 Test #1: a b ...***Not Run (Disabled)   0.00 sec\n2/3 Test #2: c ..***Exception: SegFault  0.1 sec\n"
            "3/3 Test #3: d ..............................   Passed    0.00 sec\n"
        ),
        ["a b", "c", "d"],
        ["a b"],
        ["c"],
    ),
    "maven": ("[INFO] Tests run: 4, Failures: 0, Errors: 0, Skipped: 2\n", ["test"] * 4, ["test"] * 2, []),
    "rspec": ("4 examples, 0 failures, 1 pending\n", ["test"] * 4, ["test"], []),
    "phpunit": ("OK (4 tests, 9 assertions)\n", ["test"] * 4, [], []),
    "minitest": ("4 runs, 5 assertions, 0 failures, 0 errors, 1 skips\n", ["test"] * 4, ["test"], []),
    "cargo, quiet": (
        "running 3 tests\n..i\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n",
        ["test"] * 3,
        ["test"],
        [],
    ),
}


@pytest.mark.parametrize("name", PRINTED)
def test_what_runners_print_is_read(name: str) -> None:
    text, names, skipped, failed = PRINTED[name]
    report = read_console(f"\x1b[32m{text}".encode())
    assert report is not None
    assert (sorted(report.names), sorted(report.skipped), list(report.failures)) == (sorted(names), skipped, failed)
    assert read_junit(junit_of(report)) == report


def test_reports_that_a_build_leaves_are_read_and_old_ones_are_not(tmp_path: Path) -> None:
    old = tmp_path / "target/surefire-reports/TEST-old.xml"
    new = tmp_path / "sub/build/test-results/test/TEST-com.acme.ATest.xml"
    for path in (old, new):
        path.parent.mkdir(parents=True)
    old.write_bytes(SUREFIRE)
    assert not list(Written(tmp_path).__dict__["_before"])
    (tmp_path / "pom.xml").write_text("<project/>")
    written = Written(tmp_path)
    assert written.report(()) is None
    new.write_bytes(SUREFIRE)
    (new.parent / "TEST-more.xml").write_bytes(b'<testsuite><testcase name="more"/></testsuite>')
    found = written.report(())
    assert found is not None
    assert (found.tests, found.names[-1], found.skipped) == (5, "more", ("com.acme.ATest::later",))
    (new.parent / "TEST-bad.xml").write_bytes(b"<testsuite")
    assert written.report(()) is None


def test_output_without_tests_is_no_report() -> None:
    assert read_console(b"all fine\nok then\nwe ran it\n") is None
    assert read_console(b"") is None


def test_a_test_that_passed_before_and_does_not_run_now_is_lost() -> None:
    base = read_console(b"test a ... ok\ntest b ... ok\ntest c ... FAILED\ntest d ... ignored\n")
    assert base is not None
    for text, lost in (
        (b"test a ... ok\ntest b ... ok\n", None),
        (b"test a ... ok\ntest b ... ignored\ntest e ... ok\n", "1 test that passed on the base did not run: b"),
        (b"test a ... ok\ntest b ... ok\ntest b ... ignored\n", "1 test that passed on the base did not run: b"),
        (b"test e ... ok\n", "2 tests that passed on the base did not run: a, b"),
    ):
        now = read_console(text)
        assert now is not None
        assert lost_tests(now, base) == lost


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        ('<?xml version="1.0" ?>\n<coverage version="7.6" lines-valid="4" line-rate="0.75" branch-rate="0">', 75),
        ("<!DOCTYPE coverage SYSTEM 'x'><coverage line-rate='1' branch-rate='0'>", 100),
        ('<report><counter type="LINE" missed="9" covered="0"/><counter type="LINE" missed="1" covered="3"/>', 75),
        ('{"totals": {"percent_covered": 82.5}}', 82.5),
        ('{"total": {"lines": {"total": 8, "covered": 2, "pct": 25}}}', 25),
        ("TN:\nSF:a\nLF:3\nLH:3\nend_of_record\nSF:b\nLF:1\nLH:0\nend_of_record\n", 75),
        ("mode: set\nm/a.go:1.1,2.2 3 1\nm/a.go:3.1,4.2 1 0\n", 75),
        ("", None),
        ("{", None),
        ("[1]", None),
        ('{"totals": 3}', None),
        ('{"totals": {"percent_covered": 101}}', None),
        ('{"totals": {"percent_covered": NaN}}', None),
        ('<coverage line-rate="1.2.3">', None),
        ("LF:0\nLH:0\n", None),
        ("LF:1\nLH:2\n", None),
        ("mode: set\n", None),
        ("<testsuite/>", None),
        ("coverage: 90 %", None),
    ],
)
def test_the_coverage_in_a_report_is_read(text: str, percent: float | None) -> None:
    assert read_percent(text.encode()) == percent


def test_a_coverage_report_that_was_there_already_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "coverage.xml").write_text('<coverage line-rate="1">')
    files = CoverageFiles(tmp_path)
    assert files.percent(()) is None
    (tmp_path / "coverage").mkdir()
    (tmp_path / "coverage" / "lcov.info").write_text("LF:4\nLH:3\n")
    assert files.percent(()) == 75
    (tmp_path / "coverage.lcov").symlink_to("coverage/lcov.info")
    assert CoverageFiles(tmp_path).percent(()) is None
