"""The completion gate of a release: its criteria, the boxes of an epic, the final message, the tag.

Only `Gate` looks at the repository and runs checks; everything else is pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof, file_problem, release_proofs
from executor.engine.issue import IssueRun
from executor.forge.pull_request import harmless
from executor.git.trailers import ReleaseTrailers, encode, inert, one_line
from executor.model.fingerprint import IssueRef
from executor.model.milestone import header, titled
from executor.state.decide import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.checks.spec import FileProof
    from executor.engine.milestone_run import MilestoneRun
    from executor.model.milestone import Milestone

__all__ = [
    "NOT_ASKED",
    "Box",
    "Criterion",
    "Gate",
    "Met",
    "Outcome",
    "ReleaseText",
    "box_criteria",
    "boxes",
    "next_for",
    "refusal_code",
    "release_body",
    "release_message",
    "tag_object",
    "with_ticks",
]

NOT_ASKED = "checked only after every issue has landed"
"""The reason of a criterion that depends on the landing of all issues."""
_BOX = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+\[( |x|X)\]\s+(.*\S)")
_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
_NFR = re.compile(r"\bnfrs?\b|\bnon-?functional\b", re.IGNORECASE)
_BOXED = {"epic": "Acceptance of the epic", "nfr": "NFR targets"}
"""Kinds of criteria that are displayed as boxes, with their headings."""
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(.*\S)")


class Met(StrEnum):
    """The state of a criterion."""

    YES = "met"
    LACKING = "lacking"
    """A person, or more work, is needed."""
    FAILED = "failed"
    """A check of it failed."""
    WAITS = "waits"
    """Time alone decides: a forge's checks, or its merge."""
    WORDS = "words"
    """Declared in words; no command can check it, so the reader of the pull request judges."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A condition of a release.

    Attributes:
        kind: ``issues``, ``check``, ``accept``, ``epic``, ``nfr``, ``tag`` or ``merge``.
        name: its name.
        met: its state.
        reason: why not, or the evidence; one sentence.
    """

    kind: str
    name: str
    met: Met
    reason: str = ""

    @property
    def holds_back(self) -> bool:
        """Return whether it prevents the release in its current state."""
        return self.met in {Met.LACKING, Met.FAILED, Met.WAITS}


@dataclass(slots=True)
class Outcome:
    """The outcome of a release.

    Attributes:
        milestone: its id.
        code: exit code: 0 released, 1 a failure, 4 a person is needed, 75 time is needed.
        criteria: all evaluated criteria; empty if it was released before.
        done: completed actions, one sentence each.
    """

    milestone: str
    code: int = 0
    criteria: list[Criterion] = field(default_factory=list)
    done: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Box:
    """An acceptance box of an epic: its text, whether it is ticked, the heading above it and its line from 1."""

    text: str
    ticked: bool
    heading: str
    line: int


@dataclass(frozen=True, slots=True)
class ReleaseText:
    """Facts for the final message besides the criteria.

    Attributes:
        milestone: its declaration.
        tip: the released commit.
        closes: forge numbers of its issues.
    """

    milestone: Milestone
    tip: str
    closes: tuple[int, ...]


def boxes(text: str) -> list[Box]:
    """Return every box of a Markdown text that is not inside a code block."""
    found: list[Box] = []
    fence, heading = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif fence:
            continue
        elif title := _HEADING.match(line):
            heading = title[1].rstrip("# ")
        elif box := _BOX.match(line):
            found.append(Box(box[2], box[1] != " ", heading, number))
    return found


def box_criteria(found: Iterable[Box], proved: Sequence[Criterion], file: str) -> list[Criterion]:
    """Return a criterion for each box: met if a person ticked it or if an acceptance of the same name holds.

    Args:
        found: the boxes.
        proved: the criteria of the milestone's acceptance.
        file: path of the epic, for messages.
    """
    by_name = {_folded(item.name): item for item in proved}
    criteria = []
    for box in found:
        proof = by_name.get(_folded(box.text))
        name = one_line(box.text)
        kind = "nfr" if _NFR.search(box.heading) else "epic"
        if proof is not None:
            reason = "proved by the acceptance of that name" if proof.met is Met.YES else proof.reason
            criteria.append(Criterion(kind, name, proof.met, reason))
        elif box.ticked:
            criteria.append(Criterion(kind, name, Met.YES, "ticked"))
        else:
            reason = f"{file}:{box.line}: tick it, or declare an acceptance of that name"
            criteria.append(Criterion(kind, name, Met.LACKING, reason))
    return criteria


def with_ticks(text: str, met: Iterable[str]) -> str:
    """Return the text of an epic with the boxes of met criteria ticked; everything else is unchanged."""
    wanted = {_folded(name) for name in met}
    lines = text.split("\n")
    for box in boxes(text):
        if not box.ticked and _folded(box.text) in wanted:
            lines[box.line - 1] = lines[box.line - 1].replace("[ ]", "[x]", 1)
    return "\n".join(lines)


