"""What proves an issue: its named checks and its acceptance, as one list with one key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.core.declaration import FileCheck, RunCheck
from executor.core.fingerprint import check_key, combined_key, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.core.declaration import Issue
    from executor.core.policy import Check, Policy

__all__ = ["CommandProof", "FileProof", "Proofs", "file_problem", "proofs_of"]


@dataclass(frozen=True, slots=True)
class CommandProof:
    """A command that has to exit 0 in a clean checkout of the candidate tree.

    Attributes:
        name: what it is called in messages: a check's name, or the command itself for acceptance.
        argv: the command.
        env: environment it is given on top of the ordinary one.
        timeout: seconds.
        when: globs; it applies only if a changed file matches one (empty: always).
        key: its fingerprint.
        reusable: False for checks that are declared flaky.
    """

    name: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    timeout: float
    when: tuple[str, ...]
    key: str
    reusable: bool = True


@dataclass(frozen=True, slots=True)
class FileProof:
    """A file that has to exist in the candidate tree and, if `contains` is given, match that pattern."""

    name: str
    file: str
    contains: str | None
    key: str


@dataclass(frozen=True, slots=True)
class Proofs:
    """Everything that proves an issue, in the order in which it is tried; `key` is the issue's check key."""

    items: tuple[CommandProof | FileProof, ...]
    key: str


def proofs_of(issue: Issue, policy: Policy, version: Callable[[Check], str]) -> Proofs:
    """Checks of the issue's route, or its own, then its acceptance.

    Args:
        issue: the declared issue.
        policy: the rules.
        version: version of a check's tool, asked from the tool itself; empty when the check does not ask.
    """
    items: list[CommandProof | FileProof] = [
        _named(check, policy, version(check)) for check in policy.checks_for(issue)
    ]
    for item in issue.accept:
        if isinstance(item, RunCheck):
            items.append(_acceptance(item, policy))
        elif isinstance(item, FileCheck):
            key = digest(f"file\0{item.file}\0{item.contains or ''}".encode())
            items.append(FileProof(f"file {item.file}", item.file, item.contains, key))
    return Proofs(tuple(items), combined_key(_key_here(item) for item in items))


def file_problem(proof: FileProof, content: bytes | None, *, exists: bool) -> str:
    """Why a file acceptance does not hold; empty when it does."""
    if not exists:
        return f"{proof.file} does not exist in the result"
    if proof.contains is None:
        return ""
    text = (content or b"").decode("utf-8", "replace")
    if re.search(proof.contains, text, re.MULTILINE) is None:
        return f"{proof.file} does not contain {proof.contains!r}"
    return ""


def _key_here(item: CommandProof | FileProof) -> str:
    """A check's key and where it applies: a verdict does not depend on that, but what has been proved does."""
    if isinstance(item, FileProof) or not item.when:
        return item.key
    return combined_key([item.key, *item.when])


def _named(check: Check, policy: Policy, version: str) -> CommandProof:
    argv = (*check.prefix, *_argv(check.run))
    timeout = float(check.timeout or policy.limits.check_timeout_s)
    env = tuple(sorted(check.env.items()))
    key = check_key(argv, env=dict(env), timeout=float(check.timeout or 0), version=version)
    return CommandProof(check.name, argv, env, timeout, check.when, key, reusable=not check.flaky)


def _acceptance(item: RunCheck, policy: Policy) -> CommandProof:
    timeout = float(item.timeout or policy.limits.check_timeout_s)
    argv = _argv(item.run)
    key = check_key(argv, env={}, timeout=float(item.timeout or 0))
    return CommandProof(item.name or item.run, argv, (), timeout, (), key)


def _argv(run: str | tuple[str, ...]) -> tuple[str, ...]:
    return ("sh", "-c", run) if isinstance(run, str) else tuple(run)
