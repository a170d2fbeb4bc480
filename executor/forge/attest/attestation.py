"""An attested landing: one in-toto statement, with equal bytes for equal facts. Pure.

The statement is stored under ``refs/attestations/<milestone>/<issue>/<revision>``: a commit on the landing, with the
files ``statement.json`` and ``statement.json.sig`` (an SSH signature, namespace `NAMESPACE`). Each statement names the
previous one on the branch, so none can be omitted or moved. `executor/forge/attest/verify_landings.py` verifies all of
it with git and ssh-keygen alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

__all__ = ["NAMESPACE", "PREDICATE", "REFS", "Approval", "CheckResult", "Facts", "digest_of", "statement"]

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
            "checks": [_check(item) for item in facts.checks],
            "agent": {"profile": facts.agent, "model": facts.model},
            "approvals": [
                {"rules": item.rules, "by": item.by, "reason": item.reason, "key": item.key} for item in facts.approvals
            ],
            "previous": facts.previous,
            "at": facts.at,
        },
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def digest_of(data: bytes) -> str:
    """Return the digest by which the next statement refers to this one."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _check(item: CheckResult) -> dict[str, object]:
    return {
        "name": item.name,
        "command": list(item.command),
        "key": item.key,
        "tool": item.tool,
        "verdict": item.verdict,
        "tree": item.tree,
    }
