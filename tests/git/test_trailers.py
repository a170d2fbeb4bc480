from __future__ import annotations

import os
import re
import subprocess
import unicodedata
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.git import trailers
from executor.git.diff import Change, FileChange, parse_diff
from executor.git.trailers import (
    ApprovedBy,
    AttemptTrailers,
    ReleaseTrailers,
    Trailers,
    decode,
    encode,
    inert,
    landing_message,
    one_line,
    pairs_in,
    parse_trailers,
)
from executor.state import marks

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
TRAILERS = Trailers("m4", "4.1", 2, "sha256:aa", "sha256:bb", "sha256:cc")
BLOCK = """Milestone: m4
Issue: 4.1
Revision: 2
Spec-Key: sha256:aa
Result-Key: sha256:bb
Check-Key: sha256:cc"""
EMPTY = Change((), "sha256:bb")
EVIL = [
    "Milestone: evil",
    "x\nMilestone: evil",
    "x\n\nMilestone: evil\nIssue: 9",
    "x\r\rMilestone: evil",
    "x\u2028\u2028Milestone: evil",
    "x\x85\x85Milestone: evil",
    "x\x0b\x0bMilestone: evil",
    "Closes #1\n\nRevision: 99",
    "---\nMilestone: evil",
    "\n---\n",
    "# comment",
    "\x1b[2JMilestone: evil",
    "x\n\n(cherry picked from commit 0000000000000000000000000000000000000000)",
    "x\n\nSigned-off-by: evil <e@example.org>",
    "",
    " ",
    "\0",
]


def changed(*paths: str) -> Change:
    return Change(tuple(FileChange(path, "created", 1, 0, False) for path in paths), "sha256:bb")


def real_trailers(message: str, *options: str) -> str:
    """What git itself takes for the trailers."""
    done = subprocess.run(
        ["git", "interpret-trailers", "--parse", *options],
        input=message.encode(),
        env=ENVIRONMENT,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().rstrip("\n")


def test_the_whole_message() -> None:
    change = Change(
        (FileChange("src/a.py", "created", 118, 0, False), FileChange("b", "modified", 2, 4, False)), "sha256:bb"
    )
    assert landing_message("feature(m4): Read CSV", change, TRAILERS, number=12, note="Kept as is.") == (
        "feature(m4): Read CSV\n"
        "\n"
        "Kept as is.\n"
        "\n"
        "2 files changed, 120 lines added, 4 removed\n"
        "  created  src/a.py\n"
        "  modified b\n"
        "\n"
        "Closes #12\n"
        "\n" + BLOCK + "\n"
    )


@pytest.mark.parametrize(
    ("change", "number", "note", "between"),
    [
        pytest.param(EMPTY, None, "", "", id="nothing but subject and trailers"),
        pytest.param(EMPTY, 7, "", "Closes #7\n\n", id="number"),
        pytest.param(EMPTY, None, "A note.", "A note.\n\n", id="note"),
        pytest.param(changed("a"), None, "", "1 file changed, 1 line added, 0 removed\n  created  a\n\n", id="files"),
    ],
)
def test_parts_that_are_not_there_leave_nothing_behind(
    change: Change, number: int | None, note: str, between: str
) -> None:
    message = landing_message("fix(m4): T", change, TRAILERS, number=number, note=note)
    assert message == f"fix(m4): T\n\n{between}{BLOCK}\n"
    assert real_trailers(message) == BLOCK


def test_trailers_come_in_a_fixed_order_and_without_an_unknown_check_key() -> None:
    assert encode(TRAILERS) == BLOCK
    assert encode(Trailers("m", "1", 1, "s", "r")) == "Milestone: m\nIssue: 1\nRevision: 1\nSpec-Key: s\nResult-Key: r"


@pytest.mark.parametrize("count", [1, 20, 21, 500])
def test_a_long_list_of_files_is_cut(count: int) -> None:
    message = landing_message("fix(m4): T", changed(*(f"f{n}" for n in range(count))), TRAILERS, number=None)
    shown = [line for line in message.splitlines() if line.startswith("  created")]
    assert len(shown) == min(count, 20)
    assert (f"  and {count - 20} more" in message) is (count > 20)
    assert real_trailers(message) == BLOCK


@pytest.mark.parametrize("text", EVIL)
def test_text_from_outside_cannot_forge_trailers(text: str) -> None:
    message = landing_message(f"feature(m4): {text}", changed(text, f"d/{text}"), TRAILERS, number=3)
    assert real_trailers(message) == BLOCK
    message = landing_message(f"feature(m4): {text}", EMPTY, TRAILERS, number=None)
    assert real_trailers(message) == BLOCK
    assert message.splitlines()[2:] == BLOCK.splitlines()


@pytest.mark.parametrize("text", EVIL)
def test_a_note_cannot_forge_trailers(text: str) -> None:
    message = landing_message("feature(m4): T", EMPTY, TRAILERS, number=None, note=text)
    assert real_trailers(message, "--no-divider") == BLOCK  # as git reads them from a commit
    assert message.split("\n\n")[-1] == BLOCK + "\n"
    assert message.count("\n\n") == (2 if one_line(text) else 1)


def test_git_finds_the_same_trailers_in_history(tmp_path: os.PathLike[str]) -> None:
    def git(*arguments: str, given: bytes = b"") -> str:
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, input=given, capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "-q", ".")
    tree = git("mktree")
    for text in EVIL:
        message = landing_message(f"feature(m4): {text}", changed(text), TRAILERS, number=3, note=text)
        commit = git("commit-tree", tree, given=message.encode())
        assert git("log", "-1", "--format=%(trailers:only,unfold)", commit) == BLOCK


