"""A sample of the sabotage benchmark: no injected fault lands, and the right changes do."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from benchmarks.judging.faults import CLASSES, GIVEN
from benchmarks.judging.projects import LANGUAGES, project
from benchmarks.judging.sabotage import Case, cases_of, outcomes
from benchmarks.judging.stops import is_about
from executor.git.diff import parse_diff
from executor.stop_rules.commands import reached
from executor.stop_rules.content import find_secrets
from executor.stop_rules.evaluate import stops_of
from executor.stop_rules.test_evidence.test_suite import Base, put_back, suite_of
from executor.stop_rules.view import View
from tests.stop_rules.test_neighbours import RULES
from tests.stop_rules.test_stops import data, diff

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("faults", "names"),
    [(len(CLASSES), ("python",)), pytest.param(80, tuple(LANGUAGES), marks=pytest.mark.long)],
    ids=["one of each class in Python", "a hundred in all languages"],
)
def test_bad_changes_do_not_land_and_good_ones_do(tmp_path: Path, faults: int, names: tuple[str, ...]) -> None:
    languages = [LANGUAGES[name] for name in names if shutil.which(LANGUAGES[name].tool)]
    found = outcomes(cases_of(faults, 4, languages), tmp_path)
    assert {case.kind for case, _ in found} == {*CLASSES, "good"}
    assert [case for case, status in found if (status == "landed") is not (case.kind == "good")] == []


class Judge:
    """The pure parts of the judge, and each tree of a project's tests once: a hundred changes in a few seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._passed: dict[tuple[str, frozenset[tuple[str, bytes]]], bool] = {}

    def stops(self, case: Case) -> bool:
        """Whether a rule, the proof, or the tests of the base stop a change."""
        before = {path: data(text) for path, text in project(case.language, 3).items()}
        change = {path: None if text is None else data(text) for path, text in case.change().items()}
        after = {path: text for path, text in {**before, **change}.items() if text is not None}
        commands = [("sh", "-c", text) for text in (case.language.tests, case.language.proof(case.module))]
        view = View(
            files=(),
            content=lambda path, new: (after if new else before).get(path),
            base=frozenset(before),
            commands=commands,
            secrets=find_secrets,
            values={"BENCH_KEY": GIVEN},
        )
        files = parse_diff(diff(before, after))
        if stops_of(files, RULES, (), view):
            return True
        base = Base(
            view.base,
            before.get,
            lambda texts: {word: [path for path, text in before.items() if word.encode() in text] for word in texts},
        )
        found = reached(commands, base.paths, base.read)
        back = put_back(files.files, base, suite_of(base, found), found, ())
        again = {path: text for path, text in after.items() if path not in back.strict}
        again |= {path: before[path] for path in back.strict if path in before}
        return not all(self._passes(command[2], tree) for tree in (again, after) for command in commands)

    def _passes(self, command: str, tree: dict[str, bytes]) -> bool:
        key = (command, frozenset(tree.items()))
        if key not in self._passed:
            place = self._folder / str(len(self._passed))
            for path, text in tree.items():
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(text)
            done = subprocess.run(["sh", "-c", command], cwd=place, capture_output=True, check=False)
            self._passed[key] = done.returncode == 0
        return self._passed[key]


def test_a_hundred_bad_changes_are_stopped_and_good_ones_are_not(tmp_path: Path) -> None:
    cases = cases_of(100, 7, [LANGUAGES["python"]])
    judge = Judge(tmp_path)
    assert {case.kind for case in cases} == {*CLASSES, "good"}
    assert [case for case in cases if judge.stops(case) is (case.kind == "good")] == []


@pytest.mark.parametrize(
    ("ids", "subject", "path", "about"),
    [
        ((), "fix(auth): wait for the second factor", "src/a.ts", True),
        ((), "fix: wait", "src/oauth/a.ts", True),
        ((), "fix: wait", "app/billing.py", True),
        (("agent-steering",), "docs: links", "CLAUDE.md", True),
        ((), "fix: author of a book", "src/a.ts", False),
        ((), "fix: wait", "tests/auth/test_login.py", False),
        ((), "fix: wait", "docs/auth.md", False),
        (("sensitive-code",), "fix: wait", "src/a.ts", False),
    ],
)
def test_a_commit_says_itself_what_it_is_about(ids: tuple[str, ...], subject: str, path: str, *, about: bool) -> None:
    rule = next(rule for rule in RULES if rule.id == "sensitive-code")
    assert is_about(ids, subject, [path], rule) is about
