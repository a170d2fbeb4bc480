"""Does a check look at the tree? It is run on copies that were broken on purpose; one that still passes is blind."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from executor.checks.run import CheckRunner
from executor.checks.sabotage import sabotages
from executor.model.fingerprint import combined_key, digest
from executor.model.paths import matches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.checks.run import CheckRunner
    from executor.checks.sabotage import Sabotage
    from executor.checks.spec import CommandProof

__all__ = ["Blindness", "Sight"]

_MOST_GIVEN = 50
"""Files that a check with `changed_only` is given for the proof; a longer command line proves nothing more."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Whether a check looks at the tree.

    Attributes:
        state: ``seeing``: it failed on a broken copy; ``blind``: it passed on all of them; ``unproved``: there was
            nothing to break, or it could not be run; ``vouched``: a person vouches for it.
        reason: for a blind one, one sentence without its subject.
        seconds: how long the proof took.
    """

    state: Literal["seeing", "blind", "unproved", "vouched"]
    reason: str = ""
    seconds: float = 0.0


class Blindness:
    """Finds out whether checks look at the tree."""

    def __init__(self, checks: CheckRunner) -> None:
        self._checks = checks
        self._context = checks.context

    def sight_of(
        self,
        tree: str,
        item: CommandProof,
        *,
        log: Path,
        given: Sequence[str] | None = None,
        this_tree: bool = False,
    ) -> Sight:
        """Whether a check looks at the tree, as it is known or by running it on broken copies.

        Args:
            tree: the tree that copies are made of.
            item: the check.
            log: where its output goes.
            given: the files that it is given as arguments; None: those of the tree that it is about.
            this_tree: what is known from other trees does not count, because this one may have changed the check.
        """
        if item.vouched:
            return Sight("vouched")
        key = combined_key([item.key, digest(repr(sorted(self._checks.check_conditions(item).items())).encode())])
        known = self._known(key) if not this_tree else None
        if known is not None:
            return known
        sight = self._tried(tree, item, log, given, key)
        if sight.state != "unproved" and not this_tree:
            self._checks.verdicts.keep_proof(key, asdict(sight))
        return sight

    def _tried(self, tree: str, item: CommandProof, log: Path, given: Sequence[str] | None, key: str) -> Sight:
        sight, seconds = Sight("unproved"), 0.0
        for group in self._copies(tree, item, given):
            for copy in group:
                sight = self._on_copy(tree, item, copy, log, key)
                seconds += sight.seconds
                if sight.state != "blind":
                    break
            if sight.state == "blind":
                return Sight("blind", f"it passes although {group[0].name}, so it looks at something else", seconds)
            if sight.state == "unproved":
                break
        return replace(sight, seconds=seconds)

    def _on_copy(self, tree: str, item: CommandProof, copy: Sabotage, log: Path, key: str) -> Sight:
        """What the check says of one copy, which is asked once."""
        with self._context.pool.slot() as slot:
            broken = self._context.store.with_files(tree, copy.files, slot.scratch)
        own = combined_key([key, broken])
        sight = self._known(own)
        if sight is None:
            sight = self._asked(tree, broken, item, copy, log)
            if sight.state != "unproved":
                self._checks.verdicts.keep_proof(own, asdict(sight))
        return sight

    def _asked(self, tree: str, broken: str, item: CommandProof, copy: Sabotage, log: Path) -> Sight:
        once = replace(item, retries=0, reusable=False)
        base = tree if item.only_new_failures else ""
        name = log.with_name(f"sabotaged-{log.name}")
        verdict = self._checks.verdict_on(broken, once, base=base, files=copy.given, log=name, sabotaged=True)
        if verdict.ok:
            return Sight("blind", seconds=verdict.seconds)
        report = self._checks.report_of(verdict)
        nothing_ran = report is not None and not report.tests and not report.errors
        if nothing_ran or not verdict.ended:
            return Sight("unproved", seconds=verdict.seconds)
        return Sight("seeing", seconds=verdict.seconds)

    def _copies(self, tree: str, item: CommandProof, given: Sequence[str] | None) -> list[list[Sabotage]]:
        paths = list(self._context.store.regular_files(tree))
        about = [path for path in paths if matches(path, item.when)] if item.when else None
        if item.changed_only and given is None:
            given = (about if about is not None else paths)[:_MOST_GIVEN]
        return sabotages(
            paths,
            argv=item.argv,
            is_test_run=item.proves_by_tests,
            elsewhere=item.may_run_elsewhere,
            about=about,
            given=given if item.changed_only else None,
        )

    def _known(self, key: str) -> Sight | None:
        found = self._checks.verdicts.proof(key)
        try:
            return Sight(**found) if found is not None else None
        except TypeError:
            return None