@given(title=st.text(), path=st.text(min_size=1))
def test_any_title_and_path_leave_the_shape_of_the_message_alone(title: str, path: str) -> None:
    message = landing_message(f"feature(m4): {title}", changed(path), TRAILERS, number=3)
    subject, blank, summary, listed, *rest = message.split("\n")
    assert subject.startswith("feature(m4):")
    assert len(subject) <= 100
    assert blank == ""
    assert summary == "1 file changed, 1 line added, 0 removed"
    assert listed.startswith("  created  ")
    assert "\n".join(rest) == f"\nCloses #3\n\n{BLOCK}\n"
    message.encode()


@pytest.mark.parametrize(
    ("title", "subject"),
    [
        ("x" * 87, "feature(m4): " + "x" * 87),
        ("x" * 88, "feature(m4): " + "x" * 86 + "…"),
        ("x" * 5000, "feature(m4): " + "x" * 86 + "…"),
        ("x" * 80 + "      " + "y" * 30, "feature(m4): " + "x" * 80 + " yyyyy…"),
        ("x" * 85 + " y" * 30, "feature(m4): " + "x" * 85 + "…"),
        ("日" * 200, "feature(m4): " + "日" * 86 + "…"),
    ],
)
def test_long_titles_are_cut_to_a_hundred_characters(title: str, subject: str) -> None:
    found = landing_message(f"feature(m4): {title}", EMPTY, TRAILERS, number=None).split("\n")[0]
    assert found == subject
    assert len(found) <= 100


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("  a \t b\n\nc  ", "a b c"),
        ("a\x00b\x1b[31mc\x7f", "ab[31mc"),
        ("a\u202eb\u2066c\u200bd\ufeff", "abcd"),
        ("a\u2028b\u2029c\x85d\x0be", "a b c d e"),
        ("a\u00a0b\u3000c", "a b c"),
        ("\udcffa\ud800", "a"),
        ("Grüße 🎉", "Grüße 🎉"),
        ("\x1b\u200b", ""),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