def refusal_code(criteria: Iterable[Criterion]) -> int:
    """Return the exit code for these criteria: 0 continue, 1 failed, 4 a person is needed, 75 time is needed."""
    states = {item.met for item in criteria if item.holds_back}
    if Met.FAILED in states:
        return 1
    if Met.LACKING in states:
        return 4
    return 75 if states else 0


def next_for(criteria: Iterable[Criterion], milestone: str, branch: str) -> str:
    """Return what to do about a refused release: first about an issue, else about the first criterion in the way."""
    again = f"doit release:{milestone}"
    held = [item for item in criteria if item.holds_back and item.reason != NOT_ASKED]
    first = next((item for item in held if item.kind == "issues"), held[0] if held else None)
    if first is None or first.met is Met.WAITS:
        return again
    if first.kind == "issues" and first.met is Met.FAILED and "," not in first.name:
        return f"doit log {milestone}/{first.name}, then doit retry {milestone}/{first.name}; then {again}"
    if first.kind == "issues":
        return f"doit milestone:{milestone}; then {again}"
    if first.kind in {"check", "accept"} and first.met is Met.FAILED:
        return f"make it pass on {branch}, or correct the criterion; then {again}"
    return f"{first.reason.splitlines()[0]}; then {again}" if first.reason else again


def release_message(text: ReleaseText, criteria: Sequence[Criterion]) -> str:
    """Return the message of the commit that merges a milestone into its base; its first line is a conventional one."""
    trailers = ReleaseTrailers(text.milestone.id, text.tip)
    return f"{_subject(text.milestone)}\n\n{release_body(text, criteria)}\n\n{encode(trailers)}\n"


def _subject(milestone: Milestone) -> str:
    title, token = inert(milestone.title), milestone.token or f"chore({milestone.id})"
    if milestone.pull_title is not None:
        values = {"token": token, "title": title, "milestone": milestone.id}
        return titled(inert(milestone.pull_title), values)
    return header(token, title if milestone.token else f"release {title}")


def release_body(text: ReleaseText, criteria: Sequence[Criterion]) -> str:
    """Return the body of the final pull request: summary, verification table, acceptance as boxes, issues."""
    milestone = text.milestone
    parts = [f"Completes milestone {milestone.id}: {harmless(milestone.title)}."]
    if milestone.goal:
        parts.append(harmless(milestone.goal))
    table = ["| criterion | result | shown by |", "| --- | --- | --- |"]
    table += [
        f"| {_cell(f'{item.kind}: {harmless(item.name)}')} | {item.met} | {_cell(harmless(item.reason))} |"
        for item in criteria
        if item.kind not in _BOXED
    ]
    parts.append("Verification:\n\n" + "\n".join(table))
    for kind, heading in _BOXED.items():
        ticks = [
            f"- [{'x' if item.met is Met.YES else ' '}] {harmless(item.name)}" for item in criteria if item.kind == kind
        ]
        parts += [f"{heading}:\n\n" + "\n".join(ticks)] if ticks else []
    issues = [f"- {issue.id} {harmless(issue.title)}" for issue in milestone.issues]
    parts.append("Issues:\n\n" + "\n".join(issues))
    if text.closes:
        parts.append("\n".join(f"Closes #{number}" for number in text.closes))
    return "\n\n".join(parts)


def tag_object(name: str, commit: str, tagger: str, milestone: Milestone) -> bytes:
    """Return the annotated tag in git's format; equal arguments give an equal object.

    Args:
        name: name of the tag.
        commit: full id of the release commit.
        tagger: committer line of that commit: name, address in angle brackets, seconds, zone.
        milestone: the released milestone.
    """
    text = one_line(f"{milestone.id}: {milestone.title}")
    head = f"object {commit}\ntype commit\ntag {name}\ntagger {tagger}\n"
    return f"{head}\n{text}\n\n{encode(ReleaseTrailers(milestone.id))}\n".encode()


def _folded(text: str) -> str:
    return " ".join(text.strip(" .`*_").casefold().split())


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")


