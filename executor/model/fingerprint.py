"""Content keys: the spec, the checks, the result.

A key is ``sha256:`` and 64 hex digits over canonical JSON, so that the order of keys, comments and white space at line
ends cannot alter it. The rules are those of the table "what changed, what happens" in ARCHITECTURE.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from executor.model.milestone import Issue

__all__ = [
    "canonical_spec",
    "check_key",
    "cleared",
    "combined_key",
    "consent",
    "consents",
    "digest",
    "normal_text",
    "spec_key",
    "work_key",
]


def digest(data: bytes) -> str:
    """The key of some bytes: ``sha256:`` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def normal_text(text: str) -> str:
    """Text without what does not count: white space at line ends, line-end style, blank lines at both ends."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


class Spec(TypedDict):
    """A spec in its canonical form: the part of a declaration that says what is wanted.

    Priority, size, dependencies, agent, model and prompt wording are not part of it: they do not alter what is wanted.
    """

    type: str
    title: str
    text: str
    accept: list[dict[str, object]]
    files: list[str]
    answers: list[str]


def work_key(canonical: Mapping[str, Any]) -> str:
    """The key of the work that a spec asks an agent for: its text, its criteria in words, and answers given.

    Title, type and expected files do not alter the work, nor does one blank line more. A changed command or file of the
    acceptance is tried on the landed tree first. So an issue with another spec and the same work key is proved again if
    its checks are others, and costs an agent only if that fails.
    """
    value = {
        "text": re.sub(r"\n{3,}", "\n\n", normal_text(str(canonical.get("text", "")))),
        "claims": sorted(normal_text(str(item["text"])) for item in canonical.get("accept", ()) if "text" in item),
        "answers": list(canonical.get("answers", ())),
    }
    return digest(_canonical(value))


def canonical_spec(issue: Issue, text: str, answers: Sequence[str] = ()) -> Spec:
    """The spec of an issue with this spec text and these answers."""
    return {
        "type": issue.type,
        "title": normal_text(issue.title),
        "text": normal_text(text),
        "accept": [
            item.model_dump(mode="json", exclude_none=True, exclude={"timeout", "name", "network", "must_fail_before"})
            for item in issue.accept
        ],
        "files": sorted(set(issue.files)),
        "answers": [normal_text(answer) for answer in answers],
    }


def spec_key(canonical: Mapping[str, Any]) -> str:
    """The key of what is to be built; see `canonical_spec`."""
    return digest(_canonical(canonical))


def check_key(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float,
    prefix: Sequence[str] = (),
    version: str = "",
    around: Mapping[str, str] | None = None,
) -> str:
    """The key of one check.

    Args:
        argv: its command.
        env: the environment it is given.
        timeout: its time limit in seconds, 0 for the default one.
        prefix: words put before the command.
        version: version of its tool.
        around: every other input that decides the verdict, by name.
    """
    value = {"argv": list(argv), "env": dict(env), "timeout": timeout, "prefix": list(prefix), "version": version}
    if around:
        value["around"] = dict(around)
    return digest(_canonical(value))


def combined_key(keys: Iterable[str]) -> str:
    """One key for several, in their order; used for all checks of an issue together."""
    return digest(_canonical(list(keys)))


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()


def consent(identity: str, rule: str) -> str:
    """The key of an approval of one rule for one change, spec or gate."""
    return digest(f"{identity}\0{rule}".encode())


def consents(identity: str, rules: Iterable[str]) -> set[str]:
    """The keys of approvals of several rules."""
    return {consent(identity, rule) for rule in rules}


def cleared(identity: str, rules: Iterable[str], approved: Collection[str]) -> bool:
    """Whether a person approved of all these rules for exactly this."""
    return bool(identity) and consents(identity, rules) <= set(approved)
