"""The stop rules that judge a change alone, applied to the change of an attempt; nothing of the change is run here.

They apply before a repair runs any code of the change, and again before its checks do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof
from executor.git.diff import parse_diff
from executor.git.trailers import ApprovedBy, one_line
from executor.model.fingerprint import cleared, consent
from executor.state.events import Stopped
from executor.stop_rules.declared.projects import parts_of_change
from executor.stop_rules.evaluate import Hit, stops_of
from executor.stop_rules.secrets import blotted, find_secrets, known_secrets
from executor.stop_rules.view import View, change_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from executor.engine.issue import IssueRun
    from executor.git.diff import Change
    from executor.git.objects import Store
    from executor.state.model import Attempt
    from executor.stop_rules.declared.projects import Part

__all__ = ["KNOWN_SECRET", "ChangeRules", "Objection", "contents_of", "identity_of"]

KNOWN_SECRET = "known-secret"  # noqa: S105  (the name of a rule)


@dataclass(frozen=True, slots=True)
class Objection:
    """Rules that block a change until a person approves exactly this change.

    Attributes:
        hits: the rules; not empty.
        bound: the identity that the approval is bound to; empty if there is none.
    """

    hits: tuple[Hit, ...]
    bound: str


class ChangeRules:
    """Applies the stop rules to the change of one issue."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def hits_of(self, attempt: Attempt, change: Change, tree: str) -> list[Hit]:
        """Return the rules that stop a change, including work without a sandbox, except those that a person cleared.

        Args:
            attempt: the attempt that made the change.
            change: the change.
            tree: its result.
        """
        return self.uncleared(
            self._all_hits(attempt, change, tree), identity_of(self._run.store, attempt, change, tree)
        )

    def allowed_rules(self) -> frozenset[str]:
        """Rules that the issue clears in advance, and rules about deceiving a command if no command runs the code."""
        allowed = frozenset(self._issue.declared.allow)
        if self._issue.proofs.run_code:
            return allowed
        return allowed | {rule.id for rule in self._session.policy.stops if rule.where_tests_judge}

    def uncleared(self, hits: Sequence[Hit], bound: str) -> list[Hit]:
        """Return hits without an approval for this change. A secret that is known by its value cannot be approved."""
        approved = self._issue.facts.approved
        return [hit for hit in hits if hit.rule == KNOWN_SECRET or not cleared(bound, (hit.rule,), approved)]

    def altered_since(self, attempt: Attempt, change: Change, tip: str, tree: str) -> tuple[list[Hit], str]:
        """Return the approved rules that apply again because the change lands in a different form on changed files.

        Args:
            attempt: the attempt with the approved change.
            change: the change as it was made.
            tip: tree to land on.
            tree: tree that would land.

        Returns:
            The rules to ask about again, and the identity that their approval is bound to.
        """
        if not self._issue.facts.approved:
            return [], ""
        was = identity_of(self._run.store, attempt, change)
        landing = parse_diff(self._session.store.diff(tip, tree))
        now = change_identity(landing, contents_of(self._run.store, tip, tree))
        if now == was:
            return [], ""
        everything = self._all_hits(attempt, change, self._session.store.tree_of(attempt.commit))
        before = {file.path: (file.old_id, file.new_id) for file in change.files}
        moved = [file.path for file in landing.files if before.get(file.path) != (file.old_id, file.new_id)]
        told = tuple(f"{path}: changed by others since it was approved of" for path in moved)
        hits = [Hit(hit.rule, hit.level, hit.reason, hit.needs, (*told, *hit.lines)) for hit in everything]
        return self.uncleared(hits, now), now

    def approvals_of(self, attempt: Attempt, change: Change) -> tuple[ApprovedBy, ...]:
        """Return who approved which rule, when and why, for the landing commit; empty without approvals."""
        bound = identity_of(self._run.store, attempt, change)
        found = self._run.view.approvals.get(self._issue.id, ())
        return tuple(
            ApprovedBy(item.who, rule, item.when, item.why)
            for item in found
            for rule in item.rules
            if consent(bound, rule) in item.tokens
        )

    def record_stop(self, hits: Sequence[Hit], *, attempt: int, bound: str) -> None:
        """Journal a stop; it is hard if one of its rules is hard."""
        level = "hard" if any(hit.level == "hard" for hit in hits) else "soft"
        telling = [hit for hit in hits if hit.level == level]
        rule = ", ".join(dict.fromkeys(hit.rule for hit in hits))
        lines = [one_line(line)[:300] for hit in telling for line in hit.lines]
        event = Stopped(
            level=level,
            rule=rule,
            reason="; ".join(one_line(hit.reason) for hit in telling)[:1000],
            needs="; ".join(dict.fromkeys(hit.needs for hit in telling if hit.needs))[:1000],
            lines=tuple(lines[:50]),
            spec_key=self._issue.spec_key,
            attempt=attempt,
            bound=bound,
        )
        self._run.record(event, self._issue.id)

    def without_secrets(self, base: str, tree: str) -> tuple[str, list[str]]:
        """Return a tree without the secret values that agents received, and the places of those values.

        A file is left out completely if its name contains a value, or if a value cannot be removed from it.
        """
        store, values = self._session.store, self._session.known_secrets
        rule = next((rule for rule in self._session.policy.stops if rule.id == KNOWN_SECRET), None)
        off = rule is None or not rule.enabled or KNOWN_SECRET in self._issue.declared.allow
        if off or not values or not tree or tree == base:
            return tree, []
        change = parse_diff(store.diff(base, tree))
        found = list(known_secrets(change.files, contents_of(self._run.store, base, tree), values))
        if not found:
            return tree, []
        names = dict.fromkeys(path for path, _, _ in found)
        contents = {path: blotted(store.blob(tree, path) or b"", values) for path in names}
        with self._run.pool.slot() as slot:
            cleaned = store.with_contents(tree, contents, slot.scratch)
            rest = known_secrets(
                parse_diff(store.diff(base, cleaned)).files, contents_of(self._run.store, base, cleaned), values
            )
            gone = dict.fromkeys((path for path, _, _ in rest), None)
            cleaned = store.with_contents(cleaned, gone, slot.scratch) if gone else cleaned
        places = [(self._session.redaction.redact_value(path), number, what) for path, number, what in found]
        return cleaned, [f"{path}:{number}: {what}" if number else f"{path}: {what}" for path, number, what in places]

    def _all_hits(self, attempt: Attempt, change: Change, tree: str) -> list[Hit]:
        issue, base = self._issue.declared, _base_of(self._run.store, attempt)
        items = self._issue.proofs.items
        paths = self._session.store.paths(base)
        content = contents_of(self._run.store, base, tree)
        found: list[Hit] = []
        for part in parts_of_change(change, self._run.project.prefix, paths, issue.files):
            view = View(
                files=(),
                content=_content_of(part, content),
                base=part.base(paths),
                commands=[item.argv for item in items if isinstance(item, CommandProof)],
                secrets=find_secrets,
                values=self._session.known_secrets,
                declared=part.declared,
                kind=issue.type,
                proved=self._session.policy.proves(issue),
            )
            hits = stops_of(part.change, self._session.policy.stops, self.allowed_rules(), view)
            found += [replace(hit, lines=tuple(part.inside(line) for line in hit.lines)) for hit in hits]
        found.sort(key=lambda hit: hit.level != "hard")
        return found + self._run.sandboxing.unsandboxed(self._issue.declared, attempt)


def _content_of(part: Part, content: Callable[[str, bool], bytes | None]) -> Callable[[str, bool], bytes | None]:
    return lambda path, new: content(part.inside(path), new)


def identity_of(store: Store, attempt: Attempt, change: Change, tree: str = "") -> str:
    """Return the identity that an approval of an attempt's change is bound to."""
    return change_identity(change, contents_of(store, _base_of(store, attempt), tree or store.tree_of(attempt.commit)))


def contents_of(store: Store, base: str, tree: str) -> Callable[[str, bool], bytes | None]:
    """Return a function that reads files before (False) and after (True) a change from one tree to another."""

    def content(path: str, new: bool) -> bytes | None:  # noqa: FBT001  (the shape of the rules)
        return store.blob(tree if new else base, path)

    return content


def _base_of(store: Store, attempt: Attempt) -> str:

    return store.tree_of(attempt.base or store.parent_of(attempt.commit))
