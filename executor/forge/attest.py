"""Attests the landings of a run: one signed in-toto statement for each, written once, at the end of the run.

A landing is attested only while the verdicts of its checks are on record. Equal facts give equal bytes. A statement is
stored under ``refs/attestations/<milestone>/<issue>/<revision>``: a commit on the landing, with the files
``statement.json`` and ``statement.json.sig`` (an SSH signature, namespace `NAMESPACE`). Each statement names the
previous one on the branch, so none can be omitted or moved, and they are written in order.
`executor/forge/verify_landings.py` verifies all of it with git and ssh-keygen alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof
from executor.checks.verify import Candidate as Judged
from executor.engine.issue import IssueRun
from executor.errors import ExecutorError, ForgeRefusedError
from executor.errors import UnsignedError as NoSignatureError
from executor.git.command import ssh_signature
from executor.git.diff import parse_diff
from executor.git.history import landings_in
from executor.git.refs import Move
from executor.model.fingerprint import IssueRef

if TYPE_CHECKING:
    from pathlib import Path

    from executor.checks.spec import FileProof
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.remote import Remote
    from executor.git.trailers import Landing

__all__ = [
    "NAMESPACE",
    "PREDICATE",
    "REFS",
    "Approval",
    "CheckResult",
    "Facts",
    "UnsignedError",
    "attest_landings",
    "digest_of",
    "signed",
    "statement",
]

NAMESPACE = "make-for-milestones-landing"
REFS = "refs/attestations"
PREDICATE = "urn:make-for-milestones:landing:1"
_TYPE = "https://in-toto.io/Statement/v1"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A check of a landing.

    Attributes:
        name: its name; without one, its command.
        command: the executed command.
        key: key of the check: command, environment, time limit, tool.
        tool: version that its tool reports; empty if not asked.
        verdict: ``green``, ``red``, ``flaky``, ...
        tree: the tree that it ran on.
    """

    name: str
    command: tuple[str, ...]
    key: str
    tool: str
    verdict: str
    tree: str


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's approval that cleared a stop: the rules, the person, the reason, and the key of the change."""

    rules: str
    by: str
    reason: str
    key: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts in the statement of a landing.

    Attributes:
        commit: full id of the landing commit.
        tree: full id of its tree.
        milestone: milestone id.
        issue: issue id within the milestone.
        revision: revision of the landing.
        position: 0 for the first landing on the branch, counting up.
        spec_key: key of the spec.
        result_key: key of the result.
        check_key: key of the checks that proved it, or ``unproved``.
        checks: the checks, in order of execution.
        agent: name of the agent's profile.
        model: the model that it reported; empty without a report.
        approvals: approvals, oldest first.
        previous: digest of the previous statement; empty for the first one.
        at: ISO-8601 time of the landing.
    """

    commit: str
    tree: str
    milestone: str
    issue: str
    revision: int
    position: int
    spec_key: str
    result_key: str
    check_key: str
    checks: tuple[CheckResult, ...] = ()
    agent: str = ""
    model: str = ""
    approvals: tuple[Approval, ...] = ()
    previous: str = ""
    at: str = ""


def statement(facts: Facts) -> bytes:
    """The statement as canonical JSON: keys sorted, no spaces, ASCII, one newline at the end."""
    value = {
        "_type": _TYPE,
        "subject": [
            {"name": "commit", "digest": {"gitCommit": facts.commit}},
            {"name": "tree", "digest": {"gitTree": facts.tree}},
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "milestone": facts.milestone,
            "issue": facts.issue,
            "revision": facts.revision,
            "position": facts.position,
            "specKey": facts.spec_key,
            "resultKey": facts.result_key,
            "checkKey": facts.check_key,
            "checks": [asdict(item) for item in facts.checks],
            "agent": {"profile": facts.agent, "model": facts.model},
            "approvals": [asdict(item) for item in facts.approvals],
            "previous": facts.previous,
            "at": facts.at,
        },
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def digest_of(data: bytes) -> str:
    """Return the digest by which the next statement refers to this one."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


_APPROVED = re.compile(r"^Approved-By: (.+) for (\S+) on (\S+): (.*)$", re.MULTILINE)
_PROVED_WITH = re.compile(r"^Proved-With: ([0-9a-f]{40,64})$", re.MULTILINE)


class UnsignedError(ExecutorError):
    """ssh-keygen cannot sign with the declared key."""


def signed(data: bytes, key: Path) -> bytes:
    """Return an SSH signature of these bytes in the namespace of landings.

    Args:
        data: the bytes.
        key: a private key without a passphrase, or a public key whose private half an SSH agent holds.

    Raises:
        UnsignedError: ssh-keygen is missing, refuses the key, or wants a passphrase.
    """
    try:
        return ssh_signature(data, key, NAMESPACE)
    except NoSignatureError as error:
        raise UnsignedError(f"rules/landing.toml: attest_key: {error}") from error


