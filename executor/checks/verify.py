"""Verify: checks and acceptance on one exact tree. Only their verdicts count, and only checks written by a person run.

The base is verified before an attempt is spent. A candidate is verified in the form in which it would land, and again
with the tests of the base if it changed them without permission.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from executor.checks.blindness import Blindness, kind_of, left_early
from executor.checks.console import narrowed, outcome_of
from executor.checks.junit import lost_tests, new_failures
from executor.checks.spec import CommandProof, FileProof, file_problem
from executor.model.fingerprint import combined_key
from executor.stop_rules.commands import reached
from executor.stop_rules.test_evidence.test_suite import Base, PutBack, put_back, suite_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from executor.checks.junit import Report
    from executor.checks.run import CheckRunner
    from executor.checks.spec import Proofs
    from executor.checks.verdicts import Verdict
    from executor.git.diff import Change
    from executor.git.objects import Store
    from executor.model.milestone import Issue

__all__ = ["Candidate", "Judgement", "Verifier"]

_SHELL = ("sh", "-c")
_WORD = re.compile(r"[^\s;&|()<>\"'`$]+")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The combined verdict of all checks on a tree.

    Attributes:
        ok: everything passed.
        reason: the first thing that failed, one sentence; empty when all passed.
        detail: the most useful part of its output.
        failed: name of the failed check; empty if all passed.
        tests: changed tests of the base that a person must review; the candidate has no other fault.
        failing: names of the tests that the failed check reports; empty if it reports none.
    """

    ok: bool
    reason: str = ""
    detail: str = ""
    failed: str = ""
    tests: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()

    @property
    def faults(self) -> frozenset[str]:
        """The failed check, or its failing tests, each as ``CHECK<newline>TEST``."""
        return frozenset(f"{self.failed}\n{test}" for test in self.failing) or frozenset({self.failed})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tree to judge, with its base and its change.

    Attributes:
        tree: the tree.
        base: tree that it was made from; empty without one.
        change: what it changes.
        trusted: its tests count as they are, because a person approved these changes of tests.
        asked: a person has seen changes of its tests for another reason; if those of the base fail, that person is
            asked again.
    """

    tree: str
    base: str
    change: Change
    trusted: bool = False
    asked: bool = False

    @property
    def paths(self) -> list[str]:
        """Changed paths."""
        return [file.path for file in self.change.files]


@dataclass(frozen=True, slots=True)
class Verifier:
    """Runs the checks and the acceptance of one issue.

    Attributes:
        checks: runs them.
        proofs: what to run.
        issue: the issue.
        base_logs: folder for the output of checks on the base.
        failing: name of a check -> the tests to which it is narrowed where its runner allows it.
    """

    checks: CheckRunner
    proofs: Proofs
    issue: Issue
    base_logs: Path
    failing: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def judge(self, candidate: Candidate, logs: Path, batch: Change | None = None) -> Judgement:
        """Prove a candidate for one issue; stops at the first check that fails.

        Checks that pass run again with the tests of the base on the new code. If those fail, the attempt has failed; if
        the issue permits changes of these tests, a person is asked.

        Args:
            candidate: the candidate to prove.
            logs: folder for the output of the checks.
            batch: the change of all results in the tree together. If its checks pass with the tests of the base in
                place of all changed ones, that holds for each result, and one run is enough for all of them.
        """
        first = self.first_failure(candidate, logs)
        asked = any(isinstance(item, CommandProof) for item in self.proofs.items)
        if not first.ok or candidate.trusted or not candidate.base or not asked:
            return first
        blinded = self._blinded(candidate, logs)
        if not blinded.ok:
            return blinded
        if batch is not None:
            plan, operands = self._put_back(replace(candidate, change=batch))
            if self._by_base(candidate, plan, operands, logs).ok:
                return first
        plan, operands = self._put_back(candidate)
        strict = self._by_base(candidate, plan, operands, logs)
        if strict.ok:
            return first
        declared = tuple(map(self.checks.context.project.inside, self.issue.files))
        changed = plan.tests if candidate.asked else plan.declared
        if changed:
            rest = () if candidate.asked else plan.lenient(declared)
            lenient = self._with_base(candidate, (*rest, *operands), logs / "undeclared-tests")
            if lenient.ok:
                return Judgement(
                    ok=False, reason=strict.reason, detail=strict.detail, failed=strict.failed, tests=changed
                )
            strict = lenient
        return _blamed(strict, plan.strict + operands)

    def _by_base(self, candidate: Candidate, plan: PutBack, operands: tuple[str, ...], logs: Path) -> Judgement:
        """Judge a candidate by the tests of the base, with changed helpers of tests and without, to its end."""
        paths = (*plan.strict, *operands)
        strict = self._with_base(candidate, paths, logs / "base-tests")
        if strict.ok and plan.helpers:
            strict = self._with_base(candidate, (*paths, *plan.helpers), logs / "base-helpers")
        return self._to_the_end(candidate, paths, logs / "base-tests") if strict.ok else strict

    def _to_the_end(self, candidate: Candidate, paths: tuple[str, ...], logs: Path) -> Judgement:
        """Judge whether each script of a check runs to its end."""
        store = self.checks.context.store
        with self.checks.context.pool.slot() as slot:
            tree = store.with_paths_of(candidate.tree, candidate.base, paths, slot.scratch) if paths else candidate.tree
        changed = set(candidate.paths).difference(paths)
        for item in self.proofs.items:
            if not isinstance(item, CommandProof) or not item.runs_code or self._files_for(item, candidate) is None:
                continue
            script = left_early(self.checks, item, candidate.base, tree, changed, logs / f"{item.slug}.log")
            if script:
                reason = f"{item.name}: the new code ends {script} before its last line"
                return Judgement(ok=False, reason=reason, failed=item.name)
        return Judgement(ok=True)

    def _put_back(self, candidate: Candidate) -> tuple[PutBack, tuple[str, ...]]:
        """Return which files the judgement by the base's tests restores, and those that only its commands name."""
        commands = [item.argv for item in self.proofs.items if isinstance(item, CommandProof)]
        declared = tuple(map(self.checks.context.project.inside, self.issue.files))
        store, base = self.checks.context.store, candidate.base
        tree = Base(store.paths(base), lambda path: store.blob(base, path), lambda texts: store.mentions(base, texts))
        found = reached(commands, tree.paths, tree.read)
        plan = put_back(candidate.change.files, tree, suite_of(tree, found), found, declared)
        named = plan.operands and self.red_on_base(candidate.base, accepted=True).ok
        return plan, plan.operands if named else ()

    def _with_base(self, candidate: Candidate, paths: tuple[str, ...], logs: Path) -> Judgement:
        """Judge a candidate with these paths replaced by those of the base."""
        store = self.checks.context.store
        if not paths:
            return self._all_ran(candidate.tree, candidate.base, None)
        with self.checks.context.pool.slot() as slot:
            tree = store.with_paths_of(candidate.tree, candidate.base, paths, slot.scratch)
        if tree == candidate.base:  # only tests were changed
            return Judgement(ok=True)
        if tree == candidate.tree:
            return self._all_ran(tree, candidate.base, None)
        trees = _Trees(store.paths(candidate.tree), store.paths(tree), store, tree)
        again = self.first_failure(replace(candidate, tree=tree), logs, trees=trees)
        return self._all_ran(tree, candidate.base, trees) if again.ok else again

    def _all_ran(self, tree: str, base: str, trees: _Trees | None) -> Judgement:
        """Whether each test that passed on the base ran on a tree with the same tests; by what is known of both."""
        for given in self.proofs.items:
            item = given if trees is None or isinstance(given, FileProof) else _asked_again(given, trees)
            if item is None or isinstance(item, FileProof) or isinstance(given, FileProof) or item.changed_only:
                continue
            before, now = self.checks.known_report(base, given), self.checks.known_report(tree, item)
            lost = lost_tests(now, before) if before is not None and now is not None else None
            if lost:
                return Judgement(ok=False, reason=f"{item.name}: {lost}", failed=item.name)
        return Judgement(ok=True)

    def coverage(self, tree: str) -> float | None:
        """Return the highest coverage that a check of the issue reported on a tree, in per cent; None if none did."""
        items = [item for item in self.proofs.items if isinstance(item, CommandProof)]
        known = (self.checks.known(tree, item) for item in items)
        return max((it.covered for it in known if it is not None and it.covered is not None), default=None)

    def red_on_base(self, tree: str, *, accepted: bool = False) -> Judgement:
        """Run the issue's named checks on the base before any work; `ok` if there are none.

        Args:
            tree: the base.
            accepted: also run the acceptance commands.
        """
        proofs = self.proofs.items
        items = [item for item in proofs if isinstance(item, CommandProof) and (item.named or accepted)]
        for item in items:
            if item.changed_only or item.only_new_failures:
                continue
            verdict = self.checks.verdict_on(tree, item, log=self.base_logs / f"{item.slug}.log")
            if not verdict.ok and not _has_no_tests(self.checks.report_of(verdict)):
                return Judgement(ok=False, reason=verdict.reason, detail=verdict.detail, failed=item.name)
        return Judgement(ok=True)

    def _blinded(self, candidate: Candidate, logs: Path) -> Judgement:
        """Detect a check that the change made blind; skipped for changes of product code and documentation only."""
        if not candidate.base or all(kind_of(path) in {"product", "docs"} for path in candidate.paths):
            return Judgement(ok=True)
        for item in self.proofs.items:
            if not isinstance(item, CommandProof) or not item.named:
                continue
            files = self._files_for(item, candidate)
            if files is None:
                continue
            given = files if item.changed_only else None
            sight = Blindness(self.checks).sight_of(
                candidate.tree, item, log=logs / f"{item.slug}.log", given=given, this_tree=True
            )
            if sight.state == "blind":
                reason = f"{item.name}: with this change the check is blind: {sight.reason}"
                return Judgement(ok=False, reason=reason, failed=item.name)
        return Judgement(ok=True)

    def repair(self, candidate: Candidate, logs: Path) -> str:
        """Return the candidate's tree after automatic repairs of failing checks; the same tree if nothing changed."""
        tree = candidate.tree
        for place, item in enumerate(self.proofs.items):
            if not isinstance(item, CommandProof) or not item.fix:
                continue
            files = self._files_for(item, Candidate(tree, candidate.base, candidate.change))
            if files is None:
                continue
            log = logs / f"check-{place + 1}-{item.slug}.log"
            issue = self.issue
            passed = self.checks.verdict_on(tree, item, base=candidate.base, files=files, issue=issue.id, log=log).ok
            # a command that runs elsewhere would repair files elsewhere, such as the user's
            if (
                not passed
                and Blindness(self.checks).sight_of(tree, item, log=log, given=files or None).state != "blind"
            ):
                tree = self._repaired_by(tree, item, files, issue, logs / f"fix-{place + 1}-{item.slug}.log")
        return tree

    def _repaired_by(self, tree: str, item: CommandProof, files: list[str], issue: Issue, log: Path) -> str:
        made = self.checks.result_of(tree, item, item.repair(files), declared=issue.files, log=log)
        return made.tree or tree

    def first_failure(self, candidate: Candidate, logs: Path, *, trees: _Trees | None = None) -> Judgement:
        """Return the first check that fails; with `trees`, only checks that apply to the tests of the base run."""
        issue = self.issue.id
        for place, given in enumerate(self.proofs.items):
            item = given if trees is None else _asked_again(given, trees)
            if item is None:
                continue
            if isinstance(item, FileProof):
                problem = self._file_problem(candidate.tree, item)
                if problem:
                    return Judgement(ok=False, reason=problem, failed=item.name)
                continue
            concerned = self._files_for(item, candidate)
            if concerned is None:
                continue
            log = logs / f"check-{place + 1}-{item.slug}.log"
            few = self._by_tests(candidate, item, log)
            if few is not None and few.ok:
                continue
            if few is not None:
                return few
            verdict = self.checks.verdict_on(
                candidate.tree, item, base=candidate.base, files=concerned, issue=issue, log=log
            )
            if not verdict.ok:
                failing = self._tests_in(verdict, candidate, item)
                return Judgement(
                    ok=False, reason=verdict.reason, detail=verdict.detail, failed=item.name, failing=failing
                )
        return Judgement(ok=True)

    def _by_tests(self, candidate: Candidate, item: CommandProof, log: Path) -> Judgement | None:
        """Judge by the tests to which a check is narrowed; None if only the whole check can tell."""
        tests = self.failing.get(item.name, ())
        few = narrowed(item, tests) if tests else None
        if few is None:
            return None
        where = log.with_name(f"few-{log.name}")
        verdict = self.checks.verdict_on(candidate.tree, few, issue=self.issue.id, log=where)
        outcome = outcome_of(self.checks.report_of(verdict), tests)
        if outcome is None or (outcome and self.checks.again):
            return None  # the tests passed on the same tree: only the whole check says whether it is flaky
        if outcome:
            return Judgement(ok=True)
        failing = self._tests_in(verdict, candidate, item)
        return Judgement(ok=False, reason=verdict.reason, detail=verdict.detail, failed=item.name, failing=failing)

    def _tests_in(self, verdict: Verdict, candidate: Candidate, item: CommandProof) -> tuple[str, ...]:
        """Return the failing tests of a verdict; without those that also fail on the base, if they are excused."""
        report = self.checks.report_of(verdict)
        if report is None:
            return ()
        before = self.checks.known_report(candidate.base, item) if candidate.base and item.only_new_failures else None
        return new_failures(report, before) if before is not None else (*report.failures, *report.errors)

    def on_record(self, candidate: Candidate) -> list[tuple[CommandProof | FileProof, bool]]:
        """Return each check that applies to a candidate, and whether it is on record, or evident, that it passed."""
        found: list[tuple[CommandProof | FileProof, bool]] = []
        for item in self.proofs.items:
            if isinstance(item, FileProof):
                found.append((item, not self._file_problem(candidate.tree, item)))
                continue
            files = self._files_for(item, candidate)
            if files is not None:
                verdict = self.checks.verdicts.find(candidate.tree, item.verdict_key(files))
                found.append((item, verdict is not None and verdict.ok))
        return found

    def _files_for(self, item: CommandProof, candidate: Candidate) -> list[str] | None:
        """Return the files for a check; None if it does not apply."""
        project = self.checks.context.project
        concerned = item.concerned([project.relative(path) for path in candidate.paths])
        if item.when and not concerned:
            return None
        if not item.changed_only:
            return []
        present = [
            path for path in concerned if self.checks.context.store.has_path(candidate.tree, project.inside(path))
        ]
        return present or None

    def _file_problem(self, tree: str, item: FileProof) -> str | None:
        store = self.checks.context.store
        path = self.checks.context.project.inside(item.file)
        exists = store.has_path(tree, path)
        return file_problem(item, store.blob(tree, path) if exists else None, exists=exists)


