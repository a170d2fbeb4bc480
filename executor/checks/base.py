"""Checks on the base before an attempt: checks must pass and look at the tree; acceptance should fail."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from executor.agents.command import child_environment
from executor.checks.blindness import Blindness, kind_of
from executor.checks.console import says_no_test
from executor.checks.spec import CommandProof, FileProof, file_problem
from executor.environments.environment import first_word
from executor.environments.making import leading_outside
from executor.git.checkout import checkouts_of
from executor.git.command import Git

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.checks.junit import Report
    from executor.checks.run import CheckRunner
    from executor.checks.spec import Proofs
    from executor.checks.verdicts import Verdict, Verdicts
    from executor.git.command import Repository

__all__ = [
    "BaseCheck",
    "BaseResult",
    "base_note",
    "base_reason",
    "base_remedy",
    "before_of",
    "beside_the_tree",
    "last_lines",
    "red_for",
]

Word = Literal["green", "red", "blind", "vacuous", "flaky", "outside"]
_SHOWN_LINES = 20  # lines; about a screen, the log has the rest
_MADE = re.compile(
    r"(?:^|/)(?:__pycache__|node_modules|\.[\w-]*cache|\.venv|venv|\.tox|\.nox|\.hypothesis|[^/]*\.egg-info|\.coverage)(?:/|$)"
    r"|^milestones/|^rules/|\.pyc$|^\.doit\.db"
)
"""Files that tools make wherever they run, and our own."""
_FILE = re.compile(r"(?!-)(?!/)[\w./-]+(?:/[\w.-]*|\.[A-Za-z]\w{0,4})(?:::\S*)?")
"""An argument of a command that names a file or folder of the tree."""
_NOT_STARTED = re.compile(r"exit 12[67]\b")
_BROKE = re.compile(
    r"\b(?:ModuleNotFoundError|ImportError|SyntaxError|IndentationError|errors? during collection|Cannot find module"
    r"|file or directory not found|could not compile|build failed|undefined reference|No such file or directory)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class BaseResult:
    """One check or acceptance command on the base.

    Attributes:
        name: name of the check, or the acceptance command.
        kind: ``check`` or ``acceptance``.
        word: ``green``; ``red``: it fails; ``blind``: it passes on a broken copy; ``vacuous``: acceptance that passes
            before any work; ``flaky``: it gave two verdicts on one tree; ``outside``: a file names the user's checkout,
            so tools would load that one.
        reason: one sentence; for red acceptance empty if an assertion fails, as expected.
        detail: the most useful part of the output.
        seconds: duration of the check.
        proof_seconds: duration of the run on a broken copy.
        holds: the issue cannot begin.
        empty: it passes, but its output reports that no test ran.
    """

    name: str
    kind: Literal["check", "acceptance"]
    word: Word
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0
    proof_seconds: float = 0.0
    holds: bool = False
    empty: bool = False


class BaseCheck:
    """Runs the checks and the acceptance of one issue on the base before any work."""

    def __init__(self, checks: CheckRunner, proofs: Proofs, logs: Path) -> None:
        self._checks = checks
        self._files = [item for item in proofs.items if isinstance(item, FileProof)]
        self._items = [item for item in proofs.items if isinstance(item, CommandProof)]
        self._logs = logs

    def results(self, tree: str, *, accepted: bool) -> Iterator[BaseResult]:
        """Yield the checks first (do they pass, do they look at the tree), then acceptance.

        Args:
            tree: the base.
            accepted: also run acceptance, as long as the issue has not landed.
        """
        yield from self._outside(tree)
        green: list[tuple[CommandProof, BaseResult]] = []
        for item in self._items:
            if item.named:
                result = self._check(tree, item)
                if result.holds:
                    yield result
                else:
                    green.append((item, result))
        for item, result in green:
            yield self._seen(tree, item, result)
        for item in self._items if accepted else ():
            if not item.named:
                yield self._accepted(tree, item)

    def accepts(self, tree: str) -> bool | None:
        """Return whether the whole acceptance holds on a tree; None if it is empty or cannot be run there."""
        store, inside = self._checks.context.store, self._checks.context.project.inside
        found: list[bool | None] = []
        for file in self._files:
            place = inside(file.file)
            there = store.has_path(tree, place)
            found.append(not file_problem(file, store.blob(tree, place) if there else None, exists=there))
        for item in self._items:
            if not item.named and False not in found:
                verdict = self._verdict(tree, item)
                found.append(None if verdict.unready and not verdict.ok else verdict.ok)
        return False if False in found else None if None in found or not found else True

    def _outside(self, tree: str) -> Iterator[BaseResult]:
        """Yield files by which a command outside the sandbox would load the user's checkout."""
        words = {first_word(item.argv) for item in self._items if not self._checks.boxed(item)}
        if not words:
            return
        repository, store = self._checks.context.project.repository, self._checks.context.store
        env = child_environment((), {}, repository.top)
        programs = [Path(found) for word in sorted(words) if (found := shutil.which(word, path=env.get("PATH", "")))]
        roots, home = checkouts_of(repository.top, repository.common_dir), Path(env.get("HOME", "/nonexistent"))
        for place, remedy in leading_outside(repository, roots, tree, programs, home, store):
            yield BaseResult(place, "check", "outside", remedy, holds=True)

    def _check(self, tree: str, item: CommandProof) -> BaseResult:
        """Run a named check; one with `changed_only` or `only_new_failures` counts as green without a run."""
        if item.changed_only or item.only_new_failures:
            return BaseResult(item.name, "check", "green")
        verdict = self._verdict(tree, item)
        report = self._checks.report_of(verdict)
        if verdict.ok or (report is not None and report.tests == 0):  # the beginning of a project
            word: Word = "flaky" if self._checks.verdicts.is_flaky(item.key) else "green"
            return BaseResult(item.name, "check", word, seconds=verdict.seconds, empty=verdict.empty)
        return BaseResult(item.name, "check", "red", verdict.reason, verdict.detail, verdict.seconds, holds=True)

    def _seen(self, tree: str, item: CommandProof, result: BaseResult) -> BaseResult:
        """Return the result; blind if the check runs none of the existing tests or passes on a broken copy."""
        if not item.needs_proof_on_base:
            return result
        if (
            result.empty
            and not item.vouched
            and any(kind_of(path) == "test" for path in self._checks.context.store.paths(tree))
        ):
            reason = "it runs no test, although the tree has some"
            return BaseResult(item.name, "check", "blind", reason, "", result.seconds, holds=True)
        sight = Blindness(self._checks).sight_of(tree, item, log=self._log(item))
        seconds = result.seconds
        if sight.state != "blind":
            return BaseResult(item.name, "check", result.word, seconds=seconds, proof_seconds=sight.seconds)
        reason = sight.reason
        if item.runner:
            reason += f" (runner {item.runner}; commands in rules/setup.toml install the tree there)"
        return BaseResult(item.name, "check", "blind", reason, "", seconds, sight.seconds, holds=True)

    def _accepted(self, tree: str, item: CommandProof) -> BaseResult:
        verdict = self._verdict(tree, item)
        name, seconds = item.name, verdict.seconds
        if not verdict.ok and verdict.unready:
            return BaseResult(name, "acceptance", "red", verdict.reason, verdict.detail, seconds, holds=True)
        if not verdict.ok:
            why = red_for(
                verdict.reason,
                verdict.detail,
                self._checks.report_of(verdict),
                is_test_run=item.proves_by_tests and not self._names_what_is_to_come(tree, item),
            )
            return BaseResult(name, "acceptance", "red", why or "", verdict.detail, seconds)
        sight = Blindness(self._checks).sight_of(tree, item, log=self._log(item)) if item.proves_by_tests else None
        if sight is not None and sight.state == "blind":
            return BaseResult(name, "acceptance", "blind", sight.reason, "", seconds, sight.seconds, holds=True)
        reason = "it passes before anything was done"
        return BaseResult(name, "acceptance", "vacuous", reason, "", seconds, holds=item.must_fail_before)

    def _names_what_is_to_come(self, tree: str, item: CommandProof) -> bool:
        """Return whether a command names a file that the tree lacks, such as a test that the issue must add."""
        store, inside = self._checks.context.store, self._checks.context.project.inside
        words = " ".join(item.argv[item.prefix :]).split()
        named = [
            word.partition("::")[0].removeprefix("./").rstrip("/")
            for word in words
            if _FILE.fullmatch(word) and "..." not in word
        ]
        return any(not store.has_path(tree, inside(name)) for name in named)

    def _verdict(self, tree: str, item: CommandProof) -> Verdict:
        return self._checks.verdict_on(tree, item, log=self._log(item))

    def _log(self, item: CommandProof) -> Path:
        return self._logs / f"{item.slug}.log"


