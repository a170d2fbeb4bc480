"""An attested landing: one in-toto statement, as bytes that are the same for the same facts. Pure.

The statement stands under ``refs/attestations/<milestone>/<issue>/<revision>``: a commit on the landing, with the files
``statement.json`` and ``statement.json.sig`` (an SSH signature, namespace `NAMESPACE`). Each statement names the one
before it on the branch, so that none can be left out or moved. `executor/forge/attest/verify_landings.py` checks all
of it with git and ssh-keygen alone.
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
    """One check of a landing.

    Attributes:
        name: its name, or its command where it has none.
        command: the words that were run.
        key: key of the check: command, environment, time limit, tool.
        tool: version of its tool, as the tool says it; empty when nobody asked.
        verdict: ``green``, ``red``, ``flaky``, ...
        tree: the tree that it looked at.
    """

    name: str
    command: tuple[str, ...]
    key: str
    tool: str
    verdict: str
    tree: str


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's approval that cleared a stop: of which rules, by whom, why, and the key of the change."""

    rules: str
    by: str
    reason: str
    key: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a statement says of one landing.

    Attributes:
        commit: full id of the landing commit.
        tree: full id of its tree.
        milestone: milestone id.
        issue: issue id within the milestone.
        revision: of the landing.
        position: 0 for the first landing on the branch, counting up.
        spec_key: what was to be built.
        result_key: what came out.
        check_key: what proved it, or ``unproved``.
        checks: the checks, in the order in which they ran.
        agent: name of the agent's profile.
        model: the model that it reported; empty when it reported none.
        approvals: oldest first.
        previous: digest of the statement before it; empty for the first one.
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
    """The digest by which the next statement names this one."""
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
