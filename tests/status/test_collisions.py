"""Which files an issue is likely to change: named in its text, twins of those, learned from commits with its words."""

from __future__ import annotations

import pytest

from executor.status.collisions import Predictor, cost, tokens

PATHS = (
    "src/app/parser.py",
    "tests/test_parser.py",
    "src/app/writer.py",
    "docs/index.md",
    "CHANGELOG.md",
    "web/list.js",
)
HISTORY = [
    ("Parser: keep comments", ["src/app/parser.py", "CHANGELOG.md"]),
    ("Faster parser for tables", ["src/app/parser.py", "tests/test_parser.py", "CHANGELOG.md"]),
    ("Write tables as CSV", ["src/app/writer.py", "CHANGELOG.md"]),
    ("Explain the options", ["docs/index.md"]),
]


def predictor(harmless: tuple[str, ...] = ()) -> Predictor:
    return Predictor(HISTORY, PATHS, harmless)


def test_words_are_parts_of_names_in_lower_case() -> None:
    assert tokens("Fix parseTable_rows in HTMLWriter for v2") == {"parse", "table", "rows", "html", "writer"}


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Change src/app/writer.py.", "src/app/writer.py"),
        ("See `writer.py`.", "src/app/writer.py"),
        ("Move app.writer apart.", "src/app/writer.py"),
        ("Comments get lost in the parser", "src/app/parser.py"),
        ("More options to explain", "docs/index.md"),
    ],
)
def test_the_likeliest_file(text: str, first: str) -> None:
    assert next(iter(predictor().files(text))) == first


def test_a_test_goes_with_its_source_file() -> None:
    found = predictor().files("Change parser.py.")
    assert found["tests/test_parser.py"] < found["src/app/parser.py"]
    assert predictor().files("Change test_parser.py.")["src/app/parser.py"] > 0


def test_files_in_which_nothing_conflicts_are_left_out() -> None:
    assert "CHANGELOG.md" in predictor().files("parser tables")
    assert "CHANGELOG.md" not in predictor(("CHANGELOG.md",)).files("parser tables")


def test_without_any_sign_nothing_is_predicted() -> None:
    assert predictor().files("zzz") == {}
    assert Predictor((), ()).files("Anything at all in a.py") == {}


def test_what_has_landed_is_learned() -> None:
    known = predictor()
    known.learn("Colours of lists", ["web/list.js"])
    assert next(iter(known.files("lists without colours"))) == "web/list.js"


def test_two_issues_cost_what_their_files_have_in_common() -> None:
    known = predictor()
    same = cost(known.files("parser comments"), known.files("a faster parser"))
    other = cost(known.files("parser comments"), known.files("explain options"))
    assert same > other == 0