def red_for(verdict_reason: str, detail: str, report: Report | None, *, is_test_run: bool = True) -> str | None:
    """Return why a command fails for a reason other than an assertion; None if an assertion seems to fail.

    Args:
        verdict_reason: the reason of its verdict.
        detail: the end of its output.
        report: its test report, if any.
        is_test_run: it runs existing tests; otherwise only a missing program is reported.
    """
    if _NOT_STARTED.search(verdict_reason):
        return "its program cannot be started"
    if not is_test_run:
        return None
    if report is not None and report.failures:
        return None
    if (report is not None and not report.tests and not report.errors) or says_no_test(detail):
        return "no test was collected"
    if (report is not None and report.errors) or _BROKE.search(detail):
        return "an error before the tests could run"
    return None


def before_of(verdicts: Verdicts, tree: str, item: CommandProof) -> Literal["red", "vacuous", ""]:
    """Return the verdict of an acceptance command on the attempt's base; empty if unknown."""
    known = verdicts.find(tree, item.key)
    return "" if known is None or known.unready else "vacuous" if known.ok else "red"


_PROVES_NOTHING = "it proves nothing"


def base_remedy(word: str, check: str, *, kind: str) -> str:
    """Return the remedy, as one sentence, for a check that holds an issue back on the base."""
    if word == "blind":
        where = "make it run in the tree (EXECUTOR_TREE, {tree} in its command or prefix)"
        vouch = f'vouch for it in rules/checks.toml: [check.{check}] sabotage = "off", sabotage_reason = "..."'
        return where if kind == "acceptance" else f"{where}, or {vouch}"
    if word == "outside":
        return "the next run looks again"
    if word == "vacuous":
        return "make it fail there, or take must_fail_before away"
    return "repair it there"