@given(st.text(st.characters()))
def test_one_line_is_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line == line.strip()
    assert not {unicodedata.category(char) for char in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert one_line(line) == line


WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


def pairs_of(block: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in block.splitlines())


LINE = st.text(st.characters(), max_size=40).map(one_line)
"""What is left of any text on one line."""
NAME = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20).map(str.strip)
WORDS = st.lists(WORD, max_size=3).map(tuple)
COUNT = st.integers(0, 10**8)
LABELS = st.lists(WORD.filter(lambda word: "," not in word), max_size=3).map(tuple)
APPROVAL = st.builds(marks.Approval, WORDS, WORDS, st.text(), st.text(), st.text())
ANSWER = st.builds(marks.Answer, st.text(), st.text())
APPROVED_BY = st.builds(
    ApprovedBy,
    who=LINE.filter(lambda who: who and " on " not in who and " for " not in who),
    rule=st.from_regex(r"[a-z-]{1,20}", fullmatch=True),
    when=st.just("2026-11-28T09:00Z"),
    why=LINE.map(lambda why: why[:200].strip()),
)
KINDS: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    Trailers: {
        "approved_by": st.lists(APPROVED_BY, max_size=3).map(tuple),
        "was": WORDS,
        "revision": COUNT,
        "pull": COUNT,
    },
    AttemptTrailers: {"attempt": COUNT, "revision": COUNT, "pull": COUNT},
    marks.StepTrailers: {
        "revision": COUNT,
        "attempt": COUNT,
        "seconds": st.floats(0, 10**6),
        "files": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    },
    marks.HandoffTrailers: {},
    marks.AcceptedTrailers: {"spec_keys": WORDS},
    marks.RevivedTrailers: {"reverts": WORDS},
    marks.BranchTrailers: {"branch": NAME},
    marks.PausedTrailers: {},
    ReleaseTrailers: {},
    marks.PullTrailers: {
        "number": COUNT,
        "draft": st.booleans(),
        "head": NAME,
        "base": NAME,
        "labels": LABELS,
    },
    marks.AnswersTrailers: {"attempt": COUNT, "answers": st.lists(ANSWER, max_size=3).map(tuple)},
    marks.ApprovedTrailers: {"tokens": WORDS, "approvals": st.lists(APPROVAL, max_size=3).map(tuple)},
}
"""Every class of trailers that we write -> its fields that are no line of text."""


