"""Names of branches, commits and pull requests: as declared, conventional by default, never too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from executor.model.milestone import (
    HEADER,
    Issue,
    branch_of,
    branch_prefixes,
    branch_problem,
    commit_token,
    described,
    header,
)

TYPES = {"docs": "docs", "config": "chore"}


def an_issue(**values: object) -> Issue:
    return Issue.model_validate({"id": "4.1", "title": "Create the settings class", "body": "x", **values})


@pytest.mark.parametrize(
    ("values", "revision", "expected"),
    [
        ({}, 1, "feat/m4-4.1-create-the-settings-class"),
        ({"number": 123}, 1, "feat/m4-123-create-the-settings-class"),
        ({"number": 11, "slug": "settings"}, 1, "feat/m4-11-settings"),
        ({"number": 15, "slug": "toml", "token": "chore(m4)"}, 1, "chore/m4-15-toml"),
        ({"slug": "Toml_2.x", "token": "fix!"}, 2, "fix/m4-4.1-Toml_2.x-r2"),
        ({"commit_type": "docs"}, 1, "docs/m4-4.1-create-the-settings-class"),
        ({"type": "docs"}, 1, "feat/m4-4.1-create-the-settings-class"),
        ({}, 2, "feat/m4-4.1-create-the-settings-class-r2"),
        ({"title": "Größe: 100 %"}, 1, "feat/m4-4.1-groe-100"),
        ({"title": "日本"}, 1, "feat/m4-4.1"),
    ],
)
def test_the_branch_is_named_as_declared(values: dict[str, object], revision: int, expected: str) -> None:
    assert branch_of(an_issue(**values), "m4", revision) == expected
    assert branch_problem(expected) is None


def test_the_prefixes_of_a_milestone_are_those_of_its_tokens() -> None:
    issues = [an_issue(**values) for values in ({}, {"token": "chore(x)"}, {"token": "fix"})]
    assert branch_prefixes(issues, "m4") == ("chore/m4-", "feat/m4-", "fix/m4-")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "feat(m4)"),
        ({"type": "core"}, "feat(m4)"),
        ({"type": "Docs"}, "docs(m4)"),
        ({"type": "config"}, "chore(m4)"),
        ({"type": "docs", "token": "feat"}, "feat(m4)"),
        ({"token": "feat(api)"}, "feat(api)"),
        ({"token": "feat!"}, "feat(m4)!"),
        ({"type": "docs", "commit_type": "perf"}, "perf(m4)"),
    ],
)
def test_the_token_is_declared_or_that_of_the_type(values: dict[str, object], expected: str) -> None:
    assert commit_token(an_issue(**values), "m4", TYPES) == expected


@pytest.mark.parametrize(
    ("title", "lower", "expected"),
    [
        ("Add the class.", False, "Add the class"),
        ("Add the class", True, "add the class"),
        ("HTTP client", True, "HTTP client"),
        ("GitHub pages", True, "GitHub pages"),
        ("A plan", True, "A plan"),
        ("...", False, "..."),
    ],
)
def test_a_description_has_no_full_stop_and_keeps_its_names(title: str, lower: bool, expected: str) -> None:
    assert described(title, lower=lower) == expected


def test_a_header_has_number_and_revision_and_the_title_is_what_is_shortened() -> None:
    assert header("feat(m4)", "Add it", number=11) == "feat(m4): Add it (#11)"
    assert header("feat(m4)", "Add it", number=11, revision=2) == "feat(m4): Add it (revision 2) (#11)"
    long = header("feat(m4)", "x" * 200, number=11)
    assert (len(long), long[-8:]) == (HEADER, "x… (#11)")


@given(st.text(min_size=1, max_size=200), st.integers(1, 10**6), st.integers(1, 9))
def test_no_header_is_too_long(title: str, number: int, revision: int) -> None:
    assert len(header("feat(m4)", title, number=number, revision=revision)) <= HEADER


@pytest.mark.parametrize(
    "values",
    [
        {"slug": "a/b"},
        {"slug": ""},
        {"slug": "a..b"},
        {"slug": "x.lock"},
        {"token": "Feat"},
        {"token": "feat(m4"},
        {"token": "feat: x"},
        {"commit_type": "feat(m4)"},
    ],
)
def test_a_faulty_name_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        an_issue(**values)
