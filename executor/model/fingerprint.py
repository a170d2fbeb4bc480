"""Names and content keys: the issue, the spec, the checks, the result.

A key is ``sha256:`` and 64 hex digits over canonical JSON, so it does not depend on the order of keys, comments and
white space at line ends. The rules are in the table "what changed, what happens" in ARCHITECTURE.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from executor.model.milestone import Issue

__all__ = [
    "IssueRef",
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


class IssueRef(NamedTuple):
    """The name of an issue across milestones, ``m4/4.1``. Only this class knows the slash between its parts.

    Tables, tasks and messages have it as text. An id has no slash, so the text has one meaning.
    """

    milestone: str
    issue: str

    @classmethod
    def parse(cls, text: str) -> IssueRef:
        """Return the parts of a name; without a slash, it names a milestone, and the issue is empty."""
        milestone, _, issue = text.partition("/")
        return cls(milestone, issue)

    def __str__(self) -> str:
        return f"{self.milestone}/{self.issue}"


def digest(data: bytes) -> str:
    """Return the key of some bytes: ``sha256:`` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def normal_text(text: str) -> str:
    """Normalise a text: no white space at line ends, one style of line ends, no blank lines at both ends."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


class Spec(TypedDict):
    """A spec in canonical form: the part of a declaration that defines the work.

    Priority, size, dependencies, agent, model and prompt wording are not part of it: they do not change the work.
    """

    type: str
    title: str
    text: str
    accept: list[dict[str, object]]
    files: list[str]
    answers: list[str]


def work_key(canonical: Mapping[str, Any]) -> str:
    """Return the key of the work that a spec asks of an agent: its text, its criteria in words, and answers.

    Title, type, expected files and blank lines do not change the work. A changed command or file of the acceptance is
    first tried on the landed tree. So an issue with another spec and the same work key is only proved again if its
    checks have changed, and needs an agent only if that fails.
    """
    value = {
        "text": re.sub(r"\n{3,}", "\n\n", normal_text(str(canonical.get("text", "")))),
        "claims": sorted(normal_text(str(item["text"])) for item in canonical.get("accept", ()) if "text" in item),
        "answers": list(canonical.get("answers", ())),
    }
    return digest(_canonical(value))


def canonical_spec(issue: Issue, text: str, answers: Sequence[str] = ()) -> Spec:
    """Return the canonical spec of an issue with this text and these answers."""
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
    """Return the key of a spec; see `canonical_spec`."""
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
    """Return the key of one check.

    Args:
        argv: its command.
        env: its environment variables.
        timeout: its time limit in seconds; 0 for the default.
        prefix: words before the command.
        version: version of its tool.
        around: all further inputs of the verdict, by name.
    """
    value = {"argv": list(argv), "env": dict(env), "timeout": timeout, "prefix": list(prefix), "version": version}
    if around:
        value["around"] = dict(around)
    return digest(_canonical(value))


def combined_key(keys: Iterable[str]) -> str:
    """Combine several keys, in order; used for all checks of an issue."""
    return digest(_canonical(list(keys)))


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()


def consent(identity: str, rule: str) -> str:
    """Return the key of an approval of one rule for one change, spec or gate."""
    return digest(f"{identity}\0{rule}".encode())


def consents(identity: str, rules: Iterable[str]) -> set[str]:
    """Return the keys of approvals of several rules."""
    return {consent(identity, rule) for rule in rules}


def cleared(identity: str, rules: Iterable[str], approved: Collection[str]) -> bool:
    """Return whether a person approved all these rules for exactly this identity."""
    return bool(identity) and consents(identity, rules) <= set(approved)
