"""The checks that stop rules can name as `builtin`: ours, and entry points of other packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from executor.stop_rules.declared.dependencies import dependency_changes, licence_changes, tool_changes
from executor.stop_rules.declared.schema import schema_changes
from executor.stop_rules.known_secrets import known_secrets
from executor.stop_rules.module_names import shadowing_modules
from executor.stop_rules.scope import outside_scope
from executor.stop_rules.sensitive import sensitive_code
from executor.stop_rules.test_evidence.weakened_tests import weakened
from executor.stop_rules.unlookable import unlookable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.git.diff import Finding
    from executor.stop_rules.view import StopCheck, View

__all__ = [
    "GROUP",
    "asked_elsewhere",
    "known_secret",
    "schema",
    "secrets",
    "sensitive",
    "shadowing",
    "stop_checks",
    "tests_weakened",
    "unlookable_content",
]

GROUP = "make_for_milestones.stop_rules"
"""Entry points of this group are checks that stop rules can name."""


@cache
def stop_checks() -> Mapping[str, StopCheck]:
    """Every check by its name; other packages cannot replace ours.

    Raises:
        ImportError: an entry point cannot be loaded.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    others = {name: point.load() for name, point in points.items() if name not in _OURS}
    return {**others, **_OURS}


def schema(view: View) -> Iterable[Finding]:
    """Changes to the schema of a database."""
    return schema_changes(view.files, view.content, view.lists)


def sensitive(view: View) -> Iterable[Finding]:
    """Code about logins, permissions, rates and money."""
    return sensitive_code(view.files, view.content, view.lists)


def tests_weakened(view: View) -> Iterable[Finding]:
    """Tests that prove less than before."""
    return weakened(view.files, view.content)


def secrets(view: View) -> Iterable[Finding]:
    """Lines and names of files in which there is what looks like a secret."""
    lines = [(file.path, line.number, line.text) for file in view.files for line in file.lines if line.added]
    names = [(file.path, 0, file.path) for file in view.files if file.kind == "created"]
    return view.secrets([*names, *lines])


def known_secret(view: View) -> Iterable[Finding]:
    """Values of variables that agents are given."""
    return known_secrets(view.files, view.content, view.values)


def unlookable_content(view: View) -> Iterable[Finding]:
    """Content that cannot be looked at."""
    return unlookable(view.files, view.content)


def shadowing(view: View) -> Iterable[Finding]:
    """New modules that are imported in place of others."""
    return shadowing_modules(view.files, view.base, view.before)


def asked_elsewhere(_view: View) -> Iterable[Finding]:
    """For rules that do not look at the change as such: the engine asks them at their own moment."""
    return ()


_OURS: Mapping[str, StopCheck] = {
    "database-migration": schema,
    "sensitive-code": sensitive,
    "dependency-change": dependency_changes,
    "licence-change": licence_changes,
    "protected-files": tool_changes,
    "secrets": secrets,
    "known-secret": known_secret,
    "unlookable": unlookable_content,
    "tool-shadowing": shadowing,
    "tests-weakened": tests_weakened,
    "outside-scope": outside_scope,
    "tests-changed": asked_elsewhere,
    "spec-problem": asked_elsewhere,
    "new-tests": asked_elsewhere,
}