def _blamed(failed: Judgement, kept: Sequence[str]) -> Judgement:
    """Return a judgement by the tests of the base that names those that were restored."""
    if not kept:
        return failed
    names = ", ".join(kept[:3]) + (f" and {len(kept) - 3} more" if len(kept) > 3 else "")  # noqa: PLR2004
    reason = f"with the base's version of {names}: {failed.reason}; declare in `files` the tests that are to change"
    return Judgement(ok=False, reason=reason, detail=failed.detail, failed=failed.failed)


def _has_no_tests(report: Report | None) -> bool:
    """Return whether there were no tests, as at the start of a project."""
    return report is not None and report.tests == 0


@dataclass(frozen=True, slots=True)
class _Trees:
    """The files of a candidate, and of its second tree, which has the tests of the base."""

    candidate: frozenset[str]
    again: frozenset[str]
    store: Store
    tree: str

    def has_name(self, path: str, name: str) -> bool:
        """Return whether a file of the second tree has a test of that name."""
        data = self.store.blob(self.tree, path) or b""
        return re.split(r"[\[:]", name)[-1 if "[" not in name else 0].encode() in data


def _asked_again(item: CommandProof | FileProof, trees: _Trees) -> CommandProof | None:
    """Return a check in the form for the second tree; None if it does not apply there.

    Linters and commands that only look at files do not judge tests. Arguments that exist only because of the change are
    removed; without any argument left, the check does not run.
    """
    if not isinstance(item, CommandProof) or not item.runs_code:
        return None
    absent, left = _absent(item.argv, trees)
    if not absent:
        return item
    if not left:
        return None
    argv = _without(item.argv, absent)
    return replace(item, argv=argv, key=combined_key([item.key, "without", *sorted(absent)]))


