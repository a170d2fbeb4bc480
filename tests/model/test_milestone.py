"""Which names a branch may have: those that git takes."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.model.milestone import branch_problem, default_branch

BRANCH = "expected a name that git accepts for a branch, found"


@pytest.mark.parametrize(
    ("title", "branch"),
    [
        ("Worker settings", "milestone/m4-worker-settings"),
        ("Événements à Zürich", "milestone/m4-evenements-a-zurich"),
        ("C++: what's new? (v2.0)", "milestone/m4-c-what-s-new-v2-0"),
        ("  --Leading and trailing!!  ", "milestone/m4-leading-and-trailing"),
        ("日本語", "milestone/m4"),
        ("!!!", "milestone/m4"),
        ("", "milestone/m4"),
        ("a..b.lock", "milestone/m4-a-b-lock"),
        ("ﬁne ①", "milestone/m4-fine-1"),
        ("x" * 300, "milestone/m4-" + "x" * 100),
        ("y" * 99 + " z", "milestone/m4-" + "y" * 99),
    ],
)
def test_the_default_branch_is_the_id_and_a_slug_of_the_title(title: str, branch: str) -> None:
    assert default_branch("m4", title) == branch


@pytest.mark.parser
@given(st.text(max_size=300))
def test_git_takes_every_default_branch(title: str) -> None:
    assert branch_problem(default_branch("m" * 64, title)) is None


def git_takes(name: str) -> bool:
    done = subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True, check=False)
    plain = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], capture_output=True, check=False)
    return done.returncode == 0 and plain.returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "milestone/m4-x",
        "a/b/c",
        "a.b",
        "a-",
        "a@b",
        "a{b",
        "é/日本",
        "a.lock.b",
        "lock",
        "a.locked",
        "x!y",
        "a@",
        "@a",
        "a/@",
        "a'b\"c",
        "",
        "HEAD",
        "a..b",
        "a b",
        "a\tb",
        "a\x7fb",
        "a~b",
        "a^b",
        "a:b",
        "a?b",
        "a*b",
        "a[b",
        "a\\b",
        "a@{b",
        "a//b",
        "/a",
        "a/",
        ".a",
        "a/.b",
        "a.",
        "a.lock",
        "a.lock/b",
        "-a",
        "a\nb",
        "a\n",
    ],
)
def test_a_branch_is_taken_exactly_when_git_takes_it(name: str) -> None:
    assert (branch_problem(name) is None) == git_takes(name)


def test_the_branch_that_git_reads_as_head_is_refused() -> None:
    assert branch_problem("@") == f'{BRANCH} "@"'


def test_a_branch_longer_than_any_file_system_likes_is_refused() -> None:
    assert branch_problem("a" * 200) is None
    assert branch_problem("é" * 101) == f'{BRANCH} "{"é" * 57}..."'


@settings(max_examples=70, deadline=None)
@given(st.text(st.sampled_from("ab/.-@{~^:?*[\\ lock\x01\x7fé"), max_size=8) | st.text(max_size=6))
def test_git_takes_every_branch_that_is_taken_here(name: str) -> None:
    assert branch_problem(name) is not None or git_takes(name)