def base_note(branch: str, result: BaseResult) -> str | None:
    """Return a remark on acceptance that does not hold the issue back; None if it is red as expected."""
    if result.word == "vacuous":
        return base_reason(branch, result)
    if result.kind == "acceptance" and result.reason:
        return f'the acceptance "{result.name}" fails on {branch} before it tests anything: {result.reason}'
    return None


def beside_the_tree(repository: Repository, most: int = 5) -> str:
    """Describe the files of the user's checkout that a clean tree lacks, in one line; empty if there are none.

    A command that passes in the checkout and fails in a clean tree needs one of these.
    """
    extra = {"GIT_WORK_TREE": str(repository.top), "GIT_INDEX_FILE": str(repository.git_dir / "index")}
    words = ("status", "--porcelain", "-z", "--ignored=traditional", "--untracked-files=normal")
    code, found, _ = Git(repository.git_dir, repository.top).call(*words, extra=extra)
    kinds: dict[str, list[str]] = {}
    for entry in os.fsdecode(found).split("\0") if code == 0 else ():
        mark, name = entry[:2], entry[3:]
        if name and not _MADE.search(name):
            kind = {"!!": "ignored", "??": "untracked"}.get(mark, "uncommitted")
            kinds.setdefault(kind, []).append(name)
    parts = [
        f"{kind}: {', '.join(names[:most])}" + (f" and {len(names) - most} more" if len(names) > most else "")
        for kind, names in kinds.items()
    ]
    return f"(your checkout has what a clean tree lacks; {'; '.join(parts)})" if parts else ""


def last_lines(detail: str) -> str:
    """Return the end of a check's output, formatted to follow a sentence."""
    return "".join(f"\n  | {line}" for line in detail.splitlines()[-_SHOWN_LINES:])


def base_reason(branch: str, result: BaseResult) -> str:
    """Return, as one sentence, why the base holds an issue back."""
    if result.word == "outside":
        return f"{result.name} leads to your checkout, which tools would load instead of the candidate: {result.reason}"
    what = f'the {result.kind} "{result.name}"'
    if result.word == "blind":
        return f"{what} is blind: {result.reason}"
    if result.word == "vacuous":
        return f"{what} passes on {branch} before anything was done; {_PROVES_NOTHING}"
    return f"{what} fails on {branch} before anything was done: {result.reason}"