def attest_landings(run: MilestoneRun, key: Path) -> list[str]:
    """Write the missing statements of all landings of a milestone, and push them if there is a remote.

    Args:
        run: run of the milestone.
        key: the signing key.

    Returns:
        A sentence for each landing that cannot be attested.

    Raises:
        UnsignedError: the key cannot sign.
        ForgeRefusedError: the remote does not take the statements.
    """
    if not run.view.exists:
        return []
    attester, remote = _Attester(run, key), run.session.remote
    there = attester.take_over(remote) if remote is not None else set()
    attester.write()
    missing = attester.missing(there)
    if remote is not None and missing:
        pushed = remote.push(missing)
        if not pushed.ok:
            text = f"attestations cannot be pushed to {remote.name}: {pushed.reason}"
            raise ForgeRefusedError("\n".join([*attester.problems, text]))
    return attester.problems


class _Attester:
    """Writes the missing statements of one milestone, oldest landing first."""

    def __init__(self, run: MilestoneRun, key: Path) -> None:
        self._run, self._key = run, key
        self._session = run.session
        self._prefix = f"{REFS}/{run.name}/"
        self.problems: list[str] = []

    def take_over(self, remote: Remote) -> set[str]:
        """Take over the statements that other clones have pushed; returns the names of the refs on the remote."""
        refs = self._session.refs
        there = remote.tips(f"{self._prefix}*")
        new = sorted(there.keys() - set(refs.below(self._prefix)))
        if new:
            remote.fetch(*new)
            refs.move([Move(name, None, there[name]) for name in new], "attest")
        return set(there)

    def missing(self, there: set[str]) -> list[Move]:
        """Return the refs that the remote lacks, also those of a run that died before its push."""
        refs = self._session.refs
        return [Move(name, None, refs.tip(name)) for name in refs.below(self._prefix) if name not in there]

    def write(self) -> None:
        """Write the ref of each landing that has none."""
        refs, store, name = self._session.refs, self._session.store, self._run.name
        landings = landings_in(refs.records(self._run.view.branch), name)
        have = set(refs.below(self._prefix))
        newest = max((item.position for item in landings if self._ref(item) in have), default=-1)
        previous = ""
        for landing in landings:
            ref = self._ref(landing)
            if ref in have:
                previous = digest_of(store.blob(refs.tip(ref) or "", "statement.json") or b"")
            elif landing.position < newest:
                previous = ""
            else:
                data = self._statement(landing, previous)
                previous = "" if data is None else digest_of(data)
                if data is not None:
                    self._keep(ref, landing, data)

    def _ref(self, landing: Landing) -> str:
        trailers = landing.trailers
        return f"{self._prefix}{trailers.issue}/{trailers.revision}"

    def _keep(self, ref: str, landing: Landing, data: bytes) -> None:
        store = self._session.store
        tree = store.files_tree({"statement.json": data, "statement.json.sig": signed(data, self._key)})
        message = f"Attest {self._run.name}/{landing.trailers.issue}\n"
        commit = store.commit(tree, [landing.commit], message, self._session.identity, landing.time)
        self._session.refs.move([Move(ref, None, commit)], "attest")

    def _statement(self, landing: Landing, previous: str) -> bytes | None:
        trailers = landing.trailers
        text = self._session.refs.message(landing.commit)
        shown = str(IssueRef(self._run.name, trailers.issue))
        declared = trailers.issue in {issue.id for issue in self._run.milestone.issues}
        proofs = self._session.observer.proofs(shown) if declared else None
        if proofs is None or proofs.key != trailers.check_key:
            self.problems.append(f"{shown}: not attested: it landed with checks that are no longer declared")
            return None
        proved = _PROVED_WITH.search(text)
        checks = self._checks(landing, proved[1] if proved else landing.tree)
        if checks is None:
            self.problems.append(f"{shown}: not attested: the verdicts of its checks are no longer recorded")
            return None
        state = self._run.view.states.get(trailers.issue)
        attempts = [] if state is None else list(state.attempts.values())
        worked = next((item for item in attempts if item.result_key == trailers.result_key), None)
        return statement(
            Facts(
                commit=landing.commit,
                tree=landing.tree,
                milestone=self._run.name,
                issue=trailers.issue,
                revision=trailers.revision,
                position=landing.position,
                spec_key=trailers.spec_key,
                result_key=trailers.result_key,
                check_key=trailers.check_key,
                checks=checks,
                agent=worked.agent if worked is not None else "",
                model=self._model(worked.agent) if worked is not None else "",
                approvals=tuple(
                    Approval(rules, by, why, trailers.result_key) for by, rules, _, why in _APPROVED.findall(text)
                ),
                previous=previous,
                at=datetime.fromtimestamp(landing.time, UTC).isoformat(),
            )
        )

    def _model(self, agent: str) -> str:
        profile = self._session.policy.agents.get(agent)
        return "" if profile is None else profile.model

    def _checks(self, landing: Landing, tree: str) -> tuple[CheckResult, ...] | None:
        """Return the results of all checks on the proved tree; None if one is not on record."""
        store, issue = self._session.store, IssueRun(self._run, str(IssueRef(self._run.name, landing.trailers.issue)))
        change = parse_diff(store.diff(f"{landing.commit}^", landing.commit))
        found = issue.verifier.on_record(Judged(tree, "", change))
        if not all(passed for _, passed in found):
            return None
        return tuple(CheckResult(item.name, _command(item), item.key, "", "green", tree) for item, _ in found)


def _command(item: CommandProof | FileProof) -> tuple[str, ...]:
    return item.argv if isinstance(item, CommandProof) else ("file", item.file)