def _absent(argv: Sequence[str], trees: _Trees) -> tuple[set[str], bool]:
    """Return the words that exist only in the candidate, and whether a word remains that both trees have."""
    absent: set[str] = set()
    left = False
    for text in argv[2:] if tuple(argv[:2]) == _SHELL else argv[1:]:
        for word in _WORD.findall(text):
            path, _, name = word.partition("::")
            path = path.removeprefix("./").rstrip("/")
            if not path or path.startswith(("/", "-")):
                continue
            there = _is_in(path, trees.again)
            if there and (not name or trees.has_name(path, name)):
                left = True
            elif there or _is_in(path, trees.candidate):
                absent.add(word)
    return absent, left


def _is_in(path: str, paths: Collection[str]) -> bool:
    return path in paths or any(other.startswith(f"{path}/") for other in paths)


def _without(argv: tuple[str, ...], absent: Collection[str]) -> tuple[str, ...]:
    if tuple(argv[:2]) != _SHELL:
        return tuple(word for word in argv if word not in absent)
    text = argv[2]
    for word in sorted(absent, key=len, reverse=True):
        text = re.sub(rf"(?<![^\s;&|()<>\"'`]){re.escape(word)}(?![^\s;&|()<>\"'`])", "", text)
        text = text.replace(shlex.quote(""), "") if text.count("''") else text
    return (*_SHELL, text, *argv[3:])