@dataclass(frozen=True, slots=True)
class Gate:
    """The completion gate of one milestone: evaluates the criteria of its release."""

    run: MilestoneRun

    def criteria(self, tree: str) -> list[Criterion]:
        """Return all criteria of the final merge, cheap ones first; every failure is reported."""
        observer = self.run.session.observer
        milestone = self.run.milestone
        waiting = {
            issue.id: observer.decision(str(IssueRef(self.run.name, issue.id)))
            for issue in milestone.issues
            if observer.decision(str(IssueRef(self.run.name, issue.id))).status is not Status.LANDED
        }
        criteria = [
            Criterion(
                "issues", issue, Met.FAILED if item.status in {Status.FAILED, Status.SKIPPED} else Met.LACKING, line
            )
            for issue, item in waiting.items()
            for line in [f"{item.status}: {item.reason}"]
        ]
        if not milestone.issues:
            criteria.append(Criterion("issues", "all", Met.LACKING, "the milestone has no issues"))
        elif not waiting:
            total = len(milestone.issues)
            criteria.append(Criterion("issues", "all", Met.YES, f"{total} of {total} have landed"))
        proofs = release_proofs(milestone, self.run.session.policy, observer.tools.version)
        accept: list[Criterion] = []
        for place, item in enumerate(proofs):
            found = self._proved(tree, item, place) if not waiting else _not_asked(item)
            criteria.append(found)
            if found.kind == "accept":
                accept.append(found)
        if not waiting:
            red = {item.name for item in criteria if item.kind == "check" and item.met is Met.FAILED}
            criteria += self._issues_again(tree, red)
        criteria += [Criterion("accept", text, Met.WORDS, "in words") for text in milestone.claims]
        return [*criteria, *self._epic(accept), *self._tag_criterion()]

    def _proved(self, tree: str, item: CommandProof | FileProof, place: int) -> Criterion:
        kind = "check" if isinstance(item, CommandProof) and item.named else "accept"
        if isinstance(item, CommandProof):
            log = self.run.folder / "logs" / "release" / f"{place + 1}-{item.slug}.log"
            verdict = self.run.checks.verdict_on(tree, item, log=log)
            reason = (
                "exit 0" if verdict.ok else f"{verdict.reason}; see {log.relative_to(self.run.session.project.root)}"
            )
            return Criterion(kind, item.name, Met.YES if verdict.ok else Met.FAILED, reason)
        store = self.run.session.store
        path = self.run.project.inside(item.file)
        exists = store.has_path(tree, path)
        problem = file_problem(item, store.blob(tree, path) if exists else None, exists=exists)
        return Criterion(kind, item.name, Met.FAILED if problem else Met.YES, problem or "matches the declaration")

    def _issues_again(self, tree: str, red: set[str]) -> list[Criterion]:
        """Run checks and acceptance of every issue on the tree that the base would get.

        One failure is one criterion: issues with the same failure share it, and a check that failed for the milestone
        (`red`) is not repeated for each of them.
        """
        failed: dict[str, list[str]] = {}
        passed = True
        for issue in self.run.milestone.issues:
            result = IssueRun(self.run, str(IssueRef(self.run.name, issue.id))).verify_on(tree)
            passed = passed and result.ok
            if not result.ok and result.failed not in red:
                failed.setdefault(result.reason, []).append(issue.id)
        criteria = [Criterion("issues", ", ".join(ids), Met.FAILED, reason) for reason, ids in failed.items()]
        if passed:
            criteria.append(Criterion("issues", "proofs", Met.YES, "checks and acceptance of every issue pass"))
        return criteria

    def _epic(self, accept: list[Criterion]) -> list[Criterion]:
        epic = self.run.milestone.epic
        if epic is None:
            return []
        path = self.run.session.project.milestones / epic
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return [Criterion("epic", epic, Met.LACKING, f"cannot be read: {error.strerror}")]
        return box_criteria(boxes(text), accept, f"milestones/{epic}")

    def _tag_criterion(self) -> list[Criterion]:
        tag = self.run.milestone.tag
        if tag is None:
            return []
        there = self.run.session.refs.tip(f"refs/tags/{tag}")
        if there is None:
            return [Criterion("tag", tag, Met.YES, "is free")]
        reason = f"already names {there[:10]}; declare another tag"
        return [Criterion("tag", tag, Met.LACKING, reason)]

    def merge_criterion(self, conflicts: tuple[str, ...]) -> Criterion:
        """Return whether the milestone merges into its base without conflict."""
        base = self.run.view.base.removeprefix("refs/heads/")
        if not conflicts:
            return Criterion("merge", base, Met.YES, "merges without conflict; the checks ran on exactly that tree")
        names = ", ".join(conflicts[:5]) + (f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else "")  # noqa: PLR2004
        return Criterion(
            "merge",
            base,
            Met.LACKING,
            f"conflict in {names}; merge {base} into {self.run.milestone.branch} by hand, then release again",
        )

    def checkout_criteria(self, base_tip: str, tree: str) -> list[Criterion]:
        """Return criteria for checkouts of the base whose local changes conflict with the release."""
        found = self.run.session.checkouts
        lacking = [
            (checkout, found.in_the_way(checkout, base_tip, tree, carry=True))
            for checkout in found.of(self.run.view.base)
        ]
        return [
            Criterion("checkout", str(checkout.top), Met.LACKING, _put_aside(answer))
            for checkout, answer in lacking
            if answer
        ]


def _not_asked(item: CommandProof | FileProof) -> Criterion:
    kind = "check" if isinstance(item, CommandProof) and item.named else "accept"
    return Criterion(kind, item.name, Met.LACKING, NOT_ASKED)


def _put_aside(text: str) -> str:
    return text if "`" in text or "would be overwritten: not" in text else f"{text}; commit or stash your changes to it"
