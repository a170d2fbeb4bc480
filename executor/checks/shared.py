"""Verdicts shared with other clones and CI: read before a check runs, signed and written after it has passed.

Only passes are shared. A random sample of what others signed is proved again here; a signer whose verdict does not hold
is named and not believed any more.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from executor.agents.command import child_environment
from executor.checks.signed_verdict import (
    NAMESPACE,
    RefusedVerdict,
    Statement,
    StoreError,
    Wanted,
    believed,
    is_sampled,
    packed,
    payload_of,
    scopes_of,
)
from executor.checks.verdicts import Verdict
from executor.environments.environment import portable_conditions
from executor.errors import ExecutorError, StateFullError, UnsignedError
from executor.git.command import ssh_signature
from executor.process.files import read_json, write_atomic, write_json
from executor.state.issue_events import VerdictShared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor.checks.verdicts import Asked, Verdicts
    from executor.model.outward_rules import VerdictRules
    from executor.sandbox.policy import RunContext

__all__ = ["Claim", "SharedVerdicts", "VerdictStore", "refuted"]


class VerdictStore(Protocol):
    """Small files, named ``ac/`` or ``cas/`` and 64 hexadecimal digits, as in bazel-remote."""

    def get(self, name: str) -> bytes | None:
        """Return a file; None if there is none.

        Raises:
            StoreError: the store cannot be read.
        """

    def put(self, name: str, data: bytes) -> None:
        """Write a file, over one of the same name.

        Raises:
            StoreError: the store cannot be written.
        """

    def flush(self) -> None:
        """Write whatever has been collected.

        Raises:
            StoreError: the store cannot be written.
        """


@dataclass(frozen=True, slots=True)
class Claim:
    """A verdict that somebody else signed and that is believed.

    Attributes:
        name: its name in the store.
        verdict: the verdict, as it is stored here.
        again: it is in the sample that is proved again.
    """

    name: str
    verdict: Verdict
    again: bool

    def event(self, check: str, tree: str, *, ok: bool) -> VerdictShared:
        """Return the event that it was used, or proved again."""
        who, host = self.verdict.by, self.verdict.host
        outcome = "used" if not self.again else "held" if ok else "refuted"
        return VerdictShared(check=check, tree=tree, by=who, host=host, outcome=outcome)


@dataclass(slots=True)
class _Counts:
    used: int = 0
    again: int = 0
    offered: int = 0
    refused: dict[str, int] = field(default_factory=dict)


class SharedVerdicts:
    """Reads and writes shared verdicts for one clone; thread-safe. A store that fails once is left alone afterwards.

    Args:
        rules: `rules/verdicts.toml`.
        store: makes the store when it is first used.
        folder: folder of the local verdicts.
        verdicts: the verdicts and reports of this clone.
    """

    def __init__(
        self, rules: VerdictRules, store: Callable[[], VerdictStore], folder: Path, verdicts: Verdicts
    ) -> None:
        self._rules, self._make, self._folder, self._verdicts = rules, store, folder, verdicts
        self._scope, self._scopes = scopes_of(os.environ)
        self._lock = threading.Lock()
        self._store: VerdictStore | None = None
        self._problem = ""
        self._writes = bool(rules.key)
        self._counts = _Counts()

    def verdict(self, context: RunContext, asked: Asked, prove: Callable[[], Verdict]) -> Verdict:
        """Return the verdict of another clone, or prove it here and share what was proved.

        Args:
            context: the run, which records that a verdict of another clone was used or proved again.
            asked: the check and what it depends on.
            prove: runs the check.
        """
        wanted, check = _portable(context, asked), asked.item.name
        claim = self.claim(wanted)
        if claim is None:
            verdict = prove()
            self.offer(wanted, check, verdict)
            return verdict
        if not claim.again:
            verdict = replace(claim.verdict, conditions=asked.conditions)
            self._verdicts.keep(asked.seen, asked.key, verdict)
            context.record(claim.event(check, asked.seen, ok=True), asked.issue)
            return verdict
        verdict = prove()
        if not verdict.ok and verdict.ended:
            verdict = prove()  # a flaky check is no lie
        if verdict.ok or verdict.ended:
            context.record(claim.event(check, asked.seen, ok=verdict.ok), asked.issue)
        if not verdict.ok and verdict.ended:
            self.refute(claim, check, asked.seen)
            who = claim.verdict.by
            text = f"{who} signed on {claim.verdict.host} that {check} passes on {asked.seen[:10]}, and it fails here"
            context.tell("warning", context.name, f"{text}; verdicts of {who} are not believed any more")
        return verdict

    def claim(self, wanted: Wanted) -> Claim | None:
        """Return a believed verdict of another clone; None without one."""
        for scope in self._scopes:
            name = wanted.name_in(scope)
            data = self._fetch(name)
            if data is None:
                continue
            try:
                who, statement = believed(
                    data, wanted, self._scopes, self._rules.trusted, now=time.time(), days=self._rules.days
                )
                return self._claimed(name, who, statement)
            except RefusedVerdict as error:
                self._counts.refused[str(error)] = self._counts.refused.get(str(error), 0) + 1
            except StoreError as error:
                self._failed(error)
        return None

    def _claimed(self, name: str, who: str, statement: Statement) -> Claim:
        if who in refuted(self._folder):
            raise RefusedVerdict(f"{who} has signed a verdict that did not hold")
        report = ""
        if statement.report:
            data = self._fetch(f"cas/{statement.report}")
            if data is None or hashlib.sha256(data).hexdigest() != statement.report:
                raise RefusedVerdict("its report is missing or another one")
            report = self._verdicts.keep_report(data)
        verdict = Verdict(
            ok=True,
            reason="",
            detail="",
            seconds=statement.seconds,
            run=statement.run,
            report=report,
            empty=statement.empty,
            covered=statement.covered if statement.covered >= 0 else None,
            by=who,
            host=statement.host,
            at=statement.at,
        )
        again = is_sampled(self._salt(), name, self._rules.sample)
        self._counts.again += again
        self._counts.used += not again
        return Claim(name, verdict, again)

    def offer(self, wanted: Wanted, check: str, verdict: Verdict) -> None:
        """Sign and store a verdict of this clone; nothing happens without a key, or if it failed."""
        if not verdict.ok or verdict.by or not self._writes or self._problem:
            return
        statement = Statement(
            tree=wanted.tree,
            key=wanted.key,
            conditions=dict(wanted.conditions),
            scope=self._scope,
            check=check[:200],
            seconds=float(verdict.seconds),
            report=verdict.report,
            empty=verdict.empty,
            covered=-1.0 if verdict.covered is None else float(verdict.covered),
            host=verdict.host or platform.node(),
            run=verdict.run,
            at=int(time.time()),
        )
        try:
            payload = payload_of(statement)
            data = packed(payload, ssh_signature(payload, Path(self._rules.key).expanduser(), NAMESPACE))
            report = self._verdicts.report(verdict.report) if verdict.report else None
            if verdict.report and report is None:
                return
            store = self._used()
            if report is not None:
                store.put(f"cas/{verdict.report}", report)
            store.put(wanted.name_in(self._scope), data)
            self._counts.offered += 1
        except (StoreError, UnsignedError) as error:
            self._failed(error)

    def refute(self, claim: Claim, check: str, tree: str) -> None:
        """Remember that a signed verdict did not hold here: nothing of its signer is believed any more."""
        path = self._folder / "refuted" / f"{hashlib.sha256(claim.verdict.by.encode()).hexdigest()[:16]}.json"
        value = {**asdict(claim.verdict), "check": check, "tree": tree, "name": claim.name}
        with suppress(OSError, StateFullError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, value, durable=False)

    def settle(self) -> list[str]:
        """Write whatever the store has collected; returns a sentence about each problem."""
        with self._lock:
            store, self._writes = self._store, self._writes
        if store is not None and not self._problem:
            try:
                store.flush()
            except StoreError as error:
                self._failed(error)
        lines = [f"a shared verdict was refused ({count} times): {why}" for why, count in self._counts.refused.items()]
        return [*lines, *([f"shared verdicts: {self._problem}; checks run here"] if self._problem else [])]

    def _fetch(self, name: str) -> bytes | None:
        if self._problem:
            return None
        try:
            return self._used().get(name)
        except StoreError as error:
            self._failed(error)
            return None

    def _used(self) -> VerdictStore:
        with self._lock:
            if self._store is None:
                self._store = self._make()
            return self._store

    def _failed(self, error: ExecutorError) -> None:
        if isinstance(error, UnsignedError):
            self._writes = False
            self._counts.refused[f"rules/verdicts.toml: key: {error}"] = 1
        else:
            self._problem = self._problem or str(error)

    def _salt(self) -> bytes:
        path = self._folder / "salt"
        with self._lock:
            try:
                return path.read_bytes()
            except OSError:
                salt = secrets.token_bytes(32)
                with suppress(OSError, StateFullError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomic(path, salt, durable=False)
                return salt


def refuted(folder: Path) -> dict[str, Mapping[str, object]]:
    """Return the signers whose verdicts are not believed any more, each with the verdict that did not hold."""
    found = [read_json(path) for path in sorted((folder / "refuted").glob("*.json"))]
    return {str(item.get("by")): item for item in found if isinstance(item, dict)}


def _portable(context: RunContext, asked: Asked) -> Wanted:
    """Return what is asked in the form that means the same on every host."""
    if "platform" in asked.conditions:  # they are of another host, which gave them in this form
        return Wanted(asked.seen, asked.key, asked.conditions)
    project, include = context.project, context.policy.setup.include
    env = child_environment((), {}, project.repository.top)
    conditions = portable_conditions(project.repository, asked.item.argv, env, asked.conditions, include)
    return Wanted(asked.seen, asked.key, conditions)