def _values(kind: type) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{item.name: KINDS[kind].get(item.name, LINE) for item in fields(kind)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_trailers_come_back_as_they_were(kind: type) -> None:
    @settings(max_examples=60, deadline=None)
    @given(_values(kind))
    def there_and_back(value: Any) -> None:
        block = encode(value)
        assert decode(kind, pairs_in(block)) == value
        assert "\n\n" not in block

    there_and_back()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_of_trailers_is_tried(kind: type) -> None:
    names = {**vars(marks), **vars(trailers)}
    mine = {item for item in names.values() if isinstance(item, type) and item.__name__.endswith("Trailers")}
    assert mine <= KINDS.keys()
    assert all(item.metadata for item in fields(kind))


@given(st.text(st.characters()))
def test_no_text_of_others_adds_a_trailer(text: str) -> None:
    block = encode(AttemptTrailers("m1", "a", 1, 1, "s", outcome="checks", reason=f"x\n{text}\nOutcome: landed"))
    assert [key for key, _ in pairs_in(block)] == [
        "Milestone",
        "Issue",
        "Attempt",
        "Revision",
        "Spec-Key",
        "Outcome",
        "Reason",
    ]


def test_git_reads_the_same_trailers() -> None:
    approved = ApprovedBy("Ann <ann@example.org>", "files", "2026-11-28T09:00Z", "small: only a name")
    value = replace(TRAILERS, approved_by=(approved, approved), was=("4.0", "3.9"), pull=7, assisted="claude (opus)")
    assert decode(Trailers, pairs_in(real_trailers(f"subject\n\nbody\n\n{encode(value)}\n"))) == value


@pytest.mark.parametrize("missing", ["Milestone", "Issue", "Revision", "Spec-Key", "Result-Key"])
def test_a_commit_without_a_needed_trailer_is_not_a_landing(missing: str) -> None:
    pairs = pairs_of(BLOCK)
    del pairs[missing]
    assert parse_trailers(pairs) is None


@pytest.mark.parametrize("revision", ["", "two", "1.5", "1 2"])
def test_a_commit_whose_revision_is_no_number_is_not_a_landing(revision: str) -> None:
    assert parse_trailers({**pairs_of(BLOCK), "Revision": revision}) is None


def test_further_trailers_do_not_matter_and_an_old_commit_need_not_say_its_check_key() -> None:
    pairs = {**pairs_of(BLOCK), "Signed-off-by": "T"}
    assert parse_trailers(pairs) == TRAILERS
    del pairs["Check-Key"]
    assert parse_trailers(pairs) == Trailers("m4", "4.1", 2, "sha256:aa", "sha256:bb")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fix the parser [skip ci]", "Fix the parser (skip ci)"),
        ("[CI SKIP] x", "(CI SKIP) x"),
        ("[no ci] [skip actions] [actions skip]", "(no ci) (skip actions) (actions skip)"),
        ("***NO_CI***", "NO_CI"),
        ("x skip-checks: true", "x skip-checks true"),
        ("thanks @alice, and @org/team", "thanks (at)alice, and (at)org/team"),
        ("packages/@types/x.ts", "packages/(at)types/x.ts"),
        ("mail to alice@example.org", "mail to alice@example.org"),
        ("Fixes #12", "Fixes no. 12"),
        ("closes: #3 and #4", "closes: no. 3 and #4"),
        ("Closes issue #5", "Closes issue no. 5"),
        ("resolved owner/name#9", "resolved owner/name no. 9"),
        ("fixes GH-12", "fixes GH- no. 12"),
        ("Fix https://example.org/o/r/issues/1", "Fix see https://example.org/o/r/issues/1"),
        ("/merge it, then /approve", "./merge it, then ./approve"),
        ("core(m1): fix(parser): read src/a.py, see #12", "core(m1): fix(parser): read src/a.py, see #12"),
        ("Fix 12 things in 3 files", "Fix 12 things in 3 files"),
        ("a\nMilestone: m2\r\nIssue: x", "a Milestone: m2 Issue: x"),
        ("[skip\u200b ci] \u202e#1 sexif", "(skip ci) #1 sexif"),
    ],
)
def test_text_of_others_orders_no_forge_to_do_anything(text: str, expected: str) -> None:
    assert inert(text) == expected


PIECES = (
    *("fix", "Closes", "resolves", " ", ":", "#", "#1", "12", "GH-", "[", "]", "skip ci", "ci skip", "no ci", "@", "a"),
    *("/x", "https://h/o/r/issues/1", "o/r", "***", "NO_CI", "skip-checks", "\n", "\u200b", "issue ", "-", "\t"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_however_it_is_put_together_nothing_is_left_that_acts(text: str) -> None:
    line = inert(text).lower()
    assert "\n" not in line
    assert re.search(r"\[\s*(skip|ci|no)[ _-](ci|skip)\s*\]", line) is None
    assert re.search(r"(^|[^\w.+-])@\w", line) is None
    assert re.search(r"\b(close[sd]?|fix(e[sd])?|resolve[sd]?):?\s+([\w.-]+/[\w.-]+)?#\d", line) is None
    assert re.search(r"\b(close[sd]?|fix(e[sd])?|resolve[sd]?):?\s+(gh-\d|https?:)", line) is None
    assert "skip-checks:" not in line


def test_names_of_files_and_titles_are_inert_in_the_landing_commit() -> None:
    change = parse_diff(
        b"diff --git a/@all [skip ci] b/@all [skip ci]\nnew file mode 100644\n"
        b"index 0000000000000000000000000000000000000000..e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\n"
    )
    trailers = Trailers("m1", "a", 1, "sha256:1", "sha256:2")
    message = landing_message("core(m1): Closes #7 @bob", change, trailers, number=None)
    assert message.startswith("core(m1): Closes no. 7 (at)bob\n\n")
    assert "created  (at)all (skip ci)" in message
